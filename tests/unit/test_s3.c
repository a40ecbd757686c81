/* SPDX-License-Identifier: MIT
 *
 * Built-in type "s3" against services that misbehave. What it does with a real one: spec/stores/s3_spec.lua. */
#include "../adapters/s3/s3.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "support/http_server.h"
#include "support/test_host.h"

extern const neap_adapter neap__s3_adapter;

#define BYTES 3000u
#define PART (5u << 20)
#define CANARY 64u

typedef struct fixture {
  test_host *host;
  test_http_server *server;
  void *self;
  neap_error err;
  void (*script)(struct fixture *f, test_exchange *x);
  char payload[BYTES + 1];
  pthread_mutex_t lock;
  char seen[4096]; /* methods and queries, in order */
} fixture;

static void answer(void *ctx, test_exchange *x) {
  fixture *f = ctx;
  const char *query = strchr(x->target, '?');
  pthread_mutex_lock(&f->lock);
  size_t used = strlen(f->seen);
  snprintf(f->seen + used, sizeof f->seen - used, "%s%s ", x->method, query ? query : "");
  pthread_mutex_unlock(&f->lock);
  f->script(f, x);
}

static int open_with(fixture *f, const char *endpoint, const char *more) {
  char params[1024];
  snprintf(params, sizeof params,
           "{\"s3_endpoint\":\"%s\",\"bucket\":\"cache\",\"s3_region\":\"us-east-1\",\"s3_num_io_threads\":8,"
           "\"s3_prefer_http2\":false,\"attempts\":4,\"part_mb\":5%s}",
           endpoint, more);
  return neap__s3_adapter.open(&neap__s3_adapter, test_host_table(f->host), params, &f->self, &f->err);
}

#define KEYS ",\"aws_access_key_id\":\"AK\",\"aws_secret_access_key\":\"SK\""

static int setup(void **state) {
  fixture *f = calloc(1, sizeof *f);
  char endpoint[64];
  pthread_mutex_init(&f->lock, NULL);
  for (unsigned i = 0; i < BYTES; i++) f->payload[i] = (char)('a' + i % 26);
  f->host = test_host_open(1);
  f->server = test_http_open(answer, f);
  snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", test_http_port(f->server));
  *state = f;
  return open_with(f, endpoint, KEYS);
}

static int teardown(void **state) {
  fixture *f = *state;
  neap__s3_adapter.close(f->self);
  uint32_t astray = test_host_close(f->host);
  test_http_close(f->server);
  pthread_mutex_destroy(&f->lock);
  free(f);
  return astray ? -1 : 0;
}

static void ok_body(fixture *f, test_exchange *x) { test_http_reply(x, "200 OK", "ETag: \"e\"\r\n", f->payload); }

static int load(fixture *f, void *data, uint64_t bytes) {
  return test_load(f->host, &neap__s3_adapter, f->self, test_key(1), data, bytes);
}

static int store(fixture *f, void *data, uint64_t bytes, uint64_t *stored) {
  return test_store(f->host, &neap__s3_adapter, f->self, test_key(1), data, bytes, stored);
}

/* --- retries -------------------------------------------------------------------------------------------------- */

static void slow_down_twice(fixture *f, test_exchange *x) {
  if (x->number < 2)
    test_http_reply(x, "503 Slow Down", "", "<Error><Code>SlowDown</Code></Error>");
  else
    ok_body(f, x);
}

static void a_service_that_asks_to_slow_down_is_asked_again(void **state) {
  fixture *f = *state;
  char data[BYTES];
  f->script = slow_down_twice;
  assert_int_equal(load(f, data, BYTES), 0);
  assert_memory_equal(data, f->payload, BYTES);
  assert_int_equal(test_http_count(f->server), 3);
}

static void close_first(fixture *f, test_exchange *x) {
  ok_body(f, x);
  if (x->number == 0) x->reply[200] = 0, x->close = true; /* in the middle of the body */
  if (x->number == 1) x->reply[0] = 0;
}

static void a_connection_that_ends_in_the_middle_of_an_answer_is_no_answer(void **state) {
  fixture *f = *state;
  char data[BYTES];
  f->script = close_first;
  assert_int_equal(load(f, data, BYTES), 0);
  assert_memory_equal(data, f->payload, BYTES);
}

static void always_broken(fixture *f, test_exchange *x) {
  (void)f;
  test_http_reply(x, "500 Internal Server Error", "", "not even XML");
}

