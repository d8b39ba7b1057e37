/* kernel.c - a system in memory: time, threads, sockets and their faults, for one process.
 *
 * Nothing here looks at the real clock or at a real descriptor.  Threads of the process are
 * fibers: one runs until it waits, and which goes on then is a choice.  Time only passes
 * where all wait (until the next thing happens), and a little with each turn of a loop. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "kernel.h"
#include "sim.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN
#endif
#endif
#if defined(SIM_ASAN) || defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define fiber_leaves(keep_fake, at, size) __sanitizer_start_switch_fiber(keep_fake, at, size)
#define fiber_comes(fake)                 __sanitizer_finish_switch_fiber(fake, NULL, NULL)
#define stack_clean(at, size)             __asan_unpoison_memory_region(at, size)
#else
#define fiber_leaves(keep_fake, at, size) ((void)(keep_fake), (void)(at), (void)(size))
#define fiber_comes(fake)                 ((void)(fake))
#define stack_clean(at, size)             ((void)0)
#endif

enum { FDS_MOST = 1024, FIBERS_MOST = 12, STACK = 256 << 10, GUARD = 4096, INTERESTS_MOST = FDS_MOST };

struct weather weather;

/* ---- choices */

static struct {
    uint64_t       state;
    const uint8_t *at;
    size_t         left;
    bool           bytes;
} choices;

