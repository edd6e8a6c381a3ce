"""The front door: losses and dynamics in, policies, regret and its bound out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from whp.certificate import Certificate
from whp.door import Above, AtLeast, front_door
from whp.io import Data
from whp.progress import track
from whp.result import PALETTE, Result
from whp.rl._adversarial_linear_mdp.learner import AdversarialPolicyOptimizer, as_span
from whp.rl._adversarial_linear_mdp.model import LinearQModel, as_losses, one_hot
from whp.rl._adversarial_linear_mdp.tables import Log, Tabled, filled, from_frame, is_table
from whp.rl._adversarial_linear_mdp.tuning import Method
from whp.text import nearest, visible
from whp.validate import as_array, as_floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AdversarialLinearMDPResult", "adversarial_linear_mdp"]

MATCHED = 0.9  # of the episodes of a log whose choice a uniform learner would have met


@dataclass(frozen=True, eq=False)
class AdversarialLinearMDPResult(Result):
    """What the learner lost, and against the best fixed policy.

    Attributes
    ----------
    policy : ndarray, shape (H, X, A)
        Of the episode after the last, of the first replay.
    loss : float
        Mean over episodes and replays, in units of the losses, of an episode.
    best_fixed, uniform : float or None
        Expected loss of an episode under the best fixed policy in hindsight, and under the uniform
        one; None where only a log is known.
    regret : float or None
        Expected loss of all episodes less that of the best fixed policy, mean over replays.
    curve : DataFrame
        Episodes, and regret up to them of ours and of the uniform policy, against the policy that is
        best over all; of a log the summed loss.
    optimizer : AdversarialPolicyOptimizer
        The learner, to go on with where it was not replayed.
    """

    policy: Float[np.ndarray, "H X A"]
    loss: float
    best_fixed: float | None
    uniform: float | None
    regret: float | None
    episodes: int
    replays: int
    rates: str
    loss_range: str
    certificates: tuple[Certificate, ...]
    curve: pd.DataFrame = field(repr=False)
    optimizer: AdversarialPolicyOptimizer = field(repr=False)
    states: tuple[str, ...] = field(repr=False, default=())
    actions: tuple[str, ...] = field(repr=False, default=())

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Loss of an episode, of the best fixed policy, and regret."""
        made: dict[str, bool | int | float | str | None] = {
            "episodes": self.episodes,
            "loss_an_episode": self.loss,
        }
        if self.regret is not None:
            made |= {
                "of_the_best_fixed_policy": self.best_fixed,
                "of_the_uniform_policy": self.uniform,
                "regret": self.regret,
                "replays": self.replays,
            }
        return made | {
            "method": self.optimizer.method,
            "rates": self.rates,
            "loss_range": self.loss_range,
        }

    def to_frame(self) -> pd.DataFrame:
        """A row for each step, state and action, with the probability of the action."""
        H, X, A = self.policy.shape
        states = np.asarray(self.states or range(X), dtype=object)
        actions = np.asarray(self.actions or range(A), dtype=object)
        return pd.DataFrame(
            {
                "step": np.repeat(np.arange(H), X * A),
                "state": np.tile(np.repeat(states, A), H),
                "action": np.tile(actions, H * X),
                "probability": self.policy.ravel(),
            }
        )

    def artifacts(self) -> Mapping[str, Any]:
        """The policy, and the curve of regret."""
        return {"policy.csv": self.to_frame(), "curve.csv": self.curve}

    def draw(self, ax: Axes) -> None:
        """Regret over the episodes, with the uniform policy's and the proven bound where it fits."""
        if self.regret is None:
            ax.plot(self.curve["episode"], self.curve["loss"], color=PALETTE["ours"])
            ax.set(xlabel="episodes", ylabel="summed loss")
            return
        k = self.curve["episode"]
        ax.plot(k, self.curve["regret"], color=PALETTE["ours"], label=self.optimizer.method)
        ax.plot(k, self.curve["uniform"], "--", color=PALETTE["other"], label="uniform policy")
        bound = self.certificates[0].bound
        top = max(self.curve["uniform"].max(), self.curve["regret"].max())
        if bound <= 2 * top:
            ax.axhline(bound, color=PALETTE["truth"], lw=1, ls=":", label="proven for all episodes")
        ax.axhline(0, color=PALETTE["quiet"], lw=0.8)
        ax.set(xlabel="episodes", ylabel="loss above that of the best fixed policy")
        ax.locator_params(axis="x", nbins=4)
        ax.legend(frameon=False, fontsize=8)


