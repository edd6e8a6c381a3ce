from ._pac_invariance import InvarianceResult as InvarianceResult
from ._pac_invariance import InvariantRegressor as InvariantRegressor
from ._pac_invariance import certify_moments as certify_moments
from ._pac_invariance import certify_representation as certify_representation
from ._pac_invariance import environments_needed as environments_needed
from ._pac_invariance import pac_invariance as pac_invariance
from ._pac_invariance import vc_dimension as vc_dimension
