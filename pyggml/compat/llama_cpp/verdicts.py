# ruff: noqa: E501 - rows of a table
"""Every public name of llama-cpp-python with our verdict; what is missing raises with it, and docs/LLAMA_CPP.md is made
of it. Also the numbers of llama.h that callers pass."""

from __future__ import annotations

import re
from typing import NamedTuple


class Verdict(NamedTuple):
    """here: the name works. said: what differs, or what to do instead."""

    here: bool
    said: str


CONSTANTS: dict[str, int] = {
    "LLAMA_SPLIT_MODE_NONE": 0, "LLAMA_SPLIT_MODE_LAYER": 1, "LLAMA_SPLIT_MODE_ROW": 2,
    "LLAMA_DEFAULT_SEED": 0xFFFFFFFF,
    "LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED": -1, "LLAMA_ROPE_SCALING_TYPE_NONE": 0,
    "LLAMA_ROPE_SCALING_TYPE_LINEAR": 1, "LLAMA_ROPE_SCALING_TYPE_YARN": 2,
    "LLAMA_POOLING_TYPE_UNSPECIFIED": -1, "LLAMA_POOLING_TYPE_NONE": 0, "LLAMA_POOLING_TYPE_MEAN": 1,
    "LLAMA_POOLING_TYPE_CLS": 2, "LLAMA_POOLING_TYPE_LAST": 3, "LLAMA_POOLING_TYPE_RANK": 4,
    "LLAMA_ATTENTION_TYPE_UNSPECIFIED": -1, "LLAMA_ATTENTION_TYPE_CAUSAL": 0, "LLAMA_ATTENTION_TYPE_NON_CAUSAL": 1,
    "GGML_TYPE_F32": 0, "GGML_TYPE_F16": 1, "GGML_TYPE_Q4_0": 2, "GGML_TYPE_Q4_1": 3, "GGML_TYPE_Q5_0": 6,
    "GGML_TYPE_Q5_1": 7, "GGML_TYPE_Q8_0": 8,
}  # fmt: skip
POOLINGS: dict[int, str | None] = {-1: None, 0: "none", 1: "mean", 2: "cls", 3: "last"}

_HANDLERS = Verdict(False, "models that see are not run; texts alone are: use create_chat_completion without a handler")
_C_API = Verdict(False, "it is a function of llama.h; pyggml.load(path) and m.session() have what it is for")
_TYPES = Verdict(False, "answers are plain dicts of the same shape; annotate them as dict[str, Any]")

NAMES: dict[str, Verdict] = {
    "Llama": Verdict(True, "see its methods and parameters below"),
    "LlamaGrammar": Verdict(True, "GBNF text and JSON schemas; needs the extra pyggml[constrain]"),
    "LogitsProcessor": Verdict(True, ""), "LogitsProcessorList": Verdict(True, ""),
    "StoppingCriteria": Verdict(True, ""), "StoppingCriteriaList": Verdict(True, ""),
    "MinTokensLogitsProcessor": Verdict(True, ""),
    "LlamaState": Verdict(True, "llama_state is what Session.save() writes"),
    "LlamaTokenizer": Verdict(True, ""),
    "BaseLlamaCache": Verdict(True, ""), "LlamaCache": Verdict(True, "LlamaRAMCache"),
    "LlamaRAMCache": Verdict(True, "kept, not asked: prefixes are reused without a cache"),
    "LlamaDiskCache": Verdict(False, "prefixes are reused within a process; Llama.save_state() gives bytes for a file"),
    "BaseLlamaTokenizer": Verdict(False, "the file's own tokenizer is used, as published"),
    "LlamaHFTokenizer": Verdict(False, "the file's own tokenizer is used, as published; leave tokenizer= out"),
    "LlamaDraftModel": Verdict(False, "drafts of the caller's own are not taken"),
    "LlamaPromptLookupDecoding": Verdict(True, "draft='ngram' of this package"),
    "Jinja2ChatFormatter": Verdict(False, "m.render_chat(messages, template=...) of pyggml renders a Jinja template"),
    "Jinja2ChatTemplate": Verdict(False, "m.render_chat(messages, template=...) of pyggml renders a Jinja template"),
    "ChatFormatterResponse": Verdict(False, "pass a Jinja text as chat_format=, or a function as chat_handler="),
    "register_chat_format": Verdict(False, "pass a Jinja text as chat_format=, or a function as chat_handler="),
    "LlamaChatCompletionHandler": Verdict(False, "any function of its keywords is one: chat_handler="),
    "llama_chat_format": Verdict(False, "named formats: Llama(chat_format=...)"),
    "llama_speculative": Verdict(True, "a module"),
    "llama_types": _TYPES,
    "set_verbose": Verdict(False, "the package logs and does not print: logging.getLogger('pyggml').setLevel(...)"),
}  # fmt: skip

