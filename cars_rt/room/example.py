"""A file for `cars-rt up`, with explanations."""

EXAMPLE = """\
# lab.toml: what `cars-rt up lab.toml` starts, keeps at work and ends in order.
#
# Each table is one program; its keys are the flags of that program's command, as `cars-rt COMMAND --help`
# lists them, without the two dashes. Paths count from the folder of this file. Only [driver] is needed:
# the other parts, and the addresses by which they find each other, are there by themselves.
# `cars-rt up --check lab.toml` says what would go wrong, and starts nothing.

[driver]                    # cars-rt drive NAME; `cars-rt drive --list` says which there are
name = "simulator"          # `driver = false` before the first table: it runs elsewhere, see listen below
rate = 1000
scan = "256x256"
block = 4

[daemon]                    # cars-rt run
model = "cnn"
# listen = "tcp://microscope:5555"    # of a driver on another computer (docs/security.md: keys)
# receipts = "receipts"     # a receipt for each run; the folder is made beside this file
# flight = "flight"         # the last seconds of input, written at a loss
# deviation = true

[recorder]                  # cars-rt record: counts and results; `recorder = false` for none
# output = "recordings"     # every run in a file of its own, in this folder, which is made beside this file

# [view]                    # cars-rt view: the display in a browser; `view = false` for none
# allow-control = true

# Two instruments: a table for each part of each, [driver.A], [driver.B], [daemon.A], ... Each has a daemon of
# its own, with ports that are 100 higher for the second one, and its own folders receipts/B and recordings/B:
#
# [driver.A]
# name = "simulator"
# [driver.B]
# name = "replay"
# file = "scan.h5"
# [daemon.B]
# model = "rnn"
"""
