// A chat page of the AI SDK on Tailrace. It survives a reload, a lost connection and a lost server in the middle of an
// answer.
import { useState } from "react";
import { createRoot } from "react-dom/client";
import "./style.css";
import { loadMessages, useTailraceChat } from "./use-tailrace-chat.js";

// The chat is in the address, so that a reload finds it.
function chatOfThisPage() {
  const address = new URL(location);
  if (!address.searchParams.has("chat")) {
    address.searchParams.set("chat", crypto.randomUUID());
    history.replaceState(null, "", address);
  }
  return address.searchParams.get("chat");
}

function Chat({ id, messages: initial }) {
  const [question, setQuestion] = useState("");
  const { messages, sendMessage, stop, status, problem } = useTailraceChat({ id, messages: initial, onUndelivered: setQuestion });
  const isBusy = status === "submitted" || status === "streaming";

  function ask(event) {
    event.preventDefault();
    if (isBusy || !question.trim()) return;
    sendMessage({ text: question });
    setQuestion("");
  }

  return (
    <>
      <header>
        <h1>useChat on Tailrace</h1>
        <a href="./">New chat</a>
      </header>
      <main>
        {/* Laid out from its end, so that the page stays at the newest text without a script. */}
        <div role="log" aria-busy={isBusy} aria-label="Messages">
          {messages.length === 0 && <p className="hint">Ask something, and reload this page in the middle of the answer.</p>}
          {messages.map((message) => <Message key={message.id} message={message} />)}
          {status === "submitted" && <p className="waiting" aria-label="Waiting for the answer" />}
          {problem && <p role="alert">{problem}</p>}
        </div>
      </main>
      <form onSubmit={ask} data-status={status}>
        <input
          value={question}
          onChange={(event) => setQuestion(event.target.value)}
          aria-label="Question"
          placeholder="Ask something"
          autoComplete="off"
          autoFocus
        />
        {isBusy ? <button key="stop" type="button" onClick={stop}>Stop</button> : <button key="send">Send</button>}
      </form>
    </>
  );
}

function Message({ message: { role, parts } }) {
  return (
    <article data-role={role} aria-label={role === "user" ? "You" : "Assistant"}>
      {parts.map((part, index) => <Part key={index} part={part} />)}
    </article>
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

const id = chatOfThisPage();
createRoot(document.getElementById("root")).render(<Chat id={id} messages={await loadMessages(id)} />);
