# The C API of pgg.h for Cython. Outside the package: `from pyggml._native cimport pgg_dot`, compile with
# pyggml.get_include() and link the library that `python -m pyggml --libs` names.
# Declares only; _native.pyx holds the Python face.
from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int32_t, int64_t, uint32_t, uint64_t

include "_quant_types.pxd"  # PGG_Q4_K and so on: made of quant_types.def by the build


cdef extern from "pgg.h" nogil:
    int PGG_ABI

    # ---- status
    ctypedef enum pgg_status:
        PGG_OK
        PGG_EINVAL
        PGG_ETYPE
        PGG_ESHAPE
        PGG_ENOMEM
        PGG_EFORMAT
        PGG_EUNSUPPORTED
        PGG_EBACKEND
        PGG_ECANCELLED
        PGG_ENUMERIC

    const char *pgg_version() noexcept
    int pgg_abi() noexcept
    const char *pgg_status_text(pgg_status status) noexcept
    const char *pgg_last_error() noexcept

    # ---- CPU level
    pgg_status pgg_init() noexcept
    const char *pgg_isa() noexcept
    int pgg_isa_list(const char **names, int cap) noexcept
    pgg_status pgg_isa_force(const char *name) noexcept
    int pgg_threads_default() noexcept

    # ---- long calls
    ctypedef int (*pgg_watcher)() noexcept
    void pgg_watch(pgg_watcher watcher) noexcept

    # ---- types (pgg_type itself: _quant_types.pxd)
    ctypedef enum pgg_type_kind:
        PGG_KIND_BLOCK
        PGG_KIND_FLOAT
        PGG_KIND_INT
        PGG_KIND_ACT

    ctypedef struct pgg_type_info:
        int id
        const char *name
        int elems
        int bytes
        int sub
        pgg_type_kind kind
        int encodes

    int pgg_type_count() noexcept
    const pgg_type_info *pgg_type_at(int index) noexcept
    const pgg_type_info *pgg_type_get(int id) noexcept
    size_t pgg_row_bytes(int type, int64_t k) noexcept
    int pgg_type_codes(int type, int16_t *codes, int cap) noexcept
    pgg_status pgg_quantize(int type, const float *x, void *y, int64_t rows, int64_t k, const float *importance,
                            int n_threads) noexcept
    pgg_status pgg_dequantize(int type, const void *x, float *y, int64_t rows, int64_t k, int n_threads) noexcept
    pgg_status pgg_requantize(int from_type, const void *x, int to_type, void *y, int64_t rows, int64_t k,
                              const float *importance, int n_threads) noexcept

    # ---- products
    pgg_status pgg_matmul(int type, const void *w, const float *x, float *y, int64_t m, int64_t n, int64_t k,
                          int n_threads) noexcept
    size_t pgg_act_bytes(int type, int64_t k) noexcept
    pgg_status pgg_act_prepare(int type, const float *x, void *act, int64_t k) noexcept
    float pgg_dot(int type, const void *w_row, const void *act, int64_t k) noexcept

    # ---- memory
    void *pgg_alloc(size_t bytes) noexcept
    void pgg_free(void *p, size_t bytes) noexcept

    # ---- plans
    ctypedef struct pgg_plan:
        pass

    ctypedef enum pgg_activation:  # the rows of activations.def: find one by pgg_activation_name
        PGG_ACTIVATION_COUNT

    ctypedef enum pgg_op_kind:  # the rows of ops.def: find one by pgg_op_name
        PGG_OP_COUNT

    const char *pgg_op_name(int kind) noexcept
    const char *pgg_activation_name(int at) noexcept

    enum:
        PGG_MAX_SRC
        PGG_MAX_WEIGHTS
        PGG_MAX_INTS
        PGG_MAX_FLOATS

    ctypedef struct pgg_op:
        int kind
        const char *name
        int src[6]
        int weight[6]
        int64_t i[12]
        float f[8]

    ctypedef enum pgg_field_kind:
        PGG_FIELD_SRC
        PGG_FIELD_WEIGHT
        PGG_FIELD_INT
        PGG_FIELD_FLOAT

    ctypedef enum pgg_field_rule:
        PGG_RULE_ANY
        PGG_RULE_TOKENS
        PGG_RULE_NEEDED
        PGG_RULE_OPTIONAL
        PGG_RULE_FROM_ZERO
        PGG_RULE_POSITIVE
        PGG_RULE_EITHER

    ctypedef struct pgg_op_field:
        const char *name
        pgg_field_kind kind
        pgg_field_rule rule
        int64_t low
        int64_t high

    const pgg_op_field *pgg_op_fields(int kind) noexcept

    ctypedef struct pgg_limits:
        int n_batch
        int n_ctx
        int keep_all

    enum:
        PGG_ROWS_TOKENS
        PGG_ROWS_WANTED
        PGG_ROWS_SOURCE

    ctypedef enum pgg_device_kind:
        PGG_DEVICE_CPU
        PGG_DEVICE_GPU
        PGG_DEVICE_IGPU

    ctypedef struct pgg_device_info:
        char id[32]
        char name[128]
        char driver[64]
        pgg_device_kind kind
        int unified
        uint64_t total
        uint64_t free_bytes
        char why_not[256]

    int pgg_device_count() noexcept
    pgg_status pgg_device_about(int device, pgg_device_info *about) noexcept

    pgg_status pgg_plan_new(pgg_plan **plan) noexcept
    void pgg_plan_free(pgg_plan *plan) noexcept
    int pgg_plan_close(pgg_plan *plan) noexcept
    int pgg_plan_caches(pgg_plan *plan, size_t *bytes, int cap) noexcept
    size_t pgg_plan_cache_bytes(pgg_plan *plan) noexcept
    pgg_status pgg_plan_weight(pgg_plan *plan, const char *name, int type, const void *data, int64_t rows,
                               int64_t cols, int *index) noexcept
    pgg_status pgg_plan_op(pgg_plan *plan, const pgg_op *op, int *node) noexcept
    pgg_status pgg_plan_output(pgg_plan *plan, int node) noexcept
    pgg_status pgg_plan_place(pgg_plan *plan, int first_op, int last_op, int device) noexcept
    pgg_status pgg_plan_freeze(pgg_plan *plan, const pgg_limits *limits) noexcept
    pgg_status pgg_plan_node_shape(const pgg_plan *plan, int node, int64_t *rows, int64_t *cols) noexcept
    int64_t pgg_plan_output_cols(const pgg_plan *plan) noexcept
    int64_t pgg_plan_input_cols(const pgg_plan *plan) noexcept
    int64_t pgg_plan_source_cols(const pgg_plan *plan) noexcept
    ctypedef struct pgg_plan_bytes:
        size_t weights
        size_t scratch
        size_t cache
        size_t position
        size_t mark
    pgg_status pgg_plan_memory(const pgg_plan *plan, int device, int kv_type, int64_t n_ctx, pgg_plan_bytes *bytes) noexcept
    size_t pgg_plan_arena_bytes(const pgg_plan *plan) noexcept
    size_t pgg_plan_kv_bytes(const pgg_plan *plan, int kv_type, int64_t n_ctx) noexcept

    ctypedef struct pgg_op_time:
        const char *name
        const char *kind
        int64_t calls
        int64_t ns

    pgg_status pgg_plan_profile(pgg_plan *plan, int on) noexcept
    int pgg_plan_times(const pgg_plan *plan, pgg_op_time *times, int cap) noexcept

    # ---- sessions
    ctypedef struct pgg_session:
        pass

    pgg_status pgg_session_new(pgg_plan *plan, int64_t n_ctx, int kv_type, pgg_session **session) noexcept
    void pgg_session_close(pgg_session *session) noexcept
    void pgg_session_free(pgg_session *session) noexcept
    int64_t pgg_session_n_past(const pgg_session *session) noexcept
    int64_t pgg_session_n_ctx(const pgg_session *session) noexcept
    pgg_status pgg_session_truncate(pgg_session *session, int64_t n_past) noexcept
    int64_t pgg_session_reach(const pgg_session *session) noexcept
    int64_t pgg_session_back(const pgg_session *session, int64_t n_past) noexcept
    int PGG_MAX_MARKS
    pgg_status pgg_session_reset(pgg_session *session) noexcept
    pgg_status pgg_session_encode(pgg_session *session, const int32_t *ids, const float *rows, int64_t n,
                                  int n_threads) noexcept
    int64_t pgg_session_n_source(const pgg_session *session) noexcept
    int PGG_PROMPT_ROWS
    int PGG_DECODE_ROWS
    pgg_status pgg_session_mark(pgg_session *session) noexcept
    pgg_status pgg_session_unmark(pgg_session *session, int64_t n_past) noexcept
    pgg_status pgg_session_fork(pgg_session *session, pgg_session **fork) noexcept
    pgg_status pgg_session_shift(pgg_session *session, int64_t first, int64_t last) noexcept
    pgg_status pgg_session_save(pgg_session *session, void *bytes, size_t *size) noexcept
    pgg_status pgg_session_load(pgg_session *session, const void *bytes, size_t size) noexcept
    void pgg_session_cancel(pgg_session *session, int on) noexcept
    pgg_status pgg_session_choose(pgg_session *session, int output) noexcept
    int64_t pgg_session_output_cols(const pgg_session *session) noexcept
    pgg_status pgg_session_kind(pgg_session *session, int kind) noexcept
    int64_t pgg_session_prompted(const pgg_session *session) noexcept
    pgg_status pgg_session_step(pgg_session *session, const int32_t *ids, const float *rows, int64_t n,
                                int64_t n_wanted, float *out, int n_threads) noexcept
    pgg_status pgg_plan_step(pgg_plan *plan, pgg_session *const *sessions, const int64_t *counts, int n_session,
                             const int32_t *ids, const int64_t *n_wanted, float *out, int n_threads) noexcept
    pgg_status pgg_session_node(pgg_session *session, int node, float *out, int64_t count) noexcept

    # ---- sampling
    ctypedef struct pgg_sampling:
        float temperature
        int32_t top_k
        float top_p
        float min_p
        float repeat_penalty
        float frequency_penalty
        float presence_penalty
        int32_t repeat_last_n
        uint64_t seed
        float top_n_sigma
        float typical_p
        float xtc_probability
        float xtc_threshold
        float dynatemp_range
        float dynatemp_exponent
        int32_t min_keep
        int32_t mirostat
        float mirostat_tau
        float mirostat_eta

    ctypedef struct pgg_sampler:
        pass

    pgg_status pgg_sampler_new(const pgg_sampling *how, int64_t n_vocab, pgg_sampler **sampler) noexcept
    void pgg_sampler_free(pgg_sampler *sampler) noexcept
    pgg_status pgg_sampler_bias(pgg_sampler *sampler, const int32_t *ids, const float *bias, int64_t n) noexcept
    pgg_status pgg_sampler_allow(pgg_sampler *sampler, const uint32_t *allowed) noexcept
    pgg_status pgg_sampler_dry(pgg_sampler *sampler, float multiplier, float base, int32_t allowed_length,
                               int32_t last_n, const int32_t *breakers, const int32_t *lengths, int64_t n) noexcept
    pgg_status pgg_sampler_order(pgg_sampler *sampler, const int32_t *steps, int n) noexcept
    pgg_status pgg_sampler_adapt(pgg_sampler *sampler, float target, float decay) noexcept
    pgg_status pgg_sampler_accept(pgg_sampler *sampler, const int32_t *ids, int64_t n) noexcept
    pgg_status pgg_sampler_next(pgg_sampler *sampler, const float *logits, int32_t *id) noexcept
    pgg_status pgg_sampler_logprobs(pgg_sampler *sampler, const float *logits, int32_t id, double *logprob,
                                    int64_t n_top, int32_t *top_ids, double *top_logprobs) noexcept
    pgg_status pgg_session_next(pgg_session *session, pgg_sampler *sampler, const int32_t *ids, int64_t n,
                                int n_threads, int32_t *id) noexcept
    pgg_status pgg_plan_next(pgg_plan *plan, pgg_session *const *sessions, pgg_sampler *const *samplers,
                             const int64_t *counts, int n_session, const int32_t *ids, int n_threads,
                             int32_t *out_ids) noexcept

    # ---- plans as files, models without Python
    int pgg_plan_weight_count(const pgg_plan *plan) noexcept
    const char *pgg_plan_weight_name(const pgg_plan *plan, int index) noexcept

    ctypedef struct pgg_plan_part:
        const void *header
        uint64_t header_size
        uint64_t size

    ctypedef struct pgg_plan_source:
        const pgg_plan_part *parts
        int n_part
        const int32_t *part_of
        const uint64_t *offsets
        const int32_t *ends
        int n_end

    pgg_status pgg_plan_save(const pgg_plan *plan, const pgg_plan_source *source, void *bytes, size_t *size) noexcept

    ctypedef struct pgg_model:
        pass

    pgg_status pgg_model_open(const char *gguf, const char *plan, pgg_model **model) noexcept
    void pgg_model_close(pgg_model *model) noexcept
    pgg_plan *pgg_model_plan(const pgg_model *model) noexcept
    int pgg_model_is_end(const pgg_model *model, int32_t id) noexcept
    pgg_status pgg_model_unchanged(const pgg_model *model) noexcept

    # ---- GGUF leaf
    pgg_status pgg_gguf_strings(const void *data, size_t size, size_t at, int64_t count, uint64_t *spans,
                                size_t *end) noexcept
