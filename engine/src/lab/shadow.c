/* SPDX-License-Identifier: MIT
 *
 * lab/shadow.c - see shadow.h. Chunk numbers are recycled: the list from `oldest` to `newest` is in the order of use, a
 * chunk always older than the one it continues, since every request that uses it uses that one too. So the oldest is
 * never continued by another, and may go. */
#include "lab/shadow.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lab/ring.h"
#include "policy/ghost_cache.h"

#define RING_WORDS (256u << 10)
#define NUMBERS_MIN 4096u
#define NUMBERS_MANY (4u << 20) /* up to here four times what fits are remembered, above a quarter more than fits */
#define NUMBERS_MAX (64u << 20)
#define CHUNK_KIB 1024u /* before anything is known */
#define LOOK_MS 20u
#define STUCK_MS 5000u
#define START_S 5
#define CLOSE_S 1
#define PUBLISH 256u /* requests between two looks at the figures, when there is no end of them */
#define NICE 10

/* Numbers for chunks, at most `max`. */
typedef struct family {
  neap__lineage lineage;
  uint32_t *older, *newer; /* [max]; by number, NEAP__NO_CHUNK at the ends */
  uint32_t *kib;           /* [max] */
  uint32_t oldest, newest, max;
} family;

struct neap__shadow {
  neap__shadow_config config;
  neap__ring *ring;
  pthread_t thread;
  _Atomic uint32_t refs; /* the owner's and the thread's */
  atomic_bool stop;
  _Atomic uint64_t busy_ns; /* since when the policy is at work; 0: it is not */
  pthread_mutex_t lock;     /* state, published, started, ended */
  pthread_cond_t changed;
  bool started, ended;
  int start_rc;
  neap__shadow_stats published;
  /* the thread's */
  neap__ghost_cache *ghost;
  family family;
  uint32_t *number; /* of a request's chunks */
  uint32_t number_room, chunk_kib, lag_ms, request;
  uint64_t forgotten;
  neap__tally total;
  neap__window window;
};

/* --- numbers for chunks ---------------------------------------------------------------------------------------- */

static int family_open(family *f, uint32_t max) {
  *f = (family){.max = max, .oldest = NEAP__NO_CHUNK, .newest = NEAP__NO_CHUNK};
  f->older = malloc(sizeof(*f->older) * max);
  f->newer = malloc(sizeof(*f->newer) * max);
  f->kib = calloc(max, sizeof(*f->kib));
  if (!f->older || !f->newer || !f->kib) return NEAP_ENOMEM;
  return neap__lineage_open(&f->lineage, max);
}

static void family_close(family *f) {
  free(f->older);
  free(f->newer);
  free(f->kib);
  neap__lineage_close(&f->lineage);
}

static void unlink_number(family *f, uint32_t n) {
  uint32_t older = f->older[n], newer = f->newer[n];
  *(older == NEAP__NO_CHUNK ? &f->oldest : &f->newer[older]) = newer;
  *(newer == NEAP__NO_CHUNK ? &f->newest : &f->older[newer]) = older;
}

/* As the next older of `than`; NEAP__NO_CHUNK: as the newest. */
static void link_older(family *f, uint32_t n, uint32_t than) {
  uint32_t older = than == NEAP__NO_CHUNK ? f->newest : f->older[than];
  f->newer[n] = than, f->older[n] = older;
  *(older == NEAP__NO_CHUNK ? &f->oldest : &f->newer[older]) = n;
  *(than == NEAP__NO_CHUNK ? &f->newest : &f->older[than]) = n;
}

static void recycle(neap__shadow *s) {
  family *f = &s->family;
  uint32_t n = f->oldest;
  neap__ghost_forget(s->ghost, n);
  unlink_number(f, n);
  neap__lineage_remove(&f->lineage, n);
  s->forgotten++;
}

/* Numbers for a request's chunks: what is known becomes the newest, then the rest is added behind it. A prompt longer
 * than half of all numbers is cut. Returns how many chunks are left. */
static uint32_t number_chunks(neap__shadow *s, const uint64_t *hash, uint32_t chunks, uint32_t kib) {
  family *f = &s->family;
  uint32_t count = NEAP_MIN(chunks, f->max / 2), known = 0;
  while (known < count && (s->number[known] = neap__lineage_find(&f->lineage, hash[known])) != NEAP__NO_CHUNK) known++;
  for (uint32_t i = known; i-- > 0;) {
    unlink_number(f, s->number[i]);
    link_older(f, s->number[i], NEAP__NO_CHUNK);
  }
  for (uint32_t i = known; i < count; i++) {
    uint32_t parent = i ? s->number[i - 1] : NEAP__NO_CHUNK, before = f->lineage.count;
    s->number[i] = neap__lineage_find(&f->lineage, hash[i]); /* known in another place: hashes that collide */
    if (s->number[i] != NEAP__NO_CHUNK) return i;
    if (before == f->max && !f->lineage.removed) recycle(s);
    if (neap__lineage_add(&f->lineage, hash[i], parent, &s->number[i]) != 0) return i;
    link_older(f, s->number[i], parent);
  }
  for (uint32_t i = 0; i < count; i++) f->kib[s->number[i]] = kib;
  return count;
}

