/* nutproxy.h - the promises.  nutproxy.c is how they are kept.
 *
 * Everything a user can see of the product stands in the tables of this file:
 * the commands it understands, the keys it can be configured with, the numbers
 * it reports.  Below the tables stands the pure core: bytes in, bytes out, no
 * descriptor, no clock, no log.  A fuzzer or an embedder includes this file
 * and links nutproxy.c built with -DNUT_CORE, and inih.
 *
 * The prefix nut_ means: a function that is visible outside nutproxy.c.
 */
#ifndef NUTPROXY_H
#define NUTPROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUT_VERSION "0.1.0"
#define NUT_REDIS   "7.0.0"             /* told as the version of servers until one has told its own */

/* ------------------------------------------------------------------ limits
 * Every growth has an end.  A proof sets some of these small to visit the
 * edges.
 */
#ifndef NUT_BULK_MAX
#define NUT_BULK_MAX     (512u << 20)   /* bytes in one word (Redis' proto-max-bulk-len) */
#endif
#ifndef NUT_REQUEST_MAX
#define NUT_REQUEST_MAX  ((512u << 20) + (1u << 20))    /* bytes in one request */
#endif
#ifndef NUT_WORDS_MAX
#define NUT_WORDS_MAX    (1u << 20)     /* words in one request */
#endif
#ifndef NUT_INLINE_MAX
#define NUT_INLINE_MAX   (64u << 10)    /* bytes in one inline command (as Redis) */
#endif
#ifndef NUT_BIG
#define NUT_BIG          (8u << 10)     /* from here on bytes are handed over, not copied */
#endif
#define NUT_KEY_MAX      250            /* bytes in a memcached key (protocol.txt) */
#define NUT_LINE_MAX     2048           /* bytes in a memcached line that is not a get: beyond
                                           them memcached hangs up */
#define NUT_GET_MAX      (16u << 20)    /* bytes in the line of a memcached get */
#define NUT_ITEM_MAX     (INT32_MAX - 2) /* bytes in a memcached item */
#define NUT_SERVERS_MAX  4096           /* servers in one pool */
#define NUT_POOLS_MAX    1024           /* pools in one process */
#define NUT_WORKERS_MAX  64             /* threads that serve */
#define NUT_CONF_MAX     (16u << 20)    /* bytes in a configuration */
#define NUT_OWN_MAX      256            /* commands that a pool's configuration adds or changes */

/* ---------------------------------------------------------------- commands
 * The commands of Redis 7.0, and those that Redis 7.2 to 8.12, Valkey 8 to 9.2 and the JSON,
 * Bloom, time series and search modules document.  A row reads: NAME takes ARITY words,
 * itself included (-n: at least n; a module tells nobody how many, so -2 mostly); FIRST,
 * LAST and STEP say where keys stand (LAST counted from the end where negative), as the
 * server's own COMMAND has it; KEYS how they are really found; WAY who answers; MERGE how
 * the replies of several servers become one; ACCESS what it does to data.  "CLIENT|ID" is
 * the subcommand ID of CLIENT.
 *
 *   keys   NONE     it has none              way    ONE      the server of its keys; all
 *          SPAN     FIRST..LAST by STEP                      of them must be on one
 *          COUNT1   word 1 says how many            EACH     a part for each server
 *                   follow it                       ANY      one fixed server: it has no key
 *          COUNT2   word 2 does                     ALL      every server of the pool
 *          PAIRS1   word 1 says how many            FLUSH    as ALL, if `allow = flush`
 *                   pairs follow it                 HERE     the proxy
 *          STORE2   word 1, and COUNT2              SUBS     its subcommands have rows
 *          STREAMS  after STREAMS                   BLOCKS   refused: would stop a connection
 *          SORT     word 1, after STORE                      that others share
 *          RADIUS   word 1, after STORE             SESSION  refused: changes the connection
 *                   or STOREDIST                             for everybody on it
 *          WORD1    word 1, which is no key         WHOLE    refused: concerns all servers
 *          REST2    words 2 and on, which           ADMIN    refused: about one server itself
 *                   are none                        NEVER    refused
 *
 *   merge  AS_IS    one reply, untouched            CONCAT   one array of all elements
 *          SUM      add the integers                SAME     one of them: they are equal
 *          ZIP      elements in the order of keys   LEAST    the least of each integer
 *          ALL_OK   +OK unless one failed           FOUND    the first that is not null
 */
