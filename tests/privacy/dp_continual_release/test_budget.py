import math
from decimal import Decimal, localcontext

import pytest

from whp.privacy import epsilon_of_rho, gaussian_epsilon, rho_of_epsilon
from whp.privacy._dp_continual_release.budget import Budget, simple_epsilon


def test_conversions():
    wanted = [
        (0.005, 0.429941, 0.530652, 0.396857),
        (0.05, 1.471595, 1.712258, 1.367571),
        (0.5, 5.221534, 5.756522, 4.886554),
        (1, 7.766217, 8.433844, 7.286081),
    ]
    for rho, epsilon, loose, gaussian in wanted:
        assert epsilon_of_rho(rho, 1e-6) == pytest.approx(epsilon, abs=1e-6)
        assert simple_epsilon(rho, 1e-6) == pytest.approx(loose, abs=1e-6)
        assert gaussian_epsilon(math.sqrt(2 * rho), 1e-6) == pytest.approx(gaussian, abs=1e-6)
        assert gaussian <= epsilon <= loose
    for epsilon, delta, rho in ((1, 1e-6, 0.024356), (0.5, 1e-6, 0.006642), (2, 1e-9, 0.056131)):
        assert rho_of_epsilon(epsilon, delta) == pytest.approx(rho, abs=1e-6)


def test_rho_has_no_epsilon_at_zero():
    with pytest.raises(ValueError, match="delta must be above 0 with rho"):
        Budget.of(0.5, None, 0)


@pytest.mark.parametrize("rho", [5e-324, 1e-18, 1e-3, 0.5, 1e3, 1e6])
@pytest.mark.parametrize("delta", [1e-300, 1e-12, 0.1, 0.9, 1 - 1e-6, 1 - 1e-12])
def test_no_order_gives_a_smaller_epsilon(rho, delta):
    with localcontext(prec=60):
        r, log = Decimal(rho), -Decimal(delta).ln()

        def at(u):
            e = u.exp()
            return (1 + e) * r + u - (1 + 1 / e) * (1 + e).ln() + log / e

        # To sixty digits, where nothing is lost to rounding, ε falls to its least value and climbs again.
        low, high = Decimal(-60), (log / r).ln() / 2 + 1
        for _ in range(120):
            left, right = low + (high - low) / 3, high - (high - low) / 3
            low, high = (low, right) if at(left) < at(right) else (left, high)
        least = float(max(Decimal(0), at(low)))
    found = epsilon_of_rho(rho, delta)
    assert least * (1 - 1e-13) - 1e-15 <= found <= least * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("epsilon", [1e-12, 1e-3, 1.0, 10.0, 1e3, 1e5])
@pytest.mark.parametrize("delta", [1e-300, 1e-12, 1e-6, 0.5, 0.99, 1 - 1e-6, 1 - 1e-12])
def test_the_largest_rho_is_found_for_every_budget(epsilon, delta):
    rho = rho_of_epsilon(epsilon, delta)
    assert epsilon_of_rho(rho, delta) <= epsilon < epsilon_of_rho(rho * (1 + 1e-9), delta)
    assert Budget.of(None, epsilon, delta).size == rho


@pytest.mark.parametrize("convert", [epsilon_of_rho, rho_of_epsilon, gaussian_epsilon])
@pytest.mark.parametrize(
    ("size", "delta"),
    [(-1, 0.1), (math.nan, 0.1), (math.inf, 0.1), (1, 0), (1, 1), (1, 2), (1, math.nan)],
)
def test_conversions_name_what_cannot_be(convert, size, delta):
    with pytest.raises(ValueError, match="must be"):
        convert(size, delta)


@pytest.mark.parametrize(
    "budget", [{"rho": 5e-324}, {"epsilon": 1e-200}, {"epsilon": 1e-200, "delta": 1e-6}]
)
def test_a_budget_whose_square_is_no_number_is_named(budget):
    with pytest.raises(ValueError, match="must be in"):
        Budget.of(budget.get("rho"), budget.get("epsilon"), budget.get("delta"))
