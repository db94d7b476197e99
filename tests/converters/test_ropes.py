"""YaRN and Llama 3.1: numbers worked out by hand from the formulas of transformers/modeling_rope_utils.py."""

from __future__ import annotations

import math

import pytest
from converters.test_config_json import LLAMA, meta

import pyggml
from pyggml.converters import families, ropes
from pyggml.converters.config_json import Config

OWN = 0.1 * math.log(4.0) + 1  # what runtimes multiply cosine and sine by on their own, 1.1386...
DEEPSEEK = {
    **{k: v for k, v in LLAMA.items() if k != "head_dim"}, "model_type": "deepseek_v2", "kv_lora_rank": 16,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "q_lora_rank": None, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_shared_experts": 1,
}  # fmt: skip

# rope_scaling beside type and factor 4 -> the factor of cosine and sine that transformers computes
MAGNITUDES = [
    ({}, 1.1386294361),
    ({"attention_factor": 1.3}, 1.3),
    ({"attention_factor": 1.0}, 1.0),
    ({"mscale": 1.0, "mscale_all_dim": 1.0}, 1.0),
    # (0.1 * 0.7 * ln 4 + 1) / (0.1 * 0.9 * ln 4 + 1) = 1.0970406053 / 1.1247664925
    ({"mscale": 0.7, "mscale_all_dim": 0.9}, 0.9753496504),
    ({"mscale": 0.7}, 1.1386294361),  # only both together count
    ({"mscale_all_dim": 0.7}, 1.1386294361),
    ({"mscale": 0, "mscale_all_dim": 0.7}, 1.1386294361),
    ({"attention_factor": 1.2, "mscale": 0.7, "mscale_all_dim": 0.9}, 1.2),
]


@pytest.mark.parametrize(("said", "wanted"), MAGNITUDES, ids=[str(s) for s, _ in MAGNITUDES])
def test_the_magnitude_of_yarn(said, wanted):
    rule = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, **said}
    found = meta(LLAMA, rope_scaling=rule)
    assert found.get("llama.rope.scaling.attn_factor", 1.0) * OWN == pytest.approx(wanted, abs=1e-9)
    assert ropes.attention_factor(found.get("llama.rope.scaling.attn_factor", 1.0), 4.0) == pytest.approx(wanted)


def test_the_context_of_yarn():
    def kept(**said):
        found = meta(LLAMA, **said)
        return [found[f"llama.rope.scaling.{key}"] for key in ("factor", "original_context_length")]

    rule = {"rope_type": "yarn", "factor": 4.0}
    assert kept(rope_scaling=rule) == [4.0, 128]  # max_position_embeddings
    assert kept(rope_scaling={**rule, "original_max_position_embeddings": 32}) == [4.0, 32]
    # the key beside the object goes first, as in transformers
    assert kept(rope_scaling={**rule, "original_max_position_embeddings": 32}, original_max_position_embeddings=64) == [
        4.0, 64]  # fmt: skip
    assert kept(rope_scaling={"type": "yarn", "factor": None, "original_max_position_embeddings": 16}) == [8.0, 16]
    found = meta(LLAMA, rope_scaling={**rule, "beta_fast": 16, "beta_slow": 0, "truncate": True, "finetuned": True})
    assert found["llama.rope.scaling.yarn_beta_fast"] == 16.0
    assert "llama.rope.scaling.yarn_beta_slow" not in found  # 0 stands for the default
    assert "llama.rope.scaling.attn_factor" not in meta(LLAMA, rope_scaling={**rule, "factor": 1.0})


def test_the_magnitude_of_latent_attention():
    rule = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32}
    found = meta(DEEPSEEK, rope_scaling={**rule, "mscale": 0.707, "mscale_all_dim": 0.707})
    assert found["deepseek2.rope.scaling.yarn_log_multiplier"] == pytest.approx(0.0707)
    assert "deepseek2.rope.scaling.attn_factor" not in found
    for said in ({"mscale": 1.0, "mscale_all_dim": 0.707}, {"mscale_all_dim": 0.707},
                 {"mscale": 1.0, "mscale_all_dim": 1.0, "attention_factor": 1.0}):  # fmt: skip
        with pytest.raises(pyggml.UnsupportedError, match=r"mscale|attention_factor"):
            meta(DEEPSEEK, rope_scaling={**rule, **said})


@pytest.mark.parametrize("model_type", ["llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe"])
def test_llama3_factors_come_with_every_family_that_runs(model_type):
    rule = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64}  # fmt: skip
    config = Config({**LLAMA, "model_type": model_type, "rope_parameters": rule}, "config.json")
    factors = families.find(model_type).extra(config)["rope_freqs.weight"]
    # waves of 6.3, 20 and 63 tokens: below 64 / 4 unchanged, from 64 / 1 on by 8, between 1 / ((1 - s) / 8 + s) with
    # s = (64 / (2 pi 10^(1/2)) - 1) / 3
    s = (64 / (2 * math.pi * math.sqrt(10)) - 1) / 3
    assert factors[:2].tolist() == pytest.approx([1.0, 1 / ((1 - s) / 8 + s)], rel=1e-6)
    assert factors[3:].tolist() == [8.0] * 5
