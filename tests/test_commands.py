"""The command table against a real redis-server's COMMAND: names, arity, where keys stand, subcommands, what is
served; and the rows that this server is too old for."""
import pytest

from nut import pool
from resp import Resp

# What the table has beyond Redis 7.0, and where it is documented.
NEWER = {
    "redis 7.2": "client|no-touch client|setinfo waitaof",
    "redis 7.4": """hexpire hexpireat hexpiretime hpersist hpexpire hpexpireat hpexpiretime hpttl httl""",
    "redis 8.0": """hgetdel hgetex hsetex vadd vcard vdim vemb vgetattr vinfo vismember vlinks vrandmember vrem vsetattr
        vsim vrange""",
    "redis 8.2": "xackdel xdelex",
    "redis 8.4": "delex digest msetex trimslots",
    "redis 8.6": "hotkeys xcfgset xidmprecord",
    "redis 8.8": """arcount ardel ardelrange arget argetrange argrep arinfo arinsert arlastitems arlen armget armset
        arnext arop arring arscan arseek arset increx xnack""",
    "redis 8.10": "backup blmovem himport lmovem sdiffcard sunioncard",
    "redis 8.12": """bitrangeintarray bless bless|clear bless|get bless|help bless|scan bless|set bzmove saddex sexpire
        sexpireat sexpiretime spersist spexpire spexpireat spexpiretime spttl sttl zmove zmovemember""",
    "valkey 8": "client|capa client|import-source commandlog script|show",
    "valkey 9.0 and 9.1": "clusterscan delifeq",
    "valkey 9.2": """phcard phdel phdelprefix phexists phget phgetall phlongest phmget phmset phprefixes phscan
        phset""",
    "json": """json.arrappend json.arrindex json.arrinsert json.arrlen json.arrpop json.arrtrim json.clear json.debug
        json.del json.forget json.get json.merge json.mget json.mset json.numincrby json.nummultby json.objkeys
        json.objlen json.resp json.set json.strappend json.strlen json.toggle json.type""",
    "bloom": """bf.add bf.card bf.exists bf.info bf.insert bf.load bf.loadchunk bf.madd bf.mexists bf.reserve
        bf.scandump
        cf.add cf.addnx cf.compact cf.count cf.del cf.exists cf.info cf.insert cf.insertnx cf.loadchunk cf.mexists
        cf.reserve cf.scandump cms.incrby cms.info cms.initbydim cms.initbyprob cms.merge cms.query
        tdigest.add tdigest.byrank tdigest.byrevrank tdigest.cdf tdigest.create tdigest.info tdigest.max tdigest.merge
        tdigest.min tdigest.quantile tdigest.rank tdigest.reset tdigest.revrank tdigest.trimmed_mean
        topk.add topk.count topk.incrby topk.info topk.list topk.query topk.reserve""",
    "time series": """ts.add ts.alter ts.create ts.createrule ts.decrby ts.del ts.deleterule ts.get ts.incrby ts.info
        ts.madd ts.mget ts.mrange ts.mrevrange ts.nrange ts.nrevrange ts.queryindex ts.querylabels ts.range ts.read
        ts.revrange""",
    "search": """ft.sugadd ft.sugdel ft.sugget ft.suglen ft._list ft.aggregate ft.aliasadd ft.aliasdel ft.aliaslist
        ft.aliasupdate ft.alter ft.config ft.create ft.cursor ft.dictadd ft.dictdel ft.dictdump ft.dropindex ft.explain
        ft.explaincli ft.hybrid ft.info ft.profile ft.search ft.spellcheck ft.syndump ft.synupdate ft.tagvals""",
}
NEWER = {name for names in NEWER.values() for name in names.split()}

# How many words those of them take that are refused, where four are too few or too many.
TAKES = {"blmovem": 6, "bzmove": 5, "client|import-source": 3, "trimslots": 5}

# What the server has subcommands of, which are refused as one.
WHOLLY_REFUSED = {"acl", "cluster", "latency", "module"}


@pytest.fixture(scope="module")
def both(shared):
    server = shared.redis()
    proxy = shared.nutproxy({"alpha": pool([server])})
    return server, proxy


def listed(client):
    """COMMAND, as it comes: name -> (arity, first, last, step), those of subcommands, too."""
    found = {}

    def take(rows):
        for row in rows:
            found[row[0].decode()] = tuple(row[i] for i in (1, 3, 4, 5))
            if len(row) > 9:
                take(row[9])

    client.response_callbacks.clear()
    take(client.execute_command("COMMAND"))
    return found


def tables(both):
    server, proxy = both
    return listed(server.client()), listed(proxy.redis("alpha"))


