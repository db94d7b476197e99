"""The options that commands share, once: llama.cpp's and Ollama's words beside this package's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyggml.cli.streams import read_stdin, text_of_argument
from pyggml.cli.usage import Usage
from pyggml.files.texts import read_text

ModelArg = Annotated[Path | None, typer.Argument(metavar="MODEL", help="A GGUF file.")]
ModelOpt = Annotated[Path | None, typer.Option("--model", "-m", help="The model, in place of the argument.")]
Threads = Annotated[
    int | None, typer.Option("--threads", "-t", help="Threads; default: the cores this process may use.", min=0)
]
Context = Annotated[
    int | None,
    typer.Option(
        "--ctx",
        "-c",
        "--ctx-size",
        "--n-ctx",
        "--num-ctx",
        help="Context in tokens; 0 and default: what the model was trained for.",
    ),
]
Chunk = Annotated[int, typer.Option("--ctx", "-c", "--ctx-size", "--n-ctx", help="Tokens in a chunk.")]
Chunks = Annotated[int | None, typer.Option("--chunks", help="At most so many chunks.")]
KvType = Annotated[
    str, typer.Option("--kv-type", "--cache-type", help="Type of the key/value cache: f32, f16, bf16, q8_0, q4_0.")
]
Copy = Annotated[bool, typer.Option("--no-mmap", help="Copy the weights into memory on huge pages.")]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        "-n",
        "--n-predict",
        "--predict",
        "--num-predict",
        help="Most tokens to generate; -1: until the model ends or the context is full.",
    ),
]
Temperature = Annotated[float, typer.Option("--temperature", "--temp", help="0 takes the likeliest token.")]
TopK = Annotated[int, typer.Option("--top-k", help="Of so many likeliest tokens; 0: of all.")]
TopP = Annotated[float, typer.Option("--top-p", help="Of the likeliest that have this probability together.")]
MinP = Annotated[float, typer.Option("--min-p", help="Of those with this share of the likeliest's probability.")]
Repeat = Annotated[float, typer.Option("--repeat-penalty", help="Above 1: repeats are less likely.")]
RepeatLast = Annotated[int, typer.Option("--repeat-last-n", help="Tokens that penalties look back at.")]
Frequency = Annotated[float, typer.Option("--frequency-penalty", help="Taken off per earlier occurrence.")]
Presence = Annotated[float, typer.Option("--presence-penalty", help="Taken off once for a token that occurred.")]
Seed = Annotated[int | None, typer.Option("--seed", "-s", help="Same seed, same text.")]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", "-r", "--reverse-prompt", help="Text that ends the generation; may be repeated."),
]
Stats = Annotated[bool, typer.Option("--stats", "--verbose", help="Tokens per second, on stderr.")]
Text = Annotated[Path | None, typer.Option("--text", "-f", "--file", help="A text file; - is stdin.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

_STDIN = Path("-")


def read(path: Path) -> str:
    """The text of a file, of stdin for `-`. Raises ArgumentError."""
    return read_stdin("text") if path == _STDIN else read_text(path)


def needed_text(path: Path | None) -> Path:
    """The file of a text that a command cannot do without. Raises Usage."""
    if path is None:
        raise Usage("no text: give a file with -f")
    return path


def exact_text(argument: str | None, file: Path | None, what: str = "text") -> str:
    """An argument's text, or a file's, or stdin's. Raises Usage where an argument and a file are given."""
    if argument is not None and file is not None:
        raise Usage(f"the {what} is given twice, as an argument and as a file")
    if argument is not None:
        return text_of_argument(argument, what)
    return read_stdin(what) if file is None else read(file)


def prompt_text(argument: str | None, file: Path | None) -> str:
    """As exact_text; the line ends behind a file's or stdin's last line are no text of a prompt."""
    text = exact_text(argument, file, "prompt")
    return text if argument is not None else text.rstrip("\n")


def most_tokens(n: int | None) -> int | None:
    """-1 and -2 are llama.cpp's and Ollama's words for no limit."""
    return None if n is not None and n in (-1, -2) else n
