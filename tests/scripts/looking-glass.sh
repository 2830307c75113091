#!/bin/sh
#op prepare
touch /dev/shm/looking-glass #> table shm
chown alice:kvm /dev/shm/looking-glass #> table shm
chmod 660 /dev/shm/looking-glass #> table shm
sudo -u alice DISPLAY=:0 looking-glass-client -F & #> table process
su alice -c "scream -i virbr0 &" #> table process
