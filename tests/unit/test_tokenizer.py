"""Tokenizers from metadata: golden vectors of tiny vocabularies, the rules around them, streaming."""

from __future__ import annotations

import gc
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyggml.errors import ArgumentError, GGUFError, UnsupportedError
from pyggml.tokenizer import Tokenizer, from_metadata
from pyggml.tokenizer.special import Splitter

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tokenizers.json").read_text(encoding="utf-8"))
SPM, BPE = "llama__tied", "llama"
_made: dict[str, Tokenizer] = {}


def tokenizer(name: str) -> Tokenizer:
    if name not in _made:
        _made[name] = from_metadata(GOLDEN[name]["metadata"])
    return _made[name]


def changed(name: str, **keys: Any) -> Tokenizer:
    """A golden vocabulary with other keys; None takes a key away."""
    metadata = {**GOLDEN[name]["metadata"], **{f"tokenizer.ggml.{k}": v for k, v in keys.items()}}
    return from_metadata({k: v for k, v in metadata.items() if v is not None})


# ---- golden vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_encode(name: str) -> None:
    tok = tokenizer(name)
    for text, ids, plain, _, _, llamacpp in GOLDEN[name]["strings"]:
        assert tok.encode(text) in (ids, llamacpp), text
        assert tok.encode(text, add_special=False) == (llamacpp or plain), text


@pytest.mark.parametrize("name", GOLDEN)
def test_decode(name: str) -> None:
    tok = tokenizer(name)
    for _, ids, plain, decoded, skipped, _ in GOLDEN[name]["strings"]:
        assert tok.decode(plain) == decoded
        assert tok.decode(ids, skip_special=True) == skipped
    for ids, decoded in GOLDEN[name]["decode_only"]:
        assert tok.decode(ids) == decoded


@pytest.mark.parametrize("name", GOLDEN)
def test_stream_gives_what_decode_gives(name: str) -> None:
    tok = tokenizer(name)
    for _, ids, _, _, _, _ in GOLDEN[name]["strings"]:
        for skip in (False, True):
            stream = tok.stream_decoder(skip_special=skip)
            assert "".join(map(stream.push, ids)) + stream.finish() == tok.decode(ids, skip_special=skip)


