/* SPDX-License-Identifier: MIT
 *
 * flow/fetch.c - see fetch.h.
 *
 *   start (caller) --all in L1--> final
 *        \--> waiting --> lookup (every tier, what L1 lacks) --> plan (fold) --> load --> final
 *                              loop thread; the deadline makes any of these final
 *
 * A fetch is shared by its caller, by the loop thread, and by each lookup and load that will still report to it; each
 * of them holds a reference, and the last to let go releases the leases that nobody took. Cells are chunk-major:
 * cell = chunk * rows + row. */
#include "flow/fetch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flow/load.h"
#include "flow/plan.h"

#define NO_TIER UINT8_MAX
#define DEADLINE_MS 30000u
#define SPARE_FETCHES 256u
#define SPARE_CELLS 512u /* fetches of up to this many cells are reused instead of freed */

enum { FETCH_RUNNING = 0, FETCH_FINAL = 1 };
enum { PHASE_LOOKUP = 0, PHASE_LOAD = 1, PHASES = 2 };

struct neap__fetch {
  neap__job job; /* first: the loop's handle on a fetch */
  neap__fetcher *fetcher;
  neap__fetch *next;           /* waiting list, in-flight list, or spares */
  neap__fetch_request request; /* keys and row_bytes point into this allocation */
  _Atomic uint32_t refs;
  _Atomic uint32_t state;
  uint32_t cells_room;
  uint32_t hit, pending, number, phase;
  uint64_t start_ns, deadline_ns;
  neap__key *keys;
  uint64_t *row_bytes;
  neap__lease *leases;
  uint8_t *tier; /* of a cell that L1 lacks: the tier to load it from, the first that has it unless planned otherwise */
  uint32_t *has; /* bit t: tier t has the cell; NULL unless a plan is to be made */
};

struct neap__fetcher {
  neap__fetcher_config config;
  neap__loads *loads;
  pthread_mutex_t spare_lock;
  neap__fetch *spares;
  uint32_t spare_count;
  atomic_bool drained;
  /* loop thread only */
  neap__fetch *waiting, **waiting_tail, *in_flight;
  bool admitting;
  uv_timer_t *timer; /* freed by its close callback */
  /* statistics */
  _Atomic uint64_t lookups, chunks_requested, chunks_hit, l1_hit, l2_hit, l2_lookups, l2_lookup_objects, late;
  _Atomic uint64_t recomputed;
  _Atomic uint32_t in_flight_count, waiting_count, phases[PHASES], numbers;
};

/* --- memory --------------------------------------------------------------------------------------------------- */

static size_t fetch_bytes(uint32_t cells, uint32_t rows) {
  return sizeof(neap__fetch) + cells * (sizeof(neap__key) + sizeof(neap__lease) + 1) + rows * sizeof(uint64_t);
}

static neap__fetch *fetch_new(neap__fetcher *fr, const neap__fetch_request *request) {
  uint32_t cells = request->chunks * request->rows, room = NEAP_MAX(cells, SPARE_CELLS);
  neap__fetch *f = NULL;
  if (room == SPARE_CELLS && request->rows <= SPARE_CELLS) {
    pthread_mutex_lock(&fr->spare_lock);
    if ((f = fr->spares)) fr->spares = f->next, fr->spare_count--;
    pthread_mutex_unlock(&fr->spare_lock);
  }
  if (!f && !(f = malloc(fetch_bytes(room, NEAP_MAX(request->rows, SPARE_CELLS))))) return NULL;
  memset(f, 0, sizeof *f);
  f->fetcher = fr;
  f->request = *request;
  f->cells_room = room;
  f->keys = (neap__key *)(f + 1);
  f->leases = (neap__lease *)(f->keys + room);
  f->row_bytes = f->leases + room;
  f->tier = (uint8_t *)(f->row_bytes + NEAP_MAX(request->rows, SPARE_CELLS));
  memcpy(f->keys, request->keys, cells * sizeof *f->keys);
  memcpy(f->row_bytes, request->row_bytes, request->rows * sizeof *f->row_bytes);
  f->request.keys = f->keys;
  f->request.row_bytes = f->row_bytes;
  memset(f->leases, 0, cells * sizeof *f->leases);
  memset(f->tier, NO_TIER, cells);
  f->start_ns = neap__now_ns();
  f->number = atomic_fetch_add(&fr->numbers, 1) + 1;
  atomic_store(&f->refs, 1);
  return f;
}

