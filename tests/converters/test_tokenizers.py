"""Tokenizer files -> GGUF: the very ids of the source's own tokenizer, whatever its files are, or an error."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from converters import checkpoint
from converters.vocabularies import LLAMA, as_json, metadata, metaspace, sentencepiece_model, texts, tokenizer, unigram
from model.tiny import byte_tokens

from pyggml.converters import export_tokenizer, templates, tokenizer_check, tokenizer_files
from pyggml.converters.family import Config
from pyggml.converters.source import Source
from pyggml.errors import GGUFError, PyggmlError, UnsupportedError
from pyggml.tokenizer import Tokenizer, from_metadata

JSON = "tokenizer.huggingface.json"
PREPEND = {"type": "Prepend", "prepend": "\u2581"}
BLANKS = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
LEGACY = {"type": "Sequence", "normalizers": [PREPEND, BLANKS]}


def same_as_library(tok: Tokenizer, table: dict[str, Any], n: int = 1 << 30) -> None:
    """Ids and texts as `tokenizers` gives them, with and without what stands around a text."""
    import tokenizers

    theirs = tokenizers.Tokenizer.from_str(json.dumps(table))
    theirs.no_truncation()
    theirs.no_padding()
    for text in texts():
        ids = theirs.encode(text, add_special_tokens=False).ids
        if max(ids, default=0) < n:
            assert tok.encode(text, add_special=False) == ids, text
            assert tok.encode(text) == theirs.encode(text).ids, text
            assert tok.decode(ids) == theirs.decode(ids, skip_special_tokens=False), text


@pytest.fixture(scope="module")
def spm() -> bytes:
    return sentencepiece_model()


# ---- Unigram -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [False, True])
def test_unigram(mask: bool, tmp_path: Path) -> None:
    table = unigram(mask)
    n = len(table["model"]["vocab"])
    meta = metadata(tmp_path, {"tokenizer.json": table}, n, bos_token_id=0, eos_token_id=2, pad_token_id=1)
    assert meta["tokenizer.ggml.model"] == "t5"
    assert (meta["tokenizer.ggml.unknown_token_id"], meta["tokenizer.ggml.remove_extra_whitespaces"]) == (3, True)
    assert JSON in meta or not mask
    same_as_library(from_metadata(meta), table)


@pytest.mark.parametrize("change", [{}, {"prefix": False}, {"charsmap": None}])
def test_a_unigram_goes_back(change: dict[str, Any], tmp_path: Path) -> None:
    """tokenizer.json and tokenizer.model of what a GGUF says give the ids that it gives here."""
    import sentencepiece

    table = unigram(False)
    meta = metadata(tmp_path, {"tokenizer.json": table}, len(table["model"]["vocab"]), bos_token_id=0, eos_token_id=2)
    meta.pop(JSON, None)
    if "prefix" in change:
        meta["tokenizer.ggml.add_space_prefix"] = False
    if "charsmap" in change:
        del meta["tokenizer.ggml.precompiled_charsmap"]
    files, ours = export_tokenizer.files_of(meta, 512), from_metadata(meta)
    same_as_library(ours, json.loads(files["tokenizer.json"]))
    theirs = sentencepiece.SentencePieceProcessor(model_proto=files["tokenizer.model"])
    for text in ("the cat sat", "  hello \u00a0 world", "\ufb01t"):
        assert theirs.encode(text) == ours.encode(text, add_special=False)


def test_a_unigram_that_no_tokenizer_json_can_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Runs of blanks that stay, behind a normalizer that makes two of a line's end: the library sees one."""
    table = unigram(False)
    meta = metadata(tmp_path, {"tokenizer.json": table}, len(table["model"]["vocab"]), bos_token_id=0, eos_token_id=2)
    meta.pop(JSON, None)
    meta["tokenizer.ggml.remove_extra_whitespaces"] = False
    assert export_tokenizer.files_of(meta, 512) == {}
    assert "left out of the export" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [({"vocab": [["a", "b"]]}, "no piece with its score"), ({"vocab": ["a"]}, "no piece"), ({"vocab": []}, "unk_id"),
     ({"vocab": [["a", True]]}, "no piece"), ({"unk_id": 10**9}, "unk_id is 1000000000")],
)  # fmt: skip
def test_a_unigram_that_is_none(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    table = unigram(False)
    table["model"] |= change
    with pytest.raises(GGUFError, match=message):
        metadata(tmp_path, {"tokenizer.json": table})


# ---- SentencePiece -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "normalizer, cut, whole_with_model",
    [
        (None, metaspace("first"), True),  # as transformers 5 saves every Llama again
        (None, metaspace("always"), True),
        (None, metaspace("first", split=True), True),
        (LEGACY, None, False),
    ],
)
def test_tokenizer_json_of_sentencepiece(normalizer, cut, whole_with_model, spm, tmp_path):
    table = as_json(spm, normalizer, cut)
    files = {"tokenizer.json": table, "tokenizer_config.json": {**LLAMA, "add_bos_token": False}}
    alone = metadata(tmp_path / "a", files, 320)
    assert (alone["tokenizer.ggml.model"], JSON in alone) == ("llama", True)
    same_as_library(from_metadata(alone), table)
    both = metadata(tmp_path / "b", {**files, "tokenizer.model": spm}, 320)
    assert (JSON in both) is whole_with_model  # scores are SentencePiece's own there, and blanks are perhaps plain
    same_as_library(from_metadata(both), table)


