/* servers.c - the servers of the simulated world: they keep keys, and fail in every way. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const mood_names[MOODS] = {
    "well", "refusing", "hanging", "mute", "slow", "errors", "loading", "drops", "garbles", "strays", "lost"
};

enum { WORDS_MOST = 256 };

struct word { const char *at; size_t len; };

/* A reply on its way out, or a piece of one. */
struct saying { struct saying *next; struct buf text; uint64_t due; bool close; };

struct server {
    struct site  site;
    int          number;
    enum mood    mood;
    bool         named, spare;          /* it has a name; and that another address, where nobody listens */
    int          addresses;             /* of its name: 1, 0: there is no such name now, -1: nobody can tell */
    struct line *line;                  /* all that were ever connected */
};

/* A connection. */
struct line {
    struct line   *next;
    struct server *server;
    struct end    *end;
    struct saying *first, *last;
    uint64_t       due;                 /* of the last answer */
    uint32_t       id;
    size_t         stray;               /* bytes that nobody has asked for, and that may not have been read */
    bool           dead, resp3, trusts, ringing;
    bool           lost;                /* nothing passes any more, and nobody is told: a firewall forgot it */
};

static struct { bool memcached, password; uint32_t n, lines; struct server server[SERVERS_MOST]; } all;

static void line_die(struct line *l)
{
    l->dead = true;
    for (struct saying *a = l->first, *next; a != NULL; a = next) {
        next = a->next;
        buf_free(&a->text);
        unkeep(a);
    }
    l->first = l->last = NULL;
}

static void line_hang_up(struct line *l)
{
    if (l->dead || l->lost)
        return;
    line_die(l);
    note("server hangs up", l->id, 0);
    chance(500) ? end_close(l->end) : end_reset(l->end);
}

/* ---- replies leave */

static void line_answer(void *of);

static void line_ring(struct line *l)
{
    if (l->ringing || l->first == NULL || l->dead)
        return;
    l->ringing = true;
    later(l->first->due > now() ? l->first->due - now() : 0, line_answer, l);
}

static void line_answer(void *of)
{
    struct line *l = of;
    l->ringing = false;
    while (!l->dead && l->first != NULL && l->first->due <= now()) {
        struct saying *a = l->first;
        if (l->server->mood == MUTE || l->server->mood == HANGING || l->lost)
            return;                     /* until it is better */
        end_say(l->end, buf_at(&a->text), a->text.len);
        l->first = a->next;
        if (l->first == NULL)
            l->last = NULL;
        if (a->close)
            line_hang_up(l);
        buf_free(&a->text);
        unkeep(a);
    }
    line_ring(l);
}

static void line_put(struct line *l, const char *at, size_t n, uint64_t delay, bool close)
{
    struct saying *a = keep(sizeof *a);
    tell_bytes("server", (uint32_t)l->server->number, "answers, connection", l->id, at, n);
    buf_put(&a->text, at, n);
    a->close = close;
    l->due = a->due = now() + delay > l->due ? now() + delay : l->due;
    if (l->last == NULL)
        l->first = a;
    else
        l->last->next = a;
    l->last = a;
    line_ring(l);
}

static uint64_t service_time(const struct server *s)
{
    if (s->mood == SLOW && chance(200))
        return between(0, 4 * SECOND);
    return chance(800) ? between(10, 300) : between(10, 3 * MS);
}

/* A reply, whole, or in two pieces. */
static void line_reply(struct line *l, const struct buf *reply)
{
    size_t n = reply->len, cut = n > 1 && chance(100) ? 1 + (size_t)between(0, n - 2) : n;
    uint64_t delay = service_time(l->server);
    if (l->server->mood == DROPS && chance(60)) {
        line_put(l, buf_at(reply), (size_t)between(0, n), delay, true);
        return;
    }
    line_put(l, buf_at(reply), cut, delay, false);
    if (cut < n)
        line_put(l, buf_at(reply) + cut, n - cut, delay + between(0, 5 * MS), false);
}

