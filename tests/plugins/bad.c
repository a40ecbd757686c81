/* SPDX-License-Identifier: MIT
 *
 * bad.c - a store in memory that is right but for one fault, named by its parameter "fault": what `neap check` must
 * find (spec/kit/bad_spec.lua). "none" has no fault. Operations end inside the call that submits them. */
#include <fcntl.h>
#include <neap/adapter.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 4096

typedef struct slot {
  char *text; /* NULL: free */
  uint8_t *data;
  uint64_t bytes;
} slot;

typedef struct store {
  const neap_host *host;
  pthread_mutex_t lock;
  char fault[32];
  slot slots[SLOTS];
} store;

static bool is(const store *s, const char *fault) { return strcmp(s->fault, fault) == 0; }

static void nap_ms(long ms) {
  nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* --- objects ------------------------------------------------------------------------------------------------------ */

static slot *find(store *s, const neap_object_key *key, bool make) {
  char text[NEAP_KEY_TEXT_MAX];
  neap_object_key named = *key;
  if (is(s, "ignores-tenant")) named.salt = "";
  if (is(s, "ignores-group")) named.group = 0;
  if (s->host->key_format(&named, NEAP_KEY_NATIVE, text, sizeof(text)) < 0) return NULL;
  slot *unused = NULL;
  for (size_t i = 0; i < SLOTS; i++) {
    if (s->slots[i].text && strcmp(s->slots[i].text, text) == 0) return &s->slots[i];
    if (!s->slots[i].text && !unused) unused = &s->slots[i];
  }
  if (!make || !unused) return NULL;
  unused->text = strdup(text);
  return unused;
}

static void drop(slot *at) {
  free(at->text);
  free(at->data);
  *at = (slot){0};
}

static void store_one(store *s, neap_object *object) {
  slot *at = find(s, &object->key, true);
  object->result = at ? 0 : NEAP_ENOSPC;
  if (at && at->data && is(s, "counts-again")) object->stored_bytes = object->bytes;
  if (!at || (at->data && !is(s, "last-wins"))) return;
  free(at->data);
  at->data = malloc(object->bytes);
  memcpy(at->data, object->data, object->bytes);
  at->bytes = object->bytes;
  object->stored_bytes = object->bytes;
  if (is(s, "flips-a-bit") && object->bytes > 1000000) at->data[object->bytes - 1] ^= 1;
  if (is(s, "writes-the-source")) ((uint8_t *)object->data)[0] ^= 1;
}

static void load_one(store *s, neap_object *object) {
  slot *at = find(s, &object->key, false);
  uint8_t *data = object->data;
  object->result = at ? 0 : NEAP_ENOENT;
  if (!at) return;
  uint64_t bytes = at->bytes < object->bytes ? at->bytes : object->bytes;
  if (is(s, "overruns")) bytes = at->bytes;
  if (at->bytes != object->bytes && !is(s, "takes-any-length") && !is(s, "overruns")) {
    object->result = is(s, "misses-on-length") ? NEAP_ENOENT : NEAP_ECORRUPT;
    return;
  }
  memcpy(data, at->data, bytes);
  if (is(s, "writes-one-past")) data[object->bytes] = 0;
  if (is(s, "writes-one-before")) data[-1] = 0;
  if (is(s, "crashes") && bytes > 1000000) raise(SIGSEGV);
}

static void lookup_one(store *s, neap_object *object) {
  const slot *at = find(s, &object->key, false);
  object->result = at ? 0 : NEAP_ENOENT;
  object->stored_bytes = !at ? 0 : is(s, "tells-wrong-size") ? at->bytes + 1 : at->bytes;
}

static void remove_one(store *s, neap_object *object) {
  slot *at = find(s, &object->key, false);
  object->result = at || is(s, "deletes-the-missing") ? 0 : NEAP_ENOENT;
  if (at && !is(s, "deletes-nothing")) drop(at);
}

/* --- operations --------------------------------------------------------------------------------------------------- */

typedef struct later {
  store *s;
  neap_op *op;
  uint8_t *data;
} later;

static void *end_later(void *arg) {
  later l = *(later *)arg;
  free(arg);
  nap_ms(100);
  if (l.data) l.data[0] ^= 1;
  if (l.op) l.s->host->done(l.s->host->engine, l.op);
  return NULL;
}

static void start_later(later l) {
  pthread_t thread;
  later *arg = malloc(sizeof(*arg));
  *arg = l;
  if (pthread_create(&thread, NULL, end_later, arg) == 0) pthread_detach(thread);
}

/* The faults of whole operations, before the work. True: it was dealt with. */
static bool misbehave_before(store *s, neap_op *op) {
  if (op->kind == NEAP_OP_LOAD && is(s, "never-ends")) return true;
  if (op->deadline_ns && is(s, "forgets-when-late")) return true;
  if (op->kind == NEAP_OP_LOOKUP && is(s, "blocks")) nap_ms(60000);
  if (op->kind == NEAP_OP_LOOKUP && is(s, "exits")) exit(3);
  if (op->kind == NEAP_OP_LOOKUP && is(s, "prints")) puts("looking it up");
  return false;
}

static void misbehave_results(store *s, neap_op *op) {
  bool missed = false;
  for (uint32_t i = 0; i < op->count; i++) missed = missed || op->objects[i].result == NEAP_ENOENT;
  for (uint32_t i = 0; i < op->count; i++) {
    int *result = &op->objects[i].result;
    if (missed && is(s, "all-or-nothing")) *result = NEAP_ENOENT;
    if (*result == NEAP_ENOENT && is(s, "unknown-code")) *result = -99;
    if (*result == NEAP_ENOENT && is(s, "positive-code")) *result = 2;
    if (i > 0 && is(s, "first-result-only")) *result = NEAP_EIO;
  }
}

static void run(store *s, neap_op *op, void (*one)(store *s, neap_object *object)) {
  const neap_host *host = s->host;
  if (misbehave_before(s, op)) return;
  pthread_mutex_lock(&s->lock);
  for (uint32_t i = 0; i < op->count; i++) one(s, &op->objects[i]);
  pthread_mutex_unlock(&s->lock);
  misbehave_results(s, op);
  uint8_t *data = op->kind == NEAP_OP_LOAD && is(s, "writes-late") ? op->objects[0].data : NULL;
  bool again = is(s, "ends-twice"), again_later = is(s, "ends-twice-later");
  host->done(host->engine, op);
  if (again) host->done(host->engine, op);
  if (again_later || data) start_later((later){s, again_later ? op : NULL, data});
}

static void bad_store(void *self, neap_op *op) { run(self, op, store_one); }
static void bad_load(void *self, neap_op *op) { run(self, op, load_one); }
static void bad_lookup(void *self, neap_op *op) { run(self, op, lookup_one); }
static void bad_remove(void *self, neap_op *op) { run(self, op, remove_one); }

static void list_all(store *s, neap_op *op) {
  char strings[NEAP_KEY_TEXT_MAX];
  bool stop = false;
  for (size_t i = 0; i < SLOTS && !stop; i++) {
    neap_list_entry entry = {.bytes = is(s, "lists-wrong-size") ? 1 : s->slots[i].bytes};
    if (!s->slots[i].text) continue;
    if (s->host->key_parse(s->slots[i].text, NEAP_KEY_NATIVE, &entry.key, strings, sizeof(strings)) != 0) continue;
    for (int times = is(s, "lists-twice") ? 2 : 1; times > 0; times--) stop = op->sink(op, &entry) != 0;
    if (is(s, "lists-on")) stop = false;
  }
}

static void bad_list(void *self, neap_op *op) {
  store *s = self;
  bool after = is(s, "lists-after-done");
  op->list_result = 0;
  if (after) s->host->done(s->host->engine, op);
  list_all(s, op);
  if (!after) s->host->done(s->host->engine, op);
}

/* A worker ends the operation: the fault is to forget it when there is no worker. */
static void worker_store(void *arg) {
  later l = *(later *)arg;
  free(arg);
  run(l.s, l.op, store_one);
}

static void queued_store(void *self, neap_op *op) {
  store *s = self;
  if (!is(s, "forgets-when-busy")) {
    bad_store(self, op);
    return;
  }
  later *arg = malloc(sizeof(*arg));
  *arg = (later){s, op, NULL};
  if (s->host->queue_work(s->host->engine, worker_store, arg) != 0) free(arg);
}

static void bad_cancel(void *self, neap_op *op) {
  store *s = self;
  if (is(s, "ends-on-cancel")) s->host->done(s->host->engine, op);
}

static int bad_status(void *self, char *json, size_t cap) {
  store *s = self;
  const char *text = is(s, "status-is-no-json") ? "{\"objects\": none}" : "{\"objects\": 1}";
  if (is(s, "status-overruns")) {
    memcpy(json, text, strlen(text) + 1);
    return (int)strlen(text);
  }
  int n = snprintf(json, cap, "%s", text);
  return (size_t)n < cap ? n : NEAP_ELIMIT;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void *idle(void *arg) {
  for (;;) pause();
  return arg;
}

static void work_late(void *arg) {
  (void)arg;
  nap_ms(30);
}

static int bad_open(const neap_adapter *adapter, const neap_host *host, const char *params_json, void **self,
                    neap_error *err) {
  (void)adapter;
  store *s = calloc(1, sizeof(*s));
  s->host = host;
  pthread_mutex_init(&s->lock, NULL);
  const char *fault = strstr(params_json, "\"fault\":\"");
  if (fault) snprintf(s->fault, sizeof(s->fault), "%.*s", (int)strcspn(fault + 9, "\""), fault + 9);
  if (is(s, "refuses")) {
    snprintf(err->text, sizeof(err->text), "it does not want to");
    free(s);
    return NEAP_EPERM;
  }
  if (is(s, "leaks-a-descriptor") && open("/dev/null", O_RDONLY) < 0) return NEAP_EIO;
  pthread_t thread;
  if (is(s, "leaks-a-thread") && pthread_create(&thread, NULL, idle, NULL) == 0) pthread_detach(thread);
  *self = s;
  return 0;
}

static void bad_close(void *self) {
  store *s = self;
  if (is(s, "closes-for-ever")) nap_ms(60000);
  for (int i = 0; i < 12 && is(s, "works-after-close"); i++)
    (void)s->host->queue_work(s->host->engine, work_late, NULL);
  for (size_t i = 0; i < SLOTS; i++) drop(&s->slots[i]);
  if (!is(s, "leaks-memory")) free(s);
}

static const neap_adapter table = {
    NEAP_ADAPTER_INIT("Bad", "1"),
    .schema_json = "{\"fault\":{\"type\":\"string\",\"default\":\"none\"}}",
    .open = bad_open,
    .store = queued_store,
    .lookup = bad_lookup,
    .load = bad_load,
    .remove = bad_remove,
    .list = bad_list,
    .cancel = bad_cancel,
    .status = bad_status,
    .close = bad_close,
};

NEAP_ADAPTER_EXPORT const neap_adapter *neap_adapter_entry(uint32_t i);
const neap_adapter *neap_adapter_entry(uint32_t i) { return i == 0 ? &table : NULL; }
