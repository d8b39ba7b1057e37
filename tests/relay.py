"""Relays between a proxy and its servers, in a process of their own, that do with the bytes what they are told.

    relay.py CONTROL PORT:TARGET...         ports of 127.0.0.1; the relays are numbered from 0

A line on the control port, "NUMBER MODE [ARGUMENT]", says what a relay does from now on, with the
connections that it has and with those to come, and is answered "ok":

    pass            what comes is passed on
    throttle N      at most N bytes a second each way, on each connection
    pieces          in pieces of 1 to 7 bytes
    stall           nothing is read from either side: bytes wait in the kernel, and so does the end of them
    swallow         requests are passed on, replies are kept until the mode changes
    half            half of what comes of replies is passed on, and then the end
    garbage         behind the first replies on a connection comes what is none
    refuse          nobody listens, and the connections are reset

"NUMBER close" and "NUMBER reset" end the connections that are there, once, with FIN or RST."""
import asyncio
import random
import socket
import struct
import sys

KEPT_MOST = 64 << 10            # bytes that wait for one side before the other is not read any more
TICK = 0.02

# Each cannot be a reply: not at the start of one, and not in the middle, where it makes a length wrong.
GARBAGE = (b"\x00\xff\xfe nonsense \x01\r\n", b"VALUE nobody:asked 0 3\r\nabc\r\nEND\r\n", b"\r\n\r\n",
           b"HTTP/1.1 200 OK\r\n\r\n", b"$-7\r\n", b"%\xe2\x82\xac\r\n")


class Side(asyncio.Protocol):
    """One of the two sockets of a link."""

    def __init__(self):
        self.link = self.transport = self.way = None
        self.full = self.over = False       # it takes no more for now; it is gone

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(high=KEPT_MOST)
        if self.link.over:                  # it ended before this side began
            self.end(reset=True)

    def data_received(self, data):
        self.way.came(data)

    def eof_received(self):
        self.way.ended = True
        self.way.run()
        return True                         # what is on its way back still goes

    def pause_writing(self):
        self.full = True
        self.link.run()

    def resume_writing(self):
        self.full = False
        self.link.run()

    def connection_lost(self, error):
        self.over = True
        self.link.end(reset=error is not None)

    def end(self, reset):
        if self.transport is None or self.over:
            return
        self.over = True
        if reset:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                                               struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()          # what it was given is written first


class Way:
    """The bytes of one direction, and how they are passed on."""

    def __init__(self, link, source, sink, replies):
        self.link, self.source, self.sink, self.replies = link, source, sink, replies
        self.kept, self.ended, self.paused, self.timer, self.spoilt = bytearray(), False, False, None, False
        source.way = self

    def came(self, data):
        self.kept += data
        self.run()

    def send(self, count):
        if count > 0:
            self.sink.transport.write(bytes(self.kept[:count]))
            del self.kept[:count]

    def later(self, seconds):
        if self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(seconds, self.again)

    def again(self):
        self.timer = None
        self.run()

    def run(self):
        """Pass on what the mode lets pass, and read on, or not."""
        link, mode = self.link, self.link.relay.mode
        if link.over or not link.whole:
            return
        if self.kept and not self.sink.full:
            self.step(mode)
        if link.over:
            return
        if self.ended and not self.kept and not (mode == "stall" or (mode == "swallow" and self.replies)):
            link.end(reset=False)
            return
        wait = mode == "stall" or len(self.kept) > KEPT_MOST or self.sink.full
        if wait != self.paused:
            self.paused = wait
            (self.source.transport.pause_reading if wait else self.source.transport.resume_reading)()

    def step(self, mode):
        relay = self.link.relay
        if mode == "stall" or (mode == "swallow" and self.replies):
            return
        if mode == "throttle":
            if self.timer is None:
                self.send(max(1, int(relay.argument * TICK)))
                self.later(TICK)
        elif mode == "pieces":
            if self.timer is None:
                self.send(relay.random.randint(1, 7))
                self.later(0)
        elif mode == "half" and self.replies:
            self.send(len(self.kept) // 2)
            self.link.end(reset=relay.random.random() < 0.3)
        else:
            spoil = mode == "garbage" and self.replies and not self.spoilt and self.kept.endswith(b"\r\n")
            self.send(len(self.kept))
            if spoil:
                self.spoilt = True
                self.sink.transport.write(relay.random.choice(GARBAGE))


class Link:
    """A connection of the proxy's, and the one to the server that belongs to it."""

    def __init__(self, relay):
        self.relay, self.front, self.back, self.whole, self.over = relay, Side(), Side(), False, False
        self.front.link = self.back.link = self
        self.ways = (Way(self, self.front, self.back, False), Way(self, self.back, self.front, True))
        relay.links.add(self)

    def accepted(self):
        asyncio.get_running_loop().create_task(self.connect())
        return self.front

    async def connect(self):
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.back, "127.0.0.1", self.relay.target)
        except OSError:
            self.end(reset=self.relay.random.random() < 0.5)
            return
        if self.over:
            return
        self.whole = True
        self.run()

    def run(self):
        for way in self.ways:
            way.run()

    def end(self, reset):
        if self.over:
            return
        self.over = True
        self.relay.links.discard(self)
        self.front.end(reset)
        self.back.end(reset)


class Relay:
    def __init__(self, port, target, rng):
        self.port, self.target, self.random = port, target, rng
        self.mode, self.argument, self.links, self.door = "pass", 0, set(), None

    async def listen(self):
        loop = asyncio.get_running_loop()
        self.door = await loop.create_server(lambda: Link(self).accepted(), "127.0.0.1", self.port, backlog=512)

    async def set(self, mode, argument):
        if mode in ("close", "reset"):
            self.end_all(mode == "reset")
            return
        self.mode, self.argument = mode, argument
        if mode == "refuse":
            self.door.close()
            self.door = None
            self.end_all(True)
        elif self.door is None:
            await self.listen()
        for link in list(self.links):
            link.run()

    def end_all(self, reset):
        for link in list(self.links):
            link.end(reset)


async def control(relays, reader, writer):
    while True:
        words = (await reader.readline()).decode().split()
        if not words:
            break
        await relays[int(words[0])].set(words[1], int(words[2]) if len(words) > 2 else 0)
        writer.write(b"ok\n")
    writer.close()


async def main(port, pairs):
    rng = random.Random(1)
    relays = [Relay(*map(int, pair.split(":")), rng) for pair in pairs]
    for relay in relays:
        await relay.listen()
    await asyncio.start_server(lambda r, w: control(relays, r, w), "127.0.0.1", port)
    await asyncio.Event().wait()            # for ever


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
