"""Recipe: what quantize_file does to a file, as plain data that one can read, change, save and load.

Layers may be named as people do (attention_query, feed_forward_down, lm_head) or by regular expressions over tensor
names. Nothing here knows models or files of weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyggml.arguments import instance, list_of, mapping, text, texts, whole, whole_or_none, wrong_type
from pyggml.errors import ArgumentError
from pyggml.keywords import methods_known_only
from pyggml.quant.types import QuantType
from pyggml.recipes.patterns import compiled, whole_name
from pyggml.shown import clip, shown

LAYER_NAMES = {
    "embedding": r"^token_embd\.", "embeddings": r"^token_embd\.", "token_embedding": r"^token_embd\.",
    "lm_head": r"^output\.weight$", "output": r"^output\.weight$", "head": r"^output\.weight$",
    "attention": r"attn_(q|k|v|qkv|output|q_a|q_b|kv_a_mqa|kv_b|k_b|v_b)\.weight$",
    "attention_query": r"attn_q(_a|_b)?\.weight$", "attention_key": r"attn_k(_b)?\.weight$",
    "attention_value": r"attn_v(_b)?\.weight$", "attention_output": r"attn_output\.weight$",
    "attention_qkv": r"attn_qkv\.weight$", "attention_kv": r"attn_kv_(a_mqa|b)\.weight$",
    "feed_forward": r"ffn_(gate|up|down)(_exps|_shexp)?\.weight$", "ffn": r"ffn_(gate|up|down)(_exps|_shexp)?\.weight$",
    "feed_forward_gate": r"ffn_gate(_exps|_shexp)?\.weight$", "feed_forward_up": r"ffn_up(_exps|_shexp)?\.weight$",
    "feed_forward_down": r"ffn_down(_exps|_shexp)?\.weight$",
    "experts": r"ffn_(gate|up|down)_exps\.weight$", "shared_experts": r"ffn_(gate|up|down)_shexp\.weight$",
    "router": r"ffn_gate_inp(_shexp)?\.weight$", "norm": r"norm", "norms": r"norm", "layer_norm": r"norm",
    "bias": r"\.bias$",
}  # fmt: skip
"""Names that people use -> regular expressions over GGUF's names."""

MAX_LAYERS = 1 << 16
MAX_RULES, MAX_PATTERNS = 1 << 17, 1 << 12  # as many as a file has tensors; those that do not name one tensor whole
MAX_TOML = 1 << 24  # bytes of a recipe's file
_MAX_TEXT = 1 << 14

VECTOR_NAMES = frozenset({"norm", "norms", "layer_norm", "bias"})
"""Those of them that speak of vectors, which other rules leave alone."""


@methods_known_only
@dataclass(frozen=True, slots=True)
class Rule:
    """Tensors and the type they get.

    match: a name of LAYER_NAMES, or a regular expression searched in tensor names. type: "" keeps what they have.
    layers: "" all, else numbers and ranges ("0-3,8"), "first 4", "last 4", joined by commas; -1 is the last layer.
    """

    match: str
    type: str = ""
    layers: str = ""

    def __post_init__(self) -> None:
        text("match", self.match)
        text("layers", self.layers)
        if self.type is None:
            raise wrong_type("type", 'the name of a tensor type, or "" for what is there', self.type)
        if not isinstance(self.type, str) or self.type:
            object.__setattr__(self, "type", QuantType.parse(self.type).name)
        self.matcher(1 << 12)  # what is wrong with it is said now

    def matcher(self, n_layer: int) -> Callable[[str], bool]:
        """Whether a tensor name is meant, for a model of n_layer layers. Raises ArgumentError for a bad expression."""
        n_layer = whole("n_layer", n_layer, 0)
        known, whole_one = LAYER_NAMES.get(self.match.strip().lower()), whole_name(self.match)
        if known is not None:
            found: Callable[[str], object] = re.compile(known).search
        elif whole_one is not None:
            found = frozenset({whole_one, f"{whole_one}\n"}).__contains__  # $ is also before a last line end
        else:
            try:
                found = compiled(self.match).search
            except ArgumentError as e:
                raise ArgumentError(f"rule {clip(self.match, 60)}: {e}") from None
        if not self.layers:
            return lambda name: bool(found(name))
        heads = tuple(f"blk.{i}." for i in layer_numbers(self.layers, n_layer))
        return lambda name: name.startswith(heads) and bool(found(name))


def layer_numbers(text: str, n_layer: int) -> list[int]:
    """The layers that a text names.

    >>> layer_numbers("first 2, 5-6, -1", 8)
    [0, 1, 5, 6, 7]
    """
    found: set[int] = set()
    n_layer = min(n_layer, MAX_LAYERS)
    if len(str(text)) > _MAX_TEXT:
        raise ArgumentError(f"layers {clip(str(text), 60)}: {len(str(text))} characters, at most {_MAX_TEXT}")
    for part in str(text).split(","):
        word = " ".join(part.lower().split())
        edge = re.fullmatch(r"(first|last) (\d{1,9})", word)
        span = re.fullmatch(r"(-?\d{1,9})(?:\s*(?:-|\.\.)\s*(-?\d{1,9}))?", word)
        if edge:
            count = min(int(edge[2]), n_layer)
            found.update(range(count) if edge[1] == "first" else range(n_layer - count, n_layer))
        elif span:
            low, high = (int(x) if x is not None else int(span[1]) for x in span.groups())
            low, high = (x + n_layer if x < 0 else x for x in (low, high))
            if low > high:
                raise ArgumentError(f"layers {shown(part.strip())}: {low} to {high} is no range")
            found.update(range(max(low, 0), min(high, n_layer - 1) + 1))
        else:
            raise ArgumentError(f"layers {clip(part.strip(), 60)}: expected 3, 0-3, first 4 or last 4")
    return sorted(found)


