"""A long fault campaign: ``python -m tests.faults --runs 100 --seed 1 [--kind kill] [--only 17]``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.faults.campaign import Campaign
from tests.faults.ground import Ground
from tests.faults.kinds import KINDS


def main() -> int:
    """Run a campaign; 1 if something was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="how many runs (100)")
    parser.add_argument("--seed", type=int, default=1, help="decides all that is left to chance (1)")
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), default=[], help="only this; repeatable")
    parser.add_argument("--only", type=int, action="append", default=[], help="only the run of this number; repeatable")
    parser.add_argument("--directory", type=Path, help="where to work; what was lost is kept there")
    chosen = parser.parse_args()
    base = chosen.directory or Path(tempfile.mkdtemp(prefix="rocmbuild-faults-"))
    base.mkdir(parents=True, exist_ok=True)
    cache = Path(os.environ.get("ROCMBUILD_TEST_CACHE", "~/.cache/rocmbuild/tests")).expanduser()
    campaign = Campaign(
        Ground(base.resolve(), cache), chosen.seed, chosen.kind, tell=lambda text: print(text, flush=True)
    )
    campaign.run(chosen.only or range(chosen.runs))
    print(campaign.summary())
    lost = any(result.losses for result in campaign.results)
    if lost:
        print(f"what was lost is in {base}/lost")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
