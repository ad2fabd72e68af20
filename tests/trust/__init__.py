"""cars_rt/trust: key files, who may connect to a socket, the secret of control."""
