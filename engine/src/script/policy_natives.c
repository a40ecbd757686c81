/* SPDX-License-Identifier: MIT
 *
 * script/policy_natives.c - what policies in Lua have from the built-in ones: loops that C does better, over memory of
 * the VM. lua/neap/policy_parts.lua checks the arguments and declares the same table. */
#include "policy/heap.h"
#include "policy/sketch.h"
#include "policy/splitmix.h"
#include "script/lua_policy.h"

typedef struct natives {
  void (*heap_put)(neap__heap *heap, uint32_t item, double rank);
  void (*heap_take)(neap__heap *heap, uint32_t item);
  bool (*heap_before)(const neap__heap_entry *a, const neap__heap_entry *b);
  uint32_t (*sketch_counters)(uint32_t names);
  void (*sketch_add)(neap__sketch *sketch, uint32_t h1, uint32_t h2);
  uint32_t (*sketch_estimate)(const neap__sketch *sketch, uint32_t h1, uint32_t h2);
  void (*sketch_halve)(neap__sketch *sketch);
  uint32_t (*random_below)(uint64_t *state, uint32_t below);
} natives;

void *neap__lua_policy_natives(void) {
  static natives table = {.heap_put = neap__heap_put,
                          .heap_take = neap__heap_take,
                          .heap_before = neap__heap_before,
                          .sketch_counters = neap__sketch_counters,
                          .sketch_add = neap__sketch_add,
                          .sketch_estimate = neap__sketch_estimate,
                          .sketch_halve = neap__sketch_halve,
                          .random_below = neap__random_below};
  return &table;
}
