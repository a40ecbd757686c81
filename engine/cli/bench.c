/* SPDX-License-Identifier: MIT
 *
 * cli/bench.c - `neap bench adapter`: how fast an adapter is, beside the limits of the machine in the same run.
 *
 * The measuring is kit/bench.h; here are the command line and the two forms of the report. One thread submits. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/json.h"
#include "cli.h"
#include "kit/bench.h"
#include "options.h"

#define MIB 1048576.0

static const char help_text[] =
    "usage: neap bench adapter FILE|TYPE [OPTIONS]\n\n"
    "Measures stores and loads of one adapter and compares every byte. Beside it, in the same run, what the machine\n"
    "gives: raw O_DIRECT if a parameter is a directory, loopback if one is a port or a socket, else memcpy.\n\n"
    "options:\n"
    "  --params JSON    parameters of the adapter, as in --l2-adapter (default {})\n"
    "  --class NAME     the class of a file that offers several\n"
    "  --size BYTES     of an object, such as 64K or 1M (default 1M)\n"
    "  --batch N        objects of one operation (default 16)\n"
    "  --depth N        operations at once (default 8)\n"
    "  --seconds S      about how long (default 5); three rounds at least\n"
    "  --timeout S      seconds that one operation may take (default 30)\n"
    "  --plugin-path P  where types are looked for, and inner adapters\n"
    "  --json           the figures as one JSON object\n"
    "  --help           show this and exit\n\n"
    "Exit status: 0 measured, 1 the adapter failed or gave wrong bytes, 2 the command line was wrong.\n";

typedef struct run {
  neap__kit_options options;
  neap__bench_load load;
  neap__dirs dirs;
  const char *plugin_path;
  double batch, depth, timeout_s;
  bool json, help, live;
} run;

/* --- report ------------------------------------------------------------------------------------------------------- */

static void show_progress(void *ctx, const char *what, double done) {
  const run *r = ctx;
  if (!r->live) return;
  fprintf(stderr, "\r\x1b[K%3.0f %%  %s", done < 1 ? done * 100 : 100, what);
  fflush(stderr);
}

static void print_figure(const char *name, const neap__bench_figure *f, const neap__bench_figure *limit) {
  char ratio[16] = "";
  if (limit && limit->median > 0) snprintf(ratio, sizeof(ratio), "%.2f", f->median / limit->median);
  printf("%-12s %10.1f %10.1f %10.1f %8s", name, f->median / MIB, f->least / MIB, f->most / MIB, ratio);
  if (f->p50_us > 0) printf(" %11.0f %11.0f", f->p50_us, f->p99_us);
  putchar('\n');
}

static void print_report(const run *r, const neap__bench_result *result) {
  char store[32], load[32];
  printf("%s: objects of %llu bytes, %u per operation, %u operations at once; %u rounds\n", result->name,
         (unsigned long long)r->load.size, result->batch, result->depth, result->rounds);
  printf("%llu objects, %llu compared byte for byte, all others at both ends\n\n", (unsigned long long)result->objects,
         (unsigned long long)result->verified);
  printf("%-12s %10s %10s %10s %8s %11s %11s\n", "MiB/s", "median", "least", "most", "ratio", "p50 us/op", "p99 us/op");
  print_figure("store", &result->store, &result->limit_store);
  print_figure("load", &result->load, &result->limit_load);
  snprintf(store, sizeof(store), "%s%s", result->limit, strcmp(result->limit, "O_DIRECT") == 0 ? " w" : "");
  snprintf(load, sizeof(load), "%s r", result->limit);
  if (strcmp(result->limit, "memcpy") != 0 && result->limit_store.median > 0)
    print_figure(store, &result->limit_store, NULL);
  if (strcmp(result->limit, "O_DIRECT") == 0 && result->limit_load.median > 0)
    print_figure(load, &result->limit_load, NULL);
  print_figure("memcpy", &result->memcpy_, NULL);
  printf("\nratio: to %s%s%s%s\n", result->limit, *result->limit_note ? ", which was not measured (" : "",
         result->limit_note, *result->limit_note ? ")" : "");
  double per_object_us = result->store.median > 0 ? (double)r->load.size / result->store.median * 1e6 : 0;
  double per_load_us = result->load.median > 0 ? (double)r->load.size / result->load.median * 1e6 : 0;
  printf("per object: store %.2f us, load %.2f us\n", per_object_us, per_load_us);
}

static void add_figure(cJSON *report, const char *name, const neap__bench_figure *f) {
  cJSON *item = cJSON_AddObjectToObject(report, name);
  cJSON_AddNumberToObject(item, "bytes_per_s", f->median);
  cJSON_AddNumberToObject(item, "bytes_per_s_least", f->least);
  cJSON_AddNumberToObject(item, "bytes_per_s_most", f->most);
  if (f->p50_us <= 0) return;
  cJSON_AddNumberToObject(item, "p50_us", f->p50_us);
  cJSON_AddNumberToObject(item, "p99_us", f->p99_us);
}

