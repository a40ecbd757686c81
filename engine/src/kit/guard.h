/* SPDX-License-Identifier: MIT
 *
 * kit/guard.h - buffers that tell who touched them: pages that nobody may touch before and behind, a pattern in what
 * is left of the last page, and a checksum of the bytes from one look to the next.
 *
 * A touch of a forbidden page is a SIGSEGV; neap__guard_explain says whose page it was, for the handler. One thread per
 * guard, any thread for explain. */
#pragma once
#include "base/base.h"

typedef struct neap__guard {
  uint8_t *data, *map;
  uint64_t bytes, map_bytes;
  uint32_t seen; /* CRC-32C at the last look */
  bool to_store; /* the adapter may only read it */
  struct neap__guard *next;
} neap__guard;

/* at_end: the last byte lies before the forbidden page (data is aligned to nothing), else data starts a page. Filled
 * with a pattern. NULL when out of memory. */
neap__guard *neap__guard_new(uint64_t bytes, bool at_end);
void neap__guard_free(neap__guard *guard);
/* From now on, a write by anybody is a fault (true) or not (false). */
void neap__guard_seal(neap__guard *guard, bool sealed);

/* Takes the checksum that neap__guard_changed compares with. */
void neap__guard_look(neap__guard *guard);
bool neap__guard_changed(const neap__guard *guard);
/* True if a byte beside the data was written. */
bool neap__guard_broken(const neap__guard *guard);

/* Bytes that differ for each fill, eight at a time. */
void neap__guard_fill(neap__guard *guard, uint64_t fill);
/* True if data is what neap__guard_fill(fill) wrote; else *at is the first byte that is not. */
bool neap__guard_filled(const neap__guard *guard, uint64_t fill, uint64_t *at);

/* What address means to a guard: "wrote past the end of ..."; NULL if it is none's. Async-signal-safe but for
 * snprintf, which does not allocate for integers. */
const char *neap__guard_explain(const void *address, char *text, size_t cap);
