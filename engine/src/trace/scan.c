/* SPDX-License-Identifier: MIT
 *
 * trace/scan.c - see scan.h. */
#include "trace/scan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 32
#define TIME_MAX ((uint64_t)INT64_MAX)

/* --- numbers ------------------------------------------------------------------------------------------------------ */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

int neap__text_u64(const char *text, size_t bytes, uint64_t *value) {
  uint64_t sum = 0;
  bool over = false;
  if (bytes == 0) return NEAP_EINVAL;
  for (size_t i = 0; i < bytes; i++) {
    if (!is_digit(text[i])) return NEAP_EINVAL;
    over |= __builtin_mul_overflow(sum, 10u, &sum) || __builtin_add_overflow(sum, (uint64_t)(text[i] - '0'), &sum);
  }
  *value = sum;
  return over ? NEAP_ELIMIT : 0;
}

/* Bytes of the JSON number at s (RFC 8259, section 6), or 0. */
static size_t number_span(const char *s) {
  size_t n = *s == '-', digits = 0;
  while (is_digit(s[n + digits])) digits++;
  if (digits == 0 || (digits > 1 && s[n] == '0')) return 0;
  n += digits;
  if (s[n] == '.') {
    for (digits = 0; is_digit(s[n + 1 + digits]);) digits++;
    if (digits == 0) return 0;
    n += 1 + digits;
  }
  if (s[n] == 'e' || s[n] == 'E') {
    size_t sign = s[n + 1] == '+' || s[n + 1] == '-';
    for (digits = 0; is_digit(s[n + 1 + sign + digits]);) digits++;
    if (digits == 0) return 0;
    n += 1 + sign + digits;
  }
  return n;
}

int neap__text_time(const char *text, size_t bytes, uint64_t unit_us, uint64_t *us) {
  size_t whole = 0;
  uint64_t units = 0, sum = 0;
  while (whole < bytes && is_digit(text[whole])) whole++;
  if (memchr(text, 'e', bytes) || memchr(text, 'E', bytes)) { /* rare: as exact as a double */
    char *end = NULL, copy[64];
    if (bytes >= sizeof(copy) || whole == 0) return NEAP_EINVAL;
    snprintf(copy, sizeof(copy), "%.*s", (int)bytes, text);
    double value = strtod(copy, &end) * (double)unit_us;
    if (*end || !(value >= 0)) return NEAP_EINVAL;
    if (value >= (double)TIME_MAX) return NEAP_ELIMIT;
    *us = (uint64_t)value;
    return 0;
  }
  int rc = neap__text_u64(text, whole, &units);
  if (rc == NEAP_EINVAL || (whole < bytes && (text[whole] != '.' || whole + 1 == bytes))) return NEAP_EINVAL;
  for (size_t i = whole + 1; i < bytes; i++)
    if (!is_digit(text[i])) return NEAP_EINVAL;
  if (rc != 0 || __builtin_mul_overflow(units, unit_us, &sum)) return NEAP_ELIMIT;
  uint64_t step = unit_us;
  for (size_t i = whole + 1; i < bytes && step >= 10; i++) {
    step /= 10;
    sum += step * (uint64_t)(text[i] - '0'); /* below unit_us in all: no overflow that the check below would miss */
  }
  if (sum > TIME_MAX) return NEAP_ELIMIT;
  *us = sum;
  return 0;
}

/* --- places and errors -------------------------------------------------------------------------------------------- */

static char *skip_space(char *s) {
  while (*s == ' ' || *s == '\t') s++;
  return s;
}

static int bad_json(const neap__scan *scan, const char *expected) {
  if (!*scan->at) return neap__fail(scan->err, NEAP_EINVAL, "the line ends too early; expected %s", expected);
  return neap__fail(scan->err, NEAP_EINVAL, "not JSON at \"%.24s\"; expected %s", scan->at, expected);
}

