"""Stop strings: whatever the pieces, the same text comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyggml.engine.stops import StopStrings


def run(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    matcher = StopStrings(stops)
    out = []
    for piece in pieces:
        text, stopped = matcher.push(piece)
        out.append(text)
        if stopped:
            return "".join(out), True
    return "".join(out) + matcher.flush(), False


def by_characters(stops: list[str], text: str) -> tuple[str, bool]:
    """The definition: read on until the text read so far ends with a stop; cut the longest such stop."""
    for n in range(1, len(text) + 1):
        hit = [stop for stop in stops if text[:n].endswith(stop)]
        if hit:
            return text[: n - max(map(len, hit))], True
    return text, False


def test_without_stops_all_passes() -> None:
    assert StopStrings([]).push("abc") == ("abc", False)


def test_stop_across_pieces() -> None:
    assert run(["</s>"], ["text <", "/", "s", "> more"]) == ("text ", True)


def test_only_what_may_become_a_stop_is_held() -> None:
    matcher = StopStrings(["\nUser:", "###"])
    assert matcher.push("hello\n") == ("hello", False)
    assert matcher.push("Us") == ("", False)
    assert matcher.push("ual #") == ("\nUsual ", False)
    assert matcher.push("x") == ("#x", False)
    assert matcher.flush() == ""


def test_a_false_start_is_given_back() -> None:
    assert run(["aab"], ["a", "a", "a", "a", "c"]) == ("aaaac", False)
    assert run(["aab"], ["a", "a", "a", "b"]) == ("a", True)


def test_overlapping_stops() -> None:
    assert run(["abcd", "bc"], ["abcd"]) == ("a", True)
    assert run(["abcd", "bc"], ["abc", "d"]) == ("a", True)
    assert run(["abc", "bc"], ["ab", "c"]) == ("", True)


def test_flush_gives_the_rest() -> None:
    matcher = StopStrings(["STOP"])
    assert matcher.push("go ST") == ("go ", False)
    assert matcher.flush() == "ST"


def test_after_a_stop_nothing_comes() -> None:
    matcher = StopStrings(["."])
    assert matcher.push("a.b") == ("a", True)
    assert matcher.push("c") == ("", True)
    assert matcher.flush() == ""


def test_an_empty_stop_is_refused() -> None:
    with pytest.raises(ValueError, match="empty stop"):
        StopStrings(["a", ""])


def test_a_stop_must_be_text() -> None:
    with pytest.raises(ValueError, match=r"stop\[0\] must be text.*b'a'"):
        StopStrings([b"a"])  # type: ignore[list-item]


def test_a_stop_of_a_book_takes_no_more_than_its_memory() -> None:
    book = "it was the best of times, " * 40_000  # all its beginnings would be 500 GB
    assert run([book], ["it was the best of times, it", " was not"]) == ("it was the best of times, it was not", False)
    assert run([book], ["so ", book, "!"]) == ("so ", True)


@given(st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3), st.lists(st.text("ab.", max_size=5), max_size=8))
def test_the_pieces_do_not_matter(stops: list[str], pieces: list[str]) -> None:
    assert run(stops, pieces) == by_characters(stops, "".join(pieces))
