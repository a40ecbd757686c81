/* SPDX-License-Identifier: MIT
 *
 * l2/config.c - one `--l2-adapter JSON` into an adapter table with checked parameters.
 *
 *      {"type":"fs", "base_path":..., KEYS}     a built-in type or a module of that name, parameters beside KEYS
 *      {"type":"plugin", "module_path":..., "class_name":..., "adapter_params":{...}, KEYS}          a module
 *
 * KEYS belong to the framework and mean the same for every type; adapters never see them. One of them, checksum, is the
 * adapter's where its own schema has it; elsewhere the adapter becomes the inner one of "checksum". The whole object is
 * checked by one schema: that of KEYS together with that of the type. Unlike LMCache, which ignores them, unknown keys
 * are refused. The thread that opens the engine runs this. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "l2/limits.h"
#include "l2/native.h"
#include "l2/schema.h"

#define GIB 1073741824.0
#define PATH_BYTES 4096
#define NAME_BYTES "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

static const char frame_schema[] =
    "{\"type\":{\"type\":\"string\",\"required\":true},"
    "\"name\":{\"type\":\"string\",\"min\":1,\"max\":63},"
    "\"affinity_tag\":{\"type\":\"string\",\"default\":\"_default\"},"
    "\"shared\":{\"type\":\"boolean\",\"default\":false},"
    "\"persist_enabled\":{\"type\":\"boolean\",\"default\":true},"
    "\"max_capacity_gb\":{\"type\":\"number\",\"min\":0,\"max\":1000000000,\"default\":0},"
    "\"eviction\":{\"type\":\"object\"}," NEAP_LIMITS_SCHEMA
    ","
    "\"serde\":{\"type\":\"object\"}}";

/* Of types whose own schema has no such parameter. */
static const char checksum_rule[] = "{\"type\":\"string\",\"enum\":[\"crc32c\"]}";

static const char eviction_schema[] =
    "{\"eviction_policy\":{\"type\":\"string\",\"required\":true,\"enum\":[\"LRU\",\"IsolatedLRU\",\"ARC\",\"noop\"]},"
    "\"trigger_watermark\":{\"type\":\"number\",\"above\":0,\"max\":1,\"default\":0.8},"
    "\"eviction_ratio\":{\"type\":\"number\",\"above\":0,\"max\":1,\"default\":0.2}}";

static const char module_schema[] =
    "{\"module_path\":{\"type\":\"string\",\"required\":true},"
    "\"class_name\":{\"type\":\"string\",\"min\":1},"
    "\"config_class_name\":{\"type\":\"string\"},"
    "\"adapter_params\":{\"type\":\"object\",\"default\":{}}}";

static const cJSON *member(const cJSON *object, const char *name) {
  return cJSON_GetObjectItemCaseSensitive(object, name);
}

static const char *string_of(const cJSON *object, const char *name) {
  return cJSON_GetStringValue(member(object, name));
}

static int no_memory(neap_error *err) { return neap__fail(err, NEAP_ENOMEM, "out of memory"); }

/* The framework's schema, with the rules of `more` behind it (may be NULL). */
static int frame_schema_with(const cJSON *more, cJSON **out, neap_error *err) {
  cJSON *frame = NULL;
  int rc = neap__schema_parse(frame_schema, &frame, err);
  if (rc) return rc;
  for (const cJSON *rule = more ? more->child : NULL; rule; rule = rule->next) {
    if (member(frame, rule->string)) continue; /* the framework's meaning goes first */
    cJSON *copy = cJSON_Duplicate(rule, 1);
    if (!copy || !cJSON_AddItemToObject(frame, rule->string, copy)) {
      cJSON_Delete(copy);
      cJSON_Delete(frame);
      return no_memory(err);
    }
  }
  if (!member(frame, "checksum")) cJSON_AddItemToObject(frame, "checksum", cJSON_Parse(checksum_rule));
  *out = frame;
  return 0;
}

/* Checks config against the framework's keys and those of `schema_json`; NULL: others are let through. */
static int check_keys(cJSON *config, const char *schema_json, neap_error *err) {
  cJSON *own = NULL, *schema = NULL;
  int rc = neap__schema_parse(schema_json, &own, err);
  if (rc == 0) rc = frame_schema_with(own, &schema, err);
  if (rc == 0) rc = neap__schema_apply(schema, config, "", schema_json == NULL, err);
  cJSON_Delete(own);
  cJSON_Delete(schema);
  return rc;
}

