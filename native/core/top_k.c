/* The best of a row. A value among the k best lies in a block whose maximum is at least the k-th largest maximum, so
 * that bound, found among few maxima, leaves few blocks to read. No arithmetic on logits: nothing is ever rounded. */
#include "core/top_k.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/kernels.h"

static int64_t n_tops(const pgg_top_k *f) { return (f->n_vocab + PGG_TOPS_BLOCK - 1) / PGG_TOPS_BLOCK; }

int64_t pgg_top_k_best(const pgg_top_k *f) {
  const int64_t blocks = n_tops(f);
  int64_t at = 0;
  for (int64_t b = 1; b < blocks; b++)
    if (f->tops[b] > f->tops[at]) at = b;
  if (f->tops[at] == -INFINITY) return -1;
  int64_t i = at * PGG_TOPS_BLOCK;
  while (f->row[i] != f->tops[at]) i++;
  return i;
}

/* ---- gathering ----------------------------------------------------------------------------------------- */

/* The k-th largest of x (n), k <= n; x is permuted. Expected linear: the pivot is the median of three. */
static float kth_largest(float *x, int64_t n, int64_t k) {
  int64_t low = 0, high = n - 1;
  while (low < high) {
    const float a = x[low], b = x[low + (high - low) / 2], c = x[high];
    const float small = a < b ? a : b, large = a < b ? b : a;
    const float pivot = c < small ? small : c > large ? large : c;
    int64_t i = low, j = high;
    while (i <= j) {
      while (x[i] > pivot) i++;
      while (x[j] < pivot) j--;
      if (i > j) break;
      const float t = x[i];
      x[i++] = x[j];
      x[j--] = t;
    }
    if (k - 1 <= j)
      high = j;
    else if (k - 1 >= i)
      low = i;
    else
      break;
  }
  return x[k - 1];
}

/* A bound that at least k logits reach: the k-th largest of maxima, each of so many blocks that few are left to
 * search. -infinity where there are too few blocks. */
static float bound(const pgg_top_k *f, int64_t k) {
  const int64_t blocks = n_tops(f);
  if (k > blocks) return -INFINITY;
  const int64_t group = pgg_max_i64(1, blocks / pgg_max_i64(3 * k, 64)), n = (blocks + group - 1) / group;
  for (int64_t g = 0, b = 0; g < n; g++) {
    float top = f->tops[b];
    for (const int64_t end = pgg_min_i64(b + group, blocks); b < end; b++) top = f->tops[b] > top ? f->tops[b] : top;
    f->room[g] = top;
  }
  return kth_largest(f->room, n, k);
}

void pgg_top_k_above(pgg_top_k *f, float least, int64_t most) {
  const int64_t blocks = n_tops(f);
  f->n = f->sorted = 0;
  for (int64_t b = 0; b < blocks && f->n <= most; b++) {
    if (f->tops[b] < least || f->tops[b] == -INFINITY) continue;
    const int64_t end = pgg_min_i64((b + 1) * PGG_TOPS_BLOCK, f->n_vocab);
    for (int64_t i = b * PGG_TOPS_BLOCK; i < end; i++)
      if (f->row[i] >= least && f->row[i] != -INFINITY) f->list[f->n++] = (pgg_candidate){f->row[i], (int32_t)i};
  }
  f->whole = least == -INFINITY && f->n <= most;
}

void pgg_top_k_gather(pgg_top_k *f, int64_t k) { pgg_top_k_above(f, bound(f, pgg_min_i64(k, f->n_vocab)), f->n_vocab); }

/* ---- sorting ------------------------------------------------------------------------------------------- */

static bool before(pgg_candidate a, pgg_candidate b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static int compare(const void *a, const void *b) {
  const pgg_candidate *x = a, *y = b;
  return before(*x, *y) ? -1 : before(*y, *x) ? 1 : 0;
}

static void swap(pgg_candidate *a, pgg_candidate *b) {
  pgg_candidate t = *a;
  *a = *b;
  *b = t;
}

/* Moves the k best of list (n) to its front, in no order. Expected linear: the pivot is the median of three. */
static void select_best(pgg_candidate *list, int64_t n, int64_t k) {
  int64_t low = 0, high = n - 1;
  while (low < high && k > low && k <= high) {
    int64_t mid = low + (high - low) / 2;
    if (before(list[mid], list[low])) swap(&list[mid], &list[low]);
    if (before(list[high], list[low])) swap(&list[high], &list[low]);
    if (before(list[high], list[mid])) swap(&list[high], &list[mid]);
    const pgg_candidate pivot = list[mid];
    int64_t i = low, j = high;
    while (i <= j) {
      while (before(list[i], pivot)) i++;
      while (before(pivot, list[j])) j--;
      if (i <= j) swap(&list[i++], &list[j--]);
    }
    if (k - 1 <= j)
      high = j;
    else if (k - 1 >= i)
      low = i;
    else
      return;
  }
}

/* The rank of a token as a number that grows from best to worst; both zeros are one. */
static uint64_t rank_of(pgg_candidate c) {
  const float logit = c.logit + 0.0f;
  uint32_t bits;
  memcpy(&bits, &logit, sizeof bits);
  bits = bits >> 31 ? bits : ~bits & 0x7fffffffu;
  return (uint64_t)bits << 32 | (uint32_t)c.id;
}

/* Sorts list (n < 2^32) by digits of the rank from the last to the first; a digit that all share costs nothing, and
 * neither do ids that are in order already. */
static void sort_digits(pgg_candidate *list, pgg_candidate *spare, int64_t n) {
  enum { BITS = 11, DIGITS = 6, RADIX = 1 << BITS };
  uint32_t count[DIGITS][RADIX];
  bool in_order = true;
  memset(count, 0, sizeof count);
  for (int64_t i = 0; i < n; i++) {
    const uint64_t rank = rank_of(list[i]);
    for (int d = 0; d < DIGITS; d++) count[d][rank >> d * BITS & (RADIX - 1)]++;
    in_order &= i == 0 || list[i].id > list[i - 1].id;
  }
  pgg_candidate *from = list, *to = spare;
  for (int d = 0; d < DIGITS; d++) {
    if (in_order && (d + 1) * BITS <= 32) continue;
    if (count[d][rank_of(*from) >> d * BITS & (RADIX - 1)] == n) continue;
    uint32_t place = 0;
    for (int r = 0; r < RADIX; r++) {
      const uint32_t here = count[d][r];
      count[d][r] = place;
      place += here;
    }
    for (int64_t i = 0; i < n; i++) to[count[d][rank_of(from[i]) >> d * BITS & (RADIX - 1)]++] = from[i];
    pgg_candidate *t = from;
    from = to;
    to = t;
  }
  if (from != list) memcpy(list, from, (size_t)n * sizeof *list);
}

void pgg_top_k_sort(pgg_top_k *f, int64_t k) {
  enum { MANY = 128 };
  if (k > f->n && !f->whole) pgg_top_k_gather(f, k);
  k = pgg_min_i64(k, f->n);
  if (k <= f->sorted) return;
  pgg_candidate *rest = f->list + f->sorted;
  select_best(rest, f->n - f->sorted, k - f->sorted);
  if (k - f->sorted > MANY)
    sort_digits(rest, f->spare, k - f->sorted);
  else
    qsort(rest, (size_t)(k - f->sorted), sizeof *rest, compare);
  f->sorted = k;
}
