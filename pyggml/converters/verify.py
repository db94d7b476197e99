"""The check at the end of a conversion: the file is opened again, its tensors are compared with what went in. A file
that fails never reaches its name. The tokenizer is compared before anything is written, in tokenizer_check.py."""

from __future__ import annotations

from collections.abc import Sequence

from pyggml import arch, gguf
from pyggml.converters.write import Made
from pyggml.errors import GGUFError, PyggmlError, UnsupportedError
from pyggml.model import load
from pyggml.shown import clip


def tensors(path: str, made: Sequence[Made]) -> str:
    """Raises GGUFError where the written file lacks a tensor or holds it in another shape or type.

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
        return str(e).replace(f"{clip(path)}: ", "")
    except PyggmlError as e:
        raise GGUFError(f"config and weights do not fit together: {e}") from e
    return ""
