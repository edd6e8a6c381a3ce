"""Worlds of learning from labels in hindsight, of plans, and of naming labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from whp.certificate import Certificate, Verdict
from whp.experiment.worlds import Instance, World, Worlds
from whp.rl import LatentMDP, LatentMDPLearner, latent_mdp, latent_mdp_certificates
from whp.rl._latent_mdp import theorems as t
from whp.studies.latent_mdp.truth import best_value, earned, probe

__all__ = ["worlds"]

HERE = "whp.rl._latent_mdp"
worlds = Worlds("latent-mdp", t.THEOREMS)
Rng = np.random.Generator


@dataclass(eq=False)
class Stream:
    """Episodes of one or more laws, with what their labels say and who decides.

    Attributes
    ----------
    laws : list of dict
        w, nu, P, R of each law, over true contexts.
    which : callable
        From the number of an episode to its law.
    label : callable
        From (true context, generator) to what is revealed, None where it never is.
    decide : callable
        From (planned action, true context) to what is done.
    pay : callable
        From (reward, generator) to what is paid.
    """

    laws: list[dict[str, Any]]
    horizon: int
    episodes: int
    seed: int
    contexts: int
    options: dict[str, Any] = field(default_factory=dict)
    which: Callable[[int], int] = lambda k: 0
    label: Callable[[int, Rng], int | None] = lambda m, rng: m
    decide: Callable[[int, int], int] = lambda a, m: a
    pay: Callable[[float, Rng], float] = lambda r, rng: r
    measured: bool = True
    stop: bool = False
    script: Callable[[LatentMDPLearner, int], LatentMDPLearner] | None = None
    policies: dict[int, Any] = field(default_factory=dict)
    plans: list[tuple[int, int]] = field(default_factory=list)
    does: Callable[[], float] | None = None

    def learner(self, measure: bool) -> LatentMDPLearner:
        """One that has seen nothing."""
        law = self.laws[0]
        S, A = law["R"].shape[1:]
        options = dict(self.options)
        if options.get("rewards") != "learn":
            options.setdefault("reward_table", law["R"][: self.contexts])
        if measure and self.measured:
            model = LatentMDP(law["w"], law["nu"], law["P"], law["R"], self.horizon)
            options.setdefault("model", model)
        options.setdefault("n_episodes", self.episodes)
        return LatentMDPLearner(self.contexts, S, A, self.horizon, **options)

    def run(self, measure: bool) -> list[Certificate]:
        """All episodes, and the certificates at the end, or when the bound looked best."""
        rng = np.random.default_rng(self.seed)
        learner = self.learner(measure)
        steps = [
            (law["w"].cumsum(), law["nu"].cumsum(-1), law["P"].cumsum(-1)) for law in self.laws
        ]
        self.policies.clear()
        self.plans.clear()
        looked: list[tuple[float, int, Certificate]] = []

        def drawn(of: np.ndarray) -> int:
            return int((of > rng.random() * of[-1]).argmax())

        for k in range(self.episodes):
            if self.script is not None:
                learner = self.script(learner, k)
            law = self.which(k)
            w, nu, P = steps[law]
            m = drawn(w)
            s = drawn(nu[m])
            learner.begin_episode(s)
            policy = learner.policy_
            self.policies[id(policy)] = policy
            self.plans.append((id(policy), law))
            R = self.laws[law]["R"]
            for _ in range(self.horizon):
                a = self.decide(learner.act(), m)
                to = drawn(P[m, s, a])
                learner.observe(a, self.pay(float(R[m, s, a]), rng), to)
                s = to
            told = self.label(m, rng)
            if told is None:
                learner.drop_episode()
            else:
                learner.end_episode(told)
            if self.stop and k % 50 == 49:
                made = latent_mdp_certificates(learner, measure=measure)[0]
                looked.append((made.bound - float(made.trivial or 0), k + 1, made))
        if self.stop:
            _, count, made = min(looked, key=lambda x: x[:2])
            del self.plans[count:]
            return [made]
        return list(
            latent_mdp_certificates(learner, measure=measure, C=self.constant if measure else None)
        )

    constant: float | None = None

    @cached_property
    def best(self) -> float:
        """What the best policy that does not know the law earns an episode."""
        laws = [self.laws[self.which(k)] for k in range(self.episodes)]
        kinds = list({id(x): x for x in laws}.values())
        share = [sum(x is kind for x in laws) / len(laws) for kind in kinds]
        w = np.concatenate([c * x["w"] for c, x in zip(share, kinds, strict=True)])
        nu, P, R = (np.concatenate([x[n] for x in kinds]) for n in ("nu", "P", "R"))
        return best_value(w, nu, P, R, self.horizon)

    def told(self) -> float:
        """What could be earned an episode by knowing the context."""
        law = self.laws[0]
        one = np.ones(1)
        return sum(
            law["w"][m]
            * best_value(
                one, law["nu"][m : m + 1], law["P"][m : m + 1], law["R"][m : m + 1], self.horizon
            )
            for m in range(len(law["w"]))
        )

    def regret(self, best: float) -> float:
        """Of all episodes, those left out with them."""
        if self.does is not None:
            return len(self.plans) * (best - self.does())
        values = {
            (p, law): earned(self.policies[p], *(self.laws[law][n] for n in ("w", "nu", "P", "R")))
            for p, law in set(self.plans)
        }
        return len(self.plans) * best - sum(values[of] for of in self.plans)


def learnt(stream: Stream, measure: bool = True) -> list[Certificate]:
    """A stream from its first to its last episode."""
    return stream.run(measure)


def judge(stream: Stream) -> Any:
    """Whether regret is at most the bound."""

    def truths(result: list[Certificate]) -> Mapping[str, bool | None]:
        made: dict[str, bool | None] = {}
        for c in result:
            best = stream.told() if c.name == "known-context" else stream.best
            off = c.bound - stream.regret(best)
            made[c.name] = None if abs(off) < 1e-6 else bool(off > 0)
        return made

    return truths


def seeded(rng: Rng) -> int:
    return int(rng.integers(1 << 31))


def worked(rewards: float = 1.0) -> dict[str, Any]:
    """The worked model with H = 3."""
    m, s, a, to = np.ogrid[:2, :3, :2, :3]
    P = 1.0 + (m * (1 + s) + s + 2 * a + to) % 3
    m, s, a = np.ogrid[:2, :3, :2]
    R = rewards * ((m + 2 * s + 3 * a * (1 + m)) % 5) / 12
    return {
        "w": np.array([0.4, 0.6]),
        "nu": np.array([[1, 0, 0], [0.5, 0.5, 0]]),
        "P": P / P.sum(-1, keepdims=True),
        "R": R,
    }


def of_worked(rng: Rng, episodes: int, **changes: Any) -> Stream:
    return Stream([worked()], 3, episodes, seeded(rng), 2, **changes)


# Honest


@worlds.world(run=learnt, strengths=(300.0, 2000.0))
def the_worked_model(rng: Rng, strength: float) -> Instance:
    """Two contexts, three states, so many episodes."""
    stream = of_worked(rng, int(strength))
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt)
def random_models(rng: Rng, strength: float) -> Instance:
    """Up to three of everything, rows with much near 0, a context of weight .01, returns of exactly 1; any solver."""
    M, S, A, H = (int(x) for x in rng.integers([2, 2, 2, 2], 4))
    w = rng.dirichlet(np.ones(M))
    w = np.append(w[:-1] * 0.99 / w[:-1].sum(), 0.01)
    law = {
        "w": w,
        "nu": rng.dirichlet(np.full(S, 0.3), M),
        "P": rng.dirichlet(np.full(S, 0.3), (M, S, A)),
        "R": rng.integers(0, 2, (M, S, A)) / H,
    }
    solver = str(rng.choice(["bernstein", "bernstein", "mvp", "l1"]))
    options = {"solver": solver, "max_vectors": 2000}
    stream = Stream([law], H, 300, seeded(rng), M, options)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt)
def ties(rng: Rng, strength: float) -> Instance:
    """All contexts alike, next states certain, two first states: labels carry nothing."""
    S, A = 3, 2
    P = np.zeros((1, S, A, S))
    for s in range(S):
        for a in range(A):
            P[0, s, a, rng.integers(S)] = 1
    law = {
        "w": np.array([0.3, 0.7]),
        "nu": np.tile([0.5, 0.5, 0.0], (2, 1)),
        "P": np.repeat(P, 2, axis=0),
        "R": np.repeat(rng.integers(0, 3, (1, S, A)) / 6, 2, axis=0),
    }
    stream = Stream([law], 3, 1000, seeded(rng), 2)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, false_voids=0.2)
def stopped_when_it_looks_best(rng: Rng, strength: float) -> Instance:
    """Looked at every 50 episodes of 400, and kept where the bound looked best; tests are looked at eight times."""
    law = probe(8)
    horizon = law.pop("horizon")
    options = {
        "n_episodes": None,
        "possible": (law["P"] > 0).any(0),
        "starts": (law["nu"] > 0).any(0),
    }
    stream = Stream([law], horizon, 400, seeded(rng), 2, options, stop=True)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt)
def learnt_rewards(rng: Rng, strength: float) -> Instance:
    """Rewards are 0 or 1/3 at random, and their means are learnt."""
    stream = of_worked(
        rng,
        500,
        options={"rewards": "learn"},
        pay=lambda r, random: float(random.random() < 3 * r) / 3,
    )
    return Instance({"stream": stream}, judge(stream))


def guess() -> dict[str, Any]:
    """One step, two contexts that cannot be told apart before."""
    one = np.ones((2, 1, 2, 1))
    return {"w": np.array([0.5, 0.5]), "nu": np.ones((2, 1)), "P": one, "R": np.eye(2)[:, None, :]}


@worlds.world(run=learnt)
def a_guess(rng: Rng, strength: float) -> Instance:
    """What knowing the context is worth can never be earned: the bound is nearly attained."""
    stream = Stream([guess()], 1, 2000, seeded(rng), 2, {"planner": "alternating"})
    return Instance({"stream": stream}, judge(stream))


def sure_thing(rng: Rng, episodes: int, **changes: Any) -> Stream:
    """One context, one state, one step; action 0 pays 1, and somebody takes the other one."""
    law = {
        "w": np.ones(1),
        "nu": np.ones((1, 1)),
        "P": np.ones((1, 1, 2, 1)),
        "R": np.array([[[1.0, 0.0]]]),
    }
    return Stream(
        [law], 1, episodes, seeded(rng), 1, decide=lambda a, m: 1, does=lambda: 0.0, **changes
    )


def needed(stream: Stream) -> float:
    """The constant that the regret of :func:`sure_thing` needs: M = S = Γ = 1, A = 2, Var* at most 1/4."""
    iota = stream.learner(False)._iota_of(1)
    return stream.episodes / (np.sqrt(0.25 * 2 * stream.episodes * iota) + 2 * iota)


@worlds.world(run=learnt)
def a_nurse_decides(rng: Rng, strength: float) -> Instance:
    """The worse action is always taken against the plan: regret is all that there was, and the bound nearly attained."""
    stream = sure_thing(rng, 300)
    stream.constant = 1.01 * needed(stream)
    return Instance({"stream": stream}, judge(stream))


# Broken: returns and labels


@worlds.world(run=learnt, breaks=t.RETURNS, refuses=(ValueError,))
def a_return_over_1(rng: Rng, strength: float) -> Instance:
    """Rewards are five times what the scale allows."""
    stream = of_worked(
        rng, 300, options={"rewards": "learn"}, pay=lambda r, _: 5 * r, measured=False
    )
    return Instance({"stream": stream}, judge(stream))


@worlds.world(
    run=learnt,
    breaks=t.RETURNS,
    strengths=(0.1, 0.01, 0.0001),
    broken_from=0.1,
    refuses=(ValueError,),
)
def a_rare_return_over_1(rng: Rng, strength: float) -> Instance:
    """With this probability a step pays 2."""
    stream = of_worked(
        rng,
        300,
        options={"rewards": "learn"},
        pay=lambda r, random: 2.0 if random.random() < strength else r,
        measured=False,
    )
    return Instance({"stream": stream}, judge(stream))


def redrawn(share: float) -> Callable[[int, Rng], int]:
    return lambda m, rng: int(rng.random() < 0.6) if rng.random() < share else m


@worlds.world(run=learnt, breaks=t.LABELS, strengths=(1.0, 0.3, 0.1, 0.01), broken_from=0.01)
def labels_redrawn(rng: Rng, strength: float) -> Instance:
    """This share of labels is drawn anew; rewards are known and differ between contexts."""
    stream = of_worked(rng, 600, label=redrawn(strength))
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.LABELS, refuses=(ValueError,))
def labels_from_1(rng: Rng, strength: float) -> Instance:
    """Labels are numbered from 1."""
    stream = of_worked(rng, 100, label=lambda m, _: m + 1)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.LABELS, strengths=(1.0, 0.5, 0.3), noticeable=False)
def labels_redrawn_and_rewards_learnt(rng: Rng, strength: float) -> Instance:
    """The same where rewards are learnt: seen, if at all, by what the state before says."""
    options = {"rewards": "learn", "planner": "alternating"}
    stream = of_worked(rng, 2000, options=options, label=redrawn(strength), measured=False)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.COMPLETE)
def label_known_of_the_sick_alone(rng: Rng, strength: float) -> Instance:
    """Episodes of context 0 never get a label."""
    stream = of_worked(rng, 600, label=lambda m, _: m or None, measured=False)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.COMPLETE, strengths=(0.9, 0.5, 0.1))
def labels_get_lost(rng: Rng, strength: float) -> Instance:
    """This share of episodes never gets a label."""
    stream = of_worked(
        rng, 600, label=lambda m, random: None if random.random() < strength else m, measured=False
    )
    return Instance({"stream": stream}, judge(stream))


# Broken: one law, and nothing that matters but the context


def shifted(kappa: float) -> dict[str, Any]:
    law = worked()
    return {**law, "P": (1 - kappa) * law["P"] + kappa * np.roll(law["P"], 1, axis=-1)}


def random_play(stream: Stream, rng: Rng) -> Stream:
    """Actions at random, as of somebody who tries everything; nothing is then measured."""
    random = np.random.default_rng(seeded(rng))
    values = [_uniform(law, stream.horizon) for law in stream.laws]
    return replace(
        stream,
        decide=lambda a, m: int(random.integers(2)),
        does=lambda: float(np.mean([values[stream.which(k)] for k in range(stream.episodes)])),
    )


def _uniform(law: dict[str, Any], horizon: int) -> float:
    """What actions at random earn."""
    values = np.zeros(law["R"].shape[:2])
    for _ in range(horizon):
        values = (law["R"] + np.einsum("msat,mt->msa", law["P"], values)).mean(axis=-1)
    return float((law["w"][:, None] * law["nu"] * values).sum())


@worlds.world(run=learnt, breaks=t.STATIONARY, strengths=(1.0, 0.5, 0.3, 0.1), broken_from=0.3)
def a_jump(rng: Rng, strength: float) -> Instance:
    """Half way, rows turn to their neighbours' with this weight; actions are taken at random."""
    K = 2000
    stream = of_worked(rng, K, which=lambda k: int(2 * k >= K), measured=False)
    stream.laws.append(shifted(strength))
    stream = random_play(stream, rng)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.STATIONARY, strengths=(1.0, 0.3, 0.2, 0.1), broken_from=0.3)
