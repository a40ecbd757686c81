/* SPDX-License-Identifier: MIT
 *
 * variants.c - native plugins that are right, or wrong in one way, for test_native.c. CMakeLists.txt builds this file
 * once per variant and says with a definition what is different. Each operation ends at once with a miss. */
#include <neap/adapter.h>
#include <stdlib.h>

typedef struct store {
  const neap_host *host;
} store;

static int open_store(const neap_adapter *table, const neap_host *host, const char *params_json, void **self,
                      neap_error *err) {
  (void)table;
  (void)params_json;
  (void)err;
  store *s = malloc(sizeof *s);
  if (!s) return NEAP_ENOMEM;
  s->host = host;
  *self = s;
  return 0;
}

static void miss(void *self, neap_op *op) {
  const store *s = self;
  for (uint32_t i = 0; i < op->count; i++) op->objects[i].result = NEAP_ENOENT;
  s->host->done(s->host->engine, op);
}

#ifdef VARIANT_UNRESOLVED
extern void neap_test_function_that_nobody_defines(void);
static void close_store(void *self) {
  neap_test_function_that_nobody_defines();
  free(self);
}
#else
static void close_store(void *self) { free(self); }
#endif

#ifndef VARIANT_MAGIC
#define VARIANT_MAGIC NEAP_ADAPTER_MAGIC
#endif
#ifndef VARIANT_ABI
#define VARIANT_ABI NEAP_ADAPTER_ABI
#endif
#ifndef VARIANT_SIZE
#define VARIANT_SIZE sizeof(neap_adapter)
#endif
#ifndef VARIANT_LOAD
#define VARIANT_LOAD miss
#endif
#ifndef VARIANT_COUNT
#define VARIANT_COUNT 1
#endif
#ifndef VARIANT_ENTRY
#define VARIANT_ENTRY neap_adapter_entry
#endif

#define TABLE(name_)                                                                                                \
  {                                                                                                                 \
    .magic = VARIANT_MAGIC, .abi = VARIANT_ABI, .size = (uint32_t)VARIANT_SIZE, .name = (name_), .version = "1",    \
    .schema_json = "{\"level\":{\"type\":\"integer\",\"min\":0,\"default\":3}}", .open = open_store, .store = miss, \
    .lookup = miss, .load = VARIANT_LOAD, .close = close_store                                                      \
  }

static const neap_adapter tables[] = {TABLE("First"), TABLE("Second")};
static const uint32_t tables_count = VARIANT_COUNT;

NEAP_ADAPTER_EXPORT const neap_adapter *VARIANT_ENTRY(uint32_t i);
const neap_adapter *VARIANT_ENTRY(uint32_t i) { return i < tables_count ? &tables[i] : NULL; }
