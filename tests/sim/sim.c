/* sim.c - nutproxy on a simulated system, between simulated clients and servers.
 *
 *     make sim SEEDS=n [FROM=seed]     run n histories, each from its seed
 *     build/sim SEED                   one of them again, with its trace
 *     build/sim -n N [-from SEED] [-twice] [-first]
 *
 * The same seed is the same history, with the same sources.  A failing one is told with its seed
 * and the rule that it breaks; `build/sim SEED` replays it, and tells at its end all that led
 * to it: every request, reply, packet, and turn of a loop, in virtual time (ms).  With -twice each
 * history is run a second time, and must come out the same; -first stops at the first failure.
 *
 * The whole process is run, from main to its end: under.c is nutproxy.c with the calls to the
 * system exchanged for those of kernel.c, which has sockets, epoll, threads (as fibers), time,
 * signals, a name server and malloc, all in memory.  No more is known of nutproxy's insides than
 * that `logger` is all that outlives a run of it.  Whatever could come otherwise (how long a packet
 * takes, where it is cut, which descriptor is told first, whether malloc fails, what a client asks,
 * when a server fails, and how) is a choice of pick(), chance() and between(), from the seed, or
 * from a fuzzer's bytes: see tests/fuzz/conversation.c.
 *
 *   kernel.c    the system: what nutproxy calls, and what the world around it uses
 *   servers.c   Redis and memcached: they keep keys; and refuse, hang, are mute, slow, or loading, make
 *               errors, drop connections, garble replies, send strays, start again empty, get another
 *               address, or are lost behind a firewall that forgot them
 *   clients.c   they pipeline, cut their requests anywhere, read late or never, close, half-close, reset,
 *               vanish, speak RESP3, noreply and quiet meta, or nonsense; they know what they can be told
 *   truth.c     what is true: the history of each key on each server
 *   history.c   one history: storm, calm, proof, end
 *
 * What each history is checked for:
 *   - Replies come in the order of requests, each is one to its request, in the protocol spoken, and no more
 *     and no fewer than asked for.
 *   - A value read is one that a server had for that key while it was asked for, and none that is older there
 *     than what the same client has read or written before.  Values tell who made them.
 *   - What is acknowledged was done.  Nothing is done twice, and what was said not to be sent is never done.
 *   - An error of a server goes to who asked for that key, and once.
 *   - A key goes to one server, as long as none is ejected.
 *   - Servers are sent whole requests only, as clients made them, and keep no connection on which they
 *     have sent what nobody asked for.
 *   - Each request of a client that listens is answered within the timeouts; who did nothing wrong is not closed.
 *   - Memory that malloc gives stays within max_memory, but for what the configuration needs.
 *   - No loop turns without anything to do, none waits for ever.
 *   - Calm again, all is well: each request gets its good answer.
 *   - At the end no connection is open and no memory left.
 *   - No must() fails, no descriptor is used that is closed, and the sanitizers are content. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t seed;

static void failed(const char *rule)
{
    printf("seed %llu: %s\n", (unsigned long long)seed, rule);
    fflush(stdout);
    _exit(3);
}

static uint64_t run(uint64_t number)
{
    seed = number;
    alarm(300);                         /* a history takes milliseconds: this one has no end */
    choices_from_seed(number);
    history_run();
    return trace_hash();
}

/* What a child has done so far, for its parent. */
struct shared { uint64_t next, answered; };

static void children_run(struct shared *s, uint64_t end, bool twice)
{
    while (s->next < end) {
        uint64_t first = run(s->next);
        s->answered += clients_answered();
        if ((twice || s->next % 16 == 0) && run(s->next) != first)
            failed("it is not the same history the second time");
        s->next++;
    }
}

/* Run the seeds from `from` up to `end`; how many failed.  A child runs them, and who comes
 * after it goes on behind the seed that it failed on. */
static uint64_t seeds_run(uint64_t from, uint64_t end, bool twice, bool first)
{
    struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t bad = 0;
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    if (s == MAP_FAILED)
        abort();
    for (s->next = from; s->next < end; ) {
        int status = 0;
        fflush(stdout);
        pid_t pid = fork();
        if (pid == -1)
            abort();
        if (pid == 0) {
            children_run(s, end, twice);
            fflush(stdout);
            _exit(0);
        }
        if (waitpid(pid, &status, 0) == -1)
            abort();
        if (status == 0)
            continue;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 3)
            printf("seed %llu: the simulator ends with status %d\n", (unsigned long long)s->next, status);
        bad++;
        s->next++;
        if (first)
            break;
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%llu histories, %llu answers to clients, %.1f s\n", (unsigned long long)(end - from),
           (unsigned long long)s->answered,
           (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9);
    return bad;
}

int main(int argc, char **argv)
{
    uint64_t from = 1, n = 0;
    bool twice = false, first = false;
    on_broken = failed;
    setenv("TZ", "UTC", 1);
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "-n") == 0 && i + 1 < argc)
            n = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "-from") == 0 && i + 1 < argc)
            from = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "-twice") == 0)
            twice = true;
        else if (strcmp(argv[i], "-first") == 0)
            first = true;
        else
            from = strtoull(argv[i], NULL, 10);
    if (n == 0) {
        tracing = true;
        printf("seed %llu holds: trace %016llx\n", (unsigned long long)from, (unsigned long long)run(from));
        fflush(stdout);
        _exit(0);                       /* what the process keeps to its end is none of the sanitizer's business */
    }
    uint64_t bad = seeds_run(from, from + n, twice, first);
    printf("%llu passed, %llu failed\n", (unsigned long long)(n - bad), (unsigned long long)bad);
    return bad > 0;
}
