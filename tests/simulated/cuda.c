/* A GPU in software: what of NVIDIA's driver is called, on the computer's own memory.

   Work is done late and in any order that streams and events allow (queues.h), so that an event that is missing
   comes out; what is captured is kept and begun when the graph is launched. Where something is given back that
   work under way needs, the process ends. The environment says what the card is, and what goes wrong:

   SIMULATED_GPU       its name; SIMULATED_CAPABILITY: 89; SIMULATED_GPUS: how many, 1
   SIMULATED_CUDA      the newest CUDA that the driver runs, 13000; SIMULATED_DRIVER: its version
   SIMULATED_MEMORY    bytes that may be allocated
   SIMULATED_PINNING   0: memory cannot be pinned, as under WSL
   SIMULATED_SPOILT    the so-manieth capture fails, counted from cuInit on
   SIMULATED_SEED      which of the orders, and how soon, anew with each cuInit
   SIMULATED_FAULT     a file: once it is there, the card fails, and the file is gone */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "queues.h"

enum { INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, NOT_FOUND = 500, NOT_SUPPORTED = 801 };
enum { CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };
enum { THREAD_LOCAL = 1 }; /* a mode of capture */

typedef unsigned long long Address;

static size_t in_use;
static int captures;
static size_t total(void) { return (size_t)number("SIMULATED_MEMORY", 8L << 30); }

/* -- the card ------------------------------------------------------------------------------------------- */

int cuInit(unsigned flags) { begin(); captures = 0; return number("SIMULATED_GPUS", 1) ? SUCCESS : NO_DEVICE; }
int cuDriverGetVersion(int *version) { *version = (int)number("SIMULATED_CUDA", 13000); return SUCCESS; }
int cuDeviceGetCount(int *count) { *count = (int)number("SIMULATED_GPUS", 1); return SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return SUCCESS; }

int cuDeviceGetName(char *name, int size, int device)
{
    const char *text = getenv("SIMULATED_GPU");
    snprintf(name, size, "%s", text ? text : "card in software");
    return SUCCESS;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    long capability = number("SIMULATED_CAPABILITY", 89);
    *value = (int)(attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : 0);
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &in_use; return SUCCESS; }
int cuDevicePrimaryCtxRelease(int device) { return SUCCESS; }
int cuCtxPushCurrent(void *context) { return SUCCESS; }
int cuCtxPopCurrent(void **context) { *context = &in_use; return SUCCESS; }

/* -- memory --------------------------------------------------------------------------------------------- */

int cuMemAlloc(Address *address, size_t size)
{
    ALONE;
    if (fault)
        return fault;
    size_t whole = (size + 255) / 256 * 256, *block;
    if (in_use + whole > total() || posix_memalign((void **)&block, 256, whole + 256))
        return OUT_OF_MEMORY;
    memset(block, 0xA5, whole + 256); /* what nobody has written is no number that can be used */
    *block = whole;
    in_use += whole;
    *address = (Address)(size_t)block + 256;
    return SUCCESS;
}

int cuMemFree(Address address)
{
    ALONE;
    for (int i = 0; i < streams_there; i++) /* as the real one: it waits for everything */
        drain(streams[i]);
    size_t *block = (size_t *)(size_t)(address - 256);
    in_use -= *block;
    free(block);
    return SUCCESS;
}

int cuMemGetInfo(size_t *free_, size_t *total_)
{
    *total_ = total();
    *free_ = *total_ - in_use;
    return SUCCESS;
}

int cuMemHostRegister(void *address, size_t size, unsigned flags)
{
    ALONE;
    if (!number("SIMULATED_PINNING", 1))
        return NOT_SUPPORTED;
    if (pinned_there == MOST)
        return OUT_OF_MEMORY;
    pinned[pinned_there].at = address;
    pinned[pinned_there++].size = size;
    return SUCCESS;
}
int cuMemHostRegister_v2(void *address, size_t size, unsigned flags) { return cuMemHostRegister(address, size, flags); }
int cuMemHostUnregister(void *address)
{
    ALONE;
    for (int i = 0; i < pinned_there; i++)
        if (pinned[i].at == address) {
            if (simulatedPending(NULL, address, pinned[i].size))
                wrong("memory is unpinned that work under way copies");
            pinned[i] = pinned[--pinned_there];
            return SUCCESS;
        }
    return INVALID_VALUE;
}

/* -- streams and events --------------------------------------------------------------------------------- */

int cuStreamCreate(Stream **stream, unsigned flags)
{
    ALONE;
    if (fault || streams_there == MOST)
        return fault ? fault : OUT_OF_MEMORY;
    streams[streams_there++] = *stream = calloc(1, sizeof **stream);
    return SUCCESS;
}

