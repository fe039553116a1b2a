"""The guard of one embedded server: starts it, keeps it up, stops it when nobody uses it any more.

Run as a program of its own, detached from whoever started it::

    python -I -S pipeline/servers/guard.py SERVER_DIR < launch.json

It answers with one line of JSON on standard output and goes on in the background.  Files in SERVER_DIR:

    start.lock    exclusive while somebody starts, joins or stops the server
    users.lock    shared, held by every process that uses the server; the kernel drops it, even on kill -9
    guard.lock    exclusive for the guard's life; holds its pid
    server.lock   exclusive for the server's life: opened here, inherited by the server and its children.  Valkey has no
                  lock of its own, and two servers on one append-only file lose each other's data
    running.json  what runs, for those who join

Why a process of its own: an exit handler does not run on kill -9, and a thread dies with its process.  On Linux the
kernel stops the server when the guard itself is killed; elsewhere the next start finds the orphan and stops it.

Imports the standard library only, and of that little, and is started without ``site``: so it stays under 15 MB and
works whatever the environment's packages do.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

POLL_S = 0.15
READY_POLL_S = 0.01
READY_WITHIN_S = 300  # a long append-only file or a crash recovery takes its time; a dead process is noticed at once
STOP_WITHIN_S = 15
RESTARTS_MAX = 5
RESTARTS_WITHIN_S = 60
PR_SET_PDEATHSIG = 1


class Launch(NamedTuple):
    """How to start one server, and what to tell those who join it.

    Attributes:
        protocol: how the server is asked whether it is ready: ``redis`` or ``postgres``.
        command: program and arguments; the program must not daemonize.
        environment: the whole environment of the server.
        account: uid and gid to drop to, or None to stay who we are.
        stop_signals: numbers, the gentlest first; SIGKILL follows by itself.
        about: copied into ``running.json`` as it is.
    """

    protocol: str
    command: list[str]
    environment: dict[str, str]
    account: list[int] | None
    stop_signals: list[int]
    socket: str
    data_dir: str
    log: str
    about: dict[str, str]


class ServerDownError(Exception):
    """The server did not come up; the text is for the one who asked for it."""


def lock(path: Path, how: int, *, within_s: float = 0, make: bool = True) -> int | None:
    """Lock a file (``flock``) and return its descriptor; None when somebody else kept it for ``within_s`` seconds."""
    descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if make else 0) | os.O_CLOEXEC, 0o600)
    give_up_at = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                os.close(descriptor)
                return None
            time.sleep(READY_POLL_S)
        except BaseException:
            os.close(descriptor)
            raise
        else:
            return descriptor


def holder(path: Path) -> int | None:
    """The pid in a lock file that somebody holds (0 when not written yet); None when nobody holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(descriptor, 32) or b"0")
    else:
        return None
    finally:
        os.close(descriptor)


def sign(descriptor: int, pid: int) -> None:
    """Write a pid into a lock file, for ``holder``."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(pid).encode(), 0)


def answers(protocol: str, socket_path: str, data_dir: str) -> bool:
    """Whether the server takes requests now: it is not loading, recovering or stopping."""
    if protocol == "postgres" and not _postmaster_is_ready(Path(data_dir)):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(2)
        try:
            connection.connect(socket_path)
            if protocol == "postgres":
                return True
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _postmaster_is_ready(data_dir: Path) -> bool:
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"  # the line pg_ctl waits for


def note(text: str) -> None:
    """One line for ``guard.log``."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} guard {os.getpid()}: {text}\n")
    sys.stderr.flush()


