/* history.c - one history: a configuration, weather, servers and clients, and how it ends.
 *
 *   storm    clients come and go, servers fail, the weather is what was chosen
 *   calm     servers are well, the weather is good; the proxy has time to find that out
 *   proof    a client asks for every kind of thing, and each answer must be good
 *   end      clients leave, the process is told to end, and leaves nothing behind */
#include "kernel.h"
#include "sim.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct {
    uint32_t output, servers, keys, workers, clients, number, lanes;
    bool     memcached, eject, loses, resolves, reloads, stats, password, shortage, leaving;
    const char *hash, *spread;

    uint64_t timeout, patience;
    size_t   memory;
    int      fds;
    char     conf[4096];
    int      status;
} h;

static uint32_t any_of(const uint32_t *of, uint32_t n) { return of[pick(n)]; }

/* ---- the configuration */

/* The servers of the pool, in some order; not all of them, when it is `another` configuration. */
static void write_servers(struct buf *b, bool another)
{
    uint32_t order[SERVERS_MOST], n = h.servers;
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    if (another && chance(700))
        n = 1 + pick(n);
    buf_print(b, "servers =\n");
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = another ? i + pick(h.servers - i) : i, one = order[at];
        order[at] = order[i];
        buf_print(b, "    %s\n", server_place(one));
    }
}

static void write_conf(bool another)
{
    struct buf b = {0};
    buf_print(&b, "[nutproxy]\nworkers = %u\nstats = %s\nlog_level = %s\nmax_memory = %zu\n\n", h.workers,
              h.stats ? "127.0.0.1:22222" : "off", tracing ? "info" : "warn", h.memory);
    buf_print(&b, "[%s]\nlisten = 127.0.0.1:22121\nprotocol = %s\n", another && chance(200) ? "beta" : "alpha",
              h.memcached ? "memcached" : "redis");
    buf_print(&b, "hash = %s\ndistribution = %s\n", h.hash, h.spread);
    if (h.password)
        buf_print(&b, "redis_auth = secret\n");
    buf_print(&b, "timeout = %u\n", (unsigned)(h.timeout / MS));
    buf_print(&b, "auto_eject_hosts = %s\n", h.eject ? "true" : "false");
    buf_print(&b, "server_failure_limit = %u\nserver_retry_timeout = %u\nprobe_interval = %u\n",
              (servers_are_named() ? 2 : 1) + pick(3),
              (unsigned)between(50, 2000), (unsigned)between(20, 1000));
    buf_print(&b, "server_connections = %u\n", h.lanes);
    h.resolves = chance(500);
    buf_print(&b, "resolve_interval = %u\nconnect_timeout = %u\n", h.resolves ? (unsigned)between(100, 3000) : 0,
              chance(500) ? 2000 : (unsigned)between(20, 1000));
    if (chance(200))
        buf_print(&b, "health_rise = %u\n", 1 + pick(4));
    if (chance(200))
        buf_print(&b, "eject_limit = %u\n", pick(101));
    if (chance(150))
        buf_print(&b, "max_queued = %u\n", 1 + pick(chance(500) ? 10 : 100));
    if (h.output > 0)
        buf_print(&b, "client_output_limit = %u\n", h.output);
    if (chance(200))
        buf_print(&b, "preconnect = true\n");
    if (!h.memcached && chance(100))
        buf_print(&b, "redis_db = 3\n");
    write_servers(&b, another);
    if (b.len >= sizeof h.conf)
        broken("the configuration is too long");
    memcpy(h.conf, buf_at(&b), b.len);
    h.conf[b.len] = '\0';
    buf_free(&b);
    kernel_file("sim.ini", h.conf);
    kernel_file("/etc/resolv.conf", "nameserver 10.0.0.53\noptions timeout:1 attempts:2\n");
    tell("the configuration:\n%s", h.conf);
}

static void choose_weather(void)
{
    weather = (struct weather){.delay_most = between(0, chance(200) ? 50 * MS : 2 * MS)};
    weather.no_name = chance(500) ? 100 : 0;
    weather.cut = chance(500) ? pick(600) : 0;
    weather.slow_turn = chance(200) ? pick(20) : 0;
    weather.interrupted = chance(300) ? pick(40) : 0;
    weather.again = chance(300) ? pick(40) : 0;
    weather.few_events = chance(400) ? pick(700) : 0;
    if (chance(200))
        weather.no_memory = 1 + pick(20);
    if (chance(100))
        weather.no_watch = 1 + pick(20);
    if (chance(100))
        weather.no_socket = 1 + pick(100);
}

