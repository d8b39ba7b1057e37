/* replies.h - models of what servers answer, which look at all of a reply at once; and the
 * scanner, shown the same in pieces.  nutproxy.c is included before. */
#ifndef NUT_REPLIES_H
#define NUT_REPLIES_H

#define KEYS_MOST 8

static const char *const key_names[KEYS_MOST] = {"a", "b", "c", "key:4", "five", "six", "seven", "eighteight"};

/* What a reply is: how long, what kind, and how many bytes of it are each key's. */
struct answer { enum scan verdict; size_t len; char kind; uint32_t item[KEYS_MOST]; };

/* A reply that is waited for. */
struct question { enum expect expect; bool resp3; struct asked asked[KEYS_MOST]; uint32_t name[KEYS_MOST], keys; };

/* ---- the models */

/* The next line at *at, without its end; false: its end is not there. */
static bool model_line(struct bytes in, size_t *at, struct bytes *line)
{
    const char *end = memchr(in.at + *at, '\n', in.len - *at);
    if (end == NULL)
        return false;
    *line = (struct bytes){in.at + *at, (size_t)(end - in.at) - *at};
    *at += line->len + 1;
    if (line->len > 0 && line->at[line->len - 1] == '\r')
        line->len--;
    return true;
}

/* `n` bytes and CR LF at *at. */
static enum scan model_data(struct bytes in, size_t *at, uint64_t n)
{
    for (size_t i = 0; i < 2; i++)
        if (n + i < in.len - *at && in.at[*at + n + i] != "\r\n"[i])
            return SCAN_BAD;
    if (in.len - *at < n + 2)
        return SCAN_MORE;
    *at += n + 2;
    return SCAN_DONE;
}

/* Digits, no more than `most`, and no zero in front. */
static bool model_number(struct bytes text, uint64_t most, uint64_t *n)
{
    unsigned __int128 value = 0;
    if (text.len == 0 || text.len > 20 || (text.len > 1 && text.at[0] == '0'))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
        value = value * 10 + (unsigned)(text.at[i] - '0');
    }
    *n = (uint64_t)value;
    return value <= most;
}

/* A RESP value at *at, with the attributes in front of it. */
static enum scan model_value(struct bytes in, size_t *at, bool resp3)
{
    struct bytes line;
    uint64_t n;
    for (;;) {
        if (!model_line(in, at, &line))
            return SCAN_MORE;
        char mark = line.len == 0 ? '\0' : line.at[0];
        if (mark == '\0' || strchr(resp3 ? "+-:$*_#,(=!~%|" : "+-:$*", mark) == NULL)
            return SCAN_BAD;
        struct bytes number = {line.at + 1, line.len - 1};
        if (strchr("+-_#,(", mark) != NULL)
            return SCAN_DONE;
        if (mark == ':') {
            bool negative = number.len > 0 && number.at[0] == '-';
            return model_number((struct bytes){number.at + negative, number.len - negative}, (uint64_t)1 << 63, &n) ?
                   SCAN_DONE : SCAN_BAD;
        }
        bool null = same_bytes(number, (struct bytes){"-1", 2}) && strchr("%|", mark) == NULL;
        if (null)
            return SCAN_DONE;
        if (!model_number(number, UINT32_MAX, &n))
            return SCAN_BAD;
        if (strchr("$=!", mark) != NULL)
            return model_data(in, at, n);
        for (uint64_t i = 0; i < (strchr("%|", mark) != NULL ? 2 * n : n); i++) {
            enum scan got = model_value(in, at, resp3);
            if (got != SCAN_DONE)
                return got;
        }
        if (mark != '|')
            return SCAN_DONE;
    }
}

/* An array with a value for each key; or an error. */
static enum scan model_items(struct bytes in, const struct question *q, struct answer *a)
{
    struct bytes line;
    uint64_t n;
    if (!model_line(in, &a->len, &line))
        return SCAN_MORE;
    if (line.len > 0 && line.at[0] == '-')
        return SCAN_DONE;
    if (line.len == 0 || line.at[0] != '*' ||
        !model_number((struct bytes){line.at + 1, line.len - 1}, UINT32_MAX, &n) || n != q->keys)
        return SCAN_BAD;
    for (uint32_t i = 0; i < q->keys; i++) {
        size_t from = a->len;
        enum scan got = model_value(in, &a->len, q->resp3);
        if (got != SCAN_DONE)
            return got;
        a->item[i] = (uint32_t)(a->len - from);
    }
    return SCAN_DONE;
}

