/* merge.c - replies of several servers become one.
 *
 * An input says how they are merged, how many parts and keys there are, and which part each
 * key is of; then come the parts, parted by the byte 0xfe.  What the scanner takes for a whole
 * reply that such a part can get is that; otherwise a reply is made of the bytes by a small
 * grammar.  The parts are laid in pieces, some of them in blocks that others hold, too.
 *
 * The model merges plain texts: sums, keys in their order, errors that win.
 */
#include "fuzz.h"
#define NUT_CORE
#include "nutproxy.c"
#include "replies.h"

#define PARTS_MOST 4

struct round {
    enum merge      how;
    bool            resp3;
    uint32_t        parts, keys, part_of[KEYS_MOST];
    struct question question[PARTS_MOST];   /* of each part: its keys */
    uint32_t        key[PARTS_MOST][KEYS_MOST];     /* which keys of the request they are */
    struct text     part[PARTS_MOST];
    struct answer   answer[PARTS_MOST];
};

/* ---- an input becomes parts */

static struct bytes text_of(const struct text *t) { return (struct bytes){t->at, t->len}; }

static struct bytes part_text(const struct round *r, uint32_t p) { return text_of(&r->part[p]); }

static enum expect expects(enum merge how)
{
    switch (how) {
    case ZIP:               return RESP_ITEMS;
    case VALUES:            return MC_VALUES;
    case HITS: case FAILS:  return MC_META;
    case TOTALS:            return MC_STATS;
    case AS_IS: case SUM: case ALL_OK: case CONCAT: case SAME: case LEAST: case FOUND: break;
    }
    return RESP_REPLY;
}

/* A byte of the input, 0 where there are no more. */
static uint8_t take(struct bytes *in)
{
    uint8_t b = in->len > 0 ? (uint8_t)in->at[0] : 0;
    if (in->len > 0)
        *in = bytes_from(*in, 1);
    return b;
}

static void put(struct text *t, const char *text) { text_add(t, text, strlen(text)); }

static void put_number(struct text *t, const char *before, uint64_t n, const char *after)
{
    char line[80];
    text_add(t, line, (size_t)snprintf(line, sizeof line, "%s%llu%s", before, (unsigned long long)n, after));
}

/* A data block of bytes from the input, with its length in front. */
static void put_data(struct text *t, const char *before, const char *between, struct bytes *in)
{
    struct bytes data = {in->at, least_of(in->len, take(in) % 100u)};
    data.len = least_of(data.len, in->len);
    data.at = in->at;
    put_number(t, before, data.len, between);
    text_add(t, data.at, data.len);
    put(t, "\r\n");
    *in = bytes_from(*in, data.len);
}

static void make_value(struct text *t, struct bytes *in, bool resp3, int depth)
{
    uint8_t b = take(in);
    uint32_t n = b >> 4 & 3;
    switch (b % 10) {
    case 0: put_number(t, ":", (uint64_t)take(in) << (b >> 2 & 31), "\r\n");                    return;
    case 1: put(t, resp3 ? "_\r\n" : "$-1\r\n");                                                return;
    case 2: put(t, "+OK\r\n");                                                                  return;
    case 3: put(t, "-ERR no\r\n");                                                              return;
    case 4: put(t, resp3 ? "#t\r\n" : "*-1\r\n");                                               return;
    case 5: case 6: put_data(t, "$", "\r\n", in);                                               return;
    case 7: if (resp3) put(t, "|1\r\n+ttl\r\n:7\r\n"); put(t, ":1\r\n");                         return;
    case 8: if (depth < 5) {
        put_number(t, resp3 && (b & 128) != 0 ? "%" : "*", n, "\r\n");
        n *= resp3 && (b & 128) != 0 ? 2 : 1;
        for (uint32_t i = 0; i < n; i++)
            make_value(t, in, resp3, depth + 1);
        return;
    }
    }
    put(t, "$0\r\n\r\n");
}

