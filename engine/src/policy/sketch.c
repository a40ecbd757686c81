/* SPDX-License-Identifier: MIT
 *
 * policy/sketch.c - each row has a quarter of every word; which word and which counter in it is told by a hash of the
 * name and the row. */
#include "policy/sketch.h"

#include <stdlib.h>

#include "policy/splitmix.h"

enum { ROWS = 4, BITS = 4, MOST = 15 };

typedef struct spot {
  uint64_t *word;
  uint32_t shift;
} spot;

static spot spot_of(const neap__sketch *sketch, uint64_t hash, uint32_t row) {
  uint64_t h = neap__mix64(hash + row);
  uint32_t counter = row * (16 / ROWS) + (uint32_t)(h >> 62);
  return (spot){&sketch->words[h & sketch->mask], counter * BITS};
}

bool neap__sketch_open(neap__sketch *sketch, uint32_t names) {
  uint32_t words = 4;
  while (words < names && words < 1u << 30) words *= 2;
  sketch->mask = words - 1;
  sketch->words = calloc(words, sizeof(*sketch->words));
  return sketch->words != NULL;
}

void neap__sketch_close(neap__sketch *sketch) { free(sketch->words); }

uint32_t neap__sketch_estimate(const neap__sketch *sketch, uint64_t name) {
  uint32_t least = MOST;
  for (uint32_t row = 0; row < ROWS; row++) {
    spot s = spot_of(sketch, name, row);
    uint32_t count = (uint32_t)(*s.word >> s.shift) & MOST;
    least = NEAP_MIN(least, count);
  }
  return least;
}

void neap__sketch_add(neap__sketch *sketch, uint64_t name) {
  uint32_t least = neap__sketch_estimate(sketch, name);
  if (least == MOST) return;
  for (uint32_t row = 0; row < ROWS; row++) {
    spot s = spot_of(sketch, name, row);
    if (((uint32_t)(*s.word >> s.shift) & MOST) == least) *s.word += UINT64_C(1) << s.shift;
  }
}

void neap__sketch_halve(neap__sketch *sketch) {
  for (uint64_t i = 0; i <= sketch->mask; i++) sketch->words[i] = sketch->words[i] >> 1 & UINT64_C(0x7777777777777777);
}