static uint32_t cells_of(const neap__fetch *f) { return f->request.chunks * f->request.rows; }

static void release_cells(neap__fetch *f, uint32_t from) {
  for (uint32_t i = from; i < cells_of(f); i++) {
    if (f->leases[i] == NEAP_NO_LEASE) continue;
    neap__l1_release(f->fetcher->config.l1, f->leases[i], UINT32_MAX);
    f->leases[i] = NEAP_NO_LEASE;
  }
}

static void unref(neap__fetch *f) {
  if (atomic_fetch_sub(&f->refs, 1) != 1) return;
  neap__fetcher *fr = f->fetcher;
  release_cells(f, 0);
  free(f->has);
  pthread_mutex_lock(&fr->spare_lock);
  bool keep = f->cells_room == SPARE_CELLS && f->request.rows <= SPARE_CELLS && fr->spare_count < SPARE_FETCHES;
  if (keep) f->next = fr->spares, fr->spares = f, fr->spare_count++;
  pthread_mutex_unlock(&fr->spare_lock);
  if (!keep) free(f);
}

/* --- the answer ----------------------------------------------------------------------------------------------- */

/* The longest prefix of chunks all of whose cells pass. */
static uint32_t fold(const neap__fetch *f, bool (*has)(const neap__fetch *f, uint32_t cell)) {
  uint32_t cell = 0;
  while (cell < cells_of(f) && has(f, cell)) cell++;
  return cell / f->request.rows;
}

static bool leased(const neap__fetch *f, uint32_t cell) { return f->leases[cell] != NEAP_NO_LEASE; }
static bool obtainable(const neap__fetch *f, uint32_t cell) { return leased(f, cell) || f->tier[cell] != NO_TIER; }

static void finish(neap__fetch *f) {
  neap__fetcher *fr = f->fetcher;
  f->hit = fold(f, leased);
  uint32_t hit_cells = f->hit * f->request.rows, from_l2 = 0;
  for (uint32_t i = 0; i < hit_cells; i++) from_l2 += f->tier[i] != NO_TIER;
  release_cells(f, f->request.warm ? 0 : hit_cells);
  atomic_fetch_add(&fr->chunks_hit, f->hit);
  atomic_fetch_add(&fr->l1_hit, hit_cells - from_l2);
  atomic_fetch_add(&fr->l2_hit, from_l2);
  NEAP_LOG_INFO(
      "Prefetch request completed (L1+L2): %u/%u prefix hits (%u L1, %u L2) in %.1f ms "
      "(external_request_id=%s, prefetch_request_id=%u)",
      hit_cells, NEAP_MAX(f->request.chunks, f->request.chunks_asked) * f->request.rows, hit_cells - from_l2, from_l2,
      (double)(neap__now_ns() - f->start_ns) / 1e6, f->request.name, f->number);
  void (*done)(void *) = f->request.done;
  void *ctx = f->request.ctx;
  atomic_store(&f->state, FETCH_FINAL);
  if (done) done(ctx);
}

/* --- the part that uses L2, on the loop thread ---------------------------------------------------------------- */

static void begin(neap__fetch *f);

/* Takes the one that has waited longest; there is one. */
static neap__fetch *take_waiting(neap__fetcher *fr) {
  neap__fetch *f = fr->waiting;
  fr->waiting = f->next;
  if (!fr->waiting) fr->waiting_tail = &fr->waiting;
  atomic_fetch_sub(&fr->waiting_count, 1);
  return f;
}

/* Lets waiting fetches begin while there is room. One that ends at once comes back here: the flag keeps that flat. */
static void admit_waiting(neap__fetcher *fr) {
  if (fr->admitting) return;
  fr->admitting = true;
  while (fr->waiting && atomic_load(&fr->in_flight_count) < fr->config.in_flight_max) {
    begin(take_waiting(fr));
  }
  fr->admitting = false;
}

