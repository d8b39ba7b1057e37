/* resp_request.c - what a client of Redis sends: requests, one behind the other.
 *
 * The models: an array is read word by word from its grammar; an inline command is split as
 * Redis splits it (sdssplitargs).  What is forwarded must be one request for the server, and
 * the same one; keys must be words of it.
 */
#include "fuzz.h"
#define NUT_CORE
#include "nutproxy.c"
#include "cut.h"

#define MODEL_WORDS 256

/* A request as a model sees it: how long it is, or from where on it is bad; its words. */
struct model {
    size_t       len, bad_from;
    uint32_t     argc;
    struct bytes word[MODEL_WORDS];
    char         decoded[NUT_INLINE_MAX];
};

/* A line "*N\r\n" or "$N\r\n" at *at; -1 is any negative number. */
static enum scan model_number(struct bytes in, size_t *at, char mark, uint64_t most, int64_t *n)
{
    size_t i = *at, digits = 0;
    uint64_t value = 0;
    bool negative, zero = false;
    if (i == in.len)
        return SCAN_MORE;
    if (in.at[i++] != mark)
        return SCAN_BAD;
    negative = i < in.len && in.at[i] == '-';
    i += negative;
    for (; i < in.len && in.at[i] >= '0' && in.at[i] <= '9'; i++, digits++) {
        zero = zero || (digits == 0 && in.at[i] == '0');
        value = value > most ? value : value * 10 + (uint64_t)(in.at[i] - '0');
    }
    if ((zero && (digits > 1 || negative)) || (!negative && value > most) || digits > 18)
        return SCAN_BAD;
    if (i == in.len)
        return SCAN_MORE;
    if (digits == 0 || in.at[i] != '\r')
        return SCAN_BAD;
    if (i + 1 == in.len)
        return SCAN_MORE;
    if (in.at[i + 1] != '\n')
        return SCAN_BAD;
    *n = negative ? -1 : (int64_t)value;
    *at = i + 2;
    return SCAN_DONE;
}

static enum scan model_array(struct model *model, struct bytes in)
{
    size_t at = 0;
    int64_t words, len;
    model->bad_from = 0;
    enum scan got = model_number(in, &at, '*', NUT_WORDS_MAX, &words);
    for (model->argc = 0; got == SCAN_DONE && words > 0 && model->argc < (uint64_t)words; model->argc++) {
        model->bad_from = at;
        got = model_number(in, &at, '$', NUT_BULK_MAX, &len);
        if (got != SCAN_DONE)
            return got;
        if (len < 0 || at + (size_t)len + 2 > NUT_REQUEST_MAX)
            return SCAN_BAD;
        if (in.len - at < (size_t)len + 2)
            return SCAN_MORE;
        model->bad_from = at + (size_t)len;
        if (memcmp(in.at + at + len, "\r\n", 2) != 0)
            return SCAN_BAD;
        model->word[model->argc] = (struct bytes){in.at + at, (size_t)len};
        at += (size_t)len + 2;
    }
    model->len = at;
    return got;
}

static bool model_space(char c) { return strchr(" \t\n\v\f\r", c) != NULL; }

static int model_hex(char c)
{
    const char *digits = "00112233445566778899aAbBcCdDeEfF", *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits) / 2;
}

/* Split a line, which ends with a NUL, as Redis does; false: quotes are not closed. */
static bool model_split(struct model *model, const char *p)
{
    char *to = model->decoded;
    model->argc = 0;
    for (;;) {
        while (*p != '\0' && model_space(*p))
            p++;
        if (*p == '\0')
            return true;
        char *word = to, quote = '\0';
        for (bool done = false; !done; p += *p != '\0') {
            if (quote == '"' && p[0] == '\\' && p[1] == 'x' && model_hex(p[2]) >= 0 && model_hex(p[3]) >= 0) {
                *to++ = (char)(model_hex(p[2]) * 16 + model_hex(p[3]));
                p += 3;
            } else if (quote == '"' && p[0] == '\\' && p[1] != '\0') {
                const char *from = "nrtba", *escape = strchr(from, *++p);
                *to++ = escape == NULL ? *p : "\n\r\t\b\a"[escape - from];
            } else if (quote == '\'' && p[0] == '\\' && p[1] == '\'') {
                *to++ = *++p;
            } else if (quote != '\0' && *p == quote) {
                if (p[1] != '\0' && !model_space(p[1]))
                    return false;
                done = true;
            } else if (quote != '\0' && *p == '\0') {
                return false;
            } else if (quote != '\0') {
                *to++ = *p;
            } else if (*p == '\0' || strchr(" \n\r\t", *p) != NULL) {
                done = true;
            } else if (*p == '"' || *p == '\'') {
                quote = *p;
            } else {
                *to++ = *p;
            }
        }
        model->word[model->argc++] = (struct bytes){word, (size_t)(to - word)};
    }
}