static int read_eviction(cJSON *config, neap__tier_config *out, neap_error *err) {
  cJSON *schema = NULL, *given = cJSON_GetObjectItemCaseSensitive(config, "eviction");
  out->trigger_watermark = 0.8;
  out->eviction_ratio = 0.2;
  if (!given) return 0;
  int rc = neap__schema_parse(eviction_schema, &schema, err);
  if (rc == 0) rc = neap__schema_apply(schema, given, "eviction", false, err);
  cJSON_Delete(schema);
  if (rc) return rc;
  snprintf(out->eviction_policy, sizeof out->eviction_policy, "%s", string_of(given, "eviction_policy"));
  out->trigger_watermark = member(given, "trigger_watermark")->valuedouble;
  out->eviction_ratio = member(given, "eviction_ratio")->valuedouble;
  return 0;
}

/* Before the schema, because LMCache words these two in its own way; there are no serdes to choose from. */
static int refuse_serde(const cJSON *config, neap_error *err) {
  char shown[96];
  const cJSON *serde = member(config, "serde");
  if (!serde || cJSON_IsNull(serde)) return 0;
  if (!cJSON_IsObject(serde)) {
    return neap__fail(err, NEAP_EINVAL, "'serde' must be a dict, got %s", neap__json_show(serde, shown, sizeof shown));
  }
  const char *type = string_of(serde, "type");
  if (!type) return neap__fail(err, NEAP_EINVAL, "'serde' dict must include a 'type' field");
  return neap__fail(err, NEAP_ENOTSUP, "this build has no serde '%.64s'", type);
}

/* Once the adapter is known: what it declares, and what the configuration says instead. */
static int read_limits(cJSON *config, neap__tier_config *out, neap_error *err) {
  out->limits = neap__limits_of(out->adapter);
  return neap__limits_read(config, &out->limits, err);
}

static int read_frame(cJSON *config, neap__tier_config *out, neap_error *err) {
  const char *tag = string_of(config, "affinity_tag");
  if (strcmp(tag, "_default") != 0) {
    return neap__fail(err, NEAP_EINVAL, "Unknown L1 affinity_tag: '%.64s'; the one L1 here is '_default'", tag);
  }
  const char *label = string_of(config, "name");
  if (label && (!label[strspn(label, "0123456789")] || label[strspn(label, NAME_BYTES)]))
    return neap__fail(err, NEAP_EINVAL,
                      "name: '%.64s' is not valid; expected letters, digits, '.', '_' or '-', and not "
                      "digits alone",
                      label);
  if (label && !(out->label = strdup(label))) return no_memory(err);
  out->shared = cJSON_IsTrue(member(config, "shared"));
  out->persist_enabled = cJSON_IsTrue(member(config, "persist_enabled"));
  out->capacity_bytes = (uint64_t)(member(config, "max_capacity_gb")->valuedouble * GIB);
  return read_eviction(config, out, err);
}

/* Finds and loads a module. class_name NULL: its only adapter. */
static int load_module(const char *plugin_dirs, const char *module_path, const char *class_name,
                       const char *config_class_name, neap__tier_config *out, neap_error *err) {
  char path[PATH_BYTES];
  int rc = neap__registry_locate(plugin_dirs, module_path, path, sizeof path, err);
  if (rc) return rc;
  const neap__loader *loader = neap__registry_loader(path, err);
  if (!loader) return NEAP_ENOTSUP;
  if (!(out->path = strdup(path))) return no_memory(err);
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  out->loaded_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
  return loader->load(path, class_name, config_class_name, &out->adapter, err);
}

/* The adapter behind a type: built in, or the only one of the module of that name. */
static int find_type(const char *type, const char *plugin_dirs, neap__tier_config *out, neap_error *err) {
  out->adapter = neap__registry_find(type);
  if (out->adapter) return 0;
  bool is_name = !type[strspn(type, "abcdefghijklmnopqrstuvwxyz0123456789_")];
  int rc = is_name ? load_module(plugin_dirs, type, NULL, NULL, out, err) : NEAP_ENOENT;
  return rc == NEAP_ENOENT ? neap__registry_unknown(type, plugin_dirs, err) : rc;
}

/* A module: find it, load it, check adapter_params with the schema of the table. *params points into config. */
static int read_module(cJSON *config, const char *plugin_dirs, neap__tier_config *out, cJSON **params,
                       neap_error *err) {
  const char *module_path = string_of(config, "module_path");
  cJSON *schema = NULL;
  neap_error why = {""};
  int rc = check_keys(config, module_schema, err);
  if (rc == 0) rc = read_frame(config, out, err);
  if (rc == 0)
    rc = load_module(plugin_dirs, module_path, string_of(config, "class_name"), string_of(config, "config_class_name"),
                     out, err);
  if (rc == 0) rc = read_limits(config, out, err);
  if (rc) return rc;
  *params = cJSON_GetObjectItemCaseSensitive(config, "adapter_params");
  rc = neap__schema_parse(out->adapter->schema_json, &schema, &why);
  if (rc) return neap__fail(err, rc, "%s: adapter '%s': %s", module_path, out->adapter->name, why.text);
  rc = neap__schema_apply(schema, *params, "adapter_params", false, err);
  cJSON_Delete(schema);
  return rc;
}