RulesLike = Mapping[str, Any] | Iterable[Rule]


def as_rules(rules: RulesLike | None, name: str = "rules") -> tuple[Rule, ...]:
    """{match: type} or Rules -> Rules. name: of the parameter, for messages."""
    if rules is None:
        return ()
    if isinstance(rules, Mapping):
        return tuple(Rule(match, _name(kind, name)) for match, kind in mapping(name, rules).items())
    return tuple(instance(f"{name}[{i}]", rule, Rule, "a Rule") for i, rule in enumerate(list_of(name, rules)))


def _name(kind: Any, name: str) -> str:
    empty = kind is None or (isinstance(kind, str) and not kind)
    return "" if empty else QuantType.parse(kind, f"each type in {name}").name


@methods_known_only
@dataclass(slots=True)
class Recipe:
    """What becomes of each tensor of a file.

    base: a mix ("Q4_K_M") or "pure:TYPE". rules: the first whose match and layers fit wins over the base. keep: the
    same, but also for vectors and before all others; a Rule without a type keeps what is there. output_type and
    embedding_type: of the output matrix and the token embedding (a tied embedding is both;
    the latter wins). note: why it is so. max_size: most bytes of the tensors; where base makes more, the first of
    smaller that fits is taken instead, with keep but without rules and output types of the recipe; those given to
    quantize_file hold. path: the file it was read from, if any.

    >>> r = Recipe("Q4_K_M", rules=[Rule("attention_value", "q6_k", layers="first 4")])
    >>> r.output_type = "q8_0"
    >>> print(r.to_toml())
    base = "Q4_K_M"
    output_type = "q8_0"
    <BLANKLINE>
    [[rules]]
    match = "attention_value"
    type = "q6_k"
    layers = "first 4"
    <BLANKLINE>
    """

    base: str = "Q4_K_M"
    rules: list[Rule] = field(default_factory=list)
    keep: list[Rule] = field(default_factory=list)
    output_type: str | None = None
    embedding_type: str | None = None
    note: str = ""
    max_size: int | None = None
    smaller: list[str] = field(default_factory=list)
    path: str = field(default="", repr=False, compare=False)

    def check(self) -> None:
        """Raises ArgumentError or UnsupportedError for types that are not known and fields of another kind."""
        for name in ("base", "note"):
            text(name, getattr(self, name))
        for name in ("output_type", "embedding_type"):
            if getattr(self, name) is not None:
                setattr(self, name, QuantType.parse(getattr(self, name), name).name)
        self.rules, self.keep = list(as_rules(self.rules, "rules")), list(as_rules(self.keep, "keep"))
        self.max_size = whole_or_none("max_size", self.max_size, 1)
        self.smaller = texts("smaller", self.smaller)

    def to_toml(self) -> str:
        """The recipe as a file that load_recipe() reads.

        Raises what check() raises, and ArgumentError for a text that is none (half a character) and for more than can
        be read again: 131,072 rules, 4,096 of them that do not name one tensor whole, or 16 MiB.
        """
        self.check()
        lines = [f"base = {_quoted(self.base)}"]
        for key in ("output_type", "embedding_type", "note"):
            value = getattr(self, key)
            if value:
                lines.append(f"{key} = {_quoted(str(value))}")
        if self.max_size is not None:
            lines.append(f"max_size = {self.max_size}")
        if self.smaller:
            lines.append(f"smaller = [{', '.join(map(_quoted, self.smaller))}]")
        for key, rules in (("rules", self.rules), ("keep", self.keep)):
            for rule in rules:
                lines += ["", f"[[{key}]]", f"match = {_quoted(rule.match)}"]
                lines += [f"type = {_quoted(rule.type)}"] if rule.type or key == "rules" else []
                lines += [f"layers = {_quoted(rule.layers)}"] if rule.layers else []
        check_count([rule.match for rule in (*self.rules, *self.keep)])
        made = "\n".join(lines) + "\n"
        try:
            size = len(made.encode())
        except UnicodeEncodeError as e:
            raise ArgumentError(f"a recipe holds {made[e.start]!a}, which is no character") from None
        if size > MAX_TOML:
            raise ArgumentError(f"a recipe of {size:,} bytes, at most {MAX_TOML:,}: let rules name several tensors")
        return made


def check_count(matches: Sequence[str]) -> None:
    """Raises ArgumentError where a file of rules with these expressions would be too much to read."""
    if len(matches) > MAX_RULES:
        raise ArgumentError(f"{len(matches):,} rules, at most {MAX_RULES:,}: let rules name several tensors")
    n = sum(whole_name(match) is None for match in matches)
    if n > MAX_PATTERNS:
        raise ArgumentError(
            f"a recipe has at most {MAX_PATTERNS} rules that do not name one tensor whole, like "
            rf"^blk\.0\.ffn_up\.weight$; this one has {n:,}"
        )


def _quoted(text: str) -> str:
    if "'" not in text and text.isprintable():
        return f"'{text}'" if "\\" in text or '"' in text else f'"{text}"'
    return '"' + "".join(_escape(c) for c in text) + '"'


def _escape(c: str) -> str:
    return f"\\{c}" if c in '\\"' else c if c.isprintable() or "\ud800" <= c <= "\udfff" else f"\\U{ord(c):08x}"
