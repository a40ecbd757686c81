/* SPDX-License-Identifier: MIT
 *
 * cli/trace.c - `neap trace`: what is in a trace or a recording (info), and the same in another format (convert).
 *
 * Formats are trace/; here are the command line, the figures and their two forms. One thread. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli.h"
#include "options.h"
#include "progress.h"
#include "trace/trace.h"

#define FILES_MAX 64
#define TENANTS_SHOWN 10u

static const char help_text[] =
    "usage: neap trace info FILE... [OPTIONS]\n"
    "       neap trace convert FILE FILE --to FORMAT [OPTIONS]\n\n"
    "Tells what is in traces of requests and in neap's recordings, and writes them in another format. Files may be\n"
    "compressed (gzip, xz, zstd); their format is told by content.\n\n"
    "options:\n"
    "  --to FORMAT      what convert writes (default: by the ending of the file)\n"
    "  --format FORMAT  what is read, if content does not tell\n"
    "  --columns LIST   columns of a CSV without a header, such as time,key,size,-,tenant\n"
    "  --requests N     only the first N requests\n"
    "  --json           one JSON object for each file\n"
    "  --help           show this and exit\n\n"
    "formats:\n";

static const char status_text[] =
    "\nExit status: 0 done, 1 a file could not be read or written, 2 the command line was wrong.\n";

typedef struct run {
  neap__trace_options read, write;
  const neap__trace_format *to;
  const char *words[FILES_MAX + 1];
  size_t count;
  double requests;
  bool json, help;
} run;

static void print_help(void) {
  fputs(help_text, stdout);
  for (const neap__trace_format *f = neap__trace_formats(); f->name; f++) printf("  %-16s %s\n", f->name, f->about);
  fputs(status_text, stdout);
}

/* --- figures ------------------------------------------------------------------------------------------------------ */

typedef struct figures {
  uint32_t empty, back, sessions; /* back: requests with an earlier time than the one before */
  uint64_t span_ms;
  uint32_t p50, p90, p99, most; /* chunks of a request */
  uint64_t *tenant_requests, *tenant_references;
} figures;

