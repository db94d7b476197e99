"""How long a context is: what was asked for, trained for, computed as the file says, and what memory there is."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from pyggml import _native
from pyggml.config import Config
from pyggml.errors import UnsupportedError

log = logging.getLogger("pyggml")

MAX_CTX = 1 << 30
_LEAST = 512  # positions that are never given up for memory


def exact(config: Config, wanted: int | None, n_ctx: int, near: int = 0) -> int:
    """wanted or the trained context, but no more than n_ctx, up to which it is computed as the file says (0: any is).

    near: a longer context is turned by other factors (LongRoPE), whatever the text's length; who wants one says so.

    Raises UnsupportedError where more than that is wanted.
    """
    found = wanted or config.n_ctx_train
    if near and wanted is None and near < found:
        log.info("n_ctx is %d of %d: say n_ctx= for a longer one, whose positions turn by other factors", near, found)
        found = near
    if not n_ctx or found <= n_ctx:
        return found
    keys = ", ".join(f"{each.key} = {each.shown}" for each in config.said if each.n_ctx == n_ctx)
    if wanted is not None and not keys:
        raise UnsupportedError(f"n_ctx {wanted}: the model has learned {n_ctx} positions and knows no others")
    if wanted is not None:
        raise UnsupportedError(
            f"n_ctx {wanted}: the file says {keys}, and architecture {config.arch} lets every token see all "
            f"before it; up to n_ctx={n_ctx} that is the same"
        )
    keys = keys or "its table of positions"
    log.info("n_ctx is %d, because of %s", n_ctx, keys)
    return n_ctx


def fitting(config: Config, n_ctx: int, cache_of: Callable[[int], int]) -> int:
    """n_ctx, halved until a cache takes no more than half of the free memory; cache_of: bytes of so many positions."""
    free = free_memory()
    while free and n_ctx > _LEAST and cache_of(n_ctx) > free // 2:
        n_ctx //= 2
    if n_ctx < config.n_ctx_train:
        log.info("n_ctx is %d of %d so that the cache fits into memory", n_ctx, config.n_ctx_train)
    return n_ctx


def free_memory() -> int:
    """Bytes that can be had without swapping; 0 where the system does not say."""
    try:  # not by open(), which is gone when the interpreter ends and an object that is dropped then loads a model
        held = _native.Descriptor("/proc/meminfo", os.O_RDONLY)
        said = os.read(held.fd, 1 << 14)
    except OSError:  # no /proc: another system, which says 0 as documented
        return 0
    for line in said.splitlines():
        if line.startswith(b"MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
