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
