# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""The C core for Python: check, release the GIL, call. All sense lives above (Python) or below (pgg.h).

The C functions are declared in _native.pxd, which other Cython code may cimport.
"""

from cpython.bytes cimport PyBytes_AsString
from cpython.exc cimport PyErr_Occurred
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memset

import typing

import numpy as np

from pyggml import errors as _errors

ROWS_TOKENS = <int>PGG_ROWS_TOKENS
ROWS_WANTED = <int>PGG_ROWS_WANTED

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

class OpField(typing.NamedTuple):
    name: str
    kind: str
    optional: bool
    low: int
    high: int


cdef dict op_kinds():
    """name -> (id, fields) of every op, as ops.def has them."""
    words = {<int>PGG_FIELD_SRC: "node", <int>PGG_FIELD_WEIGHT: "weight", <int>PGG_FIELD_INT: "int",
             <int>PGG_FIELD_FLOAT: "float"}
    kinds = {}
    cdef const pgg_op_field *field
    for i in range(<int>PGG_OP_COUNT):
        fields = []
        field = pgg_op_fields(i)
        while field.name != NULL:
            fields.append(OpField(text_of(field.name), words[<int>field.kind], field.rule == PGG_RULE_OPTIONAL,
                                  field.low, field.high))
            field += 1
        kinds[text_of(pgg_op_name(i))] = i, tuple(fields)
    return kinds


_OPS = op_kinds()


def op_table():
    return {name: fields for name, (_, fields) in _OPS.items()}


def activations():
    return [text_of(pgg_activation_name(i)) for i in range(<int>PGG_ACTIVATION_COUNT)]


cdef class Sampler
cdef class Session


cdef tuple joined(sessions, ids):
    """Handles of sessions, tokens of each, all tokens one after another."""
    if len(sessions) != len(ids):
        raise _errors.ArgumentError(f"{len(sessions)} sessions, but tokens for {len(ids)}")
    if not len(sessions) or not all(len(part) for part in ids):
        raise _errors.ArgumentError("a step needs sessions, and tokens for each")
    handles = np.empty(len(sessions), np.uintp)
    cdef size_t[::1] view = handles
    cdef Session session
    for i in range(len(sessions)):
        if sessions[i] is None:
            raise _errors.ArgumentError(f"session {i} is None")
        session = sessions[i]
        view[i] = <size_t>session.p
    return handles, np.array([len(part) for part in ids], np.int64), np.concatenate(ids, dtype=np.int32)


cdef class Plan:
    cdef pgg_plan *p
    cdef list keep
    cdef object __weakref__

    def __cinit__(self):
        self.keep = []
        check(pgg_plan_new(&self.p))

    def __dealloc__(self):
        pgg_plan_free(self.p)

    def weight(self, str name, int type_id, data, int64_t rows, int64_t cols):
        cdef const uint8_t[::1] view = bytes_of(data, rows_bytes(type_id, rows, cols), name)
        cdef int index = -1
        if view.shape[0] == 0:
            raise _errors.ShapeError(f"{name} is empty: shape ({rows}, {cols})")
        raw = name.encode()
        check(pgg_plan_weight(self.p, PyBytes_AsString(raw), type_id, &view[0], rows, cols, &index))
        self.keep.append(view)
        return index

    def op(self, str kind, str name, **values):
        cdef pgg_op op
        cdef int node = -1, n_src = 0, n_weight = 0, n_int = 0, n_float = 0
        if kind not in _OPS:
            raise _errors.UnsupportedError(f"{name}: there is no op {kind!r}; known: {', '.join(_OPS)}")
        number, fields = _OPS[kind]
        raw = name.encode()
        memset(&op, 0, sizeof(op))
        op.kind = number
        op.name = PyBytes_AsString(raw)
        for j in range(PGG_MAX_SRC):
            op.src[j] = -1
        for j in range(PGG_MAX_WEIGHTS):
            op.weight[j] = -1
        for field in fields:
            value = values.pop(field.name, None)
            if value is None and not field.optional:
                raise _errors.ArgumentError(f"{name}: op {kind} needs {field.name}")
            if field.kind == "node":
                op.src[n_src] = value
                n_src += 1
            elif field.kind == "weight":
                op.weight[n_weight] = -1 if value is None else value
                n_weight += 1
            elif field.kind == "int":
                op.i[n_int] = value
                n_int += 1
            else:
                op.f[n_float] = value
                n_float += 1
        if values:
            known = ", ".join(field.name for field in fields)
            raise _errors.ArgumentError(f"{name}: op {kind} has no {', '.join(sorted(values))}; it has {known}")
        check(pgg_plan_op(self.p, &op, &node))
        return node

    def output(self, int node):
        check(pgg_plan_output(self.p, node))

    def freeze(self, int n_batch, int n_ctx, bint keep_all=False):
        cdef pgg_limits limits
        limits.n_batch = n_batch
        limits.n_ctx = n_ctx
        limits.keep_all = keep_all
        check(pgg_plan_freeze(self.p, &limits))

    def node_shape(self, int node):
        cdef int64_t rows = 0, cols = 0
        check(pgg_plan_node_shape(self.p, node, &rows, &cols))
        return rows, cols

    @property
    def weight_names(self):
        return [text_of(pgg_plan_weight_name(self.p, i)) for i in range(pgg_plan_weight_count(self.p))]

    def save(self, header, uint64_t gguf_size, offsets, ends):
        cdef const uint8_t[::1] head = header
        cdef const uint64_t[::1] places = np.append(np.array(offsets, np.uint64), np.uint64(0))  # never empty
        cdef const int32_t[::1] last = np.append(np.array(ends, np.int32), np.int32(0))
        cdef pgg_plan_source source
        cdef size_t size = 0
        if len(offsets) != pgg_plan_weight_count(self.p) or head.shape[0] == 0:
            raise _errors.ArgumentError(f"save: {len(offsets)} offsets for {pgg_plan_weight_count(self.p)} weights")
        source.gguf = &head[0]
        source.header_size = head.shape[0]
        source.gguf_size = gguf_size
        source.offsets = &places[0]
        source.ends = &last[0]
        source.n_end = <int>len(ends)
        check(pgg_plan_save(self.p, &source, NULL, &size))
        made = np.empty(size, np.uint8)
        cdef uint8_t[::1] out = made
        check(pgg_plan_save(self.p, &source, &out[0], &size))
        return made.tobytes()

    def kv_bytes(self, int kv_type, int64_t n_ctx):
        return pgg_plan_kv_bytes(self.p, kv_type, n_ctx)

    @property
    def arena_bytes(self):
        return pgg_plan_arena_bytes(self.p)

    def caches(self):
        cdef int n = pgg_plan_caches(self.p, NULL, 0)
        sizes = np.zeros(max(n, 1), np.uintp)
        cdef size_t[::1] view = sizes
        return sizes[:min(n, pgg_plan_caches(self.p, &view[0], n))].tolist()

    def close(self):
        cdef int quiet
        with nogil:
            quiet = pgg_plan_close(self.p)
        if quiet:  # else a step of this very thread still reads the weights
            self.keep = []

    def step(self, sessions, ids, n_wanted, int n_threads=0):
        sessions = tuple(sessions)  # nobody takes one away meanwhile
        handles, n_tokens, flat = joined(sessions, ids)
        rows = np.array(n_wanted, np.int64)
        if rows.shape != n_tokens.shape or (rows < 0).any() or (rows > n_tokens).any():
            raise _errors.ArgumentError(f"step: {list(n_wanted)} rows wanted of {n_tokens.tolist()} tokens")
        cdef size_t[::1] ps = handles
        cdef const int64_t[::1] counts = n_tokens, wanted = rows
        cdef const int32_t[::1] tokens = flat
        out = np.empty((int(rows.sum()), pgg_plan_output_cols(self.p)), np.float32)
        cdef float[:, ::1] view = out
        cdef float *out_p = &view[0, 0] if view.shape[0] else NULL
        cdef int n = <int>ps.shape[0]
        cdef pgg_status status
        with nogil:
            status = pgg_plan_step(self.p, <pgg_session **>&ps[0], &counts[0], n, &tokens[0], &wanted[0], out_p,
                                   n_threads)
        check(status)
        return np.split(out, np.cumsum(rows)[:-1])

    def next(self, sessions, samplers, ids, int n_threads=0):
        sessions, samplers = tuple(sessions), tuple(samplers)
        handles, n_tokens, flat = joined(sessions, ids)
        if len(samplers) != len(sessions):
            raise _errors.ArgumentError(f"next: {len(sessions)} sessions, but {len(samplers)} samplers")
        choosers = np.empty(len(samplers), np.uintp)
        cdef size_t[::1] ps = handles, qs = choosers
        cdef Sampler sampler
        for i in range(len(samplers)):
            if samplers[i] is None:
                raise _errors.ArgumentError(f"next: sampler {i} is None")
            sampler = samplers[i]
            qs[i] = <size_t>sampler.p
        cdef const int64_t[::1] counts = n_tokens
        cdef const int32_t[::1] tokens = flat
        out = np.empty(len(samplers), np.int32)
        cdef int32_t[::1] chosen = out
        cdef int n = <int>ps.shape[0]
        cdef pgg_status status
        with nogil:
            status = pgg_plan_next(self.p, <pgg_session **>&ps[0], <pgg_sampler **>&qs[0], &counts[0], n, &tokens[0],
                                   n_threads, &chosen[0])
        check(status)
        return out.tolist()

    def profile(self, bint on):
        check(pgg_plan_profile(self.p, on))

    def times(self):
        cdef int n = pgg_plan_times(self.p, NULL, 0)
        if n <= 0:
            return []
        raw = np.zeros(n * sizeof(pgg_op_time), np.uint8)
        cdef uint8_t[::1] view = raw
        cdef pgg_op_time *times = <pgg_op_time *>&view[0]
        n = min(n, pgg_plan_times(self.p, times, n))
        return [(text_of(times[i].name), text_of(times[i].kind), times[i].calls, times[i].ns) for i in range(n)]


cdef class Sampler:
    cdef pgg_sampler *p
    cdef readonly int64_t n_vocab

    def __cinit__(self, int64_t n_vocab, *, float temperature, int top_k, float top_p, float min_p,
                  float repeat_penalty, float frequency_penalty, float presence_penalty, int repeat_last_n,
                  uint64_t seed):
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
        self.n_vocab = n_vocab
        check(pgg_sampler_new(&how, n_vocab, &self.p))

    def __dealloc__(self):
        pgg_sampler_free(self.p)

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


cdef class Session:
    cdef pgg_session *p
    cdef Plan plan
    cdef int64_t n_out
    cdef object __weakref__

    def __cinit__(self, Plan plan, int64_t n_ctx, int kv_type):
        self.plan = plan
        check(pgg_session_new(plan.p, n_ctx, kv_type, &self.p))
        self.n_out = pgg_plan_output_cols(plan.p)

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

    def truncate(self, int64_t n_past):
        cdef pgg_status status
        with nogil:
            status = pgg_session_truncate(self.p, n_past)
        check(status)

    def cancel(self, bint on=True):
        pgg_session_cancel(self.p, on)

    def step(self, ids, int64_t n_wanted, int n_threads=0, rows=None):
        cdef const int32_t[::1] tokens
        cdef const float[:, ::1] values
        cdef const int32_t *id_p = NULL
        cdef const float *row_p = NULL
        cdef int64_t n
        if rows is not None:
            values = rows
            n = values.shape[0]
            if n and values.shape[1] != pgg_plan_input_cols(self.plan.p):
                raise _errors.ShapeError(f"step: rows have {values.shape[1]} columns, the plan's input has "
                                         f"{pgg_plan_input_cols(self.plan.p)}")
            if n and values.shape[1]:
                row_p = &values[0, 0]
        else:
            tokens = ids
            n = tokens.shape[0]
            if n:
                id_p = &tokens[0]
        if n_wanted < 0 or n_wanted > n:
            raise _errors.ArgumentError(f"step: {n_wanted} rows wanted of {n}")
        out = np.empty((n_wanted, self.n_out), np.float32)
        cdef float[:, ::1] view = out
        cdef float *out_p = &view[0, 0] if n_wanted else NULL
        cdef pgg_status status
        with nogil:
            status = pgg_session_step(self.p, id_p, row_p, n, n_wanted, out_p, n_threads)
        check(status)
        return out

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
