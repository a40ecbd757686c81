/* SPDX-License-Identifier: MIT
 *
 * trace/coder.c - see coder.h.
 *
 * The coder keeps an interval of 32 bits and splits it by each bit's probability; leading bytes that both ends share go
 * out (Howard and Vitter, "Arithmetic coding for data compression", Proc. IEEE 1994). Probabilities are mixed in the
 * logistic domain by weights that learn online (Mahoney, "Adaptive weighing of context models for lossless data
 * compression", Florida Tech CS-2005-16). Each context counts in a slot of a table that is addressed by a hash and
 * never checked: two contexts that meet share a count, on both ends alike. */
#include "trace/coder.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_BITS 17
#define CONFIDENCES 4u
#define COUNT_MAX 62
#define LOGIT_MAX 2047 /* of 256 per unit of the logistic domain */
#define WEIGHT_ONE (1 << 16)
#define LEARN_SHIFT 14
#define ONE 65536
#define LEAST 8 /* of ONE: the smallest probability that is used */

typedef struct slot {
  uint16_t p, seen; /* p of ONE that the bit is 1 */
} slot;

struct neap__coder {
  bool reads, failed;
  uint32_t low, high, code;
  uint8_t *bytes; /* written */
  size_t used, room;
  uint64_t *words;
  size_t word_count, word_room;
  const uint8_t *from;     /* read; it runs ahead of the bits, so words are counted apart, from the end */
  size_t left, left_words; /* bytes */
  const uint8_t *words_end;
  double spent[NEAP_CODER_KINDS];
  int32_t weight[NEAP__CODER_NAMES][CONFIDENCES][CONFIDENCES][NEAP__CODER_CONTEXTS];
  slot slots[1 << SLOT_BITS];
};

/* --- the logistic domain ------------------------------------------------------------------------------------------ */

static int32_t squash_table[2 * LOGIT_MAX + 1]; /* p = ONE / (1 + e^(-x / 256)) */
static int16_t stretch_table[4096];             /* its inverse, of p / 16 */
static float cost_table[4096];                  /* -log2(p), of p / 16; statistics only */
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

/* Powers of e in integers (24 bits of fraction), for two machines may round exp() differently. */
static void build_tables(void) {
  const uint64_t step = 16842880, one = 1u << 24; /* e^(1/256) */
  uint64_t power = one;
  for (int x = 0; x <= LOGIT_MAX; x++) {
    int32_t p = (int32_t)((power << 16) / (power + one));
    squash_table[LOGIT_MAX + x] = p;
    squash_table[LOGIT_MAX - x] = ONE - p;
    power = power * step >> 24;
  }
  int x = -LOGIT_MAX;
  for (int p = 0; p < 4096; p++) {
    while (x < LOGIT_MAX && squash_table[LOGIT_MAX + x] < 16 * p + 8) x++;
    stretch_table[p] = (int16_t)x;
    cost_table[p] = (float)-log2((p + 0.5) / 4096);
  }
}

