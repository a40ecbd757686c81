/* SPDX-License-Identifier: MIT
 *
 * L1 against a model: random calls, every answer and every account compared. The model is a list of objects and a list
 * of leases, searched from end to end. */
#include "unit/l1_fixture.h"

#define KEYS 24u
#define UNITS 40u
#define SLOTS 24u
#define LEASES 200u
#define OWNERS 3u

enum { STAGED = 1, RESIDENT = 2, DOOMED = 3 };

typedef struct object {
  int state; /* 0: unused */
  uint32_t n;
  uint64_t bytes;
  bool temporary;
  uint32_t leases; /* without the writer's */
} object;

typedef struct held {
  neap__lease lease;
  uint32_t object, readers, owner; /* readers 0: the writer's */
} held;

typedef struct model {
  neap__l1 *l1;
  uint64_t seed, evicted, inserted;
  object objects[LEASES];
  held leases[LEASES];
  uint32_t lease_count;
  neap__lease stale[16];
  uint32_t stale_count;
} model;

static const neap__owner owners[OWNERS] = {{.kind = NEAP_OWNER_LOCAL},
                                           {.kind = NEAP_OWNER_REQUEST, .id = 1},
                                           {.kind = NEAP_OWNER_TRANSFER, .id = 1, .tag = 4}};

static uint64_t rounded(uint64_t bytes) { return (bytes + UNIT - 1) / UNIT * UNIT; }
static uint64_t size_of(uint32_t n) { return 1 + (uint64_t)n * 977 % (3 * UNIT); }

static object *resident(model *m, uint32_t n) {
  for (uint32_t i = 0; i < LEASES; i++)
    if (m->objects[i].state == RESIDENT && m->objects[i].n == n) return &m->objects[i];
  return NULL;
}

static object *unused_object(model *m) {
  object *o = m->objects;
  while (o->state) o++;
  assert_true(o < m->objects + LEASES);
  return o;
}

static void add_lease(model *m, neap__lease lease, const object *o, uint32_t readers, uint32_t owner) {
  assert_true(lease != NEAP_NO_LEASE && m->lease_count < LEASES);
  for (uint32_t i = 0; i < m->lease_count; i++) assert_true(m->leases[i].lease != lease);
  m->leases[m->lease_count++] =
      (held){.lease = lease, .object = (uint32_t)(o - m->objects), .readers = readers, .owner = owner};
}

/* The last reader has gone: what was removed meanwhile, or is temporary, goes too. */
static void end_lease(model *m, uint32_t i) {
  held *h = &m->leases[i];
  object *o = &m->objects[h->object];
  m->stale[m->stale_count++ % NEAP_ARRAY_LEN(m->stale)] = h->lease;
  if (h->readers && --o->leases == 0 && (o->state == DOOMED || o->temporary)) o->state = 0;
  *h = m->leases[--m->lease_count];
}

static void expel(object *o) { o->state = o->leases ? DOOMED : 0; }

static void reserve(model *m) {
  uint32_t n = random_below(&m->seed, KEYS), owner = random_below(&m->seed, OWNERS);
  uint32_t flags = random_below(&m->seed, 4);
  neap__key key = fixture_key(n);
  uint64_t bytes = size_of(n);
  neap__lease lease;
  int result;
  bool exclusive = flags & NEAP_RESERVE_EXCLUSIVE, staged = false;
  for (uint32_t i = 0; i < LEASES; i++) staged |= m->objects[i].state == STAGED && m->objects[i].n == n;
  if (m->lease_count == LEASES) return;
  int expected = resident(m, n) ? NEAP_EEXIST : exclusive && staged ? NEAP_EBUSY : 0;
  uint64_t room = fixture_stats(m->l1).largest_free_bytes;
  int rc = neap__l1_reserve(m->l1, 1, &key, &bytes, flags, &owners[owner], &lease, &result);
  if (rc) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < LEASES; i++) used += m->objects[i].state != 0;
    assert_int_equal(rc, used == SLOTS ? NEAP_ELIMIT : NEAP_ENOSPC);
    assert_true(used == SLOTS || room < rounded(bytes));
    assert_int_equal(expected, 0);
    return;
  }
  assert_int_equal(result, expected);
  assert_int_equal(lease != NEAP_NO_LEASE, expected == 0);
  if (expected) return;
  object *o = unused_object(m);
  *o = (object){.state = STAGED, .n = n, .bytes = bytes, .temporary = flags & NEAP_RESERVE_TEMPORARY};
  add_lease(m, lease, o, 0, owner);
  fixture_fill_lease(m->l1, lease, (uint64_t)(o - m->objects));
}