@pytest.mark.parametrize("name", GOLDEN)
@given(text=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\u2581"), max_size=60))
def test_decode_inverts_encode(name: str, text: str) -> None:
    tok = tokenizer(name)
    assert tok.decode(tok.encode(text, add_special=False, parse_special=False)) == text


def test_facts_of_the_vocabularies() -> None:
    spm, bpe, qwen = tokenizer(SPM), tokenizer(BPE), tokenizer("qwen2")
    assert (spm.model, spm.n_vocab, spm.bos_id, spm.eos_id, spm.unk_id, spm.pad_id) == ("llama", 640, 1, 2, 0, None)
    assert (spm.add_bos, spm.add_eos, spm.add_space_prefix) == (True, False, True)
    assert (bpe.model, bpe.pre, bpe.bos_id, bpe.eos_id, bpe.unk_id) == ("gpt2", "llama-bpe", 635, 639, None)
    assert bpe.eog_ids == {636, 639}
    assert (qwen.n_vocab, qwen.bos_id, qwen.add_bos, qwen.pad_id) == (656, None, False, 637)
    assert qwen.eog_ids == {637, 639}
    assert spm.is_special(1)
    assert not spm.is_special(300)
    assert spm.token_text(1) == "<s>"
    assert "n_vocab=640" in repr(spm)


# ---- bytes ---------------------------------------------------------------------------------------------------------


def test_piece_bytes() -> None:
    spm, bpe = tokenizer(SPM), tokenizer(BPE)
    assert {spm.piece_bytes(i) for i in range(3, 259)} == {bytes([b]) for b in range(256)}
    assert b"".join(map(bpe.piece_bytes, bpe.encode("a \u00e9\n", add_special=False))) == "a \u00e9\n".encode()
    assert spm.piece_bytes(spm.encode("hi")[1])[:1] == b" "
    assert tokenizer("qwen2").piece_bytes(650) == b""  # padding of the table prints nothing
    assert tokenizer("qwen2").token_text(650).startswith("[PAD")


def test_stream_never_gives_half_a_character() -> None:
    for name in (SPM, BPE):
        tok = tokenizer(name)
        stream = tok.stream_decoder()
        pieces = [stream.push(i) for i in tok.encode("\U0001f999\u4f60\u00e9", add_special=False)]
        assert "\ufffd" not in "".join(pieces)
        assert "" in pieces
        assert "".join(pieces) == "\U0001f999\u4f60\u00e9"
        assert stream.finish() == ""


def test_stream_reports_a_cut_character_at_the_end() -> None:
    tok = tokenizer(SPM)
    stream = tok.stream_decoder()
    assert stream.push(3 + 0xF0) + stream.push(3 + 0x9F) == ""
    assert stream.finish() == "\ufffd"
    assert stream.push(3 + 0x41) + stream.push(3 + 0xFF) + stream.push(3 + 0x42) == "A\ufffdB"


def test_stream_of_a_continued_text_keeps_its_first_blank() -> None:
    tok = tokenizer(SPM)
    ids = tok.encode("hi", add_special=False)
    assert "".join(map(tok.stream_decoder().push, ids)) == "hi"
    assert "".join(map(tok.stream_decoder(continues=True).push, ids)) == " hi"


@pytest.mark.parametrize("bad", [-1, 640, 1 << 40])
def test_ids_outside_of_the_vocabulary(bad: int) -> None:
    tok = tokenizer(SPM)
    for call in (
        lambda: tok.decode([5, bad]),
        lambda: tok.stream_decoder().push(bad),
        lambda: tok.piece_bytes(bad),
        lambda: tok.token_text(bad),
        lambda: tok.is_special(bad),
    ):
        with pytest.raises(ArgumentError, match=f"{bad} .*n_vocab 640"):
            call()


def test_decode_takes_numpy_ids() -> None:
    np = pytest.importorskip("numpy")
    tok = tokenizer(BPE)
    assert tok.decode(np.array(tok.encode("two words", add_special=False), np.int32)) == "two words"
    assert tok.decode([]) == ""


# ---- special tokens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, text, token", [(SPM, "</s>", 2), (BPE, "<|eot_id|>", 639), ("qwen2", "<|im_end|>", 639)]
)
def test_special_tokens_in_text(name: str, text: str, token: int) -> None:
    tok = tokenizer(name)
    assert token in tok.encode(f"a{text}b", parse_special=True)
    plain = tok.encode(f"a{text}b", add_special=False, parse_special=False)
    assert token not in plain
    assert tok.decode(plain) == f"a{text}b"
    assert tok.decode([token], skip_special=True) == ""
    assert tok.decode([token]) == text


def test_user_defined_tokens_are_always_found() -> None:
    for name, i in ((SPM, 500), (BPE, 300)):
        data = GOLDEN[name]["metadata"]
        types = list(data["tokenizer.ggml.token_type"])
        tokens = list(data["tokenizer.ggml.tokens"])
        types[i], tokens[i] = 4, "<tool>"
        merges = [m for m in data.get("tokenizer.ggml.merges", ()) if data["tokenizer.ggml.tokens"][i] not in joined(m)]
        tok = changed(name, tokens=tokens, token_type=types, merges=merges or None)
        for parse in (True, False):
            assert i in tok.encode("a<tool>b", parse_special=parse)
        assert not tok.is_special(i)
        assert tok.decode([i], skip_special=True) == "<tool>"


def joined(merge: str) -> tuple[str, ...]:
    left, right = merge.split(" ")
    return left, right, left + right


def test_splitter_takes_leftmost_then_longest() -> None:
    splitter = Splitter({"<a>": 1, "<a><b>": 2, "b>": 3})
    assert list(splitter.parts("x<a><b>y<a>b><")) == ["x", 2, "y", 1, 3, "<"]
    assert list(splitter.parts("")) == []
    assert list(Splitter({}).parts("x")) == ["x"]


def test_begin_and_end() -> None:
    assert changed(SPM, add_bos_token=False).encode("a")[0] != 1
    assert changed(SPM, add_eos_token=True).encode("a")[-1] == 2
    assert changed(SPM, add_bos_token=None).encode("")[0] == 1
    assert changed(BPE, add_bos_token=None).add_bos  # a habit of the llama-3 family
    assert not changed("qwen2", add_bos_token=None).add_bos
    assert tokenizer(SPM).encode("", add_special=False) == []


