"""The steps of a component that need no compiler."""

from __future__ import annotations

import asyncio

from rocmbuild.plan.graph import Machine
from rocmbuild.run import component

OWN = "opt/rocm-5.6.1/own-device"


class Context:
    """A step that says nothing."""


def test_an_output_is_taken_over_from_the_build_machine(make_site):
    site = make_site()
    job = site.plan.job("device")
    assert (site.stage(job.node) / OWN).read_text() == "for the host machine"
    (site.stage(job.node) / "opt/of-an-older-build").touch()
    asyncio.run(component.install(site, job, 2.0, Context()))
    assert (site.stage(job.node) / OWN).read_text() == "for the build machine"
    assert [path.name for path in site.stage(job.node).rglob("*") if path.is_file()] == ["own-device"]
    assert (site.stage(job.node) / OWN).samefile(site.stage(job.twin) / OWN), "it takes no place"
    stamp = site.areas[Machine.HOST].stamps.built(["device"])["device"]
    assert (stamp.key, stamp.root) == (job.key, site.made.digest)
    assert stamp.seconds >= 2.0
    assert site.areas[Machine.BUILD].stamps.built(["device"]) == {}
