"""Weights stay quantized in memory, mapped or copied: the process grows by about the file, not by its float values."""

import subprocess
import sys

import numpy as np
import pytest
from model import tiny

import pyggml

CODE = """
import sys, pyggml
def held():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) * 1024
small = pyggml.load(n_threads=2)
small.generate(list(range(2, 90)), max_tokens=2, temperature=0)
before = held()
m = pyggml.load(sys.argv[1], mmap=sys.argv[2] == "map", n_ctx=512)
m.generate(list(range(250)), max_tokens=4, temperature=0)
print(held() - before)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """About 70 MB of q4_0: 570 MB if it were float32."""
    rng = np.random.default_rng(0)
    shape = dict(n_layer=8, n_embd=1024, n_head=8, n_head_kv=4, head_dim=128, n_ff=4096, n_vocab=260)
    small = tiny.write(tmp_path_factory.mktemp("large") / "small.gguf", **{**shape, "n_layer": 1})
    path = small.path.with_name("large.gguf")
    blocks = rng.integers(0, 256, (1 << 17, 18), dtype=np.uint8)
    blocks[:, :2] = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)
    pool = blocks.reshape(-1)

    def fill(nbytes):
        return lambda: (pool[: min(pool.size, nbytes - at)] for at in range(0, nbytes, pool.size))

    with pyggml.gguf.open(small.path) as file, pyggml.gguf.Writer(path) as out:
        out.add_metadata(file.metadata, skip=["llama.block_count"])
        out.add("llama.block_count", shape["n_layer"])
        for name, info in file.tensors.items():
            layers = range(shape["n_layer"]) if name.startswith("blk.0.") else [0]
            for i in layers:
                to = name.replace("blk.0.", f"blk.{i}.")
                if len(info.shape) == 1:
                    out.add_tensor(to, info.shape, "f32", info.data.copy())
                else:
                    m, k = info.shape
                    out.add_tensor(to, info.shape, "q4_0", fill(m * k // 32 * 18))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("how", ["map", "copy"])
def test_growth_is_about_the_file(large, how):
    done = subprocess.run([sys.executable, "-c", CODE, large, how], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    size = large.stat().st_size
    assert size > 60 << 20
    assert 0.8 * size < int(done.stdout) < 1.15 * size + (40 << 20)