def every_other_day(rng: Rng, strength: float) -> Instance:
    """Every other episode has rows turned with this weight."""
    stream = of_worked(rng, 2000, which=lambda k: k % 2, measured=False)
    stream.laws.append(shifted(strength))
    stream = random_play(stream, rng)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.STATIONARY, strengths=(1.0,), noticeable=False)
def every_other_week(rng: Rng, strength: float) -> Instance:
    """Blocks of seven episodes: a split that was not tried."""
    stream = of_worked(rng, 2000, which=lambda k: k // 7 % 2, measured=False)
    stream.laws.append(shifted(strength))
    stream = random_play(stream, rng)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.CONTEXT_SUFFICES, strengths=(1.0, 0.7, 0.5), broken_from=1.0)
def a_hidden_second_type(rng: Rng, strength: float) -> Instance:
    """Each context is two, which differ with this weight; the label tells the context alone."""
    law, other = worked(), shifted(strength)
    both = {n: np.concatenate([law[n], other[n]]) for n in ("nu", "P", "R")}
    both["w"] = np.concatenate([law["w"], law["w"]]) / 2
    stream = Stream([both], 3, 4000, seeded(rng), 2, label=lambda m, _: m % 2, measured=False)
    stream = random_play(stream, rng)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.CONTEXT_SUFFICES)
