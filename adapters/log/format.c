/* SPDX-License-Identifier: MIT
 *
 * format.c - makes and checks the bytes of format.h. Nothing here reads or writes files. What is read is not trusted:
 * each length is compared with the bytes that are there before it is used. */
#include "format.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* --- segment and record headers -------------------------------------------------------------------------------- */

static uint32_t crc_of(const neap_host *host, const void *data, size_t bytes) { return host->crc32c(0, data, bytes); }

void neap__ls_segment_header_make(const neap_host *host, neap__ls_segment_header *header, uint32_t number,
                                  uint64_t salt, uint64_t created_s) {
  *header = (neap__ls_segment_header){.magic = NEAP__LS_SEGMENT_MAGIC,
                                      .salt = salt,
                                      .version = NEAP__LS_VERSION,
                                      .number = number,
                                      .created_s = created_s};
  header->crc = crc_of(host, header, offsetof(neap__ls_segment_header, crc));
}

bool neap__ls_segment_header_ok(const neap_host *host, const neap__ls_segment_header *header, uint32_t number) {
  return header->magic == NEAP__LS_SEGMENT_MAGIC && header->version == NEAP__LS_VERSION && header->number == number &&
         header->crc == crc_of(host, header, offsetof(neap__ls_segment_header, crc));
}

bool neap__ls_object_header_make(uint8_t block[NEAP__LS_BLOCK], const neap_object_key *key, uint64_t bytes,
                                 uint32_t crc, uint32_t written_s, neap__ls_tomb replaces) {
  size_t model = strlen(key->model), salt = strlen(key->salt);
  if (model > NEAP_MODEL_BYTES_MAX || salt > NEAP_SALT_BYTES_MAX) return false;
  neap__ls_record_header h = {.magic = NEAP__LS_RECORD_MAGIC,
                              .version = NEAP__LS_VERSION,
                              .type = NEAP__LS_OBJECT,
                              .header_bytes = (uint32_t)(sizeof(h) + model + salt),
                              .payload_bytes = bytes,
                              .payload_crc = crc,
                              .written_s = written_s,
                              .rank = key->rank,
                              .group = key->group,
                              .model_bytes = (uint16_t)model,
                              .salt_bytes = (uint16_t)salt,
                              .replaces = replaces};
  memcpy(h.hash, key->hash, NEAP_HASH_BYTES);
  memset(block, 0, NEAP__LS_BLOCK);
  memcpy(block, &h, sizeof(h));
  memcpy(block + sizeof(h), key->model, model);
  memcpy(block + sizeof(h) + model, key->salt, salt);
  return true;
}

void neap__ls_tombs_header_make(uint8_t block[NEAP__LS_BLOCK], const neap__ls_tomb *tombs, uint32_t count,
                                uint32_t written_s) {
  neap__ls_record_header h = {.magic = NEAP__LS_RECORD_MAGIC,
                              .version = NEAP__LS_VERSION,
                              .type = NEAP__LS_TOMBSTONES,
                              .header_bytes = (uint32_t)(sizeof(h) + count * sizeof(*tombs)),
                              .written_s = written_s,
                              .tombs = count};
  memset(block, 0, NEAP__LS_BLOCK);
  memcpy(block, &h, sizeof(h));
  memcpy(block + sizeof(h), tombs, count * sizeof(*tombs));
}

static uint32_t record_crc(const neap_host *host, const uint8_t *block, uint32_t header_bytes) {
  size_t from = offsetof(neap__ls_record_header, version);
  return crc_of(host, block + from, header_bytes - from);
}

void neap__ls_record_header_place(const neap_host *host, uint8_t block[NEAP__LS_BLOCK], uint64_t salt,
                                  uint64_t offset) {
  neap__ls_record_header h;
  memcpy(&h, block, sizeof(h));
  h.salt = salt;
  h.offset = offset;
  memcpy(block, &h, sizeof(h));
  h.crc = record_crc(host, block, h.header_bytes);
  memcpy(block, &h, sizeof(h));
}

