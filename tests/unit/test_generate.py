"""The public calls on the bundled model: what they promise, and what they refuse."""

import contextlib
import inspect
import json
import logging
from typing import get_type_hints

import numpy as np
import pytest

import pyggml


@pytest.fixture(scope="module")
def m():
    with pyggml.load() as model:
        yield model


def test_completion_has_its_parts(m):
    c = m.generate("Once upon a time", max_tokens=12, seed=1)
    assert str(c) == c.text
    assert c.text
    assert c.usage.prompt_tokens == len(m.tokenize("Once upon a time"))
    assert c.usage.completion_tokens == len(c.tokens) <= 12
    assert c.usage.total_tokens == c.usage.prompt_tokens + c.usage.completion_tokens
    assert c.timings.prompt_seconds > 0
    assert c.finish_reason in ("stop", "length")
    assert m.detokenize(c.tokens) == c.text


def test_greedy_equals_argmax_of_logits():
    """Over an f32 cache: attention over others may take 16-bit forms for many queries (docs/adr/0011)."""
    with pyggml.load(kv_type="f32") as m:
        ids = m.tokenize("The king had")
        want = []
        for _ in range(10):
            want.append(int(m.logits(ids + want)[-1].argmax()))
        assert m.generate(ids, max_tokens=10, temperature=0).tokens == want


def test_golden_story(m, golden):
    """What llama.cpp tells with the same file (golden/make_tales.py)."""
    want = json.loads((golden / "tales.json").read_text())
    for case in want["prompts"]:
        assert m.tokenize(case["prompt"]) == case["prompt_ids"]
        logits = m.logits(case["prompt_ids"])[-1]
        top = np.argsort(-logits)[:5].tolist()
        assert top[0] == case["top"][0]
        assert len(set(top) & set(case["top"])) >= 4


def test_stream_is_generate_in_pieces(m):
    s = m.stream("Once upon a time", max_tokens=30, seed=2)
    text = "".join(s)
    assert text == m.generate("Once upon a time", max_tokens=30, seed=2).text == s.result.text


def test_seeds(m):
    one = [m.generate("Once", max_tokens=20, seed=9).text for _ in range(2)]
    assert one[0] == one[1]
    assert len({m.generate("Once", max_tokens=20).text for _ in range(4)}) > 1


def test_lists_of_prompts_give_lists(m):
    both = m.generate(["Once upon", [5, 6, 7]], max_tokens=4, temperature=0)
    assert [c.tokens for c in both] == [
        m.generate("Once upon", max_tokens=4, temperature=0).tokens,
        m.generate([5, 6, 7], max_tokens=4, temperature=0).tokens,
    ]


def test_stop_strings_end_and_are_cut(m):
    full = m.generate("Once upon a time", max_tokens=40, temperature=0).text
    word = full[10:14]
    c = m.generate("Once upon a time", max_tokens=40, temperature=0, stop=word)
    assert c.finish_reason == "stop"
    assert c.text == full[: full.index(word)]


def test_ids_are_used_as_they_are(m):
    assert m.generate([7, 8], max_tokens=1).usage.prompt_tokens == 2
    assert m.tokenize("Once")[0] == m.tokenizer.bos_id


def test_empty_prompt_starts_from_bos(m):
    assert (
        m.generate("", max_tokens=3, temperature=0).tokens
        == m.generate([m.tokenizer.bos_id], max_tokens=3, temperature=0).tokens
    )


def test_prompt_longer_than_the_context_says_both_numbers():
    with pyggml.load(n_ctx=64) as m, pytest.raises(pyggml.ContextFull, match=r"100.*64"):
        m.generate([5] * 100)


def test_generation_ends_when_the_context_is_full():
    with pyggml.load(n_ctx=32) as m:
        c = m.generate([5] * 20, max_tokens=None, temperature=0.8, seed=1)
        assert c.finish_reason in ("length", "stop")
        assert c.usage.total_tokens <= 33


def test_max_tokens_zero(m):
    c = m.generate("Once", max_tokens=0)
    assert (c.text, c.tokens, c.finish_reason) == ("", [], "length")


