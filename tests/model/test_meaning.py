"""Keys that change the mathematics: computed (test_forward.py has the oracle), harmless, or refused by name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model import tiny
from oracle import transformer

import pyggml
from pyggml.config import Config
from pyggml.errors import PyggmlError, UnsupportedError

IDS = [256, *range(40)]

# Key, a value that matters, values that do not. Keys that only mean something together are tried on their own below.
REFUSED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "final_logit_softcapping": (30.0, (0.0, 0)),
    "attention.causal": (False, (True,)),
    "attention.clamp_kqv": (8.0, (0.0,)),
    "attention.max_alibi_bias": (8.0, (0.0,)),
    "attention.output_scale": (0.5, (1.0, 0.0)),
    "attention.temperature_scale": (0.1, (0.0,)),
    "attention.temperature_length": (8192, (0,)),
    "attention.shared_kv_layers": (1, (0,)),
    "attention.q_lora_rank": (64, (0,)),
    "attention.kv_lora_rank": (64, (0,)),
    "attention.decay_lora_rank": (64, (0,)),
    "attention.key_length_mla": (48, (0,)),
    "attention.value_length_mla": (48, (0,)),
    "attention.indexer.top_k": (64, (0,)),
    "attention.recurrent_layers": ([True, False], ([False, False],)),
    "attention.chunk_size": (8192, (0,)),
    "attention.relative_buckets_count": (32, (0,)),
    "full_attention_interval": (4, (1, 0)),
    "rope.dimension_sections": ([4, 2, 2, 0], ([0, 0, 0, 0],)),
    "rope.scaling.yarn_log_multiplier": (0.1, (0.0,)),
    "rope.scaling.yarn_ext_factor": (0.5, (1.0, -1.0)),
    "logit_scale": (0.0625, (1.0, 0.0)),
    "embedding_scale": (12.0, (1.0, 0.0)),
    "residual_scale": (0.22, (1.0, 0.0)),
    "use_parallel_residual": (True, (False,)),
    "tensor_data_layout": ("mirrored", ("reference", "Meta AI original pth")),
    "expert_used_count": (2, (0,)),
    "expert_shared_count": (1, (0,)),
    "expert_shared_feed_forward_length": (64, (0,)),
    "expert_weights_scale": (2.5, (1.0, 0.0)),
    "expert_weights_norm": (True, (False,)),
    "expert_gating_func": (2, (0, 1)),
    "expert_group_count": (8, (0, 1)),
    "expert_group_used_count": (4, (0, 1)),
    "leading_dense_block_count": (1, (0,)),
    "interleave_moe_layer_step": (2, (1, 0)),
    "moe_every_n_layers": (2, (1, 0)),
    "router_logit_softcapping": (30.0, (0.0,)),
    "nextn_predict_layers": (1, (0,)),
    "swin_norm": (True, (False,)),
    "rescale_every_n_layers": (6, (0,)),
    "decoder_block_count": (2, (0,)),
    "embedding_length_per_layer_input": (256, (0,)),
    "hidden_activation": ("gelu", ("silu",)),
    "ssm.conv_kernel": (4, (0,)),
    "wkv.head_size": (64, (0,)),
    "shortconv.l_cache": (3, (0,)),
    "altup.num_inputs": (4, (0,)),
    "xielu.alpha_n": ([0.8, 0.8], ([0.0, 0.0],)),
}


def load(folder: Path, arch: str = "llama", *, n_ctx: int | None = None, **how: Any) -> pyggml.Model:
    how.setdefault("qk_norm", arch.startswith("qwen3"))
    return pyggml.load(tiny.write(folder / "x.gguf", arch, **how).path, n_ctx=n_ctx, kv_type="f32")


def extra(arch: str, **values: Any) -> dict[str, Any]:
    return {f"{arch}.{key}": value for key, value in values.items()}


@pytest.mark.parametrize("key", REFUSED)
def test_what_is_not_computed_is_refused_by_name(tmp_path: Path, key: str) -> None:
    value, harmless = REFUSED[key]
    with pytest.raises(UnsupportedError, match=rf"llama\.{key.replace('.', '[.]')} is .*architecture llama") as error:
        load(tmp_path, extra={f"llama.{key}": value})
    assert len(str(error.value)) < 400
    for each in harmless:
        with load(tmp_path, extra={f"llama.{key}": each}) as m:
            assert m.logits([1, 2]).shape == (2, m.n_vocab)


@pytest.mark.parametrize(("key", "value"), [("general.quantization_version", 1), ("general.type", "adapter")])
def test_what_holds_for_every_architecture(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(UnsupportedError, match=rf"{key} is {value!r}"):
        load(tmp_path, extra={key: value})
    with load(tmp_path, extra={"general.quantization_version": 2, "general.type": "model"}) as m:
        assert m.config.said == ()


@pytest.mark.parametrize("arch", ["qwen2", "qwen3", "qwen2moe"])
@pytest.mark.parametrize("key", ["final_logit_softcapping", "attention.causal", "logit_scale"])
def test_every_architecture_refuses(tmp_path: Path, arch: str, key: str) -> None:
    experts = dict(n_expert=4, n_expert_used=2, n_ff_shared=32) if arch.endswith("moe") else {}
    with pytest.raises(UnsupportedError, match=rf"{arch}\.{key}.*architecture {arch}"):
        load(tmp_path, arch, extra={f"{arch}.{key}": REFUSED[key][0]}, **experts)


def test_pooling_is_that_of_vectors_and_changes_no_logits(tmp_path: Path) -> None:
    with load(tmp_path) as plain, load(tmp_path, extra={"llama.pooling_type": 1}) as m:
        assert np.array_equal(m.logits(IDS), plain.logits(IDS))
        assert np.array_equal(m.embed(IDS), plain.embed(IDS, pooling="mean"))
        assert not np.allclose(m.embed(IDS), plain.embed(IDS), atol=1e-3)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), "1", True, [1.0, 2.0], [[1.0]], [0.0] * 100_000, -1, 2**40]
)
def test_values_of_another_kind_are_not_harmless(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"llama\.logit_scale is"):
        load(tmp_path, extra={"llama.logit_scale": value})


@pytest.mark.parametrize("key", ["attention.sliding_window", "attn_logit_softcapping", "attention.scale"])
@pytest.mark.parametrize("value", ["9", True, -1, [1]])
def test_values_of_another_type_where_it_is_computed(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(PyggmlError, match=rf"llama\.{key} is .*expected"):
        load(tmp_path, extra={f"llama.{key}": value})


def test_experts_are_computed_as_the_file_says(tmp_path: Path) -> None:
    how = dict(n_expert=4, n_expert_used=2)
    with load(tmp_path, **how) as m:
        plain = m.logits(IDS)
    for key, value in (("expert_weights_scale", 2.5), ("expert_weights_norm", False), ("expert_gating_func", 2)):
        with load(tmp_path, extra={f"llama.{key}": value}, **how) as m:
            assert np.abs(m.logits(IDS) - plain).max() > 1e-3, key


# ---- windows -----------------------------------------------------------------------------------------------------


def test_a_window_of_every_layer_is_computed(tmp_path: Path) -> None:
    with load(tmp_path, window=8) as m:
        got = m.logits(IDS)
        assert m.n_ctx == 128
    with load(tmp_path) as m:
        whole = m.logits(IDS)
    assert np.abs(got[:8] - whole[:8]).max() < 1e-4 < np.abs(got[8:] - whole[8:]).max()


PATTERN = {"llama.attention.sliding_window_pattern": [True, False]}


@pytest.mark.parametrize(
    ("arch", "more"),
    [("qwen2", {}), ("qwen3", {}), ("llama", PATTERN), ("llama", {**PATTERN, "llama.rope.freq_base_swa": 1e4})],
)
def test_a_window_of_some_layers_bounds_the_context(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, arch: str, more: dict[str, Any]
) -> None:
    made = tiny.write(tmp_path / "x.gguf", arch, window=16, qk_norm=arch == "qwen3", extra=more)
    with caplog.at_level(logging.INFO, "pyggml"), pyggml.load(made.path, kv_type="f32") as m:
        assert m.n_ctx == 16
        want = transformer.forward(made.weights, IDS[:16], **{**made.oracle, "window": 0})
        assert np.abs(m.logits(IDS[:16]) - want).max() < 1e-4
        with pytest.raises(pyggml.ContextFull):
            m.logits(IDS)
    assert f"{arch}.attention.sliding_window" in caplog.text
    with pyggml.load(made.path, n_ctx=10) as m:
        assert m.n_ctx == 10
    with pytest.raises(UnsupportedError, match=rf"n_ctx 17.*{arch}\.attention\.sliding_window.*n_ctx=16"):
        pyggml.load(made.path, n_ctx=17)


def test_what_only_windows_have_means_nothing_without_one(tmp_path: Path) -> None:
    with load(tmp_path, extra={**PATTERN, "llama.rope.freq_base_swa": 5e5, "llama.attention.key_length_swa": 8}) as m:
        assert m.n_ctx == 128


@pytest.mark.parametrize(("key", "value"), [("rope.freq_base_swa", 5e5), ("attention.key_length_swa", 8)])
def test_what_differs_inside_windows_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(UnsupportedError, match=rf"llama\.{key} is"):
        load(tmp_path, window=16, extra={f"llama.{key}": value})


def test_windows_everywhere_may_be_said_twice(tmp_path: Path) -> None:
    with load(tmp_path, window=8, extra={"llama.attention.sliding_window_pattern": [True, True]}) as m:
        assert m.n_ctx == 128


# ---- keys nobody knows -------------------------------------------------------------------------------------------


def test_unknown_keys_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "pyggml"),
        load(tmp_path, extra=extra("llama", strangeness=7, vocab_size=260)) as m,
    ):
        assert m.config.unknown == ("llama.strangeness",)
    assert "llama.strangeness" in caplog.text
    assert "vocab_size" not in caplog.text


def test_files_in_use_hold_nothing_unknown(shared: Path) -> None:
    for name in ("llama", "llama__tied", "mistral", "mixtral", "qwen2", "qwen2__yarn", "qwen2_moe", "qwen3", "gemma3"):
        with pyggml.gguf.open(shared / f"conformance/{name}/model-f32.gguf") as file:
            c = Config.from_metadata(file.metadata)
        assert c.unknown == (), name
        assert name == "gemma3" or {each.key.partition(".")[2] for each in c.said} <= {
            "expert_count", "expert_used_count", "expert_shared_feed_forward_length", "expert_weights_norm"
        }, c.said  # fmt: skip


def test_a_hostile_number_of_keys_is_judged_soon(tmp_path: Path) -> None:
    c = Config.from_metadata(
        {
            "general.architecture": "x", "x.block_count": 1, "x.context_length": 8, "x.embedding_length": 8,
            "x.feed_forward_length": 8, "x.attention.head_count": 1, "x.attention.layer_norm_rms_epsilon": 1e-5,
            **{f"x.ssm.{i}": i for i in range(1 << 16)},
        }
    )  # fmt: skip
    assert len(c.said) == (1 << 16) - 1
