"""What stands between the marks of a call, read by its own looks: JSON, XML of several kinds, Python, name and JSON.

read() is one function for all families: what a model writes is seldom exactly what its template shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from pyggml.chat.tools.shapes import Call, Schemas, arguments_of, calls_of, plain_name, property_of, typed
from pyggml.chat.tools.values import Balance, comma, loads, skip, value_at

BAR, UNDER = "\uff5c", "\u2581"  # as DeepSeek's tokens are spelled

_FENCE = re.compile(r"```[\w+-]*[ \t]*\n?")
_NS = r"(?:[\w-]+:|" + BAR + r"\w+" + BAR + ")?"  # antml: and the like
_FUNCTION = re.compile(
    rf"<function=\s*[\"']?([^>\s\"']+)[\"']?\s*>(.*?)(?:</function>|(?=<function=)|\Z)"
    rf"|<{_NS}(?:invoke|function)\s+name=[\"']([^\"'>]+)[\"']\s*>(.*?)(?:</{_NS}(?:invoke|function)>|\Z)",
    re.S,
)
_PARAMETER = re.compile(
    rf"<parameter=\s*[\"']?([^>\s\"']+)[\"']?\s*>(.*?)(?:</parameter>|(?=<parameter=)|\Z)()"
    rf"|<{_NS}param(?:eter)?\s+name=[\"']([^\"'>]+)[\"'](?:\s+string=[\"'](true|false)[\"'])?\s*>(.*?)"
    rf"(?:</{_NS}param(?:eter)?>|\Z)",
    re.S,
)
_ARG = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)(?:</arg_value>|(?=<arg_key>)|\Z)", re.S)
_NAME = r"[A-Za-z_][\w.:-]*"
_PYTHON = re.compile(rf"\s*({_NAME})\s*\(")
_NAMED = re.compile(rf"\s*(?:call:)?({_NAME})\s*(?=\{{)")

_DEEPSEEK = re.compile(
    rf"<{BAR}tool{UNDER}call{UNDER}begin{BAR}>(?:function)?(?:<{BAR}tool{UNDER}sep{BAR}>)?(.*?)"
    rf"(?:<{BAR}tool{UNDER}call{UNDER}end{BAR}>|\Z)", re.S)  # fmt: skip
_DEEPSEEK_HEAD = re.compile(rf"\s*({_NAME})\s*(?:<{BAR}tool{UNDER}sep{BAR}>)?", re.S)
_KIMI = re.compile(
    r"<\|tool_call_begin\|>\s*([^<\s]*)\s*<\|tool_call_argument_begin\|>(.*?)(?:<\|tool_call_end\|>|\Z)", re.S
)
_SOLAR = re.compile(
    r"<\|tool_call:begin\|>([^<]*)<\|tool_call:name\|>([^<]*)<\|tool_call:args\|>(.*?)(?:<\|tool_call:end\|>|\Z)", re.S
)
_MINIMAX = "]<]minimax[>["  # M3's, before every tag
_CHILD = re.compile(r"<([\w.-]+)>(.*?)</\1>", re.S)
_K3 = re.compile(r'<\|open\|>call tool="([^"]*)"[^<]*<\|sep\|>(.*?)(?:<\|close\|>call<\|sep\|>|\Z)', re.S)
_K3_ARG = re.compile(
    r'<\|open\|>argument key="([^"]*)"(?: type="(\w*)")?[^<]*<\|sep\|>(.*?)(?:<\|close\|>argument<\|sep\|>|\Z)', re.S
)
_SUFFIX = re.compile(r"<(/?\w+):opensource>")  # Hunyuan 3's, behind every tag
_SUFFIXED = re.compile(r"<tool_call:opensource>(.*?)(?:</tool_call:opensource>|\Z)", re.S)
_MISTRAL = re.compile(rf"\s*(?!call:)({_NAME})\s*(?:\[CALL_ID\]\s*(\w*)\s*)?(?:\[ARGS\])?\s*(?=\{{)")

Reader = Callable[[str, Schemas], list[Call] | None]


def read(body: str, schemas: Schemas) -> list[Call] | None:
    """The calls of a body; None where a part of it is not understood. Never raises.

    >>> read('{"name": "f", "arguments": {"a": 1}}', {})[0].arguments
    {'a': 1}
    >>> read("<function=f><parameter=a>\\n1\\n</parameter></function>", {})[0].arguments
    {'a': 1}
    >>> read("[f(a=1), g(b='x')]", {})[1].name
    'g'
    """
    text = _unfenced(body)
    for reader in _READERS:
        try:
            found = reader(text, schemas)
        except (ValueError, RecursionError):
            continue
        if found:
            return found
    return None


def _unfenced(text: str) -> str:
    """The text within a fence of Markdown, or all of it."""
    text = text.strip()
    fence = _FENCE.match(text)
    return text[fence.end() :].removesuffix("```").strip() if fence else text


def _json(text: str, schemas: Schemas) -> list[Call] | None:
    """A value, or several one after the other, with line breaks, commas or semicolons between."""
    if text[:1] not in ("{", "["):
        return None
    try:
        return calls_of(loads(text), schemas)
    except ValueError:
        found: list[Call] = []
        for piece in _values(text):
            calls = calls_of(loads(piece), schemas)
            if calls is None:
                return None
            found += [Call(call.name, call.arguments, call.id, piece) for call in calls]
        return found if len(found) > 1 else None


def _values(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        end = Balance().push(text[at:])
        if end is None:
            raise ValueError("a value has no end")
        yield text[at : at + end]
        at = skip(text, at + end)
        while text[at : at + 1] in (",", ";"):
            at = skip(text, at + 1)


def _all(pattern: re.Pattern[str], text: str) -> list[re.Match[str]] | None:
    """Every match, where nothing but blanks is between them."""
    found = list(pattern.finditer(text))
    rest = pattern.sub("", text)
    return found if found and not rest.strip() else None


def _xml(text: str, schemas: Schemas) -> list[Call] | None:
    """<function=f><parameter=a>1</parameter></function> and <invoke name="f"><parameter name="a">1</parameter>."""
    found = []
    for match in _all(_FUNCTION, text.replace(_MINIMAX, "")) or ():
        name, inner = match[1] or match[3], match[2] if match[1] else match[4]
        arguments = _parameters(plain_name(name), inner, schemas)
        if arguments is None or not (arguments or "</" in match[0]):
            return None
        found.append(Call(plain_name(name), arguments, raw=match[0]))
    return found


def _parameters(name: str, inner: str, schemas: Schemas) -> dict[str, Any] | None:
    if not inner.strip():
        return {}
    if inner.lstrip()[:1] == "{":  # functionary's: JSON in a tag
        return arguments_of(inner)
    found: dict[str, Any] = {}
    if not _PARAMETER.search(inner):
        for match in _all(_CHILD, inner) or ():
            found[match[1]] = typed(_unlined(match[2]), property_of(schemas, name, match[1]))
        return found or None
    for match in _all(_PARAMETER, inner) or ():
        if match[1] is not None:
            key, value, string = match[1], match[2], None
        else:
            key, string, value = match[4], match[5], match[6]
        value = _unlined(value)
        found[key] = value if string == "true" else typed(value, property_of(schemas, name, key))
    return found or None


def _unlined(value: str) -> str:
    """A value without the line break behind its opening tag and the one before its closing tag, or out of CDATA."""
    value = value.removeprefix("\n").removesuffix("\n")
    data = value.startswith("<![CDATA[") and value.endswith("]]>")
    return value[len("<![CDATA[") : -len("]]>")] if data else value


_TAGS = (("<arg_value>", "</arg_value>"), ("<parameter", "</parameter>"), ("<param ", "</param>"))


def open_tag(body: str) -> bool:
    """Whether a value between tags has begun and not ended.

    >>> open_tag("f<arg_key>a</arg_key><arg_value>1"), open_tag("f<arg_key>a</arg_key><arg_value>1</arg_value>")
    (True, False)
    """
    return any(body.rfind(begins) > body.rfind(ends) for begins, ends in _TAGS)


def _keys(text: str, schemas: Schemas) -> list[Call] | None:
    """GLM's: the name, then <arg_key>a</arg_key><arg_value>1</arg_value>."""
    name, mark, rest = text.partition("<arg_key>")
    name = plain_name(name)
    if not re.fullmatch(_NAME, name):
        return None
    if not mark:
        return [Call(name, {}, raw=text)] if name in schemas else None
    found = {}
    for match in _all(_ARG, mark + rest) or ():
        key = match[1].strip()
        found[key] = typed(_unlined(match[2]), property_of(schemas, name, key))
    return [Call(name, found, raw=text)] if found else None


