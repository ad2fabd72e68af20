"""Where a frame belongs whose counters began again: by one that goes on, by a turn, by the clock. Pure."""

from dataclasses import dataclass

from cars_rt.protocol.counter import FEWEST_SEEN, Counter, Wrap

NEAR = 8  # frames: so many may be lost where counters begin again; more, and just to the first number, hardly


@dataclass(frozen=True, slots=True)
class Due:
    """What comes next in a run, and what tells how much of it is missing."""

    sequence: int
    index: int
    refused: int  # frames that came since the last one in order and could not be placed
    last: tuple[int, int]  # sequence and index of the last frame
    spectra: int  # in the last frame
    mean: float  # spectra in a frame so far
    even: bool  # all of them held as many
    block: int  # the most that a frame can hold
    columns: int  # of the scan; 0 if there is none
    missing: float | None  # frames, by the clock, if it can tell
    steady: bool  # the clock does not tell of pauses
    at_once: bool  # this frame comes as soon after the last one as the next one does
    after_refused: int  # if it comes as soon after one that was refused, that one's sequence; else 0
    paused: bool  # a program may have died and begun anew since the last frame


def index_of(counter: Counter, sent: int, due: Due, frames: int) -> Wrap | None:
    """An index that went back, where so many frames are missing."""
    least, likely = due.index + frames, due.index + round(frames * due.mean)
    exact = frames == 0 or due.even
    begins = exact and counter.begins(sent, (frames + 1) * due.spectra)
    seen = counter.seen(sent, likely) if begins else None
    if counter.knows(sent, due.last[1]):
        one = counter.turned(sent, least, likely)
        if one is None or one.sure or one.number == due.index or seen is None:
            return one and one._replace(sure=one.sure and exact)
    if seen is not None:
        return seen._replace(sure=frames == 0)
    one = counter.of_few_bits(sent, due.last[1], least)
    return one if one is not None and one.number - due.index <= frames * due.block else None


def sequence_of(counter: Counter, sent: int, due: Due, spectra: int) -> Wrap | None:
    """A sequence that went back, where the index says that so many spectra are missing."""
    number = due.sequence + -(-spectra // due.block)
    if counter.knows(sent, due.last[0]):
        one = counter.turned(sent, due.sequence, due.sequence)
    else:
        one = counter.of_few_bits(sent, due.last[0], due.sequence)
    if one is not None and one.number - due.sequence <= spectra:
        return one
    return counter.fallen(sent, number)  # it counts otherwise


def both_of(
    sequences: Counter, indices: Counter, sent: tuple[int, int], due: Due
) -> tuple[Wrap | None, Wrap | None]:
    """A frame whose sequence went back, and its index, too."""
    one = _frame_of(sequences, indices, sent, due)
    if one is None:
        return None, None
    two = index_of(indices, sent[1], due, one.number - due.sequence)
    return one, two and two._replace(sure=one.sure)


def _frame_of(sequences: Counter, indices: Counter, sent: tuple[int, int], due: Due) -> Wrap | None:
    """By the turn of the sequence, if it is known, else by the time that went by."""
    number, last = sent[0], due.last[0]
    least = due.sequence + due.refused
    begins = sequences.begins(number) and indices.begins(sent[1], due.spectra)
    seen = sequences.seen(number, due.sequence) if begins and not due.refused else None
    if sequences.knows(number, last):
        one = sequences.turned(number, least, least)
        if one is not None and one.number > due.sequence and due.missing is not None:
            likely = sequences.turned(number, least, due.sequence + round(due.missing))
            if likely != one:  # whole turns more are missing, by the clock
                one = likely if due.steady else one
                one = one and one._replace(sure=False)
        too_long = one is not None and one.number > due.sequence and not one.sure and due.at_once
        return seen if too_long and seen else one
    one = sequences.of_few_bits(number, last, least)
    missing = 0 if one is None else one.number - due.sequence
    if one is not None and not missing:
        return one
    if due.columns and (begins or not due.paused) and not due.refused:  # of the next line, or near it
        frames = round((sent[1] - int(indices.first == 1) - due.index) % due.columns / due.mean)
        if frames <= NEAR and (line := sequences.seen(number, due.sequence + frames)):
            return line
    if one is not None and due.missing is not None:
        off = abs(due.missing - missing)
        fits = off <= max(0.5, (missing + 1 - due.refused) / 8)
        if fits and not (seen and (missing > NEAR or abs(due.missing) <= off)):
            return one
    if seen and not due.paused:
        return seen
    turn = due.after_refused + 1 - number
    if begins and turn >= FEWEST_SEEN:
        return sequences.fallen(number, least + (number + sequences.base - least) % turn)
    return None
