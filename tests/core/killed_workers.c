/*
 * Workers that are killed with -9 at any moment (bare_worker.h), by the router that they serve. Recovered by owner:
 * every request ends once, what was not begun is run by another worker, nobody sleeps beside work, and when all is done
 * there is no chunk, queue cell or tracking word that anybody holds.
 */

#include "bare_worker.h"

#include <sys/eventfd.h>

#define OUTSTANDING 48u
#define BETWEEN_LOOKS 50 /* kills between two looks at whether everything is back */

struct request {
    uint64_t stream; /* 0 = the slot is free */
    bool cancelled;
};

static bridge_queue requests, answers[WORKERS];
static bridge_tracking tracking;
static bridge_chunk_map maps[WORKERS];
static pid_t processes[WORKERS];
static struct request *slots;
static uint32_t outstanding, slot_limit, seed = 1;
static uint32_t published, again, done, cancelled, died; /* requests */
static uint32_t with_cell, with_word, with_chunks, kills; /* deaths */

static void over(struct request *request) {
    CHECK(runs[request - slots] <= 1);
    request->stream = 0;
    outstanding--;
}

static bool publish(void) {
    const struct { uint64_t stream; } message = {0};
    if (outstanding >= slot_limit) {
        return false;
    }
    uint32_t slot = next_random(&seed) % world.slots;
    while (slots[slot].stream != 0) {
        slot = (slot + 1) % world.slots;
    }
    runs[slot] = 0;
    int64_t result = bridge_queue_publish(&requests, &tracking, slot, (const uint8_t *)&message, sizeof message);
    if (result == BRIDGE_FULL) {
        return false;
    }
    CHECK(result > 0); /* a slot whose request is over is free by its word as well */
    slots[slot] = (struct request){(uint64_t)result & ~(uint64_t)0xffff0000, false};
    outstanding++;
    published++;
    ring_waiter(result >> BRIDGE_RING_SHIFT & 0xffff);
    return true;
}

static void cancel_one(void) {
    struct request *request = &slots[next_random(&seed) % world.slots];
    if (request->stream == 0 || request->cancelled) {
        return;
    }
    int state = bridge_tracking_move(&tracking, request->stream, BRIDGE_CANCEL, 0);
    if (state == BRIDGE_CANCELLED_SLOT) {
        CHECK_SAME(runs[request - slots], 0);
        cancelled++;
        over(request);
    } else {
        CHECK(state == BRIDGE_CANCELLING || state == BRIDGE_LOST);
        request->cancelled = true;
    }
}

static void take_over(uint32_t worker, const struct answer *answer) {
    bridge_chunk_map *map = &maps[worker];
    if (answer->chunks == 0) {
        return;
    }
    CHECK_SAME(bridge_chunk_map_transfer(map, answer->first, answer->chunks, ports[worker].owner, ROUTER), 1);
    for (uint32_t chunk = answer->first; chunk < (uint32_t)answer->first + answer->chunks; chunk++) {
        CHECK_SAME(ports[worker].data[chunk], answer->stream);
    }
    CHECK_SAME(bridge_chunk_map_release(map, answer->first, answer->chunks, ROUTER), answer->chunks);
    if (bridge_chunk_map_take_waiting(map)) {
        ring_bell(ports[worker].bell);
    }
}

static uint32_t hear(uint32_t worker) {
    int64_t result = bridge_queue_drain(&answers[worker], 64);
    CHECK(result >= 0);
    for (uint32_t index = 0; index < COUNT_OF(result); index++) {
        struct answer answer;
        memcpy(&answer, answers[worker].batch + (size_t)index * answers[worker].stride + BRIDGE_BATCH_HEADER,
               sizeof answer);
        struct request *request = &slots[(uint32_t)answer.stream];
        CHECK_SAME(request->stream, answer.stream);
        take_over(worker, &answer);
        if (answer.kind == END) {
            CHECK(request->cancelled || runs[request - slots] == 1);
            request->cancelled ? cancelled++ : done++;
            over(request);
        }
    }
    return COUNT_OF(result);
}

