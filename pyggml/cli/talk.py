"""run and chat: streaming to stdout, reasoning and statistics to stderr; what is typed beside questions."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from pyggml import Completion, Model, PyggmlError, TemplateError
from pyggml.cli import show
from pyggml.cli.spelling import as_typed
from pyggml.cli.streams import read_line
from pyggml.engine.stream import Stream

HELP = """\
/help             this
/clear            forget the conversation (/reset too)
/system TEXT      the system message from here on; without a text, none
/stats            tokens per second behind every answer, on and off
/exit             leave (/quit, /bye, Ctrl-D)
\"\"\"               begins and ends a text of several lines; so does \\ at the end of a line
Ctrl-C            stops an answer; at the prompt it leaves"""
_FENCE = '"""'


def _print(stream: Stream, stats: bool) -> Completion:
    """Prints the answer; what the model thinks before it goes to stderr."""
    thinking = False
    with contextlib.closing(stream):
        try:
            for part in stream.parts():
                if thinking and part.kind == "text":
                    sys.stderr.write("\n\n")
                thinking = part.kind == "reasoning"
                out = sys.stderr if thinking else sys.stdout
                out.write(part.text)
                out.flush()
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            raise
    sys.stdout.write("\n")
    sys.stdout.flush()
    done = stream.result
    if done is None:
        raise PyggmlError("the answer ended before it began")
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
    stream = model.stream(prompt, **settings)  # what is wrong with the settings comes before the first word
    sys.stdout.write(prompt)
    _print(stream, stats)


def chat(model: Model, system: str | None, stats: bool, **settings: Any) -> None:
    """Reads questions until /exit or the end of input; every answer sees the whole conversation."""
    talk = Talk(model, system, stats, settings)
    terminal = sys.stdin.isatty()
    if terminal:
        with contextlib.suppress(ImportError):  # arrow keys and history
            import readline  # noqa: F401
        name = model.metadata.get("general.name")
        what = show.plain(name) if isinstance(name, str) and name else model.config.arch
        print(f"{what}, context of {model.n_ctx} tokens. /help lists commands, Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            text = _question(terminal)
        except KeyboardInterrupt:
            if not terminal:
                raise
            print(file=sys.stderr)
            raise SystemExit(130) from None
        if text is None:
            if terminal:
                print(file=sys.stderr)
            return
        if not text.strip():
            continue
        if text.lstrip().startswith("/"):
            if not talk.command(text.strip()):
                return
            continue
        try:
            talk.ask(text)
        except PyggmlError as error:
            if not terminal:
                raise
            print(f"error: {as_typed(str(error))}", file=sys.stderr)


class Talk:
    """A conversation: the messages so far, and what is typed between them."""

    def __init__(self, model: Model, system: str | None, stats: bool, settings: dict[str, Any]) -> None:
        self.model, self.stats, self.settings = model, stats, settings
        self.start: list[dict[str, str]] = []
        self._begin(system)
        try:  # a model without a template is told before the first question
            model.render_chat([*self.start, {"role": "user", "content": "?"}])
        except TemplateError as error:
            raise TemplateError(f"this model cannot chat, `pyggml run` continues a text: {error}") from None

    def _begin(self, system: str | None) -> None:
        self.start = [{"role": "system", "content": system}] if system else []
        self.messages = list(self.start)

    def ask(self, text: str) -> None:
        """Prints the answer. Ctrl-C stops it and keeps what was said; an error takes the question back."""
        self.messages.append({"role": "user", "content": text})
        stream = None
        try:
            stream = self.model.chat(self.messages, stream=True, **self.settings)
            answer = _print(stream, self.stats).text
        except KeyboardInterrupt:
            said = stream.result if stream is not None else None
            answer = said.text if said is not None else ""
            if not answer:
                self.messages.pop()
                return
        except BaseException:
            self.messages.pop()
            raise
        self.messages.append({"role": "assistant", "content": answer})

    def command(self, text: str) -> bool:
        """Does what a line beginning with / says; False to leave."""
        word, _, rest = text.partition(" ")
        word = word.lower()
        if word in ("/exit", "/quit", "/bye", "/q"):
            return False
        if word in ("/clear", "/reset"):
            self.messages = list(self.start)
        elif word == "/system":
            self._begin(rest.strip() or None)
        elif word == "/stats":
            self.stats = not self.stats
        elif word in ("/help", "/?"):
            print(HELP, file=sys.stderr)
        else:
            print(f"no command {show.plain(word)}; /help lists them", file=sys.stderr)
        return True


def _question(terminal: bool) -> str | None:
    r"""One question, of several lines between fences or behind a \ at the end; None at the end of input."""
    line = _line(terminal, "> ")
    if line is None:
        return None
    if line.lstrip().startswith(_FENCE):
        text = line.lstrip()[len(_FENCE) :]
        while _FENCE not in text:
            more = _line(terminal, ". ")
            if more is None:
                return text
            text = f"{text}\n{more}"
        return text.partition(_FENCE)[0].strip("\n")
    while line.endswith("\\"):
        more = _line(terminal, ". ")
        line = f"{line[:-1]}\n{more or ''}"
        if more is None:
            break
    return line


def _line(terminal: bool, prompt: str) -> str | None:
    """A line without its end; None at the end of input. The prompt is for people only: a pipe gets none."""
    if terminal and sys.stdout.isatty():
        try:
            return input(prompt)
        except EOFError:
            return None
    if terminal:
        print(prompt, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None
    return read_line("question")
