/* SPDX-License-Identifier: MIT
 *
 * cli/ctl.c - `neap ctl`: looks at a running server and changes its adapters, over HTTP. Reads the words, sends one
 * request, prints the answer: a table for people, or the server's JSON with --json. Single-threaded. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli.h"
#include "ctl_http.h"
#include "flags.h"

#define WORDS_MAX 64

typedef struct request {
  const char *url, *grace;
  bool json;
  int count; /* words behind "ctl" that are no options */
  char *words[WORDS_MAX];
} request;

static int usage(const char *fmt, ...) NEAP_PRINTF(1, 2);

static int usage(const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  fputs("neap ctl: ", stderr);
  vfprintf(stderr, fmt, args);
  fputs(" (see neap help ctl)\n", stderr);
  va_end(args);
  return 2;
}

static const char *default_url(void) {
  static char url[64];
  size_t count;
  const char *given = getenv("NEAP_URL");
  const neap__flag *flag = neap__flag_table(&count);
  if (given && *given) return given;
  while (strcmp(flag->name, "http-port") != 0) flag++;
  snprintf(url, sizeof url, "http://127.0.0.1:%s", flag->fallback);
  return url;
}

static void print_help(void) {
  printf(
      "usage: neap ctl [OPTIONS] status\n"
      "       neap ctl [OPTIONS] adapters list\n"
      "       neap ctl [OPTIONS] adapters attach JSON\n"
      "       neap ctl [OPTIONS] adapters detach NAME\n"
      "       neap ctl [OPTIONS] adapters reload NAME [PARAMETER=VALUE ...]\n"
      "       neap ctl [OPTIONS] adapters set NAME PARAMETER=VALUE ...\n\n"
      "Looks at a running server and changes its second-level adapters while it serves.\n\n"
      "options:\n"
      "  --url URL        of the server's HTTP API (default: NEAP_URL, else %s)\n"
      "  --grace SECONDS  patience of detach and reload with what is under way (default 30)\n"
      "  --json           print the server's answer as it is\n"
      "  --help           show this and exit\n",
      default_url());
}

/* --- printing ------------------------------------------------------------------------------------------------- */

static bool coloured(void) {
  const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
  return isatty(STDOUT_FILENO) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

static const char *text_of(const cJSON *object, const char *name) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
  return text ? text : "-";
}

static double number_of(const cJSON *object, const char *name) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char *bytes_text(double bytes, char *text, size_t cap) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < NEAP_ARRAY_LEN(units)) bytes /= 1024, unit++;
  snprintf(text, cap, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
  return text;
}

/* What a server says goes to the terminal without its control characters. */
static void print_cell(const char *text, int width, const char *colour) {
  if (*colour) printf("\033[%sm", colour);
  int n = 0;
  for (const char *c = text; *c; c++, n++) putchar(iscntrl((unsigned char)*c) ? '?' : *c);
  if (*colour) fputs("\033[0m", stdout);
  printf("%*s", n < width ? width - n + 2 : 2, "");
}

static void print_adapter(const cJSON *a, int name_width, int type_width) {
  bool colour = coloured(), healthy = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(a, "is_healthy"));
  bool draining = strcmp(text_of(a, "state"), "draining") == 0;
  char used[32], capacity[32] = "-";
  double cap = number_of(a, "capacity_bytes");
  if (cap > 0) bytes_text(cap, capacity, sizeof capacity);
  printf("%5.0f  ", number_of(a, "index"));
  print_cell(text_of(a, "name"), name_width, "");
  print_cell(text_of(a, "type"), type_width, "");
  print_cell(text_of(a, "state"), 8, colour && draining ? "33" : "");
  print_cell(healthy ? "ok" : "failing", 7, !colour ? "" : healthy ? "32" : "31");
  printf("%10s  %10s  %6.0f  %9.0f  %9.0f\n", bytes_text(number_of(a, "used_bytes"), used, sizeof used), capacity,
         number_of(a, "queued"), number_of(a, "stored_objects"), number_of(a, "loaded_objects"));
}

static void print_adapters(const cJSON *answer) {
  const cJSON *all = cJSON_GetObjectItemCaseSensitive(answer, "adapters");
  const cJSON *first = all ? all->child : answer; /* or the answer is the one adapter */
  size_t name = 4, type = 4;
  for (const cJSON *a = first; a; a = a->next) {
    name = NEAP_MAX(name, strlen(text_of(a, "name")));
    type = NEAP_MAX(type, strlen(text_of(a, "type")));
  }
  int name_width = (int)NEAP_MIN(name, 64), type_width = (int)NEAP_MIN(type, 64);
  printf("INDEX  %-*s  %-*s  %-8s  %-7s  %10s  %10s  %6s  %9s  %9s\n", name_width, "NAME", type_width, "TYPE", "STATE",
         "HEALTH", "USED", "CAPACITY", "QUEUED", "STORED", "LOADED");
  for (const cJSON *a = first; a; a = a->next) print_adapter(a, name_width, type_width);
}

