/* proofs.c - the pure core, proved: built with the sanitizers, it includes nutproxy.c.
 *
 * A proof is named by the sentence it proves, and its cases are rows.  Every input is
 * shown cut at every byte, copied to an allocation of exactly its size, so that a look
 * past its end is seen.  What allocates is run with the first, the second ... request
 * for memory denied, until it gets through.
 */
#include "nutproxy.c"

#include <arpa/inet.h>
#include <strings.h>

static int passed, failed;

static void check(bool ok, const char *proof, const char *about)
{
    ok ? passed++ : failed++;
    if (!ok)
        printf("FAIL  %s: %.100s\n", proof, about);
}

static struct mem fresh(void) { return (struct mem){.most = SIZE_MAX}; }

/* Whether all that was taken has come back. */
static bool all_back(struct mem *m)
{
    nut_mem_empty(m);
    return m->used == 0;
}

static char *exact(const char *at, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    must(copy != NULL);
    memcpy(copy, at, len);
    return copy;
}

#define TEXT(s) {s, sizeof s - 1}

/* ---- requests */

typedef enum scan scanner(struct mem *m, struct frame *f, struct bytes in);

struct request_case { struct bytes in; enum scan want; uint32_t argc; const char *text; };

static const struct request_case resp_requests[] = {
    /* bytes                                                    verdict   words  forwarded (NULL: as it is), or why not */
    { TEXT("*1\r\n$4\r\nPING\r\n"),                             SCAN_DONE, 1, NULL },
    { TEXT("*2\r\n$3\r\nGET\r\n$0\r\n\r\n"),                    SCAN_DONE, 2, NULL },
    { TEXT("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n"),     SCAN_DONE, 3, NULL },
    { TEXT("*2\r\n$3\r\nGET\r\n$3\r\na\0b\r\n"),                SCAN_DONE, 2, NULL },
    { TEXT("*11\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n"
           "$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n"),                SCAN_DONE, 11, NULL },
    { TEXT("*0\r\n"),                                           SCAN_DONE, 0, NULL },
    { TEXT("*-1\r\n"),                                          SCAN_DONE, 0, NULL },
    { TEXT("\r\n"),                                             SCAN_DONE, 0, "*0\r\n" },
    { TEXT("\n"),                                               SCAN_DONE, 0, "*0\r\n" },
    { TEXT("PING\r\n"),                                         SCAN_DONE, 1, "*1\r\n$4\r\nPING\r\n" },
    { TEXT("  get  k \n"),                                      SCAN_DONE, 2, "*2\r\n$3\r\nget\r\n$1\r\nk\r\n" },
    { TEXT("set k \"a\\x41\\n\\\"\" 'it\\'s'\r\n"),             SCAN_DONE, 4,
      "*4\r\n$3\r\nset\r\n$1\r\nk\r\n$4\r\naA\n\"\r\n$4\r\nit's\r\n" },
    { TEXT("get \"\"\r\n"),                                     SCAN_DONE, 2, "*2\r\n$3\r\nget\r\n$0\r\n\r\n" },
    { TEXT("get ab\"c d\"\r\n"),                                SCAN_DONE, 2, "*2\r\n$3\r\nget\r\n$5\r\nabc d\r\n" },
    { TEXT("get \"\\xzz\\q\"\r\n"),                             SCAN_DONE, 2, "*2\r\n$3\r\nget\r\n$4\r\nxzzq\r\n" },
    { TEXT("\vget\f \"b\"\va\vb\r\n"),                          SCAN_DONE, 3,
      "*3\r\n$4\r\nget\f\r\n$1\r\nb\r\n$3\r\na\vb\r\n" },
    { TEXT("get \"a\r\n"),                                      SCAN_BAD, 0, "unbalanced quotes" },
    { TEXT("get \"a\"b\r\n"),                                   SCAN_BAD, 0, "unbalanced quotes" },
    { TEXT("get 'a\r\n"),                                       SCAN_BAD, 0, "unbalanced quotes" },
    { TEXT("get \"a\\\r\n"),                                    SCAN_BAD, 0, "unbalanced quotes" },
    { TEXT("get a\0b\r\n"),                                     SCAN_BAD, 0, "NUL" },
    { TEXT("POST / HTTP/1.1\r\n"),                              SCAN_BAD, 0, "HTTP" },
    { TEXT("Host: x\r\n"),                                      SCAN_BAD, 0, "HTTP" },
    { TEXT("*x\r\n"),                                           SCAN_BAD, 0, "invalid multibulk length" },
    { TEXT("*\r\n"),                                            SCAN_BAD, 0, "invalid multibulk length" },
    { TEXT("*01\r\n"),                                          SCAN_BAD, 0, "invalid multibulk length" },
    { TEXT("*+1\r\n"),                                          SCAN_BAD, 0, "invalid multibulk length" },
    { TEXT("*-\r\n"),                                           SCAN_BAD, 0, "invalid multibulk length" },
    { TEXT("*-01\r\n"),                                         SCAN_BAD, 0, "invalid multibulk length" },
    { TEXT("*1\n"),                                             SCAN_BAD, 0, "invalid multibulk length" },
    { TEXT("*1\rx"),                                            SCAN_BAD, 0, "invalid multibulk length" },
    { TEXT("*1048577\r\n"),                                     SCAN_BAD, 0, "invalid multibulk length" },
    { TEXT("*4294967298\r\n"),                                  SCAN_BAD, 0, "invalid multibulk length" },
    { TEXT("*18446744073709551617\r\n"),                        SCAN_BAD, 0, "invalid multibulk length" },
    { TEXT("*2\r\n$4294967299\r\n"),                            SCAN_BAD, 0, "invalid bulk length" },
    { TEXT("*1\r\n$536870913\r\n"),                             SCAN_BAD, 0, "invalid bulk length" },
    { TEXT("*1\r\n$-1\r\n"),                                    SCAN_BAD, 0, "invalid bulk length" },
    { TEXT("*1\r\n$\r\n\r\n"),                                  SCAN_BAD, 0, "invalid bulk length" },
    { TEXT("*1\r\n$04\r\nPING\r\n"),                            SCAN_BAD, 0, "invalid bulk length" },
    { TEXT("*1\r\n$4 \r\nPING\r\n"),                            SCAN_BAD, 0, "invalid bulk length" },
    { TEXT("*1\r\nPING\r\n"),                                   SCAN_BAD, 0, "expected '$'" },
    { TEXT("*1\r\n$4\r\nPINGxx"),                               SCAN_BAD, 0, "longer than its length" },
    { TEXT("*1\r\n$4\r\nPING\n\r"),                             SCAN_BAD, 0, "longer than its length" },
    { TEXT("*2\r\n$3\r\nGET\r\n$5\r\nab"),                      SCAN_MORE, 1, NULL },
    { TEXT("*2\r\n$3\r\nGET\r\n$536870912\r\nab"),              SCAN_MORE, 1, NULL },
};

