#include "tracking.h"

#define GENERATION_SHIFT 32
#define STATE_SHIFT 24
#define STATE_MASK 0xffu
#define OWNER_MASK 0xffffu

/*
 * The whole life of a request; bridge/ipc/stream.py holds the same table and its theory. 0 = illegal: no event leads
 * back to FREE.
 */
static const uint8_t next_state[BRIDGE_STATES][BRIDGE_EVENTS] = {
    [BRIDGE_FREE_SLOT] = {[BRIDGE_ARM] = BRIDGE_QUEUED},
    [BRIDGE_QUEUED] = {[BRIDGE_CLAIM] = BRIDGE_CLAIMED, [BRIDGE_CANCEL] = BRIDGE_CANCELLED_SLOT},
    [BRIDGE_CLAIMED] =
        {
            [BRIDGE_START] = BRIDGE_RUNNING,
            [BRIDGE_RESPOND] = BRIDGE_RESPONDING,
            [BRIDGE_FINISH] = BRIDGE_DONE,
            [BRIDGE_CANCEL] = BRIDGE_CANCELLING,
            [BRIDGE_DIE] = BRIDGE_DONE,
        },
    [BRIDGE_RUNNING] =
        {
            [BRIDGE_RESPOND] = BRIDGE_RESPONDING,
            [BRIDGE_FINISH] = BRIDGE_DONE,
            [BRIDGE_CANCEL] = BRIDGE_CANCELLING,
            [BRIDGE_DIE] = BRIDGE_DONE,
        },
    [BRIDGE_RESPONDING] =
        {
            [BRIDGE_RESPOND] = BRIDGE_RESPONDING,
            [BRIDGE_FINISH] = BRIDGE_DONE,
            [BRIDGE_CANCEL] = BRIDGE_CANCELLING,
            [BRIDGE_DIE] = BRIDGE_DONE,
        },
    [BRIDGE_CANCELLED_SLOT] = {[BRIDGE_ARM] = BRIDGE_QUEUED},
    [BRIDGE_CANCELLING] =
        {
            [BRIDGE_FINISH] = BRIDGE_DONE,
            [BRIDGE_CONFIRM] = BRIDGE_DONE,
            [BRIDGE_DIE] = BRIDGE_DONE,
        },
    [BRIDGE_DONE] = {[BRIDGE_ARM] = BRIDGE_QUEUED},
};

static uint32_t generation_of(uint64_t word) {
    return (uint32_t)(word >> GENERATION_SHIFT);
}

static uint32_t state_of(uint64_t word) {
    return (uint32_t)(word >> STATE_SHIFT) & STATE_MASK;
}

static uint16_t owner_of(uint64_t word) {
    return (uint16_t)(word & OWNER_MASK);
}

static uint64_t make_word(uint32_t generation, uint32_t state, uint16_t owner) {
    return (uint64_t)generation << GENERATION_SHIFT | (uint64_t)state << STATE_SHIFT | owner;
}

/* The table, safe against any number: the state comes from shared memory. */
static uint32_t successor(uint32_t state, int event) {
    if (state >= BRIDGE_STATES || event <= BRIDGE_NO_EVENT || event >= BRIDGE_EVENTS) {
        return 0;
    }
    return next_state[state][event];
}

uint64_t bridge_tracking_bytes(uint32_t slots) {
    return sizeof(struct bridge_tracking_shared) + (uint64_t)slots * sizeof(bridge_u64);
}

int bridge_tracking_open(bridge_tracking *tracking, void *memory, uint32_t slots, uint16_t owner, int create) {
    tracking->shared = memory;
    tracking->slots = slots;
    tracking->owner = owner;
    if (create) {
        for (uint32_t slot = 0; slot < slots; slot++) {
            bridge_u64_store_relaxed(&tracking->shared->words[slot], 0);
        }
        bridge_u32_store_release(&tracking->shared->version, BRIDGE_VERSION);
    }
    return bridge_u32_load_acquire(&tracking->shared->version) == BRIDGE_VERSION ? 0 : BRIDGE_FAULT;
}

int64_t bridge_tracking_arm(bridge_tracking *tracking, uint32_t slot) {
    if (slot >= tracking->slots) {
        return BRIDGE_LOST;
    }
    bridge_u64 *at = &tracking->shared->words[slot];
    uint64_t word = bridge_u64_load_acquire(at);
    uint32_t next = successor(state_of(word), BRIDGE_ARM);
    /* Generation 0 is left out: stream 0 means "no stream". The top bit too, so that a stream is never negative. */
    uint32_t generation = (generation_of(word) + 1) & 0x7fffffffu;
    if (generation == 0) {
        generation = 1;
    }
    if (next == 0 || !bridge_u64_swap(at, word, make_word(generation, next, 0))) {
        return BRIDGE_LOST;
    }
    return (int64_t)((uint64_t)generation << 32 | slot);
}