/* ---- strays: replies that nobody has asked for */

static void line_heard(void *of)
{
    struct line *l = of;
    /* What the process has not read when it asks, it cannot tell from the answer: so it was never there. */
    if (l->stray > 0 && end_take_back(l->end, l->stray))
        note("stray taken back", l->id, 0);
    l->stray = 0;
}

static void line_stray_check(void *of)
{
    struct line *l = of;
    if (!l->dead && l->stray > 0 && !end_ended(l->end) && !end_is_reset(l->end))
        broken("a server has sent a reply that nobody asked for, and its connection %u is kept", l->id);
}

static void line_stray(void *of)
{
    struct line *l = of;
    static const char *const redis[] = {"+OK\r\n", ":1\r\n", "$5\r\nstray\r\n", "$-1\r\n", "-ERR stray\r\n"};
    static const char *const memcached[] = {"STORED\r\n", "END\r\n", "VALUE key:1 0 1\r\nx\r\nEND\r\n", "ERROR\r\n",
                                            "1\r\n"};
    if (l->dead || l->lost || l->server->mood != STRAYS || l->first != NULL || l->stray > 0 || !end_is_quiet(l->end) ||
        end_unread(l->end) > 0 || end_is_reset(l->end) || end_ended(l->end))
        return;
    const char *text = (all.memcached ? memcached : redis)[pick(5)];
    l->stray = strlen(text);
    note("stray", l->id, l->stray);
    end_deliver(l->end, text, l->stray);
    later(5 * SECOND, line_stray_check, l);
}

/* ---- trouble instead of a reply; false: there is none */

static const char *garbage(enum did did, uint32_t keys)
{
    static const char *const any[] = {"?what\r\n", "$4\r\nabcdef\r\n", "*1\r\n?\r\n", "\r\n\r\n", "\x01\x02\x03"};
    static const char *const items[] = {":77777\r\n", "+garbled\r\n", "*1\r\n+garbled\r\n", "*9999\r\n?\r\n",
                                        "$7\r\ngarbled\r\n"};
    static const char *const lines[] = {"GARBAGE\r\n", "VALUE nobody 0 1\r\nx\r\nEND\r\n", "\r\n",
                                        "VALUE key:1 0 x\r\n", "HD O12345678\r\n"};
    if (all.memcached)
        return chance(700) ? lines[pick(5)] : did == DID_READ ? "STORED\r\n" : "END\r\n";
    return did == DID_READ && keys > 1 && chance(500) ? items[pick(5)] : any[pick(5)];
}

/* A value that does not end where it should: its reader finds that out when it has had all of it. */
static void line_garble_long(struct line *l, uint32_t key)
{
    struct buf b = {0};
    size_t n = (size_t)between(10, 100000);
    char *at = keep(n);
    memset(at, 'g', n);
    if (all.memcached)
        buf_print(&b, "VALUE %s 0 %zu\r\n", key_text(key), n);
    else
        buf_print(&b, "$%zu\r\n", n);
    buf_put(&b, at, n);
    buf_text(&b, "gg+OK\r\n");
    line_put(l, buf_at(&b), b.len, service_time(l->server), false);
    unkeep(at);
    buf_free(&b);
}

static bool line_trouble(struct line *l, enum did did, uint32_t key, uint32_t keys, bool *execute)
{
    enum mood mood = l->server->mood;
    char text[80];
    *execute = mood == GARBLES && chance(500);
    if (mood == DROPS && chance(60)) {
        line_put(l, "", 0, service_time(l->server), true);
        return true;
    }
    if (mood == GARBLES && chance(100)) {
        const char *g = garbage(did, keys);
        note("garbage", l->id, 0);
        if (did == DID_READ && chance(300))
            line_garble_long(l, key);
        else
            line_put(l, g, strlen(g), service_time(l->server), false);
        return true;
    }
    if (mood == LOADING && !all.memcached) {
        snprintf(text, sizeof text, "-LOADING sim %u\r\n", truth_error(l->server->number, did, key));
    } else if ((mood == ERRORS || mood == LOADING) && chance(300)) {
        snprintf(text, sizeof text, "%s sim %u\r\n", all.memcached ? "SERVER_ERROR" : "-ERR",
                 truth_error(l->server->number, did, key));
    } else {
        return false;
    }
    line_put(l, text, strlen(text), service_time(l->server), false);
    return true;
}

