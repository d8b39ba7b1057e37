/* clients.c - the clients of the simulated world: they ask, and know what they can be told. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind {
    GET, SET, MGET, MSET, DEL, EXISTS, INCR, PING, HELLO, WRONG, MISSPOKEN, QUIT, PASSWORD,     /* redis */
    MC_GET, MC_SET, MC_ADD, MC_CAS, MC_INCR, MC_DELETE, MC_MG, MC_MS, MC_MD, MC_MN, MC_WRONG, MC_MISSPOKEN, MC_QUIT
};

enum { ASKED_MOST = 24 };               /* keys of one request */

struct request {
    struct request *next;
    enum kind       kind;
    enum did        did;
    uint32_t        number;
    uint32_t        key[ASKED_MOST], keys;
    struct value   *value[ASKED_MOST];
    uint64_t        asked, sent, end;   /* when; where it ends in what the client says */
    bool            writes, quiet, silent;  /* quiet: hears of some outcomes only; silent: of none */
    bool            forgiven;           /* its counts were taken back */
    uint32_t        protocol;           /* HELLO */
};

enum reading { PROMPT, LAZY, NEVER };
enum parting { CLOSES, SHUTS, RESETS, VANISHES, LEAVES };   /* LEAVES: with requests open */

struct client {
    struct client  *next;
    struct end     *end;
    uint32_t        number, left, depth, open, made;
    struct request *first, *last;
    struct buf      out;
    uint64_t        said, put;          /* bytes said, and made */
    uint64_t        heard;              /* when the last reply came */
    uint64_t        think;
    uint64_t        unique;             /* memcached: from a gets ... */
    uint32_t        unique_key;         /* ... of this key; KEYS_MOST: none */
    enum reading    reading;
    enum parting    parting;
    bool            splits, dead, resp3, stepping, peeking, excused, last_word, good, shut, going, quiet;
};

static struct {
    struct manners manners;
    struct client *first;
    uint32_t       keys;
    uint64_t       answered;
    struct client *good;
} all;

uint64_t clients_answered(void) { return all.answered; }

static bool is_counter(uint32_t key) { return key % 4 == 3; }

/* ---- a client is gone */

static void client_die(struct client *c)
{
    if (c->dead)
        return;
    c->dead = true;
    note("client is gone", c->number, c->open);
}

static void client_part(struct client *c)
{
    if (c->dead)
        return;
    switch (c->parting) {
    case RESETS:   end_reset(c->end);  break;
    case VANISHES: end_vanish(c->end); break;
    case CLOSES: case SHUTS: case LEAVES: end_close(c->end); break;
    }
    client_die(c);
}

/* ---- requests are made */

static void put_word(struct buf *b, const char *at, size_t n)
{
    buf_print(b, "$%zu\r\n", n);
    buf_put(b, at, n);
    buf_text(b, "\r\n");
}

static void put_name(struct buf *b, const char *name)
{
    char text[16];
    size_t n = strlen(name);
    bool small = chance(300);
    for (size_t i = 0; i < n; i++)
        text[i] = (char)(small ? name[i] | 0x20 : name[i]);
    put_word(b, text, n);
}

static size_t pad_size(void)
{
    size_t most = all.manners.pad_most;
    if (chance(all.manners.large))
        return (size_t)between(0, most);
    if (chance(100))
        return (size_t)between(0, most < 12000 ? most : 12000);
    return (size_t)between(0, 40);
}

/* A key that is (or is not) a counter. */
static uint32_t any_key(bool counter)
{
    uint32_t k = pick(all.keys);
    return counter ? k / 4 * 4 + 3 < all.keys ? k / 4 * 4 + 3 : 3 : is_counter(k) ? k - 1 : k;
}

static void ask(struct request *r, uint32_t key)
{
    truth_ask(r->did, key);
    r->key[r->keys++] = key;
}

static struct value *ask_write(struct client *c, struct request *r, uint32_t key)
{
    r->value[r->keys] = value_new(key, c->number, pad_size());
    ask(r, key);
    return r->value[r->keys - 1];
}

static void ask_many(struct request *r, bool counters)
{
    uint32_t n = 1 + pick(chance(200) ? ASKED_MOST : 5);
    for (uint32_t i = 0; i < n; i++)
        ask(r, counters && chance(200) ? any_key(true) : any_key(false));
}