/* Ends a fetch that uses L2: final for its caller, out of the in-flight list, and the next one may begin. Past the
 * deadline it does not matter who noticed first, the fetcher's clock or the tiers'. */
static void conclude(neap__fetch *f) {
  neap__fetcher *fr = f->fetcher;
  if (atomic_load(&f->state) == FETCH_FINAL) return;
  if (neap__now_ns() >= f->deadline_ns) {
    atomic_fetch_add(&fr->late, 1);
    NEAP_LOG_WARN("L2 deadline of request %s passed; answering with what is in L1", f->request.name);
  }
  neap__fetch **at = &fr->in_flight;
  while (*at != f) at = &(*at)->next;
  *at = f->next;
  atomic_fetch_sub(&fr->phases[f->phase], 1);
  atomic_fetch_sub(&fr->in_flight_count, 1);
  finish(f);
  unref(f);
  admit_waiting(fr);
}

static void cell_loaded(void *ctx, uint32_t cell, neap__lease lease, int result) {
  neap__fetch *f = ctx;
  (void)result;
  if (atomic_load(&f->state) == FETCH_FINAL) { /* too late for this fetch; the object stays in L1 for the next */
    if (lease != NEAP_NO_LEASE) neap__l1_release(f->fetcher->config.l1, lease, UINT32_MAX);
  } else {
    f->leases[cell] = lease;
    if (--f->pending == 0) conclude(f);
  }
  unref(f);
}

static uint64_t left_ms(const neap__fetch *f) {
  uint64_t now = neap__now_ns();
  return now >= f->deadline_ns ? 1 : (f->deadline_ns - now) / 1000000 + 1;
}

static bool keeps_by_itself(const neap__fetch *f) {
  const neap__fetcher_config *c = &f->fetcher->config;
  return c->retain || f->request.warm || /* warm: nobody reads it now, that is no reason to drop it */
         neap__l1_usage(c->l1) < c->watermark;
}

static void unlock_cell(neap__fetch *f, uint32_t cell) {
  neap__tier_unlock(neap__tier_set_at(f->fetcher->config.tiers, f->tier[cell]), &f->keys[cell]);
}

/* --- the plan ------------------------------------------------------------------------------------------------- */

/* A chunk as the policy sees it, all of its rows together. */
static neap_plan_chunk describe(neap__fetch *f, uint32_t chunk, uint8_t *source) {
  uint32_t first = chunk * f->request.rows;
  uint64_t bytes = 0;
  neap__view view = {.slot = NEAP_POLICY_NO_SLOT};
  *source = NO_TIER;
  for (uint32_t i = first; i < first + f->request.rows; i++)
    if (!leased(f, i)) *source = f->tier[i];
  if (*source == NO_TIER) (void)neap__l1_view(f->fetcher->config.l1, f->leases[first], &view);
  for (uint32_t row = 0; row < f->request.rows; row++) bytes += f->row_bytes[row];
  neap_plan_chunk described = neap__plan_chunk(&f->keys[first], view.slot, bytes, chunk);
  for (uint32_t i = first; i < first + f->request.rows; i++)
    if (!leased(f, i)) described.tiers |= f->has[i];
  return described;
}

/* Rows that the chosen tier does not have stay where they were found. */
static void take_source(neap__fetch *f, uint32_t chunk, uint8_t source) {
  for (uint32_t i = chunk * f->request.rows; i < (chunk + 1) * f->request.rows; i++) {
    if (leased(f, i) || source == f->tier[i] || !(f->has[i] >> source & 1u)) continue;
    neap__tier *tier = neap__tier_set_route(f->fetcher->config.tiers, source);
    if (!tier) continue;
    unlock_cell(f, i);
    f->tier[i] = source;
    neap__tier_lock(tier, &f->keys[i]);
  }
}

