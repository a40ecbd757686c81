/* SPDX-License-Identifier: MIT
 *
 * l2/inner.h - adapters that adapters open for their own use: the functions inner_* of neap_host, for any host.
 *
 *   opener                           inner.c                                    inner adapter
 *     inner_submit(inner, op) -----> a copy of op, in parts of traits.batch --> store/load/...
 *     done(ctx, op) <--------------- ownership checked, parts put together <--- host->done(part)
 *
 * An inner adapter has a host of its own that borrows the services of its opener's; its log lines carry its name. Of
 * its traits, batch and concurrency are kept (also as keys of its configuration), for an adapter may rely on them;
 * deadline, retries and backoff are the outermost tier's business, as are capacity and eviction. */
#pragma once
#include <neap/adapter.h>

#define NEAP_INNER_DEPTH_MAX 8u          /* adapters inside adapters */
#define NEAP_INNER_CALLS_MAX (64u * 64u) /* parts that one inner adapter has or that wait for it */

/* Who opens: host lends its services and outlives what is opened. */
typedef struct neap__inner_parent {
  const neap_host *host;
  const char *plugin_dirs; /* borrowed during the call */
  uint32_t depth;          /* 0: a tier's own adapter opens */
} neap__inner_parent;

/* As neap_host.inner_open. NEAP_EINVAL also for the framework's keys that only a tier has. */
int neap__inner_open(const neap__inner_parent *parent, const char *config_json, void (*done)(void *ctx, neap_op *op),
                     void *ctx, neap_inner **out, neap_error *err);

/* Fills in host->inner_submit to inner_close; inner_open is the host's own, for it knows its parent. */
void neap__inner_install(neap_host *host);
