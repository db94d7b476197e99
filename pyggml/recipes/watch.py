"""Runs a model's forward pass beside the Model itself: to read what its products read, or with other weights.

A trial is a plan of its own over the same file, so nothing here touches the model's sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.arguments import ids as read_ids
from pyggml.arguments import whole_or_none, wrong_type
from pyggml.engine import scoring
from pyggml.engine.build import N_BATCH, build
from pyggml.errors import ArgumentError
from pyggml.files.texts import Text, check_no_name, is_text, text_of, too_short
from pyggml.graph import Graph, Node, Weight
from pyggml.quant.types import QuantType

if TYPE_CHECKING:
    from pyggml.model import Model

TextOrIds = Text | Iterable[int]
_Biases = tuple[Weight | None, Weight | None, Weight | None]

_KEPT_BYTES = 256 << 20  # of nodes kept to be read: bounds the tokens of a step
_LEAST_TEXT = 8  # tokens; a shorter one is mostly the name of a file
_KV_TYPE = QuantType.F32.id  # so that the cache adds no error of its own


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in place of one of the file's: what Weights asks of a TensorInfo."""

    name: str
    type: QuantType
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Bytes of data."""
        return self.data[start:stop]

    def _mapped(self) -> NDArray[np.uint8]:
        return self.data


@dataclass(frozen=True, slots=True)
class _Experts:
    """A mixture of experts: the nodes it reads, its stacks (up None: behind gate in one), its activation, the biases of
    gate, up and down, and whether weights multiply what experts read.
    """

    x: int
    routing: int
    gate: Weight
    up: Weight | None
    down: Weight
    act: str
    biases: _Biases
    early: bool
    plain: bool


class _Noting(Graph):
    """A graph that remembers which node each matrix is multiplied with."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: dict[int, tuple[int, list[str]]] = {}
        self.mixtures: list[_Experts] = []
        self.stacks: list[tuple[int, Weight]] = []  # node, matrices of its runs
        self.width = 0

    def matmul(self, w: Weight, x: Node, bias: Weight | None = None, m: int | None = None, name: str = "") -> Node:
        _, names = self.inputs.setdefault(x.index, (x.cols, []))
        if w.name not in names:
            names.append(w.name)
        return super().matmul(w, x, bias, m, name)

    def heads(self, w: Weight, x: Node, name: str = "") -> Node:
        self.stacks.append((x.index, w))
        return super().heads(w, x, name)

    def experts(
        self, x: Node, routing: Node, gate: Weight, up: Weight | None, down: Weight, act: str = "silu", name: str = "",
        *, biases: _Biases = (None, None, None), early: bool = False, plain: bool = False,
    ) -> Node:  # fmt: skip
        self.mixtures.append(_Experts(x.index, routing.index, gate, up, down, act, biases, early, plain))
        return super().experts(x, routing, gate, up, down, act, name, biases=biases, early=early, plain=plain)

    def _op(self, *args: Any, **kwargs: Any) -> Node:
        node = super()._op(*args, **kwargs)
        self.width += node.cols
        return node


def _bias_of(joined: Weight, index: int, n: int) -> Weight:
    """The n biases of one expert, of those of all in one row."""
    nbytes = QuantType.parse(joined.type_id).row_bytes(n)
    return Weight(joined.name, joined.type_id, 1, n, joined.data[index * nbytes : (index + 1) * nbytes])


