/* SPDX-License-Identifier: MIT
 *
 * serve/clients.h - how far each client's requests were answered, for the day this process is killed.
 *
 * A client counts its requests (uid) and waits for every answer; a request that a killed server had received, or that
 * was on its way to it, is never sent again, and a worker that waits for one stands still until it gives up. So the
 * last request of each client is written down in the annex of L1 before it is served, and marked when it is answered.
 * When the client speaks again, to the next server, the difference tells what it still waits for. Wire thread only. */
#pragma once
#include "l1/l1.h"
#include "serve/table.h"

#define NEAP_CLIENTS_MAX 256u
#define NEAP_CLIENTS_AT (512u << 10) /* in the annex */
#define NEAP_STRANGERS_MAX 64u

typedef struct neap__client {
  neap__entry entry; /* id: hash of the connection's routing id */
  uint32_t record;
} neap__client;

/* What a client waits for: a request that was received (op 0: none), and those in [from, to) that were not. */
typedef struct neap__unanswered {
  uint64_t uid, from, to;
  uint8_t op;
} neap__unanswered;

typedef struct neap__clients {
  neap__table table;
  struct neap__client_annex *annex;
  bool met[NEAP_CLIENTS_MAX]; /* the record's client has spoken to this process */
  struct {
    uint64_t route, uid; /* the first request of a connection that has not told who it is */
  } strangers[NEAP_STRANGERS_MAX];
  uint32_t next_stranger;
} neap__clients;

int neap__clients_open(neap__clients *clients, neap__l1 *l1); /* 0, NEAP_ENOMEM */
void neap__clients_close(neap__clients *clients);             /* records stay in the annex */

/* The client of a connection, or NULL if it has not told who it is. */
neap__client *neap__client_find(neap__clients *clients, uint64_t route, uint64_t now_ns);

/* A connection asks what anybody may ask; nothing before `uid` is missing once it has told who it is. */
void neap__client_stranger(neap__clients *clients, uint64_t route, uint64_t uid);

/* A connection tells who it is by its request `uid`: a worker by its instance id, a scheduler by asking what only
 * schedulers ask (instance 0; the one of an earlier process with the nearest smaller uid is taken for it). Fills what
 * it waits for. NULL without memory. */
neap__client *neap__client_meet(neap__clients *clients, uint64_t route, uint64_t instance, uint64_t uid,
                                uint64_t now_ns, neap__unanswered *unanswered);

void neap__client_asked(neap__clients *clients, const neap__client *client, uint64_t uid, uint8_t op);
void neap__client_answered(neap__clients *clients, const neap__client *client);
