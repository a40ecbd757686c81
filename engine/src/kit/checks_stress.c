/* SPDX-License-Identifier: MIT
 *
 * kit/checks_stress.c - many operations at once: races for one key, threads against a model, cancel, deadlines, and a
 * look back some time after everything has ended. */
#include <time.h>

#include "kit/checks.h"

#define THREADS 4u
#define RACERS 8u
#define RACES 12u
#define RACE_BYTES 40000u
#define STEPS 150u
#define OWN_KEYS 6u
#define SHARED_KEYS 8u
#define CANCELED 30u
#define LATE_MS 300

/* --- one key, several writers ------------------------------------------------------------------------------------- */

typedef struct racer {
  neap__kit *kit;
  neap__kit_call *call;
  pthread_barrier_t *start;
} racer;

static void *race(void *arg) {
  racer *r = arg;
  pthread_barrier_wait(r->start);
  neap__kit_submit(r->kit, r->call);
  return NULL;
}

/* The object is that of one racer, from its first byte to its last. */
static void load_of_race(neap__kit *kit, neap_object_key key) {
  neap__kit_call *load = neap__kit_call_new(kit, NEAP_OP_LOAD, 1);
  uint64_t at = 0;
  neap__kit_put(kit, load, 0, key, RACE_BYTES, 0);
  neap__kit_run(kit, load);
  neap__kit_expect(kit, load->op->objects[0].result, 0, "the load of what the winner of a race stored");
  for (uint32_t i = 0; i < RACERS; i++)
    if (neap__fence_filled(load->fences[0], i, &at)) return;
  neap__kit_fail(kit, "after eight stores of one key at the same time, the object is none of the eight, but a mixture");
}

/* One race; the content i belongs to racer i. */
static void run_race(neap__kit *kit) {
  pthread_t threads[RACERS];
  racer racers[RACERS];
  pthread_barrier_t start;
  neap_object_key key = neap__kit_key(kit);
  pthread_barrier_init(&start, NULL, RACERS);
  for (uint32_t i = 0; i < RACERS; i++) {
    racers[i] = (racer){kit, neap__kit_call_new(kit, NEAP_OP_STORE, 1), &start};
    neap__kit_put(kit, racers[i].call, 0, key, RACE_BYTES, i);
    if (pthread_create(&threads[i], NULL, race, &racers[i]) != 0) neap__kit_fail(kit, "the check has no thread");
  }
  uint32_t winners = 0;
  for (uint32_t i = 0; i < RACERS; i++) {
    pthread_join(threads[i], NULL);
    neap__kit_wait(kit, racers[i].call);
    const neap_object *object = &racers[i].call->op->objects[0];
    neap__kit_expect(kit, object->result, 0, "one of eight stores of a key at the same time");
    winners += object->stored_bytes > 0;
  }
  pthread_barrier_destroy(&start);
  NEAP_KIT_NEED(kit, winners > 0,
                "of eight stores of one key at the same time, none says in stored_bytes that it added it");
  /* The engine itself sends one store of a key at a time; servers that several engines share may count a race twice. */
  if (winners > 1) neap__kit_note(kit, "%u of %u say that they stored", winners, RACERS);
  load_of_race(kit, key);
}

void neap__check_race(neap__kit *kit) {
  neap__kit_open(kit);
  for (uint32_t i = 0; i < RACES; i++) run_race(kit);
}

/* --- threads against a model -------------------------------------------------------------------------------------- */

typedef struct actor {
  neap__kit *kit;
  uint64_t random;
  const neap_object_key *shared; /* stored and deleted by everybody; the content of each is always the same */
  neap_object_key own[OWN_KEYS];
  bool there[OWN_KEYS];
} actor;

/* Marsaglia, "Xorshift RNGs", 2003. */
static uint32_t pick(actor *a, uint32_t below) {
  a->random ^= a->random << 13;
  a->random ^= a->random >> 7;
  a->random ^= a->random << 17;
  return (uint32_t)(a->random >> 33) % below;
}

static uint64_t bytes_of(uint32_t i) { return 1 + i * 7919u; }

