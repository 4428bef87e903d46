/* Asks a model that is linked into the program which digit a drawing shows.
 *
 *     burin build ../digits/digits.onnx -o digits.o --emit obj
 *     cc -O2 main.c digits.o -o digits && ./digits
 *
 * `digits.o` and `digits.h` come out of the first command; nothing else is linked. */
#include "digits.h"
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 2, PIXELS = 64, CLASSES = 10 };

/* `#` is ink, `+` is grey. */
static const char *const drawings[BATCH][8] = {
    {"  ####+ ", "  +++## ", "    +#+ ", "  +###++", "  ++#+++", "   +#   ", "   ##   ", "   #+   "},
    {"   ##   ", "  #++#  ", " +#  +# ", " #+   # ", " #+   # ", " +#  +# ", "  #++#  ", "   ##   "},
};

static float ink(char c) {
    return c == '#' ? 16 : c == '+' ? 8 : 0;
}

/* Says what went wrong; for `main` to return. */
static int fail(const char *what, const burin_status *s) {
    fprintf(stderr, "%s: code %d, at %u, found %lld, expected %lld\n", what, (int)s->code, (unsigned)s->node,
            (long long)s->found, (long long)s->expected);
    return 1;
}

int main(void) {
    static float images[BATCH][PIXELS], probabilities[BATCH][CLASSES];
    for (int b = 0; b < BATCH; b++)
        for (int p = 0; p < PIXELS; p++) images[b][p] = ink(drawings[b][p / 8][p % 8]);

    /* What does a call with a batch of two need? */
    int64_t dims[DIGITS_DIMS] = {[DIGITS_DIM_BATCH] = BATCH};
    int64_t shapes[DIGITS_OUTPUT_RANKS];
    burin_plan plan = {.dims = dims, .workers = 1, .output_dims = shapes};
    if (digits_plan(&plan) != BURIN_OK) return fail("plan", &plan.status);
    if (shapes[0] != BATCH || shapes[1] != CLASSES) {
        fprintf(stderr, "the output has an unexpected shape\n");
        return 1;
    }

    /* The arena may be kept from call to call; it must be aligned, and so is its size here. */
    size_t bytes = (plan.arena_bytes + BURIN_ALIGN) / BURIN_ALIGN * BURIN_ALIGN;
    void *arena = aligned_alloc(BURIN_ALIGN, bytes);
    if (!arena) return 1;

    const void *inputs[DIGITS_INPUTS] = {[DIGITS_INPUT_IMAGE] = images};
    void *outputs[DIGITS_OUTPUTS] = {[DIGITS_OUTPUT_PROBABILITIES] = probabilities};
    burin_call call = {
        .weights = digits_weights,
        .arena = arena,
        .inputs = inputs,
        .outputs = outputs,
        .output_dims = shapes,
        .dims = dims,
        .workers = 1,
        .variant = plan.variant, /* which CPU level's code to run: the CPU is asked in the plan alone */
    };
    if (digits_run(&call) != BURIN_OK) return fail("run", &call.status);
    free(arena);

    for (int b = 0; b < BATCH; b++) {
        int best = 0;
        for (int c = 1; c < CLASSES; c++)
            if (probabilities[b][c] > probabilities[b][best]) best = c;
        printf("drawing %d is a %d, with probability %.3f\n", b, best, probabilities[b][best]);
    }

    /* A mistake is answered, not executed. */
    dims[DIGITS_DIM_BATCH] = -1;
    if (digits_plan(&plan) != BURIN_BAD_DIM) return 1;
    printf("a batch of %lld is refused\n", (long long)plan.status.found);
    return 0;
}
