/* SPDX-License-Identifier: MIT
 *
 * memory.c - a store that keeps objects in the memory of the process, at the speed of a device of your choice.
 *
 * Two faces of one store: as a plugin it offers the class "InMemoryL2Adapter"; built into the engine (adapters/mock) it
 * is the type "mock". It is the same store as examples/lmc_external_l2_adapter, there in Lua; read them side by side.
 *
 *      caller's thread          store, load, remove, list: put the op into a queue; lookup: answers at once
 *      the store's own thread   takes one op at a time, sleeps bytes / bandwidth, moves the bytes, ends the op
 *
 * Only that thread changes the index, and it does so under the mutex, so it may read without it; lookup and status read
 * under the mutex. When space runs out, the oldest object goes first (FIFO). */
#include <cjson/cJSON.h>
#include <neap/adapter.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#ifndef MEMORY_NAME
#define MEMORY_NAME "InMemoryL2Adapter"
#define MEMORY_SHOWN "InMemoryL2Adapter"
#endif

#define BUCKETS 65536u
#define GIB 1073741824.0
#define REST_MAX_S 3600.0 /* for one object */

typedef struct object {
  LIST_ENTRY(object) in_bucket;
  TAILQ_ENTRY(object) by_age;
  neap_object_key key; /* its strings are the engine's and outlive the store */
  time_t stored_s;
  uint64_t bytes;
  unsigned char data[];
} object;

typedef struct memory {
  const neap_host *host;
  uint64_t max_bytes, used_bytes, count;
  double bytes_per_s;
  LIST_HEAD(, object) buckets[BUCKETS];
  TAILQ_HEAD(, object) objects; /* oldest first */
  pthread_t thread;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  neap_op *first, *last; /* the queue, linked through op->scratch */
  bool closing;
} memory;

/* --- the index ------------------------------------------------------------------------------------------------ */

/* The hash is a cryptographic one: any of its bits will do. */
static uint32_t bucket_of(const neap_object_key *key) {
  return ((uint32_t)key->hash[0] << 8 | key->hash[1]) ^ (key->rank >> 16 & 0xff) ^ (key->group & 0xff);
}

static object *find(memory *m, const neap_object_key *key) {
  object *o;
  LIST_FOREACH(o, &m->buckets[bucket_of(key)], in_bucket) {
    if (memcmp(o->key.hash, key->hash, sizeof key->hash) == 0 && o->key.rank == key->rank &&
        o->key.group == key->group && strcmp(o->key.model, key->model) == 0 && strcmp(o->key.salt, key->salt) == 0)
      return o;
  }
  return NULL;
}

static void insert(memory *m, object *o) {
  LIST_INSERT_HEAD(&m->buckets[bucket_of(&o->key)], o, in_bucket);
  TAILQ_INSERT_TAIL(&m->objects, o, by_age);
  m->used_bytes += o->bytes;
  m->count++;
}

static void drop(memory *m, object *o) {
  LIST_REMOVE(o, in_bucket);
  TAILQ_REMOVE(&m->objects, o, by_age);
  m->used_bytes -= o->bytes;
  m->count--;
  free(o);
}

/* --- the operations, on the store's own thread ---------------------------------------------------------------- */

static void spend(const memory *m, uint64_t bytes) {
  double seconds = (double)bytes / m->bytes_per_s;
  if (seconds > REST_MAX_S) seconds = REST_MAX_S;
  struct timespec rest = {.tv_sec = (time_t)seconds};
  rest.tv_nsec = (long)((seconds - (double)rest.tv_sec) * 1e9);
  while (nanosleep(&rest, &rest) != 0) continue;
}

static void store_one(memory *m, neap_object *asked) {
  asked->stored_bytes = 0;
  asked->result = 0;
  if (find(m, &asked->key)) return; /* first store wins */
  if (asked->bytes > m->max_bytes) {
    asked->result = NEAP_ENOSPC;
    return;
  }
  object *o = malloc(sizeof *o + asked->bytes);
  if (!o) {
    asked->result = NEAP_ENOMEM;
    return;
  }
  spend(m, asked->bytes);
  o->key = asked->key;
  o->bytes = asked->bytes;
  o->stored_s = time(NULL);
  memcpy(o->data, asked->data, asked->bytes);
  pthread_mutex_lock(&m->mutex); /* complete from here on, so a lookup may see it */
  while (m->used_bytes + o->bytes > m->max_bytes) drop(m, TAILQ_FIRST(&m->objects));
  insert(m, o);
  pthread_mutex_unlock(&m->mutex);
  asked->stored_bytes = asked->bytes;
}

static void load_one(memory *m, neap_object *asked) {
  const object *o = find(m, &asked->key);
  asked->result = !o ? NEAP_ENOENT : o->bytes != asked->bytes ? NEAP_ECORRUPT : 0;
  if (asked->result) return;
  spend(m, o->bytes);
  memcpy(asked->data, o->data, o->bytes);
}

static void remove_one(memory *m, neap_object *asked) {
  object *o = find(m, &asked->key);
  asked->result = o ? 0 : NEAP_ENOENT;
  if (!o) return;
  pthread_mutex_lock(&m->mutex);
  drop(m, o);
  pthread_mutex_unlock(&m->mutex);
}

static void list_all(memory *m, neap_op *op) {
  const object *o;
  TAILQ_FOREACH(o, &m->objects, by_age) {
    neap_list_entry entry = {.key = o->key, .bytes = o->bytes, .used_unix_s = o->stored_s};
    if (op->sink(op, &entry) != 0) break;
  }
  op->list_result = 0;
}

