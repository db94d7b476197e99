"""What quantizing costs against llama.cpp on the same rows: writes bench/results/quant-error-*.json and the table of
docs/ENCODERS.md.

    pip install '.[test,oracle]' && PYTHONPATH=. python bench/quant_error.py            # all types: minutes
    PYTHONPATH=. python bench/quant_error.py --types q4_k,iq4_xs --rows 64 --print      # a look, nothing is written

Error is the root mean square over all values; with importance, of the weighted squares. Both engines encode the same
rows with the same weights; both are decoded by the published decoder. Types that llama.cpp refuses to encode without
importance get equal weights there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from oracle import quants  # noqa: E402

from pyggml import QuantType, _native  # noqa: E402

K = 4096
START, END = "<!-- table: bench/quant_error.py -->", "<!-- end of table -->"


def distributions(rows: int) -> dict[str, quants.F32]:
    """Rows of several characters, each (rows, 4096); the same everywhere."""
    plain, other = quants.normal(11, rows, K), quants.uniform(12, rows, K)
    chi = sum(quants.normal(20 + i, rows, K) ** 2 for i in range(3)) / 3.0
    scales = np.repeat(2.0 ** np.floor(quants.uniform(13, rows, K // 16) * 8.0 - 4.0), 16, axis=1)
    cases = {
        "gaussian": plain * 0.02,
        "student t": plain / np.sqrt(chi),
        "one-sided": np.abs(plain),
        "shifted": plain + 3.0,
        "constant": np.repeat(plain[:, :1], K, axis=1),
        "sparse": np.where(other < 0.9, 0.0, plain),
        "zero": np.zeros((rows, K)),
        "mixed": plain * scales,
    }
    return {name: np.ascontiguousarray(x, dtype=np.float32) for name, x in cases.items()}


def weights() -> quants.F32:
    """(4096) positive, over three orders of magnitude."""
    return (0.001 + quants.uniform(14, K) ** 4).astype(np.float32)


def rms(x: quants.F32, y: quants.F32, importance: quants.F32 | None) -> float:
    return float(np.sqrt(quants.squared_error(x, y, importance).sum() / x.size))


def compare(kind: QuantType, x: quants.F32, importance: quants.F32 | None) -> tuple[float, float, bool]:
    """(our error, llama.cpp's, whether our decoder gives the published decoder's bits)."""
    lib = quants.ggml()
    assert lib is not None, "pip install llama-cpp-python"
    given = np.ones(K, np.float32) if importance is None and kind.name in quants.NEEDS_IMPORTANCE else importance
    theirs = quants.ggml_quantize(lib, kind.id, (kind.elems, kind.bytes), x, given)
    ours = _native.quantize(kind.id, x, importance)
    y = [quants.decode(kind.name, raw.reshape(-1, kind.bytes)).reshape(x.shape) for raw in (ours, theirs)]
    decoded = _native.dequantize(kind.id, ours.reshape(-1), *x.shape)
    return rms(x, y[0], importance), rms(x, y[1], importance), bool(quants.same_bits(decoded, y[0]).all())


def ratio(ours: float, theirs: float) -> float:
    """Ours over theirs; two exact results are equal."""
    return 1.0 if ours == theirs else float("inf") if theirs == 0.0 else ours / theirs


def measure(names: list[str], rows: int) -> list[dict[str, Any]]:
    found, cases, importance = [], distributions(rows), weights()
    for name in names:
        kind = QuantType.parse(name)
        for case, x in cases.items():
            for weighted in (False, True):
                ours, theirs, same = compare(kind, x, importance if weighted else None)
                row = {"type": name, "rows": case, "importance": weighted, "ours": ours, "llama_cpp": theirs}
                found.append({**row, "ratio": round(ratio(ours, theirs), 5), "decoders_agree": same})
        worst = max(row["ratio"] for row in found if row["type"] == name)
        print(f"{name:8} worst {worst:.5f}", file=sys.stderr)
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: a row per type, a column per kind of rows, plain / weighted."""
    cases = list(dict.fromkeys(row["rows"] for row in found))
    cell = {(row["type"], row["rows"], row["importance"]): row["ratio"] for row in found}
    lines = ["| type | " + " | ".join(cases) + " |", "|---" * (len(cases) + 1) + "|"]
    for name in dict.fromkeys(row["type"] for row in found):
        pairs = (f"{cell[name, case, False]:.3f} / {cell[name, case, True]:.3f}" for case in cases)
        lines.append(f"| {name} | " + " | ".join(pairs) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    writable = [kind.name for kind in QuantType if kind.encodes and kind.name != "f32"]
    parser.add_argument("--types", default=",".join(writable))
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--print", action="store_true", help="only print the table")
    args = parser.parse_args()
    found = measure(args.types.split(","), args.rows)
    text = table(found)
    if args.print:
        print(text)
    else:
        today = datetime.date.today().isoformat()
        record = {"date": today, "shape": [args.rows, K], "results": found}
        (ROOT / "bench" / "results" / f"quant-error-{today}.json").write_text(json.dumps(record, indent=1) + "\n")
        page = ROOT / "docs" / "ENCODERS.md"
        before, rest = page.read_text(encoding="utf-8").split(START)
        page.write_text(f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    over = [row for row in found if row["ratio"] > 1.001 or not row["decoders_agree"]]
    for row in over:
        print(f"above 1.001 or decoded otherwise: {row}", file=sys.stderr)
    sys.exit(1 if over else 0)


if __name__ == "__main__":
    main()
