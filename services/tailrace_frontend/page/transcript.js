/* A conversation as the messages of the next request. */

const NO_RESULT = "There is no result: the page cannot run tools.";

/** The conversation as the next request has it. A question without an answer is left out: models refuse two in a row. */
export function transcript(turn) {
  if (!turn) return [];
  const { messages, output } = turn;
  const calls = output.items.filter((item) => item.type === "call" && !item.choice && item.id && isJson(item.arguments));
  if (!output.text && !calls.length) {
    return messages.slice(0, messages.findLastIndex((message) => message.role !== "user") + 1);
  }
  const answer = { role: "assistant", content: output.text || null };
  if (!calls.length) return [...messages, answer];
  answer.tool_calls = calls.map((call) => ({
    id: call.id,
    type: "function",
    function: { name: call.name, arguments: call.arguments },
  }));
  const results = calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: NO_RESULT }));
  return [...messages, answer, ...results];
}

function isJson(text) {
  try {
    return Boolean(JSON.parse(text));
  } catch {
    return false;
  }
}
