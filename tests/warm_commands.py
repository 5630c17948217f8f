"""The console's commands as processes that begin at once: copies of one that has imported the package.

For tests that need the commands as programs, as SLURM's tasks. Importing takes a command of a moment
most of its time.
"""

import atexit
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NoReturn

from tests.forkserver import forkserver, launch_copies

# Set in a program's environment: the encoder that a small one is to take the place of. Several processes of a training
# are copies of the program, then.
SMALL = "SMALL_ENCODER"
COMMANDS = [f"lightning-seg-{name}" for name in ("train", "evaluate", "predict", "report")]
# A program of the folder: it asks the server for a copy, and is to others what the copy is, in all but its number.
PROGRAM = """\
#!{python} -IS
import json, os, signal, socket, sys

if sys.argv[0].endswith("/python"):
    if sys.argv[1:2] == ["-u"]:
        del sys.argv[1]
    if sys.argv[1:2] != ["-m"] and not "".join(sys.argv[1:2]).endswith(".py"):
        os.execv({python!r}, [{python!r}, *sys.argv[1:]])

server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [b"."], [0, 1, 2])
answers = server.makefile("rw", encoding="utf-8")
print(json.dumps([sys.argv, os.getcwd(), dict(os.environ)]), file=answers, flush=True)
copy = int(answers.readline())
for number in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "CONT"):
    signal.signal(getattr(signal, "SIG" + number), lambda number, frame: os.kill(copy, number))
status = int(answers.readline())
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


@contextmanager
def warm_commands() -> Iterator[Path]:
    """A folder with programs of the commands' names, `torchrun` and `python`, as long as this lasts.

    `python` is for `-m MODULE` and scripts; with anything else it is this environment's own.
    """
    folder = Path(mkdtemp(prefix="warm-", dir="/tmp"))  # a path of a socket has 108 characters at most
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        server = forkserver().Process(target=_serve, args=(listener, folder))
        server.start()
    for name in (*COMMANDS, "torchrun", "python"):
        program = folder / name
        program.write_text(PROGRAM.format(python=sys.executable, address=str(folder / "socket")))
        program.chmod(0o755)
    try:
        yield folder
    finally:
        server.kill()
        server.join()
        shutil.rmtree(folder)


def _serve(listener: socket.socket, folder: Path) -> NoReturn:
    copies: dict[int, socket.socket] = {}
    while True:
        asking, _, _ = select.select([listener, *copies.values()], [], [], 0.02 if copies else None)
        for connection in asking:
            if connection is listener:
                _start(listener, folder, copies)
        for pid, connection in list(copies.items()):
            if connection in asking:  # the program has gone
                os.kill(pid, signal.SIGKILL)
            ended, status = os.waitpid(pid, 0 if connection in asking else os.WNOHANG)
            if ended:
                _answer(connection, os.waitstatus_to_exitcode(status))
                copies.pop(pid).close()


def _start(listener: socket.socket, folder: Path, copies: dict[int, socket.socket]) -> None:
    connection, _ = listener.accept()
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    line = connection.makefile(encoding="utf-8").readline()
    if not line:  # the program has gone
        for file in files:
            os.close(file)
        connection.close()
        return
    pid = os.fork()
    if pid == 0:
        for opened in (listener, connection, *copies.values()):
            opened.close()
        for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
            os.dup2(files[number], number)
            stream = open(number, mode, buffering=1, closefd=False, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)
        _become(folder, *json.loads(line))
    for file in files:
        os.close(file)
    copies[pid] = connection
    _answer(connection, pid)


def _answer(connection: socket.socket, number: int) -> None:
    with suppress(OSError):  # the program may have gone
        connection.sendall(b"%d\n" % number)


def _become(folder: Path, arguments: list[str], where: str, environment: dict[str, str]) -> NoReturn:
    """Runs the program in this process, and ends it as Python would."""
    os.chdir(where)
    os.environ.clear()
    os.environ.update(environment)
    if SMALL in environment:
        small = import_module("tests.small_encoder")
        small.encoders[environment[SMALL]] = small.ENTRY
        import_module("lightning_seg.launch.processes").elastic_launch = launch_copies
    hydra = import_module("hydra._internal.hydra")
    hydra.Hydra.get_mode = import_module("tests.one_composition").get_mode
    program, *rest = arguments
    sys.executable, sys.argv = str(folder / "python"), arguments
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status: Any = 1
    try:
        status = _run(Path(program).name, rest)
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except KeyboardInterrupt:
        status = -signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if status is not None and status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status or 0)


def _run(name: str, arguments: list[str]) -> Any:
    if name in COMMANDS:
        return import_module(f"lightning_seg.commands.{name.removeprefix('lightning-seg-')}").main()
    if name == "torchrun":
        return import_module("torch.distributed.run").main()
    if arguments[0] == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(arguments[0]).parent.absolute()))
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
    return 0
