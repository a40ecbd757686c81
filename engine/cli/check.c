/* SPDX-License-Identifier: MIT
 *
 * cli/check.c - `neap check`: asks an adapter everything that neap/adapter.h says, and reports one line per check.
 *
 * The checks are those of kit/; here are the command line, the order, and the two forms of the report. One thread, for
 * each check is a process forked from this one. */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/json.h"
#include "cli.h"
#include "kit/run.h"
#include "options.h"

#define FIRST_CHECKS 2u /* loads, open: without them no other check says anything */
#define SLOW_MS 2000.0

static const char help_text[] =
    "usage: neap check FILE|TYPE [OPTIONS]\n\n"
    "Runs the conformance kit on one adapter: a .lua or .so file, or the name of a type. Each check is a process of "
    "its\n"
    "own; what it stores has keys of its own and is deleted again. Give parameters with room for 64 MiB.\n\n"
    "options:\n"
    "  --params JSON     parameters of the adapter, as in --l2-adapter (default {})\n"
    "  --class NAME      the class of a file that offers several\n"
    "  --only PATTERN    only checks whose name matches, such as 'delete*'\n"
    "  --timeout S       seconds that one operation may take (default 30)\n"
    "  --plugin-path P   where types are looked for, and inner adapters\n"
    "  --json            the report as one JSON object\n"
    "  --list            list the checks and exit\n"
    "  --help            show this and exit\n\n"
    "Exit status: 0 all passed (or do not apply), 1 a check failed, 2 the command line was wrong.\n";

typedef struct run {
  neap__kit_options options;
  neap__dirs dirs;
  const char *only, *plugin_path;
  bool json, list, help, colour, live;
  double timeout_s;
  uint32_t passed, failed, skipped;
  cJSON *results;
  const char *sentence; /* of the check that runs */
} run;

/* --- report ------------------------------------------------------------------------------------------------------- */

static const char *paint(const run *r, const char *code) { return r->colour ? code : ""; }

static void clear_line(const run *r) {
  if (r->live) fputs("\r\x1b[K", stdout);
}

static void show_progress(void *ctx, const char *step, double ms) {
  run *r = ctx;
  if (!r->live || ms < SLOW_MS) return;
  printf("\r\x1b[K  ...   %.50s (%.0f s, %.40s)", r->sentence, ms / 1e3, step);
  fflush(stdout);
}

/* A text of several lines, each behind the margin. */
static void print_block(const char *title, const char *text, size_t lines_max) {
  if (!*text) return;
  printf("          %s\n", title);
  for (size_t lines = 0; *text && lines < lines_max; lines++) {
    size_t n = strcspn(text, "\n");
    printf("            %.*s\n", (int)n, text);
    text += n + (text[n] == '\n');
  }
}

static void print_outcome(const run *r, const neap__check *check, const neap__kit_outcome *outcome) {
  const neap__kit_report *report = &outcome->report;
  clear_line(r);
  switch (atomic_load(&report->result)) {
    case NEAP_KIT_PASSED:
      printf("  %sok%s    %s%s%s%s", paint(r, "\x1b[32m"), paint(r, "\x1b[0m"), check->sentence,
             *report->note ? " (" : "", report->note, *report->note ? ")" : "");
      if (outcome->ms >= SLOW_MS) printf(" [%.1f s]", outcome->ms / 1e3);
      putchar('\n');
      break;
    case NEAP_KIT_SKIPPED:
      printf("  %sskip%s  %s: %s\n", paint(r, "\x1b[33m"), paint(r, "\x1b[0m"), check->sentence, report->reason);
      break;
    default:
      printf("  %sFAIL%s  %s\n          %s\n          (%s; again: --only %s)\n", paint(r, "\x1b[1;31m"),
             paint(r, "\x1b[0m"), check->sentence, report->reason, check->rule, check->name);
      print_block("log:", report->log, 12);
      print_block("output:", outcome->output, 12);
  }
  fflush(stdout);
}

static void add_json(run *r, const neap__check *check, const neap__kit_outcome *outcome) {
  static const char *const names[] = {"failed", "passed", "failed", "skipped"};
  const neap__kit_report *report = &outcome->report;
  cJSON *item = cJSON_CreateObject();
  cJSON_AddStringToObject(item, "check", check->name);
  cJSON_AddStringToObject(item, "sentence", check->sentence);
  cJSON_AddStringToObject(item, "result", names[atomic_load(&report->result)]);
  cJSON_AddStringToObject(item, "reason", report->reason);
  cJSON_AddStringToObject(item, "note", report->note);
  cJSON_AddStringToObject(item, "rule", check->rule);
  cJSON_AddStringToObject(item, "log", report->log);
  cJSON_AddStringToObject(item, "output", outcome->output);
  cJSON_AddNumberToObject(item, "ms", outcome->ms);
  cJSON_AddItemToArray(r->results, item);
}

static void take_outcome(run *r, const neap__check *check, const neap__kit_outcome *outcome, bool blocked) {
  switch (atomic_load(&outcome->report.result)) {
    case NEAP_KIT_PASSED: r->passed++; break;
    case NEAP_KIT_SKIPPED: r->skipped++; break;
    default: r->failed++;
  }
  if (r->json)
    add_json(r, check, outcome);
  else if (!blocked)
    print_outcome(r, check, outcome);
}

