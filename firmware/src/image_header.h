/* The header in this image, and where the image lies. */
#ifndef ONDEVICE_FIRMWARE_IMAGE_HEADER_H
#define ONDEVICE_FIRMWARE_IMAGE_HEADER_H

#include "ondevice/image.h"

#define OD_IMAGE_SECTION __attribute__((section(".od_image"), used))

extern const od_image_t od_image;

#if defined(__arm__)
/* Of the linker script: flash from the vectors to the last initial value of RAM. */
extern const uint8_t od_image_start[];
extern const uint8_t od_image_end[];

static inline bool image_is_whole(void) {
    const uint32_t n = (uint32_t)((uintptr_t)od_image_end - (uintptr_t)od_image_start);
    return od_image_is_whole(&od_image, od_image_start, n);
}
#else
/* A process: its loader, not this program, knows the file that it came from. */
static inline bool image_is_whole(void) { return true; }
#endif

#endif
