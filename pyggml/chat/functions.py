"""Tools that a model may call, as callers have them, made the one form that chat templates read (OpenAI's).

A Python function's schema comes from its signature, its annotations and its docstring.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pyggml.arguments import list_of, text, wrong_type
from pyggml.chat import docstring
from pyggml.errors import ArgumentError, ArgumentTypeError
from pyggml.schema import Schema, hints_of, schema_of, without_null
from pyggml.shown import shown

Function = Callable[..., Any]
ToolLike = Function | Mapping[str, Any]

_EXPECTED = 'a function or a dict like {"type": "function", "function": {"name": ..., "parameters": {...}}}'


class Tools(NamedTuple):
    """What a chat's model may call. schemas: as templates read them. parameters: name -> the schema of its arguments.

    choice: "auto", "required", or the name of the one that must be called.
    """

    schemas: list[dict[str, Any]]
    parameters: dict[str, Schema]
    choice: str = "auto"


def read_tools(given: object, choice: object = "auto") -> Tools | None:
    """Tools as chat() takes them; None where there is none, or none may be called.

    given: functions, schemas {"name": ..., "parameters": ...}, OpenAI's {"type": "function", "function": {...}},
    Anthropic's {"name": ..., "input_schema": ...}, pydantic models; several in a list. choice: "auto", "none",
    "required" (also "any"), a name, or OpenAI's dict. Raises ArgumentError.
    """
    wanted = _choice(choice)
    schemas = [] if given is None else [schema_of_tool(f"tools[{i}]", each) for i, each in enumerate(_several(given))]
    parameters: dict[str, Schema] = {}
    for i, each in enumerate(schemas):
        name = each["function"]["name"]
        if name in parameters:
            raise ArgumentError(f"tools[{i}] is called {shown(name)} as another before it: give each its own name")
        parameters[name] = each["function"]["parameters"]
    if wanted not in ("auto", "none") and not schemas:
        raise ArgumentError(f"tool_choice={shown(wanted)}, but no tools are given: pass tools=[...]")
    if wanted not in ("auto", "none", "required", *parameters):
        raise ArgumentError(
            f"tool_choice must be auto, none, required or the name of a tool ({', '.join(parameters)}), "
            f"got {shown(wanted)}"
        )
    return Tools(schemas, parameters, wanted) if schemas and wanted != "none" else None


def _several(given: object) -> Sequence[Any]:
    if callable(given) or isinstance(given, Mapping):
        raise wrong_type("tools", f"a list of tools, each {_EXPECTED}", given, "put it into a list: tools=[...]")
    return list_of("tools", given, f"a list of tools, each {_EXPECTED}")


def _choice(value: object) -> str:
    if value is None:
        return "auto"
    if isinstance(value, Mapping):
        inner = value.get("function")
        named = inner.get("name") if isinstance(inner, Mapping) else value.get("name", value.get("type"))
        return _choice(text("tool_choice", named))
    if callable(value):
        value = getattr(value, "__name__", "")
    word = text("tool_choice", value)
    return "required" if word == "any" else word


def schema_of_tool(where: str, tool: object) -> dict[str, Any]:
    """One tool as {"type": "function", "function": {"name", "description", "parameters"}}; where names it in messages.

    >>> def add(a: int, b: int = 1) -> int:
    ...     '''Adds two numbers.'''
    >>> schema_of_tool("tools[0]", add)["function"]["parameters"]["required"]
    ['a']
    """
    if isinstance(tool, Mapping):
        made = _of_mapping(where, tool)
    elif isinstance(tool, type) and hasattr(tool, "model_json_schema"):
        schema = schema_of(tool, where)
        made = _made(tool.__name__, schema.pop("description", "") or docstring.read(tool.__doc__)[0], schema)
    elif callable(tool):
        made = _of_function(where, tool)
    else:
        raise wrong_type(where, _EXPECTED, tool)
    return {"type": "function", "function": made}


def _made(name: str, description: str, parameters: Schema, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "parameters": parameters, **more}


def _of_mapping(where: str, tool: Mapping[str, Any]) -> dict[str, Any]:
    inner = tool.get("function", tool)
    if callable(inner):
        return _of_function(f"{where}[function]", inner)
    if not isinstance(inner, Mapping) or "name" not in inner:
        raise wrong_type(where, _EXPECTED, tool, "it has no name")
    name = text(f"{where}: the name", inner["name"])
    if not name.strip():
        raise ArgumentError(f"{where}: the name is empty")
    key = next((key for key in ("parameters", "input_schema", "inputSchema") if key in inner), "parameters")
    parameters = inner.get(key)
    if parameters is None:
        parameters = {"type": "object", "properties": {}}
    elif isinstance(parameters, type):
        parameters = schema_of(parameters, f"{where}: {key}")
    if not isinstance(parameters, Mapping):
        raise wrong_type(f"{where}: {key}", "a JSON schema (dict)", parameters)
    if "type" not in parameters and not parameters.keys() & {"$ref", "anyOf", "allOf", "oneOf"}:
        parameters = {"type": "object", **parameters}
    description = inner.get("description")
    more = {word: inner[word] for word in inner if word not in ("name", "description", "parameters", "type", key)}
    return _made(
        name, "" if description is None else text(f"{where}: description", description), dict(parameters), **more
    )


def _of_function(where: str, call: Function) -> dict[str, Any]:
    inner = inspect.unwrap(call)
    while hasattr(inner, "func"):  # functools.partial
        inner = inner.func
    name = getattr(inner, "__name__", type(inner).__name__)
    if name == "<lambda>":
        raise ArgumentTypeError(f"{where} is a lambda, which has no name for the model to call it by: use def")
    where = f"{where} ({name})"
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"{where}: its parameters are not known ({error}); give a schema instead") from None
    hints = hints_of(inner if inspect.isroutine(inner) else type(inner).__call__, where)
    said, of_parameters = docstring.read(inspect.getdoc(inner if inspect.isroutine(inner) else type(inner)))
    properties: Schema = {}
    defs: Schema = {}
    needed = []
    more: Schema = {}
    for key, each in signature.parameters.items():
        at = f"{where}: parameter {key}"
        if each.kind is inspect.Parameter.VAR_POSITIONAL:
            raise ArgumentTypeError(f"{at} (*{key}) takes values without names, and a model's arguments have names")
        if each.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise ArgumentTypeError(f"{at} has no name to callers (it stands before /), a model's arguments have names")
        schema = schema_of(hints.get(key, each.annotation if each.annotation is each.empty else Any), at)
        defs.update(schema.pop("$defs", {}))
        if each.kind is inspect.Parameter.VAR_KEYWORD:
            more = {"additionalProperties": schema or True}
            continue
        if each.default is each.empty:
            needed.append(key)
        elif each.default is None:
            schema = without_null(schema)
        if key in of_parameters and "description" not in schema:
            schema["description"] = of_parameters[key]
        properties[key] = schema
    parameters = {"type": "object", "properties": properties, "required": needed, **more}
    return _made(name, said, {**parameters, "$defs": defs} if defs else parameters)