static uint64_t choice_random(void)
{
    uint64_t x = choices.state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

void choices_from_seed(uint64_t seed)
{
    choices.state = seed * 0x2545f4914f6cdd1du + 1;
    choices.bytes = false;
}

void choices_from_bytes(const uint8_t *at, size_t len)
{
    choices_from_seed(0);
    choices.at = at;
    choices.left = len;
    choices.bytes = true;
}

bool choices_left(void) { return !choices.bytes || choices.left > 0; }

static uint64_t choice_of(uint64_t n)
{
    uint64_t x = 0;
    if (n <= 1)
        return 0;
    if (!choices.bytes || choices.left == 0)
        return choice_random() % n;
    for (uint64_t most = n - 1; most > 0 && choices.left > 0; most >>= 8, choices.left--)
        x = x << 8 | *choices.at++;
    return x % n;
}

uint32_t pick(uint32_t n) { return (uint32_t)choice_of(n); }

bool chance(uint32_t of_1000)
{
    if (of_1000 == 0)
        return false;
    return choice_of(1000) >= 1000 - of_1000;
}

uint64_t between(uint64_t least, uint64_t most) { return least + choice_of(most - least + 1); }

/* ---- the trace */

bool tracing;
void (*on_broken)(const char *rule);
static uint64_t hash;
static uint64_t clock_us;

uint64_t trace_hash(void) { return hash; }
uint64_t now(void) { return clock_us; }

static void hash_add(uint64_t x)
{
    hash = (hash ^ x) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 29;
}

void note(const char *what, uint64_t a, uint64_t b)
{
    hash_add(clock_us);
    hash_add((uint64_t)what[0] << 8 | (unsigned char)what[1]);
    hash_add(a);
    hash_add(b);
    if (tracing)
        printf("%9.3f  %s %lld %lld\n", (double)clock_us / 1000, what, (long long)a, (long long)b);
}

void tell(const char *format, ...)
{
    va_list args;
    if (!tracing)
        return;
    printf("%9.3f  ", (double)clock_us / 1000);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

void tell_bytes(const char *who, uint32_t number, const char *what, uint32_t which, const char *at, size_t n)
{
    if (!tracing)
        return;
    printf("%9.3f  %s %u %s %u: ", (double)clock_us / 1000, who, number, what, which);
    for (size_t i = 0; i < n && i < 120; i++)
        at[i] == '\r' ? printf("\\r") : at[i] == '\n' ? printf("\\n") : putchar(at[i]);
    printf(n > 120 ? "... (%zu)\n" : "\n", n);
}

void broken(const char *format, ...)
{
    char rule[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(rule, sizeof rule, format, args);
    va_end(args);
    tell("BROKEN: %s", rule);
    on_broken(rule);
    abort();
}

/* ---- memory of the simulator */

struct kept { struct kept *prev, *next; };
static struct kept kept = {&kept, &kept};

void *keep(size_t n)
{
    struct kept *k = calloc(1, sizeof *k + n);
    if (k == NULL)
        abort();
    k->prev = kept.prev;
    k->next = &kept;
    kept.prev = kept.prev->next = k;
    return k + 1;
}

void unkeep(void *p)
{
    if (p == NULL)
        return;
    struct kept *k = (struct kept *)p - 1;
    k->prev->next = k->next;
    k->next->prev = k->prev;
    free(k);
}

void keep_nothing(void)
{
    while (kept.next != &kept)
        unkeep(kept.next + 1);
}

const char *buf_at(const struct buf *b) { return b->at == NULL ? "" : b->at + b->head; }

void buf_put(struct buf *b, const char *at, size_t n)
{
    if (b->head > 0 && b->cap - b->head - b->len < n) {
        memmove(b->at, b->at + b->head, b->len);
        b->head = 0;
    }
    if (b->cap - b->head - b->len < n) {
        size_t cap = 2 * (b->len + n) + 64;
        char *more = keep(cap);
        if (b->len > 0)
            memcpy(more, b->at, b->len);
        unkeep(b->at);
        b->at = more;
        b->cap = cap;
    }
    if (n > 0)
        memcpy(b->at + b->head + b->len, at, n);
    b->len += n;
}

void buf_text(struct buf *b, const char *text) { buf_put(b, text, strlen(text)); }

void buf_print(struct buf *b, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_put(b, text, (size_t)n);
}

void buf_drop(struct buf *b, size_t n)
{
    b->head += n;
    b->len -= n;
    if (b->len == 0)
        b->head = 0;
}

void buf_free(struct buf *b)
{
    unkeep(b->at);
    *b = (struct buf){0};
}

/* ---- what happens later */

struct event { uint64_t at, order; void (*what)(void *of); void *of; };
static struct { struct event *at; size_t n, cap; uint64_t order; } events;      /* a heap */
static uint64_t activity;               /* grows with everything that happens */

static bool event_before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void later(uint64_t delay, void (*what)(void *of), void *of)
{
    if (events.n == events.cap) {
        events.cap = 2 * events.cap + 64;
        events.at = realloc(events.at, events.cap * sizeof *events.at);
        if (events.at == NULL)
            abort();
    }
    size_t i = events.n++;
    struct event e = {clock_us + delay, events.order++, what, of};
    for (; i > 0 && event_before(&e, &events.at[(i - 1) / 2]); i = (i - 1) / 2)
        events.at[i] = events.at[(i - 1) / 2];
    events.at[i] = e;
}

static struct event event_next(void)
{
    struct event first = events.at[0], last = events.at[--events.n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < events.n; i = child) {
        if (child + 1 < events.n && event_before(&events.at[child + 1], &events.at[child]))
            child++;
        if (!event_before(&events.at[child], &last))
            break;
        events.at[i] = events.at[child];
    }
    if (events.n > 0)
        events.at[i] = last;
    return first;
}

static void events_run(void)
{
    while (events.n > 0 && events.at[0].at <= clock_us) {
        struct event e = event_next();
        activity++;
        e.what(e.of);
    }
}

/* ---- fibers */

struct fiber {
    ucontext_t  context;
    char       *stack;
    void     *(*run)(void *of);
    void       *of;
    bool        used, done;
    bool      (*may)(void *of);         /* what it waits for ... */
    void       *for_what;
    uint64_t    until;                  /* ... and until when */
    uint64_t    seen, since, idle;      /* turns in which nothing happened, of late */
};
static struct fiber fibers[FIBERS_MOST];
static struct fiber *running;           /* NULL: the scheduler */
static ucontext_t scheduler;
static const void *scheduler_stack;
static size_t scheduler_size;

/* The address sanitizer has a swapcontext of its own, which warns of what the calls around it (see
 * fiber_leaves) have made good, and takes long.  So libc's is taken where it is. */
static int (*context_swap)(ucontext_t *from, const ucontext_t *to);

static void context_prepare(void)
{
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    void *found = libc == NULL ? NULL : dlsym(libc, "swapcontext");
    context_swap = swapcontext;
    if (found != NULL)
        memcpy(&context_swap, &found, sizeof found);
}

static void fiber_start(void)
{
    struct fiber *f = running;
    fiber_comes(NULL);
    f->run(f->of);
    f->done = true;
    fiber_leaves(NULL, scheduler_stack, scheduler_size);
    context_swap(&f->context, &scheduler);
}

static struct fiber *fiber_free(void)
{
    struct fiber *f = fibers;
    while (f->used)
        if (++f == fibers + FIBERS_MOST)
            broken("the process starts threads without end");
    return f;
}

static struct fiber *fiber_new(void *(*run)(void *of), void *of)
{
    struct fiber *volatile f = fiber_free();
    if (f->stack == NULL) {
        char *at = mmap(NULL, GUARD + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED || mprotect(at, GUARD, PROT_NONE) == -1)
            abort();
        f->stack = at + GUARD;
    }
    stack_clean(f->stack, STACK);
    char *stack = f->stack;
    *f = (struct fiber){.stack = stack, .run = run, .of = of, .used = true};
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = NULL;
    makecontext(&f->context, fiber_start, 0);
    return f;
}

static void fiber_enter(struct fiber *f)
{
    void *fake = NULL;
    running = f;
    fiber_leaves(&fake, f->stack, STACK);
    context_swap(&scheduler, &f->context);
    fiber_comes(fake);
    running = NULL;
}

static bool always(void *of)
{
    (void)of;
    return true;
}

/* The running fiber goes on when it may, or when time is up. */
static void fiber_wait(bool (*may)(void *of), void *of, uint64_t until)
{
    struct fiber *f = running;
    void *fake = NULL;
    f->may = may;
    f->for_what = of;
    f->until = until;
    fiber_leaves(&fake, scheduler_stack, scheduler_size);
    context_swap(&f->context, &scheduler);
    fiber_comes(fake);
}

static bool fiber_can_run(const struct fiber *f)
{
    return f->used && !f->done && (f->until <= clock_us || f->may(f->for_what));
}

/* A fiber that can run; NULL: all wait. */
static struct fiber *fiber_choose(void)
{
    struct fiber *can[FIBERS_MOST];
    uint32_t n = 0;
    for (struct fiber *f = fibers; f < fibers + FIBERS_MOST; f++)
        if (fiber_can_run(f))
            can[n++] = f;
    return n == 0 ? NULL : can[pick(n)];
}

/* Nobody can go on before then. */
static uint64_t wait_until(void)
{
    uint64_t at = events.n > 0 ? events.at[0].at : UINT64_MAX;
    for (struct fiber *f = fibers; f < fibers + FIBERS_MOST; f++)
        if (f->used && !f->done && f->until < at)
            at = f->until;
    return at;
}

struct start { int (*process)(int argc, char **argv); int argc; char **argv; int status; };

static void *start_run(void *of)
{
    struct start *s = of;
    s->status = s->process(s->argc, s->argv);
    return NULL;
}

int kernel_run(int (*process)(int argc, char **argv), int argc, char **argv)
{
    struct start start = {process, argc, argv, 0};
    struct fiber *first = fiber_new(start_run, &start);
    first->may = always;
    context_prepare();
#if defined(SIM_ASAN) || defined(__SANITIZE_ADDRESS__)
    pthread_attr_t attr;
    void *stack;
    if (scheduler_stack == NULL && pthread_getattr_np(pthread_self(), &attr) == 0) {
        pthread_attr_getstack(&attr, &stack, &scheduler_size);
        pthread_attr_destroy(&attr);
        scheduler_stack = stack;
    }
#endif
    while (!first->done) {
        events_run();
        struct fiber *f = fiber_choose();
        if (f != NULL) {
            fiber_enter(f);
            continue;
        }
        uint64_t at = wait_until();
        if (at == UINT64_MAX)
            broken("all wait for ever");
        clock_us = at > clock_us ? at : clock_us;
    }
    return start.status;
}

int sim_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *of), void *of)
{
    (void)attr;
    struct fiber *f = fiber_new(run, of);
    f->may = always;
    *t = (pthread_t)(f - fibers);
    return 0;
}

static bool fiber_is_done(void *of) { return ((struct fiber *)of)->done; }

int sim_pthread_join(pthread_t t, void **out)
{
    (void)out;
    fiber_wait(fiber_is_done, &fibers[t], UINT64_MAX);
    return 0;
}

int sim_pthread_detach(pthread_t t)
{
    (void)t;
    return 0;
}

/* ---- memory of the process */

static struct { size_t held, most; } heap;
static struct {
    int          fds;
    uint64_t     ids;
    uint64_t     told_at;               /* when a name server was last heard */
    size_t       window;                /* the smallest there is */
    bool         runs;                  /* its loops turn: from now on it must bear with everything */
    struct site *site;
    struct { const char *path, *text; } file[8];
    struct file *signals;
} kernel;

size_t kernel_memory(void) { return heap.held; }

static bool fault(uint32_t of_1000)
{
    if (!kernel.runs || !chance(of_1000))
        return false;
    activity++;
    return true;
}

/* What stands before each piece of memory.  They are a list, for what the process keeps to its end. */
union head { struct { union head *prev, *next; size_t n; } is; max_align_t align; };
static union head heads = {{&heads, &heads, 0}};

void *sim_malloc(size_t n)
{
    if (fault(weather.no_memory))
        return NULL;
    union head *p = malloc(sizeof *p + n);
    if (p == NULL)
        return NULL;
    p->is.n = n;
    p->is.prev = heads.is.prev;
    p->is.next = &heads;
    heads.is.prev = heads.is.prev->is.next = p;
    heap.held += n;
    if (heap.most > 0 && heap.held > heap.most)
        broken("the process holds %zu bytes of memory, more than its bound and what it needs besides, %zu", heap.held,
               heap.most);
    memset(p + 1, 0xa5, n);
    return p + 1;
}

void *sim_calloc(size_t n, size_t size)
{
    void *p = sim_malloc(n * size);
    return p == NULL ? NULL : memset(p, 0, n * size);
}

void sim_free(void *p)
{
    if (p == NULL)
        return;
    union head *head = (union head *)p - 1;
    heap.held -= head->is.n;
    head->is.prev->is.next = head->is.next;
    head->is.next->is.prev = head->is.prev;
    free(head);
}

void *sim_realloc(void *p, size_t n)
{
    void *q = sim_malloc(n);
    if (q == NULL)
        return NULL;
    if (p != NULL) {
        size_t old = ((union head *)p - 1)->is.n;
        memcpy(q, p, old < n ? old : n);
        sim_free(p);
    }
    return q;
}

void sim_abort(void) { broken("the process aborts"); }
void sim_exit(int status) { broken("the process exits with %d", status); }

/* ---- descriptors */

struct end {
    struct end *peer;
    struct buf  rx, tx;                 /* what has come; what is on its way to the peer */
    size_t      rx_most, tx_most;
    bool        ours;                   /* of the process */
    bool        connecting, carrying;   /* a packet is on its way */
    bool        shut, told;             /* says no more; and the peer has been told so */
    bool        ended;                  /* the peer says no more */
    bool        reset, closed, vanished;
    bool        keepalive;
    int         error;
    void       *owner;
    void      (*ready)(void *owner), (*heard)(void *owner);
};

enum kind { RAW, STREAM, LISTENER, EPOLL, EVENT, SIGNALS, PLAIN, DATAGRAMS };

struct datagram { struct datagram *next; size_t len; char at[512]; };

struct interest { int fd; uint32_t bits; epoll_data_t data; };

struct file {
    enum kind   kind;
    int         refs;
    uint64_t    id;                     /* each has another */
    int         family;
    struct end *end;                    /* STREAM */
    uint16_t    port;                   /* LISTENER ... */
    bool        reuse;
    struct end *queue[64];              /* ... who waits to be let in */
    uint32_t    queued;
    uint64_t    count;                  /* EVENT; SIGNALS: which have come, as bits; PLAIN: how far it was read */
    bool        blocks;
    const char *text;                   /* PLAIN */
    struct datagram *mail;              /* DATAGRAMS: what has come */
    struct interest *interest;          /* EPOLL */
    uint32_t    interests;
};

static struct file *files[FDS_MOST];

void kernel_limit(int fds, size_t memory)
{
    kernel.fds = fds < FDS_MOST ? fds : FDS_MOST;
    heap.most = memory;
}

void kernel_windows(size_t least) { kernel.window = least; }

void kernel_file(const char *path, const char *text)
{
    size_t i = 0;
    while (kernel.file[i].path != NULL && strcmp(kernel.file[i].path, path) != 0)
        i++;
    kernel.file[i].path = path;
    kernel.file[i].text = text;
}

bool kernel_has_signals(void) { return kernel.signals != NULL; }
void kernel_signal(int number) { kernel.signals->count |= (uint64_t)1 << number; }

void kernel_begin(void)
{
    clock_us = hash = 0;
    events.n = 0;
    events.order = activity = 0;
    memset(files, 0, sizeof files);
    memset(&kernel, 0, sizeof kernel);
    memset(&heap, 0, sizeof heap);
    kernel.fds = FDS_MOST;
}

void kernel_end(void)
{
    while (heads.is.next != &heads)
        sim_free(heads.is.next + 1);
    for (struct fiber *f = fibers; f < fibers + FIBERS_MOST; f++)
        f->used = false;
    keep_nothing();
}

int kernel_sockets(void)
{
    int n = 0;
    for (int fd = 0; fd < FDS_MOST; fd++)
        n += files[fd] != NULL && (files[fd]->kind == STREAM || files[fd]->kind == RAW);
    return n;
}

bool kernel_asks_names(void)
{
    bool asks = kernel.told_at > 0 && clock_us < kernel.told_at + 10 * MS;
    for (int fd = 0; fd < FDS_MOST; fd++)
        asks = asks || (files[fd] != NULL && files[fd]->kind == DATAGRAMS);
    return asks;
}

static int fail(int why)
{
    errno = why;
    return -1;
}

static struct file *file_of(int fd, enum kind kind)
{
    if (fd < 0 || fd >= FDS_MOST || files[fd] == NULL || files[fd]->kind != kind)
        broken("descriptor %d is used as what it is not", fd);
    return files[fd];
}

static int fd_new(struct file *f)
{
    int fd = 3;
    while (fd < kernel.fds && files[fd] != NULL)
        fd++;
    if (fd >= kernel.fds)
        return fail(EMFILE);
    files[fd] = f;
    f->refs++;
    return fd;
}

static int file_new(enum kind kind, struct file **out)
{
    struct file *f = keep(sizeof *f);
    f->kind = kind;
    f->id = ++kernel.ids;
    int fd = fd_new(f);
    if (fd == -1)
        unkeep(f);
    else if (out != NULL)
        *out = f;
    return fd;
}

/* ---- connections */

static struct end *end_new(bool ours)
{
    const size_t room[] = {kernel.window, 4096, 65536, 1 << 18};
    struct end *e = keep(sizeof *e);
    e->ours = ours;
    e->rx_most = room[pick(4)];
    e->tx_most = room[pick(4)];
    return e;
}

static void ends_join(struct end *a, struct end *b)
{
    a->peer = b;
    b->peer = a;
}

static uint64_t packet_delay(void)
{
    return between(10, 10 + (chance(900) ? weather.delay_most / 16 : weather.delay_most));
}

static void end_tell(struct end *e)
{
    activity++;
    if (e->ready != NULL && !e->closed)
        e->ready(e->owner);
}

static void end_break(struct end *e, int why)
{
    if (e->reset || e->closed)
        return;
    e->reset = true;
    e->error = why;
    e->connecting = false;
    e->tx.len = 0;
    if (chance(500))
        buf_drop(&e->rx, e->rx.len);
    note("reset", (uint64_t)e->ours, (uint64_t)why);
    end_tell(e);
}

static void end_break_now(void *of) { end_break(of, ECONNRESET); }
static void end_time_out(void *of) { end_break(of, ETIMEDOUT); }

static void end_carry(void *of);

static void end_send(struct end *e)
{
    if (e->carrying || e->reset || (e->tx.len == 0 && (!e->shut || e->told)))
        return;
    if (e->tx.len > 0 && e->peer->rx.len >= e->peer->rx_most && !e->peer->closed)
        return;                         /* when the peer has read some */
    e->carrying = true;
    later(packet_delay(), end_carry, e);
}

/* A packet arrives. */
static void end_carry(void *of)
{
    struct end *e = of, *to = e->peer;
    e->carrying = false;
    if (e->reset || e->vanished || to->vanished || to->reset)
        return;
    if (to->closed) {
        if (e->tx.len > 0)
            later(packet_delay(), end_break_now, e);
        e->tx.len = 0;
        e->told = e->shut;
        return;
    }
    size_t room = to->rx.len < to->rx_most ? to->rx_most - to->rx.len : 0, n = e->tx.len < room ? e->tx.len : room;
    if (n > 1 && chance(weather.cut))
        n = n < 4096 && chance(200) ? 1 : 1 + n / 16 + (size_t)between(0, n - 1 - n / 16);
    buf_put(&to->rx, buf_at(&e->tx), n);
    buf_drop(&e->tx, n);
    if (e->tx.len == 0 && e->shut && !e->told)
        e->told = to->ended = true;
    end_send(e);
    end_tell(to);
}

static void end_hang_up(struct end *e)
{
    bool unread = e->rx.len > 0;
    e->closed = true;
    if (e->reset || e->peer == NULL)
        return;
    if (unread) {                       /* as Linux does: what is left unread resets the connection */
        e->tx.len = 0;
        later(packet_delay(), end_break_now, e->peer);
    } else {
        e->shut = true;
        end_send(e);
    }
}

void end_own(struct end *e, void *owner, void (*ready)(void *owner))
{
    e->owner = owner;
    e->ready = ready;
}

void end_say(struct end *e, const char *at, size_t n)
{
    if (e->reset || e->shut || e->closed)
        return;
    buf_put(&e->tx, at, n);
    end_send(e);
}

struct buf *end_input(struct end *e) { return &e->rx; }

void end_took(struct end *e, size_t n)
{
    buf_drop(&e->rx, n);
    if (n > 0 && e->peer != NULL)
        end_send(e->peer);
}

void end_room(struct end *e, size_t n)
{
    e->rx_most = n;
    if (e->peer != NULL)
        end_send(e->peer);
}

void end_shut(struct end *e)
{
    if (e->reset || e->shut || e->closed)
        return;
    e->shut = true;
    end_send(e);
}

void end_close(struct end *e)
{
    if (!e->closed)
        end_hang_up(e);
}

void end_reset(struct end *e)
{
    if (e->closed)
        return;
    e->closed = true;
    e->tx.len = 0;
    later(packet_delay(), end_break_now, e->peer);
}

void end_vanish(struct end *e)
{
    e->vanished = e->closed = true;
    later(between(5 * SECOND, 20 * SECOND), end_time_out, e->peer);
}

bool end_ended(const struct end *e) { return e->ended; }
bool end_is_reset(const struct end *e) { return e->reset; }
bool end_is_quiet(const struct end *e) { return e->rx.len == 0 && (e->peer == NULL || e->peer->tx.len == 0); }
size_t end_unread(const struct end *e) { return e->tx.len + e->peer->rx.len; }

void end_deliver(struct end *e, const char *at, size_t n)
{
    buf_put(&e->peer->rx, at, n);
    end_tell(e->peer);
}

bool end_take_back(struct end *e, size_t n)
{
    if (e->peer->rx.len < n)
        return false;
    e->peer->rx.len -= n;
    return true;
}

void end_on_write(struct end *e, void (*heard)(void *owner)) { e->heard = heard; }

/* ---- the world connects */

void kernel_site(struct site *site)
{
    site->next = kernel.site;
    kernel.site = site;
}

struct end *world_connect(uint16_t port)
{
    struct file *can[64];
    uint32_t n = 0;
    for (int fd = 0; fd < FDS_MOST; fd++)
        if (files[fd] != NULL && files[fd]->kind == LISTENER && files[fd]->port == port && n < 64)
            can[n++] = files[fd];
    if (n == 0)
        return NULL;
    struct file *f = can[pick(n)];
    if (f->queued == sizeof f->queue / sizeof f->queue[0])
        return NULL;
    struct end *in = end_new(true), *out = end_new(false);
    ends_join(in, out);
    f->queue[f->queued++] = in;
    activity++;
    return out;
}

/* ---- sockets */

int sim_socket(int family, int type, int protocol)
{
    (void)protocol;
    struct file *f;
    if ((type & 0xf) == SOCK_DGRAM)
        return file_new(DATAGRAMS, NULL);
    if (fault(weather.no_socket))
        return fail(pick(2) ? ENFILE : ENOBUFS);
    int fd = file_new(RAW, &f);
    if (fd != -1)
        f->family = family;
    note("socket", (uint64_t)fd, 0);
    return fd;
}

int sim_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    (void)value;
    (void)len;
    struct file *f = files[fd];
    if (f == NULL)
        broken("setsockopt of descriptor %d, which is closed", fd);
    if (level == SOL_SOCKET && name == SO_REUSEPORT)
        f->reuse = true;
    if (level == SOL_SOCKET && name == SO_KEEPALIVE && f->end != NULL)
        f->end->keepalive = true;
    return 0;
}

