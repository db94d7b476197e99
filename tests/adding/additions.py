"""What is added to the copy, each by the recipe of docs/ADDING.md that it names: made up, small, and whole."""

from __future__ import annotations

from adding.scratch import Scratch

# ---- a quant type: 32 nibbles under a power of two, as mxfp4 has it; evenly spaced ---------------------------------

BLOCK = """
/* 0   1             17
 * | e | qs[16]      |       scale 2^(e - 128); byte j: element j (low nibble), j + 16 (high);  q - 8 */
typedef struct pgg_q4_e {
  uint8_t e;
  uint8_t qs[16];
} pgg_q4_e;
PGG_FN float pgg_q4_e_scale(const PGG_GLOBAL pgg_q4_e *b, int sub) { return (void)sub, pgg_e8m0_half(b->e); }
PGG_FN float pgg_q4_e_min(const PGG_GLOBAL pgg_q4_e *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_q4_e_q(const PGG_GLOBAL pgg_q4_e *b, int i) { return (b->qs[i & 15] >> (i >> 4) * 4 & 15) - 8; }

"""
ENCODER = """
/* The least power of two under which seven steps reach the largest magnitude; importance changes nothing. */
void PGG_ENCODER(q4_e)(const float *x, void *row, int64_t k, const float *importance) {
  pgg_q4_e *b = row;
  (void)importance;
  for (int64_t at = 0; at < k; at += 32, b++) {
    float top = 0.0f, bad = 0.0f;
    int e = 0;
    for (int i = 0; i < 32; i++) {
      bad += x[at + i] * 0.0f;
      top = fabsf(x[at + i]) > top ? fabsf(x[at + i]) : top;
    }
    while (e < 253 && 7.0f * pgg_e8m0_half((uint8_t)e) < top) e++; /* seven of the next are beyond a float */
    b->e = (uint8_t)(bad == 0.0f ? e : 255);
    for (int i = 0; i < 16; i++) {
      const float scale = pgg_e8m0_half(b->e);
      const float first = bad == 0.0f ? x[at + i] / scale : 7.0f, second = bad == 0.0f ? x[at + i + 16] / scale : 7.0f;
      const int low = (int)rintf(fminf(fmaxf(first, -7.0f), 7.0f));
      const int high = (int)rintf(fminf(fmaxf(second, -7.0f), 7.0f));
      b->qs[i] = (uint8_t)((low + 8) | (high + 8) << 4);
    }
  }
}
"""
LANES = """CODES(q4_e) { return lb_nibbles(FIELD(q4_e, b0, g0, qs), FIELD(q4_e, b1, g1, qs)); }
"""
SCALES = """SCALES(q4_e) {
  const int stride = sizeof(pgg_q4_e);
  return (void)h, lf_e8m0(bytes_apart(FIELD(q4_e, b0, 0, e), stride, 0, 255),
                          bytes_apart(FIELD(q4_e, b1, 0, e), stride, 0, 255));
}
"""
TRUTH = """def _q4_e(b: U8) -> F32:
    scale = np.ldexp(1.0, b[:, :1].astype(np.int32) - 128).astype(np.float32)
    codes = np.concatenate([b[:, 1:] & 15, b[:, 1:] >> 4], axis=1).astype(np.float32) - 8
    return scale * codes


"""


def quant_type(tree: Scratch) -> None:
    tree.add("native/quant/quant_types.def", "QUANT(60, Q4_E, q4_e, 32, 17, 32, BLOCK)\n", after=r"^QUANT\(42,.*\n")
    tree.add("native/quant/blocks_fp4.h", BLOCK, before=r"^#endif\n\Z")
    tree.add("native/quant/encode_small.inc", ENCODER, after=r"(?s)\A.*\Z")
    tree.add("native/quant/encode.h", "#define ENCODES_Q4_E 0x1.cp127f,\n", after=r"^#define ENCODES_Q2_0 .*\n")
    tree.add("native/cpu/unpack.inc", LANES, before=r"^CODES\(mxfp4\)")
    tree.add("native/cpu/unpack.inc", SCALES, before=r"^SCALES\(mxfp4\)")
    row = "  X(Q4_E, q4_e, 32, 8, 4, NONE) \\\n"
    tree.add("native/cpu/products.h", row, after=r"^#define PGG_PLAIN_TYPES\(X\) *\\\n")
    tree.add("pyggml/recipes/mixes.py", '    "Q4_E": Mix(60, "q4_e"),\n', after=r"^MIXES = \{\n")
    tree.add("tests/oracle/quants.py", TRUTH, before=r"^def _plain\(")
    tree.add("tests/oracle/quants.py", '    "q4_e": _q4_e,\n', after=r"^OWN: .*\{\n")


# ---- an op with a slot of its own ----------------------------------------------------------------------------------

