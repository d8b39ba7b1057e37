/* yaml.c - twemproxy's configuration: any text gives one, or mistakes that say where; and a
 * good one, converted, or printed, is read as the same.
 */
#define FUZZ_REAL_LIMITS
#include "fuzz.h"
#define NUT_CORE
#include "nutproxy.c"
#include "texts.h"

static const char *const secrets[] = {
    "  redis_auth: " SECRET "\n",        "  redis_auth: \"" SECRET "\"\n",     "  redis_auth: '" SECRET "\n",
    "  redis_auth:\n   " SECRET "\n",    "  redis_auth:\n  - " SECRET "\n",    "  redis_auth: " SECRET ": x\n",
    "  redis_auth: [" SECRET "]\n",      "  redis_auth: |\n    " SECRET "\n",  "  redis_auth: \"\\z" SECRET "\"\n",
    "  redis_auth: *" SECRET "\n",       "  redis_auth: x\n  redis_auth: " SECRET "\n",
};

/* Convert a good one: what comes of it, read again, is the same.  `deny_at`: as always. */
static void claim_converts(struct conf *c, struct bytes text, uint64_t deny_at)
{
    struct conf made = {0};
    struct pen pen = {.mem = &c->mem, .ok = true};
    char *shown = exactly(text.at, text.len);
    c->mem.deny_at = deny_at;
    bool ok = conf_convert(c, (struct bytes){shown, text.len}, &pen);
    bool denied = deny_at > 0 && c->mem.deny_at == 0;
    c->mem.deny_at = 0;
    claim(ok || denied);
    if (ok) {
        char *ini = queue_bytes(&pen.out);
        claim(conf_try(&made, conf_read, (struct bytes){ini, pen.out.len}));
        claim_same_conf(c, &made);
        free(ini);
    }
    nut_queue_free(&c->mem, &pen.out);
    conf_free(&made);
    free(shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t dice = dice_of(data, size);
    struct bytes text = {(const char *)data, size};
    struct conf c = {0};
    bool good = conf_try(&c, conf_read_yaml, text);
    if (good) {
        /* A mark in the middle is one of a line for libyaml, and would be part of a name here. */
        claim(size < 3 || memmem(text.at + 3, size - 3, "\xEF\xBB\xBF", 3) == NULL);
        claim_converts(&c, text, 0);
        claim_converts(&c, text, 1 + roll(&dice, 40));
    }
    claim_denied(conf_read_yaml, text, 1 + roll(&dice, good ? 60 : 15), good, &c);
    claim_lower(conf_read_yaml, text, "# a comment\n", good, &c);
    claim_secret(conf_read_yaml, text, secrets, countof(secrets), &dice);
    if (good)
        claim_prints(&c, 1);
    conf_free(&c);
    return 0;
}
