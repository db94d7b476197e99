"""What templates may call: filters, methods of texts and containers, and global functions, each bounded.

Names not listed here do not exist for a template. Filters that give generators in Jinja give lists here, so that their
work is counted. Meanings follow Jinja and the chat templates of transformers (tojson, strftime_now, raise_exception).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from string import Formatter
from typing import Any

from jinja2 import pass_environment, pass_eval_context
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.filters import FILTERS, sync_do_slice
from jinja2.runtime import Undefined
from jinja2.utils import Cycler, Joiner, Namespace, pformat
from markupsafe import Markup, escape

from pyggml.chat.guard import (
    MAX_INT_BITS,
    MAX_RANGE,
    MAX_WIDTH,
    REPR_GROWTH,
    RefusedError,
    add,
    as_text,
    concat,
    guard,
    modulo,
    printed,
)

Function = Callable[..., Any]

MAX_SLOW = 20_000  # characters for what takes the square of them

_KNOWN = (list, tuple, dict, Undefined)

# ---- filters -------------------------------------------------------------------------------------------------------


def _through(name: str, weighed: bool = True) -> Function:
    """Jinja's own filter. weighed: input and result are weighed, a lazy result is made a list."""
    inner = FILTERS[name]
    at = 1 if hasattr(inner, "jinja_pass_arg") else 0
    # the characters of a text become items, but for reverse, which gives a text
    kept = (str, *_KNOWN) if name == "reverse" else _KNOWN

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        now = guard()
        now.tick()
        values = list(args)
        if not weighed:
            return inner(*values, **kwargs)
        for arg in (*args[at:], *kwargs.values()):
            now.weigh(arg)
        if len(values) > at and isinstance(values[at], Iterable) and not isinstance(values[at], kept):
            values[at] = now.collect(values[at])
        result = inner(*values, **kwargs)
        return now.collect(result) if isinstance(result, Iterator) else now.made(result)

    return outer


