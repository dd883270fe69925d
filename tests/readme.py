#!/usr/bin/env python3
"""The manuals say what is true: usage: tests/readme.py [links]

Checks that every relative link of every manual leads somewhere and that README.md has at most 250 lines. Then it does what
README.md says, from the top, in a clean copy of the repository without anything built: each ```sh block runs, in one shell, as a
reader would run it in the second terminal, and a line that ends with "# -> TEXT" has to print TEXT. Each ```console block runs too,
and what it prints has to be what is shown. Figures, ids and host names may differ, and "[...]" stands for any lines.
`cargo run --release` alone in a block is the first terminal: it runs until the end, which is a Ctrl-C.

The ports of README.md are free in a network namespace of its own, where the host allows one. A block that needs more than this
machine has is told as NOT RUN. With `links` nothing runs.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_LINES = 250
SERVER = "cargo run --release"
# The program that a line needs, and why it may not be run here.
ELSEWHERE = {"cargo test": ".ci/run runs this command as a step of its own"}
NEEDS = {"kubectl": "no cluster here; tests/cluster.sh does it on a real one", "docker": "tests/image.sh builds and runs the image"}
PATIENCE = 120


def fail(text):
    sys.exit(f"FAILED: {text}")


def files():
    """What a clean clone has, and what is not committed yet."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


def anchors(path):
    """The anchors of a manual's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(manual):
    text = without_code(manual.read_text())
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, flags=re.M)
    for target in targets:
        path, _, anchor = urllib.parse.unquote(target).partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        file = manual.parent / path if path else manual
        if not file.exists():
            yield f"{manual.relative_to(ROOT)}: there is no {path}"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            yield f"{manual.relative_to(ROOT)}: {path or 'itself'} has no heading {anchor}"


def check_links():
    manuals = [ROOT / name for name in files() if name.endswith(".md")]
    links = sum(len(re.findall(r"\]\(", without_code(manual.read_text()))) for manual in manuals)
    broken = [line for manual in manuals for line in broken_links(manual)]
    if broken or links < 20:
        fail("\n".join(broken) or "hardly any link was found")
    lines = len((ROOT / "README.md").read_text().splitlines())
    if lines > MOST_LINES:
        fail(f"README.md has {lines} lines, more than {MOST_LINES}")
    print(f"ok: {links} links in {len(manuals)} manuals; README.md has {lines} lines")


def blocks():
    """Language, first line's number and text of each block of README.md."""
    text = (ROOT / "README.md").read_text()
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, flags=re.M | re.S):
        yield found[1], text.count("\n", 0, found.start()) + 2, found[2]


def reason_not_to_run(line):
    if line in ELSEWHERE:
        return ELSEWHERE[line]
    return NEEDS.get(line.split()[0]) if line.split() else None