/* A reply that part `p` can get. */
static void make_reply(struct round *r, uint32_t p, struct bytes in)
{
    struct text *t = &r->part[p];
    struct question *q = &r->question[p];
    uint8_t b = take(&in);
    bool memcached = expects(r->how) > RESP_ASIDE;
    if (b % 16 == 15) {
        put(t, memcached ? "SERVER_ERROR no\r\n" : "-ERR no\r\n");
        return;
    }
    switch (r->how) {
    case SUM:    put_number(t, ":", (uint64_t)take(&in) << b % 40, "\r\n");     break;
    case ALL_OK: put(t, "+OK\r\n");                                             break;
    case SAME:   put_data(t, "$", "\r\n", &in);                                 break;
    case FOUND:
        if (b % 2 == 0)
            put(t, b % 4 == 0 && r->resp3 ? "_\r\n" : "$-1\r\n");
        else
            put_data(t, "$", "\r\n", &in);
        break;
    case AS_IS:  make_value(t, &in, r->resp3, 0);                               break;
    case LEAST:
        put_number(t, "*", b % 4, "\r\n");
        for (int i = 0; i < b % 4; i++)
            put_number(t, ":", take(&in), "\r\n");
        break;
    case CONCAT:
        put_number(t, "*", b % 4, "\r\n");
        for (int i = 0; i < b % 4; i++)
            make_value(t, &in, r->resp3, 0);
        break;
    case ZIP:
        put_number(t, "*", q->keys, "\r\n");
        for (uint32_t i = 0; i < q->keys; i++)
            make_value(t, &in, r->resp3, 0);
        break;
    case VALUES:
        for (uint32_t i = 0; i < q->keys; i++)
            if (take(&in) % 4 > 0) {
                put(t, "VALUE ");
                put(t, key_names[q->name[i]]);
                put_data(t, " 7 ", (b & 32) != 0 ? " 99\r\n" : "\r\n", &in);
            }
        put(t, (b & 64) != 0 ? "CLIENT_ERROR x\r\n" : "END\r\n");
        break;
    case HITS: case FAILS:
        if (b % 3 == 0)
            put(t, r->how == HITS ? "EN\r\n" : "NF\r\n");
        else if (b % 3 == 1)
            put(t, "HD O1\r\n");
        else
            put_data(t, "VA ", " O1\r\n", &in);
        break;
    case TOTALS:
        for (int i = 0; i < b % 8; i++) {
            static const char *const names[] = {
                "a", "b", "pid", "time", "uptime", "max_connections", "hash_power_level", "r"
            };
            uint8_t which = take(&in);
            put(t, "STAT ");
            put(t, names[which % countof(names)]);
            put_number(t, " ", (uint64_t)take(&in) << (which >> 3),
                       which % 8 == 7 ? ".250000\r\n" : (which & 64) != 0 ? "x\r\n" : "\r\n");
        }
        put(t, "END\r\n");
        break;
    }
}

/* Whether a reply of this kind comes as far as merging (part_fits): others end the connection. */
static bool fits(enum merge how, char kind)
{
    if (kind == '-' || kind == '!')
        return true;
    switch (how) {
    case SUM:                return kind == ':';
    case ALL_OK:             return kind == '+';
    case CONCAT: case LEAST: return kind == '*';
    case SAME: case FOUND:   return kind == '$' || kind == '_';
    case AS_IS: case ZIP: case VALUES: case HITS: case FAILS: case TOTALS: break;
    }
    return true;
}

static void begin(struct round *r, struct bytes *in)
{
    static const enum merge hows[] = {AS_IS, SUM, ZIP, ALL_OK, CONCAT, SAME, LEAST, FOUND, VALUES, HITS, FAILS, TOTALS};
    uint8_t b = take(in), n = take(in);
    r->how = hows[b % countof(hows)];
    r->resp3 = n >> 7 != 0 && expects(r->how) <= RESP_ASIDE;
    r->parts = r->how == AS_IS || r->how == HITS || r->how == FAILS ? 1 : 1 + n % PARTS_MOST;
    r->keys = r->how == ZIP || r->how == VALUES ? 1 + (n >> 2) % KEYS_MOST : 0;
    uint32_t of[PARTS_MOST] = {0};
    for (uint32_t k = 0; k < r->keys; k++) {
        uint8_t key = take(in);             /* a part without keys is not asked: the first ones have one each */
        uint32_t p = r->part_of[k] = k < r->parts ? k : key % r->parts;
        r->question[p].name[of[p]] = k < 2 || (key & 64) == 0 ? k : k - 1;     /* now and then the same once more */
        r->key[p][of[p]++] = k;
    }
    r->parts = r->keys > 0 && r->keys < r->parts ? r->keys : r->parts;
    for (uint32_t p = 0; p < r->parts; p++) {
        question_ask(&r->question[p], expects(r->how), r->resp3, of[p]);
        if (expects(r->how) == MC_META) {
            r->question[p].keys = 1;
            r->question[p].asked[0] = (struct asked){.part = r->how == HITS ? 'g' : 'a', .next = NUT_NO_KEY,
                                                     .check = nut_check(lit("O1"))};
        }
    }
}

