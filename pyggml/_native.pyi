"""Types of the native extension. Thin: check, release the GIL, call; all sense lives above or below."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]

ROWS_TOKENS: int
ROWS_WANTED: int
ROWS_SOURCE: int

def wait_empty(things: set[Any], seconds: float = -1.0, but: Any = None) -> bool:
    """Waits until nothing is in things, but perhaps `but`; no signal ends it. False when the seconds are over."""

def version() -> str: ...
def isa() -> str: ...
def isa_levels() -> list[str]: ...
def isa_force(name: str | None) -> None: ...
def default_threads() -> int: ...
def type_table() -> list[tuple[int, str, int, int, int, str, bool]]:
    """(id, name, elems, bytes, sub, kind "block"|"float"|"int"|"act", encodes) of every type."""

class OpField(NamedTuple):
    name: str
    kind: str
    """node, weight, int or float"""
    optional: bool
    low: int
    high: int
    """the range of an int"""

def op_table() -> dict[str, tuple[OpField, ...]]:
    """The fields of every op by its name, as native/core/ops.def has them."""

def activations() -> list[str]:
    """Names of the activations in the order of their numbers."""

def type_codes(type_id: int) -> list[int]:
    """What a code of a block type may be before its scale, rising; empty for what has no blocks."""

def row_bytes(type_id: int, k: int) -> int: ...
def quantize(type_id: int, x: F32, importance: F32 | None = None, n_threads: int = 0) -> U8:
    """x (rows, k) -> (rows, row_bytes)."""

def dequantize(type_id: int, raw: Any, rows: int, k: int, n_threads: int = 0) -> F32:
    """raw: a contiguous buffer of rows * row_bytes bytes -> (rows, k)."""

def requantize(
    type_id: int, raw: Any, rows: int, k: int, new_type: int, importance: F32 | None = None, n_threads: int = 0
) -> U8:
    """raw as for dequantize -> (rows, row_bytes) of new_type, without the floats between."""

def matmul(type_id: int, raw: Any, m: int, k: int, x: F32, n_threads: int = 0) -> F32:
    """x (n, k) -> (n, m)."""

def gguf_strings(data: Any, at: int, count: int) -> tuple[NDArray[np.uint64], int]:
    """Spans (count, 2) offset, length of count strings from data[at], and the offset behind the last."""

class Ended:
    """A with-block of one thread beside: finish(None) ends it, an empty working says so; then comes ended(error)."""

    def __init__(self, finish: Callable[[None], object], working: set[Any]) -> None: ...
    def __exit__(self, kind: object, error: object, trace: object) -> None: ...

class Descriptor:
    """A file, opened as os.open does it; its descriptor is given back once: by close(), or with the object.

    fd: -1 when it was.
    """

    fd: int
    def __init__(self, path: str, flags: int, mode: int = 0o777) -> None: ...
    def close(self) -> None: ...

class Memory:
    """Zeroed bytes on huge pages; a writable buffer."""

    def __init__(self, nbytes: int) -> None: ...
    @property
    def nbytes(self) -> int: ...
    def array(self) -> U8: ...

class Plan:
    def __init__(self) -> None: ...
    def weight(self, name: str, type_id: int, data: Any, rows: int, cols: int) -> int:
        """Keeps a reference to data (any contiguous buffer of rows * row_bytes bytes)."""

    def op(self, kind: str, name: str, **values: float | None) -> int:
        """Appends an op; values by the names of its fields, nodes and weights as their numbers. -> its node."""

    def output(self, node: int) -> None: ...
    def freeze(self, n_batch: int, n_ctx: int, keep_all: bool = False) -> None: ...
    def node_shape(self, node: int) -> tuple[int, int]: ...
    @property
    def weight_names(self) -> list[str]: ...
    def save(
        self,
        headers: Sequence[bytes],
        sizes: Sequence[int],
        parts: Sequence[int],
        offsets: Sequence[int],
        ends: Sequence[int],
    ) -> bytes:
        """The plan as a file for the C runtime; header: the GGUF file's bytes before its first tensor, offsets: of each
        weight in that file, ends: ids that end a text."""

    def kv_bytes(self, kv_type: int, n_ctx: int) -> int: ...
    def memory(self, kv_type: int, n_ctx: int, device: int = -1) -> dict[str, int]:
        """Bytes on a device, or on all: weights, scratch, cache, position and mark, as pgg_plan_bytes has them."""

    @property
    def arena_bytes(self) -> int: ...
    def step(
        self, sessions: Sequence[Session], ids: Sequence[I32], n_wanted: Sequence[int], n_threads: int = 0
    ) -> list[F32]:
        """One step of several sequences, all of one output -> (n_wanted[i], its columns) each."""

    def next(
        self, sessions: Sequence[Session], samplers: Sequence[Sampler | None], ids: Sequence[I32], n_threads: int = 0
    ) -> list[int]:
        """One step, and the token that each sampler chooses behind it; -1 where there is none."""

    def caches(self) -> list[int]:
        """Bytes that each open session's cache holds now."""

    @property
    def cache_bytes(self) -> int:
        """The same of all together; what forks share once."""

    def close(self) -> None:
        """Ends its sessions, running ones too, and lets the weights go; from any thread, any number of times."""

    def profile(self, on: bool) -> None: ...
    def times(self) -> list[tuple[str, str, int, int]]:
        """(op name, kind, calls, ns) in plan order."""

