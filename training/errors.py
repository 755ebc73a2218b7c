"""Errors of the user's making: one plain sentence with the remedy, shown as it stands in the window and on the command line."""

from training.plain import plain


class ChexanatomyError(Exception):
    """Something about the input is wrong; the message is one sentence that says what came and what would work.

    It often names a file or repeats a word of it, so it is shown on one line and without control characters.
    """

    def __str__(self) -> str:
        return plain(super().__str__())


class UnreadableFile(ChexanatomyError):
    """A file or folder cannot be read as what it was given as."""


class FrameMismatch(ChexanatomyError):
    """Two volumes do not describe the same place in the patient."""


class UnknownStructure(ChexanatomyError):
    """A name that the vocabulary does not hold."""


class ImpossibleGeometry(ChexanatomyError):
    """A tube and detector position from which no radiograph can be taken."""


class BrokenModel(ChexanatomyError):
    """A checkpoint, adapter or codebook that cannot be used."""


class BrokenDataset(ChexanatomyError):
    """A data set folder that cannot be read or does not fit the request."""


class Cancelled(ChexanatomyError):
    """The user stopped a running job; finished work was kept."""


def in_words(problem: Exception) -> str:
    """What the system, or a reader of text, says of a file, as a part of a sentence: without numbers and names of programmers."""
    match problem:
        case OSError():
            where = problem.filename2 or problem.filename  # of a file that was to be put in place, the place
            return plain(f"{where}: " if where else "") + (problem.strerror or str(problem)).lower()
        case RecursionError():
            return "it is nested too deeply"
        case UnicodeError():
            return "it holds text that is not in UTF-8"
        case ValueError() if "int_max_str_digits" in str(problem):
            return "it holds a number of too many digits"
    return str(problem)
