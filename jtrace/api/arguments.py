"""Words about arguments: those of the commands' flags, written as Python has them."""

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from jtrace.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
# A flag within a message: --data_dir, or --tokenizer=FOLDER.
FLAG = re.compile(r"(?<![\w-])--([a-z_]+)", re.ASCII)


def in_python_words(function: Callable[P, R]) -> Callable[P, R]:
    """Lets a function's errors name arguments, `data_dir` for `--data_dir`: they are called as the flags are."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except InputError as error:
            message = FLAG.sub(r"\1", str(error))
            if message == str(error):
                raise
            raise type(error)(message) from None

    return wrapped
