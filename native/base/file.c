/* Mapping a file, and the watch that it stays what it was. */
#include "base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char *copy_path(const char *path) {
  const size_t n = strlen(path) + 1;
  char *copy = malloc(n);
  return copy ? memcpy(copy, path, n) : NULL;
}

static pgg_status no_memory(const char *path) { return pgg_fail(PGG_ENOMEM, "%s: no memory to open it", path); }

#if defined(_WIN32)
#include <stdio.h>

pgg_status pgg_file_open(const char *path, pgg_file *file) {
  *file = (pgg_file){.fd = -1};
  FILE *f = fopen(path, "rb");
  long size = -1;
  if (f && !fseek(f, 0, SEEK_END)) size = ftell(f);
  char *bytes = size > 0 ? malloc((size_t)size) : NULL;
  const bool whole = bytes && !fseek(f, 0, SEEK_SET) && fread(bytes, 1, (size_t)size, f) == (size_t)size;
  if (f) fclose(f);
  if (!whole) {
    free(bytes);
    return pgg_fail(PGG_EFORMAT, "%s cannot be read", path);
  }
  file->bytes = bytes;
  file->size = (size_t)size;
  if ((file->path = copy_path(path))) return PGG_OK;
  pgg_file_close(file);
  return no_memory(path);
}

pgg_status pgg_file_unchanged(const pgg_file *file) {
  (void)file; /* a copy stays what it is */
  return PGG_OK;
}

void pgg_file_close(pgg_file *file) {
  free((void *)file->bytes);
  free(file->path);
  *file = (pgg_file){.fd = -1};
}
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void stamp_of(const struct stat *s, int64_t *stamp) {
#if defined(__APPLE__)
  const struct timespec changed = s->st_mtimespec;
#else
  const struct timespec changed = s->st_mtim;
#endif
  stamp[0] = (int64_t)s->st_size;
  stamp[1] = (int64_t)changed.tv_sec * 1000000000 + (int64_t)changed.tv_nsec;
  stamp[2] = (int64_t)s->st_ino;
}

pgg_status pgg_file_open(const char *path, pgg_file *file) {
  struct stat s;
  *file = (pgg_file){.fd = -1};
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not be waited for */
  if (fd < 0 || fstat(fd, &s)) {
    const int why = errno;
    if (fd >= 0) close(fd);
    return pgg_fail(PGG_EFORMAT, "%s cannot be opened: %s", path, strerror(why));
  }
  if (!S_ISREG(s.st_mode) || s.st_size <= 0) {
    close(fd);
    return pgg_fail(PGG_EFORMAT, "%s is %s", path, S_ISREG(s.st_mode) ? "empty" : "no regular file");
  }
  void *map = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) {
    const int why = errno;
    close(fd);
    return pgg_fail(why == ENOMEM ? PGG_ENOMEM : PGG_EFORMAT, "%s cannot be mapped: %s", path, strerror(why));
  }
  *file = (pgg_file){.bytes = map, .size = (size_t)s.st_size, .fd = fd, .mapped = true};
  stamp_of(&s, file->stamp);
  if ((file->path = copy_path(path))) return PGG_OK;
  pgg_file_close(file);
  return no_memory(path);
}

pgg_status pgg_file_unchanged(const pgg_file *file) {
  struct stat s;
  int64_t now[3];
  if (fstat(file->fd, &s)) return pgg_fail(PGG_EFORMAT, "%s is gone: %s", file->path, strerror(errno));
  stamp_of(&s, now);
  if (memcmp(now, file->stamp, sizeof now) == 0) return PGG_OK;
  return pgg_fail(PGG_EFORMAT, "%s changed after it was opened (%lld bytes then, %lld now); open it again", file->path,
                  (long long)file->stamp[0], (long long)now[0]);
}

void pgg_file_close(pgg_file *file) {
  if (file->mapped) munmap((void *)file->bytes, file->size);
  if (file->fd >= 0) close(file->fd);
  free(file->path);
  *file = (pgg_file){.fd = -1};
}
#endif