int sim_bind(int fd, const struct sockaddr *a, socklen_t len)
{
    (void)len;
    struct file *f = file_of(fd, RAW);
    f->port = a->sa_family == AF_INET ? ntohs(((const struct sockaddr_in *)(const void *)a)->sin_port) : 0;
    for (int i = 0; i < FDS_MOST; i++) {
        const struct file *other = files[i];
        if (other != NULL && other->kind == LISTENER && other->port == f->port && !(other->reuse && f->reuse))
            return fail(EADDRINUSE);
    }
    return 0;
}

int sim_listen(int fd, int backlog)
{
    (void)backlog;
    if (files[fd] != NULL && files[fd]->kind == LISTENER)
        return 0;
    file_of(fd, RAW)->kind = LISTENER;
    return 0;
}

int sim_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags)
{
    (void)a;
    (void)len;
    (void)flags;
    struct file *f = file_of(fd, LISTENER), *in;
    if (f->queued == 0)
        return fail(EAGAIN);
    if (chance(weather.interrupted))
        return fail(EINTR);
    if (fault(weather.no_socket))
        return fail(pick(2) ? ENFILE : ENOBUFS);
    int new = file_new(STREAM, &in);
    if (new == -1)
        return -1;
    in->family = AF_INET;
    in->end = f->queue[0];
    memmove(f->queue, f->queue + 1, --f->queued * sizeof f->queue[0]);
    activity++;
    note("accept", (uint64_t)fd, (uint64_t)new);
    return new;
}

