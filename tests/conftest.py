import pytest

from nut import Stage


@pytest.fixture
def stage():
    """Servers and proxies of one test."""
    with Stage() as s:
        yield s


@pytest.fixture(scope="module")
def shared():
    """Servers and proxies that all tests of a file share."""
    with Stage() as s:
        yield s
