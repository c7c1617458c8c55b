# What happens while the disk is watched: an application gets a queue, jobs are enqueued by five programs, run by two
# workers, two of them with effects in the same database, awaited, cancelled, pruned. What was asked and what was
# acknowledged is written into the file `notes`.
set -eu

note() { echo "$*" >>notes; }

enqueue() {
    note "asked $1"
    durablejobs enqueue work "$1" --app handlers >/dev/null 2>>errors
    note "stored $1"
}

enqueue_and_await() {
    note "asked $1"
    id=$(durablejobs enqueue "${2:-work}" "$1" --app handlers 2>>errors)
    note "stored $1"
    durablejobs wait "$id" --timeout 60 >/dev/null
    note "ended $1"
}

note "asked migration"
durablejobs migrate --db app.db 2>>errors
note "done migration"

enqueue first
durablejobs worker --app handlers --concurrency 2 2>worker-1.log &
workers=$!
trap 'kill -KILL $workers 2>/dev/null || true' EXIT
enqueue_and_await second
enqueue_and_await effect1 effect
enqueue third
# Here ends the short story.

durablejobs worker --app handlers --concurrency 2 --queues default,old 2>worker-2.log &
workers="$workers $!"
(for number in 1 2 3; do enqueue "a$number"; done) &
enqueuers=$!
(for number in 1 2 3; do enqueue_and_await "b$number"; done) &
enqueuers="$enqueuers $!"

(enqueue_and_await effect2 effect) &
enqueuers="$enqueuers $!"

note "asked batch"
durablejobs enqueue --batch batch.jsonl --app handlers >/dev/null 2>>errors
note "stored batch"
note "asked old"
durablejobs enqueue --batch old.jsonl --app handlers >/dev/null 2>>errors
note "stored old"
durablejobs cancel --queue old --yes >/dev/null 2>>errors
note "cancelled old"
note "asked prune"
durablejobs prune --status cancelled --older-than 0 >/dev/null 2>>errors
note "done prune"

for enqueuer in $enqueuers; do wait "$enqueuer"; done
kill -TERM $workers
for worker in $workers; do wait "$worker"; done