/* ---- what both protocols do */

static uint32_t key_of(const struct line *l, struct word w)
{
    int k = key_number(w.at, w.len);
    if (k == -1)
        broken("server %d is asked for a key that no client has asked for: %.*s", l->server->number, (int)w.len, w.at);
    return (uint32_t)k;
}

static uint64_t number_of(struct word w)
{
    char text[24] = {0};
    memcpy(text, w.at, w.len < 23 ? w.len : 23);
    return strtoull(text, NULL, 10);
}

static bool word_is(struct word w, const char *text) { return w.len == strlen(text) && memcmp(w.at, text, w.len) == 0; }

static bool word_is_any_case(struct word w, const char *text)
{
    bool same = w.len == strlen(text);
    for (size_t i = 0; same && i < w.len; i++)
        same = (w.at[i] & ~0x20) == (text[i] & ~0x20);
    return same;
}

/* ---- redis */

static void put_bulk(struct buf *b, const char *at, size_t n)
{
    buf_print(b, "$%zu\r\n", n);
    buf_put(b, at, n);
    buf_text(b, "\r\n");
}

static void put_value(struct line *l, struct buf *b, uint32_t key)
{
    size_t len;
    const char *at = truth_get(l->server->number, key, &len);
    if (at != NULL)
        put_bulk(b, at, len);
    else
        buf_text(b, l->resp3 ? "_\r\n" : "$-1\r\n");
}

static void redis_greet(struct line *l, const struct word *w, struct buf *b)
{
    if (word_is_any_case(w[0], "PING"))
        buf_text(b, l->server->mood == LOADING ? "-LOADING sim\r\n" : "+PONG\r\n");
    else if (word_is_any_case(w[0], "INFO"))
        put_bulk(b, "# Server\r\nredis_version:7.2.4\r\n", 31);
    else if (word_is_any_case(w[0], "HELLO"))
        buf_text(b, "%1\r\n+proto\r\n:3\r\n");
    else if (word_is_any_case(w[0], "AUTH") || word_is_any_case(w[0], "SELECT"))
        buf_text(b, "+OK\r\n");
    else
        broken("server %d is asked what no client asks: %.*s", l->server->number, (int)w[0].len, w[0].at);
    if (word_is_any_case(w[0], "HELLO"))
        l->resp3 = true;
    if (word_is_any_case(w[0], "AUTH"))
        l->trusts = true;
}

static void redis_increment(struct line *l, uint32_t key, struct buf *b)
{
    size_t len;
    const char *at = truth_get(l->server->number, key, &len);
    uint64_t n = at == NULL ? 1 : number_of((struct word){at, len}) + 1;
    truth_count(l->server->number, key, n);
    buf_print(b, ":%llu\r\n", (unsigned long long)n);
}

static void redis_set(struct line *l, const struct word *w, uint32_t words, struct buf *b)
{
    for (uint32_t i = 1; i + 1 < words; i += 2)
        truth_set(l->server->number, key_of(l, w[i]), w[i + 1].at, w[i + 1].len);
    buf_text(b, "+OK\r\n");
}

static void redis_read(struct line *l, const struct word *w, uint32_t words, struct buf *b)
{
    if (word_is_any_case(w[0], "MGET"))
        buf_print(b, "*%u\r\n", words - 1);
    for (uint32_t i = 1; i < words; i++)
        put_value(l, b, key_of(l, w[i]));
}

