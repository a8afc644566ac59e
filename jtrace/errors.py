"""The exceptions of jtrace: an `InputError` is foreseen, is told in one line, and a person can cure its cause."""

from unicodedata import category

LONGEST = 999  # characters of a message
END = 300  # of them, kept of the end of a longer one, which says what to do


class InputError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do about it.

    It may quote what a stranger wrote: characters that cannot be printed are escaped, and a long text is cut inside.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_one_line(message))


class WriteError(InputError):
    """A file could not be written: its disk is full, read-only or gone."""


class StoppedError(Exception):
    """Work that another thread waits for is given up, since the process is stopping."""


class Terminated(KeyboardInterrupt):
    """The system asks this process to end (SIGTERM): a job's time is over, or its machine is wanted back."""


def _one_line(text: str) -> str:
    text = _shortened(text)
    if not text.isprintable():
        text = _shortened("".join(map(_visible, text)))  # an escape is longer than its character
    return text


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - END - 3]} … {text[-END:]}"


def _visible(character: str) -> str:
    if character.isprintable() or category(character) == "Zs":  # blanks of every width
        return character
    return character.encode("unicode_escape").decode()
