"""whp, *with high probability*: published methods whose guarantees are checked on your run.

Every method lives in a package of its field (``whp.linalg``, ``whp.graph``, ``whp.calibration``, ...) behind the interface
that the field expects. Its front door returns a result that carries :class:`Certificate` objects: the paper's theorem,
evaluated on that very run.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__all__ += ["__version__"]
