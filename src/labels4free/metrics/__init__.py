"""Metrics: pure functions that say how good masks are."""
