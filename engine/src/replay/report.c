/* SPDX-License-Identifier: MIT
 *
 * replay/report.c - see report.h. The frame of the page is report_page.c. */
#include "replay/report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replay/chart.h"
#include "replay/report_page.h"

#define CURVE_POINTS 120u

struct neap__report {
  FILE *out;
  char *path, *part; /* where it is to appear, where it is written */
  uint32_t studies;
};

/* A run's place in the study, and what the charts say of it. */
typedef double (*ratio_of)(const neap__replay_run *run);

double neap__replay_block_ratio(const neap__replay_run *run) {
  return run->stats.accesses ? (double)run->stats.hits / (double)run->stats.accesses : 0;
}

double neap__replay_prefix_ratio(const neap__replay_run *run) {
  return run->stats.accesses ? (double)run->stats.prefix_hits / (double)run->stats.accesses : 0;
}

uint32_t neap__replay_middle(const neap__replay_study *study) { return (study->sizes - 1) / 2; }

static const neap__replay_run *run_at(const neap__replay_study *study, uint32_t size, uint32_t policy) {
  return &study->runs[size * study->policies + policy];
}

double neap__replay_fraction(const neap__replay_study *study, const neap__replay_run *run) {
  if (run->size->kind == NEAP_REPLAY_FRACTION) return run->size->value;
  return (double)run->capacity / (double)study->input->units_total;
}

/* --- hit ratio over size ------------------------------------------------------------------------------------------ */

/* The sizes in ascending order: a curve goes from left to right whatever the order of the words. */
static void order_sizes(const neap__replay_study *study, uint32_t *order) {
  for (uint32_t i = 0; i < study->sizes; i++) {
    uint32_t at = i;
    for (; at > 0 && run_at(study, order[at - 1], 0)->capacity > run_at(study, i, 0)->capacity; at--)
      order[at] = order[at - 1];
    order[at] = i;
  }
}

/* LRU for every size, from the reuse distances: exact where chunks are of one size and one victim goes at a time. */
static uint32_t lru_curve(const neap__replay_study *study, double least, double most, double *x, double *y) {
  const neap__replay_input *input = study->input;
  if (!study->reuse || input->units || most <= least) return 0;
  for (uint32_t i = 0; i < CURVE_POINTS; i++) {
    x[i] = least * pow(most / least, i / (CURVE_POINTS - 1.0));
    uint32_t objects = (uint32_t)fmin(input->distinct, fmax(1, floor(x[i] * input->distinct + 1e-6)));
    y[i] = (double)study->reuse->hits[objects] / (double)input->trace->references;
  }
  return CURVE_POINTS;
}

static void draw_curves(neap__report *report, const neap__replay_study *study, const char *what, ratio_of ratio) {
  uint32_t policies = study->policies, sizes = study->sizes, order[NEAP__REPLAY_SIZES_MAX];
  double curve_x[CURVE_POINTS], curve_y[CURVE_POINTS];
  double *x = calloc((size_t)policies * sizes, sizeof(*x)), *y = calloc((size_t)policies * sizes, sizeof(*y));
  neap__chart_series *series = calloc(policies + 1, sizeof(*series));
  if (x && y && series) {
    order_sizes(study, order);
    for (uint32_t p = 0; p < policies; p++) {
      for (uint32_t s = 0; s < sizes; s++) {
        const neap__replay_run *run = run_at(study, order[s], p);
        x[p * sizes + s] = neap__replay_fraction(study, run);
        y[p * sizes + s] = run->rc == 0 ? ratio(run) : NAN;
      }
      series[p] = (neap__chart_series){study->policy[p].text, &x[p * sizes], &y[p * sizes], sizes, p, false};
    }
    uint32_t count = policies, points = 0;
    if (ratio == neap__replay_block_ratio) points = lru_curve(study, x[0], x[sizes - 1], curve_x, curve_y);
    if (points) series[count++] = (neap__chart_series){"LRU, from reuse distances", curve_x, curve_y, points, 0, true};
    char id[64], title[96];
    snprintf(id, sizeof(id), "t%u-%s-over-size", report->studies, what);
    snprintf(title, sizeof(title), "%c%s hit ratio over size", what[0] - 'a' + 'A', what + 1);
    neap__page_chart_open(report->out, title,
                          ratio == neap__replay_prefix_ratio
                              ? "Share of chunks that were found with everything before them: what an engine can use."
                          : points ? "Share of chunks that were found at their touch. The thin line is LRU for every "
                                     "size, computed from reuse distances."
                                   : "Share of chunks that were found at their touch.");
    neap__chart_draw_lines(report->out, &(neap__chart_lines){.id = id,
                                                             .title = title,
                                                             .about = "One line per policy; the table has the numbers.",
                                                             .x_label = "size, of what the trace refers to",
                                                             .y_label = "hit ratio",
                                                             .x_unit = NEAP_CHART_PERCENT,
                                                             .x_log = x[sizes - 1] / x[0] >= 8,
                                                             .marks = true,
                                                             .series = series,
                                                             .count = count});
    neap__page_chart_close(report->out);
  }
  free(x);
  free(y);
  free(series);
}

