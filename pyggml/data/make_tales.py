"""Makes the bundled model tales.gguf from its Hugging Face directory (config.json, model.safetensors, tokenizer.json).

The model (5.8 million parameters, Llama architecture) was trained for this project on public-domain fairy tales.
Matrices become Q8_0, norms stay F32.

usage: python make_tales.py DIRECTORY [tales.gguf]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyggml

METADATA = {
    "general.description": "A small story teller, trained from scratch on public-domain fairy tales.",
    "general.license": "mit",
}

if __name__ == "__main__":
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_name("tales.gguf")
    pyggml.convert(sys.argv[1], target, dtype="q8_0", name="Tales", metadata=METADATA)
