/* SPDX-License-Identifier: MIT
 *
 * serve/metrics.c - GET /metrics; see serve/metrics.h.
 *
 * Where LMCache has a metric for something that exists here, its name, type and unit are used, so that its dashboards
 * work; what LMCache lacks is under neap_. Gauges are read when asked for, never counted up and down. LMCache's labels
 * cache_salt and model_name are left out: counts are kept per process, and an absent label equals an empty one for
 * Prometheus. Runs on the HTTP thread. */
#include "serve/metrics.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define L1_LABELS "l1_tag=\"_default\""
#define L1_BACKEND_LABELS "backend=\"dram\",l1_tag=\"_default\""
#define STATUS_METRIC "neap_l2_adapter_status"
#define STATUS_NUMBERS_MAX 64u /* of one adapter */

void neap__snapshot_take(neap__engine *engine, neap__server *server, neap__snapshot *out) {
  memset(out, 0, sizeof(*out));
  neap__l1_stats_get(engine->l1, &out->l1);
  neap__evictor_stats_get(engine->evictor, &out->evictor);
  neap__storer_stats_get(engine->storer, &out->storer);
  neap__fetcher_stats_get(engine->fetcher, &out->fetcher);
  neap__foresight_stats_get(engine->foresight, &out->foresight);
  neap__server_stats_get(server, &out->server);
  neap__lab_status_get(engine->lab, &out->lab);
  neap__fate_stats_get(engine->fate, &out->fate);
  neap__tier_view view;
  neap__tier_set_view(engine->tiers, &view);
  out->tier_count = view.count;
  for (uint32_t i = 0; i < view.count; i++) {
    const neap__tier_entry *e = &view.entries[i];
    out->tiers[i].index = e->index;
    out->tiers[i].draining = e->draining;
    out->draining += e->draining;
    snprintf(out->tiers[i].name, sizeof(out->tiers[i].name), "%s", neap__tier_config_of(e->tier)->type);
    neap__tier_stats_get(e->tier, &out->tiers[i].stats);
  }
  neap__tier_view_drop(engine->tiers, &view);
}

/* --- the text format ------------------------------------------------------------------------------------------ */

typedef struct metric {
  const char *name, *labels, *help;
  uint64_t value;
} metric;

static void print_head(FILE *out, const char *name, const char *type, const char *help) {
  fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_integers(FILE *out, const char *type, const metric *metrics, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const metric *m = &metrics[i];
    print_head(out, m->name, type, m->help);
    fprintf(out, m->labels ? "%s{%s} %" PRIu64 "\n" : "%s%s %" PRIu64 "\n", m->name, m->labels ? m->labels : "",
            m->value);
  }
}

static void print_real(FILE *out, const char *name, const char *labels, const char *help, double value) {
  print_head(out, name, "gauge", help);
  fprintf(out, labels ? "%s{%s} %.17g\n" : "%s%s %.17g\n", name, labels ? labels : "", value);
}

/* A label value: backslash, quote and line feed are escaped. */
static void print_label(FILE *out, const char *text) {
  for (; *text; text++) {
    if (*text == '\n')
      fputs("\\n", out);
    else if (*text == '"' || *text == '\\')
      fprintf(out, "\\%c", *text);
    else
      fputc(*text, out);
  }
}

/* --- LMCache's names ------------------------------------------------------------------------------------------ */

