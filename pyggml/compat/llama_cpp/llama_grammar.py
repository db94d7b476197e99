"""Grammars as llama-cpp-python's callers make them: GBNF text, or a JSON schema."""

from __future__ import annotations

import json
from pathlib import Path

from pyggml.compat.llama_cpp.verdicts import no_name
from pyggml.files.texts import read_text

TYPE_CHECKING = False


class LlamaGrammar:
    """A GBNF grammar, or a schema. What is wrong with it is said when it is used."""

    def __init__(self, _grammar: str = "", *, schema: object = None) -> None:
        self._grammar, self._schema = _grammar, schema

    @classmethod
    def from_string(cls, grammar: str, verbose: bool = True) -> LlamaGrammar:
        """A grammar from its GBNF text."""
        return cls(grammar)

    @classmethod
    def from_file(cls, file: str | Path, verbose: bool = True) -> LlamaGrammar:
        """A grammar from a file of GBNF."""
        return cls(read_text(Path(file)))

    @classmethod
    def from_json_schema(cls, json_schema: str, verbose: bool = True) -> LlamaGrammar:
        """What a JSON schema allows."""
        return cls(schema=json.loads(json_schema))

    @property
    def settings(self) -> dict[str, object]:
        """As a generation takes it."""
        return {"grammar": self._grammar} if self._grammar else {"schema": self._schema}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """The reason why a name is not here."""
        raise no_name(__name__, name)
