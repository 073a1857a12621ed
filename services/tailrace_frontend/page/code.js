/* Highlighted code: highlight.js and its grammars are loaded when the first block of a language is complete. */

const GRAMMARS = new Set(
  ("bash c cpp csharp css diff dockerfile go ini java javascript json kotlin markdown php powershell python ruby rust " +
    "sql swift typescript xml yaml").split(" "),
);
const ALIASES = {
  sh: "bash", shell: "bash", zsh: "bash", console: "bash", "c++": "cpp", h: "c", cs: "csharp", "c#": "csharp",
  patch: "diff", docker: "dockerfile", golang: "go", toml: "ini", js: "javascript", jsx: "javascript",
  mjs: "javascript", node: "javascript", kt: "kotlin", md: "markdown", ps1: "powershell", py: "python", python3: "python",
  rb: "ruby", rs: "rust", postgresql: "sql", ts: "typescript", tsx: "typescript", html: "xml", svg: "xml", yml: "yaml",
};
const LONGEST = 100_000; // characters; a longer block stays plain

const loading = new Map(); // grammar → promise of highlight.js with it

async function load(grammar) {
  const [{ default: highlighter }, { default: definition }] = await Promise.all([
    import("/vendor/highlight/core.js"),
    import(`/vendor/highlight/${grammar}.js`),
  ]);
  highlighter.registerLanguage(grammar, definition);
  return highlighter;
}

/** Highlights the complete code blocks under `root`. A language that is unknown, or does not load, stays plain. */
export async function highlight(root) {
  for (const code of root.querySelectorAll("pre > code[class^='language-']:not([data-highlighted])")) {
    const name = code.className.slice("language-".length).toLowerCase();
    const grammar = ALIASES[name] ?? name;
    if (!GRAMMARS.has(grammar) || code.textContent.length > LONGEST) continue;
    if (!loading.has(grammar)) loading.set(grammar, load(grammar));
    code.dataset.highlighted = grammar;
    const highlighter = await loading.get(grammar).catch(() => loading.delete(grammar) && null);
    // The HTML is highlight.js' own: spans with classes around escaped text.
    if (highlighter) code.innerHTML = highlighter.highlight(code.textContent, { language: grammar }).value;
  }
}
