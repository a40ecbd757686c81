/* SPDX-License-Identifier: MIT
 *
 * chunk/names.c - the tables of spaces and tenants.
 *
 *   given memory, survives the process         private memory, rebuilt at open
 *   +--------+-----------+------------------+  +---------------------------------+---------------------------+
 *   | header | 256 model | 65536 salts      |  | hash table: salt -> tenant + 1  | is the space the first of |
 *   | counts | + layout  |                  |  | (linear probing, nothing leaves)| its model?                |
 *   +--------+-----------+------------------+  +---------------------------------+---------------------------+
 *
 * A record is written first and counted last, with release order: what a kill leaves behind the count is not there and
 * is written over. Readers look at counted records only and take no lock; writers take one mutex. One process at a
 * time uses the memory; seeing to that is the business of its owner. */
#include "chunk/names.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "chunk/tokens.h"

#define MAGIC 0x316d616e7061656eu /* "neapnam1"; the digit changes with the records */
#define SLOTS (2 * NEAP_TENANTS_MAX)
#define DIMENSION_MAX (UINT64_C(1) << 31)

typedef struct space_record {
  neap__layout layout;
  char model[NEAP_MODEL_BYTES_MAX + 1];
} space_record;

typedef struct tenant_record {
  char salt[NEAP_SALT_BYTES_MAX + 8];
} tenant_record;

typedef struct names_memory {
  _Atomic uint64_t magic; /* 0 until the tables are ready for their first use */
  _Atomic uint32_t spaces;
  _Atomic uint32_t tenants; /* at least 1 */
  uint8_t unused[4096 - 16];
  space_record space[NEAP_SPACES_MAX];
  tenant_record tenant[NEAP_TENANTS_MAX];
} names_memory;

_Static_assert(sizeof(neap__layout) == 80, "no padding: layouts are compared by memcmp");
_Static_assert(sizeof(names_memory) % 4096 == 0, "whole pages");

struct neap__names {
  names_memory *memory;
  pthread_mutex_t write_lock;
  bool primary[NEAP_SPACES_MAX];
  _Atomic uint32_t slots[SLOTS]; /* tenant + 1, or 0 for an empty slot */
};

/* --- layouts ----------------------------------------------------------------------------------------------------- */

static const struct {
  const char *name;
  uint32_t bytes;
} dtypes[] = {
    {"bfloat16", 2},       {"float16", 2},
    {"float32", 4},        {"float64", 8},
    {"float8_e4m3fn", 1},  {"float8_e4m3fnuz", 1},
    {"float8_e5m2", 1},    {"float8_e5m2fnuz", 1},
    {"float8_e8m0fnu", 1}, {"bool", 1},
    {"int8", 1},           {"int16", 2},
    {"int32", 4},          {"int64", 8},
    {"uint8", 1},          {"uint16", 2},
    {"uint32", 4},         {"uint64", 8},
};

static int dtype_find(const char *dtype, uint64_t *bytes, neap_error *err) {
  const char *names[NEAP_ARRAY_LEN(dtypes)];

  for (size_t i = 0; i < NEAP_ARRAY_LEN(dtypes); i++) {
    names[i] = dtypes[i].name;
    if (strcmp(dtype, dtypes[i].name) == 0) {
      *bytes = dtypes[i].bytes;
      return 0;
    }
  }
  const char *near = neap__nearest(dtype, names, NEAP_ARRAY_LEN(names));
  return neap__fail(err, NEAP_EINVAL, "dtype is '%.64s'; expected a torch dtype such as '%s'", dtype,
                    near ? near : names[0]);
}

