/* fuzz.h - what the fuzz targets share.
 *
 * A target includes this, and then nutproxy.c: so it sees all of it, as tests/proofs.c does.
 * It does more than wait for a crash: it says with claim() what must be so of any bytes, and
 * where it can it has a model, which does the same in another and simpler way.
 *
 * How an input is cut, and when memory is denied, is drawn from dice that the input itself
 * throws.  So an input is the bytes of a protocol and no more, seeds can be written by hand, and
 * an input that fails fails always.
 */
#ifndef NUT_FUZZ_H
#define NUT_FUZZ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

/* Limits so small that inputs get to them.  Where a configuration is read they are the real ones:
 * defaults of keys lie within these. */
#ifndef FUZZ_REAL_LIMITS
#define NUT_BULK_MAX    100000u
#define NUT_REQUEST_MAX 120000u
#define NUT_WORDS_MAX   64u
#define NUT_INLINE_MAX  256u
#define NUT_BIG         64u
#endif

#include "nutproxy.h"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define claim(c) \
    do { if (!(c)) claim_failed(#c, __FILE__, __LINE__); } while (0)

_Noreturn static inline void claim_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: claim(%s)\n", file, line, what);
    abort();
}

/* The dice of an input: FNV-1a of its bytes, and then a sequence (xorshift*). */
static inline uint64_t dice_of(const uint8_t *data, size_t size)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < size; i++)
        h = (h ^ data[i]) * 1099511628211u;
    return h | 1;
}

/* A number from 0 to sides - 1. */
static inline size_t roll(uint64_t *dice, size_t sides)
{
    *dice ^= *dice >> 12;
    *dice ^= *dice << 25;
    *dice ^= *dice >> 27;
    return sides == 0 ? 0 : (size_t)((*dice * 2685821657736338717u) >> 33) % sides;
}

static inline struct mem fresh(void) { return (struct mem){.most = SIZE_MAX}; }

/* All that was taken has come back. */
static inline void claim_all_back(struct mem *m)
{
    nut_mem_empty(m);
    claim(m->used == 0);
}

static inline bool same_bytes(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

/* Bytes in an allocation of exactly their size: a look past their end is seen. */
static inline char *exactly(const char *at, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    claim(copy != NULL);
    if (len > 0)
        memcpy(copy, at, len);
    return copy;
}

/* The bytes of a queue, to be freed. */
static inline char *queue_bytes(const struct queue *q)
{
    char *all = malloc(q->len + 1);
    size_t len = 0;
    claim(all != NULL);
    for (const struct piece *p = q->first; p != NULL; p = p->next) {
        claim(p->len <= q->len - len);
        memcpy(all + len, p->at, p->len);
        len += p->len;
    }
    claim(len == q->len);
    all[len] = '\0';
    return all;
}

/* A text under construction. */
struct text { char *at; size_t len, room; };

static inline void text_add(struct text *t, const char *at, size_t len)
{
    if (len > t->room - t->len) {
        t->room = 2 * (t->len + len) + 64;
        t->at = realloc(t->at, t->room);
        claim(t->at != NULL);
    }
    if (len > 0)
        memcpy(t->at + t->len, at, len);
    t->len += len;
}

#endif