static void print_lookups(FILE *out, const neap__server_stats *s) {
  const metric counters[] = {
      {"lmcache_mp_lookup_requested_tokens_total", NULL, "Tokens of complete chunks that were looked up.",
       s->lookup_requested_tokens},
      {"lmcache_mp_lookup_hit_tokens_total", NULL, "Of these, tokens in the prefix found in L1 or L2.",
       s->lookup_hit_tokens},
      {"lmcache_mp_lookups_requests_total", NULL, "Completed lookups.", s->lookups},
      {"lmcache_mp_lookup_hit_l1_tokens_total", NULL, "Hit tokens that L1 held.", s->lookup_hit_l1_tokens},
      {"lmcache_mp_lookup_hit_l2_tokens_total", NULL, "Hit tokens that L2 added to what L1 held.",
       s->lookup_hit_l2_tokens},
      {"lmcache_mp_lookup_hit_l1_keys_total", NULL, "Hit objects that L1 held.", s->lookup_hit_l1_keys},
      {"lmcache_mp_lookup_hit_l2_keys_total", NULL, "Hit objects loaded from L2.", s->lookup_hit_l2_keys},
      {"lmcache_mp_lookup_early_exit_requests_total", NULL, "Lookups that ended before a probe.", s->lookup_early_exit},
  };
  print_integers(out, "counter", counters, NEAP_ARRAY_LEN(counters));
}

static void print_l1(FILE *out, const neap__snapshot *now) {
  const neap__l1_stats *l1 = &now->l1;
  const metric counters[] = {
      {"lmcache_mp_l1_write_chunks_total", L1_LABELS, "Objects that became resident in L1.", l1->inserted_objects},
      {"lmcache_mp_l1_read_chunks_total", L1_LABELS, "Chunks that workers read from L1.", now->server.chunks_loaded},
      {"lmcache_mp_l1_evicted_chunks_total", L1_LABELS, "Objects evicted from L1.", l1->evicted_objects},
      {"lmcache_mp_l1_eviction_loop_ticks_total", NULL, "Eviction passes.", now->evictor.passes},
      {"lmcache_mp_l1_eviction_loop_triggered_total", NULL, "Eviction passes that asked the policy.",
       now->evictor.triggered},
      {"neap_l1_allocation_failures_total", NULL, "Reservations that found no room.", l1->alloc_failures},
      {"neap_l1_evicted_bytes_total", NULL, "Bytes evicted from L1.", l1->evicted_bytes},
      {"neap_l1_demand_evictions_total", NULL, "Evictions on a writer's own thread, L1 being full.",
       now->evictor.demand_evictions},
      {"neap_l1_kept_proposals_total", NULL, "Victims of the policy that could not go.", now->evictor.kept_proposals},
      {"neap_l1_eviction_failures_total", NULL, "Times no room could be made.", now->evictor.failures},
  };
  const metric gauges[] = {
      {"lmcache_mp_l1_memory_usage_bytes", L1_BACKEND_LABELS, "Bytes held in L1.", l1->used_bytes},
      {"lmcache_mp_l1_staging_bytes", L1_BACKEND_LABELS, "Bytes reserved in L1 and not committed.", l1->staged_bytes},
      {"neap_l1_pool_bytes", NULL, "Size of L1.", l1->pool_bytes},
      {"neap_l1_largest_free_bytes", NULL, "Largest free extent of L1.", l1->largest_free_bytes},
      {"neap_l1_prefaulted_bytes", NULL, "Bytes of L1 touched in advance.", l1->prefaulted_bytes},
      {"neap_l1_objects", NULL, "Resident objects.", l1->objects},
      {"neap_l1_leased_objects", NULL, "Resident objects with a lease.", l1->leased},
      {"neap_l1_slots_max", NULL, "Most objects that L1 can hold.", l1->slots_max},
      {"neap_l1_leases", NULL, "Leases that hold.", l1->leases_used},
      {"neap_l1_leases_max", NULL, "Most leases at once.", l1->leases_max},
  };
  print_integers(out, "counter", counters, NEAP_ARRAY_LEN(counters));
  print_integers(out, "gauge", gauges, NEAP_ARRAY_LEN(gauges));
  print_real(out, "lmcache_mp_l1_usage_ratio", L1_BACKEND_LABELS, "Share of L1 in use.",
             l1->pool_bytes ? (double)l1->used_bytes / (double)l1->pool_bytes : 0);
}

