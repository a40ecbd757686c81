/* SPDX-License-Identifier: MIT
 *
 * wrap.c - the adapter that all codecs share: opens the inner adapter, cuts stores and loads into groups, passes the
 * other operations on, tells what it did. See wrap.h. Runs on the threads that call an adapter. */
#include "wrap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define GROUP_BYTES (UINT64_C(8) << 20)
#define GROUP_OBJECTS 256u
#define MIB (1024.0 * 1024.0)
#define PROBE_S 30
#define INNER_STATUS_BYTES 16384u

static int fail(neap_error *err, int code, const char *text) {
  snprintf(err->text, sizeof err->text, "%s", text);
  return code;
}

static void fail_op(const neap_host *host, neap_op *op, int code) {
  for (uint32_t i = 0; op->objects && i < op->count; i++) op->objects[i].result = code;
  op->list_result = code;
  host->done(host->engine, op);
}

/* --- operations --------------------------------------------------------------------------------------------------- */

static passage *passage_new(neap_op *op) {
  passage *p = calloc(1, sizeof *p);
  if (!p) return NULL;
  p->op = op;
  atomic_store(&p->left, 1);
  return p;
}

void neap__wrap_move(void *self, neap_op *op) {
  wrap *w = self;
  const neap_host *host = w->host;
  passage *p = passage_new(op); /* its first part is this call */
  if (!p) {
    fail_op(host, op, NEAP_ENOMEM);
    return;
  }
  for (uint32_t i = 0; i < op->count;) {
    uint32_t from = i;
    uint64_t room = 0;
    do {
      op->objects[i].result = NEAP_UNSETTLED;
      room += neap__room_of(w, op->objects[i++].bytes);
    } while (i < op->count && i - from < GROUP_OBJECTS && room + neap__room_of(w, op->objects[i].bytes) <= GROUP_BYTES);
    group *g = neap__group_new(w, p, &op->objects[from], i - from, room);
    if (!g) {
      while (from < i) op->objects[from++].result = NEAP_ENOMEM;
      continue;
    }
    atomic_fetch_add(&p->left, 1);
    neap__group_queue(g, (neap_op_kind)op->kind);
  }
  neap__groups_admit(w);
  neap__passage_end(host, p);
}

/* Lengths are those of the objects, as far as they are known; what is held and listed is what the inner store holds. */
static void answer(wrap *w, neap_op_kind kind, const neap_object *in, neap_object *object) {
  object->result = in->result;
  object->stored_bytes = 0;
  if (kind == NEAP_OP_REMOVE) {
    if (w->sizes) neap__sizes_put(w->sizes, &in->key, 0);
  } else if (w->sizes) {
    object->result = neap__length_result(w, in, object->bytes);
    neap__sizes_put(w->sizes, &in->key, object->result ? 0 : in->stored_bytes);
    if (object->result == 0) object->stored_bytes = object->bytes;
  } else if (in->result == 0 && in->stored_bytes > w->codec->overhead) {
    object->stored_bytes = in->stored_bytes - w->codec->overhead;
  }
}

static void answered(group *g) {
  neap_op *op = g->passage->op;
  for (uint32_t i = 0; i < op->count; i++) answer(g->w, (neap_op_kind)op->kind, &g->to_inner[i], &op->objects[i]);
  op->list_result = g->inner.list_result;
  neap__group_end(g);
}

static int list_sink(neap_op *inner, const neap_list_entry *entry) {
  neap_op *op = ((group *)inner)->passage->op;
  return op->sink(op, entry);
}

