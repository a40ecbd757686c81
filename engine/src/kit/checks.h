/* SPDX-License-Identifier: MIT
 *
 * kit/checks.h - the checks, between the files of kit/ only. Each is called in a process of its own; see kit/case.h. */
#pragma once
#include "kit/case.h"

/* checks_basic.c */
void neap__check_loads(neap__kit *kit);
void neap__check_open(neap__kit *kit);
void neap__check_store_load(neap__kit *kit);
void neap__check_batches(neap__kit *kit);
void neap__check_per_key(neap__kit *kit);
void neap__check_first_wins(neap__kit *kit);
void neap__check_sizes(neap__kit *kit);
void neap__check_wrong_size(neap__kit *kit);
void neap__check_keys(neap__kit *kit);
void neap__check_long_keys(neap__kit *kit);
void neap__check_tenants(neap__kit *kit);
void neap__check_lookup(neap__kit *kit);
void neap__check_delete(neap__kit *kit);
void neap__check_delete_missing(neap__kit *kit);

/* checks_list.c */
void neap__check_schema(neap__kit *kit);
void neap__check_status(neap__kit *kit);
void neap__check_list(neap__kit *kit);
void neap__check_list_stop(neap__kit *kit);

/* checks_life.c */
void neap__check_restart(neap__kit *kit);
void neap__check_killed(neap__kit *kit);
void neap__check_quiet(neap__kit *kit);
void neap__check_leaves_nothing(neap__kit *kit);
void neap__check_memory(neap__kit *kit);

/* checks_stress.c */
void neap__check_race(neap__kit *kit);
void neap__check_threads(neap__kit *kit);
void neap__check_cancel(neap__kit *kit);
void neap__check_deadline(neap__kit *kit);
void neap__check_once(neap__kit *kit);

/* checks_fault.c */
void neap__check_no_workers(neap__kit *kit);
void neap__check_full_disk(neap__kit *kit);
void neap__check_no_descriptors(neap__kit *kit);
void neap__check_io_errors(neap__kit *kit);
void neap__check_unreachable(neap__kit *kit);

/* A little of everything: stores, loads, lookups, a listing, deletes. Nothing is left in the store if it can delete. */
void neap__kit_exercise(neap__kit *kit);
