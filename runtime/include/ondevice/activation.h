/* Activation functions in float32, identical on every CPU (no libm). */
#ifndef ONDEVICE_ACTIVATION_H
#define ONDEVICE_ACTIVATION_H

/* 1 / (1 + exp(-x)): relative error below 3e-7 for x above -87. */
float od_sigmoidf(float x);

/* Hyperbolic tangent: relative error below 1e-6. */
float od_tanhf(float x);

/* Error function: absolute error below 7e-7. */
float od_erff(float x);

#endif
