/* mc_reply.c - what a server of memcached answers: replies, one behind the other.
 *
 * The first byte of an input says what is waited for, and the second of which keys: bit n, of
 * the nth of key_names; of a meta request, its verb and whether it has an opaque.
 */
#include "fuzz.h"
#define NUT_CORE
#include "nutproxy.c"
#include "replies.h"

static void ask(struct question *q, uint8_t what, uint8_t which)
{
    static const enum expect expects[] = {MC_LINE, MC_OK, MC_VALUES, MC_META, MC_STATS};
    enum expect expect = expects[what % 5];
    uint32_t keys = 0;
    for (uint32_t i = 0; i < KEYS_MOST && expect == MC_VALUES; i++)
        if ((which >> i & 1) != 0)
            q->name[keys++] = i;
    question_ask(q, expect, false, expect == MC_META ? 1 : keys);
    if (expect == MC_META)
        q->asked[0] = (struct asked){.part = (uint8_t)"gsdae"[which % 5], .next = NUT_NO_KEY,
                                     .check = nut_check((which & 128) != 0 ? lit("O1") : lit(""))};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t dice = dice_of(data, size);
    struct question q = {0};
    if (size < 2)
        return 0;
    struct answer a = {.verdict = SCAN_DONE};
    for (struct bytes in = {(const char *)data + 2, size - 2}; in.len > 0 && a.verdict == SCAN_DONE; ) {
        ask(&q, data[0], data[1]);
        a = claim_reply(in, &q, &dice);
        in = bytes_from(in, a.verdict == SCAN_DONE ? a.len : in.len);
    }
    return 0;
}
