"""Git against a real forge on this machine: refs, moves, mirrors, interruptions, damage, silence."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rocmbuild.errors import FetchError, RocmBuildError, UsageError
from rocmbuild.process import BASE_ENVIRONMENT, Runner
from rocmbuild.tools.git import ATTEMPTS, Git
from rocmbuild.tools.gitcache import DamagedCache, Repository

from .forge import WHEN, Forge, proxy_that_hangs_up, rocm_forge, server

OLD, NEW = "https://github.com/RadeonOpenCompute/", "https://github.com/ROCm/"
QUIET = {**BASE_ENVIRONMENT, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Forge:
    return rocm_forge(tmp_path_factory.mktemp("forge"))


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path / "cache", QUIET, pause=0.01, patience=20)


def export(git: Git, urls: tuple[str, ...], ref: str, target: Path, **options: Any) -> str:
    """Resolve and export a ref as one run does; return the commit."""

    async def run() -> str:
        runner = Runner()
        _, commit = await git.resolve(urls, ref, runner)
        await git.fetch(urls, commit, ref, runner, submodules=options.get("submodules", False))
        target.mkdir()
        assert await git.export(urls, commit, ref, target, runner, **options) == WHEN
        return commit

    return asyncio.run(run())


def failure(work: Coroutine[Any, Any, Any], kind: type[RocmBuildError] = FetchError) -> RocmBuildError:
    with pytest.raises(kind) as caught:
        asyncio.run(work)
    return caught.value


def cached(git: Git, url: str) -> Repository:
    return git.repository(url)


# ---- refs


@pytest.mark.parametrize(
    ("ref", "content"),
    [
        ("rocm-5.6.x", "HIP 5.6.1"),
        ("release/rocm-rel-5.6", "HIP 5.6.2"),
        ("rocm-5.6.0", "HIP"),
        ("refs/tags/rocm-5.6.1", "HIP 5.6.1"),
        ("HEAD", "HIP 5.6.1"),
    ],
)
def test_a_branch_or_a_tag_is_fetched(forge: Forge, git: Git, tmp_path: Path, ref: str, content: str) -> None:
    export(git, (f"{forge.url}ROCm/HIP",), ref, tmp_path / "tree")
    assert (tmp_path / "tree/README.md").read_text() == content
    assert not (tmp_path / "tree/.git").exists()


def test_an_annotated_tag_is_the_commit_it_points_to(forge: Forge, git: Git) -> None:
    url = f"{forge.url}ROCm/HIP"
    _, tagged = asyncio.run(git.resolve((url,), "rocm-5.6.1", Runner()))
    _, branch = asyncio.run(git.resolve((url,), "rocm-5.6.x", Runner()))
    assert tagged == branch


def test_a_misspelt_ref_names_the_repository_and_what_looks_like_it(forge: Forge, git: Git) -> None:
    error = failure(git.resolve((f"{forge.url}ROCm/HIP",), "rocm-5.6.y", Runner()), UsageError)
    assert error.message == f"{forge.url}ROCm/HIP: no branch or tag 'rocm-5.6.y'"
    assert error.hint is not None and "did you mean rocm-5.6.x or" in error.hint
    assert error.exit_code == 2


def test_a_shortened_commit_is_explained(forge: Forge, git: Git) -> None:
    error = failure(git.resolve((f"{forge.url}ROCm/HIP",), "604cc1cbc9", Runner()), UsageError)
    assert error.hint == "a commit needs all of its 40 digits"


def test_a_missing_repository_is_not_taken_for_a_network_failure(forge: Forge, git: Git) -> None:
    error = failure(git.resolve((f"{forge.url}ROCm/HPI",), "rocm-5.6.x", Runner()))
    assert "ROCm/HPI: no such repository" in error.message
    assert "--offline" not in (error.hint or "")


def test_a_moved_organisation_is_found_at_its_next_address(tmp_path: Path, git: Git) -> None:
    forge = Forge(tmp_path / "forge")
    commit = forge.create("RadeonOpenCompute/rocminfo", {"a": "1"}).head()
    urls = (f"{forge.url}RadeonOpenCompute/rocminfo", f"{forge.url}ROCm/rocminfo")
    assert asyncio.run(git.resolve(urls, "rocm-5.6.x", Runner())) == (urls[0], commit)
    forge.move("RadeonOpenCompute/rocminfo", "ROCm/rocminfo")
    assert asyncio.run(git.resolve(urls, "rocm-5.6.x", Runner())) == (urls[1], commit)
    assert export(git, urls, "rocm-5.6.x", tmp_path / "tree") == commit
    assert cached(git, urls[0]).path.is_dir()  # the cache keeps its name, whoever answers


def test_a_plain_clone_serves_as_a_mirror(forge: Forge, git: Git, tmp_path: Path) -> None:
    clone = tmp_path / "HIP"
    subprocess.run(["git", "clone", "--quiet", f"{forge.url}ROCm/HIP", str(clone)], env=QUIET, check=True)
    subprocess.run(["git", "checkout", "--quiet", "rocm-5.6.0"], cwd=clone, env=QUIET, check=True)
    subprocess.run(["git", "branch", "--quiet", "-D", "rocm-5.6.x"], cwd=clone, env=QUIET, check=True)
    export(git, (clone.as_uri(),), "release/rocm-rel-5.6", tmp_path / "tree")
    assert (tmp_path / "tree/README.md").read_text() == "HIP 5.6.2"


def test_an_address_without_the_ref_is_passed_over(tmp_path: Path, git: Git) -> None:
    forge = Forge(tmp_path / "forge")
    forge.create("old/x", {"a": "1"}, branch="rocm-5.0.x")
    commit = forge.create("new/x", {"a": "2"}).head()
    urls = (f"{forge.url}old/x", f"{forge.url}new/x")
    assert asyncio.run(git.resolve(urls, "rocm-5.6.x", Runner())) == (urls[1], commit)
    error = failure(git.resolve(urls, "rocm-7", Runner()), UsageError)
    assert f"{urls[0]} and {urls[1]}: no branch or tag 'rocm-7'" in error.message


def test_every_address_that_failed_is_named(tmp_path: Path, git: Git) -> None:
    urls = (f"file://{tmp_path}/old/x", f"file://{tmp_path}/new/x")
    error = failure(git.resolve(urls, "rocm-5.6.x", Runner()))
    assert error.message.startswith("cannot fetch rocm-5.6.x from any of its addresses:")
    assert all(url in error.message for url in urls)


# ---- mirrors and the user's git settings


def test_the_longest_mirror_prefix_wins(git: Git) -> None:
    git = replace(git, mirrors=(("https://github.com/", "/all/"), (NEW, "/rocm/")))
    assert git.rewrite(f"{NEW}HIP") == "/rocm/HIP"
    assert git.rewrite(f"{OLD}HIP") == "/all/RadeonOpenCompute/HIP"
    assert git.rewrite("https://example.org/HIP") == "https://example.org/HIP"


def test_a_mirror_serves_and_shares_the_cache_of_the_original(forge: Forge, git: Git, tmp_path: Path) -> None:
    mirrored = replace(git, mirrors=((NEW, f"{forge.url}ROCm/"),))
    commit = export(mirrored, (f"{NEW}HIP",), "rocm-5.6.x", tmp_path / "online")
    offline = replace(git, offline=True)
    assert export(offline, (f"{NEW}HIP",), "rocm-5.6.x", tmp_path / "offline") == commit


def test_instead_of_rules_of_the_user_hold(forge: Forge, git: Git, tmp_path: Path) -> None:
    config = tmp_path / "gitconfig"
    config.write_text(f'[url "{forge.url}ROCm/"]\n\tinsteadOf = {NEW}\n')
    git = replace(git, environment={**QUIET, "GIT_CONFIG_GLOBAL": str(config)})
    export(git, (f"{NEW}HIP",), "rocm-5.6.x", tmp_path / "tree")
    assert (tmp_path / "tree/CMakeLists.txt").is_file()


def test_variables_of_an_enclosing_git_do_no_harm(forge: Forge, git: Git, tmp_path: Path) -> None:
    hook = {**QUIET, "GIT_DIR": str(tmp_path / "x"), "GIT_INDEX_FILE": str(tmp_path / "y"), "GIT_WORK_TREE": "/"}
    export(replace(git, environment=hook), (f"{forge.url}ROCm/HIP",), "rocm-5.6.x", tmp_path / "tree")
    assert (tmp_path / "tree/README.md").is_file()
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("url", ["ext::sh -c 'touch pwned'", "fd::17", "ftp://example.org/x", "--upload-pack=touch x"])
def test_addresses_that_run_programs_are_refused(git: Git, url: str) -> None:
    error = failure(git.resolve((url,), "main", Runner()), UsageError)
    assert url.split("::", maxsplit=1)[0] in error.message


# ---- trees


def test_files_come_out_as_committed(tmp_path: Path, git: Git) -> None:
    forge = Forge(tmp_path / "forge")
    content = {
        ".gitattributes": "*.txt text eol=crlf\n*.c ident\nsecret export-ignore\nv export-subst\n"
        "u working-tree-encoding=UTF-16\n",
        "a.txt": "one\ntwo\n",
        "b.c": "/* $Id$ */\n",
        "secret": "kept",
        "v": "$Format:%H$\n",
        "u": "plain\n",
        "binary": bytes(range(256)),
        "sub/run.sh": "#!/bin/sh\n",
    }
    tree = tmp_path / "content"
    for name, data in content.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data.encode() if isinstance(data, str) else data)
    (tree / "sub/run.sh").chmod(0o755)
    (tree / "link").symlink_to("sub/run.sh")
    repository = forge.create("x/y", {"empty": ""})
    repository.git("config", "core.attributesFile", "/dev/null")
    (repository.work / ".git/info").mkdir(exist_ok=True)
    (repository.work / ".git/info/attributes").write_text("* -text -ident !working-tree-encoding\n")
    subprocess.run(["cp", "-a", f"{tree}/.", str(repository.work)], check=True)
    repository.commit()
    export(git, (repository.url,), "rocm-5.6.x", tmp_path / "tree")
    for name, data in content.items():
        assert (tmp_path / "tree" / name).read_bytes() == (data.encode() if isinstance(data, str) else data), name
    assert os.access(tmp_path / "tree/sub/run.sh", os.X_OK)
    assert not os.access(tmp_path / "tree/a.txt", os.X_OK)
    assert (tmp_path / "tree/link").readlink() == Path("sub/run.sh")


def test_one_repository_serves_several_components(tmp_path: Path, git: Git) -> None:
    forge = Forge(tmp_path / "forge")
    url = forge.create("ROCm/llvm-project", {"amd/comgr/a": "1", "amd/hipcc/b": "2", "clang/c": "3"}).url
    export(git, (url,), "rocm-5.6.x", tmp_path / "comgr", subdir="amd/comgr")
    export(git, (url,), "rocm-5.6.x", tmp_path / "hipcc", subdir="amd/hipcc")
    assert [path.name for path in (tmp_path / "comgr").iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "hipcc").iterdir()] == ["b"]
    (tmp_path / "x").mkdir()
    commit = asyncio.run(git.resolve((url,), "rocm-5.6.x", Runner()))[1]
    for wrong in ("amd/comgrr", "amd/comgr/a"):
        error = failure(git.export((url,), commit, "", tmp_path / "x", Runner(), subdir=wrong), UsageError)
        assert f"has no directory {wrong}" in error.message
        assert error.hint is not None and "amd/comgr" in error.hint


def test_submodules_come_at_their_commits_from_relative_addresses(tmp_path: Path, git: Git) -> None:
    forge = Forge(tmp_path / "forge")
    inner = forge.create("ROCm/inner", {"i": "1"})
    middle = forge.create("ROCm/middle", {"m": "1"})
    middle.submodule("deep/inner", "../inner.git", inner.head())
    outer = forge.create("ROCm/outer", {"lib/o": "1"})
    outer.submodule("lib/middle", "../middle", middle.head())
    inner.commit({"i": "2"})
    mirrored = replace(git, mirrors=((NEW, f"{forge.url}ROCm/"),))
    export(mirrored, (f"{NEW}outer.git",), "rocm-5.6.x", tmp_path / "tree", submodules=True)
    assert (tmp_path / "tree/lib/middle/deep/inner/i").read_text() == "1"
    export(
        replace(git, offline=True), (f"{NEW}outer.git",), "rocm-5.6.x", tmp_path / "off", submodules=True, subdir="lib"
    )
    assert (tmp_path / "off/middle/deep/inner/i").read_text() == "1"


def test_a_submodule_must_not_name_a_path_of_this_machine(tmp_path: Path, git: Git) -> None:
    forge = Forge(tmp_path / "forge")
    private = forge.create("private/keys", {"key": "secret"})
    outer = forge.create("ROCm/outer", {"o": "1"})
    outer.submodule("keys", private.url, private.head())
    mirrored = replace(git, mirrors=((NEW, f"{forge.url}ROCm/"),))
    error = failure(mirrored.fetch((f"{NEW}outer",), outer.head(), "", Runner(), submodules=True))
    assert f"{NEW}outer has a submodule at {private.url}, a path of this machine" in error.message


def test_a_submodule_without_an_address_is_an_error(tmp_path: Path, git: Git) -> None:
    outer = Forge(tmp_path / "forge").create("ROCm/outer", {"o": "1"})
    outer.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},stray")
    outer.git("commit", "--quiet", "--message", "stray")
    outer.push()
    error = failure(git.fetch((outer.url,), outer.head(), "", Runner(), submodules=True))
    assert "no url for the submodule stray" in error.message


# ---- commits and what servers allow


def test_a_commit_behind_a_branch_is_fetched_alone(tmp_path: Path, git: Git) -> None:
    repository = Forge(tmp_path / "forge").create("x/y", {"a": "1"})
    first = repository.head()
    repository.commit({"a": "2"})
    found = asyncio.run(git.fetch((repository.url,), first, "rocm-5.6.x", Runner()))
    assert asyncio.run(found.holds(first, Runner()))
    assert (found.path / "shallow").is_file()


@pytest.mark.parametrize("ref", ["rocm-5.6.x", ""])
def test_a_server_that_refuses_commits_gives_them_with_their_branch(tmp_path: Path, git: Git, ref: str) -> None:
    repository = Forge(tmp_path / "forge").create("x/y", {"a": "1"})
    first = repository.head()
    second = repository.commit({"a": "2"})
    repository.commit({"a": "3"})
    old = {**QUIET, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.version", "GIT_CONFIG_VALUE_0": "0"}
    git = replace(git, environment=old)
    for commit in (second, first):  # the first of them makes the cache shallow or full, the other must cope
        found = asyncio.run(git.fetch((repository.url,), commit, ref, Runner()))
        assert asyncio.run(found.holds(commit, Runner()))


def test_a_commit_that_nobody_has_is_an_error(forge: Forge, git: Git) -> None:
    error = failure(git.fetch((f"{forge.url}ROCm/HIP",), "1" * 40, "rocm-5.6.x", Runner()))
    assert f"cannot fetch commit {'1' * 40} of rocm-5.6.x from {forge.url}ROCm/HIP" in error.message
    assert error.hint is not None and "rewritten" in error.hint


# ---- offline


def test_offline_uses_what_was_fetched_and_says_what_was_not(forge: Forge, git: Git, tmp_path: Path) -> None:
    url, offline = f"{forge.url}ROCm/HIP", replace(git, offline=True)
    error = failure(offline.resolve((url,), "rocm-5.6.x", Runner()))
    assert error.message == f"the cache has no rocm-5.6.x of {url}, and this run is offline"
    assert error.hint == "run once without --offline"
    commit = export(git, (url,), "release/rocm-rel-5.6", tmp_path / "tree")
    assert export(offline, (url,), "release/rocm-rel-5.6", tmp_path / "again") == commit
    error = failure(offline.resolve((url,), "rocm-5.6.1", Runner()))
    assert error.hint == "run once without --offline; the cache has release/rocm-rel-5.6"
    error = failure(offline.fetch((url,), "2" * 40, "", Runner()))
    assert f"the cache has no commit {'2' * 40}" in error.message


def test_a_moved_branch_is_remembered_as_it_was_fetched_last(tmp_path: Path, git: Git) -> None:
    repository = Forge(tmp_path / "forge").create("x/y", {"a": "1"})
    export(git, (repository.url,), "rocm-5.6.x", tmp_path / "one")
    second = repository.commit({"a": "2"})
    export(git, (repository.url,), "rocm-5.6.x", tmp_path / "two")
    repository.commit({"a": "3"})
    offline = replace(git, offline=True)
    assert asyncio.run(offline.resolve((repository.url,), "rocm-5.6.x", Runner()))[1] == second


# ---- interruptions and damage


def test_what_a_killed_git_left_behind_is_tidied_up(tmp_path: Path, git: Git) -> None:
    repository = Forge(tmp_path / "forge").create("x/y", {"a": "1"})
    export(git, (repository.url,), "rocm-5.6.x", tmp_path / "one")
    cache = cached(git, repository.url).path
    for name in ("shallow.lock", "config.lock", "packed-refs.lock", "refs/rocmbuild/refs/rocm-5.6.x.lock"):
        (cache / name).touch()
    (cache / "objects/pack/tmp_pack_x1y2z3").write_bytes(b"PACK" + bytes(100))
    repository.commit({"a": "2"})
    export(git, (repository.url,), "rocm-5.6.x", tmp_path / "two")
    assert (tmp_path / "two/a").read_text() == "2"
    assert not [path for path in cache.rglob("*") if path.suffix == ".lock" or path.name.startswith("tmp_")]


def test_a_cache_that_was_never_finished_is_filled(tmp_path: Path, git: Git) -> None:
    repository = Forge(tmp_path / "forge").create("x/y", {"a": "1"})
    cache = cached(git, repository.url).path
    (cache / "objects").mkdir(parents=True)
    (cache / "config").write_text("[core\nbroken")
    export(git, (repository.url,), "rocm-5.6.x", tmp_path / "tree")
    assert (tmp_path / "tree/a").read_text() == "1"


def truncate(pack: Path) -> None:
    pack.chmod(0o644)
    os.truncate(pack, pack.stat().st_size // 2)


def flip(pack: Path) -> None:
    """Damage the content of the pack's largest object, where only reading it shows."""
    pack.chmod(0o644)
    data = bytearray(pack.read_bytes())
    for position in range(len(data) // 2, len(data) // 2 + 64):
        data[position] ^= 0xFF
    pack.write_bytes(data)


@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink])
def test_a_damaged_cache_is_fetched_again(tmp_path: Path, git: Git, harm: Callable[[Path], None]) -> None:
    repository = Forge(tmp_path / "forge").create("x/y", {"a": os.urandom(20000), "b": "1"})
    config = {**QUIET, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "fetch.unpackLimit", "GIT_CONFIG_VALUE_0": "1"}
    git = replace(git, environment=config)
    commit = export(git, (repository.url,), "rocm-5.6.x", tmp_path / "one")
    (pack,) = cached(git, repository.url).path.glob("objects/pack/*.pack")
    harm(pack)
    (tmp_path / "off").mkdir()
    offline = replace(git, offline=True)
    error = failure(offline.export((repository.url,), commit, "", tmp_path / "off", Runner()), DamagedCache)
    assert "is damaged" in error.message and "without --offline" in str(error.hint)
    export(git, (repository.url,), "rocm-5.6.x", tmp_path / "two")
    assert (tmp_path / "two/a").read_bytes() == (tmp_path / "one/a").read_bytes()


