/* counted.c - nutproxy with its calls to the system counted, for tests/test_steady.py.
 *
 * At the end it prints one line of JSON to stderr: how often memory was taken from malloc, the loop
 * waited, a watch was changed, a read found nothing, and something was written to a server or a client. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

static atomic_long mallocs, turns, watches, reads, empty_reads, writes;

static void *counted_malloc(size_t n)
{
    mallocs++;
    return malloc(n);
}

static int counted_epoll_wait(int fd, struct epoll_event *ev, int n, int ms)
{
    turns++;
    return epoll_wait(fd, ev, n, ms);
}

static int counted_epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
    watches++;
    return epoll_ctl(epfd, op, fd, ev);
}

static ssize_t counted_read(ssize_t n)
{
    reads++;
    if (n == -1 && errno == EAGAIN)
        empty_reads++;
    return n;
}

static ssize_t counted_recv(int fd, void *to, size_t n, int flags) { return counted_read(recv(fd, to, n, flags)); }
static ssize_t counted_readv(int fd, const struct iovec *iov, int n) { return counted_read(readv(fd, iov, n)); }

static ssize_t counted_send(int fd, const void *from, size_t n, int flags)
{
    writes++;
    return send(fd, from, n, flags);
}

static ssize_t counted_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    writes++;
    return sendmsg(fd, msg, flags);
}

__attribute__((destructor)) static void tell(void)
{
    fprintf(stderr, "{\"mallocs\": %ld, \"turns\": %ld, \"watches\": %ld, \"reads\": %ld, \"empty_reads\": %ld, "
            "\"writes\": %ld}\n", mallocs, turns, watches, reads, empty_reads, writes);
}

#define malloc     counted_malloc
#define epoll_wait counted_epoll_wait
#define epoll_ctl  counted_epoll_ctl
#define recv       counted_recv
#define readv      counted_readv
#define send       counted_send
#define sendmsg    counted_sendmsg
#include "nutproxy.c"
