"""Binaries shared with a real server, in a network of its own, and used by a program outside."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from rocmbuild.process import Runner
from rocmbuild.tools import conan
from rocmbuild.tools.cmake import find_build_tools
from rocmbuild.workspace import tree_digest
from tests.integration.shop import ROCM, Shop, key

URL = "http://127.0.0.1:9300"
LOGIN = {"CONAN_LOGIN_USERNAME": "demo", "CONAN_PASSWORD": "right"}

CONFIGURATION = """
[server]
jwt_secret: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
jwt_expire_minutes: 120
ssl_enabled: False
port: 9300
public_port:
host_name: localhost
authorize_timeout: 1800
disk_storage_path: ./data
disk_authorize_timeout: 1800
updown_secret: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
[write_permissions]
*/*@*/*: demo
[read_permissions]
*/*@*/*: ?
[users]
demo: right
guest: right
"""


@dataclass
class Server:
    """A server in a network namespace, where nothing else is: conan_server listens on every address."""

    directory: Path
    process: subprocess.Popen | None = None

    def start(self):
        argv = [str(conan.find_conan().with_name("conan_server")), "--server_dir", str(self.directory)]
        script = 'ip link set lo up\nexec "$@"'
        unshare = ["unshare", "--user", "--map-root-user", "--net", "sh", "-ec", script, "sh"]
        with (self.directory / "log").open("ab") as log:
            environment = {**os.environ, "HOME": str(self.directory)}
            self.process = subprocess.Popen([*unshare, *argv], env=environment, stdout=log, stderr=log)
        probe = [sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', 9300)).close()"]
        deadline = time.monotonic() + 60
        while subprocess.run(self.inside(probe), check=False, capture_output=True).returncode:
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            assert self.process.poll() is None, (self.directory / "log").read_text()
            time.sleep(0.1)

    def inside(self, argv):
        """Return a command line that is run in the server's network."""
        return ["nsenter", "--target", str(self.process.pid), "--user", "--preserve-credentials", "--net", *argv]

    def stop(self):
        """Stop the server and keep its network: a shell stays."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    directory = tmp_path / "server"
    directory.mkdir()
    (directory / "server.conf").write_text(CONFIGURATION)
    server = Server(directory)
    server.start()
    yield server
    server.stop()


@dataclass
class Team:
    """A store whose commands run in the server's network."""

    shop: Shop
    server: Server

    def __call__(self, *words, **environ):
        return self.shop.call(self.server.inside(self.shop.argv(*words)), **environ)

    def good(self, *words, **environ):
        done = self(*words, **environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()


def team(tmp_path, name, server):
    (tmp_path / name).mkdir()
    return Team(Shop(tmp_path / name), server)


def test_binaries_go_through_a_server(server, tmp_path):
    one, two = team(tmp_path, "one", server), team(tmp_path, "two", server)
    base = one.shop.put("base", "a")
    one.shop.put("app", "b", base)
    one.shop.put("tool", "c")

    added = one.good("add-remote", "team", URL)
    assert added[0] == f"team: {URL}"
    assert "CONAN_LOGIN_USERNAME and CONAN_PASSWORD" in added[1]
    assert one.good("remotes") == [f"team  {URL}"]

    refused = one("push", "team")
    assert refused.returncode == 2
    assert "error: the server team does not know you" in refused.stderr
    assert "try: log in with CONAN_LOGIN_USERNAME and CONAN_PASSWORD in the environment" in refused.stderr
    refused = one("push", "team", CONAN_LOGIN_USERNAME="demo", CONAN_PASSWORD="wrong")
    assert refused.returncode == 2
    assert "error: the server team does not accept user and password" in refused.stderr
    refused = one("push", "team", CONAN_LOGIN_USERNAME="guest", CONAN_PASSWORD="right")
    assert refused.returncode == 2
    assert "error: the server team does not permit that" in refused.stderr

    assert one.good("push", "team", "app", **LOGIN) == [
        "pushing base 9.9.9 to team",
        "pushing app 9.9.9 to team",
        "2 entries pushed to team",
    ]
    assert one.good("push", "team", **LOGIN) == ["pushing tool 9.9.9 to team", "1 entry pushed to team"]
    assert one.good("push", "team", **LOGIN) == ["team has all of it"]
    assert not list(one.shop.path.glob("conan/p/**/conan_package.tgz"))

    two.good("add-remote", "team", URL, **LOGIN)
    assert two.good("pull", "team", "app") == [
        "pulling base 9.9.9 from team",
        "pulling app 9.9.9 from team",
        "2 entries pulled from team",
    ]
    assert two.good("pull", "team")[-1] == "1 entry pulled from team"
    assert two.good("pull", "team") == ["team has nothing new"]
    assert two.shop.entries() == one.shop.entries()
    for entry in two.shop.entries().values():
        place = two.shop.place(entry)
        assert (place / "stage" / ROCM / "lib" / "empty").is_dir()
        assert os.readlink(place / "stage" / ROCM / "lib" / "dangling") == "/nowhere"
    two.shop.run(two.shop.store.restore(base, tmp_path / "stage", tmp_path / "debs", Runner()))
    assert tree_digest(tmp_path / "stage", ignore=frozenset()) == base.output
    assert (tmp_path / "debs" / "base.deb").read_text() == "package of base"
    assert not list(two.shop.path.glob("conan/p/**/conan_package.tgz"))


def test_a_build_pulls_what_it_can_use_and_no_more(server, built, new_toy, tmp_path):
    other, moved = team(tmp_path, "one", server), new_toy(tmp_path / "moved")
    other.shop.put("base", "a")
    other.good("add-remote", "team", URL, **LOGIN)
    other.good("push", "team")

    def store(toy, *words):
        toy.environ.update(LOGIN)
        return toy.call(server.inside(toy.argv("store", *words)))

    for toy, words in ((built, ("add-remote", "team", URL)), (built, ("push", "team"))):
        assert store(toy, *words).returncode == 0
    assert store(moved, "add-remote", "team", URL).returncode == 0
    pulled = store(moved, "pull", "team", "toyapp").stdout.splitlines()
    assert [line.split()[1] for line in pulled[:-1]] == ["toybase", "toyapp"]
    assert store(moved, "pull", "team").returncode == 0
    assert {name for name, action in moved.actions().items() if action == "BUILD"} == set()
    assert "base" not in {
        entry["component"] for entry in json.loads(moved.run("store", "list", "--format", "json").stdout)
    }
    assert store(moved, "pull", "team").stdout == "team has nothing new for toy\n"

    (moved.cache / "roots").unlink()
    refused = store(moved, "pull", "team")
    assert refused.returncode == 2
    assert "the build root is not there yet" in refused.stderr
    assert "rocmbuild fetch --branch toy" in refused.stderr


def test_who_logs_in_once_is_remembered_and_a_wrong_password_is_not_in_the_way(server, tmp_path):
    one = team(tmp_path, "one", server)
    one.shop.put("base", "a")
    refused = one("add-remote", "team", URL, CONAN_LOGIN_USERNAME="demo", CONAN_PASSWORD="wrong")
    assert refused.returncode == 2
    assert "the server team does not accept user and password" in refused.stderr
    assert one.good("add-remote", "team", URL, **LOGIN) == [f"team: {URL}, logged in"]
    assert one.good("push", "team")[-1] == "1 entry pushed to team"
    texts = [path.read_bytes() for path in one.shop.directory.rglob("*.log")]
    assert not any(b"right" in text for text in texts)


def test_a_server_that_is_gone_is_said_to_be_gone(server, tmp_path):
    one = team(tmp_path, "one", server)
    one.shop.put("base", "a")
    one.good("add-remote", "team", "http://127.0.0.1:9399")
    for words in (("push", "team"), ("pull", "team")):
        done = one(*words)
        assert done.returncode == 1
        assert "the server team does not answer: http://127.0.0.1:9399" in done.stderr
        assert "rocmbuild store remotes" in done.stderr
    done = one("push", "taem")
    assert done.returncode == 2
    assert "there is no remote taem" in done.stderr and "did you mean team?" in done.stderr
    assert one.good("add-remote", "team", URL)[0] == f"team: {URL}"
    assert one.good("pull", "team") == ["team has nothing new"]


def test_what_a_server_has_that_is_damaged_is_dropped(server, tmp_path):
    one, two = team(tmp_path, "one", server), team(tmp_path, "two", server)
    entry = one.shop.put("base", "a")
    one.good("add-remote", "team", URL, **LOGIN)
    # what another machine may have pushed: the facts are right, the files are not
    (one.shop.place(entry) / "stage" / ROCM / "include" / "base.h").write_text("changed")
    home = one.shop.path / "conan"
    upload = [str(conan.find_conan()), "upload", entry.reference, "--remote", "team", "--confirm"]
    environment = conan.home_environment(home, {**os.environ, "PATH": "/usr/bin:/bin"})
    subprocess.run(server.inside(upload), env=environment, cwd=home, check=True, capture_output=True)
    two.good("add-remote", "team", URL, **LOGIN)
    done = two("pull", "team")
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["pulling base 9.9.9 from team"]
    assert done.stderr.endswith("1 entry left out: damaged, or not readable\n")
    assert "the store's entry of base 9.9.9 is dropped: its directory stage is not what was stored" in done.stderr
    assert two.shop.entries() == {}
    assert two.shop.packages() == []


def test_what_is_damaged_is_not_pushed_and_is_said_to_be_missing(server, tmp_path):
    one = team(tmp_path, "one", server)
    for name, letter in (("base", "a"), ("tool", "c")):
        entry = one.shop.put(name, letter)
    one.good("add-remote", "team", URL, **LOGIN)
    (one.shop.place(entry) / "stage" / ROCM / "include" / "tool.h").write_text("changed")
    done = one("push", "team", **LOGIN)
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["pushing base 9.9.9 to team", "1 entry pushed to team"]
    assert done.stderr.endswith("1 entry left out: damaged, or not readable\n")


def test_a_pull_that_is_killed_is_repeated_to_its_end(server, tmp_path):
    one, two = team(tmp_path, "one", server), team(tmp_path, "two", server)
    for letter in "abc":
        one.shop.put("base", letter)
    one.good("add-remote", "team", URL, **LOGIN)
    one.good("push", "team")
    two.good("add-remote", "team", URL, **LOGIN)
    argv = server.inside(two.shop.argv("pull", "team"))
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    pull = subprocess.Popen(argv, env=environment, cwd=two.shop.directory, stdout=subprocess.PIPE, text=True)
    assert pull.stdout.readline().startswith("pulling base")
    time.sleep(0.3)
    pull.send_signal(signal.SIGKILL)
    pull.wait()
    assert two.good("pull", "team")[-1].endswith("pulled from team")
    assert two.shop.entries() == one.shop.entries()
    assert all(two.shop.check(entry) for entry in two.shop.entries().values())
    assert len(two.shop.packages()) == 3


CONSUMER = """
cmake_minimum_required(VERSION 3.15)
project(consumer LANGUAGES CXX)
find_package(rocthing REQUIRED CONFIG)
add_executable(consumer main.cpp)
target_link_libraries(consumer PRIVATE roc::thing)
"""

CONFIG = """
include(CMakeFindDependencyMacro)
find_dependency(rocbase CONFIG)
add_library(roc::thing INTERFACE IMPORTED)
get_filename_component(_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
target_include_directories(roc::thing INTERFACE "${_prefix}/include")
target_link_libraries(roc::thing INTERFACE roc::base)
"""

BASE = """
add_library(roc::base INTERFACE IMPORTED)
get_filename_component(_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
target_include_directories(roc::base INTERFACE "${_prefix}/include")
"""


async def put_package(shop, name, letter, config, *requires):
    stage = shop.stage(name)
    package = stage / ROCM / "lib" / "cmake" / f"roc{name}"
    package.mkdir(parents=True)
    (package / f"roc{name}-config.cmake").write_text(config)
    return await shop.store.put(
        component=name,
        version="9.9.9",
        key=key(letter),
        stage=stage,
        debs=None,
        output=tree_digest(stage, ignore=frozenset()),
        packages=None,
        requires=requires,
        runner=Runner(),
    )


class Outside:
    """Somebody with Conan and a home of their own, who got a file that the store saved."""

    def __init__(self, shop, directory):
        self.environment = {**os.environ, "CONAN_HOME": str(directory / "home")}
        self.directory = directory / "consumer"
        self.directory.mkdir()
        (self.directory / "CMakeLists.txt").write_text(CONSUMER)
        (self.directory / "main.cpp").write_text(
            "#include <base.h>\n#include <thing.h>\nint main() { return BASE - THING; }\n"
        )
        saved = shop.cli("save", str(directory / "saved.tgz"))
        assert saved.returncode == 0, saved.stderr
        self.conan("profile", "detect")
        self.conan("cache", "restore", str(directory / "saved.tgz"))

    def conan(self, *words):
        argv = [str(conan.find_conan()), *words]
        done = subprocess.run(
            argv, env=self.environment, cwd=self.directory, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def build(self, *options):
        cmake = str(find_build_tools().cmake / "bin" / "cmake")
        build = self.directory / "build"
        subprocess.run([cmake, "-S", self.directory, "-B", build, "-DCMAKE_BUILD_TYPE=Release", *options], check=True)
        subprocess.run([cmake, "--build", build], check=True)
        return subprocess.run([build / "consumer"], check=False).returncode


@pytest.fixture
def outside(tmp_path):
    """A user of Conan, and the name of an entry that requires another one."""
    shop = Shop(tmp_path)
    base = shop.run(put_package(shop, "base", "a", BASE))
    thing = shop.run(put_package(shop, "thing", "b", CONFIG, base))
    return Outside(shop, tmp_path), thing.name


def test_a_program_outside_is_built_against_an_entry(outside):
    user, name = outside
    user.conan("install", f"--requires={name}", "--generator=CMakeToolchain", "--output-folder=out")
    assert user.build(f"-DCMAKE_TOOLCHAIN_FILE={user.directory}/out/conan_toolchain.cmake") == 0


def test_entries_are_merged_into_one_prefix_outside(outside):
    user, name = outside
    user.conan("install", f"--requires={name}", "--deployer-package=*", f"--deployer-folder={user.directory}/merged")
    prefix = user.directory / "merged" / ROCM
    assert (prefix / "include" / "base.h").is_file() and (prefix / "include" / "thing.h").is_file()
    assert user.build(f"-DCMAKE_PREFIX_PATH={prefix}") == 0


def test_programs_of_an_entry_are_in_the_path_outside(outside):
    user, name = outside
    user.conan("install", f"--requires={name}", "--generator=VirtualRunEnv", "--output-folder=out")
    script = f". {user.directory}/out/conanrun.sh && command -v thing && command -v base"
    found = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout.splitlines()
    assert [path.rpartition(f"stage/{ROCM}/")[2] for path in found] == ["bin/thing", "bin/base"]
