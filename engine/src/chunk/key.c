/* SPDX-License-Identifier: MIT
 *
 * chunk/key.c - keys and their text forms. No state, no allocation; any thread.
 *
 * The text forms are LMCache's (native connectors and file store), so that stores can be shared with it. A reader of a
 * foreign store meets all kinds of names; parsing therefore takes a text apart loosely, prints the result again and
 * accepts it only if the same text comes out. */
#include "chunk/key.h"

#include <stdio.h>
#include <string.h>

#define SLASH_TEXT "-SEP-"
#define FILE_END ".data"
#define FIELDS_MAX 5 /* model, rank, group, hash, salt */
/* Every byte of the model could be a slash. */
#define TEXT_LONGEST ((sizeof(SLASH_TEXT) - 1) * NEAP_MODEL_BYTES_MAX + NEAP_SALT_BYTES_MAX + 128)

uint32_t neap__rank(uint32_t world, uint32_t worker) {
  NEAP_ASSERT(world < 256 && worker < 256);
  return world << 24 | worker << 16 | world << 8 | worker;
}

/* The hash field is mixed already, so that folding it is enough: a lookup spends most of its time here otherwise. */
uint64_t neap__key_hash(const neap__key *key) {
  uint64_t words[sizeof(*key) / 8];
  memcpy(words, key, sizeof(words));
  uint64_t folded = words[0] ^ words[1] ^ words[2] ^ words[3];
  folded ^= words[4] * UINT64_C(0x9e3779b97f4a7c15) ^ words[5] * UINT64_C(0xc2b2ae3d27d4eb4f); /* odd: no bit is lost */
  return neap__hash64(&folded, sizeof(folded), 0);
}

/* --- checks ------------------------------------------------------------------------------------------------------ */

static int text_check(const char *field, const char *text, size_t bytes, size_t bytes_max, const char *forbidden,
                      neap_error *err) {
  if (bytes > bytes_max)
    return neap__fail(err, NEAP_EINVAL, "%s has %zu bytes; expected at most %zu", field, bytes, bytes_max);
  for (size_t i = 0; i < bytes; i++) {
    if (text[i] == '\0') return neap__fail(err, NEAP_EINVAL, "%s has a zero byte at %zu; expected text", field, i);
    if (strchr(forbidden, text[i]))
      return neap__fail(err, NEAP_EINVAL, "%s '%.*s' has '%c' at %zu; expected none of %s", field, (int)bytes, text,
                        text[i], i, forbidden);
  }
  return 0;
}

int neap__salt_check(const char *salt, size_t bytes, neap_error *err) {
  return text_check("cache_salt", salt, bytes, NEAP_SALT_BYTES_MAX, "@/\\", err);
}

int neap__model_check(const char *model, size_t bytes, neap_error *err) {
  if (bytes == 0)
    return neap__fail(err, NEAP_EINVAL, "model_name is empty; expected 1 to %d bytes", NEAP_MODEL_BYTES_MAX);
  return text_check("model_name", model, bytes, NEAP_MODEL_BYTES_MAX, "@", err);
}

/* --- printing ---------------------------------------------------------------------------------------------------- */

/* Grows past cap without writing, so that the caller can compare once at the end. */
typedef struct printer {
  char *text;
  size_t cap, used;
} printer;

static void put(printer *out, const char *text, size_t bytes) {
  if (out->used + bytes < out->cap) memcpy(out->text + out->used, text, bytes);
  out->used += bytes;
}

static void put_text(printer *out, const char *text) { put(out, text, strlen(text)); }

static void put_file_model(printer *out, const char *model) {
  for (const char *slash; (slash = strchr(model, '/')) != NULL; model = slash + 1) {
    put(out, model, (size_t)(slash - model));
    put_text(out, SLASH_TEXT);
  }
  put_text(out, model);
}

static void put_hash(printer *out, const uint8_t hash[NEAP_HASH_BYTES]) {
  static const char digits[] = "0123456789abcdef";
  char text[2 * NEAP_HASH_BYTES];

  for (size_t i = 0; i < NEAP_HASH_BYTES; i++) {
    text[2 * i] = digits[hash[i] >> 4];
    text[2 * i + 1] = digits[hash[i] & 15];
  }
  put(out, text, sizeof(text));
}

/* A file name gives every "-SEP-", read from the left, back as a slash: a model with that text of its own, or with one
 * that a slash completes, would come back as another model. */
static bool survives_file_form(const char *model) { return !strstr(model, SLASH_TEXT) && !strstr(model, "-SEP/"); }