/* Cells of a queue that `owner` has in hand; 0 = that are not free. */
static uint32_t cells_of(const bridge_queue *queue, uint16_t owner) {
    uint32_t found = 0;
    for (uint32_t index = 0; index < queue->ring.capacity; index++) {
        const struct bridge_cell *cell = (struct bridge_cell *)(queue->ring.cells + (size_t)index * queue->ring.item_size);
        uint64_t word = bridge_u64_load_acquire(&cell->word);
        found += owner == 0 ? (word >> 16 & 0xff) != 0 : (word & 0xffff) == owner;
    }
    return found;
}

static void begin_again(struct request *request) {
    CHECK_SAME(runs[request - slots], 0); /* nobody has begun it */
    again++;
    over(request);
    published--;
}

static void bury(struct request *request, int state) {
    if (state == BRIDGE_CLAIMED && !request->cancelled) {
        begin_again(request);
    } else {
        request->cancelled ? cancelled++ : died++;
        over(request);
    }
}

static void recover(uint32_t worker) {
    uint16_t owner = ports[worker].owner;
    with_cell += cells_of(&requests, owner) + cells_of(&answers[worker], owner) > 0;
    while (hear(worker) > 0) {
    }
    uint32_t words_held = 0;
    for (uint32_t from = 0; (from = bridge_tracking_recover(&tracking, owner, from)) != 0;) {
        struct request *request = &slots[from - 1];
        if (request->stream == tracking.found_stream) {
            words_held++;
            bury(request, tracking.found_state);
        }
    }
    with_word += words_held > 0;
    for (int64_t from = 0; (from = bridge_queue_recover(&requests, owner, (uint32_t)from)) > 0;) {
        uint64_t stream = number_at(&requests, 0);
        struct request *request = &slots[(uint32_t)stream];
        if (request->stream == stream && bridge_tracking_state(&tracking, stream) == BRIDGE_QUEUED) {
            CHECK_SAME(bridge_tracking_move(&tracking, stream, BRIDGE_CANCEL, 0), BRIDGE_CANCELLED_SLOT);
            begin_again(request);
        }
    }
    with_chunks += bridge_chunk_map_recover(&maps[worker], owner) > 0;
    CHECK_SAME(bridge_chunk_map_busy(&maps[worker]), 0);
    CHECK(bridge_queue_audit(&requests) >= 0); /* a death is no damage */
    bridge_queue_rouse(&requests, worker);
    for (uint32_t other = 0; other < WORKERS; other++) {
        ring_bell(ports[other].bell); /* the dead may have owed a ring to any of them */
    }
}

static void start_worker(uint32_t worker) {
    struct port *port = &ports[worker];
    port->owner = (uint16_t)(port->owner < 60000 ? port->owner + WORKERS : 2 + (int)worker);
    port->one_by_one = next_random(&seed) % 2;
    CHECK_SAME(bridge_queue_create(port->answers, &world.geometry, (uint64_t)0 - 3), 0);
    CHECK_SAME(bridge_chunk_map_open(&maps[worker], port->map, world.chunks, ROUTER, 1), 0);
    processes[worker] = start_process(serve, (void *)(uintptr_t)worker);
}

static void kill_worker(uint32_t worker) {
    CHECK_SAME(kill(processes[worker], SIGKILL), 0);
    int status;
    CHECK_SAME(waitpid(processes[worker], &status, 0), processes[worker]);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* it has not failed by itself */
    kills++;
    recover(worker);
}

/* One round of what a router does; false = there was nothing to do. */
static bool turn(bool accepting) {
    bool busy = false;
    for (uint32_t burst = next_random(&seed) % 6; accepting && burst > 0; burst--) {
        busy |= publish();
    }
    if (next_random(&seed) % 3 == 0) {
        cancel_one();
    }
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        busy |= hear(worker) > 0;
    }
    return busy;
}

