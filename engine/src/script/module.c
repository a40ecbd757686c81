/* SPDX-License-Identifier: MIT
 *
 * script/module.c - the loader of ".lua" modules. The checks of a module are Lua (neap/loader.lua); here their answer
 * becomes an adapter table. Runs on the thread that opens the engine, in a VM of its own that is closed at once. */
#include "script/module.h"

#include <lauxlib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "script/lua_adapter.h"
#include "script/script.h"
#include "script/values.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static neap__lua_class *classes;

void neap__module_push(lua_State *L, const char *path, const char *class_name, const char *config_class_name) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "neap.loader");
  neap__vm_invoke(L, 1, 1);
  lua_getfield(L, -1, "load");
  lua_remove(L, -2);
  lua_pushstring(L, path);
  lua_pushstring(L, class_name);
  lua_pushstring(L, config_class_name);
  neap__vm_invoke(L, 3, 3);
}

/* What probe_body reads from the class; strings and tree are the caller's to free. */
typedef struct probe {
  const char *path, *class_name, *config_class_name;
  cJSON *schema; /* an object; its member "schema" is the schema */
  char *name, *version;
  neap_traits traits;
  neap__guard_limits limits;
  neap__lua_has has;
} probe;

static bool has(lua_State *L, const char *hook) {
  lua_getfield(L, 1, hook);
  bool found = lua_isfunction(L, -1);
  lua_pop(L, 1);
  return found;
}

/* A declaration that neap/adapter.lua has checked, times its unit; none that is given becomes 0. */
static uint64_t declared(lua_State *L, const char *name, double unit) {
  lua_getfield(L, 1, name);
  double value = lua_tonumber(L, -1) * unit;
  lua_pop(L, 1);
  return value > 0 && value < 1 ? 1 : (uint64_t)(value + 0.5);
}

static void probe_declarations(lua_State *L, probe *p) {
  p->traits = (neap_traits){.size = (uint32_t)sizeof(p->traits),
                            .concurrency = (uint32_t)declared(L, "concurrency", 1),
                            .batch = (uint32_t)declared(L, "batch", 1),
                            .deadline_ms = (uint32_t)declared(L, "deadline", 1000),
                            .retries = (uint32_t)declared(L, "retries", 1),
                            .backoff_ms = (uint32_t)declared(L, "backoff", 1000)};
  p->limits.memory = declared(L, "memory", 1);
  p->limits.slice_ns = declared(L, "slice", 1e9);
  lua_getfield(L, 1, "guarded");
  p->limits.guarded = lua_toboolean(L, -1);
  lua_pop(L, 1);
}

static int probe_body(lua_State *L) {
  probe *p = lua_touserdata(L, 1);
  lua_settop(L, 0);
  neap__module_push(L, p->path, p->class_name, p->config_class_name);
  p->name = strdup(lua_tostring(L, 3));
  if (!lua_isnil(L, 2)) neap__value_take(L, 2, p->schema, "schema");
  p->has.remove = has(L, "delete") || has(L, "delete_batch");
  p->has.list = has(L, "list");
  p->has.reconfigure = has(L, "reconfigure");
  probe_declarations(L, p);
  lua_getfield(L, 1, "version");
  p->version = strdup(lua_isstring(L, -1) ? lua_tostring(L, -1) : "0");
  return 0;
}

static void class_free(neap__lua_class *class) {
  if (!class) return;
  free(class->path);
  free(class->class_name);
  free(class->config_class_name);
  free(class->version);
  free(class->schema_json);
  free(class);
}

static neap__lua_class *class_new(probe *p) {
  neap__lua_class *class = calloc(1, sizeof(*class));
  if (!class) return NULL;
  const cJSON *schema = cJSON_GetObjectItemCaseSensitive(p->schema, "schema");
  class->path = strdup(p->path);
  class->class_name = p->name;
  class->version = p->version;
  p->name = p->version = NULL;
  if (p->config_class_name) class->config_class_name = strdup(p->config_class_name);
  if (schema) class->schema_json = cJSON_PrintUnformatted(schema);
  if (!class->path || !class->class_name || !class->version || !class->config_class_name != !p->config_class_name ||
      !class->schema_json != !schema) {
    class_free(class);
    return NULL;
  }
  neap__lua_adapter_table(&class->table, p->has);
  class->traits = p->traits;
  class->limits = p->limits;
  class->table.traits = &class->traits;
  class->table.name = class->class_name;
  class->table.version = class->version;
  class->table.schema_json = class->schema_json;
  return class;
}

static bool same(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

/* The members of a schema come in any order, for Lua's tables have none. */
static bool same_schema(const char *a, const char *b) {
  if (!a || !b) return a == b;
  cJSON *x = cJSON_Parse(a), *y = cJSON_Parse(b);
  bool equal = cJSON_Compare(x, y, true);
  cJSON_Delete(x);
  cJSON_Delete(y);
  return equal;
}

static bool class_equal(const neap__lua_class *a, const neap__lua_class *b) {
  return same(a->path, b->path) && same(a->class_name, b->class_name) &&
         same(a->config_class_name, b->config_class_name) && same(a->version, b->version) &&
         a->table.remove == b->table.remove && a->table.list == b->table.list &&
         a->table.reconfigure == b->table.reconfigure && memcmp(&a->traits, &b->traits, sizeof(a->traits)) == 0 &&
         a->limits.guarded == b->limits.guarded && a->limits.memory == b->limits.memory &&
         a->limits.slice_ns == b->limits.slice_ns && same_schema(a->schema_json, b->schema_json);
}

/* Keeps class, or frees it and returns the equal one that is there. */
static const neap_adapter *class_keep(neap__lua_class *class) {
  pthread_mutex_lock(&lock);
  neap__lua_class *known = classes;
  while (known && !class_equal(known, class)) known = known->next;
  if (!known) {
    class->next = classes;
    classes = class;
  }
  pthread_mutex_unlock(&lock);
  if (!known) return &class->table;
  class_free(class);
  return &known->table;
}

static int load(const char *path, const char *class_name, const char *config_class_name, const neap_adapter **out,
                neap_error *err) {
  probe p = {.path = path, .class_name = class_name, .config_class_name = config_class_name};
  p.schema = cJSON_CreateObject();
  if (!p.schema) return neap__fail(err, NEAP_ENOMEM, "%s: out of memory", path);
  neap__vm vm;
  neap__lua_class *class = NULL;
  int rc = neap__vm_open(&vm, NULL, NULL, class_name ? class_name : path, path, err);
  if (rc != 0) goto out;
  rc = neap__vm_call(&vm, "load", probe_body, &p, err);
  neap__vm_close(&vm);
  if (rc != 0) goto out;
  class = class_new(&p);
  if (class) {
    *out = class_keep(class);
  } else {
    rc = neap__fail(err, NEAP_ENOMEM, "%s: out of memory", path);
  }
out:
  free(p.name);
  free(p.version);
  cJSON_Delete(p.schema);
  return rc;
}

const neap__loader neap__lua_loader = {.suffix = ".lua", .load = load};
