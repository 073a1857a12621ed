/* Every act that ends something asks first, with the number of what it ends. While a question is open nothing changes
 * what it is about: the caller has fixed that before. */

const dialog = document.getElementById("question");
const running = new Set(); // the names of the acts that have not ended

/** Whether the reader agrees. Only one question at a time; a second one is a no. */
export function confirm(title, text, yes) {
  if (dialog.open) return Promise.resolve(false);
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector("p").textContent = text;
  dialog.querySelector(".danger").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }),
  );
}

/** Whether any dialog is open: what is behind it must not move. */
export const isAsking = () => document.querySelector("dialog[open]") !== null;

/** Runs an act once, however often its button is pressed meanwhile; acts of other names run beside it. */
export async function once(name, act) {
  if (running.has(name)) return;
  running.add(name);
  try {
    await act();
  } finally {
    running.delete(name);
  }
}

export function announce(text) {
  document.getElementById("announcer").textContent = text;
}
