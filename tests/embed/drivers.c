/* Stand-ins for libOpenCL.so.1 and libcuda.so.1, so that _devices is tried on machines without a GPU.
 * One file for both; LACKS_FUNCTION leaves one function out, FAILS makes the first call fail. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef FAILS
#define RC 1
#else
#define RC 0
#endif

int32_t clGetPlatformIDs(uint32_t cap, void **ids, uint32_t *n) {
  if (n) *n = 1;
  if (cap) ids[0] = (void *)1;
  return RC;
}
int32_t clGetPlatformInfo(void *of, uint32_t what, size_t cap, void *out, size_t *size) {
  (void)of, (void)what, (void)size;
  strncpy(out, "OpenCL 3.0 stand-in", cap);
  return 0;
}
int32_t clGetDeviceIDs(void *of, uint64_t type, uint32_t cap, void **ids, uint32_t *n) {
  (void)of, (void)type;
  if (n) *n = 2;
  for (uint32_t i = 0; i < cap && i < 2; i++) ids[i] = (void *)(uintptr_t)(i + 1);
  return 0;
}
int32_t clGetDeviceInfo(void *of, uint32_t what, size_t cap, void *out, size_t *size) {
  (void)size;
  if (what == 0x101F) {
    uint64_t bytes = (uint64_t)(uintptr_t)of << 30;
    memcpy(out, &bytes, sizeof bytes);
  } else {
    strncpy(out, what == 0x102B ? "Stand-in \xff GPU" : "1.2.3", cap);
  }
  return 0;
}

int cuInit(unsigned flags) { return (void)flags, RC; }
int cuDriverGetVersion(int *version) { return *version = 12040, 0; }
int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGet(int *device, int i) { return *device = i, 0; }
#ifndef LACKS_FUNCTION
int cuDeviceGetName(char *name, int cap, int device) {
  return (void)device, strncpy(name, "Stand-in card", (size_t)cap), 0;
}
#endif
int cuDeviceTotalMem_v2(size_t *bytes, int device) { return (void)device, *bytes = (size_t)8 << 30, 0; }