def test_every_row_is_as_the_server_has_it(both):
    real, ours = tables(both)
    assert len(ours) > 300
    wrong = {name: (row, real.get(name)) for name, row in ours.items() if name not in NEWER and row != real.get(name)}
    assert not wrong, "(ours, the server's): %r" % wrong
    assert not NEWER & set(real), "the server knows these: compare them"


def test_what_is_not_in_the_list_is_refused_with_a_reason_and_nothing_is_unknown(both):
    server, proxy = both
    real, ours = tables(both)
    wrong = []
    with Resp(proxy.where("alpha")) as c:
        for name in sorted(set(real) | NEWER):
            group, _, sub = name.partition("|")
            if name in ours or (sub and group in WHOLLY_REFUSED):
                continue
            arity = real[name][0] if name in real else TAKES.get(name, 4)
            words = [group] + ([sub] if sub else [])
            reply = c.ask(*words, *["x"] * (max(abs(arity), len(words)) - len(words)))
            if not reply.startswith(b"-ERR command '%s' is not served by this proxy: " % name.encode()):
                wrong.append((name, reply))
            if name == "multi":             # or an EXEC that comes next would hear of it
                c.ask("DISCARD")
    assert not wrong, wrong


@pytest.mark.parametrize("resp3", (False, True), ids=("RESP2", "RESP3"))
def test_rows_that_are_newer_than_the_server_reach_it_and_it_says_that_it_is_too_old(both, resp3):
    server, proxy = both
    ours = tables(both)[1]
    with Resp(proxy.where("alpha"), resp3=resp3) as c, Resp((server.host, server.port), resp3=resp3) as direct:
        for name in sorted(NEWER & set(ours)):
            if name.startswith("client|"):
                continue                    # answered by the proxy: test_today.py
            if name == "bless":
                continue                    # its subcommands reach it
            words = name.split("|") + ["k", "1", "k", "1", "v", "1", "1", "1", "1"]
            arity = ours[name][0]
            words = words[:arity if arity > 0 else max(-arity, 3)]
            if name == "json.mset":
                words = ["json.mset", "k", "$", "1"]
            if name == "ts.madd":
                words = ["ts.madd", "k", "1", "1"]
            if name == "msetex":
                words = ["msetex", "1", "k", "v"]
            if name in ("sdiffcard", "sunioncard", "ts.nrange", "ts.nrevrange"):
                words = [name, "2", "k", "k", "1", "1"]
            assert c.ask(*words) == direct.ask(*words), words
            c.in_step()


def test_keys_of_every_command_stand_where_the_server_finds_them(both):
    server, proxy = both
    commands = """GET k|MGET a b c|MSET a 1 b 2|DEL a b|EVAL s 2 a b x|ZUNIONSTORE d 2 a b|ZUNION 2 a b
        XREAD COUNT 1 STREAMS a b 0 0|XREADGROUP GROUP g c STREAMS a >|SORT a STORE d|GEORADIUS a 1 2 3 km STORE d
        OBJECT ENCODING a|XGROUP CREATE a g 0|MEMORY USAGE a|BITOP AND d a b|RENAME a b|LMPOP 1 a LEFT|SINTERCARD 2 a b
        XINFO STREAM a|COPY a b|PING|NOSUCH a|GET|EVAL s 0""".replace("\n", "|").split("|")
    with Resp(proxy.where("alpha")) as c, Resp((server.host, server.port)) as direct:
        for line in commands:
            words = ["COMMAND", "GETKEYS", *line.split()]
            assert c.ask(*words) == direct.ask(*words), line


def test_command_counts_and_tells_of_single_commands(both):
    _, proxy = both
    with Resp(proxy.where("alpha")) as c:
        client = proxy.redis("alpha")
        client.response_callbacks.clear()
        rows = client.execute_command("COMMAND")
        assert int(c.ask("COMMAND", "COUNT")[1:]) == len(rows) == len(client.execute_command("COMMAND LIST"))
        with Resp((both[0].host, both[0].port)) as direct:      # so redis-cli has its hints
            for words in (("COMMAND", "DOCS", "get", "zadd"), ("COMMAND", "DOCS", "nosuch"), ("COMMAND", "HELP")):
                assert c.ask(*words) == direct.ask(*words)
            assert len(c.ask("COMMAND", "DOCS")) == len(direct.ask("COMMAND", "DOCS")) > 100000
        info = c.ask("COMMAND", "INFO", "get", "multi", "nosuch")
        assert info.startswith(b"*3\r\n*10\r\n$3\r\nget\r\n:2\r\n") and info.endswith(b"*-1\r\n*-1\r\n")
        assert c.ask("COMMAND", "NOSUCH").startswith(b"-ERR unknown subcommand 'NOSUCH'. Try COMMAND HELP.")
        assert c.ask("PING") == b"+PONG\r\n"
