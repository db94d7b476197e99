"""Qwen2 / 2.5 and Qwen3, dense and by experts. Delta to llama: rope on halves; biases of q, k, v (Qwen2) and per-head
norms of q and k (Qwen3) come with their tensors. Qwen2's experts keep their weights as softmax made them and are joined
by a shared one; Qwen3's weights sum to 1. Papers: arXiv 2407.10671, 2505.09388.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyggml.arch import llama
from pyggml.graph import Graph, Node

if TYPE_CHECKING:
    from pyggml.config import Config
    from pyggml.engine.weights import Weights

NAMES = ("qwen2", "qwen2moe", "qwen3", "qwen3moe")


def build(g: Graph, c: Config, w: Weights) -> Node:
    """Token ids -> logits of the wanted rows.

    A sliding window is not asked for: it would be that of some layers, and no key says which.
    """
    norms = True if c.arch.startswith("qwen3") else None
    return llama.block(g, c, w, "neox", norms=norms, expert_norm=c.arch != "qwen2moe")
