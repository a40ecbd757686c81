/* SPDX-License-Identifier: MIT
 *
 * l2/limits.c - what the framework does around every operation: the adapter's traits, overridden by the configuration.
 *
 * Traits out of range are brought into it: they are a declaration, not somebody's input. Configured values are checked
 * and refused. The thread that opens the engine runs this. */
#include "l2/limits.h"

#include "l2/schema.h"

static const neap__limits defaults = {.concurrency = 64,
                                      .batch = UINT32_MAX,
                                      .deadline_ms = 30000,
                                      .retries = 0,
                                      .backoff_ms = 50,
                                      .breaker_failures = 5,
                                      .cooldown_ms = 1000,
                                      .cooldown_max_ms = 30000,
                                      .probe_ms = 2000,
                                      .negative_ms = 5000,
                                      .no_space_ms = 5000};

static const char breaker_schema[] =
    "{\"failures\":{\"type\":\"integer\",\"min\":0,\"max\":1000000,\"default\":5},"
    "\"cooldown\":{\"type\":\"number\",\"min\":0.001,\"max\":3600,\"default\":1},"
    "\"cooldown_max\":{\"type\":\"number\",\"min\":0.001,\"max\":3600,\"default\":30},"
    "\"probe_deadline\":{\"type\":\"number\",\"min\":0.001,\"max\":3600,\"default\":2}}";

static void take(uint32_t *limit, uint32_t declared, uint32_t max) {
  if (declared) *limit = NEAP_MIN(declared, max);
}

neap__limits neap__limits_of(const neap_adapter *adapter) {
  neap__limits limits = defaults;
  const neap_traits *traits = NEAP_HAS(adapter, neap_adapter, traits) ? adapter->traits : NULL;
  if (!traits) return limits;
  if (NEAP_HAS(traits, neap_traits, concurrency))
    take(&limits.concurrency, traits->concurrency, NEAP_LIMIT_CONCURRENCY);
  if (NEAP_HAS(traits, neap_traits, batch)) take(&limits.batch, traits->batch, UINT32_MAX);
  if (NEAP_HAS(traits, neap_traits, deadline_ms))
    take(&limits.deadline_ms, traits->deadline_ms, NEAP_LIMIT_DEADLINE_MS);
  if (NEAP_HAS(traits, neap_traits, retries)) take(&limits.retries, traits->retries, NEAP_LIMIT_RETRIES);
  if (NEAP_HAS(traits, neap_traits, backoff_ms)) take(&limits.backoff_ms, traits->backoff_ms, NEAP_LIMIT_DEADLINE_MS);
  return limits;
}

static void read_number(const cJSON *config, const char *name, double scale, uint32_t *out) {
  const cJSON *value = cJSON_GetObjectItemCaseSensitive(config, name);
  if (cJSON_IsNumber(value)) *out = (uint32_t)(value->valuedouble * scale + 0.5);
}

int neap__limits_read(cJSON *config, neap__limits *limits, neap_error *err) {
  read_number(config, "concurrency", 1, &limits->concurrency);
  read_number(config, "batch", 1, &limits->batch);
  read_number(config, "deadline", 1000, &limits->deadline_ms);
  read_number(config, "retries", 1, &limits->retries);
  read_number(config, "backoff", 1000, &limits->backoff_ms);
  read_number(config, "failed_store_pause", 1000, &limits->negative_ms);
  read_number(config, "no_space_pause", 1000, &limits->no_space_ms);
  cJSON *breaker = cJSON_GetObjectItemCaseSensitive(config, "breaker"), *schema = NULL;
  if (!breaker) return 0;
  int rc = neap__schema_parse(breaker_schema, &schema, err);
  if (rc == 0) rc = neap__schema_apply(schema, breaker, "breaker", false, err);
  cJSON_Delete(schema);
  if (rc) return rc;
  read_number(breaker, "failures", 1, &limits->breaker_failures);
  read_number(breaker, "cooldown", 1000, &limits->cooldown_ms);
  read_number(breaker, "cooldown_max", 1000, &limits->cooldown_max_ms);
  read_number(breaker, "probe_deadline", 1000, &limits->probe_ms);
  limits->cooldown_max_ms = NEAP_MAX(limits->cooldown_max_ms, limits->cooldown_ms);
  return 0;
}
