/* SPDX-License-Identifier: MIT
 *
 * script/http.c - see http.h.
 *
 *   request: easy handle -> multi -> uv_poll per socket, one uv_timer -> curl_multi_socket_action -> done or failed
 *            -> taken out of the multi -> wake -> results pushed -> freed
 *
 * libcurl calls back only from curl_multi_... functions, all of which are called here, on the loop's thread. Operating
 * errors are nil, a code that names the errno that fits best, and a sentence with method and URL. */
#include "script/http.h"

#include <curl/curl.h>
#include <lauxlib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/buffer.h"

#define TYPE "neap.http_client"
#define TEXT_MAX 65536u       /* bytes of a body that becomes a string */
#define HEADERS_MAX 65536u    /* bytes of a response's headers */
#define BUFFER_BYTES 524288L  /* libcurl's socket buffers: its largest */
#define CONNECT_MS_MAX 10000L /* of a request's time, for the connection */

/* Kept by the userdata and by each request; freed when the timer is closed. */
typedef struct client {
  CURLM *multi;
  CURL *model; /* has the options of the client; each request begins as a copy */
  uv_loop_t *loop;
  uv_timer_t timer;
  uint32_t refs;
} client;

typedef struct watcher {
  uv_poll_t poll;
  client *client;
  curl_socket_t fd;
} watcher;

typedef struct request {
  neap__await await;
  client *client;
  CURL *easy;
  struct curl_slist *headers;
  neap__mem *body_mem, *into_mem; /* of owned buffers */
  char *body_copy;                /* of a string */
  const char *body;
  uint64_t body_bytes, body_sent;
  char *into; /* NULL: the body becomes text */
  uint64_t into_bytes, bytes;
  char *text, *head;
  size_t text_bytes, head_bytes;
  bool idempotent, repeated;
  bool too_long, cut; /* the body did not fit; a failure's text was enough */
  CURLcode result;
  char what[320]; /* method and URL */
  char why[CURL_ERROR_SIZE];
} request;

static request *request_of(neap__await *await) { return (request *)((char *)await - offsetof(request, await)); }

/* --- the client on the loop ------------------------------------------------------------------------------------- */

static void client_closed(uv_handle_t *timer) { free(timer->data); }

static void client_drop(client *c) {
  if (!c || --c->refs > 0) return;
  curl_easy_cleanup(c->model);
  curl_multi_cleanup(c->multi);
  uv_close((uv_handle_t *)&c->timer, client_closed);
}

static void request_end(request *r, CURLcode result) {
  r->result = result;
  curl_multi_remove_handle(r->client->multi, r->easy);
  neap__coro_wake(&r->await);
}

/* True: the server closed a kept connection just when it was used again, and the request is on its way once more, over
 * a new one. libcurl does so itself as long as no body is being sent. */
static bool repeat(request *r, CURLcode result) {
  long connects = 1;
  bool reset = result == CURLE_SEND_ERROR || result == CURLE_RECV_ERROR || result == CURLE_GOT_NOTHING;
  curl_easy_getinfo(r->easy, CURLINFO_NUM_CONNECTS, &connects);
  if (!reset || connects > 0 || r->head_bytes > 0 || !r->idempotent || r->repeated) return false;
  r->repeated = true;
  r->body_sent = 0;
  curl_multi_remove_handle(r->client->multi, r->easy);
  curl_easy_setopt(r->easy, CURLOPT_FRESH_CONNECT, 1L);
  return curl_multi_add_handle(r->client->multi, r->easy) == CURLM_OK;
}

static void collect_ended(client *c) {
  CURLMsg *message;
  int left;
  while ((message = curl_multi_info_read(c->multi, &left))) {
    request *r;
    if (message->msg != CURLMSG_DONE) continue;
    CURLcode result = message->data.result; /* the message is gone when its handle is removed */
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &r);
    if (!repeat(r, result)) request_end(r, result);
  }
}

static void act(client *c, curl_socket_t fd, int events) {
  int running;
  curl_multi_socket_action(c->multi, fd, events, &running);
  collect_ended(c);
}

static void on_timer(uv_timer_t *timer) { act(timer->data, CURL_SOCKET_TIMEOUT, 0); }

