/* SPDX-License-Identifier: MIT
 *
 * serve/session.c - see session.h. Token lists are the large part of a session; their memory is bounded in sum, the
 * longest unused ones go first. */
#include "serve/session.h"

#include <stdlib.h>
#include <string.h>

#define REQUEST_SEED 0x6e656170u /* the hash must be the same in the next process */

static void session_free(neap__entry *entry) {
  neap__session *session = (neap__session *)entry;
  neap__prompt_free(&session->prompt);
  free(session->holds.at);
}

static void transfer_free(neap__entry *entry) { free(((neap__transfer *)entry)->holds.at); }

int neap__sessions_open(neap__sessions *sessions, neap__l1 *l1) {
  *sessions = (neap__sessions){.l1 = l1};
  if (neap__table_open(&sessions->requests, NEAP_SESSIONS_MAX, sizeof(neap__session), session_free)) return NEAP_ENOMEM;
  if (neap__table_open(&sessions->transfers, NEAP_TRANSFERS_MAX, sizeof(neap__transfer), transfer_free) == 0) return 0;
  neap__table_close(&sessions->requests);
  return NEAP_ENOMEM;
}

void neap__sessions_close(neap__sessions *sessions) {
  for (neap__entry *e = sessions->requests.oldest; e; e = e->newer) {
    neap__session *session = (neap__session *)e;
    if (session->fetch) neap__fetch_end(session->fetch);
  }
  neap__table_close(&sessions->requests);
  neap__table_close(&sessions->transfers);
}

uint64_t neap__request_hash(neap__text request_id) {
  return neap__hash64(request_id.at, request_id.bytes, REQUEST_SEED);
}

/* --- sessions ------------------------------------------------------------------------------------------------- */

static void count_prompt(neap__sessions *sessions, neap__session *session) {
  size_t bytes = neap__prompt_bytes(&session->prompt);
  sessions->prompt_bytes += bytes - session->prompt_bytes;
  session->prompt_bytes = bytes;
}

static void free_prompt(neap__sessions *sessions, neap__session *session) {
  neap__prompt_free(&session->prompt);
  count_prompt(sessions, session);
  session->chunks = 0;
}

void neap__session_reset(neap__sessions *sessions, neap__session *session) {
  if (session->fetch) neap__fetch_end(session->fetch);
  session->fetch = NULL;
  neap__holds_give_all(&session->holds, sessions->l1);
  session->hit_chunks = 0;
  session->undelivered = false;
  session->adopted = false;
}

void neap__session_end(neap__sessions *sessions, neap__session *session) {
  neap__session_reset(sessions, session);
  neap__prompt_forget(&session->prompt);
  /* Spare sessions keep what a usual prompt needs; the memory of long ones is for those who are here. */
  if (sessions->prompt_bytes > NEAP_PROMPTS_BYTES_MAX / 2) free_prompt(sessions, session);
  neap__table_remove(&sessions->requests, &session->entry);
}

static bool session_idle(const neap__session *session) { return !session->fetch && session->holds.live == 0; }

/* Drops the longest unused session that holds nothing, if one is among the oldest. */
static void make_way(neap__sessions *sessions) {
  neap__entry *entry = sessions->requests.oldest;
  for (uint32_t tried = 0; entry && tried < 64; tried++, entry = entry->newer) {
    if (!session_idle((neap__session *)entry)) continue;
    neap__session_end(sessions, (neap__session *)entry);
    sessions->dropped++;
    return;
  }
}

neap__session *neap__session_find(neap__sessions *sessions, neap__text request_id, uint64_t now_ns) {
  neap__entry *entry = neap__table_find(&sessions->requests, neap__request_hash(request_id), 0);
  if (entry) neap__table_use(&sessions->requests, entry, now_ns);
  return (neap__session *)entry;
}

neap__session *neap__session_get(neap__sessions *sessions, neap__text request_id, uint64_t now_ns) {
  return neap__session_get_hash(sessions, neap__request_hash(request_id), now_ns);
}

neap__session *neap__session_get_hash(neap__sessions *sessions, uint64_t id, uint64_t now_ns) {
  neap__entry *entry = neap__table_find(&sessions->requests, id, 0);
  if (entry) {
    neap__table_use(&sessions->requests, entry, now_ns);
    return (neap__session *)entry;
  }
  if (sessions->requests.count == sessions->requests.max) make_way(sessions);
  neap__session *session = (neap__session *)neap__table_add(&sessions->requests, id, 0, now_ns);
  if (!session) return NULL;
  session->model = NULL;
  session->named = 0;
  session->chunks = session->asked_chunks = session->stored_chunks = 0;
  session->told = session->pieces = false;
  return session;
}

