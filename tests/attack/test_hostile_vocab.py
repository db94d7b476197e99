"""Vocabularies that contradict themselves: always a PyggmlError that names the problem, never a crash of a library.

The metadata is given directly; what a broken file does to the reader is tested in test_hostile_gguf.py.
"""

from __future__ import annotations

import gc
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyggml.converters import protobuf
from pyggml.errors import GGUFError, PyggmlError, UnsupportedError
from pyggml.tokenizer import from_metadata

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tokenizers.json").read_text(encoding="utf-8"))
SPM: dict[str, Any] = GOLDEN["llama__tied"]["metadata"]
BPE: dict[str, Any] = GOLDEN["llama"]["metadata"]


def refused(base: dict[str, Any], match: str, error: type[PyggmlError] = GGUFError, **keys: Any) -> None:
    """from_metadata of base with other keys (None: without) must raise, naming the problem."""
    metadata = {**base, **{f"tokenizer.ggml.{k}": v for k, v in keys.items()}}
    with pytest.raises(error, match=match) as caught:
        from_metadata({k: v for k, v in metadata.items() if v is not None})
    assert len(str(caught.value)) < 2000
    assert gc.isenabled()


def tokens(base: dict[str, Any], **places: Any) -> list[Any]:
    """The token list of base with t<index>= replaced."""
    out = list(base["tokenizer.ggml.tokens"])
    for place, value in places.items():
        out[int(place[1:])] = value
    return out


def types(base: dict[str, Any], **places: Any) -> list[Any]:
    """The type list of base with t<index>= replaced."""
    out = list(base["tokenizer.ggml.token_type"])
    for place, value in places.items():
        out[int(place[1:])] = value
    return out


def test_no_tokenizer() -> None:
    with pytest.raises(GGUFError, match=r"tokenizer\.ggml\.model is missing"):
        from_metadata({})
    refused(SPM, "holds no vocabulary", tokens=None)
    refused(SPM, "holds no vocabulary", tokens=[])


def test_model_of_a_wrong_type() -> None:
    for wrong in (7, [1], True, 1.5):
        refused(SPM, "expected a string", model=wrong)
    refused(SPM, "not supported", UnsupportedError, model="x" * 100_000)


def test_pre_of_a_wrong_type() -> None:
    refused(BPE, "expected a string", pre=5)
    refused(BPE, "not known", UnsupportedError, pre="x" * 100_000)
    refused(BPE, "not known", UnsupportedError, pre="")


def test_tokens_that_are_no_strings() -> None:
    for wrong in (7, "text", {"a": 1}, [1, 2, 3], [["a"]], [None]):
        refused(SPM, r"tokenizer\.ggml\.tokens", tokens=wrong)


