/* SPDX-License-Identifier: MIT
 *
 * Keys and registrations as vLLM sent them, and as it never would; token lists that come again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "chunk/tokens.h"
#include "serve/prompt.h"
#include "serve/request.h"
#include "serve/writer.h"
#include "support/recorded.h"

static unsigned seed;

static uint32_t pick(uint32_t below) { return (uint32_t)rand_r(&seed) % below; }

static bool starts_with(neap__text text, const char *word) {
  return text.bytes >= strlen(word) && memcmp(text.at, word, strlen(word)) == 0;
}

static bool is_key(const recorded *frame) {
  static const char *const ops[] = {"lookup",       "free_lookup_locks", "prepare_store",
                                    "commit_store", "prepare_retrieve",  "commit_retrieve"};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(ops); i++)
    if (frame->arg == 0 && strcmp(frame->op, ops[i]) == 0) return true;
  return false;
}

static bool is_registration(const recorded *frame) {
  return strcmp(frame->op, "register_kv_cache_engine_driven_context") == 0;
}

/* --- recorded ---------------------------------------------------------------------------------------------------- */

static void recorded_keys_are_understood(void **state) {
  recording *r = *state;
  uint32_t keys = 0;
  for (uint32_t i = 0; i < r->count; i++) {
    neap__ipc_key key;
    neap_error err = {{0}};
    if (!is_key(&r->frames[i])) continue;
    if (neap__ipc_key_read(neap__reader_over(r->frames[i].at, r->frames[i].bytes), &key, &err))
      fail_msg("%s", err.text);
    assert_true(neap__text_is(key.model, "demo/tiny-llama"));
    assert_in_range(key.world_size, 1, 2);
    assert_int_equal(key.all_workers, strcmp(r->frames[i].op, "lookup") == 0 || r->frames[i].op[0] == 'f');
    assert_true(key.start <= key.end && key.end <= key.tokens.count);
    assert_int_equal(key.readers, 1);
    assert_true(starts_with(key.request_id, "cmpl-"));
    uint32_t *tokens = malloc((key.tokens.count + 1) * sizeof(*tokens));
    neap__tokens_decode(key.tokens.at, key.tokens.count, tokens);
    for (uint32_t t = 0; t < key.tokens.count; t++) assert_in_range(tokens[t], 0, 8000);
    free(tokens);
    keys++;
  }
  assert_true(keys > 140);
}

static void recorded_registrations_are_understood(void **state) {
  recording *r = *state;
  uint32_t found = 0;
  for (uint32_t i = 0; i < r->count; i++) {
    neap__registration reg;
    neap_error err = {{0}};
    if (!is_registration(&r->frames[i])) continue;
    if (neap__registration_read(neap__reader_over(r->frames[i].at, r->frames[i].bytes), &reg, &err))
      fail_msg("%s", err.text);
    assert_true(reg.instance_id > UINT32_MAX);
    assert_true(neap__text_is(reg.dtype, "bfloat16"));
    assert_int_equal(reg.layers, 8);
    assert_int_equal(reg.hidden, 256 / reg.world_size);
    assert_int_equal(reg.slots, 256);
    assert_int_equal(reg.block_size, 128);
    assert_true(reg.one_plane);
    found++;
  }
  assert_true(found >= 4);
}

static void a_frame_cut_anywhere_is_refused(void **state) {
  recording *r = *state;
  for (uint32_t i = 0; i < r->count; i++) {
    const recorded *frame = &r->frames[i];
    bool key = is_key(frame);
    if (!key && !is_registration(frame)) continue;
    for (size_t cut = 0; cut < frame->bytes; cut++) {
      neap__reader cut_frame = neap__reader_over(frame->at, cut);
      neap__ipc_key k;
      neap__registration reg;
      int err = key ? neap__ipc_key_read(cut_frame, &k, NULL) : neap__registration_read(cut_frame, &reg, NULL);
      assert_int_equal(err, NEAP_EINVAL);
    }
  }
}

static void a_damaged_frame_is_refused_or_harmless(void **state) {
  recording *r = *state;
  for (uint32_t round = 0; round < 20000; round++) {
    const recorded *frame = &r->frames[pick(r->count)];
    uint8_t *exact = malloc(frame->bytes + 1);
    memcpy(exact, frame->at, frame->bytes);
    for (uint32_t changes = 1 + pick(3); frame->bytes && changes > 0; changes--)
      exact[pick((uint32_t)frame->bytes)] = (uint8_t)pick(256);
    neap__ipc_key key;
    neap__registration reg;
    neap_error err = {{0}};
    if (neap__ipc_key_read(neap__reader_over(exact, frame->bytes), &key, &err) == 0) {
      assert_in_range(key.world_size, 1, NEAP_WORLD_MAX);
      assert_true(key.worker_id < key.world_size);
      assert_true(key.tokens.at + key.tokens.bytes <= exact + frame->bytes);
      assert_true(key.start <= INT64_MAX && key.end <= INT64_MAX);
    } else {
      assert_true(err.text[0] != '\0');
    }
    (void)neap__registration_read(neap__reader_over(exact, frame->bytes), &reg, NULL);
    free(exact);
  }
}