class Trial:
    """A plan over a model's file, perhaps with some tensors replaced, and one sequence of n_ctx positions on it.

    watch: keep every node, so that inputs() can be read. products: the names of all matrices that are multiplied.
    """

    def __init__(
        self, model: Model, n_ctx: int, replaced: Mapping[str, Stored] | None = None, watch: bool = False
    ) -> None:
        loaded = model._loaded
        loaded.check_alive()
        loaded.output("logits")
        self._loaded = loaded
        graph = _Noting()
        made = build(loaded.file, loaded.config, graph, replaced=replaced)
        self._tensors: dict[str, Any] = {**loaded.file.tensors, **(replaced or {})}
        self._inputs, self._mixtures, self._stacks = graph.inputs, graph.mixtures, graph.stacks
        self.n_vocab = made.n_vocab
        self.n_step = min(N_BATCH, n_ctx)
        if watch:
            self.n_step = min(self.n_step, max(16, _KEPT_BYTES // (4 * (graph.width + made.n_vocab))))
        self._plan = made.freeze(self.n_step, n_ctx, watch)
        self._session = _native.Session(self._plan, n_ctx, _KV_TYPE)

    @property
    def products(self) -> list[str]:
        """The matrices that the model multiplies with."""
        return [name for _, names in self._inputs.values() for name in names]

    def steps(self, ids: Sequence[int], n_wanted: int | None = None) -> Iterator[NDArray[np.float32]]:
        """Feeds ids from an empty cache, a piece at a time; yields the logits of each piece's tokens: (n, n_vocab).

        n_wanted: how many tokens at the end of ids get logits; None all of them.
        """
        tokens = np.ascontiguousarray(ids, np.int32)
        first = 0 if n_wanted is None else len(tokens) - n_wanted
        self._session.truncate(0)
        for at in range(0, len(tokens), self.n_step):
            piece = tokens[at : at + self.n_step]
            wanted = max(0, min(len(piece), at + len(piece) - first))
            self._loaded.check_alive()
            yield self._session.step(piece, wanted, self._loaded.n_threads)

    def inputs(self, n: int, n_wanted: int) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """After a step of n tokens: what each group of matrices was multiplied with, (rows, k)."""
        for node, (_, names) in self._inputs.items():
            wanted = self._plan.node_shape(node)[0] == _native.ROWS_WANTED
            rows = n_wanted if wanted else n
            if rows:
                yield names, self._session.node(node, rows)

    def expert_inputs(self, n: int) -> Iterator[tuple[list[str], int, int, NDArray[np.float32]]]:
        """After a step of n tokens: (names of stacks, expert, of so many, rows it read), for experts that were chosen;
        and for each head that has a matrix of its own.

        What `down` reads exists nowhere as a node, so a plan of the expert's gate and up computes it.
        """
        for node, w in self._stacks:
            runs = self._session.node(node, n).reshape(n, w.n_stack, w.cols)
            for h in range(w.n_stack):
                yield [w.name], h, w.n_stack, np.ascontiguousarray(runs[:, h])
        for mix in self._mixtures:
            x, routing = self._session.node(mix.x, n), self._session.node(mix.routing, n)
            chosen = routing[:, : routing.shape[1] // 2].astype(np.int64)
            for e in np.unique(chosen).tolist():
                those, which = np.nonzero(chosen == e)
                rows = np.ascontiguousarray(x[those])
                if mix.early:
                    rows *= routing[those, chosen.shape[1] + which, None]
                yield [w.name for w in (mix.gate, mix.up) if w is not None], e, mix.gate.n_stack, rows
                yield [mix.down.name], e, mix.down.n_stack, self._hidden(mix, e, rows)

    def _hidden(self, mix: _Experts, index: int, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """rows (n, k) behind an expert's activation: (n, n_ff)."""
        g = Graph()
        x = g.input(rows.shape[1])
        of_each = [mix.gate] if mix.up is None else [mix.gate, mix.up]
        made = [g.matmul(self._matrix(w, index), x) for w in of_each]
        n_ff = mix.gate.rows if mix.plain else mix.gate.rows * len(made) // 2
        if len(made) == 1 and not mix.plain:
            made = [g.cols(made[0], start, n_ff) for start in (0, n_ff)]
        made = [
            part if bias is None else g.add(part, g.row(_bias_of(bias, index, n_ff), 0, n_ff))
            for part, bias in zip(made, mix.biases, strict=False)
        ]
        hidden = g.activate(made[0], mix.act) if mix.plain else g.glu(made[0], made[1], mix.act)
        plan = g.finish(hidden, min(N_BATCH, len(rows)), len(rows))
        session = _native.Session(plan, len(rows), _KV_TYPE)
        try:
            return session.step(None, len(rows), self._loaded.n_threads, rows=rows)
        finally:
            plan.close()

    def _matrix(self, w: Weight, index: int) -> Weight:
        """One matrix of a stack."""
        nbytes = QuantType.parse(w.type_id).row_bytes(w.cols) * w.rows
        raw = self._tensors[w.name].read(index * nbytes, (index + 1) * nbytes)
        return Weight(w.name, w.type_id, w.rows, w.cols, raw)

    def close(self) -> None:
        """Frees the cache and the plan's scratch; any number of times."""
        self._plan.close()

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *what: object) -> None:
        self.close()


def words_of(what: str, text: TextOrIds) -> str | list[int]:
    """What is measured on: text as it stands, the content of a file that a path names, or ids.

    Raises ArgumentError for a str that is the name of a file, for a file that is no text, and for what is none of them.
    """
    if isinstance(text, str):
        check_no_name(what, text)
    if is_text(text):
        return text_of(text, what)
    if isinstance(text, bytes | bytearray | Mapping) or not isinstance(text, Iterable):
        raise wrong_type(what, "text (str), the pathlib.Path of a text file or ids", text)
    found: list[int] = read_ids(what, text).tolist()
    return found


def chunking(n_ctx: int | None, n_chunk: int | None) -> tuple[int | None, int | None]:
    """Tokens of a chunk and the most chunks, judged; a call says so before it loads anything."""
    return whole_or_none("n_ctx", n_ctx, scoring.LEAST), whole_or_none("n_chunk", n_chunk, 1)


def chunks_of(
    model: Model, text: str | Sequence[int], n_ctx: int | None, limit: int | None = None, most: int | None = None
) -> list[list[int]]:
    """Text or ids as chunks of n_ctx ids, each begun by BOS where the model wants one; what is left over is dropped.

    n_ctx None: 512, or the context where that is less. A text shorter than that is one chunk. most: the context, where
    it is another than the model's. Raises ArgumentError for an n_ctx beyond the context, and for a text of fewer than
    8 tokens or 4 ids.
    """
    n_ctx = scoring.chunk(n_ctx, model.n_ctx if most is None else most)
    ids = model.tokenize(text) if isinstance(text, str) else list(text)
    least = _LEAST_TEXT if isinstance(text, str) else scoring.LEAST
    if len(ids) < least:
        raise too_short("measuring", text, len(ids), least)
    bad = np.flatnonzero((np.array(ids) < 0) | (np.array(ids) >= model.n_vocab))
    if bad.size:
        raise ArgumentError(f"text: id {ids[bad[0]]} at {bad[0]} is outside the vocabulary of {model.n_vocab}")
    n_ctx = min(n_ctx, len(ids))
    chunks = [ids[at : at + n_ctx] for at in range(0, len(ids) - n_ctx + 1, n_ctx)][:limit]
    tok = model.tokenizer
    if isinstance(text, str) and tok.add_bos and tok.bos_id is not None:
        for chunk in chunks:
            chunk[0] = tok.bos_id
    return chunks


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural logs of the distributions, row by row, in float64."""
    x = logits.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
    return x
