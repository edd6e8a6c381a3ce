"""What every method owes its users, whatever it does: one row a method, one small run that all tests share.

Invariances are declared where the theorem has them: a change of the input after which the named figures of the summary
must come out the same.
"""

import inspect
import io
import json
import math
import pickle
import string
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pytest

from whp.catalogue import CATALOGUE, find
from whp.certificate import Certificate
from whp.cli import main
from whp.io import save
from whp.result import Result

N, D = 400, 3
BUILT = [m.slug for m in CATALOGUE if m.status == "built"]
# Those that start processes take longer than a test may.
PROCESSES = ("checkfree", "in-memory-fault-tolerance")
RUN = [pytest.param(s, marks=pytest.mark.slow if s in PROCESSES else ()) for s in BUILT]


@dataclass(frozen=True)
class Example:
    """A small call of a front door.

    Parameters
    ----------
    make : callable
        The arguments, made anew at each call.
    same : dict
        Name of an invariance to a function that changes the arguments in place, and the figures that must not change.
    unrefused : set of str
        Scalar arguments of which a wrong type is not yet refused by name: a fault, listed until it is mended.
    """

    make: Callable[[], dict[str, Any]]
    same: dict[str, tuple[Callable[[dict[str, Any]], None], tuple[str, ...]]] = field(
        default_factory=dict
    )
    unrefused: frozenset[str] = frozenset()


def regression():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(N, D))
    return A, A @ np.arange(1.0, D + 1) + rng.normal(size=N)


def classification():
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(900, 3))
    p = np.exp(logits / 2)
    p /= p.sum(axis=1, keepdims=True)
    return logits, (p.cumsum(axis=1) > rng.random((900, 1))).argmax(axis=1)


def linf():
    A, b = regression()
    return {"A": A, "b": b, "rows": 100, "measure": True, "rng": 0}


def lp():
    A, b = regression()
    return {"A": A, "b": b, "p": 1.5, "rows": 100, "measure": True, "rng": 0}


def relax():
    from scipy.sparse import diags_array

    n = 12
    A = diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1]).tocsr()
    rng = np.random.default_rng(0)
    return {"A": A, "b": rng.normal(size=(30, n)), "shifts": rng.uniform(0.1, 1, 30), "rng": 0}


def communities():
    rng = np.random.default_rng(0)
    block = np.arange(120) // 30
    same, half = block[:, None] == block, (block[:, None] // 2) == (block // 2)
    p = np.where(same, 0.6, np.where(half, 0.2, 0.03))
    upper = np.triu(rng.random(p.shape) < p, 1)
    return {"graph": (upper | upper.T).astype(float), "n_communities": 4, "rng": 0}


def calibration():
    logits, y = classification()
    from whp.calibration import Fitting

    classes = ("0", "1", "2")
    fitting = Fitting(window=50)
    return {
        "logits": logits,
        "y": y,
        "classes": classes,
        "resamples": 19,
        "fitting": fitting,
        "rng": 0,
    }


def comp_sum():
    logits, y = classification()
    return {"logits": logits, "y": y, "noise": 0.1}


def surrogates():
    A, b = regression()
    return {"X": A, "y": b, "max_iter": 10, "rng": 0}


def mirror():
    A, b = regression()
    return {"X": A, "y": b, "rng": 0}


def groupwise():
    A, b = regression()
    table = pd.DataFrame(A, columns=list("uvw"))
    table["group"] = np.where(np.arange(N) % 3 == 0, "a", "b")
    return {"X": table, "y": b, "groups": "group", "rng": 0}


def recovering():
    rng = np.random.default_rng(0)
    rows, last = [], dict.fromkeys("abc", -1)
    for t in range(240):
        arm = "abc"[rng.integers(3)]
        rows.append((t, arm, 1 - math.exp(-(t - last[arm]) / 2) + 0.01 * rng.normal()))
        last[arm] = t
    table = pd.DataFrame(rows, columns=["time", "arm", "reward"])
    return {"table": table, "K": 1, "D": 4, "resamples": 10, "rng": 0}


def private():
    bits = np.random.default_rng(0).integers(0, 2, (200, 4))
    return {"stream": bits, "T": 200, "rho": 1.0, "insecure_seed": 0}


def clinic():
    from whp.datasets.networks import asia

    asked = {"target": "lung", "prior": "weight", "ask": "smoke,xray,dysp", "benign": "bronc"}
    return {"table": asia(), **asked, "eps": 0.01, "calibrate": "exact", "rng": 0}


def sparse():
    from whp.interpretability import Training

    acts = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    training = Training(steps=20, batch_size=64)
    return {"activations": acts, "n_neurons": 16, "training": training, "rng": 0}


def minimax():
    import networkx as nx

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 3000)
    m = (rng.random(3000) < np.where(y, 0.65, 0.35)).astype(int)
    x = (rng.random(3000) < np.where(m == 1, 0.5, 0.75 * y)).astype(int)
    table = pd.DataFrame({"y": y, "m": m, "x": x, "place": np.arange(3000) % 3})
    graph = nx.DiGraph([("y", "m"), ("y", "x"), ("m", "x")])
    options = {"target": "y", "mutable": "m", "env": "place", "test_env": ["2"]}
    return {"data": table, "graph": graph, **options, "rng": 0}


