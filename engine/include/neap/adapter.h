/* SPDX-License-Identifier: MIT
 *
 * neap/adapter.h - the contract between the engine and a second-level (L2) store.
 *
 * A store is a table of functions. Native plugins export it from a shared object, built-in types register it at
 * load time, Lua modules get it from the script layer: the engine sees the same table in all three cases.
 *
 *      engine (loop thread)                              adapter
 *        open(host, params) ------------------------------> self
 *        store/lookup/load/remove/list(self, op) ---------> returns at once
 *                                      ... reads or fills op->objects[i].data, sets .result ...
 *        <------------------------------ host->done(op)   exactly once per op, any thread
 *        close(self)                                      only when no op is in flight
 *
 * Rules
 * - The five operations never block: they start work and return. Work that blocks goes to host->queue_work or to a
 *   thread of the adapter's own.
 * - Each op ends by exactly one host->done(op), also after cancel, an I/O error or a lost connection. done() may be
 *   called from any thread, also before the operation function returned; it never calls back into the adapter.
 * - Buffers (objects[i].data) belong to the engine and stay pinned until done(op), past deadlines and cancel.
 *   A load may write only [data, data + bytes); what it wrote counts only if it set result = 0.
 * - Results are per object. An op has no result of its own.
 * - First store wins: storing a key that is there already is success with stored_bytes = 0.
 * - A store that failed or was cut short must not be visible to a later lookup.
 * - Structs only grow at their end; read a member of the other side's struct only if its size covers it (NEAP_HAS).
 */
#ifndef NEAP_ADAPTER_H
#define NEAP_ADAPTER_H

#include <neap/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NEAP_ADAPTER_MAGIC 0x4e454150u /* "NEAP" */
#define NEAP_ADAPTER_ABI 1u

/* True if STRUCT (sized by its maker in .size) has MEMBER and it is set. */
#define NEAP_HAS(ptr, type, member) ((ptr)->size >= offsetof(type, member) + sizeof((ptr)->member) && (ptr)->member)

typedef enum neap_op_kind {
  NEAP_OP_STORE = 0,
  NEAP_OP_LOOKUP = 1,
  NEAP_OP_LOAD = 2,
  NEAP_OP_REMOVE = 3,
  NEAP_OP_LIST = 4,
} neap_op_kind;

/* One key of an operation.
 * key           identity; valid until done
 * data, bytes   store: the bytes to keep; load: the buffer to fill, exactly `bytes` long; else NULL and the expected
 *               size (lookup; 0 = unknown)
 * result        set by the adapter before done: 0 stored / present / loaded / removed; NEAP_ENOENT a miss;
 *               NEAP_ECORRUPT bytes there but wrong (also a wrong length); NEAP_ENOSPC, NEAP_EIO, ...
 *               The engine presets NEAP_EIO, so that a forgotten result is a failure.
 * stored_bytes  store: bytes added to the store (0 if the key was there); lookup: size of the object if known */
typedef struct neap_object {
  neap_object_key key;
  void *data;
  uint64_t bytes;
  int result;
  uint64_t stored_bytes;
} neap_object;

/* One entry of a listing. used_unix_s is the last use (or the last modification) in seconds, 0 if unknown. */
typedef struct neap_list_entry {
  neap_object_key key; /* strings need to live only during the sink call */
  uint64_t bytes;
  int64_t used_unix_s;
} neap_list_entry;

/* One operation. The engine owns it; the adapter may use `scratch` until done(op).
 * For NEAP_OP_LIST objects is NULL; the adapter calls sink once per entry (any thread, one at a time) before done
 * and stops early when sink returns non-zero; list_result is the outcome of the whole listing. */
typedef struct neap_op {
  uint32_t size;
  uint32_t kind; /* neap_op_kind */
  uint32_t count;
  uint32_t reserved;
  neap_object *objects;
  uint64_t deadline_ns; /* CLOCK_MONOTONIC, 0 = none; a hint: the engine stops waiting by itself */
  void *scratch;        /* the adapter's */
  int (*sink)(struct neap_op *op, const neap_list_entry *entry);
  int list_result;
} neap_op;

