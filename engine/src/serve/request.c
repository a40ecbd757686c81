/* SPDX-License-Identifier: MIT
 *
 * serve/request.c - see request.h. Each map has a table of its fields; a bit per field tells which were there. */
#include "serve/request.h"

#include <string.h>

#include "chunk/key.h"

/* What one field of a map holds and where it goes. */
typedef struct field {
  const char *name;
  int (*read)(neap__reader *r, void *to, neap_error *err);
  size_t offset;
  bool required;
} field;

static int read_text(neap__reader *r, void *to, neap_error *err) {
  return neap__read_text(r, to) ? neap__fail(err, NEAP_EINVAL, "expected a str") : 0;
}

static int read_u63(neap__reader *r, void *to, neap_error *err) {
  return neap__read_uint(r, INT64_MAX, to) ? neap__fail(err, NEAP_EINVAL, "expected an int in 0 .. 2^63-1") : 0;
}

static int read_u64(neap__reader *r, void *to, neap_error *err) {
  return neap__read_uint(r, UINT64_MAX, to) ? neap__fail(err, NEAP_EINVAL, "expected an int in 0 .. 2^64-1") : 0;
}

static int read_u63_or_nil(neap__reader *r, void *to, neap_error *err) {
  neap__value value;
  if (neap__read_value(r, &value)) return neap__fail(err, NEAP_EINVAL, "is cut short");
  if (value.kind == NEAP_KIND_NIL)
    value.number = 0;
  else if (value.kind != NEAP_KIND_UINT || value.number > INT64_MAX)
    return neap__fail(err, NEAP_EINVAL, "expected nil or an int in 0 .. 2^63-1");
  memcpy(to, &value.number, sizeof(value.number));
  return 0;
}

static int read_bool(neap__reader *r, void *to, neap_error *err) {
  return neap__read_bool(r, to) ? neap__fail(err, NEAP_EINVAL, "expected a bool") : 0;
}

static int read_tokens(neap__reader *r, void *to, neap_error *err) {
  return neap__read_tokens(r, to) ? neap__fail(err, NEAP_EINVAL, "expected an array of ints in 0 .. 2^32-1") : 0;
}

static int read_world(neap__reader *r, void *to, neap_error *err) {
  uint64_t v;
  if (neap__read_uint(r, UINT64_MAX, &v)) return neap__fail(err, NEAP_EINVAL, "expected an int");
  if (v == 0 || v > NEAP_WORLD_MAX)
    return neap__fail(err, NEAP_EINVAL, "is %llu; expected 1 .. %u", (unsigned long long)v, NEAP_WORLD_MAX);
  *(uint32_t *)to = (uint32_t)v;
  return 0;
}

static int read_readers(neap__reader *r, void *to, neap_error *err) {
  uint64_t v;
  if (neap__read_uint(r, UINT16_MAX, &v)) return neap__fail(err, NEAP_EINVAL, "expected an int in 0 .. 65535");
  *(uint32_t *)to = (uint32_t)v;
  return 0;
}

/* worker_id may be nil: UINT32_MAX stands for that until the whole key is known. */
static int read_worker(neap__reader *r, void *to, neap_error *err) {
  neap__value value;
  if (neap__read_value(r, &value)) return neap__fail(err, NEAP_EINVAL, "is cut short");
  if (value.kind == NEAP_KIND_NIL)
    value.number = UINT32_MAX;
  else if (value.kind != NEAP_KIND_UINT || value.number >= NEAP_WORLD_MAX)
    return neap__fail(err, NEAP_EINVAL, "expected nil or an int below the world size");
  *(uint32_t *)to = (uint32_t)value.number;
  return 0;
}

/* Reads the map in frame into *record; `fields` are in the order in which clients send them. */
static int read_record(neap__reader frame, const field *fields, uint32_t count, void *record, neap_error *err) {
  uint32_t pairs, seen = 0, expect = 0;
  if (neap__read_map(&frame, &pairs)) return neap__fail(err, NEAP_EINVAL, "expected a map");
  for (uint32_t i = 0; i < pairs; i++) {
    neap__text name;
    if (neap__read_text(&frame, &name)) return neap__fail(err, NEAP_EINVAL, "a field's name is no str");
    uint32_t f = expect;
    for (uint32_t tried = 0; tried < count && !neap__text_is(name, fields[f].name); tried++) f = (f + 1) % count;
    if (!neap__text_is(name, fields[f].name)) {
      if (neap__read_skip(&frame))
        return neap__fail(err, NEAP_EINVAL, "%.*s: is cut short", (int)NEAP_MIN(name.bytes, 64u), name.at);
      continue;
    }
    neap_error why = {{0}};
    if (fields[f].read(&frame, (char *)record + fields[f].offset, &why))
      return neap__fail(err, NEAP_EINVAL, "%s: %.200s", fields[f].name, why.text);
    seen |= 1u << f;
    expect = (f + 1) % count;
  }
  if (!neap__reader_done(&frame)) return neap__fail(err, NEAP_EINVAL, "bytes behind the map");
  for (uint32_t f = 0; f < count; f++)
    if (fields[f].required && !(seen & 1u << f)) return neap__fail(err, NEAP_EINVAL, "%s: is missing", fields[f].name);
  return 0;
}