def renamed(arguments):
    import networkx as nx

    names = {"y": "the target", "m": "a", "x": "z"}
    arguments["data"] = arguments["data"].rename(columns=names)[["place", "z", "a", "the target"]]
    arguments["graph"] = nx.relabel_nodes(arguments["graph"], names)
    arguments |= {"target": "the target", "mutable": "a"}


def gap():
    curves = {
        1: [0.9, 0.88, 0.6, 0.7, 0.8, 0.85, 0.84, 0.86],
        2: [0.5, 0.5, 0.3, 0.6, 0.8, 0.9, 0.9, 0.9],
    }
    rows = [(i + 1, task, v) for task, curve in curves.items() for i, v in enumerate(curve)]
    table = pd.DataFrame(rows, columns=["iteration", "task", "accuracy"])
    return {"curves": table, "task_ends": [2, 8], "n": 100, "windows": (2,)}


def views():
    rng = np.random.default_rng(0)
    y = np.arange(160) % 4
    X = (rng.random((160, 4, 4)) + y[:, None, None]) / 4
    options = {"epochs": 4, "memory": 20, "compare": False, "rng": 0}
    return {"X": X.astype(np.float32), "y": y, "task": y // 2, **options}


def feedback():
    A, b = regression()
    y = np.where(b > 0, 1.0, -1.0)
    return {"X": A, "y": y, "n_clients": 4, "steps": 30, "rng": 0}


def rewards():
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(4), (4, 2))
    first = rng.normal(size=(4, 2))
    second = first + rng.normal(size=(4, 2))
    return {"reward1": first, "reward2": second, "transitions": P, "discount": 0.9}


def episodes():
    losses = np.random.default_rng(0).random((200, 1, 2, 3)) / 2
    return {"losses": losses, "replays": 12, "loss_range": (0, 1), "rng": 0}


def selection():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    table = pd.DataFrame(rng.normal(size=(90, 3)) + y[:, None], columns=["a", "b", "c"])
    return {"data": table.assign(label=y), "context": "label", "queries": 1, "rng": 0}


def plasma():
    w = np.linspace(1, 30, 60)
    table = pd.DataFrame({"omega": w, "f": 1 / np.expm1(w)})
    options = {"energies": np.linspace(0.3, 4, 45), "times": [1.0, 3.0], "source": 1.0}
    return {"distribution": table, **options, "rng": 0}


def bare(arguments):
    arguments["distribution"] = np.asfortranarray(arguments["distribution"].to_numpy())


def in_mega(arguments):
    column("distribution", "omega", 1e6)(arguments)
    for name, factor in {"energies": 1e6, "times": 1e-6, "source": 1e-6}.items():
        arguments[name] = np.asarray(arguments[name])[()] * factor
    arguments["mass"] = 1e6


def hospitals():
    rng = np.random.default_rng(0)
    env = np.repeat(np.arange(60), 30)
    X = rng.standard_normal((1800, 2))
    y = X[:, 0] + rng.standard_normal(1800)
    X[:, 1] += (1 + rng.standard_normal(60))[env] * y
    return {"X": X, "y": y, "env": env, "test_env": 0.5, "rng": 0}


TEXT = (string.ascii_lowercase + " ") * 200


