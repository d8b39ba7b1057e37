/* lg.c - a load generator for Redis and memcached proxies: one thread, every reply checked.
 *
 *     lg -p PORT[,PORT...] [OPTIONS]       on 127.0.0.1; prints one JSON object
 *
 *     -c N      connections (50)                   -i N     idle ones beside them, after one request each
 *     -P N      requests that each sends at once   -K N     keys in a request
 *     -d BYTES  size of values: 0, or 8 and more   -k N     how many keys there are (10000)
 *     -w SECS   before measuring (0.5)             -t SECS  measuring (2)
 *     -r N      open loop: N requests a second     -n N     at most so many requests
 *     --mc --set --mget    speak memcached; write; MGET even for one key
 *     --fill               write every key once to every port, and end
 *     --pid NAME:PID       tell that process's CPU time and memory too
 *     --calls              and count the system calls of the first one
 *
 * The value of key N begins with N in eight digits: a reply given to the wrong client, or in the wrong
 * order, is found.  Checked are the length of a reply, its header, that number, and its last two bytes; and
 * that every request is answered, in the end.
 * In the open loop time counts from when a request was due, not from when it was sent, so a proxy that
 * stands still pays for the requests that nobody could send meanwhile.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PORTS 16
#define PROCS 16
#define THREADS 64
#define HEAD 64                 /* bytes of a segment that are looked at */
#define SECOND 1000000000ull
#define STALL (5 * SECOND)      /* without a reply for so long, we give up */

/* A reply is made of segments: one for most; for MGET a header and its values, for get its values and END. */
struct conn {
    int fd;
    uint32_t *keys;             /* of the requests under way, nkeys for each */
    int batch, done;            /* requests sent at once; replies that came */
    uint32_t seg;               /* the segment that comes now */
    uint64_t off;               /* how much of it came */
    uint64_t keysum;
    char head[HEAD];
    char last;                  /* the byte before those that come next */
    uint64_t sent;
    char *out;                  /* what the socket did not take */
    size_t outlen, outoff;
    bool wantout;
};

struct proc {
    char name[32];
    pid_t pid;
    clockid_t clock;
    uint64_t cpu0, cpu1;        /* user and system time of all threads, ns */
    long hwm, rss;              /* KiB */
};

/* What was asked for. */
static uint16_t ports[PORTS];
static int nports;
static bool mc, set, mget, fill, calls;
static int nkeys = 1, pipeline = 1, nconn = 50, nidle;
static uint32_t keyspace = 10000;
static size_t vlen = 100;
static double secs = 2, warm = 0.5, rate;
static uint64_t most = 50000000;
static struct proc procs[PROCS];
static int nprocs;

/* What requests and replies look like. */
static char *value, *obuf;
static size_t reqmax;
static size_t idlen;            /* digits of the key in its value */
static char array[32], bulk[64];
static uint32_t nseg;
static uint64_t arraylen, seglen, endlen;

/* What happens. */
static int ep;
static enum { WARMING, MEASURING, ENDING } phase;
static uint64_t replies, lastreply;
static int owing;               /* connections that wait for replies */
static struct conn **ready;     /* open loop: a ring of connections with nothing to wait for */
static int nready, firstready;
static char rbuf[256 * 1024];

/* Latencies in units of 0.1 us: 256 classes for each power of two, so a class is less than 1 % wide. */
#define CLASSES 256
static uint32_t hist[64 * CLASSES];
static uint64_t maxlat;
static double sumlat;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static _Noreturn void die(const char *fmt, ...)
{
    va_list ap;
    printf("{\"error\": \"");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\"}\n");
    exit(2);
}

static _Noreturn void wrong(const char *what, const char *got, size_t n)
{
    char text[4 * HEAD + 1];
    size_t len = 0;
    for (size_t i = 0; i < n && i < HEAD; i++) {
        unsigned char c = (unsigned char)got[i];
        bool plain = c >= 32 && c < 127 && c != '"' && c != '\\';
        len += (size_t)snprintf(text + len, sizeof text - len, plain ? "%c" : "<%02x>", c);
    }
    text[len] = '\0';
    die("%s, after %llu replies: %s", what, (unsigned long long)replies, text);
}

