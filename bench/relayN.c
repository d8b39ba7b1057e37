/* relayN.c - a floor: the requests of all clients on one connection to each server, nothing parsed.
 *
 *     relayN PORT SERVERPORT[,SERVERPORT...] REQUEST REPLY [spread]
 *
 * A request always has REQUEST bytes, a reply REPLY bytes.  What came in one turn of the loop leaves in one
 * write for each server, and what comes back in one write for each client.  That is the least that a proxy
 * which shares connections can do.  The n-th client is given to the n-th server, whatever its keys are: so the
 * clients of a server go round together, and there are fewer and larger writes than keys allow.  With `spread`
 * each request goes to the next server, as with keys it does; that is for clients with one request at a time.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define IOVS 1024
#define REPLIES (256 * 1024)    /* bytes of replies read in one turn */
#define ARENA (64u << 20)       /* bytes of requests read in one turn */
#define OWED (1u << 20)         /* requests that one server may owe */
#define CLIENTS 65536

/* What leaves this turn, and what the socket did not take. */
struct out {
    struct iovec *iov;
    int n, cap;
    char *rest;
    size_t off, len, room;
};

struct client {
    bool is_server;
    int fd;
    struct server *server;
    bool closed, queued;
    int owed;
    char *part;                 /* the beginning of a request */
    size_t partlen;
    struct out out;
};

struct server {
    bool is_server;
    int fd;
    struct out out;
    struct client **fifo;
    unsigned head, tail;
    size_t left;                /* of the reply to the client at the head */
    char replies[REPLIES];
};

static int ep, listener, nservers, nclients, ndirty;
static size_t request, reply;
static bool spread;
static unsigned turn;
static struct server *servers[16];
static struct client *dirty[CLIENTS];
static char *arena;
static size_t used;

static void watch(int op, int fd, void *who, unsigned events)
{
    struct epoll_event ev = {.events = events, .data.ptr = who};
    epoll_ctl(ep, op, fd, &ev);
}

static void forget(struct client *c)
{
    free(c->out.iov);
    free(c->out.rest);
    free(c->part);
    free(c);
}

static void add(struct out *o, char *p, size_t len)
{
    struct iovec *last = o->n ? &o->iov[o->n - 1] : NULL;
    if (last && (char *)last->iov_base + last->iov_len == p) {
        last->iov_len += len;
        return;
    }
    if (o->n == o->cap) {
        o->cap = o->cap ? o->cap * 2 : 8;
        o->iov = realloc(o->iov, (size_t)o->cap * sizeof *o->iov);
    }
    o->iov[o->n++] = (struct iovec){p, len};
}

/* Keeps what follows the first `skip` bytes from iov[i] on. */
static void keep(struct out *o, int i, size_t skip)
{
    size_t more = 0;
    for (int j = i; j < o->n; j++)
        more += o->iov[j].iov_len;
    if (o->len + more > o->room) {
        o->len -= o->off;
        if (o->off)
            memmove(o->rest, o->rest + o->off, o->len);
        o->off = 0;
        if (o->len + more > o->room / 2)
            o->rest = realloc(o->rest, o->room = 2 * (o->len + more));
    }
    for (; i < o->n; i++) {
        size_t gone = skip < o->iov[i].iov_len ? skip : o->iov[i].iov_len, left = o->iov[i].iov_len - gone;
        memcpy(o->rest + o->len, (char *)o->iov[i].iov_base + gone, left);
        o->len += left;
        skip -= gone;
    }
}

/* A socket that fails is noticed when it is read. */
static void leave(struct out *o, int fd, void *who)
{
    bool waited = o->len > o->off;
    for (int i = 0; i < o->n;) {
        int m = o->n - i < IOVS ? o->n - i : IOVS;
        size_t want = 0;
        for (int j = i; j < i + m; j++)
            want += o->iov[j].iov_len;
        ssize_t w = -1;
        if (!waited)
            w = m == 1 ? write(fd, o->iov[i].iov_base, want) : writev(fd, o->iov + i, m);
        if (!waited && w == -1 && errno != EAGAIN)
            break;
        if (w < (ssize_t)want) {
            keep(o, i, w == -1 ? 0 : (size_t)w);
            if (!waited)
                watch(EPOLL_CTL_MOD, fd, who, EPOLLIN | EPOLLOUT);
            break;
        }
        i += m;
    }
    o->n = 0;
}

static void leave_rest(struct out *o, int fd, void *who)
{
    while (o->off < o->len) {
        ssize_t w = write(fd, o->rest + o->off, o->len - o->off);
        if (w == -1 && errno == EAGAIN)
            return;
        o->off = w == -1 ? o->len : o->off + (size_t)w;
    }
    o->off = o->len = 0;
    watch(EPOLL_CTL_MOD, fd, who, EPOLLIN);
}

