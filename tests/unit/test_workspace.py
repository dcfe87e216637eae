from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rocmbuild import workspace
from rocmbuild.errors import UsageError
from rocmbuild.workspace import (
    Cache,
    Workspace,
    exclusive,
    new_directory,
    open_workspace,
    read_json,
    read_stamp,
    remove_tree,
    sha256_file,
    sweep,
    tree_digest,
    write_json,
    write_stamp,
    write_text,
)
from tests.locking import waiting_lock


def listing(path):
    return sorted(str(entry.relative_to(path)) for entry in path.rglob("*"))


def as_user(code, *arguments):
    """Run Python code as a user who is not root; skip where nobody can become one."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    package = str(Path(sys.modules["rocmbuild"].__file__).parents[1])
    imports = "from pathlib import Path\nfrom rocmbuild.workspace import open_workspace, remove_tree\n"
    become = "os.setgroups([]); os.setgid(12345); os.setuid(12345)\n"
    prelude = f"import os, sys\nsys.path.insert(0, {package!r})\n{imports}{become}"
    argv = [sys.executable, "-c", prelude + code, *map(str, arguments)]
    return subprocess.run(argv, check=False, capture_output=True, text=True)


@pytest.fixture
def users(tmp_path):
    """A directory that belongs to that user; every directory on the way to it can be passed."""
    path = tmp_path
    while path != path.parent:
        if path.stat().st_uid == os.geteuid() and path.stat().st_mode & 0o001 == 0:
            path.chmod(path.stat().st_mode | 0o011)
        path = path.parent
    made = tmp_path / "users"
    made.mkdir()
    os.chown(made, 12345, 12345)
    return made


def test_places_of_a_workspace():
    workspace = Workspace(Path("/w"), "rocm-5.6.x", "debian-12-amd64")
    assert workspace.source("hip") == Path("/w/src/rocm-5.6.x/debian-12-amd64/hip")
    component = Path("/w/build/rocm-5.6.x/debian-12-amd64/hip")
    assert [workspace.build("hip"), workspace.stage("hip"), workspace.prefix("hip"), workspace.debs("hip")] == [
        component / name for name in ("build", "stage", "prefix", "debs")
    ]
    assert workspace.stamp("hip") == component / "stamp.json"
    assert workspace.log("hip", "build") == Path("/w/logs/rocm-5.6.x/debian-12-amd64/hip/build.log")
    assert workspace.out == Path("/w/out/rocm-5.6.x/debian-12-amd64")


def test_two_areas_share_nothing():
    one, two = (Workspace(Path("/w"), "b", area) for area in ("debian-12-amd64", "debian-13-riscv64"))
    places = [{w.source("x"), w.build("x"), w.stamp("x"), w.log("x", "s"), w.out} for w in (one, two)]
    assert places[0].isdisjoint(places[1])


def test_parts_of_the_cache_are_apart():
    cache = Cache(Path("/c"))
    assert len({cache.git, cache.downloads, cache.apt, cache.roots}) == 4


def test_a_workspace_is_made_and_found_again(tmp_path):
    path = tmp_path / "deep/w"
    assert open_workspace(path) == path
    (path / "file").write_text("x")
    open_workspace(path)
    assert listing(path) == ["file", "workspace.json"]


def test_a_workspace_of_another_format_is_refused(tmp_path):
    write_json(tmp_path / "workspace.json", {"format": 99})
    with pytest.raises(UsageError) as caught:
        open_workspace(tmp_path)
    assert "has format 99, this rocmbuild writes format 1" in caught.value.message
    assert "--workspace" in caught.value.hint


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_a_broken_marker_is_the_users_to_see(tmp_path, content):
    (tmp_path / "workspace.json").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        open_workspace(tmp_path)
    assert caught.value.message.startswith(f"the workspace {tmp_path} cannot be used: ")
    assert "--workspace" in caught.value.hint


@pytest.mark.parametrize("content", ["[]", "7", "{}"])
def test_a_marker_that_says_nothing_is_of_no_known_format(tmp_path, content):
    (tmp_path / "workspace.json").write_text(content)
    with pytest.raises(UsageError, match="has format None"):
        open_workspace(tmp_path)


def test_a_file_is_no_workspace(tmp_path):
    (tmp_path / "w").write_text("")
    with pytest.raises(UsageError, match=f"the workspace {tmp_path}/w cannot be used"):
        open_workspace(tmp_path / "w")


def test_a_workspace_that_cannot_be_written_is_refused(tmp_path, users):
    open_workspace(users / "w")
    done = as_user("open_workspace(Path(sys.argv[1]))", users / "w")
    assert "UsageError" in done.stderr
    assert "cannot be used: [Errno 13] Permission denied" in done.stderr


HOLD = """
import sys, time
from pathlib import Path
from rocmbuild.workspace import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the workspace."""
    package = Path(sys.modules["rocmbuild"].__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(package)},
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_run_at_a_time(tmp_path, holder):
    with pytest.raises(UsageError) as caught, exclusive(tmp_path):
        pytest.fail("two runs in one workspace")
    assert caught.value.message == f"the workspace {tmp_path} is in use by rocmbuild, process {holder.pid}"
    assert "--workspace" in caught.value.hint


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_killed_holds_nothing(tmp_path, holder, number):
    holder.send_signal(number)
    holder.wait()
    with exclusive(tmp_path):
        assert (tmp_path / "lock").read_text() == f"rocmbuild, process {os.getpid()}\n"


TEMPORARY = (
    "src/b/a/.comgr.abcd_123", "src/b/a/.comgr.abcd_123~x0x0x0x0",
    "build/b/a/comgr/.debs.zzzzzzzz", "out/b/.a.aaaaaaaa",
)  # fmt: skip
KEPT = ("src/b/a/comgr", "src/b/a/.comgr.json", "build/b/a/.toolchain", "build/b/a/comgr/build/.x.abcdefgh", "out/b/a")


def test_what_a_killed_run_left_is_removed_once(tmp_path, holder):
    holder.kill()
    holder.wait()
    for name in (*TEMPORARY, *KEPT):
        (tmp_path / name / "d").mkdir(parents=True)
    with exclusive(tmp_path):
        assert not [name for name in TEMPORARY if (tmp_path / name).exists()]
        assert [name for name in KEPT if (tmp_path / name / "d").is_dir()] == list(KEPT)
    (tmp_path / TEMPORARY[0]).mkdir()
    with exclusive(tmp_path):
        assert (tmp_path / TEMPORARY[0]).exists(), "a run that came to its end leaves nothing to look for"


LEAVE = """
import subprocess, sys
from pathlib import Path
from rocmbuild.workspace import exclusive
null = subprocess.DEVNULL
with exclusive(Path(sys.argv[1])) as lock:
    left = subprocess.Popen(["sleep", sys.argv[2]], pass_fds=(lock,), stdin=null, stdout=null, start_new_session=True)
    print(left.pid, flush=True)
    sys.stdin.read()
