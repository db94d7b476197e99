"""The fixed mixes of GGUF as data: which type each kind of tensor gets under names like Q4_K_M.

A row reads "condition:type condition:type type"; the first word whose condition holds gives the type, a word without
a condition always holds, and where none does the tensor gets the mix's base type. Conditions may be joined by &.
What the conditions mean is in choose.py. Source: llama.cpp's quantizer, so that files are what their name promises.
"""

from __future__ import annotations

from typing import NamedTuple


class Mix(NamedTuple):
    """A named mix: its value of general.file_type and the type of what no rule names."""

    file_type: int
    base: str


MIXES = {
    "F32": Mix(0, "f32"), "F16": Mix(1, "f16"), "BF16": Mix(32, "bf16"),
    "Q4_0": Mix(2, "q4_0"), "Q4_1": Mix(3, "q4_1"), "Q5_0": Mix(8, "q5_0"), "Q5_1": Mix(9, "q5_1"),
    "Q8_0": Mix(7, "q8_0"), "Q2_K": Mix(10, "q2_k"), "Q2_K_S": Mix(21, "q2_k"),
    "Q3_K_S": Mix(11, "q3_k"), "Q3_K_M": Mix(12, "q3_k"), "Q3_K_L": Mix(13, "q3_k"),
    "Q4_K_S": Mix(14, "q4_k"), "Q4_K_M": Mix(15, "q4_k"), "Q5_K_S": Mix(16, "q5_k"), "Q5_K_M": Mix(17, "q5_k"),
    "Q6_K": Mix(18, "q6_k"),
    "IQ1_S": Mix(24, "iq1_s"), "IQ1_M": Mix(31, "iq1_m"), "IQ2_XXS": Mix(19, "iq2_xxs"), "IQ2_XS": Mix(20, "iq2_xs"),
    "IQ2_S": Mix(28, "iq2_xs"), "IQ2_M": Mix(29, "iq2_s"), "IQ3_XXS": Mix(23, "iq3_xxs"), "IQ3_XS": Mix(22, "iq3_s"),
    "IQ3_S": Mix(26, "iq3_s"), "IQ3_M": Mix(27, "iq3_s"), "IQ4_NL": Mix(25, "iq4_nl"), "IQ4_XS": Mix(30, "iq4_xs"),
    "TQ1_0": Mix(36, "tq1_0"), "TQ2_0": Mix(37, "tq2_0"), "MXFP4_MOE": Mix(38, "mxfp4"), "Q1_0": Mix(40, "q1_0"),
    "Q2_0": Mix(41, "q2_0"),
}  # fmt: skip

ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP32": "F32", "FP16": "F16", "MXFP4": "MXFP4_MOE"}

COPY = "COPY"
"""No mix: every tensor keeps its type unless a rule names it."""

FLOATS = frozenset({"F32", "F16", "BF16"})
"""Mixes without rules: everything that is not kept gets the type."""

