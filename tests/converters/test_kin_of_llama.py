"""Families near Llama against transformers: the same logits, the same keys after the way back, or a refusal by name.

Tiny random models, saved by transformers, norms included; one change of the config at a time.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from converters import checkpoint
from converters.test_transformers import BASE, IDS, LLAMA3, YARN, again, keys_of, saved

import pyggml

pytestmark = pytest.mark.slow

SLIDING, FULL = "sliding_attention", "full_attention"
TIED = {"tie_word_embeddings": True}
UNTIED = {"tie_word_embeddings": False}
HEAD = {"head_dim": 24}
BIASES = {"attention_bias": True, "mlp_bias": True}
SCALES = {"embedding_multiplier": 12.0, "attention_multiplier": 0.1, "residual_multiplier": 0.22, "logits_scaling": 8.0}


def turned(**rope: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, **rope}}


def by_kind(theta: float, **rope: Any) -> dict[str, Any]:
    return {"rope_parameters": {SLIDING: {"rope_type": "default", "rope_theta": theta},
                                FULL: {"rope_type": "default", "rope_theta": 5e5, **rope}}}  # fmt: skip


STRETCHED = turned(rope_type="dynamic", alpha=50.0, factor=1.0)
FIVE = {"num_hidden_layers": 5}
CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    # model type -> what all models are told, changes
    "olmo2": ({}, [{}, TIED, turned(**YARN), {**HEAD, "attention_bias": True, "hidden_size": 96}, turned(**LLAMA3)]),
    "olmo3": (
        {**FIVE, "sliding_window": 9},
        [{}, TIED, {"layer_types": [FULL, SLIDING, SLIDING, FULL, SLIDING]}, by_kind(5e5, **YARN), by_kind(1e4),
         {"layer_types": [FULL] * 5}, {"layer_types": [FULL] * 5, **by_kind(1e4, **YARN)}],
    ),
    "olmoe": (
        {"num_experts": 6, "num_experts_per_tok": 2},
        [{}, {"norm_topk_prob": True, **TIED}, turned(rope_type="linear", factor=2.0)],
    ),
    "granite": (SCALES, [{}, TIED, dict.fromkeys(SCALES, 1.0), {**BIASES, **turned(**LLAMA3)}]),
    "granitemoe": ({**SCALES, "num_local_experts": 6, "num_experts_per_tok": 2}, [{}, TIED, {"attention_bias": True}]),
    "smollm3": (FIVE, [{}, UNTIED, {**BIASES, **turned(**YARN)}, {"num_hidden_layers": 3, "rope_parameters": None}]),
    "seed_oss": (
        HEAD,
        [{}, {"attention_bias": False, "attention_out_bias": True, **TIED}, {"mlp_bias": True, **turned(**YARN)}],
    ),
    "exaone4": (
        {**FIVE, "sliding_window": 9},
        [{}, TIED, {"sliding_window_pattern": 2}, {"layer_types": [FULL, SLIDING, SLIDING, FULL, FULL]},
         {"sliding_window": None, "layer_types": [FULL] * 5}, {"sliding_window": 200}, turned(**LLAMA3)],
    ),
    "arcee": ({}, [{}, TIED, {**HEAD, **BIASES}, turned(**YARN)]),
    "apertus": (
        {}, [{"rope_parameters": None}, {**HEAD, **turned(), **TIED}, {"attention_bias": True, **turned(**YARN)}]
    ),
    "nemotron": ({"norm_eps": 1e-5}, [{}, {**HEAD, **TIED}, BIASES, turned(partial_rotary_factor=0.25), turned()]),
    "glm4": (
        HEAD,
        [{}, {"attention_bias": False, **TIED}, turned(partial_rotary_factor=0.25),
         turned(**YARN, partial_rotary_factor=0.5)],
    ),
    "glm4_moe": (
        {"num_hidden_layers": 3, "head_dim": 16, "n_routed_experts": 8, "num_experts_per_tok": 2,
         "moe_intermediate_size": 32, "first_k_dense_replace": 1},
        [{}, {"use_qk_norm": True, "attention_bias": True, "n_group": 4, "topk_group": 2, "first_k_dense_replace": 2},
         {"norm_topk_prob": False, "routed_scaling_factor": 1.5, "n_shared_experts": 2, **TIED}],
    ),
    "ernie4_5": (HEAD, [{}, UNTIED, {"use_bias": True, **turned(**YARN)}, {"rope_parameters": None}]),
    "ernie4_5_moe": (
        {"num_hidden_layers": 4, "moe_num_experts": 6, "moe_k": 2, "moe_intermediate_size": 32},
        [{}, {"moe_layer_start_index": 0, **UNTIED}, {"moe_layer_interval": 2, "moe_num_shared_experts": 1},
         {"moe_num_shared_experts": 0}, turned(**YARN)],
    ),
    "hunyuan_v1_dense": (HEAD, [{}, TIED, {"attention_bias": True}, STRETCHED]),
    "hunyuan_v1_moe": (
        {**HEAD, "num_experts": 6, "moe_topk": 2},
        [{}, TIED, {"moe_topk": [2, 2]}, STRETCHED],
    ),
}  # fmt: skip
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    *((model_type, {"hidden_act": "gelu"}, "hidden_act") for model_type in CASES),
    *((model_type, {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "rope_type")
      for model_type in CASES),
    ("olmo2", {"clip_qkv": 8.0}, "clip_qkv"), ("olmoe", {"clip_qkv": 8.0}, "clip_qkv"),
    ("olmo3", {"sliding_window": None}, "sliding_window"),
    ("olmo3", {"layer_types": [SLIDING, "chunked_attention", FULL, FULL, FULL]}, "layer_types"),
    ("olmo3", by_kind(1e4) | {"rope_parameters": {SLIDING: {"rope_theta": 1e4, **YARN}}}, "rope_type"),
    ("smollm3", {"no_rope_layers": [1] * 5}, "no_rope_layers"),
    ("smollm3", {"use_sliding_window": True, "sliding_window": 8, "layer_types": [SLIDING] * 5}, "sliding_window"),
    ("exaone4", {"layer_types": [FULL] * 5}, "layer_types"),
    ("exaone4", {"layer_types": None, "sliding_window_pattern": "LLLG"}, "sliding_window_pattern"),
    ("exaone4", {"sliding_window": None}, "layer_types"),
    ("seed_oss", {"partial_rotary_factor": 0.5, "rope_parameters": {}}, "partial_rotary_factor"),
    ("granite", {"shared_intermediate_size": 32}, "shared_intermediate_size"),
    ("nemotron", turned(**LLAMA3), "rope_type"), ("glm4", turned(**LLAMA3), "rope_type"),
    ("ernie4_5_moe", {"moe_layer_end_index": 2}, "moe_layer_end_index"),
    ("ernie4_5_moe", {"use_bias": True}, "use_bias"), ("hunyuan_v1_moe", {"num_shared_expert": 2}, "num_shared_expert"),
    ("hunyuan_v1_moe", {"moe_topk": [1, 2]}, "moe_topk"),
    ("hunyuan_v1_moe", {"moe_intermediate_size": [48, 48]}, "moe_intermediate_size"),
    ("hunyuan_v1_dense", {"use_qk_norm": False}, "use_qk_norm"),
]  # fmt: skip


@pytest.mark.parametrize("model_type", CASES)
def test_the_same_logits_and_the_same_keys_again(model_type, tmp_path):
    told, changes = CASES[model_type]
    for i, change in enumerate(changes):
        shown = f"{model_type} with {change}"
        want = saved(tmp_path / str(i), model_type, {**BASE, **told, **change}, norms=0.2)
        pyggml.convert(tmp_path / str(i), tmp_path / f"{i}.gguf", dtype="f32")
        with pyggml.load(tmp_path / f"{i}.gguf", kv_type="f32", n_ctx=128) as model:
            assert np.abs(model.logits(IDS) - want).max() < 2e-5 * np.abs(want).max(), shown
        assert again(tmp_path, i) == keys_of(tmp_path / f"{i}.gguf"), f"{shown}, exported"
        assert np.abs(of_transformers(tmp_path / f"back{i}") - want).max() < 2e-5 * np.abs(want).max(), shown


SEEING = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "out_hidden_size": 64,
          "image_size": 28, "patch_size": 14}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "told"),
    [("Glm4v", {}),
     ("Glm4vMoe", {"head_dim": 16, "n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                   "first_k_dense_replace": 1, "routed_scaling_factor": 1.5})],
)  # fmt: skip
def test_the_decoder_of_a_model_that_sees(name, told, tmp_path):
    """Its tower stays behind; in a text every axis of a position says the same."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    ropes = turned(partial_rotary_factor=0.5, mrope_section=[2, 1, 1])
    config = getattr(transformers, f"{name}Config")(text_config={**BASE, **told, **ropes}, vision_config=SEEING)
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval().float()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.08 + (1.0 if weight.ndim == 1 else 0.0))
        want = model(torch.tensor([IDS])).logits[0].numpy()
    model.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").write_text(json.dumps(checkpoint.tokenizer_json()))
    pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf", dtype="f32")
    with pyggml.load(tmp_path / "x.gguf", kv_type="f32", n_ctx=128) as read:
        assert np.abs(read.logits(IDS) - want).max() < 2e-5 * np.abs(want).max()
    path = tmp_path / "hf" / "config.json"
    path.write_text(path.read_text().replace('"mrope_section": [', '"mrope_section": [ 1,'))
    with pytest.raises(pyggml.UnsupportedError, match="mrope_section"):
        pyggml.convert(tmp_path / "hf", tmp_path / "y.gguf")


