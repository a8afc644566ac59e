"""The world and its parts as they are named on the command line."""

import pytest

from jtrace.data.corpus.readers import read_documents
from jtrace.data.loading import read_all
from jtrace.data.registry import WORLD
from jtrace.data.world.documents import corpus
from jtrace.data.world.entities import WorldConfig
from jtrace.data.world.facts import make_world
from jtrace.data.world.spec import names_world, parse_world
from jtrace.data.world.statement_sets import statement_set
from jtrace.errors import InputError


def test_a_spec_sets_fields_of_the_world():
    assert parse_world("world") == ("", WorldConfig())
    assert parse_world("world:seed=3:noise=0.25") == ("", WorldConfig(seed=3, noise=0.25))
    assert parse_world("world-fairness:people=20") == ("fairness", WorldConfig(people=20))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("world:size=3", "'size=3' sets nothing of a world; write FIELD=VALUE of seed, people"),
        ("world:people", "'people' sets nothing"),
        ("world:people=many", "'many' is no int for people"),
        ("world:noise=loud", "'loud' is no float for noise"),
        ("world:people=1", "WorldConfig.people is 1; give 8 to 400"),
    ],
)
def test_a_spec_that_sets_nothing_is_refused(spec, message):
    with pytest.raises(InputError, match=message):
        parse_world(spec)


def test_names_that_only_begin_alike_are_not_the_worlds():
    assert names_world("world-chat:seed=1")
    assert not names_world("worldly")
    assert not names_world("runs/world")


def test_world_is_five_statement_sets_and_each_can_be_named_alone():
    sets = read_all(["world:seed=2"])
    assert [one.name for one in sets] == list(WORLD)
    (alone,) = read_all(["world-fairness:seed=2"])
    assert alone.fingerprint == sets[3].fingerprint
    assert alone.dimension == "fairness"
    assert alone.where(0) == "world:2, row 1"


def test_a_file_called_world_is_read_as_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "world.csv").write_text("statement,label\na,0\nb,1\n", encoding="utf-8")
    (one,) = read_all(["world.csv"])
    assert one.texts == ("a", "b")


def test_a_part_that_the_world_lacks_is_refused():
    with pytest.raises(InputError, match="'world-humour' is no set of the world; it has world-reliability"):
        read_all(["world-humour"])
    with pytest.raises(InputError, match="'world-humour' is no text of the world"):
        read_documents(["world-humour"])


def test_text_of_the_world_is_its_corpus():
    world = make_world(WorldConfig(seed=1, documents=20))
    assert list(read_documents(["world:seed=1:documents=20"])) == corpus(world, 20)


def test_the_same_world_speaks_whatever_the_number_of_documents():
    few, many = (make_world(WorldConfig(documents=count)) for count in (5, 50))
    assert corpus(few, 5) == corpus(many, 5)
    assert statement_set(few, "privacy").texts == statement_set(many, "privacy").texts