#define NUT_COMMANDS(_) \
/*     name                     arity first last step   keys     way      merge   access      */ \
    _( "ACL",                     -2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "APPEND",                   3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ARCOUNT",                  2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ARDEL",                   -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ARDELRANGE",              -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ARGET",                    3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ARGETRANGE",               4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ARGREP",                  -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ARINFO",                  -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ARINSERT",                -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ARLASTITEMS",             -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ARLEN",                    2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ARMGET",                  -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ARMSET",                  -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ARNEXT",                   2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "AROP",                    -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ARRING",                  -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ARSCAN",                  -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ARSEEK",                   3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ARSET",                   -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ASKING",                   1,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "AUTH",                    -2,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "BACKUP",                  -2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "BF.ADD",                  -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "BF.CARD",                 -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "BF.EXISTS",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "BF.INFO",                 -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "BF.INSERT",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "BF.LOAD",                 -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "BF.LOADCHUNK",            -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "BF.MADD",                 -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "BF.MEXISTS",              -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "BF.RESERVE",              -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "BF.SCANDUMP",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "BGREWRITEAOF",             1,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "BGSAVE",                  -1,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "BITCOUNT",                -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "BITFIELD",                -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "BITFIELD_RO",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "BITOP",                   -4,   2,  -1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "BITPOS",                  -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "BITRANGEINTARRAY",        -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "BLESS",                   -2,   0,   0,  0,   NONE,    SUBS,    AS_IS,  OTHER ) \
    _( "BLESS|CLEAR",              4,   2,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "BLESS|GET",                3,   2,   2,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "BLESS|HELP",               2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "BLESS|SCAN",              -4,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  READ  ) \
    _( "BLESS|SET",                4,   2,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "BLMOVE",                   6,   1,   2,  1,   SPAN,    BLOCKS,  AS_IS,  WRITE ) \
    _( "BLMOVEM",                 -6,   1,   2,  1,   SPAN,    BLOCKS,  AS_IS,  WRITE ) \
    _( "BLMPOP",                  -5,   0,   0,  0,   NONE,    BLOCKS,  AS_IS,  WRITE ) \
    _( "BLPOP",                   -3,   1,  -2,  1,   SPAN,    BLOCKS,  AS_IS,  WRITE ) \
    _( "BRPOP",                   -3,   1,  -2,  1,   SPAN,    BLOCKS,  AS_IS,  WRITE ) \
    _( "BRPOPLPUSH",               4,   1,   2,  1,   SPAN,    BLOCKS,  AS_IS,  WRITE ) \
    _( "BZMOVE",                  -5,   1,   2,  1,   SPAN,    BLOCKS,  AS_IS,  WRITE ) \
    _( "BZMPOP",                  -5,   0,   0,  0,   NONE,    BLOCKS,  AS_IS,  WRITE ) \
    _( "BZPOPMAX",                -3,   1,  -2,  1,   SPAN,    BLOCKS,  AS_IS,  WRITE ) \
    _( "BZPOPMIN",                -3,   1,  -2,  1,   SPAN,    BLOCKS,  AS_IS,  WRITE ) \
    _( "CF.ADD",                  -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "CF.ADDNX",                -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "CF.COMPACT",              -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "CF.COUNT",                -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "CF.DEL",                  -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "CF.EXISTS",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "CF.INFO",                 -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "CF.INSERT",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "CF.INSERTNX",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "CF.LOADCHUNK",            -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "CF.MEXISTS",              -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "CF.RESERVE",              -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "CF.SCANDUMP",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "CLIENT",                  -2,   0,   0,  0,   NONE,    SUBS,    AS_IS,  OTHER ) \
    _( "CLIENT|CACHING",           3,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "CLIENT|CAPA",             -3,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "CLIENT|GETNAME",           2,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "CLIENT|GETREDIR",          2,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "CLIENT|HELP",              2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "CLIENT|ID",                2,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "CLIENT|IMPORT-SOURCE",     3,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "CLIENT|INFO",              2,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "CLIENT|KILL",             -3,   0,   0,  0,   NONE,    NEVER,   AS_IS,  OTHER ) \
    _( "CLIENT|LIST",             -2,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "CLIENT|NO-EVICT",          3,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "CLIENT|NO-TOUCH",          3,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "CLIENT|PAUSE",            -3,   0,   0,  0,   NONE,    NEVER,   AS_IS,  OTHER ) \
    _( "CLIENT|REPLY",             3,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "CLIENT|SETINFO",           4,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "CLIENT|SETNAME",           3,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "CLIENT|TRACKING",         -3,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "CLIENT|TRACKINGINFO",      2,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "CLIENT|UNBLOCK",          -3,   0,   0,  0,   NONE,    NEVER,   AS_IS,  OTHER ) \
    _( "CLIENT|UNPAUSE",           2,   0,   0,  0,   NONE,    NEVER,   AS_IS,  OTHER ) \
    _( "CLUSTER",                 -2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "CLUSTERSCAN",             -2,   1,   1,  1,   SPAN,    WHOLE,   AS_IS,  READ  ) \
    _( "CMS.INCRBY",              -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "CMS.INFO",                -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "CMS.INITBYDIM",           -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "CMS.INITBYPROB",          -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "CMS.MERGE",               -4,   1,   1,  1,   STORE2,  ONE,     AS_IS,  WRITE ) \
    _( "CMS.QUERY",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "COMMAND",                 -1,   0,   0,  0,   NONE,    SUBS,    AS_IS,  OTHER ) \
    _( "COMMAND|COUNT",            2,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "COMMAND|DOCS",            -2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "COMMAND|GETKEYS",         -4,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "COMMAND|GETKEYSANDFLAGS",  -4,   0,   0,  0,   NONE,    NEVER,   AS_IS,  OTHER ) \
    _( "COMMAND|HELP",             2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "COMMAND|INFO",            -2,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "COMMAND|LIST",            -2,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "COMMANDLOG",              -2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "CONFIG",                  -2,   0,   0,  0,   NONE,    SUBS,    AS_IS,  OTHER ) \
    _( "CONFIG|GET",              -3,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "CONFIG|HELP",              2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "CONFIG|RESETSTAT",         2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "CONFIG|REWRITE",           2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "CONFIG|SET",              -4,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "COPY",                    -3,   1,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "DBSIZE",                   1,   0,   0,  0,   NONE,    ALL,     SUM,    READ  ) \
    _( "DEBUG",                   -2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "DECR",                     2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "DECRBY",                   3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "DEL",                     -2,   1,  -1,  1,   SPAN,    EACH,    SUM,    WRITE ) \
    _( "DELEX",                   -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "DELIFEQ",                  3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "DIGEST",                   2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "DISCARD",                  1,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "DUMP",                     2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ECHO",                     2,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "EVAL",                    -3,   0,   0,  0,   COUNT2,  ONE,     AS_IS,  OTHER ) \
    _( "EVALSHA",                 -3,   0,   0,  0,   COUNT2,  ONE,     AS_IS,  OTHER ) \
    _( "EVALSHA_RO",              -3,   0,   0,  0,   COUNT2,  ONE,     AS_IS,  READ  ) \
    _( "EVAL_RO",                 -3,   0,   0,  0,   COUNT2,  ONE,     AS_IS,  READ  ) \
    _( "EXEC",                     1,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "EXISTS",                  -2,   1,  -1,  1,   SPAN,    EACH,    SUM,    READ  ) \
    _( "EXPIRE",                  -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "EXPIREAT",                -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "EXPIRETIME",               2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "FAILOVER",                -1,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "FCALL",                   -3,   0,   0,  0,   COUNT2,  ONE,     AS_IS,  OTHER ) \
    _( "FCALL_RO",                -3,   0,   0,  0,   COUNT2,  ONE,     AS_IS,  READ  ) \
    _( "FLUSHALL",                -1,   0,   0,  0,   NONE,    FLUSH,   ALL_OK, WRITE ) \
    _( "FLUSHDB",                 -1,   0,   0,  0,   NONE,    FLUSH,   ALL_OK, WRITE ) \
    _( "FT.AGGREGATE",            -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.ALIASADD",             -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.ALIASDEL",             -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.ALIASLIST",            -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.ALIASUPDATE",          -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.ALTER",                -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.CONFIG",               -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.CREATE",               -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.CURSOR",               -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.DICTADD",              -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.DICTDEL",              -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.DICTDUMP",             -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.DROPINDEX",            -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.EXPLAIN",              -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.EXPLAINCLI",           -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.HYBRID",               -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.INFO",                 -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.PROFILE",              -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.SEARCH",               -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.SPELLCHECK",           -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.SUGADD",               -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "FT.SUGDEL",               -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "FT.SUGGET",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "FT.SUGLEN",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "FT.SYNDUMP",              -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.SYNUPDATE",            -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT.TAGVALS",              -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FT._LIST",                -1,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  OTHER ) \
    _( "FUNCTION",                -2,   0,   0,  0,   NONE,    SUBS,    AS_IS,  OTHER ) \
    _( "FUNCTION|DELETE",          3,   0,   0,  0,   NONE,    ALL,     ALL_OK, WRITE ) \
    _( "FUNCTION|DUMP",            2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "FUNCTION|FLUSH",          -2,   0,   0,  0,   NONE,    ALL,     ALL_OK, WRITE ) \
    _( "FUNCTION|HELP",            2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "FUNCTION|KILL",            2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "FUNCTION|LIST",           -2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "FUNCTION|LOAD",           -3,   0,   0,  0,   NONE,    ALL,     SAME,   WRITE ) \
    _( "FUNCTION|RESTORE",        -3,   0,   0,  0,   NONE,    ALL,     ALL_OK, WRITE ) \
    _( "FUNCTION|STATS",           2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "GEOADD",                  -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "GEODIST",                 -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "GEOHASH",                 -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "GEOPOS",                  -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "GEORADIUS",               -6,   1,   1,  1,   RADIUS,  ONE,     AS_IS,  WRITE ) \
    _( "GEORADIUSBYMEMBER",       -5,   1,   1,  1,   RADIUS,  ONE,     AS_IS,  WRITE ) \
    _( "GEORADIUSBYMEMBER_RO",    -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "GEORADIUS_RO",            -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "GEOSEARCH",               -7,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "GEOSEARCHSTORE",          -8,   1,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "GET",                      2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "GETBIT",                   3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "GETDEL",                   2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "GETEX",                   -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "GETRANGE",                 4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "GETSET",                   3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HDEL",                    -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HELLO",                   -1,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "HEXISTS",                  3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "HEXPIRE",                 -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HEXPIREAT",               -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HEXPIRETIME",             -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "HGET",                     3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "HGETALL",                  2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "HGETDEL",                 -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HGETEX",                  -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HIMPORT",                 -2,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "HINCRBY",                  4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HINCRBYFLOAT",             4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HKEYS",                    2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "HLEN",                     2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "HMGET",                   -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "HMSET",                   -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HOTKEYS",                 -2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "HPERSIST",                -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HPEXPIRE",                -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HPEXPIREAT",              -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HPEXPIRETIME",            -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "HPTTL",                   -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "HRANDFIELD",              -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "HSCAN",                   -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "HSET",                    -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HSETEX",                  -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HSETNX",                   4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "HSTRLEN",                  3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "HTTL",                    -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "HVALS",                    2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "INCR",                     2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "INCRBY",                   3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "INCRBYFLOAT",              3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "INCREX",                  -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "INFO",                    -1,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "JSON.ARRAPPEND",          -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.ARRINDEX",           -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "JSON.ARRINSERT",          -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.ARRLEN",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "JSON.ARRPOP",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.ARRTRIM",            -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.CLEAR",              -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.DEBUG",              -3,   2,   2,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "JSON.DEL",                -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.FORGET",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.GET",                -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "JSON.MERGE",              -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.MGET",               -3,   1,  -2,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "JSON.MSET",               -4,   1,  -1,  3,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.NUMINCRBY",          -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.NUMMULTBY",          -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.OBJKEYS",            -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "JSON.OBJLEN",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "JSON.RESP",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "JSON.SET",                -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.STRAPPEND",          -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.STRLEN",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "JSON.TOGGLE",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "JSON.TYPE",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "KEYS",                     2,   0,   0,  0,   NONE,    ALL,     CONCAT, READ  ) \
    _( "LASTSAVE",                 1,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "LATENCY",                 -2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "LCS",                     -3,   1,   2,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "LINDEX",                   3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "LINSERT",                  5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "LLEN",                     2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "LMOVE",                    5,   1,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "LMOVEM",                  -5,   1,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "LMPOP",                   -4,   0,   0,  0,   COUNT1,  ONE,     AS_IS,  WRITE ) \
    _( "LOLWUT",                  -1,   0,   0,  0,   NONE,    ANY,     AS_IS,  READ  ) \
    _( "LPOP",                    -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "LPOS",                    -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "LPUSH",                   -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "LPUSHX",                  -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "LRANGE",                   4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "LREM",                     4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "LSET",                     4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "LTRIM",                    4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "MEMORY",                  -2,   0,   0,  0,   NONE,    SUBS,    AS_IS,  OTHER ) \
    _( "MEMORY|DOCTOR",            2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "MEMORY|HELP",              2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "MEMORY|MALLOC-STATS",      2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "MEMORY|PURGE",             2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "MEMORY|STATS",             2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "MEMORY|USAGE",            -3,   2,   2,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "MGET",                    -2,   1,  -1,  1,   SPAN,    EACH,    ZIP,    READ  ) \
    _( "MIGRATE",                 -6,   3,   3,  1,   SPAN,    ADMIN,   AS_IS,  WRITE ) \
    _( "MODULE",                  -2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "MONITOR",                  1,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "MOVE",                     3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "MSET",                    -3,   1,  -1,  2,   SPAN,    EACH,    ALL_OK, WRITE ) \
    _( "MSETEX",                  -4,   0,   0,  0,   PAIRS1,  ONE,     AS_IS,  WRITE ) \
    _( "MSETNX",                  -3,   1,  -1,  2,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "MULTI",                    1,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "OBJECT",                  -2,   0,   0,  0,   NONE,    SUBS,    AS_IS,  OTHER ) \
    _( "OBJECT|ENCODING",          3,   2,   2,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "OBJECT|FREQ",              3,   2,   2,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "OBJECT|HELP",              2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "OBJECT|IDLETIME",          3,   2,   2,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "OBJECT|REFCOUNT",          3,   2,   2,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "PERSIST",                  2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "PEXPIRE",                 -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "PEXPIREAT",               -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "PEXPIRETIME",              2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "PFADD",                   -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "PFCOUNT",                 -2,   1,  -1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "PFDEBUG",                  3,   2,   2,  1,   SPAN,    ADMIN,   AS_IS,  WRITE ) \
    _( "PFMERGE",                 -2,   1,  -1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "PFSELFTEST",               1,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "PHCARD",                   2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "PHDEL",                   -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "PHDELPREFIX",              3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "PHEXISTS",                 3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "PHGET",                   -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "PHGETALL",                 3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "PHLONGEST",               -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "PHMGET",                  -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "PHMSET",                  -7,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "PHPREFIXES",              -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "PHSCAN",                  -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "PHSET",                   -7,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "PING",                    -1,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "PSETEX",                   4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "PSUBSCRIBE",              -2,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "PSYNC",                   -3,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "PTTL",                     2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "PUBLISH",                  3,   0,   0,  0,   WORD1,   ONE,     AS_IS,  WRITE ) \
    _( "PUBSUB",                  -2,   0,   0,  0,   NONE,    SUBS,    AS_IS,  OTHER ) \
    _( "PUBSUB|CHANNELS",         -2,   0,   0,  0,   NONE,    ALL,     CONCAT, READ  ) \
    _( "PUBSUB|HELP",              2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "PUBSUB|NUMPAT",            2,   0,   0,  0,   NONE,    ALL,     SUM,    READ  ) \
    _( "PUBSUB|NUMSUB",           -2,   0,   0,  0,   REST2,   ONE,     AS_IS,  OTHER ) \
    _( "PUBSUB|SHARDCHANNELS",    -2,   0,   0,  0,   NONE,    ALL,     CONCAT, READ  ) \
    _( "PUBSUB|SHARDNUMSUB",      -2,   0,   0,  0,   REST2,   ONE,     AS_IS,  OTHER ) \
    _( "PUNSUBSCRIBE",            -1,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "QUIT",                    -1,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "RANDOMKEY",                1,   0,   0,  0,   NONE,    ALL,     FOUND,  READ  ) \
    _( "READONLY",                 1,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "READWRITE",                1,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "RENAME",                   3,   1,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "RENAMENX",                 3,   1,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "REPLCONF",                -1,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "REPLICAOF",                3,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "RESET",                    1,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "RESTORE",                 -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "RESTORE-ASKING",          -4,   1,   1,  1,   SPAN,    ADMIN,   AS_IS,  WRITE ) \
    _( "ROLE",                     1,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "RPOP",                    -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "RPOPLPUSH",                3,   1,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "RPUSH",                   -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "RPUSHX",                  -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SADD",                    -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SADDEX",                  -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SAVE",                     1,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "SCAN",                    -2,   0,   0,  0,   NONE,    HERE,    AS_IS,  READ  ) \
    _( "SCARD",                    2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SCRIPT",                  -2,   0,   0,  0,   NONE,    SUBS,    AS_IS,  OTHER ) \
    _( "SCRIPT|DEBUG",             3,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "SCRIPT|EXISTS",           -3,   0,   0,  0,   NONE,    ALL,     LEAST,  OTHER ) \
    _( "SCRIPT|FLUSH",            -2,   0,   0,  0,   NONE,    ALL,     ALL_OK, OTHER ) \
    _( "SCRIPT|HELP",              2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "SCRIPT|KILL",              2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "SCRIPT|LOAD",              3,   0,   0,  0,   NONE,    ALL,     SAME,   OTHER ) \
    _( "SCRIPT|SHOW",              3,   0,   0,  0,   NONE,    ANY,     AS_IS,  READ  ) \
    _( "SDIFF",                   -2,   1,  -1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SDIFFCARD",               -3,   0,   0,  0,   COUNT1,  ONE,     AS_IS,  READ  ) \
    _( "SDIFFSTORE",              -3,   1,  -1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SELECT",                   2,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "SET",                     -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SETBIT",                   4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SETEX",                    4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SETNX",                    3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SETRANGE",                 4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SEXPIRE",                 -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SEXPIREAT",               -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SEXPIRETIME",             -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SHUTDOWN",                -1,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "SINTER",                  -2,   1,  -1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SINTERCARD",              -3,   0,   0,  0,   COUNT1,  ONE,     AS_IS,  READ  ) \
    _( "SINTERSTORE",             -3,   1,  -1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SISMEMBER",                3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SLAVEOF",                  3,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "SLOWLOG",                 -2,   0,   0,  0,   NONE,    SUBS,    AS_IS,  OTHER ) \
    _( "SLOWLOG|GET",             -2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "SLOWLOG|HELP",             2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "SLOWLOG|LEN",              2,   0,   0,  0,   NONE,    ALL,     SUM,    READ  ) \
    _( "SLOWLOG|RESET",            2,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "SMEMBERS",                 2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SMISMEMBER",              -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SMOVE",                    4,   1,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SORT",                    -2,   1,   1,  1,   SORT,    ONE,     AS_IS,  WRITE ) \
    _( "SORT_RO",                 -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SPERSIST",                -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SPEXPIRE",                -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SPEXPIREAT",              -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SPEXPIRETIME",            -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SPOP",                    -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SPTTL",                   -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SPUBLISH",                 3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SRANDMEMBER",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SREM",                    -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SSCAN",                   -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SSUBSCRIBE",              -2,   1,  -1,  1,   SPAN,    SESSION, AS_IS,  OTHER ) \
    _( "STRLEN",                   2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "STTL",                    -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SUBSCRIBE",               -2,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "SUBSTR",                   4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SUNION",                  -2,   1,  -1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "SUNIONCARD",              -3,   0,   0,  0,   COUNT1,  ONE,     AS_IS,  READ  ) \
    _( "SUNIONSTORE",             -3,   1,  -1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "SUNSUBSCRIBE",            -1,   1,  -1,  1,   SPAN,    SESSION, AS_IS,  OTHER ) \
    _( "SWAPDB",                   3,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  WRITE ) \
    _( "SYNC",                     1,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  OTHER ) \
    _( "TDIGEST.ADD",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TDIGEST.BYRANK",          -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TDIGEST.BYREVRANK",       -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TDIGEST.CDF",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TDIGEST.CREATE",          -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TDIGEST.INFO",            -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TDIGEST.MAX",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TDIGEST.MERGE",           -4,   1,   1,  1,   STORE2,  ONE,     AS_IS,  WRITE ) \
    _( "TDIGEST.MIN",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TDIGEST.QUANTILE",        -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TDIGEST.RANK",            -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TDIGEST.RESET",           -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TDIGEST.REVRANK",         -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TDIGEST.TRIMMED_MEAN",    -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TIME",                     1,   0,   0,  0,   NONE,    HERE,    AS_IS,  OTHER ) \
    _( "TOPK.ADD",                -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TOPK.COUNT",              -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TOPK.INCRBY",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TOPK.INFO",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TOPK.LIST",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TOPK.QUERY",              -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TOPK.RESERVE",            -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TOUCH",                   -2,   1,  -1,  1,   SPAN,    EACH,    SUM,    READ  ) \
    _( "TRIMSLOTS",               -5,   0,   0,  0,   NONE,    ADMIN,   AS_IS,  WRITE ) \
    _( "TS.ADD",                  -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TS.ALTER",                -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TS.CREATE",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TS.CREATERULE",           -3,   1,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TS.DECRBY",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TS.DEL",                  -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TS.DELETERULE",           -3,   1,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TS.GET",                  -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TS.INCRBY",               -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TS.INFO",                 -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TS.MADD",                 -4,   1,  -1,  3,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "TS.MGET",                 -2,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  READ  ) \
    _( "TS.MRANGE",               -2,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  READ  ) \
    _( "TS.MREVRANGE",            -2,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  READ  ) \
    _( "TS.NRANGE",               -5,   0,   0,  0,   COUNT1,  ONE,     AS_IS,  READ  ) \
    _( "TS.NREVRANGE",            -5,   0,   0,  0,   COUNT1,  ONE,     AS_IS,  READ  ) \
    _( "TS.QUERYINDEX",           -2,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  READ  ) \
    _( "TS.QUERYLABELS",          -2,   0,   0,  0,   NONE,    WHOLE,   AS_IS,  READ  ) \
    _( "TS.RANGE",                -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TS.READ",                 -3,   1,   1,  1,   SPAN,    BLOCKS,  AS_IS,  READ  ) \
    _( "TS.REVRANGE",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TTL",                      2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "TYPE",                     2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "UNLINK",                  -2,   1,  -1,  1,   SPAN,    EACH,    SUM,    WRITE ) \
    _( "UNSUBSCRIBE",             -1,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "UNWATCH",                  1,   0,   0,  0,   NONE,    SESSION, AS_IS,  OTHER ) \
    _( "VADD",                    -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "VCARD",                    2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "VDIM",                     2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "VEMB",                    -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "VGETATTR",                 3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "VINFO",                    2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "VISMEMBER",                3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "VLINKS",                  -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "VRANDMEMBER",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "VRANGE",                  -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "VREM",                     3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "VSETATTR",                 4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "VSIM",                    -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "WAIT",                     3,   0,   0,  0,   NONE,    BLOCKS,  AS_IS,  OTHER ) \
    _( "WAITAOF",                  4,   0,   0,  0,   NONE,    BLOCKS,  AS_IS,  OTHER ) \
    _( "WATCH",                   -2,   1,  -1,  1,   SPAN,    SESSION, AS_IS,  OTHER ) \
    _( "XACK",                    -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XACKDEL",                 -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XADD",                    -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XAUTOCLAIM",              -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XCFGSET",                 -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XCLAIM",                  -6,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XDEL",                    -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XDELEX",                  -5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XGROUP",                  -2,   0,   0,  0,   NONE,    SUBS,    AS_IS,  OTHER ) \
    _( "XGROUP|CREATE",           -5,   2,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XGROUP|CREATECONSUMER",    5,   2,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XGROUP|DELCONSUMER",       5,   2,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XGROUP|DESTROY",           4,   2,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XGROUP|HELP",              2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "XGROUP|SETID",            -5,   2,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XIDMPRECORD",              5,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XINFO",                   -2,   0,   0,  0,   NONE,    SUBS,    AS_IS,  OTHER ) \
    _( "XINFO|CONSUMERS",          4,   2,   2,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "XINFO|GROUPS",             3,   2,   2,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "XINFO|HELP",               2,   0,   0,  0,   NONE,    ANY,     AS_IS,  OTHER ) \
    _( "XINFO|STREAM",            -3,   2,   2,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "XLEN",                     2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "XNACK",                   -7,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XPENDING",                -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "XRANGE",                  -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "XREAD",                   -4,   0,   0,  0,   STREAMS, ONE,     AS_IS,  READ  ) \
    _( "XREADGROUP",              -7,   0,   0,  0,   STREAMS, ONE,     AS_IS,  WRITE ) \
    _( "XREVRANGE",               -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "XSETID",                  -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "XTRIM",                   -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ZADD",                    -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ZCARD",                    2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZCOUNT",                   4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZDIFF",                   -3,   0,   0,  0,   COUNT1,  ONE,     AS_IS,  READ  ) \
    _( "ZDIFFSTORE",              -4,   1,   1,  1,   STORE2,  ONE,     AS_IS,  WRITE ) \
    _( "ZINCRBY",                  4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ZINTER",                  -3,   0,   0,  0,   COUNT1,  ONE,     AS_IS,  READ  ) \
    _( "ZINTERCARD",              -3,   0,   0,  0,   COUNT1,  ONE,     AS_IS,  READ  ) \
    _( "ZINTERSTORE",             -4,   1,   1,  1,   STORE2,  ONE,     AS_IS,  WRITE ) \
    _( "ZLEXCOUNT",                4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZMOVE",                   -4,   1,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ZMOVEMEMBER",             -6,   1,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ZMPOP",                   -4,   0,   0,  0,   COUNT1,  ONE,     AS_IS,  WRITE ) \
    _( "ZMSCORE",                 -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZPOPMAX",                 -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ZPOPMIN",                 -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ZRANDMEMBER",             -2,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZRANGE",                  -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZRANGEBYLEX",             -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZRANGEBYSCORE",           -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZRANGESTORE",             -5,   1,   2,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ZRANK",                    3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZREM",                    -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ZREMRANGEBYLEX",           4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ZREMRANGEBYRANK",          4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ZREMRANGEBYSCORE",         4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  WRITE ) \
    _( "ZREVRANGE",               -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZREVRANGEBYLEX",          -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZREVRANGEBYSCORE",        -4,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZREVRANK",                 3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZSCAN",                   -3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZSCORE",                   3,   1,   1,  1,   SPAN,    ONE,     AS_IS,  READ  ) \
    _( "ZUNION",                  -3,   0,   0,  0,   COUNT1,  ONE,     AS_IS,  READ  ) \
    _( "ZUNIONSTORE",             -4,   1,   1,  1,   STORE2,  ONE,     AS_IS,  WRITE )

