import copy
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from continual_streams import network, stream
from pretended import words_of
from torch import nn

from whp.certificate import Verdict
from whp.continual import ContinualEvaluator, continual_fit, stability_gap


@pytest.mark.parametrize("strategy", ["er", "ewc", "lwf"])
def test_9_the_recorder_changes_nothing(strategy):
    train, test = stream()
    plain, watched = network(norm=True), network(norm=True)
    continual_fit(plain, train, strategy=strategy, random_state=3)
    before = torch.random.get_rng_state()
    evaluator = ContinualEvaluator(test, random_state=0)
    continual_fit(watched, train, strategy=strategy, random_state=3, evaluator=evaluator)
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    first = evaluator.result().certificates[0]
    assert {a.name: str(a.status) for a in first.conditions} == {
        "not-trained-on": "not refuted",
        "random-subset": "by construction",
        "nothing-chosen": "unchecked",
        "every-update": "met",
        "no-trace": "met",
        "independent-rows": "unchecked",
    }


def test_a_loop_of_ones_own_needs_no_change():
    train, test = stream()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    evaluator = ContinualEvaluator(test, subset=20, random_state=0)
    for k, (X, y) in enumerate(train):
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(X, y), batch_size=10, shuffle=True
        )
        with evaluator.task(k, model, optimizer):
            for x, labels in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), labels).backward()
                optimizer.step()
    result = evaluator.result(target="set")
    assert result.times.tolist() == list(range(1, 19))
    names = [c.name for c in result.certificates]
    assert "band-audit" in names
    assert result.certificates[names.index("band-audit")].verdict in (
        Verdict.HOLDS,
        Verdict.UNMEASURED,
    )
    optimizer.step()  # the hook is gone
    assert evaluator.updates == 18


def test_trained_rows_are_found_among_evaluation_rows():
    train, test = stream()
    test[0] = (torch.cat([test[0][0], train[0][0][:3]]), torch.cat([test[0][1], train[0][1][:3]]))
    evaluator = ContinualEvaluator(test, random_state=0)
    continual_fit(network(), train, strategy="finetune", evaluator=evaluator, random_state=0)
    assert evaluator.overlap == 3
    assert evaluator.result().certificates[0].verdict == Verdict.VOID


def test_a_prediction_that_uses_the_generator_is_noticed():
    train, test = stream()

    def noisy(model, X, task):
        return (model(X) + 0.01 * torch.randn(len(X), 6)).argmax(dim=1)

    evaluator = ContinualEvaluator(test, predict=noisy, random_state=0)
    continual_fit(network(), train, strategy="finetune", evaluator=evaluator, random_state=0)
    assert "generator of torch" in str(evaluator.changed)
    assert evaluator.result().certificates[0].verdict == Verdict.VOID


def test_9_save_and_resume_in_the_middle_of_a_task(tmp_path):
    _, test = stream()
    model = network()
    whole = ContinualEvaluator(test, subset=15, random_state=0)
    states = []
    for k in range(2):
        whole.before_task(k)
        for step in range(4):
            with torch.no_grad():
                for p in model.parameters():
                    p += 0.05 * torch.randn(
                        p.shape, generator=torch.Generator().manual_seed(10 * k + step)
                    )
            whole.after_step(model)
            states.append(copy.deepcopy(model))
            if (k, step) == (1, 1):
                torch.save(whole.state_dict(), tmp_path / "evaluator.pt")
        whole.after_task(k, model)
    again = ContinualEvaluator(test, subset=15, random_state=7)
    again.load_state_dict(torch.load(tmp_path / "evaluator.pt", weights_only=True))
    for saved in states[6:]:
        again.after_step(saved)
    again.after_task(1, states[-1])
    np.testing.assert_array_equal(whole.result().accuracy, again.result().accuracy)
    with pytest.raises(ValueError, match="every"):
        ContinualEvaluator(test, every=2).load_state_dict(whole.state_dict())
    with pytest.raises(ValueError, match="other evaluation sets"):
        ContinualEvaluator(test[:2]).load_state_dict(whole.state_dict())


