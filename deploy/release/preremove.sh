#!/bin/sh
# Before the files go, the service stops cleanly; before an upgrade it goes on. deb calls this with "remove" or "upgrade", rpm with the number of versions left.
set -e
[ -d "${DPKG_ROOT:-}/run/systemd/system" ] || exit 0
if [ "$1" = remove ] || [ "$1" = 0 ]; then
	systemctl disable --now milena.service || true
	systemctl stop 'milena@*.service' || true
fi
