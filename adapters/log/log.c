/* SPDX-License-Identifier: MIT
 *
 * log.c - the built-in type "log": parameters, the table, open, status, close. See log.h for how it works and
 * README.md for what it promises. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define SEGMENTS_MIN 4u /* that max_gb has room for */

/* --- words ----------------------------------------------------------------------------------------------------- */

int neap__ls_code(int errno_value) {
  return errno_value == EAGAIN ? NEAP_ELIMIT : neap__failure_code(errno_value); /* no worker was to be had */
}

void neap__ls_say(neap__ls *ls, neap_log_level level, const char *format, ...) {
  char line[1000];
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof(line), format, args);
  va_end(args);
  ls->host->log(ls->host->engine, level, line);
}

int neap__ls_failed(neap__ls *ls, const char *what, const char *name, int errno_value) {
  neap__failures_say(&ls->failures, ls->host, what, name, errno_value);
  return neap__ls_code(errno_value);
}

/* --- parameters ------------------------------------------------------------------------------------------------ */

static uint64_t bytes_of(const cJSON *params, const char *name, uint64_t unit) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(params, name);
  return cJSON_IsNumber(item) ? (uint64_t)(item->valuedouble * (double)unit) : 0;
}

static const char *text_of(const cJSON *params, const char *name, const char *otherwise) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(params, name));
  return text ? text : otherwise;
}

static neap__ls_durability durability_of(const cJSON *params) {
  const char *text = text_of(params, "durability", "none");
  return strcmp(text, "fsync") == 0 ? NEAP__LS_FSYNC : strcmp(text, "flush") == 0 ? NEAP__LS_WRITTEN : NEAP__LS_NONE;
}

static int check_max(uint64_t max_bytes, uint64_t least, neap_error *err) {
  if (!max_bytes || max_bytes >= least) return 0;
  snprintf(err->text, sizeof(err->text), "max_gb: %.6f is too small; expected at least %.6f (%u segments)",
           (double)max_bytes / (double)GIB, (double)least / (double)GIB, SEGMENTS_MIN);
  return NEAP_EINVAL;
}

static int parse(neap__ls *ls, const cJSON *params, neap_error *err) {
  const char *base = text_of(params, "base_path", "");
  if (!base[0]) {
    snprintf(err->text, sizeof(err->text), "base_path must be a non-empty string");
    return NEAP_EINVAL;
  }
  ls->base_path = strdup(base);
  if (!ls->base_path) return NEAP_ENOMEM;
  ls->segment_bytes = bytes_of(params, "segment_mb", MIB);
  if (!ls->segment_bytes) ls->segment_bytes = 256 * MIB;
  ls->max_bytes = bytes_of(params, "max_gb", GIB);
  ls->min_free_bytes = bytes_of(params, "min_free_gb", GIB);
  ls->durability = durability_of(params);
  ls->direct = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(params, "use_odirect"));
  int rc = check_max(ls->max_bytes, SEGMENTS_MIN * MIB, err);
  if (rc == 0 && ls->max_bytes && ls->segment_bytes > ls->max_bytes / SEGMENTS_MIN)
    ls->segment_bytes = ls->max_bytes / SEGMENTS_MIN / NEAP__LS_BLOCK * NEAP__LS_BLOCK;
  return rc;
}

/* --- open ------------------------------------------------------------------------------------------------------ */

/* A directory whose name survives a power failure, as far as the file system does that for directories. */
static int make_dir(const char *path) {
  if (mkdir(path, 0755) != 0) return errno == EEXIST ? 0 : errno;
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int parent = fd >= 0 ? openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
  if (parent >= 0) fsync(parent);
  if (parent >= 0) close(parent);
  if (fd >= 0) close(fd);
  return 0;
}

static int make_dirs(const char *path) {
  char *copy = strdup(path);
  int rc = copy ? 0 : ENOMEM;
  for (char *at = copy; at && rc == 0; at = strchr(at + 1, '/')) {
    if (at == copy) continue;
    *at = 0;
    rc = make_dir(copy);
    *at = '/';
  }
  if (rc == 0) rc = make_dir(path);
  free(copy);
  return rc;
}

