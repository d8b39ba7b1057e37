/* texts.h - configurations: what is right of any, of good ones, and of mistakes.  nutproxy.c is
 * included before. */
#ifndef NUT_TEXTS_H
#define NUT_TEXTS_H

typedef bool reader(struct conf *c, const char *file, struct bytes text);

#define SECRET "Geheim7"

/* How many lines a text has; an unfinished one counts. */
static size_t text_lines(struct bytes text)
{
    size_t lines = 1;
    for (size_t i = 0; i < text.len; i++)
        lines += text.at[i] == '\n' || (text.at[i] == '\r' && (i + 1 == text.len || text.at[i + 1] != '\n'));
    return lines;
}

/* Each line that is told begins with the file's name, and mostly with the number of a line that
 * the file has; how many lines are told. */
static size_t claim_told(const struct queue *told, struct bytes text)
{
    size_t lines = 0, most = text_lines(text);
    char *all = queue_bytes(told), *next;
    claim(strlen(all) == told->len);
    for (char *at = all; *at != '\0'; at = next, lines++) {
        unsigned long n = 1;
        next = strchr(at, '\n');
        claim(next != NULL && strncmp(at, "c:", 2) == 0);
        if (at[2] != ' ')
            n = strtoul(at + 2, &at, 10);
        else
            at += 1;
        claim(n >= 1 && n <= most && strncmp(at, at[0] == ' ' ? " " : ": ", at[0] == ' ' ? 1 : 2) == 0);
        next++;
    }
    free(all);
    return lines;
}

/* A key of a good configuration has a value that its row allows. */
static void claim_field(const struct key *k, const void *fields)
{
    const void *at = (const char *)fields + k->at;
    const int64_t *n = at;
    switch (k->kind) {
    case COUNT: case MILLIS: case BYTES: case THREADS: case LEVEL:
        claim((*n >= k->least && *n <= k->most) || (k->kind == THREADS && *n == 0));
        break;
    case SWITCH: case FORMAT:
        claim(*n == 0 || *n == 1);
        break;
    case HASH:     claim(*n >= 0 && *n < NUT_HASHES);                          break;
    case SPREAD:   claim(*n == KETAMA || *n == MODULA || *n == RANDOM);        break;
    case PROTOCOL: claim(*n == REDIS || *n == MEMCACHED);                      break;
    case TAG: {
        const char *tag = *(char *const *)at;
        claim(tag == NULL || strlen(tag) == 2);
        break;
    }
    case LISTEN: {
        const struct listen_conf *l = at;
        claim(l->text != NULL && l->host != NULL && l->host[0] != '\0');
        claim(l->port > 0 || l->host[0] == '/');
        claim(l->mode <= 0777);
        break;
    }
    case SERVERS: {
        const struct server_list *list = at;
        claim(list->n > 0 && list->n <= NUT_SERVERS_MAX);
        for (uint32_t i = 0; i < list->n; i++) {
            const struct server_conf *s = &list->at[i];
            claim(s->name != NULL && s->host != NULL && s->host[0] != '\0' && s->weight > 0);
            claim(s->port > 0 || s->host[0] == '/');
            claim(i == 0 || servers_order(s - 1, s) < 0);
        }
        break;
    }
    case TEXT: case OWN:
        break;
    }
}

static void claim_good(const struct conf *c)
{
    claim(c->pools > 0 && c->told.len == 0 && c->mistakes == 0);
    for (size_t k = 0; k < countof(process_key); k++)
        claim_field(&process_key[k], &c->process);
    for (uint32_t i = 0; i < c->pools; i++) {
        claim(c->pool[i].name != NULL && c->pool[i].name[0] != '\0');
        claim(i == 0 || pools_order(&c->pool[i - 1], &c->pool[i]) < 0);
        for (size_t k = 0; k < countof(pool_key); k++)
            claim_field(&pool_key[k], &c->pool[i].key);
    }
}

/* Two configurations mean the same. */
static void claim_same_conf(const struct conf *a, const struct conf *b)
{
    claim(a->pools == b->pools);
    for (size_t k = 0; k < countof(process_key); k++)
        claim(key_same(&process_key[k], &a->process, &b->process));
    for (uint32_t i = 0; i < a->pools; i++)
        claim(conf_pool_same(&a->pool[i], &b->pool[i]));
}

/* Read a text: it is good, or there are mistakes, and each is told. */
static bool conf_try(struct conf *c, reader *read, struct bytes text)
{
    char *shown = exactly(text.at, text.len);
    bool good = read(c, "c", (struct bytes){shown, text.len});
    free(shown);                            /* nothing of it is needed any more */
    claim(good == (c->mistakes == 0));
    claim(claim_told(&c->told, text) == c->mistakes);
    (void)claim_told(&c->notes, text);
    if (good)
        claim_good(c);
    return good;
}

