# A part of _native.pyx: plans, and the words in which ops are said (native/core/ops.def).
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
                op.src[n_src] = -1 if value is None else value
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

    def save(self, headers, sizes, parts, offsets, ends):
        """headers, sizes: of each file that weights lie in; parts, offsets: in which of them each lies, and where."""
        cdef const int32_t[::1] which = np.append(np.array(parts, np.int32), np.int32(0))  # never empty
        cdef const uint64_t[::1] places = np.append(np.array(offsets, np.uint64), np.uint64(0))
        cdef const int32_t[::1] last = np.append(np.array(ends, np.int32), np.int32(0))
        heads = [np.frombuffer(header, np.uint8) for header in headers]
        cdef uint8_t[::1] room = np.zeros(max(len(heads), 1) * sizeof(pgg_plan_part), np.uint8)
        cdef pgg_plan_part *files = <pgg_plan_part *>&room[0]
        cdef const uint8_t[::1] head
        cdef pgg_plan_source source
        cdef size_t size = 0
        if not len(offsets) == len(parts) == pgg_plan_weight_count(self.p):
            raise _errors.ArgumentError(f"save: {len(offsets)} offsets for {pgg_plan_weight_count(self.p)} weights")
        for i, (whole, n) in enumerate(zip(heads, sizes, strict=True)):
            head = whole
            files[i].header = &head[0] if head.shape[0] else NULL
            files[i].header_size = head.shape[0]
            files[i].size = n
        source.parts = files
        source.n_part = <int>len(heads)
        source.part_of = &which[0]
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

    def memory(self, int kv_type, int64_t n_ctx, int device=-1):
        cdef pgg_plan_bytes got
        check(pgg_plan_memory(self.p, device, kv_type, n_ctx, &got))
        return {"weights": got.weights, "scratch": got.scratch, "cache": got.cache, "position": got.position,
                "mark": got.mark}

    @property
    def arena_bytes(self):
        return pgg_plan_arena_bytes(self.p)

    def caches(self):
        cdef int n = pgg_plan_caches(self.p, NULL, 0)
        sizes = np.zeros(max(n, 1), np.uintp)
        cdef size_t[::1] view = sizes
        return sizes[:min(n, pgg_plan_caches(self.p, &view[0], n))].tolist()

    @property
    def cache_bytes(self):
        return pgg_plan_cache_bytes(self.p)

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
        out = np.empty((int(rows.sum()), (<Session>sessions[0]).n_out), np.float32)
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
            sampler = samplers[i]
            qs[i] = 0 if sampler is None else <size_t>sampler.p
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
