import numpy as np
import pytest

from dig.interests import Interest, item_quality, to_frame


def interest(item: str, text: str, confidence: float | None, label: int | None) -> Interest:
    return Interest(item, text, "text", confidence, "m", label)


def test_closed_forms():
    frame = to_frame(
        [
            interest("A", "a", 0.5, 1),
            interest("A", "b", 0.25, 0),
            interest("A", "c", 0.25, 1),
            interest("B", "a", None, 1),
            interest("B", "b", None, 0),
            interest("B", "c", None, 0),
            interest("C", "a", 0.9, 0),
            interest("D", "a", 0.0, 1),
            interest("other", "a", 1.0, 1),
        ]
    )
    quality = item_quality(frame, ["B", "A", "none", "C", "D"])
    assert quality.dtype == np.float32
    np.testing.assert_allclose(quality, [1 / 3, 0.75, 0.0, 0.0, 0.0], rtol=1e-6)


def test_against_the_sum_written_out():
    rng = np.random.default_rng(0)
    rows = [
        (f"I{rng.integers(30)}", f"t{n}", None if rng.random() < 0.3 else float(rng.random()), int(rng.integers(2)))
        for n in range(400)
    ]
    items = [f"I{n}" for n in range(32)]
    expected = []
    for item in items:
        pairs = [(1.0 if c is None else c, y) for i, _, c, y in rows if i == item]
        expected.append(sum(c * y for c, y in pairs) / sum(c for c, _ in pairs) if pairs else 0.0)
    quality = item_quality(to_frame(interest(*row) for row in rows), items)
    np.testing.assert_allclose(quality, expected, rtol=1e-6)


def test_no_interests_at_all_and_unlabelled():
    np.testing.assert_array_equal(item_quality(to_frame([]), ["A", "B"]), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="1 interests have no label"):
        item_quality(to_frame([interest("A", "a", None, None)]), ["A"])