static int32_t squash(int64_t x) {
  x = NEAP_MAX(NEAP_MIN(x, LOGIT_MAX), -LOGIT_MAX);
  return NEAP_MAX(NEAP_MIN(squash_table[LOGIT_MAX + x], ONE - LEAST), LEAST);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

void neap__coder_reset(neap__coder *coder) {
  for (size_t i = 0; i < NEAP_ARRAY_LEN(coder->slots); i++) coder->slots[i] = (slot){ONE / 2, 0};
  int32_t *weight = &coder->weight[0][0][0][0];
  for (size_t i = 0; i < sizeof(coder->weight) / sizeof(*weight); i++) weight[i] = WEIGHT_ONE * 2 / 5;
}

neap__coder *neap__coder_new(bool reads) {
  neap__coder *coder = calloc(1, sizeof(*coder));
  if (!coder) return NULL;
  pthread_once(&tables_once, build_tables);
  coder->reads = reads;
  neap__coder_reset(coder);
  neap__coder_begin(coder);
  return coder;
}

void neap__coder_free(neap__coder *coder) {
  if (!coder) return;
  free(coder->bytes);
  free(coder->words);
  free(coder);
}

/* --- the interval ------------------------------------------------------------------------------------------------- */

static void put(neap__coder *coder, uint32_t byte) {
  if (coder->used == coder->room) {
    size_t room = coder->room ? 2 * coder->room : 4096;
    uint8_t *bytes = realloc(coder->bytes, room);
    coder->failed |= !bytes;
    if (!bytes) return;
    coder->bytes = bytes;
    coder->room = room;
  }
  coder->bytes[coder->used++] = (uint8_t)byte;
}

static uint32_t get(neap__coder *coder) {
  if (coder->left == 0) return 0;
  coder->left--;
  return *coder->from++;
}

void neap__coder_begin(neap__coder *coder) {
  coder->low = 0;
  coder->high = UINT32_MAX;
  coder->used = coder->word_count = 0;
  coder->failed = false;
}

size_t neap__coder_bytes(const neap__coder *coder) { return coder->used + coder->word_count * sizeof(uint64_t); }

/* The shortest number that is within the interval whatever follows it, then the words. */
const uint8_t *neap__coder_end(neap__coder *coder, size_t *bytes) {
  uint64_t value = 0;
  int shift = 32;
  for (bool inside = coder->low == 0 && coder->high == UINT32_MAX; !inside;
       inside = value + (1ull << shift) - 1 <= coder->high) {
    shift -= 8;
    value = (((uint64_t)coder->low + (1ull << shift) - 1) >> shift) << shift;
  }
  for (int at = 24; at >= shift; at -= 8) put(coder, (uint32_t)(value >> at & 0xff));
  for (size_t i = coder->word_count; i > 0; i--)
    for (int at = 0; at < 64; at += 8) put(coder, (uint32_t)(coder->words[i - 1] >> at & 0xff));
  coder->word_count = 0;
  if (coder->used == 0) put(coder, 0); /* a pointer that is not NULL */
  *bytes = coder->used;
  return coder->failed ? NULL : coder->bytes;
}

void neap__coder_read(neap__coder *coder, const uint8_t *bytes, size_t count) {
  neap__coder_begin(coder);
  coder->from = bytes;
  coder->left = coder->left_words = count;
  coder->words_end = bytes + count;
  for (int i = 0; i < 4; i++) coder->code = coder->code << 8 | get(coder);
}

/* One bit whose probability of being 1 is p of ONE, 0 < p < ONE. */
static bool split(neap__coder *coder, int32_t p, bool bit) {
  uint32_t middle = coder->low + (uint32_t)((uint64_t)(coder->high - coder->low) * (uint32_t)p >> 16);
  if (coder->reads) bit = coder->code <= middle;
  if (bit)
    coder->high = middle;
  else
    coder->low = middle + 1;
  while (((coder->low ^ coder->high) >> 24) == 0) {
    if (coder->reads)
      coder->code = coder->code << 8 | get(coder);
    else
      put(coder, coder->high >> 24);
    coder->low <<= 8;
    coder->high = coder->high << 8 | 0xff;
  }
  return bit;
}

/* --- bits --------------------------------------------------------------------------------------------------------- */

static uint32_t mix_hash(uint32_t a, uint32_t b) {
  uint64_t h = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15u;
  return (uint32_t)(h >> 32 ^ h);
}

/* `part` tells apart the bits of a number. */
static bool code_bit(neap__coder *coder, const neap__place *place, uint32_t part, bool bit) {
  slot *at[NEAP__CODER_CONTEXTS];
  int32_t x[NEAP__CODER_CONTEXTS];
  int64_t sum = 0;
  uint32_t seen[2] = {0, 0};
  for (uint32_t i = 0; i < place->count; i++) {
    uint32_t h = mix_hash(mix_hash(place->name * 8 + i, part), place->context[i]);
    at[i] = &coder->slots[h >> (32 - SLOT_BITS)];
    x[i] = stretch_table[at[i]->p >> 4];
    seen[0] = seen[1];
    seen[1] = NEAP_MIN(at[i]->seen, CONFIDENCES - 1);
  }
  int32_t *weight = coder->weight[place->name][seen[0]][seen[1]];
  for (uint32_t i = 0; i < place->count; i++) sum += (int64_t)weight[i] * x[i];
  int32_t p = squash(sum / WEIGHT_ONE);
  bit = split(coder, p, bit);
  if (!coder->reads) coder->spent[place->kind] += (double)cost_table[(bit ? p : ONE - p) >> 4];
  int64_t error = (bit ? ONE : 0) - p;
  for (uint32_t i = 0; i < place->count; i++) {
    weight[i] += (int32_t)(error * x[i] / (1 << LEARN_SHIFT));
    int32_t next = at[i]->p + ((bit ? ONE - 1 : 0) - at[i]->p) * 2 / (2 * at[i]->seen + 3);
    at[i]->p = (uint16_t)next;
    if (at[i]->seen < COUNT_MAX) at[i]->seen++;
  }
  return bit;
}

bool neap__coder_bit(neap__coder *coder, const neap__place *place, bool bit) { return code_bit(coder, place, 0, bit); }

/* The length of value + 1 in unary, then its bits behind the leading one; the first three of them are learnt. */
uint64_t neap__coder_number(neap__coder *coder, const neap__place *place, uint64_t value) {
  uint32_t length = 0, last = 0;
  uint64_t shown = 1;
  NEAP_ASSERT(coder->reads || value < 1ull << 63);
  if (!coder->reads)
    while (length < 63 && (value + 1) >> (length + 1)) length++;
  while (last < 63 && code_bit(coder, place, 1 + last, length > last)) last++;
  for (uint32_t left = last; left > 0; left--) {
    bool bit = (value + 1) >> (left - 1) & 1;
    uint32_t done = last - left;
    if (done < 3)
      bit = code_bit(coder, place, 64 + last * 8 + (uint32_t)shown, bit);
    else
      bit = neap__coder_raw(coder, place->kind, bit, 1);
    shown = shown << 1 | bit;
  }
  return shown - 1;
}

uint64_t neap__coder_raw(neap__coder *coder, neap__coder_kind kind, uint64_t value, uint32_t bits) {
  uint64_t out = 0;
  for (uint32_t left = bits; left > 0; left--) out = out << 1 | split(coder, ONE / 2, value >> (left - 1) & 1);
  if (!coder->reads) coder->spent[kind] += bits;
  return out;
}

static uint64_t take_word(neap__coder *coder) {
  uint64_t value = 0;
  if (coder->left_words < sizeof(value)) return 0;
  coder->left_words -= sizeof(value);
  coder->words_end -= sizeof(value);
  for (int i = 0; i < 8; i++) value |= (uint64_t)coder->words_end[i] << 8 * i;
  return value;
}

uint64_t neap__coder_word(neap__coder *coder, neap__coder_kind kind, uint64_t value) {
  if (coder->reads) return take_word(coder);
  coder->spent[kind] += 64;
  if (coder->word_count == coder->word_room) {
    size_t room = coder->word_room ? 2 * coder->word_room : 1024;
    uint64_t *words = realloc(coder->words, room * sizeof(*words));
    coder->failed |= !words;
    if (!words) return value;
    coder->words = words;
    coder->word_room = room;
  }
  coder->words[coder->word_count++] = value;
  return value;
}

const double *neap__coder_spent(const neap__coder *coder) { return coder->spent; }