@front_door
def adversarial_linear_mdp(
    losses: Annotated[Any, Data("cells")],
    model: Annotated[Any, Data("worlds")] = None,
    *,
    method: Method = "magnitude-reduced",
    tuning: Literal["theory", "tuned"] = "theory",
    eta: Annotated[float, Above(0)] | None = None,
    bonus: bool = True,
    loss_range: tuple[float, float] | None = None,
    n_episodes: Annotated[int, AtLeast(2)] | None = None,
    replays: Annotated[int, AtLeast(1)] = 100,
    measure: bool = True,
    rng: np.random.Generator | int | None = None,
) -> AdversarialLinearMDPResult:
    """Choose actions while costs change arbitrarily, nearly as well as the best fixed policy in hindsight.

    Parameters
    ----------
    losses : array_like, shape (K, H, X, A) or (K, H, d), or DataFrame
        Losses of K episodes, or coefficients of the features. A table has columns episode, step,
        state, action and loss, with a row for each of them; or one row an episode of one step, a log
        of choices drawn uniformly, of which those are learnt that the learner would have made as well.
    model : LinearQModel, or mapping (npz) with P, init and phi, optional
        Laws P (H − 1, X, A, X) of the next state, init (X,) of the first, features phi (H, X, A, d) of
        norm at most 1, one-hot by default. Not needed for one step: the states of a table are then as
        likely as one another, those of a log as often as there.
    method : {"magnitude-reduced", "log-barrier", "hedge"}
        Regret of order √(d H⁶ K), or √(A d H⁶ K), which is often less in practice; "hedge" is there for
        comparison.
    tuning : {"theory", "tuned"}
        Rates of the guarantee, or such as do better up to some 100,000 episodes, without one.
    eta : float, optional
        A learning rate of your own in their place: without a guarantee of the regret.
    bonus : bool
        Whether what is rarely seen is made attractive; without it nothing is proven.
    loss_range : (float, float), optional
        Range that losses are known to lie in; by default that of the data, from 0 where no combination
        of the features is a constant.
    n_episodes : int, optional
        Episodes to play; all of the table by default, and of a log nine tenths of those expected to
        match.
    replays : int
        Independent replays of a table, which measure the expected regret.
    measure : bool
        Whether to replay; False plays once.
    rng : int, Generator or None

    Returns
    -------
    AdversarialLinearMDPResult

    Raises
    ------
    ValueError
        If shapes do not fit, a loss is missing or out of range, or a law is none; the place is named.

    Examples
    --------
    >>> import numpy as np
    >>> from whp.rl import adversarial_linear_mdp
    >>> losses = np.zeros((20_000, 1, 1, 2))
    >>> losses[..., 1] = 1
    >>> result = adversarial_linear_mdp(losses, rng=0)
    >>> result.regret < 2_500, str(result.certificates[0].verdict)
    (True, 'holds')

    References
    ----------
    Dai, Luo, Wei, Zimmert (ICML 2023), arXiv 2301.12942.
    """
    known = None if model is None else _model(model)
    tabled = None
    if is_table(losses):
        tabled = from_frame(losses, None if known is None else known.shape[:3])
        if known is not None and tabled.text:
            axes = {"steps": tabled.steps, "states": tabled.states, "actions": tabled.actions}
            told = [
                f"{axis} {_listed(names)}"
                for axis, names in axes.items()
                if names != tuple(map(str, range(len(names))))
            ]
            warnings.warn(
                f"names are the model's numbers in this order: {'; '.join(told)}", stacklevel=2
            )
        if isinstance(tabled.losses, Log):
            return _log(tabled, known, method, tuning, eta, bonus, loss_range, n_episodes, rng)
        table = tabled.losses
    else:
        table = as_floats(losses, "losses")
    if not table.size:
        raise ValueError(f"losses must not be empty, got shape {table.shape}")
    if known is None:
        known = _one_step(table)
    if tabled is not None:
        table = filled(table, known.reachable, tabled)
    span, told = _span(loss_range, table, known)
    scaled = as_losses(table, known, *span)
    K = len(table) if n_episodes is None else n_episodes
    if len(table) < K:
        raise ValueError(f"n_episodes must be at most {len(table)}, as losses has, got {K}")
    if K < 2:
        raise ValueError(f"losses must hold at least 2 episodes, got {K}")
    runs = replays if measure else 1
    optimizer = _optimizer(known, method, tuning, eta, bonus, K, runs, rng, span)
    optimizer.run(table[:K])
    return _replayed(optimizer, scaled[:K], told, tabled)


