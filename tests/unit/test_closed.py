"""What is closed: every attribute and method says what is still true, does nothing, or raises the one clear error.

The tables are held against the classes, so what is added later is met here at once.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model import tiny

import pyggml
from pyggml import gguf
from pyggml.engine.generation import Request
from pyggml.engine.sampling import Sampling
from pyggml.errors import ArgumentError, GGUFError, PyggmlError

REQUEST = Request([1], 1, Sampling(), [], None, False)
IDS = [1, 2, 3, 4, 5, 6, 7, 8, 9] * 3
MESSAGES = [{"role": "user", "content": "a"}]


class Closed:
    """The error that is raised, by its words."""

    def __init__(self, kind: type[PyggmlError], words: str) -> None:
        self.kind, self.words = kind, words


SESSION, MODEL = Closed(ArgumentError, "^this session is closed$"), Closed(PyggmlError, "^this model is closed$")
FILE, WRITER = Closed(GGUFError, "^'.*x.gguf' is closed$"), Closed(GGUFError, "^the writer of '.*w.gguf' is closed$")


class World:
    """A thing of each kind, used and then closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = tiny.write(folder / "x.gguf", n_layer=1, n_ctx=64).path
        self.model = pyggml.load(self.path, n_threads=1)
        self.session = self.model.session(32)
        self.session.step([1, 2, 3])
        self.saved = folder / "x.state"
        self.session.save(self.saved)
        self.stream = self.model.stream([1, 2], max_tokens=9)
        self.tensors = self.model.tensors
        self.file = gguf.open(self.path)
        self.other = gguf.open(self.path)
        self.info = self.file.tensors["output.weight"]
        self.writer = gguf.Writer(folder / "w.gguf")
        self.writer.add("a", 1)
        self.writer.abort()

    def sampler(self) -> Any:
        return Sampling(temperature=0).sampler(self.model.n_vocab)


@pytest.fixture
def w(tmp_path: Path) -> World:
    return World(tmp_path)


# name -> (use, what comes of it: a value, None for nothing, or Closed)
Table = dict[str, tuple[Callable[[World], Any], Any]]

SESSIONS: Table = {
    "n_ctx": (lambda w: w.session.n_ctx, 32), "kv_bytes": (lambda w: w.session.kv_bytes, 0),
    "n_past": (lambda w: w.session.n_past, SESSION), "reach": (lambda w: w.session.reach, SESSION),
    "encode": (lambda w: w.session.encode([1]), SESSION), "n_source": (lambda w: w.session.n_source, SESSION),
    "n_prompted": (lambda w: w.session.n_prompted, SESSION),
    "back": (lambda w: w.session.back(1), SESSION), "step": (lambda w: w.session.step([1]), SESSION),
    "next": (lambda w: w.session.next(w.sampler(), [1]), SESSION), "check": (lambda w: w.session.check([1]), SESSION),
    "truncate": (lambda w: w.session.truncate(0), SESSION), "reset": (lambda w: w.session.reset(), SESSION),
    "mark": (lambda w: w.session.mark(), SESSION), "unmark": (lambda w: w.session.unmark(1), SESSION),
    "fork": (lambda w: w.session.fork(), SESSION), "shift": (lambda w: w.session.shift(0, 1), SESSION),
    "save": (lambda w: w.session.save(w.folder / "y.state"), SESSION),
    "load": (lambda w: w.session.load(w.saved), SESSION), "cancel": (lambda w: w.session.cancel(), None),
    "close": (lambda w: w.session.close(), None), "repr": (lambda w: repr(w.session), "<pyggml.Session closed>"),
}  # fmt: skip

