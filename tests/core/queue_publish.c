/* A request is published with its slot armed, both or neither; its first bytes become the stream. */

#include "check.h"

static struct world world;
static void *memory, *words;
static bridge_queue router, worker;
static bridge_tracking routers, workers;

static int64_t publish(uint32_t slot) {
    uint64_t nothing[2] = {0, 7};
    return bridge_queue_publish(&router, &routers, slot, (const uint8_t *)nothing, sizeof nothing);
}

static void claims_what_was_published(void) {
    int64_t stream = publish(1);
    CHECK(stream > 0 && (uint32_t)stream == 1);
    CHECK_SAME(bridge_tracking_state(&routers, (uint64_t)stream), BRIDGE_QUEUED);
    CHECK_SAME(COUNT_OF(bridge_queue_claim(&worker, &workers, 1)), 1);
    CHECK_SAME(number_at(&worker, 0), (uint64_t)stream);
    CHECK_SAME(bridge_tracking_state(&routers, (uint64_t)stream), BRIDGE_CLAIMED);
}

static void says_whom_to_ring(void) {
    uint32_t last = world.geometry.waiters - 1;
    CHECK_SAME(bridge_queue_doze(&worker, last), 1);
    int64_t result = publish(2);
    CHECK_SAME((uint64_t)result >> BRIDGE_RING_SHIFT & 0xffff, last + 1);
    CHECK_SAME((uint64_t)result & 0xffff, 2);
    uint64_t stream = (uint64_t)result & ~((uint64_t)0xffff << BRIDGE_RING_SHIFT);
    CHECK_SAME(bridge_tracking_state(&routers, stream), BRIDGE_QUEUED);
    CHECK_SAME(COUNT_OF(bridge_queue_claim(&worker, &workers, 1)), 1);
}

static void a_slot_in_use_is_lost_and_blocks_nobody(void) {
    CHECK_SAME(publish(1), BRIDGE_LOST); /* claimed above */
    CHECK_SAME(publish(world.slots), BRIDGE_LOST);
    CHECK_SAME(publish((1u << BRIDGE_RING_SHIFT) + 3), BRIDGE_LOST);
    CHECK(publish(3) > 0);
    CHECK_SAME(COUNT_OF(bridge_queue_claim(&worker, &workers, 64)), 1);
}

static void full_arms_nothing(void) {
    while (push_number(&router, 0) == 0) {
    }
    uint64_t before = bridge_u64_load_acquire(&routers.shared->words[0]);
    CHECK_SAME(publish(0), BRIDGE_FULL);
    CHECK_SAME(bridge_u64_load_acquire(&routers.shared->words[0]), before);
    while (COUNT_OF(bridge_queue_drain(&worker, 64)) != 0) {
    }
    CHECK(publish(0) > 0);
}

static void refuses_what_is_no_request(void) {
    uint8_t bytes[4] = {0};
    CHECK_SAME(bridge_queue_publish(&router, &routers, 4, bytes, sizeof bytes), BRIDGE_TOO_LONG);
    CHECK_SAME(bridge_queue_publish(&router, &routers, 4, bytes, (uint64_t)router.room + 1), BRIDGE_TOO_LONG);
}

int main(int argc, char **argv) {
    world = world_of(argc, argv);
    memory = new_queue(world, 0);
    words = memory_of(bridge_tracking_bytes(world.slots));
    router = open_queue(memory, world, ROUTER);
    worker = open_queue(memory, world, WORKER);
    CHECK_SAME(bridge_tracking_open(&routers, words, world.slots, ROUTER, 1), 0);
    CHECK_SAME(bridge_tracking_open(&workers, words, world.slots, WORKER, 0), 0);
    claims_what_was_published();
    says_whom_to_ring();
    a_slot_in_use_is_lost_and_blocks_nobody();
    full_arms_nothing();
    refuses_what_is_no_request();
    close_queue(&router), close_queue(&worker), free(memory), free(words);
    return 0;
}
