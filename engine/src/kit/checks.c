/* SPDX-License-Identifier: MIT
 *
 * kit/checks.c - the table of checks, in the order in which they run. The first two must pass for the others to run. */
#include "kit/checks.h"

#define RULES "neap/adapter.h, Rules: "

const neap__check neap__checks[] = {
    {"loads", "loads, and its parameters are valid", "neap/adapter.h, neap_adapter", neap__check_loads},
    {"open", "opens and closes", "neap/adapter.h, neap_adapter.open and close", neap__check_open},
    {"store-load", "gives back what was stored, byte for byte", "neap/adapter.h, neap_object.result",
     neap__check_store_load},
    {"batches", "stores, finds and loads batches of 1 to 64 objects", RULES "Results are per object",
     neap__check_batches},
    {"per-key", "answers for each object of a batch by itself", RULES "Results are per object", neap__check_per_key},
    {"first-wins", "keeps what the first store of a key brought", RULES "First store wins", neap__check_first_wins},
    {"sizes", "takes objects of 1 byte to 4 MiB, aligned or not", RULES "A load may write only [data, data + bytes)",
     neap__check_sizes},
    {"wrong-size", "calls an object of another length corrupt", "neap/adapter.h, neap_object.result: NEAP_ECORRUPT",
     neap__check_wrong_size},
    {"keys", "takes keys apart by each of their parts", "neap/types.h, neap_object_key", neap__check_keys},
    {"long-keys", "takes the longest key, or refuses it whole", "neap/types.h, neap_object_key", neap__check_long_keys},
    {"tenants", "keeps tenants apart", "neap/types.h, neap_object_key.salt", neap__check_tenants},
    {"lookup", "tells presence and size", "neap/adapter.h, neap_object.stored_bytes", neap__check_lookup},
    {"delete", "forgets what was deleted", "neap/adapter.h, neap_object.result", neap__check_delete},
    {"delete-missing", "says that a deleted key was not there", "neap/adapter.h, neap_object.result",
     neap__check_delete_missing},
};
const uint32_t neap__checks_count = NEAP_ARRAY_LEN(neap__checks);
