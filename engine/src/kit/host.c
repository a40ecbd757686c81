/* SPDX-License-Identifier: MIT
 *
 * kit/host.c - see host.h. One mutex fences the list of operations, the log and the breach; done() takes it only to
 * write a breach down. */
#include "kit/host.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chunk/key.h"
#include "l2/inner.h"

#define LOG_BYTES 65536
#define QUEUE_MAX 4096
#define ROOM_MS 60000

struct neap__kit_host {
  neap_host table;
  neap__pool *pool;
  atomic_bool refuse, closed;
  atomic_uint queued;
  uint32_t depth;
  sem_t room; /* operations that may still be given to the adapter, if depth is set */
  const char *plugin_dirs;
  neap_memory memory;
  pthread_mutex_t mutex;
  neap__kit_op *ops;
  size_t log_bytes;
  char log[LOG_BYTES];
  bool breached;
  char breach[256];
};

static atomic_uint inner_count; /* of all hosts: inner_close is not told which */

static void breach(neap__kit_host *host, const char *what, uint32_t kind) {
  pthread_mutex_lock(&host->mutex);
  if (!host->breached) snprintf(host->breach, sizeof(host->breach), "%s (a %s)", what, neap__kit_kind_name(kind));
  host->breached = true;
  pthread_mutex_unlock(&host->mutex);
}

/* --- the table ------------------------------------------------------------------------------------------------ */

static void host_done(void *engine, neap_op *op) {
  neap__kit_host *host = engine;
  neap__kit_op *wrapper = (neap__kit_op *)op;
  uint64_t now_ns = neap__now_ns();
  if (atomic_load(&wrapper->in_sink)) breach(host, "done was called while an entry was being reported", op->kind);
  if (atomic_fetch_add(&wrapper->done_count, 1) > 0) {
    breach(host, "done was called a second time for one operation", op->kind);
    return;
  }
  wrapper->done_ns = now_ns;
  if (host->depth) sem_post(&host->room);
  sem_post(&wrapper->ended);
}

static void host_log(void *engine, neap_log_level level, const char *text) {
  static const char *const names[] = {"debug", "info", "warning", "error"};
  neap__kit_host *host = engine;
  const char *name = (unsigned)level < NEAP_ARRAY_LEN(names) ? names[level] : "?";
  pthread_mutex_lock(&host->mutex);
  int wrote = snprintf(host->log + host->log_bytes, LOG_BYTES - host->log_bytes, "%s: %s\n", name, text);
  host->log_bytes = NEAP_MIN(host->log_bytes + (size_t)NEAP_MAX(wrote, 0), (size_t)LOG_BYTES - 1);
  pthread_mutex_unlock(&host->mutex);
}

/* A piece of work on its way to a worker. */
typedef struct errand {
  neap__kit_host *host;
  void (*work)(void *arg);
  void *arg;
} errand;

static void run_errand(void *arg) {
  errand e = *(errand *)arg;
  free(arg);
  if (atomic_load(&e.host->closed)) {
    pthread_mutex_lock(&e.host->mutex);
    if (!e.host->breached) snprintf(e.host->breach, sizeof(e.host->breach), "queued work started after close returned");
    e.host->breached = true;
    pthread_mutex_unlock(&e.host->mutex);
  }
  e.work(e.arg);
  atomic_fetch_sub(&e.host->queued, 1);
}

static int host_queue_work(void *engine, void (*work)(void *arg), void *arg) {
  neap__kit_host *host = engine;
  if (atomic_load(&host->refuse)) return NEAP_ELIMIT;
  errand *e = malloc(sizeof(*e));
  if (!e) return NEAP_ELIMIT;
  *e = (errand){host, work, arg};
  atomic_fetch_add(&host->queued, 1);
  int rc = neap__pool_submit(host->pool, run_errand, e);
  if (rc == 0) return 0;
  atomic_fetch_sub(&host->queued, 1);
  free(e);
  return rc;
}

static int host_memory(void *engine, neap_memory *out) {
  neap__kit_host *host = engine;
  if (host->memory.bytes == 0) return NEAP_ENOTSUP;
  *out = host->memory;
  return 0;
}

static uint64_t host_now_ns(void *engine) {
  (void)engine;
  return neap__now_ns();
}