static void a_service_that_always_fails_is_asked_a_bounded_number_of_times(void **state) {
  fixture *f = *state;
  char data[BYTES];
  f->script = always_broken;
  assert_int_equal(load(f, data, BYTES), NEAP_EIO);
  assert_int_equal(test_http_count(f->server), 4);
  assert_true(test_host_logged(f->host, "status 500"));
}

static void hang(fixture *f, test_exchange *x) {
  (void)f;
  x->hang = true;
}

static test_op *load_op(fixture *f, void *data, uint64_t bytes) {
  test_op *op = test_op_new(f->host, NEAP_OP_LOAD, 1);
  op->objects[0].key = test_key(1);
  op->objects[0].data = data;
  op->objects[0].bytes = bytes;
  return op;
}

static void a_service_that_never_answers_is_left_at_the_deadline(void **state) {
  fixture *f = *state;
  char data[BYTES];
  f->script = hang;
  test_op *op = load_op(f, data, BYTES);
  op->op.deadline_ns = neap__now_ns() + 50000000u;
  test_op_run(&neap__s3_adapter, f->self, op);
  assert_int_equal(op->objects[0].result, NEAP_ETIMEDOUT);
}

static void a_canceled_operation_ends_without_an_answer(void **state) {
  fixture *f = *state;
  char *data = calloc(1, 2 * (size_t)PART);
  f->script = hang;
  test_op *one = load_op(f, data, BYTES), *parts = load_op(f, data, 2 * (uint64_t)PART);
  test_op_submit(&neap__s3_adapter, f->self, one);
  test_op_submit(&neap__s3_adapter, f->self, parts);
  neap__s3_adapter.cancel(f->self, &one->op);
  neap__s3_adapter.cancel(f->self, &parts->op);
  test_op_wait(one);
  test_op_wait(parts);
  assert_int_equal(one->objects[0].result, NEAP_ECANCELED);
  assert_int_equal(parts->objects[0].result, NEAP_ECANCELED);
  free(data);
}

/* --- wrong answers -------------------------------------------------------------------------------------------- */

static void redirect(fixture *f, test_exchange *x) {
  (void)f;
  test_http_reply(x, "307 Temporary Redirect", "Location: /\r\n", "<Error><Code>TemporaryRedirect</Code></Error>");
}

static void a_redirect_is_not_followed_in_circles(void **state) {
  fixture *f = *state;
  char data[BYTES];
  f->script = redirect;
  assert_int_equal(load(f, data, BYTES), NEAP_EIO);
  assert_int_equal(test_http_count(f->server), 1);
  assert_true(test_host_logged(f->host, "status 307, TemporaryRedirect"));
}

static void garbage(fixture *f, test_exchange *x) {
  (void)f;
  snprintf(x->reply, sizeof x->reply, "\x01\x02 this is no HTTP\r\n\r\n");
  x->close = true;
}

static void garbage_is_a_failure(void **state) {
  fixture *f = *state;
  char data[BYTES];
  f->script = garbage;
  assert_int_equal(load(f, data, BYTES), NEAP_EIO);
}

static void an_object_of_another_length_is_corrupt_and_nothing_is_written_behind_the_buffer(void **state) {
  fixture *f = *state;
  char data[BYTES];
  f->script = ok_body;
  memset(data, '#', sizeof data);
  assert_int_equal(load(f, data, BYTES - CANARY), NEAP_ECORRUPT);
  for (unsigned i = 0; i < CANARY; i++) assert_int_equal(data[BYTES - CANARY + i], '#');
  char longer[BYTES + 1];
  assert_int_equal(load(f, longer, sizeof longer), NEAP_ECORRUPT);
  assert_int_equal(test_http_count(f->server), 2); /* another attempt would bring the same */
}

static void wrong_crc(fixture *f, test_exchange *x) {
  test_http_reply(x, "200 OK", "x-amz-meta-neap-crc32c: 0badf00d\r\n", f->payload);
}

static void bytes_that_do_not_match_their_checksum_are_corrupt(void **state) {
  fixture *f = *state;
  char data[BYTES];
  f->script = wrong_crc;
  assert_int_equal(load(f, data, BYTES), NEAP_ECORRUPT);
}

/* Answers a range of zeros; every part is of another object. */
static void other_object_each_time(fixture *f, test_exchange *x) {
  static char zeros[PART];
  unsigned long long from = 0, to = 0;
  (void)f;
  sscanf(strcasestr(x->head, "range: bytes="), "%*[^=]=%llu-%llu", &from, &to);
  snprintf(x->reply, sizeof x->reply,
           "HTTP/1.1 206 Partial Content\r\nETag: \"%u\"\r\nContent-Range: bytes %llu-%llu/%u\r\n"
           "Content-Length: %llu\r\n\r\n",
           x->number, from, to, PART + BYTES, to - from + 1);
  x->more = zeros;
  x->more_bytes = (size_t)(to - from + 1);
}

