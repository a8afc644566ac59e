"""Talk to a model in a terminal, under a steering vector whose layer and strength change on the way.

    jtrace chat --model=runs/models/smollm2 --vectors=runs/smollm2/vectors/smollm2.safetensors \\
        --vector_set=stereoset --layer=15 --strength=2

Every line is a turn of the conversation, and is answered as the tokens come; /help lists the commands, such as
/strength, /layer and /compare. Lines that are piped in are answered as well, as plain text. The model's own chat
template writes the turns; without one, the model continues the text so far. Where a conversation outgrows the model's
context, its oldest turns are dropped.
"""

import importlib
import io
import math
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import cast

import numpy as np
from absl import flags

from jtrace.checkpoints.local import local_folder
from jtrace.checkpoints.refs import parse_one
from jtrace.commands import cli
from jtrace.commands.flags import parse_vector_layers
from jtrace.commands.target import load_target
from jtrace.data.corpus.chat_template import ChatTemplate, conversation_template
from jtrace.errors import InputError, Terminated
from jtrace.hub.client import hub_in
from jtrace.inference.generate import Sampling
from jtrace.inference.language_model import LanguageModel
from jtrace.inference.settled_text import settled_text
from jtrace.inference.stream import TokenStream
from jtrace.models.intervention import POSITIONS, Positions
from jtrace.runtime.devices import computing_dtype
from jtrace.runtime.terminal_text import GrowingText, escaped, laid_out
from jtrace.steering.chat_commands import is_command, obeyed
from jtrace.steering.conversation import Conversation, Prompt, fitted, message_tokens
from jtrace.steering.target_vectors import VectorChoice, vectors_for
from jtrace.steering.vector import SteeringVector

PROMPT = "> "

FLAGS = flags.FlagValues()
MODEL = flags.DEFINE_string(
    "model",
    None,
    "The model to talk to: a folder, a hub revision, a step of a pre-training run.",
    required=True,
    flag_values=FLAGS,
)
VECTORS = flags.DEFINE_string(
    "vectors", "", "A file of RUN/vectors; without one, nothing is steered.", flag_values=FLAGS
)
VECTOR_SET = flags.DEFINE_string(
    "vector_set",
    "",
    "Whose vector: a statement set, or a sum as stereoset+-0.5*toxigen; may be left out where the file holds one.",
    flag_values=FLAGS,
)
VECTOR_LAYERS = flags.DEFINE_string(
    "vector_layers", "", "Which layers the rows of --vectors are of, as jtrace steer says.", flag_values=FLAGS
)
ANY_FAMILY = flags.DEFINE_boolean(
    "any_family",
    False,
    "Take vectors of another model family or depth, if their width is the model's.",
    flag_values=FLAGS,
)
LAYER = flags.DEFINE_integer(
    "layer", None, "The layer to steer; by default the middle one of those that the vector has.", flag_values=FLAGS
)
STRENGTH = flags.DEFINE_float(
    "strength", 1.0, "What the vector is multiplied by; it points to label 1.", flag_values=FLAGS
)
POSITIONS_ = flags.DEFINE_enum(
    "positions",
    "last",
    POSITIONS,
    "Where it is added: last (a prompt's last position and every generated one, as published), all, or generated.",
    flag_values=FLAGS,
)
MAX_NEW_TOKENS = flags.DEFINE_integer(
    "max_new_tokens", 256, "The most tokens of an answer.", lower_bound=1, flag_values=FLAGS
)
TEMPERATURE = flags.DEFINE_float("temperature", 0.0, "Of answers; 0 is greedy.", lower_bound=0.0, flag_values=FLAGS)
SEED = flags.DEFINE_integer(
    "seed", 0, "Of sampling.", lower_bound=0, upper_bound=2**32 - 1, flag_values=FLAGS
)  # fmt: skip
SYSTEM = flags.DEFINE_string("system", "", "A message that stands before all others.", flag_values=FLAGS)
DTYPE = flags.DEFINE_enum(
    "dtype",
    "auto",
    ["auto", "float32", "bfloat16"],
    "Of params and forward; auto is bfloat16 on GPU and TPU, float32 on CPU.",
    flag_values=FLAGS,
)
TOKENIZER = flags.DEFINE_string(
    "tokenizer", None, "Folder of the tokeniser; by default the model's own.", flag_values=FLAGS
)
CACHE_DIR = flags.DEFINE_string("cache_dir", None, "Where downloads are kept, laid out as HF_HOME.", flag_values=FLAGS)


@dataclass(frozen=True)
class Speaker:
    """A model that answers, and what its answers need.

    Attributes:
        template: None where the model has none, and continues plain text.
        interactive: whether somebody sits at a terminal.
    """

    model: LanguageModel
    stream: TokenStream
    template: ChatTemplate | None
    max_new_tokens: int
    interactive: bool = False


