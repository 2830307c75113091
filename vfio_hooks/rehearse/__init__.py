"""`vfio-hooks rehearse`: a VM's start and end, rehearsed on the real host with a clone of it.

The clone has the VM's passed devices, CPUs and memory, and nothing that could be lost. It is
started and ended several times, and the host is compared before and after. Its hooks use the VM's
own folder, because the clone's folder is a symbolic link to it. A systemd service does all of this,
because the terminal of the command may end with the desktop. If the service dies, a timer ends the
clone, undoes what is left and brings the desktop back.
"""

SERVICE = "vfio-hooks-rehearsal.service"
"""Plays the rounds."""
RESCUE = "vfio-hooks-rehearsal-rescue.timer"
"""The timer that undoes everything if the service has died."""
