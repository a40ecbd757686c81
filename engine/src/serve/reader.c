/* SPDX-License-Identifier: MIT
 *
 * serve/reader.c - see reader.h. Encodings follow the msgpack specification (msgpack/spec.md, 2017). A value's head
 * is one byte that tells the kind and the number of bytes that carry its number or its length. */
#include "serve/reader.h"

#include <string.h>

neap__reader neap__reader_over(const void *data, size_t bytes) {
  return (neap__reader){.at = data, .end = (const uint8_t *)data + bytes};
}

bool neap__reader_done(const neap__reader *r) { return r->at == r->end; }

static uint64_t big_endian(const uint8_t *at, uint32_t bytes) {
  uint64_t v = 0;
  for (uint32_t i = 0; i < bytes; i++) v = v << 8 | at[i];
  return v;
}

static int take_number(neap__reader *r, uint32_t bytes, uint64_t *out) {
  if ((size_t)(r->end - r->at) < bytes) return NEAP_EINVAL;
  *out = big_endian(r->at, bytes);
  r->at += bytes;
  return 0;
}

static int take_text(neap__reader *r, neap__value *value, neap__kind kind, uint64_t bytes) {
  if ((uint64_t)(r->end - r->at) < bytes) return NEAP_EINVAL;
  value->kind = kind;
  value->text = (neap__text){.at = (const char *)r->at, .bytes = (uint32_t)bytes};
  r->at += bytes;
  return 0;
}

/* A container whose elements cannot all be there is refused at its head, so that no caller loops over a lie. */
static int take_container(neap__reader *r, neap__value *value, neap__kind kind, uint64_t count) {
  uint64_t least = kind == NEAP_KIND_MAP ? 2 * count : count;
  if ((uint64_t)(r->end - r->at) < least) return NEAP_EINVAL;
  value->kind = kind;
  value->number = count;
  return 0;
}

static int take_signed(neap__reader *r, neap__value *value, uint32_t bytes) {
  int err = take_number(r, bytes, &value->number);
  if (err) return err;
  bool negative = value->number >> (8 * bytes - 1);
  value->kind = negative ? NEAP_KIND_NEGATIVE : NEAP_KIND_UINT;
  return 0;
}

static int take_float(neap__reader *r, neap__value *value, uint32_t bytes) {
  uint64_t bits;
  int err = take_number(r, bytes, &bits);
  if (err) return err;
  value->kind = NEAP_KIND_FLOAT;
  if (bytes == 4) {
    uint32_t narrow = (uint32_t)bits;
    float real;
    memcpy(&real, &narrow, sizeof(real));
    value->real = (double)real;
  } else {
    memcpy(&value->real, &bits, sizeof(value->real));
  }
  return 0;
}

static int take_ext(neap__reader *r, neap__value *value, uint64_t bytes) {
  return take_text(r, value, NEAP_KIND_EXT, bytes + 1); /* one byte of type in front */
}

/* Heads 0xc0 .. 0xdf: the number or length follows in 1, 2, 4 or 8 bytes. */
static int read_long(neap__reader *r, uint8_t head, neap__value *value) {
  uint64_t n = 0;
  switch (head) {
    case 0xc0: value->kind = NEAP_KIND_NIL; return 0;
    case 0xc2:
    case 0xc3:
      value->kind = NEAP_KIND_BOOL;
      value->number = head & 1;
      return 0;
    case 0xc4:
    case 0xc5:
    case 0xc6: return take_number(r, 1u << (head - 0xc4), &n) ? NEAP_EINVAL : take_text(r, value, NEAP_KIND_BIN, n);
    case 0xc7:
    case 0xc8:
    case 0xc9: return take_number(r, 1u << (head - 0xc7), &n) ? NEAP_EINVAL : take_ext(r, value, n);
    case 0xca:
    case 0xcb: return take_float(r, value, 4u << (head - 0xca));
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf: value->kind = NEAP_KIND_UINT; return take_number(r, 1u << (head - 0xcc), &value->number);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3: return take_signed(r, value, 1u << (head - 0xd0));
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8: return take_ext(r, value, 1u << (head - 0xd4));
    case 0xd9:
    case 0xda:
    case 0xdb: return take_number(r, 1u << (head - 0xd9), &n) ? NEAP_EINVAL : take_text(r, value, NEAP_KIND_STR, n);
    case 0xdc:
    case 0xdd:
      return take_number(r, 2u << (head - 0xdc), &n) ? NEAP_EINVAL : take_container(r, value, NEAP_KIND_ARRAY, n);
    case 0xde:
    case 0xdf:
      return take_number(r, 2u << (head - 0xde), &n) ? NEAP_EINVAL : take_container(r, value, NEAP_KIND_MAP, n);
    default: return NEAP_EINVAL; /* 0xc1 is never used */
  }
}

