/* Numbers, times and sizes as people read them. */

const grouped = new Intl.NumberFormat("en");

export const count = (value) => (value === null || value === undefined ? "–" : grouped.format(value));

/** A time span in seconds: `850 µs`, `12 ms`, `1.25 s`, `3 min 20 s`. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${Number((seconds * 1e3).toPrecision(3))} ms`;
  if (seconds < 59.95) return `${Number(seconds.toPrecision(3))} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(seconds / 60);
  if (seconds < 172_800) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.round(seconds / 86_400)} days`;
}

export function ago(epoch, now = Date.now() / 1000) {
  const seconds = Math.max(0, now - epoch);
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} days ago`;
}

export const time = (epoch) => new Date(epoch * 1000).toLocaleTimeString("en-GB");
export const moment = (epoch) => new Date(epoch * 1000).toLocaleString("en-GB");

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024 || unit === "GiB") return `${Number(value.toPrecision(3))} ${unit}`;
    value /= 1024;
  }
}

export const rate = (value) => (value >= 100 ? count(Math.round(value)) : String(Number((value ?? 0).toPrecision(2))));
export const percent = (value) => `${Number(value.toPrecision(value < 10 ? 2 : 3))} %`;
export const cost = (value) => (value === null || value === undefined ? "–" : `$${Number(value.toFixed(8))}`);
export const shortId = (id) => `${id.slice(0, 10)}…`;
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** The value below which a share of a histogram lies: the upper bound of its bucket. */
export function quantile({ counts }, share) {
  const bounds = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100];
  const total = counts.reduce((sum, each) => sum + each, 0);
  let seen = 0;
  for (const [index, each] of counts.entries()) {
    seen += each;
    if (total && seen >= share * total) return index < bounds.length ? `≤ ${span(bounds[index])}` : `> ${span(100)}`;
  }
  return "–";
}
