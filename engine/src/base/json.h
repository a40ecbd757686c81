/* SPDX-License-Identifier: MIT
 *
 * base/json.h - strict reading of JSON on top of cJSON, and the words in which messages speak about a value.
 *
 * cJSON forgives what a configuration must not: duplicate names, "01", a NUL inside a string, text after the end,
 * numbers that became infinite. Bounded: NEAP_JSON_BYTES of text, NEAP_JSON_DEPTH levels. Any thread. */
#pragma once
#include <cjson/cJSON.h>

#include "base/base.h"

#define NEAP_JSON_BYTES (64u << 10)
#define NEAP_JSON_DEPTH 32

/* Parses one JSON text. 0 and a tree that the caller deletes, or NEAP_EINVAL / NEAP_ENOMEM with the reason in err. */
int neap__json_parse(const char *text, cJSON **out, neap_error *err);

/* "string", "number", "boolean", "null", "object", "array". */
const char *neap__json_type(const cJSON *item);

/* True for names whose values are not to be shown: containing password, secret, token or key. NULL is false. */
bool neap__json_secret(const char *name);

/* `"big" (string)`, `3 (number)`, `an object`; shortened to fit; the value of a secret name is not shown.
 * Returns text. */
const char *neap__json_show(const cJSON *item, char *text, size_t cap);

/* Replaces the values of secret names in the whole tree by "***". Returns 0 or NEAP_ENOMEM (then part is masked). */
int neap__json_mask(cJSON *tree);