static void print_store(FILE *out, const neap__storer_stats *s) {
  const metric counters[] = {
      {"lmcache_mp_l2_store_submitted_requests_total", NULL, "Batches handed to L2.", s->submitted},
      {"lmcache_mp_l2_store_submitted_objects_chunks_total", NULL, "Objects handed to L2.", s->submitted_objects},
      {"lmcache_mp_l2_store_completed_requests_total", NULL, "Batches that L2 completed.", s->completed},
      {"lmcache_mp_l2_store_completed_objects_chunks_total", NULL, "Objects stored in L2.", s->completed_objects},
      {"neap_store_failed_objects_total", NULL, "Objects that an L2 store failed to keep.", s->failed_objects},
      {"neap_store_refused_objects_total", NULL, "Objects kept in L1 only, the store queue being full.",
       s->refused_objects},
      {"neap_store_refused_bytes_total", NULL, "Bytes kept in L1 only, the store queue being full.", s->refused_bytes},
      {"neap_store_planned_out_objects_total", NULL, "Objects that the policy kept from an L2 store.",
       s->planned_out_objects},
  };
  const metric gauges[] = {
      {"neap_store_pending_bytes", NULL, "Bytes held for stores that wait or run.", s->pending_bytes},
      {"neap_store_pending_objects", NULL, "Objects held for stores that wait or run.", s->pending_objects},
      {"neap_store_in_flight", NULL, "Batches under way.", s->in_flight},
  };
  print_integers(out, "counter", counters, NEAP_ARRAY_LEN(counters));
  print_integers(out, "gauge", gauges, NEAP_ARRAY_LEN(gauges));
}

static void print_fetch(FILE *out, const neap__snapshot *now) {
  const neap__fetcher_stats *s = &now->fetcher;
  const metric counters[] = {
      {"lmcache_mp_l2_prefetch_lookup_requests_total", NULL, "Lookups handed to L2.", s->l2_lookups},
      {"lmcache_mp_l2_prefetch_lookup_objects_chunks_total", NULL, "Objects looked up in L2.", s->l2_lookup_objects},
      {"lmcache_mp_l2_prefetch_load_submitted_requests_total", NULL, "Loads handed to L2.", s->loads},
      {"lmcache_mp_l2_prefetch_load_submitted_objects_chunks_total", NULL, "Objects to be loaded from L2.",
       s->load_objects},
      {"lmcache_mp_l2_prefetch_load_completed_chunks_total", NULL, "Objects loaded from L2.", s->loaded_objects},
      {"neap_fetches_total", NULL, "Fetches started.", s->lookups},
      {"neap_fetch_requested_chunks_total", NULL, "Chunks that fetches asked for.", s->chunks_requested},
      {"neap_fetch_hit_chunks_total", NULL, "Chunks in the usable prefix of fetches.", s->chunks_hit},
      {"neap_fetch_l1_objects_total", NULL, "Objects that fetches found in L1.", s->l1_objects_hit},
      {"neap_fetch_recomputed_chunks_total", NULL, "Chunks in L2 that the policy had recomputed.",
       s->recomputed_chunks},
      {"neap_fetch_predicted_chunks_total", NULL, "Chunks that the policy predicted.", now->foresight.predicted},
      {"neap_fetch_foreseen_chunks_total", NULL, "Chunks fetched because they were predicted.", now->foresight.fetched},
      {"neap_fetch_l2_objects_total", NULL, "Objects that fetches loaded from L2.", s->l2_objects_hit},
  };
  const metric gauges[] = {
      {"lmcache_mp_active_prefetch_jobs", NULL, "Lookups under way.", now->server.active_fetches},
      {"neap_fetches_in_flight", NULL, "Fetches that use L2.", s->in_flight},
      {"neap_fetches_waiting", NULL, "Fetches that wait for their turn to use L2.", s->waiting},
  };
  print_integers(out, "counter", counters, NEAP_ARRAY_LEN(counters));
  print_integers(out, "gauge", gauges, NEAP_ARRAY_LEN(gauges));
  const char *failures = "lmcache_mp_l2_prefetch_failure_chunks_total";
  print_head(out, failures, "counter", "Objects expected in L2 that were not loaded, by reason.");
  fprintf(out, "%s{reason=\"l1_oom\"} %" PRIu64 "\n", failures, s->failed_l1_oom);
  fprintf(out, "%s{reason=\"not_found\"} %" PRIu64 "\n", failures, s->failed_not_found);
  fprintf(out, "%s{reason=\"deadline\"} %" PRIu64 "\n", failures, s->failed_deadline);
}

