/* Numbers of the protocol: message types, regions, errors. docs/PROTOCOL.md has the payloads. */
#ifndef ONDEVICE_MESSAGES_H
#define ONDEVICE_MESSAGES_H

/* Requests, host to device. The reply to request T is T | OD_REPLY, or OD_ERROR; so 0x40 to 0x43
 * are none. */
typedef enum {
    OD_HELLO = 0x01,
    OD_WRITE = 0x02,
    OD_READ = 0x03,
    OD_DESCRIBE = 0x04,
    OD_IDENTIFY = 0x05,
    OD_TRAIN = 0x10,
    OD_EVALUATE = 0x11,
    OD_APPLY = 0x12,
    OD_SCHEDULE = 0x13,
    OD_READ_COUNTERS = 0x20,
    OD_RESET_COUNTERS = 0x21,
    OD_MEMORY = 0x22,
    OD_PAINT = 0x23,
    OD_PARAMETERS_BEGIN = 0x30,
    OD_PARAMETERS_COMMIT = 0x31,
    OD_RESET_MODEL = 0x32,
    OD_BYE = 0x3F,
    OD_CHECKPOINT_SAVE = 0x50,
    OD_CHECKPOINT_LOAD = 0x51,
    OD_CHECKPOINT_LIST = 0x52,
    OD_CHECKPOINT_ERASE = 0x53,
    OD_SENSOR_DESCRIBE = 0x60,
    OD_SENSOR_READ = 0x61,
    OD_SENSOR_SETUP = 0x62,
    OD_SENSE = 0x63,
    OD_ROUND_END = 0x70,
    OD_ROUND_READ = 0x71,
    OD_ROUND_PULL = 0x72
} od_request_type_t;

/* Flags of PARAMETERS_BEGIN; without a payload all parameters follow. */
#define OD_BEGIN_ROUND 0x01u /* only weights follow: those that a round begins with */
#define OD_BEGIN_TAKEN 0x02u /* the server has averaged what the last round sent */
#define OD_BEGIN_AGAIN                                                                             \
    0x04u /* the running round, from its own weights: what it learnt is forgotten */

#define OD_REPLY 0x80u /* set in all that the device sends */
#define OD_READY 0xC0u /* not asked for: the board has just started */
#define OD_NAK 0xC1u   /* a frame was not executed */
#define OD_ERROR 0xC2u /* the reply to a request that was refused or failed */
#define OD_FAULT 0xC3u /* not asked for: the firmware's last words before it restarts */

typedef enum {
    OD_NAK_CORRUPT = 1,       /* no frame, or a wrong CRC */
    OD_NAK_GAP = 2,           /* requests before this one are missing */
    OD_NAK_SESSION = 3,       /* HELLO comes first */
    OD_NAK_VERSION = 4,       /* the device speaks the version in this header */
    OD_NAK_AUTHENTICATION = 5 /* the frame's authentication tag is wrong or missing */
} od_nak_reason_t;

typedef enum {
    OD_FAIL_NONE = 0,
    OD_FAIL_REQUEST = 1,      /* no such request */
    OD_FAIL_LENGTH = 2,       /* payload too short or too long for the request */
    OD_FAIL_REGION = 3,       /* no such region or index */
    OD_FAIL_RANGE = 4,        /* offset and length reach beyond the region or the payload */
    OD_FAIL_READ_ONLY = 5,    /* of the region: always, or outside PARAMETERS_BEGIN and _COMMIT */
    OD_FAIL_STATE = 6,        /* the upload of parameters is incomplete, or none was begun */
    OD_FAIL_VALUE = 7,        /* an argument that is not a finite number, or out of its range */
    OD_FAIL_NUMERIC = 8,      /* the loss is not finite; nothing was updated */
    OD_FAIL_MODEL = 9,        /* the model returned another error: see detail */
    OD_FAIL_UNSUPPORTED = 10, /* this model or board has no such thing */
    OD_FAIL_CRC = 11,         /* of all parameters: see detail for the device's */
    OD_FAIL_SCHEDULE = 12,    /* TRAIN or APPLY without a rate, and no SCHEDULE before */
    OD_FAIL_STORAGE = 13,     /* the flash could not be written or has no room: see detail */
    OD_FAIL_CHECKPOINT = 14,  /* no whole checkpoint of this model has that number */
    OD_FAIL_PRIVATE = 15,     /* this build does not let it leave the device */
    OD_FAIL_IMAGE = 16, /* the firmware is damaged: only HELLO, IDENTIFY and BYE are executed */
    OD_FAIL_SENSOR = 17 /* the board's sensor gave no sample, or one that is no finite number */
} od_failure_t;

/* What ended the firmware's last run, in FAULT. */
typedef enum {
    OD_FAULT_HARD = 1,      /* a core without words for its cause, or a fault within a fault */
    OD_FAULT_MEMORY = 2,    /* MemManage */
    OD_FAULT_BUS = 3,       /* BusFault */
    OD_FAULT_USAGE = 4,     /* UsageFault */
    OD_FAULT_STACK = 5,     /* any of them, by a stack that overflowed */
    OD_FAULT_WATCHDOG = 6,  /* pc tells where it hung, if it is known */
    OD_FAULT_NMI = 7,       /* nobody knows why */
    OD_FAULT_INTERRUPT = 8, /* one that nobody asked for */
    OD_FAULT_BROWN_OUT = 9  /* the supply fell too low */
} od_fault_kind_t;

typedef enum {
    OD_REGION_INPUT = 0,
    OD_REGION_LABEL = 1,
    OD_REGION_OUTPUT = 2,    /* read only */
    OD_REGION_PARAMETER = 3, /* indexed; writable between PARAMETERS_BEGIN and _COMMIT */
    OD_REGION_SCALES = 4,    /* od_grad_scale_t[], 20 bytes each; writable as parameters are */
    OD_REGION_PROFILE = 5    /* uint32_t ticks of each operator; read only */
} od_region_id_t;

/* Flags of DEVICE_INFO. */
#define OD_INFO_PARAMETERS_VALID 0x01u  /* no upload was cut short */
#define OD_INFO_ALLOW_EXPORT 0x02u      /* private tensors may be read */
#define OD_INFO_KEEPS_CHECKPOINTS 0x04u /* the board has flash for them */
#define OD_INFO_RESTORED 0x08u          /* the parameters came from one at start */
#define OD_INFO_AUTHENTICATED 0x10u     /* only those who have the key are served */
#define OD_INFO_IMAGE_DAMAGED 0x20u     /* the firmware is not what was built */

#endif
