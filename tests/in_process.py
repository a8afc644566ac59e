"""Commands by their flags, without the seconds that a process of its own takes to start."""

from importlib import import_module

import pytest
from absl import flags

from jtrace.errors import InputError


def run_command(name: str, *arguments: str) -> int:
    """The status of a command, its flags given as on a command line.

    Raises:
        InputError: what the command refuses.
        flags.Error: a value that a flag does not take.
    """
    command = import_module(f"jtrace.commands.{name}")
    command.FLAGS.unparse_flags()
    try:
        command.FLAGS([name, *arguments])
        return command.main()
    finally:
        for flag in command.FLAGS:
            command.FLAGS[flag].unparse()


def refusal(name: str, *arguments: str) -> str:
    """The line that a command which must refuse its flags would print."""
    with pytest.raises((InputError, flags.Error)) as refused:
        run_command(name, *arguments)
    line = f"error: {refused.value}"
    assert "\n" not in line
    return line
