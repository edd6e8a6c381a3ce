from .dp_continual_release import ContinualArgmax as ContinualArgmax
from .dp_continual_release import ContinualCounter as ContinualCounter
from .dp_continual_release import ContinualMaxSum as ContinualMaxSum
from .dp_continual_release import audit_release as audit_release
from .dp_continual_release import plan_release as plan_release
from .dp_continual_release import price as price
from .dp_continual_release import release_stream as release_stream
