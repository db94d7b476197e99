"""A conversation as a prompt: a template applied to messages, with the marks of the vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pyggml import keywords, leaving
from pyggml.arguments import list_of, mapping, text_or_none
from pyggml.chat import named
from pyggml.chat.functions import Tools
from pyggml.chat.messages import items_of
from pyggml.chat.tools.formats import frames_of
from pyggml.chat.tools.words import calls_in_text, in_words
from pyggml.errors import ArgumentError, TemplateError

if TYPE_CHECKING:
    from pyggml.chat.template import ChatTemplate
    from pyggml.tokenizer import Tokenizer

Messages = Iterable[Mapping[str, Any]]


class Rendered(NamedTuple):
    """A prompt, and the text of the template that made it."""

    prompt: str
    template: str


def render(
    call: str,
    messages: Messages,
    metadata: Mapping[str, Any],
    tokenizer: Tokenizer,
    *,
    template: str | None,
    template_args: Mapping[str, Any] | None,
    variables: Mapping[str, Any],
    own: Sequence[str] = (),
    tools: Tools | None = None,
) -> Rendered:
    """The prompt that the template makes of messages; call: the function that was asked, own: its further keywords.

    variables must be what the template reads, template_args need not. tools: told to a template that does not read
    them in words. Raises TemplateError, ArgumentError.
    """
    messages = items_of(messages)
    if call == "chat" and not messages:
        raise TemplateError("messages is empty: there is nothing to answer; a conversation has a message at least")
    given = {} if template_args is None else mapping("template_args", template_args)
    if "messages" in given:
        raise ArgumentError("template_args must not hold messages: they are the first argument")
    schemas = tools.schemas if tools else variables.get("tools", given.get("tools"))
    schemas = None if schemas is None else list_of("tools", schemas)
    source, name = named.choose(metadata, text_or_none("template", template), schemas)
    leaving.imported("pyggml.chat.template")
    made = leaving.whole(_template, source, name)
    tok = tokenizer
    ids = {"bos_token": tok.bos_id, "eos_token": tok.eos_id, "unk_token": tok.unk_id, "pad_token": tok.pad_id}
    marks = {key: tok.token_text(i) for key, i in ids.items() if i is not None}
    read = made.variables() | {"add_generation_prompt", *ids}
    strange = [name for name, value in variables.items() if name not in read and value is not None]
    if strange:
        known = [*own, "template", "template_args", *sorted(read - {"messages", *ids})]
        raise keywords.unknown(call, strange, known, "nor does the chat template read it")
    if any(isinstance(each, Mapping) and each.get("tool_calls") for each in messages) and not made.shows_calls():
        messages = calls_in_text(messages, frames_of(source, tok.has_special)[0])
    context: dict[str, Any] = {**marks, **given, **variables}
    if tools is None or "tools" in read:
        return Rendered(made.render(messages, **{**context, **({"tools": schemas} if tools else {})}), source)
    try:
        return Rendered(made.render(in_words(messages, tools), **context), source)
    except TemplateError:
        return Rendered(made.render(in_words(messages, tools, system=False), **context), source)


# It imports what it needs and is called whole: a child forked meanwhile would wait for the locks of modules that a
# thread it does not have is importing.
def _template(source: str, name: str) -> ChatTemplate:
    from pyggml.chat.template import ChatTemplate

    return ChatTemplate(source, name=name)
