"""The commands and their options (typer); what they print is in the files beside this one."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

import pyggml
from pyggml.cli import files, measure, show, talk
from pyggml.cli.converting import convert
from pyggml.errors import ArgumentError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A workbench for GGUF language models.",
)

ModelArg = Annotated[Path, typer.Argument(help="A GGUF file.")]
Threads = Annotated[
    int | None, typer.Option("--threads", "-t", help="Threads; default: the cores this process may use.")
]
Context = Annotated[
    int | None, typer.Option("--ctx", "-c", help="Context in tokens; default: what the model was trained for.")
]
KvType = Annotated[str, typer.Option("--kv-type", help="Type of the key/value cache: f32, f16, bf16, q8_0, q4_0.")]
Copy = Annotated[bool, typer.Option("--no-mmap", help="Copy the weights into memory on huge pages.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", "-n", help="Most tokens to generate.")]
Temperature = Annotated[float, typer.Option("--temperature", help="0 takes the likeliest token.")]
TopK = Annotated[int, typer.Option("--top-k")]
TopP = Annotated[float, typer.Option("--top-p")]
MinP = Annotated[float, typer.Option("--min-p")]
Repeat = Annotated[float, typer.Option("--repeat-penalty")]
Seed = Annotated[int | None, typer.Option("--seed", help="Same seed, same text.")]
Stop = Annotated[list[str] | None, typer.Option("--stop", help="Text that ends the generation; may be repeated.")]
Stats = Annotated[bool, typer.Option("--stats", help="Tokens per second, on stderr.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


app.command()(convert)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(pyggml.__version__)
        raise typer.Exit


def _load(path: Path | None, ctx: int | None, threads: int | None, kv_type: str, copy: bool) -> pyggml.Model:
    if path is None:
        print("using the bundled story model; give a .gguf file to run another", file=sys.stderr)
    with show.progress("loading") as progress:
        return pyggml.load(path, n_ctx=ctx, n_threads=threads, kv_type=kv_type, mmap=not copy, progress=progress)


@app.command()
def run(
    args: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL.gguf] [PROMPT]", help="Without a prompt: stdin.")
    ] = None,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.8,
    top_k: TopK = 40,
    top_p: TopP = 0.95,
    min_p: MinP = 0.05,
    repeat_penalty: Repeat = 1.0,
    seed: Seed = None,
    stop: Stop = None,
    stats: Stats = False,
    ctx: Context = None,
    threads: Threads = None,
    kv_type: KvType = "f16",
    no_mmap: Copy = False,
) -> None:
    """Continue a text, streaming. One argument is a prompt unless it ends in .gguf.

    pyggml run model.gguf "Once upon a time" -n 100 --temperature 0.7
    """
    path, prompt = _model_and_prompt(args or [])
    if prompt is None:
        prompt = sys.stdin.read().rstrip("\n")
    with _load(path, ctx, threads, kv_type, no_mmap) as model:
        talk.run(
            model, prompt, stats, max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
            min_p=min_p, repeat_penalty=repeat_penalty, seed=seed, stop=stop or (),
        )  # fmt: skip


def _model_and_prompt(args: list[str]) -> tuple[Path | None, str | None]:
    if len(args) > 2:
        raise ArgumentError(f"run takes at most a model and a prompt, got {len(args)} arguments; quote the prompt")
    if args and args[0].lower().endswith(".gguf"):
        return Path(args[0]), args[1] if len(args) == 2 else None
    if len(args) == 2:
        raise ArgumentError(f"{args[0]!r} is no .gguf file; with two arguments the first is the model")
    return None, args[0] if args else None


@app.command()
def chat(
    model: Annotated[Path | None, typer.Argument(help="A GGUF file with a chat template.")] = None,
    system: Annotated[str | None, typer.Option("--system", help="A system message.")] = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = 0.8,
    top_k: TopK = 40,
    top_p: TopP = 0.95,
    min_p: MinP = 0.05,
    repeat_penalty: Repeat = 1.0,
    seed: Seed = None,
    stats: Stats = False,
    ctx: Context = None,
    threads: Threads = None,
    kv_type: KvType = "f16",
    no_mmap: Copy = False,
) -> None:
    """Talk with a model; the conversation is remembered. /reset forgets it, /exit or Ctrl-D ends.

    pyggml chat model.gguf --system "Answer in one sentence."
    """
    if model is None:
        raise ArgumentError(
            "the bundled model is a story teller without a chat template; give a .gguf file to chat with"
        )
    with _load(model, ctx, threads, kv_type, no_mmap) as loaded:
        talk.chat(
            loaded, system, stats, max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p,
            min_p=min_p, repeat_penalty=repeat_penalty, seed=seed,
        )  # fmt: skip


@app.command()
def inspect(model: ModelArg, as_json: AsJson = False, ctx: Context = None, kv_type: KvType = "f16") -> None:
    """Metadata, tensors, parameters and memory of a file, from its header only.

    pyggml inspect model.gguf --json
    """
    from pyggml.cli import inspect as page

    page.show(model, as_json, ctx, kv_type)


@app.command()
def info(as_json: AsJson = False) -> None:
    """What this installation found: CPU level, threads, types, architectures, devices, versions.

    pyggml info --json
    """
    facts = pyggml.info()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        print(f"{key:>14}  {show.flat(value)}")


@app.command()
def formats(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Names; without any: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every number format: bits, block, sign/exponent/mantissa, range of a code, bits per weight, and where it lives.

    pyggml formats q4_k nf4 fp8_e4m3 --json
    """
    rows = pyggml.formats()
    wanted = [name.lower() for name in names or ()]
    unknown = [name for name in wanted if name not in {row.name for row in rows}]
    if unknown:
        raise ArgumentError(f"no format is called {unknown[0]!r}; `pyggml formats` lists them all")
    rows = type(rows)(row for row in rows if not wanted or row.name in wanted)
    print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) if as_json else rows)


