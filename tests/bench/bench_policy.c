/* SPDX-License-Identifier: MIT
 *
 * bench_policy - what each built-in policy costs: a trace replayed through a cache of names only that holds a share of
 * the distinct chunks, tail first, one victim at a time. Nanoseconds per reference, best of five, everything counted
 * (index, events, checks, policy), on one thread.
 *
 *   bench_policy TRACE [SHARE] [POLICY...] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/ghost_cache.h"
#include "policy/registry.h"
#include "trace/trace.h"

#define ROUNDS 5

typedef struct bench {
  neap__trace *trace;
  uint32_t *next; /* when each reference's chunk is referenced next */
  uint32_t capacity;
} bench;

static int die(const neap_error *err) {
  fprintf(stderr, "bench_policy: %s\n", err->text);
  return 1;
}

static int look_ahead(bench *b) {
  const neap__trace *t = b->trace;
  uint32_t *seen = malloc(sizeof(*seen) * t->lineage.count);
  b->next = malloc(sizeof(*b->next) * t->references);
  if (seen == NULL || b->next == NULL) {
    free(seen);
    return NEAP_ENOMEM;
  }
  memset(seen, 0xff, sizeof(*seen) * t->lineage.count);
  for (uint32_t q = t->request_count; q-- > 0;) {
    const neap__trace_request *r = &t->requests[q];
    for (uint32_t n = 0; n < r->chunks; n++) { /* the last touch of a request is its head */
      b->next[r->first + n] = seen[t->chunk[r->first + n]];
      seen[t->chunk[r->first + n]] = (uint32_t)(r->first + r->chunks - 1 - n);
    }
  }
  free(seen);
  return 0;
}

static int replay(const bench *b, const neap__policy_spec *spec, neap__ghost_stats *stats, double *ns,
                  neap_error *err) {
  const neap__ghost_config config = {.policy = spec->policy,
                                     .params = spec->params,
                                     .lineage = &b->trace->lineage,
                                     .numbers = b->trace->lineage.count,
                                     .capacity = b->capacity};
  neap__ghost_cache *cache = NULL;
  int rc = neap__ghost_open(&config, &cache, err);
  if (rc != 0) return rc;
  uint64_t began = neap__now_ns();
  for (uint32_t q = 0; q < b->trace->request_count; q++) {
    const neap__trace_request *r = &b->trace->requests[q];
    const neap__ghost_request request = {
        .chunk = &b->trace->chunk[r->first], .next = &b->next[r->first], .chunks = r->chunks, .tenant = r->tenant};
    neap__ghost_answer answer;
    neap__ghost_use(cache, &request, &answer);
  }
  neap__ghost_stats_get(cache, stats);
  *ns = (double)(neap__now_ns() - began) / (double)b->trace->references;
  neap__ghost_close(cache);
  return 0;
}

static int measure(const bench *b, const char *name) {
  neap_error err = {""};
  neap__policy_spec spec;
  neap__ghost_stats stats;
  double best = 0;
  if (neap__policy_find(name, &spec, &err) != 0) return die(&err);
  for (int round = 0; round < ROUNDS; round++) {
    double ns = 0;
    if (replay(b, &spec, &stats, &ns, &err) != 0) return die(&err);
    if (round == 0 || ns < best) best = ns;
  }
  printf("%-16s %10.6f %10.6f %10.1f\n", spec.text, (double)stats.hits / (double)stats.accesses,
         (double)stats.prefix_hits / (double)stats.accesses, best);
  return 0;
}

int main(int argc, char **argv) {
  bench b = {0};
  neap_error err = {""};
  if (argc < 2) {
    fprintf(stderr, "usage: bench_policy TRACE [SHARE] [POLICY...]\n");
    return 2;
  }
  double share = argc > 2 ? strtod(argv[2], NULL) : 0.05;
  const neap__trace_options options = {.format = NULL};
  if (neap__trace_load(argv[1], &options, &b.trace, &err) != 0) return die(&err);
  int rc = look_ahead(&b);
  b.capacity = (uint32_t)NEAP_MAX(1, share * b.trace->lineage.count);
  printf("%s, %u of %u chunks\n%-16s %10s %10s %10s\n", b.trace->name, b.capacity, b.trace->lineage.count, "policy",
         "block", "prefix", "ns");
  const char *const *names = argc > 3 ? (const char *const *)&argv[3] : neap__policy_names();
  for (; rc == 0 && *names != NULL; names++) rc = measure(&b, *names);
  free(b.next);
  neap__trace_free(b.trace);
  return rc != 0;
}
