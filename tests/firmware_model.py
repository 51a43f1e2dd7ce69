"""The model of the firmware's tests: tests/c/fake_model.c; some labels cost or break something.

What they cost is known, so that measurements have something to be checked against; where they break
the firmware, the line says so in a comment.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAKE_MODEL = (ROOT / "tests" / "c" / "fake_model.c").read_text(encoding="utf-8")
LABEL_NOPS, NOPS = 701, 4000
LABEL_DEEP, DEEP_BYTES = 702, 1500
(
    UNDEFINED,
    ACCESS,
    DIVISION,
    LONG_DIVISION,
    JUMP,
    RECURSION,
    ARRAY,
    HANG,
    CUT_FRAME,
    CANARY,
    LAST_BYTES,
) = range(900, 911)
CANARY_WORDS = 64
COSTS = f"""
static volatile uint32_t initialised = 12345u;
__attribute__((noinline, noclone)) static void go_deep(void) {{
    volatile uint8_t deep[{DEEP_BYTES}];
    for (uint32_t i = 0; i < sizeof deep; i++) {{
        deep[i] = 1;
    }}
#ifdef __arm__
    extern uint32_t od_stack_top; /* of the linker script */
    output[1] = (float)((uintptr_t)&od_stack_top - (uintptr_t)deep);
#endif
}}
/* A function of its own: nothing needs to reach over it. */
__attribute__((noinline, noclone)) static void run_nops(void) {{
    __asm__ volatile(".rept {NOPS}\\n nop\\n .endr");
}}
"""
BRANCHES = f"""
    misbehave();
    if (initialised != 12345u) {{
        __builtin_trap();
    }}
    if (label == {LABEL_NOPS}u) {{
        run_nops();
    }}
    if (label == {LABEL_DEEP}u) {{
        go_deep();
    }}
"""
CULPRITS = f"""
#ifdef __arm__
void board_write(const uint8_t *bytes, uint32_t n);
void board_watchdog_start(uint32_t timeout_ms);
#define CULPRIT __attribute__((noinline, noclone)) static
/* No start clears it: what a run did to it can be seen in the next. Beside the stacks. */
static uint32_t canary[{CANARY_WORDS}] __attribute__((section(".noinit")));
static volatile int32_t zero;
static volatile int64_t long_zero;
CULPRIT void run_undefined(void) {{
    __asm__ volatile("udf #7"); /* line of {UNDEFINED} */
}}
CULPRIT void store_nowhere(void) {{
    *(volatile uint32_t *)0xE8000000u = 1; /* line of {ACCESS} */
}}
CULPRIT float divide(void) {{
    return (float)(1000 / zero); /* line of {DIVISION} */
}}
CULPRIT float divide_long(void) {{
    return (float)(1000 / long_zero); /* line of {LONG_DIVISION} */
}}
CULPRIT void jump_nowhere(void) {{
    ((void (*)(void))0xE8000001u)();
    zero = 0; /* or the call were a jump */
}}
CULPRIT uint32_t recurse(uint32_t n) {{
    volatile uint32_t frame[4] = {{n}};
    return n == 0u ? 1u : recurse(n + 1u) + frame[0]; /* line of {RECURSION} */
}}
CULPRIT void fill_array(void) {{
    volatile uint8_t large[40000];
    for (uint32_t i = 0; i < sizeof large; i++) {{
        large[i] = 0;
    }}
}}
CULPRIT void hang(void) {{
    board_watchdog_start(20); /* sooner than 30 s of simulated time */
    for (;;) {{
        zero = 0; /* line of {HANG} */
    }}
}}
CULPRIT void write_half_a_frame(void) {{
    static const uint8_t half[] = {{0, 9, 3, 0x91, 1, 2, 3, 4}};
    board_write(half, sizeof half);
    __builtin_trap(); /* line of {CUT_FRAME} */
}}
CULPRIT void use_last_bytes(void) {{
    extern volatile uint32_t od_stack_limit[];
    od_stack_limit[3] = 1;
}}
static void misbehave(void) {{
    for (uint32_t i = 0; label != {CANARY}u && i < {CANARY_WORDS}u; i++) {{
        canary[i] = 0xC0FFEE00u + i;
    }}
    switch (label) {{
    case {UNDEFINED}: run_undefined(); break;
    case {ACCESS}: store_nowhere(); break;
    case {DIVISION}: output[1] = divide(); break;
    case {LONG_DIVISION}: output[1] = divide_long(); break;
    case {JUMP}: jump_nowhere(); break;
    case {RECURSION}: output[1] = (float)recurse(1); break;
    case {ARRAY}: fill_array(); break;
    case {HANG}: hang(); break;
    case {CUT_FRAME}: write_half_a_frame(); break;
    case {LAST_BYTES}: use_last_bytes(); break;
    case {CANARY}:
        output[2] = 0.0f;
        for (uint32_t i = 0; i < {CANARY_WORDS}u; i++) {{
            output[2] += canary[i] == 0xC0FFEE00u + i ? 1.0f : 0.0f;
        }}
        break;
    default: break;
    }}
}}
#else
static void misbehave(void) {{}}
#endif
"""


def write_model(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.c").write_text(text, encoding="utf-8")
    return folder


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


def costly_model() -> str:
    head = "static int32_t evaluate(od_result_t *result, od_trace_t *trace) {"
    return replaced(FAKE_MODEL, head, COSTS + CULPRITS + head + BRANCHES)
