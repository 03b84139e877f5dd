"""The same training as others would write it.

Each module has `train(workload, batch_size, tick)`, which trains for ever and calls `tick` after each step.
"""