/* Takes the framework's keys out. */
static int delete_frame(cJSON *config, neap_error *err) {
  cJSON *frame = NULL;
  int rc = neap__schema_parse(frame_schema, &frame, err);
  for (const cJSON *rule = frame ? frame->child : NULL; rule; rule = rule->next) {
    cJSON_DeleteItemFromObjectCaseSensitive(config, rule->string);
  }
  cJSON_Delete(frame);
  return rc;
}

/* A type by its own name: its parameters stand beside the framework's keys, which are taken out for open(). */
static int read_named(cJSON *config, const char *plugin_dirs, neap__tier_config *out, cJSON **params, neap_error *err) {
  int rc = find_type(out->type, plugin_dirs, out, err);
  if (rc) return rc;
  rc = check_keys(config, out->adapter->schema_json, err);
  if (rc == 0) rc = read_frame(config, out, err);
  if (rc == 0) rc = read_limits(config, out, err);
  if (rc == 0) rc = delete_frame(config, err);
  *params = config;
  return rc;
}

/* --- checksum ------------------------------------------------------------------------------------------------- */

/* Whether the key means the framework's envelope. */
static bool wants_checksum(const cJSON *config, bool module, const neap_adapter *adapter) {
  cJSON *own = NULL;
  if (!cJSON_IsString(member(config, "checksum")) || neap__schema_parse(adapter->schema_json, &own, NULL)) return false;
  bool is_own = !module && own && member(own, "checksum");
  cJSON_Delete(own);
  return !is_own;
}

/* The adapter becomes the inner one of "checksum"; given: the configuration as it was. */
static int wrap_checksum(const cJSON *given, neap__tier_config *out, neap_error *err) {
  const neap_adapter *wrapper = neap__registry_find("checksum");
  if (!wrapper) return neap__fail(err, NEAP_ENOTSUP, "checksum: the type 'checksum' is not in this build");
  cJSON *params = cJSON_CreateObject(), *inner = cJSON_Duplicate(given, 1);
  char *text = NULL;
  int rc = params && inner ? delete_frame(inner, err) : no_memory(err);
  if (rc == 0) {
    cJSON_DeleteItemFromObjectCaseSensitive(inner, "checksum");
    cJSON_AddStringToObject(inner, "type", out->type);
    cJSON_AddItemReferenceToObject(params, "inner", inner);
    text = cJSON_PrintUnformatted(params);
    if (!text) rc = no_memory(err);
  }
  free(out->params_json);
  out->params_json = NULL;
  out->adapter = wrapper;
  if (rc == 0) rc = neap__schema_check(wrapper->schema_json, text, "checksum", &out->params_json, err);
  cJSON_Delete(params);
  cJSON_Delete(inner);
  free(text);
  return rc;
}

static int read_checked(cJSON *config, const char *plugin_dirs, neap__tier_config *out, neap_error *err) {
  cJSON *params = NULL, *given = cJSON_Duplicate(config, 1);
  bool module = strcmp(out->type, "plugin") == 0 || strcmp(out->type, "native_plugin") == 0;
  int rc = !given   ? no_memory(err)
           : module ? read_module(config, plugin_dirs, out, &params, err)
                    : read_named(config, plugin_dirs, out, &params, err);
  if (rc) goto out;
  bool wrap = wants_checksum(given, module, out->adapter);
  if (wrap && !module) cJSON_DeleteItemFromObjectCaseSensitive(params, "checksum");
  out->name = strdup(out->adapter->name);
  out->params_json = cJSON_PrintUnformatted(params);
  if (!out->name || !out->params_json) rc = no_memory(err);
  if (rc == 0 && wrap) rc = wrap_checksum(given, out, err);
out:
  cJSON_Delete(given);
  return rc;
}

static int read_config(cJSON *config, const char *plugin_dirs, neap__tier_config *out, neap_error *err) {
  char shown[96];
  if (!cJSON_IsObject(config)) {
    return neap__fail(err, NEAP_EINVAL, "expected a JSON object, got %s", neap__json_type(config));
  }
  const cJSON *type = member(config, "type");
  if (!type) return neap__fail(err, NEAP_EINVAL, "missing 'type'");
  if (!cJSON_IsString(type) || !*type->valuestring) {
    return neap__fail(err, NEAP_EINVAL, "type must be a non-empty string, got %s",
                      neap__json_show(type, shown, sizeof shown));
  }
  out->type = strdup(type->valuestring);
  cJSON *copy = cJSON_Duplicate(config, 1);
  if (copy && neap__json_mask(copy) == 0) out->shown_json = cJSON_PrintUnformatted(copy);
  cJSON_Delete(copy);
  if (!out->type || !out->shown_json) return no_memory(err);
  int rc = refuse_serde(config, err);
  if (rc) return rc;
  return read_checked(config, plugin_dirs, out, err);
}

