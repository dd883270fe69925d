#!/usr/bin/python3
"""Usage: idle.py PORT PID: what an idle connection keeps resident, in KiB.

Opens 500 connections to a server on this machine and asks once on each, with the request that every figure is measured
with. An idle connection gives its buffers back after a second, so the growth is read after four, and divided by their number.
"""
import pathlib
import re
import socket
import sys
import time

CONNECTIONS = 500


def resident(pid: str) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


port, pid = sys.argv[1:]
source = (pathlib.Path(__file__).parent / "../bench/request.rs").read_text()
request = re.search(r'KEEP_ALIVE: &str = "(.*?)";', source, re.DOTALL)[1]
request = re.sub(r"\\\n\s*", "", request).replace(r"\r\n", "\r\n").encode()
before, clients = resident(pid), []
for _ in range(CONNECTIONS):
    client = socket.create_connection(("127.0.0.1", int(port)))
    client.sendall(request)
    answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    clients.append(client)
time.sleep(4)
print(f"{(resident(pid) - before) / CONNECTIONS:.1f}")
