#!/usr/bin/python3
"""Usage: start.py BINARY [RUNS]: the time from the start of the process to its first answer.

Spawns BINARY on a free port, reads the address from its first line of diagnostics, asks for /healthz and stops the
clock at the answer's first bytes; SIGTERM must then end it with status 0. Prints the best and the median in
milliseconds: the best is the figure that a busy machine disturbs least. Python's own part in it is not taken off.
"""
import os
import re
import signal
import socket
import statistics
import sys
import time



def once(binary: str) -> float:
    out, err = os.open(os.devnull, os.O_WRONLY), os.pipe()
    begin = time.perf_counter()
    pid = os.posix_spawn(binary, [binary, "--listen", "127.0.0.1:0"], {}, file_actions=[
        (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err[1], 2)])
    os.close(err[1])
    said = b""
    while not (address := re.search(rb"listening on 127\.0\.0\.1:(\d+)\n", said)):
        said += os.read(err[0], 4096) or sys.exit(f"no address in: {said!r}")
    with socket.create_connection(("127.0.0.1", int(address[1]))) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: start\r\n\r\n")
        answer = client.recv(4096)
        taken = time.perf_counter() - begin
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    os.kill(pid, signal.SIGTERM)
    status = os.waitpid(pid, 0)[1]
    assert status == 0, f"exit status {os.waitstatus_to_exitcode(status)}"
    os.close(out)
    os.close(err[0])
    return taken * 1000


binary, runs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 40
times = [once(binary) for _ in range(runs)]
print(f"{min(times):.2f} {statistics.median(times):.2f}")
