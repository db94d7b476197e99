"""Every public call, every parameter, every kind of value: the right result, or an error of the package that names it.

The calls are those of `__all__` and the parameters those of inspect.signature, so a new call or parameter is met here
at once: it fails until CALLS says how it is called rightly.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attack.values import VALUES
from model import tiny

import pyggml
import pyggml.numeric
import pyggml.recipes
from pyggml import gguf
from pyggml.errors import ArgumentTypeError, PyggmlError, UnsupportedError
from pyggml.recipes.report import write_report
from pyggml.recipes.survey import survey

STORY = "Once upon a time there was a king who had three sons."
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}{{ tools }}"


class World:
    """What calls work on."""

    def __init__(self, folder: Path) -> None:
        self.path = tiny.write(folder / "tiny.gguf", n_layer=1, n_ctx=16).path
        self.model = pyggml.load(self.path, n_threads=1)
        head = {"cls.output.weight": np.ones((1, 64), np.float32)}
        self.ranking = pyggml.load(tiny.write(folder / "head.gguf", n_layer=1, more=head).path, n_threads=1)
        self.session = self.model.session(8)
        self.saved = folder / "x.state"
        self.session.save(self.saved)
        self.file = gguf.open(self.path)
        self.info = self.file.tensors["blk.0.attn_norm.weight"]
        self.small = folder / "small.gguf"
        with gguf.Writer(self.small) as out:
            out.add("general.architecture", "nothing")
            out.add_tensor("blk.0.ffn_up.weight", (2, 32), "f32", np.ones((2, 32), np.float32))
        self.tensor = pyggml.quantize(np.ones((2, 32), np.float32), "q8_0")
        self.completion = self.model.generate("Once", max_tokens=3)
        self.imatrix = pyggml.Imatrix({"w": np.ones((1, 4))}, {"w": np.ones(1)})
        self.costs = pyggml.Sensitivity({})
        self.recipe = folder / "r.toml"
        self.recipe.write_text('base = "Q4_K_M"\n')
        self.n = itertools.count()

    def writer(self) -> gguf.Writer:
        return gguf.Writer("never-written.gguf")

    def fresh(self) -> str:
        return f"out-{next(self.n)}"

    def stream(self) -> Any:
        return self.model.stream("Once", max_tokens=2)

    def load(self, **how: Any) -> None:
        pyggml.load(**how).close()

    def make_model(self, **how: Any) -> None:
        pyggml.Model(**how).close()

    def encode(self, **how: Any) -> None:
        with contextlib.suppress(UnsupportedError):  # there is no encoder, which is said after ids were judged
            self.session.encode(**how)

    def make_session(self, **how: Any) -> None:
        pyggml.Session(**how).close()

    def model_session(self, **how: Any) -> None:
        self.model.session(**how).close()

    def take_stream(self, **how: Any) -> None:
        for _ in self.model.stream(**how):
            pass

    def take_astream(self, **how: Any) -> None:
        async def read() -> None:
            async for _ in self.model.astream(**how):
                pass

        asyncio.run(read())

    def take_chat(self, **how: Any) -> None:
        made = self.model.chat(**how)
        if not isinstance(made, pyggml.Completion):
            list(made)

    def step(self, **how: Any) -> None:
        self.session.reset()
        self.session.step(**how)

    def fork(self) -> None:
        self.session.fork().close()

    def shift(self, **how: Any) -> None:
        self.session.reset()
        self.session.step([1, 2])
        self.session.shift(**how)

    def next(self, **how: Any) -> None:
        self.session.reset()
        self.session.next(**how)

    def open(self, **how: Any) -> None:
        gguf.open(**how).close()


def run_async(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **how: asyncio.run(call(**how))


def sampler(w: World) -> Any:
    from pyggml.engine.sampling import Sampling

    return Sampling().sampler(w.model.n_vocab)


CALL = pyggml.ToolCall("a", "b", {})
MESSAGES = [{"role": "user", "content": "hi"}]
TOO_LONG = 9  # chunks of a text that a model reads
IDS = list(range(5, 5 + TOO_LONG))

# How each call is called rightly: what to call where that is not the thing itself, and the least it needs.
CALLS: dict[str, Callable[[World], tuple[Callable[..., Any] | None, dict[str, Any]]]] = {
    "load": lambda w: (w.load, {"n_ctx": 8}),
    "Model": lambda w: (w.make_model, {"path": w.path, "n_ctx": 8}),
    "Model.tokenize": lambda w: (w.model.tokenize, {"text": "a"}),
    "Model.detokenize": lambda w: (w.model.detokenize, {"ids": [1]}),
    "Model.render_chat": lambda w: (w.model.render_chat, {"messages": MESSAGES, "template": TEMPLATE}),
    "Model.generate": lambda w: (w.model.generate, {"prompt": "a", "max_tokens": 1}),
    "Model.stream": lambda w: (w.take_stream, {"prompt": "a", "max_tokens": 1}),
    "Model.chat": lambda w: (w.take_chat, {"messages": MESSAGES, "template": TEMPLATE, "max_tokens": 1}),
    "Model.agenerate": lambda w: (run_async(w.model.agenerate), {"prompt": "a", "max_tokens": 1}),
    "Model.astream": lambda w: (w.take_astream, {"prompt": "a", "max_tokens": 1}),
    "Model.achat": lambda w: (
        run_async(w.model.achat), {"messages": MESSAGES, "template": TEMPLATE, "max_tokens": 1}
    ),
    "Model.session": lambda w: (w.model_session, {}),
    "Model.embed": lambda w: (w.model.embed, {"texts": "abc", "pooling": "mean"}),
    "Model.rerank": lambda w: (w.ranking.rerank, {"query": "a", "docs": ["a"]}),
    "Model.logits": lambda w: (w.model.logits, {"ids": [1]}),
    "Model.score": lambda w: (w.model.score, {"text": "a"}),
    "Model.perplexity": lambda w: (w.model.perplexity, {"text": STORY, "n_ctx": 8}),
    "Model.memory": lambda w: (w.model.memory, {}),
    "Model.export_plan": lambda w: (w.model.export_plan, {"path": w.fresh()}),
    "Model.close": lambda w: (lambda: None, {}),  # the world needs it
    "Session": lambda w: (w.make_session, {"model": w.model}),
    "Session.step": lambda w: (w.step, {"ids": [1]}),
    "Session.encode": lambda w: (w.encode, {"ids": [1]}),
    "Session.next": lambda w: (w.next, {"sampler": sampler(w), "ids": [1]}),
    "Session.check": lambda w: (w.session.check, {"ids": [1]}),
    "Session.truncate": lambda w: (w.session.truncate, {"n_past": 0}),
    "Session.mark": lambda w: (w.session.mark, {}),
    "Session.unmark": lambda w: (w.session.unmark, {"n_past": 0}),
    "Session.back": lambda w: (w.session.back, {"n_past": 0}),
    "Session.fork": lambda w: (w.fork, {}),
    "Session.shift": lambda w: (w.shift, {"first": 0, "last": 1}),
    "Session.save": lambda w: (w.session.save, {"path": w.fresh()}),
    "Session.load": lambda w: (w.session.load, {"path": w.saved}),
    "Session.reset": lambda w: (w.session.reset, {}),
    "Session.cancel": lambda w: (w.session.cancel, {}),
    "Session.close": lambda w: (w.model.session(2).close, {}),
    "Tensor": lambda w: (None, {"raw": bytes(34), "type": "q8_0", "shape": (32,)}),
    "Tensor.dequantize": lambda w: (w.tensor.dequantize, {}),
    "Tensor.numpy": lambda w: (w.tensor.numpy, {}),
    "Tensor.__getitem__": lambda w: (w.tensor.__getitem__, {"index": 0}),
    "Tensor.__matmul__": lambda w: (w.tensor.__matmul__, {"x": np.ones(32, np.float32)}),
    "quantize": lambda w: (None, {"x": np.ones((1, 32), np.float32), "type": "q8_0"}),
    "dequantize": lambda w: (None, {"raw": bytes(34), "type": "q8_0", "shape": (32,)}),
    "QuantType": lambda w: (None, {"row": (0, "F32", 1, 4, 1, "float", True)}),
    "QuantType.parse": lambda w: (None, {"value": "q8_0"}),
    "QuantType.row_bytes": lambda w: (pyggml.QuantType.Q8_0.row_bytes, {"k": 32}),
    "Completion": lambda w: (None, {name: getattr(w.completion, name) for name in w.completion.__slots__}),
    "Part": lambda w: (None, {"kind": "text", "text": "a"}),
    "ToolCall": lambda w: (None, {"id": "a", "name": "b", "arguments": {}}),
    "ToolCall.openai": lambda w: (CALL.openai, {}),
    "ToolCall.message": lambda w: (CALL.message, {"result": "a"}),
    "Completion.__contains__": lambda w: (w.completion.__contains__, {"part": "a"}),
    "Completion.strip": lambda w: (w.completion.strip, {}),
    "Completion.split": lambda w: (w.completion.split, {}),
    "Completion.startswith": lambda w: (w.completion.startswith, {"prefix": "a"}),
    "Completion.endswith": lambda w: (w.completion.endswith, {"suffix": "a"}),
    "Imatrix": lambda w: (None, {"sums": {"w": np.ones((1, 4))}, "counts": {"w": np.ones(1)}}),
    "Imatrix.save": lambda w: (w.imatrix.save, {"path": w.fresh()}),
    "Imatrix.load": lambda w: (None, {"path": "not-there"}),
    "Sensitivity": lambda w: (None, {"tensors": {}}),
    "Sensitivity.save": lambda w: (w.costs.save, {"path": w.fresh()}),
    "Sensitivity.load": lambda w: (None, {"path": "not-there"}),
    "Recipe": lambda w: (lambda **how: pyggml.Recipe(**how).check(), {}),
    "Recipe.check": lambda w: (pyggml.Recipe().check, {}),
    "Recipe.to_toml": lambda w: (pyggml.Recipe().to_toml, {}),
    "Rule": lambda w: (None, {"match": "norm"}),
    "Rule.matcher": lambda w: (pyggml.Rule("norm", "", "0").matcher, {"n_layer": 1}),
    "compare": lambda w: (None, {"a": w.model, "b": w.model, "text": IDS, "n_ctx": 8}),
    "convert": lambda w: (None, {"src": "not-there", "dst": w.fresh()}),
    "estimate": lambda w: (None, {"path": w.file, "n_ctx": 8}),
    "formats": lambda w: (None, {}),
    "get_include": lambda w: (None, {}),
    "imatrix": lambda w: (None, {"model": w.model, "text": IDS, "n_ctx": 8, "n_chunk": 1}),
    "info": lambda w: (None, {}),
    "load_recipe": lambda w: (None, {"path": w.recipe}),
    "merge_file": lambda w: (None, {"src": w.small, "dst": w.fresh()}),
    "split_file": lambda w: (None, {"src": w.small, "prefix": w.fresh()}),
    "strategy": lambda w: (None, {}),
    "sensitivity": lambda w: (
        None, {"model": w.model, "text": IDS, "n_ctx": 8, "n_chunk": 1, "n_kl": 0, "types": ["q8_0"], "imatrix": {}},
    ),
    "quantize_file": lambda w: (None, {"src": w.small, "dst": w.fresh(), "recipe": "COPY"}),
    "gguf.open": lambda w: (w.open, {"path": w.path}),
    "gguf.Writer": lambda w: (None, {"path": w.fresh()}),
    "gguf.Writer.add": lambda w: (w.writer().add, {"key": "a", "value": 1}),
    "gguf.Writer.add_raw": lambda w: (w.writer().add_raw, {"key": "a", "kind": gguf.ValueType.U8, "raw": b"1"}),
    "gguf.Writer.copy": lambda w: (w.writer().copy, {"metadata": w.file.metadata, "key": "general.architecture"}),
    "gguf.Writer.add_metadata": lambda w: (w.writer().add_metadata, {"metadata": w.file.metadata}),
    "gguf.Writer.add_tensor": lambda w: (
        w.writer().add_tensor, {"name": "t", "shape": (32,), "type": "q8_0", "data": bytes(34)},
    ),
    "gguf.Writer.write": lambda w: (w.writer().write, {"out": io.BytesIO()}),
    "gguf.Writer.close": lambda w: (gguf.Writer(w.fresh()).close, {}),
    "gguf.Writer.abort": lambda w: (w.writer().abort, {}),
    "Tensor.stored": lambda w: (None, {"read": w.info.read, "type": "q8_0", "shape": (32,)}),
    "gguf.TensorInfo.read": lambda w: (w.info.read, {}),
    "gguf.TensorInfo.every": lambda w: (w.info.every, {"step": 1}),
    "gguf.TensorInfo.read_into": lambda w: (w.info.read_into, {"buffer": bytearray(w.info.nbytes)}),
    "gguf.GGUFFile.check_unchanged": lambda w: (w.file.check_unchanged, {}),
    "gguf.GGUFFile.header": lambda w: (w.file.header, {}),
    "gguf.GGUFFile.close": lambda w: (gguf.open(w.small).close, {}),
    "numeric.encode": lambda w: (None, {"x": np.ones((1, 32), np.float32), "format": "nf4"}),
    "numeric.notation": lambda w: (None, {"text": "W4A8"}),
    "numeric.notation_of": lambda w: (None, {"kind": "q8_0"}),
    "numeric.formats": lambda w: (None, {}),
    "recipes.parse_recipe": lambda w: (None, {"text": ""}),
    "recipes.survey": lambda w: (None, {"source": w.small, "text": STORY, "recipes": []}),
    "recipes.write_report": lambda w: (None, {"rows": [], "path": "x.html"}),
}  # fmt: skip

# Made by the package, never by users; or the protocol of a mapping, whose errors are Python's.
MADE_INSIDE = {
    "gguf.GGUFFile", "gguf.TensorInfo", "gguf.Metadata", "gguf.ValueType", "gguf.MetadataValue", "numeric.Coded",
    "numeric.Format", "numeric.Formats", "numeric.Notation",
}  # fmt: skip
NAMED = {"QuantType.parse.value": "type", "Tensor.__getitem__.index": "row"}  # by another word in messages
CALLABLE = ("lambda", "class")  # where a function is wanted its own errors are the caller's
UNJUDGED = {
    "QuantType.row", "Sensitivity.tensors", *(f"Completion.{name}" for name in pyggml.Completion.__slots__),
    "gguf.Writer.add.value",  # the values are what test_gguf_write is about
}  # fmt: skip


def found_calls() -> dict[str, Any]:
    """Name -> function, class or method, from what the modules call public."""
    modules = {"": pyggml, "gguf.": gguf, "numeric.": pyggml.numeric}
    found: dict[str, Any] = {"recipes.parse_recipe": pyggml.recipes.parse_recipe}
    found |= {"recipes.survey": survey, "recipes.write_report": write_report}
    for head, module in modules.items():
        for name in module.__all__:
            held = getattr(module, name)
            if inspect.isclass(held) and not issubclass(held, BaseException):
                if head + name not in MADE_INSIDE:
                    found[head + name] = held
                for method in vars(held):
                    public = method[0] != "_" or f"{head}{name}.{method}" in CALLS
                    if public and head != "numeric." and inspect.isroutine(getattr(held, method)):
                        found[f"{head}{name}.{method}"] = getattr(held, method)
            elif inspect.isfunction(held):
                found[head + name] = held
    return {name: held for name, held in found.items() if not name.startswith(tuple(f"{m}." for m in _MAPPINGS))}


_MAPPINGS = ("gguf.Metadata", "gguf.ValueType")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("arguments"))
    yield made
    made.model.close()
    made.file.close()


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("pyggml"), "disabled", True)


def test_every_public_call_is_met_here() -> None:
    found = found_calls()
    assert sorted(set(found) - set(CALLS)) == [], "say in CALLS how they are called"
    assert sorted(set(CALLS) - set(found)) == [], "these are gone"


OWN_KEYWORDS = ("numeric.encode", "Model.chat", "Model.achat", "Model.render_chat")  # take any keyword, and judge it
PLAIN = ("Completion", "Part", "ToolCall", "QuantType", "Tensor.__")  # made by the package; Python's protocols


@pytest.mark.parametrize("name", sorted(name for name in CALLS if not name.startswith((*OWN_KEYWORDS, *PLAIN))))
def test_a_misspelt_keyword_is_an_error_of_the_package(name: str) -> None:
    held = found_calls()[name]
    with pytest.raises(ArgumentTypeError, match=r"\w+\(\) has no argument 'nonesuch': (it takes|did you mean)"):
        held(nonesuch=1)
    needed = [p.name for p in parameters(name, held) if p.default is inspect.Parameter.empty]
    if needed and inspect.isclass(held):
        with pytest.raises(ArgumentTypeError, match=rf"needs {needed[0]}"):
            held()


def parameters(name: str, held: Any) -> list[inspect.Parameter]:
    fixed = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    every = inspect.signature(held).parameters.values()
    return [p for p in every if p.name != "self" and p.kind not in fixed and f"{name}.{p.name}" not in UNJUDGED]


@pytest.mark.parametrize("name", sorted(CALLS))
@pytest.mark.filterwarnings("error")
def test_any_value_for_any_parameter(world: World, name: str) -> None:
    held = found_calls()[name]
    wrong = []
    for parameter in parameters(name, held):
        word = NAMED.get(f"{name}.{parameter.name}", parameter.name)
        for said, make in VALUES.items():
            if parameter.name in ("progress", "logits_hook") and said in CALLABLE:  # whose errors are the caller's
                continue
            call, least = CALLS[name](world)
            value = make()
            try:
                (call or held)(**{**least, parameter.name: value})
            except PyggmlError as error:
                message = str(error)
                if isinstance(error, ArgumentTypeError) and word not in message:
                    wrong.append(f"{parameter.name}={said}: the message does not name it: {message}")
                if not message.isprintable() or len(message) > 3000:
                    wrong.append(f"{parameter.name}={said}: a message of {len(message)}: {message[:200]!a}")
            except BaseException as error:
                wrong.append(f"{parameter.name}={said}: {type(error).__name__}: {str(error)[:200]}")
            finally:
                with contextlib.suppress(Exception):
                    value.close()
    assert not wrong, f"{name}:\n" + "\n".join(wrong)
