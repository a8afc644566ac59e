"""Pre-train a model: `python launch/pretrain.py --help`."""

from jtrace.commands.main import run

if __name__ == "__main__":
    run("pretrain")
