#!/bin/bash
#op release
systemctl disable --now sddm #> needless session
modprobe ipmi_devintf #> needless session