@pytest.mark.parametrize(
    "bad",
    [
        dict(temperature=-1), dict(temperature=float("nan")), dict(top_p=1.5), dict(min_p=-0.1), dict(top_k=-1),
        dict(repeat_penalty=0), dict(max_tokens=-1), dict(max_tokens=1.5), dict(seed="x"), dict(stop=[""]),
        dict(top_k=2.5), dict(logprobs=-1),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(m, bad):
    with pytest.raises(pyggml.PyggmlError):
        m.generate("Once", **bad)


def test_settings_stand_in_one_table(m):
    """The typed dict, the signatures, the sampler of the core and the command line say what the table says."""
    from typer.main import get_command

    from pyggml.cli.app import app
    from pyggml.engine.sampling import _BESIDE, SAMPLING, SamplingSettings
    from pyggml.engine.settings import SETTINGS, Settings

    assert set(get_type_hints(Settings)) == set(SETTINGS)
    assert list(get_type_hints(SamplingSettings)) == list(SAMPLING)
    defaults = {name: each.default for name, each in SETTINGS.items()}
    for call, changed in ((m.generate, {}), (m.stream, {}), (m.chat, {"max_tokens": None})):
        shown = inspect.signature(call).parameters
        assert {name: shown[name].default for name in SETTINGS} == defaults | changed
    native = {name: 1 for name in SAMPLING if name not in _BESIDE} | {"mirostat": 0}
    with pytest.raises(TypeError):
        pyggml._native.Sampler(4, **native, more=1)
    assert pyggml._native.Sampler(4, **native).n_vocab == 4
    commands = get_command(app).commands
    for name, changed in (("run", {"max_tokens": 256}), ("chat", {"max_tokens": None})):
        typed = {p.name: p for p in commands[name].params}
        for setting, each in SETTINGS.items():
            if setting in ("logprobs", "logit_bias", "logits_hook", "n"):
                continue
            assert {f"--{setting.replace('_', '-')}", *each.options} == set(typed[setting].opts)
            assert (typed[setting].default or None) == ({**defaults, **changed}[setting] or None)


@pytest.mark.parametrize("bad", [[-1], [1 << 40], [4096], ["a", 1], [1.5], [[[1]]], [None]])
def test_bad_ids_are_refused(m, bad):
    with pytest.raises((pyggml.PyggmlError, TypeError)):
        m.generate(bad)
    with pytest.raises(pyggml.PyggmlError):
        m.logits(bad)


def test_logprobs(m):
    c = m.generate("Once upon a", max_tokens=5, temperature=0, logprobs=3)
    assert [lp.id for lp in c.logprobs] == c.tokens
    for lp in c.logprobs:
        assert len(lp.top) == 3
        assert lp.top[0][0] == lp.id
        assert lp.logprob == pytest.approx(lp.top[0][1])
        assert lp.logprob <= 0


def test_logprobs_are_those_of_the_logits(m):
    ids = m.tokenize("Once upon a")
    c = m.generate(ids, max_tokens=4, temperature=1.5, top_k=3, seed=5, repeat_penalty=1.3, logprobs=20)
    s = m.session()
    logits = [s.step(ids), *(s.step([token], draft=True) for token in c.tokens[:-1])]
    for lp, wide in zip(c.logprobs, logits, strict=True):
        wide = wide.astype(np.float64)
        wide -= wide.max()
        wide -= np.log(np.exp(wide).sum())
        assert lp.logprob == pytest.approx(wide[lp.id], abs=1e-6)
        assert [v for _, v in lp.top] == pytest.approx(sorted(wide, reverse=True)[:20], abs=1e-6)


@pytest.mark.parametrize("bad", [-1, 10**9, True, 1.0])
def test_a_single_bad_id_is_refused(m, bad):
    with contextlib.closing(m.session()) as s, pytest.raises(pyggml.ArgumentError):
        s.step([bad])


def test_a_full_context_is_refused_token_by_token(m):
    with contextlib.closing(m.session(n_ctx=2)) as s:
        s.step([1])
        s.step([2])
        with pytest.raises(pyggml.ContextFull):
            s.step([3])


def test_score_is_the_log_of_softmax(m):
    ids = m.tokenize("Once upon a time there was a king.")
    logits = m.logits(ids).astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    want = (logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(len(ids) - 1), ids[1:]]
    assert np.allclose(m.score(ids), want, atol=2e-3)
    assert m.score([1]).shape == (0,)


def test_perplexity_scores_the_second_half_of_chunks(m):
    ids = m.tokenize("Once upon a time there was a king who had three sons. " * 20)
    n = 64
    chunks = [[m.tokenizer.bos_id, *ids[i * n + 1 : (i + 1) * n]] for i in range(len(ids) // n)]
    want = np.exp(-np.concatenate([m.score(c)[n // 2 :] for c in chunks]).mean())
    assert m.perplexity(ids, n_ctx=n) == pytest.approx(want, rel=1e-3)
    with pytest.raises(pyggml.ArgumentError, match="at least"):
        m.perplexity("short")


def test_trained_model_knows_its_tales(m):
    ids = m.tokenize("Once upon a time there was a king who had a beautiful daughter, and")
    assert m.score(ids).mean() > -4.5


def test_no_chat_template_is_an_error_that_helps(m):
    with pytest.raises(pyggml.TemplateError, match="generate"):
        m.chat([{"role": "user", "content": "hi"}])


def test_chat_with_a_template_of_ones_own(m):
    template = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    messages = [{"role": "user", "content": "Tell me of the fox"}]
    assert m.render_chat(messages, template=template).endswith("user: Tell me of the fox\n")
    c = m.chat(messages, template=template, max_tokens=5, temperature=0)
    assert c.usage.prompt_tokens == len(m.tokenize("user: Tell me of the fox\n"))


def test_the_library_only_logs(capfd, caplog):
    with caplog.at_level(logging.INFO, "pyggml"):
        pyggml.load().close()
    assert "bundled" in caplog.text
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_repr_and_facts(m):
    assert "llama" in repr(m)
    assert m.config.n_layer == 6
    assert m.tensors["token_embd.weight"].shape == (4096, 256)
    assert m.metadata["general.name"] == "Tales"


@pytest.mark.parametrize(
    "bad",
    [
        dict(n_ctx=0),
        dict(n_ctx=-5),
        dict(n_threads=0),
        dict(kv_type="q4_k"),
        dict(kv_type="nope"),
        dict(device="cuda:9"),
        dict(n_ctx="x"),
    ],
)
def test_bad_load_arguments(bad):
    with pytest.raises(pyggml.PyggmlError):
        pyggml.load(**bad)
