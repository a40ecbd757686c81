/* SPDX-License-Identifier: MIT
 *
 * test_http.c - the HTTP API in one process with a real engine, wire server and L2 store, over loopback on any free
 * port. Recorded answers of LMCache (tests/data/http) say which statuses and members are expected. */
#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#include "chunk/tokens.h"
#include "flags.h"
#include "serve/http.h"
#include "serve/writer.h"
#include "server_config.h"

/* libzmq is not built with ThreadSanitizer, which then takes its atomics for races. */
#if defined(__SANITIZE_THREAD__)
NEAP_EXPORT const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) { return "race:libzmq.so\n"; }
#endif

#define MODEL "demo/tiny-llama"
#define CHUNK 256u
#define OBJECT_BYTES 2048u

/* --- an empty store whose listing waits until it is told ---------------------------------------------------------- */

static struct {
  const neap_host *host;
  neap_op *_Atomic listing;
  atomic_bool broken;
} held;

static int held_open(const neap_adapter *adapter, const neap_host *host, const char *params, void **self,
                     neap_error *err) {
  (void)adapter, (void)params, (void)err;
  held.host = host;
  *self = &held;
  return 0;
}

static void held_miss(void *self, neap_op *op) {
  (void)self;
  for (uint32_t i = 0; i < op->count; i++) op->objects[i].result = NEAP_ENOENT;
  held.host->done(held.host->engine, op);
}

static void held_remove(void *self, neap_op *op) {
  (void)self;
  for (uint32_t i = 0; i < op->count; i++) op->objects[i].result = held.broken ? NEAP_EIO : NEAP_ENOENT;
  held.host->done(held.host->engine, op);
}

static void held_list(void *self, neap_op *op) {
  (void)self;
  held.listing = op;
}

static void held_close(void *self) { (void)self; }

static const neap_adapter held_adapter = {
    NEAP_ADAPTER_INIT("held", "1"), .open = held_open, .store = held_miss,  .lookup = held_miss, .load = held_miss,
    .remove = held_remove,          .list = held_list, .close = held_close,
};

static void await_listing(void) {
  for (int i = 0; i < 20000 && !held.listing; i++) usleep(1000);
  assert_non_null(held.listing);
}

static void let_listing_end(void) {
  neap_op *op = held.listing;
  held.listing = NULL;
  op->list_result = 0;
  held.host->done(held.host->engine, op);
}

/* --- the server under test ---------------------------------------------------------------------------------------- */

static struct {
  neap__flags *flags;
  neap__engine *engine;
  neap__server *server;
  neap__http *http;
  neap__running running;
  uint32_t space;
} t;

static char *show_config(void *ctx, uint32_t http_port) {
  (void)ctx;
  return neap__config_json(t.flags, &t.running, http_port);
}

/* What the worker of vLLM sends when it has loaded its model. */
static void register_worker(void) {
  char endpoint[64], answer[512];
  snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", neap__server_port(t.server));
  void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_DEALER);
  int wait_ms = 10000, none = 0;
  zmq_setsockopt(socket, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
  zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none);
  assert_int_equal(zmq_connect(socket, endpoint), 0);
  neap__writer w = {0};
  static const struct {
    const char *name;
    uint64_t value;
  } numbers[] = {{"instance_id", 416576130755288473u},
                 {"world_size", 1},
                 {"block_size", 128},
                 {"num_layers", 1},
                 {"hidden_dim_size", OBJECT_BYTES / CHUNK / 2}};
  neap__write_map(&w, 8);
  for (size_t i = 0; i < NEAP_ARRAY_LEN(numbers); i++) {
    neap__write_text(&w, numbers[i].name);
    neap__write_uint(&w, numbers[i].value);
  }
  neap__write_text(&w, "model_name");
  neap__write_text(&w, MODEL);
  neap__write_text(&w, "dtype_str");
  neap__write_text(&w, "bfloat16");
  neap__write_text(&w, "use_mla");
  neap__write_bool(&w, true);
  zmq_send(socket, "\x00", 1, ZMQ_SNDMORE);
  zmq_send(socket, "\x0e", 1, ZMQ_SNDMORE);
  zmq_send(socket, w.at, w.bytes, 0);
  assert_int_equal(zmq_recv(socket, answer, sizeof answer, 0), 1);
  neap__writer_free(&w);
  zmq_close(socket);
  zmq_ctx_term(context);
  assert_true(neap__server_find_space(t.server, MODEL, 1, &t.space));
}

