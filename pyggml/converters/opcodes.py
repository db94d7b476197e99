"""The opcodes of a pickle, walked one by one: plain values, dicts and tensors over storages come of it, never code.

A name other than those of tensors is an error that says it. Steps, work and sizes are bounded, as a few hundred bytes
of pickle can ask for years. Sources: pickletools, torch/_utils.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from pyggml.errors import GGUFError
from pyggml.shown import clip

MAX_INT_BYTES = 64
_MAX_LINE = 512
_MAX_KEY = 1 << 60  # larger ones can be chosen so that all have one hash

STORAGES = {
    "DoubleStorage": "f64", "FloatStorage": "f32", "HalfStorage": "f16", "BFloat16Storage": "bf16",
    "LongStorage": "i64", "IntStorage": "i32", "ShortStorage": "i16", "CharStorage": "i8", "ByteStorage": "u8",
    "BoolStorage": "bool",
}  # fmt: skip
_DICTS = {"collections OrderedDict"}
_TENSORS = {"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor"}
_PARAMETERS = {"torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state"}


class Name:
    """A global that a pickle names: "module name"."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Storage:
    """A run of numbers in the file, by its key."""

    __slots__ = ("count", "dtype", "key")

    def __init__(self, key: str, dtype: str, count: int) -> None:
        self.key, self.dtype, self.count = key, dtype, count


class PickledTensor:
    """A view of a storage. Its numbers are as the pickle says, not judged yet."""

    __slots__ = ("offset", "shape", "storage", "stride")

    def __init__(self, storage: Storage, offset: Any, shape: Any, stride: Any) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride


class Walker:
    """Values of the pickles in some bytes, one after another.

    data: the bytes; at: where the next pickle begins. steps: opcodes and items that all of them together may take.
    storages: all that were met, by key.
    """

    def __init__(self, data: bytes, what: str, steps: int) -> None:
        self.data, self.what, self.at = data, what, 0
        self.left = self.steps = steps
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def value(self) -> Any:
        """The value of the next pickle. Raises GGUFError for an opcode or a name that tensors do not need."""
        self.stack, self.memo = [], {}
        data, actions = self.data, _ACTIONS
        try:
            while True:
                code = data[self.at]
                self.at += 1
                if code == _STOP:
                    return self.stack.pop()
                self.left -= 1
                if self.left < 0:
                    raise GGUFError(f"{self.what} is refused: its pickle has more than {self.steps:,} steps")
                actions[code](self)
        except IndexError as e:
            if self.at >= len(data):
                raise GGUFError(f"{self.what} was cut: its pickle has no end") from None
            raise self._damaged(e) from None
        except (KeyError, TypeError, AttributeError, ValueError, struct.error) as e:
            if isinstance(e, GGUFError):
                raise
            raise self._damaged(e) from None

    def _damaged(self, e: Exception) -> GGUFError:
        return GGUFError(f"{self.what} is damaged: its pickle contradicts itself ({clip(str(e)[:200], 200)})")

    def work(self, n: int) -> None:
        """Counts n items that are gone through at once."""
        self.left -= n

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        end = self.at + n
        if n < 0 or end > len(self.data):
            raise GGUFError(f"{self.what} was cut or is damaged: its pickle has a value of {n} bytes at byte {self.at}")
        begin, self.at = self.at, end
        return self.data[begin:end]

    def number(self, size: int) -> int:
        """The next unsigned little-endian number."""
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        """Text up to the next line end."""
        end = self.data.find(b"\n", self.at, self.at + _MAX_LINE)
        if end < 0:
            raise GGUFError(f"{self.what} was cut or is damaged: its pickle has a line without end at byte {self.at}")
        raw = self.take(end - self.at)
        self.at += 1
        return raw.decode("utf-8")

    def to_mark(self) -> list[Any]:
        """The values above the last mark, taken off together with it."""
        stack = self.stack
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise TypeError("a mark is missing")
        items = stack[at + 1 :]
        del stack[at:]
        self.left -= len(items)
        return items


_MARK = object()
_STOP = ord(".")
_Act = Callable[[Walker], None]


def _unknown(code: int) -> _Act:
    def act(w: Walker) -> None:
        name = _OTHERS.get(code, f"the unknown opcode {code}")
        raise GGUFError(f"{w.what} is refused: its pickle uses {name}, which no file of tensors needs")

    return act


