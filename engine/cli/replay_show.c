/* SPDX-License-Identifier: MIT
 *
 * cli/replay_show.c - see replay_show.h. */
#include "replay_show.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "replay/chart.h"

#define PLOT_ROWS 13u

static const neap__replay_run *run_at(const neap__replay_study *study, uint32_t size, uint32_t policy) {
  return &study->runs[size * study->policies + policy];
}

/* --- JSON --------------------------------------------------------------------------------------------------------- */

static void add_costs(cJSON *line, const neap__replay_run *run) {
  cJSON_AddNumberToObject(line, "recompute_s", run->all_us * 1e-6);
  cJSON_AddNumberToObject(line, "saved_s", run->saved_us * 1e-6);
  if (run->saved_kib) cJSON_AddNumberToObject(line, "saved_bytes", (double)run->saved_kib * 1024);
}

static void add_tiers(cJSON *line, const neap__replay_study *study, const neap__replay_run *run) {
  if (study->options->tiers == 0) return;
  cJSON_AddNumberToObject(line, "usable_ratio", (double)run->usable / (double)run->stats.accesses);
  cJSON *tiers = cJSON_AddArrayToObject(line, "tiers");
  for (uint32_t t = 0; t < study->options->tiers; t++) {
    const neap__replay_tier_stats *stats = &run->tier[t];
    cJSON *tier = cJSON_CreateObject();
    cJSON_AddStringToObject(tier, "name", study->options->tier[t].name);
    cJSON_AddNumberToObject(tier, "loads", (double)stats->loads);
    cJSON_AddNumberToObject(tier, "stores", (double)stats->stores);
    cJSON_AddNumberToObject(tier, "evictions", (double)stats->evictions);
    cJSON_AddNumberToObject(tier, "loaded_bytes", (double)stats->loaded_kib * 1024);
    cJSON_AddNumberToObject(tier, "stored_bytes", (double)stats->stored_kib * 1024);
    cJSON_AddItemToArray(tiers, tier);
  }
}

static void show_json(FILE *out, const neap__replay_study *study, uint32_t size, uint32_t policy) {
  const neap__replay_run *run = run_at(study, size, policy);
  const neap__replay_input *input = study->input;
  cJSON *line = cJSON_CreateObject();
  cJSON_AddStringToObject(line, "trace", input->trace->name);
  cJSON_AddStringToObject(line, "policy", study->policy[policy].text);
  cJSON_AddStringToObject(line, "order", input->head_first ? "head" : "tail");
  cJSON_AddNumberToObject(line, "size_fraction", neap__replay_fraction(study, run));
  cJSON_AddNumberToObject(line, "size_chunks", (double)run->chunks);
  cJSON_AddNumberToObject(line, "requests", (double)run->stats.requests);
  cJSON_AddNumberToObject(line, "accesses", (double)run->stats.accesses);
  cJSON_AddNumberToObject(line, "distinct", input->distinct);
  cJSON_AddNumberToObject(line, "block_hit_ratio", neap__replay_block_ratio(run));
  cJSON_AddNumberToObject(line, "prefix_hit_ratio", neap__replay_prefix_ratio(run));
  cJSON_AddNumberToObject(line, "evictions", (double)run->stats.evictions);
  cJSON_AddNumberToObject(line, "orphan_evictions", (double)run->stats.orphan_evictions);
  cJSON_AddNumberToObject(line, "accesses_per_s", round((double)run->stats.accesses / fmax(run->seconds, 1e-9)));
  if (input->units) cJSON_AddNumberToObject(line, "size_bytes", (double)run->capacity * 1024);
  cJSON_AddNumberToObject(line, "bypassed", (double)run->stats.bypassed);
  cJSON_AddNumberToObject(line, "refused", (double)run->stats.policy.refused);
  cJSON_AddNumberToObject(line, "completed", (double)run->stats.policy.completed);
  cJSON_AddNumberToObject(line, "seed", (double)study->options->seed);
  add_costs(line, run);
  add_tiers(line, study, run);
  char *text = cJSON_PrintUnformatted(line);
  fprintf(out, "%s\n", text ? text : "{}");
  free(text);
  cJSON_Delete(line);
}

