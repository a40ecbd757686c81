/* SPDX-License-Identifier: MIT
 *
 * l2/pace.h - how long operations take by their size, as of late: a straight line through what was measured, older
 * measurements counting less (least squares with exponential forgetting). One thread at a time. */
#pragma once
#include <math.h>

typedef struct neap__pace {
  double count, x, y, xx, xy; /* decayed sums over MiB and microseconds */
} neap__pace;

#define NEAP_PACE_FADES 0.97 /* what a measurement still counts when the next one has come */

static inline void neap__pace_note(neap__pace *p, double mib, double us) {
  const double sums[] = {1, mib, us, mib * mib, mib * us};
  double *const of[] = {&p->count, &p->x, &p->y, &p->xx, &p->xy};
  for (int i = 0; i < 5; i++) *of[i] = *of[i] * NEAP_PACE_FADES + sums[i];
}

/* What an operation takes whatever its size, and each MiB more; neither is negative. Sizes that hardly differ do not
 * tell the two apart: then all of it is said to be by size. 0, 0 before the first measurement. */
static inline void neap__pace_get(const neap__pace *p, double *first_us, double *us_per_mib) {
  double spread = p->count * p->xx - p->x * p->x;
  *first_us = 0;
  *us_per_mib = p->x > 0 ? p->y / p->x : 0;
  if (spread < 1e-3 * p->x * p->x || p->x <= 0) return;
  double slope = fmax((p->count * p->xy - p->x * p->y) / spread, 0), first = (p->y - slope * p->x) / p->count;
  if (first < 0) return;
  *first_us = first;
  *us_per_mib = slope;
}
