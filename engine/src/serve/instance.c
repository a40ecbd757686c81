/* SPDX-License-Identifier: MIT
 *
 * serve/instance.c - see instance.h. */
#include "serve/instance.h"

#include <stdatomic.h>
#include <string.h>

#include "l1/l1.h"
#include "serve/writer.h"

/* --- records in the annex -------------------------------------------------------------------------------------- */

#define ANNEX_MAGIC 0x31676572706165u /* "eaprg1": first layout of these records */

typedef struct record {
  _Atomic uint32_t live; /* 1 when all other words are written; 0 before they change */
  uint32_t space, world_size, one_plane;
  uint64_t id, block_size;
  _Atomic uint64_t pinged; /* 1 after the first ping: such a worker is reaped sooner */
  uint64_t spare[3];
} record;
_Static_assert(sizeof(record) == 64, "records are shared between builds");

struct neap__annex {
  _Atomic uint64_t magic;
  uint64_t spare[7];
  record records[NEAP_INSTANCES_MAX];
};
_Static_assert(sizeof(struct neap__annex) <= NEAP_L1_ANNEX_BYTES, "the annex holds every record");

static uint32_t record_free(const neap__instances *all) {
  uint32_t i = 0;
  while (i < NEAP_INSTANCES_MAX && atomic_load_explicit(&all->annex->records[i].live, memory_order_relaxed)) i++;
  return i;
}

static void record_write(neap__instances *all, const neap__instance *instance) {
  record *r = &all->annex->records[instance->record];
  r->id = instance->entry.id;
  r->space = instance->space;
  r->world_size = instance->world_size;
  r->block_size = instance->block_size;
  r->one_plane = instance->one_plane;
  r->pinged = 0;
  atomic_store_explicit(&r->live, 1, memory_order_release);
}

/* --- slots ------------------------------------------------------------------------------------------------------ */

/* What follows the offset in every slot of this layout. */
static int write_slot_tail(neap__instance *instance, const neap__layout *layout) {
  neap__writer w = {0};
  neap__write_text(&w, "length");
  neap__write_uint(&w, layout->bytes);
  neap__write_text(&w, "shape");
  neap__write_array(&w, layout->dims);
  for (uint32_t i = 0; i < layout->dims; i++) neap__write_uint(&w, layout->shape[i]);
  neap__write_text(&w, "dtype");
  neap__write_text(&w, layout->dtype);
  int err = w.failed ? NEAP_ENOMEM : 0;
  if (!err) {
    NEAP_ASSERT(w.bytes <= NEAP_SLOT_TAIL_BYTES);
    memcpy(instance->slot_tail, w.at, w.bytes);
    instance->slot_tail_bytes = (uint32_t)w.bytes;
    instance->slot_bytes = layout->bytes;
  }
  neap__writer_free(&w);
  return err;
}

/* --- groups ----------------------------------------------------------------------------------------------------- */

static neap__group *group_find(neap__instances *all, uint32_t space, uint32_t world_size) {
  for (uint32_t i = 0; i < all->group_count; i++)
    if (all->groups[i].space == space && all->groups[i].world_size == world_size) return &all->groups[i];
  return NULL;
}

static int group_join(neap__instances *all, uint32_t space, uint32_t world_size) {
  neap__group *group = group_find(all, space, world_size);
  if (!group) {
    if (all->group_count == NEAP_GROUPS_MAX) return NEAP_ELIMIT;
    group = &all->groups[all->group_count++];
    *group = (neap__group){.space = space, .world_size = world_size};
  }
  group->instances++;
  return 0;
}

static void group_leave(neap__instances *all, uint32_t space, uint32_t world_size) {
  neap__group *group = group_find(all, space, world_size);
  if (--group->instances == 0) *group = all->groups[--all->group_count];
}

static bool space_live(const neap__instances *all, uint32_t space) {
  for (uint32_t i = 0; i < all->group_count; i++)
    if (all->groups[i].space == space) return true;
  return false;
}

uint32_t neap__instances_spaces(const neap__instances *all, neap__text model, uint32_t world_size, uint32_t *spaces,
                                uint32_t max) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < all->group_count && count < max; i++) {
    const neap__group *group = &all->groups[i];
    if (group->world_size == world_size && neap__text_is(model, neap__names_model(all->names, group->space)))
      spaces[count++] = group->space;
  }
  return count;
}

/* --- life ------------------------------------------------------------------------------------------------------- */

/* Makes the instance known in memory; the caller holds the lock and has chosen the record. */
static int instance_add(neap__instances *all, const neap__instance *like, uint64_t now_ns, neap__instance **out) {
  int err = group_join(all, like->space, like->world_size);
  if (err) return err;
  neap__instance *instance = (neap__instance *)neap__table_add(&all->table, like->entry.id, 0, now_ns);
  if (!instance) {
    group_leave(all, like->space, like->world_size);
    return NEAP_ENOMEM;
  }
  neap__entry entry = instance->entry;
  *instance = *like;
  instance->entry = entry;
  instance->seen_ns = now_ns;
  *out = instance;
  return 0;
}

