/* SPDX-License-Identifier: MIT
 *
 * serve/ops_transfer.c - what a worker asks: where may I write, where may I read, I am done.
 *
 * A prepare and its commit are one transfer, known by the instance and a hash of what both keys have in common. A
 * store's buffers are staged in L1 under that name, a retrieve's objects are leased under it: both outlive this
 * process, and a commit after a restart finds them. */
#include <string.h>

#include "serve/wire.h"

#define TAG_SEED 0x74616773u /* the tag must be the same in the next process */

/* One prepare or commit, read and checked; the keys of its chunks are in server->batch. */
typedef struct pair {
  neap__ipc_key key;
  neap__instance *instance;
  neap__session *session; /* NULL: the request has none */
  neap__owner owner;
  uint32_t first, count; /* chunks */
} pair;

typedef enum direction { STORE = 1, RETRIEVE = 2 } direction;

static uint64_t pair_tag(const pair *p, direction dir, const neap__key *last) {
  struct {
    uint64_t direction, request, start, end, world_size, worker_id;
    neap__key last; /* model, layout, salt and all tokens up to the end */
  } common;
  memset(&common, 0, sizeof(common));
  common.direction = dir;
  /* Two requests may read the same objects at once and each ends its own copy; two cannot write them at once. */
  if (dir == RETRIEVE) common.request = neap__request_hash(p->key.request_id);
  common.start = p->key.start;
  common.end = p->key.end;
  common.world_size = p->key.world_size;
  common.worker_id = p->key.worker_id;
  common.last = *last;
  return neap__hash64(&common, sizeof(common), TAG_SEED);
}

static int pair_check(neap__server *server, pair *p, uint64_t instance_id, neap_error *err) {
  p->instance = neap__instances_find(&server->instances, instance_id);
  if (!p->instance)
    return neap__fail(err, NEAP_ENOENT, "instance %llu is not registered", (unsigned long long)instance_id);
  p->instance->seen_ns = server->now_ns;
  if (p->key.all_workers) return neap__fail(err, NEAP_EINVAL, "worker_id: is nil; a transfer is of one worker");
  const char *model = neap__names_model(server->engine->names, p->instance->space);
  if (p->key.world_size != p->instance->world_size || !neap__text_is(p->key.model, model))
    return neap__fail(err, NEAP_EINVAL, "model_name, world_size: are %.*s, %u; instance %llu registered %.200s, %u",
                      (int)NEAP_MIN(p->key.model.bytes, 200u), p->key.model.at, p->key.world_size,
                      (unsigned long long)instance_id, model, p->instance->world_size);
  return 0;
}

static int pair_keys(neap__server *server, pair *p, direction dir, neap_error *err) {
  neap__prompt *prompt;
  uint32_t tenant;
  int code = neap__call_tenant(server, &p->key, &tenant, err);
  if (code == 0) code = neap__call_prompt(server, p->session, &p->key, p->first + p->count, &prompt, err);
  if (code == 0 && neap__batch_reserve(&server->batch, p->count))
    code = neap__fail(err, NEAP_ENOMEM, "%s", neap_strerror(NEAP_ENOMEM));
  if (code) return code;
  for (uint32_t i = 0; i < p->count; i++) {
    neap__key *key = &server->batch.keys[i];
    memcpy(key->hash, prompt->hashes[p->first + i], NEAP_HASH_BYTES);
    key->space = p->instance->space;
    key->rank = neap__rank(p->key.world_size, p->key.worker_id);
    key->group = 0;
    key->tenant = tenant;
    server->batch.bytes[i] = p->instance->slot_bytes;
  }
  p->owner = (neap__owner){.kind = NEAP_OWNER_TRANSFER,
                           .request = (uint32_t)neap__request_hash(p->key.request_id),
                           .id = p->instance->entry.id,
                           .tag = pair_tag(p, dir, &server->batch.keys[p->count - 1])};
  if (!p->session) return 0;
  neap__session_note(p->session, neap__names_model(server->engine->names, p->instance->space), &p->key, tenant);
  return 0;
}