/* -------------------------------------------------------------------- INFO
 * What INFO tells.  SUM and MOST: the sum, or the largest, of what the servers say that
 * answer; IS: always the same; the others: what the proxy knows, of the pool and of the
 * worker that is asked.
 */
#define NUT_INFO_SECTIONS(_) \
    _( SERVER,      "Server"      ) _( CLIENT,   "Clients" ) _( MEMORY,      "Memory"      ) \
    _( PERSISTENCE, "Persistence" ) _( STATS,    "Stats"   ) _( REPLICATION, "Replication" ) \
    _( CLUSTER,     "Cluster"     ) _( KEYSPACE, "Keyspace") _( PROXY,       "nutproxy"    )

#define NUT_INFO(_) \
/*     section      field                          how       text */ \
    _( SERVER,      "redis_version",               REDIS,    ""           ) \
    _( SERVER,      "redis_mode",                  IS,       "standalone" ) \
    _( SERVER,      "process_id",                  PID,      ""           ) \
    _( SERVER,      "tcp_port",                    PORT,     ""           ) \
    _( SERVER,      "uptime_in_seconds",           UPTIME,   ""           ) \
    _( CLIENT,      "connected_clients",           CLIENTS,  ""           ) \
    _( CLIENT,      "maxclients",                  LIMIT,    ""           ) \
    _( CLIENT,      "blocked_clients",             IS,       "0"          ) \
    _( MEMORY,      "used_memory",                 SUM,      ""           ) \
    _( MEMORY,      "used_memory_rss",             SUM,      ""           ) \
    _( MEMORY,      "used_memory_peak",            SUM,      ""           ) \
    _( MEMORY,      "total_system_memory",         MOST,     ""           ) \
    _( MEMORY,      "maxmemory",                   SUM,      ""           ) \
    _( MEMORY,      "maxmemory_policy",            POLICY,   ""           ) \
    _( PERSISTENCE, "loading",                     MOST,     ""           ) \
    _( PERSISTENCE, "rdb_changes_since_last_save", SUM,      ""           ) \
    _( PERSISTENCE, "rdb_bgsave_in_progress",      MOST,     ""           ) \
    _( PERSISTENCE, "aof_enabled",                 MOST,     ""           ) \
    _( PERSISTENCE, "aof_rewrite_in_progress",     MOST,     ""           ) \
    _( STATS,       "total_connections_received",  SUM,      ""           ) \
    _( STATS,       "total_commands_processed",    SUM,      ""           ) \
    _( STATS,       "instantaneous_ops_per_sec",   SUM,      ""           ) \
    _( STATS,       "total_net_input_bytes",       SUM,      ""           ) \
    _( STATS,       "total_net_output_bytes",      SUM,      ""           ) \
    _( STATS,       "rejected_connections",        SUM,      ""           ) \
    _( STATS,       "expired_keys",                SUM,      ""           ) \
    _( STATS,       "evicted_keys",                SUM,      ""           ) \
    _( STATS,       "keyspace_hits",               SUM,      ""           ) \
    _( STATS,       "keyspace_misses",             SUM,      ""           ) \
    _( REPLICATION, "role",                        IS,       "master"     ) \
    _( REPLICATION, "connected_slaves",            IS,       "0"          ) \
    _( CLUSTER,     "cluster_enabled",             IS,       "0"          ) \
    _( KEYSPACE,    "",                            KEYS,     ""           ) \
    _( PROXY,       "nutproxy_version",            NUTPROXY, ""           ) \
    _( PROXY,       "pool",                        POOL,     ""           ) \
    _( PROXY,       "workers",                     WORKERS,  ""           ) \
    _( PROXY,       "servers",                     SERVERS,  ""           ) \
    _( PROXY,       "servers_up",                  UP,       ""           ) \
    _( PROXY,       "servers_answered",            ANSWERED, ""           )

