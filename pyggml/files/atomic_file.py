"""Writing a file so that nothing is lost: beside the target, flushed to the disk, then renamed over it.

Whatever ends the writing, an error or Ctrl-C, the target keeps what it had and no trace is left; what a kill leaves,
the next writing into that folder removes (part_file.py). Here is decided what may not be written: what is read, what
is no file, what is read-only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from pyggml import _native
from pyggml.arguments import PathLike
from pyggml.arguments import path as read_path
from pyggml.errors import ArgumentError, FileExists, FileIsFolder, GGUFError, PyggmlError
from pyggml.files import part_file as parts
from pyggml.shown import clip

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Replacement:
    """A file on its way: out to write to, part where it lies meanwhile, put() to give it its name."""

    def __init__(self, path: str, target: str, out: parts.Out, part: str, error: type[PyggmlError]) -> None:
        self.out, self.part = out, part
        self._path, self._target, self._error = path, target, error

    def put(self) -> None:
        """Flushes it to the disk and puts it in the place of the target, whose permissions and owner it takes."""
        _finish(self.out, self._target)
        try:
            os.replace(self.part, self._target)
        except OSError as e:
            raise parts.unwritable(self._path, self._error, e) from e
        _sync_folder(os.path.dirname(self._target))


@contextlib.contextmanager
def beside(
    path: PathLike, error: type[PyggmlError] = GGUFError, sources: Iterable[PathLike] = ()
) -> Iterator[Replacement]:
    """As replacing(), for what is to be looked at before it gets its name: nothing happens without put()."""
    name = read_path("path", path)
    target = _target(name, error, sources)
    folder = os.path.dirname(target)
    parts.sweep(folder)
    mode = 0o600 if os.path.exists(target) else 0o666  # what was private is not open meanwhile
    with parts.part(folder, name, error, mode) as (out, part):
        yield Replacement(name, target, out, part, error)


@contextlib.contextmanager
def replacing(
    path: PathLike, error: type[PyggmlError] = GGUFError, sources: Iterable[PathLike] = ()
) -> Iterator[BinaryIO]:
    """A new file to write, which becomes path when the block ends well. A link stays; what it points to is replaced.

    A file that is replaced hands on its permissions, and its owner where the system allows. sources: files that are
    read. Raises error where path is one of them, no regular file, read-only, or cannot be written.

    >>> import tempfile
    >>> target = os.path.join(tempfile.mkdtemp(), "a")
    >>> with replacing(target) as out:
    ...     _ = out.write(b"whole")
    >>> open(target).read(), len(os.listdir(os.path.dirname(target)))
    ('whole', 1)
    """
    with beside(path, error, sources) as new:
        yield new.out
        new.put()


def check_writable(path: PathLike, error: type[PyggmlError] = GGUFError, sources: Iterable[PathLike] = ()) -> None:
    """Raises what replacing() would, before time is spent on what is to be written. path keeps what it has."""
    with beside(path, error, sources):
        pass


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A path in the system's folder for such files, to be written and read by this run alone; gone afterwards.

    What a killed run left of its own goes too.
    """
    import tempfile  # with the random numbers behind it, longer than all the rest here

    folder = os.path.realpath(tempfile.gettempdir())
    parts.sweep(folder)
    with parts.part(folder, os.path.join(folder, ""), ArgumentError) as (_, leader):
        path = parts.member(leader, 1)
        try:
            yield path
        finally:
            parts.remove(path)


class Together:
    """Files of one folder that are of use together only. Made by together()."""

    def __init__(
        self, folder: str, leader: str, error: type[PyggmlError], replace: bool, sources: tuple[PathLike, ...]
    ) -> None:
        self._folder, self._leader, self._error, self._replace = folder, leader, error, replace
        self._sources = sources
        self._files: list[tuple[str, str]] = []  # (name, part)

    def check(self, name: str) -> None:
        """Raises what open() would."""
        path = os.path.join(self._folder, name)
        refuse_sources(path, self._sources, self._error)
        if not self._replace and os.path.lexists(path):
            raise _there(path)
        _judge(path, self._error)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """The file of that name, to be written."""
        self.check(name)
        path, part = os.path.join(self._folder, name), parts.member(self._leader, len(self._files) + 1)
        self._files.append((name, part))
        out = parts.create(part, path, GGUFError)  # of the disk, not of what was asked
        try:
            yield out
            _finish(out, path)
        finally:
            out.drop()

    def _put(self, leader: parts.Out) -> None:
        """Gives all files their names, the first last. With an old first one gone in between, no mixture opens."""
        known = [parts.placed(part, name) for name, part in self._files]
        parts.write_set(leader, known)
        try:
            if self._replace and len(self._files) > 1:
                parts.remove(os.path.join(self._folder, self._files[0][0]))
            for name, part in reversed(self._files):
                self._name(part, os.path.join(self._folder, name))
        except BaseException:
            parts.take_back(self._folder, known)
            raise
        _sync_folder(self._folder)

    def _name(self, part: str, path: str) -> None:
        try:
            if self._replace:
                os.replace(part, path)
                return
            try:
                os.link(part, path)  # unlike a rename it never replaces
            except FileExistsError:
                raise _there(path) from None
            except OSError:  # a file system without hard links
                os.rename(part, path)
        except PyggmlError:  # a FileError is an OSError too
            raise
        except OSError as e:
            raise parts.unwritable(path, GGUFError, e) from e

    def _drop(self) -> None:
        for _, part in self._files:
            parts.remove(part)


