/* SPDX-License-Identifier: MIT
 *
 * test_metrics.c - GET /metrics: its grammar, its names against those of LMCache (tests/data/http/metrics.txt), and the
 * numbers in it. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "serve/metrics.h"

/* The text for a snapshot in which every number is another one. Not inlined: GCC 12 would take what open_memstream
 * allocates for a variable of this function, and warn that it is gone. */
__attribute__((noinline)) static char *text_of(const neap__snapshot *now) {
  char *text = NULL;
  size_t bytes = 0;
  FILE *out = open_memstream(&text, &bytes);
  neap__metrics_print(out, now, "id\"\\\n");
  fclose(out);
  return text;
}

static void fill(neap__snapshot *now) {
  memset(now, 0, sizeof *now);
  now->l1.pool_bytes = 1000;
  now->l1.used_bytes = 250;
  now->l1.staged_bytes = 11;
  now->evictor.demand_evictions = 12;
  now->storer.refused_objects = 13;
  now->storer.planned_out_objects = 14;
  now->fetcher.recomputed_chunks = 15;
  now->foresight = (neap__foresight_stats){.predicted = 16, .fetched = 17};
  now->storer.refused_bytes = UINT64_C(1) << 60;
  now->fetcher.failed_deadline = 14;
  now->server.pings_refused = 15;
  now->server.bad_messages = 16;
  now->tier_count = 3;
  static const char *const names[] = {"fs", "plugin", "fs"};
  for (uint32_t i = 0; i < now->tier_count; i++) {
    now->tiers[i].index = i;
    snprintf(now->tiers[i].name, sizeof now->tiers[i].name, "%s", names[i]);
    now->tiers[i].stats.used_bytes = 100u + i;
    now->tiers[i].stats.quarantined = 20 + i;
    now->tiers[i].stats.healthy = i != 1;
  }
  now->tiers[1].stats.store_failures[8] = 17; /* -NEAP_EIO */
  now->tiers[1].stats.breaker = NEAP_BREAKER_HALF_OPEN;
  now->tiers[2].stats.store_paused = true;
  now->tiers[2].stats.negative_hits = 18;
  now->tiers[0].status_json =
      "{\"type\":\"fs\",\"files\":3,\"deep\":{\"ratio\":0.5,\"er\":{\"x\":1}},\"odd\\\"name\":1e300}";
  now->tiers[1].status_json = "no JSON";
}

static bool has_line(const char *text, const char *line) {
  size_t n = strlen(line);
  for (const char *at = text; (at = strstr(at, line)); at++)
    if ((at == text || at[-1] == '\n') && at[n] == '\n') return true;
  print_error("no line '%s'\n", line);
  return false;
}

/* --- grammar ------------------------------------------------------------------------------------------------------ */

static size_t name_length(const char *text) {
  size_t n = 0;
  while (isalnum((unsigned char)text[n]) || text[n] == '_' || text[n] == ':') n++;
  return isdigit((unsigned char)text[0]) ? 0 : n;
}

/* Skips {name="value",...}; NULL if it is not well formed. */
static const char *skip_labels(const char *at) {
  if (*at != '{') return at;
  do {
    size_t n = name_length(++at);
    if (n == 0 || at[n] != '=' || at[n + 1] != '"') return NULL;
    for (at += n + 2; *at && *at != '"'; at++) {
      if (*at == '\\' && !strchr("\\\"n", at[1])) return NULL;
      if (*at == '\\') at++;
    }
    if (*at++ != '"') return NULL;
  } while (*at == ',');
  return *at == '}' ? at + 1 : NULL;
}

typedef struct family {
  char name[128], type[16];
} family;

static void a_scraper_can_parse_every_line(void **state) {
  (void)state;
  neap__snapshot now;
  family current = {"", ""};
  char seen[16384] = " ";
  fill(&now);
  char *text = text_of(&now), *rest = text;
  for (char *line = strsep(&rest, "\n"); line && *line; line = strsep(&rest, "\n")) {
    if (strncmp(line, "# HELP ", 7) == 0) {
      char mark[256];
      snprintf(mark, sizeof mark, " %.*s ", (int)name_length(line + 7), line + 7);
      if (strstr(seen, mark)) fail_msg("two families of the name%s", mark);
      assert_true(strlen(seen) + strlen(mark) < sizeof seen);
      memcpy(seen + strlen(seen), mark + 1, strlen(mark));
    } else if (strncmp(line, "# TYPE ", 7) == 0) {
      assert_int_equal(sscanf(line, "# TYPE %127s %15s", current.name, current.type), 2);
      assert_true(strcmp(current.type, "counter") == 0 || strcmp(current.type, "gauge") == 0);
      bool total = strlen(current.name) > 6 && strcmp(current.name + strlen(current.name) - 6, "_total") == 0;
      if (total != (strcmp(current.type, "counter") == 0)) fail_msg("%s is a %s", current.name, current.type);
    } else {
      size_t n = name_length(line);
      const char *value = skip_labels(line + n);
      char *end;
      if (n != strlen(current.name) || strncmp(line, current.name, n) != 0) fail_msg("'%s' has no TYPE", line);
      if (!value || *value != ' ') fail_msg("'%s' is not a sample", line);
      strtod(value + 1, &end);
      if (end == value + 1 || *end) fail_msg("'%s' has no value", line);
    }
  }
  assert_true(!rest || !*rest);
  free(text);
}

static size_t occurrences(const char *text, const char *what) {
  size_t count = 0;
  for (const char *at = strstr(text, what); at; at = strstr(at + 1, what)) count++;
  return count;
}

