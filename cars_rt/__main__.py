"""`python -m cars_rt` is `cars-rt`. Nothing is imported here that takes time: see `leave_at_once`."""

from cars_rt.stops import leave_at_once


def main() -> None:
    """Entry point of `cars-rt`."""
    leave_at_once()
    from cars_rt import cli

    cli.main()


if __name__ == "__main__":  # and not in a process that imports it to be as this one is
    main()
