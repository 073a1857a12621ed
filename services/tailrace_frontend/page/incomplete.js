/* Markdown of which the last line is incomplete. */

const DEFINITION = /^ {0,3}\[\^?\w{0,12}(\]:?[ \t]*)?$/; // the start of `[1]: https://…`, which is not shown
const LONGEST_LINE = 8_000; // characters; a longer one stays as it is

/** The source with the marks closed that its last line leaves open: `**Restart the` is bold before it is complete.
 *
 * `prefix`: what the source is parsed with. */
export function mended(source, prefix = "") {
  const start = source.lastIndexOf("\n") + 1;
  if (source.length - start > LONGEST_LINE || isInCode(prefix + source)) return source;
  if (DEFINITION.test(source.slice(start))) return source.slice(0, start);
  const line = source.slice(start).replace(/!?\[([^\]]*)(\](\([^)\s]*)?)?$/, "$1"); // a link before it is complete
  const bullet = /^\s*(?:[*+-]|\d+[.)])\s+|^\s*(?:[*_-]\s*)+$/.exec(line)?.[0].length ?? 0;
  const bare = line.replace(/\\./g, "..").replace(/(`+)(?!`).*?[^`]\1(?!`)/g, (code) => ".".repeat(code.length));
  const open = [];
  for (const { 0: mark, index } of bare.matchAll(/`+|\*{1,3}|~~|__?/g)) {
    if (index < bullet) continue;
    const before = bare[index - 1] ?? " ";
    const after = bare[index + mark.length] ?? "";
    if (open.at(-1) === mark && before.trim()) open.pop();
    else if (!after) return source.slice(0, start) + line.slice(0, index) + open.reverse().join(""); // no text yet
    else if (mark[0] === "`") return `${source.slice(0, start)}${line}${mark}`;
    else if (after.trim() && !(mark[0] === "_" && /\w/.test(before))) open.push(mark);
  }
  return source.slice(0, start) + (open.length ? line.trimEnd() + open.reverse().join("") : line);
}

/** Whether the source ends within a fenced block of code. */
export function isInCode(source) {
  let fence = "";
  for (const [, mark, info] of source.matchAll(/^ {0,3}(?:[*+-] +|\d+[.)] +|> ?)* *(`{3,}|~{3,})(.*)$/gm)) {
    if (!fence) fence = mark;
    else if (mark.startsWith(fence) && !info.trim()) fence = "";
  }
  return Boolean(fence);
}
