"""The C library as others use it: a C program and a Cython module, built outside the package and run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent


def run(*command: str | Path, **more: object) -> str:
    got = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **more)  # type: ignore[call-overload]
    assert got.returncode == 0, f"{shlex.join(map(str, command))}\n{got.stdout}{got.stderr}"
    return str(got.stdout)


def flags(*names: str) -> list[str]:
    return shlex.split(run(sys.executable, "-m", "pyggml", *names))


@pytest.fixture(scope="session")
def compiler() -> str:
    """The C compiler; skips where there is none."""
    named = os.environ.get("CC") or (sysconfig.get_config_var("CC") or "").split(" ")[0]
    found = next((path for name in (named, "cc", "gcc", "clang") if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no C compiler here")
    return found


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    import pyggml
    from pyggml.errors import UnsupportedError

    try:
        pyggml.get_include()
    except UnsupportedError as error:
        pytest.skip(f"only an installed package can be embedded: {error}")


def check_program(program: Path) -> None:
    text = run(program)
    match = re.search(r"isa (\w+) bytes (\d+) error ([\d.]+)", text)
    assert match is not None, text
    assert int(match[2]) == 4096 * 4096 // 256 * 144
    assert 0.0 < float(match[3]) < 0.12, text  # 4.5 bits a weight lose a few per cent, never nothing
    assert re.search(r"refused: .*\d", text), text


def test_flags_name_what_exists() -> None:
    (include,) = flags("--cflags")
    assert (Path(include.removeprefix("-I")) / "pgg.h").is_file()
    assert (Path(include.removeprefix("-I")) / "quant_types.def").is_file()
    words = flags("--libs")
    assert "-lpgg" in words
    assert (Path(words[0].removeprefix("-L")) / "libpgg.a").is_file()
    assert flags("--cflags", "--libs") == [include, *words]
    (folder,) = flags("--cmake-dir")
    assert (Path(folder) / "pggConfig.cmake").is_file()


def test_c_program_through_flags(compiler: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    run(compiler, "-O2", *warnings, HERE / "error_of_q4k.c", *flags("--cflags"), *flags("--libs"), "-o", program)
    check_program(program)


def test_c_program_through_cmake(compiler: str, tmp_path: Path) -> None:
    cmake = shutil.which("cmake") or pytest.skip("no cmake here (the test extra brings it)")
    shutil.copy(HERE / "error_of_q4k.c", tmp_path)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(outside LANGUAGES C)\nset(CMAKE_BUILD_TYPE Release)\n"
        "find_package(pgg 0.1 CONFIG REQUIRED)\nadd_executable(program error_of_q4k.c)\n"
        "target_link_libraries(program PRIVATE pgg::pgg m)\n"
    )
    environment = {**os.environ, "CC": compiler}
    (folder,) = flags("--cmake-dir")
    run(cmake, "-S", tmp_path, "-B", tmp_path / "build", f"-Dpgg_DIR={folder}", env=environment)
    run(cmake, "--build", tmp_path / "build", env=environment)
    check_program(tmp_path / "build" / "program")


def test_header_is_c99_and_cpp(compiler: str, tmp_path: Path) -> None:
    (tmp_path / "c.c").write_text("#include <pgg.h>\nint main(void) { return pgg_abi() != PGG_ABI; }\n")
    run(compiler, "-std=c99", "-pedantic", "-Werror", "-fsyntax-only", *flags("--cflags"), tmp_path / "c.c")
    cpp = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if cpp is not None:
        (tmp_path / "c.cpp").write_text("#include <pgg.h>\nint main() { return pgg_abi() != PGG_ABI; }\n")
        run(cpp, tmp_path / "c.cpp", *flags("--cflags"), *flags("--libs"), "-o", tmp_path / "cpp")
        run(tmp_path / "cpp")


def test_c_program_continues_as_python_does(compiler: str, tmp_path: Path) -> None:
    import pyggml
    from pyggml.model import BUNDLED

    program, plan = tmp_path / "program", tmp_path / "x.plan"
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    run(compiler, "-O2", *warnings, HERE / "continue.c", *flags("--cflags"), *flags("--libs"), "-o", program)
    for kind in ("pure:f32", "Q8_0", "Q4_K_M"):
        model = tmp_path / f"{kind.removeprefix('pure:')}.gguf"
        pyggml.quantize_file(BUNDLED, model, kind, allow_requantize=True)
        with pyggml.load(model) as m:
            m.export_plan(plan)
            ids = m.tokenize("The wolf said to the old woman")
            want = m.generate(ids, max_tokens=48, temperature=0, seed=1).tokens
        got = run(program, model, plan, "48", *map(str, ids))
        assert [int(word) for word in got.split()] == want, kind
    first, *rest = pyggml.split_file(model, tmp_path / "x", max_size=500_000, metadata_alone=True)
    with pyggml.load(first) as m:
        m.export_plan(plan)
    for part in (first, rest[-1]):
        got = run(program, part, plan, "48", *map(str, ids))
        assert [int(word) for word in got.split()] == want, part
    os.rename(rest[0], tmp_path / "away")
    missing = subprocess.run([program, first, plan, "4", "1"], capture_output=True, text=True, timeout=60)
    assert missing.returncode == 1
    assert f"{rest[0]} cannot be opened" in missing.stderr, missing.stderr
    with pyggml.load(model) as m:
        m.export_plan(plan)
    other = subprocess.run([program, BUNDLED, plan, "4", "1"], capture_output=True, text=True, timeout=60)
    assert other.returncode == 1
    assert "the plan is for a GGUF file of" in other.stderr, other.stderr
    plan.write_bytes(plan.read_bytes()[:-5])
    cut = subprocess.run([program, model, plan, "4", "1"], capture_output=True, text=True, timeout=60)
    assert cut.returncode == 1
    assert "cut or was altered" in cut.stderr, cut.stderr


SETUP = """
import shlex, subprocess, sys
import pyggml
from Cython.Build import cythonize
from setuptools import Extension, setup

libs = shlex.split(subprocess.check_output([sys.executable, "-m", "pyggml", "--libs"], text=True))
module = Extension("outside", ["outside.pyx"], include_dirs=[pyggml.get_include()], extra_link_args=libs)
setup(name="outside", ext_modules=cythonize([module]))
"""


def test_cython_module(compiler: str, tmp_path: Path) -> None:
    pytest.importorskip("Cython", reason="the test extra brings it")
    pytest.importorskip("setuptools", reason="the test extra brings it")
    shutil.copy(HERE / "outside.pyx", tmp_path)
    (tmp_path / "setup.py").write_text(SETUP)
    environment = {**os.environ, "CC": compiler}
    run(sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=tmp_path, env=environment)
    rng = np.random.default_rng(7)
    w = rng.standard_normal((96, 512), dtype=np.float32)
    x = rng.standard_normal(512, dtype=np.float32)
    np.savez(tmp_path / "in.npz", w=w, x=x)
    code = (
        "import numpy as np, outside, pyggml\n"  # both copies of the core in one process
        "d = np.load('in.npz'); y = np.zeros(96, np.float32)\n"
        "outside.product(d['w'], d['x'], y); np.save('out.npy', y)\n"
        "pyggml.quantize(d['w'], 'q8_0')\n"
    )
    run(sys.executable, "-c", code, cwd=tmp_path)
    want = w.astype(np.float64) @ x
    error = np.linalg.norm(np.load(tmp_path / "out.npy") - want) / np.linalg.norm(want)
    assert 0.0 < error < 0.02
