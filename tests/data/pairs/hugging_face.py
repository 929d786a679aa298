"""Hugging Face's reader, offline and quiet."""

from __future__ import annotations

import os
import warnings


def load(path, out, **options):
    """``datasets.load_dataset`` of the training split, with its cache below ``out``."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the many packages behind it
        import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset(path, split="train", cache_dir=str(out / "cache"), **options)
