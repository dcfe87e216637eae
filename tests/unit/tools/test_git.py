"""Addresses, refs and the words of git servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocmbuild.errors import FetchError, UsageError
from rocmbuild.process import BASE_ENVIRONMENT
from rocmbuild.tools.git import Git
from rocmbuild.tools.gitremote import (
    Answer,
    Refusal,
    candidates,
    classify,
    failed,
    git_environment,
    join_url,
    last_complaint,
    parse_refs,
    transport,
)


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (["fatal: unable to access 'https://x/': Could not resolve host: x"], Answer.UNREACHABLE),
        (["fatal: unable to connect to x:", "x[0: 10.0.0.1]: errno=Network is unreachable"], Answer.UNREACHABLE),
        (["ssh: Could not resolve hostname x: Name or service not known", "fatal: Could not read"], Answer.UNREACHABLE),
        (["remote: Repository not found.", "fatal: repository 'https://x/y/' not found"], Answer.GONE),
        (["fatal: could not read Username for 'https://x': terminal prompts disabled"], Answer.GONE),
        (["git@x: Permission denied (publickey).", "fatal: Could not read from remote repository."], Answer.GONE),
        (["fatal: '/x' does not appear to be a git repository"], Answer.GONE),
        (["error: RPC failed; curl 56 Recv failure: Connection reset by peer"], Answer.HUNG_UP),
        (["fatal: the remote end hung up unexpectedly", "fatal: early EOF"], Answer.HUNG_UP),
        (["error: RPC failed; curl 92 HTTP/2 stream 5 was not closed cleanly: CANCEL (err 8)"], Answer.HUNG_UP),
        (["fatal: unable to access 'https://x/': The requested URL returned error: 502"], Answer.HUNG_UP),
        (["fatal: unable to access 'https://x/': The requested URL returned error: 429"], Answer.HUNG_UP),
        (["fatal: remote error: upload-pack: not our ref 1111"], Answer.ABSENT),
        (["fatal: couldn't find remote ref refs/heads/x"], Answer.ABSENT),
        (["error: Server does not allow request for unadvertised object 1111"], Answer.UNADVERTISED),
        (["fatal: dumb http transport does not support shallow capabilities"], Answer.UNADVERTISED),
        (["fatal: unable to access 'https://x/': Operation too slow."], Answer.SILENT),
        (["fatal: write error: No space left on device", "fatal: early EOF"], Answer.OTHER),
        (["Host key verification failed.", "fatal: Could not read from remote repository."], Answer.OTHER),
        (["fatal: unable to access 'https://x/': SSL certificate problem: unable to get issuer"], Answer.OTHER),
        ([], Answer.OTHER),
    ],
)
def test_what_git_prints_is_understood(lines: list[str], answer: Answer) -> None:
    assert classify(lines) is answer


def test_only_failures_that_may_pass_are_repeated() -> None:
    passing = {answer for answer in Answer if Refusal("x", answer).passing}
    assert passing == {Answer.UNREACHABLE, Answer.HUNG_UP, Answer.SILENT}


def test_the_line_that_says_most_is_quoted() -> None:
    lines = ["remote: Counting", "error: RPC failed; result=56", "fatal: early EOF", "fatal: the remote end hung up"]
    assert last_complaint(lines) == "early EOF"
    assert last_complaint(["fatal: remote error: no such thing", "error: y"]) == "no such thing"
    assert last_complaint(["whatever"]) == "whatever"
    assert last_complaint([]) == ""


def test_each_cause_brings_its_own_advice_once() -> None:
    refusals = [Refusal("https://a/x", Answer.GONE), Refusal("https://b/x", Answer.GONE)]
    error = failed("rocm-5.6.x", refusals)
    assert error.message.count("no such repository") == 2
    assert error.hint is not None and error.hint.count("check the address") == 1
    single = failed("rocm-5.6.x", refusals[:1])
    assert single.message == "cannot fetch rocm-5.6.x from https://a/x: no such repository, or it is private"


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("https://x/y", "https"),
        ("HTTPS://x/y", "https"),
        ("git@github.com:ROCm/HIP.git", "ssh"),
        ("ssh://x/y", "ssh"),
        ("file:///srv/git", "file"),
        ("/srv/git/HIP", "file"),
        ("../HIP", "file"),
    ],
)
def test_the_protocol_of_an_address(url: str, protocol: str) -> None:
    assert transport(url) == protocol


@pytest.mark.parametrize("url", ["ext::sh -c x", "EXT::sh -c x", "fd::3", "ftp://x/y", "-u", "http::https://x"])
def test_other_protocols_are_refused(url: str) -> None:
    with pytest.raises(UsageError):
        transport(url)


@pytest.mark.parametrize(
    ("parent", "url", "joined"),
    [
        ("https://github.com/ROCm/rocRAND", "../hipRAND.git", "https://github.com/ROCm/hipRAND.git"),
        ("https://github.com/ROCm/rocRAND.git/", "../../AMD/x", "https://github.com/AMD/x"),
        ("https://github.com/ROCm/rocRAND", "./x", "https://github.com/ROCm/rocRAND/x"),
        ("https://github.com/ROCm/rocRAND", "https://example.org/x", "https://example.org/x"),
        ("git@github.com:ROCm/rocRAND", "../x", "git@github.com:ROCm/x"),
        ("git@github.com:rocRAND", "../x", "git@github.com:x"),
        ("/srv/git/a", "../b", "/srv/git/b"),
    ],
)
def test_relative_submodules(parent: str, url: str, joined: str) -> None:
    assert join_url(parent, url) == joined


def test_a_relative_submodule_cannot_replace_the_host() -> None:
    with pytest.raises(FetchError, match="leads out of"):
        join_url("https://github.com/ROCm", "../../evil.example/x")


def test_refs_are_read_with_tags_peeled() -> None:
    listing = b"aaa\trefs/heads/main\nbbb\trefs/tags/v1\nccc\trefs/tags/v1^{}\nddd\trefs/tags/light\n"
    assert parse_refs(listing) == {"refs/heads/main": "aaa", "refs/tags/v1": "ccc", "refs/tags/light": "ddd"}


def test_a_branch_is_preferred_to_a_tag() -> None:
    assert candidates("rocm-5.6.x") == (
        "refs/heads/rocm-5.6.x",
        "refs/tags/rocm-5.6.x",
        "refs/remotes/origin/rocm-5.6.x",
    )
    assert candidates("refs/tags/x") == ("refs/tags/x",)
    assert candidates("HEAD") == ("HEAD",)


def test_git_asks_nothing_and_keeps_the_users_rules() -> None:
    env = git_environment(
        {"GIT_DIR": "/x", "GIT_ASKPASS": "/usr/bin/ask", "GIT_SSH_COMMAND": "ssh -4", "HOME": "/home/u"}
    )
    assert "GIT_DIR" not in env
    assert (env["GIT_ASKPASS"], env["GIT_TERMINAL_PROMPT"]) == ("", "0")
    assert (env["GIT_SSH_COMMAND"], env["HOME"]) == ("ssh -4", "/home/u")


def test_a_cache_is_named_after_its_address() -> None:
    git = Git(Path("/cache"), BASE_ENVIRONMENT, mirrors=(("https://github.com/", "/mirror/"),))
    first = git.repository("https://github.com/ROCm/HIP").path
    assert first.name.startswith("HIP-") and first.suffix == ".git"
    assert git.repository("https://github.com/ROCm/HIP.git/").path == first
    assert git.repository("https://github.com/Other/HIP").path != first
    assert git.repository("git@github.com:ROCm/HIP").path.name.startswith("HIP-")