static int open_server(void **state) {
  (void)state;
  static char plugins[4096];
  static char memory[] =
      "{\"type\":\"native_plugin\",\"module_path\":\"memory\",\"class_name\":\"InMemoryL2Adapter\","
      "\"adapter_params\":{\"max_size_gb\":0.01,\"mock_bandwidth_gb\":10}}";
  static char pool[64];
  snprintf(pool, sizeof pool, "http-%d", getpid());
  const char *build = getenv("NEAP_BUILD");
  snprintf(plugins, sizeof plugins, "%s/lib/neap/adapters", build ? build : "build");
  char *argv[] = {"server",
                  "--l1-size-gb",
                  "0.0625",
                  "--eviction-policy",
                  "LRU",
                  "--shm-name",
                  pool,
                  "--port",
                  "0",
                  "--http-port",
                  "0",
                  "--l2-adapter",
                  memory,
                  "--l2-adapter",
                  "{\"type\":\"held\"}",
                  "--l2-prefetch-policy",
                  "retain"};
  static char name[128];
  neap_error err = {""};
  bool help;
  neap__engine_config config;
  neap_adapter_register(&held_adapter);
  int rc = neap__flags_parse(NEAP_ARRAY_LEN(argv), argv, &t.flags, &help, &err);
  if (!rc) rc = neap__pool_name(pool, name, sizeof name, &err);
  if (!rc) neap__engine_config_fill(t.flags, name, NULL, plugins, &config);
  if (!rc) rc = neap__engine_open(&config, &t.engine, &err);
  neap__server_config server = {.engine = t.engine,
                                .host = "127.0.0.1",
                                .reap_timeout_s = 120,
                                .registration_grace_s = 3600,
                                .session_ttl_s = 600};
  if (!rc) rc = neap__server_open(&server, &t.server, &err);
  t.running = (neap__running){.engine = t.engine, .instance_id = "test"};
  neap__http_config http = {.engine = t.engine,
                            .server = t.server,
                            .host = "127.0.0.1",
                            .show_config = show_config,
                            .instance_id = "a\"b",
                            .metrics = true,
                            .read_ttl_s = 300,
                            .write_ttl_s = 600};
  if (!rc) rc = neap__http_open(&http, &t.http, &err);
  if (rc) print_error("%s\n", err.text);
  if (rc) return rc;
  await_listing(); /* recovery's */
  let_listing_end();
  register_worker();
  return 0;
}

static int close_server(void **state) {
  (void)state;
  neap__http_close(t.http);
  if (t.server) neap__server_close(t.server); /* setup may have failed */
  neap__engine_close(t.engine, false);
  neap__flags_free(t.flags);
  return 0;
}

/* --- a client ----------------------------------------------------------------------------------------------------- */

typedef struct answer {
  int status;
  char type[64];
  char *text;
  cJSON *json;
} answer;

static int send_request(const char *method, const char *path, const char *body) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)neap__http_port(t.http)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
  struct timeval wait = {.tv_sec = 20};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  char head[1024];
  size_t body_bytes = body ? strlen(body) : 0;
  int n = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
                   method, path, body_bytes);
  assert_int_equal(send(fd, head, (size_t)n, MSG_NOSIGNAL), n);
  for (size_t at = 0; at < body_bytes;) {
    ssize_t sent = send(fd, body + at, body_bytes - at, MSG_NOSIGNAL);
    if (sent <= 0) break;
    at += (size_t)sent;
  }
  return fd;
}

static answer receive(int fd) {
  answer a = {0};
  size_t used = 0, cap = 1u << 20;
  char *text = malloc(cap);
  for (ssize_t n; used < cap - 1 && (n = recv(fd, text + used, cap - 1 - used, 0)) > 0;) used += (size_t)n;
  close(fd);
  text[used] = '\0';
  char *body = strstr(text, "\r\n\r\n"), *type = strstr(text, "Content-Type: ");
  assert_int_equal(sscanf(text, "HTTP/1.1 %d", &a.status), 1);
  assert_non_null(body);
  assert_non_null(type);
  snprintf(a.type, sizeof a.type, "%.*s", (int)strcspn(type + 14, "\r\n"), type + 14);
  a.text = strdup(body + 4);
  a.json = cJSON_Parse(a.text);
  free(text);
  return a;
}

