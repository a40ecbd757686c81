/* SPDX-License-Identifier: MIT
 *
 * l2/native.c - native plugins: a shared object that exports neap_adapter_entry (see neap/adapter.h).
 *
 * Loaded once and never unloaded: its threads, thread-local destructors and tables may be in use until the process
 * ends. Symbols are bound at once (a missing one is an error here, not a crash at the first store) and stay private.
 * Where a plugin may lie is decided by neap__registry_locate; this file trusts the path. Runs on the thread that opens
 * the engine. */
#include "l2/native.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define TABLES_MAX 64u

/* Members are read only after the ones before them vouched for them: magic, then ABI, then size. */
int neap__native_check(const neap_adapter *table, const char *from, neap_error *err) {
  if (table->magic != NEAP_ADAPTER_MAGIC) {
    return neap__fail(err, NEAP_EINVAL, "%s: not an adapter table: magic is 0x%08x, expected 0x%08x", from,
                      table->magic, NEAP_ADAPTER_MAGIC);
  }
  if (table->abi != NEAP_ADAPTER_ABI) {
    return neap__fail(err, NEAP_EABI, "%s: built for adapter interface %u, this engine has %u; rebuild the plugin",
                      from, table->abi, NEAP_ADAPTER_ABI);
  }
  size_t least = offsetof(neap_adapter, close) + sizeof table->close;
  if (table->size < least) {
    return neap__fail(err, NEAP_EABI, "%s: its adapter table has %u bytes, expected at least %zu", from, table->size,
                      least);
  }
  if (!table->name || !*table->name) return neap__fail(err, NEAP_EINVAL, "%s: an adapter table has no name", from);
  const char *lacks = !table->open     ? "open"
                      : !table->store  ? "store"
                      : !table->lookup ? "lookup"
                      : !table->load   ? "load"
                      : !table->close  ? "close"
                                       : NULL;
  if (lacks) return neap__fail(err, NEAP_EINVAL, "%s: adapter '%s' has no function %s", from, table->name, lacks);
  return 0;
}

/* The table called class_name, or the only one when class_name is NULL. */
static int choose(neap_adapter_entry_fn entry, const char *path, const char *class_name, const neap_adapter **out,
                  neap_error *err) {
  const char *names[TABLES_MAX];
  char offered[256] = "";
  const neap_adapter *table, *first = NULL;
  uint32_t count = 0;
  for (; count < TABLES_MAX && (table = entry(count)); count++) {
    int rc = neap__native_check(table, path, err);
    if (rc) return rc;
    if (class_name && strcmp(table->name, class_name) == 0) {
      *out = table;
      return 0;
    }
    if (count == 0) first = table;
    names[count] = table->name;
    size_t used = strlen(offered);
    snprintf(offered + used, sizeof offered - used, "%s%s", count ? ", " : "", table->name);
  }
  if (count == 0) return neap__fail(err, NEAP_EINVAL, "%s: offers no adapter", path);
  if (!class_name && count == 1) {
    *out = first;
    return 0;
  }
  if (!class_name) {
    return neap__fail(err, NEAP_EINVAL, "class_name must be a non-empty string, but it is missing; %s offers: %s", path,
                      offered);
  }
  const char *nearest = neap__nearest(class_name, names, count);
  return neap__fail(err, NEAP_ENOENT, "%s has no class '%.64s'; it offers: %s%s%s%s", path, class_name, offered,
                    nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
}

/* config_class_name is LMCache's way to name a parser of parameters; a native table brings its schema instead. */
static int load(const char *path, const char *class_name, const char *config_class_name, const neap_adapter **out,
                neap_error *err) {
  neap_adapter_entry_fn entry;
  (void)config_class_name;
  NEAP_ASSERT(path[0] == '/');
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!handle) return neap__fail(err, NEAP_EINVAL, "cannot load plugin: %s", dlerror());
  void *symbol = dlsym(handle, NEAP_ADAPTER_ENTRY);
  if (!symbol) return neap__fail(err, NEAP_EINVAL, "%s: not a neap adapter: no symbol " NEAP_ADAPTER_ENTRY, path);
  memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from object to function pointers */
  return choose(entry, path, class_name, out, err);
}

const neap__loader neap__native_loader = {.suffix = ".so", .load = load};