_PATTERNS: tuple[tuple[str, Verdict], ...] = (
    (r"\w*ChatHandler", _HANDLERS), (r"(llama|ggml|gguf|mtmd|llava|clip)_\w+", _C_API),
    (r"(LLAMA|GGML|GGUF|MTMD)_\w+", _C_API), (r"(Chat)?Completion\w*|Create\w+|Embedding\w*|CompletionU\w+", _TYPES),
    (r"ctypes_\w+|Ctypes\w+|load_shared_library|suppress_\w+", Verdict(False, "how it reaches its library; nothing here needs it")),
    (r"format_\w+|\w*chat_formatter\w*|\w*chat_completion_handler\w*|functionary\w*|guess_chat_format\w*",
     Verdict(False, "named formats: Llama(chat_format=...); a Jinja text is one too")),
)  # fmt: skip

METHODS: dict[str, Verdict] = {
    "__call__": Verdict(True, "create_completion"), "create_completion": Verdict(True, "suffix= is refused"),
    "create_chat_completion": Verdict(True, "tools of every family are read back; reasoning is reasoning_content"),
    "create_chat_completion_openai_v1": Verdict(True, "needs openai"),
    "create_embedding": Verdict(True, ""), "embed": Verdict(True, "embedding=True is not asked for"),
    "tokenize": Verdict(True, ""), "detokenize": Verdict(True, ""), "tokenizer": Verdict(True, ""),
    "eval": Verdict(True, ""), "sample": Verdict(True, ""), "generate": Verdict(True, ""), "reset": Verdict(True, ""),
    "save_state": Verdict(True, ""), "load_state": Verdict(True, ""), "set_cache": Verdict(True, "asks it nothing"),
    "set_seed": Verdict(True, "numbers are another generator's: another text than llama.cpp's, the same each time"),
    "from_pretrained": Verdict(True, "needs huggingface_hub"), "close": Verdict(True, ""),
    "n_ctx": Verdict(True, ""), "n_embd": Verdict(True, ""), "n_vocab": Verdict(True, ""),
    "token_bos": Verdict(True, ""), "token_eos": Verdict(True, ""), "token_nl": Verdict(True, ""),
    "pooling_type": Verdict(True, ""), "logits_to_logprobs": Verdict(True, ""),
    "longest_token_prefix": Verdict(True, ""), "eval_tokens": Verdict(True, ""), "eval_logits": Verdict(True, ""),
    "ctx": Verdict(False, "there is no context of llama.cpp: m = llama.pyggml_model has what there is"),
    "model": Verdict(False, "there is no model of llama.cpp: m = llama.pyggml_model has what there is"),
}  # fmt: skip

_NO_GPU = Verdict(True, "taken; everything is computed on the CPU")
_TAKEN = Verdict(True, "taken; the core chooses")
_FILE = Verdict(False, "what the file says is used; another value is refused")