def _constant(value: Any) -> _Act:
    def act(w: Walker) -> None:
        w.stack.append(value() if callable(value) else value)

    return act


def _int(size: int, signed: bool = False) -> _Act:
    def act(w: Walker) -> None:
        w.stack.append(int.from_bytes(w.take(size), "little", signed=signed))

    return act


def _long(size: int) -> _Act:
    def act(w: Walker) -> None:
        n = w.number(size)
        if n > MAX_INT_BYTES:
            raise GGUFError(f"{w.what} is refused: its pickle has a number of {n} bytes, more than a tensor needs")
        w.stack.append(int.from_bytes(w.take(n), "little", signed=True))

    return act


def _int_line(w: Walker) -> None:
    text = w.line().removesuffix("L")
    if len(text) > 2 * MAX_INT_BYTES:
        raise ValueError("a number is too long")
    w.stack.append(bool(int(text)) if text in ("00", "01") else int(text))


def _float(w: Walker) -> None:
    w.stack.append(struct.unpack(">d", w.take(8))[0])


def _text(size: int) -> _Act:
    def act(w: Walker) -> None:
        w.stack.append(w.take(w.number(size)).decode("utf-8", "surrogatepass"))

    return act


def _bytes(size: int, latin: bool = False) -> _Act:
    def act(w: Walker) -> None:
        raw = w.take(w.number(size))
        w.stack.append(raw.decode("latin-1") if latin else raw)

    return act


def _mark(w: Walker) -> None:
    w.stack.append(_MARK)


def _tuple(count: int) -> _Act:
    def act(w: Walker) -> None:
        items = w.stack[-count:]
        if len(items) != count or _MARK in items:
            raise TypeError("the stack is too short")
        w.stack[-count:] = [tuple(items)]

    return act


def _tuple_to_mark(w: Walker) -> None:
    w.stack.append(tuple(w.to_mark()))


