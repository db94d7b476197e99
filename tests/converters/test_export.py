"""GGUF -> safetensors: the tokenizer comes along, config.json says what the file computes, or the export is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from converters import checkpoint

import pyggml
from pyggml import arch, gguf
from pyggml.converters import export_tokenizer, ropes
from pyggml.tokenizer import from_metadata

TEXTS = ("the ant, then", "<|eos|>[word] the", "caf\u00e9 \U0001f600", "  two\n\nlines ", "")


@pytest.fixture
def src(tmp_path):
    path = checkpoint.folder(tmp_path / "src")
    checkpoint.safetensors(path / "model.safetensors", checkpoint.tensors())
    return path


def arch_keys(path) -> dict[str, object]:
    with gguf.open(path) as file:
        return {key: file.metadata[key] for key in file.metadata if key.startswith(f"{file.arch}.")}


def there_and_back(src, tmp_path, **changes):
    """The architecture's keys of a conversion, the exported config.json, and the keys after converting that."""
    (src / "config.json").write_text(json.dumps({**checkpoint.CONFIG, **changes}))
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    pyggml.convert(tmp_path / "x.gguf", tmp_path / "back")
    pyggml.convert(tmp_path / "back", tmp_path / "again.gguf", dtype="f32")
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    return arch_keys(tmp_path / "x.gguf"), config, arch_keys(tmp_path / "again.gguf")


@pytest.mark.parametrize(("token", "said"), [(2**32 - 1, None), (3, 3)])
def test_an_id_that_is_no_token_is_not_said(token, said, src, tmp_path):
    """Some files say that there is no padding by -1 as u32: a reader of config.json would take it as an id."""
    pyggml.convert(src, tmp_path / "x.gguf", metadata={"tokenizer.ggml.padding_token_id": token})
    pyggml.convert(tmp_path / "x.gguf", tmp_path / "back")
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["pad_token_id"] == said
    assert 2**32 - 1 not in json.loads((tmp_path / "back" / "generation_config.json").read_text()).values()


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}


@pytest.mark.parametrize(
    ("model_type", "matrices", "said"),
    [
        ("llama", ("self_attn.q_proj", "self_attn.o_proj"), {"attention_bias": True, "mlp_bias": False}),
        ("llama", ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"), {"attention_bias": False, "mlp_bias": True}),
        ("llama", (), {"attention_bias": False, "mlp_bias": False}),
        ("mistral", ("self_attn.q_proj",), "biases of 'attn_q': the config.json of a mistral model has no word"),
        ("qwen2", ("self_attn.q_proj", "mlp.up_proj"), "biases of 'ffn_up'"),
        ("qwen2", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), {}),
    ],
)
def test_biases_are_said(model_type, matrices, said, src, tmp_path):
    """A model of transformers reads those that its config.json tells of, and leaves the others out without a word."""
    weights = checkpoint.tensors()
    for name in list(weights):
        if name.removesuffix(".weight").endswith(matrices or "-"):
            weights[name.replace(".weight", ".bias")] = np.ones(len(weights[name]), np.float32)
    checkpoint.safetensors(src / "model.safetensors", weights)
    (src / "config.json").write_text(
        json.dumps(
            {**checkpoint.CONFIG, "model_type": model_type, "sliding_window": 64 if model_type == "mistral" else None}
        )
    )
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    if isinstance(said, str):
        with pytest.raises(pyggml.UnsupportedError, match=said):
            pyggml.convert(tmp_path / "x.gguf", tmp_path / "back")
        return
    pyggml.convert(tmp_path / "x.gguf", tmp_path / "back")
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert {key: value for key, value in config.items() if key.endswith("_bias")} == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "float32"}),
        ({"model_type": "mistral", "sliding_window": 40}, {"model_type": "mistral", "sliding_window": 40}),
        ({"rope_theta": 5e5}, {"rope_theta": 5e5}),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
            {"rope_scaling": {"rope_type": "linear", "factor": 2}},
        ),
        ({"rope_scaling": {**YARN, "beta_fast": 16.0}}, {"rope_scaling": {**YARN, "beta_fast": 16}}),
    ],
    ids=str,
)
def test_a_config_there_and_back(changes, said, src, tmp_path):
    first, config, second = there_and_back(src, tmp_path, **changes)
    assert first == second
    assert {key: config[key] for key in said} == said
    assert (config["num_key_value_heads"], config["head_dim"], config["bos_token_id"]) == (2, 16, 259)
    assert config["rope_theta"] == changes.get("rope_theta", 10000.0)  # a default of some model types is another