static answer ask(const char *method, const char *path, const char *body) {
  return receive(send_request(method, path, body));
}

static void forget(answer *a) {
  free(a->text);
  cJSON_Delete(a->json);
}

static const cJSON *at(const cJSON *json, const char *name) { return cJSON_GetObjectItemCaseSensitive(json, name); }

static void expect(const char *method, const char *path, const char *body, int status, const char *text) {
  answer a = ask(method, path, body);
  if (a.status != status || !strstr(a.text, text)) print_error("%s %s: %d %s\n", method, path, a.status, a.text);
  assert_int_equal(a.status, status);
  assert_non_null(strstr(a.text, text));
  forget(&a);
}

/* --- objects ------------------------------------------------------------------------------------------------------ */

/* Chunks of the prompt first, first + 1, ... */
static void chunk_keys(uint32_t first, uint32_t chunks, neap__key *keys) {
  uint32_t *tokens = calloc(chunks * CHUNK, sizeof *tokens);
  uint8_t(*hashes)[NEAP_HASH_BYTES] = calloc(chunks, sizeof *hashes);
  for (uint32_t i = 0; i < chunks * CHUNK; i++) tokens[i] = first + i;
  neap__chain(neap__chain_seed(), tokens, CHUNK, chunks, hashes);
  for (uint32_t i = 0; i < chunks; i++) {
    keys[i] = (neap__key){.space = t.space, .rank = neap__rank(1, 0)};
    memcpy(keys[i].hash, hashes[i], sizeof keys[i].hash);
  }
  free(tokens);
  free(hashes);
}

static void store(uint32_t first, uint32_t chunks, neap__key *keys) {
  uint64_t bytes[8];
  neap__lease leases[8];
  int results[8];
  neap__owner owner = {.kind = NEAP_OWNER_LOCAL};
  chunk_keys(first, chunks, keys);
  for (uint32_t i = 0; i < chunks; i++) bytes[i] = OBJECT_BYTES;
  assert_int_equal(neap__evictor_reserve(t.engine->evictor, chunks, keys, bytes, 0, &owner, leases, results), 0);
  for (uint32_t i = 0; i < chunks; i++) {
    neap__view view;
    assert_int_equal(results[i], 0);
    assert_int_equal(neap__l1_view(t.engine->l1, leases[i], &view), 0);
    memset(view.data, (int)(first + i), OBJECT_BYTES);
    assert_int_equal(neap__l1_commit(t.engine->l1, leases[i], NULL, NULL, 0, NULL), 0);
  }
  neap__storer_offer(t.engine->storer, 0, chunks, keys, NULL);
  for (int i = 0; i < 20000; i++) {
    neap__storer_stats stats;
    neap__storer_stats_get(t.engine->storer, &stats);
    if (!stats.pending_objects) return;
    usleep(1000);
  }
  fail_msg("the store did not end in 20 s");
}

static void hex_of(const neap__key *key, char *hex) {
  for (size_t i = 0; i < NEAP_HASH_BYTES; i++) snprintf(hex + 2 * i, 3, "%02x", key->hash[i]);
}

static char *deletion(const neap__key *keys, uint32_t count, const char *rest) {
  char *text = malloc(4096);
  size_t n = (size_t)snprintf(text, 4096, "{\"keys\":[");
  for (uint32_t i = 0; i < count; i++) {
    char hex[2 * NEAP_HASH_BYTES + 1];
    hex_of(&keys[i], hex);
    n += (size_t)snprintf(text + n, 4096 - n,
                          "%s{\"chunk_hash_hex\":\"%s\",\"model_name\":\"" MODEL "\",\"kv_rank\":%u}", i ? "," : "",
                          hex, keys[i].rank);
  }
  snprintf(text + n, 4096 - n, "]%s}", rest);
  return text;
}

/* A prefetch of the tokens first, first + 1, ... */
static char *prefetch(uint32_t first, uint32_t tokens) {
  size_t cap = 16384, n = 0;
  char *text = malloc(cap);
  n += (size_t)snprintf(text, cap, "{\"model_name\":\"" MODEL "\",\"world_size\":1,\"token_ids\":[");
  for (uint32_t i = 0; i < tokens; i++) n += (size_t)snprintf(text + n, cap - n, "%s%u", i ? "," : "", first + i);
  snprintf(text + n, cap - n, "]}");
  return text;
}