static struct site *site_find(const struct sockaddr *a)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a;
    const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)a;
    for (struct site *s = kernel.site; s != NULL; s = s->next)
        if (a->sa_family == AF_UNIX ? s->path[0] != '\0' && strcmp(s->path, un->sun_path) == 0
                                    : s->path[0] == '\0' && s->port == ntohs(in->sin_port) &&
                                      s->address == ntohl(in->sin_addr.s_addr))
            return s;
    return NULL;
}

static void end_meet(struct end *e, struct site *s)
{
    struct end *out = end_new(false);
    ends_join(e, out);
    e->connecting = false;
    s->come(s->owner, out);
    activity++;
}

struct knock { struct end *end; struct site *site; };

/* A SYN arrives. */
static void knock_arrive(void *of)
{
    struct knock *k = of;
    struct end *e = k->end;
    if (e->closed)
        return;
    enum answer answer = k->site == NULL ? REFUSES : k->site->knock(k->site->owner);
    note("knock", (uint64_t)answer, 0);
    if (answer == ACCEPTS)
        end_meet(e, k->site);
    else if (answer == REFUSES)
        end_break(e, chance(900) ? ECONNREFUSED : EHOSTUNREACH);
    else
        later(120 * SECOND, end_time_out, e);
}

int sim_connect(int fd, const struct sockaddr *a, socklen_t len)
{
    (void)len;
    if (files[fd] != NULL && files[fd]->kind == DATAGRAMS)
        return 0;
    struct file *f = file_of(fd, RAW);
    struct site *s = site_find(a);
    if (a->sa_family != AF_UNIX && fault(weather.no_socket))
        return fail(pick(2) ? ENETUNREACH : EADDRNOTAVAIL);
    bool near = a->sa_family == AF_UNIX || chance(50);
    enum answer answer = s == NULL ? REFUSES : near ? s->knock(s->owner) : ACCEPTS;
    if (near && answer == REFUSES)
        return fail(ECONNREFUSED);
    if (near && answer == SILENT)
        return fail(a->sa_family == AF_UNIX ? EAGAIN : ENETUNREACH);
    f->kind = STREAM;
    f->end = end_new(true);
    if (near && s != NULL) {
        end_meet(f->end, s);
        return 0;
    }
    struct knock *k = keep(sizeof *k);
    f->end->connecting = true;
    *k = (struct knock){f->end, s};
    later(packet_delay() * 2, knock_arrive, k);
    return fail(EINPROGRESS);
}

