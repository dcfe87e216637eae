"""The documents that ship, each read once by a process of tests: what is made of them is frozen."""

from __future__ import annotations

from dataclasses import fields
from functools import cache

from rocmbuild.model.catalog import Catalog, make_catalog
from rocmbuild.model.manifest import Manifest
from rocmbuild.model.recipe import Recipe


class _Read(Catalog):
    @cache  # noqa: B019 - there is one of them
    def recipe(self, name: str) -> Recipe:
        return super().recipe(name)

    @cache  # noqa: B019
    def manifest(self, branch: str) -> Manifest:
        return super().manifest(branch)


_FOUND = make_catalog()
CATALOG = _Read(**{field.name: getattr(_FOUND, field.name) for field in fields(_FOUND)})
