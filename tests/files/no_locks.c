/* Preloaded, gives a program file systems without locks, as that of a network may be: flock fails with the
   number in NO_LOCKS. */

#include <errno.h>
#include <stdlib.h>

int flock(int descriptor, int operation) {
    (void)descriptor, (void)operation;
    errno = atoi(getenv("NO_LOCKS"));
    return -1;
}