#define BAD_TOKEN   "CLIENT_ERROR bad token in command line format\r\n"
#define OF_A_SERVER "CLIENT_ERROR this command is not served by this proxy: it concerns one server by itself\r\n"
#define STATS_HELP  "CLIENT_ERROR this proxy has stats, stats servers, stats server NAME [ARG]\r\n"
static const struct request_case mc_requests[] = {
    /* bytes                                            verdict   words  refusal (NULL: none), or why not */
    { TEXT("get a\r\n"),                                SCAN_DONE, 2, NULL },
    { TEXT("get a\n"),                                  SCAN_DONE, 2, NULL },
    { TEXT("  gets  a  b \r\n"),                        SCAN_DONE, 3, NULL },
    { TEXT("gat -1 a\r\n"),                             SCAN_DONE, 3, NULL },
    { TEXT("set a 0 0 3\r\nabc\r\n"),                   SCAN_DONE, 5, NULL },
    { TEXT("set a 0 0 0\r\n\r\n"),                      SCAN_DONE, 5, NULL },
    { TEXT("set a 0 0 3\r\n\r\n\r\r\n"),                SCAN_DONE, 5, NULL },
    { TEXT("set a 4294967295 -1 +003 noreply\r\nabc\r\n"), SCAN_DONE, 6, NULL },
    { TEXT("cas a 0 0 1 18446744073709551615\r\nx\r\n"), SCAN_DONE, 6, NULL },
    { TEXT("incr a 18446744073709551615\r\n"),          SCAN_DONE, 3, NULL },
    { TEXT("delete a 0 noreply\r\n"),                   SCAN_DONE, 4, NULL },
    { TEXT("touch a -5\r\n"),                           SCAN_DONE, 3, NULL },
    { TEXT("version\r\n"),                              SCAN_DONE, 1, NULL },
    { TEXT("\r\n"),                                     SCAN_DONE, 0, "ERROR\r\n" },
    { TEXT("GET a\r\n"),                                SCAN_DONE, 2, "ERROR\r\n" },
    { TEXT("get\ta\r\n"),                               SCAN_DONE, 1, "ERROR\r\n" },
    { TEXT("get\r\n"),                                  SCAN_DONE, 1, "ERROR\r\n" },
    { TEXT("get a\tb\r\n"),                             SCAN_DONE, 2, BAD_FORMAT },
    { TEXT("get a\0b\r\n"),                             SCAN_DONE, 2, BAD_FORMAT },
    { TEXT("get a\x7f\r\n"),                            SCAN_DONE, 2, BAD_FORMAT },
    { TEXT("get a\rb\r\n"),                             SCAN_DONE, 2, BAD_FORMAT },
    { TEXT("set a 0 0\r\n"),                            SCAN_DONE, 4, "ERROR\r\n" },
    { TEXT("set a 0 0 3 noreply x\r\nabc\r\n"),         SCAN_DONE, 7, "ERROR\r\n" },
    { TEXT("set a -1 0 3\r\nabc\r\n"),                  SCAN_DONE, 5, BAD_FORMAT },
    { TEXT("set a 4294967296 0 3\r\nabc\r\n"),          SCAN_DONE, 5, BAD_FORMAT },
    { TEXT("set a 0 2147483648 3\r\nabc\r\n"),          SCAN_DONE, 5, BAD_FORMAT },
    { TEXT("set a 0 0 -3\r\n"),                         SCAN_DONE, 5, BAD_FORMAT },
    { TEXT("set a 0 0 x\r\n"),                          SCAN_DONE, 5, BAD_FORMAT },
    { TEXT("set a 0 0 3\r\nabcd\r"),                    SCAN_DONE, 5, "CLIENT_ERROR bad data chunk\r\n" },
    { TEXT("set a 0 0 3\r\nabc\n\r"),                   SCAN_DONE, 5, "CLIENT_ERROR bad data chunk\r\n" },
    { TEXT("cas a 0 0 1\r\n"),                          SCAN_MORE, 5, NULL },
    { TEXT("cas a 0 0 1 x\r\nx\r\n"),                   SCAN_DONE, 6, BAD_FORMAT },
    { TEXT("incr a -1\r\n"),                            SCAN_DONE, 3, "CLIENT_ERROR invalid numeric delta argument\r\n" },
    { TEXT("incr a 18446744073709551616\r\n"),          SCAN_DONE, 3, "CLIENT_ERROR invalid numeric delta argument\r\n" },
    { TEXT("touch a x\r\n"),                            SCAN_DONE, 3, "CLIENT_ERROR invalid exptime argument\r\n" },
    { TEXT("gat x a\r\n"),                              SCAN_DONE, 3, "CLIENT_ERROR invalid exptime argument\r\n" },
    { TEXT("delete a 5\r\n"),                           SCAN_DONE, 3,
      "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n" },
    { TEXT("flush_all\r\n"),                            SCAN_DONE, 1, NULL },
    { TEXT("flush_all -1 noreply\r\n"),                 SCAN_DONE, 3, NULL },
    { TEXT("flush_all 1 2\r\n"),                        SCAN_DONE, 3, NULL },
    { TEXT("flush_all x\r\n"),                          SCAN_DONE, 2, "CLIENT_ERROR invalid exptime argument\r\n" },
    { TEXT("flush_all noreply x\r\n"),                  SCAN_DONE, 3, "CLIENT_ERROR invalid exptime argument\r\n" },
    { TEXT("flush_all 1 2 noreply\r\n"),                SCAN_DONE, 4, "ERROR\r\n" },
    { TEXT("stats\r\n"),                                SCAN_DONE, 1, NULL },
    { TEXT("stats servers\r\n"),                        SCAN_DONE, 2, NULL },
    { TEXT("stats server one\r\n"),                     SCAN_DONE, 3, NULL },
    { TEXT("stats server one conns\r\n"),               SCAN_DONE, 4, NULL },
    { TEXT("stats server one slabs\r\n"),               SCAN_DONE, 4, NULL },
    { TEXT("stats server one slab\r\n"),                SCAN_DONE, 4, STATS_HELP },
    { TEXT("stats server one labs\r\n"),                SCAN_DONE, 4, STATS_HELP },
    { TEXT("stats server one reset\r\n"),               SCAN_DONE, 4, STATS_HELP },
    { TEXT("stats server one items x\r\n"),             SCAN_DONE, 5, "ERROR\r\n" },
    { TEXT("stats server\r\n"),                         SCAN_DONE, 2, STATS_HELP },
    { TEXT("stats servers one\r\n"),                    SCAN_DONE, 3, STATS_HELP },
    { TEXT("stats items\r\n"),                          SCAN_DONE, 2, STATS_HELP },
    { TEXT("stats noreply\r\n"),                        SCAN_DONE, 2, STATS_HELP },
    { TEXT("watch\r\n"),                                SCAN_DONE, 1, OF_A_SERVER },
    { TEXT("shutdown graceful\r\n"),                    SCAN_DONE, 2, OF_A_SERVER },
    { TEXT("mg a\r\n"),                                 SCAN_DONE, 2, NULL },
    { TEXT("mg a v k f t s c h l u q x I O1 N-1 R+5 T007 E1 Pxy\n"), SCAN_DONE, 20,
      "CLIENT_ERROR options flags are too long\r\n" },
    { TEXT("mg a v k f t s c h l u q x I O1 N-1 R+5 T007 Pxy\n"), SCAN_DONE, 19, NULL },
    { TEXT("mg a b\r\n"),                               SCAN_DONE, 3, "CLIENT_ERROR error decoding key\r\n" },
    { TEXT("mg ==== b\r\n"),                            SCAN_DONE, 3, "CLIENT_ERROR error decoding key\r\n" },
    { TEXT("mg Z=== b\r\n"),                            SCAN_DONE, 3, "CLIENT_ERROR error decoding key\r\n" },
    { TEXT("mg Zg=v b\r\n"),                            SCAN_DONE, 3, "CLIENT_ERROR error decoding key\r\n" },
    { TEXT("mg Z-9v b\r\n"),                            SCAN_DONE, 3, "CLIENT_ERROR error decoding key\r\n" },
    { TEXT("mg Zm9v b\r\n"),                            SCAN_DONE, 3, NULL },
    { TEXT("mg Zg== b\r\n"),                            SCAN_DONE, 3, NULL },
    { TEXT("mg a v v\r\n"),                             SCAN_DONE, 4, "CLIENT_ERROR duplicate flag\r\n" },
    { TEXT("mg a O1 O2\r\n"),                           SCAN_DONE, 4, "CLIENT_ERROR duplicate flag\r\n" },
    { TEXT("mg a S\r\n"),                               SCAN_DONE, 3, "CLIENT_ERROR invalid flag\r\n" },
    { TEXT("mg a \xff\r\n"),                            SCAN_DONE, 3, "CLIENT_ERROR invalid flag\r\n" },
    { TEXT("mg a T\r\n"),                               SCAN_DONE, 3, BAD_TOKEN },
    { TEXT("mg a T 30\r\n"),                            SCAN_DONE, 4, BAD_TOKEN },
    { TEXT("mg a N2147483648\r\n"),                     SCAN_DONE, 3, BAD_TOKEN },
    { TEXT("mg a R--1\r\n"),                            SCAN_DONE, 3, BAD_TOKEN },
    { TEXT("mg a C18446744073709551616\r\n"),           SCAN_DONE, 3, BAD_TOKEN },
    { TEXT("mg a E-1\r\n"),                             SCAN_DONE, 3, BAD_TOKEN },
    { TEXT("mg a F4294967296\r\n"),                     SCAN_DONE, 3, BAD_FORMAT },
    { TEXT("mg a O\tx\r\n"),                            SCAN_DONE, 3, BAD_FORMAT },
    { TEXT("mg a L\rx\r\n"),                            SCAN_DONE, 3, BAD_FORMAT },
    { TEXT("mg a\tb v\r\n"),                            SCAN_DONE, 3, BAD_FORMAT },
    { TEXT("mg a O1234567890123456789012345678901\r\n"), SCAN_DONE, 3, NULL },
    { TEXT("mg a O12345678901234567890123456789012\r\n"), SCAN_DONE, 3, "CLIENT_ERROR opaque token too long\r\n" },
    { TEXT("mg\r\n"),                                   SCAN_DONE, 1, "ERROR\r\n" },
    { TEXT("me\r\n"),                                   SCAN_DONE, 1, BAD_FORMAT },
    { TEXT("me a\r\n"),                                 SCAN_DONE, 2, NULL },
    { TEXT("me Zm9v b\r\n"),                            SCAN_DONE, 3, NULL },
    { TEXT("me Zm9v k b\r\n"),                          SCAN_DONE, 4, "ERROR\r\n" },
    { TEXT("ma a N0 J18446744073709551615 D+1 MD T0 C1 t c v q k O1\r\n"), SCAN_DONE, 14, NULL },
    { TEXT("ma a M-\r\n"),                              SCAN_DONE, 3, NULL },
    { TEXT("ma a MS\r\n"),                              SCAN_DONE, 3, "CLIENT_ERROR invalid mode for ma M token\r\n" },
    { TEXT("ma a M\r\n"),                               SCAN_DONE, 3, "CLIENT_ERROR invalid or duplicate flag\r\n" },
    { TEXT("ma a D-1\r\n"),                             SCAN_DONE, 3, "CLIENT_ERROR invalid or duplicate flag\r\n" },
    { TEXT("md a J1x\r\n"),                             SCAN_DONE, 3, "CLIENT_ERROR invalid or duplicate flag\r\n" },
    { TEXT("md a q k C0 I T30 x O0\r\n"),               SCAN_DONE, 9, NULL },
    { TEXT("mn whatever\r\n"),                          SCAN_DONE, 2, NULL },
    { TEXT("ms a 3\r\nabc\r\n"),                        SCAN_DONE, 3, NULL },
    { TEXT("ms a +03 MA c C5 F05 I k O T0 q b\r\nabc\r\n"), SCAN_DONE, 13, "CLIENT_ERROR error decoding key\r\n" },
    { TEXT("ms a 3 Mx\r\nabc\r\n"),                     SCAN_DONE, 4, "CLIENT_ERROR invalid mode for ms M token\r\n" },
    { TEXT("ms a 3 MSS\r\nabc\r\n"),                    SCAN_DONE, 4, "CLIENT_ERROR incorrect length for M token\r\n" },
    { TEXT("ms a 3 Z\r\nabc\r\n"),                      SCAN_DONE, 4, "CLIENT_ERROR invalid flag\r\n" },
    { TEXT("ms a 3 q\r\nabcd\r"),                       SCAN_DONE, 4, "CLIENT_ERROR bad data chunk\r\n" },
    { TEXT("ms a S3\r\n"),                              SCAN_DONE, 3, BAD_FORMAT },
    { TEXT("ms a -3\r\n"),                              SCAN_DONE, 3, BAD_FORMAT },
    { TEXT("ms a\r\n"),                                 SCAN_DONE, 2, BAD_FORMAT },
    { TEXT("ms a 3 q\r\nab"),                           SCAN_MORE, 4, NULL },
    { TEXT("ms a 4294967299\r\n"),                      SCAN_BAD, 0, "too large" },
    { TEXT("verbosity x\r\n"),                          SCAN_DONE, 2, BAD_FORMAT },
    { TEXT("\x80""123456789"),                          SCAN_MORE, 0, NULL },
    { TEXT("\x80\x09\x00\x01\x00\x00\x00\x00\x10\x00\x00\x01opaq\x00\x00\x00\x00\x00\x00\x00\x00k"), SCAN_BAD, 0, "binary protocol" },
    { TEXT("\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01opaq\x00\x00\x00\x00\x00\x00\x00\x00k"), SCAN_DONE, 0, "binary" },
    { TEXT("set a 0 0 4294967299\r\n"),                 SCAN_BAD, 0, "too large" },
    { TEXT("set a 0 0 3\r\nab"),                        SCAN_MORE, 5, NULL },
    { TEXT("get a"),                                    SCAN_MORE, 0, NULL },
};

static void check_request(const struct request_case *c, const struct frame *f, enum scan got, const char *proof)
{
    bool mc = proof[0] == 'm';
    check(got == c->want, proof, c->in.at);
    if (got == SCAN_BAD)
        check(f->why != NULL && strstr(f->why, c->text) != NULL, proof, c->in.at);
    if (got != SCAN_DONE || c->want != SCAN_DONE)
        return;
    check(f->pos == c->in.len && f->argc == c->argc, proof, c->in.at);
    if (mc)
        check((c->text == NULL) == (f->refusal == NULL) && (c->text == NULL || strcmp(c->text, f->refusal) == 0),
              proof, c->in.at);
    else if (c->argc > 0)
        check(bytes_same(f->text, c->text != NULL ? bytes_of(c->text) : c->in), proof, c->in.at);
}

/* Show a request in two steps, and in steps of one byte; the memory is exact. */
static void prove_request(scanner *scan, const struct request_case *c, const char *proof)
{
    for (size_t cut = 0; cut <= c->in.len + 1; cut++) {
        struct mem m = fresh();
        struct frame f = {0};
        enum scan got = SCAN_MORE;
        char *copy = NULL;
        bool bytewise = cut > c->in.len;
        for (size_t n = bytewise ? 0 : cut; got == SCAN_MORE && n <= c->in.len; n = bytewise || n == c->in.len ? n + 1 : c->in.len) {
            free(copy);
            copy = exact(c->in.at, n);
            got = scan(&m, &f, (struct bytes){copy, n});
        }
        check_request(c, &f, got, proof);
        nut_frame_free(&m, &f);
        check(all_back(&m), "memory comes back", c->in.at);
        free(copy);
    }
}

static void prove_request_without_memory(scanner *scan, const struct request_case *c, const char *proof)
{
    for (uint64_t at = 1; ; at++) {
        struct mem m = fresh();
        struct frame f = {0};
        m.deny_at = at;
        enum scan got = scan(&m, &f, c->in);
        bool denied = m.deny_at == 0;
        m.deny_at = 0;
        if (denied)
            check(got == SCAN_BAD && strstr(f.why, "memory") != NULL, proof, c->in.at);
        else
            check_request(c, &f, got, proof);
        nut_frame_free(&m, &f);
        check(all_back(&m), "memory comes back", c->in.at);
        if (!denied)
            return;
    }
}