/* --- the policy and its lab ----------------------------------------------------------------------------------- */

/* One sample about a policy: labels are its spec and what else there is. */
static void print_of_policy(FILE *out, const char *name, const char *spec, const char *more_labels, double value) {
  fprintf(out, "%s{policy=\"", name);
  print_label(out, spec);
  fprintf(out, "\"%s} %.17g\n", more_labels, value);
}

static double share(uint64_t part, uint64_t whole) { return whole ? (double)part / (double)whole : 0; }

/* One number of every shadow. */
static void print_shadows(FILE *out, const neap__lab_status *lab, const char *name, const char *type, const char *help,
                          double (*value)(const neap__shadow_stats *s)) {
  print_head(out, name, type, help);
  for (uint32_t i = 0; i < lab->shadow_count; i++)
    print_of_policy(out, name, lab->shadows[i].spec, "", value(&lab->shadows[i]));
}

static double shadow_prefix(const neap__shadow_stats *s) { return share(s->window.prefix, s->window.asked); }
static double shadow_block(const neap__shadow_stats *s) { return share(s->window.hits, s->window.asked); }
static double shadow_actual(const neap__shadow_stats *s) { return share(s->window.found_l1, s->window.asked); }
static double shadow_up(const neap__shadow_stats *s) { return s->state == NEAP__SHADOW_RUNNING; }
static double shadow_cpu(const neap__shadow_stats *s) { return (double)s->cpu_ns / 1e9; }
static double shadow_dropped(const neap__shadow_stats *s) { return (double)s->dropped; }
static double shadow_lag(const neap__shadow_stats *s) { return s->lag_ms / 1e3; }

static void print_misses(FILE *out, const neap__fate_stats *fate) {
  static const struct {
    const char *name, *help;
  } kinds[] = {{"neap_misses_total", "Lookups that ended before a chunk, by what became of that chunk."},
               {"neap_missed_chunks_total", "Chunks that lookups did not find, by what became of the first of them."}};
  for (size_t k = 0; k < NEAP_ARRAY_LEN(kinds); k++) {
    print_head(out, kinds[k].name, "counter", kinds[k].help);
    for (uint32_t i = 0; i < NEAP_FATE_REASONS; i++)
      fprintf(out, "%s{reason=\"%s\"} %" PRIu64 "\n", kinds[k].name, neap__fate_name((neap__fate_reason)i),
              k == 0 ? fate->lookups[i] : fate->chunks[i]);
  }
}

