"""Names of checkpoints and of their files: one encoding, since a file name holds no slash."""

from jtrace.errors import InputError

LONGEST = 160  # bytes of a name; a file's may have 255, of which a suffix and what marks a temporary file take some


def file_name(name: str) -> str:
    """Encodes a checkpoint's name for its files: `/` becomes `--`."""
    return name.replace("/", "--")


def checkpoint_name(model: str, revision: str) -> str:
    """Returns `model@revision`, or `model` where there is no revision."""
    return f"{model}@{revision}" if revision else model


def plain_name(encoded: str) -> str:
    """Inverts `file_name`, except for names that contain `--`: compare plain names with plain names only."""
    return encoded.replace("--", "/")


def check_utf8(text: str, what: str) -> None:
    """Raises InputError for a path whose bytes are no UTF-8, which neither tables nor JSON hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{what} {text!a}: the name of a file or folder is not UTF-8; rename it") from None


def check_name(name: str, what: str) -> None:
    """Raises InputError for a name that files cannot be called by."""
    check_utf8(name, what)
    if (size := len(name.encode("utf-8"))) > LONGEST:
        raise InputError(f"{what} {name!r}: a name of {size} bytes, and files are called by it; {LONGEST} are the most")
