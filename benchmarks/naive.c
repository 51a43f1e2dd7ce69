/* The same integer arithmetic as plain loops, to measure the compiler's kernels against.
 *
 * Maps are H, W, C; weights O, kh, kw, I / groups. Inlined into a call whose shapes are constants,
 * so that GCC sees what it also sees in a generated kernel.
 */
#include "ondevice/fixed_point.h"
#include "ondevice/gradient.h"
#include "ondevice/update.h"

#define NAIVE static inline __attribute__((always_inline))

typedef struct {
    int32_t height, width, inputs;          /* of x */
    int32_t out_height, out_width, outputs; /* of y */
    int32_t kernel, stride, before;
    int32_t groups;
} naive_layer_t;

NAIVE void naive_conv2d(naive_layer_t l, const int8_t *x, const int8_t *w, const int32_t *bias,
                        const int32_t *multiplier, const int32_t *shift, int32_t x_zero,
                        int32_t y_zero, int32_t low, int32_t high, int8_t *y) {
    const int32_t inner = l.inputs / l.groups, per_group = l.outputs / l.groups;
    for (int32_t oh = 0; oh < l.out_height; oh++) {
        for (int32_t ow = 0; ow < l.out_width; ow++) {
            for (int32_t o = 0; o < l.outputs; o++) {
                int32_t acc = bias[o];
                for (int32_t kh = 0; kh < l.kernel; kh++) {
                    const int32_t row = oh * l.stride + kh - l.before;
                    for (int32_t kw = 0; kw < l.kernel; kw++) {
                        const int32_t column = ow * l.stride + kw - l.before;
                        if (row < 0 || row >= l.height || column < 0 || column >= l.width) {
                            continue;
                        }
                        for (int32_t i = 0; i < inner; i++) {
                            const int32_t c = o / per_group * inner + i;
                            acc += (x[(row * l.width + column) * l.inputs + c] - x_zero) *
                                   w[((o * l.kernel + kh) * l.kernel + kw) * inner + i];
                        }
                    }
                }
                y[(oh * l.out_width + ow) * l.outputs + o] =
                    (int8_t)od_requantize_clamp(acc, multiplier[o], shift[o], y_zero, low, high);
            }
        }
    }
}

NAIVE void naive_conv2d_dx(naive_layer_t l, const int8_t *g, const int8_t *w, const int8_t *x,
                           const int32_t *multiplier, const int32_t *shift, int32_t exponent,
                           int32_t low, int32_t high, od_grad_scale_t *scale, int8_t *dx) {
    const int32_t inner = l.inputs / l.groups, per_group = l.outputs / l.groups;
    for (int32_t h = 0; h < l.height; h++) {
        for (int32_t col = 0; col < l.width; col++) {
            for (int32_t c = 0; c < l.inputs; c++) {
                int32_t acc = 0;
                for (int32_t kh = 0; kh < l.kernel; kh++) {
                    for (int32_t kw = 0; kw < l.kernel; kw++) {
                        const int32_t above = h + l.before - kh, left = col + l.before - kw;
                        if (above < 0 || left < 0 || above % l.stride != 0 ||
                            left % l.stride != 0 || above / l.stride >= l.out_height ||
                            left / l.stride >= l.out_width) {
                            continue;
                        }
                        const int32_t pixel = above / l.stride * l.out_width + left / l.stride;
                        for (int32_t o = 0; o < per_group; o++) {
                            const int32_t channel = c / inner * per_group + o;
                            acc +=
                                g[pixel * l.outputs + channel] *
                                w[((channel * l.kernel + kh) * l.kernel + kw) * inner + c % inner];
                        }
                    }
                }
                const int32_t at = (h * l.width + col) * l.inputs + c;
                dx[at] = 0;
                if (x[at] > low && x[at] < high) {
                    dx[at] = (int8_t)od_count_gradient(
                        od_scale(acc, multiplier[c], shift[c] - exponent), acc == 0, scale);
                }
            }
        }
    }
}

NAIVE void naive_conv2d_dw(naive_layer_t l, const int8_t *g, const int8_t *x, int32_t x_zero,
                           const float *unit, float rate, int16_t *w) {
    const int32_t inner = l.inputs / l.groups, per_group = l.outputs / l.groups;
    for (int32_t o = 0; o < l.outputs; o++) {
        for (int32_t kh = 0; kh < l.kernel; kh++) {
            for (int32_t kw = 0; kw < l.kernel; kw++) {
                for (int32_t i = 0; i < inner; i++) {
                    const int32_t c = o / per_group * inner + i;
                    int32_t acc = 0;
                    for (int32_t oh = 0; oh < l.out_height; oh++) {
                        const int32_t row = oh * l.stride + kh - l.before;
                        for (int32_t ow = 0; ow < l.out_width; ow++) {
                            const int32_t column = ow * l.stride + kw - l.before;
                            if (row < 0 || row >= l.height || column < 0 || column >= l.width) {
                                continue;
                            }
                            acc += g[(oh * l.out_width + ow) * l.outputs + o] *
                                   (x[(row * l.width + column) * l.inputs + c] - x_zero);
                        }
                    }
                    const int32_t at = ((o * l.kernel + kh) * l.kernel + kw) * inner + i;
                    const int32_t change = od_delta(acc, unit[o] * rate);
                    w[at] = (int16_t)od_update_q88(w[at], change);
                }
            }
        }
    }
}
