"""Weights that are not plain floats: scaled ones (FP8, INT8) are multiplied out, packed ones and adapters are refused.

A scaled weight is X.weight of 8 bits beside X.weight_scale_inv or X.weight_scale: one number for the tensor, one for
each row, or one for each block (128 x 128 unless config.json says another size). Weight times scale, in float32, is the
model's weight. Sources: transformers/integrations/finegrained_fp8.py, compressed-tensors, TensorRT Model Optimizer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters import mxfp4
from pyggml.converters.config_json import Config
from pyggml.converters.stored import FLOATS, Stored, f32
from pyggml.errors import GGUFError, UnsupportedError
from pyggml.shown import clip

log = logging.getLogger("pyggml")

_EIGHT_BITS = ("f8_e4m3", "f8_e5m2", "i8")
_SCALES = ("_scale_inv", "_scale")
_OF_ACTIVATIONS = re.compile(
    r"\.(?:input|output|activation|q|k|v)_(?:scale|scale_inv|zero_point|global_scale)$|\.weight_shape$"
)
_BLOCK = (128, 128)
_ADAPTER = re.compile(r"\.lora_(?:A|B|embedding_A|embedding_B|magnitude_vector)\b|\.(?:vera|oft|ia3|hada|lokr)_\w+\b")

_PACKED = {
    "gptq": "GPTQ", "awq": "AWQ", "bitsandbytes": "bitsandbytes", "hqq": "HQQ", "aqlm": "AQLM", "quip": "QuIP#",
    "eetq": "EETQ", "quanto": "Quanto", "torchao": "torchao", "higgs": "HIGGS", "spqr": "SpQR", "vptq": "VPTQ",
    "mxfp4": "MXFP4", "bitnet": "BitNet", "auto-round": "AutoRound", "intel/auto-round": "AutoRound",
    "exl2": "ExLlamaV2", "exl3": "ExLlamaV3", "fp_quant": "FP-Quant", "sinq": "SINQ", "quark": "Quark",
}  # fmt: skip
_UNPACK = {
    "bitsandbytes": "or unpack it: AutoModelForCausalLM.from_pretrained(folder).dequantize().save_pretrained(new)",
    "mxfp4": "or unpack it: from_pretrained(folder, quantization_config=Mxfp4Config(dequantize=True))",
}
_PLAIN_FORMATS = ("float-quantized", "naive-quantized", "int-quantized", "dense")


def plain(tensors: dict[str, Stored], c: Config) -> dict[str, Stored]:
    """The tensors with every scaled weight multiplied out (float32) and without the scales.

    Raises UnsupportedError, with what to do, for packed weights and for adapters; GGUFError for scales that do not fit.
    """
    adapter = next((name for name in tensors if _ADAPTER.search(name)), None)
    if adapter is not None:
        raise UnsupportedError(f"tensor {clip(adapter)} belongs to an adapter (LoRA or its like). {merge_first('')}")
    settings = c.get("quantization_config", "compression_config")
    if isinstance(settings, Mapping) and settings.get("quant_method") == "mxfp4" and mxfp4.held(tensors):
        return mxfp4.unpacked(tensors)
    block = _judged(settings, c)
    made: dict[str, Stored] = {}
    used: set[str] = set()
    for name, stored in tensors.items():
        if stored.dtype not in _EIGHT_BITS:
            continue
        beside = next((name + end for end in _SCALES if name + end in tensors), None)
        if beside is None:
            if stored.dtype == "i8":
                continue
            if settings is not None:
                raise GGUFError(f"tensor {clip(name)} holds {stored.dtype}, and {clip(name + _SCALES[0])} is missing")
            made[name] = replace(stored, dtype="f32", read=partial(_floats, stored))  # cast without a scale
            continue
        zero = tensors.get(name + "_zero_point")
        used |= {beside, name + "_zero_point"}
        made[name] = _scaled(stored, tensors[beside], zero, block)
    if not made:
        return tensors
    log.info("%d weights of 8 bits are multiplied out: they become f32 unless dtype says otherwise", len(made))
    return {
        name: made.get(name, stored)
        for name, stored in tensors.items()
        if name not in used and not _OF_ACTIVATIONS.search(name)
    }


def merge_first(base: str) -> str:
    """What to do with an adapter. base: the name of its base model, where it is known."""
    return (
        f"Merge it into its base model{f' {base}' if base else ''} first: "
        "peft.AutoPeftModelForCausalLM.from_pretrained(folder).merge_and_unload().save_pretrained(merged); then "
        "convert the merged folder"
    )


Block = tuple[int, int] | None
"""Rows and columns of a block, where config.json says them."""


def _judged(settings: Any, c: Config) -> Block:
    """The block size of the scales. Raises UnsupportedError for weights that are packed."""
    if settings is None:
        return None
    if not isinstance(settings, Mapping):
        raise GGUFError(f"{c.where}: quantization_config is {clip(settings)}, expected an object")
    method = str(settings.get("quant_method") or "").lower()
    if not method and (settings.get("load_in_4bit") or settings.get("load_in_8bit")):
        method = "bitsandbytes"
    layout = str(settings.get("format") or settings.get("quant_algo") or "").lower()
    if method in ("fp8", "fbgemm_fp8", "deepseek_fp8", "finegrained_fp8"):
        return _block_size(settings.get("weight_block_size"), c)
    if method == "modelopt" and layout in ("", "fp8", "fp8_pb_wo"):
        return None
    if method == "compressed-tensors" and (layout in _PLAIN_FORMATS or not layout):
        return _block_size(_structure(settings), c)
    name = _PACKED.get(method, clip(method or settings))
    raise UnsupportedError(
        f"{c.where}: quantization_config says that the weights were packed by {name}"
        f"{f' ({layout})' if layout else ''}, which is not read. Convert the model that it was made from, "
        f"{_UNPACK.get(method, 'or write plain weights with the library that packed it')}. If these weights are plain "
        "already, remove quantization_config"
    )


def _structure(settings: Mapping[str, Any]) -> Any:
    groups = settings.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping) and weights.get("block_structure") is not None:
            return weights["block_structure"]
    return None


def _block_size(said: Any, c: Config) -> Block:
    if said is None:
        return None
    if isinstance(said, list) and len(said) == 2 and all(type(n) is int and n > 0 for n in said):
        return said[0], said[1]
    raise GGUFError(
        f"{c.where}: the block size of the weights is {clip(said)}, expected two numbers such as [128, 128]"
    )


def _scaled(stored: Stored, scale: Stored, zero: Stored | None, block: Block) -> Stored:
    for each in (scale, zero):
        if each is not None and each.dtype not in (*FLOATS, "f8_e8m0", "i8", "i32"):
            raise GGUFError(f"tensor {clip(each.name)} holds {each.dtype}, expected the scales of {clip(stored.name)}")
    _check_fit(scale, stored, block)
    if zero is not None:
        _check_fit(zero, stored, block)

    def read() -> NDArray[np.float32]:
        values = _floats(stored)
        spread = partial(_spread, shape=stored.shape, block=block)
        if zero is not None:
            values = values - spread(_floats(zero))
        return values * spread(_floats(scale))

    return replace(stored, dtype="f32", read=read)


def _floats(stored: Stored) -> NDArray[np.float32]:
    return f32(stored.read(), stored.dtype)


def _check_fit(scale: Stored, stored: Stored, block: Block) -> None:
    shape = tuple(scale.shape)
    rows = stored.shape[-2] if len(stored.shape) > 1 else 0
    fits = (
        int(np.prod(shape, dtype=np.int64)) == 1 or shape == (rows,) or _steps(shape, stored.shape, block) is not None
    )
    if not fits or not stored.shape:
        raise GGUFError(
            f"tensor {clip(scale.name)} has the shape {list(shape)}; for {clip(stored.name)} of shape "
            f"{list(stored.shape)} expected one number, one for each row, or one for each block of "
            f"{list(block or _BLOCK)}"
        )


def _steps(shape: Sequence[int], of: Sequence[int], block: Block) -> tuple[int, int] | None:
    """How many rows and columns one scale covers; None where the shapes do not fit."""
    if len(shape) != len(of) or len(of) < 2 or tuple(shape[:-2]) != tuple(of[:-2]):
        return None
    steps = []
    for count, n, size in zip(shape[-2:], of[-2:], block or _BLOCK, strict=True):
        if count == 1:
            steps.append(n)
        elif count == -(-n // size):
            steps.append(size)
        elif block is None and count and n % count == 0:
            steps.append(n // count)
        else:
            return None
    return steps[0], steps[1]


def _spread(scale: NDArray[np.float32], shape: Sequence[int], block: Block) -> NDArray[np.float32]:
    """Scales as an array that multiplies a weight of the given shape."""
    if scale.size == 1:
        return scale.reshape(())
    if scale.ndim == 1:
        return scale[:, None]
    steps = _steps(scale.shape, shape, block)
    assert steps is not None
    wide = scale
    for axis, step in zip((-2, -1), steps, strict=True):
        if step != shape[axis]:
            wide = np.take(np.repeat(wide, step, axis=axis), range(shape[axis]), axis=axis)
    return wide
