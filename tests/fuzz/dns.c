/* dns.c - what name servers answer: anything, to questions that were asked or not.
 *
 * An input is a line of names to look up, parted by blanks, and then messages, parted by the byte
 * 0xfe.  The first byte of a message says how it begins: bits 0 to 2 which of the questions asked
 * it answers (another than there are: none, and it is sent as it stands); bit 3 with the letters of
 * the name in other cases; bits 4 to 6 a reply code or what else is wrong with its head; bit 7 after
 * a while.  The next byte is the number of records, and what follows stands behind the question.
 *
 * The room NAMES is real, with a socket of its own to a name server that the fuzzer plays.  The
 * model reads the records of one message; each lookup must end once, with addresses that some
 * message to its questions has.
 */
#define FUZZ_REAL_LIMITS
#include "fuzz.h"
#define NUT_PROOFS
#include "nutproxy.c"

#define LOOKUPS_MOST   3
#define QUESTIONS_MOST 64
#define MESSAGE_MOST   1200

struct asked_for { struct lookup lookup; uint32_t ended; struct places told; };

static struct stage {
    struct resolver  resolver;
    int              server;                /* the name server's socket */
    struct asked_for of[LOOKUPS_MOST];
    uint32_t         lookups, questions;
    struct { char text[DNS_MOST]; size_t len; } question[QUESTIONS_MOST];   /* as they came, the latest ones */
} stage;

/* ---- models */

/* The name at *at, of which `to` is told the labels with a dot behind each; false: there is none. */
static bool model_name(struct bytes b, size_t *at, char *to)
{
    size_t len = 0;
    for (size_t i = *at; i < b.len; i += 1 + octet(b.at[i])) {
        size_t label = octet(b.at[i]);
        if (label == 0) {
            to[len] = '\0';
            *at = i + 1;
            return true;
        }
        if (label > 63 || label >= b.len - i || len + label > 254)
            return false;
        memcpy(to + len, b.at + i + 1, label);
        len += label;
        to[len++] = '.';
    }
    return false;
}

/* Go over a name that may end in a pointer; false: it does not end in this message. */
static bool model_pass(struct bytes b, size_t *at)
{
    while (*at < b.len && b.at[*at] != '\0' && octet(b.at[*at]) < 0xc0)
        *at += 1 + octet(b.at[*at]);
    *at += *at < b.len && b.at[*at] != '\0' ? 2 : 1;
    return *at < b.len;                     /* and more is there */
}

/* The first eight addresses among the records behind the question. */
static struct places model_records(struct bytes b, size_t at, size_t size)
{
    struct places found = {0};
    uint32_t type = size == 4 ? 1 : 28;
    uint32_t left = octet(b.at[6]) * 256 + octet(b.at[7]);
    for (; left > 0 && model_pass(b, &at) && b.len - at >= 10; left--) {
        const unsigned char *head = (const unsigned char *)b.at + at;
        size_t len = (size_t)head[8] * 256 + head[9];
        at += 10;
        if (len > b.len - at)
            break;
        if (head[0] == 0 && head[1] == type && head[2] == 0 && head[3] == 1 && len == size && found.n < 8) {
            static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
            unsigned char *to = found.at[found.n++].is.s6_addr;
            memcpy(to, mapped, size == 4 ? 12 : 0);
            memcpy(to + (16 - size), b.at + at, size);
        }
        at += len;
    }
    return found;
}

static bool places_have(const struct places *all, const struct place *p)
{
    for (uint32_t i = 0; i < all->n; i++)
        if (place_same(&all->at[i], p))
            return true;
    return false;
}

/* ---- a message by itself */

/* A question is a message that asks for one name. */
static void claim_question(struct bytes q)
{
    char name[256];
    size_t at = DNS_HEAD;
    claim(q.len > DNS_HEAD && q.len <= DNS_MOST && memcmp(q.at + 2, "\1\0\0\1\0\0\0\0\0\0", 10) == 0);
    claim(model_name(q, &at, name) && at + 4 == q.len);
    claim(q.at[at] == 0 && (q.at[at + 1] == 1 || q.at[at + 1] == 28) && memcmp(q.at + at + 2, "\0\1", 2) == 0);
}

