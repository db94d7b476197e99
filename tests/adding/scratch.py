"""A copy of the tree where things are added: what git knows of it, a build of its own, and programs run against it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

GIT = ("git", "-c", "user.name=copy", "-c", "user.email=copy@localhost", "-c", "commit.gpgsign=false")
LEFT_OUT = shutil.ignore_patterns(
    ".git", "build", "dist", "wheelhouse", "*.so", "__pycache__", ".venv", "venv", ".*_cache", "*.egg-info", "models"
)


class Scratch:
    """root: the copy. Everything that was not committed there is what the last addition changed."""

    def __init__(self, source: Path, root: Path) -> None:
        self.root = root
        shutil.copytree(source, root, ignore=LEFT_OUT)
        self.git("init", "-q")
        self.keep("as it was")

    def git(self, *words: str) -> str:
        return self.run(*GIT, *words)

    def keep(self, why: str) -> None:
        """Commits."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", why)

    def changed(self) -> list[str]:
        """Paths that differ from the last commit, new ones too."""
        return sorted(line[3:] for line in self.git("status", "--porcelain", "-uall").splitlines())

    def add(self, path: str, text: str, after: str = "", before: str = "") -> None:
        """Puts text behind, or in front of, the first match of a pattern; without one it makes the file."""
        file = self.root / path
        if not after and not before:
            assert not file.exists(), f"{path} is there already"
            file.write_text(text, encoding="utf-8")
            return
        old = file.read_text(encoding="utf-8")
        match = re.search(after or before, old, flags=re.M)
        assert match is not None, f"{path} holds no {after or before}: say here where such things stand now"
        at = match.end() if after else match.start()
        file.write_text(old[:at] + text + old[at:], encoding="utf-8")

    def run(self, *command: str | Path, **environment: str) -> str:
        """Standard output of a command that must succeed, run in the copy with the copy's package."""
        env = {**os.environ, "PYTHONPATH": str(self.root), "PYGGML_DEV": "1", **environment}
        words = [*map(str, command)]
        done = subprocess.run(words, cwd=self.root, env=env, capture_output=True, text=True, timeout=3600)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
        return done.stdout

    def python(self, code: str, **environment: str) -> str:
        return self.run(sys.executable, "-c", code, **environment)

    def pytest(self, *words: str) -> str:
        return self.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words)

    def build(self, *targets: str) -> None:
        """The extension beside the sources, and native checks; barely optimized, which takes a third of the time."""
        cache = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
        self.run(
            "cmake", "-G", "Ninja", "-B", "build", "-DPYGGML_INPLACE=ON", "-DPYGGML_DEVICES=OFF",
            "-DPGG_BUILD_TESTS=ON",
            f"-DPython_EXECUTABLE={sys.executable}", "-DCMAKE_C_FLAGS_RELEASE=-O1 -Werror", *cache,
        )  # fmt: skip
        self.run("cmake", "--build", "build", "--target", *targets)

    def native(self, name: str, *words: str) -> str:
        """A program of tests/native, built."""
        (program,) = [path for path in (self.root / "build").rglob(name) if path.is_file()]
        return self.run(program, *words)
