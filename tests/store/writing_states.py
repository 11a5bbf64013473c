"""`python writing_states.py FILE` writes one state after the other until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path

from gradgene.store import write_state
from tests.store.test_attribution_state import OF, state

if __name__ == "__main__":
    for n in range(10**6):
        write_state(state(n), OF, Path(sys.argv[1]))
        print(n, flush=True)
