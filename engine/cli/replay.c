/* SPDX-License-Identifier: MIT
 *
 * cli/replay.c - `neap replay`: what policies would have made of recorded requests.
 *
 * The replaying is replay/replay.h; here are the command line and the order of things: all words are checked before the
 * first run, one trace is in memory at a time. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "options.h"
#include "progress.h"
#include "replay_show.h"
#include "script/lua_policy.h"
#include "script/script.h"

#define TRACES_MAX 64u
#define POLICIES_MAX 64u

static const char help_text[] =
    "usage: neap replay TRACE... [OPTIONS]\n\n"
    "Feeds recorded requests to policies, each over a cache of names only, and tells what they would have found "
    "there:\n"
    "block hits, chunks that were there; prefix hits, those with everything before them, which is what can be used.\n\n"
    "options:\n"
    "  --policy P,...       built-ins and files: lru,arc,./mine.lua,s3fifo:small=0.2 (default lru)\n"
    "  --size S,...         of the cache: shares of the trace's distinct chunks (5%), chunks (20000) or bytes (64G);\n"
    "                       default 1%,5%,10%,25%\n"
    "  --order tail|head    which end of a request is touched first (default tail, as the engine does)\n"
    "  --json               one object per trace, policy and size, each on a line\n"
    "  --report FILE        an HTML page with charts; it needs nothing else\n"
    "  --threads N          runs at once (default: as many as the machine has processors)\n"
    "  --seed N             of policies that draw lots (default 1)\n"
    "  --batch N            victims asked for at once when the cache is full (default 1)\n"
    "  --format F           of the traces (default: told by the file)\n"
    "  --columns C,...      of CSV without a header line, such as time,key,size,tenant\n"
    "  --requests N         read only the first N requests\n"
    "  --chunk-bytes B      size of a chunk, such as 32M, for sizes and savings in bytes\n"
    "  --ignore-sizes       each chunk is one unit, whatever sizes the trace tells\n"
    "  --cost base=US,slope=US,load=US\n"
    "                       microseconds to recompute a chunk, more of them for each chunk before it, and to load it\n"
    "                       (default base=20000,slope=20,load=1300)\n"
    "  --tiers NAME:SIZE:BANDWIDTH[:LATENCY],...\n"
    "                       second-level tiers, such as ssd:50%:3GBps,remote:200%:1GBps:2ms\n"
    "  --help               show this and exit\n\n"
    "Exit status: 0 replayed, 1 a trace, a policy or the report failed, 2 the command line was wrong.\n";

typedef struct command {
  const char *traces[TRACES_MAX];
  size_t trace_count;
  neap__policy_spec policies[POLICIES_MAX];
  neap__replay_size sizes[NEAP__REPLAY_SIZES_MAX];
  uint32_t policy_count, size_count;
  neap__replay_tier_spec tiers[NEAP__REPLAY_TIERS];
  const char *policy_words, *size_words, *order, *report_path, *cost, *tier_words;
  double threads, seed, batch, requests;
  bool json, help, ignore_sizes, misused; /* misused: the words do not fit the trace */
  neap__trace_options load;
  neap__replay_options options;
  neap__plot_style style; /* of stdout */
  neap__progress progress;
  neap__report *report;
  uint64_t runs, accesses;
  double seconds;
} command;

/* --- the command line --------------------------------------------------------------------------------------------- */

/* The next word of a list at *at, which moves behind it; false at its end. A word like "name=value" goes on with the
 * parameters of the one before it, so that "a:x=1,y=2,b" are two. */
static bool next_word(const char **at, bool parameters, char *word, size_t cap) {
  size_t n = 0;
  if (!*at) return false;
  for (const char *from = *at;; n++) {
    n = (size_t)(strchrnul(from + n, ',') - from);
    const char *rest = from + n + (from[n] == ',');
    size_t equals = strcspn(rest, "=,:");
    if (parameters && from[n] && rest[equals] == '=') continue;
    *at = from[n] ? rest : NULL;
    snprintf(word, cap, "%.*s", (int)NEAP_MIN(n, cap - 1), from);
    return true;
  }
}

/* What is wrong with its parameters is said once, before anything runs. */
static int try_policy(const neap__policy_spec *policy, neap_error *err) {
  neap__instance *instance;
  static const uint32_t never[64];
  const neap__instance_config config = {
      .policy = policy->policy, .params = policy->params, .slots = NEAP_ARRAY_LEN(never), .next = never};
  int rc = neap__instance_open(&config, &instance, err);
  if (rc == 0) neap__instance_close(instance);
  return rc;
}

