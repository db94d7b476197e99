"""What may be passed to the public calls beyond the plain case, and what comes back: right values, not errors alone."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attack.values import Array, FsPath, Index, Tensorish
from model import tiny

import pyggml
from pyggml import display, gguf
from pyggml.arguments import ids, number, path, shown, whole
from pyggml.chat.template import ChatTemplate
from pyggml.completion import Alternative
from pyggml.config import Config
from pyggml.engine.cache_type import CACHE_TYPES
from pyggml.errors import ArgumentTypeError, FileError, FileExists, FileForbidden, FileIsFolder, FileMissing
from pyggml.keywords import hint
from pyggml.model import BUNDLED
from pyggml.quant.types import QuantType

TEMPLATE = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{{ enable_thinking }}"
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def m() -> Iterator[Any]:
    with pyggml.load(n_ctx=64) as model:
        yield model


# ---- numbers and arrays --------------------------------------------------------------------------------------------


def test_numbers_of_any_library_are_as_good_as_pythons(m: Any) -> None:
    want = m.generate("Once", max_tokens=3, temperature=0.5, top_k=7, seed=4).tokens
    for n, t, k, seed in (
        (np.int64(3), np.float32(0.5), np.uint8(7), np.int32(4)),
        (3, Decimal("0.5"), np.array(7), 4),
    ):
        assert m.generate("Once", max_tokens=n, temperature=t, top_k=k, seed=seed).tokens == want
    assert m.generate("Once", max_tokens=Index(), temperature=0).usage.completion_tokens == 1
    assert m.session(np.int16(4)).n_ctx == 4
    assert pyggml.strategy("server", memory=np.int64(1 << 30)).max_size == 3 << 28


def test_a_seed_of_minus_one_is_another_each_time(m: Any) -> None:
    assert len({m.generate("Once", max_tokens=20, seed=-1).text for _ in range(4)}) > 1
    assert len({m.generate("Once", max_tokens=20, seed=2**64 - 1).text for _ in range(2)}) == 1
    for seed in (-2, 2**64):
        with pytest.raises(pyggml.ArgumentError, match="seed must be"):
            m.generate("Once", seed=seed)


def test_ids_of_any_kind_are_the_same_prompt(m: Any) -> None:
    want = m.generate([5, 6, 7], max_tokens=2, temperature=0).tokens
    kinds = [(5, 6, 7), range(5, 8), iter([5, 6, 7]), np.array([5, 6, 7], np.uint16), [np.int64(5), 6, Index() and 7]]
    for prompt in [*kinds, Tensorish(np.array([5, 6, 7]), "torch.int64", False)]:
        assert m.generate(prompt, max_tokens=2, temperature=0).tokens == want
    both = m.generate(np.array([[5, 6, 7], [5, 6, 7]]), max_tokens=2, temperature=0)
    assert [c.tokens for c in both] == [want, want]
    assert np.array_equal(m.logits(np.array([5, 6, 7])), m.logits([5, 6, 7]))
    assert m.detokenize(np.array([5, 6, 7])) == m.detokenize(iter([5, 6, 7]))


def test_lists_of_prompts(m: Any) -> None:
    assert m.generate([]) == m.generate(()) == m.generate(iter(())) == []
    start = m.generate("", max_tokens=1, temperature=0).tokens
    mixed = m.generate(["", [], "Once", np.array([5])], max_tokens=1, temperature=0)
    assert [c.tokens for c in mixed[:2]] == [start, start]
    assert len(mixed) == 4
    assert len(m.generate((p for p in ["Once", "The"]), max_tokens=1)) == 2
    stops = m.generate(["Once upon a", "Once upon a"], max_tokens=9, temperature=0, stop=iter([" great", " time"]))
    assert [c.text for c in stops] == ["", ""]  # a generator of stops serves every prompt
    with pytest.raises(ArgumentTypeError, match=r"prompt\[1\] must be text \(str\) or a list of token ids, got 3"):
        m.generate(["a", 3])
    with pytest.raises(ArgumentTypeError, match=r"prompt\[0\].*several prompts"):
        m.generate([["a"], "b"])
    with pytest.raises(ArgumentTypeError, match="several prompts"):
        m.stream(["a", "b"])


def test_bytes_are_no_prompt(m: Any) -> None:
    for bad in (b"abc", bytearray(b"abc"), memoryview(b"abc")):
        for call in (m.generate, m.stream, m.tokenize, m.score, m.perplexity):
            with pytest.raises(TypeError, match=r"\(str\).*got (bytes|bytearray|memoryview)"):
                call(bad)
    with pytest.raises(ArgumentTypeError, match="str"):
        m.generate(None)
    with pytest.raises(ArgumentTypeError, match=r"m\.chat"):
        m.generate(HI)


def test_odd_texts_are_texts(m: Any) -> None:
    for prompt in ("\udcff", "a\0b", "\ufeff", "\U0001f600", np.str_("Once"), m.generate("Once", max_tokens=2)):
        assert m.generate(prompt, max_tokens=1).usage.prompt_tokens == len(m.tokenize(str(prompt)))
    with pytest.raises(pyggml.ContextFull, match="64"):
        m.generate("Once upon a time " * 500)


def test_a_text_far_beyond_the_context_is_refused_by_its_beginning(m: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = m.tokenizer.encode
    monkeypatch.setattr(m.tokenizer, "encode", lambda text, *a, **k: seen.append(len(text)) or real(text, *a, **k))
    huge = "Once upon a time " * 1_000_000
    said = r"17,000,000 characters, and its first 65,536 alone are \d+ tokens.*context of 64; shorten the text"
    say = [{"role": "user", "content": huge[:4_000_000]}]
    for call in (m.generate, m.stream, m.score, lambda text: m.generate(["Once", text])):
        with pytest.raises(pyggml.ContextFull, match=said):
            call(huge)
    with pytest.raises(pyggml.ContextFull, match="its first 65,536 alone"):
        m.chat(say, template=TEMPLATE)
    assert max(seen) == 65_536
    blanks = "\n" * 200_000  # few tokens, perhaps: the whole is read before it is judged
    with pytest.raises(pyggml.ContextFull, match="context of 64"):
        m.generate(blanks)
    with pytest.raises(pyggml.ArgumentError, match="tokens, at least"):
        m.perplexity("Once " * 3, n_ctx=32)


def test_quantize_takes_what_holds_numbers() -> None:
    x = np.linspace(-1, 1, 32, dtype=np.float32)
    want = pyggml.quantize(x, "q8_0").raw.tobytes()
    for same in (x.tolist(), x.astype(np.float64), Tensorish(x), Tensorish(x, "torch.float32"), iter(x.tolist())):
        assert pyggml.quantize(same, "q8_0").raw.tobytes() == want
    assert pyggml.quantize(Array(), "q8_0").shape == (32,)
    assert pyggml.dequantize(memoryview(want), np.uint8(8), np.array([32])).tolist() == pytest.approx(x, abs=1e-2)
    w = pyggml.quantize(np.stack([x, x]), "f32")
    assert (w @ Tensorish(x)).tolist() == pytest.approx([float(x @ x)] * 2)
    for bad in (None, "1.5", ["1.5"], [None], [1j], np.array(["2026-01-01"], "M8[D]"), {1: 2}, [[1], [2, 3]], object()):
        with pytest.raises(TypeError, match="x must be an array of numbers"):
            pyggml.quantize(bad, "q8_0")
    for call, name in (
        (lambda: pyggml.quantize(x, "q8_0", importance=x[:3]), "importance"),
        (lambda: pyggml.quantize([], "q8_0"), "x of shape"),
        (lambda: pyggml.dequantize(want, "q8_0", (2.5,)), r"shape\[0\]"),
        (lambda: pyggml.quantize(x, "q8_0", effort="bets"), "did you mean best"),
    ):
        with pytest.raises(ValueError, match=name):
            call()


def test_a_torch_parameter_of_bf16_is_quantized() -> None:
    torch = pytest.importorskip("torch", reason="NO TORCH: the real thing behind Tensorish")
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 64).reshape(2, 32).bfloat16())
    want = pyggml.quantize(weight.detach().float().numpy(), "q8_0").raw.tobytes()
    assert pyggml.quantize(weight, "q8_0").raw.tobytes() == want
    assert pyggml.quantize([weight[0], weight[1]], "q8_0").raw.tobytes() == want
    assert ids("ids", torch.tensor([1, 2])).tolist() == [1, 2]
    assert (whole("n", torch.tensor(3), 0), number("p", torch.tensor(0.5), 0, 1)) == (3, 0.5)
    for call, bad in ((whole, torch.tensor(True)), (ids, torch.tensor([True])), (ids, torch.tensor([1.0]))):
        with pytest.raises(TypeError, match="n must be"):
            call("n", bad, *([0] if call is whole else []))


def test_rows_are_iterated_and_an_index_beyond_is_an_index_error() -> None:
    w = pyggml.quantize(np.ones((2, 32), np.float32), "q8_0")
    assert [row.shape for row in w] == [(32,), (32,)]
    assert w[np.int8(-1)].shape == (32,)
    for beyond in (2, -3, 10**30):
        with pytest.raises(IndexError, match="outside"):
            w[beyond]
    with pytest.raises(pyggml.ArgumentError, match="row"):
        w[True]


def test_messages_show_any_value() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError

    for value in (
        10**5000,
        Silent(),
        "x" * 10**6,
        list(range(10**6)),
        np.zeros((3, 4)),
        "\udcff\n",
        b"\0" * 99,
        {1: {2: {}}},
    ):
        assert len(shown(value)) <= 130
        assert shown(value).isprintable()
    with pytest.raises(pyggml.ArgumentError, match=r"n must be a whole number from 1 to 5, got 6"):
        whole("n", 6, 1, 5)
    with pytest.raises(pyggml.ArgumentError, match=r"p must be a number above 0 to 1, got 0"):
        number("p", 0, 0, 1, above=True)


# ---- paths ---------------------------------------------------------------------------------------------------------


def test_missing_files_are_file_not_found_errors(tmp_path: Path, m: Any) -> None:
    gone = tmp_path / "gone"
    calls = [
        lambda: pyggml.load(gone), lambda: gguf.open(gone), lambda: pyggml.estimate(gone),
        lambda: pyggml.load_recipe(gone), lambda: pyggml.Imatrix.load(gone), lambda: pyggml.Sensitivity.load(gone),
        lambda: pyggml.convert(gone, tmp_path / "out"), lambda: pyggml.split_file(gone, tmp_path / "out"),
        lambda: pyggml.merge_file(gone, tmp_path / "out"), lambda: pyggml.quantize_file(gone, tmp_path / "out"),
        lambda: m.perplexity(gone), lambda: pyggml.compare(gone, m, [1] * 9), lambda: pyggml.imatrix(gone, [1] * 9),
        lambda: gguf.Writer(gone / "x").close(), lambda: pyggml.quantize_file(BUNDLED, BUNDLED, imatrix=gone),
        lambda: pyggml.quantize_file(BUNDLED, gone / "x", allow_requantize=True),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(FileNotFoundError, match="gone") as caught:
            call()
        assert isinstance(caught.value, pyggml.GGUFError)
        assert isinstance(caught.value, pyggml.ArgumentError)
        assert caught.value.errno == errno.ENOENT
        assert str(caught.value.filename).startswith(str(gone))
        assert pickle.loads(pickle.dumps(caught.value)).filename == caught.value.filename
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("llama.attention.head_count", 0, "head_count is 0"),
        ("llama.block_count", 9, "blk.2.attn_norm.weight is missing"),
        ("tokenizer.ggml.merges", [3], "merges"),
    ],
)
def test_a_broken_model_is_told_by_its_path(key: str, value: object, says: str, tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "x.gguf", extra={key: value}).path
    with pytest.raises(pyggml.GGUFError, match=says) as told, pyggml.load(path) as model:
        model.tokenize("a")
    assert str(path) in str(told.value)


@pytest.mark.parametrize("kv_type", ["q4_k", "zz", "i32", 12])
def test_a_cache_type_is_told_by_the_types_of_caches(kv_type: Any, m: Any) -> None:
    for call in (lambda: pyggml.load(kv_type=kv_type), lambda: pyggml.estimate(BUNDLED, kv_type=kv_type)):
        with pytest.raises(pyggml.ArgumentError, match=rf"kv_type is .*, expected one of {', '.join(CACHE_TYPES)}$"):
            call()
    with pytest.raises(pyggml.ArgumentError, match="kv_type is"):
        m.session(kv_type=kv_type)


def test_every_type_that_the_core_caches_is_a_cache_type(tmp_path: Path) -> None:
    with pyggml.load(tiny.write(tmp_path / "x.gguf", head_dim=32).path) as model:
        held = {kind.name for kind in QuantType if model._loaded.plan.kv_bytes(kind.id, 8)}
    assert held == set(CACHE_TYPES)


def test_other_refusals_of_the_system(tmp_path: Path) -> None:
    for call in (
        lambda: pyggml.load(tmp_path),
        lambda: gguf.Writer(tmp_path).close(),
        lambda: pyggml.load_recipe(tmp_path),
    ):
        with pytest.raises(IsADirectoryError) as caught:
            call()
        assert isinstance(caught.value, FileIsFolder)
    (tmp_path / "x-00001-of-00001.gguf").write_bytes(b"")
    with pytest.raises(FileExistsError) as there:
        pyggml.split_file(BUNDLED, tmp_path / "x")
    assert isinstance(there.value, FileExists)
    if os.geteuid():
        (tmp_path / "secret").touch(0)
        with pytest.raises(PermissionError) as denied:
            pyggml.load(tmp_path / "secret")
        assert isinstance(denied.value, FileForbidden)
    with pytest.raises(OSError, match="Not a directory") as inside:
        gguf.open(tmp_path / "x-00001-of-00001.gguf" / "y")
    assert type(inside.value) is FileError
    with pytest.raises(FileMissing, match="path is empty"):
        gguf.open("")


def test_home_is_expanded_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    tiny.write(tmp_path / "m.gguf", n_layer=1)
    with pyggml.load("~/m.gguf") as m, gguf.open(b"~/m.gguf") as file:
        assert m._loaded.file.path == file.path == str(tmp_path / "m.gguf")
        im = pyggml.imatrix("~/m.gguf", "Once upon a time there was a king")
        im.save("~/i.gguf")
        assert pyggml.Imatrix.load(Path("~/i.gguf")).keys() == im.keys()
    pyggml.quantize_file("~/m.gguf", "~/q.gguf", "Q8_0", imatrix="~/i.gguf")
    parts = pyggml.split_file("~/q.gguf", "~/s", max_tensors=8)
    pyggml.merge_file(parts[0], "~/whole.gguf")
    (tmp_path / "r.toml").write_text('base = "Q4_K_M"')
    assert pyggml.load_recipe("~/r.toml").base == "Q4_K_M"
    assert pyggml.estimate("~/whole.gguf").weights > 0
    pyggml.Sensitivity({}).save("~/c.json")
    assert pyggml.Sensitivity.load("~/c.json").tensors == {}
    assert path("p", FsPath()) == "not-there"
    assert {p.name for p in tmp_path.iterdir()} >= {"q.gguf", "i.gguf", "whole.gguf", "c.json"}


def test_an_open_file_is_no_path() -> None:
    with open(BUNDLED, "rb") as file, pytest.raises(ArgumentTypeError, match=r"path must be a path.*pass its name"):
        pyggml.load(file)
    with pytest.raises(TypeError, match="path must be a path"):
        gguf.open(3)


# ---- keywords ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "name", "says"),
    [
        ("load", "n_gpu_layers", "CPU"), ("load", "model_path", "called path"), ("load", "verbose", "logging"),
        ("load", "n_batch", "leave it out"), ("load", "num_ctx", "called n_ctx"), ("load", "logits_all", "m.logits"),
        ("load", "n_thread", "did you mean n_threads"), ("load", "chat_format", "template"),
        ("generate", "max_new_tokens", "called max_tokens"), ("generate", "max_length", "called max_tokens"),
        ("generate", "num_predict", "called max_tokens"), ("generate", "temp", "called temperature"),
        ("generate", "repetition_penalty", "called repeat_penalty"), ("generate", "do_sample", "temperature=0"),
        ("generate", "echo", "new text only"), ("generate", "suffix", "not built in"), ("generate", "num_ctx", "load"),
        ("generate", "stop_sequences", "called stop"), ("generate", "messages", "m.chat"),
        ("generate", "stream", "m.stream"),
        ("generate", "num_return_sequences", "called n here"), ("generate", "verbose", "logging"),
        ("generate", "sead", "mean seed"), ("load", "max_num_seqs", "called n_parallel"),
        ("stream", "max_new_tokens", "called max_tokens"), ("stream", "zzz", "it takes prompt, max_tokens"),
        ("chat", "max_token", "called max_tokens"), ("chat", "temprature", "mean temperature"),
        ("chat", "prompt", "m.generate"), ("chat", "enable_thinkin", "mean enable_thinking"),
        ("render_chat", "enable_thinkin", "mean enable_thinking"), ("session", "context_length", "called n_ctx"),
        ("session", "type_k", "called kv_type"), ("quantize_file", "outtype", "called recipe"),
        ("quantize_file", "nthread", "called n_threads"), ("quantize_file", "pure", "pure:Q4_K"),
        ("quantize_file", "quantization_method", "called recipe"), ("convert", "outtype", "called dtype"),
        ("convert", "outfile", "called dst"), ("convert", "ftype", "called quantize"),
        ("compare", "context_length", "called n_ctx"), ("imatrix", "model_path", "called model"),
    ],
)  # fmt: skip
def test_names_of_other_libraries_get_a_hint(m: Any, call: str, name: str, says: str) -> None:
    given: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "load": (pyggml.load, ()), "quantize_file": (pyggml.quantize_file, ("a", "b")),
        "convert": (pyggml.convert, ("a", "b")), "compare": (pyggml.compare, ()), "imatrix": (pyggml.imatrix, ()),
    }  # fmt: skip
    held, args = given.get(call) or (getattr(m, call), (HI,) if "chat" in call else ())
    more = {"template": TEMPLATE} if "chat" in call else {}
    with pytest.raises(TypeError, match=re.escape(f"{call}() has no argument {name!r}")) as caught:
        held(*args, **{name: 1}, **more)
    assert isinstance(caught.value, pyggml.ArgumentError)
    assert says in str(caught.value)


def test_hints_point_to_what_exists() -> None:
    known = ["max_tokens", "temperature"]
    assert hint("max_new_tokens", known) == "it is called max_tokens here"
    assert "max_new_tokens" not in hint("max_new_tokens", ["n_ctx"])
    with pytest.raises(TypeError, match=r"load\(\) got 2 values without a name, it takes 1.*n_ctx="):
        pyggml.load("a", 5)  # type: ignore[misc]


def test_template_variables(m: Any) -> None:
    assert m.render_chat(HI, template=TEMPLATE, enable_thinking=True).endswith("<user>hiTrue")
    assert m.render_chat(HI, template=TEMPLATE, add_generation_prompt=False, tools=None).endswith("<user>hi")
    assert m.render_chat(HI, template=TEMPLATE, template_args={"enable_thinking": 7, "zzz": 1}).endswith("hi7")
    with pytest.raises(ArgumentTypeError, match=r"tools.*nor does the chat template read it"):
        m.render_chat(HI, template=TEMPLATE, tools=[{}])
    with pytest.raises(ArgumentTypeError, match="template_args must be a dict"):
        m.chat(HI, template=TEMPLATE, template_args=[1])
    with pytest.raises(pyggml.ArgumentError, match="messages"):
        m.chat(HI, template=TEMPLATE, template_args={"messages": []})
    assert m.chat(HI, template=TEMPLATE, max_tokens=1, stop=None, enable_thinking=False).usage.completion_tokens <= 1
    stream = m.chat(HI, template=TEMPLATE, max_tokens=2, stream=np.True_)
    assert "".join(stream) == stream.result.text


# ---- messages ------------------------------------------------------------------------------------------------------

PRINTS = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
PARTS = "{% for m in messages %}[{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
PARTS += "{% if p.type == 'text' %}<{{ p.text }}>{% endif %}{% endfor %}{% endif %}]{% endfor %}"


@pytest.mark.parametrize(
    ("content", "printed", "parts"),
    [
        ([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "[one\ntwo]", "[<one><two>]"),
        ([{"text": "one"}, "two"], "[one\ntwo]", "[<one><two>]"),
        ({"type": "text", "text": "one"}, "[one]", "[<one>]"),
        ([], "[]", "[]"), (None, "[]", "[]"), ("one", "[one]", "[one]"),
    ],
)  # fmt: skip
def test_contents(content: Any, printed: str, parts: str) -> None:
    message = {"role": "user", "content": content}
    before = copy.deepcopy(message)
    assert ChatTemplate(PRINTS).render([message]) == printed
    assert ChatTemplate(PARTS).render(iter([message])) == parts  # type: ignore[arg-type]
    assert message == before


def test_none_stays_where_tools_are_called() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
    assert ChatTemplate("{{ messages[0].content is none }}").render([message]) == "True"


def test_a_completion_may_be_a_content(m: Any) -> None:
    answer = m.generate("Once", max_tokens=3)
    assert ChatTemplate(PRINTS).render([{"role": "assistant", "content": answer}]) == f"[{answer}]"


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ("hi", "list of dicts like"), ({"role": "user"}, "list of dicts like"), (None, "list of dicts like"),
        (5, "got 5"),
        (["hi"], r"messages\[0\] is str"), ([HI], r"messages\[0\] is list"), (b"hi", "list of dicts"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "image_url"),
        ([{"role": "user", "content": [{"type": "text"}]}], "text"), ([{"role": "user", "content": b"hi"}], "bytes"),
    ],
)  # fmt: skip
def test_messages_of_another_form(messages: Any, says: str) -> None:
    with pytest.raises(pyggml.TemplateError, match=says):
        ChatTemplate(PRINTS).render(messages)


# ---- what comes back -----------------------------------------------------------------------------------------------


def test_a_completion_is_its_text(m: Any) -> None:
    c = m.generate("Once upon a", max_tokens=5, temperature=0)
    text = c.text
    assert text[1:3] in c
    assert ("Once" + c, c + "!", c + c, c[2:5], c[0], len(c)) == (
        "Once" + text,
        text + "!",
        text * 2,
        text[2:5],
        text[0],
        len(text),
    )
    assert (list(c), f"{c:>40}", f"{c}", "%s" % c) == (list(text), f"{text:>40}", text, text)  # noqa: UP031
    assert (c.strip(), c.split(), c.startswith(text[:2]), c.endswith(("x", text[-2:]))) == (
        text.strip(),
        text.split(),
        True,
        True,
    )
    assert c != text
    assert c == copy.copy(c) == copy.deepcopy(c)
    with pytest.raises(AttributeError, match=r"the text has: \.text\.lower"):
        c.lower()
    with pytest.raises(TypeError, match="text"):
        assert 5 in c
    with pytest.raises(TypeError, match="unsupported operand"):
        c + 5


def test_logprobs_carry_texts(m: Any) -> None:
    c = m.generate("Once upon a", max_tokens=4, temperature=0, logprobs=2)
    assert "".join(lp.text for lp in c.logprobs) == c.text
    for lp in c.logprobs:
        assert (lp.token, lp.top[0].text, lp.top[0].token) == (lp.text, lp.text, lp.text)
        assert lp.top[0] == (lp.id, lp.top[0].logprob)
        (first, _), (second, value) = lp.top
        assert (first, m.detokenize([second]), value) == (lp.id, lp.top[1].text, lp.top[1].logprob)
    again = pickle.loads(pickle.dumps(c))
    assert again == c
    assert [a.text for lp in again.logprobs for a in lp.top] == [a.text for lp in c.logprobs for a in lp.top]
    assert copy.deepcopy(Alternative(1, -0.5, "x")).text == "x"
    for bad in (-1, 1001, True, 1.5, "2"):
        with pytest.raises(pyggml.ArgumentError, match="logprobs must be"):
            m.generate("Once", logprobs=bad)


def test_a_stream_is_a_context_manager(m: Any) -> None:
    with m.stream("Once upon a time", max_tokens=20) as s:
        first = next(s)
    assert s.result.text.startswith(first)
    assert s.result.finish_reason == "cancelled" or len(s.result.tokens) < 20
    assert list(s) == []


def test_pictures_for_notebooks(m: Any, tmp_path: Path) -> None:
    c = pyggml.Completion(
        "<b>&\udcff", [1], "stop", *(getattr(m.generate("a", max_tokens=1), n) for n in ("usage", "timings"))
    )
    assert "&lt;b&gt;&amp;?" in c._repr_html_()
    name = tmp_path / "a&b.gguf"
    name.write_bytes(tiny.write(tmp_path / "x.gguf", n_layer=1).path.read_bytes())
    with gguf.open(name) as file, pyggml.load(name) as model:
        pages = [file._repr_html_(), model._repr_html_(), pyggml.estimate(file)._repr_html_()]
        pages.append(model.tensors["output.weight"]._repr_html_())
    pages += [file._repr_html_(), model._repr_html_()]  # closed
    for page in pages:
        assert page.startswith("<")
        page.encode()
        assert not re.search(r"&(?!amp;|lt;|gt;|quot;|#x27;)", page)
    assert "a&amp;b" in pages[0]
    assert display.table(["a"], [["<x>"]]).count("&lt;x&gt;") == 1


def test_what_holds_a_file_cannot_be_pickled(m: Any, tmp_path: Path) -> None:
    file = gguf.open(BUNDLED)
    for held in (m, m.session(4), m.stream("a"), file, next(iter(file.tensors.values())), gguf.Writer(tmp_path / "x")):
        for way in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=f"a {type(held).__name__} cannot be pickled") as caught:
                way(held)
            assert isinstance(caught.value, pyggml.PyggmlError)
    with pytest.raises(TypeError, match="pass its path and load it in each process"):
        pickle.dumps(m)
    with pytest.raises(TypeError, match="MappedFile"):
        copy.copy(file._files[0])  # two owners of one descriptor would close it twice
    assert file.metadata["general.architecture"] == "llama"
    file.close()


def test_what_is_data_can_be_pickled(m: Any) -> None:
    tensor = m.tensors["output_norm.weight"]
    data = [pyggml.estimate(BUNDLED), m.config, pyggml.QuantType.Q4_K, pyggml.Recipe("Q8_0"), m.memory()]
    for value in (*data, m.generate("a", max_tokens=1)):
        for way in (lambda v: pickle.loads(pickle.dumps(v)), copy.copy, copy.deepcopy):
            assert way(value) == value
    assert pickle.loads(pickle.dumps(pyggml.QuantType.Q4_K)) is pyggml.QuantType.Q4_K
    for way in (lambda v: pickle.loads(pickle.dumps(v)), copy.copy, copy.deepcopy):
        assert (way(tensor).numpy() == tensor.numpy()).all()
    coded = pyggml.numeric.encode(np.ones((2, 32)), "nf4")
    assert (pickle.loads(pickle.dumps(coded)).decode() == coded.decode()).all()
    assert isinstance(m.config, Config)


def test_dir_shows_the_public_names() -> None:
    for module in (pyggml, gguf, pyggml.numeric, pyggml.recipes):
        assert sorted(dir(module)) == sorted(module.__all__)
    code = "import pyggml, json; print(json.dumps(dir(pyggml)))"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "annotations" not in json.loads(got.stdout)


def test_names_of_other_libraries_objects_get_a_hint(m: Any) -> None:
    tensor = m.tensors["output_norm.weight"]
    for of, name, said in (
        (m, "create_completion", r"m\.generate"), (m, "create_chat_completion", r"m\.chat"), (m, "encode", "tokenize"),
        (m, "from_pretrained", r"pyggml\.load"), (m, "tokenise", "did you mean tokenize"), (m, "n_embd", r"m\.config"),
        (pyggml, "Llama", r"pyggml\.load"), (pyggml, "AutoModelForCausalLM", "load"), (pyggml, "GGUFReader", "gguf"),
        (pyggml, "quantise_file", "did you mean quantize_file"), (pyggml, "laod", "did you mean load"),
        (tensor, "T", r"\.numpy\(\)\.T"), (tensor, "astype", r"\.numpy\(\)\.astype"),
    ):  # fmt: skip
        with pytest.raises(AttributeError, match=f"{name}'.*{said}") as caught:
            getattr(of, name)
        assert caught.value.name == name
        assert not hasattr(of, name)
    for of in (m, tensor, pyggml):
        with pytest.raises(AttributeError, match=r"'nothing_like_it'$"):
            of.nothing_like_it  # noqa: B018
    with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
        pyggml.load("https://example.org/model.gguf")


def test_a_completion_can_be_a_key_and_json(m: Any) -> None:
    c = m.generate("Once", max_tokens=3, temperature=0, logprobs=2)
    assert {c: 1}[copy.copy(c)] == 1
    told = json.loads(json.dumps(asdict(c)))
    assert told["text"] == c.text
    first = c.logprobs[0].top[0]
    assert told["logprobs"][0]["top"][0] == {"id": first.id, "logprob": first.logprob, "text": first.text}
    token, logprob = first
    assert (token, logprob) == first == pickle.loads(pickle.dumps(first))
    assert pickle.loads(pickle.dumps(first)).text == first.text
    for key in ("text", "choices"):
        with pytest.raises(ArgumentTypeError, match="a Completion has text, tokens, finish_reason"):
            c[key]


def test_what_is_open_says_how_far_it_is(m: Any) -> None:
    stream, session = m.stream("Once", max_tokens=2, temperature=0), m.session(8)
    assert (repr(stream), repr(session)) == ("<pyggml.Stream open, 0 tokens>", "<pyggml.Session 0 of 8 positions>")
    list(stream)
    session.close()
    assert (repr(stream), repr(session)) == ("<pyggml.Stream length, 2 tokens>", "<pyggml.Session closed>")
