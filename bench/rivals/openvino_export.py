"""Writes the OpenVINO model that openvino_genai.py measures: Llama-3.2-1B's shape, random, INT4 in groups of 128.

    python bench/rivals/openvino_export.py OUT_DIR

Needs an environment of its own (the export pins an old transformers):
    pip install torch openvino openvino-genai nncf 'optimum-intel==1.27.0' 'transformers==4.57.6'
About a minute and 10 GB of memory. Matrices are symmetric INT4 with one scale per 128, the embedding and
the head INT8, as optimum-intel chooses by default. No tokenizer is written: prompts are token ids.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path


def export(out: Path, group: int) -> None:
    """Random weights -> a Hugging Face folder -> OpenVINO IR with compressed weights."""
    import torch
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        tie_word_embeddings=True,
        bos_token_id=128000,
        eos_token_id=128001,
    )
    torch.manual_seed(0)
    folder = Path(tempfile.mkdtemp(prefix="pyggml-openvino-", dir=out.parent))
    try:
        torch.set_default_dtype(torch.bfloat16)
        LlamaForCausalLM(config).save_pretrained(folder)
        torch.set_default_dtype(torch.float32)
        how = OVWeightQuantizationConfig(bits=4, sym=True, group_size=group, ratio=1.0)
        model = OVModelForCausalLM.from_pretrained(folder, export=True, compile=False, quantization_config=how)
        model.save_pretrained(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--group", type=int, default=128, help="weights under one scale")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    export(args.out, args.group)
    nbytes = sum(f.stat().st_size for f in args.out.iterdir())
    print(f"{args.out}: {nbytes / 1e6:.1f} MB in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
