from . import bandits as bandits
from . import calibration as calibration
from . import continual as continual
from . import distributed as distributed
from . import graph as graph
from . import interpretability as interpretability
from . import linalg as linalg
from . import losses as losses
from . import online as online
from . import optim as optim
from . import privacy as privacy
from .certificate import Answer as Answer
from .certificate import Certificate as Certificate
from .certificate import Scope as Scope
from .certificate import Verdict as Verdict
from .intervals import Estimate as Estimate
from .theorem import Condition as Condition
from .theorem import Theorem as Theorem

__version__: str
