/* SPDX-License-Identifier: MIT
 *
 * What a policy hears of requests as they come over the wire, and of hints as they come over HTTP. */
#include "support/wire_client.h"

#include <arpa/inet.h>

#include "chunk/tokens.h"
#include "serve/http.h"

enum { WORKER = 7, CHUNKS = 3 };

static struct {
  neap_event event[64];
  neap_hint hint[8];
  uint32_t events, hints;
} heard;

static int hearing_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  (void)policy, (void)context, (void)err;
  *self = &heard;
  return 0;
}

static void hearing_destroy(void *self) { (void)self; }

static int hearing_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  (void)self, (void)err;
  for (uint32_t i = 0; i < count && heard.events < 64; i++) heard.event[heard.events++] = events[i];
  return 0;
}

static int hearing_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  (void)self, (void)scope, (void)out, (void)max, (void)err;
  return 0;
}

static int hearing_hints(void *self, const neap_hint *hints, uint32_t count, neap_error *err) {
  (void)self, (void)err;
  for (uint32_t i = 0; i < count && heard.hints < 8; i++) heard.hint[heard.hints++] = hints[i];
  return 0;
}

static const neap_policy hearing = {
    .magic = NEAP_POLICY_MAGIC,
    .abi = NEAP_POLICY_ABI,
    .size = sizeof(neap_policy),
    .wants = NEAP_WANTS(REQUEST) | NEAP_WANTS(MISS) | NEAP_WANTS(INSERT) | NEAP_WANTS(HIT),
    .name = "hearing",
    .create = hearing_create,
    .on_events = hearing_events,
    .victims = hearing_victims,
    .destroy = hearing_destroy,
    .on_hint = hearing_hints,
};

static int setup(void **state) {
  memset(&heard, 0, sizeof(heard));
  return bench_setup(state);
}

static void rule(bench *b) { assert_int_equal(neap__stream_switch(b->engine->stream, &hearing, "", NULL), 0); }

static void expect_event(uint32_t at, neap_event_type type, uint32_t pos) {
  assert_true(at < heard.events);
  assert_int_equal(heard.event[at].type, type);
  assert_int_equal(heard.event[at].pos, pos);
}

/* What a request stores in one piece is told once, tail first. */
static void a_request_begins_misses_and_inserts_tail_first(void **state) {
  bench *b = *state;
  ask a = prompt("cmpl-1", 100, CHUNKS);
  register_worker(b, WORKER);
  rule(b);
  assert_int_equal(look(b, &a), 0);
  store(b, &a, WORKER, 0x11);
  end_session(b, "cmpl-1");
  neap__stream_flush(b->engine->stream);
  for (uint32_t i = 0; i < CHUNKS; i++) {
    expect_event(i, NEAP_EV_MISS, CHUNKS - 1 - i);
    expect_event(CHUNKS + 1 + i, NEAP_EV_INSERT, CHUNKS - 1 - i);
    assert_int_equal(heard.event[i].h1, heard.event[CHUNKS + 1 + i].h1);
    assert_int_equal(heard.event[i].request, heard.event[CHUNKS].request);
  }
  expect_event(CHUNKS, NEAP_EV_REQUEST, CHUNKS);
  assert_int_equal(heard.event[CHUNKS].slot, NEAP_POLICY_NO_SLOT);
  assert_int_equal(heard.events, 2 * CHUNKS + 1);
}

