/* SPDX-License-Identifier: MIT
 *
 * Sessions among threads: evaluations, interrupts from elsewhere, closes in the middle, connections that come and go.
 * The tree's root is the working directory, or NEAP_SOURCE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "console/bind.h"
#include "console/server.h"
#include "console/token.h"

#define CLOSE_MS 20000u

static neap__engine *engine;
static char lua_dir[4096];

static int engine_up(void **state) {
  (void)state;
  const char *root = getenv("NEAP_SOURCE");
  neap__log_set_level(NEAP_WARNING); /* not a line for each lookup */
  snprintf(lua_dir, sizeof(lua_dir), "%s/lua", root ? root : ".");
  const neap__engine_config config = {.l1 = {.pool_bytes = 4u << 20, .align_bytes = 4096, .chunk_tokens = 4},
                                      .eviction_policy = "LRU",
                                      .watermark = 0.8,
                                      .ratio = 0.2,
                                      .lua_dir = lua_dir,
                                      .workers = 2};
  neap_error err = {0};
  if (neap__engine_open(&config, &engine, &err) != 0) fail_msg("%s", err.text);
  return 0;
}

static int engine_down(void **state) {
  (void)state;
  neap__engine_close(engine, false);
  return 0;
}

typedef struct session {
  neap__bind *bind;
  neap__console *console;
  atomic_uint written;
} session;

static void count_output(void *ctx, const char *text, size_t bytes) {
  (void)text;
  atomic_fetch_add(&((session *)ctx)->written, (unsigned)bytes);
}

static void session_open(session *s, neap__console_mode mode) {
  neap_error err = {0};
  *s = (session){0};
  assert_int_equal(neap__bind_open(engine, mode == NEAP_CONSOLE_GUARDED, NULL, &s->bind), 0);
  const neap__console_config config = {.mode = mode,
                                       .name = "test",
                                       .memory = 32u << 20,
                                       .time_ns = UINT64_C(60000000000),
                                       .bind = neap__bind_push,
                                       .bind_ctx = s->bind,
                                       .write = count_output,
                                       .write_ctx = s};
  if (neap__console_open(&config, &s->console, &err) != 0) fail_msg("%s", err.text);
}

static void session_close(session *s) {
  neap__console_interrupt(s->console);
  assert_true(neap__bind_shut(s->bind, CLOSE_MS));
  assert_true(neap__console_close(s->console, CLOSE_MS));
  neap__bind_free(s->bind);
}

/* The answer is the caller's to free. */
static char *evaluate(session *s, const char *text, neap__console_status status) {
  neap__console_call call = {.kind = NEAP_CONSOLE_EVAL, .text = text, .bytes = strlen(text), .name = "=test"};
  assert_int_equal(neap__console_wait(s->console, &call), 0);
  assert_non_null(call.answer);
  if (call.status != status) fail_msg("%s: status %d: %s", text, (int)call.status, call.answer);
  return call.answer;
}

static void expect(session *s, const char *text, neap__console_status status, const char *answer) {
  char *got = evaluate(s, text, status);
  assert_string_equal(got, answer);
  free(got);
}

static void values_errors_and_what_is_not_complete(void **state) {
  session s;
  (void)state;
  for (int mode = NEAP_CONSOLE_OPEN; mode <= NEAP_CONSOLE_GUARDED; mode++) {
    session_open(&s, (neap__console_mode)mode);
    expect(&s, "1 + 1", NEAP_CONSOLE_OK, "2");
    expect(&s, "x = 3", NEAP_CONSOLE_OK, "");
    expect(&s, "x, nil", NEAP_CONSOLE_OK, "3\nnil");
    expect(&s, "_", NEAP_CONSOLE_OK, "3");
    expect(&s, "error 'no'", NEAP_CONSOLE_FAILED, "test:1: no");
    expect(&s, "neap.sleep(0.001) return 'awaited'", NEAP_CONSOLE_OK, "\"awaited\"");
    free(evaluate(&s, "for i = 1, 2 do", NEAP_CONSOLE_INCOMPLETE));
    free(evaluate(&s, "coroutine.yield()", NEAP_CONSOLE_FAILED));
    expect(&s, "print('xyz')", NEAP_CONSOLE_OK, "");
    assert_int_equal(atomic_load(&s.written), 4);
    session_close(&s);
  }
}

static void expect_failure(session *s, const char *text, const char *part) {
  char *got = evaluate(s, text, NEAP_CONSOLE_FAILED);
  if (!strstr(got, part)) fail_msg("%s: %s", text, got);
  free(got);
}

