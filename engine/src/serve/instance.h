/* SPDX-License-Identifier: MIT
 *
 * serve/instance.h - the workers that have registered, and the ones that should but have not.
 *
 * A registration is a record in the annex of L1 (it lives as long as the pool does, so a restarted server knows its
 * workers and they do not notice), published by one word written last. Mutations and searches belong to the wire
 * thread; neap__instances_each and neap__instances_primary may be called from any thread.
 *
 * A worker of another pool does not know that its registration is gone. It is told by a ping that answers false once;
 * it then registers again. Until it has, or for half a minute, no lookup may promise a hit, since that worker would
 * drop the retrieve without asking (neap__instances_gated). */
#pragma once
#include <pthread.h>

#include "serve/request.h"
#include "serve/server.h"
#include "serve/table.h"

#define NEAP_INSTANCES_MAX 4096u
#define NEAP_GROUPS_MAX 512u
#define NEAP_TOLD_MAX 256u
#define NEAP_SLOT_TAIL_BYTES 160u

typedef struct neap__instance {
  neap__entry entry; /* id: instance id; tag 0 */
  uint32_t space, world_size, block_size, record;
  bool one_plane, pinged;
  uint64_t seen_ns;
  uint64_t slot_bytes;                     /* of one object */
  uint8_t slot_tail[NEAP_SLOT_TAIL_BYTES]; /* msgpack of a slot behind its offset: the same for every slot */
  uint32_t slot_tail_bytes;
} neap__instance;

/* One live layout of one world size, and how many instances use it. */
typedef struct neap__group {
  uint32_t space, world_size, instances;
} neap__group;

/* An instance id that is not registered but pings. */
typedef struct neap__told {
  uint64_t id;
  uint64_t gate_until_ns; /* 0: no lookup is held back for it */
  bool used;
} neap__told;

typedef struct neap__instances {
  pthread_mutex_t lock; /* held by the wire thread to change, by others to read */
  neap__table table;
  neap__names *names;
  struct neap__annex *annex;
  uint32_t chunk_tokens;
  neap__group groups[NEAP_GROUPS_MAX];
  uint32_t group_count;
  neap__told told[NEAP_TOLD_MAX];
  uint32_t told_next;
  uint64_t gate_until_ns; /* the latest of told */
} neap__instances;

/* Adopts the registrations in the annex. 0, NEAP_ENOMEM. */
int neap__instances_open(neap__instances *all, neap__l1 *l1, uint32_t chunk_tokens, uint64_t now_ns);
void neap__instances_close(neap__instances *all); /* records stay in the annex */

neap__instance *neap__instances_find(const neap__instances *all, uint64_t id);

/* 0: registered. NEAP_EEXIST: it was already; the first registration stays, *same tells if this one equals it.
 * NEAP_EINVAL, NEAP_ELIMIT, NEAP_ENOMEM with err. *out is set on 0 and NEAP_EEXIST. */
int neap__instances_register(neap__instances *all, const neap__registration *registration, uint64_t now_ns,
                             neap__instance **out, bool *same, neap_error *err);

/* Returns the instance's space if no instance of that space is left, else UINT32_MAX. */
uint32_t neap__instances_remove(neap__instances *all, neap__instance *instance);

/* The answer to a ping: false once for an id that is not known and did not say good-bye. */
bool neap__instances_ping(neap__instances *all, uint64_t id, uint64_t now_ns);
void neap__instances_goodbye(neap__instances *all, uint64_t id); /* it unregistered: its late pings are true */
bool neap__instances_gated(const neap__instances *all, uint64_t now_ns);

/* The live spaces of (model, world_size), at most max; returns how many. */
uint32_t neap__instances_spaces(const neap__instances *all, neap__text model, uint32_t world_size, uint32_t *spaces,
                                uint32_t max);

/* Any thread. */
bool neap__instances_primary(neap__instances *all, neap__text model, uint32_t world_size, uint32_t *space);
void neap__instances_each(neap__instances *all, void (*visit)(void *ctx, const neap__instance_info *info), void *ctx);
