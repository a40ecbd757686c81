/* SPDX-License-Identifier: MIT
 *
 * lab/shadow.h - one policy beside the live one: what it would have kept, of the same requests, in an L1 of the same
 * size.
 *
 * A shadow is a thread of low priority with a bounded ring of requests, a bounded lineage and a ghost cache. It touches
 * nothing that serves: one that is slow loses requests, which is counted; one whose policy fails ends itself; one that
 * does not come back is given up. Its policy is created, called and destroyed on its thread. Not here: what feeds it
 * (lab/lab.c). */
#pragma once
#include "lab/tally.h"
#include "policy/registry.h"
#include "trace/trace.h"

typedef struct neap__shadow neap__shadow;

/* A request as it travels: what it asked for and found, and the chunks that it used, head of the prompt first. */
typedef struct neap__lab_record {
  uint64_t session;
  uint64_t model;                  /* between serve/ and lab/ only: the address of its name */
  uint32_t tenant, time_ms;        /* since the lab was opened */
  uint32_t asked, found, found_l1; /* asked is 0: there was no lookup */
  uint32_t kib;                    /* of one chunk, all ranks together */
  uint64_t chunk[];
} neap__lab_record;
#define NEAP__RECORD_WORDS ((uint32_t)(sizeof(neap__lab_record) / sizeof(uint64_t)))

typedef struct neap__shadow_config {
  neap__policy_spec spec;
  uint64_t capacity_kib;
  uint32_t window;     /* requests */
  uint32_t stuck_ms;   /* that a request may take; 0: 5000 */
  uint32_t ring_words; /* 0: 256 Ki */
  uint64_t epoch_ns;   /* when time_ms was 0 */
  int64_t loaded_ns;   /* just before the policy's file was read, by the time of day; for the owner */
  uint32_t chunk_kib;  /* of the traffic so far, 0 if there was none */
  neap__trace *warm;   /* traffic to begin with, not counted; the shadow's from now on. May be NULL */
} neap__shadow_config;

/* Starts the thread and waits until the policy could be created: 0, NEAP_ENOMEM, NEAP_ETIMEDOUT (5 s), or the policy's
 * own error. */
int neap__shadow_open(const neap__shadow_config *config, neap__shadow **out, neap_error *err);
/* Waits a second for the thread, then leaves it to itself. */
void neap__shadow_close(neap__shadow *shadow);

/* One thread at a time. A full ring drops the request. */
void neap__shadow_use(neap__shadow *shadow, const neap__lab_record *request, uint32_t chunks);
/* Looks whether the policy came back in time. Now and then, by whoever feeds it. */
void neap__shadow_check(neap__shadow *shadow);

typedef enum neap__shadow_state {
  NEAP__SHADOW_WARMING = 1, /* replays traffic of before */
  NEAP__SHADOW_RUNNING = 2,
  NEAP__SHADOW_FAILED = 3, /* its policy is out */
  NEAP__SHADOW_STUCK = 4,  /* its policy did not come back */
} neap__shadow_state;
const char *neap__shadow_state_name(neap__shadow_state state);

typedef struct neap__shadow_stats {
  char spec[256];
  neap__shadow_state state;
  neap_error why; /* of FAILED and STUCK */
  neap__tally total, window;
  uint64_t dropped, waiting; /* requests */
  uint32_t lag_ms;           /* between the end of a request and its being used here, last */
  uint64_t cpu_ns, opened_ns;
  uint64_t capacity_kib, used_kib;
  uint64_t evictions, orphan_evictions;
  uint64_t forgotten; /* chunks whose number was needed for another */
  uint32_t residents;
  bool full; /* it has evicted: what it predicts is not the hit ratio of a cache that fills */
} neap__shadow_stats;
void neap__shadow_stats_get(neap__shadow *shadow, neap__shadow_stats *out); /* any thread */
const neap__policy_spec *neap__shadow_spec(const neap__shadow *shadow);
int64_t neap__shadow_loaded_ns(const neap__shadow *shadow);
