"""Messages on the command line name options as they were typed, wherever a name stands, and nothing else."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import typer
from model import tiny

import pyggml
from pyggml.cli.app import app, invoke
from pyggml.cli.spelling import as_typed, speaking
from pyggml.cli.usage import Usage
from pyggml.model import BUNDLED

COMMANDS: Any = typer.main.get_command(app)


def said(text: str, *args: str) -> str:
    with speaking(COMMANDS.commands[args[0]], args):
        return as_typed(text)


@pytest.mark.parametrize(
    ("args", "text", "want"),
    [
        ("run", "n_ctx must be a whole number", "--ctx must be a whole number"),
        ("run --n-ctx 5", "shorten it or load with n_ctx >= 70 (it is n_ctx)", None),
        ("run --n-ctx=5", "up to n_ctx=16 that is the same", "up to --n-ctx 16 that is the same"),
        ("run -c5", "n_ctx is 5, and max_tokens, too", "-c is 5, and --max-tokens, too"),
        ("run -- --n-ctx", "at n_ctx", "at --ctx"),
        ("run -t 9", "n_threads must be", "-t must be"),
        ("quantize --threads 9", "n_threads must be", "--threads must be"),
        ("run", "stop[0] must be text", "--stop[0] must be text"),
        ("run", "use temperature=0 or a seed", "use --temperature 0 or a seed"),
        ("run", "the temperature of the seed is 3, stop", "the temperature of the seed is 3, stop"),
        ("quantize", "again (allow_requantize=True does it)", "again (--allow-requantize does it)"),
        ("quantize", "text is not used: only target_bpw", "--text is not used: only --target-bpw"),
        ("quantize", "use must be one of", "--strategy must be one of"),
        ("quantize", "metadata: 'x' is to go", "--override-kv: 'x' is to go"),
        ("compare", "target_bpw and max_tokens and kv_type", "target_bpw and max_tokens and kv_type"),
        ("merge", "n_ctx must be", "n_ctx must be"),
        ("inspect", "'n_ctx' and \"n_ctx\" and /n_ctx/x and n_ctx.gguf and n_ctx/y and llama.n_ctx", None),
        ("inspect", "pyggml.load(path, n_ctx=3) and a_n_ctx and n_ctx_train and n_ctx()", None),
        ("inspect", "the model's n_ctx, the cache's kv_type", "the model's --ctx, the cache's --kv-type"),
    ],
)
def test_names_of_options(args: str, text: str, want: str | None) -> None:
    if want is None:
        want = text.replace("n_ctx", "--n-ctx") if "--n-ctx" in args else text
    assert said(text, *args.split()) == want
    assert as_typed(text) == text  # where no command runs


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("spelling") / "n_ctx.gguf", n_layer=1, n_ctx=64, window=16).path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("run {} abc --ctx-size 2", "or load with --ctx-size >= "),
        ("chat {} --num-ctx -1", "^--num-ctx must be"),
        ("bench {} -t 5000", "^-t must be a whole number from 1 to 1024"),
        ("quantize {} x Q4_0 -t 5000", "^-t must be"),
        ("quantize {} x --strategy desktop", "^--strategy must be one of"),
        ("quantize {} x --strategy mobile --hardware tpu", "^--hardware must be one of"),
        ("quantize {} x --override-kv general.alignment=int:64", "^--override-kv: general.alignment follows"),
        ("run {} abc --cache-type q4_0", "--cache-type 'q4_0' cannot hold"),
        ("estimate {} --kv-type q9", "--kv-type|unknown tensor type"),
    ],
)
def test_errors_of_commands(words: str, told: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pyggml.PyggmlError, match=told):
        invoke([word.format(path) for word in words.split()])
    assert not list(tmp_path.iterdir())


def test_warnings_of_commands(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "t").write_text("Once upon a time")
    args = ["quantize", str(BUNDLED), str(tmp_path / "x.gguf"), "Q8_0", "--allow-requantize", "--file"]
    assert invoke([*args, str(tmp_path / "t")]) == 0
    assert "--file is not used: only --target-bpw and --target-size choose by it" in caplog.text
    caplog.clear()
    logging.getLogger("pyggml").warning("n_ctx of %s", "target_bpw")
    assert "n_ctx of target_bpw" in caplog.text


def test_what_names_options_itself_stays(path: Path) -> None:
    with (
        pytest.raises(Usage, match=r"^n_ctx and max_tokens"),
        speaking(COMMANDS.commands["run"], ["run", "-c", "3", "-n", "3"]),
    ):
        raise Usage("n_ctx and max_tokens")
