// A chat page of the AI SDK on Tailrace. It survives a reload, a lost connection and a lost server in the middle of an
// answer. Nothing in it is Tailrace's but the two routes that the SDK has no call for: `messages` and `stop`.
import { useChat } from "@ai-sdk/react";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

const id = chatOfThisPage();
const route = (name) => `/api/chat/${id}/${name}`;

// The chat is in the address, so that a reload finds it.
function chatOfThisPage() {
  const address = new URL(location);
  if (!address.searchParams.has("chat")) {
    address.searchParams.set("chat", crypto.randomUUID());
    history.replaceState(null, "", address);
  }
  return address.searchParams.get("chat");
}

async function loadMessages() {
  const response = await fetch(route("messages"));
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()).messages;
}

// Stops the answer at the upstream. `stop()` of useChat only closes this page's connection.
const stop = () => fetch(route("stop"), { method: "POST" });

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8000;
const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));

// Repeats until the server is back, or until `hasLeft`.
async function persistently(action, hasLeft = () => false) {
  for (let wait = FIRST_PAUSE_MS; !hasLeft(); wait = Math.min(2 * wait, LONGEST_PAUSE_MS)) {
    try {
      return await action();
    } catch {
      await pause(wait);
    }
  }
  return undefined;
}

function Chat({ initial }) {
  const [problem, setProblem] = useState("");
  const { messages, setMessages, sendMessage, resumeStream, status, error } = useChat({
    id,
    messages: initial,
    resume: true,
    onError: (thrown) => setProblem(thrown.message),
  });

  // A connection was cut, or an answer has started over: the page takes what the server has, and reads on.
  useEffect(() => {
    if (!error) return undefined;
    let left = false;
    const readOn = async () => {
      setMessages(await loadMessages());
      await resumeStream();
    };
    const timer = setTimeout(() => persistently(readOn, () => left), FIRST_PAUSE_MS);
    return () => {
      left = true;
      clearTimeout(timer);
    };
  }, [error]);

  useEffect(() => { if (status === "streaming") setProblem(""); }, [status]);

  const isBusy = status === "submitted" || status === "streaming";

  function ask(event) {
    event.preventDefault();
    const field = event.target.elements.question;
    if (field.value.trim()) sendMessage({ text: field.value });
    field.value = "";
  }

  return (
    <>
      {messages.map((message) => (
        <article key={message.id} data-role={message.role}>
          {message.parts.map((part, index) => <Part key={index} part={part} />)}
        </article>
      ))}
      {problem && <p role="alert">{problem}</p>}
      <form onSubmit={ask} data-status={status}>
        <input name="question" aria-label="Question" placeholder="Ask something" autoFocus />
        {isBusy ? <button type="button" onClick={stop}>Stop</button> : <button>Send</button>}
      </form>
    </>
  );
}

function Part({ part }) {
  if (part.type === "text") return <span className="text">{part.text}</span>;
  if (part.type === "reasoning") return <p className="reasoning">{part.text}</p>;
  if (part.type === "source-url") return <a href={part.url}>[{part.title ?? part.url}]</a>;
  if ("toolCallId" in part) {
    return <p className="call">{part.toolName ?? part.type.slice("tool-".length)}: {JSON.stringify(part.input)}</p>;
  }
  return null;
}

createRoot(document.getElementById("root")).render(<Chat initial={await persistently(loadMessages)} />);