static void adopt(neap__instances *all, uint32_t index, uint64_t now_ns) {
  record *r = &all->annex->records[index];
  neap__instance like = {.entry.id = r->id,
                         .space = r->space,
                         .world_size = r->world_size,
                         .record = index,
                         .block_size = (uint32_t)NEAP_MIN(r->block_size, UINT32_MAX),
                         .one_plane = r->one_plane != 0,
                         .pinged = r->pinged != 0};
  neap__instance *instance;
  if (r->space < neap__names_spaces(all->names) && r->world_size >= 1 && r->world_size <= NEAP_WORLD_MAX &&
      !neap__instances_find(all, r->id) && !write_slot_tail(&like, neap__names_layout(all->names, r->space)) &&
      !instance_add(all, &like, now_ns, &instance)) {
    NEAP_LOG_INFO("Kept registration of instance %llu (model=%s, world_size=%u)", (unsigned long long)r->id,
                  neap__names_model(all->names, r->space), r->world_size);
    return;
  }
  NEAP_LOG_WARN("dropped the registration of instance %llu: its record is damaged", (unsigned long long)r->id);
  atomic_store_explicit(&r->live, 0, memory_order_release);
}

int neap__instances_open(neap__instances *all, neap__l1 *l1, uint32_t chunk_tokens, uint64_t now_ns) {
  size_t bytes;
  memset(all, 0, sizeof(*all));
  int err = neap__table_open(&all->table, NEAP_INSTANCES_MAX, sizeof(neap__instance), NULL);
  if (err) return err;
  pthread_mutex_init(&all->lock, NULL);
  all->names = neap__l1_names(l1);
  all->chunk_tokens = chunk_tokens;
  all->annex = neap__l1_annex(l1, &bytes);
  NEAP_ASSERT(bytes >= sizeof(*all->annex));
  if (all->annex->magic != ANNEX_MAGIC) {
    if (all->annex->magic != 0) NEAP_LOG_WARN("registrations of another version are forgotten");
    memset(all->annex, 0, sizeof(*all->annex));
    atomic_store_explicit(&all->annex->magic, ANNEX_MAGIC, memory_order_release);
  }
  for (uint32_t i = 0; i < NEAP_INSTANCES_MAX; i++)
    if (atomic_load_explicit(&all->annex->records[i].live, memory_order_acquire)) adopt(all, i, now_ns);
  return 0;
}

void neap__instances_close(neap__instances *all) {
  neap__table_close(&all->table);
  pthread_mutex_destroy(&all->lock);
}

neap__instance *neap__instances_find(const neap__instances *all, uint64_t id) {
  return (neap__instance *)neap__table_find(&all->table, id, 0);
}

/* The layout that a registration describes. */
static int registration_layout(const neap__registration *reg, uint32_t chunk_tokens, neap__layout *layout,
                               neap_error *err) {
  uint64_t slots = reg->slots ? reg->slots : chunk_tokens;
  uint64_t shape[4] = {2, reg->layers, slots, reg->hidden};
  char dtype[sizeof(layout->dtype)] = "";
  if (reg->dtype.bytes >= sizeof(dtype)) return neap__fail(err, NEAP_EINVAL, "dtype_str: longer than any known dtype");
  memcpy(dtype, reg->dtype.at, reg->dtype.bytes);
  if (strlen(dtype) != reg->dtype.bytes) return neap__fail(err, NEAP_EINVAL, "dtype_str: contains a NUL");
  if (reg->one_plane) return neap__layout_init(layout, shape + 1, 3, dtype, chunk_tokens, err);
  return neap__layout_init(layout, shape, 4, dtype, chunk_tokens, err);
}

static void told_forget(neap__instances *all, uint64_t id);

