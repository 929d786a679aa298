"""Metrics: pure functions that say how good masks and images are, with intervals."""