void neap__wrap_ask(void *self, neap_op *op) {
  wrap *w = self;
  passage *p = passage_new(op);
  group *g = p ? neap__group_new(w, p, op->objects, op->count, 0) : NULL;
  if (!g) {
    free(p);
    fail_op(w->host, op, NEAP_ENOMEM);
    return;
  }
  for (uint32_t i = 0; i < op->count; i++) {
    uint64_t plain = op->objects[i].bytes;
    op->objects[i].result = NEAP_UNSETTLED;
    g->to_inner[i] = (neap_object){.key = op->objects[i].key};
    if (op->kind == NEAP_OP_LOOKUP && plain && !w->sizes) g->to_inner[i].bytes = plain + w->codec->overhead;
  }
  g->inner.sink = list_sink;
  op->list_result = NEAP_ECANCELED; /* unless the inner adapter says otherwise */
  neap__group_ask(g, (neap_op_kind)op->kind, op->count, answered);
}

void neap__wrap_cancel(void *self, neap_op *op) { neap__groups_cancel(self, op); }

/* --- status ------------------------------------------------------------------------------------------------------- */

static void add(cJSON *status, const char *name, double number) { cJSON_AddNumberToObject(status, name, number); }

static cJSON *inner_status(wrap *w) {
  char *text = calloc(1, INNER_STATUS_BYTES);
  int n = text ? w->host->inner_status(w->inner, text, INNER_STATUS_BYTES) : NEAP_ENOMEM;
  cJSON *status = n >= 0 ? cJSON_Parse(text) : NULL;
  free(text);
  return status ? status : cJSON_CreateObject();
}

int neap__wrap_status(void *self, char *json, size_t cap) {
  wrap *w = self;
  cJSON *status = cJSON_CreateObject(), *inner = inner_status(w);
  bool healthy = !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(inner, "is_healthy")) && !atomic_load(&w->blind);
  double plain = (double)atomic_load(&w->plain_in), encoded = (double)atomic_load(&w->encoded_in);
  cJSON_AddBoolToObject(status, "is_healthy", healthy);
  add(status, "plain_bytes", plain);
  add(status, "encoded_bytes", encoded);
  add(status, "ratio", encoded > 0 ? plain / encoded : 1);
  add(status, "encode_seconds", (double)atomic_load(&w->encode_ns) / 1e9);
  add(status, "decoded_bytes", (double)atomic_load(&w->plain_out));
  add(status, "decode_seconds", (double)atomic_load(&w->decode_ns) / 1e9);
  add(status, "corrupt_objects", (double)atomic_load(&w->corrupt));
  pthread_mutex_lock(&w->lock);
  add(status, "buffered_bytes", (double)w->room_used);
  add(status, "waiting", (double)w->waiting);
  pthread_mutex_unlock(&w->lock);
  cJSON_AddItemToObject(status, "inner", inner);
  bool fits = cap <= INT32_MAX && cJSON_PrintPreallocated(status, json, (int)cap, false);
  cJSON_Delete(status);
  return fits ? (int)strlen(json) : NEAP_ELIMIT;
}

/* --- open and close ----------------------------------------------------------------------------------------------- */

static void wrap_free(wrap *w) {
  if (w->self) w->codec->close(w->self);
  neap__sizes_close(w->sizes);
  sem_destroy(&w->probed);
  pthread_mutex_destroy(&w->lock);
  free(w);
}

void neap__wrap_close(void *self) {
  wrap *w = self;
  w->host->inner_close(w->inner);
  wrap_free(w);
}

static void probe_arrived(group *g) { sem_post(&g->w->probed); }

/* One operation on the probe's object, waited for. False: it did not end, and nothing of this may be freed. */
static bool probe(wrap *w, neap_op_kind kind, neap_object *object) {
  static uint8_t data[NEAP_ENVELOPE_HEADER];
  struct timespec until;
  group *g = neap__group_new(w, NULL, NULL, 1, 0);
  object->result = NEAP_ENOMEM;
  if (!g) return true;
  g->to_inner[0] = (neap_object){.key = object->key};
  if (kind == NEAP_OP_STORE) {
    g->to_inner[0].data = data;
    g->to_inner[0].bytes = sizeof data;
  }
  g->inner = (neap_op){.size = sizeof(neap_op), .kind = kind, .count = 1, .objects = g->to_inner};
  g->arrived = probe_arrived;
  w->host->inner_submit(w->inner, &g->inner);
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += PROBE_S;
  int rc;
  do rc = sem_clockwait(&w->probed, CLOCK_MONOTONIC, &until);
  while (rc != 0 && errno == EINTR);
  if (rc != 0) return false;
  *object = g->to_inner[0];
  neap__group_free(g);
  return true;
}

