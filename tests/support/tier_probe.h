/* SPDX-License-Identifier: MIT
 *
 * support/tier_probe.h - a tier over a scripted store: a store that answers at once, twice, when told or wrongly, and
 * the loop, pool and names that a tier needs. One probe at a time; objects are numbers, odd ones of tenant "tenant". */
#pragma once
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "chunk/names.h"
#include "l2/tier.h"

#define PROBE_BYTES 1000u /* of each object */
#define PROBE_KEYS 4096u
#define PROBE_HELD_MAX 256u
#define PROBE_RANK 0x01000100u

typedef enum probe_answer { AT_ONCE, TWICE, LATER } probe_answer; /* LATER: when the test says so */

typedef struct probe_state {
  const neap_host *host;
  pthread_mutex_t lock;
  pthread_cond_t change;
  probe_answer answers[5];   /* by kind */
  uint32_t later_from;       /* LATER is for operations whose first object has this number or a higher one */
  int forced;                /* result of every object, 1 = do the work */
  bool flip;                 /* loads return one wrong bit */
  uint8_t fails[PROBE_KEYS]; /* so often NEAP_EIO instead of work */
  uint32_t ops[5], longest;  /* operations by kind; most objects in one */
  uint8_t *data[PROBE_KEYS];
  int64_t used_s[PROBE_KEYS];
  neap_op *held[PROBE_HELD_MAX];
  uint32_t held_count, removed[PROBE_KEYS], removed_count, removes, cancels, calls, closed;
} probe_state;

extern probe_state probe_script;
extern neap_adapter probe_table; /* as opened; a test may take functions away before */

void probe_answers(neap_op_kind kind, probe_answer how);
void probe_force(int result);
void probe_wait_held(uint32_t count);
void probe_wait_cancels(uint32_t count);
void probe_wait_ops(neap_op_kind kind, uint32_t count);
uint32_t probe_ops(neap_op_kind kind);
void probe_call(void *self, neap_op *op); /* any of the five operations */
void probe_finish(neap_op *op);           /* does the work of op and ends it */
void probe_finish_held(uint32_t i);       /* the i-th held operation */

typedef struct probe_engine {
  neap__loop *loop;
  neap__pool *pool;
  neap__names *names;
  void *names_memory;
  neap__tier_config config;
  neap__tier *tier;
  uint32_t space, tenant;
} probe_engine;

typedef struct probe_request {
  probe_engine *e;
  neap__task *task;
  uint64_t deadline_ms;
  uint32_t count;
  uint8_t *data;
  int submitted, results[64];
  uint32_t dones, releases;
  bool inside, changed; /* done came inside submit; a result changed after done */
  sem_t done, released;
} probe_request;

/* Fixtures: without and with an opened tier. Teardown fails if the adapter was not closed. */
int probe_setup(void **state);
int probe_setup_open(void **state);
int probe_teardown(void **state);
void probe_open_tier(probe_engine *e);
void probe_open_bounded(probe_engine *e, const char *policy); /* capacity for ten objects */

/* Submits an operation on objects first, first + 1, ... without waiting. The caller frees it when released. */
probe_request *probe_post(probe_engine *e, neap_op_kind kind, uint32_t first, uint32_t count, uint64_t deadline_ms);
probe_request *probe_post_sized(probe_engine *e, neap_op_kind kind, uint32_t first, uint32_t count, uint64_t bytes,
                                uint64_t deadline_ms);
void probe_wait(sem_t *sem);
void probe_request_free(probe_request *r);

/* Submits, waits, checks that it ended once and what was loaded; the first object's result. */
int probe_run(probe_engine *e, neap_op_kind kind, uint32_t first, uint32_t count);
int probe_store(probe_engine *e, uint32_t n);
int probe_load(probe_engine *e, uint32_t n);
int probe_lookup(probe_engine *e, uint32_t n);
neap__key probe_key(probe_engine *e, uint32_t n); /* of object n */
void probe_lock(probe_engine *e, uint32_t n, bool lock);

neap__tier_stats probe_stats(probe_engine *e);
/* Lets the loop run what was posted so far and what that posts: a remove that follows a store, its completion. */
void probe_drain(probe_engine *e);
void probe_nothing(void *arg);
