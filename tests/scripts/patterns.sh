#!/bin/bash
#op prepare
# The patterns of a `case` may be variables.
mine=win11
case "$1" in
    other) systemctl stop never ;;
    "$mine") systemctl stop docker ;; #> table service
    *) systemctl stop never ;;
esac
case "$1" in
    win?0 | "*") systemctl stop never ;;
    "${mine%11}"*) systemctl stop ollama ;; #> table service
esac
# One that is not known may fit, and another one may as well.
case "$1" in
    $(cat /etc/vm)) systemctl stop plex ;; #> table service
    ubuntu) systemctl stop never ;;
    *) systemctl stop smbd ;; #> table service
esac
