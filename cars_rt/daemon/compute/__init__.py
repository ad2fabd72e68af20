"""What computes: a worker in its own threads, the change to another one, and a candidate beside it."""
