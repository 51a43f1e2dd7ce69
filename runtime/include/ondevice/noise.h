/* Gaussian noise in integers for differential privacy, from a key: the same bits everywhere.
 *
 * The discrete Gaussian (Canonne, Kamath, Steinke, 2020), always of one standard deviation,
 * 98496.57: the compiler chooses the unit of the sums so that it is the one that is asked for. A
 * sum of four narrow ones from a table (Micciancio and Walter, 2017). No floating point takes part,
 * so nothing of a sum shows in the low bits of what is released (Mironov, 2012).
 */
#ifndef ONDEVICE_NOISE_H
#define ONDEVICE_NOISE_H

#include <stdint.h>

/* The noise of one element: a function of key (noise_key.h), update, tensor and element. */
int32_t od_noise(const uint32_t *key, uint32_t update, uint32_t tensor, uint32_t element);

/* Add its noise to each sum; sums lie within +-2^30, noise within +-2^20. */
void od_add_noise(int32_t *sums, uint32_t count, const uint32_t *key, uint32_t update,
                  uint32_t tensor);

#endif
