"""Memory that was freed is kept where that can be had, and the system does not have to clear it again."""

import subprocess
import sys

import pytest
from helpers import PATIENCE_S

# Messages that wait and leave, again and again: how many pages the system has to give.
PROGRAM = """
import resource, sys
from cars_rt import memory
if sys.argv[1] == "keep":
    memory.keep()
    if not memory._keeping:
        print(-1); raise SystemExit
def waves(number):
    for _ in range(number):
        waiting = [bytes(700_000) for _ in range(20)]
        del waiting
waves(5)
begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
waves(20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is told")
def test_freed_memory_is_not_asked_of_the_system_again() -> None:
    def pages(how: str) -> int:
        program = [sys.executable, "-c", PROGRAM, how]
        done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
        return int(done.stdout)

    kept = pages("keep")
    if kept < 0:
        pytest.skip("the C library cannot be told")
    assert kept * 20 < pages("as it comes")


# What a flood took in a thread of its own: megabytes that stay, after give_back and at the thread's next use.
FLOOD = """
import ctypes, threading
from cars_rt import memory
memory.keep()
if not memory._keeping:
    print(-1, -1); raise SystemExit
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6
flooded, go_on = threading.Event(), threading.Event()
pieces = (ctypes.c_void_p * 800)()
def flood():
    for number in range(800):
        pieces[number] = library.malloc(60_000)
        ctypes.memset(pieces[number], 1, 60_000)
    for each in pieces:
        library.free(each)
    flooded.set()
    go_on.wait()
    library.free(library.malloc(100_000))
before = resident()
thread = threading.Thread(target=flood)
thread.start()
flooded.wait()
there = resident() - before
memory.give_back(more_follows=True)
go_on.set()
thread.join()
left = resident() - before
memory.give_back()
print(there, left)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is told")
def test_memory_of_a_flood_is_returned_also_in_other_threads() -> None:
    program = [sys.executable, "-c", FLOOD]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    there, left = map(float, done.stdout.split())
    if there < 0:
        pytest.skip("the C library cannot be told")
    assert there > 40 and left < 10
