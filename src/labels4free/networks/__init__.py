"""The networks that are trained: alpha network and discriminator."""
