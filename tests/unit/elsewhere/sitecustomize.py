"""Python reads this when it starts: nornir_pools then finds what another system has, and nothing else.

``NORNIR_TEST_SYSTEM`` is "windows" or "macos". The standard library, which differs there as well, stays as it is.
"""

from __future__ import annotations

import builtins
import importlib
import os
import types
from collections.abc import Mapping, Sequence
from typing import Any

POSIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty", "syslog"}
POSIX_NAMES = {
    "os": """
        chown fchmod fchown fork forkpty fstatvfs get_blocking getegid geteuid getgid getgroups getloadavg getpgid getpgrp
        getpriority getsid getuid killpg lchown memfd_create mkfifo mknod nice openpty pidfd_open posix_fallocate posix_spawn
        posix_spawnp pread preadv pwrite pwritev register_at_fork sched_getaffinity sched_setaffinity sched_yield sendfile
        set_blocking setpgid setpgrp setpriority setsid statvfs sysconf ttyname uname wait wait3 wait4 waitid writev
        WNOHANG WEXITED WNOWAIT WUNTRACED P_PID WIFEXITED WEXITSTATUS O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK
    """,
    "signal": """
        SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIG_BLOCK SIG_SETMASK
        alarm pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigtimedwait sigwait sigwaitinfo
    """,
    "socket": "AF_UNIX CMSG_LEN CMSG_SPACE MSG_CMSG_CLOEXEC SCM_RIGHTS",
}
ONLY_LINUX_NAMES = {"os": "memfd_create posix_fallocate pidfd_open sched_getaffinity sched_setaffinity"}
SYSTEMS: dict[str, tuple[str, str, set[str], Mapping[str, str]]] = {
    "windows": ("win32", "nt", POSIX_MODULES, POSIX_NAMES),
    "macos": ("darwin", "posix", set(), ONLY_LINUX_NAMES),
}
platform, name_of_os, hidden_modules, hidden_names = SYSTEMS[os.environ["NORNIR_TEST_SYSTEM"]]


class Elsewhere(types.ModuleType):
    """A module as it is on that system."""

    def __init__(self, name: str, hidden: Sequence[str] = (), **others: Any) -> None:
        super().__init__(name)
        self._real, self._hidden = importlib.import_module(name), hidden
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        if name in self._hidden:
            raise AttributeError(f"{self.__name__}.{name} is not on {platform}")
        return getattr(self._real, name)


modules = {name: Elsewhere(name, names.split()) for name, names in hidden_names.items()}
modules["os"].__dict__["name"] = name_of_os
modules["sys"] = Elsewhere("sys", platform=platform)
_import = builtins.__import__


def import_elsewhere(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    if not level and str((globals or {}).get("__name__")).startswith("nornir_pools"):
        if name in hidden_modules:
            raise ModuleNotFoundError(f"No module named {name!r}")
        if name in modules:
            return modules[name]
        if name == "multiprocessing" and platform == "win32":
            _import(name, globals, locals, fromlist or (), level)  # and its modules that are asked for
            return Elsewhere(name, get_all_start_methods=lambda: ["spawn"])
    return _import(name, globals, locals, fromlist or (), level)


builtins.__import__ = import_elsewhere
