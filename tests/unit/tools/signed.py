"""An archive like Debian's in a directory, signed with a key of its own, that can be broken as mirrors break."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rocmbuild.process import BASE_ENVIRONMENT
from rocmbuild.tools.apt import Archive


class SignedArchive:
    """Suites with one package each, ``tool``, in a version that tells the suites apart."""

    def __init__(self, directory: Path, home: Path) -> None:
        self.directory = directory
        self.keyring = directory / "keys.gpg"
        self._gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
        subprocess.run([*self._gpg, "--quick-generate-key", "test@example.org", "rsa2048"], check=True)
        subprocess.run([*self._gpg, "--output", str(self.keyring), "--export"], check=True)

    @property
    def archive(self) -> Archive:
        """Return what the program knows of it."""
        return Archive(f"file:{self.directory}/", None, self.keyring, False, BASE_ENVIRONMENT)

    def suite(self, name: str, version: str, arch: str = "amd64") -> None:
        """Make a suite, or make it anew."""
        index = self._index(name, arch)
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_text(_stanza(version, arch))
        self._sign(name, arch)

    def out_of_step(self, name: str, arch: str = "amd64") -> None:
        """Publish a newer index of a suite, with the older one still in its place."""
        older = self._index(name, arch).read_text()
        self.suite(name, "10.0", arch)
        self._index(name, arch).write_text(older)

    def _index(self, name: str, arch: str) -> Path:
        return self.directory / f"dists/{name}/main/binary-{arch}/Packages"

    def _sign(self, name: str, arch: str) -> None:
        suite = self.directory / "dists" / name
        for old in ("InRelease", "Release"):
            (suite / old).unlink(missing_ok=True)
        fields = {"Suite": name, "Codename": name, "Architectures": arch, "Components": "main"}
        options = [f"-oAPT::FTPArchive::Release::{key}={value}" for key, value in fields.items()]
        argv = ["apt-ftparchive", *options, "release", str(suite)]
        release = subprocess.run(argv, check=True, capture_output=True).stdout
        subprocess.run([*self._gpg, "--output", str(suite / "InRelease"), "--clearsign"], input=release, check=True)


def _stanza(version: str, arch: str) -> str:
    return (
        f"Package: tool\nVersion: {version}\nArchitecture: {arch}\nMaintainer: A B <a@example.org>\n"
        f"Filename: pool/main/t/tool/tool_{version}_{arch}.deb\nSize: 1000\nSHA256: {'ab' * 32}\nDescription: x\n"
    )


@contextmanager
def signed_archive(directory: Path) -> Iterator[SignedArchive]:
    """Make an archive without suites; gpg's agent wants a short path, and is ended with the block."""
    home = Path(tempfile.mkdtemp(prefix="gpg-"))
    try:
        yield SignedArchive(directory, home)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
        shutil.rmtree(home, ignore_errors=True)
