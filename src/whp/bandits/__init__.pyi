from .tsallis_inf import TsallisINF as TsallisINF
from .tsallis_inf import tsallis_probabilities as tsallis_probabilities
