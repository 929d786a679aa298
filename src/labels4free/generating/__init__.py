"""Pictures of a generator: from seeds or latents, with mixed styles, interpolated, edited."""
