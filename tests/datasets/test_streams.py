import numpy as np
import pytest

from whp.datasets import streams


@pytest.mark.skipif(not streams.has_bikeshare(), reason="ISLP is not installed")
def test_bikeshare_is_scaled_and_has_one_hour_a_row():
    table, target = streams.bikeshare_regression()
    assert table.shape == (8645, 30)
    assert target.max() == 1.0
    assert (table.filter(like="hr_").sum(axis=1) == 1).all()


def test_biopsies_are_standardised():
    X, y = streams.breast_cancer()
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(X.std(axis=0), 1)
    assert sorted(set(y.tolist())) == [-1, 1]