static uint32_t any_key(void)
{
    static uint64_t x = 0x9e3779b97f4a7c15ull;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (uint32_t)(x >> 32) % keyspace;
}

static void count_latency(uint64_t ns)
{
    uint64_t u = ns / 100;
    int power = 0;
    while (u >> power >= CLASSES)
        power++;
    hist[power * CLASSES + (int)(u >> power)]++;
    sumlat += (double)ns;
    if (ns > maxlat)
        maxlat = ns;
}

static double percentile(double p)
{
    uint64_t total = 0, below = 0;
    for (int i = 0; i < 64 * CLASSES; i++)
        total += hist[i];
    for (int i = 0; i < 64 * CLASSES; i++) {
        below += hist[i];
        if ((double)below > (double)total * p)
            return (double)((uint64_t)(i % CLASSES) << (i / CLASSES)) / 10;
    }
    return (double)maxlat / 1000;
}

/* --- requests and replies ------------------------------------------------- */

static void digits(char *to, uint32_t n)
{
    for (int i = 7; i >= 0; i--, n /= 10)
        to[i] = (char)('0' + n % 10);
}

static char *put(char *to, const char *text)
{
    return stpcpy(to, text);
}

static char *put_key(char *to, uint32_t key)
{
    to = put(to, "key:");
    digits(to, key);
    return to + 8;
}

static char *put_value(char *to, uint32_t key)
{
    memcpy(to, value, vlen + 2);
    if (idlen)
        digits(to, key);
    return to + vlen + 2;
}

static size_t put_request(char *o, const uint32_t *k)
{
    char *p = o;
    if (set) {
        p = put(p, mc ? "set " : "*3\r\n$3\r\nSET\r\n$12\r\n");
        p = put_key(p, *k);
        p += sprintf(p, mc ? " 0 0 %zu\r\n" : "\r\n$%zu\r\n", vlen);
        p = put_value(p, *k);
    } else if (mc) {
        p = put(p, "get");
        for (int i = 0; i < nkeys; i++) {
            *p++ = ' ';
            p = put_key(p, k[i]);
        }
        p = put(p, "\r\n");
    } else {
        p = mget ? p + sprintf(p, "*%d\r\n$4\r\nMGET\r\n", nkeys + 1) : put(p, "*2\r\n$3\r\nGET\r\n");
        for (int i = 0; i < nkeys; i++)
            p = put(put_key(put(p, "$12\r\n"), k[i]), "\r\n");
    }
    return (size_t)(p - o);
}

static void lay_out(void)
{
    arraylen = endlen = 0;
    nseg = 1;
    if (set) {
        seglen = mc ? 8 : 5;
    } else if (mc) {
        seglen = 6 + 12 + (uint64_t)sprintf(bulk, " 0 %zu\r\n", vlen) + vlen + 2;
        endlen = 5;
        nseg = (uint32_t)nkeys + 1;
    } else {
        seglen = (uint64_t)sprintf(bulk, "$%zu\r\n", vlen) + vlen + 2;
        if (mget) {
            arraylen = (uint64_t)sprintf(array, "*%d\r\n", nkeys);
            nseg = (uint32_t)nkeys + 1;
        }
    }
}

static uint64_t segment_length(uint32_t seg)
{
    if (arraylen && seg == 0)
        return arraylen;
    return endlen && seg == nseg - 1 ? endlen : seglen;
}

static bool begins(const struct conn *c, const char *with, size_t len, size_t have)
{
    return memcmp(c->head, with, have < len ? have : len) == 0;
}

/* A proxy may give a memcached client its values in an order of its own, so of these the sum of the keys counts. */
static void check_mc(struct conn *c, const uint32_t *k, size_t have, bool whole)
{
    size_t n = strlen(bulk);
    if (c->seg == nseg - 1) {
        if (!begins(c, "END\r\n", 5, have))
            wrong("no END", c->head, have);
        for (int i = 0; i < nkeys && whole; i++)
            c->keysum -= k[i];
        if (whole && c->keysum != 0)
            wrong("other keys than asked for", c->head, have);
        return;
    }
    if (!begins(c, "VALUE key:", 10, have) ||
        (whole && (memcmp(c->head + 18, bulk, n) != 0 || memcmp(c->head + 18 + n, c->head + 10, idlen) != 0)))
        wrong("not a value", c->head, have);
    for (uint32_t i = 0, id = 0; i < 8 && whole; i++) {
        id = id * 10 + (uint32_t)(c->head[10 + i] - '0');
        c->keysum += i == 7 ? id : 0;
    }
}

