"""What a file is that is no GGUF, told by its first bytes, and what to do about it: the text of errors, nothing else.

Also for weight files of other formats, whose place a pointer or a web page may have taken.
"""

from __future__ import annotations

import os
import re

HEAD = 512
"""Bytes that recognise() wants to see."""

_LFS = b"version https://git-lfs.github.com/spec/"
_PAGE = re.compile(rb"\s*<(?:!doctype|html|head|\?xml)", re.I)
_CONVERT = "convert it: pyggml convert"


def not_fetched(head: bytes) -> str | None:
    """What stands in the place of a file that never arrived: a Git LFS pointer, a web page, an error as text.

    >>> not_fetched(b"version https://git-lfs.github.com/spec/v1")[:28]
    'it is a Git LFS pointer, not'
    """
    if head.startswith(_LFS):
        return "it is a Git LFS pointer, not the file: run 'git lfs pull' in its folder, or download the file itself"
    if _PAGE.match(head):
        return (
            "it is a web page (HTML), not the file: download the file itself (on huggingface.co the address has "
            "/resolve/, not /blob/)"
        )
    if head.startswith((b"Entry not found", b"Invalid username or password", b"Access to model", b'{"error"')):
        return "it is the error message of a download, not the file: download it again"
    return None


def recognise(head: bytes, path: str) -> str | None:
    """A sentence on what a file that begins so is, with the cure; None where nothing is known."""
    fetched = not_fetched(head)
    if fetched is not None:
        return fetched
    target = os.path.dirname(path) or "."
    if head[:4] == b"PK\x03\x04":
        return f"it is a zip archive, perhaps a PyTorch checkpoint (.pth); {_CONVERT} {target} model.gguf"
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return f"it is a safetensors file; {_CONVERT} {target} model.gguf"
    if head[:2] in (b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        return f"it is a pickle, perhaps a PyTorch checkpoint; {_CONVERT} {target} model.gguf"
    if head[:4] in (b"lmgg", b"tjgg", b"fmgg", b"algg", b"ggml", b"ggjt", b"ggmf"):
        return "it is a GGML file from before GGUF (2023): get the model as GGUF, or convert its checkpoint again"
    if head[:2] == b"\x1f\x8b" or head[:4] in (b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"BZh9", b"\xfd7zX"):
        return "it is a compressed file: unpack it first"
    return None


def folder_hint(path: str) -> str:
    """What to do with a folder that was given in the place of a GGUF file; "" where nothing in it helps."""
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return ""
    inside = [name for name in names if name.lower().endswith(".gguf")]
    if inside:
        return f": name the file in it, {os.path.join(path, inside[0])}"
    if "adapter_config.json" in names:
        return ": it holds a LoRA adapter; merge it into its base model, then convert that"
    if "config.json" in names or any(name.endswith((".safetensors", ".pth")) for name in names):
        return f": it holds a model in another format; {_CONVERT} {path} model.gguf"
    return ""