def stages():
    small = {"stages": 4, "dim": 8, "heads": 2, "context": 8, "batch": 4, "steps": 6}
    return {"text": TEXT, **small, "fail": "1@3", "evaluate_every": 3, "rng": 0}


def memory():
    small = {"ranks": 2, "steps": 6, "kills": 1, "node_kills": 0, "dim": 16, "layers": 1}
    return {"text": TEXT, **small, "context": 8, "batch": 4, "reference": False, "rng": 0}


def scale(name, factor):
    def change(arguments):
        arguments[name] = arguments[name] * factor

    return change


def fortran(name):
    def change(arguments):
        arguments[name] = np.asfortranarray(arguments[name])

    return change


def strided(name):
    def change(arguments):
        arguments[name] = np.repeat(arguments[name], 2, axis=0)[::2]

    return change


def reorder(*names):
    def change(arguments):
        order = np.random.default_rng(5).permutation(len(arguments[names[0]]))
        for name in names:
            value = arguments[name]
            arguments[name] = value.iloc[order] if hasattr(value, "iloc") else value[order]

    return change


def column(name, which, factor, plus=0):
    def change(arguments):
        arguments[name] = arguments[name].assign(**{which: arguments[name][which] * factor + plus})

    return change


def rename(name, classes):
    def change(arguments):
        arguments[name] = np.array(["x", "y", "z"])[arguments[name]]
        arguments[classes] = ("x", "y", "z")

    return change


EXAMPLES = {
    "linf-regression": Example(
        linf,
        {
            "layout": (fortran("A"), ("residual_norm",)),
            "strides": (strided("A"), ("residual_norm",)),
            "units of A": (scale("A", 1e-150), ("residual_norm", "widest_bar_in_units_of_b")),
        },
    ),
    "lp-sensitivity-sampling": Example(
        lp,
        {
            "units of b": (scale("b", 1e6), ("rows_kept", "cost_above_optimum_at_most")),
            "tiny units of b": (scale("b", 1e-150), ("rows_kept", "cost_above_optimum_at_most")),
            "units of A": (scale("A", 1e-6), ("rows_kept", "total_score", "cost_on_all_rows")),
            "layout": (fortran("A"), ("rows_kept", "cost_on_all_rows")),
            "strides": (strided("A"), ("rows_kept", "cost_on_all_rows")),
        },
    ),
    "learning-to-relax": Example(
        relax,
        {
            "layout": (fortran("b"), ("iterations", "best_fixed_omega")),
            "tiny units of b": (scale("b", 2.0**-560), ("iterations", "best_fixed_omega")),
        },
    ),
    "hierarchical-communities": Example(
        communities, {"layout": (fortran("graph"), ("communities", "supported_communities"))}
    ),
    "h-calibration": Example(
        calibration,
        {
            "names of classes": (rename("y", "classes"), ("inverse_temperature", "nll")),
            "layout": (fortran("logits"), ("inverse_temperature", "nll")),
        },
    ),
    "comp-sum-losses": Example(
        comp_sum,
        {
            "order of rows": (reorder("logits", "y"), ("excess_risk", "bound_of_excess_error")),
            "layout": (fortran("logits"), ("excess_risk",)),
        },
    ),
    "target-surrogates": Example(
        surrogates,
        {
            "layout": (fortran("X"), ("mean_loss",)),
            "units of X": (scale("X", 1e-120), ("mean_loss", "oracle_calls")),
        },
    ),
    "optimistic-mirror-descent": Example(mirror, {"layout": (fortran("X"), ("regret",))}),
    "groupwise-regret": Example(
        groupwise,
        {
            "unit of the target": (scale("y", 1e3), ("squared_error", "largest_share_of_a_bound")),
            "layout": (strided("y"), ("squared_error",)),
        },
    ),
    "recovering-bandits": Example(
        recovering,
        {
            "order of rows": (reorder("table"), ("reward_a_period", "no_policy_above")),
            "unit of the reward": (column("table", "reward", 1e6), ("share_of_that",)),
            "first period": (column("table", "time", 1, 100), ("reward_a_period",)),
        },
    ),
    "adversarial-linear-mdp": Example(
        episodes, {"layout": (fortran("losses"), ("loss_an_episode", "regret"))}
    ),
    "latent-mdp": Example(
        selection,
        {
            "unit of a feature": (column("data", "a", 2.0**20), ("value_of_the_fitted_model",)),
            "numbers of the labels": (
                column("data", "label", 1, 1),
                ("value_of_the_fitted_model", "right_of_rows_not_fitted"),
            ),
        },
    ),
    "starc": Example(
        rewards,
        {
            "units of reward 1": (scale("reward1", 1e-150), ("distance", "range_distance")),
            "units of reward 2": (scale("reward2", 1e6), ("distance", "as_a_share_of_all_returns")),
            "layout": (fortran("transitions"), ("distance", "range_distance")),
            "strides": (strided("reward1"), ("distance",)),
        },
    ),
    "information-censorship": Example(
        clinic,
        {
            "order of worlds": (reorder("table"), ("leakage", "answers_with_probability")),
            "unit of the weights": (
                column("table", "weight", 1e6),
                ("leakage", "without_a_censor"),
            ),
        },
    ),
    "dp-continual-release": Example(
        private, {"layout": (fortran("stream"), ("largest_count", "error_bound"))}
    ),
    "sae-gba": Example(
        sparse,
        {"layout": (fortran("activations"), ("active_neurons_a_row", "unexplained_variance"))},
    ),
    "causal-minimax": Example(
        minimax,
        {
            "names and order of columns": (renamed, ("worst_risk", "at_most", "risk_in_training")),
            "an environment's type": (
                lambda arguments: arguments.update(
                    data=arguments["data"].assign(place=arguments["data"]["place"].astype(float))
                ),
                ("worst_risk", "at_most"),
            ),
        },
    ),
    "pac-invariance": Example(
        hospitals,
        {
            "order of rows": (reorder("X", "y", "env"), ("epsilon", "held_out_above_epsilon")),
            "units of X": (scale("X", 1e-120), ("epsilon", "held_out_above_epsilon", "columns")),
            "units of the target": (scale("y", 1e9), ("epsilon", "held_out_above_epsilon")),
            "layout": (fortran("X"), ("epsilon",)),
        },
    ),
    "stability-gap": Example(gap),
    "view-batch": Example(views),
    "error-feedback": Example(
        feedback,
        {"layout": (fortran("X"), ("value", "L")), "units of X": (scale("X", 1e9), ("value", "L"))},
    ),
    "checkfree": Example(stages),
    "in-memory-fault-tolerance": Example(memory),
    "finite-time-path-qft": Example(
        plasma,
        {
            "rows as an array": (bare, ("largest_decay_rate", "error_of_the_table")),
            "unit of energy": (in_mega, ("one_loop_parameter", "error_of_the_table")),
        },
    ),
}


