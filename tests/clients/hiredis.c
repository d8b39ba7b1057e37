/* hiredis: synchronous commands, a pipeline, and binary words, as a program in C writes them.
 *
 *     cc -o hiredis hiredis.c -lhiredis && ./hiredis PORT direct|proxy
 *
 * Prints a line for each step, what was done and what came back: see transcript.py. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static redisContext *context;
static int through;

static void show(const redisReply *r)
{
    switch (r->type) {
    case REDIS_REPLY_INTEGER: printf("%lld", r->integer); return;
    case REDIS_REPLY_NIL:     printf("nil"); return;
    case REDIS_REPLY_STATUS:  printf("+%s", r->str); return;
    case REDIS_REPLY_ERROR: {                       /* its kind: the first three words */
        int spaces = 0;
        putchar('-');
        for (const char *s = r->str; *s && (spaces += *s == ' ') < 3; s++)
            putchar(*s);
        return;
    }
    case REDIS_REPLY_STRING:
        if (r->len > 100) {
            unsigned sum = 2166136261u;
            for (size_t i = 0; i < (size_t)r->len; i++)
                sum = (sum ^ (unsigned char)r->str[i]) * 16777619u;
            printf("%d bytes, %08x", (int)r->len, sum);
            return;
        }
        for (size_t i = 0; i < (size_t)r->len; i++)
            printf(r->str[i] < 32 || r->str[i] > 126 ? "\\x%02x" : "%c", (unsigned char)r->str[i]);
        return;
    case REDIS_REPLY_ARRAY:
        printf("[");
        for (size_t i = 0; i < r->elements; i++) {
            show(r->element[i]);
            printf(i + 1 < r->elements ? ", " : "");
        }
        printf("]");
        return;
    default: printf("type %d", r->type);
    }
}

static void step(const char *name, redisReply *r)
{
    printf("%s: ", name);
    if (r)
        show(r);
    else
        printf("%s", context->err ? context->errstr : "no reply");
    printf("\n");
    if (r)
        freeReplyObject(r);
}

#define STEP(...)  step(#__VA_ARGS__, redisCommand(context, __VA_ARGS__))

/* The proxy refuses this by design, and says so; a server alone is not asked. */
static void refused(const char *words)
{
    redisReply *r = through ? redisCommand(context, words) : NULL;
    if (!through || (r && r->type == REDIS_REPLY_ERROR && strstr(r->str, "not served by this proxy")))
        printf("%s: refused\n", words);
    else
        printf("%s: NOT REFUSED: %s\n", words, r && r->str ? r->str : "");
    if (r)
        freeReplyObject(r);
    STEP("GET alive");
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void scan(void)
{
    char *keys[1000], cursor[32] = "0";
    size_t n = 0;
    do {
        redisReply *r = redisCommand(context, "SCAN %s COUNT 7", cursor);
        if (!r || r->type != REDIS_REPLY_ARRAY || r->elements != 2) {
            step("SCAN", r);
            return;
        }
        snprintf(cursor, sizeof cursor, "%s", r->element[0]->str);
        for (size_t i = 0; i < r->element[1]->elements && n < 1000; i++)
            keys[n++] = strdup(r->element[1]->element[i]->str);
        freeReplyObject(r);
    } while (strcmp(cursor, "0") != 0 && n < 1000);
    qsort(keys, n, sizeof *keys, by_bytes);
    printf("SCAN:");
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(keys[i], keys[i - 1]) != 0)
            printf(" %s", keys[i]);
    }
    for (size_t i = 0; i < n; i++)
        free(keys[i]);
    printf("\n");
}

static void pipeline(void)
{
    redisReply *r;
    for (int i = 0; i < 200; i++) {
        redisAppendCommand(context, "SET %d:key %d", i, i);
        redisAppendCommand(context, "INCRBY %d:key %d", i, 1000);
    }
    for (int i = 0, good = 0; i < 400; i++) {
        if (redisGetReply(context, (void **)&r) != REDIS_OK) {
            printf("pipeline: %s\n", context->errstr);
            return;
        }
        good += i % 2 ? r->type == REDIS_REPLY_INTEGER && r->integer == 1000 + i / 2 : r->type == REDIS_REPLY_STATUS;
        freeReplyObject(r);
        if (i == 399)
            printf("pipeline: %d of 400\n", good);
    }
}

int main(int argc, char **argv)
{
    static char big[1 << 20];
    if (argc != 3)
        return 2;
    through = strcmp(argv[2], "proxy") == 0;
    context = redisConnectWithTimeout("127.0.0.1", atoi(argv[1]), (struct timeval){ 8, 0 });
    if (!context || context->err)
        return 1;
    redisSetTimeout(context, (struct timeval){ 8, 0 });
    redisEnableKeepAlive(context);
    STEP("PING");
    STEP("CLIENT SETNAME app");
    STEP("SELECT 0");
    STEP("SET alive %s", "yes");
    STEP("GET alive");
    STEP("GET none");
    STEP("INCRBY counter %d", 41);
    STEP("EXPIRE counter 100");
    STEP("PERSIST counter");
    STEP("GETDEL counter");
    STEP("HSET hash a 1 b %b", "\0\r\n", (size_t)3);
    STEP("HGETALL hash");
    STEP("RPUSH list a b c");
    STEP("LRANGE list 0 -1");
    STEP("SADD set x");
    STEP("SMEMBERS set");
    STEP("ZADD zset 1.5 a 2 b");
    STEP("ZRANGE zset 0 -1 WITHSCORES");
    STEP("XADD stream 1-1 field value");
    STEP("XRANGE stream - +");
    STEP("XGROUP CREATE stream group 0");
    STEP("XREADGROUP GROUP group me STREAMS stream >");
    STEP("XACK stream group 1-1");
    STEP("EVAL %s 1 k v", "return {KEYS[1], ARGV[1], 7, redis.status_reply('fine')}");
    STEP("EVALSHA 0000000000000000000000000000000000000000 1 k");
    STEP("SCRIPT LOAD %s", "return ARGV[1]");
    STEP("EVALSHA 098e0f0d1448c0a81dafe820f66d460eb09263da 1 k1 a");
    STEP("EVALSHA 098e0f0d1448c0a81dafe820f66d460eb09263da 1 k2 b");
    pipeline();
    STEP("MGET 0:key 1:key 2:key none 199:key");
    STEP("MSET a 1 b 2 c 3 d 4");
    STEP("EXISTS a b c d none");
    scan();
    STEP("DBSIZE");
    STEP("DEL a b c d none");
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)(i * 7 + (i >> 8));
    step("SET big", redisCommand(context, "SET big %b", big, sizeof big));
    STEP("GET big");
    STEP("SET %b %b", "\0\r\n\xff", (size_t)4, "\0\r\n\xfe", (size_t)4);
    STEP("GET %b", "\0\r\n\xff", (size_t)4);
    STEP("INCR list");
    STEP("GET");
    STEP("NOSUCHCOMMAND x");
    STEP("INCR alive");
    refused("MULTI");
    refused("BLPOP empty 1");
    refused("SUBSCRIBE channel");
    refused("WATCH alive");
    STEP("QUIT");
    redisFree(context);
    return 0;
}
