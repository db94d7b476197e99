"""The tensor types of GGUF and tensors of them."""
