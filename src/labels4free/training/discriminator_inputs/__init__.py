"""Adversarial training: what recipes with a discriminator share."""