static void prove_requests_survive_any_cut_and_no_memory(void)
{
    for (size_t i = 0; i < countof(resp_requests); i++) {
        prove_request(nut_resp_request, &resp_requests[i], "resp requests");
        prove_request_without_memory(nut_resp_request, &resp_requests[i], "resp requests without memory");
    }
    for (size_t i = 0; i < countof(mc_requests); i++) {
        prove_request(nut_mc_request, &mc_requests[i], "memcached requests");
        prove_request_without_memory(nut_mc_request, &mc_requests[i], "memcached requests without memory");
    }
}

static void prove_lines_have_an_end(void)
{
    struct mem m = fresh();
    static char long_line[NUT_INLINE_MAX + 2];
    memset(long_line, 'x', sizeof long_line);
    struct frame f = {0};
    check(nut_resp_request(&m, &f, (struct bytes){long_line, NUT_INLINE_MAX}) == SCAN_MORE, "inline", "at its most");
    check(nut_resp_request(&m, &f, (struct bytes){long_line, NUT_INLINE_MAX + 1}) == SCAN_BAD, "inline", "beyond");
    nut_frame_reset(&m, &f);
    check(nut_mc_request(&m, &f, (struct bytes){long_line, NUT_LINE_MAX}) == SCAN_MORE, "line", "at its most");
    check(nut_mc_request(&m, &f, (struct bytes){long_line, NUT_LINE_MAX + 1}) == SCAN_BAD, "line", "beyond");
    nut_frame_reset(&m, &f);
    memcpy(long_line, "gat 0 ", 6);
    check(nut_mc_request(&m, &f, (struct bytes){long_line, NUT_LINE_MAX + 1}) == SCAN_MORE, "line", "of a gat");
    nut_frame_free(&m, &f);
    check(all_back(&m), "memory comes back", "lines");
}

static void prove_keys_are_1_to_250_bytes(void)
{
    char line[300];
    for (size_t n = 249; n <= 252; n++) {
        struct mem m = fresh();
        struct frame f = {0};
        memset(line, 'k', sizeof line);
        memcpy(line, "get ", 4);
        memcpy(line + 4 + n, "\r\n", 2);
        check(nut_mc_request(&m, &f, (struct bytes){line, n + 6}) == SCAN_DONE, "key length", "scanned");
        check((f.refusal == NULL) == (n <= 250), "key length", line);
        nut_frame_free(&m, &f);
        check(all_back(&m), "memory comes back", "keys");
    }
}

/* What a memcached request is forwarded as. */
static const struct { const char *in, *out; } mc_forwarded[] = {
    { "get   a  \r\n",                         "get a\r\n"                       },
    { "gats +05 a\n",                          "gats 5 a\r\n"                    },
    { "gat -7 a\r\n",                          "gat -7 a\r\n"                    },
    { " set a 007 -1 03  noreply\r\nabc\r\n",  "set a 7 -1 3\r\nabc\r\n"         },
    { "set a 0 0 0 whatever\r\n\r\n",          "set a 0 0 0\r\n\r\n"             },
    { "cas a 1 2 3 +4 noreply\r\nabc\r\n",     "cas a 1 2 3 4\r\nabc\r\n"        },
    { "incr a 18446744073709551615 noreply\n", "incr a 18446744073709551615\r\n" },
    { "touch a -0 noreply\r\n",                "touch a 0\r\n"                   },
    { "delete a 0 noreply\r\n",                "delete a\r\n"                    },
    { "version now\r\n",                       "version\r\n"                     },
    { "stats\r\n",                             "stats\r\n"                       },
    { "stats server one  items\r\n",           "stats items\r\n"                 },
    { " mg  a   q v  kx O1 \n",                "mg a v k O1\r\n"                 },
    { "mg a\r\n",                              "mg a\r\n"                        },
    { "mg Zm9v bar T+030 Lp/ q\r\n",           "mg Zm9v b T+030 Lp/\r\n"         },
    { "ms a +02 quiet T1  MS\r\nq \r\n",       "ms a 2 T1 MS\r\nq \r\n"          },
    { "ms a 0\r\n\r\n",                        "ms a 0\r\n\r\n"                  },
};

static void prove_memcached_requests_are_written_anew(void)
{
    for (size_t i = 0; i < countof(mc_forwarded); i++) {
        struct mem m = fresh();
        struct frame f = {0};
        struct queue q = {0};
        char out[128];
        struct bytes in = bytes_of(mc_forwarded[i].in);
        check(nut_mc_request(&m, &f, in) == SCAN_DONE && f.refusal == NULL, "written anew", in.at);
        check(mc_put_request(&m, &q, &f, NULL), "written anew", in.at);
        size_t len = queue_peek(&q, out, sizeof out);
        check(bytes_same((struct bytes){out, len}, bytes_of(mc_forwarded[i].out)), "written anew", in.at);
        nut_queue_free(&m, &q);
        nut_frame_free(&m, &f);
        check(all_back(&m), "memory comes back", in.at);
    }
}

/* ---- commands */

static void prove_every_command_is_found_and_nothing_else(void)
{
    struct lexicon l;
    char name[40], before[40] = "", after[40];
    nut_lexicon_build(&l, NULL, 0);
    for (uint32_t i = 0; i < countof(commands); i++) {
        struct bytes real = lexicon_name(&l, i);
        size_t n = real.len;
        check(n > 0 && n <= NUT_NAME_MAX, "length of names", real.at);
        for (size_t k = 0; k < n; k++)
            name[k] = k % 2 == 0 ? lower(real.at[k]) : real.at[k];
        name[n] = '\0';
        check(nut_command_find(&l, (struct bytes){name, n}) == &commands[i], "command_find", name);
        check(bytes_same(nut_command_name(&l, &commands[i]), real), "command_name", name);
        size_t sub = find(real, 0, '|');
        snprintf(after, sizeof after, "%s", real.at);
        after[sub] = sub < n ? ' ' : '\0';              /* "CLIENT ID" stands before "CLIENTS" */
        check(strcmp(before, after) < 0, "the table is sorted", name);
        memcpy(before, after, sizeof before);
        if (sub < n)
            check(nut_command_find(&l, (struct bytes){name, sub})->way == SUBS, "a subcommand is of a command that has some", name);
        if (commands[i].way == HERE)
            check(text_find(here_names, real) != NO_TEXT, "answered here by someone", name);
        name[n] = 'X';
        check(nut_command_find(&l, (struct bytes){name, n + 1}) != &commands[i], "command_find", name);
    }
    check(nut_command_find(&l, lit("")) == NULL && nut_command_find(&l, lit("NOSUCH")) == NULL, "command_find", "none");
}

static void prove_own_commands_come_before_those_of_the_table(void)
{
    struct conf c = {0};
    static const char text[] = "[a]\nprotocol = redis\nlisten = 127.0.0.1:1\nallow = flush\ndeny = KEYS, scan\n  CONFIG|GET\n"
        "command_rename = GET fetch\n  OBJECT thing\ncommand = my.put -4 1 1 1\n  my.all 1 0 0 0\nservers =\n  127.0.0.1:2:1\n";
    check(conf_read(&c, "own", bytes_of(text)), "own commands", "the configuration is right");
    const struct lexicon *l = c.pool[0].lexicon;
    check(l != NULL, "own commands", "there is a lexicon");
    check(nut_command_find(l, lit("flushall"))->way == ALL, "allow", "flush");
    check(nut_command_find(l, lit("keys"))->way == DENIED && nut_command_find(l, lit("SCAN"))->way == DENIED, "deny", "");
    check(nut_command_find(l, lit("get")) == NULL && nut_command_find(l, lit("FETCH"))->arity == 2, "rename", "GET");
    check(command_sub(l, nut_command_find(l, lit("thing")), lit("encoding"))->arity == 3, "rename", "of a container");
    check(command_sub(l, nut_command_find(l, lit("config")), lit("get"))->way == DENIED, "deny", "a subcommand");
    const struct command *put = nut_command_find(l, lit("MY.PUT"));
    check(put->way == ONE && put->arity == -4 && put->first == 1 && put->keys == SPAN, "command", "with a key");
    check(nut_command_find(l, lit("my.all"))->way == ANY, "command", "without one");
    check(nut_command_find(l, lit("set")) == &commands[command_number(lit("SET"))], "own commands", "the others stay");
    conf_free(&c);
}

static const struct { const char *request; uint32_t first, step, n, also; const char *refusal; } keys_of[] = {
    /* request                                      first step n also  refusal */
    { "GET k",                                        1, 1, 1, 0, NULL },
    { "DEL a b c",                                    1, 1, 3, 0, NULL },
    { "MSET a 1 b 2",                                 1, 2, 2, 0, NULL },
    { "BITOP AND d a b",                              2, 1, 3, 0, NULL },
    { "RENAME a b",                                   1, 1, 2, 0, NULL },
    { "EVAL s 2 a b c",                               3, 1, 2, 0, NULL },
    { "EVAL s 0",                                     3, 1, 0, 0, NULL },
    { "EVAL s 2 a",                                   0, 1, 0, 0, "greater than number of args" },
    { "EVAL s x a",                                   0, 1, 0, 0, "numkeys" },
    { "EVAL s -1 a",                                  0, 1, 0, 0, "numkeys" },
    { "EVAL s 4294967297 a",                          0, 1, 0, 0, "numkeys" },
    { "ZUNION 2 a b",                                 2, 1, 2, 0, NULL },
    { "ZUNIONSTORE d 2 a b",                          3, 1, 2, 1, NULL },
    { "XREAD COUNT 1 STREAMS a b 0 0",                4, 1, 2, 0, NULL },
    { "XREAD STREAMS a b 0",                          0, 1, 0, 0, "Unbalanced" },
    { "XREAD BLOCK 0 STREAMS a 0",                    0, 1, 0, 0, "BLOCK" },
    { "XREAD COUNT 1 a 0",                            0, 1, 0, 0, "syntax" },
    { "XREADGROUP GROUP g streams STREAMS a >",       5, 1, 1, 0, NULL },
    { "SORT a BY store GET store STORE d",            1, 1, 1, 7, NULL },
    { "SORT a LIMIT 0 1 ALPHA",                       1, 1, 1, 0, NULL },
    { "GEORADIUS a 1 2 3 km STOREDIST d",             1, 1, 1, 7, NULL },
    { "GEORADIUSBYMEMBER a store 3 km",               1, 1, 1, 0, NULL },
    { "OBJECT ENCODING a",                            2, 1, 1, 0, NULL },
    { "OBJECT HELP",                                  0, 1, 0, 0, NULL },
    { "MSETEX 2 a 1 b 2 EX 10",                       2, 2, 2, 0, NULL },
    { "MSETEX 2 a 1 b",                               0, 2, 0, 0, "greater than number of args" },
    { "PUBLISH a b",                                  1, 1, 1, 0, NULL },
    { "PUBSUB NUMSUB a b",                            2, 1, 2, 0, NULL },
    { "PUBSUB NUMSUB",                                2, 1, 0, 0, NULL },
    { "JSON.MGET a b $",                              1, 1, 2, 0, NULL },
    { "JSON.MSET a $ 1 b $ 2",                        1, 3, 2, 0, NULL },
    { "TDIGEST.MERGE d 2 a b",                        3, 1, 2, 1, NULL },
    { "MEMORY USAGE a",                               2, 1, 1, 0, NULL },
    { "LMPOP 1 a LEFT",                               2, 1, 1, 0, NULL },
};