static void print_policy(FILE *out, const neap__snapshot *now) {
  const neap__lab_status *lab = &now->lab;
  const neap__instance_stats *in = &lab->stream.instance;
  print_head(out, "neap_policy_up", "gauge", "1 while the policy is at work, 0 while the built-in stands in for it.");
  print_of_policy(out, "neap_policy_up", lab->policy, "", !in->out);
  const metric counters[] = {
      {"neap_policy_events_total", NULL, "Events that the policy was told.", in->events},
      {"neap_policy_refused_proposals_total", NULL, "Victims that were none, since the policy took over.", in->refused},
      {"neap_policy_completed_victims_total", NULL, "Victims that the policy should have named.", in->completed},
      {"neap_lab_requests_total", NULL, "Requests that the policy lab saw.", lab->requests},
      {"neap_lab_dropped_requests_total", NULL, "Requests that it had no room for.", lab->dropped},
      {"neap_record_references_total", NULL, "Chunks of recorded requests.", lab->record.references},
  };
  const metric gauges[] = {
      {"neap_record_bytes", NULL, "Bytes of the recording.", lab->record.bytes},
      {"neap_record_requests", NULL, "Requests in the recording.", lab->record.requests},
      {"neap_policy_on_trial", NULL, "1 while a new policy may be rolled back.", lab->on_trial},
  };
  print_integers(out, "counter", counters, NEAP_ARRAY_LEN(counters));
  print_integers(out, "gauge", gauges, NEAP_ARRAY_LEN(gauges));
  print_real(out, "neap_l1_prefix_hit_ratio", NULL, "Share of chunks that L1 had, of the last lookups.",
             share(lab->window.found_l1, lab->window.asked));
  print_misses(out, &now->fate);
  print_shadows(out, lab, "neap_shadow_up", "gauge", "1 while the shadow follows.", shadow_up);
  print_shadows(out, lab, "neap_shadow_prefix_hit_ratio", "gauge",
                "Share of chunks that L1 would have had under this policy, of the last lookups.", shadow_prefix);
  print_shadows(out, lab, "neap_shadow_block_hit_ratio", "gauge", "The same, chunks behind gaps counted.",
                shadow_block);
  print_shadows(out, lab, "neap_shadow_actual_prefix_hit_ratio", "gauge",
                "Share of chunks that L1 had, of the same lookups.", shadow_actual);
  print_shadows(out, lab, "neap_shadow_cpu_seconds_total", "counter", "Processor time of the shadow.", shadow_cpu);
  print_shadows(out, lab, "neap_shadow_dropped_requests_total", "counter", "Requests that the shadow was too slow for.",
                shadow_dropped);
  print_shadows(out, lab, "neap_shadow_lag_seconds", "gauge", "How far the shadow is behind.", shadow_lag);
}

/* --- tiers ---------------------------------------------------------------------------------------------------- */

/* Adapters of one type share a series of l2_name, so their values are added up in the first one's place. */
static void print_l2_usage(FILE *out, const neap__snapshot *now) {
  print_head(out, "lmcache_mp_l2_usage_bytes", "gauge", "Bytes held in L2, by type.");
  for (uint32_t i = 0; i < now->tier_count; i++) {
    uint64_t bytes = 0;
    uint32_t first = now->tier_count;
    for (uint32_t j = 0; j < now->tier_count; j++) {
      if (strcmp(now->tiers[i].name, now->tiers[j].name) != 0) continue;
      first = NEAP_MIN(first, j);
      bytes += now->tiers[j].stats.used_bytes;
    }
    if (first != i) continue;
    fputs("lmcache_mp_l2_usage_bytes{l2_name=\"", out);
    print_label(out, now->tiers[i].name);
    fprintf(out, "\"} %" PRIu64 "\n", bytes);
  }
}

static void print_tier_sample(FILE *out, const neap__snapshot *now, uint32_t tier, const char *name,
                              const char *more_labels, uint64_t value) {
  fprintf(out, "%s{l2_name=\"", name);
  print_label(out, now->tiers[tier].name);
  fprintf(out, "\",adapter_index=\"%u\"%s} %" PRIu64 "\n", now->tiers[tier].index, more_labels, value);
}

/* One number of every tier; at: where it lies in neap__tier_stats, wide: 64 bits or 32. */
typedef struct tier_metric {
  const char *name, *type, *help;
  size_t at;
  size_t bytes;
} tier_metric;

#define TIER_METRIC(name, type, member, help) \
  { name, type, help, offsetof(neap__tier_stats, member), sizeof(((neap__tier_stats *)0)->member) }

