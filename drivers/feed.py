"""What an instrument yields, checked against what it announced, as the pieces of a run; pure."""

import operator
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Cause
from cars_rt.drivers.base import Acquisition, Block, Gap, InstrumentError, NextRow
from cars_rt.drivers.numbering import Numbers, NumbersError
from cars_rt.drivers.order import Piece, Sorter, is_cut
from cars_rt.protocol import DTYPES
from cars_rt.protocol.limits import MAX_FACTS
from cars_rt.protocol.saturation import CAMERAS, FRAME_DTYPE, FRAMES


class Feed:
    """One run of an instrument: what it yields goes in, pieces of the stream come out, without holes."""

    def __init__(self, given: Any) -> None:
        """given: what `acquisition` returned. Raises InstrumentError for what cannot be."""
        self.acquisition = about = checked(given)
        columns = None if about.scan is None else about.scan[1]
        if columns is None and (about.order.snake or about.order.flyback):
            raise InstrumentError("a scan that goes there and back, or flies back, needs rows and columns")
        if columns is not None and not 0 < columns < 2**31:
            raise InstrumentError(f"a scan of {columns} columns cannot be")
        if about.numbers.anew and about.numbers.first is None:
            raise InstrumentError("a camera that counts each row anew needs Numbering(first=..., anew=True)")
        self.cut = False  # whether frames that are added up were cut at the full scale, which no sum shows
        self.measured = 0  # frames of the instrument so far, those that are lost, too
        self.beyond = 0  # frames that came after their row was full: they are left out
        self._rows = 0  # before the one that NextRow began
        self._row_end: int | None = None  # the frame with which that one is full
        self._numbers = Numbers(about.numbers)
        self._numbered = False  # whether blocks say their number
        try:
            self._sorter = Sorter(about.order, columns, len(about.raman_shift), about.dtype)
        except (TypeError, ValueError, MemoryError) as error:
            raise InstrumentError(f"acquisition() of {about.source}: {error}") from None

    @property
    def published(self) -> Acquisition:
        """The run as it is published: points of the scan, where those are not what is yielded."""
        about, sorter = self.acquisition, self._sorter
        if sorter.plain:
            return about
        frames, full, told = about.order.frames, about.full_scale, about.instrument
        if frames > 1:  # and as much else as `start` takes
            held = {FRAME_DTYPE: about.dtype} if full is None and about.dtype in CAMERAS else {}
            told = dict(islice(({FRAMES: frames} | held | dict(told or {})).items(), MAX_FACTS))
        return replace(
            about,
            dtype=sorter.dtype,
            block=sorter.block,
            spectra=None if about.spectra is None else sorter.points(about.spectra + frames - 1),
            exposure_s=None if about.exposure_s is None else about.exposure_s * frames,
            full_scale=None if full is None else full * frames,
            dark=None if about.dark is None else about.dark * np.float32(frames),
            instrument=told,
        )

    def take(self, given: Any) -> Iterator[Piece]:
        """Pieces of what was yielded. Raises InstrumentError where it is not what was announced."""
        match given:
            case Gap(given_up, cause):
                spectra = whole(given_up, "Gap.spectra") or 0
                self._numbers.lost(spectra)
                if self._numbered and self.acquisition.spectra is not None:
                    spectra = min(spectra, self.missing)  # it goes on for nobody
                yield from self._lose(spectra, cause)
            case NextRow():
                if self.acquisition.scan is None:
                    raise InstrumentError("frames() yielded NextRow, but acquisition() announced no scan")
                yield from self._next_row()
            case Block():
                yield from self._block(given)
            case _:
                yield from self._counts(check_block(given, self.acquisition), None)

    def finish(self) -> Iterator[Piece]:
        """What was held back, when nothing more is yielded."""
        yield from self._sorter.finish()

    @property
    def _full_scale(self) -> float | None:
        """Of one frame, counts."""
        about = self.acquisition
        if about.full_scale is None and about.dtype in CAMERAS:
            return float(np.iinfo(about.dtype).max)
        return about.full_scale

    @property
    def missing(self) -> int:
        """Spectra that were announced and have not come, nor been lost."""
        announced = self.acquisition.spectra
        return 0 if announced is None else announced - self.measured

    @property
    def flies_back(self) -> bool:
        """Whether all points were measured, and only the flight back after the last row is missing."""
        about, points = self.acquisition, self._sorter.points
        if about.spectra is None or not about.order.flyback:
            return False
        return self.missing > 0 and points(self.measured) == points(about.spectra)

    @property
    def full(self) -> bool:
        """Whether the camera's own numbers, or triggers of rows, say that all which was announced has come,
        or is lost: more may never come to a driver that counts what it yields."""
        told = self._numbered or self._row_end is not None
        return told and self.missing == 0 and self.acquisition.spectra is not None

    def _next_row(self) -> Iterator[Piece]:
        """What lies before the row that begins is lost, and more than it holds is nobody's."""
        self._rows = (1 if self.measured else 0) if self._row_end is None else self._rows + 1
        row, most = self._sorter.row, self.acquisition.spectra
        begin, end = (
            each if most is None else min(each, most) for each in (self._rows * row, (self._rows + 1) * row)
        )
        self._row_end = None
        yield from self._lose(max(begin - self.measured, 0), Cause.CAMERA)
        self._row_end = end
        self._numbers.next_row(begin, row)

    def _block(self, block: Block) -> Iterator[Piece]:
        cause = Cause.UPSTREAM
        empty = isinstance(block.counts, np.ndarray) and not len(block.counts)
        counts = block.counts if empty else check_block(block.counts, self.acquisition)
        index, time_ns = whole(block.index, "Block.index"), whole(block.time_ns, "Block.time_ns")
        number = whole(block.number, "Block.number")
        if number is not None:
            if index is not None:
                raise InstrumentError("a Block has an index or a number of the camera, not both")
            try:
                index = self._numbers.place(number, len(counts), self.measured)
            except NumbersError as error:
                raise InstrumentError(str(error)) from None
            cause, self._numbered = Cause.CAMERA, True
            if index is None:
                return  # a copy of what came already
            if (most := self.acquisition.spectra) is not None and index + len(counts) > most:
                index, counts = min(index, most), counts[: max(most - index, 0)]  # it goes on for nobody
                empty = not len(counts)
        if index is not None and index != self.measured:
            if index < self.measured:
                raise InstrumentError(f"spectrum {index} comes after spectrum {self.measured - 1}")
            yield from self._lose(index - self.measured, cause)
        if not empty:
            yield from self._counts(counts, time_ns)

    def _counts(self, counts: NDArray[Any], time_ns: int | None) -> Iterator[Piece]:
        if self.acquisition.order.frames > 1 and not self.cut and (full := self._full_scale) is not None:
            self.cut = is_cut(counts, full)
        yield from self._pass(Piece(self.measured, len(counts), counts, time_ns))

    def _lose(self, spectra: int, cause: Cause) -> Iterator[Piece]:
        if spectra < 0:
            raise InstrumentError(f"a gap of {spectra} spectra cannot be")
        if spectra:
            yield from self._pass(Piece(self.measured, spectra, None, None, cause))

    def _pass(self, piece: Piece) -> Iterator[Piece]:
        if self._row_end is not None and (over := self.measured + piece.spectra - self._row_end) > 0:
            over = min(over, piece.spectra)
            self.beyond += over if piece.counts is not None else 0
            kept = None if piece.counts is None else piece.counts[: piece.spectra - over]
            piece = replace(piece, spectra=piece.spectra - over, counts=kept)
            if not piece.spectra:
                return
        announced = self.acquisition.spectra
        if announced is not None and piece.index + piece.spectra > announced:
            raise InstrumentError(
                f"spectrum {piece.index + piece.spectra} came, and acquisition() announced {announced}"
            )
        self.measured += piece.spectra
        yield from self._sorter.take(piece)