int sim_shutdown(int fd, int how)
{
    struct end *e = file_of(fd, STREAM)->end;
    if (how != SHUT_WR)
        broken("shutdown in a way that the simulator does not know");
    if (e->reset)
        return fail(ENOTCONN);
    end_shut(e);
    activity++;
    return 0;
}

static void epoll_forget(int fd);

int sim_close(int fd)
{
    if (fd < 0 || fd >= FDS_MOST || files[fd] == NULL)
        broken("descriptor %d is closed twice", fd);
    struct file *f = files[fd];
    note("close", (uint64_t)fd, (uint64_t)f->kind);
    files[fd] = NULL;
    activity++;
    if (--f->refs > 0)
        return 0;
    epoll_forget(fd);
    if (f->kind == STREAM)
        end_hang_up(f->end);
    for (uint32_t i = 0; i < f->queued; i++)
        later(packet_delay(), end_break_now, f->queue[i]->peer);
    if (f == kernel.signals)
        kernel.signals = NULL;
    unkeep(f->interest);
    unkeep(f);
    return 0;
}

int sim_dup(int fd)
{
    if (files[fd] == NULL)
        broken("dup of descriptor %d, which is closed", fd);
    return fd_new(files[fd]);
}

int sim_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    struct file *f = files[fd];
    if (level != SOL_SOCKET || name != SO_ERROR || *len != sizeof(int))
        return fail(ENOPROTOOPT);
    int why = f != NULL && f->end != NULL ? f->end->error : 0;
    memcpy(value, &why, sizeof why);
    if (f != NULL && f->end != NULL)
        f->end->error = 0;
    return 0;
}