ROWS: dict[str, dict[str, str]] = {
    "output": {
        "*": "falcon:q8_0 odd:q8_0 q6_k",
        "Q8_0": "q8_0", "MXFP4_MOE": "q8_0",
        **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS"),
                        "falcon:q8_0 odd:q8_0 q5_k"),
    },
    "token_embd": {
        **dict.fromkeys(("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"), "q2_k"),
        **dict.fromkeys(("IQ2_S", "IQ2_M", "IQ3_XXS"), "iq3_s"),
        **dict.fromkeys(("TQ1_0", "TQ2_0", "Q2_0"), "q4_k"),
    },
    "attn_v": {
        **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), "gqa4:q4_k experts4:q4_k q2_k"),
        **dict.fromkeys(("IQ2_S", "IQ2_M"), "gqa4:q4_k experts4:q4_k iq3_s"),
        "Q2_K": "gqa4:q4_k q3_k", "Q2_K_S": "gqa4:q4_k",
        "IQ3_XXS": "gqa4:q4_k imatrix:iq3_xxs iq3_s", "IQ3_XS": "gqa4:q4_k", "IQ3_S": "gqa4:q4_k", "IQ3_M": "q4_k",
        "Q3_K_S": "", "Q3_K_M": "below2:q5_k q4_k", "Q3_K_L": "q5_k",
        "IQ4_NL": "gqa4:q5_k", "IQ4_XS": "gqa4:q5_k",
        "Q4_K_S": "below4:q5_k", "Q4_K_M": "more:q6_k", "Q5_K_M": "more:q6_k",
    },
    "attn_k": {
        **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"), "experts8:q4_k"),
        "*": "experts8:q8_0", "IQ3_XS": "experts8:q8_0 iq3_xxs", "IQ3_XXS": "experts8:q8_0 iq2_s",
    },
    "attn_q": {"IQ3_XS": "iq3_xxs", "IQ3_XXS": "iq2_s"},
    "attn_output": {
        **dict.fromkeys(("IQ1_S", "IQ1_M"), "experts8:q5_k iq2_xxs"),
        **dict.fromkeys(("IQ2_XXS", "IQ2_XS"), "experts8:q5_k"),
        **dict.fromkeys(("IQ2_S", "IQ2_M"), "experts8:q5_k iq3_s"),
        **dict.fromkeys(("Q3_K_S", "Q4_K_S", "Q4_K_M", "IQ3_XS", "IQ3_S", "IQ4_NL", "IQ4_XS"),
                        "falcon:base experts8:q5_k"),
        "Q2_K": "falcon:base experts8:q5_k q3_k", "IQ3_XXS": "falcon:base experts8:q5_k iq3_s",
        "Q3_K_M": "falcon:base experts8:q5_k q4_k", "Q3_K_L": "falcon:q4_k experts8:base q5_k",
        "IQ3_M": "falcon:base experts8:q5_k q4_k",
    },
    "ffn_down": {
        **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), "first8:q2_k"),
        **dict.fromkeys(("IQ2_S", "IQ2_M"), "first8:iq3_s"),
        "Q2_K": "q3_k", "Q2_K_S": "first8:q4_k", "IQ3_XXS": "imatrix:base first8:q4_k q3_k",
        "Q3_K_M": "first16:q5_k falcon&!more:q3_k q4_k", "Q3_K_L": "falcon:q4_k q5_k",
        "IQ3_M": "first8:q4_k experts8&more:q4_k",
        "IQ4_NL": "imatrix:base first8:q5_k", "IQ4_XS": "imatrix:base first8:q5_k",
        "Q4_K_S": "falcon:base first8:q5_k", "Q4_K_M": "falcon&first16:q6_k falcon&more:q5_k falcon:base more:q6_k",
        "Q5_K_M": "more:q6_k", "Q4_0": "imatrix&first8:q4_1", "Q5_0": "imatrix&first8:q5_1",
    },
    "ffn_gate": {"IQ3_XS": "middle:iq3_xxs"},
    "ffn_up": {"IQ3_XS": "middle:iq3_xxs"},
}  # fmt: skip
"""{kind of tensor: {mix, or * for all others: row}}."""

FALLBACK = {
    "q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0", "tq1_0": "q4_0", "tq2_0": "q4_0",
    "q2_0": "q4_0", "iq1_s": "iq4_nl", "iq1_m": "iq4_nl", "iq2_xxs": "iq4_nl", "iq2_xs": "iq4_nl", "iq2_s": "iq4_nl",
    "iq3_xxs": "iq4_nl", "iq3_s": "iq4_nl", "iq4_xs": "iq4_nl",
}  # fmt: skip
"""What serves instead where a row is no multiple of the block; F16 where that does not fit either."""

WANTS_IMATRIX = frozenset({"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs"})
"""Types so coarse that without importance weights a file of them is poor."""
