#!/usr/bin/env bash
# Installs what makes sciflux fast and its tests complete, where that needs no question asked: oneDNN for matrix products and Chromium for
# the report's browser test. Both are optional; without them portable kernels serve and that test is skipped.
set -u
want=()
ldconfig -p 2>/dev/null | grep -q 'libdnnl\.so' || want+=(libdnnl2)
if [ "${CI:-}" = true ]; then command -v chromium >/dev/null || want+=(chromium); fi
[ ${#want[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "optional: install ${want[*]} for more speed and complete tests (Debian/Ubuntu: sudo apt-get install ${want[*]})"
	exit 0
fi
echo "installing ${want[*]}"
{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${want[@]}"; } >/dev/null 2>&1 ||
	echo "could not install ${want[*]}; going on without"
