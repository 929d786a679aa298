"""Watching a training run: its log, its status, verdicts on its numbers, trackers."""