def answers_repeat_themselves(rng: Rng, strength: float) -> Instance:
    """A test asked again answers as before, as that of a real unit does."""
    S, A, H = 4, 1, 4
    P = np.zeros(
        (6, S, A, S)
    )  # two contexts, three kinds of unit in each, who answer after the start
    for kind in range(6):
        P[kind, :, :, 1 + kind % 3] = 1
    law = {
        "w": np.array([0.1, 0.2, 0.2, 0.2, 0.2, 0.1]),
        "nu": np.tile([1.0, 0, 0, 0], (6, 1)),
        "P": P,
        "R": np.zeros((6, S, A)),
    }
    groups = np.zeros((S, A), dtype=int)
    stream = Stream(
        [law], H, 600, seeded(rng), 2, {"groups": groups}, label=lambda m, _: m // 3, measured=False
    )
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.SHARED, strengths=(1.0, 0.5, 0.3, 0.1), broken_from=0.5)
def tied_that_differ(rng: Rng, strength: float) -> Instance:
    """States are tied whose rows differ with this weight."""
    law = worked()
    P = law["P"].copy()
    P[:, 1] = (1 - strength) * P[:, 0] + strength * np.roll(P[:, 0], 1, axis=-1)
    groups = np.array([[0, 1], [0, 1], [2, 3]])
    stream = Stream([{**law, "P": P}], 3, 1000, seeded(rng), 2, {"groups": groups}, measured=False)
    stream = random_play(stream, rng)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.SHARED)
