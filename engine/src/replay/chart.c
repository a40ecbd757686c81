/* SPDX-License-Identifier: MIT
 *
 * replay/chart.c - see chart.h. */
#include "replay/chart.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of a chart, in user units; the page scales it. */
#define WIDTH 560.0
#define HEIGHT 300.0
#define LEFT 58.0
#define RIGHT 104.0 /* names of the lines are written there */
#define TOP 14.0
#define BOTTOM 44.0
#define INNER_W (WIDTH - LEFT - RIGHT)
#define INNER_H (HEIGHT - TOP - BOTTOM)
#define NAME_GAP 13.0 /* between two names of lines */
#define TICKS 6
#define TICK_GAP 40.0
#define NAMES_MAX 64u

/* --- text --------------------------------------------------------------------------------------------------------- */

/* Bytes of the UTF-8 sequence at text, 0 if there is none (RFC 3629: no overlong forms, no surrogates). */
static size_t sequence(const unsigned char *text) {
  if (text[0] < 0x80) return text[0] >= 0x20 || text[0] == '\t' || text[0] == '\n';
  size_t n = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
  if (text[0] < 0xc2 || text[0] > 0xf4) return 0;
  for (size_t i = 1; i < n; i++)
    if ((text[i] & 0xc0) != 0x80) return 0;
  if (text[0] == 0xe0 && text[1] < 0xa0) return 0;
  if (text[0] == 0xed && text[1] > 0x9f) return 0;
  if (text[0] == 0xf0 && text[1] < 0x90) return 0;
  if (text[0] == 0xf4 && text[1] > 0x8f) return 0;
  return n;
}

void neap__chart_text(FILE *out, const char *text) {
  const unsigned char *at = (const unsigned char *)(text ? text : "");
  while (*at) {
    size_t n = sequence(at);
    switch (*at) {
      case '&': fputs("&amp;", out); break;
      case '<': fputs("&lt;", out); break;
      case '>': fputs("&gt;", out); break;
      case '"': fputs("&quot;", out); break;
      case '\'': fputs("&#39;", out); break;
      default:
        if (n)
          fwrite(at, 1, n, out);
        else
          fputs("\xef\xbf\xbd", out);
    }
    at += n ? n : 1;
  }
}

const char *neap__chart_commas(uint64_t value, char text[32]) {
  char digits[24];
  size_t count = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, value), to = 0;
  for (size_t i = 0; i < count; i++) {
    if (i && (count - i) % 3 == 0) text[to++] = ',';
    text[to++] = digits[i];
  }
  text[to] = '\0';
  return text;
}

/* At most `places` digits behind the point, without zeros at the end. */
static void trimmed(double value, int places, char *text, size_t cap) {
  snprintf(text, cap, "%.*f", places, value);
  if (!strchr(text, '.')) return;
  size_t n = strlen(text);
  while (text[n - 1] == '0') text[--n] = '\0';
  if (text[n - 1] == '.') text[n - 1] = '\0';
}

/* Two units at most, the second one only if it is not zero: "1 h 30 min", "2 h". */
static const char *duration(double s, char text[32]) {
  static const struct {
    double most, first, second;
    const char *first_name, *second_name;
  } scales[] = {{3600, 60, 1, "min", "s"}, {172800, 3600, 60, "h", "min"}, {INFINITY, 86400, 3600, "d", "h"}};
  if (s < 60) {
    trimmed(s, s < 10 ? 1 : 0, text, 28);
    strncat(text, " s", 3);
    return text;
  }
  size_t i = 0;
  while (s >= scales[i].most) i++;
  uint64_t whole = (uint64_t)(s / scales[i].first), rest = (uint64_t)(fmod(s, scales[i].first) / scales[i].second);
  if (rest)
    snprintf(text, 32, "%" PRIu64 " %s %" PRIu64 " %s", whole, scales[i].first_name, rest, scales[i].second_name);
  else
    snprintf(text, 32, "%" PRIu64 " %s", whole, scales[i].first_name);
  return text;
}