def _set_items(table: Any, items: Any) -> None:
    if type(table) is not dict or len(items) % 2:
        raise TypeError("items are set on what is no dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) is not str and (type(key) is not int or not -_MAX_KEY < key < _MAX_KEY):
            raise TypeError(f"a dict has a key of type {type(key).__name__}, or a very large one")
        table[key] = value


def _setitem(w: Walker) -> None:
    items = [w.stack.pop(-2), w.stack.pop()]
    _set_items(w.stack[-1], items)


def _setitems(w: Walker) -> None:
    items = w.to_mark()
    _set_items(w.stack[-1], items)


def _dict(w: Walker) -> None:
    table: dict[Any, Any] = {}
    _set_items(table, w.to_mark())
    w.stack.append(table)


def _list(w: Walker) -> None:
    w.stack.append(w.to_mark())


def _appends(w: Walker) -> None:
    items = w.to_mark()
    if type(w.stack[-1]) is not list:
        raise TypeError("items are appended to what is no list")
    w.stack[-1].extend(items)


def _append(w: Walker) -> None:
    item = w.stack.pop()
    if type(w.stack[-1]) is not list:
        raise TypeError("an item is appended to what is no list")
    w.stack[-1].append(item)


def _put(size: int) -> _Act:
    def act(w: Walker) -> None:
        w.memo[w.number(size)] = w.stack[-1]

    return act


def _memoize(w: Walker) -> None:
    w.memo[len(w.memo)] = w.stack[-1]


def _get(size: int) -> _Act:
    def act(w: Walker) -> None:
        w.stack.append(w.memo[w.number(size)])

    return act


def _global(w: Walker) -> None:
    w.stack.append(Name(_allowed(f"{w.line()} {w.line()}", w.what)))


def _stack_global(w: Walker) -> None:
    name, module = w.stack.pop(), w.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise TypeError("a name that is no text")
    w.stack.append(Name(_allowed(f"{module[:_MAX_LINE]} {name[:_MAX_LINE]}", w.what)))


def _allowed(name: str, what: str) -> str:
    module, _, last = name.partition(" ")
    if name in _DICTS or name in _TENSORS or name in _PARAMETERS or (module == "torch" and last in STORAGES):
        return name
    raise GGUFError(
        f"{what} is refused: its pickle names {clip(name.replace(' ', '.'))}, and only tensors are read, never code. "
        "Save it as safetensors where you trust it"
    )


def _reduce(w: Walker) -> None:
    args, name = w.stack.pop(), w.stack.pop()
    if type(name) is not Name or type(args) is not tuple:
        raise TypeError("something that is no known function is called")
    if name.text in _DICTS:
        pairs = args[0] if args else ()
        if type(pairs) not in (list, tuple):
            raise TypeError("a dict is made of what is no list of pairs")
        w.work(len(pairs))
        if w.left >= 0:
            table: dict[Any, Any] = {}
            for pair in pairs:
                if type(pair) not in (list, tuple) or len(pair) != 2:
                    raise TypeError("a dict is made of what are no pairs")
                _set_items(table, pair)
            w.stack.append(table)
    elif name.text in _TENSORS:
        storage, offset, shape, stride = args[:4]
        if type(storage) is not Storage:
            raise TypeError("a tensor without a storage")
        w.stack.append(PickledTensor(storage, offset, shape, stride))
    elif name.text in _PARAMETERS:
        if type(args[0]) is not PickledTensor:
            raise TypeError("a parameter without a tensor")
        w.stack.append(args[0])
    else:
        raise TypeError(f"{name.text} is called")


def _build(w: Walker) -> None:
    w.stack.pop()  # attributes of a state dict: versions of modules, of no use here
    if type(w.stack[-1]) is not dict:
        raise TypeError("attributes are set on what is no dict")


def _persistent(w: Walker) -> None:
    told = w.stack.pop()
    if type(told) is not tuple or len(told) < 5:
        raise TypeError("a reference that is no storage")
    kind, name, key, _, count = told[:5]
    if kind != "storage" or type(name) is not Name or type(count) is not int or type(key) not in (str, int):
        raise TypeError("a reference that is no storage")
    module, _, last = name.text.partition(" ")
    if module != "torch" or last not in STORAGES:
        raise TypeError(f"a storage of type {name.text}")
    dtype = STORAGES[last]
    storage = w.storages.setdefault(str(key), Storage(str(key), dtype, count))
    if (storage.dtype, storage.count) != (dtype, count) or count < 0:
        raise TypeError(f"storage {clip(key)} is {clip(count)} {dtype}, and {clip(storage.count)} {storage.dtype}")
    w.stack.append(storage)


def _pop(w: Walker) -> None:
    w.stack.pop()


def _pop_mark(w: Walker) -> None:
    w.to_mark()


def _skip(size: int) -> _Act:
    def act(w: Walker) -> None:
        w.at += size  # PROTO and FRAME: what they say is not needed

    return act


_OTHERS = {
    ord(code): name
    for code, name in {
        "V": "UNICODE", "S": "STRING", "F": "FLOAT", "p": "PUT", "g": "GET", "P": "PERSID", "i": "INST", "o": "OBJ",
        "\x81": "NEWOBJ", "\x92": "NEWOBJ_EX", "\x82": "EXT1", "\x83": "EXT2", "\x84": "EXT4", "2": "DUP",
        "\x8f": "EMPTY_SET", "\x90": "ADDITEMS", "\x91": "FROZENSET", "\x96": "BYTEARRAY8", "\x97": "NEXT_BUFFER",
        "\x98": "READONLY_BUFFER",
    }.items()
}  # fmt: skip

_KNOWN: dict[str, _Act] = {
    "\x80": _skip(1), "\x95": _skip(8), "J": _int(4, signed=True), "K": _int(1), "M": _int(2), "I": _int_line,
    "L": _int_line, "\x8a": _long(1), "\x8b": _long(4), "G": _float, "X": _text(4), "\x8c": _text(1),
    "\x8d": _text(8), "T": _bytes(4, latin=True), "U": _bytes(1, latin=True), "B": _bytes(4), "C": _bytes(1),
    "\x8e": _bytes(8), "N": _constant(None), "\x88": _constant(True), "\x89": _constant(False), "(": _mark,
    ")": _constant(()), "]": _constant(list), "}": _constant(dict), "t": _tuple_to_mark, "\x85": _tuple(1),
    "\x86": _tuple(2), "\x87": _tuple(3), "d": _dict, "l": _list, "s": _setitem, "u": _setitems, "a": _append,
    "e": _appends, "q": _put(1), "r": _put(4), "\x94": _memoize, "h": _get(1), "j": _get(4), "c": _global,
    "\x93": _stack_global, "R": _reduce, "b": _build, "Q": _persistent, "0": _pop, "1": _pop_mark,
}  # fmt: skip
_ACTIONS: list[_Act] = [_KNOWN.get(chr(code)) or _unknown(code) for code in range(256)]
