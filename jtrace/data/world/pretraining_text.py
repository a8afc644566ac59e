"""The world as a source of training text: its documents, or its conversations."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from jtrace.data.corpus.document import Document
from jtrace.data.world.conversations import talks
from jtrace.data.world.documents import documents
from jtrace.data.world.facts import World, make_world
from jtrace.data.world.spec import parse_world
from jtrace.errors import InputError

_PARTS: dict[str, Callable[[World], Iterator[Document]]] = {"": documents, "chat": talks}


def world_documents(spec: str) -> Callable[[], Iterable[Document]]:
    """Returns a reader of the text that an entry of --text names: `world` or `world-chat`, as `world-chat:seed=1`.

    Raises:
        InputError: the entry names no world, or no text of one.
    """
    part, config = parse_world(spec)
    if part not in _PARTS:
        raise InputError(f"--text: '{spec}' is no text of the world; there are world and world-chat")
    without_end, world = _PARTS[part], make_world(config)
    return lambda: islice(without_end(world), config.documents)
