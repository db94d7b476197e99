"""Standard streams as they come in the world: closed, full, cut, in another encoding, with Windows' line ends.

Every command line here is one process, and all of them are started before the first is waited for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import pytest

from pyggml.model import BUNDLED

pytest.importorskip("resource")  # POSIX shells, limits and descriptors

SMILE, CAFE = "\U0001f642", "caf\u00e9"
STORY = "Once upon a time"
FAST = "-n 4 --temp 0"
ASCII = {"PYTHONIOENCODING": "ascii"}
C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

# $1 is the model, $2 a text, $P the command. Redirections are the shell's.
CASES: dict[str, tuple[str, dict[str, str]]] = {
    "stdin closed": (f'$P run "$1" {FAST} <&-', {}),
    "stdin closed, prompt given": (f'$P run "$1" "$2" {FAST} <&-', {}),
    "stdout closed": (f'$P run "$1" "$2" {FAST} >&-', {}),
    "stderr closed": (f'$P run "$1" "$2" {FAST} 2>&-', {}),
    "all closed": (f'$P run "$1" "$2" {FAST} <&- >&- 2>&-', {}),
    "stdout full": (f'$P run "$1" "$2" {FAST} >/dev/full', {}),
    "help full": ("$P run --help >/dev/full", {}),
    "help head": ('{ $P --help; echo "rc $?" >&2; } | true', {}),
    "strange flag": ("$P --cflags --nope", {}),
    "flags full": ("$P --include >/dev/full", {}),
    "stderr full": ("$P inspect /no/such 2>/dev/full", {}),
    "head": ('{ $P run "$1" "$2" -n 400; echo "rc $?" >&2; } | head -c 5', {}),
    "nobody reads stderr": ("$P inspect /no/such 2>&1 >/dev/null | true", {}),
    "cp1252": (f'$P run "$1" "{SMILE} {CAFE}" {FAST}', {"PYTHONIOENCODING": "cp1252"}),
    "ascii": (f'$P run "$1" "{SMILE} {CAFE}" {FAST}', ASCII),
    "ascii tokens": (f'$P tokenize "$1" "{CAFE}"', ASCII),
    "C tokens": (f'$P tokenize "$1" "{CAFE}" --json', C),
    "UTF-8 tokens": (f'$P tokenize "$1" "{CAFE}" --json', {}),
    "crlf": (f"printf 'Once upon a time\\r\\n' | $P run \"$1\" {FAST}", {}),
    "bom and crlf inside": (f"printf '\\357\\273\\277Once\\r\\nupon\\r\\n' | $P run \"$1\" {FAST}", {}),
    "latin-1 stdin": (f"printf 'caf\\351' | $P run \"$1\" {FAST}", {}),
    "latin-1 prompt": (f"$P run \"$1\" \"$(printf 'caf\\351')\" {FAST}", {}),
    "latin-1 name": (r"""m=$(printf 'm\351.gguf'); cp "$1" "$m"; $P split "$m" "$(printf 'p\351')" """, {}),
    "few descriptors": (f'ulimit -n 5; $P run "$1" "$2" {FAST}', {}),
    "no home, no place": (f'cd / && env -u HOME $P run "$1" "$2" {FAST}', {"HOME": ""}),
    "dumb terminal": ("$P --help", {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "40"}),
}  # fmt: skip


class Done(NamedTuple):
    """How a command line ended."""

    rc: int
    out: bytes
    err: str


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    place = tmp_path_factory.mktemp("streams")
    paths = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LC_", "COLUMNS")) and k != "LANG"}
    plain |= {"PYTHONPATH": os.pathsep.join(paths), "P": f"{sys.executable} -m pyggml", "LC_ALL": "C.UTF-8"}
    running = {
        name: subprocess.Popen(
            ["bash", "-c", script, "sh", str(BUNDLED), STORY], env={**plain, **more}, cwd=place,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for name, (script, more) in CASES.items()
    }  # fmt: skip
    found = {}
    for name, process in running.items():
        out, err = process.communicate(timeout=120)
        found[name] = Done(process.returncode, out, err.decode())
    return found


def test_never_a_traceback_and_never_two_lines_of_error(ended: dict[str, Done]) -> None:
    for name, done in ended.items():
        assert "Traceback" not in done.err, name
        assert "Exception ignored" not in done.err, name
        errors = [line for line in done.err.splitlines() if "error" in line]
        assert len(errors) == (done.rc == 1 and name not in ("all closed", "stderr full")), (name, done)


@pytest.mark.parametrize(
    ("name", "rc", "said"),
    [
        ("stdin closed", 1, "error: no prompt: none is given and standard input cannot be read"),
        ("stdin closed, prompt given", 0, ""),
        ("stdout closed", 1, "error: the output cannot be written: Bad file descriptor"),
        ("stderr closed", 0, ""),
        ("all closed", 1, ""),
        ("stdout full", 1, "error: the output cannot be written: No space left on device"),
        ("help full", 1, "error: the output cannot be written: No space left on device"),
        ("help head", 0, "rc 141"),
        ("strange flag", 1, "no flag for compilers: '--nope'"),
        ("flags full", 1, "error: "),
        ("stderr full", 1, ""),
        ("head", 0, "rc 141"),
        ("latin-1 stdin", 1, "error: standard input is no UTF-8 text: byte 0xe9 at offset 3"),
        ("latin-1 prompt", 1, "error: the prompt is no UTF-8 text: byte 0xe9 at offset 3"),
        ("few descriptors", 1, "open files"),
        ("dumb terminal", 0, ""),
    ],
)
def test_status_and_what_is_said(ended: dict[str, Done], name: str, rc: int, said: str) -> None:
    assert ended[name].rc == rc, ended[name]
    assert said in ended[name].err
    if not said:
        assert ended[name].err == ""


def test_the_output_is_whole_where_it_can_be(ended: dict[str, Done]) -> None:
    plain = ended["stderr closed"].out
    assert plain.startswith(STORY.encode())
    for name in ("stdin closed, prompt given", "crlf", "no home, no place"):
        assert ended[name].out == plain, name
    assert ended["head"].out == STORY.encode()[:5]
    assert ended["bom and crlf inside"].out.startswith(b"Once\nupon")
    assert ended["dumb terminal"].out.isascii() or max(map(len, ended["dumb terminal"].out.decode().splitlines())) <= 40
    assert b"\x1b" not in ended["dumb terminal"].out


def test_a_character_that_the_output_lacks_is_replaced(ended: dict[str, Done]) -> None:
    assert ended["cp1252"].out.startswith(b"? caf\xe9")
    assert ended["ascii"].out.startswith(b"? caf?")
    assert ended["ascii tokens"].out.isascii()
    assert ended["C tokens"].out == ended["UTF-8 tokens"].out  # an argument is UTF-8 in any locale
    assert ended["latin-1 name"].rc == 0
    assert ended["latin-1 name"].out.startswith(b"p\xe9-00001-of-")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_stopped_in_the_first_second(name: str) -> None:
    code = "import sys; sys.argv = ['pyggml', 'bench', '-r', '100000']; print('up', flush=True);"
    code += "import pyggml.cli; pyggml.cli.main()"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)
    ]
    try:
        ready = []
        for process in running:
            assert process.stdout is not None
            ready.append(process.stdout.readline())
        for wait, process in zip((0.02, 0.1, 0.3, 0.5), running, strict=True):
            time.sleep(wait)
            process.send_signal(getattr(signal, name))
        for process in running:
            _, err = process.communicate(timeout=60)
            want = (130, -signal.SIGINT) if name == "SIGINT" else (143, -signal.SIGTERM)
            assert process.returncode in want, err
            assert err.decode().splitlines() in ([], ["stopped"]) or b"bundled" in err, err
            assert b"Traceback" not in err
    finally:
        for process in running:
            process.kill()


def python(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYGGML_DEBUG"} | more
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)


def test_an_import_by_a_program_leaves_its_signals() -> None:
    code = "import signal as s; old = s.getsignal(s.SIGINT); import pyggml; print(s.getsignal(s.SIGINT) is old)"
    assert python(code).stdout.strip() == "True"


def test_an_unexpected_fault_is_one_line_that_says_how_to_report_it() -> None:
    code = "import sys, pyggml, pyggml.cli; del pyggml.info; sys.argv = ['pyggml', 'info']; pyggml.cli.main()"
    done = python(code)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: unexpected AttributeError: ")
    assert "PYGGML_DEBUG=1" in line
    assert "Traceback" in python(code, PYGGML_DEBUG="1").stderr
