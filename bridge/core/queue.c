#include "queue.h"

#include <string.h>

int bridge_queue_open(bridge_queue *queue, void *memory, const struct bridge_queue_geometry *geometry, uint16_t owner) {
    queue->room = geometry->item_size - BRIDGE_CELL_HEADER;
    queue->stride = BRIDGE_BATCH_HEADER + queue->room;
    queue->waiters = geometry->waiters;
    queue->last_rung = geometry->waiters - 1;
    queue->held = 0;
    bridge_queue_use_batch(queue, NULL, 0);
    int result = bridge_ring_open(&queue->ring, memory, geometry, owner);
    queue->next = result == 0 ? bridge_u64_load_relaxed(&queue->ring.shared->tail) : 0;
    return result;
}

void bridge_queue_use_batch(bridge_queue *queue, uint8_t *batch, uint32_t batch_items) {
    queue->batch = batch;
    queue->batch_items = batch_items;
}

/* Reserve a cell; who meets a full queue says so and looks again, so that the reader that makes room knows. */
static int reserve_or_starve(bridge_queue *queue, struct bridge_hold *hold) {
    int result = bridge_ring_reserve(&queue->ring, hold);
    if (result == BRIDGE_FULL) {
        /* SYNC POINT: starved — set the flag, then look at the cell again. */
        (void)bridge_u32_exchange_ordered(&queue->ring.shared->starved, 1);
        result = bridge_ring_reserve(&queue->ring, hold);
    }
    queue->next += result == 0;
    return result;
}

static void fill(struct bridge_hold *hold, const uint8_t *message, uint64_t length) {
    memcpy(hold->cell->bytes, message, length);
    /* Relaxed: published, like the bytes, by the swap to READY. */
    bridge_u32_store_relaxed(&hold->cell->length, (uint32_t)length);
}

/* More of the message that `fill` has begun. */
static void append(struct bridge_hold *hold, uint64_t at, const uint8_t *rest, uint64_t length) {
    memcpy(hold->cell->bytes + at, rest, length);
    bridge_u32_store_relaxed(&hold->cell->length, (uint32_t)(at + length));
}

/* Clears the bit of one sleeper, after the one that was rung last: w + 1, or 0 if nobody sleeps. */
static int64_t take_sleeper(bridge_queue *queue) {
    uint32_t words = bridge_sleeping_words(queue->waiters);
    uint32_t start = (queue->last_rung + 1) % queue->waiters;
    for (uint32_t step = 0; step <= words; step++) {
        uint32_t index = (start / BRIDGE_BITS + step) % words;
        bridge_u64 *at = &queue->ring.shared->sleeping[index];
        /* SYNC POINT: doze — look for sleepers after the message was published. */
        uint64_t bits = bridge_u64_load_ordered(at);
        if (step == 0) {
            bits &= ~(uint64_t)0 << start % BRIDGE_BITS; /* the bits below come last, in the extra step */
        }
        for (uint32_t bit = 0; bits != 0 && bit < BRIDGE_BITS; bit++) {
            uint64_t one = (uint64_t)1 << bit;
            uint32_t waiter = index * BRIDGE_BITS + bit;
            if ((bits & one) != 0 && waiter < queue->waiters && (bridge_u64_and_ordered(at, ~one) & one) != 0) {
                queue->last_rung = waiter;
                return (int64_t)waiter + 1;
            }
        }
    }
    return 0;
}

/* Publish, then look for a sleeper. LOST = we were taken for dead and the cell was recovered. */
static int64_t publish(bridge_queue *queue, const struct bridge_hold *hold) {
    return bridge_ring_publish(hold) ? take_sleeper(queue) : BRIDGE_LOST;
}

int64_t bridge_queue_push(bridge_queue *queue, const uint8_t *message, uint64_t length) {
    struct bridge_hold hold;
    if (length > queue->room) {
        return BRIDGE_TOO_LONG;
    }
    int result = reserve_or_starve(queue, &hold);
    if (result != 0) {
        return result;
    }
    fill(&hold, message, length);
    return publish(queue, &hold);
}