static void from_client(struct client *c)
{
    if (spread && c->owed == 0)
        c->server = servers[turn++ % (unsigned)nservers];
    struct server *s = c->server;
    size_t room = 64 * 1024 + request;
    if (used + room > ARENA)
        return;
    char *p = arena + used;
    if (c->partlen)
        memcpy(p, c->part, c->partlen);
    ssize_t n = read(c->fd, p + c->partlen, room - c->partlen);
    if (n == -1 && errno == EAGAIN)
        return;
    if (n <= 0) {
        c->closed = true;
        close(c->fd);
        if (!c->owed && !c->queued)
            forget(c);
        return;
    }
    size_t have = (size_t)n + c->partlen, whole = have / request;
    c->partlen = have - whole * request;
    if (c->partlen) {
        if (!c->part)
            c->part = malloc(request);
        memcpy(c->part, p + whole * request, c->partlen);
    }
    if (whole == 0)
        return;
    used += whole * request;
    add(&s->out, p, whole * request);
    c->owed += (int)whole;
    if (s->tail - s->head + whole > OWED) {
        fprintf(stderr, "relayN: too many requests at once\n");
        exit(1);
    }
    while (whole-- > 0)
        s->fifo[s->tail++ % OWED] = c;
}

static void from_server(struct server *s)
{
    ssize_t n = read(s->fd, s->replies, REPLIES);
    if (n == -1 && errno == EAGAIN)
        return;
    if (n <= 0) {
        fprintf(stderr, "relayN: a server closed\n");
        exit(1);
    }
    for (char *p = s->replies, *end = p + n; p < end;) {
        if (s->head == s->tail) {
            fprintf(stderr, "relayN: bytes that nobody asked for\n");
            exit(1);
        }
        struct client *c = s->fifo[s->head % OWED];
        if (s->left == 0)
            s->left = reply;
        size_t m = (size_t)(end - p) < s->left ? (size_t)(end - p) : s->left;
        if (!c->closed) {
            add(&c->out, p, m);
            if (!c->queued)
                dirty[ndirty++] = c;
            c->queued = true;
        }
        p += m;
        s->left -= m;
        if (s->left == 0) {
            s->head++;
            if (--c->owed == 0 && c->closed && !c->queued)
                forget(c);
        }
    }
}

static void end_turn(void)
{
    for (int i = 0; i < nservers; i++)
        leave(&servers[i]->out, servers[i]->fd, servers[i]);
    for (int i = 0; i < ndirty; i++) {
        struct client *c = dirty[i];
        c->queued = false;
        if (!c->closed)
            leave(&c->out, c->fd, c);
        else if (!c->owed)
            forget(c);
        else
            c->out.n = 0;
    }
    ndirty = 0;
    used = 0;
}

static void welcome(void)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), one = 1;
    if (fd == -1)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct client *c = calloc(1, sizeof *c);
    c->fd = fd;
    c->server = servers[nclients++ % nservers];
    watch(EPOLL_CTL_ADD, fd, c, EPOLLIN);
}

static void serve(struct client *who, unsigned events)
{
    struct server *s = who->is_server ? (struct server *)who : NULL;
    if (events & EPOLLOUT)
        leave_rest(s ? &s->out : &who->out, who->fd, who);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    if (s)
        from_server(s);
    else
        from_client(who);
}

static bool add_server(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((unsigned short)port)};
    struct server *s = calloc(1, sizeof *s);
    int one = 1;
    s->is_server = true;
    s->fifo = malloc(OWED * sizeof(struct client *));
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(s->fd, (struct sockaddr *)&a, sizeof a) == -1)
        return false;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
    watch(EPOLL_CTL_ADD, s->fd, s, EPOLLIN);
    servers[nservers++] = s;
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 5 && argc != 6)
        return 1;
    spread = argc == 6;
    signal(SIGPIPE, SIG_IGN);
    request = strtoull(argv[3], NULL, 10);
    reply = strtoull(argv[4], NULL, 10);
    arena = malloc(ARENA);
    ep = epoll_create1(0);
    for (char *t = strtok(argv[2], ","); t && nservers < 16; t = strtok(NULL, ","))
        if (!add_server(atoi(t))) {
            perror("relayN: connect");
            return 1;
        }
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((unsigned short)atoi(argv[1]))};
    int one = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) == -1 || listen(listener, 4096) == -1) {
        perror("relayN: listen");
        return 1;
    }
    watch(EPOLL_CTL_ADD, listener, NULL, EPOLLIN);
    for (;;) {
        struct epoll_event events[1024];
        int n = epoll_wait(ep, events, 1024, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr)
                serve(events[i].data.ptr, events[i].events);
            else
                welcome();
        }
        end_turn();
    }
}
