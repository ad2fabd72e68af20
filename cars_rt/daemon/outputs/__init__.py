"""What the daemon publishes."""
