"""The recipe that trains generators: StyleGAN2 from images."""
