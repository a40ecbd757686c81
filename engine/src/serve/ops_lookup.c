/* SPDX-License-Identifier: MIT
 *
 * serve/ops_lookup.c - what a scheduler asks: which prefix is here, keep it for my request, let go of it.
 *
 * A lookup leases every object of its answer to the request, before the answer is told; the leases end with the
 * retrieves, with free_lookup_locks, or with the session. They belong to that request and to nobody else. */
#include <math.h>
#include <string.h>

#include "serve/wire.h"

/* Fills batch.keys with the objects of chunks first .. first+count-1, all shards of all live layouts of the model:
 * [count][rows]. Two layouts under one name must both have a chunk, since any of their workers may ask for it. */
static int matrix(neap__server *server, neap__text model, uint32_t world_size, uint32_t tenant,
                  uint8_t (*hashes)[NEAP_HASH_BYTES], uint32_t count, uint32_t *rows) {
  uint32_t spaces[NEAP_SPACES_MAX];
  uint32_t space_count = neap__instances_spaces(&server->instances, model, world_size, spaces, NEAP_SPACES_MAX);
  *rows = space_count * world_size;
  if ((uint64_t)count * *rows > NEAP_KEYS_MAX) return NEAP_ELIMIT;
  if (neap__batch_reserve(&server->batch, NEAP_MAX(count * *rows, *rows))) return NEAP_ENOMEM;
  neap__key *key = server->batch.keys;
  for (uint32_t i = 0; i < count; i++) {
    for (uint32_t r = 0; r < *rows; r++, key++) {
      memcpy(key->hash, hashes[i], NEAP_HASH_BYTES);
      key->space = spaces[r / world_size];
      key->rank = neap__rank(world_size, r % world_size);
      key->group = 0;
      key->tenant = tenant;
    }
  }
  for (uint32_t r = 0; r < *rows; r++)
    server->batch.bytes[r] = neap__names_layout(server->engine->names, spaces[r / world_size])->bytes;
  return 0;
}

/* Chunks of the prefix that L1 has at this moment, for the statistics of a lookup that also needs L2. */
static uint32_t l1_prefix(neap__server *server, const neap__key *keys, uint32_t chunks, uint32_t rows) {
  for (uint32_t i = 0; i < chunks * rows; i++) {
    bool present;
    neap__l1_contains(server->l1, 1, &keys[i], &present);
    if (!present) return i / rows;
  }
  return chunks;
}

/* The batch has the keys of the first `chunks` of the chunks asked for; there can be no hit behind them. */
static int start_fetch(neap__server *server, neap__session *session, const neap__ipc_key *key, uint32_t chunks,
                       uint32_t asked, neap_error *err) {
  neap__fetch_request request = {
      .chunks = chunks,
      .chunks_asked = asked,
      .rows = session->rows,
      .keys = server->batch.keys,
      .row_bytes = server->batch.bytes,
      .owner = {.kind = NEAP_OWNER_REQUEST, .request = (uint32_t)session->entry.id, .id = session->entry.id},
      .readers = session->readers,
      .done = neap__bell_ring,
      .ctx = server->bell};
  uint32_t hit;
  memcpy(request.name, key->request_id.at, NEAP_MIN(key->request_id.bytes, sizeof(request.name) - 1));
  atomic_fetch_add(&server->bell->users, 1);
  int code = neap__fetch_start(server->engine->fetcher, &request, &session->fetch);
  if (code) {
    session->fetch = NULL;
    neap__bell_drop(server->bell);
    return neap__fail(err, code, "lookup could not start: %s", neap_strerror(code));
  }
  session->undelivered = true;
  session->l1_chunks = chunks;
  if (!neap__fetch_poll(session->fetch, &hit))
    session->l1_chunks = l1_prefix(server, server->batch.keys, chunks, session->rows);
  return 0;
}

/* Does L1 have all of the chunk at this moment? */
static bool has_chunk(neap__server *server, const neap__ipc_key *key, uint32_t tenant,
                      uint8_t (*hash)[NEAP_HASH_BYTES]) {
  uint32_t rows;
  if (matrix(server, key->model, key->world_size, tenant, hash, 1, &rows)) return true;
  return l1_prefix(server, server->batch.keys, 1, rows) == 1;
}

/* Without a tier below, a chunk that L1 lacks ends the prefix: a prompt is hashed a little further than what L1 has of
 * it, and the rest only if it is stored, or if the policy wants to hear of it. */