int neap__layout_init(neap__layout *layout, const uint64_t *shape, uint32_t dims, const char *dtype,
                      uint32_t chunk_tokens, neap_error *err) {
  neap__layout made = {.dims = dims, .chunk_tokens = chunk_tokens};
  if (dims < 1 || dims > NEAP_ARRAY_LEN(made.shape))
    return neap__fail(err, NEAP_EINVAL, "shape has %u dimensions; expected 1 to 4", dims);
  if (chunk_tokens < 1 || chunk_tokens > NEAP_CHUNK_TOKENS_MAX)
    return neap__fail(err, NEAP_EINVAL, "chunk_size is %u; expected 1 to %u", chunk_tokens, NEAP_CHUNK_TOKENS_MAX);
  if (dtype_find(dtype, &made.bytes, err) != 0) return NEAP_EINVAL;

  for (uint32_t i = 0; i < dims; i++) {
    if (shape[i] < 1 || shape[i] > DIMENSION_MAX)
      return neap__fail(err, NEAP_EINVAL, "shape[%u] is %llu; expected 1 to %llu", i, (unsigned long long)shape[i],
                        (unsigned long long)DIMENSION_MAX);
    if (__builtin_mul_overflow(made.bytes, shape[i], &made.bytes))
      return neap__fail(err, NEAP_EINVAL, "shape has more bytes than 64 bits can count; expected a chunk's shape");
    made.shape[i] = shape[i];
  }
  memcpy(made.dtype, dtype, strlen(dtype));
  *layout = made;
  return 0;
}

bool neap__layout_equal(const neap__layout *a, const neap__layout *b) { return memcmp(a, b, sizeof(*a)) == 0; }

/* --- lookup ------------------------------------------------------------------------------------------------------ */

static bool text_equal(const char *stored, const char *text, size_t bytes) {
  return memcmp(stored, text, bytes) == 0 && stored[bytes] == '\0';
}

/* True if salt is in the table; slot is where it is, or where it would go. */
static bool tenant_slot(neap__names *names, const char *salt, size_t bytes, uint32_t *slot, uint32_t *tenant) {
  uint32_t i = (uint32_t)(neap__hash64(salt, bytes, 0) % SLOTS);

  for (;; i = (i + 1) % SLOTS) {
    uint32_t number = atomic_load_explicit(&names->slots[i], memory_order_acquire);
    *slot = i;
    if (number == 0) return false;
    if (text_equal(names->memory->tenant[number - 1].salt, salt, bytes)) {
      *tenant = number - 1;
      return true;
    }
  }
}

static bool space_find(const names_memory *memory, uint32_t count, const char *model, size_t bytes,
                       const neap__layout *layout, uint32_t *space) {
  for (uint32_t i = 0; i < count; i++) {
    const space_record *record = &memory->space[i];
    if (neap__layout_equal(&record->layout, layout) && text_equal(record->model, model, bytes)) {
      *space = i;
      return true;
    }
  }
  return false;
}

static bool space_is_first(const names_memory *memory, uint32_t space) {
  for (uint32_t i = 0; i < space; i++)
    if (strcmp(memory->space[i].model, memory->space[space].model) == 0) return false;
  return true;
}

/* --- open -------------------------------------------------------------------------------------------------------- */

static int space_check(const names_memory *memory, uint32_t i, neap_error *err) {
  const space_record *record = &memory->space[i];
  const neap__layout *layout = &record->layout;
  neap__layout again;
  neap_error why = {""};
  size_t model_bytes = strnlen(record->model, sizeof(record->model));
  uint32_t other;

  if (neap__model_check(record->model, model_bytes, &why) != 0)
    return neap__fail(err, NEAP_ECORRUPT, "names: space %u: %s", i, why.text);
  if (!memchr(layout->dtype, '\0', sizeof(layout->dtype)))
    return neap__fail(err, NEAP_ECORRUPT, "names: space %u: dtype does not end", i);
  if (neap__layout_init(&again, layout->shape, layout->dims, layout->dtype, layout->chunk_tokens, &why) != 0)
    return neap__fail(err, NEAP_ECORRUPT, "names: space %u: %s", i, why.text);
  if (!neap__layout_equal(&again, layout))
    return neap__fail(err, NEAP_ECORRUPT, "names: space %u: layout of %llu bytes contradicts its shape", i,
                      (unsigned long long)layout->bytes);
  if (space_find(memory, i, record->model, model_bytes, layout, &other))
    return neap__fail(err, NEAP_ECORRUPT, "names: space %u is space %u again", i, other);
  return 0;
}

