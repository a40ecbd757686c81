/* SPDX-License-Identifier: MIT
 *
 * cli/line_edit.h - lines from a person: editing, history and completion by libedit; or from a pipe, plainly. One per
 * process. Main thread. */
#pragma once
#include "base/base.h"

typedef struct neap__line_edit neap__line_edit;

typedef enum neap__line {
  NEAP_LINE,        /* *text is there */
  NEAP_LINE_END,    /* end of input */
  NEAP_LINE_CANCEL, /* Ctrl-C */
} neap__line;

typedef struct neap__line_config {
  bool interactive;    /* false: lines of stdin, no prompt, no history */
  const char *history; /* file, read now and written at close; NULL: none */
  /* The line up to the cursor -> how many of its bytes are to be replaced, and candidates, malloc'd: one per line. */
  char *(*complete)(void *ctx, const char *text, size_t *replaced);
  void *ctx;
} neap__line_config;

/* 0 or NEAP_ENOMEM. */
int neap__line_edit_open(const neap__line_config *config, neap__line_edit **out);
void neap__line_edit_close(neap__line_edit *edit);

/* *text: without its newline, valid until the next call. Adds the line to the history. */
neap__line neap__line_edit_read(neap__line_edit *edit, const char *prompt, const char **text);