def test_without_a_blank_in_front(tmp_path):
    """As Gemma: nothing before the text, user-defined pieces matched after blanks are made visible."""
    model = sentencepiece_model(add_dummy_prefix=False, user_defined_symbols=["\u2581\u2581", "<tool>"])
    added = ({"id": 3, "content": "\u2581\u2581", "special": False, "normalized": True},
             {"id": 4, "content": "<tool>", "special": False, "normalized": True})  # fmt: skip
    table = as_json(model, BLANKS, None, added)
    table["decoder"]["decoders"].pop()
    files = {"tokenizer.json": table, "tokenizer_config.json": {**LLAMA, "add_bos_token": False}}
    meta = metadata(tmp_path, {**files, "tokenizer.model": model}, 320)
    assert JSON not in meta
    assert meta["pyggml.inline_token_ids"] == [3, 4]
    same_as_library(from_metadata(meta), table)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True},
        {"normalization_rule_name": "nfkc_cf"},
        {"add_dummy_prefix": False},
        {"byte_fallback": False},
        {"user_defined_symbols": ["<tool>", "\u2581\u2581"]},
        {"user_defined_symbols": ["<tool>"], "remove_extra_whitespaces": True},
        {"control_symbols": ["<tool>", "<pad>"]},
        {"split_digits": True, "split_by_whitespace": False},
        {"bos_id": -1, "eos_id": 1, "pad_id": 2},
    ],
    ids=str,
)
def test_tokenizer_model_alone(options, tmp_path):
    """The ids of the sentencepiece library, which knows no special tokens in a text."""
    import sentencepiece

    model = sentencepiece_model(**options)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    tok = tokenizer(tmp_path, {"tokenizer.model": model, "tokenizer_config.json": LLAMA}, theirs.vocab_size() + 5)
    for text in texts():
        assert tok.encode(text, add_special=False, parse_special=False) == theirs.encode(text), text


@pytest.mark.parametrize("name", ["spiece.model", "sentencepiece.bpe.model"])
def test_other_names_of_tokenizer_model(name, spm, tmp_path):
    assert tokenizer(tmp_path, {name: spm}, 320).encode("the cat")


def test_a_model_and_a_json_of_two_vocabularies(spm, tmp_path, caplog):
    """transformers reads tokenizer.json: it counts, aloud."""
    table = as_json(spm, None, metaspace("first"))
    other = sentencepiece_model(vocab_size=300)
    files = {"tokenizer.json": table, "tokenizer.model": other.replace(b"\xe2\x96\x81the", b"\xe2\x96\x81teh")}
    same_as_library(tokenizer(tmp_path, {**files, "tokenizer_config.json": {"add_bos_token": False}}, 320), table)
    assert "different tokens" in caplog.text


def test_a_model_of_another_kind_beside_a_json(spm, tmp_path, caplog):
    table = as_json(spm, None, metaspace("first"))
    files = {"tokenizer.json": table, "tokenizer.model": "IQ== 0\nIg== 1\n"}
    same_as_library(tokenizer(tmp_path, {**files, "tokenizer_config.json": {"add_bos_token": False}}, 320), table)
    assert "tiktoken file" in caplog.text


