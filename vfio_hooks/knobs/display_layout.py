"""The layout of a user's monitors, as the display server of that user's session has it."""

from __future__ import annotations

import re

from vfio_hooks import layouts
from vfio_hooks.errors import CommandFailed, Gone, HookError
from vfio_hooks.host.sessions import as_user
from vfio_hooks.knobs.base import Knob
from vfio_hooks.layouts.layout import Layout, Screen, with_strangers
from vfio_hooks.quoting import joined
from vfio_hooks.record import record
from vfio_hooks.wait import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vfio_hooks.host import Host, WritableHost

COMMAND_SECONDS = 10


@record
class DisplayLayout(Knob):
    """The layout as text. `environment` ("NAME=value") is all that the back end's program needs to
    reach the display, so an undo does not have to look for it. `seconds` is how long outputs may
    take to come back with their graphics card, and the display server to show what it was asked
    for. `darkened` are the outputs that were on before and that are off for the VM."""

    back_end: str
    user: str
    display: str
    environment: tuple[str, ...]
    seconds: float = 15
    darkened: tuple[str, ...] = ()
    kind = "display-layout"
    # Most servers set one output after the other.
    atomic = False
    # Outputs and modes that are gone are left out.
    is_read_back = False

    @property
    def key(self) -> str:
        return f"layout of {self.user}'s {self.display}"

    def read(self, host: Host) -> str:
        return str(self.screen(host).layout)

    def same(self, live: str, value: str, host: Host) -> bool:
        now, ours = Layout.parse(live), Layout.parse(value)
        # A desktop may switch on a monitor by itself when the card comes back, and then has a
        # layout that it chose itself.
        is_relit = bool((now.lit - ours.lit).intersection(self.darkened))
        return now.looks_like(ours) or is_relit

    def _write(self, host: WritableHost, value: str) -> None:
        layout = Layout.parse(value)
        screen: Screen

        def is_complete() -> bool:
            nonlocal screen
            screen = self.screen(host)
            return screen.find(layout).lit <= screen.layout.names

        # The display server takes a moment to use a card that has just come back from a guest.
        until(is_complete, self.seconds)
        wanted = screen.find(layout)
        if gone := sorted(wanted.lit - screen.layout.names):
            why = layouts.load(self.back_end).WHY_GONE
            host.tell(f"{self.key}: no longer connected, so left out: {', '.join(gone)}{why}")
        wanted = wanted.only(screen.layout.names)
        if wanted.outputs:
            self._set(host, screen, wanted)

    def screen(self, host: Host) -> Screen:
        """The display server's whole state. Raises Gone if it does not run any more."""
        back_end = layouts.load(self.back_end)
        text = self.ask(host, *back_end.QUERY)
        try:
            return back_end.parse(text)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise HookError(
                f"{self.key}: the output of {back_end.PROGRAM} is not understood: "
                f"{type(error).__name__}: {error}"
            ) from None

    def ask(self, host: Host, *arguments: str) -> str:
        """What the back end's program prints. Raises Gone or HookError."""
        return self._run(host, host.show, arguments)

    def _set(self, host: WritableHost, screen: Screen, wanted: Layout) -> None:
        """Have the server show a layout. If it refuses that, or does something else, it is asked
        again until the time is over: GNOME refuses a request that is based on an old state, sway
        1.12 one that comes too soon after a card has come back, and labwc moves other outputs than
        those that it was asked to move."""
        wanted, moved = with_strangers(screen, wanted)
        for name in moved:
            host.tell(
                f"{self.key}: {name} has been connected in the meantime: it goes to the right end"
            )
        refusal: HookError | None = None

        def is_shown() -> bool:
            nonlocal screen, wanted, refusal
            before, refusal = refusal, self._try(host, screen, wanted)
            if refusal and str(refusal) != str(before):
                host.tell(f"{refusal}: trying again")
            # After a refusal the wait is shorter than for a change that is on its way.
            pause = self.seconds / (30 if refusal else 3)
            if until(lambda: self.screen(host).layout.looks_like(wanted), pause):
                return True
            screen = self.screen(host)
            wanted = self._possible(host, screen, wanted)
            return False

        if not until(is_shown, self.seconds):
            raise refusal or HookError(
                f"{self.key}: {wanted} was asked for, but after {self.seconds:g} s it is "
                f"{self.screen(host).layout.only(wanted.names)}"
            )

    def _try(self, host: WritableHost, screen: Screen, wanted: Layout) -> HookError | None:
        """Ask the server to show a layout. Returns why it refuses, or None. Raises Gone."""
        try:
            arguments = layouts.load(self.back_end).arguments(screen, wanted)
        except ValueError as error:
            return HookError(f"{self.key}: {error}")
        try:
            self._run(host, host.run, arguments)
        except Gone:
            raise
        except HookError as error:
            return error
        return None

    def _possible(self, host: WritableHost, screen: Screen, wanted: Layout) -> Layout:
        """A layout without the outputs whose modes no longer exist; the whole layout if no output
        would be left on."""
        modeless = {one.name for one in wanted.outputs if one.is_on and not screen.offers(one)}
        kept = wanted.only(wanted.names - modeless)
        if not modeless or not kept.lit:
            return wanted
        for one in wanted.only(modeless).outputs:
            host.tell(
                f"{self.key}: {one.name} no longer has the mode {one.mode_text}, so it is "
                f"left as it is"
            )
        return kept

    def _run(
        self, host: Host, run: Callable[[list[str], float], str], arguments: Sequence[str]
    ) -> str:
        """Run the back end's program as the user, in the user's session."""
        back_end = layouts.load(self.back_end)
        argv = [back_end.PROGRAM, *arguments]
        if host.is_this_machine:
            variables = dict(pair.split("=", 1) for pair in self.environment)
            argv = as_user(self.user, variables, argv)
        try:
            return run(argv, COMMAND_SECONDS)
        except CommandFailed as error:
            if any(re.search(sign, error.said) for sign in back_end.GONE):
                raise Gone(f"{self.key}: no display server answers") from None
            for sign, package in back_end.LACKS:
                if sign in error.said:
                    what = f"{back_end.PROGRAM} lacks a package that it needs for {self.display}"
                    raise HookError(what, f"install {package}") from None
            if error.code == 127:
                what = f"{back_end.PROGRAM}: no such program"
                raise HookError(what, f"install {back_end.PACKAGE}") from None
            about = f"{self.key}: {joined([back_end.PROGRAM, *arguments])}"
            raise CommandFailed(about, error.why, argv, error.code, error.said) from None
