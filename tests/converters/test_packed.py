"""Weights of 8 bits beside their scales are multiplied out; packed weights and adapters are refused with their cure."""

from __future__ import annotations

import json

import numpy as np
import pytest
from converters import checkpoint
from converters.test_convert import decoded, expected

import pyggml
from pyggml import gguf
from pyggml.converters import safetensors
from pyggml.converters.stored import f32


def e4m3(code: int) -> float:
    """The value of a code by the definition: sign, 4 bits of exponent around 7, 3 of mantissa; 0x7f is NaN."""
    sign, exponent, mantissa = -1.0 if code & 128 else 1.0, code >> 3 & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return float("nan")
    return sign * (mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))


E4M3 = np.array([e4m3(code) for code in range(256)], np.float32)
E5M2 = np.arange(256, dtype=np.uint16).__lshift__(8).view(np.float16).astype(np.float32)  # the upper half of an F16
FINITE = [code for code in range(256) if code & 127 not in (124, 125, 126, 127)]


def write(path, weights, extra):
    """model.safetensors of float weights and (name, dtype) -> array of codes."""
    rows = [(name, w.shape, "f32", lambda w=w: w) for name, w in weights.items()]
    rows += [(name, w.shape, kind, lambda w=w: w) for (name, kind), w in extra.items()]
    safetensors.write(str(path / "model.safetensors"), rows)


def converted(tmp_path, quantization, codes, table, kind, scale, spread, suffix, **more):
    """Converts a model one of whose matrices is scaled; returns it as stored and as it should be."""
    src = checkpoint.folder(tmp_path / "src", {**checkpoint.CONFIG, "quantization_config": quantization})
    weights = checkpoint.tensors()
    name = "model.layers.0.mlp.up_proj.weight"
    del weights[name]
    parts = {(name, kind): codes, (name + suffix, "f32"): scale}
    parts |= {(name.replace(".weight", "") + key, "f32"): value for key, value in more.items()}
    write(src, weights, parts)
    pyggml.convert(src, tmp_path / "x.gguf")
    return decoded(tmp_path / "x.gguf"), table[codes] * spread


rng = np.random.default_rng(5)
CODES = rng.choice(FINITE, (96, 64)).astype(np.uint8)
INT8 = rng.integers(-127, 128, (96, 64)).astype(np.int8)
SCALES = rng.uniform(0.01, 0.2, (96, 64)).astype(np.float32)
BLOCKS = {"quant_method": "fp8", "weight_block_size": [32, 16], "activation_scheme": "dynamic"}
FLOATS = {"quant_method": "compressed-tensors", "format": "float-quantized"}

KINDS = {
    "blocks": (BLOCKS, CODES, E4M3, "f8_e4m3", SCALES[:3, :4], np.kron(SCALES[:3, :4], np.ones((32, 16), np.float32)),
               "_scale_inv"),
    "blocks that stand over": ({**BLOCKS, "weight_block_size": [40, 48]}, CODES, E4M3, "f8_e4m3", SCALES[:3, :2],
                               np.kron(SCALES[:3, :2], np.ones((40, 48), np.float32))[:96, :64], "_scale_inv"),
    "one block of 128": ({"quant_method": "fp8"}, CODES, E4M3, "f8_e4m3", SCALES[:1, :1], SCALES[0, 0], "_scale_inv"),
    "e5m2": (BLOCKS, CODES, E5M2, "f8_e5m2", SCALES[:3, :4], np.kron(SCALES[:3, :4], np.ones((32, 16), np.float32)),
             "_scale_inv"),
    "tensor": (FLOATS, CODES, E4M3, "f8_e4m3", SCALES[0, :1], SCALES[0, 0], "_scale"),
    "channel": (FLOATS, CODES, E4M3, "f8_e4m3", SCALES[:, :1], SCALES[:, :1], "_scale"),
    "row": ({"quant_method": "fbgemm_fp8"}, CODES, E4M3, "f8_e4m3", SCALES[:, 0], SCALES[:, :1], "_scale"),
    "group": (FLOATS, CODES, E4M3, "f8_e4m3", SCALES[:, :4], np.repeat(SCALES[:, :4], 16, 1), "_scale"),
    "modelopt": ({"quant_method": "modelopt", "quant_algo": "FP8"}, CODES, E4M3, "f8_e4m3", SCALES[0, :1],
                 SCALES[0, 0], "_scale"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_scaled_weights(kind, tmp_path):
    got, want = converted(tmp_path, *KINDS[kind], **{".input_scale": np.ones(1, np.float32)})
    assert np.array_equal(got.pop("blk.0.ffn_up.weight"), want.astype(np.float32))
    rest = expected()
    del rest["blk.0.ffn_up.weight"]
    assert got.keys() == rest.keys()
    assert all(np.array_equal(got[name], w) for name, w in rest.items())


def test_int8_and_its_zero_points(tmp_path):
    settings = {**FLOATS, "format": "int-quantized"}
    zero = rng.integers(-3, 4, (96, 1)).astype(np.float32)
    src = checkpoint.folder(tmp_path / "src", {**checkpoint.CONFIG, "quantization_config": settings})
    weights = checkpoint.tensors()
    name = "model.layers.1.self_attn.o_proj.weight"
    del weights[name]
    codes, zero, scale = INT8[:64], zero[:64], SCALES[:64, :1]
    write(src, weights, {(name, "i8"): codes, (name + "_scale", "f32"): scale, (name + "_zero_point", "f32"): zero})
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    want = (codes.astype(np.float32) - zero) * scale
    assert np.array_equal(decoded(tmp_path / "x.gguf")["blk.1.attn_output.weight"], want)


def test_floats_of_8_bits_without_scales(tmp_path):
    """As a plain cast leaves them; all codes that are numbers."""
    src = checkpoint.folder(tmp_path / "src")
    weights = checkpoint.tensors()
    name = "model.layers.0.mlp.up_proj.weight"
    del weights[name]
    write(src, weights, {(name, "f8_e4m3"): CODES})
    pyggml.convert(src, tmp_path / "x.gguf", dtype="bf16")
    with gguf.open(tmp_path / "x.gguf") as file:
        assert file.tensors["blk.0.ffn_up.weight"].type.name == "bf16"
    assert np.array_equal(decoded(tmp_path / "x.gguf")["blk.0.ffn_up.weight"], E4M3[CODES])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_codes_as_torch_reads_them(name, tmp_path):
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    codes = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name)).reshape(4, 64)
    scale = (2.0 ** torch.arange(-2, 2)).to(torch.float8_e8m0fnu).reshape(4, 1)
    save_file({"codes": codes, "scale": scale}, str(tmp_path / "x.safetensors"))
    found = safetensors.read(str(tmp_path / "x.safetensors"))
    for key, want in (("codes", codes), ("scale", scale)):
        np.testing.assert_array_equal(f32(found[key].read(), found[key].dtype), want.float().numpy())


