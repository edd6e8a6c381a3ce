from ._groupwise_regret import AdaNormalHedge as AdaNormalHedge
from ._groupwise_regret import GroupwiseLearner as GroupwiseLearner
from ._groupwise_regret import GroupwiseRegressor as GroupwiseRegressor
from ._groupwise_regret import GroupwiseRegretResult as GroupwiseRegretResult
from ._groupwise_regret import GroupwiseShortestPath as GroupwiseShortestPath
from ._groupwise_regret import OnlineRidge as OnlineRidge
from ._groupwise_regret import grid as grid
from ._groupwise_regret import groupwise_regret as groupwise_regret
from ._optimistic_mirror_descent import Ball as Ball
from ._optimistic_mirror_descent import Box as Box
from ._optimistic_mirror_descent import (
    DynamicOptimisticMirrorDescent as DynamicOptimisticMirrorDescent,
)
from ._optimistic_mirror_descent import L1Ball as L1Ball
from ._optimistic_mirror_descent import OptimisticClassifier as OptimisticClassifier
from ._optimistic_mirror_descent import OptimisticMirrorDescent as OptimisticMirrorDescent
from ._optimistic_mirror_descent import (
    OptimisticMirrorDescentResult as OptimisticMirrorDescentResult,
)
from ._optimistic_mirror_descent import OptimisticRegressor as OptimisticRegressor
from ._optimistic_mirror_descent import Polytope as Polytope
from ._optimistic_mirror_descent import SEAEstimate as SEAEstimate
from ._optimistic_mirror_descent import Simplex as Simplex
from ._optimistic_mirror_descent import check_exp_concavity as check_exp_concavity
from ._optimistic_mirror_descent import check_smoothness as check_smoothness
from ._optimistic_mirror_descent import check_strong_convexity as check_strong_convexity
from ._optimistic_mirror_descent import estimate_sea as estimate_sea
from ._optimistic_mirror_descent import optimistic_mirror_descent as optimistic_mirror_descent
from ._optimistic_mirror_descent import sea_bound as sea_bound
