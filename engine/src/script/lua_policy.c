/* SPDX-License-Identifier: MIT
 *
 * script/lua_policy.c - see lua_policy.h. What a file means is decided in lua/neap/policy_host.lua; here are the box
 * through which C and Lua talk, and the calls. The functions that C enters by sit in the registry; arguments are
 * numbers, so a call allocates nothing. */
#include "script/lua_policy.h"

#include <errno.h>
#include <lauxlib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policies/params.h"
#include "script/vm.h"

#define BOX 256u /* as in policy_host.lua */
#define PARAMS_MAX 32u
#define TEXT_MAX (1u << 20)
#define PROBE_SLOTS 64u
#define KEPT_MAX (64u << 20) /* bytes of all files that were ever loaded: thousands of versions of a usual one */

/* The members of neap_policy that Lua may have, by the names that the host uses. */
#define HOOKS(XX)              \
  XX(ON_EVENTS, "on_events")   \
  XX(VICTIMS, "victims")       \
  XX(SCORE, "score")           \
  XX(STORE_PLAN, "store_plan") \
  XX(LOAD_PLAN, "load_plan") XX(ON_HINT, "on_hint") XX(PREDICT, "predict") XX(SAVE, "save") XX(LOAD, "load")
enum {
#define XX(name, text) name,
  HOOKS(XX)
#undef XX
      HOOK_COUNT
};
static const char *const hook_names[HOOK_COUNT] = {
#define XX(name, text) text,
    HOOKS(XX)
#undef XX
};

/* What C and Lua tell each other; policy_host.lua declares the same. */
typedef struct box {
  uint32_t size, chunk_bytes, plan_bytes, tier_bytes;
  uint32_t capacity; /* the context's, when the events that Lua is told happened */
  const neap_policy_context *context;
  neap_store_plan *store_plan;
  neap_load_plan *load_plan;
  neap_event events[BOX];
  uint32_t slots[BOX];
  double scores[BOX];
  neap_hint hints[BOX];
} box;

typedef struct param {
  char *name;
  double value, min, max;
} param;

/* A loaded file. The table is the first member: create finds the rest behind it. Never freed once it is kept. */
typedef struct source {
  neap_policy table;
  char *path, *text, *name;
  bool sandboxed;
  neap__guard_limits limits;
  char *places[HOOK_COUNT];
  param params[PARAMS_MAX];
  uint32_t param_count;
  struct source *next;
} source;

/* One policy at work. */
typedef struct lua_policy {
  neap__vm vm;
  const source *source;
  const neap_policy_context *context;
  int refs[HOOK_COUNT];
  uint32_t pending; /* events in the box that Lua has not seen */
  box *box;
} lua_policy;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list */
static source *sources;
static size_t kept_bytes;

/* --- running a file --------------------------------------------------------------------------------------------- */

typedef struct opening {
  const source *source;
  source *learn;      /* to be filled in, or NULL: it is known */
  const param *given; /* [param_count] of the source */
  lua_policy *policy;
} opening;

static char *field_text(lua_State *L, int table, const char *name) {
  lua_getfield(L, table, name);
  char *text = lua_isstring(L, -1) ? strdup(lua_tostring(L, -1)) : NULL;
  if (lua_isstring(L, -1) && text == NULL) luaL_error(L, "out of memory");
  lua_pop(L, 1);
  return text;
}

static double field_number(lua_State *L, int table, const char *name) {
  lua_getfield(L, table, name);
  double value = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return value;
}