@pytest.mark.parametrize("content", ["60wc2f6d", "", "\0" * 41, "0" * 40 + "\n"])
@pytest.mark.parametrize("refs", ["refs/rocmbuild/refs", "refs/rocmbuild/commits"])
def test_a_damaged_ref_is_no_hindrance(tmp_path: Path, git: Git, refs: str, content: str) -> None:
    repository = Forge(tmp_path / "forge").create("x/y", {"a": "1"})
    commit = export(git, (repository.url,), "rocm-5.6.x", tmp_path / "one")
    (ref,) = (cached(git, repository.url).path / refs).iterdir()
    ref.write_text(content)
    assert export(git, (repository.url,), "rocm-5.6.x", tmp_path / "two") == commit
    assert ref.read_text() == f"{commit}\n"


def test_several_fetches_of_one_repository_wait_for_each_other(tmp_path: Path, git: Git) -> None:
    repository = Forge(tmp_path / "forge").create("x/y", {"a": "0"})
    commits = [repository.commit({"a": str(number)}) for number in range(6)]

    async def together() -> list[Repository]:
        return await asyncio.gather(*(git.fetch((repository.url,), commit, "", Runner()) for commit in commits))

    found = asyncio.run(together())
    assert len({one.path for one in found}) == 1
    assert all(asyncio.run(found[0].holds(commit, Runner())) for commit in commits)


