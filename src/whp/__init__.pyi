from . import calibration as calibration
from . import graph as graph
from . import linalg as linalg
from .certificate import Assumption as Assumption
from .certificate import Certificate as Certificate
from .certificate import Verdict as Verdict
from .intervals import Estimate as Estimate

__version__: str
