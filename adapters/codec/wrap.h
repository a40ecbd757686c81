/* SPDX-License-Identifier: MIT
 *
 * wrap.h - what the two files of the mechanism share: groups.c (operations on their way) and wrap.c (the adapter).
 *
 * A store or load is cut into groups of a few MiB. A group waits, in order, until its encoded bytes fit the bound, and
 * then takes its steps, each on a worker or at the inner adapter:
 *
 *   store   encode -> inner store -> end
 *   load    [inner lookup, for lengths that are not known ->] inner load -> decode -> end
 *
 * Memory for encoded bytes exists only while a group is under way. The engine's operation ends with its last group, and
 * the wrapper is not touched after that, for it may be closed then. */
#pragma once
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "codec.h"

#define NEAP_UNSETTLED 1 /* a result that is not there yet */

typedef struct wrap wrap;
typedef struct group group;

/* What the engine handed over, while groups of it are under way. */
typedef struct passage {
  neap_op *op;
  atomic_uint left;
} passage;

struct group {
  neap_op inner;             /* first: the inner adapter's done gets from it to this struct */
  void (*arrived)(group *g); /* from that done */
  void (*step)(group *g);    /* next, on a worker */
  wrap *w;
  passage *passage;
  group *next, *before; /* in the queue, or among those under way */
  neap_object *objects; /* of the engine */
  uint32_t count;
  uint64_t room;          /* of the bound */
  uint8_t *memory;        /* encoded bytes */
  uint32_t refs;          /* under the lock, as the next two */
  bool canceled, out;     /* out: the inner adapter has it */
  bool asked;             /* lengths come from a lookup of this very load */
  uint32_t *places;       /* of inner objects among the objects */
  uint64_t *lengths;      /* of envelopes that are there; 0: not known */
  neap_object to_inner[]; /* count */
};

struct wrap {
  const neap_host *host;
  const neap__codec *codec;
  void *self;
  neap_inner *inner;
  uint64_t bound;
  neap__sizes *sizes; /* NULL: the codec's overhead is fixed */
  sem_t probed;
  pthread_mutex_t lock; /* for the next two lines and what groups say */
  group *first, *last, *under_way;
  uint64_t room_used, waiting;
  atomic_bool blind; /* the inner adapter does not tell sizes */
  atomic_uint_fast64_t plain_in, encoded_in, encode_ns, plain_out, decode_ns, corrupt;
};

/* groups.c */
void neap__group_done(void *ctx, neap_op *op); /* for inner_open */
/* A group of operation p, or NULL. */
group *neap__group_new(wrap *w, passage *p, neap_object *objects, uint32_t count, uint64_t room);
void neap__group_free(group *g); /* one that was never started */
/* Takes part in nothing but the bookkeeping: hands the first `count` inner objects over at once. */
void neap__group_ask(group *g, neap_op_kind kind, uint32_t count, void (*arrived)(group *g));
void neap__group_end(group *g); /* its objects have results */
void neap__group_queue(group *g, neap_op_kind kind);
void neap__groups_admit(wrap *w); /* starts what fits */
void neap__groups_cancel(wrap *w, const neap_op *op);
void neap__passage_end(const neap_host *host, passage *p);
uint64_t neap__room_of(const wrap *w, uint64_t bytes);
/* What a lookup of the inner adapter says of an envelope for an object of `bytes` (0: not known). */
int neap__length_result(wrap *w, const neap_object *in, uint64_t bytes);
