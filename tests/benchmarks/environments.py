"""What the peers need and we do not: environments of their own, and a Kafka broker.  Kept in a folder for the next time."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

PEERS = Path(__file__).parent / "peers"
KAFKA = "4.1.0"
_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"
_UP_WITHIN_S = 60.0
_SLF4J_NOISE = "-Dslf4j.internal.verbosity=ERROR"


class UnavailableError(Exception):
    """Something a peer needs is not to be had here; the message says what."""


class Broker(NamedTuple):
    """A running Kafka."""

    address: str
    pid: int


def environment(peer: str, cache: Path) -> Path:
    """The Python of a peer's own environment, made when it is not there yet."""
    pins = PEERS / f"{peer}.txt"
    folder = cache / f"{peer}-{sha256(pins.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)], f"an environment for {peer}")
        _run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(pins)], f"the packages of {peer}")
        (folder / "complete").touch()
    return python


def kafka_jars(cache: Path) -> Path:
    """A folder with Kafka and all it needs, out of Maven's central repository."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise UnavailableError(f"{program} is not installed")
    folder = cache / f"kafka-{KAFKA}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "pom.xml").write_text(_POM.format(version=KAFKA), encoding="utf-8")
        goal = ["dependency:copy-dependencies", "-DoutputDirectory=jars"]
        _run(["mvn", "--quiet", "--batch-mode", *goal], "Kafka's jars", folder=folder)
        (folder / "complete").touch()
    return folder / "jars"


@contextmanager
def kafka(jars: Path, folder: Path) -> Iterator[Broker]:
    """A broker with one node (KRaft) on loopback; it and its data are gone afterwards."""
    port, controller = _free_port(), _free_port()
    folder.mkdir(parents=True)
    settings = folder / "server.properties"
    settings.write_text(_SETTINGS.format(port=port, controller=controller, data=folder / "data"), encoding="utf-8")
    java = ["java", "-Xms256m", "-Xmx768m", _SLF4J_NOISE, "-cp", f"{jars}/*"]
    _run([*java, "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(settings)], "a formatted log folder")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*java, "kafka.Kafka", str(settings)], stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(port, process)
        yield Broker(f"127.0.0.1:{port}", process.pid)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + _UP_WITHIN_S
    while time.monotonic() < give_up_at and process.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise UnavailableError(f"Kafka did not listen on port {port} within {_UP_WITHIN_S:.0f} s")


def _free_port() -> int:
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _run(command: list[str], what: str, *, folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise UnavailableError(f"could not get {what}: {said[-1] if said else 'no reason given'}")


_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>bench</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version></dependency>
  </dependencies>
</project>
"""

# As Kafka comes (it leaves flushing to the operating system), but for one node, and for events dated in the future.
_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.message.timestamp.after.max.ms=9223372036854775807
"""
