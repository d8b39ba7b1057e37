/* cut.h - requests are scanned whole, cut at random, byte by byte, and without memory: it must
 * all come to the same.  For targets of requests; nutproxy.c is included before. */
#ifndef NUT_CUT_H
#define NUT_CUT_H

typedef enum scan scanner(struct mem *m, struct frame *f, struct bytes in);

/* Both frames say the same of the same bytes. */
static void claim_same_frames(enum scan got, const struct frame *f, enum scan want, const struct frame *w)
{
    claim(got == want);
    claim(f->argc == w->argc || got == SCAN_BAD);
    if (got == SCAN_BAD) {
        claim(strcmp(f->why, w->why) == 0 && f->odd == w->odd);
        return;
    }
    claim(f->pos == w->pos);
    for (uint32_t i = 0; i < f->argc; i++)
        claim(f->argv[i].off == w->argv[i].off && f->argv[i].len == w->argv[i].len);
    if (got == SCAN_DONE)
        claim(same_bytes(f->text, w->text));
    claim(f->verb == w->verb && f->refusal == w->refusal && f->line == w->line);
    claim(f->flags == w->flags && f->amount == w->amount && f->exptime == w->exptime);
    claim(f->block == w->block && f->noreply == w->noreply);
    claim(f->data.len == w->data.len && f->data.off == w->data.off);
}

/* More is wanted: how long it is at least. */
static size_t claim_more(const struct frame *f, size_t shown)
{
    claim(f->pos <= shown);
    return f->total > shown ? f->total : shown;
}

/* Scan `in` in at most `pieces`, each time at another place, as it moves when it is read on. */
static void scan_in_pieces(scanner *scan, struct bytes in, size_t pieces, uint64_t *dice, enum scan want,
                           const struct frame *w)
{
    struct mem m = fresh();
    struct frame f = {0};
    enum scan got = SCAN_MORE;
    size_t n = 0, least = 0;
    char *shown = NULL;
    while (got == SCAN_MORE && n < in.len) {
        n = pieces > 1 ? n + 1 + roll(dice, in.len - n) : in.len;
        pieces -= pieces > 1;
        free(shown);
        shown = exactly(in.at, n);
        got = scan(&m, &f, (struct bytes){shown, n});
        if (got == SCAN_MORE)
            least = claim_more(&f, n);
    }
    claim_same_frames(got, &f, want, w);
    claim(got != SCAN_DONE || least <= f.pos);
    nut_frame_free(&m, &f);
    claim_all_back(&m);
    free(shown);
}

/* Scan `in` byte by byte: what was not shown yet must not be looked at. */
static void scan_bytewise(scanner *scan, struct bytes in, enum scan want, const struct frame *w)
{
    struct mem m = fresh();
    struct frame f = {0};
    enum scan got = SCAN_MORE;
    size_t least = 0;
    char *shown = exactly(in.at, in.len);
    ASAN_POISON_MEMORY_REGION(shown, in.len);
    for (size_t n = 1; got == SCAN_MORE && n <= in.len; n++) {
        ASAN_UNPOISON_MEMORY_REGION(shown, n);
        got = scan(&m, &f, (struct bytes){shown, n});
        if (got == SCAN_MORE)
            least = claim_more(&f, n);
    }
    ASAN_UNPOISON_MEMORY_REGION(shown, in.len);
    claim_same_frames(got, &f, want, w);
    claim(got != SCAN_DONE || least <= f.pos);
    nut_frame_free(&m, &f);
    claim_all_back(&m);
    free(shown);
}

/* Scan `in` with a request for memory denied: the answer is the same, or says so. */
static void scan_denied(scanner *scan, struct bytes in, uint64_t deny_at, enum scan want, const struct frame *w)
{
    struct mem m = fresh();
    struct frame f = {0};
    m.deny_at = deny_at;
    enum scan got = scan(&m, &f, in);
    bool denied = m.deny_at == 0;
    m.deny_at = 0;
    if (denied)
        claim(got == SCAN_BAD && strstr(f.why, "memory") != NULL);
    else
        claim_same_frames(got, &f, want, w);
    nut_frame_free(&m, &f);
    claim_all_back(&m);
}

/* Scan one request in all these ways; `f` keeps what is found in it when it is scanned whole. */
static enum scan scan_always(scanner *scan, struct mem *m, struct frame *f, struct bytes in, uint64_t *dice)
{
    enum scan want = scan(m, f, in);
    struct bytes seen = {in.at, want == SCAN_DONE ? f->pos : in.len};
    claim(want != SCAN_DONE || f->pos <= in.len);
    if (want == SCAN_MORE)
        claim_more(f, in.len);
    scan_in_pieces(scan, in, 2, dice, want, f);
    scan_in_pieces(scan, in, 2 + roll(dice, 6), dice, want, f);
    if (seen.len <= 512 || roll(dice, 8) == 0)
        scan_bytewise(scan, seen, want, f);
    scan_denied(scan, seen, 1 + roll(dice, 4), want, f);
    return want;
}

#endif
