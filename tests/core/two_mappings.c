/* One memory at two addresses, as two processes have it: whatever stored a pointer would be found out here. */

#include "check.h"

#include <sys/mman.h>
#include <unistd.h>

static void map_twice(uint64_t bytes, void *at[2]) {
    int fd = memfd_create("two-mappings", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    for (int index = 0; index < 2; index++) {
        at[index] = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(at[index] != MAP_FAILED);
    }
    CHECK(at[0] != at[1]);
    close(fd);
}

int main(int argc, char **argv) {
    struct world world = world_of(argc, argv);
    void *queues[2], *words[2], *maps[2];
    map_twice(bridge_queue_bytes(&world.geometry), queues);
    map_twice(bridge_tracking_bytes(world.slots), words);
    map_twice(bridge_chunk_map_bytes(world.chunks), maps);
    CHECK_SAME(bridge_queue_create(queues[0], &world.geometry, 0), 0);
    bridge_queue router = open_queue(queues[0], world, ROUTER), worker = open_queue(queues[1], world, WORKER);
    bridge_tracking routers, workers;
    CHECK_SAME(bridge_tracking_open(&routers, words[0], world.slots, ROUTER, 1), 0);
    CHECK_SAME(bridge_tracking_open(&workers, words[1], world.slots, WORKER, 0), 0);
    bridge_chunk_map router_map, worker_map;
    CHECK_SAME(bridge_chunk_map_open(&router_map, maps[0], world.chunks, ROUTER, 1), 0);
    CHECK_SAME(bridge_chunk_map_open(&worker_map, maps[1], world.chunks, WORKER, 0), 0);

    for (uint32_t round = 0; round < 3 * world.geometry.capacity; round++) {
        CHECK_SAME(bridge_queue_doze(&worker, 1), 1);
        int64_t stream = bridge_tracking_arm(&routers, round % world.slots);
        CHECK_SAME(push_number(&router, (uint64_t)stream), 2);
        CHECK_SAME(bridge_queue_claim(&worker, &workers, 64), 1);
        CHECK_SAME(number_at(&worker, 0), stream);
        CHECK_SAME(bridge_tracking_owner(&routers, (uint64_t)stream), WORKER);
        int64_t first = bridge_chunk_map_claim(&worker_map, 3);
        CHECK_SAME(bridge_chunk_map_transfer(&router_map, (uint32_t)first, 3, WORKER, ROUTER), 1);
        CHECK_SAME(bridge_chunk_map_release(&router_map, (uint32_t)first, 3, ROUTER), 3);
        CHECK_SAME(bridge_queue_answer(&worker, &workers, (uint64_t)stream, BRIDGE_FINISH, (uint8_t *)&round, 4), 0);
        CHECK_SAME(bridge_queue_drain(&router, 64), 1);
    }
    CHECK_SAME(bridge_chunk_map_busy(&worker_map), 0);
    close_queue(&router), close_queue(&worker);
    return 0;
}
