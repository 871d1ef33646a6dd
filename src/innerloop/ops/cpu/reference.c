/* What the kernels work out, said as plainly as possible.
 *
 * Loops over all numbers, one sum after the other, in double precision: to be read beside
 * ops/autograd/norm.py and block.py, whose names these are, and to hold the kernels against
 * (tests/ops/cpu/test_reference.py, which compiles this file).  It is no part of the package's
 * libraries.
 *
 * Arrays are packed, channels innermost: images [T, B, H, W, C], convolution weights
 * [T, KH, KW, in, out], batch-norm vectors [T, C].  Functions return 0, or 1 where memory has
 * run out.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "structures.h"

/* ---- where things are --------------------------------------------------------------- */

static long input_at(const Conv *c, int t, int b, int y, int x, int i)
{
    return ((((long)t * c->images + b) * c->height + y) * c->width + x) * c->in + i;
}

static long output_at(const Conv *c, int t, int b, int y, int x, int o)
{
    return ((((long)t * c->images + b) * c->out_height + y) * c->out_width + x) * c->out + o;
}

/* Where all tasks share the weights, those of the first are all there are. */
static long weight_at(const Conv *c, int shared, int t, int ky, int kx, int i, int o)
{
    const long task = shared ? 0 : t;
    return (((task * c->kernel_height + ky) * c->kernel_width + kx) * c->in + i) * c->out + o;
}

static long numbers_of_outputs(const Conv *c) { return output_at(c, c->tasks, 0, 0, 0, 0); }
static long numbers_of_inputs(const Conv *c) { return input_at(c, c->tasks, 0, 0, 0, 0); }
static long numbers_of_weights(const Conv *c) { return weight_at(c, 0, c->tasks, 0, 0, 0, 0); }

/* ---- convolution -------------------------------------------------------------------- */

/* Adds up, for each product of an input and a weight that a convolution is a sum of, what one of
 * the three is multiplied by: y += x w, dx += dy w or dw += x dy.  The other results are NULL. */
static void add_products(const Conv *c, int shared, const double *x, const double *w,
                         const double *dy, double *y, double *dx, double *dw)
{
    for (int t = 0; t < c->tasks; t++)
        for (int b = 0; b < c->images; b++)
            for (int oy = 0; oy < c->out_height; oy++)
                for (int ox = 0; ox < c->out_width; ox++)
                    for (int ky = 0; ky < c->kernel_height; ky++)
                        for (int kx = 0; kx < c->kernel_width; kx++) {
                            const int iy = oy * c->stride - c->padding + ky;
                            const int ix = ox * c->stride - c->padding + kx;
                            if (iy < 0 || iy >= c->height || ix < 0 || ix >= c->width)
                                continue; /* in the padding, which is zero */
                            for (int i = 0; i < c->in; i++)
                                for (int o = 0; o < c->out; o++) {
                                    const long in = input_at(c, t, b, iy, ix, i);
                                    const long out = output_at(c, t, b, oy, ox, o);
                                    const long weight = weight_at(c, shared, t, ky, kx, i, o);
                                    if (y)
                                        y[out] += x[in] * w[weight];
                                    if (dx)
                                        dx[in] += dy[out] * w[weight];
                                    if (dw)
                                        dw[weight_at(c, 0, t, ky, kx, i, o)] += x[in] * dy[out];
                                }
                        }
}

int conv_forward(const Conv *c, const double *x, const double *w, double *y)
{
    memset(y, 0, numbers_of_outputs(c) * sizeof(double));
    add_products(c, c->shared, x, w, NULL, y, NULL, NULL);
    return 0;
}

int conv_inputs(const Conv *c, const double *dy, const double *w, double *dx)
{
    memset(dx, 0, numbers_of_inputs(c) * sizeof(double));
    add_products(c, c->shared, NULL, w, dy, NULL, dx, NULL);
    return 0;
}

/* Of each task, also where all share them. */
int conv_weights(const Conv *c, const double *x, const double *dy, double *dw)
{
    memset(dw, 0, numbers_of_weights(c) * sizeof(double));
    add_products(c, c->shared, x, NULL, dy, NULL, NULL, dw);
    return 0;
}

/* ---- convolution of every channel by itself ------------------------------------------ */

/* That of one channel, of images and weights [T, ...] which have others besides. */
static void channel_of(const double *from, long pixels, int channels, int i, double *to)
{
    for (long p = 0; p < pixels; p++)
        to[p] = from[p * channels + i];
}