"""


def leave(tmp_path, seconds, number):
    """Run a process that holds the workspace and leaves a program behind; return that program's id."""
    package = str(Path(sys.modules["rocmbuild"].__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVE, str(tmp_path), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": package},
    )
    left = int(process.stdout.readline())
    if number is not None:
        process.send_signal(number)
    process.communicate()
    return left


def test_the_next_run_waits_for_what_a_killed_one_left_behind(tmp_path):
    begun = time.monotonic()
    left = leave(tmp_path, 1, signal.SIGKILL)
    with exclusive(tmp_path):
        assert not Path(f"/proc/{left}").exists() or Path(f"/proc/{left}/cmdline").read_bytes() == b""
        assert time.monotonic() - begun > 0.9


def test_what_a_killed_run_left_behind_is_named_if_it_does_not_end(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "LEFTOVERS", 0.3)
    left = leave(tmp_path, 600, signal.SIGKILL)
    try:
        with pytest.raises(UsageError) as caught, exclusive(tmp_path):
            pytest.fail("it still runs")
        assert f"in use by what a killed run left behind: sleep (process {left})" in caught.value.message
    finally:
        os.kill(left, signal.SIGKILL)
    with exclusive(tmp_path):
        pass


def test_what_a_run_that_ended_well_left_behind_is_not_waited_for(tmp_path):
    left = leave(tmp_path, 600, None)
    try:
        begun = time.monotonic()
        with exclusive(tmp_path):
            assert time.monotonic() - begun < 1
    finally:
        os.kill(left, signal.SIGKILL)


def test_a_workspace_is_free_again_after_a_failure(tmp_path):
    with pytest.raises(RuntimeError), exclusive(tmp_path):
        raise RuntimeError
    with exclusive(tmp_path):
        pass


def test_a_waiting_lock_waits(tmp_path):
    order = []

    def second():
        with waiting_lock(tmp_path / "deep/lock"):
            order.append("second")

    with waiting_lock(tmp_path / "deep/lock"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "deep/file"
    write_text(path, "old")
    with path.open() as reader:
        write_text(path, "new ü")
        assert reader.read() == "old"
    assert path.read_text(encoding="utf-8") == "new ü"
    assert path.stat().st_mode & 0o777 == 0o644
    assert listing(path.parent) == ["file"]


def test_what_a_killed_run_left_of_a_file_is_taken_up(tmp_path):
    (tmp_path / ".file.unfinished").write_text("much longer than what is written")
    write_text(tmp_path / "file", "new")
    assert (listing(tmp_path), (tmp_path / "file").read_text()) == (["file"], "new")


def test_runs_that_write_one_file_at_once_do_not_mix_it(tmp_path):
    def write(word):
        for _ in range(50):
            write_text(tmp_path / "file", word * 1000)

    threads = [threading.Thread(target=write, args=(word,)) for word in "abc"]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        with contextlib.suppress(FileNotFoundError):
            text = (tmp_path / "file").read_text()
            seen.add((len(text), len({*text})))
    for thread in threads:
        thread.join()
    assert seen <= {(1000, 1)}
    assert listing(tmp_path) == ["file"]


def test_directories_that_killed_runs_left_are_swept(tmp_path):
    for name in (".out.abcd1234", ".out.abc", ".other.abcd1234", "out"):
        (tmp_path / name / "x").mkdir(parents=True)
    sweep(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.abcd1234", ".out.abc", "out"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "x" * 100000 + "\ud800")
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["file"]


def test_a_write_that_cannot_take_its_place_leaves_nothing(tmp_path):
    (tmp_path / "file/in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_text(tmp_path / "file", "new")
    assert listing(tmp_path) == ["file", "file/in the way"]


def test_json_is_written_in_one_form(tmp_path):
    write_json(tmp_path / "a", {"b": 1, "a": [True, None]})
    write_json(tmp_path / "b", {"a": [True, None], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a") == {"a": [True, None], "b": 1}


def test_data_that_is_no_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a", {"x": object()})
    assert read_json(tmp_path / "a") == 1


def test_a_stamp_is_json_with_a_sum(tmp_path):
    write_stamp(tmp_path / "stamp", {"key": "abc", "needs": {"a": None}})
    assert read_stamp(tmp_path / "stamp") == {"key": "abc", "needs": {"a": None}}
    data = read_json(tmp_path / "stamp")
    assert (data.pop("sum").isalnum(), data) == (True, {"key": "abc", "needs": {"a": None}})


def test_every_bit_of_a_stamp_counts(tmp_path):
    data = {"key": "abc", "seconds": 1.5, "needs": {"ü": None}}
    write_stamp(tmp_path / "stamp", data)
    content = (tmp_path / "stamp").read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            spoiled = bytearray(content)
            spoiled[place] ^= 1 << bit
            (tmp_path / "stamp").write_bytes(spoiled)
            found = read_stamp(tmp_path / "stamp")
            assert found is None or {key: found.get(key) for key in data} == data, bytes(spoiled)
        (tmp_path / "stamp").write_bytes(content[:place])
        assert read_stamp(tmp_path / "stamp") is None or place == len(content) - 1


def test_a_stamp_without_a_sum_is_of_an_older_rocmbuild(tmp_path):
    write_json(tmp_path / "stamp", {"key": "abc"})
    assert read_stamp(tmp_path / "stamp") == {"key": "abc"}
    assert read_stamp(tmp_path / "nothing") is None
    (tmp_path / "stamp").write_text("[1]")
    assert read_stamp(tmp_path / "stamp") is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\x00"])
def test_json_that_is_not_whole_is_nothing(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert read_json(tmp_path / "a") is None
    assert read_json(tmp_path / "none") is None
    assert read_json(tmp_path / "a/b") is None


def test_a_directory_appears_whole(tmp_path):
    path = tmp_path / "deep/tree"
    with new_directory(path) as temporary:
        (temporary / "file").write_text("x")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert listing(tmp_path) == ["deep", "deep/tree", "deep/tree/file"]
    assert path.stat().st_mode & 0o777 == 0o755


def test_a_new_directory_takes_the_place_of_the_old(tmp_path):
    path = tmp_path / "tree"
    (path / "old").mkdir(parents=True)
    with new_directory(path) as temporary:
        (temporary / "new").mkdir()
        assert (path / "old").is_dir()
    assert listing(tmp_path) == ["tree", "tree/new"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_directory_and_no_other(tmp_path, error):
    path = tmp_path / "tree"
    (path / "old").mkdir(parents=True)
    with pytest.raises(error), new_directory(path) as temporary:
        (temporary / "new").mkdir()
        raise error
    assert listing(tmp_path) == ["tree", "tree/old"]


def test_trees_files_and_links_are_removed(tmp_path):
    (tmp_path / "target/deep").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "tree/in").mkdir(parents=True)
    (tmp_path / "tree/link").symlink_to(tmp_path / "target")
    for name in ("file", "link", "dangling", "tree", "nothing"):
        remove_tree(tmp_path / name)
    assert listing(tmp_path) == ["target", "target/deep"]


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_trees_that_cannot_be_written_are_removed(users, mode):
    code = """
top = Path(sys.argv[1])
keep = top / "keep"
keep.mkdir()
keep.chmod(0o500)
tree = top / "tree"
(tree / "a/b").mkdir(parents=True)
(tree / "a/b/file").write_text("")
(tree / "a/link").symlink_to(keep)
for path in (tree / "a/b", tree / "a", tree):
    path.chmod(int(sys.argv[2]))
remove_tree(tree)
print(sorted(path.name for path in top.iterdir()), oct(keep.stat().st_mode & 0o777))
"""
    done = as_user(code, users, mode)
    assert (done.stdout, done.stderr) == ("['keep'] 0o500\n", "")


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "tree"
    (path / "b/deep").mkdir(parents=True)
    (path / "a").write_text("one")
    (path / "b/deep/c").write_text("two")
    (path / "b/run").write_text("three")
    (path / "b/run").chmod(0o755)
    (path / "file link").symlink_to("a")
    (path / "tree link").symlink_to("b")
    return path


def copy(tree, name):
    target = tree.parent / name
    subprocess.run(["cp", "-r", "--no-dereference", str(tree), str(target)], check=True)
    return target


def test_equal_trees_have_equal_digests(tree):
    other = copy(tree, "other")
    os.utime(other / "a", (1, 1))
    (other / "b/run").chmod(0o700)
    (other / "a").chmod(0o600)
    assert tree_digest(other) == tree_digest(tree)


CHANGES = {
    "content": lambda tree: (tree / "a").write_text("onE"),
    "name": lambda tree: (tree / "a").rename(tree / "z"),
    "place": lambda tree: (tree / "b/deep/c").rename(tree / "b/c"),
    "mode": lambda tree: (tree / "a").chmod(0o755),
    "new file": lambda tree: (tree / "b/new").write_text(""),
    "gone": lambda tree: (tree / "b/deep/c").unlink(),
    "target of a link": lambda tree: ((tree / "tree link").unlink(), (tree / "tree link").symlink_to("b/deep")),
    "link that becomes a file": lambda tree: ((tree / "file link").unlink(), (tree / "file link").write_text("one")),
    "link that becomes a tree": lambda tree: (
        (tree / "tree link").unlink(),
        (tree / "tree link").mkdir(),
        (tree / "tree link/run").write_text("three"),
    ),
    "a pipe": lambda tree: os.mkfifo(tree / "pipe"),
}


@pytest.mark.parametrize("what", sorted(CHANGES))
def test_every_difference_of_content_moves_the_digest(tree, what):
    before = tree_digest(tree)
    CHANGES[what](tree)
    assert tree_digest(tree) != before


def test_contents_that_change_places_move_the_digest(tree):
    before = tree_digest(tree)
    (tree / "a").write_text("two")
    (tree / "b/deep/c").write_text("one")
    assert tree_digest(tree) != before


def test_names_that_are_ignored_do_not_count(tree):
    before = tree_digest(tree)
    (tree / ".git/objects").mkdir(parents=True)
    (tree / ".git/objects/x").write_text("x")
    (tree / "b/.git").write_text("gitdir: elsewhere")
    assert tree_digest(tree) == before
    assert tree_digest(tree, ignore=frozenset()) != before


def test_names_that_are_not_utf8_count(tree):
    before = tree_digest(tree)
    Path(os.fsdecode(os.fsencode(tree) + b"/caf\xe9")).write_text("")
    assert tree_digest(tree) != before


def test_what_cannot_be_read_is_not_taken_for_an_empty_tree(tmp_path):
    with pytest.raises(FileNotFoundError):
        tree_digest(tmp_path / "no")


def test_the_sum_of_a_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
