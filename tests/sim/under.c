/* under.c - nutproxy as it is, but for the system below it: see kernel.c. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "kernel.h"

#define malloc(n)                 sim_malloc(n)
#define calloc(n, size)           sim_calloc(n, size)
#define realloc(p, n)             sim_realloc(p, n)
#define free(p)                   sim_free(p)
#define abort()                   sim_abort()
#define _exit(status)             sim_exit(status)
#define socket(f, t, p)           sim_socket(f, t, p)
#define bind(fd, a, len)          sim_bind(fd, a, len)
#define listen(fd, n)             sim_listen(fd, n)
#define accept4(fd, a, len, how)  sim_accept4(fd, a, len, how)
#define connect(fd, a, len)       sim_connect(fd, a, len)
#define shutdown(fd, how)         sim_shutdown(fd, how)
#define close(fd)                 sim_close(fd)
#define dup(fd)                   sim_dup(fd)
#define dup2(from, to)            same_fd(to)
#define dup3(from, to, flags)     same_fd(to)
#define setsockopt(fd, l, n, v, len) sim_setsockopt(fd, l, n, v, len)
#define getsockopt(fd, l, n, v, len) sim_getsockopt(fd, l, n, v, len)
#define getpeername(fd, a, len)   sim_getpeername(fd, a, len)
#define getsockname(fd, a, len)   sim_getsockname(fd, a, len)
#define recv(fd, to, n, flags)    sim_recv(fd, to, n, flags)
#define read(fd, to, n)           sim_read(fd, to, n)
#define readv(fd, iov, n)         sim_readv(fd, iov, n)
#define send(fd, at, n, flags)    sim_send(fd, at, n, flags)
#define sendmsg(fd, msg, flags)   sim_sendmsg(fd, msg, flags)
#define write(fd, at, n)          sim_write(fd, at, n)
#define sendto(fd, at, n, flags, a, len) sim_sendto(fd, at, n, flags, a, len)
#define recvfrom(fd, to, n, flags, a, len) sim_recvfrom(fd, to, n, flags, a, len)
#define epoll_create1(flags)      sim_epoll_create1(flags)
#define epoll_ctl(e, op, fd, ev)  sim_epoll_ctl(e, op, fd, ev)
#define epoll_wait(e, ev, n, ms)  sim_epoll_wait(e, ev, n, ms)
#define poll(at, n, ms)           sim_poll(at, n, ms)
#define eventfd(n, flags)         sim_eventfd(n, flags)
#define signalfd(fd, set, flags)  sim_signalfd(fd, set, flags)
#define open(...)                 sim_open(__VA_ARGS__)
#define stat(path, st)            sim_stat(path, st)
#define lstat(path, st)           sim_stat(path, st)
#define fstat(fd, st)             sim_fstat(fd, st)
#define unlink(path)              sim_unlink(path)
#define chmod(path, mode)         sim_chmod(path, mode)
#define umask(mode)               ((void)(mode))
#define getenv(name)              ((void)(name), (const char *)NULL)
#define getpid()                  4242
#define getuid()                  1000u
#define geteuid()                 1000u
#define getgid()                  1000u
#define clock_gettime(clock, t)   sim_clock_gettime(clock, t)
#define pthread_create(t, a, f, of) sim_pthread_create(t, a, f, of)
#define pthread_join(t, out)      sim_pthread_join(t, out)
#define pthread_detach(t)         sim_pthread_detach(t)
#define pthread_sigmask(how, set, old) no_mask(set)
#define prlimit(pid, what, set, get) sim_prlimit(pid, what, set, get)
#define sched_getaffinity(pid, n, set) (-1)
#define uname(u)                  sim_uname(u)
#define getentropy(to, n)         sim_getentropy(to, n)
#define if_nametoindex(name)      ((void)(name), 0u)
#define fchown(fd, user, group)   0
#define prctl(...)                0
#define syscall(...)              done(__VA_ARGS__)
#define main                      nutproxy_main
#define _Fork()                   (-1)

/* Only log files and daemons ask for it. */
static int same_fd(int fd) { return fd; }

/* Signals come where they are waited for, and nowhere else. */
static int no_mask(const sigset_t *set)
{
    (void)set;
    return 0;
}

/* Who gives rights up may. */
static long done(long which, ...)
{
    (void)which;
    return 0;
}

#include "nutproxy.c"

/* The only thing that outlives a history. */
void nutproxy_reset(void)
{
    for (size_t i = 0; i < EVENTS; i++) {
        atomic_store(&logger.of[i].second, 0);
        atomic_store(&logger.of[i].lines, 0);
        atomic_store(&logger.of[i].lost, 0);
    }
    logger.fd = STDERR_FILENO;
    logger.journal = false;
    atomic_store(&logger.running, false);
    atomic_store(&logger.json, false);
    atomic_store(&logger.level, LOG_NOTICE);
}
