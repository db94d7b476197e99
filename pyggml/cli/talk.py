"""run and chat: streaming to stdout, statistics to stderr."""

from __future__ import annotations

import sys
from typing import Any

from pyggml import Completion, Model, TemplateError
from pyggml.generate import Stream


def _print(stream: Stream, stats: bool) -> Completion:
    try:
        for piece in stream:
            sys.stdout.write(piece)
            sys.stdout.flush()
    finally:
        sys.stdout.write("\n")
        sys.stdout.flush()
    done = stream.result
    assert done is not None
    if stats:
        t, u = done.timings, done.usage
        print(
            f"prompt {u.prompt_tokens} tokens, {t.prompt_per_second:.1f} tokens/s; "
            f"generated {u.completion_tokens} tokens, {t.decode_per_second:.1f} tokens/s",
            file=sys.stderr,
        )
    return done


def run(model: Model, prompt: str, stats: bool, **settings: Any) -> None:
    """Prints the prompt and what the model makes of it."""
    sys.stdout.write(prompt)
    _print(model.stream(prompt, **settings), stats)


def chat(model: Model, system: str | None, stats: bool, **settings: Any) -> None:
    """Reads questions until /exit or the end of input; every answer sees the whole conversation."""
    start = [{"role": "system", "content": system}] if system else []
    messages = list(start)
    try:  # a model without a template is told before the first question
        model.render_chat([*start, {"role": "user", "content": "?"}])
    except TemplateError as error:
        raise TemplateError(f"this model cannot chat: {error}") from None
    while True:
        try:
            text = input("> ")
        except EOFError:
            print()
            return
        if text.strip() == "/exit":
            return
        if text.strip() == "/reset":
            messages = list(start)
            continue
        if not text.strip():
            continue
        messages.append({"role": "user", "content": text})
        stream = model.chat(messages, stream=True, **settings)
        try:
            done = _print(stream, stats)
        except KeyboardInterrupt:  # ends the answer, not the conversation
            stream.close()
            messages.pop()
            continue
        messages.append({"role": "assistant", "content": done.text})
