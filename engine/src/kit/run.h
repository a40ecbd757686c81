/* SPDX-License-Identifier: MIT
 *
 * kit/run.h - runs checks, each in a process of its own, so that an adapter that crashes, hangs, ends the program or
 * takes all memory fails one check and the run goes on.
 *
 * The caller has one thread: processes are forked from it before anything of the adapter is loaded. A process of a
 * check has no standard input, writes to a file in memory that is shown when it fails, leaves no core file, and ends
 * with its parent. */
#pragma once
#include "kit/case.h"

typedef struct neap__kit_outcome {
  neap__kit_report report;
  char output[4096]; /* the first bytes that the process printed */
  double ms;
} neap__kit_outcome;

/* Runs neap__checks[index]. progress (may be NULL) is called about every 100 ms with the step and the time since the
 * start. On return outcome->report.result is PASSED, FAILED or SKIPPED. 0, or an error when no process could be made.
 */
int neap__kit_check(const neap__kit_options *options, uint32_t index, neap__kit_outcome *outcome,
                    void (*progress)(void *ctx, const char *step, double ms), void *ctx, neap_error *err);
