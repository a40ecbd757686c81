/* SPDX-License-Identifier: MIT
 *
 * replay/chart.h - charts as SVG inside an HTML page, drawn here so that the page needs no script and no network.
 *
 * Every mark carries a <title>, which browsers show as a tooltip and screen readers read, and its value in data-
 * attributes. Colours are the page's: series n has the class s<n>, and a shape of its own, so that colour alone never
 * tells two apart. Numbers are written the same on every machine. */
#pragma once
#include <stdio.h>

#include "base/base.h"

#define NEAP__CHART_COLOURS 8

typedef enum neap__chart_unit {
  NEAP_CHART_COUNT,   /* 1,234 or 1.2M */
  NEAP_CHART_PERCENT, /* of a value from 0 to 1 */
  NEAP_CHART_SECONDS,
} neap__chart_unit;

/* x ascending. style: which colour and shape; a guide is a thin line without marks or a place in the order of styles.
 */
typedef struct neap__chart_series {
  const char *name;
  const double *x, *y; /* [count]; a y that is NAN leaves a gap */
  uint32_t count, style;
  bool guide;
} neap__chart_series;

/* Lines over a numeric axis. id: unique in the page; title and about are for those who cannot see the chart; marks: a
 * mark at each point of all series but guides, and numbers below those of the first one. The y axis is in percent, from
 * 0 to a little above what there is. */
typedef struct neap__chart_lines {
  const char *id, *title, *about, *x_label, *y_label;
  neap__chart_unit x_unit;
  bool x_log, marks;
  const neap__chart_series *series;
  uint32_t count;
} neap__chart_lines;
void neap__chart_draw_lines(FILE *out, const neap__chart_lines *chart);

/* Groups of bars, one bar for each series in each group: value[group * count + series]; NAN: no bar. share: values are
 * from 0 to 1, in percent, else counts. */
typedef struct neap__chart_bars {
  const char *id, *title, *about, *x_label, *y_label;
  const char *const *group; /* [groups] labels */
  const char *const *series;
  const double *value;
  uint32_t groups, count;
  bool share;
} neap__chart_bars;
void neap__chart_draw_bars(FILE *out, const neap__chart_bars *chart);

/* A mark of that style for a legend, as inline SVG. */
void neap__chart_draw_key(FILE *out, uint32_t style);

/* Text with &, <, > and quotes escaped; bytes that are no UTF-8 become U+FFFD. NULL is "". */
void neap__chart_text(FILE *out, const char *text);

/* "1,234,567". Returns text. */
const char *neap__chart_commas(uint64_t value, char text[32]);
/* "5 %", "12.34 %", "1.2M", "1 h 30 min"; returns text. */
const char *neap__chart_value(double value, neap__chart_unit unit, char text[32]);