PARAMETERS: dict[str, Verdict] = {
    "model_path": Verdict(True, ""), "n_gpu_layers": _NO_GPU, "split_mode": _NO_GPU, "main_gpu": _NO_GPU,
    "tensor_split": _NO_GPU, "offload_kqv": _NO_GPU, "op_offload": _NO_GPU,
    "vocab_only": Verdict(True, ""), "use_mmap": Verdict(True, ""), "use_mlock": Verdict(True, "taken; the system decides"),
    "seed": Verdict(True, ""), "n_ctx": Verdict(True, "0: what the model was trained for"),
    "n_batch": _TAKEN, "n_ubatch": _TAKEN, "flash_attn": _TAKEN, "swa_full": _TAKEN, "no_perf": _TAKEN, "numa": _TAKEN,
    "n_threads": Verdict(True, ""), "n_threads_batch": Verdict(True, "taken; n_threads counts"),
    "pooling_type": Verdict(True, ""), "logits_all": Verdict(True, "logprobs need it no more"),
    "embedding": Verdict(True, "taken; any model embeds"), "last_n_tokens_size": Verdict(True, ""),
    "chat_format": Verdict(True, "a name, or a Jinja text"), "chat_handler": Verdict(True, "a function"),
    "type_k": Verdict(True, "with type_v the same"), "type_v": Verdict(True, "with type_k the same"),
    "verbose": Verdict(True, "taken; the package logs and does not print"), "spm_infill": Verdict(True, "taken"),
    "kv_overrides": _FILE, "rope_scaling_type": _FILE, "attention_type": _FILE, "rope_freq_base": _FILE,
    "rope_freq_scale": _FILE, "yarn_ext_factor": _FILE, "yarn_attn_factor": _FILE, "yarn_beta_fast": _FILE,
    "yarn_beta_slow": _FILE, "yarn_orig_ctx": _FILE,
    "lora_base": Verdict(False, "adapters are merged into the weights before converting"),
    "lora_scale": Verdict(False, "adapters are merged into the weights before converting"),
    "lora_path": Verdict(False, "adapters are merged into the weights before converting"),
    "draft_model": Verdict(True, "LlamaPromptLookupDecoding(), or a Llama; the text stays the same"),
    "tokenizer": Verdict(False, "the file's own tokenizer is used, as published"),
}  # fmt: skip


def no_name(module: str, name: str) -> AttributeError:
    """The error of a name that is not here, with what to do.

    >>> no_name("llama_cpp", "Llava15ChatHandler").args[0][:60]
    "llama_cpp has no 'Llava15ChatHandler': models that see are n"
    """
    found = NAMES.get(name) or next((verdict for text, verdict in _PATTERNS if re.fullmatch(text, name)), None)
    said = found.said if found else "it is no public name of llama-cpp-python that is known here"
    return AttributeError(f"{module} has no {name!r}: {said}", name=name)


def verdict_of(name: str) -> Verdict | None:
    """What is said of a public name of the package; None: nothing."""
    if name in CONSTANTS:
        return Verdict(True, "a number")
    return NAMES.get(name) or next((verdict for text, verdict in _PATTERNS if re.fullmatch(text, name)), None)


def table() -> str:
    """docs/LLAMA_CPP.md: every name with its verdict."""
    rows = [
        "# llama-cpp-python's names", "",
        "`from pyggml.compat.llama_cpp import Llama` in place of `from llama_cpp import Llama`. What is not here raises",
        "with the reason, also as a parameter. This table is printed by",
        "`python -c 'from pyggml.compat.llama_cpp.verdicts import table; print(table(), end=\"\")'`; a test compares it with",
        "the names of the installed package.",
    ]  # fmt: skip
    for title, names in (
        ("Names", NAMES),
        ("Methods and properties of Llama", METHODS),
        ("Parameters of Llama", PARAMETERS),
    ):
        rows += ["", f"## {title}", "", "| name | here | |", "|---|---|---|"]
        rows += [f"| `{name}` | {'yes' if each.here else 'no'} | {each.said} |" for name, each in sorted(names.items())]
    rows += ["", "## Families of names", "", "| names | here | |", "|---|---|---|"]
    rows += [f"| `{text.replace('|', chr(92) + '|')}` | no | {each.said} |" for text, each in _PATTERNS]
    rows += ["", "## Numbers of llama.h", "", ", ".join(f"`{name}`" for name in CONSTANTS), ""]
    return "\n".join(rows)
