/* SPDX-License-Identifier: MIT
 *
 * Traces in every format: what is read, what comes back when it was written, and what is said about files that are
 * wrong. Recordings have test_trace_record.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <zstd.h>

#include "unit/trace_files.h"

/* --- the shipped traces ------------------------------------------------------------------------------------------- */

/* Counts as in tests/data/README.md, which are those of the reference hit ratios. */
static void reads_the_mooncake_trace(void **state) {
  (void)state;
  neap__trace *t = load(data_file("mooncake_conversation.jsonl.xz"), NULL);
  assert_string_equal(t->format, "mooncake");
  assert_string_equal(t->name, "mooncake_conversation");
  assert_int_equal(t->request_count, 12031);
  assert_int_equal(t->references, 288500);
  assert_int_equal(t->lineage.count, 182790);
  assert_int_equal(t->chunk_tokens, 512);
  assert_int_equal(t->tenant_count, 1);
  assert_string_equal(t->tenants[0], "");
  assert_int_equal(t->requests[0].chunks, 14);
  assert_int_equal(t->requests[0].output_tokens, 500);
  assert_int_equal(t->requests[12030].time_ms, 3536999);
  assert_int_equal(t->lineage.parent[0], NEAP__NO_CHUNK);
  assert_int_equal(t->lineage.parent[14], 0); /* the second request goes on from the first one's head */
  neap__trace_free(t);
}

static void reads_the_agent_trace(void **state) {
  uint32_t empty = 0;
  (void)state;
  neap__trace *t = load(data_file("lmcache_agents_256ch.jsonl.xz"), NULL);
  assert_string_equal(t->format, "agent");
  assert_int_equal(t->request_count, 1619);
  for (uint32_t i = 0; i < t->request_count; i++) empty += t->requests[i].chunks == 0;
  assert_int_equal(empty, 1619 - 1370);
  assert_int_equal(t->references, 61278);
  assert_int_equal(t->lineage.count, 6162);
  assert_int_equal(t->tenant_count, 3);
  assert_string_equal(t->tenants[0], "magagent");
  assert_int_equal(t->chunk_tokens, 0); /* blocks of characters: lengths in tokens agree with no size */
  assert_int_equal(t->began_us, 1760428221546118);
  assert_int_equal(t->requests[0].time_ms, (1760995776640783 - 1760428221546118) / 1000);
  neap__trace_free(t);
}

/* Each reference again in the flat formats; head of a prompt first. */
static void assert_same_references(const neap__trace *a, const neap__trace *b) {
  assert_int_equal(b->request_count, a->references);
  assert_int_equal(a->lineage.count, b->lineage.count);
  assert_memory_equal(a->chunk, b->chunk, a->references * sizeof(*a->chunk));
  for (uint32_t i = 0; i < a->lineage.count; i++) {
    assert_int_equal(a->lineage.hash[i], b->lineage.hash[i]);
    assert_int_equal(b->lineage.parent[i], NEAP__NO_CHUNK);
  }
}

static void comes_back_from_every_format(void **state) {
  neap__trace *t = load(data_file("lmcache_agents_256ch.jsonl.xz"), NULL);
  uint32_t count = 0;
  (void)state;
  for (const neap__trace_format *f = neap__trace_formats(); f->name; f++, count++) {
    const neap__trace_options options = {.format = f->name};
    neap_error err = {0};
    const char *path = path_of("written");
    assert_int_equal(neap__trace_save(t, path, &options, &err), 0);
    neap__trace *told = load(path, NULL); /* by content alone: the name has no ending */
    assert_string_equal(told->format, f->name);
    if (f->prefixes && f->tenants)
      assert_same_trace(t, told);
    else if (f->prefixes)
      assert_memory_equal(t->chunk, told->chunk, t->references * sizeof(*t->chunk));
    else
      assert_same_references(t, told);
    neap__trace_free(told);
  }
  assert_int_equal(count, 6);
  neap__trace_free(t);
}

