"""Chat templates: the Jinja text of a model rendered as transformers does it, in a sandbox that holds.

A template is checked before parsing (size, depth, tokens), rewritten so that loops count and values are weighed, and
rendered on a copy of the messages under a deadline. Limits are in guard.py, what may be called in filters.py.
"""

from __future__ import annotations

import functools
import math
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from pyggml.chat.filters import GLOBALS, METHODS, f_concat, filters, format_method
from pyggml.chat.guard import BINARY, MAX_CALL_DEPTH, RefusedError, as_text, concat, guard, guarded, plain
from pyggml.chat.messages import lacking, readable
from pyggml.errors import TemplateError

MAX_SOURCE = 1 << 18  # characters; the longest published templates have about 30,000
MAX_TOKENS = 20_000
MAX_NESTING = 64
MAX_NUMBER = 300  # digits

_PROBE = "PartOfAText"
_CODE = "<template>"  # what Jinja names the code of a template without a file
_OPENING = {"if", "for", "macro", "call", "filter", "with", "block", "generation"}
_REFUSED_TAGS: dict[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "import",
    nodes.Extends: "extends",
}


class ChatTemplate:
    """A checked and compiled template. May be used by any number of threads.

    source: the Jinja text (`tokenizer.chat_template`). bos_token, eos_token: what the template sees under these names.
    name: how messages call it. Raises TemplateError.

    >>> t = ChatTemplate("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
    >>> t.render([{"role": "user", "content": "hi"}])
    '<user>hi'
    """

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "", name: str | None = None) -> None:
        self.name = name or "default"
        self._source = source
        self.bos_token = bos_token
        self.eos_token = eos_token
        if not isinstance(source, str):
            raise TemplateError(f"chat template {self._name()} is {type(source).__name__}, expected str")
        try:
            with guarded(0):
                self._template = _compiled(source)
        except Exception as e:
            raise self._error(e) from None

    def __repr__(self) -> str:
        return f"ChatTemplate(name={self.name!r})"

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> str:
        """The prompt for a conversation.

        messages: [{"role": ..., "content": ...}, ...], never changed; a content may be a list of text parts, or None.
        tools: JSON schemas. kwargs reach the template
        (enable_thinking=False, documents=[...]). Raises TemplateError, also with the text of `raise_exception`.
        """
        found = readable(messages, _Reads(self._source, self._render))
        try:
            return self._render(found, add_generation_prompt, tools, kwargs)
        except TemplateError as error:
            missing = lacking(found)
            if not missing:
                raise
            raise TemplateError(f"{missing}; {error}") from None

    def shows_calls(self) -> bool:
        """Whether the calls of an assistant's message are in the prompt."""
        try:
            return _PROBE in self.render(_call_with("{}", _PROBE), False)
        except TemplateError:
            return True  # it reads them, and asks for more than this one has

    def variables(self) -> frozenset[str]:
        """The names that the template reads from what render() is given."""
        return _variables(self._source) - GLOBALS.keys()

    def _render(self, messages: list[dict[str, Any]], generation: bool, tools: Any, kwargs: Mapping[str, Any]) -> str:
        chat, weight = plain(messages, "messages")
        schemas, more = plain(tools, "tools")
        given, most = plain(kwargs, "template arguments")
        context = {
            "bos_token": self.bos_token,
            "eos_token": self.eos_token,
            "documents": None,
            **given,
            "messages": chat,
            "tools": schemas,
            "add_generation_prompt": bool(generation),
        }
        try:
            with guarded(weight + more + most):
                return "".join(_pieces(self._template, context))
        except Exception as e:
            raise self._error(e) from None

    def _name(self) -> str:
        return repr(self.name if len(self.name) <= 80 else self.name[:80] + "...")

    def _error(self, error: Exception) -> TemplateError:
        """The one error of this module: template, line, reason, under 2,000 characters."""
        line = error.lineno if isinstance(error, TemplateSyntaxError) else self._line(error)
        if isinstance(error, RecursionError):
            text = "it is nested too deeply or calls itself without end"
        elif isinstance(error, MemoryError):
            text = "it needs too much memory"
        elif isinstance(error, (RefusedError, jinja2.TemplateError)):
            text = (error.message if isinstance(error, jinja2.TemplateError) else str(error)) or type(error).__name__
        else:
            text = f"{type(error).__name__}: {error}"
        where = f"chat template {self._name()}" + (f", line {line}" if line else "")
        return TemplateError(f"{where}: {text if len(text) <= 1500 else text[:1500] + '...'}")

    def _line(self, error: Exception) -> int:
        """The template line that raised, from the innermost frame of compiled template code."""
        line = getattr(error, "template_line", 0)
        trace = error.__traceback__
        template = getattr(self, "_template", None)
        while trace is not None and template is not None:
            if trace.tb_frame.f_code.co_filename == _CODE:
                line = template.get_corresponding_lineno(trace.tb_lineno)
            trace = trace.tb_next
        return int(line)