# ---- added tokens --------------------------------------------------------------------------------------------------


def test_added_tokens_json(spm, tmp_path):
    files = {
        "tokenizer.model": spm,
        "tokenizer_config.json": {**LLAMA, "eos_token": "<|im_end|>"},
        "added_tokens.json": {"<|im_end|>": 320, "<|im_start|>": 321, "[PAD]": 322, "plain": 323, "<s>": 1},
    }
    meta = metadata(tmp_path, files, 325)
    assert meta["tokenizer.ggml.tokens"][320:] == ["<|im_end|>", "<|im_start|>", "[PAD]", "plain", "[PAD324]"]
    assert meta["tokenizer.ggml.token_type"][320:] == [3, 3, 3, 4, 5]
    assert meta["tokenizer.ggml.eos_token_id"] == 320
    tok = from_metadata(meta)
    assert tok.encode("<|im_start|><|im_end|>", add_special=False) == [321, 320]
    assert tok.bos_id == 1


def test_special_tokens_map_names_them_too(spm, tmp_path):
    named = {"additional_special_tokens": ["<turn>"], "eos_token": {"content": "<turn>"}}
    added = {"<turn>": 320, "<other>": 321}
    files = {"tokenizer.model": spm, "added_tokens.json": added, "special_tokens_map.json": named}
    meta = metadata(tmp_path, files, 322)
    assert meta["tokenizer.ggml.token_type"][320:] == [3, 4]
    assert meta["tokenizer.ggml.eos_token_id"] == 320


def test_tokens_that_only_tokenizer_config_adds(tmp_path):
    """transformers adds them to tokenizer.json, with their flags."""
    decoder = {"262": {"content": "<|call|>", "special": True, "rstrip": True}, "259": {"content": "<|bos|>"}}
    files = {"tokenizer.json": checkpoint.tokenizer_json(), "tokenizer_config.json": {"added_tokens_decoder": decoder}}
    meta = metadata(tmp_path, files, 300)
    assert meta["tokenizer.ggml.tokens"][262] == "<|call|>"
    assert from_metadata(meta).encode("<|call|>  a", add_special=False) == [262, 97]


def test_ids_are_those_of_the_library_not_of_the_file(tmp_path):
    table = checkpoint.tokenizer_json()
    table["added_tokens"][2]["id"] = 290
    tok = tokenizer(tmp_path, {"tokenizer.json": table}, 300)
    assert tok.encode("[word]", add_special=False) == [261]


@pytest.mark.parametrize("bad", [{"x": -1}, {"x": "5"}, {"x": True}, {"x": 1 << 40}])
def test_added_tokens_of_impossible_ids(bad, spm, tmp_path):
    with pytest.raises(GGUFError, match="added"):
        metadata(tmp_path, {"tokenizer.model": spm, "added_tokens.json": bad}, None)


def test_tokens_beyond_the_embedding_are_left_out(spm, tmp_path, caplog):
    table = checkpoint.tokenizer_json()
    meta = metadata(tmp_path / "a", {"tokenizer.json": table}, 261)
    assert len(meta["tokenizer.ggml.tokens"]) == 261
    assert "1 added tokens have no row in the embedding of 261 and are left out: 261 '[word]'" in caplog.text
    assert 261 not in from_metadata(meta).encode("the[word]")
    with pytest.raises(GGUFError, match="259 tokens, the embedding 250 rows"):
        metadata(tmp_path / "b", {"tokenizer.json": table}, 250)

    added = ({"id": 320, "content": "<pad>"}, {"id": 321, "content": "<mask>"})
    table = as_json(spm, None, metaspace("first"), added)
    meta = metadata(tmp_path / "c", {"tokenizer.json": table, "tokenizer_config.json": {"add_bos_token": False}}, 320)
    assert "<mask>" not in meta[JSON]
    same_as_library(from_metadata(meta), as_json(spm, None, metaspace("first")))

    meta = metadata(tmp_path / "d", {"tokenizer.model": spm, "added_tokens.json": {"<far>": 5000}}, 320)
    assert len(meta["tokenizer.ggml.tokens"]) == 320
    with pytest.raises(GGUFError, match="belong to two models"):
        metadata(tmp_path / "e", {"tokenizer.model": spm}, 300)


