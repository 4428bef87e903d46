#ifndef BURIN_H
#define BURIN_H
/* The ABI of compiled models. All offsets in an image are from its first byte. */
#include <stdint.h>

#define BURIN_ABI_VERSION 4
#define BURIN_ALIGN 64 /* of weights and arena */

#if defined(_WIN32) && defined(__x86_64__)
#define BURIN_CALL __attribute__((sysv_abi))
#elif defined(_WIN32) && defined(_M_X64)
#error "compiled models have the System V calling convention: use clang or gcc"
#else
#define BURIN_CALL
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Tensors are dense and row-major. An element takes a byte at least: of a type below 8 bits (i4, u4,
   i2, u2, f4e2m1) it is the low bits, and the others repeat the sign of an integer or are zero. An element
   of text is an int64_t, the number of a text: equal texts have equal numbers in a call. The model's own
   texts, if it has any, come first (NAME_TEXTS lists them); whoever calls gives numbers to others. */

enum {
    BURIN_OK = 0,
    BURIN_BAD_DIM = 1,      /* dimension `node` is `found`, which is out of range */
    BURIN_CPU = 2,          /* the CPU lacks the features of the mask `found`, which the lowest level needs */
    BURIN_TOO_LARGE = 3,    /* a size overflows */
    BURIN_OUT_OF_RANGE = 4, /* an operand of node `node` is out of range */
    BURIN_NO_MEMORY = 5,    /* `alloc` gave no memory */
    BURIN_HOST = 6          /* `host_op` failed at node `node`, or there is none */
};

typedef struct {
    int32_t code;
    uint32_t node;
    int64_t found;
    int64_t expected;
} burin_status;

typedef struct {
    const int64_t *dims;  /* in: the dimensions */
    uint32_t workers;     /* in: at most so many workers, at least 1 */
    uint32_t variant;     /* out: which CPU level's code was chosen, for burin_call */
    uint64_t arena_bytes; /* out */
    int64_t *input_dims;  /* out: the extents of all inputs, or NULL */
    int64_t *output_dims; /* out: the extents of all outputs, 0 where they depend on the data */
    burin_status status;  /* out */
} burin_plan;

/* Runs the tasks begin..end. */
typedef BURIN_CALL void (*burin_task)(const uint64_t *frame, int64_t begin, int64_t end, int64_t worker);
/* Runs every task below `tasks` once and returns when all are done. */
typedef BURIN_CALL void (*burin_parallel_for)(void *host, burin_task task, const uint64_t *frame, int64_t tasks);
/* Gives memory for a slot, aligned to BURIN_ALIGN, in place of what it had. Slots below the number of
   outputs are outputs whose size depends on the data; what others get is free again after the call. */
typedef BURIN_CALL uint8_t *(*burin_alloc)(void *host, uint32_t slot, uint64_t bytes);
/* Calls the function of that number in NAME_HOST_OPS. Of each of its inputs and then
   each of its outputs the frame has a pointer and the number of elements there. Answers 0 for success. */
typedef BURIN_CALL int32_t (*burin_host_op)(void *host, uint32_t op, const uint64_t *frame);
/* Called before (done 0) and after (done 1) each step. */
typedef BURIN_CALL void (*burin_trace)(void *host, uint32_t step, uint32_t done);

typedef struct {
    const void *weights;
    void *arena; /* as large as the plan says, aligned to BURIN_ALIGN */
    const void *const *inputs;
    void *const *outputs;
    int64_t *output_dims; /* as the plan gave them; those that depend on data are overwritten */
    void *const *states;
    const int64_t *dims;
    uint32_t workers; /* at least 1 */
    uint32_t variant; /* as the plan in this process gave it; 0: ask the CPU again, which is slow */
    void *host;       /* passed to the callbacks */
    burin_parallel_for parallel_for; /* NULL: everything on the calling thread */
    burin_alloc alloc;               /* NULL where no size depends on the data */
    burin_host_op host_op;           /* NULL where the model calls none */
    burin_trace trace;               /* NULL: not traced */
    burin_status status;             /* out */
} burin_call;

#ifdef __cplusplus
}
#endif
#endif
