/* SPDX-License-Identifier: MIT
 *
 * unit/log_rig.h - a "log" store in a directory of its own, for the programs that test it. */
#pragma once
#include "../adapters/log/log.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/test_host.h"

#define RIG_BYTES 70000u

typedef struct rig {
  char dir[256];
  test_host *host;
  void *self;
  neap_error err;
} rig;

static inline int rig_open(rig *r, const char *more) {
  char params[1024];
  snprintf(params, sizeof(params), "{\"base_path\":\"%s\",\"segment_mb\":1%s}", r->dir, more);
  r->err.text[0] = 0;
  return neap__ls_adapter.open(&neap__ls_adapter, test_host_table(r->host), params, &r->self, &r->err);
}

static inline void rig_close(rig *r) {
  if (r->self) neap__ls_adapter.close(r->self);
  r->self = NULL;
}

static inline void rig_reopen(rig *r, const char *more) {
  rig_close(r);
  assert_int_equal(rig_open(r, more), 0);
}

static inline int rig_setup(void **state) {
  rig *r = calloc(1, sizeof(*r));
  const char *tmp = getenv("TMPDIR");
  snprintf(r->dir, sizeof(r->dir), "%s/neap-log-XXXXXX", tmp ? tmp : "/tmp");
  if (!mkdtemp(r->dir)) return -1;
  r->host = test_host_open(4);
  *state = r;
  return rig_open(r, "");
}

static inline void rig_remove_tree(const char *dir) {
  DIR *d = opendir(dir);
  if (!d) return;
  char path[1024];
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    snprintf(path, sizeof(path), "%.500s/%s", dir, e->d_name);
    if (unlink(path) != 0) rig_remove_tree(path);
  }
  closedir(d);
  rmdir(dir);
}

static inline int rig_teardown(void **state) {
  rig *r = *state;
  rig_close(r);
  uint32_t astray = test_host_close(r->host);
  rig_remove_tree(r->dir);
  free(r);
  return astray ? -1 : 0;
}

/* Object n: test_fill(n) of `bytes` bytes under test_key(n). */
static inline int rig_store(rig *r, uint64_t n, uint64_t bytes, uint64_t *stored) {
  uint8_t *data = aligned_alloc(4096, (bytes + 8191) & ~UINT64_C(4095));
  test_fill(data, bytes, n);
  int rc = test_store(r->host, &neap__ls_adapter, r->self, test_key(n), data, bytes, stored);
  free(data);
  return rc;
}

/* 0 only if the bytes are right; 1 if they are not. */
static inline int rig_load(rig *r, uint64_t n, uint64_t bytes) {
  uint8_t *data = aligned_alloc(4096, (bytes + 8191) & ~UINT64_C(4095));
  data[bytes] = 0x5a;
  int rc = test_load(r->host, &neap__ls_adapter, r->self, test_key(n), data, bytes);
  if (rc == 0 && (!test_filled(data, bytes, n) || data[bytes] != 0x5a)) rc = 1;
  free(data);
  return rc;
}

static inline int rig_lookup(rig *r, uint64_t n) {
  return test_lookup(r->host, &neap__ls_adapter, r->self, test_key(n), 0);
}

static inline int rig_delete(rig *r, uint64_t n) {
  return test_remove(r->host, &neap__ls_adapter, r->self, test_key(n));
}

/* A number of the status, -1 if it is not there. */
static inline double rig_status(rig *r, const char *name) {
  char json[4096], key[64];
  assert_true(neap__ls_adapter.status(r->self, json, sizeof(json)) > 0);
  snprintf(key, sizeof(key), "\"%s\":", name);
  const char *at = strstr(json, key);
  return at ? strtod(at + strlen(key), NULL) : -1;
}

/* Files of the directory whose name ends so. */
static inline unsigned rig_files(const rig *r, const char *suffix) {
  DIR *d = opendir(r->dir);
  unsigned n = 0;
  for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
    size_t len = strlen(e->d_name), end = strlen(suffix);
    n += len >= end && strcmp(e->d_name + len - end, suffix) == 0;
  }
  if (d) closedir(d);
  return n;
}
