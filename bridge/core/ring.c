#include "ring.h"

#define CYCLE_SHIFT 24
#define CYCLE_MASK (((uint64_t)1 << 40) - 1)
#define STATE_SHIFT 16
#define OWNER_MASK 0xffffu
#define MAX_CAPACITY (1u << 24)

enum cell_state { FREE = 0, FILLING, READY, TAKEN, VOID };

/* What a look at the cell of a ticket finds. */
enum sight { NOTHING, MESSAGE, BEHIND, GARBAGE };

static uint64_t make_word(uint64_t cycle, enum cell_state state, uint16_t owner) {
    return (cycle & CYCLE_MASK) << CYCLE_SHIFT | (uint64_t)state << STATE_SHIFT | owner;
}

static uint64_t cycle_of(uint64_t word) {
    return word >> CYCLE_SHIFT;
}

static uint32_t state_of(uint64_t word) {
    return (uint32_t)(word >> STATE_SHIFT) & 0xffu;
}

static uint16_t owner_of(uint64_t word) {
    return (uint16_t)(word & OWNER_MASK);
}

static struct bridge_cell *cell_at(const bridge_ring *ring, uint64_t ticket) {
    return (struct bridge_cell *)(ring->cells + (ticket & (ring->capacity - 1)) * ring->item_size);
}

static uint64_t cycle_at(const bridge_ring *ring, uint64_t ticket) {
    return (ticket >> ring->shift) & CYCLE_MASK;
}

static uint64_t cells_offset(uint32_t waiters) {
    uint64_t bits = (uint64_t)bridge_sleeping_words(waiters) * sizeof(bridge_u64);
    return sizeof(struct bridge_queue_shared) + (bits + BRIDGE_APART - 1) / BRIDGE_APART * BRIDGE_APART;
}

static uint32_t log2_of(uint32_t capacity) {
    uint32_t shift = 0;
    while (capacity >> shift > 1) {
        shift++;
    }
    return shift;
}

uint64_t bridge_queue_bytes(const struct bridge_queue_geometry *geometry) {
    uint32_t capacity = geometry->capacity;
    if (capacity == 0 || capacity > MAX_CAPACITY || (capacity & (capacity - 1)) != 0 || geometry->item_size % 16 != 0 ||
        geometry->item_size <= BRIDGE_CELL_HEADER || geometry->item_size > MAX_CAPACITY || geometry->waiters == 0 ||
        geometry->waiters > OWNER_MASK) {
        return 0;
    }
    return cells_offset(geometry->waiters) + (uint64_t)capacity * geometry->item_size;
}

int bridge_queue_create(void *memory, const struct bridge_queue_geometry *geometry, uint64_t first_ticket) {
    struct bridge_queue_shared *shared = memory;
    bridge_ring ring;
    if (bridge_queue_bytes(geometry) == 0) {
        return BRIDGE_FAULT;
    }
    (void)bridge_ring_open(&ring, memory, geometry, 0);
    for (uint32_t index = 0; index < bridge_sleeping_words(geometry->waiters); index++) {
        bridge_u64_store_relaxed(&shared->sleeping[index], 0);
    }
    for (uint64_t ticket = first_ticket, left = geometry->capacity; left > 0; ticket++, left--) {
        bridge_u64 *at = &cell_at(&ring, ticket)->word;
        uint64_t word = make_word(cycle_at(&ring, ticket), FREE, 0);
        if (bridge_u64_load_relaxed(at) != word) { /* reading maps the zero page, writing would cost a page */
            bridge_u64_store_relaxed(at, word);
        }
    }
    bridge_u32_store_relaxed(&shared->starved, 0);
    bridge_u32_store_relaxed(&shared->ready, 1);
    bridge_u64_store_relaxed(&shared->head, first_ticket);
    bridge_u64_store_relaxed(&shared->tail, first_ticket);
    bridge_u32_store_release(&shared->version, BRIDGE_VERSION);
    return 0;
}

