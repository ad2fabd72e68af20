/* A GPU in software: what of NVIDIA's driver is called, on the computer's own memory.

   Work on a stream is done when it is put there, so nothing overlaps; what is captured is kept and done when
   the graph is launched. The environment says what the card is, and what goes wrong:

   SIMULATED_GPU       its name; SIMULATED_CAPABILITY: 89; SIMULATED_GPUS: how many, 1
   SIMULATED_CUDA      the newest CUDA that the driver runs, 13000; SIMULATED_DRIVER: its version
   SIMULATED_MEMORY    bytes that may be allocated
   SIMULATED_PINNING   0: memory cannot be pinned, as under WSL */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, NO_DEVICE = 100, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, NOT_SUPPORTED = 801 };

typedef unsigned long long Address;
typedef void (*Function)(void *);

typedef struct {
    void *to;
    const void *from;
    size_t size;
    Function function; /* in place of a copy */
    void *data;
} Work;

typedef struct {
    Work *works;
    int count;
} Graph;

typedef struct {
    Graph *captured; /* while it captures */
} Stream;

static size_t in_use;
static int fault; /* of work that was done, which whoever waits next is told, and everybody after */

void simulatedFault(void) { fault = ILLEGAL_ADDRESS; }

static long number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static size_t total(void) { return (size_t)number("SIMULATED_MEMORY", 8L << 30); }

static void perform(const Work *work)
{
    if (work->function)
        work->function(work->data);
    else
        memcpy(work->to, work->from, work->size);
}

static int put(Stream *stream, Work work)
{
    Graph *graph = stream ? stream->captured : NULL;
    if (!graph) {
        perform(&work);
        return SUCCESS;
    }
    graph->works = realloc(graph->works, (graph->count + 1) * sizeof work);
    graph->works[graph->count++] = work;
    return SUCCESS;
}

/* -- the card ------------------------------------------------------------------------------------------- */

int cuInit(unsigned flags) { return number("SIMULATED_GPUS", 1) ? SUCCESS : NO_DEVICE; }
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
    return number("SIMULATED_PINNING", 1) ? SUCCESS : NOT_SUPPORTED;
}
int cuMemHostRegister_v2(void *address, size_t size, unsigned flags) { return cuMemHostRegister(address, size, flags); }
int cuMemHostUnregister(void *address) { return SUCCESS; }

/* -- streams and events --------------------------------------------------------------------------------- */

int cuStreamCreate(Stream **stream, unsigned flags) { *stream = calloc(1, sizeof **stream); return SUCCESS; }
int cuStreamDestroy(Stream *stream) { free(stream); return SUCCESS; }
int cuStreamSynchronize(Stream *stream) { return fault; }
int cuStreamWaitEvent(Stream *stream, void *event, unsigned flags) { return SUCCESS; }
int cuEventCreate(void **event, unsigned flags) { *event = malloc(1); return SUCCESS; }
int cuEventDestroy(void *event) { free(event); return SUCCESS; }
int cuEventRecord(void *event, Stream *stream) { return SUCCESS; }
int cuEventSynchronize(void *event) { return fault; }

int cuMemcpyHtoDAsync(Address to, const void *from, size_t size, Stream *stream)
{
    return put(stream, (Work){(void *)(size_t)to, from, size, NULL, NULL});
}

int cuMemcpyDtoHAsync(void *to, Address from, size_t size, Stream *stream)
{
    return put(stream, (Work){to, (void *)(size_t)from, size, NULL, NULL});
}

int cuLaunchHostFunc(Stream *stream, Function function, void *data)
{
    return put(stream, (Work){NULL, NULL, 0, function, data});
}

/* -- graphs --------------------------------------------------------------------------------------------- */

int cuStreamBeginCapture(Stream *stream, int mode)
{
    stream->captured = calloc(1, sizeof(Graph));
    return SUCCESS;
}

int cuStreamEndCapture(Stream *stream, Graph **graph)
{
    *graph = stream->captured;
    stream->captured = NULL;
    return SUCCESS;
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
    for (int i = 0; i < graph->count; i++)
        put(stream, graph->works[i]);
    return SUCCESS;
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