MODELS: Table = {
    "n_ctx": (lambda w: w.model.n_ctx, 64), "n_threads": (lambda w: w.model.n_threads, 1),
    "n_vocab": (lambda w: w.model.n_vocab > 0, True), "kv_type": (lambda w: w.model.kv_type, "f16"),
    "config": (lambda w: w.model.config.n_layer, 1), "suggested": (lambda w: w.model.suggested, {}),
    "tokenizer": (lambda w: len(w.model.tokenizer.encode("a")) > 0, True),
    "metadata": (lambda w: w.model.metadata["general.architecture"], "llama"),
    "tensors": (lambda w: w.model.tensors, MODEL), "memory": (lambda w: w.model.memory(), MODEL),
    "tokenize": (lambda w: w.model.tokenize("a"), MODEL), "detokenize": (lambda w: w.model.detokenize([1]), MODEL),
    "render_chat": (lambda w: w.model.render_chat(MESSAGES, template="x"), MODEL),
    "chat": (lambda w: w.model.chat(MESSAGES, template="x"), MODEL),
    "agenerate": (lambda w: asyncio.run(w.model.agenerate([])), MODEL),
    "achat": (lambda w: asyncio.run(w.model.achat(MESSAGES, template="x")), MODEL),
    "astream": (lambda w: w.model.astream("a"), MODEL),
    "generate": (lambda w: w.model.generate([]), MODEL), "stream": (lambda w: w.model.stream("a"), MODEL),
    "session": (lambda w: w.model.session(), MODEL), "logits": (lambda w: w.model.logits([1]), MODEL),
    "embed": (lambda w: w.model.embed([]), MODEL),
    "rerank": (lambda w: w.model.rerank("a", ["b"]), MODEL), "score": (lambda w: w.model.score([1]), MODEL),
    "perplexity": (lambda w: w.model.perplexity(IDS, 8), MODEL),
    "export_plan": (lambda w: w.model.export_plan(w.folder / "y.plan"), MODEL),
    "close": (lambda w: w.model.close(), None), "with": (lambda w: w.model.__enter__(), MODEL),
    "repr": (lambda w: "(closed)" in repr(w.model) and "(closed)" in w.model._repr_html_(), True),
    "compare": (lambda w: pyggml.compare(w.model, w.model, IDS), MODEL),
    "imatrix": (lambda w: pyggml.imatrix(w.model, IDS), MODEL),
    "sensitivity": (lambda w: pyggml.sensitivity(w.model, IDS, n_kl=0), MODEL),
    "array": (lambda w: w.model.metadata["tokenizer.ggml.tokens"], FILE),
    "a tensor": (lambda w: w.tensors["output.weight"].raw, FILE), "tensor names": (lambda w: len(w.tensors) > 5, True),
}  # fmt: skip

ENGINES: Table = {
    "caches": (lambda w: w.model._engine.caches(), []), "memory": (lambda w: w.model._engine.memory(), MODEL),
    "ticket": (lambda w: w.model._engine.ticket(REQUEST, w.stream._outlet), MODEL),
    "submit": (lambda w: w.model._engine.submit([]), MODEL),
    "go_on": (lambda w: w.model._engine.go_on(w.stream._ticket), None),
    "cancel": (lambda w: w.model._engine.cancel(w.stream._ticket), None),
    "close": (lambda w: w.model._engine.close(), None),
    "read": (lambda w: w.model._engine.read([1], lambda at, rows: None), MODEL),
    "read_at_once": (lambda w: w.model._engine.read_at_once([]), MODEL),
    "plan": (lambda w: w.model._engine.plan is w.model._loaded.plan, True),
    "loaded": (lambda w: w.model._engine.loaded.closed, True),
    "run": (lambda w: w.model._engine.run([]), None), "works_here": (lambda w: w.model._engine.works_here, False),
}  # fmt: skip


async def first(parts: AsyncIterator[object]) -> object:
    return await anext(parts, None)


STREAMS: Table = {
    "result": (lambda w: (w.stream.result.text, w.stream.result.finish_reason), ("", "cancelled")),
    "cancel": (lambda w: w.stream.cancel(), None), "close": (lambda w: w.stream.close(), None),
    "aclose": (lambda w: asyncio.run(w.stream.aclose()), None),
    "list": (lambda w: list(w.stream), []), "parts": (lambda w: list(w.stream.parts()), []),
    "aparts": (lambda w: asyncio.run(first(w.stream.aparts())), None),
    "with": (lambda w: w.stream.__enter__() is w.stream, True),
    "repr": (lambda w: repr(w.stream), "<pyggml.Stream cancelled, 0 tokens>"),
}  # fmt: skip

FILES: Table = {
    "path": (lambda w: w.file.path == str(w.path), True), "paths": (lambda w: len(w.file.paths), 1),
    "version": (lambda w: w.file.version, 3), "alignment": (lambda w: w.file.alignment, 32),
    "size": (lambda w: w.file.size == w.path.stat().st_size, True), "sizes": (lambda w: len(w.file.sizes), 1),
    "arch": (lambda w: w.file.arch, "llama"), "metadata": (lambda w: len(w.file.metadata) > 5, True),
    "tensors": (lambda w: w.file.tensors["output.weight"] is w.info, True),
    "header": (lambda w: w.file.header(), FILE), "check_unchanged": (lambda w: w.file.check_unchanged(), FILE),
    "close": (lambda w: w.file.close(), None), "with": (lambda w: w.file.__enter__(), FILE),
    "repr": (lambda w: repr(w.file).endswith("(closed)") and "(closed)" in w.file._repr_html_(), True),
    "estimate": (lambda w: pyggml.estimate(w.file).n_ctx, 64),
}  # fmt: skip