def run(slug, **other):
    return find(slug).load()(**EXAMPLES[slug].make() | other)


@cache
def result(slug) -> Result:
    return run(slug)


def figures(made: Result):
    """The summary without times of a clock."""
    return {k: v for k, v in made.summary().items() if "seconds" not in k and not k.endswith("_ms")}


def test_every_built_method_has_a_row():
    assert list(EXAMPLES) == BUILT


@pytest.mark.parametrize("slug", RUN)
def test_the_result_prints_and_sums_itself_up(slug):
    from rich.console import Console

    made = result(slug)
    summary = made.summary()
    assert summary
    assert all(isinstance(v, bool | int | float | str | None) for v in summary.values())
    assert not any(isinstance(v, np.generic) for v in summary.values())
    assert json.loads(json.dumps(summary)).keys() == summary.keys()
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(made, *made.certificates)
    shown = console.export_text()
    assert all(name.replace("_", " ") in shown for name in summary)
    assert all(str(c.verdict) in shown.lower() for c in made.certificates)


@pytest.mark.parametrize("slug", RUN)
def test_the_result_draws_on_the_axes_that_it_is_given(slug):
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    assert result(slug).plot(axes) is axes
    assert axes.has_data() or axes.texts or axes.tables
    figure.canvas.draw()


