/* SPDX-License-Identifier: MIT
 *
 * fs.c - the built-in type "fs": parameters, the table, and how operations spread over the worker threads.
 *
 * An operation is a batch; as many workers as it has objects take them one by one, so sixteen reads are sixteen deep
 * if the pool is, and the last worker to find nothing left ends the operation. Where the pool refuses some workers the
 * others do their share; where it refuses all, every object fails with NEAP_ELIMIT. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs.h"

#define WORKERS_MAX 64u
#define LOOKS_PER_WORKER 32u /* a stat is too small for a worker of its own */
#define GIB 1073741824.0

/* --- failures ------------------------------------------------------------------------------------------------- */

static int code_of(int errno_value) {
  switch (errno_value) {
    case ENOENT: return NEAP_ENOENT;
    case ENAMETOOLONG: return NEAP_EINVAL;
    default: return neap__failure_code(errno_value);
  }
}

int neap__fs_failed(neap__fs *fs, const char *what, const char *name, int errno_value) {
  neap__failures_say(&fs->failures, fs->host, what, name, errno_value);
  return code_of(errno_value);
}

/* --- operations ----------------------------------------------------------------------------------------------- */

typedef struct batch {
  neap__fs *fs;
  neap_op *op;
  void (*one)(neap__fs *fs, neap_object *object);
  atomic_uint next, holders; /* holders: workers, and the submitter while it starts them */
} batch;

/* Nothing of the store is touched after done: it may be closed then. */
static void batch_end(batch *b) {
  if (atomic_fetch_sub(&b->holders, 1) != 1) return;
  const neap_host *host = b->fs->host;
  neap_op *op = b->op;
  free(b);
  host->done(host->engine, op);
}

static void batch_work(void *arg) {
  batch *b = arg;
  for (uint32_t i; (i = atomic_fetch_add(&b->next, 1)) < b->op->count;) b->one(b->fs, &b->op->objects[i]);
  batch_end(b);
}

static void fail_all(neap_op *op, int code) {
  for (uint32_t i = 0; i < op->count; i++) op->objects[i].result = code;
  op->list_result = code;
}

static void list_work(void *arg) {
  batch *b = arg;
  neap__fs_list(b->fs, b->op);
  batch_end(b);
}

static void run(neap__fs *fs, neap_op *op, void (*one)(neap__fs *fs, neap_object *object), uint32_t workers) {
  const neap_host *host = fs->host;
  batch *b = malloc(sizeof(*b));
  if (!b) {
    fail_all(op, NEAP_ENOMEM);
    host->done(host->engine, op);
    return;
  }
  *b = (batch){.fs = fs, .op = op, .one = one};
  atomic_init(&b->holders, 1);
  uint32_t started = 0;
  for (uint32_t i = 0; i < workers && i < WORKERS_MAX; i++) {
    atomic_fetch_add(&b->holders, 1);
    if (host->queue_work(host->engine, one ? batch_work : list_work, b) != 0) {
      atomic_fetch_sub(&b->holders, 1);
      break;
    }
    started++;
  }
  if (!started) fail_all(op, NEAP_ELIMIT);
  batch_end(b);
}

static void store(void *self, neap_op *op) { run(self, op, neap__fs_store, op->count); }
static void load(void *self, neap_op *op) { run(self, op, neap__fs_load, op->count); }
static void lookup(void *self, neap_op *op) {
  run(self, op, neap__fs_lookup, (op->count + LOOKS_PER_WORKER - 1) / LOOKS_PER_WORKER);
}
static void remove_objects(void *self, neap_op *op) {
  run(self, op, neap__fs_remove, (op->count + LOOKS_PER_WORKER - 1) / LOOKS_PER_WORKER);
}
static void list(void *self, neap_op *op) { run(self, op, NULL, 1); }

/* --- open, status, close -------------------------------------------------------------------------------------- */

static void close_store(void *self) {
  neap__fs *fs = self;
  if (fs->tmp_fd >= 0 && fs->tmp_fd != fs->dir_fd) close(fs->tmp_fd);
  if (fs->dir_fd >= 0) close(fs->dir_fd);
  neap__failures_destroy(&fs->failures);
  pthread_mutex_destroy(&fs->room_lock);
  free(fs->base_path);
  free(fs->tmp_path);
  free(fs);
}

/* LMCache's fields. There is no event loop here that could die: event_loop_alive tells the same as is_healthy. */
static int status(void *self, char *json, size_t cap) {
  neap__fs *fs = self;
  struct stat st;
  bool healthy = fstat(fs->dir_fd, &st) == 0 && st.st_nlink > 0; /* the directory was not deleted under us */
  cJSON *o = cJSON_CreateObject();
  cJSON_AddBoolToObject(o, "is_healthy", healthy);
  cJSON_AddStringToObject(o, "type", "FSL2Adapter");
  cJSON_AddStringToObject(o, "base_path", fs->base_path);
  cJSON_AddBoolToObject(o, "use_odirect", fs->odirect);
  cJSON_AddBoolToObject(o, "event_loop_alive", healthy);
  bool fits = cap <= INT32_MAX && cJSON_PrintPreallocated(o, json, (int)cap, false);
  cJSON_Delete(o);
  return fits ? (int)strlen(json) : NEAP_ELIMIT;
}

