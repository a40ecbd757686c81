/* SPDX-License-Identifier: MIT
 *
 * serve/reader.h - a cursor over the bytes of one msgpack value.
 *
 * Reads in place: texts point into the frame, nothing is allocated, every step is checked against the end. After a
 * failure the cursor's place has no meaning. The bytes come from a peer and may be anything. Any thread. */
#pragma once
#include "base/base.h"

typedef struct neap__reader {
  const uint8_t *at, *end;
} neap__reader;

/* Bytes that belong to a frame; not NUL-terminated. */
typedef struct neap__text {
  const char *at;
  uint32_t bytes;
} neap__text;

typedef enum neap__kind {
  NEAP_KIND_NIL,
  NEAP_KIND_BOOL, /* number is 0 or 1 */
  NEAP_KIND_UINT, /* number; any encoding of a value >= 0 */
  NEAP_KIND_NEGATIVE,
  NEAP_KIND_FLOAT, /* real */
  NEAP_KIND_STR,   /* text */
  NEAP_KIND_BIN,   /* text */
  NEAP_KIND_ARRAY, /* number of elements, which follow */
  NEAP_KIND_MAP,   /* number of pairs, which follow */
  NEAP_KIND_EXT,
} neap__kind;

typedef struct neap__value {
  neap__kind kind;
  uint64_t number;
  double real;
  neap__text text;
} neap__value;

/* An array of token ids as it lies in the frame: every element checked to be an int in 0 .. 2^32-1. */
typedef struct neap__token_list {
  const uint8_t *at; /* first element */
  size_t bytes;
  uint32_t count;
} neap__token_list;

neap__reader neap__reader_over(const void *data, size_t bytes);
bool neap__reader_done(const neap__reader *r);

/* The next scalar, or the head of the next container. 0, or NEAP_EINVAL (truncated or no msgpack). */
int neap__read_value(neap__reader *r, neap__value *value);
/* Passes over one whole value, however deep, in constant memory. 0 or NEAP_EINVAL. */
int neap__read_skip(neap__reader *r);

/* One value of the named kind. 0, or NEAP_EINVAL for another kind (a bool is no int, a bin is no str). */
int neap__read_uint(neap__reader *r, uint64_t most, uint64_t *out);
int neap__read_bool(neap__reader *r, bool *out);
int neap__read_text(neap__reader *r, neap__text *out);
int neap__read_map(neap__reader *r, uint32_t *pairs);
int neap__read_tokens(neap__reader *r, neap__token_list *out);

/* Decodes `count` checked tokens starting at `at` and returns the place behind them. */
const uint8_t *neap__tokens_decode(const uint8_t *at, uint32_t count, uint32_t *out);

bool neap__text_is(neap__text text, const char *word);
