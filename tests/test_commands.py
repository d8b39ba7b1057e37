"""The command table against a real redis-server's COMMAND: names, arity, where keys stand, what is served."""
import pytest

from nut import pool
from resp import Resp


@pytest.fixture(scope="module")
def both(shared):
    server = shared.redis()
    proxy = shared.nutproxy({"alpha": pool([server])})
    return server, proxy


def listed(client):
    """COMMAND as redis-py reads it: name -> (arity, first, last, step)."""
    return {name: (c["arity"], c["first_key_pos"], c["last_key_pos"], c["step_count"])
            for name, c in client.command().items()}


def test_every_row_is_as_the_server_has_it(both):
    server, proxy = both
    real, ours = listed(server.client()), listed(proxy.redis("alpha"))
    assert len(ours) > 150
    wrong = {name: (row, real.get(name)) for name, row in ours.items() if row != real.get(name)}
    assert not wrong, "(ours, the server's): %r" % wrong


def test_what_is_not_in_the_list_is_refused_with_a_reason_and_nothing_is_unknown(both):
    server, proxy = both
    real, ours = listed(server.client()), listed(proxy.redis("alpha"))
    wrong = []
    with Resp(proxy.where("alpha")) as c:
        for name, (arity, _, _, _) in real.items():
            if name in ours:
                continue
            reply = c.ask(name, *["x"] * (abs(arity) - 1))
            if not reply.startswith(b"-ERR command '%s' is not served by this proxy: " % name.encode()):
                wrong.append((name, reply))
            if name == "multi":             # or an EXEC that comes next would hear of it
                c.ask("DISCARD")
    assert not wrong, wrong


def test_command_counts_and_tells_of_single_commands(both):
    _, proxy = both
    with Resp(proxy.where("alpha")) as c:
        count = int(c.ask("COMMAND", "COUNT")[1:])
        assert count == len(proxy.redis("alpha").command())
        info = c.ask("COMMAND", "INFO", "get", "multi", "nosuch")
        assert info.startswith(b"*3\r\n*10\r\n$3\r\nget\r\n:2\r\n") and info.endswith(b"*-1\r\n*-1\r\n")
        assert c.ask("COMMAND", "DOCS") == b"*0\r\n"
        assert c.ask("COMMAND", "NOSUCH").startswith(b"-ERR ")
        assert c.ask("PING") == b"+PONG\r\n"