static void print_detached(const cJSON *answer) {
  printf("%s detached after %.1f ms\n", text_of(answer, "name"), number_of(answer, "seconds") * 1000);
}

static void print_status(const cJSON *answer) {
  const cJSON *storage = cJSON_GetObjectItemCaseSensitive(answer, "storage_manager");
  const cJSON *l1 = cJSON_GetObjectItemCaseSensitive(storage, "l1_manager");
  bool colour = coloured(), healthy = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "is_healthy"));
  char used[32], total[32];
  fputs("health    ", stdout);
  print_cell(healthy ? "ok" : "an adapter fails", 0, !colour ? "" : healthy ? "32" : "31");
  printf("\nL1        %s of %s, %.0f objects\n", bytes_text(number_of(l1, "memory_used_bytes"), used, sizeof used),
         bytes_text(number_of(l1, "memory_total_bytes"), total, sizeof total), number_of(l1, "total_object_count"));
  printf("sessions  %.0f\n", number_of(answer, "active_sessions"));
  printf("workers   %d\n",
         cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(answer, "registered_non_cuda_instance_ids")));
  const cJSON *prefetch = cJSON_GetObjectItemCaseSensitive(storage, "prefetch_controller");
  printf("lookups   %.0f use L2, %.0f wait\n", number_of(prefetch, "in_flight_request_count"),
         number_of(prefetch, "pending_queue_size"));
}

/* --- asking --------------------------------------------------------------------------------------------------- */

/* The exit status. */
static int ask(const request *r, const char *method, const char *path, const char *body,
               void (*print)(const cJSON *answer)) {
  neap_error err = {""};
  cJSON *answer = NULL;
  long status = 0;
  int rc = neap__ctl_request(r->url, method, path, body, &status, &answer, &err);
  bool good = rc == 0 && status >= 200 && status < 300 && cJSON_IsObject(answer);
  if (good && !r->json) print(answer);
  if (answer && r->json) {
    char *text = cJSON_Print(answer);
    if (text) puts(text);
    free(text);
  }
  if (rc) {
    fprintf(stderr, "neap ctl: %s\n", err.text);
  } else if (!good) {
    const char *text = text_of(answer, "error");
    if (strcmp(text, "-") == 0) text = text_of(answer, "detail");
    fprintf(stderr, "neap ctl: %s (HTTP %ld)\n", strcmp(text, "-") == 0 ? "the answer is not neap's" : text, status);
  }
  cJSON_Delete(answer);
  return good && fflush(stdout) == 0 ? 0 : rc == NEAP_EINVAL ? 2 : 1;
}

static int ask_adapter(const request *r, const char *method, const char *verb, const char *body,
                       void (*print)(const cJSON *answer)) {
  char path[1024];
  char *name = neap__ctl_escape(r->words[2]), *grace = neap__ctl_escape(r->grace ? r->grace : "");
  int n = name && grace
              ? snprintf(path, sizeof path, "/adapters/%s%s%s%s", name, verb, r->grace ? "?grace=" : "", grace)
              : -1;
  free(name);
  free(grace);
  if (n < 0 || (size_t)n >= sizeof path) return usage("the name is too long");
  return ask(r, method, path, body, print);
}

/* PARAMETER=VALUE words as a JSON object, malloc'd. A value that is not JSON is a string. */
static char *params_of(const request *r) {
  cJSON *params = cJSON_CreateObject();
  for (int i = 3; i < r->count; i++) {
    char *equals = strchr(r->words[i], '='), name[256];
    cJSON *value = NULL;
    neap_error ignored = {""};
    int bytes = equals ? (int)(equals - r->words[i]) : 0;
    if (bytes == 0 || (size_t)bytes >= sizeof name) {
      usage("'%s' is not valid; expected PARAMETER=VALUE", r->words[i]);
      cJSON_Delete(params);
      return NULL;
    }
    snprintf(name, sizeof name, "%.*s", bytes, r->words[i]);
    if (neap__json_parse(equals + 1, &value, &ignored) != 0) value = cJSON_CreateString(equals + 1);
    cJSON_AddItemToObject(params, name, value);
  }
  char *text = cJSON_PrintUnformatted(params);
  cJSON_Delete(params);
  return text;
}

