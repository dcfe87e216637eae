"""Every input moves the key, every non-input leaves it: one small release, changed in one place at a time."""

from __future__ import annotations

import dataclasses

import pytest

from rocmbuild.errors import UsageError
from rocmbuild.model.manifest import LayoutRule, Source
from rocmbuild.model.recipe import Edit
from rocmbuild.model.target import Emulator, Suite
from rocmbuild.plan.fingerprint import digest
from rocmbuild.plan.planner import make_plan

SUM = "ab" * 32

MANIFEST = f"""\
remotes: {{forge: [https://one.example/]}}
defaults: {{remote: forge, ref: main}}
sources:
  lib: {{repository: lib, commit: {"a" * 40}}}
  app: {{repository: app, commit: {"b" * 40}}}
  text: {{debian: t/text.tar.xz, sha256: {SUM}}}
components:
  lib: {{version: "2.0"}}
  app: {{version: "1.0"}}
  text: {{version: "3.0"}}
  far: {{version: "4.0"}}
"""

APP = """\
description: Words.
homepage: https://one.example/
license: {spdx: MIT, files: [LICENSE]}
memory: 1G
cost: 10
home: "{prefix}"
needs: {libs: [lib], sources: [text], run: [far], system: [libelf-dev]}
cmake: {subdir: src, targets: [all], variables: {A: "{prefix}", G: "x"}}
environment: {E: one}
edits: [{file: x, find: a, replace: b, count: 1, present: p, why: w}]
patches: [{file: fix.patch, why: w}]
add: [{path: bin/x, text: t, why: w}]
discard: [{files: [x], why: w}]
waivers: [{rule: r, files: [x], why: w}]
checks: [{name: c, summary: s}]
packages: [{name: app, summary: s, files: ["*"], depends: ["lib (= {version:lib})"], scripts: {postinst: post.sh}}]
"""


@pytest.fixture
def whole(release):
    """Return a function that plans the release, its texts changed by replacements, its selection by ``change``."""

    def plan(*replaced, change=lambda selection: selection, **files):
        texts = {"manifest": MANIFEST, "app": APP, "lib": "needs: {}\nadd: [{path: lib/y, text: t, why: w}]\n"}
        for text, old, new in replaced:
            assert old in texts[text]
            texts[text] = texts[text].replace(old, new, 1)
        release.manifest(texts["manifest"])
        release.recipe("lib", texts["lib"])
        release.recipe("app", texts["app"], **{"fix_patch": "diff", "post_sh": "true", **files})
        release.recipe("text")
        release.recipe("far")
        return make_plan(change(release.selection()), {}, None)

    return plan


def changed(**fields):
    """Return a change of a selection's fields; a function gets the field's value."""

    def change(selection):
        values = {k: v(getattr(selection, k)) if callable(v) else v for k, v in fields.items()}
        return dataclasses.replace(selection, **values)

    return change


def with_source(component, **fields):
    """Return a change of a component's source."""

    def manifest(manifest):
        found = manifest.components[component]
        source = dataclasses.replace(found.source, **fields)
        components = {**manifest.components, component: dataclasses.replace(found, source=source)}
        return dataclasses.replace(manifest, components=components)

    return changed(manifest=manifest)


def field(**fields):
    return lambda value: dataclasses.replace(value, **fields)


BUILD_INPUTS = {
    "commit": [("manifest", "b" * 40, "c" * 40)],
    "subdirectory of the source": [("manifest", 'app: {version: "1.0"}', 'app: {version: "1.0", subdir: deep}')],
    "submodules": [("manifest", "repository: app,", "repository: app, submodules: true,")],
    "variables of the manifest": [("manifest", 'app: {version: "1.0"}', 'app: {version: "1.0", variables: {N: 1}}')],
    "environment of the manifest": [
        ("manifest", 'app: {version: "1.0"}', 'app: {version: "1.0", environment: {N: "1"}}')
    ],
    "a need's commit": [("manifest", "a" * 40, "c" * 40)],
    "a need's recipe": [("lib", "path: lib/y", "path: lib/z")],
    "a source that is only read": [("manifest", SUM, "cd" * 32)],
    "needs": [("app", "libs: [lib]", "libs: []")],
    "tools": [("app", "libs: [lib]", "libs: [lib], tools: [far]")],
    "sources that are read": [("app", "sources: [text]", "sources: []")],
    "system packages": [("app", "libelf-dev", "libdw-dev")],
    "Python packages": [("app", "system: [libelf-dev]", "python: ['lit==17.0.6']")],
    "subdir": [("app", "subdir: src", "subdir: other")],
    "targets": [("app", "targets: [all]", "targets: [all, doc]")],
    "a variable's value": [("app", 'G: "x"', 'G: "y"')],
    "a variable's name": [("app", 'G: "x"', 'H: "x"')],
    "environment": [("app", "E: one", "E: two")],
    "an edit's file": [("app", "edits: [{file: x", "edits: [{file: y")],
    "an edit's find": [("app", "find: a", "find: c")],
    "an edit's replace": [("app", "replace: b", "replace: c")],
    "an edit's count": [("app", "count: 1", "count: 2")],
    "an edit's present": [("app", "present: p", "present: q")],
    "whether an edit is optional": [("app", "count: 1", "count: 1, optional: true")],
    "an edit that writes": [("app", "find: a, replace: b, count: 1, present: p", 'write: "z"')],
    "no edits": [("app", "edits: [{file: x, find: a, replace: b, count: 1, present: p, why: w}]", "edits: []")],
    "an addition's path": [("app", "path: bin/x", "path: bin/y")],
    "an addition's text": [("app", "text: t", "text: u")],
    "an addition's link": [("app", "text: t", "link: u")],
    "discarded files": [("app", "discard: [{files: [x]", "discard: [{files: [y]")],
    "whether it is built": [("app", "homepage:", "build: none\nhomepage:")],
}