static void on_poll(uv_poll_t *poll, int status, int events) {
  watcher *w = poll->data;
  int flags = status < 0 ? CURL_CSELECT_ERR : 0;
  if (events & UV_READABLE) flags |= CURL_CSELECT_IN;
  if (events & UV_WRITABLE) flags |= CURL_CSELECT_OUT;
  act(w->client, w->fd, flags);
}

static int set_timer(CURLM *multi, long ms, void *arg) {
  client *c = arg;
  (void)multi;
  uv_update_time(c->loop); /* scripts may have kept the loop busy */
  if (ms < 0) return uv_timer_stop(&c->timer);
  return uv_timer_start(&c->timer, on_timer, (uint64_t)ms, 0);
}

static void watcher_closed(uv_handle_t *poll) { free(poll->data); }

static watcher *watcher_new(client *c, curl_socket_t fd) {
  watcher *w = calloc(1, sizeof(*w));
  if (!w) return NULL;
  if (uv_poll_init_socket(c->loop, &w->poll, fd) != 0) {
    free(w);
    return NULL;
  }
  w->poll.data = w;
  w->client = c;
  w->fd = fd;
  curl_multi_assign(c->multi, fd, w);
  return w;
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known) {
  watcher *w = known;
  (void)easy;
  if (what == CURL_POLL_REMOVE) {
    if (!w) return 0;
    curl_multi_assign(w->client->multi, fd, NULL);
    uv_close((uv_handle_t *)&w->poll, watcher_closed);
    return 0;
  }
  if (!w) w = watcher_new(arg, fd);
  if (!w) return -1;
  int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
  return uv_poll_start(&w->poll, events, on_poll) == 0 ? 0 : -1;
}

/* --- what libcurl asks of a request ----------------------------------------------------------------------------- */

static size_t on_read(char *to, size_t size, size_t count, void *arg) {
  request *r = arg;
  size_t n = (size_t)NEAP_MIN((uint64_t)(size * count), r->body_bytes - r->body_sent);
  if (n > 0) memcpy(to, r->body + r->body_sent, n);
  r->body_sent += n;
  return n;
}

/* A connection that had been closed by the other side, and redirects: the body once more. */
static int on_seek(void *arg, curl_off_t offset, int origin) {
  request *r = arg;
  if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > r->body_bytes) return CURL_SEEKFUNC_CANTSEEK;
  r->body_sent = (uint64_t)offset;
  return CURL_SEEKFUNC_OK;
}

static size_t keep(char **text, size_t *used, size_t max, const char *more, size_t n) {
  size_t fits = NEAP_MIN(n, max - *used);
  char *grown = realloc(*text, *used + fits + 1);
  if (!grown) return 0;
  memcpy(grown + *used, more, fits);
  *text = grown;
  *used += fits;
  return fits;
}

/* The body of a success goes where it is wanted; that of a failure is text for the log, and enough is enough. */
static size_t on_write(char *from, size_t size, size_t count, void *arg) {
  request *r = arg;
  size_t n = size * count;
  long status = 0;
  curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
  bool success = status >= 200 && status < 300;
  if (success && r->into) {
    r->too_long = n > r->into_bytes - r->bytes;
    if (r->too_long) return 0;
    memcpy(r->into + r->bytes, from, n);
    r->bytes += n;
    return n;
  }
  size_t kept = keep(&r->text, &r->text_bytes, TEXT_MAX, from, n);
  r->bytes += kept;
  if (kept == n) return n;
  r->too_long = success && r->text_bytes == TEXT_MAX;
  r->cut = !success && r->text_bytes == TEXT_MAX;
  return 0;
}

static size_t on_header(char *from, size_t size, size_t count, void *arg) {
  request *r = arg;
  size_t n = size * count;
  if (n >= 5 && memcmp(from, "HTTP/", 5) == 0) { /* of another response: a redirect, a 100 */
    r->head_bytes = 0;
    r->text_bytes = 0;
    r->bytes = 0;
  }
  return keep(&r->head, &r->head_bytes, HEADERS_MAX, from, n);
}

/* --- results ---------------------------------------------------------------------------------------------------- */

