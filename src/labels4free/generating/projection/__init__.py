"""Photos projected into a generator: the latents whose pictures come closest to them."""
