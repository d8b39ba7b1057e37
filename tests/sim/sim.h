/* sim.h - what the parts of the simulator know of each other.  sim.c tells what it is all for. */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- choices: everything that could be otherwise is decided here, from a seed or from a fuzzer's bytes */

void     choices_from_seed(uint64_t seed);
void     choices_from_bytes(const uint8_t *at, size_t len);
bool     choices_left(void);            /* false: the fuzzer's bytes are used up */
uint32_t pick(uint32_t n);              /* 0 to n - 1 */
bool     chance(uint32_t of_1000);
uint64_t between(uint64_t least, uint64_t most);

/* ---- the trace, and what is broken */

extern bool tracing;                    /* print what happens */
uint64_t    trace_hash(void);           /* of all that has happened in this history */
void        note(const char *what, uint64_t a, uint64_t b);
__attribute__((format(printf, 1, 2))) void tell(const char *format, ...);
__attribute__((format(printf, 1, 2))) _Noreturn void broken(const char *format, ...);
void tell_bytes(const char *who, uint32_t number, const char *what, uint32_t which, const char *at, size_t n);
extern void (*on_broken)(const char *rule);

/* ---- memory of the simulator: all of it is freed at the end of a history */

void *keep(size_t n);                   /* all zero */
void  unkeep(void *p);
void  keep_nothing(void);

/* A queue of bytes. */
struct buf { char *at; size_t head, len, cap; };        /* at + head: the first of len bytes */
void buf_put(struct buf *b, const char *at, size_t n);
void buf_text(struct buf *b, const char *text);
__attribute__((format(printf, 2, 3))) void buf_print(struct buf *b, const char *format, ...);
void buf_drop(struct buf *b, size_t n);
void buf_free(struct buf *b);
const char *buf_at(const struct buf *b);

/* ---- time, in microseconds since the history began */

#define MS 1000u
#define SECOND 1000000u
uint64_t now(void);
void     later(uint64_t delay, void (*what)(void *of), void *of);

/* ---- the weather: how much goes wrong by itself, each in 1000 */

struct weather {
    uint64_t delay_most;                /* of a packet */
    uint32_t cut;                       /* packets that bring only some of the bytes */
    uint32_t slow_turn;                 /* turns in which the process is held up, up to 200 ms */
    uint32_t interrupted, again;        /* calls that find EINTR, or EAGAIN for no reason */
    uint32_t few_events;                /* turns that are told of some descriptors only */
    uint32_t no_memory, no_watch;       /* malloc, epoll_ctl */
    uint32_t no_socket;                 /* socket, accept4: ENFILE, ENOBUFS, ECONNABORTED, ENETUNREACH */
    uint32_t no_name;                   /* questions to name servers that are lost, late, or answered wrongly */
};
extern struct weather weather;

/* ---- the kernel */

void kernel_begin(void);
void kernel_end(void);                  /* what was left open is forgotten */
void kernel_limit(int fds, size_t memory);              /* RLIMIT_NOFILE; what malloc may hold, 0: all */
void kernel_windows(size_t least);      /* how small the buffers of a connection may be */
void kernel_file(const char *path, const char *text);   /* there is such a file, or now it is another */
void kernel_signal(int number);         /* send one to the process */
bool kernel_has_signals(void);          /* it waits for them: it runs */

/* Run `process` and all that happens, until it has ended. */
int  kernel_run(int (*process)(int argc, char **argv), int argc, char **argv);
int  kernel_sockets(void);              /* connections that the process has open */
size_t kernel_memory(void);             /* bytes that it holds of malloc */
bool kernel_asks_names(void);           /* a lookup is under way, or was just now */

/* One end of a connection: of the process (which has a descriptor), or of the world. */
struct end;
enum answer { ACCEPTS, REFUSES, SILENT };
struct site {                           /* where the world listens */
    struct site *next;
    char         path[64];              /* or "" */
    uint32_t     address;               /* host order */
    uint16_t     port;
    void        *owner;
    enum answer (*knock)(void *owner);
    void        (*come)(void *owner, struct end *end);
};
void        kernel_site(struct site *site);
struct end *world_connect(uint16_t port);               /* NULL: nobody listens there */
void        end_own(struct end *e, void *owner, void (*ready)(void *owner));
void        end_say(struct end *e, const char *at, size_t n);
struct buf *end_input(struct end *e);   /* what has come; drop it with end_took */
void        end_took(struct end *e, size_t n);
void        end_room(struct end *e, size_t n);          /* how much it takes before it is read */
void        end_shut(struct end *e);    /* says no more */
void        end_close(struct end *e);   /* neither says nor hears any more */
void        end_reset(struct end *e);
void        end_vanish(struct end *e);  /* the host is gone, and says nothing */
bool        end_ended(const struct end *e);             /* the other has said its last, and all has come */
bool        end_is_reset(const struct end *e);
bool        end_is_quiet(const struct end *e);          /* nothing is under way to it */
size_t      end_unread(const struct end *e);            /* bytes that the other has not read */
bool        end_take_back(struct end *e, size_t n);     /* the last n bytes, if they are not read */
void        end_on_write(struct end *e, void (*heard)(void *owner));    /* called before the other writes */
void        end_deliver(struct end *e, const char *at, size_t n);       /* at once */

