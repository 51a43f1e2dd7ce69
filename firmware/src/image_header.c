/* A file of its own: the compiler must not know what the host will write here. */
#include "image_header.h"

const od_image_t od_image OD_IMAGE_SECTION = {.magic = {'O', 'D', 'I', 'M', 'A', 'G', 'E', '1'}};
