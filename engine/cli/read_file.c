/* SPDX-License-Identifier: MIT
 *
 * cli/read_file.c - see read_file.h. */
#include "read_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_all(FILE *in, const char *path, size_t max, char **out, neap_error *err) {
  size_t bytes = 0, cap = 0;
  char *text = NULL;
  for (;;) {
    if (bytes + 1 >= cap) {
      cap = NEAP_MAX(cap * 2, 65536u);
      char *more = realloc(text, cap);
      if (!more) {
        free(text);
        return neap__fail(err, NEAP_ENOMEM, "%s: out of memory", path);
      }
      text = more;
    }
    size_t n = fread(text + bytes, 1, cap - bytes - 1, in);
    bytes += n;
    if (n == 0 || bytes > max) break;
  }
  text[bytes] = '\0';
  int rc = 0;
  if (ferror(in)) rc = neap__fail(err, NEAP_EIO, "%s: %s", path, strerror(errno));
  if (rc == 0 && bytes > max) rc = neap__fail(err, NEAP_ELIMIT, "%s: more than %zu bytes", path, max);
  if (rc == 0 && strlen(text) != bytes) rc = neap__fail(err, NEAP_EINVAL, "%s: a NUL byte in it; is it text?", path);
  if (rc == 0)
    *out = text;
  else
    free(text);
  return rc;
}

int neap__read_file(const char *path, size_t max, char **out, neap_error *err) {
  bool standard = strcmp(path, "-") == 0;
  FILE *in = standard ? stdin : fopen(path, "re");
  if (!in) return neap__fail(err, errno == ENOENT ? NEAP_ENOENT : NEAP_EIO, "%s: %s", path, strerror(errno));
  int rc = read_all(in, path, max, out, err);
  if (!standard) fclose(in);
  return rc;
}
