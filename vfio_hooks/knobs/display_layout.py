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
    reach the display, so that undo has to find nothing out. `seconds` is how long outputs may take
    to come back with their graphics card, and the server to show what it was told. `darkened` are
    the outputs that the VM has off and that were on before."""

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
        # A desktop may light a monitor that comes back with its card by itself, and then has a
        # layout of its own choice.
        is_relit = bool((now.lit - ours.lit).intersection(self.darkened))
        return now.looks_like(ours) or is_relit

    def _write(self, host: WritableHost, value: str) -> None:
        layout = Layout.parse(value)
        screen: Screen

        def is_complete() -> bool:
            nonlocal screen
            screen = self.screen(host)
            return screen.find(layout).lit <= screen.layout.names

        # A card that has just come back from a guest is not at once the display server's again.
        until(is_complete, self.seconds)
        wanted = screen.find(layout)
        if gone := sorted(wanted.lit - screen.layout.names):
            why = layouts.load(self.back_end).WHY_GONE
            host.tell(f"{self.key}: no longer connected, so left out: {', '.join(gone)}{why}")
        wanted = wanted.only(screen.layout.names)
        if wanted.outputs:
            self._set(host, screen, wanted)

    def screen(self, host: Host) -> Screen:
        """All that the display server tells. Raises Gone where it does not run any more."""
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
        """Have the server show a layout. What it refuses, or does in another way, is asked for
        again until the time is over: GNOME refuses what it is told of a state that is over, sway
        1.12 what it is told too soon of a card that has come back, and labwc moves other outputs
        than those it is told to."""
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
            # What was refused is not waited for as long as what is on its way.
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
        """Tell the server what to show; why it refuses that, or None. Raises Gone."""
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
        """A layout without the outputs whose modes are not to be had any more; all of it where
        nothing would be left on."""
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
