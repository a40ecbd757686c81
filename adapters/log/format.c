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

/* A footer in the making: entries copied from the index, and the spaces they use, in the order of first use. */
typedef struct footer_draft {
  neap__ls_footer_entry *entries;
  uint32_t count, cap;
  uint32_t *numbers; /* by id of a space: its place in the footer plus 1; 0: not used */
  uint32_t *used, used_count;
  uint32_t spaces_cap;
} footer_draft;

static bool draft_open(neap__ls *ls, const neap__ls_segment *segment, footer_draft *d) {
  pthread_mutex_lock(&ls->lock);
  *d = (footer_draft){.cap = segment->live_count, .spaces_cap = ls->index.spaces_top + 1u};
  pthread_mutex_unlock(&ls->lock);
  d->entries = malloc((d->cap + 1u) * sizeof(*d->entries));
  d->numbers = calloc(d->spaces_cap, sizeof(*d->numbers));
  d->used = calloc(d->spaces_cap, sizeof(*d->used));
  return d->entries && d->numbers && d->used;
}

/* Lock held. */
static void draft_add(neap__ls_index *ix, footer_draft *d, const neap__ls_entry *e) {
  if (d->numbers[e->space] == 0) {
    neap__ls_space_ref(ix, e->space); /* so that it stays what it is until the footer is made */
    d->used[d->used_count++] = e->space;
    d->numbers[e->space] = d->used_count;
  }
  neap__ls_footer_entry *entry = &d->entries[d->count++];
  *entry = (neap__ls_footer_entry){
      .space = d->numbers[e->space] - 1, .block = e->block, .bytes = e->bytes, .crc = e->crc, .used_s = e->used_s};
  memcpy(entry->hash, e->hash, NEAP_HASH_BYTES);
}

/* A page of entries at a time, so that nobody waits long for the lock. */
static void draft_fill(neap__ls *ls, const neap__ls_segment *segment, footer_draft *d) {
  bool more = d->cap > 0;
  for (uint32_t first = 1; more; first += NEAP__LS_PAGE) {
    pthread_mutex_lock(&ls->lock);
    uint32_t top = ls->index.top;
    for (uint32_t id = first; id <= top && id < first + NEAP__LS_PAGE && d->count < d->cap; id++) {
      const neap__ls_entry *e = neap__ls_entry_at(&ls->index, id);
      if (e->state == NEAP__LS_LIVE && e->segment == segment->slot) draft_add(&ls->index, d, e);
    }
    pthread_mutex_unlock(&ls->lock);
    more = d->count < d->cap && first + NEAP__LS_PAGE <= top;
  }
}

static uint64_t spaces_bytes(const neap__ls_index *ix, const footer_draft *d) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < d->used_count; i++) {
    const neap__ls_space *s = &ix->spaces[d->used[i]];
    bytes += sizeof(neap__ls_footer_space) + strlen(s->model) + strlen(s->salt) + 2;
  }
  return bytes;
}

static uint8_t *put_space(uint8_t *at, const neap__ls_space *s) {
  size_t model = strlen(s->model), salt = strlen(s->salt);
  neap__ls_footer_space space = {s->rank, s->group, (uint16_t)model, (uint16_t)salt};
  memcpy(at, &space, sizeof(space));
  memcpy(at + sizeof(space), s->model, model + 1);
  memcpy(at + sizeof(space) + model + 1, s->salt, salt + 1);
  return at + sizeof(space) + model + salt + 2;
}

/* Lock held; lets go of the spaces. */
static uint8_t *draft_write(neap__ls *ls, const neap__ls_segment *segment, const footer_draft *d, uint64_t *bytes) {
  uint64_t entries = (uint64_t)d->count * sizeof(*d->entries);
  uint64_t tombs = (uint64_t)segment->tombs.count * sizeof(neap__ls_tomb);
  neap__ls_trailer t = {.magic = NEAP__LS_FOOTER_MAGIC,
                        .salt = segment->salt,
                        .offset = segment->end,
                        .bytes = spaces_bytes(&ls->index, d) + entries + tombs,
                        .number = segment->number,
                        .version = NEAP__LS_VERSION,
                        .entries = d->count,
                        .spaces = d->used_count,
                        .tombs = segment->tombs.count};
  *bytes = neap__ls_up(t.bytes + sizeof(t));
  uint8_t *footer = calloc(1, *bytes), *at = footer;
  for (uint32_t i = 0; i < d->used_count; i++) {
    if (footer) at = put_space(at, &ls->index.spaces[d->used[i]]);
    neap__ls_space_unref(&ls->index, d->used[i]);
  }
  if (!footer) return NULL;
  memcpy(at, d->entries, entries);
  if (tombs) memcpy(at + entries, segment->tombs.at, tombs);
  t.footer_crc = crc_of(ls->host, footer, t.bytes);
  t.crc = crc_of(ls->host, &t, offsetof(neap__ls_trailer, crc));
  memcpy(footer + *bytes - sizeof(t), &t, sizeof(t));
  return footer;
}

uint8_t *neap__ls_footer_make(neap__ls *ls, const neap__ls_segment *segment, uint64_t *bytes) {
  footer_draft d;
  uint8_t *footer = NULL;
  if (draft_open(ls, segment, &d)) {
    draft_fill(ls, segment, &d);
    pthread_mutex_lock(&ls->lock);
    footer = draft_write(ls, segment, &d, bytes);
    pthread_mutex_unlock(&ls->lock);
  }
  free(d.entries);
  free(d.numbers);
  free(d.used);
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