static void redis_count(struct line *l, const struct word *w, uint32_t words, bool delete, struct buf *b)
{
    uint32_t n = 0;
    size_t len;
    for (uint32_t i = 1; i < words; i++) {
        uint32_t key = key_of(l, w[i]);
        n += truth_get(l->server->number, key, &len) != NULL;
        if (delete)
            truth_delete(l->server->number, key);
    }
    buf_print(b, ":%u\r\n", n);
}

static void redis_do(struct line *l, const struct word *w, uint32_t words, struct buf *b)
{
    static const struct { const char *name; enum did did; uint32_t step; } known[] = {
        {"GET", DID_READ, 1}, {"MGET", DID_READ, 1}, {"EXISTS", DID_READ, 1}, {"SET", DID_WRITE, 2},
        {"MSET", DID_WRITE, 2}, {"INCR", DID_COUNT, 1}, {"DEL", DID_DELETE, 1},
    };
    size_t i = 0;
    while (i < sizeof known / sizeof known[0] && !word_is_any_case(w[0], known[i].name))
        i++;
    if (i == sizeof known / sizeof known[0]) {
        redis_greet(l, w, b);
        return;
    }
    bool execute = true;
    if (all.password && !l->trusts)
        broken("server %d is asked on connection %u, and was not given the password", l->server->number, l->id);
    for (uint32_t k = 1; k < words; k += known[i].step)
        truth_did(l->server->number, known[i].did, key_of(l, w[k]));
    bool trouble = line_trouble(l, known[i].did, key_of(l, w[1]), i == 1 ? words - 1 : 1, &execute);
    if (trouble && !execute)
        return;
    switch (known[i].did) {
    case DID_READ:
        i == 2 ? redis_count(l, w, words, false, b) : redis_read(l, w, words, b);
        break;
    case DID_WRITE:
        redis_set(l, w, words, b);
        break;
    case DID_COUNT:
        redis_increment(l, key_of(l, w[1]), b);
        break;
    case DID_DELETE:
        redis_count(l, w, words, true, b);
        break;
    case DIDS:
        break;
    }
    if (trouble)
        buf_drop(b, b->len);
}

/* A number with its CR LF at `at`; how far it goes, 0: not all is there. */
static size_t wire_number(const struct line *l, const char *at, size_t n, char mark, uint64_t *out)
{
    const char *end = n == 0 ? NULL : memchr(at, '\n', n);
    if (n > 0 && at[0] != mark)
        broken("server %d is sent what is no request: %.20s", l->server->number, at);
    if (end == NULL)
        return 0;
    *out = number_of((struct word){at + 1, (size_t)(end - at) - 2});
    if (end - at < 3 || end[-1] != '\r')
        broken("server %d is sent a number that is none: %.20s", l->server->number, at);
    return (size_t)(end - at) + 1;
}

/* The request at the front of `in`: its words, and how long it is; 0: it is not all there. */
static size_t redis_request(const struct line *l, const struct buf *in, struct word *w, uint32_t *words)
{
    uint64_t n, len;
    const char *at = buf_at(in);
    size_t used = wire_number(l, at, in->len, '*', &n);
    if (used == 0)
        return 0;
    if (n == 0 || n > WORDS_MOST)
        broken("server %d is sent a request of %llu words", l->server->number, (unsigned long long)n);
    for (uint32_t i = 0; i < n; i++) {
        size_t head = wire_number(l, at + used, in->len - used, '$', &len);
        if (head == 0 || in->len - used - head < len + 2)
            return 0;
        w[i] = (struct word){at + used + head, len};
        used += head + len + 2;
        if (at[used - 2] != '\r' || at[used - 1] != '\n')
            broken("server %d is sent a word that is longer than its length", l->server->number);
    }
    *words = (uint32_t)n;
    return used;
}

/* ---- memcached */

