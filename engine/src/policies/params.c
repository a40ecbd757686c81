/* SPDX-License-Identifier: MIT
 *
 * policies/params.c - see params.h. */
#include "policies/params.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD 64u

/* One "name=value" of a list. */
typedef struct piece {
  const char *name, *value;
  int name_bytes, value_bytes;
} piece;

static int name_length(const char *text) {
  const char *end = text;
  while (isalnum((unsigned char)*end) || *end == '_' || *end == '-') end++;
  return (int)(end - text);
}

/* Reads the piece at *at and moves it behind; false if there is no name=value. */
static bool next_piece(const char **at, piece *out) {
  out->name = *at;
  out->name_bytes = name_length(*at);
  if (out->name_bytes == 0 || (*at)[out->name_bytes] != '=') return false;
  out->value = *at + out->name_bytes + 1;
  out->value_bytes = (int)strcspn(out->value, ",");
  *at = out->value + out->value_bytes;
  return out->value_bytes > 0;
}

const char *neap__policy_params_in(const char *spec) {
  for (const char *at = strchr(spec, ':'); at != NULL; at = strchr(at + 1, ':')) {
    int bytes = name_length(at + 1);
    if (bytes > 0 && at[1 + bytes] == '=') return at + 1;
  }
  return NULL;
}

int neap__policy_params_check(const char *spec, const char *params, neap_error *err) {
  const char *at = params;
  piece p;
  do {
    const char *start = at;
    if (!next_piece(&at, &p))
      return neap__fail(err, NEAP_EINVAL, "policy '%.64s': '%.*s' is no parameter; expected name=value", spec,
                        (int)NEAP_MIN(strcspn(start, ","), WORD), start);
  } while (*at == ',' && *++at != '\0');
  if (at[-1] == ',')
    return neap__fail(err, NEAP_EINVAL, "policy '%.64s': nothing follows the last ','; expected name=value", spec);
  return 0;
}

static int unknown_param(const char *policy, const piece *p, const neap__policy_param *known, uint32_t count,
                         neap_error *err) {
  char word[WORD], list[160] = "no parameters";
  const char *words[16] = {NULL};
  snprintf(word, sizeof(word), "%.*s", p->name_bytes, p->name);
  size_t used = 0;
  for (uint32_t i = 0; i < NEAP_MIN(count, NEAP_ARRAY_LEN(words)); i++) {
    words[i] = known[i].name;
    used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i == 0 ? "" : ", ", known[i].name);
    used = NEAP_MIN(used, sizeof(list) - 1);
  }
  const char *near = neap__nearest(word, words, NEAP_ARRAY_LEN(words));
  return neap__fail(err, NEAP_EINVAL, "policy %s: parameter '%s' is unknown; expected %s%s%s%s", policy, word, list,
                    near == NULL ? "" : "; did you mean '", near == NULL ? "" : near, near == NULL ? "" : "'?");
}

static int read_value(const char *policy, const piece *p, const neap__policy_param *param, neap_error *err) {
  char text[WORD], *end = text;
  snprintf(text, sizeof(text), "%.*s", p->value_bytes, p->value);
  double value = strtod(text, &end);
  if (end == text || *end != '\0' || !(value >= param->min && value <= param->max))
    return neap__fail(err, NEAP_EINVAL, "policy %s: parameter %s is '%s'; expected a number from %g to %g", policy,
                      param->name, text, param->min, param->max);
  *param->value = value;
  return 0;
}

int neap__policy_params(const char *policy, const char *params, const neap__policy_param *known, uint32_t count,
                        neap_error *err) {
  const char *at = params;
  for (piece p; at[0] != '\0'; at += at[0] == ',') {
    if (!next_piece(&at, &p))
      return neap__fail(err, NEAP_EINVAL, "policy %s: parameters are '%.64s'; expected name=value,...", policy, params);
    uint32_t i = 0;
    while (i < count &&
           (strlen(known[i].name) != (size_t)p.name_bytes || strncmp(known[i].name, p.name, (size_t)p.name_bytes) != 0))
      i++;
    if (i == count) return unknown_param(policy, &p, known, count, err);
    int rc = read_value(policy, &p, &known[i], err);
    if (rc != 0) return rc;
  }
  return 0;
}