@contextlib.contextmanager
def together(
    folder: PathLike, error: type[PyggmlError] = GGUFError, *, replace: bool, sources: Iterable[PathLike] = ()
) -> Iterator[Together]:
    """Several files of a folder that appear when the block ends well, all or none; the one opened first comes last.

    So the first is the one without which the others cannot be opened. A run that is killed while they get their names
    leaves a note, by which the next takes back what it finds. replace: whether files of those names may be there.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with together(folder, replace=True) as files:
    ...     for name in ("index", "data"):
    ...         with files.open(name) as out:
    ...             _ = out.write(name.encode())
    ...     len(os.listdir(folder))  # two parts and their leader
    3
    >>> sorted(os.listdir(folder))
    ['data', 'index']
    """
    where = _real(read_path("folder", folder, empty=True) or ".")
    parts.sweep(where)
    with parts.part(where, os.path.join(where, ""), error) as (note, leader):
        files = Together(where, leader, error, replace, tuple(sources))
        try:
            yield files
            files._put(note)
        finally:
            files._drop()


def refuse_sources(
    path: PathLike, sources: Iterable[PathLike], error: type[PyggmlError], what: str = "which is read"
) -> None:
    """Raises error where path is one of the files that are read: by its real path or as the same file on the disk."""
    name = read_path("path", path)
    here = _stat(name)
    for source in sources:
        other = read_path("source", source)
        there = _stat(other)
        if here is not None and there is not None:  # hard links, and names that differ in case, are known by the inode
            same = os.path.samestat(here, there)
        else:
            same = here is there and _real(name) == _real(other)
        if same:
            raise error(f"{clip(name)} would replace {clip(other)}, {what}; give another name")


def _there(path: str) -> FileExists:
    message = f"{clip(path)} exists already; remove it or choose another name"
    return FileExists(message, errno.EEXIST, os.strerror(errno.EEXIST), path)


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except OSError:  # a link that may not be read, as those of other processes in /proc
        return os.path.abspath(path)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _target(name: str, error: type[PyggmlError], sources: Iterable[PathLike] = ()) -> str:
    """What is to be replaced, links followed, after everything that speaks against it was asked."""
    if "\0" in name:
        raise error(f"{clip(name)} is no path: it contains a NUL character")
    refuse_sources(name, sources, error)
    _judge(name, error)
    if os.path.basename(name) in ("", ".", ".."):
        raise error(f"{clip(name)} names a folder, expected the name of a file")
    target = _real(name)
    _judge(target, error)
    return target


def _judge(path: str, error: type[PyggmlError]) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as e:
        if e.errno == errno.ELOOP:
            raise error(f"{clip(path)} cannot be written: {e.strerror}") from e
        return  # not there yet, or opening says what is wrong with the path
    except ValueError:
        return
    kind = next((text for test, text in _KINDS if test(mode)), "no file")
    if not stat.S_ISREG(mode):
        message = f"{clip(path)} is {kind} and no regular file; it is not replaced: name a file"
        if stat.S_ISDIR(mode):
            raise FileIsFolder(message, errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise error(message)
    if not mode & 0o222 or not os.access(path, os.W_OK):  # root may write everything: the bits say what is meant
        raise error(f"{clip(path)} is read-only; it is not replaced: allow writing (chmod u+w) or give another name")


def _finish(out: parts.Out, target: str) -> None:
    """Everything on the disk, with the permissions and the owner of what it replaces."""
    out.flush()
    if hasattr(os, "fchown"):
        with contextlib.suppress(OSError):  # nothing is replaced, or the file system knows no permissions
            old = os.stat(target)
            for owner in ((old.st_uid, -1), (-1, old.st_gid)):
                with contextlib.suppress(OSError):  # only root gives files away
                    os.fchown(out.fileno(), *owner)
            os.fchmod(out.fileno(), stat.S_IMODE(old.st_mode) & 0o777)
    out.to_disk(all_of_it=True)
    if os.name == "nt":  # nothing is renamed there while it is open
        out.close()


def _sync_folder(folder: str) -> None:
    """Makes the rename durable; where folders cannot be opened (Windows) the system sees to it."""
    try:
        held = _native.Descriptor(folder or ".", os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(held.fd)
    except OSError:
        pass  # some network file systems refuse; the data itself is on the disk
    finally:
        held.close()
