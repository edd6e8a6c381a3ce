"""The built-in example, and what evaluation at the ends of tasks hides on MNIST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whp.certificate import Verdict
from whp.experiment.study import Showcase
from whp.studies.stability_gap.experiments import watched

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def example() -> dict[str, Any]:
    """Distillation on digits of 8 × 8 pixels in five tasks of two classes that are named.

    Evaluated after every update.
    """
    from whp.continual import ContinualEvaluator, continual_fit
    from whp.datasets.image_tasks import by_class
    from whp.studies._networks import backbone

    train, test = by_class("digits", 0)
    evaluator = ContinualEvaluator(test, scenario="task", random_state=0)
    fit = continual_fit(
        backbone("mlp", "digits", 0),
        train,
        strategy="lwf",
        scenario="task",
        epochs=5,
        evaluator=evaluator,
        record_gradients=True,
        random_state=0,
    )
    return {"curves": evaluator.recording(), "grads": fit}


def showcase() -> Showcase:
    """Distillation on MNIST: nothing is forgotten at the ends of tasks, and half of everything in between."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result, _ = watched("mnist", 0, "lwf", "task", record_gradients=True)
    torch.set_num_threads(threads)
    assert result.min_acc is not None
    assert result.forg is not None

    def draw(figure: Figure) -> None:
        result.plot(figure.subplots())

    proved = result.certificates[0].verdict is Verdict.FAILS
    return Showcase(
        data=f"MNIST in 5 tasks, distillation, {int(result.times[-1])} updates",
        quantity="worst accuracy on old tasks (certificate: evaluation at tasks' ends was honest)",
        ours=f"{result.min_acc.value:.2f} after every update",
        baseline=f"{result.acc.value:.2f}",
        baseline_name="at tasks' ends alone",
        certificates=result.certificates,
        draw=draw,
        caption="Accuracy of each task after every update; chance is 0.5. Dots are all that "
        "evaluation at the ends of tasks would see; each new task throws old ones down to chance "
        "for some updates" + (", which is proved." if proved else "."),
        code="with evaluator.task(k, model, optimizer): train(...)   # then evaluator.result()",
    )