/* What is taken of a reply to a question is what the model finds. */
static void claim_taken(struct bytes reply, size_t question)
{
    size_t size = reply.at[question - 3] == 1 ? 4 : 16;
    char *shown = exactly(reply.at, reply.len);
    struct places places = {0}, want = model_records(reply, question, size);
    uint32_t code = octet(reply.at[3]) & 15;
    bool told = dns_take((struct bytes){shown, reply.len}, question, size == 4 ? DNS_INET : DNS_INET6, &places);
    claim(told == (code == 0 || code == 3));
    claim(places.n == (code == 0 ? want.n : 0));
    for (uint32_t i = 0; i < places.n; i++)
        claim(place_same(&places.at[i], &want.at[i]));
    free(shown);
}

/* ---- the stage */

static struct sockaddr_in loopback(int fd)
{
    struct sockaddr_in in = {0};
    socklen_t len = sizeof in;
    claim(getsockname(fd, (struct sockaddr *)&in, &len) == 0);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return in;
}

static int socket_here(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    claim(fd != -1 && bind(fd, (struct sockaddr *)&in, sizeof in) == 0);
    return fd;
}

static void ended(struct lookup *l)
{
    struct asked_for *a = container_of(l, struct asked_for, lookup);
    a->ended++;
    claim(l->places.n <= countof(l->places.at) && !list_linked(&l->in));
    for (uint32_t i = 0; i < l->places.n; i++)
        claim(places_have(&a->told, &l->places.at[i]));
}

/* The name server takes in what it is asked. */
static void stage_hear(void)
{
    char text[DNS_MOST + 1];
    ssize_t n;
    while ((n = recv(stage.server, text, sizeof text, 0)) >= 0) {
        claim_question((struct bytes){text, (size_t)n});
        uint32_t i = stage.questions++ % QUESTIONS_MOST;
        memcpy(stage.question[i].text, text, (size_t)n);
        stage.question[i].len = (size_t)n;
    }
}

static void stage_read(void)
{
    struct resolver *r = &stage.resolver;
    while (r->fd != -1 && resolver_read(r))
        ;
    resolver_timers(r);
    if (!list_empty(&r->asked) || !list_empty(&r->waiting))
        resolver_next(r);
    stage_hear();
}

/* All that are open have had their time. */
static void stage_wait(void)
{
    for (struct link *at = stage.resolver.asked.next; at != &stage.resolver.asked; at = at->next)
        container_of(at, struct lookup, in)->due = 0;
    stage_read();
}

/* Begin to look up the names in `line`. */
static void stage_open(struct bytes line)
{
    struct resolver *r = &stage.resolver;
    struct sockaddr_in in;
    stage.lookups = stage.questions = 0;
    stage.server = socket_here();
    resolver_open(r);
    r->fd = socket_here();
    in = loopback(stage.server);
    memcpy(&r->server[0].is, &in, sizeof in);
    r->server[0].len = sizeof in;
    r->servers = 1;
    r->domains = 2;
    memcpy(r->search, "lan\0x.org\0", 10);
    r->ndots = 1;
    r->attempts = 2;
    r->timeout_ms = 5000;
    while (stage.lookups < LOOKUPS_MOST) {
        struct bytes word = word_next(&line);
        if (word.len == 0)
            break;
        struct asked_for *a = &stage.of[stage.lookups++];
        *a = (struct asked_for){.lookup.done = ended};
        word.len = least_of(word.len, HOST_MOST);
        copy(a->lookup.host, word);
        word.len = strlen(a->lookup.host);  /* a NUL ends it */
        for (const char *c = a->lookup.host; *c != '\0'; c++)
            a->lookup.dots += *c == '.';
        if (word.len == 0)
            a->ended = 1;                   /* such a host is none, and is not asked for */
        else
            list_push(&r->waiting, &a->lookup.in);
    }
    if (!list_empty(&r->waiting))
        resolver_next(r);
    stage_hear();
}

