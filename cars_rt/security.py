"""The keys that a program of one's own gives to a publisher, a subscriber or a client."""

from cars_rt.trust.curve import ClientKeys, ServerKeys

__all__ = ["ClientKeys", "ServerKeys"]
