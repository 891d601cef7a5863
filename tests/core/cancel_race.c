/*
 * Claim against cancel at the same moment, on two threads and between two processes: of each request exactly one of the
 * two wins, and both know who. No slot is lost, and none is armed again while a claimant still holds it. The queue
 * passes the ends of its tickets on the way.
 */

#include "beside.h"

#define BEFORE 100 /* tickets before each of the ends */

/* What the two sides note for one another, beside the structures that are tried. */
struct notes {
    _Atomic bool over;
    _Atomic uint64_t steps; /* of the claimant: while they go on it has a processor */
    _Atomic uint64_t held[8]; /* per slot: the stream that the claimant runs, or 0 */
    uint8_t claimed[];        /* per round: how often the claimant won */
};

struct message {
    uint64_t stream, round;
};

static struct world world;
static void *memory, *words;
static struct notes *notes;
static uint32_t used_slots; /* fewer than the queue has cells: a slot comes again while its last message still lies there */
static uint32_t cancelled, overtaken, finished; /* by the cancel: it won; the claim had won; the request was over */

static void run(bridge_queue *queue, bridge_tracking *tracking, uint32_t index, uint32_t *seed) {
    struct message message;
    memcpy(&message, queue->batch + (size_t)index * queue->stride + BRIDGE_BATCH_HEADER, sizeof message);
    uint32_t slot = (uint32_t)message.stream;
    notes->claimed[message.round]++;
    notes->held[slot] = message.stream;
    for (uint32_t spin = next_random(seed) % (message.round % 32 == 0 ? 2048 : 16); spin > 0; spin--) {
        (void)bridge_queue_length(queue);
        notes->steps++;
    }
    notes->held[slot] = 0;
    /* Cancelled meanwhile or not: what was claimed is the claimant's to end. */
    CHECK_SAME(bridge_tracking_move(tracking, message.stream, BRIDGE_FINISH, WORKER), BRIDGE_DONE);
}

static void *work(void *argument) {
    bridge_queue queue = open_queue(memory, world, WORKER);
    bridge_tracking tracking;
    uint32_t seed = 1;
    CHECK_SAME(bridge_tracking_open(&tracking, words, world.slots, WORKER, 0), 0);
    while (!notes->over || bridge_queue_length(&queue) > 0) {
        notes->steps++;
        int64_t result = bridge_queue_claim(&queue, &tracking, 4);
        CHECK(result >= 0);
        for (uint32_t index = 0; index < COUNT_OF(result); index++) {
            run(&queue, &tracking, index, &seed);
        }
    }
    close_queue(&queue);
    return argument;
}

/* Waits until the claimant is running too: on a machine that is busy otherwise it would be no race. */
static void meet(void) {
    uint64_t before = notes->steps;
    while (notes->steps == before) {
    }
}

/* Publishes one request into a slot that is free by its word, waiting for room and for the slot. */
static uint64_t publish(bridge_queue *queue, bridge_tracking *tracking, uint32_t slot, uint64_t round) {
    struct message message = {0, round};
    int64_t stream;
    while ((stream = bridge_queue_publish(queue, tracking, slot, (const uint8_t *)&message, sizeof message)) < 0) {
        CHECK(stream == BRIDGE_FULL || stream == BRIDGE_LOST);
    }
    uint64_t holder = notes->held[slot];
    CHECK(holder == 0 || holder == (uint64_t)stream); /* whoever held it before has let go */
    return (uint64_t)stream;
}

/* Cancels at a moment that moves towards the one at which both sides win equally often. True = won. */
static bool cancel(bridge_queue *queue, bridge_tracking *tracking, uint64_t stream, uint32_t *seed) {
    static uint32_t pause = 0;
    for (uint32_t spin = pause / 8 + next_random(seed) % 4; spin > 0; spin--) {
        (void)bridge_queue_length(queue);
    }
    int state = bridge_tracking_move(tracking, stream, BRIDGE_CANCEL, 0);
    CHECK(state == BRIDGE_CANCELLED_SLOT || state == BRIDGE_CANCELLING || state == BRIDGE_LOST);
    cancelled += state == BRIDGE_CANCELLED_SLOT;
    overtaken += state == BRIDGE_CANCELLING;
    finished += state == BRIDGE_LOST;
    if (state == BRIDGE_CANCELLED_SLOT) {
        pause += pause < 1u << 16 ? 1 + pause / 64 : 0;
    } else {
        pause -= pause > 0 ? 1 + pause / 64 : 0;
    }
    return state == BRIDGE_CANCELLED_SLOT;
}

static void race(bool process, uint64_t first_ticket, uint32_t rounds) {
    CHECK_SAME(bridge_queue_create(memory, &world.geometry, first_ticket), 0);
    bridge_queue queue = open_queue(memory, world, ROUTER);
    bridge_tracking tracking;
    CHECK_SAME(bridge_tracking_open(&tracking, words, world.slots, ROUTER, 1), 0);
    notes->over = false;
    memset(notes->claimed, 0, rounds);
    uint8_t *won = memory_of(rounds);
    uint32_t *armed = memory_of(used_slots * sizeof *armed);
    uint32_t seed = rounds;
    struct beside worker = start(process, work, NULL);
    for (uint64_t round = 0; round < rounds; round++) {
        uint32_t slot = (uint32_t)(round % used_slots);
        meet();
        uint64_t stream = publish(&queue, &tracking, slot, round);
        CHECK_SAME(stream >> 32, ++armed[slot]); /* one generation for each use */
        won[round] = cancel(&queue, &tracking, stream, &seed);
    }
    notes->over = true;
    join(worker);
    for (uint32_t round = 0; round < rounds; round++) {
        CHECK_SAME(won[round] + notes->claimed[round], 1);
    }
    CHECK_SAME(bridge_queue_length(&queue), 0);
    for (uint32_t slot = 0; slot < used_slots; slot++) {
        CHECK_SAME(bridge_tracking_arm(&tracking, slot) >> 32, armed[slot] + 1);
    }
    free(won), free(armed), close_queue(&queue);
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    const uint64_t ends[] = {(uint64_t)1 << 32, (uint64_t)1 << 40, 0, ((uint64_t)1 << 40) * world.geometry.capacity};
    const uint32_t parts = sizeof ends / sizeof *ends, rounds = rounds_of(argc, argv, 16000) / parts;
    used_slots = world.geometry.capacity / 2 < 8 ? world.geometry.capacity / 2 : 8;
    memory = shared_memory_of(bridge_queue_bytes(&world.geometry));
    words = shared_memory_of(bridge_tracking_bytes(world.slots));
    notes = shared_memory_of(sizeof *notes + rounds);
    for (uint32_t part = 0; part < parts; part++) {
        if (wants(argc, argv, "processes")) {
            race(true, ends[part] - BEFORE, rounds);
        }
        if (wants(argc, argv, "threads")) {
            race(false, ends[part] - BEFORE, rounds);
        }
    }
    if (argc > 2) {
        printf("%u %u %u\n", cancelled, overtaken, finished);
    }
    return 0;
}
