/* SPDX-License-Identifier: MIT
 *
 * base/json.c - see json.h. The text is read three times: lexically here (what cJSON is too kind about), by cJSON,
 * and once more as a tree for names, depth and numbers. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Bytes of the JSON number at s (RFC 8259, section 6), or 0 if there is none. */
static size_t number_span(const char *s) {
  static const char digits[] = "0123456789";
  size_t n = *s == '-', part = strspn(s + n, digits);
  if (part == 0 || (part > 1 && s[n] == '0')) return 0;
  n += part;
  if (s[n] == '.') {
    part = strspn(s + n + 1, digits);
    if (part == 0) return 0;
    n += 1 + part;
  }
  if (s[n] == 'e' || s[n] == 'E') {
    n += strspn(s + n + 1, "+-") == 1 ? 2 : 1;
    part = strspn(s + n, digits);
    if (part == 0) return 0;
    n += part;
  }
  return n;
}

/* Bytes of the string at s, its quotes included, or 0 if it is not closed or not a JSON string. cJSON reads the bad
 * digits of "\u00zz" as a NUL, which would cut the string short, like "\u0000" itself. */
static size_t string_span(const char *s) {
  for (size_t n = 1; (unsigned char)s[n] >= 0x20; n++) {
    if (s[n] == '"') return n + 1;
    if (s[n] != '\\') continue;
    n++;
    if (s[n] == '\0' || !strchr("\"\\/bfnrtu", s[n])) return 0;
    if (s[n] == 'u' && (strspn(s + n + 1, "0123456789abcdefABCDEF") < 4 || strncmp(s + n, "u0000", 5) == 0)) return 0;
  }
  return 0;
}

static int check_tokens(const char *text, neap_error *err) {
  for (size_t i = 0, n; text[i]; i += n) {
    n = 1;
    if (text[i] == '"') {
      n = string_span(text + i);
      if (n == 0) {
        return neap__fail(err, NEAP_EINVAL, "the string at byte %zu is not closed or has a wrong character", i);
      }
    } else if (strchr("+-.0123456789NI", text[i])) { /* N, I: NaN and Infinity */
      n = number_span(text + i);
      if (n == 0 || strchr("+-.eE0123456789", text[i + n] ? text[i + n] : ' ')) {
        return neap__fail(err, NEAP_EINVAL, "the number at byte %zu is not a JSON number", i);
      }
    } else if ((unsigned char)text[i] < 0x20 && !strchr("\t\r\n", text[i])) {
      return neap__fail(err, NEAP_EINVAL, "control character at byte %zu", i);
    }
  }
  return 0;
}

static int check_tree(const cJSON *item, int depth, neap_error *err) {
  if (depth > NEAP_JSON_DEPTH) return neap__fail(err, NEAP_EINVAL, "nested deeper than %d levels", NEAP_JSON_DEPTH);
  if (cJSON_IsNumber(item) && !isfinite(item->valuedouble)) {
    return neap__fail(err, NEAP_EINVAL, "a number is too large");
  }
  for (const cJSON *child = item->child; child; child = child->next) {
    for (const cJSON *twin = child->next; child->string && twin; twin = twin->next) {
      if (strcmp(child->string, twin->string) == 0) {
        return neap__fail(err, NEAP_EINVAL, "the name \"%.64s\" is given twice", child->string);
      }
    }
    int rc = check_tree(child, depth + 1, err);
    if (rc) return rc;
  }
  return 0;
}

int neap__json_parse(const char *text, cJSON **out, neap_error *err) {
  size_t bytes = strnlen(text, NEAP_JSON_BYTES + 1u);
  const char *end = text;
  int rc;
  if (bytes > NEAP_JSON_BYTES) return neap__fail(err, NEAP_EINVAL, "longer than %u bytes", NEAP_JSON_BYTES);
  rc = check_tokens(text, err);
  if (rc) return rc;
  cJSON *tree = cJSON_ParseWithLengthOpts(text, bytes + 1, &end, 1);
  if (!tree) return neap__fail(err, NEAP_EINVAL, "not JSON from byte %td on: \"%.24s\"", end - text, end);
  rc = check_tree(tree, 1, err);
  if (rc) {
    cJSON_Delete(tree);
    return rc;
  }
  *out = tree;
  return 0;
}

const char *neap__json_type(const cJSON *item) {
  if (cJSON_IsString(item)) return "string";
  if (cJSON_IsNumber(item)) return "number";
  if (cJSON_IsBool(item)) return "boolean";
  if (cJSON_IsObject(item)) return "object";
  return cJSON_IsArray(item) ? "array" : "null";
}

bool neap__json_secret(const char *name) {
  static const char *const words[] = {"password", "secret", "token", "key"};
  for (size_t i = 0; name && i < NEAP_ARRAY_LEN(words); i++) {
    if (strcasestr(name, words[i])) return true;
  }
  return false;
}

const char *neap__json_show(const cJSON *item, char *text, size_t cap) {
  const char *type = neap__json_type(item);
  if (neap__json_secret(item->string)) {
    snprintf(text, cap, "a value not shown here (%s)", type);
  } else if (cJSON_IsString(item)) {
    snprintf(text, cap, "\"%.48s\"%s (string)", item->valuestring, strlen(item->valuestring) > 48 ? "..." : "");
  } else if (cJSON_IsNumber(item)) {
    snprintf(text, cap, "%.15g (number)", item->valuedouble);
  } else if (cJSON_IsBool(item)) {
    snprintf(text, cap, "%s (boolean)", cJSON_IsTrue(item) ? "true" : "false");
  } else {
    snprintf(text, cap, "%s%s", cJSON_IsNull(item) ? "" : "an ", type);
  }
  return text;
}

int neap__json_mask(cJSON *tree) {
  for (cJSON *child = tree->child, *next; child; child = next) {
    next = child->next;
    if (!neap__json_secret(child->string)) {
      int rc = neap__json_mask(child);
      if (rc) return rc;
      continue;
    }
    cJSON *masked = cJSON_CreateString("***");
    /* cJSON takes the name of the old item only through ByName calls, which copy it. */
    if (!masked || !cJSON_ReplaceItemInObjectCaseSensitive(tree, child->string, masked)) {
      cJSON_Delete(masked);
      return NEAP_ENOMEM;
    }
  }
  return 0;
}