int64_t bridge_queue_publish(
    bridge_queue *queue, bridge_tracking *tracking, uint32_t slot, const uint8_t *message, uint64_t length) {
    struct bridge_hold hold;
    if (length > queue->room || length < sizeof(uint64_t)) {
        return BRIDGE_TOO_LONG;
    }
    int result = slot >> BRIDGE_RING_SHIFT == 0 ? reserve_or_starve(queue, &hold) : BRIDGE_LOST;
    if (result != 0) {
        return result;
    }
    if (hold.ticket + 1 != queue->next) {
        (void)bridge_ring_give_up(&hold);
        return BRIDGE_FAULT;
    }
    int64_t stream = bridge_tracking_arm(tracking, slot);
    if (stream < 0) {
        (void)bridge_ring_give_up(&hold);
        return stream;
    }
    fill(&hold, message, length);
    memcpy(hold.cell->bytes, &stream, sizeof stream);
    int64_t ring = publish(queue, &hold);
    return ring < 0 ? ring : stream | ring << BRIDGE_RING_SHIFT;
}

/*
 * Copy a taken message to place `index` of the batch, if it is long no more than `most` bytes of it: its length, or FAULT
 * for one that no producer of ours writes.
 */
static int64_t copy_front(bridge_queue *queue, const struct bridge_hold *hold, uint32_t index, uint32_t most) {
    uint8_t *to = queue->batch + (uint64_t)index * queue->stride;
    /* Read once: a peer could change it between a check and a use. Relaxed: acquired with the cell. */
    uint32_t length = bridge_u32_load_relaxed(&hold->cell->length);
    if (length > queue->room) {
        return BRIDGE_FAULT;
    }
    memset(to, 0, BRIDGE_BATCH_HEADER);
    memcpy(to, &length, sizeof length);
    memcpy(to + BRIDGE_BATCH_HEADER, hold->cell->bytes, length < BRIDGE_LONG || length < most ? length : most);
    return length;
}

static int64_t copy_out(bridge_queue *queue, const struct bridge_hold *hold, uint32_t index) {
    return copy_front(queue, hold, index, queue->room);
}

/* Keep the cell of the message at `index` of the batch until the next drain, and write down where it is. */
static void keep(bridge_queue *queue, const struct bridge_hold *hold, uint32_t index) {
    uint8_t *to = queue->batch + (uint64_t)index * queue->stride + sizeof(uint32_t);
    uint32_t place = (uint32_t)(((uint8_t *)hold->cell - queue->ring.cells) / queue->ring.item_size) + 1;
    memcpy(to, &place, sizeof place);
    queue->holds[queue->held++] = *hold;
}

static void let_go(bridge_queue *queue) {
    while (queue->held > 0) {
        bridge_ring_release(&queue->holds[--queue->held]);
    }
}

int64_t bridge_queue_drain(bridge_queue *queue, uint32_t limit) {
    uint32_t count = 0;
    int64_t result = 0, bytes = 0;
    if (limit > queue->batch_items) {
        limit = queue->batch_items;
    }
    let_go(queue); /* before the look at who starves, below */
    while (count < limit && bytes < BRIDGE_BATCH_BYTES) {
        struct bridge_hold hold;
        result = bridge_ring_take(&queue->ring, &hold);
        if (result != 1) {
            break;
        }
        result = copy_front(queue, &hold, count, BRIDGE_FRONT);
        if (result >= BRIDGE_LONG) {
            keep(queue, &hold, count);
        } else {
            bridge_ring_release(&hold);
        }
        if (result < 0) {
            break;
        }
        bytes += result;
        count++;
    }
    if (result < 0) {
        return result;
    }
    return (int64_t)count | (int64_t)bridge_queue_take_starved(queue) << BRIDGE_STARVED_BIT;
}

/* This consumer's part of what is visible, rounded up; at least one, because a tail may be behind its cells. */
static uint32_t share(bridge_queue *queue) {
    uint32_t consumers = bridge_u32_load_relaxed(&queue->ring.shared->ready);
    uint32_t visible = bridge_queue_length(queue);
    if (consumers == 0 || visible == 0) {
        return visible + 1;
    }
    return (visible - 1) / consumers + 1;
}

