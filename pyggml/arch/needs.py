"""What known architectures that cannot be run yet need beyond a llama block: the text of an error, nothing else."""

NEEDS = {
    "bailingmoe2": "experts of groups behind fused QKV, not yet compared with a published model",
    "qwen2vl": "multi-section rope, vision tower",
    "smallthinker": "experts chosen before attention",
    "t5": "encoder-decoder attention with relative position bias",
}
