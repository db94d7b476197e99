"""The list of OpenCL and CUDA devices, with stand-in drivers (drivers.c): present, incomplete, failing, absent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in drivers are ELF libraries")


def devices(folder: Path) -> list[dict[str, Any]]:
    """What a fresh process lists when drivers are looked for in folder first."""
    code = "import json; from pyggml import _devices; print(json.dumps(_devices.devices()))"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert got.returncode == 0, got.stderr
    found: list[dict[str, Any]] = json.loads(got.stdout)
    return found


def build(folder: Path, name: str, *defines: str) -> None:
    cc = shutil.which("cc") or shutil.which("gcc") or pytest.skip("no C compiler here")
    subprocess.run([cc, "-shared", "-fPIC", *defines, str(HERE / "drivers.c"), "-o", str(folder / name)], check=True)


@pytest.fixture(autouse=True)
def built() -> None:
    pytest.importorskip("pyggml._devices", reason="_devices was left out of this build (no C++ compiler)")


def test_drivers_present(tmp_path: Path) -> None:
    build(tmp_path, "libOpenCL.so.1")
    build(tmp_path, "libcuda.so.1")
    card, one, two = devices(tmp_path)
    assert card == {"backend": "cuda", "name": "Stand-in card", "memory": 8 << 30, "driver": "CUDA 12.4"}
    assert (one["backend"], one["memory"], two["memory"]) == ("opencl", 1 << 30, 2 << 30)
    assert one["name"] == "Stand-in \N{REPLACEMENT CHARACTER} GPU"  # a driver's bad bytes do not raise
    assert one["driver"] == "OpenCL 3.0 stand-in, driver 1.2.3"


def test_driver_lacks_a_function(tmp_path: Path) -> None:
    build(tmp_path, "libcuda.so.1", "-DLACKS_FUNCTION")
    assert [d for d in devices(tmp_path) if d["backend"] == "cuda"] == []


def test_driver_fails(tmp_path: Path) -> None:
    build(tmp_path, "libOpenCL.so.1", "-DFAILS")
    build(tmp_path, "libcuda.so.1", "-DFAILS")
    assert devices(tmp_path) == []


def test_driver_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").write_bytes(b"not an ELF file")
    (tmp_path / "libOpenCL.so.1").write_bytes(b"")
    assert isinstance(devices(tmp_path), list)


def test_drivers_absent(tmp_path: Path) -> None:
    for device in devices(tmp_path):
        assert set(device) == {"backend", "name", "memory", "driver"}
