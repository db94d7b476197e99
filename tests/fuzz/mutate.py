"""Changes of a file: of any bytes, and where the format is known of the values in it, which reach behind checks."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
import zlib
from typing import Any

NUMBERS = [0, 1, 2, 3, 7, 8, 16, 63, 64, 127, 128, 255, 256, 1000, 65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31,
           (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -1, -2, -(1 << 31)]  # fmt: skip
VALUES: list[Any] = [
    *NUMBERS, None, True, False, "", "a", "a" * 5000, [], {}, [[]], [None], {"": None}, 0.5, -1e308, float("nan"),
    float("inf"), "\ud800", "\0", "../x", 10**320, [1] * 2000, {"a": {"a": {"a": {}}}},
]  # fmt: skip
TEXTS = [
    b"(a+)+$", b"(.*)*", b"[", b"]", b"{", b"}", b"{{ ", b" }}", b"{% ", b" %}", b"\\", b"\"", b"'", b"\0", b"\xff",
    b"\xef\xbb\xbf", b"*a", b"&a ", b"<<: ", b"- ", b"9" * 400, b"0x" + b"f" * 99, b"1e999", b"nan", b".", b",", b"\n",
    b" in range(99999) ", b" * 10 ** 9", b"|list", b".__class__", b"~", b"%(", b"%99999d", b"{0[0]}", b"recursive",
]  # fmt: skip
OPCODES = b"().0125:<>BCDFGIJKLMNPQRSTUVX]abcdeghijlopqrstu}" + bytes(range(0x80, 0x99))


def bytewise(data: bytes, rng: random.Random, corpus: list[bytes]) -> bytes:
    """One to a few changes of bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        way, at = rng.randrange(9), rng.randrange(len(out) + 1)
        if way == 0 and out:
            out[at - 1] ^= 1 << rng.randrange(8)
        elif way == 1 and out:
            out[at - 1] = rng.randrange(256)
        elif way == 2:
            size = rng.choice((1, 2, 4, 8))
            out[at : at + size] = (rng.choice(NUMBERS) & ((1 << 8 * size) - 1)).to_bytes(
                size, rng.choice(("little", "big"))
            )
        elif way == 3:
            del out[at : at + rng.choice((1, 2, 4, 8, 100))]
        elif way == 4:
            out[at:at] = rng.choice(TEXTS)
        elif way == 5:
            piece = out[at : at + rng.choice((1, 4, 16, 200))]
            out[at:at] = piece * rng.choice((1, 2, 10, 300))
        elif way == 6:
            other = rng.choice(corpus)
            begin = rng.randrange(len(other) + 1)
            out[at : at + rng.randrange(20)] = other[begin : begin + rng.choice((4, 16, 100))]
        elif way == 7:
            out[at:at] = bytes([rng.choice(OPCODES)]) * rng.choice((1, 1, 2, 50))
        else:
            del out[at:]
    return bytes(out[: 1 << 20])


def of_json(data: bytes, rng: random.Random) -> bytes:
    """One or two values of a JSON text changed; bytes that are no JSON come back as they are."""
    try:
        root = [json.loads(data)]
    except (ValueError, RecursionError):
        return data
    for _ in range(rng.choice((1, 1, 2))):
        place: Any = root
        key: Any = 0
        while isinstance(place[key], (list, dict)) and place[key] and rng.random() < 0.9:
            place = place[key]
            key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        way = rng.randrange(5)
        if way == 0 and place is not root:
            del place[key]
        elif way == 1 and isinstance(place, dict):
            place[rng.choice(("a", "type", "id", key + "x", "\u2581"))] = place[key]
        elif way == 2 and isinstance(place, list) and place is not root:
            place *= rng.choice((2, 3, 50))
        elif way == 3 and isinstance(place[key], str):
            text = bytewise(
                place[key].encode("utf-8", "surrogatepass"), rng, [place[key].encode("utf-8", "surrogatepass")]
            )
            place[key] = text.decode("utf-8", "replace")
        else:
            place[key] = copy.deepcopy(rng.choice(VALUES))
        if place is root and way == 0:
            break
    return json.dumps(root[0]).encode("utf-8", "surrogatepass")


def of_safetensors(data: bytes, rng: random.Random) -> bytes:
    """The table changed, its length right again."""
    size = int.from_bytes(data[:8], "little")
    if size > len(data):
        return data
    head = of_json(data[8 : 8 + size], rng)
    return len(head).to_bytes(8, "little") + head + data[8 + size :]


def of_zip(data: bytes, rng: random.Random) -> bytes:
    """An entry changed, renamed, lost or packed, in an archive that is whole again."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            entries = [(name, old.read(name)) for name in old.namelist()]
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, NotImplementedError, zlib.error, EOFError, KeyError):
        return data
    if not entries:
        return data
    at = rng.randrange(len(entries))
    name, raw = entries[at]
    way = rng.randrange(8)
    if way < 5:
        entries[at] = (name, bytewise(raw, rng, [raw]))
    elif way == 5:
        entries[at] = (rng.choice(("x", "../x", "/x", name + "x", "a/data.pkl", "a/data/0")), raw)
    elif way == 6:
        del entries[at]
    else:
        entries.append((name, raw))
    out = io.BytesIO()
    packed = zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", packed) as new:
        for name, raw in entries:
            new.writestr(name or "x", raw)
    return out.getvalue()


def of_folder(data: bytes, rng: random.Random) -> bytes:
    """The content behind the name changed, as JSON where it is."""
    name, _, content = data.partition(b"\0")
    if name.endswith(b".json") and rng.random() < 0.8:
        return name + b"\0" + of_json(content, rng)
    return name + b"\0" + bytewise(content, rng, [content])


KNOWING = {
    "safetensors": of_safetensors, "pickled": of_zip, "npz": of_zip, "vocab": of_json, "costs": of_json,
    "folder": of_folder,
}  # fmt: skip


def changed(reader: str, data: bytes, rng: random.Random, corpus: list[bytes]) -> bytes:
    """A file for a reader, changed in one way or another."""
    knowing = KNOWING.get(reader)
    if knowing is not None and rng.random() < (0.98 if reader == "folder" else 0.75):
        return knowing(data, rng)
    return bytewise(data, rng, corpus)
