/* SPDX-License-Identifier: MIT
 *
 * policy/remote.c - see remote.h.
 *
 *   engine                                      thread of the worker
 *     on_events: copy into `fill` ------------->  swaps fill and drain, tells the policy in pieces
 *     others: arguments into `call`, wake, wait   then runs the call; the answer is in memory of the worker
 *
 * Whatever the thread touches belongs to the worker, because an engine that has given up goes on with its own. The
 * worker is freed by whoever lets go last. One lock; the policy is entered without it. */
#include "policy/remote.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define QUEUE 16384u     /* events; when it is full on_events waits, as any other hook does */
#define WAKE 1024u       /* so many are worth waking the thread for */
#define PIECE 1024u      /* told at once; each is a call by the budget */
#define ABANDONED_MAX 8u /* each may have a processor, and all of a policy's memory, for good */
#define PATIENCE 10u     /* budgets by the clock */
#define CREATE_MS 30000u

enum { CREATE, ON_EVENTS, VICTIMS, SCORE, STORE_PLAN, LOAD_PLAN, ON_HINT, PREDICT, SAVE, LOAD };
static const char *const hook_names[] = {"create",    "on_events", "victims", "score", "store_plan",
                                         "load_plan", "on_hint",   "predict", "save",  "load"};

/* A wrapper. The table is the first member: create finds the rest behind it. */
typedef struct remote {
  neap_policy table;
  neap__remote_config config;
  struct remote *next;
} remote;

typedef struct queue {
  uint32_t count;
  neap_event events[QUEUE];
  neap_chunk rows[QUEUE]; /* of the events' slots */
} queue;

/* Arguments and answer of the hook that runs, in memory of the worker. */
typedef struct call {
  bool asked, done;
  int hook;
  uint32_t scope, count; /* count: of what is in `in`, or room in `out` */
  void *in, *out;
  size_t in_room, out_room;
  uint64_t bytes;
  neap_store_plan store;
  neap_load_plan load;
  int64_t rc;
  neap_error err;
} call;

typedef struct worker {
  const remote *remote;
  const neap_policy_context *outer; /* the engine's: not for the thread */
  neap_policy_context context;      /* the thread's from here on */
  neap_chunk *rows;
  void *self;
  pthread_t thread;
  clockid_t cpu; /* the thread's clock */

  pthread_mutex_t lock; /* all below */
  pthread_cond_t work, progress;
  queue *fill, *drain; /* drain: the thread's */
  uint32_t capacity;
  call call;
  int doing;          /* the hook that the thread is in, -1: none */
  uint64_t began_cpu; /* of the thread's clock, when it entered it */
  bool waiting, stop, abandoned, ended;
  bool failed;
  int failed_rc;
  neap_error why;
} worker;

static pthread_mutex_t remotes_lock = PTHREAD_MUTEX_INITIALIZER;
static remote *remotes;
static atomic_uint abandoned;

uint32_t neap__remote_abandoned(void) { return atomic_load(&abandoned); }

static uint64_t clock_ns(clockid_t clock) {
  struct timespec at;
  return clock_gettime(clock, &at) == 0 ? (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec : 0;
}

/* --- the thread ------------------------------------------------------------------------------------------------- */

static void worker_free(worker *w) {
  pthread_cond_destroy(&w->work);
  pthread_cond_destroy(&w->progress);
  pthread_mutex_destroy(&w->lock);
  free(w->call.in);
  free(w->call.out);
  free(w->call.store.cut);
  free(w->call.load.source);
  free((void *)w->context.params);
  free(w->fill);
  free(w->drain);
  free(w->rows);
  free(w);
}

static void enter(worker *w, int hook) { /* under the lock; leaves it */
  w->doing = hook;
  w->began_cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
  pthread_mutex_unlock(&w->lock);
}

static void leave(worker *w) {
  pthread_mutex_lock(&w->lock);
  w->doing = -1;
  pthread_cond_signal(&w->progress);
}

static void fail(worker *w, int rc, const neap_error *err) { /* under the lock */
  if (w->failed) return;
  w->failed = true;
  w->failed_rc = rc;
  w->why = *err;
}

/* What the policy does not want came for the sake of its rows. */
static void drop_unwanted(queue *q, uint32_t wants) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < q->count; i++)
    if (wants >> q->events[i].type & 1u) q->events[kept++] = q->events[i];
  q->count = kept;
}