/* --- small ones --------------------------------------------------------------------------------------------------- */

static neap__trace *load_text(const char *text, const char *format) {
  return load(write_file("text", text, strlen(text)), format);
}

static void keeps_sizes_tenants_and_sessions(void **state) {
  static const char text[] =
      "time,key,size,tenant,session,op\r\n"
      "10.5,7,1024,\"a,\"\"b\"\"\",3,get\r\n"
      "11.25,key of text,1,c,,set\r\n"
      "11.25,9,1,c,,delete\r\n"
      "\r\n"
      "12,7,5000,,4,get";
  static const char *const formats[] = {"csv", "neap"};
  (void)state;
  neap__trace *t = load_text(text, NULL);
  assert_int_equal(t->request_count, 3);
  assert_int_equal(t->lineage.count, 2);
  assert_int_equal(t->lineage.hash[0], 7);
  assert_int_equal(t->units[0], 1);
  assert_string_equal(t->tenants[t->requests[0].tenant], "a,\"b\"");
  assert_string_equal(t->tenants[t->requests[2].tenant], "");
  assert_int_equal(t->began_us, 10500000);
  assert_int_equal(t->requests[1].time_ms, 750);
  assert_int_equal(t->requests[2].session, 4);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(formats); i++) {
    const neap__trace_options options = {.format = formats[i]};
    assert_int_equal(neap__trace_save(t, path_of("written"), &options, NULL), 0);
    neap__trace *again = load(path_of("written"), NULL);
    assert_same_trace(t, again);
    neap__trace_free(again);
  }
  const neap__trace_options mooncake = {.format = "mooncake"};
  neap_error err = {0};
  unlink(path_of("written"));
  assert_int_equal(neap__trace_save(t, path_of("written"), &mooncake, &err), NEAP_ENOTSUP);
  assert_non_null(strstr(err.text, "sizes"));
  assert_int_not_equal(access(path_of("written"), F_OK), 0);
  neap__trace_free(t);
}

static void takes_columns_that_are_told(void **state) {
  static const char text[] = "when,what,who,how big\n1,5,x,2048\n3,6,y,1\n";
  const neap__trace_options options = {.format = "csv", .columns = "time_ms,key,-,size"};
  neap__trace *t = NULL;
  neap_error err = {0};
  (void)state;
  assert_int_equal(neap__trace_load(write_file("text", text, strlen(text)), &options, &t, &err), 0);
  assert_int_equal(t->request_count, 2); /* without the line of words */
  assert_int_equal(t->units[0], 2);
  assert_int_equal(t->requests[1].time_ms, 2);
  neap__trace_free(t);
  t = NULL;
  const neap__trace_options bad = {.format = "csv", .columns = "time,kay"};
  assert_int_equal(neap__trace_load(path_of("text"), &bad, &t, &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "columns: unknown column 'kay'; did you mean 'key'?"));
  assert_null(t);
}

static void holds_the_largest_id_and_times_that_go_back(void **state) {
  static const char text[] =
      "{\"timestamp\": 5000, \"input_length\": 3, \"hash_ids\": [18446744073709551615, 0]}\n"
      "{ \"extra\" : [1, {\"a\": null, \"b\\n\": [true, -1.5e3]}], \"hash_ids\":[ ], \"timestamp\" : 1000.5 }\n"
      "\n"
      "{\"timestamp\": 2000, \"hash_ids\": [18446744073709551615, 1], \"output_length\": 7}";
  (void)state;
  neap__trace *t = load_text(text, NULL);
  assert_int_equal(t->request_count, 3);
  assert_true(t->lineage.hash[0] == UINT64_MAX);
  assert_int_equal(t->began_us, 1000500);
  assert_int_equal(t->requests[0].time_ms, 3999);
  assert_int_equal(t->requests[1].time_ms, 0);
  assert_int_equal(t->requests[1].chunks, 0);
  assert_int_equal(t->requests[2].time_ms, 999);
  assert_int_equal(t->lineage.parent[2], 0);
  neap__trace_free(t);
}

