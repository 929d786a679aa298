"""HTML pages out of files on disk: of a data set, an evaluation, the demo, a training run."""
