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
#include "ctl.h"
#include "flags.h"

#define WORDS_MAX NEAP_CTL_WORDS_MAX

typedef neap__ctl request;

int neap__ctl_usage(const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  fputs("neap ctl: ", stderr);
  vfprintf(stderr, fmt, args);
  fputs(" (see neap help ctl)\n", stderr);
  va_end(args);
  return 2;
}

const char *neap__ctl_default_url(void) {
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
      "       neap ctl [OPTIONS] adapters set NAME PARAMETER=VALUE ...\n"
      "       neap ctl [OPTIONS] policy [show]\n"
      "       neap ctl [OPTIONS] policy switch POLICY\n"
      "       neap ctl [OPTIONS] policy reload\n"
      "       neap ctl [OPTIONS] policy shadow list\n"
      "       neap ctl [OPTIONS] policy shadow add|remove|reload POLICY\n"
      "       neap ctl [OPTIONS] explain KEY\n"
      "       neap ctl [OPTIONS] explain --hash HEX | --tokens FILE\n"
      "       neap ctl [OPTIONS] record save FILE\n"
      "       neap ctl [OPTIONS] record status\n\n"
      "Looks at a running server, changes its second-level adapters and its policy while it serves, and tells why\n"
      "chunks are where they are. POLICY is a built-in's name or a file, with parameters: s3fifo:small=0.2, "
      "./mine.lua.\n\n"
      "options:\n"
      "  --url URL        of the server's HTTP API (default: NEAP_URL, else %s)\n"
      "  --grace SECONDS  patience of detach and reload with what is under way (default 30)\n"
      "  --trial SECONDS  how long a new policy is on trial; 0: not at all (default 600)\n"
      "  --bound SHARE    roll back if L1's prefix hit ratio is that much below the policy before (default 0.05)\n"
      "  --cold           shadows begin empty, not with the recorded traffic\n"
      "  --hash HEX       a chunk's hash, 64 digits\n"
      "  --tokens FILE    a prompt: integers, separated by blanks or commas; - is the standard input\n"
      "  --model NAME     of the chunks (default: the only one that is registered)\n"
      "  --world-size N   of that model\n"
      "  --salt SALT      of the tenant (default: none)\n"
      "  --json           print the server's answer as it is\n"
      "  --help           show this and exit\n",
      neap__ctl_default_url());
}

/* --- printing ------------------------------------------------------------------------------------------------- */

bool neap__ctl_coloured(void) {
  const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
  return isatty(STDOUT_FILENO) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

const char *neap__ctl_text(const cJSON *object, const char *name) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
  return text ? text : "-";
}

double neap__ctl_number(const cJSON *object, const char *name) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

const char *neap__ctl_bytes(double bytes, char *text, size_t cap) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < NEAP_ARRAY_LEN(units)) bytes /= 1024, unit++;
  snprintf(text, cap, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
  return text;
}

/* What a server says goes to the terminal without its control characters. */
void neap__ctl_cell(const char *text, int width, const char *colour) {
  if (*colour) printf("\033[%sm", colour);
  int n = 0;
  for (const char *c = text; *c; c++, n++) putchar(iscntrl((unsigned char)*c) ? '?' : *c);
  if (*colour) fputs("\033[0m", stdout);
  printf("%*s", n < width ? width - n + 2 : 2, "");
}

static void print_adapter(const cJSON *a, int name_width, int type_width) {
  bool colour = neap__ctl_coloured(), healthy = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(a, "is_healthy"));
  bool draining = strcmp(neap__ctl_text(a, "state"), "draining") == 0;
  char used[32], capacity[32] = "-";
  double cap = neap__ctl_number(a, "capacity_bytes");
  if (cap > 0) neap__ctl_bytes(cap, capacity, sizeof capacity);
  printf("%5.0f  ", neap__ctl_number(a, "index"));
  neap__ctl_cell(neap__ctl_text(a, "name"), name_width, "");
  neap__ctl_cell(neap__ctl_text(a, "type"), type_width, "");
  neap__ctl_cell(neap__ctl_text(a, "state"), 8, colour && draining ? "33" : "");
  neap__ctl_cell(healthy ? "ok" : "failing", 7, !colour ? "" : healthy ? "32" : "31");
  printf("%10s  %10s  %6.0f  %9.0f  %9.0f\n", neap__ctl_bytes(neap__ctl_number(a, "used_bytes"), used, sizeof used),
         capacity, neap__ctl_number(a, "queued"), neap__ctl_number(a, "stored_objects"),
         neap__ctl_number(a, "loaded_objects"));
}

