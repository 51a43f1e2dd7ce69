/* The clipped gradient of one sample, added to sums of integers: the sensitive part of DP-SGD
 * (Abadi et al., 2016).
 *
 * Sums are integers and values are rounded towards zero, so one sample moves the sums by no more
 * than the limit, exactly: sums of floating-point numbers do not keep that promise (Casacuberta et
 * al., 2022).
 */
#ifndef ONDEVICE_PRIVATE_SUM_H
#define ONDEVICE_PRIVATE_SUM_H

#include <stdint.h>

#define OD_LARGEST_SUM (1 << 30) /* where sums stop */

/* A sum of squares with what its additions lost (Kahan, 1965): not one of many elements is lost. */
typedef struct {
    float total;
    float lost;
} od_squares_t;

void od_squares_add(od_squares_t *squares, const float *values, uint32_t count);

/* units * min(1, limit / norm): what makes sums of a gradient's elements; 0 where the norm is not
 * finite. `limit` is 2^-20 less than what is promised, for the roundings on the way. */
float od_private_factor(const od_squares_t *squares, float limit, float units);

/* sums += gradient * factor, towards zero. */
void od_private_add(int32_t *sums, const float *gradient, uint32_t count, float factor);

#endif