def test_space_prefix_switched_off() -> None:
    tok = changed(SPM, add_space_prefix=False)
    ids = tok.encode("hi", add_special=False)
    assert tok.decode(ids) == "hi"
    assert tok.decode(tok.encode(" hi", add_special=False)) == " hi"
    assert ids != tokenizer(SPM).encode("hi", add_special=False)


@pytest.mark.parametrize("none", [-1, 0xFFFFFFFF])
def test_ids_that_mean_none(none: int) -> None:
    tok = changed(SPM, bos_token_id=none, eos_token_id=none, unknown_token_id=none, padding_token_id=none)
    assert (tok.bos_id, tok.eos_id, tok.pad_id) == (None, None, None)
    assert tok.encode("a", add_special=True) == tok.encode("a", add_special=False)
    assert tok.eog_ids == {2}  # found by its text


def test_end_of_generation() -> None:
    def ends(*texts: str, kind: int = 3, **keys: int) -> frozenset[int]:
        data = GOLDEN[BPE]["metadata"]
        tokens = [*data["tokenizer.ggml.tokens"][:635], *texts]
        types = [*data["tokenizer.ggml.token_type"][:635], *[kind] * len(texts)]
        ids = {"bos_token_id": None, "eos_token_id": None, **keys}
        return frozenset(i - 635 for i in changed(BPE, tokens=tokens, token_type=types, **ids).eog_ids)

    assert ends("<|im_end|>", "<|x|>", "<end_of_turn>") == {0, 2}
    assert ends("<|x|>", "<|y|>", "<|z|>", eos_token_id=635, eot_token_id=636, eom_token_id=637) == {0, 1, 2}
    assert ends("<|end|>", "<|return|>", "<|call|>") == {1, 2}
    assert ends("<|end|>", "<|x|>") == {0}
    assert ends("</s>", kind=1) == frozenset()  # an HTML tag that happens to be a piece
    assert ends("</s>", kind=3) == {0}


# ---- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SPM, BPE])
def test_surrogates_and_nul(name: str) -> None:
    tok = tokenizer(name)
    assert tok.decode(tok.encode("a\ud800b", add_special=False)) == "a\ufffdb"
    assert tok.decode(tok.encode("\ud83e\udd99", add_special=False)) == "\U0001f999"  # a pair is one character
    assert tok.decode(tok.encode("a\0b", add_special=False)) == "a\0b"


@pytest.mark.parametrize("name", GOLDEN)
def test_long_text_equals_its_short_form(name: str) -> None:
    """Long texts take another call of the library."""
    tok = tokenizer(name)
    line = "One line of a text, 42 \u00e9\u4f60 <|x|>.\n"
    once = tok.encode("\n" + line, add_special=False)
    long = tok.encode("\n" + line * 500, add_special=False)
    assert long[: len(once) - 1] == once[:-1]
    assert tok.decode(long) == "\n" + line * 500


def test_text_must_be_text() -> None:
    with pytest.raises(TypeError, match="bytes"):
        tokenizer(SPM).encode(b"a")  # type: ignore[arg-type]