static void act_alone(actor *a) {
  neap__kit *kit = a->kit;
  uint32_t i = pick(a, OWN_KEYS);
  int want = a->there[i] ? 0 : NEAP_ENOENT;
  switch (pick(a, kit->table->remove ? 4 : 3)) {
    case 0:
      neap__kit_expect(kit, neap__kit_store(kit, a->own[i], bytes_of(i), i), 0, "a store, with other threads at work,");
      a->there[i] = true;
      break;
    case 1:
      neap__kit_expect(kit, neap__kit_lookup(kit, a->own[i], 0), want, "a lookup of a key that no other thread uses");
      break;
    case 2:
      neap__kit_expect(kit, neap__kit_loaded(kit, a->own[i], bytes_of(i), i), want,
                       "a load of a key that no other thread uses");
      break;
    default:
      neap__kit_expect(kit, neap__kit_remove(kit, a->own[i]), want, "a delete of a key that no other thread uses");
      a->there[i] = false;
  }
}

/* Others store and delete the same keys, so both answers are right; wrong bytes are not. */
static void act_together(actor *a) {
  neap__kit *kit = a->kit;
  static const char *const what[] = {"a store", "a lookup", "a load", "a delete"};
  uint32_t i = pick(a, SHARED_KEYS), kind = pick(a, kit->table->remove ? 4 : 3);
  int got = kind == 0   ? neap__kit_store(kit, a->shared[i], bytes_of(i), i)
            : kind == 1 ? neap__kit_lookup(kit, a->shared[i], 0)
            : kind == 2 ? neap__kit_loaded(kit, a->shared[i], bytes_of(i), i)
                        : neap__kit_remove(kit, a->shared[i]);
  NEAP_KIT_NEED(kit, got == 0 || (kind != 0 && got == NEAP_ENOENT),
                "%s of a key that several threads use ended with %s", what[kind], neap_err_name(got));
}

static void *act(void *arg) {
  actor *a = arg;
  for (uint32_t step = 0; step < STEPS; step++) {
    if (pick(a, 2))
      act_alone(a);
    else
      act_together(a);
  }
  return NULL;
}

