"""The house rules of docs/MAP.md as tests: floors, rooms, names, sizes, links, a light import. Under a few seconds.

Reads sources and the installed library; runs no kernel. The tables below are the rules: change them together with
docs/MAP.md, and say why in an ADR.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NATIVE = ROOT / "native"
PACKAGE = ROOT / "pyggml"

# ---- the floors ----------------------------------------------------------------------------------------------------

# A room of native/ and what its #include lines may name besides itself and system headers.
C_FLOORS = {
    "include": set(),
    "base": {"include"},
    "quant": {"include", "base"},
    "cpu": {"include", "base", "quant"},
    "core": {"include", "base", "quant", "cpu"},
    "backends": {"include", "base", "quant", "cpu", "core"},
}

# Floor of each module of pyggml; one imports from its own floor or below. Deferred imports count too.
PY_FLOORS = {
    "errors": 0,
    "_start": 0,
    "shown": 0,
    "arguments": 1,
    "display": 1,
    "keywords": 1,
    "pickling": 1,
    "threads": 1,
    "sizes": 1,
    "schema": 1,
    "_native": 1,
    "_built": 1,
    "_devices": 1,
    "files": 2,
    "leaving": 2,
    "quant": 2,
    "gguf": 3,
    "numeric": 3,
    "config": 3,
    "graph": 3,
    "operands": 3,
    "tokenizer": 3,
    "answer": 3,
    "completion": 3,
    "chat": 4,
    "constrain": 4,
    "arch": 4,
    "engine": 5,
    "model": 6,
    "recipes": 7,
    "converters": 7,
    "embed": 7,
    "torch": 7,
    "info": 7,
    "estimate": 7,
    "compat": 7,
    "__init__": 8,
    "cli": 9,
    "data": 9,
    "__main__": 10,
}
ARCH_MAY = {"graph", "config", "errors", "arch"}
ARCH_STDLIB = {"__future__", "collections", "dataclasses", "difflib", "functools", "importlib", "math", "pkgutil"}
ARCH_STDLIB |= {"types", "typing"}

ISA_WORDS = re.compile(r"\b(sse\w*|avx\w*|neon\w*|vnni|_mm\d*_\w+|i8mm|dotprod)\b", re.I)
ISA_HEADERS = {"immintrin.h", "arm_neon.h", "cpuid.h", "x86intrin.h", "arm_acle.h", "sys/auxv.h", "asm/hwcap.h"}
ISA_FILES = re.compile(r"cpu/(simd_\w+\.h|lanes_\w+\.h|isa_\w+\.c|tuned_\w+\.c|detect\.c)$")

ALLOCATES = re.compile(r"\b(malloc|calloc|realloc|free|pthread_\w+|omp_\w+|pgg_alloc|pgg_team_\w+)\s*\(")
ENDS = re.compile(r"\b(printf|fprintf|puts|putchar|perror|abort|exit|_exit|signal|sigaction)\s*\(")

SIZE_LIMIT = 600
# Longer files, with the reason. Keep this list short.
SIZE_EXCEPTIONS: dict[str, str] = {}


def c_sources() -> list[Path]:
    return sorted(p for ext in ("h", "c", "inc", "def") for p in NATIVE.rglob(f"*.{ext}") if "build" not in p.parts)


def py_sources() -> list[Path]:
    return sorted(p for ext in ("py", "pyi", "pyx", "pxi", "pxd") for p in PACKAGE.rglob(f"*.{ext}"))


def code_of(path: Path) -> str:
    """C text without comments and string literals."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", path.read_text(encoding="utf-8"), flags=re.S)
    return re.sub(r"(?m)^(?!\s*#\s*include)(.*)$", lambda m: re.sub(r'"(\\.|[^"\\])*"', '""', m.group(1)), text)


def includes_of(path: Path) -> list[tuple[str, bool]]:
    """(name, is a system header) of each #include."""
    found = re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', path.read_text(encoding="utf-8"), flags=re.M)
    return [(name, bracket == "<") for bracket, name in found]


def room_of(path: Path) -> str:
    return path.relative_to(NATIVE).parts[0]


def where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_c_floors() -> None:
    wrong = []
    for path in c_sources():
        room = room_of(path)
        for name, system in includes_of(path):
            if system:
                continue
            if (path.parent / name).is_file():
                target = room_of((path.parent / name).resolve())
            elif (NATIVE / name).is_file():
                target = room_of(NATIVE / name)
            else:
                hits = [folder for folder in ("include", "quant", "core") if (NATIVE / folder / name).is_file()]
                target = "include" if hits else "nowhere"  # the public header and its two tables
            if target != room and target not in C_FLOORS[room]:
                wrong.append(f"{where(path)} includes {name} of {target}/")
            here = path.relative_to(NATIVE).parts[:2]
            if room == "backends" and name.startswith("backends/") and Path(name).parts[:2] != here:
                wrong.append(f"{where(path)}: a backend knows another: {name}")
    assert not wrong, "\n".join(wrong)


