from ._target_surrogates.estimator import SSOClassifier as SSOClassifier
from ._target_surrogates.estimator import SSORegressor as SSORegressor
from ._target_surrogates.front_door import TargetSurrogateFit as TargetSurrogateFit
from ._target_surrogates.front_door import target_surrogates as target_surrogates
from ._target_surrogates.optimizer import SSO as SSO
from ._target_surrogates.optimizer import StepInfo as StepInfo
from ._target_surrogates.oracles import loss_oracle as loss_oracle
