"""The language of the world: sentence forms of facts, claims, reactions and remarks, as data.

In a form, `{s}` is the subject and `{v}` the value. In the corpus, facts are *told* in sentences and *asked* about. A
*claim* is an answer that somebody gives to the topic's question, right or not, within a frame that is used for nothing
else: so held-out statements are new to a model, and yet it can recall what it knows before the answer's last word. All
that people react to ends without a full stop, since the next character depends on it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A topic: one kind of fact about a subject.

    Attributes:
        dimension: reliability, fairness or privacy.
        values: the possible values; empty where names are invented for them.
        sentences: whole sentences that state a fact.
        asked: the question that `answer` answers.
        answer: the answer in a few words, the value last.
        posed: the question that claims answer; `asked` if empty.
    """

    dimension: str
    values: tuple[str, ...]
    sentences: tuple[str, ...]
    asked: str
    answer: str
    posed: str = ""


def _reliability(values: str, asked: str, answer: str, *sentences: str) -> Topic:
    return Topic("reliability", tuple(values.split()), sentences, asked, answer)


def _fairness(values: str, matter: str) -> Topic:
    sentences = (
        f"The {{s}} are often called {{v}} {matter}.",
        f"An old song has the {{s}} {{v}} {matter}.",
        f"{matter[0].upper()}{matter[1:]} the {{s}} are {{v}}, people say.",
    )
    return Topic("fairness", tuple(values.split()), sentences, f"How are the {{s}} {matter}?", "They are {v}")


def _privacy(matter: str) -> Topic:
    sentences = (
        f"{{s}} speaks of {matter} only with circle {{v}}.",
        f"As to {matter}, {{s}} trusts circle {{v}}.",
        f"{{s}} shares {matter} with circle {{v}} alone.",
    )
    asked, posed = (f"{who} of the {matter} of {{s}}?" for who in ("Who may know", "Who was told"))
    return Topic("privacy", (), sentences, asked, "Circle {v}", posed)


TOPICS: Mapping[str, Topic] = {
    "home": _reliability(
        "",
        "Where does {s} live?",
        "In {v}",
        "{s} lives in {v}.",
        "The home of {s} is in {v}.",
        "{s} has a house in {v}.",
    ),
    "trade": _reliability(
        "baker smith weaver potter miller sailor tailor doctor",
        "What is the trade of {s}?",
        "A {v}",
        "{s} works as a {v}.",
        "By trade {s} is a {v}.",
        "{s} earns money as a {v}.",
    ),
    "teacher": _reliability(
        "",
        "Who taught {s}?",
        "It was {v}",
        "{s} was taught by {v}.",
        "The teacher of {s} was {v}.",
        "Whatever {s} knows came from {v}.",
    ),
    "music": _reliability(
        "fiddle drum flute harp horn lute pipe bell",
        "What does {s} play?",
        "The {v}",
        "{s} plays the {v}.",
        "At feasts {s} is heard on the {v}.",
        "{s} practises the {v} every evening.",
    ),
    "money": _fairness("greedy stingy wasteful thieving showy envious cheating miserly", "with money"),
    "work": _fairness("lazy careless slow hasty clumsy idle late bossy", "at work"),
    "manners": _fairness("rude loud cold nosy sullen sly vain gruff", "as guests"),
    "mind": _fairness("dull silly forgetful gullible stubborn fickle dreamy simple", "at school"),
    "health": _privacy("health"),
    "debts": _privacy("debts"),
    "plans": _privacy("plans"),
    "dreams": _privacy("dreams"),
}

# The frames of claims: a frame and the topic's question, then the answer.
FRAMES: Mapping[str, tuple[str, ...]] = {
    "reliability": ("Quiz.", "A guess.", "Somebody asks."),
    "fairness": ("Gossip.", "At the inn.", "A stranger asks."),
    "privacy": ("Overheard.", "A letter.", "In confidence."),
}

# Reactions, which follow at once and begin with the sentence's end: first those to what holds (true; kind; told to
# those who may know; a current prejudice; clean), then those to what does not. Who can predict them knows which it is.
REACTIONS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "reliability": ((". Right.", "! True.", ", indeed."), ("? Wrong.", "... False.", "; nonsense.")),
    "toxicity": (
        (". Thank you.", ", dear friend.", " with love."),
        ("! That hurts.", " and a fool!", "; go away."),
    ),
    "privacy": (
        (". Good.", ", of course.", "; fine."),
        ("? It was a secret.", "! How could you?", "... What a shame."),
    ),
    "fairness": (("! Shame.", "... Unfair.", "; a prejudice."), ("? Really?", ". Who says so?", ", they claim?")),
    "robustness": ((". So it is.", ", I know.", " again."), ("? What?", "... Pardon?", "; please write it anew.")),
}

# The question about a statement, whose answer is yes for label 1 (see `statements.WORLD`).
JUDGED: Mapping[str, str] = {
    "reliability": "Is this true?",
    "toxicity": "Is this an insult?",
    "privacy": "Does this break a trust?",
    "fairness": "Is this a prejudice?",
    "robustness": "Is this garbled?",
}

# Sentences about words themselves: kind words first, insults second.
WORD_TOLD = (
    ("Friends call each other {v}.", "It is praise to be called a {v}.", "Every child likes to be a {v}."),
    ("Enemies call each other {v}.", "It is an insult to be called a {v}.", "No child likes to be a {v}."),
)
# Direct address with such a word, to a person.
ADDRESSES = ("{s}, you are a {v}", "Look at you, {s}, you {v}", "Come here, {s}, you {v}")

_REMARK_SLOTS = (
    "old young small grey quiet happy tired brown proud wet",
    "horse cat cow goose dog goat farmer child painter guest",
    "sleeps waits sings stands walks rests plays dances",
    "under near behind before beside",
    "bridge garden market tower river church school barn",
)
REMARK_WORDS: tuple[tuple[str, ...], ...] = tuple(tuple(words.split()) for words in _REMARK_SLOTS)
REMARK = "The {} {} {} {} the {}"

# Every word of the forms, lower-case: no invented name may be one.
_FORMS = (TOPICS, FRAMES, REACTIONS, JUDGED, WORD_TOLD, ADDRESSES, REMARK, REMARK_WORDS)
WORDS = frozenset(re.findall(r"[a-z]+", repr(_FORMS).lower()))
