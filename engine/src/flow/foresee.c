/* SPDX-License-Identifier: MIT
 *
 * flow/foresee.c - see foresee.h. */
#include "flow/foresee.h"

#include <stdatomic.h>
#include <stdlib.h>

#define EVERY_MS 1000u
#define CHUNKS 64u    /* predicted at once */
#define ROWS 256u     /* ranks, layouts and tenants of one chunk */
#define L1_SHARE 0.02 /* of L1, loaded at once */

struct neap__foresight {
  neap__foresight_config config;
  uint64_t budget;   /* bytes */
  uv_timer_t *timer; /* freed by its close callback */
  _Atomic uint64_t predicted, unknown, fetched;
};

/* One object by itself: what is left of one rank or tenant in the tiers must not decide for the others. */
static bool load_row(neap__foresight *fs, const neap__key *key, const uint64_t *bytes) {
  const neap__fetch_request request = {.chunks = 1,
                                       .rows = 1,
                                       .keys = key,
                                       .row_bytes = bytes,
                                       .owner = {.kind = NEAP_OWNER_LOCAL},
                                       .readers = 1,
                                       .warm = true,
                                       .name = "predicted"};
  neap__fetch *fetch;
  if (neap__fetch_start(fs->config.fetcher, &request, &fetch) != 0) return false;
  neap__fetch_end(fetch); /* it goes on without us */
  return true;
}

/* Starts to load a chunk, if it is known and cheaper than what is left of the budget. */
static void load(neap__foresight *fs, const neap_hint *hint, uint64_t *left) {
  neap__key keys[ROWS];
  uint64_t row_bytes[ROWS], bytes = 0;
  neap__names *names = neap__l1_names(fs->config.l1);
  uint32_t rows = neap__known_find(fs->config.known, hint->h1, hint->h2, keys, ROWS), started = 0;
  for (uint32_t i = 0; i < rows; i++) bytes += row_bytes[i] = neap__names_layout(names, keys[i].space)->bytes;
  if (rows == 0) atomic_fetch_add(&fs->unknown, 1);
  if (rows == 0 || bytes > *left) return;
  for (uint32_t i = 0; i < rows; i++) started += load_row(fs, &keys[i], &row_bytes[i]);
  *left -= bytes;
  atomic_fetch_add(&fs->fetched, started != 0);
}

static void foresee(neap__foresight *fs) {
  neap_hint hints[CHUNKS];
  neap__fetcher_stats fetches;
  neap__fetcher_stats_get(fs->config.fetcher, &fetches);
  if (fetches.in_flight || fetches.waiting) return;
  uint32_t count = neap__stream_predict(fs->config.stream, hints, CHUNKS);
  uint64_t left = fs->budget;
  atomic_fetch_add(&fs->predicted, count);
  for (uint32_t i = 0; i < count; i++) load(fs, &hints[i], &left);
}

static void on_second(uv_timer_t *timer) {
  neap__foresight *fs = timer->data;
  neap__l1_tell_tick(fs->config.l1);
  if (neap__stream_wants(fs->config.stream) & NEAP__HAS_PREDICT) foresee(fs);
}

static void open_timer(void *arg) {
  neap__foresight *fs = arg;
  fs->timer->data = fs;
  uv_timer_init(neap__loop_uv(fs->config.loop), fs->timer);
  uv_timer_start(fs->timer, on_second, EVERY_MS, EVERY_MS);
}

static void timer_closed(uv_handle_t *handle) { free(handle); }

static void close_timer(void *arg) { uv_close((uv_handle_t *)((neap__foresight *)arg)->timer, timer_closed); }

int neap__foresight_open(const neap__foresight_config *config, neap__foresight **out) {
  neap__foresight *fs = calloc(1, sizeof(*fs));
  uv_timer_t *timer = malloc(sizeof(*timer));
  if (!fs || !timer) {
    free(fs);
    free(timer);
    return NEAP_ENOMEM;
  }
  neap_memory memory;
  neap__l1_memory(config->l1, &memory);
  fs->config = *config;
  fs->budget = (uint64_t)(L1_SHARE * (double)memory.bytes);
  fs->timer = timer;
  neap__loop_call(config->loop, open_timer, fs);
  *out = fs;
  return 0;
}

void neap__foresight_close(neap__foresight *fs) {
  if (!fs) return;
  neap__loop_call(fs->config.loop, close_timer, fs);
  free(fs);
}

void neap__foresight_stats_get(neap__foresight *fs, neap__foresight_stats *out) {
  *out = (neap__foresight_stats){.predicted = atomic_load(&fs->predicted),
                                 .unknown = atomic_load(&fs->unknown),
                                 .fetched = atomic_load(&fs->fetched)};
}
