/* Square root in float32, correctly rounded: the same on every CPU, without libm. */
#ifndef ONDEVICE_SQUARE_ROOT_H
#define ONDEVICE_SQUARE_ROOT_H

/* sqrt(x); 0 for whatever is not above 0 (NaN included), infinity for infinity. */
float od_square_root(float x);

#endif
