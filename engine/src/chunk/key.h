/* SPDX-License-Identifier: MIT
 *
 * chunk/key.h - identity of an object: the fixed binary key used inside, and its text forms used outside.
 *
 * Inside, model and tenant are dense numbers from chunk/names.h, so a key is 48 bytes that compare by memcmp. A
 * "space" is a model name together with the layout of its chunks: objects of one model name but another layout
 * (shape, dtype, chunk size) have other keys and can never be mistaken for each other. */
#pragma once
#include "base/base.h"

typedef struct neap__key {
  uint8_t hash[NEAP_HASH_BYTES];
  uint32_t space;
  uint32_t rank;
  uint32_t group;
  uint32_t tenant;
} neap__key;
_Static_assert(sizeof(neap__key) == 48, "no padding: keys are compared by memcmp");

/* LMCache's kv_rank for `worker` of `world` (both below 256; NEAP_ASSERTed). */
uint32_t neap__rank(uint32_t world, uint32_t worker);

/* 64 bits of a key for tables; well mixed. */
uint64_t neap__key_hash(const neap__key *key);

/* Prints key in the given form into text. Returns its length without the NUL, or NEAP_EINVAL for a key with a
 * forbidden character ('@' in the model; '@', '/', '\\' in the salt; a model containing "-SEP-" or "-SEP/" in FILE
 * form, which could not be parsed back), NEAP_ELIMIT when cap is too small. */
int neap__key_format(const neap_object_key *key, neap_key_form form, char *text, size_t cap);

/* Inverse of neap__key_format: strings (cap bytes) receives model and salt, out points into it. Returns 0, or
 * NEAP_EINVAL for anything neap__key_format cannot have printed (upper-case hex, missing fields, "x.data", ...), or
 * NEAP_ELIMIT when cap is below the text's model and salt with their two NULs. */
int neap__key_parse(const char *text, neap_key_form form, neap_object_key *out, char *strings, size_t cap);

/* 0 if the text may serve as salt / model name, else NEAP_EINVAL with the reason in err. Not NUL-terminated. */
int neap__salt_check(const char *salt, size_t bytes, neap_error *err);
int neap__model_check(const char *model, size_t bytes, neap_error *err);