/* --- hit ratio over time ------------------------------------------------------------------------------------------ */

static void draw_time(neap__report *report, const neap__replay_study *study) {
  const neap__replay_input *input = study->input;
  const neap__trace *trace = input->trace;
  uint32_t policies = study->policies, middle = neap__replay_middle(study);
  double x[NEAP__REPLAY_BUCKETS];
  double *y = calloc((size_t)policies * NEAP__REPLAY_BUCKETS, sizeof(*y));
  neap__chart_series *series = calloc(policies, sizeof(*series));
  if (y && series) {
    double span = input->by_time ? trace->requests[trace->request_count - 1].time_ms / 1e3 : trace->request_count;
    for (uint32_t b = 0; b < NEAP__REPLAY_BUCKETS; b++) x[b] = span * (b + 0.5) / NEAP__REPLAY_BUCKETS;
    for (uint32_t p = 0; p < policies; p++) {
      const neap__replay_run *run = run_at(study, middle, p);
      for (uint32_t b = 0; b < NEAP__REPLAY_BUCKETS; b++) {
        const neap__replay_share *share = &run->bucket[b];
        y[p * NEAP__REPLAY_BUCKETS + b] =
            run->rc == 0 && share->accesses ? (double)share->prefix_hits / (double)share->accesses : NAN;
      }
      series[p] =
          (neap__chart_series){study->policy[p].text, x, &y[p * NEAP__REPLAY_BUCKETS], NEAP__REPLAY_BUCKETS, p, false};
    }
    char id[64], title[96];
    snprintf(id, sizeof(id), "t%u-over-time", report->studies);
    snprintf(title, sizeof(title), "Prefix hit ratio over time at %s", study->size[middle].text);
    neap__page_chart_open(report->out, title,
                          input->by_time ? "From an empty cache on."
                                         : "From an empty cache on; the requests are not in the order of time.");
    neap__chart_draw_lines(report->out,
                           &(neap__chart_lines){.id = id,
                                                .title = title,
                                                .about = "One line per policy.",
                                                .x_label = input->by_time ? "time" : "requests",
                                                .y_label = "prefix hit ratio",
                                                .x_unit = input->by_time ? NEAP_CHART_SECONDS : NEAP_CHART_COUNT,
                                                .series = series,
                                                .count = policies});
    neap__page_chart_close(report->out);
  }
  free(y);
  free(series);
}

/* --- reuse distances, tenants ------------------------------------------------------------------------------------- */

