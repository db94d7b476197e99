"""The form of a result: flat records with their spread and their share of a limit, in one JSON file with the card.

{"schema": 2, "card": {...}, "options": {...}, "beside": [...], "problems": [...], "records": [...]}
A record is one figure of one engine: see FIELDS. `values` are in the order of the rounds, so that two engines of one
item can be compared round by round. Standard library only: the report needs no package.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SCHEMA = 2
Record = dict[str, Any]
Limit = tuple[str, float, str, float]
"""(name, value, unit, reached)"""

FIELDS: dict[str, type | tuple[type, ...]] = {
    "section": str,  # card, speed, thread, depth, batch, load, memory, small, types, kernels
    "what": str,  # prefill, decode, load ...
    "model": str,  # file name without .gguf, or a shape
    "engine": str,
    "variant": str,  # mapped, copied, public; a type in kernels; or empty
    "threads": int,
    "n": int,  # tokens of one measurement
    "depth": int,  # positions already in the cache
    "batch": int,
    "kv": str,
    "unit": str,
    "values": list,
    "median": (int, float),
    "min": (int, float),
    "max": (int, float),
    "limit": (dict, type(None)),  # {"name": of the rates, "value", "unit", "reached": what the median makes of it}
    "share": (int, float, type(None)),  # reached / value, the median of all rounds
    "shares": list,  # of each round, against the machine's rates beside it
}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, lowest, highest, and all in order.

    >>> spread([3, 1, 2])["median"]
    2
    """
    return {
        "values": [rounded(v) for v in values],
        "median": rounded(statistics.median(values)),
        "min": rounded(min(values)),
        "max": rounded(max(values)),
    }


def rounded(value: float) -> float:
    """Four significant digits: no clock here is better."""
    return float(f"{value:.4g}") if not isinstance(value, int) else value


def record(
    section: str, what: str, values: Sequence[float], unit: str, limits: Sequence[Limit] = (), **more: Any
) -> Record:
    """A checked record. limits: what bounded each value; none where nothing is known to."""
    made: Record = {
        "section": section, "what": what, "model": "", "engine": "pyggml", "variant": "", "threads": 1, "n": 0,
        "depth": 0, "batch": 1, "kv": "f16", "unit": unit, **more, **spread(values),
        "limit": None, "share": None, "shares": [],
    }  # fmt: skip
    if limits:
        value, reached = (
            rounded(statistics.median(column)) for column in zip(*((x[1], x[3]) for x in limits), strict=True)
        )
        made["limit"] = {"name": limits[0][0], "value": value, "unit": limits[0][2], "reached": reached}
        made["shares"] = [rounded(x[3] / x[1]) for x in limits]
        made["share"] = rounded(statistics.median(made["shares"]))
    check(made)
    return made


def check(made: Record) -> None:
    """Raises ValueError unless a record has the form."""
    if set(made) != set(FIELDS):
        raise ValueError(f"record has the wrong fields: {sorted(set(made) ^ set(FIELDS))}")
    for name, kind in FIELDS.items():
        if not isinstance(made[name], kind) or isinstance(made[name], bool):
            raise ValueError(f"record: {name} is {made[name]!r}, expected {kind}")
    if not made["values"]:
        raise ValueError(f"record without values: {made['section']} {made['what']}")


def find(records: Iterable[Record], **wanted: Any) -> list[Record]:
    """The records whose fields have these values."""
    return [r for r in records if all(r[key] == value for key, value in wanted.items())]


def ratio(ours: Record, theirs: Record) -> tuple[float, float, float]:
    """ours over theirs: of the medians, and the lowest and highest round by round (all pairs if rounds differ).

    >>> ratio({"median": 4, "values": [4, 6]}, {"median": 2, "values": [2, 2]})
    (2.0, 2.0, 3.0)
    """
    a, b = ours["values"], theirs["values"]
    pairs = [x / y for x, y in zip(a, b, strict=True)] if len(a) == len(b) else [x / y for x in a for y in b]
    return ours["median"] / theirs["median"], min(pairs), max(pairs)


def save(path: Path, data: dict[str, Any]) -> None:
    """Writes a result, a record a line, replacing the file at once."""
    rows = ",\n".join(json.dumps(r) for r in data["records"])
    head = json.dumps({k: v for k, v in data.items() if k != "records"}, indent=1)
    text = head.rstrip("}").rstrip() + ',\n "records": [\n' + rows + "\n ]\n}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="ascii")
    part.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Reads and checks a result."""
    data: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
    if data.get("schema") != SCHEMA:
        raise ValueError(f"{path.name}: schema {data.get('schema')!r}, expected {SCHEMA}")
    for made in data["records"]:
        check(made)
    return data


def merged(results: Sequence[dict[str, Any]]) -> list[Record]:
    """Records of several results; where two measured the same thing, the later one stands."""
    keep: dict[tuple[Any, ...], Record] = {}
    measured = ("values", "median", "min", "max", "limit", "share", "shares")
    for data in results:
        for made in data["records"]:
            keep[tuple(made[name] for name in FIELDS if name not in measured)] = made
    return list(keep.values())
