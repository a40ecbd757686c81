/* SPDX-License-Identifier: MIT
 *
 * serve/writer.h - msgpack into one growing buffer that is used again for every reply.
 *
 * A write that finds no memory marks the writer failed; the place that sends asks once. Texts are msgpack str. One
 * thread at a time. */
#pragma once
#include "base/base.h"

typedef struct neap__writer {
  uint8_t *at;
  size_t bytes, cap;
  bool failed;
} neap__writer;

void neap__writer_reset(neap__writer *w); /* empty again, the memory stays */
void neap__writer_free(neap__writer *w);

void neap__write_nil(neap__writer *w);
void neap__write_bool(neap__writer *w, bool v);
void neap__write_uint(neap__writer *w, uint64_t v); /* minimal width */
void neap__write_text(neap__writer *w, const char *text);
void neap__write_empty_bin(neap__writer *w);
void neap__write_array(neap__writer *w, uint32_t count);
void neap__write_map(neap__writer *w, uint32_t pairs);                 /* at most 15 */
void neap__write_raw(neap__writer *w, const void *data, size_t bytes); /* msgpack made elsewhere */