/* Looks at the head of a segment, of which `have` bytes came: what is too short is found at once. */
static void check(struct conn *c, size_t have, bool whole)
{
    const uint32_t *k = c->keys + (size_t)c->done * (size_t)nkeys;
    char want[HEAD + 9];
    if (set) {
        if (!begins(c, mc ? "STORED\r\n" : "+OK\r\n", seglen, have))
            wrong("not stored", c->head, have);
    } else if (mc) {
        check_mc(c, k, have, whole);
    } else if (arraylen && c->seg == 0) {
        if (!begins(c, array, arraylen, have))
            wrong("not the array", c->head, have);
    } else {
        size_t n = strlen(bulk);
        memcpy(want, bulk, n);
        digits(want + n, k[c->seg - (arraylen ? 1 : 0)]);
        if (!begins(c, want, n + idlen, have))
            wrong("not the value", c->head, have);
    }
}

static bool is_error(const char *p, size_t n)
{
    if (!mc)
        return p[0] == '-';
    return n > 1 && (memcmp(p, "SE", 2) == 0 || memcmp(p, "ER", 2) == 0 || memcmp(p, "CL", 2) == 0);
}

/* Takes n bytes of replies, and tells how many replies they complete. */
static int take(struct conn *c, const char *p, size_t n)
{
    int finished = 0;
    while (n > 0) {
        uint64_t len = segment_length(c->seg), left = len - c->off;
        size_t m = n < left ? n : (size_t)left, head = len < HEAD ? (size_t)len : HEAD;
        if (c->done == c->batch)
            wrong("bytes that nobody asked for", p, n);
        if (c->off == 0 && is_error(p, n))
            wrong("an error", p, n);
        if (c->off < head) {
            size_t h = head - c->off < m ? head - c->off : m;
            memcpy(c->head + c->off, p, h);
            check(c, c->off + h, c->off + h == head);
        }
        c->off += m;
        if (m == left) {
            if (p[m - 1] != '\n' || (m > 1 ? p[m - 2] : c->last) != '\r')
                wrong("no end of line where one belongs", p, m);
            c->off = 0;
            if (++c->seg == nseg) {
                c->seg = 0;
                c->done++;
                finished++;
            }
        }
        c->last = p[m - 1];
        p += m;
        n -= m;
    }
    return finished;
}

/* --- connections ------------------------------------------------------------ */

static void send_rest(struct conn *c)
{
    while (c->outoff < c->outlen) {
        ssize_t n = send(c->fd, c->out + c->outoff, c->outlen - c->outoff, MSG_NOSIGNAL);
        if (n == -1 && errno == EAGAIN)
            break;
        if (n == -1)
            die("send: %s", strerror(errno));
        c->outoff += (size_t)n;
    }
    bool want = c->outoff < c->outlen;
    if (want != c->wantout) {
        struct epoll_event ev = {.events = EPOLLIN | (want ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
        c->wantout = want;
    }
}

/* Sends n requests, for the keys from `first` on if it is not negative. */
static void send_batch(struct conn *c, int n, int64_t first, uint64_t due)
{
    size_t len = 0;
    c->batch = n;
    c->done = 0;
    for (int i = 0; i < n; i++) {
        uint32_t *k = c->keys + (size_t)i * (size_t)nkeys;
        for (int j = 0; j < nkeys; j++)
            k[j] = first >= 0 ? (uint32_t)first + (uint32_t)i : any_key();
        len += put_request(obuf + len, k);
    }
    c->sent = due ? due : now_ns();
    ssize_t w = send(c->fd, obuf, len, MSG_NOSIGNAL);
    if (w == -1 && errno != EAGAIN)
        die("send: %s", strerror(errno));
    size_t took = w > 0 ? (size_t)w : 0;
    if (took < len) {
        if (!c->out)
            c->out = malloc(reqmax * (size_t)pipeline);
        memcpy(c->out, obuf + took, len - took);
        c->outlen = len - took;
        c->outoff = 0;
        send_rest(c);
    }
}

static void open_conn(struct conn *c, int number)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(ports[number % nports]),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct linger reset = {1, 0};       /* leaves no TIME_WAIT behind */
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd == -1)
        die("socket: %s", strerror(errno));
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a) == -1)
        die("connect: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!fill)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->keys = calloc((size_t)pipeline * (size_t)nkeys, sizeof *c->keys);
}

