"""Makes quant.json: digests of decoded bytes and llama.cpp's encodings of the rows of tests/oracle/quants.py.

    pip install gguf llama-cpp-python && PYTHONPATH=tests python tests/golden/make_quant.py

decode: sha256 of the float32 values of 64 random blocks (NaN as 0x7fc00000), by the `gguf` package, or by
tests/oracle/quants.py where the package lacks the type. bytes: sha256 of llama.cpp's blocks. error: its squared error
of each row, plain and weighted, decoded by the `gguf` package.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np
from oracle import quants

BLOCKS = 64
BYTES_EQUAL = ["f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0"]
NO_WORSE = [
    *("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs"),
    *("mxfp4", "nvfp4", "tq1_0", "tq2_0", "q1_0", "q2_0"),
    *("iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq1_s", "iq1_m"),
]
# Sizes the package does not know, or counts otherwise.
EXTRA = {"q8_1": (32, 36), "q2_0": (64, 18), "q1_0": (128, 18), "nvfp4": (64, 36)}
EXTRA_IDS = {"nvfp4": 40, "q1_0": 41, "q2_0": 42}


def digest(y: np.ndarray) -> str:
    """Of a float32 array, all NaN alike."""
    bits = y.view(np.uint32).copy()
    bits[np.isnan(y)] = 0x7FC00000
    return hashlib.sha256(bits.tobytes()).hexdigest()


def main() -> None:
    lib = quants.ggml()
    assert lib is not None, "pip install llama-cpp-python"
    sizes = {kind.name.lower(): size for kind, size in gguf.GGML_QUANT_SIZES.items()} | EXTRA
    ids = {kind.name.lower(): int(kind) for kind in gguf.GGMLQuantizationType} | EXTRA_IDS
    decode = {
        name: digest(quants.decode(name, quants.noise(7, BLOCKS * nbytes).reshape(BLOCKS, nbytes)))
        for name, (_, nbytes) in sorted(sizes.items())
    }
    rows, importance = quants.sample_rows(), quants.sample_importance()
    encoded: dict[str, dict[str, str]] = {name: {} for name in BYTES_EQUAL}
    errors: dict[str, dict[str, dict[str, list[float]]]] = {name: {} for name in NO_WORSE}
    for case, x in rows.items():
        for name in BYTES_EQUAL:
            raw = quants.ggml_quantize(lib, ids[name], sizes[name], x)
            encoded[name][case] = hashlib.sha256(raw.tobytes()).hexdigest()
        for name in NO_WORSE:
            errors[name][case] = {}
            for kind, weights in (("plain", None), ("weighted", importance)):
                given = np.ones_like(importance) if weights is None and name in quants.NEEDS_IMPORTANCE else weights
                raw = quants.ggml_quantize(lib, ids[name], sizes[name], x, given)
                y = quants.decode(name, raw.reshape(-1, sizes[name][1])).reshape(x.shape)
                errors[name][case][kind] = quants.squared_error(x, y, weights).tolist()
    made_with = {package: version(package) for package in ("gguf", "llama-cpp-python")}
    golden = {"made_with": made_with, "decode": decode, "bytes": encoded, "error": errors}
    path = Path(__file__).with_name("quant.json")
    path.write_text(json.dumps(golden, indent=1) + "\n")
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
