"""Pre-train a model: `python launch/pretrain.py --help`."""

from jtrace.commands import cli, pretrain

if __name__ == "__main__":
    cli.run(pretrain.main, pretrain.FLAGS, pretrain.__doc__)
