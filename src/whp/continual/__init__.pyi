from .stability_gap import StabilityGapResult as StabilityGapResult
from .stability_gap import stability_gap as stability_gap
from .stability_gap.recorder import ContinualEvaluator as ContinualEvaluator
from .strategies import Strategy as Strategy
from .training import ContinualFit as ContinualFit
from .training import continual_fit as continual_fit
