#!/usr/bin/env bash
# Print the events of an answer. The connection is cut after 40 lines, and the rest is read with `starting_after`.
#   examples/curl/resume.sh [QUESTION]
set -euo pipefail

fail() {
  echo "resume.sh: $1" >&2
  exit 1
}

# The text as a string of JSON.
quote() {
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  text=${text//$'\t'/\\t}
  [[ $text != *[[:cntrl:]]* ]] || fail "a question and a model have no control characters"
  printf '"%s"' "$text"
}

url=${OPENAI_BASE_URL:-http://127.0.0.1:8080/v1}
model=$(quote "${MODEL:-demo}")
question=$(quote "${1:-What survives?}")
headers=(-H "Authorization: Bearer ${OPENAI_API_KEY:-none}" -H 'Content-Type: application/json')

body="{\"model\": $model, \"input\": $question, \"background\": true, \"stream\": true}"
seen=$(curl -sN "$url/responses" "${headers[@]}" -d "$body" | head -n 40 || true)
echo "$seen"

events=$(grep '^data: ' <<<"$seen") || fail "no answer from $url"
id=$(grep -o 'resp_[a-z0-9]*' <<<"$events" | head -n 1) || fail "no id in the events"
number=$(grep -o '"sequence_number":[0-9]*' <<<"$events" | tail -n 1 | cut -d : -f 2)

echo
curl -sSN "$url/responses/$id?stream=true&starting_after=$number" "${headers[@]}"
