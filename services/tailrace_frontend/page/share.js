/* An answer elsewhere: whether it has read-only links, and its log as a curl command at the cursor. */

import { apiKey } from "/keys.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The command that reads the log after the cursor. The key is named, not shown. */
export function curlCommand(id, cursor) {
  const parts = ["curl -N", quoted(`${location.origin}/v1/generations/${id}/events`)];
  if (apiKey()) parts.push('-H "Authorization: Bearer $TAILRACE_KEY"');
  if (cursor) parts.push(`-H 'Last-Event-ID: ${cursor}'`);
  return parts.join(" ");
}

/** The ticket in the page's own URL, or null. */
export const sharedTicket = () => new URLSearchParams(location.hash.slice(1)).get("ticket");

/** Whether the server makes links: it has API keys, and this one may read. */
export const canBeShared = ({ events_url: events }) => new URL(events, location.href).searchParams.has("ticket");

/** `until …` for a time in epoch seconds; empty where the time is not known. */
export function untilText(epochS) {
  if (!(epochS < 8.64e12)) return "";
  return ` until ${new Date(epochS * 1_000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })} at the latest`;
}