/* Reads key and instance of a call. remember: the request gets a session if it has none, so that its chunks are
 * touched when it ends. */
static int pair_read(neap__server *server, neap__call *call, direction dir, bool remember, pair *p, neap_error *err) {
  uint64_t instance_id;
  int code = neap__arg_key(call, 0, &p->key, err);
  if (code == 0) code = neap__arg_int(call, 1, &instance_id, err);
  if (code == 0) code = pair_check(server, p, instance_id, err);
  if (code == 0) code = neap__ipc_key_chunks(&p->key, server->chunk_tokens, &p->first, &p->count, err);
  if (code) return code;
  if (p->count == 0 || p->count > NEAP_KEYS_MAX)
    return neap__fail(err, NEAP_EINVAL, "start, end: are a range of %u chunks", p->count);
  p->session = remember ? neap__session_get(&server->sessions, p->key.request_id, server->now_ns)
                        : neap__session_find(&server->sessions, p->key.request_id, server->now_ns);
  return pair_keys(server, p, dir, err);
}

/* One slot: where in the pool a worker writes or reads an object. */
static void write_slot(neap__server *server, const pair *p, neap__lease lease) {
  neap__view view;
  NEAP_ASSERT(neap__l1_view(server->l1, lease, &view) == 0);
  NEAP_ASSERT(view.bytes == p->instance->slot_bytes && view.offset + view.bytes <= server->memory.bytes);
  neap__write_map(&server->out, 4);
  neap__write_text(&server->out, "offset");
  neap__write_uint(&server->out, view.offset);
  neap__write_raw(&server->out, p->instance->slot_tail, p->instance->slot_tail_bytes);
}

static double seconds_since(const neap__server *server, const neap__transfer *transfer) {
  return transfer ? (double)(server->now_ns - transfer->started_ns) * 1e-9 : 0.0;
}

/* --- store ------------------------------------------------------------------------------------------------------ */

/* Stages what nobody has or writes. Leaves in batch.leases a lease for each chunk to be written, and returns how many
 * there are: the new ones, and those that this same transfer staged before (a prepare that is repeated). */
static uint32_t stage(neap__server *server, const pair *p) {
  neap__batch *b = &server->batch;
  uint32_t staged = 0;
  int code = neap__evictor_reserve(server->engine->evictor, p->count, b->keys, b->bytes, NEAP_RESERVE_EXCLUSIVE,
                                   &p->owner, b->leases, b->results);
  if (code)
    neap__complain(server, "Failed to batched allocate %u memory blocks of size %llu: %s", p->count,
                   (unsigned long long)p->instance->slot_bytes, neap_strerror(code));
  for (uint32_t i = 0; i < p->count; i++) {
    if (code || b->results[i] != 0) {
      b->leases[i] = NEAP_NO_LEASE;
      if (code || b->results[i] == NEAP_EBUSY) b->leases[i] = neap__l1_staged(server->l1, &b->keys[i], &p->owner);
    }
    staged += b->leases[i] != NEAP_NO_LEASE;
    if (code && b->leases[i] == NEAP_NO_LEASE)
      neap__fate_note(server->engine->fate, &b->keys[i], NEAP_FATE_REFUSED, b->bytes[i]);
  }
  if (code == 0 && p->session) neap__session_stores(p->session, p->first, p->count, staged == p->count);
  return staged;
}

