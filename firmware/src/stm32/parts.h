/* What the shared STM32 drivers give to board.c. */
#ifndef ONDEVICE_FIRMWARE_PARTS_H
#define ONDEVICE_FIRMWARE_PARTS_H

#include <stdint.h>

void usart_init(void);
void counter_init(void);

/* Watch the supply; then wait until it is high enough to write flash. 0 where it stays low. */
void supply_init(void);
int supply_is_good(void);

#endif
