"""The git path on real source: a forge made from the archive's files, with upstream's refs and organizations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from rocmbuild.model.catalog import make_catalog
from tests.e2e.conftest import BRANCH, Command, jobs
from tests.integration.forge import Forge

pytestmark = pytest.mark.e2e

WORKSPACE = "git"
"""Apart from that of the other tests, which may run at the same time."""

REPOSITORIES = {
    # source: the repository as the manifest names it, the ref, the organization that has it today
    "rocm-llvm": ("compute", "llvm-project", "rocm-5.6.1", "RadeonOpenCompute"),
    "rocr": ("compute", "ROCR-Runtime", "rocm-5.6.x", "ROCm"),
    "clr": ("tools", "clr", "rocm-5.6.x", "ROCm-Developer-Tools"),
    "rocm-smi-lib": ("compute", "rocm_smi_lib", "release/rocm-rel-5.6", "ROCm"),
    "hipify": ("tools", "HIPIFY", "rocm-5.6.x", "ROCm"),
}
SERVED = ("device-libs", "comgr", "hipcc", "rocr", "clr-hip", "rocm-smi-lib", "hipify")


@pytest.fixture(scope="module")
def forge(rocmbuild: Command, e2e_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Forge:
    """Repositories made of the archive's source files, which the first fetch brings."""
    fetched = rocmbuild("fetch", "--branch", BRANCH, workspace=WORKSPACE)
    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    forge = Forge(tmp_path_factory.mktemp("forge"))
    sources = {source.name: source for source in make_catalog().manifest(BRANCH).sources()}
    for name, (_, repository, ref, organization) in REPOSITORIES.items():
        source = sources[name]
        archive = e2e_cache / "cache" / "downloads" / source.sha256 / Path(source.path).name
        made = forge.create(f"{organization}/{repository}", archive, branch="develop")
        made.tag("rocm-5.6.1")
        if ref != "rocm-5.6.1":
            made.branch(ref)
        made.branch("develop")
        made.commit({"later": "work that is not released"})
    return forge


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped manifest with git in place of archives."""
    data = yaml.safe_load(make_catalog().branches()[BRANCH].read_text())
    data["branch"] = "from-git"
    data["remotes"] = {
        "compute": ["https://forge.invalid/RadeonOpenCompute/", "https://forge.invalid/ROCm/"],
        "tools": ["https://forge.invalid/ROCm-Developer-Tools/", "https://forge.invalid/ROCm/"],
    }
    for name, (remote, repository, ref, _) in REPOSITORIES.items():
        data["sources"][name] = {"repository": repository, "remote": remote, "ref": ref}
    directory = tmp_path_factory.mktemp("manifests")
    (directory / "from-git.yaml").write_text(yaml.safe_dump(data))
    return directory


def options(forge: Forge, manifests: Path) -> list[str]:
    return ["--branch", "from-git", "--manifests", str(manifests), "--mirror", f"https://forge.invalid/={forge.url}"]


def test_git_and_archives_give_the_same_trees(
    rocmbuild: Command, forge: Forge, manifests: Path, e2e_cache: Path
) -> None:
    done = rocmbuild("fetch", *options(forge, manifests), workspace=WORKSPACE)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in SERVED:
        trees = [
            json.loads((e2e_cache / WORKSPACE / "src" / branch / f"{BRANCH}-amd64" / f"{name}.json").read_text())
            for branch in (BRANCH, "from-git")
        ]
        assert trees[0]["digest"] == trees[1]["digest"], name


def test_a_component_is_built_from_git(rocmbuild: Command, forge: Forge, manifests: Path, e2e_cache: Path) -> None:
    done = rocmbuild(
        "build", *options(forge, manifests), "--no-verify", "rocm-smi-lib", "rocm-core", workspace=WORKSPACE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    out = e2e_cache / WORKSPACE / "out" / "from-git" / f"{BRANCH}-amd64"
    assert {path.name.split("_")[0] for path in out.glob("*.deb")} == {"rocm-core", "rocm-smi-lib"}


def test_a_release_that_moves_on_is_built_anew(
    rocmbuild: Command, forge: Forge, manifests: Path, tmp_path: Path
) -> None:
    arguments = ("plan", *options(forge, manifests), "--format", "json")
    before = jobs(rocmbuild(*arguments, workspace=WORKSPACE))
    # the tag stays, the branch moves
    work = Forge(forge.path)
    repository = next(path for path in (work.path / ".work").glob("*/ROCR-Runtime"))
    from tests.integration.forge import Repository

    moving = Repository(repository, work.path / "ROCm" / "ROCR-Runtime.git")
    moving.git("checkout", "--quiet", "rocm-5.6.x")
    moving.commit({"README.md": "a fix"})
    after = jobs(rocmbuild(*arguments, workspace=WORKSPACE))
    moved = {name for name in after if after[name]["fingerprint"] != before[name]["fingerprint"]}
    assert {"rocr", "clr-hip"} <= moved
    assert not {"device-libs", "comgr", "hipcc", "hipify", "rocm-smi-lib"} & moved


def test_a_misspelt_ref_names_those_that_look_like_it(rocmbuild: Command, forge: Forge, manifests: Path) -> None:
    path = manifests / "from-git.yaml"
    text = path.read_text()
    try:
        path.write_text(text.replace("ref: release/rocm-rel-5.6", "ref: release/rocm-rel-5.7"))
        done = rocmbuild("plan", *options(forge, manifests), workspace=WORKSPACE)
    finally:
        path.write_text(text)
    assert done.returncode == 2
    assert "release/rocm-rel-5.6" in done.stderr
    assert "rocm_smi_lib" in done.stderr
