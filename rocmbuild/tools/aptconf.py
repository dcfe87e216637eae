"""apt's configuration for private directories: nothing of the system's own is read or written but proxies."""

from __future__ import annotations

from pathlib import Path

COMMON = """\
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
APT::Keep-Downloaded-Packages "true";
Acquire::Languages "none";
Acquire::GzipIndexes "false";
Dpkg::Use-Pty "false";
"""
"""What every apt of ours does, outside and inside of a root."""


NOTHING = Path("/dev/null")


ORIGIN = "rocmbuild"
"""What our repositories call themselves; apt's preferences know them by it."""

PREFERENCES = f"Package: *\nPin: release o={ORIGIN}\nPin-Priority: 600\n"
"""Ours go before the distribution's, whatever their versions: Debian 12 has a hipcc 5.2.3, AMD's of 5.6 is 1.0.0."""


def configuration(
    directory: Path,
    *,
    status: Path,
    sources: Path,
    archives: Path,
    arch: str,
    allow_stale: bool,
    preferences: Path = NOTHING,
) -> str:
    """Return the text of a configuration file for ``apt-get -c``, which reads it after the machine's own.

    ``directory`` gets lists and caches, ``status`` is a dpkg status file, ``sources`` a sources.list, ``archives``
    where packages are downloaded to, ``preferences`` which of them go before others. Unsigned indices are refused;
    old ones too, unless ``allow_stale``.
    """
    return _PRIVATE.format(
        directory=directory,
        status=status,
        sources=sources,
        archives=archives,
        arch=arch,
        fresh="false" if allow_stale else "true",
        preferences=preferences,
    )


_PRIVATE = f"""\
#clear APT::Update;
#clear DPkg;
#clear APT::Architectures;
Dir::State "{{directory}}/state";
Dir::State::Lists "{{directory}}/state/lists";
Dir::State::status "{{status}}";
Dir::Cache "{{directory}}/cache";
Dir::Cache::archives "{{archives}}";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::SourceList "{{sources}}";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "{{preferences}}";
Dir::Etc::PreferencesParts "/dev/null";
Dir::Etc::Trusted "/dev/null";
Dir::Etc::TrustedParts "/dev/null";
APT::Architecture "{{arch}}";
APT::Architectures {{{{ "{{arch}}"; }}}};
Acquire::AllowInsecureRepositories "false";
Acquire::Retries "3";
Acquire::Check-Valid-Until "{{fresh}}";
{COMMON}"""
