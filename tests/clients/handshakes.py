"""What today's clients say when they connect, word for word, from what their makers publish: those that
cannot be installed here are played, those that can are played, too.

A row: the words, and what the client makes of the answer:
    =   it needs it: the answer must be that of a server (HELLO: the same fields)
    ?   it does not mind an error: an answer must come
    ~   as ?, but only OK, or an error that says "unknown" as a server's before 7.2 does
Rows that begin with + are written together with the row before them.
"""
import socket

from transcript import PORT, show, tell

GUID = "\x11\u00e9binary\r\n\x00".encode()      # what StackExchange.Redis lets itself be echoed

PLAYS = {
    "redis-py 5, RESP2": """
        = CLIENT SETNAME app
        ~ CLIENT SETINFO LIB-NAME redis-py
        +~ CLIENT SETINFO LIB-VER 5.3.1
        = SELECT 0
        = PING""",
    "redis-py 6, RESP3": """
        = HELLO 3
        = CLIENT SETNAME app
        ~ CLIENT SETINFO LIB-NAME redis-py
        +~ CLIENT SETINFO LIB-VER 6.4.0
        = SELECT 0""",
    "redis-py 7, RESP3": """
        = HELLO 3
        ? CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip
        = CLIENT SETNAME app
        ~ CLIENT SETINFO LIB-NAME redis-py
        +~ CLIENT SETINFO LIB-VER 7.1.0
        = PING""",
    "node-redis 5, RESP2": """
        = CLIENT SETNAME app
        +~ CLIENT SETINFO LIB-VER 5.12.1
        +~ CLIENT SETINFO LIB-NAME node-redis
        = PING""",
    "node-redis 5, RESP3": """
        = HELLO 3 SETNAME app
        +~ CLIENT SETINFO LIB-VER 5.12.1
        +~ CLIENT SETINFO LIB-NAME node-redis
        +? CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip
        = PING""",
    "ioredis 5": """
        = client setname app
        +~ client SETINFO LIB-VER 5.11.1
        +~ client SETINFO LIB-NAME ioredis
        = info""",
    "Jedis 5, RESP2": """
        = CLIENT SETNAME app
        +~ CLIENT SETINFO LIB-NAME jedis
        +~ CLIENT SETINFO LIB-VER 5.2.0
        = PING""",
    "Jedis 6, RESP3": """
        = HELLO 3
        = CLIENT SETNAME app
        +~ CLIENT SETINFO LIB-NAME jedis
        +~ CLIENT SETINFO LIB-VER 6.2.0
        = PING""",
    "Lettuce 6": """
        = HELLO 3 SETNAME app
        ~ CLIENT SETINFO lib-name Lettuce
        +~ CLIENT SETINFO lib-ver 6.8.1.RELEASE/1234567
        = PING""",
    "Lettuce 7": """
        = HELLO 3 SETNAME app
        ~ CLIENT SETINFO lib-name Lettuce
        +~ CLIENT SETINFO lib-ver 7.1.0.RELEASE/1234567
        ? CLIENT MAINT_NOTIFICATIONS on moving-endpoint-type internal-ip
        = PING""",
    "go-redis 9, RESP3": """
        = hello 3
        = select 0
        +? client setname app
        ~ client setinfo LIB-NAME go-redis(,go1.24.1)
        +~ client setinfo LIB-VER 9.14.0
        ? client maint_notifications on moving-endpoint-type internal-ip
        = ping""",
    "StackExchange.Redis 2.8, RESP2": """
        = CLIENT SETNAME HOST(SE.Redis-v2.8.41)
        +~ CLIENT SETINFO lib-name SE.Redis
        +~ CLIENT SETINFO lib-ver 2.8.41.9672
        += CLIENT ID
        +? CONFIG GET slave-read-only
        +? CONFIG GET databases
        +? INFO replication
        +? INFO server
        +? CLUSTER NODES
        +? GET __Booksleeve_TieBreak
        +? CONFIG GET timeout
        += ECHO GUID
        = PING""",
    "StackExchange.Redis 2.8, RESP3": """
        = HELLO 3
        +? CLIENT SETNAME HOST(SE.Redis-v2.8.41)
        +~ CLIENT SETINFO lib-name SE.Redis
        +~ CLIENT SETINFO lib-ver 2.8.41.9672
        +? INFO server
        += ECHO GUID
        = PING""",
    "phpredis 6": """
        ~ CLIENT SETINFO LIB-NAME phpredis
        ~ CLIENT SETINFO LIB-VER 6.2.0
        = SELECT 0
        = PING""",
    "a client that goes back to RESP2": """
        = HELLO 4
        = HELLO 3
        = HELLO 2 SETNAME app
        = CLIENT GETNAME
        = HELLO
        = PING""",
}


class Connection:
    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", PORT), 8)
        self.file = self.socket.makefile("rb")

    def send(self, requests):
        out = b""
        for words in requests:
            out += b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
        self.socket.sendall(out)

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the connection was closed")
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=" and rest != b"-1":
            return self.file.read(int(rest) + 2)[:-2]
        if kind in b"*~>" and rest != b"-1":
            return [self.reply() for _ in range(int(rest))]
        if kind == b"%":
            return {self.reply(): self.reply() for _ in range(int(rest))}
        if kind == b":":
            return int(rest)
        if kind == b"_" or rest == b"-1":
            return None
        return line[:-2]                # +, -, # and ,


def told(words, need, reply):
    """What of the reply must be the same."""
    failed = isinstance(reply, bytes) and reply.startswith(b"-")
    name = words[0].upper()
    if need == "?" or need == "~" and (not failed or b"unknown" in reply.lower()):
        return "answered"
    if failed:
        return " ".join(reply.decode().split()[:3]).rstrip(".")
    if name == b"HELLO":
        kind = "map"
        if isinstance(reply, list):
            kind, reply = "list", dict(zip(reply[::2], reply[1::2]))
        return "%s %s, proto %d, mode %s, role %s" % (kind, show(sorted(reply)), reply[b"proto"],
                                                      show(reply[b"mode"]), show(reply[b"role"]))
    if name == b"INFO":
        return "redis_version:" if b"redis_version:" in reply and b"loading:0" in reply else show(reply)
    if words[:2] == [b"CLIENT", b"ID"]:
        return type(reply).__name__
    return show(reply)


def play(name, rows):
    connection, batches = Connection(), []
    for row in rows.split("\n")[1:]:
        need, *words = row.split()
        words = [GUID if w == "GUID" else w.encode() for w in words]
        if not need.startswith("+"):
            batches.append([])
        batches[-1].append((need.lstrip("+"), words))
    for batch in batches:
        connection.send(words for _, words in batch)
        for need, words in batch:
            said = " ".join(w.decode("latin-1") if w != GUID else "GUID" for w in words)
            tell("%s, %s" % (name, said), told(words, need, connection.reply()))
    connection.send([[b"SET", b"k", name.encode()], [b"GET", b"k"]])
    tell("%s, then" % name, show([connection.reply(), connection.reply()]))
    connection.socket.close()


def play_all(plays):
    for name, rows in plays.items():
        try:
            play(name, rows)
        except (OSError, EOFError, ValueError, KeyError) as e:    # and the next one
            tell(name, "%s: %s" % (type(e).__name__, e))


if __name__ == "__main__":
    play_all(PLAYS)