static int read_policies(command *c, neap_error *err) {
  char word[256];
  for (const char *at = c->policy_words; next_word(&at, true, word, sizeof(word));) {
    if (!word[0])
      return neap__fail(err, NEAP_EINVAL, "--policy: '%s' has an empty name; expected NAME,...", c->policy_words);
    if (c->policy_count == POLICIES_MAX)
      return neap__fail(err, NEAP_EINVAL, "--policy: more than %u policies", POLICIES_MAX);
    int rc = neap__policy_find(word, &c->policies[c->policy_count], err);
    if (rc == 0) rc = try_policy(&c->policies[c->policy_count++], err);
    if (rc != 0) return rc;
  }
  return 0;
}

static int read_sizes(command *c, neap_error *err) {
  char word[64];
  for (const char *at = c->size_words; next_word(&at, false, word, sizeof(word));) {
    if (c->size_count == NEAP__REPLAY_SIZES_MAX)
      return neap__fail(err, NEAP_EINVAL, "--size: more than %u sizes", NEAP__REPLAY_SIZES_MAX);
    int rc = neap__replay_size_parse(word, &c->sizes[c->size_count++], err);
    if (rc != 0) return rc;
  }
  return 0;
}

static int read_cost(command *c, neap_error *err) {
  static const char *const names[] = {"base", "slope", "load"};
  double *const values[] = {&c->options.cost.base_us, &c->options.cost.slope_us, &c->options.load_us};
  char word[64];
  for (const char *at = c->cost; next_word(&at, false, word, sizeof(word));) {
    size_t n = strcspn(word, "="), i = 0;
    while (i < NEAP_ARRAY_LEN(names) && (strncmp(word, names[i], n) != 0 || names[i][n])) i++;
    char *end = word;
    double value = i < NEAP_ARRAY_LEN(names) && isdigit((unsigned char)word[n + 1]) ? strtod(word + n + 1, &end) : -1;
    if (value < 0 || value > 1e9 || *end)
      return neap__fail(err, NEAP_EINVAL,
                        "--cost: '%s' is not valid; expected base=US, slope=US or load=US from 0 to 1e9", word);
    *values[i] = value;
  }
  return 0;
}

static int read_tiers(command *c, neap_error *err) {
  char word[128];
  for (const char *at = c->tier_words; next_word(&at, false, word, sizeof(word));) {
    if (c->options.tiers == NEAP__REPLAY_TIERS)
      return neap__fail(err, NEAP_EINVAL, "--tiers: more than %u tiers", NEAP__REPLAY_TIERS);
    int rc = neap__replay_tier_parse(word, &c->tiers[c->options.tiers++], err);
    if (rc != 0) return rc;
  }
  return 0;
}

static int read_format(const command *c, neap_error *err) {
  const char *names[64], *format = c->load.format;
  size_t count = 0;
  for (const neap__trace_format *f = neap__trace_formats(); f->name && count < NEAP_ARRAY_LEN(names); f++) {
    if (!format || strcmp(format, f->name) == 0) return 0;
    names[count++] = f->name;
  }
  const char *near = neap__nearest(format, names, count);
  return neap__fail(err, NEAP_EINVAL, "--format: '%s' is not known%s%s%s", format, near ? "; did you mean '" : "",
                    near ? near : "", near ? "'?" : "");
}

static int parse(command *c, int argc, char **argv, neap_error *err) {
  const neap__option table[] = {
      {.name = "policy", .kind = NEAP_OPTION_TEXT, .value = &c->policy_words},
      {.name = "size", .kind = NEAP_OPTION_TEXT, .value = &c->size_words},
      {.name = "order", .kind = NEAP_OPTION_TEXT, .value = &c->order},
      {.name = "json", .kind = NEAP_OPTION_SWITCH, .value = &c->json},
      {.name = "report", .kind = NEAP_OPTION_TEXT, .value = &c->report_path},
      {.name = "threads", .kind = NEAP_OPTION_NUMBER, .value = &c->threads, .min = 1, .max = 1024},
      {.name = "seed", .kind = NEAP_OPTION_NUMBER, .value = &c->seed, .min = 0, .max = 9007199254740992},
      {.name = "batch", .kind = NEAP_OPTION_NUMBER, .value = &c->batch, .min = 1, .max = 1024},
      {.name = "format", .kind = NEAP_OPTION_TEXT, .value = &c->load.format},
      {.name = "columns", .kind = NEAP_OPTION_TEXT, .value = &c->load.columns},
      {.name = "requests", .kind = NEAP_OPTION_NUMBER, .value = &c->requests, .min = 1, .max = 4294967295},
      {.name = "chunk-bytes",
       .kind = NEAP_OPTION_BYTES,
       .value = &c->options.chunk_bytes,
       .min = 1024,
       .max = 1099511627776},
      {.name = "ignore-sizes", .kind = NEAP_OPTION_SWITCH, .value = &c->ignore_sizes},
      {.name = "cost", .kind = NEAP_OPTION_TEXT, .value = &c->cost},
      {.name = "tiers", .kind = NEAP_OPTION_TEXT, .value = &c->tier_words},
      {.name = "help", .kind = NEAP_OPTION_SWITCH, .value = &c->help},
  };
  int rc = neap__options_parse(argc, argv, table, NEAP_ARRAY_LEN(table), c->traces, TRACES_MAX, &c->trace_count, err);
  if (rc != 0 || c->help) return rc;
  if (c->trace_count == 0) return neap__fail(err, NEAP_EINVAL, "no trace given; expected: neap replay TRACE...");
  if (strcmp(c->order, "tail") != 0 && strcmp(c->order, "head") != 0)
    return neap__fail(err, NEAP_EINVAL, "--order: '%s' is not valid; expected tail or head", c->order);
  c->options.threads = (uint32_t)c->threads;
  c->options.seed = (uint64_t)c->seed;
  c->options.batch = (uint32_t)c->batch;
  c->load.requests_max = (uint64_t)c->requests;
  rc = read_sizes(c, err);
  if (rc == 0) rc = read_cost(c, err);
  if (rc == 0) rc = read_tiers(c, err);
  if (rc == 0) rc = read_format(c, err);
  return rc == 0 ? read_policies(c, err) : rc;
}

