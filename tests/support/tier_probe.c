/* SPDX-License-Identifier: MIT
 *
 * support/tier_probe.c - see tier_probe.h. The scripted store is called on the loop thread and by the test. */
#include "support/tier_probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "support/test_host.h" /* test_fill, test_filled */

/* --- the scripted store: objects are numbers, data is kept ---------------------------------------------------- */

probe_state probe_script;

static uint32_t number_of(const neap_object_key *key) { return key->hash[0] | (uint32_t)key->hash[1] << 8; }

static int act_on(probe_state *p, uint32_t kind, neap_object *o) {
  uint32_t n = number_of(&o->key);
  if (n >= PROBE_KEYS) return NEAP_ENOENT; /* the framework's own question */
  if (p->fails[n]) {
    p->fails[n]--;
    return NEAP_EIO;
  }
  if (kind == NEAP_OP_STORE) {
    o->stored_bytes = p->data[n] ? 0 : o->bytes;
    if (!p->data[n]) p->data[n] = memcpy(malloc(PROBE_BYTES), o->data, PROBE_BYTES);
    return 0;
  }
  if (!p->data[n]) return NEAP_ENOENT;
  if (kind == NEAP_OP_LOOKUP) o->stored_bytes = PROBE_BYTES;
  if (kind == NEAP_OP_LOAD) memcpy(o->data, p->data[n], PROBE_BYTES);
  if (kind == NEAP_OP_LOAD && p->flip) ((uint8_t *)o->data)[500] ^= 4;
  if (kind == NEAP_OP_REMOVE) {
    free(p->data[n]);
    p->data[n] = NULL;
    p->removed[p->removed_count++] = n;
  }
  return 0;
}

static void list_into(probe_state *p, neap_op *op) {
  static const char *const salts[2] = {"", "tenant"};
  op->list_result = 0;
  for (uint32_t n = 0; n < PROBE_KEYS; n++) {
    neap_list_entry entry = {.bytes = PROBE_BYTES, .used_unix_s = p->used_s[n]};
    entry.key = (neap_object_key){.model = "demo/tiny", .salt = salts[n & 1], .rank = PROBE_RANK};
    entry.key.hash[0] = (uint8_t)n;
    entry.key.hash[1] = (uint8_t)(n >> 8);
    if (p->data[n] && p->used_s[n] && op->sink(op, &entry) != 0) return;
  }
}

void probe_finish(neap_op *op) {
  if (op->kind == NEAP_OP_LIST) {
    list_into(&probe_script, op);
  } else {
    pthread_mutex_lock(&probe_script.lock);
    for (uint32_t i = 0; i < op->count; i++) {
      int forced = probe_script.forced;
      op->objects[i].result = forced == 1 ? act_on(&probe_script, op->kind, &op->objects[i]) : forced;
    }
    pthread_mutex_unlock(&probe_script.lock);
  }
  probe_script.host->done(probe_script.host->engine, op);
}

void probe_call(void *self, neap_op *op) {
  probe_state *p = self;
  pthread_mutex_lock(&p->lock);
  probe_answer how = p->answers[op->kind];
  if (how == LATER && op->count && number_of(&op->objects[0].key) < p->later_from) how = AT_ONCE;
  p->calls++;
  p->ops[op->kind]++;
  p->longest = NEAP_MAX(p->longest, op->count);
  p->removes += op->kind == NEAP_OP_REMOVE;
  if (how == LATER) p->held[p->held_count++] = op;
  pthread_cond_broadcast(&p->change);
  pthread_mutex_unlock(&p->lock);
  if (how == LATER) return;
  probe_finish(op);
  if (how == TWICE) p->host->done(p->host->engine, op);
}

static void probe_cancel(void *self, neap_op *op) {
  (void)self, (void)op;
  pthread_mutex_lock(&probe_script.lock);
  probe_script.cancels++;
  pthread_cond_broadcast(&probe_script.change);
  pthread_mutex_unlock(&probe_script.lock);
}

static int probe_status(void *self, char *json, size_t cap) {
  (void)self;
  return snprintf(json, cap, "{\"shelves\":3}");
}

static int probe_open(const neap_adapter *adapter, const neap_host *host, const char *params, void **self,
                      neap_error *err) {
  (void)adapter, (void)params, (void)err;
  probe_script.host = host;
  *self = &probe_script;
  return 0;
}

static void probe_close(void *self) { ((probe_state *)self)->closed++; }

static const neap_adapter full = {NEAP_ADAPTER_INIT("probe", "1"),
                                  .open = probe_open,
                                  .store = probe_call,
                                  .lookup = probe_call,
                                  .load = probe_call,
                                  .remove = probe_call,
                                  .cancel = probe_cancel,
                                  .status = probe_status,
                                  .close = probe_close};
neap_adapter probe_table;

