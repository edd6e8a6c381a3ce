<<<<<<< HEAD
from ._checkfree.cost import Comparison as Comparison
from ._checkfree.cost import expected_executed as expected_executed
from ._checkfree.cost import expected_time as expected_time
from ._checkfree.descent import descent_with_jumps as descent_with_jumps
from ._checkfree.front_door import CheckFreeResult as CheckFreeResult
from ._checkfree.front_door import checkfree as checkfree
from ._checkfree.pipeline import PipelineTrainer as PipelineTrainer
from ._checkfree.recovery import UnrecoverableStageError as UnrecoverableStageError
from ._checkfree.recovery import recover as recover
from ._checkfree.simulator import Simulator as Simulator
from ._checkfree.theorems import beats_redundancy as beats_redundancy
from ._in_memory_fault_tolerance.codes import ErasureGroup as ErasureGroup
from ._in_memory_fault_tolerance.errors import RunInUseError as RunInUseError
from ._in_memory_fault_tolerance.errors import StateMismatchError as StateMismatchError
from ._in_memory_fault_tolerance.errors import UnrecoverableError as UnrecoverableError
from ._in_memory_fault_tolerance.failure_log import FailureLog as FailureLog
from ._in_memory_fault_tolerance.front_door import (
    in_memory_fault_tolerance as in_memory_fault_tolerance,
)
from ._in_memory_fault_tolerance.guard import SnapshotGuard as SnapshotGuard
from ._in_memory_fault_tolerance.launch import launch as launch
from ._in_memory_fault_tolerance.loader import ResumableLoader as ResumableLoader
from ._in_memory_fault_tolerance.result import InMemoryResult as InMemoryResult
from ._in_memory_fault_tolerance.survival import loss_probability as loss_probability
from ._in_memory_fault_tolerance.survival import optimal_interval as optimal_interval
from ._in_memory_fault_tolerance.survival import survival_probability as survival_probability
from ._in_memory_fault_tolerance.theorems import survival as survival
from .error_feedback import BlockTopK as BlockTopK
from .error_feedback import Compressor as Compressor
from .error_feedback import ErrorFeedbackResult as ErrorFeedbackResult
from .error_feedback import Identity as Identity
from .error_feedback import NaturalDeterministic as NaturalDeterministic
from .error_feedback import RandK as RandK
from .error_feedback import TopK as TopK
from .error_feedback import ef21 as ef21
from .error_feedback import error_feedback as error_feedback
from .error_feedback.hook import EF21State as EF21State
from .error_feedback.hook import ef21_hook as ef21_hook
=======
from ._error_feedback import ErrorFeedbackResult as ErrorFeedbackResult
from ._error_feedback import error_feedback as error_feedback
from ._error_feedback.compressors import BlockTopK as BlockTopK
from ._error_feedback.compressors import Compressor as Compressor
from ._error_feedback.compressors import Identity as Identity
from ._error_feedback.compressors import NaturalDeterministic as NaturalDeterministic
from ._error_feedback.compressors import RandK as RandK
from ._error_feedback.compressors import TopK as TopK
from ._error_feedback.hook import EF21State as EF21State
from ._error_feedback.hook import ef21_hook as ef21_hook
from ._error_feedback.solver import ef21 as ef21
from ._error_feedback.solver import in_expectation as in_expectation
from .checkfree import CheckFreeResult as CheckFreeResult
from .checkfree import PipelineTrainer as PipelineTrainer
from .checkfree import checkfree as checkfree
from .checkfree import recover as recover
from .in_memory_fault_tolerance.codes import ErasureGroup as ErasureGroup
from .in_memory_fault_tolerance.guard import SnapshotGuard as SnapshotGuard
from .in_memory_fault_tolerance.train import InMemoryResult as InMemoryResult
from .in_memory_fault_tolerance.train import in_memory_fault_tolerance as in_memory_fault_tolerance
>>>>>>> m-ef
from .links import shaped_link as shaped_link
from .processes import run_ranks as run_ranks