static void what_is_guarded_holds(void **state) {
  session s;
  (void)state;
  session_open(&s, NEAP_CONSOLE_GUARDED);
  /* a `self` of the script's own making */
  expect_failure(&s,
                 "engine.define({ core = { tiers = function() return {} end, write_module = engine.core.write_module },"
                 " attach = print }, 'x', 'return 1')",
                 "a guarded session cannot write files");
  expect_failure(&s,
                 "engine.define({ core = { tiers = function() return {} end, scratch = function() return '/tmp' end },"
                 " attach = print }, 'x', 'return 1')",
                 "attempt to call field 'write_module'");
  /* the library's own tables, finalizers */
  expect(&s, "getmetatable(''), getmetatable(neap.buffer(1)), getmetatable(neap.semaphore(1))", NEAP_CONSOLE_OK,
         "false\nfalse\nfalse");
  expect(&s, "neap.buffer(1).__gc, neap.buffer(1).__index", NEAP_CONSOLE_OK, "nil\nnil");
  expect(&s, "#neap.buffer(7):fill(1):peek(0, 7)", NEAP_CONSOLE_OK, "7");
  /* memory that the guard does not count */
  expect_failure(&s, "local t = {} for i = 1, 30 do t = { t, t } end engine.json(t)", "more than 32 MiB as JSON");
  expect_failure(&s, "local x, t = ('x'):rep(1e6), {} for i = 1, 100 do t[i] = x end engine.json(t)",
                 "more than 32 MiB as JSON");
  /* our own coroutine, resumed while it waits */
  expect_failure(&s,
                 "local me = coroutine.running() "
                 "neap.all { function() coroutine.resume(me) end, function() neap.sleep(0.01) end }",
                 "a coroutine that awaits was resumed by the script");
  expect(&s, "1", NEAP_CONSOLE_OK, "1");
  session_close(&s);
}

typedef struct waiting {
  session *session;
  const char *text;
  neap__console_call call;
  int rc;
} waiting;

static void *wait_for(void *arg) {
  waiting *w = arg;
  w->call = (neap__console_call){.kind = NEAP_CONSOLE_EVAL, .text = w->text, .bytes = strlen(w->text), .name = "=test"};
  w->rc = neap__console_wait(w->session->console, &w->call);
  return NULL;
}

static void wait_written(session *s, unsigned bytes) {
  while (atomic_load(&s->written) < bytes) usleep(1000);
}

static void one_evaluation_at_a_time_and_any_thread_interrupts_it(void **state) {
  static const char *const texts[] = {"print(1) while true do end",
                                      "print(1) neap.sleep(3600)",
                                      "print(1) while true do pcall(function() while true do end end) end",
                                      "print(1) local function f() while true do end end xpcall(f, f)",
                                      "print(1) neap.all { function() neap.sleep(3600) end }",
                                      "print(1) for i = 1, 1e9 do pcall(neap.sleep, 1) end"};
  session s;
  (void)state;
  session_open(&s, NEAP_CONSOLE_GUARDED);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(texts); i++) {
    pthread_t thread;
    waiting w = {.session = &s, .text = texts[i]}, second = {.session = &s, .text = "1"};
    atomic_store(&s.written, 0);
    assert_int_equal(pthread_create(&thread, NULL, wait_for, &w), 0);
    wait_written(&s, 2);
    wait_for(&second);
    assert_int_equal(second.rc, NEAP_EBUSY);
    for (int n = 0; n < 3; n++) neap__console_interrupt(s.console);
    pthread_join(thread, NULL);
    assert_int_equal(w.rc, 0);
    assert_int_equal(w.call.status, NEAP_CONSOLE_FAILED);
    assert_non_null(strstr(w.call.answer, "interrupted"));
    free(w.call.answer);
    neap__console_interrupt(s.console); /* of nothing */
    expect(&s, "1", NEAP_CONSOLE_OK, "1");
  }
  session_close(&s);
}

static void *drive(void *arg) {
  static const char text[] =
      "local prompt = ('abcdefgh'):rep(%d) engine:store(prompt, 64) local hit = engine:lookup(prompt)\n"
      "engine:chunks() engine:status() engine:tenants() engine:tiers() engine:models()\n"
      "local buffers = engine:load(prompt) return hit.chunks";
  session *s = arg;
  char code[512];
  for (int i = 1; i <= 20; i++) {
    snprintf(code, sizeof(code), text, i);
    free(evaluate(s, code, NEAP_CONSOLE_OK));
  }
  return NULL;
}

static void sessions_drive_one_engine_in_parallel(void **state) {
  session s[3];
  pthread_t threads[3];
  (void)state;
  for (int i = 0; i < 3; i++) session_open(&s[i], i == 2 ? NEAP_CONSOLE_OPEN : NEAP_CONSOLE_GUARDED);
  for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, drive, &s[i]), 0);
  for (int i = 0; i < 3; i++) {
    pthread_join(threads[i], NULL);
    session_close(&s[i]);
  }
  neap_error err = {0};
  if (neap__l1_check(engine->l1, &err) != 0) fail_msg("%s", err.text);
  neap__l1_stats stats;
  neap__l1_stats_get(engine->l1, &stats);
  assert_int_equal(stats.leased, 0);
  assert_int_equal(stats.staged, 0);
}