class GuardedServer:
    """The one server of this guard."""

    def __init__(self, server_dir: Path, launch: Launch) -> None:
        self._dir = server_dir
        self._launch = launch
        self._process: subprocess.Popen[bytes] | None = None
        self._restarted_at: list[float] = []

    def start(self) -> int:
        """Start the server; its pid, once it answers.

        Raises:
            ServerDownError: it ended, or never answered.
        """
        launch = self._launch
        server_lock = self._take_server_lock()
        try:
            process = self._process = self._spawn(server_lock)
            sign(server_lock, process.pid)
        finally:
            os.close(server_lock)  # from here on the server alone keeps it locked
        give_up_at = time.monotonic() + READY_WITHIN_S
        while not answers(launch.protocol, launch.socket, launch.data_dir):
            if process.poll() is not None:
                raise ServerDownError(f"it ended with code {process.returncode} before it answered")
            if time.monotonic() > give_up_at:
                self.stop()
                raise ServerDownError(f"it did not answer within {READY_WITHIN_S} s")
            time.sleep(READY_POLL_S)
        self._publish(process.pid)
        return process.pid

    def stop(self) -> None:
        """Stop the server: gently, then not."""
        self._unpublish()
        process = self._process
        if process is None:
            return
        for number in (*self._launch.stop_signals, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_WITHIN_S)

    def keep_up(self) -> bool:
        """Restart the server if it died; False when it died again and again, and this guard gives up."""
        process = self._process
        if process is None or process.poll() is None:
            return True
        self._unpublish()
        note(f"the server (pid {process.pid}) ended with code {process.returncode}")
        now = time.monotonic()
        self._restarted_at = [*(at for at in self._restarted_at if at > now - RESTARTS_WITHIN_S), now]
        attempt = len(self._restarted_at)
        if attempt > RESTARTS_MAX:
            note(f"that was {attempt} times within {RESTARTS_WITHIN_S} s: giving up")
            return False
        time.sleep(0.1 * 2 ** (attempt - 1) - 0.1)  # at once the first time, then 0.1, 0.3, 0.7, 1.5 s
        try:
            note(f"restarted as pid {self.start()}")
        except ServerDownError as down:
            note(f"the restart failed: {down}")
        return True

    def _take_server_lock(self) -> int:
        path = self._dir / "server.lock"
        taken = lock(path, fcntl.LOCK_EX)
        # Locked still: a server whose guard was killed, or the last children of one that just died.
        for number in (*self._launch.stop_signals, signal.SIGKILL):
            if taken is not None:
                return taken
            orphan = holder(path)
            if orphan:
                note(f"a server without a guard (pid {orphan}): stopping it with signal {number}")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan, number)
            taken = lock(path, fcntl.LOCK_EX, within_s=STOP_WITHIN_S)
        if taken is None:
            raise ServerDownError("another server works on the same data and does not stop")
        return taken

    def _spawn(self, server_lock: int) -> subprocess.Popen[bytes]:
        launch = self._launch
        uid, gid = launch.account or (None, None)
        with Path(launch.log).open("ab") as log:
            try:
                return subprocess.Popen(
                    launch.command,
                    env=launch.environment,
                    cwd="/",
                    umask=0o077,
                    user=uid,
                    group=gid,
                    extra_groups=None if launch.account is None else [],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(server_lock,),
                    preexec_fn=dying_with_its_parent(launch.stop_signals[0]),  # safe: this process has one thread
                )
            except OSError as failed:
                raise ServerDownError(f"it could not be executed: {failed}") from failed

    def _publish(self, pid: int) -> None:
        running = {**self._launch.about, "pid": pid, "guard_pid": os.getpid()}
        beside = self._dir / "running.json.new"
        beside.write_text(json.dumps(running))
        beside.rename(self._dir / "running.json")  # readers see the old or the new one, never half of it

    def _unpublish(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._dir / "running.json").unlink()


def dying_with_its_parent(number: int) -> Callable[[], None] | None:
    """What a child runs before its program, so that the kernel signals it when its parent ends; None where unknown."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask_the_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # the parent was killed before the kernel was asked
            os._exit(1)

    return ask_the_kernel


class Guard:
    """Waits for the last user to go."""

    def __init__(self, server_dir: Path, server: GuardedServer) -> None:
        self._dir = server_dir
        self._server = server
        self._asked_to_stop = False

    def ask_to_stop(self, *_signal: object) -> None:
        self._asked_to_stop = True

    def watch(self) -> None:
        """Keep the server up until nobody uses it, somebody asks to stop, or it cannot be kept up; then stop it."""
        while not self._is_over() and self._server.keep_up():
            time.sleep(POLL_S)
        self._server.stop()

    def _is_over(self) -> bool:
        # Never making a file here: somebody may be removing the directory.
        try:
            if self._asked_to_stop:
                # Whoever is joining now finishes first; whoever comes now waits until the server is gone.
                lock(self._dir / "start.lock", fcntl.LOCK_EX, within_s=STOP_WITHIN_S, make=False)
                return True
            users = lock(self._dir / "users.lock", fcntl.LOCK_EX, make=False)
            if users is None:
                return False
            if lock(self._dir / "start.lock", fcntl.LOCK_EX, make=False) is not None:
                return True  # both locks go with this process, when the server is gone
            os.close(users)  # somebody is joining
        except FileNotFoundError:
            note("the directory is gone")
            return True
        return False


def report(answer: dict[str, object]) -> None:
    """Tell the one who started the guard, if that process is still there, and let go of its pipe."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(answer).encode() + b"\n")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)


def main(server_dir: Path, launch: Launch) -> int:
    """Guard the server of one directory; returns when it is stopped."""
    server = GuardedServer(server_dir, launch)
    guard = Guard(server_dir, server)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, guard.ask_to_stop)
    guard_lock = lock(server_dir / "guard.lock", fcntl.LOCK_EX, within_s=STOP_WITHIN_S)
    if guard_lock is None:
        report({"failed": "another guard is at work in this directory"})
        return 1
    sign(guard_lock, os.getpid())
    try:
        report({"pid": server.start()})
    except ServerDownError as down:
        report({"failed": str(down)})
        return 1
    guard.watch()
    with contextlib.suppress(OSError):
        Path(launch.socket).parent.rmdir()  # empty after a clean stop
    return 0


if __name__ == "__main__":
    asked_for = Launch(**json.load(sys.stdin))
    if os.fork():
        os._exit(0)  # so that the guard belongs to init, and whoever started it has no child to reap
    os.chdir("/")
    sys.exit(main(Path(sys.argv[1]), asked_for))