@pytest.mark.parametrize("slug", RUN)
def test_what_is_saved_can_be_read_back(slug, tmp_path):
    artifacts = result(slug).artifacts()
    written = save(tmp_path / "out", artifacts)
    assert sorted(p.name for p in written) == sorted(artifacts)
    for path in written:
        content = artifacts[path.name]
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert set(arrays) == set(content)
                for name in arrays:
                    np.testing.assert_array_equal(arrays[name], np.asarray(content[name]))
        elif path.suffix == ".npy":
            np.testing.assert_array_equal(np.load(path, allow_pickle=False), content)
        elif path.suffix == ".csv":
            read = pd.read_csv(path)
            if isinstance(content, pd.DataFrame):
                assert len(read) == len(content)
                assert set(map(str, content.columns)) <= set(read.columns)
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            assert load_file(path)
        else:
            assert path.read_text(encoding="utf-8").strip()


@pytest.mark.parametrize("slug", RUN)
def test_certificates_survive_json_and_pickle(slug):
    certificates = result(slug).certificates
    assert certificates
    names = [c.name for c in certificates]
    assert len(set(names)) == len(names)
    for c in certificates:
        for back in (Certificate.from_json(c.to_json()), pickle.loads(pickle.dumps(c))):
            assert back.to_dict() == c.to_dict()
            assert back.verdict is c.verdict


@pytest.mark.parametrize("slug", [s for s in RUN if "in-memory" not in str(s)])
def test_the_same_seed_gives_the_same_answer(slug):
    assert figures(run(slug)) == figures(result(slug))


@pytest.mark.parametrize(
    ("slug", "name"), [(slug, name) for slug, e in EXAMPLES.items() for name in e.same]
)
def test_what_must_not_matter_does_not(slug, name):
    change, keys = EXAMPLES[slug].same[name]
    arguments = EXAMPLES[slug].make()
    change(arguments)
    changed, plain = find(slug).load()(**arguments).summary(), result(slug).summary()
    for key in keys:
        if isinstance(plain[key], float):
            assert changed[key] == pytest.approx(plain[key], rel=1e-6), key
        else:
            assert changed[key] == plain[key], key


def parts(annotation):
    """The members of a union, without None."""
    union = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [p for p in union if p is not NoneType]


def scalars(slug):
    """Arguments of the front door that are numbers, flags or one of a few words, with something that they are not."""
    hints = get_type_hints(find(slug).load(), include_extras=True)
    wrong = {}
    for name, annotation in hints.items():
        members = parts(annotation)
        if (
            name != "return"
            and members
            and all(m in (int, float, bool) or get_origin(m) is Literal for m in members)
        ):
            wrong[name] = "no such choice"
    return wrong


def refusals(slug):
    """How the front door answers each wrong scalar."""
    answers = {}
    for name, value in scalars(slug).items():
        try:
            run(slug, **{name: value})
        except (TypeError, ValueError) as error:
            answers[name] = str(error)
        else:
            answers[name] = "accepted"
    return answers


@pytest.mark.parametrize("slug", RUN)
def test_a_wrong_scalar_is_refused_by_name(slug):
    # In a process without the type checker of the tests: users have none.
    code = (
        "import json, warnings; warnings.simplefilter('ignore'); import test_every_method as t\n"
        f"if __name__ == '__main__': print('\\n' + json.dumps(t.refusals({slug!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers.keys() == scalars(slug).keys()
    unrefused = {k for k, v in answers.items() if k not in v or v == "accepted"}
    assert unrefused == EXAMPLES[slug].unrefused, answers


@pytest.mark.parametrize("slug", BUILT)
def test_defaults_are_of_the_type_that_the_signature_says(slug):
    front_door = find(slug).load()
    hints = get_type_hints(front_door, include_extras=True)
    for name, parameter in inspect.signature(front_door).parameters.items():
        choices = [c for m in parts(hints[name]) if get_origin(m) is Literal for c in get_args(m)]
        if isinstance(parameter.default, str) and choices and str not in parts(hints[name]):
            assert parameter.default in choices, name


@pytest.mark.parametrize("slug", BUILT)
def test_help_and_page_are_there(slug, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", slug, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "--out" in shown
    assert "--json" in shown
    front_door = find(slug).load()
    if "rng" in inspect.signature(front_door).parameters:
        assert "--seed" in shown
    page = Path(__file__).parents[1] / "docs" / "methods" / f"{slug}.md"
    assert slug in page.read_text(encoding="utf-8")
