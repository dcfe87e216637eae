"""Four layers, one value; and errors that say which layer was wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rocmbuild
from rocmbuild.arguments import parse
from rocmbuild.errors import DocumentError, UsageError
from rocmbuild.machine import available_cpus, available_memory
from rocmbuild.options import OPTIONS
from rocmbuild.settings import Settings, load_settings, unknown_variables

HOME = {"HOME": "/nowhere"}


def settings(directory: Path, *words: str, file: str | None = None, **variables: str) -> Settings:
    if file is not None:
        (directory / "rocmbuild.yaml").write_text(file)
    return load_settings(parse(words), {**HOME, **variables}, directory)


def test_each_layer_overrides_the_one_below(tmp_path):
    assert settings(tmp_path).jobs == available_cpus()
    assert settings(tmp_path, file="jobs: 3\n").jobs == 3
    assert settings(tmp_path, ROCMBUILD_JOBS="4").jobs == 4
    assert settings(tmp_path, "-j5", ROCMBUILD_JOBS="4").jobs == 5


def test_defaults(tmp_path):
    found = settings(tmp_path)
    assert found.workspace == tmp_path / "workspace"
    assert found.cache == Path("/nowhere/.cache/rocmbuild")
    assert (found.branch, found.verify, found.environment, found.verbosity) == (None, True, "sandbox", 0)
    assert found.memory == available_memory()


def test_xdg_directories_are_used_only_if_absolute(tmp_path):
    assert settings(tmp_path, XDG_CACHE_HOME="/c").cache == Path("/c/rocmbuild")
    assert settings(tmp_path, XDG_CACHE_HOME="c").cache == Path("/nowhere/.cache/rocmbuild")


@pytest.mark.parametrize(
    "given",
    [
        {"words": ("--gpu", "gfx1030,gfx90a", "--gpu", "gfx1100")},
        {"ROCMBUILD_GPU": "gfx1030,gfx90a gfx1100"},
        {"file": "gpu: [gfx1030, gfx90a, gfx1100]\n"},
    ],
)
def test_several_names_in_every_layer(tmp_path, given):
    words = given.pop("words", ())
    assert settings(tmp_path, *words, **given).gpus == ("gfx1030", "gfx90a", "gfx1100")


@pytest.mark.parametrize(
    "given",
    [
        {"words": ("--mirror", "https://a/=https://b/x=1", "--mirror", "c=d")},
        {"ROCMBUILD_MIRROR": "https://a/=https://b/x=1 c=d"},
        {"file": 'mirror: {"https://a/": "https://b/x=1", c: d}\n'},
    ],
)
def test_mirrors_in_every_layer(tmp_path, given):
    words = given.pop("words", ())
    assert settings(tmp_path, *words, **given).mirrors == (("https://a/", "https://b/x=1"), ("c", "d"))


def test_local_sources_start_from_where_they_were_named(tmp_path):
    checkout = tmp_path / "code" / "rocr"
    checkout.mkdir(parents=True)
    assert settings(tmp_path, "--source", "rocr=code/rocr").sources == {"rocr": checkout}
    config = tmp_path / "code" / "other.yaml"
    config.write_text("source: {rocr: rocr}\nworkspace: ../builds\n")
    found = settings(tmp_path, "--config", "code/other.yaml")
    assert found.sources == {"rocr": checkout}
    assert found.workspace == tmp_path / "builds"


def test_own_directories_keep_their_order(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    both = (tmp_path / "b", tmp_path / "a")
    assert settings(tmp_path, "--recipes", "b", "--recipes", "a").recipes == both
    assert settings(tmp_path, ROCMBUILD_RECIPES="b:a").recipes == both


@pytest.mark.parametrize(("text", "value"), [("1", True), ("YES", True), ("off", False), ("0", False)])
def test_switches_as_variables(tmp_path, text, value):
    assert settings(tmp_path, ROCMBUILD_OFFLINE=text).offline is value


def test_a_switch_of_a_lower_layer_can_be_switched_back(tmp_path):
    assert settings(tmp_path, "--no-offline", "--verify", file="offline: true\nverify: false\n").offline is False
    assert settings(tmp_path).verify is False
    assert settings(tmp_path, "--verify").verify is True


def test_verbosity_adds_up(tmp_path):
    assert settings(tmp_path, "-vv").verbosity == 2
    assert settings(tmp_path, "-qv", "--quiet").verbosity == -1
    assert settings(tmp_path, ROCMBUILD_VERBOSITY="-1").verbosity == -1


def test_empty_variables_set_nothing(tmp_path):
    assert settings(tmp_path, ROCMBUILD_BRANCH="", ROCMBUILD_JOBS="").branch is None


def test_words_go_where_the_verb_wants_them(tmp_path):
    assert settings(tmp_path, "list", "gpus").topic == "gpus"
    logs = settings(tmp_path, "logs", "rocr", "configure")
    assert (logs.components, logs.step) == (("rocr",), "configure")
    shell = settings(tmp_path, "shell", "rocr", "--", "env", "-0")
    assert (shell.components, shell.command) == (("rocr",), ("env", "-0"))
    assert settings(tmp_path, "rocr", "--", "hip").components == ("rocr", "hip")


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        (("-j", "x"), {}, "--jobs: 'x' is not a number"),
        ((), {"ROCMBUILD_JOBS": "x"}, "ROCMBUILD_JOBS: 'x' is not a number"),
        ((), {"ROCMBUILD_JOBS": "0"}, "ROCMBUILD_JOBS: 0 is too small; the least is 1"),
        (("--memory", "16"), {}, "--memory: '16' is not a size such as 512M or 2G"),
        (("--memory", "1M"), {}, "--memory: 1M is too small; the least is 256M"),
        ((), {"ROCMBUILD_OFFLINE": "x"}, "ROCMBUILD_OFFLINE: 'x' is neither yes nor no (1, true"),
        (("--environment", "jail"), {}, "--environment: 'jail' is neither sandbox nor host"),
        (("--source", "rocr"), {}, "--source: 'rocr' is not of the form COMPONENT=PATH"),
        (("--source", "rocr=/no/such"), {}, "--source: there is no directory /no/such"),
        (("--mirror", "=x"), {}, "--mirror: '=x' is not of the form PREFIX=URL"),
        ((), {"ROCMBUILD_MANIFESTS": "/no/such"}, "ROCMBUILD_MANIFESTS: there is no directory /no/such"),
        (("--branch", ""), {}, "--branch: it is empty"),
        (("--config", "/no/such.yaml"), {}, "--config: there is no file /no/such.yaml"),
        ((), {"ROCMBUILD_CONFIG": "/no/such.yaml"}, "ROCMBUILD_CONFIG: there is no file /no/such.yaml"),
        ((), {"ROCMBUILD_VERBOSITY": "loud"}, "ROCMBUILD_VERBOSITY: 'loud' is not a number"),
    ],
)
def test_an_error_says_which_layer(tmp_path, words, variables, message):
    with pytest.raises(UsageError) as caught:
        settings(tmp_path, *words, **variables)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("offline: true\njobs: x\n", "rocmbuild.yaml:2:7: jobs: \"x\" is not of type 'integer'"),
        ("memory: much\n", 'rocmbuild.yaml:1:9: memory: "much" is not a size such as 512M or 16G'),
        ("memory: 1M\n", "rocmbuild.yaml:1:9: memory: 1M is too small"),
        ("source:\n  rocr: /no/such\n", "rocmbuild.yaml:2:3: source: there is no directory /no/such"),
        ("jbos: 3\n", "rocmbuild.yaml:1:1: jbos: unknown key\n    try: did you mean jobs?"),
        ("- a\n", "rocmbuild.yaml:1:1: a mapping is expected here"),
    ],
)
def test_an_error_in_the_file_says_line_and_column(tmp_path, monkeypatch, file, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, DocumentError)) as caught:
        settings(tmp_path, file=file)
    assert str(caught.value).startswith(message)


def test_an_error_of_a_layer_that_is_overridden_is_found_too(tmp_path):
    with pytest.raises(DocumentError):
        settings(tmp_path, "-j", "2", file="jobs: 0\n")


def test_the_directorys_file_wins_over_the_users(tmp_path):
    user = tmp_path / "config" / "rocmbuild"
    user.mkdir(parents=True)
    (user / "config.yaml").write_text("branch: users\n")
    variables = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert settings(tmp_path, **variables).branch == "users"
    assert settings(tmp_path, file="branch: ours\n", **variables).branch == "ours"


def test_the_schema_of_the_file_has_every_option_that_a_file_can_set():
    schema = Path(rocmbuild.__file__).parent / "data/schemas/config.json"
    keys = set(json.loads(schema.read_text())["properties"])
    assert keys == {name for name, option in OPTIONS.items() if option.layers} - {"config"}


def test_variables_that_set_nothing_are_named():
    found = unknown_variables({"ROCMBUILD_JOB": "3", "ROCMBUILD_JOBS": "3", "ROCMBUILD_FIX": "1", "OTHER": ""})
    assert list(found) == ["ROCMBUILD_FIX", "ROCMBUILD_JOB"]
    assert "did you mean ROCMBUILD_JOBS" in found["ROCMBUILD_JOB"]


def test_the_branch_is_asked_for(tmp_path):
    with pytest.raises(UsageError, match="plan needs --branch") as caught:
        settings(tmp_path, "plan").required_branch()
    assert "rocmbuild list branches" in str(caught.value.hint)
    assert settings(tmp_path, "--branch", "x").required_branch() == "x"


def machine(root: Path, groups: str, **limits: str) -> int:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemFree: 1 kB\nMemTotal:       8388608 kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in limits.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return available_memory(root)


def test_memory_is_what_the_machine_has(tmp_path):
    assert machine(tmp_path, "0::/user\n", **{"user/memory.max": "max\n"}) == 7 << 30


def test_memory_is_limited_by_a_control_group_above(tmp_path):
    files = {"a/b/memory.max": "max\n", "a/memory.max": f"{4 << 30}\n"}
    assert machine(tmp_path, "0::/a/b\n", **files) == (4 << 30) * 7 // 8


def test_memory_is_limited_by_a_control_group_of_version_1(tmp_path):
    files = {"memory/memory.limit_in_bytes": f"{2 << 30}\n"}
    assert machine(tmp_path, "4:memory:/docker/x\n3:cpu:/\n", **files) == (2 << 30) * 7 // 8


def test_memory_without_control_groups(tmp_path):
    assert machine(tmp_path, "") == 7 << 30


def test_the_store_is_in_the_cache_unless_somebody_says_where(tmp_path):
    assert settings(tmp_path, "--cache", "here").store == tmp_path / "here" / "store"
    assert settings(tmp_path, "--store", "there", "--cache", "here").store == tmp_path / "there"
    assert settings(tmp_path, file="store: shared\nreuse: false\n").store == tmp_path / "shared"
    assert (settings(tmp_path).reuse, settings(tmp_path, "--reuse").reuse) == (False, True)


def test_actions_of_the_store_and_their_words(tmp_path):
    found = settings(tmp_path, "store", "gc", "--keep-days", "3", "--keep-size", "1G")
    assert (found.topic, found.components, found.keep_days, found.keep_size) == ("gc", (), 3, 1 << 30)
    found = settings(tmp_path, "store", "push", "team", "hip")
    assert (found.topic, found.components, found.reuse) == ("push", ("team", "hip"), True)
