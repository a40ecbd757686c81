/* SPDX-License-Identifier: MIT
 *
 * script/policy_natives.c - what policies in Lua have from the built-in ones: loops that C does better, over memory of
 * the VM. lua/neap/policy_parts.lua checks the arguments and declares the same table. */
#include "policies/heap.h"
#include "policies/history.h"
#include "policies/sketch.h"
#include "policies/splitmix.h"
#include "script/lua_policy.h"

typedef struct natives {
  uint32_t history_bytes, heap_bytes, sketch_bytes; /* so that two versions do not meet */
  uint32_t (*history_find)(const neap__history *history, uint32_t h1, uint32_t h2, uint32_t tenant);
  void (*history_add)(neap__history *history, uint32_t h1, uint32_t h2, uint32_t tenant, uint32_t side);
  void (*history_drop)(neap__history *history, uint32_t ghost);
  void (*history_trim)(neap__history *history, uint32_t side, uint32_t most);
  void (*heap_put)(neap__heap *heap, uint32_t item, double rank);
  void (*heap_take)(neap__heap *heap, uint32_t item);
  bool (*heap_before)(const neap__heap_entry *a, const neap__heap_entry *b);
  uint32_t (*sketch_counters)(uint32_t names);
  void (*sketch_add)(neap__sketch *sketch, uint32_t h1, uint32_t h2);
  uint32_t (*sketch_estimate)(const neap__sketch *sketch, uint32_t h1, uint32_t h2);
  void (*sketch_halve)(neap__sketch *sketch);
  uint32_t (*random_below)(uint64_t *state, uint32_t below);
} natives;

static uint32_t history_find(const neap__history *history, uint32_t h1, uint32_t h2, uint32_t tenant) {
  return neap__history_find(history, &(neap_event){.h1 = h1, .h2 = h2, .tenant = tenant});
}

static void history_add(neap__history *history, uint32_t h1, uint32_t h2, uint32_t tenant, uint32_t side) {
  neap__history_add(history, &(neap_event){.h1 = h1, .h2 = h2, .tenant = tenant}, side);
}

static void history_trim(neap__history *history, uint32_t side, uint32_t most) {
  while (history->list[side].count > most) neap__history_drop(history, history->list[side].oldest);
}

void *neap__lua_policy_natives(void) {
  static natives table = {.history_bytes = sizeof(neap__history),
                          .heap_bytes = sizeof(neap__heap),
                          .sketch_bytes = sizeof(neap__sketch),
                          .history_find = history_find,
                          .history_add = history_add,
                          .history_drop = neap__history_drop,
                          .history_trim = history_trim,
                          .heap_put = neap__heap_put,
                          .heap_take = neap__heap_take,
                          .heap_before = neap__heap_before,
                          .sketch_counters = neap__sketch_counters,
                          .sketch_add = neap__sketch_add,
                          .sketch_estimate = neap__sketch_estimate,
                          .sketch_halve = neap__sketch_halve,
                          .random_below = neap__random_below};
  return &table;
}
