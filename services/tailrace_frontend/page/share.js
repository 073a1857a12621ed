/* An answer elsewhere: its read-only link, and its log as a curl command at the cursor. */

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

/** The link to an answer for those who have no key, and the time (epoch seconds) at which it ends at the latest.
 *
 * Its ticket is the one of `events_url`: `owner~expires~signature`. null where the server has no API keys. */
export function readOnlyLink({ id, events_url: events, expires_at: endsAt = Infinity }) {
  const ticket = new URL(events, location.href).searchParams.get("ticket");
  if (!ticket) return null;
  const url = `${location.origin}/?id=${id}#ticket=${encodeURIComponent(ticket)}`;
  return { url, expiresAt: Math.min(Number(ticket.split("~")[1]), endsAt) };
}

/** `until …` for a time in epoch seconds; empty where the time is not known. */
export function untilText(epochS) {
  if (!(epochS < 8.64e12)) return "";
  return ` until ${new Date(epochS * 1_000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })} at the latest`;
}
