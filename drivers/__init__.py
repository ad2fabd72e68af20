"""Spectrometer drivers: from an instrument to the raw stream. A new instrument implements `Instrument`."""

from cars_rt.drivers.base import (
    Acquisition,
    Block,
    DriveSettings,
    Gap,
    Instrument,
    InstrumentError,
    NextRow,
    Waiting,
)
from cars_rt.drivers.numbering import Numbering
from cars_rt.drivers.order import Order
from cars_rt.drivers.running import DriveTotals, drive, drive_runs

__all__ = [
    "Acquisition",
    "Block",
    "DriveSettings",
    "DriveTotals",
    "Gap",
    "Instrument",
    "InstrumentError",
    "NextRow",
    "Numbering",
    "Order",
    "Waiting",
    "drive",
    "drive_runs",
]
