/*
 * A producer, a consumer, a claimant or a waiter dies after any of its steps. Recovered by its owner's number, the
 * queue moves, no cell is anybody's, and every message that was published is delivered or in the dead one's hands.
 */

#include "abandon.h"

enum { FILLING = 1, READY = 2, TAKEN = 3, VOID = 4 }; /* as in ring.c */

static struct world world;
static void *memory, *words;
static bridge_queue router, dead, living;
static bridge_tracking routers, deads, livings;
static uint64_t published; /* numbers 0 … published-1 were pushed before the operation */

static uint32_t cells_in(uint32_t state, uint16_t owner) {
    uint32_t count = 0;
    for (uint32_t index = 0; index < world.geometry.capacity; index++) {
        uint64_t word = bridge_u64_load_relaxed(
            &((struct bridge_cell *)(router.ring.cells + (size_t)index * world.geometry.item_size))->word);
        count += (word >> 16 & 0xff) == state && (word & 0xffff) == owner;
    }
    return count;
}

static void set_up(uint64_t first_ticket, uint32_t prefill) {
    memory = new_queue(world, first_ticket);
    router = open_queue(memory, world, ROUTER);
    dead = open_queue(memory, world, WORKER);
    living = open_queue(memory, world, OTHER);
    for (published = 0; published < prefill; published++) {
        CHECK_SAME(push_number(&router, published), 0);
    }
}

static void tear_down(void) {
    close_queue(&router), close_queue(&dead), close_queue(&living);
    free(memory);
}

/* The queue works: it takes as many messages as it has cells, not one more, and gives them back in order. */
static void expect_that_it_moves(void) {
    for (int lap = 0; lap < 3; lap++) {
        for (uint64_t number = 0; number < world.geometry.capacity; number++) {
            CHECK_SAME(push_number(&living, number), 0);
        }
        CHECK_SAME(push_number(&living, 0), BRIDGE_FULL);
        for (uint64_t number = 0; number < world.geometry.capacity; number++) {
            CHECK_SAME(COUNT_OF(bridge_queue_drain(&router, 1)), 1);
            CHECK_SAME(number_at(&router, 0), number);
        }
        CHECK_SAME(bridge_queue_drain(&router, 1), 0);
    }
    CHECK_SAME(bridge_queue_length(&router), 0);
    for (uint32_t state = FILLING; state <= VOID; state++) {
        for (uint16_t owner = 0; owner <= OTHER; owner++) {
            CHECK_SAME(cells_in(state, owner), 0);
        }
    }
}

static void push_one(void) {
    (void)push_number(&dead, published);
}

static void producer_dies(uint64_t first_ticket, uint32_t prefill) {
    bool died = true;
    for (int step = 1; died; step++) {
        set_up(first_ticket, prefill);
        died = dies_after(step, push_one);
        uint32_t ready = cells_in(READY, 0);
        CHECK(ready == prefill || ready == prefill + 1);
        CHECK_SAME(cells_in(FILLING, WORKER) + ready <= prefill + 1, 1);
        if (prefill == 0 && cells_in(FILLING, WORKER) == 1) {
            CHECK_SAME(bridge_queue_drain(&living, 64), 0); /* it blocks, but nothing is lost */
        }
        CHECK_SAME(bridge_queue_recover(&router, WORKER, 0), 0);
        CHECK_SAME(cells_in(FILLING, WORKER), 0);
        for (uint64_t number = 0; number < ready; number++) {
            CHECK_SAME(COUNT_OF(bridge_queue_drain(&living, 1)), 1);
            CHECK_SAME(number_at(&living, 0), number);
        }
        CHECK_SAME(COUNT_OF(bridge_queue_drain(&living, 64)), 0);
        CHECK(died || ready == prefill + 1 || prefill == world.geometry.capacity);
        (void)bridge_queue_take_starved(&router);
        expect_that_it_moves();
        tear_down();
    }
}

static void drain_three(void) {
    (void)bridge_queue_drain(&dead, 3);
}

static void consumer_dies(uint64_t first_ticket, uint32_t prefill, bool starving) {
    bool died = true;
    for (int step = 1; died; step++) {
        set_up(first_ticket, prefill);
        if (starving) {
            CHECK_SAME(push_number(&router, 0), BRIDGE_FULL);
        }
        died = dies_after(step, drain_three);
        uint32_t left = cells_in(READY, 0), taken = cells_in(TAKEN, WORKER);
        CHECK(taken <= 1 && prefill - left <= 3);
        uint64_t next = published - left;
        for (uint64_t number = next; left > 0; left--, number++) {
            CHECK_SAME(COUNT_OF(bridge_queue_drain(&living, 1)), 1); /* what it has in hand blocks nobody */
            CHECK_SAME(number_at(&living, 0), number);
        }
        int64_t more = bridge_queue_recover(&living, WORKER, 0);
        CHECK_SAME(more > 0, taken);
        if (more > 0) {
            CHECK_SAME(number_at(&living, 0), next - 1); /* the last one it took */
            CHECK_SAME(bridge_queue_recover(&living, WORKER, (uint32_t)more), 0);
        }
        (void)bridge_queue_drain(&living, 64);
        expect_that_it_moves();
        tear_down();
    }
}

