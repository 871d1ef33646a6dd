/* Memory for what a function works out on the way. */
#pragma once
#include <pthread.h>
#include <stdlib.h>

/* What the memory is for; while a function needs its own, what it calls has other purposes. */
enum {
    TABLES,       /* where things are in memory: make_tables, */
    TAPS,         /* and make_taps */
    PADDED,       /* images with a border of zeros */
    TRANSPOSED,   /* weights */
    TRANSFORMED,  /* and transformed, */
    PLACES,       /* and what these are multiplied by, and give */
    GATHERED,     /* pixels that an entry of a kernel reaches */
    SCATTERED,    /* gradients of images with a border */
    LEFT,         /* factors of products in bf16, on the left, */
    RIGHT,        /* and on the right, */
    STEPS,        /* and which of them are two */
    STATISTICS,   /* mean and squared deviations of channels */
    COEFFICIENTS, /* of channels, what their pixels are multiplied by */
    SECOND_SUMS,  /* of norm_second, and of parts of the rows of layer norm */
    Z,            /* of a block: of some images, the output of its convolution, */
    DZ,           /* its gradient, */
    TO_Z,         /* the result for it, */
    TO_DZ,        /* and the result for its gradient, of all images */
    DVECTORS,     /* of a block: the gradients of gamma and beta */
    ATTENTION,    /* its weights, their derivatives, and rows turned to columns */
    PLANS,        /* what is in the episodes of a meta-batch */
    DRAWS,        /* random numbers of an episode, and what is made of them */
    TURNED,       /* an image */
    PURPOSES
};

/* For tests: so many requests are granted, and then no more; all are where it is negative. */
static int requests_left = -1;

void set_requests_left(int requests) { requests_left = requests; }

static int refused(void)
{
    int left = __atomic_load_n(&requests_left, __ATOMIC_RELAXED);
    while (left > 0 && !__atomic_compare_exchange_n(&requests_left, &left, left - 1, 0,
                                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ; /* another thread was first: `left` is what it has left */
    return left == 0;
}

/* Memory of one thread, kept from call to call until the thread ends. */
typedef struct {
    void *memory[PURPOSES];
    size_t sizes[PURPOSES];
} Workspace;

static pthread_key_t key;
static int key_is_there;

static void free_workspace(void *given)
{
    Workspace *own = given;
    for (int purpose = 0; purpose < PURPOSES; purpose++)
        free(own->memory[purpose]);
    free(own);
}

static void make_key(void) { key_is_there = !pthread_key_create(&key, free_workspace); }

static Workspace *workspace_of_this_thread(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static __thread Workspace *own;
    if (!own) {
        pthread_once(&once, make_key);
        own = key_is_there ? calloc(1, sizeof *own) : NULL;
        if (own && pthread_setspecific(key, own)) {
            free(own);
            own = NULL;
        }
    }
    return own;
}

/* NULL where there is no memory left. */
static void *workspace(int purpose, size_t bytes)
{
    Workspace *own = refused() ? NULL : workspace_of_this_thread();
    if (!own)
        return NULL;
    if (own->sizes[purpose] < bytes || !own->memory[purpose]) {
        free(own->memory[purpose]);
        own->sizes[purpose] = bytes / 4096 * 4096 + 4096;
        own->memory[purpose] = aligned_alloc(64, own->sizes[purpose]);
        if (!own->memory[purpose])
            own->sizes[purpose] = 0;
    }
    return own->memory[purpose];
}
