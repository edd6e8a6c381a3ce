from .target_surrogates import TargetSurrogateFit as TargetSurrogateFit
from .target_surrogates import target_surrogates as target_surrogates
from .target_surrogates.estimators import SSOClassifier as SSOClassifier
from .target_surrogates.estimators import SSORegressor as SSORegressor
from .target_surrogates.sso import SSO as SSO
from .target_surrogates.sso import loss_oracle as loss_oracle
