"""The routes that `useChat` of the AI SDK calls by itself, and two beside them: stop, and the messages of a chat."""
