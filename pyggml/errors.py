"""The one exception tree. Messages say what, where, expected, got, and what to do.

Where Python has a kind of its own for what happened (TypeError, IndexError, FileNotFoundError ...) the error is that
too.
"""

from __future__ import annotations

from typing import Any


class PyggmlError(Exception):
    """Everything pyggml raises on purpose."""


class GGUFError(PyggmlError, ValueError):
    """A file (or the metadata or template in it) is not what it claims to be."""


class ArgumentError(PyggmlError, ValueError):
    """A value passed to pyggml that it cannot use."""


class ArgumentTypeError(ArgumentError, TypeError):
    """A value of a type that pyggml cannot use there, or an argument it does not have; a TypeError too."""


class GrammarError(ArgumentError):
    """A schema, regular expression or grammar that cannot be enforced; the message names the place in it."""


class ArgumentIndexError(ArgumentError, IndexError):
    """A position outside of what there is; an IndexError too."""


class FileError(GGUFError, ArgumentError, OSError):
    """A path that the system refuses to open or to write; an OSError too, with errno, strerror and filename."""

    def __init__(
        self, message: str, errno: int | None = None, strerror: str | None = None, filename: str | None = None
    ) -> None:
        super().__init__(message)
        self.errno, self.strerror, self.filename = errno, strerror, filename

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.errno, self.strerror, self.filename)


class FileMissing(FileError, FileNotFoundError):
    """No such file or folder; a FileNotFoundError too."""


class FileForbidden(FileError, PermissionError):
    """The system does not permit it; a PermissionError too."""


class FileIsFolder(FileError, IsADirectoryError):
    """A folder where a file is needed; an IsADirectoryError too."""


class FileExists(FileError, FileExistsError):
    """A file is there that is not replaced; a FileExistsError too."""


def file_error(message: str, error: OSError, filename: str) -> FileError:
    """message as the FileError that is of the system's own kind too."""
    kinds = (FileMissing, FileForbidden, FileIsFolder, FileExists)
    kind = next((kind for kind in kinds if isinstance(error, kind.__bases__[1])), FileError)
    return kind(message, error.errno, error.strerror, filename)


class ShapeError(PyggmlError, ValueError):
    """Shapes or sizes that do not fit together."""


class UnsupportedError(PyggmlError, NotImplementedError):
    """Known, but not available: an architecture, a type, a CPU level, a platform."""


class NumericError(PyggmlError, ArithmeticError):
    """NaN or infinity where a finite number is needed."""


class BackendError(PyggmlError, RuntimeError):
    """A compute backend or its threads failed."""


class OutOfMemory(PyggmlError, MemoryError):
    """Memory was refused; the message says how much was asked for."""


class QueueFull(PyggmlError, RuntimeError):
    """So many requests wait already that no more are taken; the message says how many."""


class ContextFull(PyggmlError, ValueError):
    """A prompt is longer than the context; the message gives both numbers."""


class TemplateError(PyggmlError, ValueError):
    """A chat template is missing, broken, hostile, or refused the messages."""


class Cancelled(PyggmlError):
    """Stopped on request."""