static void make_redis_keys(struct client *c, struct request *r, struct buf *b)
{
    static const char *const names[] = {"GET", "SET", "MGET", "MSET", "DEL", "EXISTS", "INCR"};
    r->writes = r->did != DID_READ;
    if (r->kind == GET)
        ask(r, any_key(chance(200)));
    else if (r->kind == INCR)
        ask(r, any_key(true));
    else if (r->kind != SET && r->kind != MSET)
        ask_many(r, r->kind != DEL);
    else
        for (uint32_t i = 0, n = r->kind == SET ? 1 : 1 + pick(6); i < n; i++)
            ask_write(c, r, any_key(false));
    if (r->kind == GET && chance(100)) {
        buf_print(b, "%s %s%s\n", chance(500) ? "GET" : "get", key_text(r->key[0]), chance(500) ? "\r" : "");
        return;
    }
    bool pairs = r->value[0] != NULL;
    buf_print(b, "*%u\r\n", 1 + r->keys * (pairs ? 2 : 1));
    put_name(b, names[r->kind]);
    for (uint32_t i = 0; i < r->keys; i++) {
        put_word(b, key_text(r->key[i]), strlen(key_text(r->key[i])));
        if (pairs)
            put_word(b, r->value[i]->at, r->value[i]->len);
    }
}

static const char *const misspoken[] = {
    "*1\r\n+PING\r\n", "*x\r\n", "*1\r\n$99999999999\r\n", "GET \"unbalanced\r\n", "*2\r\n$3\r\nGET\r\n$1\r\nkk\r\n"
};
static const char *const wrong[] = {
    "*1\r\n$3\r\nGET\r\n", "*2\r\n$7\r\nNOTHING\r\n$1\r\nx\r\n", "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nx\r\n",
    "*1\r\n$5\r\nBLPOP\r\n", "*2\r\n$4\r\nMSET\r\n$1\r\nx\r\n"
};

static void make_redis(struct client *c, struct request *r, struct buf *b)
{
    static const enum kind kinds[] = {GET, GET, GET, SET, SET, SET, MGET, MGET, MSET, DEL, EXISTS, INCR, INCR, PING};
    static const enum did dids[] = {DID_READ, DID_WRITE, DID_READ, DID_WRITE, DID_DELETE, DID_READ, DID_COUNT};
    r->kind = c->good ? kinds[pick(13)] : kinds[pick(14)];
    if (!c->good && chance(10))
        r->kind = WRONG;
    if (!c->good && chance(all.manners.hello))
        r->kind = HELLO;
    if (!c->good && chance(4))
        r->kind = chance(500) ? MISSPOKEN : QUIT;
    if (r->kind <= INCR) {
        r->did = dids[r->kind];
        make_redis_keys(c, r, b);
        return;
    }
    r->protocol = 2 + pick(2);
    if (r->kind == PING)
        buf_text(b, chance(500) ? "*1\r\n$4\r\nPING\r\n" : "PING\r\n");
    else if (r->kind == HELLO)
        buf_print(b, "*2\r\n$5\r\nHELLO\r\n$1\r\n%u\r\n", r->protocol);
    else if (r->kind == QUIT)
        buf_text(b, "*1\r\n$4\r\nQUIT\r\n");
    else
        buf_text(b, (r->kind == WRONG ? wrong : misspoken)[pick(5)]);
}

static void make_mc_store(struct client *c, struct request *r, struct buf *b)
{
    bool cas = r->kind == MC_CAS;
    uint32_t key = cas ? c->unique_key : any_key(false);
    const struct value *v = ask_write(c, r, key);
    r->silent = !cas && !c->good && r->kind == MC_SET && chance(100);
    if (r->kind == MC_MS) {
        buf_print(b, "ms %s %zu O%u%s\r\n", key_text(key), v->len, r->number, r->quiet ? " q" : "");
    } else {
        buf_print(b, "%s %s 0 0 %zu", cas ? "cas" : "set", key_text(key), v->len);
        if (cas)
            buf_print(b, " %llu", (unsigned long long)c->unique);
        buf_text(b, r->silent ? " noreply\r\n" : "\r\n");
    }
    buf_put(b, v->at, v->len);
    buf_text(b, "\r\n");
}