static int parse_tree(cJSON *config, const char *plugin_dirs, neap__tier_config *out, neap_error *err) {
  out->plugin_dirs = strdup(plugin_dirs ? plugin_dirs : "");
  int rc = out->plugin_dirs ? read_config(config, plugin_dirs, out, err) : no_memory(err);
  cJSON_Delete(config);
  if (rc) neap__tier_config_free(out);
  return rc;
}

int neap__tier_config_parse(const char *json, uint32_t index, const char *plugin_dirs, neap__tier_config *out,
                            neap_error *err) {
  cJSON *config = NULL;
  neap_error why = {""};
  *out = (neap__tier_config){0};
  int rc = neap__json_parse(json, &config, &why);
  if (rc && !index) return neap__fail(err, rc, "invalid JSON: %s", why.text);
  if (rc) return neap__fail(err, rc, "Invalid JSON for --l2-adapter #%u: %s", index, why.text);
  rc = parse_tree(config, plugin_dirs, out, &why);
  if (rc && !index) return neap__fail(err, rc, "%s", why.text);
  return rc ? neap__fail(err, rc, "--l2-adapter #%u: %s", index, why.text) : 0;
}

bool neap__tier_config_is_tiers(const char *key) {
  cJSON *frame = NULL;
  if (strcmp(key, "type") == 0 || neap__schema_parse(frame_schema, &frame, NULL) != 0) return false;
  bool found = cJSON_HasObjectItem(frame, key);
  cJSON_Delete(frame);
  return found;
}

/* --- changing ------------------------------------------------------------------------------------------------- */

/* Where the parameters of the adapter stand: in adapter_params, or beside the framework's keys. */
static cJSON *params_of(cJSON *config, bool *beside) {
  const char *type = string_of(config, "type");
  *beside = strcmp(type, "plugin") != 0 && strcmp(type, "native_plugin") != 0;
  if (*beside) return config;
  cJSON *params = cJSON_GetObjectItemCaseSensitive(config, "adapter_params");
  return params ? params : cJSON_AddObjectToObject(config, "adapter_params");
}

/* null takes a parameter back, so that its default holds. */
static int set_params(cJSON *config, const cJSON *changes, neap_error *err) {
  bool beside;
  cJSON *frame = NULL, *params = params_of(config, &beside);
  int rc = params ? neap__schema_parse(frame_schema, &frame, err) : no_memory(err);
  for (const cJSON *change = changes->child; change && rc == 0; change = change->next) {
    if (beside && member(frame, change->string)) {
      rc = neap__fail(err, NEAP_EINVAL, "%.64s is not a parameter of the adapter; detach and attach to change it",
                      change->string);
      break;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(params, change->string);
    cJSON *copy = cJSON_IsNull(change) ? NULL : cJSON_Duplicate(change, 1);
    if (!cJSON_IsNull(change) && !(copy && cJSON_AddItemToObject(params, change->string, copy))) rc = no_memory(err);
  }
  cJSON_Delete(frame);
  return rc;
}

int neap__tier_config_change(const char *json, const char *params_json, char **out, char **shown, neap_error *err) {
  cJSON *config = NULL, *changes = NULL;
  int rc = neap__json_parse(json, &config, err);
  if (rc == 0) rc = neap__json_parse(params_json, &changes, err);
  if (rc == 0 && !cJSON_IsObject(changes))
    rc = neap__fail(err, NEAP_EINVAL, "parameters: expected a JSON object, got %s", neap__json_type(changes));
  if (rc == 0) rc = set_params(config, changes, err);
  *out = rc == 0 ? cJSON_PrintUnformatted(config) : NULL;
  *shown = *out && neap__json_mask(config) == 0 ? cJSON_PrintUnformatted(config) : NULL;
  if (rc == 0 && !*shown) rc = no_memory(err);
  if (rc) {
    free(*out);
    *out = NULL; /* a caller may free it, too */
  }
  cJSON_Delete(changes);
  cJSON_Delete(config);
  return rc;
}

void neap__tier_config_free(neap__tier_config *config) {
  free(config->type);
  free(config->label);
  free(config->path);
  free(config->name);
  free(config->params_json);
  free(config->shown_json);
  free(config->plugin_dirs);
  *config = (neap__tier_config){0};
}