/* Of the first *load chunks, which could all be had: how many to load, of which how many to keep. */
static void ask_policy(neap__fetch *f, uint32_t *load, uint32_t *keep) {
  neap_tier_view views[NEAP_TIERS_MAX];
  uint32_t chunks = *load;
  neap_plan_chunk *described = malloc(chunks * sizeof *described);
  uint8_t *source = malloc(chunks);
  neap_load_plan plan = {.size = sizeof plan,
                         .tenant = f->keys[0].tenant,
                         .request = f->request.owner.request,
                         .chunks = chunks,
                         .tiers = neap__plan_tiers(f->fetcher->config.tiers, views),
                         .tier = views,
                         .source = source,
                         .load = *load,
                         .keep = *keep};
  for (uint32_t i = 0; described && source && i < chunks; i++) described[i] = describe(f, i, &source[i]);
  if (described && source && neap__stream_load_plan(f->fetcher->config.stream, &plan, described)) {
    for (uint32_t i = 0; i < plan.load; i++)
      if (described[i].slot == NEAP_POLICY_NO_SLOT) take_source(f, i, source[i]);
    *load = plan.load;
    *keep = plan.keep;
    atomic_fetch_add(&f->fetcher->recomputed, chunks - plan.load);
  }
  free(described);
  free(source);
}

/* --- loading -------------------------------------------------------------------------------------------------- */

/* The first `load` chunks are used; the rest is let go of, as if it were not there. */
static void cut_off(neap__fetch *f, uint32_t load) {
  for (uint32_t i = load * f->request.rows; i < cells_of(f); i++) {
    if (f->tier[i] == NO_TIER) continue;
    unlock_cell(f, i);
    f->tier[i] = NO_TIER;
  }
  release_cells(f, load * f->request.rows);
}

/* Every tier has answered: load what extends the prefix, let go of what lies behind it. */
static void plan(neap__fetch *f) {
  neap__fetcher *fr = f->fetcher;
  f->phase = PHASE_LOAD;
  atomic_fetch_sub(&fr->phases[PHASE_LOOKUP], 1);
  atomic_fetch_add(&fr->phases[PHASE_LOAD], 1);
  uint32_t rows = f->request.rows, load = fold(f, obtainable), keep = keeps_by_itself(f) ? load : 0, wanted = 0;
  if (f->has && fold(f, leased) < load) ask_policy(f, &load, &keep);
  cut_off(f, load);
  neap__load_item *items = malloc((load * rows + 1u) * sizeof *items);
  for (uint32_t i = 0; i < load * rows; i++) {
    if (leased(f, i)) continue;
    if (!items) {
      unlock_cell(f, i);
      continue;
    }
    items[wanted++] = (neap__load_item){.key = f->keys[i],
                                        .bytes = f->row_bytes[i % rows],
                                        .tier = f->tier[i],
                                        .cell = i,
                                        .pos = i / rows,
                                        .temporary = i / rows >= keep};
  }
  if (!wanted) {
    free(items);
    conclude(f);
    return;
  }
  neap__load_for want = {.owner = f->request.owner,
                         .readers = NEAP_MAX(f->request.readers, 1),
                         .deadline_ms = left_ms(f),
                         .ctx = f,
                         .done = cell_loaded};
  f->pending = wanted;
  atomic_fetch_add(&f->refs, wanted);
  neap__loads_start(fr->loads, items, wanted, &want);
  free(items);
}

typedef struct lookup_task {
  neap__fetch *fetch;
  uint8_t tier;
  uint32_t cells[];
} lookup_task;

static void looked_up(neap__task *task) {
  lookup_task *t = task->ctx;
  neap__fetch *f = t->fetch;
  bool late = atomic_load(&f->state) == FETCH_FINAL;
  for (uint32_t i = 0; i < task->op.count && !late; i++) {
    uint32_t cell = t->cells[i];
    if (task->op.objects[i].result != 0) continue;
    neap__known_note(f->fetcher->config.known, &f->keys[cell]);
    uint8_t known = f->tier[cell];
    if (f->has) f->has[cell] |= 1u << t->tier;
    if (known != NO_TIER && known < t->tier) continue;
    if (known != NO_TIER) neap__tier_unlock(neap__tier_set_at(f->fetcher->config.tiers, known), &f->keys[cell]);
    f->tier[cell] = t->tier;
    neap__tier_lock(neap__tier_set_at(f->fetcher->config.tiers, t->tier), &f->keys[cell]);
  }
  if (!late && --f->pending == 0) plan(f);
  unref(f); /* here, not on release: a tier that never comes back must not hold the leases of a fetch that ended */
}

