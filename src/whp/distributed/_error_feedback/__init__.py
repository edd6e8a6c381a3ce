"""Error feedback: workers send a hundredth of their gradients, and training still converges.

Problem: data-parallel training over a slow link waits for gradients. Sending only the largest
entries of each gradient does not converge when workers' data differ.

Idea: each worker keeps a shift and sends the compressed difference between its gradient and that
shift; everybody adds what was sent to the shifts. The shifts learn the gradients, and the
differences vanish (EF21). A new analysis weighs workers by their smoothness and allows a step that
is longer by up to L_QM/L_AM, the quadratic over the arithmetic mean.

Cost: O(d) a worker and step to form and select, O(nk) to add what n workers sent; 8k bytes sent in
the place of 4d.

What is proven: the mean of ‖∇f‖² over T steps is at most 2(f(x⁰) − f_inf)/(γT) + G⁰/(θT) for
γ ≤ 1/(L + L_AM ξ), with a linear rate under Polyak–Łojasiewicz and a longer step where features are
rare. Derived here: partial participation, noisy gradients, optimal weights, the best of several
runs, and a guarded step whose every step is checked by the proof's own inequality.

References
----------
P. Richtárik, E. Gasanov, K. Burlachenko. Error Feedback Reloaded: From Quadratic to Arithmetic Mean
of Smoothness Constants. ICLR 2024. arXiv:2402.10774.
"""

from whp.distributed._error_feedback.front_door import ErrorFeedbackResult, error_feedback

__all__ = ["ErrorFeedbackResult", "error_feedback"]
