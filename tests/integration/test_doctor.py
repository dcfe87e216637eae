"""What the doctor sees on this machine, and what it would say on machines that lack something."""

from __future__ import annotations

import asyncio
import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rocmbuild.commands import checks
from rocmbuild.commands.checks import Finding
from rocmbuild.commands.doctor import as_root, missing_packages, remedies
from rocmbuild.model.catalog import make_catalog
from rocmbuild.process import BASE_ENVIRONMENT, Runner
from rocmbuild.tools.apt import HELPER, Archive

GIB = 1 << 30


@pytest.fixture
def doctor(tmp_path):
    def call(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {"HOME": str(tmp_path), "PATH": "/nothing", "COLUMNS": "80", **variables}
        argv = [sys.executable, "-m", "rocmbuild", "doctor", "--offline", *words]
        return subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120)

    return call


def test_the_exit_status_is_that_of_the_findings(doctor):
    result = doctor("--format", "json")
    findings = json.loads(result.stdout)
    assert result.returncode == (1 if any(item["status"] == "missing" for item in findings) else 0)
    found = {item["subject"]: item for item in findings}
    assert found["python"]["detail"].startswith(sys.version.split()[0])
    assert found["cmake and ninja"]["status"] == "ok"
    assert found["git"]["detail"] == shutil.which("git", path=BASE_ENVIRONMENT["PATH"])


def test_the_table_has_a_line_for_each_finding(doctor):
    subjects = [item["subject"] for item in json.loads(doctor("--format", "json").stdout)]
    table = doctor().stdout.partition("\n\n")[0].splitlines()
    assert len(table) == len(subjects)
    for line, subject in zip(table, subjects, strict=True):
        assert line.split()[0] in ("ok", "warning", "missing")
        assert line.split(maxsplit=1)[1].startswith(subject)


def test_another_format_is_refused(doctor):
    result = doctor("--format", "dot")
    assert result.returncode == 2
    assert "--format: 'dot' is neither table nor json" in result.stderr


def test_variables_of_another_rocm_are_said_to_be_ignored(doctor):
    assert "HIP_PATH, LD_LIBRARY_PATH: set, and ignored" in " ".join(
        doctor(LD_LIBRARY_PATH="/x", HIP_PATH="/y").stdout.split()
    )


def test_too_little_memory_for_the_jobs(doctor):
    result = doctor("--memory", "4G", "-j", "8")
    assert "4.0 GiB for 8 jobs; a C++ compiler takes up to 1.5 GiB" in result.stdout
    assert "memory: -j 2 avoids waiting for memory" in result.stdout


@pytest.mark.parametrize(
    ("memory", "jobs", "status", "advice"),
    [(12 * GIB, 8, "ok", ""), (2 * GIB, 2, "warning", "-j 1 avoids"), (GIB, 1, "warning", "add memory or swap")],
)
def test_memory(memory, jobs, status, advice):
    finding = checks.check_memory(memory, jobs)
    assert finding.status == status
    assert finding.advice.startswith(advice)


def test_programs_that_are_missing_name_their_packages(tmp_path):
    (tmp_path / "git").touch(mode=0o755)
    (tmp_path / "bwrap").touch(mode=0o644)
    findings = checks.check_programs(root=False, sandboxed=True, path=str(tmp_path))
    by_name = {finding.subject: finding for finding in findings}
    assert by_name["git"] == Finding("git", "ok", str(tmp_path / "git"))
    assert by_name["bwrap"].detail == "not found; it shows a build only what it declared"
    assert missing_packages(findings) == ["apt", "apt-utils", "bubblewrap", "dpkg", "mmdebstrap", "uidmap"]


def test_bubblewrap_is_not_needed_without_a_sandbox(tmp_path):
    findings = checks.check_programs(root=True, sandboxed=False, path=str(tmp_path))
    status = {finding.subject: finding.status for finding in findings}
    assert (status["bwrap"], status["git"]) == ("warning", "missing")


def test_root_needs_no_helpers_for_namespaces(tmp_path):
    assert "uidmap" not in missing_packages(checks.check_programs(root=True, sandboxed=True, path=str(tmp_path)))
    assert checks.check_subordinate_ids(root=True) == []


def test_subordinate_ids(tmp_path):
    (tmp_path / "subuid").write_text("ann:100000:65536\n")
    (finding,) = checks.check_subordinate_ids(root=False, etc=tmp_path, user="ann")
    assert finding.status == "missing"
    assert finding.command == ("usermod", "--add-subgids=100000-165535", "ann")
    (tmp_path / "subgid").write_text("bob:1:1\nann:100000:65536\n")
    (finding,) = checks.check_subordinate_ids(root=False, etc=tmp_path, user="ann")
    assert finding.status == "ok"


@pytest.mark.parametrize(
    ("setting", "value", "command"),
    [
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ],
)
def test_a_kernel_setting_that_forbids_namespaces(tmp_path, setting, value, command):
    file = tmp_path / "proc/sys" / setting
    file.parent.mkdir(parents=True)
    file.write_text(f"{value}\n")
    finding = checks.explain_namespaces(tmp_path, "no")
    assert finding.status == "missing"
    assert finding.command == ("sysctl", "-w", command)
    assert "--environment host" in finding.advice


