/* SPDX-License-Identifier: MIT
 *
 * cli/progress.h - a bar on the terminal for what takes more than two seconds: on stderr, and only if that is a
 * terminal; without colour under NO_COLOR. One thread at a time. */
#pragma once
#include "base/base.h"

typedef struct neap__progress {
  bool live, colour, shown;
  uint64_t started_ns, drawn_ns;
  char what[64];
} neap__progress;

/* what: "reading x.jsonl", cut to fit. */
void neap__progress_open(neap__progress *progress, const char *what);
/* May be called as often as one likes. total 0: unknown, then the amount is shown without a bar. */
void neap__progress_say(neap__progress *progress, uint64_t done, uint64_t total);
/* Takes the bar away. */
void neap__progress_close(neap__progress *progress);
