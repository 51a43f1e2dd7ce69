/* Counts the starts of a board in flash, so that no two starts ever have the same number.
 *
 * Each bank keeps room for marks behind the log of checkpoints. A mark is the number of a start. A
 * start puts its mark into both banks; whoever erases one marks it again with the highest number of
 * both. So a cut of power at any time leaves the highest number in at least one bank.
 */
#ifndef ONDEVICE_START_COUNT_H
#define ONDEVICE_START_COUNT_H

#include "ondevice/model.h"
#include "ondevice/storage.h"

/* Keep a sixteenth of each bank of a driver's storage for marks; the rest is for the log. */
od_storage_t od_starts_reserve(const od_storage_t *whole);

/* The highest number in either bank; 0: no start was counted yet. */
uint32_t od_starts_count(const od_storage_t *storage);

/* Mark an erased bank, or one that has room left; OD_OK once the mark was read back. */
int32_t od_starts_mark(const od_storage_t *storage, uint32_t bank, uint32_t number);

/* Number this start: one more than any before. Where a bank is full of marks it is erased, once
 * the model's newest and best checkpoints are in the other one. Below 0: flash did not keep the
 * number, and it must not be used. */
int32_t od_starts_next(const od_storage_t *storage, const od_model_t *model, uint32_t *number);

#endif
