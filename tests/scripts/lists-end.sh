#!/bin/bash
#op release
systemctl revert system.slice user.slice init.scope #> needless cpus
rmmod kvmfr #> needless shm
