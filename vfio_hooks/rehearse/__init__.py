"""`vfio-hooks rehearse`: a VM's start and end, rehearsed on the real host with a clone of it.

The clone has the VM's passed devices, CPUs and memory, and nothing that could be lost. It is
started and ended several times, and the host compared before and after. Its hooks find the VM's own
folder: the clone's is a symbolic link to it. All of this is done by a service of systemd's, as
the terminal that asked for it may end with the desktop; should the service die, a timer ends the
clone, undoes what is left and brings the desktop back.
"""

SERVICE = "vfio-hooks-rehearsal.service"
"""Plays the rounds."""
RESCUE = "vfio-hooks-rehearsal-rescue.timer"
"""Undoes all should the service have died."""