static int lookup(neap__server *server, const neap__ipc_key *key, neap_error *err) {
  uint32_t chunks = (uint32_t)(NEAP_MIN(key->end, key->tokens.count) / server->chunk_tokens), tenant, space;
  neap__prompt *prompt;
  NEAP_COUNT(server, lookups, 1);
  NEAP_COUNT(server, lookup_requested_tokens, (uint64_t)chunks * server->chunk_tokens);
  bool known = neap__instances_spaces(&server->instances, key->model, key->world_size, &space, 1) > 0;
  if (!known)
    neap__complain(server, "No GPU context found for model %.*s with world size %u during lookup!",
                   (int)key->model.bytes, key->model.at, key->world_size);
  if (!known || chunks == 0 || neap__instances_gated(&server->instances, server->now_ns)) {
    NEAP_COUNT(server, lookup_early_exit, 1);
    return 0;
  }
  if (key->readers == 0) NEAP_LOG_DEBUG("num_kv_readers: is 0 or missing; one reader is assumed");
  int code = neap__call_tenant(server, key, &tenant, err);
  if (code) return code;
  neap__session *session = neap__session_get(&server->sessions, key->request_id, server->now_ns);
  if (!session) return neap__fail(err, NEAP_ELIMIT, "%u requests hold leases already", NEAP_SESSIONS_MAX);
  neap__session_note(session, neap__names_model(server->engine->names, space), key, tenant);
  session->readers = NEAP_MAX(key->readers, 1u);
  session->asked_chunks = chunks;
  bool whole = neap__tier_set_count(server->engine->tiers) ||
               neap__stream_wants(server->engine->stream) & (NEAP_WANTS(MISS) | NEAP_WANTS(LEAF));
  uint32_t reach = whole ? chunks : 1;
  for (bool more = true; more; reach = more ? NEAP_MIN(reach * 4, chunks) : reach) {
    code = neap__call_prompt(server, session, key, reach, &prompt, err);
    if (code) return code;
    more = reach < chunks && has_chunk(server, key, tenant, prompt->hashes + reach - 1);
  }
  code = matrix(server, key->model, key->world_size, tenant, prompt->hashes, reach, &session->rows);
  if (code) return neap__fail(err, code, "token_ids: %u chunks are more than one lookup may ask for", chunks);
  return start_fetch(server, session, key, reach, chunks, err);
}

int neap__op_lookup(neap__server *server, neap__call *call, neap_error *err) {
  neap__ipc_key key;
  uint64_t tp_size;
  int code = neap__arg_key(call, 0, &key, err);
  /* Also a lookup that cannot be read replaces the earlier one: its answer is 0 and nothing else. */
  neap__session *session = neap__session_find(&server->sessions, key.request_id, server->now_ns);
  if (session && (key.request_id.bytes > 0 || code == 0)) neap__session_reset(&server->sessions, session);
  if (code == 0) code = neap__arg_int(call, 1, &tp_size, err);
  return code ? code : lookup(server, &key, err);
}

/* --- results ---------------------------------------------------------------------------------------------------- */

/* Is the chunk here in another layout, or for another world size, of the model? */
static bool elsewhere(neap__server *server, neap__session *session, const neap__key *asked) {
  for (uint32_t i = 0; i < server->instances.group_count; i++) {
    const neap__group *g = &server->instances.groups[i];
    if (strcmp(neap__names_model(server->engine->names, g->space), session->model) != 0) continue;
    neap__key key = *asked;
    key.space = g->space;
    key.rank = neap__rank(g->world_size, 0);
    bool present = false;
    if (key.space != asked->space || g->world_size != session->world_size)
      neap__l1_contains(server->l1, 1, &key, &present);
    if (present) return true;
  }
  return false;
}

/* The first chunk that a lookup did not find is why the rest of its prompt is not found either. */
static void note_miss(neap__server *server, neap__session *session) {
  uint32_t at = session->hit_chunks, rows = 0;
  neap__fate_entry fate = {.reason = NEAP_FATE_NEVER_SEEN};
  if (at >= session->asked_chunks || at >= session->prompt.chunks) return;
  neap__text model = {.at = session->model, .bytes = (uint32_t)strlen(session->model)};
  if (matrix(server, model, session->world_size, session->tenant, session->prompt.hashes + at, 1, &rows)) return;
  bool found = false;
  for (uint32_t r = 0; r < rows && !found; r++) {
    bool present;
    neap__l1_contains(server->l1, 1, &server->batch.keys[r], &present);
    if (!present) found = neap__fate_find(server->engine->fate, &server->batch.keys[r], &fate);
  }
  if (!found && rows && elsewhere(server, session, server->batch.keys)) fate.reason = NEAP_FATE_OTHER_LAYOUT;
  neap__fate_missed(server->engine->fate, fate.reason, session->asked_chunks - at);
}

