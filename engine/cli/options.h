/* SPDX-License-Identifier: MIT
 *
 * cli/options.h - the words of the small commands (check, new, bench): options from a table, the rest in order. The
 * server's flags have a table of their own (flags.h). Values point into argv. Main thread. */
#pragma once
#include "base/base.h"

typedef enum neap__option_kind {
  NEAP_OPTION_SWITCH, /* bool */
  NEAP_OPTION_TEXT,   /* const char * */
  NEAP_OPTION_NUMBER, /* double, within min .. max */
  NEAP_OPTION_BYTES,  /* uint64_t, with K, M or G behind it, within min .. max */
  NEAP_OPTION_LIST,   /* neap__option_list, repeatable */
} neap__option_kind;

#define NEAP_OPTION_LIST_MAX 16u

typedef struct neap__option_list {
  const char *words[NEAP_OPTION_LIST_MAX];
  uint32_t count;
} neap__option_list;

typedef struct neap__option {
  const char *name; /* without the dashes */
  neap__option_kind kind;
  void *value;
  double min, max;
} neap__option;

/* Reads argv[1] and on; words that are no options go to words, *words_count of at most words_max. 0, or NEAP_EINVAL
 * with the word and what was expected. "--" ends the options. */
int neap__options_parse(int argc, char **argv, const neap__option *table, size_t count, const char **words,
                        size_t words_max, size_t *words_count, neap_error *err);
/* The same for options that end at the first word: *rest is its index in argv, argc if there is none. */
int neap__options_before(int argc, char **argv, const neap__option *table, size_t count, int *rest, neap_error *err);