void neap__check_threads(neap__kit *kit) {
  pthread_t threads[THREADS];
  actor actors[THREADS];
  neap_object_key shared[SHARED_KEYS];
  neap__kit_open(kit);
  for (uint32_t i = 0; i < SHARED_KEYS; i++) shared[i] = neap__kit_key(kit);
  for (uint32_t t = 0; t < THREADS; t++) {
    actors[t] = (actor){.kit = kit, .random = kit->options->run | (2 * t + 1), .shared = shared};
    for (uint32_t i = 0; i < OWN_KEYS; i++) actors[t].own[i] = neap__kit_key(kit);
    if (pthread_create(&threads[t], NULL, act, &actors[t]) != 0) neap__kit_fail(kit, "the check has no thread");
  }
  for (uint32_t t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
}

/* --- cancel, deadline ----------------------------------------------------------------------------------------------
 */

/* What a store that ended so left behind: all of it, or nothing. After a deadline or a cancel nobody can know whether a
 * server took it all the same; half of it is what must not be there. */
static void look_after_store(neap__kit *kit, const neap__kit_call *store, uint64_t fill, const char *what) {
  const neap_object *object = &store->op->objects[0];
  int looked = neap__kit_lookup(kit, object->key, 0), want = object->result == 0 ? 0 : NEAP_ENOENT;
  int loaded = neap__kit_loaded(kit, object->key, object->bytes, fill);
  bool unknown = object->result == NEAP_ETIMEDOUT || object->result == NEAP_ECANCELED;
  bool whole = loaded == 0 && (looked == 0 || looked == NEAP_ENOENT); /* it may have come between the two questions */
  NEAP_KIT_NEED(kit, (looked == want && loaded == want) || (unknown && whole),
                "%s ended with %s, then its lookup with %s and its load with %s; expected the whole object or none",
                what, neap_err_name(object->result), neap_err_name(looked), neap_err_name(loaded));
}

static void cancel(neap__kit *kit, neap__kit_call *call) {
  if (kit->table->cancel) kit->table->cancel(kit->self, &call->op->op);
}

void neap__check_cancel(neap__kit *kit) {
  neap__kit_call *stores[CANCELED], *loads[CANCELED];
  neap__kit_load(kit);
  if (!kit->table->cancel) neap__kit_skip(kit, "the adapter has no cancel");
  neap__kit_open(kit);
  for (uint32_t i = 0; i < CANCELED; i++) {
    stores[i] = neap__kit_call_new(kit, NEAP_OP_STORE, 1);
    neap__kit_put(kit, stores[i], 0, neap__kit_key(kit), 100000 + i, i);
    neap__kit_submit(kit, stores[i]);
    if (i % 3) cancel(kit, stores[i]);
  }
  for (uint32_t i = 0; i < CANCELED; i++) {
    neap__kit_wait(kit, stores[i]);
    int got = stores[i]->op->objects[0].result;
    NEAP_KIT_NEED(kit, got == 0 || (i % 3 && got == NEAP_ECANCELED), "a store that was%s canceled ended with %s",
                  i % 3 ? "" : " not", neap_err_name(got));
    look_after_store(kit, stores[i], i, i % 3 ? "a canceled store" : "a store");
  }
  for (uint32_t i = 0; i < CANCELED; i++) {
    loads[i] = neap__kit_call_new(kit, NEAP_OP_LOAD, 1);
    neap__kit_put(kit, loads[i], 0, stores[i]->op->objects[0].key, 100000 + i, 0);
    neap__kit_submit(kit, loads[i]);
    cancel(kit, loads[i]);
    cancel(kit, loads[i]); /* twice is once */
  }
  for (uint32_t i = 0; i < CANCELED; i++) {
    neap__kit_wait(kit, loads[i]);
    int got = loads[i]->op->objects[0].result;
    NEAP_KIT_NEED(kit, got == 0 || got == NEAP_ECANCELED || got == NEAP_ENOENT, "a canceled load ended with %s",
                  neap_err_name(got));
    if (got == 0) neap__kit_same(kit, loads[i], 0, i);
  }
}

void neap__check_deadline(neap__kit *kit) {
  uint32_t late = 0;
  neap__kit_open(kit);
  for (uint32_t i = 0; i < 12; i++) {
    neap_object_key key = neap__kit_key(kit);
    neap__kit_call *store = neap__kit_call_new(kit, NEAP_OP_STORE, 1), *load = neap__kit_call_new(kit, NEAP_OP_LOAD, 1);
    neap__kit_put(kit, store, 0, key, 200000, i);
    neap__kit_put(kit, load, 0, key, 200000, i);
    uint64_t now = neap__now_ns();
    store->op->op.deadline_ns = i % 2 ? now - 1000000000u : now + 200000u;
    load->op->op.deadline_ns = store->op->op.deadline_ns;
    neap__kit_run(kit, store);
    int got = store->op->objects[0].result;
    NEAP_KIT_NEED(kit, got == 0 || got == NEAP_ETIMEDOUT || got == NEAP_ECANCELED,
                  "a store whose deadline has passed ended with %s; expected NEAP_OK or NEAP_ETIMEDOUT",
                  neap_err_name(got));
    look_after_store(kit, store, i, "a store whose deadline has passed");
    neap__kit_run(kit, load);
    int loaded = load->op->objects[0].result;
    bool known =
        loaded == 0 || (got != 0 && loaded == NEAP_ENOENT) || loaded == NEAP_ETIMEDOUT || loaded == NEAP_ECANCELED;
    NEAP_KIT_NEED(kit, known, "a load whose deadline has passed ended with %s", neap_err_name(loaded));
    if (loaded == 0) neap__kit_same(kit, load, 0, i);
    late += got != 0 || loaded != 0;
  }
  neap__kit_note(kit, "%s", late ? "it gives up" : "it goes on regardless");
}

/* --- some time later ---------------------------------------------------------------------------------------------- */

void neap__check_once(neap__kit *kit) {
  neap_object_key key;
  neap__kit_open(kit);
  for (uint64_t i = 0; i < 8; i++) {
    key = neap__kit_key(kit);
    neap__kit_expect(kit, neap__kit_store(kit, key, 9000, i), 0, "a store");
    neap__kit_expect(kit, neap__kit_loaded(kit, key, 9000, i), 0, "a load");
    (void)neap__kit_loaded(kit, key, 9001, i);
    (void)neap__kit_loaded(kit, neap__kit_key(kit), 9000, i);
  }
  neap__kit_step(kit, "all operations had ended and %d ms passed", LATE_MS);
  nanosleep(&(struct timespec){.tv_nsec = LATE_MS * 1000000L}, NULL); /* what comes late has to have the time */
} /* neap__kit_close looks back */
