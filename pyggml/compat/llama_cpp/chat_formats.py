# ruff: noqa: E501 - rows of a table
"""Chat formats by llama-cpp-python's names, as templates, with the texts that end an answer.

For files without a template of their own, and for callers that name one. What they print is what that library prints,
odd blanks and all.
"""

from __future__ import annotations

from typing import NamedTuple

from pyggml.errors import ArgumentError


class Format(NamedTuple):
    """template: Jinja; stop: ends of an answer beside the file's end tokens."""

    template: str
    stop: tuple[str, ...] = ()


_SYSTEM = (
    "{% set first = messages | selectattr('role', 'equalto', 'system') | list %}"
    "{% set system = (first[0].content or '') if first else '' %}"
    "{% set talk = messages | selectattr('role', 'in', ['user', 'assistant']) | list %}"
)


def _lines(system: str, user: str, assistant: str, end: str, behind: str) -> str:
    """The system text, then turns: a role, a line break, what was said, its end."""
    return (
        _SYSTEM
        + system
        + "{% for m in talk %}{{ '"
        + user
        + "' if m.role == 'user' else '"
        + assistant
        + "' }}{{ '\\n' }}"
        "{% if m.content %}{{ m.content + '" + end + "\\n' }}{% endif %}{% endfor %}{{ '" + behind + "\\n' }}"
    )


def _colons(system: str, user: str, assistant: str, ends: tuple[str, str], behind: str) -> str:
    """The system text, then turns: a role, a colon, what was said; ends in turn."""
    return (
        _SYSTEM + "{{ " + system + " + '" + ends[0] + "' }}{% for m in talk %}"
        "{{ '" + user + "' if m.role == 'user' else '" + assistant + "' }}:{% if m.content %}{{ ' ' + m.content }}"
        "{{ '" + ends[0] + "' if loop.index0 % 2 == 0 else '" + ends[1] + "' }}{% endif %}{% endfor %}" + behind
    )


_POLITE = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and "
    "polite answers to the user\\'s questions."
)

FORMATS: dict[str, Format] = {
    "chatml": Format(
        _lines("{{ '<|im_start|>system\\n' + system + '<|im_end|>\\n' }}", "<|im_start|>user", "<|im_start|>assistant",
               "<|im_end|>", "<|im_start|>assistant"), ("<|im_end|>",)),
    "qwen": Format(
        _lines("{{ '<|im_start|>system\\n' + (system or 'You are a helpful assistant.') + '<|im_end|>\\n' }}",
               "<|im_start|>user", "<|im_start|>assistant", "<|im_end|>", "<|im_start|>assistant"), ("<|endoftext|>",)),
    "zephyr": Format(
        _lines("{{ '<|system|>\\n' + system + '</s>\\n' }}", "<|user|>\\n", "<|assistant|>\\n", "</s>", "<|assistant|>\\n"),
        ("</s>",)),
    "openchat": Format(
        _lines("{{ system + '<|end_of_turn|><|end_of_turn|>\\n' }}", "GPT4 Correct User: ",
               "<|end_of_turn|>GPT4 Correct Assistant: ", "<|end_of_turn|>", "<|end_of_turn|>GPT4 Correct Assistant: "),
        ("<|end_of_turn|>",)),
    "alpaca": Format(_colons("system", "### Instruction", "### Response", ("\\n\\n", "</s>"), "")),
    "vicuna": Format(_colons(f"'{_POLITE}'", "USER", "ASSISTANT", (" ", "</s>"), "ASSISTANT:")),
    "llama-2": Format(
        _SYSTEM + "{% if system %}{{ '[INST] <<SYS>>\\n' + system + '\\n<</SYS>>' }}{% endif %}{{ ' ' }}"
        "{% for m in talk %}{% set end = ' ' if loop.index0 % 2 == 0 else '</s>' %}"
        "{% if system and loop.first %}{{ (m.content or '') + end }}"
        "{% else %}{{ ('<s>[INST]' if m.role == 'user' else '[/INST]') + (m.content or '') + ' ' }}"
        "{% if m.content %}{{ end }}{% endif %}{% endif %}{% endfor %}[/INST]"),
    "llama-3": Format(
        "{% for m in messages if m.role in ('system', 'user', 'assistant') %}"
        "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}"
        "{% if m.content %}{{ m.content + '<|eot_id|>' }}{% endif %}{% endfor %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}", ("<|eot_id|>",)),
    "gemma": Format(
        _SYSTEM + "{% for m in talk %}{{ '<start_of_turn>' + ('user' if m.role == 'user' else 'model') + '\\n' }}"
        "{% if m.content %}{{ m.content + '<end_of_turn>\\n' }}{% endif %}{% endfor %}{{ '<start_of_turn>model\\n' }}",
        ("<end_of_turn>\n",)),
    "mistral-instruct": Format(
        "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content }}"
        "{% elif m.role == 'assistant' %}{{ ' [/INST]' + m.content + '</s>' }}{% endif %}{% endfor %}{{ ' [/INST]' }}",
        ("</s>",)),
}  # fmt: skip


def named(name: str) -> Format:
    """A format by its name, or of a Jinja text. Raises ArgumentError."""
    if "{%" in name or "{{" in name:
        return Format(name)
    if name not in FORMATS:
        raise ArgumentError(
            f"chat_format {name[:80]!r} is not built in: it has {', '.join(FORMATS)}; a Jinja text can be given in place "
            "of a name, and without chat_format the file's own template is used"
        )
    return FORMATS[name]
