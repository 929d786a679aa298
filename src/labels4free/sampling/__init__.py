"""Data sets of images with their masks, rendered from seeds."""