static void prove_keys_are_found_where_they_stand(void)
{
    struct lexicon l;
    nut_lexicon_build(&l, NULL, 0);
    for (size_t i = 0; i < countof(keys_of); i++) {
        struct mem m = fresh();
        struct frame f = {0};
        struct keyset k;
        char line[128];
        int n = snprintf(line, sizeof line, "%s\n", keys_of[i].request);
        check(nut_resp_request(&m, &f, (struct bytes){line, (size_t)n}) == SCAN_DONE, "keys", line);
        const struct command *c = nut_command_find(&l, frame_arg(&f, 0));
        if (c != NULL && c->way == SUBS)
            c = command_sub(&l, c, frame_arg(&f, 1));
        check(c != NULL && command_fits(c, f.argc), "keys", line);
        const char *refusal = nut_command_keys(c, &f, &k);
        check((refusal == NULL) == (keys_of[i].refusal == NULL), "keys", line);
        if (refusal != NULL)
            check(strstr(refusal, keys_of[i].refusal) != NULL, "keys", line);
        else
            check((k.n == 0 || k.first == keys_of[i].first) && k.step == keys_of[i].step && k.n == keys_of[i].n &&
                  k.also == keys_of[i].also, "keys", line);
        nut_frame_free(&m, &f);
        check(all_back(&m), "memory comes back", line);
    }
}

/* ---- replies */

/* Asked were the keys "a" and "b". */
/* ... on a connection that speaks RESP3. */
enum { ON_RESP3 = 16 };

static const struct { int expect; struct bytes in; enum scan want; size_t used; char kind; } replies[] = {
    /* of whom     bytes                                          verdict  bytes of it  kind */
    { RESP_REPLY, TEXT("+OK\r\n+OK\r\n"),                         SCAN_DONE, 5,  '+' },
    { RESP_REPLY, TEXT("-ERR a\r\n"),                             SCAN_DONE, 8,  '-' },
    { RESP_REPLY, TEXT(":-12\r\n"),                               SCAN_DONE, 6,  ':' },
    { RESP_REPLY, TEXT("$-1\r\n"),                                SCAN_DONE, 5,  '$' },
    { RESP_REPLY, TEXT("*-1\r\n"),                                SCAN_DONE, 5,  '*' },
    { RESP_REPLY, TEXT("$0\r\n\r\n"),                             SCAN_DONE, 6,  '$' },
    { RESP_REPLY, TEXT("$4\r\n\r\n\r\n\r\n"),                     SCAN_DONE, 10, '$' },
    { RESP_REPLY, TEXT("*0\r\n"),                                 SCAN_DONE, 4,  '*' },
    { RESP_REPLY, TEXT("*2\r\n*2\r\n$1\r\na\r\n:1\r\n*0\r\nX"),   SCAN_DONE, 23, '*' },
    { RESP_REPLY, TEXT("*2\r\n$1\r\na\r\n"),                      SCAN_MORE, 11, '*' },
    { RESP_REPLY, TEXT("$3\r\nabcd\r\n"),                         SCAN_BAD,  0,  0   },
    { RESP_REPLY, TEXT("$x\r\n"),                                 SCAN_BAD,  0,  0   },
    { RESP_REPLY, TEXT("$-2\r\n"),                                SCAN_BAD,  0,  0   },
    { RESP_REPLY, TEXT("$4294967296\r\n"),                        SCAN_BAD,  0,  0   },
    { RESP_REPLY, TEXT("\r\n"),                                   SCAN_BAD,  0,  0   },
    { RESP_REPLY, TEXT("STORED\r\n"),                             SCAN_BAD,  0,  0   },
    { RESP_REPLY, TEXT("_\r\n"),                                  SCAN_BAD,  0,  0   },
    { RESP_ITEMS, TEXT("*2\r\n$1\r\na\r\n$-1\r\n$1\r\n"),           SCAN_DONE, 16, '*' },
    { RESP_ITEMS, TEXT("*2\r\n*2\r\n:1\r\n*0\r\n$12\r\nabcdefghijkl\r\n"), SCAN_DONE, 35, '*' },
    { RESP_ITEMS, TEXT("*2\r\n$1\r\na\r\n"),                      SCAN_MORE, 11, '*' },
    { RESP_ITEMS, TEXT("-OOM\r\n$1\r\n"),                         SCAN_DONE, 6,  '-' },
    { RESP_ITEMS, TEXT("*1\r\n$1\r\na\r\n"),                      SCAN_BAD,  0,  0   },
    { RESP_ITEMS, TEXT("*3\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n"), SCAN_BAD, 0,  0   },
    { RESP_ITEMS, TEXT("*-1\r\n"),                                SCAN_BAD,  0,  0   },
    { RESP_ITEMS, TEXT("$1\r\na\r\n"),                            SCAN_BAD,  0,  0   },
    { RESP_ITEMS, TEXT(":2\r\n"),                                 SCAN_BAD,  0,  0   },
    { RESP_REPLY | ON_RESP3, TEXT("_\r\n+X"), SCAN_DONE, 3, '_' },
    { RESP_REPLY | ON_RESP3, TEXT("#t\r\n+X"), SCAN_DONE, 4, '#' },
    { RESP_REPLY | ON_RESP3, TEXT(",3.14\r\n+X"), SCAN_DONE, 7, ',' },
    { RESP_REPLY | ON_RESP3, TEXT("(3492890328409238509324850943850943825024385\r\n+X"), SCAN_DONE, 46, '(' },
    { RESP_REPLY | ON_RESP3, TEXT("%0\r\n+X"), SCAN_DONE, 4, '%' },
    { RESP_REPLY | ON_RESP3, TEXT("~0\r\n+X"), SCAN_DONE, 4, '~' },
    { RESP_REPLY | ON_RESP3, TEXT("!5\r\nERR x\r\n+X"), SCAN_DONE, 11, '!' },
    { RESP_REPLY | ON_RESP3, TEXT("=6\r\ntxt:ab\r\n+X"), SCAN_DONE, 12, '=' },
    { RESP_REPLY | ON_RESP3, TEXT("%2\r\n+a\r\n:1\r\n+b\r\n*2\r\n_\r\n#f\r\n+X"), SCAN_DONE, 27, '%' },
    { RESP_REPLY | ON_RESP3, TEXT("~2\r\n%1\r\n+a\r\n~1\r\n:1\r\n$1\r\nx\r\n+X"), SCAN_DONE, 27, '~' },
    { RESP_REPLY | ON_RESP3, TEXT("|1\r\n+a\r\n:1\r\n$1\r\nx\r\n+X"), SCAN_DONE, 19, '|' },
    { RESP_REPLY | ON_RESP3, TEXT("*2\r\n|2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:1\r\n:7\r\n:8\r\n+X"), SCAN_DONE, 36, '*' },
    { RESP_REPLY | ON_RESP3, TEXT("%1\r\n+a\r\n"), SCAN_MORE, 8, '%' },
    { RESP_REPLY | ON_RESP3, TEXT(">1\r\n+a\r\n"), SCAN_BAD, 0, 0 },
    { RESP_REPLY | ON_RESP3, TEXT("*1\r\n>1\r\n+a\r\n"), SCAN_BAD, 0, 0 },
    { RESP_REPLY | ON_RESP3, TEXT("%-1\r\n"), SCAN_BAD, 0, 0 },
    { RESP_REPLY | ON_RESP3, TEXT("$?\r\n"), SCAN_BAD, 0, 0 },
    { RESP_REPLY | ON_RESP3, TEXT("~-2\r\n"), SCAN_BAD, 0, 0 },
    { RESP_REPLY | ON_RESP3, TEXT("|x\r\n"), SCAN_BAD, 0, 0 },
    { RESP_REPLY | ON_RESP3, TEXT("%18446744073709551615\r\n"), SCAN_BAD, 0, 0 },
    { RESP_REPLY | ON_RESP3, TEXT("=x\r\n"), SCAN_BAD, 0, 0 },
    { RESP_ASIDE | ON_RESP3, TEXT(">2\r\n+message\r\n*1\r\n:1\r\n:1"), SCAN_DONE, 22, '>' },
    { RESP_ASIDE | ON_RESP3, TEXT("|1\r\n+ttl\r\n:9\r\n:1"), SCAN_DONE, 14, '|' },
    { RESP_ASIDE | ON_RESP3, TEXT(">0\r\n:1"), SCAN_DONE, 4, '>' },
    { RESP_ASIDE | ON_RESP3, TEXT("+OK\r\n"), SCAN_BAD, 0, 0 },
    { RESP_ASIDE | ON_RESP3, TEXT("*1\r\n:1\r\n"), SCAN_BAD, 0, 0 },
    { RESP_ASIDE | ON_RESP3, TEXT(">2\r\n>1\r\n:1\r\n:2\r\n"), SCAN_BAD, 0, 0 },
    { RESP_ITEMS | ON_RESP3, TEXT("*2\r\n|1\r\n+a\r\n:1\r\n$1\r\na\r\n_\r\n_"), SCAN_DONE, 26, '*' },
    { RESP_ITEMS | ON_RESP3, TEXT("~2\r\n+a\r\n+b\r\n"), SCAN_BAD, 0, 0 },
    { MC_LINE,    TEXT("STORED\r\nX"),                            SCAN_DONE, 8,  '+' },
    { MC_LINE,    TEXT("12\r\n"),                                 SCAN_DONE, 4,  '+' },
    { MC_LINE,    TEXT("SERVER_ERROR out of memory\r\n"),         SCAN_DONE, 28, 'E' },
    { MC_LINE,    TEXT("ERROR\r\n"),                              SCAN_DONE, 7,  'E' },
    { MC_LINE,    TEXT("END\r\n"),                                SCAN_BAD,  0,  0   },
    { MC_LINE,    TEXT("VALUE a 0 1\r\nx\r\n"),                   SCAN_BAD,  0,  0   },
    { MC_LINE,    TEXT("STAT a 1\r\n"),                           SCAN_BAD,  0,  0   },
    { MC_LINE,    TEXT("\r\n"),                                   SCAN_BAD,  0,  0   },
    { MC_VALUES,  TEXT("END\r\n"),                                SCAN_DONE, 5,  'V' },
    { MC_VALUES,  TEXT("VALUE a 0 1\r\nx\r\nEND\r\nX"),           SCAN_DONE, 21, 'V' },
    { MC_VALUES,  TEXT("VALUE a 0 5\r\nEND\r\n\r\nVALUE b 1 0 77\r\n\r\nEND\r\n"), SCAN_DONE, 43, 'V' },
    { MC_VALUES,  TEXT("VALUE a 0 1\r\nx\r\nSERVER_ERROR a\r\n"), SCAN_DONE, 32, 'E' },
    { MC_VALUES,  TEXT("ERROR\r\n"),                              SCAN_DONE, 7,  'E' },
    { MC_VALUES,  TEXT("VALUE b 0 1\r\nx\r\nEND\r\n"),            SCAN_DONE, 21, 'V' },
    { MC_VALUES,  TEXT("VALUE c 0 1\r\nx\r\nEND\r\n"),            SCAN_BAD,  0,  0   },
    { MC_VALUES,  TEXT("VALUE b 0 1\r\nx\r\nVALUE a 0 1\r\nx\r\nEND\r\n"), SCAN_BAD,  0,  0   },
    { MC_VALUES,  TEXT("VALUE b 0 1\r\nx\r\nVALUE b 0 1\r\nx\r\nEND\r\n"), SCAN_BAD,  0,  0   },
    { MC_VALUES,  TEXT("STORED\r\n"),                             SCAN_BAD,  0,  0   },
    { MC_VALUES,  TEXT("VALUE a 0\r\n"),                          SCAN_BAD,  0,  0   },
    { MC_VALUES,  TEXT("VALUE a 0 x\r\n"),                        SCAN_BAD,  0,  0   },
    { MC_VALUES,  TEXT("VALUE a 0 1 2 3\r\n"),                    SCAN_BAD,  0,  0   },
    { MC_VALUES,  TEXT("VALUE a 0 1\r\nxy\r\n"),                  SCAN_BAD,  0,  0   },
    { MC_LINE,    TEXT("OK\r\n"),                                 SCAN_BAD,  0,  0   },
    { MC_LINE,    TEXT("HD\r\n"),                                 SCAN_BAD,  0,  0   },
    { MC_OK,      TEXT("OK\r\n"),                                 SCAN_DONE, 4,  '+' },
    { MC_OK,      TEXT("CLIENT_ERROR flush_all not allowed\r\n"), SCAN_DONE, 36, 'E' },
    { MC_OK,      TEXT("STORED\r\n"),                             SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("EN\r\nEN\r\n"),                           SCAN_DONE, 4,  '+' },
    { MC_META,    TEXT("EN O1 ka\r\n"),                           SCAN_DONE, 10, '+' },
    { MC_META,    TEXT("HD ka\r\n"),                              SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("VA 2\r\nab\r\n"),                         SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("NF O1\r\n"),                              SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("HD ka t-1 O1 W\r\n"),                     SCAN_DONE, 16, '+' },
    { MC_META,    TEXT("VA 4 s4 O1\r\n\r\nEN\r\nHD\r\n"),         SCAN_DONE, 18, '+' },
    { MC_META,    TEXT("VA 0 O1\r\n\r\n"),                        SCAN_DONE, 11, '+' },
    { MC_META,    TEXT("ME Ox exp=-1 la=2\r\n"),                  SCAN_DONE, 19, '+' },
    { MC_META,    TEXT("NS\r\n"),                                 SCAN_DONE, 4,  '+' },
    { MC_META,    TEXT("CLIENT_ERROR invalid flag\r\n"),          SCAN_DONE, 27, 'E' },
    { MC_META,    TEXT("ERROR\r\n"),                              SCAN_DONE, 7,  'E' },
    { MC_META,    TEXT("EN O2\r\n"),                              SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("VA 4 O\r\nabcd\r\n"),                     SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("VA 4 O1\r\nabcde\r\n"),                   SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("VA\r\n"),                                 SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("VA x\r\n"),                               SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("MN\r\n"),                                 SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("HDX\r\n"),                                SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("DH\r\n"),                                 SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("H\r\n"),                                  SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("STORED\r\n"),                             SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("END\r\n"),                                SCAN_BAD,  0,  0   },
    { MC_META,    TEXT("VALUE a 0 1\r\nx\r\n"),                   SCAN_BAD,  0,  0   },
    { MC_STATS,   TEXT("STAT a 1\r\nSTAT b END\r\nEND\r\nEND\r\n"), SCAN_DONE, 27, '+' },
    { MC_STATS,   TEXT("END\r\n"),                                SCAN_DONE, 5,  '+' },
    { MC_STATS,   TEXT("ERROR\r\n"),                              SCAN_DONE, 7,  'E' },
    { MC_STATS,   TEXT("STAT a 1\r\nSERVER_ERROR x\r\n"),         SCAN_DONE, 26, 'E' },
    { MC_STATS,   TEXT("OK\r\n"),                                 SCAN_BAD,  0,  0   },
    { MC_STATS,   TEXT("STAT a 1\r\nHD\r\n"),                     SCAN_BAD,  0,  0   },
};

