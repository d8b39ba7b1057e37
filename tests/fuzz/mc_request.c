/* mc_request.c - what a client of memcached sends: requests, one behind the other.
 *
 * What is forwarded must be one line of one request as memcached's protocol.txt has it: words
 * parted by one space, numbers as a machine writes them, a key that is one, no noreply; behind
 * it the data, byte for byte.  Read again it is the same request, and is forwarded as it is.
 */
#include "fuzz.h"
#define NUT_CORE
#include "nutproxy.c"
#include "cut.h"

static void claim_key(struct bytes key)
{
    claim(key.len >= 1 && key.len <= 250);
    for (size_t i = 0; i < key.len; i++)
        claim((unsigned char)key.at[i] > ' ' && key.at[i] != 0x7f);
}

/* A number without a sign or leading zeros, from `least` to `most`. */
static void claim_number(struct bytes text, int64_t least, uint64_t most)
{
    uint64_t n = 0;
    bool negative = text.len > 0 && text.at[0] == '-';
    claim(text.len > (size_t)negative && text.len <= 20);
    for (size_t i = negative; i < text.len; i++) {
        claim(text.at[i] >= '0' && text.at[i] <= '9');
        n = n * 10 + (uint64_t)(text.at[i] - '0');
    }
    char again[24];
    claim((size_t)snprintf(again, sizeof again, "%s%llu", negative ? "-" : "", (unsigned long long)n) == text.len);
    claim(memcmp(again, text.at, text.len) == 0);
    claim(negative ? least < 0 && n > 0 && n <= (uint64_t)-least : n <= most);
}

/* The line that `b` begins with, cut at each space, without its end; how long it is with that. */
static size_t model_words(struct bytes b, struct bytes *word, size_t room, size_t *words)
{
    const char *end = memchr(b.at, '\n', b.len);
    claim(end != NULL && end > b.at && end[-1] == '\r');
    *words = 0;
    for (const char *at = b.at; at < end; ) {
        const char *space = memchr(at, ' ', (size_t)(end - at)), *stop = space == NULL ? end - 1 : space;
        claim(*words < room && stop > at);  /* no two spaces, and none at the end */
        for (const char *c = at; c < stop; c++)
            claim(*c != '\r' && *c != '\0');
        word[(*words)++] = (struct bytes){at, (size_t)(stop - at)};
        at = stop + 1;
    }
    return (size_t)(end - b.at) + 1;
}

/* The flags of a meta request, from word `at` on: each at most once, none of them `q`. */
static void claim_flags(const struct bytes *word, size_t words, size_t at)
{
    bool seen[256] = {false};
    for (; at < words; at++) {
        unsigned char flag = (unsigned char)word[at].at[0];
        claim(!seen[flag] && flag != 'q' && strchr("IbcfhklstuvxLOPNRTCDEJFM", flag) != NULL);
        claim(word[at].len == 1 || strchr("LOPNRTCDEJFM", flag) != NULL);
        claim(flag != 'O' || word[at].len <= 32);
        seen[flag] = true;
    }
}

/* Whether protocol.txt knows the line in `out`, and takes all of `out` for its request. */
static void claim_line(const struct frame *f, struct bytes out)
{
    struct bytes word[32];
    size_t words, line = model_words(out, word, countof(word), &words);
    bool block = f->verb->shape == BLOCK || f->verb->shape == CAS || f->verb->shape == METASET;
    claim(line <= NUT_LINE_MAX && same_bytes(word[0], frame_arg(f, 0)));
    claim(out.len == line + (block ? f->data.len + 2u : 0));
    claim(memcmp(out.at + out.len - 2, "\r\n", 2) == 0);
    if (block)
        claim(same_bytes(bytes_from(out, line), (struct bytes){f->text.at + f->data.off, f->data.len + 2u}));
    if (verb_first_key(f->verb) > 0) {
        claim(words > verb_first_key(f->verb));
        claim_key(word[verb_first_key(f->verb)]);
        claim(same_bytes(word[verb_first_key(f->verb)], frame_arg(f, verb_first_key(f->verb))));
    }
    switch ((enum shape)f->verb->shape) {
    case KEYS: case DELETE:     claim(words == 2); break;
    case TOUCHES:               claim(words == 3); claim_number(word[1], INT32_MIN, INT32_MAX); break;
    case EXPTIME:               claim(words == 3); claim_number(word[2], INT32_MIN, INT32_MAX); break;
    case DELTA:                 claim(words == 3); claim_number(word[2], 0, UINT64_MAX); break;
    case BLOCK: case CAS:
        claim(words == (f->verb->shape == CAS ? 6 : 5));
        claim_number(word[2], 0, UINT32_MAX);
        claim_number(word[3], INT32_MIN, INT32_MAX);
        claim_number(word[4], f->data.len, f->data.len);
        if (words == 6)
            claim_number(word[5], 0, UINT64_MAX);
        break;
    case META:                  claim_flags(word, words, 2); break;
    case METASET:
        claim_number(word[2], f->data.len, f->data.len);
        claim_flags(word, words, 3);
        break;
    case FREE:                  claim(words == 1); break;
    case STATS:                 claim(words == 1 || words == 2); break;
    case NUMERAL: case DELAY:   claim(false); break;    /* nothing is forwarded of these */
    }
}

/* The request in `f` as a server is sent it.  `block`: where its text is, or NULL. */
static char *forwarded(const struct frame *f, struct block *block, size_t *len)
{
    struct mem m = fresh();
    struct queue q = {0};
    claim(mc_put_request(&m, &q, f, block));
    char *out = queue_bytes(&q);
    *len = q.len;
    nut_queue_free(&m, &q);
    claim_all_back(&m);
    return out;
}

