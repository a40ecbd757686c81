/* SPDX-License-Identifier: MIT
 *
 * trace/model.c - see model.h.
 *
 * Every code_ function below runs on both ends with the same state: the writer's values go in, the reader's come out.
 */
#include "trace/model.h"

#include <stdlib.h>
#include <string.h>

#define RECENT 64u         /* ends and branches of prompts that are remembered: of all sessions */
#define SESSION_RECENT 32u /* and of each */
#define SESSIONS 256u
#define ORDER (RECENT + SESSION_RECENT)
#define CLIMBED 16u /* so many of them are tried for an ancestor */
#define CLIMB_MAX 4096u
#define TENANTS_MAX 4096u

typedef struct recent { /* the latest first */
  uint32_t count, room;
  uint32_t *node;
} recent;

typedef struct session {
  uint64_t id;
  uint32_t tenant;
  recent recent;
  uint32_t nodes[SESSION_RECENT];
} session;

struct neap__model {
  neap__lineage chunks;
  uint32_t *depth, *followed;    /* [room]: length of the path; deepest known chunk, + 2, of the prompt that came when
                                    this chunk was the latest end; 0: none came */
  uint32_t room, followed_start; /* the same after a prompt without chunks */
  recent recent;
  uint32_t nodes[RECENT];
  session sessions[SESSIONS];
  uint8_t turn[SESSIONS]; /* sessions, the latest first */
  uint32_t session_count;
  char **tenants;
  uint32_t tenant_count, tenant_room;
  uint64_t last_us, last_session, last_hash;
  uint32_t last[3]; /* what the requests before were like, the latest first */
  uint64_t references, repeated;
  uint64_t *hashes; /* of the request at hand */
  uint32_t *numbers, *units;
  uint32_t request_room;
  const uint8_t *salt;
};

enum { ESC = 0, CLIMBS, RANK, CLIMB, NEW, NEXT_HASH, UNIT, SIGN, DELTA, WHO, TENANT, LENGTH, NEXT_SESSION, OUTPUT };
enum { CHAINED = OUTPUT + 1, LISTED, SIZED, LIST_COUNT, LIST_NEW, LIST_NEXT };

/* --- life --------------------------------------------------------------------------------------------------------- */

neap__model *neap__model_new(const uint8_t *salt) {
  neap__model *model = calloc(1, sizeof(*model));
  if (model) model->salt = salt;
  if (model && neap__model_reset(model, 0) != 0) {
    neap__model_free(model);
    model = NULL;
  }
  return model;
}

static void forget_tenants(neap__model *model) {
  for (uint32_t i = 0; i < model->tenant_count; i++) free(model->tenants[i]);
  model->tenant_count = 0;
}

void neap__model_free(neap__model *model) {
  if (!model) return;
  forget_tenants(model);
  free(model->tenants);
  neap__lineage_close(&model->chunks);
  free(model->depth);
  free(model->followed);
  free(model->hashes);
  free(model->numbers);
  free(model->units);
  free(model);
}

int neap__model_reset(neap__model *model, uint64_t time_us) {
  neap__lineage_close(&model->chunks);
  int rc = neap__lineage_open(&model->chunks, 0);
  if (rc != 0) return rc;
  forget_tenants(model);
  model->recent = (recent){0, RECENT, model->nodes};
  model->followed_start = 0;
  model->session_count = 0;
  model->last_us = time_us;
  model->last_session = model->last_hash = 0;
  memset(model->last, 0, sizeof(model->last));
  return 0;
}

bool neap__model_full(const neap__model *model, uint32_t chunks_max) {
  return model->chunks.count >= chunks_max || model->tenant_count >= TENANTS_MAX;
}

void neap__model_count(const neap__model *model, uint64_t *references, uint64_t *repeated) {
  *references = model->references;
  *repeated = model->repeated;
}

