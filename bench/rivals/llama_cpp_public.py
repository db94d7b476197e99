"""llama-cpp-python through `Llama.__call__`, for loading, the first token and small models; see llama_cpp_python.py."""

from __future__ import annotations

import worker
from llama_cpp_python import LlamaPublic

if __name__ == "__main__":
    worker.serve(LlamaPublic)
