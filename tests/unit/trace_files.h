/* SPDX-License-Identifier: MIT
 *
 * unit/trace_files.h - files of the trace tests: a folder for each test program, writing bytes, loading, comparing. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trace/trace.h"

static char folder[64];

static inline int make_folder(void **state) {
  (void)state;
  snprintf(folder, sizeof(folder), "/tmp/neap-trace-XXXXXX");
  return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state) {
  char command[96];
  (void)state;
  snprintf(command, sizeof(command), "rm -rf -- '%s'", folder);
  return system(command);
}

static inline const char *path_of(const char *name) {
  static char path[4][320];
  static unsigned turn;
  char *out = path[turn++ % 4];
  snprintf(out, sizeof(path[0]), "%s/%s", folder, name);
  return out;
}

static inline const char *data_file(const char *name) {
  static char path[512];
  const char *root = getenv("NEAP_SOURCE");
  snprintf(path, sizeof(path), "%s/tests/data/%s", root ? root : ".", name);
  return path;
}

static inline const char *write_file(const char *name, const void *bytes, size_t count) {
  const char *path = path_of(name);
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, count, file), count);
  assert_int_equal(fclose(file), 0);
  return path;
}

static inline uint8_t *read_file(const char *path, size_t *count) {
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  fseek(file, 0, SEEK_END);
  *count = (size_t)ftell(file);
  rewind(file);
  uint8_t *bytes = malloc(*count + 1);
  assert_non_null(bytes);
  assert_int_equal(fread(bytes, 1, *count, file), *count);
  fclose(file);
  return bytes;
}

static inline neap__trace *load(const char *path, const char *format) {
  const neap__trace_options options = {.format = format};
  neap__trace *trace = NULL;
  neap_error err = {0};
  int rc = neap__trace_load(path, &options, &trace, &err);
  if (rc != 0) fail_msg("%s: %s", path, err.text);
  return trace;
}

/* The same requests, chunks and parents. */
static inline void assert_same_trace(const neap__trace *a, const neap__trace *b) {
  assert_int_equal(a->request_count, b->request_count);
  assert_int_equal(a->references, b->references);
  assert_int_equal(a->lineage.count, b->lineage.count);
  assert_int_equal(!a->units, !b->units);
  for (uint32_t i = 0; i < a->request_count; i++) {
    const neap__trace_request *x = &a->requests[i], *y = &b->requests[i];
    assert_int_equal(x->first, y->first);
    assert_int_equal(x->chunks, y->chunks);
    assert_int_equal(x->time_ms, y->time_ms);
    assert_int_equal(x->session, y->session);
    assert_int_equal(x->output_tokens, y->output_tokens);
    assert_string_equal(a->tenants[x->tenant], b->tenants[y->tenant]);
  }
  if (a->references > 0) assert_memory_equal(a->chunk, b->chunk, a->references * sizeof(*a->chunk));
  for (uint32_t i = 0; i < a->lineage.count; i++) {
    assert_int_equal(a->lineage.hash[i], b->lineage.hash[i]);
    assert_int_equal(a->lineage.parent[i], b->lineage.parent[i]);
    if (a->units) assert_int_equal(a->units[i], b->units[i]);
  }
}
