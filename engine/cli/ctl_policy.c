/* SPDX-License-Identifier: MIT
 *
 * cli/ctl_policy.c - `neap ctl policy` and `neap ctl record`: the live policy, its shadows, the recording. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"

#define RECORDING_MAX ((size_t)4 << 30)

/* --- printing -------------------------------------------------------------------------------------------------- */

static const cJSON *member(const cJSON *object, const char *name) {
  return cJSON_GetObjectItemCaseSensitive(object, name);
}

static const char *percent(const cJSON *tally, const char *name, char *text, size_t room) {
  const cJSON *ratio = member(tally, name);
  if (cJSON_IsNumber(ratio))
    snprintf(text, room, "%.1f %%", ratio->valuedouble * 100);
  else
    snprintf(text, room, "-");
  return text;
}

static void print_shadow(const cJSON *s, int width) {
  char predicted[16], block[16], actual[16];
  const cJSON *window = member(s, "window");
  bool colour = neap__ctl_coloured();
  const char *state = neap__ctl_text(s, "state");
  bool good = strcmp(state, "running") == 0, warms = strcmp(state, "warming") == 0;
  neap__ctl_cell(neap__ctl_text(s, "policy"), width, "");
  neap__ctl_cell(state, 7, !colour ? "" : good ? "32" : warms ? "33" : "31");
  printf("%9s  %9s  %9s  %8.0f  %7.0f  %6.0f  %5.1f %%  %s\n",
         percent(window, "prefix_hit_ratio", predicted, sizeof predicted),
         percent(window, "actual_l1_prefix_hit_ratio", actual, sizeof actual),
         percent(window, "block_hit_ratio", block, sizeof block), neap__ctl_number(window, "requests"),
         neap__ctl_number(s, "dropped_requests"), neap__ctl_number(s, "lag_ms"), neap__ctl_number(s, "cpu_share") * 100,
         good && !cJSON_IsTrue(member(s, "full")) ? "not yet full" : "");
  if (!good && !warms) printf("  %s\n", neap__ctl_text(s, "why"));
}

static void print_shadows(const cJSON *answer) {
  const cJSON *list = member(answer, "shadows"), *s;
  size_t width = 6;
  if (!cJSON_GetArraySize(list)) {
    puts("no shadows");
    return;
  }
  cJSON_ArrayForEach(s, list) width = NEAP_MAX(width, strlen(neap__ctl_text(s, "policy")));
  int columns = (int)NEAP_MIN(width, 64);
  printf("%-*s  %-7s  %9s  %9s  %9s  %8s  %7s  %6s  %7s\n", columns, "SHADOW", "STATE", "PREDICTED", "ACTUAL", "BLOCK",
         "LOOKUPS", "DROPPED", "LAG ms", "CPU");
  cJSON_ArrayForEach(s, list) print_shadow(s, columns);
}

static void print_changes(const cJSON *answer) {
  const cJSON *c;
  cJSON_ArrayForEach(c, member(answer, "changes")) {
    time_t at = (time_t)neap__ctl_number(c, "time");
    struct tm local;
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", localtime_r(&at, &local));
    printf("%s  %s: ", text, neap__ctl_text(c, "how"));
    neap__ctl_cell(neap__ctl_text(c, "from"), 0, "");
    fputs("-> ", stdout);
    neap__ctl_cell(neap__ctl_text(c, "to"), 0, "");
    neap__ctl_cell(neap__ctl_text(c, "outcome"), 0, "");
    neap__ctl_cell(neap__ctl_text(c, "why"), 0, "");
    putchar('\n');
  }
}

