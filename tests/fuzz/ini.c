/* ini.c - a configuration: any text gives one, or mistakes that say where.
 *
 * Beside what is right of any (texts.h): lines that end with CR LF change nothing; and a good one
 * that is printed (--print-config -c) is read as the same, but that its passwords are not told.
 */
#define FUZZ_REAL_LIMITS
#include "fuzz.h"
#define NUT_CORE
#include "nutproxy.c"
#include "texts.h"

static const char *const secrets[] = {
    "redis_auth = " SECRET "\n",       "redis_auth: \"" SECRET "\"\n",        "redis_auth = \"" SECRET "\n",
    "redis_auth = " SECRET ":1:1\n",   "redis_auth = \"\\x00" SECRET "\"\n",  "redis_auth =\n    " SECRET "\n",
    "redis_auth=" SECRET " ; x\n",     "redis_auth = \"x\" " SECRET "\n",     "redis_auth = x\n    " SECRET "\n",
    "redis_auth = [" SECRET "]\n",     "redis_auth = \"\"\n  " SECRET "\n",
    "redis_auth = " SECRET "\nredis_auth = " SECRET "\n",
};

static void claim_same_with_cr(struct bytes text, bool want_good, const struct conf *want)
{
    struct conf c = {0};
    struct text with = {0};
    for (size_t i = 0; i < text.len; i++)
        text_add(&with, text.at[i] == '\n' ? "\r\n" : text.at + i, text.at[i] == '\n' ? 2 : 1);
    bool good = conf_try(&c, conf_read, (struct bytes){with.at, with.len});
    char *told = queue_bytes(&c.told);
    claim(good == want_good || strstr(told, "too long a line") != NULL);
    if (good)
        claim_same_conf(&c, want);
    free(told);
    free(with.at);
    conf_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t dice = dice_of(data, size);
    struct bytes text = {(const char *)data, size};
    struct conf c = {0};
    bool good = conf_try(&c, conf_read, text);
    claim_denied(conf_read, text, 1 + roll(&dice, good ? 60 : 15), good, &c);
    claim_lower(conf_read, text, "; a comment\n", good, &c);
    claim_same_with_cr(text, good, &c);
    claim_secret(conf_read, text, secrets, countof(secrets), &dice);
    if (good)
        claim_prints(&c, 1 + (uint32_t)roll(&dice, NUT_WORKERS_MAX));
    conf_free(&c);
    return 0;
}