static const char *code_name(const request *r) {
  if (r->too_long) return "EMSGSIZE";
  switch (r->result) {
    case CURLE_URL_MALFORMAT: return "EINVAL";
    case CURLE_OUT_OF_MEMORY: return "ENOMEM";
    case CURLE_OPERATION_TIMEDOUT: return "ETIMEDOUT";
    case CURLE_COULDNT_RESOLVE_HOST: return "EAI_NONAME";
    case CURLE_COULDNT_CONNECT: return "ECONNREFUSED";
    case CURLE_TOO_MANY_REDIRECTS: return "ELOOP";
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR: return "ECONNRESET";
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION: return "EPROTO";
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM: return "EACCES";
    default: return "EIO";
  }
}

static int push_failure(lua_State *L, const char *code, const char *what, const char *why) {
  lua_pushnil(L);
  lua_pushstring(L, code);
  lua_pushfstring(L, "%s: %s", what, why);
  return 3;
}

/* One "Name: value" into the table on top; repeated names are joined. */
static void push_header(lua_State *L, char *line, size_t n) {
  char *colon = memchr(line, ':', n);
  if (!colon) return;
  size_t name = (size_t)(colon - line);
  for (size_t i = 0; i < name; i++) line[i] = (char)(line[i] >= 'A' && line[i] <= 'Z' ? line[i] + 32 : line[i]);
  char *value = colon + 1, *end = line + n;
  while (value < end && (*value == ' ' || *value == '\t')) value++;
  while (end > value && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r')) end--;
  lua_pushlstring(L, line, name);
  lua_pushvalue(L, -1);
  lua_rawget(L, -3);
  bool again = !lua_isnil(L, -1);
  if (again) lua_pushliteral(L, ", ");
  lua_pushlstring(L, value, (size_t)(end - value));
  if (again) lua_concat(L, 3);
  if (!again) lua_remove(L, -2);
  lua_rawset(L, -3);
}

static void push_headers(lua_State *L, request *r) {
  lua_newtable(L);
  for (size_t at = 0; at < r->head_bytes;) {
    char *line = r->head + at, *newline = memchr(line, '\n', r->head_bytes - at);
    size_t n = newline ? (size_t)(newline - line) : r->head_bytes - at;
    if (at > 0) push_header(L, line, n);
    at += n + 1;
  }
}

static int request_push(lua_State *L, neap__await *await) {
  request *r = request_of(await);
  if (r->too_long) return push_failure(L, code_name(r), r->what, "the response is longer than what it is read into");
  if (r->result != CURLE_OK && !(r->cut && r->result == CURLE_WRITE_ERROR)) {
    return push_failure(L, code_name(r), r->what, r->why[0] ? r->why : curl_easy_strerror(r->result));
  }
  long status = 0;
  curl_off_t length = -1;
  curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
  curl_easy_getinfo(r->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
  lua_createtable(L, 0, 5);
  lua_pushinteger(L, (lua_Integer)status);
  lua_setfield(L, -2, "status");
  lua_pushnumber(L, (double)r->bytes);
  lua_setfield(L, -2, "bytes");
  if (length >= 0) {
    lua_pushnumber(L, (double)length);
    lua_setfield(L, -2, "length");
  }
  if (!r->into || r->text_bytes > 0) {
    lua_pushlstring(L, r->text ? r->text : "", r->text_bytes);
    lua_setfield(L, -2, "text");
  }
  push_headers(L, r);
  lua_setfield(L, -2, "headers");
  return 1;
}

static void request_release(neap__await *await) {
  request *r = request_of(await);
  curl_easy_cleanup(r->easy);
  curl_slist_free_all(r->headers);
  neap__mem_drop(r->body_mem);
  neap__mem_drop(r->into_mem);
  client_drop(r->client);
  free(r->body_copy);
  free(r->text);
  free(r->head);
  free(r);
}

/* Never below a callback of libcurl. An ended request is out of the multi already, and its coroutine is queued. */
static void request_cancel(neap__await *await) { request_end(request_of(await), CURLE_ABORTED_BY_CALLBACK); }

/* --- functions of neap.core ------------------------------------------------------------------------------------- */

static client *check_client(lua_State *L) {
  client **at = luaL_checkudata(L, 1, TYPE);
  if (!*at) luaL_error(L, "http client is closed");
  return *at;
}

static int l_collect(lua_State *L) {
  client **at = luaL_checkudata(L, 1, TYPE);
  client_drop(*at);
  *at = NULL;
  return 0;
}

static void set_text(lua_State *L, CURL *easy, const char *field, CURLoption option) {
  lua_getfield(L, 1, field);
  if (lua_type(L, -1) == LUA_TSTRING) curl_easy_setopt(easy, option, lua_tostring(L, -1));
  lua_pop(L, 1);
}

static long number_of(lua_State *L, const char *field) {
  lua_getfield(L, 1, field);
  long value = (long)lua_tonumber(L, -1);
  lua_pop(L, 1);
  return value;
}

/* Options that all requests share; the table at index 1 was checked by neap/http.lua. */
static void set_options(lua_State *L, CURL *easy) {
  static const struct {
    const char *field;
    CURLoption option;
  } texts[] = {{"user", CURLOPT_USERNAME}, {"password", CURLOPT_PASSWORD}, {"unix", CURLOPT_UNIX_SOCKET_PATH},
               {"tls_ca", CURLOPT_CAINFO}, {"tls_cert", CURLOPT_SSLCERT},  {"tls_key", CURLOPT_SSLKEY},
               {"proxy", CURLOPT_PROXY}};
  curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* none, whatever the environment says */
  for (size_t i = 0; i < NEAP_ARRAY_LEN(texts); i++) set_text(L, easy, texts[i].field, texts[i].option);
  lua_getfield(L, 1, "tls_insecure");
  if (lua_toboolean(L, -1)) {
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  lua_pop(L, 1);
  long redirects = number_of(L, "redirects");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, redirects > 0 ? 1L : 0L);
  curl_easy_setopt(easy, CURLOPT_MAXREDIRS, redirects);
  curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
  curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
  curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
  curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
  curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
}

static void init_library(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

static client *client_new(uv_loop_t *loop, long connections) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, init_library);
  client *c = calloc(1, sizeof(*c));
  CURLM *multi = curl_multi_init();
  CURL *model = curl_easy_init();
  if (!c || !multi || !model) {
    free(c);
    curl_multi_cleanup(multi);
    curl_easy_cleanup(model);
    return NULL;
  }
  *c = (client){.multi = multi, .model = model, .loop = loop, .refs = 1};
  uv_timer_init(loop, &c->timer);
  c->timer.data = c;
  curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
  curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, c);
  curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
  curl_multi_setopt(multi, CURLMOPT_TIMERDATA, c);
  curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections);
  curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, connections);
  return c;
}

