/* SPDX-License-Identifier: MIT
 *
 * l2/limits.h - the keys by which the configuration of a tier overrides what its adapter declares. Between the files of
 * l2/ only. */
#pragma once
#include "base/json.h"
#include "l2/registry.h"

/* The keys as members of a schema (see neap/adapter.h), without the braces. */
#define NEAP_LIMITS_SCHEMA                                               \
  "\"concurrency\":{\"type\":\"integer\",\"min\":1,\"max\":256},"        \
  "\"batch\":{\"type\":\"integer\",\"min\":1,\"max\":1048576},"          \
  "\"deadline\":{\"type\":\"number\",\"min\":0.001,\"max\":3600},"       \
  "\"retries\":{\"type\":\"integer\",\"min\":0,\"max\":10},"             \
  "\"backoff\":{\"type\":\"number\",\"min\":0,\"max\":60},"              \
  "\"breaker\":{\"type\":\"object\"},"                                   \
  "\"failed_store_pause\":{\"type\":\"number\",\"min\":0,\"max\":3600}," \
  "\"no_space_pause\":{\"type\":\"number\",\"min\":0.001,\"max\":3600}"

/* Overrides limits by the keys of a checked config; checks what is in "breaker". 0 or NEAP_EINVAL. */
int neap__limits_read(cJSON *config, neap__limits *limits, neap_error *err);
