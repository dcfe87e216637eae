"""Sources of every kind, from the manifest's words to the tree a component is built from."""

from __future__ import annotations

import asyncio
import functools
import http.server
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rocmbuild.errors import EditError, FetchError, RocmBuildError, UsageError
from rocmbuild.model.condition import Facts
from rocmbuild.model.manifest import LayoutRule, Source
from rocmbuild.model.recipe import Edit, Resolved
from rocmbuild.model.recipe_reader import load_recipe
from rocmbuild.process import BASE_ENVIRONMENT, Runner
from rocmbuild.run.sourcing import PreparedSource, Sourcing
from rocmbuild.tools.apt import ArchiveFinder
from rocmbuild.tools.download import Downloads
from rocmbuild.tools.git import Git
from rocmbuild.workspace import sha256_file, tree_digest

from .forge import WHEN, Forge, Repository

QUIET = {**BASE_ENVIRONMENT, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
WHERE = "manifests/x.yaml:7:3"


@pytest.fixture
def recipe(tmp_path: Path) -> Resolved:
    directory = tmp_path / "recipes" / "rocr"
    (directory / "source").mkdir(parents=True)
    (directory / "source" / "VERSION").write_text("5.6.1\n")
    (directory / "recipe.yaml").write_text("format: 1\ncomponent: rocr\nsummary: a runtime\n")
    facts = Facts(version="1.9.0", release="5.6.1", llvm="16", arch="amd64", components=frozenset({"rocr"}))
    return load_recipe(directory).resolve(facts)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on the loopback: its address and the directory it serves."""
    root = tmp_path / "web"
    root.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", root
        server.shutdown()


@pytest.fixture
def sourcing(tmp_path: Path, web: tuple[str, Path]) -> Sourcing:
    return make_sourcing(tmp_path, web[0])


def make_sourcing(tmp_path: Path, address: str, *, offline: bool = False) -> Sourcing:
    git = Git(tmp_path / "cache/git", QUIET, offline=offline, pause=0.01)
    finder = ArchiveFinder(QUIET, mirror=address)
    return Sourcing(git, Downloads(tmp_path / "cache/downloads", finder, git.rewrite, QUIET, offline))


def edit(find: str, to: str, file: str = "CMakeLists.txt", where: str = "recipe.yaml:9:5") -> Edit:
    return Edit(file=file, why="a reason", find=find, replace=to, where=where)


def tarball(path: Path, content: dict[str, str], when: int = WHEN) -> Path:
    tree = path.parent / f"{path.name}.tree"
    for name, data in content.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(data)
        os.utime(tree / name, (when, when))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tree, "x-1.0")
    subprocess.run(["rm", "-r", str(tree)], check=True)
    return path


def prepare(sourcing: Sourcing, source: Source, recipe: Resolved, target: Path, subdir: str = ".") -> PreparedSource:
    async def run() -> PreparedSource:
        await sourcing.fetch(source, Runner())
        return await sourcing.prepare(source, subdir, recipe, target, Runner())

    return asyncio.run(run())


def failure(
    sourcing: Sourcing, source: Source, recipe: Resolved, target: Path, kind: type[RocmBuildError]
) -> RocmBuildError:
    with pytest.raises(kind) as caught:
        prepare(sourcing, source, recipe, target)
    return caught.value


def git_source(repository: Repository, **fields: object) -> Source:
    plain = Source("rocr", "git", urls=(repository.url,), ref="rocm-5.6.x", where=WHERE)
    return replace(plain, **fields)  # type: ignore[arg-type]


# ---- git


def test_a_git_source_becomes_an_edited_tree(tmp_path: Path, sourcing: Sourcing, recipe: Resolved) -> None:
    forge = Forge(tmp_path / "forge")
    repository = forge.create("ROCm/rocr", {"src/CMakeLists.txt": "project(rocr)\n", "README.md": "x"})
    recipe = replace(recipe, edits=(edit(r"project\((.*)\)", r"project(\1 CXX)"),))
    target = tmp_path / "src/rocr"
    prepared = prepare(sourcing, git_source(repository), recipe, target, "src")
    assert (target / "CMakeLists.txt").read_text() == "project(rocr CXX)\n"
    assert [str(outcome) for outcome in prepared.outcomes] == ["applied once to CMakeLists.txt: a reason"]
    assert prepared.tree_digest == tree_digest(target)
    assert (target / "CMakeLists.txt").stat().st_mtime == WHEN
    assert [path.name for path in target.parent.iterdir() if path.name.startswith(".")] == []


def test_identify_pins_the_commit_and_fetches_nothing(tmp_path: Path, sourcing: Sourcing) -> None:
    repository = Forge(tmp_path / "forge").create("ROCm/rocr", {"a": "1"})
    pinned = asyncio.run(sourcing.identify(git_source(repository), Runner()))
    assert pinned.commit == repository.head()
    assert not (tmp_path / "cache").exists()
    assert asyncio.run(sourcing.identify(pinned, Runner())) == pinned


def test_a_wrong_ref_points_at_the_manifest(tmp_path: Path, sourcing: Sourcing, recipe: Resolved) -> None:
    repository = Forge(tmp_path / "forge").create("ROCm/rocr", {"a": "1"})
    error = failure(sourcing, git_source(repository, ref="rocm-5.6.y"), recipe, tmp_path / "t", UsageError)
    assert str(error) == f"{WHERE}: {repository.url}: no branch or tag 'rocm-5.6.y'"
    assert error.hint == "did you mean rocm-5.6.x?"


def test_a_pinned_commit_is_used_though_the_branch_moved(tmp_path: Path, sourcing: Sourcing, recipe: Resolved) -> None:
    repository = Forge(tmp_path / "forge").create("ROCm/rocr", {"a": "1"})
    pinned = git_source(repository, commit=repository.head())
    repository.commit({"a": "2"})
    prepare(sourcing, pinned, recipe, tmp_path / "tree")
    assert (tmp_path / "tree/a").read_text() == "1"


def test_offline_prepares_from_the_cache_alone(tmp_path: Path, web: tuple[str, Path], recipe: Resolved) -> None:
    online, offline = make_sourcing(tmp_path, web[0]), make_sourcing(tmp_path, web[0], offline=True)
    forge = Forge(tmp_path / "forge")
    source = git_source(forge.create("ROCm/rocr", {"a": "1"}))
    error = failure(offline, source, recipe, tmp_path / "t", FetchError)
    assert "this run is offline" in error.message and error.where == WHERE
    asyncio.run(online.fetch(source, Runner()))
    forge.path.rename(tmp_path / "gone")
    prepare(offline, source, recipe, tmp_path / "t")
    assert (tmp_path / "t/a").read_text() == "1"


# ---- archives


def test_a_pool_file_is_fetched_once_and_checked(
    tmp_path: Path, web: tuple[str, Path], sourcing: Sourcing, recipe: Resolved
) -> None:
    name = "r/rocr/rocr_5.6.1+dfsg.orig.tar.gz"
    file = tarball(web[1] / "pool/main" / name, {"CMakeLists.txt": "project(rocr)\n", "lib/a.c": "int a;\n"})
    source = Source("rocr", "debian", path=name, sha256=sha256_file(file), where=WHERE)
    prepare(sourcing, source, recipe, tmp_path / "t")
    assert (tmp_path / "t/lib/a.c").stat().st_mtime == WHEN
    file.unlink()
    offline = make_sourcing(tmp_path, web[0], offline=True)
    prepare(offline, source, recipe, tmp_path / "again", "lib")
    assert (tmp_path / "again/a.c").is_file()
    cached = tmp_path / "cache/downloads" / source.sha256 / "rocr_5.6.1+dfsg.orig.tar.gz"
    cached.write_bytes(b"damaged")
    assert "is damaged in the cache" in failure(offline, source, recipe, tmp_path / "x", FetchError).message
    error = failure(sourcing, source, recipe, tmp_path / "x", FetchError)
    assert f"pool/main/{name} is not in the archive (any more)" in error.message
    assert error.hint is not None
    assert all(way in error.hint for way in ("newer manifest", "keeps old files", "--source"))


def test_a_wrong_sum_is_no_source(tmp_path: Path, web: tuple[str, Path], sourcing: Sourcing, recipe: Resolved) -> None:
    tarball(web[1] / "x.tar.gz", {"a": "1"})
    source = Source("x", "url", urls=(f"{web[0]}x.tar.gz",), sha256="0" * 64, where=WHERE)
    error = failure(sourcing, source, recipe, tmp_path / "t", FetchError)
    assert "x.tar.gz has not the sha256 sum that the manifest pins" in error.message
    local = replace(source, urls=((web[1] / "x.tar.gz").as_uri(),))
    assert "the manifest pins 000000" in failure(sourcing, local, recipe, tmp_path / "t", FetchError).message
    assert not list((tmp_path / "cache/downloads").rglob("*.gz"))


def test_an_address_is_fetched_and_a_gone_one_explained(
    tmp_path: Path, web: tuple[str, Path], sourcing: Sourcing, recipe: Resolved
) -> None:
    file = tarball(web[1] / "new/x.tar.gz", {"a": "1"})
    urls = (f"{web[0]}old/x.tar.gz", f"{web[0]}new/x.tar.gz")
    source = Source("x", "url", urls=urls, sha256=sha256_file(file), where=WHERE)
    prepare(sourcing, source, recipe, tmp_path / "t")
    assert (tmp_path / "t/a").read_text() == "1"
    gone = replace(source, urls=urls[:1], sha256="1" * 64)
    error = failure(sourcing, gone, recipe, tmp_path / "u", FetchError)
    assert str(error) == f"{WHERE}: {urls[0]} is gone (404)"
    assert error.hint is not None and "--source" in error.hint


def test_a_mirror_serves_files_too(tmp_path: Path, web: tuple[str, Path], recipe: Resolved) -> None:
    file = tarball(web[1] / "x.tar.gz", {"a": "1"})
    git = Git(tmp_path / "cache/git", QUIET, mirrors=(("https://example.org/", web[1].as_uri() + "/"),))
    sourcing = Sourcing(git, Downloads(tmp_path / "cache/downloads", ArchiveFinder(QUIET), git.rewrite, QUIET))
    source = Source("x", "url", urls=("https://example.org/x.tar.gz",), sha256=sha256_file(file))
    prepare(sourcing, source, recipe, tmp_path / "t")
    assert (tmp_path / "t/a").read_text() == "1"


def test_an_arranged_and_edited_source(
    tmp_path: Path, web: tuple[str, Path], sourcing: Sourcing, recipe: Resolved
) -> None:
    file = tarball(web[1] / "x.tar.gz", {"usr/include/hip/a.h": "one\n", "usr/include/hip/b.h": "", "etc/c": ""})
    source = Source(
        "hip",
        "url",
        urls=(f"{web[0]}x.tar.gz",),
        sha256=sha256_file(file),
        layout=(LayoutRule("include/hip/*.h", "include/", ("b.h",)), LayoutRule("", "bin/")),
        edits=(edit("one", "two", "include/a.h"),),
        where=WHERE,
    )
    error = failure(sourcing, source, recipe, tmp_path / "t", UsageError)
    assert error.where == WHERE and "nothing matches 'include/hip/*.h'" in error.message
    source = replace(source, layout=(replace(source.layout[0], source="usr/include/hip/*.h"), source.layout[1]))
    prepared = prepare(sourcing, source, recipe, tmp_path / "t")
    assert sorted(path.name for path in (tmp_path / "t").rglob("*")) == ["a.h", "bin", "include"]
    assert (tmp_path / "t/include/a.h").read_text() == "two\n"
    assert len(prepared.outcomes) == 1


# ---- directories


def test_a_local_directory_gets_a_private_copy(tmp_path: Path, sourcing: Sourcing, recipe: Resolved) -> None:
    own = tmp_path / "own"
    (own / ".git").mkdir(parents=True)
    (own / "CMakeLists.txt").write_text("project(x)\n")
    recipe = replace(recipe, edits=(edit("x", "y"),))
    source = Source("rocr", "local", path=str(own))
    first = prepare(sourcing, source, recipe, tmp_path / "t")
    assert (own / "CMakeLists.txt").read_text() == "project(x)\n"
    assert not (tmp_path / "t/.git").exists()
    (own / ".git/index").touch()  # no change of the source
    assert prepare(sourcing, source, recipe, tmp_path / "t") == first
    (own / "new.c").touch()
    assert prepare(sourcing, source, recipe, tmp_path / "t").tree_digest != first.tree_digest


def test_a_local_directory_that_changes_after_the_plan_is_refused(
    tmp_path: Path, sourcing: Sourcing, recipe: Resolved
) -> None:
    """What is made of it would be stamped with keys of what it was."""
    own = tmp_path / "own"
    own.mkdir()
    planned = Source("rocr", "local", path=str(own), sha256=tree_digest(own))
    (own / "new.c").touch()
    error = failure(sourcing, planned, recipe, tmp_path / "t", UsageError)
    assert f"{own} has changed since this run was planned" in error.message
    assert error.hint == "run the same command again"
    assert not (tmp_path / "t").exists()


def test_a_local_directory_must_exist_and_not_hold_the_workspace(
    tmp_path: Path, sourcing: Sourcing, recipe: Resolved
) -> None:
    missing = Source("rocr", "local", path=str(tmp_path / "none"))
    error = failure(sourcing, missing, recipe, tmp_path / "t", UsageError)
    assert f"there is no directory {tmp_path / 'none'}" in error.message
    assert error.hint == "name one with --source rocr=DIRECTORY"
    (tmp_path / "own").mkdir()
    around = Source("rocr", "local", path=str(tmp_path / "own"))
    error = failure(sourcing, around, recipe, tmp_path / "own/w/src/rocr", UsageError)
    assert "the workspace lies in" in error.message


def test_a_bundled_source_comes_with_its_recipe(tmp_path: Path, sourcing: Sourcing, recipe: Resolved) -> None:
    source = Source("rocr", "bundled", path="source")
    first = prepare(sourcing, source, recipe, tmp_path / "t")
    assert (tmp_path / "t/VERSION").read_text() == "5.6.1\n"
    (recipe.directory / "source/VERSION").write_text("5.6.2\n")
    assert prepare(sourcing, source, recipe, tmp_path / "t").tree_digest != first.tree_digest


# ---- again, interrupted, failed


def test_the_same_inputs_leave_the_tree_alone(tmp_path: Path, sourcing: Sourcing, recipe: Resolved) -> None:
    source = git_source(Forge(tmp_path / "forge").create("ROCm/rocr", {"a": "1"}))
    first = prepare(sourcing, source, recipe, tmp_path / "t")
    before = (tmp_path / "t").stat().st_ino
    assert prepare(sourcing, source, recipe, tmp_path / "t") == first
    assert (tmp_path / "t").stat().st_ino == before


def test_what_a_build_writes_into_its_source_stays(tmp_path: Path, sourcing: Sourcing, recipe: Resolved) -> None:
    source = git_source(Forge(tmp_path / "forge").create("ROCm/rocr", {"a": "1"}))
    writing = replace(recipe, writable_source=True)
    first = prepare(sourcing, source, writing, tmp_path / "t")
    (tmp_path / "t/generated").touch()
    assert prepare(sourcing, source, writing, tmp_path / "t") == first
    assert (tmp_path / "t/generated").exists()


def test_a_tree_from_the_future_is_of_the_present(tmp_path: Path, sourcing: Sourcing, recipe: Resolved) -> None:
    source = git_source(Forge(tmp_path / "forge").create("ROCm/rocr", {"a": "1", "b": "2"}))
    first = prepare(sourcing, source, recipe, tmp_path / "t")
    os.utime(tmp_path / "t/a", (2**32, 2**32))
    assert prepare(sourcing, source, recipe, tmp_path / "t") == first
    assert WHEN < (tmp_path / "t/a").stat().st_mtime <= time.time()
    assert (tmp_path / "t/b").stat().st_mtime == WHEN


def test_a_tree_that_is_not_what_was_prepared_is_made_again(
    tmp_path: Path, sourcing: Sourcing, recipe: Resolved
) -> None:
    source = git_source(Forge(tmp_path / "forge").create("ROCm/rocr", {"a": "1", "b": "2"}))
    first = prepare(sourcing, source, recipe, tmp_path / "t")
    (tmp_path / "t/a").write_text("3")
    assert prepare(sourcing, source, recipe, tmp_path / "t") == first
    assert (tmp_path / "t/a").read_text() == "1"
    assert (tmp_path / "t/a").stat().st_mtime > (tmp_path / "t/b").stat().st_mtime == WHEN, "Ninja compiles that one"


def test_a_changed_edit_touches_only_the_files_it_changes(tmp_path: Path, sourcing: Sourcing, recipe: Resolved) -> None:
    source = git_source(Forge(tmp_path / "forge").create("ROCm/rocr", {"CMakeLists.txt": "x\n", "a.c": "int a;\n"}))
    prepare(sourcing, source, replace(recipe, edits=(edit("x", "y"),)), tmp_path / "t")
    built = time.time()
    prepare(sourcing, source, replace(recipe, edits=(edit("x", "z"),)), tmp_path / "t")
    assert (tmp_path / "t/a.c").stat().st_mtime == WHEN
    assert (tmp_path / "t/CMakeLists.txt").stat().st_mtime >= built - 1


def test_an_older_commit_is_seen_as_a_change(tmp_path: Path, sourcing: Sourcing, recipe: Resolved) -> None:
    repository = Forge(tmp_path / "forge").create("ROCm/rocr", {"a.c": "1\n", "b.c": "1\n"})
    first = repository.head()
    repository.commit({"a.c": "2\n"})
    prepare(sourcing, git_source(repository), recipe, tmp_path / "t")
    built = time.time()
    prepare(sourcing, git_source(repository, commit=first), recipe, tmp_path / "t")
    assert (tmp_path / "t/a.c").stat().st_mtime >= built - 1
    assert (tmp_path / "t/b.c").stat().st_mtime == WHEN


def test_a_failed_edit_leaves_the_old_tree_whole(tmp_path: Path, sourcing: Sourcing, recipe: Resolved) -> None:
    source = git_source(Forge(tmp_path / "forge").create("ROCm/rocr", {"CMakeLists.txt": "x\n"}))
    first = prepare(sourcing, source, recipe, tmp_path / "w/t")
    wrong = replace(recipe, edits=(edit("x", "y"), edit("nothing", "", where="recipe.yaml:12:5")))
    error = failure(sourcing, source, wrong, tmp_path / "w/t", EditError)
    assert error.where == "recipe.yaml:12:5"
    assert (tmp_path / "w/t/CMakeLists.txt").read_text() == "x\n"
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == ["t"]
    assert prepare(sourcing, source, recipe, tmp_path / "w/t") == first


def test_what_a_killed_run_left_is_removed(tmp_path: Path, sourcing: Sourcing, recipe: Resolved) -> None:
    source = git_source(Forge(tmp_path / "forge").create("ROCm/rocr", {"a": "1"}))
    leftovers = (".t.abcd1234", ".t.abcd1234~x_y_z_12")
    others = (".t.more.abcd1234", ".t.abcd1234.more", ".tt.abcd1234")
    for name in (*leftovers, *others):
        (tmp_path / "w" / name).mkdir(parents=True)
    prepare(sourcing, source, recipe, tmp_path / "w/t")
    assert {path.name for path in (tmp_path / "w").iterdir()} == {"t", "t.json", *others}


def test_a_tree_that_was_removed_is_made_again(tmp_path: Path, sourcing: Sourcing, recipe: Resolved) -> None:
    source = git_source(Forge(tmp_path / "forge").create("ROCm/rocr", {"a": "1"}))
    first = prepare(sourcing, source, recipe, tmp_path / "t")
    subprocess.run(["rm", "-r", str(tmp_path / "t")], check=True)
    assert prepare(sourcing, source, recipe, tmp_path / "t") == first
    assert (tmp_path / "t/a").is_file()