def all_tied(rng: Rng, strength: float) -> Instance:
    """All pairs are tied, as if neither state nor action mattered."""
    groups = np.zeros((3, 2), dtype=int)
    stream = of_worked(rng, 1000, options={"groups": groups}, measured=False)
    stream = random_play(stream, rng)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.STRUCTURE, strengths=(0.3, 0.01, 0.0001), broken_from=0.01)
def the_impossible_happens(rng: Rng, strength: float) -> Instance:
    """A transition that is ruled out has this probability."""
    law = worked()
    P = law["P"].copy()
    P[:, 0, 0, 2] = 0
    P /= P.sum(-1, keepdims=True)
    possible = (P > 0).all(axis=0)
    P[:, 0, 0] *= 1 - strength
    P[:, 0, 0, 2] = strength
    stream = Stream([{**law, "P": P}], 3, 1500, seeded(rng), 2, {"possible": possible})
    stream = random_play(stream, rng)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.STRUCTURE, refuses=(ValueError,))
def a_start_that_was_ruled_out(rng: Rng, strength: float) -> Instance:
    """Episodes begin where starts says they cannot."""
    starts = np.array([True, False, False])
    stream = of_worked(rng, 200, options={"starts": starts})
    return Instance({"stream": stream}, judge(stream))


# Broken: plans