/* --- one trace ---------------------------------------------------------------------------------------------------- */

static void say_progress(void *ctx, uint64_t done, uint64_t total) { neap__progress_say(ctx, done, total); }

static void open_progress(command *c, const char *doing, const char *path) {
  char what[64];
  const char *name = strrchr(path, '/');
  snprintf(what, sizeof(what), "%s %.48s", doing, name ? name + 1 : path);
  neap__progress_open(&c->progress, what);
}

static int set_tiers(command *c, const neap__replay_input *input, neap_error *err) {
  int rc = 0;
  if (c->options.tiers > 0 && !input->units && c->options.chunk_bytes == 0)
    rc = neap__fail(err, NEAP_EINVAL, "--tiers: trace '%s' tells no sizes; expected --chunk-bytes with it",
                    input->trace->name);
  for (uint32_t t = 0; t < c->options.tiers && rc == 0; t++) {
    uint64_t chunks;
    neap__replay_tier *tier = &c->options.tier[t];
    *tier = c->tiers[t].tier;
    rc = neap__replay_capacity(&c->tiers[t].size, input, c->options.chunk_bytes, &tier->capacity, &chunks, err);
  }
  c->misused |= rc != 0;
  return rc;
}

static int set_capacities(command *c, const neap__replay_input *input, neap__replay_run *runs, neap_error *err) {
  for (uint32_t s = 0; s < c->size_count; s++)
    for (uint32_t p = 0; p < c->policy_count; p++) {
      neap__replay_run *run = &runs[s * c->policy_count + p];
      run->policy = &c->policies[p];
      run->size = &c->sizes[s];
      int rc = neap__replay_capacity(run->size, input, c->options.chunk_bytes, &run->capacity, &run->chunks, err);
      if (rc != 0) c->misused = true;
      if (rc != 0) return rc;
    }
  return 0;
}

/* Says which runs failed: NEAP_ESCRIPT if one did. */
static int show_failures(const neap__replay_study *study) {
  int rc = 0;
  for (uint32_t i = 0; i < study->sizes * study->policies; i++) {
    const neap__replay_run *run = &study->runs[i];
    if (run->rc == 0) continue;
    fprintf(stderr, "neap replay: %s, %s at %s: %s\n", study->input->trace->name, run->policy->text, run->size->text,
            run->err.text[0] ? run->err.text : neap_strerror(run->rc));
    rc = NEAP_ESCRIPT;
  }
  return rc;
}

static int show(command *c, const neap__replay_study *study, neap_error *err) {
  if (c->json)
    neap__replay_show_json(stdout, study);
  else
    neap__replay_show_text(stdout, study, &c->style);
  fflush(stdout);
  int failed = show_failures(study);
  int rc = c->report ? neap__report_add(c->report, study, err) : 0;
  return rc != 0 ? rc : failed;
}