/* Lines as LMCache 0.5.6 writes them: whole digests of 32 bytes, or integers; two models share no chunk. */
static void reads_a_lookup_log(void **state) {
#define DIGEST "0x3a00000000000000000000000000000000000000000000000000000000000001"
  static const char text[] =
      "{\"timestamp\": 1711929600.123, \"request_id\": \"r1\", \"model_name\": \"m\", \"chunk_size\": 256, "
      "\"seq_len\": "
      "600, \"dtypes\": [\"bfloat16\"], \"shapes\": [[32, 256, 128]], \"chunk_hashes\": [\"" DIGEST
      "\", \"0x2\"]}\n"
      "{\"timestamp\": 1711929601.5, \"request_id\": \"r2\", \"model_name\": \"m\", \"chunk_size\": 256, \"seq_len\": "
      "300, "
      "\"dtypes\": [], \"shapes\": [], \"chunk_hashes\": [\"" DIGEST
      "\"]}\n"
      "{\"timestamp\": 1711929602.0, \"request_id\": \"r3\", \"model_name\": \"other\", \"chunk_size\": 256, "
      "\"seq_len\": "
      "300, \"dtypes\": [], \"shapes\": [], \"chunk_hashes\": [\"" DIGEST "\"]}\n";
  (void)state;
  neap__trace *t = load_text(text, NULL);
  assert_string_equal(t->format, "lmcache-lookup");
  assert_int_equal(t->request_count, 3);
  assert_int_equal(t->lineage.count, 3);
  assert_int_equal(t->chunk[0], t->chunk[2]);
  assert_int_not_equal(t->chunk[0], t->chunk[3]);
  assert_int_equal(t->lineage.hash[1], 2);
  assert_int_equal(t->chunk_tokens, 256);
  assert_int_equal(t->began_us, 1711929600123000);
  assert_int_equal(t->requests[1].time_ms, 1377);
  neap__trace_free(t);
}

