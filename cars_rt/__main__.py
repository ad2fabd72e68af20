"""`python -m cars_rt` is `cars-rt`."""

from cars_rt.cli import main

main()
