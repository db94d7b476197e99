"""The marks that families set around calls of tools, a row each, chosen by the text of the chat template.

What stands between them is read by its looks (bodies.py); how it comes piece by piece is in reader.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pyggml.chat.tools.bodies import BAR, UNDER


class Frame(NamedTuple):
    """Marks around one call or several.

    open, close: "" closes with the answer, or where the next one opens. inner: marks between them that may be control
    tokens. found_by: texts of templates that write the marks otherwise than they are printed. prose: a body that begins
    so is text. keeps: open belongs to the body (it holds the name).
    """

    open: str
    close: str = ""
    inner: tuple[str, ...] = ()
    found_by: tuple[str, ...] = ()
    prose: str = ""
    keeps: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """Every mark that must be seen, though it may print nothing."""
        return tuple(mark for mark in (self.open, self.close, *self.inner) if mark)


def _bar(word: str, slash: str = "") -> str:
    """A token of DeepSeek's."""
    return f"<{slash}{BAR}{word.replace(' ', UNDER)}{BAR}>"


FRAMES: tuple[Frame, ...] = (
    Frame("]<]minimax[>[<tool_call>", "]<]minimax[>[</tool_call>", inner=("]<]minimax[>[",),
          found_by=("]<]minimax[>[",)),  # MiniMax M3
    Frame("<tool_call>", "</tool_call>"),  # Hermes, Qwen, Granite 4; Qwen3-Coder, Nemotron 3, Step; GLM, Laguna
    Frame("<|tool_call>", "<tool_call|>", inner=('<|"|>',)),  # Gemma 4
    Frame("[TOOL_CALLS]", inner=("[ARGS]", "[CALL_ID]")),  # Mistral
    Frame("<|python_tag|>", "<|eom_id|>"),  # Llama 3
    Frame("<|tool_call_start|>", "<|tool_call_end|>", found_by=("<|tool_call_start|>", "<|tool_list_start|>")),  # LFM2
    Frame("<|tool_call|>", "<|/tool_call|>"),  # Granite 3, Phi 4
    Frame(_bar("tool calls begin"), _bar("tool calls end"),
          inner=(_bar("tool call begin"), _bar("tool sep"), _bar("tool call end"))),  # DeepSeek
    Frame(f"<{BAR}DSML{BAR}function_calls>", f"</{BAR}DSML{BAR}function_calls>", inner=(f"{BAR}DSML{BAR}",),
          found_by=(f"{BAR}DSML{BAR}",)),  # DeepSeek V3.2
    Frame(f"<{BAR}DSML{BAR}tool_calls>", f"</{BAR}DSML{BAR}tool_calls>", inner=(f"{BAR}DSML{BAR}",),
          found_by=(f"{BAR}DSML{BAR}",)),
    Frame("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>",
          inner=("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>")),  # Kimi K2
    Frame("<|START_ACTION|>", "<|END_ACTION|>"),  # Command R7B
    Frame("<seed:tool_call>", "</seed:tool_call>"),
    Frame("<minimax:tool_call>", "</minimax:tool_call>"),
    Frame("<TOOLCALL>", "</TOOLCALL>"),  # Nemotron
    Frame("<tool_calls>", "</tool_calls>"),  # Apriel, MiniMax M1, Hunyuan
    Frame("<function_calls>", "</function_calls>"),  # OLMo 3
    Frame("<|tools_prefix|>", "<|tools_suffix|>", found_by=("tools_prefix",)),  # Apertus
    Frame("<|tool_calls|>",  # Solar Open
          inner=("<|tool_call:begin|>", "<|tool_call:name|>", "<|tool_call:args|>", "<|tool_call:end|>")),
    Frame("<|function_call|>"),  # GigaChat
    Frame("<|action_start|>", "<|action_end|>", inner=("<|plugin|>",)),  # InternLM
    Frame("<function=", "</function>", keeps=True),  # functionary 3.1, Llama 3.1's own, and Qwen3-Coder's slips
    Frame('<function name="', "</function>", keeps=True),  # MiniCPM
    Frame("<tool_calls:opensource>", "</tool_calls:opensource>", found_by=("'<tool_calls{}>'.format",)),  # Hunyuan 3
    Frame("<atem:function_calls>", "</atem:function_calls>", found_by=("atem:",)),  # Glimmer
    Frame("<|open|>tools<|sep|>", "<|close|>tools<|sep|>", found_by=("open_tag('tools')",)),  # Kimi K3
    Frame("function call<|role_sep|>", found_by=("function call<|role_sep|>", "function call' + add_tokens.role_sep")),
    Frame(">>>", found_by=(">>>all",), prose="all\n"),  # functionary 3.2
    Frame("<|python_start|>", "<|python_end|>"),  # Llama 4
    Frame("functools", found_by=("functools[",)),  # firefunction
    Frame("Action:", found_by=("Action:\\n```json",)),  # Command R+
)  # fmt: skip

ANY = FRAMES[1]
"""Where a template shows no frame."""


def frames_of(template: str, has_token: Callable[[str], bool]) -> tuple[Frame, ...]:
    """The frames that a template shows, or, where it shows none, whose marks are tokens of the vocabulary.

    >>> [frame.open for frame in frames_of("{{ '<tool_call>' }}", lambda text: False)]
    ['<tool_call>']
    """
    shown = tuple(f for f in FRAMES if any(text in template for text in f.found_by or (f.open,)))
    return shown or tuple(f for f in FRAMES if has_token(f.open)) or (ANY,)