def main() -> int:
    cli.check_device()
    if not math.isfinite(TEMPERATURE.value):
        raise InputError(f"--temperature={TEMPERATURE.value}: give a finite number")
    hub, tokenizer = hub_in(CACHE_DIR.value), Path(TOKENIZER.value) if TOKENIZER.value else None
    ref, dtype = parse_one(MODEL.value, hub.revisions, "--model"), computing_dtype(DTYPE.value)
    choice = VectorChoice(
        (VECTORS.value,) if VECTORS.value else (),
        (VECTOR_SET.value,) if VECTOR_SET.value else (),
        any_family=ANY_FAMILY.value,
        layers=parse_vector_layers(VECTOR_LAYERS.value),
    )
    files = choice.read()
    model = load_target(local_folder(ref, hub), ref.name, dtype, tokenizer)
    by_set: dict[str, SteeringVector] = {}
    for path, held in files:
        by_set = vectors_for(model, held, path, choice.any_family)
    conversation = Conversation(by_set, system=SYSTEM.value)
    if by_set:
        (dataset,) = choice.sets_of(files, ())
        conversation = begun(conversation, dataset, LAYER.value, STRENGTH.value)
    elif LAYER.value is not None or VECTOR_SET.value:
        raise InputError(
            "--layer and --vector_set need a vector; name a file by --vectors=RUN/vectors/NAME.safetensors"
        )
    positions = cast(Positions, POSITIONS_.value)
    sampling = Sampling(MAX_NEW_TOKENS.value, model.stop, TEMPERATURE.value, SEED.value)
    stream = TokenStream(model.params, model.config, sampling, positions, model.dtype)
    interactive = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    written = conversation_template(model.tokenizer)
    with ChatTemplate(written, model.tokenizer.special_tokens_map) if written else nullcontext() as template:
        speaker = Speaker(model, stream, template, MAX_NEW_TOKENS.value, interactive)
        return converse(speaker, conversation, _lines(interactive))


def begun(conversation: Conversation, dataset: str, layer: int | None, strength: float) -> Conversation:
    """Steers a conversation; without a layer, the middle one of the vector's is taken."""
    if layer is None:
        some = next(iter(conversation.vectors.values())).layers
        layer = some[len(some) // 2]
    return conversation.steered(dataset, layer, strength)


def converse(speaker: Speaker, conversation: Conversation, lines: Iterator[str]) -> int:
    """Answers line by line, until they or the conversation end.

    Returns:
        The exit status: 0.

    Raises:
        InputError: the chat template is of no use; what is wrong with a line is told, and the next one is read.
    """
    tokens_of = partial(message_tokens, speaker.model, speaker.template)
    tokens_of(conversation.messages("Hello"))  # refuses a template that does not work
    _say(f"{speaker.model.name}, {conversation.steering}; /help lists the commands")
    if speaker.template is None:
        _say(f"{speaker.model.name} has no chat template: it continues the text so far")
    number = 0
    for line in lines:
        try:
            if is_command(line):
                conversation, words, ends = obeyed(line, conversation)
                if words:
                    _write(f"{escaped(words)}\n")
                if ends:
                    break
            elif line.strip():
                prompt = fitted(
                    conversation, line, tokens_of, speaker.model.config.context, speaker.max_new_tokens
                )  # fmt: skip
                if prompt.dropped:
                    _say(f"the context of {speaker.model.config.context} is full: the oldest {prompt.dropped} turns go")
                conversation = prompt.conversation.answered(line, _answer(speaker, prompt, number))
                number += 1
        except InputError as error:
            _say(f"error: {error}")
    return 0


def _answer(speaker: Speaker, prompt: Prompt, number: int) -> str:
    """Prints an answer as its tokens come, and returns the text of the first condition."""
    conversation, model = prompt.conversation, speaker.model
    headings = [conversation.steering, "unsteered"] if len(conversation.conditions) > 1 else [""]
    made = [np.zeros(0, np.int32) for _ in headings]
    printed, stopped = "", False

    def show(ended: bool) -> None:
        nonlocal printed
        width = shutil.get_terminal_size().columns if speaker.interactive else 0
        texts = []
        for heading, tokens in zip(headings, made, strict=True):
            done = ended or len(tokens) == prompt.most or (len(tokens) > 0 and tokens[-1] in model.stop)
            text = _whole(model, tokens) if done else settled_text(model, tokens)
            texts.append(GrowingText(heading, text, done))
        laid = laid_out(texts, width)
        if laid.startswith(printed):
            _write(laid[len(printed) :])
            printed = laid
        elif ended:  # the window was made narrower, or a decoder changed its mind
            _write(f"\n{laid}")

    pieces = speaker.stream.answer(
        prompt.tokens, conversation.edit, conversation.conditions, number=number, most=prompt.most
    )
    with _stoppable(speaker.interactive) as is_stopped:
        for piece in pieces:
            made = [np.concatenate(pair) for pair in zip(made, piece, strict=True)]
            show(ended=False)
            if stopped := is_stopped():
                break
    show(ended=True)
    _write("\n\n")
    if stopped:
        _say("stopped")
    elif len(made[0]) == prompt.most and made[0][-1] not in model.stop:
        _say(f"cut after {prompt.most} tokens")
    return _whole(model, made[0])


def _whole(model: LanguageModel, tokens: np.ndarray) -> str:
    """Decodes an answer without the token that ended it."""
    ended = len(tokens) > 0 and tokens[-1] in model.stop
    return model.decode([tokens[:-1] if ended else tokens])[0]


def _lines(interactive: bool) -> Iterator[str]:
    """Yields lines of standard input until its end; at a terminal with a prompt, and until Ctrl-C."""
    if sys.stdin is None:
        return
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if not interactive:
        yield from (line.rstrip("\r\n") for line in sys.stdin)
        return
    with suppress(ImportError):
        importlib.import_module("readline")  # from then on, `input` edits lines
    while True:
        try:
            line = input(PROMPT)
        except (EOFError, KeyboardInterrupt) as error:
            if isinstance(error, Terminated):
                raise
            _write("\n")
            return
        yield line


@contextmanager
def _stoppable(interactive: bool) -> Iterator[Callable[[], bool]]:
    """Lets Ctrl-C ask for a stop, which keys and values survive, while the block runs; a second one raises."""
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    if not interactive:
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def _write(text: str) -> None:
    print(text, end="", flush=True)


def _say(line: str) -> None:
    """Prints a line that is no part of the conversation."""
    print(escaped(line), file=sys.stderr, flush=True)
