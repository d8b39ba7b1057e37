"""What every script here prints: a line for each step, what was done and what came back.

    python3 redis_py.py PORT direct|proxy

The same script is run against one server and through the proxy; the lines must be equal.
"""
import hashlib
import re
import sys

PORT = int(sys.argv[1])
THROUGH = sys.argv[2] == "proxy"
REFUSAL = r"not served by this proxy"


def big(size):
    """Bytes of every value, always the same."""
    return bytes((i * 7 + (i >> 8)) & 255 for i in range(size))


def show(value):
    if isinstance(value, (bytes, str)) and len(value) > 100:
        data = value.encode() if isinstance(value, str) else value
        return "%d bytes, %s" % (len(data), hashlib.sha1(data).hexdigest())
    if isinstance(value, Exception):
        return "{%s}" % kind(value)
    if isinstance(value, (list, tuple)):
        return "[%s]" % ", ".join(map(show, value))
    if isinstance(value, (set, frozenset)):
        return "set[%s]" % ", ".join(sorted(map(show, value)))
    if isinstance(value, dict):
        return "{%s}" % ", ".join("%s: %s" % (show(k), show(v)) for k, v in value.items())
    return repr(value)


def kind(error):
    """Its class, and what kind of message."""
    return "%s: %s" % (type(error).__name__, " ".join(str(error).split()[:3]).rstrip(",:"))


def tell(name, what):
    print("%s: %s" % (name, what), flush=True)


def step(name, work):
    try:
        value = work()
    except Exception as e:                                        # what came back
        tell(name, kind(e))
        return None
    tell(name, show(value))
    return value


def refused(name, work, alive=None, why=REFUSAL):
    """The proxy refuses this by design, and says so; a server alone is not asked.
    `alive` is asked afterwards."""
    said = "refused"
    if THROUGH:
        try:
            said = "NOT REFUSED: %s" % show(work())
        except Exception as e:                                    # what it must be
            if not re.search(why, str(e)):
                said = "REFUSED OTHERWISE: %s: %s" % (type(e).__name__, e)
    tell(name, said)
    if alive is not None:
        step("after " + name, alive)
