/* SPDX-License-Identifier: MIT
 *
 * cli/plot.h - curves in a terminal: lines of braille dots, or of ASCII where the terminal has no Unicode, with a
 * letter at each point, so that colour only helps. Any thread. */
#pragma once
#include <stdio.h>

#include "base/base.h"

typedef struct neap__plot_series {
  const char *name;
  const double *x, *y; /* [count]; a y that is NAN is left out */
  uint32_t count;
} neap__plot_series;

/* y is from 0 to 1, drawn up to the next tenth above what there is. x_name writes what stands below a value of x.
 * points: letters at the points, and values of x below them; else letters at the ends, and the first and last x.
 * columns: of the whole plot. */
typedef struct neap__plot {
  const char *title;
  const neap__plot_series *series;
  uint32_t count;
  const char *(*x_name)(double x, char text[32]);
  bool x_log, points;
  bool unicode, colour;
  uint32_t columns, rows;
} neap__plot;

/* Nothing is drawn if there are fewer than two points. */
void neap__plot_draw(FILE *out, const neap__plot *plot);

/* What a stream can show: LC_ALL, LC_CTYPE and LANG decide about Unicode; colour is for terminals, unless NO_COLOR is
 * set or TERM is "dumb". columns: of the terminal, 80 for anything else; at most 120. */
typedef struct neap__plot_style {
  bool terminal, unicode, colour;
  uint32_t columns;
} neap__plot_style;
void neap__plot_style_of(FILE *stream, neap__plot_style *out);

/* The letter of a series: A .. Z, a .. z, then '+'. The escape sequence of its colour, "" without colour. */
char neap__plot_letter(uint32_t series);
const char *neap__plot_colour(const neap__plot_style *style, uint32_t series);