def test_recorder_is_used_in_order():
    _, test = stream()
    evaluator = ContinualEvaluator(test)
    with pytest.raises(RuntimeError, match="before_task"):
        evaluator.after_step(network())
    with pytest.raises(ValueError, match="k must be 0"):
        evaluator.before_task(1)
    evaluator.before_task(0)
    with pytest.raises(RuntimeError, match="no update"):
        evaluator.after_task(0, network())
    with pytest.raises(RuntimeError, match="have ended"):
        evaluator.result()


def answers(made):
    return {a.name: str(a.status) for a in made.certificates[0].conditions}


def trained(test, evaluator, between=None, by_hand=False):
    """A loop of one's own over three tasks, six updates each."""
    train, _ = stream()
    model = network(norm=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for k, (X, y) in enumerate(train):
        with evaluator.task(k, model, None if by_hand else optimizer):
            for x, labels in zip(X.split(10), y.split(10), strict=True):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), labels).backward()
                optimizer.step()
                if by_hand:
                    evaluator.after_step(model, x)
                if between is not None:
                    between(model)
    return model


def test_updates_that_no_evaluation_followed_are_counted():
    _, test = stream()

    def average(model):
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(0.999)

    def behind(model):
        for p in model.parameters():
            p.data.mul_(0.999)

    for change in (average, behind):
        evaluator = ContinualEvaluator(test, random_state=0)
        trained(test, evaluator, change)
        assert answers(evaluator.result())["every-update"] == "violated"
    evaluator = ContinualEvaluator(test, random_state=0)
    trained(test, evaluator)
    assert answers(evaluator.result())["every-update"] == "met"
    evaluator = ContinualEvaluator(test, random_state=0)
    trained(test, evaluator, by_hand=True)
    made = answers(evaluator.result())
    assert made["every-update"] == "unchecked"
    assert made["not-trained-on"] == "not refuted"


@pytest.mark.parametrize("first", [0, 10])
@pytest.mark.parametrize("how", ["mode", "buffers", "parameters", "generator"])
def test_an_evaluation_that_leaves_a_trace_is_noticed_whenever(first, how):
    _, test = stream()
    calls = iter(range(1000))

    def predict(model, X, task):
        if next(calls) >= first:
            if how == "mode":
                model.train()
            elif how == "buffers":
                model[1].running_mean += 1
            elif how == "parameters":
                with torch.no_grad():
                    model[0].bias += 0.0
            else:
                torch.rand(1)
        return model(X).argmax(dim=1)

    evaluator = ContinualEvaluator(test, predict=predict, random_state=0)
    trained(test, evaluator)
    assert answers(evaluator.result())["no-trace"] == "violated"
    assert evaluator.result().certificates[0].verdict is Verdict.VOID


def test_rows_are_counted_once_however_often_they_are_shown():
    train, test = stream()
    evaluator = ContinualEvaluator(test, random_state=0)
    model = network()
    evaluator.before_task(0)
    for _ in range(10):
        evaluator.after_step(model, torch.cat([test[0][0][:5], train[0][0][:5]]))
    evaluator.after_task(0, model)
    assert evaluator.overlap == 5


def test_rows_that_were_not_shown_are_said():
    train, test = stream()
    evaluator = ContinualEvaluator(test, random_state=0)
    model = network()
    evaluator.before_task(0)
    evaluator.after_step(model, train[0][0])
    evaluator.after_step(model)
    evaluator.after_task(0, model)
    made = evaluator.result().certificates[0]
    assert answers(evaluator.result())["not-trained-on"] == "unchecked"
    assert "1 of 2 updates" in str(made.conditions)


def test_minus_zero_is_zero():
    _, test = stream()
    test[0][0][0] = 0.0
    evaluator = ContinualEvaluator(test, random_state=0)
    evaluator.before_task(0)
    evaluator.after_step(network(), -torch.zeros(1, 6))
    evaluator.after_task(0, network())
    assert evaluator.overlap == 1


