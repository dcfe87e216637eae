from __future__ import annotations

import textwrap

import pytest

from rocmbuild.errors import DocumentError
from rocmbuild.model.condition import Facts
from rocmbuild.model.recipe import Needs
from rocmbuild.model.recipe_reader import load_recipe
from rocmbuild.model.scalars import cmake_value, parse_size

FACTS = Facts("1.9.0", "5.6.1", "16", "amd64", frozenset({"hip", "rocr"}))

WHOLE = """\
format: 1
component: rocr
summary: runtime
description: Longer words.
homepage: https://one.example/
license: {spdx: MIT, files: [LICENSE.txt]}
writable_source: true
memory: 2G
cost: 90
home: "{prefix}/rocr"
exports: {cmake: [hsa-runtime64]}
provided:
  debian-13:
    version: "6.1"
    home: /usr
    system: [libhsa-dev]
    runtime: [libhsa1]
    links: {llvm: "{home}/lib/llvm"}
needs: {tools: [llvm], libs: [thunk], sources: [hip], run: [core], system: [libelf-dev], python: ["lit==17.0.6"]}
cmake:
  subdir: src
  targets: [all, doc]
  variables: {A: true, B: false, C: 3, D: text}
environment: {E: one}
edits:
  - {file: CMakeLists.txt, find: a, replace: b, why: base}
  - {file: CMakeLists.txt, find: c, replace: d, why: new llvm, when: {llvm: ">=17"}}
patches:
  - {file: base.patch, why: base}
  - {file: arch.patch, why: arch, when: {arch: [riscv64]}}
add:
  - {path: bin/tool, link: ../x, why: expected there}
discard:
  - {files: ["share/doc/**"], why: not wanted}
packages:
  - {name: hsa-rocr, summary: runtime, files: ["lib/*.so.*"], depends: [libc6], scripts: {postinst: post.sh}}
  - {name: hsa-rocr-dev, summary: headers, architecture: all, section: libdevel}
checks:
  - name: works
    summary: it works
    packages: [hsa-rocr]
    files: [check.c]
    steps: [{run: [cc, check.c]}, {run: [./a.out], exit: 1, expect: "GPU", each: gpu, environment: {X: y}}]
    fatbin: a.out
waivers:
  - {rule: runpath, files: ["lib/x"], why: reason}
variants:
  - when: {llvm: ">=17"}
    needs: {libs: [comgr, thunk], system: [zlib1g-dev]}
    cmake: {subdir: other, targets: [extra], variables: {A: "changed", N: new}}
    environment: {E: two}
    edits: [{file: x, find: e, replace: f, why: variant}]
  - when: {arch: [riscv64]}
    cmake: {variables: {A: riscv}}
    packages: [{name: extra, summary: extra}]
    discard: [{files: [x], why: y}]
    waivers: [{rule: debug, files: [x], why: y}]
    checks: [{name: more, summary: more}]
    add: [{path: y, text: "", why: z}]
"""


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "rocr"
    path.mkdir()
    for name in ("base.patch", "arch.patch", "post.sh", "check.c"):
        (path / name).write_text(name)
    return path


def load(directory, text=WHOLE):
    (directory / "recipe.yaml").write_text(textwrap.dedent(text))
    return load_recipe(directory)


def facts(**changes):
    return Facts(**{**vars(FACTS), **changes})


def problems(directory, text):
    with pytest.raises(DocumentError) as caught:
        load(directory, text)
    return [
        (problem.where.removeprefix(f"{directory}/"), problem.message.replace(f"{directory}/", ""))
        for problem in caught.value.problems
    ]


def test_what_always_holds(directory):
    recipe = load(directory)
    found = recipe.resolve(FACTS)
    assert (found.name, found.summary, found.description) == ("rocr", "runtime", "Longer words.")
    assert (found.spdx, found.license_files, found.homepage) == ("MIT", ("LICENSE.txt",), "https://one.example/")
    assert (found.memory, found.cost, found.home) == (2 << 30, 90.0, "{prefix}/rocr")
    assert found.writable_source
    assert found.builds
    assert found.needs == Needs(("llvm",), ("thunk",), ("hip",), ("core",), ("libelf-dev",), ("lit==17.0.6",))
    assert (found.subdir, found.targets) == ("src", ("all", "doc"))
    assert found.variables == {"A": "ON", "B": "OFF", "C": "3", "D": "text"}
    assert found.environment == {"E": "one"}
    assert [edit.why for edit in found.edits] == ["base"]
    assert [patch.path for patch in found.patches] == [directory / "base.patch"]
    assert found.directory == directory
    assert recipe.cmake_packages == ("hsa-runtime64",)


