from __future__ import annotations

import textwrap

import pytest

from rocmbuild.errors import DocumentError
from rocmbuild.model.manifest import load_manifest, lock_path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "89abcdef0123456789abcdef0123456789abcdef"
SUM = "ab" * 32

HEAD = """\
format: 1
branch: small
version: "5.6.1"
distribution: debian-12
"""

WHOLE = (
    HEAD
    + f"""\
distributions: [debian-12, debian-13]
summary: a small release
gpus: [gfx1030, gfx90a]
system: [llvm]
remotes:
  forge: [https://one.example/, https://two.example/]
  other: [https://three.example/]
defaults: {{remote: forge, ref: rocm-5.6.x}}
sources:
  hip: {{repository: HIP}}
  rocblas: {{repository: rocBLAS, remote: other, ref: develop, submodules: true}}
  pinned: {{repository: pinned.git, commit: {COMMIT}}}
  archive: {{debian: r/rocr/rocr.tar.xz, sha256: {SUM}}}
  tarball: {{url: https://four.example/x.tar.gz, sha256: {SUM}}}
  core:
    bundled: source
    layout:
      - {{from: usr/include/*.h, to: include/, except: [a.h, b.h]}}
      - {{to: bin/}}
    edits:
      - file: VERSION
        write: "5"
        why: it is so
      - file: x
        find: a
        replace: b
        count: 2
        why: because
components:
  hip: {{version: "5.6.31"}}
  clr: {{source: hip, subdir: hipamd, version: "5.6.31", variables: {{A: true, B: 3, C: text}}, environment: {{E: x}}}}
  rocblas: {{version: "3.0"}}
  archive: {{version: "1"}}
  tarball: {{version: "1"}}
  core: {{version: "1"}}
  pinned: {{version: "1"}}
  llvm: {{version: "16"}}
"""
)


def line_of(text):
    return next(number for number, line in enumerate(WHOLE.splitlines(), 1) if text in line)


def write(tmp_path, text, lock=None):
    path = tmp_path / "small.yaml"
    path.write_text(textwrap.dedent(text))
    if lock is not None:
        (tmp_path / "small.lock").write_text(lock)
    return path


def problems(tmp_path, text, lock=None):
    path = write(tmp_path, text, lock)
    with pytest.raises(DocumentError) as caught:
        load_manifest(path)
    return [
        (problem.where.removeprefix(f"{tmp_path}/"), problem.message, problem.hint) for problem in caught.value.problems
    ]


def test_a_whole_manifest(tmp_path):
    manifest = load_manifest(write(tmp_path, WHOLE))
    assert (manifest.branch, manifest.version, manifest.prefix) == ("small", "5.6.1", "/opt/rocm-5.6.1")
    assert manifest.distributions == ("debian-12", "debian-13")
    assert manifest.gpus == ("gfx1030", "gfx90a")
    assert manifest.system == ("llvm",)
    assert list(manifest.components) == sorted(manifest.components)


def test_git_sources_try_every_address_of_their_remote(tmp_path):
    components = load_manifest(write(tmp_path, WHOLE)).components
    hip, rocblas, pinned = (components[name].source for name in ("hip", "rocblas", "pinned"))
    assert hip.kind == "git"
    assert hip.urls == ("https://one.example/HIP", "https://two.example/HIP")
    assert (hip.ref, hip.commit, hip.submodules) == ("rocm-5.6.x", None, False)
    assert rocblas.urls == ("https://three.example/rocBLAS",)
    assert (rocblas.ref, rocblas.submodules) == ("develop", True)
    assert pinned.commit == COMMIT


def test_downloaded_sources_are_pinned_by_their_sum(tmp_path):
    components = load_manifest(write(tmp_path, WHOLE)).components
    archive, tarball = components["archive"].source, components["tarball"].source
    assert (archive.kind, archive.path, archive.sha256, archive.urls) == ("debian", "r/rocr/rocr.tar.xz", SUM, ())
    assert (tarball.kind, tarball.urls, tarball.sha256) == ("url", ("https://four.example/x.tar.gz",), SUM)


def test_layout_and_edits_of_a_source(tmp_path):
    core = load_manifest(write(tmp_path, WHOLE)).components["core"].source
    assert (core.kind, core.path) == ("bundled", "source")
    assert [(rule.source, rule.target, rule.exclude) for rule in core.layout] == [
        ("usr/include/*.h", "include/", ("a.h", "b.h")),
        ("", "bin/", ()),
    ]
    first, second = core.edits
    assert (first.file, first.write, first.why) == ("VERSION", "5", "it is so")
    assert (second.find, second.replace, second.count) == ("a", "b", 2)
    assert second.where == f"{tmp_path}/small.yaml:{line_of('- file: x')}:9"


def test_components_take_the_source_of_their_name_or_a_named_one(tmp_path):
    components = load_manifest(write(tmp_path, WHOLE)).components
    clr = components["clr"]
    assert clr.source is components["hip"].source
    assert clr.subdir == "hipamd"
    assert clr.variables == {"A": "ON", "B": "3", "C": "text"}
    assert clr.environment == {"E": "x"}
    assert components["llvm"].source.kind == "none"
    assert clr.where == f"{tmp_path}/small.yaml:{line_of('clr:')}:8"


