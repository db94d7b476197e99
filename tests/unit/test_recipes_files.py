"""Recipe files and strategies: what they say, what they refuse, and that they survive being written."""

import sys

import pytest
from model import tiny
from typer.testing import CliRunner

import pyggml
from pyggml.cli.app import app
from pyggml.recipes import Recipe, Rule, parse_recipe
from pyggml.recipes.recipe import LAYER_NAMES, layer_numbers

TEXT = """
base = "q5_k_m"
embedding = "Q8_0"
max_size = "1GiB"
smaller = ["Q4_K_M"]
[types]
attention_value = "q6_k"
'ffn_(up|gate)' = "q4_0"
[[rules]]
name = "feed_forward_down"
layers = "first 1, -1"
type = "FP16"
[keep]
norm = "f32"
router = ""
"""


def test_a_file_says_what_becomes_of_layers(tmp_path):
    (tmp_path / "r.toml").write_text(TEXT)
    recipe = pyggml.load_recipe(tmp_path / "r.toml")
    assert recipe.rules[0] == Rule("feed_forward_down", "f16", "first 1, -1")
    src = tiny.write(tmp_path / "x.gguf", n_embd=256, n_head=8, head_dim=32, n_ff=256, n_layer=3).path
    kinds = {r.name: r.new for r in pyggml.quantize_file(src, tmp_path / "y.gguf", recipe)}
    assert [kinds[f"blk.{i}.ffn_down.weight"] for i in range(3)] == ["f16", "q5_k", "f16"]
    assert kinds["blk.1.ffn_up.weight"] == kinds["blk.1.ffn_gate.weight"] == "q4_0"
    assert kinds["blk.1.attn_v.weight"] == "q6_k"
    assert kinds["blk.1.attn_q.weight"] == "q5_k"
    assert kinds["token_embd.weight"] == "q8_0"


def test_round_trip():
    recipe = parse_recipe(TEXT)
    assert parse_recipe(recipe.to_toml()) == recipe
    odd = Recipe("Q4_0", [Rule(r"a\.b'\"x", "q8_0")], note="say \"so\"\nand 'so' \U0001f600")
    assert parse_recipe(odd.to_toml()) == odd


@pytest.mark.parametrize(
    ("text", "say"),
    [
        ("base = ", "no TOML"),
        ("bass = 'Q4_0'", "did you mean base"),
        ("base = 4", "must be text"),
        ("types = 'q4_0'", "types must be a table"),
        ("[types]\nnorm = 3", "types must be a table"),
        ("[types]\nnorm = 'q9'", "unknown tensor type"),
        ("[[rules]]\nmatch = 'a'", "match, type"),
        ("rules = 3", r"\[\[rules\]\]"),
        ("[[rules]]\nmatch = '('\ntype = 'q4_0'", "regular expression"),
        ("[[rules]]\nmatch = 'a'\ntype = 'q4_0'\nlayers = 'some'", "first 4"),
        ("output = 'q4'", "unknown tensor type"),
        ("max_size = 'much'", "4GiB"),
        ("smaller = 'Q4_0'", "list of mixes"),
    ],
)
def test_what_is_refused(text, say):
    with pytest.raises(pyggml.ArgumentError, match=say):
        parse_recipe(text)


def test_layers_outside_of_types():
    told = parse_recipe("lm_head = 'q8_0'\nattention_query = 'W8A8'\nlayer_norm = 'FP32'\n[types]\nbias = 'f32'")
    assert told.output_type == "q8_0"
    assert told.rules == [Rule("attention_query", "q8_0"), Rule("layer_norm", "f32"), Rule("bias", "f32")]