static void mc_flags(const struct word *w, uint32_t words, uint32_t from, struct buf *b)
{
    for (uint32_t i = from; i < words; i++)
        if (w[i].at[0] == 'O')
            buf_print(b, " %.*s", (int)w[i].len, w[i].at);
        else if (w[i].at[0] == 'k')
            buf_print(b, " k%.*s", (int)w[1].len, w[1].at);
    buf_text(b, "\r\n");
}

static void mc_read(struct line *l, const struct word *w, uint32_t words, struct buf *b)
{
    for (uint32_t i = 1; i < words; i++) {
        size_t len;
        uint32_t key = key_of(l, w[i]);
        const char *at = truth_get(l->server->number, key, &len);
        if (at == NULL)
            continue;
        buf_print(b, "VALUE %s 0 %zu", key_text(key), len);
        if (word_is(w[0], "gets"))
            buf_print(b, " %llu", (unsigned long long)truth_unique(l->server->number, key));
        buf_text(b, "\r\n");
        buf_put(b, at, len);
        buf_text(b, "\r\n");
    }
    buf_text(b, "END\r\n");
}

static void mc_meta_get(struct line *l, const struct word *w, uint32_t words, struct buf *b)
{
    size_t len;
    const char *at = truth_get(l->server->number, key_of(l, w[1]), &len);
    if (at == NULL) {
        buf_text(b, "EN\r\n");
        return;
    }
    buf_print(b, "VA %zu", len);
    mc_flags(w, words, 2, b);
    buf_put(b, at, len);
    buf_text(b, "\r\n");
}

/* set, add, cas and ms; the data is at `data`. */
static void mc_store(struct line *l, const struct word *w, uint32_t words, struct word data, struct buf *b)
{
    uint32_t key = key_of(l, w[1]);
    size_t len;
    int server = l->server->number;
    bool there = truth_get(server, key, &len) != NULL, meta = word_is(w[0], "ms");
    if (word_is(w[0], "cas") && !there) {
        buf_text(b, "NOT_FOUND\r\n");
    } else if (word_is(w[0], "cas") && number_of(w[5]) != truth_unique(server, key)) {
        buf_text(b, "EXISTS\r\n");
    } else if (word_is(w[0], "add") && there) {
        buf_text(b, "NOT_STORED\r\n");
    } else if (word_is(w[0], "add")) {  /* a counter begins */
        truth_count(server, key, number_of(data));
        buf_text(b, "STORED\r\n");
    } else {
        truth_set(server, key, data.at, data.len);
        buf_text(b, meta ? "HD" : "STORED\r\n");
        if (meta)
            mc_flags(w, words, 3, b);
    }
}

static void mc_change(struct line *l, const struct word *w, uint32_t words, struct buf *b)
{
    uint32_t key = key_of(l, w[1]);
    size_t len;
    int server = l->server->number;
    const char *at = truth_get(server, key, &len);
    if (word_is(w[0], "incr") && at != NULL) {
        uint64_t n = number_of((struct word){at, len}) + number_of(w[2]);
        truth_count(server, key, n);
        buf_print(b, "%llu\r\n", (unsigned long long)n);
    } else if (word_is(w[0], "incr")) {
        buf_text(b, "NOT_FOUND\r\n");
    } else if (word_is(w[0], "md")) {
        truth_delete(server, key);
        buf_text(b, at != NULL ? "HD" : "NF");
        mc_flags(w, words, 2, b);
    } else {
        truth_delete(server, key);
        buf_text(b, at != NULL ? "DELETED\r\n" : "NOT_FOUND\r\n");
    }
}

static bool mc_stores(struct word verb)
{
    return word_is(verb, "set") || word_is(verb, "add") || word_is(verb, "cas") || word_is(verb, "ms");
}