static int replay_input(command *c, const neap__replay_input *input, neap_error *err) {
  uint32_t count = c->policy_count * c->size_count;
  neap__replay_reuse reuse = {0};
  neap__replay_run *runs = calloc(count, sizeof(*runs));
  if (!runs) return neap__fail(err, NEAP_ENOMEM, "out of memory for %u runs", count);
  int rc = set_capacities(c, input, runs, err);
  if (rc == 0) rc = set_tiers(c, input, err);
  uint64_t began = neap__now_ns();
  open_progress(c, "replaying", input->trace->name);
  if (rc == 0 && neap__replay(input, &c->options, runs, count) != 0)
    rc = neap__fail(err, NEAP_ENOMEM, "cannot start a thread");
  neap__progress_close(&c->progress);
  c->seconds += (double)(neap__now_ns() - began) * 1e-9;
  for (uint32_t i = 0; i < count; i++) c->accesses += runs[i].stats.accesses;
  c->runs += count;
  if (rc == 0 && c->report && neap__replay_reuse_open(input, &reuse) != 0)
    rc = neap__fail(err, NEAP_ENOMEM, "out of memory for the reuse distances");
  const neap__replay_study study = {.input = input,
                                    .reuse = reuse.hits ? &reuse : NULL,
                                    .options = &c->options,
                                    .policy = c->policies,
                                    .size = c->sizes,
                                    .policies = c->policy_count,
                                    .sizes = c->size_count,
                                    .runs = runs};
  if (rc == 0) rc = show(c, &study, err);
  neap__replay_reuse_close(&reuse);
  free(runs);
  return rc;
}

static int replay_trace(command *c, const char *path, neap_error *err) {
  neap__trace *trace;
  neap__replay_input input;
  bool future = false;
  open_progress(c, "reading", path);
  int rc = neap__trace_load(path, &c->load, &trace, err);
  neap__progress_close(&c->progress);
  if (rc != 0) return rc;
  for (uint32_t p = 0; p < c->policy_count; p++) future |= neap__replay_needs_future(&c->policies[p]);
  rc = neap__replay_input_open(trace, strcmp(c->order, "head") == 0, c->ignore_sizes, future, &input, err);
  if (rc == 0) {
    rc = replay_input(c, &input, err);
    neap__replay_input_close(&input);
  }
  neap__trace_free(trace);
  return rc;
}

/* --- command ------------------------------------------------------------------------------------------------------ */

/* A file that is not there is said before the first of many runs. */
static int check_files(const command *c, neap_error *err) {
  for (size_t i = 0; i < c->trace_count; i++)
    if (access(c->traces[i], R_OK) != 0)
      return neap__fail(err, NEAP_ENOENT, "cannot read the trace '%s': %s", c->traces[i], strerror(errno));
  return 0;
}

static int replay_all(command *c, neap_error *err) {
  bool failed = false;
  int rc = check_files(c, err);
  if (rc == 0 && c->report_path) rc = neap__report_open(c->report_path, &c->report, err);
  for (size_t i = 0; rc == 0 && i < c->trace_count; i++) {
    if (i && !c->json) putchar('\n');
    rc = replay_trace(c, c->traces[i], err);
    if (rc != NEAP_ESCRIPT || err->text[0]) continue; /* a failed run has been shown; the others go on */
    failed = true;
    rc = 0;
  }
  if (c->report) {
    int closed = neap__report_close(c->report, rc == 0, err);
    if (rc == 0) rc = closed;
  }
  return rc == 0 && failed ? NEAP_ESCRIPT : rc;
}

int neap__cmd_replay(int argc, char **argv) {
  command *c = calloc(1, sizeof(*c));
  neap_error err = {0};
  if (!c) return 1;
  *c = (command){.policy_words = "lru",
                 .size_words = "1%,5%,10%,25%",
                 .order = "tail",
                 .load = {.progress = say_progress, .ctx = &c->progress},
                 .seed = 1,
                 .batch = 1,
                 .threads = (double)NEAP_MAX(1, sysconf(_SC_NPROCESSORS_ONLN)),
                 .options = {.cost = {20000, 20}, .load_us = 1300, .progress = say_progress, .ctx = &c->progress}};
  neap__dirs dirs;
  neap__dirs_find(&dirs);
  neap__lua_setup(dirs.lua);
  neap__policy_add_loader(&neap__lua_policy_loader);
  neap__plot_style_of(stdout, &c->style);
  int rc = parse(c, argc, argv, &err), status = rc == 0 ? 0 : rc == NEAP_EINVAL ? 2 : 1;
  if (rc == 0 && c->help)
    fputs(help_text, stdout);
  else if (rc == 0) {
    rc = replay_all(c, &err);
    status = rc == 0 ? 0 : c->misused ? 2 : 1;
  }
  if (rc != 0 && err.text[0])
    fprintf(stderr, "neap replay: %s%s\n", err.text, status == 2 ? " (see neap help replay)" : "");
  if (rc == 0 && !c->help && !c->json)
    fprintf(stderr, "%llu runs, %.3g million accesses in %.3g s on %u threads\n", (unsigned long long)c->runs,
            (double)c->accesses * 1e-6, c->seconds, c->options.threads);
  free(c);
  return status;
}
