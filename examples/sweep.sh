#!/usr/bin/env bash
# Mask policy against learning rate of stage 2, one run each, with the same seed and the same evaluation noises, so that
# runs can be compared picture by picture. A run that was interrupted goes on where it stopped when this is called again.
#
#   examples/sweep.sh                         # the smoke preset
#   PRESET=world examples/sweep.sh            # the main job, nine times
set -euo pipefail
preset=${PRESET:-world-smoke}
sciflux=${SCIFLUX:-bin/sciflux}

for mask in none detector full; do
	for rate in 2.5e-4 5e-4 1e-3; do
		name=sweep-$mask-${rate//./p}
		if "$sciflux" show "$name" >/dev/null 2>&1; then
			"$sciflux" resume "$name"
		else
			"$sciflux" run "$preset" --name "$name" --set oft.mask.policy="$mask" --set oft.lr="$rate" --set compare.same_time_sft=false
		fi
	done
done
"$sciflux" ls