/* core.http_client(options) */
static int l_client(lua_State *L) {
  neap__vm *vm = neap__vm_of(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  if (!vm->current) return luaL_error(L, "neap.http.client: can only be called from a hook");
  long connections = number_of(L, "connections");
  client **at = lua_newuserdata(L, sizeof(client *));
  *at = NULL;
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
  *at = client_new(neap__loop_uv(vm->loop), connections);
  if (!*at) return luaL_error(L, "neap.http.client: out of memory");
  set_options(L, (*at)->model);
  return 1;
}

static bool set_headers(lua_State *L, request *r, int index) {
  size_t count = lua_objlen(L, index);
  for (size_t i = 1; i <= count; i++) {
    lua_rawgeti(L, index, (int)i);
    struct curl_slist *more = curl_slist_append(r->headers, lua_tostring(L, -1));
    lua_pop(L, 1);
    if (!more) return false;
    r->headers = more;
  }
  return true;
}

/* The per-request options; index 2 method, 3 URL, 4 headers, 5 milliseconds. */
static bool set_request(lua_State *L, request *r) {
  const char *method = lua_tostring(L, 2);
  long ms = (long)lua_tonumber(L, 5);
  CURL *easy = r->easy;
  r->idempotent = strcmp(method, "POST") != 0 && strcmp(method, "PATCH") != 0;
  if (!set_headers(L, r, 4)) return false;
  if (curl_easy_setopt(easy, CURLOPT_URL, lua_tostring(L, 3)) != CURLE_OK) return false;
  if (strcmp(method, "HEAD") == 0) {
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  } else if (r->body) {
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body_bytes);
  }
  if (strcmp(method, "HEAD") != 0 && curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method) != CURLE_OK) return false;
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, ms);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, NEAP_MIN(ms, CONNECT_MS_MAX));
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, r->headers);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, r->why);
  curl_easy_setopt(easy, CURLOPT_PRIVATE, r);
  curl_easy_setopt(easy, CURLOPT_READDATA, r);
  curl_easy_setopt(easy, CURLOPT_SEEKDATA, r);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, r);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, r);
  return true;
}

