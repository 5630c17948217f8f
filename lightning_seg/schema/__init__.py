"""What a configuration may hold: the one place that says so, and that checks it before anything else is done.

`keys` lists the keys of the commands and the ranges of options. The keys of a part, which is anything with a
`_target_`, are the arguments of what is built, of this package or of yours, with the types that it declares.
"""

from lightning_seg.schema.check import check_config
from lightning_seg.schema.keys import Evaluate, Predict, Train
from lightning_seg.schema.nearest import did_you_mean

__all__ = ["Evaluate", "Predict", "Train", "check_config", "did_you_mean"]
