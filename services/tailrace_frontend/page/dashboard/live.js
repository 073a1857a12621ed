/* The snapshots: one connection for the whole page, closed while the tab is hidden or the page is paused.
 *
 * The interval is the reader's: snapshots come each second, and every nth is shown. It is kept in this browser. An
 * EventSource comes back by itself after a frontend has stopped; one that was refused is opened again here. */

const KEY = "tailrace.dashboard.interval";
const KEPT = 300;
const SILENCE_MS = 8000;

class Live extends EventTarget {
  snapshot = null;
  recent = []; // rows of at, waiting, running, tokens/s, commands/s, memory %, readers
  state = "connecting";
  #source = null;
  #shownAt = 0;
  #receivedAt = 0;
  #started = false;
  #timer = 0;
  #retry = 0;

  get interval() {
    const stored = localStorage.getItem(KEY);
    return stored === null ? 1 : Number(stored);
  }

  set interval(seconds) {
    localStorage.setItem(KEY, seconds);
    this.#follow();
  }

  start() {
    if (!this.#started) {
      this.#started = true;
      document.addEventListener("visibilitychange", this.#follow);
      this.#timer = setInterval(() => this.#check(), 2000);
    }
    this.#follow();
  }

  stop() {
    this.#started = false;
    document.removeEventListener("visibilitychange", this.#follow);
    clearInterval(this.#timer);
    this.#close();
  }

  /** Take the next snapshot, even of a page that is paused. */
  refresh() {
    this.#shownAt = 0;
    if (!this.#source) this.#open();
    this.dispatchEvent(new Event("refresh"));
  }

  #follow = () => {
    if (!this.#started || document.hidden || !this.interval) {
      this.#close();
      this.#setState(document.hidden || this.interval ? this.state : "paused");
    } else {
      this.#shownAt = 0;
      if (!this.#source) this.#open();
    }
  };

  #open() {
    clearTimeout(this.#retry);
    this.#receivedAt = Date.now();
    const source = (this.#source = new EventSource("/v1/admin/overview/events"));
    source.addEventListener("snapshot", (event) => this.#take(JSON.parse(event.data)));
    source.addEventListener("away", (event) => this.#away(JSON.parse(event.data).message));
    source.addEventListener("error", () => {
      this.#setState("away");
      if (source.readyState === EventSource.CLOSED) this.#reopen();
    });
  }

  #reopen() {
    this.#close();
    this.dispatchEvent(new Event("refused"));
    this.#retry = setTimeout(() => this.#follow(), 3000);
  }

  #close() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  #check() {
    if (this.#source && Date.now() - this.#receivedAt > SILENCE_MS) this.#reopen();
  }

  #take(snapshot) {
    this.#receivedAt = Date.now();
    this.#setState("live");
    if (snapshot.recent) this.recent = snapshot.recent;
    else this.recent.push(rowOf(snapshot));
    if (this.recent.length > KEPT) this.recent = this.recent.slice(-KEPT);
    this.snapshot = snapshot;
    const interval = this.interval || 1;
    if (Date.now() - this.#shownAt < interval * 1000 - 300) return;
    this.#shownAt = Date.now();
    this.dispatchEvent(new Event("snapshot"));
    if (!this.interval) this.#follow(); // a single refresh of a page that is paused
  }

  #away(message) {
    this.#receivedAt = Date.now();
    this.message = message;
    this.#setState("away");
  }

  #setState(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

const rowOf = ({ at, waiting, running, tokens_per_second, servers: [server], readers }) => [
  at, waiting, running, tokens_per_second, server.commands_per_second, server.percent, readers,
];

export const live = new Live();
