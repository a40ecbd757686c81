/* SPDX-License-Identifier: MIT
 *
 * l2/schema.c - parameters against what an adapter declares (schema_json of struct neap_adapter).
 *
 * The messages are LMCache's where it has one ("max_size_gb must be a positive number"), followed by what was found.
 * They are made from the rules, so every parameter of every adapter speaks the same way. Stateless, any thread.
 *
 * Rules of a parameter: type, required, default, min, max, above, enum, live, doc. min, max and above bound numbers, or
 * the length of a string in bytes and of an array in items; enum lists strings or numbers; a required string is never
 * empty. A boolean is no number. live tells which parameters reconfigure may change. */
#include "l2/schema.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "l2/registry.h"

#define NAMES_MAX 128
#define SHOWN_BYTES 96
#define EXPECTED_BYTES 224
#define INTEGER_MAX 9007199254740992.0 /* 2^53: the largest range in which a JSON number is exact */

typedef struct type_name {
  const char *name, *plain, *positive, *non_negative;
  cJSON_bool (*is)(const cJSON *item);
} type_name;

static cJSON_bool is_integer(const cJSON *item) {
  return cJSON_IsNumber(item) && trunc(item->valuedouble) == item->valuedouble &&
         fabs(item->valuedouble) <= INTEGER_MAX;
}

static const type_name types[] = {
    {"number", "a number", "a positive number", "a non-negative number", cJSON_IsNumber},
    {"integer", "an integer", "a positive integer", "a non-negative integer", is_integer},
    {"boolean", "a boolean", NULL, NULL, cJSON_IsBool},
    {"string", "a string", "a non-empty string", "a string", cJSON_IsString},
    {"object", "a dict", NULL, NULL, cJSON_IsObject},
    {"array", "a list", "a non-empty list", "a list", cJSON_IsArray},
};

static const cJSON *member(const cJSON *object, const char *name) {
  return cJSON_GetObjectItemCaseSensitive(object, name);
}

static const type_name *type_of(const cJSON *rule) {
  const char *name = cJSON_GetStringValue(member(rule, "type"));
  for (size_t i = 0; name && i < NEAP_ARRAY_LEN(types); i++) {
    if (strcmp(types[i].name, name) == 0) return &types[i];
  }
  return NULL;
}

/* --- the schema itself ---------------------------------------------------------------------------------------- */

static int check_rule(const cJSON *rule, neap_error *err) {
  static const char *const words[] = {"type", "required", "default", "min", "max", "above", "enum", "live", "doc"};
  if (!cJSON_IsObject(rule)) return neap__fail(err, NEAP_EINVAL, "schema: %s must be a dict", rule->string);
  const type_name *type = type_of(rule);
  if (!type) {
    return neap__fail(err, NEAP_EINVAL,
                      "schema: %s.type must be 'number', 'integer', 'boolean', 'string', 'object', or 'array'",
                      rule->string);
  }
  for (const cJSON *word = rule->child; word; word = word->next) {
    size_t i = 0;
    while (i < NEAP_ARRAY_LEN(words) && strcmp(words[i], word->string) != 0) i++;
    if (i == NEAP_ARRAY_LEN(words)) {
      return neap__fail(err, NEAP_EINVAL, "schema: unknown rule %s.%s", rule->string, word->string);
    }
    bool bound = i >= 3 && i <= 5;
    if (bound && !(cJSON_IsNumber(word) && type->positive)) {
      return neap__fail(err, NEAP_EINVAL, "schema: %s.%s must be a number and does not go with a %s", rule->string,
                        word->string, type->name);
    }
  }
  const cJSON *choices = member(rule, "enum"), *required = member(rule, "required");
  if (choices && !(cJSON_IsArray(choices) && choices->child)) {
    return neap__fail(err, NEAP_EINVAL, "schema: %s.enum must be a non-empty list", rule->string);
  }
  if (required && !cJSON_IsBool(required)) {
    return neap__fail(err, NEAP_EINVAL, "schema: %s.required must be a boolean", rule->string);
  }
  return 0;
}

