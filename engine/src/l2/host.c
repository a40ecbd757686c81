/* SPDX-License-Identifier: MIT
 *
 * l2/host.c - the services that an adapter may call, from any thread.
 *
 * They stay callable for an adapter that was left open by a close that ran out of patience: such calls do nothing,
 * for the loop and the pool may be gone by then. */
#include <string.h>

#include "l2/inner.h"
#include "l2/tier_defs.h"

/* The flight of an operation that the adapter has, told by its address alone: a stale one is not looked into. */
static neap__flight *flying(neap__tier *tier, const neap_op *op) {
  for (uint32_t i = 0; i < tier->flying_count; i++)
    if (&tier->flying[i]->op == op) return tier->flying[i];
  return NULL;
}

static void host_done(void *engine, neap_op *op) {
  neap__tier *tier = engine;
  pthread_mutex_lock(&tier->lock);
  neap__flight *flight = flying(tier, op);
  bool owed = flight && flight->phase == NEAP_PHASE_WITH_ADAPTER;
  bool checked = !owed && neap__mount_answered(tier, op);
  if (owed) flight->phase = NEAP_PHASE_RETURNED;
  /* Posted under the lock: once the loop could settle it, the tier may be closed. */
  if (owed && !tier->abandoned) neap__loop_post(tier->env.loop, &flight->job);
  pthread_mutex_unlock(&tier->lock);
  if (!owed && !checked)
    NEAP_LOG_ERROR("%s called done for an operation that it does not have: called twice, or not its own; ignored",
                   tier->name);
}

static void host_log(void *engine, neap_log_level level, const char *text) {
  neap__tier *tier = engine;
  char line[1024];
  size_t n = strnlen(text, sizeof(line) - 1);
  for (size_t i = 0; i < n; i++) line[i] = (unsigned char)text[i] < ' ' ? ' ' : text[i]; /* one line stays one line */
  line[n] = 0;
  if (level < neap__log_level()) return;
  neap__log(level, tier->name, 0, "%s", line);
}

static int host_queue_work(void *engine, void (*work)(void *arg), void *arg) {
  neap__tier *tier = engine;
  pthread_mutex_lock(&tier->lock);
  int rc = tier->abandoned ? NEAP_ELIMIT : neap__pool_submit(tier->env.pool, work, arg);
  pthread_mutex_unlock(&tier->lock);
  return rc;
}

static int host_memory(void *engine, neap_memory *out) {
  neap__tier *tier = engine;
  if (!tier->env.memory.bytes) return NEAP_ENOTSUP;
  *out = tier->env.memory;
  return 0;
}

static uint64_t host_now_ns(void *engine) {
  (void)engine;
  return neap__now_ns();
}

static void host_gone(void *engine, const neap_object_key *keys, uint32_t count) {
  neap__tier *tier = engine;
  neap__key id;
  pthread_mutex_lock(&tier->lock);
  for (uint32_t i = 0; i < count; i++)
    if (neap__catalogue_id_of(tier->catalogue, &keys[i], &id) == 0)
      neap__catalogue_forget(tier->catalogue, &id, UINT64_MAX);
  pthread_mutex_unlock(&tier->lock);
}

static int host_inner_open(void *engine, const char *config_json, void (*done)(void *ctx, neap_op *op), void *ctx,
                           neap_inner **out, neap_error *err) {
  neap__tier *tier = engine;
  neap__inner_parent parent = {.host = &tier->host, .plugin_dirs = tier->plugin_dirs};
  return neap__inner_open(&parent, config_json, done, ctx, out, err);
}

void neap__host_init(neap__tier *tier) {
  tier->host = (neap_host){.size = sizeof(neap_host),
                           .abi = NEAP_ADAPTER_ABI,
                           .engine = tier,
                           .done = host_done,
                           .log = host_log,
                           .queue_work = host_queue_work,
                           .memory = host_memory,
                           .key_format = neap__key_format,
                           .key_parse = neap__key_parse,
                           .crc32c = neap__crc32c,
                           .now_ns = host_now_ns,
                           .inner_open = host_inner_open,
                           .gone = host_gone};
  neap__inner_install(&tier->host);
}
