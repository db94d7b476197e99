# cython: language_level=3, boundscheck=False, wraparound=False
# A Cython module outside the package: cimports the core and calls a dot in a loop without the GIL.
from libc.stdint cimport int64_t
from pyggml._native cimport (PGG_OK, PGG_Q8_0, pgg_act_bytes, pgg_act_prepare, pgg_alloc, pgg_dot, pgg_free,
                             pgg_last_error, pgg_quantize, pgg_row_bytes)


def product(const float[:, ::1] w, const float[::1] x, float[::1] y):
    """y (m) = w (m, k) x (k), w in q8_0."""
    cdef int64_t m = w.shape[0], k = w.shape[1], r
    cdef size_t row = pgg_row_bytes(PGG_Q8_0, k), need = pgg_act_bytes(PGG_Q8_0, k)
    cdef char *q = <char *>pgg_alloc(row * <size_t>m)
    cdef void *act = pgg_alloc(need)
    cdef bint good = q != NULL and act != NULL
    if x.shape[0] != k or y.shape[0] != m:
        raise ValueError("shapes do not fit")
    try:
        with nogil:
            good = good and pgg_quantize(PGG_Q8_0, &w[0, 0], q, m, k, NULL, 1) == PGG_OK
            good = good and pgg_act_prepare(PGG_Q8_0, &x[0], act, k) == PGG_OK
            if good:
                for r in range(m):
                    y[r] = pgg_dot(PGG_Q8_0, q + <size_t>r * row, act, k)
        if not good:
            raise RuntimeError(pgg_last_error().decode())
    finally:
        pgg_free(q, row * <size_t>m)
        pgg_free(act, need)
