/* The link to an answer as a QR code, for a phone. Loaded when it is asked for. */

import { $ } from "/dom.js";
import { apiKey } from "/keys.js";
import { generate } from "/vendor/lean-qr.js";

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;
const QUIET_ZONE = 4; // modules around a QR code, by ISO/IEC 18004
const SVG = "http://www.w3.org/2000/svg";

const ON_LOOPBACK =
  "No other device can open the address of this page, which leads to this computer alone. Start the server with " +
  "--host 0.0.0.0 and TAILRACE_API_KEYS, and open the page by this computer's address in your network.";

/** Shows the link as a QR code, or, where a phone could not open it, what is to be done first. */
export function showQrCode(id) {
  const url = `${location.origin}/?id=${id}`;
  const isOpenable = !LOOPBACK.test(location.hostname);
  $("qr").hidden = $("qr-link").hidden = !isOpenable;
  $("qr").replaceChildren(...(isOpenable ? [qrCode(generate(url))] : []));
  $("qr-link").textContent = url;
  const onPhone = apiKey() ? "The phone will ask for the API key." : "The answer goes on there at the same word.";
  $("qr-note").textContent = isOpenable ? onPhone : ON_LOOPBACK;
  $("phone").showModal();
}

function qrCode(code) {
  const size = code.size + 2 * QUIET_ZONE;
  const dark = [];
  for (let y = 0; y < code.size; y++) {
    for (let x = 0; x < code.size; x++) if (code.get(x, y)) dark.push(`M${x + QUIET_ZONE} ${y + QUIET_ZONE}h1v1h-1z`);
  }
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "QR code of the link to this answer");
  path.setAttribute("d", dark.join(""));
  svg.append(path);
  return svg;
}

$("close-phone").addEventListener("click", () => $("phone").close());
