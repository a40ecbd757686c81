/* SPDX-License-Identifier: MIT
 *
 * support/flow_rig.h - a whole engine over scripted stores, to test the three journeys: which store has what, answers
 * when and how wrongly is the test's to say. One rig at a time. An object is a number and a row (rank); its bytes
 * follow from both, so that what was loaded can be checked. Helpers assert, so they are for the test's thread only. */
#pragma once
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine.h"

#define FLOW_BYTES 1024u /* of an object, unless a test says otherwise */
#define FLOW_STORES 3u
#define FLOW_ROWS 4u
#define FLOW_CELLS 4096u /* number * FLOW_ROWS + row */
#define FLOW_HELD_MAX 256u
#define FLOW_KINDS 3u /* STORE, LOOKUP, LOAD */

typedef struct flow_store {
  pthread_mutex_t lock;
  pthread_cond_t change;
  const neap_host *host;
  bool hold[FLOW_KINDS];                  /* operations wait for flow_finish */
  bool twice;                             /* done is called once more */
  int forced[FLOW_KINDS][FLOW_CELLS];     /* this result instead of work */
  bool flip[FLOW_CELLS], cut[FLOW_CELLS]; /* loads: one wrong bit; half the object, as the store notices */
  uint8_t *data[FLOW_CELLS];
  uint64_t bytes[FLOW_CELLS];
  uint32_t stores[FLOW_CELLS], loads[FLOW_CELLS]; /* how often asked for */
  neap_op *held[FLOW_HELD_MAX];
  uint32_t held_count, calls[FLOW_KINDS], busy[FLOW_KINDS], busy_max[FLOW_KINDS], opened, closed;
  bool refuse_open;
  int nothing; /* result for keys that no test uses; 0: NEAP_ENOENT */
} flow_store;

extern flow_store flow_stores[FLOW_STORES];

typedef struct flow_rig {
  neap__engine_config config; /* preset by flow_setup, to be changed before flow_open */
  neap__engine *engine;
  neap__l1 *l1;
  uint32_t space, tenant;
} flow_rig;

/* Fixtures: scripts emptied, config preset; teardown closes an open engine and fails if anything is still held. */
int flow_setup(void **state);
int flow_teardown(void **state);
void flow_open(flow_rig *rig, uint32_t stores);
void flow_close(flow_rig *rig);         /* what teardown does, for tests that look at what is left */
const char *const *flow_adapters(void); /* the JSON texts of the stores, unless the test's config has others */

/* --- the stores ----------------------------------------------------------------------------------------------- */

void flow_put(uint32_t store, uint32_t n, uint32_t row); /* it was there before */
bool flow_has(uint32_t store, uint32_t n);
void flow_force(uint32_t store, neap_op_kind kind, uint32_t n, int result);
void flow_hold(uint32_t store, neap_op_kind kind, bool hold);
void flow_wait_held(uint32_t store, uint32_t count); /* counts since the rig was set up */
void flow_finish(uint32_t store, uint32_t i);        /* the i-th operation held */
void flow_finish_all(uint32_t store);                /* holds nothing any more */

/* --- L1 ------------------------------------------------------------------------------------------------------- */

neap__key flow_key(const flow_rig *rig, uint32_t n, uint32_t row);
int flow_reserve(flow_rig *rig, const neap__key *key, uint64_t bytes, neap__lease *lease); /* through the evictor */
int flow_commit_sized(flow_rig *rig, uint32_t n, uint32_t row, uint64_t bytes);
int flow_commit(flow_rig *rig, uint32_t n); /* row 0 */
void flow_offer(flow_rig *rig, uint32_t first, uint32_t count);
bool flow_resident(flow_rig *rig, uint32_t n);
neap__lease flow_lease(flow_rig *rig, uint32_t n);
neap__l1_stats flow_l1(flow_rig *rig);

/* --- fetches -------------------------------------------------------------------------------------------------- */

typedef struct flow_fetch {
  flow_rig *rig;
  neap__fetch *fetch; /* NULL once ended */
  uint32_t chunks, rows, first;
  sem_t done;
} flow_fetch;

flow_fetch *flow_ask_rows(flow_rig *rig, uint32_t first, uint32_t chunks, uint32_t rows, bool warm);
flow_fetch *flow_ask(flow_rig *rig, uint32_t first, uint32_t chunks);
bool flow_final(flow_fetch *f);      /* without waiting */
uint32_t flow_answer(flow_fetch *f); /* waits; asserts that the leases are those of the prefix, with the right bytes */
void flow_abandon(flow_fetch *f);    /* the caller's reference ends, whatever the state */
void flow_end(flow_fetch *f);        /* abandons, waits until final, frees */
uint32_t flow_hits(flow_rig *rig, uint32_t first, uint32_t chunks); /* ask, answer, end */

/* --- the whole ------------------------------------------------------------------------------------------------ */

void flow_settle(flow_rig *rig); /* nothing is queued or in flight any more, at most 30 s */
void flow_turn(flow_rig *rig);   /* the loop has run what was posted so far, and what that posted */
neap__fetcher_stats flow_fetches(flow_rig *rig);
neap__storer_stats flow_storing(flow_rig *rig);