static const tier_metric tier_metrics[] = {
    TIER_METRIC("lmcache_mp_num_inflight_l2_stores", "gauge", in_flight_stores, "Stores under way."),
    TIER_METRIC("lmcache_mp_num_inflight_l2_loads", "gauge", in_flight_loads, "Loads under way."),
    TIER_METRIC("lmcache_mp_inflight_load_memory_usage_bytes", "gauge", in_flight_load_bytes,
                "Bytes of L1 held for loads under way."),
    TIER_METRIC("neap_l2_queued", "gauge", queued, "Operations that wait for the adapter."),
    TIER_METRIC("neap_l2_capacity_bytes", "gauge", capacity_bytes, "Bound on the bytes held; 0: none."),
    TIER_METRIC("neap_l2_healthy", "gauge", healthy, "1 while the adapter is used, 0 while it is let alone."),
    TIER_METRIC("neap_l2_stored_objects_total", "counter", stored_objects, "Objects stored."),
    TIER_METRIC("neap_l2_stored_bytes_total", "counter", stored_bytes, "Bytes stored."),
    TIER_METRIC("neap_l2_loaded_objects_total", "counter", loaded_objects, "Objects loaded."),
    TIER_METRIC("neap_l2_loaded_bytes_total", "counter", loaded_bytes, "Bytes loaded."),
    TIER_METRIC("neap_l2_lookups_total", "counter", lookups, "Objects looked up."),
    TIER_METRIC("neap_l2_lookup_hits_total", "counter", lookup_hits, "Objects found by a lookup."),
    TIER_METRIC("neap_l2_evicted_objects_total", "counter", evicted_objects, "Objects evicted from the store."),
    TIER_METRIC("neap_l2_refused_total", "counter", queue_refused, "Operations refused, the queue being full."),
    TIER_METRIC("neap_l2_deadlines_total", "counter", deadlines, "Operations that passed their deadline."),
    TIER_METRIC("neap_l2_breaker_state", "gauge", breaker, "0 closed, 1 open, 2 half open."),
    TIER_METRIC("neap_l2_breaker_opened_total", "counter", breaker_opened, "Times the breaker opened."),
    TIER_METRIC("neap_l2_breaker_refused_total", "counter", breaker_refused,
                "Objects that the adapter was not asked for, the breaker being open."),
    TIER_METRIC("neap_l2_retried_objects_total", "counter", retried_objects, "Further attempts, by object."),
    TIER_METRIC("neap_l2_negative_hits_total", "counter", negative_hits,
                "Objects not stored again, their store having failed a short while ago."),
    TIER_METRIC("neap_l2_joined_stores_total", "counter", joined_stores,
                "Objects offered while the same object was being stored."),
    TIER_METRIC("neap_l2_store_paused", "gauge", store_paused, "1 while nothing is stored, the store being full."),
    TIER_METRIC("neap_l2_no_space_pauses_total", "counter", no_space_pauses,
                "Times the store was full and no room could be made."),
    TIER_METRIC("neap_l2_no_space_refused_total", "counter", no_space_refused,
                "Objects not stored while the store was known to be full."),
    TIER_METRIC("neap_l2_quarantined_total", "counter", quarantined, "Objects whose bytes failed verification."),
};

static uint64_t tier_value(const neap__tier_stats *stats, const tier_metric *m) {
  const unsigned char *at = (const unsigned char *)stats + m->at;
  uint64_t wide = 0;
  uint32_t narrow = 0;
  bool flag = false;
  if (m->bytes == sizeof(wide))
    memcpy(&wide, at, sizeof(wide));
  else if (m->bytes == sizeof(narrow))
    memcpy(&narrow, at, sizeof(narrow)), wide = narrow;
  else
    memcpy(&flag, at, sizeof(flag)), wide = flag;
  return wide;
}

static void print_failures(FILE *out, const neap__snapshot *now, const char *name, const char *help, bool stores) {
  print_head(out, name, "counter", help);
  for (uint32_t i = 0; i < now->tier_count; i++) {
    const neap__tier_stats *stats = &now->tiers[i].stats;
    const uint64_t *failures = stores ? stats->store_failures : stats->load_failures;
    for (int code = 1; code < (int)NEAP_ARRAY_LEN(stats->store_failures); code++) {
      if (failures[code] == 0) continue;
      char labels[64] = ",reason=\"";
      size_t n = strlen(labels);
      const char *reason = neap_err_name(-code);
      reason += strncmp(reason, "NEAP_", 5) == 0 ? 5 : 0;
      for (; *reason && n < sizeof(labels) - 2; reason++) labels[n++] = (char)tolower((unsigned char)*reason);
      labels[n] = '"';
      print_tier_sample(out, now, i, name, labels, failures[code]);
    }
  }
}

