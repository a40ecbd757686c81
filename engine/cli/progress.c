/* SPDX-License-Identifier: MIT
 *
 * cli/progress.c - see progress.h. */
#include "progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_NS 2000000000u
#define REDRAW_NS 100000000u
#define BAR_CELLS 30

void neap__progress_open(neap__progress *progress, const char *what) {
  const char *terminal = getenv("TERM");
  *progress = (neap__progress){.started_ns = neap__now_ns()};
  progress->live = isatty(STDERR_FILENO) && (!terminal || strcmp(terminal, "dumb") != 0);
  progress->colour = progress->live && !getenv("NO_COLOR");
  snprintf(progress->what, sizeof(progress->what), "%s", what);
}

static void draw(const neap__progress *progress, double share, double seconds) {
  char bar[BAR_CELLS + 1];
  int full = (int)(share * BAR_CELLS);
  memset(bar, '#', sizeof(bar) - 1);
  memset(bar + full, '.', (size_t)(BAR_CELLS - full));
  bar[BAR_CELLS] = '\0';
  fprintf(stderr, "\r\x1b[K%s %s[%s]%s %3.0f %%", progress->what, progress->colour ? "\x1b[36m" : "", bar,
          progress->colour ? "\x1b[0m" : "", share * 100);
  if (share > 0.01) fprintf(stderr, ", %.0f s left", seconds / share - seconds);
}

void neap__progress_say(neap__progress *progress, uint64_t done, uint64_t total) {
  if (!progress->live) return;
  uint64_t now = neap__now_ns();
  if (now - progress->started_ns < PATIENCE_NS || now - progress->drawn_ns < REDRAW_NS) return;
  progress->drawn_ns = now;
  progress->shown = true;
  if (total > 0)
    draw(progress, (double)NEAP_MIN(done, total) / (double)total, (double)(now - progress->started_ns) / 1e9);
  else
    fprintf(stderr, "\r\x1b[K%s: %llu so far", progress->what, (unsigned long long)done);
  fflush(stderr);
}

void neap__progress_close(neap__progress *progress) {
  if (progress->shown) fputs("\r\x1b[K", stderr);
  fflush(stderr);
  progress->live = progress->shown = false;
}
