"""The one exception tree. Messages say what, where, expected, got, and what to do."""

from __future__ import annotations


class PyggmlError(Exception):
    """Everything pyggml raises on purpose."""


class GGUFError(PyggmlError, ValueError):
    """A file (or the metadata or template in it) is not what it claims to be."""


class ArgumentError(PyggmlError, ValueError):
    """A value passed to pyggml that it cannot use."""


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


class ContextFull(PyggmlError, ValueError):
    """A prompt is longer than the context; the message gives both numbers."""


class TemplateError(PyggmlError, ValueError):
    """A chat template is missing, broken, hostile, or refused the messages."""


class Cancelled(PyggmlError):
    """Stopped on request."""
