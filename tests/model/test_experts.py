"""A random Qwen3-MoE of transformers against the same weights in a GGUF: router, weights that sum to 1, experts.

Needs torch and transformers; the conformance models cover Mixtral and Qwen2-MoE everywhere.
"""

import numpy as np
import pytest
from model import tiny

import pyggml

SIZES = dict(n_embd=64, n_head=4, n_head_kv=2, head_dim=32, n_ff=48, n_expert=16, n_expert_used=4)
IDS = [256, *np.random.default_rng(3).integers(0, 256, 60).tolist()]


def names(n_layer, n_expert):
    """Name in transformers -> name in GGUF and which expert of the stack."""
    found = {
        "model.embed_tokens.weight": ("token_embd.weight", None),
        "model.norm.weight": ("output_norm.weight", None),
        "lm_head.weight": ("output.weight", None),
    }
    parts = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate": "ffn_gate_inp",
    }  # fmt: skip
    for i in range(n_layer):
        found |= {f"model.layers.{i}.{a}.weight": (f"blk.{i}.{b}.weight", None) for a, b in parts.items()}
        for e in range(n_expert):
            for part in ("gate", "up", "down"):
                theirs = f"model.layers.{i}.mlp.experts.{e}.{part}_proj.weight"
                found[theirs] = (f"blk.{i}.ffn_{part}_exps.weight", e)
    return found


@pytest.mark.slow
def test_qwen3moe_equals_transformers(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    made = tiny.write(tmp_path / "x.gguf", "qwen3moe", qk_norm=True, **SIZES)
    config = transformers.Qwen3MoeConfig(
        vocab_size=260, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        intermediate_size=96, moe_intermediate_size=48, num_experts=16, num_experts_per_tok=4, norm_topk_prob=True,
        rms_norm_eps=1e-5, tie_word_embeddings=False, max_position_embeddings=128, rope_theta=10000.0,
        attention_bias=False, decoder_sparse_step=1, mlp_only_layers=[],
    )  # fmt: skip
    theirs = transformers.Qwen3MoeForCausalLM(config).eval().float()
    state = theirs.state_dict()
    fused = {name for name in state if name.endswith(("experts.gate_up_proj", "experts.down_proj"))}
    for name, (ours, expert) in names(2, 16).items():
        values = made.weights[ours] if expert is None else made.weights[ours][expert]
        if name in state:
            state[name] = torch.from_numpy(values.copy())
        else:
            assert fused, name
            assert expert is not None, name
    for name in fused:  # newer versions keep the experts of a layer in two tensors
        b = f"blk.{name.split('.')[2]}.ffn_"
        stacks = [made.weights[f"{b}{part}_exps.weight"] for part in ("gate", "up", "down")]
        values = stacks[2] if name.endswith("down_proj") else np.concatenate(stacks[:2], axis=1)
        assert state[name].shape == values.shape, name
        state[name] = torch.from_numpy(values.copy())
    theirs.load_state_dict(state)
    with torch.no_grad():
        want = theirs(torch.tensor([IDS])).logits[0].numpy()
    with pyggml.load(made.path, kv_type="f32") as m:
        for got in (m.logits(IDS), np.concatenate([m.logits(IDS[: i + 1])[-1:] for i in range(len(IDS))])):
            assert np.abs(got - want).max() / np.abs(want).max() < 2e-5
