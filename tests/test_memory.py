"""Memory that was freed is kept where that can be had, and the system does not have to clear it again."""

import subprocess
import sys

import pytest
from helpers import PATIENCE_S

# Messages that wait and leave, again and again: how many pages the system has to give.
PROGRAM = """
import resource, sys
from cars_rt import memory
if sys.argv[1] == "keep" and not memory.keep():
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
