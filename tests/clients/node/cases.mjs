// The cases: what the model answers, what the client asks for, and what the client's application must receive of it.
//
// A client is an object:
//   client, version    its name and its version in the table
//   ask                async (tailrace, asked, signal) => an answer (below). `asked`: {tools, schema, reasoning}
//   cancel             async (tailrace) => an answer, if the client has a call for it. Others cancel by leaving.
//   resume             async (tailrace) => {resumed, whole}: the same answer with a gap that was closed, and without one
//   streams            whether the text that precedes a failure reaches the application
//   runsTools          whether the client runs tools and sends the results itself
//   lacks              {case: what the client does not pass on, though Tailrace sends it}
//   skips              cases that it has no call for
//
// An answer is {text, refusal, reasoning, calls: [{id, name, input}], value, finish, usage: {input, output, total}, error}.
import assert from "node:assert/strict";

export const SCHEMA = {
  type: "object",
  properties: { city: { type: "string" }, degrees: { type: "integer" } },
  required: ["city", "degrees"],
  additionalProperties: false,
};

export const TOOL = {
  name: "look",
  description: "Look something up.",
  parameters: { type: "object", properties: { q: { type: "string" } }, required: ["q"], additionalProperties: false },
};

export const RESULT = { found: true };
export const LONG = Array.from({ length: 60 }, (_, k) => `t${k} `).join("");

const UNICODE = ["ä€", "💧", "\u2028", "\u2029", "\x85", "e\u0301", "👩‍👩‍👧", "שלום", "\n\n: x\ndata: y\r\n", "\0\u001f", "\ufeff"];
const USAGE = { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 };

const delta = (fields) => ({ delta: fields });
const text = (...pieces) => pieces.map((content) => delta({ content }));
const finish = (reason) => [{ delta: {}, finish_reason: reason }, { usage: USAGE }, { done: true }];
const called = (index, fields) => delta({ tool_calls: [{ index, ...fields }] });
const begun = (index, id) => called(index, { id, type: "function", function: { name: TOOL.name, arguments: "" } });
const passed = (index, piece) => called(index, { function: { arguments: piece } });

const CALLS = [
  begun(0, "call_a"), passed(0, '{"q":'), begun(1, "call_b"), passed(1, '{"q":"ri'), passed(0, '"left"}'), passed(1, 'ght ü"}'),
];

// Asks and compares the answer.
function answered(script, asked, check) {
  const run = async (client, tailrace) => {
    const answer = await client.ask(tailrace, asked);
    assert.equal(answer.error, undefined);
    check(answer, client);
  };
  return { scripts: Array.isArray(script[0]) ? script : [script], run, isFor: () => true };
}

async function fail(client, tailrace) {
  const answer = await client.ask(tailrace, {});
  assert.match(answer.error ?? "(no error)", /Tripped/);
  if (client.streams) assert.equal(answer.text, "So far");
}

// Leaves once the answer has begun, or cancels by the client's own call; then the generation must be cancelled.
async function cancel(client, tailrace) {
  if (client.cancel) {
    const answer = await client.cancel(tailrace);
    assert.equal(answer.text, "Once");
  } else {
    const leaving = new AbortController();
    const asking = client.ask(tailrace, {}, leaving.signal);
    await tailrace.written("Once");
    leaving.abort();
    await asking;
  }
  assert.equal(await tailrace.ended(), "cancelled");
}

async function resume(client, tailrace) {
  const { resumed, whole } = await client.resume(tailrace);
  assert.deepEqual(resumed, whole);
}

const CASES_OF_ALL = {
  text: answered([...text("Hello", ",", " there."), ...finish("stop")], {}, (answer) => {
    assert.equal(answer.text, "Hello, there.");
    assert.equal(answer.finish, "stop");
  }),
  "parallel tools": answered(
    [[...CALLS, ...finish("tool_calls")], [...text("Found", " both."), ...finish("stop")]],
    { tools: true },
    (answer, client) => {
      assert.deepEqual(answer.calls, [
        { id: "call_a", name: TOOL.name, input: { q: "left" } },
        { id: "call_b", name: TOOL.name, input: { q: "right ü" } },
      ]);
      if (client.runsTools) assert.equal(answer.text, "Found both.");
      else assert.equal(answer.finish, "tool-calls");
    },
  ),
  structured: answered([...text('{"city":"Zü', 'rich","degrees":', "-7}"), ...finish("stop")], { schema: true }, (answer) =>
    assert.deepEqual(answer.value, { city: "Zürich", degrees: -7 }),
  ),
  refusal: answered([delta({ refusal: "I can" }), delta({ refusal: "not." }), ...finish("stop")], {}, (answer, client) => {
    if (client.lacks?.refusal) assert.ok(["", "I cannot."].includes(answer.text), answer.text);
    else assert.equal(answer.refusal, "I cannot.");
  }),
  reasoning: answered(
    [delta({ reasoning_content: "Let me" }), delta({ reasoning_content: " see." }), ...text("Yes."), ...finish("stop")],
    { reasoning: true },
    (answer, client) => {
      assert.equal(answer.text, "Yes.");
      if (!client.lacks?.reasoning) assert.equal(answer.reasoning, "Let me see.");
    },
  ),
  length: answered([...text("Once", " upon a"), ...finish("length")], {}, (answer) => {
    assert.equal(answer.finish, "length");
    if (answer.text !== undefined) assert.equal(answer.text, "Once upon a");
  }),
  "failure mid-stream": {
    scripts: [[...text("So ", "far"), { raw: 'data: {"error":{"message":"Tripped.","code":"tripped"}}\n\n' }]],
    run: fail,
    isFor: () => true,
  },
  cancel: { scripts: [[...text("Once"), { hang: true }]], run: cancel, isFor: () => true },
  usage: answered([...text("Hello"), ...finish("stop")], {}, (answer) =>
    assert.deepEqual(answer.usage, { input: 3, output: 4, total: 7 }),
  ),
  unicode: answered([...text(...UNICODE), ...finish("stop")], {}, (answer) => assert.equal(answer.text, UNICODE.join(""))),
  resume: {
    scripts: [[{ tokens: { count: 60, rate: 60 } }, ...finish("stop")]],
    run: resume,
    isFor: (client) => "resume" in client,
  },
};

export const CASES = Object.fromEntries(
  Object.entries(CASES_OF_ALL).map(([name, test]) => {
    const isFor = (client) => test.isFor(client) && !client.skips?.includes(name);
    return [name, { ...test, isFor }];
  }),
);