static void summarize(const run *r, double seconds) {
  if (!r->json) {
    printf("\n%s%u passed, %u failed, %u skipped%s in %.1f s\n", paint(r, r->failed ? "\x1b[1;31m" : "\x1b[1;32m"),
           r->passed, r->failed, r->skipped, paint(r, "\x1b[0m"), seconds);
    return;
  }
  cJSON *report = cJSON_CreateObject();
  cJSON_AddStringToObject(report, "adapter", r->options.what);
  cJSON_AddNumberToObject(report, "passed", r->passed);
  cJSON_AddNumberToObject(report, "failed", r->failed);
  cJSON_AddNumberToObject(report, "skipped", r->skipped);
  cJSON_AddNumberToObject(report, "seconds", seconds);
  cJSON_AddItemToObject(report, "checks", r->results);
  char *text = cJSON_Print(report);
  puts(text ? text : "{}");
  free(text);
  cJSON_Delete(report);
}

/* --- run ---------------------------------------------------------------------------------------------------------- */

static int run_checks(run *r, neap_error *err) {
  const char *blocked = NULL;
  neap__kit_outcome *outcome = calloc(1, sizeof(*outcome));
  int rc = outcome ? 0 : neap__fail(err, NEAP_ENOMEM, "out of memory");
  for (uint32_t i = 0; rc == 0 && i < neap__checks_count; i++) {
    const neap__check *check = &neap__checks[i];
    if (i >= FIRST_CHECKS && r->only && fnmatch(r->only, check->name, 0) != 0) continue;
    memset(outcome, 0, sizeof(*outcome));
    r->sentence = check->sentence;
    if (blocked) {
      atomic_store(&outcome->report.result, NEAP_KIT_SKIPPED);
      snprintf(outcome->report.reason, sizeof(outcome->report.reason), "not run, for '%s' failed", blocked);
    } else {
      rc = neap__kit_check(&r->options, i, outcome, show_progress, r, err);
    }
    if (rc == 0) take_outcome(r, check, outcome, blocked != NULL);
    if (rc == 0 && i < FIRST_CHECKS && !blocked && atomic_load(&outcome->report.result) == NEAP_KIT_FAILED)
      blocked = check->name;
  }
  if (blocked && !r->json) printf("\nno other check was run, for '%s' failed\n", blocked);
  free(outcome);
  return rc;
}

static int parse(run *r, int argc, char **argv, neap_error *err) {
  const neap__option table[] = {
      {.name = "params", .kind = NEAP_OPTION_TEXT, .value = &r->options.params_json},
      {.name = "class", .kind = NEAP_OPTION_TEXT, .value = &r->options.class_name},
      {.name = "only", .kind = NEAP_OPTION_TEXT, .value = &r->only},
      {.name = "timeout", .kind = NEAP_OPTION_NUMBER, .value = &r->timeout_s, .min = 0.1, .max = 3600},
      {.name = "plugin-path", .kind = NEAP_OPTION_TEXT, .value = &r->plugin_path},
      {.name = "json", .kind = NEAP_OPTION_SWITCH, .value = &r->json},
      {.name = "list", .kind = NEAP_OPTION_SWITCH, .value = &r->list},
      {.name = "help", .kind = NEAP_OPTION_SWITCH, .value = &r->help},
  };
  const char *words[1];
  size_t count = 0;
  int rc = neap__options_parse(argc, argv, table, NEAP_ARRAY_LEN(table), words, 1, &count, err);
  if (rc != 0 || r->help || r->list) return rc;
  if (count == 0) return neap__fail(err, NEAP_EINVAL, "expected a .lua or .so file, or the name of a type");
  r->options.what = words[0];
  cJSON *params = NULL;
  neap_error why = {0};
  if (neap__json_parse(r->options.params_json, &params, &why) != 0)
    return neap__fail(err, NEAP_EINVAL, "--params: %s", why.text);
  cJSON_Delete(params);
  return 0;
}

static void list_checks(void) {
  for (uint32_t i = 0; i < neap__checks_count; i++)
    printf("%-16s %s\n", neap__checks[i].name, neap__checks[i].sentence);
}

static int check(run *r) {
  neap_error err = {0};
  uint64_t started_ns = neap__now_ns();
  r->options.lua_dir = r->dirs.lua;
  r->options.plugin_dirs = r->plugin_path ? r->plugin_path : r->dirs.plugins;
  r->options.timeout_ms = (uint64_t)(r->timeout_s * 1e3);
  r->live = !r->json && isatty(STDOUT_FILENO);
  r->colour = r->live && !getenv("NO_COLOR");
  if (getrandom(&r->options.run, sizeof(r->options.run), 0) < 0) r->options.run = started_ns;
  r->results = cJSON_CreateArray();
  if (!r->json) printf("neap check %s %s\n\n", r->options.what, r->options.params_json);
  fflush(stdout);
  int rc = run_checks(r, &err);
  if (rc != 0) fprintf(stderr, "neap check: %s\n", err.text);
  summarize(r, (double)(neap__now_ns() - started_ns) / 1e9);
  if (!r->json) cJSON_Delete(r->results);
  return rc != 0 || r->failed ? 1 : 0;
}

int neap__cmd_check(int argc, char **argv) {
  run r = {.timeout_s = 30, .options.params_json = "{}"};
  neap_error err = {0};
  if (parse(&r, argc, argv, &err) != 0) {
    fprintf(stderr, "neap check: %s (see neap help check)\n", err.text);
    return 2;
  }
  if (r.help) fputs(help_text, stdout);
  if (r.list && !r.help) list_checks();
  if (r.help || r.list) return 0;
  neap__dirs_find(&r.dirs);
  return check(&r);
}
