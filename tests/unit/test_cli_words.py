"""What people type: short names, words of other programs, models under any name, sizes of tables."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model import tiny

import pyggml
from pyggml.cli import table, talk
from pyggml.cli.app import invoke
from pyggml.model import BUNDLED

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
TEXT = "the king and the fox and a hen " * 12


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    (folder / "t.txt").write_text("\ufeff" + TEXT, encoding="utf-8")
    return Path(tiny.write(folder / "x.gguf", extra={"tokenizer.chat_template": TEMPLATE}).path)


class Called:
    """A command in this process: its status and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *args: Any) -> None:
        capsys.readouterr()
        self.status = invoke([str(arg) for arg in args])
        self.out, self.err = capsys.readouterr()


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *args: Called(capsys, *args)


def stdin(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))


# ---- options -------------------------------------------------------------------------------------------------------


def test_short_names_mean_the_long_ones(path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("--max-tokens", 6, "--temperature", 0.9, "--seed", 3, "--ctx", 64, "--threads", 1)
    want = call("run", path, "the king", *settings)
    assert want.status == 0
    assert want.out.startswith("the king")
    (path.parent / "p.txt").write_bytes(b"the king\r\n")
    llama = ("-n", 6, "--temp", 0.9, "-s", 3, "-c", 64, "-t", 1)
    ways = [
        (path, "the king", *llama), ("-m", path, "-p", "the king", *llama), (path, "-p", "the king", *llama),
        ("--model", path, "the king", "--n-predict", 6, "--temp", 0.9, "-s", 3, "--ctx-size", 64, "-t", 1),
        (path, "-f", path.parent / "p.txt", *llama), ("-m", path, "-f", path.parent / "p.txt", *llama),
        (path, "the king", "--num-predict", 6, "--temp", 0.9, "--seed", 3, "--num-ctx", 64, "--threads", 1),
    ]  # fmt: skip
    for args in ways:
        assert call("run", *args).out == want.out, args
    for raw in (
        b"the king",
        b"the king\n",
        b"the king\r\n",
        b"\xef\xbb\xbfthe king\r\n",
        "\ufeffthe king".encode("utf-16-le"),
    ):
        stdin(monkeypatch, raw)
        assert call("run", path, *llama).out == want.out, raw


def test_no_limit_and_no_context(path: Path, call: Any) -> None:
    done = call("run", path, "the", "-n", -1, "-c", 0, "--temp", 0, "--stats")
    with pyggml.load(path) as model:
        free = model.generate("the", max_tokens=None, temperature=0)
    assert f"generated {free.usage.completion_tokens} tokens" in done.err


def test_measuring_takes_model_and_text_either_way(path: Path, call: Any) -> None:
    text = path.parent / "t.txt"
    (path.parent / "plain.txt").write_text(TEXT)
    with pyggml.load(path) as model:
        want = model.perplexity(TEXT, 32)
    for args in (
        (path, text),
        ("-m", path, "-f", text),
        (path, "--text", text),
        ("-m", path, text),
        (path, path.parent / "plain.txt"),
    ):
        done = call("perplexity", *args, "-c", 32, "--json")
        assert json.loads(done.out) == {"perplexity": want, "n_ctx": 32}, args
    assert call("tokenize", path, "-f", text, "--ids").out == call("tokenize", "-m", path, "-p", TEXT, "--json").out
    assert json.loads(call("perplexity", path, text, "--json").out)["n_ctx"] == 128  # all that the model has
    with pytest.raises(pyggml.ArgumentError, match=r"-c is 4096: .* the model's context of 128"):
        call("perplexity", path, text, "-c", 4096)
    assert call("imatrix", "-m", path, "-f", text, "-c", 32, "-o", path.parent / "im.gguf").status == 0
    assert call("bench", "-m", path, "-p", 8, "-n", 2, "-r", 1).status == 0
    assert json.loads(call("estimate", path, "-c", 64, "--json").out)["n_ctx"] == 64


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["rum"], "no command 'rum'; did you mean pyggml run?"),
        (["help"], "did you mean pyggml --help?"),
        (["show", "x"], "did you mean pyggml inspect?"),
        (["m.gguf"], "a command comes first: pyggml run m.gguf"),
        (["run", "x", "--temprature", "1"], "no option --temprature; did you mean --temperature"),
        (["run", "x", "--Top-K", "1"], "no option --Top-K; did you mean --top-k"),
        (["run", "x", "-ngl", "99"], "no option -ngl: pyggml computes on the CPU"),
        (["run", "x", "--n-gpu-layers=99"], "no option --n-gpu-layers: pyggml computes on the CPU"),
        (["run", "x", "-n", "many"], "invalid value for -n: 'many': input should be a valid integer"),
        (["run", "x", "-n", "1", "-n=3"], "invalid value for -n: '=3': "),
        (["run", "x", "--seed=many"], "invalid value for --seed: 'many': "),
        (["run", "", "a"], "the model's name is empty"),
        (["run", "-m", "", "-p", "a"], "the model's name is empty"),
        (["inspect", ""], "the model's name is empty"),
        (["--cflags"], "no option --cflags: python -m pyggml answers compilers"),
        (["run", "x", "-n"], "-n"),
        (["convert", "a", "b", "--outtype", "f16"], "no option --outtype: it is --dtype"),
        (["inspect"], "no model: give a GGUF file"),
        (["inspect", "a", "-m", "b"], "two models"),
        (["perplexity", "x"], "no text: give a file with -f"),
        (["perplexity", "x", "a", "-f", "b"], "two texts"),
        *((words.split(), "- is no output here: name a file") for words in (
            "imatrix x -f t -o -", "convert x -", "quantize x -", "merge x -", "split x -", "sensitivity x -o -",
            "report x -f t -o -", "quantize x y --save-recipe -",
        )),
        (["chat", "x", "-m", "y"], "two models: y and x; give one"),
        (["bench", "x", "-m", "y"], "two models: y and x; give one"),
        (["quantize", "x", "y", "Q8_0", "--memory", "4GiB"], "--memory tells a strategy what there is"),
        (["quantize", "x", "y", "--hardware", "cpu"], "--hardware tells a strategy what there is"),
        (["run", "x.gguf", "a", "b"], "quote the prompt"),
        (["run", "-p", "a", "-f", "b"], "given twice"),
        (["tokenize", "x.gguf", "a", "-p", "b"], "one argument too many"),
        (["compare", "a"], "missing argument"),
    ],
)  # fmt: skip
def test_what_is_mistyped_is_one_line_and_status_2(args: list[str], said: str, call: Any) -> None:
    done = call(*args)
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert re.search(r"\(see pyggml( \w+)? --help\)$", line)
    assert not done.out


