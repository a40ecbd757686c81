/* SPDX-License-Identifier: MIT
 *
 * cli/flag_table.c - the flags themselves; see flags.h. A row is name, kind, effect, default, range, min, max, help. */
#include <float.h>

#include "flags.h"

/* clang-format off */
#define ACTS NEAP_FLAG_ACTS
#define SHOWN NEAP_FLAG_SHOWN
#define INERT NEAP_FLAG_INERT
#define SWITCH(name, effect, help) {name, NEAP_FLAG_SWITCH, effect, NULL, NULL, 0, 0, help}
#define BOOL(name, effect, fallback, help) {name, NEAP_FLAG_BOOL, effect, fallback, NULL, 0, 0, help}
#define INT(name, effect, fallback, min, max, help) {name, NEAP_FLAG_INT, effect, fallback, "N", min, max, help}
#define NUMBER(name, effect, fallback, min, max, help) {name, NEAP_FLAG_NUMBER, effect, fallback, "X", min, max, help}
#define TEXT(name, effect, fallback, range, help) {name, NEAP_FLAG_TEXT, effect, fallback, range, 0, 0, help}
#define CHOICE(name, effect, fallback, range, help) {name, NEAP_FLAG_CHOICE, effect, fallback, range, 0, 0, help}
#define LIST(name, effect, range, help) {name, NEAP_FLAG_LIST, effect, NULL, range, 0, 0, help}
#define WORDS(name, effect, range, help) {name, NEAP_FLAG_WORDS, effect, NULL, range, 0, 0, help}

#define WIDE 9007199254740992.0 /* 2^53: every integer up to here is exact as a double */

