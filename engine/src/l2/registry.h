/* SPDX-License-Identifier: MIT
 *
 * l2/registry.h - from `--l2-adapter JSON` to an adapter table with checked parameters.
 *
 * Three sources of tables: built-in types (neap_adapter_register), native plugins (`module_path` ending in .so or
 * naming one) and modules of other loaders (the script layer adds one for .lua). Plugins are looked for only in the
 * directories of the plugin path. A module that offers one adapter can be named as a type, too. */
#pragma once
#include <neap/adapter.h>

#include "base/base.h"

/* The built-in type of that name, or NULL. */
const neap_adapter *neap__registry_find(const char *type);
/* Says that there is no such type, with the nearest one, built in or a module of plugin_dirs (may be NULL): reads all
 * of those directories. Returns NEAP_EINVAL. */
int neap__registry_unknown(const char *type, const char *plugin_dirs, neap_error *err);

/* A loader of plugin modules: path is an existing file with its suffix, class_name and config_class_name (may be NULL)
 * as configured. On success *out stays valid until the process ends. */
typedef struct neap__loader {
  const char *suffix; /* ".lua" */
  int (*load)(const char *path, const char *class_name, const char *config_class_name, const neap_adapter **out,
              neap_error *err); /* class_name NULL: the only adapter there */
} neap__loader;
/* Adds a loader; the struct must live as long as the program. Before the first engine is opened. */
void neap__registry_add_loader(const neap__loader *loader);

/* Finds a module among plugin_dirs (colon-separated). module_path is "name", "dotted.name", "dir/name.lua" or an
 * absolute path below one of the directories; never contains "..". Tries NAME.lua, NAME/init.lua, NAME.so,
 * libNAME.so, NAME/NAME.so. The file must be regular, and neither it nor a directory from the plugin directory down to
 * it world-writable. Returns 0 and the real path in path[cap], or NEAP_ENOENT / NEAP_EPERM / NEAP_EINVAL with err
 * naming what was tried. */
int neap__registry_locate(const char *plugin_dirs, const char *module_path, char *path, size_t cap, neap_error *err);

/* What the framework does around every operation of a tier; times in milliseconds.
 * concurrency       operations that the adapter has at once
 * batch             objects of one operation at most
 * deadline_ms       of one operation, from its hand-over
 * retries           further attempts for objects that ended with NEAP_EIO or NEAP_ETIMEDOUT
 * backoff_ms        before the first further attempt, doubled for each one after it
 * breaker_failures  failed operations in a row that open the breaker, 0: it never opens
 * cooldown_ms       from opening to the first probe; doubled after each probe that fails, up to cooldown_max_ms
 * probe_ms          deadline of a probe
 * negative_ms       for how long a key whose store failed is not stored again, 0: not at all
 * no_space_ms       for how long nothing is stored after the store was full and no room could be made */
typedef struct neap__limits {
  uint32_t concurrency, batch, deadline_ms, retries, backoff_ms;
  uint32_t breaker_failures, cooldown_ms, cooldown_max_ms, probe_ms;
  uint32_t negative_ms, no_space_ms;
} neap__limits;

#define NEAP_LIMIT_CONCURRENCY 256u
#define NEAP_LIMIT_DEADLINE_MS 3600000u
#define NEAP_LIMIT_RETRIES 10u

/* What holds for an adapter that the configuration says nothing about: its traits, else the defaults. */
neap__limits neap__limits_of(const neap_adapter *adapter);

/* One parsed `--l2-adapter`. Owned by the caller; neap__tier_config_free. */
typedef struct neap__tier_config {
  const neap_adapter *adapter;
  char *type;        /* as configured: "fs", "plugin", ... */
  char *label;       /* the name that the configuration gives this tier, NULL: none */
  char *path;        /* the file of its module, NULL: built in */
  int64_t loaded_ns; /* of that file, by the time of day: just before it was read */
  char *name;        /* the adapter's own name, e.g. "InMemoryL2Adapter" */
  char *params_json; /* checked against the adapter's schema, defaults filled in */
  char *shown_json;  /* the whole configuration as given, secrets masked, for /config */
  char *plugin_dirs; /* where the adapter's own inner adapters are looked for, too */
  bool shared, persist_enabled;
  char eviction_policy[16]; /* "", "LRU", "IsolatedLRU", "ARC", "noop" */
  double trigger_watermark, eviction_ratio;
  uint64_t capacity_bytes; /* max_capacity_gb; 0 = not bounded by the framework */
  neap__limits limits;     /* concurrency 0: those of the adapter */
} neap__tier_config;

/* Parses and validates one JSON text (number `index` of the command line, for messages; 0: of none). Unknown keys,
 * wrong types and missing parameters are NEAP_EINVAL with the path of the key, its value, what was expected, and the
 * nearest known name, in LMCache's wording where it has one ("--l2-adapter #1: missing 'type'"). plugin_dirs as above.
 */
int neap__tier_config_parse(const char *json, uint32_t index, const char *plugin_dirs, neap__tier_config *out,
                            neap_error *err);
/* A configuration that was parsed before, with other values for some parameters of the adapter (an object; null: the
 * default). They are not checked. On success out and shown (secrets masked) are malloc'd. */
int neap__tier_config_change(const char *json, const char *params_json, char **out, char **shown, neap_error *err);
void neap__tier_config_free(neap__tier_config *config);
/* Whether this key of a configuration is the tier's, such as its capacity, and not the adapter's. */
bool neap__tier_config_is_tiers(const char *key);

/* Checks params (an object as JSON text) against an adapter's schema_json (see adapter.h) and fills in defaults.
 * where: prefix for messages, e.g. "adapter_params". On success *out is a malloc'd JSON text. */
int neap__schema_check(const char *schema_json, const char *params_json, const char *where, char **out,
                       neap_error *err);