def test_a_cancelled_fetch_leaves_nothing_that_hinders_the_next(tmp_path: Path, git: Git) -> None:
    repository = Forge(tmp_path / "forge").create("x/y", {str(number): os.urandom(100000) for number in range(40)})

    async def interrupted() -> None:
        task = asyncio.create_task(git.fetch((repository.url,), repository.head(), "", Runner()))
        await asyncio.sleep(0.15)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    export(git, (repository.url,), "rocm-5.6.x", tmp_path / "tree")
    assert len(list((tmp_path / "tree").iterdir())) == 40


# ---- servers in trouble


@pytest.mark.parametrize("taken", [10, 1000], ids=["reset", "closed"])
def test_a_server_that_hangs_up_is_asked_again_and_then_named(git: Git, taken: int) -> None:
    def hang_up(connection: socket.socket) -> None:
        connection.recv(taken)

    with server(hang_up) as (address, calls):
        error = failure(git.resolve((f"git://{address}/ROCm/HIP",), "rocm-5.6.x", Runner()))
    assert len(calls) == ATTEMPTS
    assert f"git://{address}/ROCm/HIP: the server closed the connection" in error.message
    assert error.hint is not None and "--mirror" in error.hint


def test_a_download_that_breaks_off_is_taken_up_again(tmp_path: Path, git: Git) -> None:
    forge = Forge(tmp_path / "forge")
    repository = forge.create("x/y", {"a": os.urandom(200000)})
    limits = iter([100000, 150000, 10**9])

    def flaky(connection: socket.socket) -> None:
        proxy_that_hangs_up(forge.path, next(limits))(connection)

    with server(flaky) as (address, calls):
        found = asyncio.run(git.fetch((f"git://{address}/x/y",), repository.head(), "", Runner()))
    assert len(calls) == 3
    assert asyncio.run(found.holds(repository.head(), Runner()))


