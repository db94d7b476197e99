"""Layers of different shapes: a model whose second layer says the same with more heads and a wider feed-forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model import tiny

import pyggml
from pyggml.errors import GGUFError, ShapeError

IDS = [256, *range(40)]
HEADS, WIDTH = 4, 128


def wider(folder: Path, made: tiny.Tiny, **meta: object) -> Path:
    """Layer 1 with every KV head twice and rows of zeros behind its feed-forward."""
    path = folder / "wider.gguf"
    with pyggml.gguf.open(made.path) as file, pyggml.gguf.Writer(path) as out:
        told = {"llama.attention.head_count_kv": [2, HEADS], "llama.feed_forward_length": [96, WIDTH], **meta}
        for key, value in {**file.metadata, **told}.items():
            out.add(key, value)
        for name, w in made.weights.items():
            if name in ("blk.1.attn_k.weight", "blk.1.attn_v.weight"):
                w = np.repeat(w.reshape(2, 16, -1), 2, axis=0).reshape(HEADS * 16, -1)
            elif name in ("blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"):
                w = np.pad(w, ((0, WIDTH - 96), (0, 0)))
            elif name == "blk.1.ffn_down.weight":
                w = np.pad(w, ((0, 0), (0, WIDTH - 96)))
            out.add_tensor(name, w.shape, "f32", np.ascontiguousarray(w))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tiny.Tiny:
    return tiny.write(tmp_path_factory.mktemp("per_layer") / "x.gguf")


def test_layers_may_differ(tmp_path: Path, made: tiny.Tiny) -> None:
    with pyggml.load(made.path, kv_type="f32") as m, pyggml.load(wider(tmp_path, made), kv_type="f32") as n:
        want, got = m.logits(IDS), n.logits(IDS)
        assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()
        assert (n.config.heads.n_kv, n.config.n_ff) == (HEADS, WIDTH)
        s = n.session()
        for token, row in zip(IDS, want, strict=True):
            assert np.abs(s.step([token]) - row).max() < 1e-5 * np.abs(want).max()


@pytest.mark.parametrize(
    ("meta", "error", "message"),
    [
        (
            {"llama.attention.head_count_kv": [2, 3]},
            GGUFError,
            "head_count is 4, no multiple .* which is 3, in layer 1",
        ),
        ({"llama.attention.head_count_kv": [HEADS, 2]}, ShapeError, r"blk\.0\.attn_k\.weight is \(32, 64\), expected"),
        ({"llama.feed_forward_length": [WIDTH, 96]}, ShapeError, r"blk\.0\.ffn_gate\.weight is \(96, 64\), expected"),
        ({"llama.feed_forward_length": [96, 0]}, GGUFError, "feed_forward_length is an array of 2 elements"),
        ({"llama.feed_forward_length": [96, 96, 96]}, GGUFError, "or one for each of 2 layers"),
    ],
    ids=str,
)
def test_layers_that_contradict_their_tensors(
    tmp_path: Path, made: tiny.Tiny, meta: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pyggml.load(wider(tmp_path, made, **meta))
