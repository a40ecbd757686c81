/* SPDX-License-Identifier: MIT
 *
 * serve/writer.c - see writer.h. Widths are minimal, as msgspec on the other side writes them. */
#include "serve/writer.h"

#include <stdlib.h>
#include <string.h>

void neap__writer_reset(neap__writer *w) {
  w->bytes = 0;
  w->failed = false;
}

void neap__writer_free(neap__writer *w) {
  free(w->at);
  *w = (neap__writer){0};
}

/* Room for `bytes` more, or NULL. */
static uint8_t *room(neap__writer *w, size_t bytes) {
  if (w->failed) return NULL;
  if (w->bytes + bytes > w->cap) {
    size_t cap = NEAP_MAX(2 * (w->bytes + bytes), (size_t)4096);
    uint8_t *at = realloc(w->at, cap);
    if (!at) {
      w->failed = true;
      return NULL;
    }
    w->at = at;
    w->cap = cap;
  }
  uint8_t *start = w->at + w->bytes;
  w->bytes += bytes;
  return start;
}

void neap__write_raw(neap__writer *w, const void *data, size_t bytes) {
  uint8_t *to = room(w, bytes);
  if (to) memcpy(to, data, bytes);
}

/* A head byte and a number of `bytes` big-endian bytes behind it. */
static void head(neap__writer *w, uint8_t first, uint64_t v, uint32_t bytes) {
  uint8_t *to = room(w, 1 + bytes);
  if (!to) return;
  to[0] = first;
  for (uint32_t i = 0; i < bytes; i++) to[1 + i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
}

void neap__write_nil(neap__writer *w) { head(w, 0xc0, 0, 0); }

void neap__write_bool(neap__writer *w, bool v) { head(w, v ? 0xc3 : 0xc2, 0, 0); }

void neap__write_uint(neap__writer *w, uint64_t v) {
  if (v < 0x80)
    head(w, (uint8_t)v, 0, 0);
  else if (v <= UINT8_MAX)
    head(w, 0xcc, v, 1);
  else if (v <= UINT16_MAX)
    head(w, 0xcd, v, 2);
  else if (v <= UINT32_MAX)
    head(w, 0xce, v, 4);
  else
    head(w, 0xcf, v, 8);
}

void neap__write_text(neap__writer *w, const char *text) {
  size_t bytes = strlen(text);
  if (bytes < 32)
    head(w, (uint8_t)(0xa0 | bytes), 0, 0);
  else if (bytes <= UINT8_MAX)
    head(w, 0xd9, bytes, 1);
  else if (bytes <= UINT16_MAX)
    head(w, 0xda, bytes, 2);
  else
    head(w, 0xdb, bytes, 4);
  neap__write_raw(w, text, bytes);
}

void neap__write_empty_bin(neap__writer *w) { head(w, 0xc4, 0, 1); }

void neap__write_array(neap__writer *w, uint32_t count) {
  if (count < 16)
    head(w, (uint8_t)(0x90 | count), 0, 0);
  else if (count <= UINT16_MAX)
    head(w, 0xdc, count, 2);
  else
    head(w, 0xdd, count, 4);
}

void neap__write_map(neap__writer *w, uint32_t pairs) {
  NEAP_ASSERT(pairs < 16);
  head(w, (uint8_t)(0x80 | pairs), 0, 0);
}
