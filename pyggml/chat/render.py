"""A conversation as a prompt: a template applied to messages, with the marks of the vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pyggml import keywords, leaving
from pyggml.arguments import list_of, mapping, text_or_none
from pyggml.chat import named
from pyggml.chat.messages import items_of
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
) -> Rendered:
    """The prompt that the template makes of messages; call: the function that was asked, own: its further keywords.

    variables must be what the template reads, template_args need not. Raises TemplateError, ArgumentError.
    """
    messages = items_of(messages)
    if call == "chat" and not messages:
        raise TemplateError("messages is empty: there is nothing to answer; a conversation has a message at least")
    given = {} if template_args is None else mapping("template_args", template_args)
    if "messages" in given:
        raise ArgumentError("template_args must not hold messages: they are the first argument")
    tools = variables.get("tools", given.get("tools"))
    tools = None if tools is None else list_of("tools", tools)
    source, name = named.choose(metadata, text_or_none("template", template), tools)
    made = leaving.whole(_template, source, name)
    tok = tokenizer
    ids = {"bos_token": tok.bos_id, "eos_token": tok.eos_id, "unk_token": tok.unk_id, "pad_token": tok.pad_id}
    marks = {key: tok.token_text(i) for key, i in ids.items() if i is not None}
    read = made.variables() | {"add_generation_prompt", *ids}
    strange = [name for name, value in variables.items() if name not in read and value is not None]
    if strange:
        known = [*own, "template", "template_args", *sorted(read - {"messages", *ids})]
        raise keywords.unknown(call, strange, known, "nor does the chat template read it")
    return Rendered(made.render(messages, **{**marks, **given, **variables}), source)


# It imports what it needs and is called whole: a child forked meanwhile would wait for the locks of modules that a
# thread it does not have is importing.
def _template(source: str, name: str) -> ChatTemplate:
    from pyggml.chat.template import ChatTemplate

    return ChatTemplate(source, name=name)
