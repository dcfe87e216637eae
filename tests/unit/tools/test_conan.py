"""What Conan prints, and what it is told: by samples of what it printed."""

import json

import pytest

from rocmbuild.tools import conan
from rocmbuild.tools.conan import Package

KEY = "a" * 64
NAME = f"rocr/6.4.3+{KEY}"
REFERENCE = f"{NAME}#282dc90b:6f31c7a3#896965a6"


def listed(info, origin="Local Cache"):
    revision = {"896965a6": {"timestamp": 1795354871.2}}
    packages = {"6f31c7a3": {"revisions": revision, "info": info}}
    return json.dumps({origin: {NAME: {"revisions": {"282dc90b": {"timestamp": 1.0, "packages": packages}}}}}).encode()


@pytest.mark.parametrize("origin", ["Local Cache", "team"])
def test_packages_have_full_references_and_options(origin):
    assert conan.parse_packages(listed({"options": {"output": "x", "debs": ""}}, origin)) == [
        Package("rocr", f"6.4.3+{KEY}", REFERENCE, {"output": "x", "debs": ""})
    ]


@pytest.mark.parametrize("info", [{}, None, {"options": ["debs=", "outp"]}, {"options": None}])
def test_a_package_whose_facts_are_damaged_has_none(info):
    (package,) = conan.parse_packages(listed(info))
    assert package.options == {}


@pytest.mark.parametrize(
    "data",
    [{"Local Cache": {}}, {"Local Cache": {NAME: {}}}, {"Local Cache": {NAME: {"revisions": {"282dc90b": {}}}}}],
)
def test_a_recipe_without_a_binary_is_no_package_but_is_there(data):
    output = json.dumps(data).encode()
    assert conan.parse_packages(output) == []
    assert conan.parse_recipes(output) == list(data["Local Cache"])


def test_an_error_in_a_list_is_an_error_though_conan_exits_with_zero():
    with pytest.raises(ValueError, match=r"^file is not a database$"):
        conan.parse_packages(b'{"Local Cache": {"error": "file is not a database"}}')


def test_an_exported_package_is_told_by_the_root_of_the_graph():
    node = {"ref": f"{NAME}#282dc90b", "package_id": "6f31c7a3", "prev": "896965a6", "package_folder": "/h/p/b/x/p"}
    reference, place = conan.parse_export(json.dumps({"graph": {"nodes": {"0": node}}}).encode())
    assert reference == REFERENCE
    assert str(place) == "/h/p/b/x/p"


def test_a_package_list_names_what_was_listed():
    assert json.loads(conan.package_list([REFERENCE])) == {
        "Local Cache": {NAME: {"revisions": {"282dc90b": {"packages": {"6f31c7a3": {"revisions": {"896965a6": {}}}}}}}}
    }
    with pytest.raises(ValueError, match="is not a full reference"):
        conan.package_list([NAME])


def test_restored_packages_tell_their_directories():
    data = json.loads(listed({}))
    binary = data["Local Cache"][NAME]["revisions"]["282dc90b"]["packages"]["6f31c7a3"]
    binary["revisions"]["896965a6"]["package_folder"] = "rocr1/p"
    assert conan.parse_restored(json.dumps(data).encode()) == {REFERENCE: "rocr1/p"}


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        (["Computing", "ERROR: Package 'x' not resolved"], "Package 'x' not resolved"),
        (
            ["ERROR: Traceback (most recent call last):", "  File", "ERROR: file is not a database"],
            "file is not a database",
        ),
        (["ERROR: Wrong user or password", "ERROR: Authentication error"], "Authentication error"),
        (["Error in Conan initialization: bad", ""], "Error in Conan initialization: bad"),
        ([], "it said nothing"),
    ],
)
def test_complaint_is_what_was_said_last(tail, said):
    assert conan.complaint(tail) == said


@pytest.mark.parametrize(
    ("text", "damage"),
    [
        ("file is not a database", True),
        ("database disk image is malformed", True),
        ("no such table: packages", True),
        ("database or disk is full", False),
        ("unable to open database file", False),
        ("Recipe not found: 'rocr'", False),
    ],
)
def test_only_a_broken_database_is_damage(text, damage):
    assert conan.is_damage(text) is damage


def test_a_home_has_no_remotes_and_is_not_made_twice(tmp_path):
    conan.prepare_home(tmp_path / "home")
    remotes = tmp_path / "home" / "remotes.json"
    assert json.loads(remotes.read_text()) == {"remotes": []}
    remotes.write_text('{"remotes": [1]}')
    conan.prepare_home(tmp_path / "home")
    assert remotes.read_text() == '{"remotes": [1]}'


def test_only_what_logs_in_is_taken_from_the_user():
    environ = {"CONAN_LOGIN_USERNAME": "me", "CONAN_PASSWORD_TEAM": "secret", "CONAN_HOME": "/mine", "HOME": "/me"}
    assert conan.credentials(environ) == {"CONAN_LOGIN_USERNAME": "me", "CONAN_PASSWORD_TEAM": "secret"}


def test_the_conan_installed_with_rocmbuild_is_found():
    assert conan.find_conan().name == "conan"
    assert conan.find_conan().is_file()