static void announce(neap__fs *fs) {
  char line[1024], ahead[32] = "None";
  if (fs->read_ahead) snprintf(ahead, sizeof(ahead), "%llu", (unsigned long long)fs->read_ahead);
  snprintf(line, sizeof(line),
           "Initialized FSL2Adapter with base_path=%.600s, relative_tmp_dir=%.200s, read_ahead_size=%s, use_odirect=%s",
           fs->base_path, fs->tmp_path ? fs->tmp_path : "None", ahead, fs->odirect ? "True" : "False");
  fs->host->log(fs->host->engine, NEAP_INFO, line);
}

/* Below the base path: neither absolute nor climbing. */
static bool is_below(const char *path) {
  if (path[0] == '/') return false;
  for (const char *at = path; at; at = strchr(at, '/')) {
    at += *at == '/';
    if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == 0)) return false;
  }
  return true;
}

static int parse(neap__fs *fs, const cJSON *params, bool *want_odirect, neap_error *err) {
  const char *base = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(params, "base_path"));
  const char *tmp = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(params, "relative_tmp_dir"));
  const char *checksum = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(params, "checksum"));
  const cJSON *ahead = cJSON_GetObjectItemCaseSensitive(params, "read_ahead_size");
  const cJSON *keep_gb = cJSON_GetObjectItemCaseSensitive(params, "min_free_gb");
  if (!base || !base[0]) {
    snprintf(err->text, sizeof(err->text), "base_path must be a non-empty string");
    return NEAP_EINVAL;
  }
  if (tmp && !is_below(tmp)) {
    snprintf(err->text, sizeof(err->text), "Invalid relative_tmp_dir: %.300s (expected a path below base_path)", tmp);
    return NEAP_EINVAL;
  }
  fs->base_path = strdup(base);
  fs->tmp_path = tmp && tmp[0] ? strdup(tmp) : NULL;
  fs->read_ahead = cJSON_IsNumber(ahead) ? (uint64_t)ahead->valuedouble : 0;
  fs->keep_free = cJSON_IsNumber(keep_gb) ? (uint64_t)(keep_gb->valuedouble * GIB) : NEAP_FS_KEEP_DEFAULT;
  fs->checksum = checksum && strcmp(checksum, "crc32") == 0;
  fs->recover = !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(params, "recover_on_start"));
  *want_odirect = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(params, "use_odirect"));
  if (fs->base_path && (fs->tmp_path || !tmp || !tmp[0])) return 0;
  snprintf(err->text, sizeof(err->text), "out of memory");
  return NEAP_ENOMEM;
}

static int open_store(const neap_adapter *adapter, const neap_host *host, const char *params_json, void **self,
                      neap_error *err) {
  (void)adapter;
  bool want_odirect = false;
  neap__fs *fs = calloc(1, sizeof(*fs));
  cJSON *params = cJSON_Parse(params_json);
  if (!fs || !params) {
    snprintf(err->text, sizeof(err->text), "out of memory");
    free(fs);
    cJSON_Delete(params);
    return NEAP_ENOMEM;
  }
  fs->host = host;
  fs->dir_fd = fs->tmp_fd = -1;
  fs->opened_ns = host->now_ns(host->engine);
  neap__failures_init(&fs->failures);
  pthread_mutex_init(&fs->room_lock, NULL);
  int rc = parse(fs, params, &want_odirect, err);
  cJSON_Delete(params);
  if (rc == 0) rc = neap__fs_dirs_open(fs, want_odirect, err);
  if (rc) {
    close_store(fs);
    return rc;
  }
  announce(fs);
  *self = fs;
  return 0;
}

const neap_adapter neap__fs_adapter = {
    NEAP_ADAPTER_INIT("fs", "1.0"),
    .schema_json =
        "{\"base_path\":{\"type\":\"string\",\"required\":true,\"doc\":\"directory of the files; made if missing\"},"
        "\"relative_tmp_dir\":{\"type\":\"string\",\"doc\":\"directory below base_path for unfinished files\"},"
        "\"read_ahead_size\":{\"type\":\"integer\",\"min\":1,\"doc\":\"bytes of a first small read\"},"
        "\"min_free_gb\":{\"type\":\"number\",\"min\":0,\"max\":1000000000,"
        "\"doc\":\"stores fail rather than leave less free on the file system; not given: 1, or 5 % of a small one\"},"
        "\"use_odirect\":{\"type\":\"boolean\",\"default\":false,\"doc\":\"bypass the page cache where possible\"},"
        "\"recover_on_start\":{\"type\":\"boolean\",\"default\":true,\"doc\":\"count the files that are there\"},"
        "\"checksum\":{\"type\":\"string\",\"enum\":[\"none\",\"crc32\"],\"default\":\"none\","
        "\"doc\":\"crc32: each file ends with a checksum, and files without one are misses\"}}",
    .open = open_store,
    .store = store,
    .lookup = lookup,
    .load = load,
    .remove = remove_objects,
    .list = list,
    .status = status,
    .close = close_store,
};

NEAP_ADAPTER_BUILTIN(neap__fs_adapter)