def test_nobody_gets_round_the_drawn_subset(tmp_path):
    """Only what this process drew, and nobody touched, is random by construction."""
    _, test = stream()

    def status(evaluator):
        return answers(evaluator.result())["random-subset"]

    honest = ContinualEvaluator(test, subset=20, random_state=0)
    trained(test, honest)
    assert status(honest) == "by construction"

    other = ContinualEvaluator(test, subset=20, random_state=1)
    other.load_state_dict(honest.state_dict())
    assert status(other) == "unchecked"

    class Own(ContinualEvaluator):
        pass

    own = Own(test, subset=20, random_state=0)
    trained(test, own)
    assert status(own) == "unchecked"

    chosen = ContinualEvaluator(test, subset=[list(range(20))] * 3, random_state=0)
    trained(test, chosen)
    assert status(chosen) == "unchecked"

    replaced = ContinualEvaluator(test, subset=20, random_state=0)
    replaced.drawn = tuple(np.arange(20) for _ in test)
    trained(test, replaced)
    assert status(replaced) == "unchecked"

    changed = ContinualEvaluator(test, subset=20, random_state=0)
    trained(test, changed)
    changed.own[0][0].add_(1)
    assert status(changed) == "violated"

    class Boasting(ContinualEvaluator):
        def _answers(self):
            return honest._answers()

    boasting = Boasting(test, subset=20, random_state=0)
    trained(test, boasting)
    assert status(boasting) == "unchecked"

    patched = ContinualEvaluator(test, subset=[list(range(20))] * 3, random_state=0)
    trained(test, patched)
    patched._answers = honest._answers
    assert status(patched) == "unchecked"

    made = stability_gap(replace(honest.recording(), full=()))
    assert answers(made)["random-subset"] == "unchecked"
    assert answers(made)["every-update"] == "unchecked"
    copied = stability_gap(copy.deepcopy(honest.recording()))
    assert answers(copied)["random-subset"] == "unchecked"


def test_what_is_loaded_was_not_seen_but_what_was_broken_stays_broken():
    train, test = stream()
    evaluator = ContinualEvaluator(test, random_state=0)
    continual_fit(network(), train, strategy="finetune", evaluator=evaluator, random_state=0)
    again = ContinualEvaluator(test, random_state=0)
    again.load_state_dict(evaluator.state_dict())
    assert set(answers(again.result()).values()) == {"unchecked"}
    test[0] = (torch.cat([test[0][0], train[0][0][:3]]), torch.cat([test[0][1], train[0][1][:3]]))
    evaluator = ContinualEvaluator(test, random_state=0)
    continual_fit(network(), train, strategy="finetune", evaluator=evaluator, random_state=0)
    again = ContinualEvaluator(test, random_state=0)
    again.load_state_dict(evaluator.state_dict())
    assert answers(again.result())["not-trained-on"] == "violated"


