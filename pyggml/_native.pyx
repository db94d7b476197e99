# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""The C core for Python: check, release the GIL, call. All sense lives above (Python) or below (pgg.h).

The C functions are declared in _native.pxd, which other Cython code may cimport.
"""

from cpython.bytes cimport PyBytes_AsString
from cpython.exc cimport PyErr_Occurred
from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

import os as _os
import typing

import numpy as np

from pyggml import errors as _errors

ROWS_TOKENS = <int>PGG_ROWS_TOKENS
ROWS_WANTED = <int>PGG_ROWS_WANTED
ROWS_SOURCE = <int>PGG_ROWS_SOURCE

_EXCEPTIONS = {
    <int>PGG_EINVAL: _errors.ArgumentError,
    <int>PGG_ETYPE: _errors.ArgumentError,
    <int>PGG_ESHAPE: _errors.ShapeError,
    <int>PGG_ENOMEM: _errors.OutOfMemory,
    <int>PGG_EFORMAT: _errors.GGUFError,
    <int>PGG_EUNSUPPORTED: _errors.UnsupportedError,
    <int>PGG_EBACKEND: _errors.BackendError,
    <int>PGG_ECANCELLED: _errors.Cancelled,
    <int>PGG_ENUMERIC: _errors.NumericError,
}


cdef int check(pgg_status status) except -1:
    """Raises what status means, with the core's sentence."""
    if status == PGG_OK:
        return 0
    if status == PGG_ECANCELLED and PyErr_Occurred() != NULL:  # by what a signal handler raised
        return -1
    cdef const char *text = pgg_last_error()
    message = (<bytes>text).decode("utf-8", "replace") or (<bytes>pgg_status_text(status)).decode()
    raise _EXCEPTIONS.get(<int>status, _errors.PyggmlError)(message)


cdef str text_of(const char *text):
    return (<bytes>text).decode("utf-8", "replace") if text != NULL else ""


cdef const uint8_t[::1] bytes_of(object data, size_t need, str what):
    """A flat byte view of data holding exactly need bytes."""
    view = memoryview(data)
    if not view.c_contiguous:
        raise _errors.ShapeError(f"{what}: the buffer is not contiguous")
    if view.nbytes != need:
        raise _errors.ShapeError(f"{what}: expected {need} bytes, got {view.nbytes}")
    return view.cast("B") if view.nbytes else memoryview(b"")


include "_signals.pxi"


# ---- facts ---------------------------------------------------------------------------------------------------


def version():
    return text_of(pgg_version())


def isa():
    check(pgg_init())
    return text_of(pgg_isa())


def isa_levels():
    cdef const char *names[16]
    cdef int n = pgg_isa_list(names, 16)
    return [text_of(names[i]) for i in range(min(n, 16))]


def isa_force(name):
    if name is None:
        check(pgg_isa_force(NULL))
    else:
        raw = name.encode()
        check(pgg_isa_force(PyBytes_AsString(raw)))


def default_threads():
    return pgg_threads_default()


def type_table():
    kinds = {<int>PGG_KIND_BLOCK: "block", <int>PGG_KIND_FLOAT: "float", <int>PGG_KIND_INT: "int",
             <int>PGG_KIND_ACT: "act"}
    rows = []
    cdef const pgg_type_info *info
    for i in range(pgg_type_count()):
        info = pgg_type_at(i)
        rows.append((info.id, text_of(info.name), info.elems, info.bytes, info.sub, kinds[<int>info.kind],
                     bool(info.encodes)))
    return rows


def type_codes(int type_id):
    cdef int16_t codes[256]
    cdef int n = pgg_type_codes(type_id, codes, 256)
    return [codes[i] for i in range(n)]


def row_bytes(int type_id, int64_t k):
    return pgg_row_bytes(type_id, k)


# ---- matrices ------------------------------------------------------------------------------------------------


