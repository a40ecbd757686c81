/* SPDX-License-Identifier: MIT
 *
 * serve/session.h - what the server remembers of a request (its session) and of a copy under way (its transfer).
 *
 * A session is found by the 64-bit hash of its request id, which also is the owner id of its leases in L1: after a
 * restart the leases that L1 kept become sessions again. A transfer is one prepare/commit pair of one instance. Both
 * are bounded in number; a session without leases may be dropped for a new one. Wire thread only. */
#pragma once
#include "flow/fetch.h"
#include "serve/hold.h"
#include "serve/prompt.h"
#include "serve/request.h"
#include "serve/table.h"

#define NEAP_SESSIONS_MAX 65536u
#define NEAP_TRANSFERS_MAX 65536u
#define NEAP_PROMPTS_BYTES_MAX ((size_t)256 << 20) /* token lists and hashes of all sessions */

typedef struct neap__session {
  neap__entry entry; /* id: hash of the request id; tag 0 */
  neap__prompt prompt;
  size_t prompt_bytes; /* of prompt, as counted in the sum */
  neap__holds holds;
  neap__fetch *fetch; /* of the lookup, until its result is collected */
  const char *model;  /* of the last key; interned, NULL before the first */
  uint32_t world_size, tenant;
  uint64_t named;         /* hash of the session that the client names, 0: it names none */
  uint32_t chunks;        /* whole chunks of the last token list */
  uint32_t hit_chunks;    /* result of the lookup */
  uint32_t l1_chunks;     /* how much of the prefix L1 had by itself */
  uint32_t asked_chunks;  /* of the last lookup, 0 before it */
  uint32_t stored_chunks; /* the first so many were stored or found being so */
  uint32_t stored_first;  /* the first chunk of the first piece that was stored */
  uint32_t rows, readers;
  bool told;        /* the policy knows that the request has begun */
  bool pieces;      /* it was stored in several, or somebody else had stored of it */
  bool undelivered; /* a result waits for the status query */
  bool adopted;     /* holds leases of an earlier process */
} neap__session;

typedef struct neap__transfer {
  neap__entry entry; /* id: instance; tag: hash of the pair's key */
  neap__holds holds; /* what a retrieve pins; a store's buffers are found through L1 */
  uint64_t started_ns;
} neap__transfer;

typedef struct neap__sessions {
  neap__table requests, transfers;
  neap__l1 *l1;
  size_t prompt_bytes;
  uint64_t dropped; /* sessions that made way for new ones */
} neap__sessions;

int neap__sessions_open(neap__sessions *sessions, neap__l1 *l1);
void neap__sessions_close(neap__sessions *sessions); /* leases of outside owners stay in L1 */

uint64_t neap__request_hash(neap__text request_id);

neap__session *neap__session_find(neap__sessions *sessions, neap__text request_id, uint64_t now_ns);
/* Finds or makes. NULL at the bound with every old session holding leases, or without memory. */
neap__session *neap__session_get(neap__sessions *sessions, neap__text request_id, uint64_t now_ns);
neap__session *neap__session_get_hash(neap__sessions *sessions, uint64_t id, uint64_t now_ns);
/* A piece of the prompt is being stored; whole: by this request alone. */
void neap__session_stores(neap__session *session, uint32_t first, uint32_t count, bool whole);
/* How many of the prompt's first chunks the end of the request is a use of: what it stored itself, in one piece and
 * tail first, was told as it came; of several pieces the order has to be mended. */
uint32_t neap__session_used(const neap__session *session, uint32_t chunks);
/* What a key says about its request. model: interned. */
void neap__session_note(neap__session *session, const char *model, const neap__ipc_key *key, uint32_t tenant);
/* Ends the running lookup and gives back every lease, as before a new lookup. */
void neap__session_reset(neap__sessions *sessions, neap__session *session);
void neap__session_end(neap__sessions *sessions, neap__session *session);

/* Hashes the first chunks of the token list into the session's prompt, within the memory bound of all prompts. 0 or
 * NEAP_ENOMEM. */
int neap__session_prompt(neap__sessions *sessions, neap__session *session, const neap__token_list *tokens,
                         uint32_t chunk_tokens, uint32_t chunks);

/* Takes the leases of a lookup that has come to its end. False while it is running. Without a lookup: true. */
bool neap__session_collect(neap__sessions *sessions, neap__session *session);

/* Ends what nobody has asked for since ttl; a session with leases after six times that. */
void neap__sessions_expire(neap__sessions *sessions, uint64_t now_ns, uint64_t ttl_ns);

neap__transfer *neap__transfer_find(neap__sessions *sessions, uint64_t instance, uint64_t tag);
neap__transfer *neap__transfer_add(neap__sessions *sessions, uint64_t instance, uint64_t tag, uint64_t now_ns);
void neap__transfer_end(neap__sessions *sessions, neap__transfer *transfer);
/* The instance is gone: its transfers end. */
void neap__sessions_drop_instance(neap__sessions *sessions, uint64_t instance);
/* No instance of this layout is left: what requests hold of it ends, and lookups of the model that are not yet told. */
void neap__sessions_drop_space(neap__sessions *sessions, uint32_t space, const char *model);