void neap__replay_show_json(FILE *out, const neap__replay_study *study) {
  for (uint32_t s = 0; s < study->sizes; s++)
    for (uint32_t p = 0; p < study->policies; p++)
      if (run_at(study, s, p)->rc == 0) show_json(out, study, s, p);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

static void show_head(FILE *out, const neap__replay_study *study) {
  const neap__replay_input *input = study->input;
  char requests[32], chunks[32], distinct[32];
  for (const char *at = input->trace->name; *at; at++) /* whatever the file is called: it shall not move the cursor */
    fputc((unsigned char)*at < ' ' || *at == 0x7f ? '?' : *at, out);
  fprintf(out, " (%s): %s requests, %s chunks, %s distinct", input->trace->format,
          neap__chart_commas(input->trace->request_count, requests),
          neap__chart_commas(input->trace->references, chunks), neap__chart_commas(input->distinct, distinct));
  if (input->units) fprintf(out, " of %.2f GiB", (double)input->units_total / 1048576);
  fprintf(out, "; %s first\n\n", input->head_first ? "head" : "tail");
}

static void show_row(FILE *out, const neap__replay_study *study, uint32_t size, uint32_t policy, int width,
                     const neap__plot_style *style) {
  const neap__replay_run *run = run_at(study, size, policy);
  const char *colour = neap__plot_colour(style, policy), *plain = style->colour ? "\x1b[0m" : "";
  char text[3][32];
  fprintf(out, "%-8s %12s  %s%c%s %-*s ", policy ? "" : study->size[size].text,
          policy ? "" : neap__chart_commas(run->chunks, text[0]), colour, neap__plot_letter(policy), plain, width,
          study->policy[policy].text);
  if (run->rc != 0) {
    fputs(" failed\n", out);
    return;
  }
  fprintf(out, "%8.4f %8.4f %13s %13s  %s", neap__replay_prefix_ratio(run), neap__replay_block_ratio(run),
          neap__chart_commas(run->stats.evictions, text[0]), neap__chart_commas(run->stats.orphan_evictions, text[1]),
          neap__chart_value(fmax(0, run->saved_us * 1e-6), NEAP_CHART_SECONDS, text[2]));
  if (run->saved_kib) fprintf(out, ", %.1f GiB", (double)run->saved_kib / 1048576);
  fputc('\n', out);
  for (uint32_t t = 0; t < study->options->tiers; t++) {
    const neap__replay_tier_stats *stats = &run->tier[t];
    fprintf(out, "%26s %s: %s loads, %s stores (%.1f GiB), %s evictions\n", "", study->options->tier[t].name,
            neap__chart_commas(stats->loads, text[0]), neap__chart_commas(stats->stores, text[1]),
            (double)stats->stored_kib / 1048576, neap__chart_commas(stats->evictions, text[2]));
  }
}

/* What somebody might wonder about. */
static void show_notes(FILE *out, const neap__replay_study *study) {
  const neap__replay_run *least = NULL; /* that holds everything */
  for (uint32_t s = 0; s < study->sizes; s++) {
    const neap__replay_run *run = run_at(study, s, 0);
    if (run->capacity >= study->input->units_total && (!least || run->capacity < least->capacity)) least = run;
  }
  if (least)
    fprintf(out, "\n%s holds everything that the trace refers to: nothing is evicted for want of room.\n",
            least->size->text);
  for (uint32_t s = 0; s < study->sizes; s++)
    for (uint32_t p = 0; p < study->policies; p++) {
      const neap__replay_run *run = run_at(study, s, p);
      if (run->rc == 0 && run->stats.policy.refused + run->stats.policy.completed > 0)
        fprintf(out, "\n%s at %s: %llu victims were refused, %llu were named by the built-in LRU instead.\n",
                study->policy[p].text, study->size[s].text, (unsigned long long)run->stats.policy.refused,
                (unsigned long long)run->stats.policy.completed);
    }
}

/* --- the plot ----------------------------------------------------------------------------------------------------- */

static const char *share_name(double x, char text[32]) { return neap__chart_value(x, NEAP_CHART_PERCENT, text); }
static const char *time_name(double x, char text[32]) { return neap__chart_value(x, NEAP_CHART_SECONDS, text); }
static const char *count_name(double x, char text[32]) { return neap__chart_value(x, NEAP_CHART_COUNT, text); }

static uint32_t over_size(const neap__replay_study *study, uint32_t policy, double *x, double *y) {
  for (uint32_t s = 0; s < study->sizes; s++) {
    const neap__replay_run *run = run_at(study, s, policy);
    uint32_t at = s;
    double size = neap__replay_fraction(study, run);
    for (; at > 0 && x[at - 1] > size; at--) x[at] = x[at - 1], y[at] = y[at - 1];
    x[at] = size;
    y[at] = run->rc == 0 ? neap__replay_prefix_ratio(run) : NAN;
  }
  return study->sizes;
}

static uint32_t over_time(const neap__replay_study *study, uint32_t policy, double *x, double *y) {
  const neap__trace *trace = study->input->trace;
  const neap__replay_run *run = run_at(study, 0, policy);
  double span = study->input->by_time ? trace->requests[trace->request_count - 1].time_ms / 1e3 : trace->request_count;
  for (uint32_t b = 0; b < NEAP__REPLAY_BUCKETS; b++) {
    const neap__replay_share *share = &run->bucket[b];
    x[b] = span * (b + 0.5) / NEAP__REPLAY_BUCKETS;
    y[b] = run->rc == 0 && share->accesses ? (double)share->prefix_hits / (double)share->accesses : NAN;
  }
  return NEAP__REPLAY_BUCKETS;
}

static void show_plot(FILE *out, const neap__replay_study *study, const neap__plot_style *style) {
  bool curve = study->sizes > 1;
  uint32_t points = NEAP_MAX(study->sizes, NEAP__REPLAY_BUCKETS);
  neap__plot_series *series = calloc(study->policies, sizeof(*series));
  double *x = calloc((size_t)points * study->policies * 2, sizeof(*x));
  if (series && x) {
    for (uint32_t p = 0; p < study->policies; p++) {
      double *px = x + (size_t)points * 2 * p, *py = px + points;
      uint32_t count = curve ? over_size(study, p, px, py) : over_time(study, p, px, py);
      series[p] = (neap__plot_series){study->policy[p].text, px, py, count};
    }
    fputc('\n', out);
    neap__plot_draw(out, &(neap__plot){.title = curve ? "prefix hit ratio over size" : "prefix hit ratio over time",
                                       .series = series,
                                       .count = study->policies,
                                       .x_name = curve                   ? share_name
                                                 : study->input->by_time ? time_name
                                                                         : count_name,
                                       .x_log = curve && x[study->sizes - 1] / x[0] >= 8,
                                       .points = curve,
                                       .unicode = style->unicode,
                                       .colour = style->colour,
                                       .columns = style->columns,
                                       .rows = PLOT_ROWS});
  }
  free(series);
  free(x);
}

void neap__replay_show_text(FILE *out, const neap__replay_study *study, const neap__plot_style *style) {
  int width = 6;
  for (uint32_t p = 0; p < study->policies; p++) width = NEAP_MAX(width, (int)strlen(study->policy[p].text));
  show_head(out, study);
  fprintf(out, "%-8s %12s    %-*s %8s %8s %13s %13s  %s\n", "size", "chunks", width, "policy", "prefix", "block",
          "evictions", "orphaning", "saved");
  for (uint32_t s = 0; s < study->sizes; s++)
    for (uint32_t p = 0; p < study->policies; p++) show_row(out, study, s, p, width, style);
  show_notes(out, study);
  show_plot(out, study, style);
}
