/* SPDX-License-Identifier: MIT
 *
 * cli/interrupt.h - Ctrl-C for commands that evaluate: one thread takes SIGINT, all others have it blocked.
 *
 * While an evaluation is under way the first SIGINT interrupts it; the second says that this may not be heard; the
 * third ends the program with 130. Otherwise one ends the program, except while a line is edited, when Ctrl-C is a key.
 */
#pragma once
#include "target.h"

/* Before any other thread is started. 0 or NEAP_EIO. */
int neap__interrupt_start(neap_error *err);
/* Whose evaluation begins, NULL: it has ended. Main thread. */
void neap__interrupt_target(neap__target *target);
/* From now on SIGINT means nothing (true): a line is edited, an editor runs; or again what is above (false). */
void neap__interrupt_ignore(bool ignore);