static void lookup_let_go(neap__task *task) {
  free(task->ctx);
  neap__task_free(task);
}

/* Asks one tier for every cell that L1 lacks; a tier that cannot be asked has none of them. */
static void ask(neap__fetch *f, uint8_t tier, uint32_t missing) {
  neap__fetcher *fr = f->fetcher;
  neap__names *names = neap__l1_names(fr->config.l1);
  neap__tier *asked = neap__tier_set_route(fr->config.tiers, tier);
  if (!asked) return;
  lookup_task *t = malloc(sizeof *t + missing * sizeof *t->cells);
  neap__task *task = neap__task_new(NEAP_OP_LOOKUP, missing);
  if (!t || !task) {
    free(t);
    if (task) neap__task_free(task);
    return;
  }
  t->fetch = f;
  t->tier = tier;
  uint32_t n = 0;
  for (uint32_t i = 0; i < cells_of(f); i++) {
    if (leased(f, i) || !neap__names_primary(names, f->keys[i].space)) continue;
    t->cells[n] = i;
    task->keys[n] = f->keys[i];
    task->op.objects[n].key = neap__names_object_key(names, &f->keys[i]);
    task->op.objects[n++].bytes = f->row_bytes[i % f->request.rows];
  }
  task->ctx = t;
  task->done = looked_up;
  task->release = lookup_let_go;
  atomic_fetch_add(&f->refs, 1);
  f->pending++;
  if (neap__tier_submit(asked, task, left_ms(f)) == 0) return;
  f->pending--;
  lookup_let_go(task);
  unref(f);
}

/* Leases what L1 has by now, asks every tier for the rest. */
static void begin(neap__fetch *f) {
  neap__fetcher *fr = f->fetcher;
  f->next = fr->in_flight;
  fr->in_flight = f;
  atomic_fetch_add(&fr->in_flight_count, 1);
  f->phase = PHASE_LOOKUP;
  atomic_fetch_add(&fr->phases[PHASE_LOOKUP], 1);
  neap__names *names = neap__l1_names(fr->config.l1);
  uint32_t missing = 0;
  for (uint32_t i = 0; i < cells_of(f); i++) {
    if (leased(f, i)) continue;
    neap__l1_acquire(fr->config.l1, 1, &f->keys[i], &f->request.owner, NEAP_MAX(f->request.readers, 1), true,
                     &f->leases[i]);
    if (!leased(f, i) && neap__names_primary(names, f->keys[i].space)) missing++;
  }
  bool plans = neap__stream_wants(fr->config.stream) & NEAP__HAS_LOAD_PLAN && !f->request.warm;
  if (plans && missing) f->has = calloc(cells_of(f), sizeof *f->has); /* without memory: no plan */
  f->pending = 1; /* this function: no plan before every tier was asked */
  if (missing && !atomic_load(&fr->drained)) {
    atomic_fetch_add(&fr->l2_lookups, 1);
    atomic_fetch_add(&fr->l2_lookup_objects, missing);
    for (uint32_t tier = 0; tier < NEAP_TIERS_MAX; tier++) ask(f, (uint8_t)tier, missing);
  }
  if (--f->pending == 0) plan(f);
}

static void arrive(neap__job *job) {
  neap__fetch *f = (neap__fetch *)job;
  neap__fetcher *fr = f->fetcher;
  uint64_t allowed_ms = fr->config.deadline_ms ? fr->config.deadline_ms : DEADLINE_MS;
  f->deadline_ns = f->start_ns + allowed_ms * 1000000u;
  f->next = NULL;
  *fr->waiting_tail = f;
  fr->waiting_tail = &f->next;
  atomic_fetch_add(&fr->waiting_count, 1);
  admit_waiting(fr);
}

