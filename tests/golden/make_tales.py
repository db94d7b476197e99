"""Writes tales.json: prompt ids and the five likeliest next tokens of llama.cpp on the bundled model.

usage: python make_tales.py pyggml/data/tales.gguf
"""

import json
import sys
from pathlib import Path

import llama_cpp
import numpy as np

model = llama_cpp.Llama(sys.argv[1], n_ctx=256, n_threads=1, verbose=False, logits_all=True)
prompts = []
for prompt in (
    "Once upon a time",
    "The princess said to the",
    "In the middle of the dark forest there",
    '"Dear child," answered the',
):
    ids = model.tokenize(prompt.encode(), add_bos=True, special=True)
    model.reset()
    model.eval(ids)
    logits = np.asarray(model.scores[len(ids) - 1])
    prompts.append({"prompt": prompt, "prompt_ids": ids, "top": np.argsort(-logits)[:5].tolist()})
out = Path(__file__).with_name("tales.json")
out.write_text(json.dumps({"llama_cpp_python": llama_cpp.__version__, "prompts": prompts}) + "\n")
