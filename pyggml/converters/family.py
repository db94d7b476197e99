"""How a family of models is described to the converter: names by table, changes of rows by table, metadata by rule.

config.json is read through config_json.py, its rope through ropes.py.

A table row is "layers.#.self_attn.q_proj": "blk.#.attn_q": # stands for a number, .weight and .bias go along. A source
name with one number more than its target is one expert of a stack. The tables themselves are in families/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters.config_json import Config as Config
from pyggml.converters.meaning import SILU, Values, activation
from pyggml.converters.ropes import Meta as Meta
from pyggml.converters.stored import Stored
from pyggml.errors import GGUFError, PyggmlError

_NUMBER = re.compile(r"\.(\d+)(?=\.|$)")
_ENDS = re.compile(r"\.(weight|bias)$")
_WHOLE = (".bias", ".scale", ".ssm_a", ".ssm_d")  # ends of targets with nothing behind them
_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|base_layer)\."
)
"""What torch.compile, DDP, FSDP, checkpointing and PEFT put into the path of a tensor, wherever it stands."""
_NESTINGS = ("base_model.model.", "model.language_model.", "language_model.model.", "language_model.", "text_model.",
             "model.", "transformer.", "bert.", "roberta.", "gpt_neox.", "backbone.")  # fmt: skip
"""Models inside of models: taken off the front, one after another, until the name is known."""


@dataclass(frozen=True)
class Change:
    """What happens to a tensor on the way into a GGUF, and back. floats: it computes, so it needs real floats."""

    there: Callable[[NDArray[Any], Config], NDArray[Any]]
    back: Callable[[NDArray[Any], Config], NDArray[Any]] | None = None
    floats: bool = False


@dataclass(frozen=True)
class Family:
    """One architecture. names: stem -> stem or several stems; change: by target stem without its block number.

    computes: keys of config.json -> the values the architecture computes in any case. defaults: what transformers takes
    for keys that config.json does not have. bare: stems that are stored without .weight behind them. vocabulary: the
    model of the tokenizer, where the architecture has one of its own. ahead: layers behind the last one predict further
    tokens, and are left out. spelled: numbers -> the family's own words for them in config.json. instead: the name of
    another family, whose architecture computes what a config.json asks for ("": none). read: metadata that a checkpoint
    keeps in tensors, which skip leaves out.

    The way back: words, keys of config.json by the ending of their GGUF key, beside or instead of those that all have;
    biases, key of config.json -> the matrices that it gives biases (None: nobody looks); stored, key -> the stem of the
    tensor of a layer that it gives; back, the last word over the config.json, told the metadata by ending; kept, the
    tensors of what read makes of them, by their whole names; prefix, what stands before tensors' names; named, its
    class.
    """

    arch: str
    names: Mapping[str, str | tuple[str, ...]]
    metadata: Callable[[Config], Meta]
    change: Mapping[str, Change] = field(default_factory=dict)
    skip: str = r"rotary_emb\.inv_freq$|(attn|attention)\.(masked_)?bias$|position_ids$"
    extra: Callable[[Config], dict[str, NDArray[np.float32]]] = lambda c: {}
    model_type: str = ""
    computes: Mapping[str, Values] = field(default_factory=lambda: activation(*SILU))
    defaults: Mapping[str, Any] = field(default_factory=dict)
    bare: Collection[str] = ()
    vocabulary: str = ""
    ahead: bool = False
    read: Callable[[Mapping[str, Stored], Config], Meta] = lambda tensors, c: {}
    spelled: Mapping[str, str] = field(default_factory=dict)
    instead: Callable[[Config], str] = lambda c: ""
    prefix: str = "model."
    named: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    biases: Mapping[str, Collection[str]] | None = None
    stored: Mapping[str, str] = field(default_factory=dict)
    back: Callable[[Mapping[str, Any], dict[str, Any]], dict[str, Any]] = lambda said, config: config
    kept: Callable[[Mapping[str, Any], Config], dict[str, NDArray[np.float32]]] = lambda said, c: {}

    def targets(self, name: str) -> list[tuple[str, int | None]] | None:
        """A source's name -> (target name, expert) pairs; [] where it is left out on purpose, None if unknown."""
        plain = _WRAPPERS.sub("", name)
        while True:
            if re.search(self.skip, plain):
                return []
            end = _ENDS.search(plain)
            stem = plain[: end.start()] if end else plain
            to = self.names.get(_NUMBER.sub(".#", stem))
            nesting = next((each for each in _NESTINGS if plain.startswith(each)), None)
            if to is not None or nesting is None:
                break
            plain = plain[len(nesting) :]
        if to is None:
            return None
        numbers = [int(n) for n in _NUMBER.findall(stem)]
        found: list[tuple[str, int | None]] = []
        for pattern in (to,) if isinstance(to, str) else to:
            slots = pattern.count("#")
            target = pattern
            for number in numbers[:slots]:
                target = target.replace("#", str(number), 1)
            expert = numbers[slots] if len(numbers) > slots else None
            told = end.group() if end else "" if target.endswith(_WHOLE) else ".weight"
            found.append((target + told, expert))
        return found

    def of_config(self, c: Config) -> tuple[dict[str, NDArray[np.float32]], Meta]:
        """Tensors and metadata that follow from config.json. Raises GGUFError where its numbers make no sense."""
        try:
            return self.extra(c), self.metadata(c)
        except PyggmlError:
            raise
        except (ArithmeticError, ValueError) as e:
            raise GGUFError(f"{c.where}: its numbers make no sense together: {e}") from e

    def change_of(self, target: str) -> Change | None:
        """The change of a tensor by its GGUF name: of the whole name first, then of the stem."""
        plain = re.sub(r"^blk\.\d+\.", "", target)
        return self.change.get(plain) or self.change.get(_ENDS.sub("", plain))


