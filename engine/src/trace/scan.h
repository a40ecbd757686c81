/* SPDX-License-Identifier: MIT
 *
 * trace/scan.h - one line of JSON read in place, field by field, without a tree: traces have millions of numbers, and
 * ids of 64 bits, which a double cannot hold. Strict (RFC 8259); errors name field, value and what was expected. Any
 * thread, one line each. */
#pragma once
#include "base/base.h"

typedef struct neap__scan {
  char *at;
  char field[48];  /* of the object itself, shortened */
  int64_t element; /* of the array in that field, -1 outside */
  bool started;
  neap_error *err;
} neap__scan;

/* Starts at an object. The line is NUL-terminated; strings in it are unescaped in place. 0 or NEAP_EINVAL. */
int neap__scan_open(neap__scan *scan, char *line, neap_error *err);

/* The next field: its name is scan->field, and its value must be read or skipped next. 1, 0 behind the last one (and
 * nothing follows on the line), or NEAP_EINVAL. */
int neap__scan_field(neap__scan *scan);

/* Values. text is valid as long as the line. times are scaled to microseconds, fractions of one dropped. */
int neap__scan_u64(neap__scan *scan, uint64_t max, uint64_t *value);
int neap__scan_time(neap__scan *scan, uint64_t unit_us, uint64_t *us);
int neap__scan_text(neap__scan *scan, const char **text);
int neap__scan_skip(neap__scan *scan);

/* Arrays: scan_array, then a value for each 1 of scan_element, until 0. */
int neap__scan_array(neap__scan *scan);
int neap__scan_element(neap__scan *scan);

/* --- numbers in text (also of CSV) -------------------------------------------------------------------------------- */

/* Decimal digits only. 0, NEAP_EINVAL (something else), NEAP_ELIMIT (larger than 2^64 - 1). */
int neap__text_u64(const char *text, size_t bytes, uint64_t *value);
/* A number that is not negative, with or without fraction and exponent, in units of unit_us microseconds. Errors as
 * above; the limit is 2^63 microseconds. */
int neap__text_time(const char *text, size_t bytes, uint64_t unit_us, uint64_t *us);