const char *neap__chart_value(double value, neap__chart_unit unit, char text[32]) {
  static const char *const suffix[] = {"", "k", "M", "G", "T"};
  if (unit == NEAP_CHART_SECONDS) return duration(value, text);
  if (unit == NEAP_CHART_PERCENT) {
    trimmed(value * 100, value < 0.01 ? 4 : 2, text, 28);
    strncat(text, " %", 3);
    return text;
  }
  size_t s = 0;
  for (; value >= 9999.5 && s + 1 < NEAP_ARRAY_LEN(suffix); s++) value /= 1000;
  trimmed(value, s ? 1 : 2, text, 28);
  strncat(text, suffix[s], 2);
  return text;
}

/* --- axes --------------------------------------------------------------------------------------------------------- */

typedef struct axis {
  double least, most, from, to; /* values and where they are */
  bool log;
} axis;

static double place(const axis *a, double value) {
  double least = a->log ? log(a->least) : a->least, most = a->log ? log(a->most) : a->most;
  double at = a->log ? log(value) : value;
  return most > least ? a->from + (at - least) / (most - least) * (a->to - a->from) : (a->from + a->to) / 2;
}

/* The step of 1, 2 or 5 times a power of ten that gives at most `ticks` of them. */
static double step_for(double span, int ticks) {
  double step = pow(10, floor(log10(span / ticks)));
  static const double factor[] = {1, 2, 5, 10};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(factor); i++)
    if (span / (step * factor[i]) <= ticks) return step * factor[i];
  return step * 10;
}

static double time_step(double span) {
  static const double steps[] = {1,    2,    5,    10,    15,    30,    60,    120,    300,    600,   900,
                                 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(steps); i++)
    if (span / steps[i] <= TICKS) return steps[i];
  return step_for(span / 86400, TICKS) * 86400;
}

static void open_svg(FILE *out, const char *id, const char *title, const char *about) {
  fprintf(out, "<svg class=\"chart\" id=\"");
  neap__chart_text(out, id);
  fprintf(out, "\" viewBox=\"0 0 %g %g\" role=\"img\" aria-labelledby=\"", WIDTH, HEIGHT);
  neap__chart_text(out, id);
  fputs("-t ", out);
  neap__chart_text(out, id);
  fputs("-d\">\n<title id=\"", out);
  neap__chart_text(out, id);
  fputs("-t\">", out);
  neap__chart_text(out, title);
  fputs("</title>\n<desc id=\"", out);
  neap__chart_text(out, id);
  fputs("-d\">", out);
  neap__chart_text(out, about);
  fputs("</desc>\n", out);
}

