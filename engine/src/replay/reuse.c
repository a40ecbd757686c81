/* SPDX-License-Identifier: MIT
 *
 * replay/reuse.c - exact reuse distances; see replay.h.
 *
 * Each chunk has a mark at the time of its last touch; a distance is the number of marks behind the one of the chunk. A
 * binary indexed tree (Fenwick, "A new data structure for cumulative frequency tables", 1994) counts them in
 * O(log distinct), over a window of times: when the window is full, the marks close ranks. */
#include <stdlib.h>
#include <string.h>

#include "replay/replay.h"

typedef struct marks {
  uint32_t window, now, live; /* times 1 .. window; now: of the latest mark; live: how many */
  uint32_t *tree;             /* [window + 1] */
  uint32_t *chunk_at;         /* [window + 1] chunk number whose mark is there, or NEAP__NO_CHUNK */
  uint32_t *at;               /* [numbers] time of the chunk's mark, 0: never touched */
} marks;

static void add(marks *m, uint32_t time, uint32_t step) {
  for (; time <= m->window; time += time & (0u - time)) m->tree[time] += step;
}

static uint32_t marks_up_to(const marks *m, uint32_t time) {
  uint32_t sum = 0;
  for (; time > 0; time -= time & (0u - time)) sum += m->tree[time];
  return sum;
}

static void close_ranks(marks *m) {
  uint32_t to = 0;
  for (uint32_t from = 1; from <= m->now; from++) {
    uint32_t number = m->chunk_at[from];
    if (number == NEAP__NO_CHUNK) continue;
    m->chunk_at[++to] = number;
    m->at[number] = to;
  }
  m->now = to;
  /* A tree of ones over 1 .. to: a node's sum is what of its range lies there. */
  for (uint32_t i = 1; i <= m->window; i++) {
    uint32_t low = i - (i & (0u - i));
    m->tree[i] = low >= to ? 0 : NEAP_MIN(i, to) - low;
  }
}

/* The distance, or UINT32_MAX at the first touch. */
static uint32_t touch(marks *m, uint32_t number) {
  uint32_t distance = UINT32_MAX;
  if (m->at[number]) {
    distance = m->live - marks_up_to(m, m->at[number]);
    add(m, m->at[number], UINT32_MAX);
    m->chunk_at[m->at[number]] = NEAP__NO_CHUNK;
  } else {
    m->live++;
  }
  if (m->now == m->window) close_ranks(m);
  m->at[number] = ++m->now;
  m->chunk_at[m->now] = number;
  add(m, m->now, 1);
  return distance;
}

static void note(neap__replay_reuse *reuse, uint32_t distance) {
  if (distance == UINT32_MAX) {
    reuse->cold++;
    return;
  }
  reuse->histogram[distance ? 32 - __builtin_clz(distance) : 0]++;
  reuse->hits[distance + 1]++;
}

int neap__replay_reuse_open(const neap__replay_input *input, neap__replay_reuse *out) {
  const neap__trace *trace = input->trace;
  uint64_t window = NEAP_MIN((uint64_t)input->distinct * 2 + 1024, (uint64_t)UINT32_MAX - 1);
  marks m = {.window = (uint32_t)window};
  m.tree = calloc(window + 1, sizeof(*m.tree));
  m.chunk_at = malloc((window + 1) * sizeof(*m.chunk_at));
  m.at = calloc(trace->lineage.count, sizeof(*m.at));
  *out = (neap__replay_reuse){.hits = calloc((size_t)input->distinct + 1, sizeof(*out->hits))};
  int rc = m.tree && m.chunk_at && m.at && out->hits ? 0 : NEAP_ENOMEM;
  for (uint32_t r = 0; rc == 0 && r < trace->request_count; r++) {
    const neap__trace_request *request = &trace->requests[r];
    const uint32_t *chunk = trace->chunk + request->first;
    for (uint32_t i = 0; i < request->chunks; i++)
      note(out, touch(&m, chunk[input->head_first ? i : request->chunks - 1 - i]));
  }
  for (uint32_t c = 1; rc == 0 && c <= input->distinct; c++) out->hits[c] += out->hits[c - 1];
  free(m.tree);
  free(m.chunk_at);
  free(m.at);
  if (rc != 0) neap__replay_reuse_close(out);
  return rc;
}

void neap__replay_reuse_close(neap__replay_reuse *reuse) {
  free(reuse->hits);
  reuse->hits = NULL;
}
