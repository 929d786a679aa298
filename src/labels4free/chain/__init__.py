"""From a folder of photos to a segmenter: the stages one after the other, within a budget of time."""