def test_a_container_that_forbids_namespaces(tmp_path):
    (tmp_path / ".dockerenv").touch()
    finding = checks.explain_namespaces(tmp_path, "Operation not permitted")
    assert finding.detail == "forbidden by the container (Operation not permitted)"
    assert "--privileged" in finding.advice


def test_a_chroot_that_forbids_namespaces(tmp_path):
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/root").symlink_to("/")
    assert checks.explain_namespaces(tmp_path, "no").detail == "forbidden in a chroot, by every kernel"


def test_namespaces_forbidden_for_an_unknown_reason(tmp_path):
    assert checks.explain_namespaces(tmp_path, "said this").detail == "bubblewrap failed: said this"


def test_the_sandbox_is_really_tried():
    works = subprocess.run(["bwrap", "--unshare-user", "--ro-bind", "/", "/", "true"], check=False).returncode == 0
    (finding,) = asyncio.run(checks.check_sandbox(Runner(), needed=True))
    assert finding.status == ("ok" if works else "missing")
    (finding,) = asyncio.run(checks.check_sandbox(Runner(), needed=False))
    assert finding == Finding("user namespaces", "ok", "not used with --environment host")


def test_emulation_is_really_tried(tmp_path):
    namespace = ["unshare", "--user", "--mount", "--map-root-user"]
    mount = ["mount", "-t", "binfmt_misc", "none", "/proc/sys/fs/binfmt_misc"]
    works = subprocess.run([*namespace, *mount], check=False, capture_output=True).returncode == 0
    finding = asyncio.run(checks.check_emulation(Runner()))
    assert (finding.subject, finding.status) == ("emulation", "ok" if works else "warning")
    finding = asyncio.run(checks.check_emulation(Runner(), tmp_path / "none"))
    assert finding.status == "warning"
    assert finding.detail.startswith("programs of other architectures cannot be emulated here: ")
    assert finding.advice


@pytest.mark.parametrize(
    ("free", "status"), [(checks.DISK, "ok"), (checks.DISK - 1, "warning"), (checks.DISK_LEAST - 1, "missing")]
)
def test_disk(free, status):
    finding = checks.judge_disk("disk: cache", Path("/c"), free)
    assert finding.status == status
    assert finding.advice == ("" if status == "ok" else "use another disk: --cache DIR")


def test_disk_of_a_directory_that_is_yet_to_be_made(tmp_path):
    (finding,) = checks.check_disk({"workspace": tmp_path / "a" / "b"})
    assert finding.detail.split(";")[0].endswith(f"free in {tmp_path}/a/b")


def test_keys_of_the_archive(tmp_path):
    finding = checks.check_keyring(tmp_path / "keys.gpg")
    assert (finding.status, finding.packages) == ("missing", ("debian-archive-keyring",))


def test_another_rocm_matters_only_without_a_sandbox(tmp_path):
    assert checks.check_foreign_rocm({}, sandboxed=False, opt=tmp_path)[0].detail == "none"
    (tmp_path / "rocm-5.7").mkdir()
    (seen,) = checks.check_foreign_rocm({}, sandboxed=True, opt=tmp_path)
    assert (seen.status, seen.detail) == ("ok", f"{tmp_path}/rocm-5.7: builds do not see it")
    (seen,) = checks.check_foreign_rocm({}, sandboxed=False, opt=tmp_path)
    assert (seen.status, seen.advice) == ("warning", "use --environment sandbox")


@pytest.fixture
def archive(tmp_path):
    """Serve an archive that has one suite."""
    release = tmp_path / "debian/dists/bookworm/InRelease"
    release.parent.mkdir(parents=True)
    release.write_text("Suite: bookworm\n")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Archive(f"http://127.0.0.1:{server.server_port}/debian/", None, Path("/k"), False, BASE_ENVIRONMENT)
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(not Path(HELPER).exists(), reason="needs apt")
def test_which_distributions_the_archive_has(archive):
    catalog = make_catalog()
    distributions = [catalog.distribution("debian-12"), catalog.distribution("debian-13")]
    found, lacking = asyncio.run(checks.check_suites(archive, distributions))
    assert found == Finding("debian-12", "ok", f"in {archive.main}")
    assert (lacking.subject, lacking.status) == ("debian-13", "warning")
    assert "404" in lacking.detail
    assert "--apt-mirror URL" in lacking.advice


def test_remedies_can_be_copied_into_a_shell():
    findings = [
        Finding("a", "missing", "", packages=("p2",)),
        Finding("b", "missing", "", packages=("p1", "p2")),
        Finding("c", "missing", "", command=("sysctl", "-w", "x=1"), advice="keep it"),
        Finding("d", "ok", ""),
    ]
    assert remedies(findings, root=False) == [
        "sudo apt-get install p1 p2    (or: rocmbuild doctor --fix)",
        "sudo sysctl -w x=1",
        "c: keep it",
    ]
    assert remedies(findings, root=True)[1] == "sysctl -w x=1"
    assert remedies(findings[3:], root=True) == []


def test_sudo_is_told_not_to_ask():
    assert as_root(["a"], root=False, ask=False) == ["sudo", "--non-interactive", "a"]
    assert as_root(["a"], root=True, ask=False) == ["a"]
