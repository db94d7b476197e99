"""Gemma 4 and 3n against random models of transformers, through the converter: dense, with rows for each layer, shared
keys and values, keys as values, experts; and what a session of them keeps.
"""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converters import checkpoint
from model.test_meaning import REFUSED

import pyggml
from pyggml.errors import GGUFError, PyggmlError, ShapeError, UnsupportedError

TOKENIZER = {
    "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": [*"abc", "ab", *(chr(0x4E00 + i) for i in range(156))], "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.eos_token_id": 1,
}  # fmt: skip
IDS = [2, *np.random.default_rng(3).integers(5, 160, 44).tolist()]
KINDS = ["sliding_attention", "full_attention"]
SIZES = dict(
    vocab_size=160, vocab_size_per_layer_input=160, hidden_size=64, num_hidden_layers=6, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, intermediate_size=96, hidden_size_per_layer_input=8, sliding_window=9,
    num_kv_shared_layers=2, max_position_embeddings=128, layer_types=KINDS * 3, pad_token_id=0,
)  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma4, E2B": ("Gemma4", dict(global_head_dim=32, use_double_wide_mlp=True, final_logit_softcapping=9.0)),
    "gemma4, dense": (
        "Gemma4",
        dict(
            global_head_dim=24, hidden_size_per_layer_input=0, num_kv_shared_layers=0, attention_k_eq_v=True,
            num_global_key_value_heads=1, layer_types=[*KINDS[:1] * 5, KINDS[1]], tie_word_embeddings=False,
        ),
    ),
    "gemma4, experts": (
        "Gemma4",
        dict(
            global_head_dim=32, hidden_size_per_layer_input=0, num_kv_shared_layers=0, enable_moe_block=True,
            num_experts=6, top_k_experts=2, moe_intermediate_size=40, attention_k_eq_v=True,
            num_global_key_value_heads=1, num_hidden_layers=3, layer_types=[*KINDS, KINDS[1]],
        ),
    ),
    "gemma3n": (
        "Gemma3n",
        dict(laurel_rank=6, activation_sparsity_pattern=[0.9, 0.0, 0.5, 0.0, 0.0, 0.3], altup_num_inputs=4,
             vocab_size_per_layer_input=150),
    ),
    "gemma3n, three streams": (
        "Gemma3n",
        dict(laurel_rank=5, activation_sparsity_pattern=[0.0] * 6, altup_num_inputs=3, altup_active_idx=1,
             num_kv_shared_layers=3, final_logit_softcapping=5.0, intermediate_size=[96, 64, 96, 32, 96, 96]),
    ),
}  # fmt: skip


def made(case: str, folder: Path) -> np.ndarray:
    """Writes a random model's directory -> what transformers says of IDS: (len(IDS), n_vocab)."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    family, told = CASES[case]
    config = getattr(transformers, f"{family}TextConfig")(**{**SIZES, **told}, attn_implementation="eager")
    torch.manual_seed(1)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval().float()
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("layer_scalar"):
                value.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, value.shape)))
            elif isinstance(value, torch.nn.Parameter):
                spread = 0.2 if value.ndim == 1 else 1.2 / np.sqrt(value.shape[-1])
                around = 1.0 if value.ndim == 1 else 0.0
                value.copy_(torch.from_numpy(rng.normal(around, spread, value.shape)))
        rows: np.ndarray = model(torch.tensor([IDS])).logits[0].numpy()
    folder.mkdir()
    weights = {name: np.ascontiguousarray(value.numpy()) for name, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        del weights["lm_head.weight"]
    checkpoint.safetensors(folder / "model.safetensors", weights)
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), "dtype": "float32"}, default=str))
    return rows


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A file, and what transformers says of IDS."""
    folder = tmp_path_factory.mktemp("gemma")
    want = made(request.param, folder / "hf")
    pyggml.convert(folder / "hf", folder / "x.gguf", dtype="f32")
    return folder / "x.gguf", want


every = pytest.mark.parametrize("case", CASES, indirect=True, scope="module")
some = pytest.mark.parametrize("case", ["gemma4, E2B", "gemma3n"], indirect=True, scope="module")


