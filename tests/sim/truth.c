/* truth.c - what is true of every key on every server, and so what a client can be told.
 *
 * Each key has the history of what each server made of it.  A value carries its key, its
 * writer and a serial number, and is made once.  So a server that gets it a second time was
 * asked twice; and what a client reads must be a value that a server had while it asked,
 * and not older there than what it has itself written or read before. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    uint64_t            at;
    const struct value *value;          /* NULL: nothing, or a number */
    uint64_t            number;
    int                 server;
    bool                is_number, claimed;
};

struct deed { uint64_t at; int server; bool hit; };     /* a deletion */

struct key {
    char          text[40];
    struct entry *entry;
    uint32_t      entries, room;
    int           last[SERVERS_MOST];   /* its newest entry on each server, or -1 */
    struct deed  *deed;
    uint32_t      deeds, deed_room;
    int64_t       asked[DIDS], done[DIDS];
    int           route;                /* the server it goes to, -1: not known */
};

struct told { uint64_t at; uint32_t key; enum did did; bool heard; };

static struct {
    bool          moves;
    uint32_t      servers, keys;
    struct key    key[KEYS_MOST];
    int         (*floor)[KEYS_MOST][SERVERS_MOST];      /* of each client */
    struct value **value;
    uint32_t      values, value_room;
    struct told  *error;
    uint32_t      errors, error_room;
} truth;

static const char *const did_names[DIDS] = {"read", "written", "counted", "deleted"};

/* `at`, which holds `n` things of `size`, with room for one more. */
static void *more(void *at, uint32_t n, uint32_t *room, size_t size)
{
    if (n < *room)
        return at;
    *room = 2 * *room + 16;
    void *new = keep(*room * size);
    if (n > 0)
        memcpy(new, at, n * size);
    unkeep(at);
    return new;
}

void truth_begin(uint32_t servers, uint32_t keys, uint32_t clients, bool moves)
{
    memset(&truth, 0, sizeof truth);
    truth.servers = servers;
    truth.keys = keys;
    truth.moves = moves;
    truth.floor = keep(clients * sizeof *truth.floor);
    for (uint32_t c = 0; c < clients; c++)
        memset(truth.floor[c], -1, sizeof truth.floor[c]);
    for (uint32_t k = 0; k < keys; k++) {
        snprintf(truth.key[k].text, sizeof truth.key[k].text, "key:%u%s", k, k % 5 == 0 ? ":with-a-longer-name" : "");
        truth.key[k].route = -1;
        memset(truth.key[k].last, -1, sizeof truth.key[k].last);
    }
}

const char *key_text(uint32_t k) { return truth.key[k].text; }

int key_number(const char *at, size_t len)
{
    for (uint32_t k = 0; k < truth.keys; k++)
        if (strlen(truth.key[k].text) == len && memcmp(truth.key[k].text, at, len) == 0)
            return (int)k;
    return -1;
}

/* ---- values */

struct value *value_new(uint32_t key, uint32_t writer, size_t pad)
{
    char head[80];
    struct value *v = keep(sizeof *v);
    int n = snprintf(head, sizeof head, "v:%u:%u:%u:", truth.values, key, writer);
    v->key = key;
    v->writer = writer;
    v->len = (size_t)n + pad;
    v->at = keep(v->len);
    v->server = -1;
    memcpy(v->at, head, (size_t)n);
    for (size_t i = 0, x = truth.values; i < pad; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        v->at[(size_t)n + i] = "abcdefghij0123456789 \r\n\r\n$*+-:"[(x >> 40) % 31];
    }
    truth.value = more(truth.value, truth.values, &truth.value_room, sizeof *truth.value);
    truth.value[truth.values++] = v;
    return v;
}

const struct value *value_find(const char *at, size_t len)
{
    char head[16] = {0};
    if (len < 4 || memcmp(at, "v:", 2) != 0)
        return NULL;
    memcpy(head, at + 2, len - 2 < 15 ? len - 2 : 15);
    unsigned long n = strtoul(head, NULL, 10);
    if (n >= truth.values || truth.value[n]->len != len || memcmp(truth.value[n]->at, at, len) != 0)
        return NULL;
    return truth.value[n];
}

/* ---- what is asked and done */

static void key_check(const struct key *k, enum did did)
{
    if (k->done[did] > k->asked[did])
        broken("%s was %s %lld times by servers, and clients have asked for it %lld times"
               " (without those who were told that it was not sent)", k->text, did_names[did],
               (long long)k->done[did], (long long)k->asked[did]);
}

void truth_ask(enum did did, uint32_t key) { truth.key[key].asked[did]++; }

void truth_unask(enum did did, uint32_t key)
{
    truth.key[key].asked[did]--;
    key_check(&truth.key[key], did);
}