# ---- repeated, empty and missing texts -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SPM, BPE])
def test_repeated_and_empty_texts(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Official files hold them: encoded to the lowest id, decoded both, said once."""
    data = GOLDEN[name]["metadata"]
    tokens, types = list(data["tokenizer.ggml.tokens"]), list(data["tokenizer.ggml.token_type"])
    tokens, types = [*tokens, "<|twice|>", "<|twice|>", "", ""], [*types, 3, 3, 1, 3]
    n = len(tokens)
    scores = [*data.get("tokenizer.ggml.scores", ()), 0.0, 0.0, 0.0, 0.0]
    with caplog.at_level(logging.WARNING, "pyggml"):
        tok = changed(name, tokens=tokens, token_type=types, scores=scores if name == SPM else None)
    assert [r.getMessage().split(" (")[0] for r in caplog.records] == [
        "tokenizer.ggml.tokens repeats 1 texts", "tokenizer.ggml.tokens holds 2 empty texts",
    ]  # fmt: skip
    ids = tok.encode("a<|twice|>b", add_special=False)
    assert n - 4 in ids
    assert n - 3 not in ids
    assert tok.decode([n - 4]) == tok.decode([n - 3]) == tok.token_text(n - 3) == "<|twice|>"
    assert tok.decode([n - 2, n - 1]) == ""
    assert tok.token_text(n - 1) == f"[EMPTY_{n - 1}]"
    assert tok.decode(tok.encode("\ufffemute-5\ufffe", add_special=False)) == "\ufffemute-5\ufffe"
    plain = tokenizer(name)
    for text, *_ in GOLDEN[name]["strings"]:
        assert tok.encode(text) == plain.encode(text)


def test_repeated_words_of_wordpiece(caplog: pytest.LogCaptureFixture) -> None:
    data = {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u2581a", "\u2581a", "a", "", "##b", "b"],
        "tokenizer.ggml.token_type": [3, 2, 3, 3, 1, 1, 4, 1, 4, 1],
        **{f"tokenizer.ggml.{key}_token_id": i for key, i in (("unknown", 1), ("bos", 2), ("eos", 3))},
    }
    tok = from_metadata(data)
    assert "repeats 1 texts" in caplog.text
    assert "tokens 4 and 6 both mean 'a'" in caplog.text
    assert tok.encode("xb", add_special=False) == [1]
    assert tok.decode([4]) == tok.decode([5])


def test_every_end_of_a_repeated_text_ends() -> None:
    data = GOLDEN[BPE]["metadata"]
    tokens = [*data["tokenizer.ggml.tokens"], "<|im_end|>", "<|im_end|>"]
    tok = changed(BPE, tokens=tokens, token_type=[*data["tokenizer.ggml.token_type"], 3, 3])
    assert {640, 641} <= tok.eog_ids


def test_dropped_text_is_said_once_and_only_when_it_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    data = GOLDEN[BPE]["metadata"]
    tokens = list(data["tokenizer.ggml.tokens"])
    at = next(i for i, piece in enumerate(map(tokenizer(BPE).piece_bytes, range(640))) if piece == b"\xf0")
    tokens[at] = "<|\U0001f999|>"
    types = [*data["tokenizer.ggml.token_type"]]
    types[at] = 3
    merges = [m for m in data["tokenizer.ggml.merges"] if data["tokenizer.ggml.tokens"][at] not in m]
    with caplog.at_level(logging.WARNING, "pyggml"):
        tok = changed(BPE, tokens=tokens, token_type=types, merges=merges)
        tok.encode("caf\u00e9 \u4f60 <|\U0001f999|>")  # the byte is in the text, and in a token of its own
        assert caplog.text == ""
        assert tok.decode(tok.encode("x\U0001f999y", add_special=False)) != "x\U0001f999y"
        tok.encode("\U0001f999")
    assert len(caplog.records) == 1
    assert "no token for 0xf0" in caplog.text


# ---- keys of our own -----------------------------------------------------------------------------------------------


def with_own(name: str, **keys: list[int]) -> Tokenizer:
    return from_metadata({**GOLDEN[name]["metadata"], **{f"pyggml.{k}_token_ids": v for k, v in keys.items()}})


def test_a_list_of_ends() -> None:
    assert with_own(BPE, eog=[5, 6, 7]).eog_ids == {5, 6, 7, 636, 639}


def test_ids_around_a_text() -> None:
    plain = tokenizer(BPE).encode("word", add_special=False)
    tok = with_own(BPE, first=[635, 637], last=[636])
    assert tok.encode("word") == [635, 637, *plain, 636]
    assert tok.encode("word", add_special=False) == plain
    assert with_own(BPE, first=[]).encode("word") == plain


def test_pieces_that_sentencepiece_finds_itself() -> None:
    """Without the list a user-defined token cuts the text, and the blank that begins a text begins the rest too."""
    data = GOLDEN[SPM]["metadata"]
    tokens, types = list(data["tokenizer.ggml.tokens"]), list(data["tokenizer.ggml.token_type"])
    tokens[639], types[639] = "<tool>", 4
    metadata = {**data, "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    cut = from_metadata(metadata)
    whole = from_metadata({**metadata, "pyggml.inline_token_ids": [639]})
    blank = cut.encode("a <tool>", add_special=False)[-2:-1]
    for tok in (cut, whole):
        assert 639 in tok.encode("a<tool>b", add_special=False)
        assert tok.decode(tok.encode("a <tool> b", add_special=False)).startswith("a <tool>")
    assert len(whole.encode("a<tool>b", add_special=False)) < len(cut.encode("a<tool>b", add_special=False)) or blank
    assert whole.decode(whole.encode("a <tool> b", add_special=False)) == "a <tool> b"


def test_a_tokenizer_json_decides_how_a_text_is_cut() -> None:
    """Here: lower case, and dropout, which belongs to training."""
    data = GOLDEN[BPE]["metadata"]
    tokens = data["tokenizer.ggml.tokens"]
    merges = [merge.split(" ") for merge in data["tokenizer.ggml.merges"]]
    table = {
        "version": "1.0", "added_tokens": [], "normalizer": {"type": "Lowercase"}, "post_processor": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": None,
        "model": {"type": "BPE", "dropout": 0.9, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {text: i for i, text in enumerate(tokens[:635])}, "merges": merges},
    }  # fmt: skip
    for pre in ("llama-bpe", "huggingface", "one that nobody knows"):
        metadata = {**data, "tokenizer.ggml.pre": pre, "tokenizer.huggingface.json": json.dumps(table)}
        tok = from_metadata(metadata)
        plain = tokenizer(BPE).encode("some words", add_special=False)
        assert all(tok.encode("SOME Words", add_special=False) == plain for _ in range(5))
        assert tok.encode("", add_special=False) == []


def test_blanks_are_treated_as_the_file_says() -> None:
    tok = changed(SPM, remove_extra_whitespaces=True)
    assert tok.encode("  two   words ") == tokenizer(SPM).encode("two words")
    assert changed(SPM, remove_extra_whitespaces=False).encode(" a  b") == tokenizer(SPM).encode(" a  b")


# ---- building ------------------------------------------------------------------------------------------------------


def test_missing_pre_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pyggml"):
        tok = changed("gpt2", pre=None)
    assert "pre is missing" in caplog.text
    assert tok.pre == "default"
    assert tok.decode(tok.encode("It's 12345 words", add_special=False)) == "It's 12345 words"


def test_unknown_pre() -> None:
    with pytest.raises(UnsupportedError, match=r"'my-bpe'.*llama-bpe"):
        changed("gpt2", pre="my-bpe")


@pytest.mark.parametrize("model", ["rwkv", "plamo2", "none", "nonsense"])
def test_unsupported_models(model: str) -> None:
    with pytest.raises(UnsupportedError, match=f"'{model}'"):
        changed(SPM, model=model)


def test_raw_strings_are_preferred() -> None:
    class Raw(dict[str, Any]):
        def raw_strings(self, key: str) -> list[bytes]:
            return [s.encode() if s != "bad" else b"\xff\xfe" for s in self[key]]

    data = Raw(GOLDEN[SPM]["metadata"])
    tokens = list(data["tokenizer.ggml.tokens"])
    tokens[600] = "bad"
    data["tokenizer.ggml.tokens"] = tokens
    tok = from_metadata(data)
    assert tok.piece_bytes(600) == b"\xff\xfe"
    assert tok.decode([600]) == "\ufffd\ufffd"
    assert tok.decode(tok.encode("all the same", add_special=False)) == "all the same"


def test_a_vocabulary_with_more_than_one_unknown_token() -> None:
    types = list(GOLDEN[SPM]["metadata"]["tokenizer.ggml.token_type"])
    types[600] = types[601] = 2
    assert changed(SPM, token_type=types).decode([0]) == "<unk>"


def test_bytes_missing_from_an_spm_vocabulary() -> None:
    data = GOLDEN[SPM]["metadata"]
    keep = [i for i in range(640) if i != 3 + 0xF0]
    parts = {k: [data[f"tokenizer.ggml.{k}"][i] for i in keep] for k in ("tokens", "scores", "token_type")}
    tok = changed(SPM, **parts)
    assert tok.encode("\U0001f999", add_special=False)[-1] == tok.unk_id
    with pytest.raises(GGUFError, match="no unknown token"):
        changed(SPM, **{**parts, "token_type": [3 if t == 2 else t for t in parts["token_type"]]}, unknown_token_id=-1)


def test_the_garbage_collector_is_as_before() -> None:
    assert gc.isenabled()
    with pytest.raises(GGUFError):
        changed(SPM, scores=None)
    assert gc.isenabled()
    gc.disable()
    try:
        changed(SPM)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_threads_build_and_use_tokenizers() -> None:
    want = {name: [tokenizer(name).encode(s[0]) for s in GOLDEN[name]["strings"]] for name in (SPM, BPE)}
    plain = {name: tokenizer(name).encode("</s><|eot_id|>", parse_special=False) for name in (SPM, BPE)}
    failures: list[str] = []

    def work(name: str) -> None:
        tok = from_metadata(GOLDEN[name]["metadata"])
        for _ in range(5):
            if [tok.encode(s[0]) for s in GOLDEN[name]["strings"]] != want[name]:
                failures.append(name)
            if tokenizer(name).encode("</s><|eot_id|>", parse_special=False) != plain[name]:
                failures.append(f"{name} parses special tokens")

    threads = [threading.Thread(target=work, args=(name,)) for name in (SPM, BPE) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert gc.isenabled()


def test_importing_the_package_imports_no_library() -> None:
    code = (
        "import sys, pyggml.tokenizer, pyggml.engine.stops; "
        "print([m for m in ('tokenizers', 'sentencepiece', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_merges_keep_the_first_of_equals_and_name_the_wrong_one() -> None:
    from pyggml.tokenizer.bpe import read_merges

    ids = {text: i for i, text in enumerate(["a", "b", "ab", "ba", "aba"])}
    assert read_merges([b"a b", b"b a", b"a b", b"ab a"], ids) == [("a", "b"), ("b", "a"), ("ab", "a")]
    assert read_merges([], ids) == []
    wrong = {
        b"a b a": r"merges\[1\]",
        b"ab": r"merges\[1\]",
        b" a": r"merges\[1\]",
        b"b b": "'bb' is not",
        b"a c": "'c' is not",
    }
    for merge, message in wrong.items():
        with pytest.raises(GGUFError, match=message):
            read_merges([b"a b", merge], ids)
    with pytest.raises(GGUFError, match=r"merges\[0\]"):
        read_merges([b"a b \n b a", b"ab"], ids)


def test_unigram_gives_the_ids_of_sentencepiece() -> None:
    """A trained model of the library, its pieces as a GGUF has them: the same ids for any text."""
    import random

    import sentencepiece
    from converters.vocabularies import LINES, sentencepiece_model

    from pyggml.converters import protobuf as pb

    model = sentencepiece_model(
        model_type="unigram", byte_fallback=False, unk_id=3, bos_id=0, eos_id=2, pad_id=1,
        normalization_rule_name="nmt_nfkc", remove_extra_whitespaces=True,
    )  # fmt: skip
    texts, scores, types, charsmap = [], [], [], b""
    for number, value in pb.fields(pb.whole(memoryview(model), "model", 1 << 20)):
        if number == 1:
            piece = dict(pb.fields(pb.message(value, "piece")))
            texts.append(pb.text(piece[1], "piece"))
            scores.append(pb.f32_of(piece.get(2, b"\0\0\0\0")))
            types.append(piece.get(3, 1))
        elif number == 3:
            charsmap = bytes(pb.message(dict(pb.fields(pb.message(value, "normalizer")))[2], "map").raw)
    ours = from_metadata({
        "tokenizer.ggml.model": "t5", "tokenizer.ggml.tokens": texts, "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types, "tokenizer.ggml.precompiled_charsmap": list(charsmap),
        "tokenizer.ggml.remove_extra_whitespaces": True, "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 3, "tokenizer.ggml.add_bos_token": True,
    })  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    rng = random.Random(5)
    odd = ["\u00e4", "\ufb01", "\u2460", "  ", "\t", "\u3000", "\U0001f600", "\u0301", "A", "\u00ad", "\u0e33"]
    for _ in range(400):
        text = "".join(rng.choice([*LINES, *odd, " ", "the", "ing"])[: rng.randint(1, 30)] for _ in range(8))
        assert ours.encode(text) == [0, *theirs.encode(text), 2]
        assert ours.encode(text, add_special=False) == theirs.encode(text)
    assert ours.decode(theirs.encode("the cat"), skip_special=True) == "the cat"
    with pytest.raises(GGUFError, match="scores is missing"):
        from_metadata({"tokenizer.ggml.model": "t5", "tokenizer.ggml.tokens": ["a", "b", "<unk>"]})
