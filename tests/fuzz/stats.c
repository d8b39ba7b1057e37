/* stats.c - what is said to the stats port: anything, in any cut, by several clients at once.
 *
 * The room ADMIN is real, with its loop and with real sockets; the fuzzer is the worker that
 * it asks for its counters.  In an input bytes from 0xf0 on are acts, and all others are said by
 * the current client:
 *
 *   f0  another client connects        f4  a turn of the loop
 *   f1  the current one is the next    f5  the worker answers
 *   f2  it sends no more               f6  what was said until here is sent
 *   f3  it closes                      f7  the client reads       f8  memory is denied once, soon
 *   ff  the next byte is said, whatever it is
 *
 * Whoever stays is told the numbers, as JSON, and then the end; when all are gone nothing is
 * left: no memory, no descriptor.
 */
#define FUZZ_REAL_LIMITS
#include "fuzz.h"
#define NUT_PROOFS
#include "nutproxy.c"

#define CLIENTS_MOST 6

static const char configuration[] =
    "[nutproxy]\nstats = off\n"
    "[alpha]\nlisten = 127.0.0.1:1\nservers =\n    127.0.0.1:2:1 one\n    127.0.0.1:3:1 \"t\\\"w\\\\o\"\n"
    "[\"b\\x01\\xff\\xc3\\xa9\"]\nlisten = 127.0.0.1:4\nprotocol = redis\nservers =\n    /tmp/s:1\n";

/* What the process has of these: the control thread's part of struct house, and a worker. */
static struct stage {
    struct conf        conf;
    struct loop        loop;
    struct mailbox     box;
    struct worker      worker;
    struct admin       admin;
    struct sockaddr_un name;
    socklen_t          name_len;
    size_t             held;                /* bytes, when nobody is there */
    int                descriptor;          /* the next free one, when an input begins */
} stage;

struct guest { int fd; bool spoilt; struct text say, heard; bool ended; };

static int next_descriptor(void)
{
    int fd = dup(stage.box.fd);
    claim(fd != -1);
    close(fd);
    return fd;
}

static void stage_letters(struct watch *w, uint32_t sees)
{
    (void)w;
    (void)sees;
    for (struct letter *l = mailbox_take(&stage.box), *next; l != NULL; l = next) {
        next = l->next;
        admin_take(&stage.admin);
    }
}

static bool stage_open(void)
{
    int door = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    stage.name.sun_family = AF_UNIX;
    stage.name_len = sizeof stage.name;
    /* With no name given the kernel makes one that is no file. */
    claim(bind(door, (struct sockaddr *)&stage.name, sizeof stage.name.sun_family) == 0 && listen(door, 64) == 0);
    claim(getsockname(door, (struct sockaddr *)&stage.name, &stage.name_len) == 0);
    claim(conf_read(&stage.conf, "c", bytes_of(configuration)));
    claim(loop_open(&stage.loop, SIZE_MAX) && mailbox_open(&stage.box, EFD_NONBLOCK));
    claim(mailbox_open(&stage.worker.box, EFD_NONBLOCK));
    stage.worker.control = &stage.box;
    stage.box.watch = (struct watch){.ready = stage_letters, .loop = &stage.loop, .fd = stage.box.fd};
    claim(watch_for(&stage.box.watch, SEES_IN));
    stage.admin = (struct admin){.loop = &stage.loop, .box = &stage.box, .worker = &stage.worker, .workers = 1};
    claim(admin_open(&stage.admin, &stage.conf, door));
    nut_mem_empty(&stage.loop.mem);
    stage.held = stage.loop.mem.used;
    return true;
}

/* The worker counts what the dice say. */
static void stage_answer(uint64_t *dice)
{
    for (struct letter *l = mailbox_take(&stage.worker.box), *next; l != NULL; l = next) {
        struct snapshot *s = stage.worker.snapshot;
        next = l->next;
        claim(l->kind == LETTER_COUNT && l == &s->letter && s->conf == &stage.conf);
        s->total = roll(dice, SIZE_MAX);
        s->current = roll(dice, 100);
        for (size_t i = 0; i < stage.conf.pools * sizeof *s->pool / sizeof(uint64_t); i++)
            ((uint64_t *)s->pool)[i] = roll(dice, 2) == 0 ? 0 : (uint64_t)roll(dice, SIZE_MAX) << roll(dice, 34);
        for (size_t i = 0; i < conf_servers(&stage.conf) * sizeof *s->server / sizeof(uint64_t); i++)
            ((uint64_t *)s->server)[i] = roll(dice, SIZE_MAX);
        mailbox_post(stage.worker.control, l);
    }
}

static void stage_turn(int ms)
{
    loop_serve(&stage.loop, ms);
    loop_show_again(&stage.loop);
    loop_settle(&stage.loop);
}

/* ---- those who ask */

