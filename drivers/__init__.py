"""Spectrometer drivers: from an instrument to the raw stream. A new instrument implements `Instrument`."""

from cars_rt.drivers.base import Acquisition, Block, DriveSettings, Instrument, InstrumentError, drive

__all__ = ["Acquisition", "Block", "DriveSettings", "Instrument", "InstrumentError", "drive"]
