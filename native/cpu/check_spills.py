"""Fail when a hot loop keeps vector registers on the stack.

GCC versions differ in how well they keep accumulators in registers; a spill in the tile costs a quarter of the speed
and no test notices. Reads ``objdump -d`` of the built ISA objects, finds the innermost loops of the hot functions that
multiply, and counts vector moves to or from the stack in them.

    python native/cpu/check_spills.py build/CMakeFiles/pgg.dir/cpu/isa_*.o
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HOT = re.compile(r"^(tile_\w+|few_(?!pack)\w+|gemv_(?!reference)\w+|pair_tile_\d|byte_block_\w+|attend_\d)$")
PRODUCT = re.compile(r"vpdpbusd|vpdpwssd|vdpbf16ps|vpmaddubsw|vpmaddwd|vfn?madd\w+ps|sdot|smull|fmla|mla\b")
ON_STACK = re.compile(r"\(%(rsp|rbp)\b|\[(sp|x29)\b")
VECTOR = re.compile(r"%[xyz]mm\d+|\bq\d+\b")
# Stack moves allowed per product: object, beginning of the function's name, limit; the longest beginning counts, and
# where there is none not one is allowed. Numbers are what GCC 12 needs, rounded up.
# - avx2, avxvnni, few: sixteen registers hold eight vectors of folded codes and then no room is left for their scales,
#   masks and two sums a token; part of the codes is read again from the first cache, where the activations are anyway.
#   One token shows most: it has the fewest products. Types of the grids and of 5 bits need more masks.
# - avx512_vbmi: q1_0 has thirteen controls beside the sums of several tokens; iq1_m keeps indices on the stack.
# - spikes (docs/adr/0007): codes and scales of a stretch stay for the products with their records; in tiles of avx2 a
#   constant that both kinds of products share lies on the stack, one load for four products.
# - avx512, sixteen tokens: what takes a stretch apart reads up to seven constants for 80 products and more;
#   of q3_k, whose third bits lie apart, ten for 112.
# - avx2, gemv: its one token is packed in it.
# - nvfp4 and mxfp4 collect their scales byte by byte in memory, on every level.
LIMIT = {
    ("isa_avx2", "few"): 1.3,
    ("isa_avx2", "few_iq1_s_1"): 1.5,
    ("isa_avx2", "few_q5_1_1"): 1.5,
    ("isa_avx2", "gemv"): 0.5,
    ("isa_avx2", "few_nvfp4"): 2.0,
    ("isa_avx2", "few_q8_0_1"): 1.7,
    ("isa_avx2", "few_iq4_xs_1"): 1.7,
    ("isa_avx2", "few_iq4_nl_1"): 1.7,
    ("isa_avx2", "tile"): 0.25,
    ("isa_avxvnni", "few"): 1.6,
    ("isa_avxvnni", "few_iq1_m_1"): 1.8,
    ("isa_avxvnni", "few_nvfp4"): 2.0,
    ("isa_avx512", "few"): 0.07,
    ("isa_avx512", "few_q3_k_16"): 0.1,
    ("isa_avx512", "few_mxfp4"): 0.4,
    ("isa_avx512", "few_nvfp4"): 0.25,
    ("isa_avx512_vbmi", "few"): 0.08,
    ("isa_avx512_vbmi", "few_q1_0"): 0.25,
    ("isa_avx512_vbmi", "few_iq1_m_6"): 0.4,
}


def allowed(path: str, name: str) -> float:
    """The limit of the longest entry that fits."""
    fits = [(len(start), limit) for (unit, start), limit in LIMIT.items() if unit == path and name.startswith(start)]
    return max(fits, default=(0, 0.0))[1]


@dataclass
class Line:
    address: int
    text: str
    target: int | None


@dataclass
class Loop:
    function: str
    first: int
    last: int
    products: int
    moves: list[str]


def functions(listing: str) -> dict[str, list[Line]]:
    """Name -> instructions, clones such as ``tile_q4_0.constprop.0`` under their own name."""
    result: dict[str, list[Line]] = {}
    current: list[Line] = []
    for row in listing.splitlines():
        head = re.match(r"^[0-9a-f]+ <([\w.]+)>:$", row)
        if head:
            current = result.setdefault(head.group(1), [])
            continue
        body = re.match(r"^\s*([0-9a-f]+):\s+(.*)$", row)
        if body:
            text = body.group(2)
            jump = re.match(r"^(?:j\w+|b\.\w+|b|cbn?z\s+\w+,|tbn?z\s+\w+, #\d+,)\s+([0-9a-f]+) <", text)
            current.append(Line(int(body.group(1), 16), text, int(jump.group(1), 16) if jump else None))
    return result


def loops(name: str, lines: list[Line]) -> list[Loop]:
    """Innermost loops that hold products: a backward jump whose range holds no other. Of few also those around them, as
    far as they are not within: the loop over a stretch's spikes stands in the loop over stretches."""
    jumps = [(line.target, line.address) for line in lines if line.target is not None]
    back = sorted({(target, address) for target, address in jumps if target <= address})
    found = []
    for first, last in back:
        within = [(a, b) for a, b in back if a >= first and b <= last and (a, b) != (first, last)]
        deep = any(a >= c and b <= d and (a, b) != (c, d) for a, b in within for c, d in within)
        if within and (deep or not name.startswith("few_")):
            continue
        inside = [
            line.text
            for line in lines
            if first <= line.address <= last and not any(a <= line.address <= b for a, b in within)
        ]
        products = sum(1 for text in inside if PRODUCT.search(text))
        if products:
            moves = [text for text in inside if ON_STACK.search(text) and VECTOR.search(text)]
            found.append(Loop(name, first, last, products, moves))
    return found


def check(path: Path, objdump: str) -> tuple[int, list[str]]:
    """How many hot loops the object has, and a message for each that spills."""
    listing = subprocess.run(
        [objdump, "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True
    ).stdout
    seen, bad = 0, []
    for name, lines in functions(listing).items():
        if not HOT.match(name.split(".")[0]):
            continue
        limit = allowed(path.name.split(".")[0], name)
        for loop in loops(name, lines):
            seen += 1
            if len(loop.moves) > limit * loop.products:
                bad.append(
                    f"{path.name}: {name} {loop.first:#x}..{loop.last:#x}: {len(loop.moves)} stack moves for "
                    f"{loop.products} products, e.g. {loop.moves[0]}"
                )
    return seen, bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("objects", nargs="+", type=Path)
    parser.add_argument("--objdump", default="objdump")
    args = parser.parse_args()
    total, messages = 0, []
    for path in args.objects:
        seen, bad = check(path, args.objdump)
        total += seen
        messages += bad
    if total == 0:
        messages.append("no hot loop found: wrong objects, or the names in HOT changed")
    print(f"{total} hot loops, {len(messages)} problems")
    print("\n".join(messages), file=sys.stderr)
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