@worlds.world(run=learnt, breaks=t.OPTIMISTIC)
def no_optimism(rng: Rng, strength: float) -> Instance:
    """Greedy plans, or draws from the posterior."""
    solver = str(rng.choice(["greedy", "posterior"]))
    stream = of_worked(rng, 200, options={"solver": solver, "random_state": 0})
    return Instance({"stream": stream}, judge(stream))


@worlds.world(
    run=learnt, breaks=t.OPTIMISTIC, strengths=(0.01, 0.1, 0.5, 0.9), broken_from=0.9, rising=False
)
def smaller_bonuses(rng: Rng, strength: float) -> Instance:
    """Bonuses at this scale."""
    options = {"bonus_scale": strength, "planner": "alternating"}
    stream = of_worked(rng, 300, options=options)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.OPTIMISTIC)
def scale_reset_on_resume(rng: Rng, strength: float) -> Instance:
    """One episode at a scale of .1, then 1 again, after going through a state."""
    stream = of_worked(rng, 200)

    def script(learner: LatentMDPLearner, k: int) -> LatentMDPLearner:
        if k == 50:
            learner.bonus_scale = 0.1
        if k == 51:
            learner.bonus_scale = 1.0
            fresh = stream.learner(learner.model is not None)
            fresh.load_state_dict(learner.state_dict())
            return fresh
        return learner

    stream.script = script
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.MODEL, strengths=(1.0, 0.5, 0.3, 0.1), broken_from=0.5)
def another_model(rng: Rng, strength: float) -> Instance:
    """Regret is measured by a model whose rows are off by this weight."""
    law, off = worked(), shifted(strength)
    model = LatentMDP(off["w"], off["nu"], off["P"], off["R"], 3)
    stream = Stream([law], 3, 1000, seeded(rng), 2, {"model": model, "planner": "alternating"})
    return Instance({"stream": stream, "measure": True}, judge(stream))