void truth_unsent(struct value *v)
{
    v->not_sent = true;
    if (v->server != -1)
        broken("a client was told that a write of %s was not sent, and server %d has done it", key_text(v->key),
               v->server);
}

void truth_did(int server, enum did did, uint32_t key)
{
    struct key *k = &truth.key[key];
    k->done[did]++;
    key_check(k, did);
    if (!truth.moves && k->route != -1 && k->route != server)
        broken("%s is asked of server %d, and was asked of server %d before", k->text, server, k->route);
    k->route = server;
}

bool truth_is_one_server(const uint32_t *key, uint32_t keys)
{
    bool one = true;
    for (uint32_t i = 1; i < keys; i++)
        one = one && truth.key[key[i]].route == truth.key[key[0]].route;
    return one || truth.moves;
}

static void key_add(uint32_t key, struct entry e)
{
    struct key *k = &truth.key[key];
    k->entry = more(k->entry, k->entries, &k->room, sizeof *k->entry);
    e.at = now();
    k->last[e.server] = (int)k->entries;
    k->entry[k->entries++] = e;
}

void truth_set(int server, uint32_t key, const char *at, size_t len)
{
    const struct value *found = value_find(at, len);
    if (found == NULL || found->key != key)
        broken("server %d is asked to write to %s what nobody has: %.60s", server, key_text(key), at);
    struct value *v = truth.value[strtoul(found->at + 2, NULL, 10)];
    if (v->server != -1)
        broken("server %d is asked to write a value of %s that server %d has written already", server, key_text(key),
               v->server);
    if (v->not_sent)
        broken("server %d writes a value of %s, whose client was told that it was not sent", server, key_text(key));
    v->server = server;
    v->applied_at = now();
    v->place = truth.key[key].entries;
    key_add(key, (struct entry){.value = v, .server = server});
}

void truth_count(int server, uint32_t key, uint64_t n)
{
    key_add(key, (struct entry){.number = n, .is_number = true, .server = server});
}

void truth_delete(int server, uint32_t key)
{
    struct key *k = &truth.key[key];
    size_t len;
    bool hit = truth_get(server, key, &len) != NULL;
    k->deed = more(k->deed, k->deeds, &k->deed_room, sizeof *k->deed);
    k->deed[k->deeds++] = (struct deed){now(), server, hit};
    if (hit)
        key_add(key, (struct entry){.server = server});
}

void truth_forget(int server)
{
    for (uint32_t k = 0; k < truth.keys; k++)
        key_add(k, (struct entry){.server = server});
}

/* What an entry is as a text; NULL: nothing. */
static const char *entry_text(const struct entry *e, char number[24], size_t *len)
{
    if (e->value != NULL) {
        *len = e->value->len;
        return e->value->at;
    }
    if (!e->is_number)
        return NULL;
    *len = (size_t)snprintf(number, 24, "%llu", (unsigned long long)e->number);
    return number;
}

const char *truth_get(int server, uint32_t key, size_t *len)
{
    static char number[24];
    const struct key *k = &truth.key[key];
    return k->last[server] == -1 ? NULL : entry_text(&k->entry[k->last[server]], number, len);
}

uint64_t truth_unique(int server, uint32_t key)
{
    return (uint64_t)(truth.key[key].last[server] + 1) * SERVERS_MOST + (uint64_t)server;
}

uint32_t truth_error(int server, enum did did, uint32_t key)
{
    (void)server;
    truth.error = more(truth.error, truth.errors, &truth.error_room, sizeof *truth.error);
    truth.error[truth.errors] = (struct told){now(), key, did, false};
    return truth.errors++;
}

/* ---- what clients are told */

/* Walk over what `server` had of a key from `asked` to now, from no earlier than `from`:
 * entry -1 is that it never had anything. */
struct walk { const struct key *k; int server, at, from; uint64_t asked; };

static bool walk_next(struct walk *w, int *entry)
{
    for (; w->at < (int)w->k->entries; w->at++) {
        if (w->at >= 0 && w->k->entry[w->at].server != w->server)
            continue;
        int next = w->at + 1;
        while (next < (int)w->k->entries && w->k->entry[next].server != w->server)
            next++;
        bool past = next < (int)w->k->entries && w->k->entry[next].at < w->asked;
        *entry = w->at;
        w->at = next;
        if (!past && *entry >= w->from)
            return true;
        w->at--;
    }
    return false;
}

static bool entry_is(const struct key *k, int entry, const char *at, size_t len)
{
    char number[24];
    size_t had_len = 0;
    const char *had = entry == -1 ? NULL : entry_text(&k->entry[entry], number, &had_len);
    return at == NULL ? had == NULL : had != NULL && had_len == len && memcmp(had, at, len) == 0;
}

