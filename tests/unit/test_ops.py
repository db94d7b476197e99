"""native/core/ops.def as Python sees it: every field of every op is asked for by name and judged by its range."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pyggml import _native
from pyggml.errors import ArgumentError, PyggmlError, UnsupportedError

TABLE = _native.op_table()
FIELDS = [(kind, field) for kind, fields in TABLE.items() for field in fields]


def plan_with_inputs() -> tuple[_native.Plan, dict[str, float]]:
    """A plan with a node and a weight, and what a field of each kind may be."""
    plan = _native.Plan()
    weight = plan.weight("w", 0, np.ones((1, 64), np.float32), 1, 64)
    return plan, {"node": plan.op("input", "x", cols=64, source=0), "weight": weight, "float": 1.0}


def values_of(kind: str, good: dict[str, float]) -> dict[str, float]:
    return {field.name: field.low if field.kind == "int" else good[field.kind] for field in TABLE[kind]}


def test_table_is_whole() -> None:
    assert len(TABLE) >= 16
    assert {"rope", "attention", "experts"} <= set(TABLE)
    assert [field.name for field in TABLE["matmul"]] == ["x", "w", "bias"]
    assert [field.optional for field in TABLE["matmul"]] == [False, False, True]
    assert all(field.low <= field.high for _, field in FIELDS if field.kind == "int")


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=[f"{kind}.{field.name}" for kind, field in FIELDS])
def test_each_field_is_judged(kind: str, field: _native.OpField) -> None:
    plan, good = plan_with_inputs()
    values = values_of(kind, good)
    bad: dict[str, tuple[float, ...]] = {
        "node": (-2, 99) if field.optional else (-1, 99),
        "weight": () if field.optional else (-1, 99),
        "int": (field.low - 1, field.high + 1),
        "float": (math.nan, math.inf, -math.inf),
    }
    for value in bad[field.kind]:
        with pytest.raises(PyggmlError, match=rf"^op: .*\b{field.name}\b"):
            plan.op(kind, "op", **{**values, field.name: value})
    if not field.optional:
        del values[field.name]
        with pytest.raises(ArgumentError, match=f"op: op {kind} needs {field.name}"):
            plan.op(kind, "op", **values)


def test_optional_weights_may_be_absent_but_not_unknown() -> None:
    plan, good = plan_with_inputs()
    plan.op("matmul", "y", x=good["node"], w=good["weight"])
    with pytest.raises(ArgumentError, match="there is no weight 7"):
        plan.op("matmul", "y", x=good["node"], w=good["weight"], bias=7)


def test_unknown_words() -> None:
    plan, good = plan_with_inputs()
    with pytest.raises(ArgumentError, match="y: op scale has no by; it has x, factor"):
        plan.op("scale", "y", x=good["node"], factor=2.0, by=1)
    with pytest.raises(UnsupportedError, match="there is no op 'cube'; known: embed, "):
        plan.op("cube", "y")