/* One tag of the map counts, if it is a text; all else that a request brings along is passed over. */
static int read_configs(neap__reader *r, void *to, neap_error *err) {
  neap__reader at = *r;
  neap__value map, name, value;
  if (neap__read_skip(r)) return neap__fail(err, NEAP_EINVAL, "is cut short");
  if (neap__read_value(&at, &map) || map.kind != NEAP_KIND_MAP) return 0;
  for (uint64_t i = 0; i < map.number; i++) {
    neap__reader behind = at;
    if (neap__read_value(&at, &name) || neap__read_skip(&behind)) return 0;
    at = behind;
    if (neap__read_value(&at, &value) || neap__read_skip(&behind)) return 0;
    at = behind;
    if (name.kind == NEAP_KIND_STR && neap__text_is(name.text, NEAP_SESSION_TAG) && value.kind == NEAP_KIND_STR)
      *(neap__text *)to = value.text;
  }
  return 0;
}

#define KEY(name, member, read, required) \
  { name, read, offsetof(neap__ipc_key, member), required }
static const field key_fields[] = {
    KEY("model_name", model, read_text, true),
    KEY("world_size", world_size, read_world, true),
    KEY("worker_id", worker_id, read_worker, true),
    KEY("token_ids", tokens, read_tokens, true),
    KEY("start", start, read_u63, true),
    KEY("end", end, read_u63, true),
    KEY("request_id", request_id, read_text, true),
    KEY("cache_salt", salt, read_text, false),
    KEY("request_configs", session, read_configs, false),
    KEY("num_kv_readers", readers, read_readers, false),
};
#undef KEY

int neap__ipc_key_read(neap__reader frame, neap__ipc_key *key, neap_error *err) {
  *key = (neap__ipc_key){.model.at = "", .request_id.at = "", .salt.at = "", .session.at = ""};
  int code = read_record(frame, key_fields, NEAP_ARRAY_LEN(key_fields), key, err);
  if (code) return code;
  key->all_workers = key->worker_id == UINT32_MAX;
  if (key->all_workers) key->worker_id = 0;
  if (key->worker_id >= key->world_size)
    return neap__fail(err, NEAP_EINVAL, "worker_id: is %u; expected less than world_size %u", key->worker_id,
                      key->world_size);
  if (key->salt.bytes == 0) return 0;
  neap_error why = {{0}};
  if (neap__salt_check(key->salt.at, key->salt.bytes, &why))
    return neap__fail(err, NEAP_EINVAL, "cache_salt: %.300s", why.text);
  return 0;
}

#define REG(name, member, read, required) \
  { name, read, offsetof(neap__registration, member), required }
static const field registration_fields[] = {
    REG("instance_id", instance_id, read_u64, true),
    REG("model_name", model, read_text, true),
    REG("world_size", world_size, read_world, true),
    REG("block_size", block_size, read_u63, true),
    REG("num_layers", layers, read_u63, true),
    REG("hidden_dim_size", hidden, read_u63, true),
    REG("dtype_str", dtype, read_text, true),
    REG("use_mla", one_plane, read_bool, true),
    REG("num_physical_slots", slots, read_u63_or_nil, false),
};
#undef REG

int neap__registration_read(neap__reader frame, neap__registration *registration, neap_error *err) {
  *registration = (neap__registration){.model.at = "", .dtype.at = ""};
  int code = read_record(frame, registration_fields, NEAP_ARRAY_LEN(registration_fields), registration, err);
  if (code) return code;
  neap_error why = {{0}};
  if (neap__model_check(registration->model.at, registration->model.bytes, &why))
    return neap__fail(err, NEAP_EINVAL, "model_name: %.300s", why.text);
  return 0;
}

int neap__ipc_key_chunks(const neap__ipc_key *key, uint32_t chunk_tokens, uint32_t *first, uint32_t *count,
                         neap_error *err) {
  if (key->start > key->end || key->end > key->tokens.count)
    return neap__fail(err, NEAP_EINVAL, "start, end: are %llu, %llu; expected a range within %u tokens",
                      (unsigned long long)key->start, (unsigned long long)key->end, key->tokens.count);
  if (key->start % chunk_tokens || key->end % chunk_tokens)
    return neap__fail(err, NEAP_EINVAL, "start, end: are %llu, %llu; expected multiples of the chunk size %u",
                      (unsigned long long)key->start, (unsigned long long)key->end, chunk_tokens);
  *first = (uint32_t)(key->start / chunk_tokens);
  *count = (uint32_t)(key->end / chunk_tokens) - *first;
  return 0;
}
