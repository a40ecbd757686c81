/* SPDX-License-Identifier: MIT
 *
 * replay/input.c - what all runs over a trace need to know of it, computed once; see replay.h. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay/replay.h"

/* --- the trace ---------------------------------------------------------------------------------------------------- */

/* Counts distinct chunks and their units; marks: [numbers], zero. */
static void count_distinct(neap__replay_input *input, uint8_t *marks) {
  const neap__trace *trace = input->trace;
  for (uint64_t i = 0; i < trace->references; i++) {
    uint32_t number = trace->chunk[i];
    if (marks[number]) continue;
    marks[number] = 1;
    input->distinct++;
    input->units_total += input->units ? input->units[number] : 1;
  }
}

/* Belady's knowledge: from the last touch to the first, `at` is when a chunk is touched next. */
static int find_next(neap__replay_input *input) {
  const neap__trace *trace = input->trace;
  input->next = malloc(trace->references * sizeof(*input->next));
  uint32_t *at = malloc((size_t)trace->lineage.count * sizeof(*at));
  if (!input->next || !at) {
    free(at);
    return NEAP_ENOMEM;
  }
  memset(at, 0xff, (size_t)trace->lineage.count * sizeof(*at));
  uint64_t time = trace->references;
  for (uint32_t r = trace->request_count; r-- > 0;) {
    const neap__trace_request *request = &trace->requests[r];
    for (uint32_t i = 0; i < request->chunks; i++) {
      uint64_t index = request->first + (input->head_first ? request->chunks - 1 - i : i);
      uint32_t number = trace->chunk[index];
      input->next[index] = at[number];
      at[number] = (uint32_t)--time;
    }
  }
  free(at);
  return 0;
}

static void divide_time(neap__replay_input *input) {
  const neap__trace *trace = input->trace;
  uint32_t count = trace->request_count;
  input->by_time = trace->requests[count - 1].time_ms > 0;
  for (uint32_t r = 1; r < count && input->by_time; r++)
    input->by_time = trace->requests[r].time_ms >= trace->requests[r - 1].time_ms;
  uint64_t span = input->by_time ? (uint64_t)trace->requests[count - 1].time_ms + 1 : count;
  uint32_t r = 0;
  for (uint32_t b = 0; b < NEAP__REPLAY_BUCKETS; b++) {
    input->bucket_first[b] = r;
    uint64_t end = span * (b + 1) / NEAP__REPLAY_BUCKETS;
    while (r < count && (input->by_time ? trace->requests[r].time_ms : r) < end) r++;
  }
  input->bucket_first[NEAP__REPLAY_BUCKETS] = count;
}

typedef struct tenant {
  uint32_t number;
  uint64_t references;
} tenant;

static int busier(const void *a, const void *b) {
  const tenant *x = a, *y = b;
  if (x->references != y->references) return x->references > y->references ? -1 : 1;
  return x->number < y->number ? -1 : x->number > y->number;
}

static int group_tenants(neap__replay_input *input) {
  const neap__trace *trace = input->trace;
  tenant *tenants = calloc(trace->tenant_count, sizeof(*tenants));
  input->group_of = calloc(trace->tenant_count, 1);
  if (!tenants || !input->group_of) {
    free(tenants);
    return NEAP_ENOMEM;
  }
  for (uint32_t t = 0; t < trace->tenant_count; t++) tenants[t].number = t;
  for (uint32_t r = 0; r < trace->request_count; r++)
    tenants[trace->requests[r].tenant].references += trace->requests[r].chunks;
  qsort(tenants, trace->tenant_count, sizeof(*tenants), busier);
  bool others = trace->tenant_count > NEAP__REPLAY_GROUPS;
  input->groups = NEAP_MIN(trace->tenant_count, (uint32_t)NEAP__REPLAY_GROUPS);
  for (uint32_t t = 0; t < trace->tenant_count; t++) {
    uint32_t group = NEAP_MIN(t, input->groups - 1);
    input->group_of[tenants[t].number] = (uint8_t)group;
    if (t < input->groups) input->group_name[group] = trace->tenants[tenants[t].number];
  }
  if (others) input->group_name[input->groups - 1] = "others";
  free(tenants);
  return 0;
}