static void parts_of_different_objects_are_not_put_together(void **state) {
  fixture *f = *state;
  char *data = malloc(PART + BYTES);
  f->script = other_object_each_time;
  assert_int_equal(load(f, data, PART + BYTES), NEAP_ECORRUPT);
  assert_int_equal(test_http_count(f->server), 2);
  free(data);
}

static void not_found(fixture *f, test_exchange *x) {
  (void)f;
  test_http_reply(x, "404 Not Found", "", "<Error><Code>NoSuchKey</Code></Error>");
}

static void nothing(fixture *f, test_exchange *x) {
  (void)f;
  test_http_reply(x, "200 OK", "", "");
}

static void an_object_of_no_bytes_is_asked_for_like_any_other(void **state) {
  fixture *f = *state;
  char byte = '#';
  f->script = not_found;
  assert_int_equal(load(f, &byte, 0), NEAP_ENOENT);
  f->script = ok_body;
  assert_int_equal(load(f, &byte, 0), NEAP_ECORRUPT);
  assert_int_equal(byte, '#');
  f->script = nothing;
  assert_int_equal(load(f, NULL, 0), 0);
}

/* --- stores --------------------------------------------------------------------------------------------------- */

static void no_conditional_writes(fixture *f, test_exchange *x) {
  (void)f;
  if (strcasestr(x->head, "\r\nif-none-match:"))
    test_http_reply(x, "501 Not Implemented", "", "<Error><Code>NotImplemented</Code></Error>");
  else if (strcmp(x->method, "HEAD") == 0)
    test_http_reply(x, "404 Not Found", "", "");
  else
    test_http_reply(x, "200 OK", "", "");
}

static void a_service_without_conditional_writes_is_asked_first(void **state) {
  fixture *f = *state;
  uint64_t stored;
  f->script = no_conditional_writes;
  assert_int_equal(store(f, f->payload, BYTES, &stored), 0);
  assert_int_equal(stored, BYTES);
  assert_int_equal(store(f, f->payload, BYTES, &stored), 0);
  assert_string_equal(f->seen, "PUT HEAD PUT HEAD PUT ");
}

static void fail_to_complete(fixture *f, test_exchange *x) {
  (void)f;
  if (strcmp(x->method, "HEAD") == 0)
    test_http_reply(x, "404 Not Found", "", "");
  else if (strstr(x->target, "?uploads"))
    test_http_reply(x, "200 OK", "", "<R><UploadId>up/1</UploadId></R>");
  else if (strcmp(x->method, "PUT") == 0)
    test_http_reply(x, "200 OK", "ETag: \"p\"\r\n", "");
  else if (strcmp(x->method, "POST") == 0)
    test_http_reply(x, "200 OK", "", "<Error><Code>InternalError</Code></Error>");
  else
    test_http_reply(x, "204 No Content", "", "");
}

static void an_upload_that_fails_at_its_end_is_taken_back(void **state) {
  fixture *f = *state;
  char *data = calloc(1, PART + BYTES);
  uint64_t stored;
  f->script = fail_to_complete;
  assert_int_equal(store(f, data, PART + BYTES, &stored), NEAP_EIO);
  assert_int_equal(stored, 0);
  assert_non_null(strstr(f->seen, "POST?uploadId=up%2F1 DELETE?uploadId=up%2F1 "));
  free(data);
}

static void conflict_once(fixture *f, test_exchange *x) {
  (void)f;
  if (x->number == 0)
    test_http_reply(x, "409 Conflict", "", "<Error><Code>ConditionalRequestConflict</Code></Error>");
  else
    test_http_reply(x, "200 OK", "", "");
}

static void conflict(fixture *f, test_exchange *x) {
  (void)f;
  test_http_reply(x, "409 Conflict", "", "<Error><Code>ExistingObjectIsDirectory</Code></Error>");
}

static void a_conflict_does_not_say_that_the_object_is_there(void **state) {
  fixture *f = *state;
  uint64_t stored;
  f->script = conflict_once;
  assert_int_equal(store(f, f->payload, BYTES, &stored), 0);
  assert_int_equal(stored, BYTES);
  assert_string_equal(f->seen, "PUT PUT ");
  f->script = conflict;
  assert_int_equal(store(f, f->payload, BYTES, &stored), NEAP_EIO);
  assert_true(test_host_logged(f->host, "status 409, ExistingObjectIsDirectory"));
}

/* --- names ---------------------------------------------------------------------------------------------------- */

