"""Rendering of conversations by a chat template, in a process that `chat_template` asks by lines of JSON.

A script: it imports nothing of jtrace, and is started by its path.
"""

import json
import os
import resource
import signal
import sys

from transformers.utils.chat_template_utils import render_jinja_template


def main() -> None:
    """Answer `[template, names, memory, longest]`, and then each `[messages, prompt]`, by `[text, fault]`."""
    template, names, memory, longest = json.loads(sys.stdin.readline())
    with open("/proc/self/statm") if os.path.exists("/proc/self/statm") else open(os.devnull) as file:
        pages = int((file.read() or "0").split()[0])
    most = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Ctrl-C goes to every process of a terminal: it ends a text that is being made, but not the wait for the next.
    ended = signal.signal(signal.SIGINT, signal.SIG_IGN)
    answer(["", ""])
    for line in sys.stdin:
        messages, prompt = json.loads(line)
        signal.signal(signal.SIGINT, ended)
        try:
            made = render_jinja_template([messages], chat_template=template, add_generation_prompt=prompt, **names)
            text = str(made[0][0])
            fault = "" if len(text) <= longest else f"it makes a text of {len(text)} characters"
            answer(["" if fault else text, fault])
        except Exception as error:
            answer(["", (" ".join(str(error)[:1000].split()) or type(error).__name__)[:200]])
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def answer(values: list[str]) -> None:
    """Print values as a line of ASCII."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
