"""Plans as files: which files they are for. That they run is in tests/native and tests/embed."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import pyggml
from pyggml import gguf
from pyggml.model import BUNDLED


def fnv1a(data: bytes) -> int:
    found = 0xCBF29CE484222325
    for byte in data:
        found = (found ^ byte) * 0x100000001B3 % (1 << 64)
    return found


def files_of(plan: bytes) -> list[tuple[int, int, int]]:
    """(size, size of the header, hash of the header) of each file that a plan is for."""
    (count,) = struct.unpack_from("<I", plan, 24)
    return [struct.unpack_from("<QQQ", plan, 28 + 24 * i) for i in range(count)]


@pytest.mark.parametrize("how", [None, {"max_size": 1_000_000}, {"max_size": 1_000_000, "metadata_alone": True}])
def test_a_plan_names_every_part(tmp_path: Path, how: dict[str, int] | None) -> None:
    parts = [BUNDLED] if how is None else [Path(part) for part in pyggml.split_file(BUNDLED, tmp_path / "x", **how)]
    plan = tmp_path / "x.plan"
    with pyggml.load(parts[-1]) as m:
        m.export_plan(plan)
    made = plan.read_bytes()
    found = files_of(made)
    assert [size for size, _, _ in found] == [part.stat().st_size for part in parts]
    assert all(hash_of == fnv1a(part.read_bytes()[:n]) for part, (_, n, hash_of) in zip(parts, found, strict=True))
    assert str(tmp_path).encode() not in made, "a plan holds no paths"
    assert b".gguf" not in made[28 + 24 * len(found) :], "a plan holds no names of files"


def test_headers_of_parts(tmp_path: Path) -> None:
    parts = pyggml.split_file(BUNDLED, tmp_path / "x", max_size=1_000_000, metadata_alone=True)
    with gguf.open(parts[0]) as file:
        assert file.sizes == tuple(Path(part).stat().st_size for part in parts)
        assert file.size == sum(file.sizes)
        assert file.header() == Path(parts[0]).read_bytes()  # nothing is behind it
        for number, part in enumerate(parts[1:], 1):
            first = min(info.offset for info in file.tensors.values() if info.part == number)
            assert file.header(number) == Path(part).read_bytes()[:first]
        with pytest.raises(pyggml.ArgumentError, match=f"part must be a whole number from 0 to {len(parts) - 1}"):
            file.header(len(parts))
