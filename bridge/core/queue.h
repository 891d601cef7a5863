/*
 * A bounded queue of messages in shared memory: many producers, many consumers, items of one size, in place (ring.h).
 *
 * Sleeping. A waiter sets its bit and looks again; a producer publishes and then looks for a bit. Whoever clears the
 * bit of another has to ring that waiter. One message rings at most one sleeper.
 *
 * Starving. A producer that meets a full queue sets a flag and looks again; a consumer frees items and then looks at
 * the flag.
 *
 * Long messages. A drain copies only their front; the rest is read in the cell, which is ours until the next drain. What
 * a message says of itself has to be in its front: behind that a producer that is not honest may write at any time.
 *
 * Several threads may use one queue, each through a handle of its own.
 */

#ifndef BRIDGE_QUEUE_H
#define BRIDGE_QUEUE_H

#include "ring.h"
#include "tracking.h"

#define BRIDGE_BATCH_HEADER 8u /* a message in the batch: u32 length, u32 place, bytes */
/* Bytes with which a drain ends before its limit. With half of it a WebSocket message of 16 KiB costs 2 % more. */
#define BRIDGE_BATCH_BYTES 524288u
#define BRIDGE_LONG 4096u  /* a drain leaves a message of so many bytes where it lies … */
#define BRIDGE_FRONT 1024u /* … but for so many at its front */
#define BRIDGE_MOST_HELD (BRIDGE_BATCH_BYTES / BRIDGE_LONG)
#define BRIDGE_STARVED_BIT 16
#define BRIDGE_BATON_SHIFT 17
#define BRIDGE_RING_SHIFT 16 /* a slot has as many bits where it shares a number with a waiter */

/* One thread's private handle. */
typedef struct bridge_queue {
    bridge_ring ring;
    uint8_t *batch; /* private memory of batch_items * stride bytes */
    uint32_t batch_items;
    uint32_t room; /* largest message */
    uint32_t stride;
    uint32_t waiters;
    uint32_t last_rung; /* where the search for a sleeper goes on from, so that all have their turn */
    uint64_t next;      /* ticket of the next message, if nobody else pushes any */
    uint32_t held;      /* long messages of the last drain */
    struct bridge_hold holds[BRIDGE_MOST_HELD];
} bridge_queue;

/* Joins a queue, without a batch. FAULT = impossible geometry or other version. */
int bridge_queue_open(bridge_queue *queue, void *memory, const struct bridge_queue_geometry *geometry, uint16_t owner);

/* What drain, claim, next and recover copy into from now on: `batch` holds `batch_items` messages. */
void bridge_queue_use_batch(bridge_queue *queue, uint8_t *batch, uint32_t batch_items);

/* 0 = delivered, w + 1 = delivered and the caller must ring waiter w, or FULL. */
int64_t bridge_queue_push(bridge_queue *queue, const uint8_t *message, uint64_t length);

/*
 * A request: arms the slot (below 2^16) and publishes the message, whose first 8 bytes become the stream. The stream,
 * with w + 1 (at most 2^16 - 1) in its bits from RING_SHIFT on if waiter w must be rung. FULL, or LOST = the slot is in
 * use, and nothing has changed. For the only producer of a queue: FAULT also when somebody has moved the tail.
 */
int64_t bridge_queue_publish(
    bridge_queue *queue, bridge_tracking *tracking, uint32_t slot, const uint8_t *message, uint64_t length);

/*
 * Copies up to `limit` messages into the batch, or BATCH_BYTES: their number, and STARVED_BIT if producers are to be rung.
 * The place of a long one is the number of its cell + 1, else 0. Those of the drain before are let go of.
 */
int64_t bridge_queue_drain(bridge_queue *queue, uint32_t limit);

/*
 * As drain, for requests: the first 8 bytes of a message are its stream, which must be won by a CLAIM. Takes at most
 * this consumer's share, ceil(visible / ready). Result >> BATON_SHIFT = w + 1: ring w, there is more to do.
 */
int64_t bridge_queue_claim(bridge_queue *queue, bridge_tracking *tracking, uint32_t limit);

/*
 * Worker's answer: move the stream by `event` (RESPOND, FINISH; none = it must be running, and is if it was only
 * claimed), and push. Both or neither: CANCELLED, LOST and FULL leave the word as it was and publish nothing.
 */
int64_t bridge_queue_answer(
    bridge_queue *queue, bridge_tracking *tracking, uint64_t stream, int event, const uint8_t *message, uint64_t length);

/* The same, of a message in two pieces, which are joined in its cell. */
int64_t bridge_queue_answer_joined(
    bridge_queue *queue, bridge_tracking *tracking, uint64_t stream, int event, const uint8_t *message, uint64_t length,
    const uint8_t *rest, uint64_t rest_length);

/*
 * All that a consumer of one request at a time does between two of them: finish `stream` with its last message (0 =
 * there is none to finish), claim the next request and start it, or else doze as `waiter`.
 *
 * The steps are those of answer (FINISH), claim and doze, in this order, and nothing is different when a process dies
 * between two of them: each leaves memory as it is found by recovery. What could not be answered is as it was,
 * and nothing is claimed: FULL, CANCELLED, LOST. Else the number of requests in the batch, 0 (dozing) or 1;
 * STARVED_BIT if the other side is to be rung, which publishes the requests and takes the answers; and the baton.
 * With a request the waiter's bit is clear, whatever has woken it: a ring would be lost on who is busy.
 * FAULT also for a waiter that does not exist.
 */
int64_t bridge_queue_next(
    bridge_queue *requests, bridge_queue *answers, bridge_tracking *tracking, uint64_t stream, const uint8_t *message,
    uint64_t length, uint32_t waiter);

/*
 * 1 = the waiter's bit is set and the queue was empty after that; 0 = there is something, the bit is clear; or messages
 * of the last drain are held, for which another drain has to follow: nobody may sleep who owes a producer a ring.
 * NONE = there is no such waiter.
 */
int bridge_queue_doze(bridge_queue *queue, uint32_t waiter);
void bridge_queue_rouse(bridge_queue *queue, uint32_t waiter);

/* If the queue is not empty, clears one sleeper's bit: w + 1 = ring w; else 0. */
int64_t bridge_queue_wake(bridge_queue *queue);

/* 1 = a producer met a full queue since the last such call. */
int bridge_queue_take_starved(bridge_queue *queue);

void bridge_queue_set_ready(bridge_queue *queue, uint32_t consumers);

/*
 * For the only producer of a queue, through its only handle: could honest consumers have left what lies there?
 * 0 = yes, and none holds a message; n > 0 = yes, and the message n before the next one is the oldest that is held.
 */
int64_t bridge_queue_audit(const bridge_queue *queue);

/* Messages between head and tail: advisory. */
uint32_t bridge_queue_length(bridge_queue *queue);

/*
 * Repairs what the dead `owner` held, from cell `from` on: FILLING becomes VOID; a TAKEN message is copied to the
 * front of the batch, its cell freed. The cell to go on from after such a copy, 0 at the end, or FAULT.
 */
int64_t bridge_queue_recover(bridge_queue *queue, uint16_t owner, uint32_t from);

#endif
