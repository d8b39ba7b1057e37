/* syscost.c - what single system calls cost here: one core, loopback TCP; prints one JSON object.
 *
 * Each is measured in 15 runs; told is the median of the runs, in microseconds for one call.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RUNS 15
#define CALLS 10000
#define BYTES 108               /* a reply that holds 100 bytes */

static int from, to, ep;
static char buf[4096];

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void must(int ok)
{
    if (!ok) {
        perror("syscost");
        exit(1);
    }
}

static double null_call(void)
{
    double start = now_us();
    for (int i = 0; i < CALLS; i++)
        getppid();
    return now_us() - start;
}

static double empty_read(void)
{
    double start = now_us();
    for (int i = 0; i < CALLS; i++)
        must(read(to, buf, sizeof buf) == -1);
    return now_us() - start;
}

static double epoll_mod(void)
{
    double start = now_us();
    for (int i = 0; i < CALLS; i++) {
        struct epoll_event ev = {.events = i & 1 ? EPOLLIN : EPOLLIN | EPOLLOUT};
        must(epoll_ctl(ep, EPOLL_CTL_MOD, to, &ev) == 0);
    }
    return now_us() - start;
}

static double epoll_idle(void)
{
    struct epoll_event ev;
    double start = now_us();
    for (int i = 0; i < CALLS; i++)
        must(epoll_wait(ep, &ev, 1, 0) == 0);
    return now_us() - start;
}

/* The time of the writes alone, or of the reads alone. */
static double write_or_read(int reading)
{
    double total = 0;
    for (int i = 0; i < CALLS; i++) {
        double start = now_us();
        must(write(from, buf, BYTES) == BYTES);
        double middle = now_us();
        must(read(to, buf, sizeof buf) == BYTES);
        total += reading ? now_us() - middle : middle - start;
    }
    return total;
}

static double tcp_write(void) { return write_or_read(0); }
static double tcp_read(void) { return write_or_read(1); }

static int upward(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void tell(const char *name, double (*f)(void), const char *end)
{
    double run[RUNS];
    for (int i = 0; i < RUNS; i++)
        run[i] = f() / CALLS;
    qsort(run, RUNS, sizeof *run, upward);
    printf("\"%s\": %.3f%s", name, run[RUNS / 2], end);
}

int main(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int one = 1, l = socket(AF_INET, SOCK_STREAM, 0);
    must(bind(l, (struct sockaddr *)&a, len) == 0 && listen(l, 1) == 0);
    must(getsockname(l, (struct sockaddr *)&a, &len) == 0);
    from = socket(AF_INET, SOCK_STREAM, 0);
    must(connect(from, (struct sockaddr *)&a, len) == 0);
    to = accept4(l, NULL, NULL, SOCK_NONBLOCK);
    setsockopt(from, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    ep = epoll_create1(0);
    struct epoll_event ev = {.events = EPOLLIN};
    must(epoll_ctl(ep, EPOLL_CTL_ADD, to, &ev) == 0);
    printf("{");
    tell("getppid, which does nothing", null_call, ", ");
    tell("read of an empty TCP socket", empty_read, ", ");
    tell("epoll_wait, nothing ready", epoll_idle, ", ");
    tell("epoll_ctl MOD, which makes ready every other time", epoll_mod, ", ");
    struct epoll_event quiet = {.events = 0};
    must(epoll_ctl(ep, EPOLL_CTL_MOD, to, &quiet) == 0);
    tell("write of 108 bytes to TCP, with their delivery", tcp_write, ", ");
    tell("read of 108 bytes from TCP", tcp_read, "}\n");
    return 0;
}