# ---- what GGUF has no keys for -------------------------------------------------------------------------------------

ADDED = (("<|bos|>", True), ("<|end|>", True), ("[word]", False), ("<|user|>", True), ("word", False))


def table_with(flags: dict[str, dict[str, bool]] | None = None, **changes: Any) -> dict[str, Any]:
    """Byte-level BPE with five added tokens, and with changes at the top or (model_...) in the model."""
    table = copy.deepcopy(checkpoint.tokenizer_json())
    plain = {"normalized": False, "single_word": False, "lstrip": False, "rstrip": False}
    table["added_tokens"] = [
        {"id": 259 + i, "content": text, "special": special, **plain, **(flags or {}).get(text, {})}
        for i, (text, special) in enumerate(ADDED)
    ]
    for key, value in changes.items():
        inner = table["model"] if key.startswith("model_") else table
        inner[key.removeprefix("model_")] = value
    return table


@pytest.mark.parametrize(
    "normalizer, pre",
    [
        ({"type": "NFC"}, "llama-bpe"),
        ({"type": "NFKC"}, "huggingface"),
        ({"type": "NFD"}, "huggingface"),
        ({"type": "Lowercase"}, "huggingface"),
        ({"type": "Strip", "strip_left": True, "strip_right": True}, "huggingface"),
        ({"type": "Replace", "pattern": {"Regex": " +"}, "content": " "}, "huggingface"),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "StripAccents"}]}, "huggingface"),
    ],
    ids=str,
)
def test_normalizers(normalizer, pre, tmp_path):
    """NFC keeps the name that other engines know, as they leave it out too; the rest would mislead them."""
    table = table_with(normalizer=normalizer)
    meta = metadata(tmp_path, {"tokenizer.json": table}, 300)
    assert (meta["tokenizer.ggml.pre"], JSON in meta) == (pre, True)
    same_as_library(from_metadata(meta), table)


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word", "normalized"])
@pytest.mark.parametrize("normalizer", [None, {"type": "Lowercase"}])
def test_flags_of_added_tokens(flag, normalizer, tmp_path):
    table = table_with({"<|end|>": {flag: True}, "word": {flag: True}}, normalizer=normalizer)
    same_as_library(tokenizer(tmp_path, {"tokenizer.json": table}, 300), table)


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Sequence", "normalizers": []}},
        {"model_ignore_merges": False},
        {"model_unk_token": "<|end|>"},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
        {"pre_tokenizer": None, "normalizer": {"type": "ByteLevel"}},
        {"truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}},
        {"padding": {"strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                     "pad_type_id": 0, "pad_token": "!"}},
    ],
    ids=str,
)  # fmt: skip
def test_other_parts(changes, tmp_path):
    table = table_with(**changes)
    same_as_library(tokenizer(tmp_path, {"tokenizer.json": table}, 300), table)


def template(*parts: str) -> dict[str, Any]:
    ids = {text: 259 + i for i, (text, _) in enumerate(ADDED)}
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [sequence if part == "$" else {"SpecialToken": {"id": part, "type_id": 0}} for part in parts],
        "pair": [sequence, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in parts if t != "$"},
    }


@pytest.mark.parametrize(
    "parts, own",
    [
        (("<|bos|>", "$"), {}),
        (("$",), {}),
        (("<|bos|>", "<|user|>", "$"), {"pyggml.first_token_ids": [259, 262]}),
        (("<|user|>", "$", "<|end|>"), {"pyggml.first_token_ids": [262]}),
        (("$", "<|end|>", "<|user|>"), {"pyggml.last_token_ids": [260, 262]}),
    ],
    ids=str,
)
def test_what_is_put_around_a_text(parts, own, tmp_path):
    table = table_with(post_processor=template(*parts))
    names = {"bos_token": "<|bos|>", "eos_token": "<|end|>"}
    meta = metadata(tmp_path, {"tokenizer.json": table, "tokenizer_config.json": names}, 300)
    assert {key: value for key, value in meta.items() if key.startswith("pyggml.")} == own
    same_as_library(from_metadata(meta), table)