static int host_inner_open(void *engine, const char *config_json, void (*done)(void *ctx, neap_op *op), void *ctx,
                           neap_inner **out, neap_error *err) {
  neap__kit_host *host = engine;
  neap__inner_parent parent = {.host = &host->table, .plugin_dirs = host->plugin_dirs};
  int rc = neap__inner_open(&parent, config_json, done, ctx, out, err);
  if (rc == 0) atomic_fetch_add(&inner_count, 1);
  return rc;
}

static void host_inner_close(neap_inner *inner) {
  neap_host plain = {0};
  neap__inner_install(&plain);
  plain.inner_close(inner);
  atomic_fetch_sub(&inner_count, 1);
}

/* --- life ----------------------------------------------------------------------------------------------------- */

int neap__kit_host_open(uint32_t threads, neap__kit_host **out) {
  neap__kit_host *host = calloc(1, sizeof(*host));
  if (!host) return NEAP_ENOMEM;
  int rc = neap__pool_open(threads, QUEUE_MAX, &host->pool);
  if (rc != 0) {
    free(host);
    return rc;
  }
  pthread_mutex_init(&host->mutex, NULL);
  host->table = (neap_host){
      .size = sizeof(neap_host),
      .abi = NEAP_ADAPTER_ABI,
      .engine = host,
      .done = host_done,
      .log = host_log,
      .queue_work = host_queue_work,
      .memory = host_memory,
      .key_format = neap__key_format,
      .key_parse = neap__key_parse,
      .crc32c = neap__crc32c,
      .now_ns = host_now_ns,
      .inner_open = host_inner_open,
  };
  neap__inner_install(&host->table);
  host->table.inner_close = host_inner_close;
  *out = host;
  return 0;
}

static void op_free(neap__kit_op *op) {
  for (uint32_t i = 0; i < op->entries_count; i++) {
    free(op->entries[i].model);
    free(op->entries[i].salt);
  }
  free(op->entries);
  free(op->objects);
  sem_destroy(&op->ended);
  free(op);
}

uint32_t neap__kit_host_close(neap__kit_host *host) {
  uint32_t wrong = 0;
  neap__pool_close(host->pool);
  for (neap__kit_op *op = host->ops, *next; op; op = next) {
    next = op->next;
    wrong += atomic_load(&op->done_count) != 1;
    op_free(op);
  }
  if (host->depth) sem_destroy(&host->room);
  pthread_mutex_destroy(&host->mutex);
  free(host);
  return wrong;
}

const neap_host *neap__kit_host_table(neap__kit_host *host) { return &host->table; }

void neap__kit_host_refuse_work(neap__kit_host *host, bool refuse) { atomic_store(&host->refuse, refuse); }

void neap__kit_host_set_memory(neap__kit_host *host, neap_memory memory) { host->memory = memory; }

void neap__kit_host_set_depth(neap__kit_host *host, uint32_t operations) {
  host->depth = operations;
  if (operations) sem_init(&host->room, 0, operations);
}

void neap__kit_host_set_plugin_dirs(neap__kit_host *host, const char *dirs) { host->plugin_dirs = dirs; }

void neap__kit_host_set_closed(neap__kit_host *host, bool closed) { atomic_store(&host->closed, closed); }

bool neap__kit_host_logged(neap__kit_host *host, const char *text, char *out, size_t cap) {
  pthread_mutex_lock(&host->mutex);
  const char *at = host->log_bytes ? strstr(host->log, text) : NULL;
  while (at && at > host->log && at[-1] != '\n') at--;
  if (at && out) snprintf(out, cap, "%s", at);
  pthread_mutex_unlock(&host->mutex);
  return at != NULL;
}

const char *neap__kit_host_breach(neap__kit_host *host) {
  pthread_mutex_lock(&host->mutex);
  const char *text = host->breached ? host->breach : NULL; /* written once */
  pthread_mutex_unlock(&host->mutex);
  return text;
}

uint32_t neap__kit_host_queued(neap__kit_host *host) { return atomic_load(&host->queued); }

uint32_t neap__kit_host_inner_open(void) { return atomic_load(&inner_count); }

/* --- operations ----------------------------------------------------------------------------------------------- */