/* The verbs of the memcached text protocol (doc/protocol.txt).  SHAPE
 * is the line after the verb; WAY as above; LEAST and MOST count the words of
 * the line, the verb and a final `noreply` included (memcached takes any word
 * in the place of `noreply`, and then replies); MOST 0: no end.  They are looked up
 * in this order, so what is asked for most stands first.
 *
 *   shape  KEYS     key [key ...]            BLOCK    key flags exptime bytes, then data
 *          TOUCHES  exptime key [key ...]    CAS      as BLOCK, with the unique at the end
 *          DELETE   key [0]                  DELTA    key number
 *          EXPTIME  key exptime              NUMERAL  number
 *          META     key [flag ...]           METASET  key bytes [flag ...], then data
 *          DELAY    [exptime]                STATS    [servers], or server NAME [word]
 *          FREE     whatever
 */
#define NUT_VERBS(_) \
/*     name              shape     least most  way    */ \
    _( "get",            KEYS,       2,   0,   EACH   ) \
    _( "gets",           KEYS,       2,   0,   EACH   ) \
    _( "gat",            TOUCHES,    2,   0,   EACH   ) \
    _( "gats",           TOUCHES,    2,   0,   EACH   ) \
    _( "set",            BLOCK,      5,   6,   ONE    ) \
    _( "add",            BLOCK,      5,   6,   ONE    ) \
    _( "replace",        BLOCK,      5,   6,   ONE    ) \
    _( "append",         BLOCK,      5,   6,   ONE    ) \
    _( "prepend",        BLOCK,      5,   6,   ONE    ) \
    _( "cas",            CAS,        6,   7,   ONE    ) \
    _( "incr",           DELTA,      3,   4,   ONE    ) \
    _( "decr",           DELTA,      3,   4,   ONE    ) \
    _( "delete",         DELETE,     2,   4,   ONE    ) \
    _( "touch",          EXPTIME,    3,   4,   ONE    ) \
    _( "mg",             META,       2,   0,   ONE    ) \
    _( "ms",             METASET,    2,   0,   ONE    ) \
    _( "md",             META,       2,   0,   ONE    ) \
    _( "ma",             META,       2,   0,   ONE    ) \
    _( "me",             META,       1,   3,   ONE    ) \
    _( "mn",             FREE,       1,   0,   HERE   ) \
    _( "stats",          STATS,      1,   4,   ALL    ) \
    _( "flush_all",      DELAY,      1,   3,   FLUSH  ) \
    _( "version",        FREE,       1,   0,   ANY    ) \
    _( "verbosity",      NUMERAL,    2,   3,   HERE   ) \
    _( "quit",           FREE,       1,   0,   HERE   ) \
    _( "cache_memlimit", FREE,       1,   0,   ADMIN  ) \
    _( "lru",            FREE,       1,   0,   ADMIN  ) \
    _( "lru_crawler",    FREE,       1,   0,   ADMIN  ) \
    _( "shutdown",       FREE,       1,   0,   ADMIN  ) \
    _( "slabs",          FREE,       1,   0,   ADMIN  ) \
    _( "watch",          FREE,       1,   0,   ADMIN  )