int bridge_ring_open(bridge_ring *ring, void *memory, const struct bridge_queue_geometry *geometry, uint16_t owner) {
    if (bridge_queue_bytes(geometry) == 0) {
        return BRIDGE_FAULT;
    }
    ring->shared = memory;
    ring->cells = (uint8_t *)memory + cells_offset(geometry->waiters);
    ring->capacity = geometry->capacity;
    ring->shift = log2_of(geometry->capacity);
    ring->item_size = geometry->item_size;
    ring->owner = owner;
    return bridge_u32_load_acquire(&ring->shared->version) == BRIDGE_VERSION ? 0 : BRIDGE_FAULT;
}

int bridge_ring_reserve(bridge_ring *ring, struct bridge_hold *hold) {
    for (unsigned attempt = 0; attempt < BRIDGE_ATTEMPTS; attempt++) {
        /* A stale tail is harmless: what a cell was in some cycle, it never is again. */
        uint64_t ticket = bridge_u64_load_acquire(&ring->shared->tail);
        uint64_t cycle = cycle_at(ring, ticket);
        struct bridge_cell *cell = cell_at(ring, ticket);
        /* SYNC POINT: starved — ordered: a producer that has set the flag looks here again. */
        uint64_t word = bridge_u64_load_ordered(&cell->word);
        if (word == make_word(cycle, FREE, 0)) {
            hold->cell = cell;
            hold->word = make_word(cycle, FILLING, ring->owner);
            hold->ticket = ticket;
            /* SYNC POINT: cell freed — acquires: the last reader has finished copying. */
            if (bridge_u64_swap(&cell->word, word, hold->word)) {
                (void)bridge_u64_swap(&ring->shared->tail, ticket, ticket + 1);
                return 0;
            }
        } else if (cycle_of(word) == cycle || cycle_of(word) == ((cycle + 1) & CYCLE_MASK)) {
            /* Somebody has this ticket already and has not moved the tail, or died before it could. */
            (void)bridge_u64_swap(&ring->shared->tail, ticket, ticket + 1);
        } else if (bridge_u64_load_acquire(&ring->shared->tail) == ticket) {
            return cycle_of(word) == ((cycle - 1) & CYCLE_MASK) ? BRIDGE_FULL : BRIDGE_FAULT;
        }
    }
    return BRIDGE_FAULT;
}

bool bridge_ring_publish(const struct bridge_hold *hold) {
    /* SYNC POINT: message — releases length and bytes to the reader that takes the cell. */
    /* SYNC POINT: doze — publish, then (the queue) look for a sleeper. */
    return bridge_u64_swap_ordered(&hold->cell->word, hold->word, make_word(cycle_of(hold->word), READY, 0));
}

bool bridge_ring_give_up(const struct bridge_hold *hold) {
    /* The cell cannot go back to FREE: its ticket is behind the tail. */
    return bridge_u64_swap_ordered(&hold->cell->word, hold->word, make_word(cycle_of(hold->word), VOID, 0));
}

/* What lies at the head `ticket`, whose cell's word goes to `word`; moves a head that is behind. */
static enum sight look(bridge_ring *ring, uint64_t ticket, uint64_t *word) {
    uint64_t cycle = cycle_at(ring, ticket);
    /* SYNC POINT: doze — ordered: a waiter looks here after it has set its bit. */
    *word = bridge_u64_load_ordered(&cell_at(ring, ticket)->word);
    if (cycle_of(*word) == cycle) {
        switch (state_of(*word)) {
        case FREE:
        case FILLING:
            return NOTHING;
        case READY:
        case VOID:
            return MESSAGE;
        case TAKEN:
            (void)bridge_u64_swap(&ring->shared->head, ticket, ticket + 1);
            return BEHIND;
        default:
            return GARBAGE;
        }
    }
    if (cycle_of(*word) == ((cycle + 1) & CYCLE_MASK)) {
        (void)bridge_u64_swap(&ring->shared->head, ticket, ticket + 1);
        return BEHIND;
    }
    if (bridge_u64_load_acquire(&ring->shared->head) != ticket) {
        return BEHIND;
    }
    /* A slow reader still holds the message of a full lap ago, and everything after it is gone: nothing to take. */
    return cycle_of(*word) == ((cycle - 1) & CYCLE_MASK) ? NOTHING : GARBAGE;
}