def _pieces(template: jinja2.Template, context: dict[str, Any]) -> Iterator[str]:
    """What Template.render joins, with the size of the output bounded and errors as they are raised."""
    now = guard()
    total = 0
    for piece in template.root_render_func(template.new_context(context)):
        now.tick()
        total += len(piece)
        if total > now.max_output:
            raise RefusedError(f"the prompt is longer than {now.max_output:,} characters")
        yield piece


class _Reads:
    """What a template reads, tried by rendering."""

    def __init__(self, source: str, render: Callable[..., str]) -> None:
        self._source, self._render = source, render

    def parts(self) -> bool:
        """Whether a content may be a list of parts: one is rendered, and its text comes without what is around it."""
        probe = [{"role": "user", "content": [{"type": "text", "text": _PROBE}]}]
        try:
            found = self._render(probe, True, None, {})
        except TemplateError:
            return False
        return _PROBE in found and not re.search(rf"""['"]text['"]\s*:\s*['"]{_PROBE}""", found)

    def arguments_as_text(self) -> bool:
        """Whether it cannot print an object, or prints it as Python does."""
        try:
            found = self._render(_call_with({_PROBE: 1}), False, None, {})
        except TemplateError:
            try:
                self._render(_call_with("{}"), False, None, {})
            except TemplateError:
                return False
            return True
        return f"{{'{_PROBE}': 1}}" in found

    def short_ids(self) -> bool:
        """Whether it refuses ids that are not nine characters long, as Mistral's templates do."""
        return re.search(r"length\s*!=\s*9\b", self._source) is not None

    def names(self, word: str) -> bool:
        """Whether it speaks of a key."""
        return re.search(rf"\b{word}\b", self._source) is not None


def _call_with(arguments: object, name: str = "f") -> list[dict[str, Any]]:
    """A conversation with a call that every template takes."""
    function = {"name": name, "arguments": arguments}
    call = {"id": "abcdefghi", "type": "function", "function": function}
    return [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [call]}]


@functools.lru_cache(maxsize=16)
def _compiled(source: str) -> jinja2.Template:
    _check_source(source)
    try:
        return _environment().from_string(source)
    except SyntaxError as e:  # from Python's compiler, which has its own limits on nesting
        raise RefusedError(f"it is nested too deeply ({e.msg})") from None


@functools.lru_cache(maxsize=16)
def _variables(source: str) -> frozenset[str]:
    """Of a template that was compiled before, so that it is known to be small."""
    with guarded(0):
        return frozenset(meta.find_undeclared_variables(_environment().parse(source)))


# ---- before parsing ------------------------------------------------------------------------------------------------


def _check_source(source: str) -> None:
    """Size, number of tokens, depth of brackets and blocks: from the lexer alone, which does not recurse."""
    if len(source) > MAX_SOURCE:
        raise RefusedError(f"it has {len(source):,} characters, at most {MAX_SOURCE:,} are allowed")
    brackets = blocks = count = 0
    tag: list[str] = []
    for line, kind, text in _environment().lexer.tokeniter(source, None):
        if kind in ("whitespace", "data", "comment"):
            continue
        count += 1
        if kind == "block_begin":
            tag = []
        elif kind == "block_end":
            blocks += _block_step(tag)
        elif kind == "operator":
            brackets += (text in "([{") - (text in ")]}")
            if len(tag) < 64:
                tag.append(text)
        elif kind == "name" and len(tag) < 64:
            tag.append(text)
        elif kind in ("integer", "float") and len(text) > MAX_NUMBER:
            raise _at(line, RefusedError(f"a number has more than {MAX_NUMBER} digits"))
        if max(brackets, blocks) > MAX_NESTING:
            raise _at(line, RefusedError(f"it is nested deeper than {MAX_NESTING}"))
        if count > MAX_TOKENS:
            raise _at(line, RefusedError(f"it has more than {MAX_TOKENS:,} tokens"))


def _block_step(tag: list[str]) -> int:
    """How a tag changes the depth of blocks."""
    word = tag[0] if tag else ""
    if word.startswith("end"):
        return -1
    return int(word in _OPENING or (word == "set" and "=" not in tag))


def _at(line: int, error: RefusedError) -> RefusedError:
    error.template_line = line  # type: ignore[attr-defined]
    return error


