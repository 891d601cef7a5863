/*
 * No wake-up is lost, whatever moment of one side the other one chooses: who sleeps beside a message, waits beside room
 * in the queue or beside free memory is rung by the other side, or sees it in time. Each side is stopped after each of
 * its steps, and the other one does all that it has to do right there.
 */

#include "abandon.h"

#define WAITER 1

static struct world world;
static void *memory, *words;
static bridge_queue router, worker;
static bridge_tracking routers, workers;
static bridge_chunk_map releasing, claiming;
static int64_t pushed, taken;
static int dozing; /* 1 = it sleeps */
static bool claimed, told;

static void set_up(uint32_t requests) {
    memory = new_queue(world, (uint64_t)0 - 1), words = memory_of(bridge_tracking_bytes(world.slots));
    router = open_queue(memory, world, ROUTER), worker = open_queue(memory, world, WORKER);
    CHECK_SAME(bridge_tracking_open(&routers, words, world.slots, ROUTER, 1), 0);
    CHECK_SAME(bridge_tracking_open(&workers, words, world.slots, WORKER, 0), 0);
    for (uint32_t slot = 0; slot < requests; slot++) {
        CHECK_SAME(push_number(&router, (uint64_t)bridge_tracking_arm(&routers, slot)), 0);
    }
}

static void tear_down(void) {
    close_queue(&router), close_queue(&worker), free(memory), free(words);
}

static void push(void) {
    pushed = push_number(&router, 0);
}
static void doze(void) {
    dozing = bridge_queue_doze(&worker, WAITER);
}
static void drain(void) {
    taken = bridge_queue_drain(&worker, 1);
}
static void claim(void) {
    taken = bridge_queue_claim(&worker, &workers, 1);
}
static void next(void) {
    taken = bridge_queue_next(&worker, &worker, &workers, 0, NULL, 0, WAITER);
}

static void nobody_sleeps_beside_a_message(void (*what)(void), void (*meanwhile)(void)) {
    bool happened = true;
    for (int step = 1; happened; step++) {
        set_up(0);
        happened = happens_after(step, meanwhile, what);
        CHECK(!happened || dozing == 0 || pushed == WAITER + 1);
        tear_down();
    }
}

static void nobody_waits_beside_room(void (*what)(void), void (*meanwhile)(void)) {
    bool happened = true;
    for (int step = 1; happened; step++) {
        set_up(world.geometry.capacity);
        happened = happens_after(step, meanwhile, what);
        CHECK(!happened || pushed >= 0 || STARVED_OF(taken));
        tear_down();
    }
}

static void release(void) {
    CHECK_SAME(bridge_chunk_map_release(&releasing, 0, world.chunks, ROUTER), world.chunks);
    told = bridge_chunk_map_take_waiting(&releasing);
}

static void claim_or_wait(void) {
    claimed = bridge_chunk_map_claim(&claiming, 1) >= 0;
    if (!claimed) {
        (void)bridge_chunk_map_wait(&claiming);
        claimed = bridge_chunk_map_claim(&claiming, 1) >= 0;
    }
}

static void nobody_waits_beside_memory(void (*what)(void), void (*meanwhile)(void)) {
    bool happened = true;
    for (int step = 1; happened; step++) {
        memory = memory_of(bridge_chunk_map_bytes(world.chunks));
        CHECK_SAME(bridge_chunk_map_open(&releasing, memory, world.chunks, ROUTER, 1), 0);
        CHECK_SAME(bridge_chunk_map_open(&claiming, memory, world.chunks, WORKER, 0), 0);
        CHECK_SAME(bridge_chunk_map_claim(&releasing, world.chunks), 0);
        happened = happens_after(step, meanwhile, what);
        CHECK(!happened || claimed || told);
        free(memory);
    }
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    world.geometry.capacity = 4;
    world.chunks = 3;
    nobody_sleeps_beside_a_message(push, doze);
    nobody_sleeps_beside_a_message(doze, push);
    void (*const consumers[])(void) = {drain, claim, next};
    for (size_t index = 0; index < sizeof consumers / sizeof *consumers; index++) {
        nobody_waits_beside_room(push, consumers[index]);
        nobody_waits_beside_room(consumers[index], push);
    }
    nobody_waits_beside_memory(claim_or_wait, release);
    nobody_waits_beside_memory(release, claim_or_wait);
    return 0;
}
