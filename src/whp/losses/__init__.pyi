from .comp_sum_losses import CompSumResult as CompSumResult
from .comp_sum_losses import comp_sum_loss as comp_sum_loss
from .comp_sum_losses import comp_sum_losses as comp_sum_losses
from .comp_sum_losses import robust_error_bound as robust_error_bound
from .comp_sum_losses.module import AdvCompSumLoss as AdvCompSumLoss
from .comp_sum_losses.module import CompSumLoss as CompSumLoss