def test_one_row_of_each_group_is_kept():
    _, test = stream()
    groups = [np.arange(len(y)) // 4 for _, y in test]
    evaluator = ContinualEvaluator(test, groups=groups, random_state=0)
    trained(test, evaluator)
    assert evaluator.recording().n == (10, 10, 10)
    with pytest.raises(ValueError, match="groups"):
        ContinualEvaluator(test, groups=groups[:2])


def test_copies_among_evaluation_rows_are_found():
    _, test = stream(d=9)
    twice = [(torch.cat([X, X]), torch.cat([y, y])) for X, y in test]
    evaluator = ContinualEvaluator(twice, random_state=0)
    model = network(d=9)
    evaluator.before_task(0)
    evaluator.after_step(model)
    evaluator.after_task(0, model)
    assert answers(evaluator.result())["independent-rows"] == "violated"
    assert "independent-rows" not in answers(evaluator.result(target="set"))


@pytest.mark.parametrize(
    "subset", [[[0]], [[0, 0]] * 3, [[40]] * 3, [[0.5]] * 3, "all", [[]] * 3, 0]
)
def test_bad_subsets_are_named(subset):
    with pytest.raises((TypeError, ValueError), match="subset"):
        ContinualEvaluator(stream()[1], subset=subset)


def test_an_audit_finds_chosen_rows_out():
    """The easiest rows of each task, chosen by the caller: the audit fails and the rest is void."""
    _, test = stream()
    model = network()
    right = [(model(X).argmax(1) == y).numpy() for X, y in test]
    subset = [np.argsort(~r, kind="stable")[:10].tolist() for r in right]
    big = [(X.repeat(20, 1), y.repeat(20)) for X, y in test]
    evaluator = ContinualEvaluator(big, subset=subset, random_state=0)
    for k in range(3):
        evaluator.before_task(k)
        evaluator.after_step(model)
        evaluator.after_task(k, model)
    made = {c.name: c for c in evaluator.result(target="set", delta=0.5).certificates}
    if made["band-audit"].verdict is Verdict.FAILS:
        assert made["hidden-drop"].verdict is Verdict.VOID


def test_an_error_in_a_loop_leaves_no_hook_behind():
    _, test = stream()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    evaluator = ContinualEvaluator(test, random_state=0)
    with pytest.raises(KeyError), evaluator.task(0, model, optimizer):
        raise KeyError
    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_step_pre_hooks


# Devices


def test_evaluation_happens_where_the_model_lives():
    assert words_of(Path(__file__).with_name("on_a_device.py")) == ["recorder", "finetune", "si"]


@pytest.mark.gpu
@pytest.mark.parametrize("strategy", ["finetune", "er", "gem", "lwf", "ewc", "si"])
def test_training_and_evaluation_on_a_device(strategy):
    if not torch.cuda.is_available():
        pytest.skip("no device")
    train, test = stream()
    model = network(norm=True).cuda()
    evaluator = ContinualEvaluator(test, random_state=0, scenario="task")
    continual_fit(
        model, train, strategy=strategy, scenario="task", evaluator=evaluator, random_state=0
    )
    made = evaluator.result()
    assert made.accuracy[-1, -1] > 0.3
    assert "violated" not in answers(made).values()


def loop(model, optimizer, X, y):
    """Anybody's loop."""
    for x, labels in zip(X.split(20), y.split(20), strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()


def looped(evaluator, train, model, at_the_end=None, shown=None):
    """Two tasks; `at_the_end` is done to the model when the last one is over."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for k in range(2):
        with evaluator.task(k, model, optimizer):
            evaluator.watch(train[k][0] if shown is None else shown(train[k][0]))
            loop(model, optimizer, *train[k])
            if k == 1 and at_the_end is not None:
                at_the_end(model)
    return answers(evaluator.result())


def best_put_back(model):
    model.load_state_dict({k: 0.9 * v for k, v in model.state_dict().items()})


def behind_the_version(model):
    for p in model.parameters():
        p.data.copy_(p.data.flip(0))


def statistics_made_anew(model):
    with torch.no_grad():
        model.train()(100 * torch.randn(30, 6))


@pytest.mark.parametrize(
    "change", [best_put_back, behind_the_version, statistics_made_anew, lambda _: None]
)
def test_a_model_that_is_changed_when_the_last_task_is_over_is_noticed(change):
    train, test = stream()
    made = looped(ContinualEvaluator(test[:2], random_state=0), train, network(norm=True), change)
    wanted = "met" if change.__name__ == "<lambda>" else "violated"
    assert made["every-update"] == wanted


def test_what_went_unseen_is_not_in_the_intervals():
    train, test = stream()
    evaluator = ContinualEvaluator(test[:2], random_state=0)
    looped(evaluator, train, network(), best_put_back)
    made = evaluator.result()
    assert not made.seen_all
    assert made.min_acc.low == 0
    assert "worst_case_accuracy_seen" in made.summary()


def test_a_step_that_moves_no_sum_is_a_step():
    """The gradient of the logits' biases adds up to 0."""
    model = network()
    evaluator = ContinualEvaluator(stream()[1][:1], random_state=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with evaluator.task(0, model, optimizer):
        for _ in range(3):
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
            optimizer.step()
            model[-1].bias.data += torch.tensor([0.5, -0.5, 0.25, -0.25, 0.0, 0.0])
    assert answers(evaluator.result())["every-update"] == "violated"


def test_the_optimizer_of_another_model_is_refused():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    evaluator = ContinualEvaluator(stream()[1], random_state=0)
    with (
        pytest.raises(ValueError, match="no parameter of model"),
        evaluator.task(0, copy.deepcopy(model), optimizer),
    ):
        pass


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        (nn.Linear(6, 1), {"scenario": "domain"}, "pass predict"),
        (nn.Unflatten(1, (3, 2)), {}, "pass predict"),
        (network(), {"predict": lambda m, X, _: m(X).argmax(1, keepdim=True)}, "a label a row"),
        (network(), {"predict": lambda m, X, _: m(X)}, "a label a row"),
    ],
)
def test_what_is_no_label_is_refused(model, options, named):
    evaluator = ContinualEvaluator(stream()[1], random_state=0, **options)
    evaluator.before_task(0)
    with pytest.raises(ValueError, match=named):
        evaluator.after_step(model)


def test_one_class_among_its_own_is_refused():
    X, y = stream()[1][0]
    with pytest.raises(ValueError, match="one class"):
        ContinualEvaluator([(X[y == 0], y[y == 0])], scenario="task")


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_copies_are_found_in_any_number_type(kind):
    """Evaluation rows in double precision, the same rows cast on the way to training."""
    train, test = stream()
    wide = [(X.double() + torch.rand(X.shape).double() * 1e-9, y) for X, y in test[:2]]
    evaluator = ContinualEvaluator(wide, predict=lambda m, X, _: m(X.float()).argmax(1))
    mixed = {id(train[k][0]): wide[k][0] for k in range(2)}
    made = looped(evaluator, train, network(), shown=lambda X: mixed[id(X)].to(kind))
    assert made["not-trained-on"] == "violated"
    assert evaluator.overlap == 80


@pytest.mark.parametrize(("leaked", "status"), [(0, "unchecked"), (300, "violated")])
def test_rows_of_yes_and_no_coincide_by_chance(leaked, status):
    """Independent draws of ten bits meet in training and evaluation; all rows leaked are no chance."""
    found = []
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        bits = [torch.randint(0, 2, (n, 10), generator=g).float() for n in (300, 300, 100, 100)]
        test = [(X, X[:, 0].long()) for X in bits[:2]]
        rows = [torch.cat([a, b[:leaked]]) for a, b in zip(bits[2:], bits[:2], strict=True)]
        train = [(X, X[:, 0].long()) for X in rows]
        evaluator = ContinualEvaluator(test, scenario="domain", random_state=0)
        made = looped(evaluator, train, network(10, 2))
        found.append((made["not-trained-on"], made["independent-rows"]))
    assert found == [(status, "unchecked")] * 20


# Restarts


def halfway(every=1, n=None, **options):
    """A recording that was saved when the second task had just begun, and what it needs to go on."""
    train, test = stream()
    test = [(X[:n], y[:n]) for X, y in test[:2]]
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    evaluator = ContinualEvaluator(test, every=every, **options)
    with evaluator.task(0, model, optimizer):
        loop(model, optimizer, *train[0])
    evaluator.before_task(1)
    return evaluator, train, test, model, optimizer


@pytest.mark.parametrize(("every", "n"), [(1, None), (1, 6), (2, None)])
def test_a_recording_saved_at_the_start_of_a_task_goes_on(every, n):
    saved, train, test, model, optimizer = halfway(every, n)
    again = ContinualEvaluator(test, every=every)
    again.load_state_dict(saved.state_dict())
    with again.task(1, model, optimizer):
        loop(model, optimizer, *train[1])
    assert again.result().task_ends.tolist() == [3, 6]
    with pytest.raises(ValueError, match="k must be 2"), again.task(1, model, optimizer):
        pass


def test_a_task_that_was_begun_is_not_begun_again_by_hand():
    saved, _, test, _, _ = halfway()
    again = ContinualEvaluator(test)
    again.load_state_dict(saved.state_dict())
    with pytest.raises(ValueError, match="before the recording was saved"):
        again.before_task(1)


def test_rows_that_stand_for_groups_are_the_same_after_a_restart():
    groups = [np.arange(40) // 4] * 2
    saved, train, test, model, optimizer = halfway(groups=groups)
    again = ContinualEvaluator(test, groups=groups)
    again.load_state_dict(saved.state_dict())
    for (a, _), (b, _) in zip(saved.own, again.own, strict=True):
        assert torch.equal(a, b)
    with again.task(1, model, optimizer):
        loop(model, optimizer, *train[1])
    assert again.result().task_ends.tolist() == [3, 6]
    with pytest.raises(ValueError, match="with groups"):
        ContinualEvaluator(test).load_state_dict(saved.state_dict())


def test_other_rows_of_the_same_number_are_refused():
    saved, _, test, _, _ = halfway()
    other = [(X.flip(0), y.flip(0)) for X, y in test]
    with pytest.raises(ValueError, match="other evaluation sets"):
        ContinualEvaluator(other).load_state_dict(saved.state_dict())


def test_a_model_that_grows_between_tasks_is_evaluated_as_it_grows():
    """Outputs for new classes: an update that the recorder is told of, and no unseen one."""
    train, test = stream()
    model = network(classes=2)
    evaluator = ContinualEvaluator(test[:2], random_state=0)
    for k in range(2):
        if k:
            wider = nn.Linear(16, 4)
            with torch.no_grad():
                wider.weight[:2], wider.bias[:2] = model[-1].weight, model[-1].bias
            model[-1] = wider
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        with evaluator.task(k, model, optimizer):
            loop(model, optimizer, *train[k])
    made = evaluator.result()
    assert answers(made)["every-update"] == "unchecked"
    assert made.task_ends.tolist() == [3, 7]
    with torch.no_grad():  # without an evaluation, something was written between the tasks
        model[-1].weight += 1
    evaluator = ContinualEvaluator(test[:2], random_state=0)
    made = looped(evaluator, train, network(), lambda m: m[-1].weight.data.add_(1))
    assert made["every-update"] == "violated"


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_copy_goes_on_by_itself(how):
    train, test = stream()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    evaluator = ContinualEvaluator(test[:2], random_state=0)
    with evaluator.task(0, model, optimizer):
        loop(model, optimizer, *train[0])
    other, twin = how(evaluator), copy.deepcopy(model)
    second = torch.optim.SGD(twin.parameters(), lr=5.0)
    with other.task(1, twin, second):
        loop(twin, second, *train[1])
    with evaluator.task(1, model, optimizer):
        loop(model, optimizer, *train[1])
    a, b = evaluator.result(), other.result()
    assert a.accuracy.shape == b.accuracy.shape == (2, 6)
    assert not np.array_equal(a.accuracy, b.accuracy, equal_nan=True)
    assert answers(a)["every-update"] == "met"
    assert set(answers(b).values()) == {"unchecked"}


# What breaks off


def breaking(at, error=KeyboardInterrupt, **options):
    """A recorder whose prediction raises at one call, and what it needs."""
    train, test = stream()
    calls = iter(range(10**9))

    def predict(model, X, task):
        if next(calls) == at:
            raise error
        return model(X).argmax(1)

    return ContinualEvaluator(test[:2], predict=predict, random_state=0, **options), train[:2]


@pytest.mark.parametrize("at", [1, 4, 5, 6, 8])
@pytest.mark.parametrize("saved", [False, True])
def test_a_task_that_was_cut_off_goes_on(at, saved):
    """Within an evaluation, in any task of it, or in an audit: all before is kept."""
    evaluator, train = breaking(at, subset=20)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for k, rows in enumerate(train):
        try:
            with evaluator.task(k, model, optimizer):
                loop(model, optimizer, *rows)
        except KeyboardInterrupt:
            if saved:
                again, _ = breaking(-1, subset=20)
                again.load_state_dict(evaluator.state_dict())
                evaluator = again
            with evaluator.task(k, model, optimizer):
                loop(model, optimizer, *rows)
    made = evaluator.result()
    # The same update is evaluated when the task goes on; after a load nobody knows that it was made.
    assert answers(made)["every-update"] == ("violated" if saved else "met")
    assert len(made.times) == evaluator.updates == evaluator.evaluations


def test_a_model_that_was_changed_before_a_task_goes_on_is_noticed():
    evaluator, train = breaking(1)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with pytest.raises(KeyboardInterrupt), evaluator.task(0, model, optimizer):
        loop(model, optimizer, *train[0])
    with pytest.raises(ValueError, match="cut off"):
        evaluator.before_task(0)
    with torch.no_grad():
        model[-1].bias += 1
    with evaluator.task(0, model, optimizer):
        loop(model, optimizer, *train[0])
    assert answers(evaluator.result())["every-update"] == "violated"


def test_a_loop_that_catches_an_error_of_an_evaluation_loses_nothing_else():
    evaluator, train = breaking(1, MemoryError)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for k, (X, y) in enumerate(train):
        with evaluator.task(k, model, optimizer):
            for x, labels in zip(X.split(20), y.split(20), strict=True):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), labels).backward()
                try:
                    optimizer.step()
                except MemoryError:
                    continue
    made = evaluator.result()
    assert answers(made)["every-update"] == "violated"
    assert len(made.times) == evaluator.updates


