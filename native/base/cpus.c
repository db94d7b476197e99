/* How many cores this process may use: the affinity mask, cut by the CPU quota of its control groups. A container
 * with half a core and 64 visible ones must not start 64 spinning threads. OMP_NUM_THREADS, if positive, decides. */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <unistd.h>
#endif

#if defined(__linux__)
#include <sched.h>

#define PATH_CAP 1024

/* First one or two numbers of a file; how many were read. "max" counts as none. */
static int read_numbers(const char *path, long long *a, long long *b) {
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  int n = fscanf(file, "%lld %lld", a, b);
  fclose(file);
  return n < 0 ? 0 : n;
}

/* Whole cores of the quota at dir (rounded up), 0 for none. */
static int quota_at(const char *dir, int v2) {
  char path[PATH_CAP + 64];
  long long quota = 0, period = 0, unused;
  if (v2) {
    snprintf(path, sizeof path, "%s/cpu.max", dir);
    if (read_numbers(path, &quota, &period) < 2) return 0;
  } else {
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir);
    if (read_numbers(path, &quota, &unused) < 1) return 0;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir);
    if (read_numbers(path, &period, &unused) < 1) return 0;
  }
  if (quota <= 0 || period <= 0) return 0;
  long long cores = (quota + period - 1) / period;
  return cores > 1 << 20 ? 0 : (int)cores;
}

/* The tightest quota from the process's group up to the root of the hierarchy. */
static int quota_up(const char *root, const char *group, int v2) {
  char dir[PATH_CAP];
  int best = 0;
  if (snprintf(dir, sizeof dir, "%s%s", root, group) >= (int)sizeof dir) return 0;
  size_t stop = strlen(root);
  for (;;) {
    int q = quota_at(dir, v2);
    if (q && (!best || q < best)) best = q;
    if (strlen(dir) <= stop) return best;
    char *slash = strrchr(dir, '/');
    if (!slash || (size_t)(slash - dir) < stop) return best;
    *slash = 0;
  }
}

static int quota_cores(void) {
  FILE *file = fopen("/proc/self/cgroup", "r");
  if (!file) return 0;
  char line[PATH_CAP];
  int best = 0;
  while (fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    char *names = strchr(line, ':');
    char *group = names ? strchr(names + 1, ':') : NULL;
    if (!group) continue;
    *group++ = 0;
    names++;
    int q = 0;
    if (!*names) {
      q = quota_up("/sys/fs/cgroup", group, 1);
    } else if (!strcmp(names, "cpu") || !strncmp(names, "cpu,", 4) || strstr(names, ",cpu,") ||
               (strlen(names) > 4 && !strcmp(names + strlen(names) - 4, ",cpu"))) {
      q = quota_up("/sys/fs/cgroup/cpu", group, 0);
    }
    if (q && (!best || q < best)) best = q;
  }
  fclose(file);
  return best;
}

static int visible_cores(void) {
  for (size_t cores = 1024; cores <= 1 << 16; cores *= 4) { /* the kernel refuses sets smaller than its own */
    cpu_set_t *set = CPU_ALLOC(cores);
    if (!set) break;
    size_t size = CPU_ALLOC_SIZE(cores);
    int got = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (got > 0) return got;
  }
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? (int)n : 1;
}

#else /* no affinity masks or control groups */

static int quota_cores(void) { return 0; }
static int visible_cores(void) {
#if defined(_WIN32)
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwNumberOfProcessors > 0 ? (int)info.dwNumberOfProcessors : 1;
#else
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? (int)n : 1;
#endif
}

#endif

int pgg_threads_default(void) {
  const char *wish = getenv("OMP_NUM_THREADS");
  if (wish) {
    long n = strtol(wish, NULL, 10);
    if (n >= 1 && n <= 1 << 16) return (int)n;
  }
  static atomic_int quota = -1; /* files are read once; two threads reading them at once store the same answer */
  int q = atomic_load_explicit(&quota, memory_order_relaxed);
  if (q < 0) {
    q = quota_cores();
    atomic_store_explicit(&quota, q, memory_order_relaxed);
  }
  int n = visible_cores();
  if (q > 0 && q < n) n = q;
  return n < 1 ? 1 : n;
}