/* ---- the storm */

static void come(void *of)
{
    (void)of;
    if (h.leaving || h.number >= h.clients || !choices_left())
        return;
    if (!kernel_has_signals()) {
        later(1 * MS, come, NULL);
        return;
    }
    client_come(h.number++);
    later(between(0, chance(300) ? SECOND : 20 * MS), come, NULL);
}

static void trouble(void *of)
{
    (void)of;
    uint32_t n = pick(h.servers);
    if (h.leaving || !choices_left())
        return;
    if (chance(100))
        server_restart(n);
    else if (chance(100))
        server_rename(n, false);
    else
        server_be(n, chance(400) ? WELL : (enum mood)pick(h.loses ? MOODS : LOST));
    later(between(1 * MS, chance(500) ? 100 * MS : 3 * SECOND), trouble, NULL);
}

static void reload(void *of)
{
    (void)of;
    if (h.leaving || !choices_left() || !kernel_has_signals())
        return;
    write_conf(true);
    kernel_signal(SIGUSR1);
    later(between(1 * MS, chance(700) ? 50 * MS : 4 * SECOND), reload, NULL);
}

/* ---- who reads the stats */

struct reader { struct end *end; size_t got; bool done; };

static void reader_ready(void *of)
{
    struct reader *r = of;
    r->got += end_input(r->end)->len;
    end_took(r->end, end_input(r->end)->len);
    if (r->done || (!end_ended(r->end) && !end_is_reset(r->end)))
        return;
    if (r->got < 100 && !h.shortage)
        broken("the stats are told in %zu bytes", r->got);
    r->done = true;
    end_close(r->end);
}

static void reader_check(void *of)
{
    const struct reader *r = of;
    if (!r->done && !h.shortage)
        broken("who asks for the stats waits for ever, or for 20 s");
}