@worlds.world(run=learnt, breaks=t.MODEL, strengths=(0.9, 0.5, 0.1))
def a_model_that_pays_less(rng: Rng, strength: float) -> Instance:
    """Regret is measured by a model whose rewards are smaller by this share."""
    law = worked()
    model = LatentMDP(law["w"], law["nu"], law["P"], (1 - strength) * law["R"], 3)
    stream = Stream([law], 3, 300, seeded(rng), 2, {"model": model, "planner": "alternating"})
    return Instance({"stream": stream, "measure": True}, judge(stream))


@worlds.world(run=learnt, breaks=t.MODEL, strengths=(0.9, 0.5))
def a_model_that_pays_less_than_was_learnt(rng: Rng, strength: float) -> Instance:
    """The same, where no table of rewards is known."""
    law = worked()
    model = LatentMDP(law["w"], law["nu"], law["P"], (1 - strength) * law["R"], 3)
    options = {"model": model, "planner": "alternating", "rewards": "learn"}
    stream = Stream([law], 3, 1000, seeded(rng), 2, options)
    return Instance({"stream": stream, "measure": True}, judge(stream))


@worlds.world(run=learnt, breaks=t.MODEL)
def a_model_that_rules_out_what_happens(rng: Rng, strength: float) -> Instance:
    """The model has zeros where the stream has none."""
    law = worked()
    P = law["P"].copy()
    P[:, 0, :, 1] = 0
    P /= P.sum(-1, keepdims=True)
    model = LatentMDP(law["w"], law["nu"], P, law["R"], 3)
    stream = Stream([law], 3, 300, seeded(rng), 2, {"model": model, "planner": "alternating"})
    return Instance({"stream": stream, "measure": True}, judge(stream))


@worlds.world(
    run=learnt, breaks=t.CONSTANT, strengths=(0.01, 0.001), rising=False, noticeable=False
)
def too_small_a_constant(rng: Rng, strength: float) -> Instance:
    """C is this small, which nobody can see."""
    stream = of_worked(rng, 300, options={"planner": "alternating"}, constant=strength)
    return Instance({"stream": stream}, judge(stream))


@worlds.world(run=learnt, breaks=t.CONSTANT, strengths=(0.5, 0.9), rising=True, noticeable=False)
def a_constant_just_too_small(rng: Rng, strength: float) -> Instance:
    """C is this share of what the run needed."""
    stream = sure_thing(rng, 300)
    stream.constant = strength * needed(stream)
    return Instance({"stream": stream}, judge(stream))


# Plans for a known model


def planned(arrays: dict[str, Any], horizon: int) -> Any:
    """A plan for a model that is given."""
    return latent_mdp(arrays, horizon=horizon)


def judge_plan(law: dict[str, Any], horizon: int) -> Any:
    """Whether the plan is the best, by its nodes and by plain recursion."""

    def truths(result: Any) -> dict[str, bool | None]:
        w, nu, P, R = (law[n] for n in ("w", "nu", "P", "R"))
        lacks = best_value(w, nu, P, R, horizon) - earned(result.plan.policy, w, nu, P, R)
        return {"plan": None if abs(lacks - 1e-9) < 1e-10 else bool(lacks < 1e-9)}

    return truths


def small(rng: Rng, horizon: int) -> dict[str, Any]:
    M, S, A = (int(x) for x in rng.integers(2, 4, 3))
    return {
        "w": rng.dirichlet(np.ones(M)),
        "nu": rng.dirichlet(np.ones(S), M),
        "P": rng.dirichlet(np.full(S, 0.3), (M, S, A)),
        "R": rng.random((M, S, A)) / horizon,
    }