/* The word of a stream, or NULL if no slot can have that name. */
static bridge_u64 *word_of(bridge_tracking *tracking, uint64_t stream) {
    uint32_t slot = (uint32_t)stream;
    return slot < tracking->slots ? &tracking->shared->words[slot] : NULL;
}

int bridge_tracking_move(bridge_tracking *tracking, uint64_t stream, int event, uint16_t owner) {
    bridge_u64 *at = word_of(tracking, stream);
    if (at == NULL || event == BRIDGE_ARM) {
        return BRIDGE_LOST;
    }
    for (unsigned attempt = 0; attempt < BRIDGE_ATTEMPTS; attempt++) {
        uint64_t word = bridge_u64_load_acquire(at);
        uint32_t next = successor(state_of(word), event);
        if (next == 0 || generation_of(word) != (uint32_t)(stream >> 32)) {
            return BRIDGE_LOST;
        }
        uint16_t holder = owner_of(word);
        if (event == BRIDGE_CLAIM) {
            holder = owner;
        } else if (owner != 0 && owner != holder) {
            return BRIDGE_LOST;
        }
        if (bridge_u64_swap(at, word, make_word(generation_of(word), next, holder))) {
            return (int)next;
        }
    }
    return BRIDGE_LOST;
}

/* The state that an answer leads to from `word`, or CANCELLED, LOST. */
static int after_answer(const bridge_tracking *tracking, uint64_t word, uint64_t stream, int event) {
    uint32_t state = state_of(word);
    if (generation_of(word) != (uint32_t)(stream >> 32)) {
        return BRIDGE_LOST;
    }
    if (state == BRIDGE_CANCELLED_SLOT || state == BRIDGE_CANCELLING) {
        return BRIDGE_CANCELLED; /* FINISH would be legal: but this answer is not to be given any more */
    }
    bool answers = event == BRIDGE_NO_EVENT || event == BRIDGE_RESPOND || event == BRIDGE_FINISH;
    if (owner_of(word) != tracking->owner || !answers) {
        return BRIDGE_LOST;
    }
    if (event == BRIDGE_NO_EVENT && (state == BRIDGE_RUNNING || state == BRIDGE_RESPONDING)) {
        return (int)state;
    }
    uint32_t next = successor(state, event == BRIDGE_NO_EVENT ? BRIDGE_START : event);
    return next == 0 ? BRIDGE_LOST : (int)next;
}

int bridge_tracking_answer(bridge_tracking *tracking, uint64_t stream, int event) {
    bridge_u64 *at = word_of(tracking, stream);
    for (unsigned attempt = 0; at != NULL && attempt < BRIDGE_ATTEMPTS; attempt++) {
        uint64_t word = bridge_u64_load_acquire(at);
        int state = after_answer(tracking, word, stream, event);
        if (state < 0) {
            return state;
        }
        /* Also where nothing changes: the swap proves that nobody cancelled up to this moment. */
        if (bridge_u64_swap(at, word, make_word(generation_of(word), (uint32_t)state, owner_of(word)))) {
            return state;
        }
    }
    return BRIDGE_LOST;
}

int bridge_tracking_may_answer(bridge_tracking *tracking, uint64_t stream, int event) {
    bridge_u64 *at = word_of(tracking, stream);
    return at == NULL ? BRIDGE_LOST : after_answer(tracking, bridge_u64_load_acquire(at), stream, event);
}

int bridge_tracking_state(bridge_tracking *tracking, uint64_t stream) {
    bridge_u64 *at = word_of(tracking, stream);
    uint64_t word = at == NULL ? 0 : bridge_u64_load_acquire(at);
    return at == NULL || generation_of(word) != (uint32_t)(stream >> 32) ? BRIDGE_LOST : (int)state_of(word);
}

int bridge_tracking_owner(bridge_tracking *tracking, uint64_t stream) {
    bridge_u64 *at = word_of(tracking, stream);
    uint64_t word = at == NULL ? 0 : bridge_u64_load_acquire(at);
    return at == NULL || generation_of(word) != (uint32_t)(stream >> 32) ? BRIDGE_LOST : (int)owner_of(word);
}

uint32_t bridge_tracking_recover(bridge_tracking *tracking, uint16_t owner, uint32_t from) {
    for (uint32_t slot = from; slot < tracking->slots; slot++) {
        bridge_u64 *at = &tracking->shared->words[slot];
        for (unsigned attempt = 0; attempt < BRIDGE_FEW_ATTEMPTS; attempt++) {
            uint64_t word = bridge_u64_load_acquire(at);
            if (owner_of(word) != owner) {
                break;
            }
            uint64_t stream = (uint64_t)generation_of(word) << 32 | slot;
            if (bridge_u64_swap(at, word, make_word(generation_of(word), BRIDGE_DONE, 0))) {
                tracking->found_stream = stream;
                tracking->found_state = (int)state_of(word);
                return slot + 1;
            }
        }
    }
    return 0;
}