int neap__instances_register(neap__instances *all, const neap__registration *reg, uint64_t now_ns, neap__instance **out,
                             bool *same, neap_error *err) {
  neap__layout layout;
  int code = registration_layout(reg, all->chunk_tokens, &layout, err);
  if (code) return code;
  neap__instance *known = neap__instances_find(all, reg->instance_id);
  if (known) {
    known->seen_ns = now_ns;
    *out = known;
    *same = known->world_size == reg->world_size &&
            neap__text_is(reg->model, neap__names_model(all->names, known->space)) &&
            neap__layout_equal(&layout, neap__names_layout(all->names, known->space));
    return NEAP_EEXIST;
  }
  neap__instance like = {.entry.id = reg->instance_id,
                         .world_size = reg->world_size,
                         .record = record_free(all),
                         .block_size = (uint32_t)NEAP_MIN(reg->block_size, UINT32_MAX),
                         .one_plane = reg->one_plane};
  if (like.record == NEAP_INSTANCES_MAX)
    return neap__fail(err, NEAP_ELIMIT, "%u instances are registered already", NEAP_INSTANCES_MAX);
  code = neap__names_space(all->names, reg->model.at, reg->model.bytes, &layout, &like.space);
  if (code) return neap__fail(err, code, "no room for another model or layout: %s", neap_strerror(code));
  code = write_slot_tail(&like, &layout);
  if (code) return neap__fail(err, code, "%s", neap_strerror(code));
  pthread_mutex_lock(&all->lock);
  code = instance_add(all, &like, now_ns, out);
  if (code == 0) record_write(all, *out);
  pthread_mutex_unlock(&all->lock);
  told_forget(all, reg->instance_id);
  return code ? neap__fail(err, code, "%s", neap_strerror(code)) : 0;
}

uint32_t neap__instances_remove(neap__instances *all, neap__instance *instance) {
  uint32_t space = instance->space;
  pthread_mutex_lock(&all->lock);
  atomic_store_explicit(&all->annex->records[instance->record].live, 0, memory_order_release);
  group_leave(all, space, instance->world_size);
  neap__table_remove(&all->table, &instance->entry);
  pthread_mutex_unlock(&all->lock);
  return space_live(all, space) ? UINT32_MAX : space;
}

/* --- pings ------------------------------------------------------------------------------------------------------ */

#define GATE_NS 30000000000u /* three heartbeats: told false, degraded for one, registers at the next */

static neap__told *told_find(neap__instances *all, uint64_t id) {
  for (uint32_t i = 0; i < NEAP_TOLD_MAX; i++)
    if (all->told[i].used && all->told[i].id == id) return &all->told[i];
  return NULL;
}

static void told_gate(neap__instances *all) {
  all->gate_until_ns = 0;
  for (uint32_t i = 0; i < NEAP_TOLD_MAX; i++)
    if (all->told[i].used) all->gate_until_ns = NEAP_MAX(all->gate_until_ns, all->told[i].gate_until_ns);
}

/* The oldest entry makes way: an id that is asked about after 256 others is told false once more. */
static void told_add(neap__instances *all, uint64_t id, uint64_t gate_until_ns) {
  neap__told *told = told_find(all, id);
  if (!told) told = &all->told[all->told_next++ % NEAP_TOLD_MAX];
  *told = (neap__told){.id = id, .gate_until_ns = gate_until_ns, .used = true};
  told_gate(all);
}

static void told_forget(neap__instances *all, uint64_t id) {
  neap__told *told = told_find(all, id);
  if (told) told->used = false;
  told_gate(all);
}

bool neap__instances_ping(neap__instances *all, uint64_t id, uint64_t now_ns) {
  neap__instance *instance = neap__instances_find(all, id);
  if (instance) {
    if (!instance->pinged)
      atomic_store_explicit(&all->annex->records[instance->record].pinged, 1, memory_order_relaxed);
    instance->pinged = true;
    instance->seen_ns = now_ns;
    return true;
  }
  if (told_find(all, id)) return true;
  told_add(all, id, now_ns + GATE_NS);
  return false;
}

void neap__instances_goodbye(neap__instances *all, uint64_t id) { told_add(all, id, 0); }

bool neap__instances_gated(const neap__instances *all, uint64_t now_ns) { return now_ns < all->gate_until_ns; }

/* --- any thread ------------------------------------------------------------------------------------------------- */

bool neap__instances_primary(neap__instances *all, neap__text model, uint32_t world_size, uint32_t *space) {
  uint32_t spaces[NEAP_SPACES_MAX];
  pthread_mutex_lock(&all->lock);
  uint32_t count = neap__instances_spaces(all, model, world_size, spaces, NEAP_SPACES_MAX);
  pthread_mutex_unlock(&all->lock);
  if (count == 0) return false;
  *space = spaces[0];
  for (uint32_t i = 0; i < count; i++)
    if (neap__names_primary(all->names, spaces[i])) *space = spaces[i];
  return true;
}

void neap__instances_each(neap__instances *all, void (*visit)(void *ctx, const neap__instance_info *info), void *ctx) {
  pthread_mutex_lock(&all->lock);
  for (neap__entry *e = all->table.oldest; e; e = e->newer) {
    const neap__instance *instance = (const neap__instance *)e;
    visit(ctx, &(neap__instance_info){.instance_id = e->id,
                                      .model = neap__names_model(all->names, instance->space),
                                      .world_size = instance->world_size,
                                      .block_size = instance->block_size,
                                      .one_plane = instance->one_plane});
  }
  pthread_mutex_unlock(&all->lock);
}