def test_yaml(tmp_path, monkeypatch):
    path = tmp_path / "r.yaml"
    monkeypatch.setitem(sys.modules, "yaml", None)
    path.write_text("base: Q4_0")
    with pytest.raises(pyggml.UnsupportedError, match="pip install pyyaml"):
        pyggml.load_recipe(path)
    monkeypatch.undo()
    path.write_text(
        "base: Q4_0\nlm_head: q8_0\ntypes:\n  attention_query: FP16\nrules:\n- match: ffn_up\n  type: q5_k\n"
        "  layers: first 4\nkeep:\n  layer_norm: f32\n  router:\n"
    )
    assert pyggml.load_recipe(path) == Recipe(
        "Q4_0", [Rule("ffn_up", "q5_k", "first 4"), Rule("attention_query", "f16")],
        [Rule("layer_norm", "f32"), Rule("router")], "q8_0",
    )  # fmt: skip
    for text, say in (("a: [", "no YAML"), ("- 3", "expected lines"), ("", "expected lines"), ("bass: 3", "mean base")):
        path.write_text(text)
        with pytest.raises(pyggml.ArgumentError, match=say):
            pyggml.load_recipe(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(pyggml.ArgumentError, match=r"no\.toml"):
        pyggml.load_recipe(tmp_path / "no.toml")


def test_layer_numbers():
    assert layer_numbers("0-3,8", 6) == [0, 1, 2, 3]
    assert layer_numbers("last 2", 6) == [4, 5]
    assert layer_numbers("first 9", 3) == [0, 1, 2]
    assert layer_numbers("-2 - -1", 6) == [4, 5]
    assert layer_numbers("2..3", 6) == [2, 3]
    for bad in ("4-2", "x", "", "first"):
        with pytest.raises(pyggml.ArgumentError):
            layer_numbers(bad, 6)


def test_layer_names_mean_what_they_say():
    names = ["token_embd", "output", "blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v", "blk.0.attn_output",
             "blk.0.ffn_gate", "blk.0.ffn_gate_exps", "blk.0.ffn_gate_inp", "blk.0.ffn_down_shexp", "blk.0.attn_norm",
             "output_norm", "blk.0.attn_q_norm"]  # fmt: skip

    def meant(word):
        return {n for n in names if Rule(word).matcher(1)(f"{n}.weight")}

    assert meant("embedding") == {"token_embd"}
    assert meant("lm_head") == {"output"}
    assert meant("attention_query") == {"blk.0.attn_q"}
    assert meant("attention_output") == {"blk.0.attn_output"}
    assert meant("attention") == {"blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v", "blk.0.attn_output"}
    assert meant("feed_forward_gate") == {"blk.0.ffn_gate", "blk.0.ffn_gate_exps"}
    assert meant("router") == {"blk.0.ffn_gate_inp"}
    assert meant("layer_norm") == {"blk.0.attn_norm", "output_norm", "blk.0.attn_q_norm"}
    assert all(Rule(word) for word in LAYER_NAMES)


@pytest.mark.parametrize("use", ["mobile", "server", "research", "max-quality"])
@pytest.mark.parametrize("hardware", ["cpu", "ARM", "gpu"])
def test_strategies_make_files(tmp_path, use, hardware):
    src = tiny.write(tmp_path / "x.gguf", n_embd=256, n_head=8, head_dim=32, n_ff=256, n_layer=3).path
    recipe = pyggml.strategy(use, hardware=hardware)
    assert recipe.note
    assert parse_recipe(recipe.to_toml()) == recipe
    whole = sum(r.nbytes for r in pyggml.quantize_file(src, "", recipe, dry_run=True))
    small = pyggml.strategy(use, memory=int(whole * 0.95 / 0.75), hardware=hardware)
    rows = pyggml.quantize_file(src, "", small, dry_run=True)
    assert sum(r.nbytes for r in rows) <= 0.96 * whole


def test_a_strategy_that_cannot_fit_says_so(tmp_path):
    src = tiny.write(tmp_path / "x.gguf").path
    with pytest.raises(pyggml.ArgumentError, match="the smallest"):
        pyggml.quantize_file(src, "", pyggml.strategy("mobile", memory="10K"), dry_run=True)
    for bad in (dict(use="desk"), dict(hardware="toaster"), dict(memory="4 apples")):
        with pytest.raises(pyggml.ArgumentError):
            pyggml.strategy(**bad)


@pytest.mark.parametrize("name", ["r.toml", "r.yaml"])
@pytest.mark.parametrize("text", ["", "\n# nothing but words\n"])
def test_a_file_that_says_nothing_is_no_recipe(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(pyggml.ArgumentError, match=rf"{name}.*(says nothing; .* a line like|expected lines like) base"):
        pyggml.load_recipe(tmp_path / name)


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("Q8_0", dict(keep=[Rule("ffn_down")])),
        ("Q4_K_M", dict(keep=[Rule("output")], output_type="q8_0")),
        ("Q4_0", dict(keep={"norm": "f16"}, rules={"router": "q8_0"})),
        ("pure:q5_0", dict(rules={"attention_key": "f16"})),
        ("COPY", dict(rules={"ffn_up": "q8_0"}, embedding_type="q6_k")),
        (Recipe("Q8_0", [Rule("ffn_up", "f16")], max_size=1_000_000, smaller=["Q4_K_S", "Q2_K"]), {}),
        ("F16", {}),
    ],
)
def test_the_recipe_of_what_was_chosen_makes_the_same_file(recipe, more, tmp_path):
    src = tiny.write(
        tmp_path / "x.gguf", "qwen2moe", n_embd=256, n_head=8, head_dim=32, n_ff=64, n_expert=3, n_expert_used=2,
        n_ff_shared=256,
    ).path  # fmt: skip
    rows = pyggml.quantize_file(src, tmp_path / "a.gguf", recipe, **more)
    assert any(r.new != r.old for r in rows)
    (tmp_path / "r.toml").write_text(rows.recipe.to_toml())
    again = pyggml.quantize_file(src, tmp_path / "b.gguf", pyggml.load_recipe(tmp_path / "r.toml"))
    assert [(r.name, r.new) for r in again] == [(r.name, r.new) for r in rows]
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