def test_a_fallback_to_bytes_that_never_comes(tmp_path):
    """Byte-level BPE is what its decoder says, whatever the model's flag."""
    table = checkpoint.tokenizer_json()
    plain = metadata(tmp_path / "plain", {"tokenizer.json": table})
    table["model"]["byte_fallback"] = True
    made = metadata(tmp_path / "flag", {"tokenizer.json": table})
    assert made == plain
    same_as_library(from_metadata(made), table)


def test_merges_without_their_prefix_never_reach_the_library(tmp_path, capfd):
    """It would panic, which is loud whatever becomes of the error."""
    table = checkpoint.tokenizer_json()
    table["model"]["continuing_subword_prefix"] = "##"
    with pytest.raises(GGUFError, match=r"merge 0 joins '.*', which does not begin with the prefix '##'"):
        metadata(tmp_path / "x", {"tokenizer.json": table})
    assert capfd.readouterr().err == ""


def test_dropout_belongs_to_training(tmp_path):
    tok = tokenizer(tmp_path, {"tokenizer.json": table_with(model_dropout=0.9)}, 300)
    assert {tuple(tok.encode("the the an")) for _ in range(20)} == {(259, 257, 32, 257, 32, 258)}


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cafe", "caf\u00e9", "##s", "The", "\u4f60", "a"]


@pytest.mark.parametrize("settings", [
    {}, {"do_lower_case": False}, {"strip_accents": False}, {"do_lower_case": False, "strip_accents": True},
    {"tokenize_chinese_chars": False},
], ids=str)  # fmt: skip
def test_wordpiece(settings, tmp_path):
    meta = metadata(tmp_path, {"vocab.txt": "\n".join(WORDS) + "\n", "tokenizer_config.json": settings}, 16)
    assert (JSON in meta) is ("tokenize_chinese_chars" in settings)
    tok = from_metadata(meta)
    lower = settings.get("do_lower_case") is not False
    strips = settings.get("strip_accents", lower)
    assert tok.encode("The", add_special=False) == [5 if lower else 9]
    assert tok.encode("caf\u00e9s", add_special=False) == [6 if strips else 7, 8]
    assert tok.encode("the\u4f60") == [2, *([1] if "tokenize_chinese_chars" in settings else [5, 10]), 3]


# ---- older files ---------------------------------------------------------------------------------------------------