static void serve(memory *m, neap_op *op) {
  if (op->kind == NEAP_OP_LIST) list_all(m, op);
  for (uint32_t i = 0; i < op->count; i++) {
    if (op->kind == NEAP_OP_STORE) store_one(m, &op->objects[i]);
    if (op->kind == NEAP_OP_LOAD) load_one(m, &op->objects[i]);
    if (op->kind == NEAP_OP_REMOVE) remove_one(m, &op->objects[i]);
  }
  m->host->done(m->host->engine, op);
}

static void *run(void *arg) {
  memory *m = arg;
  pthread_mutex_lock(&m->mutex);
  while (!m->closing) {
    neap_op *op = m->first;
    if (!op) {
      pthread_cond_wait(&m->wake, &m->mutex);
      continue;
    }
    m->first = op->scratch;
    pthread_mutex_unlock(&m->mutex);
    serve(m, op);
    pthread_mutex_lock(&m->mutex);
  }
  pthread_mutex_unlock(&m->mutex);
  return NULL;
}

/* --- the table, on the caller's thread ------------------------------------------------------------------------ */

static void enqueue(void *self, neap_op *op) {
  memory *m = self;
  op->scratch = NULL;
  pthread_mutex_lock(&m->mutex);
  if (m->first)
    m->last->scratch = op;
  else
    m->first = op;
  m->last = op;
  pthread_cond_signal(&m->wake);
  pthread_mutex_unlock(&m->mutex);
}

static void lookup(void *self, neap_op *op) {
  memory *m = self;
  pthread_mutex_lock(&m->mutex);
  for (uint32_t i = 0; i < op->count; i++) {
    neap_object *asked = &op->objects[i];
    const object *o = find(m, &asked->key);
    asked->result = !o ? NEAP_ENOENT : asked->bytes && asked->bytes != o->bytes ? NEAP_ECORRUPT : 0;
    asked->stored_bytes = o ? o->bytes : 0;
  }
  pthread_mutex_unlock(&m->mutex);
  m->host->done(m->host->engine, op);
}

static int status(void *self, char *json, size_t cap) {
  memory *m = self;
  pthread_mutex_lock(&m->mutex);
  int n = snprintf(json, cap, "{\"is_healthy\":true,\"objects\":%llu,\"used_bytes\":%llu,\"max_bytes\":%llu}",
                   (unsigned long long)m->count, (unsigned long long)m->used_bytes, (unsigned long long)m->max_bytes);
  pthread_mutex_unlock(&m->mutex);
  return (size_t)n < cap ? n : NEAP_ELIMIT;
}

static void release(memory *m) {
  while (!TAILQ_EMPTY(&m->objects)) drop(m, TAILQ_FIRST(&m->objects));
  pthread_cond_destroy(&m->wake);
  pthread_mutex_destroy(&m->mutex);
  free(m);
}

static void close_store(void *self) {
  memory *m = self;
  pthread_mutex_lock(&m->mutex);
  m->closing = true;
  pthread_cond_signal(&m->wake);
  pthread_mutex_unlock(&m->mutex);
  pthread_join(m->thread, NULL);
  release(m);
}

/* The parameters are numbers within the schema's bounds: the engine saw to that. */
static double number(const cJSON *params, const char *name) {
  return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(params, name));
}

static int open_store(const neap_adapter *table, const neap_host *host, const char *params_json, void **self,
                      neap_error *err) {
  char line[128];
  memory *m = calloc(1, sizeof *m);
  cJSON *params = cJSON_Parse(params_json);
  (void)table;
  if (!m || !params) {
    snprintf(err->text, sizeof err->text, "out of memory");
    free(m);
    cJSON_Delete(params);
    return NEAP_ENOMEM;
  }
  double max_size_gb = number(params, "max_size_gb"), bandwidth_gb = number(params, "mock_bandwidth_gb");
  cJSON_Delete(params);
  m->host = host;
  m->max_bytes = (uint64_t)(max_size_gb * GIB);
  m->bytes_per_s = bandwidth_gb * GIB;
  TAILQ_INIT(&m->objects);
  pthread_mutex_init(&m->mutex, NULL);
  pthread_cond_init(&m->wake, NULL);
  if (pthread_create(&m->thread, NULL, run, m) != 0) {
    snprintf(err->text, sizeof err->text, "cannot start a thread");
    release(m);
    return NEAP_ENOMEM;
  }
  snprintf(line, sizeof line, MEMORY_SHOWN " created: max_size_gb=%g, mock_bandwidth_gb=%g", max_size_gb, bandwidth_gb);
  host->log(host->engine, NEAP_INFO, line);
  *self = m;
  return 0;
}

static const neap_adapter memory_adapter = {
    NEAP_ADAPTER_INIT(MEMORY_NAME, "1.0"),
    .schema_json =
        "{\"max_size_gb\":{\"type\":\"number\",\"required\":true,\"above\":0,\"max\":1000000000,"
        "\"doc\":\"what the store may hold, in GiB\"},"
        "\"mock_bandwidth_gb\":{\"type\":\"number\",\"required\":true,\"above\":0,"
        "\"doc\":\"speed of stores and loads, in GiB per second\"}}",
    .open = open_store,
    .store = enqueue,
    .lookup = lookup,
    .load = enqueue,
    .remove = enqueue,
    .list = enqueue,
    .status = status,
    .close = close_store,
};

#ifdef MEMORY_BUILTIN
NEAP_ADAPTER_BUILTIN(memory_adapter)
#else
NEAP_ADAPTER_EXPORT const neap_adapter *neap_adapter_entry(uint32_t i);
const neap_adapter *neap_adapter_entry(uint32_t i) { return i == 0 ? &memory_adapter : NULL; }
#endif
