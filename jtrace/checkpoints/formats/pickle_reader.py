"""Pickles of plain data, interpreted symbolically: no class is looked up and nothing is called.

Python's own unpickler is not used, since even with `find_class` locked a few bytes can make it allocate gigabytes
or hash nested tuples for hours.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from jtrace.checkpoints.formats.mapped_file import quote


class RefusedError(Exception):
    """A pickle needs more than plain data does; the message says what."""


def evaluate(
    pickled: bytes,
    names: Mapping[str, object],
    load: Callable[[object], object],
    call: Callable[[object, object], object],
) -> object:
    """Interprets a pickle of dicts, lists, tuples, numbers and text.

    Args:
        pickled: A pickle of protocol 2 to 4.
        names: Stand-ins of the globals, `module.name`, that the pickle may mention.
        load: Function that returns the value of a persistent id.
        call: Function that returns the value of calling a stand-in with a tuple of arguments.

    Returns:
        The pickled value.

    Raises:
        RefusedError: The pickle mentions another global or needs an opcode that plain data does not.
        ValueError, LookupError: The pickle is damaged.
    """
    stack: list[Any] = []  # Values since the last mark; `marked` holds those before.
    marked: list[list[Any]] = []
    memo: dict[int, Any] = {}
    arg: Any
    for opcode, arg, _ in pickletools.genops(pickled):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marked.append(stack)
                stack = []
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE":
                stack.append(arg)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                items, stack = stack, marked.pop()
                stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(_pop(stack, int(opcode.name[-1]))))
            case "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "GLOBAL":
                stack.append(_stand_in(names, arg.replace(" ", ".")))
            case "STACK_GLOBAL":
                stack.append(_stand_in(names, ".".join(map(str, _pop(stack, 2)))))
            case "BINPERSID":
                stack.append(load(stack.pop()))
            case "REDUCE":
                stack.append(call(*_pop(stack, 2)))
            case "SETITEM":
                _set_items(stack, _pop(stack, 2))
            case "SETITEMS":
                items, stack = stack, marked.pop()
                _set_items(stack, items)
            case "APPEND":
                _append(stack, _pop(stack, 1))
            case "APPENDS":
                items, stack = stack, marked.pop()
                _append(stack, items)
            case "BUILD":
                # Attributes, such as the _metadata of a state dict, are not needed.
                stack.pop()
                _top(stack, dict)
            case _:
                operand = "" if arg is None else f" {quote(str(arg))}"
                raise RefusedError(f"uses the pickle opcode {opcode.name}{operand}")
    raise ValueError("no end")


def _stand_in(names: Mapping[str, object], name: str) -> object:
    if name not in names:
        raise RefusedError(f"names {quote(name)}")
    return names[name]


def _pop(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise ValueError("pop from an empty stack")
    items = stack[-count:]
    del stack[-count:]
    return items


def _top(stack: list[Any], kind: type) -> Any:
    if type(stack[-1]) is not kind:
        raise ValueError(f"no {kind.__name__} where one must be")
    return stack[-1]


def _append(stack: list[Any], items: list[Any]) -> None:
    _top(stack, list).extend(items)


def _set_items(stack: list[Any], items: list[Any]) -> None:
    # Hashing a nested tuple can take forever.
    if not all(type(key) in (str, int) for key in items[::2]):
        raise ValueError("a dict key that is neither text nor a number")
    _top(stack, dict).update(zip(items[::2], items[1::2], strict=True))
