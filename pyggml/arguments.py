"""What callers pass, judged: each function takes the parameter's name and value and gives what the package works with.

Numbers, flags, words, paths, arrays, token ids. What cannot be used raises ArgumentError (of a wrong type:
ArgumentTypeError) that names the parameter, what was expected and what came. numpy's scalars are as good as Python's.
"""

from __future__ import annotations

import difflib
import errno
import math
import operator
import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyggml.errors import ArgumentError, ArgumentTypeError, FileError, FileMissing, NumericError
from pyggml.shown import shown

T = TypeVar("T")

PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]

MAX_THREADS = 1024


def wrong_type(name: str, expected: str, value: object, hint: str = "") -> ArgumentTypeError:
    """The error of a value of a type that cannot be used."""
    return ArgumentTypeError(f"{name} must be {expected}, got {shown(value)}{'; ' + hint if hint else ''}")


# ---- numbers -------------------------------------------------------------------------------------------------------


def whole(name: str, value: object, low: int, high: int = 2**63 - 1, *, other: str = "") -> int:
    """A whole number from low to high: an int, numpy's integers, anything with __index__; no bool, no float.

    other: what else the caller accepts, for the message ("None").

    >>> whole("n", np.int64(3), 1)
    3
    """
    span = "" if low <= -(2**63) else f" from {low} to {high}" if high < 2**31 else f" from {low}"
    expected = f"a whole number{span}{' or ' + other if other else ''}"
    if _is_flag(value):
        raise wrong_type(name, expected, value)
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except Exception:  # a stranger's __index__ may raise anything
        raise wrong_type(name, expected, value) from None
    if not low <= number <= high:
        most = f" (the largest is {high})" if number > high >= 2**31 else ""
        raise ArgumentError(f"{name} must be {expected}{most}, got {shown(value)}")
    return number


def whole_or_none(name: str, value: object, low: int, high: int = 2**63 - 1) -> int | None:
    """whole(), or None."""
    return None if value is None else whole(name, value, low, high, other="None")


def threads(value: object, name: str = "n_threads") -> int:
    """A number of threads; 0 and None are the cores that this process may use."""
    return 0 if value is None else whole(name, value, 0, MAX_THREADS, other="None")


def number(name: str, value: object, low: float, high: float, *, above: bool = False) -> float:
    """A finite number from low (above: greater than it) to high: Python's, numpy's, anything with __float__; no bool.

    >>> number("p", np.float32(0.5), 0, 1)
    0.5
    """
    span = f"{'above' if above else 'from'} {low:g}" + ("" if math.isinf(high) else f" to {high:g}")
    if _is_flag(value) or isinstance(value, str | bytes | bytearray) or _n_dim(value):
        raise wrong_type(name, f"a number {span}", value)
    try:
        made = float(value)  # type: ignore[arg-type]
    except OverflowError:
        made = math.inf
    except Exception:  # a stranger's __float__ may raise anything
        raise wrong_type(name, f"a number {span}", value) from None
    if not math.isfinite(made) or not (low < made if above else low <= made) or made > high:
        raise ArgumentError(f"{name} must be a number {span}, got {shown(value)}")
    return made


def _is_flag(value: object) -> bool:
    """A bool of Python, numpy or torch, which pass for integers in places."""
    return isinstance(value, bool | np.bool_) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def _n_dim(value: object) -> int:
    """0 for a scalar, also one in an array."""
    found = getattr(value, "ndim", 0)
    return found if isinstance(found, int) else 0


def flag(name: str, value: object) -> bool:
    """True or False, numpy's too, or the numbers 1 and 0."""
    if isinstance(value, bool | np.bool_) or (isinstance(value, int | np.integer) and value in (0, 1)):
        return bool(value)
    raise wrong_type(name, "True or False", value)


# ---- words ---------------------------------------------------------------------------------------------------------


def text(name: str, value: object) -> str:
    """A str."""
    if isinstance(value, str):
        return value
    hint = ""
    if is_bytes(value):
        hint = "decode it first: bytes(value).decode()"
    elif isinstance(value, os.PathLike):
        hint = "read the file first: path.read_text()"
    raise wrong_type(name, "text (str)", value, hint)