static void reads_and_writes_oracle_records(void **state) {
  /* time 7: object 0x0102030405060708 of 4096 bytes, next asked for by request 2; time 8: object 1; time 9: again. */
  static const uint8_t bytes[72] = {
      7, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0, 16, 0, 0, 2,    0,    0,    0,    0,    0,    0,    0,
      8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 4,  0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      9, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0, 16, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  const neap__trace_options options = {.format = "oracleGeneral"};
  size_t count = 0;
  (void)state;
  neap__trace *t = load(write_file("records", bytes, sizeof(bytes)), NULL);
  assert_string_equal(t->format, "oracleGeneral");
  assert_int_equal(t->request_count, 3);
  assert_int_equal(t->lineage.hash[0], 0x0102030405060708);
  assert_int_equal(t->units[0], 4);
  assert_int_equal(t->units[1], 1);
  assert_int_equal(t->requests[2].time_ms, 2000);
  assert_int_equal(neap__trace_save(t, path_of("again"), &options, NULL), 0);
  uint8_t *again = read_file(path_of("again"), &count);
  assert_int_equal(count, sizeof(bytes));
  assert_memory_equal(again, bytes, count);
  free(again);
  neap__trace_free(t);
}

static void stops_when_enough_are_read(void **state) {
  const neap__trace_options options = {.requests_max = 5};
  neap__trace *t = NULL;
  (void)state;
  assert_int_equal(neap__trace_load(data_file("mooncake_conversation.jsonl.xz"), &options, &t, NULL), 0);
  assert_int_equal(t->request_count, 5);
  neap__trace_free(t);
}

static void is_built_by_hand_in_any_order_of_time(void **state) {
  static const uint64_t hashes[] = {10, 20, 30};
  static const uint32_t units[] = {1, 2, 3};
  neap__trace *t = neap__trace_new("hand", "none");
  (void)state;
  assert_int_equal(neap__trace_add(t, 9000000, NULL, 1, hashes, units, 3, true, 5), 0);
  assert_int_equal(neap__trace_add(t, 4000000, "x", 2, hashes, units, 2, true, 6), 0);
  assert_int_equal(neap__trace_add(t, 5000000, "x", 2, hashes, NULL, 2, true, 6), NEAP_EINVAL); /* sizes: all or none */
  assert_int_equal(neap__trace_add(t, 4000000ull + UINT32_MAX * 1000ull + 1000000, "x", 2, hashes, units, 2, true, 6),
                   NEAP_ELIMIT);
  assert_int_equal(t->request_count, 2);
  assert_int_equal(t->began_us, 4000000);
  assert_int_equal(t->requests[0].time_ms, 5000);
  assert_int_equal(t->requests[1].time_ms, 0);
  assert_string_equal(t->tenants[t->requests[0].tenant], "");
  assert_string_equal(t->tenants[t->requests[1].tenant], "x");
  assert_int_equal(t->lineage.parent[2], 1);
  assert_int_equal(t->units[2], 3);
  neap__trace_free(t);
}

static void tells_many_tenants_apart(void **state) {
  neap__trace *t = neap__trace_new("many", "none");
  (void)state;
  for (uint32_t round = 0; round < 2; round++) {
    for (uint32_t i = 0; i < 1000; i++) {
      char name[16];
      const uint64_t hash = i;
      snprintf(name, sizeof(name), "tenant %u", i);
      assert_int_equal(neap__trace_add(t, 0, name, 0, &hash, NULL, 1, false, 0), 0);
      assert_string_equal(t->tenants[t->requests[t->request_count - 1].tenant], name);
    }
  }
  assert_int_equal(t->tenant_count, 1000);
  neap__trace_free(t);
}

/* --- wrong ones --------------------------------------------------------------------------------------------------- */

static void assert_refused(const char *format, const void *bytes, size_t count, const char *words) {
  const neap__trace_options options = {.format = format};
  neap__trace *trace = NULL;
  neap_error err = {0};
  int rc = neap__trace_load(write_file("wrong", bytes, count), &options, &trace, &err);
  if (rc != NEAP_EINVAL || !strstr(err.text, words) || !strstr(err.text, "wrong: "))
    fail_msg("expected '%s', got %d: %s", words, rc, err.text);
  assert_null(trace);
}

static void says_which_line_is_wrong(void **state) {
#define GOOD "{\"timestamp\": 1, \"hash_ids\": [1, 2]}\n"
  static const struct {
    const char *format, *text, *words;
  } wrong[] = {
      {NULL, GOOD GOOD "not JSON\n", "line 3: not JSON at \"not JSON\"; expected an object"},
      {NULL, GOOD "{\"timestamp\": 1, \"hash_ids\": [1, 2", "line 2: the line ends too early; expected ',' or ']'"},
      {NULL, GOOD "{\"timestamp\": -1, \"hash_ids\": []}", "line 2: timestamp is -1; expected a time"},
      {NULL, GOOD "{\"timestamp\": 1, \"hash_ids\": [1, -2]}", "line 2: hash_ids[1] is -2; expected an integer from 0"},
      {NULL, GOOD "{\"timestamp\": 1, \"hash_ids\": [18446744073709551616]}", "hash_ids[0] is 18446744073709551616"},
      {NULL, GOOD "{\"timestamp\": 1, \"hash_ids\": [1.5]}", "hash_ids[0] is 1.5; expected an integer"},
      {NULL, GOOD "{\"timestamp\": 1, \"hash_ids\": [01]}", "hash_ids[0] is 01;"},
      {NULL, GOOD "{\"timestamp\": 1, \"hash_ids\": 5}", "hash_ids is 5; expected an array"},
      {NULL, GOOD "{\"timestamp\": 1}", "line 2: has no field hash_ids"},
      {NULL, GOOD "{\"timestamp\": 1, \"hash_ids\": [], \"timestamp\": 2}", "timestamp is there twice"},
      {NULL, GOOD "{\"timestamp\": 1e30, \"hash_ids\": []}", "timestamp is 1e30"},
      {NULL, GOOD "{\"timestamp\": 9999999999999, \"hash_ids\": []}", "days after the earliest"},
      {NULL, GOOD "{\"timestamp\": 1, \"hash_ids\": []} x", "nothing behind the object"},
      {NULL, GOOD "{\"x\": \"\\u12\", \"timestamp\": 1, \"hash_ids\": []}", "escapes as JSON has them"},
      {NULL, GOOD "{\"x\": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1", "at most 32 levels"},
      {"mooncake", "[1]\n", "line 1: not JSON at \"[1]\"; expected an object"},
      {"agent", "{\"timestamp\": 1, \"suite\": 3, \"session\": 1, \"hash_ids\": []}", "suite is 3; expected a string"},
      {"lmcache-lookup", "{\"timestamp\": 1, \"chunk_hashes\": [\"12\"]}",
       "chunk_hashes[0] is \"12\"; expected a hash"},
      {"lmcache-lookup", "{\"timestamp\": 1}", "line 1: has no field chunk_hashes"},
      {"csv", "time,key\n1,2\n-3,4\n", "line 3: time is '-3'; expected a number that is not negative"},
      {"csv", "time,key,sise\n", "line 1: unknown column 'sise'; did you mean 'size'?"},
      {"csv", "time,key,colour\n", "line 1: unknown column 'colour'; expected time"},
      {"csv", "time,size\n", "no column 'key'"},
      {"csv", "key,id\n", "column 'id' is there twice"},
      {"csv", "time,key\n1,18446744073709551616\n", "line 2: key is '18446744073709551616'; expected a number from 0"},
      {"csv", "time,key\n1,-5\n", "line 2: key is '-5'"},
      {"csv", "time,key\n1,\n", "line 2: key is ''"},
      {"csv", "time,key,size\n1,2,1.5\n", "line 2: size is '1.5'; expected a number of bytes"},
      {"csv", "time,key\n1\n", "line 2: has 1 fields; expected 2"},
      {"csv", "time,key\n1,2,3\n", "line 2: has 3 fields; expected 2"},
      {"csv", "time,key\n1,\"2\n", "line 2: a quote is not closed"},
      {"csv", "key,op\n1,got\n", "line 2: op is 'got'"},
      {"csv", "time,key\n", "has no request"},
      {NULL, "", "is empty"},
      {"csv", "", "has no request"},
      {"neap", "abc", "ends after 3 bytes"},
      {"neap", "neap-recXXXXXXXXXXXXXXXXXXXXXXXX", "header of the recording is damaged"},
      {"neap", "something else altogether, of text", "no recording of neap's"},
      {"oracleGeneral", "0123456789abcdef01234567rest", "record 2: cut short: 4 of 24 bytes"},
      {NULL, "neither this nor that", "looks like no trace"},
  };
  (void)state;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(wrong); i++)
    assert_refused(wrong[i].format, wrong[i].text, strlen(wrong[i].text), wrong[i].words);
  assert_refused("mooncake", GOOD "{\0}", sizeof(GOOD "{\0}") - 1, "line 2: holds a NUL");
  assert_refused("csv", "key\n\x00\x01", 6, "line 2: holds a NUL");
}

