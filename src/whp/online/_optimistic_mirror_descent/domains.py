"""Convex sets with what online learning asks of them: a diameter, projections and the minimum of a linear function."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from jaxtyping import Float
from scipy.optimize import linprog, lsq_linear, minimize

from whp.online._optimistic_mirror_descent.kernels import ball_quadratic, outside, project
from whp.validate import as_matrix, as_real, as_vector

__all__ = ["MOST", "Ball", "Box", "Domain", "L1Ball", "Polytope", "Simplex", "as_size"]

Vector = Float[np.ndarray, " d"]
NOTHING = np.zeros(0)
LEAST, MOST = 1e-150, 1e150  # sizes whose squares are still numbers


def as_size(value: Any, name: str) -> float:
    """A size; what is outside has squares that are no numbers."""
    size = as_real(value, name, low=0, high=math.inf, open_ends=True)
    if not LEAST <= size <= MOST:
        raise ValueError(
            f"{name} must lie between {LEAST:g} and {MOST:g}, got {size:g}: change units"
        )
    return size


class Domain(Protocol):
    """What a learner needs of its set. `code` is what the compiled loops know it by; negative: they do not.

    The fields `low`, `high` and `size` are its description for those loops.
    """

    code: ClassVar[int]

    @property
    def dim(self) -> int | None:
        """Dimension, None for a set that exists in every one."""
        ...

    @property
    def diameter(self) -> float:
        """Largest distance between two of its points."""
        ...

    def describe(self, dim: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Two vectors and a number for the compiled projection."""
        ...

    def project(self, z: Vector) -> Vector:
        """The nearest point of the set."""
        ...

    def outside(self, x: Vector) -> float:
        """How far x lies outside the set."""
        ...

    def linear_min(self, s: Vector) -> Vector:
        """A point u of the set that minimises ⟨s, u⟩."""
        ...


