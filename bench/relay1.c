/* relay1.c - a floor: a connection to a server for each client, bytes copied both ways, nothing parsed.
 *
 *     relay1 PORT SERVERPORT[,SERVERPORT...]
 *
 * One read and one write for each direction is the least that a proxy without sharing can do.
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
#include <unistd.h>

#define BUFFER (64 * 1024)
#define EVENTS 512

/* A client and its server are the two sides of one allocation. */
struct side {
    int fd;
    struct side *peer;
    char *rest;                 /* what the socket did not take yet */
    size_t off, len;
    unsigned events;
    bool first, dead;
};

static int ep, listener, ports[16], nports, next;
static char buffer[BUFFER];
static struct side *graves[EVENTS];
static int ngraves;

static void want(struct side *s, unsigned events)
{
    struct epoll_event ev = {.events = events, .data.ptr = s};
    if (s->events != events)
        epoll_ctl(ep, EPOLL_CTL_MOD, s->fd, &ev);
    s->events = events;
}

static void watch(struct side *s)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = s};
    int one = 1;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    s->events = EPOLLIN;
    epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &ev);
}

/* Events of this turn may still name it, so it is freed after them. */
static void drop(struct side *s)
{
    s->dead = s->peer->dead = true;
    close(s->fd);
    close(s->peer->fd);
    graves[ngraves++] = s->first ? s : s->peer;
}

static bool write_rest(struct side *s)
{
    while (s->off < s->len) {
        ssize_t n = write(s->fd, s->rest + s->off, s->len - s->off);
        if (n == -1)
            return errno == EAGAIN;
        s->off += (size_t)n;
    }
    free(s->rest);
    s->rest = NULL;
    want(s, s->events & ~(unsigned)EPOLLOUT);
    want(s->peer, s->peer->events | EPOLLIN);
    return true;
}

static bool copy(struct side *s)
{
    struct side *to = s->peer;
    ssize_t n = read(s->fd, buffer, BUFFER);
    if (n <= 0)
        return n == -1 && errno == EAGAIN;
    ssize_t w = write(to->fd, buffer, (size_t)n);
    if (w == -1 && errno != EAGAIN)
        return false;
    if (w < n) {
        w = w == -1 ? 0 : w;
        to->off = 0;
        to->len = (size_t)(n - w);
        to->rest = malloc(to->len);
        memcpy(to->rest, buffer + w, to->len);
        want(to, to->events | EPOLLOUT);
        want(s, s->events & ~(unsigned)EPOLLIN);
    }
    return true;
}

static void welcome(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((unsigned short)ports[next++ % nports])};
    int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK), server = socket(AF_INET, SOCK_STREAM, 0);
    if (client == -1 || server == -1 || connect(server, (struct sockaddr *)&a, sizeof a) == -1) {
        perror("relay1");
        close(client);
        close(server);
        return;
    }
    fcntl(server, F_SETFL, O_NONBLOCK);
    struct side *pair = calloc(2, sizeof *pair);
    pair[0] = (struct side){.fd = client, .peer = &pair[1], .first = true};
    pair[1] = (struct side){.fd = server, .peer = &pair[0]};
    watch(&pair[0]);
    watch(&pair[1]);
}

static void serve(struct side *s, unsigned events)
{
    bool alive = true;
    if (events & EPOLLOUT)
        alive = write_rest(s);
    if (alive && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && (s->events & EPOLLIN))
        alive = copy(s);
    if (!alive)
        drop(s);
}

static void bury(void)
{
    while (ngraves > 0) {
        struct side *pair = graves[--ngraves];
        free(pair[0].rest);
        free(pair[1].rest);
        free(pair);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    for (char *t = strtok(argv[2], ","); t && nports < 16; t = strtok(NULL, ","))
        ports[nports++] = atoi(t);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((unsigned short)atoi(argv[1]))};
    int one = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) == -1 || listen(listener, 4096) == -1) {
        perror("relay1");
        return 1;
    }
    ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN};
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev);
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(ep, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct side *s = events[i].data.ptr;
            if (!s)
                welcome();
            else if (!s->dead)
                serve(s, events[i].events);
        }
        bury();
    }
}
