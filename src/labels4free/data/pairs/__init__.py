"""Data sets of pairs, an image with its mask: one module a format, reader and writer together."""
