"""Talk to a steered model: `python launch/chat.py --help`."""

from jtrace.commands.main import run

if __name__ == "__main__":
    run("chat")