static bool keep_entry(neap__kit_op *op, const neap_list_entry *entry) {
  if ((op->entries_count & (op->entries_count - 1)) == 0) { /* full at each power of two */
    size_t room = op->entries_count ? 2u * (size_t)op->entries_count : 1u;
    neap__kit_entry *more = reallocarray(op->entries, room, sizeof(*more));
    if (!more) return false;
    op->entries = more;
  }
  neap__kit_entry kept = {*entry, strdup(entry->key.model), strdup(entry->key.salt)};
  if (!kept.model || !kept.salt) {
    free(kept.model);
    free(kept.salt);
    return false;
  }
  kept.entry.key.model = kept.model;
  kept.entry.key.salt = kept.salt;
  op->entries[op->entries_count++] = kept;
  return true;
}

static int op_sink(neap_op *neap, const neap_list_entry *entry) {
  neap__kit_op *op = (neap__kit_op *)neap;
  if (atomic_load(&op->done_count)) {
    breach(op->host, "an entry was reported after done", neap->kind);
    return 1;
  }
  if (atomic_exchange(&op->in_sink, true)) {
    breach(op->host, "two entries were reported at the same time", neap->kind);
    return 1;
  }
  if (atomic_load(&op->stopped)) breach(op->host, "an entry was reported after the sink had asked to stop", neap->kind);
  bool stop = false;
  if (!op->entries_model || strcmp(entry->key.model, op->entries_model) == 0) stop = !keep_entry(op, entry);
  stop = stop || (op->entries_stop && op->entries_count >= op->entries_stop);
  if (stop) atomic_store(&op->stopped, true);
  atomic_store(&op->in_sink, false);
  return stop;
}

neap__kit_op *neap__kit_op_new(neap__kit_host *host, neap_op_kind kind, uint32_t count) {
  neap__kit_op *op = calloc(1, sizeof(*op));
  if (!op) return NULL;
  op->objects = count ? calloc(count, sizeof(*op->objects)) : NULL;
  if (count && !op->objects) {
    free(op);
    return NULL;
  }
  for (uint32_t i = 0; i < count; i++) op->objects[i].result = NEAP_EIO;
  op->op = (neap_op){.size = sizeof(neap_op), .kind = kind, .count = count, .objects = op->objects};
  op->op.sink = op_sink;
  op->op.list_result = NEAP_EIO;
  op->host = host;
  sem_init(&op->ended, 0, 0);
  pthread_mutex_lock(&host->mutex);
  op->next = host->ops;
  host->ops = op;
  pthread_mutex_unlock(&host->mutex);
  return op;
}

static void (*function_of(const neap_adapter *adapter, uint32_t kind))(void *self, neap_op *op) {
  switch (kind) {
    case NEAP_OP_STORE: return adapter->store;
    case NEAP_OP_LOOKUP: return adapter->lookup;
    case NEAP_OP_LOAD: return adapter->load;
    case NEAP_OP_REMOVE: return adapter->remove;
    case NEAP_OP_LIST: return adapter->list;
    default: return NULL;
  }
}

void neap__kit_op_again(neap__kit_op *op) {
  atomic_store(&op->done_count, 0);
  for (uint32_t i = 0; i < op->op.count; i++) {
    op->objects[i].result = NEAP_EIO;
    op->objects[i].stored_bytes = 0;
  }
}

static bool wait_for(sem_t *sem, uint64_t timeout_ms) {
  uint64_t until_ns = neap__now_ns() + timeout_ms * 1000000u;
  struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};
  for (;;) {
    if (sem_clockwait(sem, CLOCK_MONOTONIC, &until) == 0) return true;
    if (neap__now_ns() >= until_ns) return false; /* else it was a signal */
  }
}

int neap__kit_op_submit(const neap_adapter *adapter, void *self, neap__kit_op *op) {
  void (*function)(void *, neap_op *) = function_of(adapter, op->op.kind);
  if (!function) return NEAP_ENOTSUP;
  if (op->host->depth && !wait_for(&op->host->room, ROOM_MS)) return NEAP_ETIMEDOUT;
  function(self, &op->op);
  return 0;
}

bool neap__kit_op_wait(neap__kit_op *op, uint64_t timeout_ms) {
  (void)wait_for(&op->ended, timeout_ms);
  return atomic_load(&op->done_count) > 0;
}

bool neap__kit_can(const neap_adapter *adapter, neap_op_kind kind) { return function_of(adapter, kind) != NULL; }

const char *neap__kit_kind_name(uint32_t kind) {
  static const char *const names[] = {"store", "lookup", "load", "delete", "list"};
  return kind < NEAP_ARRAY_LEN(names) ? names[kind] : "operation of no kind";
}
