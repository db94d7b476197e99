"""transformers' generate() over a Model: ids as the engine makes them, streamers, criteria, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread
from typing import Any

import numpy as np
import pytest

import pyggml
from pyggml.compat.transformers import Generator
from pyggml.errors import ArgumentError, ArgumentTypeError, ContextFull, UnsupportedError


@pytest.fixture(scope="module")
def m() -> Iterator[pyggml.Model]:
    with pyggml.load(n_ctx=128) as model:
        yield model


def test_the_ids_are_those_of_the_engine(m: pyggml.Model) -> None:
    ids = m.tokenize("Once upon a time")
    expected = m.generate(ids, max_tokens=8, temperature=0).tokens
    for given in (np.array([ids]), [ids], ids):
        out = Generator(m).generate(given, max_new_tokens=8)
        assert out.tolist() == [[*ids, *expected]]
    assert Generator(m).generate(inputs=[ids], max_length=len(ids) + 3).shape == (1, len(ids) + 3)
    assert Generator(m).generate([ids]).shape == (1, len(ids) + 20)
    how: dict[str, Any] = {"max_new_tokens": 8, "do_sample": True, "temperature": 2.0, "seed": 3}
    assert (Generator(m).generate([ids], **how) == Generator(m).generate([ids], **how)).all()


def test_batches_with_padding(m: pyggml.Model) -> None:
    long, short = m.tokenize("Once upon a time"), m.tokenize("The king")
    pad = len(long) - len(short)
    batch = np.array([long, [9] * pad + short])
    mask = np.array([[1] * len(long), [0] * pad + [1] * len(short)])
    out = Generator(m).generate(batch, attention_mask=mask, max_new_tokens=4, pad_token_id=7)
    for row, ids in zip(out.tolist(), (long, short), strict=True):
        alone = [*ids, *m.generate(ids, max_tokens=4, temperature=0).tokens]
        assert row == alone + [7] * (len(row) - len(alone))


def test_ends_and_criteria(m: pyggml.Model) -> None:
    ids = m.tokenize("Once upon a time")
    free = Generator(m).generate([ids], max_new_tokens=8)[0].tolist()
    end = free[len(ids) + 2]
    at = free.index(end, len(ids))
    assert Generator(m).generate([ids], max_new_tokens=8, eos_token_id=end)[0].tolist() == free[: at + 1]
    late = Generator(m).generate([ids], max_new_tokens=8, eos_token_id=[end], min_new_tokens=8)[0].tolist()
    assert end not in late[len(ids) :][:7]
    seen = []

    def stops(found: Any, logits: Any) -> bool:
        seen.append((found.shape, logits.shape))
        return found.shape[1] >= len(ids) + 3

    assert Generator(m).generate([ids], max_new_tokens=8, stopping_criteria=[stops])[0].tolist() == free[: len(ids) + 3]
    assert seen[-1] == ((1, len(ids) + 3), (1, m.n_vocab))

    def only(found: Any, logits: Any) -> Any:
        logits[:] = -np.inf
        logits[0, 5] = 0
        return logits

    assert Generator(m).generate([ids], max_new_tokens=2, logits_processor=[only])[0, -2:].tolist() == [5, 5]


class Streamer:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def put(self, ids: Any) -> None:
        self.seen.append(ids.tolist())

    def end(self) -> None:
        self.seen.append("end")


def test_a_streamer(m: pyggml.Model) -> None:
    ids = m.tokenize("Once upon a time")
    streamer = Streamer()
    out = Generator(m).generate([ids], max_new_tokens=3, streamer=streamer)[0].tolist()
    assert streamer.seen == [[ids], *[[token] for token in out[len(ids) :]], "end"]
    with pytest.raises(ArgumentError, match="a streamer takes one prompt"):
        Generator(m).generate([ids, ids], streamer=streamer)


def test_what_is_refused(m: pyggml.Model) -> None:
    with pytest.raises(UnsupportedError, match=r"generate\(num_beams=4\) is not done: beams are not searched"):
        Generator(m).generate([[1]], num_beams=4)
    assert Generator(m).generate([[1]], num_beams=1, max_new_tokens=1, use_cache=True).shape == (1, 2)
    with pytest.raises(ArgumentTypeError, match="'max_new_token'"):
        Generator(m).generate([[1]], max_new_token=4)
    with pytest.raises(ArgumentError, match="needs input_ids"):
        Generator(m).generate()
    with pytest.raises(ArgumentError, match="must be"):
        Generator(m).generate([[0.5]])
    with pytest.raises(ArgumentError, match="attention_mask has shape"):
        Generator(m).generate([[1, 2]], attention_mask=[[1]])
    with pytest.raises(ArgumentError, match="without tokens"):
        Generator(m).generate([[1, 2]], attention_mask=[[0, 0]])
    with pytest.raises(ContextFull):
        Generator(m).generate([[1]], max_new_tokens=128)


@pytest.mark.slow
def test_the_real_package(m: pyggml.Model) -> None:
    """Its own streamer, criteria and processors, with torch's tensors."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

    class Words:
        """What a streamer asks of a tokenizer."""

        def decode(self, ids: Any, **how: Any) -> str:
            return m.detokenize([int(each) for each in ids], skip_special=True)

    ids = torch.tensor([m.tokenize("Once upon a time")])
    streamer = transformers.TextIteratorStreamer(Words(), skip_prompt=True, timeout=60)
    limit = transformers.StoppingCriteriaList([transformers.MaxLengthCriteria(ids.shape[1] + 6)])
    penalty = transformers.LogitsProcessorList([transformers.RepetitionPenaltyLogitsProcessor(1.3)])
    found: list[Any] = []
    how: dict[str, Any] = {
        "max_new_tokens": 20,
        "streamer": streamer,
        "stopping_criteria": limit,
        "logits_processor": penalty,
    }
    work = Thread(target=lambda: found.append(Generator(m).generate(ids, **how)), daemon=True)
    work.start()
    text = "".join(streamer)
    work.join(60)
    assert isinstance(found[0], torch.Tensor)
    assert found[0].dtype == torch.int64
    assert found[0].shape == (1, ids.shape[1] + 6)
    assert text.strip() == m.detokenize(found[0][0, ids.shape[1] :].tolist()).strip()
