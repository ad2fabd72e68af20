"""How many connections a program may have open."""

import subprocess
import sys

import pytest

from cars_rt.descriptors import WANTED

PROGRAM = """
import resource, sys
from cars_rt.cli import main

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
sys.argv = ["cars-rt", "--version"]
try:
    main()
finally:
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of a process")
def test_every_command_has_as_many_as_the_system_allows() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    soft, hard = map(int, done.stdout.split()[-2:])
    assert soft == (WANTED if hard < 0 else min(hard, WANTED)) > 128
