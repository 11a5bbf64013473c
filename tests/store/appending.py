"""`python appending.py STORE NAME` appends a large part, slowly enough to be killed meanwhile."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from gradgene.store import AttributionStore, PartFacts, parts

flush = parts._flush


def slow(path: Path) -> None:
    """Flush, after a while."""
    time.sleep(0.002)
    flush(path)


if __name__ == "__main__":
    scores = np.random.default_rng(0).normal(size=(300, 40))
    parts.CHUNK, parts._flush = 200, slow
    store, name = AttributionStore(sys.argv[1]), sys.argv[2]
    obs = pd.DataFrame(index=[f"c{i}" for i in range(300)])
    var = pd.DataFrame(index=[f"g{i}" for i in range(40)])
    print("ready", flush=True)
    store.append(scores, obs, var, PartFacts("r", name, name, "m", "gim", "forward", "t"))
    print("done", flush=True)
