"""Block headers: one text for C, C++ and OpenCL; and tables that are what their script makes of the gguf package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FAMILIES = sorted((Path(__file__).parents[2] / "native" / "quant").glob("blocks_*.h"))
INCLUDES = "".join(f'#include "quant/{path.name}"\n' for path in FAMILIES)
CPP = INCLUDES + "int main() { pgg_q4_k b{}; return pgg_q4_k_q(&b, 3) + (int)pgg_q4_k_scale(&b, 0); }\n"
OPENCL = (
    INCLUDES
    + """
__kernel void decode(__global const pgg_q6_k *b, __global const pgg_iq2_xs *c, __global float *y) {
  int i = get_global_id(0);
  y[i] = pgg_q6_k_scale(b, i >> 4) * (float)pgg_q6_k_q(b, i) + (float)pgg_iq2_xs_q(c, i);
}
"""
)


def compile_text(command: list[str], path: Path, text: str, root: Path) -> None:
    path.write_text(text)
    done = subprocess.run(
        [*command, "-I", str(root / "native"), str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_headers_are_cpp(tmp_path: Path, repo_root: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("NO COMPILER: a C++ compiler is needed to check the block headers")
    flags = ["-std=c++17", "-Wall", "-Wextra", "-pedantic", "-fsyntax-only"]
    compile_text([compiler, *flags], tmp_path / "x.cpp", CPP, repo_root)


@pytest.mark.parametrize("standard", ["CL1.2", "CL3.0"])
def test_headers_are_opencl(standard: str, tmp_path: Path, repo_root: Path) -> None:
    compiler = shutil.which("clang")
    if compiler is None:
        pytest.skip("NO COMPILER: clang is needed to check the block headers as OpenCL C")
    flags = ["-x", "cl", f"-cl-std={standard}", "-fsyntax-only", "-Xclang", "-finclude-default-header"]
    compile_text([compiler, *flags], tmp_path / "x.cl", OPENCL, repo_root)


def test_iq_tables_are_what_the_script_makes(repo_root: Path) -> None:
    folder = repo_root / "native" / "quant"
    made = subprocess.run(
        [sys.executable, str(folder / "make_iq_tables.py")], capture_output=True, text=True, check=True
    ).stdout
    assert made == (folder / "iq_tables.h").read_text()
