/* SPDX-License-Identifier: MIT
 *
 * l2/schema.h - neap__schema_check for callers that hold trees instead of texts. See registry.h. */
#pragma once
#include "base/json.h"

/* Reads a schema_json. NULL gives NULL ("any parameters"). 0, or NEAP_EINVAL with what is wrong with the schema. */
int neap__schema_parse(const char *schema_json, cJSON **out, neap_error *err);

/* Checks the object params and fills in defaults. schema may be NULL; where: prefix of paths, "" for none; open: names
 * that the schema does not know are let through. Parameters given as null count as not given and are removed. */
int neap__schema_apply(const cJSON *schema, cJSON *params, const char *where, bool open, neap_error *err);