@pytest.mark.parametrize("shape", [(2, 4), (5, 1), (96, 64, 1), (64,), (0, 4)])
def test_scales_that_do_not_fit(shape, tmp_path):
    with pytest.raises(pyggml.GGUFError, match="one for each block"):
        converted(tmp_path, {**BLOCKS, "weight_block_size": [7, 16]}, CODES, E4M3, "f8_e4m3",
                  np.ones(shape, np.float32), 1.0, "_scale_inv")  # fmt: skip


def test_a_scale_that_is_missing(tmp_path):
    with pytest.raises(pyggml.GGUFError, match=r"up_proj.weight_scale_inv' is missing"):
        converted(tmp_path, BLOCKS, CODES, E4M3, "f8_e4m3", SCALES[:1], 1.0, "_nothing")
    with pytest.raises(pyggml.GGUFError, match="block size"):
        converted(tmp_path, {**BLOCKS, "weight_block_size": [0]}, CODES, E4M3, "f8_e4m3", SCALES[:1], 1.0, "_scale_inv")


PACKED = [
    ({"quant_method": "gptq", "bits": 4}, "GPTQ"), ({"quant_method": "awq"}, "AWQ"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, r"bitsandbytes"),
    ({"load_in_8bit": True}, "bitsandbytes"), ({"quant_method": "mxfp4"}, "MXFP4"),
    ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "compressed-tensors.*pack-quantized"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "modelopt.*nvfp4"), ({"quant_method": "new"}, "new"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "named"), PACKED, ids=[n for _, n in PACKED])
def test_packed_weights_are_named(settings, named, tmp_path):
    src = checkpoint.folder(tmp_path / "src", {**checkpoint.CONFIG, "quantization_config": settings})
    weights = checkpoint.tensors()
    del weights["model.layers.0.mlp.up_proj.weight"]
    write(src, weights, {("model.layers.0.mlp.up_proj.qweight", "i32"): np.zeros((8, 96), np.int32)})
    with pytest.raises(
        pyggml.UnsupportedError, match=f"packed by.*{named}.*Convert the model that it was made from, or "
    ):
        pyggml.convert(src, tmp_path / "x.gguf")


def test_adapters_are_to_be_merged(tmp_path):
    src = checkpoint.folder(tmp_path / "src")
    lora = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": np.ones((2, 64), np.float32)}
    checkpoint.safetensors(src / "adapter_model.safetensors", lora)
    with pytest.raises(pyggml.UnsupportedError, match="merge_and_unload"):
        pyggml.convert(src, tmp_path / "x.gguf")
    (src / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    (src / "config.json").unlink()
    for path in (src, src / "adapter_model.safetensors"):
        with pytest.raises(pyggml.UnsupportedError, match=r"org/base.*merge_and_unload"):
            pyggml.convert(path, tmp_path / "x.gguf")
