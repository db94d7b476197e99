/* A file as read-only bytes: mapped where the system can, else read whole. */
#ifndef PGG_FILE_H
#define PGG_FILE_H
#include "base/base.h"

typedef struct pgg_file {
  const void *bytes;
  size_t size;
  char *path;       /* as it was opened */
  int64_t stamp[3]; /* size, time of the last change, number: as it was opened */
  int fd;           /* -1 where it is not kept */
  bool mapped;
} pgg_file;

/* PGG_EFORMAT for what is missing, empty, cannot be read or is no regular file. */
pgg_status pgg_file_open(const char *path, pgg_file *file);
pgg_status pgg_file_unchanged(const pgg_file *file); /* PGG_EFORMAT if it was cut or rewritten */
void pgg_file_close(pgg_file *file);

#endif
