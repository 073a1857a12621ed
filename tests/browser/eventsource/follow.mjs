// Follows a log with the npm `eventsource` client and prints each event as a line of JSON, until `done`.
import { EventSource } from "eventsource";

const KINDS = ["created", "started", "item_opened", "text", "item_closed", "restarted", "done", "gone"];
const source = new EventSource(process.argv[2]);
for (const kind of KINDS) {
  source.addEventListener(kind, ({ data, lastEventId }) => {
    console.log(JSON.stringify({ kind, id: lastEventId, data: JSON.parse(data) }));
    if (kind === "done") source.close();
  });
}
source.onerror = ({ code, message }) => console.error(`error ${code ?? ""} ${message ?? ""}`);