def test_c_headers_stay_in_their_rooms() -> None:
    wrong = []
    for path in c_sources():
        inside = path.relative_to(NATIVE).as_posix()
        for name, _ in includes_of(path):
            if name == "Python.h":
                wrong.append(f"{where(path)}: native/ never includes Python.h")
            if name in ISA_HEADERS and not ISA_FILES.search(inside):
                wrong.append(f"{where(path)}: {name} belongs to cpu/simd_*.h, lanes_*.h, isa_*, tuned_* or detect.c")
            if name == "omp.h" and inside != "base/threads.c":
                wrong.append(f"{where(path)}: only base/threads.c knows OpenMP")
        if inside != "base/threads.c" and re.search(r"#\s*pragma\s+omp|\bomp_\w+\s*\(", code_of(path)):
            wrong.append(f"{where(path)}: only base/threads.c knows OpenMP")
    assert not wrong, "\n".join(wrong)


def test_only_cpu_names_an_isa() -> None:
    wrong = []
    for path in c_sources():
        if room_of(path) in ("base", "quant", "core", "backends"):
            words = sorted(set(ISA_WORDS.findall(code_of(path))))
            if words:
                wrong.append(f"{where(path)}: {', '.join(words)}")
    assert not wrong, "\n".join(wrong)


def test_kernels_neither_allocate_nor_thread() -> None:
    wrong = []
    for path in c_sources():
        if room_of(path) == "cpu" and (path.suffix == ".inc" or path.name.startswith(("simd_", "lanes_", "tuned_"))):
            wrong += [f"{where(path)} calls {hit}" for hit in ALLOCATES.findall(code_of(path))]
    assert not wrong, "\n".join(wrong)


def test_core_never_prints_or_ends_the_process() -> None:
    wrong = []
    for path in c_sources():
        wrong += [f"{where(path)} calls {hit}" for hit in ENDS.findall(code_of(path))]
    assert not wrong, "\n".join(wrong)


def py_room(path: Path) -> str:
    """gguf for all of gguf/, model for model.py."""
    return path.relative_to(PACKAGE).parts[0].split(".")[0]