/* Answers of a tier, or of every one (NO_TIER), that nobody will load from any more. */
static void forget_tiers(neap__fetch *f, uint32_t tier) {
  for (uint32_t i = 0; i < cells_of(f); i++) {
    if (f->has) f->has[i] &= tier == NO_TIER ? 0 : ~(1u << tier);
    if (f->tier[i] == NO_TIER || (tier != NO_TIER && f->tier[i] != tier)) continue;
    neap__tier_unlock(neap__tier_set_at(f->fetcher->config.tiers, f->tier[i]), &f->keys[i]);
    f->tier[i] = NO_TIER;
  }
}

/* The first of the waiting fetches ends with what L1 has. */
static void give_up_waiting(neap__fetcher *fr) {
  neap__fetch *f = take_waiting(fr);
  finish(f);
  unref(f);
}

/* Fetches past their deadline become final with what is there; loads under way go on without them. */
static void check_deadlines(uv_timer_t *timer) {
  neap__fetcher *fr = timer->data;
  uint64_t now = neap__now_ns();
  while (fr->waiting && now >= fr->waiting->deadline_ns) {
    atomic_fetch_add(&fr->late, 1);
    give_up_waiting(fr);
  }
  for (neap__fetch *f = fr->in_flight, *next; f; f = next) {
    next = f->next;
    if (now < f->deadline_ns) continue;
    if (f->phase == PHASE_LOOKUP) forget_tiers(f, NO_TIER);
    conclude(f);
  }
}

/* What the policy wants to hear of a prompt that is asked for. */
static void tell(neap__fetch *f) {
  const neap__fetcher_config *config = &f->fetcher->config;
  uint32_t rows = f->request.rows, wants = neap__stream_wants(config->stream);
  if (!(wants & (NEAP_WANTS(MISS) | NEAP_WANTS(LEAF))) || cells_of(f) == 0) return;
  neap__stream_chain(config->stream, f->keys[0].tenant, f->keys[0].hash, rows * sizeof *f->keys, f->request.chunks);
  for (uint32_t chunk = f->request.chunks; chunk-- > 0 && !f->request.warm;) {
    uint32_t cell = chunk * rows, end = cell + rows;
    for (bool present = true; cell < end && present; cell += present)
      if (!leased(f, cell)) neap__l1_contains(config->l1, 1, &f->keys[cell], &present);
    if (cell < end) neap__l1_tell_miss(config->l1, &f->keys[cell], chunk, f->request.owner.request);
  }
}

/* --- the caller's side ---------------------------------------------------------------------------------------- */

int neap__fetch_start(neap__fetcher *fr, const neap__fetch_request *request, neap__fetch **out) {
  if (request->rows == 0 || (uint64_t)request->chunks * request->rows > NEAP_FETCH_CELLS_MAX) return NEAP_ELIMIT;
  neap__fetch *f = fetch_new(fr, request);
  if (!f) return NEAP_ENOMEM;
  atomic_fetch_add(&fr->lookups, 1);
  atomic_fetch_add(&fr->chunks_requested, NEAP_MAX(request->chunks, request->chunks_asked));
  int held = neap__l1_acquire(fr->config.l1, cells_of(f), f->keys, &f->request.owner, NEAP_MAX(request->readers, 1),
                              true, f->leases);
  tell(f);
  *out = f;
  bool complete = held == (int)cells_of(f),
       alone = !neap__tier_set_count(fr->config.tiers) || atomic_load(&fr->drained);
  if (complete || alone || held < 0) {
    finish(f);
    return 0;
  }
  atomic_fetch_add(&f->refs, 1);
  f->job.run = arrive;
  neap__loop_post(fr->config.loop, &f->job);
  return 0;
}

bool neap__fetch_poll(neap__fetch *f, uint32_t *hit_chunks) {
  if (atomic_load(&f->state) != FETCH_FINAL) return false;
  *hit_chunks = f->hit;
  return true;
}

neap__lease neap__fetch_lease(neap__fetch *f, uint32_t chunk, uint32_t row, bool take) {
  NEAP_ASSERT(atomic_load(&f->state) == FETCH_FINAL && chunk < f->request.chunks && row < f->request.rows);
  neap__lease *cell = &f->leases[chunk * f->request.rows + row], lease = *cell;
  if (take) *cell = NEAP_NO_LEASE;
  return lease;
}

