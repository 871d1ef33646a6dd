/* Convolution and batch norm of many tasks at once, each task with weights of its own; and the
 * episodes that they begin with.
 *
 * Compiled by setup.py for the processors that it may meet; without a compiler
 * nothing is built, and PyTorch's operators do the work (see ops/kernels.py).
 * The code is in the .inc files, compiled once for each type of number; their macros mean
 * the same both times.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

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

typedef struct {
    int tasks, images;              /* T, and B images a task */
    int height, width, in;          /* of the input, channels innermost */
    int out_height, out_width, out; /* of the output */
    int kernel_height, kernel_width, stride, padding;
    int shared;                     /* whether all tasks have the same weights */
    int add;                        /* whether to add to what is there */
    int threads;
} Conv;

typedef struct {
    int tasks, images, height, width, channels;
    int relu, pool;
    double eps;
    int threads;
} Norm;

/* Where episodes come from; the arrays and their meaning are those of EpisodeSampler. */
typedef struct {
    uint64_t key;
    const int64_t *pooled, *pool_start, *pool_size; /* classes to draw from, pool by pool */
    const int64_t *starts, *counts, *position;      /* of each class of the data */
    const uint8_t *images;                          /* [M, C, H, W] */
    long pools;
    int n_way, k_shot, k_query;
    int turns;    /* 4 where turned classes count as further ones, otherwise 1 */
    int by_class; /* whether labels are numbers among all classes */
    int channels, height, width;
    float zero, unit; /* a byte b becomes zero + b / unit */
} Source;

/* Bytes of a vector: what a register holds.  (GCC keeps wider ones in memory, at a sixth of the
 * speed.) */
#ifdef __AVX512F__
#define VECTOR 64
#else
#define VECTOR 32
#endif

enum { BLOCK = 64 }; /* pixels whose channels stay in the nearest cache */

static int at_most(int a, int b) { return a < b ? a : b; }

#define REAL float
#define SINGLE 1
#define INT int32_t
#define NAME(f) f##_float32
#include "product.inc"
#include "taps.inc"
#include "convolution.inc"
#include "norm.inc"
#include "block.inc"
#include "episodes.inc"
#undef REAL
#undef INT
#undef NAME
#undef SINGLE

#define REAL double
#define SINGLE 0
#define INT int64_t
#define NAME(f) f##_float64
#include "product.inc"
#include "taps.inc"
#include "convolution.inc"
#include "norm.inc"
#include "block.inc"