static void read_stats(void *of)
{
    static const char *const asks[] = {"", "GET / HTTP/1.0\r\n\r\n", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"};
    (void)of;
    if (h.leaving || !choices_left())
        return;
    struct end *end = kernel_has_signals() ? world_connect(22222) : NULL;
    if (end != NULL) {
        struct reader *r = keep(sizeof *r);
        const char *text = asks[pick(3)];
        r->end = end;
        end_own(end, r, reader_ready);
        end_say(end, text, strlen(text));
        later(20 * SECOND, reader_check, r);
    }
    later(between(1 * MS, chance(500) ? 20 * MS : SECOND), read_stats, NULL);
}

/* ---- calm, proof, end */

static void end(void *of);
static void proof(void *of);

static void leave(void *of)
{
    (void)of;
    clients_leave();
}

/* A connection that was lost, which nobody was told, is found out by who asks on it. */
static void warm(void *of)
{
    (void)of;
    if (h.loses || servers_are_named())
        client_tour(CLIENTS_MOST - 2);
}

static void calm(void *of)
{
    (void)of;
    tell("-- calm");
    h.leaving = true;
    weather = (struct weather){.delay_most = 200};
    for (uint32_t i = 0; i < h.servers; i++) {
        server_be(i, WELL);
        server_rename(i, true);
    }
    kernel_limit(h.fds, 0);
    later(10 * SECOND, leave, NULL);
    later(30 * SECOND, warm, NULL);
    later(60 * SECOND, proof, NULL);
}

static void proof_check(void *of)
{
    (void)of;
    if (!clients_are_well() && h.memory == 0 && h.output == 0)
        broken("all is well again since %u s, and a client has not had its answers", 60 + 20);
    end(NULL);
}

static void proof(void *of)
{
    (void)of;
    tell("-- proof");
    clients_expect(h.patience, h.memory > 0 || h.output > 0);
    clients_good(CLIENTS_MOST - 1);
    later(20 * SECOND, proof_check, NULL);
}

static void ended(void *of)
{
    (void)of;
    if (kernel_has_signals())
        broken("the process was told to end, and does not");
}

static void end(void *of)
{
    (void)of;
    tell("-- end");
    clients_leave();
    clients_expect(0, true);
    kernel_signal(SIGTERM);
    later(20 * SECOND, ended, NULL);
}

/* ---- whole */

static void choose(void)
{
    static const uint32_t servers[] = {1, 2, 3, 4, 6}, workers[] = {1, 1, 1, 1, 2, 3};
    static const char *const hashes[] = {"fnv1a_64", "md5", "crc32a", "murmur"};
    static const uint32_t timeouts[] = {50, 200, 400, 1000, 2000};
    memset(&h, 0, sizeof h);
    h.memcached = chance(500);
    h.servers = any_of(servers, 5);
    h.workers = any_of(workers, 6);
    h.keys = 4 + pick(KEYS_MOST - 4);
    h.clients = 1 + pick(chance(200) ? CLIENTS_MOST - 2 : 12);
    h.eject = chance(400);
    h.reloads = chance(200);
    h.stats = chance(150);
    h.output = chance(50) ? (64 << 10) + pick(100000) : 0;
    h.password = !h.memcached && chance(150);
    h.hash = hashes[pick(4)];
    h.spread = chance(700) ? "ketama" : "modula";
    h.timeout = any_of(timeouts, 5) * (uint64_t)MS;
    h.lanes = chance(700) ? 1 : 1 + pick(3);
    h.loses = h.workers == 1 && h.lanes == 1 && h.output == 0 && chance(300);
    h.memory = chance(150) ? (size_t)between(1, 4) * h.workers << 20 : 0;
    h.fds = chance(100) ? (int)(2 * (32 + h.workers * h.servers * (2 * h.lanes + 1)) + pick(20)) : 1024;
}

void history_run(void)
{
    char *argv[] = {"nutproxy", "-c", "sim.ini", NULL};
    kernel_begin();
    nutproxy_reset();
    choose();
    choose_weather();
    bool troubled = chance(850);
    servers_begin(h.memcached, h.servers, h.workers == 1 && h.output == 0, h.password);
    truth_begin(h.servers, h.keys, CLIENTS_MOST, h.eject || h.reloads);
    bool few = weather.no_watch > 0 || weather.no_socket > 0 || h.fds < 1024;      /* some may wait outside */
    h.shortage = few || weather.no_memory > 0 || h.memory > 0 || h.output > 0;
    bool large = h.timeout >= SECOND && (h.memory > 0 || chance(300));
    /* Where the process is not held up, and nothing large is on its way, answers are there in time. */
    h.patience = h.timeout + (weather.slow_turn > 0 || large ? 3 * SECOND : 300 * MS + 50 * weather.delay_most);
    struct manners manners = {.memcached = h.memcached, .may_be_closed = h.shortage,
                              .password = h.password, .patience = few ? 0 : h.patience,
                              .pad_most = large ? 200000 : 3000,
                              .large = large && chance(500) ? 300 : 30,
                              .hello = h.memcached || chance(500) ? 0 : chance(500) ? 10 : 100};
    kernel_windows(manners.pad_most > 10000 ? 4096 : 300);
    clients_begin(&manners, h.keys);
    write_conf(false);
    kernel_limit(h.fds, h.memory > 0 ? h.memory + (h.reloads || h.stats ? 1024u << 10 : 256u << 10) : 0);
    later(between(0, 20 * MS), come, NULL);
    if (troubled)
        later(between(0, 200 * MS), trouble, NULL);
    if (h.reloads)
        later(between(0, 100 * MS), reload, NULL);
    if (h.stats)
        later(between(0, SECOND), read_stats, NULL);
    later(between(1, 15) * SECOND, calm, NULL);
    h.status = kernel_run(nutproxy_main, 3, argv);
    if (h.status != 0)
        broken("the process ends with status %d", h.status);
    if (kernel_sockets() > 0)
        broken("the process leaves %d connections open", kernel_sockets());
    if (kernel_memory() > 0 && !(servers_are_named() && h.resolves) && !kernel_asks_names())    /* it is in a lookup */
        broken("the process leaves %zu bytes of memory", kernel_memory());
    servers_end();
    truth_end();
    kernel_end();
}
