/* The sensor of a simulated board: a file of recorded samples, made by
 * tools/ondevice/simulated_files.py: "ODSENSOR", channels u32, rate f32, then float32 values. */
#include <string.h>

#include "board.h"
#include "ondevice/model.h"
#include "simulated_file.h"

#if OD_STORAGE_IN_FILE

#define MAGIC "ODSENSOR"
#define BAD_SENSOR_EXIT_CODE 97

typedef struct {
    char magic[8];
    uint32_t channels;
    float rate_hz;
} header_t;

static od_sensor_t sensor;
static uint32_t place; /* of the next sample in the file */

static int32_t read_sample(void *context, float *values) {
    (void)context;
    const uint32_t bytes = sensor.channels * (uint32_t)sizeof *values;
    const int32_t status = simulated_file_read(SENSOR_FILE, place, values, bytes);
    if (status == OD_OK) {
        place += bytes;
    }
    return status;
}

const od_sensor_t *board_sensor(void) {
    header_t header;
    if (!simulated_file_open(SENSOR_FILE)) {
        return 0;
    }
    const int32_t status = simulated_file_read(SENSOR_FILE, 0, &header, sizeof header);
    if (status != OD_OK || memcmp(header.magic, MAGIC, sizeof header.magic) != 0 ||
        header.channels == 0 || header.channels > OD_SENSOR_CHANNELS_MAX) {
        board_report("\nthe file of the simulated sensor is not one\n");
        board_exit(BAD_SENSOR_EXIT_CODE);
    }
    place = sizeof header;
    sensor = (od_sensor_t){
        .channels = header.channels,
        .rate_hz = header.rate_hz,
        .read = read_sample,
    };
    return &sensor;
}

#else
/* A board without a sensor of its own; yours takes its place. */
__attribute__((weak)) const od_sensor_t *board_sensor(void) { return 0; }
#endif
