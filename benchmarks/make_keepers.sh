#!/bin/bash
# The keepers of the package from label maps, in one command; goes on where it was stopped.
#
#   benchmarks/make_keepers.sh DATA OUT [2d|3d] [STEPS] [STEPS_OF_CONTROLS] [DEVICE]
#
# DATA holds synthseg_label_maps/, label_maps_uhf/ and ixi_hh_2mm/. Three short trainings (taught by image, by
# structures, by both) are measured on real scans beside a random network, then the long one, which is shipped by hand:
#   python benchmarks/make_keepers ship --out OUT --name 2d_both_long
set -eu
data=$1 out=$2 configuration=${3:-2d} steps=${4:-12000} short=${5:-1500} device=${6:-cpu}
here=$(dirname "$0")
patch=128 batch=8
if [ "$configuration" = 3d ]; then patch=64 batch=2; fi
teach() {
  python "$here/make_keepers" train --data "$data" --out "$out" -c "$configuration" --patch $patch --batch $batch \
    -device "$device" --taught-by "$1" --steps "$2" --name "$3"
}
for by in image structures both; do teach $by "$short" "${configuration}_${by}_$short"; done
teach both "$steps" "${configuration}_both_long"
python "$here/make_keepers" measure --data "$data" --out "$out" "${configuration}_image_$short" \
  "${configuration}_structures_$short" "${configuration}_both_$short" "${configuration}_both_long"
