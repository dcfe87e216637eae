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


def configuration(directory: Path, *, status: Path, sources: Path, archives: Path, arch: str, allow_stale: bool) -> str:
    """Return the text of a configuration file for ``apt-get -c``, which reads it after the machine's own.

    ``directory`` gets lists and caches, ``status`` is a dpkg status file, ``sources`` a sources.list, ``archives``
    where packages are downloaded to. Unsigned indices are refused; old ones too, unless ``allow_stale``.
    """
    return _PRIVATE.format(
        directory=directory,
        status=status,
        sources=sources,
        archives=archives,
        arch=arch,
        fresh="false" if allow_stale else "true",
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
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::Etc::Trusted "/dev/null";
Dir::Etc::TrustedParts "/dev/null";
APT::Architecture "{{arch}}";
APT::Architectures {{{{ "{{arch}}"; }}}};
Acquire::AllowInsecureRepositories "false";
Acquire::Retries "3";
Acquire::Check-Valid-Until "{{fresh}}";
{COMMON}"""