static void prove_replies_survive_any_cut(void)
{
    for (size_t i = 0; i < countof(replies); i++)
        for (size_t cut = 0; cut <= replies[i].in.len + 1; cut++) {
            struct bytes in = replies[i].in;
            size_t step = cut > in.len ? 1 : cut > 0 ? cut : in.len, at = 0, used = 0;
            struct reply r;
            struct asked asked[] = {{.next = 1, .check = nut_check(lit("a"))},
                                    {.next = NUT_NO_KEY, .check = nut_check(lit("b"))}};
            enum scan got = SCAN_MORE;
            if (replies[i].expect == MC_META)   /* of "me", "ms" or "mg", with flag O1 */
                asked[0] = (struct asked){.part = in.at[0] == 'M' ? 'e' : starts_with(in, lit("NS")) ? 's' : 'g',
                                          .check = nut_check(lit("O1"))};
            nut_reply_begin(&r, (enum expect)(replies[i].expect % ON_RESP3), asked, 0);
            r.resp3 = replies[i].expect >= ON_RESP3;
            while (got == SCAN_MORE && at < in.len) {
                size_t n = least_of(step, in.len - at);
                char *shown = exact(in.at + at, n);
                got = nut_reply_scan(&r, (struct bytes){shown, n}, &n);
                free(shown);
                used += n;
                at += n;
                step = cut > in.len ? 1 : in.len;
            }
            check(got == replies[i].want, "replies", in.at);
            if (got == replies[i].want && got != SCAN_BAD)
                check(used == replies[i].used && r.kind == replies[i].kind, "replies", in.at);
        }
}

/* ---- merging */

static const struct {
    const char *name;
    enum merge  how;
    uint32_t    n;
    const char *part[3];
    uint32_t    part_of[6], keys;
    const char *out;
} merges[] = {
    { "sum", SUM, 2, {":2\r\n", ":40\r\n"}, {0, 1, 0}, 3, ":42\r\n" },
    { "sum of what is no number", SUM, 2, {":2\r\n", "+OK\r\n"}, {0, 1}, 2,
      "-ERR a server's reply is none to what was asked: the request may have been applied\r\n" },
    { "concat", CONCAT, 3, {"*2\r\n$1\r\na\r\n$-1\r\n", "*0\r\n", "*1\r\n*1\r\n:1\r\n"}, {0}, 0,
      "*3\r\n$1\r\na\r\n$-1\r\n*1\r\n:1\r\n" },
    { "concat of what is no array", CONCAT, 2, {"*1\r\n:1\r\n", ":1\r\n"}, {0}, 0,
      "-ERR a server's reply is none to what was asked: the request may have been applied\r\n" },
    { "same", SAME, 2, {"$2\r\nab\r\n", "$2\r\nab\r\n"}, {0}, 0, "$2\r\nab\r\n" },
    { "least", LEAST, 3, {"*3\r\n:1\r\n:1\r\n:0\r\n", "*3\r\n:1\r\n:0\r\n:0\r\n", "*3\r\n:1\r\n:1\r\n:1\r\n"}, {0}, 0,
      "*3\r\n:1\r\n:0\r\n:0\r\n" },
    { "least of arrays that differ", LEAST, 2, {"*1\r\n:1\r\n", "*2\r\n:1\r\n:1\r\n"}, {0}, 0,
      "-ERR a server's reply is none to what was asked: the request may have been applied\r\n" },
    { "found", FOUND, 3, {"$-1\r\n", "$1\r\na\r\n", "$1\r\nb\r\n"}, {0}, 0, "$1\r\na\r\n" },
    { "found nowhere", FOUND, 2, {"$-1\r\n", "$-1\r\n"}, {0}, 0, "$-1\r\n" },
    { "zip", ZIP, 2, {"*2\r\n$1\r\na\r\n$-1\r\n", "*1\r\n$1\r\nb\r\n"}, {0, 1, 0}, 3,
      "*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n" },
    { "zip of nested values", ZIP, 2, {"*1\r\n*2\r\n:1\r\n$2\r\n\r\n\r\n", "*1\r\n+x\r\n"}, {1, 0}, 2,
      "*2\r\n+x\r\n*2\r\n:1\r\n$2\r\n\r\n\r\n" },
    { "one error speaks for all", ZIP, 2, {"*1\r\n$1\r\na\r\n", "-OOM no\r\n"}, {0, 1}, 2, "-OOM no\r\n" },
    { "all ok", ALL_OK, 3, {"+OK\r\n", "+OK\r\n", "+OK\r\n"}, {0, 1, 2}, 3, "+OK\r\n" },
    { "all ok but one", ALL_OK, 2, {"+OK\r\n", "-READONLY x\r\n"}, {0, 1}, 2, "-READONLY x\r\n" },
    { "values", VALUES, 2, {"VALUE a 0 1\r\nA\r\nVALUE c 0 5\r\nEND\r\n\r\nEND\r\n", "VALUE b 0 1 9\r\nB\r\nEND\r\n"},
      {0, 1, 0}, 3, "VALUE a 0 1\r\nA\r\nVALUE b 0 1 9\r\nB\r\nVALUE c 0 5\r\nEND\r\n\r\nEND\r\n" },
    { "values with a miss", VALUES, 2, {"VALUE c 0 1\r\nC\r\nEND\r\n", "END\r\n"}, {0, 1, 0}, 3,
      "VALUE c 0 1\r\nC\r\nEND\r\n" },
    { "a quiet get of a hit", HITS, 1, {"VA 2 O1\r\nEN\r\n"}, {0}, 1, "VA 2 O1\r\nEN\r\n" },
    { "a quiet get of a miss", HITS, 1, {"EN O1 ka\r\n"}, {0}, 1, "" },
    { "a quiet get of metadata", HITS, 1, {"HD O1\r\n"}, {0}, 1, "HD O1\r\n" },
    { "a quiet get that fails", HITS, 1, {"ERROR\r\n"}, {0}, 1, "ERROR\r\n" },
    { "a quiet set", FAILS, 1, {"HD c12 O1\r\n"}, {0}, 1, "" },
    { "a quiet incr", FAILS, 1, {"VA 2 O1\r\nHD\r\n"}, {0}, 1, "" },
    { "a quiet set of old", FAILS, 1, {"OK\r\n"}, {0}, 1, "" },
    { "a quiet delete of nothing", FAILS, 1, {"NF\r\n"}, {0}, 1, "NF\r\n" },
    { "a quiet set that fails", FAILS, 1, {"SERVER_ERROR x\r\n"}, {0}, 1, "SERVER_ERROR x\r\n" },
    { "stats", TOTALS, 3, {"STAT pid 7\r\nSTAT uptime 9\r\nSTAT time 100\r\nSTAT version 1.6.18\r\nSTAT a 1\r\nSTAT u 0.900001\r\nEND\r\n",
                           "SERVER_ERROR x\r\n",
                           "STAT pid 8\r\nSTAT uptime 5\r\nSTAT time 99\r\nSTAT a 41\r\nSTAT version 1.6.39\r\nSTAT b 3\r\nSTAT u 12.100002\r\nEND\r\n"},
      {0}, 1, "STAT pid 7\r\nSTAT uptime 5\r\nSTAT time 100\r\nSTAT version 1.6.18\r\nSTAT a 42\r\nSTAT u 13.000003\r\n"
      "STAT b 3\r\nSTAT nutproxy_servers 3\r\nSTAT nutproxy_servers_answered 2\r\nEND\r\n" },
    { "stats that differ", TOTALS, 2, {"STAT a x\r\nSTAT b 5\r\nSTAT c 1.5\r\nSTAT d\r\nEND\r\n",
                                       "STAT a 1\r\nSTAT b x\r\nSTAT c 1.5\r\nSTAT ab 1\r\nEND\r\n"},
      {0}, 1, "STAT a x\r\nSTAT b 5\r\nSTAT c 1.5\r\nSTAT ab 1\r\n"
      "STAT nutproxy_servers 2\r\nSTAT nutproxy_servers_answered 2\r\nEND\r\n" },
    { "stats of nobody", TOTALS, 1, {"ERROR\r\n"}, {0}, 1,
      "STAT nutproxy_servers 1\r\nSTAT nutproxy_servers_answered 0\r\nEND\r\n" },
    { "flushed", ALL_OK, 2, {"OK\r\n", "OK\r\n"}, {0, 1}, 2, "OK\r\n" },
    { "flushed but one", ALL_OK, 2, {"OK\r\n", "SERVER_ERROR x\r\n"}, {0, 1}, 2, "SERVER_ERROR x\r\n" },
    { "values with an error", VALUES, 2, {"VALUE a 0 1\r\nA\r\nSERVER_ERROR x\r\n", "END\r\n"}, {0, 1, 0}, 3,
      "SERVER_ERROR x\r\n" },
};