int neap__read_value(neap__reader *r, neap__value *value) {
  if (r->at == r->end) return NEAP_EINVAL;
  uint8_t head = *r->at++;
  if (head < 0x80) {
    value->kind = NEAP_KIND_UINT;
    value->number = head;
    return 0;
  }
  if (head >= 0xe0) {
    value->kind = NEAP_KIND_NEGATIVE;
    return 0;
  }
  if (head < 0x90) return take_container(r, value, NEAP_KIND_MAP, head & 0x0fu);
  if (head < 0xa0) return take_container(r, value, NEAP_KIND_ARRAY, head & 0x0fu);
  if (head < 0xc0) return take_text(r, value, NEAP_KIND_STR, head & 0x1fu);
  return read_long(r, head, value);
}

int neap__read_skip(neap__reader *r) {
  neap__value value;
  for (uint64_t left = 1; left > 0; left--) {
    if (neap__read_value(r, &value)) return NEAP_EINVAL;
    if (value.kind == NEAP_KIND_ARRAY) left += value.number;
    if (value.kind == NEAP_KIND_MAP) left += 2 * value.number;
  }
  return 0;
}

int neap__read_uint(neap__reader *r, uint64_t most, uint64_t *out) {
  neap__value value;
  if (neap__read_value(r, &value) || value.kind != NEAP_KIND_UINT || value.number > most) return NEAP_EINVAL;
  *out = value.number;
  return 0;
}

int neap__read_bool(neap__reader *r, bool *out) {
  neap__value value;
  if (neap__read_value(r, &value) || value.kind != NEAP_KIND_BOOL) return NEAP_EINVAL;
  *out = value.number != 0;
  return 0;
}

int neap__read_text(neap__reader *r, neap__text *out) {
  neap__value value;
  if (neap__read_value(r, &value) || value.kind != NEAP_KIND_STR) return NEAP_EINVAL;
  *out = value.text;
  return 0;
}

int neap__read_map(neap__reader *r, uint32_t *pairs) {
  neap__value value;
  if (neap__read_value(r, &value) || value.kind != NEAP_KIND_MAP) return NEAP_EINVAL;
  *pairs = (uint32_t)value.number;
  return 0;
}

/* The three shortest forms are all that a client sends for tokens below 2^32; they are passed over without decoding,
 * any other form goes through the general reader. */
int neap__read_tokens(neap__reader *r, neap__token_list *out) {
  neap__value value;
  if (neap__read_value(r, &value) || value.kind != NEAP_KIND_ARRAY) return NEAP_EINVAL;
  const uint8_t *start = r->at;
  for (uint64_t left = value.number; left > 0; left--) {
    if (r->at >= r->end) return NEAP_EINVAL;
    uint8_t head = *r->at;
    if (head < 0x80)
      r->at += 1;
    else if (head == 0xcd && r->end - r->at >= 3)
      r->at += 3;
    else if (head == 0xce && r->end - r->at >= 5)
      r->at += 5;
    else {
      uint64_t token;
      if (neap__read_uint(r, UINT32_MAX, &token)) return NEAP_EINVAL;
    }
  }
  *out = (neap__token_list){.at = start, .bytes = (size_t)(r->at - start), .count = (uint32_t)value.number};
  return 0;
}

const uint8_t *neap__tokens_decode(const uint8_t *at, uint32_t count, uint32_t *out) {
  for (uint32_t i = 0; i < count; i++) {
    uint8_t head = *at;
    if (head < 0x80) {
      out[i] = head;
      at += 1;
    } else if (head == 0xcd) {
      out[i] = (uint32_t)at[1] << 8 | at[2];
      at += 3;
    } else {
      uint32_t bytes = 1u << (head & 3u); /* 0xcc .. 0xcf and 0xd0 .. 0xd3 alike */
      out[i] = (uint32_t)big_endian(at + 1, bytes);
      at += 1 + bytes;
    }
  }
  return at;
}

bool neap__text_is(neap__text text, const char *word) {
  return strlen(word) == text.bytes && memcmp(text.at, word, text.bytes) == 0;
}
