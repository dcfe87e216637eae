"""What is chosen to be shared, which files are taken for saved ones, how a server's words are told."""

import io
import tarfile

import pytest

from rocmbuild.errors import StoreError, UsageError
from rocmbuild.run.sharing import Remote, _check_remote, _explain, choose, inspect
from rocmbuild.run.store import Entry


def entry(component, *requires):
    key = "0" * 64
    names = tuple(f"{name}/1+{key}" for name in requires)
    return Entry(component, "1", key, f"{component}/1+{key}#1:2#3", "f" * 64, None, None, names)


ENTRIES = [entry("hip", "rocr", "llvm"), entry("llvm"), entry("rocr", "roct"), entry("roct"), entry("smi", "gone")]


def chosen(*components):
    return [item.component for item in choose(ENTRIES, components)]


def test_what_is_required_comes_along_and_comes_first():
    assert chosen("rocr") == ["roct", "rocr"]
    hip = chosen("hip")
    assert sorted(hip) == ["hip", "llvm", "rocr", "roct"]
    assert hip[-1] == "hip" and hip.index("roct") < hip.index("rocr")
    assert chosen("smi") == ["smi"]
    assert len(chosen()) == 5


def test_an_unknown_component_names_the_nearest():
    with pytest.raises(UsageError, match="there is no entry of lvm") as caught:
        chosen("lvm")
    assert caught.value.hint == "did you mean llvm?"


def archive(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, kind in members.items():
            info = tarfile.TarInfo(name)
            if kind is None:
                info.size = 4
                tar.addfile(info, io.BytesIO(b"text"))
            else:
                info.type, info.linkname = kind
                tar.addfile(info)
    return path


GOOD = {
    "pkglist.json": None,
    "rocrc99735109b3fc/e/conanfile.py": None,
    "b/rocrb1007b87caab7/p/stage/opt/file": None,
    "b/rocrb1007b87caab7/p/stage/opt/link": (tarfile.SYMTYPE, "/anywhere"),
}


def test_a_saved_file_is_taken(tmp_path):
    inspect(archive(tmp_path / "x.tgz", GOOD))
    inspect(archive(tmp_path / "x.txz", GOOD, "w:xz"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../../etc/passwd", None),
        ("b/rocrb1007b87caab7/p/../../../x", None),
        ("/etc/passwd", None),
        ("cache.sqlite3", None),
        ("b/rocrb1007b87caab7/other", None),
        ("b/rocrb1007b87caab7/p/stage/opt/link/passwd", None),
        ("b/rocrb1007b87caab7/p/stage/opt/./link", None),
        ("b/rocrb1007b87caab7/p/stage/opt//link", (tarfile.SYMTYPE, "/elsewhere")),
        ("b/rocrb1007b87caab7/p/hard", (tarfile.LNKTYPE, "/etc/passwd")),
        ("b/rocrb1007b87caab7/p/device", (tarfile.CHRTYPE, "")),
    ],
)
def test_a_file_that_would_write_elsewhere_is_refused(tmp_path, name, kind):
    path = archive(tmp_path / "x.tgz", {**GOOD, name: kind})
    with pytest.raises(UsageError, match="has no place in it"):
        inspect(path)


def test_a_link_is_known_however_its_name_is_written(tmp_path):
    place = "b/rocrb1007b87caab7/p"
    link = {f"{place}/./away": (tarfile.SYMTYPE, "/etc")}
    path = archive(tmp_path / "x.tgz", {**GOOD, **link, f"{place}/away/passwd": None})
    with pytest.raises(UsageError, match="away/passwd has no place in it"):
        inspect(path)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    whole = archive(tmp_path / "x.tgz", GOOD).read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        (tmp_path / "part.tgz").write_bytes(whole[:size])
        with pytest.raises(UsageError, match="is not whole, or no file of a store") as caught:
            inspect(tmp_path / "part.tgz")
        assert "\n" not in caught.value.message


def test_a_flipped_byte_is_found_wherever_it_is(tmp_path):
    whole = archive(tmp_path / "x.tgz", GOOD).read_bytes()
    for position in range(10 + len("x.tgz") + 1, len(whole), 7):  # behind the name, which nothing depends on
        broken = bytearray(whole)
        broken[position] ^= 0x10
        (tmp_path / "broken.tgz").write_bytes(broken)
        with pytest.raises(UsageError, match=r"broken\.tgz"):
            inspect(tmp_path / "broken.tgz")


def test_other_files_are_told_apart(tmp_path):
    with pytest.raises(UsageError, match=r"missing\.tgz cannot be read: No such file"):
        inspect(tmp_path / "missing.tgz")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        inspect(tmp_path)
    with pytest.raises(UsageError, match="is an archive, but none of a store"):
        inspect(archive(tmp_path / "other.tgz", {"b/rocrb1007b87caab7/p/file": None}))


@pytest.mark.parametrize(
    ("name", "url", "message"),
    [
        ("team", "ftp://host/x", "'ftp://host/x' is no address of a server"),
        ("team", "host:9300", "'host:9300' is no address of a server"),
        ("team", "http://[::1", "'http://[::1' is no address of a server"),
        ("team", "http://host:port/", "'http://host:port/' is no address of a server"),
        ("team", "http://host:99999", "'http://host:99999' is no address of a server"),
        ("team", "https://", "'https://' is no address of a server"),
        ("team", "https://me:secret@host/", "the address of team has a user in it"),
        ("-x", "https://host/", "'-x' is no name of a remote"),
        ("a b", "https://host/", "'a b' is no name of a remote"),
    ],
)
def test_mistakes_in_remotes_are_refused(name, url, message):
    with pytest.raises(UsageError) as caught:
        _check_remote(Remote(name, url))
    assert caught.value.message == message
    assert caught.value.hint and "secret" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("Max retries exceeded with url: /v1/ping", StoreError, "the server team does not answer: https://host"),
        ("Conan interactive mode disabled. [Remote: team]", UsageError, "the server team does not know you"),
        ("Authentication error in remote 'team'.", UsageError, "the server team does not accept user and password"),
        ("Permission denied for user: 'me'", UsageError, "the server team does not permit that"),
        ("something new", StoreError, "something new"),
    ],
)
def test_what_a_server_wants_is_told_in_our_words(said, kind, told):
    error = _explain(Remote("team", "https://host"), StoreError(said))
    assert type(error) is kind
    assert error.message.startswith(told)