@every
def test_against_transformers(case: tuple[Path, np.ndarray]) -> None:
    path, want = case
    with pyggml.load(path, kv_type="f32") as m, closing(m.session()) as s:
        pieces = np.concatenate([s.step(IDS[:20], 20), s.step(IDS[20:21], 1)[None], s.step(IDS[21:], len(IDS) - 21)])
        s.reset()
        for got in (m.logits(IDS), pieces, np.stack([s.step([each]) for each in IDS])):
            assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()


@every
def test_there_and_back(case: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    pyggml.convert(case[0], tmp_path / "back")
    pyggml.convert(tmp_path / "back", tmp_path / "x.gguf", dtype="f32")
    with pyggml.gguf.open(case[0]) as want, pyggml.gguf.open(tmp_path / "x.gguf") as got:
        assert want.tensors.keys() == got.tensors.keys()
        for key, info in want.tensors.items():
            assert np.array_equal(info.data, got.tensors[key].data), key
        for key in want.metadata:
            if key.startswith(f"{want.arch}."):
                assert np.array_equal(got.metadata[key], want.metadata[key]), key


@pytest.mark.parametrize("case", ["gemma4, experts"], indirect=True, scope="module")
def test_importance_of_experts_whose_gate_and_up_are_one(case: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """What an expert's rows are multiplied with is what two tensors of the same values are multiplied with."""
    with pyggml.gguf.open(case[0]) as file, pyggml.gguf.Writer(tmp_path / "apart.gguf") as out:
        for key, value in {**file.metadata, **TOKENIZER}.items():
            out.add(key, value)
        for name, info in file.tensors.items():
            values = np.array(info.data).view("<f4").reshape(info.shape)
            if "gate_up_exps" not in name:
                out.add_tensor(name, info.shape, "f32", values)
                continue
            n_ff = info.shape[1] // 2
            for part, half in (("gate", values[:, :n_ff]), ("up", values[:, n_ff:])):
                out.add_tensor(name.replace("gate_up", part), half.shape, "f32", np.ascontiguousarray(half))
    found = []
    for path in (rewritten(case[0], tmp_path / "one.gguf", TOKENIZER), tmp_path / "apart.gguf"):
        with pyggml.load(path, kv_type="f32") as m:
            np.testing.assert_allclose(m.logits(IDS), case[1], atol=2e-5 * np.abs(case[1]).max())
            found.append(pyggml.imatrix(m, IDS * 2))
    one, apart = found
    np.testing.assert_allclose(one["blk.0.ffn_gate_up_exps.weight"], apart["blk.0.ffn_gate_exps.weight"], rtol=1e-5)
    np.testing.assert_allclose(one["blk.1.ffn_down_exps.weight"], apart["blk.1.ffn_down_exps.weight"], rtol=1e-5)


@every
@pytest.mark.parametrize(("recipe", "most"), [("Q8_0", 0.25), ("Q4_K_M", 0.7)])
def test_quantized_files_run(case: tuple[Path, np.ndarray], recipe: str, most: float, tmp_path: Path) -> None:
    path, want = case
    pyggml.quantize_file(path, tmp_path / "x.gguf", recipe)
    with pyggml.load(tmp_path / "x.gguf") as m:
        got = m.logits(IDS)
    assert np.linalg.norm(got - want) < most * np.linalg.norm(want)


@some
def test_states_are_saved_and_forked(case: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    with pyggml.load(case[0]) as m, closing(m.session()) as s, closing(m.session()) as other:
        s.step(IDS[:30])
        s.save(tmp_path / "x.state")
        other.load(tmp_path / "x.state")
        with closing(s.fork()) as fork:
            want = s.step(IDS[30:])
            for each in (other, fork):
                np.testing.assert_array_equal(each.step(IDS[30:]), want)


def test_a_batch_gives_what_each_text_gives(shared: Path) -> None:
    with pyggml.load(shared / "conformance" / "gemma4" / "model-f32.gguf") as m:
        texts, how = ["The", "once there was a long way home " * 3, "x = 1"], {"max_tokens": 20, "temperature": 0.0}
        assert [c.tokens for c in m.generate(texts, **how)] == [m.generate(t, **how).tokens for t in texts]


# ---- keys ----------------------------------------------------------------------------------------------------------


def rewritten(src: Path, dst: Path, changed: dict[str, Any], drop: str = "") -> Path:
    """A copy with other metadata (None: without that key), and without a tensor."""
    with pyggml.gguf.open(src) as file, pyggml.gguf.Writer(dst) as out:
        for key, value in {**file.metadata, **changed}.items():
            if value is not None:
                out.add(key, value)
        for name, info in file.tensors.items():
            if name != drop:
                out.add_tensor(name, info.shape, info.type, np.array(info.data))
    return dst


def other_than(value: Any) -> Any:
    """A value that says something else."""
    if isinstance(value, np.ndarray):
        return [other_than(each) for each in value.tolist()]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value - 1 if value else 1
    return 0.25 if value == -np.inf else value * 8


@every
def test_each_key_counts(case: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """Another value of any key is refused, or makes other logits; a key that nothing computes is refused by name."""
    path, want = case
    with pyggml.gguf.open(path) as file:
        arch, keys = file.arch, {key: value for key, value in file.metadata.items() if key.startswith(file.arch)}
    assert len(keys) > 15
    for key, value in keys.items():
        if key.endswith((".context_length", ".vocab_size")):
            continue
        try:
            with pyggml.load(rewritten(path, tmp_path / "x.gguf", {key: other_than(value)}), kv_type="f32") as m:
                assert np.abs(m.logits(IDS) - want).max() > 1e-5 * np.abs(want).max(), key
        except (GGUFError, ShapeError, UnsupportedError):
            continue
    for ending, (wrong, _) in REFUSED.items():
        if f"{arch}.{ending}" in keys or ending in ("final_logit_softcapping", "attention.shared_kv_layers"):
            continue
        if f"{arch}.expert_count" in keys and ending.startswith("expert_"):
            continue  # computed
        with pytest.raises(PyggmlError, match=re.escape(f"{arch}.{ending}")):
            pyggml.load(rewritten(path, tmp_path / "y.gguf", {f"{arch}.{ending}": wrong}))


def test_layers_that_share_need_one_that_stores(shared: Path, tmp_path: Path) -> None:
    src = shared / "conformance" / "gemma4" / "model-f32.gguf"
    for changed, message in (
        ({"gemma4.attention.shared_kv_layers": 6}, r"shared_kv_layers is 6, expected an earlier layer with a window"),
        ({"gemma4.attention.shared_kv_layers": 7}, r"shared_kv_layers is 7, expected an integer from 0 to 6"),
        ({"gemma4.attention.head_count_kv": [1, 1, 1, 1, 2, 1]}, r"layers 2 and 4 with the same heads"),
        ({"gemma4.rope.dimension_count_swa": 31}, r"dimension_count_swa is 31, expected an even number"),
        ({"gemma4.attention.causal": False}, r"gemma4\.attention\.causal is False"),
    ):
        with pytest.raises(PyggmlError, match=message):
            pyggml.load(rewritten(src, tmp_path / "x.gguf", changed))


@pytest.mark.parametrize("case", ["gemma4, E2B", "gemma4, dense", "gemma3n"], indirect=True, scope="module")
def test_values_are_not_made_up(case: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """Keys serve as values in all layers without a window, or in none; a file that lacks others is damaged."""
    with pyggml.gguf.open(case[0]) as file:
        stored = [name for name in file.tensors if name.endswith("attn_v.weight")]
    for name in (stored[0], stored[-1]):
        with pytest.raises(GGUFError, match=rf"{re.escape(name)} is missing from the file"):
            pyggml.load(rewritten(case[0], tmp_path / "x.gguf", {}, drop=name))


def test_files_with_keys_of_layers_that_share(shared: Path, tmp_path: Path) -> None:
    """Checkpoints keep matrices of keys and values that those layers do not read."""
    src = shared / "conformance" / "gemma4" / "model-f32.gguf"
    with pyggml.gguf.open(src) as file, pyggml.gguf.Writer(tmp_path / "x.gguf") as out:
        for key, value in file.metadata.items():
            out.add(key, value)
        for name, info in file.tensors.items():
            out.add_tensor(name, info.shape, info.type, np.array(info.data))
            if name.startswith("blk.0.attn_") and name[11] in "kv":
                out.add_tensor(name.replace("0", "4", 1), info.shape, info.type, np.array(info.data))
    with pyggml.load(src) as m, pyggml.load(tmp_path / "x.gguf") as other:
        np.testing.assert_array_equal(m.logits(IDS), other.logits(IDS))
