/* conversation.c - whole histories of clients and servers around nutproxy, as a fuzzer likes them.
 *
 * An input is a list of choices: the configuration, what clients ask and when, how bytes are cut, what servers
 * do to it, which call of the system fails.  They are the choices of tests/sim/sim.c, in its place of a seed,
 * and what is checked is the same.  When the input is used up there is no more trouble, and all must be well. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void failed(const char *rule)
{
    fprintf(stderr, "%s\n", rule);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tracing = getenv("SIM_TRACE") != NULL;
    on_broken = failed;
    choices_from_bytes(data, size);
    history_run();
    return 0;
}
