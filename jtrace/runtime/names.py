"""Names of checkpoints and of their files: one encoding, since a file name holds no slash."""


def file_name(name: str) -> str:
    """Encodes a checkpoint's name for its files: `/` becomes `--`."""
    return name.replace("/", "--")


def checkpoint_name(model: str, revision: str) -> str:
    """Returns `model@revision`, or `model` where there is no revision."""
    return f"{model}@{revision}" if revision else model


def plain_name(encoded: str) -> str:
    """Inverts `file_name`, except for names that contain `--`: compare plain names with plain names only."""
    return encoded.replace("--", "/")