/* False while the lookup is running. */
static bool collect(neap__server *server, neap__session *session) {
  if (!session->fetch) return true;
  if (!neap__session_collect(&server->sessions, session)) return false;
  uint64_t l1 = NEAP_MIN(session->l1_chunks, session->hit_chunks), l2 = session->hit_chunks - l1;
  NEAP_COUNT(server, lookup_hit_tokens, (uint64_t)session->hit_chunks * server->chunk_tokens);
  NEAP_COUNT(server, lookup_hit_l1_tokens, l1 * server->chunk_tokens);
  NEAP_COUNT(server, lookup_hit_l2_tokens, l2 * server->chunk_tokens);
  NEAP_COUNT(server, lookup_hit_l1_keys, l1 * session->rows);
  NEAP_COUNT(server, lookup_hit_l2_keys, l2 * session->rows);
  NEAP_COUNT(server, chunks_loaded, l2);
  if (session->hit_chunks < session->asked_chunks) note_miss(server, session);
  return true;
}

/* Writes the result, which is told once; false while it is not known. */
static bool write_result(neap__server *server, neap__session *session) {
  if (session && !collect(server, session)) return false;
  neap__write_uint(&server->out, session && session->undelivered ? session->hit_chunks : 0);
  if (session) session->undelivered = false;
  return true;
}

int neap__op_status(neap__server *server, neap__call *call, neap_error *err) {
  neap__text request_id;
  int code = neap__arg_text(call, 0, &request_id, err);
  if (code) return code;
  (void)write_result(server, neap__session_find(&server->sessions, request_id, server->now_ns));
  return 0;
}

/* Keeps the request's frames until the lookup is final or the time is over. */
static void defer(neap__server *server, neap__call *call, uint64_t session, uint64_t deadline_ns) {
  neap__waiter *waiter = &server->waiters[server->waiter_count++];
  zmq_msg_t *to[] = {&waiter->route, &waiter->uid, &waiter->op};
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(to); i++) {
    zmq_msg_init(to[i]);
    zmq_msg_move(to[i], &call->parts[i]);
  }
  waiter->session = session;
  waiter->deadline_ns = deadline_ns;
  call->silent = true;
  atomic_fetch_add(&server->bell->waiting, 1);
}

int neap__op_wait(neap__server *server, neap__call *call, neap_error *err) {
  neap__text request_id;
  neap__value timeout;
  int code = neap__arg_text(call, 0, &request_id, err);
  if (code) return code;
  if (neap__read_value(&call->args[1], &timeout) || (timeout.kind != NEAP_KIND_FLOAT && timeout.kind != NEAP_KIND_UINT))
    return neap__fail(err, NEAP_EINVAL, "timeout: expected a number of seconds");
  double seconds = timeout.kind == NEAP_KIND_UINT ? (double)timeout.number : timeout.real;
  if (isnan(seconds)) return neap__fail(err, NEAP_EINVAL, "timeout: is not a number");
  neap__session *session = neap__session_find(&server->sessions, request_id, server->now_ns);
  if (write_result(server, session) || seconds <= 0 || server->waiter_count == NEAP_WAITERS_MAX) return 0;
  seconds = NEAP_MIN(seconds, 3600.0);
  defer(server, call, session->entry.id, server->now_ns + (uint64_t)(seconds * 1e9));
  /* The lookup may have ended before its bell knew of this waiter. */
  (void)neap__waiters_serve(server);
  return 0;
}

static void waiter_reply(neap__server *server, uint32_t i) {
  neap__reply(server, &server->waiters[i].route, &server->waiters[i].uid, &server->waiters[i].op);
  server->waiters[i] = server->waiters[--server->waiter_count];
  atomic_fetch_sub(&server->bell->waiting, 1);
}

uint64_t neap__waiters_serve(neap__server *server) {
  uint64_t next_ns = UINT64_MAX;
  for (uint32_t i = server->waiter_count; i-- > 0;) {
    neap__waiter *waiter = &server->waiters[i];
    neap__writer_reset(&server->out);
    neap__entry *entry = neap__table_find(&server->sessions.requests, waiter->session, 0);
    if (write_result(server, (neap__session *)entry) || waiter->deadline_ns <= server->now_ns)
      waiter_reply(server, i);
    else
      next_ns = NEAP_MIN(next_ns, waiter->deadline_ns);
  }
  return next_ns;
}