/* Sleep until a worker rings, or a little while: it is not only the workers that the router waits for. */
static void sleep_a_little(void) {
    bool quiet = true;
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        quiet &= bridge_queue_doze(&answers[worker], 0) == 1;
    }
    if (quiet) {
        (void)wait_for_bell(router_bell, 1);
    }
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        bridge_queue_rouse(&answers[worker], 0);
    }
}

static void expect_nothing_left(void) {
    int64_t since = seconds_now();
    while (outstanding > 0 || cells_of(&requests, 0) > 0) {
        if (!turn(false)) {
            sleep_a_little();
        }
        if (seconds_now() > since + PATIENCE) {
            fprintf(stderr, "%u requests hang after %u kills, %u cells are not free\n", outstanding, kills,
                    cells_of(&requests, 0));
            exit(1);
        }
    }
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        CHECK_SAME(cells_of(&answers[worker], 0), 0);
        CHECK_SAME(bridge_chunk_map_busy(&maps[worker]), 0);
    }
    for (uint32_t slot = 0; slot < world.slots; slot++) {
        uint32_t state = (uint32_t)(bridge_u64_load_acquire(&tracking.shared->words[slot]) >> 24) & 0xff;
        CHECK(state == BRIDGE_FREE_SLOT || state == BRIDGE_DONE || state == BRIDGE_CANCELLED_SLOT);
    }
    CHECK_SAME(published, done + cancelled + died);
}

/* Gives them something to do; a worker that is at it by now, as a rule. */
static uint32_t somebody_at_work(void) {
    uint32_t victim = next_random(&seed) % WORKERS;
    while (turn(false)) {
    }
    uint32_t before = begun[victim];
    while (publish()) {
    }
    for (uint32_t look = 0; begun[victim] == before && look < 100000; look++) {
        (void)bridge_queue_length(&requests);
    }
    for (uint32_t spin = next_random(&seed) % 1024; spin > 0; spin--) {
        (void)bridge_queue_length(&requests);
    }
    return victim;
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    uint32_t wanted = rounds_of(argc, argv, 60);
    slot_limit = world.slots - 1 < OUTSTANDING ? world.slots - 1 : OUTSTANDING;
    slots = memory_of(world.slots * sizeof *slots);
    runs = shared_memory_of(world.slots * sizeof *runs);
    begun = shared_memory_of(WORKERS * sizeof *begun);
    requests_memory = shared_memory_of(bridge_queue_bytes(&world.geometry));
    words = shared_memory_of(bridge_tracking_bytes(world.slots));
    CHECK_SAME(bridge_queue_create(requests_memory, &world.geometry, (uint64_t)0 - 1000), 0);
    requests = open_queue(requests_memory, world, ROUTER);
    CHECK_SAME(bridge_tracking_open(&tracking, words, world.slots, ROUTER, 1), 0);
    router_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        ports[worker] = (struct port){
            .answers = shared_memory_of(bridge_queue_bytes(&world.geometry)),
            .map = shared_memory_of(bridge_chunk_map_bytes(world.chunks)),
            .data = shared_memory_of(world.chunks * sizeof(uint64_t)),
            .bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
            .owner = (uint16_t)worker,
        };
        CHECK_SAME(bridge_queue_create(ports[worker].answers, &world.geometry, 0), 0);
        answers[worker] = open_queue(ports[worker].answers, world, ROUTER);
    }
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        start_worker(worker); /* when all bells are there: they ring each other */
    }
    while (kills < wanted) {
        for (uint32_t left = next_random(&seed) % 300; left > 0; left--) {
            if (!turn(true) && next_random(&seed) % 8 == 0) {
                sleep_a_little();
            }
        }
        uint32_t victim = somebody_at_work();
        kill_worker(victim);
        start_worker(victim);
        if (kills % BETWEEN_LOOKS == 0 || kills == wanted) {
            expect_nothing_left();
        }
    }
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        kill_worker(worker);
    }
    if (argc > 2) {
        printf("%u %u %u %u %u %u %u %u %u\n", kills, published, done, cancelled, died, again, with_cell, with_word,
               with_chunks);
    }
    return 0;
}