static void make_mc_keys(struct client *c, struct request *r, struct buf *b)
{
    r->writes = r->did != DID_READ;
    c->quiet = r->quiet = !c->good && (r->kind == MC_MG || r->kind == MC_MS || r->kind == MC_MD) && chance(300);
    if (r->did == DID_WRITE) {
        make_mc_store(c, r, b);
    } else if (r->kind == MC_GET) {
        ask_many(r, true);
        buf_text(b, r->keys == 1 && chance(500) ? "gets" : "get");
        for (uint32_t i = 0; i < r->keys; i++)
            buf_print(b, " %s", key_text(r->key[i]));
        buf_text(b, "\r\n");
    } else if (r->did == DID_COUNT) {
        ask(r, any_key(true));
        buf_print(b, r->kind == MC_ADD ? "add %s 0 0 1\r\n0\r\n" : "incr %s 1\r\n", key_text(r->key[0]));
    } else {
        ask(r, any_key(r->kind == MC_MG && chance(200)));
        if (r->kind == MC_DELETE)
            buf_print(b, "delete %s\r\n", key_text(r->key[0]));
        else
            buf_print(b, "%s %s %sO%u%s\r\n", r->kind == MC_MG ? "mg" : "md", key_text(r->key[0]),
                      r->kind == MC_MG ? "v k " : "", r->number, r->quiet ? " q" : "");
    }
}

static const char *const mc_misspoken[] = {"set key:1 0 0 99999999999\r\n", "ms key:1 99999999999\r\n"};
static const char *const mc_wrong[] = {"nothing\r\n", "get\r\n", "touch key:1 x\r\n", "incr key:1 x\r\n",
                                      "mg key:1 v v\r\n"};

static void make_memcached(struct client *c, struct request *r, struct buf *b)
{
    static const enum kind kinds[] = {MC_GET, MC_GET, MC_GET, MC_GET, MC_SET, MC_SET, MC_SET, MC_ADD, MC_INCR, MC_INCR,
                                      MC_DELETE, MC_MG, MC_MG, MC_MS, MC_MD, MC_MN};
    static const enum did dids[] = {DID_READ, DID_WRITE, DID_COUNT, DID_WRITE, DID_COUNT, DID_DELETE, DID_READ,
                                    DID_WRITE, DID_DELETE};
    r->kind = kinds[pick(16)];
    if (c->unique_key < KEYS_MOST && chance(500))
        r->kind = MC_CAS;
    if (!c->good && chance(20))
        r->kind = MC_WRONG;
    if (!c->good && chance(4))
        r->kind = chance(500) ? MC_MISSPOKEN : MC_QUIT;
    if (c->quiet)
        r->kind = MC_MN;                /* so what comes between is about one request, or an error */
    c->quiet = false;
    if (r->kind < MC_MN) {
        r->did = dids[r->kind - MC_GET];
        make_mc_keys(c, r, b);
        if (r->kind == MC_CAS)
            c->unique_key = KEYS_MOST;
    } else if (r->kind == MC_MN) {
        buf_text(b, "mn\r\n");
    } else if (r->kind == MC_QUIT) {
        r->silent = true;
        buf_text(b, "quit\r\n");
    } else {
        buf_text(b, r->kind == MC_WRONG ? mc_wrong[pick(5)] : mc_misspoken[pick(2)]);
    }
}

static struct request *client_begin(struct client *c)
{
    struct request *r = keep(sizeof *r);
    r->number = c->made++;
    r->asked = now();
    return r;
}

/* What a request says stands behind `before` in what the client has to say. */
static void client_made(struct client *c, struct request *r, size_t before)
{
    tell_bytes("client", c->number, "asks", r->number, buf_at(&c->out) + before, c->out.len - before);
    r->end = c->put += c->out.len - before;
    if (c->last == NULL)
        c->first = r;
    else
        c->last->next = r;
    c->last = r;
    c->open++;
}

static void client_make(struct client *c)
{
    struct request *r = client_begin(c);
    size_t before = c->out.len;
    all.manners.memcached ? make_memcached(c, r, &c->out) : make_redis(c, r, &c->out);
    client_made(c, r, before);
    c->left--;
    c->last_word = r->kind == QUIT || r->kind == MISSPOKEN || r->kind == MC_QUIT || r->kind == MC_MISSPOKEN;
    if (r->kind != MISSPOKEN || chance(500))
        return;
    /* It does not hear at once that it is not listened to. */
    for (uint32_t i = pick(2000); i > 0; i--, c->put += 11)
        buf_text(&c->out, "and so on\r\n");
}

/* ---- requests are said */

static void client_step(void *of);

static void client_step_in(struct client *c, uint64_t delay)
{
    if (c->stepping || c->dead)
        return;
    c->stepping = true;
    later(delay, client_step, c);
}

static void client_say(struct client *c)
{
    size_t n = c->out.len;
    if (c->splits && n > 1 && chance(500))
        n = n < 4096 ? 1 + (size_t)between(0, n - 1) : n / 4 + (size_t)between(0, n - n / 4);
    end_say(c->end, buf_at(&c->out), n);
    buf_drop(&c->out, n);
    c->said += n;
    for (struct request *r = c->first; r != NULL; r = r->next)
        if (r->sent == 0 && r->end <= c->said)
            r->sent = now() + 1;
}

