#!/usr/bin/env python3
"""Two constant loads, and a count of every way in which a request can fail.

    cluster_load.py [--rate N] [--kept N] HOST:PORT...

Runs until SIGTERM, lets what it has begun finish, and prints a line for each
load; each failure as it happens goes to stderr. Exit status 1 if one failed.

- `single`: N requests a second, each on a connection of its own, started by the
  clock and not by the answer before, so a slow server meets the same load.
- `kept`: N clients that each keep a connection as long as the server does, with
  a pause of up to a second between requests, and without retry.

Load tools retry, or count a connection that ended early as an answer; here each
is a failure: refused, reset, ended before the last byte of the answer, no
answer in 30 s, any status but 200. A kept connection is left when the server
said `Connection: close` or has closed it (as every client does), but one that
closes under a request is a failure.
"""
import argparse
import asyncio
import itertools
import random
import signal
import sys
import time
from collections import Counter

TIMEOUT = 30
KINDS = {
    ConnectionRefusedError: "refused",
    ConnectionError: "reset",
    asyncio.IncompleteReadError: "ended early",
    TimeoutError: "timed out",
    asyncio.TimeoutError: "timed out",
    OSError: "unreachable",
}


class WrongAnswer(Exception):
    """The answer came, but it is not 200."""


async def exchange(connection, host, last):
    """One request and its whole answer; true if the connection may be used again."""
    reader, writer = connection
    writer.write(f"GET /load HTTP/1.1\r\nHost: {host}\r\n{'Connection: close' + chr(13) + chr(10) if last else ''}\r\n".encode())
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    if head[0] != "HTTP/1.1 200 OK":
        raise WrongAnswer(head[0])
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    await reader.readexactly(int(fields["content-length"]))
    return fields.get("connection", "").lower() != "close"


class Load:
    """What one of the loads has seen."""

    def __init__(self, name):
        self.name, self.answered, self.connections, self.failed = name, 0, 0, Counter()

    async def attempt(self, address, connection=None, last=False):
        """Opens a connection if there is none; returns it if it may be used again."""
        try:
            return await asyncio.wait_for(self.request(address, connection, last), TIMEOUT)
        except tuple(KINDS) + (WrongAnswer,) as error:
            kind = next((name for known, name in KINDS.items() if isinstance(error, known)), str(error))
            self.failed[kind] += 1
            print(f"{time.strftime('%T')} {self.name} {address}: {kind}: {error!r}", file=sys.stderr, flush=True)
            return None

    async def request(self, address, connection, last):
        if connection is None:
            connection = await asyncio.open_connection(*address.rsplit(":", 1))
            self.connections += 1
        again = False
        try:
            again = await exchange(connection, address, last)
        finally:
            if not again:
                connection[1].close()
        self.answered += 1
        return connection if again else None

    def report(self):
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.failed.items()) or "none"
        print(f"{self.name}: {self.answered} answered on {self.connections} connections, {self.failed.total()} failed ({kinds})")
        return self.failed.total() == 0 and self.answered > 0


async def single(load, addresses, rate, stop):
    tasks, begun = set(), time.monotonic()
    for number in itertools.count():
        due = begun + number / rate - time.monotonic()
        try:
            await asyncio.wait_for(stop.wait(), max(due, 0))
            break
        except asyncio.TimeoutError:
            task = asyncio.create_task(load.attempt(next(addresses), last=True))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


async def kept(load, address, stop):
    connection = None
    while not stop.is_set():
        if connection and connection[0].at_eof():
            connection[1].close()
            connection = None
        connection = await load.attempt(address, connection)
        await asyncio.sleep(random.random())
    if connection:
        connection[1].close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=20, help="single: requests a second")
    parser.add_argument("--kept", type=int, default=20, help="kept: clients")
    parser.add_argument("addresses", nargs="+", metavar="HOST:PORT")
    options = parser.parse_args()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    loads = [Load("single"), Load("kept")]
    addresses = itertools.cycle(options.addresses)
    clients = [kept(loads[1], next(addresses), stop) for _ in range(options.kept)]
    await asyncio.gather(single(loads[0], addresses, options.rate, stop), *clients)
    return 0 if all([load.report() for load in loads]) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
