"""Which tasks a plan becomes, with which steps, and what each of them waits for."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.plan.graph import Machine
from rocmbuild.run.foundations import Foundations
from rocmbuild.run.output import Output
from rocmbuild.run.pipeline import Phase, Pipeline
from rocmbuild.run.task import Uses
from rocmbuild.tools.apt import ArchiveFinder
from rocmbuild.workspace import Cache, write_json
from tests.releases import stamps_of


@pytest.fixture
def tasks(tmp_path):
    """Return a function that makes the tasks of a site, by name; sources and apt are never asked."""

    def make(site, phase=Phase.BUILD, *, roots=True, verify=False, shelf=None):
        if not roots:
            made = {machine: dataclasses.replace(area.made, roots={}) for machine, area in site.areas.items()}
            areas = {machine: dataclasses.replace(area, made=made[machine]) for machine, area in site.areas.items()}
            site = dataclasses.replace(site, areas=areas)
        output = Output(site, Cache(tmp_path / "cache"), ArchiveFinder({}, None, False))
        foundations = Foundations(site, None, tmp_path / "cache/roots", {}, "rocmbuild fetch --branch small")
        pipeline = Pipeline(site, None, output, foundations, "--branch small", shelf, "--target pc")
        return {task.name: task for task in pipeline.tasks(phase, verify=verify)}

    return make


def built(site, machine=None):
    """Return stamps that say that the components for a machine were built, and their packages made."""
    found = stamps_of(site.plan, None)
    return {node: known for node, known in found.items() if machine in (None, node.machine_name)}


def test_a_native_build_has_a_source_and_a_task_for_each_component(make_site, tasks):
    found = tasks(make_site(cross=False))
    names = {"zstd", "llvm", "device", "runtime", "app"}
    assert set(found) == names | {f"{name} source" for name in names} | {"repository"}
    assert found["app"].needs == {"app source", "runtime source", "llvm", "device", "runtime"}, "zstd goes before llvm"
    assert found["device"].needs == {"device source", "llvm"}


TOOLS = {"zstd (build)", "llvm (build)", "device (build)"}
OWN = {"zstd", "llvm", "device", "runtime", "app"}


def test_a_cross_build_has_a_task_for_each_machine(make_site, tasks):
    found = tasks(make_site())
    sources = {f"{name} source" for name in (TOOLS | OWN) - {"device"}}
    assert set(found) == TOOLS | OWN | sources | {"repository"}
    assert found["device (build)"].needs == {"device (build) source", "llvm (build)"}
    assert found["device"].needs == {"device (build)", "device (build) source"}
    assert found["runtime"].needs == {"runtime source", "device"}
    direct = {"llvm (build)", "device (build)", "llvm", "runtime"}
    assert found["app"].needs == {*direct, "app source", "runtime source"}


def steps(task):
    return [step.name for step in task.steps]


def test_packages_are_made_for_the_host_machine_only(make_site, tasks):
    found = tasks(make_site())
    assert steps(found["app"]) == ["configure", "build", "install", "check", "package"]
    assert steps(found["device"]) == ["install", "check", "package"], "taken over"
    assert steps(found["device (build)"]) == ["configure", "build", "install"]


def test_logs_lie_in_the_area_of_the_machine(make_site, tasks, tmp_path):
    found = tasks(make_site())
    logs = tmp_path / "w/logs/small"
    assert found["llvm (build)"].logs("build") == logs / "testix-amd64/llvm/build.log"
    assert found["llvm"].logs("build") == logs / "testix-riscv64/llvm/build.log"
    assert found["llvm (build) source"].logs("fetch") == logs / "testix-amd64/llvm/fetch.log"


def test_a_tool_is_built_again_as_a_native_build_would(make_site, tasks):
    found = tasks(make_site())
    assert found["llvm"].rerun == "rocmbuild build --branch small --no-verify llvm"
    assert found["llvm (build)"].rerun == "rocmbuild build --target pc --no-verify llvm"
    assert found["llvm (build) source"].rerun == "rocmbuild fetch --target pc llvm"


def test_each_machine_waits_for_its_roots(make_site, tasks):
    found = tasks(make_site(), roots=False)
    roots = {"build root", "cross root", "sysroot", "emulator"}
    assert roots <= set(found)
    assert found["device (build)"].needs & roots == {"build root"}
    assert found["app"].needs & roots == {"cross root", "sysroot", "emulator"}


def changed_tool(make_site, release):
    """Return a site in which device is to be built anew for the build machine; stamps on disk say the rest is there."""
    first = make_site()
    before = stamps_of(first.plan, {machine: area.made.digest for machine, area in first.areas.items()})
    for job in first.plan.jobs:
        known, area = before[job.node], first.area(job.node)
        area.stamps.record(job, known.root, known.output, 1, needs=known.records[0].needs)
        write_json(area.workspace.debs(job.node.component) / "key.json", {"key": known.packages})
    text = "machine_independent: true\nenvironment: {A: b}\nneeds: {tools: [llvm]}\n"
    release.recipe("device", text + "packages: [{name: device, summary: s}]\n")
    return make_site(before)


def test_what_waits_for_outputs_looks_at_them_first(make_site, tasks, release):
    found = tasks(changed_tool(make_site, release))
    assert steps(found["device (build)"]) == ["configure", "build", "install"]
    assert steps(found["device"]) == ["compare", "install", "check", "package"]
    assert steps(found["app"]) == ["compare", "configure", "build", "install", "check", "package"]
    assert found["app"].steps[0].uses is Uses.NOTHING


@pytest.mark.parametrize(
    ("output", "needed"),
    [("output of device (build)", set()), ("other", {"configure", "build", "install", "check", "package"})],
)
def test_the_other_steps_are_needed_if_an_output_changed(make_site, tasks, release, output, needed):
    site = changed_tool(make_site, release)
    tool, app = site.plan.job("device", Machine.BUILD), tasks(site)["app"]
    area = site.area(tool.node)
    area.stamps.record(tool, area.made.digest, output, 1, needs=site.consumed(tool))
    asyncio.run(app.steps[0].function(None))
    assert {step.name for step in app.steps[1:] if step.needed()} == needed


def test_with_another_root_nothing_is_kept(make_site, tasks, release):
    site = changed_tool(make_site, release)
    app = tasks(site)["app"]
    site.made.roots["sysroot"] = dataclasses.replace(site.made.roots["sysroot"], digest="other")
    asyncio.run(app.steps[0].function(None))
    assert all(step.needed() for step in app.steps)


def test_with_tools_of_an_earlier_build_only_the_host_machine_is_built_for(make_site, tasks):
    before = make_site()
    site = make_site(built(before, "build"))
    found = tasks(site, roots=False)
    assert not TOOLS & set(found)
    assert "build root" not in found
    assert set(found) >= OWN
    assert found["device"].needs >= {"device (build) source"}, "its licenses are read there"
    assert not found["app"].needs & TOOLS


def test_a_root_that_two_machines_share_is_made_once(make_site, tasks):
    site = make_site()
    build, host = site.areas.values()
    spec = build.made.specs["build root"]
    shared = dataclasses.replace(host.made, specs={**host.made.specs, "cross root": spec})
    areas = dict(zip(site.areas, (build, dataclasses.replace(host, made=shared)), strict=True))
    found = tasks(dataclasses.replace(site, areas=areas), roots=False)
    assert "cross root" not in found
    assert found["app"].needs & {"build root", "sysroot", "emulator"} == {"build root", "sysroot", "emulator"}


def test_everything_of_both_machines_is_fetched(make_site, tasks):
    found = tasks(make_site(), Phase.FETCH, roots=False)
    sources = {f"{name} source" for name in (TOOLS | OWN) - {"device"}}
    assert set(found) == sources | {"build root", "cross root", "sysroot", "emulator"}


def test_nothing_is_left_to_do_but_the_repository(make_site, tasks):
    assert set(tasks(make_site(built(make_site())))) == {"repository"}


def test_verification_of_a_cross_build_waits_for_the_roots_it_takes(make_site, tasks):
    site = make_site(built(make_site()))
    found = tasks(site, Phase.VERIFY, roots=False, verify=True)
    assert {"cross root", "sysroot", "emulator"} <= found["test root"].needs
    assert "build root" not in found
    assert "test root" in found["verify"].needs
    native = make_site(built(make_site(cross=False)), cross=False)
    assert tasks(native, Phase.VERIFY, roots=False, verify=True)["test root"].needs == set()


@pytest.mark.parametrize("phase", [Phase.PACKAGE, Phase.VERIFY])
def test_what_is_not_built_cannot_be_packaged(make_site, tasks, phase):
    site = make_site(built(make_site(), "build"))
    with pytest.raises(UsageError) as caught:
        tasks(site, phase)
    assert caught.value.message.startswith(f"cannot {phase.value} yet: ")
    assert caught.value.message.endswith("must be built, or built again, first")
    assert "app" in caught.value.message
    assert "(build)" not in caught.value.message


def test_a_tool_without_a_source_is_told_by_the_name_that_options_take(release, make_site, tasks):
    site = make_site()
    release.components("zstd", "llvm", "device", "runtime", "app")
    site = dataclasses.replace(site, plan=release.cross_plan(components=("device",)))
    with pytest.raises(UsageError) as caught:
        tasks(site)
    assert caught.value.message == "zstd (build) has to be built, but the manifest names no source for it"
    assert caught.value.hint.endswith("let the distribution provide it with --system zstd")


def test_what_is_only_packaged_waits_for_all_whose_packages_it_reads(make_site, tasks):
    """Nothing in between is built, so it is not waited for along the way."""
    site = make_site(cross=False)
    stamps = {node: dataclasses.replace(known, packages=None) for node, known in built(site).items()}
    found = tasks(make_site(stamps, cross=False))
    assert steps(found["app"]) == ["check", "package"]
    assert found["app"].needs == {"app source", "runtime source", "device"}, "the others have no packages"
