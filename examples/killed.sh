#!/bin/sh
# Starts a task, stops it, lets it go on, kills it, and looks at how it ended.
#
#     examples/killed.sh [NODE]    (default: node1)
set -eu
node=${1:-node1}
godwit=${GODWIT:-$(dirname "$(readlink -f -- "$0")")/../bin/godwit}

task=$($godwit execute -q --name nap "$node" sleep 600)
$godwit pause "$task"
$godwit resume "$task"
$godwit kill -s TERM "$task"

# wait exits with the task's own status: 128 + 15 for SIGTERM.
status=0
$godwit wait "$task" || status=$?
echo "exit status $status"
$godwit inspect "$task"
$godwit remove --yes "$task"