def py_imports(path: Path) -> Iterator[str]:
    """Dotted names a module imports, absolute; those under TYPE_CHECKING are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *(node.module.split(".") if node.module else ())))
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def test_python_floors() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = py_room(path)
        assert room in PY_FLOORS, f"{where(path)}: give it a floor in PY_FLOORS and docs/MAP.md"
        for name in py_imports(path):
            parts = name.split(".")
            if room == "arch" and parts[0] != "pyggml" and parts[0] not in ARCH_STDLIB:
                wrong.append(f"{where(path)}: arch/ imports {name}")
            if parts[0] != "pyggml" or len(parts) == 1:
                continue
            target = parts[1]
            if not (PACKAGE / parts[1]).is_dir() and not list(PACKAGE.glob(f"{parts[1]}.*")):
                target = "__init__"  # a public name: from pyggml import load
            if PY_FLOORS.get(target, 99) > PY_FLOORS[room]:
                wrong.append(f"{where(path)} ({room}) reaches up to {name} ({target})")
            if room == "arch" and target not in ARCH_MAY:
                wrong.append(f"{where(path)}: arch/ imports {name}")
    assert not wrong, "\n".join(wrong)


def map_floors(room: str) -> dict[str, int]:
    """Name -> floor of what docs/MAP.md lists under a folder; `config*.py` stands for every file of that form."""
    text = (ROOT / "docs" / "MAP.md").read_text(encoding="utf-8")
    block = re.search(rf"^{room}/.*\n((?: .*\n)+)", text, flags=re.M)
    assert block is not None, f"docs/MAP.md lists no {room}/"
    found: dict[str, int] = {}
    for names, floor in re.findall(r"^  (\S.*?) +floor (\d+)\b", block[1], flags=re.M):
        for name in names.split():
            paths = [p.name for p in (ROOT / room).glob(name.rstrip("/"))]
            assert paths, f"docs/MAP.md: there is no {room}/{name}"
            for stem in {path.split(".")[0] for path in paths}:
                assert found.setdefault(stem, int(floor)) == int(floor), f"docs/MAP.md: {stem} has two floors"
    return found


def test_map_has_the_floors_of_the_modules() -> None:
    assert map_floors("pyggml") == PY_FLOORS


def test_map_has_the_floors_of_the_rooms() -> None:
    floors = map_floors("native")
    below = {room: {"include", *(other for other in floors if floors[other] < floors[room])} for room in floors}
    assert {"include": set(), **below} == C_FLOORS


def test_descriptors_have_owners() -> None:
    """A Ctrl-C behind os.open() loses its number; _native.Descriptor keeps it. The command opens its own streams."""
    for path in sorted((ROOT / "pyggml").rglob("*.py")):
        if path.parent.name != "cli":
            assert not re.search(r"os\.(open|pipe|dup)\(", path.read_text(encoding="utf-8")), path


def test_only_gguf_reverses_dims() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if py_room(path) != "gguf":
            hits = re.findall(r"(?:dims|shape)\w*\s*\[::-1\]|reversed\([^)]*(?:dims|shape)", path.read_text("utf-8"))
            wrong += [f"{where(path)}: {hit}" for hit in hits]
    assert not wrong, "\n".join(wrong)


# ---- the shape of files --------------------------------------------------------------------------------------------


def test_files_are_small() -> None:
    wrong = []
    for path in [*c_sources(), *py_sources(), *sorted((ROOT / "bench").rglob("*.py"))]:
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > SIZE_LIMIT and not path.name.endswith("_tables.h") and where(path) not in SIZE_EXCEPTIONS:
            wrong.append(f"{where(path)}: {lines} lines")
    assert not wrong, f"over {SIZE_LIMIT} lines:\n" + "\n".join(wrong)


def all_sources() -> list[Path]:
    kinds = {".py", ".c", ".h", ".md", ".txt"}
    more = [p for folder in ("tests", "bench", "docs") for p in (ROOT / folder).rglob("*") if p.suffix in kinds]
    top = [ROOT / name for name in ("README.md", "CMakeLists.txt", "pyproject.toml")]
    cmake = [*NATIVE.rglob("*.cmake"), NATIVE / "CMakeLists.txt"]
    return [p for p in [*c_sources(), *py_sources(), *more, *top, *cmake] if p.is_file() and "golden" not in p.parts]


def test_sources_are_ascii() -> None:
    wrong = []
    for path in all_sources():
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if not line.isascii():
                wrong.append(f"{where(path)}:{number}: {line.decode('utf-8', 'replace').strip()[:80]}")
    assert not wrong, "\n".join(wrong)


def test_sources_hold_no_leftovers() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|(?<![\w.])/(?:home|work|root|Users)/")
    wrong = []
    for path in [*c_sources(), *py_sources(), *sorted((ROOT / "bench").rglob("*.py"))]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if words.search(line):
                wrong.append(f"{where(path)}:{number}: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


def test_files_say_what_lives_in_them() -> None:
    wrong = []
    for path in [*c_sources(), *sorted(PACKAGE.rglob("*.py"))]:
        head = path.read_text(encoding="utf-8").lstrip()[:200]
        opening = ('"""', 'r"""', "#") if path.suffix == ".py" else ("/*", "//")
        if head and not head.startswith(opening):
            wrong.append(where(path))
    assert not wrong, "no file head:\n" + "\n".join(wrong)


def test_docs_links_resolve() -> None:
    wrong = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
        for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (path.parent / name) if name else path
            if not file.exists():
                wrong.append(f"{where(path)}: {target}")
            elif anchor and file.suffix == ".md" and anchor not in anchors_of(file):
                wrong.append(f"{where(path)}: no heading for #{anchor} in {file.name}")
    assert not wrong, "\n".join(wrong)


def anchors_of(path: Path) -> set[str]:
    heads = re.findall(r"^#+\s+(.*)$", path.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


# ---- one fact, one place -------------------------------------------------------------------------------------------


def test_pxd_declares_the_whole_header() -> None:
    header = code_of(NATIVE / "include" / "pgg.h")
    pxd = (PACKAGE / "_native.pxd").read_text(encoding="utf-8")
    names = set(re.findall(r"PGG_API[^;(]*?\b(pgg_\w+)\s*\(", header))
    names |= set(re.findall(r"\bPGG_(?:E|KIND_)\w+", header))
    assert len(names) > 60
    assert 'include "_quant_types.pxd"' in pxd, "the build makes the names of the types for everybody who cimports"
    missing = sorted(name for name in names if not re.search(rf"\b{name}\b", pxd))
    assert not missing, f"pgg.h declares what _native.pxd does not: {missing}"
    extra = sorted(set(re.findall(r"\b(pgg_\w+)\([^)]*\)?[^\n]*noexcept", pxd)) - names)
    assert not extra, f"_native.pxd declares what pgg.h does not: {extra}"


def test_stub_names_what_the_extension_has() -> None:
    from pyggml import _native

    tree = ast.parse((PACKAGE / "_native.pyi").read_text(encoding="utf-8"))
    wrong = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not hasattr(_native, node.name):
            wrong.append(node.name)
        elif isinstance(node, ast.ClassDef):
            held = getattr(_native, node.name, None)
            wrong += [
                f"{node.name}.{item.name}"
                for item in node.body
                if isinstance(item, ast.FunctionDef) and not hasattr(held, item.name)
            ]
    assert not wrong, f"_native.pyi promises what the extension lacks: {wrong}"
    stub = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    here = _native.__name__
    public = {n for n, v in vars(_native).items() if n[0] != "_" and getattr(v, "__module__", "") == here}
    assert public <= stub, f"the extension has what _native.pyi hides: {sorted(public - stub)}"


# ---- the built thing -----------------------------------------------------------------------------------------------


def symbols(path: Path, *flags: str) -> list[str]:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm (binutils) here")
    text = subprocess.run([nm, *flags, str(path)], check=True, capture_output=True, text=True).stdout
    return [line.split()[-1] for line in text.splitlines() if len(line.split()) >= 3]


def test_library_exports_only_pgg() -> None:
    import pyggml.embed

    try:
        home = Path(pyggml.embed.get_include()).parent
    except pyggml.errors.UnsupportedError:
        pytest.skip("a source tree: the C library is not installed")
    names = symbols(home / "lib" / "libpgg.a", "-g", "--defined-only")
    assert "pgg_matmul" in names
    foreign = sorted(n for n in names if not re.match(r"_?pgg_", n))
    assert not foreign, f"libpgg.a exports {foreign}"


@pytest.mark.skipif(sys.platform != "linux", reason="ELF symbols")
def test_extension_exports_only_its_own() -> None:
    from pyggml import _native

    names = symbols(Path(_native.__file__), "-D", "--defined-only")
    assert "PyInit__native" in names
    own = re.compile(r"(pgg_|PyInit__native$|_init$|_fini$|__bss_start|_end$|_edata$)")
    foreign = sorted(name for name in names if not own.match(name))
    assert not foreign, f"_native exports {foreign}"


HEAVY = ("jinja2", "llguidance", "tokenizers", "sentencepiece", "typer", "rich", "torch", "transformers", "safetensors")
LATER = ("pyggml.constrain", "pyggml.converters", "pyggml.numeric", "pyggml.recipes", "pyggml.tokenizer")
LATER += ("importlib.metadata", "hashlib")


def test_import_is_light_and_silent() -> None:
    loaded = f"import sys, numpy; had = set(sys.modules); import pyggml; print([m for m in {HEAVY + LATER!r} if m in"
    code = f"{loaded} sys.modules.keys() - had])"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert got.stdout.strip() == "[]"
    assert got.stderr == ""


def test_sources_without_their_native_part_say_what_to_do(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "pyggml", tmp_path / "pyggml", ignore=shutil.ignore_patterns("*.so", "*.pyd", "data"))
    command = [sys.executable, "-c", "import pyggml"]
    got = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert got.returncode == 1
    assert got.stderr.splitlines()[-1].startswith(f"ImportError: {tmp_path} holds the sources of pyggml, without their")
    assert "leave that folder" in got.stderr


def test_public_names_exist() -> None:
    import pyggml

    wanted = "load quantize dequantize quantize_file estimate info gguf get_include Tensor PyggmlError GGUFError"
    missing = [name for name in (*wanted.split(), *pyggml.__all__) if not hasattr(pyggml, name)]
    assert not missing, f"pyggml lacks {missing}"


def test_names_that_are_imported_later_are_the_rooms_own() -> None:
    code = """if True:
        import sys, threading, pyggml
        seen = []
        ask = [threading.Thread(target=lambda: seen.append(pyggml.quantize_file)) for _ in range(4)]
        [t.start() for t in ask], [t.join() for t in ask]
        from pyggml import convert, formats, numeric
        rooms = [sys.modules[f"pyggml.{room}"] for room in ("recipes", "converters", "numeric")]
        assert seen == [rooms[0].quantize_file] * 4 and pyggml.recipes is rooms[0]
        assert [convert, formats, numeric] == [rooms[1].convert, rooms[2].formats, rooms[2]]
        assert not hasattr(pyggml, "quantise_file")
        for name in pyggml.__all__:
            assert getattr(pyggml, name) is vars(pyggml)[name], name
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_public_names_are_explained() -> None:
    import pyggml

    mute = []
    for name in pyggml.__all__:
        held = getattr(pyggml, name)
        if isinstance(held, str):
            continue
        mute += [name] if not (held.__doc__ or "").strip() else []
        if isinstance(held, type) and not issubclass(held, Exception):
            own = [n for n, v in vars(held).items() if n[0] != "_" and (callable(v) or isinstance(v, property))]
            mute += [f"{name}.{n}" for n in own if not (getattr(held, n).__doc__ or "").strip()]
    assert not mute, f"no docstring: {mute}"
