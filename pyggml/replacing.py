"""Writing a file so that nothing is lost: beside the target, flushed to the disk, then renamed over it.

Whatever ends the writing, an error or Ctrl-C, the target keeps what it had and no trace is left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from pyggml.arguments import PathLike
from pyggml.arguments import path as read_path
from pyggml.errors import FileIsFolder, GGUFError, PyggmlError, file_error
from pyggml.gguf_file import OPEN_FLAGS
from pyggml.gguf_format import clip


@contextlib.contextmanager
def replacing(path: PathLike, error: type[PyggmlError] = GGUFError) -> Iterator[BinaryIO]:
    """A new file to write, which becomes path when the block ends well. A link stays; what it points to is replaced.

    Raises error where path is no regular file or cannot be written.

    >>> import tempfile
    >>> target = os.path.join(tempfile.mkdtemp(), "a")
    >>> with replacing(target) as out:
    ...     _ = out.write(b"whole")
    >>> open(target).read(), len(os.listdir(os.path.dirname(target)))
    ('whole', 1)
    """
    target, beside = _places(path, error)
    try:
        fd = _open(beside)
    except (OSError, ValueError) as e:
        raise _refused(path, error, e) from e
    except BaseException:  # a signal came between
        _remove(beside)
        raise
    try:
        with os.fdopen(fd, "wb", buffering=1 << 20) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, target)
    except PyggmlError:  # what came from the block is said already
        _remove(beside)
        raise
    except OSError as e:
        _remove(beside)
        raise _refused(path, error, e) from e
    except BaseException:
        _remove(beside)
        raise
    _sync_folder(os.path.dirname(target))


def check_writable(
    path: PathLike,
    error: type[PyggmlError] = GGUFError,
    sources: Iterable[PathLike] = (),
) -> None:
    """Raises what replacing() would, before time is spent on what is to be written. path keeps what it has.

    sources: files that are read, which path must not be.
    """
    target, beside = _places(path, error)
    if any(os.path.realpath(source) == target for source in sources):
        raise error(f"{clip(os.fsdecode(os.fspath(path)))} is what is read; give another name")
    try:
        os.close(_open(beside))
    except (OSError, ValueError) as e:
        raise _refused(path, error, e) from e
    finally:
        _remove(beside)


def _places(path: PathLike, error: type[PyggmlError]) -> tuple[str, str]:
    """What is to be replaced, links followed, and a new name beside it."""
    target = os.path.realpath(read_path("path", path))
    _check_target(target, error)
    return target, os.path.join(os.path.dirname(target), f".pyggml-{secrets.token_hex(8)}.part")


def _refused(path: PathLike, error: type[PyggmlError], e: Exception) -> PyggmlError:
    name = read_path("path", path)
    message = f"{clip(name)} cannot be written: {getattr(e, 'strerror', e)}"
    return file_error(message, e, name) if isinstance(e, OSError) else error(message)


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, 0o666)


def _check_target(path: str, error: type[PyggmlError]) -> None:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # not there yet, or opening says what is wrong with the path
    if not stat.S_ISREG(mode):
        message = f"{clip(path)} exists and is no regular file; it is not replaced"
        if stat.S_ISDIR(mode):
            raise FileIsFolder(message, errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise error(message)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):  # the error that led here says more
        os.unlink(path)


def _sync_folder(folder: str) -> None:
    """Makes the rename durable; where folders cannot be opened (Windows) the system sees to it."""
    try:
        fd = os.open(folder or ".", os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass  # some network file systems refuse; the data itself is on the disk
    finally:
        os.close(fd)