/* --- shapes ------------------------------------------------------------------------------------------------------- */

/* Members whose names are data, or depend on the adapter: only what they must have is compared, elsewhere. */
static bool has_own_names(const char *name) {
  static const char *const names[] = {"non_cuda_context_meta", "users", "l2_adapters", "adapters", "extra_config",
                                      "event_sink_config",     "input"};
  for (size_t i = 0; name && i < NEAP_ARRAY_LEN(names); i++)
    if (strcmp(names[i], name) == 0) return true;
  return false;
}

static int kind(const cJSON *json) { return cJSON_IsBool(json) ? cJSON_True : json->type & 0xff; }

static void same_shape(const cJSON *theirs, const cJSON *ours, const char *where) {
  char path[512];
  const cJSON *member;
  if (cJSON_IsNull(theirs) || cJSON_IsNull(ours)) return;
  if (kind(theirs) != kind(ours)) fail_msg("%s: another type", where);
  if (cJSON_IsArray(theirs) && cJSON_GetArraySize(theirs) && cJSON_GetArraySize(ours))
    same_shape(cJSON_GetArrayItem(theirs, 0), cJSON_GetArrayItem(ours, 0), where);
  if (!cJSON_IsObject(theirs)) return;
  cJSON_ArrayForEach(member, theirs) {
    snprintf(path, sizeof path, "%s.%s", where, member->string);
    if (!at(ours, member->string)) fail_msg("%s is missing", path);
    if (!has_own_names(member->string)) same_shape(member, at(ours, member->string), path);
  }
  cJSON_ArrayForEach(member, ours) if (!at(theirs, member->string) && strcmp(member->string, "neap") != 0)
      fail_msg("%s.%s is not in LMCache's answer", where, member->string);
}

static cJSON *recorded(const char *name) {
  char path[256];
  snprintf(path, sizeof path, "tests/data/http/%s.json", name);
  FILE *file = fopen(path, "r");
  if (!file) fail_msg("cannot open %s", path);
  char *text = calloc(1, 1u << 20);
  assert_true(fread(text, 1, (1u << 20) - 1, file) > 0);
  fclose(file);
  cJSON *json = cJSON_Parse(text);
  assert_non_null(json);
  free(text);
  return json;
}

/* Sends a recorded request and compares. Its token list was abridged to "<600 ints: 5,6,...,604>". path NULL: as
 * recorded. Returns the answer. */
static answer replay(const char *name, const char *path) {
  cJSON *file = recorded(name), *body = cJSON_DetachItemFromObject(cJSON_GetObjectItem(file, "request"), "body");
  const cJSON *request = at(file, "request");
  if (cJSON_IsString(at(body, "token_ids"))) {
    char *ids = prefetch(5, 600);
    cJSON *order = cJSON_Parse(ids);
    cJSON_ReplaceItemInObject(body, "token_ids", cJSON_DetachItemFromObject(order, "token_ids"));
    cJSON_Delete(order);
    free(ids);
  }
  char *text = body ? cJSON_PrintUnformatted(body) : NULL;
  answer a = ask(at(request, "method")->valuestring, path ? path : at(request, "path")->valuestring, text);
  if (a.status != at(file, "status")->valueint) print_error("%s: %d %s\n", name, a.status, a.text);
  assert_int_equal(a.status, at(file, "status")->valueint);
  assert_string_equal(a.type, at(file, "content_type")->valuestring);
  if (strcmp(a.type, "application/json") == 0) {
    assert_non_null(a.json);
    same_shape(at(file, "response"), a.json, name);
  }
  free(text);
  cJSON_Delete(body);
  cJSON_Delete(file);
  return a;
}

