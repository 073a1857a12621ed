/* The chat page. It shows one conversation; the last answer is a generation whose id is in the URL.
 *
 * Rule 1: The URL is the whole state. After a reload, after Back or in another tab, the conversation is read from the
 *         generation's JSON and the answer from its log. The browser stores the model's name and an API key, no text.
 * Rule 2: The page asks the server what is not an event, and shows what it does not know: see status.js.
 */

import "/composer.js";
import { $ } from "/dom.js";
import { showError } from "/failures.js";
import { apiKey, askForKey, initKeys } from "/keys.js";
import { loadModels } from "/models.js";
import { noteNext, open, showFromURL } from "/navigation.js";
import { initRecent } from "/recent.js";
import { refresh } from "/screen.js";
import { sharedTicket } from "/share.js";
import { findDev } from "/strip.js";
import { page } from "/turn.js";

async function loadSettings() {
  try {
    await loadModels(apiKey(), () => !page.shown);
  } catch (error) {
    if (error.status === 401 && $("unlock").hidden) showError(error, () => location.reload());
  }
}

$("gone-key").addEventListener("click", () => askForKey("", showFromURL));
initKeys(loadSettings);
initRecent(open, () => page.shown?.id, noteNext);
findDev().then(refresh);
if (!sharedTicket()) loadSettings(); // a read-only link needs no key
showFromURL();
