/* SPDX-License-Identifier: MIT
 *
 * l2/inner.c - see inner.h. Promises: each operation of the opener ends once, whatever the inner adapter does with its
 * copies; the inner adapter is called with at most `concurrency` of them at once; no lock is held across a call into
 * either. Any thread.
 *
 * One thread at a time hands calls over (`pumping`): so a done inside a submit inside a done does not nest, and close
 * knows whom to wait for. When a done lets the next call through and nobody pumps, a worker thread does, for done never
 * calls back into an adapter. A call that ended is used again as late as possible, so that a second done for it is
 * recognised. Not here: what a configuration may say (config.c). */
#include "l2/inner.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "chunk/key.h"
#include "l2/registry.h"

#define BLOCK 64u /* calls made at once */
#define BLOCKS_MAX (NEAP_INNER_CALLS_MAX / BLOCK)
#define RESTING_MIN (BLOCK / 2) /* calls that rest before one is used again */

typedef enum call_state { RESTING, WAITING, OUT, RETURNED } call_state;

/* A part of an operation, as the inner adapter sees it. */
typedef struct call {
  neap_op op;
  neap_op *whole;     /* the opener's */
  struct call *first; /* of the same operation */
  uint32_t left;      /* in `first`: parts that have not ended */
  bool canceled;
  call_state state;
  struct call *next; /* at rest, or in the queue */
} call;

typedef struct call_queue {
  call *first, *last;
  uint32_t count;
} call_queue;

struct neap_inner {
  neap_host host;
  const neap_host *parent;
  neap__tier_config config;
  const neap_adapter *adapter;
  void *self;
  char *plugin_dirs;
  uint32_t depth, batch, concurrency;
  void (*done)(void *ctx, neap_op *op);
  void *ctx;
  pthread_mutex_t lock; /* for all below */
  pthread_cond_t calm;
  call *blocks[BLOCKS_MAX];
  uint32_t block_count, out, visitors; /* visitors: threads that are inside cancel */
  call_queue resting, waiting;
  bool pumping;
};

/* --- calls; under the lock -------------------------------------------------------------------------------------- */

static void push(call_queue *queue, call *c) {
  c->next = NULL;
  if (queue->first) {
    queue->last->next = c;
  } else {
    queue->first = c;
  }
  queue->last = c;
  queue->count++;
}

static call *pop(call_queue *queue) {
  call *c = queue->first;
  if (!c) return NULL;
  queue->first = c->next;
  queue->count--;
  return c;
}

static void add_block(neap_inner *inner) {
  call *block = inner->block_count < BLOCKS_MAX ? calloc(BLOCK, sizeof(*block)) : NULL;
  if (!block) return;
  inner->blocks[inner->block_count++] = block;
  for (uint32_t i = 0; i < BLOCK; i++) push(&inner->resting, &block[i]);
}

/* The call that op is, told by the address alone: what a broken adapter hands over is not looked into. */
static call *call_of(neap_inner *inner, const neap_op *op) {
  for (uint32_t b = 0; b < inner->block_count; b++) {
    uintptr_t offset = (uintptr_t)op - (uintptr_t)inner->blocks[b];
    if (offset < BLOCK * sizeof(call)) return offset % sizeof(call) ? NULL : &inner->blocks[b][offset / sizeof(call)];
  }
  return NULL;
}

/* The end of a part. Returns the operation of the opener if that was the last one. */
static neap_op *end_part(neap_inner *inner, call *c) {
  call *first = c->first;
  neap_op *whole = first->whole;
  if (whole->kind == NEAP_OP_LIST) whole->list_result = c->op.list_result;
  c->state = RETURNED;
  if (c != first) {
    c->state = RESTING;
    push(&inner->resting, c);
  }
  if (--first->left > 0) return NULL;
  first->state = RESTING;
  push(&inner->resting, first);
  return whole;
}

static void fail_op(neap_op *op, int code) {
  for (uint32_t i = 0; op->objects && i < op->count; i++) op->objects[i].result = code;
  op->list_result = code;
}

/* --- handing over ----------------------------------------------------------------------------------------------- */

static int list_sink(neap_op *op, const neap_list_entry *entry) {
  neap_op *whole = ((call *)op)->whole;
  return whole->sink(whole, entry);
}

static void (*function_of(const neap_inner *inner, uint32_t kind))(void *self, neap_op *op) {
  const neap_adapter *a = inner->adapter;
  switch (kind) {
    case NEAP_OP_STORE: return a->store;
    case NEAP_OP_LOOKUP: return a->lookup;
    case NEAP_OP_LOAD: return a->load;
    case NEAP_OP_REMOVE: return a->remove;
    case NEAP_OP_LIST: return a->list;
    default: return NULL;
  }
}

