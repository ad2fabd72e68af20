"""The base of all errors that are for people."""


class CarsRtError(Exception):
    """Says in one sentence what is wrong, where, and what to do. A program that meets one ends with it."""
