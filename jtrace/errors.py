"""What jtrace raises: `InputError` means that the input is at fault, and a person can mend it."""


class InputError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do about it."""


class WriteError(InputError):
    """A file could not be written: its disk is full, read-only or gone."""


class StoppedError(Exception):
    """Work that another thread waits for is given up, as the whole is being stopped."""


class Terminated(KeyboardInterrupt):
    """The system asks this process to end (SIGTERM): a job's time is over, or its machine is wanted back."""