static void tell(worker *w) { /* under the lock, as below */
  queue *q = w->fill;
  w->fill = w->drain;
  w->drain = q;
  w->context.capacity = w->capacity;
  pthread_cond_signal(&w->progress); /* there is room */
  for (uint32_t i = 0; i < q->count; i++)
    if (q->events[i].slot < w->context.slots) w->rows[q->events[i].slot] = q->rows[i];
  drop_unwanted(q, w->remote->config.inner->wants);
  for (uint32_t at = 0; at < q->count && !w->failed && !w->abandoned; at += PIECE) {
    neap_error err = {""};
    enter(w, ON_EVENTS);
    int rc = w->remote->config.inner->on_events(w->self, q->events + at, NEAP_MIN(PIECE, q->count - at), &err);
    leave(w);
    if (rc < 0) fail(w, rc, &err);
  }
  q->count = 0;
}

static int64_t run_hook(worker *w, call *c) {
  const neap_policy *p = w->remote->config.inner;
  switch (c->hook) {
    case VICTIMS: return p->victims(w->self, c->scope, c->out, c->count, &c->err);
    case SCORE: return p->score(w->self, c->in, c->count, c->out, &c->err);
    case STORE_PLAN: return p->store_plan(w->self, &c->store, &c->err);
    case LOAD_PLAN: return p->load_plan(w->self, &c->load, &c->err);
    case ON_HINT: return p->on_hint(w->self, c->in, c->count, &c->err);
    case PREDICT: return p->predict(w->self, c->out, c->count, &c->err);
    case SAVE: return p->save(w->self, c->out, c->bytes, &c->err);
    case LOAD: return p->load(w->self, c->in, c->bytes, &c->err);
    default: return NEAP_ENOTSUP;
  }
}

static void answer(worker *w) {
  call *c = &w->call;
  if (!w->failed) {
    enter(w, c->hook);
    int64_t rc = run_hook(w, c);
    leave(w);
    c->rc = rc;
    if (rc < 0) fail(w, (int)rc, &c->err);
  }
  c->asked = false;
  c->done = true;
  pthread_cond_signal(&w->progress);
}

static void *work(void *arg) {
  worker *w = arg;
  const neap_policy *inner = w->remote->config.inner;
  neap_error err = {""};
  pthread_mutex_lock(&w->lock);
  enter(w, CREATE);
  int rc = inner->create(inner, &w->context, &w->self, &err);
  leave(w);
  if (rc < 0) fail(w, rc, &err);
  w->call.done = true;
  while (rc >= 0 && !w->stop && !w->abandoned) {
    if (w->fill->count >= WAKE || (w->fill->count > 0 && (w->call.asked || w->waiting))) {
      tell(w);
    } else if (w->call.asked) {
      answer(w);
    } else {
      pthread_cond_wait(&w->work, &w->lock);
    }
  }
  pthread_mutex_unlock(&w->lock);
  if (rc >= 0) inner->destroy(w->self);
  pthread_mutex_lock(&w->lock);
  w->ended = true;
  bool alone = w->abandoned && w->stop; /* the engine has let go */
  pthread_cond_signal(&w->progress);
  pthread_mutex_unlock(&w->lock);
  if (alone) {
    atomic_fetch_sub(&abandoned, 1);
    worker_free(w);
  }
  return NULL;
}

/* --- waiting for it --------------------------------------------------------------------------------------------- */

static uint32_t budget_ms(const worker *w) {
  return w->remote->config.budget_ms ? w->remote->config.budget_ms : NEAP__REMOTE_BUDGET_MS;
}

static void wait_until(worker *w, uint64_t at_ns) {
  struct timespec at = {.tv_sec = (time_t)(at_ns / 1000000000u), .tv_nsec = (long)(at_ns % 1000000000u)};
  pthread_cond_timedwait(&w->progress, &w->lock, &at);
}

static bool call_done(const worker *w) { return w->call.done; }
static bool has_ended(const worker *w) { return w->ended; }
static bool has_room(const worker *w) { return w->fill->count < QUEUE || w->failed; }