void truth_read(uint32_t client, uint32_t key, const char *at, size_t len, uint64_t asked)
{
    const struct key *k = &truth.key[key];
    int entry, lowest[SERVERS_MOST], hits = 0, server = 0;
    for (int s = 0; s < (int)truth.servers; s++) {
        struct walk w = {k, s, -1, truth.floor[client][key][s], asked};
        lowest[s] = INT32_MAX;
        while (walk_next(&w, &entry))
            if (entry_is(k, entry, at, len)) {
                lowest[s] = entry < lowest[s] ? entry : lowest[s];
                server = s;
                hits++;
            }
    }
    if (hits == 0)
        broken("client %u reads %.60s%s of %s, which no server had since %.3f, or only before what it read or"
               " wrote last", client, at == NULL ? "nothing" : at, len > 60 ? "..." : "", k->text,
               (double)asked / 1000);
    if (hits == 1)                      /* nothing older can come from there */
        truth.floor[client][key][server] = lowest[server];
}

void truth_written(uint32_t client, const struct value *v, uint64_t asked)
{
    (void)asked;
    if (v->server == -1)
        broken("client %u is told that its write of %s is done, and no server has done it", client, key_text(v->key));
    int *floor = &truth.floor[client][v->key][v->server];
    *floor = (int)v->place > *floor ? (int)v->place : *floor;
}

void truth_counted(uint32_t client, uint32_t key, uint64_t n, uint64_t asked)
{
    struct key *k = &truth.key[key];
    for (uint32_t i = 0; i < k->entries; i++) {
        struct entry *e = &k->entry[i];
        if (!e->is_number || e->claimed || e->number != n || e->at < asked)
            continue;
        e->claimed = true;
        int *floor = &truth.floor[client][key][e->server];
        *floor = (int)i > *floor ? (int)i : *floor;
        return;
    }
    broken("client %u is told that it has counted %s up to %llu, and no server has done so for it", client, k->text,
           (unsigned long long)n);
}

void truth_is(uint32_t client, const uint32_t *key, uint32_t keys, uint64_t n, uint64_t asked)
{
    uint64_t least = 0, most = 0;
    for (uint32_t i = 0; i < keys; i++) {
        bool there = false, gone = false;
        for (int s = 0; s < (int)truth.servers; s++) {
            struct walk w = {&truth.key[key[i]], s, -1, truth.floor[client][key[i]][s], asked};
            for (int entry; walk_next(&w, &entry); ) {
                bool none = entry_is(w.k, entry, NULL, 0);
                there = there || !none;
                gone = gone || none;
            }
        }
        least += !gone;
        most += there;
    }
    if (n < least || n > most)
        broken("client %u is told that %llu of its keys exist, and %llu to %llu do", client, (unsigned long long)n,
               (unsigned long long)least, (unsigned long long)most);
}

void truth_deleted(uint32_t client, const uint32_t *key, uint32_t keys, uint64_t n, uint64_t asked)
{
    uint64_t least = 0, most = 0;
    for (uint32_t i = 0; i < keys; i++) {
        const struct key *k = &truth.key[key[i]];
        bool hit = false, miss = false;
        for (uint32_t d = 0; d < k->deeds; d++) {
            hit = hit || (k->deed[d].at >= asked && k->deed[d].hit);
            miss = miss || (k->deed[d].at >= asked && !k->deed[d].hit);
        }
        if (!hit && !miss)
            broken("client %u is told that %s is deleted, and no server has done it", client, k->text);
        least += !miss;
        most += hit;
    }
    if (n < least || n > most)
        broken("client %u is told that %llu of its keys were deleted, and %llu to %llu were", client,
               (unsigned long long)n, (unsigned long long)least, (unsigned long long)most);
}

void truth_told(uint32_t serial, const uint32_t *key, uint32_t keys, enum did did, uint64_t asked)
{
    struct told *t = &truth.error[serial];
    bool mine = false;
    if (serial >= truth.errors)
        broken("a client is told an error that no server has made");
    for (uint32_t i = 0; i < keys; i++)
        mine = mine || key[i] == t->key;
    if (!mine || t->did != did || t->at < asked)
        broken("a client is told error %u, which a server made for another: %s is %s, asked for at %.3f", serial,
               key_text(t->key), did_names[t->did], (double)asked / 1000);
    if (t->heard)
        broken("error %u, which a server made once, is told twice", serial);
    t->heard = true;
}

void truth_end(void)
{
    for (uint32_t k = 0; k < truth.keys; k++)
        for (int did = 0; did < DIDS; did++)
            key_check(&truth.key[k], (enum did)did);
}
