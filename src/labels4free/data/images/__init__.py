"""Image data sets: stores of several formats, each reader and writer together, and how they are prepared."""