int neap__schema_parse(const char *schema_json, cJSON **out, neap_error *err) {
  cJSON *schema = NULL;
  neap_error why = {""};
  *out = NULL;
  if (!schema_json) return 0;
  int rc = neap__json_parse(schema_json, &schema, &why);
  if (rc) return neap__fail(err, rc, "schema: %s", why.text);
  if (!cJSON_IsObject(schema)) rc = neap__fail(err, NEAP_EINVAL, "schema: must be a dict");
  for (const cJSON *rule = schema->child; rc == 0 && rule; rule = rule->next) rc = check_rule(rule, err);
  if (rc) {
    cJSON_Delete(schema);
    return rc;
  }
  *out = schema;
  return 0;
}

/* --- one value ------------------------------------------------------------------------------------------------ */

static void append(char *text, size_t cap, const char *fmt, ...) NEAP_PRINTF(3, 4);
static void append(char *text, size_t cap, const char *fmt, ...) {
  size_t used = strlen(text);
  va_list args;
  va_start(args, fmt);
  vsnprintf(text + used, cap - used, fmt, args);
  va_end(args);
}

/* "'a', 'b', or 'c'": the way LMCache lists choices. */
static void append_choices(char *text, size_t cap, const cJSON *choices) {
  int count = cJSON_GetArraySize(choices);
  for (const cJSON *choice = choices->child; choice; choice = choice->next) {
    const char *before = choice == choices->child ? "" : choice->next ? ", " : count > 2 ? ", or " : " or ";
    if (cJSON_IsString(choice)) {
      append(text, cap, "%s'%s'", before, choice->valuestring);
    } else {
      append(text, cap, "%s%.15g", before, choice->valuedouble);
    }
  }
}

static bool rule_required(const cJSON *rule) { return cJSON_IsTrue(member(rule, "required")); }

/* What the rule asks for, as the end of a sentence that starts with "must be". */
static const char *expected(const cJSON *rule, char *text, size_t cap) {
  const type_name *type = type_of(rule);
  const cJSON *choices = member(rule, "enum"), *max = member(rule, "max");
  const cJSON *min = member(rule, "min"), *above = member(rule, "above");
  bool counted = type->is != cJSON_IsNumber && type->is != is_integer;
  const char *unit = !counted ? "" : type->is == cJSON_IsString ? " bytes" : " items";
  bool whole = counted || type->is == is_integer;
  text[0] = '\0';
  if (choices) {
    append_choices(text, cap, choices);
    return text;
  }
  bool positive = (above && above->valuedouble == 0) || (whole && min && min->valuedouble == 1) ||
                  (type->is == cJSON_IsString && rule_required(rule) && !min && !above);
  bool non_negative = min && min->valuedouble == 0;
  append(text, cap, "%s", positive ? type->positive : non_negative ? type->non_negative : type->plain);
  if (above && !positive) append(text, cap, " above %.15g%s", above->valuedouble, unit);
  if (min && !positive && !non_negative) append(text, cap, " of at least %.15g%s", min->valuedouble, unit);
  if (max) append(text, cap, "%s at most %.15g%s", positive || non_negative ? "," : " of", max->valuedouble, unit);
  return text;
}

static bool chosen(const cJSON *choices, const cJSON *value) {
  for (const cJSON *choice = choices->child; choice; choice = choice->next) {
    if (cJSON_Compare(choice, value, 1)) return true;
  }
  return false;
}

static bool fits(const cJSON *rule, const cJSON *value) {
  const cJSON *choices = member(rule, "enum"), *max = member(rule, "max");
  const cJSON *min = member(rule, "min"), *above = member(rule, "above");
  if (!type_of(rule)->is(value)) return false;
  if (choices && !chosen(choices, value)) return false;
  double size = cJSON_IsString(value)  ? (double)strlen(value->valuestring)
                : cJSON_IsArray(value) ? (double)cJSON_GetArraySize(value)
                                       : value->valuedouble;
  if (cJSON_IsString(value) && rule_required(rule) && size == 0) return false;
  if (min && !(size >= min->valuedouble)) return false;
  if (max && !(size <= max->valuedouble)) return false;
  return !above || size > above->valuedouble;
}