static int cannot(neap__ls *ls, const char *what, int errno_value, neap_error *err) {
  char reason[128];
  snprintf(err->text, sizeof(err->text), "base_path: cannot %s %.300s: %s", what, ls->base_path,
           strerror_r(errno_value, reason, sizeof(reason)));
  return neap__ls_code(errno_value);
}

static int open_directory(neap__ls *ls, neap_error *err) {
  int rc = make_dirs(ls->base_path);
  if (rc) return cannot(ls, "make", rc, err);
  ls->dir_fd = open(ls->base_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (ls->dir_fd < 0) return cannot(ls, "open", errno, err);
  ls->lock_fd = openat(ls->dir_fd, "neap.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (ls->lock_fd < 0) return cannot(ls, "make the lock file in", errno, err);
  if (flock(ls->lock_fd, LOCK_EX | LOCK_NB) == 0) return 0;
  if (errno != EWOULDBLOCK) return cannot(ls, "lock", errno, err);
  snprintf(err->text, sizeof(err->text),
           "base_path: %.300s is in use by another store (neap.lock in it is locked); expected a directory of its own",
           ls->base_path);
  return NEAP_EBUSY;
}

/* Tries O_DIRECT with a file of ours: some file systems refuse at open, some at the first transfer. */
static bool probe_direct(neap__ls *ls) {
  const char *name = "00000000.new";
  uint8_t *block = aligned_alloc(NEAP__LS_BLOCK, NEAP__LS_BLOCK);
  int fd = openat(ls->dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0644);
  if (block) memset(block, 0, NEAP__LS_BLOCK);
  bool works = fd >= 0 && block && pwrite(fd, block, NEAP__LS_BLOCK, 0) == (ssize_t)NEAP__LS_BLOCK &&
               pread(fd, block, NEAP__LS_BLOCK, 0) == (ssize_t)NEAP__LS_BLOCK;
  if (fd >= 0) close(fd);
  free(block);
  unlinkat(ls->dir_fd, name, 0);
  return works;
}

static void close_store(void *self) {
  neap__ls *ls = self;
  neap__ls_keeper_stop(ls);
  if (ls->io) neap__ls_io_close(ls->io);
  for (uint32_t slot = 0; slot < ls->slots_top; slot++) neap__ls_segment_free(ls->segments[slot]);
  neap__ls_index_close(&ls->index);
  if (ls->lock_fd >= 0) close(ls->lock_fd);
  if (ls->dir_fd >= 0) close(ls->dir_fd);
  pthread_cond_destroy(&ls->wake);
  pthread_mutex_destroy(&ls->lock);
  neap__failures_destroy(&ls->failures);
  free(ls->base_path);
  free(ls);
}

static neap__ls *new_store(const neap_host *host) {
  pthread_condattr_t monotonic;
  neap__ls *ls = calloc(1, sizeof(*ls));
  if (!ls) return NULL;
  ls->host = host;
  ls->dir_fd = ls->lock_fd = -1;
  ls->queue_end = &ls->queue;
  pthread_mutex_init(&ls->lock, NULL);
  neap__failures_init(&ls->failures);
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&ls->wake, &monotonic);
  pthread_condattr_destroy(&monotonic);
  return ls;
}

static int start(neap__ls *ls, const char *io, neap_error *err) {
  int rc = open_directory(ls, err);
  if (rc == 0) rc = neap__ls_index_open(&ls->index);
  if (rc) return rc;
  if (ls->direct && !probe_direct(ls)) {
    ls->direct = false;
    neap__ls_say(ls, NEAP_WARNING, "use_odirect: the file system of %s refuses it; the page cache is used",
                 ls->base_path);
  }
  uint64_t from = ls->host->now_ns(ls->host->engine);
  rc = neap__ls_recover(ls, err);
  /* Segments that are gone on with may be of a process that did not care. */
  if (rc == 0 && ls->durability != NEAP__LS_NONE && fsync(ls->dir_fd) != 0) rc = cannot(ls, "sync", errno, err);
  uint64_t took = ls->host->now_ns(ls->host->engine) - from;
  if (rc == 0) rc = neap__ls_io_open(ls->host, io, &ls->io, err);
  uint32_t objects = ls->index.count, segments = ls->slots_top; /* before the keeper changes them */
  uint64_t bytes = ls->live_bytes;
  if (rc == 0) rc = neap__ls_keeper_start(ls);
  if (rc) return rc;
  neap__ls_say(ls, NEAP_INFO, "%s: %u objects (%llu bytes) in %u segments, read in %.3f s; io %s%s", ls->base_path,
               objects, (unsigned long long)bytes, segments, (double)took / 1e9,
               neap__ls_io_is_uring(ls->io) ? "uring" : "threads", ls->direct ? ", O_DIRECT" : "");
  return 0;
}

static int open_store(const neap_adapter *adapter, const neap_host *host, const char *params_json, void **self,
                      neap_error *err) {
  (void)adapter;
  neap__ls *ls = new_store(host);
  cJSON *params = cJSON_Parse(params_json);
  int rc = ls && params ? parse(ls, params, err) : NEAP_ENOMEM;
  if (rc == 0) rc = start(ls, text_of(params, "io", "auto"), err);
  cJSON_Delete(params);
  if (rc == 0) {
    *self = ls;
    return 0;
  }
  if (!err->text[0]) snprintf(err->text, sizeof(err->text), "cannot open a log store: %s", neap_strerror(rc));
  if (ls) close_store(ls);
  return rc;
}

/* --- live parameters ------------------------------------------------------------------------------------------- */

/* Where durability begins, segments may be there whose names are not on the disk yet. It is set before they are synced:
 * what the keeper makes from now on is synced by itself. Back to what it was where that fails. */
static int change_durability(neap__ls *ls, neap__ls_durability durability, neap_error *err) {
  pthread_mutex_lock(&ls->lock);
  neap__ls_durability old = ls->durability;
  ls->durability = durability;
  pthread_mutex_unlock(&ls->lock);
  if (old != NEAP__LS_NONE || durability == NEAP__LS_NONE || fsync(ls->dir_fd) == 0) return 0;
  int rc = cannot(ls, "sync", errno, err);
  pthread_mutex_lock(&ls->lock);
  ls->durability = old;
  pthread_mutex_unlock(&ls->lock);
  return rc;
}

static int reconfigure(void *self, const char *params_json, neap_error *err) {
  neap__ls *ls = self;
  cJSON *params = cJSON_Parse(params_json);
  if (!params) return NEAP_EINVAL;
  uint64_t max_bytes = bytes_of(params, "max_gb", GIB);
  int rc = check_max(max_bytes, SEGMENTS_MIN * ls->segment_bytes, err);
  if (rc == 0) rc = change_durability(ls, durability_of(params), err);
  if (rc == 0) {
    pthread_mutex_lock(&ls->lock);
    ls->max_bytes = max_bytes;
    ls->min_free_bytes = bytes_of(params, "min_free_gb", GIB);
    neap__ls_keeper_wake(ls);
    pthread_mutex_unlock(&ls->lock);
  }
  cJSON_Delete(params);
  return rc;
}

/* --- status ---------------------------------------------------------------------------------------------------- */

static void add(cJSON *o, const char *name, uint64_t value) { cJSON_AddNumberToObject(o, name, (double)value); }

static void add_counters(cJSON *o, const neap__ls_counters *c) {
  add(o, "stores", c->stores);
  add(o, "loads", c->loads);
  add(o, "removes", c->removes);
  add(o, "corrupt", c->corrupt);
  add(o, "failed_writes", c->failed_writes);
  add(o, "evicted_segments", c->evicted_segments);
  add(o, "evicted_objects", c->evicted_objects);
  add(o, "reinserted_objects", c->reinserted);
  add(o, "compacted_segments", c->compacted_segments);
  add(o, "moved_bytes", c->moved_bytes);
  add(o, "written_bytes", c->written_bytes);
  add(o, "read_bytes", c->read_bytes);
  add(o, "writes", c->writes);
  add(o, "syncs", c->syncs);
}

static int status(void *self, char *json, size_t cap) {
  static const char *const durabilities[] = {"none", "flush", "fsync"};
  neap__ls *ls = self;
  struct stat st;
  uint32_t segments = 0;
  uint64_t used = 0;
  cJSON *o = cJSON_CreateObject();
  cJSON_AddBoolToObject(o, "is_healthy", fstat(ls->dir_fd, &st) == 0 && st.st_nlink > 0);
  cJSON_AddStringToObject(o, "type", "log");
  cJSON_AddStringToObject(o, "base_path", ls->base_path);
  cJSON_AddStringToObject(o, "io", neap__ls_io_is_uring(ls->io) ? "uring" : "threads");
  cJSON_AddBoolToObject(o, "use_odirect", ls->direct);
  pthread_mutex_lock(&ls->lock);
  for (uint32_t slot = 0; slot < ls->slots_top; slot++) {
    if (!ls->segments[slot] || ls->segments[slot]->state == NEAP__LS_DROPPED) continue;
    segments++;
    used += ls->segments[slot]->end;
  }
  uint64_t records = 0;
  for (uint32_t slot = 0; slot < ls->slots_top; slot++)
    if (ls->segments[slot]) records += ls->segments[slot]->live_bytes;
  cJSON_AddStringToObject(o, "durability", durabilities[ls->durability]);
  add(o, "objects", ls->index.count);
  add(o, "object_bytes", ls->live_bytes);
  add(o, "segments", segments);
  add(o, "disk_bytes", ls->disk_bytes);
  add(o, "live_bytes", records);
  add(o, "dead_bytes", used > records ? used - records : 0);
  add(o, "index_bytes", neap__ls_index_memory(&ls->index));
  neap__ls_counters counters = ls->counters;
  pthread_mutex_unlock(&ls->lock);
  add_counters(o, &counters);
  bool fits = cap <= INT32_MAX && cJSON_PrintPreallocated(o, json, (int)cap, false);
  cJSON_Delete(o);
  return fits ? (int)strlen(json) : NEAP_ELIMIT;
}

/* --- the table ------------------------------------------------------------------------------------------------- */

static const neap_traits traits = {.size = sizeof(neap_traits), .concurrency = 32, .deadline_ms = 30000};

const neap_adapter neap__ls_adapter = {
    NEAP_ADAPTER_INIT("log", "1.0"),
    .schema_json =
        "{\"base_path\":{\"type\":\"string\",\"required\":true,\"doc\":\"directory of the segments, of this store "
        "alone; made if missing\"},"
        "\"segment_mb\":{\"type\":\"integer\",\"default\":256,\"min\":1,\"max\":4096,\"doc\":\"MiB of one segment "
        "file\"},"
        "\"max_gb\":{\"type\":\"number\",\"above\":0,\"live\":true,\"doc\":\"GiB of disk at most; the oldest segments "
        "go first\"},"
        "\"min_free_gb\":{\"type\":\"number\",\"default\":0,\"min\":0,\"live\":true,\"doc\":\"GiB of the file system "
        "that stay free\"},"
        "\"durability\":{\"type\":\"string\",\"enum\":[\"none\",\"flush\",\"fsync\"],\"default\":\"none\",\"live\":"
        "true,\"doc\":\"what a stored object survives: none: kill -9; flush: also a power failure, but for about its "
        "last second; fsync: also a power failure\"},"
        "\"io\":{\"type\":\"string\",\"enum\":[\"auto\",\"uring\",\"threads\"],\"default\":\"auto\",\"doc\":\"auto: "
        "io_uring where the kernel allows it\"},"
        "\"use_odirect\":{\"type\":\"boolean\",\"default\":false,\"doc\":\"bypass the page cache where possible\"}}",
    .open = open_store,
    .store = neap__ls_store,
    .lookup = neap__ls_lookup,
    .load = neap__ls_load,
    .remove = neap__ls_remove,
    .list = neap__ls_list,
    .status = status,
    .close = close_store,
    .traits = &traits,
    .reconfigure = reconfigure,
};

NEAP_ADAPTER_BUILTIN(neap__ls_adapter)
