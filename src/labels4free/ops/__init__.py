"""Tensor operations in plain PyTorch: no extension is compiled, any device runs them."""
