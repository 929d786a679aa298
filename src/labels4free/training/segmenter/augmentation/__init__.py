"""Augmentation of pairs: placement, light, body completion, clothes, occluders, procedural backgrounds."""
