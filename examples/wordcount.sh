#!/bin/sh
# Counts the words of all Python sources below a folder, in parallel tasks on several nodes.
#
#     examples/wordcount.sh [NODES [FOLDER [TASKS]]]
#
# By default on all nodes, 4 tasks on each, over the standard library of the python3 found here; each
# node counts its share of the files in its own copy of FOLDER.  GODWIT names the command.
set -eu
nodes=${1:-all}
folder=${2:-$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')}
each=${3:-4}
godwit=${GODWIT:-$(dirname "$(readlink -f -- "$0")")/../bin/godwit}

# Task number FIRST + GODWIT_INDEX of OF takes every OF-th file.
count='find "$FOLDER" -name "*.py" | sort |
    awk -v mine=$((FIRST + GODWIT_INDEX)) -v of="$OF" "NR % of == mine" |
    tr "\n" "\0" | xargs -0 -r cat | wc -w'

names=$($godwit list "$nodes" -o name)
names=$(echo "$names" | sed -n 's,^node/,,p')
total=$(($(echo "$names" | wc -l) * each))
first=0 tasks=
for node in $names; do
    tasks="$tasks $($godwit execute -q --count "$each" --name wordcount \
        -e FOLDER="$folder" -e FIRST=$first -e OF=$total --shell "$node" "$count")"
    first=$((first + each))
done

$godwit wait -q $tasks >/dev/null
for task in $tasks; do
    $godwit logs "$task"
done | awk '{ words += $1 } END { print words " words, counted by " NR " tasks" }'
$godwit getrusage --no-headers | tail -n "$total" >&2