BUILD_CHANGES = {
    "the release": changed(manifest=field(version="5.6.2")),
    "layout": with_source("app", layout=(LayoutRule("a", "b"),)),
    "edits of the source": with_source("app", edits=(Edit("f", "w", write="x"),)),
    "triple": changed(target=field(triple="other-linux-gnu")),
    "flags": changed(target=field(flags=("-O3",))),
    "flags for GCC": changed(target=field(gcc_flags=("-mtune=native",))),
    "C compiler": changed(distribution=field(cc="/usr/bin/gcc-99")),
    "C++ compiler": changed(distribution=field(cxx="/usr/bin/g++-99")),
    "distribution": changed(distribution=field(name="other")),
    "packages of every root": changed(distribution=field(system=("dash", "perl"))),
    "CMake": changed(tools={"cmake": "3.32", "ninja": "1.13"}),
    "Ninja": changed(tools={"cmake": "3.31", "ninja": "1.14"}),
    "sandbox or host": changed(environment="host"),
}


@pytest.mark.parametrize("what", sorted({*BUILD_INPUTS, *BUILD_CHANGES}))
def test_every_input_moves_the_key_of_a_build(whole, what):
    before = whole().job("app")
    change = BUILD_CHANGES.get(what, lambda selection: selection)
    after = whole(*BUILD_INPUTS.get(what, ()), change=change).job("app")
    assert after.key != before.key
    assert (action(after) != action(before)) == (what not in OF_NEEDS)
    own = what not in {*OF_NEEDS, "needs", "tools"}
    assert (after.own_key != before.own_key) == (after.tree_key != before.tree_key) == own


OF_NEEDS = ("a need's commit", "a need's recipe")
"""Inputs of a need: for its users only what they make of its output counts."""


def action(job, **outputs):
    """Return the action key of a job whose needs give what is said, or always the same."""
    return job.record({**dict.fromkeys(job.consumed, "output"), **outputs}).action


def test_the_output_of_a_need_moves_the_action_key(whole):
    job = whole().job("app")
    assert action(job, lib="other output") != action(job)
    assert job.action_key is None


def test_a_need_that_the_system_provides_counts_by_its_key(release):
    release.components("llvm", "app")
    text = "provided: {testix: {version: '17', home: /usr/lib/llvm-17, system: []}}\n"
    release.recipe("app", "needs: {libs: [llvm]}\n")
    release.recipe("llvm", text)
    one = release.plan(system=frozenset({"llvm"})).job("app")
    release.recipe("llvm", text.replace("17'", "18'"))
    two = release.plan(system=frozenset({"llvm"})).job("app")
    assert None not in (one.action_key, two.action_key)
    assert one.action_key != two.action_key, "its stage tree is empty, and the root's packages changed"


def test_the_content_of_a_patch_moves_the_key(whole):
    assert whole().job("app").key != whole(fix_patch="other").job("app").key


def test_gpus_move_the_key_of_those_that_mention_them(whole):
    text = ("app", 'G: "x"', 'G: "{gpus}"')
    one, two = (whole(text, change=changed(gpus=gpus)) for gpus in (("gfx1030",), ("gfx1030", "gfx90a")))
    assert one.job("app").key != two.job("app").key
    assert one.job("lib").key == two.job("lib").key


