/* SPDX-License-Identifier: MIT
 *
 * base/base.h - what every layer stands on: errors with text, log lines, clocks, CRC-32C, BLAKE3, a worker pool.
 * No state but the log sink; nothing here knows what a cache is. All functions may be called from any thread. */
#pragma once
#include <neap/adapter.h>
#include <neap/types.h>
#include <stdarg.h>
#include <stdbool.h>

#define NEAP_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define NEAP_MIN(a, b) ((a) < (b) ? (a) : (b))
#define NEAP_MAX(a, b) ((a) > (b) ? (a) : (b))
#define NEAP_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

/* Checked in every build: a broken promise inside the engine ends the program before it can serve a wrong byte. */
#define NEAP_ASSERT(cond) ((cond) ? (void)0 : neap__assert_failed(__FILE__, __LINE__, #cond))
_Noreturn void neap__assert_failed(const char *file, int line, const char *cond);

/* --- errors --------------------------------------------------------------------------------------------------- */

/* Writes a sentence into err (may be NULL) and returns code, so that `return neap__fail(err, NEAP_EINVAL, ...)`
 * is one line. Truncates; never allocates. */
int neap__fail(neap_error *err, int code, const char *fmt, ...) NEAP_PRINTF(3, 4);

/* The name among `names` (count of them) nearest to `word` by edit distance, or NULL if none is near enough to be
 * what was meant (distance at most a third of the word, at least one). Names may contain NULLs. */
const char *neap__nearest(const char *word, const char *const *names, size_t count);

/* --- log ------------------------------------------------------------------------------------------------------ */

/* One line to stderr: `[2026-01-31 13:59:59,123] neap INFO: text (file.c:12)`; colour only on a terminal without
 * NO_COLOR. Lines of different threads do not mix. */
void neap__log(neap_log_level level, const char *file, int line, const char *fmt, ...) NEAP_PRINTF(4, 5);

/* From start to stop a thread writes the lines, and logging never waits for whoever reads them; lines that find its
 * buffer full are lost and counted. For programs, not for a library. start: 0 or NEAP_ENOMEM. stop writes what is
 * there, for at most a second. flush waits, likewise, until it is written: before a program ends itself. */
int neap__log_writer_start(void);
void neap__log_writer_stop(void);
void neap__log_flush(void);
void neap__log_set_level(neap_log_level least);
neap_log_level neap__log_level(void);
#define NEAP_LOG(level, ...) neap__log((level), __FILE__, __LINE__, __VA_ARGS__)
#define NEAP_LOG_DEBUG(...)                                                 \
  do {                                                                      \
    if (neap__log_level() <= NEAP_DEBUG) NEAP_LOG(NEAP_DEBUG, __VA_ARGS__); \
  } while (0)
#define NEAP_LOG_INFO(...)                                                \
  do {                                                                    \
    if (neap__log_level() <= NEAP_INFO) NEAP_LOG(NEAP_INFO, __VA_ARGS__); \
  } while (0)
#define NEAP_LOG_WARN(...) NEAP_LOG(NEAP_WARNING, __VA_ARGS__)
#define NEAP_LOG_ERROR(...) NEAP_LOG(NEAP_ERROR, __VA_ARGS__)

/* --- clocks --------------------------------------------------------------------------------------------------- */

uint64_t neap__now_ns(void); /* CLOCK_MONOTONIC */
int64_t neap__unix_s(void);  /* wall clock, seconds */

/* --- hashes --------------------------------------------------------------------------------------------------- */

/* CRC-32C (Castagnoli, reflected 0x82f63b78, as in RFC 3720), continuing from seed. SSE4.2 where the machine has it. */
uint32_t neap__crc32c(uint32_t seed, const void *data, size_t bytes);

/* BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn; the BLAKE3 paper, 2020), unkeyed, 32 bytes of output.
 * bytes must be at most 65,536: what one chunk of tokens needs. */
void neap__blake3(const void *data, size_t bytes, uint8_t out[NEAP_HASH_BYTES]);

/* A well-mixed 64-bit hash for tables (not for identity). */
uint64_t neap__hash64(const void *data, size_t bytes, uint64_t seed);

/* --- worker pool ---------------------------------------------------------------------------------------------- */

/* Threads for work that blocks (files, DNS). Bounded queue: a full queue refuses, it does not wait. */
typedef struct neap__pool neap__pool;
int neap__pool_open(uint32_t threads, uint32_t queue_max, neap__pool **out);
/* Returns 0, or NEAP_ELIMIT when the queue is full. */
int neap__pool_submit(neap__pool *pool, void (*work)(void *arg), void *arg);
/* Runs what is queued, then joins the threads and frees the pool. */
void neap__pool_close(neap__pool *pool);