static void says_what_is_wrong_with_files_and_formats(void **state) {
  neap__trace *t = NULL;
  neap_error err = {0};
  const neap__trace_options typo = {.format = "oracle-general"};
  (void)state;
  assert_int_equal(neap__trace_load(path_of("nowhere"), NULL, &t, &err), NEAP_ENOENT);
  assert_int_equal(neap__trace_load(folder, NULL, &t, &err), NEAP_EIO);
  assert_int_equal(neap__trace_load(data_file("lmcache_agents_256ch.jsonl.xz"), &typo, &t, &err), NEAP_EINVAL);
  assert_non_null(strstr(err.text, "did you mean 'oracleGeneral'?"));
  t = load_text(GOOD, NULL);
  assert_int_equal(neap__trace_save(t, path_of("x.unknown"), NULL, &err), NEAP_EINVAL);
  assert_int_equal(neap__trace_save(t, path_of("no/folder.csv"), NULL, &err), NEAP_EIO);
  assert_int_equal(neap__trace_save(t, "/dev/full", &(neap__trace_options){.format = "csv"}, &err), NEAP_ENOSPC);
  assert_int_equal(access("/dev/full", W_OK), 0); /* a device is written, not replaced */
  neap__trace_free(t);
}

/* Whole it is read, half of it is refused. */
static void assert_needs_the_whole(const uint8_t *bytes, size_t count) {
  neap__trace *t = load(write_file("whole", bytes, count), NULL);
  assert_int_equal(t->references, 61278);
  neap__trace_free(t);
  assert_refused("agent", bytes, count / 2, "damaged or cut short");
}