@pytest.fixture(scope="module")
def charsmap(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small one, of 256 units: the letter A becomes a, the ligature fi two letters."""
    import sentencepiece

    rules = tmp_path_factory.mktemp("rules") / "rules.tsv"
    rules.write_text("FB01\t66 69\n41\t61\n")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat"] * 9), model_writer=model, vocab_size=30, model_type="bpe",
        hard_vocab_limit=False, normalization_rule_tsv=str(rules), minloglevel=2,
    )  # fmt: skip
    for number, value in protobuf.fields(protobuf.whole(memoryview(model.getvalue()), "model", 1 << 20)):
        if number == 3:
            return next(bytes(v.raw) for n, v in protobuf.fields(value) if n == 2)  # type: ignore[arg-type]
    raise AssertionError("no normalizer")


def test_a_charsmap_that_points_outside_of_itself(charsmap: bytes) -> None:
    """The library follows it with little looking: it is judged before."""
    key = "precompiled_charsmap"
    units, texts = charsmap[4:1028], charsmap[1028:]

    def blob(at: int, unit: int, rest: bytes = texts, size: int = 1024) -> list[int]:
        body = units[: 4 * at] + unit.to_bytes(4, "little") + units[4 * at + 4 :]
        return list(size.to_bytes(4, "little") + body + rest)

    tok = from_metadata({**SPM, f"tokenizer.ggml.{key}": list(charsmap)})
    assert tok.encode("A\ufb01") == from_metadata(SPM).encode("afi")
    root = int.from_bytes(units[:4], "little")
    refused(SPM, "damaged", **{key: blob(0, root, size=1 << 20)})
    refused(SPM, "damaged", **{key: blob(0, root, size=0)})
    refused(SPM, "damaged", **{key: blob(0, root, size=1020)})
    refused(SPM, "outside", **{key: blob(0, 1 << 20 << 10)})
    refused(SPM, "outside", **{key: blob(200, 1 << 20 << 10)})
    refused(SPM, "outside", **{key: blob(200, 0x80001000)})
    refused(SPM, "outside", **{key: blob(0, root, texts[:-1])})
    refused(SPM, "not UTF-8", **{key: blob(0, root, b"\xff" + texts)})
    for wrong in (7, "text", [1.5], [300], [True, "a"]):
        refused(SPM, key, **{key: wrong})


def test_damaged_charsmaps_never_crash(charsmap: bytes) -> None:
    rng = random.Random(5)
    for _ in range(300):
        data = bytearray(charsmap)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            tok = from_metadata({**SPM, "tokenizer.ggml.precompiled_charsmap": list(data)})
        except GGUFError:
            continue
        tok.encode("The A \ufb01 caf\u00e9 \u4f60 \U0001f999" + bytes(range(1, 128)).decode())


def test_lists_of_ids_out_of_range() -> None:
    for key in ("eog", "first", "last", "inline"):
        for wrong in (7, "text", [640], [-1], [1.0], [True], [[1]], [1] * 641):
            metadata = {**SPM, f"pyggml.{key}_token_ids": wrong}
            with pytest.raises(GGUFError, match=f"{key}_token_ids"):
                from_metadata(metadata)


def test_a_tokenizer_json_that_does_not_belong(caplog: pytest.LogCaptureFixture) -> None:
    """Refused where nothing else says how a text is cut, else passed over aloud."""
    wrong = {
        7: "expected a string",
        "": "cannot be used",
        "{}": "cannot be used",
        '{"model": {"type": "BPE", "vocab": {"a": 9999}, "merges": []}}': "cannot be used|names token 9999",
        json.dumps({"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
                    "post_processor": None, "decoder": None,
                    "model": {"type": "BPE", "vocab": {"no such": 9}, "merges": []}}): "belong to two models",
    }  # fmt: skip
    for value, reason in wrong.items():
        metadata = {**BPE, "tokenizer.huggingface.json": value}
        with pytest.raises(GGUFError, match=reason):
            from_metadata({**metadata, "tokenizer.ggml.pre": "huggingface"})
        caplog.clear()
        assert from_metadata(metadata).encode("some words") == from_metadata(BPE).encode("some words")
        assert "passed over" in caplog.text
    refused(BPE, "huggingface.json is missing", pre="huggingface")


def test_absurdly_long_tokens() -> None:
    refused(BPE, r"tokens\[300\] has 1,000,000 bytes", tokens=tokens(BPE, t300="x" * 1_000_000))


def test_far_too_many_tokens() -> None:
    class Many(list[str]):
        def __len__(self) -> int:
            return 1 << 40

    refused(SPM, "at most", tokens=Many())
    refused(BPE, "at most", merges=Many())


@pytest.mark.parametrize("key", ["scores", "token_type"])
@pytest.mark.parametrize("n", [0, 1, 639, 641])
def test_lengths_that_differ(key: str, n: int) -> None:
    fill = 0.0 if key == "scores" else 1
    refused(SPM, rf"{key} has {n} entries, tokenizer\.ggml\.tokens has 640", **{key: [fill] * n})


def test_types_out_of_range() -> None:
    for wrong in (-1, 7, 1 << 31, "1", None, 1.0, True):
        refused(SPM, r"token_type\[300\]", token_type=types(SPM, t300=wrong))
    refused(SPM, "expected an array", token_type=3)


def test_scores_that_are_no_numbers() -> None:
    for wrong in (float("nan"), float("inf"), float("-inf"), 1e300, "0", None, 1):
        scores = list(SPM["tokenizer.ggml.scores"])
        scores[300] = wrong
        refused(SPM, r"scores\[300\]", scores=scores)
    refused(SPM, "scores is missing", scores=None)


@pytest.mark.parametrize("base", [SPM, BPE], ids=["spm", "bpe"])
@pytest.mark.parametrize(
    "key", ["bos", "eos", "eot", "eom", "unknown", "padding", "seperator", "cls", "mask", "fim_pre"]
)
def test_ids_out_of_range(base: dict[str, Any], key: str) -> None:
    for wrong in (640, -2, 1 << 31, 1 << 63, 0xFFFFFFFE):
        refused(base, rf"{key}_token_id is {wrong}, the vocabulary has 640", **{f"{key}_token_id": wrong})
    for wrong in ("1", 1.0, True, [1]):
        refused(base, "expected an integer", **{f"{key}_token_id": wrong})


def test_flags_of_a_wrong_type() -> None:
    for key in ("add_bos_token", "add_eos_token", "add_space_prefix"):
        for wrong in (1, "true", [True], 0.0):
            refused(SPM, f"{key} is .*expected a bool", **{key: wrong})


def test_merges_missing() -> None:
    refused(BPE, "merges is missing", merges=None)


def test_merges_malformed() -> None:
    for wrong in ("ab", "", " ", "a ", " b", "a b c", "a  b", "\u2581"):
        refused(BPE, r"merges\[1\]", merges=["i n", wrong])
    for wrong_list in (7, "a b", [1, 2], {"a": "b"}):
        refused(BPE, r"tokenizer\.ggml\.merges", merges=wrong_list)
    refused(BPE, "merges is not UTF-8", merges=[b"\xff \xfe"])


def test_merges_naming_unknown_tokens() -> None:
    refused(BPE, "'zzzz' is not in the vocabulary", merges=["zzzz a"])
    refused(BPE, "'zzzz' is not in the vocabulary", merges=["a zzzz"])
    refused(BPE, "is not in the vocabulary", merges=["\u0120the \u0120the"])  # both known, their sum is not
    refused(BPE, "is not in the vocabulary", merges=["x" * 10_000 + " y"])  # longer than any token: a panic in Rust


def test_duplicate_merges_keep_the_first() -> None:
    merges = list(BPE["tokenizer.ggml.merges"])
    twice = from_metadata({**BPE, "tokenizer.ggml.merges": merges + merges[::-1]})
    once = from_metadata(BPE)
    for text, *_ in GOLDEN["llama"]["strings"]:
        assert twice.encode(text) == once.encode(text)


def test_byte_tokens_with_wrong_names() -> None:
    for wrong in ("<0x4>", "<0xGG>", "ABCD", "<0x041>", "0x41", "<0x41>\n"):
        refused(SPM, r"tokens\[68\] has the type byte and the name", tokens=tokens(SPM, t68=wrong))
    refused(SPM, "second byte token", tokens=tokens(SPM, t300="<0xaB>"), token_type=types(SPM, t300=6))


def test_a_vocabulary_of_one_token() -> None:
    one = {"tokens": ["a"], "scores": [0.0], "token_type": [1], "unknown_token_id": 0}
    ids = {"bos_token_id": None, "eos_token_id": None}
    metadata = {**SPM, **{f"tokenizer.ggml.{k}": v for k, v in {**one, **ids}.items()}}
    tok = from_metadata({k: v for k, v in metadata.items() if v is not None})
    assert tok.bos_id is None
    assert set(tok.encode("abc")) == {0}


def test_no_way_to_encode() -> None:
    kinds = [1 if t in (2, 6) else t for t in SPM["tokenizer.ggml.token_type"]]
    refused(SPM, "no unknown token", token_type=kinds, unknown_token_id=-1)


def test_nul_in_tokens() -> None:
    refused(SPM, "null character", tokens=tokens(SPM, t300="a\0b"))
    tok = from_metadata({**BPE, "tokenizer.ggml.tokens": tokens(BPE, t639="a\0b")})
    assert tok.token_text(639) == "a\0b"


def test_everything_is_special() -> None:
    """100,000 control tokens that share a beginning: splitting a text stays fast."""
    n = 100_000
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", *(f"<{i}>" for i in range(n))],
        "tokenizer.ggml.scores": [0.0] * (n + 1),
        "tokenizer.ggml.token_type": [2] + [3] * n,
    }
    tok = from_metadata(metadata)
    ids = tok.encode("<7><x" * 20_000, add_special=False)
    assert ids.count(8) == 20_000


def test_a_lazy_mapping_that_fails() -> None:
    class Broken(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            if key.endswith("tokens"):
                raise ValueError("the file was cut")
            return super().get(key, default)

    with pytest.raises(GGUFError, match="the file was cut"):
        from_metadata(Broken(SPM))


VALUES: list[Callable[[], Any]] = [
    lambda: None,
    lambda: 0,
    lambda: -1,
    lambda: 1 << 63,
    lambda: float("nan"),
    lambda: "",
    lambda: "llama",
    lambda: "gpt2",
    lambda: [],
    lambda: ["a"],
    lambda: [b"\xff"],
    lambda: [0.0] * 640,
    lambda: [1] * 640,
    lambda: [6] * 640,
    lambda: [2] * 640,
    lambda: [4] * 640,
    lambda: [str(i) for i in range(640)],
    lambda: ["\u2581" * (i + 1) for i in range(640)],
    lambda: [bytes([200 + i % 50, i % 256, i // 256]) for i in range(640)],
    lambda: True,
    lambda: {},
]


@pytest.mark.parametrize("base", [SPM, BPE], ids=["spm", "bpe"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(picks=st.lists(st.tuples(st.integers(0, 30), st.integers(0, len(VALUES) - 1)), min_size=1, max_size=3))
def test_any_key_may_hold_anything(base: dict[str, Any], picks: list[tuple[int, int]]) -> None:
    """Random wrong values: a tokenizer that works, or a PyggmlError."""
    metadata = dict(base)
    keys = sorted(metadata)
    for key, value in picks:
        metadata[keys[key % len(keys)]] = VALUES[value]()
    try:
        tok = from_metadata({k: v for k, v in metadata.items() if v is not None})
    except PyggmlError as error:
        message = str(error)
    else:
        message = "works"
        ids = tok.encode("Hello <s> \U0001f999 world\n")
        assert all(0 <= i < tok.n_vocab for i in ids)
        tok.decode(ids)
    assert 0 < len(message) < 2000
