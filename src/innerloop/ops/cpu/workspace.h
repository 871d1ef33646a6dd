/* Memory for what a function works out on the way. */
#pragma once
#include <stdlib.h>

/* Memory of one thread, kept from call to call. */
static void *workspace(int slot, size_t bytes)
{
    static __thread void *memory[9];
    static __thread size_t sizes[9];
    if (sizes[slot] < bytes) {
        free(memory[slot]);
        sizes[slot] = (bytes + 4095) / 4096 * 4096;
        memory[slot] = aligned_alloc(64, sizes[slot]);
        if (!memory[slot])
            abort();
    }
    return memory[slot];
}
