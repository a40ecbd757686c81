/* SPDX-License-Identifier: MIT
 *
 * cli/ctl.h - what the files of `neap ctl` and `neap top` share: the words and options, one request, printing for
 * people. Single-threaded. */
#pragma once
#include "ctl_http.h"

#define NEAP_CTL_WORDS_MAX 64

typedef struct neap__ctl {
  const char *url, *grace, *trial, *bound, *hash, *tokens, *model, *world, *salt; /* NULL: not given */
  bool json, cold;
  int count; /* words behind "ctl" that are no options */
  char *words[NEAP_CTL_WORDS_MAX];
} neap__ctl;

/* A command and how many words may stand behind it. run returns the exit status. */
typedef struct neap__ctl_verb {
  const char *name, *takes;
  int (*run)(const neap__ctl *r);
  int least, most;
} neap__ctl_verb;

/* Runs the command that word `at` names; at most 8 in a table. Returns the exit status. */
int neap__ctl_verbs(const neap__ctl *r, int at, const char *what, const neap__ctl_verb *table, size_t count);
int neap__ctl_policy(const neap__ctl *r);
int neap__ctl_explain(const neap__ctl *r);
int neap__ctl_record(const neap__ctl *r);

/* One request, its answer printed: by print, or as it is with --json. Returns the exit status. */
int neap__ctl_ask(const neap__ctl *r, const char *method, const char *path, const char *body,
                  void (*print)(const cJSON *answer));

/* Says what is wrong with the command line; returns 2. */
int neap__ctl_usage(const char *fmt, ...) NEAP_PRINTF(1, 2);
/* NEAP_URL, else where a server is by default. */
const char *neap__ctl_default_url(void);

bool neap__ctl_coloured(void);
const char *neap__ctl_text(const cJSON *object, const char *name);  /* "-" if it is no text */
double neap__ctl_number(const cJSON *object, const char *name);     /* 0 if it is no number */
const char *neap__ctl_bytes(double bytes, char *text, size_t room); /* "1.5 GiB" */
/* What a server says goes to the terminal without its control characters. colour: of SGR, "" for none. */
void neap__ctl_cell(const char *text, int width, const char *colour);
