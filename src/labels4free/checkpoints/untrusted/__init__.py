"""Untrusted files read as data: pickles, PyTorch's files, zip archives. Nothing in them is run."""