static enum expect merge_expects(size_t i)
{
    switch (merges[i].how) {
    case ZIP:               return RESP_ITEMS;
    case VALUES:            return MC_VALUES;
    case HITS: case FAILS:  return MC_META;
    case TOTALS:            return MC_STATS;
    case ALL_OK:            return merges[i].part[0][0] == '+' ? RESP_REPLY : MC_OK;
    case AS_IS: case SUM: case CONCAT: case SAME: case LEAST: case FOUND: break;
    }
    return RESP_REPLY;
}

/* Scan a part's reply, of which `cut` bytes come at a time, into its queue. */
static void scan_part(struct mem *m, size_t i, uint32_t p, size_t cut, struct asked *asked, struct queue *to)
{
    uint32_t first = 0;
    struct reply r;
    while (first < merges[i].keys && asked[first].part != p)
        first++;
    nut_reply_begin(&r, merge_expects(i), asked, first < merges[i].keys ? first : NUT_NO_KEY);
    if (merge_expects(i) == MC_META)        /* of "mg" or "ma" */
        asked[0] = (struct asked){.part = merges[i].how == HITS ? 'g' : 'a', .check = nut_check(lit("O1")),
                                  .next = NUT_NO_KEY};
    enum scan got = SCAN_MORE;
    for (struct bytes rest = bytes_of(merges[i].part[p]); rest.len > 0 && got != SCAN_BAD; ) {
        size_t n = least_of(cut, rest.len);
        struct queue piece = {0};
        got = nut_reply_scan(&r, (struct bytes){rest.at, n}, &n);
        must(nut_queue_put(m, &piece, (struct bytes){rest.at, n}));
        queue_join(to, &piece);
        rest = bytes_from(rest, n);
    }
    check(got == SCAN_DONE, "merge: a part is scanned", merges[i].name);
}

/* Parts in pieces of `cut` bytes, merged while request `deny` for memory is denied. */
static bool merge_once(size_t i, size_t cut, uint64_t deny)
{
    static const struct bytes key[] = {TEXT("a"), TEXT("b"), TEXT("c"), TEXT("d"), TEXT("e"), TEXT("f")};
    struct mem m = fresh();
    struct queue part[3] = {{0}}, out = {0};
    struct asked asked[6];
    char text[512];
    for (uint32_t k = 0; k < merges[i].keys; k++) {
        asked[k] = (struct asked){merges[i].part_of[k], NUT_NO_KEY,
                                  nut_check(merge_expects(i) == MC_META ? lit("O1") : key[k]), 0};
        for (uint32_t before = k; before-- > 0; )
            if (asked[before].part == asked[k].part) {
                asked[before].next = k;
                break;
            }
    }
    for (uint32_t p = 0; p < merges[i].n; p++)
        scan_part(&m, i, p, cut, asked, &part[p]);
    m.deny_at = deny;
    bool ok = nut_merge(&m, merges[i].how, part, merges[i].n, asked, merges[i].keys, &out);
    bool denied = deny > 0 && m.deny_at == 0;
    m.deny_at = 0;
    size_t len = queue_peek(&out, text, sizeof text);
    check(ok != denied, "merge tells a want of memory", merges[i].name);
    check(bytes_same((struct bytes){text, len}, ok ? bytes_of(merges[i].out) : lit("")), "merge", merges[i].name);
    nut_queue_free(&m, &out);
    check(all_back(&m), "memory comes back", merges[i].name);
    return denied;
}

static void prove_merging_is_right_however_replies_are_cut(void)
{
    for (size_t i = 0; i < countof(merges); i++) {
        for (size_t cut = 1; cut < 60; cut++)
            merge_once(i, cut, 0);
        for (uint64_t deny = 1; merge_once(i, 3, deny); deny++)
            ;
    }
}

/* ---- queues and memory */

/* A thousand random acts on a queue, against a plain array. */
static void prove_queues_hold_what_was_put(void)
{
    struct mem m = fresh();
    static char model[1 << 20], got[1 << 20], data[40000];
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)('a' + i % 23);
    for (int round = 0; round < 20; round++) {
        struct queue q = {0}, other = {0};
        size_t len = 0;
        for (int i = 0; i < 60; i++) {
            x ^= x << 13; x ^= x >> 7; x ^= x << 17;
            size_t n = (size_t)(x >> 20) % (x % 5 == 0 ? 20000 : 300), from = (size_t)(x >> 40) % 20000;
            if (x % 8 < 5) {
                check(nut_queue_put(&m, &q, (struct bytes){data + from, n}), "queue", "put");
                memcpy(model + len, data + from, n);
                len += n;
            } else if (x % 8 == 5) {
                n = least_of(n, len);
                nut_queue_drop(&m, &q, n);
                memmove(model, model + n, len - n);
                len -= n;
            } else if (x % 8 == 6) {
                len = least_of(n, len);
                queue_trim(&m, &q, len);
            } else {
                n = least_of(n, len);
                check(nut_queue_move(&m, &other, &q, n), "queue", "move");
                queue_join(&other, &q);
                q = other;
                other = (struct queue){0};
            }
            check(q.len == len && queue_peek(&q, got, sizeof got) == len && memcmp(got, model, len) == 0, "queue", "holds");
        }
        nut_queue_free(&m, &q);
    }
    check(all_back(&m), "memory comes back", "queues");
}

static void prove_a_shared_block_is_not_written_on(void)
{
    struct mem m = fresh();
    struct queue a = {0}, b = {0};
    char text[16];
    struct block *block = block_take(&m, 100);
    memcpy(block->bytes, "hello", 5);
    block->fill = 5;
    check(nut_queue_refer(&m, &a, block, (struct bytes){block->bytes, 5}), "blocks", "refer");
    check(nut_queue_refer(&m, &b, block, (struct bytes){block->bytes, 5}), "blocks", "refer");
    check(nut_queue_put(&m, &a, lit("A")) && nut_queue_put(&m, &b, lit("B")), "blocks", "put");
    check(queue_peek(&a, text, 16) == 6 && memcmp(text, "helloA", 6) == 0, "blocks", "a");
    check(queue_peek(&b, text, 16) == 6 && memcmp(text, "helloB", 6) == 0, "blocks", "b");
    check(block->fill == 5, "blocks", "the block is as it was");
    nut_queue_free(&m, &a);
    nut_queue_free(&m, &b);
    block_drop(&m, block);
    check(all_back(&m), "memory comes back", "blocks");
}

static void prove_memory_has_an_end_and_spares_go_back(void)
{
    struct mem m = {.most = 1 << 20};
    void *taken[64];
    size_t n = 0;
    while (n < 64 && (taken[n] = mem_take(&m, 40000)) != NULL)
        n++;
    size_t large = m.used, little = 0;
    check(n == 14 && large > 14 * 40000 && large <= (size_t)14 << 16, "the bound of memory", "14 blocks of 64 KiB");
    while (n < 64 && (taken[n] = mem_take(&m, 10000)) != NULL) {
        n++;
        little++;
    }
    check(little == 8 && m.used <= m.most, "the bound of memory", "an eighth of it is for little things");
    while (n > 14)
        mem_give(&m, taken[--n], 10000);
    while (n > 0)
        mem_give(&m, taken[--n], 40000);
    check(m.used > large, "spares", "stay for a while");
    void *other = mem_take(&m, 300);
    check(other != NULL, "spares", "make room when memory is short");
    mem_give(&m, other, 300);
    for (int i = 0; i < 20; i++)
        nut_mem_tidy(&m);
    check(m.used == 0 && !mem_spares(&m), "spares", "go back when nobody needs them");
    check(mem_take(&m, 2 << 20) == NULL, "the bound of memory", "more than all");
}

/* ---- words and numbers */

static void prove_numbers_do_not_wrap(void)
{
    static const struct { const char *text; uint64_t most; bool ok; uint64_t n; } rows[] = {
        { "0", 9, true, 0 }, { "9", 9, true, 9 }, { "10", 9, false, 0 }, { "007", 9, false, 0 }, { "", 9, false, 0 },
        { "-1", 9, false, 0 }, { "+1", 9, false, 0 }, { "1x", 9, false, 0 }, { "5", 4, false, 0 }, { "1", 0, false, 0 },
        { "18446744073709551615", UINT64_MAX, true, UINT64_MAX }, { "18446744073709551616", UINT64_MAX, false, 0 },
        { "99999999999999999999", UINT64_MAX, false, 0 }, { "4294967296", UINT32_MAX, false, 0 },
        { "4294967295", UINT32_MAX, true, UINT32_MAX }, { "100000000000000000000", UINT64_MAX, false, 0 },
    };
    for (size_t i = 0; i < countof(rows); i++) {
        uint64_t n = 0;
        bool ok = number_read(bytes_of(rows[i].text), rows[i].most, &n);
        check(ok == rows[i].ok && (!ok || n == rows[i].n), "numbers", rows[i].text);
    }
    char text[20];
    check(number_write(text, UINT64_MAX) == 20 && memcmp(text, "18446744073709551615", 20) == 0, "numbers", "written");
}

static void prove_md5_is_rfc_1321s(void)
{
    static const struct { const char *text; uint32_t first; } rows[] = {    /* its first four bytes, little-endian */
        { "", 0xd98c1dd4 }, { "a", 0xb975c10c }, { "abc", 0x98500190 }, { "message digest", 0x7d696bf9 },
        { "12345678901234567890123456789012345678901234567890123456789012345678901234567890", 0xa2f4ed57 },
    };
    for (size_t i = 0; i < countof(rows); i++) {
        uint32_t state[4];
        md5(bytes_of(rows[i].text), state);
        check(state[0] == rows[i].first, "md5", rows[i].text);
    }
}

static void prove_tags_are_found(void)
{
    static const struct { const char *tag, *key, *hashed; } rows[] = {
        { "{}", "a{b}c", "b" }, { "{}", "a{}c", "a{}c" }, { "{}", "{}{a}", "{}{a}" }, { "{}", "a{b", "a{b" },
        { "{}", "a}b{c}d", "c" }, { "{}", "{a}{b}", "a" }, { "$$", "a$b$c", "b" }, { "$$", "a$$c", "a$$c" },
        { "{}", "", "" }, { "{}", "{", "{" }, { "{}", "{{a}}", "{a" },
    };
    for (size_t i = 0; i < countof(rows); i++)
        check(bytes_same(nut_tagged(bytes_of(rows[i].key), rows[i].tag), bytes_of(rows[i].hashed)), "tags", rows[i].key);
}

static void prove_a_ring_without_memory_stays(void)
{
    struct member member[] = {{lit("a"), 1, false}, {lit("b"), 3, false}, {lit("c"), 1, true}};
    struct mem m = fresh();
    struct ring ring = {0};
    check(nut_ring_pick(&ring, 5, 5) == NUT_NOBODY, "ring", "empty");
    check(nut_ring_build(&m, &ring, MODULA, member, 3), "ring", "built");
    check(nut_ring_pick(&ring, 0, 0) == 0 && nut_ring_pick(&ring, 1, 0) == 1 && nut_ring_pick(&ring, 3, 0) == 1 &&
          nut_ring_pick(&ring, 4, 0) == 0, "ring", "modula");
    m.deny_at = 1;
    check(!nut_ring_build(&m, &ring, KETAMA, member, 3) && ring.spread == MODULA && ring.points == 2, "ring", "no memory");
    check(nut_ring_build(&m, &ring, RANDOM, member, 3), "ring", "random");
    check(nut_ring_pick(&ring, 0, 0) == 0 && nut_ring_pick(&ring, 0, 1) == 1 && nut_ring_pick(&ring, 7, 2) == 0, "ring", "lots");
    member[0].out = member[1].out = true;
    check(nut_ring_build(&m, &ring, KETAMA, member, 3) && nut_ring_pick(&ring, 7, 2) == NUT_NOBODY, "ring", "all out");
    nut_ring_free(&m, &ring);
    check(all_back(&m), "memory comes back", "rings");
}