static void guest_open(struct guest *g)
{
    *g = (struct guest){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    claim(g->fd != -1 && connect(g->fd, (struct sockaddr *)&stage.name, stage.name_len) == 0);
}

static void guest_send(struct guest *g)
{
    if (g->fd != -1 && g->say.len > 0)      /* what is not taken was said in vain: nobody must hear it */
        (void)!send(g->fd, g->say.at, g->say.len, MSG_NOSIGNAL);
    g->say.len = 0;
}

static void guest_hear(struct guest *g)
{
    char bytes[4096];
    ssize_t n = 1;
    while (g->fd != -1 && !g->ended && (n = recv(g->fd, bytes, sizeof bytes, 0)) > 0)
        text_add(&g->heard, bytes, (size_t)n);
    if (n == 0 || (n == -1 && errno != EAGAIN))
        g->ended = true;
}

static void guest_close(struct guest *g)
{
    if (g->fd != -1)
        close(g->fd);
    g->fd = -1;
    g->spoilt = true;
}

/* ---- JSON: each of these goes over what it is named after, or claims in vain */

static void json_blanks(struct bytes *b)
{
    while (b->len > 0 && memchr(" \t\r\n", b->at[0], 4) != NULL)
        *b = bytes_from(*b, 1);
}

static void json_string(struct bytes *b)
{
    claim(b->len > 0 && b->at[0] == '"');
    for (*b = bytes_from(*b, 1); b->len > 0 && b->at[0] != '"'; ) {
        size_t n = yaml_character(*b);
        claim(n > 0 && octet(b->at[0]) >= ' ');
        if (b->at[0] == '\\') {
            claim(b->len > 6 && b->at[1] == 'u');
            for (int i = 2; i < 6; i++)
                claim(hex_digit(b->at[i]) >= 0);
            n = 6;
        }
        *b = bytes_from(*b, n);
    }
    claim(b->len > 0);
    *b = bytes_from(*b, 1);
}

static void json_object(struct bytes *b, int depth)
{
    claim(depth < 4 && b->len > 0 && b->at[0] == '{');
    do {
        *b = bytes_from(*b, 1);
        json_blanks(b);
        json_string(b);
        json_blanks(b);
        claim(b->len > 0 && b->at[0] == ':');
        *b = bytes_from(*b, 1);
        json_blanks(b);
        claim(b->len > 0);
        if (b->at[0] == '{') {
            json_object(b, depth + 1);
        } else if (b->at[0] == '"') {
            json_string(b);
        } else {
            size_t digits = digits_end(*b, 0);
            claim(digits > 0 && (b->at[0] != '0' || digits == 1));
            *b = bytes_from(*b, digits);
        }
        json_blanks(b);
        claim(b->len > 0);
    } while (b->at[0] == ',');
    claim(b->at[0] == '}');
    *b = bytes_from(*b, 1);
}

/* What a client hears that stays to the end. */
static void claim_heard(struct bytes heard)
{
    claim(starts_with(heard, lit("{\"service\":\"nutcracker\", ")));
    json_object(&heard, 0);
    claim(bytes_same(heard, lit("\n")));
}

/* ---- the play */

/* Who stayed has heard all. */
static bool all_ended(const struct guest *guest, int guests)
{
    for (int i = 0; i < guests; i++)
        if (!guest[i].spoilt && !guest[i].ended)
            return false;
    return true;
}

static bool all_gone(void)
{
    const struct admin *a = &stage.admin;
    nut_mem_empty(&stage.loop.mem);
    return list_empty(&a->asked) && list_empty(&a->next) && list_empty(&a->told) && a->away == 0 &&
           list_empty(&stage.loop.leaving) && stage.loop.mem.used == stage.held &&
           next_descriptor() == stage.descriptor;
}

#define TURNS_MOST 100                      /* the sockets are local: a client needs three or four */

/* All are told what they are owed, leave, and leave nothing.  Where memory was denied somebody
 * may have been told nothing, or less. */
static void play_end(struct guest *guest, int guests, bool denied, uint64_t *dice)
{
    for (int i = 0; i < guests; i++)
        guest_send(&guest[i]);
    for (int turns = 0; turns < (denied ? TURNS_MOST / 2 : TURNS_MOST) && !all_ended(guest, guests); turns++) {
        stage_turn(0);
        stage_answer(dice);
        for (int i = 0; i < guests; i++)
            guest_hear(&guest[i]);
    }
    claim(denied || all_ended(guest, guests));
    for (int i = 0; i < guests; i++) {
        if (!guest[i].spoilt && !denied)
            claim_heard((struct bytes){guest[i].heard.at, guest[i].heard.len});
        guest_close(&guest[i]);
        free(guest[i].say.at);
        free(guest[i].heard.at);
    }
    for (int turns = 0; turns < TURNS_MOST && !all_gone(); turns++) {
        stage_turn(0);
        stage_answer(dice);
    }
    claim(all_gone());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool open;
    uint64_t dice = dice_of(data, size);
    struct guest guest[CLIENTS_MOST], *g = guest;
    int guests = 1;
    bool denied = false;
    open = open || stage_open();
    stage.descriptor = next_descriptor();
    guest_open(&guest[0]);
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = data[i];
        if (byte > 0xf0 && byte < 0xff)
            guest_send(g);
        switch (byte) {
        case 0xf0:
            if (guests < CLIENTS_MOST)
                guest_open(&guest[guests++]);
            break;
        case 0xf1: g = &guest[(g - guest + 1) % guests];                        break;
        case 0xf2: if (g->fd != -1) shutdown(g->fd, SHUT_WR);                   break;
        case 0xf3: guest_close(g);                                              break;
        case 0xf4: stage_turn(0);                                               break;
        case 0xf5: stage_answer(&dice);                                         break;
        case 0xf6:                                                              break;
        case 0xf7: guest_hear(g);                                               break;
        case 0xf8:
            stage.loop.mem.deny_at = 1 + roll(&dice, 6);
            denied = true;
            break;
        default:
            if (byte == 0xff && i + 1 < size)
                byte = data[++i];
            text_add(&g->say, (const char *)&byte, 1);
        }
    }
    play_end(guest, guests, denied, &dice);
    stage.loop.mem.deny_at = 0;
    return 0;
}