static bool field_true(lua_State *L, int table, const char *name) {
  lua_getfield(L, table, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

static void learn_params(lua_State *L, source *s) {
  lua_getfield(L, 1, "params");
  size_t count = lua_objlen(L, -1);
  if (count > PARAMS_MAX) luaL_error(L, "'params' has %d names, expected at most %d", (int)count, (int)PARAMS_MAX);
  for (uint32_t i = 0; i < count; i++) {
    lua_rawgeti(L, 2, (int)i + 1);
    s->params[i] = (param){.name = field_text(L, 3, "name"),
                           .value = field_number(L, 3, "default"),
                           .min = field_number(L, 3, "min"),
                           .max = field_number(L, 3, "max")};
    s->param_count = i + 1;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* Reads what host.open returned, at index 1. */
static void learn(lua_State *L, source *s) {
  s->name = field_text(L, 1, "name");
  s->table.wants = (uint32_t)field_number(L, 1, "wants");
  s->table.constraint = field_true(L, 1, "leaf") ? NEAP_EVICT_LEAF : 0;
  s->limits.guarded = field_true(L, 1, "guarded");
  s->limits.memory = (uint64_t)field_number(L, 1, "memory");
  s->limits.slice_ns = (uint64_t)(field_number(L, 1, "slice") * 1e9);
  learn_params(L, s);
  lua_getfield(L, 1, "places");
  for (int i = 0; i < HOOK_COUNT; i++) s->places[i] = field_text(L, 2, hook_names[i]);
  lua_pop(L, 1);
}

static void keep_entries(lua_State *L, lua_policy *p) {
  lua_getfield(L, 1, "entries");
  for (int i = 0; i < HOOK_COUNT; i++) {
    lua_getfield(L, 2, hook_names[i]);
    p->refs[i] = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  lua_pop(L, 1);
}

static int open_body(lua_State *L) {
  opening *o = lua_touserdata(L, 1);
  const source *s = o->source;
  lua_settop(L, 0);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "neap.policy_host");
  neap__vm_invoke(L, 1, 1);
  lua_getfield(L, 1, "open");
  lua_remove(L, 1);
  lua_pushlightuserdata(L, o->policy->box);
  lua_pushstring(L, s->path);
  lua_pushstring(L, s->text);
  lua_pushboolean(L, s->sandboxed);
  lua_createtable(L, 0, (int)s->param_count);
  for (uint32_t i = 0; i < s->param_count; i++) {
    lua_pushnumber(L, o->given[i].value);
    lua_setfield(L, -2, s->params[i].name);
  }
  neap__vm_invoke(L, 5, 1);
  if (o->learn != NULL) learn(L, o->learn);
  if (o->learn == NULL && (uint32_t)field_number(L, 1, "wants") != s->table.wants)
    return luaL_error(L, "%s: new made other hooks than when the file was loaded", s->path);
  keep_entries(L, o->policy);
  for (int i = 0; i < HOOK_COUNT && o->learn == NULL; i++)
    if ((o->policy->refs[i] != LUA_REFNIL) != (s->places[i] != NULL))
      return luaL_error(L, "%s: new made other hooks than when the file was loaded: '%s'", s->path, hook_names[i]);
  neap__guard_set(&o->policy->vm, &s->limits);
  return 0;
}

static void policy_free(lua_policy *p) {
  if (p->vm.L != NULL) neap__vm_close(&p->vm);
  free(p->box);
  free(p);
}

static int policy_open(opening *o, const neap_policy_context *context, neap_error *err) {
  const source *s = o->source;
  lua_policy *p = calloc(1, sizeof(*p));
  if (p != NULL) p->box = calloc(1, sizeof(*p->box));
  if (p == NULL || p->box == NULL) {
    free(p);
    return neap__fail(err, NEAP_ENOMEM, "%s: no memory for the policy", s->path);
  }
  p->context = context;
  *p->box = (box){.size = sizeof(box),
                  .capacity = context->capacity,
                  .chunk_bytes = sizeof(neap_chunk),
                  .plan_bytes = sizeof(neap_load_plan),
                  .tier_bytes = sizeof(neap_tier_view),
                  .context = context};
  p->source = s;
  o->policy = p;
  int rc = neap__vm_open(&p->vm, NULL, NULL, s->path, s->path, err);
  if (rc != 0) {
    p->vm.L = NULL;
  } else {
    rc = neap__vm_call(&p->vm, "new", open_body, o, err);
  }
  if (rc == NEAP_ENOMEM && err != NULL && strstr(err->text, s->path) == NULL) { /* Lua tells no place */
    char text[sizeof(err->text)];
    snprintf(text, sizeof(text), "%s", err->text);
    neap__fail(err, rc, "%s: %s", s->path, text);
  }
  if (rc != 0) policy_free(p);
  return rc;
}

/* --- calls ------------------------------------------------------------------------------------------------------ */

/* Lua's words for "no memory" name no place, nor does an error that was raised out of a tail call. */
static int place_error(const lua_policy *p, int hook, int rc, neap_error *err) {
  const char *place = p->source->places[hook];
  if (err == NULL || place == NULL || strncmp(err->text, place, strcspn(place, ":")) == 0) return rc;
  neap_error plain = *err;
  return neap__fail(err, rc, "%s: %s", place, plain.text);
}

static int flush(lua_policy *p, neap_error *err);

/* What was told under another capacity is worked off under that one. */
static int see_capacity(lua_policy *p, neap_error *err) {
  if (p->box->capacity == p->context->capacity) return 0;
  int rc = flush(p, err);
  p->box->capacity = p->context->capacity;
  return rc;
}

/* Calls a hook with the pending events and up to two arguments; a < 0: none, scope NEAP_SCOPE_ALL: nil. */
static int enter(lua_policy *p, int hook, int64_t a, int64_t b, int results, neap_error *err) {
  lua_State *L = p->vm.L;
  int rc = hook == ON_EVENTS ? 0 : see_capacity(p, err);
  if (rc != 0) return rc;
  lua_rawgeti(L, LUA_REGISTRYINDEX, p->refs[hook]);
  lua_pushinteger(L, (lua_Integer)p->pending);
  int args = 1;
  if (a >= 0) lua_pushinteger(L, (lua_Integer)a), args++;
  if (b >= 0) lua_pushinteger(L, (lua_Integer)b), args++;
  p->pending = 0;
  rc = neap__vm_enter(&p->vm, p->source->places[hook], args, results, err);
  return rc == 0 ? 0 : place_error(p, hook, rc, err);
}

static int flush(lua_policy *p, neap_error *err) { return p->pending ? enter(p, ON_EVENTS, -1, -1, 0, err) : 0; }

static int policy_on_events(void *self, const neap_event *events, uint32_t count, neap_error *err) {
  lua_policy *p = self;
  int rc = see_capacity(p, err);
  while (count > 0 && rc == 0) {
    uint32_t part = NEAP_MIN(count, BOX - p->pending);
    memcpy(&p->box->events[p->pending], events, part * sizeof(*events));
    p->pending += part;
    events += part;
    count -= part;
    if (p->pending == BOX) rc = flush(p, err);
  }
  return rc;
}

/* The number that the hook returned. */
static uint32_t result(lua_policy *p) {
  uint32_t value = (uint32_t)lua_tonumber(p->vm.L, 1);
  lua_settop(p->vm.L, 0);
  return value;
}

static int policy_victims(void *self, uint32_t scope, uint32_t *out, uint32_t max, neap_error *err) {
  lua_policy *p = self;
  uint32_t got = 0;
  while (got < max) {
    uint32_t part = NEAP_MIN(max - got, BOX);
    memset(p->box->slots, 0xff, part * sizeof(*out)); /* what is not written is no slot */
    int rc = enter(p, VICTIMS, part, scope == NEAP_SCOPE_ALL ? -1 : (int64_t)scope, 1, err);
    if (rc != 0) return rc;
    uint32_t said = result(p);
    memcpy(out + got, p->box->slots, said * sizeof(*out));
    got += said;
    if (said < part) break;
  }
  return (int)got;
}

static int policy_score(void *self, const uint32_t *slots, uint32_t count, double *scores, neap_error *err) {
  lua_policy *p = self;
  while (count > 0) {
    uint32_t part = NEAP_MIN(count, BOX);
    memcpy(p->box->slots, slots, part * sizeof(*slots));
    int rc = enter(p, SCORE, part, -1, 0, err);
    if (rc != 0) return rc;
    memcpy(scores, p->box->scores, part * sizeof(*scores));
    slots += part;
    scores += part;
    count -= part;
  }
  return 0;
}

static int policy_store_plan(void *self, neap_store_plan *plan, neap_error *err) {
  lua_policy *p = self;
  p->box->store_plan = plan;
  return enter(p, STORE_PLAN, -1, -1, 0, err);
}

static int policy_load_plan(void *self, neap_load_plan *plan, neap_error *err) {
  lua_policy *p = self;
  p->box->load_plan = plan;
  return enter(p, LOAD_PLAN, -1, -1, 0, err);
}

static int policy_on_hint(void *self, const neap_hint *hints, uint32_t count, neap_error *err) {
  lua_policy *p = self;
  int rc = 0;
  while (count > 0 && rc == 0) {
    uint32_t part = NEAP_MIN(count, BOX);
    memcpy(p->box->hints, hints, part * sizeof(*hints));
    rc = enter(p, ON_HINT, part, -1, 0, err);
    hints += part;
    count -= part;
  }
  return rc;
}

static int policy_predict(void *self, neap_hint *out, uint32_t max, neap_error *err) {
  lua_policy *p = self;
  uint32_t part = NEAP_MIN(max, BOX);
  memset(p->box->hints, 0, part * sizeof(*out));
  int rc = enter(p, PREDICT, part, -1, 1, err);
  if (rc != 0) return rc;
  uint32_t said = result(p);
  memcpy(out, p->box->hints, said * sizeof(*out));
  return (int)said;
}

static int64_t policy_save(void *self, void *bytes, uint64_t room, neap_error *err) {
  lua_policy *p = self;
  size_t needed;
  int rc = enter(p, SAVE, -1, -1, 1, err);
  if (rc != 0) return rc;
  const char *text = lua_tolstring(p->vm.L, 1, &needed);
  if (needed <= room) memcpy(bytes, text, needed);
  lua_settop(p->vm.L, 0);
  return (int64_t)needed;
}

typedef struct loading {
  lua_policy *policy;
  const void *bytes;
  size_t count;
} loading;

static int load_body(lua_State *L) {
  const loading *l = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, l->policy->refs[LOAD]);
  lua_pushinteger(L, 0);
  lua_pushlstring(L, l->bytes, l->count);
  neap__vm_invoke(L, 2, 0);
  return 0;
}

static int policy_load(void *self, const void *bytes, uint64_t count, neap_error *err) {
  lua_policy *p = self;
  loading l = {.policy = p, .bytes = bytes, .count = (size_t)count};
  int rc = flush(p, err);
  if (rc != 0) return rc;
  rc = neap__vm_call(&p->vm, p->source->places[LOAD], load_body, &l, err);
  return rc == 0 ? 0 : place_error(p, LOAD, rc, err);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static int policy_create(const neap_policy *policy, const neap_policy_context *context, void **self, neap_error *err) {
  const source *s = (const source *)policy;
  param given[PARAMS_MAX];
  neap__policy_param known[PARAMS_MAX];
  if (context->slots > INT32_MAX - 8)
    return neap__fail(err, NEAP_EINVAL, "slots is %u; a policy in Lua takes at most %d", context->slots, INT32_MAX - 8);
  for (uint32_t i = 0; i < s->param_count; i++) {
    given[i] = s->params[i];
    known[i] = (neap__policy_param){.name = given[i].name, &given[i].value, given[i].min, given[i].max};
  }
  int rc = neap__policy_params(s->name, context->params ? context->params : "", known, s->param_count, err);
  if (rc != 0) return rc;
  opening o = {.source = s, .given = given};
  rc = policy_open(&o, context, err);
  if (rc == 0) *self = o.policy;
  return rc;
}

static void policy_destroy(void *self) { policy_free(self); }

uint64_t neap__lua_policy_memory(const void *self) { return ((const lua_policy *)self)->vm.guard.heap; }

static void source_free(source *s) {
  if (s == NULL) return;
  free(s->path);
  free(s->text);
  free(s->name);
  for (int i = 0; i < HOOK_COUNT; i++) free(s->places[i]);
  for (uint32_t i = 0; i < s->param_count; i++) free(s->params[i].name);
  free(s);
}

static void make_table(source *s) {
  s->table = (neap_policy){
      .magic = NEAP_POLICY_MAGIC,
      .abi = NEAP_POLICY_ABI,
      .size = sizeof(neap_policy),
      .wants = s->table.wants,
      .constraint = s->table.constraint,
      .name = s->name,
      .create = policy_create,
      .destroy = policy_destroy,
      .on_events = policy_on_events,
      .victims = s->places[VICTIMS] ? policy_victims : NULL,
      .score = s->places[SCORE] ? policy_score : NULL,
      .store_plan = s->places[STORE_PLAN] ? policy_store_plan : NULL,
      .load_plan = s->places[LOAD_PLAN] ? policy_load_plan : NULL,
      .on_hint = s->places[ON_HINT] ? policy_on_hint : NULL,
      .predict = s->places[PREDICT] ? policy_predict : NULL,
      .save = s->places[SAVE] ? policy_save : NULL,
      .load = s->places[LOAD] ? policy_load : NULL,
  };
}

/* Learns what the file declares, from one policy that is thrown away. */
static int probe(source *s, neap_error *err) {
  neap_chunk rows[PROBE_SLOTS] = {0};
  const neap_policy_context context = {
      .size = sizeof(context), .slots = PROBE_SLOTS, .capacity = PROBE_SLOTS, .seed = 1, .chunk = rows, .params = ""};
  opening o = {.source = s, .learn = s};
  int rc = policy_open(&o, &context, err);
  if (rc != 0) return rc;
  make_table(s);
  policy_destroy(o.policy);
  return 0;
}

static int read_file(const char *path, char **out, neap_error *err) {
  FILE *file = fopen(path, "re");
  if (file == NULL) return neap__fail(err, NEAP_ENOENT, "%s: %s", path, strerror(errno));
  char *text = malloc(TEXT_MAX + 1);
  size_t bytes = text != NULL ? fread(text, 1, TEXT_MAX + 1, file) : 0;
  bool failed = ferror(file) != 0;
  fclose(file);
  if (text != NULL && !failed && bytes <= TEXT_MAX && memchr(text, '\0', bytes) == NULL) {
    text[bytes] = '\0';
    char *fitting = realloc(text, bytes + 1);
    *out = fitting != NULL ? fitting : text;
    return 0;
  }
  free(text);
  if (text == NULL) return neap__fail(err, NEAP_ENOMEM, "%s: no memory for the file", path);
  return neap__fail(err, NEAP_EINVAL, "%s: expected Lua text of at most %u bytes", path, TEXT_MAX);
}

static source *find(const source *like) {
  for (source *s = sources; s != NULL; s = s->next)
    if (s->sandboxed == like->sandboxed && strcmp(s->path, like->path) == 0 && strcmp(s->text, like->text) == 0)
      return s;
  return NULL;
}

/* Keeps s, or frees it and returns the equal one that is there; NULL, and s stays the caller's, if too much is kept.
 * Two that load the same at once meet here. */
static source *keep(source *s) {
  size_t bytes = sizeof(*s) + strlen(s->path) + strlen(s->text);
  pthread_mutex_lock(&lock);
  source *known = find(s), *kept = known;
  if (known == NULL && kept_bytes + bytes <= KEPT_MAX) {
    s->next = sources;
    sources = kept = s;
    kept_bytes += bytes;
  }
  pthread_mutex_unlock(&lock);
  if (known != NULL) source_free(s);
  return kept;
}

/* The file is run even if its text is known: a module beside it may have changed, and must load. */
int neap__lua_policy_load(const neap__lua_policy_source *from, const neap_policy **out, neap_error *err) {
  source *s = calloc(1, sizeof(*s));
  if (s != NULL) s->path = strdup(from->path);
  if (s == NULL || s->path == NULL) {
    source_free(s);
    return neap__fail(err, NEAP_ENOMEM, "%s: no memory for the policy", from->path);
  }
  int rc = 0;
  s->sandboxed = from->sandboxed;
  if (from->text == NULL)
    rc = read_file(from->path, &s->text, err);
  else if ((s->text = strdup(from->text)) == NULL)
    rc = neap__fail(err, NEAP_ENOMEM, "%s: no memory for the policy", from->path);
  if (rc == 0) rc = probe(s, err);
  source *kept = rc == 0 ? keep(s) : NULL;
  if (rc == 0 && kept == NULL)
    rc = neap__fail(err, NEAP_ELIMIT, "%s: policies of %u MiB have been loaded, and stay; only a restart forgets them",
                    s->path, KEPT_MAX >> 20);
  if (rc != 0) {
    source_free(s);
    return rc;
  }
  *out = &kept->table;
  return 0;
}

static int load_file(const char *path, const neap_policy **out, neap_error *err) {
  return neap__lua_policy_load(&(neap__lua_policy_source){.path = path}, out, err);
}

neap__policy_loader neap__lua_policy_loader = {.ending = "lua", .load = load_file};

const char *neap__lua_policy_place(const neap_policy *policy, const char *hook) {
  if (policy->create != policy_create) return NULL;
  for (int i = 0; i < HOOK_COUNT; i++)
    if (strcmp(hook, hook_names[i]) == 0) return ((const source *)policy)->places[i];
  return NULL;
}
