"""A host with sessions, as files below a root: logind's own, and those of /proc."""

from pathlib import Path


def add_session(root: Path, name: str, user: str = "ada", uid: str = "1000", **fields: str) -> None:
    """A session as logind writes it down; by default one that an X display manager opened."""
    known = {
        "UID": uid,
        "USER": user,
        "ACTIVE": "1",
        "STATE": "active",
        "REMOTE": "0",
        "TYPE": "x11",
        "CLASS": "user",
        "SCOPE": f"session-{name}.scope",
        "SEAT": "seat0",
        "LEADER": "700",
    } | fields
    lines = "".join(f"{key}={value}\n" for key, value in known.items())
    _write(root / "run/systemd/sessions" / name, f"# This is private data. Do not parse.\n{lines}")
    (root / f"run/user/{uid}").mkdir(parents=True, exist_ok=True)


def add_program(
    root: Path, pid: int, unit: str = "session-2.scope", uid: int = 1000, **variables: str
) -> None:
    """A process of a user in a unit, with its environment."""
    slice_ = f"0::/user.slice/user-{uid}.slice/{unit}"
    _write(root / f"proc/{pid}/cgroup", f"{slice_}\n")
    _write(root / f"proc/{pid}/status", f"Name:\tx\nPPid:\t1\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
    text = "".join(f"{key}={value}\0" for key, value in variables.items())
    _write(root / f"proc/{pid}/environ", text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