/* The prefix is used, the rest is new. */
static void a_longer_prompt_uses_what_was_there_and_inserts_the_rest(void **state) {
  bench *b = *state;
  ask first = prompt("cmpl-1", 100, CHUNKS), longer = prompt("cmpl-2", 100, CHUNKS + 2);
  register_worker(b, WORKER);
  assert_int_equal(look(b, &first), 0);
  store(b, &first, WORKER, 0x11);
  end_session(b, "cmpl-1");
  rule(b);
  neap__stream_flush(b->engine->stream);
  heard.events = 0; /* what the switch told */
  assert_int_equal(look(b, &longer), CHUNKS);
  longer.start = CHUNKS * CHUNK;
  store(b, &longer, WORKER, 0x11);
  end_session(b, "cmpl-2");
  neap__stream_flush(b->engine->stream);
  uint32_t at = 0;
  while (at < heard.events && heard.event[at].type == NEAP_EV_MISS) at++;
  expect_event(at, NEAP_EV_REQUEST, CHUNKS + 2);
  expect_event(at + 1, NEAP_EV_INSERT, CHUNKS + 1);
  expect_event(at + 2, NEAP_EV_INSERT, CHUNKS);
  for (uint32_t i = 0; i < CHUNKS; i++) expect_event(at + 3 + i, NEAP_EV_HIT, CHUNKS - 1 - i);
  assert_int_equal(heard.events, at + 3 + CHUNKS);
}

/* In two pieces the head was told before the tail: the end of the request mends the order. */
static void a_prompt_that_is_stored_in_pieces_is_told_again_at_its_end(void **state) {
  bench *b = *state;
  ask head = prompt("cmpl-1", 100, CHUNKS), whole = prompt("cmpl-1", 100, CHUNKS + 2);
  register_worker(b, WORKER);
  rule(b);
  assert_int_equal(look(b, &whole), 0);
  store(b, &head, WORKER, 0x11);
  whole.start = CHUNKS * CHUNK;
  store(b, &whole, WORKER, 0x11);
  end_session(b, "cmpl-1");
  neap__stream_flush(b->engine->stream);
  for (uint32_t i = 0; i < CHUNKS + 2; i++) expect_event(heard.events - 1 - i, NEAP_EV_HIT, i);
}

static void request_that_ends(bench *b, const char *name, const char *session, uint32_t first) {
  ask a = prompt(name, first, CHUNKS);
  a.session = session;
  assert_int_equal(look(b, &a), 0);
  store(b, &a, WORKER, 0x22);
  end_session(b, name);
}

/* h1 and h2 of the REQUEST with this number, from 0. */
static uint64_t session_told(uint32_t number) {
  for (uint32_t i = 0; i < heard.events; i++)
    if (heard.event[i].type == NEAP_EV_REQUEST && number-- == 0)
      return heard.event[i].h1 | (uint64_t)heard.event[i].h2 << 32;
  fail_msg("no REQUEST");
  return 0;
}

static void a_request_tells_the_session_that_its_client_names(void **state) {
  bench *b = *state;
  register_worker(b, WORKER);
  rule(b);
  request_that_ends(b, "cmpl-1", "anna", 100);
  request_that_ends(b, "cmpl-2", NULL, 500);
  request_that_ends(b, "cmpl-3", "otto", 900);
  request_that_ends(b, "cmpl-4", "anna", 1300);
  neap__stream_flush(b->engine->stream);
  assert_int_not_equal(session_told(0), 0);
  assert_int_equal(session_told(1), 0);
  assert_int_not_equal(session_told(2), session_told(0));
  assert_int_equal(session_told(3), session_told(0));
}

/* --- hints ---------------------------------------------------------------------------------------------------- */

static neap__http *open_http(bench *b) {
  neap__http_config config = {.engine = b->engine, .server = b->server, .host = "127.0.0.1", .instance_id = "test"};
  neap__http *http = NULL;
  neap_error err = {""};
  if (neap__http_open(&config, &http, &err) != 0) fail_msg("%s", err.text);
  return http;
}

