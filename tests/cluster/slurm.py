"""A real SLURM on this machine: munged, slurmctld and two slurmd nodes, without systemd.

Only for tests: everything lies in one folder and is stopped with it. `python -m tests.cluster.slurm` starts one and
keeps it until Ctrl-C or SIGTERM.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

INSTALL = "apt-get install --no-install-recommends munge slurmctld slurmd slurm-client"
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "squeue", "scancel", "scontrol")
# Like addresses, since Lightning takes the first node's name as the address of the rendezvous.
NODES = ("127.0.0.11", "127.0.0.12")
PATH = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"  # of daemons, also for those who are not root

CONFIG = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire is also how long a requeued job waits before it starts again: 120 s by default
AuthInfo=socket={folder}/munge.socket,cred_expire=5
{loopback_only}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_interval=1
# more CPUs than there are, so that jobs run side by side
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=3600
{nodes}
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why SLURM cannot be started here, and what to do; None if it can."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if missing:
        return f"{', '.join(missing)} missing, as root: {INSTALL}"
    if os.geteuid() != 0:
        return "SLURM's daemons start jobs in the name of others, which needs root"
    return None


@dataclass(frozen=True)
class Slurm:
    """A cluster that runs. `environment` is that of a process which is to use it."""

    environment: dict[str, str]

    def call(self, *command: str, timeout: float = 30, cwd: Path | None = None) -> str:
        """What a command of SLURM prints.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        done = subprocess.run(
            command, env=self.environment, cwd=cwd, timeout=timeout, check=True, capture_output=True, text=True
        )
        return done.stdout

    def states(self) -> dict[str, str]:
        """The state of each job that ever was, by its number (of an array `12_0`)."""
        lines = self.call("squeue", "--noheader", "--states=all", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def wait(self, job: str, timeout: float = 300) -> str:
        """The state in which a job ends.

        Raises:
            TimeoutError: it does not.
        """
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
        _until(lambda: self.states()[job] in over, timeout, f"the end of job {job}")
        return self.states()[job]


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Starts SLURM, and stops it with all of its jobs.

    Raises:
        TimeoutError: a daemon did not come up; the message ends with its log.
    """
    started: list[subprocess.Popen[bytes]] = []
    # A path of a socket has 108 characters at most.
    with TemporaryDirectory(prefix="slurm-", dir="/tmp") as name, _stopping(started):
        folder = Path(name)
        folder.chmod(0o755)
        environment = {**os.environ, "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}
        for variable in [variable for variable in environment if variable.startswith(("SLURM_", "SBATCH_"))]:
            if variable != "SLURM_CONF":
                del environment[variable]
        _write_config(folder)

        def daemon(log: str, *command: str) -> None:
            with (folder / f"{log}.log").open("wb") as file:
                # A session of its own: Ctrl-C is for those who stop it.
                started.append(subprocess.Popen(command, env=environment, stderr=file, start_new_session=True))

        daemon(
            "munged",
            *("munged", "--foreground", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"),
            *(f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munged.seed"),
        )
        _until((folder / "munge.socket").exists, 10, "munged", folder / "munged.log")
        daemon("slurmctld", "slurmctld", "-D")
        for node in NODES:
            daemon(f"slurmd.{node}", "slurmd", "-D", "-N", node)
        cluster = Slurm(environment)
        _until(lambda: _idle(cluster), 60, "two idle nodes", folder / "slurmctld.log")
        try:
            yield cluster
        finally:
            jobs = [job for job, state in cluster.states().items() if state in ("RUNNING", "PENDING", "SUSPENDED")]
            if jobs:
                cluster.call("scancel", *jobs)
            _until(lambda: not cluster.call("squeue", "--noheader").strip(), 30, "the end of all jobs")


def _write_config(folder: Path) -> None:
    host = socket.gethostname().split(".")[0]
    ports = _free_ports(1 + len(NODES))
    try:
        is_loopback = socket.gethostbyname(host).startswith("127.")
    except OSError:
        is_loopback = False
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=8000"
        for node, port in zip(NODES, ports[1:], strict=True)
    ]
    text = CONFIG.format(
        host=host,
        folder=folder,
        ports=ports,
        nodes="\n".join(nodes),
        # The daemons listen on the address of the host's name, if that is none of the network.
        loopback_only="CommunicationParameters=NoCtldInAddrAny,NoInAddrAny" if is_loopback else "",
    )
    (folder / "slurm.conf").write_text(text)
    (folder / "state").mkdir()
    for node in NODES:
        (folder / "spool" / node).mkdir(parents=True)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _idle(cluster: Slurm) -> bool:
    try:
        return cluster.call("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle"] * len(NODES)
    except subprocess.CalledProcessError:  # slurmctld does not answer yet
        return False


def _until(condition: Callable[[], bool], timeout: float, what: str, log: Path | None = None) -> None:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            tail = "\n".join(log.read_text().splitlines()[-20:]) if log is not None else ""
            raise TimeoutError(f"{what} did not come within {timeout} s\n{tail}".rstrip())
        time.sleep(0.2)


@contextmanager
def _stopping(started: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


if __name__ == "__main__":
    with slurm() as running:
        print(f"export SLURM_CONF={running.environment['SLURM_CONF']}", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, ending := (signal.SIGINT, signal.SIGTERM))
        signal.sigwait(ending)
