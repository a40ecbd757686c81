/* SPDX-License-Identifier: MIT
 *
 * kit/fence.h - buffers that tell who touched them: pages that nobody may touch before and behind, a pattern in what
 * is left of the last page, and a checksum of the bytes from one look to the next.
 *
 * A touch of a forbidden page is a SIGSEGV; neap__fence_explain says whose page it was, for the handler. One thread per
 * fence, any thread for explain. */
#pragma once
#include "base/base.h"

typedef struct neap__fence {
  uint8_t *data, *map;
  uint64_t bytes, map_bytes;
  uint32_t seen; /* CRC-32C at the last look */
  bool to_store; /* the adapter may only read it */
  struct neap__fence *next;
} neap__fence;

/* at_end: the last byte lies before the forbidden page (data is aligned to nothing), else data starts a page. Filled
 * with a pattern. NULL when out of memory. */
neap__fence *neap__fence_new(uint64_t bytes, bool at_end);
void neap__fence_free(neap__fence *fence);
/* From now on, a write by anybody is a fault (true) or not (false). */
void neap__fence_seal(neap__fence *fence, bool sealed);

/* Takes the checksum that neap__fence_changed compares with. */
void neap__fence_look(neap__fence *fence);
bool neap__fence_changed(const neap__fence *fence);
/* True if a byte beside the data was written. */
bool neap__fence_broken(const neap__fence *fence);

/* Bytes that differ for each fill, eight at a time. */
void neap__fence_fill(neap__fence *fence, uint64_t fill);
/* True if data is what neap__fence_fill(fill) wrote; else *at is the first byte that is not. */
bool neap__fence_filled(const neap__fence *fence, uint64_t fill, uint64_t *at);

/* What address means to a fence: "wrote past the end of ..."; NULL if it is none's. Async-signal-safe but for
 * snprintf, which does not allocate for integers. */
const char *neap__fence_explain(const void *address, char *text, size_t cap);