/* -------------------------------------------------------------------- keys
 * One row for each key of the configuration.  PRESET is the default as a user
 * would write it ("": none, the key may be absent; "!": it is required), and
 * THEIRS is what twemproxy does without the key, where that differs ("": it does
 * not).  LEAST and MOST bound a number.  Times are milliseconds unless they
 * carry ms, s or m; sizes are bytes unless they carry k, m or g.
 */
#define NUT_PROCESS_KEYS(_) \
/*     key            kind      preset             theirs          least most      what it decides */ \
    _( workers,       THREADS,  "1",               "",              1,    NUT_WORKERS_MAX, "threads that serve clients, each with its own connections to every server: 1 to 64, or auto, one for each core") \
    _( stats,         TEXT,     "127.0.0.1:22222", "0.0.0.0:22222", 0,    0,        "where the counters can be read: host:port, /path/of/socket, or off") \
    _( log,           TEXT,     "",                "",              0,    0,        "file for the log, reopened on SIGHUP; without it the log goes to stderr") \
    _( log_level,     LEVEL,    "notice",          "",              0,    11,       "how much is logged: 0..11, or emerg alert crit error warn notice info debug") \
    _( log_format,    FORMAT,   "text",            "",              0,    0,        "how the log is written: text, or json with a line for each event") \
    _( pid_file,      TEXT,     "",                "",              0,    0,        "file for the process id, removed at exit") \
    _( user,          TEXT,     "",                "",              0,    0,        "whose rights the process has once it listens: a name or a number; without it those of who starts it") \
    _( group,         TEXT,     "",                "",              0,    0,        "its group; without it that of user") \
    _( max_clients,   COUNT,    "0",               "",              0,    INT32_MAX, "most clients of all pools at once, 0 for as many as there are descriptors") \
    _( max_memory,    BYTES,    "1g",              "0",             0,    INT64_MAX, "bytes for all buffers of the process, 0 for no bound")