class Sampler:
    def __init__(
        self,
        n_vocab: int,
        *,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        repeat_penalty: float,
        frequency_penalty: float,
        presence_penalty: float,
        repeat_last_n: int,
        seed: int,
        top_n_sigma: float,
        typical_p: float,
        xtc_probability: float,
        xtc_threshold: float,
        dynatemp_range: float,
        dynatemp_exponent: float,
        min_keep: int,
        mirostat: int,
        mirostat_tau: float,
        mirostat_eta: float,
    ) -> None: ...
    def bias(self, ids: I32, values: F32) -> None: ...
    def dry(
        self, multiplier: float, base: float, allowed_length: int, last_n: int, breakers: I32, lengths: I32
    ) -> None: ...
    def order(self, steps: I32) -> None: ...
    def adapt(self, target: float, decay: float) -> None: ...
    def allow(self, mask: NDArray[np.uint32] | None) -> None:
        """mask: ((n_vocab + 31) // 32,), bit id & 31 of word id >> 5, copied; None: all."""

    def accept(self, ids: I32) -> None: ...
    def next(self, logits: F32) -> int: ...
    def logprobs(self, logits: F32, token: int, n_top: int) -> tuple[float, tuple[tuple[int, float], ...]]: ...

MOST_MARKS: int

class Session:
    def __init__(self, plan: Plan, n_ctx: int, kv_type: int, output: int = 0) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def n_past(self) -> int: ...
    @property
    def n_ctx(self) -> int: ...
    @property
    def prompted(self) -> int:
        """Positions from the first on that prompt rows made."""

    def feeds(self, decode: bool) -> None:
        """What steps are fed from now on: decode rows, or prompt rows."""

    def truncate(self, n_past: int) -> None:
        """Waits for a step in another thread. What was encoded stays."""

    def reset(self) -> None:
        """Forgets all positions and what was encoded."""

    @property
    def n_source(self) -> int:
        """Rows that were encoded."""

    @property
    def reach(self) -> int:
        """The lowest position, but 0, that truncate can go back to."""

    def back(self, n_past: int) -> int:
        """The highest position, at most n_past, that truncate can go back to."""

    def mark(self) -> None:
        """Keeps what recurrent states are here."""

    def unmark(self, n_past: int) -> None: ...
    def fork(self) -> Session:
        """Another at the same position; what both remember is kept once."""

    def shift(self, first: int, last: int) -> None:
        """Forgets positions first to last - 1; later ones move down."""

    def save(self) -> U8: ...
    def load(self, data: Any) -> None: ...
    def cancel(self, on: bool = True) -> None:
        """Ends the step that runs, or else the next one; from any thread."""

    def step(self, ids: I32 | None, n_wanted: int, n_threads: int = 0, rows: F32 | None = None) -> F32:
        """-> (n_wanted, columns of its output). ids and rows for a plan with both; an id of -1 is none."""

    def encode(self, ids: I32 | None, n_threads: int = 0, rows: F32 | None = None) -> None:
        """Reads the source that steps attend to; at position 0."""

    def next(self, sampler: Sampler, ids: I32, n_threads: int = 0) -> int: ...
    def node(self, node: int, rows: int) -> F32: ...
    def close(self) -> None:
        """Cancels a running step and waits for its end; from any thread, any number of times."""
