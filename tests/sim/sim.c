/* sim.c - nutproxy on a simulated system, between simulated clients and servers. */
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
        if (twice && run(s->next) != first)
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
            alarm(600);
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
        printf("trace %016llx\n", (unsigned long long)run(from));
        return 0;
    }
    uint64_t bad = seeds_run(from, from + n, twice, first);
    printf("%llu passed, %llu failed\n", (unsigned long long)(n - bad), (unsigned long long)bad);
    return bad > 0;
}