CLAMP_ROW = """
static void rows_clamp(const float *a, float low, float high, float *y, int64_t n) {
  const vf least = vf_set1(low), most = vf_set1(high);
  for (int64_t i = 0; i < n; i += SIMD_LANES) {
    const int left = (int)pgg_min_i64(SIMD_LANES, n - i);
    const vf x = vf_load_n(a + i, left), up = vf_select(vf_lt(x, least), least, x);
    vf_store_n(y + i, vf_select(vf_lt(most, up), most, up), left);
  }
}

"""
CLAMP_RULE = """    case PGG_OP_CLAMP:
      if (PGG_FLOAT(op, clamp, low) <= PGG_FLOAT(op, clamp, high)) return PGG_OK;
      return pgg_fail(PGG_EINVAL, "%s: low is %g, above high, which is %g", op->name, (double)PGG_FLOAT(op, clamp, low),
                      (double)PGG_FLOAT(op, clamp, high));
"""
CLAMP_CHECK = """static void check_clamp(const pgg_kernels *t, const pgg_kernels *ref) {
  for (int f = 0; f < N_FLAVOUR; f++)
    for (int l = 0; l < N_LENGTH; l++) {
      const int64_t n = lengths[l];
      guarded ga = guard_floats(n), gy = guard_floats(n), gr = guard_floats(n);
      float *a = (float *)ga.p, *y = (float *)gy.p, *r = (float *)gr.p;
      fill(a, n, f);
      t->clamp(a, -0.5f, 2.0f, y, n), ref->clamp(a, -0.5f, 2.0f, r, n);
      same_floats("clamp", n, y, r, n);
      for (int64_t i = 0; i < n; i++)
        close_to("clamp", f, n, i, y[i], a[i] < -0.5f ? -0.5 : a[i] > 2.0f ? 2.0 : (double)a[i], 0);
      test_unguard(ga), test_unguard(gy), test_unguard(gr);
    }
}

"""
CLAMP_METHOD = '''    def clamp(self, x: Node, low: float, high: float, name: str = "") -> Node:
        """x, but low where it is less and high where it is more."""
        return self._op("clamp", name, x=x, low=low, high=high)

'''


def op(tree: Scratch) -> None:
    sentence = "OP(CLAMP,     clamp,     SRC(x, ANY) FLOAT(low, ANY) FLOAT(high, ANY))\n"
    tree.add("native/core/ops.def", sentence, before=r"^/\* clang-format on \*/")
    comment = " *   clamp      x                                                  -> min(max(x, low), high)\n"
    tree.add("native/core/ops.def", comment, before=r"^ \*   softmax ")
    tree.add("native/core/shape.c", CLAMP_RULE, before=r"^ *case PGG_OP_SCALE:")
    call = "kernels->clamp(a, PGG_FLOAT(o, clamp, low), PGG_FLOAT(o, clamp, high), y, n)"
    tree.add("native/backends/cpu/rows.c", f"ELEMENTS(clamp, {call})\n", after=r"^ELEMENTS\(scale,.*\n")
    kind = "    [PGG_OP_CLAMP] = &pgg_cpu_kind_clamp,\n"
    tree.add("native/backends/cpu/kinds.c", kind, after=r"^.*\[PGG_OP_SCALE\].*\n")
    tree.add("pyggml/graph.py", CLAMP_METHOD, before=r"^    def softmax\(")
    slot = "SLOT(void, clamp, (const float *a, float low, float high, float *y, int64_t n))\n"
    tree.add("native/cpu/slots.def", slot, after=r"^SLOT\(void, scale,.*\n")
    tree.add("native/cpu/rows.inc", CLAMP_ROW, before=r"^/\* ---- along the row ")
    tree.add("native/cpu/floats.inc", "  t->clamp = rows_clamp;\n", after=r"^  t->scale = .*\n")
    tree.add("tests/native/check_rows.c", CLAMP_CHECK, before=r"^/\* ---- along the row ")
    tree.add("tests/native/check_rows.c", "#define CHECK_OF_clamp check_clamp\n", after=r"^#define CHECK_OF_scale .*\n")


# ---- an activation -------------------------------------------------------------------------------------------------

RELU2 = """ROWS_INLINE vf relu2_of(vf x) {
  const vf up = vf_select(vf_lt(x, vf_set1(0.0f)), vf_set1(0.0f), x);
  return vf_mul(up, up);
}

"""


def activation(tree: Scratch) -> None:
    tree.add("native/include/activations.def", "ACTIVATION(RELU2, relu2)\n", after=r"^ACTIVATION\(GELU_ERF,.*\n")
    tree.add("native/cpu/rows.inc", RELU2, before=r"^static void rows_add\(")
    truth = "static double true_relu2(double x) { return x < 0 ? 0 : x * x; }\n"
    tree.add("tests/native/check_rows.c", truth, after=r"^static double true_gelu_erf\(.*\n")