ATTENTION, MLP = ("attn_q", "attn_k", "attn_v", "attn_output"), ("ffn_gate", "ffn_up", "ffn_down")
"""Stems of matrices that one key of a config.json gives biases."""


def heads_to_pairs(rows: NDArray[Any], n_head: int) -> NDArray[Any]:
    """Rows of rope halves (i, i + d/2) -> neighbouring pairs (2i, 2i + 1), head by head."""
    return np.ascontiguousarray(rows.reshape(n_head, 2, -1, *rows.shape[1:]).swapaxes(1, 2)).reshape(rows.shape)


def pairs_to_heads(rows: NDArray[Any], n_head: int) -> NDArray[Any]:
    """The inverse of heads_to_pairs."""
    return np.ascontiguousarray(rows.reshape(n_head, -1, 2, *rows.shape[1:]).swapaxes(1, 2)).reshape(rows.shape)


ROPE_PAIRS = {
    "attn_q": Change(lambda w, c: heads_to_pairs(w, c.n_head), lambda w, c: pairs_to_heads(w, c.n_head)),
    "attn_k": Change(lambda w, c: heads_to_pairs(w, c.n_head_kv), lambda w, c: pairs_to_heads(w, c.n_head_kv)),
}
"""Q and K of architectures whose GGUF form turns neighbouring pairs."""

TURNED = Change(lambda w, c: np.ascontiguousarray(w.T), lambda w, c: np.ascontiguousarray(w.T))
"""A matrix stored (in, out)."""

ONE_MORE = Change(lambda w, c: w + np.float32(1), lambda w, c: w - np.float32(1), floats=True)
"""A norm whose weight is stored minus one."""


TAPS = Change(lambda w, c: w.reshape(w.shape[0], w.shape[-1]), lambda w, c: w[:, None])
"""A convolution of each column by itself, (c, 1, taps) -> (c, taps)."""


def minus_exp(w: NDArray[Any]) -> NDArray[Any]:
    """In doubles: rounded once, and found again on the way back."""
    return (-np.exp(w.astype(np.float64))).astype(np.float32)


def log_of_minus(w: NDArray[Any]) -> NDArray[Any]:
    """The inverse of minus_exp."""
    if (w > 0).any():
        raise GGUFError("ssm_a has values above 0: no A_log makes them")
    with np.errstate(divide="ignore"):
        return np.log(-w.astype(np.float64)).astype(np.float32)


DECAY = Change(lambda w, c: minus_exp(w), lambda w, c: log_of_minus(w), floats=True)
"""What states decay by, stored as a logarithm."""


JOINED_EXPERTS: dict[str, str | tuple[str, ...]] = {
    "layers.#.mlp.experts.gate_up_proj": ("blk.#.ffn_gate_exps", "blk.#.ffn_up_exps"),
    "layers.#.mlp.experts.down_proj": "blk.#.ffn_down_exps",
}
"""Experts as transformers 5 holds them in memory: one tensor for all, gate and up one under another."""


def _half(second: bool, ndim: int) -> Change:
    def there(w: NDArray[Any], c: Config) -> NDArray[Any]:
        if w.ndim != ndim:
            return w  # one expert, stored on its own
        n = w.shape[-2] // 2
        return w[..., n:, :] if second else w[..., :n, :]

    return Change(there, lambda w, c: w)


SPLIT_EXPERTS = {"ffn_gate_exps": _half(False, 3), "ffn_up_exps": _half(True, 3)}
"""What JOINED_EXPERTS asks for."""


def split(end: str = "") -> dict[str, Change]:
    """The same for one gated feed-forward whose stems end so."""
    return {f"ffn_gate{end}": _half(False, 2), f"ffn_up{end}": _half(True, 2)}


def decoder(
    c: Config,
    arch: str,
    head_dim: bool = True,
    n_ff: int | None = None,
    layer_norm: bool = False,
    n_layer: int | None = None,
) -> Meta:
    """The keys that every decoder has. head_dim: whether they say the width of a head in any case; n_ff: of the
    feed-forwards, where intermediate_size is no number. A model of experts alone may have none. layer_norm: its norms
    are no RMS norms. n_layer: where num_hidden_layers need not say."""
    meta: Meta = {
        f"{arch}.block_count": (c.n_layer if n_layer is None else n_layer, "u32"),
        f"{arch}.context_length": (c.n_ctx, "u32"),
        f"{arch}.embedding_length": (c.n_embd, "u32"),
        f"{arch}.attention.head_count": (c.n_head, "u32"),
        f"{arch}.attention.head_count_kv": (c.n_head_kv, "u32"),
    }
    if layer_norm:
        meta[f"{arch}.attention.layer_norm_epsilon"] = (c.number("layer_norm_eps"), "f32")
    else:
        meta[f"{arch}.attention.layer_norm_rms_epsilon"] = (c.number("rms_norm_eps", default=1e-6), "f32")
    if n_ff is not None or c.get("intermediate_size") is not None or c.get("moe_intermediate_size") is None:
        meta[f"{arch}.feed_forward_length"] = (c.count("intermediate_size") if n_ff is None else n_ff, "u32")
    if c.get("head_dim") is not None and (head_dim or c.head_dim != c.n_embd // c.n_head):
        meta[f"{arch}.attention.key_length"] = (c.head_dim, "u32")
        meta[f"{arch}.attention.value_length"] = (c.head_dim, "u32")
    return meta
