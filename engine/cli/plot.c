/* SPDX-License-Identifier: MIT
 *
 * cli/plot.c - see plot.h. */
#include "plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LEFT 6u /* columns of the numbers at the y axis */
#define COLUMNS_MAX 120u
#define ROWS_MAX 40u
#define DOTS_X 2u
#define DOTS_Y 4u

typedef struct cell {
  uint8_t dots, series;
  char letter; /* 0: none */
} cell;

typedef struct canvas {
  uint32_t width, height; /* cells */
  double x_least, x_most, y_most;
  bool log;
  cell cells[ROWS_MAX][COLUMNS_MAX];
} canvas;

/* --- what the terminal can do ------------------------------------------------------------------------------------- */

static bool locale_is_utf8(void) {
  static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
    const char *value = getenv(names[i]);
    if (value && *value) return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
  }
  return false;
}

void neap__plot_style_of(FILE *stream, neap__plot_style *out) {
  const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
  struct winsize size = {0};
  int fd = fileno(stream);
  out->terminal = isatty(fd) == 1;
  out->unicode = locale_is_utf8();
  out->colour = out->terminal && !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
  out->columns = 80;
  if (out->terminal && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    out->columns = NEAP_MAX(40u, NEAP_MIN((uint32_t)size.ws_col, COLUMNS_MAX));
}

char neap__plot_letter(uint32_t series) {
  return series < 26 ? (char)('A' + series) : series < 52 ? (char)('a' + series - 26) : '+';
}

const char *neap__plot_colour(const neap__plot_style *style, uint32_t series) {
  static const char *const colours[] = {"\x1b[34m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[36m", "\x1b[31m"};
  return style->colour ? colours[series % NEAP_ARRAY_LEN(colours)] : "";
}

/* --- drawing ------------------------------------------------------------------------------------------------------ */

static double x_at(const canvas *c, double x) {
  double least = c->log ? log(c->x_least) : c->x_least, most = c->log ? log(c->x_most) : c->x_most;
  return most > least ? ((c->log ? log(x) : x) - least) / (most - least) * (c->width * DOTS_X - 1) : 0;
}

static double y_at(const canvas *c, double y) { return (1 - y / c->y_most) * (c->height * DOTS_Y - 1); }

static cell *cell_at(canvas *c, double x, double y) {
  uint32_t column = (uint32_t)fmin(fmax(x, 0), c->width * DOTS_X - 1) / DOTS_X;
  uint32_t row = (uint32_t)fmin(fmax(y, 0), c->height * DOTS_Y - 1) / DOTS_Y;
  return &c->cells[row][column];
}

static void dot(canvas *c, double x, double y, uint32_t series) {
  static const uint8_t bit[DOTS_Y][DOTS_X] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
  cell *at = cell_at(c, x, y);
  at->dots |= bit[(uint32_t)fmax(y, 0) % DOTS_Y][(uint32_t)fmax(x, 0) % DOTS_X];
  at->series = (uint8_t)series;
}

static void line(canvas *c, double x0, double y0, double x1, double y1, uint32_t series) {
  double steps = fmax(1, ceil(fmax(fabs(x1 - x0), fabs(y1 - y0))));
  for (double i = 0; i <= steps; i++)
    dot(c, round(x0 + (x1 - x0) * i / steps), round(y0 + (y1 - y0) * i / steps), series);
}

static void draw_series(canvas *c, const neap__plot_series *s, uint32_t series, bool points) {
  double last_x = NAN, last_y = NAN;
  for (uint32_t i = 0; i < s->count; i++) {
    double x = x_at(c, s->x[i]), y = y_at(c, s->y[i]);
    if (isnan(s->y[i])) continue;
    if (!isnan(last_x)) line(c, last_x, last_y, x, y, series);
    last_x = x;
    last_y = y;
  }
  for (uint32_t i = points ? 0 : s->count - 1; i < s->count; i++) {
    if (isnan(s->y[i])) continue;
    cell *at = cell_at(c, round(x_at(c, s->x[i])), round(y_at(c, s->y[i])));
    at->letter = neap__plot_letter(series);
    at->series = (uint8_t)series;
  }
}

/* --- printing ----------------------------------------------------------------------------------------------------- */

static void print_cell(FILE *out, const neap__plot *plot, const cell *at) {
  const neap__plot_style style = {.colour = plot->colour};
  if (!at->letter && !at->dots) {
    fputc(' ', out);
    return;
  }
  fputs(neap__plot_colour(&style, at->series), out);
  if (at->letter)
    fputc(at->letter, out);
  else if (plot->unicode) /* U+2800 and the dots, in UTF-8 */
    fprintf(out, "\xe2%c%c", 0xa0 | at->dots >> 6, 0x80 | (at->dots & 0x3f));
  else
    fputc(at->dots & 0xc0 ? '.' : at->dots & 0x24 ? '-' : '\'', out);
  if (plot->colour) fputs("\x1b[0m", out);
}

static void print_rows(FILE *out, const neap__plot *plot, const canvas *c) {
  for (uint32_t row = 0; row < c->height; row++) {
    bool labelled = row == 0 || row == c->height / 2 || row == c->height - 1;
    double y = row == 0 ? c->y_most : row == c->height - 1 ? 0 : c->y_most / 2; /* an odd number of rows */
    if (labelled)
      fprintf(out, "%4.0f%% ", y * 100);
    else
      fprintf(out, "%*s", (int)LEFT, "");
    fputs(plot->unicode ? "\xe2\x94\x82" : "|", out);
    uint32_t last = c->width;
    while (last > 0 && !c->cells[row][last - 1].dots && !c->cells[row][last - 1].letter) last--;
    for (uint32_t column = 0; column < last; column++) print_cell(out, plot, &c->cells[row][column]);
    fputc('\n', out);
  }
  fprintf(out, "%*s%s", (int)LEFT, "", plot->unicode ? "\xe2\x94\x94" : "+");
  for (uint32_t i = 0; i < c->width; i++) fputs(plot->unicode ? "\xe2\x94\x80" : "-", out);
  fputc('\n', out);
}

/* Names below the axis, each centred under its value where there is room. */
static void print_x_axis(FILE *out, const neap__plot *plot, const canvas *c) {
  char row[LEFT + COLUMNS_MAX + 40];
  uint32_t end = 0;
  const neap__plot_series *s = &plot->series[0];
  for (uint32_t i = 0; i < s->count; i += plot->points ? 1 : NEAP_MAX(1u, s->count - 1)) {
    char text[32];
    uint32_t n = (uint32_t)strlen(plot->x_name(s->x[i], text));
    uint32_t middle = LEFT + 1 + (uint32_t)round(x_at(c, s->x[i])) / DOTS_X, at = middle > n / 2 ? middle - n / 2 : 0;
    at = NEAP_MIN(at, LEFT + 1 + c->width - NEAP_MIN(n, c->width));
    if (end && at < end + 1) continue;
    while (end < at) row[end++] = ' ';
    memcpy(row + end, text, n);
    end += n;
  }
  fprintf(out, "%.*s\n", (int)end, row);
}

void neap__plot_draw(FILE *out, const neap__plot *plot) {
  canvas *c = calloc(1, sizeof(*c));
  uint32_t points = 0;
  if (!c) return; /* a picture less */
  *c = (canvas){.x_least = INFINITY, .x_most = -INFINITY, .log = plot->x_log};
  for (uint32_t i = 0; i < plot->count; i++)
    for (uint32_t k = 0; k < plot->series[i].count; k++) {
      c->x_least = fmin(c->x_least, plot->series[i].x[k]);
      c->x_most = fmax(c->x_most, plot->series[i].x[k]);
      if (isnan(plot->series[i].y[k])) continue;
      c->y_most = fmax(c->y_most, plot->series[i].y[k]);
      points++;
    }
  c->y_most = fmin(1, fmax(0.1, ceil(c->y_most * 10 - 1e-9) / 10));
  c->width = NEAP_MIN(plot->columns, COLUMNS_MAX) - LEFT - 2;
  c->height = NEAP_MIN(plot->rows | 1, ROWS_MAX - 1);
  if (points >= 2) {
    for (uint32_t i = plot->count; i-- > 0;) /* where two meet, the first one is seen */
      draw_series(c, &plot->series[i], i, plot->points);
    fprintf(out, "%s\n", plot->title);
    print_rows(out, plot, c);
    print_x_axis(out, plot, c);
  }
  free(c);
}