static void no_series_is_given_twice(void **state) {
  (void)state;
  neap__snapshot now;
  fill(&now);
  char *text = text_of(&now), *copy = strdup(text), *rest = copy;
  for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
    char series[512];
    const char *space = strrchr(line, ' ');
    if (*line == '#' || !space) continue;
    snprintf(series, sizeof series, "\n%.*s ", (int)(space - line), line);
    if (occurrences(text, series) > 1) fail_msg("twice: %s", series + 1);
  }
  free(copy);
  free(text);
}

/* --- names -------------------------------------------------------------------------------------------------------- */

/* A name is LMCache's if metrics.txt has it as a line of its own, or among the stems listed at its end. */
static bool is_lmcache_name(const char *file, const char *name) {
  char line[160], stem[160];
  snprintf(line, sizeof line, "\n%s\n", name);
  if (strstr(file, line)) return true;
  const char *stems = strstr(file, "# Metric stems");
  if (!stems || strncmp(name, "lmcache_mp_", 11) != 0) return false;
  snprintf(stem, sizeof stem, " %s ", name + 11);
  return strstr(stems, stem) != NULL;
}

static void every_name_is_lmcaches_or_begins_with_neap(void **state) {
  (void)state;
  neap__snapshot now;
  static char file[65536];
  FILE *in = fopen("tests/data/http/metrics.txt", "r");
  assert_non_null(in);
  assert_true(fread(file, 1, sizeof file - 1, in) > 0);
  fclose(in);
  fill(&now);
  char *text = text_of(&now);
  uint32_t theirs = 0;
  for (const char *at = text; (at = strstr(at, "# TYPE ")); at++) {
    char name[128];
    sscanf(at, "# TYPE %127s", name);
    if (strncmp(name, "neap_", 5) == 0) continue;
    if (!is_lmcache_name(file, name)) fail_msg("%s is neither LMCache's nor neap's", name);
    theirs++;
  }
  assert_true(theirs >= 40);
  free(text);
}

/* --- numbers ------------------------------------------------------------------------------------------------------ */

static void numbers_are_those_of_the_snapshot(void **state) {
  (void)state;
  neap__snapshot now;
  fill(&now);
  char *text = text_of(&now);
  assert_true(has_line(text, "lmcache_mp_l1_usage_ratio{backend=\"dram\",l1_tag=\"_default\"} 0.25"));
  assert_true(has_line(text, "lmcache_mp_l1_staging_bytes{backend=\"dram\",l1_tag=\"_default\"} 11"));
  assert_true(has_line(text, "neap_l1_demand_evictions_total 12"));
  assert_true(has_line(text, "neap_store_refused_objects_total 13"));
  assert_true(has_line(text, "neap_store_planned_out_objects_total 14"));
  assert_true(has_line(text, "neap_fetch_recomputed_chunks_total 15"));
  assert_true(has_line(text, "neap_fetch_predicted_chunks_total 16"));
  assert_true(has_line(text, "neap_fetch_foreseen_chunks_total 17"));
  assert_true(has_line(text, "neap_store_refused_bytes_total 1152921504606846976"));
  assert_true(has_line(text, "lmcache_mp_l2_prefetch_failure_chunks_total{reason=\"deadline\"} 14"));
  assert_true(has_line(text, "neap_pings_refused_total 15"));
  assert_true(has_line(text, "neap_bad_messages_total 16"));
  assert_true(has_line(text, "target_info{service_instance_id=\"id\\\"\\\\\\n\",service_name=\"neap\"} 1"));
  free(text);
}

static void adapters_of_one_type_are_added_up_where_lmcache_tells_them_by_type(void **state) {
  (void)state;
  neap__snapshot now;
  fill(&now);
  char *text = text_of(&now);
  assert_true(has_line(text, "lmcache_mp_l2_usage_bytes{l2_name=\"fs\"} 202"));
  assert_true(has_line(text, "lmcache_mp_l2_usage_bytes{l2_name=\"plugin\"} 101"));
  assert_true(has_line(text, "neap_l2_quarantined_total{l2_name=\"fs\",adapter_index=\"2\"} 22"));
  assert_true(has_line(text, "neap_l2_breaker_state{l2_name=\"plugin\",adapter_index=\"1\"} 2"));
  assert_true(has_line(text, "neap_l2_store_paused{l2_name=\"fs\",adapter_index=\"2\"} 1"));
  assert_true(has_line(text, "neap_l2_negative_hits_total{l2_name=\"fs\",adapter_index=\"2\"} 18"));
  assert_true(has_line(text, "neap_l2_adapter_status{l2_name=\"fs\",adapter_index=\"0\",name=\"files\"} 3"));
  assert_true(has_line(text, "neap_l2_adapter_status{l2_name=\"fs\",adapter_index=\"0\",name=\"deep.ratio\"} 0.5"));
  assert_int_equal(occurrences(text, "neap_l2_adapter_status{"), 3);
  assert_true(has_line(text, "neap_l2_healthy{l2_name=\"plugin\",adapter_index=\"1\"} 0"));
  assert_true(has_line(text, "neap_l2_store_failures_total{l2_name=\"plugin\",adapter_index=\"1\",reason=\"eio\"} 17"));
  assert_true(has_line(text, "lmcache_mp_l2_store_adapters{l1_tag=\"_default\",state=\"active\"} 3"));
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_scraper_can_parse_every_line),
      cmocka_unit_test(no_series_is_given_twice),
      cmocka_unit_test(every_name_is_lmcaches_or_begins_with_neap),
      cmocka_unit_test(numbers_are_those_of_the_snapshot),
      cmocka_unit_test(adapters_of_one_type_are_added_up_where_lmcache_tells_them_by_type),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
