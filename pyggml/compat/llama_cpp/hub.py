"""Files of models from the Hugging Face hub, through its own package."""

from __future__ import annotations

import fnmatch
import os
from typing import Any

from pyggml.errors import ArgumentError, UnsupportedError


def download(repo_id: str, filename: str | None, parameters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(path of the file, the parameters that are not the download's). filename: a name or a pattern.

    Raises UnsupportedError without huggingface_hub, ArgumentError where not one file matches.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError:
        raise UnsupportedError("Llama.from_pretrained needs huggingface-hub: pip install huggingface-hub") from None
    left = dict(parameters)
    more = left.pop("additional_files", None) or []
    left.pop("local_dir_use_symlinks", None)
    where = {name: left.pop(name) for name in ("local_dir", "cache_dir") if name in left}
    names = HfApi().list_repo_files(repo_id)
    paths = [hf_hub_download(repo_id, _only(names, each, repo_id), **where) for each in (filename or "*.gguf", *more)]
    return os.fspath(paths[0]), left


def _only(names: list[str], pattern: str, repo_id: str) -> str:
    found = [name for name in names if fnmatch.fnmatch(name, pattern)]
    if len(found) != 1:
        what = "no file" if not found else f"{len(found)} files"
        raise ArgumentError(f"{what} in {repo_id} match {pattern!r}; it has: {', '.join(found or names)[:1000]}")
    return found[0]
