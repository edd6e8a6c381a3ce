"""Copies of the training state in other processes' memory: stall, recovery from real kills, survival (Wang et al. 2023).

The paper trains on up to 512 GPUs; here ranks are processes of one machine that talk over gloo, nodes are keepers of memory that
are killed with their memory unlinked, and the model is a character model of verses of the King James Bible. Times are this
machine's.
"""