# ---- two architectures: llama's block under other names, as a row and as a file ------------------------------------

FAMILY = '''"""A family with a file of its own, which is llama's block under another name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyggml.arch import decoder
from pyggml.arch.decoder import Decoder, Router, Window

if TYPE_CHECKING:
    from pyggml.arch.outputs import Outputs
    from pyggml.config import Reader
    from pyggml.engine.weights import Weights
    from pyggml.graph import Graph

NAMES = ("own-file",)
_ROW = Decoder(window=Window(), experts=Router())


def config(r: Reader) -> decoder.DecoderConfig:
    """The numbers of the model."""
    return decoder.config(_ROW, r)


def build(g: Graph, c: decoder.DecoderConfig, w: Weights) -> Outputs:
    """Token ids -> logits of the wanted rows."""
    return decoder.build(_ROW, g, c, w)
'''


def architecture(tree: Scratch) -> None:
    row = '    "own-row": Decoder(window=Window(), experts=Router()),\n'
    tree.add("pyggml/arch/decoders.py", row, after=r"^ROWS = \{\n")
    tree.add("pyggml/arch/own_file.py", FAMILY)


# ---- a backend: the CPU's under another name -----------------------------------------------------------------------

TWIN = """/* A backend that hands every call to the CPU's. */
#include <stdio.h>

#include "core/backend.h"

extern const pgg_backend pgg_backend_cpu;

static int count(void) { return 1; }
static pgg_status about(int index, pgg_device_info *out) {
  pgg_status status = pgg_backend_cpu.about(index, out);
  snprintf(out->name, sizeof out->name, "twin %d", index);
  return status;
}
static pgg_status open_twin(int index, pgg_device **device) { return pgg_backend_cpu.open(index, device); }
static void close_twin(pgg_device *device) { pgg_backend_cpu.close(device); }
static pgg_status alloc(pgg_device *device, size_t bytes, pgg_mem *mem) {
  return pgg_backend_cpu.alloc(device, bytes, mem);
}
static void drop(pgg_device *device, pgg_mem *mem) { pgg_backend_cpu.drop(device, mem); }
static pgg_status write(pgg_device *device, const pgg_mem *to, size_t at, const void *from, size_t bytes) {
  return pgg_backend_cpu.write(device, to, at, from, bytes);
}
static pgg_status read(pgg_device *device, const pgg_mem *from, size_t at, void *to, size_t bytes) {
  return pgg_backend_cpu.read(device, from, at, to, bytes);
}
static pgg_status copy(pgg_device *device, const pgg_mem *to, size_t to_at, const pgg_mem *from, size_t from_at,
                       size_t bytes) {
  return pgg_backend_cpu.copy(device, to, to_at, from, from_at, bytes);
}
static pgg_status weight(pgg_device *device, const pgg_weight *w, pgg_mem *mem) {
  return pgg_backend_cpu.weight(device, w, mem);
}
static pgg_status compile(pgg_segment *segment) { return pgg_backend_cpu.compile(segment); }
static void discard(pgg_segment *segment) { pgg_backend_cpu.discard(segment); }
static void rest(pgg_segment *segment) { pgg_backend_cpu.rest(segment); }
static size_t scratch(const pgg_segment *segment) { return pgg_backend_cpu.scratch(segment); }
static pgg_status run(pgg_segment *segment, const pgg_piece *piece) { return pgg_backend_cpu.run(segment, piece); }
static pgg_status wait(pgg_device *device) { return pgg_backend_cpu.wait(device); }

const pgg_backend pgg_backend_twin = {
    .name = "twin",   .host = true,  .count = count,     .about = about,     .open = open_twin, .close = close_twin,
    .alloc = alloc,   .drop = drop,  .write = write,     .read = read,       .copy = copy,      .weight = weight,
    .compile = compile, .discard = discard, .rest = rest, .scratch = scratch, .run = run,        .wait = wait};
"""


def backend(tree: Scratch) -> None:
    (tree.root / "native/backends/twin").mkdir()
    tree.add("native/backends/twin/twin.c", TWIN)
    sources = "target_sources(pgg PRIVATE ${CMAKE_CURRENT_LIST_DIR}/twin.c)\n"
    tree.add("native/backends/twin/sources.cmake", sources)
    tree.add("native/backends/backends.def", "BACKEND(twin)\n", after=r"^BACKEND\(cpu\)\n")
    include = "include(backends/twin/sources.cmake)\n"
    tree.add("native/CMakeLists.txt", include, after=r"^include\(backends/cpu/sources.cmake\)\n")


ADDITIONS = {
    "A quant type": quant_type,
    "An op": op,
    "An activation": activation,
    "An architecture": architecture,
    "A backend": backend,
}
