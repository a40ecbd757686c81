/* SPDX-License-Identifier: MIT
 *
 * serve/metrics.h - the counters of every layer, read at one moment, and their Prometheus text. */
#pragma once
#include <stdio.h>

#include "serve/server.h"

typedef struct neap__snapshot {
  neap__l1_stats l1;
  neap__evictor_stats evictor;
  neap__storer_stats storer;
  neap__fetcher_stats fetcher;
  neap__foresight_stats foresight;
  neap__server_stats server;
  neap__lab_status lab;
  neap__fate_stats fate;
  uint32_t tier_count, draining; /* draining: how many of them */
  struct {
    uint32_t index;
    bool draining;
    char name[NEAP_TIER_NAME_BYTES]; /* the configured type */
    neap__tier_stats stats;
    const char *status_json; /* of the adapter, or NULL; the caller's */
  } tiers[NEAP_TIERS_MAX];
} neap__snapshot;

/* Any thread. The layers are read one after the other, so sums over layers may be off by what happened meanwhile. */
void neap__snapshot_take(neap__engine *engine, neap__server *server, neap__snapshot *out);

/* Prints the text format of Prometheus 0.0.4. */
void neap__metrics_print(FILE *out, const neap__snapshot *now, const char *instance_id);