bool neap__ls_record_header_ok(const neap_host *host, const uint8_t block[NEAP__LS_BLOCK], uint64_t *salt,
                               uint64_t offset) {
  neap__ls_record_header h;
  memcpy(&h, block, sizeof(h));
  if (h.magic != NEAP__LS_RECORD_MAGIC || h.version != NEAP__LS_VERSION || h.offset != offset) return false;
  if (h.header_bytes < sizeof(h) || h.header_bytes > NEAP__LS_BLOCK || (*salt && h.salt != *salt)) return false;
  uint64_t tail = h.header_bytes - sizeof(h);
  bool object = h.type == NEAP__LS_OBJECT && tail == (uint64_t)h.model_bytes + h.salt_bytes && h.model_bytes > 0 &&
                h.model_bytes <= NEAP_MODEL_BYTES_MAX && h.salt_bytes <= NEAP_SALT_BYTES_MAX &&
                h.payload_bytes <= NEAP__LS_BYTES_MAX;
  bool tombs = h.type == NEAP__LS_TOMBSTONES && tail == (uint64_t)h.tombs * sizeof(neap__ls_tomb) && !h.payload_bytes;
  if ((!object && !tombs) || h.crc != record_crc(host, block, h.header_bytes)) return false;
  *salt = h.salt;
  return true;
}

neap_object_key neap__ls_record_key(const uint8_t block[NEAP__LS_BLOCK], char *strings) {
  neap__ls_record_header h;
  memcpy(&h, block, sizeof(h));
  memcpy(strings, block + sizeof(h), h.model_bytes);
  strings[h.model_bytes] = 0;
  char *salt = strings + h.model_bytes + 1;
  memcpy(salt, block + sizeof(h) + h.model_bytes, h.salt_bytes);
  salt[h.salt_bytes] = 0;
  neap_object_key key = {.model = strings, .salt = salt, .rank = h.rank, .group = h.group};
  memcpy(key.hash, h.hash, NEAP_HASH_BYTES);
  return key;
}

/* --- footers --------------------------------------------------------------------------------------------------- */

static uint64_t spaces_bytes(const neap__ls_index *ix) {
  uint64_t bytes = 0;
  for (uint32_t id = 1; id <= ix->spaces_top; id++)
    if (ix->spaces[id].model)
      bytes += sizeof(neap__ls_footer_space) + strlen(ix->spaces[id].model) + strlen(ix->spaces[id].salt) + 2;
  return bytes;
}

/* All spaces that are in use, in the order of their ids; numbers[id] is the place in the footer. */
static uint8_t *put_spaces(uint8_t *at, const neap__ls_index *ix, uint32_t *numbers, uint32_t *count) {
  for (uint32_t id = 1; id <= ix->spaces_top; id++) {
    const neap__ls_space *s = &ix->spaces[id];
    if (!s->model) continue;
    size_t model = strlen(s->model), salt = strlen(s->salt);
    neap__ls_footer_space space = {s->rank, s->group, (uint16_t)model, (uint16_t)salt};
    memcpy(at, &space, sizeof(space));
    memcpy(at + sizeof(space), s->model, model + 1);
    memcpy(at + sizeof(space) + model + 1, s->salt, salt + 1);
    at += sizeof(space) + model + salt + 2;
    numbers[id] = (*count)++;
  }
  return at;
}

static uint8_t *put_entries(uint8_t *at, const neap__ls_index *ix, const neap__ls_segment *segment,
                            const uint32_t *numbers, uint32_t *count) {
  for (uint32_t id = 1; id <= ix->top && *count < segment->live_count; id++) {
    const neap__ls_entry *e = neap__ls_entry_at(ix, id);
    if (e->state != NEAP__LS_LIVE || e->segment != segment->slot) continue;
    neap__ls_footer_entry entry = {
        .space = numbers[e->space], .block = e->block, .bytes = e->bytes, .crc = e->crc, .used_s = e->used_s};
    memcpy(entry.hash, e->hash, NEAP_HASH_BYTES);
    memcpy(at, &entry, sizeof(entry));
    at += sizeof(entry);
    (*count)++;
  }
  return at;
}