static void too_long(fixture *f, test_exchange *x) {
  (void)f;
  test_http_reply(x, "400 Bad Request", "", "<Error><Code>KeyTooLongError</Code></Error>");
}

static void a_name_that_is_too_long_is_refused_for_stores_and_a_miss_for_others(void **state) {
  fixture *f = *state;
  char model[NEAP_MODEL_BYTES_MAX + 1], data[BYTES];
  neap_object_key key = test_key(1);
  uint64_t stored;
  f->script = too_long; /* by services that take less than S3 does */
  assert_int_equal(store(f, f->payload, BYTES, &stored), NEAP_EINVAL);
  assert_int_equal(load(f, data, BYTES), NEAP_ENOENT);
  neap__s3_adapter.close(f->self);
  char more[800], prefix[513], endpoint[64];
  memset(prefix, 'p', 512);
  prefix[512] = 0;
  snprintf(more, sizeof more, KEYS ",\"prefix\":\"%s\"", prefix);
  snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", test_http_port(f->server));
  assert_int_equal(open_with(f, endpoint, more), 0);
  memset(model, 'm', sizeof model);
  model[1024 - 512 - strlen("@00000000@0@") - 64] = 0; /* with one byte more it is too long */
  key.model = model;
  key.salt = "";
  key.rank = key.group = 0;
  f->script = ok_body;
  unsigned before = test_http_count(f->server);
  assert_int_equal(test_load(f->host, &neap__s3_adapter, f->self, key, data, BYTES), 0);
  assert_int_equal(test_http_count(f->server), before + 1);
  key.group = 16;
  assert_int_equal(test_store(f->host, &neap__s3_adapter, f->self, key, data, BYTES, &stored), NEAP_EINVAL);
  assert_int_equal(test_lookup(f->host, &neap__s3_adapter, f->self, key, BYTES), NEAP_ENOENT);
  assert_int_equal(test_load(f->host, &neap__s3_adapter, f->self, key, data, BYTES), NEAP_ENOENT);
  assert_int_equal(test_remove(f->host, &neap__s3_adapter, f->self, key), NEAP_ENOENT);
  assert_int_equal(test_http_count(f->server), before + 1);
}

/* --- parameters ----------------------------------------------------------------------------------------------- */

static void refuses(fixture *f, const char *endpoint, const char *more, int code, const char *expected) {
  fixture other = {.host = f->host};
  assert_int_equal(open_with(&other, endpoint, more), code);
  if (!strstr(other.err.text, expected)) fail_msg("'%s' does not contain '%s'", other.err.text, expected);
}

static void denied(fixture *f, test_exchange *x) {
  (void)f;
  test_http_reply(x, "403 Forbidden", "", "<Error><Code>SignatureDoesNotMatch</Code></Error>");
}

static void wrong_parameters_are_told_at_open(void **state) {
  fixture *f = *state;
  unsetenv("AWS_ACCESS_KEY_ID");
  refuses(f, "localhost", "", NEAP_EINVAL, "aws_access_key_id and aws_secret_access_key are needed");
  refuses(f, "ftp://localhost", KEYS, NEAP_EINVAL, "s3_endpoint must be HOST");
  refuses(f, "https://localhost/bucket", KEYS, NEAP_EINVAL, "without a path");
  char endpoint[64];
  f->script = denied;
  snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", test_http_port(f->server));
  refuses(f, endpoint, KEYS ",\"check\":true", NEAP_EPERM, "status 403 SignatureDoesNotMatch");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      T(a_service_that_asks_to_slow_down_is_asked_again),
      T(a_connection_that_ends_in_the_middle_of_an_answer_is_no_answer),
      T(a_service_that_always_fails_is_asked_a_bounded_number_of_times),
      T(a_service_that_never_answers_is_left_at_the_deadline),
      T(a_canceled_operation_ends_without_an_answer),
      T(a_redirect_is_not_followed_in_circles),
      T(garbage_is_a_failure),
      T(an_object_of_another_length_is_corrupt_and_nothing_is_written_behind_the_buffer),
      T(bytes_that_do_not_match_their_checksum_are_corrupt),
      T(parts_of_different_objects_are_not_put_together),
      T(an_object_of_no_bytes_is_asked_for_like_any_other),
      T(a_service_without_conditional_writes_is_asked_first),
      T(an_upload_that_fails_at_its_end_is_taken_back),
      T(a_conflict_does_not_say_that_the_object_is_there),
      T(a_name_that_is_too_long_is_refused_for_stores_and_a_miss_for_others),
      T(wrong_parameters_are_told_at_open),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
