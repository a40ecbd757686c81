/* SPDX-License-Identifier: MIT
 *
 * l2/tier_change.c - changes of a tier that stays: reload and reconfigure; see tier_set.h. The thread that makes a
 * change has claimed the slot, so it alone writes the texts of the configuration; it does so under the lock, for others
 * read them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "l2/schema.h"
#include "l2/tier_set_defs.h"

#define NAMES_MAX 128u

static char *copy_of(neap__tier_set *set, char *const *text) {
  pthread_mutex_lock(&set->lock);
  char *copy = strdup(*text);
  pthread_mutex_unlock(&set->lock);
  return copy;
}

char *neap__tier_set_params(neap__tier_set *set, uint32_t index) {
  return copy_of(set, &set->slots[index].config.params_json);
}

char *neap__tier_set_shown(neap__tier_set *set, uint32_t index) {
  return copy_of(set, &set->slots[index].config.shown_json);
}

/* *to becomes *from, and the other way round. */
static void exchange(char **to, char **from) {
  char *old = *to;
  *to = *from;
  *from = old;
}

/* Claims a tier that is not draining. */
static int claim_attached(neap__tier_set *set, const char *name, uint32_t *index, neap_error *err) {
  int rc = neap__slot_claim(set, name, index, err);
  if (rc || set->slots[*index].state == NEAP_SLOT_ATTACHED) return rc;
  rc = neap__fail(err, NEAP_EBUSY, "adapter '%s' is being detached", set->slots[*index].name);
  neap__slot_unclaim(set, *index); /* from here on the slot may be another's */
  return rc;
}

/* --- reload --------------------------------------------------------------------------------------------------- */

static int reload_slot(neap__tier_set *set, neap__slot *s, const char *params_json, uint64_t grace_ms, uint32_t *left,
                       neap_error *err) {
  neap__tier_config config = {0};
  char *json = NULL, *shown = NULL;
  int rc = neap__tier_config_change(s->json, params_json ? params_json : "{}", &json, &shown, err);
  if (rc) return rc;
  rc = neap__tier_config_parse(json, 0, set->plugin_dirs, &config, err);
  if (rc == 0) rc = neap__tier_reload(s->tier, &config, grace_ms, left, err);
  if (rc == 0) {
    pthread_mutex_lock(&set->lock);
    exchange(&s->config.params_json, &config.params_json);
    exchange(&s->config.shown_json, &config.shown_json);
    exchange(&s->json, &json);
    pthread_mutex_unlock(&set->lock);
  }
  neap__tier_config_free(&config);
  free(json);
  free(shown);
  return rc;
}

int neap__tier_set_reload(neap__tier_set *set, const char *name, const char *params_json, uint64_t grace_ms,
                          uint32_t *left, neap_error *err) {
  uint32_t index;
  int rc = claim_attached(set, name, &index, err);
  if (rc) return rc;
  rc = reload_slot(set, &set->slots[index], params_json, grace_ms, left, err);
  neap__slot_unclaim(set, index);
  return rc;
}

/* --- reconfigure ---------------------------------------------------------------------------------------------- */

static int unknown(const cJSON *schema, const char *param, neap_error *err) {
  const char *names[NAMES_MAX];
  size_t count = 0;
  for (const cJSON *rule = schema ? schema->child : NULL; rule && count < NAMES_MAX; rule = rule->next)
    names[count++] = rule->string;
  const char *nearest = neap__nearest(param, names, count);
  return neap__fail(err, NEAP_EINVAL, "%.64s: the adapter has no such parameter%s%s%s", param,
                    nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
}

/* All of changes must be live. */
static int check_live(const neap_adapter *adapter, const cJSON *changes, neap_error *err) {
  cJSON *schema = NULL;
  int rc = neap__schema_parse(adapter->schema_json, &schema, err);
  if (rc == 0 && !changes->child) rc = neap__fail(err, NEAP_EINVAL, "expected at least one parameter, got none");
  for (const cJSON *change = changes->child; change && rc == 0; change = change->next) {
    const cJSON *rule = cJSON_GetObjectItemCaseSensitive(schema, change->string);
    if (schema && !rule)
      rc = unknown(schema, change->string, err);
    else if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(rule, "live")))
      rc = neap__fail(err, NEAP_ENOTSUP,
                      "%.64s: cannot be changed while the adapter runs; reload the adapter with the new value",
                      change->string);
  }
  if (rc == 0 && !NEAP_HAS(adapter, neap_adapter, reconfigure))
    rc = neap__fail(err, NEAP_ENOTSUP, "%.64s: the adapter has no reconfigure; reload it with the new value",
                    changes->child->string);
  cJSON_Delete(schema);
  return rc;
}

/* The parameters that it has, with the changes, checked. */
static int apply(const neap__slot *s, const cJSON *changes, char **out, neap_error *err) {
  cJSON *params = cJSON_Parse(s->config.params_json);
  bool ok = params != NULL;
  for (const cJSON *change = changes->child; change && ok; change = change->next) {
    cJSON_DeleteItemFromObjectCaseSensitive(params, change->string);
    ok = cJSON_AddItemToObject(params, change->string, cJSON_Duplicate(change, 1));
  }
  char *text = ok ? cJSON_PrintUnformatted(params) : NULL;
  cJSON_Delete(params);
  if (!text) return neap__fail(err, NEAP_ENOMEM, "out of memory");
  int rc = neap__schema_check(neap__tier_adapter(s->tier)->schema_json, text, "", out, err);
  free(text);
  return rc;
}

static int configure_slot(neap__tier_set *set, neap__slot *s, const char *params_json, const cJSON *changes,
                          neap_error *err) {
  char *json = NULL, *shown = NULL, *params = NULL;
  int rc = check_live(neap__tier_adapter(s->tier), changes, err);
  if (rc == 0) rc = apply(s, changes, &params, err);
  if (rc == 0) rc = neap__tier_config_change(s->json, params_json, &json, &shown, err);
  if (rc == 0) rc = neap__tier_reconfigure(s->tier, params, err);
  if (rc == 0) {
    pthread_mutex_lock(&set->lock);
    exchange(&s->config.params_json, &params);
    exchange(&s->config.shown_json, &shown);
    exchange(&s->json, &json);
    pthread_mutex_unlock(&set->lock);
  }
  free(json);
  free(shown);
  free(params);
  return rc;
}

int neap__tier_set_configure(neap__tier_set *set, const char *name, const char *params_json, neap_error *err) {
  uint32_t index;
  cJSON *changes = NULL;
  int rc = neap__json_parse(params_json, &changes, err);
  if (rc == 0 && !cJSON_IsObject(changes))
    rc = neap__fail(err, NEAP_EINVAL, "parameters: expected a JSON object, got %s", neap__json_type(changes));
  if (rc == 0) rc = claim_attached(set, name, &index, err);
  if (rc == 0) {
    rc = configure_slot(set, &set->slots[index], params_json, changes, err);
    neap__slot_unclaim(set, index);
  }
  cJSON_Delete(changes);
  return rc;
}