def test_a_download_that_always_breaks_off_is_reported(tmp_path: Path, git: Git) -> None:
    forge = Forge(tmp_path / "forge")
    repository = forge.create("x/y", {"a": os.urandom(200000)})
    with server(proxy_that_hangs_up(forge.path, 100000)) as (address, calls):
        error = failure(git.fetch((f"git://{address}/x/y",), repository.head(), "rocm-5.6.x", Runner()))
    assert len(calls) == ATTEMPTS
    assert "the server closed the connection" in error.message


def test_http_errors_of_a_server_are_told_apart(git: Git) -> None:
    def answer(status: str) -> Callable[[socket.socket], None]:
        def reply(connection: socket.socket) -> None:
            connection.recv(4096)
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

        return reply

    with server(answer("404 Not Found")) as (address, calls):
        error = failure(git.resolve((f"http://{address}/x",), "main", Runner()))
        assert "no such repository" in error.message and len(calls) == 1
    with server(answer("503 Service Unavailable")) as (address, calls):
        error = failure(git.resolve((f"http://{address}/x",), "main", Runner()))
        assert "closed the connection" in error.message and "503" in error.message and len(calls) == ATTEMPTS
    with server(answer("401 Unauthorized\r\nWWW-Authenticate: Basic realm=x")) as (address, calls):
        error = failure(git.resolve((f"http://{address}/x",), "main", Runner()))
        assert "or it is private" in error.message and len(calls) == 1


def test_a_server_that_falls_silent_is_given_up(git: Git) -> None:
    def hold(connection: socket.socket) -> None:
        while connection.recv(1000):
            time.sleep(0.01)

    with server(hold) as (address, _):
        started = time.monotonic()
        impatient = replace(git, patience=0.2)
        error = failure(impatient.fetch((f"git://{address}/x",), "1" * 40, "", Runner()))
    assert "the server stopped sending" in error.message
    assert time.monotonic() - started < 30


def test_no_network_is_said_so(git: Git) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = failure(git.resolve((f"http://127.0.0.1:{port}/x",), "main", Runner()))
    assert "no connection to the server" in error.message
    assert error.hint is not None and "proxy" in error.hint and "--offline" in error.hint


def test_an_unknown_host_is_no_network(git: Git) -> None:
    error = failure(git.resolve(("https://host.invalid/x",), "main", Runner()))
    assert "https://host.invalid/x: no connection to the server" in error.message
    assert "host.invalid" in error.message