int neap__op_prepare_store(neap__server *server, neap__call *call, neap_error *err) {
  pair p;
  int code = pair_read(server, call, STORE, true, &p, err);
  if (code) return code;
  uint32_t staged = stage(server, &p);
  if (staged > 0 && !neap__transfer_find(&server->sessions, p.owner.id, p.owner.tag))
    (void)neap__transfer_add(&server->sessions, p.owner.id, p.owner.tag, server->now_ns);
  neap__write_map(&server->out, 1);
  neap__write_text(&server->out, "context");
  neap__write_map(&server->out, 2);
  neap__write_text(&server->out, "slots");
  neap__write_array(&server->out, staged);
  for (uint32_t i = 0; i < p.count; i++)
    if (server->batch.leases[i] != NEAP_NO_LEASE) write_slot(server, &p, server->batch.leases[i]);
  neap__write_text(&server->out, "chunk_indices");
  neap__write_array(&server->out, staged);
  for (uint32_t i = 0; i < p.count; i++)
    if (server->batch.leases[i] != NEAP_NO_LEASE) neap__write_uint(&server->out, i);
  return 0;
}

/* Publishes, or with `drop` gives back, what the transfer staged, the tail of the prompt first: what is published last
 * is the most recent. Returns how many objects there were; their keys come first in batch.keys, their places in
 * batch.at. */
static uint32_t publish(neap__server *server, const pair *p, bool drop) {
  neap__batch *b = &server->batch;
  uint32_t done = 0;
  for (uint32_t i = p->count; i-- > 0;) {
    neap__lease lease = neap__l1_staged(server->l1, &b->keys[i], &p->owner);
    if (lease != NEAP_NO_LEASE) neap__l1_place(server->l1, lease, p->first + i);
    b->results[i] = lease == NEAP_NO_LEASE ? NEAP_ENOENT
                    : drop                 ? neap__l1_abort(server->l1, lease)
                                           : neap__l1_commit(server->l1, lease, NULL, NULL, 0, NULL);
  }
  for (uint32_t i = 0; i < p->count; i++)
    if (b->results[i] == 0) b->at[done] = p->first + i, b->keys[done++] = b->keys[i];
  return done;
}

int neap__op_commit_store(neap__server *server, neap__call *call, neap_error *err) {
  pair p;
  neap__value data;
  int code = pair_read(server, call, STORE, false, &p, err);
  if (code) return code;
  if (neap__read_value(&call->args[2], &data) || data.kind != NEAP_KIND_BIN)
    return neap__fail(err, NEAP_EINVAL, "data: expected a bin");
  bool pickled = data.text.bytes > 0;
  if (p.session && !pickled) neap__call_tell_request(server, p.session);
  uint32_t stored = publish(server, &p, pickled);
  neap__transfer *transfer = neap__transfer_find(&server->sessions, p.owner.id, p.owner.tag);
  double seconds = seconds_since(server, transfer);
  if (transfer) neap__transfer_end(&server->sessions, transfer);
  if (pickled && !server->warned_pickle) {
    server->warned_pickle = true;
    NEAP_LOG_WARN(
        "a worker sends pickled data instead of using shared memory %s, nothing of it is stored; "
        "does it run on this host, under this user and with the same /dev/shm?",
        server->memory.shm_name);
  }
  if (pickled) stored = 0;
  neap__write_bool(&server->out, stored > 0);
  if (stored == 0) return 0;
  neap__storer_offer(server->engine->storer, p.owner.request, stored, server->batch.keys, server->batch.at);
  neap__evictor_check(server->engine->evictor);
  NEAP_COUNT(server, stores, 1);
  NEAP_COUNT(server, stored_tokens, (uint64_t)stored * server->chunk_tokens);
  NEAP_LOG_INFO("Stored %u tokens in %.3f seconds", stored * server->chunk_tokens, seconds);
  return 0;
}

/* --- retrieve --------------------------------------------------------------------------------------------------- */

static void write_retrieve(neap__server *server, const pair *p, neap__transfer *transfer) {
  neap__write_map(&server->out, 3);
  neap__write_text(&server->out, "success");
  neap__write_bool(&server->out, true);
  neap__write_text(&server->out, "data");
  neap__write_empty_bin(&server->out);
  neap__write_text(&server->out, "context");
  neap__write_map(&server->out, 1);
  neap__write_text(&server->out, "slots");
  neap__write_array(&server->out, p->count);
  for (uint32_t i = 0; i < p->count; i++) {
    neap__held *held = neap__holds_find(&transfer->holds, &server->batch.keys[i]);
    NEAP_ASSERT(held);
    write_slot(server, p, held->lease);
  }
}

