/* The flash of a simulated board: none yet. */
#include "board.h"

#if OD_STORAGE_IN_FILE

const od_storage_t *board_storage(void) { return 0; }

#else
typedef int od_real_flash_t; /* ISO C wants something in every file */
#endif