def of_transformers(path) -> np.ndarray:
    """What transformers computes with an exported directory, none of whose weights it misses."""
    import torch
    import transformers

    model, told = transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    with torch.no_grad():
        found: np.ndarray = model.eval()(torch.tensor([IDS])).logits[0].numpy()
    return found


@pytest.mark.parametrize("model_type", CASES)
def test_other_mathematics_is_refused_by_name(model_type, tmp_path):
    saved(tmp_path / "hf", model_type, {**BASE, **CASES[model_type][0]})
    path = tmp_path / "hf" / "config.json"
    config = json.loads(path.read_text())
    for change, named in [(change, named) for each, change, named in REFUSED if each == model_type]:
        path.write_text(json.dumps({**config, **change}))
        with pytest.raises(pyggml.UnsupportedError, match=named):
            pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"alpha_n": None}, "layers.1.mlp.act_fn.alpha_n is missing"), ({"beta": None, "eps": None}, ""),
     ({"eps": np.float32(-0.1)}, "act_fn.eps is -0.1"), ({"alpha_p": np.ones(2, np.float32)}, r"\[2\], expected one")],
)  # fmt: skip
def test_the_curves_of_apertus(changed, named, tmp_path):
    """beta and eps have values where a checkpoint has none; a curve is whole, or the conversion says what it lacks."""
    numpy = pytest.importorskip("safetensors.numpy")
    saved(tmp_path / "hf", "apertus", {**BASE, **turned()})
    path = tmp_path / "hf" / "model.safetensors"
    tensors = numpy.load_file(path)
    for name, value in changed.items():
        del tensors[f"model.layers.1.mlp.act_fn.{name}"]
        if value is not None:
            tensors[f"model.layers.1.mlp.act_fn.{name}"] = value
    numpy.save_file({name: np.asarray(value) for name, value in tensors.items()}, path)
    if named:
        with pytest.raises(pyggml.PyggmlError, match=named):
            pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf")
        return
    pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf")
    told = keys_of(tmp_path / "x.gguf")
    assert told["apertus.xielu.beta"] == [0.5, 0.5]
    assert np.allclose(told["apertus.xielu.eps"], -1e-6, rtol=1e-2)


@pytest.mark.parametrize("model_type", CASES)
def test_every_key_is_known(model_type):
    """A key of transformers' configuration is read, has a meaning here, or is known to have none."""
    transformers = pytest.importorskip("transformers")
    from pyggml.converters import families
    from pyggml.converters.config_json import Config
    from pyggml.converters.meaning import MEANING, PLAIN

    values = transformers.AutoConfig.for_model(model_type, **{**BASE, **CASES[model_type][0]}).to_dict()
    family = families.find(model_type)
    c = Config(values, "config.json", family.defaults)
    family.of_config(c)
    left = {key for key, _ in c.left()} - MEANING.keys() - PLAIN - family.computes.keys()
    assert {key for key in left if "dropout" not in key} == set()
