/* SPDX-License-Identifier: MIT
 *
 * replay/report.h - the results of replays as one HTML page that needs nothing else: no network, no script.
 *
 * The page is written trace by trace, so that a trace may go before the next one comes, and appears whole or not at
 * all. The same results give the same bytes. One thread. */
#pragma once
#include "replay/replay.h"

/* One trace under every policy and size: runs[size * policies + policy]. reuse may be NULL. */
typedef struct neap__replay_study {
  const neap__replay_input *input;
  const neap__replay_reuse *reuse;
  const neap__replay_options *options;
  const neap__policy_spec *policy;
  const neap__replay_size *size;
  uint32_t policies, sizes;
  const neap__replay_run *runs;
} neap__replay_study;

typedef struct neap__report neap__report;

/* 0, NEAP_EIO or NEAP_ENOMEM, with the path and the reason in err. */
int neap__report_open(const char *path, neap__report **out, neap_error *err);
int neap__report_add(neap__report *report, const neap__replay_study *study, neap_error *err);
/* Ends the page. keep: it appears at its path; else nothing is left of it. Frees the report in any case. */
int neap__report_close(neap__report *report, bool keep, neap_error *err);

/* Ratios of a run, of a share; 0 of nothing. */
double neap__replay_block_ratio(const neap__replay_run *run);
double neap__replay_prefix_ratio(const neap__replay_run *run);
/* The size of a run as a share of what the trace refers to: as it was asked for, if in percent. */
double neap__replay_fraction(const neap__replay_study *study, const neap__replay_run *run);
/* What is shown first: the size in the middle of those asked for. */
uint32_t neap__replay_middle(const neap__replay_study *study);
