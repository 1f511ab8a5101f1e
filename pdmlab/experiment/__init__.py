"""Experiments: measure a function over all combinations of its factors, and keep every row.

>>> run = sweep(measure, {"buffer_B": [64, 1024]}, experiment="storage", board="sim://K64F")
>>> run.frame           # tidy: one row an observation
>>> load_run(run.name)  # the same frame, tomorrow
"""

from pdmlab import frames
from pdmlab.experiment.measuring import Measured
from pdmlab.experiment.provenance import board_row
from pdmlab.experiment.sweeping import rerun, sweep
from pdmlab.runs import Run, list_runs, load_run

__all__ = ["Measured", "Run", "board_row", "frames", "list_runs", "load_run", "rerun", "sweep"]