#define NUT_POOL_KEYS(_) \
/*     key                    kind      preset       theirs least most         what it decides */ \
    _( listen,                LISTEN,   "!",         "",   0,    0,           "where clients connect: host:port, [ipv6]:port, or /path [permissions]") \
    _( protocol,              PROTOCOL, "memcached", "",   0,    0,           "what clients and servers speak: redis or memcached") \
    _( redis,                 SWITCH,   "",          "",   0,    1,           "twemproxy's way to say it: true is protocol = redis") \
    _( hash,                  HASH,     "fnv1a_64",  "",   0,    0,           "one_at_a_time md5 crc16 crc32 crc32a fnv1_64 fnv1a_64 fnv1_32 fnv1a_32 hsieh murmur jenkins") \
    _( hash_tag,              TAG,      "",          "",   0,    0,           "two characters; only what stands between them in a key is hashed") \
    _( distribution,          SPREAD,   "ketama",    "",   0,    0,           "how hashes become servers: ketama modula random") \
    _( timeout,               MILLIS,   "5s",        "0",  0,    INT32_MAX,   "patience with a server, from queueing to the whole reply; 0 for ever") \
    _( connect_timeout,       MILLIS,   "2s",        "0",  0,    INT32_MAX,   "patience with connecting to a server, and with its greeting; 0: that of timeout") \
    _( client_idle_timeout,   MILLIS,   "0",         "",   0,    INT32_MAX,   "a client that sends and takes nothing for so long is closed; 0: never") \
    _( tcp_user_timeout,      MILLIS,   "30s",       "0",  0,    INT32_MAX,   "a peer that does not acknowledge what was sent for so long is lost; 0: the kernel decides") \
    _( backlog,               COUNT,    "512",       "",   0,    INT32_MAX,   "length of the queue of clients not yet accepted") \
    _( client_connections,    COUNT,    "0",         "",   0,    INT32_MAX,   "most clients at once, 0 for no limit of its own") \
    _( client_output_limit,   BYTES,    "256m",      "0",  0,    INT64_MAX,   "a client that leaves more than this unread is closed; 0 for no limit") \
    _( max_request,           BYTES,    "513m",      "",   1024, NUT_REQUEST_MAX, "bytes of one request") \
    _( max_queued,            COUNT,    "65536",     "0",  0,    INT32_MAX,   "requests that may wait for one server, for each worker; more get an error; 0 for no limit") \
    _( tcpkeepalive,          SWITCH,   "true",      "false", 0, 1,           "keep-alive probes on the connections of clients and servers") \
    _( reuseport,             SWITCH,   "false",     "",   0,    1,           "let several processes listen on the same port") \
    _( preconnect,            SWITCH,   "false",     "",   0,    1,           "connect to all servers at start") \
    _( redis_auth,            TEXT,     "",          "",   0,    0,           "password for the servers, and asked of clients") \
    _( redis_auth_file,       TEXT,     "",          "",   0,    0,           "a file whose first line is that password") \
    _( redis_db,              COUNT,    "0",         "",   0,    INT32_MAX,   "database selected on every connection to a server") \
    _( allow,                 OWN,      "",          "",   0,    0,           "what is off unless it stands here: flush (FLUSHALL, FLUSHDB, flush_all)") \
    _( deny,                  OWN,      "",          "",   0,    0,           "commands that are refused, as KEYS SCRIPT|FLUSH; any number to a line") \
    _( command_rename,        OWN,      "",          "",   0,    0,           "a command and its name with these servers and their clients, as KEYS allkeys, one to a line") \
    _( command,               OWN,      "",          "",   0,    0,           "NAME arity first last step, as a server's COMMAND tells of a command that is not known here, one to a line") \
    _( server_connections,    COUNT,    "1",         "",   1,    1024,        "connections to each server; a client stays on one of them") \
    _( auto_eject_hosts,      SWITCH,   "false",     "",   0,    1,           "give the keys of a failed server to the others") \
    _( server_failure_limit,  COUNT,    "2",         "",   0,    INT32_MAX,   "failures in a row that mark a server as down") \
    _( server_retry_timeout,  MILLIS,   "30s",       "",   0,    INT32_MAX,   "an ejected server is not tried for so long") \
    _( eject_limit,           COUNT,    "100",       "",   0,    100,         "percent of the servers that may be ejected at once") \
    _( probe_interval,        MILLIS,   "1s",        "",   10,   86400000,    "a server that is down is probed so often") \
    _( health_rise,           COUNT,    "2",         "",   1,    1000,        "good answers to probes in a row that bring it back") \
    _( resolve_interval,      MILLIS,   "30s",       "0",  0,    INT32_MAX,   "names of servers are looked up so often, and after failures; 0: only then") \
    _( servers,               SERVERS,  "!",         "",   1,    NUT_SERVERS_MAX, "host:port:weight [name] or /path:weight [name], one to an indented line")

/* ------------------------------------------------------------------- stats
 * Names and meanings as in twemproxy, in its order.  A COUNTER only grows, a
 * GAUGE is what is so now.
 */
#define NUT_POOL_STATS(_) \
/*     field               kind      what is counted */ \
    _( client_eof,         COUNTER, "# eof on client connections") \
    _( client_err,         COUNTER, "# errors on client connections") \
    _( client_connections, GAUGE,   "# active client connections") \
    _( server_ejects,      COUNTER, "# times backend server was ejected") \
    _( forward_error,      COUNTER, "# times we encountered a forwarding error") \
    _( fragments,          COUNTER, "# fragments created from a multi-vector request")

