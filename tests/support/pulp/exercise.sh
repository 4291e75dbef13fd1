#!/bin/bash
# Uses Pulp over its REST API, end to end: repository, sync, upload, publish, distribute, fetch, cancel.
# exercise.sh [ROUNDS]; every name is new, so it can run again.
set -euo pipefail
api=${PULP_API:-http://10.77.0.2:24817} content=${PULP_CONTENT:-http://10.77.0.2:24816}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

call() { curl --silent --show-error --fail --user admin:password "$@"; }
post() { call -H 'Content-Type: application/json' -X POST -d "$2" "$api$1"; }
finished() {
    for _ in $(seq 600); do
        task=$(call "$api$1")
        case $(jq -r .state <<<"$task") in
            completed) echo "$task"; return ;;
            failed | canceled) jq -c .error <<<"$task" >&2; return 1 ;;
        esac
        sleep 0.1
    done
    echo "task $1 does not end" >&2
    return 1
}

round() {
    local name=lab-$(date +%s%N) repo remote task publication url
    mkdir -p "/shared/fixture/$name"
    for i in 1 2 3; do
        echo "fixture $i of $name" > "/shared/fixture/$name/$i.iso"
        (cd "/shared/fixture/$name" && echo "$i.iso,$(sha256sum "$i.iso" | cut -d' ' -f1),$(stat -c %s "$i.iso")") >> "/shared/fixture/$name/PULP_MANIFEST"
    done
    repo=$(post /pulp/api/v3/repositories/file/file/ "{\"name\": \"$name\"}" | jq -r .pulp_href)
    remote=$(post /pulp/api/v3/remotes/file/file/ "{\"name\": \"$name\", \"url\": \"file:///shared/fixture/$name/PULP_MANIFEST\"}" | jq -r .pulp_href)
    finished "$(post "${repo}sync/" "{\"remote\": \"$remote\"}" | jq -r .task)" >/dev/null
    echo "uploaded $name" > "$work/up.txt"
    finished "$(call -X POST -F "file=@$work/up.txt" -F relative_path=up.txt -F "repository=$api$repo" "$api/pulp/api/v3/content/file/files/" | jq -r .task)" >/dev/null
    task=$(finished "$(post /pulp/api/v3/publications/file/file/ "{\"repository\": \"$repo\"}" | jq -r .task)")
    publication=$(jq -r '.created_resources[0]' <<<"$task")
    finished "$(post /pulp/api/v3/distributions/file/file/ "{\"name\": \"$name\", \"base_path\": \"$name\", \"publication\": \"$publication\"}" | jq -r .task)" >/dev/null
    url=$content/pulp/content/$name
    for _ in $(seq 100); do
        curl --silent --fail --output /dev/null "$url/up.txt" && break
        sleep 0.1
    done
    [ "$(curl --silent --fail "$url/up.txt")" = "uploaded $name" ]
    [ "$(curl --silent --fail "$url/1.iso")" = "fixture 1 of $name" ]
    [ "$(curl --silent --fail "$url/PULP_MANIFEST" | wc -l)" = 4 ]
    curl --silent --fail --output /dev/null "$url/"
}

for _ in $(seq "${1:-1}"); do
    round
done