static int socket_name(int fd, struct sockaddr *a, socklen_t *len, uint32_t address, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
    if (files[fd] == NULL || *len < sizeof in)
        return fail(ENOTSOCK);
    memcpy(a, &in, sizeof in);
    *len = sizeof in;
    return 0;
}

int sim_getpeername(int fd, struct sockaddr *a, socklen_t *len)
{
    return socket_name(fd, a, len, 0x0a090000u + (uint32_t)fd, (uint16_t)(30000 + fd));
}

int sim_getsockname(int fd, struct sockaddr *a, socklen_t *len)
{
    return socket_name(fd, a, len, 0x7f000001u, files[fd] != NULL ? files[fd]->port : 0);
}

/* Why nothing can be read now; 0: something can. */
static int end_read_why(struct end *e)
{
    if (chance(weather.interrupted))
        return EINTR;
    if (chance(weather.again))
        return EAGAIN;
    if (e->rx.len > 0)
        return 0;
    if (e->error != 0) {
        int why = e->error;
        e->error = 0;
        return why;
    }
    return e->ended || e->reset ? 0 : EAGAIN;
}

ssize_t sim_readv(int fd, const struct iovec *iov, int n)
{
    struct end *e = file_of(fd, STREAM)->end;
    int why = e->connecting ? EAGAIN : end_read_why(e);
    size_t got = 0;
    activity++;
    if (why != 0)
        return fail(why);
    for (int i = 0; i < n; i++) {
        size_t some = iov[i].iov_len < e->rx.len - got ? iov[i].iov_len : e->rx.len - got;
        if (some > 0)
            memcpy(iov[i].iov_base, buf_at(&e->rx) + got, some);
        got += some;
    }
    end_took(e, got);
    note("read", (uint64_t)fd, got);
    return (ssize_t)got;
}

ssize_t sim_recv(int fd, void *to, size_t n, int flags)
{
    struct iovec iov = {to, n};
    if (flags != 0)
        broken("recv with flags that the simulator does not know");
    return sim_readv(fd, &iov, 1);
}

ssize_t sim_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct end *e = file_of(fd, STREAM)->end;
    size_t put = 0;
    activity++;
    if ((flags & MSG_NOSIGNAL) == 0)
        broken("a write that could raise SIGPIPE");
    if (chance(weather.interrupted))
        return fail(EINTR);
    if (e->error != 0) {
        int why = e->error;
        e->error = 0;
        return fail(why);
    }
    if (e->reset || e->shut || e->connecting)
        return fail(e->connecting ? EAGAIN : EPIPE);
    if (e->tx.len >= e->tx_most || chance(weather.again))
        return fail(EAGAIN);
    if (e->peer->heard != NULL)
        e->peer->heard(e->peer->owner);
    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        size_t room = e->tx.len < e->tx_most ? e->tx_most - e->tx.len : 0;
        size_t some = msg->msg_iov[i].iov_len < room ? msg->msg_iov[i].iov_len : room;
        if (some > 1 && chance(weather.cut / 4))
            some = 1 + (size_t)between(0, some - 2);
        buf_put(&e->tx, msg->msg_iov[i].iov_base, some);
        put += some;
        if (some < msg->msg_iov[i].iov_len)
            break;
    }
    end_send(e);
    note("write", (uint64_t)fd, put);
    return (ssize_t)put;
}

ssize_t sim_send(int fd, const void *at, size_t n, int flags)
{
    struct iovec iov = {(void *)(uintptr_t)at, n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    return sim_sendmsg(fd, &msg, flags);
}

/* ---- names: whoever is asked over UDP answers as a name server does */

int (*name_find)(const char *name, uint32_t address[ADDRESSES_MOST]);

struct mail { int fd; struct file *file; uint64_t id; struct datagram *datagram; };

static void mail_arrives(void *of)
{
    struct mail *m = of;
    struct datagram **at = &m->file->mail;
    if (files[m->fd] != m->file || m->file->id != m->id)
        return;                         /* it was closed meanwhile */
    while (*at != NULL)
        at = &(*at)->next;
    *at = m->datagram;
}

static void put_16(char *to, uint32_t n)
{
    to[0] = (char)(n >> 8);
    to[1] = (char)n;
}

/* The name in a question, with points; where it ends. */
static size_t question_name(const char *at, size_t n, char name[300])
{
    size_t from = 12, len = 0;
    while (from < n && at[from] != 0) {
        size_t label = (unsigned char)at[from];
        if (from + 1 + label >= n || len + label + 2 > 300)
            broken("a name server is asked what is no question");
        memcpy(name + len, at + from + 1, label);
        len += label;
        name[len++] = '.';
        from += 1 + label;
    }
    name[len > 0 ? len - 1 : 0] = '\0';
    return from + 5;
}

/* What a name server says to the question in `d`. */
static void answer_question(struct datagram *d)
{
    char name[300];
    uint32_t address[ADDRESSES_MOST];
    size_t end = question_name(d->at, d->len, name);
    bool inet = d->at[end - 3] == 1;
    int n = name_find == NULL ? 0 : name_find(name, address);
    d->at[2] = (char)0x81;
    d->at[3] = (char)(n == -1 ? 2 : n == 0 ? 3 : 0);
    d->len = end;
    put_16(d->at + 6, inet && n > 0 ? (uint32_t)n : 0);
    for (int i = 0; inet && i < n; i++, d->len += 16) {
        memcpy(d->at + d->len, "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4", 12);
        put_16(d->at + d->len + 12, address[i] >> 16);
        put_16(d->at + d->len + 14, address[i]);
    }
    if (chance(weather.no_name))
        d->at[0] ^= 0x55;               /* it answers another question */
}

ssize_t sim_sendto(int fd, const void *at, size_t n, int flags, const struct sockaddr *a, socklen_t len)
{
    struct file *f = file_of(fd, DATAGRAMS);
    struct mail *m = keep(sizeof *m);
    (void)flags;
    (void)a;
    (void)len;
    *m = (struct mail){fd, f, f->id, keep(sizeof *m->datagram)};
    if (n > 400)
        broken("a name server is asked %zu bytes", n);
    memcpy(m->datagram->at, at, n);
    m->datagram->len = n;
    activity++;
    if (chance(weather.no_name))
        return (ssize_t)n;              /* it is lost */
    answer_question(m->datagram);
    later(packet_delay() * 2 + (chance(weather.no_name) ? between(0, 2 * SECOND) : 0), mail_arrives, m);
    return (ssize_t)n;
}

ssize_t sim_recvfrom(int fd, void *to, size_t n, int flags, struct sockaddr *a, socklen_t *len)
{
    struct file *f = file_of(fd, DATAGRAMS);
    struct datagram *d = f->mail;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(0x0a000035)};
    (void)flags;
    if (d == NULL)
        return fail(EAGAIN);
    f->mail = d->next;
    kernel.told_at = clock_us;
    memcpy(to, d->at, d->len < n ? d->len : n);
    memcpy(a, &in, sizeof in);
    *len = sizeof in;
    activity++;
    return (ssize_t)d->len;
}

