/* SPDX-License-Identifier: MIT
 *
 * Damaged traces of every format: whatever the bytes are, loading ends with a trace that holds together or with a
 * message. Short here; NEAP_SLOW=1 goes on for much longer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/random.h"
#include "trace/block.h"
#include "unit/trace_files.h"

#define SAMPLE_REQUESTS 60u

static uint32_t rounds(void) {
  const char *slow = getenv("NEAP_SLOW");
  return slow && strcmp(slow, "1") == 0 ? 1500 : 250;
}

/* Every number of a trace is within its bounds. */
static void assert_holds_together(const neap__trace *t) {
  uint64_t references = 0;
  assert_true(t->request_count > 0 && t->tenant_count > 0);
  for (uint32_t i = 0; i < t->request_count; i++) {
    const neap__trace_request *r = &t->requests[i];
    assert_int_equal(r->first, references);
    assert_true(r->tenant < t->tenant_count);
    references += r->chunks;
  }
  assert_int_equal(references, t->references);
  for (uint64_t i = 0; i < references; i++) assert_true(t->chunk[i] < t->lineage.count);
  for (uint32_t i = 0; i < t->lineage.count; i++)
    assert_true(t->lineage.parent[i] == NEAP__NO_CHUNK || t->lineage.parent[i] < i);
}

static size_t mutate(uint64_t *seed, uint8_t *bytes, size_t count) {
  static const char *const pieces[] = {"-1",  "1e999", "\"", "[", "{", "}", "\n", ",", "18446744073709551616",
                                       "\\u", ""};
  for (uint32_t n = 1 + random_below(seed, 4); n > 0 && count > 1; n--) {
    uint32_t at = random_below(seed, (uint32_t)count), kind = random_below(seed, 6);
    size_t some = 1 + random_below(seed, 64);
    some = NEAP_MIN(some, count - at);
    const char *piece = pieces[random_below(seed, NEAP_ARRAY_LEN(pieces))];
    switch (kind) {
      case 0: bytes[at] ^= (uint8_t)(1u << random_below(seed, 8)); break;
      case 1: bytes[at] = (uint8_t)random_next(seed); break;
      case 2: memcpy(bytes + at, piece, NEAP_MIN(strlen(piece), count - at)); break;
      case 3: memmove(bytes + at, bytes + random_below(seed, (uint32_t)(count - some + 1)), some); break;
      case 4:
        memmove(bytes + at, bytes + at + some, count - at - some);
        count -= some;
        break;
      default: count = random_below(seed, 8) ? count : at + 1;
    }
  }
  return count;
}

/* Checksums that fit what the bytes have become, so that damage gets past them. */
static void reseal(uint8_t *bytes, size_t count) {
  neap__block_header header;
  neap__file_header_write(bytes, 0, false);
  for (size_t at = NEAP__FILE_HEADER_BYTES; at + NEAP__BLOCK_HEADER_BYTES <= count;) {
    if (neap__block_header_read(bytes + at, &header) != 0) return;
    if (header.bytes > count - at - NEAP__BLOCK_HEADER_BYTES)
      header.bytes = (uint32_t)(count - at - NEAP__BLOCK_HEADER_BYTES);
    neap__block_seal(bytes + at, &header);
    at += NEAP__BLOCK_HEADER_BYTES + header.bytes;
  }
}

static void fuzz(const char *format, const uint8_t *sample, size_t count, bool resealed) {
  uint64_t seed = random_seed(format);
  uint32_t loaded = 0, refused = 0;
  uint8_t *bytes = malloc(count);
  assert_non_null(bytes);
  for (uint32_t round = 0; round < rounds(); round++) {
    neap__trace *trace = NULL;
    neap_error err = {0};
    const neap__trace_options options = {.format = random_below(&seed, 8) ? format : NULL};
    memcpy(bytes, sample, count);
    size_t left = mutate(&seed, bytes, count);
    if (resealed && left >= NEAP__FILE_HEADER_BYTES) reseal(bytes, left);
    int rc = neap__trace_load(write_file("fuzzed", bytes, left), &options, &trace, &err);
    if (rc == 0) {
      assert_holds_together(trace);
      neap__trace_free(trace);
      loaded++;
    } else {
      assert_int_equal(rc, NEAP_EINVAL);
      assert_null(trace);
      assert_true(strlen(err.text) > strlen(folder) + 10);
      refused++;
    }
  }
  print_message("%s: %u loaded, %u refused\n", format, loaded, refused);
  assert_true(refused > 0);
  free(bytes);
}

static void survives_damage_in_every_format(void **state) {
  const neap__trace_options few = {.requests_max = SAMPLE_REQUESTS};
  neap__trace *t = NULL;
  size_t count = 0;
  (void)state;
  assert_int_equal(neap__trace_load(data_file("lmcache_agents_256ch.jsonl.xz"), &few, &t, NULL), 0);
  for (const neap__trace_format *f = neap__trace_formats(); f->name; f++) {
    const neap__trace_options options = {.format = f->name};
    assert_int_equal(neap__trace_save(t, path_of("sample"), &options, NULL), 0);
    uint8_t *sample = read_file(path_of("sample"), &count);
    fuzz(f->name, sample, count, false);
    if (strcmp(f->name, "neap") == 0) fuzz(f->name, sample, count, true);
    free(sample);
  }
  neap__trace_free(t);
}

static void survives_damage_in_a_compressed_file(void **state) {
  size_t count = 0;
  (void)state;
  uint8_t *sample = read_file(data_file("lmcache_agents_256ch.jsonl.xz"), &count);
  fuzz("agent", sample, count, false);
  free(sample);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(survives_damage_in_every_format),
      cmocka_unit_test(survives_damage_in_a_compressed_file),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