/* One batch and its replies, with nobody else about. */
static void exchange(struct conn *c, int n, int64_t first)
{
    send_batch(c, n, first, 0);
    while (c->done < c->batch) {
        if (c->outoff < c->outlen)
            send_rest(c);
        ssize_t r = recv(c->fd, rbuf, sizeof rbuf, 0);
        if (r == 0)
            die("connection closed by peer");
        if (r > 0) {
            take(c, rbuf, (size_t)r);
        } else if (errno == EAGAIN) {
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
        } else {
            die("recv: %s", strerror(errno));
        }
    }
}

static void fill_all(void)
{
    for (int i = 0; i < nports; i++) {
        struct conn c = {0};
        open_conn(&c, i);
        for (uint32_t k = 0; k < keyspace; k += (uint32_t)pipeline)
            exchange(&c, (int)(keyspace - k < (uint32_t)pipeline ? keyspace - k : (uint32_t)pipeline), k);
        close(c.fd);
    }
    printf("{\"filled\": %u}\n", keyspace);
}

/* --- the processes that are watched ---------------------------------------- */

static uint64_t cpu_ns(const struct proc *p)
{
    struct timespec t;
    if (clock_gettime(p->clock, &t) == -1)
        die("%s is gone", p->name);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void read_memory(struct proc *p)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", p->pid);
    FILE *f = fopen(path, "r");
    if (!f)
        die("%s is gone", p->name);
    while (fgets(line, sizeof line, f)) {
        sscanf(line, "VmHWM: %ld", &p->hwm);
        sscanf(line, "VmRSS: %ld", &p->rss);
    }
    fclose(f);
}

/* System calls are counted by a tracepoint of the kernel, for each thread. */
static int counters[THREADS], ncounters;
static uint64_t counted;
static const char *uncounted;   /* why there is no count */

static unsigned long long tracepoint(void)
{
    unsigned long long id = 0;
    FILE *f = fopen("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id", "r");
    if (!f || fscanf(f, "%llu", &id) != 1)
        uncounted = "the tracepoint cannot be read";
    if (f)
        fclose(f);
    return id;
}

static void open_counters(pid_t pid)
{
    struct perf_event_attr a = {.size = sizeof a, .type = PERF_TYPE_TRACEPOINT, .disabled = 1, .config = tracepoint()};
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    if (!dir)
        die("process %d is gone", pid);
    for (struct dirent *d; !uncounted && (d = readdir(dir)) != NULL;) {
        if (d->d_name[0] == '.')
            continue;
        if (ncounters == THREADS) {
            uncounted = "too many threads";
            break;
        }
        int fd = (int)syscall(SYS_perf_event_open, &a, atoi(d->d_name), -1, -1, 0);
        if (fd == -1)
            uncounted = strerror(errno);
        else
            counters[ncounters++] = fd;
    }
    closedir(dir);
}

static void control_counters(unsigned long request)
{
    for (int i = 0; i < ncounters; i++)
        ioctl(counters[i], request, 0);
}

static void read_counters(void)
{
    for (int i = 0; i < ncounters; i++) {
        uint64_t n = 0;
        if (read(counters[i], &n, sizeof n) != sizeof n)
            uncounted = strerror(errno);
        counted += n;
    }
    if (!uncounted && counted == 0)
        uncounted = "the tracepoint counted nothing";
}

/* --- the load ---------------------------------------------------------------- */

static void begin_window(void)
{
    for (int i = 0; i < nprocs; i++)
        procs[i].cpu0 = cpu_ns(&procs[i]);
    if (calls) {
        open_counters(procs[0].pid);
        control_counters(PERF_EVENT_IOC_ENABLE);
    }
    phase = MEASURING;
    replies = 0;
}

static void end_window(void)
{
    phase = ENDING;
    control_counters(PERF_EVENT_IOC_DISABLE);
    for (int i = 0; i < nprocs; i++)
        procs[i].cpu1 = cpu_ns(&procs[i]);
    for (int i = 0; i < nprocs; i++)
        read_memory(&procs[i]);
    if (calls)
        read_counters();
}

