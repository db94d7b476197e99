"""The rows of arch/decoders.py against random models of transformers: whole, token by token, and on every level.

Needs torch and transformers; the conformance models cover Llama, Qwen, Gemma 2 and 3 and Phi-3 everywhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model.published import POST, Family, make

import pyggml
from pyggml import _native

IDS = [1, *np.random.default_rng(3).integers(0, 260, 60).tolist()]

FAMILIES = {
    "gemma": Family(
        "gemma", "GemmaConfig", dict(head_dim=24, hidden_activation="gelu_pytorch_tanh"), one_more=True
    ),
    "gemma2": Family(
        "gemma2", "Gemma2Config",
        dict(head_dim=24, query_pre_attn_scalar=24, sliding_window=9, attn_logit_softcapping=2.0,
             final_logit_softcapping=3.0),
        POST, {"attention.sliding_window": 9, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        one_more=True,
    ),
    "gemma3": Family(
        "gemma3", "Gemma3TextConfig",
        dict(num_hidden_layers=7, head_dim=24, query_pre_attn_scalar=24, sliding_window=9, rope_theta=1e6,
             rope_local_base_freq=1e4),
        POST, {"attention.sliding_window": 9, "rope.freq_base": 1e6}, one_more=True,
    ),
    "granite": Family(
        "granite", "GraniteConfig",
        dict(embedding_multiplier=12.0, attention_multiplier=0.1, residual_multiplier=0.22, logits_scaling=8.0),
        meta={"embedding_scale": 12.0, "attention.scale": 0.1, "residual_scale": 0.22, "logit_scale": 8.0},
        turned=True,
    ),
    "olmo2": Family(
        "olmo2", "Olmo2Config", dict(rms_norm_eps=1e-6),
        {"post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"},
    ),
    "starcoder2": Family(
        "starcoder2", "Starcoder2Config", dict(norm_epsilon=1e-5, use_bias=True, sliding_window=None),
        {"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"},
        {"attention.layer_norm_epsilon": 1e-5, "attention.layer_norm_rms_epsilon": None},
    ),
    "phi3": Family(
        "phi3", "Phi3Config", dict(sliding_window=7, rms_norm_eps=1e-6),
        {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}, {"attention.sliding_window": 7},
    ),
    "smollm3": Family("smollm3", "SmolLM3Config", dict(rope_theta=1e4), turned=True),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_equals_transformers(tmp_path: Path, name: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    path = tmp_path / "x.gguf"
    want = make(FAMILIES[name], path, IDS)
    for isa in _native.isa_levels():
        _native.isa_force(isa)
        try:
            with pyggml.load(path, kv_type="f32") as m:
                s = m.session()
                got = m.logits(IDS), np.stack([s.step([each]) for each in IDS])
        finally:
            _native.isa_force(None)
        for each in got:
            assert np.abs(each - want).max() / np.abs(want).max() < 2e-5, isa