PACKAGE_INPUTS = {
    "a package's name": [("app", "[{name: app", "[{name: other")],
    "a package's summary": [("app", "summary: s, files", "summary: t, files")],
    "a package's description": [("app", 'files: ["*"]', 'files: ["*"], description: d')],
    "a package's section": [("app", 'files: ["*"]', 'files: ["*"], section: libs')],
    "a package's architecture": [("app", 'files: ["*"]', 'files: ["*"], architecture: all')],
    "a package's files": [("app", 'files: ["*"]', 'files: ["**"]')],
    **{
        f"a package's {kind}": [("app", 'files: ["*"]', f'files: ["*"], {kind}: [x]')]
        for kind in ("recommends", "suggests", "provides", "conflicts", "breaks", "replaces")
    },
    "a package's depends": [("app", "(= {version:lib})", "(>= {version:lib})")],
    "no scripts": [("app", ", scripts: {postinst: post.sh}", "")],
    "another script": [("app", "postinst", "prerm")],
    "license": [("app", "spdx: MIT", "spdx: NCSA")],
    "license files": [("app", "files: [LICENSE]", "files: [COPYING]")],
    "homepage": [("app", "one.example", "two.example")],
    "description": [("app", "Words.", "Other words.")],
    "why of an edit, which the changelog tells": [("app", "present: p, why: w", "present: p, why: v")],
    "waivers, without which there may be no packages": [("app", "waivers: [{rule: r", "waivers: [{rule: s")],
    "split of a need": [("lib", "needs: {}", "packages: [{name: lib, summary: s}]")],
    "why of a patch, which the changelog tells": [("app", "fix.patch, why: w", "fix.patch, why: v")],
    "address of the repository, which the changelog tells": [("manifest", "one.example", "two.example")],
    "own version": [("manifest", 'app: {version: "1.0"}', 'app: {version: "1.1"}')],
    "version of another component's package": [("lib", "needs: {}", "packages: [{name: lib, summary: s}]")],
}


@pytest.mark.parametrize("what", sorted(PACKAGE_INPUTS))
def test_what_shapes_packages_moves_their_key_alone(whole, what):
    before, after = whole().job("app"), whole(*PACKAGE_INPUTS[what]).job("app")
    assert after.key == before.key
    assert after.package_key != before.package_key


def test_the_trees_that_packages_are_made_of_move_the_key_of_debs(whole):
    job = whole().job("app")
    debs = job.debs_key("output", {"lib": "library"}, "root")
    assert debs == job.debs_key("output", {"lib": "library"}, "root")
    assert debs != job.debs_key("other", {"lib": "library"}, "root")
    assert debs != job.debs_key("output", {"lib": "other"}, "root"), "its libraries are looked for there"
    assert debs != job.debs_key("output", {"lib": "library"}, "other"), "so are the distribution's"


def test_what_a_need_is_made_from_is_nothing_to_packages(whole):
    before, after = whole().job("app"), whole(*BUILD_INPUTS["a need's commit"]).job("app")
    assert before.package_key == after.package_key


def test_the_source_moves_the_key_of_packages_whatever_comes_of_it(whole):
    before, after = whole().job("app"), whole(*BUILD_INPUTS["commit"]).job("app")
    assert before.package_key != after.package_key, "the changelog names it, licenses are in it"


def test_the_content_of_a_script_moves_the_key_of_packages(whole):
    before, after = whole().job("app"), whole(post_sh="false").job("app")
    assert after.key == before.key
    assert after.package_key != before.package_key


@pytest.mark.parametrize("where", ["rule", "script"])
def test_values_that_only_packages_mention_move_their_key(whole, where):
    text = ("app", "summary: s, files", 'summary: "for {gpus}", files')
    script = {"post_sh": "echo {gpus}"} if where == "script" else {}
    one, two = (
        whole(*[text][: where == "rule"], change=changed(gpus=gpus), **script).job("app")
        for gpus in (("gfx1030",), ("gfx90a",))
    )
    assert one.key == two.key
    assert one.package_key != two.package_key


def test_the_tag_of_the_distribution_moves_the_key_of_packages(whole):
    before, after = whole().job("app"), whole(change=changed(distribution=field(tag="testix2"))).job("app")
    assert (after.key == before.key, after.package_key == before.package_key) == (True, False)
    assert after.deb_version == "1.0.50601-1~testix2"


def test_the_architecture_moves_the_key_of_packages(whole):
    before, after = whole().job("app"), whole(change=changed(target=field(arch="riscv64"))).job("app")
    assert (after.key == before.key, after.package_key == before.package_key) == (True, False)


NO_INPUTS = {
    "memory": [("app", "memory: 1G", "memory: 2G")],
    "cost": [("app", "cost: 10", "cost: 20")],
    "checks": [("app", "checks: [{name: c", "checks: [{name: d")],
    "why of an addition": [("app", "text: t, why: w", "text: t, why: v")],
    "why of a discard": [("app", "discard: [{files: [x], why: w", "discard: [{files: [x], why: v")],
    "run-time needs": [("app", "run: [far]", "run: []")],
    "ref of a commit": [("manifest", "ref: main", "ref: other")],
    "summary of the release": [("manifest", "remotes:", "summary: words\nremotes:")],
    "a comment": [("app", "memory", "# a comment\nmemory")],
    "the order of variables": [("app", 'A: "{prefix}", G: "x"', 'G: "x", A: "{prefix}"')],
    "a variant that does not apply": [
        ("app", "memory", 'variants: [{when: {arch: [vax]}, cmake: {variables: {V: "1"}}}]\nmemory')
    ],
    "another component": [("manifest", 'far: {version: "4.0"}', 'far: {version: "4.1"}')],
}

