"""What git servers say: addresses, refs, and why they turned a request down."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence

from rocmbuild.errors import FetchError, UsageError

PROTOCOLS = ("file", "git", "http", "https", "ssh")
"""What git may speak; ``ext::`` and other helpers run programs of the address's choice."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(::|://)")
_SCP = re.compile(r"[^/:]+:(?!//)")

_LOCAL_VARIABLES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)


class Answer(enum.Enum):
    """How a request ended that did not succeed; the value says it in words."""

    GONE = "no such repository, or it is private"
    ABSENT = "the repository does not have it"
    UNADVERTISED = "the server gives out branches and tags only, not single commits"
    UNREACHABLE = "no connection to the server"
    HUNG_UP = "the server closed the connection"
    SILENT = "the server stopped sending"
    OTHER = "git failed"


_ANSWERS = (
    (
        Answer.OTHER,
        "no space left|read-only file system|cannot open .*permission denied|host key verification|dubious ownership",
    ),
    (
        Answer.UNADVERTISED,
        "does not allow request for unadvertised|does not support shallow|does not support --depth",
    ),
    (Answer.ABSENT, "not our ref|couldn't find remote ref|unadvertised object"),
    (
        Answer.UNREACHABLE,
        "could not resolve|couldn't resolve|failed to connect|couldn't connect|unable to connect"
        "|connection refused|connection timed out|network is unreachable|no route to host|name or service not known"
        "|proxy connect aborted|temporary failure in name resolution",
    ),
    (Answer.SILENT, "operation too slow|operation timed out|timeout"),
    (
        Answer.GONE,
        "repository .*not found|does not appear to be a git repository|does not exist|repository not exported"
        "|could not read username|terminal prompts disabled|authentication failed"
        r"|permission denied \(publickey|returned error: 40[0134]|not valid: is this a git repository",
    ),
    (
        Answer.HUNG_UP,
        "early eof|hung up|unexpected disconnect|rpc failed|connection reset|connection was reset|broken pipe"
        "|empty reply|transfer closed|server closed|bytes of (length|body)|expected flush|unexpected eof"
        r"|remote end|invalid index-pack|index-pack (failed|died|abnormal)|returned error: (429|5\d\d)|gnutls|ssl_read"
        "|protocol error|bad line length|could not read from remote repository",
    ),
)

_PASSING = frozenset({Answer.UNREACHABLE, Answer.HUNG_UP, Answer.SILENT})

_HINTS: Mapping[Answer, str] = {
    Answer.GONE: "check the address; a repository that moved gets its new address in the manifest's remotes",
    Answer.ABSENT: "the ref may have been rewritten: lock the branch again, or name a ref that contains the commit",
    Answer.UNADVERTISED: "name a branch or tag that contains the commit",
    Answer.UNREACHABLE: "check the network and the proxy (https_proxy); --mirror PREFIX=URL uses another server, "
    "--offline the cache alone",
    Answer.HUNG_UP: "run the same command again, what is complete is kept; --mirror PREFIX=URL uses another server",
    Answer.SILENT: "run the same command again, what is complete is kept; --mirror PREFIX=URL uses another server",
    Answer.OTHER: "the log has all that git said",
}


class Refusal(FetchError):
    """Report a request that one server did not fulfill, and how it ended."""

    def __init__(self, url: str, answer: Answer, lines: Sequence[str] = ()) -> None:
        self.url = url
        self.answer = answer
        said = last_complaint(lines)
        super().__init__(f"{url}: {answer.value}" + (f" ({said})" if said else ""), hint=_HINTS[answer])

    @property
    def passing(self) -> bool:
        """Tell whether another attempt may succeed."""
        return self.answer in _PASSING


def classify(lines: Iterable[str]) -> Answer:
    """Return how a request ended from what git printed in English."""
    text = "\n".join(lines).lower()
    return next((answer for answer, pattern in _ANSWERS if re.search(pattern, text)), Answer.OTHER)


def last_complaint(lines: Sequence[str]) -> str:
    """Return the line in which git or the server said most clearly what is wrong."""
    for start in ("fatal: remote error: ", "ssh: ", "Host key ", "error: ", "fatal: ", "remote: "):
        for line in lines:
            if line.startswith(start) and not line.startswith(("fatal: the remote end", "error: RPC failed; result")):
                return line.removeprefix(start).strip()
    return lines[-1].strip() if lines else ""


def failed(what: str, refusals: Sequence[Refusal]) -> FetchError:
    """Return the error for a request that none of the servers fulfilled."""
    if len(refusals) == 1:
        return FetchError(f"cannot fetch {what} from {refusals[0].message}", hint=refusals[0].hint)
    lines = "".join(f"\n    {refusal.message}" for refusal in refusals)
    hints = dict.fromkeys(refusal.hint for refusal in refusals if refusal.hint)
    return FetchError(f"cannot fetch {what} from any of its addresses:{lines}", hint="; ".join(hints))


def transport(url: str) -> str:
    """Return the protocol an address uses; UsageError if it is none that is safe to use."""
    if url.startswith("-"):
        raise UsageError(f"{url!r} is not the address of a repository")
    scheme = _SCHEME.match(url)
    if scheme is None:
        return "ssh" if _SCP.match(url) else "file"
    if scheme.group(2) == "::" or scheme.group(1).lower() not in PROTOCOLS:
        raise UsageError(
            f"{url}: {scheme.group(1)} is not a protocol that sources are fetched by",
            hint="use one of " + ", ".join(PROTOCOLS),
        )
    return scheme.group(1).lower()


def join_url(parent: str, url: str) -> str:
    """Resolve a submodule's address against the address of its parent, as git does: ``../`` drops a name."""
    if not url.startswith(("./", "../")):
        return url
    base, separator, rest = parent.rstrip("/"), "/", url
    while rest.startswith(("./", "../")):
        if rest.startswith("../"):
            cut = max(base.rfind("/"), base.rfind(":"))
            if cut <= base.find("://") + 2:
                raise FetchError(f"the submodule address {url} leads out of {parent}")
            base, separator = base[:cut], base[cut]
        rest = rest.partition("/")[2]
    return f"{base}{separator}{rest}"


def parse_refs(listing: bytes) -> dict[str, str]:
    """Return ref names and commits from ``git ls-remote``; an annotated tag stands for its commit."""
    refs: dict[str, str] = {}
    peeled: dict[str, str] = {}
    for line in listing.decode("utf-8", "replace").splitlines():
        commit, _, name = line.partition("\t")
        if name.endswith("^{}"):
            peeled[name.removesuffix("^{}")] = commit
        elif name:
            refs[name] = commit
    return {**refs, **peeled}


def candidates(ref: str) -> tuple[str, ...]:
    """Return the full names a ref may have, the preferred first: a branch, then a tag, as ``git clone -b``.

    A mirror that was made by a plain clone has the branches of its origin below ``refs/remotes``.
    """
    if ref == "HEAD" or ref.startswith("refs/"):
        return (ref,)
    return (f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/remotes/origin/{ref}")


def git_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for git: the user's network settings, no questions, no other repository's variables."""
    kept = {key: value for key, value in environment.items() if key not in _LOCAL_VARIABLES}
    return {
        **kept,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS),
        "GIT_NO_REPLACE_OBJECTS": "1",
    }
