/* SPDX-License-Identifier: MIT
 *
 * lab/lab_defs.h - what lab.c (thread, traffic, shadows) and change.c (switch, trial, roll-back) share.
 *
 * Locks: `change_lock` is held through a whole change, which may load a file and wait for a thread; `lock` inside of it
 * and only for what it guards. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "lab/lab.h"
#include "lab/ring.h"
#include "lab/salt.h"
#include "trace/record.h"

typedef struct lab_trial {
  bool on;
  neap__lab_policy before;
  neap__lab_trial order;
  uint64_t until_ns;
} lab_trial;

struct neap__lab {
  neap__lab_config config;
  neap__ring *ring;
  neap__salt salt;
  pthread_t thread;
  atomic_bool stop;
  uint64_t opened_ns;
  neap__record *recording;      /* NULL: none is made */
  uint64_t began_us;            /* by the wall clock */
  _Atomic uint32_t tenant_high; /* the highest number recorded */
  pthread_mutex_t change_lock;
  pthread_mutex_t lock; /* all below, but the thread's */
  neap__shadow *shadows[NEAP_SHADOWS_MAX];
  uint32_t shadow_count;
  neap__shadow *reference; /* while on trial, if it could be opened */
  neap__lab_policy policy;
  lab_trial trial;
  neap__lab_change changes[NEAP_SWITCHES_KEPT]; /* the last one first */
  uint32_t change_count;
  neap__tally total;
  neap__window window;
  uint32_t chunk_kib;
  bool said_out; /* that the live policy is out */
  /* the thread's */
  neap__lab_record *record;
  uint32_t *units; /* [record_room], as record.chunk */
  uint32_t record_room;
};

/* change.c: looks at the live policy and at the trial. The lab thread, now and then. */
void neap__lab_watch(neap__lab *lab);
/* lab.c: a shadow for spec, warmed with the recorded traffic if there is any. Under change_lock. */
int neap__lab_open_shadow(neap__lab *lab, const neap__policy_spec *spec, int64_t loaded_ns, bool warm,
                          neap__shadow **out, neap_error *err);
int64_t neap__lab_time_of_day_ns(void);

/* recording.c */
int neap__lab_record_open(neap__lab *lab, neap_error *err);
void neap__lab_record_append(neap__lab *lab, const neap__lab_record *record, uint32_t chunks); /* lab thread */
/* What was recorded, the caller's to free; NULL: nothing is recorded, or it cannot be read (said in the log). */
neap__trace *neap__lab_record_trace(neap__lab *lab);
void neap__lab_record_stats_get(neap__lab *lab, neap__lab_record_stats *out);
