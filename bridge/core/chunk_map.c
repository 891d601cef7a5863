#include "chunk_map.h"

#define SENTINEL 0xffffu

uint64_t bridge_chunk_map_bytes(uint32_t count) {
    return sizeof(struct bridge_chunk_map_shared) + ((uint64_t)count + 1) * sizeof(bridge_u16);
}

int bridge_chunk_map_open(bridge_chunk_map *map, void *memory, uint32_t count, uint16_t owner, int create) {
    map->shared = memory;
    map->count = count;
    map->owner = owner;
    if (create) {
        for (uint32_t chunk = 0; chunk < count; chunk++) {
            bridge_u16_store_relaxed(&map->shared->owners[chunk], 0);
        }
        bridge_u16_store_relaxed(&map->shared->owners[count], SENTINEL);
        bridge_u32_store_relaxed(&map->shared->waiting, 0);
        bridge_u32_store_release(&map->shared->version, BRIDGE_VERSION);
    }
    return bridge_u32_load_acquire(&map->shared->version) == BRIDGE_VERSION ? 0 : BRIDGE_FAULT;
}

/* False for a run that does not lie inside the map; says so without overflow, the numbers may come from a peer. */
static bool inside(const bridge_chunk_map *map, uint32_t first, uint32_t chunks) {
    return first < map->count && chunks <= map->count - first;
}

/* Swaps words of a run one after another while they are `from`; how many were. */
static uint32_t swap_run(bridge_chunk_map *map, uint32_t first, uint32_t chunks, uint16_t from, uint16_t to) {
    uint32_t done = 0;
    /* SYNC POINT: chunk hand-over — a swap from 0 acquires what the swap to 0 released. */
    while (done < chunks && bridge_u16_swap_ordered(&map->shared->owners[first + done], from, to)) {
        done++;
    }
    return done;
}

/* Chunks from `first` on that look free, at most `wanted`: no write, so that a search disturbs nobody. */
static uint32_t look(const bridge_chunk_map *map, uint32_t first, uint32_t wanted) {
    uint32_t free_chunks = 0;
    /* SYNC POINT: memory wait — ordered: looks after the flag was set, see bridge_chunk_map_wait. */
    while (free_chunks < wanted && bridge_u16_load_ordered(&map->shared->owners[first + free_chunks]) == 0) {
        free_chunks++;
    }
    return free_chunks;
}

int64_t bridge_chunk_map_claim(bridge_chunk_map *map, uint32_t wanted) {
    uint32_t first = 0;
    if (wanted == 0) {
        return BRIDGE_NONE;
    }
    /* The private bound counts, not the sentinel: that one lies in memory which a peer can write. */
    while (inside(map, first, wanted)) {
        uint32_t got = look(map, first, wanted);
        if (got == wanted) {
            got = swap_run(map, first, wanted, 0, map->owner);
            if (got == wanted) {
                return first;
            }
            (void)swap_run(map, first, got, map->owner, 0);
        }
        first += got + 1;
    }
    return BRIDGE_NONE;
}

int64_t bridge_chunk_map_claim_some(bridge_chunk_map *map, uint32_t wanted, uint32_t least) {
    int64_t first = bridge_chunk_map_claim(map, least);
    if (first < 0) {
        return BRIDGE_NONE;
    }
    uint32_t chunks = least;
    if (wanted > least) {
        chunks += bridge_chunk_map_grow(map, (uint32_t)first + least, wanted - least, 0);
    }
    return first << 32 | chunks;
}

uint32_t bridge_chunk_map_grow(bridge_chunk_map *map, uint32_t end, uint32_t wanted, uint32_t least) {
    if (end >= map->count) {
        return 0;
    }
    if (wanted > map->count - end) {
        wanted = map->count - end;
    }
    uint32_t got = swap_run(map, end, wanted, 0, map->owner);
    if (got < least) {
        (void)swap_run(map, end, got, map->owner, 0);
        return 0;
    }
    return got;
}

int bridge_chunk_map_transfer(bridge_chunk_map *map, uint32_t first, uint32_t chunks, uint16_t from, uint16_t to) {
    if (chunks == 0 || !inside(map, first, chunks)) {
        return 0;
    }
    uint32_t done = swap_run(map, first, chunks, from, to);
    if (done < chunks) {
        (void)swap_run(map, first, done, to, from);
        return 0;
    }
    return 1;
}

uint32_t bridge_chunk_map_release(bridge_chunk_map *map, uint32_t first, uint32_t chunks, uint16_t owner) {
    uint32_t released = 0;
    if (owner == 0 || !inside(map, first, chunks)) {
        return 0;
    }
    for (uint32_t chunk = first; chunk < first + chunks; chunk++) {
        /* SYNC POINT: chunk hand-over — releases; ordered before the look at the waiting flag. */
        released += bridge_u16_swap_ordered(&map->shared->owners[chunk], owner, 0);
    }
    return released;
}

int bridge_chunk_map_wait(bridge_chunk_map *map) {
    /* SYNC POINT: memory wait — set the flag, then (the caller) look at the words again. */
    return bridge_u32_exchange_ordered(&map->shared->waiting, 1) == 0;
}

int bridge_chunk_map_take_waiting(bridge_chunk_map *map) {
    /* SYNC POINT: memory wait — the words were released before, so either this sees the flag or the claimant them. */
    if (bridge_u32_load_ordered(&map->shared->waiting) == 0) {
        return 0;
    }
    return bridge_u32_exchange_ordered(&map->shared->waiting, 0) != 0;
}

uint32_t bridge_chunk_map_recover(bridge_chunk_map *map, uint16_t owner) {
    return bridge_chunk_map_release(map, 0, map->count, owner);
}

uint32_t bridge_chunk_map_busy(bridge_chunk_map *map) {
    uint32_t busy = 0;
    for (uint32_t chunk = 0; chunk < map->count; chunk++) {
        busy += bridge_u16_load_relaxed(&map->shared->owners[chunk]) != 0;
    }
    return busy;
}