/* Names: how many addresses a name has, written to `address`; -1: that cannot be told now. */
enum { ADDRESSES_MOST = 4 };
extern int (*name_find)(const char *name, uint32_t address[ADDRESSES_MOST]);

/* ---- what is true: the servers tell it what they do, the clients ask it what can be */

enum { SERVERS_MOST = 8, KEYS_MOST = 48, CLIENTS_MOST = 64 };
enum did { DID_READ, DID_WRITE, DID_COUNT, DID_DELETE, DIDS };

struct value {
    uint32_t key, writer;
    char    *at;
    size_t   len;
    uint64_t applied_at;
    uint32_t place;                     /* of the key's entry, once it is applied */
    int      server;                    /* -1: not applied */
    bool     not_sent;
};

void truth_begin(uint32_t servers, uint32_t keys, uint32_t clients, bool moves);
/* Text of key `k`; the number of a text, or -1. */
const char *key_text(uint32_t k);
int  key_number(const char *at, size_t len);

struct value *value_new(uint32_t key, uint32_t writer, size_t pad);
const struct value *value_find(const char *at, size_t len);     /* NULL: nobody has made it */

/* A client asks, is told that what it asked was not sent, or may ask no more. */
void truth_ask(enum did did, uint32_t key);
void truth_unask(enum did did, uint32_t key);
void truth_unsent(struct value *v);

/* Servers do it. */
const char *truth_get(int server, uint32_t key, size_t *len);   /* what it has now; NULL: nothing */
uint64_t truth_unique(int server, uint32_t key);                /* memcached's unique of that */
void truth_did(int server, enum did did, uint32_t key);         /* one more was done */
bool truth_is_one_server(const uint32_t *key, uint32_t keys);   /* they go to the same, or may do so */
void truth_set(int server, uint32_t key, const char *at, size_t len);
void truth_delete(int server, uint32_t key);
void truth_count(int server, uint32_t key, uint64_t n);
void truth_forget(int server);          /* it was started again, and has nothing */
uint32_t truth_error(int server, enum did did, uint32_t key);   /* the serial number of an error it answers */

/* What a client got in reply to what it asked at `asked`: broken() unless that can be. */
void truth_read(uint32_t client, uint32_t key, const char *at, size_t len, uint64_t asked);  /* at NULL: nothing */
void truth_written(uint32_t client, const struct value *v, uint64_t asked);
void truth_counted(uint32_t client, uint32_t key, uint64_t n, uint64_t asked);
void truth_is(uint32_t client, const uint32_t *key, uint32_t keys, uint64_t n, uint64_t asked);   /* EXISTS */
void truth_deleted(uint32_t client, const uint32_t *key, uint32_t keys, uint64_t n, uint64_t asked);
void truth_told(uint32_t serial, const uint32_t *key, uint32_t keys, enum did did, uint64_t asked);
void truth_end(void);

/* ---- servers and clients */

enum mood {                             /* of a server, from one time to another */
    WELL, REFUSING, HANGING, MUTE, SLOW, ERRORS, LOADING, DROPS, GARBLES, STRAYS, LOST, MOODS
};
/* named: some may have names that are looked up. */
void servers_begin(bool memcached, uint32_t n, bool named, bool password);
void server_be(uint32_t n, enum mood mood);
bool servers_are_named(void);           /* one of them at least has a name that must be looked up */
void server_restart(uint32_t n);        /* empty */
void server_rename(uint32_t n, bool well);
const char *server_place(uint32_t n);   /* as the configuration has it */
void servers_end(void);
extern const char *const mood_names[MOODS];

struct manners {                        /* of clients */
    bool     memcached;
    bool     password;                  /* they give one first */
    bool     may_be_closed;             /* there are histories in which a client is closed for no fault of its own */
    uint64_t patience;                  /* every answer is there within this; 0: for ever */
    size_t   pad_most;                  /* of values ... */
    uint32_t large;                     /* ... and how many of 1000 may be so large */
    uint32_t hello;                     /* how many requests of 1000 change the protocol */
};
void clients_begin(const struct manners *manners, uint32_t keys);
void client_come(uint32_t number);      /* a new one */
void client_tour(uint32_t number);      /* it asks for each key, once */
void clients_good(uint32_t number);     /* one whose requests must all be answered well */
bool clients_are_well(void);            /* it has had all it asked for */
void clients_expect(uint64_t patience, bool may_be_closed);
void clients_leave(void);               /* all close */
uint64_t clients_answered(void);

/* ---- a history, whole; broken() if a rule is */

void history_run(void);

#endif