/* --- built ------------------------------------------------------------------------------------------------------- */

/* A key whose field `field` is replaced by raw msgpack (NULL: left out), after an unknown one. */
static int read_with(const char *field, const void *raw, size_t raw_bytes, neap__ipc_key *key, neap_error *err) {
  static const struct {
    const char *name, *raw;
    size_t bytes;
  } fields[] = {{"num_kv_readers", "\x02", 1},
                {"request_configs", "\xc0", 1},
                {"cache_salt",
                 "\xa1"
                 "s",
                 2},
                {"request_id",
                 "\xa2"
                 "r1",
                 3},
                {"end", "\x04", 1},
                {"start", "\x00", 1},
                {"token_ids", "\x94\x01\x02\x03\x04", 5},
                {"worker_id", "\x01", 1},
                {"world_size", "\x02", 1},
                {"model_name",
                 "\xa1"
                 "m",
                 2}};
  static neap__writer w; /* the key points into it */
  neap__writer_reset(&w);
  uint32_t pairs = (uint32_t)NEAP_ARRAY_LEN(fields) + 1 - (field && !raw);
  neap__write_map(&w, pairs);
  neap__write_text(&w, "not_known_here");
  neap__write_raw(&w, "\x81\x01\x92\xc0\xc3", 5);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(fields); i++) {
    bool other = field && strcmp(field, fields[i].name) == 0;
    if (other && !raw) continue;
    neap__write_text(&w, fields[i].name);
    neap__write_raw(&w, other ? raw : fields[i].raw, other ? raw_bytes : fields[i].bytes);
  }
  return neap__ipc_key_read(neap__reader_over(w.at, w.bytes), key, err);
}

static void fields_come_in_any_order_with_unknown_ones_between(void **state) {
  (void)state;
  neap__ipc_key key;
  assert_int_equal(read_with(NULL, NULL, 0, &key, NULL), 0);
  assert_int_equal(key.world_size, 2);
  assert_int_equal(key.worker_id, 1);
  assert_false(key.all_workers);
  assert_int_equal(key.readers, 2);
  assert_int_equal(key.tokens.count, 4);
  assert_true(neap__text_is(key.salt, "s"));
}

static void optional_fields_have_defaults(void **state) {
  (void)state;
  neap__ipc_key key;
  assert_int_equal(read_with("cache_salt", NULL, 0, &key, NULL), 0);
  assert_int_equal(key.salt.bytes, 0);
  assert_int_equal(read_with("num_kv_readers", NULL, 0, &key, NULL), 0);
  assert_int_equal(key.readers, 0);
  assert_int_equal(read_with("worker_id", "\xc0", 1, &key, NULL), 0);
  assert_true(key.all_workers);
}

/* Written as a client that names its session, among what others send. */
static void of_the_configs_the_tag_of_the_session_is_read(void **state) {
  (void)state;
  neap__ipc_key key;
  neap__writer w = {0};
  neap__write_map(&w, 4);
  neap__write_text(&w, "lmcache.tag.user");
  neap__write_text(&w, "u1");
  neap__write_raw(&w, "\x92\x01\x81\x02\x03", 5); /* a name that is none, */
  neap__write_raw(&w, "\x81\x04\x92\x05\x06", 5); /* and its value */
  neap__write_text(&w, "lmcache.tag.session");
  neap__write_text(&w, "anna");
  neap__write_text(&w, "lmcache.max_offload_tokens");
  neap__write_uint(&w, 256);
  assert_int_equal(read_with("request_configs", w.at, w.bytes, &key, NULL), 0);
  assert_true(neap__text_is(key.session, "anna"));
  assert_int_equal(key.readers, 2);
  assert_int_equal(key.tokens.count, 4);
  assert_int_equal(read_with(NULL, NULL, 0, &key, NULL), 0);
  assert_int_equal(key.session.bytes, 0);
  neap__writer_reset(&w);
  neap__write_map(&w, 1);
  neap__write_text(&w, "lmcache.tag.session");
  neap__write_uint(&w, 7); /* no text: nobody's */
  assert_int_equal(read_with("request_configs", w.at, w.bytes, &key, NULL), 0);
  assert_int_equal(key.session.bytes, 0);
  assert_int_equal(read_with("request_configs", "\x93\x01\x02\x03", 4, &key, NULL), 0);
  neap__writer_free(&w);
}

