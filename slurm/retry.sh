#!/bin/bash
# Sends array.sbatch again for those lines of a list that have not succeeded, whatever became of them: failed, out of time or
# memory, cancelled, or never run. For when the array is over. Options go to sbatch:
#
#   retry.sh tasks.txt --mem=4G --time=04:00:00
#
# TEMPLATE names another template that leaves the same marks: TEMPLATE=gpu.sbatch retry.sh tasks.txt
set -euo pipefail

if [ $# -eq 0 ] || [ ! -r "$1" ]; then echo "usage: retry.sh LIST [OPTION OF SBATCH ...]" >&2; exit 2; fi
list=$1
shift

numbers=$(
  awk '{ sub(/\r$/, "") } length && !/^#/ { print NR }' "$list" | while read -r number; do
    [ -e "$list.done/$number" ] || echo "$number"
  done | awk '
    NR > 1 && $1 == last + 1 { last = $1; next }
    NR > 1 { printf "%s,", (first == last ? first : first "-" last) }
    { first = last = $1 }
    END { if (NR) print (first == last ? first : first "-" last) }'
)
[ -n "$numbers" ] || { echo "all lines of $list have succeeded"; exit 0; }
echo "lines $numbers"
exec sbatch --array="$numbers" "$@" "$(dirname "${BASH_SOURCE[0]}")/${TEMPLATE:-array.sbatch}" "$list"