static void client_part_now(void *of) { client_part(of); }

/* All is said: what the client does then. */
static void client_end_speech(struct client *c)
{
    const struct request *r = c->first;
    while (r != NULL && (r->silent || r->quiet))
        r = r->next;
    if (c->parting == SHUTS && !c->shut) {
        c->shut = true;
        end_shut(c->end);
    } else if (c->parting == CLOSES && r == NULL) {
        client_part(c);
    } else if (c->parting > SHUTS && !c->going) {
        c->going = true;
        later(c->reading == PROMPT ? between(0, 20 * MS) : between(0, 8 * SECOND), client_part_now, c);
    }
}

static void client_step(void *of)
{
    struct client *c = of;
    c->stepping = false;
    if (c->dead)
        return;
    while (c->out.len == 0 && c->left > 0 && c->open < c->depth && !c->last_word) {
        client_make(c);
        if (chance(300))
            break;
    }
    if (!choices_left())
        c->left = 0;
    if (c->out.len > 0)
        client_say(c);
    if (c->out.len > 0)
        client_step_in(c, between(10, 3 * MS));
    else if (c->left > 0 && c->open < c->depth && !c->last_word)
        client_step_in(c, between(10, c->think));
    else if (c->left == 0 || c->last_word)
        client_end_speech(c);
}

/* ---- replies are understood */

struct text { const char *at; size_t len; };

static bool text_has(struct text t, const char *what) { return memmem(t.at, t.len, what, strlen(what)) != NULL; }
static bool text_begins(struct text t, const char *what)
{
    return t.len >= strlen(what) && memcmp(t.at, what, strlen(what)) == 0;
}

/* The line at `from`, without its end; where the next begins, 0: it is not whole. */
static size_t text_line(struct text t, size_t from, struct text *line)
{
    const char *end = from < t.len ? memchr(t.at + from, '\n', t.len - from) : NULL;
    if (end == NULL)
        return 0;
    size_t len = (size_t)(end - t.at) - from;
    if (len == 0 || end[-1] != '\r')
        broken("a client is told a line that ends in no CR LF: %.*s", (int)(len > 80 ? 80 : len), t.at + from);
    *line = (struct text){t.at + from, len - 1};
    return from + len + 1;
}

static uint64_t text_number(struct text t)
{
    char digits[24] = {0};
    memcpy(digits, t.at, t.len < 23 ? t.len : 23);
    return strtoull(digits, NULL, 10);
}

/* A request counts no more: it was not sent. */
static void request_unsent(struct request *r)
{
    if (r->forgiven || (r->keys > 1 && !r->writes))
        return;                         /* a part of it may have been, which is of no matter */
    r->forgiven = true;
    for (uint32_t i = 0; i < r->keys; i++) {
        truth_unask(r->did, r->key[i]);
        if (r->value[i] != NULL)
            truth_unsent(r->value[i]);
    }
}

/* What a server's error was about, if it is one of those that the simulator makes. */
static bool error_serial(struct text t, uint32_t *serial)
{
    const char *at = memmem(t.at, t.len, " sim ", 5);
    if (at == NULL)
        return false;
    *serial = (uint32_t)text_number((struct text){at + 5, t.len - (size_t)(at + 5 - t.at)});
    return true;
}

static void client_refused(struct client *c, struct request *r, struct text t)
{
    uint32_t serial;
    char line[120];
    snprintf(line, sizeof line, "%.*s", (int)t.len, t.at);
    if (c->good && all.manners.may_be_closed && text_has(t, "memory"))
        return;                         /* there is little, whatever the weather */
    if (c->good)
        broken("all is well again, and client %u is told: %s", c->number, line);
    if (r->kind == WRONG || r->kind == MISSPOKEN || r->kind == MC_WRONG || r->kind == MC_MISSPOKEN)
        return;
    if (error_serial(t, &serial))
        truth_told(serial, r->key, r->keys, r->did, r->asked);
    else if (text_has(t, "the request was not sent"))
        request_unsent(r);
    else if (text_has(t, "memory") || text_begins(t, "-ERR max number of clients") ||
             text_begins(t, "SERVER_ERROR too many open connections")) {
        if (!all.manners.may_be_closed)
            broken("client %u is told of a shortage that there is not: %s", c->number, line);
    } else if (!text_has(t, "may have been applied") && !text_begins(t, "-NOPROTO"))
        broken("client %u is told what does not belong there: %s", c->number, line);
}

