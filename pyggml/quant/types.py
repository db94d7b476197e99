"""QuantType: the tensor types of GGUF, read from the native table at import.

Nothing about a type is stated here but its retired ids and the alternative spellings users write; ids, block sizes
and kinds come from native/quant/quant_types.def. Encoding and decoding live in tensor.py.
Source of the retired ids: the GGUF format (ggml.h).
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterator

from pyggml import _native
from pyggml.arguments import whole, wrong_type
from pyggml.errors import ArgumentError, ShapeError, UnsupportedError
from pyggml.quant.names import is_format, is_notation, type_name_of_notation
from pyggml.shown import shown

#: Ids that once meant something; files that carry them must be made again.
REMOVED: dict[int, tuple[str, str]] = {
    4: ("q4_2", "it was dropped in 2023"),
    5: ("q4_3", "it was dropped in 2023"),
    31: ("q4_0_4_4", "layouts packed for one CPU left the format; store q4_0"),
    32: ("q4_0_4_8", "layouts packed for one CPU left the format; store q4_0"),
    33: ("q4_0_8_8", "layouts packed for one CPU left the format; store q4_0"),
    36: ("iq4_nl_4_4", "layouts packed for one CPU left the format; store iq4_nl"),
    37: ("iq4_nl_4_8", "layouts packed for one CPU left the format; store iq4_nl"),
    38: ("iq4_nl_8_8", "layouts packed for one CPU left the format; store iq4_nl"),
}

_ALIASES = {"fp32": "f32", "float32": "f32", "fp16": "f16", "float16": "f16", "bfloat16": "bf16", "float64": "f64"}


class _QuantTypes(type):
    """Makes the class a read-only collection of its members: QuantType.Q4_K, len(), iteration, `in`."""

    def __getattr__(cls, name: str) -> QuantType:
        found = _BY_NAME.get(name.lower()) if name.isupper() else None
        if found is None:
            raise AttributeError(f"QuantType has no member {name!r}")
        return found

    def __iter__(cls) -> Iterator[QuantType]:
        return iter(_BY_ID.values())

    def __len__(cls) -> int:
        return len(_BY_ID)

    def __dir__(cls) -> list[str]:
        return [*super().__dir__(), *(name.upper() for name in _BY_NAME)]


class QuantType(metaclass=_QuantTypes):
    """One tensor type: a block of `elems` values stored in `bytes` bytes.

    Members are singletons, compared by identity and usable where an id is needed.

    >>> QuantType.Q4_K.bits_per_weight
    4.5
    >>> QuantType.parse("FP16"), QuantType.parse(12).name
    (QuantType.F16, 'q4_k')
    >>> QuantType.Q8_0.row_bytes(64)
    68
    """

    __slots__ = ("bytes", "elems", "encodes", "id", "kind", "name", "sub")

    id: int
    name: str
    elems: int
    bytes: int
    sub: int
    kind: str
    encodes: bool

    def __init__(self, row: tuple[int, str, int, int, int, str, bool]) -> None:
        self.id, name, self.elems, self.bytes, self.sub, self.kind, self.encodes = row
        self.name = name.lower()

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per value, scales included."""
        return 8.0 * self.bytes / self.elems

    @property
    def is_weight(self) -> bool:
        """Whether a matrix of this type can be multiplied; integers and activation-side types cannot."""
        return self.kind in ("block", "float")

    @property
    def is_block(self) -> bool:
        """Whether values share scales in blocks of more than one."""
        return self.elems > 1

    def row_bytes(self, k: int) -> int:
        """Bytes of a row of k values; ShapeError if k is not a multiple of the block."""
        k = whole("k", k, -(2**63))
        if k < 0 or k % self.elems:
            raise ShapeError(f"{self.name}: rows of {k} values cannot be cut into blocks of {self.elems}")
        return k // self.elems * self.bytes

    @staticmethod
    def parse(value: QuantTypeLike, name: str = "type") -> QuantType:
        """The type named by a string in any case (FP16 and W8A8 too), an id or a QuantType.

        name: of the parameter, for messages. Raises ArgumentError for an unknown name, UnsupportedError for what was
        removed from GGUF and for unknown ids, ArgumentTypeError for anything else.
        """
        if isinstance(value, QuantType):
            return value
        if isinstance(value, str):
            return _by_name(value, name)
        try:
            if not isinstance(value, bool):
                return _by_id(operator.index(value))
        except UnsupportedError:
            raise
        except Exception:  # no integer, or a stranger's __index__
            pass
        raise wrong_type(name, "the name of a tensor type, its id or a QuantType", value)

    def __index__(self) -> int:
        return self.id

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"QuantType.{self.name.upper()}"

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return QuantType.parse, (self.id,)

    def __copy__(self) -> QuantType:
        return self

    def __deepcopy__(self, memo: object) -> QuantType:
        return self


#: What functions accept where a type is due.
QuantTypeLike = str | int | QuantType

_BY_ID: dict[int, QuantType] = {row[0]: QuantType(row) for row in _native.type_table()}
_BY_NAME: dict[str, QuantType] = {member.name: member for member in _BY_ID.values()}


def _by_name(text: str, what: str) -> QuantType:
    name = text.strip().lower()
    name = _ALIASES.get(name, name)
    found = _BY_NAME.get(name)
    if found is not None:
        return found
    for type_id, (old, reason) in REMOVED.items():
        if name == old:
            raise UnsupportedError(f"tensor type {old} (id {type_id}) was removed from GGUF: {reason}")
    if is_notation(name):
        return _BY_NAME[type_name_of_notation(name)]
    if is_format(name):
        raise ArgumentError(f"{name} has no GGUF type; pyggml.numeric.encode(x, {name!r}) makes it of an array")
    near = difflib.get_close_matches(name[:40], _BY_NAME, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(_BY_NAME)}"
    head = "" if what == "type" else f"{what}: "
    raise ArgumentError(f"{head}unknown tensor type {text[:40]!r}{hint}")


def _by_id(type_id: int) -> QuantType:
    found = _BY_ID.get(type_id)
    if found is not None:
        return found
    if type_id in REMOVED:
        old, reason = REMOVED[type_id]
        raise UnsupportedError(f"tensor type id {type_id} ({old}) was removed from GGUF: {reason}")
    raise UnsupportedError(f"unknown tensor type id {shown(type_id)}; known ids end at {max(_BY_ID)}")