/* A push, or an attribute by itself. */
static enum scan model_aside(struct bytes in, struct answer *a)
{
    struct bytes line;
    uint64_t n;
    if (!model_line(in, &a->len, &line))
        return SCAN_MORE;
    if (line.len == 0 || (line.at[0] != '>' && line.at[0] != '|') ||
        !model_number((struct bytes){line.at + 1, line.len - 1}, UINT32_MAX, &n))
        return SCAN_BAD;
    enum scan got = SCAN_DONE;
    for (uint64_t i = 0; i < (line.at[0] == '|' ? 2 * n : n) && got == SCAN_DONE; i++)
        got = model_value(in, &a->len, true);
    return got;
}

static bool begins(struct bytes b, const char *start)
{
    return b.len >= strlen(start) && memcmp(b.at, start, strlen(start)) == 0;
}

static bool is_text(struct bytes b, const char *text) { return b.len == strlen(text) && begins(b, text); }

/* The words of a line, cut at each space; how many, of which `room` are told. */
static size_t model_split(struct bytes line, struct bytes *word, size_t room)
{
    size_t n = 0;
    for (const char *at = line.at, *end = line.at + line.len; ; ) {
        const char *space = memchr(at, ' ', (size_t)(end - at));
        if (n < room)
            word[n] = (struct bytes){at, (size_t)((space == NULL ? end : space) - at)};
        n++;
        if (space == NULL)
            return n;
        at = space + 1;
    }
}

static bool all_digits(struct bytes b)
{
    for (size_t i = 0; i < b.len; i++)
        if (b.at[i] < '0' || b.at[i] > '9')
            return false;
    return b.len > 0;
}

/* "VALUE key flags bytes [unique]"; *key moves to the one it names. */
static bool model_value_line(struct bytes line, const struct question *q, uint32_t *key, uint64_t *len)
{
    struct bytes word[6];
    size_t words = model_split(line, word, 6);
    if (words < 4 || words > 5 || word[1].len == 0 || !all_digits(word[2]) || !model_number(word[3], UINT32_MAX, len) ||
        (words == 5 && !all_digits(word[4])))
        return false;
    while (*key < q->keys && !is_text(word[1], key_names[q->name[*key]]))
        ++*key;
    return *key < q->keys;
}

/* Whether a line is what a meta request hears; *len: of the data behind it, if `data`. */
static bool model_meta_line(struct bytes line, const struct question *q, bool *data, uint64_t *len)
{
    static const struct { char verb; const char *codes; } answers[] = {
        {'g', "HD VA EN"}, {'s', "HD NS EX NF OK"}, {'d', "HD EX NF OK"}, {'a', "HD VA NS EX NF OK"}, {'e', "ME EN"},
    };
    const char *codes = "";
    char code[3] = {0};
    bool opaque = q->asked[0].check == nut_check((struct bytes){"", 0}), given = opaque;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
        if (answers[i].verb == (char)q->asked[0].part)
            codes = answers[i].codes;
    if (line.len < 2 || (line.len > 2 && line.at[2] != ' '))
        return false;
    memcpy(code, line.at, 2);
    if (strlen(code) != 2 || memchr(code, ' ', 2) != NULL || strstr(codes, code) == NULL)
        return false;
    struct bytes rest = {line.at + 2, line.len - 2};
    *data = strcmp(code, "VA") == 0;
    if (*data) {
        size_t digits = 0;
        if (rest.len > 0)
            rest = (struct bytes){rest.at + 1, rest.len - 1};
        while (digits < rest.len && rest.at[digits] >= '0' && rest.at[digits] <= '9')
            digits++;
        if (!model_number((struct bytes){rest.at, digits}, UINT32_MAX, len))
            return false;
        rest = (struct bytes){rest.at + digits, rest.len - digits};
    }
    while (strcmp(code, "ME") != 0 && rest.len > 0) {       /* ME tells a key, and then no flags */
        struct bytes flag;
        rest = (struct bytes){rest.at + 1, rest.len - 1};
        (void)model_split(rest, &flag, 1);
        if (flag.len > 0 && flag.at[0] == 'O') {
            if (nut_check(flag) != q->asked[0].check)
                return false;
            given = true;
        }
        rest = (struct bytes){rest.at + flag.len, rest.len - flag.len};
    }
    return given || (strcmp(code, "HD") != 0 && strcmp(code, "VA") != 0);
}

static bool model_is_answer(struct bytes line)
{
    static const char *const answers[] = {"STORED", "NOT_STORED", "NOT_FOUND", "DELETED", "TOUCHED", "EXISTS"};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
        if (is_text(line, answers[i]))
            return true;
    return all_digits(line) || begins(line, "VERSION ");
}