static void print_policy(const cJSON *answer) {
  char l1[16], all[16], capacity[32];
  const cJSON *window = member(answer, "window"), *trial = member(answer, "trial"), *reason;
  bool out = cJSON_IsTrue(member(answer, "out"));
  fputs("policy    ", stdout);
  neap__ctl_cell(neap__ctl_text(answer, "policy"), 0, neap__ctl_coloured() ? out ? "31" : "32" : "");
  neap__ctl_cell(neap__ctl_text(answer, "place"), 0, "");
  putchar('\n');
  if (out) printf("out       the built-in LRU stands in: %s\n", neap__ctl_text(answer, "why"));
  printf("hits      %s of the prefix in L1, %s with L2, of the last %.0f lookups\n",
         percent(window, "actual_l1_prefix_hit_ratio", l1, sizeof l1),
         percent(window, "actual_prefix_hit_ratio", all, sizeof all), neap__ctl_number(window, "requests"));
  printf("L1        %.0f chunks, evicts above %s\n", neap__ctl_number(answer, "residents"),
         neap__ctl_bytes(neap__ctl_number(answer, "capacity_bytes"), capacity, sizeof capacity));
  fputs("misses    ", stdout);
  cJSON_ArrayForEach(reason, member(answer, "missed_chunks")) {
    if (reason->valuedouble > 0) printf("%s %.0f  ", reason->string, reason->valuedouble);
  }
  putchar('\n');
  if (cJSON_IsObject(trial)) {
    char predicted[16];
    const cJSON *reference = member(trial, "reference");
    printf("trial     %.0f s left; rolled back if more than %.1f points below %s, which would have %s\n",
           neap__ctl_number(trial, "seconds_left"), neap__ctl_number(trial, "bound") * 100,
           neap__ctl_text(reference, "policy"),
           percent(member(reference, "window"), "prefix_hit_ratio", predicted, sizeof predicted));
  }
  putchar('\n');
  print_shadows(answer);
  if (cJSON_GetArraySize(member(answer, "changes"))) putchar('\n');
  print_changes(answer);
}

static void print_record(const cJSON *answer) {
  char bytes[32], most[32];
  if (!cJSON_IsTrue(member(answer, "on"))) {
    puts("nothing is recorded: the server runs with --no-record");
    return;
  }
  double references = neap__ctl_number(answer, "references");
  printf("recorded  %.0f requests in %s of at most %s\n", neap__ctl_number(answer, "requests"),
         neap__ctl_bytes(neap__ctl_number(answer, "bytes"), bytes, sizeof bytes),
         neap__ctl_bytes(neap__ctl_number(answer, "bytes_max"), most, sizeof most));
  printf("chunks    %.0f, %.1f %% of them seen before\n", references,
         references > 0 ? neap__ctl_number(answer, "repeated_references") / references * 100 : 0);
  printf("lost      %.0f made way for later ones, %.0f had no room in the ring\n",
         neap__ctl_number(answer, "forgotten_requests"), neap__ctl_number(answer, "dropped_requests"));
}

/* --- asking ---------------------------------------------------------------------------------------------------- */

/* A file is named from where the words were typed, and found by a server that may run elsewhere: its whole path. The
 * parameters behind it stay. */
static void absolute(const char *spec, char *out, size_t room) {
  static const char isolated[] = "isolated:";
  const char *from = strncasecmp(spec, isolated, sizeof isolated - 1) == 0 ? spec + sizeof isolated - 1 : spec;
  const char *lua = strstr(from, ".lua"), *so = strstr(from, ".so"), *end = lua ? lua + 4 : so ? so + 3 : NULL;
  char file[PATH_MAX], whole[PATH_MAX];
  snprintf(out, room, "%s", spec);
  if (!end || (*end && *end != ':') || *from == '/' || (size_t)(end - from) >= sizeof file) return;
  snprintf(file, sizeof file, "%.*s", (int)(end - from), from);
  if (realpath(file, whole)) snprintf(out, room, "%.*s%s%s", (int)(from - spec), spec, whole, end);
}

static bool add_number(cJSON *body, const char *option, const char *text, const char *name) {
  char *end = NULL;
  if (!text) return true;
  double value = strtod(text, &end);
  if (end == text || *end || !isfinite(value)) {
    neap__ctl_usage("%s: '%s' is not valid; expected a number", option, text);
    return false;
  }
  cJSON_AddNumberToObject(body, name, value);
  return true;
}

/* POSTs what the options say. */
static int post(const neap__ctl *r, const char *path, const char *spec, bool trial, void (*print)(const cJSON *)) {
  char whole[PATH_MAX + 512];
  cJSON *body = cJSON_CreateObject();
  if (spec) absolute(spec, whole, sizeof whole);
  if (spec) cJSON_AddStringToObject(body, "policy", whole);
  if (r->cold) cJSON_AddBoolToObject(body, "warm", false);
  bool good = !trial || (add_number(body, "--trial", r->trial, "trial_seconds") &&
                         add_number(body, "--bound", r->bound, "bound"));
  char *text = cJSON_PrintUnformatted(body);
  int status = good && text ? neap__ctl_ask(r, "POST", path, text, print) : 2;
  free(text);
  cJSON_Delete(body);
  return status;
}

