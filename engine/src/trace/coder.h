/* SPDX-License-Identifier: MIT
 *
 * trace/coder.h - bits to bytes and back, at the price of what was expected: an arithmetic coder behind a mixture of
 * adaptive contexts.
 *
 * One function both ways: it takes the bit and returns it when writing, and returns the one it finds when reading; a
 * codec is then written once. Integers only, so that every machine reads what any machine wrote. Reading past the end
 * yields bits that mean nothing, never an error: who reads checks counts. One thread at a time; fixed memory. */
#pragma once
#include "base/base.h"

#define NEAP__CODER_CONTEXTS 5 /* at most, of one bit */
#define NEAP__CODER_NAMES 24u

/* What bits are spent on: of statistics only. */
typedef enum neap__coder_kind {
  NEAP_CODER_KNOWN,  /* which chunks that were known are asked for again */
  NEAP_CODER_NEW,    /* how many new ones follow */
  NEAP_CODER_HASHES, /* their hashes and sizes */
  NEAP_CODER_TIME,
  NEAP_CODER_WHO,    /* tenant and session */
  NEAP_CODER_OUTPUT, /* output tokens */
  NEAP_CODER_KINDS
} neap__coder_kind;

typedef struct neap__coder neap__coder;

neap__coder *neap__coder_new(bool reads); /* NULL: no memory */
void neap__coder_free(neap__coder *coder);
/* Forgets everything that was learnt. */
void neap__coder_reset(neap__coder *coder);

/* Writing: a block begins empty; end makes its bytes whole (valid until the next begin), NULL if memory ran out. */
void neap__coder_begin(neap__coder *coder);
size_t neap__coder_bytes(const neap__coder *coder); /* so far */
const uint8_t *neap__coder_end(neap__coder *coder, size_t *bytes);
/* Reading: a block begins at its bytes, which stay the caller's. */
void neap__coder_read(neap__coder *coder, const uint8_t *bytes, size_t count);

/* Where a bit belongs: `name` tells apart what the bits of a codec are (below NEAP__CODER_NAMES), context what is known
 * beside it, from little to much. */
typedef struct neap__place {
  neap__coder_kind kind;
  uint32_t name, count;
  uint32_t context[NEAP__CODER_CONTEXTS];
} neap__place;

bool neap__coder_bit(neap__coder *coder, const neap__place *place, bool bit);
/* Below 2^63. Small numbers are cheap, large ones cost about twice their length, unless they are usual. */
uint64_t neap__coder_number(neap__coder *coder, const neap__place *place, uint64_t value);
/* The lowest `bits` bits of value as they are. */
uint64_t neap__coder_raw(neap__coder *coder, neap__coder_kind kind, uint64_t value, uint32_t bits);

/* 64 bits as they are, and fast: words of a block lie behind its coded bits, the last one first. */
uint64_t neap__coder_word(neap__coder *coder, neap__coder_kind kind, uint64_t value);

/* Bits spent so far, by kind; writing only. */
const double *neap__coder_spent(const neap__coder *coder);