void neap__fetch_end(neap__fetch *f) { unref(f); }

/* --- open, drain, close --------------------------------------------------------------------------------------- */

static void open_timer(void *arg) {
  neap__fetcher *fr = arg;
  fr->timer->data = fr;
  uv_timer_init(neap__loop_uv(fr->config.loop), fr->timer);
  uv_timer_start(fr->timer, check_deadlines, 100, 100);
}

static void timer_closed(uv_handle_t *handle) { free(handle); }

static void close_timer(void *arg) { uv_close((uv_handle_t *)((neap__fetcher *)arg)->timer, timer_closed); }

int neap__fetcher_open(const neap__fetcher_config *config, neap__fetcher **out) {
  neap__fetcher *fr = calloc(1, sizeof *fr);
  if (!fr) return NEAP_ENOMEM;
  fr->config = *config;
  fr->waiting_tail = &fr->waiting;
  neap__loads_config loads = {
      .l1 = config->l1, .evictor = config->evictor, .tiers = config->tiers, .fate = config->fate};
  int rc = neap__loads_open(&loads, &fr->loads);
  fr->timer = malloc(sizeof *fr->timer);
  if (rc || !fr->timer) {
    neap__loads_close(fr->loads);
    free(fr->timer);
    free(fr);
    return NEAP_ENOMEM;
  }
  pthread_mutex_init(&fr->spare_lock, NULL);
  neap__loop_call(config->loop, open_timer, fr);
  *out = fr;
  return 0;
}

/* A fetch whose lookups are not all back would load from a tier that may be closed by then. Loads under way only
 * report to the tier they run in. */
static void drain(void *arg) {
  neap__fetcher *fr = arg;
  atomic_store(&fr->drained, true);
  while (fr->waiting) give_up_waiting(fr);
  for (neap__fetch *f = fr->in_flight, *next; f; f = next) {
    next = f->next;
    if (f->phase != PHASE_LOOKUP) continue;
    forget_tiers(f, NO_TIER);
    conclude(f);
  }
}

void neap__fetcher_forget(neap__fetcher *fr, uint32_t tier) {
  for (neap__fetch *f = fr->in_flight; f; f = f->next)
    if (f->phase == PHASE_LOOKUP) forget_tiers(f, tier);
}

void neap__fetcher_drain(neap__fetcher *fr) { neap__loop_call(fr->config.loop, drain, fr); }

void neap__fetcher_close(neap__fetcher *fr) {
  if (!fr) return;
  neap__loop_call(fr->config.loop, close_timer, fr);
  while (fr->spares) {
    neap__fetch *f = fr->spares;
    fr->spares = f->next;
    free(f);
  }
  neap__loads_close(fr->loads);
  pthread_mutex_destroy(&fr->spare_lock);
  free(fr);
}

void neap__fetcher_stats_get(neap__fetcher *fr, neap__fetcher_stats *out) {
  neap__loads_stats loads;
  neap__loads_stats_get(fr->loads, &loads);
  *out = (neap__fetcher_stats){.lookups = atomic_load(&fr->lookups),
                               .chunks_requested = atomic_load(&fr->chunks_requested),
                               .chunks_hit = atomic_load(&fr->chunks_hit),
                               .l1_objects_hit = atomic_load(&fr->l1_hit),
                               .l2_objects_hit = atomic_load(&fr->l2_hit),
                               .l2_lookups = atomic_load(&fr->l2_lookups),
                               .l2_lookup_objects = atomic_load(&fr->l2_lookup_objects),
                               .loads = loads.tasks,
                               .load_objects = loads.objects,
                               .loaded_objects = loads.loaded,
                               .failed_l1_oom = loads.out_of_room,
                               .failed_not_found = loads.not_found,
                               .failed_deadline = atomic_load(&fr->late),
                               .recomputed_chunks = atomic_load(&fr->recomputed),
                               .in_flight = atomic_load(&fr->in_flight_count),
                               .waiting = atomic_load(&fr->waiting_count),
                               .lookup_phase = atomic_load(&fr->phases[PHASE_LOOKUP]),
                               .load_phase = atomic_load(&fr->phases[PHASE_LOAD])};
}