static int reserve_request(neap__model *model, uint32_t chunks) {
  if (chunks <= model->request_room) return 0;
  uint32_t room = 1024;
  while (room < chunks) room *= 2;
  uint64_t *hashes = realloc(model->hashes, room * sizeof(*hashes));
  if (hashes) model->hashes = hashes;
  uint32_t *numbers = realloc(model->numbers, room * sizeof(*numbers));
  if (numbers) model->numbers = numbers;
  uint32_t *units = realloc(model->units, room * sizeof(*units));
  if (units) model->units = units;
  if (!hashes || !numbers || !units) return NEAP_ENOMEM;
  memset(hashes, 0, room * sizeof(*hashes));
  memset(numbers, 0, room * sizeof(*numbers));
  memset(units, 0, room * sizeof(*units));
  model->request_room = room;
  return 0;
}

/* Adds a chunk that may be known. */
static int add_chunk(neap__model *model, uint64_t hash, uint32_t parent, uint32_t *number) {
  uint32_t before = model->chunks.count;
  int rc = neap__lineage_add(&model->chunks, hash, parent, number);
  if (rc != 0 || model->chunks.count == before) return rc;
  if (before >= model->room) {
    uint32_t room = model->chunks.room;
    uint32_t *depth = realloc(model->depth, room * sizeof(*depth));
    if (depth) model->depth = depth;
    uint32_t *followed = realloc(model->followed, room * sizeof(*followed));
    if (followed) model->followed = followed;
    if (!depth || !followed) return NEAP_ENOMEM;
    model->room = room;
  }
  model->depth[before] = parent == NEAP__NO_CHUNK ? 1 : model->depth[parent] + 1;
  model->followed[before] = 0;
  return 0;
}

static uint32_t depth_of(const neap__model *model, uint32_t node) {
  return node == NEAP__NO_CHUNK ? 0 : model->depth[node];
}

uint64_t neap__trace_salt(uint64_t hash, const uint8_t salt[NEAP_HASH_BYTES]) {
  uint8_t input[NEAP_HASH_BYTES + sizeof(hash)], output[NEAP_HASH_BYTES];
  memcpy(input, salt, NEAP_HASH_BYTES);
  for (uint32_t i = 0; i < sizeof(hash); i++) input[NEAP_HASH_BYTES + i] = (uint8_t)(hash >> 8 * i);
  neap__blake3(input, sizeof(input), output);
  memcpy(&hash, output, sizeof(hash));
  return hash;
}

/* --- who and when ------------------------------------------------------------------------------------------------- */

static void to_front(uint8_t *turn, uint32_t rank) {
  uint8_t first = turn[rank];
  memmove(turn + 1, turn, rank);
  turn[0] = first;
}

/* A name byte by byte; what the reader gets may be anything, and is checked by who uses it. */
static int code_tenant_name(neap__model *model, neap__coder *coder, const char *name) {
  char text[NEAP__TENANT_BYTES_MAX + 1] = "";
  uint64_t bytes = name ? strnlen(name, NEAP__TENANT_BYTES_MAX) : 0;
  bytes = neap__coder_number(coder, &(neap__place){NEAP_CODER_WHO, LENGTH, 1, {0}}, bytes);
  if (bytes > NEAP__TENANT_BYTES_MAX) return NEAP_ECORRUPT;
  for (uint64_t i = 0; i < bytes; i++) {
    text[i] = (char)neap__coder_raw(coder, NEAP_CODER_WHO, name ? (uint8_t)name[i] : 0, 8);
    if (text[i] == '\0') return NEAP_ECORRUPT;
  }
  if (model->tenant_count == model->tenant_room) {
    uint32_t room = model->tenant_room ? 2 * model->tenant_room : 16;
    char **tenants = realloc(model->tenants, room * sizeof(*tenants));
    if (!tenants) return NEAP_ENOMEM;
    model->tenants = tenants;
    model->tenant_room = room;
  }
  model->tenants[model->tenant_count] = strdup(text);
  return model->tenants[model->tenant_count++] ? 0 : NEAP_ENOMEM;
}

static int code_tenant(neap__model *model, neap__coder *coder, const char *name, uint32_t *tenant) {
  uint32_t at = 0;
  if (name)
    while (at < model->tenant_count && strncmp(model->tenants[at], name, NEAP__TENANT_BYTES_MAX) != 0) at++;
  uint64_t got = neap__coder_number(coder, &(neap__place){NEAP_CODER_WHO, TENANT, 1, {0}}, at);
  if (got > model->tenant_count || got > TENANTS_MAX) return name ? NEAP_ELIMIT : NEAP_ECORRUPT;
  *tenant = (uint32_t)got;
  return got == model->tenant_count ? code_tenant_name(model, coder, name) : 0;
}