@worlds.world(run=planned)
def plans_for_small_models(rng: Rng, strength: float) -> Instance:
    """Up to three of everything, rows with much near 0."""
    horizon = int(rng.integers(2, 4))
    law = small(rng, horizon)
    return Instance({"arrays": law, "horizon": horizon}, judge_plan(law, horizon))


@worlds.world(run=planned)
def plans_with_ties(rng: Rng, strength: float) -> Instance:
    """Contexts alike, and rewards of few values."""
    law = small(rng, 3)
    for n in ("nu", "P", "R"):
        law[n][:] = law[n][:1]
    law["R"] = np.round(2 * 3 * law["R"]) / 6
    return Instance({"arrays": law, "horizon": 3}, judge_plan(law, 3))


@worlds.world(
    run=planned, breaks=t.TRUE_MODEL, strengths=(30.0, 300.0), rising=False, noticeable=False
)
def a_model_of_few_rows(rng: Rng, strength: float) -> Instance:
    """The model is counted from so many rows; what the plan promises is of the model."""
    law = small(rng, 3)
    counts = rng.multinomial(int(strength), law["P"]) + 1e-3
    law = {**law, "P": counts / counts.sum(-1, keepdims=True)}
    return Instance({"arrays": law, "horizon": 3}, judge_plan(law, 3))


@worlds.world(run=planned, breaks=t.TRUE_MODEL, noticeable=False)
def a_model_of_last_year(rng: Rng, strength: float) -> Instance:
    """Rows of the world have moved on; the model has not."""
    law = small(rng, 3)
    return Instance({"arrays": law, "horizon": 3}, judge_plan(law, 3))


# Labels named


def named(table: pd.DataFrame, seed: int, **options: Any) -> Any:
    """The front door on a table."""
    return latent_mdp(table, context="label", rng=seed, **options)


def judge_named(accuracy: Callable[[Any], float]) -> Any:
    """Whether the plan is right as often as the lower end of its interval says."""

    def truths(result: Any) -> dict[str, bool | None]:
        demand = next(c for c in result.certificates if c.name == "accuracy")
        if result.accuracy is None:
            return {"accuracy": None}
        low = result.accuracy.low
        if demand.verdict is Verdict.HOLDS:
            low = max(low, demand.bound)
        return {"accuracy": bool(accuracy(result) >= low - 1e-12)}

    return truths


LAWS = np.array([[[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]], [[0.2, 0.8], [0.4, 0.6], [0.3, 0.7]]])