cdef size_t rows_bytes(int type_id, int64_t rows, int64_t k) except? 0:
    """Bytes of rows rows of k values; raises where k does not fit the type."""
    cdef size_t one = pgg_row_bytes(type_id, k)
    cdef const pgg_type_info *info
    if rows < 0 or (one == 0 and k != 0):
        info = pgg_type_get(type_id)
        if info == NULL:
            raise _errors.ArgumentError(f"there is no tensor type {type_id}")
        raise _errors.ShapeError(
            f"rows of {k} values do not fit {text_of(info.name)}, whose blocks hold {info.elems}")
    if one != 0 and <uint64_t>rows > (<uint64_t>1 << 62) // one:
        raise _errors.ShapeError(f"{rows} rows of {one} bytes are too many")
    return <size_t>rows * one


cdef const float[::1] weights_of(importance, int64_t k):
    """k weights, or None."""
    cdef const float[::1] weights = importance
    if weights is not None and weights.shape[0] != k:
        raise _errors.ShapeError(f"importance: expected {k} values, one per column, got {weights.shape[0]}")
    return weights


def quantize(int type_id, x, importance=None, int n_threads=0):
    cdef const float[:, ::1] xs = x
    cdef int64_t rows = xs.shape[0], k = xs.shape[1]
    cdef size_t total = rows_bytes(type_id, rows, k)
    cdef const float[::1] weights = weights_of(importance, k)
    cdef const float *w = &weights[0] if weights is not None and k > 0 else NULL
    y = np.empty((rows, total // rows if rows else 0), np.uint8)
    cdef uint8_t[:, ::1] ys = y
    cdef pgg_status status
    if total == 0:
        return y
    with nogil:
        status = pgg_quantize(type_id, &xs[0, 0], &ys[0, 0], rows, k, w, n_threads)
    check(status)
    return y


def dequantize(int type_id, raw, int64_t rows, int64_t k, int n_threads=0):
    cdef size_t total = rows_bytes(type_id, rows, k)
    cdef const uint8_t[::1] data = bytes_of(raw, total, "dequantize")
    y = np.empty((rows, k), np.float32)
    cdef float[:, ::1] ys = y
    cdef pgg_status status
    if total == 0:
        return y
    with nogil:
        status = pgg_dequantize(type_id, &data[0], &ys[0, 0], rows, k, n_threads)
    check(status)
    return y


def requantize(int type_id, raw, int64_t rows, int64_t k, int new_type, importance=None, int n_threads=0):
    cdef size_t total = rows_bytes(type_id, rows, k), new_total = rows_bytes(new_type, rows, k)
    cdef const uint8_t[::1] data = bytes_of(raw, total, "requantize")
    cdef const float[::1] weights = weights_of(importance, k)
    cdef const float *w = &weights[0] if weights is not None and k > 0 else NULL
    y = np.empty((rows, new_total // rows if rows else 0), np.uint8)
    cdef uint8_t[:, ::1] ys = y
    cdef pgg_status status
    if total == 0 or new_total == 0:
        return y
    with nogil:
        status = pgg_requantize(type_id, &data[0], new_type, &ys[0, 0], rows, k, w, n_threads)
    check(status)
    return y


def matmul(int type_id, raw, int64_t m, int64_t k, x, int n_threads=0):
    cdef const float[:, ::1] xs = x
    cdef int64_t n = xs.shape[0]
    if xs.shape[1] != k:
        raise _errors.ShapeError(f"matmul: x has {xs.shape[1]} columns, the matrix ({m}, {k}) needs {k}")
    cdef size_t total = rows_bytes(type_id, m, k)
    cdef const uint8_t[::1] data = bytes_of(raw, total, "matmul")
    y = np.zeros((n, m), np.float32)
    cdef float[:, ::1] ys = y
    cdef pgg_status status
    if total == 0 or n == 0:
        return y
    with nogil:
        status = pgg_matmul(type_id, &data[0], &xs[0, 0], &ys[0, 0], m, n, k, n_threads)
    check(status)
    return y


def gguf_strings(data, size_t at, int64_t count):
    cdef const uint8_t[::1] view = data
    if count < 0 or <size_t>count > (<size_t>view.shape[0] // 8):
        raise _errors.GGUFError(f"{count} strings cannot fit into {view.shape[0]} bytes")
    spans = np.empty((count, 2), np.uint64)
    cdef uint64_t[:, ::1] out = spans
    cdef size_t end = at
    cdef pgg_status status
    if count == 0:
        return spans, at
    with nogil:
        status = pgg_gguf_strings(&view[0], <size_t>view.shape[0], at, count, &out[0, 0], &end)
    check(status)
    return spans, end


cdef extern from *:
    """
    #if defined(_WIN32)
    #include <io.h>
    #define pyggml_close _close
    #else
    #include <unistd.h>
    #define pyggml_close close
    #endif
    """
    int pyggml_close(int fd) nogil


cdef class Descriptor:
    """A file, opened as os.open does it, whose descriptor is given back once: by close(), or with the object.

    Opening and keeping are one step of compiled code: no Ctrl-C comes between and loses it.
    """
    cdef readonly int fd

    def __cinit__(self, path, int flags, int mode=0o777):
        self.fd = -1
        self.fd = _os.open(path, flags, mode)

    def close(self):
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            with nogil:
                pyggml_close(fd)

    def __dealloc__(self):
        if self.fd >= 0:
            pyggml_close(self.fd)


cdef class Memory:
    cdef void *p
    cdef readonly size_t nbytes
    cdef Py_ssize_t shape[1]

    def __cinit__(self, size_t nbytes):
        self.nbytes = nbytes
        self.p = pgg_alloc(nbytes if nbytes else 1)
        if self.p == NULL:
            raise _errors.OutOfMemory(f"{nbytes} bytes of memory were refused")
        self.shape[0] = <Py_ssize_t>nbytes

    def __dealloc__(self):
        if self.p != NULL:
            pgg_free(self.p, self.nbytes if self.nbytes else 1)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        buffer.buf = self.p
        buffer.obj = self
        buffer.len = <Py_ssize_t>self.nbytes
        buffer.itemsize = 1
        buffer.readonly = 0
        buffer.format = "B"
        buffer.ndim = 1
        buffer.shape = self.shape
        buffer.strides = &buffer.itemsize
        buffer.suboffsets = NULL
        buffer.internal = NULL

    def array(self):
        return np.asarray(self)


# ---- plans ---------------------------------------------------------------------------------------------------

include "_plans.pxi"


cdef class Sampler:
    cdef pgg_sampler *p
    cdef readonly int64_t n_vocab

    def __cinit__(self, int64_t n_vocab, *, float temperature, int top_k, float top_p, float min_p,
                  float repeat_penalty, float frequency_penalty, float presence_penalty, int repeat_last_n,
                  uint64_t seed, float top_n_sigma, float typical_p, float xtc_probability, float xtc_threshold,
                  float dynatemp_range, float dynatemp_exponent, int min_keep, int mirostat, float mirostat_tau,
                  float mirostat_eta):
        cdef pgg_sampling how
        how.temperature = temperature
        how.top_k = top_k
        how.top_p = top_p
        how.min_p = min_p
        how.repeat_penalty = repeat_penalty
        how.frequency_penalty = frequency_penalty
        how.presence_penalty = presence_penalty
        how.repeat_last_n = repeat_last_n
        how.seed = seed
        how.top_n_sigma = top_n_sigma
        how.typical_p = typical_p
        how.xtc_probability = xtc_probability
        how.xtc_threshold = xtc_threshold
        how.dynatemp_range = dynatemp_range
        how.dynatemp_exponent = dynatemp_exponent
        how.min_keep = min_keep
        how.mirostat = mirostat
        how.mirostat_tau = mirostat_tau
        how.mirostat_eta = mirostat_eta
        self.n_vocab = n_vocab
        check(pgg_sampler_new(&how, n_vocab, &self.p))

    def __dealloc__(self):
        pgg_sampler_free(self.p)

    def bias(self, ids, values):
        cdef const int32_t[::1] view = ids
        cdef const float[::1] added = values
        if view.shape[0] != added.shape[0]:
            raise _errors.ShapeError(f"sampler: {view.shape[0]} ids, but {added.shape[0]} biases")
        if view.shape[0]:
            check(pgg_sampler_bias(self.p, &view[0], &added[0], view.shape[0]))

    def allow(self, mask):
        cdef const uint32_t[::1] words = mask
        if mask is None:
            check(pgg_sampler_allow(self.p, NULL))
            return
        if words.shape[0] != (self.n_vocab + 31) // 32:
            raise _errors.ShapeError(
                f"sampler: the mask of {self.n_vocab} tokens has {(self.n_vocab + 31) // 32} words, got {words.shape[0]}")
        check(pgg_sampler_allow(self.p, &words[0]))

    def dry(self, float multiplier, float base, int32_t allowed_length, int32_t last_n, breakers, lengths):
        cdef const int32_t[::1] ids = breakers
        cdef const int32_t[::1] sizes = lengths
        cdef int64_t n = sizes.shape[0]
        if sum(lengths) != ids.shape[0]:
            raise _errors.ShapeError(f"sampler: breakers of {sum(lengths)} ids, got {ids.shape[0]}")
        check(pgg_sampler_dry(self.p, multiplier, base, allowed_length, last_n, &ids[0] if n else NULL,
                              &sizes[0] if n else NULL, n))

    def order(self, steps):
        cdef const int32_t[::1] view = steps
        check(pgg_sampler_order(self.p, &view[0] if view.shape[0] else NULL, <int>view.shape[0]))

    def adapt(self, float target, float decay):
        check(pgg_sampler_adapt(self.p, target, decay))

    def accept(self, ids):
        cdef const int32_t[::1] view = ids
        if view.shape[0]:
            check(pgg_sampler_accept(self.p, &view[0], view.shape[0]))

    def next(self, logits):
        cdef const float[::1] view = logits
        cdef int32_t token = -1
        if view.shape[0] != self.n_vocab:
            raise _errors.ShapeError(f"sampler: expected {self.n_vocab} logits, got {view.shape[0]}")
        check(pgg_sampler_next(self.p, &view[0], &token))
        return token

    def logprobs(self, logits, int32_t token, int64_t n_top):
        cdef const float[::1] view = logits
        cdef double logprob = 0
        if view.shape[0] != self.n_vocab:
            raise _errors.ShapeError(f"sampler: expected {self.n_vocab} logits, got {view.shape[0]}")
        n_top = max(0, min(n_top, self.n_vocab))
        cdef int32_t[::1] ids = np.empty(n_top + 1, np.int32)
        cdef double[::1] values = np.empty(n_top + 1, np.float64)
        check(pgg_sampler_logprobs(self.p, &view[0], token, &logprob, n_top, &ids[0], &values[0]))
        return logprob, tuple([(ids[i], values[i]) for i in range(n_top)])


MOST_MARKS = <int>PGG_MAX_MARKS


cdef class _Fed:
    """Ids and rows that a call feeds, and where they lie."""
    cdef const int32_t[::1] tokens
    cdef const float[:, ::1] values
    cdef const int32_t *ids
    cdef const float *rows
    cdef int64_t n

    def __cinit__(self, str who, ids, rows, int64_t cols):
        self.ids, self.rows = NULL, NULL
        if rows is not None:
            self.values = rows
            self.n = self.values.shape[0]
            if self.n and self.values.shape[1] != cols:
                raise _errors.ShapeError(f"{who}: rows have {self.values.shape[1]} columns, the plan's input has {cols}")
            if self.n and cols:
                self.rows = &self.values[0, 0]
        if ids is not None or rows is None:
            self.tokens = ids
            if rows is not None and self.tokens.shape[0] != self.n:
                raise _errors.ShapeError(f"{who}: {self.tokens.shape[0]} ids, but {self.n} rows")
            self.n = self.tokens.shape[0]
            if self.n:
                self.ids = &self.tokens[0]


cdef class Session:
    cdef pgg_session *p
    cdef Plan plan
    cdef int64_t n_out
    cdef object __weakref__

    def __cinit__(self, Plan plan, int64_t n_ctx, int kv_type, int output=0, *, bint bare=False):
        self.plan = plan
        if bare:  # fork() gives it one
            return
        check(pgg_session_new(plan.p, n_ctx, kv_type, &self.p))
        check(pgg_session_choose(self.p, output))  # for good: buffers are made for it
        self.n_out = pgg_session_output_cols(self.p)

    def __dealloc__(self):
        pgg_session_free(self.p)

    @property
    def closed(self):
        return pgg_session_n_past(self.p) < 0

    @property
    def n_past(self):
        cdef int64_t n_past = pgg_session_n_past(self.p)
        if n_past < 0:
            raise _errors.ArgumentError("this session is closed")
        return n_past

    @property
    def n_ctx(self):
        return pgg_session_n_ctx(self.p)

    @property
    def prompted(self):
        return pgg_session_prompted(self.p)

    def feeds(self, bint decode):
        check(pgg_session_kind(self.p, PGG_DECODE_ROWS if decode else PGG_PROMPT_ROWS))

    def truncate(self, int64_t n_past):
        cdef pgg_status status
        with nogil:
            status = pgg_session_truncate(self.p, n_past)
        check(status)

    def reset(self):
        cdef pgg_status status
        with nogil:
            status = pgg_session_reset(self.p)
        check(status)

    @property
    def reach(self):
        return pgg_session_reach(self.p)

    def back(self, int64_t n_past):
        return pgg_session_back(self.p, n_past)

    def mark(self):
        cdef pgg_status status
        with nogil:
            status = pgg_session_mark(self.p)
        check(status)

    def unmark(self, int64_t n_past):
        cdef pgg_status status
        with nogil:
            status = pgg_session_unmark(self.p, n_past)
        check(status)

    def fork(self):
        cdef Session other = Session.__new__(Session, self.plan, 0, 0, bare=True)
        check(pgg_session_fork(self.p, &other.p))
        other.n_out = self.n_out
        return other

    def shift(self, int64_t first, int64_t last):
        cdef pgg_status status
        with nogil:
            status = pgg_session_shift(self.p, first, last)
        check(status)

    def save(self):
        cdef size_t size = 0
        check(pgg_session_save(self.p, NULL, &size))
        out = np.empty(size, np.uint8)
        cdef uint8_t[::1] view = out
        cdef pgg_status status
        with nogil:
            status = pgg_session_save(self.p, &view[0], &size)
        check(status)
        return out[:size]

    def load(self, data):
        cdef const uint8_t[::1] view = memoryview(data).cast("B")
        cdef pgg_status status
        if view.shape[0] == 0:
            raise _errors.GGUFError("load: these bytes are no saved state")
        with nogil:
            status = pgg_session_load(self.p, &view[0], <size_t>view.shape[0])
        check(status)

    def cancel(self, bint on=True):
        pgg_session_cancel(self.p, on)

    def step(self, ids, int64_t n_wanted, int n_threads=0, rows=None):
        cdef _Fed fed = _Fed("step", ids, rows, pgg_plan_input_cols(self.plan.p))
        if n_wanted < 0 or n_wanted > fed.n:
            raise _errors.ArgumentError(f"step: {n_wanted} rows wanted of {fed.n}")
        out = np.empty((n_wanted, self.n_out), np.float32)
        cdef float[:, ::1] view = out
        cdef float *out_p = &view[0, 0] if n_wanted else NULL
        cdef pgg_status status
        with nogil:
            status = pgg_session_step(self.p, fed.ids, fed.rows, fed.n, n_wanted, out_p, n_threads)
        check(status)
        return out

    def encode(self, ids, int n_threads=0, rows=None):
        cdef _Fed fed = _Fed("encode", ids, rows, pgg_plan_source_cols(self.plan.p))
        cdef pgg_status status
        with nogil:
            status = pgg_session_encode(self.p, fed.ids, fed.rows, fed.n, n_threads)
        check(status)

    @property
    def n_source(self):
        return pgg_session_n_source(self.p)

    def next(self, Sampler sampler not None, ids, int n_threads=0):
        cdef const int32_t[::1] tokens = ids
        cdef int64_t n = tokens.shape[0]
        cdef int32_t token = -1
        cdef pgg_status status
        if n == 0:
            raise _errors.ArgumentError("next: no tokens to feed")
        with nogil:
            status = pgg_session_next(self.p, sampler.p, &tokens[0], n, n_threads, &token)
        check(status)
        return token

    def node(self, int node, int64_t rows):
        cols = self.plan.node_shape(node)[1]
        out = np.empty((rows, cols), np.float32)
        cdef float[:, ::1] view = out
        if rows:
            check(pgg_session_node(self.p, node, &view[0, 0], rows * cols))
        return out

    def close(self):
        with nogil:
            pgg_session_close(self.p)