void neap__waiters_drop(neap__server *server) {
  neap__writer_reset(&server->out);
  for (uint32_t i = server->waiter_count; i-- > 0;) waiter_reply(server, i);
}

/* --- letting go ------------------------------------------------------------------------------------------------- */

int neap__op_free(neap__server *server, neap__call *call, neap_error *err) {
  neap__ipc_key key;
  neap__prompt *prompt;
  uint64_t tp_size;
  uint32_t tenant, rows, ct = server->chunk_tokens;
  int code = neap__arg_key(call, 0, &key, err);
  if (code == 0) code = neap__arg_int(call, 1, &tp_size, err);
  if (code) return code;
  neap__session *session = neap__session_find(&server->sessions, key.request_id, server->now_ns);
  if (!session || !collect(server, session)) return 0;
  session->undelivered = false;
  uint64_t first = key.start / ct + (key.start % ct != 0), last = NEAP_MIN(key.end, key.tokens.count) / ct;
  if (!session->adopted) last = NEAP_MIN(last, session->hit_chunks);
  if (first >= last || session->holds.live == 0) return 0;
  code = neap__call_tenant(server, &key, &tenant, err);
  if (code == 0) code = neap__call_prompt(server, session, &key, (uint32_t)last, &prompt, err);
  if (code) return code;
  code = matrix(server, key.model, key.world_size, tenant, prompt->hashes + first, (uint32_t)(last - first), &rows);
  if (code) return neap__fail(err, code, "token_ids: %s", neap_strerror(code));
  for (uint32_t i = 0; i < (uint32_t)(last - first) * rows; i++) {
    neap__held *held = neap__holds_find(&session->holds, &server->batch.keys[i]);
    if (held) neap__holds_give(&session->holds, held, server->l1, NEAP_READERS_ALL);
  }
  return 0;
}

/* Touches the whole chunks of the request's last token list, the tail first, so that prefixes outlive their tails.
 * Leaves the sizes of a chunk's objects in the batch and returns how many there are; 0: there is nothing to touch. */
static uint32_t touch(neap__server *server, neap__session *session) {
  uint32_t rows, chunks = NEAP_MIN(session->chunks, session->prompt.chunks), used;
  if (!session->model || chunks == 0) return 0;
  neap__text model = {.at = session->model, .bytes = (uint32_t)strlen(session->model)};
  if (matrix(server, model, session->world_size, session->tenant, session->prompt.hashes, chunks, &rows)) return 0;
  uint32_t request = (uint32_t)session->entry.id;
  neap__key *keys = server->batch.keys;
  neap__call_tell_request(server, session);
  used = neap__session_used(session, chunks);
  for (uint32_t i = 0; i < used * rows / 2; i++) {
    neap__key swap = keys[i];
    keys[i] = keys[used * rows - 1 - i];
    keys[used * rows - 1 - i] = swap;
  }
  if (rows == 1) {
    neap__l1_touch(server->l1, used, keys, used - 1, request);
    return rows;
  }
  for (uint32_t i = 0; i < used * rows; i++) neap__l1_touch(server->l1, 1, &keys[i], used - 1 - i / rows, request);
  return rows;
}

/* The lab sees a request when it ends: what it found and what it stored, for nothing else of it can be cached. */
static void tell_lab(neap__server *server, const neap__session *session, uint32_t rows) {
  uint32_t found = session->asked_chunks ? session->hit_chunks : 0;
  neap__lab_request told = {.session = session->named,
                            .model = session->model,
                            .tenant = session->tenant,
                            .asked = session->asked_chunks,
                            .found = found,
                            .found_l1 = NEAP_MIN(session->l1_chunks, found),
                            .hashes = (const uint8_t(*)[NEAP_HASH_BYTES])session->prompt.hashes,
                            .chunks = NEAP_MIN(NEAP_MAX(found, session->stored_chunks), session->prompt.chunks)};
  if (rows == 0 || (told.chunks == 0 && told.asked == 0)) return;
  for (uint32_t r = 0; r < rows; r++) told.chunk_bytes += server->batch.bytes[r];
  neap__lab_tell(server->engine->lab, &told);
}

int neap__op_end(neap__server *server, neap__call *call, neap_error *err) {
  neap__text request_id;
  int code = neap__arg_text(call, 0, &request_id, err);
  if (code) return code;
  neap__session *session = neap__session_find(&server->sessions, request_id, server->now_ns);
  if (!session) return 0;
  (void)collect(server, session); /* a lookup that nobody asked the result of */
  tell_lab(server, session, touch(server, session));
  neap__session_end(&server->sessions, session);
  return 0;
}