static void read_parts(struct round *r, struct bytes in)
{
    for (uint32_t p = 0; p < r->parts; p++) {
        size_t len = find(in, 0, (char)0xfe);
        struct bytes raw = {in.at, len};
        struct answer *a = &r->answer[p];
        in = bytes_from(in, least_of(len + 1, in.len));
        *a = model_reply(raw, &r->question[p]);
        if (a->verdict == SCAN_DONE && a->len == raw.len && fits(r->how, a->kind)) {
            text_add(&r->part[p], raw.at, raw.len);
        } else {
            make_reply(r, p, raw);
            *a = model_reply(part_text(r, p), &r->question[p]);
            claim(a->verdict == SCAN_DONE && a->len == r->part[p].len);
        }
    }
}

/* ---- the model */

static const char not_as_asked[] =
    "-ERR a server's reply is none to what was asked: the request may have been applied\r\n";

/* The number behind `mark` in the first line at *at, which is gone over. */
static bool line_count(struct bytes text, size_t *at, char mark, uint64_t *n)
{
    struct bytes line;
    return model_line(text, at, &line) && line.len > 0 && line.at[0] == mark &&
           model_number((struct bytes){line.at + 1, line.len - 1}, (uint64_t)1 << 48, n);
}

static bool model_counted(const struct round *r, struct text *out)
{
    size_t at[PARTS_MOST] = {0};
    uint64_t n, total = 0, elements = 0;
    for (uint32_t p = 0; p < r->parts; p++, total += n, elements = n)
        if (!line_count(part_text(r, p), &at[p], r->how == SUM ? ':' : '*', &n) ||
            (r->how == LEAST && p > 0 && n != elements))
            return false;
    put_number(out, r->how == SUM ? ":" : "*", r->how == LEAST ? elements : total, "\r\n");
    for (uint32_t p = 0; p < r->parts && r->how == CONCAT; p++)
        text_add(out, r->part[p].at + at[p], r->part[p].len - at[p]);
    for (; r->how == LEAST && elements > 0; elements--) {
        uint64_t least = UINT64_MAX;
        for (uint32_t p = 0; p < r->parts; p++) {
            if (!line_count(part_text(r, p), &at[p], ':', &n))
                return false;
            least = n < least ? n : least;
        }
        put_number(out, ":", least, "\r\n");
    }
    return true;
}

/* What each part says to its keys, in the order of all keys. */
static void model_keys(const struct round *r, struct text *out)
{
    size_t at[PARTS_MOST] = {0};
    struct bytes line;
    for (uint32_t p = 0; p < r->parts && r->how == ZIP; p++)
        claim(model_line(part_text(r, p), &at[p], &line));
    if (r->how == ZIP)
        put_number(out, "*", r->keys, "\r\n");
    for (uint32_t k = 0; k < r->keys; k++) {
        uint32_t p = r->part_of[k], i = 0;
        while (r->key[p][i] != k)
            i++;
        text_add(out, r->part[p].at + at[p], r->answer[p].item[i]);
        at[p] += r->answer[p].item[i];
    }
    for (uint32_t p = 0; p < r->parts && r->how == VALUES; p++)
        if (r->answer[p].kind == 'E') {
            out->len = 0;
            text_add(out, r->part[p].at + at[p], r->part[p].len - at[p]);
            return;
        }
    if (r->how == VALUES)
        put(out, "END\r\n");
}

/* A line of stats: what was told of a name first, and what was made of it. */
struct stat { struct bytes name, value; uint64_t n; bool number, time; };

static bool stat_number(struct bytes text, uint64_t *n, bool *time)
{
    size_t points = 0, behind = 0;
    *n = 0;
    for (size_t i = 0; i < text.len; i++) {
        behind += points;
        points += text.at[i] == '.';
        if (text.at[i] != '.' && (text.at[i] < '0' || text.at[i] > '9'))
            return false;
        if (text.at[i] != '.')
            *n = *n * 10 + (uint64_t)(text.at[i] - '0');
    }
    *time = points == 1;
    return text.len > 0 && (points == 0 || (points == 1 && behind == 6));
}

static void stat_add(struct stat *s, uint64_t n)
{
    if (is_text(s->name, "pid") || is_text(s->name, "pointer_size"))
        return;
    if (is_text(s->name, "uptime") || is_text(s->name, "max_connections"))
        s->n = n < s->n ? n : s->n;
    else if (is_text(s->name, "time") || is_text(s->name, "hash_power_level"))
        s->n = n > s->n ? n : s->n;
    else
        s->n += n;
}