/* What the arguments name; checked before anything is held. */
typedef struct bodies {
  neap__buffer *from, *into;
  const char *text;
  size_t text_bytes;
  uint64_t from_offset, from_bytes, into_offset, into_bytes;
} bodies;

static bodies check_bodies(lua_State *L) {
  bodies b = {0};
  if (lua_type(L, 6) == LUA_TSTRING) {
    b.text = lua_tolstring(L, 6, &b.text_bytes);
  } else if (!lua_isnil(L, 6)) {
    b.from = neap__buffer_check(L, 6, false);
    neap__buffer_range(L, 7, b.from->bytes, &b.from_offset, &b.from_bytes);
  }
  if (!lua_isnil(L, 9)) {
    b.into = neap__buffer_check(L, 9, true);
    neap__buffer_range(L, 10, b.into->bytes, &b.into_offset, &b.into_bytes);
  }
  return b;
}

/* Another operation's lease raises; so those are asked first, while nothing is held. */
static void hold(lua_State *L, request *r, const bodies *b, neap__coro *coro) {
  if (b->into && !b->into->mem) neap__buffer_hold(L, b->into, coro);
  if (b->from) r->body_mem = neap__buffer_hold(L, b->from, coro);
  if (b->into && b->into->mem) r->into_mem = neap__buffer_hold(L, b->into, coro);
}

static request *request_new(client *c, const request *held, const bodies *b) {
  request *r = calloc(1, sizeof(*r));
  if (!r) return NULL;
  *r = *held;
  r->easy = curl_easy_duphandle(c->model);
  if (b->text) r->body_copy = malloc(b->text_bytes + 1);
  if (b->text && r->body_copy) memcpy(r->body_copy, b->text, b->text_bytes);
  r->body = b->from ? (const char *)b->from->data + b->from_offset : r->body_copy;
  r->body_bytes = b->from ? b->from_bytes : b->text_bytes;
  r->into = b->into ? (char *)b->into->data + b->into_offset : NULL;
  r->into_bytes = b->into_bytes;
  r->client = c;
  c->refs++;
  r->await.push = request_push;
  r->await.cancel = request_cancel;
  r->await.release = request_release;
  return r;
}

/* core.http_request(client, method, url, headers, ms, body, offset, length, into, offset, length, cleanup) */
static int l_request(lua_State *L) {
  client *c = check_client(L);
  const char *method = luaL_checkstring(L, 2), *url = luaL_checkstring(L, 3);
  luaL_checktype(L, 4, LUA_TTABLE);
  luaL_checknumber(L, 5);
  lua_settop(L, 12);
  bool cleanup = lua_toboolean(L, 12);
  bodies b = check_bodies(L);
  neap__coro *coro;
  int pushed = neap__coro_enter(L, "neap.http", cleanup, &coro);
  if (pushed) return pushed;
  request held = {.await.cleanup = cleanup};
  snprintf(held.what, sizeof(held.what), "%s %s", method, url);
  hold(L, &held, &b, coro);
  request *r = request_new(c, &held, &b);
  const char *code = "ENOMEM", *why = "out of memory";
  if (!r) {
    neap__mem_drop(held.body_mem);
    neap__mem_drop(held.into_mem);
  } else if (r->easy && (!b.text || r->body_copy) && set_request(L, r)) {
    CURLMcode rc = curl_multi_add_handle(c->multi, r->easy);
    if (rc == CURLM_OK) return neap__coro_wait(L, coro, &r->await);
    code = "EIO";
    why = curl_multi_strerror(rc);
  }
  if (r) request_release(&r->await);
  lua_pushnil(L);
  return 1 + push_failure(L, code, held.what, why);
}

void neap__http_client_open(lua_State *L, neap__vm *vm) {
  static const luaL_Reg functions[] = {
      {"http_client", l_client}, {"http_request", l_request}, {"http_close", l_collect}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"__gc", l_collect}, {NULL, NULL}};
  luaL_newmetatable(L, TYPE);
  neap__vm_register(L, vm, methods);
  lua_pop(L, 1);
  neap__vm_register(L, vm, functions);
}