void neap__session_stores(neap__session *session, uint32_t first, uint32_t count, bool whole) {
  if (session->stored_chunks == 0) session->stored_first = first;
  session->pieces |= !whole || first != session->stored_first; /* each rank stores the same piece */
  session->stored_chunks = NEAP_MAX(session->stored_chunks, first + count);
}

uint32_t neap__session_used(const neap__session *session, uint32_t chunks) {
  bool fresh = session->stored_chunks > 0 && !session->pieces;
  return fresh ? NEAP_MIN(session->stored_first, chunks) : chunks;
}

void neap__session_note(neap__session *session, const char *model, const neap__ipc_key *key, uint32_t tenant) {
  session->model = model;
  session->world_size = key->world_size;
  session->tenant = tenant;
  if (key->session.bytes) session->named = neap__hash64(key->session.at, key->session.bytes, REQUEST_SEED);
}

int neap__session_prompt(neap__sessions *sessions, neap__session *session, const neap__token_list *tokens,
                         uint32_t chunk_tokens, uint32_t chunks) {
  int err = neap__prompt_read(&session->prompt, tokens, chunk_tokens, chunks);
  count_prompt(sessions, session);
  session->chunks = err ? 0 : tokens->count / chunk_tokens;
  for (neap__entry *e = sessions->requests.oldest; e && sessions->prompt_bytes > NEAP_PROMPTS_BYTES_MAX; e = e->newer)
    if (e != &session->entry) free_prompt(sessions, (neap__session *)e);
  return err;
}

bool neap__session_collect(neap__sessions *sessions, neap__session *session) {
  uint32_t hit = 0;
  if (!session->fetch) return true;
  if (!neap__fetch_poll(session->fetch, &hit)) return false;
  /* Without room to remember the leases the answer is a miss: the fetch gives them back as it ends. */
  if (neap__holds_reserve(&session->holds, hit * session->rows)) hit = 0;
  for (uint32_t i = 0; i < hit * session->rows; i++) {
    neap__lease lease = neap__fetch_lease(session->fetch, i / session->rows, i % session->rows, true);
    neap__view view;
    NEAP_ASSERT(neap__l1_view(sessions->l1, lease, &view) == 0);
    neap__holds_add(&session->holds, &view.key, lease, session->readers);
  }
  neap__fetch_end(session->fetch);
  session->fetch = NULL;
  session->hit_chunks = hit;
  return true;
}

void neap__sessions_expire(neap__sessions *sessions, uint64_t now_ns, uint64_t ttl_ns) {
  neap__entry *next;
  for (neap__entry *e = sessions->requests.oldest; e && now_ns - e->used_ns > ttl_ns; e = next) {
    next = e->newer;
    neap__session *session = (neap__session *)e;
    if (session_idle(session) || (now_ns - e->used_ns) / 6 > ttl_ns) neap__session_end(sessions, session);
  }
}

/* --- transfers ------------------------------------------------------------------------------------------------ */

neap__transfer *neap__transfer_find(neap__sessions *sessions, uint64_t instance, uint64_t tag) {
  return (neap__transfer *)neap__table_find(&sessions->transfers, instance, tag);
}

neap__transfer *neap__transfer_add(neap__sessions *sessions, uint64_t instance, uint64_t tag, uint64_t now_ns) {
  neap__transfer *transfer = (neap__transfer *)neap__table_add(&sessions->transfers, instance, tag, now_ns);
  if (transfer) transfer->started_ns = now_ns;
  return transfer;
}

void neap__transfer_end(neap__sessions *sessions, neap__transfer *transfer) {
  neap__holds_give_all(&transfer->holds, sessions->l1);
  neap__table_remove(&sessions->transfers, &transfer->entry);
}

void neap__sessions_drop_instance(neap__sessions *sessions, uint64_t instance) {
  neap__entry *next;
  for (neap__entry *e = sessions->transfers.oldest; e; e = next) {
    next = e->newer;
    if (e->id == instance) neap__transfer_end(sessions, (neap__transfer *)e);
  }
}

void neap__sessions_drop_space(neap__sessions *sessions, uint32_t space, const char *model) {
  for (neap__entry *e = sessions->requests.oldest; e; e = e->newer) {
    neap__session *session = (neap__session *)e;
    if (session->fetch && strcmp(session->model, model) == 0) neap__session_reset(sessions, session);
    neap__holds_give_space(&session->holds, sessions->l1, space);
  }
}