static void label(FILE *out, double x, double y, const char *class, const char *text) {
  fprintf(out, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", class, x, y);
  neap__chart_text(out, text);
  fputs("</text>\n", out);
}

static void draw_y_axis(FILE *out, const axis *y, double step, neap__chart_unit unit, const char *name, double right) {
  char text[32];
  for (double v = y->least; v <= y->most * (1 + 1e-9); v += step) {
    double at = place(y, v);
    fprintf(out, "<line class=\"grid\" x1=\"%g\" x2=\"%g\" y1=\"%.1f\" y2=\"%.1f\"/>\n", LEFT, right, at, at);
    fprintf(out, "<text class=\"y tick\" data-value=\"%.6g\" x=\"%g\" y=\"%.1f\">", v, LEFT - 7, at + 4);
    neap__chart_text(out, neap__chart_value(v, unit, text));
    fputs("</text>\n", out);
  }
  fprintf(out, "<text class=\"y name\" transform=\"translate(12 %.1f) rotate(-90)\">", TOP + INNER_H / 2);
  neap__chart_text(out, name);
  fputs("</text>\n", out);
}

static void x_tick(FILE *out, const axis *x, double value, neap__chart_unit unit) {
  char text[32];
  double at = place(x, value);
  fprintf(out, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%g\" y2=\"%g\"/>\n", at, at, HEIGHT - BOTTOM,
          HEIGHT - BOTTOM + 4);
  fprintf(out, "<text class=\"x tick\" data-value=\"%.9g\" x=\"%.1f\" y=\"%g\">", value, at, HEIGHT - BOTTOM + 17);
  neap__chart_text(out, neap__chart_value(value, unit, text));
  fputs("</text>\n", out);
}

/* Ticks at the points themselves, as far as their numbers have room. */
static void tick_points(FILE *out, const axis *x, neap__chart_unit unit, const neap__chart_series *s) {
  double last = -INFINITY;
  for (uint32_t i = 0; i < s->count; i++) {
    double at = place(x, s->x[i]);
    if (at - last < TICK_GAP) continue;
    x_tick(out, x, s->x[i], unit);
    last = at;
  }
}

/* points: whose marks are to be numbered, or NULL. */
static void draw_x_axis(FILE *out, const axis *x, neap__chart_unit unit, const char *name,
                        const neap__chart_series *points) {
  fprintf(out, "<line class=\"axis\" x1=\"%g\" x2=\"%g\" y1=\"%g\" y2=\"%g\"/>\n", LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM,
          HEIGHT - BOTTOM);
  if (points) {
    tick_points(out, x, unit, points);
  } else if (x->log) {
    static const double one[] = {1}, three[] = {1, 2, 5};
    bool wide = x->most / x->least > 1000;
    const double *mark = wide ? one : three;
    size_t marks = wide ? 1 : 3;
    for (double decade = pow(10, floor(log10(x->least))); decade <= x->most; decade *= 10)
      for (size_t i = 0; i < marks; i++)
        if (decade * mark[i] >= x->least * (1 - 1e-9) && decade * mark[i] <= x->most * (1 + 1e-9))
          x_tick(out, x, decade * mark[i], unit);
  } else if (x->most > x->least) {
    double step = unit == NEAP_CHART_SECONDS ? time_step(x->most - x->least) : step_for(x->most - x->least, TICKS);
    for (double v = ceil(x->least / step) * step; v <= x->most * (1 + 1e-9); v += step) x_tick(out, x, v, unit);
  } else {
    x_tick(out, x, x->least, unit);
  }
  label(out, LEFT + INNER_W / 2, HEIGHT - 6, "x name", name);
}

/* --- marks -------------------------------------------------------------------------------------------------------- */

/* The outline of the mark of a style, around the origin. */
static const char *shape(uint32_t style) {
  static const char *const shapes[] = {
      "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",                                       /* circle */
      "M-3.6-3.6h7.2v7.2h-7.2z",                                                   /* square */
      "M0-4.8L4.8 0L0 4.8L-4.8 0z",                                                /* diamond */
      "M0-4.6L4.4 3.4H-4.4z",                                                      /* triangle */
      "M0 4.6L4.4-3.4H-4.4z",                                                      /* triangle upside down */
      "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",                                     /* plus */
      "M0-5L1.5-1.6L5-1.4L2.3 .9L3.2 4.4L0 2.5L-3.2 4.4L-2.3 .9L-5-1.4L-1.5-1.6z", /* star */
  };
  return shapes[style % NEAP_ARRAY_LEN(shapes)];
}

void neap__chart_draw_key(FILE *out, uint32_t style) {
  fprintf(
      out,
      "<svg class=\"key s%u%s\" viewBox=\"-12 -6 24 12\" aria-hidden=\"true\"><path class=\"line\" d=\"M-11 0H11\"/>"
      "<path class=\"mark\" d=\"%s\"/></svg>",
      style % NEAP__CHART_COLOURS, style / NEAP__CHART_COLOURS % 2 ? " again" : "", shape(style));
}

/* --- lines -------------------------------------------------------------------------------------------------------- */

static void draw_series(FILE *out, const neap__chart_lines *chart, const neap__chart_series *s, const axis *x,
                        const axis *y) {
  char at[32], value[32];
  fprintf(out, "<g class=\"%s s%u%s\" data-series=\"", s->guide ? "guide" : "series", s->style % NEAP__CHART_COLOURS,
          s->style / NEAP__CHART_COLOURS % 2 ? " again" : "");
  neap__chart_text(out, s->name);
  fputs("\">\n<path class=\"line\" d=\"", out);
  bool pen = false;
  for (uint32_t i = 0; i < s->count; i++) {
    if (isnan(s->y[i])) {
      pen = false;
      continue;
    }
    fprintf(out, "%c%.1f %.1f", pen ? 'L' : 'M', place(x, s->x[i]), place(y, s->y[i]));
    pen = true;
  }
  fputs("\"><title>", out);
  neap__chart_text(out, s->name);
  fputs("</title></path>\n", out);
  for (uint32_t i = 0; i < s->count && chart->marks && !s->guide; i++) {
    if (isnan(s->y[i])) continue;
    fprintf(out, "<path class=\"mark\" data-x=\"%.9g\" data-y=\"%.6f\" transform=\"translate(%.2f %.2f)\" d=\"%s\">",
            s->x[i], s->y[i], place(x, s->x[i]), place(y, s->y[i]), shape(s->style));
    fputs("<title>", out);
    neap__chart_text(out, s->name);
    fprintf(out, ": %s at %s</title></path>\n", neap__chart_value(s->y[i], NEAP_CHART_PERCENT, value),
            neap__chart_value(s->x[i], chart->x_unit, at));
  }
  fputs("</g>\n", out);
}

typedef struct name_place {
  const neap__chart_series *series;
  double y;
} name_place;

static int higher(const void *a, const void *b) {
  const name_place *p = a, *q = b;
  return p->y < q->y ? -1 : p->y > q->y ? 1 : p->series < q->series ? -1 : p->series > q->series;
}

/* Names beside the ends of their lines, moved apart where lines end close together. */
static void draw_names(FILE *out, const neap__chart_lines *chart, const axis *y) {
  name_place names[NAMES_MAX];
  uint32_t count = 0;
  for (uint32_t i = 0; i < chart->count && count < NAMES_MAX; i++) {
    const neap__chart_series *s = &chart->series[i];
    uint32_t last = s->count;
    while (last > 0 && isnan(s->y[last - 1])) last--;
    if (!s->guide && last > 0) names[count++] = (name_place){s, place(y, s->y[last - 1])};
  }
  if (count == 0 || (count - 1) * NAME_GAP > INNER_H) return; /* the legend has them */
  qsort(names, count, sizeof(*names), higher);
  for (uint32_t i = 1; i < count; i++) names[i].y = fmax(names[i].y, names[i - 1].y + NAME_GAP);
  double floor_y = HEIGHT - BOTTOM;
  for (uint32_t i = count; i-- > 0; floor_y = names[i].y - NAME_GAP) names[i].y = fmin(names[i].y, floor_y);
  for (uint32_t i = 0; i < count; i++) {
    char class[32];
    snprintf(class, sizeof(class), "end s%u", names[i].series->style % NEAP__CHART_COLOURS);
    label(out, WIDTH - RIGHT + 9, names[i].y + 4, class, names[i].series->name);
  }
}

void neap__chart_draw_lines(FILE *out, const neap__chart_lines *chart) {
  axis x = {.least = INFINITY, .most = -INFINITY, .from = LEFT, .to = WIDTH - RIGHT, .log = chart->x_log};
  axis y = {.from = HEIGHT - BOTTOM, .to = TOP};
  for (uint32_t i = 0; i < chart->count; i++)
    for (uint32_t k = 0; k < chart->series[i].count; k++) {
      y.most = fmax(y.most, chart->series[i].y[k]); /* not NAN, if there is a number */
      x.least = fmin(x.least, chart->series[i].x[k]);
      x.most = fmax(x.most, chart->series[i].x[k]);
    }
  double step = y.most > 0.5 ? 0.2 : y.most > 0.2 ? 0.1 : y.most > 0.1 ? 0.05 : 0.02;
  y.most = fmin(1, fmax(step, ceil(y.most / step - 1e-9) * step));
  open_svg(out, chart->id, chart->title, chart->about);
  draw_y_axis(out, &y, step, NEAP_CHART_PERCENT, chart->y_label, WIDTH - RIGHT);
  draw_x_axis(out, &x, chart->x_unit, chart->x_label, chart->marks && chart->count ? &chart->series[0] : NULL);
  for (uint32_t i = 0; i < chart->count; i++)
    if (chart->series[i].guide) draw_series(out, chart, &chart->series[i], &x, &y);
  for (uint32_t i = 0; i < chart->count; i++)
    if (!chart->series[i].guide) draw_series(out, chart, &chart->series[i], &x, &y);
  draw_names(out, chart, &y);
  fputs("</svg>\n", out);
}

/* --- bars --------------------------------------------------------------------------------------------------------- */

static void draw_bar(FILE *out, const neap__chart_bars *chart, uint32_t group, uint32_t series, const axis *y, double x,
                     double width) {
  char text[32];
  double value = chart->value[group * chart->count + series];
  if (isnan(value)) return;
  double top = place(y, value);
  fprintf(out,
          "<rect class=\"bar s%u%s\" data-group=\"%u\" data-y=\"%.9g\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" "
          "height=\"%.2f\"><title>",
          series % NEAP__CHART_COLOURS, series / NEAP__CHART_COLOURS % 2 ? " again" : "", group, value, x, top, width,
          place(y, 0) - top);
  neap__chart_text(out, chart->group[group]);
  if (chart->series[series]) fputs(", ", out);
  neap__chart_text(out, chart->series[series]);
  fprintf(
      out, ": %s</title></rect>\n",
      chart->share ? neap__chart_value(value, NEAP_CHART_PERCENT, text) : neap__chart_commas((uint64_t)value, text));
}

void neap__chart_draw_bars(FILE *out, const neap__chart_bars *chart) {
  double most = chart->share ? 1 : 1e-9;
  for (uint32_t i = 0; i < chart->groups * chart->count && !chart->share; i++) most = fmax(most, chart->value[i]);
  double step = chart->share ? 0.2 : step_for(most, TICKS - 1);
  const axis y = {.most = chart->share ? 1 : ceil(most / step) * step, .from = HEIGHT - BOTTOM, .to = TOP};
  open_svg(out, chart->id, chart->title, chart->about);
  draw_y_axis(out, &y, step, chart->share ? NEAP_CHART_PERCENT : NEAP_CHART_COUNT, chart->y_label, WIDTH - 10);
  double room = (WIDTH - LEFT - 10) / chart->groups, gap = chart->count > 1 ? room * 0.18 : room * 0.12;
  double width = (room - gap) / chart->count;
  for (uint32_t g = 0; g < chart->groups; g++) {
    double left = LEFT + g * room + gap / 2;
    for (uint32_t s = 0; s < chart->count; s++) draw_bar(out, chart, g, s, &y, left + s * width, width);
    /* What does not fit below its bars is left to the tooltips. */
    bool shown = g % (chart->groups / 13 + 1) == 0;
    char cut[64];
    uint32_t letters = (uint32_t)fmax(4, room * (chart->groups / 13 + 1) / 6.2);
    size_t bytes = strnlen(chart->group[g], NEAP_MIN(letters, 56u));
    bool whole = chart->group[g][bytes] == '\0';
    while (bytes > 0 && (chart->group[g][bytes] & 0xc0) == 0x80) bytes--; /* between two characters */
    snprintf(cut, sizeof(cut), "%.*s%s", (int)bytes, chart->group[g], whole ? "" : "...");
    if (shown) label(out, LEFT + (g + 0.5) * room, HEIGHT - BOTTOM + 17, "x tick", cut);
  }
  fprintf(out, "<line class=\"axis\" x1=\"%g\" x2=\"%g\" y1=\"%g\" y2=\"%g\"/>\n", LEFT, WIDTH - 10, HEIGHT - BOTTOM,
          HEIGHT - BOTTOM);
  label(out, LEFT + (WIDTH - LEFT - 10) / 2, HEIGHT - 6, "x name", chart->x_label);
  fputs("</svg>\n", out);
}
