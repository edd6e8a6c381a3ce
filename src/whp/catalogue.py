"""One row a method. Data only: nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whp.theorem import Theorem

__all__ = ["CATALOGUE", "Method", "find"]


@dataclass(frozen=True)
class Method:
    """A method of the library.

    Parameters
    ----------
    slug : str
        Its name on the command line.
    title, authors, venue, arxiv : str
        The paper.
    field : str
        The package under ``whp`` that holds it.
    problem : str
        What goes in, what comes out, in one sentence.
    guarantee : str
        What its certificates promise; empty while it is planned.
    cost : str
        Time and memory in the input's sizes.
    front_door : str
        ``"module:function"``; empty while it is planned.
    extra : str
        The extra that the method itself needs, if any.
    theorems : str
        Module that declares ``THEOREMS``; empty while they are not declared.
    commands : str
        ``"module:name"`` of a cyclopts application that ``whp name`` shall run, if the method brings commands of its own.
    """

    slug: str
    title: str
    authors: str
    venue: str
    arxiv: str
    field: str
    problem: str
    guarantee: str = ""
    cost: str = ""
    front_door: str = ""
    extra: str = ""
    theorems: str = ""
    commands: str = ""

    def load_theorems(self) -> tuple[Theorem, ...]:
        """The theorems that the method declares; none while it has not moved in."""
        return import_module(self.theorems).THEOREMS if self.theorems else ()

    @property
    def status(self) -> str:
        """``"built"`` or ``"planned"``."""
        return "built" if self.front_door else "planned"

    @property
    def citation(self) -> str:
        """One line to cite the paper by."""
        return f"{self.authors}. {self.title}. {self.venue}. arXiv:{self.arxiv}"

    def load(self) -> Any:
        """The front door.

        Raises
        ------
        ValueError
            If the method is only planned.
        ModuleNotFoundError
            If the extra that it needs is not installed.
        """
        if not self.front_door:
            raise ValueError(f"{self.slug} is planned but not built yet; `whp list` shows what is")
        module, function = self.front_door.split(":")
        try:
            return getattr(import_module(module), function)
        except ModuleNotFoundError as error:
            if not self.extra or (error.name or "").startswith("whp"):
                raise
            raise ModuleNotFoundError(
                f"{self.slug} needs {error.name}: pip install 'whp[{self.extra}]'"
            ) from error


CATALOGUE: tuple[Method, ...] = (
    Method(
        "linf-regression",
        "A Nearly-Optimal Bound for Fast Regression with ℓ∞ Guarantee",
        "Song, Ye, Yin, Zhang",
        "ICML 2023",
        "2302.00248",
        "linalg",
        "Solve a tall least-squares problem from a short sketch, with an error bar on every single coefficient.",
        guarantee="every coefficient lies within its own error bar of the exact least-squares solution, all at once",
        cost="O(n d log n + m d²) time, (n + m)(d + 1) numbers, for an m-row sketch of an n×d matrix",
        front_door="whp.linalg:linf_regression",
        theorems="whp.linalg._linf_regression.theorems",
    ),
    Method(
        "lp-sensitivity-sampling",
        "Sharper Bounds for ℓp Sensitivity Sampling",
        "Woodruff, Yasuda",
        "ICML 2023",
        "2306.00732",
        "linalg",
        "Keep a few weighted rows of a tall matrix that preserve every ℓp norm of its products.",
        guarantee="the weighted rows preserve every ℓp norm within a stated factor, and the regression's cost is certainly within "
        "a stated gap of the optimum",
        cost="O(n d²) time a step for Lewis weights, about ten steps; n(d + 1) numbers; then a regression on the rows kept",
        front_door="whp.linalg:lp_sensitivity_sampling",
        theorems="whp.linalg._lp_sensitivity_sampling.theorems",
    ),
    Method(
        "learning-to-relax",
        "Learning to Relax: Setting Solver Parameters Across a Sequence of Linear System Instances",
        "Khodak, Chow, Balcan, Talwalkar",
        "ICLR 2024",
        "2310.02246",
        "linalg",
        "Solve a stream of related linear systems while learning the relaxation parameter from iteration counts.",
        guarantee="no solve takes more iterations than was computed for it beforehand; expected iterations above the best "
        "fixed ω, or above each system's own best, below a bound, where the learner is replayed on all counts",
        cost="one pass over the matrix a sweep; tens of microseconds a system for the learner",
        front_door="whp.linalg:learning_to_relax",
        theorems="whp.linalg._learning_to_relax.theorems",
    ),
    Method(
        "hierarchical-communities",
        "When Does Bottom-up Beat Top-down in Hierarchical Community Detection?",
        "Dreveton, Kuroda, Grossglauser, Thiran",
        "JASA 2026",
        "2306.00833",
        "graph",
        "Find the tree of nested communities of a graph, and say for every branch whether the graph supports it.",
        guarantee="no inversion in the tree; every supported branch is denser than what surrounds it, all at once, where edges "
        "are independent, which triangles test",
        cost="O(K · edges · Lanczos steps + K²) for K leaves, O(edges^1.5) to count triangles; never a dense n×n array",
        front_door="whp.graph:hierarchical_communities",
        theorems="whp.graph._hierarchical_communities.theorems",
    ),
    Method(
        "h-calibration",
        "h-calibration: Rethinking Classifier Recalibration with Probabilistic Error-Bounded Objective",
        "Huang, Cao, Xia, Chen, Wang, Zhang",
        "IEEE TPAMI 2025",
        "2506.17968",
        "calibration",
        "Recalibrate a classifier's probabilities without changing its decisions, with a band for what error is left.",
        guarantee="in every block of top labels, and of all entries, the true frequency lies in the band, all blocks at once",
        cost="O(N) an evaluation of the error, N = samples × classes",
        front_door="whp.calibration:h_calibration",
        theorems="whp.calibration._h_calibration.theorems",
    ),
    Method(
        "comp-sum-losses",
        "Cross-Entropy Loss Functions: Theoretical Analysis and Applications",
        "Mao, Mohri, Zhong",
        "ICML 2023",
        "2304.07288",
        "losses",
        "One loss with a dial from sum-exponential over cross-entropy to mean absolute error, with its bound on error.",
        guarantee="the error is within the stated distance of the best classifier's, from the loss on new rows",
        cost="that of cross-entropy to train; O(n C) for the certificate of n rows and C classes",
        front_door="whp.losses:comp_sum_losses",
        theorems="whp.losses._comp_sum_losses.theorems",
    ),
    Method(
        "target-surrogates",
        "Target-based Surrogates for Stochastic Optimization",
        "Lavington, Vaswani, Babanezhad, Schmidt, Le Roux",
        "ICML 2023",
        "2302.02607",
        "optim",
        "Train a cheap model under an expensive loss: one call of the oracle, then many steps on a surrogate.",
        guarantee="the surrogate lies above the loss, gradients fall as promised, and minibatches contract up to known noise",
        cost="one oracle call, 1 + m forward and m backward passes a step; for linear models O(n d²) once, then O(b d + d²)",
        front_door="whp.optim._target_surrogates.front_door:target_surrogates",
        theorems="whp.optim._target_surrogates.theorems",
    ),
    Method(
        "ignite",
        "Incorporating Surrogate Gradient Norm to Improve Offline Optimization Techniques",
        "Dao, Nguyen, Truong, Hoang",
        "NeurIPS 2024",
        "2503.04242",
        "optim",
        "Propose better designs from a fixed table of designs and values, on a surrogate with bounded sharpness.",
    ),
    Method(
        "optimistic-mirror-descent",
        "Optimistic Online Mirror Descent for Bridging Stochastic and Adversarial Online Convex Optimization",
        "Chen, Tu, Zhao, Zhang",
        "ICML 2023",
        "2302.04552",
        "online",
        "Learn online with steps that tune themselves to how predictable the gradients are.",
        guarantee="regret below a bound in the gradients' own variation, on this run and without a learning rate",
        cost="O(d) time and memory a round; O(d²) for the exp-concave rule, O(d log T) for a moving comparator",
        front_door="whp.online._optimistic_mirror_descent.front_door:optimistic_mirror_descent",
        theorems="whp.online._optimistic_mirror_descent.theorems",
    ),
    Method(
        "groupwise-regret",
        "Oracle Efficient Algorithms for Groupwise Regret",
        "Acharya, Arunachaleswaran, Kannan, Roth, Ziani",
        "ICLR 2024",
        "2310.04652",
        "online",
        "Predict online nearly as well on every overlapping group as the best model of that group in hindsight.",
        guarantee="on every group's own rounds, regret to its best linear model below a bound that is executed on the run",
        cost="O(d²) a row and active group, N d² numbers for N groups",
        front_door="whp.online._groupwise_regret.front_door:groupwise_regret",
        theorems="whp.online._groupwise_regret.theorems",
    ),
    Method(
        "recovering-bandits",
        "Offline Planning and Online Learning under Recovering Rewards",
        "Simchi-Levi, Zheng, Zhu",
        "ICML 2021",
        "2106.14813",
        "bandits",
        "Plan a feasible timetable of actions whose rewards recover with rest, with its distance from the best possible.",
        guarantee="a timetable without conflicts that earns a computed share of what any policy could, and regret of learning it",
        cost="O(N D log(N D)) for the bound, a few dozen packings of O(N log N) for a plan",
        front_door="whp.bandits._recovering_bandits.front_door:recovering_bandits",
        theorems="whp.bandits._recovering_bandits.theorems",
    ),
    Method(
        "adversarial-linear-mdp",
        "Refined Regret for Adversarial MDPs with Linear Function Approximation",
        "Dai, Luo, Wei, Zimmert",
        "ICML 2023",
        "2301.12942",
        "rl",
        "Compete with the best fixed policy when costs change arbitrarily from episode to episode.",
        guarantee="the expected regret to the best fixed policy, with constants, and that of the learner at every state",
        cost="a few microseconds an episode, state and action; H (X A)² d for the mean of the negative part",
        front_door="whp.rl._adversarial_linear_mdp.front_door:adversarial_linear_mdp",
        theorems="whp.rl._adversarial_linear_mdp.theorems",
    ),
    Method(
        "latent-mdp",
        "Horizon-Free and Variance-Dependent Reinforcement Learning for Latent Markov Decision Processes",
        "Zhou, Wang, Du",
        "ICML 2023",
        "2210.11604",
        "rl",
        "Act in episodes whose dynamics depend on a hidden type that is revealed afterwards.",
        guarantee="the best plan over histories for a model, how often it names the right label in rows that were not fitted, and "
        "regret of learning it below a bound that the run computes",
        cost="a plan for all histories that can happen, merged where beliefs agree; in learning O(H) an episode, and a plan only "
        "when the visits of a pair double",
        front_door="whp.rl._latent_mdp.front_door:latent_mdp",
        theorems="whp.rl._latent_mdp.theorems",
    ),
    Method(
        "starc",
        "STARC: A General Framework For Quantifying Differences Between Reward Functions",
        "Skalse, Farnik, Motwani, Jenner, Gleave, Abate",
        "ICLR 2024",
        "2309.15257",
        "rl",
        "Measure how far two reward functions are apart, with bounds on the regret of confusing them.",
        guarantee="the worst that optimising the one can cost by the other, exactly on tables, and bounds on it by the distance",
        cost="one factorisation of S × S for the distance, a dozen policy iterations for the worst case",
        front_door="whp.rl._starc.front_door:starc",
        theorems="whp.rl._starc.theorems",
    ),
    Method(
        "a2pr",
        "Adaptive Advantage-Guided Policy Regularization for Offline Reinforcement Learning",
        "Liu, Li, Lan, Gao, Pan, Xu",
        "ICML 2024",
        "2405.19909",
        "offline",
        "Learn a policy from logged transitions that imitates only actions of high advantage.",
    ),
    Method(
        "dichotomy-of-control",
        "Dichotomy of Control: Separating What You Can Control from What You Cannot",
        "Yang, Schuurmans, Abbeel, Nachum",
        "ICLR 2023",
        "2210.13435",
        "offline",
        "Condition a policy on what it controls, not on the luck of the logged episodes.",
    ),
    Method(
        "guarded-offline-rl",
        "Offline Guarded Safe Reinforcement Learning for Medical Treatment Optimization Strategies",
        "Yan, Shen, Wachi, Gros, Zhao, Hu",
        "NeurIPS 2025",
        "2505.16242",
        "offline",
        "Improve a treatment policy from records while staying inside states and costs that the records support.",
    ),
    Method(
        "offline-mbrl-design",
        "Revisiting Design Choices in Offline Model-Based Reinforcement Learning",
        "Lu, Ball, Parker-Holder, Osborne, Roberts",
        "ICLR 2022",
        "2110.04135",
        "offline",
        "Train a policy in a penalised learned model, and see how well each penalty tracks the model's true error.",
    ),
    Method(
        "dataset-reset-po",
        "Dataset Reset Policy Optimization for RLHF",
        "Chang, Zhan, Oertell, Brantley, Misra, Lee, Sun",
        "2024",
        "2404.08495",
        "llm",
        "Tune a language model on preferences with rollouts that start from prefixes of the preferred answers.",
    ),
    Method(
        "information-censorship",
        'A False Sense of Safety: Unsafe Information Leakage in "Safe" AI Responses',
        "Glukhov, Han, Shumailov, Papyan, Papernot",
        "ICLR 2025",
        "2407.02551",
        "llm",
        "Answer or stay silent at random so that no chain of innocent questions leaks more than a budget.",
        guarantee="a budget for what all answers together give away, for whatever system answers or exactly for a table, and the "
        "least that it must cost honest users",
        cost="O(W √C) for W worlds and C histories; all sets of up to 12 questions from one tensor",
        front_door="whp.llm:information_censorship",
        theorems="whp.llm._information_censorship.theorems",
    ),
    Method(
        "rlvr-support",
        "The Invisible Leash: Why RLVR May (or May Not) Escape Its Origin",
        "Wu, Xuan, Lu, Liu, Dong, Harchaoui, Choi",
        "2025",
        "2507.14843",
        "llm",
        "Say what tuning preserved, lost and discovered, from sampled answers of the base and the tuned model.",
    ),
    Method(
        "dp-continual-release",
        "The Price of Differential Privacy under Continual Observation",
        "Jain, Raskhodnikova, Sivakumar, Smith",
        "ICML 2023",
        "2112.00828",
        "privacy",
        "Publish running counts of a stream after every record under one privacy budget.",
        guarantee="a privacy budget for the whole stream, an error bound for all times at once, and the least that any mechanism "
        "must pay",
        cost="O(d) a record by recomputing; O(d) noise a record and O(d log T) memory by the tree",
        front_door="whp.privacy:release_stream",
        theorems="whp.privacy._dp_continual_release.theorems",
    ),
    Method(
        "dp2unlearning",
        "DP2Unlearning: An Efficient and Guaranteed Unlearning Framework for LLMs",
        "Al Mahmud, Jebreel, Domingo-Ferrer, Sánchez",
        "Neural Networks 2025",
        "2504.13774",
        "privacy",
        "Forget training texts on request by fine-tuning a privately trained model on what is kept.",
    ),
    Method(
        "robust-counterfactuals",
        "Towards Bridging the Gaps between the Right to Explanation and the Right to be Forgotten",
        "Krishna, Ma, Lakkaraju",
        "ICML 2023",
        "2302.04288",
        "recourse",
        "Find counterfactual advice that stays valid when any k training rows are deleted.",
    ),
    Method(
        "sae-gba",
        "Taming Polysemanticity in LLMs: Provable Feature Recovery via Sparse Autoencoders",
        "Chen, Sheen, Xiong, Wang, Yang",
        "ICLR 2026",
        "2506.14002",
        "interpretability",
        "Train a sparse autoencoder whose neurons fire at prescribed frequencies.",
        guarantee="targets are kept on new rows, features come back under another seed, and the theorem's conditions are checked",
        cost="three products of batch × d × M a step; memory O(batch × M), activations may be a file larger than memory",
        front_door="whp.interpretability:sae_gba",
        theorems="whp.interpretability._sae_gba.theorems",
        extra="torch",
    ),
    Method(
        "causal-minimax",
        "Which Invariance Should We Transfer? A Causal Minimax Learning Approach",
        "Liu, Zheng, Sun, Fang, Wang",
        "ICML 2023",
        "2107.01876",
        "invariance",
        "Choose the stable predictors with the smallest worst-case risk over all changes of the mutable mechanisms.",
        guarantee="a limit for the mean loss in every environment that differs only in the mutable mechanisms",
        cost="one pass over the rows a class; classes without touching the 2^n subsets: 45 in a millisecond",
        front_door="whp.invariance._causal_minimax.front_door:causal_minimax",
        theorems="whp.invariance._causal_minimax.theorems",
    ),
    Method(
        "pac-invariance",
        "PAC Generalization via Invariant Representations",
        "Parulekar, Shanmugam, Shakkottai",
        "ICML 2023",
        "2205.15196",
        "invariance",
        "Learn a representation whose best linear head is the same in every environment, and bound what a new one costs.",
        guarantee="how often a new environment loses more by the head than the fitted ones did, with no law of its rows assumed, "
        "and how many of those held out do",
        cost="second moments once, O(n p²); all 4,095 subsets of 12 columns over 200 environments in seconds",
        front_door="whp.invariance._pac_invariance.front_door:pac_invariance",
        theorems="whp.invariance._pac_invariance.theorems",
    ),
    Method(
        "stability-gap",
        "Continual evaluation for lifelong learning: Identifying the stability gap",
        "De Lange, van de Ven, Tuytelaars",
        "ICLR 2023",
        "2205.13452",
        "continual",
        "See the worst that a continually trained model ever was between task boundaries.",
        guarantee="what evaluation at the ends of tasks hid, with intervals that hold for all updates at once",
        cost="one forward pass over the subsets after each update; O(K T) for K tasks and T evaluations",
        front_door="whp.continual._stability_gap.front_door:stability_gap",
        theorems="whp.continual._stability_gap.theorems",
    ),
    Method(
        "view-batch",
        "Do Your Best and Get Enough Rest for Continual Learning",
        "Kang, Seifer, Lee, Ryu",
        "CVPR 2025",
        "2503.18371",
        "continual",
        "Fill each batch with several views of fewer samples, so that every sample rests longer.",
        guarantee="how long samples rest between visits, what that costs in gradient noise, and whether less is forgotten",
        cost="one permutation a cycle; training takes as long as without",
        front_door="whp.continual._view_batch.front_door:view_batch",
        theorems="whp.continual._view_batch.theorems",
        extra="torch",
    ),
    Method(
        "error-feedback",
        "Error Feedback Reloaded: From Quadratic to Arithmetic Mean of Smoothness Constants",
        "Richtárik, Gasanov, Burlachenko",
        "ICLR 2024",
        "2402.10774",
        "distributed",
        "Train across workers that send one per cent of their gradients, with the step size that theory licenses.",
        guarantee="the mean gradient along the run is below the paper's bound, and the proof's inequality held at every step",
        cost="O(d) a worker and step; 8k bytes are sent in the place of 4d",
        front_door="whp.distributed._error_feedback.front_door:error_feedback",
        theorems="whp.distributed._error_feedback.theorems",
    ),
    Method(
        "checkfree",
        "All is Not Lost: LLM Recovery without Checkpoints",
        "Blagoev, Ersoy, Chen",
        "2025",
        "2506.15461",
        "distributed",
        "Rebuild a killed pipeline stage from its neighbours and train on, without checkpoints.",
        guarantee="rebuilt weights are the formula's, no other stage changes by a bit, every iteration counts once, and a loss "
        "costs its jump",
        cost="nothing without failures; a recovery moves two stages' weights",
        front_door="whp.distributed:checkfree",
        extra="torch",
        theorems="whp.distributed._checkfree.theorems",
    ),
    Method(
        "in-memory-fault-tolerance",
        "Reliable and Efficient In-Memory Fault Tolerance of Large Language Model Pretraining",
        "Wang, Shi, He, Tang, Pan, Zheng, Wu, Zhou, He, Chu",
        "2023",
        "2310.12670",
        "distributed",
        "Keep an erasure-coded copy of the training state in other processes' memory, and restart from it in seconds.",
        guarantee="any m lost nodes of a group are rebuilt bit for bit, a failure costs few steps, and how likely a group survives",
        cost="one copy of the state a snapshot, hidden behind training; memory 2(1 + m/(n − m)) of a shard a node",
        front_door="whp.distributed:in_memory_fault_tolerance",
        extra="torch",
        theorems="whp.distributed._in_memory_fault_tolerance.theorems",
        commands="whp.distributed._in_memory_fault_tolerance.command:guard",
    ),
    Method(
        "finite-time-path-qft",
        "Causality and Renormalization in Finite-Time-Path Out-of-Equilibrium φ³ QFT",
        "Dadić, Klabučar",
        "Particles 2019",
        "2001.00124",
        "qft",
        "Compute propagators and one-loop self-energies at finite time, and check that they are causal and finite.",
        guarantee="causality by a dispersion relation with its remainder, vertices that conserve energy, thermal balance, and "
        "error bars that are compared with other representations",
        cost="closed forms for the vacuum, integrals of 400 nodes for a medium: 10⁴ energies in hundredths of a second, 10³ in "
        "tenths",
        front_door="whp.qft._finite_time_path.front_door:finite_time_path",
        theorems="whp.qft._finite_time_path.theorems",
    ),
)


def find(slug: str) -> Method:
    """The row of a slug.

    Raises
    ------
    ValueError
        If there is no such method; the message names the nearest.
    """
    for method in CATALOGUE:
        if method.slug == slug:
            return method
    from difflib import get_close_matches

    near = get_close_matches(slug, [m.slug for m in CATALOGUE], n=1)
    hint = f"did you mean {near[0]}?" if near else "`whp list` shows them all"
    raise ValueError(f"there is no method {slug!r}; {hint}")
