/* SPDX-License-Identifier: MIT
 *
 * serve/wire.c - the wire thread: messages from the ROUTER socket, the table of operations, replies.
 *
 * Requests are served one by one in the order in which they arrive, so those of one connection take effect in order.
 * Every request that names a known operation is answered, whatever is wrong with it. Frames are read where libzmq
 * received them and sent back as they came. */
#include "serve/wire.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LAST_MESSAGES_MAX 65536u
#define ANY_ARGS 255u

const neap__op neap__ops[] = {
    {8, 2, NEAP_ANSWER_NONE, "lookup", neap__op_lookup},
    {9, 1, NEAP_ANSWER_ZERO, "query_prefetch_status", neap__op_status},
    {10, 2, NEAP_ANSWER_ZERO, "wait_prefetch_status", neap__op_wait},
    {12, 2, NEAP_ANSWER_NONE, "free_lookup_locks", neap__op_free},
    {13, 1, NEAP_ANSWER_NONE, "end_session", neap__op_end},
    {14, 1, NEAP_ANSWER_NO_POOL, "register_kv_cache_engine_driven_context", neap__op_register},
    {15, 1, NEAP_ANSWER_NONE, "unregister_kv_cache_engine_driven_context", neap__op_unregister},
    {16, 2, NEAP_ANSWER_NO_SLOTS, "prepare_store", neap__op_prepare_store},
    {17, 3, NEAP_ANSWER_FALSE, "commit_store", neap__op_commit_store},
    {18, 2, NEAP_ANSWER_NO_DATA, "prepare_retrieve", neap__op_prepare_retrieve},
    {19, 2, NEAP_ANSWER_TRUE, "commit_retrieve", neap__op_commit_retrieve},
    {20, 1, NEAP_ANSWER_NONE, "clear", neap__op_clear},
    {21, ANY_ARGS, NEAP_ANSWER_SILENCE, "get_chunk_size", neap__op_chunk_size},
    {22, 1, NEAP_ANSWER_TRUE, "ping", neap__op_ping},
    {23, ANY_ARGS, NEAP_ANSWER_NONE, "report_block_allocation", neap__op_report},
    {24, ANY_ARGS, NEAP_ANSWER_SILENCE, "noop", neap__op_noop},
    {32, ANY_ARGS, NEAP_ANSWER_NO_LIST, "get_experimental", neap__op_experimental},
    {0, 4, NEAP_ANSWER_NONE, "subscribe_kv_events", neap__op_subscribe},
    {1, ANY_ARGS, NEAP_ANSWER_SILENCE, "register_kv_cache", neap__op_other_mode},
    {2, ANY_ARGS, NEAP_ANSWER_NONE, "unregister_kv_cache", neap__op_other_mode},
    {3, ANY_ARGS, NEAP_ANSWER_SILENCE, "register_q_cache", neap__op_other_mode},
    {4, ANY_ARGS, NEAP_ANSWER_NONE, "unregister_q_cache", neap__op_other_mode},
    {5, ANY_ARGS, NEAP_ANSWER_SILENCE, "store_q", neap__op_other_mode},
    {6, ANY_ARGS, NEAP_ANSWER_SILENCE, "store", neap__op_other_mode},
    {7, ANY_ARGS, NEAP_ANSWER_SILENCE, "retrieve", neap__op_other_mode},
    {25, ANY_ARGS, NEAP_ANSWER_SILENCE, "cb_register_rope", neap__op_other_mode},
    {26, ANY_ARGS, NEAP_ANSWER_NONE, "cb_unregister_rope", neap__op_other_mode},
    {27, ANY_ARGS, NEAP_ANSWER_SILENCE, "cb_retrieve_pre_computed", neap__op_other_mode},
    {28, ANY_ARGS, NEAP_ANSWER_SILENCE, "cb_unified_lookup", neap__op_other_mode},
    {33, ANY_ARGS, NEAP_ANSWER_SILENCE, "cb_protocol_handshake", neap__op_other_mode},
};
const uint32_t neap__op_count = NEAP_ARRAY_LEN(neap__ops);

/* --- complaints ------------------------------------------------------------------------------------------------- */

#define COMPLAINTS_PER_SECOND 10u

void neap__complain(neap__server *server, const char *fmt, ...) {
  if (server->now_ns - server->complain_second_ns >= 1000000000u) {
    if (server->complaints_held > 0)
      NEAP_LOG_WARN("%u more warnings about requests are not shown", server->complaints_held);
    server->complain_second_ns = server->now_ns;
    server->complaints = server->complaints_held = 0;
  }
  if (server->complaints >= COMPLAINTS_PER_SECOND) {
    server->complaints_held++;
    return;
  }
  char text[NEAP_ERROR_BYTES];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof(text), fmt, args);
  va_end(args);
  server->complaints++;
  NEAP_LOG_WARN("%s", text);
}

