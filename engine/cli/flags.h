/* SPDX-License-Identifier: MIT
 *
 * cli/flags.h - the flags of `neap server`: one table that the parser, --help, /config and the man page's test read.
 *
 * The names and defaults are those of `lmcache server` 0.5.6; a few more are neap's own. Values are looked up by
 * name; a name that is not in the table, or a value of another kind, is a programming error and ends the program.
 * Parsed values point into argv. Single-threaded. */
#pragma once
#include <stdio.h>

#include "base/base.h"

typedef enum neap__flag_kind {
  NEAP_FLAG_SWITCH, /* --x */
  NEAP_FLAG_BOOL,   /* --x and --no-x */
  NEAP_FLAG_INT,    /* --x 5, within min .. max */
  NEAP_FLAG_NUMBER, /* --x 0.5, within min .. max */
  NEAP_FLAG_TEXT,   /* --x word */
  NEAP_FLAG_CHOICE, /* --x one of range, "a|b|c" */
  NEAP_FLAG_LIST,   /* --x word, repeatable */
  NEAP_FLAG_WORDS,  /* --x word word ..., up to the next flag */
} neap__flag_kind;

typedef enum neap__flag_effect {
  NEAP_FLAG_ACTS,
  NEAP_FLAG_SHOWN, /* LMCache acts on it, neap has nothing that it could apply to: help says why */
  NEAP_FLAG_INERT, /* belongs to a part of LMCache that neap does not have */
} neap__flag_effect;

typedef struct neap__flag {
  const char *name; /* without the dashes */
  neap__flag_kind kind;
  neap__flag_effect effect;
  const char *fallback; /* default as text; NULL: none ("", empty list, or not set) */
  const char *range;    /* choices of a CHOICE, else the name of the value in --help */
  double min, max;      /* of INT and NUMBER */
  const char *help;
} neap__flag;

const neap__flag *neap__flag_table(size_t *count);

typedef struct neap__flags neap__flags;

/* Parses argv[1] and on. 0 and *out (neap__flags_free), or NEAP_EINVAL with the flag, its value and what was expected,
 * or NEAP_ENOMEM. `--help` and `-h` win over everything else: then *help is true and *out is NULL. */
int neap__flags_parse(int argc, char **argv, neap__flags **out, bool *help, neap_error *err);
void neap__flags_free(neap__flags *flags);

bool neap__flags_given(const neap__flags *flags, const char *name);
bool neap__flags_on(const neap__flags *flags, const char *name);
int64_t neap__flags_int(const neap__flags *flags, const char *name);
double neap__flags_number(const neap__flags *flags, const char *name);
const char *neap__flags_text(const neap__flags *flags, const char *name); /* TEXT, CHOICE; NULL if not set */
/* LIST and WORDS: the words and how many. */
const char *const *neap__flags_list(const neap__flags *flags, const char *name, uint32_t *count);

/* Logs one warning for each given flag that has no effect here. */
void neap__flags_warn(const neap__flags *flags);
void neap__flags_print_help(FILE *out);
