/* Convolution and batch norm of many tasks at once, each task with weights of its own; attention;
 * and the episodes that they begin with.
 *
 * Compiled by setup.py for the processors that it may meet; without a compiler
 * nothing is built, and PyTorch's operators do the work (see ops/kernels.py).
 * The code is in the .inc files, compiled once for each type of number; their macros mean
 * the same both times.
 *
 * What is exported returns 0; or 1 where memory has run out, and then nothing that it has
 * written means anything.
 */
#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "structures.h"
#include "workspace.h"

/* Bytes of a vector: what a register holds, and how many of them there are.  (GCC keeps wider ones
 * in memory, at a sixth of the speed.) */
#if defined(__AVX512F__)
#define VECTOR 64
#define REGISTERS 32
#elif defined(__aarch64__)
#define VECTOR 16
#define REGISTERS 32
#else
#define VECTOR 32
#define REGISTERS 16
#endif

enum { BLOCK = 64 }; /* pixels whose channels stay in the nearest cache */
enum { FEW = 12 };   /* rows for which to transpose the weights would take longer */

/* Of the exported functions and structures: to be raised with library.py's when one changes. */
enum { VERSION = 10 };

/* Version, and sizes of the structures: what a caller must agree on. */
void describe_kernels(int *version_and_sizes)
{
    const int found[] = {VERSION, sizeof(Conv), sizeof(Norm), sizeof(Attention),
                         sizeof(Source)};
    memcpy(version_and_sizes, found, sizeof found);
}

/* Whether more than one thread can be used. */
int have_threads(void)
{
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

/* Whether Intel made this processor, on which PyTorch multiplies matrices at its full rate. */
int made_by_intel(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    return __builtin_cpu_is("intel") != 0;
#else
    return 0;
#endif
}

static int at_most(int a, int b) { return a < b ? a : b; }

#if defined(__AVX512F__)
#include "halves.inc"
#else
/* Whether factors can be rounded to bf16 (`Conv.half`). */
int have_halves(void) { return 0; }
#endif

/* Of all images' rows the upper one in a row of windows. */
static long upper_row(const Norm *n, long windows)
{
    const long height = n->height / 2;
    return windows / height * n->height + windows % height * 2;
}

#define REAL float
#define SINGLE 1
#define INT int32_t
#define NAME(f) f##_float32
#include "product.inc"
#include "taps.inc"
#include "winograd.inc"
#include "linear.inc"
#include "convolution.inc"
#include "depthwise.inc"
#include "layer_norm.inc"
#include "norm.inc"
#include "group_norm.inc"
#include "norm_derivatives.inc"
#include "block.inc"
#include "attention.inc"
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
#include "winograd.inc"
#include "linear.inc"
#include "convolution.inc"
#include "depthwise.inc"
#include "layer_norm.inc"
#include "norm.inc"
#include "group_norm.inc"
#include "norm_derivatives.inc"
#include "block.inc"
#include "attention.inc"