uint8_t *neap__ls_footer_make(neap__ls *ls, const neap__ls_segment *segment, uint64_t *bytes) {
  neap__ls_trailer t = {.magic = NEAP__LS_FOOTER_MAGIC,
                        .salt = segment->salt,
                        .offset = segment->end,
                        .number = segment->number,
                        .version = NEAP__LS_VERSION,
                        .tombs = segment->tombs.count};
  uint64_t tombs = (uint64_t)segment->tombs.count * sizeof(neap__ls_tomb);
  uint64_t most = segment->live_count * sizeof(neap__ls_footer_entry) + spaces_bytes(&ls->index) + tombs;
  *bytes = neap__ls_up(most + sizeof(t));
  uint8_t *footer = aligned_alloc(NEAP__LS_BLOCK, *bytes);
  uint32_t *numbers = calloc(ls->index.spaces_top + 1u, sizeof(*numbers));
  if (footer && numbers) {
    memset(footer, 0, *bytes);
    uint8_t *at = put_spaces(footer, &ls->index, numbers, &t.spaces);
    at = put_entries(at, &ls->index, segment, numbers, &t.entries);
    if (tombs) memcpy(at, segment->tombs.at, tombs);
    t.bytes = (uint64_t)(at - footer) + tombs;
    t.footer_crc = crc_of(ls->host, footer, t.bytes);
    t.crc = crc_of(ls->host, &t, offsetof(neap__ls_trailer, crc));
    memcpy(footer + *bytes - sizeof(t), &t, sizeof(t));
  } else {
    free(footer);
    footer = NULL;
  }
  free(numbers);
  return footer;
}

bool neap__ls_trailer_ok(const neap_host *host, const neap__ls_trailer *t, uint32_t number, uint64_t file_bytes) {
  return t->magic == NEAP__LS_FOOTER_MAGIC && t->version == NEAP__LS_VERSION && t->number == number && t->salt &&
         t->crc == crc_of(host, t, offsetof(neap__ls_trailer, crc)) && t->offset % NEAP__LS_BLOCK == 0 &&
         t->offset >= NEAP__LS_BLOCK && t->bytes <= file_bytes && t->offset <= file_bytes - t->bytes &&
         t->offset + neap__ls_up(t->bytes + sizeof(*t)) == file_bytes;
}

static const uint8_t *get_spaces(const uint8_t *at, uint64_t left, uint32_t count, neap_object_key *out) {
  for (uint32_t i = 0; i < count; i++) {
    neap__ls_footer_space space;
    if (left < sizeof(space)) return NULL;
    memcpy(&space, at, sizeof(space));
    uint64_t bytes = sizeof(space) + space.model_bytes + space.salt_bytes + 2u;
    const char *model = (const char *)at + sizeof(space), *salt = model + space.model_bytes + 1;
    if (space.model_bytes == 0 || space.model_bytes > NEAP_MODEL_BYTES_MAX || space.salt_bytes > NEAP_SALT_BYTES_MAX ||
        left < bytes || strnlen(model, space.model_bytes + 1u) != space.model_bytes ||
        strnlen(salt, space.salt_bytes + 1u) != space.salt_bytes)
      return NULL;
    out[i] = (neap_object_key){.model = model, .salt = salt, .rank = space.rank, .group = space.group};
    at += bytes;
    left -= bytes;
  }
  return at;
}

bool neap__ls_footer_read(const neap_host *host, const neap__ls_trailer *t, const uint8_t *bytes,
                          neap__ls_footer *out) {
  uint64_t entries = (uint64_t)t->entries * sizeof(neap__ls_footer_entry);
  uint64_t tombs = (uint64_t)t->tombs * sizeof(neap__ls_tomb);
  *out = (neap__ls_footer){.entries_count = t->entries, .tombs_count = t->tombs, .spaces_count = t->spaces};
  if (t->footer_crc != crc_of(host, bytes, t->bytes) || t->spaces > t->bytes / sizeof(neap__ls_footer_space))
    return false;
  out->spaces = calloc(t->spaces + 1u, sizeof(*out->spaces));
  out->entries = out->spaces ? get_spaces(bytes, t->bytes, t->spaces, out->spaces) : NULL;
  if (!out->entries || (uint64_t)(out->entries - bytes) + entries + tombs != t->bytes) {
    free(out->spaces);
    out->spaces = NULL;
    return false;
  }
  out->tombs = out->entries + entries;
  return true;
}