/* The thread has spent the budget inside one hook. */
static bool overdrawn(const worker *w, uint64_t budget_ns) {
  uint64_t now = w->doing >= 0 ? clock_ns(w->cpu) : 0;
  return now > w->began_cpu && now - w->began_cpu > budget_ns;
}

/* Under the lock. False: it took too long. */
static bool wait_for(worker *w, bool (*ready)(const worker *), uint32_t ms) {
  uint64_t budget_ns = ms * UINT64_C(1000000), began = neap__now_ns(), now = began;
  while (!ready(w)) {
    if (now - began >= PATIENCE * budget_ns || (now - began >= budget_ns && overdrawn(w, budget_ns))) return false;
    wait_until(w, now + budget_ns);
    now = neap__now_ns();
  }
  return true;
}

static int overrun(worker *w, int hook, uint32_t ms, neap_error *err) { /* under the lock */
  int in = w->doing >= 0 ? w->doing : hook;
  const char *place = w->remote->config.place ? w->remote->config.place(w->remote->config.inner, hook_names[in]) : NULL;
  neap_error why = {""};
  neap__fail(&why, NEAP_ETIMEDOUT, "%s%s%s has not returned within %u ms; its thread is abandoned", place ? place : "",
             place ? ": " : "", hook_names[in], ms);
  fail(w, NEAP_ETIMEDOUT, &why);
  w->abandoned = true;
  atomic_fetch_add(&abandoned, 1);
  return neap__fail(err, NEAP_ETIMEDOUT, "%s", why.text);
}

/* --- the engine's side ------------------------------------------------------------------------------------------ */

static int failure(const worker *w, neap_error *err) { return neap__fail(err, w->failed_rc, "%s", w->why.text); }

static int remote_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  worker *w = self;
  int rc = 0;
  pthread_mutex_lock(&w->lock);
  while (count > 0 && !w->failed) {
    if (w->fill->count == QUEUE) {
      w->waiting = true;
      pthread_cond_signal(&w->work);
      bool room = wait_for(w, has_room, budget_ms(w));
      w->waiting = false;
      if (!room) overrun(w, ON_EVENTS, budget_ms(w), err);
      continue;
    }
    queue *q = w->fill;
    uint32_t part = NEAP_MIN(count, QUEUE - q->count);
    for (uint32_t i = 0; i < part; i++) {
      q->events[q->count + i] = events[i];
      if (events[i].slot < w->context.slots) q->rows[q->count + i] = w->outer->chunk[events[i].slot];
    }
    bool wake = q->count < WAKE && q->count + part >= WAKE;
    q->count += part;
    w->capacity = w->outer->capacity;
    if (wake) pthread_cond_signal(&w->work);
    events += part;
    count -= part;
  }
  if (w->failed) rc = failure(w, err);
  pthread_mutex_unlock(&w->lock);
  return rc;
}

/* Hands the call over and waits. Taken and left with the lock held. */
static int64_t ask(worker *w, int hook, neap_error *err) {
  w->call.hook = hook;
  w->call.asked = true;
  w->call.done = false;
  w->call.err.text[0] = '\0';
  w->capacity = w->outer->capacity;
  pthread_cond_signal(&w->work);
  if (!wait_for(w, call_done, budget_ms(w))) return overrun(w, hook, budget_ms(w), err);
  if (w->failed) return failure(w, err);
  return w->call.rc;
}

static void *room_for(void **memory, size_t *room, size_t bytes) {
  if (bytes <= *room && *memory != NULL) return *memory;
  void *more = realloc(*memory, NEAP_MAX(bytes, (size_t)256));
  if (more == NULL) return NULL;
  *memory = more;
  *room = NEAP_MAX(bytes, (size_t)256);
  return more;
}

