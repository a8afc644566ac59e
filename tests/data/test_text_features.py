"""What texts show without a model."""

import numpy as np

from jtrace.data.text_features import SURFACE, surface_features


def test_surface_features_are_what_they_are_called():
    found = dict(zip(SURFACE, surface_features(("No, it's 42!",))[0], strict=True))
    assert found["characters"] == 12
    assert found["words"] == 3
    np.testing.assert_allclose(found["share of upper-case letters"], 1 / 12)
    np.testing.assert_allclose(found["share of digits"], 2 / 12)
    np.testing.assert_allclose(found["share of punctuation and symbols"], 3 / 12)
    assert found["begins with an upper-case letter"] == 1
    assert found["ends with a letter or digit"] == 0
    assert (found["holds a question mark"], found["holds an exclamation mark"]) == (0, 1)


def test_a_text_of_signs_alone_has_features_too():
    assert np.isfinite(surface_features((" ?", "…"))).all()