int cuStreamDestroy(Stream *stream)
{
    ALONE;
    drain(stream);
    for (int i = 0; i < streams_there; i++)
        if (streams[i] == stream)
            streams[i--] = streams[--streams_there];
    free(stream->queue);
    free(stream);
    return SUCCESS;
}

int cuStreamSynchronize(Stream *stream)
{
    ALONE;
    drain(stream);
    return fault;
}

int cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags)
{
    return event->recorded ? put(stream, (Work){.event = event, .times = event->recorded, .held = 1}) : SUCCESS;
}

int cuStreamIsCapturing(Stream *stream, int *status) { *status = stream->captured != NULL; return SUCCESS; }

int cuEventCreate(Event **event, unsigned flags) { *event = calloc(1, sizeof **event); return SUCCESS; }
int cuEventDestroy(Event *event) { return SUCCESS; } /* it stays: work under way may record it or wait for it */
int cuEventRecord(Event *event, Stream *stream)
{
    return put(stream, (Work){.event = event, .times = ++event->recorded});
}

int cuEventSynchronize(Event *event)
{
    ALONE;
    const char *failing = getenv("SIMULATED_FAULT");
    if (failing && !unlink(failing))
        simulatedFault();
    for (int wanted = event->recorded; !fault && event->come < wanted;)
        if (!step())
            wrong("an event is waited for that never comes");
    return fault;
}

int cuMemcpyHtoDAsync(Address to, const void *from, size_t size, Stream *stream)
{
    void *staged = NULL;
    if (!is_pinned(from)) {
        if (stream->captured)
            return CAPTURE_UNSUPPORTED;
        from = staged = memcpy(malloc(size), from, size);
    }
    return put(stream, (Work){.to = (void *)(size_t)to, .from = from, .size = size, .staged = staged});
}

int cuMemcpyDtoHAsync(void *to, Address from, size_t size, Stream *stream)
{
    ALONE;
    int direct = is_pinned(to);
    if (!direct && stream->captured)
        return CAPTURE_UNSUPPORTED;
    int code = put(stream, (Work){.to = to, .from = (void *)(size_t)from, .size = size});
    if (!direct)
        drain(stream); /* it returns when all is there */
    return code;
}

int cuLaunchHostFunc(Stream *stream, Function function, void *data)
{
    return put(stream, (Work){.function = function, .data = data});
}

/* -- graphs --------------------------------------------------------------------------------------------- */

int cuStreamBeginCapture(Stream *stream, int mode)
{
    if (mode != THREAD_LOCAL) /* in others what another thread does meanwhile spoils it */
        return CAPTURE_UNSUPPORTED;
    stream->captured = calloc(1, sizeof(Graph));
    return SUCCESS;
}

int cuStreamEndCapture(Stream *stream, Graph **graph)
{
    *graph = stream->captured;
    stream->captured = NULL;
    return ++captures == number("SIMULATED_SPOILT", 0) ? CAPTURE_INVALIDATED : SUCCESS;
}

int cuGraphInstantiate(Graph **instance, Graph *graph, unsigned long long flags)
{
    Graph *made = *instance = calloc(1, sizeof *made);
    made->count = graph->count;
    made->works = memcpy(malloc(graph->count * sizeof(Work) + 1), graph->works, graph->count * sizeof(Work));
    return SUCCESS;
}
int cuGraphInstantiateWithFlags(Graph **instance, Graph *graph, unsigned long long flags)
{
    return cuGraphInstantiate(instance, graph, flags);
}

int cuGraphLaunch(Graph *graph, Stream *stream)
{
    int code = SUCCESS;
    for (int i = 0; i < graph->count && code == SUCCESS; i++)
        code = put(stream, graph->works[i]);
    return code;
}

int cuGraphDestroy(Graph *graph) { free(graph->works); free(graph); return SUCCESS; }
int cuGraphExecDestroy(Graph *graph) { return cuGraphDestroy(graph); }

/* -- who asks for functions by name --------------------------------------------------------------------- */

int cuGetProcAddress_v2(const char *symbol, void **function, int version, unsigned long long flags, int *status)
{
    Dl_info here;
    dladdr((void *)cuInit, &here);
    *function = dlsym(dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD), symbol);
    if (status)
        *status = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}
int cuGetProcAddress(const char *symbol, void **function, int version, unsigned long long flags)
{
    return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}

/* -- NVML: a library of its own, as which this one is linked, too ---------------------------------------- */

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
int nvmlSystemGetDriverVersion(char *version, unsigned size)
{
    const char *text = getenv("SIMULATED_DRIVER");
    snprintf(version, size, "%s", text ? text : "580.65.06");
    return SUCCESS;
}