static void print_adapters(const cJSON *answer) {
  const cJSON *all = cJSON_GetObjectItemCaseSensitive(answer, "adapters");
  const cJSON *first = all ? all->child : answer; /* or the answer is the one adapter */
  size_t name = 4, type = 4;
  for (const cJSON *a = first; a; a = a->next) {
    name = NEAP_MAX(name, strlen(neap__ctl_text(a, "name")));
    type = NEAP_MAX(type, strlen(neap__ctl_text(a, "type")));
  }
  int name_width = (int)NEAP_MIN(name, 64), type_width = (int)NEAP_MIN(type, 64);
  printf("INDEX  %-*s  %-*s  %-8s  %-7s  %10s  %10s  %6s  %9s  %9s\n", name_width, "NAME", type_width, "TYPE", "STATE",
         "HEALTH", "USED", "CAPACITY", "QUEUED", "STORED", "LOADED");
  for (const cJSON *a = first; a; a = a->next) print_adapter(a, name_width, type_width);
}

static void print_detached(const cJSON *answer) {
  printf("%s detached after %.1f ms\n", neap__ctl_text(answer, "name"), neap__ctl_number(answer, "seconds") * 1000);
}

static void print_status(const cJSON *answer) {
  const cJSON *storage = cJSON_GetObjectItemCaseSensitive(answer, "storage_manager");
  const cJSON *l1 = cJSON_GetObjectItemCaseSensitive(storage, "l1_manager");
  bool colour = neap__ctl_coloured(), healthy = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "is_healthy"));
  char used[32], total[32];
  fputs("health    ", stdout);
  neap__ctl_cell(healthy ? "ok" : "an adapter fails", 0, !colour ? "" : healthy ? "32" : "31");
  printf("\nL1        %s of %s, %.0f objects\n",
         neap__ctl_bytes(neap__ctl_number(l1, "memory_used_bytes"), used, sizeof used),
         neap__ctl_bytes(neap__ctl_number(l1, "memory_total_bytes"), total, sizeof total),
         neap__ctl_number(l1, "total_object_count"));
  printf("sessions  %.0f\n", neap__ctl_number(answer, "active_sessions"));
  printf("workers   %d\n",
         cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(answer, "registered_non_cuda_instance_ids")));
  const cJSON *prefetch = cJSON_GetObjectItemCaseSensitive(storage, "prefetch_controller");
  printf("lookups   %.0f use L2, %.0f wait\n", neap__ctl_number(prefetch, "in_flight_request_count"),
         neap__ctl_number(prefetch, "pending_queue_size"));
}

/* --- asking --------------------------------------------------------------------------------------------------- */

/* The exit status. */
int neap__ctl_ask(const request *r, const char *method, const char *path, const char *body,
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
    const char *text = neap__ctl_text(answer, "error");
    if (strcmp(text, "-") == 0) text = neap__ctl_text(answer, "detail");
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
  if (n < 0 || (size_t)n >= sizeof path) return neap__ctl_usage("the name is too long");
  return neap__ctl_ask(r, method, path, body, print);
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
      neap__ctl_usage("'%s' is not valid; expected PARAMETER=VALUE", r->words[i]);
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
  int rc = neap__ctl_ask(r, "GET", "/status", NULL, print_status);
  if (rc || r->json) return rc;
  putchar('\n');
  return neap__ctl_ask(r, "GET", "/adapters", NULL, print_adapters);
}

static int list(const request *r) { return neap__ctl_ask(r, "GET", "/adapters", NULL, print_adapters); }
static int attach(const request *r) { return neap__ctl_ask(r, "POST", "/adapters", r->words[2], print_adapters); }
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

static const neap__ctl_verb adapter_verbs[] = {
    {"list", "no word", list, 0, 0},
    {"attach", "one JSON object", attach, 1, 1},
    {"detach", "the name of an adapter", detach, 1, 1},
    {"reload", "the name of an adapter, and PARAMETER=VALUE", reload, 1, WORDS_MAX},
    {"set", "the name of an adapter and PARAMETER=VALUE", set, 2, WORDS_MAX},
};