# ---- the sandbox ---------------------------------------------------------------------------------------------------


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks the assistant's text for training; here it only scopes names."""

    tags = {"generation"}  # noqa: RUF012 (as the base class has it)

    def parse(self, parser: Any) -> nodes.Node:
        """The body, as a scope of its own."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Rewrite(NodeTransformer):
    """Puts the guard into a parsed template: loops tick, literals and slices are weighed, `~` is bounded."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        """Refuses tags that reach for other files."""
        tag = _REFUSED_TAGS.get(type(node))
        if tag is not None:
            raise _at(node.lineno, RefusedError(f"{{% {tag} %}} is refused"))
        return super().generic_visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        """Each turn of a loop, and each test of its condition, is a tick."""
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("!tick", nodes.Const(None), node), lineno=node.lineno))
        if node.test is not None:
            node.test = nodes.And(_call("!tick", nodes.Const(True), node), node.test, lineno=node.lineno)
        return node

    def visit_Const(self, node: nodes.Const) -> nodes.Node:  # noqa: N802
        """1e400 is infinity, which has no spelling in the code that Jinja makes."""
        infinite = isinstance(node.value, float) and math.isinf(node.value)
        return _call("!inf", nodes.Const(None), node) if infinite else node

    def visit_List(self, node: Any) -> nodes.Node:  # noqa: N802
        """A literal may repeat a large value."""
        self.generic_visit(node)
        return _weighed(node) if getattr(node, "ctx", "load") == "load" else node

    visit_Tuple = visit_Dict = visit_List  # noqa: N815

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        """A slice is a copy, made without the environment."""
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        node.node = _call("!tick", node.node, node)  # Python's compiler would warn of slices of literal numbers
        return _weighed(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """a ~ b ~ c."""
        self.generic_visit(node)
        return _call("!concat", nodes.List(node.nodes, lineno=node.lineno), node)


def _call(name: str, value: nodes.Expr, near: nodes.Node) -> nodes.Filter:
    """A filter whose name no template can write."""
    return nodes.Filter(value, name, [], [], None, None, lineno=near.lineno)


def _weighed(node: nodes.Expr) -> nodes.Node:
    return _call("!made", node, node)


@jinja2.pass_context
def _finalize(_: Any, value: Any) -> Any:
    """Each printed value is weighed; pass_context also keeps Jinja from computing constants while compiling."""
    return as_text(value) if not isinstance(value, Undefined) else value


def _tick(value: Any) -> Any:
    guard().tick()
    return value


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja with everything a template can do passing the guard."""

    intercepted_binops = frozenset(BINARY)
    concat = staticmethod(concat)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        rewritten = _Rewrite().visit(tree)
        rewritten.set_environment(self)
        return rewritten  # type: ignore[no-any-return]

    def handle_exception(self, source: str | None = None) -> Any:
        """Errors leave as raised; ChatTemplate finds their line itself."""
        raise

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """An operator of the template."""
        return BINARY[operator](left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """obj.attribute; names that begin with an underscore only as keys of a mapping."""
        guard().tick()
        if attribute.startswith("_"):
            return self._underscore(obj, attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """obj[argument]."""
        guard().tick()
        if isinstance(argument, str) and argument.startswith("_"):
            return self._underscore(obj, argument)
        return super().getitem(obj, argument)

    def _underscore(self, obj: Any, name: str) -> Any:
        if isinstance(obj, dict):
            return obj[name] if name in obj else self.undefined(obj=obj, name=name)
        raise SecurityError(f"access to {name[:60]!r} of a {type(obj).__name__} is refused")

    def wrap_str_format(self, value: Any) -> Any:
        """str.format and str.format_map, bounded."""
        if isinstance(value, types.BuiltinMethodType) and value.__name__ in ("format", "format_map"):
            text = value.__self__
            if isinstance(text, str):
                return format_method(self, str(text), value.__name__ == "format_map")
        return None

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """A call in the template: its own macros, the loop, the global functions, and listed methods."""
        now = guard()
        now.tick()
        now.depth += 1
        try:
            if now.depth > MAX_CALL_DEPTH:
                raise RefusedError(f"calls are nested deeper than {MAX_CALL_DEPTH}")
            if isinstance(__obj, (types.BuiltinMethodType, types.MethodType)):
                kwargs.pop("_loop_vars", None)  # what Jinja adds to calls inside of loops and blocks
                kwargs.pop("_block_vars", None)
                return _call_method(__obj, args, kwargs)
            if isinstance(__obj, Undefined):
                return __obj(*args, **kwargs)  # raises, naming what is undefined
            allowed = isinstance(__obj, (Macro, LoopContext)) or getattr(__obj, "guarded", False) is True
            if allowed or any(__obj is known for known in GLOBALS.values()):
                return __context.call(__obj, *args, **kwargs)
            raise SecurityError(f"a {type(__obj).__name__} cannot be called")
        finally:
            now.depth -= 1


def _call_method(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    owner, name = method.__self__, method.__name__
    if isinstance(owner, LoopContext) and name in ("cycle", "changed"):
        return method(*args, **kwargs)
    for kind, table in METHODS.items():
        if isinstance(owner, kind) and name in table:
            return table[name](owner, *args, **kwargs)
    raise SecurityError(f"the method {name[:60]!r} of a {type(owner).__name__} is refused")


@functools.lru_cache(maxsize=1)
def _environment() -> Sandbox:
    env = Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,
        cache_size=0,
        finalize=_finalize,
        extensions=[_Generation, loopcontrols],
    )
    env.filters = filters() | {"!tick": _tick, "!made": lambda value: guard().made(value), "!concat": f_concat}
    env.filters["!inf"] = lambda _: math.inf
    env.globals = dict(GLOBALS)
    return env
