/*
 * A worker without anything around it: it claims requests, runs them, answers with chunks that it fills and hands over,
 * and sleeps when there is nothing. It never ends by itself; killed_workers.c kills it in the middle.
 */

#ifndef BARE_WORKER_H
#define BARE_WORKER_H

#include "beside.h"

#include <poll.h>

enum { WORKERS = 2, PIECE = 1, END = 2 };

/* Worker → router. PIECE: part of a response, in chunks; END: the last message of a stream. Both may name a run. */
struct answer {
    uint64_t stream;
    uint16_t kind, first, chunks, pad;
};

/* What one worker shares with the router. */
struct port {
    void *answers, *map;
    uint64_t *data; /* one word for each chunk */
    int bell;
    uint16_t owner;
    bool one_by_one;
};

static struct world world;
static void *requests_memory, *words;
static struct port ports[WORKERS];
static int router_bell;
static _Atomic uint32_t *runs;  /* per slot: how often its request was begun */
static _Atomic uint32_t *begun; /* by each worker: requests */

struct bare_worker {
    struct port *port;
    bridge_queue requests, answers;
    bridge_tracking tracking;
    bridge_chunk_map map;
    uint32_t index, seed;
};

static void ring_bell(int bell) {
    const uint64_t one = 1;
    CHECK_SAME(write(bell, &one, sizeof one), sizeof one);
}

static bool wait_for_bell(int bell, int milliseconds) {
    struct pollfd look = {.fd = bell, .events = POLLIN};
    uint64_t rung;
    return poll(&look, 1, milliseconds) == 1 && read(bell, &rung, sizeof rung) == sizeof rung;
}

static void ring_waiter(int64_t ring) {
    if (ring > 0) {
        CHECK(ring <= WORKERS);
        ring_bell(ports[ring - 1].bell);
    }
}

static void push_end(struct bare_worker *worker, uint64_t stream) {
    struct answer answer = {.stream = stream, .kind = END};
    int64_t ring;
    while ((ring = bridge_queue_push(&worker->answers, (uint8_t *)&answer, sizeof answer)) == BRIDGE_FULL) {
        sched_yield();
    }
    if (ring > 0) {
        ring_bell(router_bell);
    }
}

/* Nobody waits for this answer: what it names is still ours. */
static void give_up(struct bare_worker *worker, const struct answer *answer) {
    (void)bridge_chunk_map_release(&worker->map, answer->first, answer->chunks, worker->port->owner);
    int state = bridge_tracking_move(&worker->tracking, answer->stream, BRIDGE_FINISH, worker->port->owner);
    CHECK_SAME(state, BRIDGE_DONE);
    push_end(worker, answer->stream);
}

/* False = the stream is over, for it was cancelled. */
static bool send_answer(struct bare_worker *worker, int event, const struct answer *answer) {
    int64_t result;
    do {
        result = bridge_queue_answer(
            &worker->answers, &worker->tracking, answer->stream, event, (const uint8_t *)answer, sizeof *answer);
        if (result == BRIDGE_FULL) {
            sched_yield();
        }
    } while (result == BRIDGE_FULL);
    CHECK(result >= 0 || result == BRIDGE_CANCELLED);
    if (result > 0) {
        ring_bell(router_bell);
    }
    if (result == BRIDGE_CANCELLED) {
        give_up(worker, answer);
    }
    return result >= 0;
}

/* A run of chunks of any length, filled; none when there is no memory now. */
static void fill_chunks(struct bare_worker *worker, struct answer *answer) {
    uint32_t wanted = next_random(&worker->seed) % 5;
    int64_t run = wanted == 0 ? BRIDGE_NONE : bridge_chunk_map_claim_some(&worker->map, wanted, 1);
    if (wanted != 0 && run < 0) {
        (void)bridge_chunk_map_wait(&worker->map);
        run = bridge_chunk_map_claim_some(&worker->map, wanted, 1);
    }
    answer->first = run < 0 ? 0 : (uint16_t)(run >> 32);
    answer->chunks = run < 0 ? 0 : (uint16_t)run;
    if (answer->chunks == 1) {
        answer->chunks += (uint16_t)bridge_chunk_map_grow(&worker->map, answer->first + 1u, 2, 2);
    }
    for (uint32_t chunk = answer->first; chunk < (uint32_t)answer->first + answer->chunks; chunk++) {
        worker->port->data[chunk] = answer->stream;
    }
}