#define NUT_SERVER_STATS(_) \
/*     field               kind      what is counted */ \
    _( server_eof,         COUNTER, "# eof on server connections") \
    _( server_err,         COUNTER, "# errors on server connections") \
    _( server_timedout,    COUNTER, "# timeouts on server connections") \
    _( server_connections, GAUGE,   "# active server connections") \
    _( server_ejected_at,  GAUGE,   "timestamp when server was ejected in usec since epoch") \
    _( requests,           COUNTER, "# requests") \
    _( request_bytes,      COUNTER, "total request bytes") \
    _( responses,          COUNTER, "# responses") \
    _( response_bytes,     COUNTER, "total response bytes") \
    _( in_queue,           GAUGE,   "# requests in incoming queue") \
    _( in_queue_bytes,     GAUGE,   "current request bytes in incoming queue") \
    _( out_queue,          GAUGE,   "# requests in outgoing queue") \
    _( out_queue_bytes,    GAUGE,   "current request bytes in outgoing queue")

/* ------------------------------------------------------------------ events
 * What the log tells.  A row is an event, its level (a line is written when that
 * is at most log_level; ALWAYS: whatever that is), and what has happened.  In the
 * JSON log the name stands in "event".  Of one event at most 50 lines are written
 * in a second; the next line says how many were not.
 */
#define NUT_EVENTS(_) \
/*     event               level   what has happened */ \
    _( started,            ALWAYS, "the process runs") \
    _( stopped,            ALWAYS, "the process ends") \
    _( start_failed,       ALWAYS, "the process cannot run, and ends") \
    _( signal,             ALWAYS, "the operator has sent a signal") \
    _( log_level,          ALWAYS, "more or less is logged from now on") \
    _( log_failed,         ALWAYS, "the log file cannot be opened anew: the old one goes on") \
    _( reloaded,           ALWAYS, "the configuration was read again, and the process runs by it") \
    _( reload_failed,      ALWAYS, "the configuration was read again, and cannot be taken over: all stays") \
    _( listening,          NOTICE, "clients can connect to a pool, or to the stats port") \
    _( client_refused,     WARN,   "a client was not let in: there are too many") \
    _( client_http,        WARN,   "a client spoke HTTP to a pool, and was closed") \
    _( client_idle,        INFO,   "a client was closed: it was idle") \
    _( client_closed,      WARN,   "a client was closed: it took too little, or memory is short") \
    _( accept_failed,      WARN,   "clients wait outside: the system is short of something") \
    _( server_lost,        WARN,   "a connection to a server failed, or ended with requests under way") \
    _( server_closed,      INFO,   "a server has closed a connection that had nothing to do") \
    _( server_refused,     WARN,   "a server does not take our password or database") \
    _( server_unknown,     WARN,   "a server's name has no address, or none any more") \
    _( server_full,        WARN,   "so many requests wait for a server that more are refused") \
    _( server_moved,       NOTICE, "a server's name stands for another address") \
    _( server_late,        WARN,   "a request had no reply within timeout; those behind it are not told again") \
    _( server_down,        ERROR,  "a server failed too often: requests for it fail at once") \
    _( server_ejected,     ERROR,  "a server failed too often: its keys go to the others") \
    _( server_up,          NOTICE, "a server that was down or ejected has answered a probe: it is back") \
    _( no_memory,          ERROR,  "the ring could not change for want of memory") \
    _( memory_left,        ERROR,  "memory was not given back at the end: a mistake of ours")

/* --------------------------------------------------------------- pure core */

struct bytes { const char *at; size_t len; };

/* Where memory comes from: one for each thread.  All zero but `most` is a
 * fresh one.  What is given back stays on shelves until nut_mem_tidy. */
#define NUT_SMALL_SHELVES 16            /* 32, 64 ... 512 bytes, less what malloc needs for itself */
#define NUT_LARGE_SHELVES 11            /* 1 KiB, 2 KiB ... 1 MiB, likewise */

struct shelf { struct spare *top; uint32_t spares, least; };

struct mem {
    size_t       used;                  /* bytes held from the system, spares included */
    size_t       most;                  /* the bound of `used` */
    struct shelf small[NUT_SMALL_SHELVES], large[NUT_LARGE_SHELVES];
    uint64_t     deny_at, deny_every;   /* for proofs: which request from now is denied */
};

/* A run of bytes that several may read.  Bytes below `fill` never change. */
struct block { uint32_t refs, cap, fill; char bytes[]; };

/* A queue of bytes: put at the end, dropped at the front, held in pieces. */
struct piece { struct piece *next; struct block *block; char *at; size_t len; };
struct queue { struct piece *first, *last; size_t len; };

/* False: memory is short.  The queue is as it was then, but for nut_queue_move,
 * which may have moved a part. */
bool nut_queue_put(struct mem *m, struct queue *q, struct bytes b);
bool nut_queue_refer(struct mem *m, struct queue *q, struct block *block, struct bytes b);
bool nut_queue_move(struct mem *m, struct queue *to, struct queue *from, size_t n);
void nut_queue_drop(struct mem *m, struct queue *q, size_t n);
void nut_queue_free(struct mem *m, struct queue *q);
void nut_mem_tidy(struct mem *m);       /* give spares back that were not needed lately */
void nut_mem_empty(struct mem *m);      /* give all spares back */

/* Hash functions by number, from 0 to NUT_HASHES - 1. */
#define NUT_HASHES 12
const char *nut_hash_name(int which);
uint32_t nut_hash(int which, struct bytes key);
uint64_t nut_hash_space(int which);     /* its values are below this */

/* The part of `key` that is hashed under a tag of two characters, or all. */
struct bytes nut_tagged(struct bytes key, const char *tag);

/* From hashes to servers.  Servers are numbered in the pool's order: by length
 * of the name, then by its bytes. */
enum spread { KETAMA, MODULA, RANDOM };
struct member { struct bytes name; uint32_t weight; bool out; };
struct point  { uint64_t at; uint32_t server; };
struct ring {
    enum spread   spread;
    uint32_t      points;
    struct point *point;                /* by `at` */
    uint32_t     *first;                /* of each slice of 1 << shift values the first point; or NULL */
    uint32_t      shift;
    size_t        size;                 /* bytes behind `point`, with those of `first` */
};

#define NUT_NOBODY UINT32_MAX
/* Build `ring` of those members that are not out.  False: no memory, and the
 * ring is as it was. */
bool     nut_ring_build(struct mem *m, struct ring *ring, enum spread spread,
                        const struct member *member, uint32_t n);
/* The server for a hash; `lot` is a random number, for RANDOM.  NUT_NOBODY
 * when nobody is in. */
uint32_t nut_ring_pick(const struct ring *ring, uint32_t hash, uint32_t lot);
void     nut_ring_free(struct mem *m, struct ring *ring);
/* How many hash values below `space` belong to server x of `a`, which has n, and
 * to server y of `b`, which has `servers`: added to count[x * servers + y].  Both
 * rings have points; neither is RANDOM.  False: no memory. */
bool     nut_rings_compare(struct mem *m, const struct ring *a, uint32_t n, const struct ring *b,
                           uint32_t servers, uint64_t space, uint64_t *count);

/* What a scanner says about the bytes it has seen so far. */
enum scan { SCAN_DONE, SCAN_MORE, SCAN_BAD };

struct span { uint32_t off, len; };     /* offsets, so that bytes may move */

