/* SPDX-License-Identifier: MIT
 *
 * flow/known.h - keys of objects that were seen in a tier, by the eight bytes of hash by which policies know chunks:
 * what a prediction can be turned into a load with.
 *
 * Nothing is noted, and no memory taken, unless the policy predicts. Bounded; the oldest are forgotten. Loop thread,
 * but for open and close. */
#pragma once
#include "chunk/key.h"
#include "policy/stream.h"

typedef struct neap__known neap__known;

#define NEAP_KNOWN_MAX 65536u

int neap__known_open(neap__stream *stream, neap__known **out);
void neap__known_close(neap__known *known);

void neap__known_note(neap__known *known, const neap__key *key);

/* At most max keys of the chunk, each once: of all its ranks, layouts and tenants. */
uint32_t neap__known_find(const neap__known *known, uint32_t h1, uint32_t h2, neap__key *out, uint32_t max);
