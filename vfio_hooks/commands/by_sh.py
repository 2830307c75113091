"""Commands that the vfio-hooks command runs, by the module sh if it is installed. The hook uses
vfio_hooks.commands instead, because importing sh takes longer than the rest of an event."""

from vfio_hooks import commands


def run(argv: list[str], seconds: float) -> str:
    """Run a command, as `commands.run` does, and return its standard output. Raises HookError."""
    try:
        import sh
    except ImportError:
        # openSUSE has no package of it.
        return commands.run(argv, seconds)
    program = commands.find(argv[0])
    if program is None:
        raise commands.absent(argv)
    if any("\0" in word for word in argv):
        raise commands.unfit(argv, ValueError("embedded null byte"))
    try:
        # sh 1 returns a command object, sh 2 a string: str() makes them the same.
        return str(
            sh.Command(program)(
                *argv[1:],
                _timeout=seconds,
                _env=commands.variables(),
                _in="",
                _tty_out=False,
                _decode_errors="replace",
                _new_session=True,
            )
        )
    except (sh.ForkException, UnicodeEncodeError) as error:
        raise commands.unfit(argv, error) from None
    except sh.TimeoutException:
        raise commands.late(argv, seconds) from None
    except sh.ErrorReturnCode as error:
        raise commands.failed(argv, error.exit_code, error.stderr) from None
