"""Keywords that a public call does not have: the error names what is meant, also by the names of other libraries.

`known_only` puts it in front of a function, `methods_known_only` of a class's methods;
the table of other libraries' names is here and nowhere else.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import ParamSpec, TypeVar

from pyggml.errors import ArgumentTypeError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_ANY = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)

_NO_GPU = "everything is computed on the CPU; leave it out"
_BATCH = "how many tokens a step takes is chosen here; leave it out"
_NO_SAMPLER = "this sampler is not built in; Sampling names those that are"
_NOT_HERE = "this is not built in"
_MANY = "it is an argument of m.generate"
_AT_LOAD = "it is an argument of pyggml.load"
_STREAM = "m.stream(prompt) gives the text piece by piece"
_FILE_SAYS = "what the file says is used"

# Other libraries' names, by sense: (their names, the names that a call here may have, what to do where it has none).
_ROWS: tuple[tuple[str, str, str], ...] = (
    ("n_gpu_layers gpu_layers ngl num_gpu main_gpu tensor_split split_mode offload_kqv", "", _NO_GPU),
    ("gpu use_gpu cuda device_map", "device", _NO_GPU),
    ("flash_attn flash_attention attn_implementation use_cache", "", "the core chooses; leave it out"),
    ("n_batch n_ubatch batch_size num_batch", "", _BATCH),
    ("model_path model_file model_name filename file fname pretrained_model_name_or_path", "path src model", ""),
    ("model", "path src", ""),
    ("num_ctx ctx ctx_size context_length context_size context_window max_context max_seq_len max_model_len",
     "n_ctx", _AT_LOAD),
    ("threads num_thread num_threads nthread nthreads nthread_batch n_threads_batch n_jobs", "n_threads", _AT_LOAD),
    ("use_mmap no_mmap memory_map", "mmap", _AT_LOAD),
    ("mlock use_mlock numa", "", "the system decides; leave it out"),
    ("type_k type_v cache_type cache_type_k cache_type_v kv_dtype kv_cache_type cache_dtype", "kv_type", _AT_LOAD),
    ("batch_invariant batch_invariance bitwise reproducible", "deterministic", _AT_LOAD),
    ("cache_prompt prompt_cache enable_prefix_caching prefix_caching", "prefix_reuse", _AT_LOAD),
    ("verbose verbosity quiet log_level", "", "the package only logs: logging.getLogger('pyggml').setLevel(...)"),
    ("chat_format chat_handler chat_template", "template", "the file's own is used; m.chat(messages, template=...)"),
    ("chat_template_kwargs template_kwargs template_variables", "template_args", "it is an argument of m.chat"),
    ("lora lora_path lora_base lora_scale adapter", "", "adapters are merged into the weights before converting"),
    ("rope_freq_base rope_freq_scale rope_scaling rope_scaling_type yarn_ext_factor", "", _FILE_SAYS),
    ("vocab_only", "", "pyggml.gguf.open(path) reads a file's metadata alone"),
    ("logits_all return_logits output_logits", "", "m.logits(ids) gives the logits of every position"),
    ("embedding embeddings embedding_only pooling", "", _NOT_HERE),
    ("torch_dtype load_in_4bit load_in_8bit quantization_config trust_remote_code", "dtype",
     "a file's types are what they are; pyggml.quantize_file changes them"),
    ("dtype", "kv_type type recipe", "a file's types are what they are; pyggml.quantize_file changes them"),
    ("max_new_tokens max_length max_gen_len max_token max_completion_tokens num_predict n_predict n_tokens",
     "max_tokens", "it is an argument of m.generate"),
    ("min_new_tokens min_length min_tokens ignore_eos", "", _NOT_HERE),
    ("temp temperatur", "temperature", "it is an argument of m.generate"),
    ("repetition_penalty repeat_pen rep_pen rep_penalty penalty_repeat", "repeat_penalty", ""),
    ("penalty_last_n last_n_tokens last_n_tokens_size repetition_context_size", "repeat_last_n", ""),
    ("penalty_freq frequence_penalty", "frequency_penalty", ""),
    ("penalty_present", "presence_penalty", ""),
    ("stop_sequences stop_strings stop_words stop_sequence stopping_criteria stop_token_ids eos_token_id", "stop", ""),
    ("do_sample greedy sample", "temperature", "temperature=0 takes the likeliest token, any other draws"),
    ("num_beams beam_size beam_width length_penalty early_stopping", "", _NOT_HERE),
    ("mirostat_mode", "mirostat", ""),
    ("typ_p typical", "typical_p", ""),
    ("tfs_z", "", _NO_SAMPLER),
    ("samplers sampler_seq sampler_order", "order", "it is an argument of m.generate"),
    ("functions available_tools", "tools", "it is an argument of m.chat"),
    ("function_call", "tool_choice", "it is an argument of m.chat"),
    ("reasoning_budget thinking_budget_tokens budget_tokens max_thinking_tokens", "thinking_budget",
     "it is an argument of m.chat"),
    ("response_format json_schema guided_json response_model output_schema format json_mode", "schema",
     "it is an argument of m.generate"),
    ("guided_regex regexp", "regex", "it is an argument of m.generate"),
    ("gbnf guided_grammar grammar_str", "grammar", "it is an argument of m.generate: GBNF text"),
    ("guided_choice choice options", "choices", "it is an argument of m.generate"),
    ("logits_processor logits_processors logit_processor", "logits_hook",
     "m.generate(..., logits_hook=f) calls f(ids, logits)"),
    ("random_seed sampling_seed random_state manual_seed generator", "seed", "it is an argument of m.generate"),
    ("top_logprobs n_probs return_logprobs output_scores", "logprobs", ""),
    ("echo return_full_text", "", "a completion holds the new text only; prompt + completion gives both"),
    ("suffix", "", _NOT_HERE),
    ("num_return_sequences num_completions n_samples", "n", _MANY),
    ("best_of", "", "n=k gives k texts, to choose from"),
    ("time_limit max_time timeout_s t_max_predict_ms", "timeout", "it is an argument of m.generate"),
    ("max_num_seqs num_parallel parallel n_seq_max", "n_parallel", _AT_LOAD),
    ("messages conversation chat_history", "messages", "m.chat(messages) answers a conversation"),
    ("prompt prompts inputs input_ids input tokens", "prompt ids text",
     "m.generate(prompt) continues a text; a conversation is a list of dicts with role and content"),
    ("stream streamer", "stream", _STREAM),
    ("callback callback_function progress_callback on_token", "progress", _STREAM),
    ("outtype out_type output_dtype torch_type", "dtype recipe", ""),
    ("qtype quant_type quantization quantization_type quantization_method quant_method ftype type", "recipe quantize",
     "pyggml.quantize_file(src, dst, recipe) changes types"),
    ("outfile out out_file output output_path output_file out_path destination target fname_out dest", "dst", ""),
    ("infile input_path input_file in_path source fname_inp model_dir model_id", "src path", ""),
    ("imatrix_file importance importance_matrix", "imatrix", ""),
    ("leave_output_tensor output_tensor_type", "output_type", ""),
    ("token_embedding_type", "embedding_type", ""),
    ("tensor_type tensor_types overrides", "rules", ""),
    ("pure", "", "it is a recipe: 'pure:Q4_K'"),
    ("bpw bits target_bits bits_per_weight", "target_bpw", ""),
    ("dry only_plan", "dry_run", ""),
    ("requantize force", "allow_requantize", ""),
    ("model_title general_name", "name", ""),
    ("vocab_type pad_vocab split_max_size split_max_tensors", "", _NOT_HERE),
)  # fmt: skip
_OTHERS = {name: (tuple(ours.split()), advice) for names, ours, advice in _ROWS for name in names.split()}


# What other libraries' modules and models have, and what does that here.
_ATTRIBUTES: tuple[tuple[str, str], ...] = (
    ("Llama AutoModel AutoModelForCausalLM AutoTokenizer LLM pipeline from_pretrained load_model open_model",
     "pyggml.load(path) gives a model"),
    ("create_completion complete completion run predict", "m.generate(prompt) continues a text"),
    ("create_chat_completion chat_completion chat_completions", "m.chat(messages) answers a conversation"),
    ("apply_chat_template", "m.render_chat(messages) makes the prompt"),
    ("eval forward", "m.logits(ids), or m.session().step(ids), gives logits"),
    ("encode", "m.tokenize(text) gives ids"),
    ("decode batch_decode", "m.detokenize(ids) gives text"),
    ("create_embedding create_embeddings embeddings embed_query embed_documents", "m.embed(texts) makes vectors"),
    ("save_state load_state", "states are not saved; a session keeps its own in memory"),
    ("token_bos bos_token_id", "it is m.tokenizer.bos_id"),
    ("token_eos eos_token_id", "it is m.tokenizer.eos_id"),
    ("vocab_size", "it is m.n_vocab"),
    ("context_length context_size max_position_embeddings", "it is m.n_ctx"),
    ("n_embd n_layer n_head hidden_size num_hidden_layers", "it is in m.config"),
    ("chat_template", 'it is m.metadata["tokenizer.chat_template"]'),
    ("free unload release dispose", "m.close() frees everything"),
    ("GGUFReader read_gguf load_gguf", "pyggml.gguf.open(path) reads a file"),
    ("GGUFWriter", "it is pyggml.gguf.Writer"),
    ("GGMLQuantizationType", "it is pyggml.QuantType"),
)  # fmt: skip
_ELSEWHERE = {name: advice for names, advice in _ATTRIBUTES for name in names.split()}


def no_attribute(what: str, name: str, known: Collection[str], of: object) -> AttributeError:
    """The error of an attribute that is not there: what is meant, by the names of other libraries or the nearest own.

    >>> no_attribute("a Model", "create_completion", ["generate"], None).args
    ("a Model has no attribute 'create_completion': m.generate(prompt) continues a text",)
    """
    near = difflib.get_close_matches(name, known, n=1) if name[:1] != "_" else []
    advice = _ELSEWHERE.get(name) or (f"did you mean {near[0]}?" if near else "")
    return AttributeError(f"{what} has no attribute {name!r}{': ' + advice if advice else ''}", name=name, obj=of)


def hint(name: str, known: Collection[str]) -> str:
    """What to do about a keyword that is none of the known.

    >>> hint("max_new_tokens", ["max_tokens", "seed"]), hint("sead", ["max_tokens", "seed"])
    ('it is called max_tokens here', 'did you mean seed?')
    """
    ours, advice = _OTHERS.get(name.lower(), ((), ""))
    found = next((each for each in ours if each in known), None)
    if found is not None and name != found:
        return f"it is called {found} here" + (f" ({advice})" if name in ("do_sample", "greedy", "sample") else "")
    if advice:
        return advice
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f"did you mean {near[0]}?" if near else f"it takes {', '.join(known) or 'nothing'}"


def unknown(call: str, names: Iterable[str], known: Collection[str], more: str = "") -> ArgumentTypeError:
    """The error of keywords that a call does not have. more: what else it is not."""
    head = f", {more}" if more else ""
    return ArgumentTypeError(
        "; ".join(f"{call}() has no argument {name[:60]!r}{head}: {hint(name, known)}" for name in names)
    )


def known_only(call: Callable[P, R], name: str = "") -> Callable[P, R]:
    """call, which answers arguments that do not fit its signature with ArgumentTypeError and a hint.

    Unknown keywords, too many positions, missing values, and those given twice. What it takes is read from
    inspect.signature, so a `__signature__` set before counts. name: what messages call it, in place of its own.
    """
    parameters = list(inspect.signature(call).parameters.values())
    own = int(bool(parameters) and parameters[0].name in ("self", "cls"))  # of the values without a name: not written
    ordered = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    most, names = len(ordered), [p.name for p in parameters[own:]]
    known, needed = frozenset(names), [p.name for p in parameters[own:] if p.default is inspect.Parameter.empty]
    said = name or call.__name__

    @functools.wraps(call)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if not kwargs.keys() <= known:
            raise unknown(said, [name for name in kwargs if name not in known], names)
        if len(args) > most:
            raise ArgumentTypeError(
                f"{said}() got {len(args) - own} values without a name, it takes {most - own}"
                + (f"; name the others: {said}(..., {(names[most - own :] or names)[0]}=...)" if names else "")
            )
        given = ordered[own : len(args)]
        twice = [name for name in given if name in kwargs]
        if twice:
            raise ArgumentTypeError(f"{said}() got {twice[0]} twice, as value {given.index(twice[0]) + 1} and by name")
        missing = [name for name in needed if name not in kwargs and name not in given]
        if missing:
            raise ArgumentTypeError(f"{said}() needs {' and '.join(missing)}: {said}({', '.join(needed)})")
        return call(*args, **kwargs)

    return checked


def methods_known_only(kind: type[T]) -> type[T]:
    """A class whose public methods are known_only, and its making too.

    Those that take any keyword judge them themselves.
    """
    for name, held in list(vars(kind).items()):
        call = held.__func__ if isinstance(held, classmethod | staticmethod) else held
        if not inspect.isfunction(call) or (name[:1] == "_" and name != "__init__") or hasattr(call, "__wrapped__"):
            continue
        if any(p.kind in _ANY for p in inspect.signature(call).parameters.values()):
            continue
        made = known_only(call, kind.__name__ if name == "__init__" else "")
        setattr(kind, name, made if call is held else type(held)(made))
    return kind
