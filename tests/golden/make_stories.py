"""Writes stories260K.json: the first 100 greedy tokens of llama.cpp (llama-cpp-python) on stories260K.gguf.

usage: python make_stories.py stories260K.gguf
"""

import json
import sys
from pathlib import Path

import llama_cpp

model = llama_cpp.Llama(sys.argv[1], n_ctx=512, n_threads=1, verbose=False, logits_all=False)
prompts = []
for prompt in ("", "Once upon a time", "Lily and Tom went to the park"):
    ids = model.tokenize(prompt.encode(), add_bos=True, special=True)
    made = []
    for token in model.generate(ids, temp=0.0):
        made.append(int(token))
        if len(made) == 100:
            break
    prompts.append({"prompt": prompt, "prompt_ids": ids, "ids": made})
out = Path(__file__).with_name("stories260K.json")
out.write_text(json.dumps({"llama_cpp_python": llama_cpp.__version__, "prompts": prompts}) + "\n")
