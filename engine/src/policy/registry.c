/* SPDX-License-Identifier: MIT
 *
 * policy/registry.c - see registry.h. What is loaded or wrapped is kept until the process ends: a policy may be in use
 * anywhere. One lock over both lists; a file is loaded outside of it. */
#include "policy/registry.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policies/builtin.h"
#include "policies/isolated.h"
#include "policies/params.h"

#define WORD 64u
#define ISOLATED "isolated:"

static const neap_policy *const builtins[] = {
    &neap__policy_lru,  &neap__policy_isolated_lru, &neap__policy_leaf_lru, &neap__policy_fifo,
    &neap__policy_slru, &neap__policy_2q,           &neap__policy_s3fifo,   &neap__policy_sieve,
    &neap__policy_arc,  &neap__policy_lirs,         &neap__policy_lfu,      &neap__policy_wtinylfu,
    &neap__policy_gdsf, &neap__policy_random,       &neap__policy_noop,     &neap__policy_belady,
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static neap__policy_loader *loaders; /* under lock, and the next one */
static neap__isolated *isolated;

/* --- is it a policy --------------------------------------------------------------------------------------------- */

/* Magic, abi and size come first in every version of the struct, so they may be read before the rest is trusted. */
int neap__policy_check(const neap_policy *p, neap_error *err) {
  if (p == NULL) return neap__fail(err, NEAP_EINVAL, "policy is NULL; expected a neap_policy");
  if (p->magic != NEAP_POLICY_MAGIC)
    return neap__fail(err, NEAP_EABI, "policy magic is 0x%08" PRIx32 "; expected 0x%08x", p->magic, NEAP_POLICY_MAGIC);
  if (p->abi != NEAP_POLICY_ABI)
    return neap__fail(err, NEAP_EABI, "policy abi is %" PRIu32 "; expected %u", p->abi, NEAP_POLICY_ABI);
  if (p->size < sizeof(*p))
    return neap__fail(err, NEAP_EABI, "policy size is %" PRIu32 "; expected at least %zu", p->size, sizeof(*p));
  const struct {
    const char *name;
    bool present;
  } members[] = {{"name", p->name != NULL},
                 {"create", p->create != NULL},
                 {"on_events", p->on_events != NULL},
                 {"destroy", p->destroy != NULL}};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(members); i++)
    if (!members[i].present)
      return neap__fail(err, NEAP_EABI, "policy member '%s' is NULL; expected it to be set", members[i].name);
  if ((p->victims != NULL) == (p->score != NULL))
    return neap__fail(err, NEAP_EABI, "policy members 'victims' and 'score' are both %s; expected one of them",
                      p->victims ? "set" : "NULL");
  return 0;
}

/* --- built-ins -------------------------------------------------------------------------------------------------- */

/* As names are compared: lower case, without '-' and '_'. */
static const char *plain(const char *name, char *out, size_t room) {
  size_t used = 0;
  for (; *name != '\0' && used + 1 < room; name++)
    if (*name != '-' && *name != '_') out[used++] = (char)tolower((unsigned char)*name);
  out[used] = '\0';
  return out;
}

static const neap_policy *builtin_of(const char *name) {
  static const struct {
    const char *alias;
    const neap_policy *policy;
  } aliases[] = {{"twoq", &neap__policy_2q}, {"min", &neap__policy_belady}, {"opt", &neap__policy_belady}};
  char word[WORD], other[WORD];
  plain(name, word, sizeof(word));
  for (size_t i = 0; i < NEAP_ARRAY_LEN(builtins); i++)
    if (strcmp(word, plain(builtins[i]->name, other, sizeof(other))) == 0) return builtins[i];
  for (size_t i = 0; i < NEAP_ARRAY_LEN(aliases); i++)
    if (strcmp(word, aliases[i].alias) == 0) return aliases[i].policy;
  return NULL;
}

static const char *names[NEAP_ARRAY_LEN(builtins) + 1];

static void list_names(void) {
  for (size_t i = 0; i < NEAP_ARRAY_LEN(builtins); i++) names[i] = builtins[i]->name;
}

const char *const *neap__policy_names(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, list_names);
  return names;
}

static int unknown_name(const char *name, neap_error *err) {
  char list[256] = "", word[WORD], plains[NEAP_ARRAY_LEN(builtins)][WORD];
  const char *words[NEAP_ARRAY_LEN(builtins)];
  size_t used = 0;
  for (size_t i = 0; i < NEAP_ARRAY_LEN(builtins); i++) {
    words[i] = plain(builtins[i]->name, plains[i], sizeof(plains[i]));
    used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i == 0 ? "" : ", ", builtins[i]->name);
  }
  const char *near = neap__nearest(plain(name, word, sizeof(word)), words, NEAP_ARRAY_LEN(words));
  for (size_t i = 0; near != NULL && i < NEAP_ARRAY_LEN(words); i++)
    if (near == words[i])
      return neap__fail(err, NEAP_EINVAL, "eviction policy '%.64s' is unknown; expected one of %s; did you mean '%s'?",
                        name, list, builtins[i]->name);
  return neap__fail(err, NEAP_EINVAL, "eviction policy '%.64s' is unknown; expected one of %s", name, list);
}

