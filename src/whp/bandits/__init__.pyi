from .recovering_bandits import RecoveringPolicy as RecoveringPolicy
from .recovering_bandits import fit_recovery as fit_recovery
from .recovering_bandits import learn_recovering as learn_recovering
from .recovering_bandits import plan_recovering as plan_recovering
from .recovering_bandits import recovering_bandits as recovering_bandits
from .tsallis_inf import TsallisINF as TsallisINF
from .tsallis_inf import tsallis_probabilities as tsallis_probabilities