static void commit(model *m, uint32_t i) {
  held h = m->leases[i];
  object *o = &m->objects[h.object], *there = resident(m, o->n);
  bool won = true, pinned = random_below(&m->seed, 2), was_staged = o->state == STAGED;
  neap__lease pin = NEAP_NO_LEASE;
  uint32_t owner = random_below(&m->seed, OWNERS), readers = 1 + random_below(&m->seed, 3);
  if (h.readers) {
    assert_int_equal(neap__l1_commit(m->l1, h.lease, &won, &owners[owner], readers, &pin), NEAP_ESTALE);
    return;
  }
  int rc = neap__l1_commit(m->l1, h.lease, &won, &owners[owner], readers, pinned ? &pin : NULL);
  assert_int_equal(rc, was_staged ? 0 : NEAP_ESTALE);
  assert_int_equal(won, was_staged && !there);
  o->state = won ? RESIDENT : 0;
  m->inserted += won;
  end_lease(m, i);
  if (!was_staged || !pinned) return;
  if (won) there = o;
  if (!won && there == o) fail();
  there->leases++;
  add_lease(m, pin, there, readers, owner);
}

static void abort_one(model *m, uint32_t i) {
  held h = m->leases[i];
  object *o = &m->objects[h.object];
  int expected = h.readers == 0 && o->state == STAGED ? 0 : NEAP_ESTALE;
  assert_int_equal(neap__l1_abort(m->l1, h.lease), expected);
  if (h.readers) return;
  o->state = 0;
  end_lease(m, i);
}

static void release(model *m, uint32_t i) {
  held *h = &m->leases[i];
  uint32_t readers = random_below(&m->seed, 4) ? 1 + random_below(&m->seed, 2) : UINT32_MAX;
  assert_int_equal(neap__l1_release(m->l1, h->lease, readers), h->readers ? 0 : NEAP_ESTALE);
  if (!h->readers) return;
  if (readers < h->readers)
    h->readers -= readers;
  else
    end_lease(m, i);
}

static void acquire(model *m) {
  uint32_t count = 1 + random_below(&m->seed, 4), owner = random_below(&m->seed, OWNERS), expected = 0, ns[4];
  uint32_t readers = 1 + random_below(&m->seed, 3);
  bool stop = random_below(&m->seed, 2), stopped = false;
  neap__key keys[4];
  neap__lease leases[4];
  if (m->lease_count + count > LEASES) return;
  for (uint32_t i = 0; i < count; i++) keys[i] = fixture_key(ns[i] = random_below(&m->seed, KEYS));
  int got = neap__l1_acquire(m->l1, count, keys, &owners[owner], readers, stop, leases);
  for (uint32_t i = 0; i < count; i++) {
    object *o = resident(m, ns[i]);
    stopped |= stop && !o;
    assert_int_equal(leases[i] != NEAP_NO_LEASE, o && !stopped);
    if (!o || stopped) continue;
    o->leases++;
    expected++;
    add_lease(m, leases[i], o, readers, owner);
  }
  assert_int_equal(got, expected);
}

static void evict(model *m) {
  uint32_t n = random_below(&m->seed, KEYS);
  object *o = resident(m, n);
  if (!o || (o->temporary && !o->leases)) return; /* looking for its slot would end it */
  uint32_t slot = fixture_slot(m->l1, n);
  assert_int_equal(neap__l1_evict(m->l1, slot), o->leases ? NEAP_EBUSY : (int64_t)rounded(o->bytes));
  if (o->leases) return;
  m->evicted++;
  o->state = 0;
}

static void remove_one(model *m) {
  uint32_t n = random_below(&m->seed, KEYS);
  bool force = random_below(&m->seed, 2);
  neap__key key = fixture_key(n);
  object *o = resident(m, n);
  int expected = !o ? NEAP_ENOENT : o->leases && !force ? NEAP_EBUSY : 0;
  assert_int_equal(neap__l1_remove(m->l1, &key, force), expected);
  if (!expected) expel(o);
}

