"""`python -m worker`: the worker's process."""

from __future__ import annotations

import os
import sys

# Read by billiard when it is imported. With it SIGTERM, which honcho sends to the whole process group,
# leaves the pool's processes alive to hand their jobs back; billiard itself then ends them with SIGQUIT.
os.environ["REMAP_SIGTERM"] = "SIGQUIT"

from worker.process import main

if __name__ == "__main__":
    sys.exit(main())
