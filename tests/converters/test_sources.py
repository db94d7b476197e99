"""Which weights of a folder are taken, names that wrappers changed, tied weights, and files that never arrived."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from converters import checkpoint
from converters.test_convert import decoded, expected, shards

import pyggml
from pyggml import gguf

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n"


@pytest.fixture
def src(tmp_path):
    path = checkpoint.folder(tmp_path / "src")
    checkpoint.safetensors(path / "model.safetensors", checkpoint.tensors())
    return path


def same(path, want):
    got = decoded(path)
    assert got.keys() == want.keys()
    assert all(np.array_equal(got[name], w) for name, w in want.items())


WRAPPED = {
    "compile": lambda name: "_orig_mod." + name,
    "ddp": lambda name: "module." + name,
    "peft": lambda name: "base_model.model." + name,
    "fsdp": lambda name: "_fsdp_wrapped_module." + name,
    "ddp of compile": lambda name: "module._orig_mod." + name,
    "compile of ddp of peft": lambda name: "_orig_mod.module.base_model.model." + name,
    "lightning": lambda name: "model." + name,
    "fsdp and checkpointing of each layer": lambda name: name.replace(
        "layers.0.", "layers.0._fsdp_wrapped_module._checkpoint_wrapped_module."
    ),
    "compile of each layer": lambda name: name.replace("layers.1.", "layers.1._orig_mod."),
    "peft without its adapter": lambda name: name.replace("q_proj.", "q_proj.base_layer."),
    "the text part of another model": lambda name: name.replace("model.", "model.language_model.", 1),
    "the text part as it was": lambda name: "language_model." + name,
    "the model without its head": lambda name: name.removeprefix("model."),
}


@pytest.mark.parametrize("how", WRAPPED)
def test_wrapped_names(how, src, tmp_path):
    checkpoint.safetensors(
        src / "model.safetensors", {WRAPPED[how](name): w for name, w in checkpoint.tensors().items()}
    )
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    same(tmp_path / "x.gguf", expected())


def test_a_name_that_stays_unknown(src, tmp_path):
    checkpoint.safetensors(src / "model.safetensors", checkpoint.tensors() | {"module.thing": np.ones(2, np.float32)})
    with pytest.raises(pyggml.GGUFError, match=r"'module.thing'"):
        pyggml.convert(src, tmp_path / "x.gguf")


def test_tied_weights_by_either_name(src, tmp_path, caplog):
    (src / "config.json").write_text(json.dumps({**checkpoint.CONFIG, "tie_word_embeddings": True}))
    weights, want = checkpoint.tensors(), expected()
    del want["output.weight"]
    head = weights.pop("lm_head.weight")
    for more in ({}, {"lm_head.weight": weights["model.embed_tokens.weight"]}):
        checkpoint.safetensors(src / "model.safetensors", weights | more)
        pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
        same(tmp_path / "x.gguf", want)
    assert "tie_word_embeddings" not in caplog.text
    checkpoint.safetensors(src / "model.safetensors", weights | {"lm_head.weight": head})
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")  # trained apart: transformers 5 does not tie them either
    same(tmp_path / "x.gguf", expected())
    assert "'lm_head.weight' differs from the embedding: it is kept" in caplog.text
    only_head = dict(weights)
    only_head["lm_head.weight"] = only_head.pop("model.embed_tokens.weight")
    checkpoint.safetensors(src / "model.safetensors", only_head)
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    same(tmp_path / "x.gguf", want)


def test_the_rows_of_the_embedding_count(src, tmp_path, caplog):
    (src / "config.json").write_text(json.dumps({**checkpoint.CONFIG, "vocab_size": 1000}))
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    with pyggml.gguf.open(tmp_path / "x.gguf") as file:
        assert file.metadata["llama.vocab_size"] == file.tensors["token_embd.weight"].shape[0]
    assert "vocab_size is 1000, the embedding has" in caplog.text


def test_what_is_unknown_is_said_first(src, tmp_path):
    """Not that the output is missing, where nothing has a name that is known."""
    weights = {f"student.{name}": w for name, w in checkpoint.tensors().items()}
    checkpoint.safetensors(src / "model.safetensors", weights)
    with pytest.raises(pyggml.GGUFError, match=r"tensors are not known in a llama model, the first is 'student\."):
        pyggml.convert(src, tmp_path / "x.gguf")


def test_an_output_that_is_not_stored(src, tmp_path, caplog):
    weights = checkpoint.tensors()
    del weights["lm_head.weight"]
    checkpoint.safetensors(src / "model.safetensors", weights)
    with pytest.raises(pyggml.GGUFError, match="tie_word_embeddings is false"):
        pyggml.convert(src, tmp_path / "x.gguf")
    silent = {key: value for key, value in checkpoint.CONFIG.items() if key != "tie_word_embeddings"}
    (src / "config.json").write_text(json.dumps(silent))
    pyggml.convert(src, tmp_path / "x.gguf")
    assert "the embedding serves" in caplog.text
    del weights["model.embed_tokens.weight"]
    checkpoint.safetensors(src / "model.safetensors", weights)
    with pytest.raises(pyggml.GGUFError, match="the embedding is missing"):
        pyggml.convert(src, tmp_path / "x.gguf")


def test_a_stale_index(src, tmp_path, caplog):
    """A whole model.safetensors goes before an index, as in transformers: whatever the index says."""
    stale = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (src / "model.safetensors.index.json").write_text(json.dumps(stale))
    with caplog.at_level(logging.INFO, "pyggml"):
        pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    assert "model.safetensors.index.json is not read" in caplog.text
    same(tmp_path / "x.gguf", expected())
    shards(src, {name: w * 2 for name, w in checkpoint.tensors().items()})
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    same(tmp_path / "x.gguf", expected())
    (src / "model.safetensors").unlink()
    checkpoint.torch_zip(src / "pytorch_model.bin", checkpoint.tensors())
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")  # now the shards, before other formats
    same(tmp_path / "x.gguf", {name: w * 2 for name, w in expected().items()})


@pytest.mark.parametrize("order", [("gate", "up"), ("up", "gate")])
def test_experts_in_one_tensor(order, tmp_path):
    """As transformers 5 holds them: gate and up of all experts one under another. The other order is another model."""
    rng = np.random.default_rng(1)
    config = {**checkpoint.CONFIG, "model_type": "qwen3_moe", "num_experts": 3, "num_experts_per_tok": 2,
              "moe_intermediate_size": 32, "norm_topk_prob": True}  # fmt: skip
    src = checkpoint.folder(tmp_path / "src", config)
    base = {name: w for name, w in checkpoint.tensors().items() if ".mlp." not in name}
    for i in range(2):
        base |= {f"model.layers.{i}.mlp.gate.weight": rng.normal(0, 1, (3, 64)).astype(np.float32)}
        base |= {f"model.layers.{i}.self_attn.{qk}_norm.weight": np.ones(16, np.float32) for qk in "qk"}
    parts = {name: rng.normal(0, 0.1, (3, *shape)).astype(np.float32)
             for name, shape in (("gate", (32, 64)), ("up", (32, 64)), ("down", (64, 32)))}  # fmt: skip
    single, joined = dict(base), dict(base)
    for i in range(2):
        at = f"model.layers.{i}.mlp.experts"
        single |= {f"{at}.{e}.{name}_proj.weight": np.ascontiguousarray(w[e]) for name, w in parts.items()
                   for e in range(3)}  # fmt: skip
        joined[f"{at}.gate_up_proj"] = np.concatenate([parts[name] for name in order], axis=1)
        joined[f"{at}.down_proj"] = parts["down"]
    for name, weights in (("single", single), ("joined", joined)):
        checkpoint.safetensors(src / "model.safetensors", weights)
        pyggml.convert(src, tmp_path / f"{name}.gguf", dtype="f32")
    one, other = decoded(tmp_path / "single.gguf"), decoded(tmp_path / "joined.gguf")
    assert one.keys() == other.keys()
    same = all(np.array_equal(one[name], other[name]) for name in one)
    assert same == (order == ("gate", "up"))


def test_layers_behind_a_sentence_encoder(src, tmp_path):
    kinds = ["Transformer", "Pooling", "Normalize"]
    for more in ([], ["Dense"]):
        modules = [{"idx": i, "type": f"sentence_transformers.models.{kind}"} for i, kind in enumerate(kinds + more)]
        (src / "modules.json").write_text(json.dumps(modules))
        if more:
            with pytest.raises(pyggml.UnsupportedError, match="Dense"):
                pyggml.convert(src, tmp_path / "x.gguf")
        else:
            pyggml.convert(src, tmp_path / "x.gguf")


def sentences(src: Path, **told: object) -> dict[str, np.ndarray]:
    """Two matrices behind the pooling, as EmbeddingGemma has them."""
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"), ("Dense", "3_Dense")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds]
    (src / "modules.json").write_text(json.dumps([*modules, {"path": "4_Normalize", "type": "models.Normalize"}]))
    (src / "1_Pooling").mkdir(exist_ok=True)
    (src / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    rng, made = np.random.default_rng(5), {}
    for name, shape in (("2_Dense", (96, 64)), ("3_Dense", (64, 96))):
        (src / name).mkdir(exist_ok=True)
        config = {"in_features": shape[1], "out_features": shape[0], "bias": False,
                  "activation_function": "torch.nn.modules.linear.Identity"}  # fmt: skip
        (src / name / "config.json").write_text(json.dumps({**config, **told}))
        made[name] = rng.normal(0, 0.1, shape).astype(np.float32)
        checkpoint.safetensors(src / name / "model.safetensors", {"linear.weight": made[name]})
    return made


def embedding_gemma(src: Path) -> None:
    """config.json and weights of a tiny one, over those of a Llama."""
    config = {key: value for key, value in checkpoint.CONFIG.items() if key != "rope_theta"} | {
        "model_type": "gemma3_text", "use_bidirectional_attention": True, "query_pre_attn_scalar": 16,
        "sliding_window": 8, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
        "layer_types": ["sliding_attention"] * 2,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": 1e4}
                            for kind in ("full_attention", "sliding_attention")},
    }  # fmt: skip
    (src / "config.json").write_text(json.dumps(config))
    tensors = {name: values for name, values in checkpoint.tensors().items() if name != "lm_head.weight"}
    for i in range(2):
        at = f"model.layers.{i}"
        for norm in ("pre_feedforward_layernorm", "post_feedforward_layernorm"):
            tensors[f"{at}.{norm}.weight"] = np.zeros(64, np.float32)
        for part in "qk":
            tensors[f"{at}.self_attn.{part}_norm.weight"] = np.zeros(16, np.float32)
    checkpoint.safetensors(src / "model.safetensors", tensors)


def test_matrices_behind_a_sentence_encoder(src, tmp_path):
    embedding_gemma(src)
    pyggml.convert(src, tmp_path / "bare.gguf", dtype="f32")
    made = sentences(src)
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    with pyggml.load(tmp_path / "x.gguf") as m, pyggml.load(tmp_path / "bare.gguf") as bare:
        assert m.metadata["gemma-embedding.dense_2_feat_out"] == 96
        row = bare.embed("the cat", normalize=False)
        want = made["3_Dense"] @ (made["2_Dense"] @ row)
        assert np.abs(m.embed("the cat", normalize=False) - want).max() < 1e-4 * np.abs(want).max()
    for told, message in (
        ({"bias": True}, r"2_Dense.*bias True"), ({"activation_function": "torch.nn.Tanh"}, "activation 'Tanh'"),
    ):  # fmt: skip
        sentences(src, **told)
        with pytest.raises(pyggml.UnsupportedError, match=message):
            pyggml.convert(src, tmp_path / "y.gguf")
    sentences(src)
    (src / "3_Dense" / "model.safetensors").unlink()
    with pytest.raises(pyggml.GGUFError, match=r"3_Dense.* holds no weights"):
        pyggml.convert(src, tmp_path / "y.gguf")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(("text", "cure"), [(LFS, "git lfs pull"), ("<!doctype html>\n<html>", "web page")])
def test_files_that_never_arrived(name, text, cure, src, tmp_path):
    (src / name).write_text(text)
    with pytest.raises(pyggml.GGUFError, match=cure) as caught:
        pyggml.convert(src, tmp_path / "x.gguf")
    assert name in str(caught.value)


def test_a_pointer_that_nobody_needs(src, tmp_path):
    (src / "pytorch_model.bin").write_text(LFS)
    pyggml.convert(src, tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("name", "content", "cure"),
    [("a.gguf", LFS, "git lfs pull"), ("b.gguf", "<html>", "/resolve/"), ("c.gguf", "Entry not found", "download"),
     ("model.safetensors", None, "pyggml convert"), ("", None, "pyggml convert")],
)  # fmt: skip
def test_what_load_is_given_instead_of_a_gguf(name, content, cure, src):
    if content is not None:
        (src / name).write_text(content)
    for call in (gguf.open, pyggml.load):
        with pytest.raises(pyggml.GGUFError, match=cure):
            call(src / name)


def test_a_folder_that_holds_a_gguf(tmp_path):
    (tmp_path / "m.Q4_K_M.gguf").write_bytes(b"GGUF")
    with pytest.raises(pyggml.GGUFError, match=r"name the file in it, .*m\.Q4_K_M\.gguf"):
        pyggml.load(tmp_path)