/* --- files ------------------------------------------------------------------------------------------------------ */

static int load_native(const char *path, const neap_policy **out, neap_error *err) {
  char here[256 + 2];
  snprintf(here, sizeof(here), "%s%s", strchr(path, '/') == NULL ? "./" : "", path); /* never one of the system's */
  void *library = dlopen(here, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return neap__fail(err, NEAP_EABI, "policy %s: %s", path, dlerror());
  const neap_policy *(*entry)(void) = NULL;
  *(void **)&entry = dlsym(library, "neap_policy_entry");
  if (entry == NULL) {
    dlclose(library);
    return neap__fail(err, NEAP_EABI, "policy %s exports no neap_policy_entry; expected a policy", path);
  }
  neap_error why = {""};
  int rc = neap__policy_check(*out = entry(), &why);
  return rc == 0 ? 0 : neap__fail(err, rc, "policy %s: %s", path, why.text);
}

static neap__policy_loader native = {.ending = "so", .load = load_native};

void neap__policy_add_loader(neap__policy_loader *loader) {
  pthread_mutex_lock(&lock);
  neap__policy_loader *there = loaders;
  while (there != NULL && there != loader) there = there->next;
  if (there == NULL) {
    loader->next = loaders;
    loaders = loader;
  }
  pthread_mutex_unlock(&lock);
}

static neap__policy_loader *loader_of(const char *path) {
  const char *ending = strrchr(path, '.');
  if (ending == NULL || strchr(ending, '/') != NULL) return NULL;
  if (strcmp(ending + 1, native.ending) == 0) return &native;
  pthread_mutex_lock(&lock);
  neap__policy_loader *loader = loaders;
  while (loader != NULL && strcmp(ending + 1, loader->ending) != 0) loader = loader->next;
  pthread_mutex_unlock(&lock);
  return loader;
}

/* --- specs ------------------------------------------------------------------------------------------------------ */

static int find_named(const char *name, const neap_policy **out, neap_error *err) {
  *out = builtin_of(name);
  if (*out != NULL) return 0;
  neap__policy_loader *loader = loader_of(name);
  if (loader != NULL) {
    if (access(name, R_OK) != 0) return neap__fail(err, NEAP_ENOENT, "policy %s: %s", name, strerror(errno));
    return loader->load(name, out, err);
  }
  char head[WORD];
  snprintf(head, sizeof(head), "%.*s", (int)strcspn(name, ":"), name);
  if (strchr(name, ':') != NULL && builtin_of(head) != NULL)
    return neap__fail(err, NEAP_EINVAL, "policy '%.64s': '%.64s' is no parameter; expected name=value", name,
                      strchr(name, ':') + 1);
  return unknown_name(name, err);
}

/* One table for each policy that is isolated. */
static int isolate(const neap_policy *policy, const neap_policy **out, neap_error *err) {
  *out = &neap__policy_isolated_lru;
  if (policy == &neap__policy_lru || policy == &neap__policy_isolated_lru) return 0;
  pthread_mutex_lock(&lock);
  neap__isolated *table = isolated;
  while (table != NULL && table->inner != policy) table = table->next;
  if (table == NULL && (table = malloc(sizeof(*table))) != NULL) {
    neap__isolated_init(table, policy);
    table->next = isolated;
    isolated = table;
  }
  pthread_mutex_unlock(&lock);
  if (table == NULL) return neap__fail(err, NEAP_ENOMEM, "policy %s: no memory for a table", policy->name);
  *out = &table->table;
  return 0;
}

int neap__policy_find(const char *spec, neap__policy_spec *out, neap_error *err) {
  char name[sizeof(out->text)];
  if (strlen(spec) >= sizeof(out->text))
    return neap__fail(err, NEAP_EINVAL, "policy '%.32s...' has %zu characters; expected at most %zu", spec,
                      strlen(spec), sizeof(out->text) - 1);
  bool alone = strncasecmp(spec, ISOLATED, strlen(ISOLATED)) == 0;
  const char *from = alone ? spec + strlen(ISOLATED) : spec;
  const char *params = neap__policy_params_in(from);
  *out = (neap__policy_spec){.policy = NULL};
  snprintf(out->text, sizeof(out->text), "%s", spec);
  snprintf(out->params, sizeof(out->params), "%s", params != NULL ? params : "");
  snprintf(name, sizeof(name), "%.*s", params != NULL ? (int)(params - 1 - from) : (int)strlen(from), from);
  int rc = params != NULL ? neap__policy_params_check(spec, params, err) : 0;
  if (rc == 0) rc = find_named(name, &out->policy, err);
  if (rc == 0 && alone) rc = isolate(out->policy, &out->policy, err);
  return rc;
}