static int bad_value(const neap__scan *scan, const char *expected) {
  char place[32] = "";
  size_t span = strcspn(scan->at, ",]} \t");
  if (!*scan->at) return bad_json(scan, expected);
  if (scan->element >= 0) snprintf(place, sizeof(place), "[%lld]", (long long)scan->element);
  return neap__fail(scan->err, NEAP_EINVAL, "%s%s is %.*s; expected %s", scan->field, place,
                    (int)NEAP_MIN(span ? span : 1, 40u), scan->at, expected);
}

/* --- strings ------------------------------------------------------------------------------------------------------ */

static int hex4(const char *s, uint32_t *value) {
  *value = 0;
  for (int i = 0; i < 4; i++) {
    char c = s[i];
    if (is_digit(c))
      *value = *value << 4 | (uint32_t)(c - '0');
    else if ((c | 32) >= 'a' && (c | 32) <= 'f')
      *value = *value << 4 | (uint32_t)((c | 32) - 'a' + 10);
    else
      return NEAP_EINVAL;
  }
  return 0;
}

static char *put_utf8(char *to, uint32_t code) {
  if (code < 0x80) {
    *to++ = (char)code;
    return to;
  }
  int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  *to++ = (char)((0xff00u >> (more + 1) & 0xff) | code >> 6 * more);
  while (more-- > 0) *to++ = (char)(0x80 | (code >> 6 * more & 0x3f));
  return to;
}

/* \uXXXX at s, a pair of surrogates included; returns what follows, NULL if it is wrong or stands for a NUL. */
static char *take_unicode(char *s, uint32_t *code) {
  uint32_t low = 0;
  if (hex4(s, code) != 0 || *code == 0 || (*code >= 0xdc00 && *code < 0xe000)) return NULL;
  if (*code < 0xd800 || *code >= 0xe000) return s + 4;
  if (s[4] != '\\' || s[5] != 'u' || hex4(s + 6, &low) != 0 || low < 0xdc00 || low >= 0xe000) return NULL;
  *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
  return s + 10;
}

/* Unescapes the string that scan->at starts, in place, and moves behind it. */
static int take_string(neap__scan *scan, char **text) {
  static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
  if (*scan->at != '"') return bad_json(scan, "a string");
  char *from = scan->at + 1, *to = from;
  *text = to;
  while (*from != '"') {
    if ((unsigned char)*from < 0x20) return bad_json(scan, "a string that is closed and without control characters");
    if (*from != '\\') {
      *to++ = *from++;
      continue;
    }
    const char *name = from[1] ? strchr(names, from[1]) : NULL;
    uint32_t code = 0;
    if (name) {
      *to++ = values[name - names];
      from += 2;
    } else {
      from = from[1] == 'u' ? take_unicode(from + 2, &code) : NULL;
      if (!from) return bad_json(scan, "a string with escapes as JSON has them");
      to = put_utf8(to, code);
    }
  }
  *to = '\0';
  scan->at = from + 1;
  return 0;
}

/* --- structure ---------------------------------------------------------------------------------------------------- */

int neap__scan_open(neap__scan *scan, char *line, neap_error *err) {
  *scan = (neap__scan){.at = skip_space(line), .element = -1, .err = err};
  if (*scan->at != '{') return bad_json(scan, "an object, such as {\"timestamp\": 0, ...}");
  scan->at++;
  return 0;
}

int neap__scan_field(neap__scan *scan) {
  char *name = NULL;
  scan->at = skip_space(scan->at);
  if (*scan->at == '}' || (scan->started && *scan->at != ',')) {
    if (*scan->at != '}') return bad_json(scan, "',' or '}'");
    scan->at = skip_space(scan->at + 1);
    return *scan->at ? bad_json(scan, "nothing behind the object") : 0;
  }
  if (scan->started) scan->at = skip_space(scan->at + 1);
  scan->started = true;
  int rc = take_string(scan, &name);
  if (rc != 0) return rc;
  snprintf(scan->field, sizeof(scan->field), "%s", name);
  scan->at = skip_space(scan->at);
  if (*scan->at != ':') return bad_json(scan, "':'");
  scan->at = skip_space(scan->at + 1);
  return 1;
}

