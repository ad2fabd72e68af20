/* Streams of a GPU in software: work waits in the queue of its stream and is done in any order that streams and
   events allow, some of it when more is put there, the rest when somebody waits. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, ILLEGAL_ADDRESS = 700 };
enum { MOST = 1000 }; /* of anything that there is a table of */

typedef void (*Function)(void *);

typedef struct {
    int recorded, come; /* how many times */
} Event;

typedef struct {
    void *to;
    const void *from;
    size_t size;
    void *staged;      /* a copy of what was copied from, where that is not pinned */
    Function function; /* in place of a copy */
    void *data;
    Event *event; /* in place of both: it comes for the so-manieth time, or is waited for */
    int times, held;
} Work;

typedef struct {
    Work *works;
    int count;
} Graph;

typedef struct {
    Graph *captured; /* while it captures */
    Work *queue;
    int first, end, room;
} Stream;

static Stream *streams[MOST];
static struct { char *at; size_t size; } pinned[MOST];
static int streams_there, pinned_there;
static int fault; /* of work that was done, which whoever waits next is told, and everybody after */
static unsigned long long random_state;
static int eager, preferred; /* 1: work is also done when more is put there; a stream, or -1 */
/* One thread at a time; it may run a function that waits for Python, so none waits here while it holds that. */
static pthread_mutex_t card = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static void leave(pthread_mutex_t **taken) { pthread_mutex_unlock(*taken); }
#define ALONE \
    pthread_mutex_t *taken __attribute__((cleanup(leave), unused)) = &card; \
    pthread_mutex_lock(&card)

void simulatedFault(void) { fault = ILLEGAL_ADDRESS; }

static void wrong(const char *what)
{
    fprintf(stderr, "the card in software: %s\n", what);
    abort();
}

static long number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static int any(int below)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (int)((random_state >> 33) % (unsigned)below);
}

static void begin(void)
{
    ALONE;
    long seed = number("SIMULATED_SEED", 1);
    random_state = (unsigned long long)seed * 2654435761u + 1;
    eager = (int)(seed % 2);
    preferred = (int)(seed / 2 % 4) - 1;
}

static void perform(const Work *work)
{
    if (work->event && !work->held && work->event->come < work->times)
        work->event->come = work->times;
    else if (work->function && !fault) /* of a card that has failed nothing comes any more */
        work->function(work->data);
    else if (work->size && !fault)
        memcpy(work->to, work->from, work->size);
    free(work->staged);
}

/* Do one work that may be done now; 0 if there is none. */
static int step(void)
{
    int from = streams_there ? any(streams_there) : 0;
    if (0 <= preferred && preferred < streams_there && any(8))
        from = preferred;
    for (int i = 0; i < streams_there; i++) {
        Stream *stream = streams[(from + i) % streams_there];
        if (stream->first == stream->end)
            continue;
        Work work = stream->queue[stream->first];
        if (work.held && work.event->come < work.times)
            continue;
        if (++stream->first == stream->end)
            stream->first = stream->end = 0;
        perform(&work);
        return 1;
    }
    return 0;
}

static void drain(Stream *stream)
{
    while (stream->first < stream->end)
        if (!step())
            wrong("a stream waits for ever");
}

static int put(Stream *stream, Work work)
{
    ALONE;
    if (fault) {
        free(work.staged);
        return fault;
    }
    Graph *graph = stream->captured;
    if (graph) {
        graph->works = realloc(graph->works, (graph->count + 1) * sizeof work);
        graph->works[graph->count++] = work;
        return SUCCESS;
    }
    if (stream->end == stream->room) {
        stream->room = 2 * stream->room + 16;
        stream->queue = realloc(stream->queue, stream->room * sizeof work);
    }
    stream->queue[stream->end++] = work;
    if (eager && any(2))
        step();
    return SUCCESS;
}

static int is_pinned(const void *address)
{
    for (int i = 0; i < pinned_there; i++)
        if ((char *)address >= pinned[i].at && (char *)address < pinned[i].at + pinned[i].size)
            return 1;
    return 0;
}

/* Whether work with this function waits, or a copy from or to this place in the computer's memory. */
int simulatedPending(Function function, const char *at, size_t size)
{
    ALONE;
    for (int i = 0; i < streams_there; i++)
        for (int k = streams[i]->first; k < streams[i]->end; k++) {
            Work *work = &streams[i]->queue[k];
            if (function ? work->function == function
                         : ((char *)work->to >= at && (char *)work->to < at + size) ||
                               ((char *)work->from >= at && (char *)work->from < at + size))
                return 1;
        }
    return 0;
}
