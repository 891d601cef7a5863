/*
 * The memory orders of the core, under names that say what they are used for. No other file names a memory_order.
 *
 * acquire  A load that sees a value stored with release also sees everything its writer did before that store.
 * release  Whatever was done before the store is seen by whoever loads the stored value with acquire.
 * ordered  Sequentially consistent: all ordered operations of all processes happen in one single order that
 *          everybody agrees on. Needed where each of two sides first writes its own word and then reads the
 *          other's ("I sleep" against "I published"): acquire and release allow both to read the old value.
 * relaxed  One value, not torn, at some time; says nothing about any other word.
 *
 * There are no fences here: ThreadSanitizer does not see them.
 *
 * With BRIDGE_STEP defined, each operation that changes memory, and each ordered look at it, ends in a call to
 * bridge_step(): there a test lets others go on, or never returns when it plays a process that is killed right there.
 */

#ifndef BRIDGE_ATOMIC_H
#define BRIDGE_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef BRIDGE_STEP
void bridge_step(void);
#else
static inline void bridge_step(void) {}
#endif

/* Words that are shared between processes must not hide a lock, which would be private to one of them. */
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics are lock-free");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "32-bit atomics are lock-free");
_Static_assert(ATOMIC_SHORT_LOCK_FREE == 2, "16-bit atomics are lock-free");

#define BRIDGE_ATOMIC(name, type)                                                                                      \
    typedef _Atomic type name;                                                                                         \
                                                                                                                       \
    static inline type name##_load_relaxed(const name *at) {                                                           \
        return atomic_load_explicit(at, memory_order_relaxed);                                                         \
    }                                                                                                                  \
    static inline type name##_load_acquire(const name *at) {                                                           \
        return atomic_load_explicit(at, memory_order_acquire);                                                         \
    }                                                                                                                  \
    static inline type name##_load_ordered(const name *at) {                                                           \
        type value = atomic_load_explicit(at, memory_order_seq_cst);                                                   \
        bridge_step();                                                                                                 \
        return value;                                                                                                  \
    }                                                                                                                  \
    static inline void name##_store_relaxed(name *at, type value) {                                                    \
        atomic_store_explicit(at, value, memory_order_relaxed);                                                        \
        bridge_step();                                                                                                 \
    }                                                                                                                  \
    static inline void name##_store_release(name *at, type value) {                                                    \
        atomic_store_explicit(at, value, memory_order_release);                                                        \
        bridge_step();                                                                                                 \
    }                                                                                                                  \
    static inline type name##_exchange_ordered(name *at, type value) {                                                 \
        type old = atomic_exchange_explicit(at, value, memory_order_seq_cst);                                          \
        bridge_step();                                                                                                 \
        return old;                                                                                                    \
    }                                                                                                                  \
    static inline type name##_or_ordered(name *at, type bits) {                                                        \
        type old = atomic_fetch_or_explicit(at, bits, memory_order_seq_cst);                                           \
        bridge_step();                                                                                                 \
        return old;                                                                                                    \
    }                                                                                                                  \
    static inline type name##_and_ordered(name *at, type bits) {                                                       \
        type old = atomic_fetch_and_explicit(at, bits, memory_order_seq_cst);                                          \
        bridge_step();                                                                                                 \
        return old;                                                                                                    \
    }                                                                                                                  \
    /* True = *at was `expected` and is now `desired`. Acquire and release in one; failure promises nothing. */        \
    static inline bool name##_swap(name *at, type expected, type desired) {                                            \
        bool won = atomic_compare_exchange_strong_explicit(                                                            \
            at, &expected, desired, memory_order_acq_rel, memory_order_relaxed);                                       \
        bridge_step();                                                                                                 \
        return won;                                                                                                    \
    }                                                                                                                  \
    static inline bool name##_swap_ordered(name *at, type expected, type desired) {                                    \
        bool won = atomic_compare_exchange_strong_explicit(                                                            \
            at, &expected, desired, memory_order_seq_cst, memory_order_relaxed);                                       \
        bridge_step();                                                                                                 \
        return won;                                                                                                    \
    }

BRIDGE_ATOMIC(bridge_u64, uint64_t)
BRIDGE_ATOMIC(bridge_u32, uint32_t)
BRIDGE_ATOMIC(bridge_u16, uint16_t)

#undef BRIDGE_ATOMIC

#endif