INFOS: Table = {
    "name": (lambda w: w.info.name, "output.weight"), "part": (lambda w: w.info.part, 0),
    "type": (lambda w: w.info.type.name, "f32"), "shape": (lambda w: len(w.info.shape), 2),
    "n_elements": (lambda w: w.info.n_elements == np.prod(w.info.shape), True),
    "nbytes": (lambda w: w.info.nbytes == 4 * w.info.n_elements, True), "offset": (lambda w: w.info.offset > 0, True),
    "path": (lambda w: w.info.path == str(w.path), True), "data": (lambda w: w.info.data, FILE),
    "read": (lambda w: w.info.read(0, 0), FILE), "every": (lambda w: w.info.every(2), FILE),
    "read_into": (lambda w: w.info.read_into(bytearray(w.info.nbytes)), FILE),
    "_mapped": (lambda w: w.info._mapped(), FILE), "repr": (lambda w: "output.weight" in repr(w.info), True),
}  # fmt: skip

METADATA: Table = {
    "get": (lambda w: w.file.metadata.get("general.architecture"), "llama"),
    "keys": (lambda w: "general.architecture" in w.file.metadata.keys(), True),  # noqa: SIM118
    "values": (lambda w: list(w.file.metadata.values()), FILE),
    "items": (lambda w: dict(w.file.metadata.items()), FILE),
    "raw": (lambda w: w.file.metadata.raw("general.architecture"), FILE),
    "raw_strings": (lambda w: w.file.metadata.raw_strings("tokenizer.ggml.tokens"), FILE),
    "type_of": (lambda w: w.file.metadata.type_of("general.architecture"), "str"),
    "array_length": (lambda w: w.file.metadata.array_length("tokenizer.ggml.tokens") > 0, True),
    "summary": (lambda w: w.file.metadata.summary("general.architecture"), "'llama'"),
    "array": (lambda w: w.file.metadata["tokenizer.ggml.tokens"], FILE),
}  # fmt: skip

WRITERS: Table = {
    "path": (lambda w: w.writer.path.endswith("w.gguf"), True), "alignment": (lambda w: w.writer.alignment, 32),
    "add": (lambda w: w.writer.add("b", object()), WRITER),
    "add_raw": (lambda w: w.writer.add_raw("b", gguf.ValueType.U8, b"\0"), WRITER),
    "copy": (lambda w: w.writer.copy(w.other.metadata, "none"), WRITER),
    "add_metadata": (lambda w: w.writer.add_metadata(w.other.metadata, skip=list(w.other.metadata)), WRITER),
    "add_tensor": (lambda w: w.writer.add_tensor("t", (1,), "f32", np.ones(1, np.float32)), WRITER),
    "write": (lambda w: w.writer.write(io.BytesIO()), WRITER), "close": (lambda w: w.writer.close(), None),
    "abort": (lambda w: w.writer.abort(), None), "with": (lambda w: w.writer.__enter__(), WRITER),
    "repr": (lambda w: repr(w.writer).endswith("0 keys, 0 tensors, closed>"), True),
}  # fmt: skip


def check(w: World, name: str, table: Table, told: Closed | None = None) -> None:
    """told: in place of a table's error, where what holds the thing is closed too."""
    use, want = table[name]
    if not isinstance(want, Closed):
        assert use(w) == want
        return
    want = told or want
    with pytest.raises(want.kind, match=want.words):
        use(w)
    assert sorted(path.name for path in w.folder.iterdir()) == ["x.gguf", "x.state"]


@pytest.mark.parametrize("first", ["session", "model", "both"])
def test_closed_sessions(w: World, first: str) -> None:
    for thing in (w.session, w.model) if first == "both" else (getattr(w, first),):
        thing.close()
    for name in SESSIONS:
        check(w, name, SESSIONS, None if first == "session" else MODEL)


def test_closed_models_and_engines(w: World) -> None:
    w.model.close()
    for table in (MODELS, ENGINES):
        for name in table:
            check(w, name, table)


def test_closed_streams(w: World) -> None:
    w.stream.close()
    for name in STREAMS:
        check(w, name, STREAMS)
    w.model.close()
    for name in STREAMS:
        check(w, name, STREAMS)


def test_closed_files(w: World) -> None:
    w.file.close()
    for table in (FILES, INFOS, METADATA):
        for name in table:
            check(w, name, table)


def test_closed_writers(w: World) -> None:
    for name in WRITERS:
        check(w, name, WRITERS)


def test_the_tables_name_all_there_is(w: World) -> None:
    for thing, table in (
        (w.session, SESSIONS), (w.model, MODELS), (w.model._engine, ENGINES), (w.stream, STREAMS), (w.file, FILES),
        (w.info, INFOS), (w.file.metadata, METADATA), (w.writer, WRITERS),
    ):  # fmt: skip
        missing = {name for name in dir(thing) if name[0] != "_"} - set(table)
        assert not missing, f"{type(thing).__name__}: {missing}"
