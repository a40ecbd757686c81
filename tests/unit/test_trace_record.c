/* SPDX-License-Identifier: MIT
 *
 * neap's recordings: what comes back is what went in, whatever it was; what they cost; what is left of a file that was
 * cut, and of a recording that has a bound. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/random.h"
#include "trace/record.h"
#include "unit/trace_files.h"

static neap__record *open_record(const neap__record_options *options) {
  neap__record *record = NULL;
  assert_int_equal(neap__record_open(options, &record, NULL), 0);
  return record;
}

/* Appends requests [from, to) of a trace, in the order of the file or of time. */
static void append_trace(neap__record *record, const neap__trace *t, const uint32_t *order) {
  uint64_t *hashes = malloc((1u << 16) * sizeof(*hashes));
  assert_non_null(hashes);
  for (uint32_t i = 0; i < t->request_count; i++) {
    const neap__trace_request *r = &t->requests[order ? order[i] : i];
    for (uint32_t c = 0; c < r->chunks; c++) hashes[c] = t->lineage.hash[t->chunk[r->first + c]];
    const neap__model_request request = {.time_us = t->began_us + r->time_ms * 1000ull,
                                         .session = r->session,
                                         .tenant = t->tenants[r->tenant],
                                         .hashes = hashes,
                                         .chunks = r->chunks,
                                         .output_tokens = r->output_tokens,
                                         .chained = true};
    assert_int_equal(neap__record_append(record, &request), 0);
  }
  free(hashes);
}

static neap__trace *save_and_load(neap__record *record) {
  neap_error err = {0};
  if (neap__record_save(record, path_of("saved"), &err) != 0) fail_msg("%s", err.text);
  return load(path_of("saved"), NULL);
}

/* --- the agent trace ---------------------------------------------------------------------------------------------- */

static const neap__trace *sorted_trace;

static int by_time(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  uint32_t tx = sorted_trace->requests[x].time_ms, ty = sorted_trace->requests[y].time_ms;
  return tx != ty ? (tx > ty) - (tx < ty) : (x > y) - (x < y);
}

static double known_bits(const neap__record_stats *s) { return s->spent_bits[NEAP_CODER_KNOWN] / (double)s->repeated; }

/* A tenth of a bit for a repeated reference, in the order of the file, and, in the order in which a server sees the
 * requests, for the counts of new chunks as well. */
static void costs_a_tenth_of_a_bit_per_repeated_reference(void **state) {
  neap__trace *t = load(data_file("lmcache_agents_256ch.jsonl.xz"), NULL);
  uint32_t *order = malloc(t->request_count * sizeof(*order));
  const uint8_t salt[NEAP_HASH_BYTES] = "salt";
  (void)state;
  assert_non_null(order);
  for (uint32_t i = 0; i < t->request_count; i++) order[i] = i;
  sorted_trace = t;
  qsort(order, t->request_count, sizeof(*order), by_time);
  for (int timed = 0; timed < 2; timed++) {
    const neap__record_options options = {.salt = salt};
    neap__record *record = open_record(&options);
    neap__record_stats s;
    append_trace(record, t, timed ? order : NULL);
    assert_int_equal(neap__record_flush(record), 0);
    neap__record_stats_get(record, &s);
    assert_int_equal(s.references, 61278);
    assert_int_equal(s.repeated, 61278 - 6162);
    double all = known_bits(&s) + s.spent_bits[NEAP_CODER_NEW] / (double)s.repeated;
    double hash = s.spent_bits[NEAP_CODER_HASHES] / 6162, sum = 0;
    for (int i = 0; i < NEAP_CODER_KINDS; i++) sum += s.spent_bits[i] / 8;
    print_message(
        "order of %s: %.4f bit per repeated reference, %.4f with the counts of new chunks; %.2f bits per new "
        "chunk, %.1f per time, %.1f per output length; %llu bytes\n",
        timed ? "time" : "the file", known_bits(&s), all, hash, s.spent_bits[NEAP_CODER_TIME] / 1619,
        s.spent_bits[NEAP_CODER_OUTPUT] / 1619, (unsigned long long)s.bytes);
    assert_true(known_bits(&s) <= 0.1);
    assert_true(!timed || all <= 0.1);
    assert_true(hash < 64.1);
    /* The figures are those of the file: what is not counted is a header and a rounded byte or two for each block. */
    assert_true(s.bytes > sum && s.bytes < sum * 1.01 + (double)s.blocks * 32);
    neap__record_close(record);
  }
  free(order);
  neap__trace_free(t);
}