def check_block(counts: Any, acquisition: Acquisition) -> NDArray[Any]:
    """A block as it was yielded, if it is what was announced. Raises InstrumentError, with the remedy."""
    pixels, most = len(acquisition.raman_shift), acquisition.block
    meant = f"(k, {pixels}) with k from 1 to {most} is meant"
    if not isinstance(counts, np.ndarray):
        raise InstrumentError(f"frames() yielded {kind_of(counts)}, where a NumPy array {meant}")
    if counts.ndim != 2:
        remedy = "; counts[None] makes one spectrum a block" if counts.shape == (pixels,) else ""
        raise InstrumentError(f"frames() yielded an array of shape {counts.shape}, where {meant}{remedy}")
    if counts.shape[1] != pixels:
        remedy = "; counts.T turns it over" if counts.shape[0] == pixels else ""
        raise InstrumentError(
            f"frames() yielded {counts.shape[1]} pixels, raman_shift has {pixels}: {meant}{remedy}"
        )
    if not 1 <= len(counts) <= most:
        raise InstrumentError(
            f"frames() yielded {len(counts)} spectra at once, acquisition() said 1 to {most}: "
            "state the largest number as block"
        )
    if counts.dtype.name != acquisition.dtype:
        remedy = (
            f"state dtype={counts.dtype.name!r}" if counts.dtype.name in DTYPES else "convert with astype"
        )
        raise InstrumentError(
            f"frames() yielded {counts.dtype.name}, acquisition() said {acquisition.dtype}: {remedy}"
        )
    return counts


def checked(given: Any) -> Acquisition:
    """With arrays and names of types where an author wrote lists and types. Raises InstrumentError."""
    if not isinstance(given, Acquisition):
        raise InstrumentError(f"acquisition() must return an Acquisition, and returns {kind_of(given)}")
    try:
        return replace(
            given,
            raman_shift=np.asarray(given.raman_shift, np.float64),
            dtype=np.dtype(given.dtype).name,
            block=operator.index(given.block),
            spectra=None if given.spectra is None else operator.index(given.spectra),
            dark=None if given.dark is None else np.asarray(given.dark, np.float32),
        )
    except (TypeError, ValueError) as error:
        raise InstrumentError(f"acquisition() of {given.source}: {error}") from None


def whole(value: Any, what: str) -> int | None:
    """A number of an instrument as one of Python, which grows as needed: those of NumPy begin again. None
    stays. Raises InstrumentError."""
    try:
        return None if value is None else operator.index(value)
    except TypeError:
        raise InstrumentError(f"{what} must be a whole number, not {value!r}") from None


def kind_of(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