/* A NUL, which no server sends, ends what is told of a line. */
static void stat_put(struct text *out, const struct stat *s)
{
    bool first = !s->number || is_text(s->name, "pid") || is_text(s->name, "pointer_size");
    size_t len = s->name.len + 1 + (first ? s->value.len : 0);
    put(out, "STAT ");
    text_add(out, s->name.at, strnlen(s->name.at, len));
    if (!first) {
        char micros[16];
        snprintf(micros, sizeof micros, ".%06u", (unsigned)(s->n % 1000000));
        put_number(out, "", s->time ? s->n / 1000000 : s->n, s->time ? micros : "");
    }
    put(out, "\r\n");
}

static void model_totals(const struct round *r, struct text *out)
{
    static struct stat stats[256];
    size_t rows = 0, answered = 0;
    for (uint32_t p = 0; p < r->parts; p++) {
        struct bytes line = {0}, all = part_text(r, p);
        for (size_t at = 0, from = 0; model_line(all, &at, &line) && begins(line, "STAT "); from = at) {
            if (at - from > 512)
                break;                      /* no line of memcached's: what comes behind it is not looked at */
            struct bytes name = {line.at + 5, line.len - 5};
            const char *space = memchr(name.at, ' ', name.len);
            if (space == NULL || name.len >= 96)
                continue;
            struct bytes value = {space + 1, (size_t)(name.at + name.len - space) - 1};
            name.len = (size_t)(space - name.at);
            size_t i = 0;
            while (i < rows && !same_bytes(stats[i].name, name))
                i++;
            struct stat told = {.name = name, .value = value};
            told.number = stat_number(value, &told.n, &told.time);
            if (i == rows && rows < 256)
                stats[rows++] = told;
            else if (i < rows && stats[i].number && told.number)
                stat_add(&stats[i], told.n);
        }
        answered += is_text(line, "END");
    }
    for (size_t i = 0; i < rows; i++)
        stat_put(out, &stats[i]);
    put_number(out, "STAT nutproxy_servers ", r->parts, "\r\n");
    put_number(out, "STAT nutproxy_servers_answered ", answered, "\r\nEND\r\n");
}

/* The reply that is one of all. */
static void model_merge(const struct round *r, struct text *out)
{
    uint32_t speaks = 0;
    struct bytes first = part_text(r, 0);
    for (uint32_t p = r->parts; p-- > 0 && r->how < VALUES; )
        if (r->answer[p].kind == '-' || r->answer[p].kind == '!') {
            out->len = 0;
            text_add(out, r->part[p].at, r->part[p].len);       /* the first one wins */
        }
    if (out->len > 0)
        return;
    switch (r->how) {
    case SUM: case CONCAT: case LEAST:
        if (!model_counted(r, out)) {
            out->len = 0;
            put(out, not_as_asked);
        }
        return;
    case ZIP: case VALUES:
        model_keys(r, out);
        return;
    case TOTALS:
        model_totals(r, out);
        return;
    case FOUND:
        while (speaks < r->parts && (begins(part_text(r, speaks), "$-") || begins(part_text(r, speaks), "_")))
            speaks++;
        speaks = speaks == r->parts ? 0 : speaks;
        break;
    case HITS:
        if (begins(first, "EN"))
            return;
        break;
    case FAILS:
        if (begins(first, "HD") || begins(first, "VA") || begins(first, "OK"))
            return;
        break;
    case AS_IS: case SAME: case ALL_OK:
        break;
    }
    text_add(out, r->part[speaks].at, r->part[speaks].len);
}

/* ---- the thing itself */

/* Blocks that others hold, too: what is put behind them must not be written into them. */
struct held { struct block *block[16]; size_t n; };

static void claim_untouched(struct mem *m, struct held *h)
{
    for (size_t i = 0; i < h->n; i++) {
        const struct block *b = h->block[i];
        claim(b->refs == 1);
        for (const char *at = b->bytes + b->fill; at < b->bytes + b->fill + 90; at++)
            claim(*at == '~');
        block_drop(m, h->block[i]);
    }
}