def text_or_none(name: str, value: object) -> str | None:
    """text(), or None."""
    return None if value is None else text(name, value)


def is_bytes(value: object) -> bool:
    """Raw bytes, whatever holds them: bytes, bytearray, memoryview, mmap, array.array("B"); an array of numpy is none.

    >>> is_bytes(memoryview(b"ab")), is_bytes(np.array([1, 2], np.uint8)), is_bytes([1, 2])
    (True, False, False)
    """
    if isinstance(value, bytes | bytearray):
        return True
    try:  # what has a dtype says what its elements are
        return not hasattr(value, "dtype") and memoryview(value).itemsize == 1  # type: ignore[arg-type]
    except Exception:  # no buffer, a stranger's __getattr__
        return False


def list_of(name: str, value: object, expected: str = "a list") -> list[Any]:
    """A list of any iterable that is no text and no dict, generators too."""
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping):
        raise wrong_type(name, expected, value)
    try:
        items = iter(value)  # type: ignore[call-overload]
    except Exception:  # none, an array without dimensions, a stranger's __iter__
        raise wrong_type(name, expected, value) from None
    return list(items)


def texts(name: str, value: object, *, or_one: bool = False) -> list[str]:
    """A list of str from any iterable of them. or_one: a single str too, whose characters are never meant.

    >>> texts("stop", ("a", "b")), texts("stop", "END", or_one=True)
    (['a', 'b'], ['END'])
    """
    if or_one and isinstance(value, str):
        return [value]
    expected = "text (str) or a list of texts" if or_one else "a list of texts"
    return [text(f"{name}[{i}]", each) for i, each in enumerate(list_of(name, value, expected))]


