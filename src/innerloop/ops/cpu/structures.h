/* What the exported functions are given; library.py has the same structures. */
#pragma once
#include <stdint.h>

typedef struct {
    int tasks, images;              /* T, and B images a task */
    int height, width, in;          /* of the input, channels innermost */
    int out_height, out_width, out; /* of the output */
    int kernel_height, kernel_width, stride, padding;
    int shared;                     /* whether all tasks have the same weights */
    int add;                        /* whether to add to what is there */
    int half;                       /* whether factors are rounded to bf16, where they can be */
    int threads;
} Conv;

typedef struct {
    int tasks, images, height, width, channels;
    int first; /* so many leading images of a task give the statistics */
    int pool;
    double slope; /* of what is negative: 0 is ReLU, 1 leaves it as it is */
    double eps;
    int threads;
    int groups, group; /* of a group norm: how many groups, and channels of each */
} Norm;

/* Attention of sequences to themselves; q, k and v have the same steps in memory. */
typedef struct {
    int sequences, heads, length, width; /* N, and the width of a head */
    int threads;
    long x_sequence, x_head, x_row; /* numbers from one to the next */
    double scale;
} Attention;

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
