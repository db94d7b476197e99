"""Coverage-guided fuzzing of the GGUF reader: whatever the bytes, only a PyggmlError may escape.

pip install atheris && python tests/fuzz/make_seeds.py build/seeds && python tests/fuzz/fuzz_gguf.py build/seeds \
    -dict=build/seeds.dict -max_len=16384 -timeout=2 -rss_limit_mb=500 -max_total_time=600

Covers opening, the whole metadata and tensor table, Config, estimate and repr; libFuzzer's limits catch what is slow
or large. Crashing inputs are left as crash-*; give one as the only argument to run it again.
"""

from __future__ import annotations

import os
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["pyggml.gguf", "pyggml.gguf_meta", "pyggml.gguf_format", "pyggml.config"]):
    import pyggml.gguf as gguf
    from pyggml.config import Config
from pyggml.errors import PyggmlError
from pyggml.estimate import estimate

SHM = "/dev/shm" if os.path.isdir("/dev/shm") else None
FILE = tempfile.NamedTemporaryFile(prefix="fuzz-", suffix=".gguf", dir=SHM)  # noqa: SIM115 - lives as long as we do


def one_input(data: bytes) -> None:
    """One file: read everything there is."""
    os.ftruncate(FILE.fileno(), 0)
    os.pwrite(FILE.fileno(), data, 0)
    try:
        with gguf.open(FILE.name) as file:
            for key in file.metadata:
                _ = file.metadata[key]
                file.metadata.raw(key)
                if file.metadata.type_of(key) == "arr[str]":
                    file.metadata.raw_strings(key)
            for info in file.tensors.values():
                assert info.data.nbytes == info.nbytes
                assert info.offset + info.nbytes <= file.size
            repr(file)
            estimate(file)
            Config.from_metadata(file.metadata)
    except PyggmlError as error:
        refusal = str(error)
    else:
        return
    assert len(refusal) < 2000, refusal


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