/* Locks, unless the policy has failed or there is no memory for what goes in and comes out. 0 or an error. */
static int begin(worker *w, const void *in, size_t in_bytes, size_t out_bytes, neap_error *err) {
  pthread_mutex_lock(&w->lock);
  int rc = w->failed ? failure(w, err) : 0;
  if (rc == 0 && (room_for(&w->call.in, &w->call.in_room, in_bytes) == NULL ||
                  room_for(&w->call.out, &w->call.out_room, out_bytes) == NULL))
    rc = neap__fail(err, NEAP_ENOMEM, "no memory to hand over a call");
  if (rc != 0) {
    pthread_mutex_unlock(&w->lock);
    return rc;
  }
  if (in_bytes > 0) memcpy(w->call.in, in, in_bytes);
  memset(w->call.out, 0xff, out_bytes);
  return 0;
}

static int remote_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  worker *w = self;
  int64_t rc = begin(w, NULL, 0, max * sizeof(*out), err);
  if (rc != 0) return (int)rc;
  w->call.scope = scope;
  w->call.count = max;
  rc = ask(w, VICTIMS, err);
  if (rc > 0) memcpy(out, w->call.out, NEAP_MIN((uint32_t)rc, max) * sizeof(*out));
  pthread_mutex_unlock(&w->lock);
  return (int)rc;
}

static int remote_score(void *self, const uint32_t *slots, uint32_t count, double *scores, neap_error *err) {
  worker *w = self;
  int64_t rc = begin(w, slots, count * sizeof(*slots), count * sizeof(*scores), err);
  if (rc != 0) return (int)rc;
  w->call.count = count;
  rc = ask(w, SCORE, err);
  if (rc >= 0) memcpy(scores, w->call.out, count * sizeof(*scores));
  pthread_mutex_unlock(&w->lock);
  return (int)rc;
}

static int remote_on_hint(void *self, const neap_hint *hints, uint32_t count, neap_error *err) {
  worker *w = self;
  int64_t rc = begin(w, hints, count * sizeof(*hints), 0, err);
  if (rc != 0) return (int)rc;
  w->call.count = count;
  rc = ask(w, ON_HINT, err);
  pthread_mutex_unlock(&w->lock);
  return (int)rc;
}

static int remote_predict(void *self, neap_hint *out, uint32_t max, neap_error *err) {
  worker *w = self;
  int64_t rc = begin(w, NULL, 0, max * sizeof(*out), err);
  if (rc != 0) return (int)rc;
  w->call.count = max;
  rc = ask(w, PREDICT, err);
  if (rc > 0) memcpy(out, w->call.out, NEAP_MIN((uint32_t)rc, max) * sizeof(*out));
  pthread_mutex_unlock(&w->lock);
  return (int)rc;
}

static int64_t remote_save(void *self, void *bytes, uint64_t room, neap_error *err) {
  worker *w = self;
  int64_t rc = begin(w, NULL, 0, (size_t)room, err);
  if (rc != 0) return rc;
  w->call.bytes = room;
  rc = ask(w, SAVE, err);
  if (rc >= 0 && (uint64_t)rc <= room) memcpy(bytes, w->call.out, (size_t)rc);
  pthread_mutex_unlock(&w->lock);
  return rc;
}

static int remote_load(void *self, const void *bytes, uint64_t count, neap_error *err) {
  worker *w = self;
  int64_t rc = begin(w, bytes, (size_t)count, 0, err);
  if (rc != 0) return (int)rc;
  w->call.bytes = count;
  rc = ask(w, LOAD, err);
  pthread_mutex_unlock(&w->lock);
  return (int)rc;
}

/* --- plans ------------------------------------------------------------------------------------------------------ */

/* Copies chunks, tiers and the tiers' names into `in`; what they point to lies behind one another. */
static int copy_plan(worker *w, const neap_plan_chunk *chunk, uint32_t chunks, const neap_tier_view *tier,
                     uint32_t tiers, const neap_plan_chunk **chunk_copy, const neap_tier_view **tier_copy,
                     neap_error *err) {
  size_t names = 0, at = tiers * sizeof(*tier) + chunks * sizeof(*chunk);
  for (uint32_t t = 0; t < tiers; t++) names += strlen(tier[t].name) + 1;
  int rc = begin(w, NULL, 0, 0, err);
  if (rc != 0) return rc;
  char *memory = room_for(&w->call.in, &w->call.in_room, at + names);
  if (memory == NULL) {
    pthread_mutex_unlock(&w->lock);
    return neap__fail(err, NEAP_ENOMEM, "no memory to hand over a plan");
  }
  neap_tier_view *views = (neap_tier_view *)(void *)memory;
  if (tiers > 0) memcpy(views, tier, tiers * sizeof(*tier));
  if (chunks > 0) memcpy(views + tiers, chunk, chunks * sizeof(*chunk));
  for (uint32_t t = 0; t < tiers; t++) {
    size_t bytes = strlen(tier[t].name) + 1;
    views[t].name = memcpy(memory + at, tier[t].name, bytes);
    at += bytes;
  }
  *tier_copy = views;
  *chunk_copy = (const neap_plan_chunk *)(const void *)(views + tiers);
  return 0;
}

