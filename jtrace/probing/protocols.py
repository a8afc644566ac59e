"""The protocols of measuring: `paper` as published (arXiv 2402.19465), `sound` as a careful reviewer asks for."""

from typing import Literal, get_args

Protocol = Literal["paper", "sound"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