int neap__replay_input_open(const neap__trace *trace, bool head_first, bool uniform, bool future,
                            neap__replay_input *out, neap_error *err) {
  *out = (neap__replay_input){.trace = trace, .head_first = head_first, .units = uniform ? NULL : trace->units};
  if (trace->references == 0)
    return neap__fail(err, NEAP_EINVAL, "%s: no request of the trace has a chunk", trace->name);
  if (trace->references >= UINT32_MAX)
    return neap__fail(err, NEAP_ELIMIT, "%s: %llu references; expected fewer than %u", trace->name,
                      (unsigned long long)trace->references, UINT32_MAX);
  uint8_t *marks = calloc(trace->lineage.count, 1);
  int rc = marks ? 0 : NEAP_ENOMEM;
  if (rc == 0) count_distinct(out, marks);
  free(marks);
  if (rc == 0) divide_time(out);
  if (rc == 0) rc = group_tenants(out);
  if (rc == 0 && future) rc = find_next(out);
  if (rc == 0) return 0;
  neap__replay_input_close(out);
  return neap__fail(err, rc, "%s: out of memory for %llu references", trace->name,
                    (unsigned long long)trace->references);
}

void neap__replay_input_close(neap__replay_input *input) {
  free(input->next);
  free(input->group_of);
  input->next = NULL;
  input->group_of = NULL;
}

bool neap__replay_needs_future(const neap__policy_spec *policy) {
  const char *const *name = neap__policy_names();
  while (*name && strcmp(*name, policy->policy->name) != 0) name++;
  return !*name || strcasestr(policy->text, "belady") != NULL;
}

/* --- sizes -------------------------------------------------------------------------------------------------------- */

/* 0 if the text is no unit of bytes. */
static double unit_of(const char *text) {
  static const struct {
    char letter;
    double bytes;
  } units[] = {{'K', 0x1p10}, {'M', 0x1p20}, {'G', 0x1p30}, {'T', 0x1p40}};
  if (strcmp(text, "B") == 0) return 1;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(units); i++)
    if (text[0] == units[i].letter && (!text[1] || strcmp(text + 1, "B") == 0 || strcmp(text + 1, "iB") == 0))
      return units[i].bytes;
  return 0;
}

int neap__replay_size_parse(const char *word, neap__replay_size *out, neap_error *err) {
  static const char expected[] = "a share of the distinct chunks such as 5%, a number of chunks, or bytes such as 64G";
  char *end = NULL;
  bool plain = isdigit((unsigned char)word[0]) && !strpbrk(word, "xXpPeE");
  double value = plain ? strtod(word, &end) : 0, unit = 1;
  neap__replay_size_kind kind = NEAP_REPLAY_CHUNKS;
  if (plain && strcmp(end, "%") == 0) {
    kind = NEAP_REPLAY_FRACTION;
    unit = 0.01;
  } else if (plain && *end) {
    kind = NEAP_REPLAY_BYTES;
    unit = unit_of(end);
  }
  if (!plain || unit == 0 || strlen(word) >= sizeof(out->text))
    return neap__fail(err, NEAP_EINVAL, "--size: '%s' is not valid; expected %s", word, expected);
  if (value == 0) return neap__fail(err, NEAP_EINVAL, "--size: '%s' keeps nothing; expected more than 0", word);
  if (kind == NEAP_REPLAY_CHUNKS && value != floor(value))
    return neap__fail(err, NEAP_EINVAL, "--size: '%s' is not a whole number of chunks", word);
  if (value * unit > (kind == NEAP_REPLAY_FRACTION ? 1e6 : 0x1p62))
    return neap__fail(err, NEAP_EINVAL, "--size: '%s' is too large; expected at most 2^62 chunks or bytes", word);
  *out = (neap__replay_size){.kind = kind, .value = value * unit};
  snprintf(out->text, sizeof(out->text), "%s", word);
  return 0;
}

