"""Makes tokenizers.json from the conformance models: tiny vocabularies with their vectors, for a bare clone.

Vocabularies are our own (640 tokens); the ids and texts are from transformers, checked against llama.cpp where noted in
the data's README. Run: python tests/golden/make_tokenizers.py ../shared
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pyggml import gguf

MODELS = ("llama", "llama__tied", "qwen2", "gpt2")  # BPE llama-3, SentencePiece, BPE qwen2 (padded), BPE gpt-2


def metadata(path: Path) -> dict[str, Any]:
    """The tokenizer keys as JSON; scores, types and merges as they are."""
    with gguf.open(path) as file:
        found = {}
        for key in file.metadata:
            if key.startswith("tokenizer.ggml."):
                value = file.metadata[key]
                found[key] = value.tolist() if hasattr(value, "tolist") else value
        return found


def main() -> None:
    shared = Path(sys.argv[1])
    out = {}
    for name in MODELS:
        vectors = json.loads((shared / "conformance" / name / "tokenization.json").read_text(encoding="utf-8"))
        out[name] = {
            "metadata": metadata(shared / "conformance" / name / "model-f32.gguf"),
            "strings": [
                [
                    s["text"],
                    s["ids"],
                    s["ids_no_special"],
                    s["decoded"],
                    s["decoded_skip_special"],
                    s.get("llamacpp_ids"),
                ]
                for s in vectors["strings"]
            ],
            "decode_only": [[s["ids"], s["decoded"]] for s in vectors["decode_only"]],
        }
    text = json.dumps(out, separators=(",", ":"), ensure_ascii=False)
    Path(__file__).with_name("tokenizers.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
