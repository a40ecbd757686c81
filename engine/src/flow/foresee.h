/* SPDX-License-Identifier: MIT
 *
 * flow/foresee.h - the journey up before anybody asks: what the policy predicts, loaded while nothing else is to be
 * loaded. Also the clock of policies: TICK.
 *
 * Once a second, on the loop thread. A prediction is one more fetch, warm and for nobody; together they are bounded by
 * a share of L1, and none begins while lookups use L2. */
#pragma once
#include "flow/fetch.h"

typedef struct neap__foresight neap__foresight;

typedef struct neap__foresight_config {
  neap__l1 *l1;
  neap__loop *loop;
  neap__stream *stream;
  neap__known *known;
  neap__fetcher *fetcher;
} neap__foresight_config;

int neap__foresight_open(const neap__foresight_config *config, neap__foresight **out);
/* Before the fetcher is drained. Not on the loop thread. */
void neap__foresight_close(neap__foresight *foresight);

typedef struct neap__foresight_stats {
  uint64_t predicted, unknown, fetched; /* chunks; unknown: not seen in any tier */
} neap__foresight_stats;
/* Any thread. */
void neap__foresight_stats_get(neap__foresight *foresight, neap__foresight_stats *out);
