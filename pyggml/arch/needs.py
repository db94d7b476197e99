"""What known architectures that cannot be run yet need beyond a llama block: the text of an error, nothing else."""

NEEDS = {
    "deepseek2": "latent attention (MLA), mixture of experts with shared experts, YaRN magnitude scaling",
    "falcon": "layer norm, parallel attention and feed-forward",
    "glm4moe": "mixture of experts with sigmoid router, partial rope",
    "gpt2": "layer norm, learned positions, fused QKV",
    "granitehybrid": "Mamba-2 scan, mixture of experts",
    "llama4": "chunked attention, layers without rope, sigmoid top-1 experts",
    "mamba": "selective state-space scan",
    "mistral3": "attention temperature scale, YaRN log multiplier",
    "qwen2vl": "multi-section rope, vision tower",
    "t5": "encoder-decoder attention with relative position bias",
}