def test_words_of_others_are_none_of_ours() -> None:
    from typer.main import get_command

    from pyggml.cli.app import app
    from pyggml.cli.usage import COMMANDS, OPTIONS

    commands = get_command(app).commands
    assert not set(COMMANDS) & set(commands)
    every = {opt for c in commands.values() for p in c.params for opt in p.opts}
    assert not set(OPTIONS) & every - {"-e"}
    for hint in OPTIONS.values():
        for word in hint.split():
            assert not word.startswith("--") or word.rstrip(";") in every | {"--version"}, hint


# ---- models --------------------------------------------------------------------------------------------------------


def test_a_model_is_known_by_its_bytes(path: Path, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = tmp_path / "sha256-abc"
    shutil.copy(path, blob)
    (tmp_path / "link").symlink_to(blob)
    want = call("run", path, "the king", "-n", 3, "--temp", 0).out
    for name in (blob, tmp_path / "link"):
        assert call("run", name, "the king", "-n", 3, "--temp", 0).out == want
        stdin(monkeypatch, b"the king")
        assert call("run", name, "-n", 3, "--temp", 0).out == want
        assert call("inspect", name).status == 0
    monkeypatch.setenv("HOME", str(tmp_path))
    assert call("run", "~/link", "the king", "-n", 3, "--temp", 0).out == want


def test_one_argument_that_is_no_model_is_the_prompt(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder").mkdir()
    done = call("run", "notes.txt", "-n", 1)
    assert done.out.startswith("notes.txt")
    assert "-f notes.txt reads the file" in done.err
    assert call("run", "folder", "-n", 1).out.startswith("folder")


@pytest.mark.parametrize(
    "command", ["run", "inspect", "perplexity", "bench", "chat", "quantize", "tokenize", "imatrix"]
)
def test_weights_that_are_no_model_get_a_cure(command: str, call: Any, tmp_path: Path) -> None:
    folder = tmp_path / "hf model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\0" * 16)
    more = {"perplexity": ["t"], "quantize": ["out.gguf"], "imatrix": ["-f", "t"]}.get(command, [])
    for what in (folder, folder / "model.safetensors"):
        with pytest.raises(pyggml.ArgumentError, match=f"convert it: pyggml convert '{what}' model.gguf"):
            call(command, what, *more)
    shutil.copy(BUNDLED, folder / "m.gguf")
    with pytest.raises(pyggml.ArgumentError, match=r"is a folder; give a file in it: .*m\.gguf"):
        call(command, folder, *more)


@pytest.mark.parametrize(("first", "said"), [("nothing", "does not exist"), ("t.txt", "is no GGUF file")])
def test_two_arguments_begin_with_a_model(
    first: str, said: str, call: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with pytest.raises(pyggml.ArgumentError, match=f"'{first}' {said}"):
        call("run", first, "a prompt")


# ---- tables --------------------------------------------------------------------------------------------------------


def test_tables_fit(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "blk.0.a_long_name_that_somebody_gave_a_tensor_of_a_model_with_many_parts.weight"
    with pyggml.gguf.Writer(tmp_path / "w.gguf") as out:
        out.add("general.architecture", "llama")
        out.add("a.very.long.key.that.somebody.made.up.for.reasons.of.their.own", "v" * 500)
        out.add_tensor(long, (64, 256), "f32", np.ones((64, 256), np.float32))
    commands: list[tuple[Any, ...]] = [
        ("inspect", tmp_path / "w.gguf"), ("quantize", tmp_path / "w.gguf", tmp_path / "q", "Q4_K_M", "--dry-run"),
        ("info",), ("formats",), ("estimate", tmp_path / "w.gguf"), ("inspect", BUNDLED),
        ("quantize", BUNDLED, tmp_path / "q", "Q4_K_M", "--dry-run", "--allow-requantize"),
    ]  # fmt: skip
    for args in commands:
        monkeypatch.setenv("COLUMNS", "80")
        lines = call(*args).out.splitlines()
        assert lines
        named = (str(tmp_path), str(BUNDLED))  # a path is shown whole, however long
        wide = [line for line in lines if len(line) > 80 and not any(name in line for name in named)]
        assert not wide, (args, wide)
        monkeypatch.setenv("COLUMNS", "40")
        assert call(*args).status == 0
    monkeypatch.delenv("COLUMNS")
    for args in commands[:2]:
        assert long in call(*args).out  # a pipe gets names whole
    rows = json.loads(call(*commands[1], "--json").out)
    assert [(row["name"], row["new"]) for row in rows] == [(long, "q4_k")]


@pytest.mark.parametrize("wide", [20, 30, 44, 60, 80, 200])
def test_a_table_is_as_wide_as_asked(wide: int) -> None:
    rows = [["a" * 50, "b" * 9, "c" * 70], ["short", "1", ""]]
    lines = table.show(("~name", ">n", "=value"), rows, wide=wide).splitlines()
    least = 8 + 9 + 8 + 4
    assert max(map(len, lines)) <= max(wide, least)
    if wide == 200:
        assert "a" * 50 in lines[2]


def test_tokens_are_shown_as_text(call: Any, path: Path) -> None:
    texts = [line.split(maxsplit=1)[1] for line in call("tokenize", BUNDLED, "Once upon\n").out.splitlines()[:-1]]
    assert texts[1:] == ["'Once'", "' upon'", "'\\n'"]
    shown = call("tokenize", path, "the king \u20ac").out
    for symbol in ("\u0120", "\u2581", "<0x"):
        assert symbol not in shown
    assert "b'\\xe2'" in shown


# ---- chat ----------------------------------------------------------------------------------------------------------


def test_chat_in_a_pipe_prints_answers_only(path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b'hello\r\n/help\n\n/nothing\n"""two\nlines"""\nslash \\\nend\n/exit\nnever\n')
    done = call("chat", path, "-n", 3, "--temp", 0)
    assert done.status == 0
    assert "/clear" in done.err
    assert "no command /nothing" in done.err
    with pyggml.load(path) as model:
        messages: list[dict[str, str]] = []
        want = ""
        for text in ("hello", "two\nlines", "slash \nend"):
            messages.append({"role": "user", "content": text})
            answer = model.chat(messages, max_tokens=3, temperature=0).text
            messages.append({"role": "assistant", "content": answer})
            want += answer + "\n"
    assert done.out == want


def test_commands_of_a_chat(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pyggml.load(path) as model:
        chat = talk.Talk(model, "Be brief.", False, {"max_tokens": 2, "temperature": 0})
        chat.ask("hello")
        assert [m["role"] for m in chat.messages] == ["system", "user", "assistant"]
        assert chat.command("/stats")
        chat.ask("more")
        assert "tokens/s" in capsys.readouterr().err
        assert chat.command("/clear")
        assert chat.messages == [{"role": "system", "content": "Be brief."}]
        assert chat.command("/system Be long.")
        assert chat.messages == [{"role": "system", "content": "Be long."}]
        assert chat.command("/system")
        assert chat.messages == []
        assert [chat.command(word) for word in ("/exit", "/quit", "/bye")] == [False] * 3
        with pytest.raises(pyggml.ContextFull):
            chat.ask("long " * 300)
        assert chat.messages == []  # the question is taken back


def test_ctrl_c_stops_an_answer_and_keeps_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            if len(written) == 3:
                raise KeyboardInterrupt
            return len(text)

    monkeypatch.setattr("sys.stdout", Out())
    with pyggml.load(path) as model:
        chat = talk.Talk(model, None, False, {"max_tokens": 40, "temperature": 0, "seed": 1})
        chat.ask("hello")
        assert len(chat.messages) == 2
        assert chat.messages[1]["content"].startswith("".join(written[:2]))
        chat.ask("again")
        assert len(chat.messages) == 4


def on_a_terminal(path: Path, steps: list[tuple[bytes, bytes]]) -> tuple[str, int]:
    """A chat on a terminal of its own: waits for each text, then types the next; what was shown, and the status."""
    pty = pytest.importorskip("pty")
    pid, fd = pty.fork()
    if pid == 0:
        os.environ |= {"NO_COLOR": "1", "TERM": "dumb"}
        os.execv(sys.executable, [sys.executable, "-m", "pyggml", "chat", str(path), "-n", "8", "--temp", "0"])
    shown, seen, typed = b"", 0, b""
    ends = time.monotonic() + 60
    with contextlib.suppress(OSError):  # the end of a terminal
        for wanted, types in [*steps, (b"\0", b"")]:
            while wanted not in shown[seen:] and time.monotonic() < ends:
                if select.select([fd], [], [], 1.0)[0]:
                    got = os.read(fd, 4096)
                    if not got:
                        raise OSError
                    shown += got
                elif typed == b"\x03":  # missed: people press it again
                    os.write(fd, typed)
            seen = len(shown)
            typed = types
            if typed:
                time.sleep(0.5)  # CPython's line editor does not see a Ctrl-C between its prompt and its wait
                os.write(fd, typed)
    os.close(fd)
    return shown.decode(errors="replace"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_chat_on_a_terminal(path: Path) -> None:
    shown, status = on_a_terminal(path, [(b"> ", b"/help\n"), (b"> ", b"hello\n"), (b"> ", b"\x04")])
    assert status == 0, shown
    assert "/help lists commands, Ctrl-D ends." in shown.splitlines()[0]
    assert "/system TEXT" in shown
    shown, status = on_a_terminal(path, [(b"> ", b"\x03")])
    assert status == 130, shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run x.gguf a -n -5", "-n must be a whole number"),
        ("run x.gguf a --num-predict=-5", "--num-predict must be a whole number"),
        ("run x.gguf a --temp -1", "--temp must be a number from 0"),
        ("run x.gguf a --n-ctx -3", "--n-ctx must be a whole number"),
        ("perplexity x.gguf t.txt -c 0", "-c must be a whole number"),
        ("perplexity x.gguf t.txt -c 4096", "-c is 4096: "),
        ("imatrix x.gguf -f t.txt --chunks 0 -o y", "--chunks must be a whole number"),
    ],
)
def test_messages_name_options_as_they_were_typed(
    words: str, said: str, path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with pytest.raises(pyggml.PyggmlError) as caught:
        call(*words.split())
    assert str(caught.value).startswith(said)


def test_an_empty_model_is_said_where_other_models_lie(path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    done = call("run", "", "hi")
    assert (done.status, "the model's name is empty" in done.err) == (2, True)