static enum scan model_memcached(struct bytes in, const struct question *q, struct answer *a)
{
    struct bytes line;
    uint64_t len = 0;
    uint32_t key = 0;
    a->kind = q->expect == MC_VALUES ? 'V' : '+';
    for (;;) {
        size_t from = a->len;
        bool data = false;
        if (!model_line(in, &a->len, &line))
            return SCAN_MORE;
        if (q->expect == MC_STATS && begins(line, "STAT "))
            continue;
        if (line.len == 0 || line.len > 510)
            return SCAN_BAD;
        if (q->expect == MC_VALUES && begins(line, "VALUE ")) {
            if (!model_value_line(line, q, &key, &len))
                return SCAN_BAD;
            enum scan got = model_data(in, &a->len, len);
            if (got != SCAN_DONE)
                return got;
            a->item[key++] = (uint32_t)(a->len - from);
            continue;
        }
        if (begins(line, "ERROR") || begins(line, "CLIENT_ERROR ") || begins(line, "SERVER_ERROR ")) {
            a->kind = 'E';
            return SCAN_DONE;
        }
        if (q->expect == MC_LINE)
            return model_is_answer(line) ? SCAN_DONE : SCAN_BAD;
        if (q->expect != MC_META)
            return is_text(line, q->expect == MC_OK ? "OK" : "END") ? SCAN_DONE : SCAN_BAD;
        if (!model_meta_line(line, q, &data, &len))
            return SCAN_BAD;
        enum scan got = data ? model_data(in, &a->len, len) : SCAN_DONE;
        if (got == SCAN_DONE && data)
            a->item[0] = (uint32_t)(a->len - from);
        return got;
    }
}

/* What the bytes are, of which more may come. */
static struct answer model_reply(struct bytes in, const struct question *q)
{
    struct answer a = {.kind = in.len > 0 ? in.at[0] : '\0'};
    a.verdict = q->expect == RESP_REPLY ? model_value(in, &a.len, q->resp3)
              : q->expect == RESP_ITEMS ? model_items(in, q, &a)
              : q->expect == RESP_ASIDE ? model_aside(in, &a) : model_memcached(in, q, &a);
    if (a.verdict == SCAN_MORE)
        a.len = in.len;
    return a;
}

/* ---- the scanner */

/* Ask for `keys` keys, in the order of their names in `name`. */
static void question_ask(struct question *q, enum expect expect, bool resp3, uint32_t keys)
{
    q->expect = expect;
    q->resp3 = resp3;
    q->keys = keys;
    for (uint32_t i = 0; i < keys; i++) {
        const char *name = key_names[q->name[i]];
        q->asked[i] = (struct asked){.next = i + 1 < keys ? i + 1 : NUT_NO_KEY,
                                     .check = nut_check((struct bytes){name, strlen(name)})};
    }
}

/* Show the scanner `in` in steps of at most `step` bytes, each in an allocation of its own that
 * is gone when the next one comes; and what it found. */
static struct answer scan_reply(struct bytes in, const struct question *q, size_t step, uint64_t *dice)
{
    struct asked asked[KEYS_MOST];
    struct answer a = {.verdict = SCAN_MORE};
    struct reply r;
    memcpy(asked, q->asked, sizeof asked);
    nut_reply_begin(&r, q->expect, asked, q->keys > 0 ? 0 : NUT_NO_KEY);
    r.resp3 = q->resp3;
    while (a.verdict == SCAN_MORE && a.len < in.len) {
        size_t n = step > 1 ? 1 + roll(dice, step) : 1, used = SIZE_MAX;
        n = n < in.len - a.len ? n : in.len - a.len;
        char *shown = exactly(in.at + a.len, n);
        a.verdict = nut_reply_scan(&r, (struct bytes){shown, n}, &used);
        free(shown);
        claim(a.verdict == SCAN_BAD || used <= n);
        claim(a.verdict != SCAN_MORE || used == n);
        a.len += used;
    }
    a.kind = r.kind;
    for (uint32_t i = 0; i < q->keys; i++)
        a.item[i] = asked[i].len;
    return a;
}

static void claim_same_answers(const struct answer *a, const struct answer *want, uint32_t keys)
{
    claim(a->verdict == want->verdict);
    if (a->verdict == SCAN_DONE)
        claim(a->len == want->len && a->kind == want->kind);
    for (uint32_t i = 0; i < keys && a->verdict == SCAN_DONE; i++)
        claim(a->item[i] == want->item[i]);
}

/* However it is cut, a reply is what the model sees in it. */
static struct answer claim_reply(struct bytes in, const struct question *q, uint64_t *dice)
{
    struct answer want = model_reply(in, q), a;
    struct bytes seen = {in.at, want.verdict == SCAN_DONE ? want.len : in.len};
    a = scan_reply(in, q, in.len * 64, dice);
    claim_same_answers(&a, &want, q->keys);
    a = scan_reply(in, q, 2 + roll(dice, in.len), dice);
    claim_same_answers(&a, &want, q->keys);
    if (seen.len <= 512 || roll(dice, 8) == 0) {
        a = scan_reply(seen, q, 1, dice);
        claim_same_answers(&a, &want, q->keys);
    }
    return want;
}

#endif
