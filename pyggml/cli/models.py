"""Which argument is the model: files by their first bytes, whatever their name; other weights get a cure."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from pyggml.cli.usage import Usage
from pyggml.errors import ArgumentError

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".onnx", ".npz", ".ckpt", ".index.json")


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF does: any name will do, as in Ollama's blobs and Hugging Face's cache."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"GGUF"
    except (OSError, ValueError):
        return False


def model_of(option: Path | None, *arguments: Path | None) -> tuple[Path, list[Path]]:
    """The model, from -m or else the first argument, and the arguments that are left. Raises Usage without one."""
    given = [argument for argument in arguments if argument is not None]
    if option is None:
        if not given:
            raise Usage("no model: give a GGUF file")
        option, given = given[0], given[1:]
    return checked(option), given


def only_model(option: Path | None, argument: Path | None) -> Path:
    """The one model of a command that takes nothing else."""
    return model_of(one_model(option, argument))[0]


def one_model(option: Path | None, argument: Path | None) -> Path | None:
    """The one of both that is given, as it is; None for none. Raises Usage for two."""
    if option is not None and argument is not None:
        raise Usage(f"two models: {option} and {argument}; give one")
    return argument if option is None else option


def checked(path: Path) -> Path:
    """path, `~` expanded. Raises ArgumentError with the way out for other weights; opening says what else is wrong."""
    path = _home(path)
    if path == Path():  # what an empty argument becomes: a shell's variable that is not set
        raise Usage("the model's name is empty, or the folder we are in: give a GGUF file")
    cure = _cure(path)
    if cure:
        raise ArgumentError(f"{path} {cure}")
    return path


def model_and_prompt(args: Sequence[str], model: Path | None, prompt: str | None) -> tuple[Path | None, str | None]:
    """What `run` is given: -m and -p, else [MODEL] [PROMPT]. One argument is the model if it is a GGUF file or is named
    like one, or weights to convert; else the prompt."""
    words = list(args)
    if model is None and words and (len(words) + (prompt is not None) == 2 or _is_model(Path(words[0]))):
        model = Path(words.pop(0))
        if not _is_model(checked(model)):
            known = "is no GGUF file" if _exists(model) else "does not exist"
            raise ArgumentError(f"{str(model)!r} {known}; with a prompt behind it, the first is a .gguf model")
    if prompt is None and words:
        prompt = words.pop(0)
        if "\n" not in prompt and len(prompt) < 4096 and os.path.isfile(prompt):
            if model is not None and is_gguf(Path(prompt)):
                raise Usage(f"two models: {model} and {prompt}; give one, and the prompt with -p")
            print(f"the prompt is the text {prompt!r}; -f {shlex.quote(prompt)} reads the file", file=sys.stderr)
    if words:
        raise Usage(f"{len(args)} arguments, and {words[0]!r} is one too many: a model and a prompt; quote the prompt")
    return None if model is None else checked(model), prompt


def _is_model(path: Path) -> bool:
    path = _home(path)
    return path.name.lower().endswith(".gguf") or is_gguf(path) or bool(_cure(path))


def _cure(path: Path) -> str:
    """What to do with weights that are no GGUF file; "" where it may be one."""
    try:
        if path.is_dir():
            inside = sorted(os.listdir(path))
        elif path.is_file() and path.name.endswith(_WEIGHTS) and not is_gguf(path):
            return f"is no GGUF file; convert it: pyggml convert {shlex.quote(str(path))} model.gguf"
        else:
            return ""
    except (OSError, ValueError):
        return ""
    found = [name for name in inside if name.endswith(".gguf")]
    if found:
        return f"is a folder; give a file in it: {path / found[0]}"
    if any(name == "config.json" or name.endswith(_WEIGHTS) for name in inside):
        return f"is a folder of weights; convert it: pyggml convert {shlex.quote(str(path))} model.gguf"
    return ""


def _home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # nobody's home
        return path


def _exists(path: Path) -> bool:
    try:
        return _home(path).exists()
    except (OSError, ValueError):
        return False
