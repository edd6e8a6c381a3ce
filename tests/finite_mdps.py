"""Finite decision processes whose distances and worst cases are known to many digits."""

import numpy as np
import pandas as pd
import scipy.sparse as sp

from whp.rl import tabular_model

# Three states, two actions, from state 0.
THREE = np.zeros((3, 2, 3))
THREE[0, 0], THREE[0, 1] = (0, 1, 0), (0.5, 0, 0.5)
THREE[1, 0], THREE[1, 1] = (1, 0, 0), (0, 0.5, 0.5)
THREE[2, 0], THREE[2, 1] = (0, 0, 1), (1, 0, 0)
THREE_1 = np.array([[1.0, 0], [0, 2], [3, 0]])
THREE_2 = np.array([[2.0, 0], [0, 2], [1, 1]])
FROM_0 = np.array([1.0, 0, 0])

# Two states, rewards by next state.
TWO = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0, 1]]])
TWO_1 = np.array([[[1.0, 0], [0, 2]], [[0, 1], [1, 0]]])
TWO_2 = np.array([[[0.0, 1], [1, 0]], [[2, 0], [0, 1]]])


def three(**options):
    """Arguments of the front door."""
    given = {"reward1": THREE_1, "reward2": THREE_2, "transitions": THREE}
    return given | {"discount": 0.8, "start": FROM_0} | options


def drawn(rng, S, A, alpha=0.3):
    """Transitions and two rewards."""
    P = rng.dirichlet(np.full(S, alpha), (S, A))
    return P, rng.normal(size=(S, A)), rng.normal(size=(S, A))


def shaped(R, phi, discount):
    """R + γΦ(s′) − Φ(s), by next state."""
    R = R[:, :, None] if R.ndim == 2 else R
    return R + discount * phi - phi[:, None, None]


def lake(penalty_inside=False):
    """FrozenLake, and its reward less 1 for entering a hole from elsewhere, or for being in one too."""
    model = tabular_model("FrozenLake-v1")
    other = model.reward.copy()
    for hole in (5, 7, 11, 12):
        outside = np.arange(16) != hole
        other[outside, :, hole] -= 1
        if penalty_inside:
            other[hole, :, hole] -= 1
    return model, other


def actions_as_sparse(P):
    """A matrix for each action."""
    return tuple(sp.csr_array(P[:, a]) for a in range(P.shape[1]))


# Visits of a ward, by names

WARD = pd.DataFrame(
    [
        ("ICU", "treat", "ward", 30),
        ("ICU", "treat", "ICU", 11),
        ("ICU", "discharge", "home", 5),
        ("ward", "treat", "ward", 12),
        ("ward", "discharge", "home", 41),
        ("home", "treat", "home", 3),
        ("home", "discharge", "home", 3),
    ],
    columns=["state", "action", "next_state", "n"],
)
BY_STATE = pd.DataFrame({"state": ["home", "ICU", "ward"], "value": [1.0, -1.0, 0.0]})


def by_pair(**missing):
    rows = [
        (s, a, float(len(s) + len(a)))
        for s in ("ICU", "ward", "home")
        for a in ("treat", "discharge")
    ]
    made = pd.DataFrame(rows, columns=["state", "action", "value"])
    return made[~((made.state == missing.get("state")) & (made.action == missing.get("action")))]