/* Whether the inner adapter tells the length of what it holds: tried out with an object of its own, which is removed
 * again. Where that cannot be done (nothing can be removed, the store fails), the first lookup shows it. */
static int try_lengths(wrap *w, neap_error *err) {
  static const char late[] = "the inner adapter did not answer in 30 s; it is left open";
  uint64_t now = w->host->now_ns(w->host->engine);
  pid_t pid = getpid();
  neap_object object = {.key = {.model = "neap.probe", .salt = ""}}, removed;
  memcpy(object.key.hash, &now, sizeof now);
  memcpy(object.key.hash + sizeof now, &pid, sizeof pid);
  removed = object;
  if (!w->host->inner_can(w->inner, NEAP_OP_REMOVE)) return 0;
  if (!probe(w, NEAP_OP_STORE, &object)) return fail(err, NEAP_ETIMEDOUT, late);
  if (object.result) return 0;
  if (!probe(w, NEAP_OP_LOOKUP, &object) || !probe(w, NEAP_OP_REMOVE, &removed)) {
    return fail(err, NEAP_ETIMEDOUT, late);
  }
  if (object.result || object.stored_bytes) return 0;
  return fail(err, NEAP_ENOTSUP,
              "inner: this adapter does not tell the size of what it holds, which is not known "
              "without it; expected one whose lookup does");
}

static int open_inner(wrap *w, const cJSON *params, neap_error *err) {
  neap_error why = {""};
  char *config = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(params, "inner"));
  if (!config) return fail(err, NEAP_ENOMEM, "out of memory");
  int rc = w->host->inner_open(w->host->engine, config, neap__group_done, w, &w->inner, &why);
  if (rc) snprintf(err->text, sizeof err->text, "inner: %.480s", why.text);
  free(config);
  return rc;
}

static int open_wrap(wrap *w, const cJSON *params, neap_error *err) {
  w->bound = (uint64_t)(cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(params, "buffer_mb")) * MIB);
  if (!w->codec->fixed) w->sizes = neap__sizes_open();
  if (!w->codec->fixed && !w->sizes) return fail(err, NEAP_ENOMEM, "out of memory");
  int rc = w->codec->open(params, w->host, &w->self, err);
  if (rc == 0) rc = open_inner(w, params, err);
  return rc;
}

int neap__wrap_open(const neap_adapter *table, const neap_host *host, const char *params_json, void **self,
                    neap_error *err) {
  wrap *w = calloc(1, sizeof *w);
  cJSON *params = cJSON_Parse(params_json);
  if (!w || !params) {
    free(w);
    cJSON_Delete(params);
    return fail(err, NEAP_ENOMEM, "out of memory");
  }
  w->host = host;
  w->codec = (const neap__codec *)table;
  pthread_mutex_init(&w->lock, NULL);
  sem_init(&w->probed, 0, 0);
  int rc = NEAP_HAS(host, neap_host, inner_close) ? open_wrap(w, params, err)
                                                  : fail(err, NEAP_ENOTSUP, "this engine opens no inner adapters");
  cJSON_Delete(params);
  if (rc) {
    wrap_free(w);
    return rc;
  }
  rc = w->sizes ? try_lengths(w, err) : 0;
  if (rc == NEAP_ETIMEDOUT) return rc; /* the inner adapter still has what was asked of it */
  if (rc) {
    neap__wrap_close(w);
    return rc;
  }
  *self = w;
  return 0;
}
