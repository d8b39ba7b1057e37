/* resp_reply.c - what a server of Redis answers: replies, one behind the other.
 *
 * The first byte of an input says what is waited for: its bits 0 and 1 a value, the items of
 * an array, or a push; bit 2 RESP3; bits 3 to 5 of how many keys.
 */
#include "fuzz.h"
#define NUT_CORE
#include "nutproxy.c"
#include "replies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum expect expects[] = {RESP_REPLY, RESP_ITEMS, RESP_ASIDE, RESP_REPLY};
    uint64_t dice = dice_of(data, size);
    struct question q = {0};
    if (size == 0)
        return 0;
    enum expect expect = expects[data[0] & 3];
    question_ask(&q, expect, (data[0] & 4) != 0 || expect == RESP_ASIDE,
                 expect == RESP_ITEMS ? 1 + (data[0] >> 3 & 7) : 0);
    struct answer a = {.verdict = SCAN_DONE};
    for (struct bytes in = {(const char *)data + 1, size - 1}; in.len > 0 && a.verdict == SCAN_DONE; ) {
        a = claim_reply(in, &q, &dice);
        in = bytes_from(in, a.verdict == SCAN_DONE ? a.len : in.len);
        question_ask(&q, RESP_REPLY, q.resp3, 0);           /* and behind it there are plain ones */
    }
    return 0;
}
