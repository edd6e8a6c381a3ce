from ._groupwise_regret import AdaNormalHedge as AdaNormalHedge
from ._groupwise_regret import GroupwiseLearner as GroupwiseLearner
from ._groupwise_regret import GroupwiseRegressor as GroupwiseRegressor
from ._groupwise_regret import GroupwiseRegretResult as GroupwiseRegretResult
from ._groupwise_regret import GroupwiseShortestPath as GroupwiseShortestPath
from ._groupwise_regret import OnlineRidge as OnlineRidge
from ._groupwise_regret import grid as grid
from ._groupwise_regret import groupwise_regret as groupwise_regret
from .optimistic_mirror_descent import Ball as Ball
from .optimistic_mirror_descent import Box as Box
from .optimistic_mirror_descent import (
    DynamicOptimisticMirrorDescent as DynamicOptimisticMirrorDescent,
)
from .optimistic_mirror_descent import L1Ball as L1Ball
from .optimistic_mirror_descent import OptimisticClassifier as OptimisticClassifier
from .optimistic_mirror_descent import OptimisticMirrorDescent as OptimisticMirrorDescent
from .optimistic_mirror_descent import OptimisticRegressor as OptimisticRegressor
from .optimistic_mirror_descent import Polytope as Polytope
from .optimistic_mirror_descent import Simplex as Simplex
from .optimistic_mirror_descent import estimate_sea as estimate_sea
from .optimistic_mirror_descent import optimistic_mirror_descent as optimistic_mirror_descent
from .optimistic_mirror_descent import sea_bound as sea_bound
