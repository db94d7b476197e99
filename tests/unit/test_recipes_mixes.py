"""Every fixed mix chooses as llama.cpp's quantizer does: against a table of its choices (golden/make_mixes.py)."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from pyggml.errors import ArgumentError, UnsupportedError
from pyggml.quant.types import QuantType
from pyggml.recipes.choose import Numbers, choose, file_type, parse
from pyggml.recipes.mixes import MIXES
from pyggml.recipes.recipe import Recipe, Rule

HERE = Path(__file__).resolve().parents[1] / "golden"


@dataclass(frozen=True)
class Stub:
    name: str
    shape: tuple[int, ...]
    type: QuantType = QuantType.F32


def load_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_mixes", HERE / "make_mixes.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)

    sys.modules["make_mixes"] = made  # dataclasses look their module up
    spec.loader.exec_module(made)
    return made


make_mixes = load_maker()
TABLE = json.loads((HERE / "mixes.json").read_text())


def ours(skeleton, recipe, imatrix=False):
    numbers = Numbers.from_metadata(skeleton.metadata())
    tensors = [Stub(name, shape) for name, shape in skeleton.tensors()]
    made = choose(recipe if isinstance(recipe, Recipe) else Recipe(recipe), tensors, numbers, imatrix)
    return {name: choice.type.name for name, choice in made.items()}


@pytest.mark.parametrize("name", TABLE)
def test_types_are_llama_cpps(name):
    skeleton, wrong, count = make_mixes.SKELETONS[name], [], 0
    for key, want in TABLE[name].items():
        if want is None:
            continue
        mix, _, imatrix = key.partition("+")
        got = make_mixes.fold(ours(skeleton, mix, bool(imatrix)))
        count += len(want)
        wrong += [f"{key} {stem}: {got[stem]}, llama.cpp {want[stem]}" for stem in want if got[stem] != want[stem]]
        if not imatrix and key + "+imatrix" not in TABLE[name]:
            again = make_mixes.fold(ours(skeleton, mix, True))
            wrong += [f"{key} with imatrix {stem}: {again[stem]}" for stem in want if again[stem] != want[stem]]
    assert not wrong, f"{len(wrong)} of {count}\n" + "\n".join(wrong[:40])
    assert count > 150


def test_every_mix_is_in_the_table():
    names = {key.partition("+")[0] for key in TABLE["dense-8"]}
    assert len(names) >= 35
    assert names <= set(MIXES)  # a mix of our own has no such truth
    assert all(any(v is not None for k, v in TABLE["dense-8"].items() if k.split("+")[0] == mix) for mix in names)


def test_output_and_embedding_types():
    untied, tied = make_mixes.SKELETONS["dense-8"], make_mixes.SKELETONS["gqa4-28"]
    got = ours(untied, Recipe("Q4_K_M", output_type="q8_0", embedding_type="Q5_K"))
    assert (got["output.weight"], got["token_embd.weight"]) == ("q8_0", "q5_k")
    assert ours(tied, Recipe("Q4_K_M", output_type="q8_0"))["token_embd.weight"] == "q8_0"
    assert ours(tied, Recipe("Q4_K_M", embedding_type="q4_0"))["token_embd.weight"] == "q4_0"
    assert ours(untied, Recipe("pure:q4_0", output_type="q8_0"))["output.weight"] == "q8_0"


def test_rules_move_no_other_tensor():
    skeleton = make_mixes.SKELETONS["dense-32"]
    plain = ours(skeleton, "Q4_K_M")
    rule = Rule("attention_value", "q8_0", layers="first 5, -1")
    ruled = ours(skeleton, Recipe("Q4_K_M", rules=[rule]))
    changed = {name for name in plain if plain[name] != ruled[name]}
    assert changed == {f"blk.{i}.attn_v.weight" for i in (0, 1, 2, 3, 4, 31)}
    assert {ruled[name] for name in changed} == {"q8_0"}


def test_keep_wins_and_may_name_vectors():
    skeleton = make_mixes.SKELETONS["experts8-16"]
    recipe = Recipe("Q4_0", rules=[Rule("router", "q8_0"), Rule("ffn_down", "q6_k")], keep=[Rule("norm", "f16")])
    got = ours(skeleton, recipe)
    assert got["blk.3.attn_norm.weight"] == "f16"
    assert got["blk.3.ffn_gate_inp.weight"] == "q8_0"  # a rule reaches what mixes leave alone
    assert got["blk.3.ffn_down_exps.weight"] == "q6_k"
    kept = ours(
        skeleton, Recipe("Q4_0", rules=[Rule("ffn_down", "q6_k")], keep=[Rule("experts"), Rule("norm", "q8_0")])
    )
    assert kept["blk.3.ffn_down_exps.weight"] == "f32"
    assert kept["blk.3.attn_norm.weight"] == "f32"


def test_names_and_file_types():
    assert parse(" q4_k ") == ("Q4_K_M", False)
    assert parse("Pure: q4_k ") == ("q4_k", True)
    assert parse("w8a8") == ("Q8_0", False)
    assert [file_type(x) for x in ("Q4_K_M", "q4_k", "iq2_s", "mxfp4", "bf16", "f32", "q3_k")] == [
        15, 15, 28, 38, 32, 0, 12,
    ]  # fmt: skip
    for text in ("Q4_K_X", "", "pure:", "pure:q9"):
        with pytest.raises(ArgumentError):
            parse(text)
    with pytest.raises(UnsupportedError):
        parse("pure:q8_k")
    with pytest.raises(ArgumentError, match="Q4_K_M"):
        parse("Q4KM")


def test_gqa_per_layer_counts():
    meta = {"general.architecture": "x", "x.block_count": 2, "x.attention.head_count": [8, 4],
            "x.attention.head_count_kv": [2, 4]}  # fmt: skip
    assert Numbers.from_metadata(meta) == Numbers("x", 2, 8, 2, 0)
    assert Numbers.from_metadata({}) == Numbers()


# ---- against llama.cpp itself ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["llama", "llama__tied", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "gemma2", "gemma3", "phi3", "gpt2",
     "deepseek_v2", "bert"],
)  # fmt: skip
def test_conformance_models(name, shared, tmp_path):
    pytest.importorskip("llama_cpp")
    from oracle import llama_quantize

    import pyggml

    src = shared / "conformance" / name / "model-f32.gguf"
    for mix in MIXES:
        want = llama_quantize.quantize(src, tmp_path / "theirs.gguf", mix)
        if want is not None:
            got = {c.name: c.new for c in pyggml.quantize_file(src, tmp_path / "ours.gguf", mix, dry_run=True)}
            assert got == want, mix


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense-8", "dense-27", "odd-6"])
def test_options_against_llama_cpp(name, tmp_path):
    pytest.importorskip("llama_cpp")
    from oracle import llama_quantize

    skeleton = make_mixes.SKELETONS[name]
    make_mixes.write(tmp_path / "src.gguf", skeleton)
    for output, embedding in ((8, None), (None, 2), (13, 14), (8, 0)):
        kinds = [None if x is None else QuantType.parse(x).name for x in (output, embedding)]
        for mix, pure in (("Q4_K_M", False), ("Q2_K", False), ("Q5_K_M", True)):
            want = llama_quantize.quantize(
                tmp_path / "src.gguf", tmp_path / "dst.gguf", mix, pure=pure, output_type=output,
                embedding_type=embedding,
            )  # fmt: skip
            base = f"pure:{MIXES[mix].base}" if pure else mix
            recipe = Recipe(base, output_type=kinds[0], embedding_type=kinds[1])
            if pure and skeleton.tied and output is not None:
                continue  # there llama.cpp forgets the type that was asked for
            if want is not None:  # it refuses asked-for types that a row does not fit, where ours falls back
                assert ours(skeleton, recipe) == want, (mix, pure, kinds)
    want = llama_quantize.quantize(
        tmp_path / "src.gguf", tmp_path / "dst.gguf", "Q4_K_S", overrides={"ffn_gate": 8, "attn_output": 14}
    )
    if want is None:
        assert name == "odd-6"
        return
    assert ours(skeleton, Recipe("Q4_K_S", rules=[Rule("ffn_gate", "q8_0"), Rule("attn_output", "q6_k")])) == want


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "llama__tied", "mixtral"])
def test_our_files_load_in_llama_cpp(name, shared, tmp_path, llama_cpp):
    import numpy as np
    from oracle import llama_quantize

    import pyggml

    folder = shared / "conformance" / name
    told = np.load(folder / "reference.npz")
    ids, want = told["prompt_1"].tolist(), told["logits_1"]
    source = folder / "model-f32.gguf"

    def error(path):
        model = llama_cpp.Llama(str(path), verbose=False, logits_all=True, n_ctx=64, n_threads=1)
        model.eval(ids)
        got = np.array(model.scores[: len(ids)])
        model.close()
        return float(np.sqrt(np.mean((got - want) ** 2)))

    for mix in MIXES:
        try:
            pyggml.quantize_file(source, tmp_path / "ours.gguf", mix)
        except UnsupportedError:
            continue  # its encoder is not there
        mine = error(tmp_path / "ours.gguf")
        assert np.isfinite(mine), mix
        if llama_quantize.quantize(source, tmp_path / "theirs.gguf", mix) is not None:
            assert mine <= 1.2 * error(tmp_path / "theirs.gguf") + 1e-3, mix  # rounding is a matter of luck
