"""The chaos suite: real processes, faults on purpose, and receipts compared with a truth known otherwise.

camera.py   a driver process; every spectrum says which one it is
slow.py     the daemon with an engine that takes its time
proxy.py    a faulty network: removes, repeats, swaps and spoils frames, and notes what it did
wire.py     reads a stream with msgpack alone, as a program without CARS-RT would
judge.py    what a receipt must say, from what was really forwarded and really came out
"""
