from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from whp.calibration import band, kl_interval
from whp.calibration._h_calibration.band import blocks_for, cut, rows_needed
from whp.concentration import simultaneous_proportions
from whp.studies.h_calibration.worlds import labels_of as draw


def test_intervals_are_those_of_clopper_and_pearson():
    rng = np.random.default_rng(0)
    P = rng.dirichlet([1, 1, 1], 600)
    table = band(P, draw(P, rng), blocks=10, delta=0.1)
    assert (table["part"] == "top label").sum() == 4
    tail = 0.1 / 2 / len(table)
    for row in table.itertuples():
        hits, m = round(row.frequency * row.entries), row.events
        low = beta.ppf(tail, hits, m - hits + 1) if hits else 0.0
        high = beta.ppf(1 - tail, hits + 1, m - hits) if hits < m else 1.0
        low = tail / m if hits == 1 else low
        high = 1 - tail / m if hits == m - 1 else high
        assert row.lower == pytest.approx(low * m / row.entries, abs=2e-9)
        assert row.upper == pytest.approx(min(high * m / row.entries, 1), abs=2e-9)


def test_of_no_hits_the_upper_end_has_a_closed_form():
    P = np.tile([1.0, 0.0], (50, 1))
    table = band(P, np.zeros(50, int), blocks=2)
    zeros = table[(table["part"] == "all classes") & (table["mean_predicted"] == 0)].iloc[0]
    assert zeros["lower"] == 0
    assert zeros["upper"] == pytest.approx(1 - (0.05 / 2 / len(table)) ** (1 / 50), abs=2e-9)


@pytest.mark.parametrize("m", [1, 2, 10, 50])
def test_unequal_events_are_covered_next_to_both_ends(m):
    """One event that can fail among certain ones: the binomial law of the same mean fails less often."""
    delta, blocks = 0.4, 2  # wide, so that the difference would show
    for missing in np.linspace(1e-3, 0.3, 200):
        mean = (m - missing) / m  # that event fails with probability `missing`
        hits = np.array([m - 1, m])
        low, high = simultaneous_proportions(hits, m, delta)
        missed = np.array([missing, 1 - missing])[(mean < low) | (mean > high)].sum()
        assert missed <= delta / blocks / 2 + 1e-12


def test_kl_interval():
    low, high = kl_interval(np.array([0.0, 0.3]), np.array([100, 100]), np.log(40))
    np.testing.assert_allclose(low, [0, 0.1872126259], atol=1e-9)
    np.testing.assert_allclose(high, [0.0362166926, 0.4320194934], atol=1e-9)
    low, high = kl_interval(np.array([1.0]), np.array([50]), np.log(40))
    assert (low[0], high[0]) == (pytest.approx(0.9288782635, abs=1e-9), 1)


def test_of_top_labels_a_row_owns_one_entry_and_of_all_classes_as_many_as_there_are():
    P = np.random.default_rng(0).dirichlet([1] * 5, 300)
    table = band(P, P.argmax(axis=1), blocks=5)
    top, every = (table[table["part"] == p] for p in ("top label", "all classes"))
    assert (top["entries"] == top["events"]).all()
    assert top["entries"].sum() == 300
    assert every["entries"].sum() == 1500
    assert (every["events"] <= every["entries"]).all()
    classes = band(P, P.argmax(axis=1), blocks=5, classwise=True)
    own = classes[classes["part"] == "one class"]
    assert (own["events"] == own["entries"]).all()
    assert sorted(set(own["class"])) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("order", ["sorted", "reversed", "shuffled"])
def test_no_order_of_rows_cuts_by_outcome(order):
    """Rows sorted by label that tie in their scores: .7 is right, whatever their order."""
    rng = np.random.default_rng(0)
    P = np.tile([0.7, 0.3], (4000, 1))
    y = np.repeat([0, 1], [2800, 1200])
    y = {"sorted": y, "reversed": y[::-1], "shuffled": rng.permutation(y)}[order]
    for classwise in (False, True):
        table = band(P, y, blocks=20, classwise=classwise)
        assert table["error"].max() < 1e-12
        assert len(table[table["part"] == "top label"]) == 1


def test_some_ties_go_to_one_block_each():
    rng = np.random.default_rng(0)
    P = np.round(rng.dirichlet([0.5] * 3, 900) * 10) / 10
    P = np.maximum(P, 1e-9)
    P /= P.sum(axis=1, keepdims=True)
    y = draw(P, rng)
    again = rng.permutation(900)
    first, second = band(P, y, blocks=7), band(P[again], y[again], blocks=7)
    np.testing.assert_allclose(first["frequency"], second["frequency"], atol=1e-12)
    ranges = first[first["part"] == "all classes"][["lowest", "highest"]].to_numpy().ravel()
    assert (np.diff(ranges)[1::2] > 0).all()


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]), min_size=1, max_size=60), st.integers(1, 9)
)
@settings(max_examples=80, deadline=None)
def test_cut_parts_everything_once_and_ties_never(values, count):
    array = np.array(values)
    parts = cut(array, count)
    assert sorted(np.concatenate(parts)) == list(range(len(array)))
    assert 1 <= len(parts) <= count
    ends = [(array[p].min(), array[p].max()) for p in parts]
    assert all(a[1] < b[0] for a, b in pairwise(ends))


def test_without_ties_blocks_are_equal_to_one_entry():
    sizes = [len(p) for p in cut(np.random.default_rng(0).random(103), 10)]
    assert sorted(sizes) == [10] * 7 + [11] * 3


def test_groups_count_once():
    """Five visits of a patient with one label: not 500 events but 100."""
    rng = np.random.default_rng(0)
    C = rng.dirichlet([1, 1], 100)
    y = np.repeat(draw(C, rng), 5)
    P = np.repeat(C, 5, axis=0)
    alone, grouped = band(P, y, blocks=5), band(P, y, blocks=5, groups=np.repeat(range(100), 5))
    assert (grouped["events"] * 5 <= grouped["entries"] + 5).all()
    width = (grouped["upper"] - grouped["lower"]).mean() / (alone["upper"] - alone["lower"]).mean()
    assert 1.7 < width < 3  # about sqrt(5)
    single = band(C, draw(C, rng), groups=rng.permutation(100))
    assert (single["events"] == single["most"]).all()


def test_the_number_of_blocks_follows_rows_and_error():
    assert [blocks_for(n, 0.1) for n in (100, 1500, 3000, 6000, 10**6)] == [5, 5, 10, 20, 20]
    assert blocks_for(12_000, 0.05) == 10
    assert rows_needed(5, 0.1) == 1500
    assert rows_needed(5, 0.05) == 6000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [0, 1]}, "y must have 4"),
        ({"y": [0, 1, 2, 0]}, "y must hold"),
        ({"delta": 0.0}, "delta"),
        ({"blocks": 0}, "blocks"),
        ({"groups": [1]}, "groups must have 4"),
        ({"probs": [0.5] * 4}, "probs"),
        (
            {"probs": np.full((4, 2), -0.5)},
            r"probs must hold probabilities in \[0, 1\], which row 0",
        ),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        band(**{"probs": np.full((4, 2), 0.5), "y": [0, 1, 0, 1], **change})