/* ---- redis */

/* Where the value at `from` ends; 0: it is not whole. */
static size_t resp_end(struct text t, size_t from)
{
    struct text line;
    size_t at = text_line(t, from, &line);
    if (at == 0)
        return 0;
    uint64_t n = text_number((struct text){line.at + 1, line.len - 1});
    bool none = line.len > 1 && line.at[1] == '-';
    switch (line.at[0]) {
    case '+': case '-': case ':': case '_': case '#': case ',': case '(':
        return at;
    case '$': case '=': case '!':
        return none ? at : t.len - at < n + 2 ? 0 : at + n + 2;
    case '%':
        n *= 2;
        break;
    case '*': case '~':
        break;
    default:
        broken("a client is told what is no reply: %.*s", (int)(line.len < 80 ? line.len : 80), line.at);
    }
    for (; !none && n > 0 && at > 0; n--)
        at = resp_end(t, at);
    return at;
}

/* A bulk string at `from`, or null: `at` is NULL.  Where it ends. */
static size_t resp_bulk(const struct client *c, struct text t, size_t from, struct text *out)
{
    struct text line;
    size_t at = text_line(t, from, &line);
    *out = (struct text){NULL, 0};
    if (line.len == 1 && line.at[0] == '_' && c->resp3)
        return at;
    if (line.len == 3 && memcmp(line.at, "$-1", 3) == 0 && !c->resp3)
        return at;
    if (line.at[0] != '$' || line.len < 2 || line.at[1] == '-')
        broken("client %u is told, in RESP%d, what is no value: %.*s", c->number, c->resp3 ? 3 : 2,
               (int)(line.len < 80 ? line.len : 80), line.at);
    out->len = text_number((struct text){line.at + 1, line.len - 1});
    out->at = t.at + at;
    return at + out->len + 2;
}

static void resp_values(struct client *c, const struct request *r, struct text t)
{
    struct text line, value;
    size_t at = 0;
    /* What one server answers to all of it, as long as it is RESP, is handed on: only it can know better. */
    if (r->kind == MGET && (text_has(t, "garbled") || text_begins(t, ":77777")) && truth_is_one_server(r->key, r->keys))
        return;
    if (r->kind == MGET) {
        at = text_line(t, 0, &line);
        if (line.at[0] != '*' || text_number((struct text){line.at + 1, line.len - 1}) != r->keys)
            broken("client %u has asked for %u values, and is told %.*s", c->number, r->keys, (int)line.len, line.at);
    }
    for (uint32_t i = 0; i < r->keys; i++) {
        at = resp_bulk(c, t, at, &value);
        truth_read(c->number, r->key[i], value.at, value.len, r->asked);
    }
}

static void client_written(struct client *c, const struct request *r)
{
    for (uint32_t i = 0; i < r->keys; i++)
        truth_written(c->number, r->value[i], r->asked);
}

static void resp_greeted(struct client *c, const struct request *r, struct text t)
{
    const char *mark = r->protocol == 3 ? "%7\r\n" : "*14\r\n";
    if (!text_begins(t, mark))
        broken("client %u says HELLO %u and is told %.20s", c->number, r->protocol, t.at);
    c->resp3 = r->protocol == 3;
}

/* A whole reply that is no error. */
static void redis_heard(struct client *c, const struct request *r, struct text t)
{
    struct text line;
    text_line(t, 0, &line);
    uint64_t n = text_number((struct text){line.at + 1, line.len - 1});
    const char *want = r->kind == PING ? "+PONG" : r->kind <= INCR && r->did == DID_WRITE ? "+OK"
                     : r->kind == DEL || r->kind == EXISTS || r->kind == INCR ? ":"
                     : r->kind == QUIT || r->kind == PASSWORD ? "+OK" : "";
    if (r->kind == WRONG || r->kind == MISSPOKEN || !text_begins(line, want))
        broken("client %u asks %u (kind %d), and is told: %.*s", c->number, r->number, (int)r->kind,
               (int)(line.len < 80 ? line.len : 80), line.at);
    if (r->kind == GET || r->kind == MGET)
        resp_values(c, r, t);
    else if (r->kind == SET || r->kind == MSET)
        client_written(c, r);
    else if (r->kind == DEL)
        truth_deleted(c->number, r->key, r->keys, n, r->asked);
    else if (r->kind == EXISTS)
        truth_is(c->number, r->key, r->keys, n, r->asked);
    else if (r->kind == INCR)
        truth_counted(c->number, r->key[0], n, r->asked);
    else if (r->kind == HELLO)
        resp_greeted(c, r, t);
}