/* ---- waiting */

static uint32_t fd_sees(int fd)
{
    const struct file *f = files[fd];
    const struct end *e = f->end;
    if (f->kind == LISTENER)
        return f->queued > 0 ? EPOLLIN : 0;
    if (f->kind == EVENT || f->kind == SIGNALS)
        return f->count > 0 ? EPOLLIN : 0;
    if (f->kind == DATAGRAMS)
        return f->mail != NULL ? EPOLLIN | EPOLLOUT : EPOLLOUT;
    if (f->kind != STREAM)
        return f->kind == RAW ? EPOLLOUT | EPOLLHUP : 0;
    if (e->connecting)
        return 0;
    uint32_t sees = e->reset ? EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLRDHUP : 0;
    sees |= e->error != 0 ? EPOLLERR : 0;
    sees |= e->rx.len > 0 || e->ended ? EPOLLIN : 0;
    sees |= e->ended ? EPOLLRDHUP : 0;
    sees |= e->ended && e->shut ? EPOLLHUP : 0;
    sees |= e->tx.len <= e->tx_most / 2 || e->shut ? EPOLLOUT : 0;
    return sees;
}

int sim_epoll_create1(int flags)
{
    (void)flags;
    struct file *f;
    int fd = file_new(EPOLL, &f);
    if (fd != -1)
        f->interest = keep(INTERESTS_MOST * sizeof *f->interest);
    return fd;
}

static void epoll_drop(struct file *f, uint32_t i)
{
    memmove(f->interest + i, f->interest + i + 1, (--f->interests - i) * sizeof *f->interest);
}

static void epoll_forget(int fd)
{
    for (int i = 0; i < FDS_MOST; i++)
        for (uint32_t n = 0; files[i] != NULL && files[i]->kind == EPOLL && n < files[i]->interests; n++)
            if (files[i]->interest[n].fd == fd)
                epoll_drop(files[i], n--);
}

int sim_epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
    struct file *f = file_of(epfd, EPOLL);
    uint32_t i = 0;
    while (i < f->interests && f->interest[i].fd != fd)
        i++;
    if (files[fd] == NULL || (op == EPOLL_CTL_ADD) != (i == f->interests))
        broken("epoll_ctl of descriptor %d, which is closed, or (not) there already", fd);
    if (op == EPOLL_CTL_DEL) {
        epoll_drop(f, i);
        return 0;
    }
    if (op == EPOLL_CTL_ADD && fault(weather.no_watch))     /* a change of bits needs no memory */
        return fail(pick(2) ? ENOMEM : ENOSPC);
    f->interest[i] = (struct interest){fd, ev->events, ev->data};
    f->interests += op == EPOLL_CTL_ADD;
    activity++;
    return 0;
}

static uint32_t interest_sees(const struct interest *i)
{
    return fd_sees(i->fd) & (i->bits | EPOLLERR | EPOLLHUP);
}

static bool epoll_is_ready(void *of)
{
    const struct file *f = of;
    for (uint32_t i = 0; i < f->interests; i++)
        if (interest_sees(&f->interest[i]) != 0)
            return true;
    return false;
}

/* A loop that turns, and nothing happens, spins. */
static void turn_begin(void)
{
    struct fiber *f = running;
    if (activity != f->seen)
        f->idle -= f->idle > 0;
    else if (++f->idle > 500)
        broken("a loop spins: it turns and turns, and nothing happens");
    if (clock_us >= f->since + SECOND) {
        f->since = clock_us;
        f->idle = 0;
    }
    f->seen = activity;
}

static uint64_t until_ms(int ms) { return ms < 0 ? UINT64_MAX : clock_us + (uint64_t)ms * MS; }

int sim_epoll_wait(int epfd, struct epoll_event *ev, int most, int ms)
{
    struct file *f = file_of(epfd, EPOLL);
    uint32_t order[INTERESTS_MOST];
    int n = 0;
    kernel.runs = true;
    turn_begin();
    fiber_wait(epoll_is_ready, f, until_ms(ms));
    clock_us += between(1, 30);
    if (chance(weather.slow_turn))
        clock_us += between(1, 200 * MS);
    events_run();
    if (chance(weather.interrupted)) {
        activity++;
        return fail(EINTR);
    }
    for (uint32_t i = 0; i < f->interests; i++)
        order[i] = i;
    for (uint32_t left = f->interests; left > 0 && n < most; left--) {
        uint32_t at = pick(left);
        const struct interest *i = &f->interest[order[at]];
        order[at] = order[left - 1];
        if (interest_sees(i) == 0 || (n > 0 && chance(weather.few_events)))
            continue;
        note("sees", (uint64_t)i->fd, interest_sees(i));
        ev[n].events = interest_sees(i);
        ev[n++].data = i->data;
    }
    note("turn", (uint64_t)(running - fibers), (uint64_t)n);
    return n;
}

struct polled { struct pollfd *at; nfds_t n; };

static uint32_t poll_bits(short asked) { return (uint16_t)asked | (uint32_t)EPOLLERR | (uint32_t)EPOLLHUP; }