static void mc_do(struct line *l, const struct word *w, uint32_t words, struct word data, struct buf *b)
{
    if (word_is(w[0], "version")) {
        buf_text(b, "VERSION 1.6.21\r\n");
        return;
    }
    bool stores = mc_stores(w[0]), gets = word_is(w[0], "get") || word_is(w[0], "gets"), execute = true;
    bool change = word_is(w[0], "incr") || word_is(w[0], "delete") || word_is(w[0], "md");
    if (!stores && !gets && !change && !word_is(w[0], "mg"))
        broken("server %d is asked what no client asks: %.*s", l->server->number, (int)w[0].len, w[0].at);
    enum did did = word_is(w[0], "add") || word_is(w[0], "incr") ? DID_COUNT : stores ? DID_WRITE
                 : change ? DID_DELETE : DID_READ;
    for (uint32_t i = 1; i < (gets ? words : 2); i++)
        truth_did(l->server->number, did, key_of(l, w[i]));
    bool trouble = line_trouble(l, did, key_of(l, w[1]), gets ? words - 1 : 1, &execute);
    if (trouble && !execute)
        return;
    if (stores)
        mc_store(l, w, words, data, b);
    else if (gets)
        mc_read(l, w, words, b);
    else if (change)
        mc_change(l, w, words, b);
    else
        mc_meta_get(l, w, words, b);
    if (trouble)
        buf_drop(b, b->len);
}

static size_t mc_request(const struct line *l, const struct buf *in, struct word *w, uint32_t *words, struct word *data)
{
    const char *at = buf_at(in), *end = in->len == 0 ? NULL : memchr(at, '\n', in->len);
    if (end == NULL)
        return 0;
    size_t line = (size_t)(end - at) + 1;
    *words = 0;
    if (line < 3 || end[-1] != '\r')
        broken("server %d is sent a line that is none: %.20s", l->server->number, at);
    for (size_t i = 0, from = 0; i < line - 1 && *words < WORDS_MOST; i++)
        if (at[i] == ' ' || at[i] == '\r') {
            if (i > from)
                w[(*words)++] = (struct word){at + from, i - from};
            from = i + 1;
        }
    if (*words == 0)
        broken("server %d is sent an empty line", l->server->number);
    if (!mc_stores(w[0]))
        return line;
    size_t len = *words > 2 ? number_of(w[word_is(w[0], "ms") ? 2 : 4]) : 0;
    if (in->len - line < len + 2)
        return 0;
    *data = (struct word){at + line, len};
    if (memcmp(at + line + len, "\r\n", 2) != 0)
        broken("server %d is sent data that is longer than its length", l->server->number);
    return line + len + 2;
}

/* ---- connections */

static void line_ready(void *of)
{
    struct line *l = of;
    struct word w[WORDS_MOST], data = {0};
    uint32_t words = 0;
    while (!l->dead && l->server->mood != HANGING && !l->lost) {
        struct buf *in = end_input(l->end), reply = {0};
        size_t used = all.memcached ? mc_request(l, in, w, &words, &data) : redis_request(l, in, w, &words);
        if (used == 0)
            break;
        note("server is asked", l->id, used);
        tell_bytes("server", (uint32_t)l->server->number, "is asked, connection", l->id, buf_at(in), used);
        all.memcached ? mc_do(l, w, words, data, &reply) : redis_do(l, w, words, &reply);
        if (reply.len > 0)
            line_reply(l, &reply);
        buf_free(&reply);
        end_took(l->end, used);
    }
    if (!l->dead && (end_is_reset(l->end) || (l->first == NULL && end_ended(l->end)) ||
                     (end_input(l->end)->len > 0 && end_ended(l->end)))) {
        line_die(l);
        end_close(l->end);
    }
    if (!l->dead && l->server->mood == STRAYS && chance(600))
        later(chance(700) ? between(100, 3 * MS) : between(1 * MS, 50 * MS), line_stray, l);
}

static enum answer server_knock(void *of)
{
    struct server *s = of;
    return s->mood == REFUSING ? REFUSES : s->mood == HANGING ? SILENT : ACCEPTS;
}

