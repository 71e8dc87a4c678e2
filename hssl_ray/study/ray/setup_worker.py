"""What a worker process of a Ray that we start runs first: it takes over its environment and becomes Ray's worker.

Ray's own first step imports all of Ray, to set a few variables, and then replaces itself with a program that imports
Ray again: half a processor second in each process. This one is run as a file, before there is any package to import,
and leaves to Ray's what it does not know. Its name must end in `setup_worker.py`: so Ray knows it, and goes without it
where no variable is to be set.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

CONTEXT = "--serialized-runtime-env-context="
KNOWN = {"env_vars", "py_executable", "command_prefix", "override_worker_entrypoint", "java_jars"}


def variables(context: str) -> dict[str, str] | None:
    """The environment variables of a runtime environment that has nothing else; None if it has."""
    parts = json.loads(context or "{}")
    named = parts.get("env_vars") or {}
    others = any(parts.get(name) for name in KNOWN - {"env_vars", "py_executable"})
    own = parts.get("py_executable") in (None, sys.executable)
    plain = own and not others and parts.keys() <= KNOWN and not any("$" in value for value in named.values())
    return named if plain else None


def command(arguments: list[str], ray_entry: Path) -> tuple[dict[str, str], list[str]]:
    """Variables to set and arguments of the interpreter to go on with."""
    contexts = [argument for argument in arguments if argument.startswith(CONTEXT)]
    named = variables(contexts[0].removeprefix(CONTEXT)) if len(contexts) == 1 else None
    if named is None or "--language=PYTHON" not in arguments:
        return {}, [str(ray_entry), *arguments]
    return named, [each for each in arguments if each not in (contexts[0], "--language=PYTHON")]


def main() -> None:
    """Become Ray's worker, or the server of its clients, which Ray starts this way too."""
    found = importlib.util.find_spec("ray")  # without importing it
    assert found is not None and found.origin is not None
    named, arguments = command(sys.argv[1:], Path(found.origin).with_name("_private") / "workers" / "setup_worker.py")
    os.environ.update(named)
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606


if __name__ == "__main__":
    main()