static void a_bad_field_is_named(void **state) {
  (void)state;
  static const struct {
    const char *field, *raw;
    size_t bytes;
  } bad[] = {{"model_name", NULL, 0},
             {"world_size", NULL, 0},
             {"worker_id", NULL, 0},
             {"token_ids", NULL, 0},
             {"start", NULL, 0},
             {"end", NULL, 0},
             {"request_id", NULL, 0},
             {"model_name", "\x01", 1},
             {"world_size", "\x00", 1},
             {"world_size", "\xcd\x01\x00", 3},
             {"world_size", "\xc3", 1},
             {"world_size", "\xff", 1},
             {"worker_id", "\x02", 1},
             {"worker_id", "\xff", 1},
             {"worker_id",
              "\xa1"
              "0",
              2},
             {"token_ids", "\xc0", 1},
             {"token_ids", "\x91\xff", 2},
             {"start", "\xff", 1},
             {"start", "\xcb\0\0\0\0\0\0\0\0", 9},
             {"end", "\xcf\x80\0\0\0\0\0\0\0", 9},
             {"request_id",
              "\xc4\x01"
              "r",
              3},
             {"cache_salt",
              "\xa3"
              "a@b",
              4},
             {"cache_salt", "\xc0", 1},
             {"num_kv_readers", "\xce\0\1\0\0", 5},
             {"num_kv_readers", "\xc0", 1}};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(bad); i++) {
    neap__ipc_key key;
    neap_error err = {{0}};
    assert_int_equal(read_with(bad[i].field, bad[i].raw, bad[i].bytes, &key, &err), NEAP_EINVAL);
    if (strncmp(err.text, bad[i].field, strlen(bad[i].field)) != 0) fail_msg("%s: %s", bad[i].field, err.text);
  }
}

static void ranges_are_whole_chunks_within_the_tokens(void **state) {
  (void)state;
  neap__ipc_key key = {.tokens.count = 700};
  uint32_t first, count;
  static const struct {
    uint64_t start, end;
    int err;
    uint32_t first, count;
  } cases[] = {{0, 512, 0, 0, 2},
               {256, 512, 0, 1, 1},
               {512, 512, 0, 2, 0},
               {0, 700, NEAP_EINVAL, 0, 0},
               {0, 768, NEAP_EINVAL, 0, 0},
               {100, 512, NEAP_EINVAL, 0, 0},
               {512, 256, NEAP_EINVAL, 0, 0},
               {0, INT64_MAX, NEAP_EINVAL, 0, 0}};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(cases); i++) {
    key.start = cases[i].start;
    key.end = cases[i].end;
    assert_int_equal(neap__ipc_key_chunks(&key, 256, &first, &count, NULL), cases[i].err);
    if (cases[i].err) continue;
    assert_int_equal(first, cases[i].first);
    assert_int_equal(count, cases[i].count);
  }
}

/* --- prompts ----------------------------------------------------------------------------------------------------- */

/* A list that shares its first tokens with the one before, as a request's lists do, or now and then does not. */
static void a_prompt_that_comes_again_has_the_hashes_of_a_new_one(void **state) {
  (void)state;
  enum { CHUNK = 4, MOST = 64 };
  uint32_t tokens[MOST] = {0};
  uint8_t want[MOST / CHUNK][NEAP_HASH_BYTES];
  neap__prompt prompt = {0};
  for (uint32_t round = 0; round < 5000; round++) {
    uint32_t count = pick(MOST + 1);
    if (pick(3) == 0) tokens[pick(MOST)] = (uint32_t)rand_r(&seed) >> pick(24);
    neap__writer w = {0};
    neap__write_array(&w, count);
    for (uint32_t i = 0; i < count; i++) neap__write_uint(&w, tokens[i]);
    neap__reader r = neap__reader_over(w.at, w.bytes);
    neap__token_list list;
    assert_int_equal(neap__read_tokens(&r, &list), 0);
    uint32_t chunks = pick(2) ? UINT32_MAX : pick(MOST / CHUNK), known = NEAP_MIN(chunks, count / CHUNK);
    assert_int_equal(neap__prompt_read(&prompt, &list, CHUNK, chunks), 0);
    neap__chain(neap__chain_seed(), tokens, CHUNK, count / CHUNK, want);
    assert_true(prompt.chunks >= known);
    known = NEAP_MIN(prompt.chunks, count / CHUNK);
    assert_memory_equal(prompt.hashes ? prompt.hashes : want, want, known * NEAP_HASH_BYTES);
    neap__writer_free(&w);
  }
  neap__prompt_free(&prompt);
}

int main(void) {
  const char *given = getenv("NEAP_SEED");
  seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)neap__now_ns();
  printf("seed %u\n", seed);
  recording r = recording_read();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_prestate(recorded_keys_are_understood, &r),
      cmocka_unit_test_prestate(recorded_registrations_are_understood, &r),
      cmocka_unit_test_prestate(a_frame_cut_anywhere_is_refused, &r),
      cmocka_unit_test_prestate(a_damaged_frame_is_refused_or_harmless, &r),
      cmocka_unit_test(fields_come_in_any_order_with_unknown_ones_between),
      cmocka_unit_test(optional_fields_have_defaults),
      cmocka_unit_test(of_the_configs_the_tag_of_the_session_is_read),
      cmocka_unit_test(a_bad_field_is_named),
      cmocka_unit_test(ranges_are_whole_chunks_within_the_tokens),
      cmocka_unit_test(a_prompt_that_comes_again_has_the_hashes_of_a_new_one),
  };
  int failed = cmocka_run_group_tests_name("requests", tests, NULL, NULL);
  recording_free(&r);
  return failed;
}
