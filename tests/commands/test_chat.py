"""Conversations with a tiny model: lines in, answers out, and what is wrong with a line is told and no more."""

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax.numpy as jnp
import pytest

from jtrace.commands import chat
from jtrace.commands.chat import Speaker, begun, converse
from jtrace.data.corpus.chat_template import ChatTemplate
from jtrace.errors import InputError, Terminated
from jtrace.inference.generate import Sampling, generate
from jtrace.inference.language_model import load_language_model
from jtrace.inference.stream import TokenStream
from jtrace.probing.vector_files import read_vectors
from jtrace.steering.conversation import Conversation
from jtrace.steering.target_vectors import vectors_for
from jtrace.steering.vector import Condition, SteeringVector, edit_of
from tests.conftest import ROOT
from tests.in_process import refusal, run_command
from tests.tiny_chat import write_chat, write_vectors

MOST = 6
TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% if m['role'] == 'user' %}? {% endif %}{% endfor %}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    write_chat(folder / "chat")
    write_vectors(folder / "v.safetensors")
    return folder


@pytest.fixture(scope="module")
def model(place):
    """It never stops by itself."""
    return replace(load_language_model(place / "chat", "chat", jnp.float32), stop=())


@pytest.fixture(scope="module")
def stream(model):
    return TokenStream(model.params, model.config, Sampling(MOST, model.stop))


@pytest.fixture
def talk(place, model, stream, capsys):
    """Runs a conversation of some lines: what is printed, and what is said beside."""
    by_set = vectors_for(model, read_vectors(place / "v.safetensors"), place / "v.safetensors", False)

    def run(*lines, template=None, **changed):
        conversation = begun(Conversation(by_set, **changed), "stereoset", 1, 2.0)
        assert converse(Speaker(model, stream, template, MOST), conversation, iter(lines)) == 0
        return capsys.readouterr()

    return run


def expected(model, prompt, conversation):
    """The text that `generate` makes of a prompt, steered and not."""
    sampling = Sampling(MOST, model.stop)
    ((_, made),) = generate(model.params, model.config, model.encode([prompt]), sampling, conversation.edit)
    texts = model.decode(made)
    assert all(texts)
    return texts


@pytest.fixture
def steering(place, model):
    by_set = vectors_for(model, read_vectors(place / "v.safetensors"), place / "v.safetensors", False)
    return begun(Conversation(by_set), "stereoset", 1, 2.0)


def test_lines_are_answered_steered_and_the_text_goes_on(talk, model, steering):
    printed = talk("ba be", "bi").out
    first = expected(model, "ba be", steering)[1]
    second = expected(model, f"ba be{first}\nbi", steering)[1]
    assert printed == f"{first.strip()}\n\n{second.strip()}\n\n"


def test_strength_and_layer_change_on_the_way_and_reset_forgets(talk, model, steering):
    printed = talk("/layer 2", "/strength -3", "ba be", "/reset", "/strength 0", "ba be").out
    other = steering.steered(layer=2, strength=-3.0)
    plain, steered = expected(model, "ba be", other)
    said = "stereoset at layer 2, strength"
    assert printed == f"{said} 2\n{said} -3\n{steered.strip()}\n\nforgotten\n{said} 0\n{plain.strip()}\n\n"


def test_compare_shows_both_one_after_the_other(talk, model, steering):
    plain, steered = expected(model, "ba be", steering)
    printed = talk("/compare", "ba be").out
    assert printed == f"compare on\n{steering.steering}\n{steered.strip()}\n\nunsteered\n{plain.strip()}\n\n"
    assert plain != steered


def test_what_is_wrong_with_a_line_is_one_line_and_the_conversation_goes_on(talk, model, steering):
    streams = talk("/strength nan", "/layer 99", "/dance", "", "ba " * 600, "ba be")
    errors = [line for line in streams.err.splitlines() if line.startswith("error: ")]
    assert [re.search(part, line) is not None for part, line in zip(
        ("strength of nan", "no layer 99", "no command '/dance'", "no room for an answer in the context of 512"),
        errors,
        strict=True,
    )] == [True] * 4  # fmt: skip
    assert streams.out == f"{expected(model, 'ba be', steering)[1].strip()}\n\n"


def test_the_start_says_what_is_set_and_that_there_is_no_template(talk):
    assert talk().err.splitlines() == [
        "chat, stereoset at layer 1, strength 2; /help lists the commands",
        "chat has no chat template: it continues the text so far",
    ]


def test_quit_ends_before_the_lines_do(talk):
    streams = talk("/quit", "ba be")
    assert streams.out == ""


