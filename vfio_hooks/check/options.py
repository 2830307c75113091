"""The table [check] of the configuration files, which is no facility: it changes nothing."""

from vfio_hooks.errors import nearest
from vfio_hooks.record import record

_ALL = "man vfio-hooks-check lists them all"


@record
class Options:
    silence: tuple[str, ...] = ()
    """Names of findings that `vfio-hooks check` does not report. Names in the host-wide file count
    in addition to those in vm.toml."""

    def __post_init__(self) -> None:
        from vfio_hooks.check import RETIRED, rules

        known = [rule.name for rule in rules()]
        for name in self.silence:
            if name not in known and name not in RETIRED:
                raise ValueError(
                    f"silence has {name!r}, which is not the name of a finding; "
                    f"{nearest(name, known, _ALL)}"
                )
