"""The check at the end of a conversion: the file is opened again, its tensors and its tokenizer are compared with
what went in. A file that fails never reaches its name."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from pyggml import arch, gguf
from pyggml.converters.write import Made
from pyggml.errors import GGUFError, PyggmlError, UnsupportedError
from pyggml.model import load
from pyggml.tokenizer import Tokenizer, from_metadata

log = logging.getLogger("pyggml")

TEXTS = (
    "Hello, world!",
    "  The quick brown fox jumps over 13 lazy dogs.\n\n\tIt's 2026, isn't it?",
    "def f(x):\n    return x ** 2  # caf\u00e9 \u4f60\u597d \u043f\u0440\u0438\u0432\u0435\u0442 \U0001f642",
    "<|user|> a </s> b",  # special tokens swallow blanks in some tokenizers: only ids are compared
)


def tensors(path: str, made: Sequence[Made]) -> None:
    """Raises GGUFError where the written file lacks a tensor or holds it in another shape or type.

    Where the architecture can be run, the model is built over the file too: every shape is judged against the config.
    """
    with gguf.open(path) as file:
        if len(file.tensors) != len(made):
            raise GGUFError(f"the new file holds {len(file.tensors)} tensors, {len(made)} were written")
        for each in made:
            info = file.tensors.get(each.name)
            if info is None or info.shape != each.shape or info.type is not each.type:
                raise GGUFError(f"the new file does not hold {each.name} {each.shape} as {each.type}")
        runs = file.arch in arch.names() and "tokenizer.ggml.model" in file.metadata
    if runs:
        try:
            load(path, n_ctx=1).close()
        except UnsupportedError as e:
            log.warning("the new file cannot be run here: %s", e)
        except PyggmlError as e:
            raise GGUFError(f"config and weights do not fit together: {e}") from e


def tokenizer(metadata: Mapping[str, Any], folder: str) -> Tokenizer | None:
    """Builds the tokenizer from the new metadata and compares its ids with those of the model's own tokenizer.json.

    Raises GGUFError where they differ; None where there is no tokenizer.
    """
    if "tokenizer.ggml.model" not in metadata:
        return None
    try:
        built = from_metadata(metadata)
    except UnsupportedError as e:
        raise GGUFError(f"the tokenizer that came out cannot be used: {e}") from e
    theirs = _published(os.path.join(folder, "tokenizer.json"))
    for text in TEXTS:
        ids = built.encode(text, add_special=False)
        if theirs is not None:
            wanted = theirs.encode(text, add_special_tokens=False).ids
            if ids != wanted:
                raise GGUFError(
                    f"the tokenizer did not survive: {text!r} gives {ids[:12]}, the model's own gives {wanted[:12]}"
                )
        whole = built.unk_id not in ids and not any(map(built.is_special, ids))
        if built.model != "bert" and whole and text is not TEXTS[-1] and built.decode(ids) != text:
            raise GGUFError(f"the tokenizer did not survive: {text!r} comes back as {built.decode(ids)!r}")
    return built


def _published(path: str) -> Any:
    if not os.path.isfile(path):
        return None
    import tokenizers

    try:
        published = tokenizers.Tokenizer.from_file(path)
        published.no_padding()
        published.no_truncation()
        return published
    except BaseException as e:  # a Rust panic is no Exception
        if isinstance(e, Exception) or type(e).__name__ == "PanicException":
            raise GGUFError(f"{path} cannot be used by the tokenizers library: {str(e)[:200]}") from None
        raise
