"""What recurrent layers mean for sessions from Python, whatever they remember: marks, forks, saved states, shifts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from model import hybrids, test_lfm2, test_qwen35

import pyggml
from pyggml.errors import ArgumentError, UnsupportedError

FILES: dict[str, Callable[[Path], Path]] = {
    "lfm2": test_lfm2.write,
    "qwen35": test_qwen35.write,
    **{name: lambda path, name=name: hybrids.write(path, name) for name in ("mamba", "mamba2", "granite", "falcon-h1")},
}
IDS = hybrids.IDS


@pytest.mark.parametrize("name", FILES)
def test_marks_forks_and_files(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path / "x.gguf")
    with pyggml.load(path, kv_type="f32") as m, closing(m.session()) as s, closing(m.session()) as other:
        s.step(IDS[:20])
        s.mark()
        want = s.step(IDS[20:30])
        assert (s.reach, s.back(29), s.back(19), s.back(99)) == (20, 20, 0, 30)
        with pytest.raises(UnsupportedError, match="recurrent layers do not know what they were at position 25"):
            s.truncate(25)
        with pytest.raises(UnsupportedError, match=r"shift: .* remembers all positions"):
            s.shift(1, 2)
        s.save(tmp_path / "x.state")
        other.load(tmp_path / "x.state")
        fork = s.fork()
        for each in (s, other, fork):
            each.truncate(20)
            np.testing.assert_array_equal(each.step(IDS[20:30]), want)
        fork.unmark(20)
        assert fork.back(29) == 0
        fork.close()
        with pytest.raises(ArgumentError, match="closed"):
            fork.mark()


@pytest.mark.parametrize("name", FILES)
def test_pieces_have_the_bits_of_the_whole(name: str, tmp_path: Path) -> None:
    with pyggml.load(FILES[name](tmp_path / "x.gguf")) as m, closing(m.session()) as s:
        whole = m.logits(IDS[:20])
        for k in (7, 13):
            s.reset()
            np.testing.assert_array_equal(np.concatenate([s.step(IDS[:k], k), s.step(IDS[k:20], 20 - k)]), whole)
