/* SPDX-License-Identifier: MIT
 *
 * l1/arena.h - which bytes of the pool belong to which slot.
 *
 * Extents of whole units (align_bytes each) tile the pool; each belongs to a slot or is free. Free extents merge with
 * their free neighbours at once and wait in size classes (two-level segregated fit: Masmano, Ripoll, Crespo, Real,
 * "TLSF: a new dynamic memory allocator for real-time systems", 2004), so giving back is O(1), taking walks at most one
 * class, and an object of a common size fits exactly where one of its kind left. Bookkeeping is private memory: a
 * pool's own bytes are never read or written here, and after a restart the arena is rebuilt from the slots.
 *
 * Slot numbers are handed out here too, for they are taken and given back together with their bytes.
 * Not thread-safe: the caller holds L1's arena lock. */
#pragma once
#include "base/base.h"

#define NEAP_NO_SLOT UINT32_MAX

typedef struct neap__arena neap__arena;

/* units: size of the pool in units; slots: slot numbers 0 .. slots-1 exist. */
int neap__arena_open(uint32_t units, uint32_t slots, neap__arena **out);
void neap__arena_close(neap__arena *arena);

/* Takes a slot number and `units` contiguous units for it. Returns NEAP_ENOSPC when no free extent is large enough,
 * NEAP_ELIMIT when no slot number is free. */
int neap__arena_take(neap__arena *arena, uint32_t units, uint32_t *slot, uint32_t *first_unit);
/* Gives back what slot holds, and the number. */
void neap__arena_give(neap__arena *arena, uint32_t slot);

/* Rebuilding: claims [first, first + units) for slot. Claims must come in ascending order of `first`; NEAP_ECORRUPT if
 * the range overlaps an earlier claim or leaves the pool. neap__arena_rebuilt ends it. */
int neap__arena_claim(neap__arena *arena, uint32_t slot, uint32_t first, uint32_t units);
void neap__arena_rebuilt(neap__arena *arena);

uint64_t neap__arena_used_units(const neap__arena *arena);
uint32_t neap__arena_largest_free(const neap__arena *arena);
uint32_t neap__arena_slots_high(const neap__arena *arena); /* no slot at or above was ever used */

/* Finds the window of at least `units` units with the fewest occupied units in which movable(ctx, slot) holds for every
 * slot, and writes its slots (at most max). Returns how many; 0 if there is no such window, or it is free already. */
uint32_t neap__arena_window(const neap__arena *arena, uint32_t units, bool (*movable)(void *ctx, uint32_t slot),
                            void *ctx, uint32_t *slots, uint32_t max);

/* Extents tile the pool, no two free ones touch, counts add up. */
int neap__arena_check(const neap__arena *arena, neap_error *err);