@pytest.mark.parametrize("told", [{"attention_factor": 1.3}, {"mscale": 0.7, "mscale_all_dim": 0.9}])
def test_the_magnitude_of_yarn_there_and_back(told, src, tmp_path):
    first, config, second = there_and_back(src, tmp_path, rope_scaling={**YARN, **told})
    assert second == pytest.approx(first)
    wanted = 1.3 if "attention_factor" in told else ropes.own_magnitude(4, 0.7) / ropes.own_magnitude(4, 0.9)
    assert config["rope_scaling"]["attention_factor"] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("key", "value"),
    [("logit_scale", 0.0625), ("attention.clamp_kqv", 8.0), ("attn_logit_softcapping", 50.0), ("expert_gating_func", 2),
     ("rope.dimension_count", 8), ("rope.scaling.yarn_log_multiplier", 0.1), ("attention.max_alibi_bias", 8.0)],
)  # fmt: skip
def test_what_config_json_cannot_say_is_refused(key, value, src, tmp_path):
    pyggml.convert(src, tmp_path / "x.gguf")
    with gguf.open(tmp_path / "x.gguf") as file, gguf.Writer(tmp_path / "y.gguf") as out:
        for name in file.metadata:
            if name != f"llama.{key}" and not name.startswith("tokenizer."):
                out.add(name, file.metadata[name])
        out.add(f"llama.{key}", value)
        for info in file.tensors.values():
            out.add_tensor(info.name, info.shape, info.type, info.data)
    with pytest.raises(pyggml.UnsupportedError, match=f"llama.{key}"):
        pyggml.convert(tmp_path / "y.gguf", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_the_tokenizer_comes_along(src, tmp_path):
    import tokenizers

    made = pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    assert (made.runs, made.why_not) == (True, "")
    back = pyggml.convert(tmp_path / "x.gguf", tmp_path / "back")
    assert (back.tokenizer, back.runs) == ("gpt2", False)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "back" / "tokenizer.json"))
    with gguf.open(tmp_path / "x.gguf") as file:
        ours = from_metadata(file.metadata)
    for text in TEXTS:
        assert theirs.encode(text, add_special_tokens=False).ids == ours.encode(text, add_special=False)
        assert theirs.encode(text).ids == (ours.encode(text) if text else [259])
    settings = json.loads((tmp_path / "back" / "tokenizer_config.json").read_text())
    assert (settings["bos_token"], settings["eos_token"]) == ("<|bos|>", "<|eos|>")
    assert settings["chat_template"] == "{{ messages }}"
    assert json.loads((tmp_path / "back" / "generation_config.json").read_text()) == {
        "bos_token_id": 259, "eos_token_id": 260}  # fmt: skip
    pyggml.convert(tmp_path / "back", tmp_path / "again.gguf", dtype="f32")
    with gguf.open(tmp_path / "x.gguf") as one, gguf.open(tmp_path / "again.gguf") as two:
        names = [key for key in one.metadata if key.startswith("tokenizer.")]
        assert len(names) > 8
        for key in names:
            assert list_of(one.metadata[key]) == list_of(two.metadata[key]), key


def list_of(value):
    return list(value) if hasattr(value, "__len__") and not isinstance(value, str) else value


def test_a_tokenizer_json_that_was_kept_comes_back_whole(tmp_path):
    src = checkpoint.folder(tmp_path / "src", regex=r"\p{L}{1,2}|[^\p{L}]+")
    checkpoint.safetensors(src / "model.safetensors", checkpoint.tensors())
    pyggml.convert(src, tmp_path / "x.gguf")
    pyggml.convert(tmp_path / "x.gguf", tmp_path / "back")
    kept = json.loads((tmp_path / "back" / "tokenizer.json").read_text())
    source = json.loads((src / "tokenizer.json").read_text())
    assert {key: value for key, value in kept.items() if value is not None} == source


