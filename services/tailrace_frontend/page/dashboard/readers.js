/* <reader-list>: who reads a generation now, at all frontends, and how far each has come. */

import { get } from "./api.js";
import { el, pill, setText, table } from "./dom.js";
import { count, plural } from "./format.js";

const KINDS = { live: "ok", blocked: "bad" };
const WORDS = { live: "live", catching_up: "catches up", blocked: "blocked: takes nothing", waiting: "waits for the end" };

class ReaderList extends HTMLElement {
  #summary = el("p", { class: "quiet small" });
  #seq = 0;
  #list = table("Readers", [
    { name: "Cursor", cell: ({ cursor }) => el("span", { class: "mono" }, cursor || "the beginning") },
    { name: "State", cell: ({ state, watches }) => el("span", {}, pill(KINDS[state], WORDS[state] ?? state), watches ? " a dashboard" : "") },
    { name: "Behind", number: true, label: true, cell: ({ seq }) => count(Math.max(0, this.#seq - seq)) },
    { name: "Format", label: true, cell: ({ format }) => format },
  ], { empty: "It has no reader now.", keyOf: ({ key }) => key });

  connectedCallback() {
    this.replaceChildren(this.#list.element, this.#summary);
  }

  /** Asks again. `seq`: the last sequence number of the log. */
  async load(id, seq, signal) {
    this.#seq = seq;
    const { data, count: all, frontends, missing } = await get(`/generations/${id}/readers`, { signal });
    this.#list.show(data.map((each, index) => ({ ...each, key: String(index) })));
    const more = all > data.length ? ` of ${count(all)}, the first ${count(data.length)}` : "";
    setText(this.#summary, `At ${plural(frontends, "frontend")}${more}${missing ? `; ${count(missing)} did not answer` : ""}. Dashboards are no readers: they keep nothing alive.`);
  }
}

customElements.define("reader-list", ReaderList);