def _optimizer(
    model: LinearQModel,
    method: Method,
    tuning: Literal["theory", "tuned"],
    eta: float | None,
    bonus: bool,
    K: int,
    runs: int,
    rng: Any,
    loss_range: tuple[float, float],
) -> AdversarialPolicyOptimizer:
    if eta is not None and tuning != "theory":
        raise ValueError("tuning must be left out where eta is given: it would be ignored")
    return AdversarialPolicyOptimizer(
        model,
        method=method,
        n_episodes=K,
        eta=tuning if eta is None else eta,
        bonus="dilated" if bonus else None,
        n_runs=runs,
        random_state=rng,
        loss_range=loss_range,
    )


def _replayed(
    optimizer: AdversarialPolicyOptimizer, table: np.ndarray, told: str, tabled: Tabled | None
) -> AdversarialLinearMDPResult:
    """The result of a replay of a table, here scaled to [0, 1], in the user's units."""
    model = optimizer.model
    H, X, A, _ = model.shape
    low, high = optimizer.loss_range
    unit, least = high - low, low * H
    best = model.value(model.best_fixed(table.sum(axis=0)), table)
    uniform = model.value(np.full((H, X, A), 1 / A), table)
    history = optimizer.scaled_history_
    k = history["episode"].to_numpy()
    ours = history["expected_loss"].to_numpy()
    against = np.cumsum(best)[k - 1]
    curve = pd.DataFrame(
        {
            "episode": k,
            "regret": unit * (ours - against),
            "uniform": unit * (np.cumsum(uniform)[k - 1] - against),
        }
    )
    return AdversarialLinearMDPResult(
        policy=np.stack([optimizer.policy_(h) for h in range(H)]),
        loss=unit * float(history["loss"].iloc[-1]) / len(table) + least,
        best_fixed=unit * float(best.mean()) + least,
        uniform=unit * float(uniform.mean()) + least,
        regret=float(curve["regret"].iloc[-1]),
        episodes=len(table),
        replays=optimizer.n_runs,
        rates=str(optimizer.rates),
        loss_range=told,
        certificates=optimizer.certificates(),
        curve=curve,
        optimizer=optimizer,
        states=tabled.states if tabled else (),
        actions=tabled.actions if tabled else (),
    )


