#!/bin/sh
# A package starts and enables nothing: nobody has named the clusters yet. An upgrade restarts what runs, which copies on where it was.
# deb calls this with "configure" and the version before, if there is one; rpm with the number of installed versions.
set -e
[ -d "${DPKG_ROOT:-}/run/systemd/system" ] || exit 0
systemctl daemon-reload || true
if [ "$1" = configure ] && [ -n "${2:-}" ] || [ "$1" = 2 ]; then
	systemctl try-restart milena.service 'milena@*.service' || true
fi