/* Calls `of_one` for each channel of the two arrays given, and writes its result; w is
 * [T, KH, KW, C]. */
static int by_channel(const Conv *c, int (*of_one)(const Conv *, const double *, const double *,
                                                   double *),
                      const double *a, long of_a, const double *b, long of_b, double *out,
                      long of_out)
{
    const int channels = c->in;
    Conv one = *c;
    one.in = one.out = 1;
    double *parts = malloc((of_a + of_b + of_out) * sizeof(double));
    if (!parts)
        return 1;
    for (int i = 0; i < channels; i++) {
        channel_of(a, of_a, channels, i, parts);
        channel_of(b, of_b, channels, i, parts + of_a);
        of_one(&one, parts, parts + of_a, parts + of_a + of_b);
        for (long p = 0; p < of_out; p++)
            out[p * channels + i] = parts[of_a + of_b + p];
    }
    free(parts);
    return 0;
}

static long pixels_in(const Conv *c) { return numbers_of_inputs(c) / c->in; }
static long pixels_out(const Conv *c) { return numbers_of_outputs(c) / c->out; }
static long entries(const Conv *c, int tasks)
{
    return (long)tasks * c->kernel_height * c->kernel_width;
}

int depthwise_forward(const Conv *c, const double *x, const double *w, double *y)
{
    return by_channel(c, conv_forward, x, pixels_in(c), w, entries(c, c->shared ? 1 : c->tasks), y,
                      pixels_out(c));
}

int depthwise_inputs(const Conv *c, const double *dy, const double *w, double *dx)
{
    return by_channel(c, conv_inputs, dy, pixels_out(c), w, entries(c, c->shared ? 1 : c->tasks),
                      dx, pixels_in(c));
}

int depthwise_weights(const Conv *c, const double *x, const double *dy, double *dw)
{
    return by_channel(c, conv_weights, x, pixels_in(c), dy, pixels_out(c), dw,
                      entries(c, c->tasks));
}

/* ---- batch norm, 2 x 2 max-pooling, ReLU -------------------------------------------- */

static long pixels_of(const Norm *n) { return (long)n->images * n->height * n->width; }

/* Those that give the statistics, which are the leading ones. */
static long counted_of(const Norm *n) { return (long)n->first * n->height * n->width; }

static long windows_of(const Norm *n)
{
    return n->pool ? (long)n->images * (n->height / 2) * (n->width / 2) : pixels_of(n);
}

/* The number, among a task's pixels, of pixel k of a window; without pooling there is one in it. */
static long pixel_of(const Norm *n, long window, int k)
{
    if (!n->pool)
        return window;
    const long height = n->height / 2, width = n->width / 2;
    const long image = window / (height * width);
    const long y = window / width % height * 2 + k / 2, x = window % width * 2 + k % 2;
    return (image * n->height + y) * n->width + x;
}

/* y = the largest of a window's z = gamma xhat + beta, where xhat = (x - mean) rstd; or zero where
 * that is negative and there is a ReLU.  argmax is which pixel it is; or 4, none. */
int norm_forward(const Norm *n, const double *x, const double *gamma, const double *beta,
                 double *y, double *mean, double *rstd, uint8_t *argmax)
{
    const long pixels = pixels_of(n), windows = windows_of(n), channels = n->channels;
    const long counted = counted_of(n);
    for (long t = 0; t < n->tasks; t++)
        for (long c = 0; c < channels; c++) {
            const double *own = x + t * pixels * channels + c;
            const long vector = t * channels + c;
            double sum = 0, squares = 0;
            for (long p = 0; p < counted; p++)
                sum += own[p * channels];
            mean[vector] = sum / counted;
            for (long p = 0; p < counted; p++)
                squares += pow(own[p * channels] - mean[vector], 2);
            rstd[vector] = 1 / sqrt(squares / counted + n->eps);

            for (long q = 0; q < windows; q++) {
                double largest = -INFINITY;
                int which = 0;
                for (int k = 0; k < (n->pool ? 4 : 1); k++) {
                    const double xhat =
                        (own[pixel_of(n, q, k) * channels] - mean[vector]) * rstd[vector];
                    const double z = gamma[vector] * xhat + beta[vector];
                    if (z > largest) {
                        largest = z;
                        which = k;
                    }
                }
                if (n->slope != 1 && largest <= 0) {
                    largest *= n->slope;
                    which += 4;
                }
                y[(t * windows + q) * channels + c] = largest;
                argmax[(t * windows + q) * channels + c] = which;
            }
        }
    return 0;
}

