"""What goes from a workspace into the store: only what is what its key says."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from rocmbuild.plan import fingerprint
from rocmbuild.plan.selection import ROOT
from rocmbuild.run.packages import write_key, write_packages
from rocmbuild.run.shelf import Shelf


class Counter:
    """A store that only notes what it is given."""

    def __init__(self):
        self.given = []

    async def put(self, **entry):
        self.given.append(entry)


class Context:
    runner = None


@pytest.fixture
def site(make_site):
    """A workspace in which zstd was built and packaged."""
    site = make_site(cross=False)
    job = site.plan.job("zstd")
    site.area(job.node).stamps.record(job, site.made.digest, "output", 1, needs={})
    debs = site.workspace.debs("zstd")
    debs.mkdir()
    (debs / "zstd.deb").write_bytes(b"deb")
    write_packages(debs, [])
    write_key(debs, job.debs_key("output", {}, site.made.digest))
    return site


def given(site):
    store = Counter()
    asyncio.run(Shelf(store, {}).keep(site, site.plan.job("zstd"), Context()))
    return store.given


def test_a_component_is_kept_under_its_inputs_and_root_with_its_packages(site):
    (entry,) = given(site)
    job = site.plan.job("zstd")
    assert entry["key"] == fingerprint.store_key(fingerprint.action_key(job.own_key, {}), site.made.digest)
    assert (entry["output"], entry["debs"]) == ("output", site.workspace.debs("zstd"))


def test_what_was_built_over_another_root_than_there_is_now_is_not_kept(site):
    """A root that was removed is made again with newer packages, and nothing compared it with what was kept."""
    site.made.roots[ROOT] = dataclasses.replace(site.made.roots[ROOT], digest="newer")
    assert given(site) == []
    site.made.roots.clear()
    assert given(site) == []


def test_damaged_packages_are_not_kept(site):
    (site.workspace.debs("zstd") / "zstd.deb").write_bytes(b"bed")
    (entry,) = given(site)
    assert (entry["debs"], entry["packages"]) == (None, None)