class Terminal:
    """A shell that is given one block after the other."""

    def __init__(self, folder, environment):
        self.end = f"--end-{os.getpid()}--"
        self.shell = subprocess.Popen(["bash"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True, start_new_session=True)

    def run(self, commands):
        """Runs commands until one fails; gives what they print, and the exit status."""
        for command in commands:
            self.shell.stdin.write(f"{command}\nended=$?; echo; echo {self.end} $ended\n")
            self.shell.stdin.flush()
            output = ""
            for line in self.shell.stdout:
                if line.startswith(self.end):
                    break
                output += line
            else:
                fail(f"the shell ended at: {command}")
            status = int(line.split()[-1])
            yield command, output.removesuffix("\n"), status
            if status:
                return

    def close(self):
        self.shell.stdin.close()
        self.shell.wait(PATIENCE)

    def kill(self):
        """Ends the shell and what it started in the background; they are one process group."""
        try:
            os.killpg(self.shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def commands(text):
    """A block's commands; a line that ends with a backslash goes on."""
    return [line for line in re.sub(r"\\\n *", "", text).splitlines() if line.strip() and not line.startswith("#")]


def stable(text):
    """A line with what may differ replaced."""
    text = re.sub(r"^(hostname: ).*", r"\1#", text)
    text = re.sub(r"\bpod \S+(?= |$)", "pod #", text)
    text = re.sub(r"\d[\d.]*(ms|s)\b", "#", text)
    text = re.sub(r"\d+(\.\d+)+", "#", text)
    return re.sub(r" +", " ", re.sub(r"\d+", "#", text)).rstrip()


def same(shown, printed):
    """Whether what was printed is what is shown."""
    pieces = ["\n".join(map(stable, piece.strip("\n").splitlines())) for piece in re.split(r"^\[\.\.\.\]$", shown, flags=re.M)]
    printed = "\n".join(map(stable, printed.strip("\n").splitlines()))
    pattern = r"(?s:.*)".join(re.escape(piece) for piece in pieces)
    return re.fullmatch(pattern, printed) or (len(pieces) > 1 and re.fullmatch(r"(?s:.*)" + pattern, printed))


def start_server(folder, environment):
    """The first terminal."""
    log = open(folder / "first-terminal.log", "w+")
    server = subprocess.Popen(SERVER.split(), cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    while "listening on" not in (folder / "first-terminal.log").read_text():
        if server.poll() is not None:
            fail(f"{SERVER}: exit status {server.returncode}\n{(folder / 'first-terminal.log').read_text()}")
        time.sleep(0.1)
    return server


def stop_server(folder, server):
    server.send_signal(signal.SIGINT)
    status = server.wait(PATIENCE)
    last = (folder / "first-terminal.log").read_text().splitlines()[-1]
    counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", last)}
    if status or "drain finished" not in last or counts["requests"] != counts["log_lines"] + counts["not_logged"]:
        fail(f"Ctrl-C: exit status {status}, last line: {last}")
    print(f"ok: Ctrl-C: {last}")


def run_shell(terminal, place, text):
    """Runs a block of commands; how many were run."""
    todo = []
    for line in commands(text):
        reason = reason_not_to_run(line)
        if reason:
            print(f"NOT RUN: {place}: {line}: {reason}")
        else:
            todo.append(line)
    for command, output, status in terminal.run(todo):
        _, _, promised = command.partition("# -> ")
        if status or promised not in output:
            fail(f"{place}: {command}: exit status {status}\n{output}")
        print(f"ok: {place}: {command}")
    return len(todo)


def run_console(terminal, place, text):
    """Runs a block of one command and what it prints."""
    command, _, shown = text.removeprefix("$ ").partition("\n")
    for _, output, status in terminal.run([command]):
        if status or not same(shown, output):
            fail(f"{place}: {command}: exit status {status}\n--- shown\n{shown}--- printed\n{output}")
        print(f"ok: {place}: {command} prints what is shown")
    return 1


def run_blocks(folder, environment):
    server, terminal, ran = None, Terminal(folder, environment), 0
    try:
        for language, number, text in blocks():
            place = f"README.md:{number}"
            if language == "sh" and text.strip() == SERVER:
                server = start_server(folder, environment)
                print(f"ok: {place}: {SERVER} listens")
            elif language == "sh":
                ran += run_shell(terminal, place, text)
            elif language == "console":
                ran += run_console(terminal, place, text)
        terminal.close()
        if server is None or ran < 5:
            fail("hardly a block was found")
        stop_server(folder, server)
    finally:
        terminal.kill()
        if server is not None and server.poll() is None:
            server.kill()


def main():
    check_links()
    if sys.argv[1:] == ["links"]:
        return
    for program in ["cargo", "curl"]:
        if not shutil.which(program):
            print(f"NOT RUN: README.md: no {program}")
            return
    if "README_NAMESPACE" not in os.environ:
        # Packages come over the network, which the namespace has not.
        subprocess.run(["cargo", "fetch", "--quiet", "--locked"], cwd=ROOT, check=True)
        unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--user", "--map-root-user"]
        if shutil.which("ip") and subprocess.run([*unshare, "true"], capture_output=True).returncode == 0:
            inside = 'ip link set lo up && exec "$@"'
            command = [*unshare, "bash", "-c", inside, "bash", sys.executable, __file__, *sys.argv[1:]]
            sys.exit(subprocess.run(command, env={**os.environ, "README_NAMESPACE": "1"}).returncode)
        print("no network namespace here: the ports of README.md have to be free")
    work = (Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "readme").resolve()
    copy = work / "clone"
    shutil.rmtree(copy, ignore_errors=True)
    for name in files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    # Nothing is built in the copy, but what cargo compiled for an earlier run is used again.
    (work / "built").mkdir(exist_ok=True)
    (copy / "target").symlink_to(work / "built")
    keep = {"HOME", "PATH", "LANG", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTFLAGS"}
    environment = {name: value for name, value in os.environ.items() if name in keep}
    run_blocks(copy, environment | {"CARGO_NET_OFFLINE": "true"})
    print("ok: README.md, followed from the top, does what it says")


main()
