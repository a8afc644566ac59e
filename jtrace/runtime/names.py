"""Names of checkpoints, tables and files: one encoding, since a file name holds no slash."""


def file_name(name: str) -> str:
    """The name of a checkpoint's files: `/` written `--`."""
    return name.replace("/", "--")


def checkpoint_name(model: str, revision: str) -> str:
    """`model@revision`, or `model` where there is no revision."""
    return f"{model}@{revision}" if revision else model


def plain_name(encoded: str) -> str:
    """The inverse of `file_name`, but for a `--` of the name's own: compare plain names with plain names only."""
    return encoded.replace("--", "/")