def choice(name: str, value: object, options: Collection[str]) -> str:
    """One of a few words, in any case.

    >>> choice("effort", "bets", ("default", "best"))
    Traceback (most recent call last):
    ...
    pyggml.errors.ArgumentError: effort must be one of default, best, got 'bets'; did you mean best?
    """
    word = text(name, value).strip().lower()
    if word in options:
        return word
    near = difflib.get_close_matches(word[:60], options, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ArgumentError(f"{name} must be one of {', '.join(options)}, got {shown(value)}{hint}")


def path(name: str, value: object, *, empty: bool = False) -> str:
    """A path as str, with ~ expanded: from str, bytes or os.PathLike. empty: "" is accepted."""
    if not isinstance(value, str | bytes | os.PathLike):
        hint = "pass its name" if hasattr(value, "read") else ""
        raise wrong_type(name, "a path (str or os.PathLike)", value, hint)
    try:
        found = os.fsdecode(value)
    except Exception:  # a stranger's __fspath__, or bytes that no name can have
        raise wrong_type(name, "a path (str or os.PathLike)", value) from None
    if "\0" in found:
        raise FileError(f"{name} {shown(found)} is no path: it contains a NUL character", errno.EINVAL)
    if not found and not empty:
        raise FileMissing(f"{name} is empty: such a file does not exist", errno.ENOENT)
    return os.path.expanduser(found)


def function(name: str, value: T) -> T:
    """A callable such as progress(done, total), or None."""
    if value is not None and not callable(value):
        raise wrong_type(name, "a function or None", value)
    return value


def instance(name: str, value: object, kind: type[T], expected: str) -> T:
    """An object of one class."""
    if not isinstance(value, kind):
        raise wrong_type(name, expected, value)
    return value


def mapping(name: str, value: object, *, keys: type = str) -> dict[Any, Any]:
    """A dict whose keys are of one type, copied."""
    if not isinstance(value, Mapping):
        raise wrong_type(name, "a dict", value)
    made = dict(value)
    for key in made:
        if not isinstance(key, keys):
            raise wrong_type(f"each key of {name}", keys.__name__, key)
    return made


# ---- arrays --------------------------------------------------------------------------------------------------------


def _array(name: str, value: object, expected: str) -> NDArray[Any]:
    """A numpy array of whatever holds numbers; a torch tensor leaves its graph and its device, and bf16 becomes f32."""
    bad: tuple[type, ...] = (str, Mapping, set, frozenset)
    if value is None or isinstance(value, bad) or is_bytes(value):
        raise wrong_type(name, expected, value)
    if hasattr(value, "__next__"):
        value = list_of(name, value, expected)
    try:
        return np.asarray(_off_graph(value))
    except Exception as error:  # lists of different lengths, a stranger's __array__
        raise wrong_type(name, expected, value, " ".join(str(error).split())[:200]) from None


def _off_graph(value: Any) -> Any:
    """A torch tensor as numpy takes it, a list of them too; other things as they are."""
    if isinstance(value, list | tuple) and value and hasattr(value[0], "detach"):
        return [_off_graph(each) for each in value]
    if not (callable(getattr(value, "detach", None)) and hasattr(value, "dtype")):
        return value
    tensor = value.detach().cpu()
    return (tensor.float() if "float" in str(tensor.dtype) else tensor).numpy()


def floats(name: str, value: object) -> NDArray[np.float32]:
    """A contiguous float32 array: from numpy, lists, torch tensors (Parameters and bf16 too), anything with __array__.

    Texts, dates, complex numbers and objects are refused, and a double beyond float32 (NumericError).

    >>> floats("x", [[1, 2.5]]).dtype
    dtype('float32')
    """
    expected = "an array of numbers"
    found = _array(name, value, expected)
    extension = found.dtype.kind == "V" and found.dtype.names is None and found.dtype.num >= 256  # bfloat16, float8
    if found.dtype.kind not in "fiub" and not extension:
        raise wrong_type(name, expected, value)
    with np.errstate(all="ignore"):
        made: NDArray[np.float32] = np.asarray(found, np.float32, order="C")
    if found.dtype.kind == "f" and found.dtype.itemsize > 4:
        lost = np.isinf(made) & np.isfinite(found)
        if lost.any():
            at = tuple(map(int, np.argwhere(lost)[0]))
            raise NumericError(
                f"{name}: the value at {at} is {found[at]:g}, float32 ends at {np.finfo(np.float32).max:g}"
            )
    return made


def ids(name: str, value: object) -> NDArray[np.int64]:
    """Token ids, (n,): from a list, tuple, range, generator, an array of numpy or torch. Floats and bools are refused.

    >>> ids("ids", [1, np.int32(2)]).tolist()
    [1, 2]
    """
    expected = "a list of token ids (whole numbers)"
    if isinstance(value, list | tuple):
        items = value
        if not all(type(each) is int for each in items):
            whole_numbers = [whole(f"{name}[{i}]", each, -(2**63)) for i, each in enumerate(items)]
            return np.array(whole_numbers, np.int64)
    found = _array(name, value, expected)
    if found.ndim == 1 and found.size == 0:
        return np.zeros(0, np.int64)
    if found.ndim == 1 and found.dtype.kind == "O":  # integers beyond 64 bits, or objects
        return np.array([whole(f"{name}[{i}]", each, -(2**63)) for i, each in enumerate(found.tolist())], np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise wrong_type(name, expected, value)
    if found.dtype == np.uint64 and found.max() > 2**63 - 1:
        raise ArgumentError(f"{name}: {found.max()} is no token id")
    return found.astype(np.int64)


def buffer(name: str, value: object) -> NDArray[np.uint8]:
    """The bytes of a buffer as a flat array: bytes, bytearray, memoryview, mmap, arrays of numpy or torch."""
    expected = "bytes or an array of them"
    if isinstance(value, str) or value is None:
        raise wrong_type(name, expected, value)
    try:
        value = _off_graph(value)
        if not isinstance(value, np.ndarray):
            return np.frombuffer(value, np.uint8)  # type: ignore[call-overload, no-any-return]
    except Exception:  # no buffer, or one that is not contiguous
        raise wrong_type(name, expected, value) from None
    if value.dtype.hasobject:
        raise wrong_type(name, expected, value)
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8)


def shape(name: str, value: object) -> tuple[int, ...]:
    """Sizes of dimensions, outermost first: any iterable of whole numbers, or one number. Signs are not judged."""
    if not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        return (whole(name, value, -(2**63)),)
    expected = "a tuple of whole numbers"
    if isinstance(value, set | frozenset):
        raise wrong_type(name, expected, value)
    return tuple(whole(f"{name}[{i}]", n, -(2**63)) for i, n in enumerate(list_of(name, value, expected)))
