"""What a component's compilations tell ccache: what moves their identity, what they see, how ccache comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.selection import CCACHE, ROOT
from rocmbuild.run import compiler_cache, surroundings
from rocmbuild.run.site import Made, Site
from rocmbuild.tools.ccache import PLAIN, Ccache, Counts
from rocmbuild.tools.root import Root
from rocmbuild.tools.sandbox import Host
from tests import elf_files

PREFIX = "opt/rocm-5.6.1"


@pytest.fixture
def with_ccache(make_site, tmp_path) -> Callable[..., Site]:
    """Return a function that makes a site with ccache, in which every component has been built."""
    root = tmp_path / "roots/ccache"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/ccache").write_bytes(elf_files.library())
    (tmp_path / "cache").mkdir()

    def make(**changes) -> Site:
        site = make_site(**{"cross": False, **changes})
        for area in site.areas.values():
            area.made.roots[CCACHE] = Root(root, {"ccache": "4"}, "of ccache")
        for job in site.plan.jobs:
            built(site, job.node)
        (site.stage(Node("llvm", site.plan.job("llvm").node.machine_name)) / PREFIX / "llvm/bin/clang").chmod(0o755)
        return replace(site, ccache=Ccache(tmp_path / "cache"))

    return make


def built(site: Site, node: Node, output: str = "first") -> None:
    """Say that a component's stage tree is there, and what it is."""
    job = site.plan.at(node)
    site.area(node).stamps.record(job, site.area(node).made.digest, f"{output} {node}", 1, needs=site.consumed(job))


def script(site: Site, name: str = "app") -> str:
    """Return the script that a component's compilations are started with, newly written."""
    job = site.plan.job(name)
    asyncio.run(surroundings.make_prefix(site, job))
    place = compiler_cache.scripts(site, job)
    assert {path.name for path in place.iterdir()} == {"compile", "preprocess", "run"}
    return (place / "compile").read_text()


def identity(text: str) -> str:
    (line,) = (line for line in text.splitlines() if "CCACHE_COMPILERCHECK" in line)
    return line


def test_a_site_without_ccache_has_nothing_of_it(make_site):
    site = make_site(cross=False)
    job = site.plan.job("app")
    asyncio.run(surroundings.make_prefix(site, job))
    assert not compiler_cache.scripts(site, job).exists()
    mounts = surroundings.mounts(site, job)
    assert mounts.ccache is None
    assert set(mounts.tools) == {"cmake", "ninja"}
    variables = surroundings.variables(site, job, surroundings.environment(site, job))
    assert not [name for name in variables if "LAUNCHER" in name]


def test_compilers_are_started_by_a_script_and_the_cache_is_shared(with_ccache, tmp_path):
    site = with_ccache()
    job = site.plan.job("app")
    mounts = surroundings.mounts(site, job)
    assert mounts.ccache == tmp_path / "cache"
    assert mounts.tools["ccache"] == tmp_path / "roots/ccache"
    assert mounts.tools["compile"] == compiler_cache.scripts(site, job)
    variables = surroundings.variables(site, job, surroundings.environment(site, job))
    assert {name: value for name, value in variables.items() if "LAUNCHER" in name} == dict.fromkeys(
        [f"CMAKE_{name}_COMPILER_LAUNCHER" for name in ("C", "CXX", "HIP")], "/usr/lib/rocmbuild/compile/compile"
    )
    assert "\nexport CCACHE_DIR=/run/ccache\n" in script(site)
    assert '\nexec /usr/lib/rocmbuild/ccache/usr/bin/ccache "$@"\n' in script(site)


def test_the_roots_that_count_are_the_others(tmp_path):
    roots = {ROOT: Root(tmp_path, {}, "of the root"), CCACHE: Root(tmp_path, {}, "of ccache")}
    with_both = Made({ROOT: object(), CCACHE: object()}, roots)  # type: ignore[dict-item]
    assert with_both.digest == "of the root"
    assert list(with_both.shaping) == [ROOT]
    del roots[CCACHE]
    assert with_both.digest == "of the root", "ccache may come later"
    assert len(with_both.missing) == 1
    del roots[ROOT]
    assert with_both.digest is None


def test_the_same_site_gives_the_same_identity(with_ccache):
    site = with_ccache()
    assert script(site) == script(site)


def test_another_root_is_another_compiler(with_ccache):
    site = with_ccache()
    before = script(site)
    made = site.areas[Machine.HOST].made
    made.roots[ROOT] = replace(made.roots[ROOT], digest="other")
    assert identity(script(site)) != identity(before)


def test_another_ccache_is_not(with_ccache):
    site = with_ccache()
    before = script(site)
    made = site.areas[Machine.HOST].made
    made.roots[CCACHE] = replace(made.roots[CCACHE], digest="other")
    assert script(site) == before


def test_a_need_with_programs_is_part_of_the_compiler(with_ccache):
    site = with_ccache()
    before = script(site)
    built(site, Node("llvm"), "second")
    assert identity(script(site)) != identity(before)


def test_a_need_without_programs_is_not_for_its_headers_are_seen(with_ccache):
    site = with_ccache()
    before = script(site)
    built(site, Node("runtime"), "second")
    assert script(site) == before
    (site.stage(Node("runtime")) / PREFIX / "own-runtime").chmod(0o755)
    assert identity(script(site)) != identity(before)