def answers(rng: Rng, n: int, w: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Labels and results of three tests of yes and no."""
    y = (rng.random(n) >= w).astype(int)
    return y, (rng.random((n, 3)) >= LAWS[y, :, 0]).astype(int)


def table_of(y: np.ndarray, code: np.ndarray) -> pd.DataFrame:
    made = pd.DataFrame(
        {f"test {j}": np.where(code[:, j], "yes", "no") for j in range(code.shape[1])}
    )
    return made.assign(label=np.where(y, "sick", "well"))


def right(result: Any, w: float = 0.4, laws: np.ndarray = LAWS) -> float:
    """How often the plan is right, by what it does after each results, from its own table."""
    rows = result.steps
    does = dict(zip(rows["after"], rows["does"], strict=True))
    total = 0.0
    for results in np.ndindex(2, 2, 2):
        history, action = "", does["(start)"]
        while action.startswith("ask"):
            test = action[4:]
            answer = "yes" if results[int(test[-1])] else "no"
            history = f"{history}{', ' if history else ''}{test} {answer}"
            action = does[history]
        m = int(action == "name sick")
        p = (w, 1 - w)[m] * np.prod([laws[m, j, r] for j, r in enumerate(results)])
        total += float(p)
    return total


@worlds.world(run=named)
def three_tests(rng: Rng, strength: float) -> Instance:
    """Three tests of yes and no, independent given the label; 120 rows."""
    arguments = {"table": table_of(*answers(rng, 120)), "seed": seeded(rng)}
    return Instance(arguments, judge_named(right))


@worlds.world(run=named)
def nothing_to_learn(rng: Rng, strength: float) -> Instance:
    """Two hundred columns of noise: every plan is right half of the time."""
    n = 120
    table = pd.DataFrame(rng.normal(size=(n, 200)), columns=[f"c{i}" for i in range(200)])
    table["label"] = np.where(rng.random(n) < 0.5, "a", "b")
    arguments = {"table": table, "seed": seeded(rng), "at_least": 0.3}  # no demand that is not met
    return Instance(arguments, judge_named(lambda result: 0.5))


def many_rows_a_unit(rng: Rng, jitter: float, share: float) -> pd.DataFrame:
    """Noise, of which this share of rows are copies of others."""
    n = 60
    X = rng.normal(size=(n, 40))
    y = rng.random(n) < 0.5
    more = rng.integers(n, size=round(share * n) * 3)
    X = np.vstack([X, X[more] + jitter * rng.normal(size=(len(more), 40))])
    table = pd.DataFrame(X, columns=[f"c{i}" for i in range(40)])
    return table.assign(label=np.where(np.append(y, y[more]), "a", "b"))


@worlds.world(run=named, breaks=t.DISTINCT, strengths=(1.0, 0.3, 0.1), broken_from=0.1)
def copies(rng: Rng, strength: float) -> Instance:
    """Rows of noise stand there several times, as after oversampling."""
    arguments = {"table": many_rows_a_unit(rng, 0.0, strength), "seed": seeded(rng)}
    return Instance(arguments, judge_named(lambda result: 0.5))


@worlds.world(run=named, breaks=t.DISTINCT, strengths=(1e-9, 1e-7), rising=False)
def near_copies(rng: Rng, strength: float) -> Instance:
    """Copies differ by rounding of this size."""
    arguments = {"table": many_rows_a_unit(rng, strength, 1.0), "seed": seeded(rng)}
    return Instance(arguments, judge_named(lambda result: 0.5))


@worlds.world(run=named, breaks=t.ROWS, strengths=(0.3, 0.1), noticeable=False)
def rows_of_one_unit(rng: Rng, strength: float) -> Instance:
    """Each unit has four rows, which differ by noise of this size: nobody can see it."""
    arguments = {"table": many_rows_a_unit(rng, strength, 1.0), "seed": seeded(rng)}
    return Instance(arguments, judge_named(lambda result: 0.5))


@worlds.world(run=named, breaks=t.ROWS, strengths=(1.0, 0.5), noticeable=False)
def rows_to_come_are_others(rng: Rng, strength: float) -> Instance:
    """Of rows to come this share answers at random."""
    later = (1 - strength) * LAWS + strength / 2
    arguments = {"table": table_of(*answers(rng, 120)), "seed": seeded(rng)}
    return Instance(arguments, judge_named(lambda result: right(result, laws=later)))


worlds.by_construction(
    t.PLANNED, "tests/rl/latent_mdp/test_learner.py::test_nobody_gets_round_what_the_planner_made"
)
worlds.by_construction(
    t.SPLIT, "tests/rl/latent_mdp/test_front_door.py::test_nobody_gets_round_the_halves"
)


# Mutants


def half_bound(name: str) -> Callable[[Any], Any]:
    """The bound of that theorem at half its height."""

    def change(original: Any) -> Any:
        def mutant(theorem: Any, bound: float, *more: Any) -> Any:
            return original(theorem, bound * (0.5 if theorem.name == name else 1), *more)

        return mutant

    return change


def sees_all_rows(original: Any) -> Any:
    """The fit sees the half that counts hits, too."""
    return lambda found, y, M, rows, *more: original(found, y, M, np.ones_like(rows), *more)


MUTANTS: tuple[tuple[str, World], ...] = (
    ("regret", a_nurse_decides),
    ("shape", a_nurse_decides),
    ("known-context", a_guess),
)
for name, world in MUTANTS:
    worlds.mutant(
        name, "bound halved", target=f"{HERE}.theorems:regret", change=half_bound(name), world=world
    )
worlds.mutant(
    "regret",
    "deviation of returns taken off instead of added",
    target=f"{HERE}.certify:deviation",
    change=lambda original: lambda *given: -original(*given),
    world=a_nurse_decides,
)
worlds.mutant(
    "plan",
    "beliefs that agree to one digit taken for one",
    target=f"{HERE}.planning:SAME",
    change=lambda same: 1.0,
    world=plans_for_small_models,
)
worlds.mutant(
    "accuracy",
    "the fit sees all rows",
    target=f"{HERE}.selection:fitted",
    change=sees_all_rows,
    world=nothing_to_learn,
)