static enum scan model_inline(struct model *model, struct bytes in)
{
    char line[NUT_INLINE_MAX + 1];
    const char *end = memchr(in.at, '\n', in.len);
    size_t len = end == NULL ? in.len : (size_t)(end - in.at);
    model->argc = 0;
    if (len > NUT_INLINE_MAX)
        return SCAN_BAD;
    if (end == NULL)
        return SCAN_MORE;
    model->len = len + 1;
    if (len > 0 && in.at[len - 1] == '\r')
        len--;
    memcpy(line, in.at, len);
    line[len] = '\0';
    return strlen(line) < len || !model_split(model, line) ? SCAN_BAD : SCAN_DONE;
}

static void claim_words(const struct frame *f, const struct model *model)
{
    claim(f->argc == model->argc);
    for (uint32_t i = 0; i < f->argc; i++) {
        claim(f->argv[i].off <= f->text.len && f->argv[i].len <= f->text.len - f->argv[i].off);
        claim(same_bytes(frame_arg(f, i), model->word[i]));
    }
}

/* The model sees the same, but that a line that is bad may be called so when it is whole. */
static void claim_as_model(enum scan got, const struct frame *f, struct bytes in, struct model *model)
{
    bool array = in.at[0] == '*';
    enum scan want = array ? model_array(model, in) : model_inline(model, in);
    if (got == SCAN_BAD && strstr(f->why, "HTTP") != NULL) {
        claim(!array);
        return;                             /* it can be read, and is refused all the same */
    }
    if (got == SCAN_MORE && want == SCAN_BAD) {
        claim(array && in.len - model->bad_from < 24);
        return;
    }
    claim(got == want);
    if (got == SCAN_DONE) {
        claim(f->pos == model->len);
        claim_words(f, model);
    }
    if (got == SCAN_BAD) {
        size_t len = strlen(f->why);
        claim(strncmp(f->why, "-ERR ", 5) == 0);
        claim(f->odd != 0 || (len > 2 && strchr(f->why, '\n') == f->why + len - 1 && f->why[len - 2] == '\r'));
        claim(f->odd == 0 || (f->odd != '\r' && f->odd != '\n' && strchr(f->why, '\n') == NULL));
    }
}

/* What a server is sent is read by it as the same words, and as nothing else. */
static void claim_forwarded(const struct frame *f, struct model *model)
{
    struct mem m = fresh();
    struct frame again = {0};
    claim(model_array(model, f->text) == SCAN_DONE && model->len == f->text.len);
    claim_words(f, model);
    claim(nut_resp_request(&m, &again, f->text) == SCAN_DONE && again.pos == f->text.len);
    claim_words(&again, model);
    nut_frame_free(&m, &again);
    claim_all_back(&m);
}

static void claim_key(const struct frame *f, uint32_t word)
{
    claim(word < f->argc);
    claim(f->argv[word].len <= f->text.len - f->argv[word].off);
}

/* The keys are words behind the command's name. */
static void claim_keys(const struct frame *f)
{
    static struct lexicon lexicon;
    struct keyset keys;
    if (lexicon.name[countof(commands)] == 0)
        nut_lexicon_build(&lexicon, NULL, 0);
    const struct command *c = nut_command_find(&lexicon, frame_arg(f, 0));
    if (c != NULL && c->way == SUBS && f->argc > 1)
        c = command_sub(&lexicon, c, frame_arg(f, 1));
    if (c == NULL || !command_fits(c, f->argc))
        return;
    const char *refusal = nut_command_keys(c, f, &keys);
    if (refusal != NULL) {
        claim(refusal[0] == '-' && strchr(refusal, '\n') == refusal + strlen(refusal) - 1);
        return;
    }
    claim(keys.n == 0 || (keys.first > 0 && keys.step > 0));
    for (uint32_t k = 0; k < keys.n; k++)
        claim_key(f, keys.first + k * keys.step);
    if (keys.also > 0)
        claim_key(f, keys.also);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model model;
    uint64_t dice = dice_of(data, size);
    struct mem m = fresh();
    struct frame f = {0};
    enum scan got = SCAN_DONE;
    for (struct bytes in = {(const char *)data, size}; in.len > 0 && got == SCAN_DONE; ) {
        got = scan_always(nut_resp_request, &m, &f, in, &dice);
        claim_as_model(got, &f, in, &model);
        if (got == SCAN_DONE && f.argc > 0) {
            claim_forwarded(&f, &model);
            claim_keys(&f);
        }
        in = bytes_from(in, got == SCAN_DONE ? f.pos : in.len);
        nut_frame_reset(&m, &f);
    }
    nut_frame_free(&m, &f);
    claim_all_back(&m);
    return 0;
}