static const neap__flag table[] = {
    TEXT("host", ACTS, "localhost", "HOST", "address that workers connect to"),
    INT("port", ACTS, "5555", 0, 65535, "port that workers connect to; 0: any free one"),
    TEXT("http-host", ACTS, "127.0.0.1", "HOST", "address of the HTTP API; it has no authentication"),
    INT("http-port", ACTS, "8080", 0, 65535, "port of the HTTP API; 0: any free one"),
    INT("chunk-size", ACTS, "256", 1, 8192, "tokens per chunk"),
    NUMBER("l1-size-gb", ACTS, NULL, 0.0009765625, 1048576, "size of L1 in GiB; required"),
    TEXT("eviction-policy", ACTS, NULL, "POLICY", "what leaves L1 first: LRU, ARC, S3FIFO, ..., or a file; required"),
    CHOICE("supported-transfer-mode", ACTS, "auto", "engine_driven|auto|lmcache_driven",
           "who moves bytes; neap serves engine_driven, and auto means that here"),
    TEXT("shm-name", ACTS, "", "NAME", "name of the shared pool; empty: a private one that no worker can map"),
    BOOL("l1-use-lazy", ACTS, "on", "leave L1's pages untouched until they are used"),
    INT("l1-align-bytes", ACTS, "4096", 64, 1073741824, "alignment of objects in L1; a power of two"),
    BOOL("l1-use-hugepages", ACTS, "off", "take L1 from the reserved huge pages"),
    NUMBER("eviction-trigger-watermark", ACTS, "0.8", 0, 1, "share of L1 in use at which eviction starts"),
    NUMBER("eviction-ratio", ACTS, "0.2", 0, 1, "share of L1 that one eviction pass frees at most"),
    NUMBER("recompute-us", ACTS, "20000", 0, 1e9, "microseconds to compute a chunk anew, as policies are told"),
    NUMBER("recompute-slope-us", ACTS, "20", 0, 1e9, "microseconds more for each chunk before it in the prompt"),
    LIST("l2-adapter", ACTS, "JSON", "a second-level store, {\"type\": ...}; repeatable, in order of use"),
    CHOICE("l2-store-policy", ACTS, "default", "default|skip_l1", "skip_l1 drops the L1 copy once every L2 has it"),
    CHOICE("l2-prefetch-policy", ACTS, "default", "default|retain", "retain keeps in L1 what was loaded from L2"),
    INT("l2-prefetch-max-in-flight", ACTS, "8", 1, 65535, "lookups that use L2 at once"),
    CHOICE("hash-algorithm", ACTS, "blake3", "blake3", "how chunks are named"),
    NUMBER("worker-reap-timeout-seconds", ACTS, "120", 0, 31536000,
           "silence after which a worker's registration ends; 0: never, else at least 30"),
    NUMBER("worker-registration-grace-seconds", ACTS, "3600", 0, 31536000,
           "the same for a worker that has never pinged; at least the reap timeout"),
    NUMBER("session-ttl-seconds", ACTS, "600", 1, 31536000, "idle time after which a request is forgotten"),
    TEXT("instance-id", ACTS, NULL, "ID", "name of this server in its metrics; default: a random UUID"),
    SWITCH("disable-observability", ACTS, "no metrics and no log lines about single requests"),
    SWITCH("disable-metrics", ACTS, "GET /metrics answers 404"),
    SWITCH("disable-logging", ACTS, "no log lines about single requests: warnings and errors only"),
    SWITCH("enable-extra-logging", ACTS, "log a line about traffic and L1 usage at intervals"),
    NUMBER("extra-logging-interval", ACTS, "10.0", 1, 86400, "seconds between those lines"),

    TEXT("plugin-path", ACTS, NULL, "DIR[:DIR...]",
         "folders that adapters are loaded from, before those that come with neap"),
    SWITCH("watch", ACTS, "reload Lua adapters when their module is saved"),
    SWITCH("l1-keep", ACTS, "leave L1 in shared memory at exit, for the next start to take over"),
    INT("l1-slots-max", ACTS, "0", 0, 268435456, "most objects in L1; 0: by the size of L1"),
    BOOL("record", ACTS, "on", "keep a recording of what is asked for, without what it is about, for neap ctl record"),
    INT("record-mib", ACTS, "16", 1, 65536, "most MiB of that recording"),
    INT("policy-window", ACTS, "4096", 16, 16777216, "lookups of the sliding windows that policies are compared by"),
    TEXT("console-socket", ACTS, NULL, "PATH",
         "serve guarded prompts to this user on a unix socket (neap repl --connect)"),
    TEXT("console-token-file", ACTS, NULL, "FILE",
         "serve guarded prompts at GET /console to whoever has the token in this file"),
    CHOICE("log-level", ACTS, "info", "debug|info|warning|error", "the least level that is logged"),

    INT("l1-read-ttl-seconds", SHOWN, "300", 0, WIDE, "a lease ends with its owner, not by the clock"),
    INT("l1-write-ttl-seconds", SHOWN, "600", 0, WIDE, "a lease ends with its owner, not by the clock"),
    INT("max-workers", SHOWN, "1", 1, 65535, "one thread answers every request"),
    INT("max-gpu-workers", SHOWN, NULL, 1, 65535, "one thread answers every request"),
    INT("max-cpu-workers", SHOWN, NULL, 1, 65535, "one thread answers every request"),
    INT("kv-event-log-size", SHOWN, "32768", 0, WIDE, "there is no KV event stream"),
    NUMBER("metrics-sample-rate", SHOWN, "0.01", 0, 1, "counters are exact; there are no sampled histograms"),
    INT("event-bus-queue-size", SHOWN, "10000", 1, WIDE, "there is no event bus"),
    INT("prometheus-port", SHOWN, "9090", 0, 65535, "metrics are at the HTTP port"),
    TEXT("lookup-hash-log-dir", SHOWN, "", "DIR", "lookups are not logged to files"),
    INT("lookup-hash-log-rotation-interval", SHOWN, "21600", 0, WIDE, "lookups are not logged to files"),
    INT("lookup-hash-log-rotation-max-size", SHOWN, "104857600", 0, WIDE, "lookups are not logged to files"),
    INT("lookup-hash-log-max-files", SHOWN, "100", 0, WIDE, "lookups are not logged to files"),

    BOOL("run-script-api-enabled", INERT, "off", "remote code execution is not offered"),
    WORDS("script-allowed-imports", INERT, "MODULE", "remote code execution is not offered"),
    CHOICE("transport", INERT, "zmq", "zmq|grpc", "ZeroMQ is the only transport"),
    INT("grpc-server-workers", INERT, "32", 1, 65535, "gRPC"),
    SWITCH("disable-grpc-metrics", INERT, "gRPC"),
    LIST("l1-manager", INERT, "JSON", "several L1 tiers; use --l1-size-gb"),
    NUMBER("l1-init-size-gb", INERT, "20", 0, 1048576, "growing L1"),
    TEXT("l1-devdax-path", INERT, NULL, "PATH", "L1 on Device-DAX"),
    TEXT("gds-l1-path", INERT, NULL, "PATH", "L1 on GPUDirect Storage"),
    BOOL("gds-l1-use-direct-io", INERT, "on", "L1 on GPUDirect Storage"),
    TEXT("gds-l1-backend", INERT, "auto", "NAME", "L1 on GPUDirect Storage"),
    INT("null-block-id", INERT, "0", 0, WIDE, "transfers driven by the server"),
    CHOICE("engine-type", INERT, "default", "default|blend", "reuse beyond prefixes"),
    BOOL("separate-object-groups", INERT, "off", "one object group per window size"),
    BOOL("isolated-ipc", INERT, "off", "transfers driven by the server"),
    WORDS("enable", INERT, "MODULE", "experimental modules"),
    SWITCH("enable-segmented-prefix", INERT, "reuse beyond prefixes"),
    SWITCH("enable-dedup-content", INERT, "reuse beyond prefixes"),
    SWITCH("enable-blend-reorder", INERT, "reuse beyond prefixes"),
    WORDS("runtime-plugin-locations", INERT, "PATH", "Python runtime plugins"),
    TEXT("runtime-plugin-config", INERT, "{}", "JSON", "Python runtime plugins"),
    LIST("server-module", INERT, "JSON", "Python server modules"),
    TEXT("p2p-advertise-url", INERT, "", "URL", "transfers between servers"),
    TEXT("p2p-listen-url", INERT, "", "URL", "transfers between servers"),
    NUMBER("p2p-lookup-timeout", INERT, "30", 0, WIDE, "transfers between servers"),
    NUMBER("p2p-load-timeout", INERT, "30", 0, WIDE, "transfers between servers"),
    TEXT("p2p-transfer-engine", INERT, "nixl", "NAME", "transfers between servers"),
    INT("periodic-notifier-interval-ms", INERT, "5", 0, WIDE, "polling; events arrive by themselves"),
    SWITCH("enable-tracing", INERT, "OpenTelemetry"),
    TEXT("otlp-endpoint", INERT, NULL, "URL", "OpenTelemetry"),
    CHOICE("trace-level", INERT, NULL, "storage|events", "LMCache's trace files"),
    TEXT("trace-output", INERT, NULL, "PATH", "LMCache's trace files"),
    SWITCH("enable-gc-monitor", INERT, "Python's garbage collector"),
    NUMBER("gc-monitor-min-pause-ms", INERT, "1.0", 0, WIDE, "Python's garbage collector"),
    INT("gc-monitor-top-objects", INERT, "0", 0, WIDE, "Python's garbage collector"),
    TEXT("coordinator-url", INERT, "", "URL", "a fleet of servers"),
    TEXT("coordinator-advertise-ip", INERT, "", "IP", "a fleet of servers"),
    NUMBER("coordinator-heartbeat-interval", INERT, "5.0", 0, WIDE, "a fleet of servers"),
    SWITCH("coordinator-event-reporting", INERT, "a fleet of servers"),
    NUMBER("coordinator-event-flush-interval", INERT, "1.0", 0, WIDE, "a fleet of servers"),
    CHOICE("coordinator-event-transport", INERT, "http", "http|kafka", "a fleet of servers"),
    TEXT("coordinator-kafka-bootstrap-servers", INERT, NULL, "HOSTS", "a fleet of servers"),
    TEXT("coordinator-kafka-topic", INERT, "lmcache-cache-events", "TOPIC", "a fleet of servers"),
    NUMBER("coordinator-kafka-delivery-timeout", INERT, "300.0", 0, WIDE, "a fleet of servers"),
    NUMBER("coordinator-blend-timeout", INERT, "1.0", 0, WIDE, "a fleet of servers"),
    INT("coordinator-blend-match-concurrency", INERT, "8", 1, 65535, "a fleet of servers"),
    TEXT("format", INERT, "terminal", "FORMAT", "reports of LMCache's program"),
    TEXT("output", INERT, NULL, "PATH", "reports of LMCache's program"),
    SWITCH("quiet", INERT, "reports of LMCache's program; also -q"),
};
/* clang-format on */

const neap__flag *neap__flag_table(size_t *count) {
  *count = NEAP_ARRAY_LEN(table);
  return table;
}
