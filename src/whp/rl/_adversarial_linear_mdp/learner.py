"""The learner: FTRL at every state on estimated action values less a bonus for what is rarely seen."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from whp.certificate import Certificate
from whp.door import Above, AtLeast, front_door
from whp.progress import track
from whp.provenance import made_here, register
from whp.rl._adversarial_linear_mdp import certify, passes
from whp.rl._adversarial_linear_mdp.model import LinearQModel, as_losses
from whp.rl._adversarial_linear_mdp.sums import Sums
from whp.rl._adversarial_linear_mdp.tuning import Covariance, Method, Rates, Settings, theory, tuned
from whp.validate import as_floats, as_int, private_stream

__all__ = ["AdversarialPolicyOptimizer", "as_span"]

POINTS = 200  # of the curve of regret
LEAST = (
    256  # episodes that are learnt at once: what is learnt, or not, where a replay is interrupted
)
LEAST_GAMMA = 1e-13  # below it rounding makes the covariance indefinite
FIXED = ("model", "loss_range", "n_runs", "n_episodes", "anytime")
PRECISION = 0.5  # ε of matrix geometric resampling, in the number of its terms


class AdversarialPolicyOptimizer:
    """Choose actions in episodes whose costs may change arbitrarily, and compete with the best fixed policy.

    Dynamics and features are known; only the losses on the travelled path are seen.

    Parameters
    ----------
    model : LinearQModel
        Features, transitions and start, of which a copy is kept.
    method : {"magnitude-reduced", "log-barrier", "hedge"}
        Regret of order √(d H⁶ K) by estimates that are never far below zero, or √(A d H⁶ K), which is
        often less in practice; "hedge" with plain estimates is there for comparison (K^{2/3}).
    n_episodes : int, optional
        K, for the rates; needed unless `anytime`.
    eta, beta, gamma : {"theory", "tuned"} or float
        Learning rate, bonus and regularisation. The theory's carry the guarantee; the tuned ones do
        better up to some 100,000 episodes. `beta` and `gamma` follow a named `eta` unless given.
    bonus : {"dilated"} or None
        None leaves the bonus out: enough where every state is visited anyway.
    covariance : {"exact", "plugin", "mgr"}
        Of the features under the policy: summed over the model, from `n_sim` simulated episodes, or by
        matrix geometric resampling.
    n_sim : int, optional
        Simulated episodes for the last two, in each episode.
    loss_range : (float, float)
        Range of the losses, known before the first episode.
    n_runs : int
        Replays of the same table with independent randomness; 8 or more measure the expected regret.
    adaptive : bool
        Whether losses are chosen after seeing the policy: then nothing is certified of the regret.
    anytime : bool
        Start anew at every doubling of the episodes, where K is not known.
    random_state : int, Generator or None

    Attributes
    ----------
    cum_scores_, last_estimate_, last_bonus_ : ndarray, shape (H, X, A)
        Σ (Q̂ − B), and the last Q̂ and B, of the first replay.
    theta_sum_ : ndarray, shape (H, d)
        Σ Σ†φL of the first replay.
    min_estimate_ : float
        Least Q̂ of all replays.
    history_ : DataFrame
        Episodes, summed loss, and summed expected loss where known, means over replays.
    scaled_history_ : DataFrame
        The same with losses read as of [0, 1].
    """

    @front_door
    def __init__(
        self,
        model: Any,
        *,
        method: Method = "magnitude-reduced",
        n_episodes: Annotated[int, AtLeast(2)] | None = None,
        eta: Annotated[float, Above(0)] | Literal["theory", "tuned"] = "theory",
        beta: Annotated[float, AtLeast(0)] | Literal["theory"] | None = None,
        gamma: Annotated[float, Above(0)] | Literal["theory"] | None = None,
        bonus: Literal["dilated"] | None = "dilated",
        covariance: Covariance = "exact",
        n_sim: Annotated[int, AtLeast(1)] | None = None,
        loss_range: tuple[float, float] = (0.0, 1.0),
        n_runs: Annotated[int, AtLeast(1)] = 1,
        adaptive: bool = False,
        anytime: bool = False,
        random_state: Any = None,
    ) -> None:
        if not isinstance(model, LinearQModel):
            raise TypeError(f"model must be a LinearQModel, got {type(model).__name__}")
        if n_episodes is None and not anytime:
            raise ValueError(
                "n_episodes required for eta='theory' and 'tuned', and for the guarantee; or "
                "anytime=True, which starts anew at every doubling"
            )
        if anytime and n_episodes is not None:
            raise ValueError("n_episodes must be None where anytime=True: it would be ignored")
        if (covariance == "exact") != (n_sim is None):
            raise ValueError(
                "n_sim must be None where covariance='exact', which draws nothing"
                if n_sim is not None
                else f"n_sim must be given where covariance={covariance!r}"
            )
        if bonus is None and isinstance(beta, float | int):
            raise ValueError("beta must be None where bonus=None: it would be ignored")
        # A copy, that a subclass or a method of the caller's cannot answer for.
        self.model = LinearQModel(model.phi, model.P, model.init)
        self.n_episodes = n_episodes
        self.method: Method = method
        self.covariance: Covariance = covariance
        self.eta, self.beta, self.gamma, self.bonus = eta, beta, gamma, bonus
        self.n_sim, self.anytime = n_sim, anytime
        self.loss_range = as_span(loss_range)
        self.n_runs, self.adaptive = n_runs, adaptive
        self._random = private_stream(random_state)
        self._sums = Sums.zero(self.model, n_runs)
        self._used: set[Settings] = set()  # of all episodes so far
        self._used_in_stage: set[Settings] = set()
        self._tables = 0  # calls that replayed a table
        self._live = 0  # episodes that came from outside
        H, X, A, _ = self.model.shape
        self._visits: Int[np.ndarray, "H X A X"] = np.zeros((H, X, A, X), dtype=np.int64)
        self._starts: Int[np.ndarray, " X"] = np.zeros(X, dtype=np.int64)
        self._acted: list[tuple[int, int, int]] = []
        self._overridden = 0
        self._logged: np.ndarray | None = None
        self._asked: set[Settings] = set()  # that policies of the next episode were given by
        self._played: Method = method  # what the last episode was of
        self._reacted = False  # whether an adversary saw the policy
        self._pinv = self.model.inverses()
        self._ready = False
        self.rates  # noqa: B018 : refuse rates that cannot be before the first episode
        register(self)

    def __setattr__(self, name: str, value: Any) -> None:
        # Sums are of this model, in units of this range: another would tell of them what is not true.
        if name in FIXED and name in self.__dict__:
            raise AttributeError(f"{name} of a learner is fixed: make a new one")
        super().__setattr__(name, value)

    @property
    def rates(self) -> Rates:
        """η, β and γ in force."""
        H, _, A, d = self.model.shape
        K = self._stage()[1] if self.anytime else self.n_episodes
        assert K is not None
        kind = tuned if self.eta == "tuned" else theory
        base = kind(self.method, H, A, d, K)
        if not isinstance(self.eta, str):  # bonus and regularisation that the theory pairs with it
            at = base.eta or 1.0
            times = self.eta / at
            small = base.gamma * times * times
            base = Rates(self.eta, base.beta * times, max(small, LEAST_GAMMA))
        beta = base.beta if self.beta in (None, "theory") else float(self.beta)
        gamma = base.gamma if self.gamma in (None, "theory") else float(self.gamma)
        made = Rates(base.eta, 0.0 if self.bonus is None else beta, gamma)
        if not (made.eta > 0 and made.gamma > 0):
            raise ValueError(
                f"eta and gamma must be above 0, got {made}: with one action there is nothing to learn"
            )
        if not all(map(math.isfinite, (made.eta, made.beta, made.gamma))):
            raise ValueError(f"eta, beta and gamma must be finite, got {made}")
        if made.gamma < LEAST_GAMMA:
            raise ValueError(
                f"gamma must be at least {LEAST_GAMMA:g}, got {made}: rounding would be more"
            )
        return made

    @property
    def episodes_(self) -> int:
        """Episodes so far."""
        return self._sums.episodes

    @property
    def cum_scores_(self) -> Float[np.ndarray, "H X A"]:
        """Σ (Q̂ − B) of the first replay."""
        return self._sums.scores[0].copy()

    @property
    def theta_sum_(self) -> Float[np.ndarray, "H d"]:
        """Σ Σ†φL of the first replay."""
        return self._sums.thetas[0].copy()

    @property
    def last_estimate_(self) -> Float[np.ndarray, "H X A"]:
        """Q̂ of the last episode of the first replay."""
        return self._sums.Q[0].copy()

    @property
    def last_bonus_(self) -> Float[np.ndarray, "H X A"]:
        """B of the last episode of the first replay."""
        return self._sums.B[0].copy()

    @property
    def min_estimate_(self) -> float:
        """Least Q̂ of all episodes and replays."""
        return float(self._sums.extremes[:, passes.ESTIMATE_MIN].min())

    @property
    def scaled_history_(self) -> pd.DataFrame:
        """The same with losses read as of [0, 1], which an offset does not round."""
        return pd.DataFrame(self._sums.curve, columns=["episode", "loss", "expected_loss"])

    @property
    def history_(self) -> pd.DataFrame:
        """Summed losses over the episodes, in the user's units."""
        low, high = self.loss_range
        H = self.model.shape[0]
        table = self.scaled_history_
        for name in ("loss", "expected_loss"):
            table[name] = table[name] * (high - low) + low * H * table["episode"]
        return table

    def policy_(self, h: int) -> Float[np.ndarray, "X A"]:
        """The policy of the next episode at step `h`, from 0, of the first replay."""
        self._prepare()
        return self._sums.pi[0, self._step(h)].copy()

    def act(self, h: int, x: int) -> int:
        """Draw an action at step `h` in state `x`, both from 0."""
        self._one_run("act")
        self._prepare()
        h, x = self._step(h), self._state(x, h)
        if h == 0:
            self._acted, self._asked = [], {self._settings()}
        a = int(passes.pick(self._sums.pi[0, h, x], self._random.random()))
        self._acted.append((h, x, a))
        return a

    def update(self, states: Any, actions: Any, losses: Any) -> None:
        """Learn from one episode: its states, actions and losses, (H,) each.

        Raises
        ------
        RuntimeError
            If :meth:`act` or :meth:`policy_` was not asked before: the episode is not of this policy.
        ValueError
            If a loss is out of range, or a state cannot follow the one before; the step is named.
            Nothing is then learnt.
        """
        self._one_run("update")
        if not self._ready:
            raise RuntimeError(
                "update called before act: the episode must be of the policy in force"
            )
        path, taken, seen = self._episode(states, actions, losses)
        told = [(h, int(path[h]), int(taken[h])) for h in range(len(path))]
        overridden = bool(self._acted) and self._acted != told
        self._learn(path, taken, seen)
        self._overridden += overridden
        self._live += 1
        self._starts[path[0]] += 1
        for h in range(len(path) - 1):
            self._visits[h, path[h], taken[h], path[h + 1]] += 1

    def run(self, losses: Any, K: int | None = None) -> AdversarialPolicyOptimizer:
        """Play K episodes against a table of losses, an environment, or an adversary.

        Parameters
        ----------
        losses : array_like, shape (K, H, X, A) or (K, H, d); gymnasium.Env; or callable
            A table fixed beforehand, or coefficients of the features, replayed `n_runs` times in
            episodes drawn from the model. Of an environment the observation is the number of the
            state, the loss minus the reward. A callable gets the number of the episode and the policy
            (H, X, A), and returns a table (H, X, A): an adversary that adapts.
        K : int, optional
            Episodes; for a table all that it has by default.
        """
        K = None if K is None else as_int(K, "K")
        if hasattr(losses, "reset") and hasattr(losses, "step"):
            return self._against_environment(losses, K)
        if callable(losses):
            return self._against_adversary(losses, K)
        table = as_losses(losses, self.model, *self.loss_range)
        if K is not None and not 1 <= K <= len(table):
            raise ValueError(f"K must be in 1..{len(table)}, as losses has episodes, got {K}")
        table = table[:K]
        residual = self.model.loss_residual(table)
        streams = self._streams(table)
        self._tables += 1
        stride = math.ceil(len(table) / POINTS)
        start = 0
        steps = self._steps(len(table), stride * math.ceil(LEAST / stride))
        for stop in track(steps, f"{len(table):,} episodes, {self.n_runs} times"):
            self._replay(table[start:stop], stride, residual, streams)
            start = stop
        return self

    def certificates(self) -> tuple[Certificate, ...]:
        """What is promised of the expected regret, and of the learners of this run."""
        whole = self._tables == 1 and not self._live and made_here(self, AdversarialPolicyOptimizer)
        return certify.certificates(
            certify.Run(
                self.model,
                self._sums,
                self._played,
                self.n_episodes,
                self.anytime,
                tuple(sorted(self._used, key=str)),
                tuple(sorted(self._used_in_stage, key=str)),
                self.loss_range,
                self._live,
                self._tables,
                self.adaptive or self._reacted,
                whole,
                self._visits,
                self._starts,
                self._overridden,
                self._logged,
            )
        )

    def from_log(self, choices: Any) -> None:
        """Say that episodes come from a log of choices, of which `choices` (X, A) counts each action."""
        self._logged = np.asarray(choices)

    # The rest is how it is done.

    def _stage(self) -> tuple[int, int]:
        """Start and length of the stage in force of `anytime`: 2, 2, 4, 8, … episodes."""
        done = self._sums.episodes
        if done < 2:
            return 0, 2
        first = 1 << (done.bit_length() - 1)
        return first, first

    def _steps(self, count: int, size: int) -> list[int]:
        """Ends of chunks, none across a doubling of `anytime`."""
        done = self._sums.episodes
        ends = set(range(size, count, size)) | {count}
        if self.anytime:
            ends |= {e - done for e in (1 << j for j in range(1, 63)) if done < e < done + count}
        return sorted(ends)

    def _note_settings(self, begun: bool) -> None:
        """Of episodes that were learnt, before they are counted; the first of a stage or not."""
        these = self._asked | {self._settings()}
        self._used |= these
        self._used_in_stage = these if begun else self._used_in_stage | these
        self._played, self._asked = self.method, set()

    def _settings(self) -> Settings:
        return Settings(self.rates, self.method, self.bonus, self.covariance, self.n_sim)

    def _terms(self, gamma: float) -> int:
        """Terms of a copy of matrix geometric resampling, as far as the draws go."""
        if self.covariance != "mgr":
            return 1
        assert self.n_sim is not None
        wanted = math.ceil(2 / gamma * math.log(1 / (PRECISION * min(gamma, 1.0))))
        return max(1, min(self.n_sim, wanted))

    def _streams(self, table: np.ndarray) -> list[np.random.Generator]:
        """A stream a replay, of the seed and of the table: no table can be made to suit a seed."""
        if self._sums.streams:
            return self._sums.streams
        digest = hashlib.blake2b(np.ascontiguousarray(table).data, digest_size=16).digest()
        seeds = self._random.integers(1 << 62, size=2)
        words = [*map(int, seeds), *map(int, np.frombuffer(digest, dtype=np.uint32))]
        return [np.random.default_rng(s) for s in np.random.SeedSequence(words).spawn(self.n_runs)]

    def _begins(self) -> bool:
        """Whether the next episode is the first after a doubling."""
        return self.anytime and 0 < self._sums.episodes == self._stage()[0]

    def _begin_stage(self, sums: Sums) -> None:
        for sum_ in (sums.scores, sums.played, sums.squares, sums.worst):
            sum_[:] = 0.0
        sums.extremes[:] = Sums.zero(self.model, self.n_runs).extremes

    def _replay(self, table: np.ndarray, stride: int, residual: float, streams: list[Any]) -> None:
        """A chunk of episodes for all replays: all of it is learnt, or nothing if it is interrupted."""
        sums = copy.deepcopy(self._sums)
        sums.streams = copy.deepcopy(streams) if not sums.streams else sums.streams
        begun = self._begins()
        if begun:
            self._begin_stage(sums)
        self._asked = set()
        rates, model = self.rates, self.model
        paid, values = np.empty(len(table)), np.empty(len(table))
        means = np.zeros((2, len(table)))
        before = (float(sums.paid.mean()), float(sums.values.mean()))
        for r, stream in enumerate(sums.streams):
            passes.replay(
                model.phi,
                model.P,
                model.init,
                self._pinv,
                table,
                rates.eta,
                rates.beta,
                rates.gamma,
                self.method == "log-barrier",
                self.method == "magnitude-reduced",
                ("exact", "plugin", "mgr").index(self.covariance),
                self.n_sim or 0,
                self._terms(rates.gamma),
                stream,
                sums.scores[r],
                sums.played[r],
                sums.squares[r],
                sums.worst[r],
                sums.extremes[r],
                sums.thetas[r],
                sums.pi[r],
                sums.Q[r],
                sums.B[r],
                paid,
                values,
            )
            sums.paid[r] += math.fsum(paid)
            sums.values[r] += math.fsum(values)
            # Of episodes that came from outside nobody knows the expected loss.
            means += np.stack([paid, values * (math.nan if self._live else 1.0)]) / self.n_runs
        sums.total += table.sum(axis=0)
        reach = [math.fsum(model.extremes(table, sign)) for sign in (1.0, -1.0)]
        sums.ends = sums.ends + np.array(reach)
        sums.residual = max(sums.residual, residual)
        self._note_settings(begun)
        ends = np.unique(np.r_[np.arange(stride, len(table), stride), len(table)])
        running = means.cumsum(axis=1)[:, ends - 1]
        sums.curve = [
            *sums.curve,
            *(
                (sums.episodes + int(k), before[0] + loss, before[1] + value)
                for k, loss, value in zip(ends, *running.tolist(), strict=True)
            ),
        ]
        sums.episodes += len(table)
        self._sums, self._ready = sums, False

    def _prepare(self) -> None:
        """The policies of the next episode."""
        now = self._settings()
        if not self._ready or now not in self._asked:
            barrier = self.method == "log-barrier"
            # What was learnt before a doubling is certified until there is an episode after it.
            scores = self._sums.scores * (not self._begins())
            for r in range(self.n_runs):
                passes.policies(scores[r], self.rates.eta, barrier, self._sums.pi[r])
            if not self._ready:
                self._acted = []
            self._ready = True
            self._asked.add(now)

    def _learn(self, path: np.ndarray, taken: np.ndarray, seen: np.ndarray) -> None:
        """One episode of the first replay."""
        sums, model, rates = self._sums, self.model, self.rates
        begun = self._begins()
        if begun:
            self._begin_stage(sums)
        H, X, _, d = model.shape
        q, inv, theta = np.empty((H, X)), np.empty((H, d, d)), np.empty((H, d))
        passes.occupancies(model.P, model.init, sums.pi[0], q)
        passes.inverses(
            model.phi,
            model.P,
            model.init,
            sums.pi[0],
            q,
            rates.gamma,
            ("exact", "plugin", "mgr").index(self.covariance),
            self.n_sim or 0,
            self._terms(rates.gamma),
            self._random,
            inv,
        )
        passes.estimate(
            model.phi,
            model.P,
            sums.pi[0],
            q,
            inv,
            path,
            taken,
            seen,
            rates.beta,
            self.method == "magnitude-reduced",
            sums.Q[0],
            sums.B[0],
            theta,
        )
        sums.thetas[0] += theta
        passes.advance(
            sums.pi[0],
            sums.Q[0],
            sums.B[0],
            sums.scores[0],
            sums.played[0],
            sums.squares[0],
            sums.worst[0],
            sums.extremes[0],
        )
        self._note_settings(begun)
        sums.paid[0] += float(seen.sum())
        sums.episodes += 1
        sums.curve.append((sums.episodes, float(sums.paid[0]), math.nan))
        self._ready = False

    def _against_environment(self, env: Any, K: int | None) -> AdversarialPolicyOptimizer:
        self._one_run("an environment")
        H = self.model.shape[0]
        for k in track(range(self._count(K)), "episodes"):
            x, _info = env.reset(seed=None if k else int(self._random.integers(1 << 31)))
            states, actions, losses = [], [], []
            for h in range(H):
                states.append(self._state(x, h))
                actions.append(self.act(h, states[-1]))
                x, reward, ended, cut, _info = env.step(actions[-1])
                losses.append(-float(reward))
                if (ended or cut) != (h == H - 1):
                    raise ValueError(
                        f"env must end its episodes after H = {H} steps, as the model does; it "
                        f"{'ended' if h < H - 1 else 'went on'} after {h + 1}"
                    )
            self.update(states, actions, losses)
        return self

    def _against_adversary(
        self, adversary: Callable[..., Any], K: int | None
    ) -> AdversarialPolicyOptimizer:
        self._one_run("an adversary")
        self._reacted = True
        H, _X, _A, _ = self.model.shape
        states, actions = np.empty(H, dtype=np.int64), np.empty(H, dtype=np.int64)
        for k in track(range(self._count(K)), "episodes"):
            self._prepare()
            pi = self._sums.pi[0]
            table = as_losses(
                as_floats(adversary(k, pi.copy()), "losses")[None], self.model, *self.loss_range
            )[0]
            passes.walk(self.model.P, self.model.init, pi, self._random, states, actions)
            self._learn(states, actions, table[np.arange(H), states, actions])
            self._live += 1
        return self

    def _count(self, K: int | None) -> int:
        count = K if K is not None else self.n_episodes
        if count is None or count < 1:
            raise ValueError("K must be at least 1: how many episodes to play")
        return int(count)

    def _one_run(self, what: str) -> None:
        if self.n_runs != 1:
            raise ValueError(f"n_runs must be 1 for {what}: replays need a table of losses")

    def _step(self, h: Any) -> int:
        H = self.model.shape[0]
        if not 0 <= h < H or h != int(h):
            raise ValueError(f"h must be a step in 0..{H - 1}, got {h}")
        return int(h)

    def _state(self, x: Any, h: int) -> int:
        X = self.model.shape[1]
        number = np.asarray(x)
        if number.ndim or number.dtype.kind not in "iu" or not 0 <= int(number) < X:
            raise ValueError(f"step {h}: state must be a whole number in 0..{X - 1}, got {x!r}")
        return int(number)

    def _episode(
        self, states: Any, actions: Any, losses: Any
    ) -> tuple[Int[np.ndarray, " H"], Int[np.ndarray, " H"], Float[np.ndarray, " H"]]:
        """Checked, with losses scaled to [0, 1]."""
        H, X, A, _ = self.model.shape
        made = []
        for name, value, size in (("states", states, X), ("actions", actions, A)):
            array = np.asarray(value)
            if array.shape != (H,) or array.dtype.kind not in "iu":
                raise ValueError(f"{name} must be {H} whole numbers, got {value!r:.80}")
            wrong = (array < 0) | (array >= size)
            if wrong.any():
                h = int(np.argmax(wrong))
                raise ValueError(f"{name}: step {h}: {array[h]} is not in 0..{size - 1}")
            made.append(array.astype(np.int64))
        path, taken = made
        seen = as_floats(losses, "losses")
        if seen.shape != (H,):
            raise ValueError(f"losses must be {H} numbers, one a step, got shape {seen.shape}")
        low, high = self.loss_range
        wrong = ~((seen >= low) & (seen <= high))
        if wrong.any():
            h = int(np.argmax(wrong))
            raise ValueError(f"loss {seen[h]:.6g} at step {h} outside ({low:g}, {high:g})")
        if self.model.init[path[0]] == 0:
            raise ValueError(f"step 0: no episode starts in state {path[0]} (init = 0)")
        for h in range(1, H):
            if self.model.P[h - 1, path[h - 1], taken[h - 1], path[h]] == 0:
                raise ValueError(
                    f"step {h}: state {path[h]} cannot follow state {path[h - 1]}, action "
                    f"{taken[h - 1]} (P = 0)"
                )
        return path, taken, (seen - low) / (high - low)


def as_span(loss_range: Any) -> tuple[float, float]:
    """Two finite numbers, the first below the second."""
    try:
        low, high = (float(v) for v in loss_range)
    except (TypeError, ValueError) as error:
        raise TypeError(f"loss_range must be a pair of numbers, got {loss_range!r:.80}") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"loss_range must be finite with the lower first, got ({low:g}, {high:g})")
    if not (1e-290 < high - low < 1e290):  # sums over episodes overflow, or lose their digits
        raise ValueError(
            f"loss_range must be wider than 1e-290 and less than 1e290, got ({low:g}, {high:g})"
        )
    return low, high