int bridge_ring_take(bridge_ring *ring, struct bridge_hold *hold) {
    for (unsigned attempt = 0; attempt < BRIDGE_ATTEMPTS; attempt++) {
        uint64_t word;
        uint64_t ticket = bridge_u64_load_acquire(&ring->shared->head);
        enum sight sight = look(ring, ticket, &word);
        if (sight == NOTHING || sight == GARBAGE) {
            return sight == NOTHING ? 0 : BRIDGE_FAULT;
        }
        if (sight == BEHIND) {
            continue;
        }
        hold->cell = cell_at(ring, ticket);
        if (state_of(word) == VOID) {
            (void)bridge_u64_swap_ordered(&hold->cell->word, word, make_word(cycle_of(word) + 1, FREE, 0));
            (void)bridge_u64_swap(&ring->shared->head, ticket, ticket + 1);
            continue;
        }
        hold->word = make_word(cycle_of(word), TAKEN, ring->owner);
        /* SYNC POINT: message — acquires length and bytes from the producer. */
        if (bridge_u64_swap(&hold->cell->word, word, hold->word)) {
            (void)bridge_u64_swap(&ring->shared->head, ticket, ticket + 1);
            return 1;
        }
    }
    return BRIDGE_FAULT;
}

void bridge_ring_release(const struct bridge_hold *hold) {
    /* SYNC POINT: cell freed — releases: our copy is finished before anybody fills the cell again. */
    /* SYNC POINT: starved — free, then (the queue) look at the flag. */
    /* Nothing to do if this fails: the cell was recovered from us. */
    (void)bridge_u64_swap_ordered(&hold->cell->word, hold->word, make_word(cycle_of(hold->word) + 1, FREE, 0));
}

int bridge_ring_visible(bridge_ring *ring) {
    for (unsigned attempt = 0; attempt < BRIDGE_ATTEMPTS; attempt++) {
        uint64_t word;
        enum sight sight = look(ring, bridge_u64_load_acquire(&ring->shared->head), &word);
        if (sight != BEHIND) {
            return sight == GARBAGE ? BRIDGE_FAULT : sight == MESSAGE;
        }
    }
    return BRIDGE_FAULT;
}

uint32_t bridge_ring_length(bridge_ring *ring) {
    uint64_t head = bridge_u64_load_relaxed(&ring->shared->head);
    uint64_t between = bridge_u64_load_relaxed(&ring->shared->tail) - head;
    return between <= ring->capacity ? (uint32_t)between : 0; /* the two loads are not one moment */
}

int64_t bridge_ring_audit(const bridge_ring *ring, uint64_t next) {
    int64_t held = 0;
    /* Before the cells: whatever the head has passed was taken before. */
    uint64_t head = bridge_u64_load_acquire(&ring->shared->head);
    /* It may be one behind: who took its message has died before it moved the head, and the cell was recovered. */
    if (next - head > (uint64_t)ring->capacity + 1 || bridge_u64_load_acquire(&ring->shared->tail) != next ||
        bridge_u32_load_relaxed(&ring->shared->version) != BRIDGE_VERSION) {
        return BRIDGE_FAULT;
    }
    for (uint64_t age = ring->capacity; age > 0; age--) {
        uint64_t ticket = next - age, cycle = cycle_at(ring, ticket);
        uint64_t word = bridge_u64_load_acquire(&cell_at(ring, ticket)->word);
        if (word == make_word(cycle + 1, FREE, 0)) {
            continue;
        }
        if (cycle_of(word) == cycle && state_of(word) == TAKEN) {
            held = held == 0 ? (int64_t)age : held;
        } else if (
            (word != make_word(cycle, READY, 0) && word != make_word(cycle, VOID, 0)) ||
            age > next - head) { /* passed over although it was not taken */
            return BRIDGE_FAULT;
        }
    }
    return held;
}

uint32_t bridge_ring_recover(bridge_ring *ring, uint16_t owner, uint32_t from, struct bridge_hold *hold) {
    for (uint32_t index = from; index < ring->capacity; index++) {
        hold->cell = cell_at(ring, index);
        hold->word = bridge_u64_load_acquire(&hold->cell->word);
        if (owner_of(hold->word) != owner) {
            continue;
        }
        if (state_of(hold->word) == FILLING) {
            (void)bridge_ring_give_up(hold);
        } else if (state_of(hold->word) == TAKEN) {
            return index + 1;
        }
    }
    return 0;
}
