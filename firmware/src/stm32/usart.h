/* The two register layouts of STM32's USARTs: status and one data register (F4), or status, flags
 * to clear and two data registers (all later ones). */
#ifndef ONDEVICE_FIRMWARE_USART_H
#define ONDEVICE_FIRMWARE_USART_H

#include "chip.h"

#define USART(offset) REGISTER(OD_UART_ORIGIN + (offset))

#if defined(USART_HAS_ONE_DATA_REGISTER)
#define USART_STATUS USART(0x00u)
#define USART_RECEIVED USART(0x04u)
#define USART_TO_SEND USART(0x04u)
#define USART_BAUD USART(0x08u)
#define USART_CONTROL USART(0x0Cu)
#define USART_CONTROL_ENABLE (1u << 13)
#else
#define USART_CONTROL USART(0x00u)
#define USART_BAUD USART(0x0Cu)
#define USART_STATUS USART(0x1Cu)
#define USART_CLEAR USART(0x20u)
#define USART_RECEIVED USART(0x24u)
#define USART_TO_SEND USART(0x28u)
#define USART_CONTROL_ENABLE (1u << 0)
#endif

#define USART_CONTROL_RECEIVE (1u << 2)
#define USART_CONTROL_SEND (1u << 3)
#define USART_CONTROL_INTERRUPT (1u << 5) /* on a byte received, and on an overrun */
#define USART_STATUS_RECEIVED (1u << 5)
#define USART_STATUS_MAY_SEND (1u << 7)
#define USART_CLEAR_ERRORS 0xFu /* parity, framing, noise, overrun */

#endif