static int tenant_load(neap__names *names, uint32_t i, neap_error *err) {
  const char *salt = names->memory->tenant[i].salt;
  size_t bytes = strnlen(salt, sizeof(names->memory->tenant[i].salt));
  neap_error why = {""};
  uint32_t slot, other;

  if (neap__salt_check(salt, bytes, &why) != 0)
    return neap__fail(err, NEAP_ECORRUPT, "names: tenant %u: %s", i, why.text);
  if ((i == 0) != (bytes == 0))
    return neap__fail(err, NEAP_ECORRUPT, "names: tenant %u is '%s'; expected '' at 0 only", i, salt);
  if (tenant_slot(names, salt, bytes, &slot, &other))
    return neap__fail(err, NEAP_ECORRUPT, "names: tenant %u is tenant %u again", i, other);
  atomic_store_explicit(&names->slots[slot], i + 1, memory_order_relaxed);
  return 0;
}

static int load(neap__names *names, neap_error *err) {
  names_memory *memory = names->memory;
  uint32_t spaces = atomic_load(&memory->spaces), tenants = atomic_load(&memory->tenants);

  if (spaces > NEAP_SPACES_MAX || tenants < 1 || tenants > NEAP_TENANTS_MAX)
    return neap__fail(err, NEAP_ECORRUPT, "names: %u spaces and %u tenants; expected at most %u and 1 to %u", spaces,
                      tenants, NEAP_SPACES_MAX, NEAP_TENANTS_MAX);
  for (uint32_t i = 0; i < spaces; i++) {
    if (space_check(memory, i, err) != 0) return NEAP_ECORRUPT;
    names->primary[i] = space_is_first(memory, i);
  }
  for (uint32_t i = 0; i < tenants; i++)
    if (tenant_load(names, i, err) != 0) return NEAP_ECORRUPT;
  return 0;
}

size_t neap__names_bytes(void) { return sizeof(names_memory); }

int neap__names_open(void *memory, neap__names **out, neap_error *err) {
  names_memory *tables = memory;
  uint64_t magic = atomic_load(&tables->magic);
  if (magic == 0) { /* fresh, or killed before it was ready */
    atomic_store(&tables->spaces, 0);
    memset(&tables->tenant[0], 0, sizeof(tables->tenant[0]));
    atomic_store(&tables->tenants, 1);
    atomic_store(&tables->magic, MAGIC);
  } else if (magic != MAGIC) {
    return neap__fail(err, NEAP_ECORRUPT, "names: begins with %016llx; expected %016llx", (unsigned long long)magic,
                      (unsigned long long)MAGIC);
  }

  neap__names *names = calloc(1, sizeof(*names));
  if (!names) return neap__fail(err, NEAP_ENOMEM, "names: no memory for the lookup table");
  names->memory = tables;
  if (load(names, err) != 0) {
    free(names);
    return NEAP_ECORRUPT;
  }
  pthread_mutex_init(&names->write_lock, NULL);
  *out = names;
  return 0;
}

void neap__names_close(neap__names *names) {
  pthread_mutex_destroy(&names->write_lock);
  free(names);
}

/* --- adding ------------------------------------------------------------------------------------------------------ */

/* Caller holds write_lock. */
static int space_add(neap__names *names, const char *model, size_t bytes, const neap__layout *layout, uint32_t *space) {
  names_memory *memory = names->memory;
  uint32_t count = atomic_load_explicit(&memory->spaces, memory_order_relaxed);
  if (space_find(memory, count, model, bytes, layout, space)) return 0;
  if (count == NEAP_SPACES_MAX) return NEAP_ELIMIT;

  space_record *record = &memory->space[count];
  memset(record, 0, sizeof(*record));
  memcpy(record->model, model, bytes);
  record->layout = *layout;
  names->primary[count] = space_is_first(memory, count);
  atomic_store_explicit(&memory->spaces, count + 1, memory_order_release);
  *space = count;
  return 0;
}

