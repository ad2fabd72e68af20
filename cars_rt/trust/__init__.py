"""Who may connect: key files, their use on a socket, their flags, and the secret of control."""