static void timespec_in_30s(struct timespec *ts) {
  clock_gettime(CLOCK_REALTIME, ts);
  ts->tv_sec += 30;
}

static void wait_until(const uint32_t *counter, uint32_t count) {
  struct timespec ts;
  timespec_in_30s(&ts);
  int rc = 0;
  pthread_mutex_lock(&probe_script.lock);
  while (*counter < count && rc == 0) rc = pthread_cond_timedwait(&probe_script.change, &probe_script.lock, &ts);
  pthread_mutex_unlock(&probe_script.lock);
  assert_int_equal(rc, 0);
}

void probe_wait_held(uint32_t count) { wait_until(&probe_script.held_count, count); }
void probe_wait_cancels(uint32_t count) { wait_until(&probe_script.cancels, count); }

void probe_wait_ops(neap_op_kind kind, uint32_t count) { wait_until(&probe_script.ops[kind], count); }

uint32_t probe_ops(neap_op_kind kind) {
  pthread_mutex_lock(&probe_script.lock);
  uint32_t ops = probe_script.ops[kind];
  pthread_mutex_unlock(&probe_script.lock);
  return ops;
}

void probe_finish_held(uint32_t i) { probe_finish(probe_script.held[i]); }

void probe_answers(neap_op_kind kind, probe_answer how) {
  pthread_mutex_lock(&probe_script.lock);
  probe_script.answers[kind] = how;
  pthread_mutex_unlock(&probe_script.lock);
}

void probe_force(int result) {
  pthread_mutex_lock(&probe_script.lock);
  probe_script.forced = result;
  pthread_mutex_unlock(&probe_script.lock);
}

/* --- the engine's side ---------------------------------------------------------------------------------------- */

static _Thread_local bool submitting;

static void on_done(neap__task *task) {
  probe_request *r = task->ctx;
  r->inside |= submitting;
  r->dones++;
  for (uint32_t i = 0; i < r->count; i++) r->results[i] = task->op.objects[i].result;
  sem_post(&r->done);
}

static void on_release(neap__task *task) {
  probe_request *r = task->ctx;
  r->releases++;
  for (uint32_t i = 0; i < r->count; i++) r->changed |= r->results[i] != task->op.objects[i].result;
  neap__task_free(task);
  sem_post(&r->released);
}

static void submit_on_loop(void *arg) {
  probe_request *r = arg;
  submitting = true;
  r->submitted = neap__tier_submit(r->e->tier, r->task, r->deadline_ms);
  submitting = false;
}

neap__key probe_key(probe_engine *e, uint32_t n) {
  neap__key key = {.space = e->space, .rank = PROBE_RANK, .tenant = n & 1 ? e->tenant : 0};
  memset(key.hash, 0, sizeof(key.hash));
  key.hash[0] = (uint8_t)n;
  key.hash[1] = (uint8_t)(n >> 8);
  return key;
}

probe_request *probe_post_sized(probe_engine *e, neap_op_kind kind, uint32_t first, uint32_t count, uint64_t bytes,
                                uint64_t deadline_ms) {
  probe_request *r = calloc(1, sizeof(*r));
  *r = (probe_request){.e = e, .task = neap__task_new(kind, count), .deadline_ms = deadline_ms, .count = count};
  r->data = calloc(count + 1, PROBE_BYTES);
  sem_init(&r->done, 0, 0);
  sem_init(&r->released, 0, 0);
  r->task->ctx = r;
  r->task->done = on_done;
  r->task->release = on_release;
  for (uint32_t i = 0; i < count; i++) {
    bool has_data = kind == NEAP_OP_STORE || kind == NEAP_OP_LOAD;
    r->task->keys[i] = probe_key(e, first + i);
    r->task->op.objects[i].bytes = bytes;
    if (has_data) r->task->op.objects[i].data = r->data + i * PROBE_BYTES;
    if (kind == NEAP_OP_STORE) test_fill(r->data + i * PROBE_BYTES, PROBE_BYTES, first + i);
  }
  neap__loop_call(e->loop, submit_on_loop, r);
  if (r->submitted) neap__task_free(r->task);
  return r;
}

probe_request *probe_post(probe_engine *e, neap_op_kind kind, uint32_t first, uint32_t count, uint64_t deadline_ms) {
  return probe_post_sized(e, kind, first, count, PROBE_BYTES, deadline_ms);
}

void probe_wait(sem_t *sem) {
  struct timespec ts;
  timespec_in_30s(&ts);
  while (sem_timedwait(sem, &ts) != 0) assert_int_equal(errno, EINTR);
}

void probe_request_free(probe_request *r) {
  sem_destroy(&r->done);
  sem_destroy(&r->released);
  free(r->data);
  free(r);
}