static bool poll_is_ready(void *of)
{
    const struct polled *p = of;
    for (nfds_t i = 0; i < p->n; i++)
        if (p->at[i].fd >= 0 && (fd_sees(p->at[i].fd) & poll_bits(p->at[i].events)) != 0)
            return true;
    return false;
}

int sim_poll(struct pollfd *at, nfds_t n, int ms)
{
    struct polled p = {at, n};
    int ready = 0;
    turn_begin();
    fiber_wait(poll_is_ready, &p, until_ms(ms));
    clock_us += between(1, 30);
    events_run();
    if (chance(weather.interrupted)) {
        activity++;
        return fail(EINTR);
    }
    for (nfds_t i = 0; i < n; i++) {
        at[i].revents = at[i].fd < 0 ? 0
                      : (short)(fd_sees(at[i].fd) & poll_bits(at[i].events));
        ready += at[i].revents != 0;
    }
    note("turn", (uint64_t)(running - fibers), (uint64_t)ready);
    return ready;
}

/* ---- other descriptors */

int sim_eventfd(unsigned count, int flags)
{
    struct file *f;
    int fd = file_new(EVENT, &f);
    if (fd != -1) {
        f->count = count;
        f->blocks = (flags & EFD_NONBLOCK) == 0;
    }
    return fd;
}

int sim_signalfd(int fd, const sigset_t *set, int flags)
{
    (void)set;
    (void)flags;
    return fd == -1 ? file_new(SIGNALS, &kernel.signals) : fail(EINVAL);
}

static bool event_is_there(void *of) { return ((struct file *)of)->count > 0; }

static ssize_t read_event(struct file *f, void *to)
{
    if (f->count == 0 && !f->blocks)
        return fail(EAGAIN);
    if (f->count == 0)
        fiber_wait(event_is_there, f, UINT64_MAX);
    memcpy(to, &f->count, sizeof f->count);
    f->count = 0;
    activity++;
    return sizeof f->count;
}

static ssize_t read_signal(struct file *f, void *to)
{
    struct signalfd_siginfo info = {0};
    if (f->count == 0)
        return fail(EAGAIN);
    info.ssi_signo = (uint32_t)__builtin_ctzll(f->count);
    f->count &= f->count - 1;
    memcpy(to, &info, sizeof info);
    activity++;
    return sizeof info;
}

ssize_t sim_read(int fd, void *to, size_t n)
{
    if (fd < 0 || fd >= FDS_MOST || files[fd] == NULL)
        broken("descriptor %d is read, which is closed", fd);
    struct file *f = files[fd];
    if (f->kind == EVENT)
        return read_event(f, to);
    if (f->kind == SIGNALS)
        return read_signal(f, to);
    if (f->kind == STREAM)
        return sim_recv(fd, to, n, 0);
    (void)file_of(fd, PLAIN);
    size_t left = strlen(f->text) - f->count, some = left < n ? left : n;
    memcpy(to, f->text + f->count, some);
    f->count += some;
    return (ssize_t)some;
}

/* Lines of the log that must never be written. */
static void log_heard(const char *at, size_t n)
{
    char line[400];
    snprintf(line, sizeof line, "%.*s", (int)(n > 390 ? 390 : n), at);
    line[strcspn(line, "\n")] = '\0';
    tell("log: %s", line);
    if (strstr(line, "were not given back") != NULL || strstr(line, "must(") != NULL)
        broken("%s", line);
}

ssize_t sim_write(int fd, const void *at, size_t n)
{
    uint64_t one;
    if (fd == STDERR_FILENO || fd == STDOUT_FILENO) {
        log_heard(at, n);
        return (ssize_t)n;
    }
    if (fd < 0 || fd >= FDS_MOST || files[fd] == NULL)
        broken("descriptor %d is written, which is closed", fd);
    if (files[fd]->kind == STREAM)
        return sim_send(fd, at, n, MSG_NOSIGNAL);
    memcpy(&one, at, sizeof one);
    file_of(fd, EVENT)->count += one;
    activity++;
    return sizeof one;
}

static const char *file_text(const char *path)
{
    for (size_t i = 0; i < sizeof kernel.file / sizeof kernel.file[0] && kernel.file[i].path != NULL; i++)
        if (strcmp(kernel.file[i].path, path) == 0)
            return kernel.file[i].text;
    return NULL;
}

int sim_open(const char *path, int flags, ...)
{
    const char *text = file_text(path);
    struct file *f;
    if (text == NULL || (flags & O_ACCMODE) != O_RDONLY)
        return fail(ENOENT);
    int fd = file_new(PLAIN, &f);
    if (fd != -1)
        f->text = text;
    return fd;
}

int sim_stat(const char *path, struct stat *st)
{
    memset(st, 0, sizeof *st);
    st->st_mode = S_IFREG | 0644;
    return file_text(path) != NULL ? 0 : fail(ENOENT);
}

int sim_fstat(int fd, struct stat *st)
{
    (void)file_of(fd, PLAIN);
    memset(st, 0, sizeof *st);
    st->st_mode = S_IFREG | 0644;
    return 0;
}

int sim_unlink(const char *path) { return path[0] == '/' ? fail(ENOENT) : 0; }

int sim_chmod(const char *path, mode_t mode)
{
    (void)path;
    (void)mode;
    return 0;
}

/* ---- the rest of the system */

int sim_clock_gettime(clockid_t clock, struct timespec *t)
{
    uint64_t us = clock_us + (clock == CLOCK_REALTIME ? 1700000000u : 1000u) * (uint64_t)SECOND;
    t->tv_sec = (time_t)(us / SECOND);
    t->tv_nsec = (long)(us % SECOND) * 1000;
    return 0;
}

int sim_prlimit(pid_t pid, int what, const struct rlimit *set, struct rlimit *get)
{
    (void)pid;
    (void)what;
    (void)set;
    if (get != NULL)
        *get = (struct rlimit){(rlim_t)kernel.fds, (rlim_t)kernel.fds};
    return 0;
}

int sim_uname(struct utsname *u)
{
    memset(u, 0, sizeof *u);
    strcpy(u->sysname, "Simulated");
    return 0;
}

int sim_getentropy(void *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((char *)to)[i] = (char)pick(256);
    return 0;
}
