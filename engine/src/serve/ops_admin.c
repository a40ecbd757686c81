/* SPDX-License-Identifier: MIT
 *
 * serve/ops_admin.c - registration, health, and the operations that only need an answer. */
#include <string.h>

#include "serve/wire.h"

int neap__op_register(neap__server *server, neap__call *call, neap_error *err) {
  neap__registration reg;
  neap__instance *instance;
  bool same;
  int code = neap__registration_read(call->args[0], &reg, err);
  if (code) return code;
  if (server->memory.shm_name[0] == '\0')
    return neap__fail(err, NEAP_ENOTSUP, "the pool has no name that a worker could open; start with --shm-name");
  code = neap__instances_register(&server->instances, &reg, server->now_ns, &instance, &same, err);
  if (code && code != NEAP_EEXIST) return code;
  unsigned long long id = (unsigned long long)reg.instance_id;
  if (code == 0) {
    NEAP_LOG_INFO("Using shm non-GPU transfer strategy");
    NEAP_LOG_INFO("Registered non-GPU context for instance %llu (model=%.*s, world_size=%u)", id, (int)reg.model.bytes,
                  reg.model.at, reg.world_size);
  } else if (same) {
    NEAP_LOG_INFO("Instance %llu already registered (non-GPU); refreshing liveness", id);
  } else {
    NEAP_LOG_WARN("Instance %llu registers again with another model or layout; the first one stays", id);
  }
  neap__write_map(&server->out, 2);
  neap__write_text(&server->out, "shm_name");
  neap__write_text(&server->out, server->memory.shm_name);
  neap__write_text(&server->out, "pool_size");
  neap__write_uint(&server->out, server->memory.bytes);
  return 0;
}

void neap__drop_instance(neap__server *server, neap__instance *instance) {
  uint64_t id = instance->entry.id;
  uint32_t space = neap__instances_remove(&server->instances, instance);
  neap__sessions_drop_instance(&server->sessions, id);
  if (space != UINT32_MAX)
    neap__sessions_drop_space(&server->sessions, space, neap__names_model(server->engine->names, space));
  /* What it was writing is not whole: it is given back, never published. */
  neap__l1_drop_owner(server->l1, NEAP_OWNER_TRANSFER, id);
}

int neap__op_unregister(neap__server *server, neap__call *call, neap_error *err) {
  uint64_t id;
  int code = neap__arg_int(call, 0, &id, err);
  if (code) return code;
  neap__instance *instance = neap__instances_find(&server->instances, id);
  neap__instances_goodbye(&server->instances, id);
  if (!instance) {
    NEAP_LOG_INFO("No registered non-GPU context found for instance ID %llu", (unsigned long long)id);
    return 0;
  }
  neap__drop_instance(server, instance);
  NEAP_LOG_INFO("Unregistered non-CUDA context for instance ID %llu", (unsigned long long)id);
  return 0;
}

/* The oldest entry of the table is the first registered one: all are looked at, there are few. */
void neap__reap(neap__server *server) {
  neap__entry *next;
  for (neap__entry *e = server->instances.table.oldest; e; e = next) {
    next = e->newer;
    neap__instance *instance = (neap__instance *)e;
    double silent_s = (double)(server->now_ns - instance->seen_ns) * 1e-9;
    bool pinged = instance->pinged;
    if (silent_s <= (pinged ? server->config.reap_timeout_s : server->config.registration_grace_s)) continue;
    uint64_t id = e->id;
    neap__drop_instance(server, instance);
    NEAP_COUNT(server, reaped, 1);
    NEAP_LOG_WARN("Reaped non-GPU instance %llu: silent for %.1f s (pinged=%s)", (unsigned long long)id, silent_s,
                  pinged ? "True" : "False");
  }
}

int neap__op_ping(neap__server *server, neap__call *call, neap_error *err) {
  neap__reader peek = call->args[0];
  neap__value value;
  bool known = true;
  if (neap__read_value(&peek, &value) || value.kind != NEAP_KIND_NIL) {
    uint64_t id;
    int code = neap__arg_int(call, 0, &id, err);
    if (code) return code;
    known = neap__instances_ping(&server->instances, id, server->now_ns);
    if (!known) {
      NEAP_COUNT(server, pings_refused, 1);
      NEAP_LOG_WARN("Instance %llu is not registered here: its ping is answered false once, so that it registers again",
                    (unsigned long long)id);
    }
  }
  neap__write_bool(&server->out, known);
  return 0;
}

int neap__op_chunk_size(neap__server *server, neap__call *call, neap_error *err) {
  (void)call;
  (void)err;
  neap__write_uint(&server->out, server->chunk_tokens);
  return 0;
}

int neap__op_experimental(neap__server *server, neap__call *call, neap_error *err) {
  (void)call;
  (void)err;
  neap__write_array(&server->out, 0);
  return 0;
}

int neap__op_noop(neap__server *server, neap__call *call, neap_error *err) {
  (void)call;
  (void)err;
  neap__write_text(&server->out, "OK");
  return 0;
}

/* Telemetry of the scheduler: answered, not read. */
int neap__op_report(neap__server *server, neap__call *call, neap_error *err) {
  (void)server;
  (void)call;
  (void)err;
  return 0;
}

int neap__op_clear(neap__server *server, neap__call *call, neap_error *err) {
  neap__value force;
  if (neap__read_value(&call->args[0], &force) || (force.kind != NEAP_KIND_BOOL && force.kind != NEAP_KIND_UINT))
    return neap__fail(err, NEAP_EINVAL, "force: expected a bool");
  neap__l1_stats stats;
  uint32_t removed = neap__l1_clear(server->l1, force.number != 0);
  neap__l1_stats_get(server->l1, &stats);
  NEAP_LOG_INFO("L1Manager: cleared %u objects, %u remaining.", removed, stats.objects);
  return 0;
}

/* Events are not offered (get_experimental is empty). Who subscribes all the same gets one batch that says so, and
 * the end of the stream: the client then announces its own stores. */
int neap__op_subscribe(neap__server *server, neap__call *call, neap_error *err) {
  (void)err;
  neap__writer *w = &server->out;
  zmq_msg_t copies[3];
  neap__write_map(w, 5);
  neap__write_text(w, "enabled");
  neap__write_bool(w, false);
  neap__write_text(w, "incarnation");
  neap__write_uint(w, server->engine->opened_ns);
  neap__write_text(w, "next_cursor");
  neap__write_uint(w, 0);
  neap__write_text(w, "lost");
  neap__write_bool(w, false);
  neap__write_text(w, "events");
  neap__write_array(w, 0);
  for (uint32_t i = 0; i < NEAP_ARRAY_LEN(copies); i++) {
    zmq_msg_init(&copies[i]);
    zmq_msg_copy(&copies[i], &call->parts[i]);
  }
  neap__reply(server, &copies[0], &copies[1], &copies[2]);
  neap__writer_reset(w);
  return 0;
}

/* Operations of clients that move data through a GPU. A registration is not answered: such a client then fails at its
 * start, where somebody looks, and not at its first store. */
int neap__op_other_mode(neap__server *server, neap__call *call, neap_error *err) {
  (void)server;
  return neap__fail(err, NEAP_ENOTSUP,
                    "%s is of a mode that is not served here; set lmcache.mp.mp_transfer_mode to \"engine_driven\" in "
                    "kv_connector_extra_config, or LMCACHE_MP_TRANSFER_MODE=engine_driven in the client's environment",
                    call->op->name);
}
