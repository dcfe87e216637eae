"""What the tasks of a plan will take."""

from __future__ import annotations

import pytest

from rocmbuild.plan.estimate import Estimate
from rocmbuild.run.forecast import forecast
from rocmbuild.run.task import Step, Task, Uses


async def _nothing(_context):
    pass


def test_components_take_what_is_estimated_and_the_rest_its_cost(make_site):
    plan = make_site(cross=False).plan
    nodes = {job.name: job.node for job in plan.jobs}
    plan = plan.with_estimates({nodes["llvm"]: Estimate(50.0, 100.0, 3 << 30, 7 << 20, "measured")})
    tasks = [
        Task("llvm source", (Step("fetch", _nothing, Uses.NETWORK),), cost=5.0),
        Task("llvm", (), frozenset({"llvm source"}), cost=1.0),
        Task("verify", (Step("run", _nothing),), frozenset({"llvm"}), cost=60.0),
    ]
    found = forecast(tasks, plan, 2, 8 << 30)
    assert found.seconds == pytest.approx(5.0 + 50.0 + 60.0)
    assert (found.cpu, found.memory) == (160.0, 3 << 30)
    assert found.basis == {"measured": 1, "recipe": len(plan.building) - 1}
    assert found.disk == sum(job.estimate.disk for job in plan.building)
