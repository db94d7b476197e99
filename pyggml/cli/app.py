"""The commands and their options (typer); what they print is in the files beside this one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import pyggml
from pyggml.cli import facts, files, measure, options, show, spelling, talk, usage
from pyggml.cli.converting import convert
from pyggml.cli.models import checked, model_and_prompt, one_model
from pyggml.cli.streams import text_of_argument
from pyggml.errors import ArgumentError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="A workbench for GGUF language models.",
)

app.command()(convert)


def invoke(args: Sequence[str]) -> int:
    """Runs a command and returns its status. What is mistyped is said on stderr; what goes wrong in it is raised."""
    parser: Any = typer.main.get_command(app)  # typer's, or click's in its older versions
    try:
        command = parser.commands.get(args[0]) if args else None
        with parser.make_context("pyggml", list(args) or ["--help"]) as context, spelling.speaking(command, args):
            parser.invoke(context)
    except Exception as e:
        status = usage.status_of(e, args)
        if status is None:
            raise
        return status
    return 0


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(pyggml.__version__)
        raise typer.Exit


def _load(path: Path | None, ctx: int | None, threads: int | None, kv_type: str | None, copy: bool) -> pyggml.Model:
    if path is None:
        print("using the bundled story model; give a .gguf file to run another", file=sys.stderr)
    with show.progress("loading") as progress:
        return pyggml.load(
            path, n_ctx=ctx or None, n_threads=threads or None, kv_type=kv_type, mmap=not copy, progress=progress
        )


@app.command()
@options.with_settings(before="stats", max_tokens=256)
def run(
    args: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL] [PROMPT]", help="A GGUF file; without a prompt: stdin.")
    ] = None,
    model: options.ModelOpt = None,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="The prompt.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="A text file that is the prompt.")] = None,
    stats: options.Stats = False,
    ctx: options.Context = None,
    threads: options.Threads = None,
    kv_type: options.KvType = None,
    no_mmap: options.Copy = False,
    **settings: Any,
) -> None:
    """Continue a text, streaming. One argument is the model if it is a GGUF file or ends in .gguf, else the prompt.

    pyggml run model.gguf "Once upon a time" -n 100 --temp 0.7
    """
    path, words = model_and_prompt(args or [], model, prompt)
    words = options.prompt_text(words, file)
    how = options.settings_of(settings)
    with _load(path, ctx, threads, kv_type, no_mmap) as loaded:
        talk.run(loaded, words, stats, **how)


@app.command()
@options.with_settings(before="stats", max_tokens=None)
def chat(
    argument: options.ModelArg = None,
    model: options.ModelOpt = None,
    system: Annotated[
        str | None, typer.Option("--system", "--system-prompt", help="A system message, which every answer sees.")
    ] = None,
    stats: options.Stats = False,
    ctx: options.Context = None,
    threads: options.Threads = None,
    kv_type: options.KvType = None,
    no_mmap: options.Copy = False,
    **settings: Any,
) -> None:
    """Talk with a model; the conversation is remembered. /help lists what else can be typed, Ctrl-D ends.

    pyggml chat model.gguf --system "Answer in one sentence."
    """
    path = one_model(model, argument)
    if path is None:
        raise ArgumentError(
            "the bundled model is a story teller without a chat template; give a .gguf file to chat with"
        )
    told = None if system is None else text_of_argument(system, "system message")
    how = options.settings_of(settings)
    with _load(checked(path), ctx, threads, kv_type, no_mmap) as loaded:
        talk.chat(loaded, told, stats, **how)


@app.command()
def bench(
    argument: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="A GGUF file; default: the bundled model.")
    ] = None,
    model: options.ModelOpt = None,
    prompt: Annotated[
        int | None,
        typer.Option("--prompt", "-p", "--n-prompt", help="Tokens of the prompt; default: 512, or what fits."),
    ] = None,
    generate: Annotated[int, typer.Option("--generate", "-n", "--n-gen", help="Tokens to generate.")] = 64,
    repeat: Annotated[int, typer.Option("--repeat", "-r", "--repetitions", help="Timings of each.")] = 3,
    depth: Annotated[
        int, typer.Option("--depth", "-d", "--n-depth", help="Positions in the cache before the prompt.")
    ] = 0,
    batch: Annotated[int, typer.Option("--batch", "-b", help="Also so many sequences in one step.")] = 1,
    profile: Annotated[bool, typer.Option("--profile", help="Time per op.")] = False,
    as_json: options.AsJson = False,
    threads: options.Threads = None,
    kv_type: options.KvType = None,
    no_mmap: options.Copy = False,
) -> None:
    """Tokens per second of prompt and generation.

    pyggml bench model.gguf -p 512 -n 64 --depth 2048 --batch 8
    """
    from pyggml.cli import bench as page

    path = one_model(model, argument)
    with _load(None if path is None else checked(path), None, threads, kv_type, no_mmap) as loaded:
        page.show(loaded, prompt, generate, repeat, profile, as_json, depth, batch)


facts.register(app)
files.register(app)
measure.register(app)