static uint64_t code_session_id(neap__model *model, neap__coder *coder, uint64_t id) {
  const neap__place place = {NEAP_CODER_WHO, NEXT_SESSION, 1, {0}};
  if (neap__coder_bit(coder, &place, id == model->last_session + 1))
    id = model->last_session + 1;
  else
    id = neap__coder_word(coder, NEAP_CODER_WHO, id);
  model->last_session = id;
  return id;
}

/* The session of the request, put to the front; *rank is how far behind it was. */
static int code_who(neap__model *model, neap__coder *coder, const neap__model_request *r, session **out,
                    uint32_t *rank) {
  uint32_t at = 0, tenant = 0;
  for (; r && at < model->session_count; at++) {
    const session *s = &model->sessions[model->turn[at]];
    if (s->id == r->session && strncmp(model->tenants[s->tenant], r->tenant, NEAP__TENANT_BYTES_MAX) == 0) break;
  }
  const neap__place place = {NEAP_CODER_WHO, WHO, 3, {0, model->last[0] & 3, model->last[0] << 2 | model->last[1]}};
  uint64_t got = neap__coder_number(coder, &place, at);
  if (got > model->session_count) return NEAP_ECORRUPT;
  *rank = (uint32_t)got;
  if (got == model->session_count) {
    uint64_t id = code_session_id(model, coder, r ? r->session : 0);
    int rc = code_tenant(model, coder, r ? r->tenant : NULL, &tenant);
    if (rc != 0) return rc;
    at = NEAP_MIN(model->session_count, SESSIONS - 1); /* a full table loses the one that was silent longest */
    if (model->session_count < SESSIONS) model->turn[model->session_count++] = (uint8_t)at;
    session *s = &model->sessions[model->turn[at]];
    s->id = id;
    s->tenant = tenant;
    s->recent = (recent){0, SESSION_RECENT, s->nodes};
  } else {
    at = (uint32_t)got;
  }
  to_front(model->turn, at);
  *out = &model->sessions[model->turn[0]];
  return 0;
}

static uint64_t code_time(neap__model *model, neap__coder *coder, uint64_t time_us, uint32_t rank) {
  bool back = time_us < model->last_us;
  uint64_t ms = (back ? model->last_us - time_us : time_us - model->last_us) / 1000;
  neap__place place = {NEAP_CODER_TIME, SIGN, 2, {0, NEAP_MIN(rank, 1u)}};
  back = neap__coder_bit(coder, &place, back);
  place = (neap__place){NEAP_CODER_TIME, DELTA, 3, {back, 2 + NEAP_MIN(rank, 3u), 16 + model->last[0]}};
  ms = neap__coder_number(coder, &place, ms);
  model->last_us = back ? model->last_us - ms * 1000 : model->last_us + ms * 1000;
  return model->last_us;
}

/* --- which chunks ------------------------------------------------------------------------------------------------- */

static void note_recent(recent *list, uint32_t node) {
  uint32_t at = 0;
  while (at < list->count && list->node[at] != node) at++;
  if (at == list->count) at = list->count < list->room ? list->count++ : list->count - 1;
  memmove(list->node + 1, list->node, at * sizeof(*list->node));
  list->node[0] = node;
}

/* The nodes by which others are named: those of the session, then the rest. */
static uint32_t order_nodes(const neap__model *model, const session *s, uint32_t order[ORDER]) {
  uint32_t count = s->recent.count;
  memcpy(order, s->nodes, count * sizeof(*order));
  for (uint32_t i = 0; i < model->recent.count; i++) {
    uint32_t at = 0;
    while (at < s->recent.count && s->nodes[at] != model->nodes[i]) at++;
    if (at == s->recent.count) order[count++] = model->nodes[i];
  }
  return count;
}

static uint32_t *followed_of(neap__model *model, uint32_t node) {
  return node == NEAP__NO_CHUNK ? &model->followed_start : &model->followed[node];
}

/* How a node is named: rank in the order and how far up from there; rank ORDER: by its number. */
typedef struct named {
  uint32_t rank, climb;
} named;

