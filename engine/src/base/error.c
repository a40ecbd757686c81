/* SPDX-License-Identifier: MIT
 *
 * base/error.c - error codes as words, error sentences, "did you mean", and the end of a program that broke its own
 * promise. No state, no allocation; any thread. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define WORD_MAX 63u /* longer words are nobody's typing error */

const char *neap_strerror(int code) {
  switch (code) {
    case NEAP_OK: return "no error";
#define XX(name, number, text) \
  case NEAP_##name: return text;
      NEAP_ERR_MAP(XX)
#undef XX
    default: return "unknown error";
  }
}

const char *neap_err_name(int code) {
  switch (code) {
    case NEAP_OK: return "NEAP_OK";
#define XX(name, number, text) \
  case NEAP_##name: return "NEAP_" #name;
      NEAP_ERR_MAP(XX)
#undef XX
    default: return "NEAP_UNKNOWN";
  }
}

void neap__assert_failed(const char *file, int line, const char *cond) {
  neap__log(NEAP_ERROR, file, line, "internal promise broken: %s", cond);
  neap__log_flush();
  abort();
}

int neap__fail(neap_error *err, int code, const char *fmt, ...) {
  if (!err) return code;

  va_list args;
  va_start(args, fmt);
  if (vsnprintf(err->text, sizeof(err->text), fmt, args) < 0) err->text[0] = '\0';
  va_end(args);
  return code;
}

static bool same_letter(char a, char b) { return tolower((unsigned char)a) == tolower((unsigned char)b); }

/* Edits between two words within WORD_MAX: insert, delete, replace, or swap two neighbours (the restricted distance of
 * Damerau, "A technique for computer detection and correction of spelling errors", 1964). Case does not count. */
static size_t distance(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
  size_t rows[3][WORD_MAX + 1];

  for (size_t j = 0; j <= b_bytes; j++) rows[0][j] = j;
  for (size_t i = 1; i <= a_bytes; i++) {
    size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
    row[0] = i;
    for (size_t j = 1; j <= b_bytes; j++) {
      size_t replaced = above[j - 1] + !same_letter(a[i - 1], b[j - 1]);
      row[j] = NEAP_MIN(replaced, NEAP_MIN(above[j], row[j - 1]) + 1);
      bool swapped = i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) && same_letter(a[i - 2], b[j - 1]);
      if (swapped) row[j] = NEAP_MIN(row[j], above2[j - 2] + 1);
    }
  }
  return rows[a_bytes % 3][b_bytes];
}

const char *neap__nearest(const char *word, const char *const *names, size_t count) {
  size_t word_bytes = strlen(word);
  if (word_bytes > WORD_MAX) return NULL;

  const char *best = NULL;
  size_t limit = NEAP_MAX(word_bytes / 3, (size_t)1);
  for (size_t i = 0; i < count; i++) {
    size_t bytes = names[i] ? strlen(names[i]) : SIZE_MAX;
    if (bytes > WORD_MAX) continue;
    size_t d = distance(word, word_bytes, names[i], bytes);
    if (d < limit || (d == limit && !best)) {
      best = names[i];
      limit = d;
    }
  }
  return best;
}