def test_turns_that_no_longer_fit_are_dropped_and_told(talk):
    said = talk("ba " * 300, "be " * 300).err
    assert "the context of 512 is full: the oldest 1 turns go" in said
    assert "error" not in said


def test_an_answer_without_an_end_is_told(talk):
    assert talk("ba be").err.endswith(f"cut after {MOST} tokens\n")


def test_a_token_that_ends_an_answer_is_not_shown(place, model, steering, capsys):
    text = expected(model, "ba be", steering)[1].split()
    ending = replace(model, stop=tuple(model.encode([text[-1]])[0].tolist()))
    stream = TokenStream(model.params, model.config, Sampling(MOST, ending.stop))
    assert converse(Speaker(ending, stream, None, MOST), steering, iter(["ba be"])) == 0
    streams = capsys.readouterr()
    assert streams.out.split() == text[: text.index(text[-1])]
    assert "cut" not in streams.err


def test_controls_of_a_model_are_not_sent_to_the_terminal(talk, monkeypatch):
    monkeypatch.setattr(chat, "settled_text", lambda model, tokens: "")
    monkeypatch.setattr(chat, "_whole", lambda model, tokens: "a\x1b]0;title\x07b")
    assert talk("ba be").out == "a\\x1b]0;title\\x07b\n\n"


def test_the_chat_template_writes_the_turns(talk, model, steering):
    with ChatTemplate(TEMPLATE, {}) as template:
        streams = talk("ba be", template=template, system="Yes")
    answer = expected(model, "Yes ba be ?", steering)[1]
    assert streams.out == f"{answer.strip()}\n\n"
    assert "no chat template" not in streams.err


@pytest.mark.parametrize("template", ["{{ messages.__class__.__mro__ }}", "{{ raise_exception('no system') }}"])
def test_a_template_that_reaches_out_or_refuses_is_one_line(talk, template):
    with ChatTemplate(template, {}) as rendering, pytest.raises(InputError, match="chat: the chat template refuses it"):
        talk("ba be", template=rendering)


def test_the_default_layer_is_the_middle_one(steering):
    assert begun(Conversation(steering.vectors), "toxigen", None, 1.0).layer == 1


# The command


def environment(tmp_path):
    return os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "TERM": "dumb"}


def flags_of(place, *more):
    files = [f"--model={place}/chat", f"--vectors={place}/v.safetensors"]
    return [*files, "--vector_set=toxigen", f"--max_new_tokens={MOST}", *more]


def command(place, *flags):
    return [sys.executable, str(ROOT / "launch/chat.py"), *flags_of(place, *flags)]


