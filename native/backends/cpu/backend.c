/* The CPU as a backend: the host's memory, and segments run by the team (team.c) before run returns. */
#include <stdio.h>
#include <string.h>

#include "backends/cpu/cpu.h"
#include "base/threads.h"

static int count(void) { return 1; }

static pgg_status about(int index, pgg_device_info *out) {
  (void)index;
  pgg_status status = pgg_init();
  if (status) return status;
  snprintf(out->name, sizeof out->name, "CPU, %d threads", pgg_threads_default());
  snprintf(out->driver, sizeof out->driver, "%s", pgg_isa());
  out->kind = PGG_DEVICE_CPU;
  out->unified = 1;
  return PGG_OK;
}

static pgg_status open_cpu(int index, pgg_device **device) {
  (void)index;
  *device = NULL; /* there is nothing to open */
  return PGG_OK;
}

static void close_cpu(pgg_device *device) { (void)device; }

static pgg_status alloc(pgg_device *device, size_t bytes, pgg_mem *mem) {
  (void)device;
  void *p = pgg_cpu_piece(bytes);
  if (!p) return pgg_fail(PGG_ENOMEM, "the system refused %zu bytes", bytes);
  *mem = (pgg_mem){p, bytes};
  return PGG_OK;
}

static void drop(pgg_device *device, pgg_mem *mem) {
  (void)device;
  if (mem->bytes) pgg_cpu_piece_free(mem->p); /* else it is borrowed */
  *mem = (pgg_mem){NULL, 0};
}

static pgg_status write(pgg_device *device, const pgg_mem *to, size_t at, const void *from, size_t bytes) {
  (void)device;
  memcpy((char *)to->p + at, from, bytes);
  return PGG_OK;
}

static pgg_status read(pgg_device *device, const pgg_mem *from, size_t at, void *to, size_t bytes) {
  (void)device;
  memcpy(to, (const char *)from->p + at, bytes);
  return PGG_OK;
}

static pgg_status copy(pgg_device *device, const pgg_mem *to, size_t to_at, const pgg_mem *from, size_t from_at,
                       size_t bytes) {
  return write(device, to, to_at, (const char *)from->p + from_at, bytes);
}

/* The plan's own bytes are in the right place already. */
static pgg_status weight(pgg_device *device, const pgg_weight *w, pgg_mem *mem) {
  (void)device;
  *mem = (pgg_mem){(void *)w->data, 0};
  return PGG_OK;
}

static pgg_status wait(pgg_device *device) {
  (void)device;
  return PGG_OK;
}

const pgg_backend pgg_backend_cpu = {.name = "cpu",
                                     .host = true,
                                     .together = true,
                                     .count = count,
                                     .about = about,
                                     .open = open_cpu,
                                     .close = close_cpu,
                                     .alloc = alloc,
                                     .drop = drop,
                                     .write = write,
                                     .read = read,
                                     .copy = copy,
                                     .weight = weight,
                                     .compile = pgg_cpu_compile,
                                     .discard = pgg_cpu_discard,
                                     .rest = pgg_cpu_rest,
                                     .scratch = pgg_cpu_scratch_bytes,
                                     .run = pgg_cpu_run,
                                     .wait = wait};