static int ask_shadow(const neap__ctl *r, const char *method, const char *verb) {
  char whole[PATH_MAX + 512], path[4096];
  absolute(r->words[3], whole, sizeof whole);
  char *name = neap__ctl_escape(whole);
  int n = name ? snprintf(path, sizeof path, "/policy/shadows/%s%s", name, verb) : -1;
  free(name);
  if (n < 0 || (size_t)n >= sizeof path) return neap__ctl_usage("the policy's name is too long");
  return neap__ctl_ask(r, method, path, NULL, print_shadows);
}

static int show(const neap__ctl *r) { return neap__ctl_ask(r, "GET", "/policy", NULL, print_policy); }
static int switch_to(const neap__ctl *r) { return post(r, "/policy/switch", r->words[2], true, print_policy); }
static int reload(const neap__ctl *r) { return post(r, "/policy/reload", NULL, true, print_policy); }
static int list(const neap__ctl *r) { return neap__ctl_ask(r, "GET", "/policy/shadows", NULL, print_shadows); }
static int add(const neap__ctl *r) { return post(r, "/policy/shadows", r->words[3], false, print_shadows); }
static int drop(const neap__ctl *r) { return ask_shadow(r, "DELETE", ""); }
static int reload_shadow(const neap__ctl *r) { return ask_shadow(r, "POST", "/reload"); }

static int shadow(const neap__ctl *r) {
  static const neap__ctl_verb table[] = {
      {"list", "no word", list, 0, 0},
      {"add", "a policy", add, 1, 1},
      {"remove", "a shadow's policy or number", drop, 1, 1},
      {"reload", "a shadow's policy or number", reload_shadow, 1, 1},
  };
  return neap__ctl_verbs(r, 2, "command of policy shadow", table, NEAP_ARRAY_LEN(table));
}

int neap__ctl_policy(const neap__ctl *r) {
  static const neap__ctl_verb table[] = {
      {"show", "no word", show, 0, 0},
      {"switch", "a policy", switch_to, 1, 1},
      {"reload", "no word", reload, 0, 0},
      {"shadow", "a command", shadow, 0, NEAP_CTL_WORDS_MAX},
  };
  return r->count == 1 ? show(r) : neap__ctl_verbs(r, 1, "command of policy", table, NEAP_ARRAY_LEN(table));
}

/* --- the recording --------------------------------------------------------------------------------------------- */

/* Whole or not at all. */
static int write_file(const char *path, const char *bytes, size_t count, neap_error *err) {
  char other[PATH_MAX];
  int n = snprintf(other, sizeof other, "%s.part", path);
  FILE *file = n > 0 && (size_t)n < sizeof other ? fopen(other, "wbe") : NULL;
  bool good = file && fwrite(bytes, 1, count, file) == count;
  if (file && fclose(file) != 0) good = false;
  if (good && rename(other, path) == 0) return 0;
  neap__fail(err, NEAP_EIO, "%s: %m", path);
  if (file) unlink(other);
  return NEAP_EIO;
}

static int save(const neap__ctl *r) {
  char *bytes = NULL, size[32];
  size_t count = 0;
  long status = 0;
  neap_error err = {""};
  int rc = neap__ctl_fetch(r->url, "GET", "/record", NULL, RECORDING_MAX, &status, &bytes, &count, &err);
  if (rc == 0 && status != 200) {
    cJSON *answer = cJSON_Parse(bytes);
    rc = neap__fail(&err, NEAP_EIO, "%s (HTTP %ld)", neap__ctl_text(answer, "error"), status);
    cJSON_Delete(answer);
  }
  if (rc == 0) rc = write_file(r->words[2], bytes, count, &err);
  free(bytes);
  if (rc)
    fprintf(stderr, "neap ctl: %s\n", err.text);
  else if (!r->json)
    printf("%s  %s\n", r->words[2], neap__ctl_bytes((double)count, size, sizeof size));
  else
    printf("{\"bytes\": %zu}\n", count);
  return rc ? rc == NEAP_EINVAL ? 2 : 1 : 0;
}

static int record_status(const neap__ctl *r) { return neap__ctl_ask(r, "GET", "/record/status", NULL, print_record); }

int neap__ctl_record(const neap__ctl *r) {
  static const neap__ctl_verb table[] = {
      {"save", "a file", save, 1, 1},
      {"status", "no word", record_status, 0, 0},
  };
  return neap__ctl_verbs(r, 1, "command of record", table, NEAP_ARRAY_LEN(table));
}
