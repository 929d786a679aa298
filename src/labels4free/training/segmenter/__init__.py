"""Training a segmenter for photos on pairs of an alpha network."""
