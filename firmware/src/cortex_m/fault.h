/* Faults: caught, written down, sent, and survived by a restart. */
#ifndef ONDEVICE_FIRMWARE_FAULT_H
#define ONDEVICE_FIRMWARE_FAULT_H

/* Each fault its own exception, and division by zero one of them. */
void faults_enable(void);

/* For the vector table. */
void fault_handler(void);
void nmi_handler(void);

#endif
