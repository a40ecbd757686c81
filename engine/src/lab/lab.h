/* SPDX-License-Identifier: MIT
 *
 * lab/lab.h - the policy lab on a running server: what is asked for is recorded, candidates see the same traffic as
 * the live policy and are compared with it, and the live policy is changed and, should it do badly, changed back.
 *
 *   wire thread --ring--> lab thread --+-- recorder
 *                                      +-- rings --> up to four shadows, and a reference while a switch is on trial
 *
 * The lab sees requests when they end, as chunks that were found or stored. It is never waited for: a ring that is full
 * loses requests, and says how many. Not here: what the policy of L1 is told (policy/stream.h); HTTP (serve/). */
#pragma once
#include "lab/fate.h"
#include "lab/shadow.h"
#include "policy/stream.h"

typedef struct neap__lab neap__lab;

#define NEAP_SHADOWS_MAX 4u
#define NEAP_SWITCHES_KEPT 16u

/* A policy as the live engine works with it: what comes from a file runs on a thread of its own, within a budget
 * (policy/remote.h); built-ins are called directly. */
typedef struct neap__lab_policy {
  neap__policy_spec spec;
  char place[256];   /* FILE:LINE of its hook for victims, "" if not known */
  int64_t loaded_ns; /* just before its file was read, by the time of day */
} neap__lab_policy;

/* "FILE:LINE" of a policy's hook, or NULL. */
typedef const char *(*neap__lab_place)(const neap_policy *policy, const char *hook);

/* The errors of neap__policy_find. place may be NULL. Any thread. */
int neap__lab_find(const char *spec, neap__lab_place place, neap__lab_policy *out, neap_error *err);

typedef struct neap__lab_config {
  neap__stream *stream;
  neap__fate *fate;
  neap__lab_policy policy; /* that the stream was opened with */
  uint64_t l1_bytes;       /* what L1 keeps before eviction begins */
  uint32_t window;         /* requests of a sliding window; 0: 4096 */
  uint64_t record_bytes;   /* bound of the recording; 0: nothing is recorded */
  uint32_t chunk_tokens;   /* said in the recording */
  uint32_t ring_words;     /* 0: 1 Mi */
  neap__lab_place place;   /* may be NULL */
} neap__lab_config;

/* Starts its thread. 0, NEAP_ENOMEM. What config points to is borrowed until close. */
int neap__lab_open(const neap__lab_config *config, neap__lab **out, neap_error *err);
void neap__lab_close(neap__lab *lab); /* nobody is inside; the stream is still open */

/* One request that ended. */
typedef struct neap__lab_request {
  uint64_t session;  /* hash of its name, 0: the client named none */
  const char *model; /* lives as long as the lab */
  uint32_t tenant;
  uint32_t asked, found, found_l1; /* chunks; asked is 0: it was never looked up */
  uint64_t chunk_bytes;            /* all ranks together */
  const uint8_t (*hashes)[NEAP_HASH_BYTES];
  uint32_t chunks; /* hashes: what was found or stored, from the first one on */
} neap__lab_request;
/* Never waits. One thread at a time (the wire thread). */
void neap__lab_tell(neap__lab *lab, const neap__lab_request *request);

/* --- the rest: any thread; changes wait for each other ---------------------------------------------------------- */

/* Adds a shadow; warm: it begins with the recorded traffic. NEAP_ELIMIT (there are four), NEAP_EEXIST (same spec), or
 * the errors of neap__policy_find and neap__shadow_open. */
int neap__lab_shadow_add(neap__lab *lab, const char *spec, bool warm, neap_error *err);
/* spec as it was given to add, or its number in the list from 0. NEAP_ENOENT with the nearest one. */
int neap__lab_shadow_remove(neap__lab *lab, const char *spec, neap_error *err);
/* The shadow's file again. NEAP_ENOENT, or the errors of add; then the old one goes on. */
int neap__lab_shadow_reload(neap__lab *lab, const char *spec, neap_error *err);

/* How long a new policy is on trial. Meanwhile the one before runs as a shadow, the reference; if the new one fails, or
 * L1's prefix hit ratio over a full window is more than `bound` below what the reference would have had, the one before
 * is put back. */
typedef struct neap__lab_trial {
  double seconds; /* 0: none */
  double bound;   /* 0 .. 1 */
  bool warm;      /* the reference begins with the recorded traffic */
} neap__lab_trial;
#define NEAP_TRIAL_DEFAULT ((neap__lab_trial){.seconds = 600, .bound = 0.05, .warm = true})

/* Changes the live policy: the residents are told in the order of recency, no object is lost. The errors of
 * neap__policy_find and neap__stream_switch; then nothing has changed. */
int neap__lab_switch(neap__lab *lab, const char *spec, const neap__lab_trial *trial, neap_error *err);
/* The live policy's file again, or a built-in anew; also what comes after a policy was put out. */
int neap__lab_reload(neap__lab *lab, const neap__lab_trial *trial, neap_error *err);

/* Writes the recording to a file, which appears whole or not at all (trace/record.h). NEAP_ENOTSUP (nothing is
 * recorded), NEAP_EIO, NEAP_ENOSPC, NEAP_ENOMEM. */
int neap__lab_record_save(neap__lab *lab, const char *path, neap_error *err);
/* The same into a file without a name, in TMPDIR; *fd is the caller's to close. */
int neap__lab_record_file(neap__lab *lab, int *fd, neap_error *err);

/* --- looking ---------------------------------------------------------------------------------------------------- */

typedef struct neap__lab_change {
  int64_t unix_s;
  char from[256], to[256];
  const char *how;     /* "switch", "reload", "roll-back" */
  const char *outcome; /* "on trial", "kept", "rolled back", "superseded", "settled" (without a trial) */
  neap_error why;      /* of a roll-back */
} neap__lab_change;

typedef struct neap__lab_record_stats {
  bool on;
  uint64_t requests, bytes, bytes_max; /* held */
  uint64_t forgotten, lost;            /* requests: made way for later ones, could not be recorded */
  uint64_t references, repeated;       /* in all; repeated: chunks that were known */
} neap__lab_record_stats;

typedef struct neap__lab_status {
  char policy[256], place[256]; /* as it was written; FILE:LINE of its hook for victims */
  neap__stream_stats stream;
  neap__tally total, window; /* of the live engine: prefix and hits are 0 */
  uint64_t requests, dropped, waiting;
  uint64_t l1_bytes;
  uint32_t chunk_kib, window_requests;
  neap__lab_record_stats record;
  uint32_t shadow_count;
  neap__shadow_stats shadows[NEAP_SHADOWS_MAX];
  bool on_trial;
  double trial_left_s, trial_bound;
  neap__shadow_stats reference; /* while on trial */
  uint32_t change_count;
  neap__lab_change changes[NEAP_SWITCHES_KEPT]; /* the last one first */
} neap__lab_status;
void neap__lab_status_get(neap__lab *lab, neap__lab_status *out);

/* A file that the live policy or a shadow comes from. */
typedef struct neap__lab_file {
  const char *path, *spec;
  bool live;
  int64_t loaded_ns; /* just before it was read, by the time of day */
} neap__lab_file;
/* For whoever watches them. Stops when visit returns false. */
void neap__lab_files(neap__lab *lab, bool (*visit)(void *ctx, const neap__lab_file *file), void *ctx);