static named name_node(const neap__model *model, const uint32_t *order, uint32_t count, uint32_t node) {
  for (uint32_t rank = 0; rank < count; rank++)
    if (order[rank] == node) return (named){rank, 0};
  for (uint32_t rank = 0; rank < NEAP_MIN(count, CLIMBED); rank++) {
    uint32_t at = order[rank], climb = 0, depth = depth_of(model, node);
    for (; climb < CLIMB_MAX && depth_of(model, at) > depth; climb++) at = model->chunks.parent[at];
    if (at == node) return (named){rank, climb};
  }
  return (named){ORDER, 0};
}

/* A number below `limit` without any guess. */
static int code_uniform(neap__coder *coder, neap__coder_kind kind, uint32_t limit, uint32_t *value) {
  uint32_t bits = limit > 1 ? 32u - (uint32_t)__builtin_clz(limit - 1) : 0;
  *value = (uint32_t)neap__coder_raw(coder, kind, *value, bits);
  return *value < limit ? 0 : NEAP_ECORRUPT;
}

/* The deepest known chunk of the request, `known` the number of chunks that there were before it. */
static int code_known(neap__model *model, neap__coder *coder, const session *s, uint32_t who, uint32_t known,
                      uint32_t *node, named *name) {
  uint32_t order[ORDER], count = order_nodes(model, s, order), guess = ORDER;
  uint32_t *followed = followed_of(model, count ? order[0] : NEAP__NO_CHUNK);
  for (uint32_t i = 0; *followed && i < count && guess == ORDER; i++)
    if (order[i] + 2 == *followed) guess = i;
  const uint32_t *last = model->last;
  uint32_t two = last[0] | last[1] << 8, told = NEAP_MIN(guess, 9u) << 1 | (who > 0);
  neap__place place = {NEAP_CODER_KNOWN, ESC, 5, {0, last[0], two, told << 8 | last[0], two | last[2] << 16}};
  *name = name_node(model, order, count, *node);
  if (neap__coder_bit(coder, &place, name->rank == ORDER)) {
    uint32_t number = *node + 1; /* no chunk is 0 */
    int rc = code_uniform(coder, NEAP_CODER_KNOWN, known + 1, &number);
    *node = number - 1;
    *name = (named){ORDER, 0};
    *followed = *node + 2;
    return rc;
  }
  place.name = CLIMBS;
  bool climbs = neap__coder_bit(coder, &place, name->climb > 0);
  place.name = RANK;
  for (uint32_t i = 0; i < place.count; i++) place.context[i] |= (uint32_t)climbs << 31;
  uint64_t rank = neap__coder_number(coder, &place, name->rank);
  place = (neap__place){NEAP_CODER_KNOWN, CLIMB, 2, {0, 1 + NEAP_MIN((uint32_t)rank, 3u)}};
  uint64_t climb = climbs ? neap__coder_number(coder, &place, name->climb - 1) + 1 : 0;
  if (rank >= count) return NEAP_ECORRUPT;
  *node = order[rank];
  *name = (named){(uint32_t)rank, (uint32_t)climb};
  if (climb > depth_of(model, *node)) return NEAP_ECORRUPT;
  for (; climb > 0; climb--) *node = model->chunks.parent[*node];
  *followed = *node + 2; /* where the next prompt went from here */
  return 0;
}

static int code_new_count(neap__model *model, neap__coder *coder, uint32_t node, named name, uint32_t *count) {
  uint32_t shape = NEAP_MIN(name.rank, 4u) << 1 | (name.climb > 0), one = shape << 8 | model->last[0];
  const neap__place place = {NEAP_CODER_NEW, NEW, 4, {shape, one, one << 8 | model->last[1], node}};
  uint64_t got = neap__coder_number(coder, &place, *count);
  if (got > NEAP__REQUEST_CHUNKS_MAX) return NEAP_ECORRUPT;
  *count = (uint32_t)got;
  return 0;
}