/* Lay a part's reply in pieces, as it may have come, scanned on its way. */
static void lay(struct mem *m, struct queue *to, const struct round *r, uint32_t p, struct asked *asked, struct held *h,
                uint64_t *dice)
{
    const struct question *q = &r->question[p];
    struct bytes text = part_text(r, p);
    struct reply reply;
    enum scan got = SCAN_MORE;
    nut_reply_begin(&reply, q->expect, asked, r->keys > 0 ? r->key[p][0] : 0);
    reply.resp3 = q->resp3;
    while (got == SCAN_MORE && text.len > 0) {
        size_t n = 1 + roll(dice, roll(dice, 3) == 0 ? text.len : least_of(text.len, 90)), used;
        struct queue piece = {0};
        if (roll(dice, 2) == 0) {           /* in a block that has more in it, and that others may hold */
            size_t more = roll(dice, 2) * 4;
            struct block *block = block_take(m, n + 100);
            claim(block != NULL);
            memset(block->bytes, '~', n + 100);
            memcpy(block->bytes + 4, text.at, n);
            block->fill = (uint32_t)(4 + n + more);
            claim(nut_queue_refer(m, &piece, block, (struct bytes){block->bytes + 4, n}));
            if (h->n < countof(h->block))
                h->block[h->n++] = block;
            else
                block_drop(m, block);
        } else {
            claim(nut_queue_put(m, &piece, (struct bytes){text.at, n}));
        }
        got = nut_reply_scan(&reply, (struct bytes){piece.first->at, n}, &used);
        claim(used == n);
        if (roll(dice, 3) == 0)
            claim(nut_queue_put(m, to, (struct bytes){text.at, n}));
        else
            queue_join(to, &piece);
        nut_queue_free(m, &piece);
        text = bytes_from(text, n);
    }
    claim(got == SCAN_DONE && text.len == 0);
}

/* What was merged is one reply to the client, or nothing where that is hidden. */
static void claim_one_reply(struct round *r, struct bytes out)
{
    struct question whole = {0};
    bool hidden = r->how == HITS || r->how == FAILS;
    if (hidden && out.len == 0)
        return;
    for (uint32_t p = 0; p < r->parts; p++)
        for (uint32_t i = 0; i < r->question[p].keys && r->keys > 0; i++)
            whole.name[r->key[p][i]] = r->question[p].name[i];
    question_ask(&whole, expects(r->how), r->resp3, r->keys);
    if (hidden)
        whole = r->question[0];
    struct answer a = model_reply(out, &whole);
    if (r->how == ZIP && out.len > 0 && out.at[0] == '!')
        return;
    claim(a.verdict == SCAN_DONE && a.len == out.len);
}

/* Merge, with request `deny_at` for memory denied (0: none); whether it was. */
static bool merge(struct round *r, struct bytes want, uint64_t deny_at, uint64_t dice)
{
    struct mem m = fresh();
    struct asked asked[KEYS_MOST];
    struct queue part[PARTS_MOST] = {{0}}, out = {0};
    struct held held = {.n = 0};
    memset(asked, 0xff, sizeof asked);
    for (uint32_t p = 0; p < r->parts; p++)
        for (uint32_t i = 0; i < r->question[p].keys; i++) {
            uint32_t k = r->keys > 0 ? r->key[p][i] : 0;
            asked[k] = r->question[p].asked[i];
            if (r->keys > 0)
                asked[k] = (struct asked){.part = p, .check = asked[k].check,
                                          .next = i + 1 < r->question[p].keys ? r->key[p][i + 1] : NUT_NO_KEY};
        }
    for (uint32_t p = 0; p < r->parts; p++)
        lay(&m, &part[p], r, p, asked, &held, &dice);
    m.deny_at = deny_at;
    bool ok = nut_merge(&m, r->how, part, r->parts, asked, r->keys, &out);
    bool denied = deny_at > 0 && m.deny_at == 0;
    m.deny_at = 0;
    char *got = queue_bytes(&out);
    claim(ok == !denied);
    claim(same_bytes((struct bytes){got, out.len}, ok ? want : (struct bytes){0}));
    for (uint32_t p = 0; p < r->parts; p++)
        claim(part[p].first == NULL && part[p].len == 0);
    free(got);
    nut_queue_free(&m, &out);
    claim_untouched(&m, &held);
    claim_all_back(&m);
    return denied;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct round r = {0};
    struct text want = {0};
    struct bytes in = {(const char *)data, size};
    uint64_t dice = dice_of(data, size);
    begin(&r, &in);
    read_parts(&r, in);
    model_merge(&r, &want);
    struct bytes out = text_of(&want);
    merge(&r, out, 0, dice);
    merge(&r, out, 0, roll(&dice, SIZE_MAX) | 1);
    merge(&r, out, 1 + roll(&dice, 8), dice);
    claim_one_reply(&r, out);
    for (uint32_t p = 0; p < r.parts; p++)
        free(r.part[p].at);
    free(want.at);
    return 0;
}
