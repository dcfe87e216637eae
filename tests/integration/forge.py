"""A forge made of local directories: organisations with repositories, as ROCm's had before and after it moved."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rocmbuild.process import BASE_ENVIRONMENT
from rocmbuild.tools.gitremote import git_environment

WHEN = 1690000000
"""Seconds since the epoch at which every commit is made."""

ENVIRONMENT = {
    **git_environment(BASE_ENVIRONMENT),
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A Developer",
    "GIT_AUTHOR_EMAIL": "developer@example.org",
    "GIT_COMMITTER_NAME": "A Developer",
    "GIT_COMMITTER_EMAIL": "developer@example.org",
    "GIT_AUTHOR_DATE": f"{WHEN} +0000",
    "GIT_COMMITTER_DATE": f"{WHEN} +0000",
}


@dataclass(frozen=True)
class Repository:
    """A repository of the forge with a work tree to commit from."""

    work: Path
    bare: Path

    @property
    def url(self) -> str:
        return self.bare.as_uri()

    def git(self, *args: str) -> str:
        """Run git in the work tree and return what it prints."""
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *args],
            cwd=self.work,
            env=ENVIRONMENT,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str | bytes] = {}, message: str = "Change") -> str:
        """Write files, commit everything, push all branches and tags; return the commit."""
        for name, content in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self.push()
        return self.git("rev-parse", "HEAD")

    def branch(self, name: str) -> None:
        """Go on with a new branch."""
        self.git("checkout", "--quiet", "-B", name)
        self.push()

    def tag(self, name: str, *, annotated: bool = True) -> None:
        """Tag the newest commit."""
        self.git("tag", *(("--annotate", "--message", name) if annotated else ()), name)
        self.push()

    def submodule(self, path: str, url: str, commit: str) -> None:
        """Put another repository into this one, at a commit, under the address ``url``."""
        with (self.work / ".gitmodules").open("a") as file:
            file.write(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n')
        self.git("add", ".gitmodules")
        self.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
        self.git("commit", "--quiet", "--message", f"Add {path}")
        self.push()

    def push(self) -> None:
        self.git("push", "--quiet", "--force", "origin", "--all")
        self.git("push", "--quiet", "--force", "origin", "--tags")

    def head(self, ref: str = "HEAD") -> str:
        """Return the commit that a ref names."""
        return self.git("rev-parse", f"{ref}^{{commit}}")


@dataclass(frozen=True)
class Forge:
    """A directory that serves ``<organisation>/<repository>.git`` as ``file://`` addresses."""

    path: Path

    @property
    def url(self) -> str:
        return f"{self.path.as_uri()}/"

    def create(self, name: str, content: Mapping[str, str | bytes] | Path, *, branch: str = "rocm-5.6.x") -> Repository:
        """Create ``organisation/repository`` from files, a directory or a tarball, with one commit on a branch."""
        bare = self.path / f"{name}.git"
        work = self.path / ".work" / name
        bare.mkdir(parents=True)
        work.mkdir(parents=True)
        repository = Repository(work, bare)
        repository.git("init", "--quiet", "--bare", "--initial-branch", branch, str(bare))
        repository.git("init", "--quiet", "--initial-branch", branch)
        repository.git("remote", "add", "origin", str(bare))
        if isinstance(content, Path):
            _fill(work, content)
        repository.commit({} if isinstance(content, Path) else content, "Begin")
        return repository

    def move(self, name: str, new: str) -> None:
        """Give a repository another organisation; its old address answers no more."""
        (self.path / f"{new}.git").parent.mkdir(parents=True, exist_ok=True)
        (self.path / f"{name}.git").rename(self.path / f"{new}.git")


def _fill(work: Path, content: Path) -> None:
    if content.is_dir():
        shutil.copytree(content, work, symlinks=True, dirs_exist_ok=True)
        return
    with tarfile.open(content) as archive:
        members = [member for member in archive if "/" in member.name.removeprefix("./")]
        for member in members:
            member.name = member.name.removeprefix("./").split("/", 1)[1]
        archive.extractall(work, members=members, filter="data")


def rocm_forge(path: Path, names: Iterable[str] = ("HIP", "ROCR-Runtime")) -> Forge:
    """Make a forge with refs as ROCm 5.6 has them: branches under two names, and a tag for the release."""
    forge = Forge(path)
    for name in names:
        repository = forge.create(f"ROCm/{name}", {"CMakeLists.txt": f"project({name})\n", "README.md": name})
        repository.tag("rocm-5.6.0")
        repository.commit({"README.md": f"{name} 5.6.1"})
        repository.tag("rocm-5.6.1")
        repository.branch("release/rocm-rel-5.6")
        repository.commit({"README.md": f"{name} 5.6.2"})
    return forge


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[int]]]:
    """Run a TCP server on the loopback that handles each connection with ``answer``; yield address and counter."""
    calls: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                calls.append(1)
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", calls
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=5)


def proxy_that_hangs_up(forge: Path, limit: int) -> Callable[[socket.socket], None]:
    """Return a git server for one connection that breaks off after some bytes of its answer."""

    def answer(connection: socket.socket) -> None:
        daemon = subprocess.Popen(
            ["git", "daemon", "--inetd", "--export-all", f"--base-path={forge}"],
            env={**ENVIRONMENT, "PATH": os.environ["PATH"]},
            stdin=connection.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert daemon.stdout is not None
        sent = 0
        while sent < limit and (chunk := daemon.stdout.read1(min(4096, limit - sent))):
            connection.sendall(chunk)
            sent += len(chunk)
        connection.shutdown(socket.SHUT_RDWR)
        daemon.stdout.close()
        daemon.kill()
        daemon.wait()

    return answer
