// A stock `useChat({ resume: true })`, which is enough for a reload, and what a page needs beside it: the messages of the
// chat when it is loaded, a stop button that reaches the model, and resuming after a connection was cut.
import { useChat } from "@ai-sdk/react";
import { useEffect, useState } from "react";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8000;

// The two routes that the SDK has no call for.
const route = (id, name) => `/api/chat/${encodeURIComponent(id)}/${name}`;
const stop = (id) => fetch(route(id, "stop"), { method: "POST" });

async function messagesOf(id) {
  const response = await fetch(route(id, "messages"));
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()).messages;
}

// The messages of a chat. Repeats until the server is back, or until `hasLeft`.
export async function loadMessages(id, hasLeft = () => false) {
  for (let pause = FIRST_PAUSE_MS; !hasLeft(); pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    try {
      return await messagesOf(id);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
  return [];
}

// What `useChat` returns, with another `stop`, and with `problem`: what went wrong, until the next question or answer.
// `onUndelivered` receives the text of a question that has not reached the server.
export function useTailraceChat({ id, messages: initial, onUndelivered, ...options }) {
  const [problem, setProblem] = useState("");
  const chat = useChat({ id, messages: initial, resume: true, onError: (error) => setProblem(messageOf(error)), ...options });
  const { error, messages, setMessages, resumeStream, status } = chat;

  // A connection was cut, or an answer has started over: the page loads what the server has, and resumes.
  useEffect(() => {
    if (!error) return undefined;
    let left = false;
    const resume = async () => {
      const stored = await loadMessages(id, () => left);
      if (left) return;
      const last = messages.at(-1);
      if (last?.role === "user" && !stored.some((message) => message.id === last.id)) onUndelivered?.(textOf(last));
      setMessages(stored);
      await resumeStream();
    };
    const timer = setTimeout(resume, FIRST_PAUSE_MS);
    return () => {
      left = true;
      clearTimeout(timer);
    };
  }, [error]);

  useEffect(() => {
    if (status === "streaming") setProblem("");
  }, [status]);

  // A short answer may be whole before "streaming" is rendered: the next question ends a problem as well.
  const sendMessage = (message) => {
    setProblem("");
    return chat.sendMessage(message);
  };

  // `stop` of useChat only closes the page's connection: the answer would continue.
  return { ...chat, sendMessage, problem, stop: () => stop(id) };
}

// The message of an error. A request that was refused has a JSON body, which the SDK passes on as it is.
function messageOf({ message }) {
  try {
    return JSON.parse(message).error.message;
  } catch {
    return message;
  }
}

const textOf = ({ parts }) => parts.map(({ text }) => text ?? "").join("");