static void answers_recorded_requests_with_the_recorded_status_and_members(void **state) {
  (void)state;
  static const char *const names[] = {
      "root",
      "healthcheck",
      "status",
      "config",
      "config_adapters",
      "version",
      "lmc_version",
      "commit_id",
      "notfound",
      "loglevel_list",
      "loglevel_one",
      "loglevel_set",
      "run_script_disabled",
      "checksums_engine_driven",
      "clear_default",
      "clear_force",
      "clear_bad_tier",
      "cache_objects_l1",
      "cache_objects_adapter404",
      "cache_objects_bad_page",
      "delete_objects_422",
      "delete_objects_bad_hex",
      "delete_objects_l1",
      "delete_objects_l1_again",
      "delete_objects_l2",
      "delete_objects_all",
      "quota_list",
      "quota_put",
      "quota_put_bad",
      "quota_get",
      "quota_list2",
      "quota_delete",
      "quota_delete_absent",
      "quota_get_absent",
      "quota_get_default",
      "prefetch_noop",
      "prefetch_unknown_model",
      "prefetch_bad_salt",
      "prefetch_status_again_404",
  };
  for (size_t i = 0; i < NEAP_ARRAY_LEN(names); i++) {
    answer a = replay(names[i], NULL);
    forget(&a);
  }
}

static void shows_a_registered_worker_to_the_digit(void **state) {
  (void)state;
  answer a = ask("GET", "/status", NULL);
  const cJSON *meta = at(at(a.json, "non_cuda_context_meta"), "416576130755288473");
  assert_non_null(strstr(a.text, "\"registered_non_cuda_instance_ids\":[416576130755288473]"));
  assert_string_equal(at(meta, "model_name")->valuestring, MODEL);
  assert_int_equal(at(meta, "block_size")->valueint, 128);
  assert_true(cJSON_IsTrue(at(meta, "use_mla")));
  forget(&a);
}

/* --- routing ------------------------------------------------------------------------------------------------------ */

static void tells_an_unknown_path_from_a_wrong_method(void **state) {
  (void)state;
  expect("GET", "/nope", NULL, 404, "Not Found");
  expect("GET", "/env", NULL, 404, "Not Found");
  expect("GET", "/quota/", NULL, 404, "Not Found");
  expect("GET", "/status/", NULL, 404, "Not Found");
  expect("GET", "/cache/clear", NULL, 405, "Method Not Allowed");
  expect("POST", "/status", "{}", 405, "Method Not Allowed");
  expect("DELETE", "/quota", NULL, 405, "Method Not Allowed");
}

static void refuses_bodies_that_are_too_large_or_not_an_object(void **state) {
  (void)state;
  char *large = malloc((8u << 20) + 2);
  memset(large, ' ', (8u << 20) + 1);
  large[(8u << 20) + 1] = '\0';
  expect("POST", "/cache/clear", large, 413, "larger than 8388608 bytes");
  free(large);
  expect("POST", "/cache/clear", "{\"tier\":", 422, "json_invalid");
  expect("POST", "/cache/clear", "{} x", 422, "json_invalid");
  expect("POST", "/cache/clear", "[]", 422, "valid dictionary");
  expect("POST", "/cache/clear", "{\"force\":1}", 422, "valid boolean");
  expect("PUT", "/quota/a", "{}", 422, "Field required");
  expect("PUT", "/quota/a", "{\"limit_gb\":1e999}", 400, "finite");
  expect("PUT", "/quota/a@b", "{\"limit_gb\":1}", 400, "error");
  expect("GET", "/cache/objects?page_token=x", NULL, 400, "page_token 'x' is not valid");
  expect("GET", "/cache/objects?page_size=1x", NULL, 422, "int_parsing");
  expect("GET", "/loglevel?logger_name=neap&level=LOUD", NULL, 400, "expected DEBUG");
  expect("POST", "/cache/prefetches", "{\"model_name\":\"m\",\"world_size\":1,\"token_ids\":[-1]}", 422, "token_ids");
}

/* --- what the routes do ------------------------------------------------------------------------------------------- */

static void deletes_from_the_tier_that_was_named(void **state) {
  (void)state;
  neap__key keys[3];
  neap__lease leases[3];
  neap__owner owner = {.kind = NEAP_OWNER_LOCAL};
  bool present[3];
  store(1000, 3, keys);
  assert_int_equal(neap__l1_acquire(t.engine->l1, 1, keys, &owner, 1, false, leases), 1);
  char *body = deletion(keys, 3, ",\"tier\":\"l1\"");
  expect("DELETE", "/cache/objects", body, 200, "{\"deleted\":2,\"skipped\":1,\"ok\":true}");
  free(body);
  body = deletion(keys, 3, ",\"tier\":\"l1\",\"force\":true");
  expect("DELETE", "/cache/objects", body, 200, "{\"deleted\":1,\"skipped\":0,\"ok\":true}");
  free(body);
  neap__l1_contains(t.engine->l1, 3, keys, present);
  assert_false(present[0] || present[1] || present[2]);
  neap__l1_release(t.engine->l1, leases[0], 1);
  expect("GET", "/cache/objects?adapter=native_plugin", NULL, 200, "\"size_bytes\":2048");
  body = deletion(keys, 3, ",\"adapter\":\"native_plugin\"");
  expect("DELETE", "/cache/objects", body, 200, "{\"deleted\":3,\"skipped\":0,\"ok\":true}");
  free(body);
  expect("GET", "/cache/objects?adapter=native_plugin", NULL, 200, "\"entries\":[]");
}