/* ---- configuration */

static const struct { const char *text; uint32_t mistakes; const char *told; } configurations[] = {
    { "[a]\nlisten = 1.2.3.4:5\nservers =\n  h:1:1\n", 0, "" },
    { "[a]\r\nlisten = 1.2.3.4:5\r\nservers = h:1:1\r\n  h:2:1 two\r\n", 0, "" },
    { "\xEF\xBB\xBF[a]\nlisten = ::1:5\nservers = h:1:1\n", 0, "" },
    { "[a]\nlisten = [::1]:5\ntimeout = 2m\nclient_output_limit = 1g\nredis = true\nredis_auth = x\nservers = h:1:1\n", 0, "" },
    { "[a]\nlisten = /tmp/s 0600\nservers = /tmp/x:2\n  /tmp/y:1 y\n", 0, "" },
    { "", 1, "has no pools" },
    { "[nutproxy]\nworkers = 2\n", 1, "has no pools" },
    { "x = 1\n", 2, "c:1: directive \"x\" stands in no section" },
    { "[a]\nlisten = 1.2.3.4:5\ntimeoutt = 1\nservers = h:1:1\n", 1, "c:3: directive \"timeoutt\" is unknown, did you mean 'timeout'?" },
    { "[a]\nlisten = 1.2.3.4:5\ncolour = 1\nservers = h:1:1\n", 1, "c:3: directive \"colour\" is unknown" },
    { "[a]\nlisten = 1.2.3.4:5\nhash = x\nhash = md5\nservers = h:1:1\n", 2, "c:4: directive \"hash\" is a duplicate" },
    { "[a]\nlisten = 1.2.3.4:5\ntimeout = 5x\nservers = h:1:1\n", 1, "is not a time" },
    { "[a]\nlisten = 1.2.3.4:5\ntimeout = -1\nservers = h:1:1\n", 1, "is not a time" },
    { "[a]\nlisten = 1.2.3.4:5\ntimeout = 99999999999999999999999s\nservers = h:1:1\n", 1, "out of range" },
    { "[a]\nlisten = 1.2.3.4:5\nserver_connections = 0\nservers = h:1:1\n", 1, "out of range" },
    { "[a]\nlisten = 1.2.3.4:5\npreconnect = True\nservers = h:1:1\n", 1, "is not \"true\" or \"false\"" },
    { "[a]\nlisten = 1.2.3.4:5\nhash_tag = {\nservers = h:1:1\n", 1, "two characters" },
    { "[a]\nlisten = 1.2.3.4:5\nredis_auth = x\nservers = h:1:1\n", 1, "only valid for a redis pool" },
    { "[a]\nlisten = 1.2.3.4:5\nprotocol = redis\nredis = false\nservers = h:1:1\n", 1, "differ" },
    { "[a]\nlisten = 1.2.3.4:5\ntimeout = 400\n  500\nservers = h:1:1\n", 1, "c:4: directive \"timeout\" is a duplicate" },
    { "[a]\nlisten = 1.2.3.4\nservers = h:1:1\n", 1, "hostname:port" },
    { "[a]\nlisten = 1.2.3.4:0\nservers = h:1:1\n", 1, "invalid port" },
    { "[a]\nlisten = /x 0999\nservers = h:1:1\n", 1, "permission" },
    { "[a]\nlisten = 1.2.3.4:5\nservers =\n", 1, "has no servers" },
    { "[a]\nlisten = 1.2.3.4:5\n", 1, "\"servers\" is missing" },
    { "[a]\nservers = h:1:1\n", 1, "\"listen\" is missing" },
    { "[a]\nlisten = 1.2.3.4:5\nservers = h:1\n", 1, "format string" },
    { "[a]\nlisten = 1.2.3.4:5\nservers =\n  h:1:1 one ; the first\n  h:2:1\t; x\n", 0, "" },
    { "[a]\nlisten = 1.2.3.4:5\nservers = h:0:1\n", 1, "invalid port" },
    { "[a]\nlisten = 1.2.3.4:5\nservers = h:1:1\n1.2.3.4:6:1 b\n", 1, "the lines of a list are indented" },
    { "alpha:\n", 2, "a pool begins with [alpha]" },
    { "[nutproxy]\nmax_memory = 1000\n[a]\nlisten = 1.2.3.4:5\nservers = h:1:1\n", 1, "too small" },
    { "[nutproxy]\nstats = 1.2.3.4:5\n[a]\nlisten = 1.2.3.4:5\nservers = h:1:1\n", 1, "listen address of stats" },
    { "[a]\nlisten = 1.2.3.4:5\nservers = h\n", 1, "format string" },
    { "[a]\nlisten = 1.2.3.4:5\nservers = h:1:0\n", 1, "zero weight" },
    { "[a]\nlisten = 1.2.3.4:5\nservers = h:1:x\n", 1, "invalid weight" },
    { "[a]\nlisten = 1.2.3.4:5\nservers = h:1:1\n  h:1:2\n", 1, "c:4: pool 'a' has servers with same name 'h:1'" },
    { "[a]\nlisten = 1.2.3.4:5\nservers = h:1:1\n[a]\nlisten = 1.2.3.4:6\n", 1, "same name 'a'" },
    { "[a]\nlisten = 1.2.3.4:5\nservers = h:1:1\n[b]\nlisten = 1.2.3.4:5\nservers = h:1:1\n", 1, "same listen address" },
    { "[a]\nlisten = 1.2.3.4:5\nservers = h:1:1\n[b]\n  h:2:2\nlisten = 1.2.3.4:6\nservers = h:1:1\n", 1, "c:5: is indented" },
    { "[a\nlisten = 1.2.3.4:5\n", 2, "a section is written [name]" },
    { "[\"a ] b\"]\nlisten = \"1.2.3.4:5\" ; x\nservers = \"h:1:1 \\x6e;\"\n  \"h:2:1 \\\"\" ; y\n", 0, "" },
    { "[\"nutproxy\"]\nlisten = 1.2.3.4:5\nservers = h:1:1\n", 0, "" },
    { "[a]\nlisten = \"1.2.3.4:5\nservers = h:1:1\n", 2, "c:2: has no closing quote" },
    { "[a]\nlisten = \"1.2.3.4:5\" x\nservers = h:1:1\n", 2, "c:2: has more behind the closing quote" },
    { "[a]\nlisten = 1.2.3.4:5\nredis = true\nredis_auth = \"a\\x00b\"\nservers = h:1:1\n", 1, "c:4: holds a NUL" },
    { "[a]\nlisten = 1.2.3.4:5\nredis = true\nredis_auth = \"\"\nservers = h:1:1\n", 1, "is empty" },
    { "[a]\nlisten = 1.2.3.4:5\nservers =\n  \"h:1:1 \"\n", 1, "c:4: directive \"servers\" has an empty name" },
    { "[\"a\nlisten = 1.2.3.4:5\n", 2, "a section is written" },
    { "[\"a\" b]\nlisten = 1.2.3.4:5\n", 2, "a section is written" },
    { "[a]\nlisten = 1.2.3.4:5\nclient_output_limit = 100\nservers = h:1:1\n", 1, "64k at least" },
    { "[a]\nlisten = 1.2.3.4:5\nclient_output_limit = 0\nservers = h:1:1\n", 0, "" },
    { "[a]\nlisten = 1.2.3.4:5\nservers = h:1:1\nzork\n", 1, "c:4: is neither" },
    { "[\"a\\nb\"]\nlisten = 1.2.3.4:5\nservers = h:1:1\n[\"a\\nb\"]\n", 1, "c:4: has pools with same name 'a?b'\n" },
};

static void prove_a_configuration_tells_every_mistake(void)
{
    for (size_t i = 0; i < countof(configurations); i++) {
        struct conf c = {0};
        char told[2048] = "";
        bool ok = conf_read(&c, "c", bytes_of(configurations[i].text));
        queue_peek(&c.told, told, sizeof told - 1);
        check(ok == (configurations[i].mistakes == 0) && c.mistakes == configurations[i].mistakes, "configuration",
              configurations[i].text);
        check(strstr(told, configurations[i].told) != NULL, "configuration is told", told);
        conf_free(&c);
    }
}

static void prove_a_configuration_without_memory_is_refused(void)
{
    const struct bytes text = bytes_of("[nutproxy]\nstats = off\nlog = x\n[a]\nlisten = 1.2.3.4:5\nhash_tag = {}\n"
                                       "redis = true\nredis_auth = p\nservers = h:1:1\n  h:2:1 b\n[b]\n"
                                       "listen = /x 0700\nservers = /y:1\n");
    const struct bytes bad = bytes_of("[a]\nlisten = 1.2.3.4:5\n[b]\nservers =\n[c]\nlisten = 1.2.3.4:5\n");
    for (int i = 0; i < 2; i++) {
        bool denied = true;
        for (uint64_t at = 1; denied; at++) {
            struct conf c = {0};
            c.mem.deny_at = at;
            bool ok = conf_read(&c, "c", i == 0 ? text : bad);
            denied = c.mem.deny_at == 0;
            c.mem.deny_at = 0;
            check(ok == (i == 0 && !denied), "configuration without memory", i == 0 ? "told" : "with mistakes");
            conf_free(&c);
        }
    }
}

static void prove_pools_are_the_same_whichever_key_says_so(void)
{
    static const char *const ways[] = {"redis = true", "protocol = redis", "protocol = redis\nredis = true"};
    struct conf c[countof(ways)];
    memset(c, 0, sizeof c);
    for (size_t i = 0; i < countof(ways); i++) {
        char text[128];
        int n = snprintf(text, sizeof text, "[a]\nlisten = 1.2.3.4:5\n%s\nservers = h:1:1\n", ways[i]);
        check(conf_read(&c[i], "c", (struct bytes){text, (size_t)n}), "same pools", ways[i]);
        check(conf_pool_same(&c[0].pool[0], &c[i].pool[0]), "same pools", ways[i]);
    }
    for (size_t i = 0; i < countof(ways); i++)
        conf_free(&c[i]);
}

static void prove_any_configuration_is_read_to_its_end(void)
{
    /* A good one, with each byte in turn made another: it is read or refused, and nothing leaks. */
    const struct bytes good = bytes_of("[nutproxy]\nworkers = 1\n\n[alpha]\nlisten = 127.0.0.1:1 ; here\n"
                                       "hash = md5\nservers =\n   h:1:1 a\n   h:2:2\n");
    static const char odd[] = {'\0', '\n', ' ', '[', ']', '=', ':', ';', '/', '"', 'x', '0', '\xff'};
    for (size_t i = 0; i < good.len; i++)
        for (size_t k = 0; k < sizeof odd; k++) {
            struct conf c = {0};
            char *copy = exact(good.at, good.len);
            copy[i] = odd[k];
            bool ok = conf_read(&c, "c", (struct bytes){copy, good.len});
            check(ok == (c.mistakes == 0), "any configuration", copy);
            conf_free(&c);
            free(copy);
        }
}

