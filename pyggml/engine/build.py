"""The forward pass of a file, assembled: what a Model runs, recipes try with other weights, and estimate measures.

The only caller of arch.build. Judges what the file says of itself (architecture, vocabulary) against its tensors; reads
no weight but the few that are single rows.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyggml import _native, arch
from pyggml.arch.outputs import Outputs
from pyggml.config import MAX_VOCAB, Config
from pyggml.engine.weights import Progress, Source, Weights
from pyggml.errors import GGUFError
from pyggml.gguf import GGUFFile
from pyggml.graph import Graph

log = logging.getLogger("pyggml")

N_BATCH = 512
"""Most tokens computed at once; longer prompts are cut into such pieces."""
_PADDING = 1 << 16  # rows that a vocabulary may have beyond its tokens, or as many as it has tokens
_TOKENS = "tokenizer.ggml.tokens"


@dataclass(frozen=True, slots=True)
class Pass:
    """A forward pass that has no memory yet.

    outputs: the first is what steps return unless a session was made for another. n_vocab: columns of the logits, or
    rows of the embeddings where there are none. n_ctx: the longest context that is computed as the file says; 0: any
    is. causal: no token sees those behind it.
    """

    graph: Graph
    outputs: Outputs
    n_vocab: int
    n_ctx: int
    causal: bool

    def freeze(self, n_batch: int, n_ctx: int, keep_all: bool = False) -> _native.Plan:
        """The plan, laid out for pieces of at most n_batch tokens and sessions of at most n_ctx positions.

        Where tokens see those behind them, a piece holds as many as a session.
        """
        n_batch = n_batch if self.causal else n_ctx
        return self.graph.finish(self.outputs.nodes, min(n_batch, n_ctx), n_ctx, keep_all)


def build(
    file: GGUFFile,
    config: Config,
    graph: Graph | None = None,
    *,
    replaced: Mapping[str, Source] | None = None,
    copy: bool = False,
    progress: Progress | None = None,
) -> Pass:
    """The forward pass of file, whose numbers arch.config gave, with every tensor and every key that matters used.

    graph: where it is built; a new one by default. replaced: tensors in place of the file's. copy: weights in memory on
    huge pages, not in the map; progress(bytes_done, bytes_total) follows that. Raises UnsupportedError, GGUFError and
    ShapeError where file and architecture do not fit each other.
    """
    graph = Graph() if graph is None else graph
    tensors = {**file.tensors, **replaced} if replaced else file.tensors
    weights = Weights(tensors, config.n_layer, copy=copy, progress=progress)
    built = arch.build(graph, config, weights)
    logits = built.outputs.logits
    n_vocab = weights["token_embd.weight"].rows if logits is None else logits.cols
    return Pass(graph, built.outputs, n_vocab, built.n_ctx, config.causal)


def check_vocab(metadata: Any, n_vocab: int) -> None:
    """Rows of the embedding and the output (they are as many) against the tokens that the file lists.

    Raises GGUFError where they cannot belong to each other.
    """
    n = (metadata.array_length(_TOKENS) if _TOKENS in metadata else 0) or 0
    if n > n_vocab:
        _check_beyond(metadata, n, n_vocab)
    most = max(2 * n, n + _PADDING) if n else MAX_VOCAB
    if n_vocab > most:
        raise GGUFError(
            f"token_embd.weight has {n_vocab} rows, expected at most {most} for "
            + (f"the {n} tokens that {_TOKENS} lists" if n else "any vocabulary")
        )


def _check_beyond(metadata: Mapping[str, Any], n: int, n_vocab: int) -> None:
    """Tokens without a row: only such as were added and never trained."""
    rows = f"{_TOKENS} lists {n} tokens, but the output has only {n_vocab} rows"
    types = metadata.get("tokenizer.ggml.token_type")
    rest = list(types[n_vocab:]) if isinstance(types, np.ndarray) and len(types) == n else []
    if not rest or not {2, 3, 4, 5}.issuperset(rest):  # pieces of words: not tokens added and never trained
        raise GGUFError(rows)
    log.warning("%s: the added tokens beyond them cannot be used", rows)
