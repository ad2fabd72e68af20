"""What is seen of the daemon from outside: one snapshot, told over HTTP, to systemd and to people."""