static void client_has_answer(struct client *c);

/* A reply at the front of `t`; how long it was, 0: it is not whole. */
static size_t redis_reply(struct client *c, struct text t)
{
    struct request *r = c->first;
    size_t len = resp_end(t, 0);
    if (len == 0)
        return 0;
    t.len = len;
    tell_bytes("client", c->number, "hears", r == NULL ? 0 : r->number, t.at, len);
    if (r == NULL && !text_begins(t, "-ERR max number of clients"))
        broken("client %u is told what it has not asked for: %.*s", c->number, (int)(len < 80 ? len : 80), t.at);
    if (r == NULL) {
        c->excused = all.manners.may_be_closed;
        return len;
    }
    if (t.at[0] == '-' || t.at[0] == '!')
        client_refused(c, r, (struct text){t.at, len - 2});
    else
        redis_heard(c, r, t);
    client_has_answer(c);
    return len;
}

/* ---- memcached */

/* VALUE lines and END; 0: they are not all there.  They are looked at when they are. */
static size_t mc_values(struct client *c, const struct request *r, struct text t)
{
    struct text line, value;
    char head[80];
    size_t at = 0;
    for (uint32_t pass = 0; pass < 2; pass++) {
        uint32_t k = 0;
        for (at = 0; ; k++) {
            size_t data = text_line(t, at, &line);
            if (data == 0)
                return 0;
            if (line.len == 3 && memcmp(line.at, "END", 3) == 0) {
                for (; pass == 1 && k < r->keys; k++)
                    truth_read(c->number, r->key[k], NULL, 0, r->asked);
                at = data;
                break;
            }
            if (!text_begins(line, "VALUE "))
                broken("client %u asks %u for values, and is told: %.*s", c->number, r->number,
                       (int)(line.len < 80 ? line.len : 80), line.at);
            snprintf(head, sizeof head, "%.*s", (int)line.len, line.at);
            char *name = head + 6, *name_end = strchr(name, ' ');
            if (name_end == NULL)
                broken("client %u is told a VALUE line that is none: %s", c->number, head);
            char *size = strchr(name_end + 1, ' '), *unique = size == NULL ? NULL : strchr(size + 1, ' ');
            value = (struct text){t.at + data, size == NULL ? 0 : strtoul(size + 1, NULL, 10)};
            if (t.len - data < value.len + 2)
                return 0;
            at = data + value.len + 2;
            int key = key_number(name, (size_t)(name_end - name));
            for (; k < r->keys && (int)r->key[k] != key; k++)
                if (pass == 1)
                    truth_read(c->number, r->key[k], NULL, 0, r->asked);
            if (k >= r->keys)
                broken("client %u is told a value that it has not asked for, or not in that order: %s", c->number,
                       head);
            if (pass == 1)
                truth_read(c->number, r->key[k], value.at, value.len, r->asked);
            if (pass == 1 && unique != NULL && !is_counter(r->key[k])) {
                c->unique = strtoull(unique + 1, NULL, 10);
                c->unique_key = r->key[k];
            }
        }
    }
    return at;
}

/* One line, and the data behind VA. */
static size_t mc_line(struct client *c, struct request *r, struct text t)
{
    struct text line;
    char opaque[16];
    size_t at = text_line(t, 0, &line), data = at;
    if (at == 0)
        return 0;
    snprintf(opaque, sizeof opaque, " O%u", r->number);
    bool value = text_begins(line, "VA "), hit = value || text_begins(line, "HD");
    size_t len = value ? text_number((struct text){line.at + 3, line.len - 3}) : 0;
    if (value && t.len - at < len + 2)
        return 0;
    at += value ? len + 2 : 0;
    if (hit && !text_has(line, opaque))
        broken("client %u asks %u, and is told %.*s", c->number, r->number, (int)line.len, line.at);
    switch (r->kind) {
    case MC_SET: case MC_CAS: case MC_MS:
        if (text_begins(line, r->kind == MC_MS ? "HD" : "STORED"))
            client_written(c, r);
        else if (r->kind != MC_CAS || (!text_begins(line, "EXISTS") && !text_begins(line, "NOT_FOUND")))
            break;
        return at;
    case MC_ADD:
        if (!text_begins(line, "STORED") && !text_begins(line, "NOT_STORED"))
            break;
        return at;
    case MC_INCR:
        if (text_begins(line, "NOT_FOUND"))
            truth_read(c->number, r->key[0], NULL, 0, r->asked);
        else if (line.at[0] < '0' || line.at[0] > '9')
            break;
        else
            truth_counted(c->number, r->key[0], text_number(line), r->asked);
        return at;
    case MC_DELETE: case MC_MD:
        if (!hit && !text_begins(line, "DELETED") && !text_begins(line, "NOT_FOUND") && !text_begins(line, "NF"))
            break;
        truth_deleted(c->number, r->key, 1, hit || text_begins(line, "DELETED"), r->asked);
        return at;
    case MC_MG:
        if (!value && !text_begins(line, "EN"))
            break;
        truth_read(c->number, r->key[0], value ? t.at + data : NULL, len, r->asked);
        return at;
    case MC_MN:
        if (!text_begins(line, "MN"))
            break;
        return at;
    default:
        break;
    }
    broken("client %u asks %u (kind %d), and is told: %.*s", c->number, r->number, (int)r->kind,
           (int)(line.len < 80 ? line.len : 80), line.at);
}

