/* Own design. Logits are graded by their distance from the best, grades weighed in one pass over the row (kernel
 * grades); a running sum over grades leads to the one that holds the mark, and only its tokens are read again and
 * sorted. The sums differ from those over a sorted row by rounding: within that of the mark nothing is decided. */
#include "core/nucleus.h"

#include <float.h>
#include <math.h>
#include <string.h>

void pgg_nucleus_weigh(pgg_nucleus *m, const pgg_top_k *f, float top, float least, double range, double by) {
  const double all = (log((double)f->n_vocab) + 40) / by; /* what lies further is less than rounding */
  range = fmin(range, all);
  const float reach = (float)((double)top - range);
  if (reach > least) least = reach;
  range = (double)top - least;
  int e;
  frexp((PGG_GRADE_BINS - 2) / fmax(range, 0x1p-100), &e);
  m->by = by;
  m->how = (pgg_grades){.top = top, .least = least, .per = ldexpf(1, e - 1), .by = (float)fmin(by, FLT_MAX)};
  memset(m->bins, 0, sizeof m->bins);
  pgg_kernels_get()->grades(f->row, &m->how, m->bins, f->n_vocab);
  const double width = 1 / (double)m->how.per;
  m->total = 0;
  for (int b = 0; b < PGG_GRADE_BINS; b++)
    if (m->bins[b] > 0) m->total += m->bins[b] *= exp(-b * width * by);
  /* a weight is known to a part of its distance from the middle of its grade; sums round at every token */
  m->error = width * by > 0.125 ? INFINITY : width * by * 0x1p-21 + (double)f->n_vocab * 0x1p-51 + 0x1p-44;
}

/* The tokens of grade b into f's list, sorted. */
static void gather(const pgg_nucleus *m, pgg_top_k *f, int b) {
  enum { CHUNK = 4096 };
  const pgg_grades *how = &m->how;
  const double top = how->top, width = 1 / (double)how->per;
  const float low = (float)(top - (b + 1) * width), high = (float)(top - (b - 1) * width);
  int32_t ids[CHUNK];
  f->n = f->sorted = 0;
  f->whole = true; /* of what the list is to hold */
  for (int64_t start = 0; start < f->n_vocab; start += CHUNK) {
    const float *row = f->row + start;
    const int64_t n = pgg_kernels_get()->find(row, low, high, ids, pgg_min_i64(CHUNK, f->n_vocab - start));
    for (int64_t i = 0; i < n; i++) {
      const float x = row[ids[i]];
      if (x >= how->least && rintf((how->top - x) * how->per) == (float)b)
        f->list[f->n++] = (pgg_candidate){x, (int32_t)(start + ids[i])};
    }
  }
  pgg_top_k_sort(f, f->n);
}

int64_t pgg_nucleus_place(const pgg_nucleus *m, pgg_top_k *f, double mark) {
  const double sure = m->error * mark * 2;
  double seen = 0;
  int b = 0;
  while (b < PGG_GRADE_BINS && seen + m->bins[b] <= mark) seen += m->bins[b++];
  if (b == PGG_GRADE_BINS) return -1;
  gather(m, f, b);
  double weight = 0;
  for (int64_t i = 0; i < f->n; i++) {
    if (seen > 0 && seen >= mark - sure) return -1;
    if (i == 0 || f->list[i].logit != f->list[i - 1].logit)
      weight = exp(((double)f->list[i].logit - m->how.top) * m->by);
    seen += weight;
    if (seen > mark + sure) return i;
  }
  return -1;
}