/* What a message says to a question is told to those whose name it has. */
static void stage_tell(struct bytes message, size_t question, struct bytes asked)
{
    size_t at = DNS_HEAD, size = asked.at[asked.len - 3] == 1 ? 4 : 16;
    char name[256];
    claim(model_name(asked, &at, name));
    struct places found = model_records(message, question, size);
    for (uint32_t i = 0; i < stage.lookups; i++) {
        struct asked_for *a = &stage.of[i];
        size_t len = strlen(a->lookup.host);
        len -= a->lookup.host[len > 0 ? len - 1 : 0] == '.';
        if (strncasecmp(name, a->lookup.host, len) != 0)
            continue;
        for (uint32_t k = 0; k < found.n; k++)
            if (a->told.n < countof(a->told.at) && !places_have(&a->told, &found.at[k]))
                a->told.at[a->told.n++] = found.at[k];
    }
}

/* Send one message. */
static void stage_say(struct bytes in)
{
    char text[MESSAGE_MOST];
    size_t len = 0;
    uint8_t how = in.len > 0 ? (uint8_t)in.at[0] : 0xff;
    struct bytes asked = {0};
    in = bytes_from(in, in.len > 0);
    if ((how & 0x80) != 0)
        stage_wait();
    if (stage.resolver.fd == -1)
        return;
    if ((how & 7u) < stage.questions && stage.questions <= QUESTIONS_MOST)
        asked = (struct bytes){stage.question[how & 7].text, stage.question[how & 7].len};
    if (asked.len > 0) {
        static const struct { uint8_t at, flip; } wrong[] = {
            {3, 0}, {3, 3}, {3, 2}, {2, 0x80}, {5, 1}, {1, 1}, {2, 2}, {3, 5}
        };
        memcpy(text, asked.at, asked.len);
        text[2] = (char)0x81;
        text[7] = in.len > 0 ? (char)(in.at[0] & 31) : 0;
        in = bytes_from(in, in.len > 0);
        text[wrong[how >> 4 & 7].at] = (char)(octet(text[wrong[how >> 4 & 7].at]) ^ wrong[how >> 4 & 7].flip);
        for (size_t i = DNS_HEAD; i + 4 < asked.len && (how & 8) != 0; i++)
            if ((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z'))
                text[i] = (char)(text[i] ^ 32);
        len = asked.len;
    }
    in.len = least_of(in.len, sizeof text - len);
    copy(text + len, in);
    struct bytes message = {text, len + in.len};
    if (asked.len > 0) {
        claim_taken(message, asked.len);
        if ((octet(text[3]) & 15) == 0)
            stage_tell(message, asked.len, asked);
        bool answers = dns_answers(message, asked);
        claim(answers == ((octet(text[2]) & 0x80) != 0 && text[5] == 1 && text[1] == asked.at[1]));
    }
    struct sockaddr_in to = loopback(stage.resolver.fd);
    (void)!sendto(stage.server, text, message.len, 0, (struct sockaddr *)&to, sizeof to);
    stage_read();
}

/* Time goes by: each lookup ends, once. */
static void stage_close(void)
{
    struct resolver *r = &stage.resolver;
    for (int i = 0; i < 20 && !list_empty(&r->asked); i++)
        stage_wait();
    claim(list_empty(&r->asked) && list_empty(&r->waiting) && r->asks == 0);
    for (uint32_t i = 0; i < stage.lookups; i++)
        claim(stage.of[i].ended == 1);
    if (stage.lookups > 0)
        resolver_next(r);
    if (r->fd != -1 && stage.lookups > 0)
        claim(false);                       /* nobody is asked any more, so the socket is gone */
    if (r->fd != -1)
        close(r->fd);
    close(stage.server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = {(const char *)data, size};
    size_t line = find(in, 0, '\n');
    stage_open((struct bytes){in.at, line});
    in = bytes_from(in, least_of(line + 1, in.len));
    while (in.len > 0) {
        size_t len = find(in, 0, (char)0xfe);
        stage_say((struct bytes){in.at, len});
        in = bytes_from(in, least_of(len + 1, in.len));
    }
    stage_close();
    return 0;
}
