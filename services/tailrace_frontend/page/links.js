/* Read-only links of an answer, for those who have no key: made, and revoked. Loaded with the first one.
 *
 * Rule: The note below the buttons has what a link allows, until when, and the button that ends it. It stays until the page
 *       shows another answer or another link is made; then it has a button for all of them.
 */

import { button, element } from "/dom.js";
import { untilText } from "/share.js";
import { call } from "/tailrace.js";
import { callOptions } from "/turn.js";

const LINK_S = 7 * 24 * 3600; // it ends with the log in any case

const pathOf = (turn, share = "") => `/${encodeURIComponent(turn.id)}/shares${share}`;

/** Makes a link: `{id, url, expires_at}`. A note describes it, or has the reason why there is none. */
export async function makeLink(turn) {
  turn.actions.querySelector(".shared-note")?.remove();
  const note = element("p", { className: "shared-note", role: "status" });
  turn.actions.append(note);
  try {
    const body = { expires_in_s: LINK_S };
    const made = await call("POST", pathOf(turn), callOptions(turn, { body, retryForMs: 0 }));
    describe(turn, note, made);
    return made;
  } catch (error) {
    note.textContent = `There is no link: ${error.message}`;
    note.scrollIntoView({ block: "nearest" });
    throw error;
  }
}

async function describe(turn, note, made) {
  note.textContent =
    `The link shows this answer, without its question, to anyone who has it, and needs no key${untilText(made.expires_at)}. ` +
    "It ends before that if you revoke it, your key is revoked, or the answer is deleted. ";
  const { data } = await call("GET", pathOf(turn), callOptions(turn, { retryForMs: 0 })).catch(() => ({ data: [made] }));
  note.append(revokeButton(turn, note, "Revoke the link", [made]));
  if (data.length > 1) note.append(revokeButton(turn, note, `Revoke all ${data.length} links of this answer`, data));
  note.scrollIntoView({ block: "nearest" });
}

function revokeButton(turn, note, label, shares) {
  return button(label, async ({ currentTarget }) => {
    currentTarget.disabled = true;
    try {
      for (const { id } of shares) {
        await call("DELETE", pathOf(turn, `/${id}`), callOptions(turn)).catch(unlessGone);
      }
      note.textContent = shares.length > 1 ? "The links do not work any more." : "The link does not work any more.";
    } catch (error) {
      note.append(` It was not revoked: ${error.message}`);
      currentTarget.disabled = false;
    }
  });
}

function unlessGone(error) {
  if (![404, 410].includes(error.status)) throw error;
}