def _log(
    tabled: Tabled,
    known: LinearQModel | None,
    method: Method,
    tuning: Literal["theory", "tuned"],
    eta: float | None,
    bonus: bool,
    loss_range: tuple[float, float] | None,
    n_episodes: int | None,
    rng: Any,
) -> AdversarialLinearMDPResult:
    """A log of uniform choices: only episodes whose choice the learner makes as well are learnt (Li et al. 2011)."""
    log = tabled.losses
    assert isinstance(log, Log)
    X, A = len(tabled.states), len(tabled.actions)
    if known is None:
        law = np.bincount(log.states, minlength=X) / len(log.states)
        known = LinearQModel(one_hot(1, X, A), init=law)
    A = known.shape[2]
    expected = len(log.losses) / A
    K = max(2, math.floor(MATCHED * expected)) if n_episodes is None else n_episodes
    span, told = _span(loss_range, log.losses, None)
    optimizer = _optimizer(known, method, tuning, eta, bonus, K, 1, rng, span)
    choices = np.zeros((known.shape[1], A), dtype=np.int64)
    np.add.at(choices, (log.states, log.actions), 1)
    optimizer.from_log(choices)
    rows = zip(log.states, log.actions, log.losses, strict=True)
    for x, a, loss in track(rows, "episodes of the log", len(log.losses)):
        if optimizer.episodes_ == K:
            break
        if optimizer.act(0, int(x)) == a:
            optimizer.update([int(x)], [int(a)], [float(loss)])
    done = optimizer.episodes_
    if not done:
        raise ValueError("losses: no choice of the log was the learner's: nothing was learnt")
    if done < K:
        warnings.warn(
            f"only {done:,} of {len(log.losses):,} choices were the learner's as well, of n_episodes "
            f"{K:,} that its rates are for",
            stacklevel=3,
        )
    history = optimizer.history_
    return AdversarialLinearMDPResult(
        policy=optimizer.policy_(0)[None],
        loss=float(history["loss"].iloc[-1]) / done,
        best_fixed=None,
        uniform=None,
        regret=None,
        episodes=done,
        replays=1,
        rates=str(optimizer.rates),
        loss_range=told,
        certificates=optimizer.certificates(),
        curve=history[["episode", "loss"]],
        optimizer=optimizer,
        states=tabled.states,
        actions=tabled.actions,
    )


def _span(
    loss_range: Any, table: np.ndarray, model: LinearQModel | None
) -> tuple[tuple[float, float], str]:
    """The range of losses, and in words where it comes from."""
    if loss_range is not None:
        low, high = as_span(loss_range)
        return (low, high), f"{low:.15g} to {high:.15g}"
    if model is not None and table.ndim == 3:  # coefficients
        table = np.einsum("hxad,khd->khxa", model.phi, table)
    low, high = float(np.min(table)), float(np.max(table))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("losses must be finite, got NaN or infinity")
    if model is not None and low > 0:  # a shift must be linear in the features as well
        ones = np.ones((1, *model.shape[:3]))
        low = low if model.loss_residual(ones) <= 1e-9 else 0.0
    if low == high:
        high = low + 1.0
    return as_span((low, high)), f"{low:.15g} to {high:.15g}, read from the data"


def _one_step(table: np.ndarray) -> LinearQModel:
    """The model of a table of one step, states as likely as one another."""
    if table.ndim != 4 or table.shape[1] != 1:
        raise TypeError(
            "model must be given (P, init and phi) where episodes have several steps or losses are "
            f"coefficients, got None for losses of shape {table.shape}"
        )
    _, _, X, A = table.shape
    return LinearQModel(one_hot(1, X, A), init=np.full(X, 1 / X))


def _model(model: Any) -> LinearQModel:
    if isinstance(model, LinearQModel):
        return model
    if not isinstance(model, Mapping):
        raise TypeError(
            f"model must be a LinearQModel or a mapping (npz) with P, init and phi, got "
            f"{type(model).__name__}"
        )
    given = {str(k): v for k, v in model.items()}
    for name in given:
        if name not in ("P", "init", "phi"):
            raise ValueError(
                f"model has an array {visible(name)!r}{nearest(name, ('P', 'init', 'phi'))}; it takes P, "
                "init and phi"
            )
    if "phi" in given:
        return LinearQModel(given["phi"], given.get("P"), given.get("init"))
    if "P" not in given or "init" not in given:
        raise ValueError(f"model needs P and init, or phi; it has {', '.join(map(visible, given))}")
    return LinearQModel.from_tabular(as_array(given["P"], "P"), given["init"])


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"{i} {visible(n)!r}" for i, n in enumerate(names[:6]))
    return shown + (", …" if len(names) > 6 else "")
