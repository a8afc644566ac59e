"""`jtrace COMMAND --flag=value …`: every command under one name, and each as a file of `launch/`."""

import sys
from importlib import import_module
from importlib.metadata import version

from jtrace.commands import cli

COMMANDS = {
    "trace": "probes, mutual information and steering vectors of every checkpoint and layer",
    "steer": "add vectors to a model, and measure what it says",
    "chat": "talk to a model under a vector, in a terminal",
    "report": "one HTML page of a run",
    "convert": "Hugging Face folders to Orbax checkpoints, and back",
    "pretrain": "train a model of one's own, to trace it",
    "quickstart": "all of these on a small invented world, in six minutes",
    "benchmark": "jtrace beside torch and scikit-learn (needs the extra torch)",
    "harness": "lm-eval with jtrace's decoder among its models (needs the extra lm-eval)",
}
# Commands that take words beside flags.
WORDS = ("benchmark", "harness")
# Commands whose words, and flags among them, are another tool's.
FOREIGN = ("harness",)


def main() -> None:
    """Runs the command that the first word names; ends the process with its status."""
    name, *rest = sys.argv[1:] or ["help"]
    if name in COMMANDS:
        sys.argv = ["jtrace", name, *rest]
        run(name, named=True)
    elif name in ("help", "--help", "-h"):
        print(overview())
    elif name in ("version", "--version"):
        print(f"jtrace {version('jtrace')}")
    else:
        print(f"error: '{name}' is no command; there are {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(1)


def run(name: str, named: bool = False) -> None:
    """Runs a command with the flags of the process; ends the process with its status.

    Args:
        named: whether the first word of the process's arguments is the command's name.
    """
    if name in FOREIGN:
        sys.argv.insert(2 if named else 1, "--")
    # Only now: each loads what it needs.
    command = import_module(f"jtrace.commands.{name}")
    cli.run(command.main, command.FLAGS, command.__doc__, words=name in WORDS, named=named)


def overview() -> str:
    """Lists the commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  jtrace {name.ljust(width)}  {about}" for name, about in COMMANDS.items()]
    return "\n".join(["Usage: jtrace COMMAND --flag=value …", "", *lines, "", "jtrace COMMAND --help says more."])