/* Under the lock, which is let go for each call; `pumping` is the caller's. refuse: calls end with this instead. */
static void pump(neap_inner *inner, int refuse) {
  while (inner->waiting.first && (refuse || inner->out < inner->concurrency)) {
    call *c = pop(&inner->waiting);
    int code = refuse ? refuse : c->canceled ? NEAP_ECANCELED : 0;
    neap_op *ended = NULL;
    if (code) {
      fail_op(&c->op, code);
      ended = end_part(inner, c);
    } else {
      c->state = OUT;
      inner->out++;
    }
    pthread_mutex_unlock(&inner->lock);
    if (ended) inner->done(inner->ctx, ended);
    if (!code) function_of(inner, c->op.kind)(inner->self, &c->op);
    pthread_mutex_lock(&inner->lock);
  }
  inner->pumping = false;
  pthread_cond_broadcast(&inner->calm);
}

static void pump_work(void *arg) {
  neap_inner *inner = arg;
  pthread_mutex_lock(&inner->lock);
  pump(inner, 0);
  pthread_mutex_unlock(&inner->lock);
}

static void host_done(void *engine, neap_op *op) {
  neap_inner *inner = engine;
  pthread_mutex_lock(&inner->lock);
  call *c = call_of(inner, op);
  if (!c || c->state != OUT) {
    pthread_mutex_unlock(&inner->lock);
    inner->host.log(inner, NEAP_ERROR,
                    "called done for an operation that it does not have: called twice, or not its "
                    "own; ignored");
    return;
  }
  neap_op *ended = end_part(inner, c);
  inner->out--;
  bool next = inner->waiting.first && !inner->pumping;
  if (next) inner->pumping = true;
  pthread_mutex_unlock(&inner->lock);
  if (next && inner->parent->queue_work(inner->parent->engine, pump_work, inner) != 0) {
    pthread_mutex_lock(&inner->lock);
    pump(inner, NEAP_ELIMIT);
    pthread_mutex_unlock(&inner->lock);
  }
  if (ended) inner->done(inner->ctx, ended); /* the inner adapter may be closed from here on */
}

/* --- services for the inner adapter ----------------------------------------------------------------------------- */

static void host_log(void *engine, neap_log_level level, const char *text) {
  const neap_inner *inner = engine;
  char line[1024];
  snprintf(line, sizeof(line), "%s: %s", inner->config.name, text);
  inner->parent->log(inner->parent->engine, level, line);
}

static int host_queue_work(void *engine, void (*work)(void *arg), void *arg) {
  const neap_inner *inner = engine;
  return inner->parent->queue_work(inner->parent->engine, work, arg);
}

static int host_memory(void *engine, neap_memory *out) {
  const neap_inner *inner = engine;
  return inner->parent->memory(inner->parent->engine, out);
}

static uint64_t host_now_ns(void *engine) {
  const neap_inner *inner = engine;
  return inner->parent->now_ns(inner->parent->engine);
}

static int host_inner_open(void *engine, const char *config_json, void (*done)(void *ctx, neap_op *op), void *ctx,
                           neap_inner **out, neap_error *err) {
  const neap_inner *inner = engine;
  neap__inner_parent parent = {.host = &inner->host, .plugin_dirs = inner->plugin_dirs, .depth = inner->depth};
  return neap__inner_open(&parent, config_json, done, ctx, out, err);
}

/* --- for the opener --------------------------------------------------------------------------------------------- */

/* Queues op in parts; false when that would be more calls than are allowed. Under the lock. */
static bool queue_parts(neap_inner *inner, neap_op *op) {
  uint32_t parts = op->count > inner->batch ? (op->count - 1) / inner->batch + 1 : 1, before;
  do { /* until there is enough, or there will be no more */
    before = inner->resting.count;
    if (before < parts + RESTING_MIN) add_block(inner);
  } while (inner->resting.count != before);
  if (inner->resting.count < parts) return false;
  call *first = inner->resting.first;
  for (uint32_t i = 0, at = 0; i < parts; i++, at += inner->batch) {
    call *c = pop(&inner->resting);
    *c = (call){.op = *op, .whole = op, .first = first, .left = parts, .state = WAITING};
    c->op.size = sizeof(neap_op);
    c->op.sink = list_sink;
    c->op.scratch = NULL;
    if (parts > 1) {
      c->op.objects = op->objects + at;
      c->op.count = NEAP_MIN(inner->batch, op->count - at);
    }
    push(&inner->waiting, c);
  }
  return true;
}

static int inner_can(neap_inner *inner, neap_op_kind kind) { return function_of(inner, kind) != NULL; }

static void inner_submit(neap_inner *inner, neap_op *op) {
  int code = function_of(inner, op->kind) ? 0 : NEAP_ENOTSUP;
  fail_op(op, code ? code : NEAP_EIO); /* a forgotten result is a failure */
  for (uint32_t i = 0; op->objects && i < op->count; i++) op->objects[i].stored_bytes = 0;
  if (!code) {
    pthread_mutex_lock(&inner->lock);
    if (!queue_parts(inner, op)) code = NEAP_ELIMIT;
    if (!code && !inner->pumping) {
      inner->pumping = true;
      pump(inner, 0);
    }
    pthread_mutex_unlock(&inner->lock);
  }
  if (code == NEAP_ELIMIT) fail_op(op, code);
  if (code) inner->done(inner->ctx, op);
}