/* One message of a claim: 1 = won and at place `index` of the batch, 0 = lost to a cancel, or FAULT. */
static int claim_one(bridge_queue *queue, bridge_tracking *tracking, const struct bridge_hold *hold, uint32_t index) {
    uint64_t stream;
    const uint8_t *message = queue->batch + (uint64_t)index * queue->stride;
    uint32_t length;
    if (copy_out(queue, hold, index) < 0) {
        return BRIDGE_FAULT;
    }
    memcpy(&length, message, sizeof length);
    if (length < sizeof stream) {
        return BRIDGE_FAULT;
    }
    memcpy(&stream, message + BRIDGE_BATCH_HEADER, sizeof stream);
    return bridge_tracking_move(tracking, stream, BRIDGE_CLAIM, tracking->owner) == BRIDGE_CLAIMED;
}

/* Up to `limit` requests into the batch: their number, or FAULT. */
static int64_t claim_some(bridge_queue *queue, bridge_tracking *tracking, uint32_t limit) {
    uint32_t count = 0;
    int result = 0;
    if (limit > queue->batch_items) {
        limit = queue->batch_items;
    }
    while (count < limit) {
        struct bridge_hold hold;
        result = bridge_ring_take(&queue->ring, &hold);
        if (result != 1) {
            break;
        }
        /* Settle the word first, free the cell last: who dies in between is found by one or by the other. */
        result = claim_one(queue, tracking, &hold, count);
        bridge_ring_release(&hold);
        if (result < 0) {
            break;
        }
        count += (uint32_t)result;
    }
    return result < 0 ? result : (int64_t)count;
}

int64_t bridge_queue_claim(bridge_queue *queue, bridge_tracking *tracking, uint32_t limit) {
    uint32_t most = share(queue);
    int64_t count = claim_some(queue, tracking, limit < most ? limit : most);
    if (count < 0) {
        return count;
    }
    int64_t baton = bridge_queue_wake(queue);
    int64_t starved = bridge_queue_take_starved(queue);
    return count | starved << BRIDGE_STARVED_BIT | baton << BRIDGE_BATON_SHIFT;
}

int64_t bridge_queue_answer(
    bridge_queue *queue, bridge_tracking *tracking, uint64_t stream, int event, const uint8_t *message, uint64_t length) {
    return bridge_queue_answer_joined(queue, tracking, stream, event, message, length, message, 0);
}

int64_t bridge_queue_answer_joined(
    bridge_queue *queue, bridge_tracking *tracking, uint64_t stream, int event, const uint8_t *message, uint64_t length,
    const uint8_t *rest, uint64_t rest_length) {
    struct bridge_hold hold;
    if (length > queue->room || rest_length > queue->room - length) {
        return BRIDGE_TOO_LONG;
    }
    int result = bridge_tracking_may_answer(tracking, stream, event);
    if (result < 0) {
        return result;
    }
    result = reserve_or_starve(queue, &hold);
    if (result != 0) {
        return result;
    }
    fill(&hold, message, length);
    append(&hold, length, rest, rest_length);
    result = bridge_tracking_answer(tracking, stream, event);
    if (result < 0) {
        (void)bridge_ring_give_up(&hold);
        return result;
    }
    return publish(queue, &hold);
}

int bridge_queue_doze(bridge_queue *queue, uint32_t waiter) {
    if (waiter >= queue->waiters) {
        return BRIDGE_NONE;
    }
    if (queue->held > 0) {
        return 0;
    }
    bridge_u64 *at = &queue->ring.shared->sleeping[waiter / BRIDGE_BITS];
    /* SYNC POINT: doze — set the bit, then look at the queue again. */
    (void)bridge_u64_or_ordered(at, (uint64_t)1 << waiter % BRIDGE_BITS);
    int result = bridge_ring_visible(&queue->ring);
    if (result != 0) {
        bridge_queue_rouse(queue, waiter);
    }
    return result < 0 ? result : !result;
}

void bridge_queue_rouse(bridge_queue *queue, uint32_t waiter) {
    if (waiter < queue->waiters) {
        bridge_u64 *at = &queue->ring.shared->sleeping[waiter / BRIDGE_BITS];
        (void)bridge_u64_and_ordered(at, ~((uint64_t)1 << waiter % BRIDGE_BITS));
    }
}

