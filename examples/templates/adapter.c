/* SPDX-License-Identifier: MIT */
/* skeleton.c - a store for neap, in memory: a lesson to change. neap/adapter.h is the contract, with all the rules.
 *
 *   cmake -B build && cmake --build build && neap check build/skeleton.so
 *
 * The five operations start work and return. This store copies memory, so it ends each operation on the spot; one that
 * waits for a disk or a server hands the work to host->queue_work, or to a thread of its own, and calls host->done from
 * there. */
#include <neap/adapter.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024u

/* One object; its key as text, and its bytes, lie behind it. */
typedef struct object {
  struct object *next;
  uint64_t bytes;
  size_t text_bytes;
  char text[];
} object;

typedef struct skeleton {
  const neap_host *host; /* the engine's services, valid until close */
  pthread_mutex_t lock;  /* operations come from several threads */
  object *buckets[BUCKETS];
} skeleton;

/* Where the object of this key hangs, or would hang; NULL for a key that cannot be printed. */
static object **place(skeleton *store, const neap_object_key *key, char text[NEAP_KEY_TEXT_MAX]) {
  int length = store->host->key_format(key, NEAP_KEY_NATIVE, text, NEAP_KEY_TEXT_MAX);
  if (length < 0) return NULL;
  object **at = &store->buckets[store->host->crc32c(0, text, (size_t)length) % BUCKETS];
  while (*at && strcmp((*at)->text, text) != 0) at = &(*at)->next;
  return at;
}

static void *data_of(object *o) { return o->text + o->text_bytes; }

/* --- one object: each sets ->result --------------------------------------------------------------------------------
 */

static void store_one(skeleton *store, neap_object *wanted) {
  char text[NEAP_KEY_TEXT_MAX];
  object **at = place(store, &wanted->key, text);
  wanted->result = at ? 0 : NEAP_EINVAL;
  if (!at || *at) return; /* the first store wins: success, with stored_bytes 0 */
  size_t text_bytes = strlen(text) + 1;
  object *made = malloc(sizeof(*made) + text_bytes + wanted->bytes);
  if (!made) {
    wanted->result = NEAP_ENOMEM;
    return;
  }
  *made = (object){.bytes = wanted->bytes, .text_bytes = text_bytes};
  memcpy(made->text, text, text_bytes);
  memcpy(data_of(made), wanted->data, wanted->bytes);
  *at = made;
  wanted->stored_bytes = wanted->bytes;
}

static void lookup_one(skeleton *store, neap_object *wanted) {
  char text[NEAP_KEY_TEXT_MAX];
  object **at = place(store, &wanted->key, text);
  wanted->result = at && *at ? 0 : NEAP_ENOENT;
  if (wanted->result == 0) wanted->stored_bytes = (*at)->bytes;
}

static void load_one(skeleton *store, neap_object *wanted) {
  char text[NEAP_KEY_TEXT_MAX];
  object **at = place(store, &wanted->key, text);
  wanted->result = !at || !*at ? NEAP_ENOENT : (*at)->bytes != wanted->bytes ? NEAP_ECORRUPT : 0;
  if (wanted->result == 0) memcpy(wanted->data, data_of(*at), wanted->bytes);
}

static void remove_one(skeleton *store, neap_object *wanted) {
  char text[NEAP_KEY_TEXT_MAX];
  object **at = place(store, &wanted->key, text), *gone = at ? *at : NULL;
  wanted->result = gone ? 0 : NEAP_ENOENT;
  if (gone) *at = gone->next;
  free(gone);
}

/* --- operations: a batch each, ended once ---------------------------------------------------------------------------
 */

static void run(skeleton *store, neap_op *op, void (*one)(skeleton *store, neap_object *wanted)) {
  pthread_mutex_lock(&store->lock);
  for (uint32_t i = 0; i < op->count; i++) one(store, &op->objects[i]);
  pthread_mutex_unlock(&store->lock);
  store->host->done(store->host->engine, op); /* op and its buffers are the engine's again */
}

static void skeleton_store(void *self, neap_op *op) { run(self, op, store_one); }
static void skeleton_lookup(void *self, neap_op *op) { run(self, op, lookup_one); }
static void skeleton_load(void *self, neap_op *op) { run(self, op, load_one); }
static void skeleton_remove(void *self, neap_op *op) { run(self, op, remove_one); }

static void skeleton_list(void *self, neap_op *op) {
  skeleton *store = self;
  char strings[NEAP_KEY_TEXT_MAX];
  int stop = 0;
  pthread_mutex_lock(&store->lock);
  for (size_t i = 0; i < BUCKETS; i++) {
    for (const object *o = store->buckets[i]; o && !stop; o = o->next) {
      neap_list_entry entry = {.bytes = o->bytes};
      if (store->host->key_parse(o->text, NEAP_KEY_NATIVE, &entry.key, strings, sizeof(strings)) == 0)
        stop = op->sink(op, &entry);
    }
  }
  pthread_mutex_unlock(&store->lock);
  op->list_result = 0;
  store->host->done(store->host->engine, op);
}

/* --- life ------------------------------------------------------------------------------------------------------------
 */

/* params_json was checked against schema_json below: say there what you need, and read it here with a JSON library. */
static int skeleton_open(const neap_adapter *adapter, const neap_host *host, const char *params_json, void **self,
                         neap_error *err) {
  (void)adapter;
  (void)params_json;
  (void)err; /* err->text: why it could not be opened */
  skeleton *store = calloc(1, sizeof(*store));
  if (!store) return NEAP_ENOMEM;
  store->host = host;
  pthread_mutex_init(&store->lock, NULL);
  *self = store;
  return 0;
}

/* No operation is in flight. */
static void skeleton_close(void *self) {
  skeleton *store = self;
  for (size_t i = 0; i < BUCKETS; i++) {
    for (object *o = store->buckets[i], *next; o; o = next) {
      next = o->next;
      free(o);
    }
  }
  pthread_mutex_destroy(&store->lock);
  free(store);
}

static const neap_adapter table = {
    NEAP_ADAPTER_INIT("Skeleton", "1.0"),
    .schema_json = "{}",
    .open = skeleton_open,
    .store = skeleton_store,
    .lookup = skeleton_lookup,
    .load = skeleton_load,
    .remove = skeleton_remove,
    .list = skeleton_list,
    .close = skeleton_close,
};

NEAP_ADAPTER_EXPORT const neap_adapter *neap_adapter_entry(uint32_t i);
const neap_adapter *neap_adapter_entry(uint32_t i) { return i == 0 ? &table : NULL; }