static void print_json(const run *r, const neap__bench_result *result) {
  cJSON *report = cJSON_CreateObject();
  cJSON_AddStringToObject(report, "adapter", result->name);
  cJSON_AddNumberToObject(report, "size", (double)r->load.size);
  cJSON_AddNumberToObject(report, "batch", result->batch);
  cJSON_AddNumberToObject(report, "depth", result->depth);
  cJSON_AddNumberToObject(report, "rounds", result->rounds);
  cJSON_AddNumberToObject(report, "objects", (double)result->objects);
  cJSON_AddNumberToObject(report, "verified", (double)result->verified);
  cJSON_AddStringToObject(report, "limit", result->limit);
  cJSON_AddStringToObject(report, "limit_note", result->limit_note);
  add_figure(report, "store", &result->store);
  add_figure(report, "load", &result->load);
  add_figure(report, "limit_store", &result->limit_store);
  add_figure(report, "limit_load", &result->limit_load);
  add_figure(report, "memcpy", &result->memcpy_);
  if (result->limit_store.median > 0) {
    cJSON_AddNumberToObject(report, "store_ratio", result->store.median / result->limit_store.median);
    cJSON_AddNumberToObject(report, "load_ratio", result->load.median / result->limit_load.median);
  }
  char *text = cJSON_Print(report);
  puts(text ? text : "{}");
  free(text);
  cJSON_Delete(report);
}

/* --- command ------------------------------------------------------------------------------------------------------ */

static int parse(run *r, int argc, char **argv, neap_error *err) {
  const neap__option table[] = {
      {.name = "params", .kind = NEAP_OPTION_TEXT, .value = &r->options.params_json},
      {.name = "class", .kind = NEAP_OPTION_TEXT, .value = &r->options.class_name},
      {.name = "size", .kind = NEAP_OPTION_BYTES, .value = &r->load.size, .min = 1, .max = 1073741824},
      {.name = "batch", .kind = NEAP_OPTION_NUMBER, .value = &r->batch, .min = 1, .max = 1024},
      {.name = "depth", .kind = NEAP_OPTION_NUMBER, .value = &r->depth, .min = 1, .max = 256},
      {.name = "seconds", .kind = NEAP_OPTION_NUMBER, .value = &r->load.seconds, .min = 0.1, .max = 3600},
      {.name = "timeout", .kind = NEAP_OPTION_NUMBER, .value = &r->timeout_s, .min = 0.1, .max = 3600},
      {.name = "plugin-path", .kind = NEAP_OPTION_TEXT, .value = &r->plugin_path},
      {.name = "json", .kind = NEAP_OPTION_SWITCH, .value = &r->json},
      {.name = "help", .kind = NEAP_OPTION_SWITCH, .value = &r->help},
  };
  const char *words[2];
  size_t count = 0;
  int rc = neap__options_parse(argc, argv, table, NEAP_ARRAY_LEN(table), words, 2, &count, err);
  if (rc != 0 || r->help) return rc;
  if (count != 2 || strcmp(words[0], "adapter") != 0)
    return neap__fail(err, NEAP_EINVAL, "expected: neap bench adapter FILE|TYPE");
  r->options.what = words[1];
  r->load.batch = (uint32_t)r->batch;
  r->load.depth = (uint32_t)r->depth;
  return 0;
}

static int measure(run *r) {
  neap_error err = {0};
  neap__bench_result result;
  r->options.lua_dir = r->dirs.lua;
  r->options.plugin_dirs = r->plugin_path ? r->plugin_path : r->dirs.plugins;
  r->options.timeout_ms = (uint64_t)(r->timeout_s * 1e3);
  r->live = isatty(STDERR_FILENO);
  if (getrandom(&r->options.run, sizeof(r->options.run), 0) < 0) r->options.run = neap__now_ns();
  signal(SIGPIPE, SIG_IGN);
  int rc = neap__bench(&r->options, &r->load, &result, show_progress, r, &err);
  if (r->live) fputs("\r\x1b[K", stderr);
  if (rc != 0) {
    fprintf(stderr, "neap bench: %s\n", err.text[0] ? err.text : neap_strerror(rc));
    return 1;
  }
  if (r->json)
    print_json(r, &result);
  else
    print_report(r, &result);
  return 0;
}

int neap__cmd_bench(int argc, char **argv) {
  run r = {
      .options.params_json = "{}", .load = {.size = 1048576, .seconds = 5}, .batch = 16, .depth = 8, .timeout_s = 30};
  neap_error err = {0};
  if (parse(&r, argc, argv, &err) != 0) {
    fprintf(stderr, "neap bench: %s (see neap help bench)\n", err.text);
    return 2;
  }
  if (r.help) {
    fputs(help_text, stdout);
    return 0;
  }
  neap__dirs_find(&r.dirs);
  return measure(&r);
}