static void refuses_a_compressed_file_that_is_cut(void **state) {
  static const char *const filters[] = {"xz -dc | gzip -c", "cat", "xz -dc"};
  char command[1024];
  size_t count = 0;
  uint8_t *bytes = NULL;
  (void)state;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(filters); i++) {
    snprintf(command, sizeof(command), "<'%s' %s >'%s'", data_file("lmcache_agents_256ch.jsonl.xz"), filters[i],
             path_of("made"));
    assert_int_equal(system(command), 0);
    free(bytes);
    bytes = read_file(path_of("made"), &count);
    if (i < 2) assert_needs_the_whole(bytes, count);
  }
  size_t room = ZSTD_compressBound(count);
  uint8_t *packed = malloc(room);
  assert_non_null(packed);
  size_t packed_count = ZSTD_compress(packed, room, bytes, count, 3);
  assert_false(ZSTD_isError(packed_count));
  assert_needs_the_whole(packed, packed_count);
  free(packed);
  free(bytes);
}

static void tells_progress(void *ctx, uint64_t done, uint64_t total) {
  uint64_t *last = ctx;
  assert_true(done >= *last && done <= total);
  *last = done;
}

static void tells_how_far_it_is(void **state) {
  uint64_t last = 0;
  size_t count = 0;
  const neap__trace_options options = {.progress = tells_progress, .ctx = &last};
  neap__trace *t = NULL;
  (void)state;
  assert_int_equal(neap__trace_load(data_file("mooncake_conversation.jsonl.xz"), &options, &t, NULL), 0);
  free(read_file(data_file("mooncake_conversation.jsonl.xz"), &count));
  assert_int_equal(last, count);
  neap__trace_free(t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_the_mooncake_trace),
      cmocka_unit_test(reads_the_agent_trace),
      cmocka_unit_test(comes_back_from_every_format),
      cmocka_unit_test(keeps_sizes_tenants_and_sessions),
      cmocka_unit_test(takes_columns_that_are_told),
      cmocka_unit_test(holds_the_largest_id_and_times_that_go_back),
      cmocka_unit_test(reads_a_lookup_log),
      cmocka_unit_test(reads_and_writes_oracle_records),
      cmocka_unit_test(stops_when_enough_are_read),
      cmocka_unit_test(is_built_by_hand_in_any_order_of_time),
      cmocka_unit_test(tells_many_tenants_apart),
      cmocka_unit_test(says_which_line_is_wrong),
      cmocka_unit_test(says_what_is_wrong_with_files_and_formats),
      cmocka_unit_test(refuses_a_compressed_file_that_is_cut),
      cmocka_unit_test(tells_how_far_it_is),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