def test_packages_checks_and_the_rest(directory):
    found = load(directory).resolve(FACTS)
    runtime, headers = found.packages
    assert (runtime.name, runtime.files, runtime.depends) == ("hsa-rocr", ("lib/*.so.*",), ("libc6",))
    assert runtime.scripts == (("postinst", directory / "post.sh"),)
    assert (runtime.architecture, runtime.section) == ("any", "devel")
    assert (headers.architecture, headers.section) == ("all", "libdevel")
    (check,) = found.checks
    assert check.files == (directory / "check.c",)
    assert [(step.run, step.exit, step.expect, step.each_gpu, step.environment) for step in check.steps] == [
        (("cc", "check.c"), 0, None, False, ()),
        (("./a.out",), 1, "GPU", True, (("X", "y"),)),
    ]
    assert check.fatbin == "a.out"
    assert [(item.path, item.link, item.text) for item in found.additions] == [("bin/tool", "../x", None)]
    assert [(item.files, item.why) for item in found.discards] == [(("share/doc/**",), "not wanted")]
    assert [(item.rule, item.files) for item in found.waivers] == [("runpath", ("lib/x",))]


def test_edits_and_patches_know_where_they_are_written(directory):
    found = load(directory).resolve(facts(llvm="17"))
    lines = WHOLE.splitlines()
    places = [("why: base}", 5), ("why: new llvm", 5), ("why: variant", 13)]
    assert [edit.where for edit in found.edits] == [
        f"{directory}/recipe.yaml:{next(n for n, line in enumerate(lines, 1) if text in line)}:{column}"
        for text, column in places
    ]
    assert found.patches[0].where == f"{directory}/recipe.yaml:{lines.index('patches:') + 2}:5"
    assert found.packages[1].where == f"{directory}/recipe.yaml:{lines.index('packages:') + 3}:5"


def test_a_variant_adds_to_lists_and_overrides_values(directory):
    found = load(directory).resolve(facts(llvm="17.0.6"))
    assert found.needs.libs == ("thunk", "comgr")
    assert found.needs.system == ("libelf-dev", "zlib1g-dev")
    assert (found.subdir, found.targets) == ("other", ("all", "doc", "extra"))
    assert found.variables == {"A": "changed", "B": "OFF", "C": "3", "D": "text", "N": "new"}
    assert found.environment == {"E": "two"}
    assert [edit.why for edit in found.edits] == ["base", "new llvm", "variant"]


def test_a_later_variant_overrides_an_earlier_one(directory):
    found = load(directory).resolve(facts(llvm="17", arch="riscv64"))
    assert found.variables["A"] == "riscv"
    assert found.variables["N"] == "new"
    assert [patch.path.name for patch in found.patches] == ["base.patch", "arch.patch"]
    assert [rule.name for rule in found.packages] == ["hsa-rocr", "hsa-rocr-dev", "extra"]
    assert [check.name for check in found.checks] == ["works", "more"]
    assert [len(items) for items in (found.discards, found.waivers, found.additions)] == [2, 2, 2]


def test_what_the_system_provides_is_not_built(directory):
    recipe = load(directory)
    assert not recipe.resolve(facts(system=True)).builds
    provided = recipe.provided["debian-13"]
    assert (provided.version, provided.home, provided.system) == ("6.1", "/usr", ("libhsa-dev",))
    assert (provided.runtime, provided.links) == (("libhsa1",), (("llvm", "{home}/lib/llvm"),))


def test_the_smallest_recipe(directory):
    found = load(directory, "format: 1\ncomponent: rocr\nsummary: x\n").resolve(FACTS)
    assert (found.memory, found.cost, found.home, found.subdir) == (1 << 30, 60.0, "{prefix}", ".")
    assert found.builds
    assert not found.writable_source
    assert found.needs == Needs()
    assert not load(directory, "format: 1\ncomponent: rocr\nsummary: x\nbuild: none\n").resolve(FACTS).builds