static int by_value(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

/* The session counts with its tenant. */
static int count_sessions(const neap__trace *trace, uint32_t *count) {
  neap__lineage seen;
  uint32_t number = 0;
  int rc = neap__lineage_open(&seen, 0);
  for (uint32_t i = 0; i < trace->request_count && rc == 0; i++) {
    const neap__trace_request *r = &trace->requests[i];
    const uint64_t key[] = {r->tenant, r->session};
    if (r->session || trace->tenant_count > 1)
      rc = neap__lineage_add(&seen, neap__hash64(key, sizeof(key), 0), NEAP__NO_CHUNK, &number);
  }
  *count = seen.count;
  neap__lineage_close(&seen);
  return rc;
}

static void figures_free(figures *f) {
  free(f->tenant_requests);
  free(f->tenant_references);
}

static int figures_take(const neap__trace *trace, figures *f) {
  uint32_t n = trace->request_count, *lengths = malloc((n + 1ull) * sizeof(*lengths));
  *f = (figures){.tenant_requests = calloc(trace->tenant_count, sizeof(uint64_t)),
                 .tenant_references = calloc(trace->tenant_count, sizeof(uint64_t))};
  int rc = lengths && f->tenant_requests && f->tenant_references ? count_sessions(trace, &f->sessions) : NEAP_ENOMEM;
  for (uint32_t i = 0; i < n && rc == 0; i++) {
    const neap__trace_request *r = &trace->requests[i];
    f->empty += r->chunks == 0;
    f->back += i > 0 && r->time_ms < trace->requests[i - 1].time_ms;
    f->span_ms = NEAP_MAX(f->span_ms, r->time_ms);
    f->tenant_requests[r->tenant]++;
    f->tenant_references[r->tenant] += r->chunks;
    lengths[i] = r->chunks;
  }
  if (rc == 0 && n > 0) {
    qsort(lengths, n, sizeof(*lengths), by_value);
    f->p50 = lengths[(n - 1) / 2];
    f->p90 = lengths[(uint64_t)(n - 1) * 90 / 100];
    f->p99 = lengths[(uint64_t)(n - 1) * 99 / 100];
    f->most = lengths[n - 1];
  }
  free(lengths);
  return rc;
}

static double share(uint64_t part, uint64_t whole) { return whole ? (double)part / (double)whole : 0; }

static void print_text(const char *path, const neap__trace *t, const figures *f) {
  printf("%s: %s%s\n", path, t->format, t->salted ? ", salted" : "");
  printf("  requests      %u", t->request_count);
  if (f->empty) printf(" (%u without chunks)", f->empty);
  printf("\n  references    %" PRIu64 " to %u distinct chunks, %.1f %% repeated\n", t->references, t->lineage.count,
         100 * share(t->references - t->lineage.count, t->references));
  printf("  length        p50 %u, p90 %u, p99 %u, at most %u chunks\n", f->p50, f->p90, f->p99, f->most);
  printf("  chunk         %s", t->chunk_tokens ? "" : "tokens not told");
  if (t->chunk_tokens) printf("%u tokens", t->chunk_tokens);
  printf("%s\n  time          %.1f s", t->units ? ", sizes told" : "", (double)f->span_ms / 1e3);
  if (f->back) printf(", %u requests out of order", f->back);
  printf("\n");
  if (f->sessions) printf("  sessions      %u\n", f->sessions);
  for (uint32_t i = 0; i < NEAP_MIN(t->tenant_count, TENANTS_SHOWN) && (t->tenant_count > 1 || *t->tenants[0]); i++)
    printf("  tenant        %s: %" PRIu64 " requests, %" PRIu64 " references\n",
           *t->tenants[i] ? t->tenants[i] : "(none)", f->tenant_requests[i], f->tenant_references[i]);
  if (t->tenant_count > TENANTS_SHOWN) printf("  tenants       and %u more\n", t->tenant_count - TENANTS_SHOWN);
  if (t->cut) printf("  the file ends within a block; what follows is lost\n");
}

static int print_json(const char *path, const neap__trace *t, const figures *f) {
  cJSON *o = cJSON_CreateObject();
  cJSON_AddStringToObject(o, "file", path);
  cJSON_AddStringToObject(o, "trace", t->name);
  cJSON_AddStringToObject(o, "format", t->format);
  cJSON_AddNumberToObject(o, "requests", t->request_count);
  cJSON_AddNumberToObject(o, "empty_requests", f->empty);
  cJSON_AddNumberToObject(o, "references", (double)t->references);
  cJSON_AddNumberToObject(o, "distinct", t->lineage.count);
  cJSON_AddNumberToObject(o, "chunk_tokens", t->chunk_tokens);
  cJSON_AddBoolToObject(o, "sized", t->units != NULL);
  cJSON_AddBoolToObject(o, "salted", t->salted);
  cJSON_AddBoolToObject(o, "cut", t->cut);
  cJSON_AddNumberToObject(o, "began_us", (double)t->began_us);
  cJSON_AddNumberToObject(o, "span_ms", (double)f->span_ms);
  cJSON_AddNumberToObject(o, "out_of_order", f->back);
  cJSON_AddNumberToObject(o, "sessions", f->sessions);
  cJSON *lengths = cJSON_AddObjectToObject(o, "request_chunks");
  cJSON_AddNumberToObject(lengths, "p50", f->p50);
  cJSON_AddNumberToObject(lengths, "p90", f->p90);
  cJSON_AddNumberToObject(lengths, "p99", f->p99);
  cJSON_AddNumberToObject(lengths, "max", f->most);
  cJSON *tenants = cJSON_AddArrayToObject(o, "tenants");
  for (uint32_t i = 0; i < t->tenant_count; i++) {
    cJSON *tenant = cJSON_CreateObject();
    cJSON_AddStringToObject(tenant, "tenant", t->tenants[i]);
    cJSON_AddNumberToObject(tenant, "requests", (double)f->tenant_requests[i]);
    cJSON_AddNumberToObject(tenant, "references", (double)f->tenant_references[i]);
    cJSON_AddItemToArray(tenants, tenant);
  }
  char *text = cJSON_PrintUnformatted(o);
  if (text) puts(text);
  free(text);
  cJSON_Delete(o);
  return text ? 0 : NEAP_ENOMEM;
}

/* --- the two commands --------------------------------------------------------------------------------------------- */

static void say_progress(void *ctx, uint64_t done, uint64_t total) { neap__progress_say(ctx, done, total); }

static int load(run *r, const char *path, neap__trace **out, neap_error *err) {
  neap__progress progress;
  char what[64];
  const char *slash = strrchr(path, '/');
  snprintf(what, sizeof(what), "reading %s", slash ? slash + 1 : path);
  neap__progress_open(&progress, what);
  r->read.progress = say_progress;
  r->read.ctx = &progress;
  int rc = neap__trace_load(path, &r->read, out, err);
  neap__progress_close(&progress);
  return rc;
}

static int info(run *r, const char *path, neap_error *err) {
  neap__trace *trace = NULL;
  figures f;
  int rc = load(r, path, &trace, err);
  if (rc != 0) return rc;
  rc = figures_take(trace, &f);
  if (rc == 0) {
    if (r->json)
      rc = print_json(path, trace, &f);
    else
      print_text(path, trace, &f);
  }
  if (rc != 0) neap__fail(err, rc, "%s: out of memory", path);
  figures_free(&f);
  neap__trace_free(trace);
  return rc;
}

/* What the other file has no place for. */
static void warn_of_loss(const neap__trace *trace, const neap__trace_format *to) {
  bool prefixes = false, tenants = !to->tenants && (trace->tenant_count > 1 || *trace->tenants[0]);
  for (uint32_t i = 0; i < trace->request_count && !to->prefixes && !prefixes; i++)
    prefixes = trace->requests[i].chunks != 1;
  if (prefixes || tenants)
    fprintf(stderr, "neap trace: %s has no place for%s%s%s; left out\n", to->name, prefixes ? " prefixes" : "",
            prefixes && tenants ? " and" : "", tenants ? " tenants" : "");
}

static int convert(run *r, const char *from, const char *to, neap_error *err) {
  neap__trace *trace = NULL;
  int rc = load(r, from, &trace, err);
  if (rc != 0) return rc;
  rc = neap__trace_save(trace, to, &r->write, err);
  if (rc == 0) warn_of_loss(trace, r->to);
  if (rc == 0 && trace->cut) fprintf(stderr, "neap trace: %s ends within a block; what follows is lost\n", from);
  neap__trace_free(trace);
  return rc;
}

static int parse(run *r, int argc, char **argv, neap_error *err) {
  const neap__option table[] = {
      {.name = "to", .kind = NEAP_OPTION_TEXT, .value = &r->write.format},
      {.name = "format", .kind = NEAP_OPTION_TEXT, .value = &r->read.format},
      {.name = "columns", .kind = NEAP_OPTION_TEXT, .value = &r->read.columns},
      {.name = "requests", .kind = NEAP_OPTION_NUMBER, .value = &r->requests, .min = 1, .max = 4294967295.0},
      {.name = "json", .kind = NEAP_OPTION_SWITCH, .value = &r->json},
      {.name = "help", .kind = NEAP_OPTION_SWITCH, .value = &r->help},
  };
  static const char *const commands[] = {"info", "convert"};
  int rc = neap__options_parse(argc, argv, table, NEAP_ARRAY_LEN(table), r->words, FILES_MAX + 1, &r->count, err);
  if (rc != 0 || r->help) return rc;
  r->read.requests_max = (uint64_t)r->requests;
  if (r->count == 0) return neap__fail(err, NEAP_EINVAL, "expected info or convert");
  bool converts = strcmp(r->words[0], "convert") == 0;
  if (!converts && strcmp(r->words[0], "info") != 0) {
    const char *near = neap__nearest(r->words[0], commands, NEAP_ARRAY_LEN(commands));
    return neap__fail(err, NEAP_EINVAL, "unknown command '%s'; %s'%s'%s", r->words[0],
                      near ? "did you mean " : "expected 'info' or ", near ? near : "convert", near ? "?" : "");
  }
  if (converts && r->count != 3)
    return neap__fail(err, NEAP_EINVAL, "convert: expected two files, to read and to write");
  if (!converts && r->count < 2) return neap__fail(err, NEAP_EINVAL, "info: expected a file");
  if (!converts && r->write.format)
    return neap__fail(err, NEAP_EINVAL, "info: --to is what convert writes; --format tells what is read");
  if (converts && r->json) return neap__fail(err, NEAP_EINVAL, "convert: prints nothing that could be --json");
  const neap__trace_format *from = NULL;
  if (r->read.format) rc = neap__trace_format_find(r->read.format, "", &from, err);
  if (rc == 0 && converts) rc = neap__trace_format_find(r->write.format, r->words[2], &r->to, err);
  return rc;
}

int neap__cmd_trace(int argc, char **argv) {
  run r = {.count = 0};
  neap_error err = {0};
  int failed = 0;
  if (parse(&r, argc, argv, &err) != 0) {
    fprintf(stderr, "neap trace: %s (see neap help trace)\n", err.text);
    return 2;
  }
  if (r.help) {
    print_help();
    return 0;
  }
  bool converts = strcmp(r.words[0], "convert") == 0;
  for (size_t i = 1; i < (converts ? 2 : r.count); i++) {
    int rc = converts ? convert(&r, r.words[1], r.words[2], &err) : info(&r, r.words[i], &err);
    if (rc != 0) fprintf(stderr, "neap trace: %s\n", err.text);
    failed |= rc != 0;
  }
  return failed;
}