/* Hash and size of a new chunk. Hashes are random, but ids of traces count up. */
static void code_new(neap__model *model, neap__coder *coder, bool sized, uint64_t *hash, uint32_t *units) {
  if (model->salt) *hash = neap__trace_salt(*hash, model->salt);
  const neap__place next = {NEAP_CODER_HASHES, NEXT_HASH, 1, {0}}, unit = {NEAP_CODER_HASHES, UNIT, 1, {0}};
  if (neap__coder_bit(coder, &next, *hash == model->last_hash + 1))
    *hash = model->last_hash + 1;
  else
    *hash = neap__coder_word(coder, NEAP_CODER_HASHES, *hash);
  model->last_hash = *hash;
  if (sized) *units = (uint32_t)neap__coder_number(coder, &unit, *units);
}

/* --- a request ---------------------------------------------------------------------------------------------------- */

/* A request as both ends see it: numbers[i] < known or new ones in sequence. A path goes on from `node`, the last of
 * `held` known chunks; anything else is a list. */
typedef struct shape {
  uint32_t known, node, held, fresh;
  bool chained, listed, sized;
} shape;

/* Numbers the chunks of the request; new ones are there from now on. */
static int number_chunks(neap__model *model, const neap__model_request *r, shape *sh) {
  uint32_t parent = NEAP__NO_CHUNK, next = model->chunks.count;
  for (uint32_t i = 0; i < r->chunks; i++) {
    int rc = add_chunk(model, r->hashes[i], parent, &model->numbers[i]);
    if (rc != 0) return rc;
    uint32_t number = model->numbers[i];
    bool is_new = number == next;
    next += is_new;
    if (is_new)
      sh->fresh++;
    else if (sh->fresh > 0 || model->chunks.parent[number] != (i ? model->numbers[i - 1] : NEAP__NO_CHUNK))
      sh->listed = true; /* no path: a known chunk behind a new one, or behind another than its parent */
    if (!r->chained && r->chunks > 1) sh->listed = true;
    if (r->chained) parent = number;
  }
  sh->held = r->chunks - sh->fresh;
  sh->node = sh->held ? model->numbers[sh->held - 1] : NEAP__NO_CHUNK;
  return 0;
}

/* The known part of a path, from its end, and then the new part. */
static int code_path(neap__model *model, neap__coder *coder, bool reads, session *s, uint32_t who, shape *sh,
                     uint32_t *chunks) {
  named name;
  int rc = code_known(model, coder, s, who, sh->known, &sh->node, &name);
  if (rc == 0) rc = code_new_count(model, coder, sh->node, name, &sh->fresh);
  if (rc != 0) return rc;
  sh->held = depth_of(model, sh->node);
  *chunks = sh->held + sh->fresh;
  if (reads && *chunks > NEAP__REQUEST_CHUNKS_MAX) return NEAP_ECORRUPT;
  if (reads) rc = reserve_request(model, *chunks);
  uint32_t at = sh->node;
  for (uint32_t i = sh->held; reads && rc == 0 && i > 0; at = model->chunks.parent[at]) {
    model->hashes[--i] = model->chunks.hash[at];
    model->numbers[i] = at;
    model->units[i] = 0;
  }
  at = sh->node;
  for (uint32_t i = sh->held; rc == 0 && i < *chunks; i++) {
    code_new(model, coder, sh->sized, &model->hashes[i], &model->units[i]);
    uint32_t before = model->chunks.count;
    if (reads) rc = add_chunk(model, model->hashes[i], sh->chained ? at : NEAP__NO_CHUNK, &model->numbers[i]);
    if (reads && rc == 0 && model->chunks.count == before) rc = NEAP_ECORRUPT;
    at = model->numbers[i];
  }
  model->last[2] = model->last[1];
  model->last[1] = model->last[0];
  model->last[0] = NEAP_MIN(name.rank, 3u) << 3 | (name.climb > 0 ? 4u : 0u) | NEAP_MIN(sh->fresh, 2u);
  return rc;
}

