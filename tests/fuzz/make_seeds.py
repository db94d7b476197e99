"""Seeds for fuzz_gguf.py: small files that together use every value type, nesting, alignment and several tensor types.

python tests/fuzz/make_seeds.py FOLDER
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from attack import build as b


def seeds() -> dict[str, bytes]:
    """Name -> file."""
    scalars = [b.pair(f"s{kind}", b.val(kind, 1)) for kind in b.FORMS]
    arrays = [b.pair(f"a{kind}", b.arr(kind, [0, 1])) for kind in b.FORMS]
    strings = [b.pair("t", b.string("text")), b.pair("u", b.arr(b.STR, ["a", b"\xff", ""]))]
    nested = struct.pack("<IQ", b.ARR, 2) + b.arr(b.U8, [1, 2])[1] + b.arr(b.STR, ["x"])[1]
    aligned = [b.pair("general.alignment", b.u32(64))]
    types = [(0, 4), (1, 8), (2, 64), (8, 32), (12, 256), (14, 256), (15, 256), (26, 3), (39, 32), (42, 64)]
    records = [b.tensor(f"t{kind}", [k, 2], kind, 1024 * i) for i, (kind, k) in enumerate(types)]
    made = {
        "empty": b.gguf(),
        "version2": b.gguf(version=2),
        "scalars": b.gguf(scalars),
        "arrays": b.gguf(arrays),
        "strings": b.gguf(strings),
        "nested": b.gguf([b.pair("n", (b.ARR, nested))]),
        "aligned": b.gguf(aligned, [b.tensor("t", [4])], bytes(16), alignment=64),
        "types": b.gguf([], records, bytes(1024 * len(types))),
        "split": b.gguf([b.pair("split.count", b.val(b.U16, 2)), b.pair("split.no", b.val(b.U16, 0))]),
        "header": b.llama()[:1400],
    }
    tiny = [b.pair(key, value) for key, value in b.LLAMA.items()]
    made["llama"] = b.gguf(tiny, [b.tensor("token_embd.weight", [32, 1])], bytes(128))
    scaling = {"llama.rope.scaling.type": b.string("yarn"), "llama.rope.scaling.factor": b.f32(4.0)}
    made["yarn"] = b.gguf(tiny + [b.pair(key, value) for key, value in scaling.items()])
    return made


def words() -> str:
    """A libFuzzer dictionary: keys, magic, type numbers."""
    tokens = [b"GGUF", *(key.encode() for key in b.LLAMA), b"general.alignment", b"split.count", b"split.no"]
    tokens += [struct.pack("<I", kind) for kind in range(43)] + [struct.pack("<Q", 2**n) for n in (0, 5, 31, 62, 63)]
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n' for token in tokens)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in seeds().items():
        (folder / name).write_bytes(raw)
    folder.with_suffix(".dict").write_text(words())
