/* nutproxy.c - a sharding proxy for Redis and memcached, in one file.
 *
 * CONTENTS                               search for the number with a dot and a
 *                                        word, as in "10. LOOP"
 *   the core: bytes in, bytes out
 *     1. GROUND     words that every room speaks
 *     2. MEMORY     the one door to malloc; shelves, blocks, queues of bytes
 *     3. HASH       a key becomes a number
 *     4. RING       a number becomes a server
 *     5. WIRE       scan requests and replies; merge replies
 *     6. LEDGER     what is counted
 *     7. CONFIG     text becomes struct conf
 *     8. YAML       so does twemproxy's, which can be written as ours
 *   ------------------------------------------- the wall (NUT_CORE ends here)
 *   the house: descriptors, time, trouble
 *     9. CLOCK      what time it is, and what the operator is told
 *    10. LOOP       wait and serve; letters between threads
 *    11. CONN       a socket that is read into scratch and written once a turn
 *    12. NAMES      a name becomes addresses, on a thread of its own
 *    13. SERVER     connections to servers; who is owed which reply; who is down
 *    14. REQUEST    ask servers, in parts; merge, deliver
 *    15. ANSWER     what the proxy answers itself
 *    16. CLIENT     clients: read, route; time
 *    17. ADMIN      the stats port
 *    18. TOOLS      convert, route, diff
 *    19. MAIN       options, threads, signals, reload
 *
 * HOW A REQUEST WALKS THROUGH THE HOUSE
 *
 *   client_bytes ─▶ request_begin ─▶ request_route ─▶ part_ask ─▶ (server's lane)
 *                                                                       │
 *   (client) ◀── client_deliver ◀── request_finish ◀── part_end ◀───────┘
 *                                                          ▲
 *             lane lost, timed out, server down, no memory ┘
 *
 *   Trouble has no road of its own.  Whatever goes wrong with a part becomes an
 *   error reply where it went wrong, enters at part_end, and walks home like
 *   any other reply.
 *
 * WHAT IS ALWAYS TRUE
 *   (1) A client's requests stand in its `waiting` queue in the order read, and
 *       replies leave in that order.
 *   (2) A part that was asked and not answered by its server stands in exactly
 *       one lane's FIFO, in the order of the bytes on that connection.  The next
 *       reply is for the head.  A part whose client is gone or was told that
 *       time is up stays there until the reply has come or the lane is gone.
 *   (3) No conn is freed while events are served: it is marked, and buried at
 *       the end of the turn.  A request is freed by room 14 alone.
 *   (4) A room calls only rooms with a lower number.  There are no prototypes,
 *       so the compiler checks this.  Calls upward are the pointers in struct
 *       watch and struct role, and nothing else.
 *   (5) What may have been written to a server is never written again.
 *   (6) Threads share setups, which nobody changes and which are freed when no
 *       pool runs by them; letters; and counts of clients, which only change when
 *       one comes or goes.
 *   (7) A retired pool is asked for nothing more: a client goes on with the heir
 *       once it has all its replies, so no two pools owe it one.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "nutproxy.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ===========================================================================
 * 1. GROUND                                                                {
 *    gives    lit, must, countof, container_of, struct link and list_*,
 *             words and numbers in struct bytes, find, copy
 *    never    allocates, fails, or knows what a proxy is
 * ======================================================================== */

#define countof(a)                 (sizeof(a) / sizeof((a)[0]))
#define container_of(p, type, mem) ((type *)(void *)((char *)(p) - offsetof(type, mem)))
#define lit(s)                     ((struct bytes){"" s, sizeof(s) - 1})

/* A broken promise of ours.  A proxy that goes on may hand one client another
 * client's data, so this stays on in production. */
#define must(c) \
    do { if (!(c)) must_not_be(#c); } while (0)

/* Say a text on stderr.  Where that is not taken there is nobody to tell. */
static void say_text(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) == -1)
        return;
}

_Noreturn static void must_not_be(const char *what)
{
    say_text(__FILE__ ": must(");
    say_text(what);
    say_text(")\n");
    abort();
}

/* The program is compiled to be small, and then a call is not worth saving.  It is for
 * these: they are called for each request, or each byte of it. */
#define QUICK __attribute__((always_inline)) static inline

QUICK size_t least_of(size_t a, size_t b) { return a < b ? a : b; }
QUICK size_t most_of(size_t a, size_t b)  { return a > b ? a : b; }
QUICK bool is_digit(char c)               { return c >= '0' && c <= '9'; }
QUICK char lower(char c)                  { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

static struct bytes bytes_of(const char *text) { return (struct bytes){text, strlen(text)}; }

/* The `n`th of texts that stand one behind the other, each with its NUL, from 0 on.
 * So do the texts of tables: pointers to them would have to be put right, one by one,
 * when the program starts. */
static const char *text_nth(const char *texts, size_t n)
{
    while (n-- > 0)
        texts += strlen(texts) + 1;
    return texts;
}

QUICK struct bytes bytes_from(struct bytes b, size_t n)
{
    must(n <= b.len);
    return (struct bytes){b.at + n, b.len - n};
}

static bool bytes_same(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

/* Whether CR LF stands at `at`. */
QUICK bool is_line_end(const char *at) { return at[0] == '\r' && at[1] == '\n'; }

static bool starts_with(struct bytes b, struct bytes start)
{
    return b.len >= start.len && memcmp(b.at, start.at, start.len) == 0;
}

/* Whether `a` is the word `b`, whatever the case of their letters. */
static bool same_word(struct bytes a, struct bytes b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (a.at[i] != b.at[i] && lower(a.at[i]) != lower(b.at[i]))
            return false;
    return true;
}

#define NO_TEXT SIZE_MAX

/* Which of texts that stand so, behind the last one an empty one, is the same as `word`. */
static size_t text_same_as(const char *texts, struct bytes word, bool (*same)(struct bytes a, struct bytes b))
{
    struct bytes text;
    for (size_t n = 0; (text = bytes_of(texts)).len > 0; texts += text.len + 1, n++)
        if (same(text, word))
            return n;
    return NO_TEXT;
}

static size_t text_find(const char *texts, struct bytes word) { return text_same_as(texts, word, bytes_same); }

/* Whatever the case of the letters. */
static size_t word_find(const char *texts, struct bytes word) { return text_same_as(texts, word, same_word); }

/* What a libc sets up for many bytes costs more than the few that a key, a line or
 * a small value has.  So these two are ours: eight or sixteen bytes at a time. */

#define EACH_OCTET(n) (UINT64_MAX / 255 * (n))      /* eight times the same octet */

QUICK uint64_t eight_at(const char *at)
{
    uint64_t w;
    memcpy(&w, at, sizeof w);
    return w;
}

/* Where the first `c` of `b` stands from `at` on; b.len when there is none. */
static size_t find(struct bytes b, size_t at, char c)
{
    for (; b.len - at >= 8; at += 8) {
        uint64_t w = eight_at(b.at + at) ^ EACH_OCTET((unsigned char)c);
        uint64_t hit = (w - EACH_OCTET(1)) & ~w & EACH_OCTET(0x80);
        if (hit != 0 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
            return at + (size_t)__builtin_ctzll(hit) / 8;
        if (hit != 0)
            break;
    }
    while (at < b.len && b.at[at] != c)
        at++;
    return at;
}

static void copy(char *to, struct bytes b)
{
    size_t n = b.len;
    const char *from = b.at;
    if (n > 256) {
        memcpy(to, from, n);
    } else if (n >= 16) {
        for (size_t i = 0; i < n - 16; i += 16)
            memcpy(to + i, from + i, 16);
        memcpy(to + n - 16, from + n - 16, 16);     /* over some of the last ones again */
    } else if (n >= 8) {
        memcpy(to, from, 8);
        memcpy(to + n - 8, from + n - 8, 8);
    } else if (n >= 4) {
        memcpy(to, from, 4);
        memcpy(to + n - 4, from + n - 4, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
    }
}

/* A number as a machine writes it: digits, no sign, no leading zero, at most
 * `most`.  Servers take no other form in a length, so we forward no other. */
static bool number_read(struct bytes text, uint64_t most, uint64_t *out)
{
    uint64_t n = 0;
    if (text.len == 0 || text.len > 20 || (text.len > 1 && text.at[0] == '0'))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (!is_digit(text.at[i]))
            return false;
        uint64_t digit = (uint64_t)(text.at[i] - '0');
        if (i == 19 && (n > UINT64_MAX / 10 || n * 10 > UINT64_MAX - digit))
            return false;                   /* fewer digits cannot wrap */
        n = n * 10 + digit;
    }
    *out = n;
    return n <= most;
}

/* Write `n` in decimal at `to`, which has room for 20 bytes; how many it took. */
static size_t number_write(char *to, uint64_t n)
{
    char reversed[20];
    size_t len = 0;
    do
        reversed[len++] = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    for (size_t i = 0; i < len; i++)
        to[i] = reversed[len - 1 - i];
    return len;
}

/* ---- texts made to a format
 *
 * printf's words as far as we use them: %s %c %d %u %x %%, ll before a number, a
 * width behind - or 0, a precision or .* of %s.  A libc's are ten times as large,
 * and most of that is for floating point, of which we have none. */

/* Where a text goes: to `to`, as far as there is room, or by way of it to a file, if `fd` is not 0. */
struct out { char *to; size_t room, len; int fd; bool failed; };

static void out_flush(struct out *o)
{
    for (size_t at = 0; at < o->len && !o->failed; ) {
        ssize_t n = write(o->fd, o->to + at, o->len - at);
        o->failed = n == -1;
        at += n == -1 ? 0 : (size_t)n;
    }
    o->len = 0;
}

static void out_put(struct out *o, struct bytes b)
{
    for (;;) {
        size_t n = least_of(b.len, o->room - o->len);
        copy(o->to + o->len, (struct bytes){b.at, n});
        o->len += n;
        b = bytes_from(b, n);
        if (b.len == 0 || o->fd == 0)
            return;
        out_flush(o);
    }
}

static void out_fill(struct out *o, char c, size_t n)
{
    while (n-- > 0)
        out_put(o, (struct bytes){&c, 1});
}

/* What stands between a '%' and its letter. */
struct spec { bool left, zeros, given, wide; uint32_t width, precision; char letter; };

static const char *spec_read(struct spec *s, const char *at)
{
    *s = (struct spec){.precision = UINT32_MAX};
    for (; *at == '-' || *at == '0'; at++) {
        s->left |= *at == '-';
        s->zeros |= *at == '0';
    }
    for (; is_digit(*at); at++)
        s->width = s->width * 10 + (uint32_t)(*at - '0');
    if (*at == '.') {
        s->given = at[1] == '*';
        s->precision = 0;
        for (at += s->given ? 2 : 1; is_digit(*at); at++)
            s->precision = s->precision * 10 + (uint32_t)(*at - '0');
    }
    s->wide = at[0] == 'l' && at[1] == 'l';
    at += s->wide ? 2 : 0;
    s->letter = *at;
    return at + 1;
}

/* Write `n` in hexadecimal at `to`, which has room for 16 bytes; how many it took. */
static size_t hex_write(char *to, uint64_t n)
{
    size_t len = 1;
    while (len < 16 && n >> 4 * len != 0)
        len++;
    for (size_t i = len; i > 0; n >>= 4)
        to[--i] = "0123456789abcdef"[n & 15];
    return len;
}

static void out_format(struct out *o, const char *at, va_list args)
{
    struct spec s;
    char own[24];
    while (*at != '\0') {
        size_t plain = (size_t)(strchrnul(at, '%') - at);
        out_put(o, (struct bytes){at, plain});
        at += plain;
        if (*at == '\0')
            return;
        at = spec_read(&s, at + 1);
        struct bytes b = {own, 1};
        if (s.given)
            s.precision = (uint32_t)va_arg(args, int);
        if (s.letter == 's') {
            b.at = va_arg(args, const char *);
            b.len = strnlen(b.at, s.precision);
        } else if (s.letter == 'c') {
            own[0] = (char)va_arg(args, int);
        } else if (s.letter == 'd') {
            int64_t n = s.wide ? va_arg(args, long long) : va_arg(args, int);
            own[0] = '-';
            b.len = n < 0 ? 1 + number_write(own + 1, 0 - (uint64_t)n) : number_write(own, (uint64_t)n);
        } else if (s.letter == 'u' || s.letter == 'x') {
            uint64_t n = s.wide ? va_arg(args, unsigned long long) : va_arg(args, unsigned);
            b.len = s.letter == 'u' ? number_write(own, n) : hex_write(own, n);
        } else {
            own[0] = s.letter;              /* "%%" */
        }
        size_t fill = s.width > b.len ? s.width - b.len : 0;
        out_fill(o, s.zeros ? '0' : ' ', s.left ? 0 : fill);
        out_put(o, b);
        out_fill(o, ' ', s.left ? fill : 0);
    }
}

/* A text in `to`, which has `room`, its end included; how long it is.  What does not
 * fit is cut off. */
static size_t text_in_args(char *to, size_t room, const char *format, va_list args)
{
    struct out o = {.to = to, .room = room - 1};
    out_format(&o, format, args);
    to[o.len] = '\0';
    return o.len;
}

__attribute__((format(printf, 3, 4)))
static size_t text_in(char *to, size_t room, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t len = text_in_args(to, room, format, args);
    va_end(args);
    return len;
}

__attribute__((format(printf, 2, 3)))
static void print(struct out *o, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    out_format(o, format, args);
    va_end(args);
}

/* On stderr. */
__attribute__((format(printf, 1, 2)))
static void say(const char *format, ...)
{
    char own[512];
    struct out o = {.to = own, .room = sizeof own, .fd = STDERR_FILENO};
    va_list args;
    va_start(args, format);
    out_format(&o, format, args);
    va_end(args);
    out_flush(&o);
}

/* ---- lists */

/* A ring of links through its head.  A link that is on no list is all NULL. */
struct link { struct link *prev, *next; };

static void list_init(struct link *head)        { head->prev = head->next = head; }
static bool list_empty(const struct link *head) { return head->next == head; }
QUICK bool list_linked(const struct link *l)   { return l->next != NULL; }

QUICK void list_push(struct link *head, struct link *l)
{
    must(!list_linked(l));
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

QUICK void list_cut(struct link *l)
{
    must(list_linked(l));
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->prev = l->next = NULL;
}
/* } 1 */

/* ===========================================================================
 * 2. MEMORY                                                                {
 *    gives    mem_take, mem_give, struct block, nut_queue_*, struct pen
 *    needs    1
 *    never    decides what happens when memory is short: it says so, once
 *
 * malloc is slow where it is called for each request, and musl's most of all:
 * it goes to the kernel and back.  So what is given back stays on a shelf of
 * equal things, and nut_mem_tidy returns what a while has not needed.
 * ======================================================================== */

#define SMALL_STEP 32u
#define SMALL_HEAD 4u                       /* of each thing musl's malloc takes so much for itself ... */
#define SMALL_MOST (SMALL_STEP * NUT_SMALL_SHELVES - SMALL_HEAD)
#define LARGE_LEAST 1024u
#define LARGE_HEAD 20u                      /* ... or so much: what is left of a power of two wastes nothing */
#define MEM_LITTLE  (16u << 10)             /* bytes that are little to ask for */

struct spare { struct spare *next; };

/* What a thing on a shelf takes. */
QUICK size_t shelf_small(size_t i) { return (i + 1) * SMALL_STEP - SMALL_HEAD; }
QUICK size_t shelf_large(size_t i) { return ((size_t)LARGE_LEAST << i) - LARGE_HEAD; }

/* The shelf for `n` bytes, and in *size what a thing on it takes.  NULL: it is
 * so large that it goes to the system and back. */
QUICK struct shelf *mem_shelf(struct mem *m, size_t n, size_t *size)
{
    if (n <= SMALL_MOST) {
        size_t i = n == 0 ? 0 : (n + SMALL_HEAD - 1) / SMALL_STEP;
        *size = shelf_small(i);
        return &m->small[i];
    }
    size_t i = 64 - (size_t)__builtin_clzll((n + LARGE_HEAD - 1) / LARGE_LEAST | 1);    /* 2^i KiB are enough ... */
    if (n <= shelf_large(0))
        i = 0;                              /* ... or 1 */
    *size = i < NUT_LARGE_SHELVES ? shelf_large(i) : n;
    return i < NUT_LARGE_SHELVES ? &m->large[i] : NULL;
}

QUICK bool mem_denied(struct mem *m)
{
    if (m->deny_at == 0 || --m->deny_at > 0)
        return false;
    m->deny_at = m->deny_every;
    return true;
}

/* Give `n` spares of a shelf back to the system. */
static void shelf_clear(struct mem *m, struct shelf *s, size_t size, uint32_t n)
{
    for (; n > 0; n--) {
        struct spare *spare = s->top;
        s->top = spare->next;
        s->spares--;
        m->used -= size;
        free(spare);
    }
    s->least = s->spares;
}

void nut_mem_empty(struct mem *m)
{
    for (size_t i = 0; i < NUT_SMALL_SHELVES; i++)
        shelf_clear(m, &m->small[i], shelf_small(i), m->small[i].spares);
    for (size_t i = 0; i < NUT_LARGE_SHELVES; i++)
        shelf_clear(m, &m->large[i], shelf_large(i), m->large[i].spares);
}

/* `least` is how few spares a shelf has had since the last time: so many were
 * not needed.  Half of them go, so that a steady load keeps its own. */
void nut_mem_tidy(struct mem *m)
{
    for (size_t i = 0; i < NUT_SMALL_SHELVES; i++)
        shelf_clear(m, &m->small[i], shelf_small(i), (m->small[i].least + 1) / 2);
    for (size_t i = 0; i < NUT_LARGE_SHELVES; i++)
        shelf_clear(m, &m->large[i], shelf_large(i), (m->large[i].least + 1) / 2);
}

/* Whether so much of the memory is held that who has some should not get more. */
QUICK bool mem_is_scarce(const struct mem *m) { return m->used > m->most - m->most / 4; }

/* Whether there is anything for nut_mem_tidy to do, now or later. */
static bool mem_spares(const struct mem *m)
{
    for (size_t i = 0; i < NUT_SMALL_SHELVES; i++)
        if (m->small[i].spares > 0)
            return true;
    for (size_t i = 0; i < NUT_LARGE_SHELVES; i++)
        if (m->large[i].spares > 0)
            return true;
    return false;
}

/* `size` bytes from the system, as far as it may: an eighth of all is for the small things, so that
 * those who want much do not stop those who want little. */
static void *mem_fetch(struct mem *m, size_t size)
{
    size_t most = m->most - (size > MEM_LITTLE ? m->most / 8 : 0);
    if (size > most || m->used > most - size)
        nut_mem_empty(m);
    if (size > most || m->used > most - size)
        return NULL;
    void *p = malloc(size);
    if (p != NULL)
        m->used += size;
    return p;
}

/* `size` bytes of a shelf's things, of no particular content; NULL when memory is short. */
QUICK void *shelf_take(struct mem *m, struct shelf *s, size_t size)
{
    if (mem_denied(m))
        return NULL;
    if (s == NULL || s->top == NULL)
        return mem_fetch(m, size);
    struct spare *spare = s->top;
    s->top = spare->next;
    if (--s->spares < s->least)
        s->least = s->spares;
    return spare;
}

/* `n` bytes. */
static void *mem_take(struct mem *m, size_t n)
{
    size_t size;
    struct shelf *s = mem_shelf(m, n, &size);
    return shelf_take(m, s, size);
}

/* Take back what mem_take gave for the same `n`. */
static void mem_give(struct mem *m, void *p, size_t n)
{
    size_t size;
    if (p == NULL)
        return;
    struct shelf *s = mem_shelf(m, n, &size);
    if (s == NULL) {
        m->used -= size;
        free(p);
        return;
    }
    struct spare *spare = p;
    spare->next = s->top;
    s->top = spare;
    s->spares++;
}

static void *mem_zero(struct mem *m, size_t n)
{
    void *p = mem_take(m, n);
    return p == NULL ? NULL : memset(p, 0, n);
}

/* Move `held` bytes of a thing of size `old` into one of size `n`; NULL leaves
 * the old one as it was. */
static void *mem_resize(struct mem *m, void *p, size_t old, size_t held, size_t n)
{
    void *q = mem_take(m, n);
    if (q == NULL)
        return NULL;
    if (held > 0)
        memcpy(q, p, held);
    mem_give(m, p, old);
    return q;
}

/* Below, and wherever a request comes by, fields are set one by one: compiled to be
 * small, a struct that is set as a whole is a string instruction, which is slow to begin. */

/* A block with room for at least `n` bytes, with one reference. */
static struct block *block_take(struct mem *m, size_t n)
{
    size_t size = 0;
    if (n > 2u * NUT_REQUEST_MAX)
        return NULL;
    struct shelf *shelf = mem_shelf(m, sizeof(struct block) + n, &size);
    struct block *b = shelf_take(m, shelf, size);
    if (b == NULL)
        return NULL;
    b->refs = 1;
    b->cap = (uint32_t)(size - sizeof *b);  /* < 4 GiB: see above */
    b->fill = 0;
    return b;
}

static void block_drop(struct mem *m, struct block *b)
{
    must(b->refs > 0);
    if (--b->refs == 0)
        mem_give(m, b, sizeof *b + b->cap);
}

static void queue_add(struct queue *q, struct piece *p)
{
    p->next = NULL;
    if (q->last == NULL)
        q->first = p;
    else
        q->last->next = p;
    q->last = p;
    q->len += p->len;
}

/* A new piece with room for `n` bytes behind it, not yet in a queue. */
static struct piece *piece_take(struct mem *m, size_t n)
{
    struct piece *p = mem_take(m, sizeof *p);
    struct block *b = p == NULL ? NULL : block_take(m, n);
    if (b == NULL) {
        mem_give(m, p, sizeof *p);
        return NULL;
    }
    p->next = NULL;
    p->block = b;
    p->at = b->bytes;
    p->len = 0;
    return p;
}

static void piece_drop(struct mem *m, struct piece *p)
{
    block_drop(m, p->block);
    mem_give(m, p, sizeof *p);
}

/* How many bytes the last piece can still take: only where its block ends with
 * it, and nobody else has the block, who might fill it on. */
static size_t queue_room(const struct queue *q)
{
    const struct piece *p = q->last;
    if (p == NULL || p->block->refs > 1 || p->at + p->len != p->block->bytes + p->block->fill)
        return 0;
    return p->block->cap - p->block->fill;
}

static void piece_fill(struct piece *p, struct bytes b)
{
    must(b.len <= p->block->cap - p->block->fill);
    copy(p->at + p->len, b);
    p->len += b.len;
    p->block->fill += (uint32_t)b.len;          /* <= cap */
}

/* Put what the last piece, which has `room`, cannot take whole.  A short queue gets
 * a small block, a long one larger ones. */
static bool queue_put_more(struct mem *m, struct queue *q, size_t room, struct bytes b)
{
    size_t want = most_of(b.len - room, least_of(q->len, shelf_large(4) - sizeof(struct block)));
    struct piece *more = piece_take(m, most_of(want, shelf_large(0) - sizeof(struct block)));
    if (more == NULL)
        return false;
    if (room > 0) {
        piece_fill(q->last, (struct bytes){b.at, room});
        q->len += room;
    }
    piece_fill(more, bytes_from(b, room));
    queue_add(q, more);
    return true;
}

bool nut_queue_put(struct mem *m, struct queue *q, struct bytes b)
{
    size_t room = queue_room(q);
    if (b.len == 0)
        return true;
    if (b.len > room)
        return queue_put_more(m, q, room, b);
    piece_fill(q->last, b);
    q->len += b.len;
    return true;
}

/* Put all that an empty queue will ever hold: no room is kept behind it. */
static bool queue_put_all(struct mem *m, struct queue *q, struct bytes b)
{
    struct piece *p = piece_take(m, b.len);
    if (p == NULL)
        return false;
    piece_fill(p, b);
    queue_add(q, p);
    return true;
}

/* Put bytes that stand in `block` without copying them. */
bool nut_queue_refer(struct mem *m, struct queue *q, struct block *block, struct bytes b)
{
    must(b.at >= block->bytes && b.len <= (size_t)(block->bytes + block->fill - b.at));
    struct piece *p = mem_take(m, sizeof *p);
    if (p == NULL)
        return false;
    block->refs++;
    p->block = block;
    p->at = block->bytes + (b.at - block->bytes);
    p->len = b.len;
    queue_add(q, p);
    return true;
}

/* Put bytes that stand in `block` (NULL: elsewhere): the large are referred to. */
static bool queue_hand(struct mem *m, struct queue *q, struct block *block, struct bytes b)
{
    return block != NULL && b.len >= NUT_BIG ? nut_queue_refer(m, q, block, b)
                                             : nut_queue_put(m, q, b);
}

void nut_queue_drop(struct mem *m, struct queue *q, size_t n)
{
    must(n <= q->len);
    q->len -= n;
    while (n > 0 || (q->first != NULL && q->first->len == 0)) {
        struct piece *p = q->first;
        if (n < p->len) {
            p->at += n;
            p->len -= n;
            return;
        }
        n -= p->len;
        q->first = p->next;
        if (q->first == NULL)
            q->last = NULL;
        piece_drop(m, p);
    }
}

void nut_queue_free(struct mem *m, struct queue *q) { nut_queue_drop(m, q, q->len); }

/* Cut the end off, so that `len` bytes are left. */
static void queue_trim(struct mem *m, struct queue *q, size_t len)
{
    struct queue kept = {0};
    must(len <= q->len);
    while (kept.len < len) {
        struct piece *p = q->first;
        q->first = p->next;
        q->len -= p->len;
        size_t keep = least_of(p->len, len - kept.len);
        p->len = keep;
        queue_add(&kept, p);
    }
    if (q->first == NULL)
        q->last = NULL;
    nut_queue_free(m, q);
    *q = kept;
}

/* All of `from`, behind `to`. */
static void queue_join(struct queue *to, struct queue *from)
{
    if (from->first == NULL)
        return;
    if (to->last == NULL)
        to->first = from->first;
    else
        to->last->next = from->first;
    to->last = from->last;
    to->len += from->len;
    from->first = from->last = NULL;
    from->len = 0;
}

bool nut_queue_move(struct mem *m, struct queue *to, struct queue *from, size_t n)
{
    must(n <= from->len);
    while (n > 0) {
        struct piece *p = from->first;
        struct bytes b = {p->at, least_of(n, p->len)};
        if (!queue_hand(m, to, p->block, b))
            return false;
        nut_queue_drop(m, from, b.len);
        n -= b.len;
    }
    return true;
}

/* The first `n` bytes, or what there is, copied to `to`; how many. */
static size_t queue_peek(const struct queue *q, char *to, size_t n)
{
    size_t got = 0;
    for (const struct piece *p = q->first; p != NULL && got < n; p = p->next) {
        size_t more = least_of(p->len, n - got);
        memcpy(to + got, p->at, more);
        got += more;
    }
    return got;
}

/* A queue that text is written to.  Once memory was short nothing is added: `ok`
 * is looked at when all is written. */
struct pen { struct mem *mem; struct queue out; bool ok; };

static void pen_put(struct pen *pen, struct bytes b)
{
    pen->ok = pen->ok && nut_queue_put(pen->mem, &pen->out, b);
}

static bool queue_put_number(struct mem *m, struct queue *q, char mark, uint64_t n)
{
    char line[24];
    line[0] = mark;
    size_t len = 1 + number_write(line + 1, n);
    line[len++] = '\r';
    line[len++] = '\n';
    return nut_queue_put(m, q, (struct bytes){line, len});
}
/* } 2 */

/* ===========================================================================
 * 3. HASH                                                                  {
 *    gives    nut_hash, nut_hash_name, nut_tagged, md5
 *    needs    1
 *    never    knows servers: it makes a number, somebody else makes a choice
 *
 * Keys must land where twemproxy put them, so each function is twemproxy's,
 * quirks and all.  Its `char` is signed: where a function adds or xors a plain
 * char, bytes from 0x80 on are sign-extended.
 * ======================================================================== */

static uint32_t sign_extended(char c)             { return (uint32_t)(int32_t)(signed char)c; }
static uint32_t octet(char c)                     { return (unsigned char)c; }
static uint32_t rotated(uint32_t x, unsigned n)   { return x << n | x >> (32 - n); }

static uint32_t little_endian(const char *at)
{
    return octet(at[0]) | octet(at[1]) << 8 | octet(at[2]) << 16 | octet(at[3]) << 24;
}

static uint32_t hash_one_at_a_time(struct bytes key)
{
    uint32_t h = 0;
    for (size_t i = 0; i < key.len; i++) {
        h += sign_extended(key.at[i]);
        h += h << 10;
        h ^= h >> 6;
    }
    h += h << 3;
    h ^= h >> 11;
    return h + (h << 15);
}

static const uint32_t md5_sine[64] = {          /* |sin(i + 1)| * 2^32, RFC 1321 */
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391
};

static void md5_block(uint32_t state[4], const char *at)
{
    static const uint8_t turn[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t f, word;
        switch (i / 16) {
        case 0:  f = (b & c) | (~b & d); word = i;                break;
        case 1:  f = (d & b) | (~d & c); word = (5 * i + 1) % 16; break;
        case 2:  f = b ^ c ^ d;          word = (3 * i + 5) % 16; break;
        default: f = c ^ (b | ~d);       word = 7 * i % 16;       break;
        }
        f += a + md5_sine[i] + little_endian(at + (size_t)4 * word);
        a = d;
        d = c;
        c = b;
        b += rotated(f, turn[i / 16][i % 4]);
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
}

/* The MD5 digest of `b` (RFC 1321), as four little-endian words. */
static void md5(struct bytes b, uint32_t state[4])
{
    char last[128] = {0};
    size_t whole = b.len & ~(size_t)63, rest = b.len - whole;
    size_t len = rest < 56 ? 64 : 128;
    uint64_t bits = (uint64_t)b.len * 8;

    state[0] = 0x67452301;
    state[1] = 0xefcdab89;
    state[2] = 0x98badcfe;
    state[3] = 0x10325476;
    for (size_t i = 0; i < whole; i += 64)
        md5_block(state, b.at + i);
    if (rest > 0)
        memcpy(last, b.at + whole, rest);
    last[rest] = (char)0x80;
    for (size_t i = 0; i < 8; i++)
        last[len - 8 + i] = (char)(bits >> (8 * i) & 0xff);
    for (size_t i = 0; i < len; i += 64)
        md5_block(state, last + i);
}

static uint32_t hash_md5(struct bytes key)
{
    uint32_t state[4];
    md5(key, state);
    return state[0];
}

/* A table of 256 remainders is the xor of two of 16: they are linear. */
static uint32_t hash_crc16(struct bytes key)
{
    static const uint16_t low[16] = {
        0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
        0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};
    static const uint16_t high[16] = {
        0x0000, 0x1231, 0x2462, 0x3653, 0x48c4, 0x5af5, 0x6ca6, 0x7e97,
        0x9188, 0x83b9, 0xb5ea, 0xa7db, 0xd94c, 0xcb7d, 0xfd2e, 0xef1f};
    uint32_t crc = 0;                       /* never cut to 16 bits, as in twemproxy */
    for (size_t i = 0; i < key.len; i++) {
        uint32_t at = (crc >> 8 ^ octet(key.at[i])) & 0xff;
        crc = crc << 8 ^ high[at >> 4] ^ low[at & 15];
    }
    return crc;
}

static uint32_t hash_crc32a(struct bytes key)
{
    static const uint32_t low[16] = {
        0x00000000, 0x77073096, 0xee0e612c, 0x990951ba, 0x076dc419, 0x706af48f, 0xe963a535, 0x9e6495a3,
        0x0edb8832, 0x79dcb8a4, 0xe0d5e91e, 0x97d2d988, 0x09b64c2b, 0x7eb17cbd, 0xe7b82d07, 0x90bf1d91};
    static const uint32_t high[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < key.len; i++) {
        uint32_t at = (crc ^ octet(key.at[i])) & 0xff;
        crc = crc >> 8 ^ high[at >> 4] ^ low[at & 15];
    }
    return ~crc;
}

/* libmemcached's flavour: 15 bits of it. */
static uint32_t hash_crc32(struct bytes key) { return hash_crc32a(key) >> 16 & 0x7fff; }

/* The low half of the 64-bit functions: the high half never reaches it. */
static uint32_t hash_fnv1_64(struct bytes key)
{
    uint32_t h = 0x84222325;
    for (size_t i = 0; i < key.len; i++)
        h = h * 0x1b3 ^ sign_extended(key.at[i]);
    return h;
}

static uint32_t hash_fnv1a_64(struct bytes key)
{
    uint32_t h = 0x84222325;
    for (size_t i = 0; i < key.len; i++)
        h = (h ^ sign_extended(key.at[i])) * 0x1b3;
    return h;
}

static uint32_t hash_fnv1_32(struct bytes key)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < key.len; i++)
        h = h * 16777619u ^ sign_extended(key.at[i]);
    return h;
}

static uint32_t hash_fnv1a_32(struct bytes key)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < key.len; i++)
        h = (h ^ sign_extended(key.at[i])) * 16777619u;
    return h;
}

/* SuperFastHash, but begun at 0 instead of the length. */
static uint32_t hash_hsieh(struct bytes key)
{
    uint32_t h = 0;
    const char *at = key.at;
    size_t left = key.len;
    for (; left >= 4; left -= 4, at += 4) {
        h += octet(at[0]) | octet(at[1]) << 8;
        h = h << 16 ^ ((octet(at[2]) | octet(at[3]) << 8) << 11 ^ h);
        h += h >> 11;
    }
    if (left == 3) {
        h += octet(at[0]) | octet(at[1]) << 8;
        h ^= h << 16;
        h ^= sign_extended(at[2]) << 18;
        h += h >> 11;
    } else if (left == 2) {
        h += octet(at[0]) | octet(at[1]) << 8;
        h ^= h << 11;
        h += h >> 17;
    } else if (left == 1) {
        h += octet(at[0]);
        h ^= h << 10;
        h += h >> 1;
    }
    h ^= h << 3;
    h += h >> 5;
    h ^= h << 4;
    h += h >> 17;
    h ^= h << 25;
    return h + (h >> 6);
}

/* MurmurHash2, with a seed made of the length. */
static uint32_t hash_murmur(struct bytes key)
{
    const uint32_t m = 0x5bd1e995;
    const char *at = key.at;
    size_t left = key.len;
    uint32_t h = 0xdeadbeefu * (uint32_t)key.len ^ (uint32_t)key.len;
    for (; left >= 4; left -= 4, at += 4) {
        uint32_t k = little_endian(at) * m;
        k = (k ^ k >> 24) * m;
        h = h * m ^ k;
    }
    if (left >= 3)
        h ^= octet(at[2]) << 16;
    if (left >= 2)
        h ^= octet(at[1]) << 8;
    if (left >= 1)
        h = (h ^ octet(at[0])) * m;
    h = (h ^ h >> 13) * m;
    return h ^ h >> 15;
}

/* Bob Jenkins' lookup3, "little", with the initial value 13. */
static uint32_t hash_jenkins(struct bytes key)
{
    const char *at = key.at;
    size_t left = key.len;
    uint32_t a = 0xdeadbeef + (uint32_t)key.len + 13, b = a, c = a;
    for (; left > 12; left -= 12, at += 12) {
        a += little_endian(at);
        b += little_endian(at + 4);
        c += little_endian(at + 8);
        a = (a - c) ^ rotated(c, 4);  c += b;
        b = (b - a) ^ rotated(a, 6);  a += c;
        c = (c - b) ^ rotated(b, 8);  b += a;
        a = (a - c) ^ rotated(c, 16); c += b;
        b = (b - a) ^ rotated(a, 19); a += c;
        c = (c - b) ^ rotated(b, 4);  b += a;
    }
    if (left == 0)
        return c;

    char last[12] = {0};
    memcpy(last, at, left);
    a += little_endian(last);
    b += little_endian(last + 4);
    c += little_endian(last + 8);
    c = (c ^ b) - rotated(b, 14);
    a = (a ^ c) - rotated(c, 11);
    b = (b ^ a) - rotated(a, 25);
    c = (c ^ b) - rotated(b, 16);
    a = (a ^ c) - rotated(c, 4);
    b = (b ^ a) - rotated(a, 14);
    return (c ^ b) - rotated(b, 24);
}

#define HASHES(_) \
    _(one_at_a_time) _(md5) _(crc16) _(crc32) _(crc32a) _(fnv1_64) _(fnv1a_64) _(fnv1_32) _(fnv1a_32) _(hsieh) \
    _(murmur) _(jenkins)

enum {
#define ROW(name) HASH_##name,
    HASHES(ROW)
#undef ROW
    HASH_END
};
_Static_assert(HASH_END == NUT_HASHES, "one name for each");

static const char hash_names[] =
#define ROW(name) #name "\0"
    HASHES(ROW) "";
#undef ROW

const char *nut_hash_name(int which) { return text_nth(hash_names, (size_t)which); }

uint64_t nut_hash_space(int which) { return which == HASH_crc32 ? 1u << 15 : (uint64_t)1 << 32; }

/* The hash of an empty key is 0, whatever the function. */
uint32_t nut_hash(int which, struct bytes key)
{
    if (key.len == 0)
        return 0;
    switch (which) {
#define ROW(name) case HASH_##name: return hash_##name(key);
    HASHES(ROW)
#undef ROW
    }
    return 0;
}

/* The first opening character counts, and the first closing one behind it; if
 * nothing stands between them the whole key is hashed. */
struct bytes nut_tagged(struct bytes key, const char *tag)
{
    const char *open = key.len == 0 ? NULL : memchr(key.at, tag[0], key.len);
    if (open == NULL)
        return key;
    size_t from = (size_t)(open - key.at) + 1;
    const char *shut = key.len == from ? NULL : memchr(open + 1, tag[1], key.len - from);
    if (shut == NULL || shut == open + 1)
        return key;
    return (struct bytes){open + 1, (size_t)(shut - open) - 1};
}
/* } 3 */

/* ===========================================================================
 * 4. RING                                                                  {
 *    gives    nut_ring_build, nut_ring_pick, nut_rings_compare
 *    needs    1, 2, 3
 *    never    knows addresses or why a server is out: it gets names, weights
 *             and who is out
 * ======================================================================== */

/* How many points of 4 a member gets.  Each product is rounded to a float, as
 * twemproxy's is: with doubles 25 equal servers would get another ring. */
static uint32_t ketama_points(uint32_t weight, uint64_t total, uint32_t live)
{
    float share = (float)weight / (float)total;
    float points = share * 160.0f;
    points = points / 4.0f;
    points = points * (float)live;
    points = (float)((double)points + 1e-10);
    return (uint32_t)points;                /* 0 <= points <= 40 * live */
}

/* The four points of the digest of "name-i". */
static void ketama_digest(struct bytes name, uint32_t i, uint32_t point[4])
{
    char text[272];                         /* twemproxy cuts it there */
    size_t len = least_of(name.len, sizeof text);
    char number[21] = "-";
    size_t digits = 1 + number_write(number + 1, i);
    memcpy(text, name.at, len);
    digits = least_of(digits, sizeof text - len);
    memcpy(text + len, number, digits);
    md5((struct bytes){text, len + digits}, point);
}

static int point_order(const void *a, const void *b)
{
    const struct point *p = a, *q = b;
    if (p->at != q->at)
        return p->at < q->at ? -1 : 1;
    return p->server < q->server ? -1 : p->server > q->server;
}

static void ketama_place(struct ring *r, const struct member *member, uint32_t n,
                         uint64_t total, uint32_t live)
{
    for (uint32_t s = 0; s < n; s++) {
        uint32_t points = member[s].out ? 0 : ketama_points(member[s].weight, total, live);
        for (uint32_t i = 0; i < points; i++) {
            uint32_t digest[4];
            ketama_digest(member[s].name, i, digest);
            for (uint32_t d = 0; d < 4; d++)
                r->point[r->points++] = (struct point){digest[d], s};
        }
    }
    /* Equal points keep the order of the servers. */
    qsort(r->point, r->points, sizeof *r->point, point_order);
}

/* Where the points of each of `slices` equal slices of the hash values begin: with
 * as many slices as points a search begins where it ends. */
static void ketama_index(struct ring *r, uint32_t slices)
{
    uint32_t i = 0;
    for (uint32_t slice = 0; slice < slices; slice++) {
        while (i < r->points && r->point[i].at >> r->shift < slice)
            i++;
        r->first[slice] = i;
    }
}

/* modula's slots, run together: a server's point is where its slots end. */
static void modula_place(struct ring *r, const struct member *member, uint32_t n)
{
    uint64_t end = 0;
    for (uint32_t s = 0; s < n; s++) {
        if (member[s].out)
            continue;
        end += r->spread == RANDOM ? 1 : member[s].weight;  /* random ignores weights */
        r->point[r->points++] = (struct point){end, s};
    }
}

void nut_ring_free(struct mem *m, struct ring *ring)
{
    mem_give(m, ring->point, ring->size);
    *ring = (struct ring){0};
}

bool nut_ring_build(struct mem *m, struct ring *ring, enum spread spread,
                    const struct member *member, uint32_t n)
{
    uint64_t total = 0;
    uint32_t live = 0;
    struct ring new = {.spread = spread, .shift = 32};
    for (uint32_t s = 0; s < n; s++) {
        if (member[s].out)
            continue;
        total += member[s].weight;
        live++;
    }
    /* Rounding up in the last place can give each a point of 4 too many. */
    uint32_t most = spread == KETAMA ? live * 160 + 4 * n : live;       /* <= NUT_SERVERS_MAX * 164 */
    uint32_t slices = spread == KETAMA ? 1 : 0;
    for (; slices > 0 && slices < most; slices *= 2)
        new.shift--;
    new.size = most * sizeof *new.point + slices * sizeof *new.first;
    if (live > 0) {
        new.point = mem_take(m, new.size);
        if (new.point == NULL)
            return false;
        new.first = slices > 0 ? (uint32_t *)(new.point + most) : NULL;
        if (spread == KETAMA)
            ketama_place(&new, member, n, total, live);
        else
            modula_place(&new, member, n);
        ketama_index(&new, slices);
    }
    nut_ring_free(m, ring);
    *ring = new;
    return true;
}

/* The first point at or behind `at`; the number of points when there is none. */
static uint32_t ring_search(const struct ring *ring, uint64_t at)
{
    uint32_t low = 0, high = ring->points;
    if (ring->first != NULL && at <= UINT32_MAX) {
        for (low = ring->first[at >> ring->shift]; low < high && ring->point[low].at < at; low++)
            ;
        return low;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ring->point[middle].at < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t nut_ring_pick(const struct ring *ring, uint32_t hash, uint32_t lot)
{
    if (ring->points == 0)
        return NUT_NOBODY;
    if (ring->spread == KETAMA) {
        uint32_t i = ring_search(ring, hash);
        return ring->point[i == ring->points ? 0 : i].server;
    }
    uint64_t slots = ring->point[ring->points - 1].at;
    uint64_t slot = (ring->spread == RANDOM ? lot : hash) % slots;
    return ring->point[ring_search(ring, slot + 1)].server;
}

/* ---- two rings compared */

/* Hash values from some value up to `end` that have one server. */
struct run { uint32_t server; uint64_t end; };

static struct run ring_run(const struct ring *ring, uint64_t at)
{
    if (ring->spread == KETAMA) {
        uint32_t i = ring_search(ring, at);
        if (i == ring->points)
            return (struct run){ring->point[0].server, UINT64_MAX};
        return (struct run){ring->point[i].server, ring->point[i].at + 1};
    }
    uint64_t slot = at % ring->point[ring->points - 1].at;
    const struct point *p = &ring->point[ring_search(ring, slot + 1)];
    return (struct run){p->server, at - slot + p->at};
}

/* After so many hash values two rings of slots begin again; at most `most`. */
static uint64_t slots_period(const struct ring *a, const struct ring *b, uint64_t most)
{
    uint64_t n = a->point[a->points - 1].at, divisor = n, rest = b->point[b->points - 1].at, other = rest;
    while (rest != 0) {                     /* Euclid's */
        uint64_t next = divisor % rest;
        divisor = rest;
        rest = next;
    }
    return n / divisor > most / other ? most : n / divisor * other;
}

/* Where two rings are compared, and one of them is slots: for a server of the
 * other, how often each server of the slots is met. */
struct meeting {
    const struct ring *slots;
    uint64_t          *count;               /* of server y at [y * step] */
    size_t             step;
    uint64_t          *rounds;              /* how often point i is met whole: the sum of [0] to [i] */
};

/* The slots from `from` to before `end`, which is at most the last, are met. */
static void meeting_part(struct meeting *m, uint64_t from, uint64_t end, uint64_t times)
{
    if (from == end)
        return;
    uint32_t first = ring_search(m->slots, from + 1), last = ring_search(m->slots, end);
    const struct point *point = m->slots->point;
    if (first == last) {
        m->count[point[first].server * m->step] += (end - from) * times;
        return;
    }
    m->count[point[first].server * m->step] += (point[first].at - from) * times;
    m->count[point[last].server * m->step] += (end - point[last - 1].at) * times;
    m->rounds[first + 1] += times;
    m->rounds[last] -= times;
}

/* The hash values from `from` to before `end` are met. */
static void meeting_stretch(struct meeting *m, uint64_t from, uint64_t end, uint64_t times)
{
    uint64_t slots = m->slots->point[m->slots->points - 1].at, slot = from % slots, rest = (end - from) % slots;
    m->rounds[0] += (end - from) / slots * times;
    meeting_part(m, slot, least_of(slot + rest, slots), times);
    meeting_part(m, 0, slot + rest > slots ? slot + rest - slots : 0, times);
}

static void meeting_end(struct meeting *m)
{
    uint64_t rounds = 0, start = 0;
    for (uint32_t i = 0; i < m->slots->points; i++) {
        const struct point *p = &m->slots->point[i];
        rounds += m->rounds[i];
        m->count[p->server * m->step] += rounds * (p->at - start);
        start = p->at;
    }
}

/* Compare two rings one of which, `slots`, is of slots, run by run of the other.
 * `step` and `servers` are how far apart servers of `slots` and of `runs` stand in
 * `count`, `n` how many `runs` has.  False: no memory. */
static bool rings_meet(struct mem *m, const struct ring *runs, uint32_t n, size_t servers, const struct ring *slots,
                       size_t step, uint64_t space, uint64_t *count)
{
    size_t width = slots->points + 1u, size = width * n * sizeof(uint64_t);
    uint64_t *rounds = mem_zero(m, size);
    uint64_t period = runs->spread == KETAMA ? space : slots_period(runs, slots, space);
    if (rounds == NULL)
        return false;
    for (uint64_t at = 0; at < period; ) {
        struct run run = ring_run(runs, at);
        uint64_t end = least_of(run.end, period), rest = space % period;
        struct meeting meeting = {slots, count + run.server * servers, step, rounds + run.server * width};
        meeting_stretch(&meeting, at, end, space / period);
        if (at < rest)                      /* the last period is cut off there */
            meeting_stretch(&meeting, at, least_of(end, rest), 1);
        at = end;
    }
    for (uint32_t x = 0; x < n; x++) {
        struct meeting meeting = {slots, count + x * servers, step, rounds + x * width};
        meeting_end(&meeting);
    }
    mem_give(m, rounds, size);
    return true;
}

bool nut_rings_compare(struct mem *m, const struct ring *a, uint32_t n, const struct ring *b, uint32_t servers,
                       uint64_t space, uint64_t *count)
{
    bool slots_a = a->spread != KETAMA, slots_b = b->spread != KETAMA;
    /* Of two rings of slots the one with the longer runs is the quicker to go along. */
    bool along_a = slots_b && (!slots_a || a->point[a->points - 1].at / a->points >=
                                           b->point[b->points - 1].at / b->points);
    if (along_a)
        return rings_meet(m, a, n, servers, b, 1, space, count);
    if (slots_a)
        return rings_meet(m, b, servers, 1, a, servers, space, count);
    for (uint64_t at = 0; at < space; ) {
        struct run x = ring_run(a, at), y = ring_run(b, at);
        uint64_t end = least_of(space, least_of(x.end, y.end));
        count[(size_t)x.server * servers + y.server] += end - at;
        at = end;
    }
    return true;
}
/* } 4 */

/* ===========================================================================
 * 5. WIRE                                                                  {
 *    gives    nut_resp_request, nut_mc_request, nut_command_find,
 *             nut_command_keys, nut_reply_scan, nut_merge
 *    needs    1, 2, 3
 *    never    sees a socket, a clock, a server or a log; never keeps a pointer
 *             into the bytes it was shown
 *
 * A connection to a server is shared, so a request is forwarded only if the
 * server will read exactly one request in it: what a server might read in
 * another way is refused here with the error the server would give.
 * ======================================================================== */

static const struct command commands[] = {
#define ROW(name, arity, first, last, step, keys, way, merge, access) \
    {arity, first, last, step, keys, way, merge, access, 0},
    NUT_COMMANDS(ROW)
#undef ROW
};

/* Their names, one behind the other. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverlength-strings"
#define ROW(name, ...) name "\0"
static const char command_names[] = NUT_COMMANDS(ROW) "";
#undef ROW
#pragma GCC diagnostic pop

static uint32_t lexicon_slot(struct bytes name)
{
    uint32_t h = (uint32_t)name.len;
    for (size_t i = 0; i < name.len; i++)
        h = (h ^ (octet(name.at[i]) | 0x20)) * 0x01000193u;
    return (h ^ h >> 15) % countof(((struct lexicon *)0)->slot);
}

/* Row `i` of the table, and behind it the pool's own. */
static const struct command *lexicon_row(const struct lexicon *l, uint32_t i)
{
    return i < countof(commands) ? &commands[i] : &l->own[i - countof(commands)].row;
}

static struct bytes lexicon_name(const struct lexicon *l, uint32_t i)
{
    if (i < countof(commands))
        return (struct bytes){command_names + l->name[i], (size_t)l->name[i + 1] - l->name[i] - 1};
    const struct own_command *own = &l->own[i - countof(commands)];
    return (struct bytes){own->name, own->len};
}

static void lexicon_put(struct lexicon *l, uint32_t row)
{
    uint32_t at = lexicon_slot(lexicon_name(l, row));
    while (l->slot[at] != 0)
        at = (at + 1) % countof(l->slot);
    l->slot[at] = (uint16_t)(row + 1);          /* NUT_OWN_MAX, and a few hundred rows */
}

void nut_lexicon_build(struct lexicon *l, struct own_command *own, uint32_t owns)
{
    size_t at = 0;
    _Static_assert(countof(commands) < countof(l->name), "room for the names of all rows");
    _Static_assert(countof(commands) + NUT_OWN_MAX < countof(l->slot), "and for a pool's own");
    must(owns <= NUT_OWN_MAX);
    *l = (struct lexicon){.own = own, .owns = owns};
    for (uint32_t i = 0; i < countof(commands); i++) {
        l->name[i] = (uint16_t)at;
        at += strlen(command_names + at) + 1;
    }
    l->name[countof(commands)] = (uint16_t)at;
    for (uint32_t i = 0; i < owns; i++)         /* first, so that they are found first */
        lexicon_put(l, (uint32_t)countof(commands) + i);
    for (uint32_t i = 0; i < countof(commands); i++)
        lexicon_put(l, i);
}

const struct command *nut_command_find(const struct lexicon *l, struct bytes name)
{
    if (name.len > NUT_NAME_MAX)
        return NULL;
    for (uint32_t at = lexicon_slot(name); l->slot[at] != 0; at = (at + 1) % countof(l->slot))
        if (same_word(name, lexicon_name(l, l->slot[at] - 1u))) {
            const struct command *c = lexicon_row(l, l->slot[at] - 1u);
            return c->way == UNKNOWN ? NULL : c;
        }
    return NULL;
}

/* The row of `c` in the table, also where it has another name in this pool; NULL: none. */
static const struct command *command_original(const struct lexicon *l, const struct command *c)
{
    if (c >= commands && c < commands + countof(commands))
        return c;
    const struct own_command *own = container_of(c, struct own_command, row);
    must(own >= l->own && own < l->own + l->owns);
    return own->of == 0 ? NULL : &commands[own->of - 1];
}

struct bytes nut_command_name(const struct lexicon *l, const struct command *c)
{
    if (c >= commands && c < commands + countof(commands))
        return lexicon_name(l, (uint32_t)(c - commands));
    const struct own_command *own = container_of(c, struct own_command, row);
    return (struct bytes){own->name, own->len};
}

/* What a command of the table is called in this pool, and so by its servers. */
static struct bytes command_called(const struct lexicon *l, struct bytes name)
{
    for (uint32_t i = 0; i < l->owns; i++) {
        const struct own_command *own = &l->own[i];
        if (own->of > 0 && own->row.way < DENIED && bytes_same(lexicon_name(l, own->of - 1u), name))
            return (struct bytes){own->name, own->len};
    }
    return name;
}

/* The subcommand `word` of `c`, as "CLIENT|ID"; NULL: there is none. */
static const struct command *command_sub(const struct lexicon *l, const struct command *c, struct bytes word)
{
    char text[2 * NUT_NAME_MAX + 1];
    struct bytes name = nut_command_name(l, command_original(l, c));    /* SUBS are all in the table */
    if (word.len > NUT_NAME_MAX)
        return NULL;
    copy(text, name);
    text[name.len] = '|';
    copy(text + name.len + 1, word);
    return nut_command_find(l, (struct bytes){text, name.len + 1 + word.len});
}

/* ---- requests: what both protocols share */

void nut_frame_reset(struct mem *m, struct frame *f)
{
    if (f->own != NULL)
        block_drop(m, f->own);
    f->pos = f->total = 0;
    f->argc = f->want = 0;
    f->text = (struct bytes){NULL, 0};
    f->own = NULL;
    f->why = NULL;
    f->odd = 0;
    f->verb = NULL;
    f->refusal = NULL;
    f->flags = f->amount = 0;
    f->exptime = 0;
    f->data.off = f->data.len = 0;
    f->line = f->block = f->noreply = false;
}

void nut_frame_free(struct mem *m, struct frame *f)
{
    nut_frame_reset(m, f);
    mem_give(m, f->argv, f->cap * sizeof *f->argv);
    *f = (struct frame){0};
}

static enum scan frame_bad(struct frame *f, const char *why)
{
    f->why = why;
    return SCAN_BAD;
}

/* Where a word should begin stands something else. */
static enum scan frame_odd(struct frame *f, char odd)
{
    f->odd = octet(odd) < ' ' ? ' ' : odd;
    return frame_bad(f, "-ERR Protocol error: expected '$', got '");
}

/* Room for more words. */
static bool frame_grow(struct mem *m, struct frame *f)
{
    uint32_t cap = f->cap == 0 ? 64 : f->cap * 2;       /* argc <= NUT_WORDS_MAX: no wrap */
    struct span *argv = mem_resize(m, f->argv, f->cap * sizeof *argv, f->argc * sizeof *argv,
                                   cap * sizeof *argv);
    if (argv == NULL)
        return false;
    f->argv = argv;
    f->cap = cap;
    return true;
}

QUICK bool frame_word(struct mem *m, struct frame *f, size_t off, size_t len)
{
    if (f->argc == f->cap && !frame_grow(m, f))
        return false;
    f->argv[f->argc++] = (struct span){(uint32_t)off, (uint32_t)len};   /* <= NUT_REQUEST_MAX */
    return true;
}

QUICK struct bytes quick_arg(const struct frame *f, uint32_t i)
{
    must(i < f->argc);
    return (struct bytes){f->text.at + f->argv[i].off, f->argv[i].len};
}

/* The same where it is not asked for each request: small. */
static struct bytes frame_arg(const struct frame *f, uint32_t i) { return quick_arg(f, i); }

/* ---- RESP requests */

/* The quick way through a line like "$14\r\n" that is all there and as it should be:
 * how many bytes it takes, and its number; 0: it must be looked at more closely. */
static size_t resp_head(struct bytes in, size_t at, char mark, size_t *n)
{
    const char *head = in.at + at;
    size_t i = 2;
    if (in.len - at < 8 || head[0] != mark || !is_digit(head[1]) || head[1] == '0')
        return 0;
    *n = (size_t)(head[1] - '0');
    for (; i < 6 && is_digit(head[i]); i++)
        *n = *n * 10 + (size_t)(head[i] - '0');
    return is_line_end(head + i) ? i + 2 : 0;
}

/* Read the number of a line like "*3\r\n" at *pos, whose mark was seen.  *pos
 * moves only when the whole line is there.  "-1" and less are told as -1. */
static enum scan resp_count(struct bytes in, size_t *pos, uint64_t most, int64_t *out)
{
    size_t first = *pos + 1, i = first;
    uint64_t n = 0;
    while (i < in.len && is_digit(in.at[i]) && i - first < 12)
        n = n * 10 + (uint64_t)(in.at[i++] - '0');      /* 12 digits: cannot wrap */
    bool negative = i == first && i < in.len && in.at[i] == '-';
    if (negative)
        for (i++; i < in.len && is_digit(in.at[i]) && i - first < 20; i++)
            ;
    if (i == in.len)
        return n > most ? SCAN_BAD : SCAN_MORE;
    size_t digits = i - first - (negative ? 1 : 0);
    char lead = in.at[first + (negative ? 1 : 0)];
    if (in.at[i] != '\r' || digits == 0 || (lead == '0' && (digits > 1 || negative)) || n > most)
        return SCAN_BAD;
    if (i + 1 == in.len)
        return SCAN_MORE;
    if (in.at[i + 1] != '\n')
        return SCAN_BAD;
    *pos = i + 2;
    *out = negative ? -1 : (int64_t)n;                  /* <= most */
    return SCAN_DONE;
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The character that "\c" stands for inside double quotes. */
static char inline_escaped(char c)
{
    switch (c) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'b': return '\b';
    case 'a': return '\a';
    default:  return c;
    }
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Decode what stands in quotes from *at on, behind the opening one.  False when
 * they do not close, or close in the middle of a word. */
static bool inline_quoted(struct bytes line, size_t *at, char quote, char *to, size_t *len)
{
    size_t i = *at;
    for (; i < line.len && line.at[i] != quote; i++) {
        char c = line.at[i];
        size_t left = line.len - i;
        if (quote == '"' && c == '\\' && left > 3 && line.at[i + 1] == 'x' &&
            hex_digit(line.at[i + 2]) >= 0 && hex_digit(line.at[i + 3]) >= 0) {
            c = (char)(hex_digit(line.at[i + 2]) * 16 + hex_digit(line.at[i + 3]));
            i += 3;
        } else if (quote == '"' && c == '\\' && left > 1) {
            c = inline_escaped(line.at[++i]);
        } else if (quote == '\'' && c == '\\' && left > 1 && line.at[i + 1] == '\'') {
            c = line.at[++i];
        }
        to[(*len)++] = c;
    }
    *at = i + 1;
    return i < line.len && (i + 1 == line.len || is_space(line.at[i + 1]));
}

/* Decode the word at *at into `to`, which has room for as much as the line. */
static bool inline_word(struct bytes line, size_t *at, char *to, size_t *len)
{
    *len = 0;
    /* Redis goes over six kinds of white space, but in a word it looks for these alone. */
    while (*at < line.len && memchr(" \t\r", line.at[*at], 3) == NULL) {
        char c = line.at[(*at)++];
        if (c == '"' || c == '\'')
            return inline_quoted(line, at, c, to, len);
        to[(*len)++] = c;
    }
    return true;
}

#define INLINE_HEAD 24u                 /* room for "*n\r\n" in front of the words */
#define INLINE_MARK 12u                 /* and for "$n\r\n" in front of each */

/* Write an inline command as an array, for that is what servers are sent. */
static enum scan inline_decode(struct mem *m, struct frame *f, struct bytes line)
{
    f->own = block_take(m, INLINE_HEAD + line.len + (INLINE_MARK + 2) * (line.len / 2 + 1));
    if (f->own == NULL)
        return frame_bad(f, "-ERR proxy is out of memory\r\n");
    char *to = f->own->bytes;
    size_t end = INLINE_HEAD, at = 0, len;
    for (;;) {
        while (at < line.len && is_space(line.at[at]))
            at++;
        if (at == line.len)
            break;
        if (!inline_word(line, &at, to + end + INLINE_MARK, &len))
            return frame_bad(f, "-ERR Protocol error: unbalanced quotes in request\r\n");
        char *word = to + end + INLINE_MARK;
        to[end++] = '$';
        end += number_write(to + end, len);
        to[end++] = '\r';
        to[end++] = '\n';
        memmove(to + end, word, len);
        if (!frame_word(m, f, end, len))
            return frame_bad(f, "-ERR proxy is out of memory\r\n");
        end += len;
        to[end++] = '\r';
        to[end++] = '\n';
    }
    char head[INLINE_HEAD] = "*";
    size_t size = 1 + number_write(head + 1, f->argc);
    head[size++] = '\r';
    head[size++] = '\n';
    size_t begin = INLINE_HEAD - size;
    memcpy(to + begin, head, size);
    for (uint32_t i = 0; i < f->argc; i++)
        f->argv[i].off -= (uint32_t)begin;
    f->own->fill = (uint32_t)end;
    f->text = (struct bytes){to + begin, end - begin};
    return SCAN_DONE;
}

/* What a request of HTTP is answered: a browser was tricked into posting commands to us, and
 * what comes behind it is not looked at. */
static const char HTTP_REDIS[] = "-ERR Protocol error: HTTP is not spoken here\r\n";
static const char HTTP_MEMCACHED[] = "CLIENT_ERROR HTTP is not spoken here\r\n";

/* Whether the words are those of a line of HTTP: its request, or what Redis takes for one. */
static bool frame_is_http(const struct frame *f)
{
    return (f->argc == 3 && starts_with(frame_arg(f, 2), lit("HTTP/"))) ||
           (f->argc > 0 && (same_word(frame_arg(f, 0), lit("post")) || same_word(frame_arg(f, 0), lit("host:"))));
}

static enum scan inline_request(struct mem *m, struct frame *f, struct bytes in)
{
    size_t len = find(in, f->pos, '\n');
    if (len > NUT_INLINE_MAX)
        return frame_bad(f, "-ERR Protocol error: too big inline request\r\n");
    f->pos = len;
    if (len == in.len)
        return SCAN_MORE;
    f->pos++;
    struct bytes line = {in.at, len > 0 && in.at[len - 1] == '\r' ? len - 1 : len};
    if (find(line, 0, '\0') < line.len)
        return frame_bad(f, "-ERR Protocol error: NUL in inline request\r\n");

    enum scan got = inline_decode(m, f, line);
    return got == SCAN_DONE && frame_is_http(f) ? frame_bad(f, HTTP_REDIS) : got;
}

/* The head of the next word, at *at: how long the word is, which begins there then. */
static enum scan resp_word_head(struct frame *f, struct bytes in, size_t *at, size_t *len)
{
    int64_t n;
    size_t quick = resp_head(in, *at, '$', len);
    *at += quick;
    if (quick > 0)
        return SCAN_DONE;
    if (*at == in.len)
        return SCAN_MORE;
    if (in.at[*at] != '$')
        return frame_odd(f, in.at[*at]);
    enum scan got = resp_count(in, at, NUT_BULK_MAX, &n);
    if (got == SCAN_BAD || (got == SCAN_DONE && n < 0))
        return frame_bad(f, "-ERR Protocol error: invalid bulk length\r\n");
    if (got == SCAN_DONE)
        *len = (size_t)n;
    return got;
}

/* The next word, if it is there. */
static enum scan resp_word(struct mem *m, struct frame *f, struct bytes in)
{
    size_t at = f->pos, len;
    enum scan got = resp_word_head(f, in, &at, &len);
    if (got != SCAN_DONE)
        return got;
    if (at + len + 2 > NUT_REQUEST_MAX)
        return frame_bad(f, "-ERR Protocol error: request is too large\r\n");
    if (in.len - at < len + 2) {
        f->total = at + len + 2;
        return SCAN_MORE;
    }
    if (!is_line_end(in.at + at + len))
        return frame_bad(f, "-ERR Protocol error: a word is longer than its length\r\n");
    if (!frame_word(m, f, at, len))
        return frame_bad(f, "-ERR proxy is out of memory\r\n");
    f->pos = at + len + 2;
    return SCAN_DONE;
}

/* How many words there will be; with none nothing is asked. */
static enum scan resp_request_head(struct frame *f, struct bytes in)
{
    int64_t n;
    size_t words;
    size_t quick = resp_head(in, 0, '*', &words);
    if (quick > 0 && words <= NUT_WORDS_MAX) {
        f->pos = quick;
        f->want = (uint32_t)words;
        return SCAN_DONE;
    }
    enum scan got = resp_count(in, &f->pos, NUT_WORDS_MAX, &n);
    if (got == SCAN_BAD)
        return frame_bad(f, "-ERR Protocol error: invalid multibulk length\r\n");
    if (got == SCAN_DONE && n > 0)
        f->want = (uint32_t)n;
    return got;
}

enum scan nut_resp_request(struct mem *m, struct frame *f, struct bytes in)
{
    enum scan got = SCAN_DONE;

    if (in.len == 0)
        return SCAN_MORE;
    if (f->want == 0) {
        if (in.at[0] != '*')
            return inline_request(m, f, in);
        got = resp_request_head(f, in);
        if (f->want == 0)
            return got;
    }
    while (f->argc < f->want && got == SCAN_DONE)
        got = resp_word(m, f, in);
    if (got == SCAN_DONE)
        f->text = (struct bytes){in.at, f->pos};
    return got;
}

/* A word with its head. */
static bool resp_put_word(struct mem *m, struct queue *q, struct bytes word)
{
    return queue_put_number(m, q, '$', word.len) && nut_queue_put(m, q, word) && nut_queue_put(m, q, lit("\r\n"));
}

/* The head of a request of ours: how many words it has, and the first one. */
static bool resp_put_command(struct mem *m, struct queue *q, const struct lexicon *l, uint32_t words, struct bytes name)
{
    return queue_put_number(m, q, '*', words) && resp_put_word(m, q, command_called(l, name));
}

/* ---- keys of RESP requests */

/* Word `at` says how many keys follow, every `step`-th word of those behind it. */
static const char *keys_counted(const struct frame *f, uint32_t at, uint32_t step, struct keyset *keys)
{
    uint64_t n;
    if (at >= f->argc || !number_read(frame_arg(f, at), NUT_WORDS_MAX, &n))
        return "-ERR numkeys is not a number of keys\r\n";
    if (n * step > f->argc - at - 1)
        return "-ERR Number of keys can't be greater than number of args\r\n";
    *keys = (struct keyset){.first = at + 1, .step = step, .n = (uint32_t)n};
    return NULL;
}

/* Behind STREAMS stand the keys, and as many ids behind them. */
static const char *keys_streams(const struct command *c, const struct frame *f, struct keyset *keys)
{
    for (uint32_t i = 1; i < f->argc; i++) {
        struct bytes word = frame_arg(f, i);
        if (same_word(word, lit("block")))
            return c->access == READ
                ? "-ERR command 'xread' is not served by this proxy: with BLOCK "
                  "it would stop a connection that others share\r\n"
                : "-ERR command 'xreadgroup' is not served by this proxy: with BLOCK "
                  "it would stop a connection that others share\r\n";
        if (same_word(word, lit("count")))
            i++;
        else if (same_word(word, lit("group")))
            i += 2;
        else if (same_word(word, lit("streams"))) {
            uint32_t left = f->argc - i - 1;
            if (left == 0 || left % 2 != 0)
                return "-ERR Unbalanced list of streams: "
                       "for each stream key an ID or '$' must be specified.\r\n";
            *keys = (struct keyset){.first = i + 1, .step = 1, .n = left / 2};
            return NULL;
        }
    }
    return "-ERR syntax error\r\n";
}

/* The key behind one of two words from word `from` on; the last one counts, as
 * it does for the server.  What LIMIT, GET and BY are followed by is no option. */
static uint32_t key_behind(const struct frame *f, uint32_t from, struct bytes one, struct bytes other)
{
    uint32_t also = 0;
    for (uint32_t i = from; i < f->argc; i++) {
        struct bytes word = frame_arg(f, i);
        if (same_word(word, lit("limit")))
            i += 2;
        else if (same_word(word, lit("get")) || same_word(word, lit("by")))
            i++;
        else if (i + 1 < f->argc && (same_word(word, one) || same_word(word, other)))
            also = ++i;
    }
    return also;
}

/* Keys at fixed places: a last one below 0 counts from the end. */
static const char *keys_span(const struct command *c, const struct frame *f, struct keyset *keys)
{
    uint32_t first = (uint32_t)c->first, step = (uint32_t)c->step;
    uint32_t last = c->last < 0 ? f->argc - (uint32_t)-c->last : (uint32_t)c->last;
    *keys = (struct keyset){.first = first, .step = step, .n = (last - first) / step + 1};
    return NULL;
}

const char *nut_command_keys(const struct command *c, const struct frame *f, struct keyset *keys)
{
    const char *refusal = NULL;
    *keys = (struct keyset){.step = 1};
    switch ((enum keys)c->keys) {
    case NONE:    break;
    case SPAN:    return keys_span(c, f, keys);
    case COUNT1:  return keys_counted(f, 1, 1, keys);
    case COUNT2:  return keys_counted(f, 2, 1, keys);
    case PAIRS1:  return keys_counted(f, 1, 2, keys);
    case STORE2:
        refusal = keys_counted(f, 2, 1, keys);
        keys->also = 1;
        break;
    case STREAMS: return keys_streams(c, f, keys);
    case SORT:
        *keys = (struct keyset){.first = 1, .step = 1, .n = 1};
        keys->also = key_behind(f, 2, lit("store"), lit("store"));
        break;
    case RADIUS:
        *keys = (struct keyset){.first = 1, .step = 1, .n = 1};
        keys->also = key_behind(f, 5, lit("store"), lit("storedist"));
        break;
    case WORD1:
        *keys = (struct keyset){.first = 1, .step = 1, .n = 1};
        break;
    case REST2:
        *keys = (struct keyset){.first = 2, .step = 1, .n = f->argc - 2};
        break;
    }
    return refusal;
}

/* Whether the words are as many as the command takes. */
static bool command_fits(const struct command *c, uint32_t argc)
{
    int64_t n = argc;
    if (c->arity >= 0 ? n != c->arity : n < -(int64_t)c->arity)
        return false;
    return c->keys != SPAN || c->last != -1 || (n - c->first) % c->step == 0;
}

/* ---- memcached requests */

#define ROW(name, shape, least, most, way) name "\0"
static const char verb_names[] = NUT_VERBS(ROW) "";
#undef ROW

static const struct verb verbs[] = {
#define ROW(name, shape, least, most, way) {sizeof name - 1, shape, least, most, way},
    NUT_VERBS(ROW)
#undef ROW
};

/* Verbs are told apart by case, as memcached does.  `name` is not empty. */
static const struct verb *verb_find(struct bytes name)
{
    const char *at = verb_names;
    for (size_t i = 0; i < countof(verbs); at += verbs[i++].len + 1)
        if (at[0] == name.at[0] && bytes_same(name, (struct bytes){at, verbs[i].len}))
            return &verbs[i];
    return NULL;
}

/* Whether a line that begins so may be longer than NUT_LINE_MAX. */
static bool mc_may_be_long(struct bytes line)
{
    while (line.len > 0 && line.at[0] == ' ')
        line = bytes_from(line, 1);
    return starts_with(line, lit("get ")) || starts_with(line, lit("gets ")) ||
           starts_with(line, lit("gat ")) || starts_with(line, lit("gats "));
}

/* 1..250 bytes without white space or control bytes: memcached itself takes
 * some of these, and what it then reads is not always one key. */
static bool mc_key_fits(struct bytes key)
{
    size_t at = 0;
    for (; key.len - at >= 8; at += 8) {
        uint64_t w = eight_at(key.at + at), del = w ^ EACH_OCTET(0x7f);
        if ((((w - EACH_OCTET(' ' + 1)) & ~w) | ((del - EACH_OCTET(1)) & ~del)) & EACH_OCTET(0x80))
            return false;
    }
    for (; at < key.len; at++)
        if (octet(key.at[at]) <= ' ' || octet(key.at[at]) == 0x7f)
            return false;
    return key.len > 0 && key.len <= NUT_KEY_MAX;
}

/* Numbers as memcached reads them: a plus sign and leading zeros are taken.
 * What is forwarded is written anew. */
static bool mc_number(struct bytes text, uint64_t most, uint64_t *out)
{
    if (text.len > 1 && text.at[0] == '+')
        text = bytes_from(text, 1);
    while (text.len > 1 && text.at[0] == '0')
        text = bytes_from(text, 1);
    return number_read(text, most, out);
}

static bool mc_exptime(struct bytes text, int64_t *out)
{
    uint64_t n;
    bool negative = text.len > 1 && text.at[0] == '-';
    if (negative)
        text = bytes_from(text, 1);
    if ((negative && !is_digit(text.at[0])) || !mc_number(text, INT32_MAX + (uint64_t)negative, &n))
        return false;
    *out = negative ? -(int64_t)n : (int64_t)n;
    return true;
}

/* Cut a line into words: spaces part them, and nothing else does. */
static bool mc_words(struct mem *m, struct frame *f, struct bytes in, size_t len)
{
    for (size_t at = 0; at < len; ) {
        size_t end = find((struct bytes){in.at, len}, at, ' ');
        if (end > at && !frame_word(m, f, at, end - at))
            return false;
        at = end + 1;
    }
    return true;
}

#define BAD_FORMAT "CLIENT_ERROR bad command line format\r\n"

static const char BINARY[] = "binary";      /* a refusal: the answer is the frame's text */

/* The numbers of a line, by its shape; what is wrong with them, or NULL. */
static const char *mc_numbers(struct frame *f)
{
    uint64_t any;
    switch ((enum shape)f->verb->shape) {
    case CAS:
        if (!mc_number(frame_arg(f, 5), UINT64_MAX, &f->amount))
            return BAD_FORMAT;
        /* fall through */
    case BLOCK:
        return mc_number(quick_arg(f, 2), UINT32_MAX, &f->flags) &&
               mc_exptime(quick_arg(f, 3), &f->exptime) && f->block ? NULL : BAD_FORMAT;
    case DELTA:
        return mc_number(frame_arg(f, 2), UINT64_MAX, &f->amount)
               ? NULL : "CLIENT_ERROR invalid numeric delta argument\r\n";
    case EXPTIME:
        return mc_exptime(frame_arg(f, 2), &f->exptime)
               ? NULL : "CLIENT_ERROR invalid exptime argument\r\n";
    case TOUCHES:
        return mc_exptime(frame_arg(f, 1), &f->exptime)
               ? NULL : "CLIENT_ERROR invalid exptime argument\r\n";
    case DELETE:
        return f->argc == 2 || (f->argc == 3 && f->noreply) ||
               ((f->argc == 3 || f->noreply) && bytes_same(frame_arg(f, 2), lit("0")))
               ? NULL : "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
    case NUMERAL:
        return f->noreply || mc_number(frame_arg(f, 1), UINT32_MAX, &any) ? NULL : BAD_FORMAT;
    case DELAY:
        return f->argc == 1u + f->noreply || mc_exptime(frame_arg(f, 1), &f->exptime)
               ? NULL : "CLIENT_ERROR invalid exptime argument\r\n";
    case KEYS: case FREE: case META: case METASET: case STATS:
        break;
    }
    return NULL;
}

/* Where the first key stands in a line of that shape; 0: it has none. */
static uint32_t verb_first_key(const struct verb *v)
{
    switch ((enum shape)v->shape) {
    case FREE: case NUMERAL: case DELAY: case STATS: return 0;
    case TOUCHES:                                    return 2;
    case KEYS: case BLOCK: case CAS: case DELETE: case DELTA: case EXPTIME: case META: case METASET: break;
    }
    return 1;
}

static bool verb_is_get(const struct verb *v) { return v->shape == KEYS || v->shape == TOUCHES; }
static bool verb_is_meta(const struct verb *v) { return v->shape == META || v->shape == METASET; }

/* What answers it. */
static enum expect verb_expect(const struct verb *v)
{
    return verb_is_get(v) ? MC_VALUES : verb_is_meta(v) ? MC_META : v->shape == STATS ? MC_STATS : MC_LINE;
}

/* Whether a last word `noreply` means that; where it does not, it is a key or nothing. */
static bool mc_noreply(const struct frame *f)
{
    const struct verb *v = f->verb;
    if (v == NULL || verb_is_get(v) || verb_is_meta(v) || v->shape == FREE || v->shape == STATS)
        return false;
    return f->argc > (v->shape == DELETE ? 2u : 1u) &&
           bytes_same(quick_arg(f, f->argc - 1), lit("noreply"));
}

/* ---- meta requests
 *
 * "mg key flag ..." and its kin; "ms key bytes flag ..." has data behind it.  A flag is
 * a letter, and some have a token behind the letter. */

#define META_WORDS 19                       /* of ms with more memcached takes the data for commands */

static uint32_t meta_first_flag(const struct frame *f) { return f->verb->shape == METASET ? 3 : 2; }

/* The flag with that letter, its token included; without one, nothing. */
static struct bytes meta_flag(const struct frame *f, char letter)
{
    for (uint32_t i = meta_first_flag(f); i < f->argc; i++)
        if (frame_arg(f, i).at[0] == letter)
            return frame_arg(f, i);
    return (struct bytes){NULL, 0};
}

/* All letters, by what stands behind them: nothing that counts, a text, a time, a number
 * of 64 bits, one of 32, a letter. */
static const char meta_letters[] = "IbcfhklqstuvxLOPNRTCDEJFM";
enum { META_TEXT = 13, META_TIME = 16, META_NUMBER = 19, META_NUMBER32 = 23, META_LETTER = 24, META_NONE = 25 };

static size_t meta_letter(char letter)
{
    const char *at = memchr(meta_letters, letter, META_NONE);
    return at == NULL ? META_NONE : (size_t)(at - meta_letters);
}

/* What is wrong with a flag, in memcached's words; NULL: nothing. */
static const char *meta_flag_fault(struct bytes flag)
{
    struct bytes token = bytes_from(flag, 1);
    size_t letter = meta_letter(flag.at[0]);
    uint64_t n;
    int64_t time;
    if (letter == META_NONE)
        return "CLIENT_ERROR invalid flag\r\n";
    if (letter == META_LETTER)
        return token.len == 1 ? NULL : "CLIENT_ERROR incorrect length for M token\r\n";
    if (letter == META_NUMBER32)
        return mc_number(token, UINT32_MAX, &n) ? NULL : BAD_FORMAT;
    if (letter < META_TIME || (letter < META_NUMBER ? mc_exptime(token, &time) : mc_number(token, UINT64_MAX, &n)))
        return NULL;
    return "CLIENT_ERROR bad token in command line format\r\n";
}

/* The bytes that base64 `text` stands for, in `to`, which has room for as many; an
 * empty key: it is none. */
static struct bytes base64_read(struct bytes text, char *to)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    size_t len = 0, end = text.len;
    if (end % 4 != 0)
        return (struct bytes){to, 0};
    while (end > 0 && end + 2 > text.len && text.at[end - 1] == '=')
        end--;
    for (size_t i = 0; i < end; i++) {
        const char *digit = memchr(digits, text.at[i], 64);
        if (digit == NULL)
            return (struct bytes){to, 0};
        bits = bits << 6 | (uint32_t)(digit - digits);      /* only the last 14 are looked at */
        if (i % 4 != 0)
            to[len++] = (char)(bits >> (6 - 2 * (i % 4)));
    }
    return (struct bytes){to, len};
}

/* The key that a line with one key is routed by; `room` is for one that stands there in
 * base64, as NUT_KEY_MAX bytes. */
static struct bytes mc_key(const struct frame *f, char *room)
{
    struct bytes key = frame_arg(f, verb_first_key(f->verb));
    return verb_is_meta(f->verb) && meta_flag(f, 'b').len > 0 ? base64_read(key, room) : key;
}

/* What is wrong with the flags of a meta line. */
static const char *meta_flags_fault(const struct frame *f)
{
    char room[NUT_KEY_MAX];
    uint64_t seen = 0;
    for (uint32_t i = meta_first_flag(f); i < f->argc; i++) {
        struct bytes flag = frame_arg(f, i);
        const char *fault = meta_flag_fault(flag);
        uint64_t bit = (uint64_t)1 << (flag.at[0] & 63);    /* all letters differ in it */
        if (fault == NULL && (seen & bit) != 0)
            fault = "CLIENT_ERROR duplicate flag\r\n";
        if (fault != NULL)
            return fault;
        seen |= bit;
    }
    return mc_key(f, room).len > 0 ? NULL : "CLIENT_ERROR error decoding key\r\n";
}

/* Why a meta line whose words hold no control bytes is refused, or NULL. */
static const char *meta_refusal(const struct frame *f)
{
    char name = frame_arg(f, 0).at[1];
    struct bytes mode;
    if (f->argc < meta_first_flag(f) || (name == 's' && !f->block))
        return BAD_FORMAT;
    if (f->argc > META_WORDS)
        return "CLIENT_ERROR options flags are too long\r\n";
    const char *fault = meta_flags_fault(f);
    if (fault != NULL)
        return name == 'a' || name == 'd' ? "CLIENT_ERROR invalid or duplicate flag\r\n" : fault;
    if (meta_flag(f, 'O').len > 32)
        return "CLIENT_ERROR opaque token too long\r\n";
    mode = meta_flag(f, 'M');
    if (name == 's' && mode.len > 0 && memchr("AEPRS", mode.at[1], 5) == NULL)
        return "CLIENT_ERROR invalid mode for ms M token\r\n";
    if (name == 'a' && mode.len > 0 && memchr("ID+-", mode.at[1], 4) == NULL)
        return "CLIENT_ERROR invalid mode for ma M token\r\n";
    return NULL;
}

/* Why a stats line is refused, or NULL.  "stats server NAME word" is for that server,
 * and what it answers to one of these words are lines of STAT, and an END. */
static const char *stats_refusal(const struct frame *f)
{
    struct bytes words = lit("|conns|extstore|items|settings|sizes|slabs|");
    bool known = f->argc == 1 || bytes_same(frame_arg(f, 1), f->argc == 2 ? lit("servers") : lit("server"));
    size_t at = 0, end = f->argc == 4 ? frame_arg(f, 3).len : 0;
    while (end > 0 && at + 1 < words.len && !(starts_with(bytes_from(words, at + 1), frame_arg(f, 3)) &&
                                              words.at[at + 1 + end] == '|'))
        at = find(words, at + 1, '|');
    return known && at + 1 < words.len ? NULL               /* some clients read 80 bytes */
         : "CLIENT_ERROR this proxy has stats, stats servers, stats server NAME [ARG]\r\n";
}

/* Why a line is refused, or NULL. */
static const char *mc_refusal(struct frame *f)
{
    const struct verb *v = f->verb;
    if (v == NULL)
        return "ERROR\r\n";
    if (f->argc < v->least || (v->most > 0 && f->argc > v->most)) {
        f->noreply = false;                     /* memcached tells this to everybody */
        return "ERROR\r\n";
    }
    if (v->way == ADMIN)
        return "CLIENT_ERROR this command is not served by this proxy: it concerns one server by itself\r\n";
    if (v->shape == STATS)
        return stats_refusal(f);
    const char *wrong = mc_numbers(f);
    if (wrong != NULL && (v->shape == TOUCHES || v->shape == DELETE))
        return wrong;                           /* memcached looks at these before the keys */
    uint32_t first = verb_first_key(v), last = verb_is_get(v) || verb_is_meta(v) ? f->argc - 1 : first;
    for (uint32_t i = first; i > 0 && i <= last; i++)
        if (!mc_key_fits(quick_arg(f, i)))
            return BAD_FORMAT;
    return verb_is_meta(v) ? meta_refusal(f) : wrong;
}

/* Take in the line of a request, without its end.  Where the length of a data
 * block can be read, the block is skipped even if the line is refused: it is
 * data, and must not be taken for commands. */
static enum scan mc_line(struct mem *m, struct frame *f, struct bytes in, size_t len)
{
    uint64_t bytes;
    if (!mc_words(m, f, in, len))
        return frame_bad(f, "SERVER_ERROR proxy is out of memory\r\n");
    f->text = in;                               /* for frame_arg, while we are here */
    f->verb = f->argc == 0 ? NULL : verb_find(quick_arg(f, 0));
    const struct verb *v = f->verb;
    if (v == NULL && frame_is_http(f))
        return frame_bad(f, HTTP_MEMCACHED);
    uint32_t at = v == NULL ? 0 : v->shape == METASET ? 2
                : v->shape == BLOCK || v->shape == CAS ? 4 : 0;
    if (at > 0 && f->argc > at && mc_number(frame_arg(f, at), UINT64_MAX, &bytes)) {
        if (bytes > NUT_BULK_MAX || bytes > NUT_ITEM_MAX)
            return frame_bad(f, "SERVER_ERROR object too large for cache\r\n");
        f->block = true;
        f->data.len = (uint32_t)bytes;          /* <= NUT_BULK_MAX */
    }
    f->noreply = mc_noreply(f);
    f->refusal = mc_refusal(f);
    f->line = true;
    return SCAN_DONE;
}

#define BINARY_HEAD 24u                     /* of a packet: magic, opcode ... length at 8, opaque at 12 */
#define BINARY_MOST (2u << 20)

/* A packet of the binary protocol: what refuses it is one, too, for a client of that takes
 * no line of text for an answer. */
static enum scan mc_binary(struct mem *m, struct frame *f, struct bytes in)
{
    struct bytes why = lit("the binary protocol is not served by this proxy");
    uint32_t body = 0;
    for (size_t i = 8; i < 12 && in.len >= BINARY_HEAD; i++)
        body = body << 8 | octet(in.at[i]);
    if (body > BINARY_MOST)
        return frame_bad(f, "CLIENT_ERROR the binary protocol is not served by this proxy\r\n");
    f->total = BINARY_HEAD + body;
    if (in.len < f->total)
        return SCAN_MORE;
    f->own = block_take(m, BINARY_HEAD + why.len);
    if (f->own == NULL)
        return frame_bad(f, "SERVER_ERROR proxy is out of memory\r\n");
    char *to = f->own->bytes;
    memset(to, 0, BINARY_HEAD);
    to[0] = (char)0x81;                     /* a response ... */
    to[1] = in.at[1];
    to[7] = (char)0x81;                     /* ... to an unknown command ... */
    to[11] = (char)why.len;
    memcpy(to + 12, in.at + 12, 4);         /* ... with its opaque */
    copy(to + BINARY_HEAD, why);
    f->text = (struct bytes){to, BINARY_HEAD + why.len};
    f->refusal = BINARY;
    f->pos = f->total;
    return SCAN_DONE;
}

enum scan nut_mc_request(struct mem *m, struct frame *f, struct bytes in)
{
    if (in.len == 0)
        return SCAN_MORE;
    if (octet(in.at[0]) == 0x80 && !f->line)
        return mc_binary(m, f, in);
    if (!f->line) {
        size_t len = find(in, f->pos, '\n');
        if (len > NUT_LINE_MAX && (!mc_may_be_long(in) || len > NUT_GET_MAX))
            return frame_bad(f, "CLIENT_ERROR line is too long\r\n");
        f->pos = len;
        if (len == in.len)
            return SCAN_MORE;
        f->pos++;
        if (mc_line(m, f, in, len > 0 && in.at[len - 1] == '\r' ? len - 1 : len) == SCAN_BAD)
            return SCAN_BAD;
    }
    if (f->block) {
        f->total = f->pos + f->data.len + 2;
        if (in.len < f->total)
            return SCAN_MORE;
        f->data.off = (uint32_t)f->pos;         /* a line is at most NUT_GET_MAX */
        if (!is_line_end(in.at + f->total - 2) && f->refusal == NULL)
            f->refusal = "CLIENT_ERROR bad data chunk\r\n";
        f->pos = f->total;
    }
    f->text = (struct bytes){in.at, f->pos};
    return SCAN_DONE;
}

/* Append " n" to a line under construction. */
static size_t line_number(char *to, size_t at, int64_t n)
{
    to[at++] = ' ';
    if (n < 0)
        to[at++] = '-';
    return at + number_write(to + at, n < 0 ? (uint64_t)-n : (uint64_t)n);
}

static size_t line_word(char *to, size_t at, struct bytes word)
{
    copy(to + at, word);
    return at + word.len;
}

/* Put the flags of a meta request, but for `q`, and the end of its line. */
static bool meta_put_flags(struct mem *m, struct queue *q, const struct frame *f)
{
    bool ok = true;
    for (uint32_t i = meta_first_flag(f); ok && i < f->argc; i++) {
        struct bytes flag = frame_arg(f, i);
        size_t len = meta_letter(flag.at[0]) < META_TEXT ? 1 : flag.len;
        if (flag.at[0] != 'q')
            ok = nut_queue_put(m, q, (struct bytes){flag.at - 1, len + 1});     /* and the space before it */
    }
    return ok && nut_queue_put(m, q, lit("\r\n"));
}

/* Put a memcached request with one key (or none) as a server shall read it:
 * written anew, and without `noreply`, for a reply that may come or not would
 * put everybody else on the connection out of step. */
static bool mc_put_request(struct mem *m, struct queue *q, const struct frame *f, struct block *block)
{
    const struct verb *v = f->verb;
    char line[NUT_KEY_MAX + 128];               /* verb, key, and at most four numbers */
    size_t at = line_word(line, 0, quick_arg(f, 0));
    if (v->shape == TOUCHES)
        at = line_number(line, at, f->exptime);
    if (verb_first_key(v) > 0) {
        line[at++] = ' ';
        at = line_word(line, at, quick_arg(f, verb_first_key(v)));
    }
    if (f->block && v->shape != METASET)
        at = line_number(line, line_number(line, at, (int64_t)f->flags), f->exptime);
    if (f->block)
        at = line_number(line, at, f->data.len);
    if (v->shape == EXPTIME)
        at = line_number(line, at, f->exptime);
    if (v->shape == STATS && f->argc > 3) {
        line[at++] = ' ';
        at = line_word(line, at, frame_arg(f, 3));
    }
    if (v->shape == DELTA || v->shape == CAS) {
        line[at++] = ' ';
        at += number_write(line + at, f->amount);
    }
    if (!verb_is_meta(v))
        at = line_word(line, at, lit("\r\n"));
    return nut_queue_put(m, q, (struct bytes){line, at}) && (!verb_is_meta(v) || meta_put_flags(m, q, f)) &&
           (!f->block || queue_hand(m, q, block, (struct bytes){f->text.at + f->data.off,
                                                                (size_t)f->data.len + 2}));
}

/* ---- replies */

void nut_reply_begin(struct reply *r, enum expect expect, struct asked *asked, uint32_t key)
{
    r->expect = expect;
    r->started = r->resp3 = false;
    r->kind = 0;
    r->tail = 0;
    r->held = 0;
    r->key = key;
    r->asked = asked;
    r->open = 1;
    r->rest = UINT64_MAX;
    r->item = 0;
    r->need = 0;
}

/* The current item, of `len` bytes, is complete: note it with the key it is about. */
static bool reply_item(struct reply *r, uint64_t len)
{
    r->about->len = (uint32_t)len;
    r->item = 0;
    return len <= UINT32_MAX;
}

/* The next line of `in` from *at on, with the mark and without its end, put
 * together from what was held.  A line that is longer than r->line is told by
 * its beginning: only texts are. */
static enum scan reply_line(struct reply *r, struct bytes in, size_t *at, struct bytes *line)
{
    size_t end = find(in, *at, '\n'), len = end - *at;
    const char *from = in.at + *at;
    *at = end == in.len ? end : end + 1;
    if (end == in.len || r->held > 0) {
        size_t keep = least_of(len, sizeof r->line - r->held);
        memcpy(r->line + r->held, from, keep);
        r->held = (uint16_t)(r->held + keep);       /* <= sizeof r->line */
        if (end == in.len)
            return SCAN_MORE;
        from = r->line;
        len = r->held;
        r->held = 0;
    }
    if (len > 0 && from[len - 1] == '\r')
        len--;
    *line = (struct bytes){from, len};
    return SCAN_DONE;
}

/* The array that answers many keys has as many items. */
static bool resp_items(struct reply *r, char kind, uint64_t n)
{
    uint64_t keys = 0;
    if (kind == '-')
        return true;
    for (uint32_t k = r->key; k != NUT_NO_KEY; k = r->asked[k].next)
        keys++;
    r->rest = n - 1;
    return kind == '*' && n == keys;
}

/* What kind of RESP value a line is, or begins. */
enum resp_kind { RESP_BAD, RESP_LINE, RESP_NUMBER, RESP_BULK, RESP_MANY, RESP_PAIRS, RESP_ATTRIBUTE, RESP_PUSH };

static enum resp_kind resp_kind(char mark, bool resp3)
{
    switch (mark) {
    case '+': case '-':                     return RESP_LINE;
    case ':':                               return RESP_NUMBER;
    case '$':                               return RESP_BULK;
    case '*':                               return RESP_MANY;
    case '_': case '#': case ',': case '(': return resp3 ? RESP_LINE : RESP_BAD;
    case '=': case '!':                     return resp3 ? RESP_BULK : RESP_BAD;
    case '~':                               return resp3 ? RESP_MANY : RESP_BAD;
    case '%':                               return resp3 ? RESP_PAIRS : RESP_BAD;
    case '|':                               return resp3 ? RESP_ATTRIBUTE : RESP_BAD;
    case '>':                               return resp3 ? RESP_PUSH : RESP_BAD;
    default:                                return RESP_BAD;
    }
}

/* Count what stands in a value of `n` elements, or pairs.  An attribute is no value, but
 * where it is scanned by itself. */
static bool resp_open(struct reply *r, enum resp_kind kind, uint64_t n, bool first)
{
    bool aside = r->expect == RESP_ASIDE && first;
    if (r->open > UINT64_MAX / 2 || (kind == RESP_PUSH && !aside))
        return false;
    r->open += kind == RESP_PAIRS || kind == RESP_ATTRIBUTE ? 2 * n : n;
    r->open -= kind != RESP_ATTRIBUTE || aside;
    return true;
}

/* Take in one line of a RESP reply: a whole value, or the head of one. */
static bool resp_reply_line(struct reply *r, struct bytes line)
{
    uint64_t n = 0;
    bool first = !r->started;
    if (line.len == 0)
        return false;
    enum resp_kind kind = resp_kind(line.at[0], r->resp3);
    struct bytes number = bytes_from(line, kind == RESP_NUMBER && line.len > 1 && line.at[1] == '-' ? 2 : 1);
    if (first)
        r->kind = line.at[0];
    r->started = true;
    if (kind == RESP_BAD || (first && r->expect == RESP_ASIDE && kind < RESP_ATTRIBUTE))
        return false;
    if (kind == RESP_LINE || ((kind == RESP_BULK || kind == RESP_MANY) && bytes_same(number, lit("-1")))) {
        r->open--;
    } else if (!number_read(number, kind == RESP_NUMBER ? (uint64_t)1 << 63 : UINT32_MAX, &n)) {
        return false;
    } else if (kind == RESP_NUMBER) {
        r->open--;
    } else if (kind == RESP_BULK) {
        r->need = n;
        r->tail = 2;
    } else if (!resp_open(r, kind, n, first)) {
        return false;
    }
    return !first || r->expect != RESP_ITEMS || resp_items(r, line.at[0], n);
}

/* A bulk that is all there and as it should be: its length with head and end; 0: it
 * must be looked at more closely. */
static size_t resp_bulk(struct bytes in, size_t at)
{
    size_t n, head = resp_head(in, at, '$', &n);
    if (head == 0 || in.len - at - head < n + 2 || !is_line_end(in.at + at + head + n))
        return 0;
    return head + n + 2;
}

static bool mc_is_error(struct bytes line)
{
    return starts_with(line, lit("ERROR")) || starts_with(line, lit("CLIENT_ERROR ")) ||
           starts_with(line, lit("SERVER_ERROR "));
}

/* The key of a VALUE line is one that was asked for, behind those answered before.
 * If not, the connection has lost step. */
static bool mc_value_key(struct reply *r, struct bytes key)
{
    uint32_t check = nut_check(key), k = r->key;
    while (k != NUT_NO_KEY && r->asked[k].check != check)
        k = r->asked[k].next;
    if (k == NUT_NO_KEY)
        return false;
    r->about = &r->asked[k];
    r->key = r->about->next;
    return true;
}

/* Where the digits that stand at `at` end. */
static size_t digits_end(struct bytes b, size_t at)
{
    while (at < b.len && is_digit(b.at[at]))
        at++;
    return at;
}

/* "VALUE key flags bytes [unique]": whose value comes, and how long it is. */
static bool mc_value_line(struct reply *r, struct bytes line)
{
    size_t key = sizeof "VALUE " - 1, key_end = find(line, key, ' ');
    size_t flags = least_of(key_end + 1, line.len), flags_end = digits_end(line, flags);
    size_t size = least_of(flags_end + 1, line.len), size_end = digits_end(line, size);
    size_t unique = least_of(size_end + 1, line.len);
    uint64_t len;
    if (key_end == key || flags_end == flags || flags_end == line.len || line.at[flags_end] != ' ' ||
        !number_read((struct bytes){line.at + size, size_end - size}, UINT32_MAX, &len))
        return false;
    if (size_end < line.len &&
        (line.at[size_end] != ' ' || unique == line.len || digits_end(line, unique) < line.len))
        return false;
    r->need = len;
    r->tail = 2;
    return mc_value_key(r, (struct bytes){line.at + key, key_end - key});
}

/* What each meta verb, by its second letter, can be answered with. */
static const char meta_answers[] = "g HD VA EN\0s HD NS EX NF OK\0d HD EX NF OK\0a HD VA NS EX NF OK\0e ME EN\0";

static bool meta_is_answer(char verb, const char *code)
{
    for (const char *row = meta_answers; *row != '\0'; row += strlen(row) + 1)
        for (size_t i = 2; *row == verb && row[i - 1] == ' '; i += 3)
            if (memcmp(row + i, code, 2) == 0)
                return true;
    return false;
}

/* "code flag ...", or "VA bytes flag ..." with data behind it: an answer to a meta request,
 * with the opaque that it gave.  What was asked is noted in its struct asked: `part` is the
 * verb's letter, `check` of the opaque.  A key is told in base64 where it was once given so,
 * and tells nothing for sure. */
static bool mc_meta_line(struct reply *r, struct bytes line)
{
    const struct asked *asked = &r->asked[r->key];
    size_t at = 2;
    uint64_t len;
    bool hit = starts_with(line, lit("HD")) || starts_with(line, lit("VA"));
    bool opaque = asked->check == nut_check(lit(""));
    if (line.len < 2 || (line.len > 2 && line.at[2] != ' ') || !meta_is_answer((char)asked->part, line.at))
        return false;
    if (line.at[0] == 'V') {
        size_t size = least_of(3, line.len);
        at = digits_end(line, size);
        if (!number_read((struct bytes){line.at + size, at - size}, UINT32_MAX, &len))
            return false;
        r->need = len;
        r->tail = 2;
        r->about = &r->asked[r->key];
    }
    r->open = r->tail > 0;
    while (line.at[0] != 'M' && at < line.len) {            /* ME names a key, and then facts */
        size_t end = find(line, at + 1, ' ');
        struct bytes flag = {line.at + at + 1, end - at - 1};
        if (flag.len > 0 && flag.at[0] == 'O') {
            if (nut_check(flag) != asked->check)
                return false;
            opaque = true;
        }
        at = end;
    }
    return opaque || !hit;
}

/* Whether a line can answer a request that is no get: a number, or one of the
 * words that such requests are answered with (protocol.txt). */
static bool mc_is_answer(struct bytes line)
{
    return (line.len > 0 && digits_end(line, 0) == line.len) ||
           text_find("STORED\0NOT_STORED\0NOT_FOUND\0DELETED\0TOUCHED\0EXISTS\0", line) != NO_TEXT ||
           starts_with(line, lit("VERSION "));
}

/* Take in one line of a memcached reply. */
static bool mc_reply_line(struct reply *r, struct bytes line)
{
    bool values = r->expect == MC_VALUES;
    if (!r->started)
        r->kind = values ? 'V' : '+';
    r->started = true;
    if (r->expect == MC_STATS && starts_with(line, lit("STAT ")))
        return true;                        /* however long */
    if (line.len == 0 || line.len >= sizeof r->line - 1)
        return false;
    if (values && starts_with(line, lit("VALUE ")))
        return mc_value_line(r, line);
    r->open = 0;
    if (mc_is_error(line)) {
        r->kind = 'E';
        return true;
    }
    if (r->expect == MC_META)
        return mc_meta_line(r, line);
    if (r->expect == MC_LINE)
        return mc_is_answer(line);
    return bytes_same(line, r->expect == MC_OK ? lit("OK") : lit("END"));
}

/* The bytes of a value and the CR LF behind it. */
static enum scan reply_value(struct reply *r, struct bytes in, size_t *at)
{
    size_t n = least_of(r->need, in.len - *at);
    if (r->tail == 2 && in.len - *at - n >= 2 && is_line_end(in.at + *at + n)) {
        *at += n + 2;                       /* all is there */
        r->need = r->tail = 0;
        return SCAN_DONE;
    }
    r->need -= n;
    *at += n;
    while (r->need == 0 && r->tail > 0) {
        if (*at == in.len)
            return SCAN_MORE;
        if (in.at[(*at)++] != (r->tail == 2 ? '\r' : '\n'))
            return SCAN_BAD;
        r->tail--;
    }
    if (r->need > 0)
        return SCAN_MORE;
    return SCAN_DONE;
}

/* Scan one step of a RESP reply: a line, or a value, or both at once. */
static enum scan resp_reply_step(struct reply *r, struct bytes in, size_t *at)
{
    struct bytes line;
    bool value = r->started || r->expect == RESP_REPLY;
    size_t quick = value && r->tail == 0 && r->held == 0 ? resp_bulk(in, *at) : 0;
    enum scan got = SCAN_DONE;
    if (quick > 0) {
        *at += quick;
        r->open--;
        r->kind = r->started ? r->kind : '$';
        r->started = true;
    } else if (r->tail > 0) {
        if ((got = reply_value(r, in, at)) == SCAN_DONE)
            r->open--;
    } else if ((got = reply_line(r, in, at, &line)) == SCAN_DONE) {
        got = resp_reply_line(r, line) ? SCAN_DONE : SCAN_BAD;
    }
    return got;
}

static enum scan resp_reply_scan(struct reply *r, struct bytes in, size_t *used)
{
    enum scan got = SCAN_DONE;
    size_t at = 0, item = 0;                /* where the current item begins */
    while (r->open > 0 && got == SCAN_DONE) {
        bool head = !r->started;
        got = resp_reply_step(r, in, &at);
        if (head)
            item = at;
        if (got == SCAN_DONE && r->open == r->rest) {
            r->about = &r->asked[r->key];
            r->key = r->about->next;
            r->rest--;
            got = reply_item(r, r->item + at - item) ? SCAN_DONE : SCAN_BAD;
            item = at;
        }
    }
    r->item += at - item;
    *used = at;
    return got;
}

static enum scan mc_reply_scan(struct reply *r, struct bytes in, size_t *used)
{
    enum scan got = SCAN_DONE;
    struct bytes line;
    size_t at = 0, item = 0;                /* where the current VALUE begins */
    while (r->open > 0 && got == SCAN_DONE) {
        if (r->tail == 0) {
            if ((got = reply_line(r, in, &at, &line)) == SCAN_DONE)
                got = mc_reply_line(r, line) ? SCAN_DONE : SCAN_BAD;
        } else if ((got = reply_value(r, in, &at)) == SCAN_DONE) {
            got = reply_item(r, r->item + at - item) ? SCAN_DONE : SCAN_BAD;
            item = at;
            r->open = r->expect == MC_VALUES;       /* END is still to come */
        }
    }
    r->item += at - item;
    *used = at;
    return got;
}

enum scan nut_reply_scan(struct reply *r, struct bytes in, size_t *used)
{
    return r->expect <= RESP_ASIDE ? resp_reply_scan(r, in, used) : mc_reply_scan(r, in, used);
}

static uint64_t check_mix(uint64_t h, uint64_t more)
{
    h = (h ^ more) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

/* Not one of the pools' hashes: it only tells some texts apart. */
static uint64_t check_whole(struct bytes text)
{
    uint64_t h = text.len;
    size_t at = 0;
    for (; text.len - at >= 8; at += 8)
        h = check_mix(h, eight_at(text.at + at));
    if (text.len >= 8)
        return check_mix(h, eight_at(text.at + text.len - 8));
    for (; at < text.len; at++)
        h = check_mix(h, octet(text.at[at]));
    return h;
}

uint32_t nut_check(struct bytes key) { return (uint32_t)(check_whole(key) >> 32); }

/* ---- merging */

static bool merge_error(struct mem *m, struct queue *out, struct bytes text)
{
    nut_queue_free(m, out);
    return nut_queue_put(m, out, text);
}

/* The first line of a queue, copied to `to` without its end; false when there
 * is none that fits.  *len counts its bytes in the queue, end included. */
static bool queue_line(const struct queue *q, char *to, size_t room, struct bytes *line, size_t *len)
{
    struct bytes text = {to, queue_peek(q, to, room)};
    size_t end = find(text, 0, '\n');
    *len = end + 1;
    *line = (struct bytes){to, end > 0 && to[end - 1] == '\r' ? end - 1 : end};
    return end < text.len;
}

/* The first line of each part's reply is taken off it: a mark and a number, which is told.
 * False: it is another, or larger than what servers count. */
#define COUNTED_MOST ((uint64_t)1 << 48)

static bool queue_take_number(struct mem *m, struct queue *q, char mark, uint64_t *n)
{
    char text[32];
    struct bytes line;
    size_t len;
    if (!queue_line(q, text, sizeof text, &line, &len) || line.len == 0 || line.at[0] != mark ||
        !number_read(bytes_from(line, 1), COUNTED_MOST, n))
        return false;
    nut_queue_drop(m, q, len);
    return true;
}

#define NOT_AS_ASKED lit("-ERR a server's reply is none to what was asked: the request may have been applied\r\n")

/* Integers of servers are added up. */
static bool merge_sum(struct mem *m, struct queue *part, uint32_t n, struct queue *out)
{
    uint64_t total = 0, one;
    for (uint32_t i = 0; i < n; i++) {
        if (!queue_take_number(m, &part[i], ':', &one))
            return merge_error(m, out, NOT_AS_ASKED);
        total += one;                       /* NUT_SERVERS_MAX numbers up to COUNTED_MOST */
    }
    return queue_put_number(m, out, ':', total);
}

/* One array of the elements of all. */
static bool merge_concat(struct mem *m, struct queue *part, uint32_t n, struct queue *out)
{
    uint64_t total = 0, one;
    for (uint32_t i = 0; i < n; i++) {
        if (!queue_take_number(m, &part[i], '*', &one))
            return merge_error(m, out, NOT_AS_ASKED);
        total += one;
    }
    if (!queue_put_number(m, out, '*', total))
        return false;
    for (uint32_t i = 0; i < n; i++)
        queue_join(out, &part[i]);
    return true;
}

/* Arrays of as many integers: the least of all the first ones, of all the second ones ... */
static bool merge_least(struct mem *m, struct queue *part, uint32_t n, struct queue *out)
{
    uint64_t elements = 0, one;
    for (uint32_t i = 0; i < n; i++, elements = one)
        if (!queue_take_number(m, &part[i], '*', &one) || (i > 0 && one != elements))
            return merge_error(m, out, NOT_AS_ASKED);
    bool ok = queue_put_number(m, out, '*', elements);
    for (; ok && elements > 0; elements--) {
        uint64_t least = UINT64_MAX;
        for (uint32_t i = 0; i < n; i++, least = least_of(least, one))
            if (!queue_take_number(m, &part[i], ':', &one))
                return merge_error(m, out, NOT_AS_ASKED);
        ok = queue_put_number(m, out, ':', least);
    }
    return ok;
}

/* The first that is not null; if all are, the first. */
static void merge_found(struct queue *part, uint32_t n, struct queue *out)
{
    char text[2];
    uint32_t found = 0;
    for (uint32_t i = n; i-- > 0; )
        if (queue_peek(&part[i], text, 2) == 2 && text[0] != '_' && text[1] != '-')
            found = i;
    queue_join(out, &part[found]);
}

/* What the parts say to the keys, in the order of the keys. */
static bool merge_items(struct mem *m, struct queue *part, const struct asked *asked, uint32_t keys,
                        struct queue *out)
{
    bool ok = true;
    for (uint32_t k = 0; ok && k < keys; k++)
        ok = nut_queue_move(m, out, &part[asked[k].part], asked[k].len);
    return ok;
}

/* One array of all the parts' arrays, of which each is as long as its keys. */
static bool merge_zip(struct mem *m, struct queue *part, uint32_t n, const struct asked *asked,
                      uint32_t keys, struct queue *out)
{
    uint64_t any;
    for (uint32_t i = 0; i < n; i++)
        must(queue_take_number(m, &part[i], '*', &any));
    return queue_put_number(m, out, '*', keys) && merge_items(m, part, asked, keys, out);
}

/* Values in the order of the keys asked, whichever servers had them; one END. */
static bool merge_values(struct mem *m, struct queue *part, uint32_t n, const struct asked *asked,
                         uint32_t keys, struct queue *out)
{
    char text[sizeof ((struct reply *)0)->line];
    struct bytes line;
    size_t len;
    bool ok = merge_items(m, part, asked, keys, out);
    for (uint32_t i = 0; ok && i < n; i++) {
        if (!queue_line(&part[i], text, sizeof text, &line, &len))
            return merge_error(m, out, lit("SERVER_ERROR a server's reply has no end\r\n"));
        if (!bytes_same(line, lit("END")))
            return merge_error(m, out, (struct bytes){text, len});
    }
    return ok && nut_queue_put(m, out, lit("END\r\n"));
}

/* What a quiet meta request hears: HITS hides a miss, FAILS what went well. */
static void merge_quiet(struct mem *m, enum merge how, struct queue *part, struct queue *out)
{
    char code[2] = {0};
    (void)queue_peek(part, code, sizeof code);
    bool miss = memcmp(code, "EN", 2) == 0;
    bool well = memcmp(code, "HD", 2) == 0 || memcmp(code, "VA", 2) == 0 || memcmp(code, "OK", 2) == 0;
    if (how == HITS ? miss : well)
        nut_queue_free(m, part);
    queue_join(out, part);
}

/* ---- the stats of several servers */

#define TOTALS_MOST 256                     /* names of them; memcached has a hundred */

enum sum { OF_ALL, OF_FIRST, OF_LEAST, OF_MOST };

/* A name with its value, as it was told first, and what became of that. */
struct total {
    char     text[96];                      /* "name value" */
    size_t   len, name;                     /* of `text`, of its name */
    uint64_t n;                             /* a time in microseconds */
    enum sum how;
    bool     time;                          /* it has six decimals */
};

/* What is not added up. */
static const struct { char name[17]; uint8_t how; } total_rules[] = {
    /* name               how */
    { "hash_power_level", OF_MOST  },
    { "max_connections",  OF_LEAST },
    { "pid",              OF_FIRST },
    { "pointer_size",     OF_FIRST },
    { "time",             OF_MOST  },
    { "uptime",           OF_LEAST },
};

/* The number that a value is, of which a point is left out; false: it is none. */
static bool total_number(struct bytes text, uint64_t *n, bool *time)
{
    size_t point = find(text, 0, '.');
    *n = 0;
    *time = point + 7 == text.len;
    for (size_t i = 0; i < text.len; i++)
        if (is_digit(text.at[i]))
            *n = *n * 10 + (uint64_t)(text.at[i] - '0');    /* a server's own number: it may wrap */
        else if (i != point || !*time)
            return false;
    return text.len > 0;
}

/* The row of a line "name value", which it may begin; NULL: there is no room.  `at` is
 * where it would be if servers told the same in the same order, as they do. */
static struct total *total_row(struct total *totals, uint32_t *rows, uint32_t at, struct bytes line)
{
    struct bytes name = {line.at, find(line, 0, ' ') + 1};
    if (line.len >= sizeof totals->text || name.len > line.len)
        return NULL;
    for (uint32_t i = 0; i < *rows; i++, at++)
        if (starts_with((struct bytes){totals[at % *rows].text, totals[at % *rows].len}, name))
            return &totals[at % *rows];
    if (*rows == TOTALS_MOST)
        return NULL;
    struct total *t = &totals[(*rows)++];
    *t = (struct total){.len = line.len, .name = name.len};
    copy(t->text, line);
    for (size_t i = 0; i < countof(total_rules); i++)
        if (bytes_same((struct bytes){name.at, name.len - 1}, bytes_of(total_rules[i].name)))
            t->how = (enum sum)total_rules[i].how;
    if (!total_number(bytes_from(line, name.len), &t->n, &t->time))
        t->how = OF_FIRST;
    return t;
}

/* Add what one server tells; false: it told nothing, or not all. */
static bool totals_add(struct mem *m, struct total *totals, uint32_t *rows, struct queue *part)
{
    char text[sizeof ((struct reply *)0)->line];
    struct bytes line;
    size_t len;
    uint32_t at = 0, before;
    uint64_t n;
    bool time;
    while (queue_line(part, text, sizeof text, &line, &len) && starts_with(line, lit("STAT "))) {
        line = bytes_from(line, sizeof "STAT " - 1);
        before = *rows;
        struct total *t = total_row(totals, rows, at, line);
        nut_queue_drop(m, part, len);
        if (t == NULL)
            continue;
        at = (uint32_t)(t - totals) + 1;    /* <= TOTALS_MOST */
        if (before != *rows || !total_number(bytes_from(line, t->name), &n, &time))
            continue;
        if (t->how == OF_ALL)
            t->n += n;
        else if (t->how == OF_MOST ? n > t->n : n < t->n)
            t->n = n;
    }
    return part->len > 0 && bytes_same(line, lit("END"));
}

/* One sum of what the parts tell. */
static bool merge_stats(struct mem *m, struct queue *part, uint32_t n, struct queue *out)
{
    struct total *totals = mem_take(m, TOTALS_MOST * sizeof *totals);
    uint32_t rows = 0, answered = 0;
    char line[160];
    bool ok = totals != NULL;
    for (uint32_t i = 0; ok && i < n; i++)
        answered += totals_add(m, totals, &rows, &part[i]);
    for (uint32_t i = 0; ok && i < rows; i++) {
        const struct total *t = &totals[i];
        const char *format = t->how == OF_FIRST ? "STAT %.*s\r\n"
                           : t->time ? "STAT %.*s%llu.%06llu\r\n" : "STAT %.*s%llu\r\n";
        size_t len = text_in(line, sizeof line, format, (int)(t->how == OF_FIRST ? t->len : t->name), t->text,
                             (unsigned long long)(t->time ? t->n / 1000000 : t->n), (unsigned long long)t->n % 1000000);
        ok = nut_queue_put(m, out, (struct bytes){line, len});
    }
    size_t len = text_in(line, sizeof line, "STAT nutproxy_servers %u\r\nSTAT nutproxy_servers_answered %u\r\nEND\r\n",
                         n, answered);
    ok = ok && nut_queue_put(m, out, (struct bytes){line, len});
    mem_give(m, totals, TOTALS_MOST * sizeof *totals);
    return ok;
}

/* The first part that failed speaks for all of them. */
static struct queue *merge_failed(struct queue *part, uint32_t n)
{
    char first;
    for (uint32_t i = 0; i < n; i++)
        if (queue_peek(&part[i], &first, 1) == 1 && memchr("-!ECS", first, 5) != NULL)
            return &part[i];                /* memcached's errors have no mark, but begin so */
    return NULL;
}

bool nut_merge(struct mem *m, enum merge how, struct queue *part, uint32_t n,
               const struct asked *asked, uint32_t keys, struct queue *out)
{
    struct queue *failed = how >= VALUES ? NULL : merge_failed(part, n);
    bool ok = true;
    if (failed != NULL) {
        queue_join(out, failed);
    } else {
        switch (how) {
        case SUM:    ok = merge_sum(m, part, n, out);                      break;
        case CONCAT: ok = merge_concat(m, part, n, out);                   break;
        case LEAST:  ok = merge_least(m, part, n, out);                    break;
        case FOUND:  merge_found(part, n, out);                            break;
        case ZIP:    ok = merge_zip(m, part, n, asked, keys, out);         break;
        case VALUES: ok = merge_values(m, part, n, asked, keys, out);      break;
        case SAME: case ALL_OK: queue_join(out, &part[0]);                 break;
        case HITS: case FAILS: merge_quiet(m, how, part, out);             break;
        case TOTALS: ok = merge_stats(m, part, n, out);                    break;
        case AS_IS:  must(n == 1); queue_join(out, &part[0]);              break;
        }
    }
    for (uint32_t i = 0; i < n; i++)
        nut_queue_free(m, &part[i]);
    if (!ok)
        nut_queue_free(m, out);
    return ok;
}
/* } 5 */

/* ===========================================================================
 * 6. LEDGER                                                                {
 *    gives    struct pool_stats, struct server_stats, and the texts of their rows:
 *             pool_stat, server_stat
 *    needs    -
 *    never    renders: how a number looks is ADMIN's business
 * ======================================================================== */

struct pool_stats {
#define ROW(field, kind, doc) uint64_t field;
    NUT_POOL_STATS(ROW)
#undef ROW
};

struct server_stats {
#define ROW(field, kind, doc) uint64_t field;
    NUT_SERVER_STATS(ROW)
#undef ROW
};

/* The texts of their rows, in order: the name, and what is counted; an empty one ends them. */
#define ROW(field, kind, doc) #field "\0" doc "\0"
static const char pool_stat[] = NUT_POOL_STATS(ROW) "";
static const char server_stat[] = NUT_SERVER_STATS(ROW) "";
#undef ROW

/* Add the counters of one struct, of `size` bytes, to those of another. */
static void stats_add(void *to, const void *from, size_t size)
{
    for (size_t i = 0; i < size / sizeof(uint64_t); i++)
        ((uint64_t *)to)[i] += ((const uint64_t *)from)[i];
}

static void server_stats_add(struct server_stats *to, const struct server_stats *from)
{
    uint64_t at = to->server_ejected_at > from->server_ejected_at ? to->server_ejected_at : from->server_ejected_at;
    stats_add(to, from, sizeof *to);
    to->server_ejected_at = at;             /* the latest, not their sum */
}
/* } 6 */

/* ===========================================================================
 * 7. CONFIG                                                                {
 *    gives    conf_read, conf_free, conf_sample, struct conf, struct pool_conf,
 *             conf_take, key_hash, conf_pool_same
 *    needs    1-3, 5 for words in quotes, and inih
 *    never    opens a file, resolves a name, stops at the first mistake, or
 *             touches a running pool
 * ======================================================================== */

#include <ini.h>

struct listen_conf {
    char    *text;                          /* as written */
    char    *host;                          /* or the path of a unix socket */
    uint16_t port;                          /* 0 for a unix socket */
    unsigned mode;                          /* permissions of the path, 0: leave them */
    bool     any;                           /* twemproxy's *, which is loopback */
};

/* What a pool's configuration says of commands. */
struct own_list { struct own_command *at; uint32_t n; };

enum kind {
    COUNT, MILLIS, BYTES, THREADS, SWITCH, HASH, SPREAD, PROTOCOL, LEVEL, FORMAT, TEXT, TAG, LISTEN, SERVERS, OWN
};

#define C_COUNT    int64_t
#define C_MILLIS   int64_t
#define C_BYTES    int64_t
#define C_THREADS  int64_t
#define C_SWITCH   int64_t
#define C_HASH     int64_t
#define C_SPREAD   int64_t
#define C_PROTOCOL int64_t
#define C_LEVEL    int64_t
#define C_FORMAT   int64_t
#define C_TEXT     char *
#define C_TAG      char *
#define C_LISTEN   struct listen_conf
#define C_SERVERS  struct server_list
#define C_OWN      struct own_list

#define ROW(key, kind, preset, theirs, least, most, doc) C_##kind key;
struct process_conf { NUT_PROCESS_KEYS(ROW) };
struct pool_fields  { NUT_POOL_KEYS(ROW) };
#undef ROW

/* The texts of a row: name, preset, theirs, and doc. */
static const struct key_texts {
#define ROW(key, kind, preset, theirs, least, most, doc) char key[sizeof #key "\0" preset "\0" theirs "\0" doc];
    NUT_PROCESS_KEYS(ROW)
    NUT_POOL_KEYS(ROW)
#undef ROW
} key_texts = {
#define ROW(key, kind, preset, theirs, least, most, doc) #key "\0" preset "\0" theirs "\0" doc,
    NUT_PROCESS_KEYS(ROW)
    NUT_POOL_KEYS(ROW)
#undef ROW
};

struct key {
    int64_t   least, most;
    enum kind kind;
    uint16_t  texts;                        /* where in key_texts */
    uint16_t  at;                           /* where in struct process_conf or pool_fields */
};

static const struct key process_key[] = {
#define ROW(key, kind, preset, theirs, least, most, doc) \
    {least, most, kind, offsetof(struct key_texts, key), offsetof(struct process_conf, key)},
    NUT_PROCESS_KEYS(ROW)
#undef ROW
};

static const struct key pool_key[] = {
#define ROW(key, kind, preset, theirs, least, most, doc) \
    {least, most, kind, offsetof(struct key_texts, key), offsetof(struct pool_fields, key)},
    NUT_POOL_KEYS(ROW)
#undef ROW
};

static const char *key_name(const struct key *k)   { return (const char *)&key_texts + k->texts; }
static const char *key_preset(const struct key *k) { return text_nth(key_name(k), 1); }
static const char *key_theirs(const struct key *k) { return text_nth(key_name(k), 2); }
static const char *key_doc(const struct key *k)    { return text_nth(key_name(k), 3); }

/* Their rows, by name. */
enum {
#define ROW(key, kind, preset, theirs, least, most, doc) PROCESS_##key,
    NUT_PROCESS_KEYS(ROW)
#undef ROW
};
enum {
#define ROW(key, kind, preset, theirs, least, most, doc) POOL_##key,
    NUT_POOL_KEYS(ROW)
#undef ROW
};

struct pool_conf {
    char              *name;
    int                line;                /* of its [section] */
    struct pool_fields key;
    struct lexicon    *lexicon;             /* NULL: its commands are those of the table */
    int                seen[countof(pool_key)];     /* the line that gave it, 0: none */
};

struct conf {
    struct mem          mem;
    const char         *file;               /* its name, for messages */
    bool                yaml;               /* twemproxy's, with its defaults */
    bool                broken;             /* it could not be read to its end */
    struct process_conf process;
    int                 process_line;
    int                 seen[countof(process_key)];
    struct pool_conf   *pool;               /* in the order of twemproxy, see names_order */
    uint32_t            pools, pool_cap;
    uint32_t            mistakes;
    struct queue        told;               /* their texts, a line each */
    struct queue        notes;              /* what means something else here than in twemproxy */
};

/* Write a line about the file to `to`.  Where memory is short it is lost. */
static void conf_write(struct conf *c, struct queue *to, int line, const char *format, const char *a, const char *b)
{
    char text[512];
    size_t at = line > 0 ? text_in(text, sizeof text / 2, "%s:%d: ", c->file, line)
                         : text_in(text, sizeof text / 2, "%s: ", c->file);
    /* The formats are ours, with at most two %s. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    at += text_in(text + at, sizeof text - at - 1, format, a, b);
#pragma GCC diagnostic pop
    for (size_t i = 0; i < at; i++)
        if (octet(text[i]) < ' ')           /* a name in quotes may hold an end of line */
            text[i] = '?';
    text[at++] = '\n';
    (void)nut_queue_put(&c->mem, to, (struct bytes){text, at});
}

/* Note a mistake, which counts also where its text is lost. */
static void conf_tell(struct conf *c, int line, const char *format, const char *a, const char *b)
{
    c->mistakes++;
    conf_write(c, &c->told, line, format, a, b);
}

static char *conf_text(struct conf *c, struct bytes b)
{
    char *text = mem_take(&c->mem, b.len + 1);
    if (text == NULL) {
        conf_tell(c, 0, "out of memory%s%s", "", "");
        return NULL;
    }
    memcpy(text, b.at, b.len);
    text[b.len] = '\0';
    return text;
}

static void conf_text_free(struct conf *c, char *text)
{
    if (text != NULL)
        mem_give(&c->mem, text, strlen(text) + 1);
}

/* ---- values */

static const struct { char name[10]; uint8_t value, kind; } conf_word[] = {
    /* word        value      of kind  */
    { "true",      1,         SWITCH   },
    { "on",        1,         SWITCH   },
    { "yes",       1,         SWITCH   },
    { "false",     0,         SWITCH   },
    { "off",       0,         SWITCH   },
    { "no",        0,         SWITCH   },
    { "ketama",    KETAMA,    SPREAD   },
    { "modula",    MODULA,    SPREAD   },
    { "random",    RANDOM,    SPREAD   },
    { "redis",     REDIS,     PROTOCOL },
    { "memcached", MEMCACHED, PROTOCOL },
    { "auto",      0,         THREADS  },
    { "emerg",     0,         LEVEL    },
    { "alert",     1,         LEVEL    },
    { "crit",      2,         LEVEL    },
    { "error",     3,         LEVEL    },
    { "warn",      4,         LEVEL    },
    { "notice",    5,         LEVEL    },
    { "info",      6,         LEVEL    },
    { "debug",     7,         LEVEL    },
    { "text",      0,         FORMAT   },
    { "json",      1,         FORMAT   },
};

static const struct { char name[3]; uint8_t kind; int32_t times; } conf_unit[] = {
    /* unit  of kind  factor */
    { "ms",  MILLIS,  1       },
    { "s",   MILLIS,  1000    },
    { "m",   MILLIS,  60000   },
    { "k",   BYTES,   1 << 10 },
    { "m",   BYTES,   1 << 20 },
    { "g",   BYTES,   1 << 30 },
};

/* The word as a value of that kind, or -1. */
static int64_t conf_named(enum kind kind, struct bytes word)
{
    for (size_t i = 0; i < countof(conf_word); i++)
        if (conf_word[i].kind == kind && bytes_same(word, bytes_of(conf_word[i].name)))
            return conf_word[i].value;
    return kind == HASH ? (int64_t)text_find(hash_names, word) : -1;     /* NO_TEXT is -1, too */
}

/* What a value of that kind should have been. */
static const char *kind_wants(enum kind kind)
{
    switch (kind) {
    case COUNT:    return "is not a number";
    case MILLIS:   return "is not a time (as 400, 400ms, 30s or 2m)";
    case BYTES:    return "is not a size (as 65536, 64k, 16m or 1g)";
    case SWITCH:   return "is not \"true\" or \"false\"";
    case HASH:     return "is not a valid hash (one_at_a_time md5 crc16 crc32 crc32a fnv1_64 fnv1a_64 fnv1_32 fnv1a_32 "
                          "hsieh murmur jenkins)";
    case SPREAD:   return "is not a valid distribution (ketama modula random)";
    case PROTOCOL: return "is neither redis nor memcached";
    case THREADS:  return "is neither a number nor auto";
    case LEVEL:    return "is not a log level (0..11, emerg alert crit error warn notice info debug)";
    case FORMAT:   return "is neither text nor json";
    case TAG:      return "is not a valid hash tag string with two characters";
    case TEXT: case LISTEN: case SERVERS: case OWN: break;
    }
    return "is empty";
}

static const char OUT_OF_RANGE[] = "is out of range";       /* which conf_take tells, too */

/* A number with its unit, within the range of the row; what is wrong, or NULL. */
static const char *conf_number(const struct key *k, struct bytes text, int64_t *out)
{
    size_t digits = 0;
    uint64_t n;
    int64_t times = 1;
    while (digits < text.len && is_digit(text.at[digits]))
        digits++;
    struct bytes number = {text.at, digits}, unit = bytes_from(text, digits);
    while (number.len > 1 && number.at[0] == '0')
        number = bytes_from(number, 1);
    if (unit.len > 0) {
        times = 0;
        for (size_t i = 0; i < countof(conf_unit); i++)
            if (conf_unit[i].kind == k->kind && same_word(unit, bytes_of(conf_unit[i].name)))
                times = conf_unit[i].times;
    }
    if (digits == 0 || times == 0)
        return kind_wants(k->kind);
    if (!number_read(number, (uint64_t)(INT64_MAX / times), &n))
        return OUT_OF_RANGE;
    *out = (int64_t)n * times;              /* <= INT64_MAX */
    return *out < k->least || *out > k->most ? OUT_OF_RANGE : NULL;
}

/* Read a port at the end of `*text`, behind its last colon, and cut it off. */
static bool conf_port(struct bytes *text, uint16_t *port)
{
    uint64_t n;
    size_t at = text->len;
    while (at > 0 && text->at[at - 1] != ':')
        at--;
    struct bytes number = bytes_from(*text, at);
    while (number.len > 1 && number.at[0] == '0')
        number = bytes_from(number, 1);
    if (at == 0 || !number_read(number, UINT16_MAX, &n) || n == 0)
        return false;
    *port = (uint16_t)n;
    text->len = at - 1;
    return true;
}

/* A host as written, without the brackets of an IPv6 address. */
static struct bytes conf_host(struct bytes host)
{
    if (host.len > 2 && host.at[0] == '[' && host.at[host.len - 1] == ']')
        return (struct bytes){host.at + 1, host.len - 2};
    return host;
}

#define UNIX_PATH_MOST 107                  /* sun_path, with its NUL */
#define HOST_MOST      255                  /* bytes of a name (RFC 1035) */

/* "/path mode": the mode is octal; what is wrong, or NULL. */
static const char *listen_path(struct conf *c, struct listen_conf *l, struct bytes text)
{
    const char *space = memrchr(text.at, ' ', text.len);
    if (space != NULL) {
        struct bytes mode = bytes_from(text, (size_t)(space - text.at) + 1);
        for (size_t i = 0; i < mode.len; i++) {
            if (mode.at[i] < '0' || mode.at[i] > '7' || mode.len > 4)
                return "has an invalid file permission in \"socket_path permission\" format string";
            l->mode = l->mode * 8 + (unsigned)(mode.at[i] - '0');
        }
        if (l->mode > 0777)
            return "has an invalid file permission in \"socket_path permission\" format string";
        text.len = (size_t)(space - text.at);
    }
    if (text.len > UNIX_PATH_MOST)
        return "is too long a path for a socket";
    l->host = conf_text(c, text);
    return NULL;
}

static const char *conf_listen(struct conf *c, struct listen_conf *l, struct bytes text)
{
    struct bytes host = text;
    char local[32] = "[::1]";
    if (c->yaml && starts_with(text, lit("*:")) && text.len < 16) {     /* loopback, for nutcracker */
        memcpy(local + 5, text.at + 1, text.len - 1);
        host = text = bytes_of(local);
        l->any = true;
    }
    l->text = conf_text(c, text);
    if (text.at[0] == '/')
        return listen_path(c, l, text);
    if (memchr(text.at, ':', text.len) == NULL)
        return "has an invalid \"hostname:port\" format string";
    if (!conf_port(&host, &l->port))
        return "has an invalid port in \"hostname:port\" format string";
    if (host.len == 0 || conf_host(host).len > HOST_MOST)
        return "has an invalid \"hostname:port\" format string";
    l->host = conf_text(c, conf_host(host));
    return NULL;
}

static bool conf_server_room(struct conf *c, struct server_list *list)
{
    /* Room is 16, 32, 64 ...: full whenever `n` is one of these. */
    uint32_t n = list->n, cap = 16;
    while (cap < n)
        cap *= 2;                           /* ends: n <= NUT_SERVERS_MAX */
    if (n > 0 && n < cap)
        return true;
    if (n == cap)
        cap *= 2;
    struct server_conf *at = mem_resize(&c->mem, list->at, n * sizeof *at, n * sizeof *at,
                                        cap * sizeof *at);
    if (at == NULL)
        return false;
    list->at = at;
    return true;
}

/* The name of a server that was given none: it decides the ring.  Port 11211
 * is left out, as in libmemcached; a path keeps its colon. */
static struct bytes server_own_name(struct bytes address, uint16_t port)
{
    const char *colon = memrchr(address.at, ':', address.len);
    if (port == 11211)
        address.len = (size_t)(colon - address.at);
    return address;
}

/* One line "address:weight [name]", read from the right as twemproxy does;
 * what is wrong with it, or NULL. */
static const char *conf_server(struct conf *c, struct server_list *list, struct bytes text, int line)
{
    struct bytes name = {0}, address = text, host;
    struct server_conf s = {.line = line, .place = list->n};
    uint64_t weight;
    list->lines++;
    const char *space = memrchr(text.at, ' ', text.len);
    if (space != NULL) {
        name = bytes_from(text, (size_t)(space - text.at) + 1);
        address.len = (size_t)(space - text.at);
        if (name.len == 0)
            return "has an empty name";
    }
    const char *colon = memrchr(address.at, ':', address.len);
    if (colon == NULL)
        return "has an invalid \"hostname:port:weight [name]\" or \"/path:weight [name]\" format string";
    struct bytes number = bytes_from(address, (size_t)(colon - address.at) + 1);
    while (number.len > 1 && number.at[0] == '0')
        number = bytes_from(number, 1);
    if (!number_read(number, INT32_MAX, &weight))
        return "has an invalid weight";
    if (weight == 0)
        return "has a zero weight";
    s.weight = (uint32_t)weight;
    bool path = text.at[0] == '/';
    address.len = (size_t)(colon - address.at) + (path ? 1 : 0);
    host = address;
    if (path)
        host.len--;
    else if (memchr(host.at, ':', host.len) == NULL)
        return "has an invalid \"hostname:port:weight [name]\" or \"/path:weight [name]\" format string";
    else if (!conf_port(&host, &s.port))
        return "has an invalid port";
    if (host.len == 0 || host.len > (path ? UNIX_PATH_MOST : HOST_MOST))
        return "has an invalid address";
    if (list->n == NUT_SERVERS_MAX || !conf_server_room(c, list))
        return list->lines > NUT_SERVERS_MAX + 1 ? NULL : "is one server too many";   /* told once */
    s.host = conf_text(c, conf_host(host));
    s.name = conf_text(c, name.len > 0 ? name : server_own_name(address, s.port));
    list->at[list->n++] = s;
    return NULL;
}

/* ---- commands of a pool's own */

/* The next word of a line, parted by blanks and commas; empty: there is none. */
static struct bytes word_next(struct bytes *line)
{
    while (line->len > 0 && (is_space(line->at[0]) || line->at[0] == ','))
        *line = bytes_from(*line, 1);
    struct bytes word = {line->at, 0};
    while (word.len < line->len && !is_space(word.at[word.len]) && word.at[word.len] != ',')
        word.len++;
    *line = bytes_from(*line, word.len);
    return word;
}

/* The number of a row of the table, or NO_TEXT. */
static size_t command_number(struct bytes name) { return word_find(command_names, name); }

/* Add a command; what is wrong with it, or NULL. */
static const char *own_add(struct conf *c, struct own_list *list, struct bytes name, const struct command *row,
                           uint32_t of)
{
    struct own_command own = {.row = *row, .of = (uint16_t)of, .len = (uint8_t)name.len};
    if (name.len == 0 || name.len > NUT_NAME_MAX)
        return "needs names of 1 to 31 characters";
    for (size_t i = 0; i < name.len; i++) {
        if (octet(name.at[i]) <= ' ' || octet(name.at[i]) >= 0x7f || (name.at[i] == '|' && of == 0))
            return "needs names of visible characters, and no |";
        own.name[i] = name.at[i] >= 'a' && name.at[i] <= 'z' ? (char)(name.at[i] - 32) : name.at[i];
    }
    for (uint32_t i = 0; i < list->n; i++)
        if (list->at[i].len == own.len && memcmp(list->at[i].name, own.name, own.len) == 0)
            return "has a command twice";
    size_t size = list->n * sizeof own;
    struct own_command *at = list->n == NUT_OWN_MAX ? NULL
                           : mem_resize(&c->mem, list->at, size, size, size + sizeof own);
    if (at == NULL)
        return "has too many commands";
    list->at = at;
    list->at[list->n++] = own;
    return NULL;
}

/* A command of the table, answered in another way. */
static const char *own_way(struct conf *c, struct own_list *list, struct bytes name, enum way way)
{
    size_t i = command_number(name);
    if (i == NO_TEXT)
        return "names a command that there is not";
    struct command row = commands[i];
    row.way = way;
    return own_add(c, list, name, &row, (uint32_t)i + 1);
}

/* "NAME NEWNAME". */
static const char *own_rename(struct conf *c, struct own_list *list, struct bytes line)
{
    struct bytes name = word_next(&line), other = word_next(&line);
    size_t i = command_number(name);
    if (other.len == 0 || word_next(&line).len > 0)
        return "takes a command and its new name";
    if (bytes_same(other, lit("\"\"")))     /* as in redis.conf: it has none */
        return own_way(c, list, name, DENIED);
    if (command_number(other) != NO_TEXT)
        return "gives a name that another command has";
    const char *wrong = own_way(c, list, name, UNKNOWN);
    return wrong != NULL ? wrong : own_add(c, list, other, &commands[i], (uint32_t)i + 1);
}

/* A small whole number, as COMMAND has them; false: it is none. */
static bool own_number(struct bytes word, int8_t *out)
{
    uint64_t n;
    bool negative = word.len > 1 && word.at[0] == '-';
    if (!number_read(bytes_from(word, negative), 100, &n))
        return false;
    *out = (int8_t)(negative ? -(int)n : (int)n);
    return true;
}

/* "NAME arity first last step", as the server's COMMAND tells of it. */
static const char *own_command(struct conf *c, struct own_list *list, struct bytes line)
{
    struct bytes name = word_next(&line);
    int8_t n[4];
    for (size_t i = 0; i < countof(n); i++)
        if (!own_number(word_next(&line), &n[i]))
            return "takes a name and four numbers: arity, first key, last key, step";
    struct command row = {.arity = n[0], .first = n[1], .last = n[2], .step = n[3], .keys = n[1] > 0 ? SPAN : NONE,
                          .way = n[1] > 0 ? ONE : ANY, .access = OTHER};
    int words = n[0] < 0 ? -n[0] : n[0], last = n[2] < 0 ? words + n[2] : n[2];
    if (word_next(&line).len > 0 || n[0] == 0 || n[1] < 0 || n[3] < 0)
        return "takes a name and four numbers: arity, first key, last key, step";
    if (n[1] > 0 && (n[3] == 0 || last < n[1] || last >= words))
        return "has keys where there are no words";
    return command_number(name) != NO_TEXT ? "is a command already" : own_add(c, list, name, &row, 0);
}

/* Take in a line of one of the lists of commands; what is wrong with it, or NULL. */
static const char *conf_own(struct conf *c, const struct key *k, struct own_list *list, struct bytes line)
{
    const char *wrong = NULL;
    if (k->at == offsetof(struct pool_fields, command))
        return own_command(c, list, line);
    if (k->at == offsetof(struct pool_fields, command_rename))
        return own_rename(c, list, line);
    bool allow = k->at == offsetof(struct pool_fields, allow);
    for (struct bytes word; wrong == NULL && (word = word_next(&line)).len > 0; )
        if (!allow)
            wrong = own_way(c, list, word, DENIED);
        else if (!same_word(word, lit("flush")))
            wrong = "knows one word: flush";
        else if ((wrong = own_way(c, list, lit("FLUSHALL"), ALL)) == NULL)
            wrong = own_way(c, list, lit("FLUSHDB"), ALL);
    return wrong;
}

/* Make the commands of a pool, if they are not those of the table: what is denied comes
 * before what is allowed. */
static void conf_pool_commands(struct conf *c, struct pool_conf *p)
{
    const struct own_list *list[] = {&p->key.deny, &p->key.allow, &p->key.command_rename, &p->key.command};
    uint32_t n = 0;
    for (size_t i = 0; i < countof(list); i++)
        n += list[i]->n;
    if (p->key.protocol == MEMCACHED && n > p->key.allow.n)
        conf_tell(c, p->line, "pool '%s': deny, command_rename and command are for redis%s", p->name, "");
    if (n > NUT_OWN_MAX)
        conf_tell(c, p->line, "pool '%s' has more than 256 commands of its own%s", p->name, "");
    if (p->key.protocol == MEMCACHED || n == 0 || n > NUT_OWN_MAX)
        return;
    struct own_command *own = mem_take(&c->mem, n * sizeof *own);
    p->lexicon = own == NULL ? NULL : mem_take(&c->mem, sizeof *p->lexicon);
    if (p->lexicon == NULL) {
        mem_give(&c->mem, own, n * sizeof *own);
        conf_tell(c, 0, "out of memory%s%s", "", "");
        return;
    }
    n = 0;
    for (size_t i = 0; i < countof(list); n += list[i]->n, i++)
        if (list[i]->n > 0)
            memcpy(own + n, list[i]->at, list[i]->n * sizeof *own);
    nut_lexicon_build(p->lexicon, own, n);
}

static void conf_pool_commands_free(struct conf *c, struct pool_conf *p)
{
    struct own_list *list[] = {&p->key.deny, &p->key.allow, &p->key.command_rename, &p->key.command};
    for (size_t i = 0; i < countof(list); i++)
        mem_give(&c->mem, list[i]->at, list[i]->n * sizeof *list[i]->at);
    if (p->lexicon != NULL)
        mem_give(&c->mem, p->lexicon->own, p->lexicon->owns * sizeof *p->lexicon->own);
    mem_give(&c->mem, p->lexicon, sizeof *p->lexicon);
}

/* Give a field the value in `text`; what is wrong with it, or NULL. */
static const char *conf_set(struct conf *c, const struct key *k, void *fields, struct bytes text, int line)
{
    char *field = (char *)fields + k->at;
    if (text.len == 0)
        return "is empty";
    switch (k->kind) {
    case TEXT: case TAG:
        if (k->kind == TAG && text.len != 2)
            return kind_wants(TAG);
        *(char **)(void *)field = conf_text(c, text);
        return NULL;
    case LISTEN:
        return conf_listen(c, (struct listen_conf *)(void *)field, text);
    case SERVERS:
        return conf_server(c, (struct server_list *)(void *)field, text, line);
    case OWN:
        return conf_own(c, k, (struct own_list *)(void *)field, text);
    case COUNT: case MILLIS: case BYTES:
        return conf_number(k, text, (int64_t *)(void *)field);
    case LEVEL: case THREADS:
        if (is_digit(text.at[0]))
            return conf_number(k, text, (int64_t *)(void *)field);
        break;
    case SWITCH: case HASH: case SPREAD: case PROTOCOL: case FORMAT:
        break;
    }
    int64_t value = conf_named(k->kind, text);
    if (value < 0)
        return kind_wants(k->kind);
    *(int64_t *)(void *)field = value;
    return NULL;
}

/* ---- keys and sections */

/* How many letters must change to make one word of the other, at most 9. */
static uint32_t word_distance(const char *a, const char *b)
{
    uint32_t row[2][32] = {{0}};
    size_t n = least_of(strlen(b), 31);
    for (uint32_t j = 0; j <= n; j++)
        row[0][j] = j;
    for (uint32_t i = 1; a[i - 1] != '\0'; i++) {
        uint32_t *up = row[(i + 1) % 2], *here = row[i % 2];
        here[0] = i;
        for (size_t j = 1; j <= n; j++) {
            uint32_t swap = up[j - 1] + (a[i - 1] != b[j - 1]);
            uint32_t less = up[j] < here[j - 1] ? up[j] : here[j - 1];
            here[j] = swap < less + 1 ? swap : less + 1;
        }
    }
    return row[strlen(a) % 2][n];
}

static void conf_tell_unknown(struct conf *c, int line, const char *name,
                              const struct key *keys, size_t n)
{
    const char *nearest = NULL;
    uint32_t least = (uint32_t)least_of(strlen(name) / 3, 3) + 1;     /* more is no misspelling */
    for (size_t i = 0; i < n && strlen(name) < 64; i++) {
        uint32_t d = word_distance(name, key_name(&keys[i]));
        if (d < least) {
            least = d;
            nearest = key_name(&keys[i]);
        }
    }
    if (nearest != NULL)
        conf_tell(c, line, "directive \"%s\" is unknown, did you mean '%s'?", name, nearest);
    else if (is_digit(name[0]) || name[0] == '/')
        conf_tell(c, line, "directive \"%s\" is unknown: the lines of a list are indented%s", name, "");
    else
        conf_tell(c, line, "directive \"%s\" is unknown%s", name, "");
}

/* The presets go through the same door as what a user writes. */
static void conf_preset(struct conf *c, const struct key *keys, size_t n, void *fields)
{
    for (size_t i = 0; i < n; i++) {
        const char *preset = key_preset(&keys[i]), *theirs = key_theirs(&keys[i]);
        if (c->yaml && theirs[0] != '\0')
            preset = theirs;
        if (preset[0] != '\0' && preset[0] != '!') {
            const char *wrong = conf_set(c, &keys[i], fields, bytes_of(preset), 0);
            must(wrong == NULL);
        }
    }
}

static struct pool_conf *conf_pool_add(struct conf *c, struct bytes name, int line)
{
    if (c->pools == c->pool_cap) {
        uint32_t cap = c->pool_cap == 0 ? 4 : c->pool_cap * 2;
        struct pool_conf *pool = c->pools == NUT_POOLS_MAX ? NULL :
            mem_resize(&c->mem, c->pool, c->pool_cap * sizeof *pool, c->pools * sizeof *pool,
                       cap * sizeof *pool);
        if (pool == NULL) {
            conf_tell(c, line, "is one pool too many%s%s", "", "");
            return NULL;
        }
        c->pool = pool;
        c->pool_cap = cap;
    }
    char *own = conf_text(c, name);
    if (own == NULL)
        return NULL;
    struct pool_conf *p = &c->pool[c->pools++];
    *p = (struct pool_conf){.name = own, .line = line};
    conf_preset(c, pool_key, countof(pool_key), &p->key);
    return p;
}

static struct pool_conf *conf_pool_named(const struct conf *c, struct bytes name)
{
    for (uint32_t i = 0; i < c->pools; i++)
        if (bytes_same(name, bytes_of(c->pool[i].name)))
            return &c->pool[i];
    return NULL;
}

/* A pool begins; NULL: there is one of that name already, or too many, which was told. */
static struct pool_conf *conf_pool_begin(struct conf *c, struct bytes name, int line)
{
    const struct pool_conf *other = conf_pool_named(c, name);
    if (other == NULL)
        return conf_pool_add(c, name, line);
    conf_tell(c, line, "has pools with same name '%s'%s", other->name, "");
    return NULL;
}

static bool conf_knows(const struct key *keys, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(key_name(&keys[i]), name) == 0)
            return true;
    return false;
}

/* A value for a key of a pool (NULL: of the process).  `item`: one more line of
 * the list that the key is. */
static void conf_take(struct conf *c, struct pool_conf *p, const char *name, struct bytes value, int line, bool item)
{
    const struct key *keys = p != NULL ? pool_key : process_key;
    size_t n = p != NULL ? countof(pool_key) : countof(process_key), i = 0;
    char *fields = p != NULL ? (char *)&p->key : (char *)&c->process;
    int *seen = p != NULL ? p->seen : c->seen;

    while (i < n && strcmp(key_name(&keys[i]), name) != 0)
        i++;
    if (i == n) {
        bool other = p == NULL ? conf_knows(pool_key, countof(pool_key), name)
                               : conf_knows(process_key, countof(process_key), name);
        if (!item && other)
            conf_tell(c, line, "directive \"%s\" belongs into %s", name, p == NULL ? "a pool" : "[nutproxy]");
        else if (!item)                     /* its list was told with it */
            conf_tell_unknown(c, line, name, keys, n);
        return;
    }
    bool list = keys[i].kind == SERVERS || keys[i].kind == OWN;
    if (seen[i] > 0 && !(list && item)) {
        conf_tell(c, line, "directive \"%s\" is a duplicate%s", name,
                  list ? ": more for it stands on indented lines below the first" : "");
        return;
    }
    seen[i] = line;
    if (list && value.len == 0 && !item)
        return;                             /* "servers =", and its list below */
    if (keys[i].kind == TEXT) {
        char **text = (char **)(void *)(fields + keys[i].at);
        conf_text_free(c, *text);           /* its preset */
        *text = NULL;
    }
    const char *wrong = conf_set(c, &keys[i], fields, value, line);
    char range[80];
    if (wrong == OUT_OF_RANGE) {
        text_in(range, sizeof range, "%s: %lld to %lld", wrong, (long long)keys[i].least, (long long)keys[i].most);
        wrong = range;
    }
    if (wrong != NULL)
        conf_tell(c, line, "directive \"%s\" %s", name, wrong);
}

/* ---- lines, which inih is handed one by one */

#define SECTION_MOST 1024                   /* bytes of a pool's name */

struct lines {
    struct conf      *conf;
    struct pool_conf *pool;                 /* whose keys come now, NULL: the process's, or nobody's */
    struct bytes      rest;
    int               line;
    bool              indented;             /* the line that inih is looking at */
    bool              listing;              /* an indented line has a key to go on with */
    bool              in_process, in_none;  /* no pool's: the process's; before any section */
    bool              in_quotes;            /* the value of this line is in `quoted` */
    struct bytes      quoted;
    char             *decoded;              /* where it is, with `room` bytes */
    size_t            room;
};

/* The length of what stands in double quotes at the start of `text`, with them; 0:
 * they do not close. */
static size_t lines_quotes(struct bytes text)
{
    for (size_t i = 1; i < text.len; i++) {
        if (text.at[i] == '"')
            return i + 1;
        i += text.at[i] == '\\';
    }
    return 0;
}

/* Decode "text" in double quotes, which stands at the start of `from`, as Redis
 * reads inline words: \" \\ \n \r \t \xHH; and in *end where it ends.  What is
 * wrong with it, or NULL. */
static const char *lines_quoted(struct lines *l, struct bytes from, size_t *end)
{
    struct mem *m = &l->conf->mem;
    size_t len = 0, at = 1;
    *end = lines_quotes(from);
    if (*end == 0)
        return "has no closing quote";
    if (*end > l->room) {
        mem_give(m, l->decoded, l->room);
        l->room = *end;
        l->decoded = mem_take(m, l->room);
    }
    if (l->decoded == NULL) {
        l->room = 0;
        return "finds no memory";
    }
    if (!inline_quoted((struct bytes){from.at, *end}, &at, '"', l->decoded, &len))
        return "has no closing quote";
    if (memchr(l->decoded, '\0', len) != NULL)
        return "holds a NUL byte";
    l->quoted = (struct bytes){l->decoded, len};
    return NULL;
}

/* Whether nothing but blanks and a comment stands in `text`. */
static bool lines_nothing(struct bytes text)
{
    while (text.len > 0 && is_space(text.at[0]))
        text = bytes_from(text, 1);
    return text.len == 0 || text.at[0] == ';' || text.at[0] == '#';
}

/* The name in "[name]" or "["name"]"; empty: it is neither. */
static struct bytes lines_name(struct lines *l, struct bytes text, bool *in_quotes)
{
    struct bytes none = {0};
    size_t used;
    *in_quotes = text.len > 1 && text.at[1] == '"';
    if (!*in_quotes) {
        const char *end = memchr(text.at, ']', text.len);
        return end == NULL ? none : (struct bytes){text.at + 1, (size_t)(end - text.at) - 1};
    }
    if (lines_quoted(l, bytes_from(text, 1), &used) != NULL || used + 1 >= text.len || text.at[used + 1] != ']' ||
        !lines_nothing(bytes_from(text, used + 2)))
        return none;
    return l->quoted;
}

/* A "[section]" line.  The packaged inih tells sections only with their keys,
 * and cuts their names, so we look ourselves, and do not show it to inih. */
static void lines_section(struct lines *l, struct bytes text)
{
    struct conf *c = l->conf;
    bool in_quotes;
    struct bytes name = lines_name(l, text, &in_quotes);
    l->in_process = l->in_none = false;
    l->pool = NULL;
    if (name.len == 0 || name.len > SECTION_MOST) {
        conf_tell(c, l->line, "a section is written [name] or [\"name\"], with 1 to 1024 characters%s%s", "", "");
        return;
    }
    if (!in_quotes && bytes_same(name, lit("nutproxy"))) {
        if (c->process_line > 0)
            conf_tell(c, l->line, "section [nutproxy] stands here a second time%s%s", "", "");
        c->process_line = l->line;
        l->in_process = true;
        return;
    }
    l->pool = conf_pool_begin(c, name, l->line);
}

/* Where the value begins in a line that is no comment and no section. */
static size_t lines_value_at(const struct lines *l, struct bytes text)
{
    size_t at = 0;
    while (!l->indented && at < text.len && text.at[at] != '=' && text.at[at] != ':')
        at++;
    at += !l->indented && at < text.len;
    while (at < text.len && is_space(text.at[at]))
        at++;
    return at;
}

/* What is wrong with a line that is to be a key and its value or one more of a
 * list; NULL: nothing.  A value in quotes is decoded, and inih, which knows no
 * quotes, is shown a quote in its place. */
static const char *lines_check(struct lines *l, struct bytes *text, int room)
{
    size_t end, at = lines_value_at(l, *text);
    if (l->indented && !l->listing)
        return "is indented, but there is no key above that it goes on with";
    l->listing = true;
    if (!l->indented && memchr(text->at, '=', text->len) == NULL && memchr(text->at, ':', text->len) == NULL)
        return "is neither \"key = value\" nor \"[section]\"";
    l->in_quotes = at < text->len && text->at[at] == '"';
    if (l->in_quotes) {
        const char *wrong = lines_quoted(l, bytes_from(*text, at), &end);
        if (wrong != NULL)
            return wrong;
        if (!lines_nothing(bytes_from(*text, at + end)))
            return "has more behind the closing quote";
        text->len = at + 1;
    }
    return text->len + 2 > (size_t)room ? "is too long a line: longer values stand in \"quotes\"" : NULL;
}

/* Look at a line before inih does; false: there is nothing in it for inih. */
static bool lines_take(struct lines *l, struct bytes *text, int room)
{
    struct bytes word = *text;
    while (word.len > 0 && is_space(word.at[0]))
        word = bytes_from(word, 1);
    l->indented = word.len < text->len;
    l->in_quotes = false;
    if (word.len == 0 || word.at[0] == ';' || word.at[0] == '#')
        return true;
    if (memchr(text->at, '\0', text->len) != NULL) {
        conf_tell(l->conf, l->line, "holds a NUL byte%s%s", "", "");
        return false;
    }
    if (word.at[0] == '[' && !l->indented) {
        l->listing = false;
        lines_section(l, word);
        return false;
    }
    const char *wrong = lines_check(l, text, room);
    if (wrong != NULL)
        conf_tell(l->conf, l->line, "%s%s", wrong, "");
    return wrong == NULL;
}

/* inih's reader: the next line, with its end. */
static char *lines_next(char *to, int room, void *from)
{
    struct lines *l = from;
    if (l->rest.len == 0)
        return NULL;
    const char *end = memchr(l->rest.at, '\n', l->rest.len);
    struct bytes text = {l->rest.at, end == NULL ? l->rest.len : (size_t)(end - l->rest.at)};
    l->rest = bytes_from(l->rest, least_of(text.len + 1, l->rest.len));
    l->line++;
    if (l->line == 1 && starts_with(text, lit("\xEF\xBB\xBF")))
        text = bytes_from(text, 3);
    if (!lines_take(l, &text, room) || text.len + 2 > (size_t)room)
        text.len = 0;
    for (size_t i = 1; l->indented && i < text.len; i++)
        if (text.at[i] == ';' && is_space(text.at[i - 1]))
            text.len = i;                   /* inih cuts comments off, but not in these lines */
    memcpy(to, text.at, text.len);
    to[text.len] = '\n';
    to[text.len + 1] = '\0';
    return to;
}

/* inih's handler: one value of one key. */
static int lines_value(void *user, const char *section, const char *name, const char *value)
{
    struct lines *l = user;
    struct conf *c = l->conf;
    (void)section;
    if (!l->in_process && l->pool == NULL) {
        if (l->in_none)
            conf_tell(c, l->line, *value == '\0' ? "directive \"%s\" stands in no section: a pool begins with [%s]"
                                                 : "directive \"%s\" stands in no section%s",
                      name, *value == '\0' ? name : "");
        return 1;                           /* of a section that was refused: it was told */
    }
    conf_take(c, l->pool, name, l->in_quotes ? l->quoted : bytes_of(value), l->line, l->indented);
    return 1;
}

/* ---- a pool as a whole */

/* twemproxy's order, which decides modula's slots, equal points of ketama and
 * the order of the stats: short names first. */
static int names_order(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    return n != m ? (n < m ? -1 : 1) : memcmp(a, b, n);
}

static int servers_order(const void *a, const void *b)
{
    const struct server_conf *s = a, *t = b;
    return names_order(s->name, t->name);
}

static int pools_order(const void *a, const void *b)
{
    const struct pool_conf *p = a, *q = b;
    return names_order(p->name, q->name);
}

/* What only the whole of a pool shows. */
static void conf_pool_check(struct conf *c, struct pool_conf *p)
{
    const char *none = "";
    int redis_seen = p->seen[POOL_redis];
    int protocol_seen = p->seen[POOL_protocol];
    struct server_list *list = &p->key.servers;

    for (size_t i = 0; i < countof(pool_key); i++)
        if (key_preset(&pool_key[i])[0] == '!' && p->seen[i] == 0)
            conf_tell(c, p->line, "pool '%s': directive \"%s\" is missing", p->name, key_name(&pool_key[i]));
    if (p->key.client_output_limit > 0 && p->key.client_output_limit < 1 << 16)
        conf_tell(c, p->seen[POOL_client_output_limit],
                  "directive \"client_output_limit\" is too small: 0, or 64k at least%s%s", none, none);
    if (p->seen[POOL_servers] > 0 && list->lines == 0)
        conf_tell(c, p->line, "pool '%s' has no servers%s", p->name, none);
    if (redis_seen > 0 && protocol_seen > 0 && (p->key.redis == 1) != (p->key.protocol == REDIS))
        conf_tell(c, redis_seen, "directives \"redis\" and \"protocol\" of pool '%s' differ%s",
                  p->name, none);
    if (redis_seen > 0 && protocol_seen == 0)
        p->key.protocol = p->key.redis == 1 ? REDIS : MEMCACHED;
    p->key.redis = p->key.protocol == REDIS;                /* whichever said so: the same is the same */
    const char *file = p->key.redis_auth_file;
    if ((p->key.redis_auth != NULL || file != NULL) && p->key.protocol != REDIS)
        conf_tell(c, p->seen[file != NULL ? POOL_redis_auth_file : POOL_redis_auth],
                  "directive \"redis_auth%s\" is only valid for a redis pool%s", file != NULL ? "_file" : "", none);
    if (p->key.redis_auth != NULL && file != NULL)
        conf_tell(c, p->seen[POOL_redis_auth_file],
                  "directive \"redis_auth_file\" and \"redis_auth\" stand in one pool%s%s", none, none);
    for (uint32_t i = 0; i < list->n; i++)
        if (list->at[i].name == NULL || list->at[i].host == NULL)
            return;                         /* out of memory: told, and not started */
    if (list->n > 0)
        qsort(list->at, list->n, sizeof *list->at, servers_order);
    for (uint32_t i = 1; i < list->n; i++)
        if (servers_order(&list->at[i - 1], &list->at[i]) == 0)
            conf_tell(c, list->at[i].line, "pool '%s' has servers with same name '%s'", p->name,
                      list->at[i].name);
}

static void conf_free(struct conf *c)
{
    for (uint32_t i = 0; i < c->pools; i++) {
        struct pool_fields *k = &c->pool[i].key;
        uint32_t room = 16;
        for (uint32_t s = 0; s < k->servers.n; s++) {
            conf_text_free(c, k->servers.at[s].name);
            conf_text_free(c, k->servers.at[s].host);
        }
        while (room < k->servers.n)
            room *= 2;
        mem_give(&c->mem, k->servers.at, room * sizeof *k->servers.at);
        conf_text_free(c, k->listen.text);
        conf_text_free(c, k->listen.host);
        conf_text_free(c, k->hash_tag);
        conf_text_free(c, k->redis_auth);
        conf_text_free(c, k->redis_auth_file);
        conf_pool_commands_free(c, &c->pool[i]);
        conf_text_free(c, c->pool[i].name);
    }
    mem_give(&c->mem, c->pool, c->pool_cap * sizeof *c->pool);
    conf_text_free(c, c->process.stats);
    conf_text_free(c, c->process.log);
    conf_text_free(c, c->process.pid_file);
    conf_text_free(c, c->process.user);
    conf_text_free(c, c->process.group);
    nut_queue_free(&c->mem, &c->told);
    nut_queue_free(&c->mem, &c->notes);
    nut_mem_empty(&c->mem);
    *c = (struct conf){0};
}

/* ---- the whole */

/* Where the stats are: a path, which is `host` then, or host and port; or "off".
 * False: it is none of these. */
static bool stats_address(const char *text, struct bytes *host, uint16_t *port)
{
    struct bytes word = bytes_of(text);
    *port = 0;
    *host = word;
    if (word.len > 0 && text[0] == '/')
        return word.len <= UNIX_PATH_MOST;
    if (strcmp(text, "off") == 0)
        return true;
    if (!conf_port(&word, port) || word.len == 0)
        return false;
    *host = conf_host(word);
    return host->len > 0 && host->len <= HOST_MOST;
}

/* Each worker has its part of the memory. */
static void conf_check_memory(struct conf *c, int64_t workers)
{
    bool known = workers > 0 && workers <= NUT_WORKERS_MAX;
    if (c->process.max_memory > 0 && known && c->process.max_memory / workers < 1 << 20)
        conf_tell(c, c->process_line, "directive \"max_memory\" is too small: 0, or 1m for each worker%s%s", "", "");
}

/* What only all pools together show. */
static void conf_check(struct conf *c)
{
    struct bytes host;
    uint16_t port;
    if (c->broken)
        return;                             /* what stands behind the break is not missing */
    if (c->pools == 0)
        conf_tell(c, 0, "has no pools%s%s",
                  c->yaml ? "" : "; twemproxy's YAML is known by a name that ends in .yml", "");
    for (uint32_t i = 0; i < c->pools; i++)
        conf_pool_check(c, &c->pool[i]);
    for (uint32_t i = 0; i < c->pools; i++)
        for (uint32_t j = 0; j < i; j++) {
            char *a = c->pool[i].key.listen.text, *b = c->pool[j].key.listen.text;
            if (a != NULL && b != NULL && strcmp(a, b) == 0)
                conf_tell(c, c->pool[i].line, "pools '%s' and '%s' have the same listen address",
                          c->pool[j].name, c->pool[i].name);
        }
    for (uint32_t i = 0; i < c->pools; i++)
        if (c->process.stats != NULL && c->pool[i].key.listen.text != NULL &&
            strcmp(c->process.stats, c->pool[i].key.listen.text) == 0)
            conf_tell(c, c->pool[i].line, "pool '%s' has the listen address of stats, '%s'",
                      c->pool[i].name, c->process.stats);
    if (c->process.stats != NULL && !stats_address(c->process.stats, &host, &port))
        conf_tell(c, c->seen[PROCESS_stats],
                  "directive \"stats\" is not host:port, a path, or off: '%s'%s", c->process.stats, "");
    conf_check_memory(c, c->process.workers);
}

/* Begin to read into `c`, which is all zero; `file` is its name for messages. */
static void conf_begin(struct conf *c, const char *file, bool yaml)
{
    c->file = file;
    c->yaml = yaml;
    c->mem.most = SIZE_MAX;
    conf_preset(c, process_key, countof(process_key), &c->process);
}

/* All is read; whether it is good.  If so pools stand in their order. */
static bool conf_end(struct conf *c)
{
    conf_check(c);
    if (c->mistakes == 0)
        qsort(c->pool, c->pools, sizeof *c->pool, pools_order);
    for (uint32_t i = 0; c->mistakes == 0 && i < c->pools; i++)
        conf_pool_commands(c, &c->pool[i]);
    return c->mistakes == 0;
}

/* Read a whole configuration into `c`, which is all zero; `file` is its name for
 * messages.  False: c->told says what is wrong, all of it. */
static bool conf_read(struct conf *c, const char *file, struct bytes text)
{
    struct lines lines = {.conf = c, .rest = text, .in_none = true};
    conf_begin(c, file, false);
    int bad = ini_parse_stream(lines_next, &lines, lines_value, &lines);
    if (bad != 0)
        conf_tell(c, bad > 0 ? bad : 0, "cannot be read%s%s", "", "");
    mem_give(&c->mem, lines.decoded, lines.room);
    return conf_end(c);
}

/* ---- what others ask of it */

static bool text_same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool servers_same(const struct server_list *a, const struct server_list *b)
{
    bool same = a->n == b->n;
    for (uint32_t i = 0; same && i < a->n; i++)
        same = text_same(a->at[i].name, b->at[i].name) && text_same(a->at[i].host, b->at[i].host) &&
               a->at[i].port == b->at[i].port && a->at[i].weight == b->at[i].weight;
    return same;
}

static bool own_same(const struct own_list *a, const struct own_list *b)
{
    _Static_assert(sizeof *a->at == sizeof(struct command) + 3 + sizeof a->at->name, "bytes that are all set");
    return a->n == b->n && (a->n == 0 || memcmp(a->at, b->at, a->n * sizeof *a->at) == 0);
}

/* Whether two pools listen in the same place. */
static bool listen_same(const struct listen_conf *a, const struct listen_conf *b)
{
    return a->port == b->port && text_same(a->host, b->host);
}

/* Whether a key has the same value in two structs of its table. */
static bool key_same(const struct key *k, const void *a, const void *b)
{
    const void *x = (const char *)a + k->at, *y = (const char *)b + k->at;
    switch (k->kind) {
    case TEXT: case TAG:
        return text_same(*(char *const *)x, *(char *const *)y);
    case LISTEN:
        return text_same(((const struct listen_conf *)x)->text, ((const struct listen_conf *)y)->text);
    case SERVERS:
        return servers_same(x, y);
    case OWN:
        return own_same(x, y);
    case COUNT: case MILLIS: case BYTES: case THREADS: case SWITCH: case HASH: case SPREAD: case PROTOCOL:
    case LEVEL: case FORMAT:
        break;
    }
    return *(const int64_t *)x == *(const int64_t *)y;
}

/* Whether two pools are the same in all that they do. */
static bool conf_pool_same(const struct pool_conf *a, const struct pool_conf *b)
{
    bool same = text_same(a->name, b->name);
    for (size_t i = 0; same && i < countof(pool_key); i++)
        same = key_same(&pool_key[i], &a->key, &b->key);
    return same;
}

#define ADDRESS_TEXT 300                    /* a host of 255 bytes or a path, a port, brackets */

/* Where a server is, as it was written, in `to`. */
static const char *server_address(const struct server_conf *s, char to[ADDRESS_TEXT])
{
    bool bare = s->port != 0 && strchr(s->host, ':') != NULL;
    size_t n = text_in(to, ADDRESS_TEXT, "%s%s%s", bare ? "[" : "", s->host, bare ? "]" : "");
    if (s->port != 0)
        text_in(to + n, ADDRESS_TEXT - n, ":%u", (unsigned)s->port);
    return to;
}

/* What decides a key's place in this pool's ring. */
static uint32_t key_hash(const struct pool_fields *conf, struct bytes key)
{
    return nut_hash((int)conf->hash, conf->hash_tag == NULL ? key : nut_tagged(key, conf->hash_tag));
}

/* How many bytes the process takes at most, as the README has it: all buffers, an eighth more for what malloc
 * cannot use, and what is not buffers.  0: there is no bound. */
static uint64_t memory_bound(int64_t max_memory, uint32_t workers, size_t pools, size_t servers)
{
    return max_memory == 0 ? 0 : (uint64_t)max_memory / 8 * 9 + (2u << 20) + workers * (512u << 10) +
                                 (pools + servers) * (16u << 10);
}

static size_t conf_servers(const struct conf *conf)
{
    size_t n = 0;
    for (uint32_t i = 0; i < conf->pools; i++)
        n += conf->pool[i].key.servers.n;
    return n;
}

#define MEMORY_LINE "; memory: at most %llu bytes, by max_memory * 9/8 + 2 MiB + 512 KiB for each worker" \
                    " + 16 KiB for each pool and server\n"

/* ---- the sample, which is the tables' own */

/* The value that a row of pool_key has in [alpha] of the sample; NULL: it stands there as a comment. */
static const char *conf_sample_value(size_t row)
{
    switch (row) {
    case POOL_listen:           return "127.0.0.1:22121";
    case POOL_protocol:         return "redis";
    case POOL_hash:             return "fnv1a_64";
    case POOL_distribution:     return "ketama";
    case POOL_auto_eject_hosts: return "true";
    case POOL_servers:          return "\n    127.0.0.1:6401:1 one"
                                       "\n    127.0.0.1:6402:1 two"
                                       "\n    127.0.0.1:6403:1 three"
                                       "\n    127.0.0.1:6404:1 four";
    }
    return NULL;
}

static const char conf_sample_more[] =
    "\n[beta]\n"
    "listen = 127.0.0.1:22122\n"
    "protocol = memcached\n"
    "auto_eject_hosts = true\n"
    "servers =\n"
    "    127.0.0.1:11401:1\n"
    "    127.0.0.1:11402:1\n"
    "    127.0.0.1:11403:1\n"
    "    127.0.0.1:11404:1\n";

/* Print every key with its meaning and default: a configuration that works. */
static void conf_sample(struct out *to)
{
    out_put(to, lit("; Every key of nutproxy, what it decides, and its default: behind a semicolon, or said.\n"
          "; This is what `nutproxy --print-config` prints; with -c FILE it prints what that file comes to.\n\n"
          "; The process.\n[nutproxy]\n"));
    print(to, MEMORY_LINE, (unsigned long long)memory_bound(1 << 30, 1, 2, 8));
    for (size_t i = 0; i < countof(process_key); i++)
        print(to, "\n; %s\n; %s = %s\n", key_doc(&process_key[i]), key_name(&process_key[i]),
            key_preset(&process_key[i]));
    out_put(to, lit("\n; A pool of servers: one section for each, named as you like.\n[alpha]\n"));
    for (size_t i = 0; i < countof(pool_key); i++) {
        const struct key *k = &pool_key[i];
        const char *value = conf_sample_value(i), *preset = key_preset(k);
        print(to, "\n; %s", key_doc(k));
        if (value != NULL && preset[0] != '!')
            print(to, " (default: %s)", preset);
        out_put(to, lit("\n"));
        if (value != NULL)
            print(to, "%s =%s%s\n", key_name(k), value[0] == '\n' ? "" : " ", value);
        else
            print(to, "; %s = %s\n", key_name(k), preset);
    }
    out_put(to, bytes_of(conf_sample_more));
}
/* } 7 */

/* ===========================================================================
 * 8. YAML                                                                  {
 *    gives    conf_read_yaml, conf_convert, yaml_character
 *    needs    1, 2, 5 for hex digits, 7
 *    never    opens a file, or reads what nutcracker does not
 *
 * twemproxy's configuration is a small part of YAML: pools, their keys, a list in
 * each pool.  That part is read here as libyaml reads it: plain and quoted scalars
 * that may go on in deeper lines, lists that stand as deep as their key or deeper,
 * comments.  What nutcracker disallows is refused, and so are two things that
 * nobody writes in its files: block scalars (| and >) and "? key".
 * ======================================================================== */

/* ---- event by event */

enum yaml { YAML_POOL, YAML_KEY, YAML_LIST, YAML_ITEM, YAML_END, YAML_BAD };

/* A comment, without its "#", and whether it has a line of its own. */
struct remark { struct bytes text; int line; bool alone; };

struct yaml_reader {
    struct mem    *mem;
    struct bytes   text;
    size_t         pos, start;              /* `start`: of the line that pos is in */
    int            line;
    bool           fresh;                   /* only spaces, or "- ", stand before pos in its line */
    bool           in_list, has_keys;
    size_t         pool, key, item;         /* columns of pools, of their keys, of a list's items */
    bool           begun;                   /* `pool` is known */
    char          *to;                      /* scalars are decoded here, with a NUL behind each */
    size_t         room, used;
    const char    *name;                    /* of the pool or key */
    struct bytes   value;
    int            at;                      /* the line of this event */
    const char    *why;                     /* BAD */
    struct remark *remark;
    size_t         remarks, remark_room;
};

/* How many bytes the UTF-8 character at the front of `b` has; 0: it is none, or
 * none that YAML allows. */
static size_t yaml_character(struct bytes b)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t c = octet(b.at[0]);
    size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (n == 0 || n > b.len)
        return 0;
    c = n == 1 ? c : c & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((octet(b.at[i]) & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (octet(b.at[i]) & 0x3f);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) || c == 0xfffe || c == 0xffff)
        return 0;
    /* libyaml sees line ends in U+0085, U+2028 and U+2029, and nobody else does. */
    return (c < ' ' && c != '\t' && c != '\n' && c != '\r') || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ?
           0 : n;
}

/* Note what is wrong here, unless something was before: false, for those who
 * answer so. */
static bool yaml_wrong(struct yaml_reader *y, const char *why)
{
    if (y->why == NULL)
        y->why = why;
    y->at = y->line;
    return false;
}

static enum yaml yaml_bad(struct yaml_reader *y, const char *why)
{
    yaml_wrong(y, why);
    return YAML_BAD;
}

static char yaml_peek(const struct yaml_reader *y, size_t n)
{
    return y->pos + n < y->text.len ? y->text.at[y->pos + n] : '\0';
}

static bool yaml_ends(const struct yaml_reader *y)         { return y->pos == y->text.len; }
static bool yaml_blank(char c)                             { return c == ' ' || c == '\t'; }
static size_t yaml_column(const struct yaml_reader *y)     { return y->pos - y->start; }

/* Whether the character `n` on is blank, or ends the line or the file. */
static bool yaml_gap(const struct yaml_reader *y, size_t n)
{
    char c = yaml_peek(y, n);
    return yaml_blank(c) || c == '\r' || c == '\n' || c == '\0';
}

/* Go over the end of a line; false: there is none here. */
static bool yaml_line_end(struct yaml_reader *y)
{
    char c = yaml_peek(y, 0);
    if (c != '\r' && c != '\n')
        return false;
    y->pos += c == '\r' && yaml_peek(y, 1) == '\n' ? 2 : 1;
    y->start = y->pos;
    y->line++;
    y->fresh = true;
    return true;
}

static void yaml_put(struct yaml_reader *y, char c)
{
    must(y->used < y->room);                /* no scalar is longer than twice its text */
    y->to[y->used++] = c;
}

/* A comment is kept if there is memory: what it says is not part of the file. */
static void yaml_remark(struct yaml_reader *y)
{
    size_t from = ++y->pos, room = y->remark_room == 0 ? 16 : 2 * y->remark_room;
    bool alone = y->fresh;
    while (!yaml_ends(y) && yaml_peek(y, 0) != '\r' && yaml_peek(y, 0) != '\n')
        y->pos++;
    if (y->remarks == y->remark_room) {
        struct remark *more = mem_resize(y->mem, y->remark, y->remarks * sizeof *more,
                                         y->remarks * sizeof *more, room * sizeof *more);
        if (more == NULL)
            return;
        y->remark = more;
        y->remark_room = room;
    }
    y->remark[y->remarks++] = (struct remark){{y->text.at + from, y->pos - from}, y->line, alone};
}

/* Go to the next token; false: the file is bad. */
static bool yaml_skip(struct yaml_reader *y)
{
    do {
        while (yaml_peek(y, 0) == ' ' || (yaml_peek(y, 0) == '\t' && !y->fresh))
            y->pos++;
        if (yaml_peek(y, 0) == '\t')
            return yaml_wrong(y, "a tab cannot indent a line");
        if (yaml_peek(y, 0) == '#')
            yaml_remark(y);
    } while (yaml_line_end(y));
    struct bytes rest = bytes_from(y->text, y->pos);
    if (yaml_column(y) > 0)
        return true;
    if ((starts_with(rest, lit("---")) || starts_with(rest, lit("..."))) && yaml_gap(y, 3))
        return yaml_wrong(y, "document markers are disallowed, by nutcracker too");
    if (yaml_peek(y, 0) == '%')
        return yaml_wrong(y, "directives are disallowed, by nutcracker too");
    return true;
}

static bool yaml_at_dash(const struct yaml_reader *y) { return yaml_peek(y, 0) == '-' && yaml_gap(y, 1); }

/* Line ends become one space, or, where there are more, a newline for each but
 * the first. */
static void yaml_fold(struct yaml_reader *y, size_t ends)
{
    if (ends == 1)
        yaml_put(y, ' ');
    for (; ends > 1; ends--)
        yaml_put(y, '\n');
}

/* Why a plain scalar cannot begin with what stands here, or NULL. */
static const char *yaml_plain_refusal(const struct yaml_reader *y)
{
    char c = yaml_peek(y, 0);
    if (c != '\0' && strchr("[]{},", c) != NULL)
        return "flow collections ([ ] { }) are disallowed, by nutcracker too: quote such a value";
    if (c != '\0' && strchr("&*!", c) != NULL)
        return "anchors, aliases and tags are disallowed, by nutcracker too: quote such a value";
    if (c == '|' || c == '>')
        return "block scalars are not read here: write the value in one line";
    if (c == '?' && yaml_gap(y, 1))
        return "a \"? key\" is not read here";
    if (c == '-' && yaml_gap(y, 1))
        return "a list cannot stand here";
    if (c == ':' && yaml_gap(y, 1))
        return "a key is missing in front of the colon";
    return c == '%' || c == '@' || c == '`' ? "a value cannot begin with this character: quote it" : NULL;
}

/* The rest of a line, as far as it belongs to a plain scalar; false: it ends in
 * this line, before a comment or a colon. */
static bool yaml_plain_line(struct yaml_reader *y)
{
    size_t kept = y->used;
    for (; !yaml_ends(y) && yaml_peek(y, 0) != '\r' && yaml_peek(y, 0) != '\n'; y->pos++) {
        char c = yaml_peek(y, 0);
        bool behind_blank = y->pos > y->start && yaml_blank(y->text.at[y->pos - 1]);
        if ((c == ':' && yaml_gap(y, 1)) || (c == '#' && behind_blank)) {
            y->used = kept;
            return false;
        }
        yaml_put(y, c);
        if (!yaml_blank(c))
            kept = y->used;
    }
    y->used = kept;                         /* blanks at the end are none of it */
    return true;
}

/* A plain scalar, with the lines that go on with it: those from column `least` on. */
static bool yaml_plain(struct yaml_reader *y, size_t least)
{
    y->fresh = false;
    while (yaml_plain_line(y)) {
        size_t ends = 0;
        while (yaml_line_end(y)) {
            ends++;
            while (yaml_peek(y, 0) == ' ' || (yaml_peek(y, 0) == '\t' && yaml_column(y) >= least))
                y->pos++;
            if (yaml_peek(y, 0) == '\t')
                return yaml_wrong(y, "a tab cannot indent a line");
        }
        if (yaml_ends(y) || yaml_column(y) < least || yaml_peek(y, 0) == '#')
            return true;
        yaml_fold(y, ends);
        y->fresh = false;
    }
    return true;
}

/* The character that "\c" stands for in double quotes, 0: none; and how many hex
 * digits follow it, which say another. */
static uint32_t yaml_escaped(char c, size_t *digits)
{
    static const struct { char c; uint32_t is; } escape[] = {
        {'a', 7},    {'b', 8},    {'t', 9},    {'\t', 9},     {'n', 10},       {'v', 11},       {'f', 12},
        {'r', 13},   {'e', 27},   {' ', ' '},  {'"', '"'},    {'/', '/'},      {'\\', '\\'},    {'N', 0x85},
        {'_', 0xa0}, {'L', 0x2028}, {'P', 0x2029},
    };
    *digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    for (size_t i = 0; i < countof(escape); i++)
        if (escape[i].c == c)
            return escape[i].is;
    return 0;
}

static void yaml_put_character(struct yaml_reader *y, uint32_t c)
{
    static const uint8_t lead[4] = {0, 0xc0, 0xe0, 0xf0};
    if (c < 0x80) {
        yaml_put(y, (char)c);
        return;
    }
    size_t more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    yaml_put(y, (char)(lead[more] | c >> (6 * more)));
    while (more-- > 0)
        yaml_put(y, (char)(0x80 | (c >> (6 * more) & 0x3f)));
}

/* An escape in double quotes; false: it is none. */
static bool yaml_escape(struct yaml_reader *y)
{
    size_t digits;
    char escape = yaml_peek(y, 1);
    uint32_t c = yaml_escaped(escape, &digits);
    for (size_t i = 0; i < digits; i++) {
        int digit = hex_digit(yaml_peek(y, 2 + i));
        if (digit < 0 || c >> 28 != 0)
            return false;
        c = c << 4 | (uint32_t)digit;
    }
    if (c == 0 && (digits > 0 || escape == '0'))
        return yaml_wrong(y, "a NUL cannot stand in a name or value");
    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return false;
    y->pos += 2 + digits;
    yaml_put_character(y, c);
    return true;
}

/* Blanks and line ends inside quotes.  `hidden`: the first end stands behind a
 * backslash and is nothing. */
static void yaml_quoted_gap(struct yaml_reader *y, bool hidden)
{
    size_t kept = y->used, ends = 0;
    for (; yaml_blank(yaml_peek(y, 0)); y->pos++)
        yaml_put(y, yaml_peek(y, 0));
    while (yaml_line_end(y)) {
        ends++;
        while (yaml_blank(yaml_peek(y, 0)))
            y->pos++;
    }
    if (ends == 0)
        return;
    y->used = kept;
    yaml_fold(y, hidden && ends == 1 ? 0 : ends);
}

/* A scalar in quotes, which stands at its opening one; false: it is bad. */
static bool yaml_quoted(struct yaml_reader *y)
{
    char quote = yaml_peek(y, 0);
    for (y->pos++; ; ) {
        char c = yaml_peek(y, 0), next = yaml_peek(y, 1);
        struct bytes rest = bytes_from(y->text, y->pos);
        bool mark = yaml_column(y) == 0 && (starts_with(rest, lit("---")) || starts_with(rest, lit("...")));
        if (yaml_ends(y) || (mark && yaml_gap(y, 3)))
            return yaml_wrong(y, "the closing quote is missing");
        if (c == quote && (quote == '"' || next != quote))
            break;
        if (quote == '"' && c == '\\' && (next == '\r' || next == '\n')) {
            y->pos++;
            yaml_quoted_gap(y, true);
        } else if (quote == '"' && c == '\\') {
            if (!yaml_escape(y))
                return yaml_wrong(y, "an escape in double quotes is not one");
        } else if (yaml_blank(c) || c == '\r' || c == '\n') {
            yaml_quoted_gap(y, false);
        } else {
            yaml_put(y, c);
            y->pos += c == quote ? 2 : 1;   /* '' is one ' */
        }
    }
    y->pos++;
    y->fresh = false;
    return true;
}

/* Decode the scalar at pos, which may go on in lines from column `least` on. */
static bool yaml_scalar(struct yaml_reader *y, size_t least, struct bytes *out)
{
    size_t from = y->used;
    char c = yaml_peek(y, 0);
    bool in_quotes = c == '"' || c == '\'';
    const char *refusal = in_quotes ? NULL : yaml_plain_refusal(y);
    if (refusal != NULL)
        return yaml_wrong(y, refusal);
    if (!(in_quotes ? yaml_quoted(y) : yaml_plain(y, least)))
        return false;
    *out = (struct bytes){y->to + from, y->used - from};
    yaml_put(y, '\0');
    return true;
}

/* A value, of a key or of a list: a scalar, and nothing behind it. */
static bool yaml_value(struct yaml_reader *y, size_t least)
{
    int line = y->line;
    if (!yaml_scalar(y, least, &y->value))
        return false;
    y->at = line;
    while (!y->fresh && yaml_blank(yaml_peek(y, 0)))
        y->pos++;
    char c = yaml_peek(y, 0);
    if (c == ':')
        return yaml_wrong(y, "a key cannot stand here: quote a value that holds \": \"");
    if (!y->fresh && !yaml_ends(y) && c != '\r' && c != '\n' && c != '#')
        return yaml_wrong(y, "something stands behind the closing quote");
    if (y->value.len == 0)
        return yaml_wrong(y, "a value is empty");
    return true;
}

/* "name:", in one line. */
static bool yaml_name(struct yaml_reader *y)
{
    struct bytes name;
    size_t from = y->pos;
    int line = y->line;
    if (!yaml_scalar(y, SIZE_MAX, &name))
        return false;
    while (!y->fresh && yaml_blank(yaml_peek(y, 0)))
        y->pos++;
    if (y->line != line || yaml_peek(y, 0) != ':' || !yaml_gap(y, 1) || y->pos - from > 1024) {
        y->line = line;
        return yaml_wrong(y, "is no \"key:\"");
    }
    if (name.len == 0)
        return yaml_wrong(y, "a key is empty");
    y->name = name.at;
    y->at = line;
    y->pos++;
    return true;
}

static enum yaml yaml_pool(struct yaml_reader *y)
{
    if (!yaml_name(y))
        return YAML_BAD;
    int line = y->line, at = y->at;
    if (!yaml_skip(y))
        return YAML_BAD;
    if (y->line == line && !yaml_ends(y)) {
        const char *refusal = yaml_plain_refusal(y);
        return yaml_bad(y, refusal != NULL ? refusal : "the keys of a pool stand below its name, deeper than it");
    }
    if (yaml_ends(y) || yaml_column(y) <= y->pool) {
        y->line = line;
        return yaml_bad(y, "a pool has no keys below its name, deeper than it");
    }
    if (yaml_at_dash(y))
        return yaml_bad(y, "a pool holds keys, and is no list");
    y->key = yaml_column(y);
    y->has_keys = true;
    y->at = at;
    return YAML_POOL;
}

static enum yaml yaml_key(struct yaml_reader *y)
{
    if (!yaml_name(y))
        return YAML_BAD;
    int line = y->line, at = y->at;
    if (!yaml_skip(y))
        return YAML_BAD;
    bool below = y->line != line, deeper = !yaml_ends(y) && yaml_column(y) > y->key;
    if (below && !yaml_ends(y) && yaml_at_dash(y) && yaml_column(y) >= y->key) {
        y->item = yaml_column(y);
        y->in_list = true;
        y->at = at;
        return YAML_LIST;
    }
    if (yaml_ends(y) || (below && !deeper)) {
        y->line = line;
        return yaml_bad(y, "a key has no value");
    }
    if (!yaml_value(y, y->key + 1))
        return YAML_BAD;
    y->at = at;
    return YAML_KEY;
}

static enum yaml yaml_item(struct yaml_reader *y)
{
    int line = y->line;
    y->pos++;
    y->fresh = true;
    if (!yaml_skip(y))
        return YAML_BAD;
    if (yaml_ends(y) || (y->line != line && yaml_column(y) <= y->item)) {
        y->line = line;
        return yaml_bad(y, "an item of a list is empty");
    }
    if (!yaml_value(y, y->item + 1))
        return YAML_BAD;
    return YAML_ITEM;
}

/* What comes next: POOL and LIST have a name, KEY a name and a value, ITEM a
 * value; BAD has a reason.  All of them are gone at the next call. */
static enum yaml yaml_next(struct yaml_reader *y)
{
    y->used = 0;
    if (!yaml_skip(y))
        return YAML_BAD;
    if (yaml_ends(y))
        return YAML_END;
    size_t column = yaml_column(y);
    if (!y->begun)
        y->pool = column;
    y->begun = true;
    if (!y->fresh)
        return yaml_bad(y, "something stands behind a value");
    if (y->in_list && column == y->item && yaml_at_dash(y))
        return yaml_item(y);
    if (y->in_list && column > y->key)
        return yaml_bad(y, "is neither an item of the list above nor a key");
    y->in_list = false;
    if (y->has_keys && column == y->key)
        return yaml_key(y);
    y->has_keys = false;
    return column == y->pool ? yaml_pool(y) : yaml_bad(y, "is not indented as the lines above are");
}

static void yaml_close(struct yaml_reader *y)
{
    mem_give(y->mem, y->to, y->room);
    mem_give(y->mem, y->remark, y->remark_room * sizeof *y->remark);
}

/* Begin to read; false: no memory, or a character that cannot be read. */
static bool yaml_open(struct yaml_reader *y, struct mem *m, struct bytes text)
{
    if (starts_with(text, lit("\xEF\xBB\xBF")))
        text = bytes_from(text, 3);
    *y = (struct yaml_reader){.mem = m, .text = text, .line = 1, .fresh = true, .room = 2 * text.len + 16};
    y->to = mem_take(m, y->room);
    if (y->to == NULL)
        return yaml_wrong(y, "out of memory");
    for (size_t n; y->pos < text.len; y->pos += n) {
        struct bytes rest = bytes_from(text, y->pos);
        n = yaml_character(rest);
        if (n == 0 || starts_with(rest, lit("\xEF\xBB\xBF")))       /* libyaml passes that over where a line begins */
            return yaml_wrong(y, "a character is not UTF-8, or a control character, line end or mark of Unicode");
        y->line += text.at[y->pos] == '\n';
    }
    y->pos = 0;
    y->line = 1;
    return true;
}

/* ---- what twemproxy's files mean here */

/* Keys that do more here than in twemproxy: told of a file that has them with a
 * value above this. */
static const struct { uint8_t row, above; char note[70]; } conf_more[] = {
    /* key                    above  what is so here */
    { POOL_client_connections, 0,    "client_connections is enforced: nutcracker ignores it" },
    { POOL_tcpkeepalive,       0,    "tcpkeepalive is for connections to servers, too" },
    { POOL_server_connections, 1,    "of server_connections each client stays on one: it reads what it wrote" },
    { POOL_auto_eject_hosts,   0,    "an ejected server comes back when it answers a probe, not on trust" },
};

/* Note something of a pool, at the line of a key of its. */
static void conf_note_pool(struct conf *c, const struct pool_conf *p, size_t row, const char *note)
{
    conf_write(c, &c->notes, p->seen[row], "note: pool '%s': %s", p->name, note);
}

/* twemproxy selects a database before it authenticates, in vain, and never on
 * unix sockets: there the data is in database 0, and must be found there. */
static void conf_note_database(struct conf *c, struct pool_conf *p)
{
    uint32_t paths = 0, n = p->key.servers.n;
    bool auth = p->key.redis_auth != NULL;
    for (uint32_t i = 0; i < n; i++)
        paths += p->key.servers.at[i].port == 0;
    if (p->key.redis_db == 0 || p->key.protocol != REDIS || (!auth && paths == 0))
        return;
    if (!auth && paths < n) {
        conf_tell(c, p->seen[POOL_redis_db], "pool '%s': nutcracker selects redis_db on TCP "
                  "servers only, and keeps keys of unix sockets in database 0: they must be moved first, and such "
                  "servers then have an address%s", p->name, "");
        return;
    }
    p->key.redis_db = 0;
    conf_note_pool(c, p, POOL_redis_db, auth ? "redis_db becomes 0: nutcracker selects no other where servers want a "
                   "password, so that is where its data is" : "redis_db becomes 0: nutcracker selects no other on unix "
                   "sockets, so that is where its data is");
}

/* Say, and see to, what the pools of a file of twemproxy's mean here. */
static void conf_note(struct conf *c)
{
    bool stays = false;
    for (uint32_t i = 0; i < c->pools; i++) {
        struct pool_conf *p = &c->pool[i];
        conf_note_database(c, p);
        if (p->key.listen.any)
            conf_note_pool(c, p, POOL_listen, "* becomes [::1]: for nutcracker it is loopback, here every address "
                           "(127.0.0.1 where there is no IPv6)");
        for (size_t n = 0; n < countof(conf_more); n++)
            if (*(int64_t *)(void *)((char *)&p->key + pool_key[conf_more[n].row].at) > conf_more[n].above)
                conf_note_pool(c, p, conf_more[n].row, conf_more[n].note);
        stays = stays || p->key.auto_eject_hosts == 0;
    }
    if (stays)
        conf_write(c, &c->notes, 0, "note: without auto_eject_hosts, too, a server that failed server_failure_limit "
                   "times is probed, and requests for it fail at once until it answers%s%s", "", "");
}

/* ---- into struct conf */

static void yaml_take(struct conf *c, struct bytes text)
{
    struct yaml_reader y;
    enum yaml event = yaml_open(&y, &c->mem, text) ? yaml_next(&y) : YAML_BAD;
    const char *list = "servers";
    struct pool_conf *p = NULL;
    for (; event != YAML_END && event != YAML_BAD; event = yaml_next(&y)) {
        bool servers = event != YAML_POOL && event != YAML_ITEM && strcmp(y.name, "servers") == 0;
        if (event == YAML_POOL)
            p = conf_pool_begin(c, bytes_of(y.name), y.at);
        else if (p == NULL)
            continue;                       /* of a pool that was refused: it was told */
        else if (event == YAML_ITEM && list != NULL)
            conf_take(c, p, list, y.value, y.at, true);
        else if (event == YAML_KEY && !servers)
            conf_take(c, p, y.name, y.value, y.at, false);
        else if (event == YAML_KEY)
            conf_tell(c, y.at, "directive \"%s\" is a list: each server stands behind a dash%s", y.name, "");
        else if (event == YAML_LIST && servers)
            conf_take(c, p, y.name, (struct bytes){0}, y.at, false);
        else if (event == YAML_LIST)
            conf_tell(c, y.at, "directive \"%s\" is unknown, or no list%s", y.name, "");
        if (event == YAML_LIST)
            list = servers ? "servers" : NULL;
    }
    if (event == YAML_BAD)
        conf_tell(c, y.at, "%s%s", y.why, "");
    c->broken = event == YAML_BAD;
    yaml_close(&y);
}

/* As conf_read, of twemproxy's file, and with its defaults; c->notes says what
 * means something else here. */
static bool conf_read_yaml(struct conf *c, const char *file, struct bytes text)
{
    conf_begin(c, file, true);
    yaml_take(c, text);
    if (!conf_end(c))
        return false;
    conf_note(c);
    return c->mistakes == 0;
}

/* ---- written as ours */

/* Whether a value can stand in a line without quotes. */
static bool value_is_plain(struct bytes value, bool item)
{
    if (value.len == 0 || value.len > (item ? 180u : 150u) || strchr(" \t\";#", value.at[0]) != NULL ||
        is_space(value.at[value.len - 1]))
        return false;
    for (size_t i = 0; i < value.len; i++)
        if (octet(value.at[i]) < ' ' || value.at[i] == 0x7f ||
            (value.at[i] == ';' && is_space(value.at[i > 0 ? i - 1 : 0])))
            return false;
    return true;
}

static void pen_quoted(struct pen *pen, struct bytes value)
{
    char escaped[8];
    pen_put(pen, lit("\""));
    for (size_t i = 0; i < value.len; i++) {
        char c = value.at[i];
        size_t n = text_in(escaped, sizeof escaped, octet(c) < ' ' || c == 0x7f ? "\\x%02x"
                           : c == '"' || c == '\\' ? "\\%c" : "%c", octet(c));
        pen_put(pen, (struct bytes){escaped, n});
    }
    pen_put(pen, lit("\""));
}

static void pen_value(struct pen *pen, struct bytes value, bool item)
{
    if (value_is_plain(value, item))
        pen_put(pen, value);
    else
        pen_quoted(pen, value);
}

static void pen_key(struct pen *pen, const char *name, struct bytes value)
{
    pen_put(pen, bytes_of(name));
    pen_put(pen, lit(" = "));
    pen_value(pen, value, false);
}

/* Keys for which twemproxy does something else than we do, where the file is
 * silent: it is said for it. */
static void pen_theirs(struct pen *pen, const struct key *keys, size_t n, const int *seen)
{
    for (size_t i = 0; i < n; i++)
        if (key_theirs(&keys[i])[0] != '\0' && seen[i] == 0) {
            pen_key(pen, key_name(&keys[i]), bytes_of(key_theirs(&keys[i])));
            pen_put(pen, lit("    ; as nutcracker does by default\n"));
        }
}

static void pen_remark(struct pen *pen, const struct remark *r, const char *before)
{
    pen_put(pen, bytes_of(before));
    pen_put(pen, lit(";"));
    pen_put(pen, r->text);
    pen_put(pen, lit("\n"));
}

/* The comments above line `line`, from the `from`th on; how many are written now. */
static size_t pen_remarks(struct pen *pen, const struct yaml_reader *y, size_t from, int line, const char *before)
{
    for (; from < y->remarks; from++) {
        const struct remark *r = &y->remark[from];
        if (r->line > line || (r->line == line && !r->alone && r->text.len <= 40))
            break;
        pen_remark(pen, r, before);
    }
    return from;
}

/* A key and its value.  What conf_note has seen to is taken from `p`. */
static void pen_setting(struct pen *pen, const struct yaml_reader *y, const struct pool_conf *p)
{
    char number[20];
    if (strcmp(y->name, "redis") == 0 && p->seen[POOL_protocol] == 0)
        pen_key(pen, "protocol", p->key.protocol == REDIS ? lit("redis") : lit("memcached"));
    else if (strcmp(y->name, "listen") == 0)
        pen_key(pen, y->name, bytes_of(p->key.listen.text));
    else if (strcmp(y->name, "redis_db") == 0)
        pen_key(pen, y->name, (struct bytes){number, number_write(number, (uint64_t)p->key.redis_db)});
    else
        pen_key(pen, y->name, y->value);
}

static void pen_section(struct pen *pen, struct bytes name)
{
    bool plain = value_is_plain(name, false) && memchr(name.at, ']', name.len) == NULL &&
                 !bytes_same(name, lit("nutproxy"));
    pen_put(pen, lit("["));
    if (plain)
        pen_put(pen, name);
    else
        pen_quoted(pen, name);
    pen_put(pen, lit("]"));
}

/* ---- as it is in effect */

/* A command of a pool's own, as it is written; `next` is the row behind it.  How many rows that was. */
static uint32_t pen_own(struct pen *pen, size_t row, const struct own_command *own, const struct own_command *next)
{
    char numbers[32];
    pen_put(pen, (struct bytes){own->name, own->len});
    if (row == POOL_command)
        pen_put(pen, (struct bytes){numbers, text_in(numbers, sizeof numbers, " %d %d %d %d", own->row.arity,
                                                     own->row.first, own->row.last, own->row.step)});
    if (row != POOL_command_rename)
        return 1;
    bool other = own->row.way == UNKNOWN;   /* see own_rename */
    pen_put(pen, lit(" "));
    pen_put(pen, other ? (struct bytes){next->name, next->len} : lit("\"\""));
    return other ? 2 : 1;
}

/* An item of a list, which is used up, in a line of its own. */
static void pen_item(struct pen *pen, struct pen *item)
{
    size_t len = item->out.len;
    char *text = item->ok ? mem_take(pen->mem, len) : NULL;
    pen->ok = pen->ok && text != NULL;
    if (text != NULL) {
        queue_peek(&item->out, text, len);
        pen_put(pen, lit("    "));
        pen_value(pen, (struct bytes){text, len}, true);
        pen_put(pen, lit("\n"));
        mem_give(pen->mem, text, len);
    }
    nut_queue_free(pen->mem, &item->out);
}

static void pen_list(struct pen *pen, size_t row, const void *field)
{
    char weight[24], address[ADDRESS_TEXT];
    const struct own_list *own = field;
    const struct server_list *servers = field;
    struct pen item = {.mem = pen->mem, .ok = true};
    for (uint32_t i = 0; row == POOL_servers && i < servers->n; i++) {
        const struct server_conf *s = &servers->at[i];
        pen_put(&item, bytes_of(server_address(s, address)));
        pen_put(&item, (struct bytes){weight, text_in(weight, sizeof weight, ":%u ", (unsigned)s->weight)});
        pen_put(&item, bytes_of(s->name));
        pen_item(pen, &item);
    }
    if (row == POOL_allow)
        pen_put(pen, lit("    flush\n"));
    for (uint32_t i = 0; row != POOL_servers && row != POOL_allow && i < own->n; ) {
        i += pen_own(&item, row, &own->at[i], &own->at[i + 1]);
        pen_item(pen, &item);
    }
}

/* What a number of that kind is written as, in `to`. */
static const char *value_text(enum kind kind, int64_t value, char to[24])
{
    for (size_t i = 0; kind != LEVEL && i < countof(conf_word); i++)
        if (conf_word[i].kind == kind && conf_word[i].value == value)
            return conf_word[i].name;
    if (kind == HASH)
        return text_nth(hash_names, (size_t)value);
    text_in(to, 24, "%lld%s", (long long)value, kind == MILLIS ? "ms" : "");
    return to;
}

/* A key with the value that it has; one that is not there is left out, and what is secret is not told. */
static void pen_field(struct pen *pen, const struct key *k, const void *fields, bool of_pool)
{
    const void *field = (const char *)fields + k->at;
    size_t row = of_pool ? (size_t)(k - pool_key) : countof(pool_key);
    const char *text = k->kind == LISTEN ? ((const struct listen_conf *)field)->text : *(char *const *)field;
    char number[24];
    if (k->kind == OWN || k->kind == SERVERS) {
        if (k->kind == OWN && ((const struct own_list *)field)->n == 0)
            return;
        pen_put(pen, bytes_of(key_name(k)));
        pen_put(pen, lit(" =\n"));
        pen_list(pen, row, field);
        return;
    }
    bool number_kind = k->kind != TEXT && k->kind != TAG && k->kind != LISTEN;
    if (row == POOL_redis || (!number_kind && text == NULL))
        return;
    if (number_kind)
        text = value_text(k->kind, *(const int64_t *)field, number);
    if (row == POOL_redis_auth)             /* a comment: what is printed may be used as a configuration */
        pen_put(pen, lit("; "));
    pen_key(pen, key_name(k), row == POOL_redis_auth ? lit("********") : bytes_of(text));
    pen_put(pen, lit("\n"));
}

/* Write what a configuration comes to for so many workers, every key with its value. */
static void conf_print(const struct conf *c, uint32_t workers, struct pen *pen)
{
    char line[256];
    uint64_t bound = memory_bound(c->process.max_memory, workers, c->pools, conf_servers(c));
    size_t len = bound == 0 ? text_in(line, sizeof line, "; memory: no bound, for there is no max_memory\n")
                            : text_in(line, sizeof line, MEMORY_LINE, (unsigned long long)bound);
    pen_put(pen, lit("[nutproxy]\n"));
    pen_put(pen, (struct bytes){line, len});
    for (size_t i = 0; i < countof(process_key); i++)
        pen_field(pen, &process_key[i], &c->process, false);
    for (uint32_t p = 0; p < c->pools; p++) {
        pen_put(pen, lit("\n"));
        pen_section(pen, bytes_of(c->pool[p].name));
        pen_put(pen, lit("\n"));
        for (size_t i = 0; i < countof(pool_key); i++)
            pen_field(pen, &pool_key[i], &c->pool[p].key, true);
    }
}

/* ---- a file of twemproxy's */

/* Write what `text`, twemproxy's file that was read into `c`, is in ours. */
static bool conf_convert(struct conf *c, struct bytes text, struct pen *pen)
{
    struct yaml_reader y;
    const struct pool_conf *p = NULL;
    size_t told = 0;
    enum yaml event = yaml_open(&y, &c->mem, text) ? yaml_next(&y) : YAML_BAD;
    pen_put(pen, lit("[nutproxy]\n"));
    pen_theirs(pen, process_key, countof(process_key), c->seen);
    for (; event != YAML_END && event != YAML_BAD; event = yaml_next(&y)) {
        (void)yaml_skip(&y);                /* the comment behind it belongs to it */
        if (event == YAML_POOL)
            pen_put(pen, lit("\n"));
        told = pen_remarks(pen, &y, told, y.at, event == YAML_ITEM ? "    " : "");
        if (event == YAML_POOL) {
            p = conf_pool_named(c, bytes_of(y.name));
            pen_section(pen, bytes_of(y.name));
        } else if (event == YAML_ITEM) {
            pen_put(pen, lit("    "));
            pen_value(pen, y.value, true);
        } else if (event == YAML_LIST) {
            pen_put(pen, lit("servers ="));
        } else {
            pen_setting(pen, &y, p);
        }
        if (told < y.remarks && y.remark[told].line == y.at)
            pen_remark(pen, &y.remark[told++], " ");
        else
            pen_put(pen, lit("\n"));
        if (event == YAML_POOL)
            pen_theirs(pen, pool_key, countof(pool_key), p->seen);
    }
    (void)pen_remarks(pen, &y, told, INT32_MAX, "");
    yaml_close(&y);
    return pen->ok && event == YAML_END;
}
/* } 8 */

/* ################################ the wall ################################
 * Above: bytes in, bytes out.  Below: descriptors, time and trouble.
 */
#ifndef NUT_CORE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <time.h>
#ifndef NUT_POLL
#include <sys/epoll.h>
#endif

/* ===========================================================================
 * 9. CLOCK                                                                 {
 *    gives    clock_ms, clock_wall_us, log_of, log_open, enum event
 *    needs    1, 8 for what is UTF-8
 *    never    is called from above the wall; never formats what is not printed
 * ======================================================================== */

static uint64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t clock_wall_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

enum { LOG_EMERG, LOG_ALERT, LOG_CRIT, LOG_ERROR, LOG_WARN, LOG_NOTICE, LOG_INFO, LOG_DEBUG, LOG_MOST = 11 };
#define LOG_ALWAYS (-1)
#define LOG_LINES_A_SECOND 50

enum event {
#define ROW(event, level, doc) EVENT_##event,
    NUT_EVENTS(ROW)
#undef ROW
    EVENTS
};

static const int8_t event_level[] = {
#define ROW(event, level, doc) LOG_##level,
    NUT_EVENTS(ROW)
#undef ROW
};

static const char event_names[] =
#define ROW(event, level, doc) #event "\0"
    NUT_EVENTS(ROW) "";
#undef ROW

/* The log of the process, which its threads share.  The descriptor stays the
 * same when the file is opened anew. */
static struct {
    int                  fd;
    atomic_int           level;
    atomic_bool          json;
    atomic_bool          running;           /* before, trouble is told on stderr, and all is told */
    bool                 journal;           /* systemd reads it: it knows the time, and wants priorities */
    struct { atomic_uint_fast64_t second; atomic_uint lines, lost; } of[EVENTS];    /* lines of this second */
} logger = {.fd = STDERR_FILENO, .level = LOG_NOTICE};

/* Whether one more line about this event may be written in this second. */
static bool log_may(enum event event, unsigned *lost)
{
    uint64_t second = clock_ms() / 1000;
    *lost = 0;
    if (event_level[event] == LOG_ALWAYS || !atomic_load_explicit(&logger.running, memory_order_relaxed))
        return true;
    if (atomic_exchange(&logger.of[event].second, second) != second) {
        atomic_store(&logger.of[event].lines, 0);
        *lost = atomic_exchange(&logger.of[event].lost, 0);
    }
    if (atomic_fetch_add(&logger.of[event].lines, 1) < LOG_LINES_A_SECOND)
        return true;
    atomic_fetch_add(&logger.of[event].lost, 1);
    return false;
}

/* A line that grows; what does not fit any more is cut off. */
struct log_line { size_t len; char text[4096]; };

__attribute__((format(printf, 2, 3)))
static void line_add(struct log_line *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    l->len += text_in_args(l->text + l->len, sizeof l->text - l->len, format, args);
    va_end(args);
}

/* A date, `between`, and a time with its milliseconds. */
static void line_time(struct log_line *l, const struct tm *tm, char between, uint64_t us)
{
    line_add(l, "%04d-%02d-%02d%c%02d:%02d:%02d.%03u", tm->tm_year + 1900, tm->tm_mon + 1, tm->tm_mday, between,
             tm->tm_hour, tm->tm_min, tm->tm_sec, (unsigned)(us / 1000 % 1000));
}

/* ,"name":"text", with what JSON cannot hold replaced. */
static void line_json(struct log_line *l, const char *name, const char *text)
{
    if (text == NULL)
        return;
    line_add(l, ",\"%s\":\"", name);
    for (struct bytes rest = bytes_of(text); rest.len > 0 && l->len < sizeof l->text - 16; ) {
        size_t n = yaml_character(rest);
        char c = rest.at[0];
        if (c == '"' || c == '\\')
            line_add(l, "\\%c", c);
        else if (n == 0 || octet(c) < ' ')
            line_add(l, "?");
        else
            line_add(l, "%.*s", (int)n, rest.at);
        rest = bytes_from(rest, n == 0 ? 1 : n);
    }
    line_add(l, "\"");
}

static const char *level_name(int level)
{
    return text_nth("emerg\0alert\0crit\0error\0warn\0notice\0info\0debug",
                    (size_t)(level == LOG_ALWAYS ? LOG_NOTICE : level));
}

/* "{"time":...,"text":...}" of an event whose sentence is `text`. */
static void line_as_json(struct log_line *l, enum event event, const char *pool, const struct server_conf *server,
                         const char *text)
{
    char address[ADDRESS_TEXT];
    uint64_t us = clock_wall_us();
    time_t seconds = (time_t)(us / 1000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    line_add(l, "{\"time\":\"");
    line_time(l, &tm, 'T', us);
    line_add(l, "Z\"");
    line_json(l, "level", level_name(event_level[event]));
    line_json(l, "event", text_nth(event_names, event));
    line_json(l, "pool", pool);
    line_json(l, "server", server == NULL ? NULL : server->name);
    line_json(l, "address", server == NULL ? NULL : server_address(server, address));
    line_json(l, "text", text);
    line_add(l, "}");
}

/* "[date time] text" */
static void line_as_text(struct log_line *l, const char *text)
{
    uint64_t us = clock_wall_us();
    time_t seconds = (time_t)(us / 1000000);
    struct tm tm;
    if (!logger.journal) {
        localtime_r(&seconds, &tm);
        line_add(l, "[");
        line_time(l, &tm, ' ', us);
        line_add(l, "] ");
    }
    size_t from = l->len, n;
    line_add(l, "%s", text);
    for (size_t i = from; i < l->len; i += n == 0 ? 1 : n) {
        n = yaml_character((struct bytes){l->text + i, l->len - i});
        if (n == 0 || octet(l->text[i]) < ' ')
            l->text[i] = '?';               /* names and replies may hold anything */
    }
}

/* Tell of an event at a pool and a server, or NULL, in a line of its own. */
__attribute__((format(printf, 4, 5)))
static void log_of(enum event event, const char *pool, const struct server_conf *server, const char *format, ...)
{
    struct log_line said = {0}, line = {0};
    char address[ADDRESS_TEXT];
    unsigned lost;
    int level = event_level[event];
    if (level > atomic_load_explicit(&logger.level, memory_order_relaxed) || !log_may(event, &lost))
        return;
    va_list args;
    if (lost > 0)
        line_add(&said, "(%u lines like this were not written) ", lost);
    if (pool != NULL)
        line_add(&said, "pool '%.255s': ", pool);
    if (server != NULL && strcmp(server->name, server_address(server, address)) == 0)
        line_add(&said, "server '%s' ", address);
    else if (server != NULL)
        line_add(&said, "server '%.255s' (%s) ", server->name, address);
    va_start(args, format);
    text_in_args(said.text + said.len, sizeof said.text - said.len, format, args);
    va_end(args);
    if (logger.journal)
        line_add(&line, "<%d>", level == LOG_ALWAYS ? LOG_NOTICE : level);
    if (atomic_load_explicit(&logger.json, memory_order_relaxed))
        line_as_json(&line, event, pool, server, said.text);
    else
        line_as_text(&line, said.text);
    line.len = least_of(line.len, sizeof line.text - 1);
    line.text[line.len++] = '\n';
    if (write(logger.fd, line.text, line.len) == -1)
        return;                             /* there is nowhere to say it */
}

/* Whether stderr goes to systemd's journal, which says so in the environment. */
static bool log_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    char own[64];
    struct stat st;
    if (stream == NULL || fstat(STDERR_FILENO, &st) == -1)
        return false;
    text_in(own, sizeof own, "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
    return strcmp(stream, own) == 0;
}

/* Open the log file, or open it anew; errno on false, and the old one stays. */
static bool log_open(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd == -1)
        return false;
    if (logger.fd == STDERR_FILENO)
        logger.fd = fd;
    else {
        dup3(fd, logger.fd, O_CLOEXEC);
        close(fd);
    }
    return true;
}
/* } 9 */

/* ===========================================================================
 * 10. LOOP                                                                  {
 *    gives    struct watch, struct loop, loop_serve, struct mailbox
 *    needs    1, 2, 9
 *    never    reads or writes a peer's byte; never knows who is served
 * ======================================================================== */

struct loop;

/* What a watch waits for and is told: the same bits in epoll and poll. */
#define SEES_IN    0x0001
#define SEES_OUT   0x0004
#define SEES_ERR   0x0008
#define SEES_HUP   0x0010
#define SEES_RDHUP 0x2000

#ifdef NUT_POLL
_Static_assert(SEES_IN == POLLIN && SEES_OUT == POLLOUT && SEES_ERR == POLLERR &&
               SEES_HUP == POLLHUP && SEES_RDHUP == POLLRDHUP, "poll's bits");
#else
_Static_assert(SEES_IN == EPOLLIN && SEES_OUT == EPOLLOUT && SEES_ERR == EPOLLERR &&
               SEES_HUP == EPOLLHUP && SEES_RDHUP == EPOLLRDHUP, "epoll's bits");
#endif

/* A descriptor that somebody waits on.  `ready` is the loop's only way up. */
struct watch {
    void        (*ready)(struct watch *w, uint32_t sees);
    struct loop  *loop;
    int           fd;
    uint16_t      want;                     /* 0: not in the loop */
#ifdef NUT_POLL
    uint32_t      slot;
#endif
};

#define SCRATCH_FRONT 4096u                 /* an unfinished remainder goes here ... */
#define SCRATCH_READ  65536u                /* ... and what is read behind it */

struct loop {
    struct mem   mem;
    uint64_t     now;                       /* ms, read once in a turn */
    uint64_t     tidy_at;                   /* when spares are looked at, 0: there are none */
    struct link  dirty[2];                  /* conns with bytes to write: servers', clients' */
    struct link  again;                     /* conns with input that waits to be taken */
    struct link  leaving;                   /* conns that drain before they close, oldest first */
    struct link  grave;                     /* conns to free at the end of this turn */
    char        *scratch;                   /* SCRATCH_FRONT + SCRATCH_READ bytes */
#ifdef NUT_POLL
    struct pollfd *polled;
    struct watch **watched;
    uint32_t       watches, cap;
#else
    int            epfd;
#endif
};

#ifdef NUT_POLL

static bool loop_open_waiting(struct loop *l) { return l->watches == 0; }

static void loop_free_waiting(struct loop *l)
{
    mem_give(&l->mem, l->polled, l->cap * sizeof *l->polled);
    mem_give(&l->mem, l->watched, l->cap * sizeof *l->watched);
}

/* Room for one more; false when memory is short. */
static bool loop_room(struct loop *l)
{
    if (l->watches < l->cap)
        return true;
    uint32_t cap = l->cap == 0 ? 64 : l->cap * 2;
    struct pollfd *polled = mem_take(&l->mem, cap * sizeof *polled);
    struct watch **watched = mem_take(&l->mem, cap * sizeof *watched);
    if (polled == NULL || watched == NULL) {
        mem_give(&l->mem, polled, cap * sizeof *polled);
        mem_give(&l->mem, watched, cap * sizeof *watched);
        return false;
    }
    if (l->watches > 0) {
        memcpy(polled, l->polled, l->watches * sizeof *polled);
        memcpy(watched, l->watched, l->watches * sizeof *watched);
    }
    mem_give(&l->mem, l->polled, l->cap * sizeof *polled);
    mem_give(&l->mem, l->watched, l->cap * sizeof *watched);
    l->polled = polled;
    l->watched = watched;
    l->cap = cap;
    return true;
}

/* Wait on `w` for these bits, 0 to stop.  False: the kernel or memory is short,
 * and it is waited for as before. */
static bool watch_for(struct watch *w, uint32_t bits)
{
    struct loop *l = w->loop;
    if (w->want == 0 && bits != 0) {
        if (!loop_room(l))
            return false;
        w->slot = l->watches++;
        l->watched[w->slot] = w;
        l->polled[w->slot].fd = w->fd;
        l->polled[w->slot].revents = 0;
    }
    if (w->want != 0 && bits == 0) {
        uint32_t last = --l->watches;
        l->polled[w->slot] = l->polled[last];
        l->watched[w->slot] = l->watched[last];
        l->watched[w->slot]->slot = w->slot;
    } else if (bits != 0) {
        l->polled[w->slot].events = (short)bits;
    }
    w->want = (uint16_t)bits;
    return true;
}

/* Serve what is ready within `ms` (-1: for ever).  A watch that is taken out
 * moves the last one to its place, so we walk down. */
static void loop_serve(struct loop *l, int ms)
{
    int n = poll(l->polled, l->watches, ms);
    l->now = clock_ms();
    for (uint32_t i = l->watches; n > 0 && i-- > 0; ) {
        if (i >= l->watches || l->polled[i].revents == 0)
            continue;
        uint32_t sees = (uint16_t)l->polled[i].revents;
        l->polled[i].revents = 0;
        l->watched[i]->ready(l->watched[i], sees);
    }
}

#else

static bool loop_open_waiting(struct loop *l)
{
    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    return l->epfd != -1;
}

static void loop_free_waiting(struct loop *l) { close(l->epfd); }

/* Wait on `w` for these bits, 0 to stop.  False: the kernel is short of memory,
 * and it is waited for as before. */
static bool watch_for(struct watch *w, uint32_t bits)
{
    if (w->want == bits)
        return true;
    int op = w->want == 0 ? EPOLL_CTL_ADD : bits == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    struct epoll_event ev = {.events = bits, .data.ptr = w};
    if (epoll_ctl(w->loop->epfd, op, w->fd, &ev) == -1)
        return false;
    w->want = (uint16_t)bits;
    return true;
}

/* Serve what is ready within `ms` (-1: for ever). */
static void loop_serve(struct loop *l, int ms)
{
    struct epoll_event ev[512];
    int n = epoll_wait(l->epfd, ev, countof(ev), ms);
    l->now = clock_ms();
    for (int i = 0; i < n; i++) {
        struct watch *w = ev[i].data.ptr;
        if (w->want != 0)                   /* else it was taken out in this turn (3) */
            w->ready(w, ev[i].events);
    }
}

#endif

static bool loop_open(struct loop *l, size_t most)
{
    *l = (struct loop){.mem.most = most, .now = clock_ms()};
    list_init(&l->dirty[0]);
    list_init(&l->dirty[1]);
    list_init(&l->again);
    list_init(&l->leaving);
    list_init(&l->grave);
    l->scratch = mem_take(&l->mem, SCRATCH_FRONT + SCRATCH_READ);
    return l->scratch != NULL && loop_open_waiting(l);
}

static void loop_free(struct loop *l)
{
    mem_give(&l->mem, l->scratch, SCRATCH_FRONT + SCRATCH_READ);
    loop_free_waiting(l);
    nut_mem_empty(&l->mem);
}

/* A letter from one thread to another.  It belongs to whoever holds it: who
 * posts it does not look at it again until it comes back. */
struct letter { struct letter *next; struct mailbox *back; int kind; };

struct mailbox {
    _Atomic(struct letter *) last;          /* the newest; each has the one before it as `next` */
    int                      fd;            /* an eventfd: readable when there is post */
    struct watch             watch;
};

static bool mailbox_open(struct mailbox *box, int flags)
{
    *box = (struct mailbox){.fd = eventfd(0, EFD_CLOEXEC | flags)};
    return box->fd != -1;
}

static void mailbox_post(struct mailbox *box, struct letter *letter)
{
    uint64_t one = 1;
    struct letter *before = atomic_load(&box->last);
    do
        letter->next = before;
    while (!atomic_compare_exchange_weak(&box->last, &before, letter));     /* which renews `before` */
    if (write(box->fd, &one, sizeof one) == -1)
        must(errno == EAGAIN);              /* it says "there is post" already */
}

/* All letters there are, oldest first; waits for one if the fd does. */
static struct letter *mailbox_take(struct mailbox *box)
{
    uint64_t count;
    if (read(box->fd, &count, sizeof count) == -1 && errno != EAGAIN && errno != EINTR)
        return NULL;
    struct letter *first = NULL;
    for (struct letter *l = atomic_exchange(&box->last, NULL), *before; l != NULL; l = before) {
        before = l->next;
        l->next = first;
        first = l;
    }
    return first;
}
/* } 10 */

/* ===========================================================================
 * 11. CONN                                                                 {
 *    gives    struct conn, conn_open, conn_say, conn_close, loop_turn,
 *             struct address and its sockets
 *    needs    1, 2, 9, 10
 *    never    knows a protocol, a pool or a request
 * ======================================================================== */

struct conn;

/* What the owner of a conn wants to hear. */
struct role {
    /* Take bytes from `in`: how many.  The rest is shown again, with more
     * behind it.  Where c->kept is set, `in` stands in that block. */
    size_t (*bytes)(struct conn *c, struct bytes in);
    /* The peer has closed (0) or there was trouble (an errno): close it, now or
     * when all is said. */
    void (*gone)(struct conn *c, int why);
    bool is_server;                         /* flushed first; told at once when the peer closes */
};

enum { PAUSE_OUT = 1, PAUSE_OWNER = 2 };    /* why a conn is not read */

#define OUT_MARK  (1u << 20)                /* with so much unread, its own input can wait */
#define LINGER_MS 1000                      /* how long a closing conn is drained */

struct conn {
    struct watch       watch;
    const struct role *role;
    struct link        todo;                /* in loop.dirty, or in loop.grave */
    struct link        wait;                /* in loop.again, or in loop.leaving */
    struct queue       out;
    struct block      *kept;                /* input not taken yet: from `head` to its fill */
    uint32_t           head;
    uint32_t           size;                /* of the thing it is the first member of */
    size_t             hope;                /* bytes the owner waits for, with those not taken */
    uint64_t           leave_at;            /* leaving: when to close all the same */
    uint64_t           moved_at;            /* when bytes came or went last */
    int                broken;              /* why it must close: found where it could not be told */
    uint8_t            paused;
    bool               connecting, blocked; /* waits for the peer to take bytes */
    bool               ended;               /* the peer sends no more */
    bool               finishing, leaving;  /* close when all is written; only drain */
    bool               dead;
};

/* ---- addresses and sockets */

struct address { struct sockaddr_storage is; socklen_t len; };

/* The kernel's own keep-alive asks for the first time after two hours. */
static const struct { int option, value; } keepalive[] = {
    { TCP_KEEPIDLE,  60 },                  /* seconds: it asks after so long ... */
    { TCP_KEEPINTVL, 15 },                  /* ... then so often ... */
    { TCP_KEEPCNT,   4  },                  /* ... and gives up after so many times */
};

/* Set a socket to what its pool wants; what is accepted from one that listens is as that is.  One
 * write a turn needs no help from Nagle; waiting for more only adds delay. */
static void socket_tune(int fd, const struct pool_fields *conf)
{
    int one = 1, gone = (int)conf->tcp_user_timeout, alive = conf->tcpkeepalive == 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);             /* none is worth losing it over */
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &gone, sizeof gone);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &alive, sizeof alive);
    for (size_t i = 0; alive && i < countof(keepalive); i++)
        setsockopt(fd, IPPROTO_TCP, keepalive[i].option, &keepalive[i].value, sizeof keepalive[i].value);
}

/* A socket on its way to `a`; -1 and errno.  *done: it is there already. */
static int socket_connect(const struct address *a, const struct pool_fields *conf, bool *done)
{
    int fd = socket(a->is.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd == -1)
        return -1;
    if (a->is.ss_family != AF_UNIX)
        socket_tune(fd, conf);
    *done = connect(fd, (const struct sockaddr *)&a->is, a->len) == 0;
    if (*done || errno == EINPROGRESS)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

/* A path that nobody listens on any more is a leftover and goes; one that is
 * served, or is no socket, is left alone. */
static bool socket_path_clear(const struct address *a)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&a->is;
    struct stat st;
    if (lstat(un->sun_path, &st) == -1)
        return errno == ENOENT;
    if (!S_ISSOCK(st.st_mode)) {
        errno = EEXIST;
        return false;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool served = fd != -1 && connect(fd, (const struct sockaddr *)&a->is, a->len) == 0;
    if (fd != -1)
        close(fd);
    if (served) {
        errno = EADDRINUSE;
        return false;
    }
    return unlink(un->sun_path) == 0;
}

#define SOCKET_TEXT 128

/* An IPv6 address as RFC 5952 writes it, in `to`: the longest run of zeros, of two
 * groups or more, is left out.  How long it is. */
static size_t inet6_text(const struct in6_addr *a, char *to, size_t room)
{
    const unsigned char *at = a->s6_addr;
    int from = 8, zeros = 1;                /* the run that is left out, if it is longer than that */
    if (IN6_IS_ADDR_V4MAPPED(a))
        return text_in(to, room, "::ffff:%u.%u.%u.%u", at[12], at[13], at[14], at[15]);
    for (int i = 0, run = 0; i < 8; i++) {
        run = at[2 * i] == 0 && at[2 * i + 1] == 0 ? run + 1 : 0;
        if (run > zeros) {
            zeros = run;
            from = i + 1 - run;
        }
    }
    size_t len = 0;
    for (int i = 0; i < 8; i++) {
        if (i == from) {
            len += text_in(to + len, room - len, "::");
            i += zeros - 1;
            continue;
        }
        len += text_in(to + len, room - len, i > 0 && i != from + zeros ? ":%x" : "%x", at[2 * i] << 8 | at[2 * i + 1]);
    }
    return len;
}

/* The address at the other end of a socket (`other`) or at this one, in `to`. */
static const char *socket_text(int fd, bool other, char to[SOCKET_TEXT])
{
    struct address a = {.len = sizeof a.is};
    const struct sockaddr_in *in = (const struct sockaddr_in *)&a.is;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a.is;
    int failed = other ? getpeername(fd, (struct sockaddr *)&a.is, &a.len)
                       : getsockname(fd, (struct sockaddr *)&a.is, &a.len);
    if (failed == 0 && a.is.ss_family == AF_UNIX) {
        text_in(to, SOCKET_TEXT, "%s", other ? "of a unix socket" : ((struct sockaddr_un *)&a.is)->sun_path);
    } else if (failed == 0 && a.is.ss_family == AF_INET) {
        const unsigned char *at = (const unsigned char *)&in->sin_addr;
        text_in(to, SOCKET_TEXT, "%u.%u.%u.%u:%u", at[0], at[1], at[2], at[3], ntohs(in->sin_port));
    } else if (failed == 0 && a.is.ss_family == AF_INET6) {
        size_t len = text_in(to, SOCKET_TEXT, "[");
        len += inet6_text(&in6->sin6_addr, to + len, SOCKET_TEXT - len);
        if (in6->sin6_scope_id != 0)
            len += text_in(to + len, SOCKET_TEXT - len, "%%%u", in6->sin6_scope_id);
        text_in(to + len, SOCKET_TEXT - len, "]:%u", ntohs(in6->sin6_port));
    } else {
        text_in(to, SOCKET_TEXT, "of nowhere");
    }
    return to;
}

/* `shared`: by several sockets.  `first`: by ours only, and this is the first of them. */
struct listening {
    int      backlog;
    bool     shared, first;
    unsigned mode;
    const struct pool_fields *conf;         /* what those who connect are set to; NULL: nothing */
};

/* A socket that listens on `a`; -1 and errno. */
static int socket_listen(const struct address *a, struct listening how)
{
    int one = 1;
    bool path = a->is.ss_family == AF_UNIX;
    if (path && !socket_path_clear(a))
        return -1;
    int fd = socket(a->is.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd == -1)
        return -1;
    if (how.conf != NULL)
        socket_tune(fd, how.conf);
    bool ok = (path || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0) &&
              (path || !how.shared || how.first || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0) &&
              bind(fd, (const struct sockaddr *)&a->is, a->len) == 0 &&
              (path || !how.first || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0) &&
              (!path || how.mode == 0 ||
               chmod(((const struct sockaddr_un *)&a->is)->sun_path, how.mode) == 0) &&
              listen(fd, how.backlog) == 0;
    if (ok)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

/* ---- reading and writing */

static bool conn_is_paused(const struct conn *c) { return c->paused != 0; }

/* Tell the loop what this conn waits for now. */
static void conn_watch(struct conn *c)
{
    uint32_t bits = 0;
    if (c->dead)
        return;
    if (c->connecting || c->blocked)
        bits |= SEES_OUT;
    if (!c->connecting && !c->ended && !conn_is_paused(c))
        bits |= SEES_IN;
    if (c->role->is_server)
        bits |= SEES_RDHUP;
    /* With nothing to wait for it stays in the loop, to hear of a reset. */
    if (!watch_for(&c->watch, bits == 0 ? SEES_ERR : bits))
        c->broken = ENOMEM;
}

static void conn_close(struct conn *c)
{
    if (c->dead)
        return;
    c->dead = true;
    if (c->watch.want != 0)
        must(watch_for(&c->watch, 0));
    if (list_linked(&c->todo))
        list_cut(&c->todo);
    if (list_linked(&c->wait))
        list_cut(&c->wait);
    list_push(&c->watch.loop->grave, &c->todo);
}

/* Have it written at the end of this turn. */
static void conn_touch(struct conn *c)
{
    if (!c->dead && !list_linked(&c->todo))
        list_push(&c->watch.loop->dirty[c->role->is_server ? 0 : 1], &c->todo);
}

/* Say something to the peer.  If memory is short the conn closes behind what it
 * was told before: what came later would make no sense to it. */
static void conn_say(struct conn *c, struct bytes b)
{
    if (c->dead || c->broken != 0)
        return;
    if (!nut_queue_put(&c->watch.loop->mem, &c->out, b))
        c->broken = ENOMEM;
    conn_touch(c);
}

/* Say all of `from`, which is empty then. */
static void conn_say_all(struct conn *c, struct queue *from)
{
    struct mem *m = &c->watch.loop->mem;
    const struct piece *p = from->first;
    bool little = p != NULL && p->next == NULL && p->len < SCRATCH_FRONT;   /* a piece of its own is more than it */
    if (c->dead || c->broken != 0 || (little && nut_queue_put(m, &c->out, (struct bytes){p->at, p->len})))
        nut_queue_free(m, from);
    else
        queue_join(&c->out, from);
    conn_touch(c);
}

/* Close when all is written, and then let the peer finish: to close with unread
 * input would reset the connection, and the peer might lose our last words. */
static void conn_finish(struct conn *c)
{
    c->finishing = true;
    conn_touch(c);
}

static void conn_pause(struct conn *c, uint8_t why)
{
    if ((c->paused & why) != 0)
        return;
    c->paused |= why;
    if (list_linked(&c->wait) && !c->leaving)
        list_cut(&c->wait);
    conn_touch(c);                          /* the watch changes when it is flushed */
}

static void conn_resume(struct conn *c, uint8_t why)
{
    if ((c->paused & why) == 0)
        return;
    c->paused = (uint8_t)(c->paused & ~why);
    if (conn_is_paused(c) || c->dead)
        return;
    if (c->kept != NULL && !list_linked(&c->wait))
        list_push(&c->watch.loop->again, &c->wait);
    conn_touch(c);
}

/* All is written: shut our side, and drain the other for a moment. */
static void conn_leave(struct conn *c)
{
    struct loop *l = c->watch.loop;
    if (shutdown(c->watch.fd, SHUT_WR) == -1 || c->ended) {
        c->role->gone(c, 0);
        return;
    }
    if (list_linked(&c->wait))
        list_cut(&c->wait);
    c->leaving = true;
    c->paused = 0;
    c->leave_at = l->now + LINGER_MS;
    list_push(&l->leaving, &c->wait);
    conn_watch(c);
}

/* The pieces of a queue, as the kernel takes them. */
static int queue_iov(const struct queue *q, struct iovec *iov, int room, size_t *len)
{
    int n = 0;
    *len = 0;
    for (const struct piece *p = q->first; p != NULL && n < room; p = p->next) {
        iov[n++] = (struct iovec){p->at, p->len};
        *len += p->len;
    }
    return n;
}

static ssize_t conn_send(struct conn *c, struct iovec *iov, int pieces)
{
    struct msghdr msg = {.msg_iov = iov};
    msg.msg_iovlen = (unsigned char)pieces;         /* int in musl, size_t in glibc */
    return sendmsg(c->watch.fd, &msg, MSG_NOSIGNAL);
}

/* Write what there is, as far as the peer takes it; false: the conn is lost. */
static bool conn_write(struct conn *c)
{
    struct iovec iov[64];
    size_t len;
    c->blocked = false;
    while (c->out.len > 0 && !c->blocked) {
        int pieces = queue_iov(&c->out, iov, countof(iov), &len);
        ssize_t n = pieces == 1 ? send(c->watch.fd, iov[0].iov_base, len, MSG_NOSIGNAL)
                                : conn_send(c, iov, pieces);
        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1 && errno != EAGAIN)
            return false;
        c->blocked = n == -1 || (size_t)n < len;
        if (n > 0) {
            c->moved_at = c->watch.loop->now;
            nut_queue_drop(&c->watch.loop->mem, &c->out, (size_t)n);
        }
    }
    return true;
}

static void conn_flush(struct conn *c)
{
    if (!c->connecting && !c->leaving && !conn_write(c) && c->broken == 0)
        c->broken = errno;
    if (c->broken != 0) {
        c->role->gone(c, c->broken);
        return;
    }
    if (c->finishing && c->out.len == 0) {
        conn_leave(c);
        return;
    }
    /* A server is read whatever it is owed: one that cannot write may not read. */
    if (c->out.len > OUT_MARK && !c->role->is_server)
        conn_pause(c, PAUSE_OUT);
    else if (c->out.len <= OUT_MARK / 2)
        conn_resume(c, PAUSE_OUT);
    conn_watch(c);
}

/* Keep what was not taken: the conn's own memory, only as long as it is needed. */
static bool conn_keep(struct conn *c, struct bytes rest)
{
    size_t room = rest.len;
    if (rest.len == 0)
        return true;
    if (c->hope > rest.len)
        room = least_of(c->hope, most_of(1u << 20, 2 * rest.len));
    else if (rest.len > SCRATCH_FRONT)
        room = 2 * rest.len;
    c->kept = block_take(&c->watch.loop->mem, room);
    if (c->kept == NULL)
        return false;
    memcpy(c->kept->bytes, rest.at, rest.len);
    c->kept->fill = (uint32_t)rest.len;     /* <= cap */
    c->head = 0;
    return true;
}

static struct bytes conn_input(const struct conn *c)
{
    return (struct bytes){c->kept->bytes + c->head, c->kept->fill - c->head};
}

static void conn_kept_drop(struct conn *c)
{
    if (c->kept != NULL)
        block_drop(&c->watch.loop->mem, c->kept);
    c->kept = NULL;
}

/* Show the owner what is kept; what it takes goes. */
static void conn_show_kept(struct conn *c)
{
    size_t took = c->role->bytes(c, conn_input(c));
    if (c->dead)
        return;
    c->head += (uint32_t)took;              /* <= fill */
    if (c->head == c->kept->fill)
        conn_kept_drop(c);
}

/* Show the owner what stands in scratch, and keep what it does not take. */
static void conn_show(struct conn *c, struct bytes in)
{
    size_t took = c->role->bytes(c, in);
    if (!c->dead && !conn_keep(c, bytes_from(in, took)))
        c->role->gone(c, ENOMEM);
}

/* A long remainder stays where it is and is read on there.  -1 and errno, or
 * how many bytes came of *room. */
static ssize_t conn_read_kept(struct conn *c, size_t *room)
{
    if (c->kept->fill == c->kept->cap) {
        struct bytes rest = conn_input(c);
        struct block *full = c->kept;
        if (!conn_keep(c, rest)) {
            c->kept = full;
            errno = ENOMEM;
            return -1;
        }
        block_drop(&c->watch.loop->mem, full);
    }
    *room = least_of(c->kept->cap - c->kept->fill, 1u << 20);
    ssize_t n = recv(c->watch.fd, c->kept->bytes + c->kept->fill, *room, 0);
    if (n > 0) {
        c->kept->fill += (uint32_t)n;       /* <= cap */
        conn_show_kept(c);
    }
    return n;
}

/* A short remainder is put in front of what is read. */
static ssize_t conn_read_scratch(struct conn *c, size_t *room)
{
    struct loop *l = c->watch.loop;
    struct bytes rest = c->kept == NULL ? (struct bytes){0} : conn_input(c);
    char *at = l->scratch + SCRATCH_FRONT - rest.len;
    *room = SCRATCH_READ;
    ssize_t n = recv(c->watch.fd, l->scratch + SCRATCH_FRONT, SCRATCH_READ, 0);
    if (n > 0) {
        if (rest.len > 0)
            memcpy(at, rest.at, rest.len);
        conn_kept_drop(c);
        conn_show(c, (struct bytes){at, rest.len + (size_t)n});
    }
    return n;
}

/* The bulk of a large value goes into blocks of its own, which the owner can
 * hand on by reference; what comes behind its end goes into scratch. */
static ssize_t conn_read_bulk(struct conn *c, size_t *room)
{
    struct loop *l = c->watch.loop;
    struct block *b = block_take(&l->mem, least_of(c->hope, shelf_large(6) - sizeof *b));    /* 64 KiB */
    if (b == NULL)
        return conn_read_scratch(c, room);  /* its owner finds out who has to go without */
    struct iovec iov[2] = {{b->bytes, least_of(c->hope, b->cap)}, {l->scratch, SCRATCH_READ}};
    bool to_end = c->hope <= b->cap;
    *room = iov[0].iov_len + (to_end ? iov[1].iov_len : 0);
    ssize_t n = readv(c->watch.fd, iov, to_end ? 2 : 1);
    size_t got = n > 0 ? (size_t)n : 0, in_block = least_of(got, iov[0].iov_len);
    if (n > 0) {
        b->fill = (uint32_t)in_block;
        c->kept = b;
        size_t took = c->role->bytes(c, (struct bytes){b->bytes, in_block});
        c->kept = NULL;
        must(c->dead || took == in_block);  /* only who takes all has hope and nothing kept */
    }
    block_drop(&l->mem, b);
    if (!c->dead && got > in_block)
        conn_show(c, (struct bytes){l->scratch, got - in_block});
    return n;
}

/* What comes after we have said our last word is not looked at. */
static ssize_t conn_read_away(struct conn *c, size_t *room)
{
    *room = SCRATCH_READ;
    return recv(c->watch.fd, c->watch.loop->scratch, SCRATCH_READ, 0);
}

/* Read until the peer has no more, or others should have a turn.  A short read
 * means drained: no read is made only to hear EAGAIN.  But where the peer is
 * known to have closed (`to_end`), its end is read with its last bytes. */
static void conn_read(struct conn *c, bool to_end)
{
    size_t room = 0;
    if (!c->leaving && list_linked(&c->wait))
        return;                             /* what is kept is shown first; the rest is told again */
    for (int rounds = 0; rounds < 16; rounds++) {
        if (c->dead || c->ended || conn_is_paused(c) || c->broken != 0)
            return;
        ssize_t n = c->leaving ? conn_read_away(c, &room)
                  : c->kept != NULL && c->kept->fill - c->head > SCRATCH_FRONT ? conn_read_kept(c, &room)
                  : c->kept == NULL && c->hope >= NUT_BIG ? conn_read_bulk(c, &room)
                  : conn_read_scratch(c, &room);
        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1 && errno == EAGAIN)
            return;
        if (n <= 0) {
            c->ended = n == 0;
            c->role->gone(c, n == 0 || c->leaving ? 0 : errno);
            return;
        }
        c->moved_at = c->watch.loop->now;
        if ((size_t)n < room && !to_end)
            return;
    }
}

static int socket_error(int fd)
{
    int why = 0;
    socklen_t len = sizeof why;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &len) == -1 ? errno : why;
}

static void conn_ready(struct watch *w, uint32_t sees)
{
    struct conn *c = container_of(w, struct conn, watch);
    if (c->connecting) {
        int why = socket_error(w->fd);
        if (why != 0) {
            c->role->gone(c, why);
            return;
        }
        c->connecting = false;
        conn_touch(c);
        return;
    }
    if (sees & SEES_OUT)
        conn_touch(c);
    if ((c->ended || conn_is_paused(c)) && (sees & (SEES_ERR | SEES_HUP))) {
        int why = socket_error(w->fd);      /* nobody reads, so it is told here */
        c->role->gone(c, why != 0 ? why : ECONNRESET);
    } else if (sees & (SEES_IN | SEES_ERR | SEES_HUP | SEES_RDHUP)) {
        conn_read(c, (sees & (SEES_RDHUP | SEES_HUP)) != 0);
    }
}

/* Open a conn in memory of `size` bytes that begins with it, is all zero, and is
 * given back when it is buried.  Owns fd, also on false. */
static bool conn_open(struct conn *c, uint32_t size, struct loop *l, int fd, const struct role *role)
{
    c->watch = (struct watch){.ready = conn_ready, .loop = l, .fd = fd};
    c->role = role;
    c->size = size;
    c->moved_at = l->now;
    if (watch_for(&c->watch, SEES_IN | (role->is_server ? SEES_RDHUP : 0u)))
        return true;
    close(fd);
    return false;
}

static void conn_bury(struct conn *c)
{
    struct mem *m = &c->watch.loop->mem;
    list_cut(&c->todo);
    close(c->watch.fd);
    nut_queue_free(m, &c->out);
    conn_kept_drop(c);
    mem_give(m, c, c->size);
}

static struct conn *conn_first(struct link *list)
{
    return list_empty(list) ? NULL : container_of(list->next, struct conn, todo);
}

/* Input that was paused is shown before more is read.  Each conn once: one that
 * is paused again has left the list, one that goes on has been read dry. */
static void loop_show_again(struct loop *l)
{
    struct link list;
    if (list_empty(&l->again))
        return;
    list = l->again;                        /* take the whole ring over */
    list.next->prev = list.prev->next = &list;
    list_init(&l->again);
    while (!list_empty(&list)) {
        struct conn *c = container_of(list.next, struct conn, wait);
        list_cut(&c->wait);
        if (c->kept != NULL && !conn_is_paused(c))
            conn_show_kept(c);
    }
}

/* Write what was said, servers first: what they answer can come while the
 * clients are written. */
static void loop_flush(struct loop *l)
{
    for (int side = 0; side < 2; side++) {
        struct conn *c;
        while ((c = conn_first(&l->dirty[side])) != NULL) {
            list_cut(&c->todo);
            conn_flush(c);
            if (!list_empty(&l->dirty[0]))
                side = 0;
        }
    }
}

static void loop_leave(struct loop *l)
{
    while (!list_empty(&l->leaving)) {
        struct conn *c = container_of(l->leaving.next, struct conn, wait);
        if (c->leave_at > l->now)
            return;
        c->role->gone(c, 0);
    }
}

#define TIDY_MS 1000

static void loop_tidy(struct loop *l)
{
    if (mem_is_scarce(&l->mem))
        nut_mem_empty(&l->mem);
    if (l->now < l->tidy_at)
        return;
    if (l->tidy_at != 0)
        nut_mem_tidy(&l->mem);
    l->tidy_at = mem_spares(&l->mem) ? l->now + TIDY_MS : 0;
}

/* How long the loop may wait: until `due` (UINT64_MAX: nothing is), or one of
 * its own timers. */
static int loop_patience(const struct loop *l, uint64_t due)
{
    if (!list_empty(&l->again) || !list_empty(&l->dirty[0]) || !list_empty(&l->dirty[1]))
        return 0;
    if (!list_empty(&l->leaving)) {
        uint64_t at = container_of(l->leaving.next, struct conn, wait)->leave_at;
        due = due < at ? due : at;
    }
    if (l->tidy_at != 0 && l->tidy_at < due)
        due = l->tidy_at;
    if (due == UINT64_MAX)
        return -1;
    return due <= l->now ? 0 : (int)least_of(due - l->now, 60000);
}

/* What a turn ends with, when all are served. */
static void loop_settle(struct loop *l)
{
    struct conn *c;
    loop_flush(l);
    loop_leave(l);
    while ((c = conn_first(&l->grave)) != NULL)
        conn_bury(c);
    loop_tidy(l);
}
/* } 11 */

/* ===========================================================================
 * 12. NAMES                                                                {
 *    gives    struct places, address_read, address_of, struct lookup, name_find,
 *             struct resolver, resolver_begin, resolver_turn; struct stream
 *    needs    1, 2, 7 for words, 9-11
 *    never    is on a worker: it waits; never knows who asks, or why
 *
 * A name becomes addresses by /etc/hosts, or by the name servers of /etc/resolv.conf
 * (RFC 1035, over UDP), with the options that resolv.conf(5) has for them.  All names
 * are looked up at the same time: one that nobody answers for delays no other.
 * ======================================================================== */

/* ---- files, line by line */

/* A file to read, by its name ("-": stdin); -1: it cannot be opened. */
static int file_open(const char *path)
{
    return strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
}

static void file_close(int fd)
{
    if (fd != -1 && fd != STDIN_FILENO)
        close(fd);
}

/* What was read of a file and is not used yet: `text`, which is from malloc, from `from` to `len`. */
struct stream { int fd; char *text; size_t room, from, len; };

/* Read more, for which what is left may move: how much; 0: that was all; -1: it failed. */
static ssize_t stream_more(struct stream *s)
{
    struct bytes left = {s->text + s->from, s->len - s->from};
    if (left.len == s->room) {
        size_t room = s->room == 0 ? 16384 : s->room * 2;
        char *more = malloc(room);
        if (more == NULL)
            return -1;
        copy(more, left);
        free(s->text);
        s->text = more;
        s->room = room;
    } else if (s->from > 0) {
        memmove(s->text, left.at, left.len);
    }
    s->from = 0;
    ssize_t n = read(s->fd, s->text + left.len, s->room - left.len);
    s->len = left.len + (n > 0 ? (size_t)n : 0);
    return n;
}

/* The next line, without its end; 0: there is none; -1: it cannot be read. */
static ssize_t stream_line(struct stream *s, struct bytes *line)
{
    ssize_t more = 1;
    for (size_t seen = 0; ; more = stream_more(s)) {
        *line = (struct bytes){s->text + s->from, s->len - s->from};
        seen = find(*line, seen, '\n');
        if (seen < line->len || (more == 0 && seen > 0)) {
            s->from += least_of(seen + 1, line->len);
            line->len = seen;
            return 1;
        }
        if (more <= 0)
            return more;
    }
}

/* Show the lines of a file of the system to `take`, without comments; false: it cannot be read. */
static bool file_lines(const char *path, void (*take)(void *to, struct bytes line), void *to)
{
    struct stream s = {.fd = file_open(path)};
    struct bytes line;
    ssize_t more = s.fd == -1 ? -1 : 1;
    while (more > 0 && (more = stream_line(&s, &line)) > 0) {
        line.len = find(line, 0, '#');
        take(to, line);
    }
    file_close(s.fd);
    free(s.text);
    return more == 0;
}

/* ---- addresses */

/* An IP address; one of IPv4 stands in the last four bytes, behind ::ffff. */
struct place { struct in6_addr is; uint32_t scope; };

#define PLACES_OF_A_KIND 8                  /* so many of IPv4, and so many of IPv6 */

struct places { uint32_t n; struct place at[2 * PLACES_OF_A_KIND]; };

static bool place_same(const struct place *a, const struct place *b)
{
    return a->scope == b->scope && memcmp(&a->is, &b->is, sizeof a->is) == 0;
}

static struct place place_inet(const unsigned char *at)
{
    struct place p = {.is.s6_addr = {[10] = 0xff, [11] = 0xff}};
    memcpy(p.is.s6_addr + 12, at, 4);
    return p;
}

/* A number as C writes them: 127, 0177, 0x7f. */
static bool inet_number(struct bytes text, uint64_t most, uint64_t *n)
{
    int base = 10;
    if (text.len > 1 && text.at[0] == '0') {
        base = (text.at[1] | 0x20) == 'x' ? 16 : 8;
        text = bytes_from(text, base == 16 ? 2 : 1);
    }
    *n = 0;
    for (size_t i = 0; i < text.len; i++) {
        int digit = hex_digit(text.at[i]);
        if (digit < 0 || digit >= base)
            return false;
        *n = *n * (uint64_t)base + (uint64_t)digit;
        if (*n > most)
            return false;                   /* each digit: cannot wrap */
    }
    return text.len > 0;
}

/* Read an address of IPv4; in fewer than four parts the last one fills the rest, as in 127.1. */
static bool inet_read(struct bytes text, struct place *p)
{
    unsigned char at[4];
    for (uint32_t i = 0; i < 4; i++) {
        size_t dot = find(text, 0, '.');
        bool last = dot == text.len;
        uint64_t n, most = last ? UINT32_MAX >> 8 * i : 255;
        if (!inet_number((struct bytes){text.at, dot}, most, &n))
            return false;
        for (uint32_t k = i; k < (last ? 4 : i + 1); k++)
            at[k] = (unsigned char)(last ? n >> 8 * (3 - k) : n);
        *p = place_inet(at);
        if (last)
            return true;
        text = bytes_from(text, dot + 1);
    }
    return false;
}

/* Read an address that is a number; of IPv6 perhaps with the interface that it is of, as fe80::1%eth0. */
static bool place_read(struct bytes text, struct place *p)
{
    char plain[INET6_ADDRSTRLEN], name[IF_NAMESIZE];
    uint64_t scope = 0;
    if (inet_read(text, p))
        return true;
    size_t len = find(text, 0, '%');
    struct bytes interface = bytes_from(text, least_of(len + 1, text.len));
    if (len >= sizeof plain || interface.len >= sizeof name)
        return false;
    copy(plain, text);
    plain[len] = '\0';
    if (inet_pton(AF_INET6, plain, &p->is) != 1)
        return false;
    copy(name, interface);
    name[interface.len] = '\0';
    if (interface.len > 0 && !number_read(interface, UINT32_MAX, &scope))
        scope = if_nametoindex(name);
    p->scope = (uint32_t)scope;
    return len == text.len || scope != 0;
}

static void address_of(struct address *a, const struct place *p, uint16_t port)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&a->is;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->is;
    *a = (struct address){0};
    if (IN6_IS_ADDR_V4MAPPED(&p->is)) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        memcpy(&in->sin_addr, p->is.s6_addr + 12, 4);
        a->len = sizeof *in;
        return;
    }
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    in6->sin6_addr = p->is;
    in6->sin6_scope_id = p->scope;
    a->len = sizeof *in6;
}

/* The address of a path or a number; false: it is a name, or none at all. */
static bool address_read(struct address *a, const char *host, uint16_t port)
{
    struct place p = {0};
    if (host[0] != '/') {
        bool number = place_read(bytes_of(host), &p);
        if (number)
            address_of(a, &p, port);
        return number;
    }
    *a = (struct address){0};
    struct sockaddr_un *un = (struct sockaddr_un *)&a->is;
    must(strlen(host) < sizeof un->sun_path);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, host, strlen(host) + 1);
    a->len = sizeof *un;
    return true;
}

/* ---- questions and answers of DNS */

enum { DNS_INET = 1, DNS_INET6 = 28 };      /* types of records: A, AAAA */

#define DNS_MOST 512                        /* bytes of a message over UDP */
#define DNS_HEAD 12

static uint32_t dns_number(struct bytes b, size_t at) { return octet(b.at[at]) << 8 | octet(b.at[at + 1]); }

/* Write the question for `name` to `to`; how long it is, 0: DNS has no such names. */
static size_t dns_ask(char to[DNS_MOST], uint32_t id, struct bytes name, uint32_t type)
{
    size_t at = DNS_HEAD;
    memset(to, 0, DNS_HEAD);
    to[0] = (char)(id >> 8);
    to[1] = (char)id;
    to[2] = 1;                              /* it is to ask others for us */
    to[5] = 1;                              /* one question */
    if (name.len > HOST_MOST - 2)
        return 0;
    while (name.len > 0) {
        size_t len = find(name, 0, '.');
        if (len == 0 || len > 63)
            return 0;
        to[at] = (char)len;
        copy(to + at + 1, (struct bytes){name.at, len});
        at += 1 + len;
        name = bytes_from(name, least_of(len + 1, name.len));
    }
    memcpy(to + at, "\0\0\0\0\1", 5);       /* the root; class IN */
    to[at + 2] = (char)type;
    return at + 5;
}

/* Behind a name, which may end in the place of another; SIZE_MAX: it does not end. */
static size_t dns_skip(struct bytes b, size_t at)
{
    while (at < b.len) {
        uint32_t len = octet(b.at[at]);
        if (len == 0 || len >= 0xc0)
            return at + (len == 0 ? 1 : 2);
        at += 1 + len;
    }
    return SIZE_MAX;
}

/* Whether `reply` answers `question`: its id, and the same question. */
static bool dns_answers(struct bytes reply, struct bytes question)
{
    if (reply.len < question.len || (reply.at[2] & 0x80) == 0 || dns_number(reply, 4) != 1)
        return false;
    return memcmp(reply.at, question.at, 2) == 0 &&
           same_word((struct bytes){reply.at + DNS_HEAD, question.len - DNS_HEAD}, bytes_from(question, DNS_HEAD));
}

/* Take the addresses of a reply to a question of `len` bytes; false: the server could not tell.
 * Names of other names need not be followed: what they stand for is in the same reply. */
static bool dns_take(struct bytes reply, size_t len, uint32_t type, struct places *to)
{
    uint32_t code = octet(reply.at[3]) & 15, records = dns_number(reply, 6), taken = 0;
    size_t want = type == DNS_INET ? 4 : 16, at = len;
    if (code != 0)
        return code == 3;                   /* there is no such name */
    while (records-- > 0 && (at = dns_skip(reply, at)) < reply.len && reply.len - at >= 10) {
        size_t size = dns_number(reply, at + 8);
        if (size > reply.len - at - 10)
            break;
        const unsigned char *data = (const unsigned char *)reply.at + at + 10;
        bool wanted = dns_number(reply, at) == type && dns_number(reply, at + 2) == 1 && size == want;
        if (wanted && taken++ < PLACES_OF_A_KIND) {
            struct place *p = &to->at[to->n++];
            *p = (struct place){0};
            if (type == DNS_INET)
                *p = place_inet(data);
            else
                memcpy(&p->is, data, sizeof p->is);
        }
        at += 10 + size;
    }
    return true;
}

/* ---- lookups */

/* A name on its way to its addresses. */
struct lookup {
    char          host[HOST_MOST + 1];
    struct places places;                   /* found: one at least, the best ones first */
    void        (*done)(struct lookup *l);
    struct link   in;                       /* in resolver.waiting, or in resolver.asked */
    uint32_t      dots;                     /* in its name */
    uint32_t      domain;                   /* which of the domains to search is tried; their number: none */
    uint32_t      tries;
    uint64_t      due;                      /* when to ask again */
    struct question { uint16_t id; bool open; } question[2];        /* for IPv6, and for IPv4 */
};

#define RESOLVER_SERVERS 3                  /* as in libcs */
#define RESOLVER_ASKED   64                 /* names at the same time */

struct resolver {
    struct link    waiting, asked;
    uint32_t       asks;                    /* how many are asked */
    struct mailbox box;                     /* where letters with lookups come in; fd -1: there is none */
    int            fd;                      /* to the name servers; -1: nothing is asked */
    struct address server[RESOLVER_SERVERS];
    uint32_t       servers;
    char           search[256];             /* domains, each with its NUL, and another one */
    uint32_t       domains, ndots, timeout_ms, attempts;
};

static void hosts_take(void *to, struct bytes line)
{
    struct lookup *l = to;
    struct bytes address = word_next(&line), word;
    while ((word = word_next(&line)).len > 0)
        if (l->places.n < countof(l->places.at) && same_word(word, bytes_of(l->host)) &&
            place_read(address, &l->places.at[l->places.n])) {
            l->places.n++;
            return;
        }
}

/* A number behind `name` in a word of options, as in ndots:2. */
static void resolv_option(struct bytes word, struct bytes name, uint32_t most, uint32_t *to)
{
    uint64_t n;
    if (starts_with(word, name) && number_read(bytes_from(word, name.len), UINT32_MAX, &n))
        *to = (uint32_t)least_of(n, most);
}

static void resolv_take(void *to, struct bytes line)
{
    struct resolver *r = to;
    struct bytes key = word_next(&line), word;
    struct place p;
    size_t at = 0;
    if (bytes_same(key, lit("nameserver"))) {
        if (r->servers < RESOLVER_SERVERS && place_read(word_next(&line), &p))
            address_of(&r->server[r->servers++], &p, 53);
    } else if (bytes_same(key, lit("search")) || bytes_same(key, lit("domain"))) {
        for (r->domains = 0; (word = word_next(&line)).len > 0 && word.len < sizeof r->search - at - 1; r->domains++) {
            copy(r->search + at, word);
            r->search[at + word.len] = '\0';
            at += word.len + 1;
        }
    } else if (bytes_same(key, lit("options"))) {
        while ((word = word_next(&line)).len > 0) {
            resolv_option(word, lit("ndots:"), 15, &r->ndots);
            resolv_option(word, lit("attempts:"), 10, &r->attempts);
            resolv_option(word, lit("timeout:"), 60, &r->timeout_ms);
        }
    }
}

/* Read whom to ask, and open a way to them; false: that failed.  Where one of them has an
 * address of IPv6 all are written to as such. */
static bool resolver_prepare(struct resolver *r)
{
    int off = 0;
    sa_family_t family = AF_INET;
    r->servers = r->domains = 0;
    r->ndots = 1;
    r->attempts = 2;
    r->timeout_ms = 5;                      /* seconds, until all is read */
    file_lines("/etc/resolv.conf", resolv_take, r);
    r->timeout_ms = (uint32_t)most_of(r->timeout_ms, 1) * 1000;
    r->attempts = (uint32_t)most_of(r->attempts, 1);
    if (r->servers == 0)                    /* as in libcs: here */
        address_of(&r->server[r->servers++], &(struct place){.is.s6_addr = {[10] = 0xff, 0xff, 127, 0, 0, 1}}, 53);
    for (uint32_t i = 0; i < r->servers; i++)
        if (r->server[i].is.ss_family == AF_INET6)
            family = AF_INET6;
    for (uint32_t i = 0; i < r->servers && family == AF_INET6; i++)
        if (r->server[i].is.ss_family == AF_INET) {
            struct place p = place_inet((const void *)&((struct sockaddr_in *)&r->server[i].is)->sin_addr);
            struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(53), .sin6_addr = p.is};
            memcpy(&r->server[i].is, &in6, sizeof in6);
            r->server[i].len = sizeof in6;
        }
    r->fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (r->fd != -1 && family == AF_INET6)
        setsockopt(r->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    return r->fd != -1;
}

/* How good an address looks from here: one that cannot be reached comes last (RFC 6724, 6). */
static uint32_t place_rank(const struct place *p)
{
    struct address a;
    address_of(&a, p, 53);
    int fd = socket(a.is.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool way = fd != -1 && connect(fd, (const struct sockaddr *)&a.is, a.len) == 0;
    if (fd != -1)
        close(fd);
    return (way ? 0u : 2u) + (a.is.ss_family == AF_INET6 ? 0u : 1u);
}

/* Put the best ones first; of those that are as good the order stays. */
static void places_sort(struct places *ps)
{
    uint32_t rank[countof(ps->at)];
    for (uint32_t i = 0; i < ps->n; i++) {
        struct place p = ps->at[i];
        uint32_t own = place_rank(&p), k = i;
        for (; k > 0 && rank[k - 1] > own; k--) {
            rank[k] = rank[k - 1];
            ps->at[k] = ps->at[k - 1];
        }
        rank[k] = own;
        ps->at[k] = p;
    }
}

/* A lookup ends, with or without addresses. */
static void lookup_end(struct resolver *r, struct lookup *l)
{
    if (list_linked(&l->in)) {
        list_cut(&l->in);
        r->asks--;
    }
    if (l->places.n > 1)
        places_sort(&l->places);
    l->done(l);
}

/* The question for IPv6 (0) or IPv4 (1), in `to`: how long it is. */
static size_t lookup_question(const struct resolver *r, const struct lookup *l, uint32_t which, char to[DNS_MOST])
{
    char name[2 * HOST_MOST];
    const char *domain = l->domain < r->domains ? text_nth(r->search, l->domain) : "";
    size_t host = strlen(l->host), len;
    host -= host > 0 && l->host[host - 1] == '.';
    len = text_in(name, sizeof name, "%.*s%s%s", (int)host, l->host, domain[0] == '\0' ? "" : ".", domain);
    return dns_ask(to, l->question[which].id, (struct bytes){name, len}, which == 0 ? DNS_INET6 : DNS_INET);
}

/* Ask all name servers what is not answered yet. */
static void lookup_send(struct resolver *r, struct lookup *l)
{
    char question[DNS_MOST];
    for (uint32_t which = 0; which < 2; which++) {
        size_t len = lookup_question(r, l, which, question);
        for (uint32_t i = 0; i < r->servers && l->question[which].open && len > 0; i++)
            (void)!sendto(r->fd, question, len, 0, (const struct sockaddr *)&r->server[i].is, r->server[i].len);
        l->question[which].open = l->question[which].open && len > 0;
    }
    bool open = l->question[0].open || l->question[1].open;        /* else DNS cannot be asked for such a name */
    l->due = clock_ms() + (open ? r->timeout_ms / r->attempts : 0);
}

/* Ask for the name, in the domain that is its turn.  Ids are such that nobody guesses them. */
static void lookup_ask(struct resolver *r, struct lookup *l)
{
    uint16_t id[2];
    if (getentropy(id, sizeof id) == -1)
        memset(id, (int)clock_ms(), sizeof id);
    for (uint32_t which = 0; which < 2; which++)
        l->question[which] = (struct question){id[which], true};
    l->tries = 0;
    lookup_send(r, l);
}

/* The servers have told all, or have had their time: go on with the next domain, or end. */
static void lookup_step(struct resolver *r, struct lookup *l, bool told)
{
    if (l->places.n > 0 || !told || l->domain >= r->domains) {
        lookup_end(r, l);
        return;
    }
    l->domain++;
    lookup_ask(r, l);
}

/* Ask for those that wait, as far as not too many are asked. */
static void resolver_next(struct resolver *r)
{
    while (!list_empty(&r->waiting) && r->asks < RESOLVER_ASKED) {
        struct lookup *l = container_of(r->waiting.next, struct lookup, in);
        list_cut(&l->in);
        if (r->fd == -1 && !resolver_prepare(r)) {
            l->done(l);
            continue;
        }
        list_push(&r->asked, &l->in);
        r->asks++;
        size_t len = strlen(l->host);
        bool whole = l->host[len - 1] == '.' || l->dots >= r->ndots;
        l->domain = whole ? r->domains : 0;
        lookup_ask(r, l);
    }
    if (r->asks == 0 && r->fd != -1) {      /* the next questions come from another port */
        close(r->fd);
        r->fd = -1;
    }
}

/* Look a name up: l->done is called, perhaps before this returns. */
static void resolver_begin(struct resolver *r, struct lookup *l)
{
    l->places.n = 0;
    l->dots = 0;
    for (const char *at = l->host; *at != '\0'; at++)
        l->dots += *at == '.';
    file_lines("/etc/hosts", hosts_take, l);
    if (l->places.n > 0 || l->host[0] == '\0')
        lookup_end(r, l);
    else
        list_push(&r->waiting, &l->in);
}

/* Whose question a reply answers, and which of the two; NULL: nobody's. */
static struct lookup *resolver_asker(struct resolver *r, struct bytes reply, uint32_t *which, size_t *len)
{
    char question[DNS_MOST];
    for (struct link *at = r->asked.next; at != &r->asked; at = at->next) {
        struct lookup *l = container_of(at, struct lookup, in);
        for (*which = 0; *which < 2; ++*which) {
            if (!l->question[*which].open || l->question[*which].id != dns_number(reply, 0))
                continue;
            *len = lookup_question(r, l, *which, question);
            if (dns_answers(reply, (struct bytes){question, *len}))
                return l;
        }
    }
    return NULL;
}

static bool resolver_knows(const struct resolver *r, const struct address *from)
{
    for (uint32_t i = 0; i < r->servers; i++) {
        const struct sockaddr_in6 *a = (const void *)&r->server[i].is, *b = (const void *)&from->is;
        if (from->is.ss_family == AF_INET ? memcmp(&r->server[i].is, &from->is, 8) == 0     /* family, port, address */
            : a->sin6_port == b->sin6_port && memcmp(&a->sin6_addr, &b->sin6_addr, sizeof a->sin6_addr) == 0)
            return true;
    }
    return false;
}

#define DNS_AGAIN_MS 100                    /* a server could not tell: the next try is made so soon */

/* Read a reply; false: there is none. */
static bool resolver_read(struct resolver *r)
{
    char text[4096];
    struct address from = {.len = sizeof from.is};
    uint32_t which;
    size_t question;
    ssize_t n = recvfrom(r->fd, text, sizeof text, 0, (struct sockaddr *)&from.is, &from.len);
    if (n == -1)
        return errno == EINTR || errno == ECONNREFUSED;     /* that nobody listens says nothing of others */
    struct bytes reply = {text, (size_t)n};
    struct lookup *l = reply.len < DNS_HEAD || !resolver_knows(r, &from) ? NULL
                     : resolver_asker(r, reply, &which, &question);
    if (l == NULL)
        return true;
    if (!dns_take(reply, question, which == 0 ? DNS_INET6 : DNS_INET, &l->places)) {
        l->due = least_of(l->due, clock_ms() + DNS_AGAIN_MS);
        return true;
    }
    l->question[which].open = false;
    if (!l->question[1 - which].open)
        lookup_step(r, l, true);
    return true;
}

/* Ask again, or give up, what is due. */
static void resolver_timers(struct resolver *r)
{
    uint64_t now = clock_ms();
    for (struct link *at = r->asked.next, *next; at != &r->asked; at = next) {
        struct lookup *l = container_of(at, struct lookup, in);
        next = at->next;
        if (!l->question[0].open && !l->question[1].open)
            lookup_step(r, l, true);
        else if (l->due <= now && (++l->tries >= r->attempts || l->places.n > 0))
            lookup_step(r, l, false);
        else if (l->due <= now)
            lookup_send(r, l);
    }
}

/* Wait for replies, letters, and time, until then at most (UINT64_MAX: for ever); whether letters
 * have come. */
static bool resolver_turn(struct resolver *r, uint64_t until)
{
    uint64_t now = clock_ms();
    resolver_next(r);
    for (struct link *at = r->asked.next; at != &r->asked; at = at->next)
        until = least_of(until, container_of(at, struct lookup, in)->due);
    if (!list_empty(&r->waiting) && r->asks < RESOLVER_ASKED)
        until = now;
    int patience = until == UINT64_MAX ? -1 : until <= now ? 0 : (int)least_of(until - now, 60000);
    struct pollfd fds[2] = {{.fd = r->box.fd, .events = POLLIN}, {.fd = r->fd, .events = POLLIN}};
    poll(fds, 2, patience);
    while (r->fd != -1 && resolver_read(r))
        ;
    resolver_timers(r);
    return fds[0].revents != 0;
}

/* Make ready; the mailbox is the caller's. */
static void resolver_open(struct resolver *r)
{
    *r = (struct resolver){.fd = -1, .box.fd = -1};
    list_init(&r->waiting);
    list_init(&r->asked);
}

static void lookup_is_done(struct lookup *l) { l->done = NULL; }

#define FIND_MS 5000

/* Look an address up, and wait for it, so long at most: only the control thread may. */
static bool address_find(struct address *a, const char *host, uint16_t port)
{
    struct resolver r;
    struct lookup l = {.done = lookup_is_done};
    if (address_read(a, host, port))
        return true;
    resolver_open(&r);
    memcpy(l.host, host, strlen(host) + 1);
    resolver_begin(&r, &l);
    for (uint64_t until = clock_ms() + FIND_MS; l.done != NULL && clock_ms() < until; )
        resolver_turn(&r, until);
    if (r.fd != -1)
        close(r.fd);
    if (l.places.n > 0)
        address_of(a, &l.places.at[0], port);
    return l.places.n > 0;
}
/* } 12 */

/* ===========================================================================
 * 13. SERVER                                                               {
 *    gives    struct worker, struct pool, struct server, struct lane, struct part,
 *             pool_pick, server_lane, lane_push, lane_disconnect, server_failed
 *    needs    1-12
 *    never    knows clients, or what a request wants: it owes replies to parts
 *
 * A lane is one connection to a server, and the FIFO of who is owed a reply on
 * it.  Lanes are shared by all clients; a client stays on one lane of a server,
 * so what it wrote it can read.
 * ======================================================================== */

/* Trouble of our own, where no errno says it; 0 is no trouble. */
enum {
    WHY_CLOSED = 10000, WHY_AUTH, WHY_HELLO, WHY_SELECT, WHY_MEMORY, WHY_FULL, WHY_LOADING, WHY_MASTER
};

/* What a client is told of trouble with a server: twemproxy's reasons. */
#define TROUBLES(_) \
/*     why            reason                              */ \
    _( WHY_CLOSED,    "Connection closed by server"       ) \
    _( WHY_AUTH,      "Server refused the password"       ) \
    _( WHY_HELLO,     "Server does not speak RESP3"       ) \
    _( WHY_SELECT,    "Server refused the database"       ) \
    _( WHY_MEMORY,    "proxy is out of memory"            ) \
    _( WHY_FULL,      "Server queue is full"              ) \
    _( WHY_LOADING,   "Server is loading"                 ) \
    _( WHY_MASTER,    "Server has lost its master"        ) \
    _( EACCES,        "Permission denied"                 ) \
    _( ECONNREFUSED,  "Connection refused"                ) \
    _( ECONNRESET,    "Connection reset by peer"          ) \
    _( EHOSTDOWN,     "Host is down"                      ) \
    _( EHOSTUNREACH,  "No route to host"                  ) \
    _( EINVAL,        "Invalid argument"                  ) \
    _( EMFILE,        "Too many open files"               ) \
    _( ENETUNREACH,   "Network is unreachable"            ) \
    _( ENOENT,        "No such file or directory"         ) \
    _( ENOMEM,        "Cannot allocate memory"            ) \
    _( EPIPE,         "Broken pipe"                       ) \
    _( ETIMEDOUT,     "Connection timed out"              ) \
    _( -1,            "Input/output error"                )

static const struct trouble { int why; char reason[28]; } troubles[] = {
#define ROW(why, reason) {why, reason},
    TROUBLES(ROW)
#undef ROW
};

static const struct trouble *trouble_for(int why)
{
    size_t i = 0;
    while (i + 1 < countof(troubles) && troubles[i].why != why)
        i++;
    return &troubles[i];
}

/* An error of ours instead of a reply, unless `what` is NULL: it needs no memory until
 * it is written. */
struct fault { const struct trouble *what; bool unsent; };

static struct fault fault_of(int why, bool unsent) { return (struct fault){trouble_for(why), unsent}; }

#define FAULT_TEXT 96

/* A fault as it is told: the reason, and whether the server may have seen the request. */
static struct bytes fault_text(struct fault f, int64_t protocol, char to[FAULT_TEXT])
{
    const char *sent = f.unsent ? ": the request was not sent" : ": the request may have been applied";
    size_t len = text_in(to, FAULT_TEXT, "%s%s%s\r\n", protocol == REDIS ? "-ERR " : "SERVER_ERROR ",
                         f.what->reason, f.what->why == WHY_MEMORY ? "" : sent);
    return (struct bytes){to, len};
}

struct request;

/* What one request asks of one server. */
struct part {
    struct part    *next;                   /* in its lane's FIFO */
    struct link     due;                    /* in pool.due, by deadline */
    struct request *request;
    struct lane    *lane;                   /* NULL: on no lane (any more) */
    struct server  *server;
    uint64_t        at;                     /* where the question begins in the lane's stream */
    uint64_t        due_at;
    uint32_t        len;                    /* bytes of the question */
    uint32_t        keys;                   /* how many keys it asks for */
    uint32_t        line;                   /* memcached: bytes of them in the line so far */
    uint32_t        first_key;              /* the first of them, in request.asked */
    enum expect     expect;
    bool            answered;               /* the request knows its reply */
    bool            overdue;                /* its client was told that time is up */
    bool            lost;                   /* its reply did not find memory */
    struct queue    reply;                  /* where replies are merged */
    struct fault    fault;
};

enum lane_kind { LANE_SHARED, LANE_RESP3, LANE_PROBE };

/* What a connection begins with, in this order. */
enum { GREET_AUTH = 1, GREET_HELLO = 2, GREET_SELECT = 4, GREET_LIFE = 8 };

struct lane {
    struct server *server;
    struct conn   *conn;                    /* NULL: not connected */
    struct part   *first, *last;            /* owed replies, oldest first (2) */
    struct queue   later;                   /* questions, until the server has greeted us */
    uint64_t       said;                    /* bytes of questions, since it was opened */
    uint8_t        greetings;               /* those whose replies are still to come, GREET_ */
    enum lane_kind kind;
    const struct role *role;                /* of its connections */
    uint32_t       number;                  /* of its connection, as server.opened counts them */
    uint32_t       turn;                    /* server.turn when it was made */
    uint64_t       since;                   /* when it was first to have a connection, 0: it has one that was greeted */
    struct link    due;                     /* in pool.connecting, by due_at */
    uint64_t       due_at;                  /* when a connection must be there, and greeted */
    bool           waits;                   /* for the server's address, or for its turn to connect */
    bool           moving;                  /* its address is not the server's any more: nothing is written */
    bool           scanning;                /* `scan` is inside a reply */
    bool           aside;                   /* ... or inside what is none: see RESP_ASIDE */
    struct reply   scan;
};

struct lane_conn { struct conn conn; struct lane *lane; };

enum { LETTER_STOP, LETTER_COUNT, LETTER_NAME, LETTER_SETUP, LETTER_NEWS, LETTER_GUEST };

/* A server's name on its way to the resolver and back. */
struct name_letter {
    struct letter  letter;
    struct server *server;
    struct lookup  lookup;                  /* its host is its own: the configuration may be gone by then */
};

/* That a server is down, or up again, on its way from one worker to the next and
 * back. */
struct news_letter {
    struct letter             letter;
    struct setup             *setup;
    const struct server_conf *conf;         /* there */
    struct server            *server;       /* who sent it */
    int                       why;
    uint64_t                  at;           /* when it went down, by the clock that all threads have */
    bool                      down, away;
    bool                      counted;      /* another has found it out as well, and counts and logs it */
    bool                      stale;        /* it has changed since: sent again when it is back */
};

/* A listening socket; of a path, which file that is. */
struct door { int fd; dev_t device; ino_t node; };

/* How many clients a pool has in all workers.  When the configuration changes the
 * pool that takes its clients over takes this over, too. */
struct crowd {
    atomic_uint clients;
    uint32_t    setups;                     /* how many setups have it; the control thread's */
};

/* A configuration, and what goes with it, as long as pools run by it. */
struct setup {
    struct conf   conf;
    struct door  *door;                     /* of the first worker, of the second ... */
    struct crowd **crowd;                   /* of each pool */
    int           fd_most;                  /* descriptors from here on are for servers, not clients */
    atomic_uint   users;                    /* pools of all workers; the house, too, of its first and newest */
    struct setup *next;                     /* the one before it that is not freed yet */
};

struct server {
    struct pool              *pool;
    const struct server_conf *conf;
    struct server_stats       stats;
    struct lane              *lane;         /* pool_lanes of them: first those of RESP2, or of memcached */
    struct lane               probe;
    struct address            address;      /* the one to try, or that is in use */
    struct places             places;       /* all that its name stands for, as last told */
    uint32_t                  place;        /* which of them `address` is ... */
    uint32_t                  turn;         /* ... how often it has become another ... */
    uint32_t                  tried;        /* ... and how many of them could not be reached in a row */
    bool                      known;        /* `address` is one to try */
    bool                      asked;        /* `name` is on its way */
    bool                      is_name;      /* `host` must be resolved */
    bool                      kept;         /* ... and is not any more */
    struct name_letter        name;
    bool                      ailing;       /* something has failed since its last good reply */
    uint32_t                  failures;     /* in a row */
    uint64_t                  failed_at;    /* when the last one was counted */
    uint32_t                  opened;       /* connections ever made, or tried ... */
    uint32_t                  failed_after; /* ... and how many of them had been when the last loss was counted */
    uint32_t                  retries;      /* connects that failed in a row, at most RETRIES */
    uint64_t                  retry_at;     /* none is tried before */
    bool                      sick;         /* requests have waited for a connection in vain */
    struct link               in_retry;     /* in pool.retry: lanes of it wait ... */
    uint64_t                  wake_at;      /* ... until then */
    uint32_t                  queued;       /* parts on its lanes */
    uint64_t                  full_at;      /* when it was last logged that they are too many */
    uint64_t                  late_at;      /* when a timeout was last counted among them */
    int                       why;          /* the last one */
    uint64_t                  told_at;      /* when a lost connection was last logged ... */
    int                       told_why;     /* ... and why it was lost */
    bool                      down;
    struct link               in_down;      /* in pool.down */
    uint64_t                  probe_at;     /* down: when to probe, or to give the probe up ... */
    uint64_t                  probed_at;    /* ... and when the last one began */
    uint64_t                  patience;     /* down: ms from one probe to the next */
    uint64_t                  down_at;      /* down: since when */
    uint64_t                  up_at;        /* when it came back last, 0: never */
    uint32_t                  good;         /* down: probes in a row that it answered well */
    uint32_t                  downs, ups;   /* how often it went down, and came back: all workers know */
    uint32_t                  flaps;        /* how often it went down soon after it came back, at most FLAPS */
    struct news_letter        news;
};

/* A client on its way to a worker with fewer of them, and the letter back. */
struct guest_letter {
    struct letter             letter;
    struct pool              *home;         /* whose door it came in by */
    struct setup             *setup;        /* of that, when it was sent ... */
    const struct pool_fields *conf;         /* ... and its place there */
    struct worker            *host;
    int                       fd;           /* -1: it was let in */
};

/* Which part a server's keys go to, while a request is dealt out, and its last one. */
struct deal { uint32_t part, key; };

struct worker;

/* A pool of one worker.  When the configuration changes it may be retired: then
 * it answers what it was asked, its clients go on with its heir, and it is freed. */
struct pool {
    struct setup             *setup;
    struct crowd             *crowd;
    const struct pool_fields *conf;
    const char               *name;
    struct link               in_worker;    /* in worker.all */
    struct pool              *heir;         /* retired: who takes its clients, NULL: nobody */
    uint32_t                  open;         /* requests that are not freed */
    uint32_t                  guests;       /* clients on their way to other workers */
    bool                      retired, shut;
    uint64_t                  retired_at;
    struct worker            *worker;
    struct loop              *loop;
    struct pool_stats         stats;
    struct server            *server;       /* in the order of names */
    uint32_t                  servers;
    struct member            *member;       /* the same, as RING wants it */
    struct deal              *deal;
    struct ring               ring;
    bool                      ring_is_old;  /* members have gone or come since it was built ... */
    uint64_t                  ring_at;      /* ... and it is not built anew before */
    struct link               due;          /* parts by deadline: they all have the same patience */
    struct link               down;         /* servers that are down, the first to go down first */
    struct link               connecting;   /* lanes by deadline: they all have the same patience, too */
    struct link               retry;        /* servers that lanes wait for */
    uint64_t                  resolve_at;   /* when names are looked up anew, 0: never */
    uint64_t                  idle_at;      /* when to look for clients that are idle */
    uint32_t                  queue_most;   /* parts that may wait for one server */
    uint32_t                  queue_mark;   /* from so many parts on clients have one request open at most */
    uint32_t                  crowded;      /* servers whose queues are that long */
    struct watch              door;         /* the listening socket */
    uint64_t                  door_at;      /* the door is shut until then, 0: it is open */
    uint64_t                  door_told;    /* when that was last logged */
    struct link               clients;      /* those who are connected */
    struct link               doomed;       /* those of them who are closed soon, oldest first */
    uint32_t                  numbered;     /* how many were let in so far */
    const struct lexicon     *lexicon;      /* its commands */
    char                      version[16];  /* of its servers, "" until one has told ... */
    bool                      stale;        /* ... and it may be another by now */
    bool                      resp2;        /* one of them has refused to speak RESP3 */
    uint64_t                  missed_at;    /* when a server was last seen to miss a script */
    uint64_t                  script[64];   /* checks of those that all servers were given, then 0 */
};

struct worker {
    struct loop     loop;
    struct lexicon  lexicon;
    struct frame    frame;                  /* for whatever request is looked at */
    struct setup   *setup;
    struct pool   **pool;                   /* in the order of the configuration */
    uint32_t        pools;
    struct link     all;                    /* these, and the retired ones */
    uint32_t        number;                 /* of this worker, from 0 */
    uint64_t        accepted;               /* conns ever made, for the stats */
    uint64_t        random;
    uint64_t        started;                /* when, by its clock */
    bool            stopping;
    struct mailbox  box;
    struct mailbox *resolver, *control;
    struct worker  *crew;                   /* all workers */
    uint32_t        crew_size;
    atomic_uint     clients;                /* those it has, and those on their way to it */
    atomic_uint    *everybody;              /* clients of all workers and pools */
    int             spare;                  /* a descriptor to give up when there is no other; -1: it was */
    struct letter   stop;
    struct setup_letter {
        struct letter letter;
        struct setup *setup;
        enum change { PREPARE, COMMIT, DROP } step;
        bool          ready;
    } change;
    struct pool   **prepared;               /* between PREPARE and COMMIT or DROP */
    struct snapshot *snapshot;
    pthread_t       thread;
};

/* xorshift64*: for `random` pools and jitter; nothing secret hangs on it. */
static uint32_t worker_random(struct worker *w)
{
    uint64_t x = w->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    w->random = x;
    return (uint32_t)(x * 0x2545f4914f6cdd1du >> 32);
}

/* ---- from keys to servers */

#define RING_POINTS_A_MS 1000               /* a fifth of the time, at most, is for building rings */

/* Build the ring of those who are in, unless that was done a moment ago, and is much work: then requests
 * for a server that is down fail a little longer.  Without memory the old ring stays until the
 * next change. */
static void pool_build(struct pool *pool)
{
    uint64_t now = pool->loop->now;
    if (now < pool->ring_at)
        return;
    pool->ring_is_old = false;
    if (!nut_ring_build(&pool->loop->mem, &pool->ring, (enum spread)pool->conf->distribution,
                        pool->member, pool->servers))
        log_of(EVENT_no_memory, pool->name, NULL, "no memory to change the ring");
    pool->ring_at = now + pool->ring.points / RING_POINTS_A_MS;
}

/* The number of the server for a key; NUT_NOBODY when all are out. */
static uint32_t pool_pick(struct pool *pool, struct bytes key)
{
    if (pool->servers == 1)
        return 0;
    if (pool->ring_is_old)
        pool_build(pool);
    uint32_t lot = pool->ring.spread == RANDOM ? worker_random(pool->worker) : 0;
    return nut_ring_pick(&pool->ring, key_hash(pool->conf, key), lot);
}

/* Those who are in have changed: of servers that are down the first ones are out, as many
 * as eject_limit lets go.  The ring is built when the next key asks for it: where many go
 * down together, not for each of them. */
static void pool_ring(struct pool *pool)
{
    uint32_t most = pool->servers * (uint32_t)pool->conf->eject_limit / 100, n = 0;
    for (uint32_t i = 0; i < pool->servers; i++)
        pool->member[i].out = false;
    for (const struct link *at = pool->down.next; at != &pool->down && n < most; at = at->next, n++)
        if (pool->conf->auto_eject_hosts)
            pool->member[container_of(at, struct server, in_down) - pool->server].out = true;
    pool->ring_is_old = true;
}

/* ---- lanes */

static bool lane_is_open(const struct lane *lane) { return lane->conn != NULL || lane->waits; }

/* Whether questions are held back: until the server has greeted us, or when we leave it for another. */
static bool lane_holds(const struct lane *lane)
{
    return lane->conn == NULL || lane->greetings > 0 || lane->moving;
}

/* Where questions go. */
static struct queue *lane_queue(struct lane *lane) { return lane_holds(lane) ? &lane->later : &lane->conn->out; }

/* How many bytes of questions the kernel has taken, or were given up before it could. */
static uint64_t lane_wrote(const struct lane *lane)
{
    uint64_t asked = lane->said - lane->later.len;
    if (lane->conn == NULL || lane->greetings > 0)
        return asked;
    return asked - least_of(lane->conn->out.len, asked);    /* even our greeting may not be written yet */
}

/* What a new connection begins with; a probe ends with asking for a sign of life.
 * False: no memory. */
static bool lane_greet(struct lane *lane)
{
    const struct pool_fields *conf = lane->server->pool->conf;
    const struct lexicon *l = lane->server->pool->lexicon;
    struct mem *m = &lane->server->pool->loop->mem;
    struct queue *q = &lane->conn->out;
    bool redis = conf->protocol == REDIS, ok = true;
    char db[21] = {0};
    lane->greetings = 0;
    if (redis && conf->redis_auth != NULL) {
        ok = resp_put_command(m, q, l, 2, lit("AUTH")) && resp_put_word(m, q, bytes_of(conf->redis_auth));
        lane->greetings |= GREET_AUTH;
    }
    if (lane->kind == LANE_RESP3) {
        ok = ok && resp_put_command(m, q, l, 2, lit("HELLO")) && resp_put_word(m, q, lit("3"));
        lane->greetings |= GREET_HELLO;
    }
    if (redis && conf->redis_db > 0) {
        number_write(db, (uint64_t)conf->redis_db);
        ok = ok && resp_put_command(m, q, l, 2, lit("SELECT")) && resp_put_word(m, q, bytes_of(db));
        lane->greetings |= GREET_SELECT;
    }
    if (lane->kind == LANE_PROBE) {
        ok = ok && (redis ? resp_put_command(m, q, l, 1, lit("PING")) : nut_queue_put(m, q, lit("version\r\n")));
        lane->greetings |= GREET_LIFE;
    }
    return ok;
}

/* The greeting that is answered next. */
static int lane_greeting(const struct lane *lane) { return lane->greetings & -lane->greetings; }

/* Why a server that does not like it is lost. */
static int greeting_why(int greeting)
{
    return greeting == GREET_AUTH ? WHY_AUTH : greeting == GREET_HELLO ? WHY_HELLO
         : greeting == GREET_SELECT ? WHY_SELECT : EINVAL;
}

/* Servers may have other scripts than they had. */
static void pool_forget_scripts(struct pool *pool) { memset(pool->script, 0, sizeof pool->script); }

/* How long a connection may take, until its server has greeted us; 0: for ever. */
static uint64_t pool_connect_patience(const struct pool *pool)
{
    return (uint64_t)(pool->conf->connect_timeout > 0 ? pool->conf->connect_timeout : pool->conf->timeout);
}

/* Its server has greeted us: it need not hurry any more. */
static void lane_met(struct lane *lane)
{
    if (list_linked(&lane->due))
        list_cut(&lane->due);
    lane->since = 0;
}

static bool lane_is_met(const struct lane *lane)
{
    return lane->conn != NULL && !lane->conn->connecting && lane->greetings == 0;
}

/* How many lanes each server of a pool has: those of RESP3 are opened when a client
 * speaks it. */
static uint32_t conf_lanes(const struct pool_fields *conf)
{
    return (uint32_t)conf->server_connections * (conf->protocol == REDIS ? 2 : 1);
}

static uint32_t pool_lanes(const struct pool *pool) { return conf_lanes(pool->conf); }

/* Close a lane's connection, if it has one. */
static void lane_close(struct lane *lane)
{
    if (lane->conn != NULL)
        conn_close(lane->conn);
    if (list_linked(&lane->due))
        list_cut(&lane->due);
    lane->conn = NULL;
    lane->waits = lane->scanning = lane->aside = lane->moving = false;
    lane->greetings = 0;
}

/* Connect a lane whose server's address is known: 0, or why not. */
static int lane_connect(struct lane *lane, const struct role *role)
{
    struct server *s = lane->server;
    struct loop *l = s->pool->loop;
    uint64_t patience = pool_connect_patience(s->pool);
    bool done;
    lane->number = ++s->opened;
    lane->turn = s->turn;
    int fd = socket_connect(&s->address, s->pool->conf, &done);
    if (fd == -1)
        return errno;
    struct lane_conn *lc = mem_zero(&l->mem, sizeof *lc);
    if (lc == NULL) {
        close(fd);
        return ENOMEM;
    }
    lc->lane = lane;
    if (!conn_open(&lc->conn, sizeof *lc, l, fd, role)) {       /* owns fd now */
        mem_give(&l->mem, lc, sizeof *lc);
        return ENOMEM;
    }
    lc->conn.connecting = !done;
    lane->conn = &lc->conn;
    lane->waits = lane->scanning = lane->aside = false;
    if (patience > 0 && lane->kind != LANE_PROBE) {
        lane->due_at = l->now + patience;
        list_push(&s->pool->connecting, &lane->due);
    }
    s->pool->worker->accepted += lane->kind != LANE_PROBE;      /* twemproxy has none to count */
    s->pool->resp2 = s->pool->resp2 && lane->kind != LANE_SHARED;
    if (lane->kind != LANE_PROBE) {         /* another program may run there by now */
        s->pool->stale = true;
        pool_forget_scripts(s->pool);
    }
    if (!lane_greet(lane)) {
        lane_close(lane);
        return ENOMEM;
    }
    if (lane->greetings == 0)
        queue_join(&lane->conn->out, &lane->later);
    conn_touch(lane->conn);
    return 0;
}

/* A server is asked for one part more, or less.  Its pool knows how many have long queues. */
QUICK void server_queued(struct server *s) { s->pool->crowded += ++s->queued == s->pool->queue_mark; }
QUICK void server_dequeued(struct server *s) { s->pool->crowded -= s->queued-- == s->pool->queue_mark; }

/* The bytes of a question from `from` on were put into lane_queue: it is asked. */
static void lane_push(struct lane *lane, struct part *p, uint32_t len)
{
    struct server *s = lane->server;
    struct pool *pool = s->pool;
    p->lane = lane;
    p->server = s;
    p->next = NULL;
    p->at = lane->said;
    p->len = len;
    lane->said += len;
    if (lane->last == NULL)
        lane->first = p;
    else
        lane->last->next = p;
    lane->last = p;
    server_queued(s);
    if (pool->conf->timeout > 0) {
        p->due_at = pool->loop->now + (uint64_t)pool->conf->timeout;
        list_push(&pool->due, &p->due);
    }
    s->stats.requests++;
    s->stats.request_bytes += len;
    if (lane->conn != NULL)
        conn_touch(lane->conn);
}

/* The head of a lane has its reply, or will get none: it leaves the lane. */
static struct part *lane_cut(struct lane *lane)
{
    struct part *p = lane->first;
    lane->first = p->next;
    if (lane->first == NULL)
        lane->last = NULL;
    p->next = NULL;
    p->lane = NULL;
    server_dequeued(lane->server);
    if (list_linked(&p->due))
        list_cut(&p->due);
    return p;
}

/* Close a lane's connection; its parts stay in the FIFO.  *unsent is what the
 * kernel has not taken, beginning in the middle of a part perhaps. */
static void lane_disconnect(struct lane *lane, struct queue *unsent)
{
    *unsent = (struct queue){0};
    if (lane->conn != NULL && lane->greetings == 0)
        queue_join(unsent, &lane->conn->out);
    queue_join(unsent, &lane->later);
    lane_close(lane);
    lane->said = 0;
}

/* ---- up and down */

/* Look a server's name up, unless that is under way. */
static void server_resolve(struct server *s)
{
    if (!s->is_name || s->asked)
        return;
    s->asked = true;
    s->name.letter.kind = LETTER_NAME;
    s->name.letter.back = &s->pool->worker->box;
    mailbox_post(s->pool->worker->resolver, &s->name.letter);
}

/* Look after those who wait for a server, at a time. */
static void server_wait(struct server *s, uint64_t at)
{
    s->wake_at = at;
    if (!list_linked(&s->in_retry))
        list_push(&s->pool->retry, &s->in_retry);
}

static void server_count_loss(struct server *s, int why)
{
    if (why == WHY_CLOSED)
        s->stats.server_eof++;
    else if (why == ETIMEDOUT)
        s->stats.server_timedout++;
    else
        s->stats.server_err++;
}

/* Say that a connection was lost, once for all that are lost in the same turn. */
static void server_tell_loss(struct server *s, int why, bool idle)
{
    uint64_t now = s->pool->loop->now;
    if (s->pool->worker->stopping || (s->told_at == now && s->told_why == why))
        return;
    s->told_at = now;
    s->told_why = why;
    log_of(idle ? EVENT_server_closed : EVENT_server_lost, s->pool->name, s->conf, "lost: %s%s",
           trouble_for(why)->reason, why == EINVAL ? " (its reply is none to what was asked)" : "");
}

/* At most `ms`, and an eighth less perhaps: so that not all come at the same moment. */
static uint64_t server_jitter(struct server *s, uint64_t ms)
{
    return ms - worker_random(s->pool->worker) % (ms / 8 + 1);
}

#define PROBE_SOONER 16

/* Whether a server is out of the ring. */
static bool server_is_out(const struct server *s) { return s->pool->member[s - s->pool->server].out; }

/* Count and log that a server went down, or is up. */
static void server_count_news(struct server *s, bool down, int why)
{
    bool out = server_is_out(s);
    uint64_t after = s->pool->loop->now - s->down_at;
    if (!down) {
        log_of(EVENT_server_up, s->pool->name, s->conf, "is up, after %llu.%llu s",
               (unsigned long long)after / 1000, (unsigned long long)after / 100 % 10);
        return;
    }
    log_of(out ? EVENT_server_ejected : EVENT_server_down, s->pool->name, s->conf, "is down%s: %s",
           out ? " and ejected" : "", trouble_for(why)->reason);
    s->pool->stats.server_ejects += out;
}

/* Send the news of a server around all workers.  Each counts failures, and probes,
 * for itself; but who finds out first tells the others.  When the news are back they
 * are counted and logged. */
static void server_tell_news(struct server *s)
{
    struct worker *w = s->pool->worker;
    if (w->crew_size == 1 || w->stopping || s->pool->retired) {
        server_count_news(s, s->down, s->why);
        return;
    }
    s->news.stale = s->news.away;
    if (s->news.away)
        return;
    s->news.away = true;
    s->news.letter.kind = LETTER_NEWS;
    s->news.server = s;
    s->news.setup = s->pool->setup;
    atomic_fetch_add(&s->news.setup->users, 1);
    s->news.conf = s->conf;
    s->news.down = s->down;
    s->news.at = s->down_at;
    s->news.why = s->why;
    s->news.counted = false;
    mailbox_post(&w->crew[(w->number + 1) % w->crew_size].box, &s->news.letter);
}

#define FLAP_MS 60000                       /* who goes down so soon after it came back ... */
#define FLAPS   4                           /* ... needs twice as many good answers, and so on, so often */

/* Put a server among those that are down, where it belongs by the time that it went: which of them are
 * out depends on that, so all workers must have the same order. */
static void server_put_down(struct server *s)
{
    struct link *before = s->pool->down.prev;
    for (; before != &s->pool->down; before = before->prev) {
        const struct server *other = container_of(before, struct server, in_down);
        if (other->down_at < s->down_at || (other->down_at == s->down_at && other < s))
            break;
    }
    list_push(before->next, &s->in_down);   /* in front of what is behind that one */
}

/* The server is down, as was found out here, or as another worker has `told`. */
static void server_mark_down(struct server *s, bool told)
{
    struct pool *pool = s->pool;
    uint64_t now = pool->loop->now, interval = (uint64_t)pool->conf->probe_interval;
    s->flaps = s->up_at != 0 && now - s->up_at < FLAP_MS ? (uint32_t)least_of(s->flaps + 1, FLAPS) : 0;
    s->down = true;
    s->downs++;
    s->down_at = now;
    s->failures = s->good = 0;
    server_put_down(s);
    if (pool->conf->auto_eject_hosts)
        pool_ring(pool);
    /* Who is not ejected is missed by its clients: it is tried soon, then less often. */
    bool out = server_is_out(s);
    s->patience = interval / (out ? 1 : PROBE_SOONER);
    s->probe_at = now + server_jitter(s, out ? (uint64_t)pool->conf->server_retry_timeout : s->patience);
    server_wait(s, now);                    /* those who wait for it are told */
    if (out)
        s->stats.server_ejected_at = clock_wall_us();
    if (!told)
        server_tell_news(s);
}

/* It has answered, or others say so. */
static void server_is_well(struct server *s)
{
    s->failures = s->failed_after = s->retries = s->tried = 0;
    s->retry_at = 0;
    s->sick = s->ailing = false;
}

static void server_mark_up(struct server *s, bool told)
{
    s->down = false;
    s->ups++;
    s->up_at = s->pool->loop->now;
    server_is_well(s);
    list_cut(&s->in_down);
    if (s->pool->conf->auto_eject_hosts)
        pool_ring(s->pool);
    if (!told)
        server_tell_news(s);
}

/* Count trouble with requests.  True: this made the server go down. */
static bool server_failed(struct server *s, int why)
{
    s->why = why;
    s->ailing = true;
    if (s->pool->retired)
        return false;                       /* its successor finds out, and probes */
    server_resolve(s);                      /* its name may stand for another address by now */
    s->failed_at = s->pool->loop->now;
    if (s->down || (int64_t)++s->failures < s->pool->conf->server_failure_limit)
        return false;
    server_mark_down(s, false);
    return true;
}

#define SAME_TROUBLE_MS 25                  /* what fails so soon after something else failed of the same */
#define RETRY_MS        50                  /* when to connect again after that failed once, then twice as long ... */
#define RETRY_MOST_MS   250                 /* ... and so long at most */
#define RETRIES         6
#define HOLD_MS         1000                /* a request waits no longer while connecting fails */

/* Whether another address is tried by now than the one that a lane was connected to. */
static bool lane_is_passed(const struct lane *lane)
{
    return lane->server->places.n > 1 && lane->turn != lane->server->turn;
}

/* The address that a lane was connected to could not be reached: the next one is tried, if it is not
 * already.  False: that was the last. */
static bool server_next_place(struct lane *lane)
{
    struct server *s = lane->server;
    if (s->places.n < 2)
        return false;
    if (lane_is_passed(lane))
        return true;
    s->turn++;
    s->place = (s->place + 1) % s->places.n;
    address_of(&s->address, &s->places.at[s->place], s->conf->port);
    s->tried = s->tried + 1 < s->places.n ? s->tried + 1 : 0;
    return s->tried > 0;
}

/* A lane's server could not be connected to.  When none of its addresses is left it has failed,
 * and is given some time. */
static void server_unreached(struct lane *lane, int why)
{
    struct server *s = lane->server;
    uint64_t now = s->pool->loop->now;
    s->ailing = true;
    if (server_next_place(lane))
        return;
    if (now < s->retry_at)
        return;                             /* it was another lane's turn to try */
    s->retry_at = now + server_jitter(s, least_of((size_t)RETRY_MS << s->retries, RETRY_MOST_MS));
    s->retries = (uint32_t)least_of(s->retries + 1, RETRIES);
    if (s->failed_at == 0 || now >= s->failed_at + SAME_TROUBLE_MS)
        server_failed(s, why);
    s->why = why;
}

/* Whether it is we who are short of something. */
static bool why_is_ours(int why)
{
    return why == EMFILE || why == ENFILE || why == ENOMEM || why == ENOBUFS || why == WHY_MEMORY;
}

/* How long a request may wait while connecting fails, and is tried again. */
static uint64_t pool_hold(const struct pool *pool)
{
    return pool->conf->connect_timeout > 0 ? least_of((uint64_t)pool->conf->connect_timeout, HOLD_MS) : HOLD_MS;
}

/* Open a lane: at once, or when the server's address is known, or when it is time to
 * try again.  0, or why not. */
static int lane_open(struct lane *lane, const struct role *role)
{
    struct server *s = lane->server;
    uint64_t now = s->pool->loop->now;
    int why = s->why;
    lane->role = role;
    lane->waits = false;
    if (lane->since == 0)
        lane->since = now;
    while (s->known && (now >= s->retry_at || lane->kind == LANE_PROBE)) {
        why = lane_connect(lane, role);
        if (why == 0 || why_is_ours(why))
            return why;
        if (lane->kind == LANE_PROBE) {
            server_next_place(lane);
            return why;
        }
        server_count_loss(s, why);
        server_tell_loss(s, why, false);
        server_unreached(lane, why);
    }
    if (s->known && (s->down || s->sick || s->retry_at > lane->since + pool_hold(s->pool))) {
        s->sick = true;
        lane->since = 0;
        return why;
    }
    lane->waits = true;
    if (s->known)
        server_wait(s, s->retry_at);
    else
        server_resolve(s);
    return 0;
}

/* Say that a server's queue is full, once in a second. */
static void server_tell_full(struct server *s)
{
    if (s->full_at != 0 && s->pool->loop->now < s->full_at + 1000)
        return;
    s->full_at = s->pool->loop->now;
    log_of(EVENT_server_full, s->pool->name, s->conf, "has max_queued requests waiting: more are refused");
}

/* The lane for a client, open; NULL and *why when the server cannot be asked. */
static struct lane *server_lane(struct server *s, uint32_t client, bool resp3, const struct role *role, int *why)
{
    uint32_t n = (uint32_t)s->pool->conf->server_connections;
    struct lane *lane = &s->lane[client % n + (resp3 ? n : 0)];
    *why = s->why;
    if (s->down)
        return NULL;
    if (s->queued >= s->pool->queue_most) {
        server_tell_full(s);
        *why = WHY_FULL;
        return NULL;
    }
    if (lane_is_open(lane))
        return lane;
    if (s->sick && s->pool->loop->now < s->retry_at)
        return NULL;
    *why = lane_open(lane, role);
    if (*why == 0)
        return lane;
    if (why_is_ours(*why)) {
        server_count_loss(s, *why);
        server_tell_loss(s, *why, false);
    }
    return NULL;
}

/* ---- probes */

static void probe_close(struct server *s)
{
    struct queue unsent;
    lane_disconnect(&s->probe, &unsent);
    nut_queue_free(&s->pool->loop->mem, &unsent);
}

/* A probe has ended, and is not enough: there will be another, `patience` after this one began.  One
 * that failed makes the time between them longer, up to probe_interval. */
static void probe_again(struct server *s, bool good)
{
    probe_close(s);
    s->good = good ? s->good + 1 : 0;
    if (!good)
        s->patience = least_of(2 * s->patience + 1, (uint64_t)s->pool->conf->probe_interval);
    s->probe_at = most_of(s->pool->loop->now, s->probed_at + server_jitter(s, s->patience));
}

#define PROBE_CONNECT_MS 1000               /* a probe may take so long to connect ... */
#define PROBE_ANSWER_MS  5000               /* ... and so long in all: who stood still is back with its answer */

static void probe_start(struct server *s, const struct role *role)
{
    s->probed_at = s->pool->loop->now;
    s->probe_at = s->probed_at + PROBE_CONNECT_MS;
    server_resolve(s);
    if (lane_open(&s->probe, role) != 0)
        probe_again(s, false);
}

/* Probe what is due, and give up what takes too long. */
static void pool_probe(struct pool *pool, const struct role *role)
{
    for (struct link *at = pool->down.next, *next; at != &pool->down; at = next) {
        struct server *s = container_of(at, struct server, in_down);
        next = at->next;
        if (s->probe_at > pool->loop->now)
            continue;
        bool met = s->probe.conn != NULL && !s->probe.conn->connecting;
        if (met && s->probed_at + PROBE_ANSWER_MS > pool->loop->now)
            s->probe_at = s->probed_at + PROBE_ANSWER_MS;
        else if (lane_is_open(&s->probe))
            probe_again(s, false);
        else
            probe_start(s, role);
    }
}

/* When this pool has something to do by itself; UINT64_MAX: never. */
static uint64_t pool_due(const struct pool *pool)
{
    uint64_t due = UINT64_MAX;
    if (!list_empty(&pool->due))
        due = container_of(pool->due.next, struct part, due)->due_at;
    for (const struct link *at = pool->down.next; at != &pool->down; at = at->next) {
        const struct server *s = container_of(at, struct server, in_down);
        due = due < s->probe_at ? due : s->probe_at;
    }
    for (const struct link *at = pool->retry.next; at != &pool->retry; at = at->next) {
        const struct server *s = container_of(at, struct server, in_retry);
        due = due < s->wake_at ? due : s->wake_at;
    }
    if (!list_empty(&pool->connecting))
        due = least_of(due, container_of(pool->connecting.next, struct lane, due)->due_at);
    if (pool->resolve_at != 0 && pool->resolve_at < due)
        due = pool->resolve_at;
    if (pool->door_at != 0 && pool->door_at < due)
        due = pool->door_at;
    return due;
}

/* ---- making and ending */

static bool server_open(struct server *s, struct pool *pool, const struct server_conf *conf)
{
    uint32_t lanes = pool_lanes(pool);
    *s = (struct server){.pool = pool, .conf = conf};
    s->is_name = !address_read(&s->address, conf->host, conf->port);
    s->known = !s->is_name;
    s->name.server = s;
    if (s->is_name)
        memcpy(s->name.lookup.host, conf->host, strlen(conf->host) + 1);    /* conf_server saw to its length */
    s->probe = (struct lane){.server = s, .kind = LANE_PROBE};
    s->lane = mem_zero(&pool->loop->mem, lanes * sizeof *s->lane);
    for (uint32_t i = 0; s->lane != NULL && i < lanes; i++) {
        s->lane[i].server = s;
        s->lane[i].kind = i < (uint32_t)pool->conf->server_connections ? LANE_SHARED : LANE_RESP3;
    }
    return s->lane != NULL;
}

/* Give back a pool whose conns are all buried, opened as far as it may be. */
static void pool_free(struct pool *pool)
{
    struct mem *m = &pool->loop->mem;
    uint32_t n = pool->conf->servers.n, lanes = pool_lanes(pool);
    for (uint32_t i = 0; i < pool->servers; i++) {
        must(pool->server[i].probe.conn == NULL && !pool->server[i].asked && pool->server[i].queued == 0);
        for (uint32_t k = 0; pool->server[i].lane != NULL && k < lanes; k++)
            must(pool->server[i].lane[k].conn == NULL);
        mem_give(m, pool->server[i].lane, lanes * sizeof *pool->server[i].lane);
    }
    mem_give(m, pool->server, n * sizeof *pool->server);
    mem_give(m, pool->member, n * sizeof *pool->member);
    mem_give(m, pool->deal, n * sizeof *pool->deal);
    nut_ring_free(m, &pool->ring);
    if (list_linked(&pool->in_worker))
        list_cut(&pool->in_worker);
    atomic_fetch_sub(&pool->setup->users, 1);
    mem_give(m, pool, sizeof *pool);
}

/* Point a pool to the place of its configuration. */
static void pool_point(struct pool *pool, struct setup *setup, const struct pool_conf *conf)
{
    pool->setup = setup;
    pool->crowd = setup->crowd[conf - setup->conf.pool];
    pool->conf = &conf->key;
    pool->name = conf->name;
    pool->lexicon = conf->lexicon != NULL ? conf->lexicon : &pool->worker->lexicon;
    pool->queue_most = conf->key.max_queued > 0 ? (uint32_t)conf->key.max_queued : UINT32_MAX;
    pool->queue_mark = pool->queue_most / 2 + 1;
    for (uint32_t i = 0; i < pool->servers; i++) {
        pool->server[i].conf = &conf->key.servers.at[i];
        pool->member[i].name = bytes_of(conf->key.servers.at[i].name);
    }
}

/* Set up the servers of a pool; false: no memory. */
static bool pool_open(struct pool *pool)
{
    struct mem *m = &pool->loop->mem;
    uint32_t n = pool->conf->servers.n;
    pool->server = mem_take(m, n * sizeof *pool->server);
    pool->member = mem_zero(m, n * sizeof *pool->member);
    pool->deal = mem_take(m, n * sizeof *pool->deal);
    if (pool->server == NULL || pool->member == NULL || pool->deal == NULL)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        const struct server_conf *s = &pool->conf->servers.at[i];
        pool->member[i] = (struct member){.name = bytes_of(s->name), .weight = s->weight};
        pool->deal[i].part = NUT_NOBODY;
        if (!server_open(&pool->server[i], pool, s))
            return false;
        pool->servers++;
    }
    return nut_ring_build(m, &pool->ring, (enum spread)pool->conf->distribution, pool->member, n);
}

/* A pool for a worker, on none of its lists; NULL: no memory. */
static struct pool *pool_new(struct worker *w, struct setup *setup, const struct pool_conf *conf)
{
    struct pool *pool = mem_zero(&w->loop.mem, sizeof *pool);
    if (pool == NULL)
        return NULL;
    *pool = (struct pool){.worker = w, .loop = &w->loop};
    list_init(&pool->due);
    list_init(&pool->down);
    list_init(&pool->connecting);
    list_init(&pool->retry);
    list_init(&pool->clients);
    list_init(&pool->doomed);
    pool_point(pool, setup, conf);
    atomic_fetch_add(&setup->users, 1);
    pool->resolve_at = w->loop.now;
    if (pool_open(pool))
        return pool;
    pool_free(pool);
    return NULL;
}

/* Whether the resolver holds a letter of this pool's. */
static bool pool_is_asking(const struct pool *pool)
{
    for (uint32_t i = 0; i < pool->servers; i++)
        if (pool->server[i].asked)
            return true;
    return false;
}

/* Whether other workers do. */
static bool pool_is_telling(const struct pool *pool)
{
    for (uint32_t i = 0; i < pool->servers; i++)
        if (pool->server[i].news.away)
            return true;
    return false;
}

/* The server of this worker that the news are about; NULL: it has none, as when the
 * configuration has just changed.  It finds out by itself then. */
static struct server *worker_server(const struct worker *w, const struct news_letter *news)
{
    for (uint32_t i = 0; w->setup == news->setup && i < w->pools; i++)
        for (uint32_t n = 0; n < w->pool[i]->servers; n++)
            if (w->pool[i]->server[n].conf == news->conf)
                return &w->pool[i]->server[n];
    return NULL;
}

/* Another worker says that a server is down: if we know that, it may have known it before us. */
static void server_hear_down(struct server *s, const struct news_letter *news)
{
    if (!s->down) {
        s->why = news->why;
        server_mark_down(s, true);
    }
    if (news->at >= s->down_at)
        return;
    s->down_at = news->at;
    list_cut(&s->in_down);
    server_put_down(s);
    pool_ring(s->pool);
}

/* News have come: pass them on, or they are our own and have been around. */
static void worker_news(struct worker *w, struct news_letter *news)
{
    if (news->server->pool->worker == w) {
        news->away = false;
        atomic_fetch_sub(&news->setup->users, 1);
        if (!news->counted)
            server_count_news(news->server, news->down, news->why);
        if (news->stale)
            server_tell_news(news->server);
        return;
    }
    struct server *s = worker_server(w, news);
    bool too = s != NULL && s->news.away && s->news.down == news->down;     /* we have sent the same */
    if (too && w->number < news->server->pool->worker->number)
        news->counted = true;
    if (s != NULL && news->down) {
        server_hear_down(s, news);
    } else if (s != NULL && s->down) {
        probe_close(s);
        server_mark_up(s, true);
    }
    mailbox_post(&w->crew[(w->number + 1) % w->crew_size].box, &news->letter);
}

/* Close the connections to a pool's servers that owe nobody a reply. */
static void pool_hang_up(struct pool *pool)
{
    struct queue unsent;
    for (uint32_t i = 0; i < pool->servers; i++)
        for (uint32_t n = 0; n < pool_lanes(pool); n++) {
            struct lane *lane = &pool->server[i].lane[n];
            if (lane->first != NULL || lane->conn == NULL)
                continue;
            lane_disconnect(lane, &unsent);
            nut_queue_free(&pool->loop->mem, &unsent);
        }
}

/* The pool of the worker's configuration that has this one's name; NULL: none. */
static struct pool *pool_namesake(const struct pool *pool)
{
    const struct worker *w = pool->worker;
    for (uint32_t i = 0; i < w->pools; i++)
        if (strcmp(w->pool[i]->name, pool->name) == 0)
            return w->pool[i];
    return NULL;
}

/* Add the counters of a retired pool to those of the pool that has its name now. */
static void pool_pass_on(struct pool *old)
{
    struct pool *to = pool_namesake(old);
    if (to == NULL)
        return;
    uint64_t clients = old->stats.client_connections;
    old->stats.client_connections = 0;      /* a gauge: clients take it along */
    stats_add(&to->stats, &old->stats, sizeof old->stats);
    old->stats = (struct pool_stats){.client_connections = clients};
    for (uint32_t i = 0; i < old->servers; i++)
        for (uint32_t n = 0; n < to->servers; n++)
            if (strcmp(old->server[i].conf->name, to->server[n].conf->name) == 0) {
                server_stats_add(&to->server[n].stats, &old->server[i].stats);
                old->server[i].stats = (struct server_stats){0};
            }
}

/* What is known of one server, and of the same in another pool. */
static void server_learn(struct server *to, const struct server *from)
{
    if (from->conf->port != to->conf->port || strcmp(from->conf->host, to->conf->host) != 0)
        return;
    if (from->known && !to->known) {
        to->address = from->address;
        to->places = from->places;
        to->place = from->place;
        to->known = true;
    }
    to->flaps = from->flaps;
    to->downs = from->downs;
    to->ups = from->ups;
    to->up_at = from->up_at;
    if (!from->down || to->down)
        return;
    to->down = true;
    to->why = from->why;
    to->down_at = from->down_at;
    to->patience = from->patience;
    to->probe_at = from->probe_at;
    server_put_down(to);
    server_wait(to, to->pool->loop->now);
}

/* A new pool knows what an old one knew of its servers: where they are, and who
 * is down, and probed. */
static void pool_learn(struct pool *pool, const struct pool *old)
{
    for (uint32_t i = 0; i < old->servers; i++)
        for (uint32_t n = 0; n < pool->servers; n++)
            server_learn(&pool->server[n], &old->server[i]);
    pool_ring(pool);
}
/* } 13 */

/* ===========================================================================
 * 14. REQUEST                                                              {
 *    gives    struct client, struct request, request_new, request_say,
 *             request_ask_one, request_ask_each, request_ask_all
 *    needs    1-13
 *    never    calls read or write; never knows what a client has asked for, or
 *             why: it asks servers, and makes one reply of theirs
 * ======================================================================== */

/* What a client says of itself: its name, and its library's name and version. */
enum { ABOUT_NAME, ABOUT_LIBRARY, ABOUT_VERSION, ABOUTS };
struct about { struct bytes word[ABOUTS]; };

struct client {
    struct conn   conn;                     /* first: it is buried as the whole */
    struct pool  *pool;
    struct frame *frame;                    /* of a request that is not whole yet, else NULL */
    struct link   waiting;                  /* requests, oldest first (1) */
    struct link   in_pool;
    struct link   doomed;                   /* in pool.doomed, or on no list */
    size_t        held;                     /* bytes of replies that wait for their turn */
    size_t        asked;                    /* bytes of questions that are open */
    uint32_t      number;
    uint32_t      requests;                 /* how many are waiting */
    uint32_t      usual;                    /* bytes of a usual reply to this client ... */
    uint32_t      window;                   /* ... and how many requests it may have open for that */
    uint32_t      since;                    /* when, in ms, it became in_multi, or doomed */
    struct about *about;                    /* what it said of itself, or NULL */
    bool          resp3;                    /* it speaks RESP3, since HELLO */
    bool          mute, skip;               /* CLIENT REPLY: OFF; SKIP, for the next request */
    bool          barrier;                  /* nothing is asked until it has all its replies */
    bool          in_multi;                 /* a MULTI of its was refused, and is open yet */
    bool          known;                    /* it gave the password, or need not */
    bool          leaving;                  /* it said QUIT, or what we cannot read */
    bool          counted;                  /* its end stands in the stats */
};

struct request {
    struct link     in_client;              /* in client.waiting */
    struct client  *client;                 /* NULL: it is gone, or has its reply */
    struct pool    *pool;
    struct part    *part;                   /* &one, or as many as there are parts */
    struct asked   *asked;                  /* of each key; a request with one part: &only */
    uint32_t        keys, parts, room;      /* room: how many parts there is memory for */
    uint32_t        open;                   /* parts not answered, and one more while asking */
    uint32_t        lanes;                  /* parts that stand on a lane */
    enum merge      merge;
    enum tell { TELL_MERGED, TELL_HELLO, TELL_INFO, TELL_SCAN, TELL_NOBODY } tell;   /* what is made of the replies */
    uint32_t        about;                  /* TELL_SCAN: the server; TELL_INFO: sections; TELL_HELLO: 2 or 3 */
    bool            plain;                  /* there is one part, whose reply is the client's as it comes */
    bool            resp3;                  /* its client spoke RESP3 when it asked */
    bool            whole;                  /* the reply is there: `reply`, `literal` or `fault` */
    bool            begun;                  /* its first bytes were said already */
    bool            silent;                 /* nobody wants an answer: noreply */
    bool            writes;                 /* RESP: its command does */
    struct queue    reply;
    struct bytes    literal;                /* an error that needs no memory ... */
    struct fault    fault;                  /* ... and another one */
    size_t          held, bytes;            /* what it adds to client.held, and to client.asked */
    struct asked    only;
    struct part     one;
};

#define FLOW_FROM   (64u << 10)             /* a reply so long need not be whole to be sent on */
#define USUAL_FIRST (256u << 10)            /* a reply's length until we have seen some */
#define FRAME_KEPT  4096u                   /* words that the worker's frame keeps room for */
#define ASKED_MARK  (4u << 20)              /* bytes of questions that one client may have open */
#define WINDOW_MOST  4096u

/* ---- requests end */

static struct mem *request_mem(const struct request *r) { return &r->pool->loop->mem; }

/* A request of `c`, not asked yet; NULL: no memory.  There is one for each thing that
 * clients want, so it is not zeroed first and then filled in. */
static struct request *request_new(struct client *c)
{
    struct request *r = mem_take(&c->pool->loop->mem, sizeof *r);
    if (r == NULL)
        return NULL;
    r->in_client.next = NULL;
    r->client = c;
    r->pool = c->pool;
    r->part = &r->one;
    r->asked = &r->only;
    r->keys = r->parts = r->room = r->lanes = 0;
    r->open = 1;                            /* until all parts are asked */
    r->merge = AS_IS;
    r->tell = TELL_MERGED;
    r->plain = true;
    r->resp3 = c->resp3;
    r->whole = r->begun = r->writes = false;
    r->silent = c->mute || c->skip;
    c->skip = false;
    r->reply.first = r->reply.last = NULL;
    r->reply.len = 0;
    r->literal.len = 0;
    r->fault = (struct fault){0};
    r->held = r->bytes = 0;
    r->only.next = NUT_NO_KEY;
    list_push(&c->waiting, &r->in_client);
    c->requests++;
    c->pool->open++;
    return r;
}

static void request_free(struct request *r)
{
    struct mem *m = request_mem(r);
    for (uint32_t i = 0; i < r->parts; i++)
        nut_queue_free(m, &r->part[i].reply);
    if (r->part != &r->one)
        mem_give(m, r->part, r->room * sizeof *r->part);
    if (r->asked != &r->only)
        mem_give(m, r->asked, r->keys * sizeof *r->asked);
    nut_queue_free(m, &r->reply);
    r->pool->open--;
    mem_give(m, r, sizeof *r);
}

/* Whether it has an error instead of a reply. */
static bool request_is_refused(const struct request *r) { return r->literal.len > 0 || r->fault.what != NULL; }

/* Free a request that nobody needs any more: its client has what it gets, and
 * no lane owes it a reply. */
static void request_settle(struct request *r)
{
    if (r->client == NULL && r->open == 0 && r->lanes == 0)
        request_free(r);
}

/* The client is gone, or has been given its reply. */
static void request_leave(struct request *r)
{
    struct client *c = r->client;
    list_cut(&r->in_client);
    c->requests--;
    c->held -= r->held;
    c->asked -= r->bytes;
    r->client = NULL;
    request_settle(r);
}

/* Whether another request may be read from this client. */
static bool client_may_ask(const struct client *c)
{
    return c->requests < c->window && c->asked < ASKED_MARK && c->held < OUT_MARK && !c->barrier &&
           !c->pool->retired && !c->pool->worker->stopping &&
           (c->requests == 0 || (c->pool->crowded == 0 && !mem_is_scarce(&c->pool->loop->mem)));
}

/* Expect replies of `bytes`: of the client's requests so many may be open that
 * their replies do not fill its output. */
static void client_expect(struct client *c, uint32_t bytes)
{
    c->usual = bytes;
    c->window = (uint32_t)least_of(most_of(OUT_MARK / bytes, 1), WINDOW_MOST);
}

/* A long reply makes the next ones look long at once, some short ones short. */
static void client_learn(struct client *c, size_t len)
{
    uint32_t bytes = (uint32_t)least_of(len, OUT_MARK) + 64;
    if (bytes != c->usual)
        client_expect(c, bytes > c->usual ? bytes : c->usual - (c->usual - bytes + 1) / 2);
}

static struct request *client_oldest(const struct client *c)
{
    return list_empty(&c->waiting) ? NULL : container_of(c->waiting.next, struct request, in_client);
}

/* What has come of the oldest reply can be said before the rest has. */
static void request_begin_reply(struct request *r)
{
    struct client *c = r->client;
    conn_say_all(&c->conn, &r->reply);
    c->held -= r->held;
    r->held = 0;
    r->begun = true;
}

/* A client whose pool is retired goes on with the heir, once it has all replies
 * of the old one: so it reads what it wrote.  Where there is none it is closed. */
static void client_move(struct client *c)
{
    struct pool *old = c->pool, *heir = old->heir;
    if (!old->retired || c->requests > 0 || c->leaving || c->conn.dead)
        return;                                             /* (7) */
    if (heir == NULL || heir->conf->protocol != old->conf->protocol) {
        c->leaving = true;
        conn_finish(&c->conn);
        return;
    }
    if (heir->conf->redis_auth == NULL)
        c->known = true;                    /* otherwise who was trusted is trusted, as by Redis */
    list_cut(&c->in_pool);
    list_push(&heir->clients, &c->in_pool);
    if (list_linked(&c->doomed)) {
        list_cut(&c->doomed);
        list_push(&heir->doomed, &c->doomed);
    }
    old->stats.client_connections--;
    heir->stats.client_connections++;
    atomic_fetch_sub(&old->crowd->clients, 1);
    atomic_fetch_add(&heir->crowd->clients, 1);
    c->pool = heir;
}

/* Replies leave in the order their requests came (1): stop at the first that is
 * not whole yet. */
static void client_deliver(struct client *c)
{
    struct request *r;
    char text[FAULT_TEXT];
    while ((r = client_oldest(c)) != NULL && r->whole) {
        if (r->fault.what != NULL && !r->silent)
            conn_say(&c->conn, fault_text(r->fault, c->pool->conf->protocol, text));
        else if (r->literal.len > 0 && !r->silent)
            conn_say(&c->conn, r->literal);
        if (!r->begun)
            client_learn(c, r->reply.len);
        if (!r->silent && r->reply.len > 0)
            conn_say_all(&c->conn, &r->reply);
        request_leave(r);
    }
    if (r != NULL && r->plain && r->reply.len >= FLOW_FROM && !r->silent)
        request_begin_reply(r);
    if (r == NULL) {
        if (c->in_multi && c->conn.paused != 0)
            c->since = (uint32_t)c->pool->loop->now;        /* it is read on, and may see that it was refused */
        c->barrier = false;
        client_move(c);
    }
    if (client_may_ask(c) && !c->leaving)
        conn_resume(&c->conn, PAUSE_OWNER);
    if (r == NULL && (c->leaving || c->conn.ended))
        conn_finish(&c->conn);
}

/* The one place where a request becomes whole. */
static void request_finish(struct request *r)
{
    must(r->open == 0 && !r->whole);
    r->whole = true;
    if (r->client != NULL)
        client_deliver(r->client);
    else
        request_settle(r);
}

/* ---- what the proxy says itself */

static bool client_over_limit(struct client *c)
{
    int64_t limit = c->pool->conf->client_output_limit;
    return limit > 0 && c->conn.out.len + c->held > (uint64_t)limit;
}

/* More of a reply waits for its turn; a client that leaves too much unread is closed. */
static void request_hold(struct request *r, size_t len)
{
    struct client *c = r->client;
    r->held += len;
    c->held += len;
    if (c->conn.broken == 0 && client_over_limit(c)) {
        c->conn.broken = ENOBUFS;
        conn_touch(&c->conn);
    }
}

static void request_say(struct request *r, struct bytes b)
{
    if (request_is_refused(r) || r->client->conn.broken != 0)
        return;
    if (nut_queue_put(request_mem(r), &r->reply, b)) {
        request_hold(r, b.len);
        return;
    }
    nut_queue_free(request_mem(r), &r->reply);
    r->fault = fault_of(WHY_MEMORY, false);
}

static void request_say_number(struct request *r, char mark, uint64_t n)
{
    char line[24] = {mark};
    size_t len = 1 + number_write(line + 1, n);
    memcpy(line + len, "\r\n", 2);
    request_say(r, (struct bytes){line, len + 2});
}

static void request_say_bulk(struct request *r, struct bytes b)
{
    request_say_number(r, '$', b.len);
    request_say(r, b);
    request_say(r, lit("\r\n"));
}

/* A word of the client's, in an error: what would end the line is left out. */
static void request_say_word(struct request *r, struct bytes word)
{
    char text[128];
    size_t n = least_of(word.len, sizeof text);
    for (size_t i = 0; i < n; i++)
        text[i] = octet(word.at[i]) < ' ' || word.at[i] == 0x7f ? ' ' : word.at[i];
    request_say(r, (struct bytes){text, n});
}

/* "before 'word'after", an error reply. */
static void request_refuse(struct request *r, struct bytes before, struct bytes word, struct bytes after)
{
    request_say(r, before);
    request_say(r, lit(" '"));
    request_say_word(r, word);
    request_say(r, lit("'"));
    request_say(r, after);
}

#define NAME_MOST 40

/* A command's name in small letters, as servers write it in errors; in `to`. */
static struct bytes name_lower(struct bytes name, char to[NAME_MOST])
{
    size_t n = least_of(name.len, NAME_MOST);
    for (size_t i = 0; i < n; i++)
        to[i] = lower(name.at[i]);
    return (struct bytes){to, n};
}

static void say_arity(struct request *r, struct bytes name)
{
    char small[NAME_MOST];
    request_refuse(r, lit("-ERR wrong number of arguments for"), name_lower(name, small),
                   lit(" command\r\n"));
}

static void request_say_text(struct request *r, const char *text) { request_say_bulk(r, bytes_of(text)); }

/* The head of a map of so many pairs. */
static void request_say_map(struct request *r, uint64_t pairs)
{
    request_say_number(r, r->resp3 ? '%' : '*', r->resp3 ? pairs : 2 * pairs);
}

static void request_say_null(struct request *r) { request_say(r, r->resp3 ? lit("_\r\n") : lit("$-1\r\n")); }

/* A text of many lines, which was written with a pen. */
static void request_say_pen(struct request *r, struct pen *pen)
{
    request_say_number(r, r->resp3 ? '=' : '$', pen->out.len + (r->resp3 ? 4 : 0));
    request_say(r, r->resp3 ? lit("txt:") : lit(""));
    if (pen->ok && !request_is_refused(r)) {
        request_hold(r, pen->out.len);
        queue_join(&r->reply, &pen->out);
    } else {
        r->fault = fault_of(WHY_MEMORY, false);
    }
    nut_queue_free(request_mem(r), &pen->out);
    request_say(r, lit("\r\n"));
}

__attribute__((format(printf, 2, 3)))
static void pen_write(struct pen *pen, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    size_t len = text_in_args(text, sizeof text, format, args);
    va_end(args);
    pen_put(pen, (struct bytes){text, len});
}

/* ---- what is made of servers' replies */

static uint64_t client_id(const struct client *c)
{
    const struct worker *w = c->pool->worker;
    return (uint64_t)c->number * w->crew_size + w->number + 1;
}

/* HELLO is answered, in the protocol that it asks for: 2 or 3. */
static void tell_hello(struct request *r, uint32_t protocol)
{
    struct client *c = r->client;
    const char *version = r->pool->version;
    bool old = version[0] != '\0' && version[0] < '6' && version[1] == '.';
    if (protocol == 3 && (old || r->pool->resp2)) {
        request_say(r, lit("-NOPROTO unsupported protocol version\r\n"));   /* its servers have no RESP3 */
        return;
    }
    r->resp3 = protocol == 3;
    request_say_map(r, 7);
    request_say_text(r, "server");
    request_say_text(r, "redis");
    request_say_text(r, "version");
    request_say_text(r, version[0] != '\0' ? version : NUT_REDIS);
    request_say_text(r, "proto");
    request_say_number(r, ':', protocol);
    request_say_text(r, "id");
    request_say_number(r, ':', client_id(c));
    request_say_text(r, "mode");
    request_say_text(r, "standalone");
    request_say_text(r, "role");
    request_say_text(r, "master");
    request_say_text(r, "modules");
    request_say(r, lit("*0\r\n"));
    if (request_is_refused(r))
        return;                             /* without memory all stays as it was */
    c->barrier = c->barrier || c->resp3 != r->resp3;
    c->resp3 = r->resp3;
}

/* A server's cursor becomes ours, which tells the server, too; 0: all have been scanned. */
static void tell_scan(struct request *r, struct queue *reply)
{
    char text[64], number[24];
    uint64_t cursor;
    uint32_t servers = r->pool->servers, server = r->about;
    struct bytes head = {text, queue_peek(reply, text, sizeof text)};
    bool array = starts_with(head, lit("*2\r\n$"));
    size_t len = 0, from = array ? 4 + resp_head(head, 4, '$', &len) : 0, to = digits_end(head, from);
    if (!array || to - from != len ||
        !number_read((struct bytes){text + from, to - from}, UINT64_MAX / servers - 1, &cursor)) {
        if (head.len > 0 && text[0] == '-')
            queue_join(&r->reply, reply);
        else
            request_say(r, lit("-ERR a server's cursor cannot be carried on\r\n"));
        return;
    }
    nut_queue_drop(request_mem(r), reply, to + 2);
    if (cursor > 0 || server + 1 < servers)
        cursor = cursor > 0 ? cursor * servers + server : server + 1;
    request_say(r, lit("*2\r\n"));
    request_say_bulk(r, (struct bytes){number, number_write(number, cursor)});
    if (!request_is_refused(r))
        queue_join(&r->reply, reply);
}

static const struct info { uint8_t section, how; } infos[] = {
#define ROW(section, field, how, text) {INFO_##section, INFO_##how},
    NUT_INFO(ROW)
#undef ROW
};

static const char info_texts[] =            /* of each row its field, and then its text */
#define ROW(section, field, how, text) field "\0" text "\0"
    NUT_INFO(ROW) "";
#undef ROW

static const char info_section_names[] =
#define ROW(section, name) name "\0"
    NUT_INFO_SECTIONS(ROW) "";
#undef ROW

/* What servers say of themselves, put together. */
struct info_sum { uint64_t row[countof(infos)], answered, keys, expires; char policy[24]; };

/* The number behind `name` in a line like "db0:keys=1,expires=0". */
static uint64_t info_part(struct bytes line, struct bytes name)
{
    uint64_t n = 0;
    for (size_t at = 0; at + name.len < line.len; at++)
        if (memcmp(line.at + at, name.at, name.len) == 0) {
            size_t from = at + name.len;
            (void)number_read((struct bytes){line.at + from, digits_end(line, from) - from}, COUNTED_MOST, &n);
            return n;
        }
    return 0;
}

static void info_line(struct info_sum *sum, struct pool *pool, struct bytes line)
{
    char db[24];
    size_t colon = find(line, 0, ':');
    struct bytes name = {line.at, colon}, value = bytes_from(line, least_of(colon + 1, line.len));
    uint64_t n;
    if (bytes_same(name, lit("redis_version")) && value.len < sizeof pool->version) {
        pool->stale = false;
        memset(pool->version, 0, sizeof pool->version);
        copy(pool->version, value);
    }
    if (bytes_same(name, lit("maxmemory_policy")) && value.len < sizeof sum->policy && sum->policy[0] == '\0')
        copy(sum->policy, value);           /* of the first one: they should be alike */
    if (bytes_same(name, (struct bytes){db, text_in(db, sizeof db, "db%lld", (long long)pool->conf->redis_db)})) {
        sum->keys += info_part(value, lit("keys="));
        sum->expires += info_part(value, lit("expires="));
    }
    if (!number_read(value, COUNTED_MOST, &n))
        return;
    const char *field = info_texts;
    for (size_t i = 0; i < countof(infos); i++, field = text_nth(field, 2))
        if (infos[i].how <= INFO_MOST && bytes_same(name, bytes_of(field)))
            sum->row[i] = infos[i].how == INFO_SUM ? sum->row[i] + n : most_of(sum->row[i], n);
}

/* Add up what the servers said that did answer. */
static void info_add(struct info_sum *sum, struct request *r)
{
    struct mem *m = request_mem(r);
    for (uint32_t i = 0; i < r->parts; i++) {
        struct queue *reply = &r->part[i].reply;
        size_t len = reply->len, at = 0;
        char *text = r->part[i].fault.what != NULL || len == 0 ? NULL : mem_take(m, len);
        if (text == NULL)
            continue;
        struct bytes all = {text, queue_peek(reply, text, len)};
        sum->answered += text[0] == '$' || text[0] == '=';
        for (size_t end; at < len; at = end + 1) {
            end = find(all, at, '\n');
            info_line(sum, r->pool, (struct bytes){text + at, end - at - (end > at && text[end - 1] == '\r')});
        }
        mem_give(m, text, len);
    }
}

static uint32_t pool_up(const struct pool *pool)
{
    uint32_t up = 0;
    for (uint32_t i = 0; i < pool->servers; i++)
        up += !pool->server[i].down;
    return up;
}

/* One row of INFO, with its line end. */
static void info_write(struct pen *pen, struct request *r, const struct info_sum *sum, size_t i)
{
    const struct pool *pool = r->pool;
    const struct worker *w = pool->worker;
    uint64_t n = sum->row[i];
    const char *field = text_nth(info_texts, 2 * i), *text = NULL;
    switch ((enum info_how)infos[i].how) {
    case INFO_SUM: case INFO_MOST: break;
    case INFO_IS:       text = text_nth(field, 1);                                                      break;
    case INFO_REDIS:    text = pool->version[0] != '\0' ? pool->version : NUT_REDIS;                    break;
    case INFO_NUTPROXY: text = NUT_VERSION;                                                             break;
    case INFO_POLICY:   text = sum->policy;                                                             break;
    case INFO_POOL:     text = pool->name;                                                              break;
    case INFO_PID:      n = (uint64_t)getpid();                                                         break;
    case INFO_PORT:     n = pool->conf->listen.port;                                                    break;
    case INFO_UPTIME:   n = (w->loop.now - w->started) / 1000;                                          break;
    case INFO_CLIENTS:  n = atomic_load(&pool->crowd->clients);                                         break;
    case INFO_LIMIT:    n = (uint64_t)pool->conf->client_connections;                                   break;
    case INFO_WORKERS:  n = w->crew_size;                                                               break;
    case INFO_SERVERS:  n = pool->servers;                                                              break;
    case INFO_UP:       n = pool_up(pool);                                                              break;
    case INFO_ANSWERED: n = sum->answered;                                                              break;
    case INFO_KEYS:
        if (sum->keys > 0)
            pen_write(pen, "db%lld:keys=%llu,expires=%llu,avg_ttl=0\r\n", (long long)pool->conf->redis_db,
                      (unsigned long long)sum->keys, (unsigned long long)sum->expires);
        return;
    }
    if (text != NULL)
        pen_write(pen, "%s:%s\r\n", field, text);
    else
        pen_write(pen, "%s:%llu\r\n", field, (unsigned long long)n);
}

/* INFO: what the servers say, put together, and what the proxy knows. */
static void tell_info(struct request *r)
{
    struct info_sum sum = {0};
    struct pen pen = {.mem = request_mem(r), .ok = true};
    info_add(&sum, r);
    for (size_t i = 0; i < countof(infos); i++) {
        if ((r->about >> infos[i].section & 1) == 0)
            continue;
        if (i == 0 || infos[i].section != infos[i - 1].section)
            pen_write(&pen, "%s# %s\r\n", pen.out.len > 0 ? "\r\n" : "",
                      text_nth(info_section_names, infos[i].section));
        info_write(&pen, r, &sum, i);
    }
    for (uint32_t i = 0; (r->about >> INFO_PROXY & 1) != 0 && i < r->pool->servers; i++) {
        const struct server *s = &r->pool->server[i];
        pen_write(&pen, "server%u:state=%s,downs=%u,ups=%u,name=", i, s->down ? "down" : "up", s->downs, s->ups);
        pen_put(&pen, r->pool->member[i].name);
        pen_put(&pen, lit("\r\n"));
    }
    request_say_pen(r, &pen);
}

/* What is told also where servers do not answer; false: this is another request. */
static bool request_tell(struct request *r)
{
    struct info_sum sum = {0};
    if (r->tell == TELL_INFO) {
        tell_info(r);
    } else if (r->tell == TELL_HELLO) {
        info_add(&sum, r);                  /* which notes the version */
        tell_hello(r, r->about);
    }
    return r->tell == TELL_INFO || r->tell == TELL_HELLO;
}

/* Make one reply of the parts'.  A part that got none speaks for all. */
static void request_merge(struct request *r)
{
    struct mem *m = request_mem(r);
    struct queue reply[64], *all = reply;
    bool unsent = true;
    for (uint32_t i = 0; i < r->parts; i++) {
        unsent = unsent && r->part[i].fault.what != NULL && r->part[i].fault.unsent;
        if (r->merge == TOTALS && r->part[i].fault.what != NULL)
            nut_queue_free(m, &r->part[i].reply);       /* half of it, perhaps; it is not counted */
        else if (r->fault.what == NULL)
            r->fault = r->part[i].fault;
    }
    if (r->writes)                                      /* others may have done their part */
        r->fault.unsent = unsent;
    if (request_is_refused(r) || r->silent)
        return;
    if (r->tell == TELL_SCAN) {
        tell_scan(r, &r->part->reply);
        return;
    }
    if (r->parts > countof(reply))
        all = mem_take(m, r->parts * sizeof *all);
    if (all == NULL) {
        r->fault = fault_of(WHY_MEMORY, false);
        return;
    }
    for (uint32_t i = 0; i < r->parts; i++) {
        all[i] = r->part[i].reply;
        r->part[i].reply = (struct queue){0};
    }
    if (!nut_merge(m, r->merge, all, r->parts, r->asked, r->keys, &r->reply))
        r->fault = fault_of(WHY_MEMORY, false);
    if (all != reply)
        mem_give(m, all, r->parts * sizeof *all);
}

/* What the client heard last has no end, so nothing can come behind it: it hears
 * what it was told so far, and then the connection closes. */
static void client_cut(struct client *c)
{
    struct request *r;
    c->leaving = true;
    while ((r = client_oldest(c)) != NULL)
        request_leave(r);
    conn_finish(&c->conn);
}

/* One part less to wait for. */
static void request_close_part(struct request *r)
{
    must(r->open > 0);
    if (--r->open > 0)
        return;
    if (!r->plain && r->client != NULL && !request_tell(r))
        request_merge(r);
    else if (r->plain && r->parts == 1)
        r->fault = r->part->fault;
    if (request_is_refused(r))
        nut_queue_free(request_mem(r), &r->reply);      /* half a reply is none */
    if (request_is_refused(r) && r->begun && r->client != NULL) {
        r->whole = true;                                /* and half of it was said */
        client_cut(r->client);
        return;
    }
    request_finish(r);
}

/* The one place where a part ends, well (no fault) or badly. */
static void part_end(struct part *p, struct fault fault)
{
    must(!p->answered);
    p->answered = true;
    p->fault = fault;
    if (fault.what != NULL && p->request->tell != TELL_NOBODY)
        p->request->pool->stats.forward_error++;
    request_close_part(p->request);
}

/* ---- replies of servers */

static void part_off_lane(struct part *p)
{
    must(p->request->lanes > 0);
    p->request->lanes--;
}

/* A part that has left its lane without a reply. */
static void part_fail(struct part *p, int why, bool unsent)
{
    struct request *r = p->request;
    part_off_lane(p);
    if (!p->answered)
        part_end(p, fault_of(why, unsent));
    else
        request_settle(r);
}

/* Whether somebody waits for a part's reply. */
static bool part_is_wanted(const struct part *p)
{
    return !p->answered && p->request->client != NULL && !p->request->silent;
}

/* Bytes of a part's reply have come that is wanted, its `last` ones perhaps. */
static void part_feed(struct part *p, struct conn *from, struct bytes b, bool last)
{
    struct request *r = p->request;
    struct client *c = r->client;
    struct mem *m = request_mem(r);
    p->lost = p->lost || c->conn.broken != 0;
    if (p->lost)
        return;
    bool alone = r->plain, oldest = c->waiting.next == &r->in_client;
    if (alone && oldest && last && r->reply.len == 0 && !r->begun) {
        client_learn(c, b.len);
        r->begun = true;                    /* whole in one piece, and its turn */
    }
    struct queue *q = !alone ? &p->reply : r->begun ? &c->conn.out : &r->reply;
    bool all = !r->begun && last && q->len == 0 && b.len < NUT_BIG;     /* thousands of them may wait for their turn */
    if (all ? !queue_put_all(m, q, b) : !queue_hand(m, q, from->kept, b)) {
        if (r->begun)
            c->conn.broken = ENOMEM;
        else
            nut_queue_free(m, q);
        p->lost = true;
    } else if (r->begun) {
        conn_touch(&c->conn);
    } else {
        r->held += b.len;
        c->held += b.len;
        if (alone && oldest && !last && r->reply.len >= FLOW_FROM)
            request_begin_reply(r);
    }
    if (client_over_limit(c))
        c->conn.broken = ENOBUFS;
    if (c->conn.broken != 0)
        conn_touch(&c->conn);
}

/* Whether the reply that was read is one that this part can get.  Parts of a
 * split request are held until they are whole, so it is not too late to refuse. */
static bool part_fits(const struct part *p, const struct reply *reply)
{
    const struct request *r = p->request;
    if (p->expect != RESP_REPLY || r->plain || reply->kind == '-' || reply->kind == '!')
        return true;
    switch (r->merge) {
    case SUM:                return reply->kind == ':';
    case ALL_OK:             return reply->kind == '+';
    case CONCAT: case LEAST: return reply->kind == '*';
    case SAME: case FOUND:   return reply->kind == '$' || reply->kind == '_';
    case AS_IS: case ZIP: case VALUES: case HITS: case FAILS: case TOTALS: break;
    }
    return true;
}

/* ---- lanes end */

/* Answer the parts from `p` on, who stand on no lane any more, and of whose
 * questions the kernel took `wrote` bytes. */
static void parts_fail(struct part *p, int why, uint64_t wrote)
{
    while (p != NULL) {
        struct part *next = p->next;
        p->next = NULL;
        p->lane = NULL;
        if (list_linked(&p->due))
            list_cut(&p->due);
        server_dequeued(p->server);
        part_fail(p, why, p->at >= wrote);
        p = next;
    }
}

/* Take from a lane's FIFO the parts of whose questions not a byte was taken: they stand
 * at its end.  Who was told that time is up is not asked any more. */
static struct part *lane_unsent(struct lane *lane, uint64_t wrote)
{
    struct part *before = NULL, *p = lane->first;
    while (p != NULL && (p->at < wrote || p->overdue)) {
        before = p;
        p = p->next;
    }
    if (before != NULL)
        before->next = NULL;
    else
        lane->first = NULL;
    lane->last = before;
    return p;
}

/* Put parts that were never sent on the lane again, for a new connection: a
 * server that closes an idle connection must cost nobody an error. */
static void lane_ask_again(struct lane *lane, struct part *p, struct queue *unsent, uint64_t wrote,
                           const struct role *role)
{
    struct mem *m = &lane->server->pool->loop->mem;
    uint64_t from = p->at;
    must(lane->first == NULL && from - wrote <= unsent->len);
    nut_queue_drop(m, unsent, (size_t)(from - wrote));
    queue_join(&lane->later, unsent);
    lane->said = lane->later.len;
    lane->first = p;
    for (; p != NULL; p = p->next) {
        p->at -= from;
        lane->last = p;
    }
    int why = lane_open(lane, role);
    if (why == 0)
        return;
    p = lane->first;
    lane->first = lane->last = NULL;
    lane_disconnect(lane, unsent);
    nut_queue_free(m, unsent);
    parts_fail(p, why, 0);
}

/* Everything that was written is answered: go on with a new connection, to where the server is now. */
static void lane_move(struct lane *lane)
{
    struct queue unsent;
    uint64_t wrote = lane_wrote(lane);
    struct part *later = lane_unsent(lane, wrote), *told = lane->first;
    lane->first = lane->last = NULL;
    lane_disconnect(lane, &unsent);
    parts_fail(told, ETIMEDOUT, wrote);
    if (later != NULL)
        lane_ask_again(lane, later, &unsent, wrote, lane->role);
    else                                    /* the rest of one that was answered early, perhaps */
        nut_queue_free(&lane->server->pool->loop->mem, &unsent);
}

/* Whether somebody still waits for a reply on this lane. */
static bool lane_is_waited_for(const struct lane *lane)
{
    for (const struct part *p = lane->first; p != NULL; p = p->next)
        if (!p->answered)
            return true;
    return false;
}

/* Count what a lane was lost for, unless it is nobody's loss, or part_late has counted it.  True: this
 * made the server go down. */
static bool lane_count_loss(struct lane *lane, int why, bool met, bool idle)
{
    struct server *s = lane->server;
    bool late = why == ETIMEDOUT && met && !idle && lane->first->overdue && !lane_is_waited_for(lane);
    bool was_down = s->down;
    s->pool->resp2 = s->pool->resp2 || why == WHY_HELLO;
    if (!late)
        server_count_loss(s, why);
    server_tell_loss(s, why, idle);
    if (idle || late || why == WHY_HELLO || why_is_ours(why))      /* it is well, but for those who speak RESP3 */
        return false;
    if (!met && why < WHY_AUTH) {
        server_unreached(lane, why);
    } else if (lane->number > s->failed_after) {    /* else it is the same trouble that others of its lanes had */
        s->failed_after = s->opened;
        server_failed(s, why);
    }
    s->why = why;
    return s->down && !was_down;
}

/* A lane has no connection any more, or never got one: whoever waits on it is
 * answered, or asked for again where that is safe (5). */
static void lane_lost(struct lane *lane, int why)
{
    struct server *s = lane->server;
    if (lane->kind == LANE_PROBE) {
        if (lane->conn != NULL && lane->conn->connecting)
            server_next_place(lane);
        probe_again(s, false);
        return;
    }
    struct mem *m = &s->pool->loop->mem;
    uint64_t wrote = lane_wrote(lane);
    /* Who hangs up at once, before a byte was written, was not there. */
    bool met = lane_is_met(lane) && (lane->since == 0 || wrote > 0 || lane->first == NULL);
    bool tried = lane->conn != NULL && !met && why < WHY_AUTH && !why_is_ours(why);     /* it could not be reached */
    bool idle = met && (lane->first == NULL || (lane->first->at >= wrote && why != EINVAL));
    bool waited = lane->conn == NULL;
    struct queue unsent;

    if (met)
        lane_met(lane);
    bool passed = lane_is_passed(lane);
    bool fell = !waited && lane_count_loss(lane, why, met, idle);
    lane_disconnect(lane, &unsent);
    struct part *later = lane_unsent(lane, wrote), *sent = lane->first;
    lane->first = lane->last = NULL;
    parts_fail(sent, why, wrote);
    bool again = (met && why != ETIMEDOUT) || (tried && (why != ETIMEDOUT || passed || s->tried > 0));
    if (later != NULL && !s->down && again) {
        lane_ask_again(lane, later, &unsent, wrote, lane->role);
    } else {
        s->sick = s->sick || tried;
        lane->since = 0;
        nut_queue_free(m, &unsent);
        parts_fail(later, why, wrote);
    }
    /* A server that has just gone down will not answer on its other lanes what
     * it owes for too long already. */
    for (uint32_t i = 0; fell && i < pool_lanes(s->pool); i++)
        if (s->lane[i].first != NULL && s->lane[i].first->overdue)
            lane_lost(&s->lane[i], ETIMEDOUT);
}

static void lane_gone(struct conn *c, int why)
{
    lane_lost(container_of(c, struct lane_conn, conn)->lane, why != 0 ? why : WHY_CLOSED);
}

/* A reply to our greeting: false when the server does not want us. */
static bool lane_greeted(struct lane *lane, struct bytes reply)
{
    struct server *s = lane->server;
    int greeting = lane_greeting(lane);
    char kind = lane->scan.kind;
    bool good = greeting == GREET_LIFE ? kind != '-' && kind != 'E' : kind == (greeting == GREET_HELLO ? '%' : '+');
    if (!good) {
        while (reply.len > 0 && is_space(reply.at[reply.len - 1]))
            reply.len--;
        if (greeting == GREET_AUTH)         /* a server that lacks AUTH tells its words back, behind a comma */
            reply.len = find(reply, 0, ',');
        log_of(EVENT_server_refused, s->pool->name, s->conf, "refuses us: %.*s",
               (int)least_of(reply.len, 200), reply.at);
        lane_lost(lane, greeting_why(greeting));
        return false;
    }
    lane->greetings &= (uint8_t)~greeting;
    if (lane->greetings > 0)
        return true;
    if (lane->kind == LANE_PROBE) {
        probe_again(s, true);
        if (s->good >= (uint64_t)s->pool->conf->health_rise << s->flaps)
            server_mark_up(s, false);
        return false;                       /* the conn is closed */
    }
    lane_met(lane);
    queue_join(&lane->conn->out, &lane->later);
    conn_touch(lane->conn);
    return true;
}

/* Begin with what comes next on a lane; false: it can be nothing that was asked for. */
static bool lane_begin(struct lane *lane, char mark)
{
    struct part *p = lane->first;
    bool redis = lane->server->pool->conf->protocol == REDIS, greeting = lane->greetings > 0;
    bool merged = !greeting && p != NULL && !p->request->plain;
    lane->aside = lane->kind == LANE_RESP3 && (mark == '>' || (mark == '|' && merged));
    if (!lane->aside && !greeting && (p == NULL || p->at >= lane_wrote(lane)))
        return false;                       /* nobody has asked, or not a byte of it was written */
    if (greeting && lane->conn->out.len > 0)
        return false;                       /* it answers a greeting that it does not have yet */
    if (lane->aside)
        nut_reply_begin(&lane->scan, RESP_ASIDE, NULL, NUT_NO_KEY);
    else if (greeting)
        nut_reply_begin(&lane->scan, redis ? RESP_REPLY : MC_LINE, NULL, NUT_NO_KEY);
    else
        nut_reply_begin(&lane->scan, p->expect, p->request->asked, p->first_key);
    lane->scan.resp3 = lane->kind == LANE_RESP3 && (lane->greetings & GREET_AUTH) == 0;
    lane->scanning = true;
    return true;
}

/* The oldest part of a lane has its reply, which says that the server is well (0), or why not. */
static void lane_answered(struct lane *lane, bool wanted, int ill)
{
    struct part *p = lane_cut(lane);
    struct server *s = lane->server;
    s->stats.responses += wanted;
    if (ill == 0) {
        if (s->ailing)
            server_is_well(s);
    } else if (s->failed_at == 0 || s->pool->loop->now >= s->failed_at + SAME_TROUBLE_MS) {
        server_failed(s, ill);
    }
    part_off_lane(p);
    if (p->answered)
        request_settle(p->request);
    else
        part_end(p, p->lost ? fault_of(WHY_MEMORY, false) : (struct fault){0});
    if (lane->moving && (lane->first == NULL || lane->first->at >= lane_wrote(lane)))
        lane_move(lane);
}

/* Why a server that says so cannot serve, though it is there; 0: for no reason that is known. */
static int reply_ill(struct bytes reply)
{
    return starts_with(reply, lit("-LOADING")) ? WHY_LOADING : starts_with(reply, lit("-MASTERDOWN")) ? WHY_MASTER
         : starts_with(reply, lit("-NOAUTH")) ? WHY_AUTH : 0;
}

#define MISSED_MS 1000

/* A server lacks a script: it may have been given it, and lost it.  Clients who make scripts
 * without end, and ask for some that there are not, do not have them all loaded. */
static void pool_miss_script(struct pool *pool)
{
    if (pool->missed_at != 0 && pool->loop->now < pool->missed_at + MISSED_MS)
        return;
    pool->missed_at = pool->loop->now;
    pool_forget_scripts(pool);
}

/* Scan the reply at the front of `in`, for the oldest part, as far as it is
 * there; false: the lane is lost. */
static bool lane_take(struct lane *lane, struct conn *c, struct bytes *in)
{
    struct server *s = lane->server;
    size_t used;
    if (!lane->scanning && !lane_begin(lane, in->at[0])) {
        lane_lost(lane, EINVAL);            /* it has lost step */
        return false;
    }
    struct part *p = lane->greetings > 0 || lane->aside ? NULL : lane->first;
    enum scan got = nut_reply_scan(&lane->scan, *in, &used);
    if (got == SCAN_BAD || (got == SCAN_DONE && p != NULL && !part_fits(p, &lane->scan))) {
        lane_lost(lane, EINVAL);
        return false;
    }
    struct bytes mine = {in->at, used};
    *in = bytes_from(*in, used);
    int ill = 0;
    if (lane->scan.kind == '-') {
        ill = reply_ill(mine);
        if (starts_with(mine, lit("-NOSCRIPT")))
            pool_miss_script(s->pool);
    }
    bool wanted = p != NULL && part_is_wanted(p);       /* twemproxy counts those replies only */
    if (wanted) {
        s->stats.response_bytes += used;
        part_feed(p, c, mine, got == SCAN_DONE);
    }
    if (got != SCAN_DONE)
        return true;
    lane->scanning = false;
    if (p == NULL)
        return lane->aside || lane_greeted(lane, mine);
    lane_answered(lane, wanted, ill);
    return lane->conn == c;
}

static size_t lane_bytes(struct conn *c, struct bytes in)
{
    struct lane *lane = container_of(c, struct lane_conn, conn)->lane;
    size_t len = in.len;
    while (in.len > 0)
        if (!lane_take(lane, c, &in))
            return len;
    c->hope = lane->scanning ? lane->scan.need + lane->scan.tail : 0;
    return len;
}

static const struct role lane_role = {lane_bytes, lane_gone, true};

/* ---- asking */

/* Where a part's question goes; NULL when its server cannot be asked, and the
 * part has its answer. */
static struct lane *part_lane(struct part *p, uint32_t number)
{
    int why;
    struct lane *lane = server_lane(p->server, number, p->request->resp3, &lane_role, &why);
    if (lane == NULL)
        part_end(p, fault_of(why, true));
    return lane;
}

/* The question of `p` stands behind `from` in the lane's queue, if `put`. */
static void part_ask(struct part *p, struct lane *lane, size_t from, bool put)
{
    struct queue *q = lane_queue(lane);
    if (!put) {
        p->lane = NULL;
        queue_trim(request_mem(p->request), q, from);
        part_end(p, fault_of(ENOMEM, true));
        return;
    }
    p->request->lanes++;
    p->request->bytes += q->len - from;
    p->request->client->asked += q->len - from;
    lane_push(lane, p, (uint32_t)(q->len - from));      /* <= NUT_REQUEST_MAX */
}

static struct part *request_add_part(struct request *r, struct server *s)
{
    struct part *p = &r->part[r->parts++];
    p->due.next = NULL;
    p->request = r;
    p->lane = NULL;
    p->server = s;
    p->keys = p->line = p->first_key = 0;
    p->expect = r->pool->conf->protocol == REDIS ? RESP_REPLY
              : r->merge == TOTALS ? MC_STATS : r->merge == ALL_OK ? MC_OK : MC_LINE;
    p->answered = p->overdue = p->lost = false;
    p->reply.first = p->reply.last = NULL;
    p->reply.len = 0;
    p->fault = (struct fault){0};
    r->open++;
    return p;
}

/* Ask one server for all of it. */
static void request_ask_one(struct request *r, const struct frame *f, struct block *block, uint32_t server)
{
    struct mem *m = request_mem(r);
    struct part *p = request_add_part(r, &r->pool->server[server]);
    if (f->verb != NULL)
        p->expect = verb_expect(f->verb);
    struct lane *lane = part_lane(p, r->client->number);
    if (lane != NULL) {
        struct queue *q = lane_queue(lane);
        size_t from = q->len;
        part_ask(p, lane, from, f->verb != NULL ? mc_put_request(m, q, f, block)
                                                : queue_hand(m, q, block, f->text));
    }
    request_close_part(r);               /* the one that was open while asking */
}

/* Ask one server what stands in `question`, which is used up, if it was `put` there. */
static void request_ask_queue(struct request *r, uint32_t server, struct queue *question, bool put)
{
    struct part *p = request_add_part(r, &r->pool->server[server]);
    struct lane *lane = part_lane(p, r->client->number);
    r->plain = false;
    if (lane != NULL) {
        struct queue *q = lane_queue(lane);
        size_t from = q->len;
        queue_join(q, question);
        part_ask(p, lane, from, put);
    }
    nut_queue_free(request_mem(r), question);
    request_close_part(r);
}

#define UNASKED_MOST (1u << 20)             /* so much waits for a server, and it is not asked what nobody waits for */

/* Ask every server the same, but number `but` (NUT_NOBODY: none); `over` passes those over
 * who are down. */
static void request_ask_all(struct request *r, struct bytes question, struct block *block, bool over, uint32_t but)
{
    struct pool *pool = r->pool;
    struct mem *m = request_mem(r);
    uint32_t n = pool->servers, first = r->merge == FOUND ? worker_random(pool->worker) % n : 0;
    struct part *part = mem_take(m, n * sizeof *part);
    if (part != NULL) {
        r->part = part;
        r->room = n;
        r->plain = false;
    } else {
        r->fault = fault_of(WHY_MEMORY, false);
        n = 0;
    }
    for (uint32_t i = 0; i < n; i++)
        if ((first + i) % n != but && (!over || !pool->server[(first + i) % n].down))
            request_add_part(r, &pool->server[(first + i) % n]);
    pool->stats.fragments += r->parts > 1 && r->tell != TELL_NOBODY ? r->parts : 0;
    for (uint32_t i = 0; i < r->parts; i++) {
        struct server_stats before = r->part[i].server->stats;
        struct lane *lane = part_lane(&r->part[i], r->client->number);
        struct queue *q = lane == NULL ? NULL : lane_queue(lane);
        size_t from = q == NULL ? 0 : q->len;
        if (from > UNASKED_MOST && r->tell == TELL_NOBODY)
            part_end(&r->part[i], fault_of(ETIMEDOUT, true));   /* it does not take what it was asked for */
        else if (q != NULL)
            part_ask(&r->part[i], lane, from, queue_hand(m, q, block, question));
        if (r->tell == TELL_NOBODY) {       /* no client's: it is not counted as one */
            r->part[i].server->stats.requests = before.requests;
            r->part[i].server->stats.request_bytes = before.request_bytes;
        }
    }
    if (part != NULL && r->parts == 0 && r->tell != TELL_INFO) {
        r->fault = fault_of(ECONNREFUSED, true);        /* all are ejected */
        pool->stats.forward_error++;
        r->plain = true;
    }
    request_close_part(r);
}

/* memcached hangs up on a gat line that is longer than NUT_LINE_MAX and comes in
 * pieces, so such a line is cut; a get may be as long as it likes. */
#define GAT_LINE_MAX (NUT_LINE_MAX - 64)

/* Give key `k` to the part of its server. */
static bool request_deal_key(struct request *r, uint32_t k, struct bytes key, bool cut)
{
    struct pool *pool = r->pool;
    uint32_t server = pool_pick(pool, key);
    if (server == NUT_NOBODY)
        return false;
    struct deal *deal = &pool->deal[server];
    struct part *p = deal->part == NUT_NOBODY ? NULL : &r->part[deal->part];
    if (p == NULL || (cut && p->line + key.len + 1 > GAT_LINE_MAX)) {
        deal->part = r->parts;
        p = request_add_part(r, &pool->server[server]);
        p->first_key = k;
    } else {
        r->asked[deal->key].next = k;
    }
    deal->key = k;
    p->keys++;
    p->line += (uint32_t)key.len + 1;       /* <= NUT_GET_MAX */
    r->asked[k] = (struct asked){.part = deal->part, .next = NUT_NO_KEY};
    return true;
}

/* Deal the keys out: a part for each server.  False: no memory, which the
 * request knows then, or all servers are out. */
static bool request_deal(struct request *r, const struct frame *f, struct keyset ks)
{
    struct mem *m = request_mem(r);
    bool cut = f->verb != NULL && f->verb->shape == TOUCHES, all = true;
    r->keys = ks.n;
    r->room = cut || ks.n < r->pool->servers ? ks.n : r->pool->servers;
    struct asked *asked = mem_take(m, r->keys * sizeof *asked);
    struct part *part = asked == NULL ? NULL : mem_take(m, r->room * sizeof *part);
    if (part == NULL) {
        mem_give(m, asked, r->keys * sizeof *asked);
        r->fault = fault_of(WHY_MEMORY, false);
        return false;
    }
    r->asked = asked;
    r->part = part;
    for (uint32_t k = 0; k < ks.n && all; k++) {
        struct bytes key = quick_arg(f, ks.first + k * ks.step);
        all = request_deal_key(r, k, key, cut);
        if (f->verb != NULL)
            r->asked[k].check = nut_check(key);
    }
    for (uint32_t i = 0; i < r->parts; i++)
        r->pool->deal[r->part[i].server - r->pool->server].part = NUT_NOBODY;
    return all;
}

/* As before request_deal, but for what it said. */
static void request_undeal(struct request *r)
{
    struct mem *m = request_mem(r);
    if (r->part != &r->one) {
        mem_give(m, r->part, r->room * sizeof *r->part);
        mem_give(m, r->asked, r->keys * sizeof *r->asked);
    }
    r->part = &r->one;
    r->asked = &r->only;
    r->open -= r->parts;
    r->parts = r->keys = 0;
}

/* The bytes of a RESP word as they stand in the request, with its head. */
static struct bytes resp_raw_words(const struct frame *f, uint32_t i, uint32_t n)
{
    size_t from = (size_t)f->argv[i - 1].off + f->argv[i - 1].len + 2;
    size_t to = (size_t)f->argv[i + n - 1].off + f->argv[i + n - 1].len + 2;
    return (struct bytes){f->text.at + from, to - from};
}

/* What a part's question begins with, before its keys. */
static bool part_put_head(struct mem *m, struct queue *q, const struct part *p, const struct frame *f,
                          struct keyset ks)
{
    struct bytes name = quick_arg(f, 0);
    char number[24];
    if (f->verb == NULL)
        return queue_put_number(m, q, '*', 1 + (uint64_t)p->keys * ks.step) &&
               resp_put_word(m, q, name);
    size_t len = f->verb->shape == TOUCHES ? line_number(number, 0, f->exptime) : 0;
    return nut_queue_put(m, q, name) && nut_queue_put(m, q, (struct bytes){number, len});
}

/* Key `k` of the request, with what goes before it: the head of a RESP word, or the
 * space between the words of a line. */
static struct bytes part_key(const struct frame *f, struct keyset ks, uint32_t k)
{
    uint32_t i = ks.first + k * ks.step;
    struct bytes key = quick_arg(f, i);
    return f->verb == NULL ? resp_raw_words(f, i, ks.step) : (struct bytes){key.at - 1, key.len + 1};
}

/* Put a part's question, the request for its keys. */
static bool part_put(struct queue *q, const struct part *p, const struct frame *f, struct block *block,
                     struct keyset ks)
{
    struct mem *m = request_mem(p->request);
    const struct asked *asked = p->request->asked;
    bool ok = part_put_head(m, q, p, f, ks);
    for (uint32_t k = p->first_key; ok && k != NUT_NO_KEY; k = asked[k].next)
        ok = queue_hand(m, q, block, part_key(f, ks, k));
    return ok && (f->verb == NULL || nut_queue_put(m, q, lit("\r\n")));
}

/* Ask each server for its keys. */
static void request_ask_each(struct request *r, const struct frame *f, struct block *block, struct keyset ks)
{
    r->pool->stats.fragments += r->parts > 1 ? r->parts : 0;
    r->plain = r->parts == 1;
    for (uint32_t i = 0; i < r->parts; i++) {
        struct part *p = &r->part[i];
        if (f->verb != NULL)
            p->expect = MC_VALUES;
        else if (r->merge == ZIP)
            p->expect = RESP_ITEMS;
        struct lane *lane = part_lane(p, r->client->number);
        if (lane == NULL)
            continue;
        struct queue *q = lane_queue(lane);
        size_t from = q->len;
        part_ask(p, lane, from, part_put(q, p, f, block, ks));
    }
    request_close_part(r);               /* the one that was open while asking */
}

/* } 14 */

/* ===========================================================================
 * 15. ANSWER                                                               {
 *    gives    request_here, request_is_in_multi, command_is_served
 *    needs    1, 2, 5, 9, 12, 13
 *    never    finds the server of a key
 *
 * What the proxy answers itself, or from what one or all servers say: HELLO and what
 * else clients begin with, CLIENT, INFO, CONFIG, SCAN, COMMAND.
 * ======================================================================== */

/* `name` is in capitals. */
static void say_unknown_sub(struct request *r, struct bytes name, struct bytes sub)
{
    request_refuse(r, lit("-ERR unknown subcommand"), sub, lit(". Try "));
    request_say(r, name);
    request_say(r, lit(" HELP.\r\n"));
}

/* How long it takes says nothing about where the words differ. */
static bool same_secret(struct bytes a, struct bytes b)
{
    unsigned char differ = a.len != b.len;
    for (size_t i = 0; i < a.len; i++)
        differ |= (unsigned char)(a.at[i] ^ b.at[b.len == 0 ? 0 : i % b.len]);
    return differ == 0;
}

/* Why a command that exists is not served. */
static struct bytes refusal_reason(enum way way)
{
    switch (way) {
    case BLOCKS:  return lit("it would stop a connection that others share\r\n");
    case SESSION: return lit("it changes a connection that others share\r\n");
    case WHOLE:   return lit("it concerns all servers\r\n");
    case FLUSH:   return lit("it empties all servers, which `allow = flush` permits\r\n");
    case DENIED:  return lit("its configuration denies it\r\n");
    case ADMIN:   return lit("it concerns one server by itself\r\n");
    case ONE: case EACH: case ANY: case ALL: case HERE: case SUBS: case NEVER: case UNKNOWN: break;
    }
    return lit("nutproxy does not have it\r\n");
}

static void request_refuse_way(struct request *r, struct bytes name, enum way way)
{
    request_refuse(r, lit("-ERR command"), name, lit(" is not served by this proxy: "));
    request_say(r, refusal_reason(way));
}

#define WRONG_PASSWORD "-WRONGPASS invalid username-password pair or user is disabled.\r\n"

/* A client gives its password; whether that is right.  Where the pool asks for none, that of
 * the default user may be any.  Who was trusted stays so, as with Redis. */
static bool client_enter(struct client *c, struct bytes user, struct bytes password)
{
    const char *ours = c->pool->conf->redis_auth;
    bool right = (ours == NULL || same_secret(password, bytes_of(ours))) && bytes_same(user, lit("default"));
    c->known = c->known || right;
    return right;
}

static bool here_auth(struct request *r, const struct frame *f)
{
    struct client *c = r->client;
    bool old = f->argc == 2;                /* AUTH password: as twemproxy has it, whose client is out then */
    if (f->argc > 3) {
        request_say(r, lit("-ERR syntax error\r\n"));
    } else if (old && c->pool->conf->redis_auth == NULL) {
        request_say(r, lit("-ERR Client sent AUTH, but no password is set\r\n"));
    } else if (client_enter(c, old ? lit("default") : frame_arg(f, 1), frame_arg(f, f->argc - 1))) {
        request_say(r, lit("+OK\r\n"));
    } else {
        c->known = c->known && !old;
        request_say(r, old ? lit("-ERR invalid password\r\n") : lit(WRONG_PASSWORD));
    }
    return true;
}

static bool here_select(struct request *r, const struct frame *f)
{
    uint64_t db;
    if (!number_read(frame_arg(f, 1), INT32_MAX, &db))
        request_say(r, lit("-ERR value is not an integer or out of range\r\n"));
    else if ((int64_t)db == r->pool->conf->redis_db)
        request_say(r, lit("+OK\r\n"));
    else
        request_refuse(r, lit("-ERR SELECT is not served by this proxy: its connections are shared, and use"
                              " another database than"), frame_arg(f, 1), lit("\r\n"));
    return true;
}

static bool here_ping(struct request *r, const struct frame *f)
{
    if (f->argc == 1)
        request_say(r, lit("+PONG\r\n"));
    else if (f->argc == 2)
        request_say_bulk(r, frame_arg(f, 1));
    else
        say_arity(r, frame_arg(f, 0));
    return true;
}

static bool here_echo(struct request *r, const struct frame *f)
{
    request_say_bulk(r, frame_arg(f, 1));
    return true;
}

static bool here_quit(struct request *r, const struct frame *f)
{
    (void)f;
    r->client->leaving = true;
    request_say(r, lit("+OK\r\n"));
    return true;
}

static bool here_time(struct request *r, const struct frame *f)
{
    char text[24];
    uint64_t now = clock_wall_us();
    (void)f;
    request_say(r, lit("*2\r\n"));
    request_say_bulk(r, (struct bytes){text, number_write(text, now / 1000000)});
    request_say_bulk(r, (struct bytes){text, number_write(text, now % 1000000)});
    return true;
}

/* ---- what a client says of itself */

static struct bytes client_about(const struct client *c, int what)
{
    return c->about == NULL ? lit("") : c->about->word[what];
}

static void client_forget(struct client *c)
{
    struct mem *m = &c->pool->loop->mem;
    for (int i = 0; c->about != NULL && i < ABOUTS; i++)
        mem_give(m, (char *)(uintptr_t)c->about->word[i].at, c->about->word[i].len);
    mem_give(m, c->about, sizeof *c->about);
    c->about = NULL;
}

/* Note a word; false: no memory. */
static bool client_note(struct client *c, int what, struct bytes word)
{
    struct mem *m = &c->pool->loop->mem;
    if (c->about == NULL && (c->about = mem_zero(m, sizeof *c->about)) == NULL)
        return false;
    struct bytes *to = &c->about->word[what];
    char *text = word.len == 0 ? NULL : mem_take(m, word.len);
    if (word.len > 0 && text == NULL)
        return false;
    copy(text, word);
    mem_give(m, (char *)(uintptr_t)to->at, to->len);
    *to = (struct bytes){text, word.len};
    return true;
}

#define ABOUT_MOST 256u

/* As Redis does, for it stands in lists of words; a long one would be our memory. */
static bool is_about_word(struct bytes word)
{
    for (size_t i = 0; i < word.len; i++)
        if (word.at[i] < '!' || word.at[i] > '~')
            return false;
    return word.len <= ABOUT_MOST;
}

static void client_say_about(struct request *r, int what, struct bytes word)
{
    if (client_note(r->client, what, word))
        request_say(r, lit("+OK\r\n"));
    else
        r->fault = fault_of(WHY_MEMORY, false);
}

#define BAD_NAME "-ERR Client names cannot contain spaces, newlines or special characters.\r\n"

static bool here_client_setname(struct request *r, const struct frame *f)
{
    if (is_about_word(frame_arg(f, 2)))
        client_say_about(r, ABOUT_NAME, frame_arg(f, 2));
    else
        request_say(r, lit(BAD_NAME));
    return true;
}

static bool here_client_setinfo(struct request *r, const struct frame *f)
{
    struct bytes what = frame_arg(f, 2);
    bool library = same_word(what, lit("lib-name"));
    if (!library && !same_word(what, lit("lib-ver")))
        request_refuse(r, lit("-ERR Unrecognized option"), what, lit("\r\n"));
    else if (!is_about_word(frame_arg(f, 3)))
        request_say(r, library ? lit("-ERR lib-name cannot contain spaces, newlines or special characters.\r\n")
                               : lit("-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n"));
    else
        client_say_about(r, library ? ABOUT_LIBRARY : ABOUT_VERSION, frame_arg(f, 3));
    return true;
}

static bool here_client_getname(struct request *r, const struct frame *f)
{
    struct bytes name = client_about(r->client, ABOUT_NAME);
    (void)f;
    if (name.len > 0)
        request_say_bulk(r, name);
    else
        request_say_null(r);
    return true;
}

static bool here_client_id(struct request *r, const struct frame *f)
{
    (void)f;
    request_say_number(r, ':', client_id(r->client));
    return true;
}

static bool here_client_getredir(struct request *r, const struct frame *f)
{
    (void)f;
    request_say(r, lit(":-1\r\n"));         /* nothing is tracked */
    return true;
}

/* A client as CLIENT LIST tells of it. */
static void client_tell(struct pen *pen, const struct client *c)
{
    static const char label[ABOUTS][12] = {" name=", " lib-name=", " lib-ver="};
    char addr[SOCKET_TEXT], laddr[SOCKET_TEXT];
    pen_write(pen, "id=%llu addr=%s laddr=%s fd=%d", (unsigned long long)client_id(c),
              socket_text(c->conn.watch.fd, true, addr), socket_text(c->conn.watch.fd, false, laddr), c->conn.watch.fd);
    for (int i = 0; i < ABOUTS; i++) {
        pen_put(pen, bytes_of(label[i]));
        pen_put(pen, client_about(c, i));
    }
    /* Some libraries do not read a line that lacks one of these, though we have nothing to tell. */
    pen_write(pen, " db=%lld flags=N sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 obl=0 oll=0"
              " omem=%llu tot-mem=%llu events=r cmd=NULL user=default redir=-1 resp=%c\n",
              (long long)c->pool->conf->redis_db, (unsigned long long)c->conn.out.len,
              (unsigned long long)(sizeof *c + c->conn.out.len + c->held), c->resp3 ? '3' : '2');
}

static bool here_client_info(struct request *r, const struct frame *f)
{
    struct pen pen = {.mem = request_mem(r), .ok = true};
    (void)f;
    client_tell(&pen, r->client);
    request_say_pen(r, &pen);
    return true;
}

/* Those of this pool that are with this worker. */
static bool here_client_list(struct request *r, const struct frame *f)
{
    struct pen pen = {.mem = request_mem(r), .ok = true};
    if (f->argc > 2 && !(f->argc == 4 && same_word(frame_arg(f, 2), lit("type")) &&
                         same_word(frame_arg(f, 3), lit("normal")))) {
        request_say(r, lit("-ERR CLIENT LIST is served by this proxy without options, and with TYPE NORMAL\r\n"));
        return true;
    }
    for (struct link *at = r->pool->clients.next; at != &r->pool->clients; at = at->next)
        client_tell(&pen, container_of(at, struct client, in_pool));
    request_say_pen(r, &pen);
    return true;
}

static bool here_client_reply(struct request *r, const struct frame *f)
{
    struct client *c = r->client;
    struct bytes how = frame_arg(f, 2);
    bool on = same_word(how, lit("on")), off = same_word(how, lit("off")), skip = same_word(how, lit("skip"));
    if (on || off)
        c->mute = off;
    c->skip = skip;
    if (on || off || skip)
        r->silent = !on;
    request_say(r, on || off || skip ? lit("+OK\r\n") : lit("-ERR syntax error\r\n"));
    return true;
}

/* NO-EVICT and NO-TOUCH: there is nothing that either could be asked to change. */
static bool here_client_no(struct request *r, const struct frame *f)
{
    bool off = same_word(frame_arg(f, 2), lit("off")), touch = same_word(frame_arg(f, 1), lit("no-touch"));
    if (!off && !same_word(frame_arg(f, 2), lit("on")))
        request_say(r, lit("-ERR syntax error\r\n"));
    else if (touch && !off)
        request_refuse_way(r, lit("client|no-touch"), SESSION);
    else
        request_say(r, lit("+OK\r\n"));
    return true;
}

/* ---- HELLO, RESET, INFO, CONFIG, SCAN */

/* A server that is up; best one that is connected, and owes nothing: `idle` takes no other.
 * NUT_NOBODY: there is none. */
static uint32_t pool_anybody(const struct pool *pool, bool idle)
{
    uint32_t n = pool->servers, first = worker_random(pool->worker) % n, best = NUT_NOBODY, most = idle ? 1 : 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct server *s = &pool->server[(first + i) % n];
        uint32_t fit = s->down ? 0 : s->lane->conn == NULL || s->lane->first != NULL ? 1 : 2;
        if (fit > most) {
            most = fit;
            best = (first + i) % n;
        }
    }
    return best;
}

/* The options of HELLO: the words behind AUTH and SETNAME.  Which word is no option; 0: all
 * are. */
static uint32_t hello_options(const struct frame *f, uint32_t *auth, uint32_t *name)
{
    for (uint32_t i = 2; i < f->argc; i++) {
        if (same_word(frame_arg(f, i), lit("auth")) && i + 2 < f->argc) {
            *auth = i + 1;
            i += 2;
        } else if (same_word(frame_arg(f, i), lit("setname")) && i + 1 < f->argc) {
            *name = ++i;
        } else {
            return i;
        }
    }
    return 0;
}

/* Log a client in, and note its name, as HELLO says; whether that is well. */
static bool hello_enter(struct request *r, const struct frame *f, uint32_t auth, uint32_t name)
{
    struct client *c = r->client;
    if (auth > 0 && !client_enter(c, frame_arg(f, auth), frame_arg(f, auth + 1)))
        request_say(r, lit(WRONG_PASSWORD));
    else if (!c->known)
        request_say(r, lit("-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO"
                           " <proto> AUTH <user> <pass> option can be used to authenticate the client and select the"
                           " RESP protocol version at the same time\r\n"));
    else if (name > 0 && !client_note(c, ABOUT_NAME, frame_arg(f, name)))
        r->fault = fault_of(WHY_MEMORY, false);
    else
        return true;
    return false;
}

static bool here_hello(struct request *r, const struct frame *f)
{
    uint64_t protocol = r->resp3 ? 3 : 2;
    uint32_t auth = 0, name = 0, server;
    if (f->argc > 1 && !number_read(frame_arg(f, 1), INT64_MAX, &protocol)) {
        request_say(r, lit("-ERR Protocol version is not an integer or out of range\r\n"));
        return true;
    }
    if (protocol < 2 || protocol > 3) {
        request_say(r, lit("-NOPROTO unsupported protocol version\r\n"));
        return true;
    }
    uint32_t odd = hello_options(f, &auth, &name);
    if (odd > 0)
        request_refuse(r, lit("-ERR Syntax error in HELLO option"), frame_arg(f, odd), lit("\r\n"));
    else if (name > 0 && !is_about_word(frame_arg(f, name)))
        request_say(r, lit(BAD_NAME));
    if (r->reply.len > 0 || !hello_enter(r, f, auth, name))
        return true;
    r->about = (uint32_t)protocol;
    bool known = r->pool->version[0] != '\0';
    server = known && !r->pool->stale ? NUT_NOBODY : pool_anybody(r->pool, known);
    if (server == NUT_NOBODY) {
        tell_hello(r, r->about);
        return true;
    }
    struct queue question = {0};
    r->tell = TELL_HELLO;
    r->client->barrier = true;
    struct mem *m = request_mem(r);
    bool put = resp_put_command(m, &question, r->pool->lexicon, 2, lit("INFO")) &&
               resp_put_word(m, &question, lit("server"));
    request_ask_queue(r, server, &question, put);
    return false;
}

static bool here_reset(struct request *r, const struct frame *f)
{
    struct client *c = r->client;
    (void)f;
    client_forget(c);
    c->barrier = c->resp3;
    r->silent = r->silent && !c->mute;
    c->resp3 = c->mute = c->in_multi = false;
    c->known = c->pool->conf->redis_auth == NULL;
    request_say(r, lit("+RESET\r\n"));
    return true;
}

/* The sections that are asked for, a bit for each. */
static uint32_t info_sections(const struct frame *f)
{
    uint32_t sections = f->argc == 1 ? UINT32_MAX : 0;
    for (uint32_t i = 1; i < f->argc; i++) {
        size_t which = word_find(info_section_names, frame_arg(f, i));
        if (word_find("all\0default\0everything\0", frame_arg(f, i)) != NO_TEXT)
            sections = UINT32_MAX;
        else if (which != NO_TEXT)
            sections |= 1u << which;
    }
    return sections;
}

static bool here_info(struct request *r, const struct frame *f)
{
    char text[NUT_NAME_MAX + 24];
    r->tell = TELL_INFO;
    r->about = info_sections(f);
    if (r->about == 0) {
        request_say_bulk(r, lit(""));
        return true;
    }
    struct bytes name = command_called(r->pool->lexicon, lit("INFO"));
    size_t len = text_in(text, sizeof text, "*1\r\n$%u\r\n%.*s\r\n", (unsigned)name.len, (int)name.len, name.at);
    request_ask_all(r, (struct bytes){text, len}, NULL, true, NUT_NOBODY);
    return false;
}

/* Whether `text` is of this pattern: '*' for any run, '?' for any one character, '\' before
 * one that is meant. */
static bool is_like(struct bytes text, struct bytes pattern)
{
    size_t t = 0, p = 0, star = SIZE_MAX, from = 0;
    while (t < text.len) {
        bool escaped = p + 1 < pattern.len && pattern.at[p] == '\\';
        if (p < pattern.len && pattern.at[p] == '*') {
            star = p++;
            from = t;
        } else if (p < pattern.len && ((!escaped && pattern.at[p] == '?') ||
                                       lower(pattern.at[p + escaped]) == lower(text.at[t]))) {
            p += 1u + escaped;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++from;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.at[p] == '*')
        p++;
    return p == pattern.len;
}

#define NAMES_MOST 1024u                    /* words that are looked up for one request */
#define TOO_MANY_NAMES "-ERR too many names in one command for this proxy\r\n"

/* What clients ask CONFIG for: of the servers, which are taken to be alike, one is asked. */
static const char config_told[] =
    "appendonly\0databases\0lfu-decay-time\0maxclients\0maxmemory\0maxmemory-policy\0notify-keyspace-events\0"
    "proto-max-bulk-len\0save\0timeout\0";

static bool config_is_asked(const char *name, const struct frame *f)
{
    for (uint32_t n = 2; n < f->argc; n++)
        if (is_like(bytes_of(name), frame_arg(f, n)))
            return true;
    return false;
}

static bool here_config_get(struct request *r, const struct frame *f)
{
    struct mem *m = request_mem(r);
    struct queue names = {0}, question = {0};
    uint32_t n = 0, server = pool_anybody(r->pool, false);
    bool put = true;
    if (f->argc > NAMES_MOST) {
        request_say(r, lit(TOO_MANY_NAMES));
        return true;
    }
    for (const char *name = config_told; name[0] != '\0'; name = text_nth(name, 1))
        if (config_is_asked(name, f)) {
            put = put && resp_put_word(m, &names, bytes_of(name));
            n++;
        }
    if (n == 0)
        request_say_map(r, 0);
    else if (server == NUT_NOBODY)
        r->fault = fault_of(ECONNREFUSED, true);
    if (n == 0 || server == NUT_NOBODY) {
        nut_queue_free(m, &names);
        return true;
    }
    put = put && queue_put_number(m, &question, '*', n + 2) && resp_put_word(m, &question, frame_arg(f, 0)) &&
          resp_put_word(m, &question, lit("GET"));
    queue_join(&question, &names);
    request_ask_queue(r, server, &question, put);
    return false;
}

/* SCAN goes through the servers one by one: see tell_scan.  A server that is ejected has
 * no keys of the pool's. */
static bool here_scan(struct request *r, const struct frame *f)
{
    struct pool *pool = r->pool;
    struct mem *m = request_mem(r);
    char number[24];
    uint64_t cursor;
    if (!number_read(frame_arg(f, 1), UINT64_MAX, &cursor)) {
        request_say(r, lit("-ERR invalid cursor\r\n"));
        return true;
    }
    r->about = (uint32_t)(cursor % pool->servers);
    cursor /= pool->servers;
    for (; r->about < pool->servers && pool->conf->auto_eject_hosts && pool->server[r->about].down; r->about++)
        cursor = 0;
    if (r->about == pool->servers) {
        request_say(r, lit("*2\r\n$1\r\n0\r\n*0\r\n"));
        return true;
    }
    struct bytes text = {number, number_write(number, cursor)};
    struct queue question = {0};
    bool put = queue_put_number(m, &question, '*', f->argc) && resp_put_word(m, &question, frame_arg(f, 0)) &&
               resp_put_word(m, &question, text) &&
               (f->argc == 2 || nut_queue_put(m, &question, resp_raw_words(f, 2, f->argc - 2)));
    r->tell = TELL_SCAN;
    request_ask_queue(r, r->about, &question, put);
    return false;
}

/* ---- COMMAND */

static bool command_is_served(const struct command *c) { return c->way <= SUBS; }

static bool command_is_sub(const struct lexicon *l, const struct command *c)
{
    struct bytes name = nut_command_name(l, c);
    return find(name, 0, '|') < name.len;
}

/* Row `i` of all, if it is served, under a name that is no subcommand's, or else NULL. */
static const struct command *command_told(const struct lexicon *l, uint32_t i)
{
    const struct command *c = lexicon_row(l, i);
    bool told = command_is_served(c) && !command_is_sub(l, c) && nut_command_find(l, lexicon_name(l, i)) == c;
    return told ? c : NULL;
}

static void say_command_row(struct request *r, const struct command *c)
{
    char small[NAME_MOST], text[24];
    const int number[] = {c->arity, c->first, c->last, c->step};
    request_say(r, lit("*10\r\n"));
    request_say_bulk(r, name_lower(nut_command_name(r->pool->lexicon, c), small));
    for (size_t i = 0; i < countof(number); i++) {
        if (i == 1)                         /* behind the arity stand the flags */
            request_say(r, c->access == READ ? lit("*1\r\n+readonly\r\n")
                         : c->access == WRITE ? lit("*1\r\n+write\r\n") : lit("*0\r\n"));
        request_say(r, (struct bytes){text, text_in(text, sizeof text, ":%d\r\n", number[i])});
    }
    request_say(r, lit("*0\r\n*0\r\n*0\r\n"));      /* categories, tips, key specs */
}

/* A row of the table as COMMAND tells it, with those of its subcommands. */
static void say_command(struct request *r, const struct command *c)
{
    const struct command *first = command_original(r->pool->lexicon, c);
    uint32_t n = 0;
    say_command_row(r, c);
    for (uint32_t k = 1; c->way == SUBS && command_is_sub(r->pool->lexicon, first + k); k++)
        n += command_is_served(first + k);
    request_say_number(r, '*', n);
    for (uint32_t k = 1; n > 0; k++)
        if (command_is_served(first + k)) {
            say_command_row(r, first + k);
            request_say(r, lit("*0\r\n"));
            n--;
        }
}

/* COMMAND, COUNT, LIST, and INFO without names: of all. */
static bool say_commands(struct request *r, struct bytes what)
{
    const struct lexicon *l = r->pool->lexicon;
    char small[NAME_MOST];
    uint32_t served = 0, rows = (uint32_t)countof(commands) + l->owns;
    bool list = same_word(what, lit("list"));
    for (uint32_t i = 0; i < rows; i++)
        served += command_told(l, i) != NULL;
    if (same_word(what, lit("count"))) {
        request_say_number(r, ':', served);
        return true;
    }
    request_say_number(r, '*', served);
    for (uint32_t i = 0; i < rows; i++) {
        const struct command *c = command_told(l, i);
        if (c != NULL && list)
            request_say_bulk(r, name_lower(nut_command_name(l, c), small));
        else if (c != NULL)
            say_command(r, c);
    }
    return true;
}

/* The row of a word such as "get" or "client|id"; NULL: it is not served. */
static const struct command *command_named(const struct lexicon *l, struct bytes word)
{
    const struct command *c = nut_command_find(l, word);
    return c != NULL && command_is_served(c) ? c : NULL;
}

/* The keys of a command that stands behind COMMAND GETKEYS. */
static bool here_getkeys(struct request *r, const struct frame *f)
{
    const struct lexicon *l = r->pool->lexicon;
    struct frame g = *f;
    struct keyset ks = {0};
    g.argv += 2;
    g.argc -= 2;
    const struct command *c = nut_command_find(l, frame_arg(&g, 0));
    if (c != NULL && c->way == SUBS && g.argc > 1)
        c = command_sub(l, c, frame_arg(&g, 1));
    const char *refusal = c != NULL && command_fits(c, g.argc) ? nut_command_keys(c, &g, &ks) : NULL;
    if (c == NULL)
        request_say(r, lit("-ERR Invalid command specified\r\n"));
    else if (!command_fits(c, g.argc) || refusal != NULL)
        request_say(r, lit("-ERR Invalid number of arguments specified for command\r\n"));
    else if (c->keys >= WORD1 || c->keys == NONE)
        request_say(r, lit("-ERR The command has no key arguments\r\n"));
    else {
        request_say_number(r, '*', ks.n + (ks.also > 0));
        if (ks.also > 0 && ks.also < ks.first)
            request_say_bulk(r, frame_arg(&g, ks.also));
        for (uint32_t i = 0; i < ks.n; i++)
            request_say_bulk(r, frame_arg(&g, ks.first + i * ks.step));
        if (ks.also > ks.first)
            request_say_bulk(r, frame_arg(&g, ks.also));
    }
    return true;
}

static bool here_command(struct request *r, const struct frame *f)
{
    const struct lexicon *l = r->pool->lexicon;
    if (f->argc < 3)
        return say_commands(r, f->argc == 1 ? lit("") : frame_arg(f, 1));
    if (same_word(frame_arg(f, 1), lit("list"))) {
        request_say(r, lit("-ERR COMMAND LIST is served by this proxy without FILTERBY\r\n"));
        return true;
    }
    if (f->argc > NAMES_MOST) {
        request_say(r, lit(TOO_MANY_NAMES));
        return true;
    }
    request_say_number(r, '*', f->argc - 2);
    for (uint32_t i = 2; i < f->argc; i++) {
        const struct command *c = command_named(l, frame_arg(f, i));
        if (c != NULL)
            say_command(r, c);
        else
            request_say(r, r->resp3 ? lit("_\r\n") : lit("*-1\r\n"));
    }
    return true;
}

/* What answers; false: it has asked servers. */
#define HERES(_) \
/*     command             as       answer                */ \
    _( "AUTH",             AUTH,     here_auth            ) \
    _( "CLIENT|GETNAME",   GETNAME,  here_client_getname  ) \
    _( "CLIENT|GETREDIR",  GETREDIR, here_client_getredir ) \
    _( "CLIENT|ID",        ID,       here_client_id       ) \
    _( "CLIENT|INFO",      SELF,     here_client_info     ) \
    _( "CLIENT|LIST",      CLIENTS,  here_client_list     ) \
    _( "CLIENT|NO-EVICT",  NO_EVICT, here_client_no       ) \
    _( "CLIENT|NO-TOUCH",  NO_TOUCH, here_client_no       ) \
    _( "CLIENT|REPLY",     REPLY,    here_client_reply    ) \
    _( "CLIENT|SETINFO",   SETINFO,  here_client_setinfo  ) \
    _( "CLIENT|SETNAME",   SETNAME,  here_client_setname  ) \
    _( "COMMAND",          COMMAND,  here_command         ) \
    _( "COMMAND|COUNT",    COUNT,    here_command         ) \
    _( "COMMAND|GETKEYS",  GETKEYS,  here_getkeys         ) \
    _( "COMMAND|INFO",     ROWS,     here_command         ) \
    _( "COMMAND|LIST",     NAMES,    here_command         ) \
    _( "CONFIG|GET",       CONFIG,   here_config_get      ) \
    _( "ECHO",             ECHO,     here_echo            ) \
    _( "HELLO",            HELLO,    here_hello           ) \
    _( "INFO",             INFO,     here_info            ) \
    _( "PING",             PING,     here_ping            ) \
    _( "QUIT",             QUIT,     here_quit            ) \
    _( "RESET",            RESET,    here_reset           ) \
    _( "SCAN",             SCAN,     here_scan            ) \
    _( "SELECT",           SELECT,   here_select          ) \
    _( "TIME",             TIME,     here_time            )

static const char here_names[] =
#define ROW(name, as, answer) name "\0"
    HERES(ROW) "";
#undef ROW

enum here {
#define ROW(name, as, answer) HERE_##as,
    HERES(ROW)
#undef ROW
};

/* Answer a request, or ask for what the answer is made of: false. */
static bool request_here(struct request *r, const struct frame *f, const struct command *c)
{
    const struct lexicon *l = r->pool->lexicon;
    size_t which = text_find(here_names, nut_command_name(l, command_original(l, c)));
    must(which != NO_TEXT);
    switch ((enum here)which) {
#define ROW(name, as, answer) case HERE_##as: return answer(r, f);
    HERES(ROW)
#undef ROW
    }
    return true;
}

/* Whether a client that has not given its password may ask for this. */
static bool command_is_greeting(const struct lexicon *l, const struct command *c)
{
    const struct command *original = command_original(l, c);
    return original != NULL &&
           text_find("AUTH\0HELLO\0QUIT\0RESET\0", nut_command_name(l, original)) != NO_TEXT;
}

#define MULTI_GRACE_MS 1000

/* A MULTI is refused, and what the client has sent behind it, believing in it, must
 * not be carried out one by one: until EXEC or DISCARD, or until it must have seen
 * the refusal, what may write is refused, too.  Whether this is. */
static bool request_is_in_multi(struct request *r, const struct command *c)
{
    struct client *client = r->client;
    uint32_t now = (uint32_t)r->pool->loop->now;    /* it may wrap */
    const struct lexicon *l = r->pool->lexicon;
    const struct command *original = command_original(l, c);
    struct bytes name = original == NULL ? lit("") : nut_command_name(l, original);
    char small[NAME_MOST];
    if (bytes_same(name, lit("MULTI"))) {
        client->in_multi = true;
        client->since = now;
        return false;
    }
    if (!client->in_multi)
        return false;
    bool seen = client->requests == 1 && now - client->since > MULTI_GRACE_MS;  /* only this one is open */
    if (seen || bytes_same(name, lit("DISCARD"))) {
        client->in_multi = false;
    } else if (bytes_same(name, lit("EXEC"))) {
        client->in_multi = false;
        request_say(r, lit("-EXECABORT Transaction discarded: MULTI is not served by this proxy\r\n"));
        return true;
    } else if (c->way < HERE && c->access != READ) {
        request_refuse(r, lit("-ERR command"), name_lower(nut_command_name(l, c), small),
                       lit(" was not executed: it stands behind a MULTI, which is not served by this proxy\r\n"));
        return true;
    }
    return false;
}
/* } 15 */

/* ===========================================================================
 * 16. CLIENT                                                               {
 *    gives    pool_listen, pool_timers, pool_retire, pool_close, worker_host
 *    needs    1-15
 *    never    calls read or write; never touches bytes that WIRE can touch
 *
 * A client's bytes become requests, and each request finds its servers.
 * ======================================================================== */

/* ---- routing */

#define PLACEHOLDER "placeholder"           /* twemproxy's key for what has none */

/* All keys must be on one server: which.  NUT_NOBODY: they are not, or all
 * servers are out, and the reply says so. */
static uint32_t request_one_server(struct request *r, const struct frame *f, struct keyset ks,
                                   const struct command *c)
{
    struct pool *pool = r->pool;
    if (ks.n == 0 && ks.also == 0)
        return pool_pick(pool, lit(PLACEHOLDER));
    uint32_t server = pool_pick(pool, quick_arg(f, ks.n > 0 ? ks.first : ks.also));
    bool same = true;
    if (server != NUT_NOBODY && pool->ring.spread != RANDOM) {
        for (uint32_t k = 1; k < ks.n && same; k++)
            same = pool_pick(pool, quick_arg(f, ks.first + k * ks.step)) == server;
        if (same && ks.n > 0 && ks.also > 0)
            same = pool_pick(pool, frame_arg(f, ks.also)) == server;
    }
    if (same)
        return server;
    char small[NAME_MOST];
    request_refuse(r, lit("-CROSSSLOT keys of"), name_lower(nut_command_name(pool->lexicon, c), small),
                   lit(" are on different servers\r\n"));
    return NUT_NOBODY;
}

static void request_nobody(struct request *r)
{
    if (r->reply.len == 0 && !request_is_refused(r)) {
        r->fault = fault_of(ECONNREFUSED, true);
        r->pool->stats.forward_error++;
    }
    request_close_part(r);
}

/* Send a request on its way to the servers of its keys. */
static void request_route(struct request *r, const struct frame *f, struct block *block,
                          struct keyset ks, const struct command *c)
{
    uint32_t server;
    char room[NUT_KEY_MAX];
    if (ks.n > 1 && (c == NULL || c->way == EACH)) {
        bool dealt = request_deal(r, f, ks);
        if (dealt && (r->parts > 1 || c == NULL)) {
            request_ask_each(r, f, block, ks);
            return;
        }
        server = dealt ? (uint32_t)(r->part->server - r->pool->server) : NUT_NOBODY;
        request_undeal(r);
    } else if (c != NULL) {
        server = request_one_server(r, f, ks, c);
    } else {
        server = pool_pick(r->pool, ks.n > 0 ? mc_key(f, room) : lit(PLACEHOLDER));
        if (ks.n == 0 && server != NUT_NOBODY && r->pool->server[server].down)
            server = pool_anybody(r->pool, false);          /* the version, which any can tell */
    }
    if (server == NUT_NOBODY)
        request_nobody(r);
    else
        request_ask_one(r, f, block, server);
}

#define SCRIPT_MOST (64u << 10)             /* bytes of a script that is shared */

/* A server knows a script by its digest when it has seen it, and clients that have sent it
 * once, for one key, go on with the digest, for others.  So what EVAL brings is loaded on
 * all servers but the one that is `asked`, unless that was done: nobody waits for it.  Who makes a new
 * script for each EVAL has them on one server, as the first 64 are enough for others. */
static void script_share(struct client *c, const struct frame *f, uint32_t asked)
{
    struct pool *pool = c->pool;
    struct mem *m = &pool->loop->mem;
    struct bytes word = resp_raw_words(f, 1, 1), name = command_called(pool->lexicon, lit("SCRIPT"));
    const struct command *load = nut_command_find(pool->lexicon, lit("SCRIPT|LOAD"));
    uint64_t check = check_whole(frame_arg(f, 1));
    char head[NUT_NAME_MAX + 40];
    size_t i = 0, len = text_in(head, sizeof head, "*3\r\n$%u\r\n%.*s\r\n$4\r\nLOAD\r\n", (unsigned)name.len,
                                (int)name.len, name.at);
    while (i < countof(pool->script) && pool->script[i] != 0 && pool->script[i] != check)
        i++;
    if (pool->servers == 1 || i == countof(pool->script) || pool->script[i] == check || word.len > SCRIPT_MOST ||
        load == NULL || load->way != ALL)
        return;
    struct block *question = block_take(m, len + word.len);
    struct request *r = question == NULL ? NULL : request_new(c);
    if (r != NULL) {
        copy(question->bytes, (struct bytes){head, len});
        copy(question->bytes + len, word);
        question->fill = (uint32_t)(len + word.len);            /* <= cap */
        r->tell = TELL_NOBODY;
        r->open++;                          /* until we have left it */
        request_ask_all(r, (struct bytes){question->bytes, question->fill}, question, true, asked);
        request_leave(r);
        request_close_part(r);
        for (i = 0; pool->script[i] != 0; )
            i++;                            /* connecting may have emptied it */
        pool->script[i] = check;
    }
    if (question != NULL)
        block_drop(m, question);
}

static bool command_is_eval(const struct lexicon *l, const struct command *c)
{
    const struct command *original = command_original(l, c);
    struct bytes name = original == NULL ? lit("") : nut_command_name(l, original);
    return bytes_same(name, lit("EVAL")) || bytes_same(name, lit("EVAL_RO"));
}

/* A command that is known, with as many words as it takes: pass it on, or refuse it. */
static void request_ask_redis(struct request *r, const struct frame *f, struct block *block, const struct command *c)
{
    struct keyset ks;
    const char *refusal = nut_command_keys(c, f, &ks);
    if (refusal != NULL) {
        r->literal = bytes_of(refusal);
        request_close_part(r);
        return;
    }
    r->merge = (enum merge)c->merge;
    r->writes = c->access == WRITE || (c->way == ALL && c->access != READ);
    if (c->keys == COUNT2 && command_is_eval(r->pool->lexicon, c))
        script_share(r->client, f, pool_pick(r->pool, ks.n > 0 ? frame_arg(f, ks.first) : lit(PLACEHOLDER)));
    if (c->way == ALL && c->access == OTHER)
        pool_forget_scripts(r->pool);       /* it may be SCRIPT FLUSH */
    if (c->way == ALL)
        request_ask_all(r, f->text, block, c->access == READ && r->pool->conf->auto_eject_hosts, NUT_NOBODY);
    else
        request_route(r, f, block, ks, c);
}

static void request_begin_redis(struct request *r, const struct frame *f, struct block *block)
{
    const struct lexicon *l = r->pool->lexicon;
    char small[NAME_MOST];
    struct bytes name = quick_arg(f, 0);
    const struct command *known = nut_command_find(l, name), *c = known;
    if (known != NULL && known->way == SUBS && f->argc > 1)
        c = command_sub(l, known, frame_arg(f, 1));
    if (!r->client->known && (known == NULL || !command_is_greeting(l, known))) {
        r->literal = lit("-NOAUTH Authentication required\r\n");
    } else if (known == NULL) {
        request_refuse(r, lit("-ERR unknown command"), name, lit("\r\n"));
    } else if (c == NULL) {
        say_unknown_sub(r, nut_command_name(l, known), frame_arg(f, 1));
    } else if (!command_fits(c, f->argc)) {
        say_arity(r, nut_command_name(l, c));
    } else if ((r->client->in_multi || c->way == SESSION) && request_is_in_multi(r, c)) {
        ;                                   /* it was refused */
    } else if (c->way == HERE || c->way == SUBS) {
        if (!request_here(r, f, c))
            return;
    } else if (!command_is_served(c)) {
        request_refuse_way(r, name_lower(nut_command_name(l, c), small), (enum way)c->way);
    } else {
        request_ask_redis(r, f, block, c);
        return;
    }
    request_close_part(r);
}

/* A client is closed in a second: so long its requests are answered that it will not have
 * served, for some clients wait for ever when they are closed at once. */
static void client_doom(struct client *c)
{
    if (list_linked(&c->doomed))
        return;
    c->since = (uint32_t)c->pool->loop->now;
    list_push(&c->pool->doomed, &c->doomed);
}

/* Each server of the pool, where it is, whether it is asked, and how often it went down, and came back. */
static void say_servers(struct request *r)
{
    const struct pool *pool = r->pool;
    char line[2 * ADDRESS_TEXT], address[ADDRESS_TEXT];
    for (uint32_t i = 0; i < pool->servers; i++) {
        const struct server *s = &pool->server[i];
        size_t len = text_in(line, sizeof line, "STAT %s %s %s %u %u\r\n", s->conf->name,
                             server_address(s->conf, address), s->down ? "down" : "up", s->downs, s->ups);
        request_say(r, (struct bytes){line, len});
    }
    request_say(r, lit("END\r\n"));
}

/* stats: of all servers, of one, or about them. */
static void request_begin_stats(struct request *r, const struct frame *f)
{
    const struct pool *pool = r->pool;
    uint32_t i = 0;
    if (f->argc == 1) {
        r->merge = TOTALS;
        request_ask_all(r, lit("stats\r\n"), NULL, false, NUT_NOBODY);
        return;
    }
    while (f->argc > 2 && i < pool->servers && !bytes_same(frame_arg(f, 2), bytes_of(pool->server[i].conf->name)))
        i++;
    if (f->argc > 2 && i < pool->servers) {
        request_ask_one(r, f, NULL, i);
        return;
    }
    if (f->argc == 2)
        say_servers(r);
    else
        r->literal = lit("CLIENT_ERROR no server has that name: `stats servers` tells them\r\n");
    request_close_part(r);
}

static void request_begin_flush(struct request *r, const struct frame *f)
{
    char line[32];
    if (r->pool->conf->allow.n == 0) {      /* the one word that it can have */
        r->literal = lit("CLIENT_ERROR flush_all is not served by this proxy: it empties all servers,"
                         " which `allow = flush` permits\r\n");
        request_close_part(r);
        return;
    }
    size_t len = text_in(line, sizeof line, "flush_all %lld\r\n", (long long)f->exptime);
    r->merge = ALL_OK;
    r->writes = true;
    request_ask_all(r, (struct bytes){line, len}, NULL, false, NUT_NOBODY);
}

/* What a verb without a server is answered. */
static void request_here_memcached(struct request *r, struct bytes name)
{
    if (name.at[0] == 'q')
        r->client->leaving = r->silent = true;          /* quit has no answer */
    else
        request_say(r, name.at[0] == 'm' ? lit("MN\r\n") : lit("OK\r\n"));
    request_close_part(r);
}

/* Ask the servers of the keys. */
static void request_begin_keys(struct request *r, const struct frame *f, struct block *block)
{
    const struct verb *v = f->verb;
    uint32_t first = verb_first_key(v);
    struct keyset ks = {.first = first, .step = 1,
                        .n = first == 0 ? 0 : verb_is_get(v) ? f->argc - first : 1};
    r->merge = VALUES;
    if (ks.n > 0)
        r->only.check = nut_check(verb_is_meta(v) ? meta_flag(f, 'O') : quick_arg(f, first));
    if (verb_is_meta(v))
        r->only.part = octet(frame_arg(f, 0).at[1]);    /* see mc_meta_line */
    if (verb_is_meta(v) && meta_flag(f, 'q').len > 0) {
        r->merge = frame_arg(f, 0).at[1] == 'g' ? HITS : FAILS;
        r->plain = false;
    }
    if (ks.n > 0 || first == 0) {
        request_route(r, f, block, ks, NULL);
        return;
    }
    request_say(r, lit("END\r\n"));                     /* a gat without keys */
    request_close_part(r);
}

static void request_begin_memcached(struct request *r, const struct frame *f, struct block *block)
{
    r->silent = f->noreply;
    if (f->refusal == BINARY) {
        request_say(r, f->text);
        client_doom(r->client);
        request_close_part(r);
    } else if (f->refusal != NULL) {
        r->literal = bytes_of(f->refusal);
        request_close_part(r);
    } else if (f->verb->way == HERE) {
        request_here_memcached(r, frame_arg(f, 0));
    } else if (f->verb->way == FLUSH) {
        request_begin_flush(r, f);
    } else if (f->verb->way == ALL) {
        request_begin_stats(r, f);
    } else {
        request_begin_keys(r, f, block);
    }
}

/* A request has been read: answer it, or ask who can.  False: no memory. */
static bool request_begin(struct client *c, const struct frame *f, struct block *block)
{
    struct request *r = request_new(c);
    if (r == NULL)
        return false;
    if (f->own != NULL)
        block = f->own;
    if (c->pool->conf->protocol == REDIS)
        request_begin_redis(r, f, block);
    else
        request_begin_memcached(r, f, block);
    return true;
}

/* ---- clients */

/* The client sent what cannot be read: it is told so, behind all it is owed,
 * and then the connection closes. */
static void client_misspoke(struct client *c, const struct frame *f)
{
    struct request *r = request_new(c);
    char who[SOCKET_TEXT];
    c->leaving = true;
    if (!c->counted)
        c->pool->stats.client_err++;
    c->counted = true;
    if (f->why == HTTP_REDIS || f->why == HTTP_MEMCACHED)
        log_of(EVENT_client_http, c->pool->name, NULL, "client %s spoke HTTP: a browser, tricked perhaps",
               socket_text(c->conn.watch.fd, true, who));
    if (r == NULL) {
        c->conn.broken = ENOMEM;
        conn_touch(&c->conn);
        return;
    }
    request_say(r, bytes_of(f->why));
    if (f->odd != 0) {
        request_say(r, (struct bytes){&f->odd, 1});
        request_say(r, lit("'\r\n"));
    }
    request_close_part(r);
}

/* A frame of the client's own, for a request that is not whole: the worker's is
 * for everybody. */
static bool client_keep_frame(struct client *c)
{
    struct worker *w = c->pool->worker;
    c->frame = mem_take(&w->loop.mem, sizeof *c->frame);
    if (c->frame == NULL) {
        nut_frame_reset(&w->loop.mem, &w->frame);
        return false;
    }
    *c->frame = w->frame;
    w->frame = (struct frame){0};
    return true;
}

static void client_drop_frame(struct client *c)
{
    struct mem *m = &c->pool->loop->mem;
    if (c->frame == NULL)
        return;
    nut_frame_free(m, c->frame);
    mem_give(m, c->frame, sizeof *c->frame);
    c->frame = NULL;
}

#define STRANGER_WORDS 10u                  /* as Redis: who has not given the password ... */
#define STRANGER_BYTES 16384u               /* ... keeps no memory */

/* One request from the front of `in`; how many bytes it was, 0 if it is not
 * whole or cannot be read. */
static size_t client_take(struct client *c, struct bytes in)
{
    struct worker *w = c->pool->worker;
    struct mem *m = &w->loop.mem;
    struct frame *f = c->frame != NULL ? c->frame : &w->frame;
    enum scan got = c->pool->conf->protocol == REDIS ? nut_resp_request(m, f, in)
                                                     : nut_mc_request(m, f, in);
    bool memory = true;
    if (got != SCAN_BAD && most_of(f->total, f->pos) > (uint64_t)c->pool->conf->max_request)
        got = frame_bad(f, c->pool->conf->protocol == REDIS ? "-ERR Protocol error: request is too large\r\n"
                                                            : "SERVER_ERROR request is too large\r\n");
    if (got != SCAN_BAD && !c->known && (f->want > STRANGER_WORDS || most_of(f->total, f->pos) > STRANGER_BYTES))
        got = frame_bad(f, f->want > STRANGER_WORDS ? "-ERR Protocol error: unauthenticated multibulk length\r\n"
                                                    : "-ERR Protocol error: unauthenticated bulk length\r\n");
    size_t used = got == SCAN_DONE ? f->pos : 0;
    c->conn.hope = got == SCAN_MORE ? f->total : 0;
    if (got == SCAN_MORE) {
        memory = c->frame != NULL || client_keep_frame(c);
    } else {
        if (got == SCAN_BAD)
            client_misspoke(c, f);
        else if (f->argc > 0 || f->refusal != NULL)
            memory = request_begin(c, f, c->conn.kept);
        client_drop_frame(c);
        if (w->frame.cap > FRAME_KEPT)
            nut_frame_free(m, &w->frame);
        else
            nut_frame_reset(m, &w->frame);
    }
    if (!memory) {
        c->conn.broken = ENOMEM;
        conn_touch(&c->conn);
    }
    return used;
}

static size_t client_bytes(struct conn *conn, struct bytes in)
{
    struct client *c = container_of(conn, struct client, conn);
    size_t used = 0;
    while (used < in.len && !c->leaving && conn->broken == 0) {
        if (!client_may_ask(c) || conn->out.len > OUT_MARK) {
            conn_pause(conn, conn->out.len > OUT_MARK ? PAUSE_OUT : PAUSE_OWNER);
            return used;
        }
        size_t n = client_take(c, bytes_from(in, used));
        if (n == 0)
            break;
        used += n;
    }
    return c->leaving || conn->broken != 0 ? in.len : used;
}

/* One client less, in all. */
static void pool_count_out(struct pool *pool)
{
    atomic_fetch_sub(&pool->crowd->clients, 1);
    atomic_fetch_sub(pool->worker->everybody, 1);
}

/* It is gone for us: its open requests finish in silence. */
static void client_close(struct client *c)
{
    struct request *r;
    while ((r = client_oldest(c)) != NULL)
        request_leave(r);
    client_drop_frame(c);
    client_forget(c);
    list_cut(&c->in_pool);
    if (list_linked(&c->doomed))
        list_cut(&c->doomed);
    c->pool->stats.client_connections--;
    pool_count_out(c->pool);
    atomic_fetch_sub(&c->pool->worker->clients, 1);
    if (c->pool->door_at != 0)              /* somebody waits for the descriptor */
        c->pool->door_at = c->pool->loop->now;
    conn_close(&c->conn);
}

static void client_gone(struct conn *conn, int why)
{
    struct client *c = container_of(conn, struct client, conn);
    if (!c->counted && why == 0)
        c->pool->stats.client_eof++;
    else if (!c->counted)
        c->pool->stats.client_err++;
    c->counted = true;
    char who[SOCKET_TEXT];
    if (why == ENOBUFS || why == ENOMEM)
        log_of(EVENT_client_closed, c->pool->name, NULL, "client %s was closed: %s",
               socket_text(conn->watch.fd, true, who),
               why == ENOMEM ? "memory is short" : "it left more than client_output_limit unread");
    if (why == 0 && (c->requests > 0 || conn->out.len > 0)) {
        conn_touch(conn);                   /* it only sends no more: it gets its replies */
        if (c->requests == 0)
            conn_finish(conn);
        return;
    }
    client_close(c);
}

static const struct role client_role = {client_bytes, client_gone, false};

#define DOOR_SHUT_MS 100                    /* without descriptors, accept is tried again so soon */

/* There was no descriptor or no memory for a client: the rest waits outside. */
static void pool_shut_door(struct pool *pool, int why)
{
    if (pool->loop->now >= pool->door_told + 10000 || pool->door_told == 0) {
        log_of(EVENT_accept_failed, pool->name, NULL, "accept: %s", strerror(why));
        pool->door_told = pool->loop->now;
    }
    if (watch_for(&pool->door, 0))
        pool->door_at = pool->loop->now + DOOR_SHUT_MS;
}

static void pool_refuse(struct pool *pool, int fd, const char *why)
{
    struct bytes text = pool->conf->protocol == REDIS ? lit("-ERR max number of clients reached\r\n")
                                                      : lit("SERVER_ERROR too many open connections\r\n");
    char who[SOCKET_TEXT];
    log_of(EVENT_client_refused, pool->name, NULL, "client %s was refused: %s", socket_text(fd, true, who), why);
    (void)!send(fd, text.at, text.len, MSG_NOSIGNAL);
    close(fd);
}

/* Make a client of a connection, which is counted; NULL: no memory, and it is closed,
 * and counted no more. */
static struct client *pool_welcome(struct pool *pool, int fd)
{
    struct client *c = mem_zero(&pool->loop->mem, sizeof *c);
    if (c == NULL)
        close(fd);
    if (c == NULL || !conn_open(&c->conn, sizeof *c, pool->loop, fd, &client_role)) {   /* owns fd now */
        mem_give(&pool->loop->mem, c, sizeof *c);
        pool_count_out(pool);
        atomic_fetch_sub(&pool->worker->clients, 1);
        return NULL;
    }
    c->pool = pool;
    c->number = pool->numbered++;
    client_expect(c, USUAL_FIRST);
    c->known = pool->conf->redis_auth == NULL;
    list_init(&c->waiting);
    list_push(&pool->clients, &c->in_pool);
    pool->stats.client_connections++;
    pool->worker->accepted++;
    return c;
}

/* Who takes the next client: the worker with the fewest, unless we have hardly more.
 * The kernel deals connections out by their addresses, which comes out uneven. */
static struct worker *worker_for_client(struct worker *w)
{
    struct worker *least = w;
    uint32_t fewest = atomic_load_explicit(&w->clients, memory_order_relaxed), ours = fewest;
    for (uint32_t i = 0; i < w->crew_size; i++) {
        uint32_t n = atomic_load_explicit(&w->crew[i].clients, memory_order_relaxed);
        if (n < fewest) {
            fewest = n;
            least = &w->crew[i];
        }
    }
    return ours - fewest <= fewest / 16 ? w : least;
}

/* Send a connection, which is counted, to another worker; false: no memory. */
static bool pool_send_guest(struct pool *pool, struct worker *host, int fd)
{
    struct worker *w = pool->worker;
    struct guest_letter *guest = mem_take(&w->loop.mem, sizeof *guest);
    if (guest == NULL)
        return false;
    *guest = (struct guest_letter){.letter = {.kind = LETTER_GUEST, .back = &w->box}, .home = pool,
                                   .setup = pool->setup, .conf = pool->conf, .host = host, .fd = fd};
    pool->guests++;
    atomic_fetch_add(&pool->setup->users, 1);
    mailbox_post(&host->box, &guest->letter);
    return true;
}

/* Count a client in, unless there are too many, which it is told. */
static bool pool_admit(struct pool *pool, int fd)
{
    int64_t most = pool->conf->client_connections, of_all = pool->worker->setup->conf.process.max_clients;
    const char *why = fd >= pool->worker->setup->fd_most    /* the lowest free number: so many are open */
                    ? "the other descriptors are for servers" : NULL;
    if (atomic_fetch_add(&pool->crowd->clients, 1) >= (most > 0 ? most : INT64_MAX))
        why = "client_connections is reached";
    if (atomic_fetch_add(pool->worker->everybody, 1) >= (of_all > 0 ? of_all : INT64_MAX))
        why = "max_clients is reached";
    if (why == NULL)
        return true;
    pool_count_out(pool);
    pool_refuse(pool, fd, why);
    return false;
}

/* A connection has come in at our door. */
static void pool_accept(struct pool *pool, int fd)
{
    struct worker *host = worker_for_client(pool->worker);
    if (!pool_admit(pool, fd))
        return;
    atomic_fetch_add(&host->clients, 1);
    if (host == pool->worker || !pool_send_guest(pool, host, fd)) {
        atomic_fetch_sub(&host->clients, 1);
        atomic_fetch_add(&pool->worker->clients, 1);
        pool_welcome(pool, fd);
    }
}

/* A guest has come, and is let in, unless he comes in the middle of a change. */
static void worker_host(struct worker *w, struct guest_letter *guest)
{
    for (uint32_t i = 0; !w->stopping && w->setup == guest->setup && i < w->pools; i++)
        if (w->pool[i]->conf == guest->conf) {
            pool_welcome(w->pool[i], guest->fd);
            guest->fd = -1;
            break;
        }
    mailbox_post(guest->letter.back, &guest->letter);
}

/* The letter with a guest is back.  He who was not let in stays with us. */
static void worker_guest_back(struct worker *w, struct guest_letter *guest)
{
    struct pool *home = guest->home;
    if (guest->fd != -1) {
        atomic_fetch_sub(&guest->host->clients, 1);
        atomic_fetch_add(&w->clients, 1);
        struct client *c = pool_welcome(home, guest->fd);
        if (c != NULL)
            client_move(c);
    }
    home->guests--;
    atomic_fetch_sub(&guest->setup->users, 1);
    mem_give(&w->loop.mem, guest, sizeof *guest);
}

static int spare_open(void) { return open("/", O_PATH | O_CLOEXEC); }

/* There is no descriptor for who waits at the door: the spare one is given up for him to be told so.
 * False: there is none, or nobody waits. */
static bool pool_turn_away(struct pool *pool)
{
    struct worker *w = pool->worker;
    if (w->spare == -1)
        return false;
    close(w->spare);
    int fd = accept4(pool->door.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd != -1)
        pool_refuse(pool, fd, "there is no descriptor for it");
    w->spare = spare_open();
    return fd != -1;
}

static void pool_door(struct watch *w, uint32_t sees)
{
    struct pool *pool = container_of(w, struct pool, door);
    (void)sees;
    for (int i = 0; i < 64; i++) {          /* then the others have a turn */
        int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd != -1) {
            pool_accept(pool, fd);
            continue;
        }
        int why = errno;
        if ((why == EMFILE || why == ENFILE) && pool_turn_away(pool))
            continue;
        if (why == EINTR || why == ECONNABORTED)
            continue;
        if (why != EAGAIN)                  /* whatever it is: asked at once it would be so again */
            pool_shut_door(pool, why);
        return;
    }
}

/* Let clients in through a socket that listens; if memory is short, a little later. */
static void pool_listen(struct pool *pool, int fd)
{
    pool->door = (struct watch){.ready = pool_door, .loop = pool->loop, .fd = fd};
    socket_tune(fd, pool->conf);
    pool->worker->accepted++;
    if (!watch_for(&pool->door, SEES_IN))
        pool->door_at = pool->loop->now + DOOR_SHUT_MS;
}

/* Let nobody in any more. */
static void pool_lock(struct pool *pool)
{
    if (pool->door.want != 0)
        must(watch_for(&pool->door, 0));
    pool->door_at = 0;
}

/* The configuration has this pool no more.  `heir` takes its clients; NULL: there
 * is none, and they are closed when they have their replies. */
static void pool_retire(struct pool *pool, struct pool *heir)
{
    struct pool *namesake = pool_namesake(pool);
    pool_lock(pool);
    pool->retired = true;
    pool->retired_at = pool->loop->now;
    pool->heir = heir;
    pool->resolve_at = 0;                   /* those who come after it look names up */
    pool_pass_on(pool);
    if (namesake != NULL)
        pool_learn(namesake, pool);
    if (heir != NULL && heir != namesake)
        pool_learn(heir, pool);
    if (heir != NULL)
        heir->numbered = pool->numbered;
    while (!list_empty(&pool->down)) {      /* those who come after it probe */
        struct server *s = container_of(pool->down.next, struct server, in_down);
        list_cut(&s->in_down);
        probe_close(s);
    }
    for (struct link *at = pool->clients.next, *next; at != &pool->clients; at = next) {
        next = at->next;
        client_move(container_of(at, struct client, in_pool));
    }
}

#define RETIRED_MOST_MS 10000               /* for replies that nobody waits for any more */

/* A retired pool hangs up where it owes nothing.  Without clients, and with nothing
 * owed, it is freed a turn later, when its conns are buried. */
static void pool_fade(struct pool *pool)
{
    if (pool->shut) {
        pool_free(pool);
        return;
    }
    pool_hang_up(pool);
    if (!list_empty(&pool->clients))
        return;
    for (uint32_t i = 0; pool->loop->now >= pool->retired_at + RETIRED_MOST_MS && i < pool->servers; i++)
        for (uint32_t n = 0; n < pool_lanes(pool); n++)
            if (lane_is_open(&pool->server[i].lane[n]))
                lane_lost(&pool->server[i].lane[n], WHY_CLOSED);
    if (pool->open > 0 || pool->guests > 0 || pool_is_asking(pool) || pool_is_telling(pool))
        return;
    pool_pass_on(pool);
    pool->shut = true;
}

#define DOOM_MS 1000

/* How long the first doomed client of a pool still has, in ms. */
static uint32_t pool_doom(const struct pool *pool)
{
    uint32_t passed = (uint32_t)pool->loop->now - container_of(pool->doomed.next, struct client, doomed)->since;
    return passed < DOOM_MS ? DOOM_MS - passed : 0;
}

/* When a pool must be looked at, retired or not; UINT64_MAX: never. */
static uint64_t pool_next(const struct pool *pool)
{
    uint64_t due = pool_due(pool);
    if (!list_empty(&pool->doomed) && pool->loop->now + pool_doom(pool) < due)
        due = pool->loop->now + pool_doom(pool);
    if (pool->conf->client_idle_timeout > 0 && !list_empty(&pool->clients))
        due = least_of(due, pool->idle_at);
    if (pool->shut)
        return pool->loop->now;
    if (pool->retired && list_empty(&pool->clients) && pool->retired_at + RETIRED_MOST_MS < due)
        due = pool->retired_at + RETIRED_MOST_MS;
    return due;
}

/* Connect to all servers; who cannot be reached is found out by then. */
static void pool_preconnect(struct pool *pool)
{
    for (uint32_t i = 0; i < pool->servers; i++)
        for (uint32_t n = 0; n < (uint32_t)pool->conf->server_connections; n++) {
            int why;
            (void)server_lane(&pool->server[i], n, false, &lane_role, &why);
        }
}

/* ---- time */

/* A part's time is up before its lane had a connection: it stands at its front, and is not asked any more. */
static void part_give_up(struct part *p)
{
    struct lane *lane = p->lane;
    int why = lane->waits && p->server->retries > 0 ? p->server->why : ETIMEDOUT;   /* it was tried, and failed */
    must(p == lane->first);
    nut_queue_drop(&p->server->pool->loop->mem, lane_queue(lane), p->len);
    lane_cut(lane);
    part_fail(p, why, true);
}

/* A part's time is up: its client is told.  The others on the lane have their
 * own deadlines; the late reply will be for nobody (2).  When
 * it has not come after as long again, the lane is given up. */
static void part_late(struct part *p)
{
    struct lane *lane = p->lane;
    struct server *s = p->server;
    struct pool *pool = s->pool;
    uint64_t now = pool->loop->now, timeout = (uint64_t)pool->conf->timeout;
    if (!lane_is_met(lane)) {
        part_give_up(p);
        return;
    }
    if (p->overdue) {
        lane_lost(lane, ETIMEDOUT);
        return;
    }
    list_cut(&p->due);
    p->overdue = true;
    p->due_at = now + timeout;
    list_push(&pool->due, &p->due);
    if (!p->answered)                       /* if it is not written yet, it will be */
        part_end(p, fault_of(ETIMEDOUT, false));
    if (s->late_at != 0 && now < s->late_at + timeout)
        return;                             /* many wait for one slow reply: it counts once */
    s->late_at = now;
    s->stats.server_timedout++;
    log_of(EVENT_server_late, pool->name, s->conf, "did not answer within %lld ms", (long long)timeout);
    if (!server_failed(s, ETIMEDOUT))
        return;
    for (uint32_t i = 0; i < pool_lanes(pool); i++)
        if (s->lane[i].first != NULL && s->lane[i].first->overdue)
            lane_lost(&s->lane[i], ETIMEDOUT);
}

/* Those who wait for a server go on, or are told. */
static void server_go_on(struct server *s, int why)
{
    if (list_linked(&s->in_retry))
        list_cut(&s->in_retry);
    for (uint32_t i = 0; i <= pool_lanes(s->pool); i++) {
        struct lane *lane = i < pool_lanes(s->pool) ? &s->lane[i] : &s->probe;
        if (!lane->waits)
            continue;
        int wrong = s->down && lane != &s->probe ? s->why : why != 0 ? why : lane_open(lane, &lane_role);
        if (wrong != 0)
            lane_lost(lane, wrong);
    }
}

/* Connections that take too long are given up, and who waits to connect tries again. */
static void pool_connects(struct pool *pool)
{
    while (!list_empty(&pool->connecting)) {
        struct lane *lane = container_of(pool->connecting.next, struct lane, due);
        if (lane->due_at > pool->loop->now)
            break;
        if (lane_is_met(lane))
            lane_met(lane);
        else
            lane_lost(lane, ETIMEDOUT);
    }
    for (struct link *at = pool->retry.next, *next; at != &pool->retry; at = next) {
        struct server *s = container_of(at, struct server, in_retry);
        next = at->next;
        if (s->wake_at <= pool->loop->now)
            server_go_on(s, 0);
    }
}

/* Look the names of all servers up, at the start and now and then. */
static void pool_resolve(struct pool *pool)
{
    if (pool->resolve_at == 0 || pool->resolve_at > pool->loop->now)
        return;
    bool any = false;
    for (uint32_t i = 0; i < pool->servers; i++) {
        any = any || pool->server[i].is_name;
        server_resolve(&pool->server[i]);
    }
    uint64_t interval = (uint64_t)pool->conf->resolve_interval;
    pool->resolve_at = any && interval > 0 ? pool->loop->now + interval : 0;
}

/* Close clients that wait for nothing, and neither send nor take anything for too long. */
static void pool_idle(struct pool *pool)
{
    uint64_t now = pool->loop->now, timeout = (uint64_t)pool->conf->client_idle_timeout;
    char who[SOCKET_TEXT];
    if (timeout == 0 || now < pool->idle_at)
        return;
    pool->idle_at = now + timeout / 8 + 1;
    for (struct link *at = pool->clients.next, *next; at != &pool->clients; at = next) {
        struct client *c = container_of(at, struct client, in_pool);
        next = at->next;
        bool busy = c->requests > 0 || list_linked(&c->conn.todo);      /* it is written to in this turn */
        if (busy || now - c->conn.moved_at < timeout)
            continue;
        log_of(EVENT_client_idle, pool->name, NULL, "client %s was closed: it was idle",
               socket_text(c->conn.watch.fd, true, who));
        client_close(c);
    }
}

/* Do what is due by now. */
static void pool_timers(struct pool *pool)
{
    while (!list_empty(&pool->due)) {
        struct part *p = container_of(pool->due.next, struct part, due);
        if (p->due_at > pool->loop->now)
            break;
        part_late(p);
    }
    while (!list_empty(&pool->doomed) && pool_doom(pool) == 0) {
        struct client *c = container_of(pool->doomed.next, struct client, doomed);
        client_close(c);
    }
    pool_connects(pool);
    pool_idle(pool);
    if (!pool->retired) {
        pool_resolve(pool);
        pool_probe(pool, &lane_role);
    }
    if (pool->door_at != 0 && pool->door_at <= pool->loop->now) {
        pool->door_at = 0;
        if (pool->worker->spare == -1)
            pool->worker->spare = spare_open();
        if (!watch_for(&pool->door, SEES_IN))
            pool->door_at = pool->loop->now + DOOR_SHUT_MS;
    }
}

/* The address that is in use is none of the server's any more: its connections are left as
 * soon as they owe nothing for what was written. */
static void server_leave(struct server *s)
{
    for (uint32_t i = 0; i < pool_lanes(s->pool); i++) {
        struct lane *lane = &s->lane[i];
        lane->moving = lane_is_met(lane);
        if (lane->conn != NULL && (lane->first == NULL || lane->first->at >= lane_wrote(lane)))
            lane_move(lane);
    }
}

/* Which of the addresses of a server's name is the one in use; as many as there are: none. */
static uint32_t server_place(const struct server *s, const struct places *now)
{
    uint32_t i = 0;
    while (i < now->n && !(s->known && place_same(&now->at[i], &s->places.at[s->place])))
        i++;
    return i;
}

/* Whether this worker is to log what all of them find out. */
static bool server_logs_names(const struct server *s)
{
    return s->pool->worker->number == 0 || s->pool->conf->resolve_interval == 0;
}

/* Its name stands for these addresses now. */
static void server_moves(struct server *s, const struct places *now)
{
    uint32_t place = server_place(s, now);
    bool known = s->known, moved = known && place == now->n;
    char text[SOCKET_TEXT];
    s->places = *now;
    s->place = place == now->n ? 0 : place;
    s->turn += place == now->n;
    s->known = true;
    s->kept = false;
    if (place < now->n)
        return;
    const struct in6_addr *at = &now->at[0].is;
    address_of(&s->address, &now->at[0], s->conf->port);
    if (!moved)
        return;
    server_is_well(s);
    inet6_text(at, text, sizeof text);
    if (server_logs_names(s))
        log_of(EVENT_server_moved, s->pool->name, s->conf, "is at another address: %s",
               text + (IN6_IS_ADDR_V4MAPPED(at) ? strlen("::ffff:") : 0));
    s->probe_at = s->pool->loop->now;       /* if it is down: there it may be up */
    server_leave(s);
}

/* A name was looked up: those who waited for it go on, or are told.  Without an answer the
 * last one is kept. */
static void server_named(struct server *s)
{
    bool waited = s->probe.waits;
    int why = 0;
    s->asked = false;
    for (uint32_t i = 0; i < pool_lanes(s->pool); i++)
        waited = waited || s->lane[i].waits;
    if (s->name.lookup.places.n > 0) {
        server_moves(s, &s->name.lookup.places);
    } else if (s->known) {
        if (!s->kept && server_logs_names(s))
            log_of(EVENT_server_unknown, s->pool->name, s->conf, "keeps its address: '%s' is not resolved any more",
                   s->conf->host);
        s->kept = true;
    } else {
        why = EHOSTDOWN;
        if (!s->down)                       /* told once, not with each probe */
            log_of(EVENT_server_unknown, s->pool->name, s->conf, "has no address: '%s' is not resolved", s->conf->host);
        if (waited && !s->down) {
            server_count_loss(s, why);
            server_failed(s, why);
        }
    }
    server_go_on(s, why);
}

/* Close what a pool has open.  Requests that are still under way are answered,
 * and what the clients take at once is written. */
static void pool_close(struct pool *pool)
{
    pool_lock(pool);
    for (uint32_t i = 0; i < pool->servers; i++) {
        struct server *s = &pool->server[i];
        if (list_linked(&s->in_down))
            list_cut(&s->in_down);
        s->down = true;                     /* nobody is asked any more */
        for (uint32_t n = 0; n < pool_lanes(pool); n++)
            if (lane_is_open(&s->lane[n]))
                lane_lost(&s->lane[n], WHY_CLOSED);
        probe_close(s);
    }
    loop_settle(pool->loop);
    while (!list_empty(&pool->clients))
        client_close(container_of(pool->clients.next, struct client, in_pool));
    loop_settle(pool->loop);
}
/* } 16 */

/* ===========================================================================
 * 17. ADMIN                                                                {
 *    gives    struct snapshot, worker_count, struct admin, admin_open
 *    needs    1, 2, 6-16
 *    never    is on a request's path: without this room there is still a proxy
 *
 * The stats port is served by the control thread.  It asks each worker for a
 * copy of its counters, so what it tells is of this moment and of one piece.
 * ======================================================================== */

/* A worker's counters.  The control thread owns it, but while it is on its way. */
struct snapshot {
    struct letter        letter;
    const struct conf   *conf;              /* whose pools it has room for */
    struct pool_stats   *pool;              /* in the order of the configuration */
    struct server_stats *server;            /* of the first pool, of the second ... */
    uint64_t             total, current;    /* connections, clients' and servers' and doors */
};

static bool snapshot_open(struct mem *m, struct snapshot *s, const struct conf *conf)
{
    s->conf = conf;
    s->pool = mem_zero(m, conf->pools * sizeof *s->pool);
    s->server = mem_zero(m, conf_servers(conf) * sizeof *s->server);
    return s->pool != NULL && s->server != NULL;
}

static void snapshot_free(struct mem *m, struct snapshot *s)
{
    mem_give(m, s->pool, s->conf->pools * sizeof *s->pool);
    mem_give(m, s->server, conf_servers(s->conf) * sizeof *s->server);
}

/* The gauges of one lane: what was asked is either not yet written or owed. */
static void lane_count(const struct lane *lane, struct server_stats *s)
{
    uint64_t wrote = lane_wrote(lane);
    if (lane->conn != NULL && !lane->conn->connecting)
        s->server_connections++;
    for (const struct part *p = lane->first; p != NULL; p = p->next) {
        bool out = p->at + p->len <= wrote;
        *(out ? &s->out_queue : &s->in_queue) += 1;
        *(out ? &s->out_queue_bytes : &s->in_queue_bytes) += p->len;
    }
}

/* Count what a retired pool still has open. */
static void worker_count_retired(const struct worker *w, const struct pool *pool, struct snapshot *to)
{
    const struct pool *namesake = pool_namesake(pool);
    for (uint32_t i = 0; i < w->pools; i++)
        if (w->pool[i] == namesake)
            to->pool[i].client_connections += pool->stats.client_connections;
    to->current += pool->stats.client_connections;
    for (uint32_t i = 0; i < pool->servers; i++)
        for (uint32_t n = 0; n < pool_lanes(pool); n++)
            to->current += pool->server[i].lane[n].conn != NULL;
}

/* Copy a worker's counters, and count what is open now. */
static void worker_count(const struct worker *w, struct snapshot *to)
{
    size_t at = 0;
    must(to->conf == &w->setup->conf);
    memset(to->pool, 0, w->pools * sizeof *to->pool);
    to->total = w->accepted;
    to->current = 0;
    for (const struct link *l = w->all.next; l != &w->all; l = l->next) {
        const struct pool *pool = container_of(l, struct pool, in_worker);
        if (pool->retired)
            worker_count_retired(w, pool, to);
    }
    for (uint32_t i = 0; i < w->pools; i++) {
        const struct pool *pool = w->pool[i];
        stats_add(&to->pool[i], &pool->stats, sizeof pool->stats);
        to->current += 1 + pool->stats.client_connections;
        for (uint32_t n = 0; n < pool->servers; n++, at++) {
            const struct server *s = &pool->server[n];
            to->server[at] = s->stats;
            for (uint32_t k = 0; k < pool_lanes(pool); k++) {
                lane_count(&s->lane[k], &to->server[at]);
                to->current += s->lane[k].conn != NULL;
            }
        }
    }
}

/* Add one worker's counters up with another's. */
static void snapshot_add(struct snapshot *sum, const struct snapshot *s)
{
    stats_add(sum->pool, s->pool, s->conf->pools * sizeof *s->pool);
    for (size_t i = 0; i < conf_servers(s->conf); i++)
        server_stats_add(&sum->server[i], &s->server[i]);
    sum->total += s->total;
    sum->current += s->current;
}

/* ---- twemproxy's JSON, with its punctuation */

static void json_name(struct pen *j, struct bytes name)
{
    char escaped[8];
    pen_put(j, lit("\""));
    while (name.len > 0) {
        size_t n = yaml_character(name);
        if (name.at[0] == '"' || name.at[0] == '\\' || octet(name.at[0]) < ' ') {
            text_in(escaped, sizeof escaped, "\\u%04x", octet(name.at[0]));
            pen_put(j, bytes_of(escaped));
        } else {
            pen_put(j, n == 0 ? lit("?") : (struct bytes){name.at, n});     /* what is no UTF-8 is no JSON */
        }
        name = bytes_from(name, n == 0 ? 1 : n);
    }
    pen_put(j, lit("\""));
}

static void json_number(struct pen *j, const char *name, uint64_t n)
{
    char digits[20];
    json_name(j, bytes_of(name));
    pen_put(j, lit(":"));
    pen_put(j, (struct bytes){digits, number_write(digits, n)});
}

static void json_text(struct pen *j, const char *name, const char *text)
{
    json_name(j, bytes_of(name));
    pen_put(j, lit(":"));
    json_name(j, bytes_of(text));
    pen_put(j, lit(", "));
}

/* The numbers of a struct of the ledger, `row` being the texts of its table. */
static void json_counters(struct pen *j, const char *row, const void *stats)
{
    const uint64_t *number = stats;
    for (const char *at = row; *at != '\0'; at = text_nth(at, 2)) {
        if (at != row)
            pen_put(j, lit(", "));
        json_number(j, at, *number++);
    }
}

static void json_pool(struct pen *j, const struct pool_conf *pool, const struct pool_stats *stats,
                      const struct server_stats *server)
{
    json_name(j, bytes_of(pool->name));
    pen_put(j, lit(": {"));
    json_counters(j, pool_stat, stats);
    for (uint32_t i = 0; i < pool->key.servers.n; i++) {
        pen_put(j, i == 0 ? lit(", ") : lit(","));
        json_name(j, bytes_of(pool->key.servers.at[i].name));
        pen_put(j, lit(": {"));
        json_counters(j, server_stat, &server[i]);
        pen_put(j, lit("}"));
    }
    pen_put(j, lit("}"));
}

struct admin {
    struct loop       *loop;
    const struct conf *conf;
    struct mailbox    *box;                 /* of the control thread: snapshots come back to it */
    struct worker     *worker;
    uint32_t           workers;
    struct snapshot   *snapshot;            /* one for each worker, and the sum */
    struct snapshot   *sum;
    uint32_t           away;                /* snapshots that are with their workers */
    bool               held;                /* none are sent: the configuration changes */
    struct link        asked, next, told;   /* who waits for these numbers, for the next, for none */
    uint32_t           conns;               /* in these lists */
    uint64_t           started;             /* wall clock, seconds */
    struct watch       door;
    uint64_t           door_at;             /* the door is shut until then, 0: it is open */
};

/* One who reads the numbers: in `next`, then in `asked`, then in `told`. */
struct admin_conn { struct conn conn; struct admin *admin; struct link in_admin; };

#define ADMIN_CONNS   128                   /* so many at once ... */
#define ADMIN_IDLE_MS 10000                 /* ... and if there are more, who takes nothing for so long is closed */

static void admin_json(struct admin *a, struct pen *j)
{
    const struct server_stats *server = a->sum->server;
    struct utsname u = {0};
    uint64_t now = clock_wall_us() / 1000000;
    uname(&u);
    pen_put(j, lit("{"));
    json_text(j, "service", "nutcracker");  /* what consumers of these numbers look for */
    json_text(j, "source", u.nodename);
    json_text(j, "version", NUT_VERSION);
    json_number(j, "uptime", now - least_of(now, a->started));
    pen_put(j, lit(", "));
    json_number(j, "timestamp", now);
    pen_put(j, lit(", "));
    json_number(j, "total_connections", a->sum->total);
    pen_put(j, lit(", "));
    json_number(j, "curr_connections", a->sum->current);
    for (uint32_t i = 0; i < a->conf->pools; i++) {
        pen_put(j, i == 0 ? lit(", ") : lit(","));
        json_pool(j, &a->conf->pool[i], &a->sum->pool[i], server);
        server += a->conf->pool[i].key.servers.n;
    }
    pen_put(j, lit("}\n"));
}

/* All snapshots are back: tell the sum to those who asked. */
static void admin_tell(struct admin *a)
{
    struct pen j = {.mem = &a->loop->mem, .ok = true};
    memset(a->sum->pool, 0, a->conf->pools * sizeof *a->sum->pool);
    memset(a->sum->server, 0, conf_servers(a->conf) * sizeof *a->sum->server);
    a->sum->total = a->sum->current = 0;
    for (uint32_t i = 0; i < a->workers; i++)
        snapshot_add(a->sum, &a->snapshot[i]);
    admin_json(a, &j);
    while (!list_empty(&a->asked)) {
        struct admin_conn *c = container_of(a->asked.next, struct admin_conn, in_admin);
        list_cut(&c->in_admin);
        list_push(&a->told, &c->in_admin);
        for (const struct piece *p = j.out.first; p != NULL && j.ok; p = p->next)
            j.ok = nut_queue_refer(&a->loop->mem, &c->conn.out, p->block, (struct bytes){p->at, p->len});
        conn_finish(&c->conn);
    }
    nut_queue_free(&a->loop->mem, &j.out);
}

/* Send for the numbers, if somebody waits for them. */
static void admin_ask(struct admin *a)
{
    if (a->away > 0 || a->held || list_empty(&a->next))
        return;
    while (!list_empty(&a->next)) {
        struct link *l = a->next.next;
        list_cut(l);
        list_push(&a->asked, l);
    }
    a->away = a->workers;
    for (uint32_t i = 0; i < a->workers; i++) {
        a->snapshot[i].letter.kind = LETTER_COUNT;
        a->snapshot[i].letter.back = a->box;
        a->worker[i].snapshot = &a->snapshot[i];
        mailbox_post(&a->worker[i].box, &a->snapshot[i].letter);
    }
}

/* Let those who ask wait (`hold`), or go on. */
static void admin_hold(struct admin *a, bool hold)
{
    a->held = hold;
    admin_ask(a);
}

/* A snapshot has come back. */
static void admin_take(struct admin *a)
{
    must(a->away > 0);
    if (--a->away > 0)
        return;
    admin_tell(a);
    admin_ask(a);
}

/* Nothing that is said to the stats port is heard. */
static size_t admin_bytes(struct conn *c, struct bytes in)
{
    (void)c;
    return in.len;
}

static void admin_close(struct admin_conn *c)
{
    c->admin->conns--;
    list_cut(&c->in_admin);
    conn_close(&c->conn);
}

static void admin_gone(struct conn *c, int why)
{
    struct admin_conn *ac = container_of(c, struct admin_conn, conn);
    if (why == 0 && (c->out.len > 0 || !c->finishing))
        return;                             /* it only sends no more */
    admin_close(ac);
}

static const struct role admin_role = {admin_bytes, admin_gone, false};

/* Make room for one more, if there are too many of those who have been told, and take nothing. */
static void admin_room(struct admin *a)
{
    for (struct link *at = a->told.next, *next; a->conns >= ADMIN_CONNS && at != &a->told; at = next) {
        struct admin_conn *c = container_of(at, struct admin_conn, in_admin);
        next = at->next;
        if (a->loop->now - c->conn.moved_at >= ADMIN_IDLE_MS)
            admin_close(c);
    }
}

static void admin_door(struct watch *w, uint32_t sees)
{
    struct admin *a = container_of(w, struct admin, door);
    (void)sees;
    int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd == -1 && errno != EAGAIN && errno != EINTR && watch_for(w, 0))
        a->door_at = a->loop->now + DOOR_SHUT_MS;       /* no descriptor: it would be told again at once */
    admin_room(a);
    struct admin_conn *c = fd == -1 || a->conns >= ADMIN_CONNS ? NULL : mem_zero(&a->loop->mem, sizeof *c);
    if (c == NULL) {
        if (fd != -1)
            close(fd);
        return;
    }
    if (!conn_open(&c->conn, sizeof *c, a->loop, fd, &admin_role)) {    /* owns fd now */
        mem_give(&a->loop->mem, c, sizeof *c);
        return;
    }
    c->admin = a;
    a->conns++;
    list_push(&a->next, &c->in_admin);
    admin_ask(a);
}

/* Open the door again when it is time. */
static void admin_timers(struct admin *a)
{
    if (a->door_at == 0 || a->loop->now < a->door_at)
        return;
    a->door_at = watch_for(&a->door, SEES_IN) ? 0 : a->loop->now + DOOR_SHUT_MS;
}

/* Make room for the counters of a configuration; false: no memory, and it is as
 * before.  No snapshot may be on its way. */
static bool admin_adopt(struct admin *a, const struct conf *conf)
{
    struct mem *m = &a->loop->mem;
    struct snapshot *more = mem_zero(m, (a->workers + 1) * sizeof *more);
    bool ok = more != NULL;
    must(a->away == 0);
    for (uint32_t i = 0; ok && i <= a->workers; i++)
        ok = snapshot_open(m, &more[i], conf);
    struct snapshot *gone = ok ? a->snapshot : more;
    for (uint32_t i = 0; gone != NULL && i <= a->workers; i++)
        if (gone[i].conf != NULL)
            snapshot_free(m, &gone[i]);
    mem_give(m, gone, (a->workers + 1) * sizeof *gone);
    if (ok) {
        a->snapshot = more;
        a->sum = &more[a->workers];
        a->conf = conf;
    }
    return ok;
}

/* Make ready to serve the stats port; `fd` listens on it, -1: it is off. */
static bool admin_open(struct admin *a, const struct conf *conf, int fd)
{
    list_init(&a->asked);
    list_init(&a->next);
    list_init(&a->told);
    a->started = clock_wall_us() / 1000000;
    a->door = (struct watch){.ready = admin_door, .loop = a->loop, .fd = fd};
    return admin_adopt(a, conf) && (fd == -1 || watch_for(&a->door, SEES_IN));
}

static void admin_free(struct admin *a)
{
    struct link *lists[] = {&a->asked, &a->next, &a->told};
    for (size_t i = 0; i < countof(lists); i++)
        while (!list_empty(lists[i]))
            admin_close(container_of(lists[i]->next, struct admin_conn, in_admin));
    loop_settle(a->loop);
    for (uint32_t i = 0; i <= a->workers; i++)
        snapshot_free(&a->loop->mem, &a->snapshot[i]);
    mem_give(&a->loop->mem, a->snapshot, (a->workers + 1) * sizeof *a->snapshot);
}
/* } 17 */

/* ===========================================================================
 * 18. TOOLS                                                                {
 *    gives    conf_file, conf_load, tool_named
 *    needs    1-8
 *    never    opens a socket, resolves a name, or runs a pool
 *
 * What is done with a configuration, or with two, without running it.
 * ======================================================================== */

/* The text of a file ("-": of stdin), in memory from malloc that the caller
 * frees; NULL and *why when it cannot be had. */
static char *file_read(const char *path, size_t *len, const char **why)
{
    struct stream s = {.fd = file_open(path)};
    ssize_t n = s.fd == -1 ? -1 : 1;
    while (n > 0 && s.len <= NUT_CONF_MAX)
        n = stream_more(&s);
    *why = n == -1 ? strerror(errno) : "it is too large for a configuration";
    file_close(s.fd);
    *len = s.len;
    if (n == 0)
        return s.text;
    free(s.text);
    return NULL;
}

static void queue_print(const struct queue *q, struct out *to)
{
    for (const struct piece *p = q->first; p != NULL; p = p->next)
        out_put(to, (struct bytes){p->at, p->len});
}

static void queue_say(const struct queue *q)
{
    char own[512];
    struct out o = {.to = own, .room = sizeof own, .fd = STDERR_FILENO};
    queue_print(q, &o);
    out_flush(&o);
}

/* Whether a file is twemproxy's, by its name. */
static bool path_is_yaml(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot != NULL && (strcmp(dot, ".yml") == 0 || strcmp(dot, ".yaml") == 0);
}

/* Read the configuration that is in a file; false: conf->told says what is wrong. */
static bool conf_file(struct conf *conf, const char *path, bool yaml)
{
    const char *why = "";
    size_t len = 0;
    char *text = file_read(path, &len, &why);
    struct bytes all = {text, len};
    bool ok = text != NULL && (yaml ? conf_read_yaml(conf, path, all) : conf_read(conf, path, all));
    if (text == NULL) {
        conf_begin(conf, path, yaml);
        conf_tell(conf, 0, "cannot be read: %s%s", why, "");
    }
    free(text);
    return ok;
}

/* Read and check a configuration; false: all that is wrong was said. */
static bool conf_load(struct conf *conf, const char *path, bool yaml)
{
    bool ok = conf_file(conf, path, yaml);
    queue_say(&conf->told);
    if (!ok)
        say("nutproxy: configuration file '%s' syntax is invalid\n", path);
    return ok;
}

/* Say on stderr what went wrong, and what the tool is given. */
static int tool_bad(const char *what, const char *word, const char *usage)
{
    say("nutproxy: %s%s%s%s\nUsage: %s\n", what, word == NULL ? "" : " '", word == NULL ? "" : word,
            word == NULL ? "" : "'", usage);
    return 1;
}

/* ---- options, as getopt_long takes them */

struct option_row { char name[16], letter; bool valued, only_long; };

/* The words behind the program's name.  Options stand where they like: what is none
 * is moved to argv[1] and behind, and counted. */
struct words {
    int         argc;
    char      **argv;
    int         at;                         /* words looked at */
    int         operands;
    const char *letters;                    /* that are left of a word like -tv */
    const char *word;                       /* the last option, as it was written */
    const char *value;
    char        letter;
};

enum { OPTIONS_END = 0, OPTION_UNKNOWN = '?', OPTION_BARE = ':' };

/* The value of an option, from behind it or from the next word. */
static int option_value(struct words *w, const struct option_row *row, const char *behind)
{
    w->letter = row->letter;
    w->value = behind;
    if (row->valued && behind == NULL && w->at + 1 < w->argc)
        w->value = w->argv[++w->at];
    return row->valued && w->value == NULL ? OPTION_BARE : row->letter;
}

/* "--name" or "--name=value"; a name may be cut short where it is told apart. */
static int option_long(struct words *w, const struct option_row *row, size_t rows)
{
    const struct option_row *found = NULL;
    const char *name = w->word + 2, *value = strchr(name, '=');
    size_t len = value == NULL ? strlen(name) : (size_t)(value - name);
    uint32_t alike = 0;
    for (size_t i = 0; i < rows; i++) {
        if (!starts_with(bytes_of(row[i].name), (struct bytes){name, len}))
            continue;
        found = &row[i];
        if (row[i].name[len] == '\0') {
            alike = 1;
            break;
        }
        alike++;
    }
    if (alike != 1 || (value != NULL && !found->valued))
        return OPTION_UNKNOWN;
    return option_value(w, found, value == NULL ? NULL : value + 1);
}

static int option_short(struct words *w, const struct option_row *row, size_t rows)
{
    w->letter = *w->letters++;
    for (size_t i = 0; i < rows; i++) {
        if (row[i].letter != w->letter || row[i].only_long)
            continue;
        if (!row[i].valued)
            return w->letter;
        const char *behind = *w->letters == '\0' ? NULL : w->letters;
        w->letters = "";
        return option_value(w, &row[i], behind);
    }
    return OPTION_UNKNOWN;
}

/* The letter of the next option; OPTION_UNKNOWN or OPTION_BARE when it is none, or
 * lacks its value; OPTIONS_END when all that is left are operands. */
static int option_next(struct words *w, const struct option_row *row, size_t rows)
{
    if (w->letters != NULL && *w->letters != '\0')
        return option_short(w, row, rows);
    while (w->at + 1 < w->argc) {
        char *word = w->argv[++w->at];
        if (word[0] != '-' || word[1] == '\0') {
            w->argv[++w->operands] = word;
            continue;
        }
        w->word = word;
        if (strcmp(word, "--") == 0) {
            while (w->at + 1 < w->argc)
                w->argv[++w->operands] = w->argv[++w->at];
            return OPTIONS_END;
        }
        if (word[1] == '-')
            return option_long(w, row, rows);
        w->letters = word + 1;
        return option_short(w, row, rows);
    }
    return OPTIONS_END;
}

/* Help (`c` is h), or tell of an option that the tool does not have; the exit
 * status. */
static int tool_bad_option(int c, const struct words *w, const char *usage)
{
    if (c == 'h') {
        say("Usage: %s\n", usage);
        return 0;
    }
    const char letter[3] = {'-', w->letter, '\0'};
    return tool_bad(c == OPTION_BARE ? "a value is missing behind" :
                    "there is no option (words that begin with - stand behind --)",
                    w->word[1] == '-' ? w->word : letter, usage);
}

/* The exit status of a tool whose output was written. */
static int tool_end(struct out *out)
{
    out_flush(out);
    if (!out->failed)
        return 0;
    say("nutproxy: the output cannot be written: %s\n", strerror(errno));
    return 1;
}

/* ---- convert */

static const char convert_usage[] =
    "nutproxy convert FILE    (- for stdin)\n"
    "Print the configuration of twemproxy (nutcracker.yml) as one of nutproxy that behaves\n"
    "the same; on stderr, what means something else here.";

static int tool_convert(int argc, char **argv, struct out *out)
{
    struct conf conf = {0};
    const char *why = "", *path = argc == 2 ? argv[1] : NULL;
    size_t len = 0;
    if (path != NULL && (strcmp(path, "-h") == 0 || strcmp(path, "--help") == 0))
        return tool_bad_option('h', NULL, convert_usage);
    if (path == NULL || (path[0] == '-' && path[1] != '\0'))
        return tool_bad("convert is given one file", NULL, convert_usage);
    char *text = file_read(path, &len, &why);
    struct bytes yaml = {text, len};
    bool ok = text != NULL && conf_read_yaml(&conf, path, yaml);
    struct pen pen = {.mem = &conf.mem, .ok = true};
    if (text == NULL)
        say("nutproxy: '%s' cannot be read: %s\n", path, why);
    queue_say(ok ? &conf.notes : &conf.told);
    if (ok && !conf_convert(&conf, yaml, &pen)) {
        say("nutproxy: out of memory\n");
        ok = false;
    }
    if (ok)
        queue_print(&pen.out, out);
    nut_queue_free(&conf.mem, &pen.out);
    conf_free(&conf);
    free(text);
    return ok ? tool_end(out) : 1;
}

/* ---- route */

/* A pool of a configuration, and the ring of those of its servers that are in. */
struct plan {
    struct mem              *mem;
    const struct pool_conf  *pool;
    struct member           *member;        /* one for each server */
    struct ring              ring;
    struct out              *out;
};

static bool plan_open(struct plan *plan, struct mem *m, const struct pool_conf *pool)
{
    const struct server_list *list = &pool->key.servers;
    *plan = (struct plan){.mem = m, .pool = pool};
    plan->member = mem_take(m, list->n * sizeof *plan->member);
    for (uint32_t i = 0; plan->member != NULL && i < list->n; i++)
        plan->member[i] = (struct member){.name = bytes_of(list->at[i].name), .weight = list->at[i].weight};
    return plan->member != NULL &&
           nut_ring_build(m, &plan->ring, (enum spread)pool->key.distribution, plan->member, list->n);
}

static void plan_free(struct plan *plan)
{
    if (plan->member != NULL)
        mem_give(plan->mem, plan->member, plan->pool->key.servers.n * sizeof *plan->member);
    nut_ring_free(plan->mem, &plan->ring);
}

/* The server for a hash; NULL: all are out. */
static const struct server_conf *plan_pick(const struct plan *plan, uint32_t hash)
{
    uint32_t server = nut_ring_pick(&plan->ring, hash, 0);
    return server == NUT_NOBODY ? NULL : &plan->pool->key.servers.at[server];
}

/* Take the server `name` out; false: there is none. */
static bool plan_take_out(struct plan *plan, const char *name)
{
    const struct server_list *list = &plan->pool->key.servers;
    bool found = false;
    for (uint32_t i = 0; i < list->n; i++)
        if (strcmp(list->at[i].name, name) == 0)
            found = plan->member[i].out = true;
    return found && nut_ring_build(plan->mem, &plan->ring, plan->ring.spread, plan->member, list->n);
}

static void route_print(const struct plan *plan, struct bytes key)
{
    char address[ADDRESS_TEXT];
    uint32_t hash = key_hash(&plan->pool->key, key);
    const struct server_conf *s = plan_pick(plan, hash);
    out_put(plan->out, key);
    print(plan->out, "\t%08x\t%s\t%s\n", hash, s == NULL ? "-" : s->name, s == NULL ? "-" : server_address(s, address));
}

/* The keys of a file, one a line, each given to `take`, as long as the output is
 * taken.  False: they cannot be read, which was said. */
static bool lines_of(int fd, struct out *out, void (*take)(void *to, struct bytes key), void *to)
{
    struct stream from = {.fd = fd};
    struct bytes key;
    bool told = false;
    ssize_t more = 0;
    while (!out->failed && (more = stream_line(&from, &key)) > 0) {
        if (key.len > 0 && key.at[key.len - 1] == '\r' && !told) {
            say("nutproxy: keys end with a carriage return, which counts as part of them\n");
            told = true;
        }
        take(to, key);
        if (from.from == from.len)
            out_flush(out);                 /* who writes the keys may wait for the answers */
    }
    if (more == -1)
        say("nutproxy: the keys cannot be read: %s\n", strerror(errno));
    free(from.text);
    return more != -1;
}

static void route_take(void *to, struct bytes key) { route_print(to, key); }

static const char route_usage[] =
    "nutproxy route -c FILE [--down NAME]... [POOL] [KEY]...\n"
    "Print for each key (without KEYs: for each line of stdin) the key, its hash, the server's\n"
    "name and address, with a tab between.  FILE is an INI, or twemproxy's .yml.  POOL may be\n"
    "left out where there is one.  --down: as when NAME is ejected.";

struct route { const char *conf, **down; int downs; struct words words; };

/* Read the options; whether they are good.  If not *status is the exit status. */
static bool route_options(struct route *r, int *status)
{
    static const struct option_row rows[] = {
        { "conf-file", 'c', true, false }, { "down", 'd', true, true }, { "help", 'h', false, false },
    };
    int c;
    while ((c = option_next(&r->words, rows, countof(rows))) != OPTIONS_END) {
        if (c == 'c') {
            r->conf = r->words.value;
        } else if (c == 'd') {
            r->down[r->downs++] = r->words.value;   /* it has room for argc */
        } else {
            *status = tool_bad_option(c, &r->words, route_usage);
            return false;
        }
    }
    *status = 1;
    if (r->conf == NULL)
        tool_bad("route is given a configuration with -c", NULL, route_usage);
    return r->conf != NULL;
}

/* The pool that is asked for: the one that the first operand names, which *from
 * counts then, or the only one.  NULL: that is none, which was said. */
static const struct pool_conf *route_pool(const struct conf *conf, const struct words *w, int *from)
{
    const char *name = w->operands > 0 ? w->argv[1] : NULL;
    const struct pool_conf *pool = name != NULL ? conf_pool_named(conf, bytes_of(name)) : NULL;
    *from = pool != NULL;
    if (pool == NULL && conf->pools == 1)
        pool = &conf->pool[0];
    if (pool != NULL && pool->key.distribution == RANDOM && pool->key.servers.n > 1) {
        say("nutproxy: pool '%s' is random: no key has a place\n", pool->name);
        return NULL;
    }
    if (pool != NULL)
        return pool;
    if (name != NULL)
        say("nutproxy: '%s' is no pool: ", name);
    else
        say("nutproxy: ");
    say("'%s' has several, name one of them:", conf->file);
    for (uint32_t i = 0; i < conf->pools; i++)
        say(" %s", conf->pool[i].name);
    say_text("\n");
    return NULL;
}

/* Take out who is down; false: there is no such server, which was said. */
static bool route_take_out(const struct route *r, struct plan *plan)
{
    const char *pool = plan->pool->name;
    for (int i = 0; i < r->downs; i++)
        if (!plan_take_out(plan, r->down[i])) {
            say("nutproxy: pool '%s' has no server '%s'\n", pool, r->down[i]);
            return false;
        }
    if (r->downs > 0 && !plan->pool->key.auto_eject_hosts)
        say("nutproxy: pool '%s' has no auto_eject_hosts: keys of a server that is down stay there, and "
                "fail\n", pool);
    return true;
}

static bool route_all(const struct route *r, struct out *out)
{
    struct conf conf = {0};
    struct plan plan = {0};
    int from = 0;
    bool ok = conf_load(&conf, r->conf, path_is_yaml(r->conf));
    const struct pool_conf *pool = ok ? route_pool(&conf, &r->words, &from) : NULL;
    bool from_stdin = from == r->words.operands;
    ok = pool != NULL && plan_open(&plan, &conf.mem, pool) && route_take_out(r, &plan);
    plan.out = out;
    if (ok && from_stdin && strcmp(r->conf, "-") == 0) {
        say("nutproxy: stdin cannot be both the configuration and the keys\n");
        ok = false;
    }
    if (ok && from_stdin)
        ok = lines_of(STDIN_FILENO, out, route_take, &plan);
    for (int i = from; ok && i < r->words.operands; i++)
        route_print(&plan, bytes_of(r->words.argv[1 + i]));
    plan_free(&plan);
    conf_free(&conf);
    return ok;
}

static int tool_route(int argc, char **argv, struct out *out)
{
    struct route route = {.down = calloc((size_t)argc, sizeof *route.down), .words = {.argc = argc, .argv = argv}};
    int status = 1;
    if (route.down != NULL && route_options(&route, &status))
        status = route_all(&route, out) ? tool_end(out) : 1;
    free(route.down);
    return status;
}

/* ---- diff */

static const char diff_usage[] =
    "nutproxy diff [--keys FILE] OLD NEW\n"
    "Print, for each pool that both configurations have, what share of the key space moves to a\n"
    "server with another address (as written), and between which.  Either file is an INI, or\n"
    "twemproxy's .yml.\n"
    "--keys: count these keys, one a line (- for stdin), instead of the key space.";

/* What moves in one pool.  Servers are the same where their addresses are. */
struct diff {
    struct diff *next;
    struct plan  old, new;
    uint64_t    *count;                     /* of old server x and new server y, at [x * servers + y] */
    uint64_t     all, moved;
    struct out  *out;
};

/* One line of what moves. */
struct move { uint64_t count; uint32_t from, to; };

static uint32_t plan_servers(const struct plan *plan) { return plan->pool->key.servers.n; }

static bool diff_same(const struct diff *d, uint32_t from, uint32_t to)
{
    const struct server_conf *a = &d->old.pool->key.servers.at[from], *b = &d->new.pool->key.servers.at[to];
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* A key, for all pools that are compared. */
static void diff_take(void *to, struct bytes key)
{
    for (struct diff *d = to; d != NULL; d = d->next) {
        uint32_t from = nut_ring_pick(&d->old.ring, key_hash(&d->old.pool->key, key), 0);
        uint32_t at = nut_ring_pick(&d->new.ring, key_hash(&d->new.pool->key, key), 0);
        d->count[(size_t)from * plan_servers(&d->new) + at]++;
        d->all++;
    }
}

/* The shares of the key space that each server has: of the hash values that the
 * pool's function can give.  False: no memory. */
static bool plan_shares(const struct plan *plan, uint64_t *share)
{
    struct point all = {UINT32_MAX, 0};
    struct ring one = {.spread = KETAMA, .points = 1, .point = &all};
    return nut_rings_compare(plan->mem, &plan->ring, plan_servers(plan), &one, 1,
                             nut_hash_space((int)plan->pool->key.hash), share);
}

/* With two hash functions a key's places have nothing to do with each other, so
 * the share of a pair is the product of theirs. */
static bool diff_unrelated(struct diff *d, struct mem *m)
{
    uint32_t n = plan_servers(&d->old), k = plan_servers(&d->new);
    uint64_t *share = mem_zero(m, (n + k) * sizeof *share);
    bool ok = share != NULL && plan_shares(&d->old, share) && plan_shares(&d->new, share + n);
    d->all = (uint64_t)1 << 32;
    for (uint32_t x = 0; ok && x < n; x++)
        for (uint32_t y = 0; y < k; y++)
            d->count[(size_t)x * k + y] =
                (uint64_t)((double)share[x] / (double)nut_hash_space((int)d->old.pool->key.hash) *
                           (double)share[n + y] /
                           (double)nut_hash_space((int)d->new.pool->key.hash) * (double)d->all);
    mem_give(m, share, (n + k) * sizeof *share);
    return ok;
}

static int moves_order(const void *a, const void *b)
{
    const struct move *p = a, *q = b;
    return p->count != q->count ? (p->count > q->count ? -1 : 1) : p->from != q->from ? (p->from < q->from ? -1 : 1)
         : p->to < q->to ? -1 : p->to > q->to;
}

/* Say, in the line of the share, what a reader of it must know. */
static void diff_remark(const struct diff *d, bool keys)
{
    const struct pool_fields *a = &d->old.pool->key, *b = &d->new.pool->key;
    if (!keys && a->hash != b->hash)
        print(d->out, ", as is to be expected: the hash changes from %s to %s", nut_hash_name((int)a->hash),
               nut_hash_name((int)b->hash));
    if (!keys && !text_same(a->hash_tag, b->hash_tag))
        print(d->out, ", BUT the hash_tag changes: keys with a tag move as well (--keys counts them)");
    if (a->protocol != b->protocol)
        print(d->out, ", BUT the protocol changes");
    if (a->redis_db != b->redis_db)
        print(d->out, ", BUT redis_db changes from %lld to %lld", (long long)a->redis_db, (long long)b->redis_db);
}

#define PERCENT_TEXT 24

/* `n` of `all`, which is less than a tenth of 2^64, in percent with six decimals. */
static const char *percent_text(uint64_t n, uint64_t all, char to[PERCENT_TEXT])
{
    uint64_t rest = n % all, digits = n / all;
    for (int i = 0; i < 8; i++) {
        rest *= 10;
        digits = digits * 10 + rest / all;
        rest %= all;
    }
    digits += rest > all - rest || (rest == all - rest && digits % 2 == 1);     /* a half goes to the even one */
    text_in(to, PERCENT_TEXT, "%llu.%06llu", (unsigned long long)digits / 1000000,
            (unsigned long long)digits % 1000000);
    return to;
}

/* Print one pair of servers between which something moves. */
static void diff_print_move(const struct diff *d, const struct move *move)
{
    char from[ADDRESS_TEXT], to[ADDRESS_TEXT], share[PERCENT_TEXT];
    const struct server_conf *a = &d->old.pool->key.servers.at[move->from];
    const struct server_conf *b = &d->new.pool->key.servers.at[move->to];
    print(d->out, "  %s (%s) -> %s (%s)  %s %% (%llu)\n", a->name, server_address(a, from), b->name,
        server_address(b, to), percent_text(move->count, d->all, share), (unsigned long long)move->count);
}

/* Print what moves, the largest first; false: no memory. */
static bool diff_print(struct diff *d, struct mem *m, bool keys)
{
    uint32_t n = plan_servers(&d->old), k = plan_servers(&d->new);
    size_t moves = 0, room = 0;
    char share[PERCENT_TEXT];
    if (d->all == 0) {
        print(d->out, "%s: no keys were given\n", d->new.pool->name);
        return true;
    }
    for (size_t i = 0; i < (size_t)n * k; i++)
        room += d->count[i] > 0;
    struct move *move = mem_take(m, room * sizeof *move);
    if (move == NULL)
        return false;
    for (uint32_t x = 0; x < n; x++)
        for (uint32_t y = 0; y < k; y++)
            if (d->count[(size_t)x * k + y] > 0 && !diff_same(d, x, y)) {
                move[moves++] = (struct move){d->count[(size_t)x * k + y], x, y};
                d->moved += d->count[(size_t)x * k + y];
            }
    qsort(move, moves, sizeof *move, moves_order);
    print(d->out, "%s: %s %% of the %s (%llu of %llu)", d->new.pool->name, percent_text(d->moved, d->all, share),
        keys ? "keys move" : "key space moves", (unsigned long long)d->moved, (unsigned long long)d->all);
    diff_remark(d, keys);
    out_put(d->out, lit("\n"));
    for (size_t i = 0; i < moves; i++)
        diff_print_move(d, &move[i]);
    mem_give(m, move, room * sizeof *move);
    return true;
}

static size_t diff_size(const struct diff *d)
{
    return (size_t)plan_servers(&d->old) * plan_servers(&d->new) * sizeof *d->count;
}

/* Compare one pool over the key space; false: no memory. */
static bool diff_space(struct diff *d, struct mem *m)
{
    const struct pool_fields *old = &d->old.pool->key, *new = &d->new.pool->key;
    if (old->hash != new->hash)
        return diff_unrelated(d, m);
    d->all = nut_hash_space((int)old->hash);
    return nut_rings_compare(m, &d->old.ring, plan_servers(&d->old), &d->new.ring, plan_servers(&d->new), d->all,
                             d->count);
}

static void diff_free(struct diff *d, struct mem *m)
{
    mem_give(m, d->count, diff_size(d));
    plan_free(&d->old);
    plan_free(&d->new);
    mem_give(m, d, sizeof *d);
}

/* Begin to compare a pool; NULL: no memory. */
static struct diff *diff_open(struct mem *m, const struct pool_conf *old, const struct pool_conf *new, struct out *out)
{
    struct diff *d = mem_zero(m, sizeof *d);
    if (d == NULL)
        return NULL;
    d->out = out;
    d->old.pool = old;
    d->new.pool = new;
    d->count = mem_zero(m, diff_size(d));
    if (d->count != NULL && plan_open(&d->old, m, old) && plan_open(&d->new, m, new))
        return d;
    diff_free(d, m);
    return NULL;
}

/* The pool of `old` that `new` is compared with, NULL: none, for a reason that is
 * printed to `out`, unless that is NULL. */
static const struct pool_conf *diff_before(const struct conf *old, const struct pool_conf *new, struct out *out)
{
    const struct pool_conf *before = conf_pool_named(old, bytes_of(new->name));
    bool is_random = before != NULL && (before->key.distribution == RANDOM || new->key.distribution == RANDOM);
    const char *why = before == NULL ? "is new" : is_random ? "is random: no key has a place" : NULL;
    if (why != NULL && out != NULL)
        print(out, "%s: %s\n", new->name, why);
    return why == NULL ? before : NULL;
}

/* Count keys for all pools that both have: what becomes of them, in the order of
 * the pools, in *list.  False: that failed, which was said. */
static bool diff_count(const struct conf *old, const struct conf *new, struct mem *m, int keys, struct out *out,
                       struct diff **list)
{
    struct diff **end = list;
    for (uint32_t i = 0; i < new->pools; i++) {
        const struct pool_conf *before = diff_before(old, &new->pool[i], NULL);
        if (before == NULL)
            continue;
        *end = diff_open(m, before, &new->pool[i], out);
        if (*end == NULL) {
            say("nutproxy: out of memory\n");
            return false;
        }
        end = &(*end)->next;
    }
    return lines_of(keys, out, diff_take, *list);
}

/* Compare all pools that both have; `keys`, unless -1: by these, not over the key space.
 * False: that failed, which was said. */
static bool diff_all(const struct conf *old, const struct conf *new, struct mem *m, int keys, struct out *out)
{
    struct diff *list = NULL;
    bool ok = keys == -1 || diff_count(old, new, m, keys, out, &list), room = true;
    for (uint32_t i = 0; i < new->pools && ok && room; i++) {
        const struct pool_conf *before = diff_before(old, &new->pool[i], out);
        if (before == NULL)
            continue;
        struct diff *d = keys == -1 ? diff_open(m, before, &new->pool[i], out) : list;
        room = d != NULL && (keys != -1 || diff_space(d, m)) && diff_print(d, m, keys != -1);
        list = keys == -1 ? NULL : d->next;
        if (d != NULL)
            diff_free(d, m);
    }
    for (struct diff *next; list != NULL; list = next) {
        next = list->next;
        diff_free(list, m);
    }
    if (ok && !room)
        say("nutproxy: out of memory\n");
    for (uint32_t i = 0; i < old->pools && ok && room; i++)
        if (conf_pool_named(new, bytes_of(old->pool[i].name)) == NULL)
            print(out, "%s: is gone\n", old->pool[i].name);
    return ok && room;
}

static int tool_diff(int argc, char **argv, struct out *out)
{
    static const struct option_row rows[] = { { "keys", 'k', true, true }, { "help", 'h', false, false } };
    struct words words = {.argc = argc, .argv = argv};
    const char *path = NULL;
    int c, from_stdin = 0, keys = -1;
    while ((c = option_next(&words, rows, countof(rows))) != OPTIONS_END) {
        if (c != 'k')
            return tool_bad_option(c, &words, diff_usage);
        path = words.value;
    }
    if (words.operands != 2)
        return tool_bad("diff is given two configurations", NULL, diff_usage);
    char **file = argv + 1;
    from_stdin = (path != NULL && strcmp(path, "-") == 0) + (strcmp(file[0], "-") == 0) + (strcmp(file[1], "-") == 0);
    if (from_stdin > 1)
        return tool_bad("only one of them can be stdin", NULL, diff_usage);
    if (path != NULL && (keys = file_open(path)) == -1) {
        say("nutproxy: '%s' cannot be read: %s\n", path, strerror(errno));
        return 1;
    }
    struct conf old = {0}, new = {0};
    bool ok = conf_load(&old, file[0], path_is_yaml(file[0]));
    ok = conf_load(&new, file[1], path_is_yaml(file[1])) && ok;
    ok = ok && diff_all(&old, &new, &new.mem, keys, out);
    conf_free(&old);
    conf_free(&new);
    file_close(keys);
    return ok ? tool_end(out) : 1;
}

/* The tool that the first word names, or NULL. */
static int (*tool_named(const char *name))(int argc, char **argv, struct out *out)
{
    static const struct { char name[8]; int (*run)(int argc, char **argv, struct out *out); } tools[] = {
        /* name       what it does */
        { "convert",  tool_convert },
        { "diff",     tool_diff    },
        { "route",    tool_route   },
    };
    for (size_t i = 0; i < countof(tools); i++)
        if (strcmp(tools[i].name, name) == 0)
            return tools[i].run;
    return NULL;
}
/* } 18 */

/* ===========================================================================
 * 19. MAIN                                                                 {
 *    gives    main
 *    needs    every room
 *    never    holds a rule
 * ======================================================================== */

struct options {
    const char *conf, *log, *pid_file, *stats_host;
    int64_t     stats_port, level;          /* -1: not given */
    bool        test, daemonize, version, help, describe, sample, given;    /* given: conf is */
};

static const char usage_text[] =
    "Usage: nutproxy [-hVdDt] [-v verbosity level] [-o output file]\n"
    "                [-c conf file] [-s stats port] [-a stats addr]\n"
    "                [-i stats interval] [-p pid file] [-m mbuf size]\n"
    "       nutproxy convert FILE            twemproxy's configuration as one of nutproxy\n"
    "       nutproxy route -c FILE [KEY]...  where keys go (route --help)\n"
    "       nutproxy diff OLD NEW            which keys move (diff --help)\n"
    "\n"
    "Options:\n"
    "  -h, --help             : this help\n"
    "  -V, --version          : show version and exit\n"
    "  -t, --test-conf        : test configuration for syntax errors and exit\n"
    "  -d, --daemonize        : run as a daemon\n"
    "  -D, --describe-stats   : print stats description and exit\n"
    "      --print-config     : print a sample configuration with every key and exit;\n"
    "                           with -c, what that configuration comes to\n"
    "  -v, --verbose=N        : set logging level (default: 5, min: 0, max: 11)\n"
    "  -o, --output=S         : set logging file (default: stderr)\n"
    "  -c, --conf-file=S      : set configuration file (default: nutproxy.ini)\n"
    "  -s, --stats-port=N     : set stats monitoring port (default: 22222)\n"
    "  -a, --stats-addr=S     : set stats monitoring ip or socket path (default: 127.0.0.1)\n"
    "  -i, --stats-interval=N : taken for twemproxy's sake: stats are always fresh\n"
    "  -p, --pid-file=S       : set pid file (default: off)\n"
    "  -m, --mbuf-size=N      : taken for twemproxy's sake: there are no mbufs\n";

static void print_version(void)
{
    say("This is nutproxy-%s\nasync event backend: %s\n\n", NUT_VERSION,
#ifdef NUT_POLL
            "poll"
#else
            "epoll"
#endif
            );
}

static void print_counters(const char *title, const char *row)
{
    say("%s\n", title);
    for (; *row != '\0'; row = text_nth(row, 2))
        say("  %-20s\"%s\"\n", row, text_nth(row, 1));
}

static bool option_bad(const char *what)
{
    say("nutproxy: %s\n%s", what, usage_text);
    return false;
}

/* What an option wants that was given nothing. */
static bool option_missing(int option)
{
    char text[64];
    const char *what = strchr("ocp", option) != NULL ? "a file name"
                     : option == 'a' ? "a string" : option == 'm' ? "a non-zero number" : "a number";
    text_in(text, sizeof text, "option -%c requires %s", option, what);
    return option_bad(text);
}

/* One option that is a number; false: it is wrong, and that was said. */
static bool option_number(int option, const char *text, int64_t *out)
{
    uint64_t n;
    struct bytes digits = bytes_of(text);
    while (digits.len > 1 && digits.at[0] == '0')
        digits = bytes_from(digits, 1);
    if (!number_read(digits, INT32_MAX, &n))
        return option_missing(option);
    *out = (int64_t)n;
    return true;
}

static bool option_take(struct options *o, int option, const char *arg)
{
    char text[80];
    int64_t ignored = 0;
    switch (option) {
    case 'h': o->help = true;      return true;
    case 'V': o->version = true;   return true;
    case 't': o->test = true;      return true;
    case 'd': o->daemonize = true; return true;
    case 'D': o->describe = true;  return true;
    case 'P': o->sample = true;    return true;
    case 'o': o->log = arg;        return true;
    case 'c': o->conf = arg;       return o->given = true;
    case 'p': o->pid_file = arg;   return true;
    case 'a': o->stats_host = arg; return true;
    case 'v': return option_number('v', arg, &o->level);
    case 'i': return option_number('i', arg, &ignored);
    case 's':
        if (!option_number('s', arg, &o->stats_port))
            return false;
        text_in(text, sizeof text, "option -s value %d is not a valid port", (int)o->stats_port);
        return (o->stats_port > 0 && o->stats_port <= UINT16_MAX) || option_bad(text);
    case 'm':
        if (!option_number('m', arg, &ignored) || ignored == 0)
            return ignored == 0 && option_missing('m');
        return (ignored >= 512 && ignored <= 16777216) ||
               option_bad("mbuf chunk size must be between 512 and 16777216 bytes");
    default:
        return false;
    }
}

static bool options_read(struct options *o, int argc, char **argv)
{
    static const struct option_row rows[] = {
        /* name            letter valued only long */
        { "help",           'h',  false, false },
        { "version",        'V',  false, false },
        { "test-conf",      't',  false, false },
        { "daemonize",      'd',  false, false },
        { "describe-stats", 'D',  false, false },
        { "print-config",   'P',  false, true  },
        { "verbose",        'v',  true,  false },
        { "output",         'o',  true,  false },
        { "conf-file",      'c',  true,  false },
        { "stats-port",     's',  true,  false },
        { "stats-addr",     'a',  true,  false },
        { "stats-interval", 'i',  true,  false },
        { "pid-file",       'p',  true,  false },
        { "mbuf-size",      'm',  true,  false },
    };
    struct words words = {.argc = argc, .argv = argv};
    char text[300];
    int c;
    *o = (struct options){.conf = "nutproxy.ini", .stats_port = -1, .level = -1};
    while ((c = option_next(&words, rows, countof(rows))) != OPTIONS_END) {
        if (c == OPTION_BARE && words.letter == 'm')
            return option_bad("option -m requires a number");
        if (c == OPTION_BARE)
            return option_missing(words.letter);
        if (c == OPTION_UNKNOWN && words.word[1] == '-')
            text_in(text, sizeof text, "invalid option -- '%.250s'", words.word);
        else if (c == OPTION_UNKNOWN)
            text_in(text, sizeof text, "invalid option -- '%c'", words.letter);
        if (c == OPTION_UNKNOWN)
            return option_bad(text);
        if (!option_take(o, c, words.value))
            return false;
    }
    for (int i = 1; i <= words.operands; i++)       /* twemproxy ignores them, and says nothing */
        say("nutproxy: '%s' is ignored; a configuration file is given with -c\n", argv[i]);
    return true;
}

/* ---- the house: all that runs */

struct house {
    struct options  options;
    struct setup   *setup, *first;          /* the newest, and the one that the process began with */
    struct setup   *next;                   /* the one that workers prepare for */
    enum change     step;
    uint32_t        changing;               /* workers that have not answered this step yet */
    bool            ready;                  /* all that have can run by it */
    bool            again;                  /* the operator wants it read anew after that */
    struct loop     loop;                   /* of the control thread */
    struct mailbox  box;
    struct resolver resolver;
    pthread_t       resolving;
    struct letter   stop;                   /* to it */
    struct worker  *worker;
    uint32_t        workers, stopped;
    int             stats_door;
    struct admin    admin;
    struct watch    signals;
    atomic_uint     clients;                /* of all workers and pools */
    const char     *pid_file;
    bool            stopping;
};

/* Where a pool, or the stats port, listens. */
static bool listen_address(struct address *a, const char *host, uint16_t port)
{
    if (strcmp(host, "*") == 0)
        host = "0.0.0.0";
    return address_find(a, host, port);
}

/* Whether all pools listen on addresses that there are; who does not is told. */
static bool house_addresses(const struct conf *conf)
{
    bool all = true;
    for (uint32_t i = 0; i < conf->pools; i++) {
        struct address a;
        const struct listen_conf *l = &conf->pool[i].key.listen;
        if (listen_address(&a, l->host, l->port))
            continue;
        say("%s:%d: pool '%s': address '%s' cannot be resolved\n", conf->file,
                conf->pool[i].seen[POOL_listen], conf->pool[i].name, l->host);
        all = false;
    }
    return all;
}

/* Say what `what` cannot have: at the start on stderr, and in a log file if there
 * is one; later in the log. */
__attribute__((format(printf, 2, 3)))
static void house_complain(const char *what, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    text_in_args(text, sizeof text, format, args);
    va_end(args);
    if (atomic_load(&logger.running))
        log_of(EVENT_reload_failed, NULL, NULL, "%s: %s", what, text);
    else if (logger.fd != STDERR_FILENO)
        log_of(EVENT_start_failed, NULL, NULL, "%s: %s", what, text);
    if (!atomic_load(&logger.running))
        say("nutproxy: %s: %s\n", what, text);
}

static int house_bind(const char *what, const char *host, uint16_t port, struct listening how)
{
    struct address a;
    int fd = -1;
    if (!listen_address(&a, host, port)) {
        house_complain(what, "address '%s' cannot be resolved", host);
        return -1;
    }
    fd = socket_listen(&a, how);
    if (fd == -1 && port > 0)
        house_complain(what, "cannot listen on '%s' port '%u': %s", host, port, strerror(errno));
    else if (fd == -1)
        house_complain(what, "cannot listen on '%s': %s", host, strerror(errno));
    return fd;
}

/* Whether the path that a door listens on is still its own. */
static bool door_has_path(const struct door *door, const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && st.st_dev == door->device && st.st_ino == door->node;
}

/* The door of `before` that a pool of worker `n` can go on with; fd -1: there is none. */
static struct door house_door(const struct setup *before, const struct listen_conf *l, uint32_t n)
{
    for (uint32_t i = 0; before != NULL && i < before->conf.pools; i++) {
        const struct door *door = &before->door[n * before->conf.pools + i];
        if (listen_same(&before->conf.pool[i].key.listen, l) && (l->port != 0 || door_has_path(door, l->host)))
            return *door;
    }
    return (struct door){.fd = -1};
}

/* A new door for a pool of worker `n`.  Without reuseport the port is for our workers
 * only: the first must find it free, and then lets the others in. */
static struct door house_new_door(const struct house *h, const struct pool_conf *p, uint32_t n)
{
    const struct listen_conf *l = &p->key.listen;
    bool ours = h->workers > 1 && !p->key.reuseport;
    struct listening how = {(int)p->key.backlog, p->key.reuseport || ours, ours && n == 0, l->mode, &p->key};
    struct door door = {.fd = house_bind(p->name, l->host, l->port, how)};
    struct stat st;
    if (door.fd != -1 && l->port == 0 && lstat(l->host, &st) == 0) {
        door.device = st.st_dev;
        door.node = st.st_ino;
    }
    return door;
}

/* Whether a socket of one setup is one of the other's, too. */
static bool setup_has_door(const struct setup *setup, const struct house *h, int fd)
{
    for (uint32_t i = 0; setup != NULL && i < setup->conf.pools * h->workers; i++)
        if (setup->door[i].fd == fd)
            return true;
    return false;
}

/* Close the doors of `setup` that `other` does not go on with, and take their paths
 * away, unless they are somebody else's by now. */
static void house_close_doors(const struct house *h, struct setup *setup, const struct setup *other)
{
    for (uint32_t i = 0; i < setup->conf.pools * h->workers; i++) {
        const struct listen_conf *l = &setup->conf.pool[i % setup->conf.pools].key.listen;
        if (setup->door[i].fd == -1 || setup_has_door(other, h, setup->door[i].fd))
            continue;
        if (l->port == 0 && i < setup->conf.pools && door_has_path(&setup->door[i], l->host))
            unlink(l->host);
        close(setup->door[i].fd);
        setup->door[i].fd = -1;
    }
}

/* Bind every pool for every worker, before anything runs by it; what `before` has
 * is taken over.  False: what failed was said, and nothing has changed. */
static bool house_listen(struct house *h, struct setup *setup, const struct setup *before)
{
    uint32_t pools = setup->conf.pools;
    for (uint32_t i = 0; i < pools * h->workers; i++) {
        const struct pool_conf *p = &setup->conf.pool[i % pools];
        struct door *door = &setup->door[i];
        *door = house_door(before, &p->key.listen, i / pools);
        if (door->fd == -1 && i >= pools && p->key.listen.port == 0) {
            *door = setup->door[i % pools]; /* a path has one socket, which they share */
            door->fd = dup(door->fd);
        } else if (door->fd == -1) {
            *door = house_new_door(h, p, i / pools);
        }
        if (door->fd == -1) {
            house_close_doors(h, setup, before);
            return false;
        }
    }
    return true;
}

/* Set doors that were taken over to what their pools want now. */
static void house_tune_doors(const struct house *h, const struct setup *setup)
{
    for (uint32_t i = 0; i < setup->conf.pools * h->workers; i++) {
        const struct pool_conf *p = &setup->conf.pool[i % setup->conf.pools];
        const struct listen_conf *l = &p->key.listen;
        if (listen(setup->door[i].fd, (int)p->key.backlog) == 0 && l->port == 0 && l->mode != 0)
            (void)!chmod(l->host, l->mode);
    }
}

/* Bind the stats port: the options go before the configuration. */
static bool house_listen_stats(struct house *h)
{
    char host[HOST_MOST + 1];
    const char *stats = h->first->conf.process.stats;
    struct bytes word;
    uint16_t port;
    h->stats_door = -1;
    if (strcmp(stats, "off") == 0 && h->options.stats_host == NULL && h->options.stats_port == -1)
        return true;
    if (strcmp(stats, "off") == 0)
        stats = "127.0.0.1:22222";
    must(stats_address(stats, &word, &port));       /* conf_check saw to it */
    if (h->options.stats_host != NULL)
        word = bytes_of(h->options.stats_host);
    if (h->options.stats_port != -1)
        port = (uint16_t)h->options.stats_port;     /* option_take has seen to it */
    if (word.len == 0 || word.len > (word.at[0] == '/' ? UNIX_PATH_MOST : HOST_MOST)) {
        say("nutproxy: stats: '%.*s' is not an address\n", (int)least_of(word.len, 300), word.at);
        return false;
    }
    memcpy(host, word.at, word.len);
    host[word.len] = '\0';
    h->stats_door = house_bind("stats", host, port == 0 && host[0] != '/' ? 22222 : port,
                               (struct listening){.backlog = 128});
    return h->stats_door != -1;
}

/* Leave nothing behind: sockets, their paths, and the pid file. */
static void house_sweep(struct house *h)
{
    if (h->next != NULL)                    /* the end came in the middle of a reload */
        house_close_doors(h, h->next, h->setup);
    house_close_doors(h, h->setup, NULL);
    if (h->stats_door != -1) {
        struct sockaddr_un un = {0};
        socklen_t len = sizeof un;
        if (getsockname(h->stats_door, (struct sockaddr *)&un, &len) == 0 && un.sun_family == AF_UNIX)
            unlink(un.sun_path);
    }
    if (h->pid_file != NULL)
        unlink(h->pid_file);
}

static bool house_write_pid(struct house *h)
{
    const char *path = h->options.pid_file != NULL ? h->options.pid_file : h->first->conf.process.pid_file;
    if (path == NULL)
        return true;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    char text[20];
    size_t len = number_write(text, (uint64_t)getpid());
    bool ok = fd != -1 && write(fd, text, len) == (ssize_t)len;
    if (!ok)
        house_complain("pid file", "'%s' cannot be written: %s", path, strerror(errno));
    if (fd != -1)
        close(fd);
    if (ok)
        h->pid_file = path;
    return ok;
}

/* ---- whose rights it runs with */

/* The file for the log by this setup; NULL: stderr. */
static const char *house_log(const struct house *h, const struct setup *setup)
{
    const char *log = h->options.log != NULL ? h->options.log : setup->conf.process.log;
    return log == NULL || log[0] == '\0' ? NULL : log;
}

struct account { struct bytes name; uint64_t id, group; bool found; };

/* Field `n` of a line of /etc/passwd or /etc/group. */
static struct bytes account_field(struct bytes line, uint32_t n)
{
    while (n-- > 0)
        line = bytes_from(line, least_of(find(line, 0, ':') + 1, line.len));
    line.len = find(line, 0, ':');
    return line;
}

/* One is found by its name, or by the number behind it. */
static void account_take(void *to, struct bytes line)
{
    struct account *a = to;
    uint64_t id;
    if (a->found || !number_read(account_field(line, 2), UINT32_MAX - 1, &id) ||
        !(bytes_same(account_field(line, 0), a->name) || bytes_same(account_field(line, 2), a->name)))
        return;
    a->found = true;
    a->id = id;
    (void)number_read(account_field(line, 3), UINT32_MAX - 1, &a->group);      /* of a user */
}

/* Whom the configuration means; false: there is no such user or group, which is said. */
static bool house_account(const struct conf *conf, struct account *user, struct account *group)
{
    const struct process_conf *p = &conf->process;
    *user = *group = (struct account){0};
    if (p->user == NULL) {
        if (p->group != NULL)
            say("%s:%d: directive \"group\" needs a user\n", conf->file, conf->seen[PROCESS_group]);
        return p->group == NULL;
    }
    user->name = bytes_of(p->user);
    file_lines("/etc/passwd", account_take, user);
    bool known = user->found || number_read(user->name, UINT32_MAX - 1, &user->id);
    if (!known || (!user->found && p->group == NULL))
        say("%s:%d: user '%s' %s\n", conf->file, conf->seen[PROCESS_user], p->user,
            known ? "has no group: say one" : "does not exist");
    group->name = p->group == NULL ? (struct bytes){0} : bytes_of(p->group);
    group->id = user->group;
    if (p->group != NULL)
        file_lines("/etc/group", account_take, group);
    bool grouped = p->group == NULL || group->found || number_read(group->name, UINT32_MAX - 1, &group->id);
    if (!grouped)
        say("%s:%d: group '%s' does not exist\n", conf->file, conf->seen[PROCESS_group], p->group);
    return known && grouped && (user->found || p->group != NULL);
}

#ifdef SYS_setresuid32                      /* of machines with 32 bits, where the others have 16 */
#define SET_GROUPS SYS_setgroups32
#define SET_GROUP  SYS_setresgid32
#define SET_USER   SYS_setresuid32
#else
#define SET_GROUPS SYS_setgroups
#define SET_GROUP  SYS_setresgid
#define SET_USER   SYS_setresuid
#endif

/* Give up all rights that are not needed any more: no program that might be begun gets new ones, and all
 * is the user's from now on.  There are no threads yet, so the kernel is asked itself.  False, and errno. */
static bool house_drop_rights(const struct house *h)
{
    struct account user, group;
    struct stat st;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) == -1)
        return false;
    if (h->first->conf.process.user == NULL)
        return true;
    if (!house_account(&h->first->conf, &user, &group))
        return false;
    uid_t uid = (uid_t)user.id;
    gid_t gid = (gid_t)group.id;
    if (getuid() == uid && geteuid() == uid && getgid() == gid && uid != 0)
        return true;                        /* that is who we are, and all that we may be */
    if (house_log(h, h->first) != NULL && fstat(logger.fd, &st) == 0 && S_ISREG(st.st_mode) &&
        fchown(logger.fd, uid, gid) == -1)
        return false;                       /* it is to be opened again */
    return syscall(SET_GROUPS, 1, &gid) == 0 && syscall(SET_GROUP, gid, gid, gid) == 0 &&
           syscall(SET_USER, uid, uid, uid) == 0;
}

/* Leave the terminal.  Everything that can go wrong has been tried by now, so
 * the exit status of the parent tells how the start went. */
static bool house_daemonize(void)
{
    for (int i = 0; i < 2; i++) {
        pid_t pid = _Fork();                /* there are no threads yet that fork had to look after */
        if (pid == -1)
            return false;
        if (pid > 0)
            _exit(0);
        if (i == 0)
            setsid();
    }
    int fd = open("/dev/null", O_RDWR);
    if (fd == -1)
        return false;
    for (int to = 0; to <= 2; to++)
        dup2(fd, to);
    if (fd > 2)
        close(fd);
    return true;
}

/* Take as many descriptors as we may have; how many of them clients may have,
 * so that there are always some left to reach servers and to be asked for stats. */
static int house_descriptors(const struct house *h, const struct conf *conf)
{
    struct rlimit limit;
    uint64_t kept = 32;
    if (prlimit(0, RLIMIT_NOFILE, NULL, &limit) == -1)
        return INT_MAX;
    struct rlimit all = {limit.rlim_max, limit.rlim_max};
    if (prlimit(0, RLIMIT_NOFILE, &all, NULL) == 0)
        limit = all;
    for (uint32_t i = 0; i < conf->pools; i++)
        kept += (uint64_t)h->workers * conf->pool[i].key.servers.n *
                (conf_lanes(&conf->pool[i].key) + 1u);                      /* and a probe */
    if (kept > limit.rlim_cur / 2)
        kept = limit.rlim_cur / 2;
    return (int)least_of(limit.rlim_cur - kept, INT_MAX);
}

/* ---- threads */

/* The letter goes back to who asked. */
static void name_is_found(struct lookup *l)
{
    struct letter *letter = &container_of(l, struct name_letter, lookup)->letter;
    mailbox_post(letter->back, letter);
}

/* Look names up. */
static void *resolver_run(void *of)
{
    struct resolver *r = of;
    for (;;) {
        if (!resolver_turn(r, UINT64_MAX))
            continue;
        for (struct letter *l = mailbox_take(&r->box), *next; l != NULL; l = next) {
            struct name_letter *name = container_of(l, struct name_letter, letter);
            next = l->next;
            if (l->kind == LETTER_STOP)
                return NULL;
            name->lookup.done = name_is_found;
            resolver_begin(r, &name->lookup);
        }
    }
    return NULL;
}

/* A pool of the worker's list of all. */
static struct pool *pool_at(struct link *in_worker) { return container_of(in_worker, struct pool, in_worker); }

/* Whether a worker owes nobody anything. */
static bool worker_is_idle(const struct worker *w)
{
    for (struct link *at = w->all.next; at != &w->all; at = at->next)
        for (uint32_t s = 0; s < pool_at(at)->servers; s++)
            for (uint32_t n = 0; n < pool_lanes(pool_at(at)); n++)
                if (pool_at(at)->server[s].lane[n].first != NULL)
                    return false;
    return true;
}

/* The pool of this worker that is the same in `conf`, or NULL. */
static struct pool *worker_same(const struct worker *w, const struct pool_conf *conf)
{
    for (uint32_t i = 0; i < w->pools; i++)
        if (conf_pool_same(&w->setup->conf.pool[i], conf))
            return w->pool[i];
    return NULL;
}

/* The pool of `setup` that takes over the clients of the pool `old`: who listens there
 * now, or else who has its name; its number, or that of pools when there is none. */
static uint32_t setup_heir(const struct setup *setup, const struct pool_fields *old, const char *name)
{
    uint32_t namesake = setup->conf.pools;
    for (uint32_t i = 0; i < setup->conf.pools; i++) {
        if (listen_same(&setup->conf.pool[i].key.listen, &old->listen))
            return i;
        if (strcmp(setup->conf.pool[i].name, name) == 0)
            namesake = i;
    }
    return namesake;
}

/* Retire a pool of the worker's that is not in its setup any more. */
static void worker_retire(struct worker *w, struct pool *pool)
{
    uint32_t n = setup_heir(w->setup, pool->conf, pool->name);
    struct pool *heir = n < w->pools ? w->pool[n] : NULL;
    for (struct link *at = w->all.next; at != &w->all; at = at->next)
        if (pool_at(at)->heir == pool)
            pool_at(at)->heir = heir;
    pool_retire(pool, heir);
}

/* Run the pools in `pool`, which are those of `setup`: new ones begin, those that
 * are not among them are retired.  Owns `pool`. */
static void worker_run_by(struct worker *w, struct setup *setup, struct pool **pool)
{
    struct pool **before = w->pool;
    uint32_t pools = w->pools;
    w->pool = pool;
    w->pools = setup->conf.pools;
    w->setup = setup;
    for (uint32_t i = 0; i < w->pools; i++)
        if (list_linked(&pool[i]->in_worker)) {             /* it stays as it is */
            atomic_fetch_sub(&pool[i]->setup->users, 1);
            atomic_fetch_add(&setup->users, 1);
            pool_point(pool[i], setup, &setup->conf.pool[i]);
        }
    for (uint32_t i = 0; i < pools; i++)
        if (before[i]->setup != setup)
            worker_retire(w, before[i]);
    for (uint32_t i = 0; i < w->pools; i++)
        if (!list_linked(&pool[i]->in_worker)) {
            list_push(&w->all, &pool[i]->in_worker);
            pool_listen(pool[i], setup->door[w->number * w->pools + i].fd);
            if (pool[i]->conf->preconnect)
                pool_preconnect(pool[i]);
        }
    mem_give(&w->loop.mem, before, pools * sizeof *before);
}

/* Give up the pools that were prepared for a setup, `n` of them. */
static void worker_drop(struct worker *w, const struct setup *setup, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!list_linked(&w->prepared[i]->in_worker))
            pool_free(w->prepared[i]);
    mem_give(&w->loop.mem, w->prepared, setup->conf.pools * sizeof(struct pool *));
    w->prepared = NULL;
}

/* Make the pools that `setup` has and the worker has not: those that are the same
 * run on, untouched.  False: no memory, and all is as before. */
static bool worker_prepare(struct worker *w, struct setup *setup)
{
    uint32_t n = setup->conf.pools, i = 0;
    w->prepared = mem_zero(&w->loop.mem, n * sizeof *w->prepared);
    for (; w->prepared != NULL && i < n; i++) {
        w->prepared[i] = worker_same(w, &setup->conf.pool[i]);
        if (w->prepared[i] == NULL)
            w->prepared[i] = pool_new(w, setup, &setup->conf.pool[i]);
        if (w->prepared[i] == NULL)
            break;
    }
    if (w->prepared != NULL && i < n)
        worker_drop(w, setup, i);
    return w->prepared != NULL;
}

static void worker_change(struct worker *w)
{
    struct setup *setup = w->change.setup;
    switch (w->change.step) {
    case PREPARE:
        w->change.ready = worker_prepare(w, setup);
        break;
    case COMMIT:
        worker_run_by(w, setup, w->prepared);
        w->prepared = NULL;
        break;
    case DROP:
        if (w->prepared != NULL)
            worker_drop(w, setup, setup->conf.pools);
        break;
    }
    mailbox_post(w->control, &w->change.letter);
}

static void worker_guest(struct worker *w, struct guest_letter *guest)
{
    if (guest->host == w)
        worker_host(w, guest);
    else
        worker_guest_back(w, guest);
}

static void worker_letter(struct worker *w, struct letter *l)
{
    switch (l->kind) {
    case LETTER_NAME:
        server_named(container_of(l, struct name_letter, letter)->server);
        break;
    case LETTER_COUNT:
        worker_count(w, w->snapshot);
        mailbox_post(w->control, l);
        break;
    case LETTER_SETUP:
        worker_change(w);
        break;
    case LETTER_NEWS:
        worker_news(w, container_of(l, struct news_letter, letter));
        break;
    case LETTER_GUEST:
        worker_guest(w, container_of(l, struct guest_letter, letter));
        break;
    case LETTER_STOP:
        w->stopping = true;
        for (uint32_t i = 0; i < w->pools; i++)
            pool_lock(w->pool[i]);
        break;
    default:
        must(l->kind == LETTER_STOP);       /* nobody sends another */
    }
}

static void worker_post(struct watch *watch, uint32_t sees)
{
    struct mailbox *box = container_of(watch, struct mailbox, watch);
    struct worker *w = container_of(box, struct worker, box);
    (void)sees;
    for (struct letter *l = mailbox_take(box), *next; l != NULL; l = next) {
        next = l->next;
        worker_letter(w, l);
    }
}

static void worker_turn(struct worker *w, uint64_t due)
{
    for (struct link *at = w->all.next; at != &w->all; at = at->next) {
        uint64_t due_at = pool_next(pool_at(at));
        due = due < due_at ? due : due_at;
    }
    loop_serve(&w->loop, loop_patience(&w->loop, due));
    loop_show_again(&w->loop);
    for (struct link *at = w->all.next, *next; at != &w->all; at = next) {
        next = at->next;
        if (!pool_at(at)->shut)
            pool_timers(pool_at(at));
        if (pool_at(at)->retired)
            pool_fade(pool_at(at));
    }
    loop_settle(&w->loop);
}

#ifndef NUT_DENY
#define NUT_DENY 0                          /* torture: every n-th request for memory is denied */
#endif
#define DRAIN_MS 2000                       /* at the end, for requests that are under way */

static void *worker_run(void *of)
{
    struct worker *w = of;
    w->loop.mem.deny_at = w->loop.mem.deny_every = NUT_DENY;
    while (!w->stopping)
        worker_turn(w, UINT64_MAX);
    uint64_t until = clock_ms() + DRAIN_MS;
    while (!worker_is_idle(w) && clock_ms() < until)
        worker_turn(w, until);
    for (struct link *at = w->all.next; at != &w->all; at = at->next)
        pool_close(pool_at(at));
    mailbox_post(w->control, &w->stop);
    return NULL;
}

/* Guests that were under way when the threads ended: there is nobody to be let in by. */
static void worker_guests_end(struct worker *w)
{
    for (struct letter *l = mailbox_take(&w->box), *next; l != NULL; l = next) {
        struct guest_letter *guest = container_of(l, struct guest_letter, letter);
        next = l->next;
        if (l->kind != LETTER_GUEST)
            continue;
        if (guest->fd != -1)
            close(guest->fd);
        mem_give(&container_of(l->back, struct worker, box)->loop.mem, guest, sizeof *guest);
    }
}

/* Give back all that a worker holds, when all threads have ended. */
static void worker_free(struct worker *w)
{
    struct mem *m = &w->loop.mem;
    if (w->prepared != NULL)                /* the end came in the middle of a reload */
        worker_drop(w, w->change.setup, w->change.setup->conf.pools);
    while (!list_empty(&w->all)) {
        struct pool *pool = pool_at(w->all.next);
        for (uint32_t i = 0; i < pool->servers; i++)
            pool->server[i].asked = false;  /* the resolver has ended */
        pool_free(pool);
    }
    mem_give(m, w->pool, w->pools * sizeof(struct pool *));
    nut_frame_free(m, &w->frame);
    if (w->spare != -1)
        close(w->spare);
    loop_free(&w->loop);
    if (m->used > 0)
        log_of(EVENT_memory_left, NULL, NULL, "%llu bytes of memory were not given back",
               (unsigned long long)m->used);
}

/* Set up worker `n`, with its listening sockets. */
static bool worker_open(struct worker *w, struct house *h, uint32_t n)
{
    const struct process_conf *process = &h->first->conf.process;
    size_t most = process->max_memory > 0 ? (size_t)process->max_memory / h->workers : SIZE_MAX;
    *w = (struct worker){.control = &h->box, .resolver = &h->resolver.box, .number = n, .crew = h->worker,
                         .crew_size = h->workers,
                         .random = clock_wall_us() * 2 + 1 + n, .everybody = &h->clients, .spare = spare_open()};
    list_init(&w->all);
    if (!loop_open(&w->loop, most) || !mailbox_open(&w->box, EFD_NONBLOCK))
        return false;
    w->started = w->loop.now;
    nut_lexicon_build(&w->lexicon, NULL, 0);
    w->box.watch = (struct watch){.ready = worker_post, .loop = &w->loop, .fd = w->box.fd};
    if (!watch_for(&w->box.watch, SEES_IN) || !worker_prepare(w, h->setup))
        return false;
    worker_run_by(w, h->setup, w->prepared);
    w->prepared = NULL;
    return true;
}

/* ---- the control thread */

static void house_stop(struct house *h)
{
    if (h->stopping)
        return;
    h->stopping = true;
    for (uint32_t i = 0; i < h->workers; i++) {
        h->worker[i].stop.kind = LETTER_STOP;
        mailbox_post(&h->worker[i].box, &h->worker[i].stop);
    }
}

static void house_level(int by)
{
    int level = atomic_load(&logger.level) + by;
    if (level < 0 || level > LOG_MOST)
        return;
    atomic_store(&logger.level, level);
    log_of(EVENT_log_level, NULL, NULL, "%s log level to %d", by > 0 ? "up" : "down", level);
}

/* Log as the newest setup has it, but for what an option says, or a signal since
 * `before`, the setup before it, said the same. */
static void house_set_log(const struct house *h, const struct setup *before)
{
    int64_t wanted = h->setup->conf.process.log_level, level = h->options.level >= 0 ? h->options.level : wanted;
    if (before == NULL || before->conf.process.log_level != wanted)
        atomic_store(&logger.level, (int)least_of((size_t)level, LOG_MOST));
    atomic_store(&logger.json, h->setup->conf.process.log_format == 1);
}

static void house_reopen_log(const struct house *h)
{
    const char *log = house_log(h, h->setup);
    if (log != NULL && !log_open(log))
        log_of(EVENT_log_failed, NULL, NULL, "log file '%s' cannot be opened: %s", log, strerror(errno));
}

/* ---- the configuration is read anew */

static void setup_free(struct setup *setup)
{
    for (uint32_t i = 0; setup->crowd != NULL && i < setup->conf.pools; i++)
        if (setup->crowd[i] != NULL && --setup->crowd[i]->setups == 0)
            free(setup->crowd[i]);
    free(setup->crowd);
    conf_free(&setup->conf);
    free(setup->door);
    free(setup);
}

/* `workers`, or as many as there are cores for us. */
static uint32_t house_workers(const struct conf *conf)
{
    cpu_set_t cores;
    int64_t n = conf->process.workers;
    if (n == 0)
        n = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    return (uint32_t)least_of((size_t)n, NUT_WORKERS_MAX);
}

/* Each pool goes on with the crowd of one that it takes clients over from, rather of
 * one that listened there; others begin with nobody.  False: no memory. */
static bool setup_crowds(struct setup *setup, const struct setup *before)
{
    uint32_t pools = setup->conf.pools;
    setup->crowd = calloc(pools, sizeof(struct crowd *));
    if (setup->crowd == NULL)
        return false;
    for (uint32_t i = 0; before != NULL && i < 2 * before->conf.pools; i++) {
        uint32_t n = i % before->conf.pools;
        const struct pool_conf *old = &before->conf.pool[n];
        uint32_t heir = setup_heir(setup, &old->key, old->name);
        bool listens = heir < pools && listen_same(&setup->conf.pool[heir].key.listen, &old->key.listen);
        if (heir == pools || setup->crowd[heir] != NULL || (i == n && !listens))
            continue;
        setup->crowd[heir] = before->crowd[n];
        setup->crowd[heir]->setups++;
    }
    for (uint32_t i = 0; i < pools; i++) {
        if (setup->crowd[i] == NULL && (setup->crowd[i] = calloc(1, sizeof(struct crowd))) == NULL)
            return false;
        setup->crowd[i]->setups += setup->crowd[i]->setups == 0;
    }
    return true;
}

#define SECRET_MOST 512                     /* bytes of a password in a file */

/* The first line of a file, as a password; what is wrong with it, or NULL. */
static const char *secret_read(struct conf *c, const char *path, char **to)
{
    char text[SECRET_MOST + 2];             /* with the line's end: more is not read */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd == -1 ? -1 : read(fd, text, sizeof text);
    const char *wrong = n == -1 ? strerror(errno) : NULL;
    struct bytes line = {text, n > 0 ? (size_t)n : 0};
    line.len = find(line, 0, '\n');
    if (line.len > 0 && line.at[line.len - 1] == '\r')
        line.len--;
    if (wrong == NULL && line.len == 0)
        wrong = "its first line is empty";
    else if (wrong == NULL && (line.len > SECRET_MOST || find(line, 0, '\0') < line.len))
        wrong = "its first line is no password: it holds a NUL byte, or more than 512 bytes";
    if (wrong == NULL)
        *to = conf_text(c, line);
    file_close(fd);
    return wrong;
}

/* Read the passwords that stand in files. */
static void conf_secrets(struct conf *c)
{
    for (uint32_t i = 0; i < c->pools; i++) {
        struct pool_fields *k = &c->pool[i].key;
        const char *wrong = k->redis_auth_file == NULL ? NULL : secret_read(c, k->redis_auth_file, &k->redis_auth);
        if (wrong != NULL)
            conf_tell(c, c->pool[i].seen[POOL_redis_auth_file], "directive \"redis_auth_file\": '%s': %s",
                      k->redis_auth_file, wrong);
    }
}

/* Read the configuration, and take what it needs to run; NULL: conf.told of *bad
 * says what is wrong, or memory is short. */
static struct setup *setup_new(const struct house *h, struct conf *bad)
{
    const char *path = h->options.conf;
    struct setup *setup = calloc(1, sizeof *setup);
    if (setup == NULL)
        return NULL;
    struct stat st;
    bool fit = h->workers == 0 || stat(path, &st) == -1 || S_ISREG(st.st_mode);
    if (!fit) {                             /* a pipe would keep us waiting */
        conf_begin(&setup->conf, path, false);
        conf_tell(&setup->conf, 0, "is no regular file%s%s", "", "");
    }
    if (!fit || !conf_file(&setup->conf, path, path_is_yaml(path))) {
        *bad = setup->conf;
        free(setup);
        return NULL;
    }
    uint32_t workers = h->workers > 0 ? h->workers : house_workers(&setup->conf);
    conf_check_memory(&setup->conf, setup->conf.process.workers == 0 ? workers : 0);
    conf_secrets(&setup->conf);
    if (setup->conf.mistakes > 0) {
        *bad = setup->conf;
        free(setup);
        return NULL;
    }
    setup->door = malloc(workers * setup->conf.pools * sizeof *setup->door);
    if (setup->door == NULL || !setup_crowds(setup, h->setup)) {
        setup_free(setup);
        return NULL;
    }
    for (uint32_t i = 0; i < workers * setup->conf.pools; i++)
        setup->door[i].fd = -1;
    return setup;
}

/* Free the setups that no pool runs by any more. */
static void house_free_setups(struct house *h)
{
    for (struct setup **at = &h->setup; *at != NULL; ) {
        struct setup *setup = *at;
        if (atomic_load(&setup->users) > 0) {
            at = &setup->next;
            continue;
        }
        *at = setup->next;
        setup_free(setup);
    }
}

/* Log each line of a text. */
static void house_log_lines(const struct queue *text)
{
    char *copy = malloc(text->len + 1), *at = copy;
    if (copy == NULL)
        return;
    copy[queue_peek(text, copy, text->len)] = '\0';
    for (char *end; (end = strchr(at, '\n')) != NULL; at = end + 1)
        log_of(EVENT_reload_failed, NULL, NULL, "%.*s", (int)(end - at), at);
    free(copy);
}

/* Tell of the keys of the process that only a new start changes. */
static void house_tell_fixed(const struct house *h)
{
    for (size_t i = 0; i < countof(process_key); i++)
        if (!starts_with(bytes_of(key_name(&process_key[i])), lit("log")) && i != PROCESS_max_clients &&
            !key_same(&process_key[i], &h->first->conf.process, &h->setup->conf.process))
            log_of(EVENT_reloaded, NULL, NULL, "'%s' changes with a new start only", key_name(&process_key[i]));
}

static void house_tell_pool(const struct pool_conf *p, const char *what)
{
    log_of(EVENT_listening, p->name, NULL, "%slistens on %s, servers: %u", what, p->key.listen.text, p->key.servers.n);
}

/* Tell what has become of each pool; how many are as before. */
static uint32_t house_tell_pools(const struct conf *old, const struct conf *new)
{
    uint32_t same = 0;
    for (uint32_t i = 0; i < new->pools; i++) {
        const struct pool_conf *p = &new->pool[i], *before = conf_pool_named(old, bytes_of(p->name));
        bool is_same = before != NULL && conf_pool_same(before, p);
        same += is_same;
        if (!is_same)
            house_tell_pool(p, before == NULL ? "is new, " : "has changed, ");
    }
    for (uint32_t i = 0; i < old->pools; i++)
        if (conf_pool_named(new, bytes_of(old->pool[i].name)) == NULL)
            log_of(EVENT_reloaded, old->pool[i].name, NULL, "is gone");
    return same;
}

/* Have all workers take a step towards h->next. */
static void house_step(struct house *h, enum change step)
{
    h->step = step;
    h->ready = true;
    h->changing = h->workers;
    for (uint32_t i = 0; i < h->workers; i++) {
        struct setup_letter *letter = &h->worker[i].change;
        *letter = (struct setup_letter){.letter.kind = LETTER_SETUP, .setup = h->next, .step = step};
        mailbox_post(&h->worker[i].box, &letter->letter);
    }
}

/* The new setup is not taken over after all. */
static void house_give_up(struct house *h)
{
    if (h->next != NULL) {
        house_close_doors(h, h->next, h->setup);
        setup_free(h->next);
    }
    h->next = NULL;
    admin_hold(&h->admin, false);
    log_of(EVENT_reload_failed, NULL, NULL, "'%s' is not taken over: all stays as it is", h->options.conf);
}

/* All workers run by the new setup: tell so, and let go of what is not used. */
static void house_changed(struct house *h)
{
    struct setup *before = h->setup;
    h->next->next = before;
    h->setup = h->next;
    h->next = NULL;
    house_close_doors(h, before, h->setup);
    house_reopen_log(h);
    house_set_log(h, before);
    house_tell_fixed(h);
    uint32_t same = house_tell_pools(&before->conf, &h->setup->conf);
    log_of(EVENT_reloaded, NULL, NULL, "'%s' was read again: %u pools, %u of them as before", h->options.conf,
           h->setup->conf.pools, same);
    if (before != h->first)
        atomic_fetch_sub(&before->users, 1);
    house_free_setups(h);
    admin_hold(&h->admin, false);
}

/* All workers have taken a step. */
static void house_stepped(struct house *h)
{
    if (h->step == COMMIT) {
        house_changed(h);
    } else if (h->step == DROP) {
        log_of(EVENT_reload_failed, NULL, NULL, "memory is short");
        house_give_up(h);
    } else if (h->ready && admin_adopt(&h->admin, &h->next->conf)) {
        house_tune_doors(h, h->next);
        house_step(h, COMMIT);
    } else {
        house_step(h, DROP);
    }
}

/* Read the configuration again, and if it can be had change over to it, dropping
 * nobody: each worker prepares what is new, and when all have, all change. */
static void house_reload(struct house *h)
{
    struct conf bad = {0};
    h->again = h->changing > 0 || h->admin.away > 0;
    if (h->again || h->stopping)
        return;                             /* when what is under way is done */
    house_free_setups(h);
    admin_hold(&h->admin, true);
    h->next = setup_new(h, &bad);
    if (h->next == NULL || !house_listen(h, h->next, h->setup)) {
        house_log_lines(&bad.told);
        conf_free(&bad);
        house_give_up(h);
        return;
    }
    h->next->fd_most = house_descriptors(h, &h->next->conf);
    atomic_store(&h->next->users, 1);
    house_step(h, PREPARE);
}

static void house_signal(struct watch *watch, uint32_t sees)
{
    static const struct { uint8_t number; char name[5]; } names[] = {
        {SIGINT, "INT"}, {SIGTERM, "TERM"}, {SIGHUP, "HUP"}, {SIGTTIN, "TTIN"}, {SIGTTOU, "TTOU"}, {SIGUSR1, "USR1"},
        {SIGUSR2, "USR2"},
    };
    struct house *h = container_of(watch, struct house, signals);
    struct signalfd_siginfo info;
    size_t i = 0;
    (void)sees;
    if (read(watch->fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    while (names[i].number != info.ssi_signo)
        must(++i < countof(names));
    log_of(EVENT_signal, NULL, NULL, "signal %d (SIG%s) received", names[i].number, names[i].name);
    switch (names[i].number) {
    case SIGINT: case SIGTERM: house_stop(h);       break;
    case SIGHUP:               house_reopen_log(h); break;
    case SIGTTIN:              house_level(+1);     break;
    case SIGTTOU:              house_level(-1);     break;
    case SIGUSR1:
        house_reopen_log(h);                /* who rotates logs may call that a reload */
        house_reload(h);
        break;
    }
}

static void house_post(struct watch *watch, uint32_t sees)
{
    struct mailbox *box = container_of(watch, struct mailbox, watch);
    struct house *h = container_of(box, struct house, box);
    (void)sees;
    for (struct letter *l = mailbox_take(box), *next; l != NULL; l = next) {
        next = l->next;
        if (l->kind == LETTER_STOP) {
            h->stopped++;
        } else if (l->kind == LETTER_SETUP) {
            h->ready = h->ready && container_of(l, struct setup_letter, letter)->ready;
            if (--h->changing == 0)
                house_stepped(h);
        } else {
            admin_take(&h->admin);
        }
    }
    if (h->again)
        house_reload(h);
}

/* Signals are read like anything else, and wait until then: who sees our doors may send
 * one.  The threads that follow inherit the mask. */
static void house_hold_signals(struct house *h)
{
    static const int ours[] = {SIGINT, SIGTERM, SIGHUP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < countof(ours); i++)
        sigaddset(&set, ours[i]);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    sigaddset(&set, SIGPIPE);               /* and never read: who writes is told EPIPE */
    h->signals = (struct watch){.ready = house_signal, .loop = &h->loop, .fd = fd};
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static bool house_threads(struct house *h)
{
    if (pthread_create(&h->resolving, NULL, resolver_run, &h->resolver) != 0)
        return false;
    for (uint32_t i = 0; i < h->workers; i++)
        if (pthread_create(&h->worker[i].thread, NULL, worker_run, &h->worker[i]) != 0)
            return false;
    return true;
}

/* Build everything, short of threads; false: what failed was said. */
static bool house_open(struct house *h)
{
    struct mem *m = &h->loop.mem;
    if (!loop_open(&h->loop, SIZE_MAX) || !mailbox_open(&h->box, EFD_NONBLOCK) ||
        !watch_for(&h->signals, SEES_IN))
        return false;
    resolver_open(&h->resolver);
    if (!mailbox_open(&h->resolver.box, EFD_NONBLOCK))
        return false;
    h->box.watch = (struct watch){.ready = house_post, .loop = &h->loop, .fd = h->box.fd};
    h->worker = mem_zero(m, h->workers * sizeof *h->worker);
    if (h->worker == NULL || !watch_for(&h->box.watch, SEES_IN))
        return false;
    for (uint32_t i = 0; i < h->workers; i++)
        if (!worker_open(&h->worker[i], h, i))
            return false;
    h->admin = (struct admin){.loop = &h->loop, .box = &h->box, .worker = h->worker, .workers = h->workers};
    return admin_open(&h->admin, &h->setup->conf, h->stats_door);
}

static void house_run(struct house *h)
{
    struct utsname u;
    char stats[SOCKET_TEXT];
    uname(&u);
    log_of(EVENT_started, NULL, NULL, "nutproxy-%s built for %s %s %s started on pid %d, workers: %u", NUT_VERSION,
           u.sysname, u.release, u.machine, (int)getpid(), h->workers);
    for (uint32_t i = 0; i < h->setup->conf.pools; i++)
        house_tell_pool(&h->setup->conf.pool[i], "");
    if (h->stats_door != -1)
        log_of(EVENT_listening, NULL, NULL, "stats: listens on %s", socket_text(h->stats_door, false, stats));
    atomic_store(&logger.running, true);
    while (h->stopped < h->workers) {
        loop_serve(&h->loop, loop_patience(&h->loop, h->admin.door_at != 0 ? h->admin.door_at : UINT64_MAX));
        admin_timers(&h->admin);
        loop_show_again(&h->loop);
        loop_settle(&h->loop);
    }
    for (uint32_t i = 0; i < h->workers; i++)
        pthread_join(h->worker[i].thread, NULL);
    h->stop.kind = LETTER_STOP;
    mailbox_post(&h->resolver.box, &h->stop);
    pthread_join(h->resolving, NULL);       /* what it looks up is the workers' */
    for (uint32_t i = 0; i < h->workers; i++)
        worker_guests_end(&h->worker[i]);
    for (uint32_t i = 0; i < h->workers; i++)
        worker_free(&h->worker[i]);
    admin_free(&h->admin);
    mem_give(&h->loop.mem, h->worker, h->workers * sizeof *h->worker);
    loop_free(&h->loop);
    log_of(EVENT_stopped, NULL, NULL, "done");
}

/* Start, run, stop: the exit status. */
static int house_main(struct house *h)
{
    const char *log = house_log(h, h->setup);
    house_set_log(h, NULL);
    logger.journal = log == NULL && log_is_journal();
    if (log != NULL && !log_open(log)) {
        say("nutproxy: opening log file '%s' failed: %s\n", log, strerror(errno));
        return 1;
    }
    struct account user, group;
    if (!house_account(&h->setup->conf, &user, &group))
        return 1;
    h->stats_door = -1;
    h->setup->fd_most = house_descriptors(h, &h->setup->conf);
    if (h->options.daemonize)
        umask(0);                           /* as twemproxy's daemon: its sockets are for everybody */
    house_hold_signals(h);
    bool ok = house_listen_stats(h) && house_listen(h, h->setup, NULL);
    if (ok && h->options.daemonize && !house_daemonize()) {
        say("nutproxy: cannot become a daemon: %s\n", strerror(errno));
        ok = false;
    }
    ok = ok && house_write_pid(h);
    if (ok && !house_drop_rights(h)) {
        house_complain("user", "cannot run as '%s': %s", h->first->conf.process.user, strerror(errno));
        ok = false;
    }
    if (ok && (!house_open(h) || !house_threads(h))) {
        log_of(EVENT_start_failed, NULL, NULL, "cannot start: %s", strerror(errno));
        ok = false;
    }
    if (ok)
        house_run(h);
    house_sweep(h);
    return ok ? 0 : 1;
}

/* Print what a configuration comes to: the exit status. */
static int house_print(struct conf *conf)
{
    char held[512];
    struct out out = {.to = held, .room = sizeof held, .fd = STDOUT_FILENO};
    struct pen pen = {.mem = &conf->mem, .ok = true};
    conf_print(conf, house_workers(conf), &pen);
    queue_print(&pen.out, &out);
    out_flush(&out);
    nut_queue_free(&conf->mem, &pen.out);
    return pen.ok && !out.failed ? 0 : 1;
}

/* Read the configuration, and check it, print it, or run it: the exit status. */
static int house_begin(struct house *h)
{
    struct conf bad = {0};
    const char *path = h->options.conf;
    int status = 1;
    h->setup = h->first = setup_new(h, &bad);
    bool check = h->options.test || h->options.sample;
    struct account user, group;
    if (h->setup == NULL || check)
        queue_say(h->setup == NULL ? &bad.told : &h->setup->conf.notes);
    bool good = h->setup != NULL;
    if (good && h->options.test)
        good = house_account(&h->setup->conf, &user, &group) && house_addresses(&h->setup->conf);
    if (!good || h->options.test)
        say("nutproxy: configuration file '%s' syntax is %s\n", path, good ? "ok" : "invalid");
    if (good && check) {
        status = 0;
    } else if (good) {
        h->workers = house_workers(&h->setup->conf);
        atomic_store(&h->setup->users, 1);
        status = house_main(h);
    }
    if (good && h->options.sample)
        status = house_print(&h->setup->conf);
    if (h->next != NULL)
        setup_free(h->next);
    while (h->setup != NULL) {
        struct setup *next = h->setup->next;
        setup_free(h->setup);
        h->setup = next;
    }
    conf_free(&bad);
    return status;
}

#ifndef NUT_PROOFS
int main(int argc, char **argv)
{
    struct house house = {0};
    struct options *o = &house.options;
    char held[4096];
    struct out out = {.to = held, .room = sizeof held, .fd = STDOUT_FILENO};
    int (*tool)(int, char **, struct out *) = argc > 1 ? tool_named(argv[1]) : NULL;
    if (tool != NULL)
        return tool(argc - 1, argv + 1, &out);
    if (argc > 1 && argv[1][0] != '-') {
        say("nutproxy: '%s' is no tool (convert, diff, route); a configuration file is given with -c\n",
                argv[1]);
        return 1;
    }
    if (!options_read(o, argc, argv))
        return 1;
    if (o->sample && !o->given) {
        conf_sample(&out);
        out_flush(&out);
        return 0;
    }
    if (o->version || o->help || o->describe) {
        print_version();
        if (o->help)
            say_text(usage_text);
        if (o->describe) {
            print_counters("pool stats:", pool_stat);
            print_counters("\nserver stats:", server_stat);
        }
        return 0;
    }
    return house_begin(&house);
}
#endif /* NUT_PROOFS */
/* } 19 */
#endif /* NUT_CORE */