@app.command()
def tokenize(
    model: ModelArg,
    text: Annotated[str | None, typer.Argument(help="Without it: stdin.")] = None,
    no_special: Annotated[
        bool, typer.Option("--no-special", help="No BOS/EOS; special tokens are plain text.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Token ids of a text, and what each stands for.

    pyggml tokenize model.gguf "Once upon a time"
    """
    text = sys.stdin.read() if text is None else text
    with pyggml.load(model) as loaded:
        ids = loaded.tokenize(text, add_special=not no_special, parse_special=not no_special)
        if as_json:
            print(json.dumps(ids))
            return
        for token in ids:
            print(f"{token:>8}  {loaded.tokenizer.token_text(token)!r}")
        print(f"{len(ids)} tokens")


@app.command()
def perplexity(
    model: ModelArg,
    file: Annotated[Path, typer.Argument(help="A text file, UTF-8.")],
    ctx: Annotated[int, typer.Option("--ctx", "-c", help="Tokens in a chunk; the second half is scored.")] = 512,
    threads: Threads = None,
    kv_type: KvType = "f16",
) -> None:
    """Perplexity of a text, counted as llama.cpp counts it.

    pyggml perplexity model.gguf held-out.txt
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ArgumentError(f"cannot read {file}: {e}") from None
    with pyggml.load(model, n_threads=threads, kv_type=kv_type) as loaded, show.progress("scoring") as progress:
        value = loaded.perplexity(text, n_ctx=ctx, progress=progress)
    print(f"perplexity {value:.4f}")


@app.command()
def bench(
    model: Annotated[Path | None, typer.Argument(help="A GGUF file; default: the bundled model.")] = None,
    prompt: Annotated[int, typer.Option("--prompt", "-p", help="Tokens of the prompt.")] = 512,
    generate: Annotated[int, typer.Option("--generate", "-n", help="Tokens to generate.")] = 64,
    repeat: Annotated[int, typer.Option("--repeat", "-r")] = 3,
    depth: Annotated[int, typer.Option("--depth", "-d", help="Positions in the cache before the prompt.")] = 0,
    batch: Annotated[int, typer.Option("--batch", "-b", help="Also so many sequences in one step.")] = 1,
    profile: Annotated[bool, typer.Option("--profile", help="Time per op.")] = False,
    as_json: AsJson = False,
    threads: Threads = None,
    kv_type: KvType = "f16",
    no_mmap: Copy = False,
) -> None:
    """Tokens per second of prompt and generation.

    pyggml bench model.gguf --depth 2048 --batch 8
    """
    from pyggml.cli import bench as page

    with _load(model, None, threads, kv_type, no_mmap) as loaded:
        page.show(loaded, prompt, generate, repeat, profile, as_json, depth, batch)


files.register(app)
measure.register(app)
