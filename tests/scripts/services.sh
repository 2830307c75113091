#!/bin/bash
#op prepare
systemctl stop ollama.service #> table service
systemctl start smb #> table service
sudo systemctl stop --now docker.socket docker.service #> table service
systemctl daemon-reload
service nmbd stop #> table service
nmcli connection up bridge0 #> keep
rc-service lightdm stop #> table session
