"""Who reads a stream, and who asks a daemon."""