def _suffixed(text: str, schemas: Schemas) -> list[Call] | None:
    found: list[Call] = []
    for match in _all(_SUFFIXED, text) or ():
        plain = _SUFFIX.sub(r"<\1>", match[1]).replace("<tool_sep>", "")
        calls = _keys(plain.strip(), schemas)
        if not calls:
            return None
        found += [Call(call.name, call.arguments, raw=match[0]) for call in calls]
    return found


def _k3(text: str, schemas: Schemas) -> list[Call] | None:
    found = []
    for match in _all(_K3, text) or ():
        arguments: dict[str, Any] = {}
        for arg in (_all(_K3_ARG, match[2]) or ()) if match[2].strip() else ():
            arguments[arg[1]] = arg[3] if arg[2] == "string" else typed(arg[3], {"type": arg[2] or None})
        if match[2].strip() and not arguments:
            return None
        found.append(Call(plain_name(match[1]), arguments, raw=match[0]))
    return found


def _python(text: str, schemas: Schemas) -> list[Call] | None:
    """f(a=1), several with commas or line breaks between, in square brackets or not."""
    at = 0
    listed = text[:1] == "["
    text = text[1:-1] if listed and text[-1:] == "]" else text
    found = []
    while head := _PYTHON.match(text, at):
        arguments, end = _keywords(text, head.end(), head[1], schemas)
        found.append(Call(plain_name(head[1]), arguments, raw=text[at:end].strip()))
        at = skip(text, end)
        while text[at : at + 1] in (",", ";"):
            at = skip(text, at + 1)
    return found if at == len(text) else None


