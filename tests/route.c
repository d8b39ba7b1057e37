/* route.c - asks the pure core where keys go, for tests/test_vectors.py.
 *
 *     route FILE < QUESTIONS             FILE: .ini, or twemproxy's .yml
 *
 * A question is a line of words parted by tabs, an answer is a line:
 *     hash NAME KEY          the hash, 8 hex digits
 *     route POOL OUT KEY     the place of the server in the list of the pool;
 *                            OUT: the places of ejected servers, comma between, or -
 *     ring POOL              the points: "point place name" each, spaces between
 *     points W,W,W           how many points servers of these weights get
 * Keys are percent-encoded.
 */
#define NUT_CORE
#include "nutproxy.c"

static size_t decode(char *text)
{
    size_t len = 0;
    for (char *at = text; *at != '\0'; at++, len++) {
        bool escaped = at[0] == '%' && at[1] != '\0' && at[2] != '\0';
        char hex[3] = {escaped ? at[1] : '0', escaped ? at[2] : '0', '\0'};
        text[len] = escaped ? (char)strtol(hex, NULL, 16) : at[0];
        at += escaped ? 2 : 0;
    }
    return len;
}

static int hash_number(const char *name)
{
    int i = 0;
    while (strcmp(nut_hash_name(i), name) != 0)
        must(++i < NUT_HASHES);
    return i;
}

static const struct pool_conf *pool_named(const struct conf *c, const char *name)
{
    uint32_t i = 0;
    while (strcmp(c->pool[i].name, name) != 0)
        must(++i < c->pools);
    return &c->pool[i];
}

static void build(struct mem *m, struct ring *ring, const struct pool_conf *p, const char *out)
{
    struct member member[NUT_SERVERS_MAX];
    const struct server_list *list = &p->key.servers;
    for (uint32_t i = 0; i < list->n; i++) {
        char place[16], outs[256];
        snprintf(place, sizeof place, ",%u,", list->at[i].place);
        snprintf(outs, sizeof outs, ",%s,", out);
        member[i] = (struct member){bytes_of(list->at[i].name), list->at[i].weight,
                                    strstr(outs, place) != NULL};
    }
    must(nut_ring_build(m, ring, (enum spread)p->key.distribution, member, list->n));
}

static void answer_route(struct mem *m, const struct pool_conf *p, const char *out, struct bytes key)
{
    struct ring ring = {0};
    uint32_t server = 0;
    if (p->key.servers.n > 1) {
        build(m, &ring, p, out);
        if (p->key.hash_tag != NULL)
            key = nut_tagged(key, p->key.hash_tag);
        server = nut_ring_pick(&ring, nut_hash((int)p->key.hash, key), 0);
    }
    printf("%u\n", p->key.servers.at[server].place);
    nut_ring_free(m, &ring);
}

static void answer_ring(struct mem *m, const struct pool_conf *p)
{
    struct ring ring = {0};
    build(m, &ring, p, "-");
    for (uint32_t i = 0; i < ring.points; i++) {
        const struct server_conf *s = &p->key.servers.at[ring.point[i].server];
        printf("%s%08llx %u %s", i > 0 ? " " : "", (unsigned long long)ring.point[i].at, s->place, s->name);
    }
    printf("\n");
    nut_ring_free(m, &ring);
}

static void answer_points(char *weights)
{
    uint32_t weight[256], n = 0;
    uint64_t total = 0;
    for (char *w = strtok(weights, ","); w != NULL; w = strtok(NULL, ",")) {
        weight[n] = (uint32_t)strtoul(w, NULL, 10);
        total += weight[n++];
    }
    for (uint32_t i = 0; i < n; i++)
        printf("%s%u", i > 0 ? "," : "", 4 * ketama_points(weight[i], total, n));
    printf("\n");
}

int main(int argc, char **argv)
{
    static char text[1 << 20], line[1 << 16];
    struct conf conf = {0};
    struct mem mem = {.most = SIZE_MAX};
    FILE *f = argc == 2 ? fopen(argv[1], "r") : NULL;
    bool yaml = argc == 2 && strstr(argv[1], ".yml") != NULL;
    struct bytes all = {text, f == NULL ? 0 : fread(text, 1, sizeof text, f)};
    if (f == NULL || !(yaml ? conf_read_yaml(&conf, argv[1], all) : conf_read(&conf, argv[1], all)))
        return 1;
    fclose(f);
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *word[4] = {0}, *at = line;
        line[strcspn(line, "\n")] = '\0';
        for (int i = 0; i < 4 && at != NULL; i++)
            word[i] = strsep(&at, "\t");
        if (strcmp(word[0], "hash") == 0)
            printf("%08x\n", nut_hash(hash_number(word[1]), (struct bytes){word[2], decode(word[2])}));
        else if (strcmp(word[0], "route") == 0)
            answer_route(&mem, pool_named(&conf, word[1]), word[2], (struct bytes){word[3], decode(word[3])});
        else if (strcmp(word[0], "ring") == 0)
            answer_ring(&mem, pool_named(&conf, word[1]));
        else
            answer_points(word[1]);
    }
    conf_free(&conf);
    return 0;
}