static void recover_all(void) {
    for (int64_t from = 0; (from = bridge_queue_recover(&router, WORKER, (uint32_t)from)) > 0;) {
    }
}

/* Recovery itself can be begun again: one cell is being filled, one being read. */
static void recovery_is_interrupted(void) {
    bool died = true;
    for (int step = 1; died; step++) {
        set_up(0, 2);
        CHECK(dies_after(2, drain_three));
        CHECK(dies_after(3, push_one));
        CHECK_SAME(cells_in(TAKEN, WORKER) + cells_in(FILLING, WORKER), 2);
        died = dies_after(step, recover_all);
        recover_all();
        CHECK_SAME(COUNT_OF(bridge_queue_drain(&living, 64)), 1);
        expect_that_it_moves();
        tear_down();
    }
}

static void doze_and_rouse(void) {
    (void)bridge_queue_doze(&dead, 1);
    bridge_queue_rouse(&dead, 1);
}

static void waiter_dies(void) {
    for (int step = 1; step <= 3; step++) {
        set_up(0, 0);
        CHECK(dies_after(step, doze_and_rouse));
        CHECK_SAME(bridge_queue_doze(&living, 2), 1);
        bridge_queue_rouse(&router, 1); /* the router, of the dead */
        CHECK_SAME(bridge_queue_wake(&router), 0);
        CHECK_SAME(push_number(&router, 0), 3);
        CHECK_SAME(bridge_queue_drain(&living, 64), 1);
        expect_that_it_moves();
        tear_down();
    }
}

static void claim_three(void) {
    (void)bridge_queue_claim(&dead, &deads, 3);
}

static void publish_streams(uint64_t *streams, uint32_t count) {
    words = memory_of(bridge_tracking_bytes(world.slots));
    CHECK_SAME(bridge_tracking_open(&routers, words, world.slots, ROUTER, 1), 0);
    CHECK_SAME(bridge_tracking_open(&deads, words, world.slots, WORKER, 0), 0);
    CHECK_SAME(bridge_tracking_open(&livings, words, world.slots, OTHER, 0), 0);
    for (uint32_t slot = 0; slot < count; slot++) {
        streams[slot] = (uint64_t)bridge_tracking_arm(&routers, slot);
        CHECK_SAME(push_number(&router, streams[slot]), 0);
    }
    CHECK_SAME(bridge_tracking_move(&routers, streams[1], BRIDGE_CANCEL, 0), BRIDGE_CANCELLED_SLOT);
    bridge_queue_set_ready(&router, 1);
}

/* Recovery as a router does it: what was taken but not claimed is published again, what was claimed is known. */
static uint32_t recover_claims(uint32_t *again) {
    uint32_t found = 0;
    *again = 0;
    for (int64_t from = 0; (from = bridge_queue_recover(&router, WORKER, (uint32_t)from)) > 0;) {
        uint64_t stream = number_at(&router, 0);
        if (bridge_tracking_state(&routers, stream) == BRIDGE_QUEUED) {
            CHECK_SAME(push_number(&router, stream), 0);
            ++*again;
        }
    }
    for (uint32_t from = 0; (from = bridge_tracking_recover(&routers, WORKER, from)) != 0; found++) {
        CHECK_SAME(routers.found_state, BRIDGE_CLAIMED);
    }
    return found;
}

static void claimant_dies(uint64_t first_ticket) {
    bool died = true;
    for (int step = 1; died; step++) {
        uint64_t streams[4];
        uint32_t again, living_claims = 0;
        set_up(first_ticket, 0);
        publish_streams(streams, 4);
        died = dies_after(step, claim_three);
        uint32_t found = recover_claims(&again);
        CHECK(again <= 1 && found <= 3);
        int64_t result;
        while (COUNT_OF(result = bridge_queue_claim(&living, &livings, 1)) == 1) {
            CHECK_SAME(bridge_tracking_move(&livings, number_at(&living, 0), BRIDGE_FINISH, OTHER), BRIDGE_DONE);
            living_claims++;
        }
        CHECK_SAME(found + living_claims, 3); /* every request exactly once, the cancelled one never */
        CHECK(died || found == 3);
        for (uint32_t slot = 0; slot < 4; slot++) {
            int state = bridge_tracking_state(&routers, streams[slot]);
            CHECK_SAME(state, slot == 1 ? BRIDGE_CANCELLED_SLOT : BRIDGE_DONE);
        }
        expect_that_it_moves();
        free(words);
        tear_down();
    }
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    world.geometry.capacity = world.geometry.capacity > 8 ? 8 : 4; /* every fill level is tried */
    const uint64_t starts[] = {0, 3, ((uint64_t)1 << 32) - 1, (uint64_t)0 - 2, (uint64_t)0 - world.geometry.capacity};
    for (size_t start = 0; start < sizeof starts / sizeof *starts; start++) {
        for (uint32_t prefill = 0; prefill <= world.geometry.capacity; prefill++) {
            producer_dies(starts[start], prefill);
            consumer_dies(starts[start], prefill, prefill == world.geometry.capacity);
        }
        claimant_dies(starts[start]);
    }
    waiter_dies();
    recovery_is_interrupted();
    return 0;
}