def _keywords(text: str, at: int, name: str, schemas: Schemas) -> tuple[dict[str, Any], int]:
    """Arguments up to the closing bracket; those without a name take the names of the schema, in its order."""
    schema = schemas.get(plain_name(name))
    names = list((schema or {}).get("properties") or ())
    found: dict[str, Any] = {}
    while True:
        at = skip(text, at)
        if text.startswith(")", at):
            return found, at + 1
        key = re.compile(r"([A-Za-z_]\w*)\s*=(?!=)").match(text, at)
        if key is None and len(found) >= len(names):
            raise ValueError(f"a value without a name at {at}")
        word = key[1] if key else names[len(found)]
        found[word], at = value_at(text, key.end() if key else at)
        at = comma(text, at, ")")


def _named(text: str, schemas: Schemas) -> list[Call] | None:
    """Gemma 4's call:f{a:1}, and a name before a JSON object, several one after the other."""
    found = []
    at = 0
    while head := _NAMED.match(text, at):
        arguments, end = value_at(text, head.end())
        found.append(Call(plain_name(head[1]), arguments, raw=text[at:end].strip()))
        at = skip(text, end)
    return found if at == len(text) else None


def _mistral(text: str, schemas: Schemas) -> list[Call] | None:
    head = _MISTRAL.match(text)
    arguments = arguments_of(text[head.end() :]) if head else None
    return [Call(plain_name(head[1]), arguments, head[2] or "", text)] if head and arguments is not None else None


def _deepseek(text: str, schemas: Schemas) -> list[Call] | None:
    found = []
    for match in _all(_DEEPSEEK, text) or ():
        head = _DEEPSEEK_HEAD.match(match[1])
        arguments = arguments_of(_unfenced(match[1][head.end() :])) if head else None
        if head is None or arguments is None:
            return None
        found.append(Call(plain_name(head[1]), arguments, raw=match[0]))
    return found


def _kimi(text: str, schemas: Schemas) -> list[Call] | None:
    """The id is functions.NAME:NUMBER."""
    found = []
    for match in _all(_KIMI, text) or ():
        arguments = arguments_of(match[2])
        name = plain_name(match[1]).rpartition(":")[0] or plain_name(match[1])
        if arguments is None or not name:
            return None
        found.append(Call(name, arguments, match[1], match[0]))
    return found


def _solar(text: str, schemas: Schemas) -> list[Call] | None:
    found = []
    for match in _all(_SOLAR, text) or ():
        arguments = arguments_of(match[3])
        if arguments is None or not match[2].strip():
            return None
        found.append(Call(plain_name(match[2]), arguments, match[1].strip(), match[0]))
    return found


_READERS: tuple[Reader, ...] = (
    _json, _xml, _deepseek, _kimi, _k3, _solar, _suffixed, _mistral, _named, _keys, _python,
)  # fmt: skip
