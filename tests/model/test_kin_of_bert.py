"""Encoders beside BERT that transformers does not have: Jina's second ones and nomic-embed's with experts, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converters import checkpoint
from oracle import encoder

import pyggml
from pyggml.converters import families
from pyggml.errors import GGUFError, PyggmlError, ShapeError, UnsupportedError

IDS = [int(i) for i in np.random.default_rng(3).integers(0, 50, 41)]
N, N_FF = 48, 40
# Name -> architecture, heads, keys, what the oracle is told, tensors of a layer beyond those of all.
GATED = {"ffn_gate": (N_FF, N), "ffn_up": (N_FF, N), "ffn_down": (N, N_FF)}
SETTINGS: dict[str, tuple[str, int, dict[str, Any], dict[str, Any], dict[str, tuple[int, ...]]]] = {
    "jina": ("jina-bert-v2", 4, {}, {}, GATED),
    "jina, heads of no power of two": ("jina-bert-v2", 6, {"attention.max_alibi_bias": 5.0}, {"alibi": 5.0}, GATED),
    "jina, fused and normed": (
        "jina-bert-v2", 3, {}, {},
        {"ffn_up": (2 * N_FF, N), "ffn_down": (N, N_FF), "attn_q_norm": (N,), "attn_k_norm": (N,), "attn_norm_2": (N,)},
    ),
    "nomic": (
        "nomic-bert-moe", 4, {"moe_every_n_layers": 2, "expert_count": 5, "expert_used_count": 2}, {"n_used": 2}, {}
    ),
}  # fmt: skip


def write(path: Path, name: str, drop: tuple[str, ...] = (), **changed: Any) -> Path:
    arch, n_head, keys, _, more = SETTINGS[name]
    rng = np.random.default_rng(7)
    meta: dict[str, Any] = {
        "context_length": 64, "embedding_length": N, "block_count": 3, "feed_forward_length": N_FF,
        "attention.head_count": n_head, "attention.layer_norm_epsilon": 1e-5, "attention.causal": False,
        "pooling_type": 1, **keys, **{key.replace("__", "."): value for key, value in changed.items()},
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (50, N), "token_types": (2, N), "token_embd_norm": (N,)}
    for i in range(3):
        own = {"attn_output": (N, N), "attn_output_norm": (N,), "layer_output_norm": (N,), **more}
        own |= {"attn_qkv": (3 * N, N)} if not more else {f"attn_{each}": (N, N) for each in "qkv"}
        if not more and i % 2:
            own |= {"ffn_gate_inp": (5, N), "ffn_up_exps": (5, N_FF, N), "ffn_down_exps": (5, N, N_FF)}
        elif not more:
            own |= {"ffn_up": (N_FF, N), "ffn_down": (N, N_FF)}
        shapes |= {f"blk.{i}.{stem}": shape for stem, shape in own.items()}
    with pyggml.gguf.Writer(path) as out:
        out.add("general.architecture", arch)
        for key, value in meta.items():
            if value is not None:
                out.add(f"{arch}.{key}", value)
        for stem, shape in shapes.items():
            if stem in drop:
                continue
            values = rng.normal(1.0 if len(shape) == 1 else 0.0, 0.3, shape).astype(np.float32)
            out.add_tensor(f"{stem}.weight", shape, "f32", values)
            bare = stem.startswith("token_") and not stem.endswith("norm")
            if not bare and "_exps" not in stem and "gate_inp" not in stem and stem.rsplit(".", 1)[-1] != "ffn_gate":
                out.add_tensor(f"{stem}.bias", shape[:1], "f32", rng.normal(0, 0.2, shape[:1]).astype(np.float32))
    return path


def truth(name: str, m: pyggml.Model) -> np.ndarray:
    arch, n_head, _, told, _ = SETTINGS[name]
    held = {tensor: each.dequantize() for tensor, each in m.tensors.items()}
    kind = "alibi" if arch.startswith("jina") else "rope"
    found: np.ndarray = encoder.forward(held, IDS, n_layer=3, n_head=n_head, kind=kind, **told)
    return found


@pytest.mark.parametrize("name", SETTINGS)
def test_vectors_are_the_oracles(name: str, tmp_path: Path, isa: str) -> None:
    with pyggml.load(write(tmp_path / "x.gguf", name)) as m:
        want = truth(name, m)
        got = m.embed(IDS, pooling="none", normalize=False)
        assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()
        together = m.embed([IDS, IDS[:7], IDS[:30]], pooling="none", normalize=False)
        assert np.abs(together[0] - got).max() < 1e-5
        assert np.abs(m.embed(IDS, normalize=False) - want.mean(0)).max() < 2e-5


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_distance_counts_in_every_cache(kv_type: str, tmp_path: Path, isa: str) -> None:
    with pyggml.load(write(tmp_path / "x.gguf", "jina, fused and normed")) as m:
        want = m.embed(IDS, pooling="none", normalize=False)
    try:
        with pyggml.load(tmp_path / "x.gguf", kv_type=kv_type) as m:
            got = m.embed(IDS, pooling="none", normalize=False)
    except UnsupportedError:
        assert kv_type == "q8_0"  # heads of 16
        return
    assert np.abs(got - want).max() < 0.02 * np.abs(want).max()


@pytest.mark.parametrize(
    ("name", "changed", "error", "said"),
    [
        ("jina", {"attention__causal": True}, UnsupportedError, "attention.causal is true"),
        ("jina", {"attention__max_alibi_bias": -1.0}, GGUFError, "max_alibi_bias is -1.0, expected a finite number"),
        ("jina", {"moe_every_n_layers": 2}, UnsupportedError, "moe_every_n_layers"),
        ("jina", {"logit_scale": 0.5}, UnsupportedError, "logit_scale"),
        ("nomic", {"moe_every_n_layers": 0}, GGUFError, r"blk\.1\.ffn_up\.weight is missing"),
        ("nomic", {"moe_every_n_layers": 1}, GGUFError, r"blk\.0\.ffn_gate_inp\.weight is missing"),
        ("nomic", {"expert_count": 4}, ShapeError, r"blk\.1\.ffn_gate_inp\.weight is \(5, 48\), expected \(4, 48\)"),
        ("nomic", {"attention__max_alibi_bias": 8.0}, UnsupportedError, "max_alibi_bias is 8.0"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, changed: dict[str, Any], error: type[PyggmlError], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said), pyggml.load(write(tmp_path / "x.gguf", name, **changed)):
        pass


@pytest.mark.parametrize("drop", ["token_embd_norm", "blk.1.attn_k", "blk.2.ffn_down", "blk.0.layer_output_norm"])
def test_a_missing_tensor(drop: str, tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match=rf"{drop}\.weight is missing"):
        pyggml.load(write(tmp_path / "x.gguf", "jina", drop=(drop,)))


def test_a_checkpoint_of_jinas_and_back(tmp_path: Path) -> None:
    """The names that jina-embeddings-v2 has: gates and what they let pass are one matrix, the gates first."""
    with pyggml.load(write(tmp_path / "x.gguf", "jina")) as m:
        held = {name: each.dequantize() for name, each in m.tensors.items() if "ffn_up.bias" not in name}
        published = families.find("bert jina")
    names = {to: name for name, to in published.names.items() if isinstance(to, str)}
    weights = {}
    for name, values in held.items():
        stem, end = name.rsplit(".", 1)
        parts = stem.split(".")
        at = parts[1] if parts[0] == "blk" else ""
        if parts[-1] == "ffn_gate":
            up = held[f"blk.{at}.ffn_up.weight"]
            weights[f"encoder.layer.{at}.mlp.gated_layers.weight"] = np.concatenate([values, up])
        elif parts[-1] != "ffn_up":
            key = stem.replace(f"blk.{at}.", "blk.#.") if at else stem
            weights[f"{names[key].replace('#', at)}.{end}"] = values
    folder = tmp_path / "hf"
    folder.mkdir()
    config = {
        "model_type": "bert", "hidden_size": N, "num_attention_heads": 4, "num_hidden_layers": 3,
        "intermediate_size": N_FF, "vocab_size": 50, "type_vocab_size": 2, "max_position_embeddings": 64,
        "layer_norm_eps": 1e-5, "hidden_act": "gelu", "position_embedding_type": "alibi", "emb_pooler": "mean",
        "feed_forward_type": "geglu", "attn_implementation": None,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint.safetensors(folder / "model.safetensors", weights)
    made = pyggml.convert(folder, tmp_path / "y.gguf", dtype="f32")
    assert made.arch == "jina-bert-v2"
    assert made.runs
    pyggml.convert(tmp_path / "y.gguf", tmp_path / "back")
    pyggml.convert(tmp_path / "back", tmp_path / "z.gguf", dtype="f32")
    for path in ("y.gguf", "z.gguf"):
        with pyggml.load(tmp_path / path) as m:
            assert {name: each.dequantize().tolist() for name, each in m.tensors.items()} == {
                name: each.tolist() for name, each in held.items()
            }
    (folder / "config.json").write_text(json.dumps(config | {"feed_forward_type": "reglu"}))
    with pytest.raises(UnsupportedError, match="feed_forward_type"):
        pyggml.convert(folder, tmp_path / "never.gguf")