static void gives_the_trace_back(void **state) {
  neap__trace *t = load(data_file("lmcache_agents_256ch.jsonl.xz"), NULL);
  neap__record *record = open_record(&(neap__record_options){.chunk_tokens = 64});
  (void)state;
  append_trace(record, t, NULL);
  neap__trace *again = save_and_load(record);
  assert_same_trace(t, again);
  assert_int_equal(again->chunk_tokens, 64);
  assert_false(again->salted || again->cut);
  neap__trace_free(again);
  neap__record_close(record);
  neap__trace_free(t);
}

/* The same references under other names: nothing that identifies a prompt, a session or a tenant is in the file. */
static void tells_nothing_with_a_salt(void **state) {
  uint8_t salt[NEAP_HASH_BYTES] = "one salt";
  neap__trace *t = load(data_file("lmcache_agents_256ch.jsonl.xz"), NULL), *shared[2];
  (void)state;
  for (int i = 0; i < 2; i++) {
    neap__record *record = open_record(&(neap__record_options){.salt = salt});
    append_trace(record, t, NULL);
    shared[i] = save_and_load(record);
    neap__record_close(record);
    assert_true(shared[i]->salted);
    assert_memory_equal(shared[i]->chunk, t->chunk, t->references * sizeof(*t->chunk));
    for (uint32_t c = 0; c < t->lineage.count; c++) {
      assert_int_equal(shared[i]->lineage.hash[c], neap__trace_salt(t->lineage.hash[c], salt));
      assert_int_equal(shared[i]->lineage.parent[c], t->lineage.parent[c]);
      assert_true(shared[i]->lineage.hash[c] > t->lineage.count); /* ids of this trace are small */
    }
    salt[31] ^= 1;
  }
  for (uint32_t i = 0; i < shared[0]->tenant_count; i++) {
    assert_int_equal(strlen(shared[0]->tenants[i]), 16);
    for (uint32_t j = 0; j < t->tenant_count; j++) assert_string_not_equal(shared[0]->tenants[i], t->tenants[j]);
    assert_string_not_equal(shared[0]->tenants[i], shared[1]->tenants[i]);
  }
  assert_int_not_equal(shared[0]->lineage.hash[0], shared[1]->lineage.hash[0]);
  assert_int_not_equal(shared[0]->requests[1000].session, t->requests[1000].session);
  neap__trace_free(shared[0]);
  neap__trace_free(shared[1]);
  neap__trace_free(t);
}

/* --- anything ----------------------------------------------------------------------------------------------------- */

#define WILD_CHUNKS 40u

/* Requests that no server sends: chains that contradict each other, chunks twice, unchained lists, all kinds of times,
 * sessions and tenants. The trace that is built beside it is what must come back. */