int probe_run(probe_engine *e, neap_op_kind kind, uint32_t first, uint32_t count) {
  probe_request *r = probe_post(e, kind, first, count, 0);
  assert_int_equal(r->submitted, 0);
  probe_wait(&r->done);
  probe_wait(&r->released);
  int result = r->results[0];
  bool good = !r->inside && !r->changed && r->dones == 1 && r->releases == 1;
  for (uint32_t i = 0; kind == NEAP_OP_LOAD && i < count; i++)
    good &= r->results[i] != 0 || test_filled(r->data + i * PROBE_BYTES, PROBE_BYTES, first + i);
  probe_request_free(r);
  assert_true(good);
  return result;
}

int probe_store(probe_engine *e, uint32_t n) { return probe_run(e, NEAP_OP_STORE, n, 1); }
int probe_load(probe_engine *e, uint32_t n) { return probe_run(e, NEAP_OP_LOAD, n, 1); }
int probe_lookup(probe_engine *e, uint32_t n) { return probe_run(e, NEAP_OP_LOOKUP, n, 1); }

neap__tier_stats probe_stats(probe_engine *e) {
  neap__tier_stats stats;
  neap__tier_stats_get(e->tier, &stats);
  return stats;
}

void probe_nothing(void *arg) { (void)arg; }

static void post_sem(void *sem) { sem_post(sem); }

/* The pool has one thread, so a job behind another waits for it. */
void probe_drain(probe_engine *e) {
  sem_t passed;
  sem_init(&passed, 0, 0);
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 4; j++) neap__loop_call(e->loop, probe_nothing, NULL);
    assert_int_equal(neap__pool_submit(e->pool, post_sem, &passed), 0);
    probe_wait(&passed);
  }
  sem_destroy(&passed);
  for (int j = 0; j < 8; j++) neap__loop_call(e->loop, probe_nothing, NULL);
}

typedef struct lock_call {
  probe_engine *e;
  neap__key key;
  bool lock;
} lock_call;

static void lock_on_loop(void *arg) {
  lock_call *c = arg;
  if (c->lock)
    neap__tier_lock(c->e->tier, &c->key);
  else
    neap__tier_unlock(c->e->tier, &c->key);
}

void probe_lock(probe_engine *e, uint32_t n, bool lock) {
  lock_call call = {.e = e, .key = probe_key(e, n), .lock = lock};
  neap__loop_call(e->loop, lock_on_loop, &call);
}

void probe_open_tier(probe_engine *e) {
  neap__tier_env env = {.loop = e->loop, .pool = e->pool, .names = e->names};
  neap_error err;
  assert_int_equal(neap__tier_open(&e->config, &env, &e->tier, &err), 0);
}

int probe_setup(void **state) {
  probe_engine *e = calloc(1, sizeof(*e));
  neap__layout layout;
  neap_error err;
  const uint64_t shape[1] = {500};
  *state = e;
  probe_script = (probe_state){.forced = 1};
  pthread_mutex_init(&probe_script.lock, NULL);
  pthread_cond_init(&probe_script.change, NULL);
  probe_table = full;
  e->names_memory = mmap(NULL, neap__names_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  e->config = (neap__tier_config){.adapter = &probe_table,
                                  .type = "probe",
                                  .name = "probe",
                                  .params_json = "{}",
                                  .trigger_watermark = 0.8,
                                  .eviction_ratio = 1.0};
  return neap__loop_open("test", &e->loop) || neap__pool_open(1, 64, &e->pool) ||
         neap__names_open(e->names_memory, &e->names, &err) ||
         neap__layout_init(&layout, shape, 1, "bfloat16", 16, &err) ||
         neap__names_space(e->names, "demo/tiny", 9, &layout, &e->space) ||
         neap__names_tenant(e->names, "tenant", 6, &e->tenant);
}

int probe_teardown(void **state) {
  probe_engine *e = *state;
  uint32_t closed = probe_script.closed;
  if (e->tier) {
    neap__tier_close(e->tier, 30000);
    closed = probe_script.closed == closed + 1 ? 1 : 0;
  }
  neap__pool_close(e->pool);
  neap__loop_close(e->loop);
  neap__names_close(e->names);
  munmap(e->names_memory, neap__names_bytes());
  for (uint32_t n = 0; n < PROBE_KEYS; n++) free(probe_script.data[n]);
  bool bad = e->tier && !closed;
  free(e);
  return bad ? -1 : 0;
}

int probe_setup_open(void **state) {
  int rc = probe_setup(state);
  if (rc == 0) probe_open_tier(*state);
  return rc;
}

void probe_open_bounded(probe_engine *e, const char *policy) {
  e->config.capacity_bytes = 10 * PROBE_BYTES;
  snprintf(e->config.eviction_policy, sizeof(e->config.eviction_policy), "%s", policy);
  probe_open_tier(e);
}