/* --- the ghost cache ------------------------------------------------------------------------------------------- */

static void close_ghost(neap__shadow *s) {
  neap__ghost_close(s->ghost);
  s->ghost = NULL;
  family_close(&s->family);
}

/* For chunks of that size. A bound on numbers follows from it, so much smaller ones need another ghost cache. */
static int open_ghost(neap__shadow *s, uint32_t kib, neap_error *err) {
  uint64_t fit = NEAP_MAX(s->config.capacity_kib / kib, 1);
  uint64_t numbers = NEAP_MAX(NEAP_MIN(4 * fit, NUMBERS_MANY), fit + fit / 4);
  numbers = NEAP_MIN(NEAP_MAX(numbers, NUMBERS_MIN), NUMBERS_MAX);
  const neap__ghost_config config = {.policy = s->config.spec.policy,
                                     .params = s->config.spec.params,
                                     .lineage = &s->family.lineage,
                                     .numbers = (uint32_t)numbers,
                                     .slots = (uint32_t)NEAP_MIN(numbers, 2 * fit + 16),
                                     .capacity = s->config.capacity_kib,
                                     .seed = 1};
  int rc = family_open(&s->family, (uint32_t)numbers);
  if (rc) neap__fail(err, rc, "no memory for the names of %" PRIu64 " chunks", numbers);
  if (!rc) rc = neap__ghost_open(&config, &s->ghost, err);
  if (rc) family_close(&s->family);
  s->chunk_kib = kib;
  return rc;
}

/* False: no memory. */
static bool have_room(neap__shadow *s, uint32_t chunks) {
  if (chunks <= s->number_room) return true;
  uint32_t *grown = realloc(s->number, sizeof(*grown) * chunks);
  if (grown == NULL) return false;
  s->number = grown;
  s->number_room = chunks;
  return true;
}

static int use(neap__shadow *s, const neap__lab_record *r, uint32_t chunks, bool counts, neap_error *err) {
  uint32_t kib = NEAP_MAX(r->kib, 1);
  neap__ghost_answer answer = {0};
  if (s->ghost && kib < s->chunk_kib / 2) close_ghost(s);
  int rc = s->ghost ? 0 : open_ghost(s, kib, err);
  if (rc) return rc;
  if (!have_room(s, chunks))
    return neap__fail(err, NEAP_ENOMEM, "no memory for a request of %" PRIu32 " chunks", chunks);
  const neap__ghost_request request = {.chunk = s->number,
                                       .units = s->family.kib,
                                       .chunks = number_chunks(s, r->chunk, chunks, kib),
                                       .tenant = r->tenant,
                                       .request = ++s->request,
                                       .time_ms = r->time_ms,
                                       .session = r->session};
  if (request.chunks) neap__ghost_use(s->ghost, &request, &answer);
  if (!counts || r->asked == 0) return 0;
  const neap__tally more = {.requests = 1,
                            .asked = r->asked,
                            .found = r->found,
                            .found_l1 = r->found_l1,
                            .prefix = NEAP_MIN(answer.prefix, r->asked),
                            .hits = NEAP_MIN(answer.hits, r->asked)};
  neap__tally_add(&s->total, &more);
  neap__window_add(&s->window, &more);
  return 0;
}

/* --- the figures ----------------------------------------------------------------------------------------------- */

/* False: the policy is out. */
static bool publish(neap__shadow *s) {
  neap__ghost_stats ghost = {0};
  struct timespec cpu;
  neap__tally window = neap__window_sum(&s->window);
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
  atomic_store(&s->busy_ns, neap__now_ns()); /* it may be told what it has not been told yet */
  if (s->ghost) neap__ghost_stats_get(s->ghost, &ghost);
  atomic_store(&s->busy_ns, 0);
  pthread_mutex_lock(&s->lock);
  neap__shadow_stats *p = &s->published;
  p->total = s->total;
  p->window = window;
  p->cpu_ns = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
  p->used_kib = ghost.used;
  p->lag_ms = s->lag_ms;
  p->evictions = ghost.evictions, p->orphan_evictions = ghost.orphan_evictions;
  p->forgotten = s->forgotten;
  p->residents = ghost.policy.residents;
  p->full = ghost.evictions != 0;
  if (ghost.policy.out && p->state != NEAP__SHADOW_STUCK) {
    p->state = NEAP__SHADOW_FAILED;
    p->why = ghost.policy.why;
  }
  pthread_mutex_unlock(&s->lock);
  return !ghost.policy.out;
}

