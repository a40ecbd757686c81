/* SPDX-License-Identifier: MIT
 *
 * kit/bench.h - how fast an adapter stores and loads, beside what the machine gives in the same run.
 *
 * Rounds: the limits, then stores of new keys, loads that are compared byte for byte outside the clock, loads within
 * it (checked at both ends of each object), deletes. Each round gives one rate per direction; the spread is theirs.
 * The calling thread submits; the adapter is opened with a host of its own (kit/host.h). */
#pragma once
#include "kit/case.h"

typedef struct neap__bench_load {
  uint64_t size;         /* of an object */
  uint32_t batch, depth; /* objects of an operation, operations at once */
  double seconds;        /* for the adapter, about */
} neap__bench_load;

/* Of all rounds. Rates in bytes per second. */
typedef struct neap__bench_figure {
  double median, least, most;
  double p50_us, p99_us; /* of one operation; 0 for a limit */
} neap__bench_figure;

typedef struct neap__bench_result {
  char name[128];
  const char *limit; /* "O_DIRECT", "loopback", "unix socket" or "memcpy": what the ratios are to */
  char limit_note[NEAP_ERROR_BYTES];
  uint32_t rounds, batch, depth;
  uint64_t objects, verified;
  neap__bench_figure store, load, memcpy_, limit_store, limit_load;
} neap__bench_result;

/* 0, or what went wrong: an error of the adapter, or bytes that are not those that were stored. progress may be NULL.
 */
int neap__bench(const neap__kit_options *options, const neap__bench_load *load, neap__bench_result *result,
                void (*progress)(void *ctx, const char *what, double done), void *ctx, neap_error *err);