def test_an_evaluation_by_hand_may_be_tried_again():
    evaluator, _ = breaking(1, MemoryError)
    model = network()
    evaluator.before_task(0)
    evaluator.after_step(model)
    with pytest.raises(MemoryError):
        evaluator.after_step(model)
    evaluator.after_step(model)
    assert evaluator.updates == evaluator.evaluations == 2
    with pytest.raises(ValueError, match="task 0 has not ended"):
        evaluator.before_task(1)


@pytest.mark.parametrize("every", [1, 3])
def test_the_end_of_a_task_is_the_model_that_was_evaluated(every):
    """Seldom looked at, too: weights that are put back at the end are not those that were seen."""
    train, test = stream()
    evaluator = ContinualEvaluator(test[:2], every=every, random_state=0)
    made = looped(evaluator, train, network(), lambda m: m[-1].weight.data.add_(1))
    assert made["every-update"] == "violated"


# What a model may be


def test_a_model_that_broke_down_is_right_of_no_row():
    _, test = stream()
    for scenario in ("class", "task"):
        evaluator = ContinualEvaluator(test[:1], scenario=scenario)
        model = network()
        with torch.no_grad():
            model[-1].bias.fill_(torch.nan)
        evaluator.before_task(0)
        evaluator.after_step(model)
        evaluator.after_task(0, model)
        assert evaluator.outcomes().accuracy(0).tolist() == [0.0]


