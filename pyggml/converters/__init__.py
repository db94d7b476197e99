"""Ways in and out of GGUF: convert() reads what others publish and writes it as GGUF, and back to safetensors."""

from pyggml.converters.convert import Converted, convert

__all__ = ["Converted", "convert"]
