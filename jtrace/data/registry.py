"""The built-in statement sets, with facts about each beside its rows."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SetInfo:
    """Facts about a built-in set beside its rows."""

    dimension: str  # reliability, toxicity, privacy, fairness or robustness
    vector_fraction: float  # leading share of the rows for a `paper` steering vector
    label_one: str  # meaning of label 1
    one_is_good: bool  # whether label 1 is the trustworthy side
    csv: str  # file name inside --data_dir


BUILTIN: Mapping[str, SetInfo] = {
    "truthfulqa": SetInfo("reliability", 1.0, "the answer is true", True, "truthfulqa_train.csv"),
    "toxigen": SetInfo("toxicity", 0.5, "toxic", False, "toxigen.csv"),
    "confaide": SetInfo("privacy", 0.5, "violates privacy", False, "confaide.csv"),
    # Label 0 is an unrelated sentence; no stereotype is among the published rows (docs/statement_sets.md).
    "stereoset": SetInfo("fairness", 0.5, "an anti-stereotypical continuation", True, "stereoset.csv"),
    "sst2": SetInfo("robustness", 0.5, "the text was perturbed", False, "sst2.csv"),
}
# The built-in sets' published CSV files by the fingerprint of their content: they are recognised under any name.
PUBLISHED: Mapping[str, str] = {
    "1ed1add2cb409d26b111fa965a002cb1337765359d3a38c4f0f7b0a8cc6a4dcf": "truthfulqa",
    "7ba70e7e6994bd9ae9c724912d9092991069cebf43c1dc4a9b2e38549105d3ff": "toxigen",
    "3bd01b555c3f94d99beee129e6d00cfd8aebb84e1e64c1da3b30cf5652ed114b": "confaide",
    "689fdc8c58e2909ab548a5cde621e3e1d7a8f3cfa994b9c4e6ae62946ad1cfe5": "stereoset",
    "234a26aa30eab35d9360c4b48ded2d3e31c8d1c8fe6d402d8853a82503572fd5": "sst2",
}
# The sets of the invented world (jtrace.data.world), by dimension.
WORLD: Mapping[str, SetInfo] = {
    f"world-{dimension}": SetInfo(dimension, 0.5, label_one, one_is_good, f"world-{dimension}.csv")
    for dimension, label_one, one_is_good in (
        ("reliability", "the answer is true", True),
        ("toxicity", "an insult", False),
        ("privacy", "a secret is told to those who are not trusted with it", False),
        ("fairness", "a prejudice about a folk", False),
        ("robustness", "the text was perturbed", False),
    )
}
