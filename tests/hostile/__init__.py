"""Hostile peers: a daemon as its users start it, a driver and a subscriber, and somebody who means harm.

line.py         the daemon as a process, a stream through it, and how it fares
peers.py        connections that do what no program of CARS-RT does
test_pages.py   web pages: requests over HTTP at every port, also from a real browser
test_peers.py   programs on this computer or in the network that reach a port
"""
