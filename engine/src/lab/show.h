/* SPDX-License-Identifier: MIT
 *
 * lab/show.h - the lab as JSON, for HTTP and for the prompt. Any thread; the caller owns what it gets, NULL without
 * memory. Numbers are doubles: exact up to 2^53. */
#pragma once
#include <cjson/cJSON.h>

#include "lab/lab.h"

/* What is live, how it does, its trial, its shadows, the last changes. */
cJSON *neap__lab_policy_json(neap__lab *lab, neap__fate *fate);
/* An array. */
cJSON *neap__lab_shadows_json(neap__lab *lab);