static void clear(model *m) {
  bool force = random_below(&m->seed, 2);
  uint32_t expected = 0;
  for (object *o = m->objects; o < m->objects + LEASES; o++) {
    if (o->state == STAGED && force) o->state = DOOMED;
    if (o->state != RESIDENT || (o->leases && !force)) continue;
    expected++;
    expel(o);
  }
  assert_int_equal(neap__l1_clear(m->l1, force), expected);
}

static void drop(model *m) {
  uint32_t owner = 1 + random_below(&m->seed, OWNERS - 1), expected = 0;
  for (uint32_t i = m->lease_count; i-- > 0;) {
    if (m->leases[i].owner != owner) continue;
    if (!m->leases[i].readers) m->objects[m->leases[i].object].state = 0;
    end_lease(m, i);
    expected++;
  }
  assert_int_equal(neap__l1_drop_owner(m->l1, owners[owner].kind, owners[owner].id), expected);
}

static void compare(model *m) {
  uint64_t used = 0, staged_bytes = 0, tenants[TENANTS] = {0};
  uint32_t residents = 0, staged = 0, temporary = 0, leased = 0;
  for (const object *o = m->objects; o < m->objects + LEASES; o++) {
    if (!o->state) continue;
    used += rounded(o->bytes);
    if (o->state == STAGED) staged++, staged_bytes += rounded(o->bytes);
    if (o->state != RESIDENT) continue;
    residents++;
    temporary += o->temporary;
    leased += o->leases > 0;
    tenants[o->n % TENANTS] += rounded(o->bytes);
  }
  neap__l1_stats stats = fixture_stats(m->l1);
  assert_int_equal(stats.used_bytes, used);
  assert_int_equal(stats.staged_bytes, staged_bytes);
  assert_int_equal(stats.objects, residents);
  assert_int_equal(stats.staged, staged);
  assert_int_equal(stats.temporary, temporary);
  assert_int_equal(stats.leased, leased);
  assert_int_equal(stats.leases_used, m->lease_count);
  assert_int_equal(stats.evicted_objects, m->evicted);
  assert_int_equal(stats.inserted_objects, m->inserted);
  for (uint32_t i = 0; i < TENANTS; i++) assert_int_equal(neap__l1_tenant_bytes(m->l1, i), tenants[i]);
  fixture_check(m->l1);
}

/* Every lease shows its own object's bytes, every handle that ended is stale. */
static void look_at_leases(model *m) {
  neap__view view;
  for (uint32_t i = 0; i < m->lease_count; i++) {
    const object *o = &m->objects[m->leases[i].object];
    neap__key key = fixture_key(o->n);
    assert_int_equal(neap__l1_view(m->l1, m->leases[i].lease, &view), 0);
    assert_memory_equal(&view.key, &key, sizeof key);
    assert_int_equal(view.bytes, o->bytes);
    assert_true(fixture_holds(&view, m->leases[i].object));
  }
  for (uint32_t i = 0; i < NEAP_MIN(m->stale_count, NEAP_ARRAY_LEN(m->stale)); i++)
    assert_int_equal(neap__l1_view(m->l1, m->stale[i], &view), NEAP_ESTALE);
}

static void step(model *m) {
  uint32_t dice = random_below(&m->seed, 100), i = m->lease_count ? random_below(&m->seed, m->lease_count) : 0;
  if (dice < 30)
    reserve(m);
  else if (dice < 45)
    acquire(m);
  else if (dice < 52)
    evict(m);
  else if (dice < 57)
    remove_one(m);
  else if (dice < 58)
    clear(m);
  else if (dice < 60)
    drop(m);
  else if (m->lease_count && dice < 78)
    commit(m, i);
  else if (m->lease_count && dice < 82)
    abort_one(m, i);
  else if (m->lease_count)
    release(m, i);
  compare(m);
}

static void random_calls_agree_with_a_model(void **state) {
  static model m;
  (void)state;
  uint64_t seed = random_seed("l1_model");
  for (int round = 0; round < 8; round++) {
    neap__l1_config config = fixture_config(UNITS, SLOTS);
    m = (model){.l1 = fixture_open(&config, NULL), .seed = random_next(&seed)};
    for (int i = 0; i < 2500; i++) {
      step(&m);
      if (i % 16 == 0) look_at_leases(&m);
    }
    while (m.lease_count) {
      if (!m.leases[0].readers)
        abort_one(&m, 0);
      else
        release(&m, 0);
    }
    compare(&m);
    finish_units(m.l1);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_calls_agree_with_a_model),
  };
  return cmocka_run_group_tests_name("l1_model", tests, NULL, NULL);
}