/* One channel of one task: the pixels' xhat, and g, the gradient of z from that of y. */
static void one_channel(const Norm *n, long t, long c, const double *x, const double *mean,
                        const double *rstd, const uint8_t *argmax, const double *dy, double *xhat,
                        double *g)
{
    const long pixels = pixels_of(n), windows = windows_of(n), channels = n->channels;
    const long vector = t * channels + c;
    for (long p = 0; p < pixels; p++) {
        xhat[p] = (x[(t * pixels + p) * channels + c] - mean[vector]) * rstd[vector];
        g[p] = 0;
    }
    for (long q = 0; q < windows; q++) {
        const long out = (t * windows + q) * channels + c;
        g[pixel_of(n, q, argmax[out] % 4)] = (argmax[out] < 4 ? 1 : n->slope) * dy[out];
    }
}

/* Sums over pixels of a, and of a b. */
static double sum_of(const double *a, long count)
{
    double sum = 0;
    for (long p = 0; p < count; p++)
        sum += a[p];
    return sum;
}

static double sum_of_products(const double *a, const double *b, long count)
{
    double sum = 0;
    for (long p = 0; p < count; p++)
        sum += a[p] * b[p];
    return sum;
}

/* P(g) = g - i (sum of g + xhat * sum of g xhat) / N, where i is 1 for the N pixels that give the
 * statistics and 0 for the others. */
static void project(const Norm *n, const double *g, const double *xhat, double *out)
{
    const long pixels = pixels_of(n), counted = counted_of(n);
    const double mg = sum_of(g, pixels) / counted;
    const double mgx = sum_of_products(g, xhat, pixels) / counted;
    for (long p = 0; p < pixels; p++)
        out[p] = g[p] - (p < counted ? mg + xhat[p] * mgx : 0);
}

/* dx = gamma s P(g), dgamma = sum of g xhat, dbeta = sum of g; s is rstd. */
int norm_backward(const Norm *n, const double *x, const double *gamma, const double *mean,
                  const double *rstd, const uint8_t *argmax, const double *dy, double *dx,
                  double *dgamma, double *dbeta)
{
    const long pixels = pixels_of(n), channels = n->channels;
    double *xhat = malloc(3 * pixels * sizeof(double));
    if (!xhat)
        return 1;
    double *g = xhat + pixels, *pg = g + pixels;
    for (long t = 0; t < n->tasks; t++)
        for (long c = 0; c < channels; c++) {
            const long vector = t * channels + c;
            one_channel(n, t, c, x, mean, rstd, argmax, dy, xhat, g);
            project(n, g, xhat, pg);
            for (long p = 0; p < pixels; p++)
                dx[(t * pixels + p) * channels + c] = gamma[vector] * rstd[vector] * pg[p];
            dgamma[vector] = sum_of_products(g, xhat, pixels);
            dbeta[vector] = sum_of(g, pixels);
        }
    free(xhat);
    return 0;
}

/* With V the sum of i v, W that of i v xhat, X that of g xhat, all by N, and
 * q = (sum of v g) / N - V (sum of g) / N - W X:
 *
 *     to_x = s P(-gamma s (i v X + g W) + a g) - gamma s^2 q i xhat,
 *     to_gamma = s N q,
 *     to_dy = gamma s (v - V - xhat W) + a xhat + b, at the pixels that were chosen.  */