@pytest.mark.parametrize("options", ["Q8_0 --keep ffn_down", "--leave-output-tensor", "--keep-norm f16", "q4_0 --pure"])
def test_the_command_saves_what_was_chosen(options, tmp_path):
    src = tiny.write(tmp_path / "x.gguf", n_embd=256, n_head=8, head_dim=32, n_ff=256).path
    for command in (f"{tmp_path}/a.gguf {options} --save-recipe {tmp_path}/r.toml",
                    f"{tmp_path}/b.gguf --recipe {tmp_path}/r.toml"):  # fmt: skip
        done = CliRunner().invoke(app, ["quantize", str(src), *command.split()], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_what_the_call_says_holds_in_a_smaller_mix(tmp_path, caplog):
    src = tiny.write(tmp_path / "x.gguf", n_embd=256, n_head=8, head_dim=32, n_ff=256, n_layer=2).path
    own = dict(rules={"ffn_down": "f32"}, keep={"attention_key": "f16"}, output_type="q5_1", embedding_type="q8_0")
    big, small = (
        sum(r.nbytes for r in pyggml.quantize_file(src, "", base, **own, dry_run=True)) for base in ("Q8_0", "Q2_K")
    )
    recipe = Recipe("Q8_0", [Rule("ffn_up", "f32")], max_size=(big + small) // 2, smaller=["Q6_K", "Q2_K"])
    rows = pyggml.quantize_file(src, "", recipe, **own, dry_run=True)
    assert sum(r.nbytes for r in rows) <= recipe.max_size
    kinds = {r.name: r.new for r in rows}
    assert kinds["blk.1.ffn_down.weight"] == "f32"
    assert kinds["blk.1.attn_k.weight"] == "f16"
    assert kinds["output.weight"] == "q5_1"
    assert kinds["token_embd.weight"] == "q8_0"
    assert kinds["blk.1.ffn_up.weight"] != "f32"
    assert "without the recipe's own rules" in caplog.text
    caplog.clear()
    recipe.rules = []
    assert {r.name: r.new for r in pyggml.quantize_file(src, "", recipe, **own, dry_run=True)} == kinds
    assert caplog.text == ""