def test_buffers_that_are_nan_are_like_themselves():
    train, test = stream()
    model = network()
    model.register_buffer("unknown", torch.full((2,), torch.nan))
    made = looped(ContinualEvaluator(test[:2]), train, model)
    assert (made["no-trace"], made["every-update"]) == ("met", "met")


def test_a_prediction_that_freezes_parameters_is_noticed():
    train, test = stream()

    def predict(model, X, task):
        model[0].requires_grad_(False)
        return model(X).argmax(1)

    made = looped(ContinualEvaluator(test[:2], predict=predict), train, network())
    assert made["no-trace"] == "violated"


def test_what_a_forward_pass_keeps_can_be_trained_with():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.kept = network(), torch.ones(0, 1)

        def forward(self, x):
            if len(self.kept) < len(x):
                self.kept = torch.ones(len(x), 1)
            return self.net(x) * self.kept[: len(x)]

    train, test = stream()
    looped(ContinualEvaluator(test[:2]), train, Keeps())


def test_rows_may_be_arrays_and_nothing_else():
    _, test = stream()
    evaluator = ContinualEvaluator(test[:1])
    evaluator.watch(test[0][0].numpy())
    assert evaluator.overlap == len(test[0][0])
    with pytest.raises(TypeError):
        evaluator.watch([1.0])


def test_own_rows_are_not_taken_beside_groups():
    _, test = stream()
    with pytest.raises(TypeError, match="leave groups out"):
        ContinualEvaluator(test[:1], groups=[np.arange(40) // 2], subset=[[0, 2]])