static void server_come(void *of, struct end *end)
{
    struct server *s = of;
    struct line *l = keep(sizeof *l);
    l->next = s->line;
    l->server = s;
    l->end = end;
    l->id = ++all.lines;
    s->line = l;
    end_room(end, 1 << 20);
    end_own(end, l, line_ready);
    end_on_write(end, line_heard);
    tell("server %d has connection %u", s->number, l->id);
}

static void server_drop_all(struct server *s)
{
    for (struct line *l = s->line; l != NULL; l = l->next)
        line_hang_up(l);
}

/* What the name of a server stands for. */
static int server_find(const char *name, uint32_t address[ADDRESSES_MOST])
{
    const struct server *s = &all.server[name[0] == 's' ? name[1] - '0' : 0];
    int n = 0;
    if (name[0] != 's' || s - all.server >= (int)all.n || strcmp(name + 2, ".sim") != 0)
        return 0;
    if (s->addresses <= 0)
        return s->addresses;
    if (s->spare)
        address[n++] = 0x0a006300u + (uint32_t)s->number;
    address[n++] = s->site.address;
    if (s->spare && chance(500)) {
        address[1] = address[0];
        address[0] = s->site.address;
    }
    return n;
}

void servers_begin(bool memcached, uint32_t n, bool named, bool password)
{
    memset(&all, 0, sizeof all);
    all.memcached = memcached;
    all.n = n;
    all.password = password;
    name_find = server_find;
    for (uint32_t i = 0; i < n; i++) {
        struct server *s = &all.server[i];
        s->number = (int)i;
        s->site = (struct site){.address = 0x0a000001u + i, .port = (uint16_t)(7000 + i), .owner = s,
                                .knock = server_knock, .come = server_come};
        s->addresses = 1;
        s->named = named && chance(200);
        s->spare = chance(300);
        if (!s->named && chance(150))
            snprintf(s->site.path, sizeof s->site.path, "/servers/%u", i);
        kernel_site(&s->site);
    }
}

const char *server_place(uint32_t n)
{
    static char text[80];
    const struct site *s = &all.server[n].site;
    if (s->path[0] != '\0')
        snprintf(text, sizeof text, "%s:1 s%u", s->path, n);
    else if (all.server[n].named)
        snprintf(text, sizeof text, "s%u.sim:%u:1 s%u", n, s->port, n);
    else
        snprintf(text, sizeof text, "10.0.0.%u:%u:1 s%u", s->address & 0xff, s->port, n);
    return text;
}

/* Its name stands for another address from now on, or for none. */
void server_rename(uint32_t n, bool well)
{
    struct server *s = &all.server[n];
    s->addresses = well || chance(500) ? 1 : chance(500) ? 0 : -1;
    if (!s->named || s->addresses <= 0 || well)
        return;
    s->site.address += 0x100;
    tell("server %u has another address", n);
    if (chance(500))
        server_drop_all(s);
}

bool servers_are_named(void)
{
    bool named = false;
    for (uint32_t i = 0; i < all.n; i++)
        named = named || all.server[i].named;
    return named;
}

void server_be(uint32_t n, enum mood mood)
{
    struct server *s = &all.server[n];
    enum mood before = s->mood;
    s->mood = mood;
    tell("server %u is %s", n, mood_names[mood]);
    if (mood == REFUSING)
        server_drop_all(s);
    for (struct line *l = s->line; mood == LOST && l != NULL; l = l->next)
        l->lost = true;
    if (before != HANGING && before != MUTE)
        return;
    for (struct line *l = s->line; l != NULL; l = l->next)
        if (!l->dead) {
            line_ring(l);
            line_ready(l);
        }
}

void server_restart(uint32_t n)
{
    tell("server %u is started again, empty", n);
    server_drop_all(&all.server[n]);
    truth_forget((int)n);
}

void servers_end(void)
{
    for (uint32_t i = 0; i < all.n; i++)
        for (struct line *l = all.server[i].line; l != NULL; l = l->next)
            line_die(l);
}