@pytest.mark.parametrize("changes", [{"environment": {"HIP_PATH": "/x"}}])
def test_variables_of_the_recipe_move_the_identity(with_ccache, changes):
    site = with_ccache()
    before = script(site)
    job = site.plan.job("app")
    other = replace(job, inputs={**job.inputs, **changes})
    plan = replace(site.plan, jobs=tuple(other if item is job else item for item in site.plan.jobs))
    assert identity(script(replace(site, plan=plan))) != identity(before)


def test_bitcode_of_needs_and_of_the_root_is_hashed(with_ccache):
    site = with_ccache()
    bitcode = site.stage(Node("device")) / PREFIX / "amdgcn/bitcode/ocml.bc"
    bitcode.parent.mkdir(parents=True)
    bitcode.write_bytes(b"code")
    root = site.areas[Machine.HOST].made.roots[ROOT].path
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/info/libs.list").write_text("/usr/lib/ockl.bc\n")
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/ockl.bc").write_bytes(b"code")
    assert f"export CCACHE_EXTRAFILES=/usr/lib/ockl.bc:/{PREFIX}/amdgcn/bitcode/ocml.bc\n" in script(site)
    assert "EXTRAFILES=/usr/lib/ockl.bc\n" in script(site, "llvm"), "what is not seen does not count"


def test_a_cross_build_has_bitcode_and_compilers_below_the_sysroot_too(with_ccache):
    site = with_ccache(cross=True)
    for node in (Node("device"), Node("device", "build")):
        bitcode = site.stage(node) / PREFIX / "ocml.bc"
        bitcode.write_bytes(b"code")
    text = script(site)
    assert f"EXTRAFILES=/{PREFIX}/ocml.bc:/sysroot/{PREFIX}/ocml.bc\n" in text
    assert f"/usr/bin/* | /usr/lib/* | /{PREFIX}/* | /sysroot/*)" in text


def test_flags_in_the_configuration_of_a_cross_compiler_move_the_identity(with_ccache):
    site = with_ccache(cross=True)
    before = script(site)
    target = replace(site.plan.selection.target, flags=("-march=other",))
    plan = replace(site.plan, selection=replace(site.plan.selection, target=target))
    assert identity(script(replace(site, plan=plan))) != identity(before)


def test_a_tree_goes_on_without_ccache(with_ccache):
    site = with_ccache()
    job = site.plan.job("app")
    with_cache = script(site)
    place = compiler_cache.scripts(site, job)
    without = replace(site, ccache=None)
    asyncio.run(surroundings.make_prefix(without, job))
    assert (place / "compile").read_text() == PLAIN
    mounts = surroundings.mounts(without, job)
    assert mounts.tools["compile"] == place
    assert mounts.ccache is None
    assert script(site) == with_cache


def test_scripts_can_be_executed(with_ccache):
    site = with_ccache()
    script(site)
    modes = {path.stat().st_mode & 0o777 for path in compiler_cache.scripts(site, site.plan.job("app")).iterdir()}
    assert modes == {0o755}


def test_what_happened_is_counted_and_told(with_ccache):
    site = with_ccache()
    job = site.plan.job("app")
    build = site.workspace.build("app")
    build.mkdir(parents=True)
    (build / ".ccache-log").write_text("# of an earlier run\ncache_miss\n")
    notes: list[str] = []
    with pytest.raises(RuntimeError), compiler_cache.counted(site, job, notes.append):
        (build / ".ccache-log").write_text("# a.c\ncache_miss\n# b.c\npreprocessed_cache_hit\n")
        raise RuntimeError("Ninja failed")
    assert notes == ["ccache: 1 of 2 compilations out of the cache (50%)"]
    assert site.ccache is not None
    assert site.ccache.counts == {"app": Counts(1, 1)}


def test_where_nothing_was_compiled_nothing_is_told(with_ccache):
    site = with_ccache()
    notes: list[str] = []
    with compiler_cache.counted(site, site.plan.job("app"), notes.append):
        pass
    assert notes == []
    assert site.ccache is not None
    assert site.ccache.counts == {}


def on_the_host(site: Site) -> Site:
    """Return the site without roots, with a ccache of the machine."""
    bare = {machine: replace(area, made=Made()) for machine, area in site.areas.items()}
    return replace(site, areas=bare, ccache=Ccache(site.workspace.path.parent / "cache", Path("/usr/bin/ccache")))


def test_on_the_host_it_is_the_machines_ccache(with_ccache, tmp_path):
    site = on_the_host(with_ccache())
    job = site.plan.job("app")
    assert isinstance(surroundings.environment(site, job), Host)
    text = script(site)
    assert '\nexec /usr/bin/ccache "$@"\n' in text
    assert f"\nexport CCACHE_DIR={tmp_path}/cache\n" in text
    variables = surroundings.variables(site, job, surroundings.environment(site, job))
    assert variables["CMAKE_C_COMPILER_LAUNCHER"] == str(compiler_cache.scripts(site, job) / "compile")


def test_on_the_host_a_space_in_the_path_is_refused(with_ccache, tmp_path):
    site = on_the_host(with_ccache())
    areas = {
        machine: replace(area, workspace=replace(area.workspace, path=tmp_path / "a place"))
        for machine, area in site.areas.items()
    }
    with pytest.raises(UsageError, match="it has a space or a colon in it") as caught:
        script(replace(site, areas=areas))
    assert "--workspace" in (caught.value.hint or "")