static int code_list(neap__model *model, neap__coder *coder, bool reads, shape *sh, uint32_t *chunks) {
  const neap__place count = {NEAP_CODER_KNOWN, LIST_COUNT, 1, {0}}, fresh = {NEAP_CODER_KNOWN, LIST_NEW, 1, {0}},
                    follows = {NEAP_CODER_KNOWN, LIST_NEXT, 1, {0}};
  uint32_t next = sh->known, before = NEAP__NO_CHUNK;
  uint64_t got = neap__coder_number(coder, &count, *chunks);
  if (got > NEAP__REQUEST_CHUNKS_MAX) return NEAP_ECORRUPT;
  *chunks = (uint32_t)got;
  int rc = reads ? reserve_request(model, *chunks) : 0;
  for (uint32_t i = 0; i < *chunks && rc == 0; i++) {
    uint32_t *number = &model->numbers[i];
    if (neap__coder_bit(coder, &fresh, *number == next)) {
      code_new(model, coder, sh->sized, &model->hashes[i], &model->units[i]);
      if (reads) rc = add_chunk(model, model->hashes[i], sh->chained ? before : NEAP__NO_CHUNK, number);
      if (rc == 0 && *number != next++) rc = NEAP_ECORRUPT;
    } else {
      if (neap__coder_bit(coder, &follows, *number == before + 1))
        *number = before + 1;
      else
        rc = code_uniform(coder, NEAP_CODER_KNOWN, next, number);
      if (rc == 0 && *number >= next) rc = NEAP_ECORRUPT;
      if (rc == 0) model->hashes[i] = model->chunks.hash[*number];
      if (reads) model->units[i] = 0;
    }
    before = *number;
  }
  sh->fresh = next - sh->known;
  return rc;
}

/* Sizes of chunks that were known are those that they came with. */
static int code_request(neap__model *model, neap__coder *coder, const neap__model_request *in, shape *sh,
                        neap__model_request *out) {
  neap__place flag = {NEAP_CODER_KNOWN, CHAINED, 1, {0}};
  session *s = NULL;
  uint32_t who = 0;
  int rc = code_who(model, coder, in, &s, &who);
  if (rc != 0) return rc;
  out->session = s->id;
  out->tenant = model->tenants[s->tenant];
  out->time_us = code_time(model, coder, in ? in->time_us : 0, who);
  sh->chained = neap__coder_bit(coder, &flag, sh->chained);
  flag.name = LISTED;
  sh->listed = neap__coder_bit(coder, &flag, sh->listed);
  flag.name = SIZED;
  sh->sized = neap__coder_bit(coder, &flag, sh->sized);
  rc = sh->listed ? code_list(model, coder, !in, sh, &out->chunks)
                  : code_path(model, coder, !in, s, who, sh, &out->chunks);
  if (rc != 0) return rc;
  uint64_t output = neap__coder_number(coder, &(neap__place){NEAP_CODER_OUTPUT, OUTPUT, 1, {0}}, out->output_tokens);
  if (output > UINT32_MAX) return NEAP_ECORRUPT;
  out->output_tokens = (uint32_t)output;
  out->chained = sh->chained;
  uint32_t end = out->chunks ? model->numbers[out->chunks - 1] : NEAP__NO_CHUNK;
  if (!sh->listed && sh->fresh > 0) {
    note_recent(&s->recent, sh->node);
    note_recent(&model->recent, sh->node);
  }
  note_recent(&s->recent, end);
  note_recent(&model->recent, end);
  model->references += out->chunks;
  model->repeated += out->chunks - sh->fresh;
  return 0;
}

int neap__model_write(neap__model *model, neap__coder *coder, const neap__model_request *request) {
  shape sh = {.known = model->chunks.count, .chained = request->chained, .sized = request->units != NULL};
  neap__model_request in = *request;
  NEAP_ASSERT(request->chunks <= NEAP__REQUEST_CHUNKS_MAX);
  if (!in.tenant) in.tenant = "";
  int rc = reserve_request(model, in.chunks);
  if (rc == 0) rc = number_chunks(model, &in, &sh);
  if (rc != 0) return rc;
  if (in.chunks > 0) memcpy(model->hashes, in.hashes, in.chunks * sizeof(*in.hashes));
  if (in.units && in.chunks > 0) memcpy(model->units, in.units, in.chunks * sizeof(*in.units));
  neap__model_request out = in;
  return code_request(model, coder, &in, &sh, &out);
}

int neap__model_read(neap__model *model, neap__coder *coder, neap__model_request *request) {
  shape sh = {.known = model->chunks.count, .node = NEAP__NO_CHUNK};
  *request = (neap__model_request){0};
  int rc = code_request(model, coder, NULL, &sh, request);
  request->hashes = model->hashes;
  request->units = sh.sized ? model->units : NULL;
  return rc;
}
