"""Model files: our native format, readers of foreign ones, and the models that can be fetched by name."""