static void set_state(neap__shadow *s, neap__shadow_state state, const neap_error *why) {
  pthread_mutex_lock(&s->lock);
  if (s->published.state < NEAP__SHADOW_FAILED) {
    s->published.state = state;
    if (why) s->published.why = *why;
  }
  pthread_mutex_unlock(&s->lock);
}

/* --- the thread ------------------------------------------------------------------------------------------------ */

static bool use_record(neap__shadow *s, const neap__lab_record *r, uint32_t chunks, bool counts) {
  neap_error err = {""};
  atomic_store(&s->busy_ns, neap__now_ns());
  int rc = use(s, r, chunks, counts, &err);
  atomic_store(&s->busy_ns, 0);
  if (rc) set_state(s, NEAP__SHADOW_FAILED, &err);
  return rc == 0;
}

/* The traffic of before, its times shifted so that it ended when this began. */
static bool warm_up(neap__shadow *s) {
  const neap__trace *t = s->config.warm;
  neap__lab_record *r = NULL;
  uint32_t room = 0;
  bool good = true;
  for (uint32_t i = 0; t && i < t->request_count && good && !atomic_load(&s->stop); i++) {
    const neap__trace_request *q = &t->requests[i];
    if (q->chunks > room || r == NULL) {
      room = NEAP_MAX(q->chunks, 256);
      free(r);
      r = malloc(sizeof(*r) + room * sizeof(r->chunk[0]));
      if (r == NULL) break;
    }
    *r = (neap__lab_record){.session = q->session, .tenant = q->tenant, .time_ms = q->time_ms};
    for (uint32_t c = 0; c < q->chunks; c++) r->chunk[c] = t->lineage.hash[t->chunk[q->first + c]];
    r->kib = t->units && q->chunks ? t->units[t->chunk[q->first]] : s->config.chunk_kib;
    good = use_record(s, r, q->chunks, false);
    if (i % PUBLISH == 0) good = publish(s) && good;
  }
  free(r);
  neap__trace_free(s->config.warm);
  s->config.warm = NULL;
  return good && publish(s);
}

static bool drain(neap__shadow *s) {
  uint32_t words, done = 0;
  const neap__lab_record *r;
  while ((r = (const neap__lab_record *)neap__ring_peek(s->ring, &words)) != NULL && !atomic_load(&s->stop)) {
    bool good = use_record(s, r, words - NEAP__RECORD_WORDS, true);
    uint64_t now_ms = (neap__now_ns() - s->config.epoch_ns) / 1000000;
    s->lag_ms = now_ms > r->time_ms ? (uint32_t)(now_ms - r->time_ms) : 0;
    neap__ring_pop(s->ring);
    if (!good || (++done % PUBLISH == 0 && !publish(s))) return false;
  }
  return publish(s);
}

static void let_go(neap__shadow *s) {
  if (atomic_fetch_sub(&s->refs, 1) != 1) return;
  neap__ring_close(s->ring);
  neap__trace_free(s->config.warm);
  pthread_cond_destroy(&s->changed);
  pthread_mutex_destroy(&s->lock);
  free(s->number);
  free(s);
}

/* A policy that cannot be created is told of at once, not with the first request. */
static void start(neap__shadow *s) {
  atomic_store(&s->busy_ns, neap__now_ns());
  int rc = open_ghost(s, NEAP_MAX(s->config.chunk_kib ? s->config.chunk_kib : CHUNK_KIB, 1), &s->published.why);
  atomic_store(&s->busy_ns, 0);
  pthread_mutex_lock(&s->lock);
  s->start_rc = rc;
  s->started = true;
  if (rc) s->published.state = NEAP__SHADOW_FAILED;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->lock);
}

static void *run(void *arg) {
  neap__shadow *s = arg;
  pthread_setname_np(pthread_self(), "neap-shadow");
  setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
  start(s);
  bool good = s->start_rc == 0 && warm_up(s);
  if (good) set_state(s, NEAP__SHADOW_RUNNING, NULL);
  while (good && !atomic_load(&s->stop)) {
    good = drain(s);
    if (good && !atomic_load(&s->stop)) neap__ring_wait(s->ring, LOOK_MS);
  }
  if (!good && s->start_rc == 0) NEAP_LOG_ERROR("shadow %s ends: %s", s->config.spec.text, s->published.why.text);
  if (s->ghost) close_ghost(s); /* a policy that hangs here holds up nobody but whoever closes, for a second */
  pthread_mutex_lock(&s->lock);
  s->ended = true;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->lock);
  let_go(s);
  return NULL;
}