/* --- replies ---------------------------------------------------------------------------------------------------- */

void neap__write_neutral(neap__server *server, neap__neutral neutral) {
  neap__writer *w = &server->out;
  neap__writer_reset(w);
  switch (neutral) {
    case NEAP_ANSWER_FALSE: neap__write_bool(w, false); return;
    case NEAP_ANSWER_TRUE: neap__write_bool(w, true); return;
    case NEAP_ANSWER_ZERO: neap__write_uint(w, 0); return;
    case NEAP_ANSWER_NO_LIST: neap__write_array(w, 0); return;
    case NEAP_ANSWER_NO_SLOTS:
      neap__write_map(w, 1);
      neap__write_text(w, "context");
      neap__write_map(w, 2);
      neap__write_text(w, "slots");
      neap__write_array(w, 0);
      neap__write_text(w, "chunk_indices");
      neap__write_array(w, 0);
      return;
    case NEAP_ANSWER_NO_DATA:
      neap__write_map(w, 3);
      neap__write_text(w, "success");
      neap__write_bool(w, false);
      neap__write_text(w, "data");
      neap__write_empty_bin(w);
      neap__write_text(w, "context");
      neap__write_map(w, 0);
      return;
    case NEAP_ANSWER_NO_POOL:
      neap__write_map(w, 2);
      neap__write_text(w, "shm_name");
      neap__write_text(w, "");
      neap__write_text(w, "pool_size");
      neap__write_uint(w, 0);
      return;
    case NEAP_ANSWER_NONE:
    case NEAP_ANSWER_SILENCE: return;
  }
}

