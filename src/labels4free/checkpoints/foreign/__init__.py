"""Checkpoints of other projects: one module a format, which knows it and converts it."""