static void says_which_store_could_not_delete(void **state) {
  (void)state;
  neap__key keys[1];
  chunk_keys(2000, 1, keys);
  char *body = deletion(keys, 1, "");
  held.broken = true;
  expect("DELETE", "/cache/objects", body, 200,
         "{\"deleted\":1,\"skipped\":0,\"ok\":false,\"error\":\"L2 adapter 'held': input/output error\"}");
  held.broken = false;
  free(body);
}

static void lists_every_object_once_over_pages(void **state) {
  (void)state;
  neap__key keys[5];
  char token[2048] = "", seen[5][65], path[4096];
  uint32_t count = 0, pages = 0;
  store(3000, 5, keys);
  do {
    snprintf(path, sizeof path, "/cache/objects?page_size=2&model_name=" MODEL "%s%s", *token ? "&page_token=" : "",
             token);
    answer a = ask("GET", path, NULL);
    assert_int_equal(a.status, 200);
    const cJSON *entry, *next = at(a.json, "next_page_token");
    cJSON_ArrayForEach(entry, at(a.json, "entries")) {
      assert_true(count < 5);
      snprintf(seen[count++], 65, "%s", at(at(entry, "key"), "chunk_hash_hex")->valuestring);
    }
    snprintf(token, sizeof token, "%s", cJSON_IsString(next) ? next->valuestring : "");
    forget(&a);
    pages++;
  } while (*token && pages < 10);
  assert_int_equal(pages, 3);
  assert_int_equal(count, 5);
  for (uint32_t i = 0; i < 5; i++) {
    char hex[65];
    uint32_t found = 0;
    hex_of(&keys[i], hex);
    for (uint32_t j = 0; j < 5; j++) found += strcmp(hex, seen[j]) == 0;
    assert_int_equal(found, 1);
  }
  expect("GET", "/cache/objects?model_name=other", NULL, 200, "\"entries\":[]");
}

static void answers_others_while_a_listing_waits_for_its_store(void **state) {
  (void)state;
  int fd = send_request("GET", "/cache/objects?adapter=held", NULL);
  await_listing();
  expect("GET", "/healthcheck", NULL, 200, "healthy");
  let_listing_end();
  answer a = receive(fd);
  assert_int_equal(a.status, 200);
  assert_string_equal(at(a.json, "adapter")->valuestring, "held");
  forget(&a);
}

static void loads_a_prompt_from_l2_and_tells_its_result_once(void **state) {
  (void)state;
  neap__key keys[2];
  bool present[2];
  store(5, 2, keys);
  expect("POST", "/cache/clear", "{\"force\":true}", 200, "ok");
  neap__l1_contains(t.engine->l1, 2, keys, present);
  assert_false(present[0] || present[1]);
  answer submitted = replay("prefetch_submit", NULL);
  char path[128];
  snprintf(path, sizeof path, "/cache/prefetches/%s", at(submitted.json, "request_id")->valuestring);
  assert_int_equal(at(submitted.json, "chunks")->valueint, 2);
  forget(&submitted);
  answer a = {0};
  for (int i = 0; i < 20000 && !strstr(a.text ? a.text : "", "completed"); i++) {
    forget(&a);
    a = ask("GET", path, NULL);
  }
  cJSON *file = recorded("prefetch_status");
  same_shape(at(file, "response"), a.json, "prefetch_status");
  assert_int_equal(at(a.json, "found_keys")->valueint, 2);
  assert_int_equal(at(a.json, "total_keys")->valueint, 2);
  cJSON_Delete(file);
  forget(&a);
  expect("GET", path, NULL, 404, "already completed or never submitted");
  neap__l1_contains(t.engine->l1, 2, keys, present);
  assert_true(present[0] && present[1]);
}

