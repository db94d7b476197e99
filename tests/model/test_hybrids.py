"""Decoders with state spaces: logits against the numpy oracle, quantized files, and what of a file is refused."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model import tiny
from model.hybrids import ATTENTION, IDS, SETTINGS, SPACE, truth, write

import pyggml
from pyggml.errors import GGUFError, PyggmlError, ShapeError, UnsupportedError


@pytest.mark.parametrize("name", SETTINGS)
def test_logits_are_the_oracles(name: str, tmp_path: Path, isa: str) -> None:
    want = truth(name)
    with pyggml.load(write(tmp_path / "x.gguf", name), kv_type="f32") as m, closing(m.session()) as s:
        ways = [m.logits(IDS), np.stack([s.step([each]) for each in IDS])]
        s.reset()
        ways.append(np.concatenate([s.step(IDS[:9], 9), s.step(IDS[9:10], 1)[None], s.step(IDS[10:], len(IDS) - 10)]))
    for got in ways:
        assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()


@pytest.mark.parametrize("name", ["mamba", "mamba2, groups", "granite", "falcon-h1"])
def test_memory_counts_the_matrices(name: str, tmp_path: Path) -> None:
    s = SETTINGS[name]
    path = write(tmp_path / "x.gguf", name)
    with pyggml.load(path, kv_type="f32") as m:
        plan = m._loaded.plan.memory(0, m.n_ctx)
        spaces, mixed = len(s.layers) - s.layers.count(ATTENTION), s.inner + (0 if s.first else 2 * s.groups * s.k)
        state = 4 * spaces * (s.inner * s.k + (s.taps - 1) * mixed)
        assert state <= plan["mark"] < state + 128 * spaces
        assert plan["position"] == (len(s.layers) - s.layers.count(SPACE)) * 2 * 2 * 12 * 4
        got = pyggml.estimate(path, kv_type="f32")
        assert (got.kv_cache, got.scratch, got.note) == (plan["cache"], plan["scratch"], "")


@pytest.mark.parametrize("recipe", ["Q8_0", "Q4_K_M"])
@pytest.mark.parametrize("name", ["mamba", "mamba2", "granite, experts, rope", "nemotron_h_moe"])
def test_quantized(name: str, recipe: str, tmp_path: Path) -> None:
    """Against the oracle with what the file holds: activations of 8 bits are left, and now and then another expert."""
    pyggml.quantize_file(write(tmp_path / "x.gguf", name), tmp_path / "y.gguf", recipe)
    with pyggml.load(tmp_path / "y.gguf") as m:
        held = {tensor: each.dequantize() for tensor, each in m.tensors.items()}
        kinds = {tensor: each.type.name for tensor, each in m.tensors.items()}
        got, want = m.logits(IDS), truth(name, held)
    layer = SETTINGS[name].layers.index(SPACE)
    for each in ("ssm_conv1d.weight", "ssm_a", "ssm_d", "ssm_dt.bias", "ssm_norm.weight"):
        assert kinds.get(f"blk.{layer}.{each}", "f32") == "f32"
    assert np.median(np.abs(got - want).max(1)) < 0.1 * np.abs(want).max()


@pytest.mark.parametrize(
    ("name", "key", "value", "told"),
    [
        ("mamba", "attention__layer_norm_rms_epsilon", 0.1, {"eps": 0.1}),
        ("falcon mamba", "ssm__dt_b_c_rms_epsilon", 0.1, {"own_eps": 0.1}),
        ("falcon mamba", "ssm__dt_b_c_rms", False, {"own_eps": 0.0}),
        ("mamba2, groups", "attention__layer_norm_rms_epsilon", 0.1, {"eps": 0.1}),
        ("granite", "rope__scaling__finetuned", True, {"turn": "norm"}),
        ("granite", "rope__scaling__finetuned", None, {"turn": "norm"}),
        ("granite", "embedding_scale", 2.0, {"embedding_scale": 2.0}),
        ("granite", "residual_scale", 1.0, {"residual_scale": 1.0}),
        ("granite", "logit_scale", 0.5, {"logit_scale": 0.5}),
        ("granite", "attention__scale", 0.0, {"attn_scale": 0.0}),
        ("granite, experts, rope", "expert_used_count", 3, {"n_expert_used": 3}),
        ("granite, experts, rope", "expert_weights_norm", False, {"expert_norm": False}),
        ("jamba", "expert_weights_norm", True, {"expert_norm": True}),
        ("falcon-h1", "rope__freq_base", None, {"base": 10000.0}),
        ("nemotron_h_moe", "expert_weights_scale", 1.5, {"expert_scale": 1.5}),
        ("nemotron_h_moe", "expert_weights_norm", None, {"expert_norm": False}),
    ],
)
def test_what_keys_say_is_computed(name: str, key: str, value: Any, told: dict[str, Any], tmp_path: Path) -> None:
    with pyggml.load(write(tmp_path / "x.gguf", name, **{key: value}), kv_type="f32") as m:
        want = truth(name, **told)
        assert np.abs(m.logits(IDS) - want).max() < 2e-5 * np.abs(want).max()


@pytest.mark.parametrize(
    ("name", "changed", "error", "said"),
    [
        ("mamba", {"ssm__conv_kernel": 3}, ShapeError, r"ssm_conv1d\.weight is \(72, 4\), expected \(72, 3\)"),
        ("mamba", {"ssm__conv_kernel": 1}, GGUFError, "conv_kernel is 1, expected an integer from 2 to 16"),
        ("mamba", {"ssm__state_size": 8}, ShapeError, r"blk\.0\.ssm_x\.weight is \(37, 72\), expected \(21, 72\)"),
        ("mamba", {"ssm__time_step_rank": 6}, ShapeError, r"blk\.0\.ssm_x\.weight is"),
        ("mamba", {"ssm__inner_size": 64}, ShapeError, r"blk\.0\.ssm_in\.weight is \(144, 48\), expected \(128, 48\)"),
        ("mamba", {"ssm__inner_size": None}, GGUFError, r"mamba\.ssm\.inner_size is missing"),
        ("mamba", {"ssm__group_count": 2}, UnsupportedError, r"mamba\.ssm\.group_count is 2"),
        ("mamba", {"ssm__dt_b_c_rms": 3}, GGUFError, "dt_b_c_rms is 3, expected a bool"),
        ("mamba", {"expert_count": 4, "expert_used_count": 2}, UnsupportedError, "expert_count is 4"),
        ("mamba2", {"ssm__group_count": 4}, ShapeError, r"blk\.0\.ssm_in\.weight is"),
        ("mamba2", {"ssm__group_count": 3}, GGUFError, "rank is 4, no multiple of ssm.group_count, which is 3"),
        ("mamba2", {"ssm__time_step_rank": 5}, GGUFError, "inner_size is 72, no multiple of ssm.time_step_rank"),
        ("mamba2", {"ssm__dt_b_c_rms": True}, UnsupportedError, r"mamba2\.ssm\.dt_b_c_rms is True"),
        ("mamba2", {"attention__causal": False}, UnsupportedError, "attention.causal"),
        ("granite", {"attention__head_count_kv": [0, 0, 2]}, GGUFError, r"blk\.1\.ssm_in\.weight is missing"),
        ("granite", {"attention__head_count_kv": [0, 3, 0]}, GGUFError, "which is 3, in layer 1"),
        ("granite", {"attention__sliding_window": 8, "attention__sliding_window_pattern": [True] * 3}, None, ""),
        ("granite", {"final_logit_softcapping": 30.0}, UnsupportedError, "final_logit_softcapping"),
        ("granite", {"nextn_predict_layers": 1}, UnsupportedError, "nextn_predict_layers"),
        ("granite", {"moe_latent_size": 8}, UnsupportedError, "moe_latent_size"),
        ("granite, experts, rope", {"expert_shared_feed_forward_length": None}, UnsupportedError, "ffn_gate_shexp"),
        ("jamba", {"expert_count": 0, "expert_used_count": None}, GGUFError, r"blk\.0\.ffn_gate\.weight is missing"),
        ("jamba", {"embedding_scale": 2.0}, UnsupportedError, "embedding_scale"),
        ("falcon-h1", {"attention__head_count_kv": 0}, UnsupportedError, r"no use for tensor blk\.0\.attn_"),
        ("nemotron_h", {"feed_forward_length": [0, 40, 0, 0, 0]}, GGUFError, r"blk\.3\.ssm_in\.weight is missing"),
        ("nemotron_h", {"feed_forward_length": 40}, GGUFError, r"blk\.0\.ffn_up\.weight is missing"),
        ("nemotron_h", {"rope__dimension_sections": [2, 2, 2, 0]}, UnsupportedError, "dimension_sections"),
        ("nemotron_h_moe", {"moe_latent_size": None}, ShapeError, r"blk\.1\.ffn_up_exps\.weight is"),
        ("nemotron_h_moe", {"expert_gating_func": 4}, UnsupportedError, "expert_gating_func is 4"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, changed: dict[str, Any], error: type[PyggmlError] | None, said: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.gguf", name, **changed)
    if error is None:  # a window bounds the context
        with pyggml.load(path, n_ctx=8) as m:
            assert m.n_ctx == 8
        return
    with pytest.raises(error, match=said), pyggml.load(path):
        pass


@pytest.mark.parametrize(
    ("name", "tensors"),
    [("mamba", ("ssm_a", "ssm_d", "ssm_dt.bias", "ssm_dt.weight", "ssm_x.weight", "ssm_conv1d.weight")),
     ("mamba2", ("ssm_a", "ssm_d", "ssm_dt.bias", "ssm_norm.weight", "ssm_conv1d.bias", "ssm_in.weight"))],
)  # fmt: skip
def test_tensors_that_are_missing(name: str, tensors: tuple[str, ...], tmp_path: Path) -> None:
    for tensor in tensors:
        path = write(tmp_path / "x.gguf", name, drop=(f"blk.1.{tensor}",))
        with pytest.raises(GGUFError, match=rf"blk\.1\.{tensor} is missing"), pyggml.load(path):
            pass


def test_layers_that_predict_further_are_loaded_and_not_run(tmp_path: Path) -> None:
    """As the last one of Nemotron 3: the others are the model."""
    how = {"nextn_predict_layers": 1, "feed_forward_length": [0, 28, 0, 40], "attention__head_count_kv": [0, 0, 2, 2]}
    with pyggml.load(write(tmp_path / "x.gguf", "nemotron_h_moe", **how), kv_type="f32") as m:
        want = truth("nemotron_h_moe", n_layer=3)
        assert np.abs(m.logits(IDS) - want).max() < 2e-5 * np.abs(want).max()


@pytest.mark.parametrize("arch", ["granite", "granitemoe"])
def test_a_granite_4_that_only_attends(arch: str, tmp_path: Path) -> None:
    """Its files speak of state spaces, as the converter of llama.cpp writes them, and have none."""
    said = {"ssm.conv_kernel": 4, "ssm.state_size": 128, "ssm.group_count": 1, "ssm.inner_size": 1536,
            "ssm.time_step_rank": 48, "rope.scaling.finetuned": True}  # fmt: skip
    if arch == "granite":
        said["expert_shared_feed_forward_length"] = 96
    extra = {f"{arch}.{key}": value for key, value in said.items()}
    how = dict(n_expert=4, n_expert_used=2) if arch == "granitemoe" else {}
    plain, told = (tiny.write(tmp_path / f"{i}.gguf", arch, extra=each, **how) for i, each in enumerate(({}, extra)))
    with pyggml.load(plain.path) as a, pyggml.load(told.path) as b:
        np.testing.assert_array_equal(a.logits(IDS), b.logits(IDS))
