/* SPDX-License-Identifier: MIT
 *
 * serve/clients.c - see clients.h. A record is one word that is written as a whole, and the instance it belongs to. */
#include "serve/clients.h"

#include <stdatomic.h>
#include <string.h>

#define ANNEX_MAGIC 0x31746e65696c63u /* "client1": first layout of these records */
#define GAP_MAX 64u                   /* a larger one is no loss but another client */

/* last: uid << 9 | op << 1 | answered. */
typedef struct record {
  _Atomic uint64_t last;
  uint64_t instance; /* 0: a scheduler */
  _Atomic uint32_t live;
  uint32_t spare[3];
} record;
_Static_assert(sizeof(record) == 32, "records are shared between builds");

struct neap__client_annex {
  _Atomic uint64_t magic;
  uint64_t spare[3];
  record records[NEAP_CLIENTS_MAX];
};
_Static_assert(NEAP_CLIENTS_AT + sizeof(struct neap__client_annex) <= NEAP_L1_ANNEX_BYTES, "the annex holds them");

static uint64_t word(uint64_t uid, uint8_t op, bool answered) { return uid << 9 | (uint64_t)op << 1 | answered; }
static uint64_t uid_of(const record *r) { return atomic_load(&r->last) >> 9; }

int neap__clients_open(neap__clients *clients, neap__l1 *l1) {
  size_t bytes;
  memset(clients, 0, sizeof(*clients));
  clients->annex = (struct neap__client_annex *)((uint8_t *)neap__l1_annex(l1, &bytes) + NEAP_CLIENTS_AT);
  if (atomic_load(&clients->annex->magic) != ANNEX_MAGIC) {
    memset(clients->annex, 0, sizeof(*clients->annex));
    atomic_store(&clients->annex->magic, ANNEX_MAGIC);
  }
  return neap__table_open(&clients->table, NEAP_CLIENTS_MAX, sizeof(neap__client), NULL);
}

void neap__clients_close(neap__clients *clients) { neap__table_close(&clients->table); }

neap__client *neap__client_find(neap__clients *clients, uint64_t route, uint64_t now_ns) {
  neap__entry *entry = neap__table_find(&clients->table, route, 0);
  if (entry) neap__table_use(&clients->table, entry, now_ns);
  return (neap__client *)entry;
}

void neap__client_stranger(neap__clients *clients, uint64_t route, uint64_t uid) {
  for (uint32_t i = 0; i < NEAP_STRANGERS_MAX; i++)
    if (clients->strangers[i].route == route) return;
  uint32_t at = clients->next_stranger++ % NEAP_STRANGERS_MAX;
  clients->strangers[at].route = route;
  clients->strangers[at].uid = uid;
}

static uint64_t first_uid(const neap__clients *clients, uint64_t route, uint64_t uid) {
  for (uint32_t i = 0; i < NEAP_STRANGERS_MAX; i++)
    if (clients->strangers[i].route == route) return NEAP_MIN(uid, clients->strangers[i].uid);
  return uid;
}

/* The record that this client had: a worker's by its instance, a scheduler's by the nearest smaller uid. */
static record *known_record(neap__clients *clients, uint64_t instance, uint64_t uid) {
  record *best = NULL;
  for (uint32_t i = 0; i < NEAP_CLIENTS_MAX; i++) {
    record *r = &clients->annex->records[i];
    if (!atomic_load(&r->live) || r->instance != instance) continue;
    if (instance) return r;
    if (clients->met[i] || uid_of(r) >= uid || uid - uid_of(r) > GAP_MAX) continue;
    if (!best || uid_of(r) > uid_of(best)) best = r;
  }
  return best;
}

/* A record for a new client: an unused one, one of a client that was never met again, or that of the connection which
 * has been silent longest. */
static record *new_record(neap__clients *clients) {
  uint32_t unmet = NEAP_CLIENTS_MAX;
  for (uint32_t i = 0; i < NEAP_CLIENTS_MAX; i++) {
    if (!atomic_load(&clients->annex->records[i].live)) return &clients->annex->records[i];
    if (!clients->met[i]) unmet = i;
  }
  if (unmet < NEAP_CLIENTS_MAX) return &clients->annex->records[unmet];
  neap__client *oldest = (neap__client *)clients->table.oldest;
  record *r = &clients->annex->records[oldest ? oldest->record : 0];
  if (oldest) neap__table_remove(&clients->table, &oldest->entry);
  return r;
}

static void tell_unanswered(const record *r, uint64_t uid, neap__unanswered *out) {
  uint64_t last = atomic_load(&r->last);
  if (uid_of(r) >= uid || uid - uid_of(r) > GAP_MAX) return; /* it counts from the start again */
  *out = (neap__unanswered){.uid = last >> 9, .from = (last >> 9) + 1, .to = uid};
  if (!(last & 1)) out->op = (uint8_t)(last >> 1);
}

neap__client *neap__client_meet(neap__clients *clients, uint64_t route, uint64_t instance, uint64_t uid,
                                uint64_t now_ns, neap__unanswered *unanswered) {
  memset(unanswered, 0, sizeof(*unanswered));
  uid = first_uid(clients, route, uid);
  if (clients->table.count == NEAP_CLIENTS_MAX) neap__table_remove(&clients->table, clients->table.oldest);
  record *r = known_record(clients, instance, uid);
  if (r) {
    tell_unanswered(r, uid, unanswered);
  } else {
    r = new_record(clients);
    atomic_store(&r->live, 0);
    r->instance = instance;
    atomic_store(&r->last, word(uid, 0, true));
    atomic_store(&r->live, 1);
  }
  neap__client *client = (neap__client *)neap__table_add(&clients->table, route, 0, now_ns);
  if (!client) return NULL;
  client->record = (uint32_t)(r - clients->annex->records);
  clients->met[client->record] = true;
  return client;
}

void neap__client_asked(neap__clients *clients, const neap__client *client, uint64_t uid, uint8_t op) {
  atomic_store_explicit(&clients->annex->records[client->record].last, word(uid, op, false), memory_order_release);
}

void neap__client_answered(neap__clients *clients, const neap__client *client) {
  atomic_fetch_or_explicit(&clients->annex->records[client->record].last, 1, memory_order_release);
}
