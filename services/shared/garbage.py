"""The cyclic garbage collector of a server process."""

import gc

THRESHOLDS = (10_000, 20, 50)
"""The defaults start the collector every few requests, which finds next to nothing."""


def settle() -> None:
    """Call once, when everything that lives as long as the process exists.

    What exists by now is never walked again, and later collections become rare.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
