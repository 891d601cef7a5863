/*
 * Who holds which chunk of a segment: a 16-bit word per chunk, 0 = free, else the id of its owner.
 *
 * Claiming acquires and releasing releases, because a chunk is memory: what the last holder did to it must be over
 * before the next one starts. All operations on the words are ordered as well, for the pair "I set the waiting flag,
 * then look again" and "I released, then look at the flag".
 *
 * A claim that fails half-way gives back exactly what it took. For that moment another claimant can see chunks busy
 * that will be free again; it fails then, although nobody rings for a rollback. That is no lost wake-up: the
 * rollback itself was caused by chunks that somebody else holds, and releasing those rings.
 */

#ifndef BRIDGE_CHUNK_MAP_H
#define BRIDGE_CHUNK_MAP_H

#include "layout.h"

/* One process's private handle. */
typedef struct bridge_chunk_map {
    struct bridge_chunk_map_shared *shared;
    uint32_t count;
    uint16_t owner;
} bridge_chunk_map;

uint64_t bridge_chunk_map_bytes(uint32_t count);

/* Lays the map out, all free (create), or joins. FAULT = other version. */
int bridge_chunk_map_open(bridge_chunk_map *map, void *memory, uint32_t count, uint16_t owner, int create);

/* The first chunk of the first free run of `wanted`, now ours; or NONE. */
int64_t bridge_chunk_map_claim(bridge_chunk_map *map, uint32_t wanted);

/* Claim the first free run of `least` and grow it up to `wanted`: first << 32 | chunks, or NONE. */
int64_t bridge_chunk_map_claim_some(bridge_chunk_map *map, uint32_t wanted, uint32_t least);

/* Claim chunks from `end` on, up to `wanted`, while they are free. How many; fewer than `least` = none, 0. */
uint32_t bridge_chunk_map_grow(bridge_chunk_map *map, uint32_t end, uint32_t wanted, uint32_t least);

/* All of first … first+chunks-1 go from `from` to `to` (1), or none of them does because one was not `from`'s (0). */
int bridge_chunk_map_transfer(bridge_chunk_map *map, uint32_t first, uint32_t chunks, uint16_t from, uint16_t to);

/* Frees those of the run that `owner` holds; how many these were. */
uint32_t bridge_chunk_map_release(bridge_chunk_map *map, uint32_t first, uint32_t chunks, uint16_t owner);

/* Ask to be rung. The caller has just failed to claim, and must try once more after this. 1 = nobody had asked yet. */
int bridge_chunk_map_wait(bridge_chunk_map *map);

/* To be called after a release: 1 = somebody waits and must be rung; the question is answered by this call. */
int bridge_chunk_map_take_waiting(bridge_chunk_map *map);

/* Frees everything the dead `owner` held; how many chunks these were. */
uint32_t bridge_chunk_map_recover(bridge_chunk_map *map, uint16_t owner);

/* Chunks that are held by anybody: advisory. */
uint32_t bridge_chunk_map_busy(bridge_chunk_map *map);

#endif
