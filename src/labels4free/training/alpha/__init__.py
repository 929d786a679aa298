"""Training an alpha network without labels: the default recipe, and the published one."""
