/* SPDX-License-Identifier: MIT
 *
 * serve/reanswer.c - answers for requests that a killed server took with it.
 *
 * A client discards an answer to a request that it does not wait for, but an answer of another operation than it asked
 * is an error to it. Of a request that was received the operation is known; of one that was lost on the way it is
 * inferred from what the client was in the middle of. A worker asks one thing at a time and pings on the side: while it
 * waits, a ping is all that comes from it. The answers are the neutral ones: the worker goes on without the cache for
 * that request, and what it had staged stays with it until it leaves, for nobody can tell whether it still writes. */
#include <string.h>

#include "serve/wire.h"

enum {
  OP_LOOKUP = 8,
  OP_STATUS = 9,
  OP_WAIT = 10,
  OP_FREE = 12,
  OP_END = 13,
  OP_UNREGISTER = 15,
  OP_PREPARE_STORE = 16,
  OP_COMMIT_STORE = 17,
  OP_PREPARE_RETRIEVE = 18,
  OP_COMMIT_RETRIEVE = 19,
  OP_PING = 22,
  OP_REPORT = 23
};

static bool frame_uint(zmq_msg_t *part, uint64_t *out) {
  neap__reader r = neap__reader_over(zmq_msg_data(part), zmq_msg_size(part));
  return neap__read_uint(&r, UINT64_MAX, out) == 0 && neap__reader_done(&r);
}

/* Does the request tell whose it is? *instance: the worker's, 0 for a scheduler. */
static bool tells(const neap__call *call, uint32_t args, uint64_t *instance) {
  *instance = 0;
  switch (call->op->id) {
    case OP_LOOKUP:
    case OP_STATUS:
    case OP_WAIT:
    case OP_FREE:
    case OP_END:
    case OP_REPORT: return true;
    case OP_PREPARE_STORE:
    case OP_COMMIT_STORE:
    case OP_PREPARE_RETRIEVE:
    case OP_COMMIT_RETRIEVE: return args > 1 && frame_uint(&call->parts[4], instance) && *instance;
    case OP_UNREGISTER: return args > 0 && frame_uint(&call->parts[3], instance) && *instance;
    case OP_PING: return args > 0 && (!frame_uint(&call->parts[3], instance) || *instance);
    default: return false;
  }
}

/* What a worker that only pings was in the middle of. */
static uint8_t lost_by_worker(neap__server *server, uint64_t instance) {
  for (neap__entry *e = server->sessions.transfers.newest; e; e = e->older)
    if (e->id == instance) return ((neap__transfer *)e)->holds.live ? OP_COMMIT_RETRIEVE : OP_COMMIT_STORE;
  for (neap__entry *e = server->sessions.requests.oldest; e; e = e->newer)
    if (((neap__session *)e)->adopted && ((neap__session *)e)->holds.live) return OP_PREPARE_RETRIEVE;
  return OP_PREPARE_STORE;
}

static void frame_of(zmq_msg_t *part, neap__writer *w) {
  zmq_msg_init_size(part, w->bytes);
  memcpy(zmq_msg_data(part), w->at, w->bytes);
}

static void answer(neap__server *server, neap__call *call, uint64_t uid, uint8_t id) {
  const neap__op *op = NULL;
  for (uint32_t i = 0; i < neap__op_count && !op; i++)
    if (neap__ops[i].id == id) op = &neap__ops[i];
  if (!op || op->neutral == NEAP_ANSWER_SILENCE) return;
  zmq_msg_t route, uid_part, op_part;
  zmq_msg_init(&route);
  zmq_msg_copy(&route, &call->parts[0]);
  neap__writer_reset(&server->out);
  neap__write_uint(&server->out, uid);
  frame_of(&uid_part, &server->out);
  neap__writer_reset(&server->out);
  neap__write_uint(&server->out, id);
  frame_of(&op_part, &server->out);
  neap__write_neutral(server, op->neutral);
  neap__reply(server, &route, &uid_part, &op_part);
  NEAP_COUNT(server, reanswered, 1);
  NEAP_LOG_WARN("Request %llu (%s) of a client was lost with an earlier server; it is answered now",
                (unsigned long long)uid, op->name);
}

static void reanswer(neap__server *server, neap__call *call, uint64_t instance, const neap__unanswered *lost) {
  uint8_t inferred = OP_STATUS; /* to a scheduler that had asked a lookup this is an error that it takes for a miss */
  if (instance) inferred = call->op->id == OP_PING ? lost_by_worker(server, instance) : OP_PING;
  if (lost->op) answer(server, call, lost->uid, lost->op);
  for (uint64_t uid = lost->from; uid < lost->to; uid++) answer(server, call, uid, inferred);
}

neap__client *neap__client_of(neap__server *server, neap__call *call, uint32_t args) {
  uint64_t uid, instance, route = neap__hash64(zmq_msg_data(&call->parts[0]), zmq_msg_size(&call->parts[0]), 0);
  neap__unanswered lost;
  if (!frame_uint(&call->parts[1], &uid)) return NULL;
  neap__client *client = neap__client_find(&server->clients, route, server->now_ns);
  if (!client && !tells(call, args, &instance)) {
    neap__client_stranger(&server->clients, route, uid);
  } else if (!client) {
    client = neap__client_meet(&server->clients, route, instance, uid, server->now_ns, &lost);
    reanswer(server, call, instance, &lost);
  }
  if (client) neap__client_asked(&server->clients, client, uid, call->op->id);
  return client;
}