static int adapters(const request *r) {
  return neap__ctl_verbs(r, 1, "command of adapters", adapter_verbs, NEAP_ARRAY_LEN(adapter_verbs));
}

static const neap__ctl_verb verbs[] = {
    {"status", "no word", status, 0, 0},
    {"adapters", "a command", adapters, 0, WORDS_MAX},
    {"policy", "a command", neap__ctl_policy, 0, WORDS_MAX},
    {"explain", "one key, or --hash or --tokens", neap__ctl_explain, 0, 1},
    {"record", "a command", neap__ctl_record, 0, WORDS_MAX},
};

int neap__ctl_verbs(const neap__ctl *r, int at, const char *what, const neap__ctl_verb *table, size_t count) {
  const char *names[8] = {NULL}, *word = at < r->count ? r->words[at] : NULL;
  for (size_t i = 0; i < count; i++) {
    names[i] = table[i].name;
    if (!word || strcmp(table[i].name, word) != 0) continue;
    int behind = r->count - at - 1;
    if (behind >= table[i].least && behind <= table[i].most) return table[i].run(r);
    return neap__ctl_usage("%s: expected %s", table[i].name, table[i].takes);
  }
  if (!word) return neap__ctl_usage("expected a %s", what);
  const char *near = neap__nearest(word, names, count);
  return neap__ctl_usage("unknown %s '%s'%s%s%s", what, word, near ? "; did you mean '" : "", near ? near : "",
                         near ? "'?" : "");
}

/* 0: go on; else the exit status, or -1 for help. */
static int read_option(request *r, int argc, char **argv, int *at) {
  const struct {
    const char *name, **value;
    bool *flag;
  } options[] = {
      {"--url", &r->url, NULL},     {"--grace", &r->grace, NULL},      {"--trial", &r->trial, NULL},
      {"--bound", &r->bound, NULL}, {"--hash", &r->hash, NULL},        {"--tokens", &r->tokens, NULL},
      {"--model", &r->model, NULL}, {"--world-size", &r->world, NULL}, {"--salt", &r->salt, NULL},
      {"--json", NULL, &r->json},   {"--cold", NULL, &r->cold},        {"--help", NULL, NULL},
  };
  const char *names[NEAP_ARRAY_LEN(options)];
  char *word = argv[*at], *value = strchr(word, '=');
  size_t bytes = value ? (size_t)(value - word) : strlen(word), i = 0;
  if (strcmp(word, "-h") == 0) return -1;
  for (size_t n = 0; n < NEAP_ARRAY_LEN(options); n++) names[n] = options[n].name;
  while (i < NEAP_ARRAY_LEN(names) && (strlen(names[i]) != bytes || strncmp(names[i], word, bytes) != 0)) i++;
  if (i == NEAP_ARRAY_LEN(names)) {
    const char *near = neap__nearest(word, names, NEAP_ARRAY_LEN(names));
    return neap__ctl_usage("unknown option '%s'%s%s%s", word, near ? "; did you mean '" : "", near ? near : "",
                           near ? "'?" : "");
  }
  if (options[i].flag) *options[i].flag = true;
  if (!options[i].value) return options[i].flag ? value ? neap__ctl_usage("%s takes no value", names[i]) : 0 : -1;
  const char *given = value ? value + 1 : *at + 1 < argc ? argv[++*at] : "";
  if (!*given && options[i].value != &r->salt) return neap__ctl_usage("%s: expected a value", names[i]);
  *options[i].value = given;
  return 0;
}

int neap__cmd_ctl(int argc, char **argv) {
  request r = {.url = neap__ctl_default_url()};
  for (int i = 1; i < argc; i++) {
    if (argv[i][0] != '-') {
      if (r.count == WORDS_MAX - 1) return neap__ctl_usage("more than %d words", WORDS_MAX - 1);
      r.words[r.count++] = argv[i];
      continue;
    }
    int rc = read_option(&r, argc, argv, &i);
    if (rc > 0) return rc;
    if (rc == 0) continue;
    print_help();
    return 0;
  }
  return neap__ctl_verbs(&r, 0, "command", verbs, NEAP_ARRAY_LEN(verbs));
}