static void next_batch(struct conn *c)
{
    if (phase == ENDING)
        return;
    if (rate > 0) {
        ready[(firstready + nready++) % nconn] = c;
    } else {
        send_batch(c, pipeline, -1, 0);
        owing++;
    }
}

/* Sends what is due, each on the connection that has rested longest; tells when the next is due. */
static uint64_t send_due(uint64_t now, uint64_t start, uint64_t *sent)
{
    for (;;) {
        uint64_t due = start + (uint64_t)((double)*sent * (double)SECOND / rate);
        if (due > now || nready == 0)
            return due;
        struct conn *c = ready[firstready];
        firstready = (firstready + 1) % nconn;
        nready--;
        send_batch(c, 1, -1, due);
        owing++;
        ++*sent;
    }
}

static void serve(struct conn *c)
{
    for (int turns = 0; turns < 8; turns++) {
        ssize_t r = recv(c->fd, rbuf, sizeof rbuf, 0);
        if (r == -1 && errno == EAGAIN)
            return;
        if (r == -1)
            die("recv: %s", strerror(errno));
        if (r == 0)
            die("connection closed by peer");
        int n = take(c, rbuf, (size_t)r);
        if (n > 0) {
            lastreply = now_ns();
            if (phase != ENDING)
                replies += (uint64_t)n;
            for (int i = 0; i < n && phase == MEASURING; i++)
                count_latency(lastreply > c->sent ? lastreply - c->sent : 0);
        }
        if (c->done == c->batch) {
            owing--;
            next_batch(c);
            return;
        }
        if ((size_t)r < sizeof rbuf)
            return;
    }
}

/* Runs the load, waits for the last replies, and returns for how many seconds was measured. */
static double drive(struct conn *cs)
{
    uint64_t start = now_ns(), window = 0, sent = 0, now = start;
    double seconds = 0;
    for (int i = 0; i < nconn; i++)
        next_batch(&cs[i]);
    lastreply = start;
    while (phase != ENDING || owing > 0) {
        struct epoll_event ev[256];
        struct timespec wait = {.tv_nsec = 100000000};
        if (rate > 0 && phase != ENDING) {
            uint64_t due = send_due(now, start, &sent);
            if (nready > 0 && due - now < (uint64_t)wait.tv_nsec)
                wait.tv_nsec = (long)(due - now);
        }
        int n = (int)syscall(SYS_epoll_pwait2, ep, ev, 256, &wait, NULL, 8);
        if (n == -1)
            die("epoll_pwait2: %s", strerror(errno));
        now = now_ns();
        if (now > lastreply + STALL)
            die("no reply for 5 s, after %llu; %d clients wait", (unsigned long long)replies, owing);
        if (phase == MEASURING && (now >= window + (uint64_t)(secs * 1e9) || replies >= most)) {
            end_window();
            seconds = (double)(now - window) / 1e9;
        }
        if (phase == WARMING && now >= start + (uint64_t)(warm * 1e9)) {
            begin_window();
            window = now = now_ns();
        }
        for (int i = 0; i < n; i++) {
            struct conn *c = ev[i].data.ptr;
            if (ev[i].events & EPOLLOUT)
                send_rest(c);
            if (ev[i].events & ~(unsigned)EPOLLOUT)
                serve(c);
        }
    }
    return seconds;
}

static void tell(double seconds)
{
    if (replies == 0)
        die("no reply while it was measured");
    double n = (double)replies;
    printf("{\"secs\": %.4f, \"requests\": %llu, \"rps\": %.1f,\n", seconds, (unsigned long long)replies,
           (double)replies / seconds);
    printf(" \"lat_us\": {\"mean\": %.1f, \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f},\n",
           sumlat / n / 1000, percentile(0.5), percentile(0.99), percentile(0.999), (double)maxlat / 1000);
    printf(" \"procs\": {");
    for (int i = 0; i < nprocs; i++) {
        const struct proc *p = &procs[i];
        double cpu = (double)(p->cpu1 - p->cpu0) / 1e9;
        printf("%s\n  \"%s\": {\"cpu_us\": %.4f, \"cores\": %.4f, \"hwm_kb\": %ld, \"rss_kb\": %ld}", i ? "," : "",
               p->name, cpu * 1e6 / n, cpu / seconds, p->hwm, p->rss);
    }
    printf("}");
    if (calls && uncounted)
        printf(",\n \"uncounted\": \"%s\"", uncounted);
    else if (calls)
        printf(",\n \"calls\": %.4f", (double)counted / n);
    printf("}\n");
}