static void append_wild(neap__record *record, neap__trace *expected, uint64_t *seed, uint64_t *time_us) {
  uint64_t hashes[WILD_CHUNKS];
  uint32_t units[WILD_CHUNKS], chunks = random_below(seed, WILD_CHUNKS);
  char tenant[300];
  bool chained = random_below(seed, 4) > 0, path = random_below(seed, 2);
  uint64_t start = random_below(seed, 50) * 100;
  for (uint32_t i = 0; i < chunks; i++) {
    hashes[i] = path ? start + i : random_below(seed, 100) ? random_below(seed, 3000) : random_next(seed);
    units[i] = 1 + (uint32_t)(hashes[i] % 77); /* a chunk has one size */
  }
  *time_us += random_below(seed, 10) ? random_below(seed, 5000) * 1000 : 0;
  uint64_t when = *time_us - random_below(seed, 2) * random_below(seed, 3000) * 1000;
  snprintf(tenant, sizeof(tenant), "%*u", 1 + (int)random_below(seed, 255), random_below(seed, 300));
  uint64_t session = random_below(seed, 3) ? random_below(seed, 500) : random_next(seed);
  uint32_t output = random_below(seed, 5) ? random_below(seed, 1000) : (uint32_t)random_next(seed);
  const neap__model_request request = {when, session, tenant, hashes, units, chunks, output, chained};
  assert_int_equal(neap__record_append(record, &request), 0);
  assert_int_equal(neap__trace_add(expected, when, tenant, session, hashes, units, chunks, chained, output), 0);
}

static void gives_anything_back(void **state) {
  uint64_t seed = random_seed("gives_anything_back");
  (void)state;
  for (int round = 0; round < 4; round++) {
    uint64_t time_us = 1760000000000000;
    neap__record *record = open_record(&(neap__record_options){0});
    neap__trace *expected = neap__trace_new("wild", "neap");
    for (uint32_t i = 0; i < 3000; i++) {
      append_wild(record, expected, &seed, &time_us);
      if (random_below(&seed, 300) == 0) assert_int_equal(neap__record_flush(record), 0);
    }
    neap__trace *again = save_and_load(record);
    assert_same_trace(expected, again);
    neap__trace_free(again);
    neap__trace_free(expected);
    neap__record_close(record);
  }
}

static void refuses_more_chunks_than_a_request_may_have(void **state) {
  neap__record *record = open_record(&(neap__record_options){0});
  uint64_t *hashes = calloc(NEAP__REQUEST_CHUNKS_MAX + 1, sizeof(*hashes));
  neap__model_request request = {.tenant = "", .hashes = hashes, .chunks = NEAP__REQUEST_CHUNKS_MAX + 1};
  neap__record_stats s;
  (void)state;
  assert_int_equal(neap__record_append(record, &request), NEAP_ELIMIT);
  request.chunks = 3;
  assert_int_equal(neap__record_append(record, &request), 0);
  neap__record_stats_get(record, &s);
  assert_int_equal(s.lost, 1);
  assert_int_equal(s.requests, 1);
  neap__trace *t = save_and_load(record);
  assert_int_equal(t->references, 3);
  neap__trace_free(t);
  neap__record_close(record);
  free(hashes);
  neap_error err = {0};
  assert_int_equal(neap__record_open(&(neap__record_options){.bytes_max = 1000}, &record, &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "1000 bytes; expected 0 or at least 65536"));
}

/* --- bounds and damage -------------------------------------------------------------------------------------------- */

/* The newest requests are held, whole and in order, and the oldest are gone. */
static void keeps_within_its_bound(void **state) {
  neap__trace *t = load(data_file("mooncake_conversation.jsonl.xz"), NULL);
  const uint8_t salt[NEAP_HASH_BYTES] = {0};
  neap__record *record = open_record(&(neap__record_options){.bytes_max = 256u << 10, .salt = salt});
  neap__record_stats s;
  (void)state;
  append_trace(record, t, NULL);
  neap__trace *kept = save_and_load(record);
  neap__record_stats_get(record, &s);
  assert_true(s.bytes <= 256u << 10);
  assert_true(s.bytes > 192u << 10); /* an eighth may have gone with the last drop */
  assert_int_equal(s.dropped + s.requests, t->request_count);
  assert_int_equal(s.requests, kept->request_count);
  assert_int_equal(s.lost, 0);
  for (uint32_t i = 0; i < kept->request_count; i++) {
    const neap__trace_request *x = &kept->requests[i], *y = &t->requests[s.dropped + i];
    assert_int_equal(x->chunks, y->chunks);
    assert_int_equal(kept->began_us / 1000 + x->time_ms, t->began_us / 1000 + y->time_ms);
    for (uint32_t c = 0; c < x->chunks; c++)
      assert_int_equal(kept->lineage.hash[kept->chunk[x->first + c]],
                       neap__trace_salt(t->lineage.hash[t->chunk[y->first + c]], salt));
  }
  neap__trace_free(kept);
  neap__record_close(record);
  neap__trace_free(t);
}

