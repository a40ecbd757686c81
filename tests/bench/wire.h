/* SPDX-License-Identifier: MIT
 *
 * bench/wire.h - as much MessagePack as the load generator and the null server need, and the numbers of the protocol's
 * operations. Writing assumes room: whoever writes sized the buffer. Reading never leaves its range; what does not fit
 * reads as zero or empty. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { /* operations on the wire */
  OP_LOOKUP = 8, OP_STATUS = 9, OP_FREE = 12, OP_END = 13, OP_REGISTER = 14, OP_UNREGISTER = 15, OP_PREPARE_STORE = 16,
  OP_COMMIT_STORE = 17, OP_PREPARE_RETRIEVE = 18, OP_COMMIT_RETRIEVE = 19, OP_CLEAR = 20, OP_CHUNK_SIZE = 21,
  OP_PING = 22,
};
enum { CHUNK_TOKENS = 256 };

typedef struct writer {
  uint8_t *at;
} writer;

static inline void put_byte(writer *w, unsigned byte) { *w->at++ = (uint8_t)byte; }

static inline void put_bytes(writer *w, const void *bytes, size_t count) {
  memcpy(w->at, bytes, count);
  w->at += count;
}

static inline void put_big_endian(writer *w, uint64_t value, int bytes) {
  while (bytes--) put_byte(w, (unsigned)(value >> (8 * bytes)) & 0xff);
}

static inline void put_uint(writer *w, uint64_t value) {
  int log = value < 0x80 ? -1 : value <= 0xff ? 0 : value <= 0xffff ? 1 : value <= 0xffffffff ? 2 : 3;
  if (log >= 0) put_byte(w, 0xccu + (unsigned)log);
  put_big_endian(w, value, log < 0 ? 1 : 1 << log);
}

/* Short ones only: up to 31 bytes without, up to 255 with a length byte. */
static inline void put_text(writer *w, const char *text) {
  size_t length = strlen(text);
  if (length >= 32) put_byte(w, 0xd9);
  put_byte(w, (unsigned)length | (length < 32 ? 0xa0u : 0));
  put_bytes(w, text, length);
}

static inline void put_map(writer *w, unsigned entries) { put_byte(w, 0x80 | entries); } /* up to 15 */
static inline void put_bool(writer *w, bool value) { put_byte(w, value ? 0xc3 : 0xc2); }
static inline void put_nil(writer *w) { put_byte(w, 0xc0); }

static inline void put_array(writer *w, uint32_t count) {
  put_byte(w, 0xdd);
  put_big_endian(w, count, 4);
}

/* A map's entry of each kind. */
static inline void put_text_entry(writer *w, const char *name, const char *value) {
  put_text(w, name);
  put_text(w, value);
}

static inline void put_uint_entry(writer *w, const char *name, uint64_t value) {
  put_text(w, name);
  put_uint(w, value);
}

typedef struct reader {
  const uint8_t *at, *end;
} reader;

static inline uint64_t get_big_endian(reader *r, unsigned bytes) {
  uint64_t value = 0;
  if ((size_t)(r->end - r->at) < bytes) r->at = r->end;
  else
    while (bytes--) value = value << 8 | *r->at++;
  return value;
}

static inline unsigned get_byte(reader *r) { return (unsigned)get_big_endian(r, 1); }

static inline uint64_t get_uint(reader *r) {
  unsigned type = get_byte(r);
  if (type < 0x80) return type;
  return type >= 0xcc && type <= 0xcf ? get_big_endian(r, 1u << (type - 0xcc)) : 0;
}

/* The number of elements of an array or entries of a map. */
static inline uint32_t get_count(reader *r) {
  unsigned type = get_byte(r);
  if (type >= 0x80 && type < 0xa0) return type & 15;
  if (type >= 0xdc && type <= 0xdf) return (uint32_t)get_big_endian(r, type & 1 ? 4 : 2);
  return 0;
}

typedef struct text {
  const char *bytes;
  size_t length;
} text;

/* A str or bin; valid as long as what is read. */
static inline text get_text(reader *r) {
  unsigned type = get_byte(r);
  uint64_t length = 0;
  if (type >= 0xa0 && type < 0xc0) length = type & 31;
  else if (type >= 0xd9 && type <= 0xdb) length = get_big_endian(r, 1u << (type - 0xd9));
  else if (type >= 0xc4 && type <= 0xc6) length = get_big_endian(r, 1u << (type - 0xc4));
  if (length > (uint64_t)(r->end - r->at)) length = (uint64_t)(r->end - r->at);
  text t = {(const char *)r->at, length};
  r->at += length;
  return t;
}

static inline bool is(text t, const char *name) { return strlen(name) == t.length && !memcmp(t.bytes, name, t.length); }

static inline void skip(reader *r) {
  static const uint8_t tail[] = {4, 8, 1, 2, 4, 8, 1, 2, 4, 8}; /* bytes behind the types 0xca to 0xd3 */
  for (uint64_t left = 1; left && r->at < r->end; left--) {
    unsigned type = *r->at;
    if (type >= 0xca && type <= 0xd3) get_big_endian(r, 1u + tail[type - 0xca]);
    else if ((type >= 0x80 && type < 0x90) || type >= 0xde) left += 2 * (uint64_t)get_count(r);
    else if ((type >= 0x90 && type < 0xa0) || type == 0xdc || type == 0xdd) left += get_count(r);
    else if (type >= 0xa0 && type != 0xc0 && type != 0xc2 && type != 0xc3) get_text(r);
    else r->at++;
  }
}