/* --- options -------------------------------------------------------------------- */

static void add_proc(const char *name, int len, pid_t pid)
{
    if (nprocs == PROCS)
        die("too many processes");
    struct proc *p = &procs[nprocs++];
    snprintf(p->name, sizeof p->name, "%.*s", len, name);
    p->pid = pid;
    if (clock_getcpuclockid(pid, &p->clock) != 0)
        die("there is no process %d", (int)pid);
}

static void take_options(int argc, char **argv)
{
    static const struct option longer[] = {
        {"mc", 0, 0, 'M'}, {"set", 0, 0, 'S'}, {"mget", 0, 0, 'G'}, {"fill", 0, 0, 'F'},
        {"calls", 0, 0, 'C'}, {"pid", 1, 0, 'I'}, {0, 0, 0, 0}};
    for (int ch; (ch = getopt_long(argc, argv, "p:c:i:P:K:d:k:w:t:r:n:", longer, NULL)) != -1;)
        switch (ch) {
        case 'M': mc = true; break;
        case 'S': set = true; break;
        case 'G': mget = true; break;
        case 'F': fill = true; break;
        case 'C': calls = true; break;
        case 'I': add_proc(optarg, (int)strcspn(optarg, ":"), atoi(optarg + strcspn(optarg, ":") + 1)); break;
        case 'p':
            for (char *s = strtok(optarg, ","); s && nports < PORTS; s = strtok(NULL, ","))
                ports[nports++] = (uint16_t)atoi(s);
            break;
        case 'c': nconn = atoi(optarg); break;
        case 'i': nidle = atoi(optarg); break;
        case 'P': pipeline = atoi(optarg); break;
        case 'K': nkeys = atoi(optarg); break;
        case 'd': vlen = strtoul(optarg, NULL, 10); break;
        case 'k': keyspace = (uint32_t)atoi(optarg); break;
        case 'w': warm = atof(optarg); break;
        case 't': secs = atof(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 'n': most = strtoull(optarg, NULL, 10); break;
        default: exit(1);
        }
    if (nports == 0 || (vlen > 0 && vlen < 8) || nconn < 1 || pipeline < 1 || nkeys < 1 || keyspace < 1 ||
        (calls && nprocs == 0)) {
        fprintf(stderr, "usage: the head of lg.c tells it\n");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    take_options(argc, argv);
    /* Whatever hangs, this ends. */
    alarm((unsigned)(warm + secs) + 80);
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    if (fill) {
        set = true;
        nkeys = 1;
        pipeline = vlen > 100000 ? 1 : 16;
    }
    if (rate > 0)
        pipeline = 1;
    mget = !mc && (mget || nkeys > 1);
    idlen = vlen ? 8 : 0;
    ep = epoll_create1(EPOLL_CLOEXEC);
    value = malloc(vlen + 2);
    for (size_t i = 0; i < vlen; i++)
        value[i] = (char)('a' + i % 26);
    memcpy(value + vlen, "\r\n", 2);
    reqmax = 64 + (size_t)nkeys * 20 + (set ? vlen + 64 : 0);
    obuf = malloc(reqmax * (size_t)pipeline);
    lay_out();
    if (fill) {
        fill_all();
        return 0;
    }
    add_proc("lg", 2, getpid());
    struct conn *idle = calloc((size_t)nidle + 1, sizeof *idle), *cs = calloc((size_t)nconn, sizeof *cs);
    ready = calloc((size_t)nconn, sizeof(struct conn *));
    for (int i = 0; i < nidle; i++) {
        open_conn(&idle[i], i);
        exchange(&idle[i], 1, -1);
    }
    for (int i = 0; i < nconn; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &cs[i]};
        open_conn(&cs[i], i);
        epoll_ctl(ep, EPOLL_CTL_ADD, cs[i].fd, &ev);
    }
    tell(drive(cs));
    return 0;
}
