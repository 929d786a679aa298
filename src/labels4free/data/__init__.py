"""Images, masks and pictures on disk: each format's reader and writer together."""
