import numpy as np

from whp.continual._stability_gap.outcomes import Outcomes


def test_outcomes_count_bits():
    rng = np.random.default_rng(0)
    rows = rng.random((9, 21)) < 0.5
    outcomes = Outcomes.of([rows])
    np.testing.assert_allclose(outcomes.accuracy(0), rows.mean(axis=1))
    expected = [(rows[3] & ~rows[t]).sum() for t in range(9)]
    assert outcomes.lost(0, 3, np.arange(9)).tolist() == expected