/* Everything that twemproxy's files have, and what must be quoted in ours. */
static const char yaml_whole[] =
    "# head\n\"a ]\":  # a\n  listen: '*:1'\n  redis:\ttrue\n  redis_auth: \"\\x70 ;\\u00e9\\\n    x\"\n  redis_db: 3\n"
    "  hash_tag: ' '''\n  # c\n  timeout:\n\n    400\n  servers:\n  -   h:1:1 one # 1\n\n  - h:2:1\n      two\n"
    "  - 'h:3:1\n     q''q'\nnutproxy:\r\n    listen: /x 600\r\n    client_connections: 5\r\n    servers:\r\n"
    "      - /y:1\r\n      - /z:2 ;z";

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool same_pool(const struct pool_conf *a, const struct pool_conf *b)
{
    const struct pool_fields *x = &a->key, *y = &b->key;
    bool same = same_text(a->name, b->name) && x->servers.n == y->servers.n && x->protocol == y->protocol &&
                x->timeout == y->timeout && x->redis_db == y->redis_db && x->hash == y->hash &&
                x->client_output_limit == y->client_output_limit && x->listen.mode == y->listen.mode &&
                same_text(x->listen.text, y->listen.text) && same_text(x->redis_auth, y->redis_auth) &&
                same_text(x->hash_tag, y->hash_tag);
    for (uint32_t n = 0; same && n < x->servers.n; n++)
        same = same_text(x->servers.at[n].name, y->servers.at[n].name) &&
               same_text(x->servers.at[n].host, y->servers.at[n].host) &&
               x->servers.at[n].weight == y->servers.at[n].weight;
    return same;
}

/* Whether both have the same pools with the same servers and settings. */
static bool same_pools(const struct conf *a, const struct conf *b)
{
    bool same = a->pools == b->pools;
    for (uint32_t i = 0; same && i < a->pools; i++)
        same = same_pool(&a->pool[i], &b->pool[i]);
    return same;
}

/* Read it, and if it is good convert it, and read that.  Whether all went as it
 * should: a good one is the same as what is made of it.  *denied: memory was. */
static bool converts(struct bytes yaml, uint64_t deny_at, bool *good, bool *denied)
{
    struct conf c = {0}, made = {0};
    struct pen pen = {.mem = &c.mem, .ok = true};
    char *text = exact(yaml.at, yaml.len), *ini = NULL;
    c.mem.deny_at = deny_at;
    *good = conf_read_yaml(&c, "c", (struct bytes){text, yaml.len});
    bool ok = *good == (c.mistakes == 0);
    if (*good && conf_convert(&c, (struct bytes){text, yaml.len}, &pen)) {
        ini = malloc(pen.out.len);
        must(ini != NULL);
        size_t len = queue_peek(&pen.out, ini, pen.out.len);
        ok = conf_read(&made, "m", (struct bytes){ini, len}) && same_pools(&c, &made);
    } else {
        ok = ok && (!*good || deny_at > 0);
    }
    *denied = deny_at > 0 && c.mem.deny_at == 0;
    c.mem.deny_at = 0;
    nut_queue_free(&c.mem, &pen.out);
    conf_free(&c);
    conf_free(&made);
    free(text);
    free(ini);
    return ok;
}

static void prove_twemproxys_file_is_converted_or_refused_however_it_is_damaged(void)
{
    const struct bytes whole = bytes_of(yaml_whole);
    static const char odd[] = {'\n', '\r', ' ', '\t', ':', '#', '-', '"', '\'', '\\', '[', '|', 'x', '0', '\xff', '\x01'};
    bool good, denied;
    uint32_t goods = 0;
    check(converts(whole, 0, &good, &denied) && good, "twemproxy's file", "whole");
    for (size_t i = 0; i < whole.len; i++) {
        check(converts((struct bytes){whole.at, i}, 0, &good, &denied), "twemproxy's file", "cut");
        for (size_t k = 0; k < sizeof odd; k++) {
            char *copy = exact(whole.at, whole.len);
            copy[i] = odd[k];
            check(converts((struct bytes){copy, whole.len}, 0, &good, &denied), "twemproxy's file", copy);
            goods += good;
            free(copy);
        }
    }
    check(goods > 500, "twemproxy's file", "damaged, and good all the same");
    denied = true;
    for (uint64_t at = 1; denied; at++)
        check(converts(whole, at, &good, &denied), "twemproxy's file", "without memory");
}

static void prove_rings_are_compared_value_by_value(void)
{
    struct member some[] = {{lit("a"), 1, false}, {lit("b"), 3, false}, {lit("c"), 2, false}};
    struct member others[] = {{lit("a"), 7, false}, {lit("c"), 2, false}, {lit("d"), 2, false}};
    static const enum spread spreads[] = {KETAMA, MODULA};
    static const uint64_t spaces[] = {1, 5, 6, 11, 12, 65, 66, 67, 1000, 32768};
    for (size_t i = 0; i < 4; i++)
        for (size_t n = 0; n < countof(spaces); n++) {
            struct mem m = fresh();
            struct ring a = {0}, b = {0};
            uint64_t got[9] = {0}, want[9] = {0};
            check(nut_ring_build(&m, &a, spreads[i / 2], some, 3) && nut_ring_build(&m, &b, spreads[i % 2], others, 3),
                  "rings", "built");
            for (uint32_t p = 0; p < a.points && a.spread == KETAMA; p++)
                a.point[p].at >>= 17;           /* so that their arcs lie in a small space */
            for (uint32_t p = 0; p < b.points && b.spread == KETAMA; p++)
                b.point[p].at >>= 17;
            for (uint64_t h = 0; h < spaces[n]; h++)
                want[nut_ring_pick(&a, (uint32_t)h, 0) * 3 + nut_ring_pick(&b, (uint32_t)h, 0)]++;
            m.deny_at = 1;
            check(nut_rings_compare(&m, &a, 3, &b, 3, spaces[n], got) == (a.spread == KETAMA && b.spread == KETAMA),
                  "rings are compared", "without memory");
            memset(got, 0, sizeof got);
            m.deny_at = 0;
            check(nut_rings_compare(&m, &a, 3, &b, 3, spaces[n], got) && memcmp(got, want, sizeof got) == 0,
                  "rings are compared", "counts");
            nut_ring_free(&m, &a);
            nut_ring_free(&m, &b);
            check(all_back(&m), "memory comes back", "compared rings");
        }
}

/* ---- what GROUND has instead of a libc's: the libc is the judge */

static uint64_t draw(uint64_t *x)
{
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return *x >> 33;
}

static void prove_bytes_are_found_and_copied(void)
{
    uint64_t x = 4711;
    bool found = true, copied = true;
    for (int round = 0; round < 20000; round++) {
        size_t len = draw(&x) % 300;
        char text[300], to[300] = {0};
        for (size_t i = 0; i < len; i++)
            text[i] = (char)"\0\n\x80\xff z{"[draw(&x) % 7];
        char *only = exact(text, len), c = (char)"\0\n\x80\xff z{"[draw(&x) % 7];
        size_t from = len == 0 ? 0 : draw(&x) % len;
        const char *there = len == from ? NULL : memchr(only + from, c, len - from);
        found = found && find((struct bytes){only, len}, from, c) == (there == NULL ? len : (size_t)(there - only));
        copy(to, (struct bytes){only, len});
        copied = copied && memcmp(to, only, len) == 0;
        free(only);
    }
    check(found, "find", "as memchr does");
    check(copied, "copy", "as memcpy does");
}

static void prove_texts_are_as_printfs(void)
{
    char mine[64], its[64];
#define SAME(...) \
    do { \
        size_t n = text_in(mine, sizeof mine, __VA_ARGS__); \
        check((size_t)snprintf(its, sizeof its, __VA_ARGS__) == n && strcmp(mine, its) == 0, "text_in", its); \
    } while (0)
    SAME("no more than this");
    SAME("%s%c%s 100%%", "a", 'b', "");
    SAME("[%.3s] [%.*s] [%.0s] [%.9s]", "abcdef", 2, "xyz", "gone", "short");
    SAME("[%-6s] [%6s] [%-2s]", "abc", "abc", "abc");
    SAME("%d %d %d %d", 0, -1, INT32_MAX, INT32_MIN);
    SAME("%lld %lld %llu", (long long)INT64_MIN, (long long)INT64_MAX, (unsigned long long)UINT64_MAX);
    SAME("%u %03u %08x %x %04x", UINT32_MAX, 7u, 0xabcdefu, 0u, 0x12345u);
    SAME("%llx %llx", 0xfedcba9876543210ull, 0xfedcba987654321ull);
    for (size_t room = 1; room < 16; room++) {
        memset(mine, 'x', sizeof mine);
        size_t n = text_in(mine, room, "%s-%d-%s", "abc", 1234, "z");
        snprintf(its, room, "%s-%d-%s", "abc", 1234, "z");
        check(n == least_of(room - 1, 10) && strcmp(mine, its) == 0 && mine[room] == 'x', "text_in", "is cut off");
    }
}

static void prove_addresses_are_written_as_inet_ntop_does(void)
{
    uint64_t x = 815;
    bool same = true;
    for (int round = 0; round < 20000; round++) {
        struct in6_addr a;
        char mine[64], its[64];
        for (size_t i = 0; i < 16; i++)         /* many zeros, so that runs of all lengths come up */
            a.s6_addr[i] = draw(&x) % 4 > 0 ? 0 : (unsigned char)(draw(&x) % 256);
        if (IN6_IS_ADDR_V4COMPAT(&a) && !IN6_IS_ADDR_UNSPECIFIED(&a) && !IN6_IS_ADDR_LOOPBACK(&a))
            continue;                           /* long deprecated: inet_ntop still writes them with dots */
        inet6_text(&a, mine, sizeof mine);
        same = same && strcmp(mine, inet_ntop(AF_INET6, &a, its, sizeof its)) == 0;
    }
    check(same, "inet6_text", "as inet_ntop does");
}

static void prove_shares_are_rounded(void)
{
    static const struct { uint64_t n, all; const char *text; } shares[] = {
        { 0, 5, "0.000000" }, { 5, 5, "100.000000" }, { 1, 3, "33.333333" }, { 2, 3, "66.666667" },
        { 1, 200000000, "0.000000" }, { 3, 200000000, "0.000002" }, { 1, 199999999, "0.000001" }, { 4294967295, 4294967296, "100.000000" },
        { UINT64_MAX / 10 - 1, UINT64_MAX / 10, "100.000000" }, { UINT64_MAX / 20, UINT64_MAX / 10, "50.000000" },
    };
    for (size_t i = 0; i < countof(shares); i++) {
        char text[PERCENT_TEXT];
        check(strcmp(percent_text(shares[i].n, shares[i].all, text), shares[i].text) == 0, "percent_text", text);
    }
}

int main(void)
{
    (void)house_main;
    (void)options_read;
    prove_numbers_do_not_wrap();
    prove_bytes_are_found_and_copied();
    prove_texts_are_as_printfs();
    prove_addresses_are_written_as_inet_ntop_does();
    prove_shares_are_rounded();
    prove_md5_is_rfc_1321s();
    prove_tags_are_found();
    prove_queues_hold_what_was_put();
    prove_a_shared_block_is_not_written_on();
    prove_memory_has_an_end_and_spares_go_back();
    prove_a_ring_without_memory_stays();
    prove_every_command_is_found_and_nothing_else();
    prove_own_commands_come_before_those_of_the_table();
    prove_keys_are_found_where_they_stand();
    prove_requests_survive_any_cut_and_no_memory();
    prove_lines_have_an_end();
    prove_keys_are_1_to_250_bytes();
    prove_memcached_requests_are_written_anew();
    prove_replies_survive_any_cut();
    prove_merging_is_right_however_replies_are_cut();
    prove_a_configuration_tells_every_mistake();
    prove_a_configuration_without_memory_is_refused();
    prove_pools_are_the_same_whichever_key_says_so();
    prove_any_configuration_is_read_to_its_end();
    prove_twemproxys_file_is_converted_or_refused_however_it_is_damaged();
    prove_rings_are_compared_value_by_value();
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