/* Without memory it is refused, or all the same. */
static void claim_denied(reader *read, struct bytes text, uint64_t deny_at, bool want_good, const struct conf *want)
{
    struct conf c = {0};
    char *shown = exactly(text.at, text.len);
    c.mem.deny_at = deny_at;
    bool good = read(&c, "c", (struct bytes){shown, text.len});
    c.mem.deny_at = 0;
    claim(good == (c.mistakes == 0) && (!good || want_good));
    claim(claim_told(&c.told, text) <= c.mistakes);
    if (good)
        claim_same_conf(&c, want);
    conf_free(&c);
    free(shown);
}

/* With a line of a comment before it all is the same, but that it stands a line lower. */
static void claim_lower(reader *read, struct bytes text, const char *comment, bool want_good, const struct conf *want)
{
    struct conf c = {0};
    struct text lower = {0}, told = {0};
    if (starts_with(text, lit("\xEF\xBB\xBF")))
        return;                             /* what marks the beginning must stand there */
    text_add(&lower, comment, strlen(comment));
    text_add(&lower, text.at, text.len);
    bool good = conf_try(&c, read, (struct bytes){lower.at, lower.len});
    claim(good == want_good && c.mistakes == want->mistakes);
    if (good)
        claim_same_conf(&c, want);
    char *got = queue_bytes(&c.told), *before = queue_bytes(&want->told);
    for (char *at = before, *next; *at != '\0'; at = next) {
        char line[32];
        next = strchr(at, '\n') + 1;
        if (at[2] != ' ') {
            unsigned long n = strtoul(at + 2, &at, 10);
            text_add(&told, line, (size_t)snprintf(line, sizeof line, "c:%lu", n + 1));
        }
        text_add(&told, at, (size_t)(next - at));
    }
    /* A text of 512 bytes has one less for a number that is longer. */
    if (want->told.len < 400)
        claim(same_bytes((struct bytes){got, strlen(got)}, (struct bytes){told.at, told.len}));
    free(got);
    free(before);
    free(told.at);
    free(lower.at);
    conf_free(&c);
}

/* With a password put in before a line: whatever becomes of it, it is not told. */
static void claim_secret(reader *read, struct bytes text, const char *const *secrets, size_t n, uint64_t *dice)
{
    struct conf c = {0};
    struct text with = {0};
    size_t at = roll(dice, text.len + 1);
    const char *secret = secrets[roll(dice, n)];
    while (at > 0 && text.at[at - 1] != '\n')
        at--;
    if (memmem(text.at, text.len, SECRET, sizeof SECRET - 1) != NULL)
        return;
    text_add(&with, text.at, at);
    text_add(&with, secret, strlen(secret));
    text_add(&with, text.at + at, text.len - at);
    (void)conf_try(&c, read, (struct bytes){with.at, with.len});
    char *told = queue_bytes(&c.told), *notes = queue_bytes(&c.notes);
    claim(strstr(told, SECRET) == NULL && strstr(notes, SECRET) == NULL);
    free(told);
    free(notes);
    conf_free(&c);
    free(with.at);
}

static char *print_conf(struct conf *c, uint32_t workers)
{
    struct pen pen = {.mem = &c->mem, .ok = true};
    conf_print(c, workers, &pen);
    char *printed = queue_bytes(&pen.out);
    claim(pen.ok && strlen(printed) == pen.out.len);
    nut_queue_free(&c->mem, &pen.out);
    return printed;
}

/* Give all who have a password this one, NULL: none. */
static void change_passwords(struct conf *c, const char *to)
{
    for (uint32_t i = 0; i < c->pools; i++) {
        char **own = &c->pool[i].key.redis_auth;
        if (*own == NULL)
            continue;
        conf_text_free(c, *own);
        *own = to == NULL ? NULL : conf_text(c, bytes_of(to));
    }
}

/* A good one that is printed (--print-config -c) is read as the same, but for its passwords, which
 * are gone from `c` then, too.  Whatever they are, what is printed is the same. */
static void claim_prints(struct conf *c, uint32_t workers)
{
    struct conf again = {0};
    char *printed = print_conf(c, workers);
    change_passwords(c, SECRET);
    char *other = print_conf(c, workers);
    claim(strcmp(printed, other) == 0);
    claim(conf_try(&again, conf_read, bytes_of(printed)));
    change_passwords(c, NULL);
    claim_same_conf(c, &again);
    free(printed);
    free(other);
    conf_free(&again);
}

#endif