def test_templates_by_name():
    named = {"tokenizer.chat_template": "a", "tokenizer.chat_template.tool_use": "b"}
    metadata = spm(named)
    settings = json.loads(export_tokenizer.files_of(metadata, 128)["tokenizer_config.json"])
    assert settings["chat_template"] == [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    assert settings["model_max_length"] == 128


def spm(more: dict[str, object] | None = None) -> dict[str, object]:
    """A small SentencePiece vocabulary: three special pieces, all bytes, and what makes "the ant"."""
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces += [(f"<0x{b:02X}>", 0.0, 6) for b in range(256)]
    words = ["th", "\u2581th", "\u2581the", "an", "\u2581an", "ant", "\u2581ant", *"\u2581thean,"]
    pieces += [(word, -float(i), 1) for i, word in enumerate(words)]
    pieces.append(("[word]", -1000.0, 4))
    return {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [p[0] for p in pieces], "tokenizer.ggml.scores": [p[1] for p in pieces],
        "tokenizer.ggml.token_type": [p[2] for p in pieces], "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False, **(more or {}),
    }  # fmt: skip


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_as_merges(prefix, tmp_path):
    import sentencepiece
    import tokenizers

    metadata = spm({"tokenizer.ggml.add_space_prefix": prefix})
    files = export_tokenizer.files_of(metadata, None)
    theirs, ours = tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode()), from_metadata(metadata)
    for text in ("the ant, then", "[word] the", "antthe</s> ant", "caf\u00e9 \U0001f600", "  two\n\nlines "):
        ids = ours.encode(text)
        assert theirs.encode(text).ids == ids
        assert theirs.decode(ids, skip_special_tokens=False) == ours.decode(ids)
    processor = sentencepiece.SentencePieceProcessor(model_proto=files["tokenizer.model"])
    assert processor.encode("the ant, then") == ours.encode("the ant, then", add_special=False)


LARGE = ("gpt-2", "llama-bpe", "llama-spm", "qwen2", "starcoder")
VOCABULARIES = ["bert-bge", "deepseek-coder", "phi-3", *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE)]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_whole_vocabularies(name, shared: Path):
    """Every text that llama.cpp tests its tokenizers with: the exported tokenizer.json gives the ids of ours."""
    import tokenizers

    path = shared / "vocab" / f"ggml-vocab-{name}.gguf"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    with gguf.open(path) as file:
        metadata = dict(file.metadata)
    files = export_tokenizer.files_of(metadata, None)
    theirs, ours = tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode()), from_metadata(metadata)
    texts = path.with_name(path.name + ".inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    assert len(texts) > 20
    for text in texts:
        if text:
            assert theirs.encode(text).ids == ours.encode(text), text


def test_what_cannot_be_run_is_said(shared, tmp_path, monkeypatch):
    """Of an architecture that has a converter before it runs."""
    runs = {name: module for name, module in arch._registry().items() if name != "gpt2"}
    monkeypatch.setattr(arch, "_registry", lambda: runs)
    monkeypatch.setitem(arch.NEEDS, "gpt2", "learned positions")
    made = pyggml.convert(shared / "conformance" / "gpt2" / "hf", tmp_path / "x.gguf")
    assert not made.runs
    assert "gpt2" in made.why_not
    assert "learned positions" in made.why_not


def test_a_folder_with_another_models_files_is_left_alone(src, tmp_path):
    """Readers would take its chat template, its tokenizer or its shards for this model's."""
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    for name in ("chat_template.jinja", "tokenizer.model", "model-00001-of-00002.safetensors", "added_tokens.json"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_bytes(b"another's")
        (folder / "config.json").write_bytes(b"another's")
        with pytest.raises(pyggml.ArgumentError, match=rf"holds files of another model.*{name}.*give a new folder"):
            pyggml.convert(tmp_path / "x.gguf", folder)
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == dict.fromkeys((name, "config.json"), b"another's")
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "README.md").write_text("notes")
    for _ in range(2):  # its own are replaced
        pyggml.convert(tmp_path / "x.gguf", tmp_path / "again")


@pytest.mark.parametrize("name", ["y.gguf", "model.safetensors", "m.BIN"])
def test_a_directory_is_not_named_as_a_file(name, src, tmp_path):
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    with pytest.raises(pyggml.ArgumentError, match=rf"{name}' ends as a file does.*give a name without an ending"):
        pyggml.convert(tmp_path / "x.gguf", tmp_path / name)
    assert not (tmp_path / name).exists()
    (tmp_path / name).mkdir()  # who made it so means it
    assert pyggml.convert(tmp_path / "x.gguf", tmp_path / name).arch == "llama"


def test_a_gguf_file_is_known_by_its_content(src, tmp_path):
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    blob = tmp_path / "sha256-0123"
    blob.write_bytes((tmp_path / "x.gguf").read_bytes())
    assert pyggml.convert(blob, tmp_path / "back").arch == "llama"
    assert pyggml.convert(src.rename(tmp_path / "folder.gguf"), tmp_path / "y.gguf").arch == "llama"
