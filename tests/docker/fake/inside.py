"""The first processes of a fake container: `python -I -S inside.py ORDER TOLD`, two descriptors.

The outer one makes the namespaces and waits; the inner one is number 1 in there: it makes a root of
this machine's programs (read-only), puts the mounts in, changes the user, and becomes the program
or, as a small init, starts it. On TOLD come the inner one's number out here and, if it comes to
nothing, why. As anybody but root it makes a user namespace too, with one user in it.

Rule of this room: the standard library, and nothing of ours: it runs without either's packages.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

_NEW_MOUNTS, _NEW_NAME, _NEW_USERS, _NEW_PIDS = 0x20000, 0x4000000, 0x10000000, 0x20000000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE, _RELATIME = 1, 32, 4096, 16384, 1 << 18, 1 << 21
_PARENT_DEATH: Final = 1
_MACHINE: Final = ("usr", "bin", "sbin", "lib", "lib64", "etc", "sys", "dev")
_FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_libc: Final = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}", str(arguments[:2]))


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind, data)]
    _call("mount", *words[:3], ctypes.c_ulong(flags), words[3])


def _bind(source: str, target: str, *, read_only: bool) -> None:
    if Path(source).is_dir():
        Path(target).mkdir(parents=True, exist_ok=True)
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).touch()
    _mount(source, target, None, _BIND | _RECURSIVE)
    if read_only:
        now = os.statvfs(target).f_flag
        kept = now & 0xC0E | (_RELATIME if now & 4096 else 0)
        _mount("none", target, None, _BIND | _REMOUNT | _READ_ONLY | kept)


def _furnish(order: dict[str, Any]) -> None:
    """A root of one's own, and into it."""
    root: str = order["root"]
    _mount("none", "/", None, _RECURSIVE | _PRIVATE)
    _mount("fake", root, "tmpfs", 0, "mode=755")
    for name in _MACHINE:
        place = Path("/", name)
        if place.is_symlink():
            Path(root, name).symlink_to(place.readlink())
        elif place.is_dir():
            _bind(str(place), f"{root}/{name}", read_only=name != "dev")
    for name in ("tmp", "run", "root", "proc"):
        Path(root, name).mkdir()
    Path(root, "tmp").chmod(0o1777)
    try:
        _mount("proc", f"{root}/proc", "proc", 0)
    except OSError:  # inside some containers it may not be made anew
        _bind("/proc", f"{root}/proc", read_only=False)
    for source, target, read_only in order["mounts"]:
        _bind(source, f"{root}{target}", read_only=read_only)
    Path(f"{root}{order['workdir']}").mkdir(parents=True, exist_ok=True)
    os.chroot(root)
    os.chdir(order["workdir"])


def _become(order: dict[str, Any], *, mapped: bool) -> None:
    _call("sethostname", order["hostname"].encode(), len(order["hostname"]))
    if not mapped:
        os.setgroups([])
        os.setgid(order["gid"])
        os.setuid(order["uid"])
    _call("prctl", _PARENT_DEATH, signal.SIGKILL)


def _execute(order: dict[str, Any]) -> NoReturn:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python has them ignored
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    argv: list[str] = order["argv"]
    os.execvpe(argv[0], argv, order["environment"])  # noqa: S606 - that is what it is for


def _init(order: dict[str, Any], told: int) -> NoReturn:
    """Start the program, pass signals on to it, bury what dies, end as it ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            _execute(order)
        except OSError as error:
            said = f"[FATAL tini ({os.getpid()})] exec {order['argv'][0]} failed: {error.strerror}"
            os.write(2, f"{said}\n".encode())
            os._exit(126 if isinstance(error, PermissionError) else 127)
    for number in _FORWARDED:
        signal.signal(number, lambda number, _: os.kill(child, number))
    os.close(told)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    while True:
        pid, status = os.wait()
        if pid == child:
            _end(status)


def _end(status: int) -> NoReturn:
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _inner(order: dict[str, Any], told: int, *, mapped: bool) -> NoReturn:
    try:
        _call("prctl", _PARENT_DEATH, signal.SIGKILL)
        _furnish(order)
        _become(order, mapped=mapped)
        if order["init"]:
            _init(order, told)
        _execute(order)
    except FileNotFoundError:
        why, code = f'exec: "{order["argv"][0]}": executable file not found in $PATH', 127
    except PermissionError as error:
        why, code = f'exec: "{order["argv"][0]}": permission denied ({error})', 126
    except OSError as error:
        why, code = str(error), 128
    os.write(told, json.dumps({"error": why, "code": code}).encode() + b"\n")
    os._exit(code)


def main() -> NoReturn:
    """The outer process."""
    given, told = int(sys.argv[1]), int(sys.argv[2])
    with os.fdopen(given) as file:
        order: dict[str, Any] = json.load(file)
    os.set_inheritable(told, False)
    mapped = os.geteuid() != 0
    user, group = os.geteuid(), os.getegid()
    _call("prctl", _PARENT_DEATH, signal.SIGKILL)
    _call("unshare", _NEW_MOUNTS | _NEW_NAME | _NEW_PIDS | (_NEW_USERS if mapped else 0))
    if mapped:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{order['uid']} {user} 1"),
            ("gid_map", f"{order['gid']} {group} 1"),
        ):
            Path("/proc/self", name).write_text(text)
    inner = os.fork()
    if inner == 0:
        _inner(order, told, mapped=mapped)
    os.write(told, json.dumps({"pid": inner}).encode() + b"\n")
    os.close(told)
    for descriptor in (1, 2):  # the output ends with who is in there
        os.close(descriptor)
    _end(os.waitpid(inner, 0)[1])


if __name__ == "__main__":
    main()
