"""A tiny chat model with 60 statements about nothing, loaded once."""

import pytest

import jtrace
from tests.tiny_chat import write_chat, write_set


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python")
    write_chat(folder / "chat")
    write_set(folder / "mine.csv", 60)
    return folder


@pytest.fixture(scope="session")
def model(place):
    return jtrace.load_model(place / "chat")


@pytest.fixture(scope="session")
def data(place):
    return jtrace.load_statements(place / "mine.csv")


@pytest.fixture(scope="session")
def acts(model, data):
    return model.activations(data)


@pytest.fixture(scope="session")
def sound():
    return jtrace.SoundConfig(permutations=20, draws=100)


@pytest.fixture(scope="session")
def run(place, data):
    """The same model and statements, traced."""
    return jtrace.trace(place / "chat", data, place / "run")