static void print_tiers(FILE *out, const neap__snapshot *now) {
  static const char *const attached[] = {"lmcache_mp_l2_store_adapters", "lmcache_mp_l2_prefetch_adapters"};
  for (size_t i = 0; i < NEAP_ARRAY_LEN(attached); i++) {
    const char *tag = i == 0 ? L1_LABELS "," : "";
    print_head(out, attached[i], "gauge", "Attached L2 adapters, by state.");
    fprintf(out, "%s{%sstate=\"active\"} %u\n", attached[i], tag, now->tier_count - now->draining);
    fprintf(out, "%s{%sstate=\"draining\"} %u\n", attached[i], tag, now->draining);
  }
  print_l2_usage(out, now);
  for (size_t m = 0; m < NEAP_ARRAY_LEN(tier_metrics); m++) {
    print_head(out, tier_metrics[m].name, tier_metrics[m].type, tier_metrics[m].help);
    for (uint32_t i = 0; i < now->tier_count; i++)
      print_tier_sample(out, now, i, tier_metrics[m].name, "", tier_value(&now->tiers[i].stats, &tier_metrics[m]));
  }
  print_failures(out, now, "neap_l2_store_failures_total", "Objects an adapter failed to store, by reason.", true);
  print_failures(out, now, "neap_l2_load_failures_total", "Objects an adapter failed to load, by reason.", false);
}

/* --- what adapters tell of themselves ------------------------------------------------------------------------- */

/* The numbers of a status, those of an object in it as "object.number". */
static void print_facts(FILE *out, const neap__snapshot *now, uint32_t tier, const cJSON *status, const char *within,
                        uint32_t *left) {
  for (const cJSON *fact = status->child; fact && *left; fact = fact->next) {
    if (cJSON_IsObject(fact) && !*within) print_facts(out, now, tier, fact, fact->string, left);
    if (!cJSON_IsNumber(fact) || !isfinite(fact->valuedouble)) continue;
    --*left;
    fprintf(out, "%s{l2_name=\"", STATUS_METRIC);
    print_label(out, now->tiers[tier].name);
    fprintf(out, "\",adapter_index=\"%u\",name=\"", now->tiers[tier].index);
    print_label(out, within);
    fputs(*within ? "." : "", out);
    print_label(out, fact->string);
    fprintf(out, "\"} %.17g\n", fact->valuedouble);
  }
}

static void print_statuses(FILE *out, const neap__snapshot *now) {
  print_head(out, STATUS_METRIC, "gauge", "Numbers that adapters tell in their status.");
  for (uint32_t i = 0; i < now->tier_count; i++) {
    uint32_t left = STATUS_NUMBERS_MAX;
    cJSON *status = now->tiers[i].status_json ? cJSON_Parse(now->tiers[i].status_json) : NULL;
    if (cJSON_IsObject(status)) print_facts(out, now, i, status, "", &left);
    cJSON_Delete(status);
  }
}

/* --- the server and its process ------------------------------------------------------------------------------- */

static void print_server(FILE *out, const neap__server_stats *s) {
  const metric counters[] = {
      {"neap_requests_total", NULL, "Requests of workers and schedulers.", s->requests},
      {"neap_refused_requests_total", NULL, "Requests that are known but cannot be served.", s->refused},
      {"neap_bad_messages_total", NULL, "Messages that could not be decoded, or of an unknown kind.", s->bad_messages},
      {"neap_pings_refused_total", NULL, "Pings of workers that are not registered.", s->pings_refused},
      {"neap_requests_reanswered_total", NULL, "Requests lost with an earlier server, answered by this one.",
       s->reanswered},
      {"neap_stores_total", NULL, "Stores that workers committed.", s->stores},
      {"neap_stored_tokens_total", NULL, "Tokens that workers stored.", s->stored_tokens},
      {"neap_retrieves_total", NULL, "Retrieves that workers committed.", s->retrieves},
      {"neap_retrieved_tokens_total", NULL, "Tokens that workers retrieved.", s->retrieved_tokens},
      {"neap_failed_retrieves_total", NULL, "Retrieves that failed.", s->failed_retrieves},
      {"neap_workers_reaped_total", NULL, "Registrations ended because the worker was silent.", s->reaped},
  };
  const metric gauges[] = {
      {"neap_sessions", NULL, "Requests that the server remembers.", s->sessions},
      {"neap_instances", NULL, "Registered workers.", s->instances},
      {"neap_transfers", NULL, "Stores and retrieves that are prepared and not committed.", s->transfers},
  };
  print_integers(out, "counter", counters, NEAP_ARRAY_LEN(counters));
  print_integers(out, "gauge", gauges, NEAP_ARRAY_LEN(gauges));
}