def vocab_and_merges() -> tuple[dict[str, int], list[str]]:
    vocab = {text: i for i, text in enumerate([*byte_tokens(), "th", "the", "an", "##"])}
    return vocab, ["t h", "th e", "a n", "# #"]


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
@pytest.mark.parametrize("head", ["", "#version: 0.2\n", "#version: 0.2 - Trained\n\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_vocab_json_and_merges_txt(names, head, end, tmp_path):
    vocab, merges = vocab_and_merges()
    text = (head + "\n".join(merges) + "\n").replace("\n", end)
    settings = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"}
    files = {names[0]: {**vocab, "<|endoftext|>": 260}, names[1]: text, "tokenizer_config.json": settings}
    meta = metadata(tmp_path, files, 270)
    assert (meta["tokenizer.ggml.pre"], meta["tokenizer.ggml.eos_token_id"], JSON in meta) == ("gpt-2", 260, False)
    assert from_metadata(meta).encode("the an ##<|endoftext|>") == [257, 32, 258, 32, 259, 260]


def test_vocab_json_of_qwen2(tmp_path):
    vocab, merges = vocab_and_merges()
    decoder = {str(260 + i): {"content": t, "special": True} for i, t in enumerate(("<|im_start|>", "<|im_end|>"))}
    settings = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "added_tokens_decoder": decoder}
    files = {"vocab.json": vocab, "merges.txt": "\n".join(merges), "tokenizer_config.json": settings}
    meta = metadata(tmp_path, files, 270)
    tok = from_metadata(meta)
    assert (meta["tokenizer.ggml.pre"], tok.eos_id) == ("qwen2", 261)
    assert tok.encode("<|im_start|>the") == [260, 257]
    assert tok.encode("e\u0301") == tok.encode("\u00e9")  # NFC, as the class does
    del files["tokenizer_config.json"]["tokenizer_class"]
    assert metadata(tmp_path, files, 270, model_type="qwen2")["tokenizer.ggml.pre"] == "qwen2"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_vocab_txt(end, tmp_path):
    """Only these end a line: a token may be, or hold, what other characters Unicode calls a line end."""
    odd = ["\u2028", "\x85", "x\x0by", "\x1c", "tail ", "a", "a"]
    lines = [*WORDS[:5], "", *odd, "", ""]
    meta = metadata(tmp_path, {"vocab.txt": ("\ufeff" + end.join(lines) + end).encode()}, 13)
    tokens = meta["tokenizer.ggml.tokens"]
    assert tokens[:5] == WORDS[:5]
    assert tokens[5] == "[PAD5]"
    assert tokens[6:11] == ["\u2581" + text for text in odd[:5]]
    assert tokens[11:] == ["[PAD11]", "\u2581a"]  # of two the last counts, as BERT's own reader has it
    assert from_metadata(meta).encode("a", add_special=False) == [12]


REFUSED = {
    "no merges": ({"vocab.json": {"a": 0}}, r"vocab\.json but no merges\.txt"),
    "no vocab": ({"merges.txt": "a b\n"}, r"merges\.txt but no vocab\.json"),
    "unknown class": ({"vocab.json": {"a": 0}, "merges.txt": "", "tokenizer_config.json": {"tokenizer_class":
                      "CLIPTokenizer"}}, "CLIPTokenizer"),
    "bad merge": ({"vocab.json": {"a": 0}, "merges.txt": "#version\na b c\n", "tokenizer_config.json":
                  {"tokenizer_class": "GPT2Tokenizer"}}, r"merges\.txt, line 2"),
    "tekken": ({"tekken.json": {"config": {}}}, r"tekken\.json"),
    "tiktoken": ({"qwen.tiktoken": "IQ== 0\n"}, r"qwen\.tiktoken"),
    "tiktoken by another name": ({"tokenizer.model": "IQ== 0\nIg== 1\n"}, "tiktoken file"),
    "pointer": ({"tokenizer.model": "version https://git-lfs.github.com/spec/v1\n"}, "git lfs pull"),
    "versioned": ({"tokenizer.model.v3": b"\n\n"}, r"tokenizer\.model\.v3"),
    "only settings": ({"tokenizer_config.json": {"eos_token": "x"}}, r"tokenizer_config\.json"),
    "rwkv": ({"rwkv_vocab_v20230424.txt": "1 'a' 1\n"}, "rwkv_vocab"),
    "no model": ({"tokenizer.json": {"version": "1.0"}}, "holds no model"),
    "unigram": ({"tokenizer.json": {"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}}, "Unigram"),
    "characters": ({"tokenizer.json": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}}, "of characters"),
    "not BERT's": ({"vocab.txt": "a\nb\n"}, r"\[UNK\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_nobody_understands_is_refused_by_name(name, tmp_path):
    files, reason = REFUSED[name]
    with pytest.raises(PyggmlError, match=reason) as caught:
        metadata(tmp_path, files, 300)
    assert isinstance(caught.value, (GGUFError, UnsupportedError))


@pytest.mark.parametrize("options", [{"treat_whitespace_as_suffix": True}, {"model_type": "unigram"}], ids=str)
def test_sentencepiece_of_other_kinds(options, tmp_path):
    with pytest.raises(UnsupportedError, match=r"whitespace_as_suffix|unigram"):
        metadata(tmp_path, {"tokenizer.model": sentencepiece_model(**options)}, 400)


def test_no_tokenizer_files_at_all(tmp_path):
    assert metadata(tmp_path, {"config.json": {}, "model.safetensors": b"", "README.md": "x"}) == {}


# ---- ends of a generation ------------------------------------------------------------------------------------------

MANY = ("<|bos|>", "<|eos|>", "<|a|>", "<|b|>", "<|c|>", "<|im_end|>")


@pytest.mark.parametrize(
    "ends, keys",
    [
        (260, {"eos": 260}),
        ([260, 261], {"eos": 260, "eot": 261}),
        ([261, 262], {"eos": 260, "eot": 261, "eom": 262}),
        ([260, 261, 264], {"eos": 260, "eot": 261}),  # <|im_end|> is found by its text
        ([263, 262, 261, 260], {"eos": 260, "eot": 263, "eom": 262, "list": [263, 262, 261, 260]}),
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["generation_config.json", "config.json"])
def test_lists_of_end_tokens(ends, keys, where, tmp_path):
    table = checkpoint.tokenizer_json()
    plain = {"normalized": False, "single_word": False, "lstrip": False, "rstrip": False, "special": True}
    table["added_tokens"] = [{"id": 259 + i, "content": text, **plain} for i, text in enumerate(MANY)]
    names = {"bos_token": "<|bos|>", "eos_token": "<|eos|>"}
    files = {"tokenizer.json": table, "tokenizer_config.json": names}
    config = {"eos_token_id": ends} if where == "config.json" else {}
    if not config:
        files[where] = {"eos_token_id": ends}
    meta = metadata(tmp_path, files, 270, **config)
    found = {
        k: meta[f"tokenizer.ggml.{k}_token_id"] for k in ("eos", "eot", "eom") if f"tokenizer.ggml.{k}_token_id" in meta
    }
    if "pyggml.eog_token_ids" in meta:
        found["list"] = meta["pyggml.eog_token_ids"]
    assert found == keys
    wanted = {ends} if isinstance(ends, int) else set(ends)
    assert from_metadata(meta).eog_ids == wanted | {260, 264}


def test_an_end_that_is_no_token_is_said(tmp_path, caplog):
    files = {"tokenizer.json": checkpoint.tokenizer_json(), "generation_config.json": {"eos_token_id": [261, 9999]}}
    meta = metadata(tmp_path, files, 262)
    assert meta["tokenizer.ggml.eos_token_id"] == 261
    assert "9999" in caplog.text


# ---- chat templates ------------------------------------------------------------------------------------------------

KEY = "tokenizer.chat_template"


@pytest.mark.parametrize(
    "given",
    [
        [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}, {"name": "r-1", "template": "R"}],
        {"default": "D", "tool_use": "T", "r-1": "R"},
    ],
)
def test_named_templates(given, tmp_path):
    files = {"tokenizer.json": checkpoint.tokenizer_json(), "tokenizer_config.json": {"chat_template": given}}
    meta = metadata(tmp_path / "src", files, 262)
    named = {key: value for key, value in meta.items() if key.startswith(KEY)}
    wanted = {KEY: "D", f"{KEY}.tool_use": "T", f"{KEY}.r_1": "R", "tokenizer.chat_templates": ["r_1", "tool_use"]}
    assert named == wanted
    again = {"tokenizer.json": checkpoint.tokenizer_json(), **templates.files_of(meta)}
    back = metadata(tmp_path / "back", again, 262)
    assert {key: value for key, value in back.items() if key.startswith(KEY)} == wanted


def test_template_files_count_before_settings(tmp_path):
    files = {
        "tokenizer.json": checkpoint.tokenizer_json(),
        "tokenizer_config.json": {"chat_template": "old"},
        "chat_template.jinja": "\ufeffnew\r\nline",
        "additional_chat_templates/rag.jinja": "R",
        "additional_chat_templates/notes.txt": "no template",
    }
    meta = metadata(tmp_path, files, 262)
    assert (meta[KEY], meta[f"{KEY}.rag"], meta["tokenizer.chat_templates"]) == ("new\nline", "R", ["rag"])


# ---- the check -----------------------------------------------------------------------------------------------------


def test_the_check_sees_what_differs(tmp_path):
    table = table_with()
    meta = metadata(tmp_path, {"tokenizer.json": table}, 300)
    assert (meta["tokenizer.ggml.bos_token_id"], meta["tokenizer.ggml.add_bos_token"]) == (259, True)
    files = tokenizer_files.read(Source(str(tmp_path), {}, [], original=False), Config({}, "config.json"), 300)
    assert files is not None
    assert tokenizer_check.difference(meta, files) is None
    tokens = list(meta["tokenizer.ggml.tokens"])
    tokens[97], tokens[98] = tokens[98], tokens[97]
    types = [1 if t == 3 else t for t in meta["tokenizer.ggml.token_type"]]
    for wrong in (
        {"tokenizer.ggml.tokens": tokens},
        {"tokenizer.ggml.token_type": types},
        {"tokenizer.ggml.merges": ["t h", "th e"]},
        {"tokenizer.ggml.add_bos_token": False},
    ):
        assert "gives" in str(tokenizer_check.difference({**meta, **wrong}, files)), wrong
