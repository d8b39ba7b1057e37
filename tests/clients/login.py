"""redis-py with a password, and what other clients say with theirs: right, wrong and none."""
import re

import redis

import handshakes
from transcript import PORT, step


def login(client):
    """The proxy's words for a wrong password are twemproxy's, and a server's before 6: that it is told must do."""
    try:
        return [client.set("k", how), client.get("k"), client.client_getname()]
    except redis.exceptions.RedisError as e:
        if re.search("WRONGPASS|invalid password|Authentication required", str(e)):
            return "no entry"
        raise


for how, secret in (("password", {"password": "sesame"}), ("name and password", {"username": "default",
                    "password": "sesame"}), ("wrong password", {"password": "wrong"}), ("none", {})):
    client = redis.Redis("127.0.0.1", PORT, client_name="app", db=0, socket_timeout=8, **secret)
    step("redis-py, %s" % how, lambda: login(client))

handshakes.play_all({
    "Lettuce 7": """
        = HELLO 3 AUTH default sesame SETNAME app
        ~ CLIENT SETINFO lib-name Lettuce
        = PING""",
    "go-redis 9": """
        = hello 3 AUTH default sesame SETNAME app
        ~ client setinfo LIB-NAME go-redis(,go1.24.1)
        = ping""",
    "Jedis 6": """
        = AUTH sesame
        = HELLO 3
        = CLIENT SETNAME app
        = PING""",
    "StackExchange.Redis 2.8": """
        = AUTH sesame
        +? CLIENT SETNAME app
        +? CLIENT ID
        += ECHO GUID
        = PING""",
    "a wrong password": """
        = HELLO 3 AUTH default wrong
        = PING
        = HELLO 3
        = AUTH default sesame
        = HELLO 3
        = PING""",
})