int neap__names_space(neap__names *names, const char *model, size_t model_bytes, const neap__layout *layout,
                      uint32_t *space) {
  NEAP_ASSERT(neap__model_check(model, model_bytes, NULL) == 0);
  if (space_find(names->memory, neap__names_spaces(names), model, model_bytes, layout, space)) return 0;

  pthread_mutex_lock(&names->write_lock);
  int rc = space_add(names, model, model_bytes, layout, space);
  pthread_mutex_unlock(&names->write_lock);
  return rc;
}

/* Caller holds write_lock. */
static int tenant_add(neap__names *names, const char *salt, size_t bytes, uint32_t *tenant) {
  names_memory *memory = names->memory;
  uint32_t slot, count = atomic_load_explicit(&memory->tenants, memory_order_relaxed);
  if (tenant_slot(names, salt, bytes, &slot, tenant)) return 0;
  if (count == NEAP_TENANTS_MAX) return NEAP_ELIMIT;

  tenant_record *record = &memory->tenant[count];
  memset(record, 0, sizeof(*record));
  memcpy(record->salt, salt, bytes);
  atomic_store_explicit(&memory->tenants, count + 1, memory_order_release);
  atomic_store_explicit(&names->slots[slot], count + 1, memory_order_release);
  *tenant = count;
  return 0;
}

int neap__names_tenant(neap__names *names, const char *salt, size_t salt_bytes, uint32_t *tenant) {
  NEAP_ASSERT(neap__salt_check(salt, salt_bytes, NULL) == 0);
  if (neap__names_tenant_find(names, salt, salt_bytes, tenant) == 0) return 0;

  pthread_mutex_lock(&names->write_lock);
  int rc = tenant_add(names, salt, salt_bytes, tenant);
  pthread_mutex_unlock(&names->write_lock);
  return rc;
}

int neap__names_tenant_find(neap__names *names, const char *salt, size_t salt_bytes, uint32_t *tenant) {
  uint32_t slot;
  if (salt_bytes > NEAP_SALT_BYTES_MAX || memchr(salt, '\0', salt_bytes)) return NEAP_ENOENT;
  return tenant_slot(names, salt, salt_bytes, &slot, tenant) ? 0 : NEAP_ENOENT;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

uint32_t neap__names_spaces(neap__names *names) {
  return atomic_load_explicit(&names->memory->spaces, memory_order_acquire);
}

uint32_t neap__names_tenants(neap__names *names) {
  return atomic_load_explicit(&names->memory->tenants, memory_order_acquire);
}

static const space_record *space_at(neap__names *names, uint32_t space) {
  NEAP_ASSERT(space < neap__names_spaces(names));
  return &names->memory->space[space];
}

const char *neap__names_model(neap__names *names, uint32_t space) { return space_at(names, space)->model; }

const neap__layout *neap__names_layout(neap__names *names, uint32_t space) { return &space_at(names, space)->layout; }

const char *neap__names_salt(neap__names *names, uint32_t tenant) {
  NEAP_ASSERT(tenant < neap__names_tenants(names));
  return names->memory->tenant[tenant].salt;
}

bool neap__names_primary(neap__names *names, uint32_t space) {
  NEAP_ASSERT(space < neap__names_spaces(names));
  return names->primary[space];
}

neap_object_key neap__names_object_key(neap__names *names, const neap__key *key) {
  neap_object_key out = {.model = neap__names_model(names, key->space),
                         .salt = neap__names_salt(names, key->tenant),
                         .rank = key->rank,
                         .group = key->group};
  memcpy(out.hash, key->hash, sizeof(out.hash));
  return out;
}
