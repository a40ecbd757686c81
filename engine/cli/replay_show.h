/* SPDX-License-Identifier: MIT
 *
 * cli/replay_show.h - the results of `neap replay` as lines of JSON, and as a table with a plot. Main thread. */
#pragma once
#include "plot.h"
#include "replay/report.h"

/* One object per run, on a line of its own. accesses_per_s is measured; everything else is the same every time. */
void neap__replay_show_json(FILE *out, const neap__replay_study *study);

/* What the trace is, a line per run, hit ratios as a plot. Nothing measured. */
void neap__replay_show_text(FILE *out, const neap__replay_study *study, const neap__plot_style *style);
