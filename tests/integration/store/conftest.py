"""Stores in several states, made once and copied: everything in them is relative."""

import shutil

import pytest

from tests.integration.shop import Shop


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


@pytest.fixture(scope="session")
def base_once(tmp_path_factory):
    shop = Shop(tmp_path_factory.mktemp("base"))
    shop.put("base", "a")
    return shop


@pytest.fixture(scope="session")
def filled_once(base_once, tmp_path_factory):
    shop = copy(base_once, tmp_path_factory.mktemp("filled"))
    shop.put("app", "b", *shop.entries().values())
    return shop


def copy(shop, directory):
    """Copy a store to another place: everything in it is relative."""
    shutil.copytree(shop.directory, directory / "shop", symlinks=True)
    return Shop(directory / "shop")


@pytest.fixture
def filled(filled_once, tmp_path):
    """A store of two components, ``app`` requires ``base``."""
    return copy(filled_once, tmp_path)


@pytest.fixture
def filled_base(base_once, tmp_path):
    """A store of one component, and that."""
    shop = copy(base_once, tmp_path)
    (known,) = shop.store.remembered()
    return shop, shop.store.known(known["entry"]["reference"].partition("#")[0])