def test_sources_are_listed_once(tmp_path):
    manifest = load_manifest(write(tmp_path, WHOLE))
    names = [source.name for source in manifest.sources()]
    assert names == ["archive", "core", "hip", "llvm", "pinned", "rocblas", "tarball"]


def test_without_a_list_a_release_is_for_its_own_distribution(tmp_path):
    manifest = load_manifest(write(tmp_path, HEAD + "components: {llvm: {version: '16'}}\n"))
    assert manifest.distributions == ("debian-12",)


def test_the_branch_is_the_name_of_the_file(tmp_path):
    text = HEAD.replace("branch: small", "branch: other") + "components: {llvm: {version: '16'}}\n"
    assert problems(tmp_path, text) == [
        ("small.yaml:2:9", "branch: other is not the name of its file, small.yaml", None)
    ]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{}", ("6:8", "sources.hip: a source has exactly one of repository, debian, url, bundled", None)),
        (
            "{repository: HIP, debian: x}",
            ("6:8", "sources.hip: a source has exactly one of repository, debian, url, bundled", None),
        ),
        ("{debian: x}", ("6:8", "sources.hip: the key sha256 is missing", "a downloaded file is always pinned")),
        ("{url: x}", ("6:8", "sources.hip: the key sha256 is missing", "a downloaded file is always pinned")),
        (
            "{repository: HIP, ref: x, remote: forg}",
            ("6:42", "sources.hip.remote: no remote forg", "did you mean forge?"),
        ),
        (
            "{repository: HIP, ref: x}",
            ("6:8", "sources.hip: the key remote is missing", "name a remote, here or in defaults.remote"),
        ),
        (
            "{repository: HIP, remote: forge}",
            ("6:8", "sources.hip: the key ref is missing", "name a branch or tag, here or in defaults.ref"),
        ),
        (
            "{bundled: s, edits: [{file: x, why: y}]}",
            ("6:29", "sources.hip.edits.0: an edit has either find (with replace) or write", None),
        ),
        (
            "{bundled: s, edits: [{file: x, why: y, find: a}]}",
            ("6:29", "sources.hip.edits.0: the key replace is missing", None),
        ),
        (
            "{bundled: s, edits: [{file: x, why: y, find: '(', replace: b}]}",
            (
                "6:53",
                "sources.hip.edits.0.find: not a regular expression: missing ), unterminated subpattern at position 0",
                None,
            ),
        ),
        (
            "{bundled: ../x}",
            ("6:18", 'sources.hip.bundled: "../x" is not a relative path without ..', None),
        ),
        (
            "{repository: HIP, remote: forge, commit: abc}",
            ("6:49", 'sources.hip.commit: "abc" is not a commit of 40 hexadecimal digits', None),
        ),
    ],
)
def test_mistakes_in_sources(tmp_path, source, problem):
    rest = "remotes: {forge: [https://one.example/]}\ncomponents: {hip: {version: '1'}}\n"
    text = f"{HEAD}sources:\n  hip: {source}\n{rest}"
    where, message, hint = problem
    assert problems(tmp_path, text) == [(f"small.yaml:{where}", message, hint)]


def test_names_that_point_nowhere(tmp_path):
    text = """\
        sources: {rocblas: {bundled: x}}
        system: [lvm, hip]
        components:
          hip: {version: "1", source: rocblsa}
          llvm: {version: "16"}
    """
    assert problems(tmp_path, HEAD + textwrap.dedent(text)) == [
        ("small.yaml:6:10", "system.0: no component lvm", "did you mean llvm?"),
        ("small.yaml:8:31", "components.hip.source: no source rocblsa", "did you mean rocblas?"),
    ]


def lock(**sources):
    rows = "".join(f"  {name}: {{commit: '{commit}', ref: {ref}, url: u}}\n" for name, (commit, ref) in sources.items())
    return f"format: 1\nbranch: small\nsources:\n{rows}"


def test_the_lock_file_lies_beside_the_manifest(tmp_path):
    assert lock_path(tmp_path / "rocm-5.6.x.yaml") == tmp_path / "rocm-5.6.x.lock"


def test_a_lock_pins_what_the_manifest_does_not(tmp_path):
    path = write(tmp_path, WHOLE, lock(hip=(OTHER, "rocm-5.6.x"), pinned=(OTHER, "rocm-5.6.x"), gone=(OTHER, "x")))
    components = load_manifest(path).components
    assert components["hip"].source.commit == OTHER
    assert components["clr"].source.commit == OTHER
    assert components["pinned"].source.commit == COMMIT
    assert components["rocblas"].source.commit is None


def test_a_lock_of_another_ref_has_nothing_to_say(tmp_path):
    path = write(tmp_path, WHOLE, lock(hip=(OTHER, "rocm-5.5.x")))
    assert load_manifest(path).components["hip"].source.commit is None


def test_a_lock_of_another_branch_is_refused(tmp_path):
    text = lock(hip=(OTHER, "x")).replace("branch: small", "branch: big")
    assert problems(tmp_path, WHOLE, text) == [("small.lock:2:9", "branch: this is the lock file of big", None)]


def test_a_lock_is_checked_like_every_document(tmp_path):
    found = problems(tmp_path, WHOLE, lock(hip=("abc", "x")))
    assert found == [("small.lock:4:17", 'sources.hip.commit: "abc" is not a commit of 40 hexadecimal digits', None)]