enum keys  { NONE, SPAN, COUNT1, COUNT2, PAIRS1, STORE2, STREAMS, SORT, RADIUS, WORD1, REST2 };
enum way   { ONE, EACH, ANY, ALL, HERE, SUBS, FLUSH, BLOCKS, SESSION, WHOLE, ADMIN, NEVER, DENIED, UNKNOWN };
enum merge { AS_IS, SUM, ZIP, ALL_OK, CONCAT, SAME, LEAST, FOUND, VALUES, HITS, FAILS, TOTALS };  /* from VALUES on: errors, too */
enum access { OTHER, READ, WRITE };
enum info_how {
    INFO_SUM, INFO_MOST, INFO_IS, INFO_REDIS, INFO_NUTPROXY, INFO_POLICY, INFO_POOL, INFO_PID, INFO_PORT, INFO_UPTIME,
    INFO_CLIENTS, INFO_LIMIT, INFO_WORKERS, INFO_SERVERS, INFO_UP, INFO_ANSWERED, INFO_KEYS
};
enum info_section {
#define ROW(section, name) INFO_##section,
    NUT_INFO_SECTIONS(ROW)
#undef ROW
};
enum shape { KEYS, TOUCHES, BLOCK, CAS, DELETE, DELTA, EXPTIME, FREE, NUMERAL, META, METASET, DELAY, STATS };

/* The tables as they are looked at.  They hold no pointers, which would have to be put
 * right when the program starts. */
struct command {
    int8_t   arity, first, last, step;
    unsigned keys : 4, way : 4, merge : 4, access : 2, unused : 18;     /* enum keys, way ... */
};

struct verb {
    uint8_t len;                        /* of its name */
    uint8_t shape;                      /* enum shape */
    uint8_t least, most;                /* words; most 0: no end */
    uint8_t way;                        /* enum way */
};

/* A command that a pool's configuration adds, or knows in another way than the table. */
#define NUT_NAME_MAX 31
struct own_command {
    struct command row;
    uint16_t       of;                  /* which row of the table it is another name of, and 1; or 0 */
    uint8_t        len;
    char           name[NUT_NAME_MAX + 2];      /* in capitals, and no gap behind it: see own_same */
};

/* The commands of a pool: those of the table, and its own before them.  A command is
 * found in one step. */
struct lexicon {
    uint16_t            slot[1024];     /* 1 and a row's number: first the table's, then own ones */
    uint16_t            name[640];      /* where the name of a row of the table begins */
    struct own_command *own;
    uint32_t            owns;
};
void                  nut_lexicon_build(struct lexicon *l, struct own_command *own, uint32_t owns);
const struct command *nut_command_find(const struct lexicon *l, struct bytes name);
struct bytes          nut_command_name(const struct lexicon *l, const struct command *c);

/* One request being scanned.  All zero is a fresh one; after SCAN_MORE call
 * again with the same bytes and more behind them.  A frame can be used again
 * after nut_frame_reset; nut_frame_free gives its memory back. */
struct frame {
    size_t             pos;             /* bytes looked at; on DONE the request's length */
    size_t             total;           /* on MORE: bytes it has at least, if known */
    uint32_t           argc, want;      /* words found; words announced */
    uint32_t           cap;
    struct span       *argv;            /* words, as offsets into `text` */
    struct bytes       text;            /* on DONE: the request, as it may be forwarded */
    struct block      *own;             /* holds `text` where the client wrote it another way */
    const char        *why;             /* on BAD: the reply before closing ... */
    char               odd;             /* ... which ends with this character, quoted, unless 0 */
    /* memcached only */
    const struct verb *verb;            /* NULL: unknown */
    const char        *refusal;         /* on DONE: answer this, forward nothing */
    uint64_t           flags, amount;   /* amount: the delta of incr, the unique of cas */
    int64_t            exptime;
    struct span        data;            /* the data block, without its CR LF */
    bool               line, block;     /* the line was read; a data block follows it */
    bool               noreply;         /* nobody wants an answer */
};

enum scan nut_resp_request(struct mem *m, struct frame *f, struct bytes in);
enum scan nut_mc_request(struct mem *m, struct frame *f, struct bytes in);
void      nut_frame_reset(struct mem *m, struct frame *f);
void      nut_frame_free(struct mem *m, struct frame *f);

/* Where the keys of a RESP request stand: word `first`, every `step`-th, `n` of
 * them, and one more at word `also` (0: none).  NULL, or the refusal. */
struct keyset { uint32_t first, step, n, also; };
const char *nut_command_keys(const struct command *c, const struct frame *f, struct keyset *keys);

/* One key of a request.  A request that is split has a part for each server, and the
 * keys of a part are a chain, in the order asked.  What a reply says to a key is
 * noted here while the reply is scanned, so that merging need not look again. */
#define NUT_NO_KEY UINT32_MAX
struct asked {
    uint32_t part;                      /* which part asks for it */
    uint32_t next;                      /* the next key of that part, or NUT_NO_KEY */
    uint32_t check;                     /* memcached: of the key that its VALUE line must name, or the
                                           opaque (0: none) that the answer to its meta request may name */
    uint32_t len;                       /* bytes of the reply that are this key's; 0: none */
};
uint32_t nut_check(struct bytes key);

/* One reply being scanned, however it is cut: every byte is shown once. */
enum expect {
    RESP_REPLY,                         /* one value */
    RESP_ITEMS,                         /* an array with a value for each key asked, or an error */
    RESP_ASIDE,                         /* RESP3: a push or an attribute, which is no reply */
    MC_LINE,                            /* what answers a request of one key that is no get */
    MC_OK,                              /* OK */
    MC_VALUES,                          /* VALUE ..., for keys asked, in that order; then END */
    MC_META,                            /* what answers a meta request */
    MC_STATS                            /* STAT ..., then END */
};
struct reply {
    enum expect   expect;
    bool          started;
    bool          resp3;                /* the connection speaks RESP3: set it after nut_reply_begin */
    char          kind;                 /* RESP: the first byte; memcached: 'V' for values, 'E' error, '+' else */
    uint8_t       tail;                 /* bytes of CR LF still to come behind a value */
    uint16_t      held;                 /* bytes of an unfinished line, in `line` */
    uint32_t      key;                  /* the next key it may be about, or NUT_NO_KEY */
    struct asked *asked, *about;        /* the keys; the one that the current VALUE is about */
    uint64_t      open;                 /* values still to come */
    uint64_t      rest;                 /* RESP_ITEMS: `open` when the current item is complete */
    uint64_t      item;                 /* bytes of the current item before the ones shown now */
    size_t        need;                 /* bytes of the current value still to come */
    char          line[512];
};

/* `key` is the first of the keys in `asked` that are asked for, which RESP_REPLY and
 * MC_LINE do not look at. */
void      nut_reply_begin(struct reply *r, enum expect expect, struct asked *asked, uint32_t key);
/* Scan what belongs to this reply; *used says how many bytes that were. */
enum scan nut_reply_scan(struct reply *r, struct bytes in, size_t *used);

/* Make one reply of `n` parts' replies, each scanned to its end; they are used up.
 * False: no memory. */
bool nut_merge(struct mem *m, enum merge how, struct queue *part, uint32_t n,
               const struct asked *asked, uint32_t keys, struct queue *out);

/* --------------------------------------------------------------- configuration */

enum protocol { MEMCACHED, REDIS };

struct server_conf {
    char    *name;                      /* unique in its pool; decides the ring */
    char    *host;                      /* or the path of a unix socket, from its first '/' */
    uint16_t port;                      /* 0 for a unix socket */
    uint32_t weight;
    uint32_t place;                     /* its place in the list, from 0 */
    int      line;
};
struct server_list { struct server_conf *at; uint32_t n, lines; };    /* lines: the bad ones too */

struct conf;                            /* the rows above as fields; see room 7 */

#endif