static void draw_reuse(neap__report *report, const neap__replay_study *study) {
  double value[34];
  const char *group[34], *none = NULL;
  char text[34][32], id[64];
  uint32_t groups = 0, last = 0;
  if (!study->reuse) return;
  for (uint32_t b = 0; b < 33; b++)
    if (study->reuse->histogram[b]) last = b;
  for (uint32_t b = 0; b <= last; b++, groups++) {
    group[b] = neap__chart_value(b ? (double)(1ull << (b - 1)) : 0, NEAP_CHART_COUNT, text[b]);
    value[b] = (double)study->reuse->histogram[b];
  }
  value[groups] = (double)study->reuse->cold;
  group[groups++] = "first";
  snprintf(id, sizeof(id), "t%u-reuse", report->studies);
  neap__page_chart_open(report->out, "Reuse distances",
                        "How many other chunks were touched between two touches of the same one. The bar at n is for n "
                        "and more, up to the next bar; the last bar is for first touches.");
  neap__chart_draw_bars(report->out, &(neap__chart_bars){.id = id,
                                                         .title = "Reuse distances",
                                                         .about = "Number of touches by distance, in powers of two.",
                                                         .x_label = "distinct chunks in between",
                                                         .y_label = "touches",
                                                         .group = group,
                                                         .series = &none,
                                                         .value = value,
                                                         .groups = groups,
                                                         .count = 1});
  neap__page_chart_close(report->out);
}