int64_t bridge_queue_wake(bridge_queue *queue) {
    int result = bridge_ring_visible(&queue->ring);
    return result == 1 ? take_sleeper(queue) : 0;
}

int bridge_queue_take_starved(bridge_queue *queue) {
    /* SYNC POINT: starved — looks after the cells were freed. */
    if (bridge_u32_load_ordered(&queue->ring.shared->starved) == 0) {
        return 0;
    }
    return bridge_u32_exchange_ordered(&queue->ring.shared->starved, 0) != 0;
}

void bridge_queue_set_ready(bridge_queue *queue, uint32_t consumers) {
    bridge_u32_store_relaxed(&queue->ring.shared->ready, consumers);
}

/*
 * A waiter that was rung without its bit being cleared, as all are after a death, and has found something. It must not
 * be rung while it is busy. Who was faster and has cleared the bit has published before that: so the caller, who looks
 * for more after this, sees it and rings another.
 */
static void stay_awake(bridge_queue *queue, uint32_t waiter) {
    /* SYNC POINT: doze — clear the bit, then (the caller) look at the queue. Nobody else sets it. */
    uint64_t bits = bridge_u64_load_ordered(&queue->ring.shared->sleeping[waiter / BRIDGE_BITS]);
    if ((bits >> waiter % BRIDGE_BITS & 1) != 0) {
        bridge_queue_rouse(queue, waiter);
    }
}

/* Claim one and start it, or doze: 1, 0 = the waiter's bit is set and there was nothing after that, or FAULT, NONE. */
static int64_t claim_or_doze(bridge_queue *queue, bridge_tracking *tracking, uint32_t waiter) {
    for (unsigned attempt = 0; attempt < BRIDGE_ATTEMPTS; attempt++) {
        uint64_t stream;
        int64_t count = claim_some(queue, tracking, 1);
        if (count == 1) {
            memcpy(&stream, queue->batch + BRIDGE_BATCH_HEADER, sizeof stream);
            /* Who cancels between the two moves has them both behind him, and the consumer reads it in the word. */
            (void)bridge_tracking_move(tracking, stream, BRIDGE_START, tracking->owner);
            stay_awake(queue, waiter);
            return 1;
        }
        int dozing = count < 0 ? (int)count : bridge_queue_doze(queue, waiter);
        if (dozing != 0) {
            return dozing < 0 ? dozing : 0;
        }
    }
    return BRIDGE_FAULT;
}

int64_t bridge_queue_next(
    bridge_queue *requests, bridge_queue *answers, bridge_tracking *tracking, uint64_t stream, const uint8_t *message,
    uint64_t length, uint32_t waiter) {
    int64_t ring = 0;
    if (waiter >= requests->waiters) {
        return BRIDGE_FAULT;
    }
    if (stream != 0) {
        ring = bridge_queue_answer(answers, tracking, stream, BRIDGE_FINISH, message, length);
        if (ring < 0) {
            return ring;
        }
    }
    int64_t count = claim_or_doze(requests, tracking, waiter);
    if (count < 0) {
        return count;
    }
    int64_t baton = count == 0 ? 0 : bridge_queue_wake(requests); /* who dozes has just seen that nothing is left */
    int64_t other_side = bridge_queue_take_starved(requests) | (ring != 0);
    return count | other_side << BRIDGE_STARVED_BIT | baton << BRIDGE_BATON_SHIFT;
}

int64_t bridge_queue_audit(const bridge_queue *queue) {
    return bridge_ring_audit(&queue->ring, queue->next);
}

uint32_t bridge_queue_length(bridge_queue *queue) {
    return bridge_ring_length(&queue->ring);
}

int64_t bridge_queue_recover(bridge_queue *queue, uint16_t owner, uint32_t from) {
    struct bridge_hold hold;
    uint32_t next = bridge_ring_recover(&queue->ring, owner, from, &hold);
    if (next != 0) {
        int64_t result = copy_out(queue, &hold, 0);
        bridge_ring_release(&hold);
        if (result < 0) {
            return result;
        }
    }
    return next;
}
