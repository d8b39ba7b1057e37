/* instructions.c - what one request costs in nutproxy itself, without the kernel.
 *
 *     instructions SHAPE N
 *
 * includes nutproxy.c and sends N requests of a shape through a pool of four servers whose connections
 * are no sockets: from a client's bytes (scan, route, split) to the servers' queues, and from the servers'
 * replies (scan, merge) to the client's.  count.sh runs it under callgrind, which counts instructions.
 */
#include "../nutproxy.c"

static const char configuration[] =
    "[alpha]\nlisten = 127.0.0.1:1\nprotocol = %s\nhash = fnv1a_64\nservers =\n"
    "    127.0.0.1:1:1 one\n    127.0.0.1:2:1 two\n    127.0.0.1:3:1 three\n    127.0.0.1:4:1 four\n";

#define VALUE "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

static const struct shape_row { const char *name; bool redis, write; uint32_t keys; } shapes[] = {
    /* name           redis  write  keys */
    { "redis-get",    true,  false, 1   },
    { "redis-set",    true,  true,  1   },
    { "redis-mget10", true,  false, 10  },
    { "redis-mget100", true, false, 100 },
    { "redis-mset10", true,  true,  10  },
    { "mc-get",       false, false, 1   },
    { "mc-set",       false, true,  1   },
    { "mc-get16",     false, false, 16  },
    { "mc-get100",    false, false, 100 },
};

struct stage {
    const struct shape_row *shape;
    struct worker           worker;
    struct setup            setup;
    struct crowd            crowd, *crowds;
    struct pool            *pool;
    struct client           client;
    struct lane_conn        lane[4];
    char                    request[32768], reply[4][32768];
    size_t                  request_len, reply_len[4];
};

/* Key `k` of the request in *key, and the server it goes to. */
static uint32_t key_of(const struct stage *s, uint32_t k, char key[16])
{
    struct bytes b = {key, text_in(key, 16, "key:%08u", k * 7919)};
    return pool_pick(s->pool, b);
}

static void put(char *to, size_t *len, const char *format, const char *key)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    *len += text_in(to + *len, 32768 - *len, format, key);
#pragma GCC diagnostic pop
}

static void write_redis(struct stage *s)
{
    uint32_t n = s->shape->keys, of[4] = {0};
    char key[16], *to = s->request;
    size_t *len = &s->request_len;
    const char *verb = n > 1 ? (s->shape->write ? "$4\r\nMSET\r\n" : "$4\r\nMGET\r\n")
                             : s->shape->write ? "$3\r\nSET\r\n" : "$3\r\nGET\r\n";
    *len = text_in(to, 32768, "*%u\r\n%s", 1 + n * (s->shape->write ? 2 : 1), verb);
    for (uint32_t k = 0; k < n; k++) {
        of[key_of(s, k, key)]++;
        put(to, len, s->shape->write ? "$12\r\n%s\r\n$100\r\n" VALUE "\r\n" : "$12\r\n%s\r\n", key);
    }
    for (uint32_t i = 0; i < 4; i++) {
        if (of[i] == 0)
            continue;
        if (n > 1 && !s->shape->write)
            s->reply_len[i] = text_in(s->reply[i], 32768, "*%u\r\n", of[i]);
        for (uint32_t k = 0; k < (s->shape->write ? 1 : of[i]); k++)
            put(s->reply[i], &s->reply_len[i], s->shape->write ? "+OK\r\n%s" : "$100\r\n" VALUE "\r\n%s", "");
    }
}

static void write_memcached(struct stage *s)
{
    char key[16];
    if (s->shape->write) {
        uint32_t i = key_of(s, 0, key);
        put(s->request, &s->request_len, "set %s 0 0 100\r\n" VALUE "\r\n", key);
        put(s->reply[i], &s->reply_len[i], "%s\r\n", "STORED");
        return;
    }
    put(s->request, &s->request_len, "%s", "get");
    for (uint32_t k = 0; k < s->shape->keys; k++) {
        uint32_t i = key_of(s, k, key);
        put(s->request, &s->request_len, " %s", key);
        put(s->reply[i], &s->reply_len[i], "VALUE %s 0 100\r\n" VALUE "\r\n", key);
    }
    put(s->request, &s->request_len, "%s", "\r\n");
    for (uint32_t i = 0; i < 4; i++)
        if (s->reply_len[i] > 0)
            put(s->reply[i], &s->reply_len[i], "%s", "END\r\n");
}

/* A connection that is open as far as the rooms above CONN can see. */
static void open_conn(struct conn *c, struct loop *l, const struct role *role)
{
    c->watch = (struct watch){.loop = l, .fd = -1, .want = SEES_IN};
    c->role = role;
}

static void open_stage(struct stage *s)
{
    struct worker *w = &s->worker;
    char text[512];
    size_t len = text_in(text, sizeof text, configuration, s->shape->redis ? "redis" : "memcached");
    s->setup.conf.mem.most = w->loop.mem.most = SIZE_MAX;
    must(conf_read(&s->setup.conf, "shape", (struct bytes){text, len}));
    s->crowds = &s->crowd;
    s->setup.crowd = &s->crowds;
    list_init(&w->loop.dirty[0]);
    list_init(&w->loop.dirty[1]);
    list_init(&w->loop.again);
    nut_lexicon_build(&w->lexicon, NULL, 0);
    w->crew = w;
    w->crew_size = 1;
    s->pool = pool_new(w, &s->setup, s->setup.conf.pool);
    must(s->pool != NULL);
    for (uint32_t i = 0; i < 4; i++) {
        open_conn(&s->lane[i].conn, &w->loop, &lane_role);
        s->lane[i].lane = &s->pool->server[i].lane[0];
        s->lane[i].lane->conn = &s->lane[i].conn;
    }
    open_conn(&s->client.conn, &w->loop, &client_role);
    s->client.pool = s->pool;
    s->client.known = true;
    client_expect(&s->client, 200);
    list_init(&s->client.waiting);
}

/* What the end of a turn does, but for the kernel's part. */
static void forget(struct conn *c)
{
    if (list_linked(&c->todo))
        list_cut(&c->todo);
    nut_queue_free(&c->watch.loop->mem, &c->out);
}

static void one_request(struct stage *s)
{
    must(client_bytes(&s->client.conn, (struct bytes){s->request, s->request_len}) == s->request_len);
    for (uint32_t i = 0; i < 4; i++)
        if (s->reply_len[i] > 0) {
            must(s->lane[i].conn.out.len > 0);
            forget(&s->lane[i].conn);
            must(lane_bytes(&s->lane[i].conn, (struct bytes){s->reply[i], s->reply_len[i]}) == s->reply_len[i]);
        }
    must(s->client.conn.out.len > 0 && s->client.requests == 0);
    forget(&s->client.conn);
}

int main(int argc, char **argv)
{
    static struct stage stage;
    uint64_t n = 0;
    (void)house_main;
    (void)options_read;
    (void)tool_named;
    if (argc == 1)
        for (size_t i = 0; i < countof(shapes); i++)
            puts(shapes[i].name);
    if (argc != 3 || !number_read(bytes_of(argv[2]), UINT32_MAX, &n))
        return argc != 1;
    for (size_t i = 0; i < countof(shapes); i++)
        if (strcmp(argv[1], shapes[i].name) == 0)
            stage.shape = &shapes[i];
    if (stage.shape == NULL)
        return 1;
    open_stage(&stage);
    if (stage.shape->redis)
        write_redis(&stage);
    else
        write_memcached(&stage);
    for (uint64_t i = 0; i < n; i++)
        one_request(&stage);
    return 0;
}
