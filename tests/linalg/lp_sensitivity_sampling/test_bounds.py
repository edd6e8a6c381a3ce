import pytest

from whp.linalg._lp_sensitivity_sampling.bounds import (
    chernoff_bound,
    khintchine,
    lp_rows_needed,
    net_bound,
    rademacher_bound,
    rademacher_mean,
)


def test_bounds():
    for p, value in ((1, 0.35889), (2, 0.38319), (3, 0.39682)):
        assert net_bound(1e-3, 10, p, 0.05) == pytest.approx(value, abs=1e-3)
    assert net_bound(1e-4, 10, 1, 0.05) == pytest.approx(0.11950, abs=1e-3)
    assert rademacher_bound(1e-3, 10, 1, 0.05, 20_000) == pytest.approx(0.4109273, rel=1e-5)
    assert rademacher_bound(1e-3, 10, 1.5, 0.05, 20_000) == pytest.approx(0.3531119, rel=1e-5)
    assert rademacher_bound(1e-4, 10, 1, 0.05, 20_000) == pytest.approx(0.1227634, rel=1e-5)
    assert chernoff_bound(1e-2, 10, 0.05) == pytest.approx(0.3656065, rel=1e-6)
    assert chernoff_bound(1e-3, 10, 0.05) == pytest.approx(0.1114460, rel=1e-5)
    assert rademacher_mean(1e-2, 10) == pytest.approx(1.2221456, rel=1e-5)
    assert khintchine(3) == pytest.approx(1.1685753, rel=1e-7)
    assert khintchine(4) == pytest.approx(1.3160740, rel=1e-7)


@pytest.mark.parametrize(
    ("d", "p", "n", "bound", "rows"),
    [
        (11, 1, 20190, "rademacher", 7673),
        (11, 1, 20190, "net", 6108),
        (11, 1.5, 20190, "rademacher", 6070),
        (11, 1.5, 20190, "net", 6653),
        (11, 2, 20190, "chernoff", 619),
        (50, 1, 10**6, "rademacher", 44493),
        (50, 1, 10**6, "net", 118597),
    ],
)
def test_rows_needed(d, p, n, bound, rows):
    assert lp_rows_needed(d, p, n=n, bound=bound) == pytest.approx(rows, rel=0.01)