static int remote_store_plan(void *self, neap_store_plan *plan, neap_error *err) {
  worker *w = self;
  neap_store_plan copy = *plan;
  size_t bytes = NEAP_MAX(1u, plan->tiers) * sizeof(*plan->cut);
  int64_t rc = copy_plan(w, plan->chunk, plan->chunks, plan->tier, plan->tiers, &copy.chunk, &copy.tier, err);
  if (rc != 0) return (int)rc;
  copy.cut = realloc(w->call.store.cut, bytes);
  if (copy.cut == NULL) {
    rc = neap__fail(err, NEAP_ENOMEM, "no memory to hand over a plan");
  } else {
    memcpy(copy.cut, plan->cut, plan->tiers * sizeof(*plan->cut));
    w->call.store = copy;
    rc = ask(w, STORE_PLAN, err);
    if (rc >= 0) memcpy(plan->cut, w->call.store.cut, plan->tiers * sizeof(*plan->cut));
  }
  pthread_mutex_unlock(&w->lock);
  return (int)rc;
}

static int remote_load_plan(void *self, neap_load_plan *plan, neap_error *err) {
  worker *w = self;
  neap_load_plan copy = *plan;
  int64_t rc = copy_plan(w, plan->chunk, plan->chunks, plan->tier, plan->tiers, &copy.chunk, &copy.tier, err);
  if (rc != 0) return (int)rc;
  copy.source = realloc(w->call.load.source, NEAP_MAX(1u, plan->chunks));
  if (copy.source == NULL) {
    rc = neap__fail(err, NEAP_ENOMEM, "no memory to hand over a plan");
  } else {
    memcpy(copy.source, plan->source, plan->chunks);
    w->call.load = copy;
    rc = ask(w, LOAD_PLAN, err);
    if (rc >= 0) {
      memcpy(plan->source, w->call.load.source, plan->chunks);
      plan->load = w->call.load.load;
      plan->keep = w->call.load.keep;
    }
  }
  pthread_mutex_unlock(&w->lock);
  return (int)rc;
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static void remote_destroy(void *self) {
  worker *w = self;
  pthread_mutex_lock(&w->lock);
  w->stop = true;
  pthread_cond_signal(&w->work);
  if (!w->abandoned && !wait_for(w, has_ended, NEAP_MAX(budget_ms(w), 100u))) {
    w->abandoned = true;
    atomic_fetch_add(&abandoned, 1);
  }
  bool ended = w->ended;
  const char *name = w->remote->table.name;
  if (!ended) pthread_detach(w->thread); /* it frees the worker, if it ever comes back */
  pthread_mutex_unlock(&w->lock);
  if (!ended) {
    NEAP_LOG_WARN("policy %s: its thread has not come back; it and its memory are left behind until it does", name);
    return;
  }
  if (w->abandoned) atomic_fetch_sub(&abandoned, 1);
  pthread_join(w->thread, NULL);
  worker_free(w);
}

static worker *worker_new(const remote *r, const neap_policy_context *context) {
  worker *w = calloc(1, sizeof(*w));
  if (w == NULL) return NULL;
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&w->work, &attr);
  pthread_cond_init(&w->progress, &attr);
  pthread_condattr_destroy(&attr);
  pthread_mutex_init(&w->lock, NULL);
  w->remote = r;
  w->outer = context;
  w->context = *context;
  w->context.next = NULL;
  w->context.params = strdup(context->params ? context->params : "");
  w->capacity = context->capacity;
  w->rows = calloc(context->slots, sizeof(*w->rows));
  w->context.chunk = w->rows;
  w->fill = calloc(1, sizeof(*w->fill));
  w->drain = calloc(1, sizeof(*w->drain));
  w->doing = -1;
  if (w->context.params != NULL && w->rows != NULL && w->fill != NULL && w->drain != NULL) return w;
  worker_free(w);
  return NULL;
}