def _ticking(name: str) -> Function:
    """A lazy filter of Jinja over one sequence: every item is a tick, before it is tested or mapped."""
    inner = FILTERS[name]

    @functools.wraps(inner)
    def outer(context: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        now = guard()
        return now.collect(inner(context, now.items(value or ()), *args, **kwargs))

    return outer


def _width(value: Any, limit: int = MAX_WIDTH) -> Any:
    if isinstance(value, int) and abs(value) > limit:
        raise RefusedError(f"a width or count is larger than {limit:,}")
    return value


def _f_center(value: Any, width: int = 80) -> Any:
    return guard().made(as_text(value).center(_width(width)))


@pass_eval_context
def f_concat(scope: Any, parts: Any) -> str:
    """`a ~ b`: what Jinja's str_join does, and markup_join where text is escaped."""
    texts = [as_text(part) for part in parts]
    if scope.autoescape and any(hasattr(text, "__html__") for text in texts):
        return Markup(concat(escape(text) for text in texts))  # escaped just now
    return concat(texts)


def _f_format(value: Any, *args: Any, **kwargs: Any) -> Any:
    if args and kwargs:
        raise RefusedError("format takes positional or named values, not both")
    return modulo(as_text(value), kwargs or args)


@pass_environment
def _f_attr(environment: Any, value: Any, name: Any) -> Any:
    return environment.getattr(value, as_text(name))


def _f_indent(value: Any, width: Any = 4, first: bool = False, blank: bool = False) -> Any:
    text = as_text(value)
    pad = len(width) if isinstance(width, str) else width
    _width(pad)
    guard().fits(len(text) + (text.count("\n") + 2) * pad, "an indented text")
    return guard().made(FILTERS["indent"](text, width, first, blank))


def _f_int(value: Any, default: int = 0, base: int = 10) -> Any:
    if isinstance(value, str) and len(value) > MAX_INT_BITS // 12:
        raise RefusedError("a text of digits is too long for a number")
    return guard().made(FILTERS["int"](value, default, base))


@pass_environment
def _f_join(environment: Any, value: Any, d: Any = "", attribute: Any = None) -> str:
    now = guard()
    found = now.collect(value)
    if attribute is not None:
        found = [_by_path(environment, item, attribute) for item in now.items(found)]
    return join_texts(as_text(d), found)


def join_texts(glue: str, found: list[Any]) -> str:
    """glue.join(found), its size known before."""
    now = guard()
    texts = [as_text(item) for item in found]
    now.fits(sum(map(len, texts)) + len(glue) * len(texts), "a joined text")
    out: str = now.made(glue.join(texts))
    return out


def _by_path(environment: Any, item: Any, attribute: Any) -> Any:
    for part in str(attribute).split("."):
        item = environment.getitem(item, int(part) if part.isdigit() and len(part) < 9 else part)
    return item


def _f_abs(value: Any) -> Any:
    return guard().made(abs(value))


def _f_float(value: Any, default: float = 0.0) -> Any:
    return guard().made(FILTERS["float"](value, default))


def _f_replace(value: Any, old: Any, new: Any, count: Any = None) -> Any:
    return _m_replace(as_text(value), as_text(old), as_text(new), -1 if count is None else count)


def _f_round(value: Any, precision: int = 0, method: str = "common") -> Any:
    return guard().made(FILTERS["round"](value, _width(precision, 300), method))


@pass_environment
def _f_sum(environment: Any, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    for item in guard().items(value):
        start = add(start, item if attribute is None else _by_path(environment, item, attribute))
    return start


def _f_batch(value: Any, linecount: int, fill_with: Any = None) -> Any:
    _width(linecount, 10_000)
    return guard().collect(FILTERS["batch"](guard().collect(value), linecount, fill_with))


def _f_slice(value: Any, slices: int, fill_with: Any = None) -> Any:
    _width(slices, 10_000)
    return guard().collect(sync_do_slice(guard().collect(value), slices, fill_with))


def _f_trim(value: Any, chars: Any = None) -> Any:
    return guard().made(as_text(value).strip(_needle(chars)))


def _f_tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> Any:
    now = guard()
    printed(value)
    if indent is not None:
        pad = len(indent) if isinstance(indent, str) else indent
        _width(pad, 16)
    if separators is not None:
        separators = tuple(separators)
        for text in separators:
            _width(len(text), 16)
    out = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return now.made(out)


@pass_environment
def _f_wordwrap(environment: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    text = as_text(value)
    if len(text) > MAX_SLOW:  # its time grows with the square
        raise RefusedError(f"wordwrap takes at most {MAX_SLOW:,} characters")
    for arg in (*args, *kwargs.values()):
        _width(len(arg) if isinstance(arg, str) else arg)
    return guard().made(FILTERS["wordwrap"](environment, text, *args, **kwargs))


def _f_truncate_width(inner: Function) -> Function:
    @functools.wraps(inner)
    def outer(environment: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        return guard().made(inner(environment, as_text(value), *args, **kwargs))

    return outer


def _f_pprint(value: Any) -> Any:
    if printed(value) > MAX_SLOW:  # each level of a list is printed again for the one around it
        raise RefusedError(f"pprint takes at most {MAX_SLOW:,} characters")
    return guard().made(pformat(value))


def _f_filesizeformat(value: Any, binary: bool = False) -> Any:
    if isinstance(value, str):
        _needle(value)
    return guard().made(FILTERS["filesizeformat"](value, binary))


def _of_text(name: str) -> Function:
    inner = FILTERS[name]

    def outer(value: Any) -> Any:
        return guard().made(inner(value if hasattr(value, "__html__") else as_text(value)))

    return outer


def filters() -> dict[str, Function]:
    """All filters a template has."""
    table: dict[str, Function] = {
        "attr": _f_attr,
        "batch": _f_batch,
        "center": _f_center,
        "filesizeformat": _f_filesizeformat,
        "format": _f_format,
        "indent": _f_indent,
        "int": _f_int,
        "join": _f_join,
        "replace": _f_replace,
        "abs": _f_abs,
        "pprint": _f_pprint,
        "float": _f_float,
        "round": _f_round,
        "slice": _f_slice,
        "string": as_text,
        "sum": _f_sum,
        "tojson": _f_tojson,
        "trim": _f_trim,
        "truncate": _f_truncate_width(FILTERS["truncate"]),
        "wordwrap": _f_wordwrap,
    }
    for name in (
        "capitalize",
        "e",
        "escape",
        "forceescape",
        "lower",
        "safe",
        "title",
        "upper",
        "urlencode",
        "wordcount",
    ):
        table[name] = _of_text(name)
    for name in ("count", "d", "default", "first", "last", "length"):  # no work, no new value
        table[name] = _through(name, weighed=False)
    for name in (
        "dictsort",
        "groupby",
        "items",
        "list",
        "max",
        "min",
        "random",
        "reverse",
        "sort",
        "unique",
        "xmlattr",
    ):
        table[name] = _through(name)
    for name in ("map", "reject", "rejectattr", "select", "selectattr"):
        table[name] = _ticking(name)
    return table


# ---- methods -------------------------------------------------------------------------------------------------------


def _needle(text: Any, limit: int = 4096) -> Any:
    """A searched text; long ones make a search as slow as their length."""
    if isinstance(text, str) and len(text) > limit:
        raise RefusedError(f"a text searched for is longer than {limit:,} characters")
    return text


def _m_replace(text: str, old: Any, new: Any, count: int = -1) -> Any:
    now = guard()
    times = text.count(_needle(old))
    if count >= 0:
        times = min(times, count)
    now.fits(len(text) + times * max(len(new) - len(old), 0), "a replaced text")
    return now.made(text.replace(old, new, count))


def _m_join(glue: str, parts: Any) -> str:
    found = guard().collect(parts)
    if not all(isinstance(part, str) for part in found):
        raise TypeError("join takes texts")
    return join_texts(glue, found)


def _m_expandtabs(text: str, tabsize: int = 8) -> Any:
    guard().fits(len(text) + text.count("\t") * _width(tabsize), "an expanded text")
    return guard().made(text.expandtabs(tabsize))


def _padded(name: str) -> Function:
    def method(text: str, width: int, *fill: str) -> Any:
        return guard().made(getattr(text, name)(_width(width), *fill))

    return method


def _searching(name: str, limit: int) -> Function:
    def method(text: str, *args: Any, **kwargs: Any) -> Any:
        for arg in (*args, *kwargs.values()):
            _needle(arg, limit)
        return guard().made(getattr(text, name)(*args, **kwargs))

    return method


class BoundedFormatter(Formatter):
    """str.format with attribute access through the sandbox and bounded widths."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        """The value of a replacement field, by the environment's own access rules."""
        from _string import formatter_field_name_split  # type: ignore[import-not-found]

        first, rest = formatter_field_name_split(field_name)
        value = self.get_value(first, args, kwargs)
        for is_attribute, name in rest:
            value = self._environment.getattr(value, name) if is_attribute else self._environment.getitem(value, name)
        return value, first

    def format_field(self, value: Any, format_spec: str) -> str:
        """One field; numbers in its specification are bounded."""
        if any(len(digits) > 4 or int(digits) > MAX_WIDTH for digits in re.findall(r"[0-9]+", format_spec)):
            raise RefusedError(f"a width in a format is larger than {MAX_WIDTH}")
        if not isinstance(value, (int, float, str)):
            value = as_text(value)
        out: str = guard().made(format(value, format_spec))
        return out


def format_method(environment: Any, text: str, as_map: bool) -> Function:
    """text.format or text.format_map for templates."""

    def method(*args: Any, **kwargs: Any) -> Any:
        now = guard()
        if as_map:
            kwargs, args = dict(*args), ()
        growth = REPR_GROWTH if "!" in text else 1
        largest = max((growth * printed(value) for value in (*args, *kwargs.values())), default=0)
        now.fits(now.weigh(text) + text.count("{") * (largest + MAX_WIDTH), "a formatted text")
        return now.made(BoundedFormatter(environment).vformat(text, args, kwargs))

    method.guarded = True  # type: ignore[attr-defined]
    return method


_PLAIN = (
    "capitalize casefold isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace "
)
_PLAIN += "istitle isupper lower splitlines swapcase title upper"
_FORWARD = "count endswith find index lstrip partition removeprefix removesuffix rstrip split startswith strip"

METHODS: dict[type, dict[str, Function]] = {
    str: {
        **{name: _searching(name, 4096) for name in (*_PLAIN.split(), *_FORWARD.split())},
        **{name: _searching(name, 128) for name in ("rfind", "rindex", "rpartition", "rsplit")},
        **{name: _padded(name) for name in ("center", "ljust", "rjust", "zfill")},
        "expandtabs": _m_expandtabs,
        "join": _m_join,
        "replace": _m_replace,
    },
    dict: {name: _searching(name, 1 << 40) for name in ("copy", "get", "items", "keys", "values")},
    list: {name: _searching(name, 1 << 40) for name in ("copy", "count", "index")},
    tuple: {name: _searching(name, 1 << 40) for name in ("count", "index")},
    float: {"is_integer": _searching("is_integer", 0)},
}


# ---- globals -------------------------------------------------------------------------------------------------------


def g_range(*args: int) -> range:
    """range of at most 100,000 numbers."""
    numbers = range(*args)
    if numbers and (numbers[-1] - numbers[0]) // numbers.step >= MAX_RANGE:
        raise RefusedError(f"a range has more than {MAX_RANGE:,} numbers")
    guard().tick()
    return numbers


def g_dict(*args: Any, **kwargs: Any) -> Any:
    """dict(...), weighed."""
    for arg in args:
        guard().weigh(arg)
    return guard().made(dict(*args, **kwargs))


class TemplateNamespace(Namespace):
    """namespace(...), without names that begin with an underscore."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _public(name)
        super().__init__(attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _public(name)
        super().__setitem__(name, value)


def _public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise RefusedError(f"a namespace may not hold {name[:60]!r}: names with an underscore in front are refused")


def g_raise(message: Any = "") -> None:
    """The template's own error."""
    raise JinjaError(as_text(message))


def g_now(format: str) -> str:  # noqa: A002 (the name templates use)
    """The local time, as transformers gives it to templates."""
    if len(format) > 200 or re.search(r"%[^a-zA-Z%]*[0-9]", format):
        raise RefusedError("strftime_now takes a short format without widths")
    return datetime.now().strftime(format)


class TemplateCycler(Cycler):
    """cycler('a', 'b'): .next(), .current, .reset()."""

    def __init__(self, *items: Any) -> None:
        guard().weigh(items)
        super().__init__(*items)


class TemplateJoiner(Joiner):
    """joiner(', '): nothing at the first call, then the text."""

    guarded = True  # may be called

    def __init__(self, sep: str = ", ") -> None:
        super().__init__(as_text(sep))


METHODS[TemplateCycler] = {name: _searching(name, 0) for name in ("next", "reset")}

GLOBALS: dict[str, Any] = {
    "cycler": TemplateCycler,
    "dict": g_dict,
    "joiner": TemplateJoiner,
    "namespace": TemplateNamespace,
    "raise_exception": g_raise,
    "range": g_range,
    "strftime_now": g_now,
}