/* --- the other side -------------------------------------------------------------------------------------------- */

/* Under the lock. False: the time is over. */
static bool await(neap__shadow *s, const bool *flag, int seconds) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += seconds;
  while (!*flag)
    if (pthread_cond_timedwait(&s->changed, &s->lock, &until) != 0) break;
  return *flag;
}

int neap__shadow_open(const neap__shadow_config *config, neap__shadow **out, neap_error *err) {
  neap__shadow *s = calloc(1, sizeof(*s));
  if (s == NULL || neap__ring_open(config->ring_words ? config->ring_words : RING_WORDS, &s->ring) != 0) {
    free(s);
    neap__trace_free(config->warm);
    return neap__fail(err, NEAP_ENOMEM, "no memory for a shadow");
  }
  s->config = *config;
  if (s->config.stuck_ms == 0) s->config.stuck_ms = STUCK_MS;
  s->window.requests_max = NEAP_MAX(config->window, 1);
  s->published = (neap__shadow_stats){
      .state = NEAP__SHADOW_WARMING, .capacity_kib = config->capacity_kib, .opened_ns = neap__now_ns()};
  memcpy(s->published.spec, config->spec.text, sizeof(s->published.spec));
  pthread_mutex_init(&s->lock, NULL);
  pthread_cond_init(&s->changed, NULL);
  atomic_store(&s->refs, 2);
  if (pthread_create(&s->thread, NULL, run, s) != 0) {
    atomic_store(&s->refs, 1);
    let_go(s);
    return neap__fail(err, NEAP_ENOMEM, "cannot start the thread of a shadow");
  }
  pthread_mutex_lock(&s->lock);
  bool started = await(s, &s->started, START_S);
  int rc = started ? s->start_rc : NEAP_ETIMEDOUT;
  if (started && rc && err) *err = s->published.why;
  pthread_mutex_unlock(&s->lock);
  if (!started) neap__fail(err, rc, "policy %s: create did not come back within %d s", config->spec.text, START_S);
  if (rc == 0)
    *out = s;
  else
    neap__shadow_close(s);
  return rc;
}

void neap__shadow_close(neap__shadow *s) {
  if (s == NULL) return;
  atomic_store(&s->stop, true);
  neap__ring_wake(s->ring);
  pthread_mutex_lock(&s->lock);
  bool ended = await(s, &s->ended, CLOSE_S);
  pthread_mutex_unlock(&s->lock);
  if (ended) {
    pthread_join(s->thread, NULL);
  } else {
    pthread_detach(s->thread);
    NEAP_LOG_ERROR("shadow %s does not end; its thread and memory are left to it", s->config.spec.text);
  }
  let_go(s);
}

void neap__shadow_use(neap__shadow *s, const neap__lab_record *request, uint32_t chunks) {
  uint64_t *to = neap__ring_claim(s->ring, NEAP__RECORD_WORDS + chunks);
  if (to == NULL) return;
  memcpy(to, request, sizeof(*request) + chunks * sizeof(request->chunk[0]));
  neap__ring_publish(s->ring);
}

void neap__shadow_check(neap__shadow *s) {
  uint64_t busy = atomic_load(&s->busy_ns);
  neap_error why = {""};
  if (busy == 0 || neap__now_ns() - busy < (uint64_t)s->config.stuck_ms * 1000000) return;
  neap__shadow_stats now;
  neap__shadow_stats_get(s, &now);
  if (now.state >= NEAP__SHADOW_FAILED) return;
  neap__fail(&why, NEAP_ETIMEDOUT, "the policy did not come back within %" PRIu32 " ms", s->config.stuck_ms);
  set_state(s, NEAP__SHADOW_STUCK, &why);
  NEAP_LOG_ERROR("shadow %s ends: %s", s->config.spec.text, why.text);
}

void neap__shadow_stats_get(neap__shadow *s, neap__shadow_stats *out) {
  neap__ring_stats ring;
  neap__ring_stats_get(s->ring, &ring);
  pthread_mutex_lock(&s->lock);
  *out = s->published;
  pthread_mutex_unlock(&s->lock);
  out->dropped = ring.dropped;
  out->waiting = ring.waiting;
}

const neap__policy_spec *neap__shadow_spec(const neap__shadow *s) { return &s->config.spec; }
int64_t neap__shadow_loaded_ns(const neap__shadow *s) { return s->config.loaded_ns; }

const char *neap__shadow_state_name(neap__shadow_state state) {
  switch (state) {
    case NEAP__SHADOW_WARMING: return "warming";
    case NEAP__SHADOW_RUNNING: return "running";
    case NEAP__SHADOW_FAILED: return "failed";
    case NEAP__SHADOW_STUCK: return "stuck";
  }
  return "unknown";
}