/* Bytes of the number at scan->at, which must be followed by what may follow a value. */
static int number_end(neap__scan *scan, const char *expected, size_t *span) {
  *span = number_span(scan->at);
  if (*span == 0 || !strchr(",]} \t", scan->at[*span])) return bad_value(scan, expected);
  if (scan->at[*span]) return 0;
  scan->at += *span;
  return bad_json(scan, scan->element >= 0 ? "',' or ']'" : "',' or '}'");
}

int neap__scan_u64(neap__scan *scan, uint64_t max, uint64_t *value) {
  char expected[64];
  size_t span = 0;
  snprintf(expected, sizeof(expected), "an integer from 0 to %llu", (unsigned long long)max);
  int rc = number_end(scan, expected, &span);
  if (rc != 0) return rc;
  if (neap__text_u64(scan->at, span, value) != 0 || *value > max) return bad_value(scan, expected);
  scan->at += span;
  return 0;
}

int neap__scan_time(neap__scan *scan, uint64_t unit_us, uint64_t *us) {
  static const char expected[] = "a time, a number that is not negative (at most 2^63 microseconds)";
  size_t span = 0;
  int rc = number_end(scan, expected, &span);
  if (rc != 0) return rc;
  if (neap__text_time(scan->at, span, unit_us, us) != 0) return bad_value(scan, expected);
  scan->at += span;
  return 0;
}

int neap__scan_text(neap__scan *scan, const char **text) {
  char *value = NULL;
  if (*scan->at != '"') return bad_value(scan, "a string");
  int rc = take_string(scan, &value);
  *text = value;
  return rc;
}

int neap__scan_array(neap__scan *scan) {
  if (*scan->at != '[') return bad_value(scan, "an array");
  scan->at++;
  return 0;
}

int neap__scan_element(neap__scan *scan) {
  scan->at = skip_space(scan->at);
  if (*scan->at == ']') {
    scan->at++;
    scan->element = -1;
    return 0;
  }
  if (scan->element >= 0) {
    if (*scan->at != ',') return bad_json(scan, "',' or ']'");
    scan->at = skip_space(scan->at + 1);
  }
  scan->element++;
  return 1;
}

static int skip_value(neap__scan *scan, int depth);

/* What is between the brackets of an array or an object. */
static int skip_members(neap__scan *scan, bool object, int depth) {
  char closing = object ? '}' : ']', *name = NULL;
  if (depth == DEPTH_MAX) return bad_json(scan, "at most 32 levels");
  scan->at = skip_space(scan->at + 1);
  for (bool first = true; first || *scan->at == ','; first = false) {
    if (first && *scan->at == closing) break;
    if (!first) scan->at = skip_space(scan->at + 1);
    if (object) {
      int rc = take_string(scan, &name);
      if (rc != 0) return rc;
      scan->at = skip_space(scan->at);
      if (*scan->at != ':') return bad_json(scan, "':'");
      scan->at = skip_space(scan->at + 1);
    }
    int rc = skip_value(scan, depth + 1);
    if (rc != 0) return rc;
    scan->at = skip_space(scan->at);
  }
  if (*scan->at != closing) return bad_json(scan, "',' or a closing bracket");
  scan->at++;
  return 0;
}

static int skip_value(neap__scan *scan, int depth) {
  static const char *const words[] = {"true", "false", "null"};
  char *text = NULL;
  if (*scan->at == '"') return take_string(scan, &text);
  if (*scan->at == '{' || *scan->at == '[') return skip_members(scan, *scan->at == '{', depth);
  size_t span = number_span(scan->at);
  for (size_t i = 0; span == 0 && i < NEAP_ARRAY_LEN(words); i++)
    if (strncmp(scan->at, words[i], strlen(words[i])) == 0) span = strlen(words[i]);
  if (span == 0) return bad_json(scan, "a value");
  scan->at += span;
  return 0;
}

int neap__scan_skip(neap__scan *scan) { return skip_value(scan, 0); }
