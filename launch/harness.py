"""lm-eval with jtrace's decoder among its models: `python launch/harness.py --help`."""

from jtrace.commands.main import run

if __name__ == "__main__":
    run("harness")
