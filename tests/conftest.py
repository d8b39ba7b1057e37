import pytest

from fake import Fake
from nut import Stage


@pytest.fixture
def stage():
    """Servers and proxies of one test."""
    with Stage() as s:
        yield s


@pytest.fixture
def fakes():
    """Makes scripted servers, and asks them at the end whether they understood everything."""
    made = []

    def make(*args, **kw):
        made.append(Fake(*args, **kw))
        return made[-1]
    yield make
    for fake in made:
        fake.down()
    assert not [x for fake in made for x in fake.broken]


@pytest.fixture(scope="module")
def shared():
    """Servers and proxies that all tests of a file share."""
    with Stage() as s:
        yield s


@pytest.fixture(scope="module")
def built(request):
    """The House of the test file: its servers and its proxy, started once."""
    with Stage() as stage:
        house = request.module.House(stage)
        yield house
        status = house.proxy.stop()
        assert status == 0, "exit status %s: %s" % (status, house.proxy.said()[-3000:])


@pytest.fixture
def house(built):
    """Empty servers and a proxy that lives, before and after."""
    if built.proxy.child.poll() is not None:
        built.proxy.start()
    built.flush()
    yield built
    assert built.proxy.child.poll() is None, "it died: %s" % built.proxy.said()[-3000:]