static void inner_cancel(neap_inner *inner, neap_op *op) {
  pthread_mutex_lock(&inner->lock);
  inner->visitors++;
  for (uint32_t b = 0; b < inner->block_count; b++) {
    for (uint32_t i = 0; i < BLOCK; i++) {
      call *c = &inner->blocks[b][i];
      if ((c->state != WAITING && c->state != OUT) || c->whole != op) continue;
      c->canceled = true;
      if (c->state != OUT || !inner->adapter->cancel) continue;
      pthread_mutex_unlock(&inner->lock);
      inner->adapter->cancel(inner->self, &c->op);
      pthread_mutex_lock(&inner->lock);
    }
  }
  inner->visitors--;
  pthread_cond_broadcast(&inner->calm);
  pthread_mutex_unlock(&inner->lock);
}

static int inner_status(neap_inner *inner, char *json, size_t cap) {
  return inner->adapter->status ? inner->adapter->status(inner->self, json, cap) : NEAP_ENOTSUP;
}

static void inner_free(neap_inner *inner) {
  for (uint32_t b = 0; b < inner->block_count; b++) free(inner->blocks[b]);
  neap__tier_config_free(&inner->config);
  pthread_cond_destroy(&inner->calm);
  pthread_mutex_destroy(&inner->lock);
  free(inner->plugin_dirs);
  free(inner);
}

static void inner_close(neap_inner *inner) {
  if (!inner) return;
  pthread_mutex_lock(&inner->lock);
  while (inner->pumping || inner->visitors) pthread_cond_wait(&inner->calm, &inner->lock);
  bool in_use = inner->out > 0 || inner->waiting.first;
  pthread_mutex_unlock(&inner->lock);
  if (in_use) {
    inner->host.log(inner, NEAP_ERROR, "closed with operations in flight: it is left open, with its memory");
    return;
  }
  inner->adapter->close(inner->self);
  inner_free(inner);
}

/* --- open ------------------------------------------------------------------------------------------------------- */

/* Keys that mean something for a tier only; what the inner adapter is given at once may be said. */
static int refuse_tier_keys(const char *config_json, neap_error *err) {
  cJSON *config = NULL;
  int rc = neap__json_parse(config_json, &config, err);
  if (rc) return rc;
  for (const cJSON *item = cJSON_IsObject(config) ? config->child : NULL; item && rc == 0; item = item->next) {
    bool kept = strcmp(item->string, "concurrency") == 0 || strcmp(item->string, "batch") == 0;
    if (kept || !neap__tier_config_is_tiers(item->string)) continue;
    rc = neap__fail(err, NEAP_EINVAL, "an inner adapter has no '%s': that belongs to the outermost one", item->string);
  }
  cJSON_Delete(config);
  return rc;
}

int neap__inner_open(const neap__inner_parent *parent, const char *config_json, void (*done)(void *ctx, neap_op *op),
                     void *ctx, neap_inner **out, neap_error *err) {
  if (parent->depth >= NEAP_INNER_DEPTH_MAX) {
    return neap__fail(err, NEAP_ELIMIT, "adapters are nested deeper than %u", NEAP_INNER_DEPTH_MAX);
  }
  int rc = refuse_tier_keys(config_json, err);
  if (rc) return rc;
  neap_inner *inner = calloc(1, sizeof(*inner));
  if (!inner) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  pthread_mutex_init(&inner->lock, NULL);
  pthread_cond_init(&inner->calm, NULL);
  inner->parent = parent->host;
  inner->depth = parent->depth + 1;
  inner->done = done;
  inner->ctx = ctx;
  inner->plugin_dirs = strdup(parent->plugin_dirs ? parent->plugin_dirs : "");
  rc = inner->plugin_dirs ? neap__tier_config_parse(config_json, 0, inner->plugin_dirs, &inner->config, err)
                          : neap__fail(err, NEAP_ENOMEM, "out of memory");
  if (rc) goto failed;
  inner->adapter = inner->config.adapter;
  inner->host = *parent->host;
  inner->host.size = sizeof(neap_host);
  inner->host.engine = inner;
  inner->host.done = host_done;
  inner->host.log = host_log;
  inner->host.queue_work = host_queue_work;
  inner->host.memory = host_memory;
  inner->host.now_ns = host_now_ns;
  inner->host.inner_open = host_inner_open;
  inner->host.gone = NULL; /* what one of several stores lost may still be in another */
  inner->concurrency = inner->config.limits.concurrency;
  inner->batch = inner->config.limits.batch;
  rc = inner->adapter->open(inner->adapter, &inner->host, inner->config.params_json, &inner->self, err);
  if (rc) goto failed;
  *out = inner;
  return 0;
failed:
  inner_free(inner);
  return rc;
}

void neap__inner_install(neap_host *host) {
  host->inner_submit = inner_submit;
  host->inner_cancel = inner_cancel;
  host->inner_can = inner_can;
  host->inner_status = inner_status;
  host->inner_close = inner_close;
}
