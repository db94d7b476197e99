"""Reference models of transformers: logits at every position, greedy text, token vectors (conformance/README.md)."""

import json

import numpy as np
import pytest

import pyggml

NAMES = [
    "llama", "llama__tied", "mistral", "qwen2", "qwen2__yarn", "qwen3", "mixtral", "qwen2_moe",
    "gemma2", "gemma3", "gemma4", "phi3", "phi3__longrope", "gpt2", "deepseek_v2", "deepseek_v2__yarn", "deepseek_v3",
    "qwen3_5", "nemotron_h",
]  # fmt: skip
BOUND = 2e-4


@pytest.fixture(scope="module", params=NAMES)
def case(request, shared):
    folder = shared / "conformance" / request.param
    with np.load(folder / "reference.npz") as data:
        reference = dict(data)
    with pyggml.load(folder / "model-f32.gguf", kv_type="f32") as model:
        yield model, reference, json.loads((folder / "tokenization.json").read_text())


def error(got, want):
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize("k", [0, 1])
def test_logits_whole(case, k):
    model, ref, _ = case
    assert error(model.logits(ref[f"prompt_{k}"]), ref[f"logits_{k}"]) < BOUND


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("how", ["token by token", "random pieces"])
def test_logits_in_pieces(case, k, how):
    model, ref, _ = case
    rng = np.random.default_rng(k)
    left = ref[f"prompt_{k}"].tolist()
    session, rows = model.session(), []
    while left:
        n = 1 if how == "token by token" else int(rng.integers(1, 9))
        part, left = left[:n], left[n:]
        rows.append(session.step(part, len(part)).reshape(len(part), -1))
    assert error(np.concatenate(rows), ref[f"logits_{k}"]) < BOUND


@pytest.mark.parametrize("k", [0, 1])
def test_greedy(case, k):
    model, ref, _ = case
    session = model.session()
    logits = session.step(ref[f"prompt_{k}"])
    for want in ref[f"greedy_{k}"]:
        assert int(logits.argmax()) == want
        logits = session.step([want])


def test_tokenization(case):
    model, _, vectors = case
    for v in vectors["strings"]:
        either = [v["ids"]] + ([v["llamacpp_ids"]] if "llamacpp_ids" in v else [])
        assert model.tokenize(v["text"]) in either, v["text"]
        if len(either) == 1:
            assert model.tokenize(v["text"], add_special=False) == v["ids_no_special"], v["text"]
        assert model.detokenize(v["ids_no_special"]) == v["decoded"], v["text"]
        assert model.detokenize(v["ids"], skip_special=True) == v["decoded_skip_special"], v["text"]


def test_decode_only(case):
    model, _, vectors = case
    for v in vectors["decode_only"]:
        assert model.detokenize(v["ids"]) == v["decoded"]


def test_stream_decoding_equals_decoding(case):
    """Where the bytes are valid UTF-8; for broken runs transformers looks back, which a stream cannot."""
    model, _, vectors = case
    texts = [v for v in (*vectors["strings"], *vectors["decode_only"]) if "\ufffd" not in v["decoded"]]
    assert len(texts) > 50
    for v in texts:
        ids = v.get("ids_no_special", v["ids"])
        decoder = model.tokenizer.stream_decoder(skip_special=False)
        assert "".join([decoder.push(i) for i in ids]) + decoder.finish() == v["decoded"]


def test_stories_tells_its_story(shared, golden):
    """The first 100 greedy tokens of stories260K are llama.cpp's (golden/make_stories.py)."""
    want = json.loads((golden / "stories260K.json").read_text())
    with pyggml.load(shared / "models" / "stories260K.gguf") as m:
        for kind in want["prompts"]:
            assert m.tokenize(kind["prompt"]) == kind["prompt_ids"]
            c = m.generate(kind["prompt"], max_tokens=100, temperature=0)
            assert c.tokens == kind["ids"]


def test_a_continued_text_keeps_the_blank_before_its_first_word(shared):
    with pyggml.load(shared / "models" / "stories260K.gguf") as m:
        c = m.generate("Lily and Tom went to the", max_tokens=3, temperature=0)
        assert c.text.startswith(" ")
        whole = m.detokenize([*m.tokenize("Lily and Tom went to the", add_special=False), *c.tokens])
        assert whole == "Lily and Tom went to the" + c.text
        assert not m.generate("", max_tokens=3, temperature=0).text.startswith(" ")