static void a_session_is_closed_in_the_middle(void **state) {
  static const char *const texts[] = {"print(1) while true do end", "print(1) neap.sleep(3600)",
                                      "print(1) while true do engine:lookup(('x'):rep(64)) end"};
  (void)state;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(texts); i++) {
    session s;
    pthread_t thread;
    session_open(&s, NEAP_CONSOLE_GUARDED);
    free(evaluate(&s, "engine:store(('x'):rep(64), 64)", NEAP_CONSOLE_OK));
    waiting w = {.session = &s, .text = texts[i]};
    assert_int_equal(pthread_create(&thread, NULL, wait_for, &w), 0);
    wait_written(&s, 2);
    neap__console_interrupt(s.console);
    pthread_join(thread, NULL); /* who waits does so on a session that is still there */
    free(w.call.answer);
    session_close(&s);
  }
}

/* --- connections ----------------------------------------------------------------------------------------------------
 */

typedef struct client {
  struct sockaddr_un address;
  uint32_t wrong, refused;
} client;

static bool read_until(int fd, const char *text) {
  char in[4096];
  size_t used = 0;
  while (used < sizeof(in) - 1) {
    ssize_t n = recv(fd, in + used, sizeof(in) - 1 - used, 0);
    if (n <= 0) return false;
    used += (size_t)n;
    in[used] = '\0';
    if (strstr(in, text)) return true;
  }
  return false;
}

static void *come_and_go(void *arg) {
  static const char *const lines[] = {
      "{\"op\":\"eval\",\"text\":\"1 + 1\"}\n", "{\"op\":\"eval\",\"text\":\"while true do end\"}\n",
      "{\"op\":\"eval\",\"text\":\"neap.sleep(99)\"}\n{\"op\":\"interrupt\"}\n", "nonsense\n"};
  static const char *const answers[] = {"\"answer\":\"2\"", NULL, "interrupted", "expected a line of JSON"};
  client *c = arg;
  for (int i = 0; i < 12; i++) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c->wrong += connect(fd, (const struct sockaddr *)&c->address, sizeof(c->address)) != 0;
    const char *line = lines[i % 4], *answer = answers[i % 4];
    if (!read_until(fd, "\"protocol\":1")) {
      c->refused++;
    } else {
      c->wrong += send(fd, line, strlen(line), MSG_NOSIGNAL) != (ssize_t)strlen(line);
      c->wrong += answer && !read_until(fd, answer);
    }
    close(fd);
  }
  return NULL;
}

static void connections_come_and_go(void **state) {
  neap__console_server *server;
  client c[3] = {0};
  pthread_t threads[3];
  neap_error err = {0};
  (void)state;
  for (int i = 0; i < 3; i++) {
    c[i].address.sun_family = AF_UNIX;
    snprintf(c[i].address.sun_path, sizeof(c[i].address.sun_path), "/tmp/neap-test-console-%d", (int)getpid());
  }
  if (neap__console_server_open(engine, c[0].address.sun_path, &server, &err) != 0) fail_msg("%s", err.text);
  neap__console_server *another = NULL;
  assert_int_equal(neap__console_server_open(engine, c[0].address.sun_path, &another, &err), NEAP_EBUSY);
  for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &c[i]), 0);
  for (int i = 0; i < 3; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(c[i].wrong, 0);
  }
  int idle = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(connect(idle, (const struct sockaddr *)&c[0].address, sizeof(c[0].address)), 0);
  assert_true(neap__console_server_stop(server));
  neap__console_server_close(server);
  assert_int_equal(access(c[0].address.sun_path, F_OK), -1);
  close(idle);
}

static void a_socket_of_somebody_else_stays(void **state) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  neap__console_server *server = NULL;
  neap_error err = {0};
  (void)state;
  snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/neap-test-datagrams-%d", (int)getpid());
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
  assert_int_equal(neap__console_server_open(engine, address.sun_path, &server, &err), NEAP_EBUSY);
  assert_int_equal(access(address.sun_path, F_OK), 0);
  close(fd);
  if (neap__console_server_open(engine, address.sun_path, &server, &err) == 0) { /* nobody's any more */
    assert_true(neap__console_server_stop(server));
    neap__console_server_close(server);
  }
  assert_int_equal(unlink(address.sun_path) == 0 || errno == ENOENT, 1);
}

static void a_token_is_itself_only(void **state) {
  (void)state;
  assert_true(neap__console_token_is("0123456789abcdef", "0123456789abcdef"));
  assert_false(neap__console_token_is("0123456789abcdef", "0123456789abcdeg"));
  assert_false(neap__console_token_is("0123456789abcdef", "0123456789abcde"));
  assert_false(neap__console_token_is("0123456789abcdef", "0123456789abcdef0123456789abcdef"));
  assert_false(neap__console_token_is("0123456789abcdef", ""));
  assert_false(neap__console_token_is("0123456789abcdef", NULL));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values_errors_and_what_is_not_complete),
      cmocka_unit_test(what_is_guarded_holds),
      cmocka_unit_test(one_evaluation_at_a_time_and_any_thread_interrupts_it),
      cmocka_unit_test(sessions_drive_one_engine_in_parallel),
      cmocka_unit_test(a_session_is_closed_in_the_middle),
      cmocka_unit_test(connections_come_and_go),
      cmocka_unit_test(a_socket_of_somebody_else_stays),
      cmocka_unit_test(a_token_is_itself_only),
  };
  return cmocka_run_group_tests(tests, engine_up, engine_down);
}