static void keeps_a_quota_for_the_tenant_it_was_set_for(void **state) {
  (void)state;
  expect("PUT", "/quota/_default", "{\"limit_gb\":0.5}", 200, "\"limit_gb\":0.5,\"status\":\"ok\"");
  expect("GET", "/quota/_default", NULL, 200, "\"exists\":true");
  expect("GET", "/quota", NULL, 200, "{\"users\":{\"_default\":{\"limit_gb\":0.5,");
  expect("GET", "/quota/nobody", NULL, 200, "\"current_usage_gb\":0,\"exists\":false");
  expect("DELETE", "/quota/_default", NULL, 200, "removed");
  expect("DELETE", "/quota/_default", NULL, 200, "not_found");
}

static void sets_the_log_level_for_lmcache_names_too(void **state) {
  (void)state;
  neap_log_level before = neap__log_level();
  expect("GET", "/loglevel?logger_name=lmcache.v1&level=debug", NULL, 200, "Set lmcache.v1 level to DEBUG");
  assert_int_equal(neap__log_level(), NEAP_DEBUG);
  expect("GET", "/loglevel?logger_name=neap", NULL, 200, "neap: DEBUG");
  expect("GET", "/loglevel?logger_name=other", NULL, 404, "no logger 'other'");
  neap__log_set_level(before);
}

static void metrics_tell_what_is_true_now(void **state) {
  (void)state;
  neap__key keys[2];
  char line[128];
  store(9000, 2, keys);
  neap__l1_stats stats;
  neap__l1_stats_get(t.engine->l1, &stats);
  snprintf(line, sizeof line, "lmcache_mp_l1_memory_usage_bytes{backend=\"dram\",l1_tag=\"_default\"} %llu\n",
           (unsigned long long)stats.used_bytes);
  expect("GET", "/metrics", NULL, 200, line);
  expect("POST", "/cache/clear", NULL, 200, "ok");
  expect("GET", "/metrics", NULL, 200, "lmcache_mp_l1_memory_usage_bytes{backend=\"dram\",l1_tag=\"_default\"} 0\n");
  expect("GET", "/metrics", NULL, 200, "service_instance_id=\"a\\\"b\"");
  expect("GET", "/metrics", NULL, 200, "neap_instances 1\n");
  expect("GET", "/metrics", NULL, 200, "neap_l2_breaker_state{l2_name=\"held\",adapter_index=\"");
  expect("GET", "/status", NULL, 200, "\"neap\":{\"breaker\":\"closed\",\"store_paused\":false,\"queued\":");
}

static void says_why_a_port_cannot_be_had(void **state) {
  (void)state;
  neap_error err = {""};
  neap__http *other = NULL;
  neap__http_config config = {.host = "127.0.0.1", .port = neap__http_port(t.http)};
  assert_int_equal(neap__http_open(&config, &other, &err), NEAP_EBUSY);
  assert_non_null(strstr(err.text, "Address already in use"));
  neap_error second = {""};
  config.host = "no such host";
  assert_int_equal(neap__http_open(&config, &other, &second), NEAP_EINVAL);
  assert_non_null(strstr(second.text, "'no such host'"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(answers_recorded_requests_with_the_recorded_status_and_members),
      cmocka_unit_test(shows_a_registered_worker_to_the_digit),
      cmocka_unit_test(tells_an_unknown_path_from_a_wrong_method),
      cmocka_unit_test(refuses_bodies_that_are_too_large_or_not_an_object),
      cmocka_unit_test(deletes_from_the_tier_that_was_named),
      cmocka_unit_test(says_which_store_could_not_delete),
      cmocka_unit_test(lists_every_object_once_over_pages),
      cmocka_unit_test(answers_others_while_a_listing_waits_for_its_store),
      cmocka_unit_test(loads_a_prompt_from_l2_and_tells_its_result_once),
      cmocka_unit_test(keeps_a_quota_for_the_tenant_it_was_set_for),
      cmocka_unit_test(sets_the_log_level_for_lmcache_names_too),
      cmocka_unit_test(metrics_tell_what_is_true_now),
      cmocka_unit_test(says_why_a_port_cannot_be_had),
  };
  return cmocka_run_group_tests(tests, open_server, close_server);
}