/* Cut anywhere, a file gives back a beginning of what it held and says so; it never gives anything else. */
static void loses_only_the_tail_of_a_file_that_was_cut(void **state) {
  neap__trace *t = load(data_file("lmcache_agents_256ch.jsonl.xz"), NULL);
  neap__record *record = open_record(&(neap__record_options){0});
  uint64_t seed = random_seed("loses_only_the_tail");
  size_t count = 0;
  uint32_t most = 0;
  (void)state;
  append_trace(record, t, NULL);
  neap__trace_free(save_and_load(record));
  neap__record_close(record);
  uint8_t *bytes = read_file(path_of("saved"), &count);
  for (int round = 0; round < 40; round++) {
    neap__trace *part = NULL;
    size_t cut = round ? random_below(&seed, (uint32_t)count) : count - 1;
    int rc = neap__trace_load(write_file("cut.neap", bytes, cut), NULL, &part, NULL);
    if (rc != 0) {
      assert_int_equal(rc, NEAP_EINVAL); /* not one block is left */
      assert_true(cut < 5000);
      continue;
    }
    most = NEAP_MAX(most, part->request_count);
    assert_true(part->request_count < t->request_count);
    assert_memory_equal(part->chunk, t->chunk, part->references * sizeof(*t->chunk));
    neap__trace_free(part);
  }
  assert_true(most > t->request_count / 4); /* all but the last block */
  neap__trace *whole = NULL;
  neap_error err = {0};
  bytes[1000] ^= 4;
  assert_int_equal(neap__trace_load(write_file("bad.neap", bytes, count), NULL, &whole, &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "block 1: is damaged: its checksum is another"));
  free(bytes);
  neap__trace_free(t);
}

/* --- threads ------------------------------------------------------------------------------------------------------ */

static void *save_often(void *arg) {
  for (int i = 0; i < 30; i++) {
    char path[96];
    neap__record_stats s;
    snprintf(path, sizeof(path), "%s/live.neap", folder);
    if (neap__record_save(arg, path, NULL) != 0) return arg;
    neap__record_stats_get(arg, &s);
  }
  return NULL;
}

/* Saved while requests are appended, a file is always whole. */
static void is_saved_while_it_records(void **state) {
  neap__trace *t = load(data_file("lmcache_agents_256ch.jsonl.xz"), NULL);
  neap__record *record = open_record(&(neap__record_options){.bytes_max = NEAP__RECORD_BYTES_MIN});
  pthread_t thread;
  void *failed = NULL;
  (void)state;
  append_trace(record, t, NULL);
  assert_int_equal(pthread_create(&thread, NULL, save_often, record), 0);
  for (int i = 0; i < 10; i++) append_trace(record, t, NULL);
  assert_int_equal(pthread_join(thread, &failed), 0);
  assert_null(failed);
  neap__trace *saved = load(path_of("live.neap"), NULL);
  assert_false(saved->cut);
  assert_true(saved->request_count > 0);
  neap__trace_free(saved);
  neap__record_close(record);
  neap__trace_free(t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(costs_a_tenth_of_a_bit_per_repeated_reference),
      cmocka_unit_test(gives_the_trace_back),
      cmocka_unit_test(tells_nothing_with_a_salt),
      cmocka_unit_test(gives_anything_back),
      cmocka_unit_test(refuses_more_chunks_than_a_request_may_have),
      cmocka_unit_test(keeps_within_its_bound),
      cmocka_unit_test(loses_only_the_tail_of_a_file_that_was_cut),
      cmocka_unit_test(is_saved_while_it_records),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
