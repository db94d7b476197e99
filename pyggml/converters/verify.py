"""The check at the end of a conversion: the file is opened again, its tensors are compared with what went in. A file
that fails never reaches its name. The tokenizer is compared before anything is written, in tokenizer_check.py."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pyggml import arch, gguf
from pyggml.converters.write import Made
from pyggml.errors import GGUFError, PyggmlError, UnsupportedError
from pyggml.files.foreign import name_of
from pyggml.model import load
from pyggml.shown import clip


def tensors(path: str, made: Sequence[Made], config: str) -> str:
    """Raises GGUFError where the written file lacks a tensor or holds it in another shape or type.

    config: what messages call the source's config.json; of the file they speak without its name, which is one for now.

    Where the architecture can be run, the model is built over the file too: every shape is judged against the config.
    Returns why it cannot be run here, "" where it can.
    """
    with gguf.open(path) as file:
        if len(file.tensors) != len(made):
            raise GGUFError(f"the new file holds {len(file.tensors)} tensors, {len(made)} were written")
        for each in made:
            info = file.tensors.get(each.name)
            if info is None or info.shape != each.shape or info.type is not each.type:
                raise GGUFError(f"the new file does not hold {each.name} {each.shape} as {each.type}")
        name = file.arch
    try:
        arch.find(name)
        load(path, n_ctx=1).close()
    except UnsupportedError as e:
        return _told(e, path)
    except PyggmlError as e:
        told = _told(e, path)
        raise GGUFError(f"{config} and the weights do not fit together: {told}{_sources(told, made)}") from None
    return ""


def _told(error: PyggmlError, path: str) -> str:
    """What an error says, without the name of a file that will not stay."""
    return str(error).replace(f"{name_of(path)}: ", "").replace(name_of(path), "the new file")


def _sources(told: str, made: Sequence[Made]) -> str:
    """The names that tensors of a message have in the source."""
    words = set(re.findall(r"[\w.]+", told))
    found = [each for each in made if each.name in words]
    return "".join(f"; {each.name} is made of {clip(each.parts[0].name)}" for each in found[:2])