int neap__key_format(const neap_object_key *key, neap_key_form form, char *text, size_t cap) {
  bool file = form == NEAP_KEY_FILE;
  if (neap__model_check(key->model, strlen(key->model), NULL) != 0 ||
      neap__salt_check(key->salt, strlen(key->salt), NULL) != 0 || (file && !survives_file_form(key->model)))
    return NEAP_EINVAL;

  printer out = {text, cap, 0};
  char numbers[32];
  snprintf(numbers, sizeof(numbers), "@%s%08x@%x@", file ? "0x" : "", key->rank, key->group);
  if (file)
    put_file_model(&out, key->model);
  else
    put_text(&out, key->model);
  put_text(&out, numbers);
  put_hash(&out, key->hash);
  if (key->salt[0]) put_text(&out, "@");
  put_text(&out, key->salt);
  if (file) put_text(&out, FILE_END);

  if (out.used >= cap) return NEAP_ELIMIT;
  text[out.used] = '\0';
  return (int)out.used;
}

/* --- parsing ----------------------------------------------------------------------------------------------------- */

typedef struct span {
  const char *text;
  size_t bytes;
} span;

/* Splits at '@'; 0 if there are more than FIELDS_MAX fields. */
static size_t split(span whole, span fields[FIELDS_MAX]) {
  size_t count = 0;

  for (;;) {
    const char *at = memchr(whole.text, '@', whole.bytes);
    size_t bytes = at ? (size_t)(at - whole.text) : whole.bytes;
    if (count == FIELDS_MAX) return 0;
    fields[count++] = (span){whole.text, bytes};
    if (!at) return count;
    whole = (span){at + 1, whole.bytes - bytes - 1};
  }
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_number(span field, uint32_t *out) {
  uint32_t number = 0;

  if (field.bytes == 0 || field.bytes > 8) return false;
  for (size_t i = 0; i < field.bytes; i++) {
    int digit = hex_digit(field.text[i]);
    if (digit < 0) return false;
    number = number << 4 | (uint32_t)digit;
  }
  *out = number;
  return true;
}

static bool read_hash(span field, uint8_t hash[NEAP_HASH_BYTES]) {
  if (field.bytes != 2 * NEAP_HASH_BYTES) return false;
  for (size_t i = 0; i < NEAP_HASH_BYTES; i++) {
    int high = hex_digit(field.text[2 * i]), low = hex_digit(field.text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    hash[i] = (uint8_t)(high << 4 | low);
  }
  return true;
}

/* Writes field to out (which has room for it) with a NUL, in file form with its slashes restored; returns the end. */
static char *read_text(span field, bool file, char *out) {
  const size_t slash_bytes = sizeof(SLASH_TEXT) - 1;

  while (field.bytes > 0) {
    bool slash = file && field.bytes >= slash_bytes && memcmp(field.text, SLASH_TEXT, slash_bytes) == 0;
    size_t taken = slash ? slash_bytes : 1;
    *out++ = slash ? '/' : field.text[0];
    field = (span){field.text + taken, field.bytes - taken};
  }
  *out++ = '\0';
  return out;
}

int neap__key_parse(const char *text, neap_key_form form, neap_object_key *out, char *strings, size_t cap) {
  const size_t end_bytes = sizeof(FILE_END) - 1;
  bool file = form == NEAP_KEY_FILE;
  span whole = {text, strnlen(text, TEXT_LONGEST)}, fields[FIELDS_MAX];
  if (whole.bytes == TEXT_LONGEST) return NEAP_EINVAL;
  if (file) {
    if (whole.bytes < end_bytes || memcmp(text + whole.bytes - end_bytes, FILE_END, end_bytes) != 0) return NEAP_EINVAL;
    whole.bytes -= end_bytes;
  }

  size_t count = split(whole, fields);
  if (count < FIELDS_MAX - 1) return NEAP_EINVAL;
  span model = fields[0], rank = fields[1], salt = count == FIELDS_MAX ? fields[4] : (span){"", 0};
  if (file) {
    if (rank.bytes < 2 || memcmp(rank.text, "0x", 2) != 0) return NEAP_EINVAL;
    rank = (span){rank.text + 2, rank.bytes - 2};
  }
  neap_object_key key = {.model = strings};
  if (!read_number(rank, &key.rank) || !read_number(fields[2], &key.group) || !read_hash(fields[3], key.hash))
    return NEAP_EINVAL;
  if (model.bytes + salt.bytes + 2 > cap) return NEAP_ELIMIT;
  char *end = read_text(model, file, strings);
  key.salt = end;
  read_text(salt, false, end);

  char again[TEXT_LONGEST];
  if (neap__key_format(&key, form, again, sizeof(again)) < 0 || strcmp(again, text) != 0) return NEAP_EINVAL;
  *out = key;
  return 0;
}