static void draw_tenants(neap__report *report, const neap__replay_study *study) {
  uint32_t groups = study->input->groups, policies = study->policies, middle = neap__replay_middle(study);
  if (groups < 2) return;
  double *value = calloc((size_t)groups * policies, sizeof(*value));
  const char **series = calloc(policies, sizeof(*series)), *group[NEAP__REPLAY_GROUPS];
  if (value && series) {
    for (uint32_t p = 0; p < policies; p++) {
      const neap__replay_run *run = run_at(study, middle, p);
      series[p] = study->policy[p].text;
      for (uint32_t g = 0; g < groups; g++) {
        const neap__replay_share *share = &run->group[g];
        value[g * policies + p] =
            run->rc == 0 && share->accesses ? (double)share->prefix_hits / (double)share->accesses : NAN;
      }
    }
    for (uint32_t g = 0; g < groups; g++)
      group[g] = study->input->group_name[g][0] ? study->input->group_name[g] : "(none)";
    char id[64], title[96];
    snprintf(id, sizeof(id), "t%u-tenants", report->studies);
    snprintf(title, sizeof(title), "Prefix hit ratio by tenant at %s", study->size[middle].text);
    neap__page_chart_open(report->out, title, "The busiest tenants first.");
    neap__chart_draw_bars(report->out, &(neap__chart_bars){.id = id,
                                                           .title = title,
                                                           .about = "One group of bars per tenant, one bar per policy.",
                                                           .x_label = "tenant",
                                                           .y_label = "prefix hit ratio",
                                                           .group = group,
                                                           .series = series,
                                                           .value = value,
                                                           .groups = groups,
                                                           .count = policies,
                                                           .share = true});
    neap__page_chart_close(report->out);
  }
  free(value);
  free(series);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

static bool is_best(const neap__replay_study *study, uint32_t size, const neap__replay_run *run) {
  for (uint32_t p = 0; p < study->policies; p++) {
    const neap__replay_run *other = run_at(study, size, p);
    if (other->rc == 0 && neap__replay_prefix_ratio(other) > neap__replay_prefix_ratio(run)) return false;
  }
  return study->policies > 1;
}

static void write_row(FILE *out, const neap__replay_study *study, uint32_t size, uint32_t policy) {
  const neap__replay_run *run = run_at(study, size, policy);
  char text[32];
  fputs("<tr><th scope=\"row\">", out);
  neap__chart_draw_key(out, policy);
  neap__chart_text(out, study->policy[policy].text);
  fputs("</th><td>", out);
  neap__chart_text(out, study->size[size].text);
  fprintf(out, "</td><td>%s</td>", neap__chart_commas(run->chunks, text));
  if (run->rc != 0) {
    fputs("<td class=\"failed\" colspan=\"6\">", out);
    neap__chart_text(out, run->err.text);
    fputs("</td></tr>\n", out);
    return;
  }
  fprintf(out, "<td%s>%.4f</td><td>%.4f</td>", is_best(study, size, run) ? " class=\"best\"" : "",
          neap__replay_prefix_ratio(run), neap__replay_block_ratio(run));
  fprintf(out, "<td>%s</td>", neap__chart_commas(run->stats.evictions, text));
  fprintf(out, "<td>%s</td>", neap__chart_commas(run->stats.orphan_evictions, text));
  fprintf(out, "<td>%s</td>", neap__chart_value(fmax(0, run->saved_us * 1e-6), NEAP_CHART_SECONDS, text));
  if (run->saved_kib)
    fprintf(out, "<td>%.1f GiB</td></tr>\n", (double)run->saved_kib / 1048576);
  else
    fputs("<td>-</td></tr>\n", out);
}

static void write_table(neap__report *report, const neap__replay_study *study) {
  fputs(
      "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">policy</th><th scope=\"col\">size</th>"
      "<th scope=\"col\">chunks</th><th scope=\"col\">prefix hits</th><th scope=\"col\">block hits</th>"
      "<th scope=\"col\">evictions</th><th scope=\"col\">orphaning</th><th scope=\"col\">time saved</th>"
      "<th scope=\"col\">bytes saved</th></tr></thead>\n",
      report->out);
  for (uint32_t s = 0; s < study->sizes; s++) {
    fputs("<tbody>\n", report->out);
    for (uint32_t p = 0; p < study->policies; p++) write_row(report->out, study, s, p);
    fputs("</tbody>\n", report->out);
  }
  fputs("</table></div>\n", report->out);
}

static void write_legend(neap__report *report, const neap__replay_study *study) {
  fputs("<ul class=\"legend\" aria-label=\"policies\">\n", report->out);
  for (uint32_t p = 0; p < study->policies; p++) {
    fputs("<li>", report->out);
    neap__chart_draw_key(report->out, p);
    neap__chart_text(report->out, study->policy[p].text);
    fputs("</li>\n", report->out);
  }
  fputs("</ul>\n", report->out);
}

/* --- the file ----------------------------------------------------------------------------------------------------- */

static int failed(neap__report *report, const char *doing, neap_error *err) {
  return neap__fail(err, NEAP_EIO, "--report: cannot %s '%s': %s", doing, report->path, strerror(errno));
}

static void free_report(neap__report *report) {
  free(report->path);
  free(report->part);
  free(report);
}

int neap__report_open(const char *path, neap__report **out, neap_error *err) {
  neap__report *report = calloc(1, sizeof(*report));
  if (!report) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  struct stat at;
  report->path = strdup(path);
  if (!report->path || asprintf(&report->part, "%s.part", path) < 0) {
    report->part = NULL;
    free_report(report);
    return neap__fail(err, NEAP_ENOMEM, "out of memory");
  }
  bool folder = stat(path, &at) == 0 && S_ISDIR(at.st_mode);
  if (folder) errno = EISDIR;
  report->out = folder ? NULL : fopen(report->part, "w");
  if (!report->out) {
    int rc = failed(report, "write", err);
    free_report(report);
    return rc;
  }
  neap__page_open(report->out);
  *out = report;
  return 0;
}

int neap__report_add(neap__report *report, const neap__replay_study *study, neap_error *err) {
  report->studies++;
  neap__page_study_open(report->out, report->studies, study);
  write_legend(report, study);
  fputs("<div class=\"charts\">\n", report->out);
  draw_curves(report, study, "prefix", neap__replay_prefix_ratio);
  draw_curves(report, study, "block", neap__replay_block_ratio);
  draw_time(report, study);
  draw_tenants(report, study);
  draw_reuse(report, study);
  fputs("</div>\n", report->out);
  write_table(report, study);
  neap__page_study_close(report->out);
  return ferror(report->out) ? failed(report, "write", err) : 0;
}

int neap__report_close(neap__report *report, bool keep, neap_error *err) {
  int rc = 0;
  neap__page_close(report->out);
  bool bad = ferror(report->out) != 0;
  if (fclose(report->out) != 0) bad = true;
  if (keep && (bad || rename(report->part, report->path) != 0)) rc = failed(report, "write", err);
  if (!keep || rc != 0) unlink(report->part);
  free_report(report);
  return rc;
}
