"""Chat templates: programs that strangers wrote. They run in a process of their own, for a time and in a memory.

jinja2's sandbox keeps a template from the machine, but not from looping for ever, or from making a text that fills the
memory in one step, which nothing within the process could stop.
"""

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transformers import PreTrainedTokenizerBase

SCRIPT = Path(__file__).with_name("template_process.py")
START_SECONDS = 300.0  # transformers is imported
RENDER_SECONDS = 20.0  # a template takes a millisecond
MEMORY_BYTES = 1 << 30  # beside what Python and transformers take
LONGEST_TEXT = 32 << 20  # characters


def conversation_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns a tokeniser's template of conversations without tools; empty where there is none."""
    template = tokenizer.chat_template
    template = template.get("default") if isinstance(template, dict) else template
    return template if isinstance(template, str) else ""


class TemplateError(Exception):
    """A template fails, or takes too much; the message says how."""


class ChatTemplate:
    """A template at work; a context manager that ends its process, which is started when it is first needed.

    Args:
        template: in jinja2's language.
        names: what special tokens are called in it, and are.
    """

    def __init__(self, template: str, names: Mapping[str, Any]) -> None:
        self._first = [template, {name: str(token) for name, token in names.items()}, MEMORY_BYTES, LONGEST_TEXT]
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, messages: Sequence[Mapping[str, str]], prompt: bool = False) -> str:
        """The text of a conversation, as transformers makes it.

        Args:
            prompt: end it where the assistant is to speak.

        Raises:
            TemplateError: the template fails, or takes more than `RENDER_SECONDS`, `MEMORY_BYTES` or `LONGEST_TEXT`.
        """
        if not messages:
            raise TemplateError("there is no turn before the assistant's")
        if self._process is None:
            command = [sys.executable, "-P", str(SCRIPT)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self._ask(self._first, START_SECONDS)
        text, fault = self._ask([list(messages), prompt], RENDER_SECONDS)
        if fault:
            raise TemplateError(fault)
        return text

    def _ask(self, values: object, seconds: float) -> list[str]:
        """The answer to a line; the process is ended where none comes in time."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(values).encode() + b"\n")
            process.stdin.flush()
            return self._answer(process, time.monotonic() + seconds)
        except TimeoutError:
            self.close()
            raise TemplateError(f"it takes more than {seconds:.0f} s") from None
        except (OSError, ValueError):  # it has been ended by the system, for want of memory as a rule
            self.close()
            raise TemplateError("it takes more memory than it may, or ends its process") from None

    def _answer(self, process: subprocess.Popen[bytes], deadline: float) -> list[str]:
        assert process.stdout is not None
        line = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                part = os.read(process.stdout.fileno(), 1 << 20)
                line += part
                # A character takes 12 bytes at most.
                if not part or len(line) > 12 * LONGEST_TEXT + 1000:
                    raise OSError
        match json.loads(line):
            case [str(text), str(fault)]:
                return [text, fault]
        raise ValueError(line[:80])

    def close(self) -> None:
        """End the process, whatever it is at; the next text starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
