/* SPDX-License-Identifier: MIT
 *
 * The msgpack cursor and writer: every kind of value, every width, and bytes that lie about their length. Frames are
 * copied to memory of exactly their size, so that a sanitizer sees a read behind the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "serve/reader.h"
#include "serve/writer.h"
#include "support/recorded.h"

static unsigned seed;

static uint32_t pick(uint32_t below) { return (uint32_t)rand_r(&seed) % below; }

/* Reads the first value of exactly these bytes. */
static int value_of(const char *data, size_t bytes, neap__value *value) {
  uint8_t *exact = malloc(bytes ? bytes : 1);
  memcpy(exact, data, bytes);
  neap__reader r = neap__reader_over(exact, bytes);
  int err = neap__read_value(&r, value);
  free(exact);
  return err;
}

static void numbers_of_every_width_are_read(void **state) {
  (void)state;
  static const struct {
    const char *data;
    size_t bytes;
    neap__kind kind;
    uint64_t number;
  } cases[] = {{"\x00", 1, NEAP_KIND_UINT, 0},
               {"\x7f", 1, NEAP_KIND_UINT, 127},
               {"\xcc\x80", 2, NEAP_KIND_UINT, 128},
               {"\xcd\x01\x02", 3, NEAP_KIND_UINT, 0x102},
               {"\xce\x01\x02\x03\x04", 5, NEAP_KIND_UINT, 0x1020304},
               {"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9, NEAP_KIND_UINT, UINT64_MAX},
               {"\xd0\x05", 2, NEAP_KIND_UINT, 5},
               {"\xd1\x01\x00", 3, NEAP_KIND_UINT, 256},
               {"\xc3", 1, NEAP_KIND_BOOL, 1},
               {"\xc2", 1, NEAP_KIND_BOOL, 0}};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(cases); i++) {
    neap__value value;
    assert_int_equal(value_of(cases[i].data, cases[i].bytes, &value), 0);
    assert_int_equal(value.kind, cases[i].kind);
    assert_int_equal(value.number, cases[i].number);
    for (size_t cut = 0; cut < cases[i].bytes; cut++)
      assert_int_equal(value_of(cases[i].data, cut, &value), NEAP_EINVAL);
  }
}

static void negative_numbers_are_no_token_and_no_count(void **state) {
  (void)state;
  static const char *const negative[] = {"\xff", "\xe0", "\xd0\xff", "\xd1\xff\xff", "\xd2\xff\xff\xff\xff"};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(negative); i++) {
    neap__value value;
    uint64_t out;
    assert_int_equal(value_of(negative[i], strlen(negative[i]), &value), 0);
    assert_int_equal(value.kind, NEAP_KIND_NEGATIVE);
    neap__reader r = neap__reader_over(negative[i], strlen(negative[i]));
    assert_int_equal(neap__read_uint(&r, UINT64_MAX, &out), NEAP_EINVAL);
  }
}

static void kinds_are_not_mixed_up(void **state) {
  (void)state;
  neap__text text;
  uint64_t number;
  bool truth;
  neap__reader r = neap__reader_over("\xc3", 1);
  assert_int_equal(neap__read_uint(&r, UINT64_MAX, &number), NEAP_EINVAL);
  r = neap__reader_over("\x01", 1);
  assert_int_equal(neap__read_bool(&r, &truth), NEAP_EINVAL);
  r = neap__reader_over(
      "\xc4\x01"
      "a",
      3);
  assert_int_equal(neap__read_text(&r, &text), NEAP_EINVAL);
  r = neap__reader_over("\xcb\x3f\xf0\0\0\0\0\0\0", 9);
  assert_int_equal(neap__read_uint(&r, UINT64_MAX, &number), NEAP_EINVAL);
}

static void lengths_that_lie_are_refused_at_the_head(void **state) {
  (void)state;
  static const struct {
    const char *data;
    size_t bytes;
  } lies[] = {{"\xdb\xff\xff\xff\xff"
               "abc",
               8},
              {"\xdd\xff\xff\xff\xff\x01", 6},
              {"\xdf\x80\x00\x00\x00\x01\x01", 7},
              {"\xc6\x00\x00\x00\x04"
               "abc",
               8},
              {"\xc9\xff\xff\xff\xff\x01", 6},
              {"\xa5"
               "abc",
               4},
              {"\xc1", 1},
              {"", 0}};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(lies); i++) {
    neap__value value;
    assert_int_equal(value_of(lies[i].data, lies[i].bytes, &value), NEAP_EINVAL);
  }
}

static void a_million_nested_arrays_are_skipped_in_place(void **state) {
  (void)state;
  size_t depth = 1000000;
  uint8_t *deep = malloc(depth + 1);
  memset(deep, 0x91, depth);
  deep[depth] = 0xc0;
  neap__reader r = neap__reader_over(deep, depth + 1);
  assert_int_equal(neap__read_skip(&r), 0);
  assert_true(neap__reader_done(&r));
  r = neap__reader_over(deep, depth);
  assert_int_equal(neap__read_skip(&r), NEAP_EINVAL);
  free(deep);
}

