/* Runs the kernels in a process of its own, which may be that of an emulator: reads calls from
 * standard input and answers on standard output, with the bytes of every array (see remote.py). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOTH(f) int f##_float32(), f##_float64();
BOTH(conv_forward) BOTH(conv_inputs) BOTH(conv_weights)
BOTH(depthwise_forward) BOTH(depthwise_inputs) BOTH(depthwise_weights)
BOTH(linear_forward) BOTH(linear_weights)
BOTH(layer_norm_forward) BOTH(layer_norm_backward) BOTH(layer_norm_second)
BOTH(group_norm_forward) BOTH(group_norm_backward) BOTH(group_norm_second)
BOTH(norm_forward) BOTH(norm_backward) BOTH(norm_second)
BOTH(block_forward) BOTH(block_backward) BOTH(block_second)
int plan_episodes(), make_episodes(), have_threads();

typedef int Function(long, long, long, long, long, long, long, long, long, long, long, long, long,
                     long, long, long, long, long, long, long);
#define ENTRY(f) {#f, (Function *)f},
#define ENTRIES(f) ENTRY(f##_float32) ENTRY(f##_float64)
static const struct {
    const char *name;
    Function *function;
} functions[] = {
    ENTRIES(conv_forward) ENTRIES(conv_inputs) ENTRIES(conv_weights)
    ENTRIES(depthwise_forward) ENTRIES(depthwise_inputs) ENTRIES(depthwise_weights)
    ENTRIES(linear_forward) ENTRIES(linear_weights)
    ENTRIES(layer_norm_forward) ENTRIES(layer_norm_backward) ENTRIES(layer_norm_second)
    ENTRIES(group_norm_forward) ENTRIES(group_norm_backward) ENTRIES(group_norm_second)
    ENTRIES(norm_forward) ENTRIES(norm_backward) ENTRIES(norm_second)
    ENTRIES(block_forward) ENTRIES(block_backward) ENTRIES(block_second)
    ENTRY(plan_episodes) ENTRY(make_episodes) ENTRY(have_threads)};

enum { MOST = 64, CALLED = 20 };

static void receive(void *to, size_t bytes)
{
    if (fread(to, 1, bytes, stdin) != bytes)
        exit(feof(stdin) ? 0 : 1);
}

static int64_t number(void)
{
    int64_t n;
    receive(&n, sizeof n);
    return n;
}

int main(void)
{
    for (;;) {
        char name[32];
        long given[MOST] = {0}, sizes[MOST] = {0};
        receive(name, sizeof name);
        const int called = number(), all = number();
        if (called > CALLED || all > MOST)
            return 1;
        for (int i = 0; i < all; i++) {
            sizes[i] = number();
            if (sizes[i] < 0) { /* a number, or NULL */
                given[i] = number();
                continue;
            }
            /* Apart from each other, and no better aligned than an array need be. */
            char *memory = malloc(sizes[i] + 64);
            given[i] = (long)(memory + 16);
            receive(memory + 16, sizes[i]);
        }
        for (int left = number(); left > 0; left--) { /* addresses within structures */
            const int where = number();
            const long offset = number();
            memcpy((char *)given[where] + offset, &given[number()], sizeof(long));
        }
        int64_t status = -1;
        for (size_t f = 0; f < sizeof functions / sizeof *functions; f++)
            if (!strcmp(functions[f].name, name))
                status = functions[f].function(
                    given[0], given[1], given[2], given[3], given[4], given[5], given[6], given[7],
                    given[8], given[9], given[10], given[11], given[12], given[13], given[14],
                    given[15], given[16], given[17], given[18], given[19]);
        fwrite(&status, sizeof status, 1, stdout);
        for (int i = 0; i < all; i++)
            if (sizes[i] >= 0) {
                fwrite((char *)given[i], 1, sizes[i], stdout);
                free((char *)given[i] - 16);
            }
        fflush(stdout);
    }
}