typedef enum neap_log_level { NEAP_DEBUG = 0, NEAP_INFO = 1, NEAP_WARNING = 2, NEAP_ERROR = 3 } neap_log_level;

/* Another adapter that an adapter opened for its own use: a store that replicates, falls through, encrypts. */
typedef struct neap_inner neap_inner;

/* Services of the engine. The pointer given to open stays valid until close returns. All functions may be called
 * from any thread. */
typedef struct neap_host {
  uint32_t size;
  uint32_t abi;
  void *engine; /* opaque; first argument of the calls below */
  /* Ends an operation. Exactly once per op; a second call for the same op is reported and ignored. */
  void (*done)(void *engine, neap_op *op);
  /* Logs one line under the adapter's name. text is copied. */
  void (*log)(void *engine, neap_log_level level, const char *text);
  /* Runs work(arg) on one of the engine's worker threads; work may block. Returns 0 or NEAP_ELIMIT. */
  int (*queue_work)(void *engine, void (*work)(void *arg), void *arg);
  /* The L1 memory, for stores that register it. Returns 0, or NEAP_ENOTSUP when there is none. */
  int (*memory)(void *engine, neap_memory *out);
  /* Prints a key. Returns the length without the NUL, or NEAP_EINVAL / NEAP_ELIMIT when it does not fit cap. */
  int (*key_format)(const neap_object_key *key, neap_key_form form, char *text, size_t cap);
  /* Parses what key_format printed. model and salt are written into `strings` (cap bytes) and pointed to by out.
   * Returns 0 or NEAP_EINVAL for anything that key_format cannot have printed. */
  int (*key_parse)(const char *text, neap_key_form form, neap_object_key *out, char *strings, size_t cap);
  /* CRC-32C (Castagnoli) of bytes, continuing from seed (0 to start). */
  uint32_t (*crc32c)(uint32_t seed, const void *data, size_t bytes);
  /* CLOCK_MONOTONIC in nanoseconds, the clock of deadline_ns. */
  uint64_t (*now_ns)(void *engine);
  /* Opens the adapter that config_json describes (an object as --l2-adapter takes it, without the framework's keys of
   * capacity and eviction). Blocks while it opens; call it inside open or on a thread of your own. done(ctx, op) is
   * called once per submitted operation, on any thread, also before inner_submit returned. Of the inner adapter's
   * traits, concurrency and batch are kept; deadline, retries and backoff are the outermost adapter's. The strings of
   * keys must live until inner_close, as those that the engine hands out do. */
  int (*inner_open)(void *engine, const char *config_json, void (*done)(void *ctx, neap_op *op), void *ctx,
                    neap_inner **out, neap_error *err);
  /* Hands over an operation that the caller made and owns until its done; an operation that the inner adapter does not
   * support ends with NEAP_ENOTSUP results. Never blocks. */
  void (*inner_submit)(neap_inner *inner, neap_op *op);
  void (*inner_cancel)(neap_inner *inner, neap_op *op);           /* as neap_adapter.cancel */
  int (*inner_can)(neap_inner *inner, neap_op_kind kind);         /* 1 or 0 */
  int (*inner_status)(neap_inner *inner, char *json, size_t cap); /* as neap_adapter.status */
  void (*inner_close)(neap_inner *inner);                         /* no operation is in flight. May block. */
  /* Tells that the store let go of objects by itself, to keep to a capacity of its own for instance, so that usage and
   * eviction order stay true. Strings of the keys need to live only during the call. Not called for what remove was
   * asked to take, and nothing when an inner adapter says it. */
  void (*gone)(void *engine, const neap_object_key *keys, uint32_t count);
} neap_host;

/* What an adapter declares so that the framework does it. Zero: the framework's default. The configuration of a tier
 * may say otherwise, key by key.
 * concurrency  operations that it is given at once
 * batch        objects of one operation at most; longer ones are split
 * deadline_ms  of one operation
 * retries      further attempts for objects that ended with NEAP_EIO or NEAP_ETIMEDOUT; stores and loads are
 *              idempotent by contract
 * backoff_ms   before the first further attempt; doubled for each one after it, with jitter */