/* The same where the request stands in a block, and its data is referred to. */
static void claim_same_from_block(const struct frame *f, struct bytes want)
{
    struct mem m = fresh();
    struct frame there = *f;
    size_t len;
    struct block *block = block_take(&m, f->text.len);
    claim(block != NULL);
    memcpy(block->bytes, f->text.at, f->text.len);
    block->fill = (uint32_t)f->text.len;
    there.text.at = block->bytes;
    char *out = forwarded(&there, block, &len);
    claim(same_bytes((struct bytes){out, len}, want));
    claim(block->refs == 1);
    free(out);
    block_drop(&m, block);
    claim_all_back(&m);
}

static void claim_forwarded(const struct frame *f)
{
    struct mem m = fresh();
    struct frame again = {0};
    size_t len, len_again;
    char *out = forwarded(f, NULL, &len);
    claim_line(f, (struct bytes){out, len});
    claim_same_from_block(f, (struct bytes){out, len});
    if (f->verb->shape != STATS) {          /* to a server it does not say which */
        claim(nut_mc_request(&m, &again, (struct bytes){out, len}) == SCAN_DONE && again.pos == len);
        claim(again.refusal == NULL && again.verb == f->verb && !again.noreply && again.block == f->block);
        claim(again.flags == f->flags && again.amount == f->amount && again.exptime == f->exptime);
        claim(again.data.len == f->data.len);
        char *out_again = forwarded(&again, NULL, &len_again);
        claim(same_bytes((struct bytes){out, len}, (struct bytes){out_again, len_again}));
        free(out_again);
    }
    nut_frame_free(&m, &again);
    claim_all_back(&m);
    free(out);
}

/* The length that a word gives, as memcached reads numbers (a plus sign and zeros may stand
 * in front); UINT64_MAX: it is none. */
static uint64_t model_length(struct bytes text)
{
    uint64_t n = 0;
    size_t i = text.len > 1 && text.at[0] == '+';
    for (; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9' || n > UINT32_MAX)
            return UINT64_MAX;
        n = n * 10 + (uint64_t)(text.at[i] - '0');
    }
    return n;
}

/* Where a request ends: behind its line, or behind the data whose length the line gives. */
static void claim_length(const struct frame *f, struct bytes in)
{
    static const char *const blocks[] = {"set", "add", "replace", "append", "prepend", "cas", "ms"};
    const char *end = memchr(in.at, '\n', in.len);
    claim(end != NULL);
    size_t len = (size_t)(end - in.at) + 1;
    uint32_t word = 0;
    for (size_t i = 0; i < countof(blocks) && f->argc > 0; i++)
        if (same_bytes(frame_arg(f, 0), bytes_of(blocks[i])))
            word = frame_arg(f, 0).len == 2 ? 2 : 4;
    uint64_t n = word > 0 && f->argc > word ? model_length(frame_arg(f, word)) : UINT64_MAX;
    len += n == UINT64_MAX ? 0 : (size_t)n + 2;
    claim(f->pos == len);
}

/* What is right of each request that is whole. */
static void claim_request(const struct frame *f, struct bytes in)
{
    if (f->refusal == BINARY) {
        claim(f->argc == 0 && f->text.len > 24 && octet(f->text.at[0]) == 0x81);
        claim(f->text.len == 24u + octet(f->text.at[11]) && memcmp(f->text.at + 12, in.at + 12, 4) == 0);
        return;
    }
    for (uint32_t i = 0; i < f->argc; i++) {
        struct bytes word = frame_arg(f, i);
        claim(word.len > 0 && f->argv[i].off + word.len < f->text.len && memchr(word.at, ' ', word.len) == NULL &&
              memchr(word.at, '\n', word.len) == NULL);
    }
    claim_length(f, in);
    if (f->refusal != NULL) {
        claim(strchr(f->refusal, '\n') == f->refusal + strlen(f->refusal) - 1);
        return;
    }
    claim(f->verb != NULL);
    uint32_t first = verb_first_key(f->verb);
    for (uint32_t i = first; i > 0 && i < f->argc && (i == first || verb_is_get(f->verb)); i++)
        claim_key(frame_arg(f, i));
    char room[NUT_KEY_MAX];
    if (first > 0 && first < f->argc) {
        struct bytes key = mc_key(f, room);
        claim(key.len >= 1 && key.len <= NUT_KEY_MAX);
    }
    bool one_key = first == 0 || (verb_is_get(f->verb) ? f->argc == first + 1 : f->argc > first);
    if (one_key && f->verb->shape != NUMERAL && f->verb->shape != DELAY)
        claim_forwarded(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t dice = dice_of(data, size);
    struct mem m = fresh();
    struct frame f = {0};
    enum scan got = SCAN_DONE;
    for (struct bytes in = {(const char *)data, size}; in.len > 0 && got == SCAN_DONE; ) {
        got = scan_always(nut_mc_request, &m, &f, in, &dice);
        if (got == SCAN_DONE)
            claim_request(&f, in);
        else if (got == SCAN_BAD)
            claim(f.odd == 0 && strstr(f.why, "_ERROR ") != NULL &&
                  strchr(f.why, '\n') == f.why + strlen(f.why) - 1);
        in = bytes_from(in, got == SCAN_DONE ? f.pos : in.len);
        nut_frame_reset(&m, &f);
    }
    nut_frame_free(&m, &f);
    claim_all_back(&m);
    return 0;
}
