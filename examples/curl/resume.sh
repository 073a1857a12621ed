#!/usr/bin/env bash
# Print the events of an answer. The connection is cut after 40 lines, and the rest is read with `starting_after`.
#   examples/curl/resume.sh [QUESTION]
set -euo pipefail

url=${OPENAI_BASE_URL:-http://127.0.0.1:8080/v1}
model=${MODEL:-demo}
question=${1:-What survives?}
headers=(-H "Authorization: Bearer ${OPENAI_API_KEY:-none}" -H 'Content-Type: application/json')

body=$(printf '{"model": "%s", "input": "%s", "background": true, "stream": true}' "$model" "$question")
seen=$(curl -sN "$url/responses" "${headers[@]}" -d "$body" | head -n 40 || true)
echo "$seen"

id=$(grep -o 'resp_[a-z0-9]*' <<<"$seen" | head -n 1)
number=$(grep '^data: ' <<<"$seen" | grep -o '"sequence_number":[0-9]*' | tail -n 1 | cut -d : -f 2)

echo
curl -sN "$url/responses/$id?stream=true&starting_after=$number" "${headers[@]}"