def test_a_recipe_is_named_like_its_directory(directory):
    assert problems(directory, "format: 1\ncomponent: rocm\nsummary: x\n") == [
        ("recipe.yaml:2:12", "component: rocm is not the name of its directory, rocr")
    ]


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("edits: [{file: x, why: y}]", [("4:9", "edits.0: an edit has either find (with replace) or write")]),
        (
            "edits: [{file: x, why: y, find: a, write: b}]",
            [("4:9", "edits.0: an edit has either find (with replace) or write")],
        ),
        ("edits: [{file: x, why: y, find: a}]", [("4:9", "edits.0: the key replace is missing")]),
        (
            "edits: [{file: x, why: y, find: '[a', replace: b, present: '*'}]",
            [
                ("4:33", "edits.0.find: not a regular expression: unterminated character set at position 0"),
                ("4:60", "edits.0.present: not a regular expression: nothing to repeat at position 0"),
            ],
        ),
        ("edits: [{file: x, find: a, replace: b}]", [("4:9", "edits.0: the key why is missing")]),
        ("edits: [{file: /etc/x, write: b, why: c}]", [("4:16", 'edits.0.file: "/etc/x" is not a relative path')]),
        (
            "edits: [{file: x, write: b, why: c, count: 0}]",
            [("4:44", "edits.0.count: 0 is less than the minimum of 1")],
        ),
        ("patches: [{file: no.patch, why: y}]", [("4:18", "patches.0.file: there is no file no.patch")]),
        (
            "checks: [{name: a, summary: b, files: [check.c, no.c]}]",
            [("4:49", "checks.0.files.1: there is no file no.c")],
        ),
        (
            "packages: [{name: a, summary: b, scripts: {postinst: no.sh}}]",
            [("4:54", "packages.0.scripts.postinst: there is no file no.sh")],
        ),
        ("add: [{path: x, why: y}]", [("4:7", "add.0: give either text or link")]),
        ("add: [{path: x, why: y, text: a, link: b}]", [("4:7", "add.0: give either text or link")]),
        ("memory: 2GB", [("4:9", 'memory: "2GB" is not a size such as "2G"')]),
        ("memory: 1.5G", [("4:9", 'memory: "1.5G" is not a size such as "2G"')]),
        ("build: make", [("4:8", "build: 'make' is not one of ['cmake', 'none']")]),
        (
            "variants: [{when: {llvm: '17'}}]",
            [("4:26", 'variants.0.when.llvm: "17" is not a version range such as ">=17" or ">=5.6,<6"')],
        ),
        ("variants: [{when: {}}]", [("4:19", "variants.0.when: {}")]),
        ("variants: [{when: {moon: full}}]", [("4:20", "variants.0.when.moon: unknown key")]),
        ("variants: [{needs: {libs: [hip]}}]", [("4:12", "variants.0: the key when is missing")]),
        (
            "variants: [{when: {llvm: '>=17'}, patches: [{file: no.patch, why: y}]}]",
            [("4:52", "variants.0.patches.0.file: there is no file no.patch")],
        ),
        (
            "variants: [{when: {llvm: '>=17'}, edits: [{file: x, why: y, find: '(', replace: b}]}]",
            [("4:67", "variants.0.edits.0.find: not a regular expression")],
        ),
        ("needs: {libraries: [hip]}", [("4:9", "needs.libraries: unknown key")]),
        ("needs: {libs: [HIP]}", [("4:16", 'needs.libs.0: "HIP" is not a name of lower-case letters')]),
        ("cmake: {variables: {A: [1]}}", [("4:24", "cmake.variables.A: [1] is not of type")]),
        ("cmake: {variables: {A: 5.10}}", [("4:24", "cmake.variables.A: 5.10 would be read as a number")]),
    ],
)
def test_mistakes_are_located(directory, part, found):
    actual = problems(directory, f"format: 1\ncomponent: rocr\nsummary: x\n{part}\n")
    assert [where for where, _ in actual] == [f"recipe.yaml:{where}" for where, _ in found]
    for (_, message), (_, start) in zip(actual, found, strict=True):
        assert message.startswith(start)


def test_all_mistakes_of_all_parts_are_told_at_once(directory):
    text = """\
        format: 1
        component: other
        summary: x
        edits: [{file: x, why: y}]
        patches: [{file: no.patch, why: y}]
        add: [{path: x, why: y}]
        variants:
          - {when: {system: true}, edits: [{file: x, why: y}]}
    """
    assert [where for where, _ in problems(directory, text)] == [
        f"recipe.yaml:{where}" for where in ("2:12", "4:9", "5:18", "6:7", "8:36")
    ]


@pytest.mark.parametrize(("text", "size"), [("512K", 512 << 10), ("512M", 512 << 20), ("2G", 2 << 30), ("1t", 1 << 40)])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "2", "2.5G", "-1G", "2GB"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="is not a size such as 512M or 2G"):
        parse_size(text)


@pytest.mark.parametrize(("value", "text"), [(True, "ON"), (False, "OFF"), (1, "1"), (0, "0"), ("x;y", "x;y")])
def test_values_as_cmake_writes_them(value, text):
    assert cmake_value(value) == text