/* --- a whole object ------------------------------------------------------------------------------------------- */

static int fail_unknown(const cJSON *schema, const char *where, const char *dot, const char *name, neap_error *err) {
  const char *names[NAMES_MAX] = {NULL};
  char list[256] = "";
  size_t count = 0;
  for (const cJSON *rule = schema->child; rule && count < NAMES_MAX; rule = rule->next) {
    append(list, sizeof list, "%s%s", count ? ", " : "", rule->string);
    names[count++] = rule->string;
  }
  const char *nearest = neap__nearest(name, names, count);
  if (nearest) {
    return neap__fail(err, NEAP_EINVAL, "unknown key '%s%s%.64s'; did you mean '%s'?", where, dot, name, nearest);
  }
  return neap__fail(err, NEAP_EINVAL, "unknown key '%s%s%.64s'; expected one of: %s", where, dot, name,
                    count ? list : "(none)");
}

static void remove_nulls(cJSON *params) {
  for (cJSON *item = params->child, *next; item; item = next) {
    next = item->next;
    if (cJSON_IsNull(item)) cJSON_Delete(cJSON_DetachItemViaPointer(params, item));
  }
}

static int apply_rule(const cJSON *rule, cJSON *params, const char *where, const char *dot, neap_error *err) {
  char shown[SHOWN_BYTES], text[EXPECTED_BYTES];
  const cJSON *value = member(params, rule->string), *preset = member(rule, "default");
  if (!value && preset && !cJSON_IsNull(preset)) {
    cJSON *copy = cJSON_Duplicate(preset, 1);
    if (!copy || !cJSON_AddItemToObject(params, rule->string, copy)) {
      cJSON_Delete(copy);
      return neap__fail(err, NEAP_ENOMEM, "out of memory");
    }
    value = copy;
  }
  if (!value && !rule_required(rule)) return 0;
  if (value && fits(rule, value)) return 0;
  return neap__fail(err, NEAP_EINVAL, "%s%s%s must be %s, %s%s", where, dot, rule->string,
                    expected(rule, text, sizeof text), value ? "got " : "but it is missing",
                    value ? neap__json_show(value, shown, sizeof shown) : "");
}

int neap__schema_apply(const cJSON *schema, cJSON *params, const char *where, bool open, neap_error *err) {
  const char *dot = *where ? "." : "";
  if (!schema) return 0;
  remove_nulls(params);
  for (const cJSON *item = params->child; item && !open; item = item->next) {
    if (!member(schema, item->string)) return fail_unknown(schema, where, dot, item->string, err);
  }
  for (const cJSON *rule = schema->child; rule; rule = rule->next) {
    int rc = apply_rule(rule, params, where, dot, err);
    if (rc) return rc;
  }
  return 0;
}

int neap__schema_check(const char *schema_json, const char *params_json, const char *where, char **out,
                       neap_error *err) {
  cJSON *schema = NULL, *params = NULL;
  neap_error why = {""};
  char shown[SHOWN_BYTES];
  int rc = neap__schema_parse(schema_json, &schema, err);
  if (rc) return rc;
  rc = neap__json_parse(params_json, &params, &why);
  if (rc) {
    rc = neap__fail(err, rc, "%s is not valid JSON: %s", where, why.text);
    goto out;
  }
  if (!cJSON_IsObject(params)) {
    rc = neap__fail(err, NEAP_EINVAL, "%s must be a dict, got %s", where, neap__json_show(params, shown, sizeof shown));
    goto out;
  }
  rc = neap__schema_apply(schema, params, where, false, err);
  if (rc) goto out;
  char *text = cJSON_PrintUnformatted(params);
  if (text)
    *out = text; /* cJSON allocates with malloc */
  else
    rc = neap__fail(err, NEAP_ENOMEM, "out of memory");
out:
  cJSON_Delete(schema);
  cJSON_Delete(params);
  return rc;
}
