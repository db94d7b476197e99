"""Qwen3.5 and Qwen3-Next: logits against the numpy oracle, sessions, quantized files, and what of a file is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import delta_net

import pyggml
from pyggml.errors import GGUFError, PyggmlError, ShapeError, UnsupportedError

IDS = [int(i) for i in np.random.default_rng(3).integers(0, 60, 37)]
N_EMBD, N_VOCAB, EPS = 64, 61, 1e-5
HEADS = dict(n_head=4, n_head_kv=2, head_dim=24, n_rot=12)
RULE, FULL = True, False

# Name -> architecture; layers; key heads, value heads, their widths; taps; whether the output is the embedding.
SETTINGS: dict[str, tuple[str, tuple[bool, ...], tuple[int, int, int, int], int, bool]] = {
    "dense": ("qwen35", (RULE, RULE, RULE, FULL), (2, 6, 10, 12), 4, False),
    "tied": ("qwen35", (FULL, RULE), (3, 3, 16, 7), 2, True),
    "experts": ("qwen35moe", (RULE, FULL), (2, 4, 16, 32), 4, False),
    "next": ("qwen3next", (RULE, FULL), (2, 6, 10, 12), 3, False),
    "older next": ("qwen3next", (RULE, FULL), (2, 4, 8, 40), 4, False),
}


def weights(name: str) -> dict[str, np.ndarray]:
    arch, recurrent, (n_k, n, k, v), taps, tied = SETTINGS[name]
    rng = np.random.default_rng(1)
    made: dict[str, np.ndarray] = {}

    def matrix(key: str, *shape: int) -> None:
        made[f"{key}.weight"] = rng.normal(0, 1.2 / np.sqrt(shape[-1]), shape).astype(np.float32)

    def vector(key: str, size: int, around: float = 1.0) -> None:
        made[key] = rng.normal(around, 0.2, size).astype(np.float32)

    matrix("token_embd", N_VOCAB, N_EMBD)
    if not tied:
        matrix("output", N_VOCAB, N_EMBD)
    vector("output_norm.weight", N_EMBD)
    for i, rule in enumerate(recurrent):
        b, dim = f"blk.{i}", HEADS["head_dim"]
        for each in ("attn_norm", "post_attention_norm"):
            vector(f"{b}.{each}.weight", N_EMBD)
        if rule:
            mixed = 2 * n_k * k + n * v
            if name == "older next":
                matrix(f"{b}.ssm_in", mixed + n * v, N_EMBD)
            else:
                matrix(f"{b}.attn_qkv", mixed, N_EMBD)
                matrix(f"{b}.attn_gate", n * v, N_EMBD)
            gates = {"ssm_ba": 2 * n} if arch == "qwen3next" else {"ssm_alpha": n, "ssm_beta": n}
            for each, rows in gates.items():
                matrix(f"{b}.{each}", rows, N_EMBD)
            matrix(f"{b}.ssm_conv1d", mixed, taps)
            matrix(f"{b}.ssm_out", N_EMBD, n * v)
            vector(f"{b}.ssm_norm.weight", v)
            vector(f"{b}.ssm_dt.bias", n, 0.0)
            made[f"{b}.ssm_a"] = -np.exp(rng.normal(-1, 1, n)).astype(np.float32)
        else:
            matrix(f"{b}.attn_q", 2 * HEADS["n_head"] * dim, N_EMBD)
            for each in "kv":
                matrix(f"{b}.attn_{each}", HEADS["n_head_kv"] * dim, N_EMBD)
            matrix(f"{b}.attn_output", N_EMBD, HEADS["n_head"] * dim)
            for each in "qk":
                vector(f"{b}.attn_{each}_norm.weight", dim)
        if arch == "qwen35":
            feeds = {"ffn_gate": (96, N_EMBD), "ffn_up": (96, N_EMBD), "ffn_down": (N_EMBD, 96)}
        else:
            feeds = {
                "ffn_gate_inp": (6, N_EMBD), "ffn_gate_exps": (6, 32, N_EMBD), "ffn_up_exps": (6, 32, N_EMBD),
                "ffn_down_exps": (6, N_EMBD, 32), "ffn_gate_shexp": (48, N_EMBD), "ffn_up_shexp": (48, N_EMBD),
                "ffn_down_shexp": (N_EMBD, 48), "ffn_gate_inp_shexp": (N_EMBD,),
            }  # fmt: skip
        for each, shape in feeds.items():
            matrix(f"{b}.{each}", *shape)
    return made


def metadata(name: str) -> dict[str, Any]:
    arch, recurrent, (n_k, n, k, v), taps, _ = SETTINGS[name]
    said: dict[str, Any] = {
        "context_length": 128, "embedding_length": N_EMBD, "block_count": len(recurrent),
        "attention.head_count": HEADS["n_head"], "attention.head_count_kv": HEADS["n_head_kv"],
        "attention.key_length": HEADS["head_dim"], "attention.value_length": HEADS["head_dim"],
        "attention.layer_norm_rms_epsilon": EPS, "rope.freq_base": 10000.0, "rope.dimension_count": HEADS["n_rot"],
        "ssm.conv_kernel": taps, "ssm.state_size": k, "ssm.group_count": n_k, "ssm.time_step_rank": n,
        "ssm.inner_size": n * v, "attention.recurrent_layers": list(recurrent), "full_attention_interval": 4,
    }  # fmt: skip
    if arch == "qwen35":
        said["feed_forward_length"] = 96
    else:
        said |= {"expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 32,
                 "expert_shared_feed_forward_length": 48}  # fmt: skip
    if arch != "qwen3next":
        said["rope.dimension_sections"] = [2, 2, 2, 0]
    return {f"{arch}.{key}": value for key, value in said.items()}


def write(
    path: Path,
    name: str = "dense",
    drop: tuple[str, ...] = (),
    more: dict[str, np.ndarray] | None = None,
    **changed: Any,
) -> Path:
    """changed: keys without the architecture, with __ for dots (None: no such key)."""
    arch = SETTINGS[name][0]
    said = metadata(name) | {f"{arch}.{key.replace('__', '.')}": value for key, value in changed.items()}
    with pyggml.gguf.Writer(path) as out:
        out.add("general.architecture", arch)
        for key, value in said.items():
            if value is not None:
                out.add(key, value)
        for tensor, values in {**weights(name), **(more or {})}.items():
            if tensor not in drop:
                out.add_tensor(tensor, values.shape, "f32", values)
    return path


def truth(name: str, held: dict[str, np.ndarray] | None = None, **changed: Any) -> np.ndarray:
    arch, recurrent, (n_k, _, k, _), _, _ = SETTINGS[name]
    how: dict[str, Any] = dict(
        HEADS, recurrent=recurrent, n_k=n_k, k_dim=k, eps=EPS, grouped=arch == "qwen3next",
        n_expert_used=0 if arch == "qwen35" else 2,
    )  # fmt: skip
    found: np.ndarray = delta_net.forward(held or weights(name), IDS, **{**how, **changed})
    return found


@pytest.fixture
def model(tmp_path: Path) -> Iterator[pyggml.Model]:
    with pyggml.load(write(tmp_path / "x.gguf"), kv_type="f32") as m:
        yield m


@pytest.mark.parametrize("name", SETTINGS)
def test_logits_are_the_oracles(name: str, tmp_path: Path, isa: str) -> None:
    want = truth(name)
    with pyggml.load(write(tmp_path / "x.gguf", name), kv_type="f32") as m, closing(m.session()) as s:
        ways = [m.logits(IDS), np.stack([s.step([each]) for each in IDS])]
        s.reset()
        ways.append(np.concatenate([s.step(IDS[:9], 9), s.step(IDS[9:10], 1)[None], s.step(IDS[10:], len(IDS) - 10)]))
    for got in ways:
        assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()


def test_memory_counts_the_matrices(model: pyggml.Model) -> None:
    _, recurrent, (n_k, n, k, v), taps, _ = SETTINGS["dense"]
    plan = model._loaded.plan.memory(0, model.n_ctx)
    assert plan["mark"] >= recurrent.count(RULE) * 4 * (n * k * v + (taps - 1) * (2 * n_k * k + n * v))
    assert plan["position"] == recurrent.count(FULL) * HEADS["n_head_kv"] * 2 * HEADS["head_dim"] * 4


@pytest.mark.parametrize("recipe", ["Q8_0", "Q4_K_M"])
@pytest.mark.parametrize("name", ["dense", "next"])
def test_quantized(name: str, recipe: str, tmp_path: Path) -> None:
    """Against the oracle with what the file holds: activations of 8 bits are left, and now and then another expert."""
    pyggml.quantize_file(write(tmp_path / "x.gguf", name), tmp_path / "y.gguf", recipe)
    with pyggml.load(tmp_path / "y.gguf") as m:
        held = {tensor: each.dequantize() for tensor, each in m.tensors.items()}
        kinds = {tensor: each.type.name for tensor, each in m.tensors.items()}
        got, want = m.logits(IDS), truth(name, held)
    for each in ("ssm_conv1d.weight", "ssm_a", "ssm_dt.bias", "ssm_norm.weight"):
        assert kinds[f"blk.0.{each}"] == "f32"
    assert kinds["blk.0.ssm_out.weight"] != "f32"
    assert np.median(np.abs(got - want).max(1)) < 0.1 * np.abs(want).max()


def test_layers_that_predict_further_are_loaded_and_not_run(tmp_path: Path) -> None:
    more = {name.replace("blk.3.", "blk.4."): value for name, value in weights("dense").items() if "blk.3." in name}
    more["blk.4.nextn.eh_proj.weight"] = np.ones((N_EMBD, 2 * N_EMBD), np.float32)
    for told in ([RULE, RULE, RULE, FULL, FULL], None):
        how: dict[str, Any] = dict(block_count=5, nextn_predict_layers=1, attention__recurrent_layers=told)
        with pyggml.load(write(tmp_path / "x.gguf", more=more, **how), kv_type="f32") as m:
            np.testing.assert_allclose(m.logits(IDS), truth("dense"), atol=1e-4)
    with (
        pytest.raises(UnsupportedError, match=r"no use for tensor blk\.4\.nextn\.eh_proj\.weight"),
        pyggml.load(write(tmp_path / "x.gguf", more=more, block_count=5, full_attention_interval=5,
                          attention__recurrent_layers=[RULE, RULE, RULE, FULL, FULL])),
    ):  # fmt: skip
        pass


def test_what_keys_say_is_computed(tmp_path: Path) -> None:
    """Each against the oracle that is told the same."""
    for key, value, told in (
        ("rope__freq_base", 500.0, {"base": 500.0}),
        ("rope__dimension_count", 8, {"n_rot": 8}),
        ("attention__layer_norm_rms_epsilon", 0.1, {"eps": 0.1}),
        ("attention__recurrent_layers", None, {}),  # by full_attention_interval
        ("rope__dimension_sections", [6, 6, 6, 0], {}),  # one position for all of a text
    ):
        with pyggml.load(write(tmp_path / "x.gguf", **{key: value}), kv_type="f32") as m:
            np.testing.assert_allclose(m.logits(IDS), truth("dense", **told), atol=1e-4, err_msg=key)
    with pyggml.load(write(tmp_path / "x.gguf", "experts", expert_used_count=3), kv_type="f32") as m:
        np.testing.assert_allclose(m.logits(IDS), truth("experts", n_expert_used=3), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "changed", "error", "said"),
    [
        ("dense", {"ssm__conv_kernel": 3}, ShapeError, r"ssm_conv1d\.weight is \(112, 4\), expected \(112, 3\)"),
        ("dense", {"ssm__conv_kernel": 1}, GGUFError, "conv_kernel is 1, expected an integer from 2 to 16"),
        ("dense", {"ssm__state_size": 8}, ShapeError, r"blk\.0\.attn_qkv\.weight is \(112, 64\), expected \(104, 64\)"),
        ("dense", {"ssm__group_count": 3}, ShapeError, r"attn_qkv\.weight is"),
        ("dense", {"ssm__group_count": 4}, GGUFError, "rank is 6, no multiple of ssm.group_count, which is 4"),
        ("dense", {"ssm__time_step_rank": 8}, ShapeError, r"ssm_alpha\.weight is \(6, 64\), expected \(8, 64\)"),
        ("dense", {"ssm__time_step_rank": 5}, GGUFError, "no multiple of"),
        ("dense", {"ssm__inner_size": 144}, ShapeError, r"attn_qkv\.weight is"),
        ("dense", {"ssm__dt_b_c_rms": True}, UnsupportedError, r"qwen35\.ssm\.dt_b_c_rms is True"),
        ("dense", {"attention__recurrent_layers": [True] * 3}, GGUFError, "a bool for each of 4 layers"),
        ("dense", {"attention__recurrent_layers": [False] * 4}, ShapeError, r"blk\.0\.attn_qkv\.weight is"),
        ("dense", {"attention__recurrent_layers": None, "full_attention_interval": 2}, ShapeError, r"blk\.1\.attn_qkv"),
        ("dense", {"rope__dimension_sections": [2, 2, 2, 2]}, UnsupportedError, r"rope\.dimension_sections is"),
        ("dense", {"rope__dimension_sections": [6, 0, 0, 0]}, UnsupportedError, r"rope\.dimension_sections is"),
        ("next", {"rope__dimension_sections": [2, 2, 2, 0]}, UnsupportedError, r"rope\.dimension_sections is"),
        ("dense", {"expert_count": 4, "expert_used_count": 2}, UnsupportedError, "qwen35.expert_count is 4"),
        ("experts", {"expert_count": 0, "feed_forward_length": 32}, GGUFError, "moe.expert_count is missing or 0"),
        ("dense", {"nextn_predict_layers": 4}, GGUFError, "expected an integer from 0 to 3"),
        ("dense", {"attention__sliding_window": 4, "attention__sliding_window_pattern": [True] * 4}, None, ""),
        ("dense", {"attention__causal": False}, UnsupportedError, "attention.causal"),
        ("dense", {"final_logit_softcapping": 3.0}, UnsupportedError, "final_logit_softcapping"),
        ("dense", {"attention__scale": 0.3}, UnsupportedError, "attention.scale"),
        ("dense", {"embedding_scale": 2.0}, UnsupportedError, "embedding_scale"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    name: str, changed: dict[str, Any], error: type[PyggmlError] | None, said: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.gguf", name, **changed)
    if error is None:  # a window bounds the context
        with pyggml.load(path, n_ctx=4) as m:
            assert m.n_ctx == 4
        return
    with pytest.raises(error, match=said), pyggml.load(path):
        pass


def test_tensors_that_are_missing(tmp_path: Path) -> None:
    for tensor in ("ssm_a", "ssm_dt.bias", "ssm_conv1d.weight", "attn_gate.weight", "ssm_out.weight"):
        with (
            pytest.raises(GGUFError, match=rf"blk\.1\.{tensor} is missing"),
            pyggml.load(write(tmp_path / "x.gguf", drop=(f"blk.1.{tensor}",))),
        ):
            pass