/* --- the words ------------------------------------------------------------------------------------------------ */

static int status(const request *r) {
  int rc = ask(r, "GET", "/status", NULL, print_status);
  if (rc || r->json) return rc;
  putchar('\n');
  return ask(r, "GET", "/adapters", NULL, print_adapters);
}

static int list(const request *r) { return ask(r, "GET", "/adapters", NULL, print_adapters); }
static int attach(const request *r) { return ask(r, "POST", "/adapters", r->words[2], print_adapters); }
static int detach(const request *r) { return ask_adapter(r, "DELETE", "", NULL, print_detached); }

static int change(const request *r, const char *method, const char *verb) {
  char *body = params_of(r);
  if (!body) return 2;
  int rc = ask_adapter(r, method, verb, r->count > 3 ? body : NULL, print_adapters);
  free(body);
  return rc;
}

static int reload(const request *r) { return change(r, "POST", "/reload"); }
static int set(const request *r) { return change(r, "PATCH", ""); }

typedef struct verb {
  const char *name, *takes;
  int (*run)(const request *r);
  int least, most; /* words behind it */
} verb;

static const verb verbs[] = {{"status", "no word", status, 0, 0}, {"adapters", "", NULL, 0, 0}};
static const verb adapter_verbs[] = {
    {"list", "no word", list, 0, 0},
    {"attach", "one JSON object", attach, 1, 1},
    {"detach", "the name of an adapter", detach, 1, 1},
    {"reload", "the name of an adapter, and PARAMETER=VALUE", reload, 1, WORDS_MAX},
    {"set", "the name of an adapter and PARAMETER=VALUE", set, 2, WORDS_MAX},
};

static const verb *find_verb(const verb *table, size_t count, const char *what, const char *word) {
  const char *names[8], *near;
  for (size_t i = 0; i < count; i++) {
    if (word && strcmp(table[i].name, word) == 0) return &table[i];
    names[i] = table[i].name;
  }
  near = word ? neap__nearest(word, names, count) : NULL;
  if (word)
    usage("unknown %s '%s'%s%s%s", what, word, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
  else
    usage("expected a %s", what);
  return NULL;
}

static int run(const request *r) {
  const verb *v = find_verb(verbs, NEAP_ARRAY_LEN(verbs), "command", r->words[0]);
  int behind = r->count - 1;
  if (v && !v->run) {
    v = find_verb(adapter_verbs, NEAP_ARRAY_LEN(adapter_verbs), "command of adapters", r->words[1]);
    behind--;
  }
  if (!v) return 2;
  if (behind < v->least || behind > v->most) return usage("%s: expected %s", v->name, v->takes);
  return v->run(r);
}

/* 0: go on; else the exit status, or -1 for help. */
static int read_option(request *r, int argc, char **argv, int *at) {
  static const char *const names[] = {"--url", "--grace", "--json", "--help"};
  char *word = argv[*at], *value = strchr(word, '=');
  size_t bytes = value ? (size_t)(value - word) : strlen(word), i = 0;
  if (strcmp(word, "-h") == 0) return -1;
  while (i < NEAP_ARRAY_LEN(names) && (strlen(names[i]) != bytes || strncmp(names[i], word, bytes) != 0)) i++;
  if (i == NEAP_ARRAY_LEN(names)) {
    const char *near = neap__nearest(word, names, NEAP_ARRAY_LEN(names));
    return usage("unknown option '%s'%s%s%s", word, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
  }
  if (i == 3) return -1;
  if (i == 2) {
    r->json = true;
    return value ? usage("--json takes no value") : 0;
  }
  const char *given = value ? value + 1 : *at + 1 < argc ? argv[++*at] : "";
  if (!*given) return usage("%s: expected a value", names[i]);
  *(i == 0 ? &r->url : &r->grace) = given;
  return 0;
}

int neap__cmd_ctl(int argc, char **argv) {
  request r = {.url = default_url()};
  for (int i = 1; i < argc; i++) {
    if (argv[i][0] != '-') {
      if (r.count == WORDS_MAX - 1) return usage("more than %d words", WORDS_MAX - 1);
      r.words[r.count++] = argv[i];
      continue;
    }
    int rc = read_option(&r, argc, argv, &i);
    if (rc > 0) return rc;
    if (rc == 0) continue;
    print_help();
    return 0;
  }
  return run(&r);
}
