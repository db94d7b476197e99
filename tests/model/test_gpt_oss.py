"""Files of gpt-oss: what must be there, what is refused by name, and that pieces of a text and the whole agree.

Logits against transformers: test_decoders.py and tests/converters (slow).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyggml

N_EMBD, N_FF, N_EXPERT, N_LAYER, VOCAB = 64, 96, 5, 3, 50
IDS = np.random.default_rng(1).integers(0, VOCAB, 40).tolist()
META: dict[str, Any] = {
    "context_length": 64, "embedding_length": N_EMBD, "block_count": N_LAYER, "feed_forward_length": N_FF,
    "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 16, "attention.value_length": 16,
    "attention.layer_norm_rms_epsilon": 1e-5, "attention.sliding_window": 6, "expert_count": N_EXPERT,
    "expert_used_count": 2, "expert_feed_forward_length": N_FF, "rope.freq_base": 15e4, "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16,
}  # fmt: skip


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCAB, N_EMBD), "output_norm.weight": (N_EMBD,)}
    for b in (f"blk.{i}." for i in range(N_LAYER)):
        for name, rows in (("q", 64), ("k", 32), ("v", 32), ("output", N_EMBD)):
            shapes |= {f"{b}attn_{name}.weight": (rows, 64), f"{b}attn_{name}.bias": (rows,)}
        shapes |= {f"{b}{name}_norm.weight": (N_EMBD,) for name in ("attn", "post_attention")}
        shapes |= {f"{b}attn_sinks.weight": (4,), f"{b}ffn_gate_inp.weight": (N_EXPERT, N_EMBD)}
        shapes[f"{b}ffn_gate_inp.bias"] = (N_EXPERT,)
        for name, rows, cols in (("gate", N_FF, N_EMBD), ("up", N_FF, N_EMBD), ("down", N_EMBD, N_FF)):
            shapes[f"{b}ffn_{name}_exps.weight"] = N_EXPERT, rows, cols
            shapes[f"{b}ffn_{name}_exps.bias"] = N_EXPERT, rows
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def write(path: Path, without: str = "", **more: Any) -> Path:
    with pyggml.gguf.Writer(path) as out:
        out.add("general.architecture", "gpt-oss")
        for key, value in {**META, **more}.items():
            out.add(f"gpt-oss.{key}", value)
        for name, values in arrays().items():
            if name != without:
                out.add_tensor(name, values.shape, "f32", values)
    return path


def logits(path: Path) -> np.ndarray:
    with pyggml.load(path, kv_type="f32") as model:
        whole, session = model.logits(IDS), model.session()
        one = np.stack([session.step([each]) for each in IDS])
    assert np.abs(whole - one).max() < 2e-5 * np.abs(whole).max()
    return whole


def test_each_part_makes_a_difference(tmp_path: Path) -> None:
    want = logits(write(tmp_path / "x.gguf"))
    changes: dict[str, Any] = {
        "attention.sliding_window": 7, "rope.freq_base_swa": 1e4, "rope.scaling.factor": 2.0, "expert_used_count": 3,
        "expert_gating_func": 2,
    }  # fmt: skip
    for key, value in changes.items():
        assert np.abs(logits(write(tmp_path / "y.gguf", **{key: value})) - want).max() > 1e-3, key
    same = write(tmp_path / "y.gguf", **{"rope.freq_base_swa": 15e4, "expert_gating_func": 3})
    assert np.array_equal(logits(same), want)


@pytest.mark.parametrize(
    ("key", "value"),
    [("swiglu_limit", 5.0), ("expert_shared_count", 1), ("attention.clamp_kqv", 8.0), ("attention.chunk_size", 8)],
)  # fmt: skip
def test_what_it_does_not_compute_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(pyggml.UnsupportedError, match=key.replace(".", r"\.")):
        pyggml.load(write(tmp_path / "x.gguf", **{key: value}))


def test_layers_and_groups_that_are_computed_where_they_are_said(tmp_path: Path) -> None:
    with pytest.raises(pyggml.GGUFError, match=r"blk\.0\.ffn_gate\.weight is missing"):
        pyggml.load(write(tmp_path / "x.gguf", leading_dense_block_count=1))
    want = logits(write(tmp_path / "x.gguf"))
    assert np.array_equal(logits(write(tmp_path / "y.gguf", expert_group_count=5)), want)  # all are used
    some = write(tmp_path / "y.gguf", expert_group_count=5, expert_group_used_count=2)
    assert np.array_equal(logits(some), want)  # groups of one
    for n, used in ((2, 1), (5, 1)):
        with pytest.raises(pyggml.GGUFError, match=f"2 of 5 experts cannot be chosen from {used} of {n} groups"):
            pyggml.load(write(tmp_path / "y.gguf", expert_group_count=n, expert_group_used_count=used))


@pytest.mark.parametrize(
    "name", ["blk.1.attn_sinks.weight", "blk.2.ffn_up_exps.weight", "blk.0.post_attention_norm.weight"]
)
def test_a_tensor_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(pyggml.GGUFError, match=name.replace(".", r"\.")):
        pyggml.load(write(tmp_path / "x.gguf", name))


def test_biases_are_those_of_all_layers_or_of_none(tmp_path: Path) -> None:
    for name in ("ffn_up_exps.bias", "ffn_gate_inp.bias"):
        with pytest.raises(pyggml.PyggmlError, match=name.replace(".", r"\.")):
            pyggml.load(write(tmp_path / "x.gguf", f"blk.1.{name}"))