def piped(monkeypatch, content):
    """Lines of standard input, where nobody sits at a terminal."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_the_command_answers_lines_under_its_flags(place, monkeypatch, capsys):
    loaded = load_language_model(place / "chat", "chat", jnp.float32)
    piped(monkeypatch, b"ba be\r\n/show\n\xff\n")
    assert run_command("chat", *flags_of(place, "--layer=0", "--strength=-2.5", "--positions=all", "--system=Yes")) == 0
    vector = read_vectors(place / "v.safetensors").arrays["toxigen"]
    edit = edit_of(SteeringVector(vector, (0, 1, 2), "base_step7", "toxigen"), [Condition((0,), -2.5)])
    ((_, made),) = generate(
        loaded.params,
        loaded.config,
        loaded.encode(["Yes\nba be"]),
        Sampling(MOST, loaded.stop),
        edit,
        positions="all",
    )
    streams = capsys.readouterr()
    assert streams.err.startswith("chat, toxigen at layer 0, strength -2.5; /help lists the commands\n")
    assert streams.out.startswith(f"{loaded.decode(made)[1].strip()}\n\n")
    assert "turns     1" in streams.out


def test_without_vectors_the_model_is_talked_to_as_it_is(place, monkeypatch, capsys):
    (said,) = load_language_model(place / "chat", "chat", jnp.float32).complete(["ba be"], MOST)
    piped(monkeypatch, b"ba be\n")
    assert run_command("chat", f"--model={place}/chat", f"--max_new_tokens={MOST}") == 0
    streams = capsys.readouterr()
    assert streams.err.startswith("chat, unsteered; ")
    assert streams.out == f"{said.strip()}\n\n"
    assert said.strip()


def test_without_standard_input_there_is_nothing_to_answer(place, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert run_command("chat", f"--model={place}/chat") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("flag", ["--layer=1", "--vector_set=toxigen"])
def test_what_steers_needs_a_vector(place, flag):
    assert refusal("chat", f"--model={place}/chat", flag).startswith(
        "error: --layer and --vector_set need a vector; name a file by --vectors="
    )


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_lines_at_a_terminal_are_asked_for_until_the_end_or_ctrl_c(monkeypatch, capsys, end):
    answers = iter(["ba be", "", end()])

    def asked(prompt):
        assert prompt == "> "
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr("builtins.input", asked)
    monkeypatch.setitem(sys.modules, "readline", None)  # it would take over this process's terminal
    assert list(chat._lines(interactive=True)) == ["ba be", ""]
    assert capsys.readouterr().out == "\n"


def test_a_program_that_is_to_end_does_not_wait_for_a_line(monkeypatch):
    def ended(prompt):
        raise Terminated

    monkeypatch.setattr("builtins.input", ended)
    monkeypatch.setitem(sys.modules, "readline", None)
    with pytest.raises(Terminated):
        next(chat._lines(interactive=True))


def test_ctrl_c_ends_an_answer_at_a_terminal_and_the_conversation_goes_on(model, stream, steering, capsys, monkeypatch):
    """Both columns of a comparison stop together, and what is there of the first is the turn."""
    monkeypatch.setenv("COLUMNS", "80")
    before, tokens = signal.getsignal(signal.SIGINT), []

    class Interrupted:
        def answer(self, *arguments, **named):
            for piece in stream.answer(*arguments, **named):
                tokens.append(piece)
                if len(tokens) == 2:
                    signal.raise_signal(signal.SIGINT)
                yield piece

    speaker = Speaker(model, Interrupted(), None, MOST, interactive=True)
    assert converse(speaker, steering, iter(["/compare", "ba be", "/show"])) == 0
    streams = capsys.readouterr()
    assert "stopped\n" in streams.err
    assert "turns     1" in streams.out
    assert len(tokens) == 2
    assert signal.getsignal(signal.SIGINT) is before
    # Side by side, as the terminal is wide enough.
    heads, rule, *_ = streams.out.removeprefix("compare on\n").splitlines()
    assert heads.split(" | ")[0].strip() == steering.steering
    assert "-- | --" in rule


def test_a_second_ctrl_c_ends_the_program():
    with chat._stoppable(interactive=True) as is_stopped:
        assert not is_stopped()
        signal.raise_signal(signal.SIGINT)
        assert is_stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_piped_lines_are_answered_on_an_ascii_terminal(place, tmp_path):
    done = subprocess.run(
        command(place, "--strength=2", "--system=Größe"),
        input="ba be\n\xff/é\n/compare\nbo\n".encode("latin-1"),
        env=environment(tmp_path) | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"compare on\ntoxigen at layer 1, strength 2\n" in done.stdout
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"error" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layer=7"], "have no layer 7; they have 0-2"),
        (["--strength=nan"], "a strength of nan is not a number"),
        (["--temperature=nan"], "--temperature=nan: give a finite number"),
        (["--vector_set=sst2"], "the vectors hold no set 'sst2'"),
    ],
)
def test_wrong_flags_are_one_line(place, flags, message, capsys):
    assert message in refusal("chat", *flags_of(place, *flags))
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_ctrl_c_stops_an_answer_and_at_the_prompt_the_program(tmp_path):
    """At a terminal 120 cells wide, where two answers are side by side."""
    folder = write_chat(tmp_path / "chat", context=100_000)
    write_vectors(tmp_path / "v.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(json.loads((folder / "tokenizer_config.json").read_text()) | {"eos_token": None})
    )
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [*command(tmp_path)[:-1], "--max_new_tokens=90000"],
        stdin=terminal, stdout=terminal, stderr=terminal, env=environment(tmp_path) | {"COLUMNS": "120"},
    )  # fmt: skip
    os.close(terminal)
    seen = bytearray()

    def wait_for(part, seconds=120.0):
        deadline = time.monotonic() + seconds
        while part not in seen:
            assert select.select([main], [], [], max(0.0, deadline - time.monotonic()))[0], bytes(seen[-2000:])
            seen.extend(os.read(main, 1 << 16))
        del seen[: seen.index(part) + len(part)]

    try:
        wait_for(b"> ")
        os.write(main, b"/compare\n")
        wait_for(b"> ")
        os.write(main, b"ba be\n")
        wait_for(b"-- | --")
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        wait_for(b"stopped")
        wait_for(b"> ")
        os.write(main, b"/show\n")
        wait_for(b"turns     1")
        wait_for(b"> ")
        time.sleep(1)  # a signal between the prompt and the wait for a key would be seen with the key
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        os.close(main)