typedef struct neap_traits {
  uint32_t size;
  uint32_t concurrency, batch, deadline_ms, retries, backoff_ms;
} neap_traits;

/* The table of a store.
 * name         the type name in `{"type": NAME}` and the class name in `{"type":"plugin","class_name": NAME}`
 * schema_json  the parameters it takes, or NULL for "any": a JSON object
 *              {"PARAM":{"type":"number|integer|boolean|string|object|array","required":true,"default":...,
 *                        "min":...,"max":...,"above":...,"enum":[...],"live":true,"doc":"..."}, ...}
 *              Parameters are checked against it and defaults filled in before open. min, max and above bound a number,
 *              the bytes of a string, the items of an array; a required string is never empty; null is "not given".
 * open         adapter: this very table, so that one implementation can stand behind many tables; params_json: the
 *              checked parameters as one JSON object, valid during the call. On failure returns an error code, fills
 *              err and leaves nothing behind. Called on the thread that opens the engine.
 * store ... list   NULL where not supported; load, store and lookup are required.
 * cancel       a hint that nobody waits for op any more; done(op) is still owed. It may come while done(op) is being
 *              called, so op is only compared with the operations that are in flight. May be NULL.
 * status       writes a JSON object of the adapter's own facts into json (NUL-terminated, at most cap bytes); returns
 *              its length or an error. Any thread. May be NULL.
 * close        no operation is in flight; frees self. Called once.
 * traits       may be NULL; lives as long as the table
 * reconfigure  takes parameters that changed while it runs: params_json is a whole checked object as for open, and only
 *              parameters whose schema says "live":true differ from the last one. 0, or an error and nothing changed.
 *              Calls come one at a time, on a thread that may block, with operations in flight. May be NULL. */
typedef struct neap_adapter {
  uint32_t magic, abi;
  uint32_t size;
  uint32_t caps; /* reserved, 0 */
  const char *name, *version;
  const char *schema_json;
  int (*open)(const struct neap_adapter *adapter, const neap_host *host, const char *params_json, void **self,
              neap_error *err);
  void (*store)(void *self, neap_op *op);
  void (*lookup)(void *self, neap_op *op);
  void (*load)(void *self, neap_op *op);
  void (*remove)(void *self, neap_op *op);
  void (*list)(void *self, neap_op *op);
  void (*cancel)(void *self, neap_op *op);
  int (*status)(void *self, char *json, size_t cap);
  void (*close)(void *self);
  const neap_traits *traits;
  int (*reconfigure)(void *self, const char *params_json, neap_error *err);
} neap_adapter;

#define NEAP_ADAPTER_INIT(name_, version_)                                                                       \
  .magic = NEAP_ADAPTER_MAGIC, .abi = NEAP_ADAPTER_ABI, .size = (uint32_t)sizeof(neap_adapter), .name = (name_), \
  .version = (version_)

/* The one symbol that a native plugin exports. Returns the i-th table that the shared object offers, NULL past the
 * last. The tables are static data of the plugin. */
typedef const neap_adapter *(*neap_adapter_entry_fn)(uint32_t i);
#define NEAP_ADAPTER_ENTRY "neap_adapter_entry"
#define NEAP_ADAPTER_EXPORT __attribute__((visibility("default")))

/* Registers a built-in type; NEAP_ADAPTER_BUILTIN does it in one line at load time. A name that is taken is refused:
 * returns NEAP_EEXIST (and the macro ends the program, for two built-ins of one name are a build error).
 * Call before the first engine is opened; the table must live as long as the program. */
NEAP_EXPORT int neap_adapter_register(const neap_adapter *adapter);

#define NEAP_ADAPTER_BUILTIN(table)                                      \
  __attribute__((constructor)) static void neap_register_##table(void) { \
    if (neap_adapter_register(&table) != 0) __builtin_trap();            \
  }

#ifdef __cplusplus
}
#endif
#endif