/* Posts hints; the status must be this one, and the answer must contain text. */
static void post(neap__http *http, const char *body, int status, const char *text) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)neap__http_port(http)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  char frame[2048], answer[2048] = "";
  size_t got = 0;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct timeval wait = {.tv_sec = 20};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
  assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
  int n = snprintf(frame, sizeof(frame),
                   "POST /policy/hints HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
                   strlen(body), body);
  assert_int_equal(send(fd, frame, (size_t)n, MSG_NOSIGNAL), n);
  for (ssize_t more; (more = recv(fd, answer + got, sizeof(answer) - 1 - got, 0)) > 0;) got += (size_t)more;
  close(fd);
  n = snprintf(frame, sizeof(frame), "HTTP/1.1 %d ", status);
  if (strncmp(answer, frame, (size_t)n) != 0) fail_msg("%s\nis not '%s'", answer, frame);
  if (!strstr(answer, text)) fail_msg("%s\nhas no '%s'", answer, text);
}

static void hints_name_chunks_by_hash_or_by_tokens(void **state) {
  bench *b = *state;
  neap__http *http = open_http(b);
  rule(b);
  post(http,
       "{\"hints\":[{\"hash\":\"0100000002000000ff\",\"score\":0.5,\"within_ms\":40},"
       "{\"token_ids\":[1,2,3,4,5,6,7,8,9],\"score\":1}]}",
       202, "{\"chunks\":3}");
  const uint32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8};
  uint8_t hashes[2][NEAP_HASH_BYTES];
  uint32_t word;
  neap__chain(neap__chain_seed(), tokens, CHUNK, 2, hashes);
  assert_int_equal(heard.hints, 3);
  assert_int_equal(heard.hint[0].h1, 1);
  assert_int_equal(heard.hint[0].h2, 2);
  assert_true(heard.hint[0].score == 0.5f && heard.hint[1].score == 1);
  assert_int_equal(heard.hint[0].within_ms, 40);
  for (uint32_t i = 0; i < 2; i++) {
    memcpy(&word, hashes[i], sizeof(word));
    assert_int_equal(heard.hint[1 + i].h1, word);
  }
  neap__http_close(http);
}

static void hints_that_make_no_sense_are_refused_by_name(void **state) {
  bench *b = *state;
  neap__http *http = open_http(b);
  post(http, "{\"hints\":[]}", 409, "policy LRU takes no hints");
  rule(b);
  static const struct {
    const char *body, *text;
  } wrong[] = {
      {"{}", "Field required"},
      {"{\"hints\":3}", "Input should be a valid list"},
      {"{\"hints\":[7]}", "Input should be an object with 'hash' or 'token_ids'"},
      {"{\"hints\":[{\"hash\":\"00\",\"token_ids\":[],\"score\":0}]}", "with 'hash' or 'token_ids'"},
      {"{\"hints\":[{\"hash\":\"000000000000000\",\"score\":0}]}", "16 or more hexadecimal digits"},
      {"{\"hints\":[{\"hash\":\"000000000000000g\",\"score\":0}]}", "16 or more hexadecimal digits"},
      {"{\"hints\":[{\"hash\":\"0000000000000000\"}]}", "Field required"},
      {"{\"hints\":[{\"hash\":\"0000000000000000\",\"score\":1.1}]}", "Input should be a number from 0 to 1"},
      {"{\"hints\":[{\"hash\":\"0000000000000000\",\"score\":1,\"within_ms\":-1}]}", "from 0 to 4294967295"},
      {"{\"hints\":[{\"token_ids\":7,\"score\":1}]}", "Input should be a valid list"},
      {"{\"hints\":[{\"token_ids\":[1,1.5],\"score\":1}]}", "from 0 to 4294967295"},
  };
  for (size_t i = 0; i < NEAP_ARRAY_LEN(wrong); i++) post(http, wrong[i].body, 422, wrong[i].text);
  assert_int_equal(heard.hints, 0);
  neap__http_close(http);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, bench_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_request_begins_misses_and_inserts_tail_first),
      TEST(a_longer_prompt_uses_what_was_there_and_inserts_the_rest),
      TEST(a_prompt_that_is_stored_in_pieces_is_told_again_at_its_end),
      TEST(a_request_tells_the_session_that_its_client_names),
      TEST(hints_name_chunks_by_hash_or_by_tokens),
      TEST(hints_that_make_no_sense_are_refused_by_name),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
