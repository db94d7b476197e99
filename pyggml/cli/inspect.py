"""inspect: what a file holds, as tables for people or JSON for programs. Reads the header only.

Text from a file is shown without control characters, so that it cannot steer the terminal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyggml
from pyggml.cli import table
from pyggml.cli.show import count, dumps, plain, size
from pyggml.engine.file_settings import file_settings
from pyggml.estimate import Estimate
from pyggml.numeric.notation import notation_of

_SHOWN = 24  # elements of an array that JSON output repeats


def show(path: Path, as_json: bool, n_ctx: int | None, kv_type: str | None) -> None:
    """Prints the page of one file."""
    with pyggml.gguf.open(path) as file:
        need = pyggml.estimate(file, n_ctx, kv_type)
        if as_json:
            print(dumps(_facts(file, need)))
        else:
            _page(file, need)


def _facts(file: pyggml.gguf.GGUFFile, need: Estimate) -> dict[str, Any]:
    return {
        "path": str(file.path),
        "bytes": file.size,
        "metadata": {key: _value(file, key) for key in file.metadata},
        "settings": file_settings(file.metadata),
        "tensors": {
            name: {
                "type": t.type.name, "shape": list(t.shape), "bytes": t.nbytes,
                "bits_per_weight": t.type.bits_per_weight, "computed": str(notation_of(t.type)),
            }
            for name, t in file.tensors.items()
        },
        "parameters": {
            "total": need.parameters,
            "active": need.active_parameters,
            "by_part": need.parameters_by_part,
            "by_layer": need.parameters_by_layer,
        },
        "bits_per_weight": need.bits_per_weight,
        "memory": {
            "weights": need.weights, "kv_cache": need.kv_cache, "scratch": need.scratch,
            "tokenizer": need.tokenizer, "total": need.total,
            "n_ctx": need.n_ctx, "kv_type": need.kv_type, "at": need.memory_at, "note": need.note,
        },
    }  # fmt: skip


def _value(file: pyggml.gguf.GGUFFile, key: str) -> Any:
    """A JSON value; long arrays are named by type and length, not repeated."""
    length = file.metadata.array_length(key)
    if length is not None and length > _SHOWN:
        return {"type": file.metadata.type_of(key), "length": length}
    value = file.metadata[key]
    return value.tolist() if hasattr(value, "tolist") else value


def _page(file: pyggml.gguf.GGUFFile, need: Estimate) -> None:
    print(f"{plain(str(file.path))}  {size(file.size)}\n")
    rows = [[plain(key), file.metadata.type_of(key), file.metadata.summary(key)] for key in file.metadata]
    print(table.show(("~key", "type", "=value"), rows, "metadata"), end="\n\n")
    suggested = file_settings(file.metadata)
    if suggested:
        rows = [[name, plain(str(value))] for name, value in suggested.items()]
        print(table.show(("~setting", "=value"), rows, "settings of a generation, unless others are given"), end="\n\n")

    rows = [
        [
            plain(name), t.type.name, " x ".join(map(str, t.shape)), f"{t.nbytes:,}",
            f"{t.type.bits_per_weight:.4g}", str(notation_of(t.type)),
        ]
        for name, t in file.tensors.items()
    ]  # fmt: skip
    print(table.show(("~name", "type", ">shape", ">bytes", ">bits", "computed"), rows, "tensors"), end="\n\n")

    rows = [
        [part, count(n), f"{n / max(need.parameters, 1):.1%}", size(need.parts[part])]
        for part, n in need.parameters_by_part.items()
        if n
    ]
    layers = need.parameters_by_layer
    if layers:
        same = min(layers) == max(layers)
        each = count(layers[0]) if same else f"{count(min(layers))} - {count(max(layers))}"
        rows.append([f"per layer ({len(layers)})", each])
    if need.active_parameters != need.parameters:
        rows.append(["active per token", count(need.active_parameters)])
    rows.append(["total", count(need.parameters), "", size(need.weights)])
    print(table.show(("part", ">parameters", ">share", ">bytes"), rows, "parameters"), end="\n\n")
    print(memory(need))


def memory(need: Estimate) -> str:
    """The table of what a model takes, and its bits per weight."""
    rows = [
        ["weights", size(need.weights)],
        ["key/value cache", size(need.kv_cache)],
        ["scratch", size(need.scratch)],
        ["tokenizer", size(need.tokenizer)],
        ["total", size(need.total)],
        *([f"total at {kind.upper()}", size(n)] for kind, n in need.memory_at.items()),
    ]
    title = f"memory, context {need.n_ctx}, cache {need.kv_type}"
    note = f"\n{table.paragraph('', plain(need.note), 0)}" if need.note else ""
    return f"{table.show(('what', '>bytes'), rows, title)}\n{need.bits_per_weight:.3g} bits per weight{note}"