class _Compiled:
    """Projection by the compiled loop, shared by the sets that it knows."""

    code: ClassVar[int]

    @abstractmethod
    def describe(self, dim: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Two vectors and a number for the compiled projection."""
        ...

    def project(self, z: Vector) -> Vector:
        """The point of the set nearest to z."""
        out = np.array(z, dtype=np.float64)
        project(self.code, *self.describe(len(out)), out)
        return out

    def outside(self, x: Vector) -> float:
        """How far x lies outside the set."""
        return float(outside(self.code, *self.describe(len(x)), np.asarray(x, dtype=np.float64)))


def _centre(value: Any) -> float | Vector:
    return (
        value if isinstance(value, float) else _fixed(as_vector(value, "center", dtype=np.float64))
    )


@dataclass(frozen=True, eq=False)
class Ball(_Compiled):
    """Euclidean ball.

    Parameters
    ----------
    radius : float
        Positive.
    center : float or array_like, shape (d,)
        Its middle; a number is meant for every coordinate.
    """

    radius: float
    center: Any = 0.0
    code: ClassVar[int] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", as_size(self.radius, "radius"))
        center = self.center
        if np.ndim(center) == 0:
            center = as_real(float(center), "center", low=-MOST, high=MOST)
        object.__setattr__(self, "center", _centre(center))

    @property
    def dim(self) -> int | None:
        """Dimension of the centre, None where that is a number."""
        return None if isinstance(self.center, float) else len(self.center)

    @property
    def diameter(self) -> float:
        """Twice the radius."""
        return 2 * self.radius

    def describe(self, dim: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Centre and radius."""
        return (
            np.broadcast_to(np.asarray(self.center, np.float64), dim).copy(),
            NOTHING,
            self.radius,
        )

    def project_metric(self, z: Vector, H: Float[np.ndarray, "d d"]) -> Vector:
        """The point x of the ball with the least (x − z)ᵀH(x − z), H positive definite."""
        y = z - self.center
        if y @ y <= self.radius**2:
            return np.array(z, dtype=np.float64)
        return self.center + ball_quadratic(
            np.ascontiguousarray(H), np.ascontiguousarray(H @ y), self.radius
        )

    def quadratic_min(self, Q: Float[np.ndarray, "d d"], b: Vector) -> Vector:
        """The minimiser over the ball of ½xᵀQx − bᵀx, Q positive semidefinite."""
        shifted = np.ascontiguousarray(b - Q @ np.broadcast_to(self.center, len(b)))
        return self.center + ball_quadratic(np.ascontiguousarray(Q), shifted, self.radius)

    def linear_min(self, s: Vector) -> Vector:
        """The point on the sphere against s; the centre if s is zero."""
        size = float(np.linalg.norm(s))
        return np.broadcast_to(self.center, len(s)) - (self.radius / size if size else 0.0) * s


@dataclass(frozen=True, eq=False)
class Box(_Compiled):
    """All points between two corners.

    Parameters
    ----------
    low, high : array_like, shape (d,)
        The corners, `low` nowhere above `high` and somewhere below.
    """

    low: Any
    high: Any
    code: ClassVar[int] = 1

    def __post_init__(self) -> None:
        low, high = (
            _fixed(as_vector(v, k, dtype=np.float64))
            for k, v in (("low", self.low), ("high", self.high))
        )
        if len(low) != len(high) or (low > high).any() or (low == high).all():
            raise ValueError(
                "low must be at most high in every coordinate, and below it in one, with as many entries"
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        as_size(self.diameter, "the distance of low and high")

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return len(self.low)

    @property
    def diameter(self) -> float:
        """Length of the diagonal."""
        return float(np.linalg.norm(self.high - self.low))

    def describe(self, dim: int) -> tuple[np.ndarray, np.ndarray, float]:
        """The corners."""
        return self.low.copy(), self.high.copy(), 0.0

    def project_metric(self, z: Vector, H: Float[np.ndarray, "d d"]) -> Vector:
        """The point x of the box with the least (x − z)ᵀH(x − z), H positive definite: bounded least squares."""
        return self.quadratic_min(H, H @ z)

    def quadratic_min(self, Q: Float[np.ndarray, "d d"], b: Vector) -> Vector:
        """The minimiser over the box of ½xᵀQx − bᵀx, Q positive semidefinite."""
        values, vectors = np.linalg.eigh(Q)
        if values[0] <= 1e-12 * max(
            float(values[-1]), 1e-300
        ):  # least squares cannot see a slope along the kernel
            start = self.project(np.zeros(len(b)))
            found = minimize(
                lambda x: (0.5 * x @ Q @ x - b @ x, Q @ x - b),
                start,
                jac=True,
                method="L-BFGS-B",
                bounds=list(zip(self.low, self.high, strict=True)),
                options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 5000},
            )
            return np.clip(found.x, self.low, self.high)
        root = np.sqrt(values)
        free = self.low < self.high
        target = (vectors.T @ b) / root
        A = root[:, None] * vectors.T
        out = self.low.copy()
        fit = lsq_linear(
            A[:, free],
            target - A[:, ~free] @ out[~free],
            (self.low[free], self.high[free]),
            method="bvls",
        )
        out[free] = np.clip(fit.x, self.low[free], self.high[free])
        return out

    def linear_min(self, s: Vector) -> Vector:
        """The corner that s points away from."""
        return np.where(s > 0, self.low, self.high)


@dataclass(frozen=True, eq=False)
class Simplex(_Compiled):
    """Non-negative vectors that sum to `total`.

    Parameters
    ----------
    total : float
        Positive; 1 for probabilities.
    """

    total: float = 1.0
    code: ClassVar[int] = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", as_size(self.total, "total"))

    @property
    def dim(self) -> None:
        """None: it exists in every dimension."""
        return

    @property
    def diameter(self) -> float:
        """Distance between two vertices."""
        return math.sqrt(2) * self.total

    def describe(self, dim: int) -> tuple[np.ndarray, np.ndarray, float]:
        """The sum."""
        return NOTHING, NOTHING, self.total

    def linear_min(self, s: Vector) -> Vector:
        """The vertex of the smallest entry of s."""
        out = np.zeros(len(s))
        out[int(np.argmin(s))] = self.total
        return out


@dataclass(frozen=True, eq=False)
class L1Ball(_Compiled):
    """Vectors whose absolute values sum to at most `radius`.

    Parameters
    ----------
    radius : float
        Positive.
    """

    radius: float
    code: ClassVar[int] = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", as_size(self.radius, "radius"))

    @property
    def dim(self) -> None:
        """None: it exists in every dimension."""
        return

    @property
    def diameter(self) -> float:
        """Twice the radius."""
        return 2 * self.radius

    def describe(self, dim: int) -> tuple[np.ndarray, np.ndarray, float]:
        """The radius."""
        return NOTHING, NOTHING, self.radius

    def linear_min(self, s: Vector) -> Vector:
        """The vertex against the largest entry of s."""
        out = np.zeros(len(s))
        i = int(np.argmax(np.abs(s)))
        out[i] = -self.radius * np.sign(s[i])
        return out


@dataclass(frozen=True, eq=False)
class Polytope:
    """A box cut by linear equations: ``{x : low ≤ x ≤ high, A x = b}``.

    Projections are solved through their dual, a concave function of one multiplier an equation, with the box in closed form,
    and polished on its face; linear functions by linear programming (HiGHS).

    Parameters
    ----------
    low, high : array_like, shape (d,)
        Corners of the box.
    A : array_like, shape (k, d)
        Left sides of the equations.
    b : array_like, shape (k,)
        Right sides.

    Raises
    ------
    ValueError
        If no point satisfies all of it.
    """

    low: Any
    high: Any
    A: Any
    b: Any
    code: ClassVar[int] = -1
    _diameter: float = field(init=False, repr=False, default=0.0)

    def __post_init__(self) -> None:
        low, high, b = (
            _fixed(as_vector(getattr(self, k), k, dtype=np.float64)) for k in ("low", "high", "b")
        )
        A = _fixed(as_matrix(self.A, "A", dtype=np.float64))
        if A.shape != (len(b), len(low)) or len(low) != len(high) or (low > high).any():
            raise ValueError(
                f"A must have shape ({len(b)}, {len(low)}), as b and low say, and low be at most high"
            )
        for name, value in (("low", low), ("high", high), ("A", A), ("b", b)):
            object.__setattr__(self, name, value)
        # Half the sum of the ranges of the coordinates, squared, would be loose: the box of the attained ranges is tight
        # enough, is never too short, and costs 2d linear programs once.
        ends = [
            [sign * self.linear_min(sign * row)[i] for sign in (1, -1)]
            for i, row in enumerate(np.eye(len(low)))
        ]
        size = float(np.linalg.norm([-high_end - low_end for low_end, high_end in ends]))
        if size <= 0:
            raise ValueError("low, high, A and b must leave more than a single point")
        object.__setattr__(self, "_diameter", size)

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return len(self.low)

    @property
    def diameter(self) -> float:
        """Diagonal of the smallest box around it: an upper bound on the diameter, which is NP-hard in general."""
        return self._diameter

    def outside(self, x: Vector) -> float:
        """Largest breach of a bound, or distance from the plane of an equation."""
        return float(
            max(
                (self.low - x).max(initial=0.0),
                (x - self.high).max(initial=0.0),
                (np.abs(self.A @ x - self.b) / self._sizes()).max(initial=0.0),
            )
        )

    def describe(self, dim: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Nothing that compiled loops could use."""
        return NOTHING, NOTHING, 0.0

    def project(self, z: Vector) -> Vector:
        """The nearest point."""
        sizes = self._sizes()
        A, b = self.A / sizes[:, None], self.b / sizes

        def primal(multipliers: np.ndarray) -> np.ndarray:
            return np.clip(z - A.T @ multipliers, self.low, self.high)

        def dual(multipliers: np.ndarray) -> tuple[float, np.ndarray]:
            x = primal(multipliers)
            left = A @ x - b
            return -float(0.5 * (x - z) @ (x - z) + multipliers @ left), -left

        multipliers = np.zeros(len(b))
        sides = np.abs(A) @ np.maximum(np.abs(self.low), np.abs(self.high)) + np.abs(b)
        # The gradient of the dual is piecewise linear: semismooth Newton ends in a few steps, L-BFGS helps where it stalls.
        for attempt in range(3):
            for _ in range(60):
                x = primal(multipliers)
                left = A @ x - b
                if (np.abs(left) <= 1e-12 * sides).all():
                    return x
                free = A[:, (x > self.low) & (x < self.high)]
                step = np.linalg.lstsq(free @ free.T + 1e-14 * np.eye(len(left)), left, rcond=None)[
                    0
                ]
                value, size = dual(multipliers)[0], 1.0
                while size > 1e-6 and dual(multipliers + size * step)[
                    0
                ] > value - 1e-4 * size * float(step @ left):
                    size /= 2
                if size <= 1e-6:
                    break
                multipliers = multipliers + size * step
            if attempt < 2:
                options = {"ftol": 1e-16, "gtol": 1e-13, "maxiter": 2000}
                multipliers = minimize(
                    dual, multipliers, jac=True, method="L-BFGS-B", options=options
                ).x
        return primal(multipliers)

    def linear_min(self, s: Vector) -> Vector:
        """A vertex, by linear programming."""
        # Its tolerances are absolute: box, equations and costs come in units of their own sizes.
        unit = max(float(np.abs(self.low).max()), float(np.abs(self.high).max())) or 1.0
        sizes = self._sizes()
        found = linprog(
            s / (float(np.abs(s).max()) or 1.0),
            A_eq=self.A / sizes[:, None],
            b_eq=self.b / sizes / unit,
            bounds=np.column_stack([self.low, self.high]) / unit,
            method="highs",
        )
        if found.x is None:
            raise ValueError(f"low, high, A and b must admit a point: {found.message}")
        return np.clip(found.x * unit, self.low, self.high)

    def _sizes(self) -> np.ndarray:
        """Lengths of the equations' left sides."""
        sizes = np.linalg.norm(self.A, axis=1)
        return np.where(sizes > 0, sizes, 1.0)


def _fixed(vector: np.ndarray) -> np.ndarray:
    """A copy that stays as it is: diameters are computed once."""
    kept = vector.copy()
    kept.flags.writeable = False
    return kept
