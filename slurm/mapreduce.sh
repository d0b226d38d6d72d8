#!/bin/bash
# Runs the lines of a list as an array, and then, if all have succeeded, one command on what they have left:
#
#   mapreduce.sh tasks.txt python merge.py parts/ -o whole.tif
#
# If a line fails, the second job does not run; mend it, and send it again by `mapreduce.sh` as before: lines that have succeeded
# are not run again. Prints the ids of the two jobs.
set -euo pipefail

if [ $# -lt 2 ] || [ ! -s "$1" ]; then echo "usage: mapreduce.sh LIST COMMAND [ARGUMENT ...]" >&2; exit 2; fi
here=$(dirname "${BASH_SOURCE[0]}")
list=$1
shift

map=$(sbatch --parsable --array="1-$(grep -c '' "$list")" "$here/array.sbatch" "$list")
map=${map%%;*} # the cluster's name may follow
reduce=$(sbatch --parsable --dependency="afterok:$map" --kill-on-invalid-dep=yes --job-name=reduce "$here/command.sbatch" "$@")
echo "$map ${reduce%%;*}"
