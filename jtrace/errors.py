"""The one exception that means: the input is at fault, and a person can mend it."""


class InputError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do about it."""