int norm_second(const Norm *n, const double *x, const double *gamma, const double *mean,
                const double *rstd, const uint8_t *argmax, const double *dy, const double *v,
                const double *a, const double *b, double *to_x, double *to_gamma, double *to_dy)
{
    const long pixels = pixels_of(n), windows = windows_of(n), channels = n->channels;
    const long counted = counted_of(n);
    double *xhat = malloc(5 * pixels * sizeof(double));
    if (!xhat)
        return 1;
    double *g = xhat + pixels, *own_v = g + pixels, *inner = own_v + pixels;
    double *p_inner = inner + pixels;
    for (long t = 0; t < n->tasks; t++)
        for (long c = 0; c < channels; c++) {
            const long vector = t * channels + c;
            const double s = rstd[vector], gs = gamma[vector] * s;
            one_channel(n, t, c, x, mean, rstd, argmax, dy, xhat, g);
            for (long p = 0; p < pixels; p++)
                own_v[p] = v[(t * pixels + p) * channels + c];
            const double V = sum_of(own_v, counted) / counted;
            const double W = sum_of_products(own_v, xhat, counted) / counted;
            const double X = sum_of_products(g, xhat, pixels) / counted;
            const double q = sum_of_products(own_v, g, pixels) / counted -
                             V * sum_of(g, pixels) / counted - W * X;
            for (long p = 0; p < pixels; p++)
                inner[p] = (a[vector] - gs * W) * g[p] - (p < counted ? gs * X * own_v[p] : 0);
            project(n, inner, xhat, p_inner);
            for (long p = 0; p < pixels; p++)
                to_x[(t * pixels + p) * channels + c] =
                    s * p_inner[p] - (p < counted ? gs * s * q * xhat[p] : 0);
            to_gamma[vector] = s * counted * q;
            for (long w = 0; w < windows; w++) {
                const long out = (t * windows + w) * channels + c;
                const long p = pixel_of(n, w, argmax[out] % 4);
                to_dy[out] = (argmax[out] < 4 ? 1 : n->slope) *
                             (gs * (own_v[p] - V - xhat[p] * W) + a[vector] * xhat[p] + b[vector]);
            }
        }
    free(xhat);
    return 0;
}

/* ---- a block: convolution, then batch norm ------------------------------------------ */

int block_forward(const Conv *c, const Norm *n, const double *x, const double *w,
                  const double *gamma, const double *beta, double *z, double *y, double *mean,
                  double *rstd, uint8_t *argmax)
{
    conv_forward(c, x, w, z);
    return norm_forward(n, z, gamma, beta, y, mean, rstd, argmax);
}

int block_backward(const Conv *c, const Norm *n, const double *x, const double *w,
                   const double *gamma, const double *z, const double *mean, const double *rstd,
                   const uint8_t *argmax, const double *dy, double *dx, double *dw,
                   double *dgamma, double *dbeta)
{
    double *dz = malloc(numbers_of_outputs(c) * sizeof(double));
    if (!dz || norm_backward(n, z, gamma, mean, rstd, argmax, dy, dz, dgamma, dbeta)) {
        free(dz);
        return 1;
    }
    conv_inputs(c, dz, w, dx);
    conv_weights(c, x, dz, dw);
    free(dz);
    return 0;
}

/* The derivative of block_backward: L = vx dx + vw dw + a dgamma + b dbeta, for x, w, gamma, dy. */
int block_second(const Conv *c, const Norm *n, const double *x, const double *w,
                 const double *gamma, const double *z, const double *mean, const double *rstd,
                 const uint8_t *argmax, const double *dy, const double *vx, const double *vw,
                 const double *a, const double *b, double *to_x, double *to_w, double *to_gamma,
                 double *to_dy)
{
    const long outputs = numbers_of_outputs(c), vectors = (long)n->tasks * n->channels;
    double *dz = malloc((3 * outputs + 2 * vectors) * sizeof(double));
    if (!dz)
        return 1;
    double *to_dz = dz + outputs, *to_z = to_dz + outputs;
    double *dgamma = to_z + outputs, *dbeta = dgamma + vectors;

    /* dx = conv_inputs(dz, w) and dw = conv_weights(x, dz): L's derivative for dz is
     * conv(vx, w) + conv(x, vw).  vw is never shared. */
    memset(to_dz, 0, outputs * sizeof(double));
    add_products(c, c->shared, vx, w, NULL, to_dz, NULL, NULL);
    add_products(c, 0, x, vw, NULL, to_dz, NULL, NULL);

    /* (dz, dgamma, dbeta) = norm_backward(z, gamma, dy). */
    int failed = norm_second(n, z, gamma, mean, rstd, argmax, dy, to_dz, a, b, to_z, to_gamma,
                             to_dy) ||
                 norm_backward(n, z, gamma, mean, rstd, argmax, dy, dz, dgamma, dbeta);
    if (!failed) {
        /* And x and w are in z = conv(x, w), besides. */
        memset(to_x, 0, numbers_of_inputs(c) * sizeof(double));
        add_products(c, 0, NULL, vw, dz, NULL, to_x, NULL);
        add_products(c, c->shared, NULL, w, to_z, NULL, to_x, NULL);
        memset(to_w, 0, numbers_of_weights(c) * sizeof(double));
        add_products(c, c->shared, vx, NULL, dz, NULL, NULL, to_w);
        add_products(c, c->shared, x, NULL, to_z, NULL, NULL, to_w);
    }
    free(dz);
    return failed;
}