/* Pins every object for the copy: by a lease of the transfer's own, or, when the object was cleared since the lookup,
 * by one reader of the lease that the request still holds. From here on each worker's reader is given back by its
 * transfer, so end_session may come at any time. 0, or NEAP_ENOENT with nothing held. */
static int pin(neap__server *server, const pair *p, neap__transfer *transfer) {
  neap__batch *b = &server->batch;
  if (neap__holds_reserve(&transfer->holds, p->count)) return NEAP_ENOMEM;
  if (neap__l1_acquire(server->l1, p->count, b->keys, &p->owner, 1, false, b->leases) < 0)
    memset(b->leases, 0, p->count * sizeof(*b->leases));
  bool complete = true;
  for (uint32_t i = 0; i < p->count && complete; i++)
    complete = b->leases[i] != NEAP_NO_LEASE || (p->session && neap__holds_find(&p->session->holds, &b->keys[i]));
  for (uint32_t i = 0; i < p->count; i++) {
    neap__held *held = complete && p->session ? neap__holds_find(&p->session->holds, &b->keys[i]) : NULL;
    if (b->leases[i] == NEAP_NO_LEASE) {
      if (held) neap__holds_move(&p->session->holds, held, &transfer->holds);
      continue;
    }
    neap__holds_add(&transfer->holds, &b->keys[i], b->leases[i], 1);
    if (held) neap__holds_give(&p->session->holds, held, server->l1, 1);
  }
  return complete ? 0 : NEAP_ENOENT;
}

int neap__op_prepare_retrieve(neap__server *server, neap__call *call, neap_error *err) {
  pair p;
  int code = pair_read(server, call, RETRIEVE, false, &p, err);
  if (code) return code;
  if (p.session) (void)neap__session_collect(&server->sessions, p.session);
  neap__transfer *transfer = neap__transfer_find(&server->sessions, p.owner.id, p.owner.tag);
  if (!transfer || transfer->holds.live != p.count) {
    if (transfer) neap__transfer_end(&server->sessions, transfer);
    transfer = neap__transfer_add(&server->sessions, p.owner.id, p.owner.tag, server->now_ns);
    code = transfer ? pin(server, &p, transfer) : NEAP_ELIMIT;
    if (code && transfer) neap__transfer_end(&server->sessions, transfer);
  }
  if (code) {
    NEAP_COUNT(server, failed_retrieves, 1);
    return neap__fail(err, code, "tokens %llu .. %llu of request %.*s: %s", (unsigned long long)p.key.start,
                      (unsigned long long)p.key.end, (int)NEAP_MIN(p.key.request_id.bytes, 128u), p.key.request_id.at,
                      neap_strerror(code));
  }
  write_retrieve(server, &p, transfer);
  return 0;
}

int neap__op_commit_retrieve(neap__server *server, neap__call *call, neap_error *err) {
  pair p;
  int code = pair_read(server, call, RETRIEVE, false, &p, err);
  if (code) return code;
  neap__write_bool(&server->out, true);
  neap__transfer *transfer = neap__transfer_find(&server->sessions, p.owner.id, p.owner.tag);
  if (!transfer) return 0;
  double seconds = seconds_since(server, transfer);
  neap__transfer_end(&server->sessions, transfer);
  NEAP_COUNT(server, retrieves, 1);
  NEAP_COUNT(server, retrieved_tokens, (uint64_t)p.count * server->chunk_tokens);
  NEAP_LOG_INFO("Retrieved %u tokens in %.3f seconds", p.count * server->chunk_tokens, seconds);
  return 0;
}