NO_CHANGES = {
    "names of the target": changed(target=field(name="x", summary="y", machines=("z",), variant="v", distribution="d")),
    "an assembler that nobody calls": changed(target=field(assembler=("-mattr=+x",))),
    "an emulator that nobody needs": changed(target=field(emulator=Emulator("q", None))),
    "summary of the distribution": changed(distribution=field(summary="x", architectures=("amd64",))),
    "cross compilers that nobody needs": changed(distribution=field(cross=None)),
    "which packages are programs": changed(distribution=field(system=("dash", "libc6-dev:native"))),
    "the selected components": changed(components=("app",)),
    "gpus that nobody mentions": changed(gpus=("gfx90a",)),
    "suites, for the versions in the root tell": changed(distribution=field(suites=(Suite("x", "main", ()),))),
}


@pytest.mark.parametrize("what", sorted({*NO_INPUTS, *NO_CHANGES}))
def test_nothing_else_moves_a_key(whole, what):
    before = whole().job("app")
    change = NO_CHANGES.get(what, lambda selection: selection)
    after = whole(*NO_INPUTS.get(what, ()), change=change).job("app")
    assert (after.key, after.tree_key, after.source_key) == (before.key, before.tree_key, before.source_key)
    assert (after.own_key, action(after)) == (before.own_key, action(before))
    assert after.package_key == before.package_key


def test_the_place_of_the_recipes_is_no_input(tmp_path, release):
    keys = []
    for name in ("one", "two"):
        release.directory = tmp_path / name
        release.manifest(MANIFEST)
        for component in ("lib", "text", "far"):
            release.recipe(component)
        release.recipe("app", APP, fix_patch="diff", post_sh="true")
        keys.append([(job.key, job.package_key) for job in release.plan().jobs])
    assert keys[0] == keys[1]


@pytest.fixture
def bundled(release):
    """A component whose source lies in its recipe's directory; returns that directory and a function for its key."""
    release.manifest("sources: {core: {bundled: source}}\ncomponents: {core: {version: '1.0'}}\n")
    source = release.recipe("core") / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep/CMakeLists.txt").write_text("project(x)")
    return source, lambda: release.plan().job("core").key


@pytest.mark.parametrize("change", ["content", "name", "mode", "new", "link"])
def test_a_bundled_source_is_what_lies_there(bundled, change):
    source, key = bundled
    before = key()
    file = source / "deep/CMakeLists.txt"
    match change:
        case "content":
            file.write_text("project(y)")
        case "name":
            file.rename(source / "CMakeLists.txt")
        case "mode":
            file.chmod(0o755)
        case "new":
            (source / "new").write_text("")
        case "link":
            (source / "link").symlink_to("deep")
    assert key() != before


def test_a_bundled_source_that_is_not_there_is_named(release):
    release.manifest("sources: {core: {bundled: sourec}}\ncomponents: {core: {version: '1.0'}}\n")
    directory = release.recipe("core")
    with pytest.raises(UsageError) as caught:
        release.plan()
    assert caught.value.message == f"there is no directory {directory}/sourec"
    assert caught.value.where == f"{release.directory}/manifests/small.yaml:5:17"


def local(path, sha256):
    return Source("app", "local", path=path, sha256=sha256)


def test_the_content_of_a_local_source_moves_the_key_but_not_that_of_the_build_tree(whole):
    one, two, three = (
        whole(change=changed(sources={"app": local(path, sha)})).job("app")
        for path, sha in (("/a", "1"), ("/a", "2"), ("/b", "1"))
    )
    assert one.key != two.key
    assert one.tree_key == two.tree_key
    assert one.key == three.key
    assert one.tree_key != three.tree_key


def test_a_build_tree_of_a_local_source_goes_with_its_variables(whole):
    change = changed(sources={"app": local("/a", "1")})
    one, two = whole(change=change).job("app"), whole(*BUILD_INPUTS["a variable's value"], change=change).job("app")
    assert one.tree_key != two.tree_key


def test_a_local_source_that_another_component_reads_moves_that_ones_key(whole):
    one, two = (
        whole(change=changed(sources={"text": Source("text", "local", path="/t", sha256=sha)})).job("app")
        for sha in ("1", "2")
    )
    assert one.key != two.key


def test_the_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": [2, 3]}) != digest({"a": [3, 2]})
    assert digest({"a": "1"}) != digest({"a": 1})