static int remote_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  const remote *r = (const remote *)policy;
  if (atomic_load(&abandoned) >= ABANDONED_MAX)
    return neap__fail(err, NEAP_ELIMIT,
                      "policy %s: %u threads of policies before it have not come back; expected fewer than %u, "
                      "only a restart ends them",
                      policy->name, atomic_load(&abandoned), ABANDONED_MAX);
  worker *w = worker_new(r, context);
  if (w == NULL) return neap__fail(err, NEAP_ENOMEM, "policy %s: no memory for its thread", policy->name);
  pthread_mutex_lock(&w->lock);
  int rc = pthread_create(&w->thread, NULL, work, w);
  if (rc != 0) {
    pthread_mutex_unlock(&w->lock);
    worker_free(w);
    return neap__fail(err, NEAP_ENOMEM, "policy %s: no thread: %s", policy->name, strerror(rc));
  }
  pthread_getcpuclockid(w->thread, &w->cpu);
  bool made = wait_for(w, call_done, CREATE_MS / PATIENCE);
  rc = 0;
  if (!made) rc = overrun(w, CREATE, CREATE_MS / PATIENCE, err);
  if (made && w->failed) rc = failure(w, err);
  pthread_mutex_unlock(&w->lock);
  if (rc != 0) {
    remote_destroy(w);
    return rc;
  }
  *self = w;
  return 0;
}

/* What the policy's own wishes are, and what keeps the copies of its rows true: as in neap__instance_wants. */
static uint32_t wants_for(const neap_policy *inner) {
  const uint32_t leaves = NEAP_WANTS(LEAF) | NEAP_WANTS(UNLEAF);
  uint32_t wants = inner->wants | NEAP_WANTS(INSERT) | NEAP_WANTS(HIT) | NEAP_WANTS(REMOVE);
  if (wants & leaves || inner->constraint & NEAP_EVICT_LEAF) wants |= leaves;
  if (inner->store_plan || inner->load_plan) wants |= NEAP_WANTS(STORED) | NEAP_WANTS(LOADED);
  return wants;
}

static void make_table(remote *r) {
  const neap_policy *inner = r->config.inner;
  r->table = (neap_policy){
      .magic = NEAP_POLICY_MAGIC,
      .abi = NEAP_POLICY_ABI,
      .size = sizeof(neap_policy),
      .wants = wants_for(inner),
      .constraint = inner->constraint,
      .flags = inner->flags,
      .name = inner->name,
      .create = remote_create,
      .destroy = remote_destroy,
      .on_events = remote_on_events,
      .victims = inner->victims ? remote_victims : NULL,
      .score = inner->score ? remote_score : NULL,
      .store_plan = inner->store_plan ? remote_store_plan : NULL,
      .load_plan = inner->load_plan ? remote_load_plan : NULL,
      .on_hint = inner->on_hint ? remote_on_hint : NULL,
      .predict = inner->predict ? remote_predict : NULL,
      .save = inner->save ? remote_save : NULL,
      .load = inner->load ? remote_load : NULL,
  };
}

int neap__remote_wrap(const neap__remote_config *config, const neap_policy **out, neap_error *err) {
  pthread_mutex_lock(&remotes_lock);
  remote *r = remotes;
  while (r != NULL && (r->config.inner != config->inner || r->config.budget_ms != config->budget_ms ||
                       r->config.place != config->place))
    r = r->next;
  if (r == NULL && (r = calloc(1, sizeof(*r))) != NULL) {
    r->config = *config;
    make_table(r);
    r->next = remotes;
    remotes = r;
  }
  pthread_mutex_unlock(&remotes_lock);
  if (r == NULL) return neap__fail(err, NEAP_ENOMEM, "policy %s: no memory for its wrapper", config->inner->name);
  *out = &r->table;
  return 0;
}