static bool mc_is_error(struct text line)
{
    return text_begins(line, "SERVER_ERROR") || text_begins(line, "CLIENT_ERROR") || text_begins(line, "ERROR");
}

/* Whether what stands at the front can be said to `r`; if not, `r` has been answered by silence. */
static bool mc_is_for(const struct request *r, struct text line)
{
    char opaque[16];
    if (r->silent)
        return false;
    if (!r->quiet || (mc_is_error(line) && r->kind != MC_MN))
        return true;
    snprintf(opaque, sizeof opaque, " O%u", r->number);
    if (r->kind == MC_MN)
        return text_begins(line, "MN");
    if (r->kind == MC_MG)
        return text_has(line, opaque);
    return text_begins(line, "NF") || text_begins(line, "NS");
}

static size_t mc_reply(struct client *c, struct text t)
{
    struct text line;
    if (text_line(t, 0, &line) == 0)
        return 0;
    while (c->first != NULL && (c->first->quiet || c->first->silent) && !mc_is_for(c->first, line))
        client_has_answer(c);
    struct request *r = c->first;
    tell_bytes("client", c->number, "hears", r == NULL ? 0 : r->number, t.at, t.len);
    if (r == NULL && !text_begins(line, "SERVER_ERROR too many open connections"))
        broken("client %u is told what it has not asked for: %.*s", c->number, (int)line.len, line.at);
    size_t len = line.len + 2;
    if (r == NULL) {
        c->excused = all.manners.may_be_closed;
        return len;
    }
    /* That memory is short may be said of a quiet request, or of the mn behind it. */
    if (r->quiet && r->next != NULL && text_has(line, "memory"))
        r->next->quiet = true;
    if (mc_is_error(line))
        client_refused(c, r, line);
    else
        len = r->kind == MC_GET ? mc_values(c, r, t) : mc_line(c, r, t);
    if (len > 0)
        client_has_answer(c);
    return len;
}

/* ---- a client hears */

static void client_has_answer(struct client *c)
{
    struct request *r = c->first;
    c->first = r->next;
    if (c->first == NULL)
        c->last = NULL;
    c->open--;
    c->heard = now();
    all.answered++;
    note("client has its answer", c->number, r->number);
    unkeep(r);
}

/* The proxy has closed it: was it its own fault? */
static void client_closed(struct client *c)
{
    while (c->first != NULL && (c->first->silent || c->first->quiet))
        client_has_answer(c);
    bool half = end_input(c->end)->len > 0;
    bool own = c->excused || c->reading != PROMPT || all.manners.may_be_closed;
    if (c->open > 0 && !own && !half)
        broken("client %u is closed, and has %u requests open: the first is %u (kind %d)", c->number, c->open,
               c->first->number, (int)c->first->kind);
    if (c->open == 0 && !own && !c->shut && !c->last_word)
        broken("client %u is closed, and has done nothing", c->number);
    if (c->good && (c->open > 0 || c->left > 0) && !all.manners.may_be_closed)
        broken("all is well again, and client %u is closed", c->number);
    end_close(c->end);
    client_die(c);
}

static void client_ready(void *of);

static void client_peek(void *of)
{
    struct client *c = of;
    c->peeking = false;
    if (!c->dead)
        client_ready(c);
}

static void client_hear(struct client *c)
{
    struct buf *in = end_input(c->end);
    uint32_t before = c->open;
    size_t len;
    do {
        struct text t = {buf_at(in), in->len};
        len = all.manners.memcached ? mc_reply(c, t) : redis_reply(c, t);
        end_took(c->end, len);
    } while (len > 0 && in->len > 0);
    if (before != c->open || c->open == 0)
        client_step_in(c, between(0, c->think));
}

