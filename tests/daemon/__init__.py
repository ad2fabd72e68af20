"""The daemon, in a thread or as a process."""