void neap__reply(neap__server *server, zmq_msg_t *route, zmq_msg_t *uid, zmq_msg_t *op) {
  bool payload = server->out.bytes > 0;
  /* Only the first part can fail: the peer is gone, or does not read. Its reply is then of use to nobody. */
  if (zmq_msg_send(route, server->socket, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
      zmq_msg_send(uid, server->socket, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
      zmq_msg_send(op, server->socket, (payload ? ZMQ_SNDMORE : 0) | ZMQ_DONTWAIT) >= 0 && payload)
    (void)zmq_send(server->socket, server->out.at, server->out.bytes, ZMQ_DONTWAIT);
  zmq_msg_close(route);
  zmq_msg_close(uid);
  zmq_msg_close(op);
}

/* --- requests --------------------------------------------------------------------------------------------------- */

int neap__arg_key(neap__call *call, uint32_t i, neap__ipc_key *key, neap_error *err) {
  return neap__ipc_key_read(call->args[i], key, err);
}

/* An argument declared int: LMCache turns a bool or a float into one. */
int neap__arg_int(neap__call *call, uint32_t i, uint64_t *out, neap_error *err) {
  neap__value value;
  if (neap__read_value(&call->args[i], &value) || !neap__reader_done(&call->args[i]))
    return neap__fail(err, NEAP_EINVAL, "argument %u: expected an int", i);
  *out = value.number;
  if (value.kind == NEAP_KIND_UINT || value.kind == NEAP_KIND_BOOL) return 0;
  if (value.kind == NEAP_KIND_FLOAT && value.real >= 0 && value.real < 9e18) {
    *out = (uint64_t)value.real;
    return 0;
  }
  return neap__fail(err, NEAP_EINVAL, "argument %u: expected an int that is not negative", i);
}

int neap__arg_text(neap__call *call, uint32_t i, neap__text *out, neap_error *err) {
  if (neap__read_text(&call->args[i], out) || !neap__reader_done(&call->args[i]))
    return neap__fail(err, NEAP_EINVAL, "argument %u: expected a str", i);
  return 0;
}

int neap__call_prompt(neap__server *server, neap__session *session, const neap__ipc_key *key, uint32_t chunks,
                      neap__prompt **out, neap_error *err) {
  int code;
  if (session)
    code = neap__session_prompt(&server->sessions, session, &key->tokens, server->chunk_tokens, chunks);
  else
    code = neap__prompt_read(&server->prompt, &key->tokens, server->chunk_tokens, chunks);
  *out = session ? &session->prompt : &server->prompt;
  return code ? neap__fail(err, code, "token_ids: no memory for %u tokens", key->tokens.count) : 0;
}

void neap__call_tell_request(neap__server *server, neap__session *session) {
  if (session->told) return;
  session->told = true;
  neap__l1_tell_request(server->l1, session->tenant, (uint32_t)session->entry.id, session->named,
                        NEAP_MAX(session->asked_chunks, session->chunks));
}

int neap__call_tenant(neap__server *server, const neap__ipc_key *key, uint32_t *tenant, neap_error *err) {
  *tenant = 0;
  if (key->salt.bytes == 0) return 0;
  int code = neap__names_tenant(server->engine->names, key->salt.at, key->salt.bytes, tenant);
  return code ? neap__fail(err, code, "cache_salt: there are %u already", NEAP_TENANTS_MAX) : 0;
}

static neap__reader frame_reader(zmq_msg_t *part) { return neap__reader_over(zmq_msg_data(part), zmq_msg_size(part)); }

/* The operation that the frame names, or NULL. */
static const neap__op *find_op(zmq_msg_t *frame) {
  neap__reader r = frame_reader(frame);
  neap__value value;
  if (neap__read_value(&r, &value) || !neap__reader_done(&r)) return NULL;
  for (uint32_t i = 0; i < neap__op_count; i++) {
    const neap__op *op = &neap__ops[i];
    if (value.kind == NEAP_KIND_UINT && op->id != 0 && value.number == op->id) return op;
    if (value.kind == NEAP_KIND_STR && neap__text_is(value.text, op->name)) return op;
  }
  return NULL;
}

/* Once per operation: a client that asks in a loop must not fill the disk. */
static void log_unknown(neap__server *server, zmq_msg_t *frame) {
  size_t bytes = zmq_msg_size(frame);
  uint32_t hash = (uint32_t)neap__hash64(zmq_msg_data(frame), bytes, 0);
  for (uint32_t i = 0; i < server->logged_count; i++)
    if (server->logged_ops[i] == hash) return;
  if (server->logged_count == NEAP_ARRAY_LEN(server->logged_ops)) return;
  server->logged_ops[server->logged_count++] = hash;
  neap__reader r = frame_reader(frame);
  neap__value value;
  if (neap__read_value(&r, &value))
    NEAP_LOG_WARN("Invalid ZMQ operation identifier of %zu bytes", bytes);
  else if (value.kind == NEAP_KIND_UINT)
    NEAP_LOG_WARN("No handler registered for operation %llu; it is not answered", (unsigned long long)value.number);
  else if (value.kind == NEAP_KIND_STR)
    NEAP_LOG_WARN("No handler registered for operation %.*s; it is not answered", (int)NEAP_MIN(value.text.bytes, 64u),
                  value.text.at);
  else
    NEAP_LOG_WARN("Invalid ZMQ operation identifier: neither int nor str");
}

/* Serves the call, or says why not. */
static int serve(neap__server *server, neap__call *call, uint32_t args, neap_error *err) {
  size_t largest = 0;
  for (uint32_t i = 0; i < args; i++) {
    call->args[i] = frame_reader(&call->parts[3 + i]);
    largest = NEAP_MAX(largest, zmq_msg_size(&call->parts[3 + i]));
  }
  if (call->op->args != ANY_ARGS && call->op->args != args)
    return neap__fail(err, NEAP_EINVAL, "%u arguments; expected %u", args, call->op->args);
  if (largest > NEAP_FRAME_BYTES_MAX)
    return neap__fail(err, NEAP_EINVAL, "an argument of %zu bytes; expected at most %zu", largest,
                      NEAP_FRAME_BYTES_MAX);
  return call->op->serve(server, call, err);
}

static void publish_counts(neap__server *server) {
  atomic_store_explicit(&server->counters.sessions, server->sessions.requests.count, memory_order_relaxed);
  atomic_store_explicit(&server->counters.transfers, server->sessions.transfers.count, memory_order_relaxed);
  atomic_store_explicit(&server->counters.instances, server->instances.table.count, memory_order_relaxed);
}

static void dispatch(neap__server *server, zmq_msg_t *parts, uint32_t count) {
  if (count < 3 && atomic_load(&server->stopping)) return; /* neap__server_close knocked */
  if (count < 3) {
    NEAP_COUNT(server, bad_messages, 1);
    neap__complain(server, "a message of %u frames is ignored; a request has at least 2", count - 1);
    return;
  }
  if (zmq_msg_size(&parts[2]) == 0) return; /* control of a stream: ours have ended by themselves */
  neap__call call = {.op = find_op(&parts[2]), .parts = parts};
  if (!call.op) {
    NEAP_COUNT(server, bad_messages, 1);
    log_unknown(server, &parts[2]);
    return;
  }
  neap_error err = {{0}};
  neap__client *client = neap__client_of(server, &call, count - 3);
  neap__writer_reset(&server->out);
  int code = serve(server, &call, count - 3, &err);
  if (server->out.failed) code = neap__fail(&err, NEAP_ENOMEM, "no memory for the reply");
  if (code) {
    NEAP_COUNT(server, refused, 1);
    neap__complain(server, "%s refused: %s", call.op->name, err.text);
    neap__write_neutral(server, call.op->neutral);
    call.silent = call.op->neutral == NEAP_ANSWER_SILENCE;
  }
  publish_counts(server); /* before the answer: who has that may look */
  if (call.silent) return;
  neap__reply(server, &parts[0], &parts[1], &parts[2]);
  if (client) neap__client_answered(&server->clients, client);
}

/* Receives one message whole. Returns the number of parts, 0 when there is none, -1 when the socket is closed. Parts
 * beyond the most that any operation has are dropped. */
static int receive(neap__server *server, zmq_msg_t *parts, int flags) {
  uint32_t count = 0;
  bool more = true;
  while (more) {
    zmq_msg_t *part = &parts[NEAP_MIN(count, NEAP_PARTS_MAX)];
    if (count <= NEAP_PARTS_MAX) zmq_msg_init(part);
    if (zmq_msg_recv(part, server->socket, flags) < 0) {
      NEAP_ASSERT(count == 0); /* libzmq delivers messages whole */
      zmq_msg_close(part);
      return zmq_errno() == EAGAIN || zmq_errno() == EINTR ? 0 : -1;
    }
    more = zmq_msg_more(part);
    count++;
  }
  return (int)NEAP_MIN(count, NEAP_PARTS_MAX + 1);
}

/* Serves one message. False: there was none. */
static bool serve_one(neap__server *server, int flags) {
  zmq_msg_t parts[NEAP_PARTS_MAX + 1];
  int count = receive(server, parts, flags);
  if (count <= 0) return false;
  server->now_ns = neap__now_ns();
  NEAP_COUNT(server, requests, 1);
  if (count > (int)NEAP_PARTS_MAX) {
    NEAP_COUNT(server, bad_messages, 1);
    neap__complain(server, "a message of more than %u frames is ignored", NEAP_PARTS_MAX - 1);
  } else {
    dispatch(server, parts, (uint32_t)count);
  }
  for (int i = 0; i < count; i++) zmq_msg_close(&parts[i]);
  return true;
}

/* --- the thread ------------------------------------------------------------------------------------------------- */

/* What is due by the clock. */
static void chores(neap__server *server) {
  if (server->config.reap_timeout_s > 0 && server->now_ns >= server->reap_next_ns) {
    neap__reap(server);
    server->reap_next_ns = server->now_ns + (uint64_t)(server->config.reap_timeout_s * 0.25e9);
  }
  neap__sessions_expire(&server->sessions, server->now_ns, (uint64_t)(server->config.session_ttl_s * 1e9));
  publish_counts(server);
  server->chores_next_ns = server->now_ns + NEAP_CHORES_MS * 1000000u;
}

/* While replies wait for lookups, both the socket and the bell can wake the thread. Without them it sleeps inside
 * zmq_msg_recv, which costs a system call less for each message. */
static void sleep_for_waiters(neap__server *server, uint64_t deadline_ns) {
  zmq_pollitem_t items[] = {{.socket = server->socket, .events = ZMQ_POLLIN},
                            {.fd = server->bell->fd, .events = ZMQ_POLLIN}};
  uint64_t most_ns = deadline_ns > server->now_ns ? deadline_ns - server->now_ns : 0;
  if (zmq_poll(items, 2, (long)NEAP_MIN(most_ns / 1000000u + 1, NEAP_CHORES_MS)) > 0 && items[1].revents) {
    uint64_t rings;
    (void)!read(server->bell->fd, &rings, sizeof(rings));
  }
}

void *neap__wire_thread(void *arg) {
  neap__server *server = arg;
  while (!atomic_load(&server->stopping)) {
    bool waiting = server->waiter_count > 0;
    bool served = serve_one(server, waiting ? ZMQ_DONTWAIT : 0);
    if (!served) server->now_ns = neap__now_ns();
    if (server->now_ns >= server->chores_next_ns) chores(server);
    if (!waiting) continue;
    uint64_t deadline_ns = neap__waiters_serve(server);
    if (!served) sleep_for_waiters(server, deadline_ns);
  }
  /* What was received is answered; what comes now is not waited for. */
  for (uint32_t n = 0; n < LAST_MESSAGES_MAX && serve_one(server, ZMQ_DONTWAIT); n++) continue;
  neap__waiters_drop(server);
  publish_counts(server);
  return NULL;
}
