"""Photos in, cut-outs out: with PyTorch, or with onnxruntime alone. Importing this leaves PyTorch alone."""