static void tokens_are_ints_below_two_to_the_32(void **state) {
  (void)state;
  static const char good[] = "\x97\x00\x7f\xcc\x80\xcd\x12\x34\xce\xff\xff\xff\xff\xcf\0\0\0\0\0\0\0\x05\xd2\0\0\0\x06";
  static const uint32_t want[] = {0, 127, 128, 0x1234, UINT32_MAX, 5, 6};
  uint32_t got[NEAP_ARRAY_LEN(want)];
  neap__token_list list;
  neap__reader r = neap__reader_over(good, sizeof(good) - 1);
  assert_int_equal(neap__read_tokens(&r, &list), 0);
  assert_int_equal(list.count, NEAP_ARRAY_LEN(want));
  assert_true(neap__reader_done(&r));
  assert_ptr_equal(neap__tokens_decode(list.at, list.count, got), list.at + list.bytes);
  assert_memory_equal(got, want, sizeof(want));
  static const struct {
    const char *data;
    size_t bytes;
  } bad[] = {{"\x91\xff", 2},
             {"\x91\xcf\0\0\0\1\0\0\0\0", 10},
             {"\x91\xc3", 2},
             {"\x91\xc0", 2},
             {"\x91\xa1"
              "1",
              3},
             {"\x92\x01", 2},
             {"\x91\xcd\x01", 3},
             {"\x91\x91\x01", 3},
             {"\x81\x01\x01", 3},
             {"\x91\xca\0\0\0\0", 6}};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(bad); i++) {
    r = neap__reader_over(bad[i].data, bad[i].bytes);
    assert_int_equal(neap__read_tokens(&r, &list), NEAP_EINVAL);
  }
}

static void what_is_written_is_read_back(void **state) {
  (void)state;
  char text[70000];
  neap__writer w = {0};
  for (uint32_t round = 0; round < 2000; round++) {
    uint64_t number = (uint64_t)pick(UINT32_MAX) << 32 >> pick(64);
    uint32_t bytes = pick(round % 100 ? 300 : sizeof(text) - 1);
    neap__value value;
    memset(text, 'x', bytes);
    text[bytes] = '\0';
    neap__writer_reset(&w);
    neap__write_uint(&w, number);
    size_t width = w.bytes;
    neap__write_text(&w, text);
    neap__write_array(&w, 0);
    neap__reader r = neap__reader_over(w.at, w.bytes);
    assert_int_equal(neap__read_value(&r, &value), 0);
    assert_int_equal(value.number, number);
    assert_int_equal(width, number < 128 ? 1 : number < 256 ? 2 : number < 65536 ? 3 : number <= UINT32_MAX ? 5 : 9);
    assert_int_equal(neap__read_value(&r, &value), 0);
    assert_int_equal(value.text.bytes, bytes);
    assert_memory_equal(value.text.at, text, bytes);
    assert_int_equal(neap__read_skip(&r), 0);
    assert_true(neap__reader_done(&r));
  }
  assert_false(w.failed);
  neap__writer_free(&w);
}

static void recorded_frames_are_one_value_each(void **state) {
  recording *r = *state;
  assert_true(r->count > 300);
  for (uint32_t i = 0; i < r->count; i++) {
    neap__reader reader = neap__reader_over(r->frames[i].at, r->frames[i].bytes);
    if (r->frames[i].op[0] == '\0') continue; /* control of a stream: plain words, not msgpack */
    assert_int_equal(neap__read_skip(&reader), 0);
    assert_true(neap__reader_done(&reader));
  }
}

static void damaged_frames_are_never_read_behind_their_end(void **state) {
  recording *r = *state;
  for (uint32_t round = 0; round < 20000; round++) {
    const recorded *frame = &r->frames[pick(r->count)];
    size_t bytes = frame->bytes ? pick((uint32_t)NEAP_MIN(frame->bytes, 400u)) + 1 : 0;
    uint8_t *exact = malloc(bytes ? bytes : 1);
    memcpy(exact, frame->at, bytes);
    for (uint32_t changes = pick(4); bytes && changes > 0; changes--) exact[pick((uint32_t)bytes)] = (uint8_t)pick(256);
    neap__reader reader = neap__reader_over(exact, bytes);
    neap__token_list tokens;
    if (neap__read_skip(&reader) == 0) assert_true(reader.at <= reader.end);
    reader = neap__reader_over(exact, bytes);
    if (neap__read_tokens(&reader, &tokens) == 0) assert_true(tokens.at + tokens.bytes <= exact + bytes);
    free(exact);
  }
}

int main(void) {
  const char *given = getenv("NEAP_SEED");
  seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)neap__now_ns();
  printf("seed %u\n", seed);
  recording r = recording_read();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_of_every_width_are_read),
      cmocka_unit_test(negative_numbers_are_no_token_and_no_count),
      cmocka_unit_test(kinds_are_not_mixed_up),
      cmocka_unit_test(lengths_that_lie_are_refused_at_the_head),
      cmocka_unit_test(a_million_nested_arrays_are_skipped_in_place),
      cmocka_unit_test(tokens_are_ints_below_two_to_the_32),
      cmocka_unit_test(what_is_written_is_read_back),
      cmocka_unit_test_prestate(recorded_frames_are_one_value_each, &r),
      cmocka_unit_test_prestate(damaged_frames_are_never_read_behind_their_end, &r),
  };
  int failed = cmocka_run_group_tests_name("msgpack cursor", tests, NULL, NULL);
  recording_free(&r);
  return failed;
}
