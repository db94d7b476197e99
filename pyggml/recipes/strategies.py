"""strategy: a recipe for a use, by judgement. It is plain data: print it, change it, save it, measure it.

Sources of the judgement: the published perplexities of the mixes, the decode speed of their types on CPUs (code books
are slow there, blocks of 32 with one scale are fast on small cores), and that the output matrix, the value projection
and the first and last layers suffer most. Where a text of the user's domain is at hand, target_bpw decides better.
"""

from __future__ import annotations

from pyggml.arguments import choice, text
from pyggml.keywords import known_only
from pyggml.recipes.recipe import Recipe, Rule
from pyggml.sizes import byte_size

_SMALL_CORES = {"arm", "neon", "arm64", "aarch64", "phone", "raspberry", "pi"}
_GPUS = {"gpu", "cuda", "opencl", "metal", "vulkan"}
_CPUS = {"cpu", "x86", "x86_64", "avx2", "avx512", "avxvnni", "laptop"}
_SHARE = 0.75  # of the memory; the rest is for the cache, the arena and the system

USES = ("mobile", "server", "research", "max-quality")


@known_only
def strategy(use: str = "server", memory: str | int | None = None, hardware: str = "cpu") -> Recipe:
    """A readable, changeable Recipe for a use: "mobile", "server", "research" or "max-quality".

    memory: what the machine has for the model ("4GiB", or bytes): where the mix makes a file above 3/4 of it,
    quantize_file takes the first of recipe.smaller that fits. hardware: "cpu", "arm" or "gpu" and their kin; CPUs get
    no code books (IQ types) before there is no other way. Raises ArgumentError for words that are not known.

    >>> recipe = strategy("mobile", memory="4GiB", hardware="arm")
    >>> recipe.base, recipe.max_size, recipe.smaller[0]
    ('Q4_0', 3221225472, 'Q3_K_M')
    """
    kind = choice("use", text("use", use).replace("_", "-"), USES)
    place = choice("hardware", hardware, sorted(_SMALL_CORES | _GPUS | _CPUS))
    made = _MAKERS[kind](place)
    if memory is not None:
        made.max_size = int(byte_size(memory, "memory") * _SHARE)
    return made


def _mobile(place: str) -> Recipe:
    small = ["Q3_K_M", "Q3_K_S", "Q2_K", "Q2_K_S"]
    if place in _SMALL_CORES:
        return Recipe("Q4_0", smaller=small, note="one scale for 32 values: the fastest decode on small cores")
    if place in _GPUS:
        return Recipe("IQ4_XS", smaller=["IQ3_M", "IQ3_XXS", "IQ2_M", "IQ2_XS"], note="code books cost a GPU little")
    return Recipe("Q4_K_S", smaller=small, note="small, and no code books for the CPU to look up")


def _server(place: str) -> Recipe:
    small = ["Q4_K_M", "Q4_K_S", "IQ4_XS", "Q3_K_M", "Q2_K"]
    return Recipe(
        "Q5_K_M", [Rule("experts", "q4_k")], smaller=small,
        note="loss near the noise of sampling; experts are most of the bytes and bear 4 bits",
    )  # fmt: skip


def _research(place: str) -> Recipe:
    return Recipe(
        "Q8_0", keep=[Rule("norm", "f32"), Rule("router", "f32"), Rule("bias", "f32")], output_type="f16",
        smaller=["Q8_0", "Q6_K", "Q5_K_M"], note="differences to the original stay below what experiments measure",
    )  # fmt: skip


def _max_quality(place: str) -> Recipe:
    rules = [
        Rule("attention_value", "q8_0"), Rule("attention_qkv", "q8_0"), Rule("feed_forward", "q8_0", "first 2, last 2"),
    ]  # fmt: skip
    return Recipe(
        "Q6_K", rules, [Rule("router", "f32")], "q8_0", "q8_0", smaller=["Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS"],
        note="more bits for what suffers most: values, the edges of the stack, embedding and output",
    )  # fmt: skip


_MAKERS = {"mobile": _mobile, "server": _server, "research": _research, "max-quality": _max_quality}
