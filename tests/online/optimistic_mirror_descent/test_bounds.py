import numpy as np
import pytest

from whp.online import sea_bound


def test_5_bounds_in_expectation():
    given = {"D": 2.0, "L": 0.5, "G": 2.0, "sigma2": 10.0, "Sigma2": 3.0}
    assert sea_bound("convex", **given) == pytest.approx(55.2268051, abs=1e-6)
    assert sea_bound("convex", **{**given, "L": 50.0}) == pytest.approx(3359.90425, abs=1e-5)
    assert sea_bound("convex", D=2.0, L=1.0, G=1.0, sigma2=0, Sigma2=0) == pytest.approx(
        64.9662725, abs=1e-6
    )
    assert sea_bound("convex", **given, scale_free=True) == pytest.approx(77.0029897, abs=1e-6)
    strong = sea_bound(
        "strongly_convex", lam=0.5, D=2.0, L=1.0, G=2.0, horizon=100, sigma2=0.25, Sigma2=0.01
    )
    assert strong == pytest.approx(253.7729126, abs=1e-6)
    for L, wanted in ((1.0, 2907.6869032), (0.1, 910.098181)):
        found = sea_bound("exp_concave", dim=5, beta=0.1, D=2.0, G=2.0, L=L, sigma2=100, Sigma2=10)
        assert found == pytest.approx(wanted, abs=1e-5)


def test_growing_variance_grows_the_bound():
    values = [
        sea_bound("convex", D=2.0, L=0.5, G=2.0, sigma2=s, Sigma2=1.0)
        for s in np.geomspace(1e-3, 1e6, 50)
    ]
    assert (np.diff(values) > 0).all()
    # Concave in the variance: the mean of two bounds is at most the bound of the mean.
    rng = np.random.default_rng(0)
    for a, b in rng.uniform(0, 1e4, (50, 2)):
        ends = [
            sea_bound("convex", D=2.0, L=1.0, G=1.0, sigma2=s, Sigma2=0.0)
            for s in (a, b, (a + b) / 2)
        ]
        assert (ends[0] + ends[1]) / 2 <= ends[2] * (1 + 1e-12)