int neap__replay_capacity(const neap__replay_size *size, const neap__replay_input *input, uint64_t chunk_bytes,
                          uint64_t *units, uint64_t *chunks, neap_error *err) {
  double mean = (double)input->units_total / input->distinct, value = 0;
  switch (size->kind) {
    case NEAP_REPLAY_FRACTION:
      /* 0.07 * 100 is a little more than 7, 0.29 * 100 a little less than 29: what was written is meant. */
      value = floor(size->value * (double)input->units_total + 1e-6);
      break;
    case NEAP_REPLAY_CHUNKS:
      value = size->value;
      if (input->units)
        return neap__fail(err, NEAP_EINVAL,
                          "--size: '%s' counts chunks, but those of trace '%s' have sizes; expected a share such as "
                          "5%%, bytes such as 64M, or --ignore-sizes",
                          size->text, input->trace->name);
      break;
    case NEAP_REPLAY_BYTES:
      if (!input->units && chunk_bytes == 0)
        return neap__fail(err, NEAP_EINVAL,
                          "--size: '%s' is in bytes, but trace '%s' tells no sizes; expected --chunk-bytes with it",
                          size->text, input->trace->name);
      value = floor(size->value / (input->units ? 1024.0 : (double)chunk_bytes));
      if (value < 1)
        return neap__fail(err, NEAP_EINVAL, "--size: '%s' is less than one chunk; expected at least %llu bytes",
                          size->text, (unsigned long long)(input->units ? 1024 : chunk_bytes));
      break;
  }
  *units = value < 1 ? 1 : (uint64_t)fmin(value, 0x1p62); /* a large share of large chunks */
  *chunks = input->units ? (uint64_t)NEAP_MAX(1.0, floor((double)*units / mean)) : *units;
  return 0;
}

/* --- tiers -------------------------------------------------------------------------------------------------------- */

/* "3GBps", "800 MB/s" without the space, "1.5GiBps": bytes per second, 0 if it is nothing of the kind. */
static double bandwidth_of(const char *word) {
  static const char letters[] = "KMGT";
  char *end = NULL;
  double value = isdigit((unsigned char)word[0]) ? strtod(word, &end) : 0;
  const char *letter = value > 0 && *end ? strchr(letters, *end) : NULL;
  if (!letter) return 0;
  bool binary = end[1] == 'i';
  const char *rest = end + 1 + binary;
  if (strcmp(rest, "Bps") != 0 && strcmp(rest, "B/s") != 0) return 0;
  return value * pow(binary ? 1024 : 1000, (double)(letter - letters) + 1);
}

/* "2ms", "150us", "0.5s" in microseconds; below 0 if it is nothing of the kind. */
static double latency_of(const char *word) {
  char *end = NULL;
  double value = isdigit((unsigned char)word[0]) ? strtod(word, &end) : -1;
  if (value < 0) return -1;
  return strcmp(end, "us") == 0   ? value
         : strcmp(end, "ms") == 0 ? value * 1e3
         : strcmp(end, "s") == 0  ? value * 1e6
                                  : -1;
}

int neap__replay_tier_parse(const char *word, neap__replay_tier_spec *out, neap_error *err) {
  char part[4][24];
  uint32_t parts = 0;
  const char *at = word;
  for (bool more = true; more && parts < 5; parts++) {
    size_t n = strcspn(at, ":");
    more = at[n] == ':';
    if (parts == 4 || n == 0 || n >= sizeof(part[0])) parts = 5;
    if (parts < 4) snprintf(part[parts], sizeof(part[0]), "%.*s", (int)n, at);
    at += n + more;
  }
  double bandwidth = parts == 3 || parts == 4 ? bandwidth_of(part[2]) : 0,
         latency = parts == 4 ? latency_of(part[3]) : 0;
  if (bandwidth <= 0 || latency < 0 || !isfinite(1024e6 / bandwidth) || !isfinite(latency))
    return neap__fail(err, NEAP_EINVAL,
                      "--tiers: '%s' is not valid; expected NAME:SIZE:BANDWIDTH[:LATENCY] such as ssd:50%%:3GBps or "
                      "remote:200%%:1GBps:2ms",
                      word);
  *out = (neap__replay_tier_spec){.tier = {.us_per_kib = 1024e6 / bandwidth, .first_us = latency}};
  snprintf(out->tier.name, sizeof(out->tier.name), "%s", part[0]);
  return neap__replay_size_parse(part[1], &out->size, err);
}
