"""The daemon: counts come in, results go out, in real time."""