/* Fields 14, 15, 22, 23, 24 of /proc/self/stat: times and start in clock ticks, memory in bytes and pages. */
static bool read_proc_stat(double *cpu_s, double *start_s, double *virtual_bytes, double *resident_bytes) {
  char text[1024];
  FILE *file = fopen("/proc/self/stat", "re");
  size_t n = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
  if (file) fclose(file);
  text[n] = '\0';
  const char *after_name = strrchr(text, ')');
  unsigned long user, system, size;
  unsigned long long start;
  long pages;
  if (!after_name || sscanf(after_name,
                            ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d "
                            "%*d %llu %lu %ld",
                            &user, &system, &start, &size, &pages) != 5)
    return false;
  double tick = (double)sysconf(_SC_CLK_TCK);
  *cpu_s = (double)(user + system) / tick;
  *start_s = (double)start / tick;
  *virtual_bytes = (double)size;
  *resident_bytes = (double)pages * (double)sysconf(_SC_PAGESIZE);
  return true;
}

static double boot_time_s(void) {
  char line[256];
  unsigned long long boot = 0;
  FILE *file = fopen("/proc/stat", "re");
  while (file && fgets(line, sizeof(line), file))
    if (sscanf(line, "btime %llu", &boot) == 1) break;
  if (file) fclose(file);
  return (double)boot;
}

static void print_process(FILE *out) {
  double cpu, start, size, resident;
  if (read_proc_stat(&cpu, &start, &size, &resident)) {
    print_real(out, "process_virtual_memory_bytes", NULL, "Virtual memory size in bytes.", size);
    print_real(out, "process_resident_memory_bytes", NULL, "Resident memory size in bytes.", resident);
    print_real(out, "process_start_time_seconds", NULL, "Start time since the epoch in seconds.",
               boot_time_s() + start);
    print_head(out, "process_cpu_seconds_total", "counter", "User and system CPU time in seconds.");
    fprintf(out, "process_cpu_seconds_total %.2f\n", cpu);
  }
  DIR *dir = opendir("/proc/self/fd");
  uint64_t fds = 0;
  while (dir && readdir(dir)) fds++;
  if (dir) closedir(dir);
  struct rlimit limit = {0};
  getrlimit(RLIMIT_NOFILE, &limit);
  const metric gauges[] = {
      /* "." and ".." and the directory itself are not open files of the process */
      {"process_open_fds", NULL, "Open file descriptors.", fds > 3 ? fds - 3 : 0},
      {"process_max_fds", NULL, "Most file descriptors.", limit.rlim_cur},
  };
  print_integers(out, "gauge", gauges, NEAP_ARRAY_LEN(gauges));
}

void neap__metrics_print(FILE *out, const neap__snapshot *now, const char *instance_id) {
  print_process(out);
  print_head(out, "target_info", "gauge", "Target metadata");
  fputs("target_info{service_instance_id=\"", out);
  print_label(out, instance_id);
  fputs("\",service_name=\"neap\"} 1\n", out);
  print_lookups(out, &now->server);
  print_l1(out, now);
  print_store(out, &now->storer);
  print_fetch(out, now);
  print_policy(out, now);
  print_tiers(out, now);
  print_statuses(out, now);
  print_server(out, &now->server);
}