static void client_ready(void *of)
{
    struct client *c = of;
    if (c->dead || c->reading == NEVER)
        return;
    if (c->reading == LAZY && !c->peeking && chance(700)) {
        c->peeking = true;
        later(between(1 * MS, 200 * MS), client_peek, c);
    }
    if (c->peeking)
        return;
    /* A value that is larger than its window must be seen whole, so it is widened. */
    if (end_input(c->end)->len > 0) {
        end_room(c->end, end_input(c->end)->len + 65536);
        client_hear(c);
    }
    if (!c->dead && (end_is_reset(c->end) || end_ended(c->end)))
        client_closed(c);
}

/* ---- clients come and go */

static struct client *client_new(uint32_t number)
{
    struct end *end = world_connect(22121);
    if (end == NULL)
        return NULL;
    struct client *c = keep(sizeof *c);
    c->number = number;
    c->end = end;
    c->unique_key = KEYS_MOST;
    c->next = all.first;
    all.first = c;
    end_own(end, c, client_ready);
    tell("client %u comes", number);
    if (all.manners.password) {
        struct request *r = client_begin(c);
        r->kind = PASSWORD;
        buf_text(&c->out, "*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n");
        client_made(c, r, 0);
    }
    return c;
}

void client_come(uint32_t number)
{
    struct client *c = client_new(number);
    if (c == NULL)
        return;
    c->left = 1 + pick(chance(200) ? 60 : 20);
    c->depth = chance(400) ? 1 : 1 + pick(chance(300) ? 40 : 6);
    c->think = between(1, chance(300) ? 100 * MS : 2 * MS) + 10;
    c->splits = chance(300);
    c->reading = chance(850) ? PROMPT : chance(700) ? LAZY : NEVER;
    c->parting = chance(400) ? CLOSES : (enum parting)pick(5);
    client_step_in(c, between(0, 5 * MS));
    if (c->reading == NEVER)
        c->parting = chance(500) ? VANISHES : LEAVES;
}

/* One that asks for every key, once. */
void client_tour(uint32_t number)
{
    struct client *c = client_new(number);
    if (c == NULL)
        return;
    c->depth = 1;
    c->parting = CLOSES;
    c->excused = true;
    for (uint32_t k = 0; k < all.keys; k++) {
        struct request *r = client_begin(c);
        size_t before = c->out.len;
        r->kind = all.manners.memcached ? MC_GET : GET;
        r->did = DID_READ;
        ask(r, k);
        buf_print(&c->out, "get %s\r\n", key_text(k));
        client_made(c, r, before);
    }
    client_step_in(c, 0);
}

/* One that asks when all is well: each of its requests must be answered, and well. */
void clients_good(uint32_t number)
{
    struct client *c = client_new(number);
    if (c == NULL)
        broken("all is well again, and client %u cannot connect", number);
    c->good = true;
    c->left = 40;
    c->depth = 1 + pick(8);
    c->think = 1 * MS;
    c->parting = SHUTS;
    all.good = c;
    client_step_in(c, 0);
}

bool clients_are_well(void) { return all.good != NULL && all.good->dead && all.good->left == 0 && all.good->open == 0; }

void clients_leave(void)
{
    for (struct client *c = all.first; c != NULL; c = c->next) {
        if (!c->dead && (c->parting == SHUTS || c->parting == VANISHES))
            c->parting = CLOSES;
        client_part(c);
    }
}

/* From time to time: nobody who listens waits longer than its patience. */
static void clients_watch(void *of)
{
    (void)of;
    for (struct client *c = all.first; c != NULL; c = c->next) {
        const struct request *r = c->first;
        if (c->dead || c->reading != PROMPT || r == NULL || r->sent == 0)
            continue;
        uint64_t since = r->sent > c->heard ? r->sent : c->heard;
        if (r->silent || r->quiet || all.manners.patience == 0 || now() < since + all.manners.patience)
            continue;
        broken("client %u waits for the answer to %u (kind %d) since %.3f", c->number, r->number, (int)r->kind,
               (double)since / 1000);
    }
    later(50 * MS, clients_watch, NULL);
}

void clients_begin(const struct manners *manners, uint32_t keys)
{
    memset(&all, 0, sizeof all);
    all.manners = *manners;
    all.keys = keys;
    later(200 * MS, clients_watch, NULL);
}

/* All is well: from now on, so long is long enough. */
void clients_expect(uint64_t patience, bool may_be_closed)
{
    all.manners.patience = patience;
    all.manners.may_be_closed = may_be_closed;
}