/* Runs a request up to its last message, which is left in `answer`. False = it is over already. */
static bool run_request(struct bare_worker *worker, uint64_t stream, struct answer *answer) {
    *answer = (struct answer){.stream = stream, .kind = PIECE};
    runs[(uint32_t)stream]++;
    begun[worker->index]++;
    for (uint32_t pieces = next_random(&worker->seed) % 3; pieces > 0; pieces--) {
        fill_chunks(worker, answer);
        if (!send_answer(worker, BRIDGE_RESPOND, answer)) {
            return false;
        }
    }
    answer->kind = END;
    fill_chunks(worker, answer);
    return true;
}

/* As an event loop does it: several at once. */
static void serve_many(struct bare_worker *worker) {
    struct answer answer;
    for (;;) {
        int64_t result = bridge_queue_claim(&worker->requests, &worker->tracking, 3);
        CHECK(result >= 0);
        ring_waiter(BATON_OF(result));
        for (uint32_t index = 0; index < COUNT_OF(result); index++) {
            uint64_t stream = number_at(&worker->requests, index);
            if (bridge_tracking_move(&worker->tracking, stream, BRIDGE_START, worker->port->owner) < 0) {
                answer = (struct answer){.stream = stream}; /* cancelled before it was begun */
                give_up(worker, &answer);
            } else if (run_request(worker, stream, &answer)) {
                (void)send_answer(worker, BRIDGE_FINISH, &answer);
            }
        }
        if (COUNT_OF(result) == 0 && bridge_queue_doze(&worker->requests, worker->index) == 1) {
            (void)wait_for_bell(worker->port->bell, -1);
        }
    }
}

/* As a thread does it: one after the other, each finished in the call that claims the next. */
static void serve_one_by_one(struct bare_worker *worker) {
    struct answer last = {0};
    for (;;) {
        int64_t result = bridge_queue_next(
            &worker->requests, &worker->answers, &worker->tracking, last.stream, (uint8_t *)&last, sizeof last,
            worker->index);
        if (result == BRIDGE_FULL) {
            sched_yield();
            continue;
        }
        if (result == BRIDGE_CANCELLED) {
            give_up(worker, &last);
            last.stream = 0;
            continue;
        }
        CHECK(result >= 0);
        if (STARVED_OF(result)) {
            ring_bell(router_bell);
        }
        ring_waiter(BATON_OF(result));
        last.stream = 0;
        if (COUNT_OF(result) == 0) {
            (void)wait_for_bell(worker->port->bell, -1);
        } else if (!run_request(worker, number_at(&worker->requests, 0), &last)) {
            last.stream = 0;
        }
    }
}

static void *serve(void *argument) {
    uint32_t index = (uint32_t)(uintptr_t)argument;
    struct port *port = &ports[index];
    struct bare_worker worker = {.port = port, .index = index, .seed = port->owner};
    worker.requests = open_queue(requests_memory, world, port->owner);
    worker.answers = open_queue(port->answers, world, port->owner);
    CHECK_SAME(bridge_tracking_open(&worker.tracking, words, world.slots, port->owner, 0), 0);
    CHECK_SAME(bridge_chunk_map_open(&worker.map, port->map, world.chunks, port->owner, 0), 0);
    if (port->one_by_one) {
        serve_one_by_one(&worker);
    } else {
        serve_many(&worker);
    }
    return NULL;
}

#endif
